/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <wlr/types/wlr_ext_foreign_toplevel_list_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_seat.h>
#include <wlr/types/wlr_xdg_decoration_v1.h>
#include <wlr/types/wlr_xdg_shell.h>
#include <wlr/util/edges.h>
#include "server.h"

/** Space between and around toplevels, in logical pixels. */
static const int gap = 12;

struct popup {
	struct wlr_xdg_popup *xdg_popup;

	struct {
		struct wl_listener commit;
		struct wl_listener reposition;
		struct wl_listener destroy;
	} listeners;
};

static int max(int a, int b) {
	return a > b ? a : b;
}

/** Puts the window into the middle of its tile, and hides what sticks out. */
static void toplevel_place(struct toplevel *toplevel) {
	const struct wlr_box *tile = &toplevel->tile;
	struct wlr_box geometry = toplevel->xdg_toplevel->base->geometry;
	wlr_scene_node_set_position(&toplevel->tree->node,
		tile->x + max(0, (tile->width - geometry.width) / 2),
		tile->y + max(0, (tile->height - geometry.height) / 2));
	geometry.width = tile->width;
	geometry.height = tile->height;
	wlr_scene_subsurface_tree_set_clip(&toplevel->surface_tree->node, &geometry);
}

static void toplevel_set_tile(struct toplevel *toplevel, const struct wlr_box *tile) {
	toplevel->tile = *tile;
	wlr_xdg_toplevel_set_size(toplevel->xdg_toplevel, tile->width, tile->height);
	toplevel_place(toplevel);
}

/** Columns of equal width, in the order in which the toplevels came. */
static void output_arrange_toplevels(struct output *output) {
	const struct wlr_box *box = &output->box;
	int len = 0, i = 0;
	struct toplevel *toplevel;
	wl_list_for_each(toplevel, &output->server->toplevels, link) {
		len += toplevel->output == output;
	}
	wl_list_for_each(toplevel, &output->server->toplevels, link) {
		if (toplevel->output != output) {
			continue;
		}
		// Widths that add up with any remainder
		int left = (box->width - gap) * i / len + gap;
		int right = (box->width - gap) * (i + 1) / len;
		struct wlr_box tile = {
			.x = box->x + left,
			.y = box->y + gap,
			.width = max(1, right - left),
			.height = max(1, box->height - 2 * gap),
		};
		bool fullscreen = toplevel->xdg_toplevel->scheduled.fullscreen;
		if (fullscreen) {
			wlr_scene_node_raise_to_top(&toplevel->tree->node);
		}
		toplevel_set_tile(toplevel, fullscreen ? box : &tile);
		i++;
	}
}

/** The first of the enabled outputs that have the fewest toplevels. */
static struct output *server_find_emptiest_output(struct server *server) {
	struct output *best = NULL, *output;
	int best_len = 0;
	wl_list_for_each(output, &server->outputs, link) {
		int len = 0;
		struct toplevel *toplevel;
		wl_list_for_each(toplevel, &server->toplevels, link) {
			len += toplevel->output == output;
		}
		if (!wlr_box_empty(&output->box) && (best == NULL || len < best_len)) {
			best = output;
			best_len = len;
		}
	}
	return best;
}

void server_arrange_toplevels(struct server *server) {
	struct toplevel *toplevel;
	wl_list_for_each(toplevel, &server->toplevels, link) {
		if (toplevel->output == NULL || wlr_box_empty(&toplevel->output->box)) {
			toplevel->output = NULL;
			toplevel->output = server_find_emptiest_output(server);
		}
	}
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		if (!wlr_box_empty(&output->box)) {
			output_arrange_toplevels(output);
		}
	}
	seat_update_pointer_focus(server);
}

void toplevel_focus(struct server *server, struct toplevel *toplevel) {
	if (server->focused_toplevel != NULL && server->focused_toplevel != toplevel) {
		wlr_xdg_toplevel_set_activated(server->focused_toplevel->xdg_toplevel, false);
	}
	server->focused_toplevel = toplevel;
	if (toplevel != NULL) {
		wlr_xdg_toplevel_set_activated(toplevel->xdg_toplevel, true);
	}
	if (!server->lock.locked) { // else the lock surface keeps the keyboard
		seat_focus_surface(server, toplevel != NULL ?
			toplevel->xdg_toplevel->base->surface : NULL);
	}
}

/** Sends nothing if nothing changed, so that each commit may call it. */
static void toplevel_update_foreign_handle(struct toplevel *toplevel) {
	struct wlr_ext_foreign_toplevel_handle_v1_state state = {
		.title = toplevel->xdg_toplevel->title,
		.app_id = toplevel->xdg_toplevel->app_id,
	};
	if (toplevel->foreign_handle != NULL) {
		wlr_ext_foreign_toplevel_handle_v1_update_state(toplevel->foreign_handle, &state);
	} else if (toplevel->xdg_toplevel->base->surface->mapped) {
		toplevel->foreign_handle = wlr_ext_foreign_toplevel_handle_v1_create(
			toplevel->server->foreign_toplevel_list, &state);
	}
}

