/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "private.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

static void session_vfail(struct vitrine_session *session, int error, const char *format,
		va_list args) {
	session->error = error;
	vsnprintf(session->message.text, sizeof(session->message.text), format, args);
	view_destroy(session->announced);
	session->announced = NULL;
	if (session->fence_fd >= 0) {
		close(session->fence_fd);
		session->fence_fd = -1;
	}
}

static void view_retire(struct view *view) {
	// "Frames that it holds in this view stay valid until they are released."
	view->retired = true;
	if (view->n_frames == 0) {
		view_destroy(view);
	}
}

static void session_retire_views(struct vitrine_session *session) {
	struct view *view, *tmp;
	wl_list_for_each_safe(view, tmp, &session->views, link) {
		view_retire(view);
	}
}

/** Takes the frame out of its list, and frees it without telling the compositor. */
static void frame_destroy(struct vitrine_frame *frame) {
	struct view *view = frame->view;
	if (frame->reading) {
		view_end_read(view);
	}
	view->n_frames--;
	if (view->retired && view->n_frames == 0) {
		view_destroy(view);
	}
	if (frame->fence_fd >= 0) {
		close(frame->fence_fd);
	}
	wl_list_remove(&frame->link);
	free(frame);
}

/**
 * Ends the session because of what the compositor sent. libwayland closes the
 * file descriptors of events that are still to come for the destroyed object.
 */
