/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_GBM_BUFFER_H
#define MEMORY_GBM_BUFFER_H

#include <stdbool.h>

struct wlr_allocator;

/**
 * An allocator of buffers that the driver of a DRM device lays out, in any of its
 * modifiers. The first export of each is read-only, which later exports cannot undo;
 * a buffer of which that is not so is not given out.
 *
 * Where `is_for_display` is true they can be scanned out, and are in the layout that is
 * best to draw to, even if the driver does not tell which one it is.
 *
 * The node of `borrowed_drm_fd` is opened anew. NULL on failure, with an error in the
 * log. The buffers may outlive the allocator.
 */
struct wlr_allocator *vt_gbm_allocator_create(int borrowed_drm_fd, bool is_for_display);

#endif
