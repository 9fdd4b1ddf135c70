/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <drm_fourcc.h>
#include <stdlib.h>
#include <wlr/config.h>
#include <wlr/render/swapchain.h>
#include <wlr/util/log.h>
#if WLR_HAS_DRM_BACKEND
#include <wlr/backend/drm.h>
#endif

#include "budget.h"
#include "capture_source.h"
#include "fence.h"
#include "memfd_buffer.h"
#include "pacer.h"
#include "private_snapshot.h"
#include "viewed_output.h"

/** So many frames in foreign buffers, and subscribers give up on zero-copy. */
#define FOREIGN_FRAMES_CAP 3
/** So many holders' fences on an output's own buffers, and none of them is shared any more. */
#define FOREIGN_FENCES_CAP 3

static void viewed_destroy(struct vt_viewed_output *viewed);
static void viewed_defer(struct vt_viewed_output *viewed);
static void viewed_stop_all(struct vt_viewed_output *viewed,
	enum vitrine_view_stop_reason reason);
static const struct vt_stream_interface stream_impl;

/** Whether a display reads the output's buffers. */
static bool output_is_scanned_out(struct wlr_output *output) {
#if WLR_HAS_DRM_BACKEND
	return wlr_output_is_drm(output);
#else
	return false;
#endif
}

/**
 * Whether holders' fences on the output's buffers would hold it up: a display that is not
 * told what to wait for waits for all.
 */
static bool viewed_waits_for_fences(const struct vt_viewed_output *viewed,
		const struct wlr_output_state *state) {
	return viewed->n_fences_found >= FOREIGN_FENCES_CAP ||
		(output_is_scanned_out(viewed->output) &&
		!(state->committed & WLR_OUTPUT_STATE_WAIT_TIMELINE));
}

static void viewed_update_fences(struct vt_viewed_output *viewed,
		const struct wlr_output_state *state) {
	bool waited = viewed->direct.is_scanned_out;
	viewed->direct.is_scanned_out = viewed_waits_for_fences(viewed, state);
	if (waited || !viewed->direct.is_scanned_out) {
		return;
	}
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &viewed->direct.subscribers, stream_link) {
		if (subscriber->guarantee == VITRINE_GUARANTEE_FD_READ_ONLY) {
			vt_viewed_output_move_later(viewed, subscriber);
		}
	}
}

/**
 * Whether a buffer of the output can be shared at all: one that we can derive
 * from, and can keep the output from drawing to later.
 */
static bool viewed_can_share(const struct vt_viewed_output *viewed,
		const struct vt_buffer *buffer) {
	struct wlr_swapchain *swapchain = viewed->output->swapchain;
	// Without a dma-buf all drawing is by the CPU, and the buffer itself puts
	// fresh memory under it; see memfd_buffer_replace_memory()
	return buffer->dmabuf.n_planes == 0 || (swapchain != NULL &&
		wlr_swapchain_has_buffer(swapchain, (struct wlr_buffer *)&buffer->base));
}

/* The choice of a stream */

static bool viewed_can_derive(const struct vt_viewed_output *viewed, struct vt_buffer *buffer,
		uint32_t acceptable) {
	// Of a nested output it is sealed later, once it was presented
	return vt_parent_exists(&viewed->parent) || vt_buffer_can_derive(buffer,
		viewed->manager->derive, acceptable, viewed->direct.is_scanned_out);
}

/**
 * Copies in memfds are shared, since they are sealed: they have to be in what each of
 * their readers reads, be it that a deeper format would do for this one.
 */
static bool viewed_can_have_shared_copies(const struct vt_subscriber *subscriber) {
	return (subscriber->allowed & VITRINE_GUARANTEE_SNAPSHOT) &&
		(subscriber->reader.storages & VITRINE_STORAGE_MEMFD) &&
		vt_reader_takes_cpu_format(&subscriber->reader, DRM_FORMAT_XRGB8888);
}

