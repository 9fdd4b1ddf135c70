/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_CLOCK_H
#define MEMORY_CLOCK_H

#include <stdint.h>
#include <time.h>

#define VT_NS_PER_MS INT64_C(1000000)

/** CLOCK_MONOTONIC, in ns. */
static inline int64_t vt_now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 * VT_NS_PER_MS + now.tv_nsec;
}

/** CLOCK_MONOTONIC, in ms. */
static inline int64_t vt_now_ms(void) {
	return vt_now_ns() / VT_NS_PER_MS;
}

#endif
