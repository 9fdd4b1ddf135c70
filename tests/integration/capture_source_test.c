/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "xdg-shell-client-protocol.h"

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

/* The name of a window */

/** A client's window, and what it is made with. */
struct shell {
	struct wl_compositor *compositor;
	struct xdg_wm_base *wm_base;
	struct wl_surface *surface;
	struct xdg_surface *xdg_surface;
	struct xdg_toplevel *toplevel;
};

static void shell_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct shell *shell = data;
	if (strcmp(interface, wl_compositor_interface.name) == 0) {
		shell->compositor = wl_registry_bind(registry, name, &wl_compositor_interface, 1);
	} else if (strcmp(interface, xdg_wm_base_interface.name) == 0) {
		shell->wm_base = wl_registry_bind(registry, name, &xdg_wm_base_interface, 1);
	}
}

static void shell_handle_global_remove(void *data, struct wl_registry *registry, uint32_t name) {
	// None of these
}

/** A window of this app-id, whose surface is in the node that is looked at. */
static void shell_init(struct shell *shell, struct window *f, const char *app_id) {
	static const struct wl_registry_listener listener = {
		.global = shell_handle_global, .global_remove = shell_handle_global_remove,
	};
	*shell = (struct shell){ 0 };
	struct client *client = f->base.client;
	wlr_compositor_create(f->base.server.display, 6, f->base.server.renderer);
	wlr_xdg_shell_create(f->base.server.display, 3);
	struct wl_registry *registry = wl_display_get_registry(client->display);
	wl_registry_add_listener(registry, &listener, shell);
	client_roundtrip(client);
	check(shell->compositor != NULL && shell->wm_base != NULL);
	shell->surface = wl_compositor_create_surface(shell->compositor);
	shell->xdg_surface = xdg_wm_base_get_xdg_surface(shell->wm_base, shell->surface);
	shell->toplevel = xdg_surface_get_toplevel(shell->xdg_surface);
	xdg_toplevel_set_app_id(shell->toplevel, app_id);
	client_roundtrip(client);
	struct wl_resource *resource = wl_client_get_object(client->wl_client,
		wl_proxy_get_id((struct wl_proxy *)shell->surface));
	check(wlr_scene_surface_create(f->tree, wlr_surface_from_resource(resource)) != NULL);
	wl_registry_destroy(registry);
}

static void shell_finish(struct shell *shell) {
	xdg_toplevel_destroy(shell->toplevel);
	xdg_surface_destroy(shell->xdg_surface);
	wl_surface_destroy(shell->surface);
	xdg_wm_base_destroy(shell->wm_base);
	wl_compositor_destroy(shell->compositor);
}

static char asked[64]; // the window of the last request

static struct vitrine_view_permission note_window(const struct vitrine_view_request *request,
		void *data) {
	snprintf(asked, sizeof(asked), "%s", request->window != NULL ? request->window : "none");
	return (struct vitrine_view_permission){ VITRINE_GUARANTEE_ALL, VITRINE_STORAGE_ALL };
}

/** Its client chooses its size, and would have as much kept as it likes. */
TEST_WITH(window, window_has_no_room_beyond_the_limits, .has_node = true) {
	fixture_show(&f->base, f->session, 0x123456); // the positive case
	test_session_close(f->session);
	struct vitrine_view_limits *limits = &f->base.server.manager->limits;
	limits->private_bytes = limits->shared_bytes = (struct vitrine_view_limit){ 1, 1, 1 };
	limits->shared_sets = (struct vitrine_view_limit){ 3, 2, 1 };
	f->session = test_session_create_for(f->base.client, f->source, 0, VITRINE_GUARANTEE_ALL);
	client_roundtrip(f->base.client);
	fixture_paint(&f->base, 0x654321);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_NO_RESOURCES);
}

TEST_WITH(window, window_that_is_hidden_keeps_its_name, .has_node = true) {
	struct shell shell;
	shell_init(&shell, f, "org.example.App");
	vitrine_view_manager_v1_set_policy(f->base.server.manager, note_window, NULL);
	check_str(asked, "org.example.App");
	check_str(vitrine_view_session_v1_get_window(
		vitrine_view_manager_v1_get_next_session(f->base.server.manager, NULL)),
		"org.example.App");
	asked[0] = '\0';
	wlr_scene_node_set_enabled(&f->tree->node, false);
	vitrine_view_manager_v1_update_policy(f->base.server.manager);
	check_str(asked, "org.example.App"); // else it is not denied by that
	shell_finish(&shell);
}
