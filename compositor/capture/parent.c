/* SPDX-License-Identifier: MIT */
#include <wayland-client-protocol.h>
#include <wlr/backend/wayland.h>
#include <wlr/config.h>
#include <wlr/types/wlr_output.h>
#if WLR_HAS_X11_BACKEND
#include <wlr/backend/x11.h>
#endif

#include "parent.h"

static void parent_send(struct vt_parent *parent);

static void callback_handle_done(void *data, struct wl_callback *callback, uint32_t serial) {
	struct vt_parent *parent = data;
	wl_callback_destroy(parent->callback);
	parent->callback = NULL;
	uint32_t seq = parent->answered_seq = parent->asked_seq;
	if (parent->latest_seq != seq) {
		parent_send(parent);
	}
	parent->handle_done(parent, seq);
}

static const struct wl_callback_listener callback_listener = {
	.done = callback_handle_done,
};

/** On the queue of the backend, which dispatches it. Without memory, it is asked later. */
static void parent_send(struct vt_parent *parent) {
	struct wl_display *display = wlr_wl_backend_get_remote_display(parent->output->backend);
	parent->asked_seq = parent->latest_seq;
	parent->callback = wl_display_sync(display);
	if (parent->callback != NULL) {
		wl_callback_add_listener(parent->callback, &callback_listener, parent);
		wl_display_flush(display); // what does not fit goes with the next request
	}
}

void vt_parent_init(struct vt_parent *parent, struct wlr_output *output,
		void (*handle_done)(struct vt_parent *parent, uint32_t commit_seq)) {
	*parent = (struct vt_parent){ .output = output, .handle_done = handle_done };
}

void vt_parent_finish(struct vt_parent *parent) {
	if (parent->callback != NULL) {
		wl_callback_destroy(parent->callback);
		parent->callback = NULL;
	}
}

bool vt_parent_exists(const struct vt_parent *parent) {
#if WLR_HAS_X11_BACKEND
	if (wlr_output_is_x11(parent->output)) {
		return true;
	}
#endif
	return wlr_output_is_wl(parent->output);
}

void vt_parent_handle_present(struct vt_parent *parent, uint32_t commit_seq) {
	if (!wlr_output_is_wl(parent->output)) {
		parent->handle_done(parent, commit_seq);
	} else if (parent->callback == NULL && parent->asked_seq != parent->answered_seq) {
		parent_send(parent); // there was no memory for the question
	}
}

void vt_parent_ask(struct vt_parent *parent, uint32_t commit_seq) {
	if (!wlr_output_is_wl(parent->output)) {
		return; // an X server presents each commit
	}
	parent->latest_seq = commit_seq;
	if (parent->callback == NULL) {
		parent_send(parent);
	}
}
