/* SPDX-License-Identifier: MIT */
/*
 * The event loop's side is struct vt_copier, the thread's struct worker, which both have
 * a reference to. They share what the mutex guards, and two eventfds: one wakes the
 * thread where it waits, the other one the event loop.
 */
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <wayland-server-core.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/dmabuf.h>
#include <wlr/util/log.h>

#include "copier.h"
#include "copy_gl.h"
#include "thread.h"

/** A copy that takes longer never ends. Drivers that are cold take seconds. */
#define DEADLINE_MS 10000
/** A holder of the target has had time to finish before: these are its last fences. */
#define BUSY_MS 100
/** As much is copied at once while the event loop may have to wait for the mutex. */
#define BAND_BYTES ((size_t)128 << 10)
/** Drawing goes first. */
#define NICENESS 5

enum job_state {
	JOB_NONE, // the thread has nothing to do
	JOB_QUEUED, // the thread has not seen it
	JOB_RUNNING, // or the thread itself starts, at first
	JOB_CANCELLED, // the thread has not reported yet
	JOB_REPORTED,
};

/** A copy, with file descriptors of its own. */
struct job {
	struct wlr_dmabuf_attributes source, target;
	int fence_fd; // -1 if there is none
	pixman_region32_t region;
	char *data; // NULL if the target is a dma-buf
	size_t stride;
	uint32_t fourcc;
};

struct worker {
	atomic_int n_refs; // the copier's, and the thread's
	bool is_private; // one of n_private
	int drm_fd; // -1 for no device
	int wake_fd; // eventfd: readable while the thread must not wait for anything else
	int done_fd; // eventfd: the thread has something to tell

	pthread_mutex_t mutex;
	pthread_cond_t changed; // for the thread to look at what follows
	bool ends;
	enum job_state state;
	enum vt_copier_event result; // once it has REPORTED
	bool source_is_read; // as long as it is RUNNING
	struct job job; // the thread's from when it is RUNNING until it has reported
	struct vt_copy_gl *gl; // the thread's, NULL until the next copy if it was lost
	bool needs_no_fence; // since the thread has started
};

struct vt_copier {
	struct worker *worker;
	const struct vt_copier_interface *impl;
	void *data;
	struct wl_event_source *done_source, *deadline_timer;
	bool is_busy;
	/** Locked. NULL if there is no copy, and the source once it has been read. */
	struct wlr_buffer *source, *target;
};

/** Threads of private copiers that are not at their end. */
static atomic_int n_private;

static void close_if_open(int fd) {
	if (fd >= 0) {
		close(fd);
	}
}

/* Jobs */

static const struct job no_job = { .fence_fd = -1 };

static void close_fds(struct wlr_dmabuf_attributes *dmabuf) {
	while (dmabuf->n_planes > 0) {
		close(dmabuf->fd[--dmabuf->n_planes]);
	}
}

static void job_finish(struct job *job) {
	close_fds(&job->source);
	close_fds(&job->target);
	close_if_open(job->fence_fd);
	pixman_region32_fini(&job->region);
	*job = no_job;
}

/** Takes the fence over if it succeeds. */
static bool job_init(struct job *job, const struct vt_copy *copy) {
	struct wlr_dmabuf_attributes source, target;
	*job = no_job;
	pixman_region32_init(&job->region);
	if (!pixman_region32_copy(&job->region, copy->region) ||
			!wlr_buffer_get_dmabuf(copy->source, &source) ||
			!wlr_dmabuf_attributes_copy(&job->source, &source)) {
		goto err;
	}
	if (copy->data == NULL && (!wlr_buffer_get_dmabuf(copy->target, &target) ||
			!wlr_dmabuf_attributes_copy(&job->target, &target))) {
		goto err;
	}
	job->fence_fd = copy->take_fence_fd;
	job->data = copy->data;
	job->stride = copy->stride;
	job->fourcc = copy->fourcc;
	return true;
err:
	job_finish(job);
	return false;
}

