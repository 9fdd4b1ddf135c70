/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "memory_pool.h"
#include "thread.h"

/** A swapchain takes turns on that many buffers. */
#define COPIES_CAP 2
/** So many frames, each in its own buffer, may follow too fast for the thread. */
#define SPARES_CAP 3
/** Of all pieces together; 8K has 128 MiB. */
#define BYTES_CAP ((size_t)384 << 20)
/** Less than that is made faster than it is handed from thread to thread. */
#define SIZE_MIN ((size_t)2 << 20)
/** Unused for so long: the memory is better used elsewhere. */
#define KEEP_S 10

/** A copy of memory that is going to be replaced. */
struct copy {
	/** Whose, for the main thread to know it again; NULL once it is not needed. */
	const struct vt_memory *of;
	int memfd; // a file descriptor of our own of what is to be copied, -1 if it was
	size_t size;
	bool in_use; // by the thread
	struct vt_memory memory; // the copy, without a memfd before it is done
};

/** Freed by the main thread or by the one that makes memory: by the one that ends last. */
struct vt_memory_pool {
	size_t n_refs; // of the main thread, as is all up to the mutex
	bool has_thread;

	pthread_mutex_t mutex;
	pthread_cond_t changed; // for the thread to look at what follows
	bool ends;
	size_t size; // of the pieces to make, 0 if none is likely to be needed
	size_t n_expected; // see vt_memory_pool_expect(). While there are any, pieces are kept
	struct timespec keep_until; // CLOCK_MONOTONIC, else
	struct vt_memory spares[SPARES_CAP]; // without a memfd if there is none
	struct copy copies[COPIES_CAP];
};

static const struct vt_memory no_memory = { .memfd = -1, .lease_fd = -1 };
static const struct copy no_copy = { .memfd = -1, .memory = { .memfd = -1, .lease_fd = -1 } };

static void pool_keep(struct vt_memory_pool *pool) {
	clock_gettime(CLOCK_MONOTONIC, &pool->keep_until);
	pool->keep_until.tv_sec += KEEP_S;
}

static bool pool_is_kept_too_long(const struct vt_memory_pool *pool) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > pool->keep_until.tv_sec || (now.tv_sec == pool->keep_until.tv_sec &&
		now.tv_nsec >= pool->keep_until.tv_nsec);
}

/** How many spare pieces there should be, if any is likely to be needed. */
static size_t pool_count_wanted(const struct vt_memory_pool *pool) {
	if (pool->n_expected == 0) {
		return 1;
	}
	return pool->n_expected < SPARES_CAP ? pool->n_expected : SPARES_CAP;
}

static bool take(struct vt_memory *from, size_t size, struct vt_memory *memory) {
	if (from->memfd < 0 || from->size != size) {
		return false;
	}
	*memory = *from;
	*from = no_memory;
	return true;
}

/** From what is prepared, the last piece first: if fewer are wanted, it is that which goes. */
static bool pool_take_spare(struct vt_memory_pool *pool, size_t size, struct vt_memory *memory) {
	bool found = false;
	for (size_t i = SPARES_CAP; i > 0 && !found; i--) {
		found = take(&pool->spares[i - 1], size, memory);
	}
	return found;
}

