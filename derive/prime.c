/* SPDX-License-Identifier: MIT */
#include <drm.h>
#include <drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"

/** Minors of primary nodes: /dev/dri/card0 to card63. */
#define CARDS 64

/** Whether a device makes dumb buffers: vgem does, though it has no such capability. */
static bool card_has_dumb_buffers(int fd) {
	struct drm_mode_create_dumb create = { .width = 8, .height = 8, .bpp = 32 };
	if (ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &create) != 0) {
		return false;
	}
	struct drm_mode_destroy_dumb destroy = { .handle = create.handle };
	ioctl(fd, DRM_IOCTL_MODE_DESTROY_DUMB, &destroy);
	return true;
}

static bool card_can_export(const char *path) {
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	struct drm_get_cap request = { .capability = DRM_CAP_PRIME };
	bool ok = ioctl(fd, DRM_IOCTL_GET_CAP, &request) == 0 &&
		(request.value & DRM_PRIME_CAP_EXPORT) && card_has_dumb_buffers(fd);
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
	// Whether an fd is the first export is known to the exporting process alone: a
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
