/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <time.h>

#include "thread.h"

bool vt_thread_start(pthread_t *thread, void *(*run)(void *data), void *data) {
	pthread_attr_t attr;
	if (pthread_attr_init(&attr) != 0) {
		return false;
	}
	const struct sched_param param = { 0 };
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &param);
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool ok = pthread_create(thread, &attr, run, data) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return ok;
}

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	size_t n;
} in_driver = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

void vt_thread_enter_driver(void) {
	pthread_mutex_lock(&in_driver.mutex);
	in_driver.n++;
	pthread_mutex_unlock(&in_driver.mutex);
}

void vt_thread_leave_driver(void) {
	pthread_mutex_lock(&in_driver.mutex);
	in_driver.n--;
	pthread_cond_broadcast(&in_driver.changed);
	pthread_mutex_unlock(&in_driver.mutex);
}

void vt_threads_wait_for_drivers(int timeout_ms) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until); // the condition's clock
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_mutex_lock(&in_driver.mutex);
	int ret = 0;
	while (in_driver.n > 0 && ret == 0) {
		ret = pthread_cond_timedwait(&in_driver.changed, &in_driver.mutex, &until);
	}
	pthread_mutex_unlock(&in_driver.mutex);
}
