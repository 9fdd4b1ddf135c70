/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "budget.h"
#include "clock.h"
#include "fence.h"
#include "format.h"
#include "stream.h"

/** Times that a lost frame is asked for again, each after twice the time of the one before. */
#define RETRIES_CAP 6
#define RETRY_CAP_MS 5000
/** So many frames that a slow subscriber did not release upon the next one, and it waits. */
#define UNTRADED_CAP 2

static bool frame_is_finished(const struct vt_stream_frame *frame) {
	return frame->fence_fd < 0 && !frame->waits_for_present && !frame->waits_for_copy;
}

/** Nobody waits for the newest frame's fence any more, which the caller takes over. */
static int stream_take_fence(struct vt_stream *stream) {
	if (stream->fence_source != NULL) {
		wl_event_source_remove(stream->fence_source);
		stream->fence_source = NULL;
	}
	int fd = stream->newest.fence_fd;
	stream->newest.fence_fd = -1;
	return fd;
}

static void stream_drop_newest(struct vt_stream *stream) {
	int fence_fd = stream_take_fence(stream);
	stream->newest.waits_for_present = false;
	stream->newest.waits_for_copy = false;
	pixman_region32_clear(&stream->newest.damage);
	struct vt_stream_buffer *buffer = stream->newest.buffer;
	stream->newest.buffer = NULL;
	if (buffer != NULL) {
		vt_stream_buffer_lose(buffer, fence_fd);
		buffer->old_since_ms = vt_now_ms();
		vt_stream_buffer_unref(buffer);
	}
}

static void stream_request_frame(struct vt_stream *stream) {
	stream->impl->request_frame(stream->data);
}

/* Retirement */

static void stream_announce_retired(struct vt_stream *stream,
		const struct vt_stream_buffer *buffer) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		vt_subscriber_announce_retired(subscriber, buffer);
	}
}

/** What is kept is not the buffer's any more: no client is shown it again. */
static void buffer_let_go(struct vt_stream_buffer *buffer) {
	if (buffer->kept != NULL) {
		vt_announced_memory_let_go(buffer->kept);
		buffer->kept = NULL;
	}
}

/** The memory that was announced is not drawn to any more. */
static void buffer_keep_memory(struct vt_stream_buffer *buffer, struct vt_quota *cause) {
	buffer->announced = false;
	if (buffer->memory != NULL) {
		buffer_let_go(buffer);
		vt_announced_memory_retire(buffer->memory, cause);
		buffer->kept = buffer->memory;
		buffer->memory = NULL;
	} // else it had retired before, and was shown again since it had not changed
}

/** The memory that was announced is not the buffer's any more. */
static void buffer_forget_memory(struct vt_stream_buffer *buffer, struct vt_quota *cause) {
	buffer_keep_memory(buffer, cause);
	buffer_let_go(buffer);
}

/** Retires one buffer, if it was announced. Returns whether it was not retired before. */
static bool stream_retire_buffer(struct vt_stream *stream, struct vt_stream_buffer *buffer,
		struct vt_quota *cause) {
	if (!buffer->announced) {
		return false;
	}
	bool is_first_time = !buffer->buffer->retired;
	vt_buffer_retire(buffer->buffer);
	// From here on the memory costs without being of use
	buffer_keep_memory(buffer, cause);
	stream_announce_retired(stream, buffer);
	return is_first_time;
}

bool vt_stream_buffer_is_known(const struct vt_stream_buffer *buffer,
		const struct vt_subscriber *leaver) {
	return buffer->announced && (leaver == NULL || vt_subscriber_knows(leaver, buffer));
}

void vt_stream_retire(struct vt_stream *stream, const struct vt_subscriber *leaver,
		struct vt_quota *cause) {
	cause = cause != NULL ? cause : vt_stream_find_cause(stream);
	// For those that go on the newest frame would be in a view that is retired
	if (stream->newest.buffer != NULL &&
			vt_stream_buffer_is_known(stream->newest.buffer, leaver) &&
			!wl_list_empty(&stream->subscribers)) {
		stream_drop_newest(stream);
	}
	// What is retired does not change, so that nothing has to be kept
	vt_step_forget(&stream->step);
	size_t count = 0;
	struct vt_stream_buffer *buffer, *tmp;
	wl_list_for_each_safe(buffer, tmp, &stream->buffers, link) {
		// What it was never shown is nothing that it could have kept
		if (vt_stream_buffer_is_known(buffer, leaver)) {
			count += stream_retire_buffer(stream, buffer, cause);
		}
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
		const struct vt_subscriber *subscriber) {
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (vt_subscriber_knows(subscriber, buffer)) {
			return true;
		}
	}
	return false;
}

