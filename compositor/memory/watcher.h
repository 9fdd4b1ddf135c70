/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_WATCHER_H
#define MEMORY_WATCHER_H

#include <stdbool.h>
#include <wayland-server-core.h>

/**
 * Looks, in a thread, whether any other process still has memory that is not drawn to any
 * more: by a file descriptor, by a mapping, by an importer, or by a page in a pipe or a
 * socket. Memory is free when it is certain that none has; it is never used again.
 */
struct vt_watcher;
/** A piece of memory, with file descriptors of its own, so that it cannot go unwatched. */
struct vt_watched;

/** NULL for lack of resources. */
struct vt_watcher *vt_watcher_create(struct wl_event_loop *loop);
/** Lets go of all that is watched, without a call of its `handle_end`. Accepts NULL. */
void vt_watcher_destroy(struct vt_watcher *watcher);

/**
 * Makes ready what will be watched: a memfd, open for writing, which nothing else in this
 * process has once it is to be free (see vt_memory.lease_fd); a dma-buf; or both, where the
 * dma-buf is of the memfd. -1 is none. NULL for lack of resources.
 */
struct vt_watched *vt_watched_create(struct vt_watcher *watcher, int borrowed_memfd,
	int borrowed_dmabuf_fd);
/** Of what is not watched. Accepts NULL. */
void vt_watched_destroy(struct vt_watched *watched);
/**
 * Watches it from now on: it is the watcher's. `handle_end` is called from the event loop once
 * no other process has it, or once it is clear that the kernel will not say: then it is not
 * known to be free. No file descriptor of it is open any more then.
 */
void vt_watched_start(struct vt_watched *watched, void (*handle_end)(void *data, bool is_free),
	void *data);

#endif
