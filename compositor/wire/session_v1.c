/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vitrine/allocator.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>

#include "capture_source.h"
#include "clock.h"
#include "session.h"
#include "session_v1.h"
#include "view_setup.h"
#include "xx-dmabuf-view-v1-protocol.h"

/** "no more than 512 bytes" */
#define EXPLANATION_CAP 512

/**
 * A xx_dmabuf_view_session_v1: what its client says before it starts, and then the
 * session that it is. Freed when it has stopped: the object that the client may keep then
 * costs what any object of libwayland does, since nobody could be charged for more.
 */
struct session_v1 {
	struct wl_list link; // vt_manager.unstarted, until it has started or stopped
	struct vt_manager *manager; // NULL once it has started or stopped
	struct wl_resource *resource;
	struct vitrine_view_session_v1 *session; // NULL unless it runs

	struct vt_view_setup setup;
	uint32_t options; // bitfield of enum vitrine_view_option
	bool implicit_release;
	struct vt_charge charge; // one VT_QUOTA_OBJECTS until it starts, payable
	struct wlr_ext_image_capture_source_v1 *source; // NULL if it is gone
	struct wl_listener source_destroy;

	char explanation[EXPLANATION_CAP + 1]; // that was sent last, empty before
};

static const struct xx_dmabuf_view_session_v1_interface session_resource_impl;

/** NULL once it has stopped: "Requests of this session have no effect any more". */
static struct session_v1 *session_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &xx_dmabuf_view_session_v1_interface,
		&session_resource_impl));
	return wl_resource_get_user_data(resource);
}

static struct wl_resource *resource_from_subscriber(const struct vt_subscriber *subscriber) {
	const struct session_v1 *session_v1 = subscriber->wire_data;
	return session_v1->resource;
}

/* Events */

/** How the buffers of an output were chosen. NULL if that is not known, or not yet. */
static const char *explain_buffers(const struct wlr_output *output) {
	struct wlr_allocator *allocator = output->allocator;
	const char *text = allocator != NULL ? vitrine_allocator_describe(allocator) : NULL;
	if (text != NULL || allocator == NULL) {
		return text;
	}
	bool is_to_choose = vitrine_allocator_get_described_signal(allocator) != NULL;
	return is_to_choose ? NULL : "buffers of an allocator that is not Vitrine's";
}

/** "It is in UTF-8": what is too long is cut between characters. */
static size_t count_bytes(const char *text) {
	size_t len = strnlen(text, EXPLANATION_CAP + 1);
	if (len > EXPLANATION_CAP) {
		for (len = EXPLANATION_CAP; len > 0 && (text[len] & 0xc0) == 0x80; len--) {
			// within a character, which began before
		}
	}
	return len;
}

/** If it is known, and not what the client knows. */
static void session_explain(struct session_v1 *session_v1) {
	const char *text = explain_buffers(session_v1->session->output);
	size_t len = text != NULL ? count_bytes(text) : 0;
	if (text == NULL || (strlen(session_v1->explanation) == len &&
			memcmp(session_v1->explanation, text, len) == 0)) {
		return;
	}
	memcpy(session_v1->explanation, text, len);
	session_v1->explanation[len] = '\0';
	xx_dmabuf_view_session_v1_send_explanation(session_v1->resource, session_v1->explanation);
}

static void session_send_start(struct vitrine_view_session_v1 *session) {
	struct session_v1 *session_v1 = session->data;
	xx_dmabuf_view_session_v1_send_depth(session_v1->resource, session->subscriber.depth);
	session_explain(session_v1);
}

static void session_send_power(struct vt_subscriber *subscriber, bool is_on) {
	struct wl_resource *resource = resource_from_subscriber(subscriber);
	if (is_on) {
		xx_dmabuf_view_session_v1_send_on(resource);
	} else {
		xx_dmabuf_view_session_v1_send_off(resource);
	}
}

static void session_send_view(struct vt_subscriber *subscriber, uint32_t index,
		const struct vt_buffer *buffer, const struct vt_view_fds *fds) {
	struct wl_resource *resource = resource_from_subscriber(subscriber);
	bool is_memfd = fds->storage == VITRINE_STORAGE_MEMFD;
	session_explain(subscriber->wire_data);
	xx_dmabuf_view_session_v1_send_view(resource, index, fds->storage,
		(uint32_t)buffer->base.width, (uint32_t)buffer->base.height, buffer->fourcc,
		(uint32_t)(buffer->modifier >> 32), (uint32_t)(buffer->modifier & UINT32_MAX),
		subscriber->guarantee);
	if (!is_memfd && buffer->device != 0) {
		struct wl_array device = vt_view_device_array(&buffer->device);
		xx_dmabuf_view_session_v1_send_device(resource, index, &device);
	}
	for (int i = 0; i < fds->n_planes; i++) {
		// libwayland duplicates the file descriptor
		xx_dmabuf_view_session_v1_send_plane(resource, index, (uint32_t)i, fds->fds[i],
			is_memfd ? 0 : buffer->dmabuf.offset[i],
			is_memfd ? buffer->stride : buffer->dmabuf.stride[i]);
	}
	xx_dmabuf_view_session_v1_send_view_done(resource, index);
	subscriber->stats.fds += (unsigned)fds->n_planes;
}

