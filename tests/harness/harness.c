/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define TESTS_CAP 256
#define EXIT_SKIP 77

#define TIMEOUT_S 20
#define NAME_SIZE 256

static const struct harness_test *tests[TESTS_CAP];
static size_t tests_len;

/** For what the runner needs of the system. */
static void must(bool ok, const char *what) {
	if (!ok) {
		perror(what);
		abort();
	}
}

void harness_register(const struct harness_test *test) {
	must(tests_len < TESTS_CAP, "TESTS_CAP");
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

/** The child tells the runner through a pipe why it was skipped, or failed. */
static int reason_fd = -1;

_Noreturn void harness_skip(const char *format, ...) {
	va_list args;
	va_start(args, format);
	int ret = vdprintf(reason_fd, format, args);
	va_end(args);
	_exit(ret > 0 ? EXIT_SKIP : 1);
}

int harness_count_fds(void) {
	DIR *dir = opendir("/proc/self/fd");
	must(dir != NULL, "opendir(/proc/self/fd)");
	int count = 0;
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count - 3; // ".", ".." and the directory itself
}

#if defined(__SANITIZE_THREAD__)
#define SLOWDOWN 8
#elif defined(__SANITIZE_ADDRESS__)
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

void harness_count(unsigned number, const char *what) {
	// A line of its own, read by tools/testlog.py
	fprintf(stderr, "figure: %u %s\n", number, what);
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

/** File descriptors that a test begins with, and must leave. */
static int expected_fds;

void harness_forgive_fds(void) {
	expected_fds = harness_count_fds();
}

static nlink_t count_tasks(void) {
	struct stat st;
	must(stat("/proc/self/task", &st) == 0, "stat(/proc/self/task)");
	return st.st_nlink; // ".", "..", and one for each
}

/** What a test begins with. */
static nlink_t n_tasks;

#if defined(__SANITIZE_THREAD__)
static void *run_nothing(void *data) {
	return NULL;
}

/** Its runtime starts a thread of its own with the first one: not while a test counts them. */
static void start_runtime(void) {
	pthread_t thread;
	must(pthread_create(&thread, NULL, run_nothing, NULL) == 0, "pthread_create");
	pthread_join(thread, NULL);
}
#else
static void start_runtime(void) {
}
#endif

/** Threads that nothing waits for close what they have when they come to their end. */
static void wait_for_fds(int count) {
	for (int i = 0; i < 5000 && harness_count_fds() != count && count_tasks() > n_tasks; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

_Noreturn static void run_in_child(const struct point *point) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	// A test that spins is killed as well as one that waits
	harness_set_timeout(TIMEOUT_S);
	start_runtime();
	n_tasks = count_tasks();
	expected_fds = harness_count_fds();
	point->test->run(point->param);
	wait_for_fds(expected_fds);
	if (harness_count_fds() != expected_fds) {
		fprintf(stderr, "%d file descriptors before, %d after:\n", expected_fds,
			harness_count_fds());
		list_open_fds();
		dprintf(reason_fd, "leaked file descriptors");
		_exit(1);
	}
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
		dprintf(reason_fd, "left children behind");
		_exit(1);
	}
	exit(0); // with the sanitizer's look for leaked memory
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	return remove(path);
}

/** Says why it failed, unless the child has. */
static void describe_status(int status, char *reason, size_t size) {
	if (WIFSIGNALED(status)) {
		bool timeout = WTERMSIG(status) == SIGALRM;
		snprintf(reason, size, "%s", timeout ? "timed out" : strsignal(WTERMSIG(status)));
	} else if (reason[0] == '\0') {
		snprintf(reason, size, "exit status %d", WEXITSTATUS(status));
	}
}

/** Runs a point; returns its wait status. What the child tells goes to `reason`. */
static int run_and_wait(const struct point *point, char *reason, size_t size) {
	int reason_pipe[2];
	must(pipe2(reason_pipe, O_CLOEXEC | O_NONBLOCK) == 0, "pipe2");
	fflush(NULL);
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		setpgid(0, 0);
		close(reason_pipe[0]);
		dup2(STDERR_FILENO, STDOUT_FILENO); // stdout is for TAP
		reason_fd = reason_pipe[1];
		run_in_child(point);
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
	must(mkdtemp(runtime_dir) != NULL, "mkdtemp");
	setenv("XDG_RUNTIME_DIR", runtime_dir, 1);
	unsetenv("WAYLAND_DISPLAY");
	unsetenv("WAYLAND_SOCKET");
	fprintf(stderr, "# %s\n", point->name);
	int n_watched = watched != NULL ? count_watched() : 0;
	char reason[256];
	int status = run_and_wait(point, reason, sizeof(reason));
	nftw(runtime_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

	bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP;
	bool failed = status != 0 && !skipped;
	if (failed) {
		describe_status(status, reason, sizeof(reason));
	} else if (!check_watched(n_watched)) {
		failed = true;
		snprintf(reason, sizeof(reason), "left something behind");
	}
	printf("%s %zu - %s%s%s\n", failed ? "not ok" : "ok", number, point->name,
		failed ? " # " : skipped ? " # SKIP " : "", failed || skipped ? reason : "");
	fflush(stdout);
	return !failed;
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

bool harness_kernel_tells_pins(void) {
	struct utsname name;
	int major = 0, minor = 0;
	if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) {
		return false;
	}
	return access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0 &&
		(major > 6 || (major == 6 && minor >= 7)) && sysconf(_SC_PAGESIZE) == 4096;
}
