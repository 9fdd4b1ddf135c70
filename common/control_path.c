/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "control_path.h"

bool control_path_get(struct sockaddr_un *address, const char *wayland_display) {
	const char *dir = getenv("XDG_RUNTIME_DIR");
	const char *slash = strrchr(wayland_display, '/');
	int dir_len = slash != NULL ? (int)(slash - wayland_display) :
		dir != NULL ? (int)strlen(dir) : -1;
	if (dir_len < 0) {
		errno = ENOENT;
		return false;
	}
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%.*s/vitrine-%s.control",
		dir_len, slash != NULL ? wayland_display : dir,
		slash != NULL ? slash + 1 : wayland_display);
	if (n < 0 || (size_t)n >= sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	return true;
}
