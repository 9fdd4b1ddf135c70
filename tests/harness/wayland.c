/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wayland-client-protocol.h>

#include "wayland.h"

void die_with(int status, const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	exit(status);
}

struct wl_display *wayland_connect(void) {
	struct wl_display *display = wl_display_connect(NULL);
	if (display == NULL) {
		die("cannot connect to the compositor: %s", strerror(errno));
	}
	return display;
}

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	for (struct wayland_global *global = data; global->interface != NULL; global++) {
		if (strcmp(interface, global->interface->name) == 0) {
			global->name = name;
			global->offered_version = version;
		}
	}
}

IGNORE_EVENT(registry_handle_global_remove, struct wl_registry *registry, uint32_t name)

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

void wayland_bind(struct wl_display *display, int status_if_missing,
		struct wayland_global *globals) {
	struct wl_registry *registry = wl_display_get_registry(display);
	wl_registry_add_listener(registry, &registry_listener, globals);
	if (wl_display_roundtrip(display) < 0) {
		die("lost the connection: %s", strerror(wl_display_get_error(display)));
	}
	// Only now, so that no event of theirs comes before the caller listens
	for (struct wayland_global *global = globals; global->interface != NULL; global++) {
		if (global->name == 0) {
			die_with(status_if_missing, "the compositor has no %s here",
				global->interface->name);
		}
		void *proxy = wl_registry_bind(registry, global->name, global->interface,
			global->offered_version < global->version ?
				global->offered_version : global->version);
		memcpy(global->target, &proxy, sizeof(proxy));
	}
	// Not to be dispatched for every global that comes later
	wl_registry_destroy(registry);
}
