/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_PARENT_H
#define CAPTURE_PARENT_H

#include <stdbool.h>
#include <stdint.h>

struct wl_callback;
struct wlr_output;

/**
 * The display server around a nested output, which maps the buffers that are committed,
 * for writing as well: none may be sealed before. An X server tells when it has shown a
 * commit. A Wayland compositor may not: it need not show one without damage, and if its
 * clock is another one, wlroots says that it was shown before it was even sent. So it is
 * asked: it has mapped all that was sent before the question that it answers.
 */
struct vt_parent {
	struct wlr_output *output;
	struct wl_callback *callback; // NULL unless a question is under way
	uint32_t asked_seq; // the last commit before that question
	uint32_t answered_seq;
	uint32_t latest_seq; // the last commit to ask about

	/** The display server has handled this commit, and those before. */
	void (*handle_done)(struct vt_parent *parent, uint32_t commit_seq);
};

void vt_parent_init(struct vt_parent *parent, struct wlr_output *output,
	void (*handle_done)(struct vt_parent *parent, uint32_t commit_seq));
void vt_parent_finish(struct vt_parent *parent);

/** Whether there is a display server around the output. */
bool vt_parent_exists(const struct vt_parent *parent);
/** The output says that it has shown a commit. */
void vt_parent_handle_present(struct vt_parent *parent, uint32_t commit_seq);
/** Asks about the output's last commit, if the display server can be asked. */
void vt_parent_ask(struct vt_parent *parent, uint32_t commit_seq);

#endif
