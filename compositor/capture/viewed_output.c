/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <wlr/backend/wayland.h>
#include <wlr/config.h>
#include <wlr/render/swapchain.h>
#include <wlr/util/log.h>
#if WLR_HAS_DRM_BACKEND
#include <wlr/backend/drm.h>
#endif
#if WLR_HAS_X11_BACKEND
#include <wlr/backend/x11.h>
#endif

#include "capture_source.h"
#include "fence.h"
#include "manager.h"
#include "pacer.h"
#include "session.h"
#include "viewed_output.h"

/** So many frames in foreign buffers, and sessions give up on zero-copy. */
#define FOREIGN_FRAMES_CAP 3

static void source_destroy(struct vt_viewed_output *source);

/** Whether the output's buffers are shown by another display server. */
static bool output_is_nested(struct wlr_output *output) {
#if WLR_HAS_X11_BACKEND
	if (wlr_output_is_x11(output)) {
		return true;
	}
#endif
	return wlr_output_is_wl(output);
}

/** Whether a display reads the output's buffers. */
static bool output_is_scanned_out(struct wlr_output *output) {
#if WLR_HAS_DRM_BACKEND
	return wlr_output_is_drm(output);
#else
	return false;
#endif
}

/**
 * Whether a buffer of the output can be shared at all: one that we can derive
 * from, and can keep the output from drawing to later.
 */
static bool source_can_share(const struct vt_viewed_output *source,
		const struct vt_buffer *buffer) {
	struct wlr_swapchain *swapchain = source->output->swapchain;
	// Without a dma-buf all drawing is by the CPU, and the buffer itself puts
	// fresh memory under it; see memfd_buffer_replace_memory()
	return buffer->dmabuf.n_planes == 0 || (swapchain != NULL &&
		wlr_swapchain_has_buffer(swapchain, (struct wlr_buffer *)&buffer->base));
}

/* The choice of a stream */

static bool source_can_derive(const struct vt_viewed_output *source, struct vt_buffer *buffer,
		uint32_t acceptable) {
	if (output_is_nested(source->output)) {
		return true; // sealed later, once it was presented
	}
	return vt_buffer_can_derive(buffer, source->manager->derive, acceptable,
		source->direct.is_scanned_out);
}

/** NULL if no guarantee can be given to the session with this buffer. */
static struct vt_stream *source_choose_stream(struct vt_viewed_output *source,
		const struct vitrine_view_session_v1 *session, struct vt_buffer *buffer) {
	uint32_t zero_copy = session->allowed & VT_GUARANTEES_ZERO_COPY;
	if (buffer != NULL && zero_copy != 0 && source_can_share(source, buffer) &&
			source_can_derive(source, buffer, zero_copy)) {
		return &source->direct;
	}
	return session->allowed & VITRINE_GUARANTEE_SNAPSHOT ? &source->snapshots.stream : NULL;
}

static bool session_is_unattached(const struct vitrine_view_session_v1 *session) {
	return session->stream == NULL && session->deferred == VT_SESSION_DEFER_NOTHING;
}

static void source_attach_session(struct vt_viewed_output *source,
		struct vitrine_view_session_v1 *session, struct vt_stream *stream) {
	vt_stream_add_session(stream, session);
	source->n_unattached--;
}

static void source_attach_sessions(struct vt_viewed_output *source, struct vt_buffer *buffer) {
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &source->sessions, link) {
		if (!session_is_unattached(session)) {
			continue;
		}
		struct vt_stream *stream = source_choose_stream(source, session, buffer);
		if (stream == NULL) {
			vt_session_stop_later(session, VITRINE_VIEW_STOP_UNSUPPORTED);
			continue;
		}
		source_attach_session(source, session, stream);
	}
}

/** Whether the session can begin with what was kept: the output shows it, and goes on to. */
static bool source_has_current(const struct vt_viewed_output *source,
		const struct vitrine_view_session_v1 *session) {
	return !source->output->needs_frame && source->output->enabled && source->pacer == NULL &&
		!session->impl->pulls && (vt_stream_has_current(&source->direct) ||
		vt_stream_has_current(&source->snapshots.stream));
}

/** The stream whose newest frame the session can begin with, NULL if there is none. */
static struct vt_stream *source_choose_current(struct vt_viewed_output *source,
		const struct vitrine_view_session_v1 *session) {
	struct vt_stream *direct = &source->direct, *stream = &source->snapshots.stream;
	if (vt_stream_has_current(direct)) {
		stream = source_choose_stream(source, session, direct->newest.buffer->buffer);
	} else if (session->allowed & VT_GUARANTEES_ZERO_COPY) {
		return NULL; // whether it can have one of these, the output's next buffer tells
	}
	return stream != NULL && vt_stream_has_current(stream) ? stream : NULL;
}

