/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <drm_fourcc.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/util/log.h>

#include "manager.h"
#include "quota.h"
#include "session.h"
#include "source.h"
#include "xx-dmabuf-view-v1-protocol.h"

#define ALL_OPTIONS XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS

static const struct xx_dmabuf_view_session_v1_interface session_impl;

/** NULL if the session is stopped. */
static struct vitrine_view_session_v1 *session_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &xx_dmabuf_view_session_v1_interface,
		&session_impl));
	return wl_resource_get_user_data(resource);
}

int64_t view_now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Views */

static struct session_view *session_find_view(struct vitrine_view_session_v1 *session,
		const struct stream_buffer *buffer) {
	for (size_t i = 0; i < VIEW_SESSION_VIEWS_CAP; i++) {
		if (session->views[i].buffer == buffer) {
			return &session->views[i];
		}
	}
	return NULL;
}

bool view_session_knows(const struct vitrine_view_session_v1 *session,
		const struct stream_buffer *buffer) {
	return session_find_view((struct vitrine_view_session_v1 *)session, buffer) != NULL;
}

void view_session_retire(struct vitrine_view_session_v1 *session,
		const struct stream_buffer *buffer) {
	struct session_view *view = session_find_view(session, buffer);
	if (view == NULL) {
		return;
	}
	view->buffer = NULL;
	xx_dmabuf_view_session_v1_send_retired(session->resource, view->index);
}

/** Notes that the memory was announced to the session's client. */
static bool buffer_charge_to(struct stream_buffer *buffer, struct view_quota *quota) {
	struct view_quota **entry;
	wl_array_for_each(entry, &buffer->quotas) {
		if (*entry == quota) {
			return true;
		}
	}
	entry = wl_array_add(&buffer->quotas, sizeof(*entry));
	if (entry == NULL) {
		return false;
	}
	*entry = view_quota_ref(quota);
	return true;
}

/** The guarantee of the views of a stream that a session may have. */
static uint32_t session_get_stream_guarantees(const struct vitrine_view_session_v1 *session,
		bool *is_copy) {
	*is_copy = session->stream == &session->source->snapshots.stream;
	// The memory of a copy is sealed as well: it is private all the same
	return *is_copy ? VITRINE_GUARANTEE_SEALED : session->allowed & VIEW_GUARANTEES_ZERO_COPY;
}

static void session_set_guarantee(struct vitrine_view_session_v1 *session, uint32_t guarantee) {
	if (session->guarantee != guarantee) {
		session->guarantee = guarantee;
		wl_signal_emit_mutable(&session->manager->base.events.session_guarantee, session);
	}
}

static struct session_view *session_announce(struct vitrine_view_session_v1 *session,
		struct stream_buffer *buffer) {
	struct session_view *view = session_find_view(session, NULL);
	if (view == NULL) {
		wlr_log(WLR_ERROR, "A session has too many views at a time");
		return NULL;
	}
	bool is_copy;
	uint32_t acceptable = session_get_stream_guarantees(session, &is_copy);
	struct vitrine_derived_fd derived;
	if (!buffer_charge_to(buffer, session->quota) ||
			!view_buffer_derive(buffer->buffer, session->manager->derive, acceptable,
				view_source_is_scanned_out(session->source), &derived)) {
		return NULL;
	}

	const struct wlr_shm_attributes *shm = &buffer->buffer->shm;
	session->takes_fences = derived.storage == VITRINE_STORAGE_DMABUF;
	session_set_guarantee(session, is_copy ? VITRINE_GUARANTEE_SNAPSHOT : derived.guarantee);
	view->buffer = buffer;
	view->index = session->next_index++;
	xx_dmabuf_view_session_v1_send_view(session->resource, view->index, derived.storage,
		(uint32_t)shm->width, (uint32_t)shm->height, shm->format,
		DRM_FORMAT_MOD_LINEAR >> 32, DRM_FORMAT_MOD_LINEAR & UINT32_MAX, session->guarantee);
	xx_dmabuf_view_session_v1_send_plane(session->resource, view->index, 0, derived.fd,
		(uint32_t)shm->offset, (uint32_t)shm->stride);
	xx_dmabuf_view_session_v1_send_view_done(session->resource, view->index);
	close(derived.fd); // libwayland has duplicated it
	session->stats.views++;
	session->stats.fds++;
	return view;
}

