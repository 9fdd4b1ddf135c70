/* SPDX-License-Identifier: MIT */
#include <drm.h>
#include <drm_fourcc.h>
#include <drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"
#include "dma_buf_derive.h"
#include "dma_buf_guard.h"

#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define DMABUFS (GUARDED | FD_READ_ONLY)

/**
 * Where the first object of a device is mapped, and how far to look: a compositor's
 * buffers may come before ours.
 */
#define FAKE_OFFSET 0x100000000
#define FAKE_OFFSET_PAGES 16384
/** How far beyond where an object has been found, as it comes where there is room. */
#define FAKE_OFFSET_SLACK 1024

/*
 * The device of tests/harness/guest/importer, whose interface this is: it imports as drivers
 * do that are on no machine of ours.
 */
#define IMPORTER_DEVICE "/dev/vitrine_importer"
struct importer_attach {
	int32_t fd;
	uint32_t flags;
};
#define IMPORTER_ATTACH _IOW(0xB7, 0, struct importer_attach)
#define IMPORTER_MAP _IO(0xB7, 2)
#define IMPORTER_STORE _IO(0xB7, 4)

/** enum dma_data_direction of the kernel. */
enum {
	DMA_BIDIRECTIONAL = 0,
	DMA_FROM_DEVICE = 2,
};

/* Row 9: deriving again */

static int derive_and_write(const struct target *target, unsigned long request, uint32_t flags) {
	struct dma_buf_derive derive = { .flags = flags | O_CLOEXEC, .fd = -1 };
	if (ioctl(target->fd, request, &derive) < 0) {
		return -errno;
	}
	int ret = attack_write_somehow(derive.fd, target);
	close(derive.fd);
	return ret;
}

static int attack_derive(const struct target *target, const char **detail) {
	int ret = derive_and_write(target, DMA_BUF_IOCTL_DERIVE, O_RDWR);
	if (ret == -ENOTTY) {
		*detail = "the kernel lacks DMA_BUF_IOCTL_DERIVE";
		return ATTACK_UNAVAILABLE;
	}
	if (ret < 0 && derive_and_write(target, DMA_BUF_IOCTL_DERIVE_UNGUARDED, O_RDONLY) ==
			ATTACK_WORKED) {
		return ATTACK_WORKED;
	}
	return ret;
}

int audit_guard(int borrowed_fd) {
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		return errno == ENOENT ? -ENODEV : -errno;
	}
	struct dma_buf_guard_create create = { .flags = O_CLOEXEC, .fd = borrowed_fd };
	int ret = ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, &create) < 0 ? -errno : create.guard_fd;
	close(device);
	return ret;
}

/** A guard is never writable, but what was guarded must not become so either. */
static int attack_guard(const struct target *target, const char **detail) {
	int guard = audit_guard(target->fd);
	if (guard == -ENODEV) {
		*detail = "the module dma_buf_guard is not there";
		return ATTACK_UNAVAILABLE;
	} else if (guard < 0) {
		return guard;
	}
	int ret = attack_write_somehow(guard, target);
	if (ret < 0) {
		ret = attack_write_somehow(target->fd, target);
	}
	close(guard);
	return ret;
}

/* Rows 10 and 11: DRM devices */

/** What a mapping of the device itself lets through at an offset. */
static int drm_map_and_write(int device, uint64_t offset, const struct target *target) {
	int ret = attack_map(device, offset, MAP_SHARED, MAP_WAY_DIRECT, target);
	if (ret == -EINVAL) {
		return ret; // nothing is there
	}
	if (ret < 0 && attack_map(device, offset, MAP_SHARED, MAP_WAY_MPROTECT, target) >= 0) {
		return ATTACK_WORKED;
	}
	if (ret < 0 && attack_map(device, offset, MAP_SHARED, MAP_WAY_REMAP, target) >= 0) {
		return ATTACK_WORKED;
	}
	return ret;
}

/** What is at the offsets that a device has for its objects, which need not be told. */
static int drm_search_and_write(int device, const struct target *target) {
	static uint64_t end = FAKE_OFFSET_PAGES; // until one has been found: ours comes first
	int ret = -EINVAL;
	for (uint64_t page = 0; ret < 0 && page < end; page++) {
		int found = drm_map_and_write(device, FAKE_OFFSET + page * audit_round_to_pages(1),
			target);
		ret = found == -EINVAL ? ret : found;
		if (found >= 0 && (end == FAKE_OFFSET_PAGES || end < page + FAKE_OFFSET_SLACK)) {
			end = page + FAKE_OFFSET_SLACK;
		}
	}
	return ret;
}

static int drm_use_map(int device, uint32_t handle, const struct target *target) {
	uint64_t offset;
	int ret = drm_get_dumb_offset(device, handle, &offset);
	if (ret == 0) {
		ret = drm_map_and_write(device, offset, target);
	}
	return ret < 0 ? drm_search_and_write(device, target) : ret;
}

