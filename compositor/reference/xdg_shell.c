/* SPDX-License-Identifier: MIT */
/* Windows and popups of Wayland clients. */
#include <stdlib.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_output_layout.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_decoration_v1.h>
#include <wlr/types/wlr_xdg_shell.h>
#include <wlr/util/edges.h>
#include "server.h"

struct xdg_window {
	struct toplevel toplevel;
	struct popup_parent as_parent; // xdg_surface.data
	struct wlr_xdg_toplevel *xdg_toplevel;
	struct wlr_xdg_toplevel_decoration_v1 *decoration; // may be NULL

	struct {
		struct wl_listener commit;
		struct wl_listener map;
		struct wl_listener unmap;
		struct wl_listener destroy;
		struct wl_listener request_fullscreen;
		struct wl_listener decoration_request_mode;
		struct wl_listener decoration_destroy;
	} listeners;
};

struct popup {
	struct server *server;
	struct popup_parent as_parent; // xdg_surface.data
	struct wlr_xdg_popup *xdg_popup;

	struct {
		struct wl_listener commit;
		struct wl_listener reposition;
		struct wl_listener destroy;
	} listeners;
};

static const char *xdg_window_get_title(const struct toplevel *toplevel) {
	const struct xdg_window *window = wl_container_of(toplevel, window, toplevel);
	return window->xdg_toplevel->title;
}

static const char *xdg_window_get_app_id(const struct toplevel *toplevel) {
	const struct xdg_window *window = wl_container_of(toplevel, window, toplevel);
	return window->xdg_toplevel->app_id;
}

static struct wlr_box xdg_window_get_geometry(const struct toplevel *toplevel) {
	const struct xdg_window *window = wl_container_of(toplevel, window, toplevel);
	return window->xdg_toplevel->base->geometry;
}

static void xdg_window_set_box(struct toplevel *toplevel, const struct wlr_box *box) {
	struct xdg_window *window = wl_container_of(toplevel, window, toplevel);
	wlr_xdg_toplevel_set_size(window->xdg_toplevel, box->width, box->height);
}

static void xdg_window_set_activated(struct toplevel *toplevel, bool activated) {
	struct xdg_window *window = wl_container_of(toplevel, window, toplevel);
	wlr_xdg_toplevel_set_activated(window->xdg_toplevel, activated);
}

static const struct toplevel_interface xdg_window_impl = {
	.get_title = xdg_window_get_title,
	.get_app_id = xdg_window_get_app_id,
	.get_geometry = xdg_window_get_geometry,
	.set_box = xdg_window_set_box,
	.set_activated = xdg_window_set_activated,
};

static void xdg_window_apply_fullscreen(struct xdg_window *window) {
	bool fullscreen = window->xdg_toplevel->requested.fullscreen;
	wlr_xdg_toplevel_set_fullscreen(window->xdg_toplevel, fullscreen);
	toplevel_set_fullscreen(&window->toplevel, fullscreen);
}

static void xdg_window_handle_commit(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.commit);
	struct wlr_xdg_toplevel *xdg_toplevel = window->xdg_toplevel;
	if (!xdg_toplevel->base->initial_commit) {
		toplevel_place(&window->toplevel);
		toplevel_update(&window->toplevel);
		// The scene has the new size, or the first picture, only now
		seat_update_pointer_focus(window->toplevel.server);
		return;
	}
	// Clients do not ask for what is not in here, such as being maximized
	wlr_xdg_toplevel_set_wm_capabilities(xdg_toplevel,
		WLR_XDG_TOPLEVEL_WM_CAPABILITIES_FULLSCREEN);
	wlr_xdg_toplevel_set_tiled(xdg_toplevel,
		WLR_EDGE_TOP | WLR_EDGE_BOTTOM | WLR_EDGE_LEFT | WLR_EDGE_RIGHT);
	if (window->decoration != NULL) {
		wlr_xdg_toplevel_decoration_v1_set_mode(window->decoration,
			WLR_XDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	}
	// The column is there before the window: its first frame has the right size
	toplevel_insert(&window->toplevel);
	xdg_window_apply_fullscreen(window);
}

