/* SPDX-License-Identifier: MIT */
#ifndef POLICY_MANAGER_H
#define POLICY_MANAGER_H

#include <vitrine/view_v1.h>

#include "client.h"
#include "policy.h"
#include "quota.h"
#include "retired_memory.h"
#include "start_queue.h"

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
	/** Of the device that clients' buffers are read with, -1 if they are by the CPU. */
	int gpu_fd;

	struct vt_client_registry clients;
	struct vt_policy policy;
	struct vt_quota_registry quotas;
	struct vt_start_queue start_queue;
	struct vt_retired_registry retired;

	struct wl_list unstarted; // session_v1.link, sessions that are being told what to be
	struct wl_list sessions; // vitrine_view_session_v1.link
	uint64_t last_session_id;
	struct wl_list viewed_outputs; // vt_viewed_output.link
	struct wl_list capture_sources; // vt_capture_source.link
	struct wl_list bindings; // binding.link
	struct wl_list views; // buffer_view.link, views that are not described yet
	struct wl_list copies; // view_copy.link, copies that are being made

	struct wl_listener display_destroy;
};

#endif
