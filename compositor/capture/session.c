/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/log.h>

#include "clock.h"
#include "manager.h"
#include "session.h"
#include "viewed_output.h"

/* Views */

static struct session_view *session_find_view(struct vitrine_view_session_v1 *session,
		const struct vt_stream_buffer *buffer) {
	for (size_t i = 0; i < VT_SESSION_VIEWS_CAP; i++) {
		if (session->views[i].buffer == buffer) {
			return &session->views[i];
		}
	}
	return NULL;
}

bool vt_session_knows(const struct vitrine_view_session_v1 *session,
		const struct vt_stream_buffer *buffer) {
	return session_find_view((struct vitrine_view_session_v1 *)session, buffer) != NULL;
}

void vt_session_retire(struct vitrine_view_session_v1 *session,
		const struct vt_stream_buffer *buffer) {
	struct session_view *view = session_find_view(session, buffer);
	if (view == NULL) {
		return;
	}
	view->buffer = NULL;
	if (session->impl->send_retired != NULL) {
		session->impl->send_retired(session, view->index);
	}
}

/** Notes that the memory was announced to the session's client. */
static bool buffer_charge_to(struct vt_stream_buffer *buffer, struct vt_quota *quota) {
	struct vt_quota **entry;
	wl_array_for_each(entry, &buffer->quotas) {
		if (*entry == quota) {
			return true;
		}
	}
	entry = wl_array_add(&buffer->quotas, sizeof(*entry));
	if (entry == NULL) {
		return false;
	}
	*entry = vt_quota_ref(quota);
	return true;
}

/** The guarantee of the views of a stream that a session may have. */
static uint32_t session_get_stream_guarantees(const struct vitrine_view_session_v1 *session,
		bool *is_copy) {
	*is_copy = session->stream == &session->source->snapshots.stream;
	if (*is_copy) {
		// The memory of a copy is sealed as well: it is private all the same
		return session->allowed & VITRINE_GUARANTEE_SNAPSHOT ? VITRINE_GUARANTEE_SEALED : 0;
	}
	return session->allowed & VT_GUARANTEES_ZERO_COPY;
}

static void session_set_guarantee(struct vitrine_view_session_v1 *session, uint32_t guarantee) {
	if (session->guarantee != guarantee) {
		session->guarantee = guarantee;
		wl_signal_emit_mutable(&session->manager->base.events.session_guarantee, session);
	}
}

static struct session_view *session_announce(struct vitrine_view_session_v1 *session,
		struct vt_stream_buffer *buffer) {
	struct session_view *view = session_find_view(session, NULL);
	if (view == NULL) {
		wlr_log(WLR_ERROR, "A session has too many views at a time");
		return NULL;
	}
	bool is_copy;
	uint32_t acceptable = session_get_stream_guarantees(session, &is_copy);
	struct vitrine_derived_fd derived;
	if (!vt_buffer_derive(buffer->buffer, session->manager->derive, acceptable,
			session->stream->is_scanned_out, &derived)) {
		return NULL;
	}
	// Last: a buffer that is charged counts as announced
	if (!buffer_charge_to(buffer, session->quota)) {
		close(derived.fd);
		return NULL;
	}
	if (buffer->buffer->retired) {
		// It has not changed since, and will get other memory when it does
		vt_retired_registry_watch(&session->manager->retired, buffer->buffer, &session->quota, 1);
	}

	session->takes_fences =
		session->impl->takes_fences && derived.storage == VITRINE_STORAGE_DMABUF;
	session_set_guarantee(session, is_copy ? VITRINE_GUARANTEE_SNAPSHOT : derived.guarantee);
	view->buffer = buffer;
	view->index = session->next_index++;
	if (session->impl->send_view != NULL) {
		session->impl->send_view(session, view->index, buffer->buffer, &derived);
	}
	session->stats.views++;
	close(derived.fd);
	return view;
}

/* Frames */

bool vt_session_waits(const struct vitrine_view_session_v1 *session) {
	// Who has not confirmed that a frame was taken back gets no other one, and
	// nothing is kept for it
	return session->stream != NULL && session->seen_seq < session->stream->seq &&
		session->first_seq <= session->stream->seq &&
		session->n_revoked == 0 && !session->idle &&
		session->deferred == VT_SESSION_DEFER_NOTHING;
}