static void session_fail(struct vitrine_session *session, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void session_fail(struct vitrine_session *session, int error, const char *format, ...) {
	if (session->error != 0) {
		return;
	}
	va_list args;
	va_start(args, format);
	session_vfail(session, error, format, args);
	va_end(args);

	// What is not in the hands of the user is not given out any more
	struct vitrine_frame *frame, *tmp;
	wl_list_for_each_safe(frame, tmp, &session->ready, link) {
		frame_destroy(frame);
	}
	session_retire_views(session);
	if (session->proxy != NULL) {
		xx_dmabuf_view_session_v1_destroy(session->proxy);
		session->proxy = NULL;
	}
}

void session_disconnect(struct vitrine_session *session) {
	session_fail(session, session->client->error, "%s", session->client->message.text);
}

static struct view *find_view(struct vitrine_session *session, uint32_t index) {
	struct view *view;
	wl_list_for_each(view, &session->views, link) {
		if (view->index == index && !view->retired) {
			return view;
		}
	}
	return NULL;
}

/** Gives the frame back. */
static void frame_release(struct vitrine_frame *frame) {
	struct vitrine_session *session = frame->session;
	if (session->proxy != NULL && !session->implicit_release) {
		xx_dmabuf_view_session_v1_release(session->proxy, frame->info.serial);
	}
	frame_destroy(frame);
}

static void session_handle_depth(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t count) {
	struct vitrine_session *session = data;
	if (session->depth != 0) {
		session_fail(session, -EPERM, "the compositor sent a second depth");
	} else if (count == 0 || count > MAX_DEPTH) {
		session_fail(session, -EPERM, "the compositor sent a depth of %" PRIu32, count);
	} else {
		session->depth = count;
	}
}

/**
 * "The compositor sends the depth event first. Then [...] the description of the
 * view if it is the first frame in that buffer, then the damage, transform and fence
 * events that apply, in that order, and then the frame event. No other event of the
 * session comes between the first of these and the frame event."
 *
 * Each but the damage comes once.
 */
static bool session_enter_stage(struct vitrine_session *session, enum frame_stage stage,
		const char *name) {
	bool in_order = session->depth != 0 && session->announced == NULL &&
		(session->stage < stage ||
		(session->stage == stage && stage == FRAME_STAGE_DAMAGE));
	if (!in_order) {
		session_fail(session, -EPERM, "the compositor sent a %s event out of order", name);
		return false;
	}
	session->stage = stage;
	return true;
}

/** Whether an event came while a frame was being described, and ends the session if so. */
static bool session_is_interrupted(struct vitrine_session *session, const char *name) {
	if (session->stage == FRAME_STAGE_NONE && session->announced == NULL) {
		return false;
	}
	session_fail(session, -EPERM, "the compositor sent a %s event out of order", name);
	return true;
}

static void session_set_power(struct vitrine_session *session, bool is_on, const char *name) {
	if (session_is_interrupted(session, name)) {
		return;
	}
	if (session->depth == 0 || session->is_off != is_on) {
		session_fail(session, -EPERM, "the compositor sent an %s event out of order", name);
		return;
	}
	session->is_off = !is_on;
	if (session->listener != NULL && session->listener->power != NULL) {
		session->listener->power(session->data, session, is_on);
	}
}

static void session_handle_off(void *data, struct xx_dmabuf_view_session_v1 *proxy) {
	session_set_power(data, false, "off");
}

static void session_handle_on(void *data, struct xx_dmabuf_view_session_v1 *proxy) {
	session_set_power(data, true, "on");
}

static void session_handle_explanation(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		const char *text) {
	struct vitrine_session *session = data;
	if (session_is_interrupted(session, "explanation")) {
		return;
	}
	if (session->depth == 0 || strlen(text) > MAX_EXPLANATION) {
		session_fail(session, -EPERM, "the compositor sent an explanation event %s",
			session->depth == 0 ? "out of order" : "that is too long");
		return;
	}
	snprintf(session->explanation, sizeof(session->explanation), "%s", text);
}

/** Whether there is such a view, be it retired. */
static bool has_view(const struct vitrine_session *session, uint32_t index) {
	struct view *view;
	wl_list_for_each(view, &session->views, link) {
		if (view->index == index) {
			return true;
		}
	}
	return false;
}

static size_t session_count_live_views(const struct vitrine_session *session) {
	size_t n = 0;
	struct view *view;
	wl_list_for_each(view, &session->views, link) {
		n += !view->retired;
	}
	return n;
}

static void session_handle_view(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t storage, uint32_t width, uint32_t height, uint32_t fourcc,
		uint32_t modifier_hi, uint32_t modifier_lo, uint32_t guarantee) {
	struct vitrine_session *session = data;
	if (session->depth == 0 || session->announced != NULL || session->stage != FRAME_STAGE_NONE) {
		session_fail(session, -EPERM, "the compositor sent a view event out of order");
		return;
	}
	// "An index is never reused". What is long gone cannot be confused with it.
	if (has_view(session, index)) {
		session_fail(session, -EPERM, "the compositor announced view %" PRIu32 " again", index);
		return;
	}
	if (session_count_live_views(session) >= MAX_LIVE_VIEWS) {
		session_fail(session, -EPERM, "the compositor announced too many views");
		return;
	}

	struct view *view = view_create();
	if (view == NULL) {
		session_fail(session, -ENOMEM, "out of memory");
		return;
	}
	view->index = index;
	view->storage = storage;
	view->width = width;
	view->height = height;
	view->fourcc = fourcc;
	view->modifier = (uint64_t)modifier_hi << 32 | modifier_lo;
	view->guarantee = guarantee;
	session->announced = view;

	const char *reason = NULL;
	int ret = view_check(view, session, &reason);
	if (ret < 0) {
		session_fail(session, ret, "view %" PRIu32 ": %s", index, reason);
	}
}

static void session_handle_device(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, struct wl_array *device) {
	struct vitrine_session *session = data;
	struct view *view = session->announced;
	if (view == NULL || view->index != index || view->n_planes > 0 || view->device != 0 ||
			view->storage == VITRINE_STORAGE_MEMFD || device->size != sizeof(view->device)) {
		session_fail(session, -EPERM, "the compositor sent the device of view %" PRIu32
			" out of order", index);
		return;
	}
	memcpy(&view->device, device->data, sizeof(view->device));
}

static void session_handle_plane(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t plane, int32_t fd, uint32_t offset, uint32_t stride) {
	struct vitrine_session *session = data;
	session->stats.fds++;
	struct view *view = session->announced;
	if (view == NULL || view->index != index || view->n_planes != plane) {
		close(fd);
		session_fail(session, -EPERM, "the compositor sent plane %" PRIu32 " of view %" PRIu32
			" out of order", plane, index);
		return;
	}
	const char *reason = NULL;
	int ret = view_add_plane(view, fd, offset, stride, &reason);
	if (ret < 0) {
		session_fail(session, ret, "view %" PRIu32 ", plane %" PRIu32 ": %s", index, plane,
			reason != NULL ? reason : strerror(-ret));
		return;
	}
	session->stats.planes++;
}

static void session_handle_view_done(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index) {
	struct vitrine_session *session = data;
	struct view *view = session->announced;
	if (view == NULL || view->index != index) {
		session_fail(session, -EPERM, "the compositor sent a view_done event out of order");
		return;
	}
	if (!view_is_complete(view)) {
		session_fail(session, -EPERM, "view %" PRIu32 ": it lacks a plane", index);
		return;
	}
	session->announced = NULL;
	wl_list_insert(session->views.prev, &view->link);
	session->stats.views++;
}

static void session_handle_retired(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index) {
	struct vitrine_session *session = data;
	if (session_is_interrupted(session, "retired")) {
		return;
	}
	struct view *view = find_view(session, index);
	if (view == NULL) {
		session_fail(session, -EPERM, "the compositor retired the unknown view %" PRIu32, index);
		return;
	}
	session->stats.retired++;
	view_retire(view);
	if (session->listener != NULL && session->listener->retired != NULL) {
		session->listener->retired(session->data, session, index);
	}
}

/** Bounds the list: the last rectangle grows where there is no room. */
static void session_add_damage(struct vitrine_session *session, const struct vitrine_rect *rect) {
	if (session->n_damage < MAX_DAMAGE) {
		session->damage[session->n_damage++] = *rect;
		return;
	}
	struct vitrine_rect *last = &session->damage[MAX_DAMAGE - 1];
	uint32_t x2 = last->x + last->width, y2 = last->y + last->height;
	uint32_t rect_x2 = rect->x + rect->width, rect_y2 = rect->y + rect->height;
	last->x = last->x < rect->x ? last->x : rect->x;
	last->y = last->y < rect->y ? last->y : rect->y;
	last->width = (x2 > rect_x2 ? x2 : rect_x2) - last->x;
	last->height = (y2 > rect_y2 ? y2 : rect_y2) - last->y;
}

/** Moves what is outside of the bounds to the bounds, without overflow. */
static struct vitrine_rect clip_rect(const struct vitrine_rect *rect, uint32_t width,
		uint32_t height) {
	struct vitrine_rect clipped = {
		.x = rect->x < width ? rect->x : width,
		.y = rect->y < height ? rect->y : height,
	};
	clipped.width = rect->width < width - clipped.x ? rect->width : width - clipped.x;
	clipped.height = rect->height < height - clipped.y ? rect->height : height - clipped.y;
	return clipped;
}

static void session_clip_damage(struct vitrine_session *session, uint32_t x, uint32_t y,
		uint32_t width, uint32_t height) {
	// No view is larger, and sums cannot overflow from here on
	struct vitrine_rect rect = { x, y, width, height };
	rect = clip_rect(&rect, MAX_SIDE, MAX_SIDE);
	session_add_damage(session, &rect);
}

static void session_handle_damage(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	struct vitrine_session *session = data;
	if (session_enter_stage(session, FRAME_STAGE_DAMAGE, "damage")) {
		session_clip_damage(session, x, y, width, height);
	}
}

static void session_handle_transform(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t transform) {
	struct vitrine_session *session = data;
	if (!session_enter_stage(session, FRAME_STAGE_TRANSFORM, "transform")) {
		return;
	}
	if (transform > WL_OUTPUT_TRANSFORM_FLIPPED_270) {
		session_fail(session, -EPERM, "the compositor sent the unknown transform %" PRIu32,
			transform);
		return;
	}
	session->has_transform = true;
	session->transform = transform;
}

static void session_handle_fence(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		int32_t fd) {
	struct vitrine_session *session = data;
	session->stats.fds++;
	if (!session_enter_stage(session, FRAME_STAGE_FENCE, "fence")) {
		close(fd);
		return;
	}
	session->fence_fd = fd;
}

static struct vitrine_frame *find_frame(struct wl_list *frames, uint32_t serial) {
	struct vitrine_frame *frame;
	wl_list_for_each(frame, frames, link) {
		if (frame->info.serial == serial) {
			return frame;
		}
	}
	return NULL;
}

/**
 * The frames that count against the depth: "A frame that was revoked counts like one
 * that is held until the client releases it."
 */
static int session_count_frames(const struct vitrine_session *session) {
	return wl_list_length(&session->ready) + wl_list_length(&session->held);
}

static const char *session_check_frame(struct vitrine_session *session, const struct view *view,
		uint32_t serial) {
	if (session->depth == 0 || session->announced != NULL) {
		return "it is out of order";
	}
	if (!session->has_transform) {
		return "its transform is missing";
	}
	if (view == NULL) {
		return "its view is unknown";
	}
	if (!session->implicit_release && session_count_frames(session) >= (int)session->depth) {
		return "more frames are held than the depth allows";
	}
	if (serial == 0 || (session->last_serial == 0 && serial != 1)) {
		return "its serial cannot be";
	}
	if (find_frame(&session->ready, serial) != NULL ||
			(find_frame(&session->held, serial) != NULL) || serial == session->last_serial) {
		return "its serial is that of another frame";
	}
	if (session->fence_fd >= 0 && view->storage == VITRINE_STORAGE_MEMFD) {
		return "it has a fence, but its memory is no dma-buf";
	}
	return NULL;
}

/**
 * Frames of the source between the last one and this: "that of the frame before, plus
 * one, plus the number of frames of the source that this session did not receive in
 * between. 0 is no serial: 1 comes after the largest."
 */
static uint32_t session_take_serial(struct vitrine_session *session, uint32_t serial) {
	uint32_t last = session->last_serial;
	session->last_serial = serial;
	return serial > last ? serial - last - 1 : UINT32_MAX - last + serial - 1;
}

static bool read_time(uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec,
		struct timespec *time) {
	uint64_t seconds = (uint64_t)tv_sec_hi << 32 | tv_sec_lo;
	*time = (struct timespec){ .tv_sec = (time_t)seconds, .tv_nsec = (long)tv_nsec };
	return tv_nsec < 1000000000 && seconds <= INT64_MAX / 1000000000;
}

/** "What is shown again has a time from before the start request, or that of a frame before" */
static bool session_take_time(struct vitrine_session *session, const struct timespec *time) {
	const struct timespec *last = &session->last_time;
	bool is_new = time->tv_sec != last->tv_sec ? time->tv_sec > last->tv_sec :
		time->tv_nsec > last->tv_nsec;
	if (is_new) {
		session->last_time = *time;
	}
	return is_new;
}

static struct vitrine_frame *frame_create(struct vitrine_session *session, struct view *view,
		uint32_t serial, const struct timespec *time) {
	size_t damage_size = session->n_damage * sizeof(session->damage[0]);
	struct vitrine_frame *frame = calloc(1, sizeof(*frame) + damage_size);
	if (frame == NULL) {
		return NULL;
	}
	frame->session = session;
	frame->view = view;
	view->n_frames++;
	frame->fence_fd = session->fence_fd;
	session->fence_fd = -1;
	size_t n_damage = 0;
	for (size_t i = 0; i < session->n_damage; i++) {
		struct vitrine_rect rect = clip_rect(&session->damage[i], view->width, view->height);
		if (rect.width > 0 && rect.height > 0) {
			frame->damage[n_damage++] = rect;
		}
	}
	frame->info = (struct vitrine_frame_info){
		.width = view->width,
		.height = view->height,
		.fourcc = view->fourcc,
		.modifier = view->modifier,
		.guarantee = view->guarantee,
		.storage = view->storage,
		.device = view->device,
		.transform = session->transform,
		.time = *time,
		.received = deadline_in(0),
		.shown_again = !session_take_time(session, time),
		.skipped = session->skipped,
		.view_index = view->index,
		.serial = serial,
		.n_planes = view->n_planes,
		.damage = frame->damage,
		.n_damage = n_damage,
	};
	for (uint32_t i = 0; i < MAX_PLANES; i++) {
		frame->info.fds[i] = view->planes[i].fd;
		frame->info.offsets[i] = view->planes[i].offset;
		frame->info.strides[i] = view->planes[i].stride;
	}
	return frame;
}

/** With implicit release, a frame that was not taken is of no use beside a newer one. */
static void session_leave_out_older(struct vitrine_session *session) {
	struct vitrine_frame *frame, *tmp;
	wl_list_for_each_safe(frame, tmp, &session->ready, link) {
		for (size_t i = 0; i < frame->info.n_damage; i++) {
			session_add_damage(session, &frame->damage[i]);
		}
		session->skipped += 1 + frame->info.skipped;
		session->stats.skipped++;
		frame_destroy(frame);
	}
}

static void session_add_frame(struct vitrine_session *session, struct view *view,
		uint32_t serial, const struct timespec *time) {
	if (session->implicit_release) {
		session_leave_out_older(session);
	}
	uint32_t missed = session_take_serial(session, serial);
	session->stats.skipped += missed;
	session->skipped += missed;
	struct vitrine_frame *frame = frame_create(session, view, serial, time);
	if (frame == NULL) {
		session_fail(session, -ENOMEM, "out of memory");
		return;
	}
	frame->number = session->n_sent++;
	wl_list_insert(session->ready.prev, &frame->link);
	session->stats.frames++;
	session->stage = FRAME_STAGE_NONE;
	session->n_damage = 0;
	session->skipped = 0;
}

static void session_handle_frame(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t serial, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
		uint32_t tv_nsec, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	struct vitrine_session *session = data;
	struct view *view = find_view(session, index);
	const char *reason = session_check_frame(session, view, serial);
	struct timespec time;
	if (!read_time(tv_sec_hi, tv_sec_lo, tv_nsec, &time) && reason == NULL) {
		reason = "its time is invalid";
	}
	if (reason != NULL) {
		session_fail(session, -EPERM, "frame %" PRIu32 " of view %" PRIu32 ": %s", serial, index,
			reason);
		return;
	}
	session_clip_damage(session, x, y, width, height);
	session_add_frame(session, view, serial, &time);
}

static void session_handle_revoked(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t serial) {
	struct vitrine_session *session = data;
	if (session_is_interrupted(session, "revoked")) {
		return;
	}
	if (session->implicit_release) {
		session_fail(session, -EPERM, "the compositor revoked a frame that is not held");
		return;
	}
	struct vitrine_frame *frame = find_frame(&session->held, serial);
	if (frame != NULL) {
		bool is_news = !frame->revoked;
		session->stats.revoked += is_news;
		frame->revoked = true;
		if (is_news && session->listener != NULL && session->listener->revoked != NULL) {
			session->listener->revoked(session->data, session, frame);
		}
		return;
	}
	// The caller has not seen it yet, and should not
	frame = find_frame(&session->ready, serial);
	if (frame != NULL) {
		session->stats.revoked++;
		frame_release(frame);
	}
	// Otherwise our release crossed the event on the wire
}

static void session_handle_stopped(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t reason) {
	static const struct {
		int error;
		const char *format; // of what the source is called, if that matters
	} reasons[] = {
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_SOURCE_GONE] =
			{ -ENODEV, "the %s does not exist any more" },
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_DENIED] =
			{ -EACCES, "the compositor's policy denies views of this %s" },
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_REVOKED] =
			{ -ECANCELED, "the compositor or the user ended the session" },
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_LOCKED] =
			{ -ECANCELED, "the screen is locked" },
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_NO_RESOURCES] =
			{ -ENOMEM, "the compositor lacks the resources for this session" },
		[XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_UNSUPPORTED] =
			{ -ENOTSUP, "the compositor cannot give any of the accepted guarantees and storages" },
	};
	struct vitrine_session *session = data;
	session->is_stopped = session->error == 0;
	if (reason < sizeof(reasons) / sizeof(reasons[0])) {
		session_fail(session, reasons[reason].error, reasons[reason].format,
			session->source_word);
	} else {
		session_fail(session, -ECANCELED, "the compositor ended the session");
	}
}

