/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_TRIAL_H
#define MEMORY_TRIAL_H

#include <stdbool.h>
#include <wayland-server-core.h>

struct wlr_backend;
struct wlr_buffer;
struct wlr_renderer;

/**
 * Finds out whether a renderer and a backend can use a buffer, by using it: what
 * drivers say of themselves is not what they do.
 */
struct vt_trial {
	struct wlr_backend *backend; // NULL once it is destroyed
	struct wlr_renderer *renderer; // likewise
	int display_fd; // of the DRM device that shows the buffers, borrowed; -1 if none does
	struct wl_list outputs; // trial_output.link, those that a DRM device shows

	/** There is another output: what was found out may not be true for it. */
	struct wl_signal changed;

	struct wl_listener new_output;
	struct wl_listener backend_destroy;
	struct wl_listener renderer_destroy;
};

void vt_trial_init(struct vt_trial *trial, struct wlr_backend *backend,
	struct wlr_renderer *renderer);
void vt_trial_finish(struct vt_trial *trial);

/** NULL if the renderer and the display can import the buffer; else a phrase that says why not. */
const char *vt_trial_import(const struct vt_trial *trial, struct wlr_buffer *buffer);
/**
 * NULL if all outputs that have the buffer's size, or else all that can have it, pass a test
 * commit with it, as far as there are any; else a phrase that says why not.
 */
const char *vt_trial_commit(const struct vt_trial *trial, struct wlr_buffer *buffer);
/** Whether an output that is known can have this size. */
bool vt_trial_has_output(const struct vt_trial *trial, int width, int height);

#endif
