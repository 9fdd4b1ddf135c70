/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_BUFFER_COPY_H
#define MEMORY_BUFFER_COPY_H

#include <stdint.h>
#include <vitrine/derive.h>
#include <wlr/render/dmabuf.h>

/**
 * A copy of a client's buffer, made by a thread of its own: it may be large and slow
 * to read, and the kernel waits for fences that the client can add at any time.
 */
struct vt_buffer_copy;

/**
 * Starts to copy so many bytes of each plane, with duplicates of the file
 * descriptors. NULL for lack of resources.
 */
struct vt_buffer_copy *vt_buffer_copy_start(const struct wlr_dmabuf_attributes *dmabuf,
	const uint64_t sizes[static WLR_DMABUF_MAX_PLANES]);
/** Becomes readable when the copy is done. */
int vt_buffer_copy_get_fd(const struct vt_buffer_copy *copy);
/**
 * The result of a copy that is done: 0, and a file descriptor of each plane that
 * the caller has to close, or a negative errno. Once.
 */
int vt_buffer_copy_take(struct vt_buffer_copy *copy,
	struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES]);
/** Does not wait for a copy that is not done: the thread comes to its end alone. */
void vt_buffer_copy_destroy(struct vt_buffer_copy *copy);

#endif
