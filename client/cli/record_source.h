/* SPDX-License-Identifier: MIT */
#ifndef RECORD_SOURCE_H
#define RECORD_SOURCE_H

#include "layout.h"

/**
 * What is recorded: an output, a window, or a part of the layout. What is all or a part of one
 * frame is read where it is; else the picture is kept, and changed by each new frame of its
 * outputs. Zero-initialize.
 */
struct record_source {
	struct layout layout; // of one part if an output or a window is named
	bool is_whole; // that one's frames are recorded as they are
	struct image picture; // what is composed
	struct image spare; // for what may be taken back while it is copied

	/** Of record_source_next(), until it is released. */
	struct raster raster;
	struct timespec time; // of the newest frame in the picture
	bool shown_again; // that frame, see struct vitrine_frame_info

	uint64_t n_skipped; // frames that the compositor did not show
	uint64_t n_torn; // that it took back while they were read, and that are left out
	const char *change; // why no frame fits the recording any more, or NULL
	int read_error; // -ENOMEM or -ENOTSUP if a frame could not be read
};

/** Connects, and starts what is to be recorded. Returns an exit status, after printing why. */
int record_source_open(struct record_source *source, struct cli *cli);
/** How often the fastest of its outputs is refreshed, in mHz; 0 if unknown, -1 for a window. */
int32_t record_source_get_refresh(const struct record_source *source);
/** Waits for the first picture. Returns an exit status, after printing why there is none. */
int record_source_wait(struct record_source *source);
/**
 * Waits for the next picture, for at most so many milliseconds. Returns 1, to be released; 0 if
 * there was none, or source->change or source->read_error was set; -EINTR if it is time to end;
 * another error of vitrine_session_next_frame().
 */
int record_source_next(struct record_source *source, int timeout_ms);
/** Gives back what was read. Returns whether it was torn, which is counted. */
bool record_source_release(struct record_source *source);
void record_source_finish(struct record_source *source);

#endif
