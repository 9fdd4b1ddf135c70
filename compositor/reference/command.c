/* SPDX-License-Identifier: MIT */
/* The command that the compositor runs, of which nothing outlives the compositor. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "server.h"

/** For how long a command may clean up, from SIGTERM to SIGKILL. */
#define GRACE_MS 5000

/** As of timeout(1). */
#define STATUS_TIMED_OUT 124

static void command_kill(const struct server *server, int signal_number) {
	pid_t pid = server->command.pid;
	if (!server->command.has_group || kill(-pid, signal_number) != 0) {
		kill(pid, signal_number);
	}
}

static void command_end(struct server *server, int exit_status) {
	server->exit_status = server->command.timed_out ? STATUS_TIMED_OUT : exit_status;
	wl_display_terminate(server->display);
}

int command_handle_child(int signal_number, void *data) {
	struct server *server = data;
	for (;;) {
		siginfo_t info = {0};
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
			return 0;
		}
		bool is_command = info.si_pid == server->command.pid;
		if (is_command && server->options->exit_with_command) {
			// Not reaped before the end: so nothing else can get the number of its group
			command_end(server, info.si_code == CLD_EXITED ? info.si_status :
				128 + info.si_status);
			return 0;
		}
		// It is an orphan that became ours, unless it is the command
		waitpid(info.si_pid, NULL, WNOHANG);
		if (is_command) {
			server->command.pid = 0;
		}
	}
}

static int command_handle_timeout(void *data) {
	struct server *server = data;
	wlr_log(WLR_ERROR, "the command %s", server->command.timed_out ?
		"does not end: it is killed" : "has run for too long");
	command_kill(server, server->command.timed_out ? SIGKILL : SIGTERM);
	if (!server->command.timed_out) {
		server->command.timed_out = true;
		command_kill(server, SIGCONT); // else one that is stopped would not hear
		wl_event_source_timer_update(server->command.timer, GRACE_MS);
	}
	return 0;
}

static _Noreturn void command_exec(const struct server *server) {
	char *const *argv = server->options->command;
	sigset_t set;
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL); // the event loop blocks its signals
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM); // if the compositor is killed
	if (server->command.has_group) {
		setpgid(0, 0);
	}
	unsetenv("NOTIFY_SOCKET"); // it was for us
	execvp(argv[0], argv);
	int reason = errno;
	fprintf(stderr, "vitrine-compositor: cannot run %s: %s\n", argv[0], strerror(reason));
	_exit(reason == ENOENT ? 127 : 126); // as shells do
}

static bool command_start_timer(struct server *server) {
	if (server->options->run_timeout_ms == 0) {
		return true;
	}
	server->command.timer = wl_event_loop_add_timer(
		wl_display_get_event_loop(server->display), command_handle_timeout, server);
	return server->command.timer != NULL && wl_event_source_timer_update(
		server->command.timer, server->options->run_timeout_ms) == 0;
}

bool command_start(struct server *server) {
	if (!command_start_timer(server)) {
		wlr_log(WLR_ERROR, "cannot bound the time of the command");
		return false;
	}
	// From a terminal, ^C and ^Z are for both; in another group it could not read from there
	server->command.has_group = tcgetpgrp(STDIN_FILENO) != getpgrp();
	if (server->options->exit_with_command) {
		prctl(PR_SET_CHILD_SUBREAPER, 1); // what it leaves behind becomes ours
	}
	pid_t pid = fork();
	if (pid < 0) {
		wlr_log_errno(WLR_ERROR, "cannot run '%s'", server->options->command[0]);
		return false;
	}
	if (pid == 0) {
		command_exec(server);
	}
	if (server->command.has_group) {
		setpgid(pid, pid); // the child does it too: one of them is first
	}
	server->command.pid = pid;
	return true;
}

void command_terminate(struct server *server) {
	if (server->command.timer != NULL) {
		wl_event_source_remove(server->command.timer);
	}
	if (server->command.pid != 0) {
		command_kill(server, SIGTERM);
		command_kill(server, SIGCONT);
	}
}

static int64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void kill_children(int signal_number) {
	FILE *file = fopen("/proc/thread-self/children", "re");
	int pid;
	while (file != NULL && fscanf(file, "%d", &pid) == 1) {
		kill(pid, signal_number);
	}
	if (file != NULL) {
		fclose(file);
	}
}

/**
 * Whether all children end within this time. They get the signal, and again when one of them
 * has ended, whose own children are ours now. Signals of the event loop are blocked still.
 */
static bool children_end_within(int64_t ms, int signal_number) {
	const int64_t end = now_ms() + ms;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT); // of the impatient
	sigaddset(&set, SIGTERM);
	for (pid_t pid = 1;;) {
		if (pid > 0) {
			kill_children(signal_number);
		}
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0) {
			return true; // none is left
		}
		const int64_t left = end - now_ms();
		const struct timespec timeout = {left / 1000, left % 1000 * 1000000};
		if (pid == 0 && (left <= 0 || sigtimedwait(&set, NULL, &timeout) != SIGCHLD)) {
			return false;
		}
	}
}

void command_finish(struct server *server) {
	if (server->command.pid == 0 || !server->options->exit_with_command ||
			children_end_within(GRACE_MS, SIGTERM)) {
		return;
	}
	wlr_log(WLR_ERROR, "what the command has started does not end: it is killed");
	if (!children_end_within(GRACE_MS, SIGKILL)) {
		wlr_log(WLR_ERROR, "and is there still");
	}
}
