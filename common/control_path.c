/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "control_path.h"

bool control_path_get(struct sockaddr_un *address, const char *wayland_display) {
	// As libwayland finds the Wayland socket: only an absolute path is in no runtime directory
	const char *dir = wayland_display[0] == '/' ? "" : getenv("XDG_RUNTIME_DIR");
	const char *slash = strrchr(wayland_display, '/');
	const char *name = slash != NULL ? slash + 1 : wayland_display;
	if (dir == NULL) {
		errno = ENOENT;
		return false;
	}
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s%.*svitrine-%s.control",
		dir, wayland_display[0] == '/' ? "" : "/", (int)(name - wayland_display),
		wayland_display, name);
	if (n < 0 || (size_t)n >= sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	return true;
}