/* Frames */

bool view_session_waits(const struct vitrine_view_session_v1 *session) {
	// Who has not confirmed that a frame was taken back gets no other one, and
	// nothing is kept for it
	return session->stream != NULL && session->seen_seq < session->stream->seq &&
		session->n_revoked == 0 && session->deferred == VIEW_SESSION_DEFER_NOTHING;
}

void view_session_miss_frame(struct vitrine_view_session_v1 *session,
		const pixman_region32_t *damage) {
	if (!session->damage_all) {
		pixman_region32_union(&session->damage, &session->damage, damage);
	}
}

static void session_send_damage_box(struct vitrine_view_session_v1 *session,
		const pixman_box32_t *box) {
	xx_dmabuf_view_session_v1_send_damage(session->resource, (uint32_t)box->x1,
		(uint32_t)box->y1, (uint32_t)(box->x2 - box->x1), (uint32_t)(box->y2 - box->y1));
}

static void session_send_damage_region(struct vitrine_view_session_v1 *session,
		pixman_region32_t *region) {
	int n_rects;
	const pixman_box32_t *rects = pixman_region32_rectangles(region, &n_rects);
	if (n_rects > VIEW_DAMAGE_RECTS_CAP) {
		session_send_damage_box(session, pixman_region32_extents(region));
		return;
	}
	for (int i = 0; i < n_rects; i++) {
		session_send_damage_box(session, &rects[i]);
	}
}

static void session_send_damage(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	const struct wlr_buffer *buffer = &frame->buffer->buffer->base;
	if (session->damage_all) {
		session_send_damage_box(session,
			&(pixman_box32_t){ .x2 = buffer->width, .y2 = buffer->height });
	} else if (pixman_region32_empty(&session->damage)) {
		// A session that keeps up: nothing to merge
		session_send_damage_region(session, (pixman_region32_t *)&frame->damage);
		return;
	} else {
		// A session that is late may have the frame's damage in already: see
		// view_session_miss_frame()
		pixman_region32_union(&session->damage, &session->damage,
			(pixman_region32_t *)&frame->damage);
		pixman_region32_intersect_rect(&session->damage, &session->damage, 0, 0,
			(unsigned)buffer->width, (unsigned)buffer->height);
		session_send_damage_region(session, &session->damage);
	}
	session->damage_all = false;
	pixman_region32_clear(&session->damage);
}

static void session_send_transform(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	if (session->sent_transform && session->transform == frame->transform) {
		return;
	}
	session->sent_transform = true;
	session->transform = frame->transform;
	xx_dmabuf_view_session_v1_send_transform(session->resource, frame->transform);
}

static void session_send_time(struct vitrine_view_session_v1 *session,
		const struct timespec *when) {
	uint64_t tv_sec = (uint64_t)when->tv_sec;
	xx_dmabuf_view_session_v1_send_time(session->resource, (uint32_t)(tv_sec >> 32),
		(uint32_t)(tv_sec & UINT32_MAX), (uint32_t)when->tv_nsec);
}

static void session_send_skipped(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	// What came before the first frame was not missed
	uint64_t skipped = session->stats.frames > 0 ? frame->seq - session->seen_seq - 1 : 0;
	if (skipped > 0) {
		session->stats.skipped += skipped;
		xx_dmabuf_view_session_v1_send_skipped(session->resource,
			skipped > UINT32_MAX ? UINT32_MAX : (uint32_t)skipped);
	}
}

static struct session_frame *session_find_frame(struct vitrine_view_session_v1 *session,
		uint32_t serial) {
	for (uint32_t i = 0; i < session->depth; i++) {
		if (session->frames[i].serial == serial) {
			return &session->frames[i];
		}
	}
	return NULL;
}

/** Another one for each frame; 0 stands for no frame. */
static uint32_t session_take_serial(struct vitrine_view_session_v1 *session) {
	if (++session->next_serial == 0) {
		session->next_serial = 1;
	}
	return session->next_serial;
}

