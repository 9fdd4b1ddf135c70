/* SPDX-License-Identifier: MIT */
#include "budget.h"

/** Buffers of a swapchain, which are announced one by one. */
#define SET_LEN 4

/** Buffers that are to be reserved: those of a swapchain that are not announced. */
static size_t stream_count_missing(const struct vt_stream *stream) {
	size_t n_announced = 0;
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		n_announced += buffer->memory != NULL;
	}
	return n_announced < SET_LEN ? SET_LEN - n_announced : 1;
}

/** "A screen is seen whatever its size" */
static void stream_expect(struct vt_stream *stream, size_t size) {
	if (stream->screen != NULL) {
		vt_quota_screen_expect(stream->screen, size);
	}
}

/** Reserves what is missing. If there is no room, nothing is reserved. */
static bool stream_fill(struct vt_stream *stream, size_t size) {
	size_t n_missing = stream_count_missing(stream);
	stream->reserved_size = size;
	if (vt_reserve_has(&stream->reserve, size, n_missing)) {
		return true;
	}
	vt_reserve_drop(&stream->reserve);
	return vt_reserve_try(&stream->reserve, &stream->reserve_for, size, n_missing);
}

/** Whether a subscriber has a reserve of its own for so many buffers, after a try. */
static bool subscriber_fill(struct vt_subscriber *subscriber, const struct vt_reserve_for *whom,
		size_t size, size_t n_buffers) {
	if (vt_reserve_has(&subscriber->reserve, size, n_buffers)) {
		return true;
	}
	// What it has, for smaller buffers, goes with success alone
	struct vt_reserve reserve = {0};
	if (!vt_reserve_try(&reserve, whom, size, SET_LEN)) {
		return false;
	}
	vt_reserve_move(&reserve, &subscriber->reserve);
	return true;
}

/** Whether each subscriber that takes no copies has a reserve of its own, after a try. */
static bool stream_fill_own(struct vt_stream *stream, size_t size) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (!vt_subscriber_takes_copies(subscriber) &&
				!subscriber_fill(subscriber, &stream->reserve_for, size, 1)) {
			return false;
		}
	}
	return true;
}

static bool subscriber_is_over(const struct vt_subscriber *subscriber) {
	return !vt_quota_has_room(subscriber->quota, VT_QUOTA_SHARED_BYTES, 0) ||
		!vt_quota_has_room(subscriber->quota, VT_QUOTA_SHARED_PIECES, 0);
}

bool vt_stream_admit(struct vt_stream *stream, struct vt_subscriber *subscriber, size_t size) {
	if (stream->reserve_for.is_private) {
		return stream_fill(stream, size);
	}
	stream_expect(stream, size);
	if (subscriber_is_over(subscriber)) {
		return false;
	}
	if (stream->is_rationed && stream_fill_own(stream, size)) {
		stream->is_rationed = false;
	}
	return !stream->is_rationed && stream_fill(stream, size) &&
		(vt_subscriber_takes_copies(subscriber) ||
		subscriber_fill(subscriber, &stream->reserve_for, size, SET_LEN));
}

/** From here on the stream is for those that take no copies, each with its own reserve. */
static void stream_ration(struct vt_stream *stream) {
	stream->is_rationed = true;
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (vt_subscriber_takes_copies(subscriber)) {
			subscriber->lacks_room = true;
			subscriber->impl->move_later(subscriber);
		}
	}
}

static bool stream_take_own(struct vt_stream *stream, size_t size) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (vt_reserve_has(&subscriber->reserve, size, 1)) {
			vt_reserve_move(&subscriber->reserve, &stream->reserve);
			stream_ration(stream);
			return true;
		}
	}
	return false;
}

/** Whether a holder has been the cause of more than it may: of a group, others may have been. */
static bool holder_is_over(const struct vt_subscriber *subscriber) {
	return vt_quota_is_over(subscriber->quota, VT_QUOTA_SHARED_BYTES) ||
		vt_quota_is_over(subscriber->quota, VT_QUOTA_SHARED_PIECES);
}

bool vt_stream_reserve(struct vt_stream *stream, struct vt_subscriber *subscriber, size_t size) {
	bool takes_copies = vt_subscriber_takes_copies(subscriber);
	if (stream->reserve_for.is_private) {
		return stream_fill(stream, size);
	}
	stream_expect(stream, size);
	if (takes_copies && (stream->is_rationed || holder_is_over(subscriber))) {
		subscriber->lacks_room = true;
		return false;
	}
	if (stream->is_rationed ? vt_reserve_has(&stream->reserve, size, 1) :
			stream_fill(stream, size)) {
		return true;
	}
	subscriber->lacks_room = takes_copies;
	// What was reserved is too little once the output has grown, and there may be room again
	return !takes_copies && (stream_take_own(stream, size) ||
		(stream->is_rationed && stream_fill(stream, size)));
}

void vt_stream_take_reserve(struct vt_stream *stream, struct vt_subscriber *subscriber) {
	if (wl_list_empty(&stream->subscribers)) {
		vt_reserve_drop(&stream->reserve);
		stream->is_rationed = false;
	} else if (subscriber->reserve.bytes.quota != NULL &&
			(stream->is_rationed || !stream_fill(stream, stream->reserved_size))) {
		vt_reserve_move(&subscriber->reserve, &stream->reserve);
		stream_ration(stream);
	}
	vt_reserve_drop(&subscriber->reserve);
}

struct vt_quota *vt_stream_find_cause(const struct vt_stream *stream) {
	// Who keeps what cannot be known: the one that has been the cause of most
	struct vt_quota *cause = NULL;
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &stream->subscribers, stream_link) {
		if (cause == NULL || subscriber->quota->used[VT_QUOTA_SHARED_BYTES] >
				cause->used[VT_QUOTA_SHARED_BYTES]) {
			cause = subscriber->quota;
		}
	}
	return cause;
}