/* Buffers */

static void buffer_destroy(struct vt_stream_buffer *buffer) {
	struct vt_quota *cause = vt_stream_find_cause(buffer->stream);
	stream_retire_buffer(buffer->stream, buffer, cause);
	buffer_forget_memory(buffer, cause); // if it was accounted for, and could not be derived
	wlr_addon_finish(&buffer->addon);
	wl_list_remove(&buffer->link);
	vt_stream_buffer_finish(buffer);
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
 * Subscribers that were shown retired memory that had not changed since know the
 * buffer by it: that is over once the buffer has been drawn to. It was charged when
 * it was shown.
 */
static void stream_check_generation(struct vt_stream *stream, struct vt_stream_buffer *buffer) {
	if (buffer->generation != buffer->buffer->generation) {
		buffer->generation = buffer->buffer->generation;
		buffer_forget_memory(buffer, NULL);
		stream_announce_retired(stream, buffer);
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
		stream_check_generation(stream, buffer);
		return buffer;
	}

	buffer = calloc(1, sizeof(*buffer));
	if (buffer == NULL) {
		return NULL;
	}
	vt_stream_buffer_init(buffer, vt_buffer);
	buffer->stream = stream;
	wlr_addon_init(&buffer->addon, &vt_buffer->base.addons, stream, &buffer_addon_impl);
	wl_list_insert(&stream->buffers, &buffer->link);
	return buffer;
}

/* Announcing */

/** The guarantees by which a subscriber's views of the stream may be derived. */
static uint32_t stream_get_guarantees(const struct vt_stream *stream,
		const struct vt_subscriber *subscriber, const struct vt_buffer *buffer) {
	if (stream->is_copy) {
		// The memory of a copy is sealed as well: it is private all the same
		return subscriber->allowed & VITRINE_GUARANTEE_SNAPSHOT ? VITRINE_GUARANTEE_SEALED : 0;
	}
	return subscriber->allowed & vt_buffer_get_readable(buffer, &subscriber->reader);
}

/** The file descriptors of a view for the subscriber, false if there are none. */
static bool stream_derive(const struct vt_stream *stream, struct vt_subscriber *subscriber,
		struct vt_buffer *buffer, struct vt_view_fds *fds) {
	if (stream->is_given) {
		return vt_buffer_give(buffer, fds);
	}
	if (!vt_buffer_derive(buffer, stream->manager->derive,
			stream_get_guarantees(stream, subscriber, buffer), stream->is_scanned_out, fds)) {
		subscriber->lacks_zero_copy |= !stream->is_copy;
		return false;
	}
	if (fds->storage != VITRINE_STORAGE_MEMFD) {
		fds->storage = vt_buffer_get_dmabuf_storage(buffer, &subscriber->reader);
	}
	return true;
}

/** Sees to it that the memory is accounted for. False if there is no room for it. */
static bool stream_account(struct vt_stream *stream, struct vt_subscriber *subscriber,
		struct vt_stream_buffer *buffer) {
	if (buffer->memory != NULL || buffer->kept != NULL) {
		return true; // it was announced, and has not changed since
	}
	if (!vt_stream_reserve(stream, subscriber, buffer->buffer->memory_size)) {
		return false;
	}
	buffer->memory = vt_announced_memory_create(&stream->manager->retired, buffer->buffer,
		&stream->reserve);
	return buffer->memory != NULL;
}

/** Returns false if the subscriber cannot go on for lack of resources. */
static bool stream_announce(struct vt_stream *stream, struct vt_subscriber *subscriber,
		struct vt_stream_buffer *buffer) {
	if (!vt_subscriber_can_announce(subscriber)) {
		wlr_log(WLR_ERROR, "A session has too many views at a time");
		return false;
	}
	struct vt_view_fds fds;
	if (!stream_account(stream, subscriber, buffer)) {
		return false;
	}
	if (!stream_derive(stream, subscriber, buffer->buffer, &fds)) {
		return false;
	}
	buffer->announced = true;
	vt_buffer_expect_retirement(buffer->buffer);
	vt_subscriber_announce(subscriber, buffer, &fds,
		stream->is_copy ? VITRINE_GUARANTEE_SNAPSHOT : fds.guarantee);
	vt_view_fds_finish(&fds);
	return true;
}

/* Delivery */

/** Buffers other than the newest one that subscribers hold. */
static size_t stream_count_old_holds(const struct vt_stream *stream) {
	size_t count = 0;
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		count += buffer->n_holds > 0 && buffer != stream->newest.buffer;
	}
	return count;
}

