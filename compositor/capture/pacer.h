/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_PACER_H
#define CAPTURE_PACER_H

struct vt_capture_source;

/** Draws a capture source that is viewed, no faster than the screen that shows it. */
struct vt_pacer;

/** NULL on allocation failure. */
struct vt_pacer *vt_pacer_create(struct vt_capture_source *capture_source);
/** Accepts NULL. */
void vt_pacer_destroy(struct vt_pacer *pacer);
/** The capture source goes away: it is not drawn any more, and too late to stop it. */
void vt_pacer_forget_source(struct vt_pacer *pacer);
/** Asks for a frame even though nothing has changed. */
void vt_pacer_request_frame(struct vt_pacer *pacer);
/** A frame was drawn: the next one is due a period of the screen later. */
void vt_pacer_handle_commit(struct vt_pacer *pacer);

#endif
