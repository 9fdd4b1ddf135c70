/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "clock.h"
#include "manager.h"
#include "session.h"
#include "stream.h"

/** Times that a lost frame is asked for again, each after twice the time of the one before. */
#define RETRIES_CAP 6
#define RETRY_CAP_MS 5000

void vt_damage_add(pixman_region32_t *region, const pixman_region32_t *damage) {
	pixman_region32_union(region, region, damage);
	if (pixman_region32_n_rects(region) > VT_DAMAGE_RECTS_CAP) {
		pixman_box32_t extents = *pixman_region32_extents(region);
		pixman_region32_reset(region, &extents);
	}
}

static void buffer_ref(struct vt_stream_buffer *buffer) {
	if (buffer->n_refs++ == 0) {
		wlr_buffer_lock(&buffer->buffer->base);
	}
}

/** May destroy the buffer, if the producer has dropped it already. */
static void buffer_unref(struct vt_stream_buffer *buffer) {
	assert(buffer->n_refs > 0);
	if (--buffer->n_refs == 0) {
		wlr_buffer_unlock(&buffer->buffer->base);
	}
}

static bool frame_is_finished(const struct vt_stream_frame *frame) {
	return frame->fence_fd < 0 && !frame->waits_for_present;
}

static void stream_close_fence(struct vt_stream *stream) {
	if (stream->fence_source != NULL) {
		wl_event_source_remove(stream->fence_source);
		stream->fence_source = NULL;
	}
	if (stream->newest.fence_fd >= 0) {
		close(stream->newest.fence_fd);
		stream->newest.fence_fd = -1;
	}
}

static void stream_drop_newest(struct vt_stream *stream) {
	stream_close_fence(stream);
	stream->newest.waits_for_present = false;
	pixman_region32_clear(&stream->newest.damage);
	struct vt_stream_buffer *buffer = stream->newest.buffer;
	stream->newest.buffer = NULL;
	if (buffer != NULL) {
		buffer_unref(buffer);
	}
}

void vt_stream_buffer_hold(struct vt_stream_buffer *buffer, uint64_t seq) {
	if (buffer->n_holds++ == 0) {
		buffer->held_since = seq;
	}
	buffer_ref(buffer);
}

void vt_stream_buffer_unhold(struct vt_stream_buffer *buffer) {
	assert(buffer->n_holds > 0);
	buffer->n_holds--;
	buffer_unref(buffer);
}

/* Retirement */

static bool buffer_was_announced(const struct vt_stream_buffer *buffer) {
	return buffer->quotas.size > 0;
}

static void buffer_forget_quotas(struct vt_stream_buffer *buffer) {
	struct vt_quota **quota;
	wl_array_for_each(quota, &buffer->quotas) {
		vt_quota_unref(*quota);
	}
	buffer->quotas.size = 0;
}

bool vt_stream_buffer_retire(struct vt_stream_buffer *buffer) {
	if (!buffer_was_announced(buffer)) {
		return false;
	}
	bool is_first_time = !buffer->buffer->retired;
	vt_buffer_retire(buffer->buffer);
	// From here on the memory costs without being of use
	vt_retired_registry_watch(&buffer->stream->manager->retired, buffer->buffer,
		buffer->quotas.data, buffer->quotas.size / sizeof(struct vt_quota *));
	buffer_forget_quotas(buffer);

	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &buffer->stream->sessions, stream_link) {
		vt_session_retire(session, buffer);
	}
	return is_first_time;
}

void vt_stream_retire(struct vt_stream *stream) {
	// For those who go on the newest frame would be in a view that is retired
	if (stream->newest.buffer != NULL && buffer_was_announced(stream->newest.buffer) &&
			!wl_list_empty(&stream->sessions)) {
		stream_drop_newest(stream);
	}
	size_t count = 0;
	struct vt_stream_buffer *buffer, *tmp;
	wl_list_for_each_safe(buffer, tmp, &stream->buffers, link) {
		count += vt_stream_buffer_retire(buffer);
	}
	if (count > 1) {
		vt_stream_prepare_memory(stream); // the source has moved, and goes on to
	}
}

