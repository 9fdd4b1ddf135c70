/* SPDX-License-Identifier: MIT */
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"

/** Minors of primary nodes: /dev/dri/card0 to card63. */
#define CARDS 64

static uint64_t get_cap(int fd, uint64_t capability) {
	struct drm_get_cap request = { .capability = capability };
	return ioctl(fd, DRM_IOCTL_GET_CAP, &request) == 0 ? request.value : 0;
}

static bool card_can_export(const char *path) {
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	bool ok = get_cap(fd, DRM_CAP_DUMB_BUFFER) != 0 &&
		(get_cap(fd, DRM_CAP_PRIME) & DRM_PRIME_CAP_EXPORT);
	close(fd);
	return ok;
}

static bool prime_probe(struct derive_devices *devices, const char **detail) {
	for (int i = 0; i < CARDS; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		if (card_can_export(path)) {
			*detail = "dumb buffers of a DRM device, first exported with O_RDONLY";
			return true;
		}
	}
	*detail = "not available: no DRM device with dumb buffers and PRIME can be opened";
	return false;
}

static int prime_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	// Whether an fd is the first export is known to who exported it alone: a
	// later one without DRM_RDWR is the same writable file
	if (source->dmabuf_fd < 0 || !source->dmabuf_first_export_read_only) {
		return -EOPNOTSUPP;
	}
	int fd = fcntl(source->dmabuf_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fd,
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	return 0;
}

const struct derive_backend derive_backend_prime = {
	.name = "prime",
	.guarantees = VITRINE_GUARANTEE_FD_READ_ONLY,
	.probe = prime_probe,
	.derive = prime_derive,
};
