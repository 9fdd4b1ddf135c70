/* SPDX-License-Identifier: MIT */
/*
 * A memfd that is mapped once, and that is a dma-buf as well where udmabuf allows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <wlr/backend.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>

#include "buffer.h"
#include "format.h"
#include "memfd_buffer.h"
#include "memory_pool.h"

/** What GPUs demand of linear buffers: of AMD's, an import of less fails. */
#define STRIDE_ALIGN 256 // bytes
#define HEIGHT_ALIGN 16 // rows that there is memory for

struct memfd_allocator {
	struct wlr_allocator base;
	struct vitrine_derive *derive; // for /dev/udmabuf; NULL for no dma-bufs
	struct vt_memory_pool *pool;
	bool needs_dmabuf; // the renderer or the backend cannot use anything else
};

struct memfd_buffer {
	struct vt_buffer base;
	struct vt_memory memory; // mapped for as long as the buffer lives
	struct vt_memory_pool *pool; // where fresh memory comes from
	bool expects_memory; // of the pool, see vt_memory_pool_expect()
	bool is_detached; // there was no fresh memory: what is drawn is not in the memfd
};

static struct memfd_buffer *memfd_buffer_from_base(const struct vt_buffer *base) {
	struct memfd_buffer *buffer = wl_container_of(base, buffer, base);
	return buffer;
}

static struct memfd_buffer *memfd_buffer_from_buffer(struct wlr_buffer *wlr_buffer) {
	return memfd_buffer_from_base(vt_buffer_try_from_buffer(wlr_buffer));
}

static void memfd_buffer_expect_retirement(struct vt_buffer *base) {
	struct memfd_buffer *buffer = memfd_buffer_from_base(base);
	if (!buffer->expects_memory) {
		buffer->expects_memory = vt_memory_pool_expect(buffer->pool, buffer->memory.size);
	}
}

/** It has its memory, or needs none any more. */
static void buffer_stop_expecting(struct memfd_buffer *buffer) {
	if (buffer->expects_memory) {
		buffer->expects_memory = false;
		vt_memory_pool_stop_expecting(buffer->pool);
	}
}

static void memfd_buffer_destroy(struct vt_buffer *base) {
	struct memfd_buffer *buffer = memfd_buffer_from_base(base);
	buffer_stop_expecting(buffer);
	vt_memory_pool_forget(buffer->pool, &buffer->memory);
	vt_memory_finish(&buffer->memory);
	vt_memory_pool_unref(buffer->pool);
	free(buffer);
}

static bool memfd_buffer_get_shm(struct wlr_buffer *wlr_buffer, struct wlr_shm_attributes *shm) {
	const struct memfd_buffer *buffer = memfd_buffer_from_buffer(wlr_buffer);
	if (buffer->is_detached) {
		return false;
	}
	*shm = (struct wlr_shm_attributes){
		.fd = buffer->memory.memfd,
		.format = buffer->base.fourcc,
		.width = wlr_buffer->width,
		.height = wlr_buffer->height,
		.stride = (int)buffer->base.stride,
	};
	return true;
}

static void memfd_buffer_prepare_memory(const struct vt_buffer *base) {
	const struct memfd_buffer *buffer = memfd_buffer_from_base(base);
	if (vt_buffer_can_replace_memory(base)) {
		vt_memory_pool_prepare_copy(buffer->pool, &buffer->memory);
	} else {
		vt_memory_pool_prepare(buffer->pool, buffer->memory.size);
	}
}

/**
 * Puts fresh memory with the same content at the same address, so that writes
 * do not reach the holders of the old memory. The renderer keeps its pointer.
 */
static bool memfd_buffer_replace_memory(struct memfd_buffer *buffer) {
	if (!vt_buffer_can_replace_memory(&buffer->base)) {
		wlr_log(WLR_ERROR, "Refused to draw into a retired dma-buf");
		return false;
	}
	if (vt_memory_pool_replace(buffer->pool, &buffer->memory)) {
		buffer->base.lease_fd = buffer->memory.lease_fd;
		buffer->is_detached = false;
	} else if (!buffer->is_detached) {
		if (!vt_memory_detach(&buffer->memory)) {
			return false;
		}
		buffer->is_detached = true;
	}
	buffer_stop_expecting(buffer);
	vt_buffer_set_fresh(&buffer->base);
	return true;
}

