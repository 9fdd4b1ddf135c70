/* SPDX-License-Identifier: MIT */
/* Windows, whatever their protocol is: where they are, which has the focus, how they are captured. */
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_ext_foreign_toplevel_list_v1.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_layer_shell_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/util/log.h>
#include "server.h"

/** Space between and around toplevels, in logical pixels. */
static const int gap = 12;

static int max(int a, int b) {
	return a > b ? a : b;
}

void toplevel_place(struct toplevel *toplevel) {
	const struct wlr_box *tile = &toplevel->tile;
	struct wlr_box geometry = toplevel->impl->get_geometry(toplevel);
	wlr_scene_node_set_position(&toplevel->tree->node,
		tile->x + max(0, (tile->width - geometry.width) / 2),
		tile->y + max(0, (tile->height - geometry.height) / 2));
	geometry.width = tile->width;
	geometry.height = tile->height;
	wlr_scene_subsurface_tree_set_clip(&toplevel->surface_tree->node, &geometry);
}

static void toplevel_set_tile(struct toplevel *toplevel, const struct wlr_box *tile) {
	toplevel->tile = *tile;
	toplevel->impl->set_box(toplevel, tile);
	toplevel_place(toplevel);
}

/** Columns of equal width, in the order in which the toplevels came. */
static void output_arrange_toplevels(struct output *output) {
	const struct wlr_box *box = &output->usable;
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
		if (toplevel->fullscreen) {
			wlr_scene_node_raise_to_top(&toplevel->tree->node);
		}
		toplevel_set_tile(toplevel, toplevel->fullscreen ? &output->box : &tile);
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

void server_update_keyboard_focus(struct server *server) {
	if (server->lock.locked) {
		return; // the lock surface keeps the keyboard
	}
	struct wlr_surface *surface = server->focused_toplevel != NULL ?
		server->focused_toplevel->surface : NULL;
	seat_focus_surface(server, server->focused_layer != NULL ?
		server->focused_layer->surface : surface);
}

void toplevel_focus(struct server *server, struct toplevel *toplevel) {
	if (server->focused_toplevel != NULL && server->focused_toplevel != toplevel) {
		server->focused_toplevel->impl->set_activated(server->focused_toplevel, false);
	}
	server->focused_toplevel = toplevel;
	if (toplevel != NULL) {
		toplevel->impl->set_activated(toplevel, true);
	}
	server_update_keyboard_focus(server);
}

void toplevel_update(struct toplevel *toplevel) {
	struct wlr_ext_foreign_toplevel_handle_v1_state state = {
		.title = toplevel->impl->get_title(toplevel),
		.app_id = toplevel->impl->get_app_id(toplevel),
	};
	if (toplevel->foreign_handle != NULL) {
		wlr_ext_foreign_toplevel_handle_v1_update_state(toplevel->foreign_handle, &state);
	} else if (toplevel->surface->mapped) {
		toplevel->foreign_handle = wlr_ext_foreign_toplevel_handle_v1_create(
			toplevel->server->foreign_toplevel_list, &state);
		if (toplevel->foreign_handle != NULL) {
			toplevel->foreign_handle->data = toplevel;
		}
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
			if (other->surface->mapped) {
				next = other; // the one that came last
			}
		}
		toplevel_focus(server, next);
	}
	server_arrange_toplevels(server);
}

/** Nothing is drawn of what is behind a locked screen, also if stock protocols capture it. */
static void toplevel_update_capture(struct toplevel *toplevel) {
	wlr_scene_node_set_enabled(&toplevel->capture_scene->tree.node,
		!toplevel->server->lock.locked);
}

void server_update_captures(struct server *server) {
	struct toplevel *toplevel;
	wl_list_for_each(toplevel, &server->toplevels, link) {
		toplevel_update_capture(toplevel);
	}
}

void toplevel_insert(struct toplevel *toplevel) {
	toplevel_update_capture(toplevel);
	if (wl_list_empty(&toplevel->link)) {
		wl_list_insert(toplevel->server->toplevels.prev, &toplevel->link);
	}
	server_arrange_toplevels(toplevel->server);
}