/** Shows the session what is there, or asks for a frame. */
static void source_begin(struct vt_viewed_output *source, struct vitrine_view_session_v1 *session) {
	struct vt_stream *stream =
		source_has_current(source, session) ? source_choose_current(source, session) : NULL;
	if (stream == NULL) {
		vt_viewed_output_request_frame(source);
		return;
	}
	source_attach_session(source, session, stream);
	session->has_just_begun = true;
	vt_stream_serve_session(stream, session);
}

/** The output has changed to buffers that cannot be shared: choose anew. */
static void source_detach_direct_sessions(struct vt_viewed_output *source) {
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &source->direct.sessions, stream_link) {
		if (session->deferred == VT_SESSION_DEFER_NOTHING) {
			session->deferred = VT_SESSION_DEFER_DETACH;
		}
	}
	vt_viewed_output_defer(source);
}

/* Frames */

static void source_submit_direct(struct vt_viewed_output *source,
		const struct wlr_output_event_commit *event, struct vt_buffer *vt_buffer,
		const pixman_region32_t *damage) {
	if (vt_buffer == NULL || !source_can_share(source, vt_buffer)) {
		source_detach_direct_sessions(source);
		vt_stream_lose(&source->direct, damage);
		return;
	}
	struct vt_stream_buffer *buffer = vt_stream_get_buffer(&source->direct, vt_buffer);
	if (buffer == NULL) {
		vt_stream_fail(&source->direct, damage);
		return;
	}
	vt_stream_submit(&source->direct, &(struct vt_stream_frame){
		.buffer = buffer,
		.when = event->when,
		.transform = (uint32_t)source->output->transform,
		.damage = *damage,
		.fence_fd = vt_render_fence(source->output->renderer, event->state,
			event->state->buffer),
		.waits_for_present = output_is_nested(source->output),
		.commit_seq = source->output->commit_seq,
	});
}

/**
 * Whether a buffer cannot be shared just now, but its like may be with the next
 * frame: compositors commit a new swapchain's buffer at a change of mode before they
 * make the swapchain the output's.
 */
static bool source_expects_home(struct vt_viewed_output *source, const struct vt_buffer *buffer) {
	if (buffer == NULL || source_can_share(source, buffer)) {
		source->n_foreign = 0;
		return false;
	}
	return ++source->n_foreign <= FOREIGN_FRAMES_CAP;
}

static void source_deliver(struct vt_viewed_output *source,
		const struct wlr_output_event_commit *event, struct vt_buffer *vt_buffer,
		bool may_come_home) {
	struct wlr_buffer *buffer = event->state->buffer;
	pixman_region32_t damage;
	if (event->state->committed & WLR_OUTPUT_STATE_DAMAGE) {
		pixman_region32_init(&damage);
		pixman_region32_intersect_rect(&damage, &event->state->damage, 0, 0,
			(unsigned)buffer->width, (unsigned)buffer->height);
	} else {
		pixman_region32_init_rect(&damage, 0, 0, (unsigned)buffer->width,
			(unsigned)buffer->height);
	}
	if (may_come_home) {
		vt_stream_lose(&source->direct, &damage);
		vt_viewed_output_request_frame(source);
	} else if (!wl_list_empty(&source->direct.sessions)) {
		source_submit_direct(source, event, vt_buffer, &damage);
	} else {
		vt_stream_forget(&source->direct);
	}
	if (!wl_list_empty(&source->snapshots.stream.sessions)) {
		vt_snapshots_push(&source->snapshots, event, &damage);
	} else {
		vt_snapshots_forget(&source->snapshots);
	}
	pixman_region32_fini(&damage);
}

static void source_handle_output_commit(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *source = wl_container_of(listener, source, output_commit);
	const struct wlr_output_event_commit *event = data;
	if (!(event->state->committed & WLR_OUTPUT_STATE_BUFFER)) {
		return;
	}
	if (wl_list_empty(&source->sessions)) {
		vt_stream_prepare_memory(&source->direct);
		source_destroy(source); // what it was kept for is not on the screen any more
		return;
	}

	if (source->wants_deferred) {
		vt_viewed_output_defer(source);
	}

	struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(event->state->buffer);
	bool may_come_home = source_expects_home(source, vt_buffer);
	if (source->n_unattached > 0 && !may_come_home) {
		source_attach_sessions(source, vt_buffer);
	}
	source_deliver(source, event, vt_buffer, may_come_home);
	if (source->pacer != NULL) {
		vt_pacer_handle_commit(source->pacer);
	}
}

