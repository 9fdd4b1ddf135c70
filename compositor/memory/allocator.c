/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <wlr/backend.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>
#include <xf86drm.h>

#include "buffer.h"

/** Rows start on a cache line, which renderers and readers like. */
#define STRIDE_ALIGN 64

struct vt_allocator {
	struct wlr_allocator base;
	struct vitrine_derive *derive; // for /dev/udmabuf
	struct vt_memory_pool *pool; // NULL if it makes dumb buffers
	bool needs_dmabuf; // the renderer or the backend cannot use anything else
	int drm_fd; // makes dumb buffers instead of memfds; -1 if it does not
};

uint32_t vt_format_get_bytes_per_pixel(uint32_t fourcc) {
	switch (fourcc) {
	case DRM_FORMAT_RGB565:
	case DRM_FORMAT_BGR565:
		return 2;
	case DRM_FORMAT_ARGB8888:
	case DRM_FORMAT_XRGB8888:
	case DRM_FORMAT_ABGR8888:
	case DRM_FORMAT_XBGR8888:
	case DRM_FORMAT_RGBA8888:
	case DRM_FORMAT_RGBX8888:
	case DRM_FORMAT_BGRA8888:
	case DRM_FORMAT_BGRX8888:
	case DRM_FORMAT_ARGB2101010:
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ABGR2101010:
	case DRM_FORMAT_XBGR2101010:
		return 4;
	case DRM_FORMAT_ABGR16161616:
	case DRM_FORMAT_XBGR16161616:
	case DRM_FORMAT_ABGR16161616F:
	case DRM_FORMAT_XBGR16161616F:
		return 8;
	}
	return 0;
}

static bool format_allows_linear(const struct wlr_drm_format *format) {
	for (size_t i = 0; i < format->len; i++) {
		if (format->modifiers[i] == DRM_FORMAT_MOD_LINEAR ||
				format->modifiers[i] == DRM_FORMAT_MOD_INVALID) {
			return true;
		}
	}
	return false;
}

static const struct wlr_buffer_impl buffer_impl;

struct vt_buffer *vt_buffer_try_from_buffer(struct wlr_buffer *wlr_buffer) {
	if (wlr_buffer->impl != &buffer_impl) {
		return NULL;
	}
	struct vt_buffer *buffer = wl_container_of(wlr_buffer, buffer, base);
	return buffer;
}

static void buffer_forget_sealed(struct vt_buffer *buffer) {
	if (buffer->sealed.fd >= 0) {
		close(buffer->sealed.fd);
		buffer->sealed.fd = -1;
	}
}

static void buffer_destroy(struct wlr_buffer *wlr_buffer) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	wlr_buffer_finish(wlr_buffer);
	buffer_forget_sealed(buffer);
	wlr_dmabuf_attributes_finish(&buffer->dmabuf);
	if (buffer->drm_fd >= 0) {
		vt_buffer_finish_dumb(buffer);
	} else {
		vt_memory_pool_forget(buffer->pool, &buffer->memory);
		vt_memory_finish(&buffer->memory);
		vt_memory_pool_unref(buffer->pool);
	}
	free(buffer);
}

static bool buffer_get_shm(struct wlr_buffer *wlr_buffer, struct wlr_shm_attributes *shm) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	if (buffer->shm.fd < 0 || buffer->is_detached) {
		return false;
	}
	*shm = buffer->shm;
	return true;
}

static bool buffer_get_dmabuf(struct wlr_buffer *wlr_buffer,
		struct wlr_dmabuf_attributes *dmabuf) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	if (buffer->dmabuf.n_planes == 0) {
		return false;
	}
	*dmabuf = buffer->dmabuf;
	return true;
}

bool vt_buffer_can_replace_memory(const struct vt_buffer *buffer) {
	// Users of a dma-buf would go on with the old memory
	return buffer->dmabuf.n_planes == 0;
}

void vt_buffer_retire(struct vt_buffer *buffer) {
	buffer->retired = true;
	// Its holders are counted from now on, and we are none of them
	buffer_forget_sealed(buffer);
}

void vt_buffer_prepare_memory(const struct vt_buffer *buffer) {
	if (buffer->pool == NULL) {
		return;
	} else if (vt_buffer_can_replace_memory(buffer)) {
		vt_memory_pool_prepare_copy(buffer->pool, &buffer->memory);
	} else {
		vt_memory_pool_prepare(buffer->pool, buffer->memory.size);
	}
}

/**
 * Puts fresh memory with the same content at the same address, so that writes
 * do not reach the holders of the old memory. The renderer keeps its pointer.
 */