/** Whether all that hold a frame in the buffer read another one first. */
static bool stream_is_spare(const struct vt_stream *stream,
		const struct vt_stream_buffer *buffer) {
	size_t count = 0;
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		count += vt_subscriber_count_spare(subscriber, buffer);
	}
	return count == buffer->n_holds;
}

/** Whether to take the first of two buffers back, rather than the other one. */
static bool stream_prefers(const struct vt_stream *stream, const struct vt_stream_buffer *a,
		const struct vt_stream_buffer *b) {
	bool is_spare = stream_is_spare(stream, a);
	if (b == NULL || is_spare != stream_is_spare(stream, b)) {
		return b == NULL || is_spare;
	}
	// What is read last, or has been held for longest
	return is_spare ? a->held_since > b->held_since : a->held_since < b->held_since;
}

static bool stream_is_copied(const struct vt_stream *stream,
		const struct vt_stream_buffer *buffer) {
	return stream->impl->is_copied(stream->data, buffer->buffer);
}

/**
 * Buffers other than the newest one that subscribers hold, that are kept for them, or that
 * are copied for those of another stream.
 */
static size_t stream_count_old(const struct vt_stream *stream) {
	size_t count = 0;
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		count += buffer != stream->newest.buffer && (buffer->n_holds > 0 ||
			buffer->n_kept > 0 || stream_is_copied(stream, buffer));
	}
	return count;
}

/** The one of these to take back, NULL if all are kept. */
static struct vt_stream_buffer *stream_choose_to_evict(const struct vt_stream *stream) {
	struct vt_stream_buffer *chosen = NULL, *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (buffer->n_holds > 0 && buffer->n_kept == 0 && buffer != stream->newest.buffer &&
				!stream_is_copied(stream, buffer) && stream_prefers(stream, buffer, chosen)) {
			chosen = buffer;
		}
	}
	return chosen;
}

/** Takes a buffer back from all that hold a frame in it. */
static void stream_evict(struct vt_stream *stream, struct vt_stream_buffer *buffer) {
	struct vt_subscriber *subscriber, *tmp;
	wl_list_for_each_safe(subscriber, tmp, &stream->subscribers, stream_link) {
		size_t n_holds = buffer->n_holds;
		uint32_t revoked = vt_subscriber_revoke(subscriber, buffer, stream->seq, INT64_MAX);
		if (revoked == n_holds) {
			return; // the last hold is gone, and maybe the buffer with it
		}
	}
}

/** Sees to it that the producer has a buffer to draw to, besides the newest one. */
static void stream_make_room(struct vt_stream *stream) {
	if (stream->is_copy && !frame_is_finished(&stream->newest)) {
		return; // no other copy is made until then
	}
	while (stream_count_old(stream) > VT_STREAM_HELD_CAP) {
		struct vt_stream_buffer *buffer = stream_choose_to_evict(stream);
		if (buffer == NULL) {
			break;
		}
		stream_evict(stream, buffer);
	}
}

bool vt_stream_wants_frame(const struct vt_stream *stream) {
	if (!frame_is_finished(&stream->newest)) {
		return false; // it would be lost
	}
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (vt_subscriber_is_ready(subscriber)) {
			return true;
		}
	}
	return false;
}

/** Whether the newest frame is one that the subscriber is to get. */
static bool stream_is_awaited_by(const struct vt_stream *stream,
		const struct vt_subscriber *subscriber) {
	return subscriber->seen_seq < stream->seq && subscriber->first_seq <= stream->seq &&
		subscriber->state == VT_SUBSCRIBER_ATTACHED && subscriber->n_revoked == 0 &&
		subscriber->pace != VT_SUBSCRIBER_IDLE;
}

