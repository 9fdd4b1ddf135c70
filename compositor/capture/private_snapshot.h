/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_PRIVATE_SNAPSHOT_H
#define CAPTURE_PRIVATE_SNAPSHOT_H

#include "snapshot.h"

/**
 * Snapshots in memfds for the sessions of the subscriber's holder alone, which pays for them
 * with its own quota: for those that there is no room for in what several holders share. So
 * many bytes for each copy. NULL for lack of resources or quota.
 */
struct vt_snapshots *vt_private_snapshots_create(struct vt_manager *manager,
	struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
	struct vt_subscriber *subscriber, size_t size, const struct vt_stream_interface *impl,
	void *data);
/**
 * Snapshots for one subscriber alone, which reads them by a device: a dma-buf that two
 * clients share could be written to by either. From here on its holder pays for them, also
 * if it leaves before its first frame.
 *
 * On failure NULL, with the reason to stop the subscriber by: the renderer draws with no
 * device, the subscriber reads none of the formats that it can have, or may have no more.
 */
struct vt_snapshots *vt_given_snapshots_create(struct vt_manager *manager,
	struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
	struct vt_subscriber *subscriber, const struct vt_stream_interface *impl,
	void *data, enum vitrine_view_stop_reason *reason);
/** Of both. The subscribers must have left. */
void vt_private_snapshots_destroy(struct vt_snapshots *snapshots);

#endif