void vt_stream_prepare_memory(struct vt_stream *stream) {
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (buffer->buffer->retired) {
			vt_buffer_prepare_memory(buffer->buffer);
		}
	}
}

bool vt_stream_is_known_to(const struct vt_stream *stream,
		const struct vitrine_view_session_v1 *session) {
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (vt_session_knows(session, buffer)) {
			return true;
		}
	}
	return false;
}

/* Buffers */

static void buffer_destroy(struct vt_stream_buffer *buffer) {
	assert(buffer->n_refs == 0 && buffer->n_holds == 0);
	vt_stream_buffer_retire(buffer);
	buffer_forget_quotas(buffer);
	wl_array_release(&buffer->quotas);
	pixman_region32_fini(&buffer->stale);
	wlr_addon_finish(&buffer->addon);
	wl_list_remove(&buffer->link);
	free(buffer);
}

static void buffer_handle_addon_destroy(struct wlr_addon *addon) {
	struct vt_stream_buffer *buffer = wl_container_of(addon, buffer, addon);
	buffer_destroy(buffer);
}

static const struct wlr_addon_interface buffer_addon_impl = {
	.name = "vitrine_stream_buffer",
	.destroy = buffer_handle_addon_destroy,
};

/**
 * Who was shown retired memory that had not changed since knows the buffer by it: that
 * is over once the buffer has been drawn to. It was charged when it was shown.
 */
static void buffer_check_generation(struct vt_stream_buffer *buffer) {
	if (buffer->generation == buffer->buffer->generation) {
		return;
	}
	buffer->generation = buffer->buffer->generation;
	buffer_forget_quotas(buffer);
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &buffer->stream->sessions, stream_link) {
		vt_session_retire(session, buffer);
	}
}

struct vt_stream_buffer *vt_stream_get_buffer(struct vt_stream *stream,
		struct vt_buffer *vt_buffer) {
	if (vt_buffer->retired && !vt_buffer_can_replace_memory(vt_buffer)) {
		return NULL;
	}
	struct vt_stream_buffer *buffer;
	struct wlr_addon *addon =
		wlr_addon_find(&vt_buffer->base.addons, stream, &buffer_addon_impl);
	if (addon != NULL) {
		buffer = wl_container_of(addon, buffer, addon);
		buffer_check_generation(buffer);
		return buffer;
	}

	buffer = calloc(1, sizeof(*buffer));
	if (buffer == NULL) {
		return NULL;
	}
	buffer->stream = stream;
	buffer->buffer = vt_buffer;
	buffer->generation = vt_buffer->generation;
	wl_array_init(&buffer->quotas);
	pixman_region32_init_rect(&buffer->stale, 0, 0, (unsigned)vt_buffer->base.width,
		(unsigned)vt_buffer->base.height);
	wlr_addon_init(&buffer->addon, &vt_buffer->base.addons, stream, &buffer_addon_impl);
	wl_list_insert(&stream->buffers, &buffer->link);
	return buffer;
}

/* Delivery */

/** Held buffers other than the newest one; the one that was held first. */
static size_t stream_count_old_holds(struct vt_stream *stream, struct vt_stream_buffer **oldest) {
	size_t count = 0;
	*oldest = NULL;
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (buffer->n_holds == 0 || buffer == stream->newest.buffer) {
			continue;
		}
		count++;
		if (*oldest == NULL || buffer->held_since < (*oldest)->held_since) {
			*oldest = buffer;
		}
	}
	return count;
}

/** Takes a buffer back from all that hold a frame in it. */
static void stream_evict(struct vt_stream *stream, struct vt_stream_buffer *buffer) {
	struct vitrine_view_session_v1 *session, *tmp;
	wl_list_for_each_safe(session, tmp, &stream->sessions, stream_link) {
		size_t n_holds = buffer->n_holds;
		uint32_t revoked = vt_session_revoke(session, buffer, INT64_MAX);
		if (revoked == n_holds) {
			return; // the last hold is gone, and maybe the buffer with it
		}
	}
}