/** Announces the newest frame's buffer if needed, and sends the frame. */
static bool stream_send(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	const struct vt_stream_frame *frame = &stream->newest;
	if (!vt_subscriber_knows(subscriber, frame->buffer) &&
			!stream_announce(stream, subscriber, frame->buffer)) {
		return false;
	}
	vt_subscriber_send_frame(subscriber, frame);
	if (subscriber->wire->pulls && wl_list_length(&stream->subscribers) > 1) {
		// The others need a buffer to take turns on
		vt_subscriber_release_seen(subscriber);
	}
	return true;
}

/** Whether a slow subscriber has nothing, and waits for its turn. */
static bool stream_is_contended(const struct vt_stream *stream) {
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (subscriber->pace == VT_SUBSCRIBER_SLOW && subscriber->n_held == 0 &&
				stream_is_awaited_by(stream, subscriber)) {
			return true;
		}
	}
	return false;
}

/** Whether it is the turn of a slow subscriber to get the newest frame. */
static bool stream_has_turn(const struct vt_stream *stream,
		const struct vt_subscriber *subscriber) {
	// One buffer is for those that keep up; slow subscribers take turns on the other
	size_t cap = stream->n_fast > 0 ? 0 : VT_STREAM_HELD_CAP - 1;
	size_t old_holds = stream_count_old_holds(stream);
	// One that has its turn may get the newest one for what it holds: it keeps up by that
	bool may_trade = old_holds == 1 && subscriber->n_held == 1 &&
		subscriber->n_untraded < UNTRADED_CAP &&
		(subscriber->n_untraded == 0 || !stream_is_contended(stream));
	return old_holds <= cap || may_trade;
}

static void stream_send_or_part(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	if (stream_send(stream, subscriber)) {
		return;
	}
	bool lacks_zero_copy = !stream->is_copy && subscriber->lacks_zero_copy;
	bool lacks_room = !stream->is_private && subscriber->lacks_room;
	if ((lacks_zero_copy || lacks_room) && vt_subscriber_takes_copies(subscriber)) {
		// Such as guards, of which other processes of the same user can have taken all
		subscriber->impl->move_later(subscriber);
	} else {
		subscriber->impl->stop_later(subscriber, VITRINE_VIEW_STOP_NO_RESOURCES);
	}
}

/** Whether the subscriber may be sent the newest frame as it is. */
static bool stream_is_readable_by(const struct vt_stream *stream,
		const struct vt_subscriber *subscriber) {
	return frame_is_finished(&stream->newest) ||
		(subscriber->takes_fences && !stream->newest.waits_for_present &&
		!stream->newest.waits_for_copy);
}

/** Sends the newest frame to a subscriber with explicit release, if it can have it. */
static void stream_try_send(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	if (!stream_is_readable_by(stream, subscriber) || !vt_subscriber_is_ready(subscriber)) {
		return;
	}
	// A subscriber that keeps up never waits for one that does not
	if (subscriber->pace != VT_SUBSCRIBER_SLOW || stream_has_turn(stream, subscriber)) {
		stream_send_or_part(stream, subscriber);
	}
}

/** Whether all subscribers with implicit release can have the newest frame now. */
static bool stream_can_step(const struct vt_stream *stream) {
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		// One that is about to leave looks at what it has until then
		if (subscriber->implicit_release && (subscriber->state != VT_SUBSCRIBER_ATTACHED ||
				!stream_is_readable_by(stream, subscriber))) {
			return false;
		}
	}
	return true;
}

/**
 * Subscribers that do not read leave together with those that are about to be found out:
 * the memory that they have seen is replaced once for all, rather than once for each.
 * Returns whether there are any.
 */
static bool stream_stop_unreading(struct vt_stream *stream) {
	bool any = false;
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (subscriber->implicit_release && subscriber->state == VT_SUBSCRIBER_ATTACHED &&
				vt_subscriber_leaves_unread(subscriber)) {
			subscriber->impl->stop_later(subscriber, VITRINE_VIEW_STOP_REVOKED);
			any = true;
		}
	}
	return any;
}

/**
 * What was sent to subscribers with implicit release is on its way by this. Returns false
 * if one has to leave first: it does not read, so that this may not be true for long.
 */
static bool stream_flush_implicit(struct vt_stream *stream) {
	bool all_read = true, all_stay = true;
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (subscriber->implicit_release) {
			all_read &= vt_subscriber_flush(subscriber);
			all_stay &= subscriber->state == VT_SUBSCRIBER_ATTACHED;
		}
	}
	return (all_read || !stream_stop_unreading(stream)) && all_stay;
}

