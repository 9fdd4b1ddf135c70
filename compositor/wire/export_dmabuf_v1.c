/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <vitrine/export_dmabuf_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/log.h>

#include "session.h"
#include "wlr-export-dmabuf-unstable-v1-protocol.h"

#define EXPORT_DMABUF_MANAGER_VERSION 1
/** Frames of an output that a client may wait for at a time. */
#define EXPORT_FRAMES_CAP 16
/** What the protocol can carry: it knows no storage but dma-bufs. */
#define EXPORT_GUARANTEES (VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY)

/** The whole of struct vitrine_export_dmabuf_manager_v1. */
struct export_manager {
	struct vitrine_export_dmabuf_manager_v1 base;
	struct vt_manager *vt_manager;
	struct wl_list resources; // wl_resource_get_link()
	struct wl_list captures; // export_capture.link
	struct wl_listener manager_destroy;
};

/** The file descriptors that are sent with each frame of the same buffer. */
struct export_view {
	uint32_t index;
	struct vt_charge charge; // VT_QUOTA_FDS
	struct vt_view_fds fds; // n_planes is 0 if the entry is free
};

/**
 * A client that captures an output, for as long as it does. Protocol objects
 * come and go with each frame; this is the session that they make up.
 */
struct export_capture {
	struct wl_list link; // export_manager.captures
	struct export_manager *manager;
	struct wl_client *client;
	struct wlr_output *output;
	uint32_t options; // bitfield of enum vitrine_view_option
	struct vitrine_view_session_v1 *session; // NULL while it is created or destroyed
	struct export_view views[VT_SUBSCRIBER_VIEWS_CAP];
	struct wl_list frames; // export_frame.link, those that were asked for
	struct wl_event_source *idle_timer;
	struct wl_listener client_destroy;
};

/** A frame that has been asked for, until it is there. */
struct export_frame {
	struct wl_list link; // export_capture.frames
	struct export_capture *capture;
	struct wl_resource *resource;
};

static const struct zwlr_export_dmabuf_frame_v1_interface frame_impl;
static const struct zwlr_export_dmabuf_manager_v1_interface manager_impl;

/** NULL once the frame is there or was cancelled. */
static struct export_frame *frame_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &zwlr_export_dmabuf_frame_v1_interface,
		&frame_impl));
	return wl_resource_get_user_data(resource);
}

/** NULL if the manager is gone. */
static struct export_manager *manager_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &zwlr_export_dmabuf_manager_v1_interface,
		&manager_impl));
	return wl_resource_get_user_data(resource);
}

/* Frames */

static void frame_destroy(struct export_frame *frame) {
	wl_resource_set_user_data(frame->resource, NULL);
	wl_list_remove(&frame->link);
	free(frame);
}

static void capture_cancel_frames(struct export_capture *capture,
		enum zwlr_export_dmabuf_frame_v1_cancel_reason reason) {
	struct export_frame *frame, *tmp;
	wl_list_for_each_safe(frame, tmp, &capture->frames, link) {
		zwlr_export_dmabuf_frame_v1_send_cancel(frame->resource, reason);
		frame_destroy(frame);
	}
}

/** Nothing is sent until the client asks again, or has not for too long. */
static void capture_set_idle(struct export_capture *capture) {
	uint32_t deadline_ms = capture->manager->vt_manager->base.limits.frame_deadline_ms;
	if (capture->session != NULL) {
		vt_subscriber_set_idle(&capture->session->subscriber);
	}
	wl_event_source_timer_update(capture->idle_timer, deadline_ms > 0 ? (int)deadline_ms : 1);
}

static void frame_handle_resource_destroy(struct wl_resource *resource) {
	struct export_frame *frame = frame_from_resource(resource);
	if (frame == NULL) {
		return; // "destroy is not release"
	}
	struct export_capture *capture = frame->capture;
	frame_destroy(frame);
	if (wl_list_empty(&capture->frames)) {
		capture_set_idle(capture);
	}
}

static void frame_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static const struct zwlr_export_dmabuf_frame_v1_interface frame_impl = {
	.destroy = frame_handle_destroy,
};

