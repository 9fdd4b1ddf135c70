/* SPDX-License-Identifier: MIT */
#include <drm/vgem_drm.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "dmabuf.h"
#include "harness.h"

/** Where the first GEM object is that was given an mmap offset. */
#define DRM_FAKE_OFFSET 0x100000000
/** Pages in which objects of a device are looked for: those of tests are the only ones. */
#define DRM_FAKE_OFFSET_PAGES 0x400

/* Exporters */

static int open_device(const char *path, int flags) {
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0) {
		check(getenv("VITRINE_GUEST") == NULL); // each guest has these
		harness_skip("%s: %s", path, strerror(errno));
	}
	return fd;
}

static int create_udmabuf(size_t size) {
	int device = open_device("/dev/udmabuf", O_RDWR);
	int memfd = memfd_create("dmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	check_int(memfd, >=, 0);
	check_ok(ftruncate(memfd, (off_t)size));
	check_ok(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	struct udmabuf_create create = {
		.memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = size,
	};
	int fd = ioctl(device, UDMABUF_CREATE, &create);
	close(memfd);
	close(device);
	return fd;
}

int dmabuf_create_from_heap(int access, size_t size) {
	int device = open_device("/dev/dma_heap/system", O_RDONLY);
	struct dma_heap_allocation_data data = {
		.len = size, .fd_flags = (uint32_t)access | O_CLOEXEC,
	};
	check_ok(ioctl(device, DMA_HEAP_IOCTL_ALLOC, &data));
	close(device);
	return (int)data.fd;
}

static int create_dumb_buffer(const char *driver, size_t size) {
	int device = drm_open(driver), fd;
	uint32_t handle, pitch;
	uint64_t created_size;
	check_ok(drmModeCreateDumbBuffer(device, DMABUF_WIDTH, (uint32_t)(size / DMABUF_WIDTH / 4),
		32, 0, &handle, &pitch, &created_size));
	check_int(created_size, ==, size);
	check_ok(drmPrimeHandleToFD(device, handle, DRM_RDWR | DRM_CLOEXEC, &fd));
	close(device);
	return fd;
}

int dmabuf_create_sized(enum exporter exporter, size_t size) {
	int fd = -1;
	switch (exporter) {
	case EXPORTER_UDMABUF:
		fd = create_udmabuf(size);
		break;
	case EXPORTER_HEAP:
		fd = dmabuf_create_from_heap(O_RDWR, size);
		break;
	case EXPORTER_VGEM:
		fd = create_dumb_buffer("vgem", size);
		break;
	case EXPORTER_VKMS:
		fd = create_dumb_buffer("vkms", size);
		break;
	case EXPORTER_COUNT:
		abort();
	}
	check_int(fd, >=, 0);
	check_int(fcntl(fd, F_GETFL) & O_ACCMODE, ==, O_RDWR);
	return fd;
}

int dmabuf_create(enum exporter exporter) {
	return dmabuf_create_sized(exporter, DMABUF_SIZE);
}

_Noreturn void dmabuf_skip_without_derive(void) {
	const char *guest = getenv("VITRINE_GUEST");
	check(guest == NULL || strcmp(guest, "uml") != 0);
	harness_skip("this kernel has no DMA_BUF_IOCTL_DERIVE");
}

/* Memory */

void *dmabuf_try_map(int fd, int prot) {
	return mmap(NULL, DMABUF_SIZE, prot, MAP_SHARED, fd, 0);
}

void *dmabuf_map(int fd, int prot) {
	void *map = dmabuf_try_map(fd, prot);
	check(map != MAP_FAILED);
	return map;
}

void dmabuf_unmap(const volatile void *map) {
	check_ok(munmap((void *)map, DMABUF_SIZE));
}

uint8_t dmabuf_read_first_byte(int fd) {
	const uint8_t *data = dmabuf_map(fd, PROT_READ);
	uint8_t value = data[0];
	dmabuf_unmap(data);
	return value;
}

void dmabuf_fill(int fd, uint8_t value) {
	uint8_t *data = dmabuf_map(fd, PROT_READ | PROT_WRITE);
	memset(data, value, DMABUF_SIZE);
	dmabuf_unmap(data);
}

/* What an owner does */

int dmabuf_sync(int fd, uint64_t flags) {
	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &(struct dma_buf_sync){ .flags = flags });
}

int dmabuf_set_name(int fd, const char *name) {
	return ioctl(fd, DMA_BUF_SET_NAME_B, name);
}

int dmabuf_import_fence(int fd, int fence_fd, uint32_t flags) {
	struct dma_buf_import_sync_file request = { .flags = flags, .fd = fence_fd };
	return ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request);
}

int dmabuf_export_fence(int fd, uint32_t flags) {
	struct dma_buf_export_sync_file request = { .flags = flags, .fd = -1 };
	check_ok(ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request));
	return request.fd;
}

bool dmabuf_poll(int fd, short events, int timeout_ms) {
	struct pollfd pollfd = { .fd = fd, .events = events };
	check_int(poll(&pollfd, 1, timeout_ms), >=, 0);
	return (pollfd.revents & events) == events;
}

/* What the kernel says of it */

uint64_t dmabuf_inode(int fd) {
	struct stat st;
	check_ok(fstat(fd, &st));
	return st.st_ino;
}

