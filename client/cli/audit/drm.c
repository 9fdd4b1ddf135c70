/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <drm.h>
#include <drm/vgem_drm.h>
#include <drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "audit.h"

/* From drivers/dma-buf/sw_sync.c, which has no header */
struct sw_sync_create_fence_data {
	uint32_t value;
	char name[32];
	int32_t fence;
};
#define SW_SYNC_IOC_CREATE_FENCE _IOWR('W', 0, struct sw_sync_create_fence_data)

static struct drm_node nodes[MAX_DRM_NODES];
static size_t nodes_len;
static bool nodes_are_known;

int drm_node_open(const struct drm_node *node) {
	int fd = open(node->path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool can_export(int fd) {
	struct drm_get_cap cap = { .capability = DRM_CAP_PRIME };
	return ioctl(fd, DRM_IOCTL_GET_CAP, &cap) == 0 && (cap.value & DRM_PRIME_CAP_EXPORT);
}

/** Returns whether it is a DRM node that can be opened. */
static bool drm_node_init(struct drm_node *node, const char *file) {
	*node = (struct drm_node){0};
	snprintf(node->path, sizeof(node->path), "/dev/dri/%.20s", file);
	int fd = drm_node_open(node);
	if (fd < 0) {
		return false;
	}
	char driver[20] = "";
	struct drm_version version = { .name = driver, .name_len = sizeof(driver) - 1 };
	bool ok = ioctl(fd, DRM_IOCTL_VERSION, &version) == 0;
	// DRM_CAP_DUMB_BUFFER is no help: vgem has them, and does not say so as it has no displays
	node->may_have_dumb_buffers = ok && strncmp(file, "card", 4) == 0 && can_export(fd);
	close(fd);
	snprintf(node->driver, sizeof(node->driver), "%s", driver);
	snprintf(node->name, sizeof(node->name), "%s %.20s", driver, file);
	return ok;
}

static int compare_nodes(const void *a, const void *b) {
	return strverscmp(((const struct drm_node *)a)->path, ((const struct drm_node *)b)->path);
}

static void find_drm_nodes(void) {
	DIR *dir = opendir("/dev/dri");
	struct dirent *entry;
	while (dir != NULL && nodes_len < MAX_DRM_NODES && (entry = readdir(dir)) != NULL) {
		bool named = strncmp(entry->d_name, "card", 4) == 0 ||
			strncmp(entry->d_name, "renderD", 7) == 0;
		nodes_len += named && drm_node_init(&nodes[nodes_len], entry->d_name);
	}
	if (dir != NULL) {
		closedir(dir);
	}
	qsort(nodes, nodes_len, sizeof(nodes[0]), compare_nodes);
}

const struct drm_node *audit_get_drm_nodes(size_t *len) {
	if (!nodes_are_known) {
		find_drm_nodes();
		nodes_are_known = true;
	}
	*len = nodes_len;
	return nodes;
}

int drm_create_dumb(int device, uint64_t *len, uint32_t *handle) {
	const uint32_t width = 64, bytes_per_row = 4 * width;
	struct drm_mode_create_dumb create = {
		.width = width,
		.height = (uint32_t)((*len + bytes_per_row - 1) / bytes_per_row),
		.bpp = 32,
	};
	if (ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, &create) < 0) {
		return -errno;
	}
	*len = create.size;
	*handle = create.handle;
	return 0;
}

int drm_get_dumb_offset(int device, uint32_t handle, uint64_t *offset) {
	struct drm_mode_map_dumb map = { .handle = handle };
	if (ioctl(device, DRM_IOCTL_MODE_MAP_DUMB, &map) < 0) {
		return -errno;
	}
	*offset = map.offset;
	return 0;
}

int drm_export(int device, uint32_t handle, uint32_t flags) {
	struct drm_prime_handle prime = { .handle = handle, .flags = flags, .fd = -1 };
	return ioctl(device, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) < 0 ? -errno : prime.fd;
}

static bool fence_init_sw_sync(struct fence *fence) {
	fence->device = open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC);
	if (fence->device < 0) {
		return false;
	}
	struct sw_sync_create_fence_data data = { .value = 1, .name = "vitrine-audit" };
	if (ioctl(fence->device, SW_SYNC_IOC_CREATE_FENCE, &data) < 0) {
		close(fence->device);
		return false;
	}
	fence->sync_fd = data.fence;
	return true;
}

/** vgem attaches a fence to a buffer of its own, from which it can be had as a file. */
static int attach_vgem_fence(int device, uint32_t *vgem_fence) {
	uint64_t len = 1;
	uint32_t handle = 0;
	int ret = drm_create_dumb(device, &len, &handle);
	if (ret < 0) {
		return ret;
	}
	int dmabuf_fd = drm_export(device, handle, DRM_RDWR | DRM_CLOEXEC);
	if (dmabuf_fd < 0) {
		return dmabuf_fd;
	}
	struct drm_vgem_fence_attach attach = { .handle = handle, .flags = VGEM_FENCE_WRITE };
	struct dma_buf_export_sync_file export = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	if (ioctl(device, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) < 0 ||
			ioctl(dmabuf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) < 0) {
		ret = -errno;
	}
	close(dmabuf_fd);
	*vgem_fence = attach.out_fence;
	return ret < 0 ? ret : export.fd;
}

static bool fence_init_vgem(struct fence *fence) {
	size_t len;
	const struct drm_node *list = audit_get_drm_nodes(&len);
	for (size_t i = 0; i < len; i++) {
		if (strcmp(list[i].driver, "vgem") != 0 || !list[i].may_have_dumb_buffers) {
			continue;
		}
		fence->device = drm_node_open(&list[i]);
		if (fence->device < 0) {
			continue;
		}
		int ret = attach_vgem_fence(fence->device, &fence->vgem_fence);
		if (ret >= 0) {
			fence->sync_fd = ret;
			return true;
		}
		close(fence->device);
	}
	return false;
}

int fence_init(struct fence *fence) {
	*fence = (struct fence){ .sync_fd = -1, .device = -1 };
	if (fence_init_sw_sync(fence) || fence_init_vgem(fence)) {
		return 0;
	}
	*fence = (struct fence){ .sync_fd = -1, .device = -1 };
	return -ENODEV;
}

void fence_finish(struct fence *fence) {
	if (fence->sync_fd < 0) {
		return;
	}
	struct drm_vgem_fence_signal signal = { .fence = fence->vgem_fence };
	if (signal.fence != 0) {
		ioctl(fence->device, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal);
	}
	close(fence->sync_fd);
	close(fence->device); // signals what is left of SW_SYNC
	*fence = (struct fence){ .sync_fd = -1, .device = -1 };
}

int fence_import(const struct fence *fence, int dmabuf_fd) {
	struct dma_buf_import_sync_file import = {
		.flags = DMA_BUF_SYNC_WRITE,
		.fd = fence->sync_fd,
	};
	return ioctl(dmabuf_fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) < 0 ? -errno : 0;
}

bool fence_is_awaited(int dmabuf_fd) {
	struct pollfd pollfd = { .fd = dmabuf_fd, .events = POLLIN };
	return poll(&pollfd, 1, 0) == 0;
}