static void pool_destroy(struct vt_memory_pool *pool) {
	for (size_t i = 0; i < SPARES_CAP; i++) {
		vt_memory_finish(&pool->spares[i]);
	}
	for (size_t i = 0; i < COPIES_CAP; i++) {
		assert(pool->copies[i].of == NULL);
		vt_memory_finish(&pool->copies[i].memory);
	}
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

/* The thread: the mutex is held but while the kernel has much to do */

static void pool_free(struct vt_memory_pool *pool, struct vt_memory *memory) {
	struct vt_memory freed = *memory;
	*memory = no_memory;
	pthread_mutex_unlock(&pool->mutex);
	vt_memory_finish(&freed);
	pthread_mutex_lock(&pool->mutex);
}

/** Frees a piece that is of no use. Returns false if there is none. */
static bool pool_free_useless(struct vt_memory_pool *pool) {
	for (size_t i = 0; i < SPARES_CAP; i++) {
		struct vt_memory *spare = &pool->spares[i];
		if (spare->memfd >= 0 && (spare->size != pool->size || i >= pool_count_wanted(pool))) {
			pool_free(pool, spare);
			return true;
		}
	}
	for (size_t i = 0; i < COPIES_CAP; i++) {
		struct copy *copy = &pool->copies[i];
		if (copy->memory.memfd >= 0 && (copy->of == NULL || pool->size == 0)) {
			copy->of = NULL;
			pool_free(pool, &copy->memory);
			return true;
		}
	}
	return false;
}

/** Where the next piece is to be put. NULL if there are enough, or as many as may be. */
static struct vt_memory *pool_find_place(struct vt_memory_pool *pool) {
	struct vt_memory *place = NULL;
	size_t n_pieces = 1;
	for (size_t i = 0; i < COPIES_CAP; i++) {
		n_pieces += pool->copies[i].memory.memfd >= 0;
	}
	for (size_t i = 0; i < SPARES_CAP; i++) {
		if (pool->spares[i].memfd >= 0) {
			n_pieces++;
		} else if (place == NULL && i < pool_count_wanted(pool)) {
			place = &pool->spares[i];
		}
	}
	return pool->size > 0 && n_pieces <= BYTES_CAP / pool->size ? place : NULL;
}

/** Makes a piece, or tries to. Returns false if there is no need for one. */
static bool pool_add_spare(struct vt_memory_pool *pool) {
	struct vt_memory *place = pool_find_place(pool);
	if (place == NULL) {
		return false;
	}
	size_t size = pool->size;
	struct vt_memory memory;
	pthread_mutex_unlock(&pool->mutex);
	bool ok = vt_memory_init(&memory, size) == 0;
	pthread_mutex_lock(&pool->mutex);
	if (ok) {
		*place = memory; // only this thread makes any. Its size may have become useless
	} else if (pool->size == size) {
		pool->size = 0; // until it is asked for again
	}
	return true; // what there is to do may have changed meanwhile
}

/** Makes a copy. Returns false if there is no need for one, or nothing to make it of. */
static bool pool_add_copy(struct vt_memory_pool *pool) {
	for (size_t i = 0; i < COPIES_CAP; i++) {
		struct copy *copy = &pool->copies[i];
		struct vt_memory memory;
		if (copy->memfd < 0 || !pool_take_spare(pool, copy->size, &memory)) {
			continue;
		}
		int memfd = copy->memfd;
		copy->memfd = -1;
		copy->in_use = true;
		pthread_mutex_unlock(&pool->mutex);
		bool ok = vt_memory_copy_from(&memory, memfd);
		close(memfd);
		if (!ok) {
			vt_memory_finish(&memory);
		}
		pthread_mutex_lock(&pool->mutex);
		copy->in_use = false;
		copy->memory = ok ? memory : no_memory;
		return true;
	}
	return false;
}

/**
 * Not at a lower priority: it maps memory, and the event loop that does so too would wait
 * for whatever goes before this thread.
 */
static void *pool_run(void *data) {
	struct vt_memory_pool *pool = data;
	pthread_mutex_lock(&pool->mutex);
	while (!pool->ends) {
		if (pool_free_useless(pool) || pool_add_copy(pool) || pool_add_spare(pool)) {
			continue; // until there is nothing to do
		} else if (pool->size == 0 || pool->n_expected > 0) {
			pthread_cond_wait(&pool->changed, &pool->mutex);
		} else if (pool_is_kept_too_long(pool)) {
			pool->size = 0;
		} else {
			pthread_cond_timedwait(&pool->changed, &pool->mutex, &pool->keep_until);
		}
	}
	pthread_mutex_unlock(&pool->mutex);
	pool_destroy(pool); // the main thread has let go of it
	return NULL;
}

static bool pool_start_thread(struct vt_memory_pool *pool) {
	pthread_t thread;
	if (!pool->has_thread) {
		pool->has_thread = vt_thread_start(&thread, pool_run, pool);
		if (!pool->has_thread) {
			wlr_log(WLR_ERROR, "Failed to start a thread: memory is not prepared in advance");
			return false;
		}
		pthread_detach(thread); // nothing waits for what it is at
	}
	return true;
}

/* The main thread */

static void pool_want(struct vt_memory_pool *pool, size_t size) {
	if (pool->size != size) {
		pool->size = size;
		pthread_cond_signal(&pool->changed);
	} // else the thread is at it, or has done it
	pool_keep(pool);
}

void vt_memory_pool_prepare(struct vt_memory_pool *pool, size_t size) {
	if (size >= SIZE_MIN && pool_start_thread(pool)) {
		pthread_mutex_lock(&pool->mutex);
		pool_want(pool, vt_memory_round_size(size));
		pthread_mutex_unlock(&pool->mutex);
	}
}

bool vt_memory_pool_expect(struct vt_memory_pool *pool, size_t size) {
	if (size < SIZE_MIN || !pool_start_thread(pool)) {
		return false;
	}
	pthread_mutex_lock(&pool->mutex);
	pool->n_expected++;
	pool_want(pool, vt_memory_round_size(size));
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->mutex);
	return true;
}

void vt_memory_pool_stop_expecting(struct vt_memory_pool *pool) {
	pthread_mutex_lock(&pool->mutex);
	assert(pool->n_expected > 0);
	pool->n_expected--;
	pool_keep(pool);
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->mutex);
}