bool vt_session_is_behind(const struct vitrine_view_session_v1 *session) {
	return session->impl->pulls ? session->idle : session->n_held > 0;
}

void vt_session_miss_frame(struct vitrine_view_session_v1 *session,
		const pixman_region32_t *damage) {
	if (!session->damage_all) {
		vt_damage_add(&session->damage, damage);
	}
}

struct session_frame *vt_session_find_frame(struct vitrine_view_session_v1 *session,
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
		const struct vt_stream_frame *frame) {
	const struct vt_buffer *buffer = frame->buffer->buffer;
	if (session->width != buffer->base.width || session->height != buffer->base.height ||
			session->fourcc != buffer->fourcc) {
		session->width = buffer->base.width;
		session->height = buffer->base.height;
		session->fourcc = buffer->fourcc;
		session->damage_all = true;
	}
}

static void session_count_frame(struct vitrine_view_session_v1 *session,
		const struct vt_stream_frame *frame) {
	// What came before the first frame was not missed
	session->n_skipped = session->stats.frames > 0 ? frame->seq - session->seen_seq - 1 : 0;
	session->stats.skipped += session->n_skipped;
	session->stats.frames++;
	session->seen_seq = frame->seq;
}

static void session_unhold(struct vitrine_view_session_v1 *session, struct session_frame *frame) {
	struct vt_stream_buffer *buffer = frame->buffer;
	frame->buffer = NULL;
	session->n_held--;
	vt_stream_buffer_unhold(buffer);
}

/** Releases what the session holds but for the last frame that it got. */
static void session_release_seen(struct vitrine_view_session_v1 *session) {
	for (uint32_t i = 0; i < session->depth; i++) {
		struct session_frame *frame = &session->frames[i];
		if (frame->buffer != NULL && frame->seq != session->seen_seq) {
			frame->serial = 0;
			session_unhold(session, frame);
		}
	}
}

bool vt_session_send_frame(struct vitrine_view_session_v1 *session,
		const struct vt_stream_frame *frame) {
	struct session_frame *held = vt_session_find_frame(session, 0);
	assert(held != NULL); // the stream asked whether there is room

	struct session_view *view = session_find_view(session, frame->buffer);
	if (view == NULL) {
		view = session_announce(session, frame->buffer);
		if (view == NULL) {
			return false;
		}
	}
	session_check_format(session, frame);
	*held = (struct session_frame){
		.buffer = frame->buffer,
		.seq = frame->seq,
		.serial = session_take_serial(session),
		.sent_ms = vt_now_ms(),
	};
	vt_stream_buffer_hold(frame->buffer, frame->seq);
	session->n_held++;
	session_count_frame(session, frame);
	if (session->impl->pulls && wl_list_length(&session->stream->sessions) > 1) {
		// The others need a buffer to take turns on
		session_release_seen(session);
	}
	session->impl->send_frame(session, frame, view->index, held->serial);
	session->damage_all = false;
	pixman_region32_clear(&session->damage);
	return true;
}

static void session_take_back(struct vitrine_view_session_v1 *session,
		struct session_frame *frame) {
	if (session->impl->pulls) {
		frame->serial = 0;
	} else {
		session->n_revoked++; // until the client has released it all the same
	}
	session_unhold(session, frame);
}

uint32_t vt_session_revoke(struct vitrine_view_session_v1 *session,
		const struct vt_stream_buffer *buffer, int64_t before_ms) {
	uint32_t count = 0;
	for (uint32_t i = 0; i < session->depth && session->n_held > 0; i++) {
		struct session_frame *frame = &session->frames[i];
		bool wanted = buffer != NULL ? frame->buffer == buffer :
			frame->buffer != NULL && frame->seq != session->stream->seq;
		if (!wanted || frame->sent_ms > before_ms) {
			continue;
		}
		if (!session->impl->pulls) {
			session->impl->send_revoked(session, frame->serial);
		}
		session->stats.revoked++;
		count++;
		session_take_back(session, frame);
	}
	if (count > 0) {
		// On its way before anything can be drawn to the buffer
		wl_client_flush(session->client);
	}
	return count;
}

void vt_session_take_back_all(struct vitrine_view_session_v1 *session) {
	for (uint32_t i = 0; i < session->depth; i++) {
		struct session_frame *frame = &session->frames[i];
		if (frame->buffer != NULL && !session->impl->pulls) {
			session->impl->send_revoked(session, frame->serial);
			session->stats.revoked++;
		}
	}
	vt_session_drop_frames(session);
}