/** "The first frame after a change of size or format is damaged entirely" */
static void session_check_format(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	const struct wlr_shm_attributes *shm = &frame->buffer->buffer->shm;
	if (session->width != shm->width || session->height != shm->height ||
			session->fourcc != shm->format) {
		session->width = shm->width;
		session->height = shm->height;
		session->fourcc = shm->format;
		session->damage_all = true;
	}
}

bool view_session_send_frame(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	struct session_frame *held = session_find_frame(session, 0);
	assert(held != NULL); // the stream asked whether there is room

	struct session_view *view = session_find_view(session, frame->buffer);
	if (view == NULL) {
		view = session_announce(session, frame->buffer);
		if (view == NULL) {
			return false;
		}
	}
	session_check_format(session, frame);
	session_send_damage(session, frame);
	session_send_transform(session, frame);
	session_send_time(session, &frame->when);
	session_send_skipped(session, frame);
	if (frame->fence_fd >= 0) {
		xx_dmabuf_view_session_v1_send_fence(session->resource, frame->fence_fd);
	}

	*held = (struct session_frame){
		.buffer = frame->buffer,
		.seq = frame->seq,
		.serial = session_take_serial(session),
		.sent_ms = view_now_ms(),
	};
	stream_buffer_hold(frame->buffer, frame->seq);
	session->n_held++;
	session->seen_seq = frame->seq;
	session->stats.frames++;
	xx_dmabuf_view_session_v1_send_frame(session->resource, view->index, held->serial);
	return true;
}

static void session_unhold(struct vitrine_view_session_v1 *session, struct session_frame *frame) {
	struct stream_buffer *buffer = frame->buffer;
	frame->buffer = NULL;
	session->n_held--;
	stream_buffer_unhold(buffer);
}

uint32_t view_session_revoke(struct vitrine_view_session_v1 *session,
		const struct stream_buffer *buffer, int64_t before_ms) {
	uint32_t count = 0;
	for (uint32_t i = 0; i < session->depth && session->n_held > 0; i++) {
		struct session_frame *frame = &session->frames[i];
		bool wanted = buffer != NULL ? frame->buffer == buffer :
			frame->buffer != NULL && frame->seq != session->stream->seq;
		if (!wanted || frame->sent_ms > before_ms) {
			continue;
		}
		xx_dmabuf_view_session_v1_send_revoked(session->resource, frame->serial);
		session->n_revoked++;
		session->stats.revoked++;
		count++;
		session_unhold(session, frame);
	}
	if (count > 0) {
		// On its way before anything can be drawn to the buffer
		wl_client_flush(wl_resource_get_client(session->resource));
	}
	return count;
}

void view_session_drop_frames(struct vitrine_view_session_v1 *session) {
	for (uint32_t i = 0; i < session->depth; i++) {
		struct session_frame *frame = &session->frames[i];
		if (frame->buffer != NULL) {
			session_unhold(session, frame);
			// The client may still release it
			session->n_revoked++;
		}
	}
}

/** "upon release the newest frame is sent" */
static void session_catch_up(struct vitrine_view_session_v1 *session) {
	struct view_stream *stream = session->stream;
	if (stream == NULL) {
		return;
	}
	view_stream_serve(stream);
	// Not kept: lost, or not even copied
	bool behind = stream->n_lost > 0 || view_session_waits(session);
	if (stream->newest.buffer == NULL && behind && session->n_revoked == 0) {
		view_source_request_frame(session->source);
	}
}

static void session_handle_release(struct wl_client *client, struct wl_resource *resource,
		uint32_t serial) {
	struct vitrine_view_session_v1 *session = session_from_resource(resource);
	if (session == NULL) {
		return; // "After the compositor has sent the stopped event this has no effect"
	}
	struct session_frame *frame = serial != 0 ? session_find_frame(session, serial) : NULL;
	if (frame == NULL) {
		wl_resource_post_error(resource, XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL,
			"serial %u was never sent or was released already", serial);
		return;
	}

	frame->serial = 0;
	if (frame->buffer == NULL) {
		session->n_revoked--;
	} else {
		bool in_time = frame->seq == session->stream->seq;
		session_unhold(session, frame);
		if (in_time && session->n_held == 0) {
			session->slow = false;
		}
	}
	session_catch_up(session);
}

