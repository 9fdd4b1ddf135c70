/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include <vitrine-client/client.h>

#include "fake_compositor.h"
#include "harness.h"

/*
 * The client library against a compositor that does what a script says. An
 * honest one comes first, then one that lies: nothing may leak, nothing may
 * crash, and the session ends with an error that says what was wrong.
 */

#define WAIT_MS 5000
#define HEAP "/dev/dma_heap/system"

/* What stands in for dma-bufs for devices, which are not mapped: honest memfds */

static bool memfds_are_dmabufs;

/* Whichever name the headers give it */
#define WRAP_FSTATFS(suffix) \
	int __real_fstatfs##suffix(int fd, struct statfs *st); \
	int __wrap_fstatfs##suffix(int fd, struct statfs *st); \
	int __wrap_fstatfs##suffix(int fd, struct statfs *st) { \
		int ret = __real_fstatfs##suffix(fd, st); \
		if (ret == 0 && memfds_are_dmabufs) { \
			st->f_type = DMA_BUF_MAGIC; \
		} \
		return ret; \
	}
WRAP_FSTATFS()
WRAP_FSTATFS(64)

int __real_vitrine_verify_fd(int fd, enum vitrine_storage storage,
	enum vitrine_guarantee guarantee, uint64_t size, const char **reason);
int __wrap_vitrine_verify_fd(int fd, enum vitrine_storage storage,
	enum vitrine_guarantee guarantee, uint64_t size, const char **reason);
int __wrap_vitrine_verify_fd(int fd, enum vitrine_storage storage,
		enum vitrine_guarantee guarantee, uint64_t size, const char **reason) {
	if (!memfds_are_dmabufs || storage != VITRINE_STORAGE_DMABUF) {
		return __real_vitrine_verify_fd(fd, storage, guarantee, size, reason);
	}
	memfds_are_dmabufs = false; // it may be linked in, and looks at the file system as well
	int ret = __real_vitrine_verify_fd(fd, VITRINE_STORAGE_MEMFD, guarantee, size, reason);
	memfds_are_dmabufs = true;
	return ret;
}

/* Time that passes only while poll() waits, and then at once */

static int64_t waited_ms = -1; // so long by now; negative for the time that it is

int __real_poll(struct pollfd *fds, nfds_t n_fds, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int timeout) {
	int ret = __real_poll(fds, n_fds, waited_ms < 0 ? timeout : 0);
	if (waited_ms >= 0 && ret == 0) {
		check_int(timeout, >=, 0);
		waited_ms += timeout;
	}
	return ret;
}

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time) {
	if (waited_ms < 0) {
		return __real_clock_gettime(clock, time);
	}
	*time = (struct timespec){
		.tv_sec = 1 + waited_ms / 1000,
		.tv_nsec = waited_ms % 1000 * 1000000,
	};
	return 0;
}

struct fixture {
	pid_t pid;
	int socket; // the client's, a second time
	struct vitrine_client *client; // NULL if the test has destroyed it
	struct vitrine_output *output;
	struct vitrine_source *source; // the output's
	struct vitrine_session *session;
	int n_fds; // open before anything was announced
};

struct fixture_options {
	const struct fake_script *script; // NULL for one of these events
	const struct fake_event *events;
	const struct vitrine_session_options *session;
	bool needs_dmabufs; // else the test is skipped
	bool fakes_dmabufs;
};

static void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	*f = (struct fixture){0};
	if (options->needs_dmabufs && access(HEAP, R_OK) != 0) {
		harness_skip("no " HEAP);
	}
	memfds_are_dmabufs = options->fakes_dmabufs;
	const struct fake_script of_events = { .events = options->events };
	int fd = fake_start(options->script != NULL ? options->script : &of_events, &f->pid);
	f->socket = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	check(f->socket >= 0);
	char *error = NULL;
	check_int(vitrine_client_connect_to_fd(fd, &f->client, &error), ==, 0);
	check(error == NULL);
	f->output = vitrine_client_find_output(f->client, "FAKE-1");
	check(f->output != NULL);
	f->source = vitrine_output_get_source(f->output);
	check_int(vitrine_session_create(f->source, options->session, &f->session),
		==, 0);
	f->n_fds = harness_count_fds();
}

static void fixture_tear_down(struct fixture *f) {
	vitrine_client_destroy(f->client);
	// Closed, it would have a server of libwayland go without a look at the last requests
	shutdown(f->socket, SHUT_WR);
	check(fake_wait(f->pid));
	close(f->socket);
}

static struct vitrine_frame *next_frame(struct fixture *f) {
	struct vitrine_frame *frame;
	int ret = vitrine_session_next_frame(f->session, WAIT_MS, &frame);
	if (ret != 1) {
		harness_fail(__FILE__, __LINE__, "no frame: %d, %s", ret,
			vitrine_client_get_error(f->client));
	}
	return frame;
}

/* The truth */

/** A view of honest memory, whatever is said of it, and a frame. */
#define LAYOUT(...) EVENT(DEPTH, 2), VIEW(__VA_ARGS__), PLANE(0, __VA_ARGS__), \
	EVENT(VIEW_DONE, 0), FRAME(0)
#define ONE_FRAME SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0))
#define MAPPED VITRINE_STORAGE_MAPPED_DMABUF
/** A frame event as it is. */
#define FRAME_AT(index, serial, sec_hi, nsec) \
	EVENT(FRAME, index, serial, sec_hi, 1, nsec, 0, 0, 0, 0)
#define STOP(reason) EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_##reason)
#define SESSION(...) .session = &(const struct vitrine_session_options){ __VA_ARGS__ }

TEST_WITH(fixture, connect_learns_outputs_and_guarantees,
		SCRIPT(.guarantees = VITRINE_GUARANTEE_SEALED)) {
	size_t len;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(f->client, &len);
	check_int(len, ==, 1);
	check_str(vitrine_output_get_name(outputs[0]), "FAKE-1");
	check_str(vitrine_output_get_description(outputs[0]), "a fake output");
	int32_t width, height, refresh;
	vitrine_output_get_mode(outputs[0], &width, &height, &refresh);
	check_int(width, ==, FAKE_WIDTH);
	check_int(height, ==, FAKE_HEIGHT);
	check_int(refresh, ==, 60000);
	check(!vitrine_output_is_gone(outputs[0]));
	check(vitrine_client_find_output(f->client, NULL) == outputs[0]);
	check(vitrine_client_find_output(f->client, "nope") == NULL);
	check_int(vitrine_client_get_guarantees(f->client), ==, VITRINE_GUARANTEE_SEALED);
}

static int make_painted_memory(const struct fake_event *event) {
	char bytes[FAKE_SIZE + 8192];
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (char)(i * 7);
	}
	return fake_memfd_with(bytes, sizeof(bytes));
}

/** An offset within a page, and a stride with padding. */
#define ODD_VIEW .index = 7, .offset = 100, .stride = FAKE_WIDTH * 4 + 12

TEST_WITH(fixture, frame_has_its_description_and_pixels,
		.events = SAY(EVENT(DEPTH, 2), VIEW(ODD_VIEW),
			PLANE_OF(make_painted_memory, .view = { ODD_VIEW }), EVENT(VIEW_DONE, 7),
			EVENT(DAMAGE, 1, 2, 3, 4), FRAME(7))) {
	struct vitrine_frame *frame = next_frame(f);
	check_int(vitrine_session_get_depth(f->session), ==, 2);
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	check_int(info->width, ==, FAKE_WIDTH);
	check_int(info->height, ==, FAKE_HEIGHT);
	check_int(info->fourcc, ==, DRM_FORMAT_XRGB8888);
	check_int(info->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check_int(info->guarantee, ==, VITRINE_GUARANTEE_SEALED);
	check_int(info->storage, ==, VITRINE_STORAGE_MEMFD);
	check_int(info->view_index, ==, 7);
	check_int(info->n_planes, ==, 1);
	check_int(info->fds[0], >=, 0);
	check_int(info->fds[1], ==, -1);
	check_int(info->offsets[0], ==, 100);
	check_int(info->strides[0], ==, FAKE_WIDTH * 4 + 12);
	check_int(info->n_damage, ==, 1);
	check_int(info->damage[0].x, ==, 1);
	check_int(info->damage[0].height, ==, 4);
	check(info->time.tv_sec + info->time.tv_nsec > 0 && info->received.tv_sec >= info->time.tv_sec);
	const unsigned char *pixels = vitrine_frame_get_pixels(frame, 0);
	check(pixels != NULL);
	size_t last = (size_t)info->strides[0] * (FAKE_HEIGHT - 1) + FAKE_WIDTH * 4 - 1;
	check_int(pixels[0], ==, (unsigned char)(100 * 7));
	check_int(pixels[last], ==, (unsigned char)((100 + last) * 7));
	check(vitrine_frame_get_pixels(frame, 1) == NULL);
	check(!vitrine_frame_is_revoked(frame));
	vitrine_frame_release(frame);
}

TEST_WITH(fixture, explanation_is_the_last_one,
		.events = SAY(EVENT(DEPTH, 2), EXPLANATION("dumb buffers"), ANNOUNCE(0), FRAME(0),
			EXPLANATION("memfd"), ANNOUNCE(1), FRAME(1))) {
	check(vitrine_session_get_explanation(f->session) == NULL);
	vitrine_frame_release(next_frame(f));
	vitrine_frame_release(next_frame(f));
	check_str(vitrine_session_get_explanation(f->session), "memfd");
}

static void hold_one_frame(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 2), VIEW(), PLANE(0), EVENT(VIEW_DONE, 0),
		EVENT(TRANSFORM, 0), EVENT(FRAME, 0, 1, 0, 1, 2, 3, 4, 5, 6)));
}

