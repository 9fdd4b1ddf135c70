/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"
#include "dma_buf_derive.h"

static int ioctl_derive_fd(int dmabuf_fd, uint32_t flags) {
	struct dma_buf_derive request = { .flags = flags, .fd = -1 };
	if (ioctl(dmabuf_fd, DMA_BUF_IOCTL_DERIVE, &request) < 0) {
		return -errno;
	}
	return request.fd;
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

static bool ioctl_probe(struct derive_devices *devices, const char **detail) {
	int dmabuf_fd = make_dmabuf(devices);
	if (dmabuf_fd < 0) {
		*detail = "not available: no /dev/udmabuf to try DMA_BUF_IOCTL_DERIVE on";
		return false;
	}
	int fd = ioctl_derive_fd(dmabuf_fd, O_RDONLY | O_CLOEXEC);
	close(dmabuf_fd);
	if (fd < 0) {
		*detail = "not available: the kernel lacks DMA_BUF_IOCTL_DERIVE";
		return false;
	}
	close(fd);
	*detail = "DMA_BUF_IOCTL_DERIVE, for any dma-buf";
	return true;
}

static int ioctl_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->dmabuf_fd < 0) {
		return -EOPNOTSUPP;
	}
	bool guarded = acceptable & VITRINE_GUARANTEE_GUARDED;
	int fd = ioctl_derive_fd(source->dmabuf_fd,
		O_RDONLY | O_CLOEXEC | (guarded ? 0 : DMA_BUF_DERIVE_UNGUARDED));
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
	.derive = ioctl_derive,
};
