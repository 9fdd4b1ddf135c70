/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <png.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_compositor.h"
#include "harness.h"

/*
 * The vitrine command, which the environment variable VITRINE names, against a
 * fake compositor. Each test runs in a directory of its own.
 */

/** A command line of vitrine, which ends at the first NULL. */
#define ARGS(...) ((const char *const[]){ "vitrine", __VA_ARGS__, NULL })

struct run {
	int status; // exit status, or 128 + signal
	char out[65536], err[4096];
};

struct process {
	pid_t pid, compositor;
	int out, err; // files that it writes
};

struct fixture {
	const struct fake_script *script; // NULL for no compositor
	size_t max_file; // bytes that a file may have; 0 for no limit
};

struct fixture_options {
	const struct fake_script *script;
};

/** Goes to an empty directory, which the harness removes. */
static void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	*f = (struct fixture){ .script = options->script };
	check(chdir(getenv("XDG_RUNTIME_DIR")) == 0);
}

static void fixture_tear_down(struct fixture *f) {
}

static void child_exec(int socket, const struct process *process, size_t max_file,
		const char *const *args) {
	const char *vitrine = getenv("VITRINE");
	check(vitrine != NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (socket >= 0) {
		char value[16];
		int fd = dup(socket); // without FD_CLOEXEC
		snprintf(value, sizeof(value), "%d", fd);
		setenv("WAYLAND_SOCKET", value, 1);
	}
	if (max_file > 0) {
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){ max_file, max_file });
		signal(SIGXFSZ, SIG_IGN);
		// Nor may the build that counts lines write over what it has counted
		setenv("GCOV_PREFIX", "/dev/null", 1);
	}
	dup2(process->out, STDOUT_FILENO);
	dup2(process->err, STDERR_FILENO);
	execv(vitrine, (char *const *)args);
	_exit(127);
}

/** Starts vitrine; `out` is -1 for a file. */
static struct process start(struct fixture *f, int out, const char *const *args) {
	struct process process = {
		.out = out >= 0 ? out : memfd_create("out", MFD_CLOEXEC),
		.err = memfd_create("err", MFD_CLOEXEC),
	};
	int socket = f->script != NULL ? fake_start(f->script, &process.compositor) : -1;
	process.pid = fork();
	check(process.pid >= 0);
	if (process.pid == 0) {
		child_exec(socket, &process, f->max_file, args);
	}
	if (socket >= 0) {
		close(socket);
	}
	return process;
}

static void read_back(int fd, char *buffer, size_t size) {
	ssize_t n = pread(fd, buffer, size - 1, 0);
	buffer[n > 0 ? n : 0] = '\0';
}

/**
 * Takes out what the build that counts lines says if it cannot keep its counts in files: it
 * comes at the end, and may be more than was read back.
 */
static void drop_profiling(char *text) {
	char *line = strstr(text, "profiling:");
	if (line != NULL && (line == text || line[-1] == '\n')) {
		*line = '\0';
	}
}

/** Waits for the end; what it returns is valid until the next run. */
static struct run *finish(struct process *process) {
	static struct run run;
	int status;
	check(waitpid(process->pid, &status, 0) == process->pid);
	run.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (process->compositor > 0) {
		fake_wait(process->compositor);
	}
	read_back(process->out, run.out, sizeof(run.out));
	read_back(process->err, run.err, sizeof(run.err));
	drop_profiling(run.err);
	fputs(run.err, stderr);
	close(process->out);
	close(process->err);
	return &run;
}

/** Runs vitrine to its end. */
static struct run *run_to_end(struct fixture *f, const char *const *args) {
	struct process process = start(f, -1, args);
	return finish(&process);
}

/** Exactly one line, which is ours, and says this. */
static void check_one_line(const struct run *run, const char *text) {
	const char *newline = strchr(run->err, '\n');
	check(strncmp(run->err, "vitrine: ", 9) == 0);
	check(newline != NULL && newline[1] == '\0');
	check(strstr(run->err, text) != NULL);
}

/** The number of files in the working directory, hidden ones included. */
static int count_files(void) {
	DIR *dir = opendir(".");
	check(dir != NULL);
	int n = -2; // "." and ".."
	while (readdir(dir) != NULL) {
		n++;
	}
	closedir(dir);
	return n;
}

/** Each of the strings, which end with NULL, is in the text. */
static void check_strings(const char *text, const char *const *strings) {
	for (; *strings != NULL; strings++) {
		if (strstr(text, *strings) == NULL) {
			harness_fail(__FILE__, __LINE__, "no \"%s\" in \"%s\"", *strings, text);
		}
	}
}

#define check_has(text, ...) check_strings(text, (const char *const[]){ __VA_ARGS__, NULL })

/** Runs vitrine, which has to work. */
static struct run *works(struct fixture *f, const char *const *args) {
	struct run *run = run_to_end(f, args);
	check_int(run->status, ==, 0);
	return run;
}

/** Runs vitrine, which has to fail with this status, say in one line why, and leave no file. */
static struct run *fails(struct fixture *f, int status, const char *text,
		const char *const *args) {
	int n_files = count_files();
	struct run *run = run_to_end(f, args);
	check_int(run->status, ==, status);
	check_one_line(run, text);
	check_int(count_files(), ==, n_files);
	return run;
}

static off_t get_size(const char *path) {
	struct stat st;
	check(stat(path, &st) == 0);
	return st.st_size;
}

TEST_PARAMS(fixture, commands, const char *file; bool needs_compositor, needs_session) = {
	{ "probe" },
	{ "info", .needs_compositor = true },
	{ "shot", .file = "file", .needs_compositor = true, .needs_session = true },
	{ "record", .file = "file", .needs_compositor = true, .needs_session = true },
	{ "watch", .needs_compositor = true, .needs_session = true },
	{ "wait", .file = "--frames=1", .needs_compositor = true, .needs_session = true },
	{ "audit", .needs_session = true }, // without a compositor it is of the machine
};

TEST_WITH_EACH(fixture, commands, help_and_version) {
	check_has(works(f, ARGS("--help"))->out, param->name);
	struct run *run = works(f, ARGS(param->name, "--help"));
	check_has(run->out, "usage: vitrine");
	check_str(run->err, "");
	works(f, ARGS(param->name, "-V"));
	works(f, ARGS("--version"));
}

TEST_PARAMS(fixture, wrong_usages, const char *text; const char *const *args) = {
	{ "unknown command", .args = ARGS("frobnicate"), .text = "frobnicate" },
	{ "shot of two files", .args = ARGS("shot", "a", "b") },
	{ "shot of another type", .text = ".webp", .args = ARGS("shot", "a.webp") },
	{ "type at odds with the ending", .text = ".jpg",
		.args = ARGS("shot", "-t", "png", "a.jpg") },
	{ "type at odds with another ending", .text = ".tiff",
		.args = ARGS("shot", "-t", "png", "a.tiff") },
	{ "unknown type", .text = "png, ppm and jpeg", .args = ARGS("shot", "-t", "gif", "a") },
	{ "quality of a PNG", .text = "png", .args = ARGS("shot", "-q", "50", "a.png") },
	{ "quality above 100", .text = "100", .args = ARGS("shot", "-q", "101", "a.jpg") },
	{ "no quality", .args = ARGS("shot", "-q", "0", "a.jpg") },
	{ "region without a size", .text = "X,Y WxH", .args = ARGS("shot", "-g", "1,2", "a") },
	{ "region of nothing", .text = "X,Y WxH", .args = ARGS("shot", "-g", "1,2 0x3", "a") },
	{ "region and more", .text = "X,Y WxH", .args = ARGS("shot", "-g", "1,2 3x4 5", "a") },
	{ "region beyond all numbers", .text = "X,Y WxH",
		.args = ARGS("shot", "-g", "1,2 99999999999999999999x4", "a") },
	{ "region and all", .text = "takes one of", .args = ARGS("shot", "-a", "-g", "1,2 3x4", "a") },
	{ "output and all", .text = "takes one of", .args = ARGS("shot", "-a", "-o", "A", "a") },
	{ "scale of nothing", .args = ARGS("shot", "-s", "0", "a") },
	{ "watch of a file", .args = ARGS("watch", "x") },
	{ "no frames", .args = ARGS("record", "--frames", "0", "x") },
	{ "no seconds", .args = ARGS("record", "--seconds", "nan", "x") },
	{ "unknown type", .text = "y4m, raw, mkv, mp4 and webm",
		.args = ARGS("record", "--type", "avi", "x") },
	{ "unknown ending", .text = ".avi", .args = ARGS("record", "x.avi") },
	{ "type against the ending", .text = "mkv", .args = ARGS("record", "-t", "mkv", "x.mp4") },
	{ "no rate", .args = ARGS("record", "--rate", "0", "x") },
	{ "every change at a rate", .text = "at odds with --rate",
		.args = ARGS("record", "--every-change", "--rate", "5", "x.raw") },
	{ "wait for no window", .text = "of --window", .args = ARGS("shot", "--wait", "x.png") },
	{ "too high a rate", .args = ARGS("record", "--rate", "1001", "x") },
	{ "unknown storage", .text = "mapped-dmabuf",
		.args = ARGS("watch", "--storage", "memfd,nope") },
	{ "unknown guarantee", .text = "fd_read_only",
		.args = ARGS("watch", "--guarantee", "sealed,nope") },
	{ "wait for nothing", .text = "--still", .args = ARGS("wait") },
	{ "wait for both", .text = "one of", .args = ARGS("wait", "--still", "1", "--frames", "2") },
	{ "diff of no comparison", .args = ARGS("shot", "--diff", "d.png", "x.png") },
	{ "audit of nothing", .args = ARGS("audit", "--no-machine", "--no-session") },
	{ "audit of an output alone", .args = ARGS("audit", "--no-session", "-o", "FAKE-1") },
};

TEST_WITH_EACH(fixture, wrong_usages, wrong_usage) {
	fails(f, 2, param->text != NULL ? param->text : "", param->args);
}

TEST_WITH(fixture, no_command_is_wrong_usage) {
	check_int(run_to_end(f, ARGS(NULL))->status, ==, 2);
	check_int(count_files(), ==, 0);
}

TEST_WITH_EACH(fixture, commands, unknown_option_is_wrong_usage) {
	fails(f, 2, "--nope", ARGS(param->name, "--nope"));
}

TEST_WITH_EACH(fixture, commands, no_compositor) {
	if (param->needs_compositor) {
		fails(f, 1, "cannot connect", ARGS(param->name, param->file));
	} else { // of the machine there is something to say nevertheless
		works(f, ARGS(param->name, "--json"));
		check_int(count_files(), ==, 0);
	}
}

TEST_WITH(fixture, probe_without_a_compositor_is_of_the_machine) {
	struct run *run = works(f, ARGS("probe", "--json"));
	check_has(run->out, "\"reachable\": false", "\"snapshot\"");
}

