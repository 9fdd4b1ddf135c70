/* SPDX-License-Identifier: MIT */
#ifndef WIRE_VIEW_SETUP_H
#define WIRE_VIEW_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "reader.h"

struct wl_array;
struct wl_resource;

/**
 * What a client says before it starts a session or a view of a buffer: the requests
 * and the errors of the two are the same. Zeroed, it has said nothing.
 */
struct vt_view_setup {
	uint32_t guarantees; // that the client accepts; 0 before it has said so
	struct vt_reader reader;
	bool is_done; // the client has called start
};

void vt_view_setup_finish(struct vt_view_setup *setup);

/**
 * The requests of the same names. They check what the client says, and set it.
 * Otherwise they post an error on the resource, or that there is no memory, and return
 * false: nothing more may come of the request then.
 */
bool vt_view_setup_set_guarantees(struct vt_view_setup *setup, struct wl_resource *resource,
	uint32_t mask);
bool vt_view_setup_set_storages(struct vt_view_setup *setup, struct wl_resource *resource,
	uint32_t mask);
bool vt_view_setup_add_format(struct vt_view_setup *setup, struct wl_resource *resource,
	const struct wl_array *device, uint32_t fourcc, uint32_t modifier_hi,
	uint32_t modifier_lo);
bool vt_view_setup_start(struct vt_view_setup *setup, struct wl_resource *resource);
/** To be called first by every other setter: false if the client has called start. */
bool vt_view_setup_check(const struct vt_view_setup *setup, struct wl_resource *resource);

/** The dev_t of a device event, valid as long as `device`. Empty if `device` is 0. */
struct wl_array vt_view_device_array(const dev_t *device);

#endif