static const struct xx_dmabuf_view_session_v1_listener session_listener = {
	.depth = session_handle_depth,
	.off = session_handle_off,
	.on = session_handle_on,
	.explanation = session_handle_explanation,
	.view = session_handle_view,
	.device = session_handle_device,
	.plane = session_handle_plane,
	.view_done = session_handle_view_done,
	.retired = session_handle_retired,
	.damage = session_handle_damage,
	.transform = session_handle_transform,
	.fence = session_handle_fence,
	.frame = session_handle_frame,
	.revoked = session_handle_revoked,
	.stopped = session_handle_stopped,
};

/** Says what the caller can use, and starts the session. */
static void session_configure(struct vitrine_session *session, bool paint_cursors) {
	struct xx_dmabuf_view_session_v1 *proxy = session->proxy;
	xx_dmabuf_view_session_v1_set_guarantees(proxy, session->acceptable);
	xx_dmabuf_view_session_v1_set_storages(proxy, session->storages);
	for (size_t i = 0; i < session->n_formats; i++) {
		struct vitrine_format *format = &session->formats[i];
		struct wl_array device = {
			.size = format->device != 0 ? sizeof(format->device) : 0,
			.data = &format->device,
		};
		xx_dmabuf_view_session_v1_add_format(proxy, &device, format->fourcc,
			(uint32_t)(format->modifier >> 32), (uint32_t)(format->modifier & UINT32_MAX));
	}
	if (paint_cursors) {
		xx_dmabuf_view_session_v1_set_cursors(proxy, XX_DMABUF_VIEW_SESSION_V1_CURSORS_PAINTED);
	}
	if (session->implicit_release) {
		xx_dmabuf_view_session_v1_set_implicit_release(proxy);
	}
	session->last_time = deadline_in(0);
	xx_dmabuf_view_session_v1_start(proxy);
}