TEST_WITH(fixture, compositor_without_the_protocol, SCRIPT(.no_manager = true)) {
	fails(f, 1, "xx_dmabuf_view_manager_v1", ARGS("shot", "x.png"));
}

TEST_WITH(fixture, unknown_output, .script = &fake_animation) {
	fails(f, 1, "FAKE-1", ARGS("shot", "-o", "NOPE", "x.png"));
	fails(f, 1, "FAKE-1", ARGS("info", "-o", "NOPE"));
}

/* What to look at */

static const struct fake_output two_outputs[] = {
	{ .name = "FAKE-1" }, { .name = "FAKE-2", .x = 64 }, { 0 },
};

static void show_or_say_off(struct fake_session *session) {
	if (strcmp(session->output->name, "FAKE-1") == 0) {
		fake_say(session, SAY(EVENT(DEPTH, 1), EVENT(OFF, 0)));
	} else {
		fake_say(session, SAY(EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0)));
	}
}

static void say_off(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 1), EVENT(OFF, 0)));
}

TEST_WITH(fixture, first_output_that_is_on_is_looked_at,
		SCRIPT(.outputs = two_outputs, .start = show_or_say_off)) {
	check_one_line(works(f, ARGS("shot", "x.png")), "of FAKE-2, one of 2 outputs");
	check_one_line(works(f, ARGS("watch", "--frames", "1")), "of FAKE-2, one of 2 outputs");
	check_str(works(f, ARGS("shot", "-o", "FAKE-2", "x.png"))->err, "");
	fails(f, 1, "the output is off", ARGS("shot", "-o", "FAKE-1", "--timeout", "1", "y.png"));
}

TEST_WITH(fixture, outputs_that_are_all_off,
		SCRIPT(.outputs = two_outputs, .start = say_off)) {
	struct run *run = run_to_end(f, ARGS("shot", "--timeout", "1", "x.png"));
	check_int(run->status, ==, 1);
	check_has(run->err, "of FAKE-1, one of 2", "the output is off");
}

TEST_WITH(fixture, denial_of_one_of_two_outputs_is_said_at_once, SCRIPT(.outputs = two_outputs,
		.events = SAY(EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_DENIED)))) {
	struct run *run = run_to_end(f, ARGS("shot", "--timeout", "30", "x.png"));
	check_int(run->status, ==, 1);
	check_has(run->err, "denies");
}

/** What is not named is not waited for. */
TEST_WITH(fixture, info_of_one_output, SCRIPT(.outputs = two_outputs, .start = show_or_say_off)) {
	char *out = works(f, ARGS("info", "-o", "FAKE-2"))->out;
	check_has(out, "FAKE-2: 64x32 at 60.00 Hz");
	check(strstr(out, "FAKE-1") == NULL);
}

static const struct fake_window windows[] = {
	{ "id-1", "mpv", "a film" }, { "id-2", "foot", "vim" }, { "id-3", "foot", "mpv" },
	{ "id-4", "vim", "id-1" }, { "id-5", "x", "\033[31m\"red\"\n" }, { 0 },
};
#define WINDOWS .windows = windows, .events = SAY(EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0))

TEST_PARAMS(fixture, named_windows, const char *window, *found) = {
	{ "identifier before title", { SCRIPT(WINDOWS) }, "id-1", "window id-1: mpv \"a film\", 64x32" },
	{ "app-id before title", { SCRIPT(WINDOWS) }, "mpv", "window id-1" },
	{ "app-id of a later one", { SCRIPT(WINDOWS) }, "vim", "window id-4" },
	{ "title", { SCRIPT(WINDOWS) }, "a film", "window id-1" },
	{ "any bytes", { SCRIPT(WINDOWS) }, "\033[31m\"red\"\n",
		"window id-5: x \"\\u{1b}[31m\\u{22}red\\u{22}\\u{a}\", 64x32" },
};

TEST_WITH_EACH(fixture, named_windows, window_is_found) {
	struct run *run = works(f, ARGS("info", "-w", param->window));
	check_has(run->out, param->found);
	check_str(run->err, "");
	works(f, ARGS("shot", "--window", param->window, "x.png"));
	works(f, ARGS("watch", "-w", param->window, "--frames", "1"));
	works(f, ARGS("record", "-w", param->window, "--frames", "1", "x.y4m"));
}

TEST_WITH(fixture, several_windows_of_a_name, SCRIPT(WINDOWS)) {
	struct run *run = works(f, ARGS("info", "-w", "foot"));
	check_has(run->out, "window id-2");
	check_one_line(run, "2 windows are \"foot\": this is of the first of id-2, id-3");
}

TEST_WITH(fixture, no_such_window, SCRIPT(WINDOWS)) {
	works(f, ARGS("shot", "-w", "vim", "x.png"));
	const char *all = "no such window: \"fo\"; there is mpv \"a film\" (id-1), "
		"foot \"vim\" (id-2), foot \"mpv\" (id-3), vim \"id-1\" (id-4), "
		"x \"\\u{1b}[31m\\u{22}red\\u{22}\\u{a}\" (id-5)";
	fails(f, 5, all, ARGS("shot", "-w", "fo", "y.png"));
	fails(f, 5, all, ARGS("watch", "-w", "fo"));
	fails(f, 5, all, ARGS("record", "-w", "fo", "y.y4m"));
	fails(f, 5, all, ARGS("info", "-w", "fo"));
	fails(f, 5, all, ARGS("audit", "--no-machine", "-w", "fo"));
}

TEST_WITH(fixture, no_window_at_all, SCRIPT(.windows = (const struct fake_window[]){ { 0 } })) {
	fails(f, 5, "\"foot\"; there is none", ARGS("shot", "-w", "foot", "y.png"));
}

TEST_WITH(fixture, info_lists_windows, SCRIPT(WINDOWS)) {
	check_has(works(f, ARGS("info"))->out, "FAKE-1: 64x32", "\nwindow id-1: mpv \"a film\"\n",
		"\nwindow id-5: x \"\\u{1b}[31m");
	check_has(works(f, ARGS("info", "--json"))->out, "\"identifier\": \"id-2\"",
		"\"app_id\": \"foot\"", "\"title\": \"vim\"");
}

TEST_WITH(fixture, window_of_a_compositor_that_tells_of_none, SCRIPT(.no_toplevel_list = true,
		.events = SAY(EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0)))) {
	fails(f, 1, "ext_foreign_toplevel_list_v1", ARGS("shot", "-w", "foot", "x.png"));
	check_has(works(f, ARGS("info"))->out, "windows: the compositor does not offer");
}

TEST_WITH(fixture, missing_directory_of_sockets_is_said_so) {
	check(unsetenv("XDG_RUNTIME_DIR") == 0);
	fails(f, 1, "XDG_RUNTIME_DIR is not set", ARGS("shot", "x.png"));
	check(setenv("XDG_RUNTIME_DIR", "relative", 1) == 0);
	fails(f, 1, "XDG_RUNTIME_DIR is no absolute path", ARGS("shot", "x.png"));
}

static void post_error(struct fake_session *session, const struct fake_event *event) {
	wl_resource_post_error(session->resource, 7, "the %s", "reason");
}

TEST_WITH(fixture, reason_that_libwayland_knows_is_said, SCRIPT(.events = SAY(CALL(post_error)))) {
	struct run *run = fails(f, 1, "protocol error 7", ARGS("shot", "x.png"));
	check_has(run->err, "(", "the reason)");
}

TEST_WITH(fixture, info_fails_if_the_connection_does, SCRIPT(.events = SAY(CALL(post_error)))) {
	fails(f, 1, "protocol error 7", ARGS("info"));
	fails(f, 1, "protocol error 7", ARGS("info", "--json"));
}

/* The table of options */

TEST_WITH_EACH(fixture, commands, help_of_a_command_is_the_same_by_both_ways) {
	char help[sizeof(((struct run *)NULL)->out)];
	snprintf(help, sizeof(help), "%s", works(f, ARGS(param->name, "--help"))->out);
	check_str(works(f, ARGS("help", param->name))->out, help);
}

TEST_WITH(fixture, help_of_nothing_is_of_all) {
	char help[sizeof(((struct run *)NULL)->out)];
	snprintf(help, sizeof(help), "%s", works(f, ARGS("--help"))->out);
	check_str(works(f, ARGS("help"))->out, help);
	fails(f, 2, "\"frobnicate\"", ARGS("help", "frobnicate"));
}

TEST_WITH(fixture, options_may_stand_before_the_command) {
	fails(f, 1, "socket \"there\"", ARGS("--socket", "there", "shot", "x.png"));
	fails(f, 1, "socket \"there\"", ARGS("--timeout=1", "--socket=there", "shot", "x.png"));
	f->script = &fake_animation;
	fails(f, 1, "no output \"NOPE\"", ARGS("-o", "NOPE", "shot", "x.png"));
	fails(f, 1, "no output \"NOPE\"", ARGS("-oNOPE", "shot", "x.png"));
	works(f, ARGS("-o", "FAKE-1", "--timeout", "5", "shot", "x.png"));
}

TEST_PARAMS(fixture, misplaced, const char *text; const char *const *args) = {
	{ "option of another command", .text = "--frames", .args = ARGS("--frames", "shot", "x.png") },
	{ "shared, but not by this", .text = "--json", .args = ARGS("--json", "shot", "x.png") },
	{ "no command", .text = "no command", .args = ARGS("--socket", "x") },
	{ "no value", .text = "no command", .args = ARGS("--socket") },
	{ "unknown command", .text = "unknown command", .args = ARGS("--socket", "x", "y") },
	{ "output and window", .text = "takes one of --output",
		.args = ARGS("shot", "-o", "A", "-w", "B", "x.png") },
	{ "empty window", .text = "not empty", .args = ARGS("shot", "-w", "", "x.png") },
};

TEST_WITH_EACH(fixture, misplaced, misplaced_option_is_wrong_usage) {
	works(f, ARGS("--version"));
	fails(f, 2, param->text, param->args);
}

/** Each option that --help has is in the completions, in a shell's own words. */
static void check_completion(struct fixture *f, const char *shell, const char *format) {
	char script[sizeof(((struct run *)NULL)->out)];
	snprintf(script, sizeof(script), "%s", works(f, ARGS("--completion", shell))->out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct run *run = works(f, ARGS("help", commands[i].name));
		int n = 0;
		for (char *c = strstr(run->out, "  --"); c != NULL; c = strstr(c + 4, "  --")) {
			char name[64], text[128];
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(c + 4, " "), c + 4);
			snprintf(text, sizeof(text), format, name);
			check_has(script, text);
			n++;
		}
		check_int(n, >, 2);
	}
}

