/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CONTROL_H
#define BENCH_CONTROL_H

#include <time.h>
#include <wayland-server-core.h>

/**
 * The limit: clients that get one small event and send one small request per
 * frame. Nothing that tells clients of frames can cost less.
 */
struct control {
	struct wl_list subscribers; // wl_resource_get_link()
	uint32_t seq;
	uint64_t acks;
};

void control_init(struct control *control);
/** Adds a client's object. */
void control_subscribe(struct control *control, struct wl_resource *resource);
/** The object goes; harmless if it was never subscribed. */
void control_unsubscribe(struct wl_resource *resource);
void control_handle_ack(struct control *control);
/** Tells all subscribers of a frame. */
void control_send_ticks(struct control *control, const struct timespec *when);

#endif
