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
 * The same, but where vitrine_allocator_create() returns NULL the result is
 * that of wlr_allocator_autocreate(). Sessions of outputs with such an
 * allocator can give snapshots only.
 */
struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
	struct wlr_renderer *renderer);

#ifdef __cplusplus
}
#endif

#endif
