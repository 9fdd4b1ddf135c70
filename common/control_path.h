/* SPDX-License-Identifier: MIT */
#ifndef CONTROL_PATH_H
#define CONTROL_PATH_H

#include <stdbool.h>
#include <sys/un.h>

/**
 * The address of a compositor's control socket: vitrine-NAME.control beside the Wayland
 * socket NAME, which is below $XDG_RUNTIME_DIR unless it is an absolute path. Returns false, and sets
 * errno, if that is not set or if the path is too long.
 */
bool control_path_get(struct sockaddr_un *address, const char *wayland_display);

#endif
