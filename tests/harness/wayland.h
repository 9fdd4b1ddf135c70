/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_WAYLAND_H
#define HARNESS_WAYLAND_H

#include <stdint.h>
#include <stdlib.h>
#include <wayland-client-core.h>

/** What programs share that are small Wayland clients. */

/** Ends the program with this status, and with a message. */
_Noreturn void die_with(int status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/** Ends the program as failed. */
#define die(...) die_with(EXIT_FAILURE, __VA_ARGS__)

/** An object that a compositor offers to its clients. */
struct wayland_global {
	const struct wl_interface *interface;
	uint32_t version; // the highest that the client knows
	void *target; // the address of the pointer to the proxy
	uint32_t name, offered_version; // for wayland_bind(): 0
};

/** Connects as the environment says; ends the program if that fails. */
struct wl_display *wayland_connect(void);
/**
 * Binds these objects, of which the last is {0}. Ends the program with this status if the
 * compositor does not offer one of them. Their events come with the next dispatch.
 */
void wayland_bind(struct wl_display *display, int status_if_missing,
	struct wayland_global *globals);

/** Defines the handler of an event that does not matter: its name, the object, the arguments. */
#define IGNORE_EVENT(handler, ...) \
	static void handler(void *data, __VA_ARGS__) { \
	}

#endif
