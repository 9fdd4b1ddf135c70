/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <drm_fourcc.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>

#include "clock.h"
#include "fence.h"
#include "format.h"
#include "memfd_buffer.h"
#include "renderer_copy.h"
#include "snapshot.h"

/** What every renderer draws, and every reader understands. */
#define SNAPSHOT_FORMAT DRM_FORMAT_XRGB8888

/** Copies that may fail one after the other before the copier is given up. */
#define FAILURES_CAP 3

/** The buffer from which those of a swapchain are drawn. Those are reserved, see budget.h. */
#define PRIVATE_BUFFERS 1

static void snapshots_stop_all(struct vt_snapshots *snapshots,
		enum vitrine_view_stop_reason reason) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &snapshots->stream.subscribers, stream_link) {
		subscriber->impl->stop_later(subscriber, reason);
	}
}

/** The format of a buffer, 0 if it is not known. */
static uint32_t get_fourcc(struct wlr_buffer *buffer) {
	struct wlr_dmabuf_attributes dmabuf;
	struct wlr_shm_attributes shm;
	if (wlr_buffer_get_dmabuf(buffer, &dmabuf)) {
		return dmabuf.format;
	}
	return wlr_buffer_get_shm(buffer, &shm) ? shm.format : 0;
}

/** Copies of a deep source are as deep if all subscribers have asked for that. */
static uint32_t snapshots_choose_fourcc(const struct vt_snapshots *snapshots,
		struct wlr_buffer *source) {
	if (snapshots->stream.is_given) {
		return snapshots->format.format;
	}
	uint32_t fourcc = vt_format_get_deep(get_fourcc(source));
	const struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &snapshots->stream.subscribers, stream_link) {
		if (!vt_reader_names_cpu_format(&subscriber->reader, fourcc)) {
			return SNAPSHOT_FORMAT;
		}
	}
	// What a renderer reads back in the event loop is what every renderer can
	return fourcc != 0 && !snapshots->has_no_copier ? fourcc : SNAPSHOT_FORMAT;
}

static struct wlr_swapchain *create_memfd_swapchain(struct vt_snapshots *snapshots,
		uint32_t fourcc, int width, int height) {
	struct vt_snapshots_common *common = snapshots->common;
	if (common->memfd_allocator == NULL) {
		common->memfd_allocator = vt_memfd_allocator_create();
		if (common->memfd_allocator == NULL) {
			return NULL;
		}
	}
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = fourcc,
		.len = 1,
		.capacity = 1,
		.modifiers = &modifier,
	};
	return wlr_swapchain_create(common->memfd_allocator, width, height, &format);
}

/** The subscriber pays for what is for it alone, be it made or not. */
bool vt_snapshots_charge(struct vt_snapshots *snapshots, struct vt_quota *quota, int width,
		int height) {
	uint64_t bytes_per_pixel = vt_format_is_deep(snapshots->format.format) ? 8 : 4;
	uint64_t amount = PRIVATE_BUFFERS * (uint64_t)width * (uint64_t)height * bytes_per_pixel;
	if (snapshots->charge.quota != NULL && snapshots->charge.amount == amount) {
		return true;
	}
	vt_charge_drop(&snapshots->charge);
	return vt_charge_try(&snapshots->charge, quota, VT_QUOTA_PRIVATE_BYTES, amount);
}

static struct wlr_swapchain *create_given_swapchain(struct vt_snapshots *snapshots, int width,
		int height) {
	if (wl_list_empty(&snapshots->stream.subscribers)) {
		return NULL;
	}
	struct vt_subscriber *subscriber =
		wl_container_of(snapshots->stream.subscribers.next, subscriber, stream_link);
	if (!vt_snapshots_charge(snapshots, subscriber->quota, width, height)) {
		snapshots_stop_all(snapshots, VITRINE_VIEW_STOP_NO_RESOURCES);
		return NULL;
	}
	return wlr_swapchain_create(snapshots->allocator, width, height, &snapshots->format);
}

