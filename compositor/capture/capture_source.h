/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_CAPTURE_SOURCE_H
#define CAPTURE_CAPTURE_SOURCE_H

#include <vitrine/view_v1.h>

struct vt_manager;
struct wlr_output;
struct wlr_scene_node;

/**
 * A capture source, such as a window's, whose frames are drawn to an output that
 * exists for nothing else. That output gets no frame events: it is drawn when the
 * capture source is asked to.
 */
struct vt_capture_source {
	struct wl_list link; // vt_manager.capture_sources
	struct vt_manager *manager;
	struct wlr_ext_image_capture_source_v1 *wlr_source;
	struct wlr_output *output;
	struct wlr_scene_node *node; // what is drawn; NULL if not known, or no more
	struct wl_listener destroy;
	struct wl_listener node_destroy;

	struct {
		/** It goes away: struct vt_capture_source. */
		struct wl_signal destroy;
	} events;
};

/** The output that the frames of a capture source are drawn to, NULL if none. */
struct wlr_output *vt_capture_source_find_output(struct vt_manager *manager,
	struct wlr_ext_image_capture_source_v1 *wlr_source);
/**
 * The app-id of the window that a capture source shows, NULL if it is none or not known.
 * Valid until the window changes it.
 */
const char *vt_capture_source_find_window(struct vt_manager *manager,
	struct wlr_ext_image_capture_source_v1 *wlr_source);
/** The capture source that an output is there for, NULL if it is an ordinary one. */
struct vt_capture_source *vt_capture_source_from_output(struct vt_manager *manager,
	const struct wlr_output *output);
void vt_capture_sources_finish(struct vt_manager *manager);

#endif
