/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_SUBSCRIBER_H
#define CAPTURE_SUBSCRIBER_H

#include <pixman.h>
#include <vitrine/view_v1.h>

#include "reader.h"
#include "retired_memory.h"
#include "stream_buffer.h"

struct vt_quota;
struct vt_stream;
struct vt_subscriber;

/** What a subscriber is a part of: a session, which is above. */
struct vt_subscriber_interface {
	/** Ends it, and frees it. Must not be called while an output commits. */
	void (*stop)(struct vt_subscriber *subscriber, enum vitrine_view_stop_reason reason);
	/** The same once the commit is over. */
	void (*stop_later)(struct vt_subscriber *subscriber, enum vitrine_view_stop_reason reason);
	/** Has it leave its stream once the commit is over, for one that it can have then. */
	void (*move_later)(struct vt_subscriber *subscriber);
	/** The next view carries `subscriber->guarantee`, which the ones before did not. */
	void (*handle_guarantee)(struct vt_subscriber *subscriber);
};

/** How frames reach a client: one for each protocol. */
struct vt_subscriber_wire {
	/** Clients can wait for fences by themselves. */
	bool takes_fences;
	/**
	 * Clients ask for each frame, see vt_subscriber_pull(), and neither release
	 * frames nor are they told that one is taken back.
	 */
	bool pulls;

	/** Announces a buffer. May be NULL. */
	void (*send_view)(struct vt_subscriber *subscriber, uint32_t index,
		const struct vt_buffer *buffer, const struct vt_view_fds *fds);
	void (*send_frame)(struct vt_subscriber *subscriber, const struct vt_stream_frame *frame,
		uint32_t index, uint32_t serial);
	/** Not NULL unless clients pull. */
	void (*send_revoked)(struct vt_subscriber *subscriber, uint32_t serial);
	/** May be NULL. */
	void (*send_retired)(struct vt_subscriber *subscriber, uint32_t index);
	/** The source shows nothing, or does again. May be NULL. */
	void (*send_power)(struct vt_subscriber *subscriber, bool is_on);
};

/** Where a subscriber stands; vt_subscriber_set_state() has the ways between. */
enum vt_subscriber_state {
	VT_SUBSCRIBER_APART, // of no output: its session waits for its quota, or ends
	VT_SUBSCRIBER_UNATTACHED, // the output's next frame decides which stream it gets
	VT_SUBSCRIBER_ATTACHED, // gets the frames of a stream
	VT_SUBSCRIBER_MOVING, // leaves its stream for another once the commit is over
	VT_SUBSCRIBER_STOPPING, // ends once the commit is over
};

/** How a subscriber keeps up with its stream. */
enum vt_subscriber_pace {
	VT_SUBSCRIBER_FAST, // holds no frame, or the newest one alone, when the next one comes
	VT_SUBSCRIBER_SLOW, // still held another one
	VT_SUBSCRIBER_IDLE, // has not asked for the next frame, of clients that pull
};

/** Frames that a subscriber may hold, at most. */
#define VT_SUBSCRIBER_DEPTH_CAP 4
/** Buffers that a subscriber knows at a time: those of two swapchains. */
#define VT_SUBSCRIBER_VIEWS_CAP 8

/** More damage rectangles than this are one, also while they wait to be sent. */
#define VT_DAMAGE_RECTS_CAP 16

/**
 * Adds to a region. What is collected may never be taken, and may be made of any
 * number of rectangles: beyond the cap it becomes one.
 */
void vt_damage_add(pixman_region32_t *region, const pixman_region32_t *damage);
/** Cuts off what is outside of a buffer; without memory, less is cut off than could be. */
void vt_damage_clip(pixman_region32_t *region, int width, int height);

/** A buffer that was announced. */
struct vt_subscriber_view {
	struct vt_stream_buffer *buffer; // NULL if the entry is free
	uint32_t index;
};