/** Gives up the place in the layout, and the focus. */
static void toplevel_withdraw(struct toplevel *toplevel) {
	struct server *server = toplevel->server;
	if (wl_list_empty(&toplevel->link)) {
		return;
	}
	wl_list_remove(&toplevel->link);
	wl_list_init(&toplevel->link);
	toplevel->output = NULL;
	if (server->focused_toplevel == toplevel) {
		server->focused_toplevel = NULL;
		struct toplevel *next = NULL, *other;
		wl_list_for_each(other, &server->toplevels, link) {
			if (other->xdg_toplevel->base->surface->mapped) {
				next = other; // the one that came last
			}
		}
		toplevel_focus(server, next);
	}
	server_arrange_toplevels(server);
}

static void toplevel_handle_commit(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.commit);
	struct wlr_xdg_toplevel *xdg_toplevel = toplevel->xdg_toplevel;
	if (!xdg_toplevel->base->initial_commit) {
		toplevel_place(toplevel);
		toplevel_update_foreign_handle(toplevel);
		// The scene has the new size, or the first picture, only now
		seat_update_pointer_focus(toplevel->server);
		return;
	}
	// The column is there before the window: its first frame has the right size
	wl_list_insert(toplevel->server->toplevels.prev, &toplevel->link);
	// Clients do not ask for what is not in here, such as being maximized
	wlr_xdg_toplevel_set_wm_capabilities(xdg_toplevel,
		WLR_XDG_TOPLEVEL_WM_CAPABILITIES_FULLSCREEN);
	wlr_xdg_toplevel_set_tiled(xdg_toplevel,
		WLR_EDGE_TOP | WLR_EDGE_BOTTOM | WLR_EDGE_LEFT | WLR_EDGE_RIGHT);
	wlr_xdg_toplevel_set_fullscreen(xdg_toplevel, xdg_toplevel->requested.fullscreen);
	if (toplevel->decoration != NULL) {
		wlr_xdg_toplevel_decoration_v1_set_mode(toplevel->decoration,
			WLR_XDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	}
	server_arrange_toplevels(toplevel->server);
}

static void toplevel_handle_map(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.map);
	toplevel_update_foreign_handle(toplevel);
	toplevel_focus(toplevel->server, toplevel);
}

static void toplevel_handle_unmap(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.unmap);
	if (toplevel->foreign_handle != NULL) {
		wlr_ext_foreign_toplevel_handle_v1_destroy(toplevel->foreign_handle);
		toplevel->foreign_handle = NULL;
	}
	toplevel_withdraw(toplevel);
}

static void toplevel_handle_request_fullscreen(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.request_fullscreen);
	if (toplevel->xdg_toplevel->base->initialized) {
		wlr_xdg_toplevel_set_fullscreen(toplevel->xdg_toplevel,
			toplevel->xdg_toplevel->requested.fullscreen);
		server_arrange_toplevels(toplevel->server);
	}
}

static void toplevel_handle_decoration_request_mode(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.decoration_request_mode);
	if (toplevel->xdg_toplevel->base->initialized) {
		wlr_xdg_toplevel_decoration_v1_set_mode(toplevel->decoration,
			WLR_XDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	}
}

static void toplevel_handle_decoration_destroy(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.decoration_destroy);
	listener_remove(&toplevel->listeners.decoration_request_mode);
	listener_remove(&toplevel->listeners.decoration_destroy);
	toplevel->decoration = NULL;
}

/** "Server-side" means none here: a tile has a gap around it, and no frame. */
static void server_handle_new_decoration(struct wl_listener *listener, void *data) {
	struct wlr_xdg_toplevel_decoration_v1 *decoration = data;
	struct wlr_scene_tree *tree = decoration->toplevel->base->data;
	struct toplevel *toplevel = tree != NULL ? tree->node.data : NULL;
	if (toplevel == NULL) {
		return;
	}
	toplevel->decoration = decoration;
	listener_add(&decoration->events.request_mode, &toplevel->listeners.decoration_request_mode,
		toplevel_handle_decoration_request_mode);
	listener_add(&decoration->events.destroy, &toplevel->listeners.decoration_destroy,
		toplevel_handle_decoration_destroy);
	toplevel_handle_decoration_request_mode(&toplevel->listeners.decoration_request_mode, NULL);
}

static void toplevel_handle_destroy(struct wl_listener *listener, void *data) {
	struct toplevel *toplevel = wl_container_of(listener, toplevel, listeners.destroy);
	toplevel_withdraw(toplevel); // it may have been laid out without being mapped
	listeners_remove(&toplevel->listeners);
	toplevel->xdg_toplevel->base->data = NULL;
	wlr_scene_node_destroy(&toplevel->tree->node);
	free(toplevel);
}

