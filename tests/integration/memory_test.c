/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/util/log.h>

#include "buffer.h"
#include "harness.h"
#include "memfd_buffer.h"
#include "memory_pool.h"

#define SIZE ((size_t)3 * 1000 * 1000)
#define HUGE ((size_t)2 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static bool is_zero(const struct vt_memory *memory) {
	const char *data = memory->data;
	return data[0] == 0 && memcmp(data, data + 1, memory->size - 1) == 0;
}

/** The thread tells nobody, but its pieces are file descriptors; the harness has a timeout. */
static void wait_for_fds(int count) {
	while (harness_count_fds() != count) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

static nlink_t count_threads(void) {
	struct stat st;
	check_ok(stat("/proc/self/task", &st));
	return st.st_nlink;
}

/** As above, of a thread that may not have made its pieces yet. */
static void wait_for_threads(nlink_t count) {
	while (count_threads() != count) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

TEST(memory_is_what_was_asked_for) {
	for (size_t size = 1; size < 20 * 1000 * 1000; size *= 7) {
		struct vt_memory memory;
		check_int(vt_memory_init(&memory, size), ==, 0);
		check(memory.size >= size && memory.size == vt_memory_round_size(size));
		check_int(lseek(memory.memfd, 0, SEEK_END), ==, (long)memory.size);
		check(is_zero(&memory));
		memset(memory.data, 0xff, memory.size);
		vt_memory_finish(&memory);
		vt_memory_finish(&memory);
	}
	struct vt_memory memory;
	check_int(vt_memory_init(&memory, SIZE_MAX), ==, -EINVAL);
	check_int(vt_memory_init(&memory, SIZE_MAX / 2 + 1), ==, -EINVAL);
}

/* A kernel that has no memory left, or is an old one */

static int populate_errno; // 0: it has memory
static sem_t was_refused; // once for each time that it was asked

int __real_madvise(void *addr, size_t len, int advice);
int __wrap_madvise(void *addr, size_t len, int advice);
int __wrap_madvise(void *addr, size_t len, int advice) {
	if (advice != MADV_POPULATE_WRITE || populate_errno == 0) {
		return __real_madvise(addr, len, advice);
	}
	sem_post(&was_refused);
	errno = populate_errno;
	return -1;
}

TEST(memory_that_is_not_there_is_refused_at_once) {
	sem_init(&was_refused, 0, 0);
	int n_fds = harness_count_fds();
	struct vt_memory memory;
	populate_errno = ENOMEM;
	check_int(vt_memory_init(&memory, SIZE), ==, -ENOMEM); // or drawing would be a SIGBUS
	populate_errno = EFAULT;
	check_int(vt_memory_init(&memory, 4096), ==, -EFAULT);
	check_int(harness_count_fds(), ==, n_fds);
	// Before Linux 5.14 it is asked for in another way
	populate_errno = EINVAL;
	check_int(vt_memory_init(&memory, SIZE), ==, 0);
	struct stat st;
	check_ok(fstat(memory.memfd, &st));
	check_int(st.st_blocks * 512, ==, st.st_size);
	check(is_zero(&memory));
	vt_memory_finish(&memory);
}

static size_t n_logged;

static void handle_log(enum wlr_log_importance importance, const char *format, va_list args) {
	n_logged++;
}

TEST(pool_logs_nothing_from_its_thread) {
	nlink_t n_threads = count_threads();
	sem_init(&was_refused, 0, 0);
	wlr_log_init(WLR_DEBUG, handle_log);
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	populate_errno = ENOMEM;
	struct vt_memory memory;
	check(!vt_memory_pool_take(pool, SIZE, &memory));
	check_int(n_logged, ==, 1); // the positive case
	while (sem_trywait(&was_refused) == 0) {
		// what the main thread has asked for
	}
	vt_memory_pool_prepare(pool, SIZE);
	for (size_t i = 0; i < vt_memory_round_size(SIZE) / HUGE + 1; i++) {
		sem_wait(&was_refused); // the last one is what makes it fail
	}
	vt_memory_pool_unref(pool);
	wait_for_threads(n_threads);
	check_int(n_logged, ==, 1);
}

/** Replaces memory that somebody else has mapped, whatever was prepared. */
static void check_replace(struct vt_memory_pool *pool, bool wait) {
	struct vt_memory memory;
	int n_fds = harness_count_fds();
	check_int(vt_memory_init(&memory, SIZE), ==, 0);
	memset(memory.data, 1, SIZE);
	char *old = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, memory.memfd, 0), *data = memory.data;
	check(old != MAP_FAILED);
	data[0] = 2;
	check_int(old[0], ==, 2); // the positive case
	vt_memory_pool_prepare_copy(pool, &memory);
	vt_memory_pool_prepare_copy(pool, &memory); // once is enough
	if (wait) {
		wait_for_fds(n_fds + 2 + 2 + 2); // the memory, its copy, and a spare piece
	}
	check(vt_memory_pool_replace(pool, &memory));
	check(memory.data == data);
	check(data[0] == 2 && data[1] == 1 && data[SIZE - 1] == 1);
	memset(data, 3, SIZE);
	check(old[0] == 2 && old[1] == 1 && old[SIZE - 1] == 1);
	munmap(old, SIZE);
	vt_memory_pool_forget(pool, &memory); // nothing is left of it
	vt_memory_finish(&memory);
}

TEST(replaced_memory_keeps_its_address_and_content) {
	nlink_t n_threads = count_threads();
	for (int i = 0; i < 20; i++) {
		struct vt_memory_pool *pool = vt_memory_pool_create();
		check(pool != NULL);
		int n_fds = harness_count_fds();
		check_replace(pool, i % 2 == 0);
		check_replace(pool, false); // at whatever the thread is
		check_replace(pool, false);
		vt_memory_pool_unref(pool);
		wait_for_threads(n_threads);
		check_int(harness_count_fds(), ==, n_fds);
	}
}

TEST(memory_can_go_while_it_is_copied) {
	nlink_t n_threads = count_threads();
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	int n_fds = harness_count_fds();
	for (int i = 0; i < 40; i++) {
		struct vt_memory memory[4]; // more than are copied at a time
		for (int j = 0; j < 4; j++) {
			check_int(vt_memory_init(&memory[j], SIZE), ==, 0);
			vt_memory_pool_prepare_copy(pool, &memory[j]);
		}
		for (int j = 0; j < i; j++) {
			sched_yield();
		}
		for (int j = 0; j < 4; j++) {
			vt_memory_pool_forget(pool, &memory[j]);
			vt_memory_finish(&memory[j]);
		}
	}
	vt_memory_pool_unref(pool);
	wait_for_threads(n_threads);
	check_int(harness_count_fds(), ==, n_fds);
}

/* A kernel that takes its time: until the test lets it go on */

static bool is_slow;
static sem_t is_begun, may_end;

int __real_vt_memory_init(struct vt_memory *memory, size_t size);
int __wrap_vt_memory_init(struct vt_memory *memory, size_t size);
int __wrap_vt_memory_init(struct vt_memory *memory, size_t size) {
	if (is_slow) {
		sem_post(&is_begun);
		sem_wait(&may_end);
	}
	return __real_vt_memory_init(memory, size);
}

TEST(pool_goes_while_its_thread_makes_memory) {
	nlink_t n_threads = count_threads();
	sem_init(&is_begun, 0, 0);
	sem_init(&may_end, 0, 0);
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	int n_fds = harness_count_fds();
	is_slow = true;
	vt_memory_pool_prepare(pool, SIZE);
	sem_wait(&is_begun);
	vt_memory_pool_unref(pool); // which would wait without end
	check_int(harness_count_fds(), ==, n_fds);
	sem_post(&may_end);
	wait_for_threads(n_threads);
	check_int(harness_count_fds(), ==, n_fds); // what it has made it frees
}

TEST(detached_memory_writes_to_nobody) {
	struct vt_memory memory;
	check_int(vt_memory_init(&memory, SIZE), ==, 0);
	memset(memory.data, 1, SIZE);
	char *old = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, memory.memfd, 0);
	check(old != MAP_FAILED);
	check(vt_memory_detach(&memory));
	check_int(((char *)memory.data)[SIZE - 1], ==, 1);
	memset(memory.data, 2, SIZE);
	check(old[0] == 1 && old[SIZE - 1] == 1);
	munmap(old, SIZE);
	vt_memory_finish(&memory);
}

