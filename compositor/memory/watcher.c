/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "clock.h"
#include "pins.h"
#include "thread.h"
#include "watcher.h"

/** From the start to the first look; it is twice as long from look to look, */
#define FIRST_MS 50
/** but no longer than with the last of so many intervals: 3200 ms. */
#define N_INTERVALS 7
/** So many looks, of which the kernel answers none, and there is no other one. */
#define UNKNOWN_CAP 2

struct vt_watched {
	struct wl_list link; // one of vt_watcher.pending or .ended; none while the thread looks at it
	struct vt_watcher *watcher;
	int memfd, dmabuf_fd; // -1 if it is none
	void (*handle_end)(void *data, bool is_free);
	void *data;
	bool is_free; // of `ended`

	int64_t next_ms; // when to look, CLOCK_MONOTONIC
	uint32_t interval; // of the next look, its place in vt_watcher.pending
	// The thread's alone
	size_t checked; // see vt_pins_find()
	uint32_t n_unknown;
};

struct vt_watcher {
	struct wl_event_source *event_source;
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t mutex;
	pthread_cond_t changed; // for the thread to look at what follows
	bool ends;
	int ended_fd; // eventfd: there is something in `ended`
	/**
	 * vt_watched.link, by interval: so each is in the order of time. There can be tens of
	 * thousands, and each is looked at again and again.
	 */
	struct wl_list pending[N_INTERVALS];
	struct wl_list ended; // vt_watched.link, to be told
};

/* Looking */

/**
 * Whether no other process has the memfd open or mapped: the kernel grants a write
 * lease to the only holder.
 */
static bool memfd_is_ours_alone(int fd) {
	// A process that opens the file through /proc right now breaks the lease: the
	// signal for that must be one that is ignored, which SIGIO is not
	if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
		return false;
	}
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return true;
}

/**
 * The same of a dma-buf, which says itself how often its file is held: by file
 * descriptors, mappings, importers, and everything that was derived from it. A mapping of
 * it has no pages that could be pinned.
 */
static bool dmabuf_is_ours_alone(int fd) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		return false;
	}
	long count = LONG_MAX;
	char line[128];
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "count: %ld", &count) == 1) {
			break;
		}
	}
	fclose(file);
	return count <= 1;
}

static void close_fd(int *fd) {
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

static enum vt_pins watched_look(struct vt_watched *watched) {
	if (watched->dmabuf_fd >= 0) {
		if (!dmabuf_is_ours_alone(watched->dmabuf_fd)) {
			return VT_PINS_SOME;
		}
		close_fd(&watched->dmabuf_fd); // which has pinned all of the memfd
	}
	if (watched->memfd < 0) {
		return VT_PINS_NONE;
	}
	if (!memfd_is_ours_alone(watched->memfd)) {
		watched->checked = 0; // what has it may pin what was not pinned
		return VT_PINS_SOME;
	}
	return vt_pins_find(watched->memfd, &watched->checked);
}

/* The thread: the mutex is held but while it looks */

/**
 * The one to look at next. Of those that it is time for one that was looked at less often:
 * what is kept for long, and takes long to look at, holds up nothing that is given back soon.
 */
static struct vt_watched *watcher_find_first(struct vt_watcher *watcher, int64_t now_ms) {
	struct vt_watched *first = NULL;
	for (size_t i = 0; i < N_INTERVALS; i++) {
		if (wl_list_empty(&watcher->pending[i])) {
			continue;
		}
		struct vt_watched *watched = wl_container_of(watcher->pending[i].next, watched, link);
		if (watched->next_ms <= now_ms) {
			return watched;
		}
		if (first == NULL || watched->next_ms < first->next_ms) {
			first = watched;
		}
	}
	return first;
}

static void watcher_add(struct vt_watcher *watcher, struct vt_watched *watched) {
	watched->next_ms = vt_now_ms() + ((int64_t)FIRST_MS << watched->interval);
	wl_list_insert(watcher->pending[watched->interval].prev, &watched->link);
}

/** Puts it where it belongs by what was found. */
static void watcher_sort(struct vt_watcher *watcher, struct vt_watched *watched,
		enum vt_pins pins) {
	watched->n_unknown = pins == VT_PINS_UNKNOWN ? watched->n_unknown + 1 : 0;
	watched->is_free = pins == VT_PINS_NONE;
	if (watched->is_free || watched->n_unknown >= UNKNOWN_CAP) {
		wl_list_insert(&watcher->ended, &watched->link);
		eventfd_write(watcher->ended_fd, 1);
	} else {
		watched->interval += watched->interval < N_INTERVALS - 1;
		watcher_add(watcher, watched);
	}
}

static void watcher_look(struct vt_watcher *watcher, struct vt_watched *watched) {
	wl_list_remove(&watched->link);
	wl_list_init(&watched->link);
	pthread_mutex_unlock(&watcher->mutex);
	enum vt_pins pins = watched_look(watched);
	bool is_lost = pins == VT_PINS_UNKNOWN && watched->n_unknown + 1 >= UNKNOWN_CAP;
	if (pins == VT_PINS_NONE || is_lost) {
		// The kernel has much to do. What is lost goes on to count, but need not be there
		close_fd(&watched->memfd);
	}
	pthread_mutex_lock(&watcher->mutex);
	watcher_sort(watcher, watched, pins);
}

static void watcher_wait(struct vt_watcher *watcher, const struct vt_watched *first) {
	if (first == NULL) {
		pthread_cond_wait(&watcher->changed, &watcher->mutex);
		return;
	}
	const struct timespec until = {
		.tv_sec = first->next_ms / 1000,
		.tv_nsec = first->next_ms % 1000 * 1000000,
	};
	pthread_cond_timedwait(&watcher->changed, &watcher->mutex, &until);
}

static void list_destroy(struct wl_list *list) {
	struct vt_watched *watched, *tmp;
	wl_list_for_each_safe(watched, tmp, list, link) {
		wl_list_remove(&watched->link);
		wl_list_init(&watched->link);
		vt_watched_destroy(watched);
	}
}

static void watcher_free(struct vt_watcher *watcher) {
	for (size_t i = 0; i < N_INTERVALS; i++) {
		list_destroy(&watcher->pending[i]);
	}
	list_destroy(&watcher->ended);
	close_fd(&watcher->ended_fd);
	pthread_cond_destroy(&watcher->changed);
	pthread_mutex_destroy(&watcher->mutex);
	free(watcher);
}

/**
 * Not at a lower priority: it maps memory, and the event loop that does so too would wait
 * for whatever goes before this thread.
 */
static void *watcher_run(void *data) {
	struct vt_watcher *watcher = data;
	pthread_mutex_lock(&watcher->mutex);
	while (!watcher->ends) {
		int64_t now_ms = vt_now_ms();
		struct vt_watched *first = watcher_find_first(watcher, now_ms);
		if (first != NULL && first->next_ms <= now_ms) {
			watcher_look(watcher, first);
		} else {
			watcher_wait(watcher, first);
		}
	}
	pthread_mutex_unlock(&watcher->mutex);
	return NULL;
}

/* The main thread */

static struct vt_watched *watcher_take_ended(struct vt_watcher *watcher) {
	struct vt_watched *watched = NULL;
	pthread_mutex_lock(&watcher->mutex);
	if (!wl_list_empty(&watcher->ended)) {
		watched = wl_container_of(watcher->ended.next, watched, link);
		wl_list_remove(&watched->link);
		wl_list_init(&watched->link);
	}
	pthread_mutex_unlock(&watcher->mutex);
	return watched;
}

static int watcher_handle_ended(int fd, uint32_t mask, void *data) {
	struct vt_watcher *watcher = data;
	eventfd_t count;
	eventfd_read(fd, &count);
	struct vt_watched *watched;
	while ((watched = watcher_take_ended(watcher)) != NULL) {
		watched->handle_end(watched->data, watched->is_free);
		vt_watched_destroy(watched);
	}
	return 0;
}

struct vt_watcher *vt_watcher_create(struct wl_event_loop *loop) {
	struct vt_watcher *watcher = calloc(1, sizeof(*watcher));
	if (watcher == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < N_INTERVALS; i++) {
		wl_list_init(&watcher->pending[i]);
	}
	wl_list_init(&watcher->ended);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watcher->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&watcher->mutex, NULL);
	watcher->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	watcher->event_source = watcher->ended_fd < 0 ? NULL : wl_event_loop_add_fd(loop,
		watcher->ended_fd, WL_EVENT_READABLE, watcher_handle_ended, watcher);
	if (watcher->event_source == NULL) {
		watcher_free(watcher);
		return NULL;
	}
	return watcher;
}