/**
 * Sends the newest frame to all subscribers with implicit release, or to none. "That
 * event is on its way to the client before" the pixels of two frames before change.
 */
static void stream_try_step(struct vt_stream *stream) {
	if (stream->n_implicit == 0 || !stream_can_step(stream)) {
		return;
	}
	vt_step_begin(&stream->step, &stream->newest);
	size_t n_sent = 0;
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (subscriber->implicit_release && stream_is_awaited_by(stream, subscriber)) {
			stream_send_or_part(stream, subscriber);
			n_sent++;
		}
	}
	if (n_sent == 0 || stream_flush_implicit(stream)) {
		vt_step_end(&stream->step);
	} // else one looks at the frames before until it has been stopped
}

/** Sends the newest frame to the subscribers that wait for it and can have it now. */
static void stream_serve(struct vt_stream *stream) {
	if (stream->newest.buffer == NULL) {
		return;
	}
	stream_try_step(stream);
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (!subscriber->implicit_release && stream_is_awaited_by(stream, subscriber)) {
			stream_try_send(stream, subscriber);
		}
	}
}

void vt_stream_serve_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	if (stream->newest.buffer == NULL || !stream_is_awaited_by(stream, subscriber)) {
		return;
	}
	if (subscriber->implicit_release) {
		stream_try_step(stream);
	} else {
		stream_try_send(stream, subscriber);
	}
}

static void stream_arm_deadline(struct vt_stream *stream) {
	if (stream->deadline_armed || stream_count_old_holds(stream) == 0) {
		return;
	}
	// A look every contended_frame_deadline_ms, and only while a subscriber is slow
	int interval = (int)stream->manager->base.limits.contended_frame_deadline_ms;
	wl_event_source_timer_update(stream->deadline_timer, interval > 0 ? interval : 1);
	stream->deadline_armed = true;
}

static int stream_handle_deadline(void *data) {
	struct vt_stream *stream = data;
	stream->deadline_armed = false;
	const struct vitrine_view_limits *limits = &stream->manager->base.limits;
	int64_t before = vt_now_ms() - (stream_is_contended(stream) ?
		limits->contended_frame_deadline_ms : limits->frame_deadline_ms);
	struct vt_subscriber *subscriber, *tmp;
	wl_list_for_each_safe(subscriber, tmp, &stream->subscribers, stream_link) {
		if (vt_subscriber_revoke(subscriber, NULL, stream->seq, before) > 0) {
			vt_subscriber_reset_pace(subscriber);
		}
	}
	stream_serve(stream);
	stream_arm_deadline(stream);
	return 0;
}

static void stream_deliver(struct vt_stream *stream, uint64_t last_seq) {
	const struct vt_stream_frame *frame = &stream->newest;
	stream->n_fast = 0;
	struct vt_subscriber *subscriber, *tmp;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		vt_subscriber_update_pace(subscriber, last_seq);
		if (subscriber->pace != VT_SUBSCRIBER_SLOW && vt_subscriber_is_ready(subscriber)) {
			stream->n_fast++;
		}
	}
	stream_try_step(stream);
	stream_make_room(stream);
	wl_list_for_each_safe(subscriber, tmp, &stream->subscribers, stream_link) {
		if (!subscriber->implicit_release && subscriber->pace != VT_SUBSCRIBER_SLOW) {
			stream_try_send(stream, subscriber);
		}
	}
	wl_list_for_each_safe(subscriber, tmp, &stream->subscribers, stream_link) {
		if (subscriber->pace == VT_SUBSCRIBER_SLOW) {
			stream_try_send(stream, subscriber);
		}
		if (subscriber->seen_seq != stream->seq) {
			vt_subscriber_miss_frame(subscriber, &frame->damage);
		}
	}
	stream_arm_deadline(stream);
}

void vt_stream_release(struct vt_stream *stream, struct vt_subscriber *subscriber,
		struct vt_subscriber_frame *frame) {
	if (vt_subscriber_release(subscriber, frame, stream->seq)) {
		stream_serve(stream);
	} else {
		vt_stream_serve_subscriber(stream, subscriber);
	}
	// Not kept: lost, or not even copied
	bool is_behind = stream->n_lost > 0 || stream_is_awaited_by(stream, subscriber);
	if (stream->newest.buffer == NULL && is_behind && subscriber->n_revoked == 0) {
		stream_request_frame(stream);
	}
}