static void session_send_retired(struct vt_subscriber *subscriber, uint32_t index) {
	xx_dmabuf_view_session_v1_send_retired(resource_from_subscriber(subscriber), index);
}

static void session_send_revoked(struct vt_subscriber *subscriber, uint32_t serial) {
	xx_dmabuf_view_session_v1_send_revoked(resource_from_subscriber(subscriber), serial);
}

/** Sends all rectangles but the last one, which the frame event takes. */
static pixman_box32_t session_send_damage_but_last(struct wl_resource *resource,
		const pixman_box32_t *rects, int n_rects) {
	for (int i = 0; i + 1 < n_rects; i++) {
		xx_dmabuf_view_session_v1_send_damage(resource, (uint32_t)rects[i].x1,
			(uint32_t)rects[i].y1, (uint32_t)(rects[i].x2 - rects[i].x1),
			(uint32_t)(rects[i].y2 - rects[i].y1));
	}
	return n_rects > 0 ? rects[n_rects - 1] : (pixman_box32_t){0};
}

/** The damage of a frame for a subscriber that has missed some before, merged. */
static const pixman_region32_t *session_merge_damage(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	const struct wlr_buffer *buffer = &frame->buffer->buffer->base;
	if (pixman_region32_empty(&subscriber->damage)) {
		return &frame->damage; // one that keeps up
	}
	// One that is late may have the frame's damage in already: see
	// vt_subscriber_miss_frame()
	vt_damage_add(&subscriber->damage, &frame->damage);
	vt_damage_clip(&subscriber->damage, buffer->width, buffer->height);
	return &subscriber->damage;
}

/** Returns the last rectangle, which is for the frame event. */
static pixman_box32_t session_send_damage(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	if (subscriber->damage_all) {
		const struct wlr_buffer *buffer = &frame->buffer->buffer->base;
		return (pixman_box32_t){ .x2 = buffer->width, .y2 = buffer->height };
	}
	const pixman_region32_t *region = session_merge_damage(subscriber, frame);
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	return session_send_damage_but_last(resource_from_subscriber(subscriber), rects, n_rects);
}

static void session_send_transform(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	if (subscriber->transform != (int32_t)frame->transform) {
		subscriber->transform = (int32_t)frame->transform;
		xx_dmabuf_view_session_v1_send_transform(resource_from_subscriber(subscriber),
			frame->transform);
	}
}

static void session_send_frame(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame, uint32_t index, uint32_t serial) {
	struct wl_resource *resource = resource_from_subscriber(subscriber);
	pixman_box32_t box = session_send_damage(subscriber, frame);
	session_send_transform(subscriber, frame);
	if (frame->fence_fd >= 0) {
		xx_dmabuf_view_session_v1_send_fence(resource, frame->fence_fd);
	}
	uint64_t tv_sec = (uint64_t)frame->when.tv_sec;
	xx_dmabuf_view_session_v1_send_frame(resource, index, serial, (uint32_t)(tv_sec >> 32),
		(uint32_t)(tv_sec & UINT32_MAX), (uint32_t)frame->when.tv_nsec, (uint32_t)box.x1,
		(uint32_t)box.y1, (uint32_t)(box.x2 - box.x1), (uint32_t)(box.y2 - box.y1));
}

static void session_set_session(void *data, struct vitrine_view_session_v1 *session) {
	struct session_v1 *session_v1 = data;
	session_v1->session = session;
}

static void session_destroy(struct session_v1 *session_v1) {
	wl_resource_set_user_data(session_v1->resource, NULL);
	vt_view_setup_finish(&session_v1->setup);
	free(session_v1);
}

static void session_send_stopped(void *data, enum vitrine_view_stop_reason reason) {
	struct session_v1 *session_v1 = data;
	struct wl_resource *resource = session_v1->resource;
	session_destroy(session_v1);
	xx_dmabuf_view_session_v1_send_stopped(resource, reason);
}