/* Lifetime */

/** Everything but the resource. The session is not delivered to any more. */
static void session_destroy(struct vitrine_view_session_v1 *session) {
	wl_resource_set_user_data(session->resource, NULL);
	wl_list_remove(&session->capture_source_destroy.link);
	if (session->source != NULL) {
		wl_signal_emit_mutable(&session->manager->base.events.session_stop, session);
		if (view_source_remove_session(session->source, session)) {
			view_quota_take_token(session->quota);
		}
	} else {
		wl_list_remove(&session->link);
	}
	if (session->start_timer != NULL) {
		wl_event_source_remove(session->start_timer);
	}
	view_quota_remove_object(session->quota);
	view_quota_unref(session->quota);
	pixman_region32_fini(&session->damage);
	free(session);
}

void view_session_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	struct wl_resource *resource = session->resource;
	session_destroy(session);
	// Sent when it has become true that the memory never changes again
	xx_dmabuf_view_session_v1_send_stopped(resource, reason);
}

static void session_handle_resource_destroy(struct wl_resource *resource) {
	struct vitrine_view_session_v1 *session = session_from_resource(resource);
	if (session != NULL) {
		session_destroy(session);
	}
}

static void session_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static const struct xx_dmabuf_view_session_v1_interface session_impl = {
	.destroy = session_handle_destroy,
	.release = session_handle_release,
};