static bool buffer_replace_memory(struct vt_buffer *buffer) {
	if (!vt_buffer_can_replace_memory(buffer)) {
		wlr_log(WLR_ERROR, "Refused to draw into a retired dma-buf");
		return false;
	}
	buffer_forget_sealed(buffer);
	if (vt_memory_pool_replace(buffer->pool, &buffer->memory)) {
		buffer->shm.fd = buffer->memory.memfd;
		buffer->is_detached = false;
	} else if (!buffer->is_detached) {
		if (!vt_memory_detach(&buffer->memory)) {
			return false;
		}
		buffer->is_detached = true;
	}
	buffer->retired = false;
	buffer->generation++;
	return true;
}

static bool buffer_begin_data_ptr_access(struct wlr_buffer *wlr_buffer, uint32_t flags,
		void **data, uint32_t *format, size_t *stride) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	bool wants_fresh = buffer->retired || buffer->is_detached;
	if (buffer->memory.data == NULL || (wants_fresh &&
			(flags & WLR_BUFFER_DATA_PTR_ACCESS_WRITE) && !buffer_replace_memory(buffer))) {
		// Better no frame than one that the wrong people see
		return false;
	}
	*data = buffer->memory.data;
	*format = buffer->shm.format;
	*stride = (size_t)buffer->shm.stride;
	return true;
}

static void buffer_end_data_ptr_access(struct wlr_buffer *wlr_buffer) {
	// The mapping stays for as long as the buffer lives
}

static const struct wlr_buffer_impl buffer_impl = {
	.destroy = buffer_destroy,
	.get_shm = buffer_get_shm,
	.get_dmabuf = buffer_get_dmabuf,
	.begin_data_ptr_access = buffer_begin_data_ptr_access,
	.end_data_ptr_access = buffer_end_data_ptr_access,
};

/** Hands out another file descriptor of the memfd that was derived once. */
static bool buffer_dup_sealed(const struct vt_buffer *buffer,
		struct vitrine_derived_fd *derived) {
	*derived = buffer->sealed;
	derived->fd = fcntl(buffer->sealed.fd, F_DUPFD_CLOEXEC, 0);
	return derived->fd >= 0;
}

bool vt_buffer_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, bool is_scanned_out, struct vitrine_derived_fd *derived) {
	if (buffer->is_detached) {
		return false; // what is derived from the memfd has not what is drawn
	}
	if (buffer->sealed.fd >= 0 && (acceptable & VITRINE_GUARANTEE_SEALED)) {
		return buffer_dup_sealed(buffer, derived);
	}
	const struct vitrine_derive_source source = {
		.memfd = buffer->shm.fd,
		.dmabuf_fd = buffer->dmabuf.n_planes > 0 ? buffer->dmabuf.fd[0] : -1,
		// This is the display's own dma-buf: what a holder does to its fences would
		// stop page flips
		.dmabuf_first_export_read_only = buffer->drm_fd >= 0 && !is_scanned_out,
		.size = buffer->size,
	};
	int ret = vitrine_derive_fd(derive, &source, acceptable, derived);
	if (ret < 0) {
		if (ret != -EOPNOTSUPP) {
			wlr_log(WLR_ERROR, "Failed to derive a read-only view: %s", strerror(-ret));
		}
		return false;
	}
	if (derived->guarantee == VITRINE_GUARANTEE_SEALED) {
		buffer->sealed = *derived;
		return buffer_dup_sealed(buffer, derived);
	}
	return true;
}

/** Width and height become a stride and a size, or false if they cannot. */
static bool layout_buffer(struct vt_buffer *buffer, int width, int height, uint32_t fourcc) {
	uint32_t bytes_per_pixel = vt_format_get_bytes_per_pixel(fourcc);
	if (bytes_per_pixel == 0 || width <= 0 || height <= 0) {
		wlr_log(WLR_ERROR, "Unsupported buffer: %dx%d, format 0x%08" PRIX32,
			width, height, fourcc);
		return false;
	}
	uint64_t stride = (uint64_t)width * bytes_per_pixel;
	stride = (stride + STRIDE_ALIGN - 1) & ~(uint64_t)(STRIDE_ALIGN - 1);
	uint64_t size = stride * (uint64_t)height; // 2^31 * 2^31 * 8 does not fit, so:
	if (stride > INT32_MAX || size > SIZE_MAX || size / stride != (uint64_t)height) {
		wlr_log(WLR_ERROR, "Buffer too large: %dx%d", width, height);
		return false;
	}
	buffer->size = (size_t)size;
	buffer->shm = (struct wlr_shm_attributes){
		.fd = -1,
		.format = fourcc,
		.width = width,
		.height = height,
		.stride = (int)stride,
	};
	return true;
}

/**
 * Makes the same memory a dma-buf. It has to happen now: udmabuf refuses a memfd
 * once it is sealed against writing.
 */
