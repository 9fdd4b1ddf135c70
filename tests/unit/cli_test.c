/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_compositor.h"
#include "harness.h"
#include "xx-dmabuf-view-v1-protocol.h"

/*
 * The vitrine command, which the environment variable VITRINE names, against a
 * fake compositor. Each test runs in a directory of its own.
 */

#define MAX_ARGS 16

struct run {
	int status; // exit status, or 128 + signal
	char out[65536], err[4096];
};

struct process {
	pid_t pid, compositor;
	int out, err; // files that it writes
};

/** Goes to an empty directory, which the harness removes. */
static void enter_directory(void) {
	check(chdir(getenv("XDG_RUNTIME_DIR")) == 0);
}

static void child_exec(int socket, int out, int err, size_t max_file, char **args) {
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
		struct rlimit limit = { max_file, max_file };
		setrlimit(RLIMIT_FSIZE, &limit);
		signal(SIGXFSZ, SIG_IGN);
	}
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execv(vitrine, args);
	_exit(127);
}

/** Starts vitrine; `script` may be NULL for no compositor, `out` -1 for a file. */
static struct process start(const struct fake_script *script, int out, size_t max_file,
		char **args) {
	struct process process = {
		.out = out >= 0 ? out : memfd_create("out", MFD_CLOEXEC),
		.err = memfd_create("err", MFD_CLOEXEC),
	};
	int socket = script != NULL ? fake_start(script, &process.compositor) : -1;
	process.pid = fork();
	check(process.pid >= 0);
	if (process.pid == 0) {
		child_exec(socket, process.out, process.err, max_file, args);
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

static void finish(struct process *process, struct run *run) {
	int status;
	check(waitpid(process->pid, &status, 0) == process->pid);
	run->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (process->compositor > 0) {
		fake_wait(process->compositor);
	}
	read_back(process->out, run->out, sizeof(run->out));
	read_back(process->err, run->err, sizeof(run->err));
	fputs(run->err, stderr);
	close(process->out);
	close(process->err);
}

static void fill_args(char **args, va_list list) {
	static char name[] = "vitrine";
	args[0] = name;
	for (int i = 1; i < MAX_ARGS; i++) {
		args[i] = va_arg(list, char *);
		if (args[i] == NULL) {
			return;
		}
	}
	abort();
}

/** Runs vitrine to its end. The arguments end with NULL. */
static struct run *vitrine(const struct fake_script *script, ...) {
	static struct run run;
	char *args[MAX_ARGS];
	va_list list;
	va_start(list, script);
	fill_args(args, list);
	va_end(list);
	struct process process = start(script, -1, 0, args);
	finish(&process, &run);
	return &run;
}

/** Exactly one line, which is ours, and says this. */
static void check_one_line(const struct run *run, const char *text) {
	const char *newline = strchr(run->err, '\n');
	check(strncmp(run->err, "vitrine: ", 9) == 0);
	check(newline != NULL && newline[1] == '\0');
	if (strstr(run->err, text) == NULL) {
		harness_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", run->err, text);
	}
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

static off_t get_size(const char *path) {
	struct stat st;
	check(stat(path, &st) == 0);
	return st.st_size;
}

static const char *const all_commands[] = {
	"probe", "info", "shot", "record", "watch", "audit",
};

#define N_COMMANDS (sizeof(all_commands) / sizeof(all_commands[0]))

TEST(help_and_version) {
	enter_directory();
	check_int(vitrine(NULL, "--version", NULL)->status, ==, 0);
	struct run *run = vitrine(NULL, "--help", NULL);
	check_int(run->status, ==, 0);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		run = vitrine(NULL, "--help", NULL);
		check(strstr(run->out, all_commands[i]) != NULL);
		run = vitrine(NULL, all_commands[i], "--help", NULL);
		check_int(run->status, ==, 0);
		check(strstr(run->out, "usage: vitrine") != NULL);
		check_str(run->err, "");
		check_int(vitrine(NULL, all_commands[i], "-V", NULL)->status, ==, 0);
	}
}

TEST(wrong_usage) {
	enter_directory();
	check_int(vitrine(NULL, NULL)->status, ==, 2);
	struct run *run = vitrine(NULL, "frobnicate", NULL);
	check_int(run->status, ==, 2);
	check_one_line(run, "frobnicate");
	for (size_t i = 0; i < N_COMMANDS; i++) {
		run = vitrine(NULL, all_commands[i], "--nope", NULL);
		check_int(run->status, ==, 2);
		check_one_line(run, "--nope");
	}
	check_int(vitrine(NULL, "shot", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "shot", "a", "b", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "watch", "x", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "record", "--frames", "0", "x", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "record", "--seconds", "nan", "x", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "record", "--format", "mp4", "x", NULL)->status, ==, 2);
	run = vitrine(NULL, "watch", "--guarantee", "sealed,nope", NULL);
	check_int(run->status, ==, 2);
	check_one_line(run, "fd_read_only");
	check_int(count_files(), ==, 0);
}

TEST(no_compositor) {
	enter_directory();
	// But for probe and audit, which have tests of their own
	for (size_t i = 1; i < N_COMMANDS - 1; i++) {
		bool wants_file = i == 2 || i == 3;
		struct run *run = vitrine(NULL, all_commands[i], wants_file ? "file" : NULL, NULL);
		check_int(run->status, ==, 1);
		check_one_line(run, "cannot connect");
	}
	check_int(count_files(), ==, 0);
	// Of the machine there is something to say nevertheless
	struct run *run = vitrine(NULL, "probe", "--json", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "\"reachable\": false") != NULL);
	check(strstr(run->out, "\"snapshot\"") != NULL);
}

TEST(compositor_without_the_protocol) {
	enter_directory();
	const struct fake_script script = { .no_manager = true };
	struct run *run = vitrine(&script, "shot", "x.png", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "xx_dmabuf_view_manager_v1");
	check_int(count_files(), ==, 0);
}

TEST(unknown_output) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "shot", "-o", "NOPE", "x.png", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "FAKE-1");
	check_int(count_files(), ==, 0);
}

