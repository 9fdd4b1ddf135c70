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

/** Where the pixels are in a copy. */
struct vt_buffer_copy_layout {
	uint64_t modifier;
	int n_planes;
	uint64_t sizes[WLR_DMABUF_MAX_PLANES]; // bytes
	uint32_t offsets[WLR_DMABUF_MAX_PLANES], strides[WLR_DMABUF_MAX_PLANES]; // bytes
};

/**
 * Starts to copy so many bytes of each plane, with duplicates of the file
 * descriptors. NULL for lack of resources.
 *
 * `borrowed_gpu_fd` is a node of the device that the compositor reads such buffers with,
 * -1 if it reads them with the CPU. With a device, the CPU copies only the system's own
 * memory: in a map of a GPU's it would see old or tiled bytes, without an error.
 */
struct vt_buffer_copy *vt_buffer_copy_start(const struct wlr_dmabuf_attributes *dmabuf,
	const uint64_t sizes[static WLR_DMABUF_MAX_PLANES], int borrowed_gpu_fd);
/** Becomes readable when the copy is done. */
int vt_buffer_copy_get_fd(const struct vt_buffer_copy *copy);
/**
 * The result of a copy that is done: 0, and a file descriptor of each plane that
 * the caller has to close, or a negative errno. Once.
 */
int vt_buffer_copy_take(struct vt_buffer_copy *copy,
	struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES],
	struct vt_buffer_copy_layout *layout);
/** Does not wait for a copy that is not done: the thread comes to its end alone. */
void vt_buffer_copy_destroy(struct vt_buffer_copy *copy);

#endif