static bool memfd_buffer_begin_data_ptr_access(struct wlr_buffer *wlr_buffer, uint32_t flags,
		void **data, uint32_t *format, size_t *stride) {
	struct memfd_buffer *buffer = memfd_buffer_from_buffer(wlr_buffer);
	bool wants_fresh = buffer->base.retired || buffer->is_detached;
	if (buffer->memory.data == NULL || (wants_fresh &&
			(flags & WLR_BUFFER_DATA_PTR_ACCESS_WRITE) && !memfd_buffer_replace_memory(buffer))) {
		// Better no frame than one that the wrong people see
		return false;
	}
	*data = buffer->memory.data;
	*format = buffer->base.fourcc;
	*stride = buffer->base.stride;
	return true;
}

static void memfd_buffer_end_data_ptr_access(struct wlr_buffer *wlr_buffer) {
	// The mapping stays for as long as the buffer lives
}

static bool memfd_buffer_get_derive_source(const struct vt_buffer *base, int plane,
		bool is_scanned_out, struct vitrine_derive_source *source) {
	const struct memfd_buffer *buffer = memfd_buffer_from_base(base);
	*source = (struct vitrine_derive_source){
		.memfd = buffer->memory.memfd,
		.dmabuf_fd = base->dmabuf.n_planes > 0 ? base->dmabuf.fd[0] : -1,
		.dmabuf_is_mapped = true,
		.size = base->size,
	};
	return !buffer->is_detached; // what is derived from the memfd has not what is drawn
}

static const struct vt_buffer_kind memfd_buffer_kind = {
	.base = {
		.destroy = vt_buffer_handle_destroy,
		.get_shm = memfd_buffer_get_shm,
		.get_dmabuf = vt_buffer_handle_get_dmabuf,
		.begin_data_ptr_access = memfd_buffer_begin_data_ptr_access,
		.end_data_ptr_access = memfd_buffer_end_data_ptr_access,
	},
	.destroy = memfd_buffer_destroy,
	.get_derive_source = memfd_buffer_get_derive_source,
	.expect_retirement = memfd_buffer_expect_retirement,
	.prepare_memory = memfd_buffer_prepare_memory,
};

/* Making them */

size_t vt_memfd_buffer_measure(int width, int height, uint32_t bytes_per_pixel) {
	size_t stride = ((size_t)width * bytes_per_pixel + STRIDE_ALIGN - 1) / STRIDE_ALIGN *
		STRIDE_ALIGN;
	size_t rows = ((size_t)height + HEIGHT_ALIGN - 1) / HEIGHT_ALIGN * HEIGHT_ALIGN;
	return vt_memory_round_size(stride * rows);
}

/** Width and height become a stride and a size, or false if they cannot. */
static bool layout_buffer(struct vt_buffer *buffer, const struct wlr_drm_format *format, int width,
		int height) {
	uint32_t bytes_per_pixel = vt_format_get_bytes_per_pixel(format, width, height);
	if (bytes_per_pixel == 0) {
		return false;
	}
	uint64_t stride = (uint64_t)width * bytes_per_pixel;
	stride = (stride + STRIDE_ALIGN - 1) & ~(uint64_t)(STRIDE_ALIGN - 1);
	uint64_t rows = ((uint64_t)height + HEIGHT_ALIGN - 1) & ~(uint64_t)(HEIGHT_ALIGN - 1);
	// Below 2^31 rows of less than 2^31 bytes are less than 2^64
	if (stride > INT32_MAX || stride * rows > SIZE_MAX) {
		wlr_log(WLR_ERROR, "Buffer too large: %dx%d", width, height);
		return false;
	}
	buffer->fourcc = format->format;
	buffer->stride = (uint32_t)stride;
	buffer->size = (size_t)(stride * (uint64_t)height);
	buffer->memory_size = (size_t)(stride * rows);
	return true;
}

/**
 * Makes the same memory a dma-buf. It has to happen now: udmabuf refuses a memfd
 * once it is sealed against writing.
 */
static void buffer_add_dmabuf(struct memfd_buffer *buffer, struct vitrine_derive *derive) {
	struct vt_buffer *base = &buffer->base;
	int fd = vitrine_udmabuf_create(derive, buffer->memory.memfd, buffer->memory.size);
	if (fd < 0) {
		if (fd != -ENODEV) {
			wlr_log(WLR_INFO, "No dma-buf for a buffer of %zu bytes: %s (see the udmabuf "
				"module's size_limit_mb)", base->size, strerror(-fd));
		}
		return;
	}
	base->dmabuf = (struct wlr_dmabuf_attributes){
		.width = base->base.width,
		.height = base->base.height,
		.format = base->fourcc,
		.modifier = base->modifier,
		.n_planes = 1,
		.stride[0] = base->stride,
		.fd[0] = fd,
	};
	base->is_mapped_dmabuf = true;
}

