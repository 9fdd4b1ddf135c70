/* SPDX-License-Identifier: MIT */
#ifndef FENCE_FAKE_H
#define FENCE_FAKE_H

#include <stdbool.h>

/*
 * What stands in for a renderer that has only flushed: an eventfd as the fence. For
 * tests that are linked with --wrap=vt_render_fence.
 */

/** Frames from now on are not finished. */
void begin_fence(void);
/** All frames since begin_fence() are finished, and those from now on are at once. */
void signal_fence(void);
/** Whether there is no telling when frames from now on are finished. */
void fail_fences(bool fail);

#endif
