/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "record_writer.h"

/*
 * The first picture of the queue is the one that is being written. The last one is the newest:
 * it stays, as what comes next may be that it stood for longer. Those between wait.
 */

/** One is written, one is the newest, one is being made; the others absorb what varies. */
#define MIN_PICTURES 4
#define MAX_PICTURES 8
/** Bytes of memory that more than the fewest may take. */
#define MAX_MEMORY ((size_t)256 * 1024 * 1024)
#define ALIGNMENT 64
/** How often a write that is to end is interrupted, and how often signals are looked up. */
#define INTERRUPT_S 0.01
#define LOOK_UP_S 0.1

struct picture {
	uint8_t *data;
	uint64_t slot; // the next one to write it for
	uint64_t owed; // slots to write it for
	bool is_written; // once at least
};

struct record_writer {
	struct record_writer_options options;
	pthread_t thread;
	bool has_thread;
	struct picture *room; // for the caller alone; NULL if it has none

	pthread_mutex_t lock; // for all below
	pthread_cond_t changed;
	struct picture pictures[MAX_PICTURES];
	struct picture *unused[MAX_PICTURES], *queue[MAX_PICTURES];
	size_t n_unused, n_queued;
	uint64_t end_slot; // the first without a picture
	uint64_t n_waiting; // owed by all
	uint64_t n_taken; // given to the sink
	uint64_t last_slot; // of the last frame that the sink was given
	struct record_writer_stats stats;
	bool closed; // no picture comes any more
	bool stopping; // what waits is not to be written
	bool ended; // the thread writes nothing any more
	int error;
};

static void writer_remove(struct record_writer *writer, size_t index) {
	struct picture *picture = writer->queue[index];
	writer->n_queued--;
	memmove(&writer->queue[index], &writer->queue[index + 1],
		(writer->n_queued - index) * sizeof(writer->queue[0]));
	writer->unused[writer->n_unused++] = picture;
}

static bool writer_is_full(const struct record_writer *writer) {
	return writer->options.max_frames > 0 &&
		writer->n_taken + writer->n_waiting >= writer->options.max_frames;
}

/** The last picture at the end of the time that it stood: else the file would be shorter. */
static bool writer_owes_end(const struct record_writer *writer) {
	return writer->options.pace == RECORD_TIMED && writer->closed && writer->n_queued > 0 &&
		writer->n_taken > 0 && writer->last_slot + 1 < writer->end_slot &&
		!writer_is_full(writer);
}

/** Returns NULL if there is nothing to write now. */
static struct picture *writer_find_work(struct record_writer *writer) {
	while (writer->n_queued > 1 && writer->queue[0]->owed == 0) {
		writer_remove(writer, 0);
	}
	struct picture *picture = writer->n_queued > 0 ? writer->queue[0] : NULL;
	if (picture != NULL && picture->owed == 0 && writer_owes_end(writer)) {
		picture->slot = writer->end_slot - 1;
		picture->owed = 1;
		writer->n_waiting++;
	}
	return picture != NULL && picture->owed > 0 ? picture : NULL;
}

static void writer_drop(struct record_writer *writer, struct picture *picture, uint64_t n) {
	picture->owed -= n;
	picture->slot += n;
	writer->n_waiting -= n;
	writer->stats.dropped += n;
}

static void writer_drop_all(struct record_writer *writer) {
	for (size_t i = 0; i < writer->n_queued; i++) {
		writer_drop(writer, writer->queue[i], writer->queue[i]->owed);
	}
}

/** Waits. Returns NULL when there is nothing more to be written. */
static struct picture *writer_get_work(struct record_writer *writer) {
	while (writer->error == 0) {
		if (writer->stopping) {
			writer_drop_all(writer);
		}
		struct picture *picture = writer_find_work(writer);
		if (picture != NULL || writer->closed) {
			return picture;
		}
		pthread_cond_wait(&writer->changed, &writer->lock);
	}
	return NULL;
}

static void writer_write(struct record_writer *writer, struct picture *picture) {
	const struct record_sink *sink = &writer->options.sink;
	uint64_t slot = picture->slot++;
	picture->owed--;
	picture->is_written = true;
	writer->n_waiting--;
	writer->n_taken++;
	writer->last_slot = slot;

	pthread_mutex_unlock(&writer->lock);
	int ret = sink->write(sink->data, picture->data, slot);
	uint64_t bytes = sink->get_bytes(sink->data);
	pthread_mutex_lock(&writer->lock);

	writer->stats.bytes = bytes;
	if (ret == 0) {
		writer->stats.written++;
	} else if (ret == -ECANCELED) {
		writer->stats.dropped++;
		writer->stopping = true;
	} else {
		writer->error = ret;
	}
}

