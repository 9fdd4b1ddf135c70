/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_VIEWED_OUTPUT_H
#define CAPTURE_VIEWED_OUTPUT_H

#include "painted_cursors.h"
#include "parent.h"
#include "snapshot.h"
#include "stream.h"

struct vt_pacer;

/**
 * An output that is viewed. Exists from the first subscriber to the first frame after
 * the end of the last one, attached to the output, so that an output that is not
 * viewed costs nothing. While it stands still, the next one sees the same frame.
 */
struct vt_viewed_output {
	struct wl_list link; // vt_manager.viewed_outputs
	struct vt_manager *manager;
	struct wlr_output *output;
	struct wlr_addon addon;
	struct wl_list subscribers; // vt_subscriber.output_link
	size_t n_unattached; // of these, whose stream the next frame decides

	struct vt_quota_screen screen; // in no list if a capture source is drawn to it
	struct vt_painted_cursors cursors;
	struct vt_parent parent;
	struct vt_stream direct; // the output's own buffers
	struct vt_snapshots_common snapshots_common;
	struct vt_snapshots snapshots; // in memfds, which all that want them share
	struct wl_list private_snapshots; // vt_snapshots.link, for one subscriber each

	/** NULL unless the output draws a capture source, and has subscribers. */
	struct vt_pacer *pacer;
	struct wl_listener capture_source_destroy;

	struct wl_listener output_commit;
	struct wl_listener output_present;

	/** Ends and moves of subscribers that may not happen inside of a commit. */
	struct wl_event_source *deferred; // NULL if there is nothing to do
	bool wants_deferred; // there is, but it could not be scheduled

	/** Frames in a row in buffers of ours that were not the output's own (yet). */
	uint32_t n_foreign;
	/** Times that a holder's fence would have held the output's drawing up. */
	uint32_t n_fences_found;
};

/**
 * The viewed output of an output, made if needed. NULL on allocation failure.
 */
struct vt_viewed_output *vt_viewed_output_get(struct vt_manager *manager,
	struct wlr_output *output);
/** Stops all subscribers, and frees it. */
void vt_viewed_output_destroy(struct vt_viewed_output *viewed,
	enum vitrine_view_stop_reason reason);

/**
 * Delivers frames from now on. The first one is asked for from the event loop, unless
 * memory is short. False on allocation failure.
 */
bool vt_viewed_output_add_subscriber(struct vt_viewed_output *viewed,
	struct vt_subscriber *subscriber);
/** Tells the client of a subscriber if the output is off, or is on again. */
void vt_viewed_output_announce_power(const struct vt_viewed_output *viewed,
	struct vt_subscriber *subscriber);
/**
 * Stops delivering, and sees to it that what the client can reach never changes
 * again. The subscriber is APART then.
 */
void vt_viewed_output_remove_subscriber(struct vt_viewed_output *viewed,
	struct vt_subscriber *subscriber);
/** Stops a subscriber once the commit is over. */
void vt_viewed_output_stop_later(struct vt_viewed_output *viewed,
	struct vt_subscriber *subscriber, enum vitrine_view_stop_reason reason);
/** Chooses the stream of a subscriber that is attached anew, once the commit is over. */
void vt_viewed_output_move_later(struct vt_viewed_output *viewed,
	struct vt_subscriber *subscriber);

/**
 * Takes away buffers that the output would have to wait for, since a holder has put a
 * fence on them. Not inside of a commit.
 */
void vt_viewed_output_check_fences(struct vt_viewed_output *viewed);

/** Asks the output for a frame even though nothing has changed. */
void vt_viewed_output_request_frame(struct vt_viewed_output *viewed);

#endif