static int session_start(struct vitrine_session *session, struct vitrine_source *source,
		bool paint_cursors) {
	struct ext_image_capture_source_v1 *source_proxy = source->create_proxy(source);
	if (source_proxy == NULL) {
		return -ENOMEM;
	}
	session->proxy = xx_dmabuf_view_manager_v1_create_session(
		source->client->view_manager, source_proxy);
	// "The source may be destroyed by the client right after this request."
	ext_image_capture_source_v1_destroy(source_proxy);
	if (session->proxy == NULL) {
		return -ENOMEM;
	}
	xx_dmabuf_view_session_v1_add_listener(session->proxy, &session_listener, session);
	session_configure(session, paint_cursors);
	return 0;
}

/** "if more than 1024 formats or 16 nodes are listed, [that is a] protocol error" */
static bool formats_fit(const struct vitrine_format *formats, size_t n_formats) {
	dev_t nodes[MAX_NODES];
	size_t n_nodes = 0;
	for (size_t i = 0; i < n_formats && n_formats <= MAX_FORMATS; i++) {
		size_t j = 0;
		while (j < n_nodes && nodes[j] != formats[i].device) {
			j++;
		}
		if (formats[i].device == 0 || j < n_nodes) {
			continue;
		}
		if (n_nodes == MAX_NODES) {
			return false;
		}
		nodes[n_nodes++] = formats[i].device;
	}
	return n_formats <= MAX_FORMATS;
}