/* The thread */

/** Frees what both sides are done with. */
static void worker_unref(struct worker *worker) {
	if (atomic_fetch_sub(&worker->n_refs, 1) > 1) {
		return;
	}
	job_finish(&worker->job);
	close_if_open(worker->drm_fd);
	close(worker->wake_fd);
	close(worker->done_fd);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->mutex);
	free(worker);
}

/**
 * Waits for an event, no longer than so many ms (-1: for ever). DONE if it came, BUSY if it
 * did not, CANCELLED if the thread is to do something else.
 */
static enum vt_copier_event worker_wait_for(const struct worker *worker, int fd, short events,
		int timeout_ms) {
	struct pollfd pollfds[] = {
		{ .fd = fd, .events = events },
		{ .fd = worker->wake_fd, .events = POLLIN },
	};
	int ret;
	do {
		ret = poll(pollfds, 2, timeout_ms);
	} while (ret < 0); // by a signal
	if (ret == 0) {
		return VT_COPIER_BUSY;
	}
	return pollfds[1].revents != 0 ? VT_COPIER_CANCELLED : VT_COPIER_DONE;
}

/**
 * Waits for the fences of a dma-buf: here rather than on the GPU, where other copies of the
 * context would wait as well.
 */
static enum vt_copier_event worker_wait_for_dmabuf(const struct worker *worker,
		const struct wlr_dmabuf_attributes *dmabuf, short events, int timeout_ms) {
	enum vt_copier_event result = VT_COPIER_DONE;
	for (int i = 0; i < dmabuf->n_planes && result == VT_COPIER_DONE; i++) {
		result = worker_wait_for(worker, dmabuf->fd[i], events, timeout_ms);
	}
	return result;
}

static enum vt_copier_event worker_wait_for_source(const struct worker *worker) {
	const struct job *job = &worker->job;
	enum vt_copier_event result = job->fence_fd >= 0 ?
		worker_wait_for(worker, job->fence_fd, POLLIN, -1) : VT_COPIER_DONE;
	return result != VT_COPIER_DONE ? result :
		worker_wait_for_dmabuf(worker, &job->source, POLLIN, -1);
}

static bool worker_is_wanted(struct worker *worker) {
	pthread_mutex_lock(&worker->mutex);
	bool is_wanted = worker->state == JOB_RUNNING;
	pthread_mutex_unlock(&worker->mutex);
	return is_wanted;
}

/** The source has been read, to memory of our own. */
static void worker_report_read(struct worker *worker) {
	pthread_mutex_lock(&worker->mutex);
	worker->source_is_read = true;
	pthread_mutex_unlock(&worker->mutex);
	eventfd_write(worker->done_fd, 1);
}

/** Copies some rows, unless they are not to be written any more. */
static bool worker_copy_band(struct worker *worker, const struct vt_copy_gl_pixels *pixels,
		const pixman_box32_t *band) {
	size_t start = (size_t)band->x1 * pixels->bytes_per_pixel;
	size_t len = (size_t)(band->x2 - band->x1) * pixels->bytes_per_pixel;
	pthread_mutex_lock(&worker->mutex);
	bool goes_on = worker->state == JOB_RUNNING;
	for (int y = band->y1; goes_on && y < band->y2; y++) {
		memcpy(worker->job.data + (size_t)y * worker->job.stride + start,
			(const char *)pixels->data + (size_t)y * pixels->stride + start, len);
	}
	pthread_mutex_unlock(&worker->mutex);
	return goes_on;
}

static bool worker_copy_rect(struct worker *worker, const struct vt_copy_gl_pixels *pixels,
		const pixman_box32_t *rect) {
	size_t row_bytes = (size_t)(rect->x2 - rect->x1) * pixels->bytes_per_pixel;
	int rows = row_bytes < BAND_BYTES ? (int)(BAND_BYTES / row_bytes) : 1;
	bool goes_on = true;
	for (int y = rect->y1; goes_on && y < rect->y2; y += rows) {
		pixman_box32_t band = *rect;
		band.y1 = y;
		band.y2 = y + rows < rect->y2 ? y + rows : rect->y2;
		goes_on = worker_copy_band(worker, pixels, &band);
	}
	return goes_on;
}