static void xdg_window_handle_map(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.map);
	toplevel_show(&window->toplevel);
}

static void xdg_window_handle_unmap(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.unmap);
	toplevel_hide(&window->toplevel);
}

static void xdg_window_handle_request_fullscreen(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.request_fullscreen);
	if (window->xdg_toplevel->base->initialized) {
		xdg_window_apply_fullscreen(window);
	}
}

static void xdg_window_handle_decoration_request_mode(struct wl_listener *listener, void *data) {
	struct xdg_window *window =
		wl_container_of(listener, window, listeners.decoration_request_mode);
	if (window->xdg_toplevel->base->initialized) {
		wlr_xdg_toplevel_decoration_v1_set_mode(window->decoration,
			WLR_XDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	}
}

static void xdg_window_handle_decoration_destroy(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.decoration_destroy);
	listener_remove(&window->listeners.decoration_request_mode);
	listener_remove(&window->listeners.decoration_destroy);
	window->decoration = NULL;
}

/** "Server-side" means none here: a tile has a gap around it, and no frame. */
static void server_handle_new_decoration(struct wl_listener *listener, void *data) {
	struct wlr_xdg_toplevel_decoration_v1 *decoration = data;
	struct popup_parent *as_parent = decoration->toplevel->base->data;
	if (as_parent == NULL) {
		return;
	}
	struct xdg_window *window = wl_container_of(as_parent, window, as_parent);
	window->decoration = decoration;
	listener_add(&decoration->events.request_mode, &window->listeners.decoration_request_mode,
		xdg_window_handle_decoration_request_mode);
	listener_add(&decoration->events.destroy, &window->listeners.decoration_destroy,
		xdg_window_handle_decoration_destroy);
	xdg_window_handle_decoration_request_mode(&window->listeners.decoration_request_mode, NULL);
}

static void xdg_window_handle_destroy(struct wl_listener *listener, void *data) {
	struct xdg_window *window = wl_container_of(listener, window, listeners.destroy);
	listeners_remove(&window->listeners);
	window->xdg_toplevel->base->data = NULL;
	toplevel_finish(&window->toplevel);
	free(window);
}

static bool xdg_window_init(struct xdg_window *window, struct server *server,
		struct wlr_xdg_toplevel *xdg_toplevel) {
	struct wlr_xdg_surface *base = xdg_toplevel->base;
	if (!toplevel_init(&window->toplevel, server, &xdg_window_impl, base->surface)) {
		return false;
	}
	window->xdg_toplevel = xdg_toplevel;
	// Popups are not clipped as the window is
	window->as_parent.root = window->as_parent.shown = window->toplevel.tree;
	window->toplevel.surface_tree = wlr_scene_xdg_surface_create(window->toplevel.tree, base);
	window->as_parent.captured =
		wlr_scene_xdg_surface_create(&window->toplevel.capture_scene->tree, base);
	if (window->toplevel.surface_tree == NULL || window->as_parent.captured == NULL) {
		toplevel_finish(&window->toplevel);
		return false;
	}
	base->data = &window->as_parent;
	return true;
}

static void server_handle_new_toplevel(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_toplevel);
	struct wlr_xdg_toplevel *xdg_toplevel = data;
	struct xdg_window *window = calloc(1, sizeof(*window));
	if (window == NULL || !xdg_window_init(window, server, xdg_toplevel)) {
		free(window);
		wl_resource_post_no_memory(xdg_toplevel->resource);
		return;
	}
	struct wlr_surface *surface = xdg_toplevel->base->surface;
	listener_add(&surface->events.commit, &window->listeners.commit, xdg_window_handle_commit);
	listener_add(&surface->events.map, &window->listeners.map, xdg_window_handle_map);
	listener_add(&surface->events.unmap, &window->listeners.unmap, xdg_window_handle_unmap);
	listener_add(&xdg_toplevel->events.destroy, &window->listeners.destroy,
		xdg_window_handle_destroy);
	listener_add(&xdg_toplevel->events.request_fullscreen,
		&window->listeners.request_fullscreen, xdg_window_handle_request_fullscreen);
}