static const char *check_options(const struct vitrine_session_options *options) {
	if ((options->acceptable & ~(uint32_t)VITRINE_GUARANTEE_ALL) != 0) {
		return "unknown guarantee";
	}
	if ((options->storages & ~(uint32_t)VITRINE_STORAGE_ALL) != 0) {
		return "unknown storage";
	}
	if (!formats_fit(options->formats, options->n_formats)) {
		return "too many formats or device nodes";
	}
	if (!(options->storages & VITRINE_STORAGE_DMABUF)) {
		return NULL;
	}
	for (size_t i = 0; i < options->n_formats; i++) {
		if (options->formats[i].device != 0) {
			return NULL;
		}
	}
	return "dmabuf storage without a format of a device";
}

/** NULL on allocation failure. */
static struct vitrine_session *session_create(const struct vitrine_source *source,
		const struct vitrine_session_options *options) {
	struct vitrine_session *session = calloc(1, sizeof(*session));
	struct vitrine_rect *damage = calloc(MAX_DAMAGE, sizeof(*damage));
	struct vitrine_format *formats = calloc(options->n_formats + 1, sizeof(*formats));
	if (session == NULL || damage == NULL || formats == NULL) {
		free(session);
		free(damage);
		free(formats);
		return NULL;
	}
	if (options->n_formats > 0) {
		memcpy(formats, options->formats, options->n_formats * sizeof(*formats));
	}
	*session = (struct vitrine_session){
		.client = source->client,
		.source_word = source->word,
		.damage = damage,
		.acceptable =
			options->acceptable != 0 ? options->acceptable : (uint32_t)VITRINE_GUARANTEE_ALL,
		.storages =
			options->storages != 0 ? options->storages : (uint32_t)VITRINE_STORAGE_CPU,
		.formats = formats,
		.n_formats = options->n_formats,
		.implicit_release = options->implicit_release,
		.listener = options->listener,
		.data = options->data,
		.fence_fd = -1,
	};
	wl_list_init(&session->views);
	wl_list_init(&session->ready);
	wl_list_init(&session->held);
	wl_list_insert(&source->client->sessions, &session->link);
	return session;
}