TEST_WITH(fixture, frame_event_has_time_and_a_rectangle, SCRIPT(.start = hold_one_frame)) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(next_frame(f));
	check_int(info->time.tv_sec, ==, 1);
	check_int(info->time.tv_nsec, ==, 2);
	check_int(info->n_damage, ==, 1);
	check_int(info->damage[0].x, ==, 3);
	check_int(info->damage[0].y, ==, 4);
	check_int(info->damage[0].width, ==, 5);
	check_int(info->damage[0].height, ==, 6);
	check_int(info->device, ==, 0);
}

static struct timespec last_time; // of the frame that was said last

/** A frame with the time of now, and another one with the same time. */
static void say_twice(struct fake_session *session, const struct fake_event *event) {
	clock_gettime(CLOCK_MONOTONIC, &last_time);
	for (int i = 0; i < 2; i++) {
		xx_dmabuf_view_session_v1_send_frame(session->resource, 0, session->next_serial++,
			0, (uint32_t)last_time.tv_sec, (uint32_t)last_time.tv_nsec, 0, 0, 0, 0);
	}
}

/** The first frame is of the machine's start: some guests have been up for less than a second. */
static void say_a_still_screen(struct fake_session *session) {
	fake_say(session, SAY(EVENT(DEPTH, 4), ANNOUNCE(0), EVENT(TRANSFORM, 0),
		EVENT(FRAME, 0, 1, 0, 0, 1, 0, 0, 0, 0)));
	session->next_serial = 2;
	fake_say(session, SAY(CALL(say_twice), FRAME(0)));
}

TEST_WITH(fixture, frame_tells_that_it_is_shown_again, SCRIPT(.start = say_a_still_screen)) {
	check(vitrine_frame_get_info(next_frame(f))->shown_again); // from before the session
	check(!vitrine_frame_get_info(next_frame(f))->shown_again);
	check(vitrine_frame_get_info(next_frame(f))->shown_again);
	check(!vitrine_frame_get_info(next_frame(f))->shown_again);
}

TEST_WITH(fixture, steady_state_has_no_fds, .script = &fake_animation) {
	uint32_t last_serial = 0;
	for (int i = 0; i < 60; i++) {
		struct vitrine_frame *frame = next_frame(f);
		check_int(vitrine_frame_get_info(frame)->serial, >, last_serial);
		last_serial = vitrine_frame_get_info(frame)->serial;
		vitrine_frame_release(frame);
	}
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(f->session, &stats);
	check_int(stats.frames, ==, 60);
	check_int(stats.views, <=, 3);
	check_int(stats.fds, ==, stats.views);
	check_int(stats.planes, ==, stats.views);
	check_int(harness_count_fds(), ==, f->n_fds + (int)stats.views);
}

TEST_WITH(fixture, held_frames_make_later_ones_skipped, .script = &fake_animation) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	check_int(vitrine_session_next_frame(f->session, 100, &third), ==, 0);
	check(third == NULL);
	vitrine_frame_release(first);
	third = next_frame(f);
	check_int(vitrine_frame_get_info(third)->skipped, >, 0);
	vitrine_frame_release(second);
	vitrine_frame_release(third);
}

TEST_WITH(fixture, next_frame_does_not_wait_without_a_timeout) {
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(f->session, 0, &frame), ==, 0);
	check_int(vitrine_session_next_frame(f->session, 20, &frame), ==, 0);
	check_int(vitrine_session_get_depth(f->session), ==, 0);
}

static void handle_alarm(int signal) {
}

static void send_signal_soon(void) {
	struct sigaction action = { .sa_handler = handle_alarm };
	sigemptyset(&action.sa_mask);
	check(sigaction(SIGUSR1, &action, NULL) == 0);
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;
	check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	// Again and again, so that none is lost before poll()
	struct itimerspec spec = { .it_value.tv_nsec = 50000000, .it_interval.tv_nsec = 50000000 };
	check(timer_settime(timer, 0, &spec, NULL) == 0);
}

TEST_WITH(fixture, signals_end_waiting) {
	send_signal_soon();
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(f->session, -1, &frame), ==, -EINTR);
	check_int(vitrine_client_dispatch(f->client, -1), ==, -EINTR);
	vitrine_client_destroy(f->client);
	f->client = NULL;
	signal(SIGUSR1, SIG_IGN);
}

/** The test fails unless connecting does, with this error and with a text that says this. */
static void expect_connect_error(const struct fake_script *script, int error, const char *says) {
	pid_t pid;
	int fd = fake_start(script, &pid);
	if (error == -EINTR) {
		send_signal_soon();
	}
	struct vitrine_client *client;
	char *text = NULL;
	check_int(vitrine_client_connect_to_fd(fd, &client, &text), ==, error);
	check(client == NULL && text != NULL && strstr(text, says) != NULL);
	free(text);
	signal(SIGUSR1, SIG_IGN);
	check(fake_wait(pid));
}

TEST(signals_end_connecting_to_a_mute_compositor) {
	expect_connect_error(&(struct fake_script){ .mute = true }, -EINTR, "");
}

/** "-ETIMEDOUT if it does not answer within 10 s" */
TEST(mute_compositor_is_given_up_after_ten_seconds) {
	waited_ms = 0;
	expect_connect_error(&(struct fake_script){ .mute = true }, -ETIMEDOUT, "does not answer");
	check_int(waited_ms, ==, 10000);
}

TEST(mute_compositor_is_given_up_when_the_caller_says) {
	struct vitrine_client *client;
	char *error, value[16];
	pid_t pid;
	int fd = fake_start(&(struct fake_script){ .mute = true }, &pid);
	snprintf(value, sizeof(value), "%d", fd);
	setenv("WAYLAND_SOCKET", value, 1);
	waited_ms = 0;
	check_int(vitrine_client_connect_within(NULL, 300, &client, &error), ==, -ETIMEDOUT);
	check_int(waited_ms, ==, 300);
	check(client == NULL && strstr(error, "does not answer") != NULL);
	free(error);
	check(fake_wait(pid));
}

TEST(connecting_may_wait_without_a_limit) {
	struct vitrine_client *client;
	char value[16];
	pid_t pid;
	int fd = fake_start(&(struct fake_script){0}, &pid);
	snprintf(value, sizeof(value), "%d", fd);
	setenv("WAYLAND_SOCKET", value, 1);
	check_int(vitrine_client_connect_within(NULL, -1, &client, NULL), ==, 0);
	vitrine_client_destroy(client);
	check(fake_wait(pid));
}

/** A compositor that accepts no connection any more, and as many that wait as it takes. */
TEST(socket_that_takes_no_more_is_given_up) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/full", getenv("XDG_RUNTIME_DIR"));
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check_ok(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)));
	check_ok(listen(listen_fd, 0));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check_ok(connect(fd, (struct sockaddr *)&address, sizeof(address)));

	struct vitrine_client *client;
	char *error;
	check_int(vitrine_client_connect_within("full", 200, &client, &error), ==, -ETIMEDOUT);
	check(client == NULL && strstr(error, "full") != NULL);
	free(error);
	check_int(vitrine_client_connect_within("full", 0, &client, NULL), ==, -ETIMEDOUT);
	check_int(vitrine_client_connect_within(address.sun_path, 0, &client, NULL), ==, -ETIMEDOUT);
	close(fd);
	close(listen_fd);
}

TEST(no_compositor) {
	struct vitrine_client *client;
	char *error = NULL;
	check_int(vitrine_client_connect("nope", &client, &error), ==, -ENOENT);
	check(client == NULL && strstr(error, "nope") != NULL);
	free(error);
	check_int(vitrine_client_connect("nope", &client, NULL), ==, -ENOENT);
}

TEST(compositor_without_the_protocol) {
	expect_connect_error(&(struct fake_script){ .no_manager = true }, -EPROTONOSUPPORT,
		"xx_dmabuf_view_manager_v1");
	expect_connect_error(&(struct fake_script){ .no_source_manager = true }, -EPROTONOSUPPORT,
		"ext_output_image_capture_source_manager_v1");
}

