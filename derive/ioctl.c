/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"
#include "dma_buf_derive.h"

/** Returns a file descriptor or a negative errno. */
static int ioctl_derive_fd(int dmabuf_fd, unsigned long request) {
	struct dma_buf_derive params = { .flags = O_RDONLY | O_CLOEXEC, .fd = -1 };
	if (ioctl(dmabuf_fd, request, &params) < 0) {
		return -errno;
	}
	return params.fd;
}

/** A dma-buf to try it on, or a negative errno. */
static int make_dmabuf(struct derive_devices *devices) {
	int memfd = vitrine_memfd_create(1);
	if (memfd < 0) {
		return memfd;
	}
	int fd = derive_udmabuf_create(devices, memfd, 1);
	close(memfd);
	return fd;
}

static bool has_ioctl(int dmabuf_fd, unsigned long request) {
	int fd = ioctl_derive_fd(dmabuf_fd, request);
	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

static bool ioctl_probe(struct derive_devices *devices, const char **detail) {
	int dmabuf_fd = make_dmabuf(devices);
	if (dmabuf_fd < 0) {
		*detail = "not available: no /dev/udmabuf to try DMA_BUF_IOCTL_DERIVE on";
		return false;
	}
	bool ok = has_ioctl(dmabuf_fd, DMA_BUF_IOCTL_DERIVE);
	devices->has_unguarded = has_ioctl(dmabuf_fd, DMA_BUF_IOCTL_DERIVE_UNGUARDED);
	close(dmabuf_fd);
	*detail = ok ? "DMA_BUF_IOCTL_DERIVE, for any dma-buf" :
		"not available: the kernel lacks DMA_BUF_IOCTL_DERIVE";
	return ok;
}

static uint32_t ioctl_get_guarantees(const struct derive_devices *devices) {
	return VITRINE_GUARANTEE_GUARDED |
		(devices->has_unguarded ? VITRINE_GUARANTEE_FD_READ_ONLY : 0);
}

static int ioctl_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->dmabuf_fd < 0) {
		return -EOPNOTSUPP;
	}
	bool guarded = acceptable & VITRINE_GUARANTEE_GUARDED;
	int fd = ioctl_derive_fd(source->dmabuf_fd,
		guarded ? DMA_BUF_IOCTL_DERIVE : DMA_BUF_IOCTL_DERIVE_UNGUARDED);
	if (fd < 0) {
		return fd;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fd,
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = guarded ? VITRINE_GUARANTEE_GUARDED : VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	return 0;
}

const struct derive_backend derive_backend_ioctl = {
	.name = "ioctl",
	.guarantees = VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY,
	.probe = ioctl_probe,
	.get_guarantees = ioctl_get_guarantees,
	.derive = ioctl_derive,
};
