/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hook.h"

bool hook_init(struct hook *hook, int take_fd) {
	int type;
	socklen_t len = sizeof(type);
	*hook = (struct hook){ .fd = -1 };
	if (getsockopt(take_fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_SEQPACKET ||
			fcntl(take_fd, F_SETFD, FD_CLOEXEC) != 0) {
		return false;
	}
	hook->fd = take_fd;
	return true;
}

void hook_finish(struct hook *hook) {
	if (hook->fd >= 0) {
		close(hook->fd);
	}
	hook->fd = -1;
}

/** A memfd that has NAME=VALUE and a NUL for each, or -1. */
static int write_env(char *const env[]) {
	int fd = memfd_create("vitrine-hook", MFD_CLOEXEC);
	for (size_t i = 0; fd >= 0 && env[i] != NULL; i++) {
		size_t size = strlen(env[i]) + 1;
		if (write(fd, env[i], size) != (ssize_t)size) {
			close(fd);
			fd = -1;
		}
	}
	return fd;
}

static bool send_fd(int socket_fd, int fd) {
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { 0 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buffer,
		.msg_controllen = sizeof(control.buffer),
	};
	control.header = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

bool hook_run(struct hook *hook, char *const env[]) {
	char byte;
	while (hook->n_pending > 0 && recv(hook->fd, &byte, 1, MSG_DONTWAIT) == 1) {
		hook->n_pending--;
	}
	if (hook->n_pending >= HOOK_RUNNING_CAP + HOOK_QUEUE_CAP) {
		return false;
	}
	int fd = write_env(env);
	bool ok = fd >= 0 && send_fd(hook->fd, fd);
	if (fd >= 0) {
		close(fd);
	}
	hook->n_pending += ok;
	return ok;
}