struct dmabuf_info dmabuf_info(uint64_t inode) {
	struct dmabuf_info info = {0};
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
	if (file == NULL) {
		harness_fail(__FILE__, __LINE__, "no debugfs: %s", strerror(errno));
	}
	char line[256], exporter[64], name[32];
	while (fgets(line, sizeof(line), file) != NULL) {
		long references;
		uint64_t found;
		if (sscanf(line, "%*d %*x %*x %ld %63s %" SCNu64 " %31s", &references, exporter,
				&found, name) != 4 || (inode != 0 && found != inode)) {
			continue;
		}
		info.objects++;
		info.references = references;
		memcpy(info.name, name, sizeof(name));
	}
	fclose(file);
	return info;
}

void dmabuf_check_references(uint64_t inode, long references) {
	struct dmabuf_info info;
	// Nothing tells when the kernel has dropped a reference: its worker gets two seconds
	for (int i = 0; i < 200; i++) {
		info = dmabuf_info(inode);
		if (info.objects == (references > 0) && info.references == references) {
			return;
		}
		usleep(10 * 1000);
	}
	harness_fail(__FILE__, __LINE__, "inode %" PRIu64 ": %d objects, %ld references, not %ld",
		inode, info.objects, info.references, references);
}

void dmabuf_check_gone(uint64_t inode) {
	dmabuf_check_references(inode, 0);
}

static int count_objects(void) {
	return dmabuf_info(0).objects;
}

__attribute__((constructor)) static void watch_objects(void) {
	harness_watch("dma-bufs", count_objects);
}

const char *dmabuf_fdinfo(int fd, const char *key) {
	static char line[128];
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");
	check(file != NULL);
	const char *value = "";
	size_t length = strlen(key);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, length) == 0 && line[length] == ':') {
			line[strcspn(line, "\n")] = '\0';
			value = line + length + 1;
			value += strspn(value, "\t ");
			break;
		}
	}
	fclose(file);
	return value;
}

/* DRM devices */

int drm_try_open(const char *driver) {
	for (int i = 0; i < 8; i++) {
		char path[32], name[32] = "";
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };
		if (ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, driver) == 0) {
			return fd;
		}
		close(fd);
	}
	return -1;
}

int drm_open(const char *driver) {
	int fd = drm_try_open(driver);
	if (fd < 0) {
		check(getenv("VITRINE_DEVICE") == NULL); // a guest that was given one has its driver
		harness_skip("no %s device", driver);
	}
	return fd;
}

void *drm_map_fake_offset(int drm_fd, int prot) {
	int error = EINVAL;
	for (off_t page = 0; page < DRM_FAKE_OFFSET_PAGES; page++) {
		void *map = mmap(NULL, DMABUF_SIZE, prot, MAP_SHARED, drm_fd,
			DRM_FAKE_OFFSET + page * 4096);
		if (map != MAP_FAILED) {
			return map;
		}
		if (errno != EINVAL) {
			error = errno;
		}
	}
	errno = error;
	return MAP_FAILED;
}

/* Fences */

int timeline_try_open(void) {
	return open(SW_SYNC_DEVICE, O_RDWR | O_CLOEXEC);
}

int timeline_create_fence(int timeline, uint32_t value) {
	struct sw_sync_create_fence_data data = { .value = value, .name = "test" };
	check_ok(ioctl(timeline, SW_SYNC_IOC_CREATE_FENCE, &data));
	return data.fence;
}

void timeline_increase(int timeline, uint32_t by) {
	check_ok(ioctl(timeline, SW_SYNC_IOC_INC, &by));
}

/** Stock kernels have no sw_sync, but any client may make a fence of vgem. */
static void fence_init_vgem(struct fence *fence) {
	fence->device_fd = drm_try_open("vgem");
	check_int(fence->device_fd, >=, 0);
	struct drm_vgem_fence_attach attach = { .flags = VGEM_FENCE_WRITE };
	uint32_t pitch;
	uint64_t size;
	check_ok(drmModeCreateDumbBuffer(fence->device_fd, 16, 16, 32, 0, &attach.handle, &pitch,
		&size));
	check_ok(ioctl(fence->device_fd, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach));
	fence->vgem_fence = attach.out_fence;
	int dmabuf_fd;
	check_ok(drmPrimeHandleToFD(fence->device_fd, attach.handle, DRM_CLOEXEC, &dmabuf_fd));
	fence->fd = dmabuf_export_fence(dmabuf_fd, DMA_BUF_SYNC_READ);
	close(dmabuf_fd);
	check_ok(drmCloseBufferHandle(fence->device_fd, attach.handle));
}

void fence_init(struct fence *fence) {
	*fence = (struct fence){ .device_fd = timeline_try_open() };
	if (fence->device_fd >= 0) {
		fence->fd = timeline_create_fence(fence->device_fd, 1);
	} else {
		fence_init_vgem(fence);
	}
	check(!dmabuf_poll(fence->fd, POLLIN, 0));
}

void fence_signal(struct fence *fence) {
	if (fence->vgem_fence == 0) {
		timeline_increase(fence->device_fd, 1);
		return;
	}
	struct drm_vgem_fence_signal signal = { .fence = fence->vgem_fence };
	check_ok(ioctl(fence->device_fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal));
}

void fence_finish(struct fence *fence) {
	close(fence->fd);
	close(fence->device_fd);
}
