/* SPDX-License-Identifier: MIT */
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"

/**
 * Sources of windows are the plugin's tests. Here it is who goes first, for which
 * the source of an output does as well.
 */
struct window {
	struct fixture base;
	struct wlr_scene *scene;
	struct wlr_scene_tree *tree; // what is added as the source's node
	struct ext_image_capture_source_v1 *source;
	struct test_session *session;
};

struct window_options {
	bool has_node;
};

static void window_set_up(struct window *f, const struct window_options *options) {
	fixture_set_up(&f->base, &(struct fixture_options){{0}});
	f->scene = wlr_scene_create();
	f->tree = wlr_scene_tree_create(&f->scene->tree);
	wlr_scene_rect_create(f->tree, 8, 8, (float[]){1, 1, 1, 1});
	f->source = client_get_source(f->base.client, 0);
	client_roundtrip(f->base.client);
	struct wl_resource *resource = wl_client_get_object(f->base.client->wl_client,
		wl_proxy_get_id((struct wl_proxy *)f->source));
	check(vitrine_view_manager_v1_add_source(f->base.server.manager,
		wlr_ext_image_capture_source_v1_from_resource(resource),
		f->base.server.output->wlr_output, options->has_node ? &f->tree->node : NULL));
	f->session =
		test_session_create_for(f->base.client, f->source, 0, VITRINE_GUARANTEE_ALL);
	f->session->auto_release = true;
	client_roundtrip(f->base.client);
}

static void window_tear_down(struct window *f) {
	ext_image_capture_source_v1_destroy(f->source);
	fixture_tear_down(&f->base);
	wlr_scene_node_destroy(&f->scene->tree.node);
}

TEST_WITH(window, source_without_a_node_is_viewed) {
	fixture_show(&f->base, f->session, 0x123456);
}

TEST_WITH(window, source_goes_on_without_its_node, .has_node = true) {
	fixture_show(&f->base, f->session, 0x123456);
	wlr_scene_node_destroy(&f->tree->node);
	fixture_show(&f->base, f->session, 0x654321);
}

TEST_WITH(window, node_goes_on_without_its_source, .has_node = true) {
	fixture_show(&f->base, f->session, 0x123456);
	wlr_output_destroy(f->base.server.output->wlr_output);
	client_roundtrip(f->base.client);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_SOURCE_GONE);
	wlr_scene_node_destroy(&f->tree->node);
}
