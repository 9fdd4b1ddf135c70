/* SPDX-License-Identifier: MIT */
/* Backgrounds, panels, launchers: surfaces that have a layer of an output, not a place in the layout. */
#include <stdlib.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_layer_shell_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>
#include "server.h"

struct layer_surface {
	struct wl_list link; // output.layer_surfaces
	struct output *output;
	struct wlr_layer_surface_v1 *wlr_surface;
	struct wlr_scene_layer_surface_v1 *scene; // goes with wlr_surface
	struct popup_parent as_parent;

	struct {
		struct wl_listener commit;
		struct wl_listener map;
		struct wl_listener unmap;
		struct wl_listener new_popup;
		struct wl_listener destroy;
	} listeners;
};

void output_arrange_layers(struct output *output) {
	output->usable = output->box;
	if (wlr_box_empty(&output->box)) {
		return;
	}
	// Those that keep an edge for themselves come first: the others avoid it
	struct layer_surface *surface;
	for (int exclusive = 1; exclusive >= 0; exclusive--) {
		wl_list_for_each(surface, &output->layer_surfaces, link) {
			if (surface->wlr_surface->initialized &&
					(surface->wlr_surface->current.exclusive_zone > 0) == exclusive) {
				wlr_scene_layer_surface_v1_configure(surface->scene, &output->box,
					&output->usable);
			}
		}
	}
}

/** The keyboard is theirs that ask for it when they are shown, until they are not or it is taken. */
static void layer_surface_update_focus(struct layer_surface *surface) {
	struct server *server = surface->output->server;
	const struct wlr_layer_surface_v1 *wlr_surface = surface->wlr_surface;
	bool wants = wlr_surface->surface->mapped && wlr_surface->current.keyboard_interactive !=
		ZWLR_LAYER_SURFACE_V1_KEYBOARD_INTERACTIVITY_NONE;
	bool has = server->focused_layer == wlr_surface;
	if (wants != has) {
		server->focused_layer = wants ? surface->wlr_surface : NULL;
		server_update_keyboard_focus(server);
	}
}

void server_unfocus_layer(struct server *server) {
	if (server->focused_layer != NULL && server->focused_layer->current.keyboard_interactive !=
			ZWLR_LAYER_SURFACE_V1_KEYBOARD_INTERACTIVITY_EXCLUSIVE) {
		server->focused_layer = NULL;
	}
}

static void layer_surface_arrange(struct layer_surface *surface) {
	output_arrange_layers(surface->output);
	server_arrange_toplevels(surface->output->server);
}

static void layer_surface_handle_commit(struct wl_listener *listener, void *data) {
	struct layer_surface *surface = wl_container_of(listener, surface, listeners.commit);
	const struct wlr_layer_surface_v1_state *state = &surface->wlr_surface->current;
	// Each arrangement sends an event that is answered with a commit
	if (!surface->wlr_surface->initial_commit && state->committed == 0) {
		return;
	}
	wlr_scene_node_reparent(&surface->scene->tree->node,
		surface->output->server->layer_trees[state->layer]);
	layer_surface_arrange(surface);
	if (state->committed & WLR_LAYER_SURFACE_V1_STATE_KEYBOARD_INTERACTIVITY) {
		layer_surface_update_focus(surface);
	}
}

static void layer_surface_handle_map(struct wl_listener *listener, void *data) {
	struct layer_surface *surface = wl_container_of(listener, surface, listeners.map);
	layer_surface_arrange(surface);
	layer_surface_update_focus(surface);
}

static void layer_surface_handle_unmap(struct wl_listener *listener, void *data) {
	struct layer_surface *surface = wl_container_of(listener, surface, listeners.unmap);
	layer_surface_arrange(surface);
	layer_surface_update_focus(surface);
}

static void layer_surface_handle_new_popup(struct wl_listener *listener, void *data) {
	struct layer_surface *surface = wl_container_of(listener, surface, listeners.new_popup);
	server_add_popup(surface->output->server, data, &surface->as_parent);
}

/** It was unmapped before. */
static void layer_surface_handle_destroy(struct wl_listener *listener, void *data) {
	struct layer_surface *surface = wl_container_of(listener, surface, listeners.destroy);
	listeners_remove(&surface->listeners);
	wl_list_remove(&surface->link);
	free(surface);
}

void output_close_layers(struct output *output) {
	struct layer_surface *surface, *next;
	wl_list_for_each_safe(surface, next, &output->layer_surfaces, link) {
		wlr_layer_surface_v1_destroy(surface->wlr_surface);
	}
}

/** The output that the client names, or else the first one; NULL if there is none. */
static struct output *server_find_output(struct server *server, struct wlr_output *wlr_output) {
	if (wlr_output != NULL) {
		return wlr_output->data; // NULL if it is not used
	}
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		if (!wlr_box_empty(&output->box)) {
			return output;
		}
	}
	return NULL;
}

static void server_handle_new_layer_surface(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_layer_surface);
	struct wlr_layer_surface_v1 *wlr_surface = data;
	struct output *output = server_find_output(server, wlr_surface->output);
	if (output == NULL) {
		wlr_layer_surface_v1_destroy(wlr_surface);
		return;
	}
	struct layer_surface *surface = calloc(1, sizeof(*surface));
	struct wlr_scene_layer_surface_v1 *scene = surface != NULL ?
		wlr_scene_layer_surface_v1_create(server->layer_trees[wlr_surface->pending.layer],
			wlr_surface) : NULL;
	if (scene == NULL) {
		free(surface);
		wl_resource_post_no_memory(wlr_surface->resource);
		wlr_layer_surface_v1_destroy(wlr_surface);
		return;
	}
	wlr_surface->output = output->wlr_output;
	surface->output = output;
	surface->wlr_surface = wlr_surface;
	surface->scene = scene;
	surface->as_parent = (struct popup_parent){.shown = scene->tree, .root = scene->tree};
	wl_list_insert(&output->layer_surfaces, &surface->link);
	listener_add(&wlr_surface->surface->events.commit, &surface->listeners.commit,
		layer_surface_handle_commit);
	listener_add(&wlr_surface->surface->events.map, &surface->listeners.map,
		layer_surface_handle_map);
	listener_add(&wlr_surface->surface->events.unmap, &surface->listeners.unmap,
		layer_surface_handle_unmap);
	listener_add(&wlr_surface->events.new_popup, &surface->listeners.new_popup,
		layer_surface_handle_new_popup);
	listener_add(&wlr_surface->events.destroy, &surface->listeners.destroy,
		layer_surface_handle_destroy);
}

bool server_init_layer_shell(struct server *server) {
	struct wlr_layer_shell_v1 *layer_shell = wlr_layer_shell_v1_create(server->display, 5);
	if (layer_shell == NULL) {
		return false;
	}
	listener_add(&layer_shell->events.new_surface, &server->listeners.new_layer_surface,
		server_handle_new_layer_surface);
	return true;
}
