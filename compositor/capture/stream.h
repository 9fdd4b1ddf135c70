/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_STREAM_H
#define CAPTURE_STREAM_H

#include "manager.h"
#include "step.h"
#include "stream_buffer.h"
#include "subscriber.h"

/**
 * How many distinct buffers of a stream clients may hold at a time, besides the newest
 * one. A swapchain has four: one is drawn to, one is on the screen or waits to be sent,
 * and two are left. Any number of holders shares these two; all subscribers with implicit
 * release need one of them together, and both only while a frame waits to be finished.
 */
#define VT_STREAM_HELD_CAP 2

/** Where the frames of a stream come from: what is above. */
struct vt_stream_interface {
	/** Asks for a frame even though nothing has changed. */
	void (*request_frame)(void *data);
	/** Whether another stream copies the buffer, so that the producer cannot have it back. */
	bool (*is_copied)(void *data, const struct vt_buffer *buffer);
};

/**
 * Delivers finished frames to subscribers. A stream does not know where its frames
 * come from: an output's swapchain, or copies of it.
 *
 * Subscribers with implicit release are in step: see struct vt_step. Of the others those
 * that keep up get each frame as well: they hold no frame when the next one comes, or the
 * newest one alone, and release it then. The others are slow: they take turns on one
 * buffer as long as there are fast ones, and have it revoked after a deadline. So there
 * is always a buffer for those that keep up, and for the producer.
 */
struct vt_stream {
	struct vt_manager *manager;
	const struct vt_stream_interface *impl;
	void *data; // of the implementation
	bool is_copy; // of private copies: views are snapshots, even if they are sealed
	bool is_private; // of copies for the sessions of one holder alone
	bool is_given; // of private copies in dma-bufs for one subscriber, which may write to them
	bool is_scanned_out; // a display reads the buffers, and waits for all their fences
	struct wl_list subscribers; // vt_subscriber.stream_link
	struct wl_list buffers; // vt_stream_buffer.link
	size_t n_implicit; // subscribers with implicit release

	/** What is viewed by this and other streams, borrowed; NULL if it is no screen. */
	struct vt_quota_screen *screen;
	/** See budget.h. What is announced has its own. */
	struct vt_reserve_for reserve_for;
	struct vt_reserve reserve; // for buffers that are not announced
	size_t reserved_size; // bytes of a buffer, by the last one that was asked about
	bool is_rationed; // there was no room: it is for subscribers that take no copies
	struct vt_step step; // what they may look at

	/**
	 * The newest frame, kept for subscribers that come late until the next one is
	 * there. Frames that come before it is finished are lost, rather than taking its
	 * place: a renderer that is always late would never deliver.
	 */
	struct vt_stream_frame newest;
	struct wl_event_source *fence_source; // for its fence, NULL if there is none
	uint64_t seq; // of the newest frame, also when it is not kept
	size_t n_fast; // subscribers that kept up and could have it when it came

	/** Lost frames, which the next one makes up for. */
	uint32_t n_lost;
	pixman_region32_t lost_damage;

	/**
	 * Asks for a frame again after one was lost for lack of resources, since there
	 * may be no other one: less and less often, and then the subscribers are stopped.
	 */
	struct wl_event_source *retry_timer;
	bool retry_armed;
	uint32_t n_retries;

	struct wl_event_source *deadline_timer;
	bool deadline_armed;
};

/**
 * `is_copy`, `is_private`, `is_given`, `is_scanned_out`, `screen` and, if it is private,
 * `reserve_for` are the caller's to set. Finish it also on failure.
 */
bool vt_stream_init(struct vt_stream *stream, struct vt_manager *manager,
	const struct vt_stream_interface *impl, void *data);
/** The stream must have no subscribers any more. */
void vt_stream_finish(struct vt_stream *stream);

/** Attaches a subscriber that has no stream. */
void vt_stream_add_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber);
/**
 * Takes back what the subscriber holds, and serves others with it. The state is the
 * caller's to set afterwards.
 */
void vt_stream_remove_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber);

/**
 * The stream's state of a buffer, made if needed. NULL on allocation failure, or
 * if it is a retired dma-buf, which must not have been drawn to.
 */
struct vt_stream_buffer *vt_stream_get_buffer(struct vt_stream *stream,
	struct vt_buffer *vt_buffer);

/**
 * Delivers a frame to all subscribers that can have it: as soon as it is finished,
 * or at once together with its fence, to those that wait by themselves. Takes
 * the frame's buffer by reference, its fence over, and copies its damage.
 */
void vt_stream_submit(struct vt_stream *stream, const struct vt_stream_frame *frame);
/** Whether the newest frame is what the source has, and may be sent as it is. */
bool vt_stream_has_current(const struct vt_stream *stream);
/** The same, and the subscriber reads its format: copies are made in what all read. */
bool vt_stream_has_current_for(const struct vt_stream *stream,
	const struct vt_subscriber *subscriber);
/** Drops what was kept for subscribers, of which there are none. */
void vt_stream_forget(struct vt_stream *stream);
/** Whether a frame could be delivered now: a copy that cannot need not be made. */
bool vt_stream_wants_frame(const struct vt_stream *stream);
/** Accounts for a frame of the source that cannot be delivered. */
void vt_stream_lose(struct vt_stream *stream, const pixman_region32_t *damage);
/** The same, for lack of resources: after a while, another one is requested. */
void vt_stream_fail(struct vt_stream *stream, const pixman_region32_t *damage);
/** The output presented a commit. */
void vt_stream_handle_present(struct vt_stream *stream, uint32_t commit_seq);
/**
 * The copy that the newest frame waits for is made, or never will be: the frame is lost
 * then, and the caller asks for another one. Harmless if no frame waits for a copy.
 */
void vt_stream_handle_copied(struct vt_stream *stream, bool is_made);

/** Sends the newest frame to a subscriber, if it waits for it and can have it now. */
void vt_stream_serve_subscriber(struct vt_stream *stream, struct vt_subscriber *subscriber);
/**
 * The client has released a frame: "upon release the newest frame is sent"; to other
 * subscribers as well that had to wait for the buffer.
 */
void vt_stream_release(struct vt_stream *stream, struct vt_subscriber *subscriber,
	struct vt_subscriber_frame *frame);
/** The client of a subscriber that pulls asks for a frame that is yet to be drawn. */
void vt_stream_pull(struct vt_stream *stream, struct vt_subscriber *subscriber);

/**
 * Retires the memory of each buffer that was announced to a subscriber, which has left the
 * stream, or of all if that is NULL, and tells the others. The caller sees to it that the
 * producer does not draw to it again. What is kept of it is charged to the holder that is
 * the cause; NULL if it is none.
 */
void vt_stream_retire(struct vt_stream *stream, const struct vt_subscriber *leaver,
	struct vt_quota *cause);
/** Whether a buffer's memory is to retire by this. */
bool vt_stream_buffer_is_known(const struct vt_stream_buffer *buffer,
	const struct vt_subscriber *leaver);
/** The source is drawing: memory in the place of what is retired is soon needed. */
void vt_stream_prepare_memory(struct vt_stream *stream);

/**
 * Whether a holder has put a fence on a buffer that may be drawn to next, or has not
 * finished what it does with it.
 */
bool vt_stream_has_foreign_fence(const struct vt_stream *stream);

/** Whether the subscriber knows a buffer of the stream. */
bool vt_stream_is_known_to(const struct vt_stream *stream,
	const struct vt_subscriber *subscriber);

#endif
