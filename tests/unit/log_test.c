/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "log.h"

#define PIPE_SIZE 4096
/** More than a pipe and twice the queue take. */
#define FLOOD 4000

/** A log that is a pipe. */
struct pipe_log {
	int read_fd, write_fd;
	size_t len;
	char text[1 << 20];
};

struct pipe_log_options {
	int unused;
};

static void pipe_log_set_up(struct pipe_log *f, const struct pipe_log_options *options) {
	int fds[2];
	check_ok(pipe2(fds, O_CLOEXEC));
	check(fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE) == PIPE_SIZE);
	check_ok(fcntl(fds[0], F_SETFL, O_NONBLOCK));
	f->read_fd = fds[0];
	f->write_fd = fds[1];
	f->len = 0;
	f->text[0] = '\0';
	log_set_fd(f->write_fd);
}

static void pipe_log_tear_down(struct pipe_log *f) {
	close(f->read_fd);
	log_flush(10000); // the thread writes to the other end until it has failed
	close(f->write_fd);
}

/** Reads until the log has this. */
static void read_until(struct pipe_log *f, const char *text) {
	while (strstr(f->text, text) == NULL) {
		check_int(poll(&(struct pollfd){ .fd = f->read_fd, .events = POLLIN }, 1, -1), ==, 1);
		ssize_t n = read(f->read_fd, f->text + f->len, sizeof(f->text) - f->len - 1);
		check(n > 0);
		f->len += (size_t)n;
		f->text[f->len] = '\0';
	}
}

static int count(const char *text, const char *what) {
	int n = 0;
	for (; (text = strstr(text, what)) != NULL; text++) {
		n++;
	}
	return n;
}

static double seconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

TEST_WITH(pipe_log, lines_are_written_in_order_and_made_visible) {
	log_line("first");
	log_line("second\nthird \u202e");
	read_until(f, "third");
	read_until(f, "}\n");
	check_int(count(f->text, "\n"), ==, 2);
	check(strstr(f->text, " vitrine: first\n") != NULL);
	check(strstr(f->text, " vitrine: second\\u{a}third \\u{202e}\n") != NULL);
}

TEST_WITH(pipe_log, full_pipe_holds_nothing_up_and_what_is_dropped_is_counted) {
	log_line("begin");
	read_until(f, "begin"); // else it would prove nothing that none are read
	double start = seconds();
	for (int i = 0; i < FLOOD; i++) {
		char text[64];
		snprintf(text, sizeof(text), "number %d, and a few words more", i);
		log_line(text);
	}
	check(seconds() - start < 5 * harness_get_slowdown());
	read_until(f, "lines were dropped");
	read_until(f, "take them\n");
	unsigned long long n_dropped = 0;
	const char *told = strstr(f->text, "lines were dropped");
	while (told[-1] != ':') {
		told--;
	}
	check_int(sscanf(told, " %llu lines were dropped", &n_dropped), ==, 1);
	int n_written = count(f->text, "and a few words more\n");
	check_int(n_written + (long long)n_dropped, ==, FLOOD);
	check_int(n_written, >, 500); // what is promised: 64 KiB of them
	log_line("end");
	read_until(f, "end\n");
	check_int(count(f->text, "lines were dropped"), ==, 1);
}

TEST_WITH(pipe_log, process_gets_so_many_lines_a_second_and_the_others_go_on) {
	for (int i = 0; i < 352; i++) {
		log_line_of(4711, "noise");
	}
	log_line_of(4712, "another one");
	log_line("our own");
	read_until(f, "another one\n");
	read_until(f, "our own\n");
	check_int(count(f->text, "noise"), ==, 40);
	// By the thread itself, once the second is over
	read_until(f, "and 312 more lines of pid 4711\n");
	log_line_of(4711, "later");
	read_until(f, "later\n");
}

TEST_WITH(pipe_log, many_processes_are_counted_together) {
	for (int pid = 1; pid <= 32 + 50; pid++) {
		log_line_of(pid, "one line each");
	}
	log_line("our own");
	read_until(f, "our own\n");
	check_int(count(f->text, "one line each"), ==, 32 + 40);
	read_until(f, "and 10 more lines of other processes\n");
}

TEST_WITH(pipe_log, reader_that_is_gone_is_no_signal) {
	check_int(signal(SIGPIPE, SIG_DFL), !=, SIG_ERR);
	close(f->read_fd);
	log_line("to nowhere");
	log_flush(10000); // SIGPIPE would kill
	f->read_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

TEST_WITH(pipe_log, flag_of_the_open_file_stays_as_it_is) {
	log_line("a line");
	read_until(f, "a line\n");
	check_int(fcntl(f->write_fd, F_GETFL) & O_NONBLOCK, ==, 0);
}

TEST_WITH(pipe_log, end_waits_for_lines_but_not_for_ever) {
	log_line("a line");
	log_flush(10000);
	char text[256];
	check(read(f->read_fd, text, sizeof(text)) > 0); // is there already
	for (int i = 0; i < FLOOD; i++) {
		log_line("a line that nothing reads, and a few words more");
	}
	double start = seconds();
	log_flush(100);
	check(seconds() - start >= 0.09);
	check(seconds() - start < 5 * harness_get_slowdown());
}
