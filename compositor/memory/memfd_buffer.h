/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_MEMFD_BUFFER_H
#define MEMORY_MEMFD_BUFFER_H

#include <stdbool.h>

struct wlr_allocator;

/**
 * An allocator of memfds that are no dma-bufs, for the copies of snapshots: the CPU
 * alone writes to them, so that fresh memory can always take the place of old. NULL
 * on allocation failure. See vitrine_allocator_create() for one that fits a backend
 * and a renderer.
 */
struct wlr_allocator *vt_memfd_allocator_create(void);
/** Whether it is of that function, or of vitrine_allocator_create(). */
bool vt_memfd_allocator_check(const struct wlr_allocator *allocator);

/** Bytes of memory that a buffer takes. */
size_t vt_memfd_buffer_measure(int width, int height, uint32_t bytes_per_pixel);

#endif
