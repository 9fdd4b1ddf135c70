/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_PAINTED_CURSORS_H
#define CAPTURE_PAINTED_CURSORS_H

#include <stddef.h>

struct wlr_output;
struct wlr_output_cursor;

/**
 * Sessions that want an output's cursors in its pixels: wlroots draws them there then, rather
 * than having the display show one. It leaves them there when the last of these sessions ends,
 * until the compositor chooses another image for the cursor. So the one that the display showed
 * before is given back to it: a still screen would show others the cursor of a session that has
 * ended.
 */
struct vt_painted_cursors {
	struct wlr_output *output;
	size_t n_locks;
	/** What the display showed before the first lock; it may be gone. NULL if nothing. */
	const struct wlr_output_cursor *displayed;
};

void vt_painted_cursors_init(struct vt_painted_cursors *cursors, struct wlr_output *output);
/** From here on until as many unlocks the output's cursors are in its pixels. */
void vt_painted_cursors_lock(struct vt_painted_cursors *cursors);
/**
 * With the last one the display gets its cursor back, if it is still there: the output asks for a
 * frame then. For lack of resources the cursor stays in the pixels. Not while the output commits.
 */
void vt_painted_cursors_unlock(struct vt_painted_cursors *cursors);
/** Nothing is given back any more for what is locked now. */
void vt_painted_cursors_forget(struct vt_painted_cursors *cursors);

#endif
