/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "clock.h"
#include "subscriber.h"

void vt_damage_add(pixman_region32_t *region, const pixman_region32_t *damage) {
	const pixman_box32_t *a = pixman_region32_extents(region);
	const pixman_box32_t *b = pixman_region32_extents((pixman_region32_t *)damage);
	bool is_empty = pixman_region32_empty(region);
	const pixman_box32_t all = is_empty ? *b : (pixman_box32_t){
		.x1 = a->x1 < b->x1 ? a->x1 : b->x1,
		.y1 = a->y1 < b->y1 ? a->y1 : b->y1,
		.x2 = a->x2 > b->x2 ? a->x2 : b->x2,
		.y2 = a->y2 > b->y2 ? a->y2 : b->y2,
	};
	if (!pixman_region32_union(region, region, damage)) {
		// What is left would count as empty: rather too much, for which no memory is needed
		pixman_region32_fini(region);
		pixman_region32_init_with_extents(region, &all);
	} else if (pixman_region32_n_rects(region) > VT_DAMAGE_RECTS_CAP) {
		pixman_box32_t extents = *pixman_region32_extents(region);
		pixman_region32_reset(region, &extents);
	}
}

void vt_damage_clip(pixman_region32_t *region, int width, int height) {
	const pixman_box32_t extents = *pixman_region32_extents(region);
	if (!pixman_region32_intersect_rect(region, region, 0, 0, (unsigned)width,
			(unsigned)height)) {
		// As above. One rectangle is cut without memory
		pixman_region32_fini(region);
		pixman_region32_init_with_extents(region, &extents);
		pixman_region32_intersect_rect(region, region, 0, 0, (unsigned)width,
			(unsigned)height);
	}
}

/* Lifetime */

void vt_subscriber_init(struct vt_subscriber *subscriber, uint32_t depth) {
	if (subscriber->wire->pulls || subscriber->implicit_release) {
		depth = 2; // the last frame, and the next one
	} else if (depth < 1) {
		depth = 1;
	} else if (depth > VT_SUBSCRIBER_DEPTH_CAP) {
		depth = VT_SUBSCRIBER_DEPTH_CAP;
	}
	subscriber->depth = depth;
	subscriber->state = VT_SUBSCRIBER_APART;
	subscriber->pace = VT_SUBSCRIBER_FAST;
	subscriber->transform = -1;
	pixman_region32_init(&subscriber->damage);
	wl_list_init(&subscriber->output_link);
	wl_list_init(&subscriber->stream_link);
}

void vt_subscriber_finish(struct vt_subscriber *subscriber) {
	assert(subscriber->state == VT_SUBSCRIBER_APART && subscriber->n_held == 0);
	vt_reserve_drop(&subscriber->reserve);
	pixman_region32_fini(&subscriber->damage);
	vt_reader_finish(&subscriber->reader);
}

/** The states that may come after each. */
static const uint32_t next_states[] = {
	[VT_SUBSCRIBER_APART] = 1 << VT_SUBSCRIBER_UNATTACHED,
	[VT_SUBSCRIBER_UNATTACHED] = 1 << VT_SUBSCRIBER_APART | 1 << VT_SUBSCRIBER_ATTACHED |
		1 << VT_SUBSCRIBER_STOPPING,
	[VT_SUBSCRIBER_ATTACHED] = 1 << VT_SUBSCRIBER_APART | 1 << VT_SUBSCRIBER_MOVING |
		1 << VT_SUBSCRIBER_STOPPING,
	[VT_SUBSCRIBER_MOVING] = 1 << VT_SUBSCRIBER_APART | 1 << VT_SUBSCRIBER_UNATTACHED |
		1 << VT_SUBSCRIBER_STOPPING,
	[VT_SUBSCRIBER_STOPPING] = 1 << VT_SUBSCRIBER_APART | 1 << VT_SUBSCRIBER_STOPPING,
};

void vt_subscriber_set_state(struct vt_subscriber *subscriber, enum vt_subscriber_state state) {
	assert(next_states[subscriber->state] & (1u << state));
	bool has_stream = subscriber->stream != NULL;
	assert(state == VT_SUBSCRIBER_STOPPING || has_stream ==
		(state == VT_SUBSCRIBER_ATTACHED || state == VT_SUBSCRIBER_MOVING));
	subscriber->state = state;
}

void vt_subscriber_announce_power(struct vt_subscriber *subscriber, bool is_on) {
	if (subscriber->is_off == is_on) {
		subscriber->is_off = !is_on;
		if (subscriber->wire->send_power != NULL) {
			subscriber->wire->send_power(subscriber, is_on);
		}
	}
}

