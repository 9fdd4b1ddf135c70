/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_STEP_H
#define CAPTURE_STEP_H

#include "stream_buffer.h"

/** The newest two, and one that is about to go. */
#define VT_STEP_FRAMES_CAP 3

/**
 * What subscribers with implicit release may look at. They are in step: all of them are
 * sent the same frames at the same time. "A frame stays unchanged until the second
 * frame event after it has been sent": so the last two frames are kept, once for
 * all of them.
 */
struct vt_step {
	struct vt_stream_buffer *buffers[VT_STEP_FRAMES_CAP]; // the newest first; NULL: none
	uint64_t seq; // of the first frame
};

/**
 * Keeps one more frame, which is about to be sent to all. The one that was kept
 * first may be drawn to after vt_step_end().
 */
void vt_step_begin(struct vt_step *step, const struct vt_stream_frame *frame);
/** The frame was sent to all. */
void vt_step_end(struct vt_step *step);
/** Keeps nothing any more: nobody looks, or what was kept is not drawn to again. */
void vt_step_forget(struct vt_step *step);

#endif