/** The zero-copy guarantees that the subscriber could have with this buffer, which may be NULL. */
static uint32_t viewed_get_zero_copy(const struct vt_viewed_output *viewed,
		const struct vt_subscriber *subscriber, const struct vt_buffer *buffer) {
	return buffer == NULL || subscriber->lacks_zero_copy || !viewed_can_share(viewed, buffer) ? 0 :
		subscriber->allowed & vt_buffer_get_readable(buffer, &subscriber->reader);
}

/** Bytes of a copy of the output. */
static size_t viewed_measure_copy(const struct vt_viewed_output *viewed) {
	return vt_memfd_buffer_measure(viewed->output->width, viewed->output->height, 4);
}

/** Whether there is room for the subscriber in a stream; if not, there will be in none. */
static bool viewed_admit(struct vt_stream *stream, struct vt_subscriber *subscriber, size_t size) {
	subscriber->lacks_room = subscriber->lacks_room ||
		!vt_stream_admit(stream, subscriber, size);
	return !subscriber->lacks_room;
}

/** The stream that the subscriber can share with others, with this buffer. NULL if none. */
static struct vt_stream *viewed_choose_stream(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber, struct vt_buffer *buffer) {
	struct vt_stream *copies = &viewed->snapshots.stream;
	uint32_t zero_copy = viewed_get_zero_copy(viewed, subscriber, buffer);
	if (zero_copy != 0 && viewed_can_derive(viewed, buffer, zero_copy) &&
			viewed_admit(&viewed->direct, subscriber, buffer->memory_size)) {
		return &viewed->direct;
	}
	return viewed_can_have_shared_copies(subscriber) &&
		viewed_admit(copies, subscriber, viewed_measure_copy(viewed)) ? copies : NULL;
}

/** A stream of dma-bufs for the subscriber alone; NULL, maybe with another reason, if it has none. */
static struct vt_stream *viewed_add_given(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber, enum vitrine_view_stop_reason *reason) {
	if (!(subscriber->allowed & VITRINE_GUARANTEE_SNAPSHOT) ||
			!(subscriber->reader.storages & VITRINE_STORAGE_DMABUF)) {
		return NULL;
	}
	struct vt_snapshots *snapshots = vt_given_snapshots_create(viewed->manager,
		viewed->output, &viewed->snapshots_common, subscriber, &stream_impl, viewed, reason);
	if (snapshots == NULL) {
		return NULL;
	}
	wl_list_insert(&viewed->private_snapshots, &snapshots->link);
	return &snapshots->stream;
}

/** A stream of copies in memfds for the sessions of the subscriber's holder. NULL if none. */
static struct vt_stream *viewed_get_private(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	struct vt_snapshots *snapshots;
	wl_list_for_each(snapshots, &viewed->private_snapshots, link) {
		if (!snapshots->stream.is_given &&
				snapshots->stream.reserve_for.quota == subscriber->quota) {
			return &snapshots->stream;
		}
	}
	snapshots = vt_private_snapshots_create(viewed->manager, viewed->output,
		&viewed->snapshots_common, subscriber, viewed_measure_copy(viewed), &stream_impl, viewed);
	if (snapshots == NULL) {
		return NULL;
	}
	wl_list_insert(viewed->private_snapshots.prev, &snapshots->link);
	return &snapshots->stream;
}

/** A stream that is not shared with other holders; NULL, maybe with another reason, if none. */
static struct vt_stream *viewed_add_private(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber, enum vitrine_view_stop_reason *reason) {
	struct vt_stream *stream = NULL;
	if (viewed_can_have_shared_copies(subscriber)) {
		*reason = VITRINE_VIEW_STOP_NO_RESOURCES;
		stream = viewed_get_private(viewed, subscriber);
	}
	return stream != NULL ? stream : viewed_add_given(viewed, subscriber, reason);
}

static void viewed_attach(struct vt_viewed_output *viewed, struct vt_subscriber *subscriber,
		struct vt_stream *stream) {
	vt_stream_add_subscriber(stream, subscriber);
	viewed->n_unattached--;
}