bool vt_subscriber_takes_copies(const struct vt_subscriber *subscriber) {
	return (subscriber->allowed & VITRINE_GUARANTEE_SNAPSHOT) &&
		(subscriber->reader.storages & (VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_DMABUF));
}

/* Views */

static struct vt_subscriber_view *subscriber_find_view(struct vt_subscriber *subscriber,
		const struct vt_stream_buffer *buffer) {
	for (size_t i = 0; i < VT_SUBSCRIBER_VIEWS_CAP; i++) {
		if (subscriber->views[i].buffer == buffer) {
			return &subscriber->views[i];
		}
	}
	return NULL;
}

bool vt_subscriber_knows(const struct vt_subscriber *subscriber,
		const struct vt_stream_buffer *buffer) {
	return subscriber_find_view((struct vt_subscriber *)subscriber, buffer) != NULL;
}

bool vt_subscriber_can_announce(const struct vt_subscriber *subscriber) {
	return vt_subscriber_knows(subscriber, NULL);
}

static void subscriber_set_guarantee(struct vt_subscriber *subscriber, uint32_t guarantee) {
	if (subscriber->guarantee != guarantee) {
		subscriber->guarantee = guarantee;
		subscriber->impl->handle_guarantee(subscriber);
	}
}

void vt_subscriber_announce(struct vt_subscriber *subscriber, struct vt_stream_buffer *buffer,
		const struct vt_view_fds *fds, uint32_t guarantee) {
	struct vt_subscriber_view *view = subscriber_find_view(subscriber, NULL);
	assert(view != NULL);
	subscriber->takes_fences =
		subscriber->wire->takes_fences && fds->storage != VITRINE_STORAGE_MEMFD;
	subscriber->storage = fds->storage;
	subscriber_set_guarantee(subscriber, guarantee);
	view->buffer = buffer;
	view->index = subscriber->next_index++;
	if (subscriber->wire->send_view != NULL) {
		subscriber->wire->send_view(subscriber, view->index, buffer->buffer, fds);
	}
	subscriber->stats.views++;
}

void vt_subscriber_announce_retired(struct vt_subscriber *subscriber,
		const struct vt_stream_buffer *buffer) {
	struct vt_subscriber_view *view = subscriber_find_view(subscriber, buffer);
	if (view == NULL) {
		return;
	}
	view->buffer = NULL;
	if (subscriber->wire->send_retired != NULL) {
		subscriber->wire->send_retired(subscriber, view->index);
	}
}

void vt_subscriber_announce_all_retired(struct vt_subscriber *subscriber) {
	for (size_t i = 0; i < VT_SUBSCRIBER_VIEWS_CAP; i++) {
		if (subscriber->views[i].buffer != NULL) {
			vt_subscriber_announce_retired(subscriber, subscriber->views[i].buffer);
		}
	}
}

/* Pace */

bool vt_subscriber_is_ready(const struct vt_subscriber *subscriber) {
	// A client that has not confirmed that a frame was taken back gets no other one,
	// and nothing is kept for it
	return subscriber->state == VT_SUBSCRIBER_ATTACHED && subscriber->n_revoked == 0 &&
		subscriber->n_held < subscriber->depth && subscriber->pace != VT_SUBSCRIBER_IDLE;
}

/** Whether it holds one frame, and that is the one with this number. */
static bool subscriber_holds_only(const struct vt_subscriber *subscriber, uint64_t seq) {
	for (uint32_t i = 0; i < subscriber->depth && subscriber->n_held == 1; i++) {
		if (subscriber->frames[i].buffer != NULL) {
			return subscriber->frames[i].seq == seq;
		}
	}
	return false;
}

void vt_subscriber_update_pace(struct vt_subscriber *subscriber, uint64_t last_seq) {
	if (subscriber->wire->pulls) {
		return; // what it holds is released when it asks for the next one
	}
	// To hold the newest frame until the next one is there costs no buffer
	if (subscriber->pace == VT_SUBSCRIBER_FAST && subscriber->n_held > 0 &&
			!subscriber_holds_only(subscriber, last_seq)) {
		subscriber->pace = VT_SUBSCRIBER_SLOW;
	}
	subscriber->n_untraded += subscriber->n_held > 1 && subscriber->seen_seq == last_seq;
}

void vt_subscriber_reset_pace(struct vt_subscriber *subscriber) {
	subscriber->n_untraded = 0;
	if (subscriber->pace == VT_SUBSCRIBER_SLOW) {
		subscriber->pace = VT_SUBSCRIBER_FAST;
	}
}