void vt_watcher_destroy(struct vt_watcher *watcher) {
	if (watcher == NULL) {
		return;
	}
	wl_event_source_remove(watcher->event_source);
	if (watcher->has_thread) {
		pthread_mutex_lock(&watcher->mutex);
		watcher->ends = true;
		pthread_cond_signal(&watcher->changed);
		pthread_mutex_unlock(&watcher->mutex);
		// A look takes milliseconds, and there is no event loop any more that would wait
		pthread_join(watcher->thread, NULL);
	}
	watcher_free(watcher);
}

static bool watcher_start_thread(struct vt_watcher *watcher) {
	if (!watcher->has_thread) {
		watcher->has_thread = vt_thread_start(&watcher->thread, watcher_run, watcher);
		if (!watcher->has_thread) {
			wlr_log(WLR_ERROR, "Failed to start the thread that looks at retired memory");
		}
	}
	return watcher->has_thread;
}

/** False for lack of file descriptors. */
static bool duplicate(int borrowed_fd, int *fd) {
	*fd = borrowed_fd >= 0 ? fcntl(borrowed_fd, F_DUPFD_CLOEXEC, 0) : -1;
	return borrowed_fd < 0 || *fd >= 0;
}

struct vt_watched *vt_watched_create(struct vt_watcher *watcher, int borrowed_memfd,
		int borrowed_dmabuf_fd) {
	struct vt_watched *watched = calloc(1, sizeof(*watched));
	// The thread is there first: what is watched must be looked at
	if (watched == NULL || !watcher_start_thread(watcher)) {
		free(watched);
		return NULL;
	}
	watched->watcher = watcher;
	watched->dmabuf_fd = -1;
	wl_list_init(&watched->link);
	if (!duplicate(borrowed_memfd, &watched->memfd) ||
			!duplicate(borrowed_dmabuf_fd, &watched->dmabuf_fd)) {
		wlr_log_errno(WLR_ERROR, "Failed to watch memory");
		vt_watched_destroy(watched);
		return NULL;
	}
	return watched;
}

void vt_watched_destroy(struct vt_watched *watched) {
	if (watched == NULL) {
		return;
	}
	assert(wl_list_empty(&watched->link));
	close_fd(&watched->memfd);
	close_fd(&watched->dmabuf_fd);
	free(watched);
}

void vt_watched_start(struct vt_watched *watched, void (*handle_end)(void *data, bool is_free),
		void *data) {
	struct vt_watcher *watcher = watched->watcher;
	watched->handle_end = handle_end;
	watched->data = data;
	watched->interval = 0;
	pthread_mutex_lock(&watcher->mutex);
	watcher_add(watcher, watched);
	pthread_cond_signal(&watcher->changed);
	pthread_mutex_unlock(&watcher->mutex);
}
