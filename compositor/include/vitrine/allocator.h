/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_ALLOCATOR_H
#define VITRINE_ALLOCATOR_H

#include <wlr/render/allocator.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wlr_backend;
struct wlr_renderer;

/**
 * Creates an allocator whose buffers can be viewed without a copy. The memory
 * of a buffer is a memfd that stays private, and writable by other processes
 * if it is shared the usual way, until a view of it is announced for the first
 * time; it is sealed then. Where /dev/udmabuf is there, the same memory is a
 * dma-buf for the renderer and the backend too.
 *
 * Returns NULL if the backend and the renderer have no buffer capability in
 * common with such buffers, or on failure. The caller owns the allocator and
 * destroys it with wlr_allocator_destroy().
 */
struct wlr_allocator *vitrine_allocator_create(struct wlr_backend *backend,
	struct wlr_renderer *renderer);

/**
 * Creates an allocator of dumb buffers of a KMS device, for renderers that draw
 * with the CPU where the device cannot scan out system memory. The first export
 * of each buffer is read-only, which later exports cannot undo, while the
 * compositor keeps its own mapping: without a kernel part this gives
 * `fd_read_only` views, unless a display shows the buffers. The dma-buf is the
 * display's own then, and a holder's fences would stop it.
 *
 * The device node of `drm_fd` is opened anew, since GEM handles of the same file
 * are not counted. Returns NULL if the device or the renderer cannot use dumb
 * buffers. The caller owns the allocator, and destroys it after its buffers.
 */
struct wlr_allocator *vitrine_allocator_create_dumb(int drm_fd, struct wlr_renderer *renderer);

/**
 * The allocator that fits: vitrine_allocator_create() or, where that returns NULL
 * and where a GPU draws, wlr_allocator_autocreate(). Sessions of outputs with the
 * latter can give snapshots only. The environment variable VITRINE_ALLOCATOR
 * forces the choice: "memfd", "dumb" (or "dumb:/dev/dri/card0") or "wlroots".
 */
struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
	struct wlr_renderer *renderer);

#ifdef __cplusplus
}
#endif

#endif
