/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_THREAD_H
#define MEMORY_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/**
 * Starts a thread for work that the event loop must not wait for: an ordinary one,
 * even if the compositor's is not, that handles no signals. False on failure.
 */
bool vt_thread_start(pthread_t *thread, void *(*run)(void *data), void *data);

/**
 * A thread uses a graphics driver between these two: a process that exits takes the
 * driver away under it.
 */
void vt_thread_enter_driver(void);
void vt_thread_leave_driver(void);
/** Waits, no longer than so many ms, until no thread uses a driver. */
void vt_threads_wait_for_drivers(int timeout_ms);

#endif
