/* SPDX-License-Identifier: MIT */
#include <assert.h>

#include "clock.h"
#include "quota.h"
#include "start_queue.h"

static void queue_arm(struct vt_start_queue *queue, int64_t now_ms, uint32_t delay_ms) {
	if (now_ms + (int64_t)delay_ms < queue->due_ms) {
		queue->due_ms = now_ms + (int64_t)delay_ms;
		wl_event_source_timer_update(queue->timer, (int)delay_ms);
	}
}

/** The one that is to start now. NULL if none is, and then the timer is armed. */
static struct vt_waiter *queue_find_next(struct vt_start_queue *queue, int64_t now_ms) {
	struct vt_waiter *waiter, *next = NULL;
	wl_list_for_each(waiter, &queue->waiters, link) {
		if (next != NULL && waiter->quota->last_start >= next->quota->last_start) {
			continue; // it has come later, or its holder has
		}
		uint32_t delay = vt_quota_get_delay(waiter->quota, now_ms);
		if (delay == 0) {
			next = waiter;
		} else {
			queue_arm(queue, now_ms, delay);
		}
	}
	return next;
}

static void queue_start(struct vt_start_queue *queue) {
	struct vt_waiter *waiter;
	int64_t now_ms = vt_now_ms();
	while ((waiter = queue_find_next(queue, now_ms)) != NULL) {
		struct vt_quota *quota = waiter->quota;
		quota->last_start = ++queue->n_starts;
		vt_quota_take_token(quota, now_ms);
		vt_waiter_cancel(waiter);
		waiter->start(waiter);
	}
}

static int queue_handle_timer(void *data) {
	struct vt_start_queue *queue = data;
	queue->due_ms = INT64_MAX;
	queue_start(queue);
	return 0;
}

void vt_start_queue_add(struct vt_start_queue *queue, struct vt_waiter *waiter,
		struct vt_quota *quota, void (*start)(struct vt_waiter *waiter)) {
	assert(waiter->quota == NULL);
	waiter->quota = quota;
	waiter->start = start;
	wl_list_insert(queue->waiters.prev, &waiter->link);
	int64_t now_ms = vt_now_ms();
	uint32_t delay = vt_quota_get_delay(quota, now_ms);
	if (delay > 0) {
		queue_arm(queue, now_ms, delay);
	} else {
		queue_start(queue); // and those that are due before it, if the timer is late
	}
}

void vt_waiter_cancel(struct vt_waiter *waiter) {
	if (waiter->quota != NULL) {
		waiter->quota = NULL;
		wl_list_remove(&waiter->link);
	}
}

bool vt_start_queue_init(struct vt_start_queue *queue, struct wl_event_loop *loop) {
	*queue = (struct vt_start_queue){ .due_ms = INT64_MAX };
	wl_list_init(&queue->waiters);
	queue->timer = wl_event_loop_add_timer(loop, queue_handle_timer, queue);
	return queue->timer != NULL;
}

void vt_start_queue_finish(struct vt_start_queue *queue) {
	assert(wl_list_empty(&queue->waiters));
	if (queue->timer != NULL) {
		wl_event_source_remove(queue->timer);
		queue->timer = NULL;
	}
}
