/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_STREAM_BUFFER_H
#define CAPTURE_STREAM_BUFFER_H

#include <pixman.h>
#include <time.h>
#include <wayland-server-core.h>
#include <wlr/util/addon.h>

#include "buffer.h"

struct vt_announced_memory;
struct vt_stream;

/**
 * A buffer that a stream has sent frames in, attached to the wlr_buffer.
 */
struct vt_stream_buffer {
	struct wl_list link; // vt_stream.buffers
	struct wlr_addon addon;
	struct vt_stream *stream;
	struct vt_buffer *buffer;

	/**
	 * Reasons for the producer to keep its hands off: frames that subscribers hold,
	 * frames that are kept for those with implicit release, and being the newest.
	 * The wlr_buffer is locked while there are any.
	 */
	size_t n_refs;
	size_t n_holds; // frames that subscribers hold
	size_t n_kept; // see struct vt_step
	uint64_t held_since; // sequence number of the frame that was held first
	int64_t old_since_ms; // when it has stopped being the newest, CLOCK_MONOTONIC

	/**
	 * Of a frame in it that was not delivered, to tell the fence of that drawing from one of
	 * a holder. -1 if there is none; it may be signalled.
	 */
	int lost_fence_fd;
	int64_t lost_since_ms; // and such fences are pending without a break, CLOCK_MONOTONIC

	pixman_region32_t stale; // of a copy: what the source has drawn since, or all
	uint32_t generation; // of the buffer's memory that subscribers know
	bool announced; // its memory, to any client
	/** NULL unless it was announced, and has not retired since. */
	struct vt_announced_memory *memory;
	/** What has retired, and may be shown again, since nothing was drawn since. NULL if none. */
	struct vt_announced_memory *kept;
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
	 * What has to happen before a client may read the frame: a fence that becomes
	 * readable, such as a sync_file (-1 if there is none), the present event of a
	 * commit, and a copy, see vt_stream_handle_copied().
	 */
	int fence_fd;
	bool waits_for_present;
	bool waits_for_copy;
	uint32_t commit_seq;
};

void vt_stream_buffer_init(struct vt_stream_buffer *buffer, struct vt_buffer *vt_buffer);
/** It must have no references any more. */
void vt_stream_buffer_finish(struct vt_stream_buffer *buffer);

/** Nothing of the buffer is what the source has. */
void vt_stream_buffer_set_stale(struct vt_stream_buffer *buffer);

/** A frame in the buffer is not delivered. Takes its fence over, -1 if it is finished. */
void vt_stream_buffer_lose(struct vt_stream_buffer *buffer, int take_fence_fd);
/**
 * Whether the drawing of a frame that was not delivered goes on; not if that takes so long that
 * it has to wait for a holder.
 */
bool vt_stream_buffer_is_drawn_to(const struct vt_stream_buffer *buffer);

/** The producer must not draw to the buffer. */
void vt_stream_buffer_ref(struct vt_stream_buffer *buffer);
/** May destroy the buffer, if the producer has dropped it already. */
void vt_stream_buffer_unref(struct vt_stream_buffer *buffer);
/** A subscriber holds a frame in the buffer from now on. */
void vt_stream_buffer_hold(struct vt_stream_buffer *buffer, uint64_t seq);
/** A subscriber does not hold a frame in the buffer any more; see vt_stream_buffer_unref(). */
void vt_stream_buffer_unhold(struct vt_stream_buffer *buffer);
/** A frame in the buffer is kept for subscribers with implicit release. */
void vt_stream_buffer_keep(struct vt_stream_buffer *buffer);
/** It is not kept any more; see vt_stream_buffer_unref(). */
void vt_stream_buffer_unkeep(struct vt_stream_buffer *buffer);

#endif
