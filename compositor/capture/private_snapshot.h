/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_PRIVATE_SNAPSHOT_H
#define CAPTURE_PRIVATE_SNAPSHOT_H

#include "snapshot.h"

/**
 * Snapshots for one subscriber alone, which reads them by a device: a dma-buf that two
 * clients share could be written to by either. NULL if the renderer draws with no
 * device, the subscriber reads none of the formats that it can have, or on failure.
 */
struct vt_snapshots *vt_private_snapshots_create(struct vt_manager *manager,
	struct wlr_output *output, const struct vt_subscriber *subscriber,
	const struct vt_stream_interface *impl, void *data);
/** The subscriber must have left. */
void vt_private_snapshots_destroy(struct vt_snapshots *snapshots);

#endif
