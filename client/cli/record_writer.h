/* SPDX-License-Identifier: MIT */
#ifndef RECORD_WRITER_H
#define RECORD_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Pictures on their way to a file, which a thread writes: a pipe that is not read, a slow
 * disk or an encoder keep neither the session nor the command from going on.
 *
 * Time is counted in slots, each as long as a frame at the rate of the recording. A picture
 * is pushed with the slot in which it appeared, and stays until the next one is.
 */
struct record_writer;

enum record_pace {
	/** Each picture is written once. */
	RECORD_EVERY_CHANGE,
	/** Each picture is written once for each of its slots. */
	RECORD_CONSTANT_RATE,
	/** Each picture that has a slot is written once, with its slot; the last one at the end too. */
	RECORD_TIMED,
};

/** Where pictures go. Called by the thread; return 0 or a negative errno. */
struct record_sink {
	int (*write)(void *data, const uint8_t *picture, uint64_t slot);
	/** No picture comes any more. May be NULL. */
	int (*finish)(void *data);
	/** How many bytes are in the file. */
	uint64_t (*get_bytes)(void *data);
	/**
	 * Called by another thread: a write that a signal interrupts is to fail from now on.
	 * With -ECANCELED if nothing of the picture has been written, else with -EINTR.
	 */
	void (*give_up)(void *data);
	void *data;
};

struct record_writer_options {
	enum record_pace pace;
	struct record_sink sink;
	size_t picture_len; // in bytes
	uint64_t max_frames; // to write, 0 without a limit
	uint64_t max_lag; // constant rate: slots that may wait to be written; older ones are dropped
};

/** What came of the pictures. */
struct record_writer_stats {
	uint64_t written; // frames in the file
	uint64_t dropped; // frames that are not in it, as it was not written fast enough
	uint64_t unseen; // pictures that are in none of its frames, for the same reason
	uint64_t bytes;
};

/** Returns 0 or a negative errno. */
int record_writer_create(const struct record_writer_options *options,
	struct record_writer **writer);
/** Accepts NULL. What has not been written by record_writer_finish() is lost. */
void record_writer_destroy(struct record_writer *writer);

/**
 * Room for a picture, aligned to 64 bytes: to be pushed or given back. If the thread is
 * behind, it is that of the newest picture that waits, which is not written then. Returns
 * NULL without memory.
 */
uint8_t *record_writer_get_room(struct record_writer *writer);
void record_writer_give_back(struct record_writer *writer);
/** The picture appeared in this slot, or in the first one that has no picture yet. */
void record_writer_push(struct record_writer *writer, uint64_t slot);
/** The newest picture stood until this slot, but for it. Harmless without a picture. */
void record_writer_extend(struct record_writer *writer, uint64_t end_slot);

/** Whether no more frames are wanted, or none can be written. */
bool record_writer_is_done(struct record_writer *writer);
void record_writer_get_stats(struct record_writer *writer, struct record_writer_stats *stats);

/** When to end, as times of cli_now(). */
struct record_deadlines {
	double last_frame; // no frame is begun from then on; those that waited are dropped
	double give_up; // a frame that is not whole by then never will be
};

/**
 * Waits until all is written that waits, as far as there is time. Returns 0, the first error
 * of the sink, or -EINTR if the last frame is not whole: the reader of the file has not read
 * in time, or a second signal asked to end.
 */
int record_writer_finish(struct record_writer *writer, const struct record_deadlines *deadlines);

#endif