/** From what is prepared. */
static bool pool_take(struct vt_memory_pool *pool, size_t size, struct vt_memory *memory) {
	if (!pool->has_thread) {
		return false;
	}
	pthread_mutex_lock(&pool->mutex);
	bool found = pool_take_spare(pool, size, memory);
	if (found) {
		pool_keep(pool);
		pthread_cond_signal(&pool->changed);
	}
	pthread_mutex_unlock(&pool->mutex);
	return found;
}

bool vt_memory_pool_take(struct vt_memory_pool *pool, size_t size,
		struct vt_memory *memory) {
	if (pool_take(pool, vt_memory_round_size(size), memory)) {
		return true;
	}
	int ret = vt_memory_init(memory, size);
	if (ret != 0) {
		wlr_log(WLR_ERROR, "Failed to allocate %zu bytes: %s", size, strerror(-ret));
	}
	return ret == 0;
}

static struct copy *pool_find_copy(struct vt_memory_pool *pool, const struct vt_memory *of) {
	for (size_t i = 0; i < COPIES_CAP; i++) {
		if (pool->copies[i].of == of) {
			return &pool->copies[i];
		}
	}
	return NULL;
}

/** One that is not needed, and that the thread is not at. */
static struct copy *pool_find_free_copy(struct vt_memory_pool *pool) {
	for (size_t i = 0; i < COPIES_CAP; i++) {
		struct copy *copy = &pool->copies[i];
		if (copy->of == NULL && !copy->in_use && copy->memory.memfd < 0) {
			return copy;
		}
	}
	return NULL;
}

void vt_memory_pool_prepare_copy(struct vt_memory_pool *pool,
		const struct vt_memory *memory) {
	if (memory->size < SIZE_MIN || !pool_start_thread(pool)) {
		return;
	}
	pthread_mutex_lock(&pool->mutex);
	pool_want(pool, memory->size);
	struct copy *copy = pool_find_copy(pool, memory) != NULL ? NULL : pool_find_free_copy(pool);
	if (copy != NULL) {
		copy->memfd = fcntl(memory->memfd, F_DUPFD_CLOEXEC, 0);
		copy->size = memory->size;
		copy->of = copy->memfd >= 0 ? memory : NULL;
		pthread_cond_signal(&pool->changed);
	}
	pthread_mutex_unlock(&pool->mutex);
}

/** Gives the copy back, if it is done, and forgets it. */
static bool pool_take_copy(struct vt_memory_pool *pool, const struct vt_memory *of,
		struct vt_memory *memory) {
	if (!pool->has_thread) {
		return false;
	}
	pthread_mutex_lock(&pool->mutex);
	struct copy *copy = pool_find_copy(pool, of);
	bool found = false;
	if (copy != NULL) {
		found = take(&copy->memory, of->size, memory);
		copy->of = NULL;
		if (copy->memfd >= 0) { // not even begun
			close(copy->memfd);
			copy->memfd = -1;
		}
	}
	pthread_mutex_unlock(&pool->mutex);
	return found;
}

void vt_memory_pool_forget(struct vt_memory_pool *pool, const struct vt_memory *memory) {
	struct vt_memory copy;
	if (pool_take_copy(pool, memory, &copy)) {
		vt_memory_finish(&copy);
	}
}

bool vt_memory_pool_replace(struct vt_memory_pool *pool, struct vt_memory *memory) {
	struct vt_memory fresh;
	// Never waits: the thread goes on with what it is at, and throws it away
	if (!pool_take_copy(pool, memory, &fresh)) {
		if (!vt_memory_pool_take(pool, memory->size, &fresh)) {
			return false;
		}
		memcpy(fresh.data, memory->data, memory->size);
	}
	return vt_memory_replace(memory, &fresh);
}

struct vt_memory_pool *vt_memory_pool_create(void) {
	struct vt_memory_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL) {
		return NULL;
	}
	pool->n_refs = 1;
	for (size_t i = 0; i < SPARES_CAP; i++) {
		pool->spares[i] = no_memory;
	}
	for (size_t i = 0; i < COPIES_CAP; i++) {
		pool->copies[i] = no_copy;
	}
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&pool->mutex, NULL);
	return pool;
}

struct vt_memory_pool *vt_memory_pool_ref(struct vt_memory_pool *pool) {
	pool->n_refs++;
	return pool;
}

void vt_memory_pool_unref(struct vt_memory_pool *pool) {
	if (pool == NULL || --pool->n_refs > 0) {
		return;
	}
	if (!pool->has_thread) {
		pool_destroy(pool);
		return;
	}
	pthread_mutex_lock(&pool->mutex);
	pool->ends = true; // which the thread sees with the mutex only
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->mutex);
}