/** Makes the swapchain that copies go to fit the output. */
static bool snapshots_configure(struct vt_snapshots *snapshots, struct wlr_buffer *source) {
	int width = source->width, height = source->height;
	uint32_t fourcc = snapshots_choose_fourcc(snapshots, source);
	struct wlr_swapchain *old = snapshots->swapchain;
	if (old != NULL && old->width == width && old->height == height &&
			old->format.format == fourcc) {
		return true;
	}
	struct wlr_swapchain *swapchain = snapshots->stream.is_given ?
		create_given_swapchain(snapshots, width, height) :
		create_memfd_swapchain(snapshots, fourcc, width, height);
	if (swapchain == NULL) {
		return false;
	}
	wlr_swapchain_destroy(old);
	snapshots->swapchain = swapchain;
	snapshots->must_replace = false; // that was about the old ones
	return true;
}

static uint64_t region_get_pixels(const pixman_region32_t *region) {
	uint64_t pixels = 0;
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	for (int i = 0; i < n_rects; i++) {
		pixels += (uint64_t)(rects[i].x2 - rects[i].x1) * (uint64_t)(rects[i].y2 - rects[i].y1);
	}
	return pixels;
}

static void snapshots_count_bytes(struct vt_snapshots *snapshots,
		const pixman_region32_t *region) {
	uint64_t bytes = region_get_pixels(region) *
		(vt_format_is_deep(snapshots->swapchain->format.format) ? 8 : 4);
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &snapshots->stream.subscribers, stream_link) {
		subscriber->stats.bytes_copied += bytes;
	}
}

static void snapshots_request_frame(struct vt_snapshots *snapshots) {
	if (!wl_list_empty(&snapshots->stream.subscribers)) {
		snapshots->stream.impl->request_frame(snapshots->stream.data);
	}
}

/* Copies by the renderer, in the event loop */

static bool snapshots_copy(struct vt_snapshots *snapshots, struct wlr_buffer *source,
		struct vt_stream_buffer *buffer) {
	if (pixman_region32_empty(&buffer->stale)) {
		return true;
	}
	if (!vt_renderer_copy(snapshots->output->renderer, source, &buffer->buffer->base,
			&buffer->stale)) {
		wlr_log(WLR_ERROR, "Failed to copy a frame");
		return false; // it is still stale
	}
	snapshots_count_bytes(snapshots, &buffer->stale);
	pixman_region32_clear(&buffer->stale);
	return true;
}

/* What is read: one of the output's buffers at a time */

static bool snapshots_can_read(struct vt_snapshots *snapshots, const struct wlr_buffer *source) {
	struct vt_snapshots_common *common = snapshots->common;
	bool can_read = common->n_readers == 0 || common->source == source;
	common->was_missed |= !can_read;
	return can_read;
}

static void snapshots_begin_read(struct vt_snapshots *snapshots,
		const struct wlr_buffer *source) {
	snapshots->common->source = source;
	snapshots->common->n_readers++;
	snapshots->reads_source = true;
}

static void snapshots_end_read(struct vt_snapshots *snapshots) {
	if (snapshots->reads_source) {
		snapshots->reads_source = false;
		snapshots->common->n_readers--;
	}
}

bool vt_snapshots_common_take_missed(struct vt_snapshots_common *common) {
	bool was_missed = common->was_missed && common->n_readers == 0;
	common->was_missed &= !was_missed;
	return was_missed;
}

void vt_snapshots_common_finish(struct vt_snapshots_common *common) {
	assert(common->n_readers == 0);
	wlr_allocator_destroy(common->allocator);
	wlr_allocator_destroy(common->memfd_allocator);
	common->allocator = common->memfd_allocator = NULL;
}

/* Copies by the copier */

/** What was to be copied was not, at least not all of it. */
static void snapshots_undo_copy(struct vt_snapshots *snapshots) {
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &snapshots->stream.buffers, link) {
		if (buffer == snapshots->copying_to) { // else it is gone
			vt_stream_buffer_set_stale(buffer);
		}
	}
	snapshots->copying_to = NULL;
	vt_stream_handle_copied(&snapshots->stream, false);
}

static void snapshots_cancel_copy(struct vt_snapshots *snapshots) {
	if (snapshots->copying_to != NULL) {
		vt_copier_cancel(snapshots->copier);
		snapshots_end_read(snapshots);
		snapshots_undo_copy(snapshots);
	}
}

static void snapshots_drop_copier(struct vt_snapshots *snapshots) {
	snapshots_cancel_copy(snapshots);
	vt_copier_destroy(snapshots->copier); // reads nothing any more that is shown
	snapshots->copier = NULL;
	snapshots->copier_has_started = false;
}

