/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define TESTS_CAP 256
#define EXIT_SKIP 77
#define EXIT_LEAKED_FDS 78
#define EXIT_LEFT_CHILDREN 79

#define TIMEOUT_S 20
#define NAME_SIZE 256

static const struct harness_test *tests[TESTS_CAP];
static size_t tests_len;

void harness_register(const struct harness_test *test) {
	if (tests_len == TESTS_CAP) {
		abort();
	}
	tests[tests_len++] = test;
}

_Noreturn void harness_fail(const char *file, int line, const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s:%d: check failed: ", file, line);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	// Not exit(): a failed test has leaks that are of no interest
	_exit(1);
}

void harness_check_str(const char *file, int line, const char *expr, const char *a,
		const char *b) {
	if (a == NULL || b == NULL || strcmp(a, b) != 0) {
		harness_fail(file, line, "%s (\"%s\", \"%s\")", expr, a ? a : "(null)", b ? b : "(null)");
	}
}

/** The child passes the reason on to the runner, through a pipe. */
static int skip_fd = -1;

_Noreturn void harness_skip(const char *format, ...) {
	va_list args;
	va_start(args, format);
	int ret = vdprintf(skip_fd, format, args);
	va_end(args);
	_exit(ret > 0 ? EXIT_SKIP : 1);
}

int harness_count_fds(void) {
	DIR *dir = opendir("/proc/self/fd");
	if (dir == NULL) {
		perror("opendir(/proc/self/fd)");
		abort();
	}
	int count = 0;
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count - 3; // ".", ".." and the directory itself
}

#if defined(__SANITIZE_ADDRESS__)
#define SLOWDOWN 4
#else
#define SLOWDOWN 1
#endif

unsigned harness_get_slowdown(void) {
	return getenv("HARNESS_SLOWDOWN") != NULL ?
		(unsigned)atoi(getenv("HARNESS_SLOWDOWN")) : SLOWDOWN;
}

void harness_set_timeout(unsigned seconds) {
	alarm(seconds * harness_get_slowdown());
}

/** What harness_watch() was told to; NULL if it was not called. */
static const char *watched;
static int (*count_watched)(void);

void harness_watch(const char *what, int (*count)(void)) {
	watched = what;
	count_watched = count;
}

/** Returns whether there is no more of it than there was. */
static bool check_watched(int before) {
	if (watched == NULL) {
		return true;
	}
	// The kernel has workers that drop the last references
	for (unsigned i = 0; i < 200 * harness_get_slowdown(); i++) {
		if (count_watched() <= before) {
			return true;
		}
		usleep(10000);
	}
	fprintf(stderr, "%d %s before, %d left\n", before, watched, count_watched());
	return false;
}

static void list_open_fds(void) {
	for (int fd = 0; fd < 1024; fd++) {
		char path[64], target[256];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t len = readlink(path, target, sizeof(target) - 1);
		if (len > 0) {
			fprintf(stderr, "  fd %d: %.*s\n", fd, (int)len, target);
		}
	}
}

/** A test, or a test and one of its parameters. */
struct point {
	const struct harness_test *test;
	const void *param; // NULL if there is none
	char name[NAME_SIZE];
};

_Noreturn static void run_in_child(const struct point *point, int reason_fd) {
	skip_fd = reason_fd;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	// A test that spins is killed as well as one that waits
	harness_set_timeout(TIMEOUT_S);
	int n_fds = harness_count_fds();
	point->test->run(point->param);
	if (harness_count_fds() != n_fds) {
		fprintf(stderr, "%d file descriptors before, %d after:\n", n_fds, harness_count_fds());
		list_open_fds();
		_exit(EXIT_LEAKED_FDS);
	}
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
		_exit(EXIT_LEFT_CHILDREN);
	}
	exit(0); // with the sanitizer's look for leaked memory
}

static void remove_dir(const char *path) {
	DIR *dir = opendir(path);
	if (dir == NULL) {
		return;
	}
	struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			unlinkat(dirfd(dir), entry->d_name, 0);
		}
	}
	closedir(dir);
	rmdir(path);
}