TEST_WITH(fixture, completions_have_each_option) {
	harness_set_timeout(60);
	check_completion(f, "bash", "--%s");
	check_completion(f, "zsh", "'--%s");
	check_completion(f, "fish", " -l %s");
	check_int(run_to_end(f, ARGS("--completion", "csh"))->status, ==, 2);
}

/** What bash offers after these words. */
static void check_bash(const char *words, const char *expected) {
	char command[1024];
	snprintf(command, sizeof(command), "eval \"$($VITRINE --completion bash)\"; "
		"COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _vitrine; "
		"[ \"${COMPREPLY[*]}\" = '%s' ] || { echo \"got: ${COMPREPLY[*]}\" >&2; false; }",
		words, expected);
	pid_t pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		execlp("bash", "bash", "-c", command, NULL);
		_exit(127);
	}
	int status;
	check(waitpid(pid, &status, 0) == pid);
	check_int(status, ==, 0);
}

TEST_WITH(fixture, bash_completes_commands_options_and_values) {
	check_bash("vitrine wat", "watch");
	check_bash("vitrine --socket watch sh", "shot");
	check_bash("vitrine help au", "audit");
	check_bash("vitrine watch --fr", "--frames");
	check_bash("vitrine shot --fr", "");
	check_bash("vitrine shot --storage map", "mapped-dmabuf");
	check(symlink("nowhere", "picture.png") == 0);
	check_bash("vitrine shot pic", "picture.png");
	check_bash("vitrine watch pic", "");
	check_bash("vitrine shot --socket pic", "");
}

static const struct fake_script denial = {
	.events = SAY(EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_DENIED)),
};

TEST_WITH_EACH(fixture, commands, no_permission) {
	f->script = &denial;
	if (param->needs_session) {
		fails(f, 1, "denies", ARGS(param->name, param->file));
	} else {
		works(f, ARGS(param->name));
	}
	check_int(count_files(), ==, 0);
}

TEST_WITH(fixture, no_frame, SCRIPT(0)) {
	fails(f, 1, "--timeout", ARGS("shot", "--timeout", "0.1", "x.png"));
}

TEST_WITH(fixture, mute_compositor, SCRIPT(.mute = true)) {
	fails(f, 1, "does not answer; wait longer with --timeout",
		ARGS("shot", "--timeout", "0.1", "x.png"));
}

TEST_WITH(fixture, lying_compositor, .script = &fake_animation) {
	fails(f, 1, "not accepted", ARGS("shot", "--guarantee", "guarded", "x.png"));
}

TEST_WITH(fixture, info_says_what_an_output_is, .script = &fake_animation) {
	struct run *run = works(f, ARGS("info", "--json"));
	check_has(run->out, "\"name\": \"FAKE-1\"", "\"format\": \"XR24\"",
		"\"guarantee\": \"sealed\"");
	check_has(works(f, ARGS("info"))->out, "FAKE-1: 320x200 at 60.00 Hz");
}

TEST_WITH(fixture, info_says_how_buffers_were_chosen,
		SCRIPT(.events = SAY(EVENT(DEPTH, 1), EXPLANATION("dumb buffers (not memfd: \u2026)"),
			ANNOUNCE(0), FRAME(0)))) {
	check_has(works(f, ARGS("info"))->out, "sealed in a memfd",
		"\n  buffers: dumb buffers (not memfd: \u2026)\n");
	check_has(works(f, ARGS("info", "--json"))->out, "\"buffers\": \"dumb buffers (not memfd");
}

TEST_WITH(fixture, info_says_how_buffers_that_cannot_be_viewed_were_chosen,
		SCRIPT(.events = SAY(EVENT(DEPTH, 1), EXPLANATION("wlroots' own"),
			EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_UNSUPPORTED)))) {
	check_has(works(f, ARGS("info"))->out, "no view: ", "\n  buffers: wlroots' own\n");
}

/** Controls of one byte and of two, half a character, a right-to-left override and an isolate. */
#define BAD_NAME "a\033[2J\x7f\xc2\x9b" "1mb\xe2\x80 \u202ec\u2066\u061c\n."

/** What of it is seen, and what JSON has. */
#define SEEN_NAME "a\\u{1b}[2J\\u{7f}\\u{9b}1mb\\xe2\\x80 \\u{202e}c\\u{2066}\\u{61c}\\u{a}."
#define JSON_NAME "\"a\\u001b[2J\\u007f\\u009b1mb\\\\xe2\\\\x80 \\u202ec\\u2066\\u061c\\n.\""
/** A terminal's commands: it has a link, another title, and a line that seems to be ours. */
#define BAD_COMMANDS "\033]8;;http://example.org\a\033]0;t\033\\\r\nvitrine: all is well\n"
#define SEEN_COMMANDS "\\u{1b}]8;;http://example.org\\u{7}\\u{1b}]0;t\\u{1b}\\\\u{d}\\u{a}" \
	"vitrine: all is well\\u{a}"

/** Nothing of what a terminal obeys, and no line but those of the program itself. */
static void check_harmless(const char *text) {
	for (const char *c = text; *c != '\0'; c++) {
		check(((unsigned char)*c >= ' ' || *c == '\n') && (unsigned char)*c < 0x7f);
	}
	check(strstr(text, "\nvitrine: all is well") == NULL);
}

TEST_WITH(fixture, terminal_obeys_no_compositor, SCRIPT(.name = BAD_NAME,
		.description = BAD_COMMANDS,
		.events = SAY(EVENT(DEPTH, 1), EXPLANATION(BAD_NAME), ANNOUNCE(0), FRAME(0)))) {
	struct run *run = works(f, ARGS("info"));
	check_harmless(run->out);
	check_has(run->out, "\n" SEEN_NAME ": 64x32 at ", " (" SEEN_COMMANDS ")\n",
		"\n  buffers: " SEEN_NAME "\n");
	run = fails(f, 1, "there is " SEEN_NAME "\n", ARGS("shot", "-o", "other", "x.png"));
	check_harmless(run->err);
}

TEST_WITH(fixture, json_has_all_of_a_name_and_nothing_that_a_terminal_obeys,
		SCRIPT(.name = BAD_NAME, .events = SAY(EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0)))) {
	struct run *run = works(f, ARGS("info", "--json"));
	check_harmless(run->out);
	check_has(run->out, "\"name\": " JSON_NAME);
}

TEST_WITH(fixture, audit_obeys_no_compositor) {
	struct fake_script script = fake_animation;
	script.name = BAD_NAME;
	f->script = &script;
	struct run *run = works(f, ARGS("audit", "--seconds", "0.1", "--no-machine"));
	check_harmless(run->out);
	check_has(run->out, SEEN_NAME ": ");
	run = works(f, ARGS("audit", "--seconds", "0.1", "--no-machine", "--json"));
	check_harmless(run->out);
	check_has(run->out, "\"output\": " JSON_NAME);
}

TEST_WITH(fixture, note_obeys_no_compositor,
		SCRIPT(.name = BAD_COMMANDS, .events = SAY(EVENT(DEPTH, 1)))) {
	struct run *run = works(f, ARGS("info", "--timeout", "3"));
	check_harmless(run->err);
	check_has(run->err, "the first frame of " SEEN_COMMANDS "\n");
}

TEST_WITH(fixture, info_says_what_it_waits_for, SCRIPT(.events = SAY(EVENT(DEPTH, 1)))) {
	struct run *run = works(f, ARGS("info", "--timeout", "3"));
	check_has(run->err, "waiting up to 3 s for the first frame of FAKE-1");
	check_has(run->out, "no frame came");
}

/* Pictures */

/** The pixels of a picture of 3 by 2: its digits are their names. */
static uint32_t make_pixel(unsigned name) {
	return name << 20 | 0x00ff00;
}

static int make_picture(const struct fake_event *event) {
	static const unsigned names[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
	uint32_t rows[2][4] = {0}; // with padding
	for (int y = 0; y < 2; y++) {
		for (int x = 0; x < 3; x++) {
			rows[y][x] = make_pixel(names[y][x]) | 0xff000000;
		}
	}
	return fake_memfd_with(rows, sizeof(rows));
}

#define PICTURE .width = 3, .height = 2, .stride = 16

static uint32_t picture_transform;
static struct wl_event_source *picture_timer;

static void send_picture(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 1), VIEW(PICTURE),
		PLANE_OF(make_picture, .view = { PICTURE }), EVENT(VIEW_DONE, 0),
		EVENT(TRANSFORM, picture_transform), EVENT(FRAME, 0, 1, 0, 1, 0, 0, 0, 0, 0)));
}

/** The library has one frame left before what it reads may be torn. */
static void send_picture_and_one_more(struct fake_session *session) {
	send_picture(session);
	session->next_serial = 2;
	if (session->implicit_release) {
		fake_say(session, SAY(FRAME(0)));
	}
}

static const struct fake_script picture = { .start = send_picture };

/** Reads a PNG and compares it with names of pixels, row after row. */
static void check_picture(const char *path, unsigned width, unsigned height, const char *names) {
	png_image image = { .version = PNG_IMAGE_VERSION };
	unsigned char pixels[6 * 3];
	check(png_image_begin_read_from_file(&image, path));
	check_int(image.width, ==, width);
	check_int(image.height, ==, height);
	image.format = PNG_FORMAT_RGB;
	check(png_image_finish_read(&image, NULL, pixels, 0, NULL));
	for (size_t i = 0; i < 6; i++) {
		unsigned name = (unsigned)(names[i] - '0');
		check_int(pixels[3 * i], ==, make_pixel(name) >> 16);
		check_int(pixels[3 * i + 1], ==, 0xff);
		check_int(pixels[3 * i + 2], ==, 0);
	}
}

/* Types of pictures, and names of files */