/** The renderer copies from now on. */
static void snapshots_give_up_copier(struct vt_snapshots *snapshots, const char *reason) {
	snapshots->has_no_copier = true;
	snapshots_drop_copier(snapshots);
	if (snapshots->stream.is_given) {
		wlr_log(WLR_ERROR, "There are no copies of output %s in dma-bufs: %s",
			snapshots->output->name, reason);
		snapshots_stop_all(snapshots, VITRINE_VIEW_STOP_UNSUPPORTED);
	} else {
		wlr_log(WLR_ERROR, "Copies of output %s are made in the event loop, which they block: "
			"%s", snapshots->output->name, reason);
	}
}

static void snapshots_handle_failure(struct vt_snapshots *snapshots) {
	if (!snapshots->copier_has_started) {
		snapshots_give_up_copier(snapshots, "there is no EGL that imports dma-bufs");
	} else {
		snapshots_undo_copy(snapshots);
		if (++snapshots->n_failures >= FAILURES_CAP) {
			snapshots_give_up_copier(snapshots, "the GPU cannot read the output's buffers");
		}
	}
	snapshots_request_frame(snapshots);
}

/** "A copy that never finishes costs that stream, not the output" */
static void snapshots_handle_stuck(struct vt_snapshots *snapshots) {
	if (!snapshots->copier_has_started) {
		snapshots_give_up_copier(snapshots, "its thread does not start");
		snapshots_request_frame(snapshots);
		return;
	}
	snapshots_drop_copier(snapshots);
	snapshots_stop_all(snapshots, VITRINE_VIEW_STOP_NO_RESOURCES);
}

static void snapshots_handle_done(struct vt_snapshots *snapshots) {
	if (!snapshots->copier_has_started) {
		snapshots->copier_has_started = true;
		snapshots_request_frame(snapshots);
		return;
	}
	snapshots->copying_to = NULL;
	snapshots->n_failures = 0;
	vt_stream_handle_copied(&snapshots->stream, true);
}

static void snapshots_handle_copier_event(void *data, enum vt_copier_event event) {
	struct vt_snapshots *snapshots = data;
	const struct vt_stream_interface *impl = snapshots->stream.impl;
	void *impl_data = snapshots->stream.data;
	snapshots_end_read(snapshots);
	bool was_missed = vt_snapshots_common_take_missed(snapshots->common);
	switch (event) {
	case VT_COPIER_DONE:
		snapshots_handle_done(snapshots);
		break;
	case VT_COPIER_FAILED:
		snapshots_handle_failure(snapshots);
		break;
	case VT_COPIER_BUSY:
		snapshots_undo_copy(snapshots);
		snapshots->must_replace = true;
		snapshots_request_frame(snapshots);
		break;
	case VT_COPIER_SOURCE_READ:
		break;
	case VT_COPIER_CANCELLED:
		snapshots_request_frame(snapshots); // frames may have been lost meanwhile
		break;
	case VT_COPIER_STUCK:
		snapshots_handle_stuck(snapshots);
		break;
	}
	if (was_missed) {
		impl->request_frame(impl_data);
	}
}

static const struct vt_copier_interface copier_impl = {
	.handle_event = snapshots_handle_copier_event,
};

/** Whether the copier is to copy this: what a GPU has drawn. */
static bool snapshots_needs_copier(const struct vt_snapshots *snapshots,
		struct wlr_buffer *source) {
	const struct wlr_renderer *renderer = snapshots->output->renderer;
	struct wlr_dmabuf_attributes dmabuf;
	return !snapshots->has_no_copier &&
		!(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) &&
		wlr_buffer_get_dmabuf(source, &dmabuf);
}

/**
 * Whether there is a copier. Starts it if needed: there is an event when it can copy. False
 * for lack of resources.
 */