TEST_WITH(fixture, output_that_is_gone_cannot_be_captured, SCRIPT(.remove_output = true)) {
	check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	size_t len;
	check(vitrine_client_get_outputs(f->client, &len)[0] == f->output);
	check(vitrine_output_is_gone(f->output));
	check_str(vitrine_output_get_name(f->output), "FAKE-1");
	check(vitrine_client_find_output(f->client, NULL) == NULL);
	struct vitrine_session *session;
	check_int(vitrine_session_create(f->source, NULL, &session), ==, -ENODEV);
	check(session == NULL);
}

static void check_options(struct fake_session *session) {
	bool ok = session->cursors == XX_DMABUF_VIEW_SESSION_V1_CURSORS_PAINTED &&
		session->acceptable == (VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_GUARDED) &&
		session->storages == (VITRINE_STORAGE_DMABUF | VITRINE_STORAGE_MEMFD) &&
		session->n_formats == 2 && session->n_devices == 1 && session->implicit_release;
	xx_dmabuf_view_session_v1_send_depth(session->resource, ok ? 3 : 1);
}

static const struct vitrine_format both_formats[] = {
	{ .device = 0xe280, .fourcc = DRM_FORMAT_XRGB8888, .modifier = 1 },
	{ .fourcc = DRM_FORMAT_XRGB2101010, .modifier = DRM_FORMAT_MOD_LINEAR },
};

TEST_WITH(fixture, options_are_passed_on, SCRIPT(.start = check_options),
		SESSION(.acceptable = VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_GUARDED,
			.storages = VITRINE_STORAGE_DMABUF | VITRINE_STORAGE_MEMFD,
			.formats = both_formats, .n_formats = 2, .implicit_release = true,
			.paint_cursors = true)) {
	while (vitrine_session_get_depth(f->session) == 0) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	check_int(vitrine_session_get_depth(f->session), ==, 3);
}

static void check_default_options(struct fake_session *session) {
	bool ok = session->cursors == XX_DMABUF_VIEW_SESSION_V1_CURSORS_ANY &&
		session->acceptable == VITRINE_GUARANTEE_ALL &&
		session->storages == VITRINE_STORAGE_CPU && session->n_formats == 0 &&
		!session->implicit_release;
	xx_dmabuf_view_session_v1_send_depth(session->resource, ok ? 3 : 1);
}

TEST_WITH(fixture, default_is_what_the_cpu_reads, SCRIPT(.start = check_default_options)) {
	while (vitrine_session_get_depth(f->session) == 0) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	check_int(vitrine_session_get_depth(f->session), ==, 3);
}

/** The compositor takes no more of either. */
static const struct vitrine_format many_formats[1025];
static const struct vitrine_format many_nodes[17] = {
	{ .device = 1 }, { .device = 2 }, { .device = 3 }, { .device = 4 }, { .device = 5 },
	{ .device = 6 }, { .device = 7 }, { .device = 8 }, { .device = 9 }, { .device = 10 },
	{ .device = 11 }, { .device = 12 }, { .device = 13 }, { .device = 14 }, { .device = 15 },
	{ .device = 16 }, { .device = 17 },
};

static const struct {
	const char *name;
	struct vitrine_session_options options;
} bad_options[] = {
	{ "unknown_guarantee", { .acceptable = 1 << 4 } },
	{ "unknown_storage", { .storages = 1 << 3 } },
	{ "dmabuf_without_a_format", { .storages = VITRINE_STORAGE_DMABUF } },
	{ "dmabuf_without_a_format_of_a_device", { .storages = VITRINE_STORAGE_DMABUF,
		.formats = &both_formats[1], .n_formats = 1 } },
	{ "too_many_formats", { .formats = many_formats, .n_formats = 1025 } },
	{ "too_many_nodes", { .formats = many_nodes, .n_formats = 17 } },
};

TEST_WITH(fixture, as_many_formats_as_there_may_be) {
	const struct vitrine_session_options formats = { .formats = many_formats, .n_formats = 1024 };
	const struct vitrine_session_options nodes = { .formats = many_nodes, .n_formats = 16 };
	struct vitrine_session *session;
	check_int(vitrine_session_create(f->source, &formats, &session), ==, 0);
	check_int(vitrine_session_create(f->source, &nodes, &session), ==, 0);
}

TEST_WITH(fixture, options_that_cannot_be) {
	for (size_t i = 0; i < sizeof(bad_options) / sizeof(bad_options[0]); i++) {
		struct vitrine_session *session;
		check_int(vitrine_session_create(f->source, &bad_options[i].options,
			&session), ==, -EINVAL);
		check(session == NULL);
	}
}

TEST_WITH(fixture, damage_is_clipped_to_the_buffer,
		.events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0),
			EVENT(DAMAGE, 60, 30, 100, 100),
			EVENT(DAMAGE, 64, 0, 1, 1), // outside
			EVENT(DAMAGE, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX),
			EVENT(DAMAGE, 1, 1, UINT32_MAX, UINT32_MAX),
			EVENT(DAMAGE, 5, 5, 0, 5), // empty
			FRAME(0))) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(next_frame(f));
	check_int(info->n_damage, ==, 2);
	check_int(info->damage[0].x, ==, 60);
	check_int(info->damage[0].width, ==, 4);
	check_int(info->damage[0].height, ==, 2);
	check_int(info->damage[1].x, ==, 1);
	check_int(info->damage[1].width, ==, FAKE_WIDTH - 1);
	check_int(info->damage[1].height, ==, FAKE_HEIGHT - 1);
}

static void send_much_damage(struct fake_session *session, const struct fake_event *event) {
	for (uint32_t i = 0; i < 5000; i++) {
		xx_dmabuf_view_session_v1_send_damage(session->resource, i % FAKE_WIDTH,
			i % FAKE_HEIGHT, 1, 1);
	}
}

TEST_WITH(fixture, damage_is_bounded_and_covers_all,
		.events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0), CALL(send_much_damage), FRAME(0))) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(next_frame(f));
	check_int(info->n_damage, <=, 256);
	const struct vitrine_rect *last = &info->damage[info->n_damage - 1];
	check_int(last->x, ==, 0);
	check_int(last->y, ==, 0);
	check_int(last->width, ==, FAKE_WIDTH);
	check_int(last->height, ==, FAKE_HEIGHT);
}

static void revoke_other(struct fake_session *session, uint32_t serial) {
	if (serial == 2) {
		xx_dmabuf_view_session_v1_send_revoked(session->resource, 2); // crosses the release
		xx_dmabuf_view_session_v1_send_revoked(session->resource, 3);
	}
}

TEST_WITH(fixture, revoked_frames_are_dropped_or_marked,
		SCRIPT(.release = revoke_other, .events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0),
			FRAME(0), EVENT(REVOKED, 1), // unseen
			FRAME(0), FRAME(0)))) {
	struct vitrine_frame *second = next_frame(f), *third = next_frame(f);
	check_int(vitrine_frame_get_info(second)->serial, ==, 2);
	check(!vitrine_frame_is_revoked(third));
	vitrine_frame_release(second);
	check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	check(vitrine_frame_is_revoked(third));
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(f->session, &stats);
	check_int(stats.revoked, ==, 2);
	vitrine_frame_release(third);
}

static void send_beyond_depth(struct fake_session *session, uint32_t serial) {
	fake_say(session, SAY(EVENT(REVOKED, 1), FRAME(0), FRAME(0)));
}

TEST_WITH(fixture, revoked_frame_counts_against_the_depth,
		SCRIPT(.release = send_beyond_depth,
			.events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), FRAME(0)))) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	vitrine_frame_release(second);
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &third), ==, -EPERM);
	check(strstr(vitrine_client_get_error(f->client), "depth allows") != NULL);
	vitrine_frame_release(first);
}

TEST_WITH(fixture, serials_count_the_frames_that_were_missed,
		.events = SAY(EVENT(DEPTH, 4), ANNOUNCE(0), FRAME(0), FRAME_AT(0, 5, 0, 0),
			FRAME_AT(0, UINT32_MAX, 0, 0), FRAME_AT(0, 2, 0, 0))) {
	check_int(vitrine_frame_get_info(next_frame(f))->skipped, ==, 0);
	check_int(vitrine_frame_get_info(next_frame(f))->skipped, ==, 3);
	check_int(vitrine_frame_get_info(next_frame(f))->skipped, ==, UINT32_MAX - 6);
	// "1 comes after the largest"
	check_int(vitrine_frame_get_info(next_frame(f))->skipped, ==, 1);
}

/** What a listener heard last. */
static struct {
	const struct vitrine_session *session;
	const struct vitrine_frame *revoked;
	uint32_t n_retired, retired_index, n_power;
	bool is_on;
} heard;

static void hear_revoked(void *data, struct vitrine_session *session,
		struct vitrine_frame *frame) {
	heard.session = session;
	heard.revoked = frame;
}

