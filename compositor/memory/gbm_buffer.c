/* SPDX-License-Identifier: MIT */
/*
 * A buffer of GBM, whose first export is O_RDONLY.
 */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <gbm.h>
#include <stdlib.h>
#include <unistd.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/util/log.h>
#include <xf86drm.h>

#include "buffer.h"
#include "device.h"
#include "gbm_buffer.h"

/** GBM on a device, which lives as long as its allocator and its last buffer. */
struct device {
	size_t n_refs;
	struct vt_device *drm;
	struct gbm_device *gbm;
};

struct gbm_allocator {
	struct wlr_allocator base;
	struct device *device;
	bool is_for_display;
};

struct gbm_buffer {
	struct vt_buffer base;
	struct device *device;
	struct gbm_bo *bo;
};

static void device_unref(struct device *device) {
	if (--device->n_refs > 0) {
		return;
	}
	gbm_device_destroy(device->gbm);
	vt_device_unref(device->drm);
	free(device);
}

static struct gbm_buffer *gbm_buffer_from_base(const struct vt_buffer *base) {
	struct gbm_buffer *buffer = wl_container_of(base, buffer, base);
	return buffer;
}

static void gbm_buffer_destroy(struct vt_buffer *base) {
	struct gbm_buffer *buffer = gbm_buffer_from_base(base);
	gbm_bo_destroy(buffer->bo);
	device_unref(buffer->device);
	free(buffer);
}

static bool gbm_buffer_get_derive_source(const struct vt_buffer *base, int plane,
		bool is_scanned_out, struct vitrine_derive_source *source) {
	off_t size = lseek(base->dmabuf.fd[plane], 0, SEEK_END);
	*source = (struct vitrine_derive_source){
		.memfd = -1,
		.dmabuf_fd = base->dmabuf.fd[plane],
		// What a holder does to the fences of a display's own dma-buf would stop page flips
		.dmabuf_first_export_read_only = !is_scanned_out,
		.size = size > 0 ? (size_t)size : 0,
	};
	return size > 0;
}

static const struct vt_buffer_kind gbm_buffer_kind = {
	.base = {
		.destroy = vt_buffer_handle_destroy,
		.get_dmabuf = vt_buffer_handle_get_dmabuf,
	},
	.destroy = gbm_buffer_destroy,
	.get_derive_source = gbm_buffer_get_derive_source,
};

/* Making them */

static bool allows(const struct wlr_drm_format *format, uint64_t modifier) {
	for (size_t i = 0; i < format->len; i++) {
		if (format->modifiers[i] == modifier) {
			return true;
		}
	}
	return false;
}

/** NULL if the driver cannot; else with its modifier, which is INVALID if the driver keeps it to itself. */
static struct gbm_bo *create_bo(const struct gbm_allocator *allocator, int width, int height,
		const struct wlr_drm_format *format, uint64_t *modifier) {
	struct gbm_device *gbm = allocator->device->gbm;
	uint32_t usage = GBM_BO_USE_RENDERING;
	if (allocator->is_for_display) {
		usage |= GBM_BO_USE_SCANOUT;
	}
	struct gbm_bo *bo = gbm_bo_create_with_modifiers2(gbm, (uint32_t)width, (uint32_t)height,
		format->format, format->modifiers, (unsigned)format->len, usage);
	if (bo != NULL) {
		*modifier = gbm_bo_get_modifier(bo);
		return bo;
	}
	// Drivers without modifiers. What is only copied to had better be in a layout that
	// has a name; what is drawn to, in the one that is fast
	bool is_implicit = allows(format, DRM_FORMAT_MOD_INVALID) &&
		(allocator->is_for_display || !allows(format, DRM_FORMAT_MOD_LINEAR));
	if (!is_implicit && !allows(format, DRM_FORMAT_MOD_LINEAR)) {
		return NULL;
	}
	*modifier = is_implicit ? DRM_FORMAT_MOD_INVALID : DRM_FORMAT_MOD_LINEAR;
	return gbm_bo_create(gbm, (uint32_t)width, (uint32_t)height, format->format,
		usage | (is_implicit ? 0 : GBM_BO_USE_LINEAR));
}

/** "The first export decides", for all later ones as well: it is without DRM_RDWR. */
static int export_plane(const struct device *device, struct gbm_bo *bo, int plane) {
	int fd;
	if (drmPrimeHandleToFD(device->drm->fd, gbm_bo_get_handle_for_plane(bo, plane).u32,
			DRM_CLOEXEC, &fd) != 0) {
		wlr_log_errno(WLR_ERROR, "Failed to export a GPU buffer");
		return -1;
	}
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY) {
		// Drivers that export a buffer as they make it
		wlr_log(WLR_INFO, "The GPU's driver exports its buffers for writing");
		close(fd);
		return -1;
	}
	return fd;
}