/** How many old buffers may be held for a session to get the newest one. */
static size_t stream_get_old_holds_cap(const struct vt_stream *stream,
		const struct vitrine_view_session_v1 *session) {
	if (!session->slow) {
		return VT_STREAM_HELD_CAP - 1;
	}
	// One buffer is for those who keep up; slow sessions take turns on the other
	return stream->n_fast > 0 ? 0 : VT_STREAM_HELD_CAP - 1;
}

static bool session_is_ready(const struct vitrine_view_session_v1 *session) {
	return session->deferred == VT_SESSION_DEFER_NOTHING && session->n_revoked == 0 &&
		session->n_held < session->depth && !session->idle;
}

bool vt_stream_wants_frame(const struct vt_stream *stream) {
	const struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &stream->sessions, stream_link) {
		if (session_is_ready(session)) {
			return true;
		}
	}
	return false;
}

/** Sends the newest frame to the session if it can have it. */
static void stream_try_send(struct vt_stream *stream, struct vitrine_view_session_v1 *session) {
	bool can_read = frame_is_finished(&stream->newest) ||
		(session->takes_fences && !stream->newest.waits_for_present);
	if (!can_read || !session_is_ready(session)) {
		return;
	}
	struct vt_stream_buffer *oldest;
	size_t cap = stream_get_old_holds_cap(stream, session);
	size_t old_holds = stream_count_old_holds(stream, &oldest);
	if (old_holds > cap) {
		if (session->slow) {
			return;
		}
		// Who keeps up never waits for who does not
		stream_evict(stream, oldest);
	}
	if (!vt_session_send_frame(session, &stream->newest)) {
		vt_session_stop_later(session, VITRINE_VIEW_STOP_NO_RESOURCES);
	}
}

void vt_stream_serve(struct vt_stream *stream) {
	if (stream->newest.buffer == NULL) {
		return;
	}
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &stream->sessions, stream_link) {
		if (vt_session_waits(session)) {
			stream_try_send(stream, session);
		}
	}
}

void vt_stream_serve_session(struct vt_stream *stream,
		struct vitrine_view_session_v1 *session) {
	if (stream->newest.buffer != NULL && vt_session_waits(session)) {
		stream_try_send(stream, session);
	}
}

static void stream_arm_deadline(struct vt_stream *stream) {
	struct vt_stream_buffer *oldest;
	if (stream->deadline_armed || stream_count_old_holds(stream, &oldest) == 0) {
		return;
	}
	// A look every contended_deadline_ms, and only while somebody is slow
	int interval = (int)stream->manager->base.limits.contended_deadline_ms;
	wl_event_source_timer_update(stream->deadline_timer, interval > 0 ? interval : 1);
	stream->deadline_armed = true;
}

static int stream_handle_deadline(void *data) {
	struct vt_stream *stream = data;
	stream->deadline_armed = false;
	const struct vitrine_view_limits *limits = &stream->manager->base.limits;

	bool contended = false;
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &stream->sessions, stream_link) {
		contended |= session->slow && session->n_held == 0 && vt_session_waits(session);
	}
	int64_t before = vt_now_ms() -
		(contended ? limits->contended_deadline_ms : limits->deadline_ms);

	struct vitrine_view_session_v1 *tmp;
	wl_list_for_each_safe(session, tmp, &stream->sessions, stream_link) {
		vt_session_revoke(session, NULL, before);
	}
	vt_stream_serve(stream);
	stream_arm_deadline(stream);
	return 0;
}

static void stream_deliver(struct vt_stream *stream) {
	const struct vt_stream_frame *frame = &stream->newest;
	stream->n_fast = 0;
	struct vitrine_view_session_v1 *session, *tmp;
	wl_list_for_each(session, &stream->sessions, stream_link) {
		// Who began with what was there may have had no time at all for it
		session->slow |= vt_session_is_behind(session) && !session->has_just_begun;
		session->has_just_begun = false;
		if (!session->slow && session_is_ready(session)) {
			stream->n_fast++;
		}
	}
	wl_list_for_each_safe(session, tmp, &stream->sessions, stream_link) {
		if (!session->slow) {
			stream_try_send(stream, session);
		}
	}
	wl_list_for_each_safe(session, tmp, &stream->sessions, stream_link) {
		if (session->slow) {
			stream_try_send(stream, session);
		}
		if (session->seen_seq != stream->seq) {
			vt_session_miss_frame(session, &frame->damage);
		}
	}
	stream_arm_deadline(stream);
}

