/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "harness.h"

/** Runs tests of the fixture; returns their TAP lines and the exit status. */
static int run_fixture(const char *name, char *lines, size_t size) {
	char command[4096];
	snprintf(command, sizeof(command), "HARNESS_SLOWDOWN=1 '%s' '%s' 2>/dev/null",
		getenv("HARNESS_FIXTURE"), name);
	FILE *output = popen(command, "r");
	check(output != NULL);
	size_t len = fread(lines, 1, size, output);
	check_int(len, <, size);
	lines[len] = '\0';
	int status = pclose(output);
	check(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/** What a test of the fixture does, and what is said of it. */
static const struct {
	const char *name;
	int status;
	const char *line;
} outcomes[] = {
	{ "passes", 0, "ok 1 - passes\n" },
	{ "fails_a_check", 1, "not ok 1 - fails_a_check # exit status 1" },
	{ "fails_an_int_check", 1, "not ok 1 - fails_an_int_check # exit status 1" },
	{ "fails_a_string_check", 1, "not ok 1 - fails_a_string_check # exit status 1" },
	{ "leaks_an_fd", 1, "not ok 1 - leaks_an_fd # leaked file descriptors" },
	{ "leaves_a_child", 1, "not ok 1 - leaves_a_child # left children behind" },
	{ "crashes", 1, "not ok 1 - crashes # Aborted" },
	{ "hangs", 1, "not ok 1 - hangs # timed out" },
	{ "exits_early", 1, "not ok 1 - exits_early # exit status 3" },
	{ "is_skipped", 0, "ok 1 - is_skipped # SKIP for a reason" },
	{ "is_not_two[one]", 0, "1..1\nok 1 - is_not_two[one]\n" },
	{ "is_not_two[two]", 1, "1..1\nnot ok 1 - is_not_two[two] # exit status 1" },
	{ "is_not_two", 1, "1..3\nok 1 - is_not_two[one]\n"
		"not ok 2 - is_not_two[two] # exit status 1\nok 3 - is_not_two[three]\n" },
	{ "reads_from_each", 0,
		"1..2\nok 1 - reads_from_each[null]\nok 2 - reads_from_each[zero]\n" },
	{ "has_a_fixture", 0, "ok 1 - has_a_fixture\n" },
	{ "cannot_be_set_up", 1, "not ok 1 - cannot_be_set_up # exit status 1" },
	{ "is_not_torn_down", 1, "not ok 1 - is_not_torn_down # leaked file descriptors" },
	{ "leaves_something_in_the_system", 1, " # left something behind" },
	{ "is_cleaned_up_late", 0, "ok 1 - is_cleaned_up_late\n" },
	{ "reports_errno", 0, "ok 1 - reports_errno\n" },
	{ "reports_another_errno", 1, "not ok 1 - reports_another_errno # exit status 1" },
	{ "reports_errno_of_a_success", 1, "not ok 1 - reports_errno_of_a_success # " },
	{ "reports_a_failed_call", 1, "not ok 1 - reports_a_failed_call # exit status 1" },
};

TEST_EACH(outcomes, outcome_is_told) {
	char lines[1024];
	check_int(run_fixture(param->name, lines, sizeof(lines)), ==, param->status);
	if (strstr(lines, param->line) == NULL) {
		harness_fail(__FILE__, __LINE__, "%s", lines);
	}
}

TEST(unknown_test_is_an_error) {
	char lines[1024];
	check_int(run_fixture("no_such_test", lines, sizeof(lines)), ==, 1);
	check_int(run_fixture("is_not_two[four]", lines, sizeof(lines)), ==, 1);
}
