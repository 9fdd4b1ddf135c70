/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <drm_fourcc.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/log.h>

#include "manager.h"
#include "quota.h"
#include "session.h"
#include "viewed_output.h"

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
	if (session->impl->send_retired != NULL) {
		session->impl->send_retired(session, view->index);
	}
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
	if (*is_copy) {
		// The memory of a copy is sealed as well: it is private all the same
		return session->allowed & VITRINE_GUARANTEE_SNAPSHOT ? VITRINE_GUARANTEE_SEALED : 0;
	}
	return session->allowed & VIEW_GUARANTEES_ZERO_COPY;
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
	if (!view_buffer_derive(buffer->buffer, session->manager->derive, acceptable,
			view_source_is_scanned_out(session->source), &derived)) {
		return NULL;
	}
	// Last: a buffer that is charged counts as announced
	if (!buffer_charge_to(buffer, session->quota)) {
		close(derived.fd);
		return NULL;
	}
	if (buffer->buffer->retired) {
		// It has not changed since, and will get other memory when it does
		view_retired_memory_watch(session->manager, buffer->buffer, &session->quota, 1);
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

bool view_session_waits(const struct vitrine_view_session_v1 *session) {
	// Who has not confirmed that a frame was taken back gets no other one, and
	// nothing is kept for it
	return session->stream != NULL && session->seen_seq < session->stream->seq &&
		session->first_seq <= session->stream->seq &&
		session->n_revoked == 0 && !session->idle &&
		session->deferred == VIEW_SESSION_DEFER_NOTHING;
}

bool view_session_is_behind(const struct vitrine_view_session_v1 *session) {
	return session->impl->pulls ? session->idle : session->n_held > 0;
}

void view_session_miss_frame(struct vitrine_view_session_v1 *session,
		const pixman_region32_t *damage) {
	if (!session->damage_all) {
		view_damage_add(&session->damage, damage);
	}
}

struct session_frame *view_session_find_frame(struct vitrine_view_session_v1 *session,
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

static void session_count_frame(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	// What came before the first frame was not missed
	session->n_skipped = session->stats.frames > 0 ? frame->seq - session->seen_seq - 1 : 0;
	session->stats.skipped += session->n_skipped;
	session->stats.frames++;
	session->seen_seq = frame->seq;
}

static void session_unhold(struct vitrine_view_session_v1 *session, struct session_frame *frame) {
	struct stream_buffer *buffer = frame->buffer;
	frame->buffer = NULL;
	session->n_held--;
	stream_buffer_unhold(buffer);
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

bool view_session_send_frame(struct vitrine_view_session_v1 *session,
		const struct stream_frame *frame) {
	struct session_frame *held = view_session_find_frame(session, 0);
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
		.sent_ms = view_now_ms(),
	};
	stream_buffer_hold(frame->buffer, frame->seq);
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

void view_session_take_back_all(struct vitrine_view_session_v1 *session) {
	for (uint32_t i = 0; i < session->depth; i++) {
		struct session_frame *frame = &session->frames[i];
		if (frame->buffer != NULL && !session->impl->pulls) {
			session->impl->send_revoked(session, frame->serial);
			session->stats.revoked++;
		}
	}
	view_session_drop_frames(session);
}

void view_session_drop_frames(struct vitrine_view_session_v1 *session) {
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
	struct view_stream *stream = session->stream;
	if (stream == NULL) {
		return;
	}
	if (buffer_is_free) {
		view_stream_serve(stream);
	} else {
		view_stream_serve_session(stream, session);
	}
	// Not kept: lost, or not even copied
	bool behind = stream->n_lost > 0 || view_session_waits(session);
	if (stream->newest.buffer == NULL && behind && session->n_revoked == 0) {
		view_source_request_frame(session->source);
	}
}

void view_session_release(struct vitrine_view_session_v1 *session, struct session_frame *frame) {
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

void view_session_pull(struct vitrine_view_session_v1 *session) {
	session->idle = false;
	session->slow = false;
	session_release_seen(session);
	if (session->stream != NULL) {
		session->first_seq = session->stream->seq + 1;
		view_stream_serve(session->stream);
	}
	if (session->source != NULL) {
		view_source_request_frame(session->source);
	}
}

/* Lifetime */

void view_session_destroy(struct vitrine_view_session_v1 *session) {
	session->impl->set_session(session->data, NULL);
	wl_list_remove(&session->capture_source_destroy.link);
	wl_list_remove(&session->output_destroy.link);
	if (session->source != NULL) {
		wl_signal_emit_mutable(&session->manager->base.events.session_stop, session);
		view_source_remove_session(session->source, session);
		if (session->stats.frames > 0) {
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
	const struct view_session_interface *impl = session->impl;
	void *data = session->data;
	view_session_destroy(session);
	// Sent when it has become true that the memory never changes again
	impl->send_stopped(data, reason);
}

void view_session_stop_later(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	session->deferred = VIEW_SESSION_DEFER_STOP;
	session->deferred_reason = reason;
	view_source_defer(session->source);
}

static void session_start(struct vitrine_view_session_v1 *session) {
	struct view_source *source = view_source_get(session->manager, session->output);
	if (source == NULL) {
		view_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	wl_list_remove(&session->link);
	wl_list_init(&session->link);
	if (!view_source_add_session(source, session)) {
		view_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
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
	uint32_t delay = view_quota_get_delay(session->quota);
	if (delay > 0) {
		// Another session of the client was first
		wl_event_source_timer_update(session->start_timer, (int)delay);
	} else if (!view_quota_allows_memory(session->quota)) {
		view_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
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

static void session_handle_output_destroy(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session =
		wl_container_of(listener, session, output_destroy);
	view_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
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
		const struct view_session_interface *impl, void *data, struct view_quota *quota) {
	struct vitrine_view_session_v1 *session = calloc(1, sizeof(*session));
	if (session == NULL) {
		return NULL;
	}
	session->manager = manager;
	session->impl = impl;
	session->data = data;
	session->quota = view_quota_ref(quota);
	session->depth = manager->base.limits.depth;
	if (session->depth < 1) {
		session->depth = 1;
	} else if (session->depth > VIEW_SESSION_DEPTH_CAP) {
		session->depth = VIEW_SESSION_DEPTH_CAP;
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

static void session_listen(struct vitrine_view_session_v1 *session) {
	if (session->capture_source != NULL) {
		session->capture_source_destroy.notify = session_handle_capture_source_destroy;
		wl_signal_add(&session->capture_source->events.destroy,
			&session->capture_source_destroy);
	}
	session->output_destroy.notify = session_handle_output_destroy;
	wl_signal_add(&session->output->events.destroy, &session->output_destroy);
}

bool view_session_create(struct view_manager *manager,
		const struct view_session_interface *impl, void *data,
		const struct vitrine_view_request *request, uint32_t allowed) {
	struct view_quota *quota = view_quota_get(manager, request->client);
	if (quota == NULL) {
		return false;
	}
	if (!view_quota_allows_memory(quota) || !view_quota_add_object(quota)) {
		view_quota_unref(quota);
		return false;
	}
	struct vitrine_view_session_v1 *session = session_create(manager, impl, data, quota);
	if (session == NULL) {
		view_quota_remove_object(quota);
		view_quota_unref(quota);
		return false;
	}
	view_quota_unref(quota); // the session has its own reference
	session->client = request->client;
	session->options = request->options;
	session->acceptable = request->acceptable;
	session->allowed = allowed;
	session->capture_source = request->source;
	session->output = request->output;
	session_listen(session);
	if (!session_schedule_start(session)) {
		view_session_destroy(session);
		return false;
	}
	return true;
}

/* For embedders */

void vitrine_view_session_v1_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	view_session_stop(session, reason);
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