static void viewed_attach_all(struct vt_viewed_output *viewed, struct vt_buffer *buffer) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &viewed->subscribers, output_link) {
		if (subscriber->state != VT_SUBSCRIBER_UNATTACHED) {
			continue;
		}
		struct vt_stream *stream = viewed_choose_stream(viewed, subscriber, buffer);
		// What could not be derived, and was not refused either, may be another time
		bool is_refused = buffer == NULL || vt_buffer_has_refused(buffer,
			viewed_get_zero_copy(viewed, subscriber, buffer));
		bool lacks_resources = subscriber->lacks_zero_copy || subscriber->lacks_room;
		enum vitrine_view_stop_reason reason = is_refused && !lacks_resources ?
			VITRINE_VIEW_STOP_UNSUPPORTED : VITRINE_VIEW_STOP_NO_RESOURCES;
		if (stream == NULL) {
			stream = viewed_add_private(viewed, subscriber, &reason);
		}
		if (stream != NULL) {
			viewed_attach(viewed, subscriber, stream);
		} else {
			vt_viewed_output_stop_later(viewed, subscriber, reason);
		}
	}
}

/** Whether the subscriber can begin with what was kept: the output shows it, and goes on to. */
static bool viewed_has_current(const struct vt_viewed_output *viewed,
		const struct vt_subscriber *subscriber) {
	return !viewed->output->needs_frame && viewed->output->enabled && viewed->pacer == NULL &&
		!subscriber->wire->pulls && (vt_stream_has_current(&viewed->direct) ||
		vt_stream_has_current(&viewed->snapshots.stream));
}

/** The stream whose newest frame the subscriber can begin with, NULL if there is none. */
static struct vt_stream *viewed_choose_current(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	struct vt_stream *direct = &viewed->direct, *stream = &viewed->snapshots.stream;
	if (vt_stream_has_current(direct)) {
		stream = viewed_choose_stream(viewed, subscriber, direct->newest.buffer->buffer);
	} else if ((subscriber->allowed & VT_GUARANTEES_ZERO_COPY) ||
			!viewed_can_have_shared_copies(subscriber)) {
		return NULL; // whether it can have one of these, the output's next buffer tells
	}
	return stream != NULL && vt_stream_has_current_for(stream, subscriber) ? stream : NULL;
}

/** Shows the subscriber what is there, or asks for a frame. */
static void viewed_begin(struct vt_viewed_output *viewed, struct vt_subscriber *subscriber) {
	struct vt_stream *stream = viewed_has_current(viewed, subscriber) ?
		viewed_choose_current(viewed, subscriber) : NULL;
	if (stream == NULL) {
		vt_viewed_output_request_frame(viewed);
		return;
	}
	viewed_attach(viewed, subscriber, stream);
	vt_stream_serve_subscriber(stream, subscriber);
}

/* Frames */

/** The output has changed to buffers that cannot be shared: choose anew. */
static void viewed_move_direct_later(struct vt_viewed_output *viewed) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &viewed->direct.subscribers, stream_link) {
		vt_viewed_output_move_later(viewed, subscriber);
	}
}

static void viewed_submit_direct(struct vt_viewed_output *viewed,
		const struct wlr_output_event_commit *event, struct vt_buffer *vt_buffer,
		const pixman_region32_t *damage) {
	if (vt_buffer == NULL || !viewed_can_share(viewed, vt_buffer)) {
		viewed_move_direct_later(viewed);
		vt_stream_lose(&viewed->direct, damage);
		return;
	}
	struct vt_stream_buffer *buffer = vt_stream_get_buffer(&viewed->direct, vt_buffer);
	int fence_fd;
	if (buffer == NULL || !vt_render_fence(viewed->output->renderer, event->state,
			event->state->buffer, &fence_fd)) {
		vt_stream_fail(&viewed->direct, damage);
		return;
	}
	vt_stream_submit(&viewed->direct, &(struct vt_stream_frame){
		.buffer = buffer,
		.when = event->when,
		.transform = (uint32_t)viewed->output->transform,
		.damage = *damage,
		.fence_fd = fence_fd,
		.waits_for_present = vt_parent_exists(&viewed->parent),
		.commit_seq = viewed->output->commit_seq,
	});
	if (viewed->direct.newest.waits_for_present) {
		vt_parent_ask(&viewed->parent, viewed->output->commit_seq);
	}
}