static enum vt_copier_event worker_read(struct worker *worker) {
	struct job *job = &worker->job;
	struct vt_copy_gl_pixels pixels;
	if (!vt_copy_gl_read(worker->gl, &job->source, job->fourcc, &job->region, &pixels)) {
		return VT_COPIER_FAILED;
	}
	int n_rects;
	const pixman_box32_t *rects = pixman_region32_rectangles(&job->region, &n_rects);
	bool goes_on = true;
	for (int i = 0; i < n_rects && goes_on; i++) {
		goes_on = worker_copy_rect(worker, &pixels, &rects[i]);
	}
	return VT_COPIER_DONE; // or it was cancelled
}

/**
 * The output has its buffer back before the client's memory is touched. What is drawn
 * after a cancellation, since it had begun before, is what was read before. The GPU waits
 * for those of the client's fences alone that come in between: they cost this thread.
 */
static enum vt_copier_event worker_draw(struct worker *worker) {
	struct job *job = &worker->job;
	if (!vt_copy_gl_stage(worker->gl, &job->source, &job->region, worker->wake_fd)) {
		return VT_COPIER_FAILED;
	}
	worker_report_read(worker);
	enum vt_copier_event result =
		worker_wait_for_dmabuf(worker, &job->target, POLLOUT, BUSY_MS);
	if (result == VT_COPIER_DONE && worker_is_wanted(worker) &&
			!vt_copy_gl_draw(worker->gl, &job->target, &job->region, worker->wake_fd)) {
		result = VT_COPIER_FAILED;
	}
	return result;
}

static enum vt_copier_event worker_copy(struct worker *worker) {
	enum vt_copier_event result = worker_wait_for_source(worker);
	if (result != VT_COPIER_DONE) {
		return result;
	}
	return worker->job.data != NULL ? worker_read(worker) : worker_draw(worker);
}

/** A context that is lost, since the GPU was reset, is made anew before the next copy. */
static enum vt_copier_event worker_copy_in_context(struct worker *worker) {
	if (worker->gl == NULL) {
		worker->gl = vt_copy_gl_create(worker->drm_fd);
	}
	if (worker->gl == NULL) {
		return VT_COPIER_FAILED;
	}
	enum vt_copier_event result = worker_copy(worker);
	if (vt_copy_gl_is_lost(worker->gl)) {
		vt_copy_gl_destroy(worker->gl);
		worker->gl = NULL;
		return VT_COPIER_FAILED;
	}
	return result;
}

static void worker_report(struct worker *worker, enum vt_copier_event result) {
	pthread_mutex_lock(&worker->mutex);
	worker->result = worker->state == JOB_CANCELLED ? VT_COPIER_CANCELLED : result;
	worker->state = JOB_REPORTED;
	pthread_mutex_unlock(&worker->mutex);
	eventfd_write(worker->done_fd, 1);
}

/** Waits for the next copy. False if there is none. */
static bool worker_await_job(struct worker *worker) {
	pthread_mutex_lock(&worker->mutex);
	while (!worker->ends && worker->state != JOB_QUEUED) {
		pthread_cond_wait(&worker->changed, &worker->mutex);
	}
	bool goes_on = !worker->ends;
	if (goes_on) {
		worker->state = JOB_RUNNING;
		worker->source_is_read = false;
	}
	pthread_mutex_unlock(&worker->mutex);
	return goes_on;
}

