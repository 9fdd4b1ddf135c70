/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_GBM_BUFFER_H
#define MEMORY_GBM_BUFFER_H

struct wlr_allocator;

/**
 * An allocator of buffers that the driver of a DRM device lays out, in any of its
 * modifiers. The first export of each is read-only, which later exports cannot undo;
 * a buffer of which that is not so is not given out.
 *
 * The node of `borrowed_drm_fd` is opened anew. NULL on failure, with an error in the
 * log. The buffers may outlive the allocator.
 */
struct wlr_allocator *vt_gbm_allocator_create(int borrowed_drm_fd);

#endif
