/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_MEMORY_POOL_H
#define MEMORY_MEMORY_POOL_H

#include "memory.h"

/**
 * Fresh memory, made in the background while it is likely to be needed: the kernel
 * has to zero all of it, then it has to be copied to, and the event loop should not wait for that.
 */
struct vt_memory_pool;

/** With one reference. NULL on allocation failure. */
struct vt_memory_pool *vt_memory_pool_create(void);
struct vt_memory_pool *vt_memory_pool_ref(struct vt_memory_pool *pool);
/** Frees the pool with the last reference. Accepts NULL. */
void vt_memory_pool_unref(struct vt_memory_pool *pool);

/** Fresh memory of this size is likely to be needed soon. */
void vt_memory_pool_prepare(struct vt_memory_pool *pool, size_t size);
/**
 * Fresh memory of this size will be needed, at a time that is not known: some is kept
 * ready until vt_memory_pool_stop_expecting() was called as often. Returns false if there is
 * none: it is made when it is needed, as fast, or there is no thread.
 */
bool vt_memory_pool_expect(struct vt_memory_pool *pool, size_t size);
void vt_memory_pool_stop_expecting(struct vt_memory_pool *pool);
/**
 * As vt_memory_init(), from what is prepared if there is something. Returns false with an
 * error in the log.
 */
bool vt_memory_pool_take(struct vt_memory_pool *pool, size_t size,
	struct vt_memory *memory);

/**
 * vt_memory_pool_replace() is likely to come soon. Until then the content of the
 * file does not change.
 */
void vt_memory_pool_prepare_copy(struct vt_memory_pool *pool,
	const struct vt_memory *memory);
/**
 * vt_memory_replace() by fresh memory with the same content, from what is prepared
 * if there is something.
 */
bool vt_memory_pool_replace(struct vt_memory_pool *pool, struct vt_memory *memory);
/** No copy is needed any more: the memory goes, or changes. */
void vt_memory_pool_forget(struct vt_memory_pool *pool, const struct vt_memory *memory);

#endif
