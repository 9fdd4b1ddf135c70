/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BUSY_H
#define BENCH_BUSY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/** Sorts what was counted; returns what is at this part of it, or 0 if there is nothing. */
uint32_t get_quantile(uint32_t *values, size_t len, double part);
/** As a value of get_quantile(): more than 4 s is as much as that. */
uint32_t clamp_ns(uint64_t ns);
/** What a clock says, in ns. */
uint64_t get_clock_ns(clockid_t clock);

/**
 * CPU time where the kernel has no account of it that is fit for use. User-Mode
 * Linux counts in ticks of 10 ms, and what a timer starts is short beside that: it
 * is counted ten times or never. There the time counts that a process does not
 * wait in epoll_wait(). On one processor, and with a compositor that clients cannot
 * interrupt, that is its CPU time, but for what the host does in between. A client's
 * is without that of the compositor, which does interrupt it.
 */

/** Whether there is no /proc/PID/schedstat, which is what tells. */
bool busy_is_needed(void);
/** For the compositor: lets clients see its time. Returns false on failure. */
bool busy_share(void);
/** For a client: leaves out the time of the compositor, if that shares it. */
void busy_leave_out_shared(void);
/** The time that was not spent in epoll_wait(), up to now. */
uint64_t busy_get_ns(void);
/** Sleeps without being busy. */
void busy_sleep_us(unsigned int us);

#endif
