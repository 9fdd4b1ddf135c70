/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_HANGUP_H
#define PLUGIN_HANGUP_H

#include <wayland-server-core.h>

/**
 * SIGHUP, which belongs to the compositor: if it handles that by libwayland, we hear of it
 * first, and then it does; if it leaves it alone, which would end it, we handle it; if it
 * handles it by itself, it stays as it is.
 */

/** How hangups reach us. */
enum hangup_owner {
	HANGUP_OURS, // the compositor has no use for it
	HANGUP_SHARED, // the compositor is told after us
	HANGUP_FOREIGN, // the compositor keeps it: we hear nothing
};

/** `handle` is called by the event loop. */
enum hangup_owner hangup_listen(struct wl_event_loop *loop, void (*handle)(void));
void hangup_finish(void);

/**
 * In the place of wl_event_loop_add_signal() for SIGHUP. `add` is the real one. Only the
 * first that the compositor adds is shared.
 */
struct wl_event_source *hangup_add_signal(struct wl_event_loop *loop,
	wl_event_loop_signal_func_t func, void *data,
	struct wl_event_source *(*add)(struct wl_event_loop *loop, int signal_number,
		wl_event_loop_signal_func_t func, void *data));

#endif