/** The first bytes of the file are these. */
static void check_begins(const char *path, const char *magic, size_t len) {
	char bytes[16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	check_int(read(fd, bytes, len), ==, (ssize_t)len);
	check(memcmp(bytes, magic, len) == 0);
	close(fd);
}

#define PNG_MAGIC "\x89PNG"
#define JPEG_MAGIC "\xff\xd8\xff"
#define PPM_MAGIC "P6\n3 2\n255\n"
TEST_PARAMS(fixture, types, const char *path, *type, *magic; size_t magic_len) = {
	{ "ending of PNG", { &picture }, "a.png", NULL, PNG_MAGIC, 4 },
	{ "ending of PPM", { &picture }, "a.ppm", NULL, PPM_MAGIC, 11 },
	{ "ending of JPEG", { &picture }, "a.JPG", NULL, JPEG_MAGIC, 3 },
	{ "longer ending of JPEG", { &picture }, "d.x/a.jpeg", NULL, JPEG_MAGIC, 3 },
	{ "no ending", { &picture }, "d.x/a", NULL, PNG_MAGIC, 4 },
	{ "hidden file", { &picture }, ".jpg", NULL, PNG_MAGIC, 4 },
	{ "unknown ending", { &picture }, "a.2026", NULL, PNG_MAGIC, 4 },
	{ "type without an ending", { &picture }, "a", "jpeg", JPEG_MAGIC, 3 },
	{ "type of an unknown ending", { &picture }, "a.2026", "ppm", PPM_MAGIC, 11 },
	{ "both", { &picture }, "a.pnm", "ppm", PPM_MAGIC, 11 },
};

TEST_WITH_EACH(fixture, types, picture_is_of_the_type_of_its_name) {
	check(mkdir("d.x", 0700) == 0);
	works(f, param->type != NULL ? ARGS("shot", "-t", param->type, param->path) :
		ARGS("shot", param->path));
	check_begins(param->path, param->magic, param->magic_len);
}

TEST_WITH(fixture, ppm_has_the_pixels, .script = &picture) {
	works(f, ARGS("shot", "a.ppm"));
	char bytes[64];
	int fd = open("a.ppm", O_RDONLY | O_CLOEXEC);
	check_int(read(fd, bytes, sizeof(bytes)), ==, 11 + 6 * 3);
	for (unsigned i = 0; i < 6; i++) {
		check_int((unsigned char)bytes[11 + 3 * i], ==, make_pixel(i + 1) >> 16);
		check_int((unsigned char)bytes[12 + 3 * i], ==, 0xff);
		check_int((unsigned char)bytes[13 + 3 * i], ==, 0);
	}
	close(fd);
}

TEST_WITH(fixture, quality_of_a_jpeg_costs_bytes, .script = &fake_animation) {
	works(f, ARGS("shot", "-q", "100", "a.jpg"));
	works(f, ARGS("shot", "a.jpeg"));
	works(f, ARGS("shot", "-q", "1", "b.jpg"));
	check_int(get_size("a.jpg"), >, get_size("a.jpeg"));
	check_int(get_size("a.jpeg"), >, get_size("b.jpg"));
}

/** What it printed is a file in this directory. */
static void check_named(struct fixture *f, const char *directory, const char *ending) {
	char *out = works(f, ARGS("shot", "-t", "ppm"))->out;
	char *newline = strchr(out, '\n');
	check(newline != NULL && newline[1] == '\0');
	*newline = '\0';
	check_int(strncmp(out, directory, strlen(directory)), ==, 0);
	check(strchr(out + strlen(directory) + 1, '/') == NULL);
	check_has(out, "_vitrine", ending);
	check_begins(out, PPM_MAGIC, 11);
}

static void write_user_dirs(const char *text) {
	FILE *file = fopen(".config/user-dirs.dirs", "w");
	check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST_WITH(fixture, picture_without_a_name_goes_where_pictures_are, .script = &picture) {
	char home[256], path[300];
	check(getcwd(home, sizeof(home)) != NULL);
	setenv("HOME", home, 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_PICTURES_DIR");
	check(mkdir("my \"own", 0700) == 0 && mkdir(".config", 0700) == 0 && mkdir("env", 0700) == 0);
	check_named(f, home, ".ppm");
	write_user_dirs("# XDG_PICTURES_DIR=\"/nowhere\"\nXDG_VIDEOS_DIR=\"$HOME/env\"\n"
		"XDG_PICTURES_DIR=\"relative\"\n");
	check_named(f, home, ".ppm");
	write_user_dirs("XDG_PICTURES_DIR=\"/nowhere\"\n XDG_PICTURES_DIR=\"$HOME/my \\\"own\"\n");
	snprintf(path, sizeof(path), "%s/my \"own/", home);
	check_named(f, path, ".ppm");
	snprintf(path, sizeof(path), "%s/env", home);
	setenv("XDG_PICTURES_DIR", path, 1);
	check_named(f, path, ".ppm");
	// Of the same second, or not: none replaces another
	check_named(f, path, ".ppm");
	check(chdir(path) == 0);
	check_int(count_files(), ==, 2);
}

TEST_WITH(fixture, picture_without_a_place_is_an_error, .script = &picture) {
	unsetenv("HOME");
	unsetenv("XDG_PICTURES_DIR");
	unsetenv("XDG_CONFIG_HOME");
	fails(f, 1, "HOME", ARGS("shot"));
}

/* Parts of the layout: two outputs whose pixels are all of the output's number */

static const struct fake_output layout_outputs[] = {
	{ .name = "FAKE-1", .width = 4, .height = 2, .x = -4, .y = 0 },
	{ .name = "FAKE-2", .width = 4, .height = 4, .x = 0, .y = 1, .scale = 2 },
	{ 0 },
};

static int make_number(const struct fake_event *event) {
	uint32_t pixels[16];
	for (int i = 0; i < 16; i++) {
		pixels[i] = make_pixel(event->values[1]);
	}
	return fake_memfd_with(pixels, sizeof(pixels));
}

static void send_number(struct fake_session *session) {
	bool second = strcmp(session->output->name, "FAKE-2") == 0;
	fake_say(session, SAY(EVENT(DEPTH, 1), VIEW(.width = 4, .height = second ? 4 : 2),
		PLANE_OF(make_number, .values = { 0, second ? 2 : 1 },
			.view = { .width = 4, .height = second ? 4 : 2, .stride = 16 }), EVENT(VIEW_DONE, 0),
		EVENT(TRANSFORM, 0), EVENT(FRAME, 0, 1, 0, 1, 0, 0, 0, 0, 0)));
}

#define LAYOUT { SCRIPT(.outputs = layout_outputs, .start = send_number) }
/** The names of the pixels; 0 for black. */
TEST_PARAMS(fixture, regions, const char *region, *scale; unsigned width, height;
		const char *names) = {
	{ "all", LAYOUT, NULL, NULL, 12, 6,
		"111111110000" "111111110000" "111111112222" "111111112222" "000000002222" "000000002222" },
	{ "all, scaled", LAYOUT, NULL, "1", 6, 3, "111100" "111122" "000022" },
	{ "one alone", LAYOUT, "-4,0 2x1", NULL, 2, 1, "11" },
	{ "both", LAYOUT, "-1,0 2x2", NULL, 4, 4, "1100" "1100" "1122" "1122" },
	{ "nothing below", LAYOUT, "-4,1 1x2", NULL, 1, 2, "10" },
	{ "beyond all sides", LAYOUT, "-5,-1 7x5", "1", 7, 5,
		"0000000" "0111100" "0111122" "0000022" "0000000" },
};

static void check_names(const char *path, unsigned width, unsigned height, const char *names) {
	char bytes[4096], header[32];
	int len = snprintf(header, sizeof(header), "P6\n%u %u\n255\n", width, height);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check_int(read(fd, bytes, sizeof(bytes)), ==, len + (ssize_t)(3 * width * height));
	close(fd);
	check(memcmp(bytes, header, (size_t)len) == 0);
	for (size_t i = 0; i < width * height; i++) {
		check_int((unsigned char)bytes[(size_t)len + 3 * i], ==, (names[i] - '0') << 4);
	}
}

TEST_WITH_EACH(fixture, regions, part_of_the_layout) {
	const char *region = param->region != NULL ? param->region : "";
	const char *option = param->region != NULL ? "-g" : "-a";
	const char *args[16] = { "vitrine", "shot", "x.ppm", option };
	size_t n = 4;
	if (param->region != NULL) {
		args[n++] = region;
	}
	if (param->scale != NULL) {
		args[n++] = "-s";
		args[n++] = param->scale;
	}
	check_str(works(f, args)->err, "");
	check_names("x.ppm", param->width, param->height, param->names);
}

TEST_WITH(fixture, region_without_an_output,
		SCRIPT(.outputs = layout_outputs, .start = send_number)) {
	works(f, ARGS("shot", "-g", "0,1 1x1", "x.png"));
	fails(f, 1, "no output in the region", ARGS("shot", "-g", "0,0 1x1", "y.png"));
	fails(f, 1, "pixels; there can be up to", ARGS("shot", "-g", "0,0 99999x2", "y.png"));
	fails(f, 1, "pixels; there can be up to",
		ARGS("shot", "-g", "-99999999,-99999999 999999999x999999999", "-s", "1e9", "y.png"));
	fails(f, 1, "pixels; there can be up to", ARGS("shot", "-a", "-s", "0.001", "y.png"));
}

static const struct fake_output wide_outputs[] = { { .name = "FAKE-1", .width = 9000, .height = 2 },
	{ 0 } };

/** The last four pixels have another name. */
static int make_wide(const struct fake_event *event) {
	static uint32_t pixels[2 * 40000];
	uint32_t width = event->view.width;
	for (uint32_t i = 0; i < width * event->view.height; i++) {
		pixels[i] = make_pixel(i % width + 4 < width ? 1 : 3);
	}
	return fake_memfd_with(pixels, (size_t)event->view.stride * event->view.height);
}

static void send_wide(struct fake_session *session) {
	uint32_t width = session->width, height = session->height;
	fake_say(session, SAY(EVENT(DEPTH, 1), VIEW(.width = width, .height = height),
		PLANE_OF(make_wide, .view = { .width = width, .height = height, .stride = 4 * width }),
		EVENT(VIEW_DONE, 0), EVENT(TRANSFORM, 0), EVENT(FRAME, 0, 1, 0, 1, 0, 0, 0, 0, 0)));
}

TEST_WITH(fixture, far_end_of_a_wide_output_is_enlarged,
		SCRIPT(.outputs = wide_outputs, .start = send_wide)) {
	works(f, ARGS("shot", "-g", "8999,0 1x1", "-s", "5", "x.ppm"));
	check_names("x.ppm", 5, 5, "33333" "33333" "33333" "33333" "33333");
	works(f, ARGS("shot", "-g", "8990,0 2x1", "-s", "2", "x.ppm"));
	check_names("x.ppm", 4, 2, "1111" "1111");
}

TEST_WITH(fixture, picture_that_is_too_large_to_be_scaled,
		SCRIPT(.width = 40000, .height = 2, .start = send_wide)) {
	works(f, ARGS("shot", "x.ppm"));
	fails(f, 1, "of 40000 x 2 pixels cannot be scaled", ARGS("shot", "-s", "0.5", "y.ppm"));
}

/* Comparing, and waiting */

/** The picture of 3 by 2, with the red of its last pixel so much darker. */
static void write_golden(const char *path, unsigned darker) {
	unsigned char pixels[6 * 3];
	for (unsigned i = 0; i < 6; i++) {
		pixels[3 * i] = (unsigned char)((make_pixel(i + 1) >> 16) - (i == 5 ? darker : 0));
		pixels[3 * i + 1] = 0xff;
		pixels[3 * i + 2] = 0;
	}
	png_image image = { .version = PNG_IMAGE_VERSION, .width = 3, .height = 2,
		.format = PNG_FORMAT_RGB };
	check(png_image_write_to_file(&image, path, 0, pixels, 0, NULL));
}

TEST_WITH(fixture, picture_is_compared, .script = &picture) {
	write_golden("same.png", 0);
	write_golden("other.png", 5);
	check_one_line(works(f, ARGS("shot", "--compare", "same.png", "--diff", "diff.png")),
		"0 of 6 pixels differ");
	check_int(count_files(), ==, 2);
	fails(f, 3, "1 of 6 pixels differ from \"other.png\" by more than 0, and by 5 of 255 at most",
		ARGS("shot", "--compare", "other.png"));
	fails(f, 3, "1 of 6", ARGS("shot", "--compare", "other.png", "--tolerance", "4"));
	works(f, ARGS("shot", "--compare", "other.png", "--tolerance", "5"));
	fails(f, 3, "1 of 6", ARGS("shot", "--compare", "other.png", "--fuzz", "16.6"));
	works(f, ARGS("shot", "--compare", "other.png", "--fuzz", "16.7"));
	fails(f, 2, "of --compare", ARGS("shot", "--tolerance", "5", "x.png"));
	fails(f, 1, "cannot read \"none.png\"", ARGS("shot", "--compare", "none.png"));
}

TEST_WITH(fixture, picture_is_written_where_there_is_no_golden_one, .script = &picture) {
	struct run *run = run_to_end(f, ARGS("shot", "--compare", "golden.png", "--diff", "d.png",
		"shot.png"));
	check_int(run->status, ==, 1);
	check(strstr(run->err, "cannot read \"golden.png\"") != NULL);
	check_int(count_files(), ==, 1);
	check(rename("shot.png", "golden.png") == 0);
	works(f, ARGS("shot", "--compare", "golden.png"));
	// It is read before it is written
	write_golden("golden.png", 5);
	check_int(run_to_end(f, ARGS("shot", "--compare", "golden.png", "golden.png"))->status, ==, 3);
	works(f, ARGS("shot", "--compare", "golden.png"));
}

TEST_WITH(fixture, difference_is_shown, .script = &picture) {
	write_golden("other.png", 5);
	struct run *run = run_to_end(f, ARGS("shot", "--compare", "other.png", "--diff", "d.png",
		"x.ppm"));
	check_int(run->status, ==, 3);
	check_begins("x.ppm", PPM_MAGIC, 11);
	png_image image = { .version = PNG_IMAGE_VERSION };
	unsigned char pixels[6 * 3];
	check(png_image_begin_read_from_file(&image, "d.png"));
	check_int(image.width * image.height, ==, 6);
	image.format = PNG_FORMAT_RGB;
	check(png_image_finish_read(&image, NULL, pixels, 0, NULL));
	check(memcmp(pixels + 15, "\xff\0\0", 3) == 0);
	for (size_t i = 0; i < 15; i += 3) {
		check_int(pixels[i], ==, pixels[i + 1]);
		check_int(pixels[i], ==, pixels[i + 2]);
	}
}

TEST_WITH(fixture, golden_picture_is_not_replaced_by_the_difference, .script = &picture) {
	write_golden("golden.png", 5);
	check(symlink("golden.png", "link.png") == 0);
	struct run *run = run_to_end(f, ARGS("shot", "--compare", "golden.png", "--diff", "d.png"));
	check_int(run->status, ==, 3);
	fails(f, 2, "replace the picture",
		ARGS("shot", "--compare", "golden.png", "--diff", "link.png"));
}

TEST_WITH(fixture, size_is_compared, .script = &fake_animation) {
	write_golden("golden.png", 0);
	fails(f, 3, "320 x 200 pixels, and \"golden.png\" 3 x 2",
		ARGS("shot", "--compare", "golden.png", "--fuzz", "100"));
}

static void move_twice_and_stop(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 2), ANNOUNCE(0), ANNOUNCE(1), EVENT(DAMAGE, 0, 0, 1, 1),
		FRAME(0), EVENT(DAMAGE, 0, 0, 1, 1), FRAME(1)));
}