void toplevel_show(struct toplevel *toplevel) {
	toplevel_update(toplevel);
	toplevel_focus(toplevel->server, toplevel);
}

void toplevel_hide(struct toplevel *toplevel) {
	if (toplevel->foreign_handle != NULL) {
		wlr_ext_foreign_toplevel_handle_v1_destroy(toplevel->foreign_handle);
		toplevel->foreign_handle = NULL;
	}
	toplevel_withdraw(toplevel);
}

void toplevel_set_fullscreen(struct toplevel *toplevel, bool fullscreen) {
	toplevel->fullscreen = fullscreen;
	server_arrange_toplevels(toplevel->server);
}

bool toplevel_init(struct toplevel *toplevel, struct server *server,
		const struct toplevel_interface *impl, struct wlr_surface *surface) {
	*toplevel = (struct toplevel){.server = server, .impl = impl, .surface = surface};
	wl_list_init(&toplevel->link);
	toplevel->tree = wlr_scene_tree_create(server->toplevel_tree);
	toplevel->capture_scene = wlr_scene_create();
	if (toplevel->tree == NULL || toplevel->capture_scene == NULL) {
		toplevel_finish(toplevel);
		return false;
	}
	toplevel->tree->node.data = toplevel;
	return true;
}

void toplevel_finish(struct toplevel *toplevel) {
	toplevel_hide(toplevel); // it may have been laid out without being mapped
	if (toplevel->tree != NULL) {
		wlr_scene_node_destroy(&toplevel->tree->node);
	}
	if (toplevel->capture_scene != NULL) {
		wlr_scene_node_destroy(&toplevel->capture_scene->tree.node); // and the source
	}
}

/**
 * What is captured of a window is drawn from a scene of its own, which has nothing that
 * covers it, to an output that wlroots makes for that. Views are of this output's buffers.
 */
static struct wlr_ext_image_capture_source_v1 *toplevel_get_capture_source(
		struct toplevel *toplevel) {
	if (toplevel->capture_source != NULL) {
		return toplevel->capture_source;
	}
	struct server *server = toplevel->server;
	struct wlr_scene *scene = toplevel->capture_scene;
	toplevel->capture_source = wlr_ext_image_capture_source_v1_create_with_scene_node(
		&scene->tree.node, wl_display_get_event_loop(server->display), server->allocator,
		server->renderer);
	if (toplevel->capture_source == NULL || wl_list_empty(&scene->outputs)) {
		return toplevel->capture_source;
	}
	struct wlr_scene_output *scene_output =
		wl_container_of(scene->outputs.next, scene_output, link);
	if (!vitrine_view_manager_v1_add_source(server->view_manager, toplevel->capture_source,
			scene_output->output, &scene->tree.node)) {
		wlr_log(WLR_ERROR, "a window can be captured, but not viewed");
	}
	return toplevel->capture_source;
}

static void server_handle_toplevel_capture(struct wl_listener *listener, void *data) {
	struct wlr_ext_foreign_toplevel_image_capture_source_manager_v1_request *request = data;
	// NULL, if there is no memory, is as for a window that is gone
	wlr_ext_foreign_toplevel_image_capture_source_manager_v1_request_accept(request,
		toplevel_get_capture_source(request->toplevel_handle->data));
}

bool server_init_toplevels(struct server *server) {
	struct wlr_ext_foreign_toplevel_image_capture_source_manager_v1 *source_manager =
		wlr_ext_foreign_toplevel_image_capture_source_manager_v1_create(server->display, 1);
	server->foreign_toplevel_list =
		wlr_ext_foreign_toplevel_list_v1_create(server->display, 1);
	if (source_manager == NULL || server->foreign_toplevel_list == NULL) {
		return false;
	}
	listener_add(&source_manager->events.new_request, &server->listeners.toplevel_capture,
		server_handle_toplevel_capture);
	return true;
}