static const struct vt_subscriber_wire session_wire = {
	.takes_fences = true,
	.send_view = session_send_view,
	.send_frame = session_send_frame,
	.send_revoked = session_send_revoked,
	.send_retired = session_send_retired,
	.send_power = session_send_power,
};

static const struct vt_session_interface session_impl = {
	.protocol = "xx_dmabuf_view_manager_v1",
	.wire = &session_wire,
	.start = session_send_start,
	.set_session = session_set_session,
	.send_stopped = session_send_stopped,
};

/* Before the start */

/** Nothing is waited for any more: it starts, stops or is destroyed. */
static void session_end_setup(struct session_v1 *session_v1) {
	if (session_v1->manager == NULL) {
		return;
	}
	session_v1->manager = NULL;
	vt_charge_drop(&session_v1->charge);
	wl_list_remove(&session_v1->source_destroy.link);
	wl_list_remove(&session_v1->link);
}

static void session_stop_unstarted(struct session_v1 *session_v1,
		enum vitrine_view_stop_reason reason) {
	session_end_setup(session_v1);
	session_send_stopped(session_v1, reason);
}

void vt_sessions_v1_finish(struct vt_manager *manager) {
	struct session_v1 *session_v1, *tmp;
	wl_list_for_each_safe(session_v1, tmp, &manager->unstarted, link) {
		session_stop_unstarted(session_v1, VITRINE_VIEW_STOP_SOURCE_GONE);
	}
}

static void session_handle_source_destroy(struct wl_listener *listener, void *data) {
	struct session_v1 *session_v1 = wl_container_of(listener, session_v1, source_destroy);
	session_stop_unstarted(session_v1, VITRINE_VIEW_STOP_SOURCE_GONE);
}

static void session_handle_set_guarantees(struct wl_client *client,
		struct wl_resource *resource, uint32_t mask) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 != NULL) {
		vt_view_setup_set_guarantees(&session_v1->setup, resource, mask);
	}
}

static void session_handle_set_storages(struct wl_client *client,
		struct wl_resource *resource, uint32_t mask) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 != NULL) {
		vt_view_setup_set_storages(&session_v1->setup, resource, mask);
	}
}

static void session_handle_add_format(struct wl_client *client, struct wl_resource *resource,
		struct wl_array *device, uint32_t fourcc, uint32_t modifier_hi, uint32_t modifier_lo) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 != NULL) {
		vt_view_setup_add_format(&session_v1->setup, resource, device, fourcc, modifier_hi,
			modifier_lo);
	}
}

static void session_handle_set_cursors(struct wl_client *client,
		struct wl_resource *resource, uint32_t mode) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 == NULL || !vt_view_setup_check(&session_v1->setup, resource)) {
		return;
	}
	switch (mode) {
	case XX_DMABUF_VIEW_SESSION_V1_CURSORS_ANY:
		session_v1->options = 0;
		break;
	case XX_DMABUF_VIEW_SESSION_V1_CURSORS_PAINTED:
		session_v1->options = VITRINE_VIEW_OPTION_PAINT_CURSORS;
		break;
	default:
		wl_resource_post_error(resource, XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_CURSORS,
			"unknown mode of cursors %u", mode);
	}
}

static void session_handle_set_implicit_release(struct wl_client *client,
		struct wl_resource *resource) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 != NULL && vt_view_setup_check(&session_v1->setup, resource)) {
		session_v1->implicit_release = true;
	}
}

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
	if (*allowed == 0 || request->storages == 0 || request->output == NULL) {
		return VITRINE_VIEW_STOP_UNSUPPORTED;
	}
	return -1;
}

/** Starts the session, which may stop by this, or returns why it cannot be, or -1. */
static int session_try_start(struct session_v1 *session_v1, struct vt_manager *manager,
		const struct vt_view_setup *setup) {
	struct wlr_ext_image_capture_source_v1 *source = session_v1->source;
	struct vitrine_view_request request = {
		.kind = VITRINE_VIEW_REQUEST_SESSION,
		.client = wl_resource_get_client(session_v1->resource),
		.source = source,
		.output = vt_capture_source_find_output(manager, source),
		.window = vt_capture_source_find_window(manager, source),
		.acceptable = setup->guarantees,
		.storages = setup->reader.storages,
		.options = session_v1->options,
	};
	struct vt_session_options options = {
		.reader = &setup->reader,
		.implicit_release = session_v1->implicit_release,
	};
	int reason = check_session(manager, &request, &options.allowed);
	if (reason < 0 &&
			!vt_session_create(manager, &session_impl, session_v1, &request, &options)) {
		reason = VITRINE_VIEW_STOP_NO_RESOURCES;
	}
	return reason;
}