static void buffer_add_dmabuf(struct vt_buffer *buffer, struct vitrine_derive *derive) {
	int fd = vitrine_udmabuf_create(derive, buffer->memory.memfd, buffer->memory.size);
	if (fd < 0) {
		if (fd != -ENODEV) {
			wlr_log(WLR_INFO, "No dma-buf for a buffer of %zu bytes: %s (see the udmabuf "
				"module's size_limit_mb)", buffer->size, strerror(-fd));
		}
		return;
	}
	buffer->dmabuf = (struct wlr_dmabuf_attributes){
		.width = buffer->shm.width,
		.height = buffer->shm.height,
		.format = buffer->shm.format,
		.modifier = DRM_FORMAT_MOD_LINEAR,
		.n_planes = 1,
		.stride[0] = (uint32_t)buffer->shm.stride,
		.fd[0] = fd,
	};
}

static bool buffer_init_memfd(struct vt_buffer *buffer, const struct vt_allocator *allocator,
		int width, int height, uint32_t fourcc) {
	buffer->drm_fd = -1;
	if (!layout_buffer(buffer, width, height, fourcc) ||
			!vt_memory_pool_take(allocator->pool, buffer->size, &buffer->memory)) {
		return false;
	}
	buffer->shm.fd = buffer->memory.memfd;
	buffer_add_dmabuf(buffer, allocator->derive);
	if (allocator->needs_dmabuf && buffer->dmabuf.n_planes == 0) {
		wlr_log(WLR_ERROR, "The renderer or the backend needs a dma-buf, and there is none");
		vt_memory_finish(&buffer->memory);
		return false;
	}
	buffer->pool = vt_memory_pool_ref(allocator->pool);
	return true;
}

static struct wlr_buffer *allocator_create_buffer(struct wlr_allocator *wlr_allocator,
		int width, int height, const struct wlr_drm_format *format) {
	struct vt_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	if (!format_allows_linear(format)) {
		wlr_log(WLR_ERROR, "Buffers are linear, which format 0x%08" PRIX32 " does not allow here",
			format->format);
		return NULL;
	}

	struct vt_buffer *buffer = calloc(1, sizeof(*buffer));
	if (buffer == NULL) {
		return NULL;
	}
	buffer->sealed.fd = -1;
	buffer->memory = (struct vt_memory){ .memfd = -1, .lease_fd = -1 };
	bool ok = allocator->drm_fd >= 0 ?
		vt_buffer_init_dumb(buffer, allocator->drm_fd, width, height, format->format) :
		buffer_init_memfd(buffer, allocator, width, height, format->format);
	if (!ok) {
		free(buffer);
		return NULL;
	}
	wlr_buffer_init(&buffer->base, &buffer_impl, width, height);
	return &buffer->base;
}

static void allocator_destroy(struct wlr_allocator *wlr_allocator) {
	struct vt_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	vitrine_derive_destroy(allocator->derive);
	vt_memory_pool_unref(allocator->pool); // its buffers have their own references
	if (allocator->drm_fd >= 0) {
		close(allocator->drm_fd);
	}
	free(allocator);
}

static const struct wlr_allocator_interface allocator_impl = {
	.create_buffer = allocator_create_buffer,
	.destroy = allocator_destroy,
};

/** Whether buffers can be dma-bufs on this machine. */
static bool has_udmabuf(struct vitrine_derive *derive) {
	int memfd = vitrine_memfd_create(1);
	if (memfd < 0) {
		return false;
	}
	int fd = vitrine_udmabuf_create(derive, memfd, 1);
	close(memfd);
	if (fd < 0) {
		return false;
	}
	close(fd);
	return true;
}

static struct vt_allocator *allocator_create(uint32_t *caps) {
	struct vt_allocator *allocator = calloc(1, sizeof(*allocator));
	if (allocator == NULL) {
		return NULL;
	}
	allocator->drm_fd = -1;
	allocator->derive = vitrine_derive_create();
	allocator->pool = vt_memory_pool_create();
	if (allocator->derive == NULL || allocator->pool == NULL) {
		vitrine_derive_destroy(allocator->derive);
		vt_memory_pool_unref(allocator->pool);
		free(allocator);
		return NULL;
	}
	*caps = WLR_BUFFER_CAP_DATA_PTR | WLR_BUFFER_CAP_SHM;
	if (has_udmabuf(allocator->derive)) {
		*caps |= WLR_BUFFER_CAP_DMABUF;
	}
	return allocator;
}

struct wlr_allocator *vt_allocator_create_for_copies(void) {
	uint32_t caps;
	struct vt_allocator *allocator = allocator_create(&caps);
	if (allocator == NULL) {
		return NULL;
	}
	wlr_allocator_init(&allocator->base, &allocator_impl, caps);
	return &allocator->base;
}

