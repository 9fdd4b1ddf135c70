/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_SNAPSHOT_H
#define CAPTURE_SNAPSHOT_H

#include <wlr/types/wlr_output.h>

#include "stream.h"

/** Copies of an output's frames, for subscribers without a zero-copy guarantee. */
struct vt_snapshots {
	struct vt_stream stream;
	struct wlr_output *output;
	struct wlr_allocator *allocator; // NULL before the first copy
	struct wlr_swapchain *swapchain; // NULL before the first copy
};

/** The stream's frames are requested by `impl`. Finish it also on failure. */
bool vt_snapshots_init(struct vt_snapshots *snapshots, struct vt_manager *manager,
	struct wlr_output *output, const struct vt_stream_interface *impl, void *data);
void vt_snapshots_finish(struct vt_snapshots *snapshots);

/** Copies a committed frame if a subscriber can take it, and delivers the copy. */
void vt_snapshots_push(struct vt_snapshots *snapshots,
	const struct wlr_output_event_commit *event, const pixman_region32_t *damage);
/** Drops what was kept for subscribers, of which there are none. */
void vt_snapshots_forget(struct vt_snapshots *snapshots);
/** Sees to it that no announced copy is drawn to again. */
void vt_snapshots_retire(struct vt_snapshots *snapshots);

#endif