static void frame_send(struct wl_resource *resource, const struct vt_stream_frame *frame,
		const struct vt_view_fds *fds) {
	const struct wlr_dmabuf_attributes *dmabuf = &frame->buffer->buffer->dmabuf;
	uint64_t tv_sec = (uint64_t)frame->when.tv_sec;
	// "clients should copy frame before processing": a slow one may lose it
	zwlr_export_dmabuf_frame_v1_send_frame(resource, (uint32_t)dmabuf->width,
		(uint32_t)dmabuf->height, 0, 0, 0, ZWLR_EXPORT_DMABUF_FRAME_V1_FLAGS_TRANSIENT,
		dmabuf->format, (uint32_t)(dmabuf->modifier >> 32),
		(uint32_t)(dmabuf->modifier & UINT32_MAX), (uint32_t)fds->n_planes);
	for (int i = 0; i < fds->n_planes; i++) {
		off_t size = lseek(fds->fds[i], 0, SEEK_END);
		// libwayland duplicates the file descriptor
		zwlr_export_dmabuf_frame_v1_send_object(resource, (uint32_t)i, fds->fds[i],
			size > 0 ? (uint32_t)size : 0, dmabuf->offset[i], dmabuf->stride[i],
			(uint32_t)i);
	}
	zwlr_export_dmabuf_frame_v1_send_ready(resource, (uint32_t)(tv_sec >> 32),
		(uint32_t)(tv_sec & UINT32_MAX), (uint32_t)frame->when.tv_nsec);
}

/* The session */

static struct export_view *capture_find_view(struct export_capture *capture, uint32_t index) {
	for (size_t i = 0; i < VT_SUBSCRIBER_VIEWS_CAP; i++) {
		if (capture->views[i].fds.n_planes > 0 && capture->views[i].index == index) {
			return &capture->views[i];
		}
	}
	return NULL;
}

static void session_send_view(struct vt_subscriber *subscriber, uint32_t index,
		const struct vt_buffer *buffer, const struct vt_view_fds *fds) {
	struct export_capture *capture = subscriber->wire_data;
	assert(fds->storage != VITRINE_STORAGE_MEMFD);
	for (size_t i = 0; i < VT_SUBSCRIBER_VIEWS_CAP; i++) {
		struct export_view *view = &capture->views[i];
		if (view->fds.n_planes == 0) {
			view->index = index;
			// Else there is no view
			if (vt_charge_try(&view->charge, subscriber->quota, VT_QUOTA_FDS,
					(uint64_t)fds->n_planes) &&
					!vt_view_fds_copy(fds, &view->fds)) {
				vt_charge_drop(&view->charge);
			}
			return;
		}
	}
}

static void view_finish(struct export_view *view) {
	vt_view_fds_finish(&view->fds);
	vt_charge_drop(&view->charge);
}

static void session_send_frame(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame, uint32_t index, uint32_t serial) {
	struct export_capture *capture = subscriber->wire_data;
	const struct export_view *view = capture_find_view(capture, index);
	if (view == NULL) {
		wlr_log(WLR_ERROR, "No file descriptor was left for a frame");
		capture_cancel_frames(capture, ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY);
		capture_set_idle(capture);
		return;
	}
	struct export_frame *pending, *tmp;
	wl_list_for_each_safe(pending, tmp, &capture->frames, link) {
		frame_send(pending->resource, frame, &view->fds);
		subscriber->stats.fds += (unsigned)view->fds.n_planes;
		frame_destroy(pending);
	}
	capture_set_idle(capture);
}

static void session_send_retired(struct vt_subscriber *subscriber, uint32_t index) {
	struct export_view *view = capture_find_view(subscriber->wire_data, index);
	if (view != NULL) {
		view_finish(view);
	}
}

static void capture_destroy(struct export_capture *capture) {
	assert(capture->session == NULL);
	struct export_frame *frame, *tmp;
	wl_list_for_each_safe(frame, tmp, &capture->frames, link) {
		frame_destroy(frame);
	}
	for (size_t i = 0; i < VT_SUBSCRIBER_VIEWS_CAP; i++) {
		view_finish(&capture->views[i]);
	}
	wl_event_source_remove(capture->idle_timer);
	wl_list_remove(&capture->client_destroy.link);
	wl_list_remove(&capture->link);
	free(capture);
}

static void session_set_capture(void *data, struct vitrine_view_session_v1 *session) {
	struct export_capture *capture = data;
	capture->session = session;
}

