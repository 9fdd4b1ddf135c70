/* SPDX-License-Identifier: MIT */
#ifndef POLICY_START_QUEUE_H
#define POLICY_START_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <wayland-server-core.h>

struct vt_quota;

/** A session, or a copy of a client's buffer, that waits until its quota lets it start. */
struct vt_waiter {
	struct wl_list link; // vt_start_queue.waiters
	struct vt_quota *quota; // NULL unless it waits; its owner has a reference
	void (*start)(struct vt_waiter *waiter);
};

/**
 * Those that wait, of all clients, with one timer. Holders take turns: the one whose last
 * start is longest ago is next, so a newcomer waits for one interval, however many wait
 * of each other holder.
 */
struct vt_start_queue {
	struct wl_list waiters; // vt_waiter.link, first come first
	struct wl_event_source *timer;
	int64_t due_ms; // of the timer, INT64_MAX if it is not armed
	uint64_t n_starts;
};

/** Returns false on allocation failure. */
bool vt_start_queue_init(struct vt_start_queue *queue, struct wl_event_loop *loop);
/** None waits any more. */
void vt_start_queue_finish(struct vt_start_queue *queue);

/**
 * Calls `start`, with a token of the quota taken: at once if that may be, or later. It may
 * free the waiter. No more work than for the first, however many wait, unless it may be at
 * once.
 */
void vt_start_queue_add(struct vt_start_queue *queue, struct vt_waiter *waiter,
	struct vt_quota *quota, void (*start)(struct vt_waiter *waiter));
/** It is not to start any more. Harmless if it does not wait. */
void vt_waiter_cancel(struct vt_waiter *waiter);

#endif
