/* SPDX-License-Identifier: MIT */

#include "step.h"

static void step_drop(struct vt_step *step, size_t i) {
	struct vt_stream_buffer *buffer = step->buffers[i];
	step->buffers[i] = NULL;
	if (buffer != NULL) {
		vt_stream_buffer_unkeep(buffer);
	}
}

void vt_step_begin(struct vt_step *step, const struct vt_stream_frame *frame) {
	if (step->seq == frame->seq && step->buffers[0] != NULL) {
		return; // a subscriber has joined those that have it already
	}
	vt_stream_buffer_keep(frame->buffer); // before one goes, which may be the same
	vt_step_end(step);
	for (size_t i = VT_STEP_FRAMES_CAP - 1; i > 0; i--) {
		step->buffers[i] = step->buffers[i - 1];
	}
	step->buffers[0] = frame->buffer;
	step->seq = frame->seq;
}

void vt_step_end(struct vt_step *step) {
	step_drop(step, VT_STEP_FRAMES_CAP - 1);
}

void vt_step_forget(struct vt_step *step) {
	for (size_t i = 0; i < VT_STEP_FRAMES_CAP; i++) {
		step_drop(step, i);
	}
}
