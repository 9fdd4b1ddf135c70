/* SPDX-License-Identifier: MIT */
/**
 * Locks the screen and takes it back in one breath, which is a protocol error that
 * ends the client: usage: locker
 */
#include <errno.h>
#include <stdlib.h>

#include "ext-session-lock-v1-client-protocol.h"
#include "wayland.h"

int main(void) {
	struct wl_display *display = wayland_connect();
	struct ext_session_lock_manager_v1 *manager;
	wayland_bind(display, EXIT_FAILURE, (struct wayland_global[]){
		{ &ext_session_lock_manager_v1_interface, 1, &manager }, { 0 } });
	ext_session_lock_v1_destroy(ext_session_lock_manager_v1_lock(manager));
	if (wl_display_roundtrip(display) >= 0 || wl_display_get_error(display) != EPROTO) {
		die("the compositor does not mind");
	}
	wl_display_disconnect(display);
	return EXIT_SUCCESS;
}