/* Frames that are not finished */

static void stream_handle_finished(struct vt_stream *stream) {
	if (stream->newest.buffer == NULL || !frame_is_finished(&stream->newest)) {
		return;
	}
	vt_stream_serve(stream);
	if (stream->n_lost > 0) {
		// What came meanwhile may have been the last thing to come
		stream->impl->request_frame(stream->data);
	}
}

static int stream_handle_fence(int fd, uint32_t mask, void *data) {
	struct vt_stream *stream = data;
	// An error of the fence will not go away: the frame is as finished as it gets
	stream_close_fence(stream);
	stream_handle_finished(stream);
	return 0;
}

void vt_stream_handle_present(struct vt_stream *stream, uint32_t commit_seq) {
	// Commits are presented in order; wrapping around is fine
	if (stream->newest.waits_for_present &&
			(int32_t)(commit_seq - stream->newest.commit_seq) >= 0) {
		stream->newest.waits_for_present = false;
		stream_handle_finished(stream);
	}
}

void vt_stream_lose(struct vt_stream *stream, const pixman_region32_t *damage) {
	if (frame_is_finished(&stream->newest)) {
		stream_drop_newest(stream); // there is a newer one, which nobody gets
	}
	stream->n_lost++;
	vt_damage_add(&stream->lost_damage, damage);
}

/* Frames that are lost for lack of resources */

