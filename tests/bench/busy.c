/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

#include "busy.h"

static _Atomic uint64_t own_ticks;
static const _Atomic uint64_t no_ticks;

static struct {
	_Atomic uint64_t *ticks; // of what has ended
	uint64_t start; // of what goes on
	const _Atomic uint64_t *others; // to leave out
	uint64_t others_start;
	uint64_t first_tick, first_ns;
} busy = {.ticks = &own_ticks, .others = &no_ticks};

static int compare_values(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

uint32_t get_quantile(uint32_t *values, size_t len, double part) {
	if (len == 0) {
		return 0;
	}
	qsort(values, len, sizeof(values[0]), compare_values);
	return values[(size_t)(part * (double)(len - 1) + 0.5)];
}

uint32_t clamp_ns(uint64_t ns) {
	return ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

uint64_t get_clock_ns(clockid_t clock) {
	struct timespec now = {0};
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/** In User-Mode Linux, a system call costs as much as what is measured. */
static uint64_t get_tick(void) {
#if defined(__x86_64__) || defined(__i386__)
	return __rdtsc();
#else
	return get_clock_ns(CLOCK_MONOTONIC);
#endif
}

static void busy_begin(void) {
	busy.others_start = atomic_load(busy.others);
	busy.start = get_tick();
}

static uint64_t busy_get_ticks(void) {
	uint64_t own = get_tick() - busy.start;
	// More than that if it was interrupted all the same, as by the limit of its priority
	uint64_t others = atomic_load(busy.others) - busy.others_start;
	return atomic_load(busy.ticks) + (others < own ? own - others : 0);
}

static void busy_end(void) {
	atomic_store(busy.ticks, busy_get_ticks());
}

__attribute__((constructor)) static void busy_init(void) {
	busy.first_ns = get_clock_ns(CLOCK_MONOTONIC);
	busy.first_tick = get_tick();
	busy_begin();
}

bool busy_is_needed(void) {
	return getenv("VITRINE_BENCH_BUSY") != NULL || access("/proc/self/schedstat", R_OK) != 0;
}

static void *map_shared(int flags) {
	char path[256];
	const char *dir = getenv("XDG_RUNTIME_DIR");
	snprintf(path, sizeof(path), "%s/vitrine-bench-busy", dir != NULL ? dir : "");
	int fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0) {
		return NULL;
	}
	bool writable = flags & O_CREAT;
	void *data = MAP_FAILED;
	if (!writable || ftruncate(fd, sizeof(_Atomic uint64_t)) == 0) {
		data = mmap(NULL, sizeof(_Atomic uint64_t), PROT_READ | (writable ? PROT_WRITE : 0),
			MAP_SHARED, fd, 0);
	}
	close(fd);
	return data != MAP_FAILED ? data : NULL;
}

bool busy_share(void) {
	_Atomic uint64_t *ticks = map_shared(O_RDWR | O_CREAT);
	if (ticks == NULL) {
		return false;
	}
	atomic_store(ticks, atomic_load(busy.ticks));
	busy.ticks = ticks;
	return true;
}

void busy_leave_out_shared(void) {
	const _Atomic uint64_t *others = map_shared(O_RDONLY);
	if (others != NULL) {
		busy_end();
		busy.others = others;
		busy_begin();
	}
}

uint64_t busy_get_ns(void) {
	uint64_t now = get_tick(), now_ns = get_clock_ns(CLOCK_MONOTONIC);
	double ns_per_tick = (double)(now_ns - busy.first_ns) / (double)(now - busy.first_tick);
	return (uint64_t)((double)busy_get_ticks() * ns_per_tick);
}

void busy_sleep_us(unsigned int us) {
	busy_end();
	usleep(us);
	busy_begin();
}

/* libwayland calls this instead of libc's, as the executable comes first. */
int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout) {
	busy_end();
	int len = epoll_pwait(epfd, events, maxevents, timeout, NULL);
	busy_begin();
	return len;
}