TEST(pool_prepares_what_is_likely_to_be_needed) {
	nlink_t n_threads = count_threads();
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	int n_fds = harness_count_fds();
	vt_memory_pool_prepare(pool, SIZE);
	wait_for_fds(n_fds + 2);
	struct vt_memory memory[3];
	for (int i = 0; i < 3; i++) {
		check(vt_memory_pool_take(pool, SIZE, &memory[i]));
		check(memory[i].size == vt_memory_round_size(SIZE) && is_zero(&memory[i]));
		memset(memory[i].data, i, SIZE);
	}
	wait_for_fds(n_fds + 4 * 2); // it makes up for what was taken
	// Another size: the piece of the old one is given back
	vt_memory_pool_prepare(pool, 3 * SIZE);
	struct vt_memory large;
	check(vt_memory_pool_take(pool, 3 * SIZE, &large));
	check(large.size >= 3 * SIZE);
	vt_memory_finish(&large);
	for (int i = 0; i < 3; i++) {
		check_int(((char *)memory[i].data)[SIZE - 1], ==, i);
		vt_memory_finish(&memory[i]);
	}
	vt_memory_pool_unref(pool);
	wait_for_threads(n_threads);
	check_int(harness_count_fds(), ==, n_fds);
}

TEST(pool_keeps_what_is_expected_to_be_needed) {
	nlink_t n_threads = count_threads();
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	int n_fds = harness_count_fds();
	// A piece has two file descriptors. There are no more than three
	const int n_pieces[] = { 1, 2, 3, 3, 3 };
	for (int i = 0; i < 5; i++) {
		check(vt_memory_pool_expect(pool, SIZE));
		wait_for_fds(n_fds + 2 * n_pieces[i]);
	}
	struct vt_memory memory;
	check(vt_memory_pool_take(pool, SIZE, &memory) && is_zero(&memory));
	wait_for_fds(n_fds + 2 * 3 + 2);
	vt_memory_finish(&memory);
	for (int i = 4; i > 0; i--) {
		vt_memory_pool_stop_expecting(pool);
		wait_for_fds(n_fds + 2 * n_pieces[i - 1]);
	}
	vt_memory_pool_stop_expecting(pool);
	vt_memory_pool_unref(pool);
	wait_for_threads(n_threads);
	check_int(harness_count_fds(), ==, n_fds);
}

