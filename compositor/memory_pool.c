/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "memory.h"

/** A frame or two are drawn before the next piece is there. */
#define SPARES_CAP 2
#define SPARES_BYTES_CAP ((size_t)256 << 20)
/** Less than that is made faster than it is handed from thread to thread. */
#define SPARE_SIZE_MIN ((size_t)2 << 20)
/** Nobody has needed any for so long: the memory is better used elsewhere. */
#define KEEP_S 10
/** Drawing goes first. */
#define NICENESS 10

struct view_memory_pool {
	size_t n_refs; // of the main thread, as is all up to the mutex
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t mutex;
	pthread_cond_t changed; // for the thread to look at what follows
	bool ends;
	size_t size; // of the pieces to make, 0 if none is likely to be needed
	struct timespec keep_until; // CLOCK_MONOTONIC
	struct view_memory spares[SPARES_CAP];
	size_t n_spares;
};

static void pool_keep(struct view_memory_pool *pool) {
	clock_gettime(CLOCK_MONOTONIC, &pool->keep_until);
	pool->keep_until.tv_sec += KEEP_S;
}

static bool pool_is_kept_too_long(const struct view_memory_pool *pool) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > pool->keep_until.tv_sec || (now.tv_sec == pool->keep_until.tv_sec &&
		now.tv_nsec >= pool->keep_until.tv_nsec);
}

static bool pool_wants_more(const struct view_memory_pool *pool) {
	return pool->size > 0 && pool->n_spares < SPARES_CAP &&
		(pool->n_spares + 1) * pool->size <= SPARES_BYTES_CAP;
}

/* The thread: the mutex is held but while the kernel has much to do */

static bool pool_take_spare(struct view_memory_pool *pool, size_t i, struct view_memory *memory) {
	if (i >= pool->n_spares) {
		return false;
	}
	*memory = pool->spares[i];
	pool->spares[i] = pool->spares[--pool->n_spares];
	return true;
}

/** Frees a piece that is of no use. Returns false if there is none. */
static bool pool_free_useless(struct view_memory_pool *pool) {
	for (size_t i = 0; i < pool->n_spares; i++) {
		struct view_memory memory;
		if (pool->spares[i].size != pool->size && pool_take_spare(pool, i, &memory)) {
			pthread_mutex_unlock(&pool->mutex);
			view_memory_finish(&memory);
			pthread_mutex_lock(&pool->mutex);
			return true;
		}
	}
	return false;
}

static void pool_add_spare(struct view_memory_pool *pool) {
	size_t size = pool->size;
	struct view_memory memory;
	pthread_mutex_unlock(&pool->mutex);
	bool ok = view_memory_init(&memory, size);
	pthread_mutex_lock(&pool->mutex);
	if (!ok) {
		pool->size = 0; // until somebody asks again
	} else {
		// Nobody else adds any, so there is room. Its size may have become useless
		pool->spares[pool->n_spares++] = memory;
	}
}

static void *pool_run(void *data) {
	struct view_memory_pool *pool = data;
	setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	pthread_mutex_lock(&pool->mutex);
	while (!pool->ends) {
		if (pool_free_useless(pool)) {
			continue;
		} else if (pool_wants_more(pool)) {
			pool_add_spare(pool);
		} else if (pool->size == 0) {
			pthread_cond_wait(&pool->changed, &pool->mutex);
		} else if (pool_is_kept_too_long(pool)) {
			pool->size = 0;
		} else {
			pthread_cond_timedwait(&pool->changed, &pool->mutex, &pool->keep_until);
		}
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

/** An ordinary thread, whatever the compositor's is, that handles no signals. */
static void pool_start_thread(struct view_memory_pool *pool) {
	pthread_attr_t attr;
	if (pthread_attr_init(&attr) != 0) {
		return;
	}
	const struct sched_param param = { 0 };
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &param);
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pool->has_thread = pthread_create(&pool->thread, &attr, pool_run, pool) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (!pool->has_thread) {
		wlr_log(WLR_ERROR, "Failed to start a thread: memory is not prepared in advance");
	}
}

/* The main thread */

void view_memory_pool_prepare(struct view_memory_pool *pool, size_t size) {
	if (size < SPARE_SIZE_MIN) {
		return;
	}
	if (!pool->has_thread) {
		pool_start_thread(pool);
	}
	if (pool->has_thread) {
		pthread_mutex_lock(&pool->mutex);
		bool is_news = pool->size != view_memory_round_size(size);
		pool->size = view_memory_round_size(size);
		pool_keep(pool);
		if (is_news) {
			pthread_cond_signal(&pool->changed);
		} // else it is at it, or has done it
		pthread_mutex_unlock(&pool->mutex);
	}
}

bool view_memory_pool_take(struct view_memory_pool *pool, size_t size,
		struct view_memory *memory) {
	bool found = false;
	if (pool->has_thread) {
		pthread_mutex_lock(&pool->mutex);
		for (size_t i = 0; i < pool->n_spares && !found; i++) {
			found = pool->spares[i].size == view_memory_round_size(size) &&
				pool_take_spare(pool, i, memory);
		}
		if (found) {
			pool_keep(pool);
			pthread_cond_signal(&pool->changed);
		}
		pthread_mutex_unlock(&pool->mutex);
	}
	return found || view_memory_init(memory, size);
}

struct view_memory_pool *view_memory_pool_create(void) {
	struct view_memory_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL) {
		return NULL;
	}
	pool->n_refs = 1;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&pool->mutex, NULL);
	return pool;
}

struct view_memory_pool *view_memory_pool_ref(struct view_memory_pool *pool) {
	pool->n_refs++;
	return pool;
}

void view_memory_pool_unref(struct view_memory_pool *pool) {
	if (pool == NULL || --pool->n_refs > 0) {
		return;
	}
	if (pool->has_thread) {
		pthread_mutex_lock(&pool->mutex);
		pool->ends = true;
		pthread_cond_signal(&pool->changed);
		pthread_mutex_unlock(&pool->mutex);
		pthread_join(pool->thread, NULL);
	}
	for (size_t i = 0; i < pool->n_spares; i++) {
		view_memory_finish(&pool->spares[i]);
	}
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->mutex);
	free(pool);
}
