/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "backend.h"
#include "dma_buf_guard.h"

static bool guard_probe(struct derive_devices *devices, const char **detail) {
	if (devices->guard_fd >= 0) {
		*detail = "/dev/dma_buf_guard, for any dma-buf";
		return true;
	}
	switch (devices->guard_errno) {
	case EACCES:
	case EPERM:
		*detail = "not available: no permission to open /dev/dma_buf_guard "
			"(see the udev rule in kernel/guard)";
		break;
	case EMFILE:
	case ENFILE:
		*detail = "not available: too many open files";
		break;
	default:
		*detail = "not available: no /dev/dma_buf_guard (the module is not loaded)";
		break;
	}
	return false;
}

static int guard_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->dmabuf_fd < 0) {
		return -EOPNOTSUPP;
	}
	// With common fences a holder could make the owner wait, and its display
	struct dma_buf_guard_create create = {
		.flags = O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES,
		.fd = source->dmabuf_fd,
	};
	if (ioctl(devices->guard_fd, DMA_BUF_GUARD_IOCTL_CREATE, &create) < 0) {
		return -errno;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = create.guard_fd,
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = VITRINE_GUARANTEE_GUARDED,
	};
	return 0;
}

const struct derive_backend derive_backend_guard = {
	.name = "guard",
	.guarantees = VITRINE_GUARANTEE_GUARDED,
	.probe = guard_probe,
	.derive = guard_derive,
};
