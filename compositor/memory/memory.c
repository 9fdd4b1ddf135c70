/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <wlr/util/log.h>

#include "memory.h"

/** Of x86-64 and of arm64 with pages of 4 KiB; others do without. */
#define HUGE_PAGE_SIZE ((size_t)2 << 20)

// Since Linux 5.14 and 6.1; older kernels refuse them, which costs time alone
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static size_t get_page_size(void) {
	return (size_t)sysconf(_SC_PAGESIZE);
}

static bool can_use_huge_pages(size_t size) {
	return size >= HUGE_PAGE_SIZE && get_page_size() == 4096;
}

size_t vt_memory_round_size(size_t size) {
	size_t unit = can_use_huge_pages(size) ? HUGE_PAGE_SIZE : get_page_size();
	return size > SIZE_MAX - unit ? size : (size + unit - 1) / unit * unit;
}

static int open_lease_fd(int memfd) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

/** Maps to an address that huge pages can be mapped to. */
static void *map_aligned(int fd, size_t size, int prot) {
	if (!can_use_huge_pages(size) || size > SIZE_MAX - HUGE_PAGE_SIZE) {
		return mmap(NULL, size, prot, MAP_SHARED, fd, 0);
	}
	size_t reserved = size + HUGE_PAGE_SIZE;
	char *start = mmap(NULL, reserved, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED) {
		return MAP_FAILED;
	}
	size_t before = HUGE_PAGE_SIZE - ((uintptr_t)start & (HUGE_PAGE_SIZE - 1));
	char *data = mmap(start + before, size, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (data == MAP_FAILED) {
		munmap(start, reserved);
		return MAP_FAILED;
	}
	munmap(start, before);
	if (before < HUGE_PAGE_SIZE) {
		munmap(data + size, HUGE_PAGE_SIZE - before);
	}
	return data;
}

/**
 * Gets all pages at once, and huge ones where the kernel has any: faults, one for
 * each page that is drawn to, cost several times what zeroing the memory does. A
 * memfd is not made of huge pages by itself, with any of the system's settings,
 * but small pages can be collapsed into one where there is one to begin with.
 * Returns 0 or a negative errno: what is not there would be a SIGBUS in a renderer.
 */
static int fault_in(const struct vt_memory *memory) {
	char *data = memory->data;
	if (can_use_huge_pages(memory->size)) {
		for (size_t offset = 0; offset < memory->size; offset += HUGE_PAGE_SIZE) {
			madvise(data + offset, get_page_size(), MADV_POPULATE_WRITE);
		}
		madvise(data, memory->size, MADV_COLLAPSE);
	}
	if (madvise(data, memory->size, MADV_POPULATE_WRITE) == 0) {
		return 0;
	}
	if (errno != EINVAL) {
		return -errno;
	}
	// Before Linux 5.14. Faults cost time then, but do not fail
	return -posix_fallocate(memory->memfd, 0, (off_t)memory->size);
}

int vt_memory_init(struct vt_memory *memory, size_t size) {
	*memory = (struct vt_memory){
		.lease_fd = -1,
		.size = vt_memory_round_size(size),
	};
	memory->memfd = vitrine_memfd_create(memory->size);
	if (memory->memfd < 0) {
		int ret = memory->memfd;
		memory->memfd = -1;
		return ret;
	}
	int ret;
	void *data = map_aligned(memory->memfd, memory->size, PROT_READ | PROT_WRITE);
	if (data == MAP_FAILED) {
		ret = -errno;
		goto err;
	}
	memory->data = data;
	memory->lease_fd = open_lease_fd(memory->memfd);
	if (memory->lease_fd < 0) {
		ret = -errno;
		goto err;
	}
	ret = fault_in(memory);
	if (ret != 0) {
		goto err;
	}
	return 0;
err:
	vt_memory_finish(memory);
	return ret;
}

void vt_memory_finish(struct vt_memory *memory) {
	if (memory->data != NULL) {
		munmap(memory->data, memory->size);
		memory->data = NULL;
	}
	if (memory->lease_fd >= 0) {
		close(memory->lease_fd);
		memory->lease_fd = -1;
	}
	if (memory->memfd >= 0) {
		close(memory->memfd);
		memory->memfd = -1;
	}
}

bool vt_memory_copy_from(struct vt_memory *memory, int borrowed_memfd) {
	void *data = map_aligned(borrowed_memfd, memory->size, PROT_READ);
	if (data == MAP_FAILED) {
		return false;
	}
	memcpy(memory->data, data, memory->size);
	munmap(data, memory->size);
	return true;
}

bool vt_memory_replace(struct vt_memory *memory, struct vt_memory *fresh) {
	assert(memory->size == fresh->size);
	if (mremap(fresh->data, fresh->size, fresh->size, MREMAP_MAYMOVE | MREMAP_FIXED,
			memory->data) == MAP_FAILED) {
		wlr_log_errno(WLR_ERROR, "Failed to replace retired memory");
		vt_memory_finish(fresh);
		return false;
	}
	fresh->data = memory->data;
	memory->data = NULL;
	vt_memory_finish(memory);
	*memory = *fresh;
	*fresh = (struct vt_memory){ .memfd = -1, .lease_fd = -1 };
	return true;
}

bool vt_memory_detach(struct vt_memory *memory) {
	// Seals are about shared mappings
	if (mmap(memory->data, memory->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			memory->memfd, 0) == MAP_FAILED) {
		wlr_log_errno(WLR_ERROR, "Failed to map %zu bytes", memory->size);
		munmap(memory->data, memory->size);
		memory->data = NULL;
		return false;
	}
	return true;
}