static void session_handle_start(struct wl_client *client, struct wl_resource *resource) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 == NULL || !vt_view_setup_start(&session_v1->setup, resource)) {
		return;
	}
	struct vt_manager *manager = session_v1->manager;
	struct vt_view_setup setup = session_v1->setup; // outlives a session that stops at once
	session_v1->setup.reader = (struct vt_reader){0};
	session_end_setup(session_v1); // from here on the session itself is charged
	int reason = session_try_start(session_v1, manager, &setup);
	if (reason >= 0) {
		session_send_stopped(session_v1, (enum vitrine_view_stop_reason)reason);
	}
	vt_view_setup_finish(&setup);
}

/* Afterwards */

static void session_handle_release(struct wl_client *client, struct wl_resource *resource,
		uint32_t serial) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 == NULL) {
		return;
	}
	struct vt_subscriber_frame *frame = NULL;
	if (session_v1->session != NULL && serial != 0 && !session_v1->implicit_release) {
		frame = vt_subscriber_find_frame(&session_v1->session->subscriber, serial);
	}
	if (frame == NULL) {
		wl_resource_post_error(resource, XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL,
			"serial %u was never sent or was released already, or release is implicit",
			serial);
		return;
	}
	vt_session_release(session_v1->session, frame);
}

static void session_handle_resource_destroy(struct wl_resource *resource) {
	struct session_v1 *session_v1 = session_from_resource(resource);
	if (session_v1 == NULL) {
		return;
	}
	session_end_setup(session_v1);
	if (session_v1->session != NULL) {
		vt_session_destroy(session_v1->session);
	}
	session_destroy(session_v1);
}

static void session_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static const struct xx_dmabuf_view_session_v1_interface session_resource_impl = {
	.destroy = session_handle_destroy,
	.set_guarantees = session_handle_set_guarantees,
	.set_storages = session_handle_set_storages,
	.add_format = session_handle_add_format,
	.set_cursors = session_handle_set_cursors,
	.set_implicit_release = session_handle_set_implicit_release,
	.start = session_handle_start,
	.release = session_handle_release,
};

/** NULL on allocation failure. */
static struct session_v1 *session_create(struct wl_resource *manager_resource, uint32_t id) {
	struct session_v1 *session_v1 = calloc(1, sizeof(*session_v1));
	if (session_v1 == NULL) {
		return NULL;
	}
	session_v1->resource = wl_resource_create(wl_resource_get_client(manager_resource),
		&xx_dmabuf_view_session_v1_interface, wl_resource_get_version(manager_resource), id);
	if (session_v1->resource == NULL) {
		free(session_v1);
		return NULL;
	}
	wl_resource_set_implementation(session_v1->resource, &session_resource_impl, session_v1,
		session_handle_resource_destroy);
	return session_v1;
}

static void session_handle_pay(struct vt_charge *charge) {
	struct session_v1 *session_v1 = wl_container_of(charge, session_v1, charge);
	session_stop_unstarted(session_v1, VITRINE_VIEW_STOP_NO_RESOURCES);
}

/** What a client can have without starting it is bounded. */
static bool session_charge(struct session_v1 *session_v1, struct vt_manager *manager) {
	struct wl_client *client = wl_resource_get_client(session_v1->resource);
	struct vt_quota *quota = vt_quota_get_for_client(&manager->quotas,
		vt_client_get(&manager->clients, client), vt_now_ms());
	bool ok = quota != NULL && vt_charge_claim(&session_v1->charge, quota, VT_QUOTA_OBJECTS, 1);
	vt_quota_unref(quota);
	return ok;
}

void vt_session_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
		uint32_t id, struct wl_resource *source_resource) {
	struct session_v1 *session_v1 = session_create(manager_resource, id);
	if (session_v1 == NULL) {
		wl_resource_post_no_memory(manager_resource);
		return;
	}
	session_v1->source = wlr_ext_image_capture_source_v1_from_resource(source_resource);
	if (manager == NULL || session_v1->source == NULL) {
		session_send_stopped(session_v1, VITRINE_VIEW_STOP_SOURCE_GONE);
		return;
	}
	if (!session_charge(session_v1, manager)) {
		session_send_stopped(session_v1, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	vt_charge_set_payable(&session_v1->charge, session_handle_pay);
	session_v1->manager = manager;
	wl_list_insert(&manager->unstarted, &session_v1->link);
	session_v1->source_destroy.notify = session_handle_source_destroy;
	wl_signal_add(&session_v1->source->events.destroy, &session_v1->source_destroy);
}