void vt_session_drop_frames(struct vitrine_view_session_v1 *session) {
	for (uint32_t i = 0; i < session->depth; i++) {
		struct session_frame *frame = &session->frames[i];
		if (frame->buffer != NULL) {
			session_take_back(session, frame);
		}
	}
}

/**
 * "upon release the newest frame is sent"; to others as well, if nobody holds a
 * frame any more in a buffer that they had to wait for.
 */
static void session_catch_up(struct vitrine_view_session_v1 *session, bool buffer_is_free) {
	struct vt_stream *stream = session->stream;
	if (stream == NULL) {
		return;
	}
	if (buffer_is_free) {
		vt_stream_serve(stream);
	} else {
		vt_stream_serve_session(stream, session);
	}
	// Not kept: lost, or not even copied
	bool behind = stream->n_lost > 0 || vt_session_waits(session);
	if (stream->newest.buffer == NULL && behind && session->n_revoked == 0) {
		vt_viewed_output_request_frame(session->source);
	}
}

void vt_session_release(struct vitrine_view_session_v1 *session, struct session_frame *frame) {
	bool buffer_is_free = false;
	frame->serial = 0;
	if (frame->buffer == NULL) {
		session->n_revoked--;
	} else {
		bool in_time = frame->seq == session->stream->seq;
		buffer_is_free = frame->buffer->n_holds == 1;
		session_unhold(session, frame);
		if (in_time && session->n_held == 0) {
			session->slow = false;
		}
	}
	session_catch_up(session, buffer_is_free);
}

void vt_session_pull(struct vitrine_view_session_v1 *session) {
	session->idle = false;
	session->slow = false;
	session_release_seen(session);
	if (session->stream != NULL) {
		session->first_seq = session->stream->seq + 1;
		vt_stream_serve(session->stream);
	}
	if (session->source != NULL) {
		vt_viewed_output_request_frame(session->source);
	}
}

/* Lifetime */

void vt_session_destroy(struct vitrine_view_session_v1 *session) {
	session->impl->set_session(session->data, NULL);
	wl_list_remove(&session->capture_source_destroy.link);
	wl_list_remove(&session->output_destroy.link);
	if (session->source != NULL) {
		wl_signal_emit_mutable(&session->manager->base.events.session_stop, session);
		vt_viewed_output_remove_session(session->source, session);
		if (session->stats.frames > 0) {
			vt_quota_take_token(session->quota, vt_now_ms());
		}
	} else {
		wl_list_remove(&session->link);
	}
	if (session->start_timer != NULL) {
		wl_event_source_remove(session->start_timer);
	}
	wl_list_remove(&session->quota_exceeded.link);
	vt_charge_drop(&session->charge);
	vt_quota_unref(session->quota);
	pixman_region32_fini(&session->damage);
	free(session);
}

void vt_session_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	const struct vt_session_interface *impl = session->impl;
	void *data = session->data;
	vt_session_destroy(session);
	// Sent when it has become true that the memory never changes again
	impl->send_stopped(data, reason);
}

void vt_session_stop_later(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	session->deferred = VT_SESSION_DEFER_STOP;
	session->deferred_reason = reason;
	vt_viewed_output_defer(session->source);
}

