/* SPDX-License-Identifier: MIT */
/**
 * Locks the screen and takes it back in one breath, which is a protocol error that
 * ends the client: usage: locker
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wayland-client.h>

#include "ext-session-lock-v1-client-protocol.h"

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct ext_session_lock_manager_v1 **manager = data;
	if (strcmp(interface, ext_session_lock_manager_v1_interface.name) == 0) {
		*manager = wl_registry_bind(registry, name, &ext_session_lock_manager_v1_interface, 1);
	}
}

static void registry_handle_global_remove(void *data, struct wl_registry *registry,
		uint32_t name) {
}

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

int main(void) {
	struct wl_display *display = wl_display_connect(NULL);
	if (display == NULL) {
		fprintf(stderr, "locker: no compositor\n");
		return EXIT_FAILURE;
	}
	struct ext_session_lock_manager_v1 *manager = NULL;
	struct wl_registry *registry = wl_display_get_registry(display);
	wl_registry_add_listener(registry, &registry_listener, &manager);
	if (wl_display_roundtrip(display) < 0 || manager == NULL) {
		fprintf(stderr, "locker: no ext_session_lock_manager_v1\n");
		return EXIT_FAILURE;
	}
	ext_session_lock_v1_destroy(ext_session_lock_manager_v1_lock(manager));
	if (wl_display_roundtrip(display) >= 0 || wl_display_get_error(display) != EPROTO) {
		fprintf(stderr, "locker: the compositor does not mind\n");
		return EXIT_FAILURE;
	}
	wl_display_disconnect(display);
	return EXIT_SUCCESS;
}