/** Whether holders share a buffer's fences with the source. */
static bool stream_shares_fences(const struct vt_stream *stream) {
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (subscriber->guarantee == VITRINE_GUARANTEE_FD_READ_ONLY) {
			return true;
		}
	}
	return false;
}

bool vt_stream_has_foreign_fence(const struct vt_stream *stream) {
	if (!stream_shares_fences(stream)) {
		return false;
	}
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		// In one that nothing of ours uses, all that we began is finished, but for a frame
		// that was not waited for
		if (buffer->buffer->base.n_locks == 0 && buffer->announced &&
				!vt_stream_buffer_is_drawn_to(buffer) &&
				vt_fence_is_on_dmabuf(&buffer->buffer->dmabuf)) {
			return true;
		}
	}
	return false;
}

void vt_stream_pull(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	vt_subscriber_pull(subscriber);
	subscriber->first_seq = stream->seq + 1;
	stream_serve(stream);
}

/* Frames that are not finished */

static void stream_handle_finished(struct vt_stream *stream) {
	if (stream->newest.buffer == NULL || !frame_is_finished(&stream->newest)) {
		return;
	}
	stream_serve(stream);
	stream_make_room(stream);
	if (stream->n_lost > 0) {
		// What came meanwhile may have been the last thing to come
		stream_request_frame(stream);
	}
}

static int stream_handle_fence(int fd, uint32_t mask, void *data) {
	struct vt_stream *stream = data;
	// An error of the fence will not go away: the frame is as finished as it gets
	close(stream_take_fence(stream));
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
		stream_drop_newest(stream); // there is a newer one, which no subscriber gets
	}
	stream->n_lost++;
	vt_damage_add(&stream->lost_damage, damage);
}

/** The newest frame was not delivered to any subscriber, and never will be. */
static void stream_lose_newest(struct vt_stream *stream) {
	stream->seq -= 1 + stream->newest.n_lost;
	stream->n_lost += 1 + stream->newest.n_lost;
	vt_damage_add(&stream->lost_damage, &stream->newest.damage);
	stream_drop_newest(stream);
}

void vt_stream_handle_copied(struct vt_stream *stream, bool is_made) {
	if (!stream->newest.waits_for_copy) {
		return;
	}
	stream->newest.waits_for_copy = false;
	if (is_made) {
		stream_handle_finished(stream);
	} else {
		stream_lose_newest(stream);
	}
}

/* Frames that are lost for lack of resources */

static int stream_handle_retry(void *data) {
	struct vt_stream *stream = data;
	stream->retry_armed = false;
	if (wl_list_empty(&stream->subscribers)) {
		stream->n_retries = 0;
	} else if (stream->n_retries++ < RETRIES_CAP) {
		stream_request_frame(stream);
	} else {
		stream->n_retries = 0;
		struct vt_subscriber *subscriber;
		wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
			subscriber->impl->stop_later(subscriber, VITRINE_VIEW_STOP_NO_RESOURCES);
		}
	}
	return 0;
}

void vt_stream_fail(struct vt_stream *stream, const pixman_region32_t *damage) {
	vt_stream_lose(stream, damage);
	if (stream->retry_armed) {
		return;
	}
	uint64_t ms = stream->manager->base.limits.contended_frame_deadline_ms;
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
	vt_damage_add(total, &stream->lost_damage); // to none: see stream_drop_newest()
	vt_damage_add(total, damage);
	pixman_region32_clear(&stream->lost_damage);
	stream->newest.n_lost = stream->n_lost;
	stream->n_lost = 0;
}

