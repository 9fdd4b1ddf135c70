/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_SESSION_H
#define COMPOSITOR_SESSION_H

#include <pixman.h>
#include <vitrine/view_v1.h>

#include "quota.h"
#include "stream.h"

struct vitrine_derived_fd;
struct wlr_output;

/**
 * How a session reaches its client: one for each protocol that has sessions.
 */
struct vt_session_interface {
	const char *protocol; // the name of its global
	/** Clients can wait for fences by themselves. */
	bool takes_fences;
	/**
	 * Clients ask for each frame, see vt_session_pull(), and neither release
	 * frames nor are they told that one is taken back.
	 */
	bool pulls;

	/** The session has started. May be NULL. */
	void (*start)(struct vitrine_view_session_v1 *session);
	/** Announces a buffer. May be NULL. */
	void (*send_view)(struct vitrine_view_session_v1 *session, uint32_t index,
		const struct vt_buffer *buffer, const struct vitrine_derived_fd *derived);
	/** Sets the session idle if its clients pull. */
	void (*send_frame)(struct vitrine_view_session_v1 *session,
		const struct vt_stream_frame *frame, uint32_t index, uint32_t serial);
	/** Not NULL unless clients pull. */
	void (*send_revoked)(struct vitrine_view_session_v1 *session, uint32_t serial);
	/** May be NULL. */
	void (*send_retired)(struct vitrine_view_session_v1 *session, uint32_t index);
	/** The session is there, or about to be freed: NULL. */
	void (*set_session)(void *data, struct vitrine_view_session_v1 *session);
	/** The session is gone, and `reason` is why. */
	void (*send_stopped)(void *data, enum vitrine_view_stop_reason reason);
};

/** Frames that a session may hold, at most. */
#define VT_SESSION_DEPTH_CAP 4
/** Buffers that a session knows at a time: those of two swapchains. */
#define VT_SESSION_VIEWS_CAP 8

/** A buffer that was announced to a session. */
struct session_view {
	struct vt_stream_buffer *buffer; // NULL if the entry is free
	uint32_t index;
};

/** A frame that the client has not released. */
struct session_frame {
	struct vt_stream_buffer *buffer; // NULL if the frame was revoked
	uint64_t seq;
	uint32_t serial; // 0 if the entry is free
	int64_t sent_ms; // CLOCK_MONOTONIC
};

/**
 * A client that looks at an output, until it is stopped or destroyed: a
 * xx_dmabuf_view_session_v1, or all captures of an output through
 * wlr-export-dmabuf.
 */
struct vitrine_view_session_v1 {
	struct vt_manager *manager;
	const struct vt_session_interface *impl;
	void *data; // of the implementation
	struct wl_client *client;
	struct vt_quota *quota;
	struct vt_charge charge; // one VT_QUOTA_OBJECTS
	struct wl_listener quota_exceeded;
	struct wlr_output *output;
	struct wl_listener output_destroy; // until it has started
	struct vt_viewed_output *source; // NULL before it started
	struct wl_list link; // vt_viewed_output.sessions, or vt_manager.starting
	struct vt_stream *stream; // NULL before the first frame
	struct wl_list stream_link; // vt_stream.sessions

	uint32_t options; // bitfield of enum vitrine_view_option
	uint32_t acceptable; // what the client accepts
	uint32_t allowed; // what it accepts and policy allows
	uint32_t guarantee; // of the last frame, 0 before
	bool takes_fences; // waits by itself for frames that are not finished
	bool idle; // does not want the next frame

	struct wlr_ext_image_capture_source_v1 *capture_source; // NULL if there is none, or no more
	struct wl_listener capture_source_destroy;
	struct wl_event_source *start_timer; // NULL unless it had to wait for its quota

	struct session_view views[VT_SESSION_VIEWS_CAP];
	uint32_t next_index;
	struct session_frame frames[VT_SESSION_DEPTH_CAP];
	uint32_t depth;
	uint32_t n_held; // frames neither released nor revoked
	uint32_t n_revoked; // frames revoked and not released
	uint32_t next_serial;
	bool slow; // held a frame while the next one came
	bool has_just_begun; // with the newest frame, and the next one has not come yet

