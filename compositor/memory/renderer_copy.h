/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_RENDERER_COPY_H
#define MEMORY_RENDERER_COPY_H

#include <pixman.h>
#include <stdbool.h>

struct wlr_buffer;
struct wlr_renderer;

/**
 * Copies a region of a buffer to memory that the CPU writes to, with the renderer that
 * drew the buffer, in the event loop: drawn if the renderer draws with the CPU, else
 * read back, which waits for the GPU. See vt_copier for how not to.
 */
bool vt_renderer_copy(struct wlr_renderer *renderer, struct wlr_buffer *source,
	struct wlr_buffer *target, const pixman_region32_t *region);

#endif