static bool export_bo(const struct device *device, struct gbm_bo *bo, uint64_t modifier,
		struct wlr_dmabuf_attributes *dmabuf) {
	*dmabuf = (struct wlr_dmabuf_attributes){
		.width = (int)gbm_bo_get_width(bo),
		.height = (int)gbm_bo_get_height(bo),
		.format = gbm_bo_get_format(bo),
		.modifier = modifier,
	};
	int n_planes = gbm_bo_get_plane_count(bo);
	for (int i = 0; i < n_planes && i < WLR_DMABUF_MAX_PLANES; i++) {
		int fd = export_plane(device, bo, i);
		if (fd < 0) {
			break;
		}
		dmabuf->fd[i] = fd;
		dmabuf->offset[i] = gbm_bo_get_offset(bo, i);
		dmabuf->stride[i] = gbm_bo_get_stride_for_plane(bo, i);
		dmabuf->n_planes = i + 1;
	}
	if (n_planes <= 0 || dmabuf->n_planes != n_planes) {
		wlr_dmabuf_attributes_finish(dmabuf);
		return false;
	}
	return true;
}

/** The memory of all planes, which may be one. */
static size_t get_size(const struct wlr_dmabuf_attributes *dmabuf) {
	off_t size = lseek(dmabuf->fd[0], 0, SEEK_END);
	uint64_t rows = (uint64_t)dmabuf->stride[0] * (uint64_t)dmabuf->height;
	return size > 0 && (uint64_t)size > rows ? (size_t)size : (size_t)rows;
}

static struct wlr_buffer *gbm_allocator_create_buffer(struct wlr_allocator *wlr_allocator,
		int width, int height, const struct wlr_drm_format *format) {
	struct gbm_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	struct gbm_buffer *buffer = calloc(1, sizeof(*buffer));
	if (buffer == NULL) {
		return NULL;
	}
	struct vt_buffer *base = &buffer->base;
	uint64_t modifier;
	buffer->bo = create_bo(allocator, width, height, format, &modifier);
	if (buffer->bo == NULL) {
		wlr_log_errno(WLR_INFO, "Failed to allocate a GPU buffer of %dx%d", width, height);
		free(buffer);
		return NULL;
	}
	struct wlr_dmabuf_attributes dmabuf;
	if (!export_bo(allocator->device, buffer->bo, modifier, &dmabuf)) {
		gbm_bo_destroy(buffer->bo);
		free(buffer);
		return NULL;
	}
	vt_buffer_init(base, &gbm_buffer_kind, width, height);
	base->fourcc = dmabuf.format;
	base->modifier = modifier;
	base->stride = dmabuf.stride[0];
	base->size = base->memory_size = get_size(&dmabuf);
	base->dmabuf = dmabuf;
	base->device = allocator->device->drm->id;
	buffer->device = allocator->device;
	buffer->device->n_refs++;
	return &base->base;
}

static void gbm_allocator_destroy(struct wlr_allocator *wlr_allocator) {
	struct gbm_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	device_unref(allocator->device);
	free(allocator);
}

static const struct wlr_allocator_interface gbm_allocator_impl = {
	.create_buffer = gbm_allocator_create_buffer,
	.destroy = gbm_allocator_destroy,
};

static struct device *device_create(int borrowed_drm_fd) {
	struct device *device = calloc(1, sizeof(*device));
	if (device == NULL) {
		return NULL;
	}
	device->n_refs = 1;
	device->drm = vt_device_open(borrowed_drm_fd, true);
	device->gbm = device->drm != NULL ? gbm_create_device(device->drm->fd) : NULL;
	if (device->gbm == NULL) {
		wlr_log(WLR_INFO, "The GPU's driver has no GBM");
		vt_device_unref(device->drm);
		free(device);
		return NULL;
	}
	return device;
}

struct wlr_allocator *vt_gbm_allocator_create(int borrowed_drm_fd, bool is_for_display) {
	struct gbm_allocator *allocator = calloc(1, sizeof(*allocator));
	if (allocator == NULL) {
		return NULL;
	}
	allocator->device = device_create(borrowed_drm_fd);
	if (allocator->device == NULL) {
		free(allocator);
		return NULL;
	}
	allocator->is_for_display = is_for_display;
	wlr_allocator_init(&allocator->base, &gbm_allocator_impl, WLR_BUFFER_CAP_DMABUF);
	return &allocator->base;
}