/** It has released a frame: by this it may have caught up. */
static void subscriber_catch_up(struct vt_subscriber *subscriber, uint64_t seq,
		uint64_t newest_seq) {
	bool has_traded = subscriber_holds_only(subscriber, newest_seq);
	if (has_traded) {
		subscriber->n_untraded = 0;
	}
	if (subscriber->pace == VT_SUBSCRIBER_SLOW &&
			(has_traded || (seq == newest_seq && subscriber->n_held == 0))) {
		subscriber->pace = VT_SUBSCRIBER_FAST;
	}
}

void vt_subscriber_set_idle(struct vt_subscriber *subscriber) {
	assert(subscriber->wire->pulls);
	subscriber->pace = VT_SUBSCRIBER_IDLE;
}

void vt_subscriber_pull(struct vt_subscriber *subscriber) {
	assert(subscriber->wire->pulls);
	subscriber->pace = VT_SUBSCRIBER_FAST;
	vt_subscriber_release_seen(subscriber);
}

/* Frames */

void vt_subscriber_miss_frame(struct vt_subscriber *subscriber, const pixman_region32_t *damage) {
	if (!subscriber->damage_all) {
		vt_damage_add(&subscriber->damage, damage);
	}
}

struct vt_subscriber_frame *vt_subscriber_find_frame(struct vt_subscriber *subscriber,
		uint32_t serial) {
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		if (subscriber->frames[i].serial == serial) {
			return &subscriber->frames[i];
		}
	}
	return NULL;
}

/**
 * "that of the frame before, plus one, plus the number of frames of the source that this
 * session did not receive in between. 0 is no serial: 1 comes after the largest."
 */
static uint32_t subscriber_take_serial(struct vt_subscriber *subscriber) {
	uint64_t serial = subscriber->last_serial + subscriber->n_skipped % UINT32_MAX;
	subscriber->last_serial = (uint32_t)(serial % UINT32_MAX) + 1;
	return subscriber->last_serial;
}

/** "The first frame after a change of size or format is damaged entirely" */
static void subscriber_check_format(struct vt_subscriber *subscriber,
		const struct vt_buffer *buffer) {
	if (subscriber->width != buffer->base.width || subscriber->height != buffer->base.height ||
			subscriber->fourcc != buffer->fourcc) {
		subscriber->width = buffer->base.width;
		subscriber->height = buffer->base.height;
		subscriber->fourcc = buffer->fourcc;
		subscriber->damage_all = true;
	}
}

static void subscriber_count_frame(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	// What came before the first frame was not missed
	subscriber->n_skipped =
		subscriber->stats.frames > 0 ?
		subscriber->n_missed + frame->seq - subscriber->seen_seq - 1 : 0;
	subscriber->n_missed = 0;
	subscriber->stats.skipped += subscriber->n_skipped;
	subscriber->stats.frames++;
	subscriber->seen_seq = frame->seq;
}

static void subscriber_unhold(struct vt_subscriber *subscriber,
		struct vt_subscriber_frame *frame) {
	struct vt_stream_buffer *buffer = frame->buffer;
	frame->buffer = NULL;
	subscriber->n_held--;
	vt_stream_buffer_unhold(buffer);
}

void vt_subscriber_release_seen(struct vt_subscriber *subscriber) {
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		struct vt_subscriber_frame *frame = &subscriber->frames[i];
		if (frame->buffer != NULL && frame->seq != subscriber->seen_seq) {
			frame->serial = 0;
			subscriber_unhold(subscriber, frame);
		}
	}
}

static void subscriber_hold(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame, uint32_t serial) {
	struct vt_subscriber_frame *held = vt_subscriber_find_frame(subscriber, 0);
	assert(held != NULL);
	*held = (struct vt_subscriber_frame){
		.buffer = frame->buffer,
		.seq = frame->seq,
		.serial = serial,
		.sent_ms = vt_now_ms(),
	};
	vt_stream_buffer_hold(frame->buffer, frame->seq);
	subscriber->n_held++;
}

void vt_subscriber_send_frame(struct vt_subscriber *subscriber,
		const struct vt_stream_frame *frame) {
	const struct vt_subscriber_view *view = subscriber_find_view(subscriber, frame->buffer);
	assert(view != NULL);
	subscriber_check_format(subscriber, frame->buffer->buffer);
	subscriber_count_frame(subscriber, frame);
	uint32_t serial = subscriber_take_serial(subscriber);
	if (!subscriber->implicit_release) {
		subscriber_hold(subscriber, frame, serial);
	}
	subscriber->wire->send_frame(subscriber, frame, view->index, serial);
	subscriber->damage_all = false;
	pixman_region32_clear(&subscriber->damage);
}