static void hear_retired(void *data, struct vitrine_session *session, uint32_t view_index) {
	heard.n_retired++;
	heard.retired_index = view_index;
}

static void hear_power(void *data, struct vitrine_session *session, bool is_on) {
	check(vitrine_session_is_off(session) == !is_on);
	heard.n_power++;
	heard.is_on = is_on;
}

static const struct vitrine_session_listener listener = {
	.revoked = hear_revoked,
	.retired = hear_retired,
	.power = hear_power,
};

static void revoke_first(struct fake_session *session, uint32_t serial) {
	fake_say(session, SAY(EVENT(REVOKED, 1), EVENT(RETIRED, 0), EVENT(ON)));
}

TEST_WITH(fixture, listener_hears_of_what_happens,
		SCRIPT(.release = revoke_first, .events = SAY(EVENT(DEPTH, 2), EVENT(OFF), EVENT(ON),
			EVENT(OFF), ANNOUNCE(0), FRAME(0), FRAME(0))), SESSION(.listener = &listener)) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f);
	check_int(heard.n_power, ==, 3);
	check(!heard.is_on && vitrine_session_is_off(f->session));
	check(heard.revoked == NULL && heard.n_retired == 0);
	vitrine_frame_release(second);
	while (heard.n_power < 4) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	check(heard.is_on && !vitrine_session_is_off(f->session));
	check(heard.revoked == first && heard.session == f->session);
	check_int(heard.n_retired, ==, 1);
	check_int(heard.retired_index, ==, 0);
}

TEST_WITH(fixture, start_of_a_session_is_waited_for,
		.events = SAY(EVENT(DEPTH, 2), EVENT(OFF))) {
	check_int(vitrine_session_wait_started(f->session, WAIT_MS), ==, 1);
	check(vitrine_session_is_off(f->session));
	check_int(vitrine_session_wait_started(f->session, -1), ==, 1);
}

TEST_WITH(fixture, start_of_a_session_may_not_come) {
	check_int(vitrine_session_wait_started(f->session, 0), ==, 0);
	check_int(vitrine_session_wait_started(f->session, 20), ==, 0);
}

TEST_WITH(fixture, start_of_a_session_that_is_denied, .events = SAY(STOP(DENIED))) {
	check_int(vitrine_session_wait_started(f->session, WAIT_MS), ==, -EACCES);
	check(strstr(vitrine_client_get_error(f->client), "denies") != NULL);
}

static void end_on_release(struct fake_session *session, uint32_t serial) {
	_exit(0);
}

/** What the client says goes out with the call, whether it dispatches or not. */
TEST_WITH(fixture, release_is_sent_at_once,
		SCRIPT(.release = end_on_release, .events = ONE_FRAME)) {
	vitrine_frame_release(next_frame(f));
	struct pollfd pollfd = { .fd = vitrine_client_get_fd(f->client), .events = POLLIN };
	check_int(poll(&pollfd, 1, WAIT_MS), ==, 1);
	check(pollfd.revents & POLLHUP);
}

/* Implicit release */

#define IMPLICIT SESSION(.implicit_release = true)

TEST_WITH(fixture, newest_frame_is_given_with_the_damage_of_those_left_out,
		.events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0), ANNOUNCE(1), FRAME(0),
			EVENT(DAMAGE, 1, 2, 3, 4), FRAME_AT(1, 2, 0, 0), EVENT(DAMAGE, 5, 6, 7, 8),
			FRAME_AT(0, 5, 0, 0)), IMPLICIT) {
	struct vitrine_frame *frame = next_frame(f);
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	check_int(info->serial, ==, 5);
	check_int(info->skipped, ==, 4);
	check_int(info->n_damage, ==, 2);
	check_int(info->damage[0].x + info->damage[1].x, ==, 6);
	check(!vitrine_frame_is_revoked(frame));
	vitrine_frame_release(frame);
}

TEST_WITH(fixture, frame_is_torn_by_the_second_frame_after_it, .script = &fake_animation,
		IMPLICIT) {
	struct vitrine_frame *frames[4];
	for (int i = 0; i < 4; i++) {
		frames[i] = next_frame(f);
	}
	// Nothing was released, and the compositor has gone on
	check(vitrine_frame_is_revoked(frames[0]));
	check(vitrine_frame_is_revoked(frames[1]));
	for (int i = 0; i < 4; i++) {
		vitrine_frame_release(frames[i]);
	}
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(f->session, &stats);
	check_int(stats.revoked, ==, 0);
}

static void send_another_frame(struct fake_session *session) {
	static struct fake_session *first;
	if (first == NULL) {
		first = session;
		fake_say(first, SAY(EVENT(DEPTH, 2), ANNOUNCE(0), ANNOUNCE(1), ANNOUNCE(2)));
	}
	fake_say(first, SAY(FRAME((first->next_serial - 1) % 3)));
}

/** "if no more than one frame event came after that of the frame, what it read is not torn" */
TEST_WITH(fixture, frame_is_not_torn_by_the_first_frame_after_it,
		SCRIPT(.start = send_another_frame), IMPLICIT) {
	struct vitrine_frame *frames[4];
	frames[0] = next_frame(f);
	for (int i = 1; i < 4; i++) {
		struct vitrine_session *another;
		check_int(vitrine_session_create(f->source, NULL, &another), ==, 0);
		frames[i] = next_frame(f);
	}
	check(vitrine_frame_is_revoked(frames[1]));
	check(!vitrine_frame_is_revoked(frames[2]));
	for (int i = 0; i < 4; i++) {
		vitrine_frame_release(frames[i]);
	}
}

#define TWO_RETIRED SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), EVENT(RETIRED, 0), \
	ANNOUNCE(1), FRAME(1), EVENT(RETIRED, 1))

/** Mappings of what the compositor has made. */
static int count_maps(void) {
	FILE *maps = fopen("/proc/self/maps", "re");
	check(maps != NULL);
	char line[512];
	int count = 0;
	while (fgets(line, sizeof(line), maps) != NULL) {
		count += strstr(line, "memfd:fake") != NULL;
	}
	fclose(maps);
	return count;
}

TEST_WITH(fixture, retired_view_is_readable_until_its_frame_is_released, .events = TWO_RETIRED) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f);
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(f->session, &stats);
	check_int(stats.retired, ==, 2);
	check_int(harness_count_fds(), ==, f->n_fds + 2);
	check_int(count_maps(), ==, 2);
	volatile const char *pixels = vitrine_frame_get_pixels(first, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(first);
	check_int(harness_count_fds(), ==, f->n_fds + 1);
	check_int(count_maps(), ==, 1);
	vitrine_frame_release(second);
	check_int(harness_count_fds(), ==, f->n_fds);
	check_int(count_maps(), ==, 0);
}

static void retire_on_second_release(struct fake_session *session, uint32_t serial) {
	if (serial == 1) {
		fake_say(session, SAY(FRAME(0)));
	} else if (serial == 2) {
		fake_say(session, SAY(FRAME(0), FRAME(0), EVENT(RETIRED, 0), ANNOUNCE(1), FRAME(1)));
	}
}

/** The test fails unless this is the open file descriptor of that memory. */
static void check_same_fd(int fd, const struct stat *memory) {
	struct stat st;
	check_ok(fstat(fd, &st));
	check(st.st_ino == memory->st_ino && st.st_dev == memory->st_dev);
}

/** "open until the view has retired [...], and no frame of it is held" */
TEST_WITH(fixture, fd_of_a_view_lives_as_long_as_the_view,
		SCRIPT(.release = retire_on_second_release,
			.events = SAY(EVENT(DEPTH, 3), ANNOUNCE(0), FRAME(0)))) {
	struct vitrine_frame *frame = next_frame(f);
	int fd = vitrine_frame_get_info(frame)->fds[0];
	struct stat memory;
	check_ok(fstat(fd, &memory));
	// While no frame of it is held
	vitrine_frame_release(frame);
	check_same_fd(fd, &memory);
	frame = next_frame(f);
	check_int(vitrine_frame_get_info(frame)->fds[0], ==, fd);
	vitrine_frame_release(frame);
	// After it has retired, with two frames of it held
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f);
	struct vitrine_frame *of_another = next_frame(f);
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(f->session, &stats);
	check_int(stats.retired, ==, 1);
	check_int(vitrine_frame_get_info(second)->fds[0], ==, fd);
	check(vitrine_frame_get_info(of_another)->fds[0] != fd);
	vitrine_frame_release(first);
	check_same_fd(fd, &memory);
	vitrine_frame_release(second);
	check_int(fcntl(fd, F_GETFD), ==, -1);
	vitrine_frame_release(of_another);
	check_int(harness_count_fds(), ==, f->n_fds + 1);
}

static void stop_after_first(struct fake_session *session, uint32_t serial) {
	fake_say(session, SAY(STOP(LOCKED)));
}