int vitrine_session_create(struct vitrine_source *source,
		const struct vitrine_session_options *options, struct vitrine_session **session_ptr) {
	static const struct vitrine_session_options default_options;
	struct vitrine_client *client = source->client;
	*session_ptr = NULL;
	if (options == NULL) {
		options = &default_options;
	}
	const char *reason = check_options(options);
	if (reason != NULL) {
		return client_fail(client, -EINVAL, "%s", reason);
	}
	if (client->error != 0) {
		return client->error;
	}
	if (source->create_proxy == NULL) {
		return client_fail(client, -ENODEV, "the %s does not exist any more", source->word);
	}
	struct vitrine_session *session = session_create(source, options);
	if (session == NULL) {
		return client_fail(client, -ENOMEM, "out of memory");
	}
	if (session_start(session, source, options->paint_cursors) < 0) {
		vitrine_session_destroy(session);
		return client_fail(client, -ENOMEM, "out of memory");
	}
	client_flush(client);
	*session_ptr = session;
	return 0;
}

void vitrine_session_destroy(struct vitrine_session *session) {
	if (session == NULL) {
		return;
	}
	session_fail(session, -ECANCELED, "the session was destroyed");
	struct vitrine_frame *frame, *tmp_frame;
	wl_list_for_each_safe(frame, tmp_frame, &session->held, link) {
		frame_destroy(frame);
	}
	wl_list_for_each_safe(frame, tmp_frame, &session->ready, link) {
		frame_destroy(frame);
	}
	struct view *view, *tmp_view;
	wl_list_for_each_safe(view, tmp_view, &session->views, link) {
		view_destroy(view);
	}
	client_flush(session->client);
	wl_list_remove(&session->link);
	free(session->damage);
	free(session->formats);
	free(session);
}