TEST_WITH(fixture, still_picture_is_waited_for, SCRIPT(.start = move_twice_and_stop)) {
	works(f, ARGS("shot", "--when-still", "100", "x.png"));
	works(f, ARGS("shot", "-a", "--when-still", "100", "y.png"));
	works(f, ARGS("wait", "--still", "100"));
	works(f, ARGS("wait", "--frames", "1"));
	fails(f, 1, "of 9 frames came within 0.5 s",
		ARGS("wait", "-o", "FAKE-1", "--frames", "9", "--timeout", "0.5"));
}

TEST_WITH(fixture, picture_that_is_never_still, .script = &fake_animation) {
	works(f, ARGS("shot", "--when-still", "1", "x.png"));
	fails(f, 4, "never stood still for 500 ms within 1 s",
		ARGS("shot", "--when-still", "500", "--timeout", "1", "y.png"));
	fails(f, 4, "never stood still",
		ARGS("shot", "-a", "--when-still", "500", "--timeout", "1", "y.png"));
	fails(f, 4, "never stood still", ARGS("wait", "--still", "500", "--timeout", "1"));
	works(f, ARGS("wait", "--frames", "5"));
}

static void stop_timer(struct fake_session *session) {
	if (session->implicit_release) {
		wl_event_source_remove(picture_timer);
	}
}

#define HUGE .width = 8192, .height = 4096, .stride = 32768

static int make_huge_memory(const struct fake_event *event) {
	return fake_memfd(32768 * 4096, FAKE_SEALS, O_RDONLY);
}

static int n_movements;

static int move_on(void *data) {
	struct fake_session *session = data;
	if (session->resource != NULL && n_movements-- > 0) {
		fake_say(session, SAY(EVENT(DAMAGE, 0, 0, 1, 1), FRAME(0), EVENT(DAMAGE, 0, 0, 1, 1),
			FRAME(0), EVENT(DAMAGE, 0, 0, 1, 1), FRAME(0)));
		wl_event_source_timer_update(picture_timer, 10);
	}
	return 0;
}

/** One that takes long to be copied, and moves right after it has stood still for 50 ms. */
static void send_picture_that_moves_on(struct fake_session *session) {
	if (!session->implicit_release) {
		send_picture(session);
		return;
	}
	fake_say(session, SAY(EVENT(DEPTH, 2), VIEW(HUGE),
		PLANE_OF(make_huge_memory, .view = { HUGE }), EVENT(VIEW_DONE, 0), FRAME(0)));
	struct wl_display *display =
		wl_client_get_display(wl_resource_get_client(session->resource));
	picture_timer = wl_event_loop_add_timer(wl_display_get_event_loop(display), move_on, session);
	n_movements = 20;
	wl_event_source_timer_update(picture_timer, 60);
}

static const struct fake_output huge_outputs[] = {
	{ .name = "FAKE-1", .width = 8192, .height = 4096 }, { 0 },
};

TEST_WITH(fixture, still_picture_that_moves_while_it_is_copied_has_to_stand_still_again,
		SCRIPT(.outputs = huge_outputs, .start = send_picture_that_moves_on,
		.stop = stop_timer)) {
	harness_set_timeout(120);
	for (int i = 0; i < 4; i++) {
		works(f, ARGS("shot", i % 2 == 0 ? "-oFAKE-1" : "-a", "--when-still", "50", "--timeout", "60",
			"x.png"));
		png_image image = { .version = PNG_IMAGE_VERSION };
		check(png_image_begin_read_from_file(&image, "x.png"));
		check_int(image.width, ==, 8192);
		png_image_free(&image);
	}
}

static void open_foot(struct fake *fake) {
	static const struct fake_window foot = { "id-9", "foot", "vim", 0, 0 };
	fake_open_window(fake, &foot);
}

static const struct fake_window others[] = { { "id-1", "mpv", "a film" }, { 0 } };
TEST_PARAMS(fixture, waits, const char *const *args) = {
	{ "wait", .args = ARGS("wait", "-w", "foot", "--timeout", "30") },
	{ "wait for stillness", .args = ARGS("wait", "-w", "foot", "--still", "50", "--timeout", "30") },
	{ "shot", .args = ARGS("shot", "-w", "foot", "--wait", "--timeout", "30", "x.png") },
	{ "still shot",
		.args = ARGS("shot", "-w", "foot", "--when-still", "50", "--timeout", "30", "x.png") },
};

static const struct fake_script appearing = {
	.windows = others, .steps = { open_foot },
	.events = (const struct fake_event[]){ EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0), { 0 } },
};

TEST_WITH_EACH(fixture, waits, window_is_waited_for) {
	f->script = &appearing;
	struct process process = start(f, -1, param->args);
	fake_step(process.compositor);
	check_int(finish(&process)->status, ==, 0);
}

TEST_WITH(fixture, pictures_that_are_taken_together_have_their_own_names, .script = &appearing) {
	enum { N = 6 };
	struct process processes[N];
	char path[300];
	check(mkdir("env", 0700) == 0 && getcwd(path, sizeof(path) - 4) != NULL);
	strcat(path, "/env");
	setenv("XDG_PICTURES_DIR", path, 1);
	for (int i = 0; i < N; i++) {
		processes[i] = start(f, -1, ARGS("shot", "-w", "foot", "--wait", "--timeout", "30"));
	}
	for (int i = 0; i < N; i++) {
		fake_step(processes[i].compositor);
	}
	for (int i = 0; i < N; i++) {
		struct run *run = finish(&processes[i]);
		check_int(run->status, ==, 0);
		*strchr(run->out, '\n') = '\0';
		check_begins(run->out, PNG_MAGIC, 4);
	}
	check(chdir(path) == 0);
	check_int(count_files(), ==, N);
}

TEST_WITH(fixture, window_that_does_not_appear, .script = &appearing) {
	works(f, ARGS("wait", "-w", "mpv"));
	fails(f, 5, "no such window", ARGS("wait", "-w", "foot", "--timeout", "0.5"));
	fails(f, 5, "no such window", ARGS("shot", "-w", "foot", "--wait", "--timeout", "0.5", "x.png"));
	fails(f, 5, "no such window",
		ARGS("shot", "-w", "foot", "--when-still", "9", "--timeout", "0.5", "x.png"));
}