static void write_to(struct wlr_buffer *buffer, int value) {
	void *data;
	uint32_t format;
	size_t stride;
	check(wlr_buffer_begin_data_ptr_access(buffer, WLR_BUFFER_DATA_PTR_ACCESS_WRITE, &data,
		&format, &stride));
	memset(data, value, stride);
	wlr_buffer_end_data_ptr_access(buffer);
}

static struct wlr_buffer *create_buffer(struct wlr_allocator *allocator) {
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = DRM_FORMAT_XRGB8888, .len = 1, .capacity = 1, .modifiers = &modifier,
	};
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(allocator, 1024, 768, &format);
	check(buffer != NULL);
	return buffer;
}

TEST(memory_is_ready_before_an_announced_buffer_retires) {
	nlink_t n_threads = count_threads();
	struct wlr_allocator *allocator = vt_memfd_allocator_create();
	struct wlr_buffer *buffers[2];
	sem_init(&is_begun, 0, 0);
	sem_init(&may_end, 0, 0);
	for (int i = 0; i < 2; i++) {
		buffers[i] = create_buffer(allocator);
	}
	int n_fds = harness_count_fds();
	is_slow = true; // from here on a writer would wait without end for what it has to make
	for (int i = 0; i < 2; i++) {
		vt_buffer_expect_retirement(vt_buffer_try_from_buffer(buffers[i]));
		vt_buffer_expect_retirement(vt_buffer_try_from_buffer(buffers[i])); // counts once
	}
	for (int i = 0; i < 2; i++) {
		sem_wait(&is_begun);
		if (i == 0) {
			sem_post(&may_end); // before the second one is begun, the first one is there
		}
	}
	struct vt_buffer *retired = vt_buffer_try_from_buffer(buffers[0]);
	vt_buffer_retire(retired);
	write_to(buffers[0], 1);
	check(!retired->retired);
	is_slow = false;
	sem_post(&may_end);
	wait_for_fds(n_fds + 2); // for the other one
	for (int i = 0; i < 2; i++) {
		wlr_buffer_drop(buffers[i]);
	}
	wlr_allocator_destroy(allocator);
	wait_for_threads(n_threads);
}

TEST(pool_is_there_as_long_as_somebody_needs_it) {
	nlink_t n_threads = count_threads();
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL && vt_memory_pool_ref(pool) == pool);
	vt_memory_pool_prepare(pool, SIZE);
	vt_memory_pool_unref(pool);
	struct vt_memory memory;
	check(vt_memory_pool_take(pool, SIZE, &memory));
	vt_memory_pool_unref(pool); // maybe in the middle of making another one
	memset(memory.data, 1, SIZE);
	vt_memory_finish(&memory);
	wait_for_threads(n_threads);
}

TEST(small_memory_is_not_prepared) {
	struct vt_memory_pool *pool = vt_memory_pool_create();
	check(pool != NULL);
	vt_memory_pool_prepare(pool, 4096);
	check(!vt_memory_pool_expect(pool, 4096));
	struct vt_memory memory;
	check(vt_memory_pool_take(pool, 4096, &memory));
	vt_memory_finish(&memory);
	vt_memory_pool_unref(pool);
}