/** Whether the fence has fired. A fence that is not pollable is an error. */
static bool fence_is_signalled(struct vitrine_session *session, int fence_fd) {
	struct pollfd pollfd = { .fd = fence_fd, .events = POLLIN };
	if (poll(&pollfd, 1, 0) <= 0) {
		return false;
	}
	if (!(pollfd.revents & POLLIN)) {
		session_fail(session, -EPERM, "the compositor sent a fence that is no fence");
		return false;
	}
	return true;
}

/** The oldest frame if its pixels are complete. */
static struct vitrine_frame *session_take_frame(struct vitrine_session *session) {
	if (wl_list_empty(&session->ready)) {
		return NULL;
	}
	struct vitrine_frame *frame = wl_container_of(session->ready.next, frame, link);
	if (frame->fence_fd >= 0) {
		if (!fence_is_signalled(session, frame->fence_fd)) {
			return NULL;
		}
		close(frame->fence_fd);
		frame->fence_fd = -1;
	}
	int ret = view_begin_read(frame->view);
	if (ret < 0) {
		session_fail(session, ret, "DMA_BUF_IOCTL_SYNC failed: %s", strerror(-ret));
		return NULL;
	}
	frame->reading = true;
	wl_list_remove(&frame->link);
	wl_list_insert(&session->held, &frame->link);
	return frame;
}

