/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_VIEWED_OUTPUT_H
#define COMPOSITOR_VIEWED_OUTPUT_H

#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "stream.h"

struct vt_pacer;
struct vitrine_view_session_v1;

/** Copies of an output's frames, for sessions without a zero-copy guarantee. */
struct vt_snapshots {
	struct vt_stream stream;
	struct wlr_output *output;
	struct wlr_allocator *allocator; // NULL before the first copy
	struct wlr_swapchain *swapchain; // NULL before the first copy
};

/**
 * An output that is viewed. Exists from the first session to the first frame after
 * the end of the last one, attached to the output, so that an output that nobody
 * views costs nothing. While it stands still, who looks next sees the same frame.
 */
struct vt_viewed_output {
	struct wl_list link; // vt_manager.sources
	struct vt_manager *manager;
	struct wlr_output *output;
	struct wlr_addon addon;
	struct wl_list sessions; // session.link

	struct vt_stream direct; // the output's own buffers
	struct vt_snapshots snapshots;

	struct vt_pacer *pacer; // NULL unless it draws a capture source that is viewed
	struct wl_listener capture_source_destroy;

	size_t n_unattached; // sessions without a stream, which the next frame decides

	struct wl_listener output_commit;
	struct wl_listener output_present;

	/** Ends and moves of sessions that may not happen inside of a commit. */
	struct wl_event_source *deferred; // NULL if there is nothing to do
	bool wants_deferred; // there is, but it could not be scheduled

	/** Frames in a row in buffers of ours that were not the output's own (yet). */
	uint32_t n_foreign;
};

/**
 * The source of an output, made if needed. NULL on allocation failure.
 */
struct vt_viewed_output *vt_viewed_output_get(struct vt_manager *manager, struct wlr_output *output);

/** Starts delivering frames to the session. False on allocation failure. */
bool vt_viewed_output_add_session(struct vt_viewed_output *source, struct vitrine_view_session_v1 *session);
/**
 * Stops delivering, and sees to it that what the session can reach never changes
 * again.
 */
void vt_viewed_output_remove_session(struct vt_viewed_output *source, struct vitrine_view_session_v1 *session);

/** Asks the output for a frame even though nothing has changed. */
void vt_viewed_output_request_frame(struct vt_viewed_output *source);

/** Stops all sessions. */
void vt_viewed_output_stop_sessions(struct vt_viewed_output *source,
	enum vitrine_view_stop_reason reason);
/** Stops all sessions, and frees the source. */
void vt_viewed_output_destroy(struct vt_viewed_output *source, enum vitrine_view_stop_reason reason);

/** Work on sessions that has to wait for the end of the commit. */
void vt_viewed_output_defer(struct vt_viewed_output *source);

/** The stream's frames are requested by `impl`. Finish it also on failure. */
bool vt_snapshots_init(struct vt_snapshots *snapshots, struct vt_manager *manager,
	struct wlr_output *output, const struct vt_stream_interface *impl, void *data);
void vt_snapshots_finish(struct vt_snapshots *snapshots);
/** Copies a committed frame if a session can take it, and delivers the copy. */
void vt_snapshots_push(struct vt_snapshots *snapshots,
	const struct wlr_output_event_commit *event, const pixman_region32_t *damage);
/** Drops what was kept for sessions, of which there are none. */
void vt_snapshots_forget(struct vt_snapshots *snapshots);
/** Sees to it that no announced copy is drawn to again. */
void vt_snapshots_retire(struct vt_snapshots *snapshots);

#endif
