/* SPDX-License-Identifier: MIT */
#include "control.h"
#include "vitrine-bench-v1-protocol.h"

static void control_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	const struct control *control = data;
	struct wl_resource *resource =
		wl_resource_create(client, &vitrine_bench_v1_interface, (int)version, id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_list_init(wl_resource_get_link(resource));
	wl_resource_set_implementation(resource, control->requests, data,
		control->handle_resource_destroy);
}

bool control_init(struct control *control, struct wl_display *display, const void *requests,
		wl_resource_destroy_func_t handle_resource_destroy) {
	*control = (struct control){
		.requests = requests,
		.handle_resource_destroy = handle_resource_destroy,
	};
	wl_list_init(&control->subscribers);
	return wl_global_create(display, &vitrine_bench_v1_interface, 1, control,
		control_bind) != NULL;
}

void control_unsubscribe(struct wl_resource *resource) {
	wl_list_remove(wl_resource_get_link(resource));
	wl_list_init(wl_resource_get_link(resource));
}

void control_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

void control_handle_subscribe(struct wl_client *client, struct wl_resource *resource) {
	struct control *control = wl_resource_get_user_data(resource);
	control_unsubscribe(resource);
	wl_list_insert(control->subscribers.prev, wl_resource_get_link(resource));
}

void control_handle_ack(struct wl_client *client, struct wl_resource *resource, uint32_t seq) {
	// That it comes is what is measured
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
