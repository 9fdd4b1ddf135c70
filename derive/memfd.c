/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"

/** How often a file that holders take our permission to open is tried. */
#define REOPEN_TRIES 16

static int open_device(const char *path, int *error) {
	int fd = open(path, O_RDWR | O_CLOEXEC);
	*error = fd < 0 ? errno : 0;
	return fd;
}

void derive_devices_init(struct derive_devices *devices) {
	*devices = (struct derive_devices){ .udmabuf_fd = -1, .guard_fd = -1 };
	devices->udmabuf_fd = open_device("/dev/udmabuf", &devices->udmabuf_errno);
	devices->guard_fd = open_device("/dev/dma_buf_guard", &devices->guard_errno);
}

void derive_devices_finish(struct derive_devices *devices) {
	if (devices->udmabuf_fd >= 0) {
		close(devices->udmabuf_fd);
	}
	if (devices->guard_fd >= 0) {
		close(devices->guard_fd);
	}
	devices->udmabuf_fd = devices->guard_fd = -1;
}

int derive_reopen_read_only(int fd) {
	// A dup() would share the file description, and with it the access mode
	char path[sizeof("/proc/self/fd/") + 11];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (int i = 0; i < REOPEN_TRIES; i++) {
		int read_only_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (read_only_fd >= 0) {
			return read_only_fd;
		} else if (errno != EACCES || fchmod(fd, S_IRUSR | S_IWUSR) < 0) {
			return -errno;
		}
		// A holder with our uid had changed the mode, which we just changed back
	}
	return -EACCES;
}

/** Rounds up to whole pages, which udmabuf asks for. False on overflow. */
static bool page_align(uint64_t size, uint64_t *aligned) {
	long page_size = sysconf(_SC_PAGESIZE);
	if (page_size <= 0 || size == 0) {
		return false;
	}
	uint64_t mask = (uint64_t)page_size - 1;
	if (size > (uint64_t)INT64_MAX - mask) {
		return false;
	}
	*aligned = (size + mask) & ~mask;
	return true;
}

int vitrine_memfd_create(uint64_t size) {
	uint64_t aligned;
	if (!page_align(size, &aligned)) {
		return -EINVAL;
	}
	int fd = memfd_create("vitrine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)aligned) < 0) {
		int ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int derive_udmabuf_create(struct derive_devices *devices, int memfd, uint64_t size) {
	uint64_t aligned;
	if (!page_align(size, &aligned)) {
		return -EINVAL;
	}
	if (devices->udmabuf_fd < 0) {
		return -ENODEV;
	}
	// udmabuf insists on it: pages must not go away under a device
	if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
		return -errno;
	}
	struct udmabuf_create create = {
		.memfd = (uint32_t)memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.offset = 0,
		.size = aligned,
	};
	int fd = ioctl(devices->udmabuf_fd, UDMABUF_CREATE, &create);
	return fd < 0 ? -errno : fd;
}