static const char *describe_status(int status, char *text, size_t size) {
	if (WIFSIGNALED(status)) {
		bool timeout = WTERMSIG(status) == SIGALRM;
		snprintf(text, size, "%s", timeout ? "timed out" : strsignal(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) == EXIT_LEAKED_FDS) {
		snprintf(text, size, "leaked file descriptors");
	} else if (WEXITSTATUS(status) == EXIT_LEFT_CHILDREN) {
		snprintf(text, size, "left children behind");
	} else {
		snprintf(text, size, "exit status %d", WEXITSTATUS(status));
	}
	return text;
}

/** Runs a point; returns its wait status. What it is skipped for goes to `reason`. */
static int run_and_wait(const struct point *point, char *reason, size_t size) {
	int reason_pipe[2];
	if (pipe2(reason_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
		perror("pipe2");
		abort();
	}
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		abort();
	}
	if (pid == 0) {
		setpgid(0, 0);
		close(reason_pipe[0]);
		dup2(STDERR_FILENO, STDOUT_FILENO); // stdout is for TAP
		run_in_child(point, reason_pipe[1]);
	}
	close(reason_pipe[1]);
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	kill(-pid, SIGKILL); // children that the test has left behind
	ssize_t len = read(reason_pipe[0], reason, size - 1);
	reason[len > 0 ? len : 0] = '\0';
	close(reason_pipe[0]);
	return status;
}

/** Returns whether the point did not fail. */
static bool run_point(const struct point *point, size_t number) {
	char runtime_dir[] = "/tmp/vitrine-test-XXXXXX";
	if (mkdtemp(runtime_dir) == NULL) {
		perror("mkdtemp");
		abort();
	}
	setenv("XDG_RUNTIME_DIR", runtime_dir, 1);
	unsetenv("WAYLAND_DISPLAY");
	unsetenv("WAYLAND_SOCKET");
	fprintf(stderr, "# %s\n", point->name);
	int n_watched = watched != NULL ? count_watched() : 0;
	char reason[256], text[128];
	int status = run_and_wait(point, reason, sizeof(reason));
	remove_dir(runtime_dir);

	bool passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP;
	const char *why = !passed && !skipped ? describe_status(status, text, sizeof(text)) :
		!check_watched(n_watched) ? "left something behind" : NULL;
	printf("%s %zu - %s%s%s\n", why != NULL ? "not ok" : "ok", number, point->name,
		why != NULL ? " # " : skipped ? " # SKIP " : "",
		why != NULL ? why : skipped ? reason : "");
	fflush(stdout);
	return why == NULL;
}

/** A name of a test stands for all of its points. */
static bool is_wanted(const struct point *point, int argc, char *argv[]) {
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], point->test->name) == 0 || strcmp(argv[i], point->name) == 0) {
			return true;
		}
	}
	return argc < 2;
}

/** Runs the points that are wanted, or only counts them. Returns their number. */
static size_t for_each_point(int argc, char *argv[], bool run, bool *ok) {
	size_t number = 0;
	for (size_t i = 0; i < tests_len; i++) {
		const struct harness_test *test = tests[i];
		for (size_t j = 0; j < (test->params != NULL ? test->params_len : 1); j++) {
			struct point point = { .test = test };
			if (test->params != NULL) {
				point.param = (const char *)test->params + j * test->param_size;
				snprintf(point.name, NAME_SIZE, "%s[%s]", test->name,
					*(const char *const *)point.param);
			} else {
				snprintf(point.name, NAME_SIZE, "%s", test->name);
			}
			if (is_wanted(&point, argc, argv)) {
				number++;
				*ok &= !run || run_point(&point, number);
			}
		}
	}
	return number;
}

int main(int argc, char *argv[]) {
	// A core file of each test that is meant to crash helps nobody
	setrlimit(RLIMIT_CORE, &(struct rlimit){0});
	bool ok = true;
	size_t wanted_len = for_each_point(argc, argv, false, &ok);
	printf("TAP version 13\n1..%zu\n", wanted_len);
	if (wanted_len == 0) {
		fprintf(stderr, "no such test\n");
		return 1;
	}
	for_each_point(argc, argv, true, &ok);
	return ok ? 0 : 1;
}
