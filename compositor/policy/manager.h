/* SPDX-License-Identifier: MIT */
#ifndef POLICY_MANAGER_H
#define POLICY_MANAGER_H

#include <vitrine/view_v1.h>

#include "policy.h"
#include "quota.h"
#include "retired_memory.h"

/** The bits of enum vitrine_guarantee that share memory with the source. */
#define VT_GUARANTEES_ZERO_COPY (VITRINE_GUARANTEE_ALL & ~VITRINE_GUARANTEE_SNAPSHOT)

/**
 * The whole of struct vitrine_view_manager_v1: what is there once for a display. The
 * lists are those of the storeys above, which this one does not look into.
 */
struct vt_manager {
	struct vitrine_view_manager_v1 base;

	struct wl_display *display;
	struct wl_event_loop *loop;
	struct vitrine_derive *derive;

	struct vt_policy policy;
	struct vt_quota_registry quotas;
	struct vt_retired_registry retired;

	struct wl_list starting; // session.link, sessions that wait for their quota
	struct wl_list sources; // vt_viewed_output.link
	struct wl_list capture_sources; // vt_capture_source.link
	struct wl_list bindings; // binding.link
	struct wl_list views; // buffer_view.link, views that are not described yet
	struct wl_list copies; // view_copy.link, copies that are being made

	struct wl_listener display_destroy;
};

/** Handles xx_dmabuf_view_manager_v1.get_buffer_view. */
void vt_manager_handle_get_buffer_view(struct wl_client *client,
	struct wl_resource *manager_resource, uint32_t id,
	struct wl_resource *buffer_resource, uint32_t acceptable);
/** Handles xx_dmabuf_view_manager_v1.create_session. */
void vt_manager_handle_create_session(struct wl_client *client,
	struct wl_resource *manager_resource, uint32_t id,
	struct wl_resource *source_resource, uint32_t options, uint32_t acceptable);

/**
 * The manager of a xx_dmabuf_view_manager_v1 resource, NULL if it is gone.
 */
struct vt_manager *vt_manager_from_resource(struct wl_resource *resource);

/** Whether a mask of acceptable guarantees is valid; posts the error if not. */
bool vt_manager_check_acceptable(struct wl_resource *manager_resource, uint32_t acceptable);

#endif