static int drm_use_export(int device, uint32_t handle, const struct target *target) {
	int fd = drm_export(device, handle, DRM_RDWR | DRM_CLOEXEC);
	if (fd < 0) {
		return fd;
	}
	int ret = attack_write_somehow(fd, target);
	close(fd);
	return ret;
}

static void drm_close(int device, uint32_t handle) {
	struct drm_gem_close close_handle = { .handle = handle };
	ioctl(device, DRM_IOCTL_GEM_CLOSE, &close_handle);
}

/** Returns the id of a framebuffer, which only displays have, or a negative errno. */
static int64_t drm_add_framebuffer(int device, uint32_t handle, const struct target *target) {
	const uint32_t width = 64, stride = 4 * width, rows = (uint32_t)(target->len / stride);
	struct drm_mode_fb_cmd2 fb = {
		.width = width,
		.height = rows < 64 ? rows : 64,
		.pixel_format = DRM_FORMAT_XRGB8888,
		.handles = { handle },
		.pitches = { stride },
	};
	return ioctl(device, DRM_IOCTL_MODE_ADDFB2, &fb) < 0 ? -(int64_t)errno : (int64_t)fb.fb_id;
}

/** A second handle of the same object: what was imported is no longer known of it. */
static int drm_use_framebuffer(int device, uint32_t handle, const struct target *target) {
	int64_t id = drm_add_framebuffer(device, handle, target);
	if (id < 0) {
		return (int)id;
	}
	struct drm_mode_fb_cmd2 fb = { .fb_id = (uint32_t)id };
	int ret = ioctl(device, DRM_IOCTL_MODE_GETFB2, &fb) < 0 ? -errno : 0;
	if (ret == 0 && fb.handles[0] == 0) {
		ret = -EPERM; // told to the master alone
	} else if (ret == 0) {
		ret = drm_use_export(device, fb.handles[0], target);
		drm_close(device, fb.handles[0]);
	}
	uint32_t removed = (uint32_t)id;
	ioctl(device, DRM_IOCTL_MODE_RMFB, &removed);
	return ret;
}

/** A handle of the same object in another file. */
static int drm_use_name(int device, uint32_t handle, const struct target *target) {
	struct drm_gem_flink flink = { .handle = handle };
	if (ioctl(device, DRM_IOCTL_GEM_FLINK, &flink) < 0) {
		return -errno;
	}
	int other = drm_node_open(target->node);
	if (other < 0) {
		return other;
	}
	struct drm_gem_open open_name = { .name = flink.name };
	int ret = ioctl(other, DRM_IOCTL_GEM_OPEN, &open_name) < 0 ? -errno :
		drm_use_export(other, open_name.handle, target);
	close(other);
	return ret;
}

static int drm_import_and_use(int device, const struct target *target,
		int (*use)(int device, uint32_t handle, const struct target *target)) {
	struct drm_prime_handle prime = { .fd = target->fd };
	if (ioctl(device, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) < 0) {
		return -errno;
	}
	int ret = use(device, prime.handle, target);
	drm_close(device, prime.handle);
	return ret;
}

static int attack_drm(const struct target *target, const char **detail,
		int (*use)(int device, uint32_t handle, const struct target *target)) {
	int device = target->node != NULL ? drm_node_open(target->node) : -ENODEV;
	if (device < 0) {
		*detail = "no DRM node can be opened";
		return ATTACK_UNAVAILABLE;
	}
	int ret = drm_import_and_use(device, target, use);
	close(device);
	return ret;
}

static int attack_prime_map(const struct target *target, const char **detail) {
	return attack_drm(target, detail, drm_use_map);
}

static int attack_prime_export(const struct target *target, const char **detail) {
	return attack_drm(target, detail, drm_use_export);
}

static int attack_prime_framebuffer(const struct target *target, const char **detail) {
	return attack_drm(target, detail, drm_use_framebuffer);
}

static int attack_prime_name(const struct target *target, const char **detail) {
	return attack_drm(target, detail, drm_use_name);
}

/* Row 12: what drivers do with what they import */

static int attack_importer(const struct target *target, const char **detail,
		unsigned long request, unsigned long argument) {
	int importer = open(IMPORTER_DEVICE, O_RDWR | O_CLOEXEC);
	if (importer < 0) {
		*detail = "the importer of Vitrine's tests is not loaded";
		return ATTACK_UNAVAILABLE;
	}
	struct importer_attach attach = { .fd = target->fd };
	int ret = ATTACK_WORKED;
	if (ioctl(importer, IMPORTER_ATTACH, &attach) < 0 ||
			ioctl(importer, request, argument) < 0) {
		ret = -errno;
	}
	close(importer); // unmaps and detaches
	return ret;
}