/** Of what is read until the other side is closed, no line is longer than that. */
static void check_lines(int master, size_t columns) {
	static char text[65536];
	size_t len = 0;
	ssize_t n;
	while ((n = read(master, text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
	}
	text[len] = '\0';
	int n_lines = 0;
	for (char *line = strchr(text, '\r'); line != NULL; line = strchr(line + 1, '\r')) {
		size_t width = strcspn(line + 1, "\033\r\n");
		check_int(width, <, columns);
		n_lines += width == columns - 1;
	}
	check_int(n_lines, >, 0);
}

TEST_WITH(fixture, watch_fits_the_terminal, .script = &fake_animation) {
	const struct winsize size = { .ws_row = 24, .ws_col = 40 };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	check(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	check(terminal >= 0 && ioctl(terminal, TIOCSWINSZ, &size) == 0);
	struct process process = start(f, terminal, ARGS("watch", "--frames", "30"));
	check_int(finish(&process)->status, ==, 0);
	check_lines(master, 40);
	close(master);
}

TEST_WITH(fixture, unknown_refresh_rate_is_said, SCRIPT(.no_refresh = true,
		.events = SAY(EVENT(DEPTH, 1), ANNOUNCE(0), FRAME(0)))) {
	check_has(works(f, ARGS("info"))->out, "FAKE-1: 64x32 at an unknown rate");
	check_has(works(f, ARGS("info", "--json"))->out, "\"refresh_mhz\": null");
}

TEST_WITH(fixture, audit_of_a_window_names_it, SCRIPT(WINDOWS)) {
	struct run *run = run_to_end(f, ARGS("audit", "--no-machine", "--json", "--seconds", "0",
		"-w", "id-1"));
	check_has(run->out, "\"output\": null", "\"window\": \"mpv\"");
}

TEST_WITH(fixture, watch_misses_frames, .script = &picture) {
	works(f, ARGS("watch", "--frames", "1", "--seconds", "30"));
	struct run *run = run_to_end(f, ARGS("watch", "--frames", "9", "--seconds", "0.5"));
	check_int(run->status, ==, 1);
	check_one_line(run, "1 of 9 frames came in 0.5 s");
}

static int send_late_frame(void *data) {
	struct fake_session *session = data;
	if (session->resource != NULL) {
		fake_say(session, SAY(FRAME(0)));
	}
	return 0;
}

static void send_frame_and_late_one(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0)));
	struct wl_display *display =
		wl_client_get_display(wl_resource_get_client(session->resource));
	picture_timer = wl_event_loop_add_timer(wl_display_get_event_loop(display), send_late_frame,
		session);
	wl_event_source_timer_update(picture_timer, 300);
}

TEST_WITH(fixture, frame_that_comes_after_the_end_is_missed,
		SCRIPT(.start = send_frame_and_late_one, .stop = stop_timer)) {
	works(f, ARGS("watch", "--frames", "2", "--seconds", "30"));
	fails(f, 1, "of 2 frames came in 0.1 s", ARGS("watch", "--frames", "2", "--seconds", "0.1",
		"--json"));
}

/** What wlr_box_transform() makes of 123/456, by wl_output.transform */
TEST_PARAMS(fixture, transforms, unsigned transform, width, height; const char *pixels) = {
	{ "normal", { &picture }, 0, 3, 2, "123456" },
	{ "90", { &picture }, 1, 2, 3, "415263" },
	{ "180", { &picture }, 2, 3, 2, "654321" },
	{ "270", { &picture }, 3, 2, 3, "362514" },
	{ "flipped", { &picture }, 4, 3, 2, "321654" },
	{ "flipped 90", { &picture }, 5, 2, 3, "142536" },
	{ "flipped 180", { &picture }, 6, 3, 2, "456123" },
	{ "flipped 270", { &picture }, 7, 2, 3, "635241" },
};

TEST_WITH_EACH(fixture, transforms, shot_is_upright) {
	picture_transform = param->transform;
	works(f, ARGS("shot", "x.png"));
	check_picture("x.png", param->width, param->height, param->pixels);
	check_int(count_files(), ==, 1);
}

/** The luma of a pixel of limited range BT.601. */
static int get_luma(uint32_t pixel) {
	double red = pixel >> 16 & 0xff, green = pixel >> 8 & 0xff, blue = pixel & 0xff;
	return (int)(16.5 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255);
}

TEST_WITH_EACH(fixture, transforms, record_is_upright) {
	picture_transform = param->transform;
	works(f, ARGS("record", "--frames", "1", "x.y4m"));
	FILE *file = fopen("x.y4m", "r");
	check(file != NULL);
	char header[256];
	unsigned char frame[6 + 6 + 4];
	check(fgets(header, sizeof(header), file) != NULL);
	check_int(fread(frame, 1, sizeof(frame), file), ==, sizeof(frame));
	fclose(file);
	for (int i = 0; i < 6; i++) {
		check_int(abs(frame[6 + i] - get_luma(make_pixel((unsigned)(param->pixels[i] - '0')))), <=, 1);
	}
}

#define LARGE .width = 2048, .height = 1024, .stride = 8192

static int make_large_memory(const struct fake_event *event) {
	return fake_memfd(8192 * 1024, FAKE_SEALS, O_RDONLY);
}

static int send_three_frames(void *data) {
	struct fake_session *session = data;
	if (session->resource != NULL) {
		fake_say(session, SAY(FRAME(0), FRAME(0), FRAME(0)));
		wl_event_source_timer_update(picture_timer, 1);
	}
	return 0;
}

/** With implicit release, another picture: large, and followed by others all the time. */
static void send_fast_picture(struct fake_session *session) {
	if (!session->implicit_release) {
		send_picture(session);
		return;
	}
	fake_say(session, SAY(EVENT(DEPTH, 2), VIEW(LARGE),
		PLANE_OF(make_large_memory, .view = { LARGE }), EVENT(VIEW_DONE, 0)));
	struct wl_display *display =
		wl_client_get_display(wl_resource_get_client(session->resource));
	picture_timer = wl_event_loop_add_timer(wl_display_get_event_loop(display),
		send_three_frames, session);
	send_three_frames(session);
}

TEST_WITH(fixture, shot_holds_a_picture_that_moves_too_fast,
		SCRIPT(.start = send_fast_picture, .stop = stop_timer)) {
	harness_set_timeout(60);
	picture_transform = 0;
	unsigned width = 2048;
	// The compositor may be late for once, and the copy whole
	while (width != 3) {
		works(f, ARGS("shot", "x.png"));
		png_image image = { .version = PNG_IMAGE_VERSION };
		check(png_image_begin_read_from_file(&image, "x.png"));
		width = image.width;
		check(width == 3 || width == 2048);
		png_image_free(&image);
	}
	check_picture("x.png", 3, 2, "123456");
}

TEST_WITH(fixture, shot_is_content_with_frames_that_come_later,
		SCRIPT(.start = send_picture_and_one_more)) {
	picture_transform = 0;
	works(f, ARGS("shot", "x.png"));
	check_picture("x.png", 3, 2, "123456");
}

/* Storages */

static void check_storages(struct fake_session *session) {
	// Those that are not here are another reason, 0
	static const uint32_t reasons[VITRINE_STORAGE_ALL + 1] = {
		[VITRINE_STORAGE_MEMFD] = XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_DENIED,
		[VITRINE_STORAGE_MAPPED_DMABUF] = XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_LOCKED,
		[VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_DMABUF] =
			XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_LOCKED,
	};
	check_int(session->storages, <=, VITRINE_STORAGE_ALL);
	xx_dmabuf_view_session_v1_send_stopped(session->resource, reasons[session->storages]);
}

TEST_WITH(fixture, storages_are_asked_for, SCRIPT(.start = check_storages)) {
	if (access("/dev/dri/renderD128", F_OK) != 0) {
		fails(f, 1, "without a format", ARGS("watch", "--storage", "memfd,dmabuf"));
	} else {
		fails(f, 1, "locked", ARGS("watch", "--storage", "memfd,dmabuf"));
	}
	fails(f, 1, "denies", ARGS("watch", "--storage", "memfd"));
	fails(f, 1, "locked", ARGS("watch", "--storage", "mapped-dmabuf"));
}

TEST_WITH(fixture, what_reads_pixels_takes_no_dmabuf_for_devices, .script = &picture) {
	fails(f, 2, "reads pixels by the CPU", ARGS("shot", "--storage", "dmabuf", "x.png"));
	fails(f, 2, "reads pixels by the CPU", ARGS("record", "--storage", "memfd,dmabuf", "x.y4m"));
	check_int(count_files(), ==, 0);
	works(f, ARGS("shot", "--storage", "memfd", "x.png"));
}

TEST_WITH(fixture, shot_to_standard_output, .script = &fake_animation) {
	struct run *run = works(f, ARGS("shot", "-"));
	check(memcmp(run->out, "\x89PNG", 4) == 0);
	check_int(count_files(), ==, 0);
}

