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
	struct server server;
	struct client *client;
	struct wlr_scene *scene;
	struct wlr_scene_tree *tree; // what is added as the source's node
	struct ext_image_capture_source_v1 *source;
};

static void window_init(struct window *window) {
	server_init(&window->server, NULL);
	window->client = client_create(&window->server);
	window->scene = wlr_scene_create();
	window->tree = wlr_scene_tree_create(&window->scene->tree);
	wlr_scene_rect_create(window->tree, 8, 8, (float[]){1, 1, 1, 1});
	window->source = client_get_source(window->client, 0);
	client_roundtrip(window->client);
}

static void window_add_source(struct window *window, struct wlr_scene_node *node) {
	struct wl_resource *resource = wl_client_get_object(window->client->wl_client,
		wl_proxy_get_id((struct wl_proxy *)window->source));
	check(vitrine_view_manager_v1_add_source(window->server.manager,
		wlr_ext_image_capture_source_v1_from_resource(resource),
		window->server.output->wlr_output, node));
}

static void window_finish(struct window *window) {
	ext_image_capture_source_v1_destroy(window->source);
	server_finish(&window->server);
	wlr_scene_node_destroy(&window->scene->tree.node);
}

static struct test_session *window_view(struct window *window) {
	struct test_session *session = test_session_create_for(window->client, window->source, 0,
		VITRINE_GUARANTEE_ALL);
	client_roundtrip(window->client);
	return session;
}

static void window_show(struct window *window, struct test_session *session, uint32_t color) {
	uint32_t n_frames = session->n_frames;
	check(output_paint(window->server.output, color, NULL));
	client_roundtrip(window->client);
	check_int(session->n_frames, >, n_frames);
	check_int(test_session_get_pixel(session, 0, 0), ==, color);
}

TEST(source_without_a_node_is_viewed) {
	struct window window;
	window_init(&window);
	window_add_source(&window, NULL);
	struct test_session *session = window_view(&window);
	window_show(&window, session, 0x123456);
	test_session_destroy(session);
	window_finish(&window);
}

TEST(source_goes_on_without_its_node) {
	struct window window;
	window_init(&window);
	window_add_source(&window, &window.tree->node);
	struct test_session *session = window_view(&window);
	session->auto_release = true;
	window_show(&window, session, 0x123456);
	wlr_scene_node_destroy(&window.tree->node);
	window_show(&window, session, 0x654321);
	test_session_destroy(session);
	window_finish(&window);
}

TEST(node_goes_on_without_its_source) {
	struct window window;
	window_init(&window);
	window_add_source(&window, &window.tree->node);
	struct test_session *session = window_view(&window);
	window_show(&window, session, 0x123456);
	wlr_output_destroy(window.server.output->wlr_output);
	client_roundtrip(window.client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	wlr_scene_node_destroy(&window.tree->node);
	test_session_destroy(session);
	window_finish(&window);
}
