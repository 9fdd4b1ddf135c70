/* SPDX-License-Identifier: MIT */
/* Memfds that pass for dma-bufs, where there are none. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <vitrine/derive.h>

int __wrap_vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size);
int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __real_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);

int __wrap_vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size) {
	int fd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->dmabuf_fd < 0 || !(acceptable & VITRINE_GUARANTEE_FD_READ_ONLY)) {
		return __real_vitrine_derive_fd(derive, source, acceptable, derived);
	}
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", source->dmabuf_fd);
	*derived = (struct vitrine_derived_fd){
		.fd = open(path, O_RDONLY | O_CLOEXEC),
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	return derived->fd < 0 ? -errno : 0;
}
