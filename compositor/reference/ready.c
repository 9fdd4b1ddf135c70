/* SPDX-License-Identifier: MIT */
/* Tells that clients can connect and see an output. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "server.h"

/** As of sd_notify(3): one datagram. A name that begins with '@' is abstract. */
static void notify_service_manager(void) {
	static const char ready[] = "READY=1";
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (name == NULL || (name[0] != '/' && name[0] != '@') ||
			strlen(name) >= sizeof(address.sun_path)) {
		return;
	}
	strcpy(address.sun_path, name);
	if (name[0] == '@') {
		address.sun_path[0] = '\0';
	}
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, ready, strlen(ready), MSG_NOSIGNAL | MSG_DONTWAIT,
			(const struct sockaddr *)&address, len) < 0) {
		wlr_log_errno(WLR_ERROR, "cannot tell %s", name);
	}
	if (fd >= 0) {
		close(fd);
	}
}

static bool server_has_output(const struct server *server) {
	const struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		if (!wlr_box_empty(&output->box)) {
			return true;
		}
	}
	return false;
}

void server_tell_if_ready(struct server *server) {
	if (server->ready_told || server->socket == NULL || !server_has_output(server)) {
		return;
	}
	server->ready_told = true;
	int fd = server->options->ready_fd;
	if (fd >= 0) {
		if (dprintf(fd, "%s\n", server->socket) < 0) {
			wlr_log_errno(WLR_ERROR, "cannot write to file descriptor %d", fd);
		}
		close(fd); // for readers that wait for the end
	}
	notify_service_manager();
}
