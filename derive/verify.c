/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backend.h"

/** Seals without which a memfd can change its size or its seals. */
static const int fixed_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

static int fail(const char **reason, const char *text, int error) {
	if (reason != NULL) {
		*reason = text;
	}
	return error;
}

static int verify_access_mode(int fd, const char **reason) {
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0) {
		return fail(reason, "not an open file descriptor", -errno);
	}
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_PATH)) {
		return fail(reason, "not open with O_RDONLY", -EPERM);
	}
	return 0;
}

static bool is_on_filesystem(int fd, long type) {
	struct statfs st;
	return fstatfs(fd, &st) == 0 && (long)st.f_type == type;
}

static int verify_memfd(int fd, uint64_t size, const char **reason) {
	int seals = fcntl(fd, F_GET_SEALS);
	// A memfd of huge pages has seals, but other rules for its mappings
	if (seals < 0 ||
			!(is_on_filesystem(fd, TMPFS_MAGIC) || is_on_filesystem(fd, RAMFS_MAGIC))) {
		return fail(reason, "not a memfd", -EPERM);
	}
	if ((seals & fixed_seals) != fixed_seals) {
		return fail(reason, "the memfd is not sealed against resizing and further seals", -EPERM);
	}
	if (!(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) {
		return fail(reason, "the memfd is not sealed against writing", -EPERM);
	}
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return fail(reason, "fstat() failed", -errno);
	}
	if (st.st_size < 0 || (uint64_t)st.st_size < size) {
		return fail(reason, "the memory is shorter than the view", -EPERM);
	}
	return 0;
}

/**
 * What tells a guarded dma-buf from one that is merely open with O_RDONLY: it
 * refuses a claim of write access. Ending a claim that was never made changes
 * nothing and, unlike beginning one, waits for no fence.
 */
static bool dmabuf_is_guarded(int fd) {
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE };
	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) < 0 && errno == EACCES;
}

static int verify_dmabuf(int fd, enum vitrine_guarantee guarantee, uint64_t size,
		const char **reason) {
	if (!is_on_filesystem(fd, DMA_BUF_MAGIC)) {
		return fail(reason, "not a dma-buf", -EPERM);
	}
	if (guarantee == VITRINE_GUARANTEE_GUARDED && !dmabuf_is_guarded(fd)) {
		return fail(reason, "the dma-buf is not guarded", -EPERM);
	}
	// dma-bufs have no st_size: seeking to the end tells
	off_t end = lseek(fd, 0, SEEK_END);
	if (end < 0) {
		return fail(reason, "not a dma-buf", -EPERM);
	}
	if ((uint64_t)end < size) {
		return fail(reason, "the memory is shorter than the view", -EPERM);
	}
	return 0;
}

/**
 * Asks the kernel rather than believing flags. The readable mapping comes first:
 * without it, the refusal of the writable one would say nothing.
 */
static int verify_mapping(int fd, enum vitrine_storage storage, const char **reason) {
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	void *data = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		// A dma-buf in device memory may have no mapping at all
		bool unmappable = storage != VITRINE_STORAGE_MEMFD &&
			(errno == EINVAL || errno == ENODEV || errno == EOPNOTSUPP);
		return unmappable ? 0 : fail(reason, "cannot be mapped for reading", -errno);
	}
	bool writable_later = mprotect(data, len, PROT_READ | PROT_WRITE) == 0;
	munmap(data, len);
	if (writable_later) {
		return fail(reason, "a mapping can be made writable", -EPERM);
	}
	data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data != MAP_FAILED) {
		munmap(data, len);
		return fail(reason, "can be mapped for writing", -EPERM);
	}
	if (errno != EACCES && errno != EPERM) {
		return fail(reason, "a writable mapping was not refused for lack of permission", -errno);
	}
	return 0;
}

/** A private copy may be of any storage; what is shared is told by its guarantee. */
static bool storage_fits(enum vitrine_storage storage, enum vitrine_guarantee guarantee) {
	bool is_memfd = storage == VITRINE_STORAGE_MEMFD;
	switch (guarantee) {
	case VITRINE_GUARANTEE_SNAPSHOT:
		return true;
	case VITRINE_GUARANTEE_SEALED:
		return is_memfd;
	case VITRINE_GUARANTEE_GUARDED:
	case VITRINE_GUARANTEE_FD_READ_ONLY:
		return !is_memfd;
	}
	return false;
}

int vitrine_verify_fd(int fd, enum vitrine_storage storage, enum vitrine_guarantee guarantee,
		uint64_t size, const char **reason) {
	if (!storage_fits(storage, guarantee)) {
		return fail(reason, "the storage does not fit the guarantee", -EPERM);
	}
	int ret = verify_access_mode(fd, reason);
	if (ret < 0) {
		return ret;
	}
	ret = storage == VITRINE_STORAGE_MEMFD ?
		verify_memfd(fd, size, reason) : verify_dmabuf(fd, guarantee, size, reason);
	if (ret < 0) {
		return ret;
	}
	return verify_mapping(fd, storage, reason);
}
