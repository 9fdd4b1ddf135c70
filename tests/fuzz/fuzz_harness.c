/* SPDX-License-Identifier: MIT */
/* What fixtures need of the harness: a check that fails is a crash here. */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

_Noreturn void harness_fail(const char *file, int line, const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s:%d: check failed: ", file, line);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

void harness_check_str(const char *file, int line, const char *expr, const char *a,
		const char *b) {
	if (a == NULL || b == NULL || strcmp(a, b) != 0) {
		harness_fail(file, line, "%s", expr);
	}
}

/** For tests of what clients keep, which no input asks for. */
bool harness_kernel_tells_pins(void) {
	return false;
}

int harness_count_fds(void) {
	DIR *dir = opendir("/proc/self/fd");
	if (dir == NULL) {
		abort();
	}
	int count = 0;
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count - 3; // ".", ".." and the directory itself
}
