/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_COPIER_H
#define MEMORY_COPIER_H

#include <pixman.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_event_loop;
struct wlr_buffer;

/**
 * Copies what a GPU has drawn, without that the event loop waits for it: a thread
 * with an EGL context of its own, which makes one copy at a time.
 *
 * A thread that is stuck in a driver is left behind. It keeps what it was given
 * alive, and nothing else: no wlr_buffer, and no way to write to a target that the
 * CPU reads.
 */
struct vt_copier;

enum vt_copier_event {
	VT_COPIER_DONE, // the copy is made, or the thread has started
	VT_COPIER_FAILED, // the copy, or the thread's start: there is no EGL that can
	VT_COPIER_BUSY, // another process has left fences on the target: it was not drawn to
	VT_COPIER_CANCELLED, // what was cancelled is over
	VT_COPIER_SOURCE_READ, // the copy goes on without its source, which is unlocked
	VT_COPIER_STUCK, // it takes too long: the copier must be destroyed
};

/** What is told to the one that copies. */
struct vt_copier_interface {
	/**
	 * The copier takes the next copy, unless the thread's start has failed or it is
	 * stuck. From the event loop; it may be destroyed in here.
	 */
	void (*handle_event)(void *data, enum vt_copier_event event);
};

/** A copy to be made. */
struct vt_copy {
	struct wlr_buffer *source; // a dma-buf; locked until it has been read
	int take_fence_fd; // readable when the source may be read, -1 for at once
	/** Of the source's size; locked until the copy is over. */
	struct wlr_buffer *target;
	/** Where the CPU's copy goes to; NULL if the target is a dma-buf to be drawn to. */
	void *data;
	size_t stride; // of the data, bytes
	uint32_t fourcc; // of the data, see vt_copy_gl_can_read()
	const pixman_region32_t *region; // what to copy, not empty
};

/** Copiers that are each for one client alone, of all outputs, with those left behind. */
#define VT_COPIERS_PRIVATE_CAP 16

/**
 * Starts the thread, for the device that `borrowed_drm_fd` is a node of (-1 for
 * none). It is busy until the first event. NULL for lack of resources, or beyond the
 * cap if it is for one client alone.
 */
struct vt_copier *vt_copier_create(struct wl_event_loop *loop, int borrowed_drm_fd,
	bool is_private, const struct vt_copier_interface *impl, void *data);
/** Does not wait for the thread: what it does is as good as cancelled. Accepts NULL. */
void vt_copier_destroy(struct vt_copier *copier);

bool vt_copier_is_busy(const struct vt_copier *copier);
/**
 * Whether the copier waits for what the device has drawn to the source by itself, of a
 * copier that has started: a fence costs the event loop more than all the rest.
 */
bool vt_copier_needs_no_fence(const struct vt_copier *copier);
/**
 * Starts a copy, of a copier that is not busy. False for lack of resources; the
 * fence is closed either way.
 */
bool vt_copier_start(struct vt_copier *copier, const struct vt_copy *copy);
/**
 * Once this returns nothing is written to `vt_copy.data` any more, and the buffers are
 * unlocked. The GPU may still finish drawing to a dma-buf if that had begun, from a copy
 * that was made of the source before: nothing that the source gets later can be in it.
 */
void vt_copier_cancel(struct vt_copier *copier);

#endif