/**
 * Whether a buffer cannot be shared just now, but its like may be with the next
 * frame: compositors commit a new swapchain's buffer at a change of mode before they
 * make the swapchain the output's.
 */
static bool viewed_expects_home(struct vt_viewed_output *viewed, const struct vt_buffer *buffer) {
	if (buffer == NULL || viewed_can_share(viewed, buffer)) {
		viewed->n_foreign = 0;
		return false;
	}
	return ++viewed->n_foreign <= FOREIGN_FRAMES_CAP;
}

/** Copies for single holders: of those that the event loop makes, one with each frame. */
static void viewed_push_private(struct vt_viewed_output *viewed,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage) {
	struct vt_snapshots *snapshots, *served = NULL;
	bool any_waits = false;
	wl_list_for_each(snapshots, &viewed->private_snapshots, link) {
		bool needs_turn = vt_snapshots_need_turn(snapshots, event->state->buffer);
		if (needs_turn && served != NULL) {
			vt_snapshots_skip(snapshots, damage);
			any_waits = true;
			continue;
		}
		vt_snapshots_push(snapshots, event, damage);
		served = needs_turn ? snapshots : served;
	}
	if (served != NULL) { // the next turn is that of all others
		wl_list_remove(&served->link);
		wl_list_insert(viewed->private_snapshots.prev, &served->link);
	}
	if (any_waits) {
		vt_viewed_output_request_frame(viewed);
	}
}

static void viewed_deliver(struct vt_viewed_output *viewed,
		const struct wlr_output_event_commit *event, struct vt_buffer *vt_buffer,
		bool may_come_home) {
	struct wlr_buffer *buffer = event->state->buffer;
	pixman_region32_t damage;
	if (event->state->committed & WLR_OUTPUT_STATE_DAMAGE) {
		pixman_region32_init(&damage);
		vt_damage_add(&damage, &event->state->damage);
		vt_damage_clip(&damage, buffer->width, buffer->height);
	} else {
		pixman_region32_init_rect(&damage, 0, 0, (unsigned)buffer->width,
			(unsigned)buffer->height);
	}
	if (may_come_home) {
		vt_stream_lose(&viewed->direct, &damage);
		vt_viewed_output_request_frame(viewed);
	} else if (!wl_list_empty(&viewed->direct.subscribers)) {
		viewed_submit_direct(viewed, event, vt_buffer, &damage);
	} else {
		vt_stream_forget(&viewed->direct);
	}
	if (!wl_list_empty(&viewed->snapshots.stream.subscribers)) {
		vt_snapshots_push(&viewed->snapshots, event, &damage);
	} else {
		vt_snapshots_forget(&viewed->snapshots);
	}
	viewed_push_private(viewed, event, &damage);
	pixman_region32_fini(&damage);
}

void vt_viewed_output_announce_power(const struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	// What a capture source is drawn to is on when it is drawn
	if (viewed->pacer == NULL) {
		vt_subscriber_announce_power(subscriber, viewed->output->enabled);
	}
}

static void viewed_announce_power(struct vt_viewed_output *viewed) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &viewed->subscribers, output_link) {
		vt_viewed_output_announce_power(viewed, subscriber);
	}
}