static int stream_handle_retry(void *data) {
	struct vt_stream *stream = data;
	stream->retry_armed = false;
	if (wl_list_empty(&stream->sessions)) {
		stream->n_retries = 0;
	} else if (stream->n_retries++ < RETRIES_CAP) {
		stream->impl->request_frame(stream->data);
	} else {
		stream->n_retries = 0;
		struct vitrine_view_session_v1 *session;
		wl_list_for_each(session, &stream->sessions, stream_link) {
			vt_session_stop_later(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		}
	}
	return 0;
}

void vt_stream_fail(struct vt_stream *stream, const pixman_region32_t *damage) {
	vt_stream_lose(stream, damage);
	if (stream->retry_armed) {
		return;
	}
	uint64_t ms = stream->manager->base.limits.contended_deadline_ms;
	ms = (ms > 0 ? ms : 1) << stream->n_retries;
	wl_event_source_timer_update(stream->retry_timer, ms < RETRY_CAP_MS ? (int)ms : RETRY_CAP_MS);
	stream->retry_armed = true;
}

static void stream_forget_failures(struct vt_stream *stream) {
	stream->n_retries = 0;
	if (stream->retry_armed) {
		wl_event_source_timer_update(stream->retry_timer, 0);
		stream->retry_armed = false;
	}
}

/** The damage of a frame, with that of the frames lost before it. */
static void stream_take_damage(struct vt_stream *stream, const pixman_region32_t *damage) {
	pixman_region32_t *total = &stream->newest.damage;
	pixman_region32_copy(total, &stream->lost_damage);
	vt_damage_add(total, damage);
	pixman_region32_clear(&stream->lost_damage);
	stream->newest.n_lost = stream->n_lost;
	stream->n_lost = 0;
}

static void stream_close_frame(const struct vt_stream_frame *frame) {
	if (frame->fence_fd >= 0) {
		close(frame->fence_fd);
	}
}

void vt_stream_submit(struct vt_stream *stream, const struct vt_stream_frame *frame) {
	struct vt_stream_frame *newest = &stream->newest;
	if (newest->buffer != NULL && !frame_is_finished(newest)) {
		vt_stream_lose(stream, &frame->damage); // there is more once that is finished
		stream_close_frame(frame);
		return;
	}
	struct wl_event_source *fence_source = NULL;
	if (frame->fence_fd >= 0) {
		fence_source = wl_event_loop_add_fd(stream->manager->loop, frame->fence_fd,
			WL_EVENT_READABLE, stream_handle_fence, stream);
		if (fence_source == NULL) {
			vt_stream_fail(stream, &frame->damage);
			stream_close_frame(frame);
			return;
		}
	}

	stream_forget_failures(stream);
	buffer_ref(frame->buffer); // before the old one goes, which may be the same
	stream_drop_newest(stream);
	stream->fence_source = fence_source;
	newest->buffer = frame->buffer;
	newest->when = frame->when;
	newest->transform = frame->transform;
	newest->fence_fd = frame->fence_fd;
	newest->waits_for_present = frame->waits_for_present;
	newest->commit_seq = frame->commit_seq;
	stream_take_damage(stream, &frame->damage);
	stream->seq += 1 + newest->n_lost;
	newest->seq = stream->seq;
	stream_deliver(stream);
}

/* Lifetime */

bool vt_stream_init(struct vt_stream *stream, struct vt_manager *manager,
		const struct vt_stream_interface *impl, void *data) {
	*stream = (struct vt_stream){
		.manager = manager,
		.impl = impl,
		.data = data,
		.newest.fence_fd = -1,
	};
	wl_list_init(&stream->sessions);
	wl_list_init(&stream->buffers);
	pixman_region32_init(&stream->newest.damage);
	pixman_region32_init(&stream->lost_damage);
	stream->deadline_timer =
		wl_event_loop_add_timer(stream->manager->loop, stream_handle_deadline, stream);
	stream->retry_timer =
		wl_event_loop_add_timer(stream->manager->loop, stream_handle_retry, stream);
	return stream->deadline_timer != NULL && stream->retry_timer != NULL;
}

void vt_stream_finish(struct vt_stream *stream) {
	assert(wl_list_empty(&stream->sessions));
	stream_drop_newest(stream);
	struct vt_stream_buffer *buffer, *tmp;
	wl_list_for_each_safe(buffer, tmp, &stream->buffers, link) {
		buffer_destroy(buffer);
	}
	pixman_region32_fini(&stream->newest.damage);
	pixman_region32_fini(&stream->lost_damage);
	if (stream->deadline_timer != NULL) {
		wl_event_source_remove(stream->deadline_timer);
		stream->deadline_timer = NULL;
	}
	if (stream->retry_timer != NULL) {
		wl_event_source_remove(stream->retry_timer);
		stream->retry_timer = NULL;
	}
}

void vt_stream_forget(struct vt_stream *stream) {
	assert(wl_list_empty(&stream->sessions));
	stream_drop_newest(stream);
	stream->n_lost = 0;
	stream_forget_failures(stream);
	pixman_region32_clear(&stream->lost_damage);
}

bool vt_stream_has_current(const struct vt_stream *stream) {
	return stream->newest.buffer != NULL && stream->n_lost == 0;
}

void vt_stream_add_session(struct vt_stream *stream, struct vitrine_view_session_v1 *session) {
	assert(session->stream == NULL);
	session->stream = stream;
	// The newest frame is news to it, unless it asks for one that is yet to be drawn
	session->seen_seq = vt_stream_has_current(stream) ? stream->seq - 1 : stream->seq;
	session->first_seq = session->impl->pulls ? stream->seq + 1 : 0;
	session->slow = false;
	session->takes_fences = false; // until it knows a buffer of this stream
	session->damage_all = true;
	wl_list_insert(stream->sessions.prev, &session->stream_link);
}

void vt_stream_remove_session(struct vt_stream *stream,
		struct vitrine_view_session_v1 *session) {
	assert(session->stream == stream);
	vt_session_drop_frames(session);
	wl_list_remove(&session->stream_link);
	wl_list_init(&session->stream_link);
	session->stream = NULL;
	// Others may have waited for what it held
	vt_stream_serve(stream);
}