static bool snapshots_has_copier(struct vt_snapshots *snapshots) {
	if (snapshots->copier != NULL) {
		return true;
	}
	bool is_private = snapshots->stream.is_private;
	snapshots->copier = vt_copier_create(snapshots->stream.manager->loop,
		wlr_renderer_get_drm_fd(snapshots->output->renderer), is_private, &copier_impl,
		snapshots);
	if (snapshots->copier == NULL && !is_private) {
		snapshots_give_up_copier(snapshots, "there are no resources for a thread");
	} else if (snapshots->copier == NULL && snapshots->stream.n_retries == 0) {
		wlr_log(WLR_ERROR, "No thread copies output %s for a client: there are %d such threads "
			"at most", snapshots->output->name, VT_COPIERS_PRIVATE_CAP);
	}
	return snapshots->copier != NULL;
}

/** Memory keeps its address for as long as the buffer lives. */
static bool prepare_memory(struct wlr_buffer *target, struct vt_copy *copy) {
	uint32_t format;
	if (!wlr_buffer_begin_data_ptr_access(target, WLR_BUFFER_DATA_PTR_ACCESS_WRITE,
			&copy->data, &format, &copy->stride)) {
		return false;
	}
	wlr_buffer_end_data_ptr_access(target);
	return true;
}

/** Starts to copy what is stale, of which there is something. */
static bool snapshots_start_copy(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, struct vt_stream_buffer *buffer) {
	struct vt_copy copy = {
		.source = event->state->buffer,
		.target = &buffer->buffer->base,
		.fourcc = buffer->buffer->fourcc,
		.region = &buffer->stale,
	};
	if (!snapshots->stream.is_given && !prepare_memory(copy.target, &copy)) {
		return false;
	}
	struct wlr_renderer *renderer = snapshots->output->renderer;
	bool waits = !vt_render_fence_is_made(renderer) ||
		!vt_copier_needs_no_fence(snapshots->copier);
	copy.take_fence_fd = -1;
	if (waits && !vt_render_fence(renderer, event->state, copy.source, &copy.take_fence_fd)) {
		return false;
	}
	if (!vt_copier_start(snapshots->copier, &copy)) {
		return false;
	}
	snapshots_begin_read(snapshots, copy.source);
	snapshots->copying_to = buffer;
	snapshots_count_bytes(snapshots, &buffer->stale);
	pixman_region32_clear(&buffer->stale); // see snapshots_undo_copy()
	return true;
}

/* Retirement */

static void snapshots_drop_swapchain(struct vt_snapshots *snapshots) {
	wlr_swapchain_destroy(snapshots->swapchain);
	snapshots->swapchain = NULL;
	snapshots->must_replace = false;
}

void vt_snapshots_retire(struct vt_snapshots *snapshots, const struct vt_subscriber *leaver,
		struct vt_quota *cause) {
	// What was announced may be what is copied to
	snapshots_cancel_copy(snapshots);
	vt_stream_retire(&snapshots->stream, leaver, cause);
	if (snapshots->stream.is_given) {
		snapshots_drop_swapchain(snapshots); // dma-bufs cannot get fresh memory
	}
}

/* Frames */

/** Copies to a buffer of the swapchain, or starts to, and delivers it. */
static bool snapshots_submit(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage,
		struct wlr_buffer *target, bool by_copier) {
	struct vt_stream *stream = &snapshots->stream;
	struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(target);
	struct vt_stream_buffer *buffer = vt_stream_get_buffer(stream, vt_buffer);
	if (buffer == NULL) {
		return false;
	}
	bool waits = by_copier && !pixman_region32_empty(&buffer->stale);
	if (!(waits ? snapshots_start_copy(snapshots, event, buffer) :
			snapshots_copy(snapshots, event->state->buffer, buffer))) {
		return false;
	}
	int fence_fd = -1;
	if (!by_copier && !vt_render_fence(snapshots->output->renderer, NULL, target, &fence_fd)) {
		return false;
	}
	vt_stream_submit(stream, &(struct vt_stream_frame){
		// Again: what is drawn to may have got other memory for it
		.buffer = vt_stream_get_buffer(stream, vt_buffer),
		.when = event->when,
		.transform = (uint32_t)snapshots->output->transform,
		.damage = *damage,
		.fence_fd = fence_fd,
		.waits_for_copy = waits,
	});
	return true;
}

/**
 * New buffers take the place of all those that the holder has: what has its fences is
 * never waited for. It pays for them, by its quota and by its rate.
 */