static void deny(struct fake_session *session) {
	xx_dmabuf_view_session_v1_send_stopped(session->resource,
		XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_DENIED);
}

TEST(no_permission) {
	enter_directory();
	const struct fake_script script = { .start = deny };
	for (size_t i = 2; i < N_COMMANDS; i++) {
		bool wants_file = i == 2 || i == 3;
		struct run *run = vitrine(&script, all_commands[i], wants_file ? "file" : NULL, NULL);
		check_int(run->status, ==, 1);
		check_one_line(run, "denies");
	}
	check_int(count_files(), ==, 0);
}

TEST(no_frame) {
	enter_directory();
	const struct fake_script script = {0};
	struct run *run = vitrine(&script, "shot", "--timeout", "0.1", "x.png", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "--timeout");
	check_int(count_files(), ==, 0);
}

TEST(lying_compositor) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "shot", "--guarantee", "guarded", "x.png", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "not accepted");
	check_int(count_files(), ==, 0);
}

TEST(info_says_what_an_output_is) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "info", "--json", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "\"name\": \"FAKE-1\"") != NULL);
	check(strstr(run->out, "\"format\": \"XR24\"") != NULL);
	check(strstr(run->out, "\"guarantee\": \"sealed\"") != NULL);
	run = vitrine(&fake_animation, "info", NULL);
	check(strstr(run->out, "FAKE-1: 320x200 at 60.00 Hz") != NULL);
}

/* Pictures */

/** The pixels of a picture of 3 by 2: its digits are their names. */
static uint32_t make_pixel(unsigned name) {
	return name << 20 | 0x00ff00;
}

/** Each transform in turn. */
static uint32_t current_transform;

