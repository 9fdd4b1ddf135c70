/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>

#include "capture_source.h"
#include "manager.h"

static struct vt_capture_source *find_capture_source(struct vt_manager *manager,
		const struct wlr_ext_image_capture_source_v1 *wlr_source) {
	struct vt_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->wlr_source == wlr_source) {
			return capture_source;
		}
	}
	return NULL;
}

struct wlr_output *vt_capture_source_find_output(struct vt_manager *manager,
		struct wlr_ext_image_capture_source_v1 *wlr_source) {
	const struct vt_capture_source *capture_source = find_capture_source(manager, wlr_source);
	return capture_source != NULL ? capture_source->output :
		wlr_output_try_from_ext_image_capture_source_v1(wlr_source);
}

static const char *buffer_get_app_id(struct wlr_scene_buffer *buffer) {
	const struct wlr_scene_surface *scene_surface = wlr_scene_surface_try_from_buffer(buffer);
	const struct wlr_xdg_toplevel *toplevel = scene_surface != NULL ?
		wlr_xdg_toplevel_try_from_wlr_surface(
			wlr_surface_get_root_surface(scene_surface->surface)) : NULL;
	return toplevel != NULL ? toplevel->app_id : NULL;
}

/**
 * The first toplevel among the surfaces: there may be popups and such as well. Not by
 * wlr_scene_node_for_each_buffer(), which leaves out what is not shown just now: a window
 * that is hidden keeps its name, by which it may be denied.
 */
static const char *node_find_app_id(struct wlr_scene_node *node) {
	if (node->type == WLR_SCENE_NODE_BUFFER) {
		return buffer_get_app_id(wlr_scene_buffer_from_node(node));
	} else if (node->type != WLR_SCENE_NODE_TREE) {
		return NULL;
	}
	const char *app_id = NULL;
	struct wlr_scene_node *child;
	wl_list_for_each(child, &wlr_scene_tree_from_node(node)->children, link) {
		app_id = app_id != NULL ? app_id : node_find_app_id(child);
	}
	return app_id;
}

const char *vt_capture_source_find_window(struct vt_manager *manager,
		struct wlr_ext_image_capture_source_v1 *wlr_source) {
	const struct vt_capture_source *capture_source = find_capture_source(manager, wlr_source);
	return capture_source != NULL && capture_source->node != NULL ?
		node_find_app_id(capture_source->node) : NULL;
}

struct vt_capture_source *vt_capture_source_from_output(struct vt_manager *manager,
		const struct wlr_output *output) {
	struct vt_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->output == output) {
			return capture_source;
		}
	}
	return NULL;
}

static void capture_source_destroy(struct vt_capture_source *capture_source) {
	assert(wl_list_empty(&capture_source->events.destroy.listener_list));
	wl_list_remove(&capture_source->destroy.link);
	wl_list_remove(&capture_source->node_destroy.link);
	wl_list_remove(&capture_source->link);
	free(capture_source);
}

/** The window is gone, and the output is about to be. */
static void capture_source_handle_destroy(struct wl_listener *listener, void *data) {
	struct vt_capture_source *capture_source =
		wl_container_of(listener, capture_source, destroy);
	wl_signal_emit_mutable(&capture_source->events.destroy, capture_source);
	capture_source_destroy(capture_source);
}

/** Sources of wlroots go with their node, before this. Others need not. */
static void capture_source_handle_node_destroy(struct wl_listener *listener, void *data) {
	struct vt_capture_source *capture_source =
		wl_container_of(listener, capture_source, node_destroy);
	wl_list_remove(&capture_source->node_destroy.link);
	wl_list_init(&capture_source->node_destroy.link);
	capture_source->node = NULL;
}

bool vitrine_view_manager_v1_add_source(struct vitrine_view_manager_v1 *base,
		struct wlr_ext_image_capture_source_v1 *wlr_source, struct wlr_output *output,
		struct wlr_scene_node *node) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	struct vt_capture_source *capture_source = calloc(1, sizeof(*capture_source));
	if (capture_source == NULL) {
		return false;
	}
	capture_source->manager = manager;
	capture_source->wlr_source = wlr_source;
	capture_source->output = output;
	wl_signal_init(&capture_source->events.destroy);
	capture_source->destroy.notify = capture_source_handle_destroy;
	wl_signal_add(&wlr_source->events.destroy, &capture_source->destroy);
	capture_source->node = node;
	capture_source->node_destroy.notify = capture_source_handle_node_destroy;
	wl_list_init(&capture_source->node_destroy.link);
	if (node != NULL) {
		wl_signal_add(&node->events.destroy, &capture_source->node_destroy);
	}
	wl_list_insert(&manager->capture_sources, &capture_source->link);
	return true;
}

void vt_capture_sources_finish(struct vt_manager *manager) {
	struct vt_capture_source *capture_source, *tmp;
	wl_list_for_each_safe(capture_source, tmp, &manager->capture_sources, link) {
		capture_source_destroy(capture_source);
	}
}
