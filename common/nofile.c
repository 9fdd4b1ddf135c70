/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <sys/resource.h>

#include "nofile.h"

static struct rlimit before;

/** In the child, where only what a signal handler may call can be called. */
static void restore(void) {
	setrlimit(RLIMIT_NOFILE, &before);
}

void nofile_raise(void) {
	if (getrlimit(RLIMIT_NOFILE, &before) != 0 || before.rlim_cur == before.rlim_max) {
		return;
	}
	const struct rlimit raised = { .rlim_cur = before.rlim_max, .rlim_max = before.rlim_max };
	// First of all: no child may be left with what is not its own
	if (pthread_atfork(NULL, NULL, restore) == 0) {
		setrlimit(RLIMIT_NOFILE, &raised);
	}
}
