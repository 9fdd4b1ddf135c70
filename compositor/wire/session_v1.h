/* SPDX-License-Identifier: MIT */
#ifndef WIRE_SESSION_V1_H
#define WIRE_SESSION_V1_H

#include <stdint.h>

struct vt_manager;
struct wl_resource;

/** Handles xx_dmabuf_view_manager_v1.create_session. `manager` is NULL if it is gone. */
void vt_session_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
	uint32_t id, struct wl_resource *source_resource);

/** Stops the sessions that have not started, since the manager goes away. */
void vt_sessions_v1_finish(struct vt_manager *manager);

#endif