struct wlr_allocator *vitrine_allocator_create(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	uint32_t caps;
	struct vt_allocator *allocator = allocator_create(&caps);
	if (allocator == NULL) {
		return NULL;
	}
	if (!(caps & backend->buffer_caps) || !(caps & renderer->render_buffer_caps)) {
		wlr_log(WLR_DEBUG, "The backend or the renderer cannot use viewable buffers");
		vitrine_derive_destroy(allocator->derive);
		vt_memory_pool_unref(allocator->pool);
		free(allocator);
		return NULL;
	}
	uint32_t without_dmabuf = caps & ~(uint32_t)WLR_BUFFER_CAP_DMABUF;
	allocator->needs_dmabuf = !(without_dmabuf & renderer->render_buffer_caps) ||
		!(without_dmabuf & backend->buffer_caps);
	wlr_allocator_init(&allocator->base, &allocator_impl, caps);
	wlr_log(WLR_DEBUG, "Created an allocator of viewable buffers%s",
		caps & WLR_BUFFER_CAP_DMABUF ? ", which are dma-bufs too" : "");
	return &allocator->base;
}

/** A file description of our own of a DRM device, or -1. */
static int reopen_drm_device(int drm_fd) {
	char *path = drmGetDeviceNameFromFd2(drm_fd);
	if (path == NULL) {
		return -1;
	}
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		wlr_log_errno(WLR_ERROR, "Failed to open %s", path);
	}
	free(path);
	return fd;
}

struct wlr_allocator *vitrine_allocator_create_dumb(int drm_fd, struct wlr_renderer *renderer) {
	const uint32_t caps = WLR_BUFFER_CAP_DATA_PTR | WLR_BUFFER_CAP_DMABUF;
	uint64_t has_dumb = 0;
	if (drm_fd < 0 || !(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) ||
			drmGetCap(drm_fd, DRM_CAP_DUMB_BUFFER, &has_dumb) != 0 || !has_dumb) {
		wlr_log(WLR_ERROR, "Dumb buffers are for renderers that draw with the CPU, on "
			"DRM devices that have them");
		return NULL;
	}
	struct vt_allocator *allocator = calloc(1, sizeof(*allocator));
	if (allocator == NULL) {
		return NULL;
	}
	allocator->drm_fd = reopen_drm_device(drm_fd);
	if (allocator->drm_fd < 0) {
		free(allocator);
		return NULL;
	}
	wlr_allocator_init(&allocator->base, &allocator_impl, caps);
	return &allocator->base;
}

/**
 * Whether the renderer draws on a device whose memory is not the system's.
 * Devices without hardware are there for software renderers.
 */
static bool renderer_has_gpu(struct wlr_renderer *renderer) {
	int drm_fd = wlr_renderer_get_drm_fd(renderer);
	if (drm_fd < 0 || (renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR)) {
		return false;
	}
	drmVersion *version = drmGetVersion(drm_fd);
	if (version == NULL) {
		return true;
	}
	bool is_virtual = strcmp(version->name, "vgem") == 0 || strcmp(version->name, "vkms") == 0;
	drmFreeVersion(version);
	return !is_virtual;
}

static struct wlr_allocator *create_dumb_on_device(const char *path,
		struct wlr_renderer *renderer) {
	int drm_fd = open(path, O_RDWR | O_CLOEXEC);
	if (drm_fd < 0) {
		wlr_log_errno(WLR_ERROR, "Failed to open %s", path);
		return NULL;
	}
	struct wlr_allocator *allocator = vitrine_allocator_create_dumb(drm_fd, renderer);
	close(drm_fd);
	return allocator;
}

struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	const char *forced = getenv("VITRINE_ALLOCATOR");
	if (forced != NULL && strcmp(forced, "memfd") == 0) {
		return vitrine_allocator_create(backend, renderer);
	} else if (forced != NULL && strcmp(forced, "dumb") == 0) {
		return vitrine_allocator_create_dumb(wlr_backend_get_drm_fd(backend), renderer);
	} else if (forced != NULL && strncmp(forced, "dumb:", strlen("dumb:")) == 0) {
		return create_dumb_on_device(forced + strlen("dumb:"), renderer);
	}
	// With a GPU, buffers in system memory would cost more than views gain
	bool stock = renderer_has_gpu(renderer) ||
		(forced != NULL && strcmp(forced, "wlroots") == 0);
	struct wlr_allocator *allocator =
		stock ? NULL : vitrine_allocator_create(backend, renderer);
	return allocator != NULL ? allocator : wlr_allocator_autocreate(backend, renderer);
}