static void viewed_handle_output_commit(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *viewed = wl_container_of(listener, viewed, output_commit);
	const struct wlr_output_event_commit *event = data;
	if (event->state->committed & WLR_OUTPUT_STATE_ENABLED) {
		viewed_announce_power(viewed); // before the first frame
		viewed_defer(viewed); // whether it is gone is known once all has been done to it
	}
	if (!(event->state->committed & WLR_OUTPUT_STATE_BUFFER)) {
		return;
	}
	if (wl_list_empty(&viewed->subscribers)) {
		vt_stream_prepare_memory(&viewed->direct);
		viewed_destroy(viewed); // what it was kept for is not on the screen any more
		return;
	}

	if (viewed->wants_deferred) {
		viewed_defer(viewed);
	}

	viewed_update_fences(viewed, event->state);
	struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(event->state->buffer);
	bool may_come_home = viewed_expects_home(viewed, vt_buffer);
	if (viewed->n_unattached > 0 && !may_come_home) {
		viewed_attach_all(viewed, vt_buffer);
	}
	viewed_deliver(viewed, event, vt_buffer, may_come_home);
	if (viewed->pacer != NULL) {
		vt_pacer_handle_commit(viewed->pacer);
	}
}

static void viewed_handle_output_present(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *viewed = wl_container_of(listener, viewed, output_present);
	const struct wlr_output_event_present *event = data;
	vt_parent_handle_present(&viewed->parent, event->commit_seq);
	vt_viewed_output_check_fences(viewed); // last, before the next frame is drawn
}

static void viewed_handle_parent_done(struct vt_parent *parent, uint32_t commit_seq) {
	struct vt_viewed_output *viewed = wl_container_of(parent, viewed, parent);
	vt_stream_handle_present(&viewed->direct, commit_seq);
}

void vt_viewed_output_request_frame(struct vt_viewed_output *viewed) {
	if (viewed->pacer != NULL) {
		vt_pacer_request_frame(viewed->pacer);
	} else {
		// As wlr_scene does, but also if a frame was asked for that could not be drawn
		wlr_output_schedule_frame(viewed->output);
	}
}

static void viewed_handle_stream_request_frame(void *data) {
	vt_viewed_output_request_frame(data);
}

static bool viewed_copies(void *data, const struct vt_buffer *buffer) {
	const struct vt_viewed_output *viewed = data;
	return viewed->snapshots_common.n_readers > 0 &&
		viewed->snapshots_common.source == &buffer->base;
}

static const struct vt_stream_interface stream_impl = {
	.request_frame = viewed_handle_stream_request_frame,
	.is_copied = viewed_copies,
};

/* Retirement */

/**
 * Whether the output would go on to use the memory of a buffer, even if it is
 * replaced: a dma-buf, or memory that the display server around us has mapped.
 */
static bool viewed_must_drop(const struct vt_viewed_output *viewed,
		const struct vt_buffer *buffer) {
	struct wlr_swapchain *swapchain = viewed->output->swapchain;
	return (vt_parent_exists(&viewed->parent) || !vt_buffer_can_replace_memory(buffer)) &&
		swapchain != NULL &&
		wlr_swapchain_has_buffer(swapchain, (struct wlr_buffer *)&buffer->base);
}

/**
 * "The memory that the client can reach through them never changes again": the
 * announced buffers get other memory before they are drawn to. Those that cannot are
 * taken away from the output, which draws to new ones then.
 */
static void viewed_retire_direct(struct vt_viewed_output *viewed,
		const struct vt_subscriber *leaver, struct vt_quota *cause) {
	struct wlr_output *output = viewed->output;
	bool must_drop = false;
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &viewed->direct.buffers, link) {
		must_drop |= vt_stream_buffer_is_known(buffer, leaver) &&
			viewed_must_drop(viewed, buffer->buffer);
	}
	vt_stream_retire(&viewed->direct, leaver, cause);
	if (must_drop) {
		// Buffers that no client holds are destroyed by this
		wlr_swapchain_destroy(output->swapchain);
		output->swapchain = NULL;
	}
}

/** The memory of a stream that a subscriber has left, which knows it, retires. */
static void viewed_retire(struct vt_viewed_output *viewed, struct vt_stream *stream,
		const struct vt_subscriber *leaver, struct vt_quota *cause) {
	if (stream == &viewed->direct) {
		viewed_retire_direct(viewed, leaver, cause);
	} else {
		vt_snapshots_retire(vt_snapshots_from_stream(stream), leaver, cause);
	}
	if (!wl_list_empty(&stream->subscribers)) {
		vt_viewed_output_request_frame(viewed); // for those that waited for a retired one
	}
}