static void send_small_picture(struct fake_session *session) {
	static const unsigned names[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
	uint32_t rows[2][4] = {0}; // with padding
	for (int y = 0; y < 2; y++) {
		for (int x = 0; x < 3; x++) {
			rows[y][x] = make_pixel(names[y][x]) | 0xff000000;
		}
	}
	int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(write(fd, rows, sizeof(rows)) == sizeof(rows));
	check(fcntl(fd, F_ADD_SEALS, FAKE_SEALS) == 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const struct fake_view view = { .width = 3, .height = 2, .stride = sizeof(rows[0]) };
	xx_dmabuf_view_session_v1_send_depth(session->resource, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, open(path, O_RDONLY | O_CLOEXEC));
	close(fd);
	fake_send_view_done(session, 0);
	xx_dmabuf_view_session_v1_send_transform(session->resource, current_transform);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
}

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

TEST(shot_is_upright) {
	enter_directory();
	// What wlr_box_transform() makes of 123/456, by wl_output.transform
	static const struct {
		unsigned width, height;
		const char *names;
	} expected[] = {
		{ 3, 2, "123456" }, // normal
		{ 2, 3, "415263" }, // 90
		{ 3, 2, "654321" }, // 180
		{ 2, 3, "362514" }, // 270
		{ 3, 2, "321654" }, // flipped
		{ 2, 3, "142536" }, // flipped 90
		{ 3, 2, "456123" }, // flipped 180
		{ 2, 3, "635241" }, // flipped 270
	};
	const struct fake_script script = { .start = send_small_picture };
	for (current_transform = 0; current_transform < 8; current_transform++) {
		check_int(vitrine(&script, "shot", "x.png", NULL)->status, ==, 0);
		check_picture("x.png", expected[current_transform].width,
			expected[current_transform].height, expected[current_transform].names);
	}
	check_int(count_files(), ==, 1);
	check(unlink("x.png") == 0);
}

TEST(shot_to_standard_output) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "shot", "-", NULL);
	check_int(run->status, ==, 0);
	check(memcmp(run->out, "\x89PNG", 4) == 0);
	check_int(count_files(), ==, 0);
}

