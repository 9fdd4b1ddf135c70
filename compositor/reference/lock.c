/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_session_lock_v1.h>
#include "server.h"

struct lock_surface {
	struct server *server;
	struct wlr_session_lock_surface_v1 *wlr_surface;
	struct wlr_scene_tree *tree;

	struct {
		struct wl_listener map;
		struct wl_listener destroy;
	} listeners;
};

void lock_send_locked_if_hidden(struct server *server) {
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		if (output->lock_frame_pending && output->wlr_output->enabled) {
			return;
		}
	}
	if (server->lock.lock != NULL && !server->lock.locked_sent) {
		server->lock.locked_sent = true;
		wlr_session_lock_v1_send_locked(server->lock.lock);
	}
}

/** Hides or shows the session, and everything that was captured of it. */
static void server_set_locked(struct server *server, bool locked) {
	server->lock.locked = locked;
	// Nothing of the lock screen goes into memory that a client has kept
	vitrine_view_manager_v1_set_locked(server->view_manager, locked);

	server_update_captures(server);
	wlr_scene_node_set_enabled(&server->lock_tree->node, locked);
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		output->lock_frame_pending = locked;
		wlr_output_schedule_frame(output->wlr_output);
	}
	if (locked) {
		seat_focus_surface(server, NULL);
	} else {
		toplevel_focus(server, server->focused_toplevel);
	}
	seat_update_pointer_focus(server);
}

static void lock_surface_configure(struct lock_surface *surface) {
	const struct output *output = surface->wlr_surface->output->data;
	if (output != NULL) {
		wlr_scene_node_set_position(&surface->tree->node, output->box.x, output->box.y);
		wlr_session_lock_surface_v1_configure(surface->wlr_surface, output->box.width,
			output->box.height);
	}
}

void lock_arrange(struct server *server) {
	struct wlr_session_lock_surface_v1 *wlr_surface;
	if (server->lock.lock == NULL) {
		return;
	}
	wl_list_for_each(wlr_surface, &server->lock.lock->surfaces, link) {
		if (wlr_surface->data != NULL) {
			lock_surface_configure(wlr_surface->data);
		}
	}
}

static void lock_surface_handle_map(struct wl_listener *listener, void *data) {
	struct lock_surface *surface = wl_container_of(listener, surface, listeners.map);
	seat_focus_surface(surface->server, surface->wlr_surface->surface);
	seat_update_pointer_focus(surface->server);
}

static void lock_surface_handle_destroy(struct wl_listener *listener, void *data) {
	struct lock_surface *surface = wl_container_of(listener, surface, listeners.destroy);
	surface->wlr_surface->data = NULL;
	listeners_remove(&surface->listeners);
	wlr_scene_node_destroy(&surface->tree->node);
	free(surface);
}

static void server_handle_lock_new_surface(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.lock_new_surface);
	struct wlr_session_lock_surface_v1 *wlr_surface = data;
	struct lock_surface *surface = calloc(1, sizeof(*surface));
	// A tree of our own: that of the surface goes when the surface does
	struct wlr_scene_tree *tree = wlr_scene_tree_create(server->lock_tree);
	if (surface == NULL || tree == NULL ||
			wlr_scene_subsurface_tree_create(tree, wlr_surface->surface) == NULL) {
		if (tree != NULL) {
			wlr_scene_node_destroy(&tree->node);
		}
		free(surface);
		wl_resource_post_no_memory(wlr_surface->resource);
		return;
	}
	surface->server = server;
	surface->wlr_surface = wlr_surface;
	surface->tree = tree;
	wlr_surface->data = surface;
	listener_add(&wlr_surface->surface->events.map, &surface->listeners.map, lock_surface_handle_map);
	listener_add(&wlr_surface->events.destroy, &surface->listeners.destroy,
		lock_surface_handle_destroy);
	lock_surface_configure(surface);
}

static void server_handle_lock_unlock(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.lock_unlock);
	server_set_locked(server, false);
}

static void server_handle_lock_destroy(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.lock_destroy);
	listener_remove(&server->listeners.lock_new_surface);
	listener_remove(&server->listeners.lock_unlock);
	listener_remove(&server->listeners.lock_destroy);
	server->lock.lock = NULL; // without an unlock request, the session stays locked
}

static void server_handle_new_lock(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_lock);
	struct wlr_session_lock_v1 *lock = data;
	if (server->lock.lock != NULL) {
		wlr_session_lock_v1_destroy(lock);
		return;
	}
	server->lock.lock = lock;
	server->lock.locked_sent = false;
	listener_add(&lock->events.new_surface, &server->listeners.lock_new_surface,
		server_handle_lock_new_surface);
	listener_add(&lock->events.unlock, &server->listeners.lock_unlock, server_handle_lock_unlock);
	listener_add(&lock->events.destroy, &server->listeners.lock_destroy, server_handle_lock_destroy);
	if (!server->lock.locked) {
		server_set_locked(server, true);
	}
	lock_send_locked_if_hidden(server);
}

bool server_init_lock(struct server *server) {
	struct wlr_session_lock_manager_v1 *manager =
		wlr_session_lock_manager_v1_create(server->display);
	if (manager == NULL) {
		return false;
	}
	listener_add(&manager->events.new_lock, &server->listeners.new_lock, server_handle_new_lock);
	return true;
}