void vt_viewed_output_check_fences(struct vt_viewed_output *viewed) {
	if (!vt_stream_has_foreign_fence(&viewed->direct)) {
		return;
	}
	viewed->n_fences_found++; // from the last one on the next frame moves the holders away
	wlr_log(WLR_INFO, "A holder's fence on a buffer of %s, which is not drawn to any more",
		viewed->output->name);
	viewed_retire_direct(viewed, NULL, NULL);
	vt_viewed_output_request_frame(viewed);
}

static void viewed_detach(struct vt_viewed_output *viewed, struct vt_subscriber *subscriber) {
	struct vt_stream *stream = subscriber->stream;
	bool is_known = vt_stream_is_known_to(stream, subscriber);
	// A holder pays for its own ends alone, and not if it moves for what others keep
	bool is_end = subscriber->state != VT_SUBSCRIBER_MOVING;
	vt_stream_remove_subscriber(stream, subscriber);
	if (is_known) {
		viewed_retire(viewed, stream, subscriber, is_end ? subscriber->quota : NULL);
	}
	vt_stream_take_reserve(stream, subscriber);
	if (stream->is_private && wl_list_empty(&stream->subscribers)) {
		vt_private_snapshots_destroy(vt_snapshots_from_stream(stream));
		if (vt_snapshots_common_take_missed(&viewed->snapshots_common)) {
			vt_viewed_output_request_frame(viewed);
		}
	}
}

/* What has to wait for the end of a commit */

static void viewed_move(struct vt_viewed_output *viewed, struct vt_subscriber *subscriber) {
	vt_subscriber_revoke_all(subscriber);
	viewed_detach(viewed, subscriber);
	vt_subscriber_announce_all_retired(subscriber);
	if (subscriber->state == VT_SUBSCRIBER_MOVING) { // else it keeps too much by this
		vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_UNATTACHED);
		viewed->n_unattached++;
	}
	vt_viewed_output_request_frame(viewed);
}

/**
 * "An output that is off and has no wl_output global does not exist any more": no client can
 * name it, and if it comes back it is by another global.
 */
static bool viewed_is_gone(const struct vt_viewed_output *viewed) {
	return !viewed->output->enabled && viewed->output->global == NULL && viewed->pacer == NULL;
}

static struct vt_subscriber *viewed_find_stopping(struct vt_viewed_output *viewed) {
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &viewed->subscribers, output_link) {
		if (subscriber->state == VT_SUBSCRIBER_STOPPING) {
			return subscriber;
		}
	}
	return NULL;
}

static void viewed_handle_deferred(void *data) {
	struct vt_viewed_output *viewed = data;
	viewed->deferred = NULL;
	if (viewed_is_gone(viewed)) {
		viewed_stop_all(viewed, VITRINE_VIEW_STOP_SOURCE_GONE);
		return;
	}
	struct vt_subscriber *subscriber;
	while ((subscriber = viewed_find_stopping(viewed)) != NULL) {
		subscriber->impl->stop(subscriber, subscriber->stop_reason);
	}
	// From here on subscribers are stopped later at the earliest
	wl_list_for_each(subscriber, &viewed->subscribers, output_link) {
		if (subscriber->state == VT_SUBSCRIBER_MOVING) {
			viewed_move(viewed, subscriber);
		} else if (subscriber->state == VT_SUBSCRIBER_UNATTACHED) {
			viewed_begin(viewed, subscriber);
		}
	}
}

static void viewed_defer(struct vt_viewed_output *viewed) {
	if (viewed->deferred == NULL) {
		viewed->deferred =
			wl_event_loop_add_idle(viewed->manager->loop, viewed_handle_deferred, viewed);
		viewed->wants_deferred = viewed->deferred == NULL;
		if (viewed->wants_deferred) {
			wlr_log(WLR_ERROR, "Allocation failed"); // the next commit tries again
			vt_viewed_output_request_frame(viewed);
		}
	}
}

