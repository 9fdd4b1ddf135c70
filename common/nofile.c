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
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) {
		return; // also if it is raised already: what was before that is known
	}
	const struct rlimit raised = { .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };
	before = limit;
	// First of all: no child may be left with what is not its own
	if (pthread_atfork(NULL, NULL, restore) == 0) {
		setrlimit(RLIMIT_NOFILE, &raised);
	}
}
