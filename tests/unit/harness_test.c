/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "harness.h"

/** Runs one test of the fixture; returns its TAP line and the exit status. */
static int run_fixture(const char *test, char *line, size_t size) {
	char command[4096];
	snprintf(command, sizeof(command), "HARNESS_SLOWDOWN=1 '%s' %s 2>/dev/null",
		getenv("HARNESS_FIXTURE"), test);
	FILE *output = popen(command, "r");
	check(output != NULL);
	line[0] = '\0';
	char buffer[512];
	while (fgets(buffer, sizeof(buffer), output) != NULL) {
		if (strncmp(buffer, "ok", 2) == 0 || strncmp(buffer, "not ok", 6) == 0) {
			snprintf(line, size, "%s", buffer);
		}
	}
	int status = pclose(output);
	check(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect(const char *test, int status, const char *start, const char *detail) {
	char line[512];
	check_int(run_fixture(test, line, sizeof(line)), ==, status);
	if (strncmp(line, start, strlen(start)) != 0 || strstr(line, detail) == NULL) {
		harness_fail(__FILE__, __LINE__, "%s: %s", test, line);
	}
}

TEST(good_test_passes) {
	expect("passes", 0, "ok 1 - passes", "");
}

TEST(failed_checks_are_noticed) {
	expect("fails_a_check", 1, "not ok", "exit status 1");
	expect("fails_an_int_check", 1, "not ok", "exit status 1");
	expect("fails_a_string_check", 1, "not ok", "exit status 1");
}

TEST(leaked_fd_is_noticed) {
	expect("leaks_an_fd", 1, "not ok", "leaked file descriptors");
}

TEST(child_left_behind_is_noticed) {
	expect("leaves_a_child", 1, "not ok", "left children behind");
}

TEST(crash_is_noticed) {
	expect("crashes", 1, "not ok", "Aborted");
}

TEST(timeout_is_noticed) {
	expect("hangs", 1, "not ok", "timed out");
}

TEST(early_exit_is_noticed) {
	expect("exits_early", 1, "not ok", "exit status 3");
}

TEST(skip_gives_its_reason) {
	expect("is_skipped", 0, "ok 1", "# SKIP for a reason");
}

TEST(unknown_test_is_an_error) {
	char line[64];
	check_int(run_fixture("no_such_test", line, sizeof(line)), ==, 1);
}