/** "or the session has ended" */
TEST_WITH(fixture, fd_of_a_view_outlives_the_session_with_its_frame,
		SCRIPT(.release = stop_after_first,
			.events = SAY(EVENT(DEPTH, 3), ANNOUNCE(0), FRAME(0), FRAME(0)))) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	int fd = vitrine_frame_get_info(second)->fds[0];
	struct stat memory;
	check_ok(fstat(fd, &memory));
	vitrine_frame_release(first);
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &third), ==, -ECANCELED);
	check_same_fd(fd, &memory);
	vitrine_frame_release(second);
	check_int(fcntl(fd, F_GETFD), ==, -1);
}

/** The memory of both planes, which is the same. */
static int share_memory(const struct fake_event *event) {
	static int fd = -1;
	if (fd < 0) {
		fd = fake_memfd((size_t)FAKE_WIDTH * FAKE_HEIGHT * 3 / 2, FAKE_SEALS, O_RDONLY);
	}
	return dup(fd);
}

TEST_WITH(fixture, planes_may_share_memory,
		.events = SAY(EVENT(DEPTH, 2), VIEW(.fourcc = DRM_FORMAT_NV12),
			PLANE_OF(share_memory, .view = { .stride = FAKE_WIDTH }),
			PLANE_OF(share_memory, .values = { 1 },
				.view = { .stride = FAKE_WIDTH,
					.offset = FAKE_WIDTH * FAKE_HEIGHT }),
			EVENT(VIEW_DONE, 0), FRAME(0))) {
	struct vitrine_frame *frame = next_frame(f);
	check_int(vitrine_frame_get_info(frame)->n_planes, ==, 2);
	volatile const char *chroma = vitrine_frame_get_pixels(frame, 1);
	check_int(chroma[FAKE_WIDTH * FAKE_HEIGHT / 2 - 1], ==, 0);
}

/** A client that imports dma-bufs with the first of both_formats. */
#define IMPORTER .storages = VITRINE_STORAGE_DMABUF, .formats = both_formats, .n_formats = 1
#define FOR_DEVICE .storage = VITRINE_STORAGE_DMABUF, \
	.guarantee = VITRINE_GUARANTEE_SNAPSHOT, .modifier = 1

TEST_WITH(fixture, unmapped_views_are_for_those_who_want_them, .fakes_dmabufs = true,
		.events = SAY(LAYOUT(FOR_DEVICE)), SESSION(IMPORTER)) {
	struct vitrine_frame *frame = next_frame(f);
	check(vitrine_frame_get_pixels(frame, 0) == NULL);
	check_int(vitrine_frame_get_info(frame)->fds[0], >=, 0);
}

TEST_WITH(fixture, client_can_go_while_frames_are_held, .script = &fake_animation) {
	next_frame(f);
	next_frame(f);
}

TEST_WITH(fixture, sessions_can_end_with_events_in_flight, .events = TWO_RETIRED) {
	harness_set_timeout(60);
	vitrine_session_destroy(f->session);
	for (int i = 0; i <= 1000; i++) {
		struct vitrine_session *session;
		check_int(vitrine_session_create(f->source, NULL, &session), ==, 0);
		// Sometimes nothing has arrived, sometimes a part, sometimes all. The last one
		// waits, and so sees what was on the way
		struct vitrine_frame *frame;
		if (i % 3 > 0) {
			check_int(vitrine_session_next_frame(session, WAIT_MS, &frame), ==, 1);
		}
		vitrine_session_destroy(session);
	}
	check_int(harness_count_fds(), ==, f->n_fds);
}

/* The end of sessions, said properly or by a lie */

#define END(end, error, text, ...) { #end, { .events = SAY(__VA_ARGS__) }, error, text }
#define TEXT_OF_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TEXT_OF_256 TEXT_OF_64 TEXT_OF_64 TEXT_OF_64 TEXT_OF_64
#define TEXT_OF_513 TEXT_OF_256 TEXT_OF_256 "0"

#define LIE(lie, text, ...) END(lie, -EPERM, text, __VA_ARGS__)

static void check_end(struct fixture *f, int error, const char *text) {
	struct vitrine_frame *frame;
	int ret;
	// What came before the end is good
	while ((ret = vitrine_session_next_frame(f->session, WAIT_MS, &frame)) == 1) {
	}
	check_int(ret, ==, error);
	const char *message = vitrine_client_get_error(f->client);
	if (strstr(message, text) == NULL) {
		harness_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", message, text);
	}
	// It stays ended
	check_int(vitrine_session_next_frame(f->session, -1, &frame), ==, error);
	vitrine_session_destroy(f->session);
	check_int(harness_count_fds(), ==, f->n_fds);
}

static void post_error(struct fake_session *session, const struct fake_event *event) {
	wl_resource_post_error(session->resource, 0, "test");
}

static void close_connection(struct fake_session *session, const struct fake_event *event) {
	wl_client_flush(wl_resource_get_client(session->resource));
	_exit(0);
}

/** Announces memory as something it is not. */
#define MEMORY(plane, ...) \
	EVENT(DEPTH, 1), VIEW(__VA_ARGS__), plane, EVENT(VIEW_DONE, 0), FRAME(0)
#define MEMFD(size, seals, flags) \
	MEMORY(PLANE_OF(make_memfd, .values = { 0, size, seals, flags }))

static int make_memfd(const struct fake_event *event) {
	return fake_memfd(event->values[1], event->values[2], (int)event->values[3]);
}

static int shrinking_memfd = -1;

static int make_shrinking_memfd(const struct fake_event *event) {
	char path[64];
	shrinking_memfd = fake_memfd(FAKE_SIZE, F_SEAL_GROW, O_RDWR);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", shrinking_memfd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void shrink(struct fake_session *session, const struct fake_event *event) {
	check(ftruncate(shrinking_memfd, 0) == 0);
	close(shrinking_memfd);
}

static int open_file(const struct fake_event *event) {
	char path[] = "/tmp/vitrine-fake-XXXXXX";
	int fd = mkstemp(path);
	check(fd >= 0 && ftruncate(fd, (off_t)FAKE_SIZE) == 0);
	int read_only = open(path, O_RDONLY | O_CLOEXEC);
	check(read_only >= 0 && unlink(path) == 0);
	close(fd);
	return read_only;
}

static int open_pipe(const struct fake_event *event) {
	int fds[2];
	check(pipe(fds) == 0);
	close(fds[1]);
	return fds[0];
}

/** What struct fake_view has no value for. */
#define RAW_VIEW(storage, width, height, guarantee) EVENT(DEPTH, 1), \
	EVENT(VIEW, 0, storage, width, height, DRM_FORMAT_XRGB8888, 0, 0, guarantee)
#define MEMFD_VIEW(...) RAW_VIEW(VITRINE_STORAGE_MEMFD, __VA_ARGS__)
#define DMABUF_VIEW(...) RAW_VIEW(VITRINE_STORAGE_DMABUF, __VA_ARGS__)
#define SEALED VITRINE_GUARANTEE_SEALED
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT
#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define DMABUF VITRINE_STORAGE_DMABUF

static void announce_many(struct fake_session *session, const struct fake_event *event) {
	for (uint32_t i = 0; i < event->values[0]; i++) {
		fake_say(session, SAY(ANNOUNCE(i)));
	}
}

static void repeat_serial(struct fake_session *session, const struct fake_event *event) {
	session->next_serial--;
}

