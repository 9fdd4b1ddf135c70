/* SPDX-License-Identifier: MIT */
/* Tests that fail in each way that the harness has to notice. */
#include <fcntl.h>
#include <stdlib.h>
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

TEST_TIMEOUT(hangs, 1) {
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
