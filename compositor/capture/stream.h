/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_STREAM_H
#define COMPOSITOR_STREAM_H

#include <pixman.h>
#include <time.h>
#include <wlr/util/addon.h>
#include <wayland-server-core.h>

#include "buffer.h"

struct view_manager;
struct vitrine_view_session_v1;
struct view_source;

/**
 * How many distinct buffers of a stream clients may hold at a time. A swapchain
 * has four: one is drawn to, one is on the screen or waits to be sent, and two
 * are left. Any number of holders shares these two.
 */
#define VIEW_STREAM_HELD_CAP 2

/** More damage rectangles than this are one, also while they wait to be sent. */
#define VIEW_DAMAGE_RECTS_CAP 16

/**
 * Adds to a region. Nobody may ever take what is collected, and somebody may make
 * it of any number of rectangles: beyond the cap it becomes one.
 */
void view_damage_add(pixman_region32_t *region, const pixman_region32_t *damage);

/**
 * A buffer that a stream has sent frames in, attached to the wlr_buffer.
 */
struct stream_buffer {
	struct wl_list link; // view_stream.buffers
	struct wlr_addon addon;
	struct view_stream *stream;
	struct view_buffer *buffer;

	/**
	 * Reasons for the producer to keep its hands off: frames that sessions hold,
	 * and being the newest. The wlr_buffer is locked while there are any.
	 */
	size_t n_refs;
	size_t n_holds; // frames that sessions hold
	uint64_t held_since; // sequence number of the frame that was held first

	pixman_region32_t stale; // of a copy: what the source has drawn since, or all
	uint32_t generation; // of the buffer's memory that sessions know
	struct wl_array quotas; // struct view_quota *, to whom it was announced
};

/**
 * A frame of a stream.
 */
struct stream_frame {
	struct stream_buffer *buffer; // NULL if there is no frame
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

/**
 * Delivers finished frames to sessions. A stream does not care where its frames
 * come from: an output's swapchain, or copies of it.
 *
 * Sessions that keep up get each frame. Sessions that still hold a frame when
 * the next one comes are slow: they take turns on one buffer as long as there
 * are fast ones, and have it revoked after a deadline. So there is always a
 * buffer for who keeps up, and for the producer.
 */
struct view_stream {
	struct view_manager *manager;
	struct view_source *source;
	struct wl_list sessions; // view_session.stream_link
	struct wl_list buffers; // stream_buffer.link

	/**
	 * The newest frame, kept for who comes late until the next one is there. Frames
	 * that come before it is finished are lost, rather than taking its place: a
	 * renderer that is always late would never deliver.
	 */
	struct stream_frame newest;
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

bool view_stream_init(struct view_stream *stream, struct view_source *source);
/** The stream must have no sessions any more. */
void view_stream_finish(struct view_stream *stream);

void view_stream_add_session(struct view_stream *stream, struct vitrine_view_session_v1 *session);
/** Takes back what the session holds. */
void view_stream_remove_session(struct view_stream *stream, struct vitrine_view_session_v1 *session);

/**
 * The stream's state of a buffer, made if needed. NULL on allocation failure, or
 * if it is a retired dma-buf, to which nobody should have drawn.
 */
struct stream_buffer *view_stream_get_buffer(struct view_stream *stream,
	struct view_buffer *buffer);

/**
 * Delivers a frame to all sessions that can have it: as soon as it is finished,
 * or at once together with its fence, to sessions that wait by themselves. Takes
 * the frame's buffer by reference, its fence over, and copies its damage.
 */
void view_stream_submit(struct view_stream *stream, const struct stream_frame *frame);
/** Whether the newest frame is what the source has, and may be sent as it is. */
bool view_stream_has_current(const struct view_stream *stream);
/** Drops what was kept for sessions, of which there are none. */
void view_stream_forget(struct view_stream *stream);
/** Whether a session could be sent a frame now. */
bool view_stream_wants_frame(const struct view_stream *stream);
/** Accounts for a frame of the source that cannot be delivered. */
void view_stream_lose(struct view_stream *stream, const pixman_region32_t *damage);
/** The same, for lack of resources: after a while, the source is asked for another one. */
void view_stream_fail(struct view_stream *stream, const pixman_region32_t *damage);
/** The output presented a commit. */
void view_stream_handle_present(struct view_stream *stream, uint32_t commit_seq);

/** Sends the newest frame to the sessions that wait for it and can have it now. */
void view_stream_serve(struct view_stream *stream);
/** The same for one session. */
void view_stream_serve_session(struct view_stream *stream,
	struct vitrine_view_session_v1 *session);

/** A session holds a frame in the buffer from now on. */
void stream_buffer_hold(struct stream_buffer *buffer, uint64_t seq);
/** A session does not hold a frame in the buffer any more. */
void stream_buffer_unhold(struct stream_buffer *buffer);

/**
 * Marks each buffer that was announced to anybody as retired and tells the
 * sessions. The caller sees to it that the producer does not draw to them again.
 */
void view_stream_retire(struct view_stream *stream);
/** The source is drawing: memory in the place of what is retired is soon needed. */
void view_stream_prepare_memory(struct view_stream *stream);
/** Retires one buffer, if it was announced. Returns whether it was not retired before. */
bool stream_buffer_retire(struct stream_buffer *buffer);

/** Whether the session knows a buffer of the stream. */
bool view_stream_is_known_to(const struct view_stream *stream,
	const struct vitrine_view_session_v1 *session);

#endif