bool vt_subscriber_release(struct vt_subscriber *subscriber, struct vt_subscriber_frame *frame,
		uint64_t newest_seq) {
	frame->serial = 0;
	if (frame->buffer == NULL) {
		subscriber->n_revoked--;
		return false;
	}
	bool is_free = frame->buffer->n_holds == 1;
	subscriber_unhold(subscriber, frame);
	subscriber_catch_up(subscriber, frame->seq, newest_seq);
	return is_free;
}

/** Every so many frames it is looked whether the client reads: less than fill its socket. */
#define READS_CHECK_FRAMES 16

/** Whether so many quarters of the client's socket are full, which they are not if it reads. */
static bool client_leaves_unread(struct wl_client *client, int quarters) {
	int fd = wl_client_get_fd(client), queued, size;
	socklen_t len = sizeof(size);
	return ioctl(fd, SIOCOUTQ, &queued) == 0 &&
		getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 &&
		queued > size / 4 * quarters;
}

static bool client_reads(struct wl_client *client) {
	return !client_leaves_unread(client, 3);
}

bool vt_subscriber_flush(struct vt_subscriber *subscriber) {
	// Does not say if the socket is full, and what was to be sent stays here
	wl_client_flush(subscriber->client);
	return subscriber->stats.frames % READS_CHECK_FRAMES != 0 ||
		client_reads(subscriber->client);
}

bool vt_subscriber_leaves_unread(const struct vt_subscriber *subscriber) {
	return client_leaves_unread(subscriber->client, 2);
}

/* Taking frames back */

static void subscriber_take_back(struct vt_subscriber *subscriber,
		struct vt_subscriber_frame *frame) {
	if (subscriber->wire->pulls) {
		frame->serial = 0;
	} else {
		subscriber->n_revoked++; // until the client has released it all the same
	}
	subscriber_unhold(subscriber, frame);
}

static void subscriber_send_revoked(struct vt_subscriber *subscriber,
		const struct vt_subscriber_frame *frame) {
	if (!subscriber->wire->pulls) {
		subscriber->wire->send_revoked(subscriber, frame->serial);
	}
	subscriber->stats.revoked++;
}

/** Whether what is sent to it is on its way at once: else it would wait here. */
static bool subscriber_can_be_told(const struct vt_subscriber *subscriber) {
	return subscriber->wire->pulls || client_reads(subscriber->client);
}

size_t vt_subscriber_count_spare(const struct vt_subscriber *subscriber,
		const struct vt_stream_buffer *buffer) {
	uint64_t first_seq = UINT64_MAX;
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		const struct vt_subscriber_frame *frame = &subscriber->frames[i];
		if (frame->buffer != NULL && frame->seq < first_seq) {
			first_seq = frame->seq;
		}
	}
	size_t count = 0;
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		const struct vt_subscriber_frame *frame = &subscriber->frames[i];
		count += frame->buffer == buffer && frame->seq > first_seq;
	}
	return count;
}

uint32_t vt_subscriber_revoke(struct vt_subscriber *subscriber,
		const struct vt_stream_buffer *buffer, uint64_t newest_seq, int64_t before_ms) {
	uint32_t count = 0;
	for (uint32_t i = 0; i < subscriber->depth && subscriber->n_held > 0; i++) {
		struct vt_subscriber_frame *frame = &subscriber->frames[i];
		bool wanted = buffer != NULL ? frame->buffer == buffer :
			frame->buffer != NULL && frame->seq != newest_seq;
		if (!wanted || frame->sent_ms > before_ms || frame->buffer->old_since_ms > before_ms) {
			continue;
		}
		if (count == 0 && !subscriber_can_be_told(subscriber)) {
			// It ends instead, which retires what it sees before that is drawn to
			subscriber->impl->stop_later(subscriber, VITRINE_VIEW_STOP_REVOKED);
			if (buffer == NULL) {
				return 0; // and holds its frames until then
			}
		}
		subscriber_send_revoked(subscriber, frame);
		count++;
		subscriber_take_back(subscriber, frame);
	}
	if (count > 0) {
		// On its way before anything can be drawn to the buffer
		wl_client_flush(subscriber->client);
	}
	return count;
}

void vt_subscriber_revoke_all(struct vt_subscriber *subscriber) {
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		const struct vt_subscriber_frame *frame = &subscriber->frames[i];
		if (frame->buffer != NULL && !subscriber->wire->pulls) {
			subscriber_send_revoked(subscriber, frame);
		}
	}
	vt_subscriber_drop_frames(subscriber);
}

void vt_subscriber_drop_frames(struct vt_subscriber *subscriber) {
	for (uint32_t i = 0; i < subscriber->depth; i++) {
		struct vt_subscriber_frame *frame = &subscriber->frames[i];
		if (frame->buffer != NULL) {
			subscriber_take_back(subscriber, frame);
		}
	}
}