static void *writer_run(void *data) {
	struct record_writer *writer = data;
	const struct record_sink *sink = &writer->options.sink;
	struct picture *picture;
	pthread_mutex_lock(&writer->lock);
	while ((picture = writer_get_work(writer)) != NULL) {
		writer_write(writer, picture);
	}
	int error = writer->error;
	pthread_mutex_unlock(&writer->lock);

	if (error == 0 && sink->finish != NULL) {
		error = sink->finish(sink->data);
	}
	uint64_t bytes = sink->get_bytes(sink->data);

	pthread_mutex_lock(&writer->lock);
	writer->error = error;
	writer->stats.bytes = bytes;
	writer->ended = true;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
	return NULL;
}

static void handle_interrupt(int signal) {
}

/** SIGUSR1 ends a write of the thread, and all other signals are for the caller's. */
static int writer_start(struct record_writer *writer) {
	struct sigaction action = { .sa_handler = handle_interrupt };
	sigset_t others, old;
	sigemptyset(&action.sa_mask);
	sigaction(SIGUSR1, &action, NULL);
	sigfillset(&others);
	sigdelset(&others, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &others, &old);
	int ret = pthread_create(&writer->thread, NULL, writer_run, writer);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	writer->has_thread = ret == 0;
	return -ret;
}