void vt_viewed_output_stop_later(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber, enum vitrine_view_stop_reason reason) {
	if (subscriber->state == VT_SUBSCRIBER_UNATTACHED) {
		viewed->n_unattached--;
	}
	vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_STOPPING);
	subscriber->stop_reason = reason;
	viewed_defer(viewed);
}

void vt_viewed_output_move_later(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	if (subscriber->state == VT_SUBSCRIBER_ATTACHED) {
		vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_MOVING);
	} // else it goes already
	viewed_defer(viewed);
}

/* Subscribers */

static void viewed_stop_all(struct vt_viewed_output *viewed,
		enum vitrine_view_stop_reason reason) {
	while (!wl_list_empty(&viewed->subscribers)) {
		struct vt_subscriber *subscriber =
			wl_container_of(viewed->subscribers.next, subscriber, output_link);
		subscriber->impl->stop(subscriber, reason);
	}
}

static void viewed_handle_capture_source_destroy(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *viewed = wl_container_of(listener, viewed, capture_source_destroy);
	vt_pacer_forget_source(viewed->pacer);
	viewed_stop_all(viewed, VITRINE_VIEW_STOP_SOURCE_GONE);
}

/** False on allocation failure. */
static bool viewed_start(struct vt_viewed_output *viewed) {
	struct vt_capture_source *capture_source =
		vt_capture_source_from_output(viewed->manager, viewed->output);
	if (capture_source != NULL) {
		viewed->pacer = vt_pacer_create(capture_source);
		if (viewed->pacer == NULL) {
			return false;
		}
		wl_signal_add(&capture_source->events.destroy, &viewed->capture_source_destroy);
	}
	// Without it, a client's own buffer could be on the screen
	wlr_output_lock_attach_render(viewed->output, true);
	return true;
}

static void viewed_stop(struct vt_viewed_output *viewed) {
	wlr_output_lock_attach_render(viewed->output, false);
	vt_pacer_destroy(viewed->pacer);
	viewed->pacer = NULL;
	wl_list_remove(&viewed->capture_source_destroy.link);
	wl_list_init(&viewed->capture_source_destroy.link);
}

bool vt_viewed_output_add_subscriber(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	if (wl_list_empty(&viewed->subscribers) && !viewed_start(viewed)) {
		return false;
	}
	if (subscriber->options & VITRINE_VIEW_OPTION_PAINT_CURSORS) {
		vt_painted_cursors_lock(&viewed->cursors);
	}
	wl_list_insert(viewed->subscribers.prev, &subscriber->output_link);
	vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_UNATTACHED);
	viewed->n_unattached++;
	// Asked for a frame, a compositor may draw at once
	viewed_defer(viewed);
	return true;
}

void vt_viewed_output_remove_subscriber(struct vt_viewed_output *viewed,
		struct vt_subscriber *subscriber) {
	if (subscriber->stream != NULL) {
		viewed_detach(viewed, subscriber);
	} else if (subscriber->state == VT_SUBSCRIBER_UNATTACHED) {
		viewed->n_unattached--;
	}
	if (subscriber->options & VITRINE_VIEW_OPTION_PAINT_CURSORS) {
		vt_painted_cursors_unlock(&viewed->cursors);
	}
	wl_list_remove(&subscriber->output_link);
	wl_list_init(&subscriber->output_link);
	vt_subscriber_set_state(subscriber, VT_SUBSCRIBER_APART);
	if (wl_list_empty(&viewed->subscribers)) {
		viewed_stop(viewed);
	}
}

/* Lifetime */