static enum zwlr_export_dmabuf_frame_v1_cancel_reason cancel_reason_from_stop(
		enum vitrine_view_stop_reason reason) {
	switch (reason) {
	case VITRINE_VIEW_STOP_REVOKED:
	case VITRINE_VIEW_STOP_LOCKED:
	case VITRINE_VIEW_STOP_NO_RESOURCES:
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY;
	case VITRINE_VIEW_STOP_SOURCE_GONE:
	case VITRINE_VIEW_STOP_DENIED:
	case VITRINE_VIEW_STOP_UNSUPPORTED:
		break;
	}
	// "any further attempts to capture the same source will fail again"
	return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT;
}

static void session_send_stopped(void *data, enum vitrine_view_stop_reason reason) {
	struct export_capture *capture = data;
	capture_cancel_frames(capture, cancel_reason_from_stop(reason));
	capture_destroy(capture);
}

static const struct vt_subscriber_wire session_wire = {
	.pulls = true,
	.send_view = session_send_view,
	.send_frame = session_send_frame,
	.send_retired = session_send_retired,
};

static const struct vt_session_interface session_impl = {
	.protocol = "zwlr_export_dmabuf_manager_v1",
	.wire = &session_wire,
	.set_session = session_set_capture,
	.send_stopped = session_send_stopped,
};

/* Captures */

static int capture_handle_idle(void *data) {
	struct export_capture *capture = data;
	if (wl_list_empty(&capture->frames) && capture->session != NULL) {
		// The client has stopped looking, or pretends to: it sees no more
		vt_session_stop(capture->session, VITRINE_VIEW_STOP_REVOKED);
	}
	return 0;
}

static void capture_handle_client_destroy(struct wl_listener *listener, void *data) {
	struct export_capture *capture = wl_container_of(listener, capture, client_destroy);
	if (capture->session != NULL) {
		vt_session_destroy(capture->session);
	}
	capture_destroy(capture);
}

static struct export_capture *manager_find_capture(struct export_manager *manager,
		const struct vitrine_view_request *request) {
	struct export_capture *capture;
	wl_list_for_each(capture, &manager->captures, link) {
		if (capture->client == request->client && capture->output == request->output &&
				capture->options == request->options) {
			return capture;
		}
	}
	return NULL;
}

static struct export_capture *capture_create(struct export_manager *manager,
		const struct vitrine_view_request *request) {
	struct export_capture *capture = calloc(1, sizeof(*capture));
	if (capture == NULL) {
		return NULL;
	}
	capture->manager = manager;
	capture->client = request->client;
	capture->output = request->output;
	capture->options = request->options;
	capture->idle_timer = wl_event_loop_add_timer(manager->vt_manager->loop,
		capture_handle_idle, capture);
	if (capture->idle_timer == NULL) {
		free(capture);
		return NULL;
	}
	wl_list_init(&capture->frames);
	capture->client_destroy.notify = capture_handle_client_destroy;
	wl_client_add_destroy_listener(request->client, &capture->client_destroy);
	wl_list_insert(&manager->captures, &capture->link);
	return capture;
}

static bool capture_add_frame(struct export_capture *capture, struct wl_resource *resource) {
	if (wl_list_length(&capture->frames) >= EXPORT_FRAMES_CAP) {
		return false;
	}
	struct export_frame *frame = calloc(1, sizeof(*frame));
	if (frame == NULL) {
		return false;
	}
	frame->capture = capture;
	frame->resource = resource;
	wl_resource_set_user_data(resource, frame);
	wl_list_insert(capture->frames.prev, &frame->link);
	return true;
}

/** Asks for a frame. Returns why there will be none, or -1. */
static int manager_capture(struct export_manager *manager, struct wl_resource *resource,
		struct vitrine_view_request *request) {
	if (request->output == NULL || !request->output->enabled) {
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT;
	}
	if (manager->vt_manager->policy.locked) {
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY;
	}
	struct export_capture *capture = manager_find_capture(manager, request);
	if (capture != NULL) {
		if (!capture_add_frame(capture, resource)) {
			return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY;
		}
		vt_session_pull(capture->session);
		return -1;
	}

	// The protocol cannot say what the client imports: it comes as it is
	struct vt_reader reader = {
		.storages = request->storages,
		.takes_any_dmabuf = true,
	};
	struct vt_session_options options = {
		.allowed = vt_policy_get_allowed(&manager->vt_manager->policy, request) &
			request->acceptable,
		.reader = &reader,
	};
	if (options.allowed == 0 || request->storages == 0) {
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT;
	}
	capture = capture_create(manager, request);
	if (capture == NULL) {
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY;
	}
	// From here on the session may stop at any time, and take all with it
	if (!capture_add_frame(capture, resource) || !vt_session_create(manager->vt_manager,
			&session_impl, capture, request, &options)) {
		capture_destroy(capture);
		return ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY;
	}
	return -1;
}

