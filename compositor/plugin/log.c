/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "visible.h"

/** Of lines that wait for the thread; as much again is being written by it. */
#define QUEUE_CAP (64 * 1024)
/** A pipe takes as much in one piece, and lines of several compositors do not mix. */
#define LINE_CAP 2048
/** Lines of a process in a second: more than its quota lets it cause by sessions. */
#define LINES_CAP 40
#define PERIOD_MS 1000
/** Processes that are counted apart; those beyond are counted together. */
#define RATES_CAP 32
#define OTHERS_PID (-1)

/** What a process has had logged since a time. */
struct rate {
	pid_t pid;
	int64_t since_ms; // 0 is never
	uint32_t n_lines, n_more; // written, and left out
};

static struct {
	pthread_mutex_t mutex; // of all that follows
	pthread_cond_t wake, idle; // of the thread, and of log_flush()
	int fd;
	pid_t thread_pid; // the process that has the thread, 0 if there is none yet
	char queue[QUEUE_CAP];
	size_t queued;
	bool is_writing;
	uint64_t n_dropped; // since the queue was full
	struct rate rates[RATES_CAP], others;
} state = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.idle = PTHREAD_COND_INITIALIZER,
	.fd = STDERR_FILENO,
	.others = { .pid = OTHERS_PID },
};

static int64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now); // the clock of condition variables
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Called with the mutex */

static void append_line(const char *text) {
	char line[LINE_CAP];
	time_t now = time(NULL);
	struct tm tm;
	localtime_r(&now, &tm);
	size_t len = strftime(line, sizeof(line), "%FT%T%z vitrine: ", &tm);
	visible_text(line + len, sizeof(line) - len - 1, text, VISIBLE_PLAIN);
	len += strlen(line + len);
	line[len++] = '\n';
	if (state.n_dropped > 0 || len > sizeof(state.queue) - state.queued) {
		state.n_dropped++; // until what waits before it is written
		return;
	}
	memcpy(state.queue + state.queued, line, len);
	state.queued += len;
}

static bool rate_is_over(const struct rate *rate, int64_t now) {
	return now - rate->since_ms >= PERIOD_MS || now < rate->since_ms;
}

/** Tells what was left out. */
static void rate_end(struct rate *rate) {
	char text[96];
	if (rate->n_more > 0 && rate->pid == OTHERS_PID) {
		snprintf(text, sizeof(text), "and %u more lines of other processes", rate->n_more);
		append_line(text);
	} else if (rate->n_more > 0) {
		snprintf(text, sizeof(text), "and %u more lines of pid %d", rate->n_more, (int)rate->pid);
		append_line(text);
	}
	*rate = (struct rate){ .pid = rate->pid };
}

static struct rate *find_rate(pid_t pid, int64_t now) {
	struct rate *unused = NULL;
	for (size_t i = 0; i < RATES_CAP; i++) {
		struct rate *rate = &state.rates[i];
		if (rate->since_ms != 0 && rate_is_over(rate, now)) {
			rate_end(rate);
		}
		if (rate->since_ms == 0) {
			unused = rate;
		} else if (rate->pid == pid) {
			return rate;
		}
	}
	if (unused == NULL) {
		if (rate_is_over(&state.others, now)) {
			rate_end(&state.others);
		}
		unused = &state.others;
	} else {
		unused->pid = pid;
	}
	unused->since_ms = unused->since_ms != 0 ? unused->since_ms : now;
	return unused;
}

/** Ends the periods that are over. Returns when the next one is that leaves lines out, or 0. */
static int64_t end_rates(int64_t now) {
	int64_t next = 0;
	for (size_t i = 0; i <= RATES_CAP; i++) {
		struct rate *rate = i < RATES_CAP ? &state.rates[i] : &state.others;
		if (rate->n_more > 0 && rate_is_over(rate, now)) {
			rate_end(rate);
		}
		int64_t end = rate->since_ms + PERIOD_MS;
		if (rate->n_more > 0 && (next == 0 || end < next)) {
			next = end;
		}
	}
	return next;
}