static void session_start(struct vitrine_view_session_v1 *session) {
	struct wlr_output *output =
		wlr_output_try_from_ext_image_capture_source_v1(session->capture_source);
	struct view_source *source = view_source_get(session->manager, output);
	if (source == NULL) {
		view_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	wl_list_remove(&session->link);
	xx_dmabuf_view_session_v1_send_depth(session->resource, session->depth);
	view_source_add_session(source, session);
	wl_signal_emit_mutable(&session->manager->base.events.session_start, session);
}

static int session_handle_start_timer(void *data) {
	struct vitrine_view_session_v1 *session = data;
	uint32_t delay = view_quota_get_delay(session->quota);
	if (delay > 0) {
		// Another session of the client was first
		wl_event_source_timer_update(session->start_timer, (int)delay);
	} else {
		session_start(session);
	}
	return 0;
}

static void session_handle_capture_source_destroy(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session =
		wl_container_of(listener, session, capture_source_destroy);
	wl_list_remove(&session->capture_source_destroy.link);
	wl_list_init(&session->capture_source_destroy.link);
	session->capture_source = NULL;
	if (session->source == NULL) {
		view_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	} // else the session goes on for as long as the output does
}

/** Starts the session now or, if its client is too fast, later. */
static bool session_schedule_start(struct vitrine_view_session_v1 *session) {
	uint32_t delay = view_quota_get_delay(session->quota);
	if (delay == 0) {
		session_start(session);
		return true;
	}
	session->start_timer = wl_event_loop_add_timer(session->manager->loop,
		session_handle_start_timer, session);
	if (session->start_timer == NULL) {
		return false;
	}
	wl_event_source_timer_update(session->start_timer, (int)delay);
	return true;
}

static struct vitrine_view_session_v1 *session_create(struct view_manager *manager,
		struct wl_resource *resource, struct view_quota *quota) {
	struct vitrine_view_session_v1 *session = calloc(1, sizeof(*session));
	if (session == NULL) {
		return NULL;
	}
	session->manager = manager;
	session->resource = resource;
	session->quota = view_quota_ref(quota);
	session->depth = manager->base.limits.depth;
	if (session->depth < 1) {
		session->depth = 1;
	} else if (session->depth > VIEW_SESSION_DEPTH_CAP) {
		session->depth = VIEW_SESSION_DEPTH_CAP;
	}
	pixman_region32_init(&session->damage);
	wl_list_init(&session->stream_link);
	wl_list_init(&session->capture_source_destroy.link);
	wl_list_insert(&manager->starting, &session->link);
	wl_resource_set_user_data(resource, session);
	return session;
}

/**
 * Why a session cannot be, or -1. `allowed` is set to the guarantees that both
 * sides can live with.
 */
static int check_session(struct view_manager *manager, struct vitrine_view_request *request,
		uint32_t *allowed) {
	uint32_t policy = view_manager_get_allowed(manager, request);
	*allowed = policy & request->acceptable;
	if (policy == 0) {
		return VITRINE_VIEW_STOP_DENIED;
	}
	if (request->source == NULL) {
		return VITRINE_VIEW_STOP_SOURCE_GONE;
	}
	if (*allowed == 0 ||
			wlr_output_try_from_ext_image_capture_source_v1(request->source) == NULL) {
		return VITRINE_VIEW_STOP_UNSUPPORTED;
	}
	return -1;
}

/** Returns false if the session cannot be for lack of resources. */
static bool create_session(struct view_manager *manager, struct wl_resource *resource,
		const struct vitrine_view_request *request, uint32_t allowed) {
	struct view_quota *quota = view_quota_get(manager, request->client);
	if (quota == NULL) {
		return false;
	}
	if (!view_quota_allows_memory(quota) || !view_quota_add_object(quota)) {
		view_quota_unref(quota);
		return false;
	}
	struct vitrine_view_session_v1 *session = session_create(manager, resource, quota);
	if (session == NULL) {
		view_quota_remove_object(quota);
		view_quota_unref(quota);
		return false;
	}
	view_quota_unref(quota); // the session has its own reference
	session->options = request->options;
	session->acceptable = request->acceptable;
	session->allowed = allowed;
	session->capture_source = request->source;
	session->capture_source_destroy.notify = session_handle_capture_source_destroy;
	wl_signal_add(&request->source->events.destroy, &session->capture_source_destroy);
	if (!session_schedule_start(session)) {
		session_destroy(session);
		return false;
	}
	return true;
}

void view_manager_handle_create_session(struct wl_client *client,
		struct wl_resource *manager_resource, uint32_t id,
		struct wl_resource *source_resource, uint32_t options, uint32_t acceptable) {
	if (options & ~(uint32_t)ALL_OPTIONS) {
		wl_resource_post_error(manager_resource, XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_OPTION,
			"unknown options 0x%x", options & ~(uint32_t)ALL_OPTIONS);
		return;
	}
	if (!view_manager_check_acceptable(manager_resource, acceptable)) {
		return;
	}
	struct wl_resource *resource = wl_resource_create(client,
		&xx_dmabuf_view_session_v1_interface, wl_resource_get_version(manager_resource), id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &session_impl, NULL,
		session_handle_resource_destroy);

	struct view_manager *manager = view_manager_from_resource(manager_resource);
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
	uint32_t allowed;
	int reason = check_session(manager, &request, &allowed);
	if (reason < 0 && !create_session(manager, resource, &request, allowed)) {
		reason = VITRINE_VIEW_STOP_NO_RESOURCES;
	}
	if (reason >= 0) {
		xx_dmabuf_view_session_v1_send_stopped(resource, (uint32_t)reason);
	}
}

/* For embedders */

void vitrine_view_session_v1_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	view_session_stop(session, reason);
}

struct wl_client *vitrine_view_session_v1_get_client(
		const struct vitrine_view_session_v1 *session) {
	return wl_resource_get_client(session->resource);
}

uint32_t vitrine_view_session_v1_get_guarantee(const struct vitrine_view_session_v1 *session) {
	return session->guarantee;
}

const char *vitrine_view_session_v1_get_protocol(
		const struct vitrine_view_session_v1 *session) {
	return xx_dmabuf_view_manager_v1_interface.name;
}

const char *vitrine_view_session_v1_get_source_name(
		const struct vitrine_view_session_v1 *session) {
	return session->source->output->name;
}

void vitrine_view_session_v1_get_stats(const struct vitrine_view_session_v1 *session,
		struct vitrine_view_session_stats *stats) {
	*stats = session->stats;
}