/** It must have no subscribers any more. */
static void viewed_destroy(struct vt_viewed_output *viewed) {
	assert(wl_list_empty(&viewed->subscribers) && wl_list_empty(&viewed->private_snapshots));
	vt_parent_finish(&viewed->parent);
	vt_quota_screen_remove(&viewed->screen);
	vt_stream_finish(&viewed->direct);
	vt_snapshots_finish(&viewed->snapshots);
	vt_snapshots_common_finish(&viewed->snapshots_common);
	if (viewed->deferred != NULL) {
		wl_event_source_remove(viewed->deferred);
	}
	wl_list_remove(&viewed->output_commit.link);
	wl_list_remove(&viewed->output_present.link);
	wlr_addon_finish(&viewed->addon);
	wl_list_remove(&viewed->link);
	free(viewed);
}

void vt_viewed_output_destroy(struct vt_viewed_output *viewed,
		enum vitrine_view_stop_reason reason) {
	vt_painted_cursors_forget(&viewed->cursors); // the output may be about to go
	viewed_stop_all(viewed, reason);
	viewed_destroy(viewed);
}

static void viewed_handle_addon_destroy(struct wlr_addon *addon) {
	struct vt_viewed_output *viewed = wl_container_of(addon, viewed, addon);
	vt_viewed_output_destroy(viewed, VITRINE_VIEW_STOP_SOURCE_GONE);
}

static const struct wlr_addon_interface viewed_addon_impl = {
	.name = "vitrine_viewed_output",
	.destroy = viewed_handle_addon_destroy,
};

/** A window has the size that its client gives it, and is no reason to keep more. */
static void viewed_init_screen(struct vt_viewed_output *viewed) {
	wl_list_init(&viewed->screen.link);
	if (vt_capture_source_from_output(viewed->manager, viewed->output) == NULL) {
		vt_quota_screen_add(&viewed->screen, &viewed->manager->quotas);
		viewed->direct.screen = viewed->snapshots.stream.screen = &viewed->screen;
	}
}

static struct vt_viewed_output *viewed_create(struct vt_manager *manager,
		struct wlr_output *output) {
	struct vt_viewed_output *viewed = calloc(1, sizeof(*viewed));
	if (viewed == NULL) {
		return NULL;
	}
	viewed->manager = manager;
	viewed->output = output;
	vt_painted_cursors_init(&viewed->cursors, output);
	vt_parent_init(&viewed->parent, output, viewed_handle_parent_done);
	wl_list_init(&viewed->subscribers);
	wl_list_init(&viewed->private_snapshots);
	// Both, so that both can be finished
	bool ok = vt_stream_init(&viewed->direct, manager, &stream_impl, viewed);
	ok &= vt_snapshots_init(&viewed->snapshots, manager, output, &viewed->snapshots_common,
		&stream_impl, viewed);
	if (!ok) {
		vt_stream_finish(&viewed->direct);
		vt_snapshots_finish(&viewed->snapshots);
		free(viewed);
		return NULL;
	}
	viewed->direct.is_scanned_out = output_is_scanned_out(output);
	viewed_init_screen(viewed);
	return viewed;
}

struct vt_viewed_output *vt_viewed_output_get(struct vt_manager *manager,
		struct wlr_output *output) {
	struct vt_viewed_output *viewed;
	struct wlr_addon *addon = wlr_addon_find(&output->addons, manager, &viewed_addon_impl);
	if (addon != NULL) {
		viewed = wl_container_of(addon, viewed, addon);
		return viewed;
	}
	viewed = viewed_create(manager, output);
	if (viewed == NULL) {
		return NULL;
	}
	wlr_addon_init(&viewed->addon, &output->addons, manager, &viewed_addon_impl);
	wl_list_insert(&manager->viewed_outputs, &viewed->link);
	viewed->output_commit.notify = viewed_handle_output_commit;
	wl_signal_add(&output->events.commit, &viewed->output_commit);
	viewed->output_present.notify = viewed_handle_output_present;
	wl_signal_add(&output->events.present, &viewed->output_present);
	viewed->capture_source_destroy.notify = viewed_handle_capture_source_destroy;
	wl_list_init(&viewed->capture_source_destroy.link);
	return viewed;
}
