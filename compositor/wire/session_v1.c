/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>

#include "capture_source.h"
#include "session.h"
#include "session_v1.h"
#include "xx-dmabuf-view-v1-protocol.h"

static const struct xx_dmabuf_view_session_v1_interface session_resource_impl;

/** NULL if the session is stopped. */
static struct vitrine_view_session_v1 *session_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &xx_dmabuf_view_session_v1_interface,
		&session_resource_impl));
	return wl_resource_get_user_data(resource);
}

/* Events */

static void session_send_depth(struct vitrine_view_session_v1 *session) {
	xx_dmabuf_view_session_v1_send_depth(session->data, session->subscriber.depth);
}

static void session_send_view(struct vt_subscriber *subscriber, uint32_t index,
		const struct vt_buffer *buffer, const struct vt_view_fds *fds) {
	xx_dmabuf_view_session_v1_send_view(subscriber->wire_data, index, fds->storage,
		(uint32_t)buffer->base.width, (uint32_t)buffer->base.height, buffer->fourcc,
		(uint32_t)(buffer->modifier >> 32), (uint32_t)(buffer->modifier & UINT32_MAX),
		subscriber->guarantee);
	for (int i = 0; i < fds->n_planes; i++) {
		bool is_memfd = fds->storage == VITRINE_STORAGE_MEMFD;
		// libwayland duplicates the file descriptor
		xx_dmabuf_view_session_v1_send_plane(subscriber->wire_data, index, (uint32_t)i,
			fds->fds[i], is_memfd ? 0 : buffer->dmabuf.offset[i],
			is_memfd ? buffer->stride : buffer->dmabuf.stride[i]);
	}
	xx_dmabuf_view_session_v1_send_view_done(subscriber->wire_data, index);
	subscriber->stats.fds += (unsigned)fds->n_planes;
}

static void session_send_retired(struct vt_subscriber *subscriber, uint32_t index) {
	xx_dmabuf_view_session_v1_send_retired(subscriber->wire_data, index);
}

static void session_send_revoked(struct vt_subscriber *subscriber, uint32_t serial) {
	xx_dmabuf_view_session_v1_send_revoked(subscriber->wire_data, serial);
}

static void session_send_damage_box(struct vt_subscriber *subscriber,
		const pixman_box32_t *box) {
	xx_dmabuf_view_session_v1_send_damage(subscriber->wire_data, (uint32_t)box->x1,
		(uint32_t)box->y1, (uint32_t)(box->x2 - box->x1), (uint32_t)(box->y2 - box->y1));
}

static void session_send_damage_region(struct vt_subscriber *subscriber,
		const pixman_region32_t *region) {
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	for (int i = 0; i < n_rects; i++) {
		session_send_damage_box(subscriber, &rects[i]);
	}
}

static void session_send_damage(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	const struct wlr_buffer *buffer = &frame->buffer->buffer->base;
	if (subscriber->damage_all) {
		session_send_damage_box(subscriber,
			&(pixman_box32_t){ .x2 = buffer->width, .y2 = buffer->height });
	} else if (pixman_region32_empty(&subscriber->damage)) {
		// One that keeps up: nothing to merge
		session_send_damage_region(subscriber, &frame->damage);
	} else {
		// One that is late may have the frame's damage in already: see
		// vt_subscriber_miss_frame()
		vt_damage_add(&subscriber->damage, &frame->damage);
		pixman_region32_intersect_rect(&subscriber->damage, &subscriber->damage, 0, 0,
			(unsigned)buffer->width, (unsigned)buffer->height);
		session_send_damage_region(subscriber, &subscriber->damage);
	}
}

static void session_send_transform(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	if (subscriber->transform == (int32_t)frame->transform) {
		return;
	}
	subscriber->transform = (int32_t)frame->transform;
	xx_dmabuf_view_session_v1_send_transform(subscriber->wire_data, frame->transform);
}

static void session_send_time(struct vt_subscriber *subscriber,
		const struct timespec *when) {
	uint64_t tv_sec = (uint64_t)when->tv_sec;
	xx_dmabuf_view_session_v1_send_time(subscriber->wire_data, (uint32_t)(tv_sec >> 32),
		(uint32_t)(tv_sec & UINT32_MAX), (uint32_t)when->tv_nsec);
}

static void session_send_skipped(struct vt_subscriber *subscriber) {
	if (subscriber->n_skipped > 0) {
		xx_dmabuf_view_session_v1_send_skipped(subscriber->wire_data,
			subscriber->n_skipped > UINT32_MAX ? UINT32_MAX : (uint32_t)subscriber->n_skipped);
	}
}

