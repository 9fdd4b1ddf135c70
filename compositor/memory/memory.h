/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_MEMORY_H
#define MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/** Memory to draw to and to derive from: a memfd that is mapped for writing once. */
struct vt_memory {
	int memfd; // sealable; -1 if there is none
	/**
	 * The memfd, opened for writing once more before another process has it: the
	 * kernel counts it as a writer then, so that no holder of a view can take a
	 * lease on the file, which would make us wait. -1 if there is none.
	 */
	int lease_fd;
	void *data; // NULL if it is not mapped
	size_t size; // of the file and of the mapping
};

/** The size that memory of at least so many bytes gets. */
size_t vt_memory_round_size(size_t size);

/**
 * Zeroed memory, faulted in, so that drawing to it cannot fail. Returns 0, or a negative
 * errno with nothing in the log, which is not for threads.
 */
int vt_memory_init(struct vt_memory *memory, size_t size);
/** Twice is harmless. */
void vt_memory_finish(struct vt_memory *memory);

/**
 * Copies the content of a file of the same size. Returns false if it cannot be mapped, with
 * nothing in the log.
 */
bool vt_memory_copy_from(struct vt_memory *memory, int borrowed_memfd);

/**
 * Puts `fresh`, of the same size, under the address of `memory`, whose own pages go on
 * to be there for other holders alone. `fresh` is consumed. Returns false with an error
 * in the log: what is there then is good for vt_memory_detach() alone.
 */
bool vt_memory_replace(struct vt_memory *memory, struct vt_memory *fresh);
/**
 * Writes go to pages of our own from now on rather than to the file, which keeps its
 * content: for want of fresh memory. Returns false if even that cannot be had;
 * there is no mapping then.
 */
bool vt_memory_detach(struct vt_memory *memory);

#endif
