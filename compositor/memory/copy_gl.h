/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_COPY_GL_H
#define MEMORY_COPY_GL_H

#include <pixman.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wlr_dmabuf_attributes;

/**
 * Copies dma-bufs with a GPU, by an EGL display and a context of its own, which gives
 * way to others. All of it belongs to the thread that made it, and blocks that
 * thread: nothing here calls wlroots or writes to the log.
 */
struct vt_copy_gl;

/**
 * `borrowed_drm_fd` is a node of the device, -1 for a renderer without one. NULL if
 * there is no EGL that can import dma-bufs.
 */
struct vt_copy_gl *vt_copy_gl_create(int borrowed_drm_fd);
/** Accepts NULL. */
void vt_copy_gl_destroy(struct vt_copy_gl *gl);

/**
 * Whether the GPU was reset: what was copied since then is nothing, be it said to have
 * been made, and nothing will be copied any more.
 */
bool vt_copy_gl_is_lost(const struct vt_copy_gl *gl);

/**
 * Tries whether the driver attaches its fences to the dma-bufs that it draws to: who waits for the dma-buf waits for what was drawn then.
 */
bool vt_copy_gl_attaches_fences(const struct vt_copy_gl *gl);

/** Whether vt_copy_gl_read() makes pixels of this format. */
bool vt_copy_gl_can_read(const struct vt_copy_gl *gl, uint32_t fourcc);

/** Pixels in the memory of a struct vt_copy_gl, valid until it is used again. */
struct vt_copy_gl_pixels {
	const void *data;
	size_t stride; // bytes
	uint32_t bytes_per_pixel;
};

/**
 * Reads a region of a dma-buf as pixels of this format, at their place in the whole
 * picture: what is outside of the region is undefined. Waits until it is done. False
 * if the dma-buf cannot be imported or there is no memory.
 */
bool vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
	uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels);
/**
 * Copies a region of a dma-buf to memory of our own, no less deep, which is never shared.
 * Waits until it is done, or `cancel_fd` is readable. False if the dma-buf cannot be
 * imported, there is no memory, or it did not come to its end.
 */
bool vt_copy_gl_stage(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
	const pixman_region32_t *region, int cancel_fd);
/**
 * Draws the region that was staged last to the same place of a dma-buf of the same size.
 * Waits as vt_copy_gl_stage() does. False if it cannot be imported, or it did not come to
 * its end: the GPU may be drawing then.
 */
bool vt_copy_gl_draw(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *target,
	const pixman_region32_t *region, int cancel_fd);

#endif