static void session_send_frame(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame, uint32_t index, uint32_t serial) {
	session_send_damage(subscriber, frame);
	session_send_transform(subscriber, frame);
	session_send_time(subscriber, &frame->when);
	session_send_skipped(subscriber);
	if (frame->fence_fd >= 0) {
		xx_dmabuf_view_session_v1_send_fence(subscriber->wire_data, frame->fence_fd);
	}
	xx_dmabuf_view_session_v1_send_frame(subscriber->wire_data, index, serial);
}

static void session_set_resource_data(void *data, struct vitrine_view_session_v1 *session) {
	wl_resource_set_user_data(data, session);
}

static void session_send_stopped(void *data, enum vitrine_view_stop_reason reason) {
	xx_dmabuf_view_session_v1_send_stopped(data, reason);
}

static const struct vt_subscriber_wire session_wire = {
	.takes_fences = true,
	.send_view = session_send_view,
	.send_frame = session_send_frame,
	.send_revoked = session_send_revoked,
	.send_retired = session_send_retired,
};

static const struct vt_session_interface session_impl = {
	.protocol = "xx_dmabuf_view_manager_v1",
	.wire = &session_wire,
	.start = session_send_depth,
	.set_session = session_set_resource_data,
	.send_stopped = session_send_stopped,
};

/* Requests */

static void session_handle_release(struct wl_client *client, struct wl_resource *resource,
		uint32_t serial) {
	struct vitrine_view_session_v1 *session = session_from_resource(resource);
	if (session == NULL) {
		return; // "After the compositor has sent the stopped event this has no effect"
	}
	struct vt_subscriber_frame *frame =
		serial != 0 ? vt_subscriber_find_frame(&session->subscriber, serial) : NULL;
	if (frame == NULL) {
		wl_resource_post_error(resource, XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL,
			"serial %u was never sent or was released already", serial);
		return;
	}

	vt_session_release(session, frame);
}

static void session_handle_resource_destroy(struct wl_resource *resource) {
	struct vitrine_view_session_v1 *session = session_from_resource(resource);
	if (session != NULL) {
		vt_session_destroy(session);
	}
}

static void session_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static const struct xx_dmabuf_view_session_v1_interface session_resource_impl = {
	.destroy = session_handle_destroy,
	.release = session_handle_release,
};

/**
 * Why a session cannot be, or -1. `allowed` is set to the guarantees that both
 * sides can live with.
 */
static int check_session(struct vt_manager *manager, struct vitrine_view_request *request,
		uint32_t *allowed) {
	if (manager->policy.locked) {
		return VITRINE_VIEW_STOP_LOCKED;
	}
	uint32_t policy = vt_policy_get_allowed(&manager->policy, request);
	*allowed = policy & request->acceptable;
	if (policy == 0) {
		return VITRINE_VIEW_STOP_DENIED;
	}
	if (request->source == NULL) {
		return VITRINE_VIEW_STOP_SOURCE_GONE;
	}
	if (*allowed == 0 || request->output == NULL) {
		return VITRINE_VIEW_STOP_UNSUPPORTED;
	}
	return -1;
}

void vt_session_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
		uint32_t id, struct wl_resource *source_resource, uint32_t options, uint32_t acceptable) {
	struct wl_client *client = wl_resource_get_client(manager_resource);
	struct wl_resource *resource = wl_resource_create(client,
		&xx_dmabuf_view_session_v1_interface, wl_resource_get_version(manager_resource), id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &session_resource_impl, NULL,
		session_handle_resource_destroy);
	if (manager == NULL) {
		xx_dmabuf_view_session_v1_send_stopped(resource, VITRINE_VIEW_STOP_SOURCE_GONE);
		return;
	}
	struct vitrine_view_request request = {
		.client = client,
		.source = wlr_ext_image_capture_source_v1_from_resource(source_resource),
		.acceptable = acceptable,
		.options = options,
	};
	if (request.source != NULL) {
		request.output = vt_capture_source_find_output(manager, request.source);
	}
	// A client cannot say yet what it can read
	struct vt_reader reader = { .storages = VITRINE_STORAGE_ALL, .takes_any_dmabuf = true };
	struct vt_session_options session_options = { .reader = &reader };
	int reason = check_session(manager, &request, &session_options.allowed);
	if (reason < 0 && !vt_session_create(manager, &session_impl, resource, &request,
			&session_options)) {
		reason = VITRINE_VIEW_STOP_NO_RESOURCES;
	}
	if (reason >= 0) {
		xx_dmabuf_view_session_v1_send_stopped(resource, (uint32_t)reason);
	}
}
