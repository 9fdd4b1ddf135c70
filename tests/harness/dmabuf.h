/* SPDX-License-Identifier: MIT */
#ifndef DMABUF_H
#define DMABUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/**
 * Real dma-bufs for tests in guests, and what can be done to one: map it, put a
 * fence on it, look at it in debugfs. DRM devices import it by libdrm.
 *
 * Functions fail the test when the kernel refuses, but for those that say what
 * they return then. Fds that are returned are the caller's, and are CLOEXEC.
 * All tests of a program that uses this file fail if there are more dma-bufs in
 * the system after them than before.
 */

#define DMABUF_WIDTH 64
#define DMABUF_HEIGHT 64
#define DMABUF_SIZE (DMABUF_WIDTH * DMABUF_HEIGHT * 4)

enum exporter {
	EXPORTER_UDMABUF,
	EXPORTER_HEAP,
	EXPORTER_VGEM,
	EXPORTER_VKMS,
	EXPORTER_COUNT,
};

/** A new read-write dma-buf. Skips the test where the guest lacks the exporter. */
int dmabuf_create(enum exporter exporter);
/** The same in another size, of whole pages. */
int dmabuf_create_sized(enum exporter exporter, size_t size);
/** From the system heap, open as `access` says: O_RDWR or O_RDONLY. */
int dmabuf_create_from_heap(int access, size_t size);

/** For tests that need DMA_BUF_IOCTL_DERIVE: the kernel of the guest `uml` must have it. */
_Noreturn void dmabuf_skip_without_derive(void);

/** Maps DMABUF_SIZE of it, shared. */
void *dmabuf_map(int fd, int prot);
/** The same, but returns MAP_FAILED with errno set. */
void *dmabuf_try_map(int fd, int prot);
void dmabuf_unmap(const volatile void *map);
uint8_t dmabuf_read_first_byte(int fd);
void dmabuf_fill(int fd, uint8_t value);

/** These return 0, or -1 with errno set. */
int dmabuf_sync(int fd, uint64_t flags);
int dmabuf_set_name(int fd, const char *name);
/** `flags` is DMA_BUF_SYNC_READ, _WRITE or _RW: what others wait with. */
int dmabuf_import_fence(int fd, int fence_fd, uint32_t flags);

/** A sync_file of what an access as in `flags` waits for. */
int dmabuf_export_fence(int fd, uint32_t flags);
/** Whether all of these events come, of a dma-buf or of a fence. */
bool dmabuf_poll(int fd, short events, int timeout_ms);
uint64_t dmabuf_inode(int fd);

/** From debugfs: the objects with this inode, or all for 0. */
struct dmabuf_info {
	int objects;
	// of the last of them
	long references;
	char name[32];
};
struct dmabuf_info dmabuf_info(uint64_t inode);
/** Waits until there are so many references, as the kernel drops some late. */
void dmabuf_check_references(uint64_t inode, long references);
void dmabuf_check_gone(uint64_t inode);
/** A line of /proc/self/fdinfo/FD, "" where there is none; valid until the next call. */
const char *dmabuf_fdinfo(int fd, const char *key);

/** An fd of the DRM device of this driver. Skips the test where there is none. */
int drm_open(const char *driver);
/** The same, but returns -1 where there is none. */
int drm_try_open(const char *driver);
/**
 * Maps what the device has at its fake offsets, which a client need not be told.
 * Returns MAP_FAILED with the errno of the last that was refused with something
 * else than EINVAL.
 */
void *drm_map_fake_offset(int drm_fd, int prot);

/* From drivers/dma-buf/sw_sync.c, which has no header */
struct sw_sync_create_fence_data {
	uint32_t value;
	char name[32];
	int32_t fence;
};
#define SW_SYNC_DEVICE "/sys/kernel/debug/sync/sw_sync"
#define SW_SYNC_IOC_CREATE_FENCE _IOWR('W', 0, struct sw_sync_create_fence_data)
#define SW_SYNC_IOC_INC _IOW('W', 1, uint32_t)

/** A timeline of sw_sync, or -1 where the kernel has none; closing it signals its fences. */
int timeline_try_open(void);
int timeline_create_fence(int timeline, uint32_t value);
void timeline_increase(int timeline, uint32_t by);

/** A fence that is not signalled before the test says so: of sw_sync, else of vgem. */
struct fence {
	int fd; // sync_file
	int device_fd; // the timeline, or the vgem device
	uint32_t vgem_fence; // 0 if the fence is of a timeline
};
void fence_init(struct fence *fence);
void fence_signal(struct fence *fence);
void fence_finish(struct fence *fence);

#endif