/** A frame that the client has not released. */
struct vt_subscriber_frame {
	struct vt_stream_buffer *buffer; // NULL if the frame was revoked
	uint64_t seq;
	uint32_t serial; // 0 if the entry is free
	int64_t sent_ms; // CLOCK_MONOTONIC
};

/**
 * What a client was shown: the views that it knows, the frames that it holds, and
 * what it has missed.
 */
struct vt_subscriber {
	const struct vt_subscriber_interface *impl;
	const struct vt_subscriber_wire *wire;
	void *wire_data; // of the wire
	struct wl_client *client;
	struct vt_quota *quota;

	enum vt_subscriber_state state;
	enum vitrine_view_stop_reason stop_reason; // while it is STOPPING
	enum vt_subscriber_pace pace;
	struct wl_list output_link; // vt_viewed_output.subscribers
	/**
	 * While it is ATTACHED or MOVING, maybe while STOPPING; else NULL. Leaving a stream
	 * comes before the new state: in between, others are served and memory retires.
	 */
	struct vt_stream *stream;
	struct wl_list stream_link; // vt_stream.subscribers

	uint32_t options; // bitfield of enum vitrine_view_option
	struct vt_reader reader; // what the client can read
	/**
	 * The client sends no release: a frame stays as it is until the second frame after
	 * it has been sent. Not for clients that pull.
	 */
	bool implicit_release;
	uint32_t allowed; // guarantees that the client accepts and policy allows
	uint32_t guarantee; // of the last view, 0 before
	uint32_t storage; // of the last view, 0 before
	bool lacks_zero_copy; // there were no resources for a view: it gets copies from then on
	bool lacks_room; // for memory that others are shown: it gets copies of its own from then on
	/** Of one that takes no copies: for what others see if it leaves. See vt_stream_admit(). */
	struct vt_reserve reserve;
	bool takes_fences; // waits by itself for frames that are not finished
	bool is_off; // the client was told that the source shows nothing

	struct vt_subscriber_view views[VT_SUBSCRIBER_VIEWS_CAP];
	uint32_t next_index;
	struct vt_subscriber_frame frames[VT_SUBSCRIBER_DEPTH_CAP];
	uint32_t depth;
	uint32_t n_held; // frames neither released nor revoked
	uint32_t n_revoked; // frames revoked and not released
	/** Frames that it did not release upon the next one, since it last did so. */
	uint32_t n_untraded;
	uint32_t last_serial; // 0 before the first frame

	uint64_t seen_seq; // of the last frame that it got
	uint64_t first_seq; // of the frame that was the next one when it asked, if it pulls
	uint64_t n_skipped; // frames before that
	uint64_t n_missed; // frames of the streams that it has left since then
	/** What changed since then, as far as it is not sent with the next frame. */
	pixman_region32_t damage;
	bool damage_all; // of the whole picture rather than `damage`
	int32_t width, height; // of the last frame
	uint32_t fourcc;
	int32_t transform; // that the wire has sent last, -1 before

	struct vitrine_view_session_stats stats;
};

/**
 * `depth` is what the limits say. Everything else is to be set by the caller before,
 * `reader` by initializing it: vt_subscriber_finish() finishes it.
 */
void vt_subscriber_init(struct vt_subscriber *subscriber, uint32_t depth);
/** It must hold no frame any more. */
void vt_subscriber_finish(struct vt_subscriber *subscriber);

/** Asserts that there is a way from its state to this one. */
void vt_subscriber_set_state(struct vt_subscriber *subscriber, enum vt_subscriber_state state);

/** Tells the client whether its source shows anything, if that is news. */
void vt_subscriber_announce_power(struct vt_subscriber *subscriber, bool is_on);

/** Whether it can go on with copies of its own, if there is no room for it in a stream. */
bool vt_subscriber_takes_copies(const struct vt_subscriber *subscriber);

/* Views */