static void write_file(const char *path, const char *text) {
	FILE *file = fopen(path, "w");
	check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST(links_are_followed_and_devices_kept) {
	enter_directory();
	write_file("target", "old");
	check(symlink("target", "link") == 0);
	check_int(vitrine(&fake_animation, "shot", "link", NULL)->status, ==, 0);
	struct stat st;
	check(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	check(get_size("target") > 3);
	check_int(count_files(), ==, 2);
	check_int(vitrine(&fake_animation, "shot", "/dev/null", NULL)->status, ==, 0);
	check(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
	struct run *run = vitrine(&fake_animation, "shot", "/dev/full", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "No space left");
	run = vitrine(&fake_animation, "shot", "nowhere/x.png", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "nowhere/x.png");
	run = vitrine(&fake_animation, "shot", ".", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "directory");
}

/* Recordings */

#define FRAME_SIZE (6 + 320 * 200 * 3 / 2)

/** Checks that the file is whole frames, and returns their number. */
static int count_frames(const char *path) {
	FILE *file = fopen(path, "r");
	check(file != NULL);
	char header[256];
	check(fgets(header, sizeof(header), file) != NULL);
	check_str(header,
		"YUV4MPEG2 W320 H200 F60000:1000 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n");
	int n = 0;
	static char frame[FRAME_SIZE];
	size_t len;
	while ((len = fread(frame, 1, sizeof(frame), file)) > 0) {
		check_int(len, ==, sizeof(frame));
		check(memcmp(frame, "FRAME\n", 6) == 0);
		n++;
	}
	fclose(file);
	return n;
}

TEST(record_frames) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "record", "--frames", "10", "x.y4m", NULL);
	check_int(run->status, ==, 0);
	check_str(run->err, "");
	check_int(count_frames("x.y4m"), ==, 10);
	check_int(count_files(), ==, 1);
}

TEST(record_raw) {
	enter_directory();
	struct run *run =
		vitrine(&fake_animation, "record", "--frames", "3", "--format", "raw", "x", NULL);
	check_int(run->status, ==, 0);
	check_one_line(run, "320x200, XR24");
	check_int(get_size("x"), ==, 3 * 320 * 200 * 4);
}

TEST(record_raw_removes_padding) {
	enter_directory();
	const struct fake_script script = { .start = send_small_picture };
	current_transform = 0;
	struct run *run =
		vitrine(&script, "record", "--frames", "1", "--format", "raw", "x", NULL);
	check_int(run->status, ==, 0);
	check_int(get_size("x"), ==, 3 * 2 * 4);
}

TEST(record_with_a_constant_rate) {
	enter_directory();
	struct run *run =
		vitrine(&fake_animation, "record", "--cfr", "--seconds", "1", "x.y4m", NULL);
	check_int(run->status, ==, 0);
	int n = count_frames("x.y4m");
	check_int(n, >=, 58);
	check_int(n, <=, 75);
}

TEST(record_with_a_constant_rate_repeats_frames) {
	enter_directory();
	// One frame, whose time is long ago, and nothing after it
	const struct fake_script script = { .start = send_small_picture };
	current_transform = 0;
	struct run *run = vitrine(&script, "record", "--cfr", "--frames", "100", "x.y4m", NULL);
	check_int(run->status, ==, 0);
	check_int(get_size("x.y4m"), >, 100 * (6 + 6 + 4));
}

/** Starts a recording that goes on. */
static struct process start_recording(int out, char *path) {
	char *args[] = { "vitrine", "record", path, NULL };
	struct process process = start(&fake_animation, out, 0, args);
	return process;
}

TEST(record_ends_well_on_a_signal) {
	static const int signals[] = { SIGINT, SIGTERM };
	enter_directory();
	for (int i = 0; i < 2; i++) {
		// A pipe tells when there are frames
		int fds[2];
		check(pipe2(fds, O_CLOEXEC) == 0);
		struct process process = start_recording(fds[1], "-");
		FILE *file = fdopen(fds[0], "r");
		static char frame[FRAME_SIZE];
		check(fgets(frame, sizeof(frame), file) != NULL);
		check_int(fread(frame, 1, sizeof(frame), file), ==, sizeof(frame));
		kill(process.pid, signals[i]);
		struct run run;
		close(fds[1]);
		process.out = open("/dev/null", O_RDONLY | O_CLOEXEC);
		size_t len;
		while ((len = fread(frame, 1, sizeof(frame), file)) > 0) {
			check_int(len, ==, sizeof(frame));
		}
		fclose(file);
		finish(&process, &run);
		check_int(run.status, ==, 0);
		check_str(run.err, "");
	}
}

TEST(record_to_a_file_appears_when_it_is_complete) {
	enter_directory();
	write_file("x.y4m", "old");
	struct process process = start_recording(-1, "x.y4m");
	usleep(500000);
	check_int(get_size("x.y4m"), ==, 3);
	kill(process.pid, SIGINT);
	struct run run;
	finish(&process, &run);
	check_int(run.status, ==, 0);
	check(count_frames("x.y4m") > 0);
	check_int(count_files(), ==, 1);
}

TEST(record_that_is_killed_leaves_nothing) {
	enter_directory();
	struct process process = start_recording(-1, "x.y4m");
	usleep(300000);
	kill(process.pid, SIGKILL);
	struct run run;
	finish(&process, &run);
	check_int(count_files(), ==, 0);
}

TEST(record_to_a_reader_that_goes_away) {
	enter_directory();
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	struct process process = start_recording(fds[1], "-");
	char byte;
	check(read(fds[0], &byte, 1) == 1);
	close(fds[0]);
	struct run run;
	finish(&process, &run);
	check_int(run.status, ==, 0);
	check_str(run.err, "");
}

TEST(full_disk_leaves_no_file) {
	enter_directory();
	static char *shot[] = { "vitrine", "shot", "x", NULL };
	static char *record[] = { "vitrine", "record", "x", NULL };
	char **commands[] = { shot, record };
	for (int i = 0; i < 2; i++) {
		write_file("x", "old");
		struct process process = start(&fake_animation, -1, i == 0 ? 100 : 100000, commands[i]);
		struct run run;
		finish(&process, &run);
		check_int(run.status, ==, 1);
		check_one_line(&run, "cannot write \"x\"");
		check_int(get_size("x"), ==, 3);
		check_int(count_files(), ==, 1);
	}
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct process process = start_recording(full, "-");
	struct run run;
	finish(&process, &run);
	check_int(run.status, ==, 1);
	check_one_line(&run, "No space left");
}

static void send_two_sizes(struct fake_session *session) {
	xx_dmabuf_view_session_v1_send_depth(session->resource, 3);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	fake_send_frame(session, 0);
	const struct fake_view view = { .index = 1, .width = 32, .height = 16, .stride = 128 };
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
	fake_send_view_done(session, 1);
	fake_send_frame(session, 1);
}

TEST(record_ends_at_a_change_of_size) {
	enter_directory();
	const struct fake_script script = { .start = send_two_sizes };
	struct run *run = vitrine(&script, "record", "x.y4m", NULL);
	check_int(run->status, ==, 0);
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

static void send_two_frames(struct fake_session *session) {
	xx_dmabuf_view_session_v1_send_depth(session->resource, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	fake_send_frame(session, 0);
}

TEST(record_keeps_what_came_before_the_end_of_the_session) {
	enter_directory();
	const struct fake_script script = {
		.start = send_two_frames,
		.release = stop_on_second_release,
	};
	struct run *run = vitrine(&script, "record", "x.y4m", NULL);
	check_int(run->status, ==, 1);
	check_one_line(run, "does not exist any more");
	check_int(get_size("x.y4m"), >, 2 * FAKE_WIDTH * FAKE_HEIGHT * 3 / 2);
}

/* Figures */

TEST(watch_reports_at_the_end) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "watch", "--frames", "60", "--json", NULL);
	check_int(run->status, ==, 0);
	static const char *const keys[] = {
		"\"frames\": 60", "\"fps\": ", "\"guarantee\": \"sealed\"", "\"storage\": \"memfd\"",
		"\"distinct_buffers\": ", "\"fds_received\": ", "\"latency_us_p50\": ",
		"\"latency_us_p99\": ", "\"skipped\": ", "\"revoked\": 0",
	};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strstr(run->out, keys[i]) == NULL) {
			harness_fail(__FILE__, __LINE__, "no %s in %s", keys[i], run->out);
		}
	}
	run = vitrine(&fake_animation, "watch", "--frames", "10", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "sealed, memfd") != NULL);
}