static void manager_handle_capture_output(struct wl_client *client,
		struct wl_resource *manager_resource, uint32_t id, int32_t overlay_cursor,
		struct wl_resource *output_resource) {
	struct wl_resource *resource = wl_resource_create(client,
		&zwlr_export_dmabuf_frame_v1_interface, wl_resource_get_version(manager_resource), id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &frame_impl, NULL, frame_handle_resource_destroy);

	struct export_manager *manager = manager_from_resource(manager_resource);
	struct vitrine_view_request request = {
		.kind = VITRINE_VIEW_REQUEST_SESSION,
		.client = client,
		.output = wlr_output_from_resource(output_resource),
		.acceptable = EXPORT_GUARANTEES,
		.storages = VITRINE_STORAGE_DMABUF | VITRINE_STORAGE_MAPPED_DMABUF,
		.options = overlay_cursor ? VITRINE_VIEW_OPTION_PAINT_CURSORS : 0,
	};
	int reason = manager != NULL ? manager_capture(manager, resource, &request) :
		ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT;
	if (reason >= 0) {
		zwlr_export_dmabuf_frame_v1_send_cancel(resource, (uint32_t)reason);
	}
}

/* The global */

static void manager_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static const struct zwlr_export_dmabuf_manager_v1_interface manager_impl = {
	.capture_output = manager_handle_capture_output,
	.destroy = manager_handle_destroy,
};

static void manager_handle_resource_destroy(struct wl_resource *resource) {
	// "All objects created by the manager will still remain valid"
	wl_list_remove(wl_resource_get_link(resource));
}

static void manager_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	struct export_manager *manager = data;
	struct wl_resource *resource = wl_resource_create(client,
		&zwlr_export_dmabuf_manager_v1_interface, (int)version, id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &manager_impl, manager,
		manager_handle_resource_destroy);
	wl_list_insert(&manager->resources, wl_resource_get_link(resource));
}

static void export_handle_manager_destroy(struct wl_listener *listener, void *data) {
	struct export_manager *manager =
		wl_container_of(listener, manager, manager_destroy);
	wl_signal_emit_mutable(&manager->base.events.destroy, manager);
	assert(wl_list_empty(&manager->base.events.destroy.listener_list));
	assert(wl_list_empty(&manager->captures)); // their sessions were stopped
	struct wl_resource *resource, *resource_tmp;
	wl_resource_for_each_safe(resource, resource_tmp, &manager->resources) {
		wl_resource_set_user_data(resource, NULL);
		wl_list_remove(wl_resource_get_link(resource));
		wl_list_init(wl_resource_get_link(resource));
	}
	wl_list_remove(&manager->manager_destroy.link);
	wl_global_destroy(manager->base.global);
	free(manager);
}

struct vitrine_export_dmabuf_manager_v1 *vitrine_export_dmabuf_manager_v1_create(
		struct vitrine_view_manager_v1 *base) {
	struct vt_manager *vt_manager = wl_container_of(base, vt_manager, base);
	struct export_manager *manager = calloc(1, sizeof(*manager));
	if (manager == NULL) {
		return NULL;
	}
	manager->vt_manager = vt_manager;
	wl_list_init(&manager->resources);
	wl_list_init(&manager->captures);
	wl_signal_init(&manager->base.events.destroy);
	manager->base.global = wl_global_create(vt_manager->display,
		&zwlr_export_dmabuf_manager_v1_interface, EXPORT_DMABUF_MANAGER_VERSION, manager,
		manager_bind);
	if (manager->base.global == NULL) {
		free(manager);
		return NULL;
	}
	manager->manager_destroy.notify = export_handle_manager_destroy;
	wl_signal_add(&base->events.destroy, &manager->manager_destroy);
	return &manager->base;
}
