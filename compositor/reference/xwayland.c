/* SPDX-License-Identifier: MIT */
/* Windows of X11 clients. Xwayland is started when the first of them connects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wlr/config.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/util/log.h>
#include "server.h"

#if WLR_HAS_XWAYLAND
#include <wlr/xwayland.h>
#include <wlr/xwayland/shell.h>

struct x11_window {
	struct server *server;
	struct wlr_xwayland_surface *xsurface;
	struct toplevel toplevel; // while it is mapped, unless its client places it
	struct wlr_scene_tree *tree; // of one that its client places, such as a menu; may be NULL

	struct {
		struct wl_listener associate;
		struct wl_listener dissociate;
		struct wl_listener map;
		struct wl_listener unmap;
		struct wl_listener commit;
		struct wl_listener destroy;
		struct wl_listener request_configure;
		struct wl_listener request_fullscreen;
		struct wl_listener set_override_redirect;
		struct wl_listener set_geometry;
		struct wl_listener set_title;
		struct wl_listener set_class;
	} listeners;
};

static bool x11_window_has_toplevel(const struct x11_window *window) {
	return window->toplevel.server != NULL;
}

static const char *x11_window_get_title(const struct toplevel *toplevel) {
	const struct x11_window *window = wl_container_of(toplevel, window, toplevel);
	return window->xsurface->title;
}

static const char *x11_window_get_app_id(const struct toplevel *toplevel) {
	const struct x11_window *window = wl_container_of(toplevel, window, toplevel);
	return window->xsurface->class;
}

static struct wlr_box x11_window_get_geometry(const struct toplevel *toplevel) {
	return (struct wlr_box){
		.width = toplevel->surface->current.width,
		.height = toplevel->surface->current.height,
	};
}

static void x11_window_set_box(struct toplevel *toplevel, const struct wlr_box *box) {
	struct x11_window *window = wl_container_of(toplevel, window, toplevel);
	wlr_xwayland_surface_configure(window->xsurface, box->x, box->y, box->width, box->height);
}

static void x11_window_set_activated(struct toplevel *toplevel, bool activated) {
	struct x11_window *window = wl_container_of(toplevel, window, toplevel);
	wlr_xwayland_surface_activate(window->xsurface, activated);
	if (activated) {
		wlr_xwayland_surface_restack(window->xsurface, NULL, XCB_STACK_MODE_ABOVE);
	}
}

static const struct toplevel_interface x11_window_impl = {
	.get_title = x11_window_get_title,
	.get_app_id = x11_window_get_app_id,
	.get_geometry = x11_window_get_geometry,
	.set_box = x11_window_set_box,
	.set_activated = x11_window_set_activated,
};

static bool x11_window_show_toplevel(struct x11_window *window) {
	struct toplevel *toplevel = &window->toplevel;
	struct wlr_surface *surface = window->xsurface->surface;
	if (!toplevel_init(toplevel, window->server, &x11_window_impl, surface)) {
		toplevel->server = NULL;
		return false;
	}
	toplevel->surface_tree = wlr_scene_subsurface_tree_create(toplevel->tree, surface);
	if (toplevel->surface_tree == NULL ||
			wlr_scene_subsurface_tree_create(&toplevel->capture_scene->tree, surface) == NULL) {
		toplevel_finish(toplevel);
		toplevel->server = NULL;
		return false;
	}
	toplevel->fullscreen = window->xsurface->fullscreen;
	toplevel_insert(toplevel);
	toplevel_show(toplevel);
	return true;
}

static void x11_window_show(struct x11_window *window) {
	struct wlr_xwayland_surface *xsurface = window->xsurface;
	bool ok;
	if (xsurface->override_redirect) {
		window->tree =
			wlr_scene_subsurface_tree_create(window->server->unmanaged_tree, xsurface->surface);
		ok = window->tree != NULL;
		if (ok) {
			wlr_scene_node_set_position(&window->tree->node, xsurface->x, xsurface->y);
		}
	} else {
		ok = x11_window_show_toplevel(window);
	}
	if (!ok) {
		wlr_log(WLR_ERROR, "no memory for a window of an X11 client");
	}
}

static void x11_window_handle_map(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.map);
	x11_window_show(window);
}

static void x11_window_hide(struct x11_window *window) {
	if (x11_window_has_toplevel(window)) {
		toplevel_finish(&window->toplevel);
		window->toplevel.server = NULL;
	}
	if (window->tree != NULL) {
		wlr_scene_node_destroy(&window->tree->node);
		window->tree = NULL;
	}
}

/** From now on its client places it, or does not: wlroots allows no focus for one that it places. */
static void x11_window_handle_set_override_redirect(struct wl_listener *listener, void *data) {
	struct x11_window *window =
		wl_container_of(listener, window, listeners.set_override_redirect);
	const struct wlr_surface *surface = window->xsurface->surface;
	x11_window_hide(window);
	if (surface != NULL && surface->mapped) {
		x11_window_show(window);
	}
}

static void x11_window_handle_unmap(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.unmap);
	x11_window_hide(window);
}

static void x11_window_handle_commit(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.commit);
	if (x11_window_has_toplevel(window)) {
		toplevel_place(&window->toplevel);
	}
	seat_update_pointer_focus(window->server);
}

static void x11_window_handle_associate(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.associate);
	struct wlr_surface *surface = window->xsurface->surface;
	listener_add(&surface->events.map, &window->listeners.map, x11_window_handle_map);
	listener_add(&surface->events.unmap, &window->listeners.unmap, x11_window_handle_unmap);
	listener_add(&surface->events.commit, &window->listeners.commit, x11_window_handle_commit);
	// By two ways: its first picture can be here before it is known which window it is of, and
	// Xwayland sends no other one before that was shown
	if (wlr_surface_has_buffer(surface)) {
		wlr_surface_map(surface);
	}
}

