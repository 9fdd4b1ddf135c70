/* SPDX-License-Identifier: MIT */
#ifndef WIRE_BUFFER_VIEW_V1_H
#define WIRE_BUFFER_VIEW_V1_H

#include <stdint.h>

struct vt_manager;
struct wl_resource;

/** Handles xx_dmabuf_view_manager_v1.get_buffer_view. `manager` is NULL if it is gone. */
void vt_buffer_view_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
	uint32_t id, struct wl_resource *buffer_resource);

/** Fails the views that are not described yet, since the manager goes away. */
void vt_buffer_views_v1_finish(struct vt_manager *manager);

#endif