static void session_start(struct vitrine_view_session_v1 *session) {
	struct vt_viewed_output *source = vt_viewed_output_get(session->manager, session->output);
	if (source == NULL) {
		vt_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	wl_list_remove(&session->link);
	wl_list_init(&session->link);
	if (!vt_viewed_output_add_session(source, session)) {
		vt_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	wl_list_remove(&session->output_destroy.link); // the source knows when it goes
	wl_list_init(&session->output_destroy.link);
	if (session->impl->start != NULL) {
		session->impl->start(session);
	}
	wl_signal_emit_mutable(&session->manager->base.events.session_start, session);
}

static int session_handle_start_timer(void *data) {
	struct vitrine_view_session_v1 *session = data;
	uint32_t delay = vt_quota_get_delay(session->quota, vt_now_ms());
	if (delay > 0) {
		// Another session of the client was first
		wl_event_source_timer_update(session->start_timer, (int)delay);
	} else if (!vt_retired_registry_has_room(&session->manager->retired, session->quota, 0)) {
		vt_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
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
		vt_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	} // else the session goes on for as long as the output does
}

static void session_handle_output_destroy(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session =
		wl_container_of(listener, session, output_destroy);
	vt_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
}

/** Starts the session now or, if its client is too fast, later. */
static bool session_schedule_start(struct vitrine_view_session_v1 *session) {
	uint32_t delay = vt_quota_get_delay(session->quota, vt_now_ms());
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

static struct vitrine_view_session_v1 *session_create(struct vt_manager *manager,
		const struct vt_session_interface *impl, void *data, struct vt_quota *quota) {
	struct vitrine_view_session_v1 *session = calloc(1, sizeof(*session));
	if (session == NULL) {
		return NULL;
	}
	session->manager = manager;
	session->impl = impl;
	session->data = data;
	if (!vt_charge_try(&session->charge, quota, VT_QUOTA_OBJECTS, 1)) {
		free(session);
		return NULL;
	}
	session->quota = vt_quota_ref(quota);
	session->depth = manager->base.limits.depth;
	if (session->depth < 1) {
		session->depth = 1;
	} else if (session->depth > VT_SESSION_DEPTH_CAP) {
		session->depth = VT_SESSION_DEPTH_CAP;
	}
	if (impl->pulls) {
		session->depth = 2; // the last frame, and the next one
	}
	pixman_region32_init(&session->damage);
	wl_list_init(&session->stream_link);
	wl_list_init(&session->capture_source_destroy.link);
	wl_list_init(&session->output_destroy.link);
	wl_list_insert(&manager->starting, &session->link);
	impl->set_session(data, session);
	return session;
}

/** A client that keeps too much memory alive sees no more. */
static void session_handle_quota_exceeded(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session = wl_container_of(listener, session, quota_exceeded);
	if (session->source != NULL) { // else it is refused when it is to start
		vt_session_stop_later(session, VITRINE_VIEW_STOP_NO_RESOURCES);
	}
}

static void session_listen(struct vitrine_view_session_v1 *session) {
	session->quota_exceeded.notify = session_handle_quota_exceeded;
	wl_signal_add(&session->quota->events.exceeded, &session->quota_exceeded);
	if (session->capture_source != NULL) {
		session->capture_source_destroy.notify = session_handle_capture_source_destroy;
		wl_signal_add(&session->capture_source->events.destroy,
			&session->capture_source_destroy);
	}
	session->output_destroy.notify = session_handle_output_destroy;
	wl_signal_add(&session->output->events.destroy, &session->output_destroy);
}

bool vt_session_create(struct vt_manager *manager,
		const struct vt_session_interface *impl, void *data,
		const struct vitrine_view_request *request, uint32_t allowed) {
	struct vt_quota *quota =
		vt_quota_get_for_client(&manager->quotas, request->client, vt_now_ms());
	if (quota == NULL) {
		return false;
	}
	struct vitrine_view_session_v1 *session = NULL;
	if (vt_retired_registry_has_room(&manager->retired, quota, 0)) {
		session = session_create(manager, impl, data, quota);
	}
	vt_quota_unref(quota); // the session has its own reference
	if (session == NULL) {
		return false;
	}
	session->client = request->client;
	session->options = request->options;
	session->acceptable = request->acceptable;
	session->allowed = allowed;
	session->capture_source = request->source;
	session->output = request->output;
	session_listen(session);
	if (!session_schedule_start(session)) {
		vt_session_destroy(session);
		return false;
	}
	return true;
}

/* For embedders */

void vitrine_view_session_v1_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	vt_session_stop(session, reason);
}

struct wl_client *vitrine_view_session_v1_get_client(
		const struct vitrine_view_session_v1 *session) {
	return session->client;
}

uint32_t vitrine_view_session_v1_get_guarantee(const struct vitrine_view_session_v1 *session) {
	return session->guarantee;
}

const char *vitrine_view_session_v1_get_protocol(
		const struct vitrine_view_session_v1 *session) {
	return session->impl->protocol;
}

const char *vitrine_view_session_v1_get_source_name(
		const struct vitrine_view_session_v1 *session) {
	return session->source->output->name;
}

void vitrine_view_session_v1_get_stats(const struct vitrine_view_session_v1 *session,
		struct vitrine_view_session_stats *stats) {
	*stats = session->stats;
}