static void write_file(const char *path, const char *text) {
	FILE *file = fopen(path, "w");
	check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST_WITH(fixture, links_are_followed_and_devices_kept, .script = &fake_animation) {
	write_file("target", "old");
	check(symlink("target", "link") == 0);
	works(f, ARGS("shot", "link"));
	struct stat st;
	check(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	check(get_size("target") > 3);
	check_int(count_files(), ==, 2);
	works(f, ARGS("shot", "/dev/null"));
	check(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
	fails(f, 1, "No space left", ARGS("shot", "/dev/full"));
	fails(f, 1, "nowhere/x.png", ARGS("shot", "nowhere/x.png"));
	fails(f, 1, "directory", ARGS("shot", "."));
}

/* Recordings */

#define FRAME_SIZE (6 + 320 * 200 * 3 / 2)

/** What a y4m file of this size and rate, in mHz, begins with. */
static const char *make_header(unsigned width, unsigned height, unsigned rate) {
	static char header[160];
	snprintf(header, sizeof(header), "YUV4MPEG2 W%u H%u F%u:1000 Ip A1:1 C420jpeg "
		"XCOLORRANGE=LIMITED\n", width, height, rate);
	return header;
}

/** Reads the header, which has to be this. */
static void check_header(FILE *file, unsigned width, unsigned height, unsigned rate) {
	char header[256];
	check(fgets(header, sizeof(header), file) != NULL);
	check_str(header, make_header(width, height, rate));
}

/** Reads whole frames to the end. Returns how many there were. */
static int read_frames(FILE *file, size_t size) {
	char *frame = malloc(size);
	int n = 0;
	size_t len;
	check(frame != NULL);
	while ((len = fread(frame, 1, size, file)) > 0) {
		check_int(len, ==, size);
		check(memcmp(frame, "FRAME\n", 6) == 0);
		n++;
	}
	free(frame);
	return n;
}

/** Checks that the file is whole frames, and returns their number. */
static int count_frames_of(const char *path, unsigned width, unsigned height, unsigned rate) {
	FILE *file = fopen(path, "r");
	check(file != NULL);
	check_header(file, width, height, rate);
	size_t chroma = (size_t)((width + 1) / 2) * ((height + 1) / 2);
	int n = read_frames(file, 6 + (size_t)width * height + 2 * chroma);
	fclose(file);
	return n;
}

static int count_frames(const char *path) {
	return count_frames_of(path, 320, 200, 60000);
}

#define LOSSES "vitrine: frames that are not in the recording: "

/** Nothing is said, but for what a busy machine makes it lose. */
static void check_quiet(const struct run *run) {
	const char *newline = strchr(run->err, '\n');
	check(run->err[0] == '\0' || (strncmp(run->err, LOSSES, strlen(LOSSES)) == 0 &&
		newline != NULL && newline[1] == '\0'));
}

/** How much longer than its `--seconds` a recording may take: sanitizers start slowly. */
#ifdef __SANITIZE_ADDRESS__
#define SLACK 5
#else
#define SLACK 1
#endif

static double get_time(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

TEST_WITH(fixture, record_frames, .script = &fake_animation) {
	check_quiet(works(f, ARGS("record", "--frames", "10", "x.y4m")));
	check_int(count_frames("x.y4m"), ==, 10);
	check_int(count_files(), ==, 1);
}

TEST_WITH(fixture, record_every_change, .script = &fake_animation) {
	check_quiet(works(f, ARGS("record", "--every-change", "--frames", "10", "x.y4m")));
	check_int(count_frames("x.y4m"), ==, 10);
}

TEST_WITH(fixture, record_raw, .script = &fake_animation) {
	struct run *run = works(f, ARGS("record", "--frames", "3", "--type", "raw", "x"));
	check_has(run->err, "320x200, XR24, 256000 bytes each, transform normal\n");
	check_int(get_size("x"), ==, 3 * 320 * 200 * 4);
}

TEST_WITH(fixture, record_raw_at_a_rate, .script = &fake_animation) {
	works(f, ARGS("record", "--rate", "20", "--seconds", "0.5", "x.raw"));
	check_int(get_size("x.raw"), ==, 10 * 320 * 200 * 4);
}

TEST_WITH(fixture, record_raw_removes_padding, .script = &picture) {
	works(f, ARGS("record", "--frames", "1", "-t", "raw", "x"));
	check_int(get_size("x"), ==, 3 * 2 * 4);
}

static const struct fake_script turned = { .events = SAY(EVENT(DEPTH, 3), ANNOUNCE(0), FRAME(0),
	EVENT(TRANSFORM, 1), EVENT(FRAME, 0, 2, 0, 1, 0, 0, 0, 0, 0)) };

TEST_WITH(fixture, record_raw_ends_when_the_output_is_turned, .script = &turned) {
	struct run *run = works(f, ARGS("record", "x.raw"));
	check_has(run->err, "transform normal\n", "transform of the picture has changed", "after 1 frame");
	check_int(get_size("x.raw"), ==, FAKE_SIZE);
	picture_transform = 5;
	f->script = &picture;
	check_has(works(f, ARGS("record", "--frames", "1", "x.raw"))->err, "transform flipped-90\n");
}

TEST_WITH(fixture, record_with_a_constant_rate, .script = &fake_animation) {
	double began = get_time();
	check_quiet(works(f, ARGS("record", "--seconds", "1", "x.y4m")));
	check(get_time() - began < 1 + SLACK);
	int n = count_frames("x.y4m");
	check_int(n, >=, 58);
	check_int(n, <=, 60);
	works(f, ARGS("record", "--cfr", "--seconds", "0.2", "y.y4m")); // as it was called before
	check_int(count_frames("y.y4m"), <=, 12);
}

TEST_WITH(fixture, record_with_another_rate, .script = &fake_animation) {
	check_quiet(works(f, ARGS("record", "--rate", "10", "--seconds", "1", "x.y4m")));
	check_int(count_frames_of("x.y4m", 320, 200, 10000), ==, 10);
	works(f, ARGS("record", "--rate", "120", "--seconds", "0.5", "y.y4m"));
	int n = count_frames_of("y.y4m", 320, 200, 120000);
	check_int(n, >=, 58);
	check_int(n, <=, 60);
}

TEST_WITH(fixture, record_without_a_known_rate) {
	struct fake_script script = fake_animation;
	script.no_refresh = true;
	f->script = &script;
	check_has(works(f, ARGS("record", "--frames", "2", "x.y4m"))->err,
		"does not say how often", "60 frames a second, --rate chooses\n");
	check_int(count_frames("x.y4m"), ==, 2);
	check_quiet(works(f, ARGS("record", "--rate", "60", "--frames", "2", "x.y4m")));
	check(strstr(works(f, ARGS("record", "--frames", "2", "x.raw"))->err, "--rate") == NULL);
}

static int frame_age; // in seconds

static void send_old_frame(struct fake_session *session) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	// Nothing is older than the machine
	uint64_t time = now.tv_sec > frame_age ? (uint64_t)(now.tv_sec - frame_age) : 0;
	fake_say(session, SAY(EVENT(DEPTH, 1), ANNOUNCE(0), EVENT(TRANSFORM, 0), EVENT(FRAME, 0, 1,
		(uint32_t)(time >> 32), (uint32_t)time, (uint32_t)now.tv_nsec, 0, 0, 64, 32)));
}

static const struct fake_script still = { .start = send_old_frame };

TEST_PARAMS(fixture, ages, int seconds) = {
	{ "of now", { &still }, 0 },
	{ "a minute old", { &still }, 60 },
	{ "an hour old", { &still }, 3600 },
	{ "of the future", { &still }, -3600 },
};

TEST_WITH_EACH(fixture, ages, record_of_a_still_screen_is_as_long_as_it_took) {
	frame_age = param->seconds;
	double began = get_time();
	check_quiet(works(f, ARGS("record", "--seconds", "2", "x.y4m")));
	check(get_time() - began < 2 + SLACK);
	int n = count_frames_of("x.y4m", FAKE_WIDTH, FAKE_HEIGHT, 60000);
	check_int(n, >=, 118);
	check_int(n, <=, 120);
	began = get_time();
	works(f, ARGS("record", "--frames", "60", "x.y4m"));
	check(get_time() - began >= 0.9);
	check_int(count_frames_of("x.y4m", FAKE_WIDTH, FAKE_HEIGHT, 60000), ==, 60);
	works(f, ARGS("record", "--every-change", "--seconds", "0.2", "x.y4m"));
	check_int(count_frames_of("x.y4m", FAKE_WIDTH, FAKE_HEIGHT, 60000), ==, 1);
}

/** Reads frames in a process of its own, with so many milliseconds before each. Ends with their number. */
static pid_t start_reader(const int fds[2], int milliseconds) {
	pid_t pid = fork();
	check(pid >= 0);
	if (pid > 0) {
		close(fds[0]);
		return pid;
	}
	close(fds[1]);
	static char frame[FRAME_SIZE];
	FILE *file = fdopen(fds[0], "r");
	int n = 0;
	check_header(file, 320, 200, 60000);
	do {
		// It is what a slow reader does
		usleep((useconds_t)milliseconds * 1000);
	} while (fread(frame, 1, sizeof(frame), file) == sizeof(frame) && ++n < 255);
	_exit(n);
}

TEST_PARAMS(fixture, paces, const char *option) = {
	{ "constant rate", { &fake_animation }, "--cfr" },
	{ "every change", { &fake_animation }, "--every-change" },
};

TEST_WITH_EACH(fixture, paces, record_keeps_time_with_a_slow_reader) {
	int fds[2], status;
	check(pipe2(fds, O_CLOEXEC) == 0);
	double began = get_time();
	struct process process = start(f, fds[1],
		ARGS("record", param->option, "--seconds", "2", "-"));
	pid_t reader = start_reader(fds, 100);
	close(fds[1]);
	process.out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct run *run = finish(&process);
	check(get_time() - began < 2 + SLACK);
	check_int(run->status, ==, 0);
	check_one_line(run, "written");
	check(waitpid(reader, &status, 0) == reader && WIFEXITED(status));
	check_int(WEXITSTATUS(status), >=, 10);
	check_int(WEXITSTATUS(status), <=, 60);
}

TEST_WITH(fixture, record_ends_in_time_without_a_reader, .script = &fake_animation) {
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	double began = get_time();
	struct process process = start(f, fds[1], ARGS("record", "--seconds", "1", "-"));
	process.out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(fds[1]);
	struct run *run = finish(&process);
	check(get_time() - began < 1 + SLACK);
	check_int(run->status, ==, 1);
	check_has(run->err, LOSSES, "the last frame is not whole\n");
	close(fds[0]);
}

/** Waits until a pipe takes no more. */
static void wait_until_full(int fd) {
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
	while (poll(&pollfd, 1, 0) > 0) {
		usleep(1000); // a full pipe is no event
	}
}

TEST_WITH(fixture, record_gives_up_at_the_second_signal, .script = &fake_animation) {
	int fds[2], status = 0;
	check(pipe2(fds, O_CLOEXEC) == 0);
	struct process process = start(f, fds[1], ARGS("record", "-"));
	wait_until_full(fds[1]);
	kill(process.pid, SIGINT);
	check(waitpid(process.pid, &status, WNOHANG) == 0);
	siginfo_t info = {0};
	// The first one may not have been handled: two that wait are one
	while (info.si_pid == 0) {
		check_ok(kill(process.pid, SIGINT));
		usleep(10000);
		check_ok(waitid(P_PID, (id_t)process.pid, &info, WEXITED | WNOHANG | WNOWAIT));
	}
	struct run *run = finish(&process);
	check_int(run->status, ==, 1);
	check_has(run->err, "the last frame is not whole\n");
	close(fds[0]);
}

/** Skips the test in builds that do not encode. */
static void need_encoder(struct fixture *f) {
#ifdef __SANITIZE_THREAD__
	harness_skip("the encoders of the system are not built for ThreadSanitizer");
#endif
	const struct fake_script *script = f->script;
	f->script = NULL;
	if (strstr(run_to_end(f, ARGS("record", "x.mkv"))->err, "cannot encode") != NULL) {
		harness_skip("built without libavcodec");
	}
	f->script = script;
}

TEST_PARAMS(fixture, encoded_types, const char *magic; long offset) = {
	{ "x.mkv", { &fake_animation }, "\x1a\x45\xdf\xa3", 0 },
	{ "x.mp4", { &fake_animation }, "ftyp", 4 },
	{ "x.webm", { &fake_animation }, "\x1a\x45\xdf\xa3", 0 },
};

static void check_magic(const char *path, const char *magic, long offset) {
	char bytes[5] = "";
	FILE *file = fopen(path, "r");
	check(file != NULL && fseek(file, offset, SEEK_SET) == 0);
	check_int(fread(bytes, 1, 4, file), ==, 4);
	fclose(file);
	check_str(bytes, magic);
}

/** Checks that a run printed the name of a file in this directory, and returns it. */
static const char *check_own_name(struct run *run, const char *ending) {
	char here[PATH_MAX];
	check(getcwd(here, sizeof(here)) != NULL);
	size_t len = strlen(run->out);
	check(len > strlen(ending) + 1 && run->out[len - 1] == '\n');
	run->out[len - 1] = '\0';
	check(strncmp(run->out, here, strlen(here)) == 0);
	check_str(run->out + len - 1 - strlen(ending), ending);
	return run->out;
}

TEST_WITH(fixture, record_makes_up_a_name, .script = &fake_animation) {
	setenv("XDG_VIDEOS_DIR", getenv("XDG_RUNTIME_DIR"), 1);
	struct run *run = works(f, ARGS("record", "--frames", "2", "-t", "y4m"));
	check_quiet(run);
	check_int(count_frames(check_own_name(run, ".y4m")), ==, 2);
	need_encoder(f);
	run = works(f, ARGS("record", "--frames", "2"));
	check_magic(check_own_name(run, ".mkv"), "\x1a\x45\xdf\xa3", 0);
	check_int(count_files(), ==, 2);
}

TEST_WITH_EACH(fixture, encoded_types, record_encodes_by_the_ending) {
	need_encoder(f);
	check_quiet(works(f, ARGS("record", "--seconds", "0.5", param->name)));
	check_magic(param->name, param->magic, param->offset);
	check_quiet(works(f, ARGS("record", "--frames", "3", param->name)));
	check_magic(param->name, param->magic, param->offset);
	check_int(count_files(), ==, 1);
}

TEST_WITH_EACH(fixture, encoded_types, full_disk_leaves_no_video) {
	need_encoder(f);
	f->max_file = 1000;
	struct run *run = run_to_end(f, ARGS("record", "--seconds", "0.5", param->name));
	check_int(run->status, ==, 1);
	check_has(run->err, "cannot write", "File too large");
	check_int(count_files(), ==, 0);
}

TEST_WITH_EACH(fixture, encoded_types, record_of_video_to_a_reader_that_goes_away) {
	need_encoder(f);
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	close(fds[0]);
	struct process process = start(f, fds[1],
		ARGS("record", "--seconds", "0.5", "-t", strchr(param->name, '.') + 1, "-"));
	struct run *run = finish(&process);
	check_int(run->status, ==, 0);
	check_quiet(run);
}

TEST_PARAMS(fixture, signals, int number) = {
	{ "SIGINT", { &fake_animation }, SIGINT },
	{ "SIGTERM", { &fake_animation }, SIGTERM },
};

TEST_WITH_EACH(fixture, signals, record_ends_well_on_a_signal) {
	// A pipe tells when there are frames
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	struct process process = start(f, fds[1], ARGS("record", "-"));
	FILE *file = fdopen(fds[0], "r");
	static char frame[FRAME_SIZE];
	check(fgets(frame, sizeof(frame), file) != NULL);
	check_int(fread(frame, 1, sizeof(frame), file), ==, sizeof(frame));
	kill(process.pid, param->number);
	close(fds[1]);
	process.out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t len;
	while ((len = fread(frame, 1, sizeof(frame), file)) > 0) {
		check_int(len, ==, sizeof(frame));
	}
	fclose(file);
	struct run *run = finish(&process);
	check_int(run->status, ==, 0);
	check_quiet(run);
}

static void tell_of_release(struct fake_session *session, uint32_t serial) {
	fake_animation.release(session, serial);
	kill(getppid(), SIGUSR1);
}

/** Returns when the third frame has been given back, and the first is in the file. */
static struct process start_recording_frames(struct fixture *f, const char *path) {
	static struct fake_script script;
	script = fake_animation;
	script.release = tell_of_release;
	f->script = &script;
	sigset_t told;
	sigemptyset(&told);
	sigaddset(&told, SIGUSR1);
	check_ok(sigprocmask(SIG_BLOCK, &told, NULL));
	struct process process = start(f, -1, ARGS("record", path));
	for (int number, i = 0; i < 3; i++) {
		check_ok(sigwait(&told, &number));
	}
	return process;
}

TEST_WITH(fixture, record_to_a_file_appears_when_it_is_complete) {
	write_file("x.y4m", "old");
	struct process process = start_recording_frames(f, "x.y4m");
	check_int(get_size("x.y4m"), ==, 3);
	kill(process.pid, SIGINT);
	check_int(finish(&process)->status, ==, 0);
	check(count_frames("x.y4m") > 0);
	check_int(count_files(), ==, 1);
}

TEST_WITH(fixture, record_that_is_killed_leaves_nothing) {
	struct process process = start_recording_frames(f, "x.y4m");
	kill(process.pid, SIGKILL);
	check_int(finish(&process)->status, ==, 128 + SIGKILL);
	check_int(count_files(), ==, 0);
}

TEST_WITH(fixture, record_to_a_reader_that_goes_away, .script = &fake_animation) {
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	struct process process = start(f, fds[1], ARGS("record", "-"));
	char byte;
	check(read(fds[0], &byte, 1) == 1);
	close(fds[0]);
	struct run *run = finish(&process);
	check_int(run->status, ==, 0);
	check_quiet(run);
}

TEST_PARAMS(fixture, full_disks, size_t room) = {
	{ "shot", { &fake_animation }, 100 },
	{ "record", { &fake_animation }, 100000 },
};

TEST_WITH_EACH(fixture, full_disks, full_disk_leaves_no_file) {
	write_file("x", "old");
	f->max_file = param->room;
	fails(f, 1, "cannot write \"x\"", ARGS(param->name, "x"));
	check_int(get_size("x"), ==, 3);
	check_int(count_files(), ==, 1);
}

TEST_WITH(fixture, full_device_ends_a_recording, .script = &fake_animation) {
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct process process = start(f, full, ARGS("record", "-"));
	struct run *run = finish(&process);
	check_int(run->status, ==, 1);
	check_one_line(run, "No space left");
}

TEST_WITH(fixture, record_ends_at_a_change_of_size,
		SCRIPT(.events = SAY(EVENT(DEPTH, 3), ANNOUNCE(0), FRAME(0), FRAME(0),
			VIEW(.index = 1, .width = 32, .height = 16),
			PLANE(0, .index = 1, .stride = 128), EVENT(VIEW_DONE, 1), FRAME(1)))) {
	struct run *run = works(f, ARGS("record", "--every-change", "x.y4m"));
	check_one_line(run, "after 2 frames");
	check_int(get_size("x.y4m"), >, 2 * FAKE_WIDTH * FAKE_HEIGHT * 3 / 2);
	check_int(get_size("x.y4m"), <, 3 * FAKE_WIDTH * FAKE_HEIGHT * 3 / 2);
}

static void stop_on_second_release(struct fake_session *session, uint32_t serial) {
	if (serial == 2) {
		xx_dmabuf_view_session_v1_send_stopped(session->resource,
			XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_SOURCE_GONE);
	}
}

TEST_WITH(fixture, record_keeps_what_came_before_the_end_of_the_session,
		SCRIPT(.release = stop_on_second_release,
			.events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), FRAME(0)))) {
	struct run *run = run_to_end(f, ARGS("record", "--every-change", "x.y4m"));
	check_int(run->status, ==, 1);
	check_one_line(run, "does not exist any more");
	check_int(get_size("x.y4m"), >, 2 * FAKE_WIDTH * FAKE_HEIGHT * 3 / 2);
}

/* Figures */

TEST_WITH(fixture, watch_reports_at_the_end, .script = &fake_animation) {
	struct run *run = works(f, ARGS("watch", "--frames", "60", "--json"));
	check_has(run->out, "\"frames\": 60", "\"fps\": ", "\"guarantee\": \"sealed\"",
		"\"storage\": \"memfd\"", "\"distinct_buffers\": ", "\"fds_received\": ",
		"\"latency_us_p50\": ", "\"latency_us_p99\": ", "\"skipped\": ",
		"\"revoked\": 0");
	run = works(f, ARGS("watch", "--frames", "10"));
	check_has(run->out, "sealed, memfd");
}

TEST_WITH(fixture, watch_counts_no_age_as_latency, .script = &still) {
	frame_age = 60;
	struct run *run = works(f, ARGS("watch", "--frames", "1", "--json"));
	check_has(run->out, "\"frames\": 1", "\"latency_us_p50\": null", "\"latency_us_p99\": null");
	check_has(works(f, ARGS("watch", "--frames", "1"))->out, "latency -  damage");
}

static void send_off(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 1), EVENT(OFF)));
}

