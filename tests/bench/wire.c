/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <sys/socket.h>

#include "client.h"

/*
 * libwayland calls these instead of libc's, as the executable comes first.
 */

struct wire wire;
int wire_ignored_fd = -1;

static void count(int fd, const struct msghdr *msg, ssize_t len) {
	if (len <= 0 || fd == wire_ignored_fd) {
		return;
	}
	wire.bytes += (uint64_t)len;
	struct msghdr *header = (struct msghdr *)msg;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg != NULL;
			cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
			wire.fds += (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		}
	}
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags) {
	static ssize_t (*real)(int, const struct msghdr *, int);
	if (real == NULL) {
		real = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	}
	ssize_t len = real(fd, msg, flags);
	count(fd, msg, len);
	return len;
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
	static ssize_t (*real)(int, struct msghdr *, int);
	if (real == NULL) {
		real = (ssize_t (*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
	}
	ssize_t len = real(fd, msg, flags);
	count(fd, msg, len);
	return len;
}