/** The fence that the oldest frame waits for, or -1. */
static int session_get_fence(const struct vitrine_session *session) {
	if (wl_list_empty(&session->ready)) {
		return -1;
	}
	struct vitrine_frame *frame = wl_container_of(session->ready.next, frame, link);
	return frame->fence_fd;
}

static bool session_is_ready(struct vitrine_session *session) {
	int fence_fd = session_get_fence(session);
	return !wl_list_empty(&session->ready) &&
		(fence_fd < 0 || fence_is_signalled(session, fence_fd));
}

static int session_get_error(struct vitrine_session *session) {
	return client_fail(session->client, session->error, "%s", session->message.text);
}

int vitrine_session_next_frame(struct vitrine_session *session, int timeout_ms,
		struct vitrine_frame **frame) {
	*frame = NULL;
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	while (true) {
		*frame = session_take_frame(session);
		if (*frame != NULL) {
			return 1;
		}
		if (session->error != 0) {
			return session_get_error(session);
		}
		int ret = client_dispatch(session->client, timeout_ms < 0 ? NULL : &deadline,
			session_get_fence(session));
		if (ret < 0 && session->error == 0) {
			return ret;
		}
		// Also if events come without end, and no frame among them
		if (timeout_ms >= 0 && deadline_has_passed(&deadline) && !session_is_ready(session)) {
			return session->error == 0 ? 0 : session_get_error(session);
		}
	}
}

int vitrine_session_wait_started(struct vitrine_session *session, int timeout_ms) {
	struct timespec end = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	const struct timespec *deadline = timeout_ms < 0 ? NULL : &end;
	while (session->depth == 0 && session->error == 0) {
		int ret = client_dispatch(session->client, deadline, -1);
		if (ret < 0 && session->error == 0) {
			return ret;
		}
		if (session->depth == 0 && session->error == 0 && deadline_has_passed(deadline)) {
			return 0;
		}
	}
	// "unless this event comes right after depth": then it comes before an answer
	int ret = session->error == 0 ? client_roundtrip(session->client, deadline) : 0;
	if (session->error != 0) {
		return session_get_error(session);
	}
	return ret == -ETIMEDOUT ? 0 : ret < 0 ? ret : 1;
}

void vitrine_session_get_stats(const struct vitrine_session *session,
		struct vitrine_session_stats *stats) {
	*stats = session->stats;
}

bool vitrine_session_is_off(const struct vitrine_session *session) {
	return session->is_off;
}

const char *vitrine_session_get_explanation(const struct vitrine_session *session) {
	return session->explanation[0] != '\0' ? session->explanation : NULL;
}

uint32_t vitrine_session_get_depth(const struct vitrine_session *session) {
	return session->depth;
}

void vitrine_frame_release(struct vitrine_frame *frame) {
	if (frame == NULL) {
		return;
	}
	struct vitrine_client *client = frame->session->client;
	frame_release(frame);
	// Now: the user may be away from dispatching for long
	client_flush(client);
}

const struct vitrine_frame_info *vitrine_frame_get_info(const struct vitrine_frame *frame) {
	return &frame->info;
}

const void *vitrine_frame_get_pixels(const struct vitrine_frame *frame, uint32_t plane) {
	if (plane >= frame->view->n_planes || frame->view->planes[plane].data == NULL) {
		return NULL;
	}
	const char *data = frame->view->planes[plane].data;
	return data + frame->view->planes[plane].offset;
}

/** "if no more than one frame event came after that of the frame, [it] is not torn" */
static bool frame_may_be_torn(const struct vitrine_frame *frame) {
	const struct vitrine_session *session = frame->session;
	// Once we have ended the session, we are not told any more
	return frame->revoked || (session->error != 0 && !session->is_stopped) ||
		(session->implicit_release && session->n_sent - frame->number > 2);
}

bool vitrine_frame_is_revoked(struct vitrine_frame *frame) {
	struct timespec now = deadline_in(0);
	int ret = 1;
	for (int i = 0; i < 64 && ret > 0 && !frame_may_be_torn(frame); i++) {
		ret = client_dispatch(frame->session->client, &now, -1);
	}
	// Without the compositor's last word the worst is assumed
	return frame_may_be_torn(frame) || ret != 0;
}
