/* SPDX-License-Identifier: MIT */
/*
 * Programs with this have a DRM device, which is /dev/null, and all file descriptors are
 * dma-bufs of it: wlroots offers linux-dmabuf then, and makes buffers of memfds. It calls
 * these rather than libdrm's, as the program comes first.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <xf86drm.h>

static char node[] = "/dev/null";

int drmGetDeviceFromDevId(dev_t dev_id, uint32_t flags, drmDevicePtr *device) {
	*device = calloc(1, sizeof(**device));
	if (*device == NULL) {
		return -1;
	}
	static char *nodes[DRM_NODE_MAX] = { node, node, node };
	(*device)->nodes = nodes;
	(*device)->available_nodes = 1 << DRM_NODE_PRIMARY | 1 << DRM_NODE_RENDER;
	return 0;
}

void drmFreeDevice(drmDevicePtr *device) {
	free(*device);
	*device = NULL;
}

int drmPrimeFDToHandle(int fd, int prime_fd, uint32_t *handle) {
	*handle = 1;
	return 0;
}

int drmCloseBufferHandle(int fd, uint32_t handle) {
	return 0;
}
