/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_BUFFER_H
#define COMPOSITOR_BUFFER_H

#include <stdbool.h>
#include <vitrine/derive.h>
#include <wlr/render/dmabuf.h>
#include <wlr/interfaces/wlr_buffer.h>

#include "memory.h"

/**
 * A buffer of vitrine_allocator_create(), of one of two kinds:
 *
 * - a memfd that is mapped once, and that is a dma-buf as well where udmabuf
 *   allows;
 * - a dumb buffer of a DRM device, whose first export is O_RDONLY.
 */
struct vt_buffer {
	struct wlr_buffer base;

	struct vt_memory memory; // mapped for as long as the buffer lives
	struct vt_memory_pool *pool; // where fresh memory comes from; NULL of a dumb buffer
	size_t size; // of the pixels, at most that of the memory
	struct wlr_shm_attributes shm; // shm.fd is the memfd, -1 if there is none
	struct wlr_dmabuf_attributes dmabuf; // n_planes is 0 if it is no dma-buf
	int drm_fd; // borrowed from the allocator, of a dumb buffer; else -1
	uint32_t gem_handle; // likewise

	struct vitrine_derived_fd sealed; // derived once for all; fd is -1 before

	bool retired; // see vt_buffer_retire()
	uint32_t generation; // another one with each replacement of the memory
	bool is_detached; // there was no fresh memory: what is drawn is not in the memfd
};

/** NULL if the buffer is not one of ours. */
struct vt_buffer *vt_buffer_try_from_buffer(struct wlr_buffer *buffer);

/**
 * Derives a read-only file descriptor with an acceptable guarantee, which the
 * caller owns. A sealed memfd is the same for all; a dma-buf is made for each
 * caller, so that what a holder does to its fences or name concerns itself. Where
 * that cannot be, it is not given if a display waits for the buffer's fences.
 * Returns false if there is none.
 */
bool vt_buffer_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
	uint32_t acceptable, bool is_scanned_out, struct vitrine_derived_fd *derived);

/**
 * What is drawn from now on must not be seen by who holds a derived file descriptor:
 * the next write of the CPU goes to fresh memory. Until then the buffer may be derived
 * from and retired again, as nothing has changed. Without fresh memory drawing goes on,
 * and nothing is derived from the buffer.
 */
void vt_buffer_retire(struct vt_buffer *buffer);
/** Whether fresh memory can take the place of what is retired; else it cannot be written. */
bool vt_buffer_can_replace_memory(const struct vt_buffer *buffer);
/** The retired buffer, or one that takes its place, is likely to be drawn to soon. */
void vt_buffer_prepare_memory(const struct vt_buffer *buffer);

/** Bytes per pixel of the packed formats that renderers draw to, or 0. */
uint32_t vt_format_get_bytes_per_pixel(uint32_t fourcc);

/**
 * Makes the memory of a buffer a dumb buffer of a DRM device, whose first export
 * is read-only. Everything but the buffer's `base` is set. Returns false, with
 * nothing to clean up, if it cannot be had.
 */
bool vt_buffer_init_dumb(struct vt_buffer *buffer, int drm_fd, int width, int height,
	uint32_t fourcc);
/** Frees what vt_buffer_init_dumb() made, but for the dma-buf. */
void vt_buffer_finish_dumb(struct vt_buffer *buffer);

/** An allocator that only needs memory, for the copies of snapshots. */
struct wlr_allocator *vt_allocator_create_for_copies(void);

#endif