static void source_handle_output_present(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *source = wl_container_of(listener, source, output_present);
	const struct wlr_output_event_present *event = data;
	vt_stream_handle_present(&source->direct, event->commit_seq);
}

void vt_viewed_output_request_frame(struct vt_viewed_output *source) {
	if (source->pacer != NULL) {
		vt_pacer_request_frame(source->pacer);
	} else {
		// As wlr_scene does, but also if a frame was asked for that could not be drawn
		wlr_output_schedule_frame(source->output);
	}
}

static void source_handle_stream_request_frame(void *data) {
	vt_viewed_output_request_frame(data);
}

static const struct vt_stream_interface stream_impl = {
	.request_frame = source_handle_stream_request_frame,
};

/* Retirement */

/**
 * Whether the output would go on to use the memory of a buffer, whatever is done to
 * it: a dma-buf, or memory that the display server around us has mapped.
 */
static bool source_must_drop(const struct vt_viewed_output *source, const struct vt_buffer *buffer) {
	return (output_is_nested(source->output) || !vt_buffer_can_replace_memory(buffer)) &&
		source->output->swapchain != NULL &&
		wlr_swapchain_has_buffer(source->output->swapchain, (struct wlr_buffer *)&buffer->base);
}

/**
 * "The memory that the client can reach through them never changes again": the
 * announced buffers get other memory before they are drawn to. Those that cannot are
 * taken away from the output, which draws to new ones then.
 */
static void source_retire_direct(struct vt_viewed_output *source) {
	struct wlr_output *output = source->output;
	bool must_drop = false;
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &source->direct.buffers, link) {
		must_drop |= buffer->quotas.size > 0 && source_must_drop(source, buffer->buffer);
	}
	vt_stream_retire(&source->direct);
	if (must_drop) {
		// Buffers that nobody holds are destroyed by this
		wlr_swapchain_destroy(output->swapchain);
		output->swapchain = NULL;
	}
}

static void source_detach_session(struct vt_viewed_output *source,
		struct vitrine_view_session_v1 *session) {
	struct vt_stream *stream = session->stream;
	bool is_known = vt_stream_is_known_to(stream, session);
	vt_stream_remove_session(stream, session);
	if (!is_known) {
		return;
	}
	if (stream == &source->direct) {
		source_retire_direct(source);
	} else {
		vt_snapshots_retire(&source->snapshots);
	}
	if (!wl_list_empty(&stream->sessions)) {
		vt_viewed_output_request_frame(source); // for those who waited for a retired one
	}
}

/* Sessions */

static void source_handle_deferred(void *data) {
	struct vt_viewed_output *source = data;
	source->deferred = NULL;
	struct vitrine_view_session_v1 *session, *tmp;
	wl_list_for_each_safe(session, tmp, &source->sessions, link) {
		if (session->deferred == VT_SESSION_DEFER_STOP) {
			vt_session_stop(session, session->deferred_reason);
		} else if (session->deferred == VT_SESSION_DEFER_DETACH) {
			session->deferred = VT_SESSION_DEFER_NOTHING;
			vt_session_take_back_all(session);
			source_detach_session(source, session);
			source->n_unattached++;
			vt_viewed_output_request_frame(source);
		} else if (session_is_unattached(session)) {
			source_begin(source, session);
		}
	}
}

void vt_viewed_output_defer(struct vt_viewed_output *source) {
	if (source->deferred == NULL) {
		source->deferred =
			wl_event_loop_add_idle(source->manager->loop, source_handle_deferred, source);
		if (source->deferred == NULL) {
			wlr_log(WLR_ERROR, "Allocation failed"); // the next commit tries again
		}
		source->wants_deferred = source->deferred == NULL;
	}
}

static void source_handle_capture_source_destroy(struct wl_listener *listener, void *data) {
	struct vt_viewed_output *source = wl_container_of(listener, source, capture_source_destroy);
	vt_pacer_forget_source(source->pacer);
	vt_viewed_output_stop_sessions(source, VITRINE_VIEW_STOP_SOURCE_GONE);
}

/** False on allocation failure. */
static bool source_start(struct vt_viewed_output *source) {
	struct vt_capture_source *capture_source =
		vt_capture_source_from_output(source->manager, source->output);
	if (capture_source != NULL) {
		source->pacer = vt_pacer_create(capture_source);
		if (source->pacer == NULL) {
			return false;
		}
		wl_signal_add(&capture_source->events.destroy, &source->capture_source_destroy);
	}
	// Without it, a client's own buffer could be on the screen
	wlr_output_lock_attach_render(source->output, true);
	return true;
}

