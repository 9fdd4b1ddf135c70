/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "hook.h"

#define CAP (HOOK_RUNNING_CAP + HOOK_QUEUE_CAP)

/**
 * A helper whose command says what it is, and waits for a gate to open: a FIFO, which is
 * open for as long as another end of it is.
 */
struct fixture {
	struct hook hook;
	int said_fd; // what commands say
	char said[65536];
	size_t said_len;
};

struct fixture_options {
	const char *command; // NULL for the one above
};

static const char *const gated = "echo \"begin $NUMBER\" >said; : <gate; echo \"end $NUMBER\" >said";

static void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	*f = (struct fixture){ 0 };
	check_ok(chdir(getenv("XDG_RUNTIME_DIR")));
	check_ok(mkfifo("said", 0600));
	check_ok(mkfifo("gate", 0600));
	f->said_fd = open("said", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	check(f->said_fd >= 0);
	int fd = hook_start_helper(options->command != NULL ? options->command : gated);
	check(fd >= 0);
	check(hook_init(&f->hook, fd));
}

static void fixture_tear_down(struct fixture *f) {
	hook_finish(&f->hook);
	close(f->said_fd);
}

static bool run_number(struct fixture *f, int number) {
	char value[32], *env[] = { value, (char *)"PATH=/usr/bin:/bin", NULL };
	snprintf(value, sizeof(value), "NUMBER=%d", number);
	return hook_run(&f->hook, env);
}

/** Reads until commands have said this so often. */
static void read_until(struct fixture *f, const char *what, int n) {
	while (true) {
		int found = 0;
		for (const char *at = f->said; (at = strstr(at, what)) != NULL; at++) {
			found++;
		}
		if (found >= n) {
			return;
		}
		check_int(poll(&(struct pollfd){ .fd = f->said_fd, .events = POLLIN }, 1, -1), ==, 1);
		ssize_t len = read(f->said_fd, f->said + f->said_len, sizeof(f->said) - f->said_len - 1);
		check(len > 0);
		f->said_len += (size_t)len;
	}
}

static int count_lines(const struct fixture *f, const char *what) {
	int n = 0;
	for (const char *at = f->said; (at = strstr(at, what)) != NULL; at++) {
		n++;
	}
	return n;
}

TEST_WITH(fixture, command_gets_the_environment_and_nothing_else,
		.command = "env >env.new; mv env.new env; echo done >said") {
	setenv("OF_THE_HELPER", "1", 1);
	check(run_number(f, 7));
	read_until(f, "done", 1);
	FILE *file = fopen("env", "r");
	check(file != NULL);
	char text[4096] = "";
	check(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	check(strstr(text, "NUMBER=7\n") != NULL && strstr(text, "OF_THE_HELPER") == NULL);
}

TEST_WITH(fixture, commands_that_wait_are_bounded_and_run_in_the_end) {
	for (int i = 0; i < CAP; i++) {
		check(run_number(f, i));
	}
	check(!run_number(f, CAP)); // at once
	read_until(f, "begin", HOOK_RUNNING_CAP);
	int gate = open("gate", O_RDWR | O_CLOEXEC);
	check(gate >= 0);
	read_until(f, "end", CAP);
	check_int(count_lines(f, "begin"), ==, CAP);
	// There is room again, and the last ones do not get lost with the compositor
	check(run_number(f, 1000));
	hook_finish(&f->hook);
	read_until(f, "end 1000", 1);
	close(gate);
}

TEST_WITH(fixture, no_more_than_8_run_at_a_time) {
	for (int i = 0; i < CAP; i++) {
		check(run_number(f, i));
	}
	// One end makes room for one beginning: what is in between is there for good
	for (int n = HOOK_RUNNING_CAP; n < HOOK_RUNNING_CAP + 4; n++) {
		read_until(f, "begin", n);
		check_int(count_lines(f, "begin") - count_lines(f, "end"), <=, HOOK_RUNNING_CAP);
		int gate = open("gate", O_WRONLY | O_CLOEXEC); // lets those through that wait now
		close(gate);
		read_until(f, "end", n - HOOK_RUNNING_CAP + 1);
	}
	int gate = open("gate", O_RDWR | O_CLOEXEC);
	read_until(f, "end", CAP);
	close(gate);
}

TEST_WITH(fixture, helper_and_its_commands_are_no_children_of_ours) {
	check(run_number(f, 1));
	read_until(f, "begin", 1);
	check_errno(waitpid(-1, NULL, WNOHANG | __WALL), ECHILD);
	int gate = open("gate", O_RDWR | O_CLOEXEC);
	read_until(f, "end", 1);
	close(gate);
}

TEST_WITH(fixture, helper_that_is_gone_is_no_signal_and_no_success) {
	check(run_number(f, 1)); // else the failure would prove nothing
	read_until(f, "begin 1", 1);
	check_ok(shutdown(f->hook.fd, SHUT_RDWR));
	check(!run_number(f, 2));
	int gate = open("gate", O_RDWR | O_CLOEXEC);
	read_until(f, "end 1", 1);
	close(gate);
}

TEST(only_the_socket_of_a_helper_is_taken) {
	struct hook hook;
	check(!hook_init(&hook, -1));
	check(!hook_init(&hook, STDIN_FILENO));
	check_int(hook.fd, ==, -1);
}
