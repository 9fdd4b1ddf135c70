/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"

static bool snapshot_probe(struct derive_devices *devices, const char **detail) {
	int fd = vitrine_memfd_create(1);
	if (fd < 0) {
		*detail = "not available: memfd_create() failed";
		return false;
	}
	close(fd);
	*detail = "a private copy in a sealed memfd";
	return true;
}

static int sync_dmabuf(int fd, uint64_t flags) {
	struct dma_buf_sync sync = { .flags = flags };
	int ret;
	do {
		ret = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : 0;
}

/**
 * By the kernel, to which memory that the exporter fails to provide is EFAULT. It would
 * be a SIGBUS here, at the will of a client whose buffer it is.
 */
static int write_all(int memfd, const char *data, size_t size) {
	for (size_t done = 0; done < size;) {
		ssize_t len = pwrite(memfd, data + done, size - done, (off_t)done);
		if (len < 0 && errno != EINTR) {
			return -errno;
		} else if (len == 0) {
			return -EIO;
		}
		done += len > 0 ? (size_t)len : 0;
	}
	return 0;
}

/** Copies the source's bytes to the memfd. */
static int copy_source(const struct vitrine_derive_source *source, int memfd) {
	bool is_dmabuf = source->memfd < 0;
	int fd = is_dmabuf ? source->dmabuf_fd : source->memfd;
	// From offset 0: DRM shmem buffers return the wrong page otherwise
	void *data = mmap(NULL, (size_t)source->size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		return -errno;
	}
	int ret = is_dmabuf ? sync_dmabuf(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) : 0;
	if (ret == 0) {
		ret = write_all(memfd, data, (size_t)source->size);
		if (is_dmabuf) {
			sync_dmabuf(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
		}
	}
	munmap(data, (size_t)source->size);
	return ret;
}

static bool source_is_long_enough(const struct vitrine_derive_source *source) {
	off_t size = lseek(source->memfd >= 0 ? source->memfd : source->dmabuf_fd, 0, SEEK_END);
	return size >= 0 && (uint64_t)size >= source->size;
}

static int snapshot_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	bool is_mapped = source->dmabuf_fd >= 0 && source->dmabuf_is_mapped;
	if ((source->memfd < 0 && !is_mapped) || source->size > SIZE_MAX) {
		return -EOPNOTSUPP;
	}
	// A short source would fail in the middle of the copy
	if (!source_is_long_enough(source)) {
		return -EINVAL;
	}

	int memfd = vitrine_memfd_create(source->size);
	if (memfd < 0) {
		return memfd;
	}
	int ret = copy_source(source, memfd);
	if (ret < 0) {
		goto out;
	}
	// No process writes a snapshot any more, not even ours
	if (fcntl(memfd, F_ADD_SEALS,
			F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
		ret = -errno;
		goto out;
	}
	ret = derive_reopen_read_only(memfd);
	if (ret < 0) {
		goto out;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = ret,
		.storage = VITRINE_STORAGE_MEMFD,
		.guarantee = VITRINE_GUARANTEE_SNAPSHOT,
	};
	ret = 0;
out:
	close(memfd);
	return ret;
}

const struct derive_backend derive_backend_snapshot = {
	.name = "snapshot",
	.guarantees = VITRINE_GUARANTEE_SNAPSHOT,
	.probe = snapshot_probe,
	.derive = snapshot_derive,
};
