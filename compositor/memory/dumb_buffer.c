/* SPDX-License-Identifier: MIT */
/*
 * A dumb buffer of a DRM device, whose first export is O_RDONLY.
 */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vitrine/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "buffer.h"
#include "device.h"
#include "format.h"

struct dumb_allocator {
	struct wlr_allocator base;
	struct vt_device *device;
};

struct dumb_buffer {
	struct vt_buffer base;
	struct vt_device *device; // a reference
	uint32_t gem_handle;
	void *data; // mapped for as long as the buffer lives
};

static struct dumb_buffer *dumb_buffer_from_base(const struct vt_buffer *base) {
	struct dumb_buffer *buffer = wl_container_of(base, buffer, base);
	return buffer;
}

static void dumb_buffer_destroy(struct vt_buffer *base) {
	struct dumb_buffer *buffer = dumb_buffer_from_base(base);
	munmap(buffer->data, base->memory_size);
	drmModeDestroyDumbBuffer(buffer->device->fd, buffer->gem_handle);
	vt_device_unref(buffer->device);
	free(buffer);
}

static bool dumb_buffer_begin_data_ptr_access(struct wlr_buffer *wlr_buffer, uint32_t flags,
		void **data, uint32_t *format, size_t *stride) {
	const struct vt_buffer *base = vt_buffer_try_from_buffer(wlr_buffer);
	if (base->retired && (flags & WLR_BUFFER_DATA_PTR_ACCESS_WRITE)) {
		// Better no frame than one that the wrong people see
		wlr_log(WLR_ERROR, "Refused to draw into a retired dma-buf");
		return false;
	}
	*data = dumb_buffer_from_base(base)->data;
	*format = base->fourcc;
	*stride = base->stride;
	return true;
}

static void dumb_buffer_end_data_ptr_access(struct wlr_buffer *wlr_buffer) {
	// The mapping stays for as long as the buffer lives
}

static bool dumb_buffer_get_derive_source(const struct vt_buffer *base, int plane,
		bool is_scanned_out, struct vitrine_derive_source *source) {
	*source = (struct vitrine_derive_source){
		.memfd = -1,
		.dmabuf_fd = base->dmabuf.fd[0],
		// This is the display's own dma-buf: what a holder does to its fences would
		// stop page flips
		.dmabuf_first_export_read_only = !is_scanned_out,
		.dmabuf_is_mapped = true,
		.size = base->size,
	};
	return true;
}

static const struct vt_buffer_kind dumb_buffer_kind = {
	.base = {
		.destroy = vt_buffer_handle_destroy,
		.get_dmabuf = vt_buffer_handle_get_dmabuf,
		.begin_data_ptr_access = dumb_buffer_begin_data_ptr_access,
		.end_data_ptr_access = dumb_buffer_end_data_ptr_access,
	},
	.destroy = dumb_buffer_destroy,
	.get_derive_source = dumb_buffer_get_derive_source,
};

/* Making them */

static void *map_dumb(int drm_fd, uint32_t handle, uint64_t size) {
	uint64_t offset;
	if (size > SIZE_MAX || drmModeMapDumbBuffer(drm_fd, handle, &offset) != 0) {
		return MAP_FAILED;
	}
	return mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, drm_fd, (off_t)offset);
}

static struct wlr_buffer *dumb_buffer_create(struct vt_device *device, int width, int height,
		const struct wlr_drm_format *format) {
	int drm_fd = device->fd;
	uint32_t bytes_per_pixel = vt_format_get_bytes_per_pixel(format, width, height);
	struct dumb_buffer *buffer = bytes_per_pixel > 0 ? calloc(1, sizeof(*buffer)) : NULL;
	if (buffer == NULL) {
		return NULL;
	}
	uint32_t handle, stride;
	uint64_t size;
	if (drmModeCreateDumbBuffer(drm_fd, (uint32_t)width, (uint32_t)height,
			bytes_per_pixel * 8, 0, &handle, &stride, &size) != 0) {
		wlr_log_errno(WLR_ERROR, "Failed to create a dumb buffer");
		goto err_buffer;
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

	struct vt_buffer *base = &buffer->base;
	vt_buffer_init(base, &dumb_buffer_kind, width, height);
	base->fourcc = format->format;
	base->stride = stride;
	base->size = base->memory_size = (size_t)size;
	base->dmabuf = (struct wlr_dmabuf_attributes){
		.width = width,
		.height = height,
		.format = format->format,
		.modifier = base->modifier,
		.n_planes = 1,
		.stride[0] = stride,
		.fd[0] = dmabuf_fd,
	};
	base->device = device->id;
	base->is_mapped_dmabuf = true;
	buffer->device = vt_device_ref(device);
	buffer->gem_handle = handle;
	buffer->data = data;
	return &base->base;

err_map:
	munmap(data, (size_t)size);
err_handle:
	drmModeDestroyDumbBuffer(drm_fd, handle);
err_buffer:
	free(buffer);
	return NULL;
}

static struct wlr_buffer *dumb_allocator_create_buffer(struct wlr_allocator *wlr_allocator,
		int width, int height, const struct wlr_drm_format *format) {
	struct dumb_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	return dumb_buffer_create(allocator->device, width, height, format);
}

static void dumb_allocator_destroy(struct wlr_allocator *wlr_allocator) {
	struct dumb_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	vt_device_unref(allocator->device);
	free(allocator);
}

static const struct wlr_allocator_interface dumb_allocator_impl = {
	.create_buffer = dumb_allocator_create_buffer,
	.destroy = dumb_allocator_destroy,
};

struct wlr_allocator *vitrine_allocator_create_dumb(int drm_fd, struct wlr_renderer *renderer) {
	const uint32_t caps = WLR_BUFFER_CAP_DATA_PTR | WLR_BUFFER_CAP_DMABUF;
	uint64_t has_dumb = 0;
	if (drm_fd < 0 || !(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) ||
			drmGetCap(drm_fd, DRM_CAP_DUMB_BUFFER, &has_dumb) != 0 || !has_dumb) {
		wlr_log(WLR_ERROR, "Dumb buffers are for renderers that draw with the CPU, on "
			"DRM devices that have them");
		return NULL;
	}
	struct dumb_allocator *allocator = calloc(1, sizeof(*allocator));
	if (allocator == NULL) {
		return NULL;
	}
	allocator->device = vt_device_open(drm_fd, false);
	if (allocator->device == NULL) {
		free(allocator);
		return NULL;
	}
	wlr_allocator_init(&allocator->base, &dumb_allocator_impl, caps);
	return &allocator->base;
}
