/* SPDX-License-Identifier: MIT */
/* SIGHUP in a compositor that is not ours: which of both hears of it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hangup.h"
#include "harness.h"

static int n_ours, n_theirs;
static char order[8]; // who heard of it, in turn

static void note(char who) {
	size_t len = strlen(order);
	if (len + 1 < sizeof(order)) {
		order[len] = who;
		order[len + 1] = '\0';
	}
}

static void handle_ours(void) {
	n_ours++;
	note('o');
}

static int handle_theirs(int signal_number, void *data) {
	check_int(signal_number, ==, SIGHUP);
	*(int *)data += 1;
	note('t');
	return 0;
}

static void handle_by_itself(int signal_number) {
	n_theirs++;
}

static void hang_up(struct wl_event_loop *loop) {
	check_ok(raise(SIGHUP));
	check_ok(wl_event_loop_dispatch(loop, 1000));
}

static bool is_blocked(void) {
	sigset_t set;
	check_ok(sigprocmask(SIG_BLOCK, NULL, &set));
	return sigismember(&set, SIGHUP);
}

/** How a child sees SIGHUP that another program was started in: "blocked ignored". */
static void check_child_has_default(void) {
	FILE *file = popen("grep -E 'Sig(Blk|Ign)' /proc/self/status", "re");
	check(file != NULL);
	unsigned long long blocked, ignored;
	check_int(fscanf(file, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), ==, 2);
	pclose(file);
	check(!(blocked & 1) && !(ignored & 1));
}

TEST(hangup_that_the_compositor_leaves_alone_is_ours) {
	struct wl_event_loop *loop = wl_event_loop_create();
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_OURS);
	hang_up(loop);
	check_int(n_ours, ==, 1);
	hang_up(loop);
	check_int(n_ours, ==, 2);
	check(!is_blocked());
	check_child_has_default();
	hangup_finish();
	struct sigaction action;
	check_ok(sigaction(SIGHUP, NULL, &action));
	check(action.sa_handler == SIG_DFL);
	wl_event_loop_destroy(loop);
}

TEST(many_hangups_at_once_are_one) {
	struct wl_event_loop *loop = wl_event_loop_create();
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_OURS);
	for (int i = 0; i < 1000; i++) {
		check_ok(raise(SIGHUP));
	}
	check_ok(wl_event_loop_dispatch(loop, 1000));
	check_ok(wl_event_loop_dispatch(loop, 0));
	check_int(n_ours, ==, 1);
	hangup_finish();
	wl_event_loop_destroy(loop);
}

TEST(hangup_of_the_compositors_event_loop_is_shared) {
	struct wl_event_loop *loop = wl_event_loop_create();
	struct wl_event_source *source =
		hangup_add_signal(loop, handle_theirs, &n_theirs, wl_event_loop_add_signal);
	check(source != NULL);
	hang_up(loop); // before there is anything of ours
	check_int(n_theirs, ==, 1);
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_SHARED);
	order[0] = '\0';
	hang_up(loop);
	check_int(n_theirs, ==, 2);
	check_int(n_ours, ==, 1);
	check_str(order, "ot");
	hangup_finish();
	hang_up(loop);
	check_int(n_theirs, ==, 3); // it is still theirs
	check_int(n_ours, ==, 1);
	wl_event_source_remove(source);
	wl_event_loop_destroy(loop);
}

TEST(second_source_of_the_compositor_is_its_own) {
	struct wl_event_loop *loop = wl_event_loop_create();
	int first = 0, second = 0;
	struct wl_event_source *a =
		hangup_add_signal(loop, handle_theirs, &first, wl_event_loop_add_signal);
	struct wl_event_source *b =
		hangup_add_signal(loop, handle_theirs, &second, wl_event_loop_add_signal);
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_SHARED);
	wl_event_source_remove(a);
	hang_up(loop);
	check_int(second, ==, 1);
	check_int(first + n_ours, ==, 0);
	hangup_finish();
	wl_event_source_remove(b);
	wl_event_loop_destroy(loop);
}

TEST(compositor_that_handles_hangups_by_itself_keeps_them) {
	struct wl_event_loop *loop = wl_event_loop_create();
	struct sigaction action = { .sa_handler = handle_by_itself };
	check_ok(sigaction(SIGHUP, &action, NULL));
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_FOREIGN);
	check_ok(raise(SIGHUP));
	check_ok(wl_event_loop_dispatch(loop, 0));
	check_int(n_theirs, ==, 1);
	check_int(n_ours, ==, 0);
	hangup_finish();
	struct sigaction after;
	check_ok(sigaction(SIGHUP, NULL, &after));
	check(after.sa_handler == handle_by_itself);
	wl_event_loop_destroy(loop);
}

TEST(hangup_that_is_ignored_stays_so) {
	struct wl_event_loop *loop = wl_event_loop_create();
	signal(SIGHUP, SIG_IGN); // as by nohup
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_FOREIGN);
	check_ok(raise(SIGHUP));
	check_ok(wl_event_loop_dispatch(loop, 0));
	check_int(n_ours, ==, 0);
	hangup_finish();
	wl_event_loop_destroy(loop);
}

TEST(hangup_that_waits_for_a_file_descriptor_stays_so) {
	struct wl_event_loop *loop = wl_event_loop_create();
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	check_ok(sigprocmask(SIG_BLOCK, &set, NULL)); // as for a signalfd
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_FOREIGN);
	hangup_finish();
	wl_event_loop_destroy(loop);
}

TEST(handler_that_the_compositor_installs_later_is_left_at_the_end) {
	struct wl_event_loop *loop = wl_event_loop_create();
	check_int(hangup_listen(loop, handle_ours), ==, HANGUP_OURS);
	signal(SIGHUP, handle_by_itself);
	hangup_finish();
	check_ok(raise(SIGHUP));
	check_int(n_theirs, ==, 1);
	wl_event_loop_destroy(loop);
}
