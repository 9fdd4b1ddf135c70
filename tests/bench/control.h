/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CONTROL_H
#define BENCH_CONTROL_H

#include <stdbool.h>
#include <time.h>
#include <wayland-server-core.h>

/**
 * The limit: clients that get one small event and send one small request per
 * frame. Nothing that tells clients of frames can cost less.
 */
struct control {
	struct wl_list subscribers; // wl_resource_get_link()
	uint32_t seq;
	const void *requests;
	wl_resource_destroy_func_t handle_resource_destroy;
};

/**
 * Offers the object, of which each resource has the control for its user data. Requests
 * are a struct vitrine_bench_v1_interface. When a resource goes, the function is called: it
 * is control_unsubscribe(), or calls that. Returns false on failure.
 */
bool control_init(struct control *control, struct wl_display *display, const void *requests,
	wl_resource_destroy_func_t handle_resource_destroy);
/** Harmless if it was never subscribed. */
void control_unsubscribe(struct wl_resource *resource);
/** Tells all subscribers of a frame. */
void control_send_ticks(struct control *control, const struct timespec *when);

/* Requests */

void control_handle_destroy(struct wl_client *client, struct wl_resource *resource);
void control_handle_subscribe(struct wl_client *client, struct wl_resource *resource);
void control_handle_ack(struct wl_client *client, struct wl_resource *resource, uint32_t seq);

#endif
