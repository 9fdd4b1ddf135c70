/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hook.h"

/** For commands that wait when the compositor is gone: the last ones tell of that. */
#define REST_MS 10000
/** More than the kernel lets a program have. */
#define ENV_SIZE_CAP (8 * 1024 * 1024)

struct helper {
	const char *command;
	int socket_fd; // -1 once the compositor is gone
	int signal_fd; // of SIGCHLD
	int queue[HOOK_QUEUE_CAP]; // memfds, in order
	size_t n_queued, n_running;
	int64_t end_ms; // to give up, once the compositor is gone
};

static int64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/** A command is over, or will never be. */
static void helper_answer(struct helper *helper) {
	if (helper->socket_fd >= 0) {
		send(helper->socket_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* Commands */

/** Its strings, which are in `*block`; both are to be freed. NULL on failure. */
static char **read_env(int fd, char **block) {
	struct stat st;
	*block = NULL;
	if (fstat(fd, &st) != 0 || st.st_size > ENV_SIZE_CAP) {
		return NULL;
	}
	size_t size = (size_t)st.st_size, n = 0;
	*block = calloc(1, size + 1);
	if (*block == NULL || pread(fd, *block, size, 0) != (ssize_t)size) {
		return NULL;
	}
	for (size_t i = 0; i < size; i++) {
		n += (*block)[i] == '\0';
	}
	char **env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0, at = 0; env != NULL && i < n; i++) {
		env[i] = *block + at;
		at += strlen(env[i]) + 1;
	}
	return env;
}

/** Nothing of what this process does with signals is for the command. */
static bool spawn(const char *command, char *const env[]) {
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_t attr;
	if (posix_spawnattr_init(&attr) != 0) {
		return false;
	}
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	pid_t pid;
	int ret = posix_spawn(&pid, "/bin/sh", NULL, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	return ret == 0;
}

static bool run_command(const char *command, int env_fd) {
	char *block;
	char **env = read_env(env_fd, &block);
	bool ok = env != NULL && spawn(command, env);
	free(env);
	free(block);
	return ok;
}

static void helper_run_queue(struct helper *helper) {
	while (helper->n_running < HOOK_RUNNING_CAP && helper->n_queued > 0) {
		int fd = helper->queue[0];
		helper->n_queued--;
		memmove(helper->queue, helper->queue + 1, helper->n_queued * sizeof(fd));
		if (run_command(helper->command, fd)) {
			helper->n_running++;
		} else {
			helper_answer(helper);
		}
		close(fd);
	}
}

static void helper_reap(struct helper *helper) {
	struct signalfd_siginfo info;
	(void)!read(helper->signal_fd, &info, sizeof(info)); // one for many
	while (waitpid(-1, NULL, WNOHANG) > 0) {
		helper->n_running--;
		helper_answer(helper);
	}
}

/* The socket */

/** Returns a file descriptor, -1 if there was none, or -2 at the end. */
static int receive_fd(int socket_fd) {
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buffer,
		.msg_controllen = sizeof(control.buffer),
	};
	ssize_t len = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
	if (len == 0 || (len < 0 && errno != EINTR && errno != EAGAIN)) {
		return -2;
	}
	const struct cmsghdr *header = len > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int fd = -1;
	if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	}
	return fd;
}

static void helper_receive(struct helper *helper) {
	int fd = receive_fd(helper->socket_fd);
	if (fd == -2) {
		close(helper->socket_fd);
		helper->socket_fd = -1;
		helper->end_ms = now_ms() + REST_MS;
	} else if (fd >= 0 && helper->n_queued < HOOK_QUEUE_CAP) {
		helper->queue[helper->n_queued++] = fd;
	} else {
		if (fd >= 0) {
			close(fd);
		}
		helper_answer(helper);
	}
}

/** False when there is nothing more to do. What runs then goes on without us. */
static bool helper_wait(struct helper *helper) {
	bool is_over = helper->socket_fd < 0;
	int64_t left = is_over ? helper->end_ms - now_ms() : -1;
	if (is_over && (helper->n_queued == 0 || left <= 0)) {
		return false;
	}
	struct pollfd fds[] = {
		{ .fd = helper->socket_fd, .events = POLLIN },
		{ .fd = helper->signal_fd, .events = POLLIN },
	};
	if (poll(fds, 2, (int)left) < 0 && errno != EINTR) {
		return false;
	}
	if (fds[1].revents != 0) {
		helper_reap(helper);
	}
	if (fds[0].revents != 0) {
		helper_receive(helper);
	}
	return true;
}

static void run_helper(int socket_fd, const char *command) {
	struct helper helper = { .command = command, .socket_fd = socket_fd };
	sigset_t mask;
	// What ends a compositor from its terminal does not end what is to tell of that
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	prctl(PR_SET_NAME, "vitrine-hook");
	helper.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	while (helper.signal_fd >= 0 && helper_wait(&helper)) {
		helper_run_queue(&helper);
	}
}

int hook_start_helper(const char *command) {
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) != 0) {
		return -errno;
	}
	pid_t pid = fork();
	if (pid == 0) {
		// Its parent ends at once: it is no child of the compositor
		if (fork() == 0) {
			close(fds[0]);
			fcntl(fds[1], F_SETFD, FD_CLOEXEC);
			run_helper(fds[1], command);
		}
		_exit(EXIT_SUCCESS);
	}
	int error = errno;
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return -error;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
		// Until it has ended
	}
	return fds[0];
}