static int attack_map_bidirectional(const struct target *target, const char **detail) {
	return attack_importer(target, detail, IMPORTER_MAP, DMA_BIDIRECTIONAL);
}

static int attack_map_from_device(const struct target *target, const char **detail) {
	return attack_importer(target, detail, IMPORTER_MAP, DMA_FROM_DEVICE);
}

static int attack_vmap(const struct target *target, const char **detail) {
	return attack_importer(target, detail, IMPORTER_STORE, (unsigned char)*target->mark);
}

/* Row 13: what the owner sees */

static int attack_sync_write(const struct target *target, const char **detail) {
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE };
	if (ioctl(target->fd, DMA_BUF_IOCTL_SYNC, &sync) < 0) {
		return -errno;
	}
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE;
	ioctl(target->fd, DMA_BUF_IOCTL_SYNC, &sync);
	return ATTACK_WORKED;
}

/** Exporters need not expect several at once. */
#define SYNC_CHILDREN 2
#define SYNC_ROUNDS 50

static void sync_often(int dmabuf_fd) {
	static const uint64_t flags[] = {
		DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ,
		DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ,
		DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW,
		DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW,
	};
	for (size_t i = 0; i < SYNC_ROUNDS * sizeof(flags) / sizeof(flags[0]); i++) {
		struct dma_buf_sync sync = { .flags = flags[i % (sizeof(flags) / sizeof(flags[0]))] };
		ioctl(dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync);
	}
}

void audit_sync_dmabuf(int dmabuf_fd) {
	pid_t children[SYNC_CHILDREN];
	for (size_t i = 0; i < SYNC_CHILDREN; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			sync_often(dmabuf_fd);
			_exit(EXIT_SUCCESS);
		}
	}
	sync_often(dmabuf_fd);
	for (size_t i = 0; i < SYNC_CHILDREN; i++) {
		while (children[i] > 0 && waitpid(children[i], NULL, 0) < 0 && errno == EINTR) {
		}
	}
}

static int attack_set_name(const struct target *target, const char **detail) {
	return ioctl(target->fd, DMA_BUF_SET_NAME_B, "vitrine-audit") == 0 ? ATTACK_WORKED : -errno;
}

const struct attack dmabuf_attacks[] = {
	{ 9, "DMA_BUF_IOCTL_DERIVE again and write", DMABUFS, 0, CONTROL_DMABUF, 0, attack_derive },
	{ 9, "DMA_BUF_GUARD_IOCTL_CREATE again and write", DMABUFS, 0, CONTROL_DMABUF, 0,
		attack_guard },
	{ 10, "PRIME import, map and store", GUARDED, FD_READ_ONLY, CONTROL_DMABUF,
		ATTACK_PER_NODE | ATTACK_UP_TO_DRIVERS, attack_prime_map },
	{ 11, "PRIME import, export with DRM_RDWR and write", DMABUFS, 0, CONTROL_DMABUF,
		ATTACK_PER_NODE | ATTACK_UP_TO_DRIVERS, attack_prime_export },
	{ 11, "PRIME import, GETFB2, export and write", DMABUFS, 0, CONTROL_DMABUF,
		ATTACK_PER_NODE | ATTACK_UP_TO_DRIVERS, attack_prime_framebuffer },
	{ 11, "PRIME import, FLINK and GEM_OPEN, export and write", DMABUFS, 0,
		CONTROL_DMABUF, ATTACK_PER_NODE | ATTACK_UP_TO_DRIVERS, attack_prime_name },
	{ 12, "device mapping with DMA_BIDIRECTIONAL", GUARDED, FD_READ_ONLY, CONTROL_DMABUF,
		ATTACK_CLAIM | ATTACK_UP_TO_DRIVERS, attack_map_bidirectional },
	{ 12, "device mapping with DMA_FROM_DEVICE", GUARDED, FD_READ_ONLY, CONTROL_DMABUF,
		ATTACK_CLAIM | ATTACK_UP_TO_DRIVERS, attack_map_from_device },
	{ 12, "vmap by a driver and store", GUARDED, FD_READ_ONLY, CONTROL_DMABUF,
		ATTACK_UP_TO_DRIVERS, attack_vmap },
	{ 13, "DMA_BUF_IOCTL_SYNC with WRITE", GUARDED, FD_READ_ONLY, CONTROL_DMABUF, ATTACK_CLAIM,
		attack_sync_write },
	// A guard has a name of its own: setting that one changes nothing for the owner
	{ 13, "DMA_BUF_SET_NAME of the owner's buffer", GUARDED, FD_READ_ONLY, CONTROL_DMABUF,
		ATTACK_OWNER_JUDGES, attack_set_name },
};
const size_t dmabuf_attacks_len = sizeof(dmabuf_attacks) / sizeof(dmabuf_attacks[0]);