	/** What has to happen once the commit is over: see vt_viewed_output_defer(). */
	enum {
		VT_SESSION_DEFER_NOTHING,
		VT_SESSION_DEFER_STOP,
		VT_SESSION_DEFER_DETACH, // choose the stream anew
	} deferred;
	enum vitrine_view_stop_reason deferred_reason;

	uint64_t seen_seq; // of the last frame that it got
	uint64_t first_seq; // of the frame that was the next one when it asked, if it pulls
	uint64_t n_skipped; // frames before that
	/** What changed since then, as far as it is not sent with the next frame. */
	pixman_region32_t damage;
	bool damage_all;
	int32_t width, height; // of the last frame
	uint32_t fourcc;
	bool sent_transform;
	uint32_t transform;

	struct vitrine_view_session_stats stats;
};

/**
 * Creates a session, which starts now or, if its client is too fast, later, and
 * may even be stopped at once. `allowed` are the guarantees that both sides can
 * live with. Returns false for lack of resources or quota.
 */
bool vt_session_create(struct vt_manager *manager,
	const struct vt_session_interface *impl, void *data,
	const struct vitrine_view_request *request, uint32_t allowed);
/**
 * Ends the session without a word: what its client can reach never changes again.
 * Frees it. Must not be called while an output commits.
 */
void vt_session_destroy(struct vitrine_view_session_v1 *session);

/**
 * The client of a session that pulls asks for a frame, which is drawn even if
 * nothing has changed. Frames before the last one are released by this: the last
 * one may be in use until the next one is there.
 */
void vt_session_pull(struct vitrine_view_session_v1 *session);
/** The client is done with a frame of the session, held or revoked. */
void vt_session_release(struct vitrine_view_session_v1 *session, struct session_frame *frame);
/** The frame with this serial, or with 0 a free entry; NULL if there is none. */
struct session_frame *vt_session_find_frame(struct vitrine_view_session_v1 *session,
	uint32_t serial);
/** Whether the session has not kept up with the frames. */
bool vt_session_is_behind(const struct vitrine_view_session_v1 *session);

/** Whether the newest frame of its stream has not been sent to the session. */
bool vt_session_waits(const struct vitrine_view_session_v1 *session);

/**
 * Sends a frame, announcing its buffer if needed. Returns false if the session
 * cannot go on for lack of resources: it must be stopped then.
 */
bool vt_session_send_frame(struct vitrine_view_session_v1 *session,
	const struct vt_stream_frame *frame);
/** Accounts for a frame that the session does not get. */
void vt_session_miss_frame(struct vitrine_view_session_v1 *session,
	const pixman_region32_t *damage);

/**
 * Takes back the frames in a buffer or, if that is NULL, all frames but the
 * newest of the stream; those that were sent no later than `before_ms`. Returns
 * how many.
 */
uint32_t vt_session_revoke(struct vitrine_view_session_v1 *session,
	const struct vt_stream_buffer *buffer, int64_t before_ms);
/** Takes all frames back, since they are in buffers that the session leaves. */
void vt_session_take_back_all(struct vitrine_view_session_v1 *session);
/** Takes all frames back without a word, since the session ends. */
void vt_session_drop_frames(struct vitrine_view_session_v1 *session);

/** Tells the client that a buffer is retired, if it knows it. */
void vt_session_retire(struct vitrine_view_session_v1 *session,
	const struct vt_stream_buffer *buffer);
bool vt_session_knows(const struct vitrine_view_session_v1 *session,
	const struct vt_stream_buffer *buffer);

/**
 * Ends the session: the client is told, and what it can reach never changes
 * again. Frees the session. Must not be called while an output commits.
 */
void vt_session_stop(struct vitrine_view_session_v1 *session,
	enum vitrine_view_stop_reason reason);

/** The same once the commit is over, of a session that has started. */
void vt_session_stop_later(struct vitrine_view_session_v1 *session,
	enum vitrine_view_stop_reason reason);

#endif
