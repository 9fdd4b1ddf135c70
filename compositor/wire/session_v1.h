/* SPDX-License-Identifier: MIT */
#ifndef WIRE_SESSION_V1_H
#define WIRE_SESSION_V1_H

#include <stdint.h>

struct vt_manager;
struct wl_resource;

/**
 * Handles xx_dmabuf_view_manager_v1.create_session, whose masks are valid. `manager`
 * is NULL if it is gone.
 */
void vt_session_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
	uint32_t id, struct wl_resource *source_resource, uint32_t options, uint32_t acceptable);

#endif