static struct wlr_buffer *memfd_allocator_create_buffer(struct wlr_allocator *wlr_allocator,
		int width, int height, const struct wlr_drm_format *format) {
	struct memfd_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	struct memfd_buffer *buffer = calloc(1, sizeof(*buffer));
	if (buffer == NULL) {
		return NULL;
	}
	if (!layout_buffer(&buffer->base, format, width, height) ||
			!vt_memory_pool_take(allocator->pool, buffer->base.memory_size,
				&buffer->memory)) {
		free(buffer);
		return NULL;
	}
	buffer->pool = vt_memory_pool_ref(allocator->pool);
	vt_buffer_init(&buffer->base, &memfd_buffer_kind, width, height);
	buffer->base.memory_size = buffer->memory.size;
	buffer->base.lease_fd = buffer->memory.lease_fd;
	if (allocator->derive != NULL) {
		buffer_add_dmabuf(buffer, allocator->derive);
	}
	if (allocator->needs_dmabuf && buffer->base.dmabuf.n_planes == 0) {
		wlr_log(WLR_INFO, "The renderer or the backend needs a dma-buf, and there is none");
		wlr_buffer_drop(&buffer->base.base);
		return NULL;
	}
	return &buffer->base.base;
}

static void allocator_free(struct memfd_allocator *allocator) {
	vitrine_derive_destroy(allocator->derive);
	vt_memory_pool_unref(allocator->pool); // its buffers have their own references
	free(allocator);
}

static void memfd_allocator_destroy(struct wlr_allocator *wlr_allocator) {
	struct memfd_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	allocator_free(allocator);
}

static const struct wlr_allocator_interface memfd_allocator_impl = {
	.create_buffer = memfd_allocator_create_buffer,
	.destroy = memfd_allocator_destroy,
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

static struct memfd_allocator *allocator_create(void) {
	struct memfd_allocator *allocator = calloc(1, sizeof(*allocator));
	if (allocator == NULL) {
		return NULL;
	}
	allocator->pool = vt_memory_pool_create();
	if (allocator->pool == NULL) {
		allocator_free(allocator);
		return NULL;
	}
	return allocator;
}

bool vt_memfd_allocator_check(const struct wlr_allocator *allocator) {
	return allocator->impl == &memfd_allocator_impl;
}

struct wlr_allocator *vt_memfd_allocator_create(void) {
	struct memfd_allocator *allocator = allocator_create();
	if (allocator == NULL) {
		return NULL;
	}
	wlr_allocator_init(&allocator->base, &memfd_allocator_impl,
		WLR_BUFFER_CAP_DATA_PTR | WLR_BUFFER_CAP_SHM);
	return &allocator->base;
}

struct wlr_allocator *vitrine_allocator_create(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	struct memfd_allocator *allocator = allocator_create();
	if (allocator == NULL) {
		return NULL;
	}
	allocator->derive = vitrine_derive_create();
	if (allocator->derive == NULL) {
		allocator_free(allocator);
		return NULL;
	}
	uint32_t caps = WLR_BUFFER_CAP_DATA_PTR | WLR_BUFFER_CAP_SHM;
	if (has_udmabuf(allocator->derive)) {
		caps |= WLR_BUFFER_CAP_DMABUF;
	}
	if (!(caps & backend->buffer_caps) || !(caps & renderer->render_buffer_caps)) {
		wlr_log(WLR_DEBUG, "The backend or the renderer cannot use viewable buffers");
		allocator_free(allocator);
		return NULL;
	}
	if ((renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) &&
			(backend->buffer_caps & WLR_BUFFER_CAP_SHM) &&
			!(backend->buffer_caps & WLR_BUFFER_CAP_DATA_PTR)) {
		// A display server around us, which prefers dma-bufs, and may be unable to
		// import these: as shared memory it takes any
		vitrine_derive_destroy(allocator->derive);
		allocator->derive = NULL;
		caps &= ~(uint32_t)WLR_BUFFER_CAP_DMABUF;
	}
	uint32_t without_dmabuf = caps & ~(uint32_t)WLR_BUFFER_CAP_DMABUF;
	allocator->needs_dmabuf = !(without_dmabuf & renderer->render_buffer_caps) ||
		!(without_dmabuf & backend->buffer_caps);
	wlr_allocator_init(&allocator->base, &memfd_allocator_impl, caps);
	wlr_log(WLR_DEBUG, "Created an allocator of viewable buffers%s",
		caps & WLR_BUFFER_CAP_DMABUF ? ", which are dma-bufs too" : "");
	return &allocator->base;
}
