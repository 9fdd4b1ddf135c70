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

#endif
