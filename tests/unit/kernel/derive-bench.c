/* SPDX-License-Identifier: MIT */
/*
 * derive-bench [CALLS]
 *
 * What a derived fd costs: nanoseconds per call that makes one and per close,
 * for DMA_BUF_IOCTL_DERIVE and for the guard module, with fcntl(F_DUPFD) beside
 * them as what any fd costs on the same kernel. Median of 5 rounds. Prints JSON.
 */
#include "dma_buf_derive.h"
#include "dma_buf_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/derive.h>

#define BUFFER_SIZE 16384

#define BATCH 500
#define ROUNDS 5

static int guard_device = -1;

static int make_dup(int fd) {
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static int make_derived(int fd) {
	struct dma_buf_derive params = {.flags = O_RDONLY | O_CLOEXEC, .fd = -1};
	return ioctl(fd, DMA_BUF_IOCTL_DERIVE, &params) == 0 ? params.fd : -1;
}

static int make_guard(int fd) {
	struct dma_buf_guard_create params = {.flags = O_CLOEXEC, .fd = fd, .guard_fd = -1};
	return ioctl(guard_device, DMA_BUF_GUARD_IOCTL_CREATE, &params) == 0 ? params.guard_fd :
									       -1;
}

static int64_t now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(const char *name, int (*make)(int fd), int fd, int calls, bool last) {
	static int fds[BATCH];
	double made[ROUNDS], closed[ROUNDS];
	int first = make(fd);
	if (first < 0) {
		printf("    \"%s\": \"%s\"%s\n", name, strerror(errno), last ? "" : ",");
		return;
	}
	close(first);
	for (int round = 0; round < ROUNDS; round++) {
		int64_t making = 0, closing = 0;
		int done = 0;
		while (done < calls / ROUNDS) {
			int64_t start = now();
			for (int i = 0; i < BATCH; i++) {
				fds[i] = make(fd);
			}
			int64_t middle = now();
			for (int i = 0; i < BATCH; i++) {
				if (close(fds[i]) < 0) {
					perror(name);
					exit(1);
				}
			}
			making += middle - start;
			closing += now() - middle;
			done += BATCH;
		}
		made[round] = (double)making / done;
		closed[round] = (double)closing / done;
	}
	qsort(made, ROUNDS, sizeof(double), compare);
	qsort(closed, ROUNDS, sizeof(double), compare);
	printf("    \"%s\": {\"make_ns\": %.0f, \"close_ns\": %.0f}%s\n", name,
		made[ROUNDS / 2], closed[ROUNDS / 2], last ? "" : ",");
	fflush(stdout);
}

int main(int argc, char *argv[]) {
	int calls = argc > 1 ? atoi(argv[1]) : 100000;
	struct utsname name;
	uname(&name);
	struct vitrine_derive *derive = vitrine_derive_create();
	int memfd = vitrine_memfd_create(BUFFER_SIZE);
	int fd = vitrine_udmabuf_create(derive, memfd, BUFFER_SIZE);
	if (fd < 0) {
		fprintf(stderr, "derive-bench: no udmabuf: %s\n", strerror(-fd));
		return 1;
	}
	guard_device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	printf("{\n  \"kernel\": \"%s\",\n  \"calls\": %d,\n  \"per_fd\": {\n", name.release,
		calls);
	measure("dup", make_dup, fd, calls, false);
	measure("derive", make_derived, fd, calls, false);
	measure("guard", make_guard, fd, calls, true);
	printf("  }\n}\n");
	return 0;
}
