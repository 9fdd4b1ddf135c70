/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_SNAPSHOT_H
#define CAPTURE_SNAPSHOT_H

#include <wlr/render/drm_format_set.h>
#include <wlr/types/wlr_output.h>

#include "copier.h"
#include "quota.h"
#include "stream.h"

/** What all copies of an output have in common. Zero at first. */
struct vt_snapshots_common {
	struct wlr_allocator *allocator; // of private dma-bufs, NULL before the first one
	struct wlr_allocator *memfd_allocator; // of all copies in memfds, NULL before the first one
	/**
	 * The buffer of the output that is read, NULL if none is: no more than one at a time
	 * is kept from it, however many copies there are, and however long they take.
	 */
	const struct wlr_buffer *source;
	size_t n_readers; // copies that read it
	bool was_missed; // a frame was lost since another one was read
};

/**
 * Copies of an output's frames, for subscribers without a zero-copy guarantee. What a GPU
 * has drawn is copied by a thread. Frames that come meanwhile are lost, and another
 * one is asked for after it.
 */
struct vt_snapshots {
	struct wl_list link; // vt_viewed_output.private_snapshots, of private ones
	struct vt_stream stream;
	struct wlr_output *output;
	struct vt_snapshots_common *common; // borrowed
	struct wlr_allocator *allocator; // of given ones, borrowed; else NULL
	struct wlr_swapchain *swapchain; // NULL before the first copy
	struct wlr_drm_format format; // of given ones
	struct vt_charge charge; // VT_QUOTA_PRIVATE_BYTES, of given ones, which always have it
	struct vt_charge copier_charge; // VT_QUOTA_COPIERS, of private ones

	struct vt_copier *copier; // NULL before it is needed
	bool copier_has_started;
	bool has_no_copier; // there is none that can: the renderer copies
	bool must_replace; // a holder has left fences on a buffer
	uint32_t n_failures; // of the copier, one after the other
	bool reads_source; // is one of the common readers
	/** What is copied to, NULL if nothing is; it may be gone. */
	const struct vt_stream_buffer *copying_to;
};

/** The stream's frames are requested by `impl`. Finish it also on failure. */
bool vt_snapshots_init(struct vt_snapshots *snapshots, struct vt_manager *manager,
	struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
	const struct vt_stream_interface *impl, void *data);
void vt_snapshots_finish(struct vt_snapshots *snapshots);
/** After the last of the snapshots. */
void vt_snapshots_common_finish(struct vt_snapshots_common *common);
/** Whether an output's frame is to be asked for, which a copy has missed. Once. */
bool vt_snapshots_common_take_missed(struct vt_snapshots_common *common);

/**
 * Charges a subscriber for private snapshots of this size. False if it has no room; nothing
 * is charged then.
 */
bool vt_snapshots_charge(struct vt_snapshots *snapshots, struct vt_quota *quota, int width,
	int height);

/** The snapshots that a stream with `is_copy` is of. */
struct vt_snapshots *vt_snapshots_from_stream(struct vt_stream *stream);

/** Copies a committed frame if a subscriber can take it, and delivers the copy. */
void vt_snapshots_push(struct vt_snapshots *snapshots,
	const struct wlr_output_event_commit *event, const pixman_region32_t *damage);
/** Drops what was kept for subscribers, of which there are none. */
void vt_snapshots_forget(struct vt_snapshots *snapshots);
/**
 * Whether a frame would be copied by the event loop, for one holder alone: of those there is
 * one with each frame of the output, so that no number of them costs more.
 */
bool vt_snapshots_need_turn(const struct vt_snapshots *snapshots, struct wlr_buffer *source);
/** Accounts for a frame that is not copied. */
void vt_snapshots_skip(struct vt_snapshots *snapshots, const pixman_region32_t *damage);
/** Sees to it that no copy which was announced is drawn to again: see vt_stream_retire(). */
void vt_snapshots_retire(struct vt_snapshots *snapshots, const struct vt_subscriber *leaver,
	struct vt_quota *cause);

#endif