TEST_PARAMS(fixture, ends, int error; const char *text) = {
	END(stopped_source_gone, -ENODEV, "does not exist",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), STOP(SOURCE_GONE)),
	END(stopped_denied, -EACCES, "denies", STOP(DENIED)),
	END(stopped_revoked, -ECANCELED, "ended the session", STOP(REVOKED)),
	END(stopped_locked, -ECANCELED, "locked", STOP(LOCKED)),
	END(stopped_no_resources, -ENOMEM, "resources", STOP(NO_RESOURCES)),
	END(stopped_unsupported, -ENOTSUP, "guarantees", STOP(UNSUPPORTED)),
	END(stopped_for_another_reason, -ECANCELED, "ended the session", EVENT(STOPPED, 1000)),
	END(stopped_in_the_middle_of_a_view, -ECANCELED, "locked",
		EVENT(DEPTH, 1), VIEW(), PLANE(0), STOP(LOCKED)),
	// What libwayland reads together with an error is not dispatched any more
	END(protocol_error, -EPROTO, "xx_dmabuf_view_session_v1",
		EVENT(DEPTH, 1), CALL(post_error)),
	END(connection_lost, -EPIPE, "closed the connection", CALL(close_connection)),
	END(connection_lost_in_the_middle_of_a_view, -EPIPE, "closed the connection",
		EVENT(DEPTH, 1), VIEW(), PLANE(0), CALL(close_connection)),
	/* Lies about memory */
	LIE(memfd_that_is_short, "shorter", MEMFD(FAKE_SIZE - 1, FAKE_SEALS, O_RDONLY)),
	LIE(memfd_that_is_empty, "shorter", MEMFD(0, FAKE_SEALS, O_RDONLY)),
	LIE(memfd_without_seals, "not sealed", MEMFD(FAKE_SIZE, 0, O_RDONLY)),
	LIE(memfd_that_can_be_written, "not sealed against writing",
		MEMFD(FAKE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, O_RDONLY)),
	LIE(memfd_that_can_shrink, "not sealed",
		MEMFD(FAKE_SIZE, F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, O_RDONLY)),
	LIE(memfd_that_can_be_sealed, "not sealed",
		MEMFD(FAKE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, O_RDONLY)),
	LIE(memfd_open_for_writing, "O_RDONLY", MEMFD(FAKE_SIZE, FAKE_SEALS, O_RDWR)),
	LIE(memfd_that_shrinks_while_it_is_announced, "not sealed",
		MEMORY(PLANE_OF(make_shrinking_memfd)), CALL(shrink)),
	LIE(file_instead_of_a_memfd, "view 0, plane 0", MEMORY(PLANE_OF(open_file))),
	LIE(file_instead_of_a_dmabuf, "view 0, plane 0", MEMORY(PLANE_OF(open_file),
		.storage = MAPPED, .guarantee = VITRINE_GUARANTEE_FD_READ_ONLY)),
	LIE(memfd_instead_of_a_dmabuf, "view 0, plane 0", MEMORY(PLANE(0),
		.storage = MAPPED, .guarantee = VITRINE_GUARANTEE_GUARDED)),
	LIE(memfd_instead_of_a_copy_in_a_dmabuf, "view 0, plane 0", MEMORY(PLANE(0),
		.storage = MAPPED, .guarantee = VITRINE_GUARANTEE_SNAPSHOT)),
	LIE(pipe_instead_of_a_memfd, "view 0, plane 0", MEMORY(PLANE_OF(open_pipe))),
	/* Lies about the layout */
	LIE(stride_that_is_too_small, "offset and stride", LAYOUT(.stride = FAKE_WIDTH * 4 - 1)),
	LIE(stride_that_leaves_the_memory, "shorter", LAYOUT(.stride = FAKE_WIDTH * 4 + 1)),
	// 0x08000000 * 32 is 0 in 32 bits
	LIE(stride_that_overflows_32_bits, "shorter", LAYOUT(.stride = 0x08000000)),
	LIE(offset_that_leaves_the_memory, "shorter", LAYOUT(.offset = 1)),
	LIE(offset_that_overflows_32_bits, "shorter", LAYOUT(.offset = UINT32_MAX)),
	LIE(largest_values_there_are, "out of range", LAYOUT(.width = UINT32_MAX,
		.height = UINT32_MAX, .offset = UINT32_MAX, .stride = UINT32_MAX)),
	LIE(width_that_overflows_the_stride, "out of range",
		LAYOUT(.width = 0x40000001, .stride = 4)),
	LIE(width_of_zero, "out of range", MEMFD_VIEW(0, 1, SEALED)),
	LIE(height_of_zero, "out of range", MEMFD_VIEW(1, 0, SEALED)),
	LIE(guarantee_of_zero, "exactly one", MEMFD_VIEW(1, 1, 0)),
	LIE(two_guarantees, "exactly one", MEMFD_VIEW(1, 1, SEALED | SNAPSHOT)),
	LIE(unknown_guarantee, "exactly one", MEMFD_VIEW(1, 1, 1 << 4)),
	LIE(storage_of_zero, "exactly one known storage", RAW_VIEW(0, 1, 1, SEALED)),
	LIE(unknown_storage, "exactly one known storage", RAW_VIEW(8, 1, 1, SEALED)),
	LIE(two_storages, "exactly one known storage", RAW_VIEW(3, 1, 1, SEALED)),
	LIE(storage_that_was_not_asked_for, "its storage was not asked for", DMABUF_VIEW(1, 1, SNAPSHOT)),
	LIE(sealed_dmabuf, "does not fit its guarantee", DMABUF_VIEW(1, 1, SEALED)),
	LIE(sealed_dmabuf_that_is_mapped, "does not fit its guarantee",
		RAW_VIEW(MAPPED, 1, 1, SEALED)),
	LIE(guarded_memfd, "does not fit its guarantee", MEMFD_VIEW(1, 1, GUARDED)),
	LIE(fd_read_only_memfd, "does not fit its guarantee", MEMFD_VIEW(1, 1, FD_READ_ONLY)),
	END(format_that_is_unknown, -ENOTSUP, "format or modifier", LAYOUT(.fourcc = 0x20202020)),
	END(modifier_that_is_not_linear, -ENOTSUP, "format or modifier", LAYOUT(.modifier = 1)),
	END(modifier_that_is_invalid, -ENOTSUP, "format or modifier",
		LAYOUT(.modifier = DRM_FORMAT_MOD_INVALID)),
	{ "format_that_was_not_asked_for", { .events = SAY(LAYOUT(.storage = DMABUF,
		.guarantee = SNAPSHOT)), SESSION(IMPORTER) }, -EPERM, "format or modifier was not" },
	{ "modifier_that_was_not_asked_for", { .events = SAY(LAYOUT(.storage = DMABUF,
		.guarantee = SNAPSHOT, .modifier = 2)), SESSION(IMPORTER) },
		-EPERM, "format or modifier was not" },
	{ "memfd_instead_of_what_a_device_imports", { .events = SAY(LAYOUT(.storage = DMABUF,
		.guarantee = SNAPSHOT, .modifier = 1)), SESSION(IMPORTER) },
		-EPERM, "not of the storage" },
	{ "unmapped_views_are_checked_too",
		{ .events = SAY(LAYOUT(FOR_DEVICE, .stride = FAKE_WIDTH * 4 + 1)),
			SESSION(IMPORTER), .fakes_dmabufs = true }, -EPERM, "shorter" },
	{ "guarantee_that_was_not_accepted",
		{ .events = ONE_FRAME, SESSION(.acceptable = SNAPSHOT) }, -EPERM, "not accepted" },
	/* Lies about planes */
	LIE(plane_that_is_repeated, "out of order", EVENT(DEPTH, 1), VIEW(), PLANE(0), PLANE(0)),
	LIE(plane_that_is_left_out, "out of order", EVENT(DEPTH, 1), VIEW(), PLANE(1)),
	LIE(plane_that_the_format_does_not_have, "offset and stride",
		EVENT(DEPTH, 1), VIEW(), PLANE(0), PLANE(1)),
	LIE(plane_without_a_view, "out of order", EVENT(DEPTH, 1), PLANE(0)),
	LIE(plane_after_the_view_is_done, "out of order", EVENT(DEPTH, 1), ANNOUNCE(0), PLANE(1)),
	LIE(plane_of_another_view, "out of order",
		EVENT(DEPTH, 1), VIEW(.index = 1), PLANE(0, .index = 2)),
	LIE(plane_with_a_large_index, "out of order", EVENT(DEPTH, 1), VIEW(), PLANE(UINT32_MAX)),
	{ "fifth_plane",
		{ .events = SAY(EVENT(DEPTH, 1), VIEW(FOR_DEVICE),
			PLANE(0), PLANE(1), PLANE(2), PLANE(3), PLANE(4)),
			SESSION(IMPORTER), .fakes_dmabufs = true }, -EPERM, "too many planes" },
	LIE(device_of_a_memfd, "device of view", EVENT(DEPTH, 1), VIEW(), DEVICE(0, 8, 1)),
	LIE(device_without_a_view, "device of view", EVENT(DEPTH, 1), DEVICE(0, 8, 1)),
	LIE(device_of_another_view, "device of view", EVENT(DEPTH, 1),
		VIEW(.storage = MAPPED, .guarantee = GUARDED), DEVICE(1, 8, 1)),
	LIE(device_that_is_no_dev_t, "device of view", EVENT(DEPTH, 1),
		VIEW(.storage = MAPPED, .guarantee = GUARDED), DEVICE(0, 4, 1)),
	LIE(device_of_no_bytes, "device of view", EVENT(DEPTH, 1),
		VIEW(.storage = MAPPED, .guarantee = GUARDED), DEVICE(0, 0, 0)),
	LIE(device_twice, "device of view", EVENT(DEPTH, 1),
		VIEW(.storage = MAPPED, .guarantee = GUARDED), DEVICE(0, 8, 1), DEVICE(0, 8, 1)),
	LIE(view_without_planes, "lacks a plane", EVENT(DEPTH, 1), VIEW(), EVENT(VIEW_DONE, 0)),
	LIE(view_with_half_of_its_planes, "lacks a plane",
		EVENT(DEPTH, 1), VIEW(.fourcc = DRM_FORMAT_NV12), PLANE(0), EVENT(VIEW_DONE, 0)),
	/* Lies about the order of events */
	LIE(depth_of_zero, "depth", EVENT(DEPTH, 0)),
	LIE(depth_beyond_reason, "depth", EVENT(DEPTH, UINT32_MAX)),
	LIE(second_depth, "second depth", EVENT(DEPTH, 2), EVENT(DEPTH, 2)),
	LIE(view_before_depth, "out of order", ANNOUNCE(0)),
	LIE(view_within_a_view, "out of order",
		EVENT(DEPTH, 2), VIEW(.index = 1), VIEW(.index = 2)),
	LIE(view_that_is_repeated, "again", EVENT(DEPTH, 2), ANNOUNCE(3), ANNOUNCE(3)),
	LIE(view_done_without_a_view, "out of order", EVENT(DEPTH, 2), EVENT(VIEW_DONE, 0)),
	LIE(view_done_of_another_view, "out of order",
		EVENT(DEPTH, 2), VIEW(), PLANE(0), EVENT(VIEW_DONE, 1)),
	LIE(views_without_end, "too many views", EVENT(DEPTH, 2), CALL(announce_many, 100)),
	LIE(frame_of_an_unknown_view, "view is unknown", EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(1)),
	LIE(frame_of_a_retired_view, "view is unknown",
		EVENT(DEPTH, 2), ANNOUNCE(0), EVENT(RETIRED, 0), FRAME(0)),
	LIE(frame_of_a_retired_view_that_is_held, "view is unknown",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), EVENT(RETIRED, 0), FRAME(0)),
	LIE(frame_of_an_unfinished_view, "out of order",
		EVENT(DEPTH, 2), VIEW(), PLANE(0), FRAME(0)),
	LIE(more_frames_than_depth, "depth allows",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), FRAME(0), FRAME(0)),
	LIE(serial_that_is_repeated, "serial",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), CALL(repeat_serial), FRAME(0)),
	LIE(serial_of_zero, "serial cannot be",
		EVENT(DEPTH, 2), ANNOUNCE(0), EVENT(TRANSFORM, 0), FRAME_AT(0, 0, 0, 1)),
	LIE(serial_of_zero_after_the_first, "serial cannot be",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), FRAME_AT(0, 0, 0, 1)),
	LIE(first_serial_that_is_not_one, "serial cannot be",
		EVENT(DEPTH, 2), ANNOUNCE(0), EVENT(TRANSFORM, 0), FRAME_AT(0, 2, 0, 1)),
	LIE(frame_without_transform, "transform is missing",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME_AT(0, 1, 0, 1)),
	LIE(transform_that_is_unknown, "transform", EVENT(DEPTH, 2), EVENT(TRANSFORM, 8)),
	LIE(time_with_too_many_nanoseconds, "time is invalid", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(TRANSFORM, 0), FRAME_AT(0, 1, 0, 1000000000)),
	LIE(time_beyond_reason, "time is invalid", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(TRANSFORM, 0), FRAME_AT(0, 1, UINT32_MAX, 1)),
	LIE(damage_after_transform, "out of order",
		EVENT(DEPTH, 2), EVENT(TRANSFORM, 0), EVENT(DAMAGE, 0, 0, 1, 1)),
	LIE(transform_after_fence, "out of order", EVENT(DEPTH, 2), FENCE(), EVENT(TRANSFORM, 0)),
	LIE(transform_twice, "out of order",
		EVENT(DEPTH, 2), EVENT(TRANSFORM, 0), EVENT(TRANSFORM, 0)),
	LIE(view_between_damage_and_frame, "out of order",
		EVENT(DEPTH, 2), EVENT(DAMAGE, 0, 0, 1, 1), ANNOUNCE(0)),
	LIE(retired_between_damage_and_frame, "out of order", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(DAMAGE, 0, 0, 1, 1), EVENT(RETIRED, 0)),
	LIE(retired_within_a_view, "out of order", EVENT(DEPTH, 2), ANNOUNCE(0),
		VIEW(.index = 1), EVENT(RETIRED, 0)),
	LIE(revoked_between_transform_and_frame, "out of order", EVENT(DEPTH, 2), ANNOUNCE(0),
		FRAME(0), EVENT(TRANSFORM, 0), EVENT(REVOKED, 1)),
	LIE(off_between_transform_and_frame, "out of order", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(TRANSFORM, 0), EVENT(OFF)),
	LIE(explanation_before_depth, "out of order", EXPLANATION("memfd")),
	LIE(explanation_between_transform_and_frame, "out of order", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(TRANSFORM, 0), EXPLANATION("memfd")),
	LIE(explanation_that_is_too_long, "too long", EVENT(DEPTH, 2), EXPLANATION(TEXT_OF_513)),
	LIE(off_before_depth, "out of order", EVENT(OFF)),
	LIE(off_twice, "out of order", EVENT(DEPTH, 2), EVENT(OFF), EVENT(OFF)),
	LIE(on_without_off, "out of order", EVENT(DEPTH, 2), EVENT(ON)),
	LIE(fence_for_a_memfd, "its memory is no dma-buf", EVENT(DEPTH, 2), ANNOUNCE(0),
		EVENT(TRANSFORM, 0), FENCE(), FRAME_AT(0, 1, 0, 1)),
	LIE(two_fences, "out of order", EVENT(DEPTH, 2), FENCE(), FENCE()),
	LIE(fence_before_depth, "out of order", FENCE()),
	{ "frame_revoked_that_is_released_by_later_ones",
		{ .events = SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), EVENT(REVOKED, 1)),
			SESSION(.implicit_release = true) }, -EPERM, "not held" },
	LIE(retired_view_that_is_unknown, "unknown view", EVENT(DEPTH, 2), EVENT(RETIRED, 0)),
	LIE(view_retired_twice, "unknown view",
		EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0), EVENT(RETIRED, 0), EVENT(RETIRED, 0)),
	// What follows the lie in the same breath is neither believed nor leaked
	LIE(file_descriptors_after_the_end, "depth", EVENT(DEPTH, 0), CALL(announce_many, 20)),
};