static void source_stop(struct vt_viewed_output *source) {
	wlr_output_lock_attach_render(source->output, false);
	vt_pacer_destroy(source->pacer);
	source->pacer = NULL;
	wl_list_remove(&source->capture_source_destroy.link);
	wl_list_init(&source->capture_source_destroy.link);
}

bool vt_viewed_output_add_session(struct vt_viewed_output *source,
		struct vitrine_view_session_v1 *session) {
	if (wl_list_empty(&source->sessions) && !source_start(source)) {
		return false;
	}
	session->source = source;
	wl_list_insert(source->sessions.prev, &session->link);
	source->n_unattached++;
	if (session->options & VITRINE_VIEW_OPTION_PAINT_CURSORS) {
		wlr_output_lock_software_cursors(source->output, true);
	}
	if (source_has_current(source, session)) {
		vt_viewed_output_defer(source); // see source_begin()
	}
	if (source->deferred == NULL) {
		vt_viewed_output_request_frame(source);
	}
	return true;
}

/** It must have no sessions any more. */
static void source_destroy(struct vt_viewed_output *source) {
	assert(wl_list_empty(&source->sessions));
	vt_stream_finish(&source->direct);
	vt_snapshots_finish(&source->snapshots);
	if (source->deferred != NULL) {
		wl_event_source_remove(source->deferred);
	}
	wl_list_remove(&source->output_commit.link);
	wl_list_remove(&source->output_present.link);
	wlr_addon_finish(&source->addon);
	wl_list_remove(&source->link);
	free(source);
}

void vt_viewed_output_remove_session(struct vt_viewed_output *source,
		struct vitrine_view_session_v1 *session) {
	assert(session->source == source);
	if (session->stream != NULL) {
		source_detach_session(source, session);
	} else {
		source->n_unattached--;
	}
	if (session->options & VITRINE_VIEW_OPTION_PAINT_CURSORS) {
		wlr_output_lock_software_cursors(source->output, false);
	}
	wl_list_remove(&session->link);
	session->source = NULL;
	if (wl_list_empty(&source->sessions)) {
		source_stop(source);
	}
}

void vt_viewed_output_stop_sessions(struct vt_viewed_output *source,
		enum vitrine_view_stop_reason reason) {
	struct vitrine_view_session_v1 *session, *tmp;
	wl_list_for_each_safe(session, tmp, &source->sessions, link) {
		vt_session_stop(session, reason);
	}
}

void vt_viewed_output_destroy(struct vt_viewed_output *source, enum vitrine_view_stop_reason reason) {
	vt_viewed_output_stop_sessions(source, reason);
	source_destroy(source);
}

static void source_handle_addon_destroy(struct wlr_addon *addon) {
	struct vt_viewed_output *source = wl_container_of(addon, source, addon);
	vt_viewed_output_destroy(source, VITRINE_VIEW_STOP_SOURCE_GONE);
}

static const struct wlr_addon_interface source_addon_impl = {
	.name = "vitrine_view_source",
	.destroy = source_handle_addon_destroy,
};

struct vt_viewed_output *vt_viewed_output_get(struct vt_manager *manager, struct wlr_output *output) {
	struct wlr_addon *addon = wlr_addon_find(&output->addons, manager, &source_addon_impl);
	if (addon != NULL) {
		struct vt_viewed_output *source = wl_container_of(addon, source, addon);
		return source;
	}

	struct vt_viewed_output *source = calloc(1, sizeof(*source));
	if (source == NULL) {
		return NULL;
	}
	source->manager = manager;
	source->output = output;
	wl_list_init(&source->sessions);
	// Both, so that both can be finished
	bool ok = vt_stream_init(&source->direct, manager, &stream_impl, source);
	ok &= vt_snapshots_init(&source->snapshots, manager, output, &stream_impl, source);
	if (!ok) {
		vt_stream_finish(&source->direct);
		vt_snapshots_finish(&source->snapshots);
		free(source);
		return NULL;
	}

	source->direct.is_scanned_out = output_is_scanned_out(output);
	wlr_addon_init(&source->addon, &output->addons, manager, &source_addon_impl);
	wl_list_insert(&manager->sources, &source->link);
	source->output_commit.notify = source_handle_output_commit;
	wl_signal_add(&output->events.commit, &source->output_commit);
	source->output_present.notify = source_handle_output_present;
	wl_signal_add(&output->events.present, &source->output_present);
	source->capture_source_destroy.notify = source_handle_capture_source_destroy;
	wl_list_init(&source->capture_source_destroy.link);
	return source;
}