TEST(audit_of_an_honest_compositor) {
	enter_directory();
	struct run *run = vitrine(&fake_animation, "audit", "--no-machine", "--verbose", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "BROKEN") == NULL);
	check(strstr(run->out, "\n15  ok") != NULL);
	run = vitrine(&fake_animation, "audit", "--guarantee", "snapshot", "--json", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "\"broken\": 0") != NULL);
	check(strstr(run->out, "\"guarantee\": \"snapshot\"") != NULL);
	check(strstr(run->out, "\"output\": \"FAKE-1\"") != NULL);
	check(strstr(run->out, "\"backend\": \"snapshot\"") != NULL);
	check(strstr(run->out, "\"backend\": \"sealed\"") == NULL);
}

TEST(audit_of_a_compositor_that_draws_into_what_was_retired) {
	enter_directory();
	struct run *run = vitrine(&fake_animation_that_leaks, "audit", "--no-machine", NULL);
	check_int(run->status, ==, 1);
	check(strstr(run->out, "\n15  BROKEN") != NULL);
	check(strstr(run->out, "1 BROKEN\n") != NULL);
	check_one_line(run, "broken by 1");
}

TEST(audit_without_a_compositor_is_of_the_machine) {
	enter_directory();
	struct run *run = vitrine(NULL, "audit", "--json", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->err, "no session is audited: cannot connect") != NULL);
	static const char *const keys[] = {
		"\"session\": null", "\"output\": null", "\"broken\": 0", "\"inconclusive\": 0",
		"\"name\": \"sealed\"", "\"exercised\": true", "\"exporter\": \"memfd\"", "\"kernel\": ",
	};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strstr(run->out, keys[i]) == NULL) {
			harness_fail(__FILE__, __LINE__, "no %s in %s", keys[i], run->out);
		}
	}
	run = vitrine(NULL, "audit", "--no-session", NULL);
	check_int(run->status, ==, 0);
	check(strstr(run->out, "sealed of memfd, sealed in a memfd: ") != NULL);
	check(strstr(run->out, "snapshot of memfd, snapshot in a memfd: ") != NULL);
	check(strstr(run->err, "cannot connect") == NULL);
}

TEST(audit_of_a_session_that_was_asked_for_needs_a_compositor) {
	enter_directory();
	static const char *const asking[][2] = {
		{ "--no-machine", NULL }, { "-o", "NOPE" }, { "--socket", "nothing-there" },
	};
	for (size_t i = 0; i < sizeof(asking) / sizeof(asking[0]); i++) {
		struct run *run = vitrine(NULL, "audit", asking[i][0], asking[i][1], NULL);
		check_int(run->status, ==, 1);
		check_str(run->out, "");
		check_one_line(run, "cannot connect");
	}
	check_int(vitrine(NULL, "audit", "--no-machine", "--no-session", NULL)->status, ==, 2);
	check_int(vitrine(NULL, "audit", "--no-session", "-o", "FAKE-1", NULL)->status, ==, 2);
}
