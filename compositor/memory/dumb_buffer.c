/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wlr/util/log.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "buffer.h"

static void *map_dumb(int drm_fd, uint32_t handle, uint64_t size) {
	uint64_t offset;
	if (size > SIZE_MAX || drmModeMapDumbBuffer(drm_fd, handle, &offset) != 0) {
		return MAP_FAILED;
	}
	return mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, drm_fd, (off_t)offset);
}

bool vt_buffer_init_dumb(struct vt_buffer *buffer, int drm_fd, int width, int height,
		uint32_t fourcc) {
	uint32_t bytes_per_pixel = vt_format_get_bytes_per_pixel(fourcc);
	if (bytes_per_pixel == 0 || width <= 0 || height <= 0) {
		wlr_log(WLR_ERROR, "Unsupported buffer: %dx%d, format 0x%08" PRIX32,
			width, height, fourcc);
		return false;
	}
	uint32_t handle, stride;
	uint64_t size;
	if (drmModeCreateDumbBuffer(drm_fd, (uint32_t)width, (uint32_t)height,
			bytes_per_pixel * 8, 0, &handle, &stride, &size) != 0) {
		wlr_log_errno(WLR_ERROR, "Failed to create a dumb buffer");
		return false;
	}
	void *data = map_dumb(drm_fd, handle, size);
	if (data == MAP_FAILED) {
		wlr_log_errno(WLR_ERROR, "Failed to map a dumb buffer");
		goto err_handle;
	}
	// Without DRM_RDWR: "the first export decides", for all later ones as well
	int dmabuf_fd;
	if (drmPrimeHandleToFD(drm_fd, handle, DRM_CLOEXEC, &dmabuf_fd) != 0) {
		wlr_log_errno(WLR_ERROR, "Failed to export a dumb buffer");
		goto err_map;
	}

	buffer->memory.data = data;
	buffer->memory.size = buffer->size = (size_t)size;
	buffer->drm_fd = drm_fd;
	buffer->gem_handle = handle;
	buffer->shm = (struct wlr_shm_attributes){
		.fd = -1,
		.format = fourcc,
		.width = width,
		.height = height,
		.stride = (int)stride,
	};
	buffer->dmabuf = (struct wlr_dmabuf_attributes){
		.width = width,
		.height = height,
		.format = fourcc,
		.modifier = DRM_FORMAT_MOD_LINEAR,
		.n_planes = 1,
		.stride[0] = stride,
		.fd[0] = dmabuf_fd,
	};
	return true;

err_map:
	munmap(data, (size_t)size);
err_handle:
	drmModeDestroyDumbBuffer(drm_fd, handle);
	return false;
}

void vt_buffer_finish_dumb(struct vt_buffer *buffer) {
	munmap(buffer->memory.data, buffer->memory.size);
	drmModeDestroyDumbBuffer(buffer->drm_fd, buffer->gem_handle);
}
