/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_CAPTURE_SOURCE_H
#define COMPOSITOR_CAPTURE_SOURCE_H

#include <vitrine/view_v1.h>

struct vt_manager;
struct wlr_output;
struct wlr_scene_node;

/**
 * A capture source, such as a window's, whose frames are drawn to an output that
 * exists for nothing else. Nobody sends that output frame events: it is drawn
 * when the capture source is asked to.
 */
struct vt_capture_source {
	struct wl_list link; // vt_manager.capture_sources
	struct vt_manager *manager;
	struct wlr_ext_image_capture_source_v1 *wlr_source;
	struct wlr_output *output;
	struct wlr_scene_node *node; // what is drawn; NULL if not known, or no more
	struct wl_listener destroy;
	struct wl_listener node_destroy;
};

/** The output that the frames of a capture source are drawn to, NULL if none. */
struct wlr_output *vt_manager_find_output(struct vt_manager *manager,
	struct wlr_ext_image_capture_source_v1 *wlr_source);
/** The capture source that an output is there for, NULL if it is an ordinary one. */
struct vt_capture_source *vt_manager_find_capture_source(struct vt_manager *manager,
	const struct wlr_output *output);
void vt_manager_finish_capture_sources(struct vt_manager *manager);

/** Draws a capture source that is viewed, no faster than the screen that shows it. */
struct vt_pacer {
	struct vt_capture_source *capture_source;
	struct wl_event_source *timer;
	bool started; // the capture source is
	bool wants_frame; // even though nothing has changed
	bool armed;
	int64_t due_ns; // when the next frame may be drawn, of CLOCK_MONOTONIC
};

/** NULL on allocation failure. */
struct vt_pacer *vt_pacer_create(struct vt_capture_source *capture_source);
/** Accepts NULL. */
void vt_pacer_destroy(struct vt_pacer *pacer);
/** Asks for a frame even though nothing has changed. */
void vt_pacer_request_frame(struct vt_pacer *pacer);
/** A frame was drawn: the next one is due a period of the screen later. */
void vt_pacer_handle_commit(struct vt_pacer *pacer);

#endif