TEST_WITH_EACH(fixture, ends, session_ends) {
	check_end(f, param->error, param->text);
}

TEST_WITH(fixture, guarantee_that_was_accepted, .events = ONE_FRAME,
		SESSION(.acceptable = SEALED)) {
	next_frame(f);
}

static void lie_on_release(struct fake_session *session, uint32_t serial) {
	fake_say(session, SAY(FRAME(99)));
}

TEST_WITH(fixture, frames_that_are_held_outlive_the_end,
		SCRIPT(.events = TWO_RETIRED, .release = lie_on_release)) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	vitrine_frame_release(first);
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &third), ==, -EPERM);
	volatile const char *pixels = vitrine_frame_get_pixels(second, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(second);
	check_int(harness_count_fds(), ==, f->n_fds);
}

TEST_WITH(fixture, frame_may_be_torn_after_a_lie,
		SCRIPT(.events = TWO_RETIRED, .release = lie_on_release)) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	check(!vitrine_frame_is_revoked(second));
	vitrine_frame_release(first);
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &third), ==, -EPERM);
	check(vitrine_frame_is_revoked(second));
}

static void stop_on_release(struct fake_session *session, uint32_t serial) {
	fake_say(session, SAY(EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_LOCKED)));
}

TEST_WITH(fixture, frame_is_as_it_was_after_the_compositor_has_stopped_the_session,
		SCRIPT(.events = TWO_RETIRED, .release = stop_on_release)) {
	struct vitrine_frame *first = next_frame(f), *second = next_frame(f), *third;
	vitrine_frame_release(first);
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &third), ==, -ECANCELED);
	check(!vitrine_frame_is_revoked(second));
}

TEST_WITH(fixture, other_sessions_go_on_after_a_lie,
		SCRIPT(.events = ONE_FRAME, .release = lie_on_release)) {
	struct vitrine_session *other;
	struct vitrine_frame *frame;
	check_int(vitrine_session_create(f->source, NULL, &other), ==, 0);
	vitrine_frame_release(next_frame(f));
	check_int(vitrine_session_next_frame(f->session, WAIT_MS, &frame), ==, -EPERM);
	check_int(vitrine_session_next_frame(other, WAIT_MS, &frame), ==, 1);
	volatile const char *pixels = vitrine_frame_get_pixels(frame, 0);
	check_int(pixels[0], ==, 0);
}

static void flood(struct fake_session *session, const struct fake_event *event) {
	struct wl_client *client = wl_resource_get_client(session->resource);
	struct pollfd pollfd = { .fd = wl_client_get_fd(client), .events = POLLOUT };
	while (poll(&pollfd, 1, WAIT_MS) == 1 && pollfd.revents == POLLOUT) {
		for (int i = 0; i < 100; i++) {
			xx_dmabuf_view_session_v1_send_damage(session->resource, 0, 0, 1, 1);
		}
		wl_client_flush(client);
	}
}