void vt_stream_submit(struct vt_stream *stream, const struct vt_stream_frame *frame) {
	struct vt_stream_frame *newest = &stream->newest;
	if (newest->buffer != NULL && !frame_is_finished(newest)) {
		vt_stream_lose(stream, &frame->damage); // there is more once that is finished
		vt_stream_buffer_lose(frame->buffer, frame->fence_fd);
		return;
	}
	struct wl_event_source *fence_source = NULL;
	if (frame->fence_fd >= 0) {
		fence_source = wl_event_loop_add_fd(stream->manager->loop, frame->fence_fd,
			WL_EVENT_READABLE, stream_handle_fence, stream);
		if (fence_source == NULL) {
			vt_stream_fail(stream, &frame->damage);
			vt_stream_buffer_lose(frame->buffer, frame->fence_fd);
			return;
		}
	}

	stream_forget_failures(stream);
	vt_stream_buffer_ref(frame->buffer); // before the old one goes, which may be the same
	stream_drop_newest(stream);
	vt_stream_buffer_lose(frame->buffer, -1); // this drawing is finished after that one
	stream->fence_source = fence_source;
	newest->buffer = frame->buffer;
	newest->when = frame->when;
	newest->transform = frame->transform;
	newest->fence_fd = frame->fence_fd;
	newest->waits_for_present = frame->waits_for_present;
	newest->waits_for_copy = frame->waits_for_copy;
	newest->commit_seq = frame->commit_seq;
	stream_take_damage(stream, &frame->damage);
	stream->seq += 1 + newest->n_lost;
	uint64_t last_seq = newest->seq;
	newest->seq = stream->seq;
	stream_deliver(stream, last_seq);
}

/* Lifetime */

bool vt_stream_init(struct vt_stream *stream, struct vt_manager *manager,
		const struct vt_stream_interface *impl, void *data) {
	*stream = (struct vt_stream){
		.manager = manager,
		.reserve_for = { .quota = &manager->quotas.all },
		.impl = impl,
		.data = data,
		.newest.fence_fd = -1,
	};
	wl_list_init(&stream->subscribers);
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
	assert(wl_list_empty(&stream->subscribers));
	stream_drop_newest(stream);
	struct vt_stream_buffer *buffer, *tmp;
	wl_list_for_each_safe(buffer, tmp, &stream->buffers, link) {
		buffer_destroy(buffer);
	}
	vt_reserve_drop(&stream->reserve);
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
	assert(wl_list_empty(&stream->subscribers));
	vt_reserve_drop(&stream->reserve);
	stream_drop_newest(stream);
	stream->n_lost = 0;
	stream_forget_failures(stream);
	pixman_region32_clear(&stream->lost_damage);
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		stream_check_generation(stream, buffer); // no frame in it comes, which would do so
	}
}

bool vt_stream_has_current(const struct vt_stream *stream) {
	return stream->newest.buffer != NULL && stream->n_lost == 0;
}

bool vt_stream_has_current_for(const struct vt_stream *stream,
		const struct vt_subscriber *subscriber) {
	if (!vt_stream_has_current(stream)) {
		return false;
	}
	uint32_t fourcc = stream->newest.buffer->buffer->fourcc;
	return !stream->is_copy || stream->is_given || vt_format_get_deep(fourcc) == 0 ||
		vt_reader_names_cpu_format(&subscriber->reader, fourcc);
}

void vt_stream_add_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	assert(subscriber->stream == NULL);
	subscriber->stream = stream;
	vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_ATTACHED);
	// The newest frame is news to it, unless it asks for one that is yet to be drawn
	bool is_news = vt_stream_has_current_for(stream, subscriber);
	subscriber->seen_seq = is_news ? stream->seq - 1 : stream->seq;
	subscriber->n_missed -= is_news && subscriber->n_missed > 0; // it was the last one of those
	subscriber->first_seq = subscriber->wire->pulls ? stream->seq + 1 : 0;
	if (subscriber->pace != VT_SUBSCRIBER_IDLE) {
		subscriber->pace = VT_SUBSCRIBER_FAST;
	}
	subscriber->takes_fences = false; // until it knows a buffer of this stream
	subscriber->damage_all = true;
	wl_list_insert(stream->subscribers.prev, &subscriber->stream_link);
	stream->n_implicit += subscriber->implicit_release;
}

void vt_stream_remove_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	assert(subscriber->stream == stream);
	vt_subscriber_drop_frames(subscriber);
	wl_list_remove(&subscriber->stream_link);
	wl_list_init(&subscriber->stream_link);
	subscriber->stream = NULL;
	subscriber->n_missed += stream->seq + stream->n_lost - subscriber->seen_seq;
	stream->n_implicit -= subscriber->implicit_release;
	if (stream->n_implicit == 0) {
		vt_step_forget(&stream->step);
	}
	// Others may have waited for what it held
	stream_serve(stream);
}
