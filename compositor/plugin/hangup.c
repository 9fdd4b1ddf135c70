/* SPDX-License-Identifier: MIT */
/**
 * A signal that is blocked and read from a file descriptor, as event loops do, is read by
 * one of those that wait for it, and children inherit that it is blocked. So a handler of
 * our own writes to a file descriptor: it ends with the next program, and blocks nothing.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hangup.h"

static struct {
	void (*handle)(void); // NULL before it is listened to
	bool is_installed; // our handler is
	struct wl_event_source *source;

	bool is_shared; // the compositor has added a source
	wl_event_loop_signal_func_t func; // of the compositor
	void *data;
} hangup;

/** Read by a signal handler: -1 if there is none. */
static volatile sig_atomic_t event_fd = -1;

static void handle_signal(int signal_number) {
	int error = errno;
	uint64_t one = 1;
	if (event_fd >= 0 && write(event_fd, &one, sizeof(one)) < 0) {
		// it is full of hangups that were not handled yet
	}
	errno = error;
}

static int handle_event(int fd, uint32_t mask, void *data) {
	uint64_t n;
	if (read(fd, &n, sizeof(n)) == sizeof(n)) {
		hangup.handle();
	}
	return 0;
}

/** Whether a hangup would end the process. */
static bool is_left_alone(void) {
	struct sigaction action;
	sigset_t blocked;
	return sigaction(SIGHUP, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
		action.sa_handler == SIG_DFL && sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 &&
		!sigismember(&blocked, SIGHUP);
}

static bool install(struct wl_event_loop *loop) {
	event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event_fd < 0) {
		return false;
	}
	hangup.source = wl_event_loop_add_fd(loop, event_fd, WL_EVENT_READABLE, handle_event, NULL);
	struct sigaction action = { .sa_handler = handle_signal, .sa_flags = SA_RESTART };
	sigemptyset(&action.sa_mask);
	hangup.is_installed = hangup.source != NULL && sigaction(SIGHUP, &action, NULL) == 0;
	return hangup.is_installed;
}

enum hangup_owner hangup_listen(struct wl_event_loop *loop, void (*handle)(void)) {
	hangup.handle = handle;
	if (hangup.is_shared) {
		return HANGUP_SHARED;
	}
	return is_left_alone() && install(loop) ? HANGUP_OURS : HANGUP_FOREIGN;
}

void hangup_finish(void) {
	struct sigaction action;
	if (hangup.is_installed && sigaction(SIGHUP, NULL, &action) == 0 &&
			action.sa_handler == handle_signal) {
		signal(SIGHUP, SIG_DFL);
	}
	hangup.is_installed = false;
	if (hangup.source != NULL) {
		wl_event_source_remove(hangup.source);
		hangup.source = NULL;
	}
	if (event_fd >= 0) {
		int fd = event_fd;
		event_fd = -1;
		close(fd);
	}
	hangup.handle = NULL;
}

/** Ours first: the compositor may look at what has changed. */
static int handle_shared(int signal_number, void *data) {
	if (hangup.handle != NULL) {
		hangup.handle();
	}
	return hangup.func(signal_number, hangup.data);
}

struct wl_event_source *hangup_add_signal(struct wl_event_loop *loop,
		wl_event_loop_signal_func_t func, void *data,
		struct wl_event_source *(*add)(struct wl_event_loop *loop, int signal_number,
			wl_event_loop_signal_func_t func, void *data)) {
	if (hangup.is_shared) {
		return add(loop, SIGHUP, func, data);
	}
	struct wl_event_source *source = add(loop, SIGHUP, handle_shared, NULL);
	if (source != NULL) {
		hangup.is_shared = true;
		hangup.func = func;
		hangup.data = data;
	}
	return source;
}