int record_writer_create(const struct record_writer_options *options,
		struct record_writer **writer_ptr) {
	*writer_ptr = NULL;
	struct record_writer *writer = calloc(1, sizeof(*writer));
	if (writer == NULL) {
		return -ENOMEM;
	}
	writer->options = *options;
	pthread_condattr_t attributes;
	pthread_mutex_init(&writer->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	size_t n = MAX_MEMORY / options->picture_len;
	n = n < MIN_PICTURES ? MIN_PICTURES : n > MAX_PICTURES ? MAX_PICTURES : n;
	for (size_t i = 0; i < n; i++) {
		writer->unused[writer->n_unused++] = &writer->pictures[i];
	}
	int ret = writer_start(writer);
	if (ret < 0) {
		record_writer_destroy(writer);
		return ret;
	}
	*writer_ptr = writer;
	return 0;
}

void record_writer_destroy(struct record_writer *writer) {
	if (writer == NULL) {
		return;
	}
	if (writer->has_thread) {
		record_writer_finish(writer, &(struct record_deadlines){ 0, 0 });
	}
	for (size_t i = 0; i < MAX_PICTURES; i++) {
		free(writer->pictures[i].data);
	}
	pthread_cond_destroy(&writer->changed);
	pthread_mutex_destroy(&writer->lock);
	free(writer);
}

/** Takes back the newest picture: the thread is on the first one, and others wait. */
static struct picture *writer_take_newest(struct record_writer *writer) {
	assert(writer->n_queued >= 2);
	struct picture *picture = writer->queue[writer->n_queued - 1];
	struct picture *before = writer->queue[writer->n_queued - 2];
	writer->stats.unseen += !picture->is_written;
	if (writer->options.pace == RECORD_CONSTANT_RATE) {
		before->owed += picture->owed;
	} else {
		writer->n_waiting -= picture->owed;
	}
	picture->owed = 0;
	writer_remove(writer, writer->n_queued - 1);
	return writer->unused[--writer->n_unused];
}

uint8_t *record_writer_get_room(struct record_writer *writer) {
	assert(writer->room == NULL);
	pthread_mutex_lock(&writer->lock);
	struct picture *picture = writer->n_unused > 0 ? writer->unused[--writer->n_unused] :
		writer_take_newest(writer);
	pthread_mutex_unlock(&writer->lock);

	if (picture->data == NULL) {
		size_t len = (writer->options.picture_len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
		picture->data = aligned_alloc(ALIGNMENT, len);
	}
	writer->room = picture;
	if (picture->data == NULL) {
		record_writer_give_back(writer);
		return NULL;
	}
	return picture->data;
}

void record_writer_give_back(struct record_writer *writer) {
	pthread_mutex_lock(&writer->lock);
	writer->unused[writer->n_unused++] = writer->room;
	writer->room = NULL;
	pthread_mutex_unlock(&writer->lock);
}

/** With the lock. Drops what is oldest if there is too much. */
static void writer_limit_lag(struct record_writer *writer) {
	for (size_t i = 0; i < writer->n_queued; i++) {
		if (writer->n_waiting <= writer->options.max_lag) {
			return;
		}
		uint64_t excess = writer->n_waiting - writer->options.max_lag;
		uint64_t owed = writer->queue[i]->owed;
		writer_drop(writer, writer->queue[i], owed < excess ? owed : excess);
	}
}

/** With the lock. */
static void writer_extend(struct record_writer *writer, uint64_t end_slot) {
	if (writer->n_queued == 0 || end_slot <= writer->end_slot) {
		return;
	}
	struct picture *picture = writer->queue[writer->n_queued - 1];
	uint64_t n = end_slot - writer->end_slot;
	writer->end_slot = end_slot;
	if (writer->options.pace == RECORD_TIMED) {
		n = picture->is_written || picture->owed > 0 || writer_is_full(writer) ? 0 : 1;
	} else if (writer->options.max_frames > 0) {
		uint64_t left = writer->options.max_frames - writer->n_taken - writer->n_waiting;
		n = n < left ? n : left;
	}
	picture->owed += n;
	writer->n_waiting += n;
	if (writer->options.pace == RECORD_CONSTANT_RATE) {
		writer_limit_lag(writer);
	}
}

void record_writer_push(struct record_writer *writer, uint64_t slot) {
	struct picture *picture = writer->room;
	bool at_once = writer->options.pace == RECORD_EVERY_CHANGE;
	writer->room = NULL;
	pthread_mutex_lock(&writer->lock);
	if (!at_once) {
		writer_extend(writer, slot);
	}
	picture->slot = writer->end_slot;
	picture->owed = at_once && !writer_is_full(writer);
	picture->is_written = false;
	writer->n_waiting += picture->owed;
	writer->queue[writer->n_queued++] = picture;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
}

void record_writer_extend(struct record_writer *writer, uint64_t end_slot) {
	if (writer->options.pace == RECORD_EVERY_CHANGE) {
		return;
	}
	pthread_mutex_lock(&writer->lock);
	writer_extend(writer, end_slot);
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
}

bool record_writer_is_done(struct record_writer *writer) {
	pthread_mutex_lock(&writer->lock);
	bool is_done = writer->error != 0 || writer_is_full(writer);
	pthread_mutex_unlock(&writer->lock);
	return is_done;
}

void record_writer_get_stats(struct record_writer *writer, struct record_writer_stats *stats) {
	pthread_mutex_lock(&writer->lock);
	*stats = writer->stats;
	pthread_mutex_unlock(&writer->lock);
}

static void writer_wait(struct record_writer *writer, double seconds) {
	double end = cli_now() + seconds;
	struct timespec time = { .tv_sec = (time_t)end };
	time.tv_nsec = (long)((end - floor(end)) * 1e9);
	pthread_cond_timedwait(&writer->changed, &writer->lock, &time);
}

/** With the lock. One step of waiting for the thread's end. */
static void writer_await_end(struct record_writer *writer,
		const struct record_deadlines *deadlines) {
	double now = cli_now();
	if (now >= deadlines->last_frame && !writer->stopping) {
		writer->stopping = true;
		pthread_cond_broadcast(&writer->changed);
	}
	if (now < deadlines->give_up && cli_interrupted < 2) {
		double next = writer->stopping ? deadlines->give_up : deadlines->last_frame;
		writer_wait(writer, fmin(next - now, LOOK_UP_S));
		return;
	}
	writer->stopping = true;
	pthread_cond_broadcast(&writer->changed);
	// The signal may come just before the write: until it was none in vain
	writer->options.sink.give_up(writer->options.sink.data);
	pthread_kill(writer->thread, SIGUSR1);
	writer_wait(writer, INTERRUPT_S);
}

int record_writer_finish(struct record_writer *writer, const struct record_deadlines *deadlines) {
	pthread_mutex_lock(&writer->lock);
	writer->closed = true;
	pthread_cond_broadcast(&writer->changed);
	while (!writer->ended) {
		writer_await_end(writer, deadlines);
	}
	int error = writer->error;
	pthread_mutex_unlock(&writer->lock);
	pthread_join(writer->thread, NULL);
	writer->has_thread = false;
	return error;
}
