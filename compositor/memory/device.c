/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wlr/util/log.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "device.h"
#include "reader.h"

/** An empty lease is a file of its own as well, and needs no permission for a path. -1 if none. */
static int lease_nothing(int drm_fd) {
	uint32_t lessee;
	int fd = drmIsMaster(drm_fd) ?
		drmModeCreateLease(drm_fd, NULL, 0, O_CLOEXEC, &lessee) : -1;
	return fd < 0 ? -1 : fd; // the kernel is older than that, or the device has no leases
}

/** Takes the path over, which may be NULL. Returns -1 if it cannot be opened. */
static int open_path(char *take_path) {
	int fd = take_path != NULL ? open(take_path, O_RDWR | O_CLOEXEC) : -1;
	if (take_path != NULL && fd < 0) {
		wlr_log_errno(WLR_ERROR, "Failed to open %s", take_path);
	}
	free(take_path);
	return fd;
}

static int reopen(int drm_fd, bool prefer_render_node) {
	int fd = prefer_render_node ? open_path(drmGetRenderDeviceNameFromFd(drm_fd)) : -1;
	if (fd < 0) {
		fd = lease_nothing(drm_fd);
	}
	return fd < 0 ? open_path(drmGetDeviceNameFromFd2(drm_fd)) : fd;
}

/** The number by which clients know the device, or 0. */
static dev_t get_id(int drm_fd) {
	struct stat status;
	return fstat(drm_fd, &status) == 0 ? vt_reader_find_node(status.st_rdev) : 0;
}

struct vt_device *vt_device_open(int drm_fd, bool prefer_render_node) {
	struct vt_device *device = calloc(1, sizeof(*device));
	if (device == NULL) {
		return NULL;
	}
	device->n_refs = 1;
	device->fd = reopen(drm_fd, prefer_render_node);
	if (device->fd < 0) {
		free(device);
		return NULL;
	}
	device->id = get_id(device->fd);
	return device;
}

struct vt_device *vt_device_ref(struct vt_device *device) {
	device->n_refs++;
	return device;
}

void vt_device_unref(struct vt_device *device) {
	if (device != NULL && --device->n_refs == 0) {
		close(device->fd);
		free(device);
	}
}