static const struct fake_script dark = { .start = send_off };

TEST_WITH(fixture, watch_says_that_an_output_is_off, .script = &dark) {
	check_has(works(f, ARGS("watch", "--seconds", "1.5"))->out, "waiting, the output is off\n");
}

TEST_WITH(fixture, watch_says_that_a_window_shows_nothing,
		SCRIPT(.windows = windows, .start = send_off)) {
	check_has(works(f, ARGS("watch", "-w", "id-1", "--seconds", "1.5"))->out,
		"waiting, the window shows nothing\n");
}

TEST_WITH(fixture, audit_of_an_honest_compositor, .script = &fake_animation) {
	struct run *run = works(f, ARGS("audit", "--no-machine", "--verbose"));
	check(strstr(run->out, "BROKEN") == NULL);
	check_has(run->out, "\n15  ok");
	run = works(f, ARGS("audit", "--guarantee", "snapshot", "--json"));
	check_has(run->out, "\"broken\": 0", "\"guarantee\": \"snapshot\"",
		"\"output\": \"FAKE-1\"", "\"backend\": \"snapshot\"");
	check(strstr(run->out, "\"backend\": \"sealed\"") == NULL);
}

TEST_WITH(fixture, audit_of_a_compositor_that_draws_into_what_was_retired,
		.script = &fake_animation_that_leaks) {
	struct run *run = fails(f, 1, "broken by 1", ARGS("audit", "--no-machine"));
	check_has(run->out, "\n15  BROKEN", "1 BROKEN\n");
}

TEST_WITH(fixture, audit_without_a_compositor_is_of_the_machine) {
	struct run *run = works(f, ARGS("audit", "--json"));
	check_has(run->err, "no session is audited: cannot connect");
	check_has(run->out,
		"\"session\": null", "\"output\": null", "\"broken\": 0", "\"inconclusive\": 0",
		"\"name\": \"sealed\"", "\"exercised\": true", "\"exporter\": \"memfd\"",
		"\"kernel\": ");
	run = works(f, ARGS("audit", "--no-session"));
	check_has(run->out, "sealed of memfd, sealed in a memfd: ",
		"snapshot of memfd, snapshot in a memfd: ");
	check(strstr(run->err, "cannot connect") == NULL);
}

TEST_PARAMS(fixture, asked_sessions, const char *const *args) = {
	{ "no machine", .args = ARGS("audit", "--no-machine") },
	{ "output", .args = ARGS("audit", "-o", "NOPE") },
	{ "socket", .args = ARGS("audit", "--socket", "nothing-there") },
};

TEST_WITH_EACH(fixture, asked_sessions, audit_of_a_session_that_was_asked_for_needs_a_compositor) {
	check_str(fails(f, 1, "cannot connect", param->args)->out, "");
}