static void *worker_run(void *data) {
	struct worker *worker = data;
	setpriority(PRIO_PROCESS, 0, NICENESS); // of this thread alone
	worker->gl = vt_copy_gl_create(worker->drm_fd);
	worker->needs_no_fence = worker->gl != NULL && vt_copy_gl_attaches_fences(worker->gl);
	worker_report(worker, worker->gl != NULL ? VT_COPIER_DONE : VT_COPIER_FAILED);
	bool has_started = worker->gl != NULL;
	while (has_started && worker_await_job(worker)) {
		enum vt_copier_event result = worker_copy_in_context(worker);
		job_finish(&worker->job);
		worker_report(worker, result);
	}
	vt_copy_gl_destroy(worker->gl);
	atomic_fetch_sub(&n_private, worker->is_private);
	worker_unref(worker);
	vt_thread_leave_driver();
	return NULL;
}

/** A thread that gives way to others makes none with real-time priority wait. */
static void init_mutex(pthread_mutex_t *mutex) {
	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr); // cannot fail on Linux, nor can the rest
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
}

static struct worker *worker_create(int borrowed_drm_fd, bool is_private) {
	struct worker *worker = calloc(1, sizeof(*worker));
	if (worker == NULL) {
		return NULL;
	}
	worker->is_private = is_private;
	worker->drm_fd = borrowed_drm_fd >= 0 ? fcntl(borrowed_drm_fd, F_DUPFD_CLOEXEC, 0) : -1;
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if ((borrowed_drm_fd >= 0 && worker->drm_fd < 0) || worker->wake_fd < 0 ||
			worker->done_fd < 0) {
		goto err;
	}
	init_mutex(&worker->mutex);
	pthread_cond_init(&worker->changed, NULL);
	worker->job = no_job;
	worker->state = JOB_RUNNING;
	atomic_init(&worker->n_refs, 2);
	pthread_t thread;
	vt_thread_enter_driver();
	atomic_fetch_add(&n_private, is_private);
	if (!vt_thread_start(&thread, worker_run, worker)) {
		vt_thread_leave_driver();
		atomic_fetch_sub(&n_private, is_private);
		atomic_init(&worker->n_refs, 1);
		worker_unref(worker);
		return NULL;
	}
	pthread_detach(thread);
	return worker;
err:
	close_if_open(worker->drm_fd);
	close_if_open(worker->wake_fd);
	close_if_open(worker->done_fd);
	free(worker);
	return NULL;
}

/** The thread comes to its end when it can. */
static void worker_end(struct worker *worker) {
	pthread_mutex_lock(&worker->mutex);
	worker->ends = true;
	if (worker->state == JOB_RUNNING) {
		worker->state = JOB_CANCELLED;
	}
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->mutex);
	eventfd_write(worker->wake_fd, 1);
	worker_unref(worker);
}

/* The event loop's side */

static void copier_remove_source(struct wl_event_source *source) {
	if (source != NULL) {
		wl_event_source_remove(source);
	}
}

static void copier_unlock_source(struct vt_copier *copier) {
	wlr_buffer_unlock(copier->source);
	copier->source = NULL;
}

static void copier_unlock_buffers(struct vt_copier *copier) {
	copier_unlock_source(copier);
	wlr_buffer_unlock(copier->target);
	copier->target = NULL;
}

/** Returns false if there is nothing to tell any more. */
static bool worker_take_event(struct worker *worker, enum vt_copier_event *event) {
	pthread_mutex_lock(&worker->mutex);
	bool is_over = worker->state == JOB_REPORTED;
	bool is_read = worker->state == JOB_RUNNING && worker->source_is_read;
	*event = is_over ? worker->result : VT_COPIER_SOURCE_READ;
	if (is_over) {
		worker->state = JOB_NONE;
	}
	pthread_mutex_unlock(&worker->mutex);
	return is_over || is_read;
}

static int copier_handle_done(int fd, uint32_t mask, void *data) {
	struct vt_copier *copier = data;
	eventfd_t value;
	enum vt_copier_event event;
	if (eventfd_read(fd, &value) != 0 || !worker_take_event(copier->worker, &event)) {
		return 0;
	}
	if (event == VT_COPIER_SOURCE_READ) {
		copier_unlock_source(copier);
	} else {
		copier->is_busy = false;
		wl_event_source_timer_update(copier->deadline_timer, 0);
		copier_unlock_buffers(copier);
	}
	copier->impl->handle_event(copier->data, event);
	return 0;
}