/* The thread */

/** Without the mutex. However long it takes. */
static void write_all(int fd, const char *data, size_t len) {
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
		} else if (errno != EINTR) {
			return; // there is no place to tell that
		}
	}
}

static void write_lines(int fd, const char *data, size_t len) {
	while (len > 0) {
		const char *newline = memchr(data, '\n', len);
		size_t line_len = newline != NULL ? (size_t)(newline - data) + 1 : len;
		write_all(fd, data, line_len);
		data += line_len;
		len -= line_len;
	}
}

/** Waits for something to write. */
static void wait_for_lines(void) {
	int64_t next = end_rates(now_ms());
	while (state.queued == 0) {
		if (next == 0) {
			pthread_cond_wait(&state.wake, &state.mutex);
		} else {
			struct timespec end = {
				.tv_sec = (time_t)(next / 1000), .tv_nsec = (long)(next % 1000) * 1000000,
			};
			pthread_cond_timedwait(&state.wake, &state.mutex, &end);
		}
		next = end_rates(now_ms());
	}
}

static void *run(void *data) {
	static char batch[QUEUE_CAP];
	pthread_mutex_lock(&state.mutex);
	while (true) {
		wait_for_lines();
		size_t len = state.queued;
		int fd = state.fd;
		memcpy(batch, state.queue, len);
		state.queued = 0;
		state.is_writing = true;
		pthread_mutex_unlock(&state.mutex);
		write_lines(fd, batch, len);
		pthread_mutex_lock(&state.mutex);
		state.is_writing = false;
		if (state.n_dropped > 0 && state.queued == 0) {
			char text[96];
			snprintf(text, sizeof(text), "%llu lines were dropped: the log did not take them",
				(unsigned long long)state.n_dropped);
			state.n_dropped = 0;
			append_line(text);
		}
		if (state.queued == 0) {
			pthread_cond_broadcast(&state.idle);
		}
	}
	return NULL;
}

/** With the mutex. The thread handles no signals: SIGPIPE is an error of write() to it. */
static void start_thread(void) {
	if (state.thread_pid != 0) {
		return;
	}
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, NULL) == 0) {
		pthread_detach(thread);
		state.thread_pid = getpid();
	} // else lines wait, and are dropped: the next one tries again
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void log_set_fd(int borrowed_fd) {
	pthread_mutex_lock(&state.mutex);
	state.fd = borrowed_fd;
	pthread_mutex_unlock(&state.mutex);
}

void log_line(const char *text) {
	pthread_mutex_lock(&state.mutex);
	append_line(text);
	start_thread();
	pthread_cond_signal(&state.wake);
	pthread_mutex_unlock(&state.mutex);
}

void log_line_of(pid_t pid, const char *text) {
	pthread_mutex_lock(&state.mutex);
	struct rate *rate = find_rate(pid, now_ms());
	if (rate->n_lines < LINES_CAP) {
		rate->n_lines++;
		append_line(text);
	} else {
		rate->n_more++;
	}
	start_thread();
	pthread_cond_signal(&state.wake);
	pthread_mutex_unlock(&state.mutex);
}

void log_flush(int timeout_ms) {
	// A child that was forked has the state, but neither the thread nor its lines
	if (state.thread_pid != getpid()) {
		return;
	}
	int64_t end_ms = now_ms() + timeout_ms;
	struct timespec end = {
		.tv_sec = (time_t)(end_ms / 1000), .tv_nsec = (long)(end_ms % 1000) * 1000000,
	};
	int ret = 0;
	pthread_mutex_lock(&state.mutex);
	while ((state.queued > 0 || state.is_writing) && ret == 0) {
		ret = pthread_cond_timedwait(&state.idle, &state.mutex, &end);
	}
	pthread_mutex_unlock(&state.mutex);
}
