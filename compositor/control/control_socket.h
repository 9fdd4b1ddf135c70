/* SPDX-License-Identifier: MIT */
#ifndef CONTROL_CONTROL_SOCKET_H
#define CONTROL_CONTROL_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct vitrine_view_manager_v1;
struct wl_event_loop;

/** Room for what is wrong, in one line. */
#define CONTROL_ERROR_SIZE 512

/** Connections at a time. Beyond that the one that was silent for the longest goes. */
#define CONTROL_PEERS_CAP 8

struct control_options {
	struct wl_event_loop *loop;
	struct vitrine_view_manager_v1 *manager;
	/** The Wayland socket that the control socket is named after, as in WAYLAND_DISPLAY. */
	const char *wayland_display;
	/**
	 * Reads the policy file again. Returns false and says why if the old policy stays.
	 * NULL if there is no file.
	 */
	bool (*reload)(void *data, char error[static CONTROL_ERROR_SIZE]);
	void *data; // of reload
};

/**
 * The control socket: lists sessions and stops them, for processes of the compositor's
 * user. See vitrine(1). It goes with the manager.
 *
 * Returns false and says why if there is none. A socket that was left behind is replaced,
 * but not one that another process listens on.
 */
bool control_socket_create(const struct control_options *options, char error[static CONTROL_ERROR_SIZE]);

#endif