static int copier_handle_deadline(void *data) {
	struct vt_copier *copier = data;
	wlr_log(WLR_ERROR, "A copy is not finished after %d ms: left behind", DEADLINE_MS);
	vt_copier_cancel(copier);
	copier->impl->handle_event(copier->data, VT_COPIER_STUCK);
	return 0;
}

static void copier_begin(struct vt_copier *copier) {
	copier->is_busy = true;
	wl_event_source_timer_update(copier->deadline_timer, DEADLINE_MS);
}

struct vt_copier *vt_copier_create(struct wl_event_loop *loop, int borrowed_drm_fd,
		bool is_private, const struct vt_copier_interface *impl, void *data) {
	if (is_private && atomic_load(&n_private) >= VT_COPIERS_PRIVATE_CAP) {
		return NULL;
	}
	struct vt_copier *copier = calloc(1, sizeof(*copier));
	if (copier == NULL) {
		return NULL;
	}
	copier->impl = impl;
	copier->data = data;
	copier->worker = worker_create(borrowed_drm_fd, is_private);
	if (copier->worker == NULL) {
		goto err_copier;
	}
	copier->done_source = wl_event_loop_add_fd(loop, copier->worker->done_fd,
		WL_EVENT_READABLE, copier_handle_done, copier);
	copier->deadline_timer = wl_event_loop_add_timer(loop, copier_handle_deadline, copier);
	if (copier->done_source == NULL || copier->deadline_timer == NULL) {
		goto err_sources;
	}
	copier_begin(copier);
	return copier;

err_sources:
	copier_remove_source(copier->done_source);
	copier_remove_source(copier->deadline_timer);
	worker_end(copier->worker);
err_copier:
	free(copier);
	return NULL;
}

void vt_copier_destroy(struct vt_copier *copier) {
	if (copier == NULL) {
		return;
	}
	copier_remove_source(copier->done_source);
	copier_remove_source(copier->deadline_timer);
	worker_end(copier->worker); // nothing is written from here on
	copier_unlock_buffers(copier);
	free(copier);
}

bool vt_copier_is_busy(const struct vt_copier *copier) {
	return copier->is_busy;
}

bool vt_copier_needs_no_fence(const struct vt_copier *copier) {
	return copier->worker->needs_no_fence;
}

bool vt_copier_start(struct vt_copier *copier, const struct vt_copy *copy) {
	assert(!copier->is_busy);
	struct worker *worker = copier->worker;
	struct job job;
	if (!job_init(&job, copy)) {
		close_if_open(copy->take_fence_fd);
		return false;
	}
	copier->source = wlr_buffer_lock(copy->source);
	copier->target = wlr_buffer_lock(copy->target);
	eventfd_t value;
	eventfd_read(worker->wake_fd, &value); // of a copy that was cancelled
	pthread_mutex_lock(&worker->mutex);
	worker->job = job;
	worker->state = JOB_QUEUED;
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->mutex);
	copier_begin(copier);
	return true;
}

void vt_copier_cancel(struct vt_copier *copier) {
	if (!copier->is_busy) {
		return;
	}
	struct worker *worker = copier->worker;
	pthread_mutex_lock(&worker->mutex);
	if (worker->state == JOB_RUNNING) {
		worker->state = JOB_CANCELLED;
	} else if (worker->state == JOB_QUEUED) {
		// The thread will never see it: its report is made here
		job_finish(&worker->job);
		worker->state = JOB_REPORTED;
		eventfd_write(worker->done_fd, 1);
	}
	worker->result = VT_COPIER_CANCELLED; // even if it is done: the target is not wanted
	pthread_mutex_unlock(&worker->mutex);
	eventfd_write(worker->wake_fd, 1);
	copier_unlock_buffers(copier);
}