static void x11_window_handle_dissociate(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.dissociate);
	x11_window_hide(window);
	listener_remove(&window->listeners.map);
	listener_remove(&window->listeners.unmap);
	listener_remove(&window->listeners.commit);
}

static void x11_window_handle_destroy(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.destroy);
	x11_window_hide(window);
	listeners_remove(&window->listeners);
	free(window);
}

/** A window that has its place in the layout is told it again. */
static void x11_window_handle_request_configure(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.request_configure);
	const struct wlr_xwayland_surface_configure_event *event = data;
	if (x11_window_has_toplevel(window)) {
		server_arrange_toplevels(window->server);
	} else {
		wlr_xwayland_surface_configure(window->xsurface, event->x, event->y, event->width,
			event->height);
	}
}

static void x11_window_handle_request_fullscreen(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.request_fullscreen);
	if (x11_window_has_toplevel(window)) {
		wlr_xwayland_surface_set_fullscreen(window->xsurface, window->xsurface->fullscreen);
		toplevel_set_fullscreen(&window->toplevel, window->xsurface->fullscreen);
	}
}

static void x11_window_handle_set_geometry(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.set_geometry);
	if (window->tree != NULL) {
		wlr_scene_node_set_position(&window->tree->node, window->xsurface->x,
			window->xsurface->y);
	}
}

static void x11_window_handle_set_title(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.set_title);
	if (x11_window_has_toplevel(window)) {
		toplevel_update(&window->toplevel);
	}
}

static void x11_window_handle_set_class(struct wl_listener *listener, void *data) {
	struct x11_window *window = wl_container_of(listener, window, listeners.set_class);
	if (x11_window_has_toplevel(window)) {
		toplevel_update(&window->toplevel);
	}
}

static void server_handle_new_x11_window(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_x11_window);
	struct wlr_xwayland_surface *xsurface = data;
	struct x11_window *window = calloc(1, sizeof(*window));
	if (window == NULL) {
		wlr_log(WLR_ERROR, "no memory for a window of an X11 client");
		return;
	}
	window->server = server;
	window->xsurface = xsurface;
	listener_add(&xsurface->events.associate, &window->listeners.associate,
		x11_window_handle_associate);
	listener_add(&xsurface->events.dissociate, &window->listeners.dissociate,
		x11_window_handle_dissociate);
	listener_add(&xsurface->events.destroy, &window->listeners.destroy, x11_window_handle_destroy);
	listener_add(&xsurface->events.request_configure, &window->listeners.request_configure,
		x11_window_handle_request_configure);
	listener_add(&xsurface->events.request_fullscreen, &window->listeners.request_fullscreen,
		x11_window_handle_request_fullscreen);
	listener_add(&xsurface->events.set_override_redirect,
		&window->listeners.set_override_redirect, x11_window_handle_set_override_redirect);
	listener_add(&xsurface->events.set_geometry, &window->listeners.set_geometry,
		x11_window_handle_set_geometry);
	listener_add(&xsurface->events.set_title, &window->listeners.set_title,
		x11_window_handle_set_title);
	listener_add(&xsurface->events.set_class, &window->listeners.set_class,
		x11_window_handle_set_class);
}

/** Else wlroots logs an error, which it is not. */
static bool is_xwayland_installed(void) {
	if (getenv("WLR_XWAYLAND") != NULL) {
		return true;
	}
	const char *path = getenv("PATH");
	char *dirs = strdup(path != NULL ? path : ""), *save = NULL;
	bool found = false;
	for (char *dir = dirs != NULL ? strtok_r(dirs, ":", &save) : NULL; dir != NULL && !found;
			dir = strtok_r(NULL, ":", &save)) {
		char file[4096];
		int len = snprintf(file, sizeof(file), "%s/Xwayland", dir);
		found = len < (int)sizeof(file) && access(file, X_OK) == 0;
	}
	free(dirs);
	return found;
}

void server_init_xwayland(struct server *server) {
	// Not another's: what is started here is to be seen here
	unsetenv("DISPLAY");
	if (!server->options->xwayland || !is_xwayland_installed()) {
		return;
	}
	server->xwayland = wlr_xwayland_create(server->display, server->compositor, true);
	if (server->xwayland == NULL) {
		wlr_log(WLR_ERROR, "there is no Xwayland for X11 clients");
		return;
	}
	wlr_xwayland_set_seat(server->xwayland, server->seat.seat);
	listener_add(&server->xwayland->events.new_surface, &server->listeners.new_x11_window,
		server_handle_new_x11_window);
	setenv("DISPLAY", server->xwayland->display_name, true);
}

void server_finish_xwayland(struct server *server) {
	listener_remove(&server->listeners.new_x11_window);
	wlr_xwayland_destroy(server->xwayland);
	server->xwayland = NULL;
}

bool server_hides_from(const struct server *server, const struct wl_client *client,
		const struct wl_global *global) {
	return server->xwayland != NULL && server->xwayland->shell_v1 != NULL &&
		global == server->xwayland->shell_v1->global &&
		client != server->xwayland->server->client;
}
#else
void server_init_xwayland(struct server *server) {
	unsetenv("DISPLAY");
}

void server_finish_xwayland(struct server *server) {
}

bool server_hides_from(const struct server *server, const struct wl_client *client,
		const struct wl_global *global) {
	return false;
}
#endif
