/* SPDX-License-Identifier: MIT */
#include "control.h"
#include "vitrine-bench-v1-protocol.h"

void control_init(struct control *control) {
	*control = (struct control){0};
	wl_list_init(&control->subscribers);
}

void control_subscribe(struct control *control, struct wl_resource *resource) {
	control_unsubscribe(resource);
	wl_list_insert(control->subscribers.prev, wl_resource_get_link(resource));
}

void control_unsubscribe(struct wl_resource *resource) {
	wl_list_remove(wl_resource_get_link(resource));
	wl_list_init(wl_resource_get_link(resource));
}

void control_handle_ack(struct control *control) {
	control->acks++;
}

void control_send_ticks(struct control *control, const struct timespec *when) {
	uint64_t tv_sec = (uint64_t)when->tv_sec;
	control->seq++;
	struct wl_resource *resource;
	wl_resource_for_each(resource, &control->subscribers) {
		vitrine_bench_v1_send_tick(resource, control->seq, (uint32_t)(tv_sec >> 32),
			(uint32_t)(tv_sec & UINT32_MAX), (uint32_t)when->tv_nsec);
	}
}