bool vt_subscriber_knows(const struct vt_subscriber *subscriber,
	const struct vt_stream_buffer *buffer);
/** Whether there is room for another view. */
bool vt_subscriber_can_announce(const struct vt_subscriber *subscriber);
/** Announces a buffer, for which there is room, by what was derived from it. */
void vt_subscriber_announce(struct vt_subscriber *subscriber, struct vt_stream_buffer *buffer,
	const struct vt_view_fds *fds, uint32_t guarantee);
/** Tells the client that the memory of a buffer is retired, if it knows it. */
void vt_subscriber_announce_retired(struct vt_subscriber *subscriber,
	const struct vt_stream_buffer *buffer);
/** The same of all that it knows, since it has left their stream. */
void vt_subscriber_announce_all_retired(struct vt_subscriber *subscriber);

/* Frames */

/** Whether a frame may be sent to it. */
bool vt_subscriber_is_ready(const struct vt_subscriber *subscriber);
/** A new frame is there, `last_seq` was the newest one until now: does it keep up? */
void vt_subscriber_update_pace(struct vt_subscriber *subscriber, uint64_t last_seq);
/** A frame was taken back after a deadline: once it is released, it may keep up again. */
void vt_subscriber_reset_pace(struct vt_subscriber *subscriber);
/** Sends a frame, whose buffer it knows, and for which there is room. */
void vt_subscriber_send_frame(struct vt_subscriber *subscriber,
	const struct vt_stream_frame *frame);
/**
 * What it was sent is on its way by this. Returns false if its client does not read, so
 * that what is sent from now on may not be: looked at now and then.
 */
bool vt_subscriber_flush(struct vt_subscriber *subscriber);
/** Whether its client has left so much unread that it will soon be one that does not read. */
bool vt_subscriber_leaves_unread(const struct vt_subscriber *subscriber);
/** Accounts for a frame that it does not get. */
void vt_subscriber_miss_frame(struct vt_subscriber *subscriber, const pixman_region32_t *damage);

/** The frame with this serial, or with 0 a free entry; NULL if there is none. */
struct vt_subscriber_frame *vt_subscriber_find_frame(struct vt_subscriber *subscriber,
	uint32_t serial);
/**
 * The client is done with a frame, held or revoked. `newest_seq` is that of its
 * stream. Returns whether no subscriber holds the frame's buffer any more.
 */
bool vt_subscriber_release(struct vt_subscriber *subscriber, struct vt_subscriber_frame *frame,
	uint64_t newest_seq);
/** Releases what it holds but for the last frame that it got. */
void vt_subscriber_release_seen(struct vt_subscriber *subscriber);
/**
 * The client asks for a frame, of one that pulls. Frames before the last one are
 * released by this: the last one may be in use until the next one is there.
 */
void vt_subscriber_pull(struct vt_subscriber *subscriber);
/** The client wants no frame until it asks again, of one that pulls. */
void vt_subscriber_set_idle(struct vt_subscriber *subscriber);

/** Frames in a buffer that it holds beside older ones, which it reads first. */
size_t vt_subscriber_count_spare(const struct vt_subscriber *subscriber,
	const struct vt_stream_buffer *buffer);
/**
 * Takes back the frames in a buffer or, if that is NULL, all frames but the one with
 * `newest_seq`; those that were sent, and have stopped being the newest, no later than
 * `before_ms`. Returns how many. One whose client does not read, so that it would not be
 * told in time, is stopped later.
 */
uint32_t vt_subscriber_revoke(struct vt_subscriber *subscriber,
	const struct vt_stream_buffer *buffer, uint64_t newest_seq, int64_t before_ms);
/** Takes all frames back, since they are in buffers that it leaves. */
void vt_subscriber_revoke_all(struct vt_subscriber *subscriber);
/** Takes all frames back without a word, since it ends. */
void vt_subscriber_drop_frames(struct vt_subscriber *subscriber);

#endif