static bool snapshots_replace_buffers(struct vt_snapshots *snapshots) {
	struct vt_quota *quota = snapshots->charge.quota;
	if (vt_quota_get_delay(quota, vt_now_ms()) > 0) {
		return false;
	}
	vt_quota_take_token(quota, vt_now_ms());
	vt_snapshots_retire(snapshots, NULL, quota);
	return true;
}

/** A buffer to copy to, locked; NULL for lack of resources. */
static struct wlr_buffer *snapshots_acquire(struct vt_snapshots *snapshots,
		struct wlr_buffer *source) {
	if ((snapshots->must_replace && !snapshots_replace_buffers(snapshots)) ||
			!snapshots_configure(snapshots, source)) {
		return NULL;
	}
	return wlr_swapchain_acquire(snapshots->swapchain);
}

static void snapshots_deliver(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage) {
	struct vt_stream *stream = &snapshots->stream;
	struct wlr_buffer *source = event->state->buffer;
	bool by_copier = snapshots_needs_copier(snapshots, source);
	if (by_copier && snapshots->copier == NULL && stream->retry_armed) {
		vt_stream_lose(stream, damage); // a frame is asked for when it is time to try again
		return;
	}
	if (by_copier && !snapshots_has_copier(snapshots)) {
		vt_stream_fail(stream, damage);
		return;
	}
	if (by_copier && (vt_copier_is_busy(snapshots->copier) ||
			!snapshots_can_read(snapshots, source))) {
		vt_stream_lose(stream, damage); // there is more once it can
		return;
	}
	if (!by_copier && stream->is_given) {
		snapshots_stop_all(snapshots, VITRINE_VIEW_STOP_UNSUPPORTED);
		return;
	}
	struct wlr_buffer *target = snapshots_acquire(snapshots, source);
	if (target == NULL || !snapshots_submit(snapshots, event, damage, target, by_copier)) {
		vt_stream_fail(stream, damage);
	}
	wlr_buffer_unlock(target);
}

static void snapshots_add_stale(struct vt_snapshots *snapshots, const pixman_region32_t *damage) {
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &snapshots->stream.buffers, link) {
		vt_damage_add(&buffer->stale, damage);
	}
}

bool vt_snapshots_need_turn(const struct vt_snapshots *snapshots, struct wlr_buffer *source) {
	return snapshots->stream.is_private && !snapshots->stream.is_given &&
		vt_stream_wants_frame(&snapshots->stream) &&
		snapshots->output->renderer != NULL && !snapshots_needs_copier(snapshots, source);
}

void vt_snapshots_skip(struct vt_snapshots *snapshots, const pixman_region32_t *damage) {
	snapshots_add_stale(snapshots, damage);
	vt_stream_lose(&snapshots->stream, damage);
}

void vt_snapshots_push(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage) {
	struct vt_stream *stream = &snapshots->stream;
	snapshots_add_stale(snapshots, damage);
	if (!vt_stream_wants_frame(stream)) {
		// No subscriber could take it. One that can later on requests a frame then
		vt_stream_lose(stream, damage);
	} else if (snapshots->output->renderer == NULL) {
		vt_stream_fail(stream, damage);
	} else {
		snapshots_deliver(snapshots, event, damage);
	}
}

/* The end */

void vt_snapshots_forget(struct vt_snapshots *snapshots) {
	snapshots_drop_copier(snapshots);
	vt_stream_forget(&snapshots->stream);
	snapshots_drop_swapchain(snapshots);
}

bool vt_snapshots_init(struct vt_snapshots *snapshots, struct vt_manager *manager,
		struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
		const struct vt_stream_interface *impl, void *data) {
	snapshots->output = output;
	snapshots->common = borrowed_common;
	bool ok = vt_stream_init(&snapshots->stream, manager, impl, data);
	snapshots->stream.is_copy = true;
	return ok;
}

void vt_snapshots_finish(struct vt_snapshots *snapshots) {
	snapshots_drop_copier(snapshots);
	vt_stream_finish(&snapshots->stream);
	snapshots_drop_swapchain(snapshots);
	vt_charge_drop(&snapshots->charge);
	vt_charge_drop(&snapshots->copier_charge);
}

struct vt_snapshots *vt_snapshots_from_stream(struct vt_stream *stream) {
	assert(stream->is_copy);
	struct vt_snapshots *snapshots = wl_container_of(stream, snapshots, stream);
	return snapshots;
}