TEST_WITH(fixture, flood_of_events_does_not_hold_up_the_timeout,
		.events = SAY(EVENT(DEPTH, 1), CALL(flood))) {
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(f->session, 100, &frame), ==, 0);
}

/* dma-bufs */

/** Zeroed memory, O_RDONLY from the beginning. */
static int make_dmabuf(const struct fake_event *event) {
	int heap = open(HEAP, O_RDONLY | O_CLOEXEC);
	struct dma_heap_allocation_data data = {
		.len = FAKE_SIZE, .fd_flags = O_RDONLY | O_CLOEXEC,
	};
	check_ok(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data));
	close(heap);
	return (int)data.fd;
}

static int fence_writer = -1;

/** All that the client does with a fence is to poll it. */
static void send_pipe_as_fence(struct fake_session *session, const struct fake_event *event) {
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	xx_dmabuf_view_session_v1_send_fence(session->resource, fds[0]);
	close(fds[0]);
	fence_writer = fds[1];
}

static void skip_serial(struct fake_session *session, const struct fake_event *event) {
	session->next_serial++;
}

static void signal_fence(struct fake_session *session, uint32_t serial) {
	if (serial == 2) {
		usleep(200000);
		check(write(fence_writer, "x", 1) == 1);
	}
}

/** A frame of a dma-buf with a fence. */
#define FENCED(...) EVENT(DEPTH, 2), \
	VIEW(.storage = MAPPED, .guarantee = FD_READ_ONLY), PLANE_OF(make_dmabuf), \
	EVENT(VIEW_DONE, 0), EVENT(TRANSFORM, 0), __VA_ARGS__, FRAME_AT(0, 1, 0, 0)

TEST_WITH(fixture, dmabuf_has_its_device, .needs_dmabufs = true,
		.events = SAY(EVENT(DEPTH, 2), VIEW(.storage = MAPPED, .guarantee = FD_READ_ONLY),
			DEVICE(0, sizeof(dev_t), 0xe280), PLANE_OF(make_dmabuf), EVENT(VIEW_DONE, 0),
			FRAME(0))) {
	struct vitrine_frame *frame = next_frame(f);
	check_int(vitrine_frame_get_info(frame)->device, ==, 0xe280);
	check(vitrine_frame_get_pixels(frame, 0) != NULL);
}

TEST_WITH(fixture, dmabuf_for_a_device_is_not_mapped, .needs_dmabufs = true,
		.events = SAY(EVENT(DEPTH, 2), VIEW(.storage = DMABUF, .guarantee = SNAPSHOT,
			.modifier = 1), PLANE_OF(make_dmabuf), EVENT(VIEW_DONE, 0), FRAME(0)),
		SESSION(IMPORTER)) {
	struct vitrine_frame *frame = next_frame(f);
	check(vitrine_frame_get_pixels(frame, 0) == NULL);
	check_int(vitrine_frame_get_info(frame)->fds[0], >=, 0);
	check_int(vitrine_frame_get_info(frame)->modifier, ==, 1);
	check(!vitrine_frame_is_revoked(frame));
}

TEST_WITH(fixture, dmabuf_for_a_device_is_checked_too, .needs_dmabufs = true,
		.events = SAY(EVENT(DEPTH, 2), VIEW(.storage = DMABUF, .guarantee = SNAPSHOT,
			.modifier = 1), PLANE_OF(make_dmabuf, .view = { .stride = FAKE_WIDTH * 4 + 1 })),
		SESSION(IMPORTER)) {
	check_end(f, -EPERM, "shorter");
}

TEST_WITH(fixture, dmabuf_has_at_most_four_planes, .needs_dmabufs = true,
		.events = SAY(EVENT(DEPTH, 2), VIEW(.storage = DMABUF, .guarantee = SNAPSHOT,
			.modifier = 1), PLANE_OF(make_dmabuf), PLANE_OF(make_dmabuf, .values = { 1 }),
			PLANE_OF(make_dmabuf, .values = { 2 }), PLANE_OF(make_dmabuf, .values = { 3 }),
			PLANE_OF(make_dmabuf, .values = { 4 })), SESSION(IMPORTER)) {
	check_end(f, -EPERM, "too many planes");
}

TEST_WITH(fixture, fence_is_waited_for, .needs_dmabufs = true,
		SCRIPT(.release = signal_fence, .events = SAY(FENCED(CALL(send_pipe_as_fence)),
			// The second frame has no fence, and waits for its turn
			CALL(skip_serial), FRAME(0), EVENT(REVOKED, 2), FRAME(0)))) {
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(f->session, 50, &frame), ==, 0);
	frame = next_frame(f);
	check_int(vitrine_frame_get_info(frame)->serial, ==, 1);
	check_int(vitrine_frame_get_info(frame)->storage, ==, MAPPED);
	volatile const char *pixels = vitrine_frame_get_pixels(frame, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(frame);
	frame = next_frame(f);
	check_int(vitrine_frame_get_info(frame)->serial, ==, 3);
	vitrine_frame_release(frame);
}

TEST_WITH(fixture, fence_that_is_none, .needs_dmabufs = true, .events = SAY(FENCED(FENCE()))) {
	check_end(f, -EPERM, "no fence");
}

/* Allocations that fail */

/** The n-th allocation of the library fails; 0 for none. Counts down. */
static int failing_allocation;

static bool allocation_fails(void) {
	return failing_allocation > 0 && --failing_allocation == 0;
}

#define CAN_FAIL(type, name, parameters, arguments) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters { \
		return allocation_fails() ? NULL : __real_##name arguments; \
	}

CAN_FAIL(void *, malloc, (size_t size), (size))
CAN_FAIL(void *, calloc, (size_t n, size_t size), (n, size))
CAN_FAIL(void *, realloc, (void *pointer, size_t size), (pointer, size))
CAN_FAIL(char *, strdup, (const char *string), (string))

static int take_two_frames(struct vitrine_source *source) {
	const struct vitrine_session_options options = {
		.storages = VITRINE_STORAGE_ALL, .formats = both_formats, .n_formats = 2 };
	struct vitrine_session *session;
	int ret = vitrine_session_create(source, &options, &session);
	for (int i = 0; ret == 0 && i < 2; i++) {
		struct vitrine_frame *frame;
		ret = vitrine_session_next_frame(session, WAIT_MS, &frame);
		if (ret == 1) {
			vitrine_frame_release(frame);
			ret = 0;
		}
	}
	return ret;
}

/** Connects and takes frames of an output and a window with the n-th allocation failing. */
static int use_everything(const struct fake_script *script, pid_t *pid, int n) {
	struct vitrine_client *client = NULL;
	int fd = fake_start(script, pid);
	failing_allocation = n;
	int ret = vitrine_client_connect_to_fd(fd, &client, NULL);
	struct vitrine_output *output = ret == 0 ? vitrine_client_find_output(client, NULL) : NULL;
	if (ret == 0) {
		ret = output == NULL ? -ENOMEM : take_two_frames(vitrine_output_get_source(output));
	}
	ret = ret == 0 ? vitrine_client_follow_toplevels(client, WAIT_MS) : ret;
	if (ret == 0) {
		// One that cannot be had is not there, and is whole otherwise, but for its texts
		size_t len;
		struct vitrine_toplevel *const *toplevels = vitrine_client_get_toplevels(client, &len);
		check_int(len, <=, 1);
		ret = len == 0 ? -ENOMEM : take_two_frames(vitrine_toplevel_get_source(toplevels[0]));
		if (len == 1) {
			const char *title = vitrine_toplevel_get_title(toplevels[0]);
			check_str(vitrine_toplevel_get_identifier(toplevels[0]), "1");
			check(title[0] == '\0' || strcmp(title, "one") == 0);
		}
	}
	vitrine_client_destroy(client);
	return ret;
}

TEST(allocations_that_fail) {
	harness_set_timeout(60);
	static const struct fake_window windows[] = { { "1", "org.app", "one" }, { 0 } };
	const struct fake_script script = { .events = TWO_RETIRED, .windows = windows,
		.xdg_output_version = 3 };
	int n_fds = harness_count_fds();
	int n_failures = 0;
	bool reached = true;
	for (int n = 1; reached; n++) {
		check_int(n, <, 1000);
		pid_t pid;
		int ret = use_everything(&script, &pid, n);
		reached = failing_allocation == 0;
		failing_allocation = 0;
		check(fake_wait(pid));
		check_int(harness_count_fds(), ==, n_fds);
		// A name that cannot be copied is no reason to fail
		check(ret == 0 || ret == -ENOMEM);
		check(reached || ret == 0);
		n_failures += ret == -ENOMEM;
	}
	if (n_failures == 0) {
		harness_skip("the library is not linked in with --wrap");
	}
	check_int(n_failures, >=, 5);
}