/** Keeps the popup on the output of its window. */
static void popup_unconstrain(struct popup *popup) {
	struct wlr_output_layout *layout = popup->server->output_layout;
	int x = 0, y = 0;
	wlr_scene_node_coords(&popup->as_parent.root->node, &x, &y);
	struct wlr_output *output = wlr_output_layout_output_at(layout, x, y);
	if (output == NULL) {
		wlr_xdg_surface_schedule_configure(popup->xdg_popup->base);
		return;
	}
	struct wlr_box box;
	wlr_output_layout_get_box(layout, output, &box);
	box.x -= x;
	box.y -= y;
	wlr_xdg_popup_unconstrain_from_box(popup->xdg_popup, &box);
}

static void popup_handle_commit(struct wl_listener *listener, void *data) {
	struct popup *popup = wl_container_of(listener, popup, listeners.commit);
	if (popup->xdg_popup->base->initial_commit) {
		popup_unconstrain(popup);
	}
}

static void popup_handle_reposition(struct wl_listener *listener, void *data) {
	struct popup *popup = wl_container_of(listener, popup, listeners.reposition);
	popup_unconstrain(popup);
}

/** The trees go with the xdg_surface. */
static void popup_handle_destroy(struct wl_listener *listener, void *data) {
	struct popup *popup = wl_container_of(listener, popup, listeners.destroy);
	listeners_remove(&popup->listeners);
	popup->xdg_popup->base->data = NULL;
	free(popup);
}

void server_add_popup(struct server *server, struct wlr_xdg_popup *xdg_popup,
		const struct popup_parent *parent) {
	struct wlr_xdg_surface *base = xdg_popup->base;
	struct popup *popup = calloc(1, sizeof(*popup));
	struct wlr_scene_tree *shown =
		popup != NULL ? wlr_scene_xdg_surface_create(parent->shown, base) : NULL;
	struct wlr_scene_tree *captured = shown != NULL && parent->captured != NULL ?
		wlr_scene_xdg_surface_create(parent->captured, base) : NULL;
	if (shown == NULL || (captured == NULL && parent->captured != NULL)) {
		free(popup);
		wl_resource_post_no_memory(xdg_popup->resource);
		return;
	}
	popup->server = server;
	popup->xdg_popup = xdg_popup;
	popup->as_parent = (struct popup_parent){shown, captured, parent->root};
	base->data = &popup->as_parent;
	listener_add(&base->surface->events.commit, &popup->listeners.commit, popup_handle_commit);
	listener_add(&xdg_popup->events.reposition, &popup->listeners.reposition,
		popup_handle_reposition);
	listener_add(&xdg_popup->events.destroy, &popup->listeners.destroy, popup_handle_destroy);
}

static void server_handle_new_popup(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_popup);
	struct wlr_xdg_popup *xdg_popup = data;
	struct wlr_xdg_surface *parent = xdg_popup->parent != NULL ?
		wlr_xdg_surface_try_from_wlr_surface(xdg_popup->parent) : NULL;
	// Else its parent has gone, so that it will never be shown
	if (parent != NULL && parent->data != NULL) {
		server_add_popup(server, xdg_popup, parent->data);
	}
}

bool server_init_xdg_shell(struct server *server) {
	struct wlr_xdg_shell *xdg_shell = wlr_xdg_shell_create(server->display, 6);
	struct wlr_xdg_decoration_manager_v1 *decoration_manager =
		wlr_xdg_decoration_manager_v1_create(server->display);
	if (xdg_shell == NULL || decoration_manager == NULL) {
		return false;
	}
	listener_add(&xdg_shell->events.new_toplevel, &server->listeners.new_toplevel,
		server_handle_new_toplevel);
	listener_add(&xdg_shell->events.new_popup, &server->listeners.new_popup, server_handle_new_popup);
	listener_add(&decoration_manager->events.new_toplevel_decoration,
		&server->listeners.new_decoration, server_handle_new_decoration);
	return true;
}
