/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_STREAM_H
#define COMPOSITOR_STREAM_H

#include <pixman.h>
#include <time.h>
#include <wlr/util/addon.h>
#include <wayland-server-core.h>

#include "buffer.h"

struct vt_manager;
struct vitrine_view_session_v1;

/**
 * How many distinct buffers of a stream clients may hold at a time. A swapchain
 * has four: one is drawn to, one is on the screen or waits to be sent, and two
 * are left. Any number of holders shares these two.
 */
#define VT_STREAM_HELD_CAP 2

/** More damage rectangles than this are one, also while they wait to be sent. */
#define VT_DAMAGE_RECTS_CAP 16

/**
 * Adds to a region. Nobody may ever take what is collected, and somebody may make
 * it of any number of rectangles: beyond the cap it becomes one.
 */
void vt_damage_add(pixman_region32_t *region, const pixman_region32_t *damage);

/**
 * A buffer that a stream has sent frames in, attached to the wlr_buffer.
 */
struct vt_stream_buffer {
	struct wl_list link; // vt_stream.buffers
	struct wlr_addon addon;
	struct vt_stream *stream;
	struct vt_buffer *buffer;

	/**
	 * Reasons for the producer to keep its hands off: frames that sessions hold,
	 * and being the newest. The wlr_buffer is locked while there are any.
	 */
	size_t n_refs;
	size_t n_holds; // frames that sessions hold
	uint64_t held_since; // sequence number of the frame that was held first

	pixman_region32_t stale; // of a copy: what the source has drawn since, or all
	uint32_t generation; // of the buffer's memory that sessions know
	struct wl_array quotas; // struct vt_quota *, to whom it was announced
};

/**
 * A frame of a stream.
 */
struct vt_stream_frame {
	struct vt_stream_buffer *buffer; // NULL if there is no frame
	uint64_t seq; // counts the frames of the stream from 1
	struct timespec when; // CLOCK_MONOTONIC
	uint32_t transform; // enum wl_output_transform
	/** Frames of the source just before this one that could not be delivered. */
	uint32_t n_lost;
	pixman_region32_t damage; // since the last delivered frame, in buffer coordinates

	/**
	 * What has to happen before anybody may read the frame: a fence that becomes
	 * readable, such as a sync_file (-1 if there is none), and the present event
	 * of a commit.
	 */
	int fence_fd;
	bool waits_for_present;
	uint32_t commit_seq;
};

/** Where the frames of a stream come from: what is above. */
struct vt_stream_interface {
	/** Asks for a frame even though nothing has changed. */
	void (*request_frame)(void *data);
};

/**
 * Delivers finished frames to sessions. A stream does not care where its frames
 * come from: an output's swapchain, or copies of it.
 *
 * Sessions that keep up get each frame. Sessions that still hold a frame when
 * the next one comes are slow: they take turns on one buffer as long as there
 * are fast ones, and have it revoked after a deadline. So there is always a
 * buffer for who keeps up, and for the producer.
 */
struct vt_stream {
	struct vt_manager *manager;
	const struct vt_stream_interface *impl;
	void *data; // of the implementation
	bool is_scanned_out; // a display reads the buffers, and waits for their fences
	struct wl_list sessions; // view_session.stream_link
	struct wl_list buffers; // vt_stream_buffer.link

	/**
	 * The newest frame, kept for who comes late until the next one is there. Frames
	 * that come before it is finished are lost, rather than taking its place: a
	 * renderer that is always late would never deliver.
	 */
	struct vt_stream_frame newest;
	struct wl_event_source *fence_source; // for its fence, NULL if there is none
	uint64_t seq; // of the newest frame, also when it is not kept
	size_t n_fast; // sessions that held nothing when it came

	/** Lost frames, which the next one makes up for. */
	uint32_t n_lost;
	pixman_region32_t lost_damage;

	/**
	 * Asks for a frame again after one was lost for lack of resources, since there
	 * may be no other one: less and less often, and then the sessions are stopped.
	 */
	struct wl_event_source *retry_timer;
	bool retry_armed;
	uint32_t n_retries;

	struct wl_event_source *deadline_timer;
	bool deadline_armed;
};

/** `is_scanned_out` is the caller's to set. Finish it also on failure. */
bool vt_stream_init(struct vt_stream *stream, struct vt_manager *manager,
	const struct vt_stream_interface *impl, void *data);
/** The stream must have no sessions any more. */
void vt_stream_finish(struct vt_stream *stream);

void vt_stream_add_session(struct vt_stream *stream, struct vitrine_view_session_v1 *session);
/** Takes back what the session holds. */
void vt_stream_remove_session(struct vt_stream *stream, struct vitrine_view_session_v1 *session);

/**
 * The stream's state of a buffer, made if needed. NULL on allocation failure, or
 * if it is a retired dma-buf, to which nobody should have drawn.
 */
struct vt_stream_buffer *vt_stream_get_buffer(struct vt_stream *stream,
	struct vt_buffer *buffer);

/**
 * Delivers a frame to all sessions that can have it: as soon as it is finished,
 * or at once together with its fence, to sessions that wait by themselves. Takes
 * the frame's buffer by reference, its fence over, and copies its damage.
 */
void vt_stream_submit(struct vt_stream *stream, const struct vt_stream_frame *frame);
/** Whether the newest frame is what the source has, and may be sent as it is. */
bool vt_stream_has_current(const struct vt_stream *stream);
/** Drops what was kept for sessions, of which there are none. */
void vt_stream_forget(struct vt_stream *stream);
/** Whether a session could be sent a frame now. */
bool vt_stream_wants_frame(const struct vt_stream *stream);
/** Accounts for a frame of the source that cannot be delivered. */
void vt_stream_lose(struct vt_stream *stream, const pixman_region32_t *damage);
/** The same, for lack of resources: after a while, the source is asked for another one. */
void vt_stream_fail(struct vt_stream *stream, const pixman_region32_t *damage);
/** The output presented a commit. */
void vt_stream_handle_present(struct vt_stream *stream, uint32_t commit_seq);

/** Sends the newest frame to the sessions that wait for it and can have it now. */
void vt_stream_serve(struct vt_stream *stream);
/** The same for one session. */
void vt_stream_serve_session(struct vt_stream *stream,
	struct vitrine_view_session_v1 *session);

/** A session holds a frame in the buffer from now on. */
void vt_stream_buffer_hold(struct vt_stream_buffer *buffer, uint64_t seq);
/** A session does not hold a frame in the buffer any more. */
void vt_stream_buffer_unhold(struct vt_stream_buffer *buffer);

/**
 * Marks each buffer that was announced to anybody as retired and tells the
 * sessions. The caller sees to it that the producer does not draw to them again.
 */
void vt_stream_retire(struct vt_stream *stream);
/** The source is drawing: memory in the place of what is retired is soon needed. */
void vt_stream_prepare_memory(struct vt_stream *stream);
/** Retires one buffer, if it was announced. Returns whether it was not retired before. */
bool vt_stream_buffer_retire(struct vt_stream_buffer *buffer);

/** Whether the session knows a buffer of the stream. */
bool vt_stream_is_known_to(const struct vt_stream *stream,
	const struct vitrine_view_session_v1 *session);

#endif
