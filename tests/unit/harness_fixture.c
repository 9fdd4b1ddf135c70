/* SPDX-License-Identifier: MIT */
/* Tests that fail in each way that the harness has to notice. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "harness.h"

TEST(passes) {
	check(1 + 1 == 2);
	check_int(1, <, 2);
	check_str("a", "a");
}

TEST(fails_a_check) {
	check(1 + 1 == 3);
}

TEST(fails_an_int_check) {
	check_int(2, <, 1);
}

TEST(fails_a_string_check) {
	check_str("a", "b");
}

TEST(leaks_an_fd) {
	check(open("/dev/null", O_RDONLY) >= 0);
}

TEST(leaves_a_child) {
	if (fork() == 0) {
		pause();
	}
}

TEST(crashes) {
	abort();
}

TEST(hangs) {
	harness_set_timeout(1);
	for (;;) {
		pause();
	}
}

TEST(exits_early) {
	exit(3);
}

TEST(is_skipped) {
	harness_skip("for a reason");
}

static const struct {
	const char *name;
	int number;
} numbers[] = {
	{ "one", 1 },
	{ "two", 2 },
	{ "three", 3 },
};

TEST_EACH(numbers, is_not_two) {
	check_int(param->number, !=, 2);
}

/** A fixture that holds an open file. */
struct holder {
	int fd;
	bool leak;
};

struct holder_options {
	const char *path; // NULL for /dev/null
	bool leak;
};

static void holder_set_up(struct holder *f, const struct holder_options *options) {
	*f = (struct holder){ .leak = options->leak };
	f->fd = open(options->path != NULL ? options->path : "/dev/null", O_RDONLY | O_CLOEXEC);
	check(f->fd >= 0);
}

static void holder_tear_down(struct holder *f) {
	if (!f->leak) {
		close(f->fd);
	}
}

TEST_WITH(holder, has_a_fixture) {
	check(fcntl(f->fd, F_GETFD) >= 0);
}

TEST_WITH(holder, cannot_be_set_up, .path = "/nonexistent") {
}

TEST_WITH(holder, is_not_torn_down, .leak = true) {
}

TEST_PARAMS(holder, holders, bool is_empty) = {
	{ "null", { .path = "/dev/null" }, true },
	{ "zero", { .path = "/dev/zero" }, false },
};

TEST_WITH_EACH(holder, holders, reads_from_each) {
	char byte;
	check_int(read(f->fd, &byte, 1), ==, param->is_empty ? 0 : 1);
}

/** Of the whole system, as far as these tests go: what is in this pipe. */
static int system_pipe[2];

static int count_bytes(void) {
	int n = 0;
	check(ioctl(system_pipe[0], FIONREAD, &n) == 0);
	return n;
}

__attribute__((constructor)) static void watch_the_system(void) {
	check(pipe2(system_pipe, O_CLOEXEC) == 0);
	harness_watch("bytes", count_bytes);
}

TEST(leaves_something_in_the_system) {
	check(write(system_pipe[1], "x", 1) == 1);
}

TEST(is_cleaned_up_late) {
	check(write(system_pipe[1], "x", 1) == 1);
	pid_t pid = fork();
	setpgid(pid, 0); // else the harness ends it
	if (pid == 0) {
		usleep(100000);
		char byte;
		_exit(read(system_pipe[0], &byte, 1) == 1 ? 0 : 1);
	}
	_exit(0); // without the look for children
}

TEST(reports_errno) {
	check_errno(open("/nonexistent", O_RDONLY), ENOENT);
}

TEST(reports_another_errno) {
	check_errno(open("/nonexistent", O_RDONLY), EPERM);
}

TEST(reports_errno_of_a_success) {
	check_errno(dup(0), EPERM);
}

TEST(reports_a_failed_call) {
	check_ok(access("/", R_OK));
	check_ok(access("/nonexistent", R_OK));
}
