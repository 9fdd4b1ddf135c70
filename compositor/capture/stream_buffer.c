/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <poll.h>
#include <unistd.h>

#include "clock.h"
#include "stream_buffer.h"

/** A frame takes a GPU less, also an emulated one. */
#define DRAWING_CAP_MS 500

void vt_stream_buffer_init(struct vt_stream_buffer *buffer, struct vt_buffer *vt_buffer) {
	buffer->buffer = vt_buffer;
	buffer->generation = vt_buffer->generation;
	buffer->lost_fence_fd = -1;
	pixman_region32_init_rect(&buffer->stale, 0, 0, (unsigned)vt_buffer->base.width,
		(unsigned)vt_buffer->base.height);
}

void vt_stream_buffer_finish(struct vt_stream_buffer *buffer) {
	assert(buffer->n_refs == 0 && buffer->n_holds == 0 && buffer->n_kept == 0);
	assert(buffer->memory == NULL && buffer->kept == NULL);
	vt_stream_buffer_lose(buffer, -1);
	pixman_region32_fini(&buffer->stale);
}

void vt_stream_buffer_set_stale(struct vt_stream_buffer *buffer) {
	pixman_region32_fini(&buffer->stale);
	pixman_region32_init_rect(&buffer->stale, 0, 0, (unsigned)buffer->buffer->base.width,
		(unsigned)buffer->buffer->base.height);
}

static bool buffer_lost_fence_is_pending(const struct vt_stream_buffer *buffer) {
	struct pollfd pollfd = { .fd = buffer->lost_fence_fd, .events = POLLIN };
	return pollfd.fd >= 0 && poll(&pollfd, 1, 0) == 0;
}

void vt_stream_buffer_lose(struct vt_stream_buffer *buffer, int take_fence_fd) {
	// What is drawn to it again waits for what goes on, and for no longer than that may
	if (!buffer_lost_fence_is_pending(buffer)) {
		buffer->lost_since_ms = vt_now_ms();
	}
	if (buffer->lost_fence_fd >= 0) {
		close(buffer->lost_fence_fd);
	}
	buffer->lost_fence_fd = take_fence_fd;
}

bool vt_stream_buffer_is_drawn_to(const struct vt_stream_buffer *buffer) {
	return vt_now_ms() - buffer->lost_since_ms < DRAWING_CAP_MS &&
		buffer_lost_fence_is_pending(buffer);
}

void vt_stream_buffer_ref(struct vt_stream_buffer *buffer) {
	if (buffer->n_refs++ == 0) {
		wlr_buffer_lock(&buffer->buffer->base);
	}
}

void vt_stream_buffer_unref(struct vt_stream_buffer *buffer) {
	assert(buffer->n_refs > 0);
	if (--buffer->n_refs == 0) {
		wlr_buffer_unlock(&buffer->buffer->base);
	}
}

void vt_stream_buffer_hold(struct vt_stream_buffer *buffer, uint64_t seq) {
	if (buffer->n_holds++ == 0) {
		buffer->held_since = seq;
	}
	vt_stream_buffer_ref(buffer);
}

void vt_stream_buffer_unhold(struct vt_stream_buffer *buffer) {
	assert(buffer->n_holds > 0);
	buffer->n_holds--;
	vt_stream_buffer_unref(buffer);
}

void vt_stream_buffer_keep(struct vt_stream_buffer *buffer) {
	buffer->n_kept++;
	vt_stream_buffer_ref(buffer);
}

void vt_stream_buffer_unkeep(struct vt_stream_buffer *buffer) {
	assert(buffer->n_kept > 0);
	buffer->n_kept--;
	vt_stream_buffer_unref(buffer);
}