static void server_handle_new_toplevel(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_toplevel);
	struct wlr_xdg_toplevel *xdg_toplevel = data;

	struct toplevel *toplevel = calloc(1, sizeof(*toplevel));
	struct wlr_scene_tree *tree = wlr_scene_tree_create(server->toplevel_tree);
	if (toplevel == NULL || tree == NULL ||
			(toplevel->surface_tree = wlr_scene_xdg_surface_create(tree, xdg_toplevel->base)) == NULL) {
		if (tree != NULL) {
			wlr_scene_node_destroy(&tree->node);
		}
		free(toplevel);
		wl_resource_post_no_memory(xdg_toplevel->resource);
		return;
	}
	toplevel->server = server;
	toplevel->xdg_toplevel = xdg_toplevel;
	toplevel->tree = tree;
	tree->node.data = toplevel;
	xdg_toplevel->base->data = tree;
	wl_list_init(&toplevel->link);

	struct wlr_surface *surface = xdg_toplevel->base->surface;
	listener_add(&surface->events.commit, &toplevel->listeners.commit, toplevel_handle_commit);
	listener_add(&surface->events.map, &toplevel->listeners.map, toplevel_handle_map);
	listener_add(&surface->events.unmap, &toplevel->listeners.unmap, toplevel_handle_unmap);
	listener_add(&xdg_toplevel->events.destroy, &toplevel->listeners.destroy, toplevel_handle_destroy);
	listener_add(&xdg_toplevel->events.request_fullscreen, &toplevel->listeners.request_fullscreen,
		toplevel_handle_request_fullscreen);
}

/** Keeps the popup on the output of its toplevel. */
static void popup_unconstrain(struct popup *popup) {
	struct wlr_scene_tree *tree = popup->xdg_popup->base->data;
	struct wlr_scene_node *node = &tree->node;
	while (node != NULL && node->data == NULL) {
		node = node->parent != NULL ? &node->parent->node : NULL;
	}
	struct toplevel *toplevel = node != NULL ? node->data : NULL;
	if (toplevel == NULL || toplevel->output == NULL) {
		wlr_xdg_surface_schedule_configure(popup->xdg_popup->base);
		return;
	}
	struct wlr_box box = toplevel->output->box;
	box.x -= node->x;
	box.y -= node->y;
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

static void popup_handle_destroy(struct wl_listener *listener, void *data) {
	struct popup *popup = wl_container_of(listener, popup, listeners.destroy);
	listeners_remove(&popup->listeners);
	free(popup);
}

static void server_handle_new_popup(struct wl_listener *listener, void *data) {
	struct wlr_xdg_popup *xdg_popup = data;
	struct wlr_xdg_surface *parent = xdg_popup->parent != NULL ?
		wlr_xdg_surface_try_from_wlr_surface(xdg_popup->parent) : NULL;
	if (parent == NULL || parent->data == NULL) {
		return; // its parent has gone, so that it will never be shown
	}
	struct popup *popup = calloc(1, sizeof(*popup));
	struct wlr_scene_tree *tree =
		popup != NULL ? wlr_scene_xdg_surface_create(parent->data, xdg_popup->base) : NULL;
	if (tree == NULL) {
		free(popup);
		wl_resource_post_no_memory(xdg_popup->resource);
		return;
	}
	popup->xdg_popup = xdg_popup;
	xdg_popup->base->data = tree;
	listener_add(&xdg_popup->base->surface->events.commit, &popup->listeners.commit,
		popup_handle_commit);
	listener_add(&xdg_popup->events.reposition, &popup->listeners.reposition,
		popup_handle_reposition);
	listener_add(&xdg_popup->events.destroy, &popup->listeners.destroy, popup_handle_destroy);
}

bool server_init_toplevels(struct server *server) {
	struct wlr_xdg_shell *xdg_shell = wlr_xdg_shell_create(server->display, 6);
	struct wlr_xdg_decoration_manager_v1 *decoration_manager =
		wlr_xdg_decoration_manager_v1_create(server->display);
	server->foreign_toplevel_list =
		wlr_ext_foreign_toplevel_list_v1_create(server->display, 1);
	if (xdg_shell == NULL || decoration_manager == NULL ||
			server->foreign_toplevel_list == NULL) {
		return false;
	}
	listener_add(&xdg_shell->events.new_toplevel, &server->listeners.new_toplevel,
		server_handle_new_toplevel);
	listener_add(&xdg_shell->events.new_popup, &server->listeners.new_popup, server_handle_new_popup);
	listener_add(&decoration_manager->events.new_toplevel_decoration,
		&server->listeners.new_decoration, server_handle_new_decoration);
	return true;
}
