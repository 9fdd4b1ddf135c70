/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_BUFFER_H
#define MEMORY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vitrine/derive.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/dmabuf.h>

#include "reader.h"

struct vt_buffer;

/**
 * What a buffer is made of: one for each kind. A kind has a file of its own, with
 * the allocator that makes its buffers; nothing else tells kinds apart.
 */
struct vt_buffer_kind {
	/** Its `destroy` is vt_buffer_handle_destroy(), by which our buffers are known. */
	struct wlr_buffer_impl base;
	/** Frees the memory and the buffer, after what all kinds have in common. */
	void (*destroy)(struct vt_buffer *buffer);
	/**
	 * Fills in what to derive a plane's file descriptor from. Returns false if nothing
	 * may be derived now. A display waits for the fences of a buffer that is scanned out.
	 */
	bool (*get_derive_source)(const struct vt_buffer *buffer, int plane,
		bool is_scanned_out, struct vitrine_derive_source *source);
	/** The buffer is announced: it will retire, at a time that is not known. May be NULL. */
	void (*expect_retirement)(struct vt_buffer *buffer);
	/**
	 * The retired buffer, or one that takes its place, is likely to be drawn to
	 * soon. May be NULL.
	 */
	void (*prepare_memory)(const struct vt_buffer *buffer);
};

/**
 * The read-only file descriptors of a view, one for each plane. Where the planes
 * begin and how far their rows are apart is in the buffer's `dmabuf`; a memfd has one
 * plane, which begins at 0 and has the buffer's `stride`.
 */
struct vt_view_fds {
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	int n_planes; // 0 if there is no view
	int fds[WLR_DMABUF_MAX_PLANES]; // owned
};

/** Closes all; there is no view then. Twice is harmless. */
void vt_view_fds_finish(struct vt_view_fds *fds);
/**
 * Duplicates all into `copy`, for the caller to own. Returns false, with no view in
 * `copy`, if that fails.
 */
bool vt_view_fds_copy(const struct vt_view_fds *fds, struct vt_view_fds *copy);

/**
 * A buffer of one of our allocators: its memory can be viewed without a copy. What
 * is below `base` is set by the kind, and read by all.
 */
struct vt_buffer {
	struct wlr_buffer base;

	uint32_t fourcc;
	uint64_t modifier;
	uint32_t stride; // bytes
	size_t size; // bytes of the pixels
	size_t memory_size; // bytes of the memory, which may be rounded up
	/**
	 * The memory as a memfd that is open for writing, see vt_memory.lease_fd.
	 * Borrowed from the kind; -1 if it is no memfd.
	 */
	int lease_fd;
	struct wlr_dmabuf_attributes dmabuf; // n_planes is 0 if it is no dma-buf
	/** The device that the dma-buf's memory is of; 0 if it is the system's memory. */
	dev_t device;
	/** Whether the CPU sees the pixels in a mapping of the dma-buf. */
	bool is_mapped_dmabuf;

	bool retired; // see vt_buffer_retire()
	uint32_t generation; // another one with each replacement of the memory

	/**
	 * What was derived last, until its memory is retired: a memfd for all, a dma-buf
	 * for the first session that asks.
	 */
	struct vt_view_fds derived;
	uint32_t derived_from; // the guarantees that it is the best of
	uint32_t refused; // guarantees that cannot be derived
	bool is_scanned_out; // what these three are true for
};

/** Sets what all kinds have in common to its beginning. `kind` is static. */
void vt_buffer_init(struct vt_buffer *buffer, const struct vt_buffer_kind *kind, int width,
	int height);
/** For `kind->base.destroy` alone. */
void vt_buffer_handle_destroy(struct wlr_buffer *wlr_buffer);
/** For `kind->base.get_dmabuf` alone. */
bool vt_buffer_handle_get_dmabuf(struct wlr_buffer *wlr_buffer,
	struct wlr_dmabuf_attributes *dmabuf);

/** NULL if the buffer is not one of ours. */
struct vt_buffer *vt_buffer_try_from_buffer(struct wlr_buffer *wlr_buffer);

/**
 * The zero-copy guarantees that the buffer would give in a storage that a client can
 * read: a bitfield of enum vitrine_guarantee.
 */
uint32_t vt_buffer_get_readable(const struct vt_buffer *buffer, const struct vt_reader *reader);
/** The storage of a dma-buf for a client that can read it, see vt_buffer_get_readable(). */
enum vitrine_storage vt_buffer_get_dmabuf_storage(const struct vt_buffer *buffer,
	const struct vt_reader *reader);

/** Whether it can be derived from: derives, and keeps the result for vt_buffer_derive(). */
bool vt_buffer_can_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
	uint32_t acceptable, bool is_scanned_out);
/** Whether the kernel gives none of these, rather than that there were no resources. */
bool vt_buffer_has_refused(const struct vt_buffer *buffer, uint32_t guarantees);
/**
 * Derives read-only file descriptors with an acceptable guarantee, which the caller
 * owns. A sealed memfd is kept for other sessions; a dma-buf is made for each
 * call, so that what a holder does to its fences or name concerns itself. Where
 * that cannot be, it is not given if a display waits for the buffer's fences.
 * Returns false if there is none.
 */
bool vt_buffer_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
	uint32_t acceptable, bool is_scanned_out, struct vt_view_fds *fds);

/**
 * Duplicates the file descriptors of a buffer whose dma-buf is O_RDONLY as it is, and
 * that is for one client alone: it may do with it what it can. Returns false on failure.
 */
bool vt_buffer_give(const struct vt_buffer *buffer, struct vt_view_fds *fds);

/**
 * What is drawn from now on must not be seen by a holder of a derived file
 * descriptor: the next write of the CPU goes to fresh memory. Until then the buffer
 * may be derived from and retired again, as nothing has changed. Without fresh memory
 * drawing goes on, and nothing is derived from the buffer.
 */
void vt_buffer_retire(struct vt_buffer *buffer);
/** The kind has put fresh memory in the place of what is retired. */
void vt_buffer_set_fresh(struct vt_buffer *buffer);
/** Whether fresh memory can take the place of what is retired; else it cannot be written. */
bool vt_buffer_can_replace_memory(const struct vt_buffer *buffer);
/** The buffer is about to be announced: other memory is made ready for when it retires. */
void vt_buffer_expect_retirement(struct vt_buffer *buffer);
/** The retired buffer, or one that takes its place, is likely to be drawn to soon. */
void vt_buffer_prepare_memory(const struct vt_buffer *buffer);

#endif
