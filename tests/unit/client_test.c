/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vitrine-client/client.h>

#include "fake_compositor.h"
#include "harness.h"
#include "xx-dmabuf-view-v1-protocol.h"

/*
 * The client library against a compositor that does what a script says. An
 * honest one comes first, then one that lies: nothing may leak, nothing may
 * crash, and the session ends with an error that says what was wrong.
 */

#define WAIT_MS 5000

struct fixture {
	pid_t pid;
	struct vitrine_client *client;
	struct vitrine_session *session;
	int n_fds; // open before anything was announced
};

static void fixture_init(struct fixture *fixture, const struct fake_script *script,
		const struct vitrine_session_options *options) {
	*fixture = (struct fixture){0};
	int fd = fake_start(script, &fixture->pid);
	char *error = NULL;
	int ret = vitrine_client_connect_to_fd(fd, &fixture->client, &error);
	check_int(ret, ==, 0);
	check(error == NULL);
	struct vitrine_output *output = vitrine_client_find_output(fixture->client, "FAKE-1");
	check(output != NULL);
	ret = vitrine_session_create(fixture->client, output, options, &fixture->session);
	check_int(ret, ==, 0);
	fixture->n_fds = harness_count_fds();
}

static void fixture_finish(struct fixture *fixture) {
	vitrine_client_destroy(fixture->client);
	check(fake_wait(fixture->pid));
}

static struct vitrine_frame *next_frame(struct fixture *fixture) {
	struct vitrine_frame *frame;
	int ret = vitrine_session_next_frame(fixture->session, WAIT_MS, &frame);
	if (ret != 1) {
		harness_fail(__FILE__, __LINE__, "no frame: %d, %s", ret,
			vitrine_client_get_error(fixture->client));
	}
	return frame;
}

/* The truth */

static void send_depth(struct fake_session *session, uint32_t depth) {
	xx_dmabuf_view_session_v1_send_depth(session->resource, depth);
}

static void send_one_frame(struct fake_session *session) {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
}

TEST(connect_learns_outputs_and_guarantees) {
	const struct fake_script script = { .guarantees = VITRINE_GUARANTEE_SEALED };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	size_t len;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(fixture.client, &len);
	check_int(len, ==, 1);
	check_str(vitrine_output_get_name(outputs[0]), "FAKE-1");
	check_str(vitrine_output_get_description(outputs[0]), "a fake output");
	int32_t width, height, refresh;
	vitrine_output_get_mode(outputs[0], &width, &height, &refresh);
	check_int(width, ==, FAKE_WIDTH);
	check_int(height, ==, FAKE_HEIGHT);
	check_int(refresh, ==, 60000);
	check(!vitrine_output_is_gone(outputs[0]));
	check(vitrine_client_find_output(fixture.client, NULL) == outputs[0]);
	check(vitrine_client_find_output(fixture.client, "nope") == NULL);
	check_int(vitrine_client_get_guarantees(fixture.client), ==, VITRINE_GUARANTEE_SEALED);
	fixture_finish(&fixture);
}

static void send_painted_frame(struct fake_session *session) {
	send_depth(session, 2);
	int fd = memfd_create("painted", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char *bytes = malloc(FAKE_SIZE + 8192);
	for (size_t i = 0; i < FAKE_SIZE + 8192; i++) {
		bytes[i] = (char)(i * 7);
	}
	check(write(fd, bytes, FAKE_SIZE + 8192) == (ssize_t)FAKE_SIZE + 8192);
	free(bytes);
	check(fcntl(fd, F_ADD_SEALS, FAKE_SEALS) == 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	// An offset within a page, and a stride with padding
	struct fake_view view = { .index = 7, .offset = 100, .stride = FAKE_WIDTH * 4 + 12 };
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, open(path, O_RDONLY | O_CLOEXEC));
	close(fd);
	fake_send_view_done(session, 7);
	xx_dmabuf_view_session_v1_send_damage(session->resource, 1, 2, 3, 4);
	fake_send_frame(session, 7);
}

TEST(frame_has_its_description_and_pixels) {
	const struct fake_script script = { .start = send_painted_frame };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *frame = next_frame(&fixture);
	check_int(vitrine_session_get_depth(fixture.session), ==, 2);
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
	fixture_finish(&fixture);
}

TEST(steady_state_has_no_fds) {
	struct fixture fixture;
	fixture_init(&fixture, &fake_animation, NULL);
	uint32_t last_serial = 0;
	for (int i = 0; i < 60; i++) {
		struct vitrine_frame *frame = next_frame(&fixture);
		check_int(vitrine_frame_get_info(frame)->serial, >, last_serial);
		last_serial = vitrine_frame_get_info(frame)->serial;
		vitrine_frame_release(frame);
	}
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(fixture.session, &stats);
	check_int(stats.frames, ==, 60);
	check_int(stats.views, <=, 3);
	check_int(stats.fds, ==, stats.views);
	check_int(stats.planes, ==, stats.views);
	check_int(harness_count_fds(), ==, fixture.n_fds + (int)stats.views);
	fixture_finish(&fixture);
}

TEST(held_frames_make_later_ones_skipped) {
	struct fixture fixture;
	fixture_init(&fixture, &fake_animation, NULL);
	struct vitrine_frame *first = next_frame(&fixture), *second = next_frame(&fixture), *third;
	check_int(vitrine_session_next_frame(fixture.session, 100, &third), ==, 0);
	check(third == NULL);
	vitrine_frame_release(first);
	third = next_frame(&fixture);
	check_int(vitrine_frame_get_info(third)->skipped, >, 0);
	vitrine_frame_release(second);
	vitrine_frame_release(third);
	fixture_finish(&fixture);
}

TEST(next_frame_does_not_wait_without_a_timeout) {
	const struct fake_script script = {0};
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(fixture.session, 0, &frame), ==, 0);
	check_int(vitrine_session_next_frame(fixture.session, 20, &frame), ==, 0);
	check_int(vitrine_session_get_depth(fixture.session), ==, 0);
	fixture_finish(&fixture);
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

TEST(signals_end_waiting) {
	const struct fake_script script = {0};
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	send_signal_soon();
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(fixture.session, -1, &frame), ==, -EINTR);
	check_int(vitrine_client_dispatch(fixture.client, -1), ==, -EINTR);
	vitrine_client_destroy(fixture.client);
	signal(SIGUSR1, SIG_IGN);
	check(fake_wait(fixture.pid));
}

TEST(signals_end_connecting_to_a_mute_compositor) {
	const struct fake_script script = { .mute = true };
	pid_t pid;
	int fd = fake_start(&script, &pid);
	send_signal_soon();
	struct vitrine_client *client;
	char *error = NULL;
	check_int(vitrine_client_connect_to_fd(fd, &client, &error), ==, -EINTR);
	check(client == NULL && error != NULL);
	free(error);
	signal(SIGUSR1, SIG_IGN);
	check(fake_wait(pid));
}

TEST(no_compositor) {
	struct vitrine_client *client;
	char *error = NULL;
	check_int(vitrine_client_connect("nope", &client, &error), ==, -ENOENT);
	check(client == NULL && strstr(error, "nope") != NULL);
	free(error);
	check_int(vitrine_client_connect("nope", &client, NULL), ==, -ENOENT);
}

static void expect_missing(const struct fake_script *script, const char *interface) {
	pid_t pid;
	int fd = fake_start(script, &pid);
	struct vitrine_client *client;
	char *error = NULL;
	check_int(vitrine_client_connect_to_fd(fd, &client, &error), ==, -EPROTONOSUPPORT);
	check(client == NULL && strstr(error, interface) != NULL);
	free(error);
	check(fake_wait(pid));
}

TEST(compositor_without_the_protocol) {
	expect_missing(&(struct fake_script){ .no_manager = true }, "xx_dmabuf_view_manager_v1");
	expect_missing(&(struct fake_script){ .no_source_manager = true },
		"ext_output_image_capture_source_manager_v1");
}

TEST(output_that_is_gone_cannot_be_captured) {
	const struct fake_script script = { .remove_output = true };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	check_int(vitrine_client_dispatch(fixture.client, WAIT_MS), ==, 1);
	size_t len;
	struct vitrine_output *output = vitrine_client_get_outputs(fixture.client, &len)[0];
	check(vitrine_output_is_gone(output));
	check_str(vitrine_output_get_name(output), "FAKE-1");
	check(vitrine_client_find_output(fixture.client, NULL) == NULL);
	struct vitrine_session *session;
	check_int(vitrine_session_create(fixture.client, output, NULL, &session), ==, -ENODEV);
	check(session == NULL);
	fixture_finish(&fixture);
}

static void check_options(struct fake_session *session) {
	bool ok = session->options == XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS &&
		session->acceptable == (VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_GUARDED);
	send_depth(session, ok ? 3 : 1);
}

TEST(options_are_passed_on) {
	const struct fake_script script = { .start = check_options };
	const struct vitrine_session_options options = {
		.acceptable = VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_GUARDED,
		.paint_cursors = true,
	};
	struct fixture fixture;
	fixture_init(&fixture, &script, &options);
	while (vitrine_session_get_depth(fixture.session) == 0) {
		check_int(vitrine_client_dispatch(fixture.client, WAIT_MS), ==, 1);
	}
	check_int(vitrine_session_get_depth(fixture.session), ==, 3);
	struct vitrine_session *session;
	const struct vitrine_session_options unknown = { .acceptable = 1 << 4 };
	check_int(vitrine_session_create(fixture.client,
		vitrine_client_find_output(fixture.client, NULL), &unknown, &session), ==, -EINVAL);
	fixture_finish(&fixture);
}

static void send_odd_damage(struct fake_session *session) {
	send_depth(session, 2);
	fake_announce(session, 0);
	struct wl_resource *resource = session->resource;
	xx_dmabuf_view_session_v1_send_damage(resource, 60, 30, 100, 100);
	xx_dmabuf_view_session_v1_send_damage(resource, 64, 0, 1, 1); // outside
	xx_dmabuf_view_session_v1_send_damage(resource, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
	xx_dmabuf_view_session_v1_send_damage(resource, 1, 1, UINT32_MAX, UINT32_MAX);
	xx_dmabuf_view_session_v1_send_damage(resource, 5, 5, 0, 5); // empty
	fake_send_frame(session, 0);
}

TEST(damage_is_clipped_to_the_buffer) {
	const struct fake_script script = { .start = send_odd_damage };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	const struct vitrine_frame_info *info = vitrine_frame_get_info(next_frame(&fixture));
	check_int(info->n_damage, ==, 2);
	check_int(info->damage[0].x, ==, 60);
	check_int(info->damage[0].width, ==, 4);
	check_int(info->damage[0].height, ==, 2);
	check_int(info->damage[1].x, ==, 1);
	check_int(info->damage[1].width, ==, FAKE_WIDTH - 1);
	check_int(info->damage[1].height, ==, FAKE_HEIGHT - 1);
	fixture_finish(&fixture);
}

static void send_much_damage(struct fake_session *session) {
	send_depth(session, 2);
	fake_announce(session, 0);
	for (uint32_t i = 0; i < 5000; i++) {
		xx_dmabuf_view_session_v1_send_damage(session->resource, i % FAKE_WIDTH,
			i % FAKE_HEIGHT, 1, 1);
	}
	fake_send_frame(session, 0);
}

TEST(damage_is_bounded_and_covers_all) {
	const struct fake_script script = { .start = send_much_damage };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	const struct vitrine_frame_info *info = vitrine_frame_get_info(next_frame(&fixture));
	check_int(info->n_damage, <=, 256);
	const struct vitrine_rect *last = &info->damage[info->n_damage - 1];
	check_int(last->x, ==, 0);
	check_int(last->y, ==, 0);
	check_int(last->width, ==, FAKE_WIDTH);
	check_int(last->height, ==, FAKE_HEIGHT);
	fixture_finish(&fixture);
}

static void send_revoked(struct fake_session *session) {
	send_depth(session, 2);
	fake_announce(session, 0);
	uint32_t unseen = fake_send_frame(session, 0);
	xx_dmabuf_view_session_v1_send_revoked(session->resource, unseen);
	fake_send_frame(session, 0);
	fake_send_frame(session, 0);
}

static void revoke_other(struct fake_session *session, uint32_t serial) {
	if (serial == 2) {
		xx_dmabuf_view_session_v1_send_revoked(session->resource, 2); // crosses the release
		xx_dmabuf_view_session_v1_send_revoked(session->resource, 3);
	}
}

TEST(revoked_frames_are_dropped_or_marked) {
	const struct fake_script script = { .start = send_revoked, .release = revoke_other };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *second = next_frame(&fixture), *third = next_frame(&fixture);
	check_int(vitrine_frame_get_info(second)->serial, ==, 2);
	check(!vitrine_frame_is_revoked(third));
	vitrine_frame_release(second);
	check_int(vitrine_client_dispatch(fixture.client, WAIT_MS), ==, 1);
	check(vitrine_frame_is_revoked(third));
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(fixture.session, &stats);
	check_int(stats.revoked, ==, 2);
	vitrine_frame_release(third);
	fixture_finish(&fixture);
}

static void send_retired(struct fake_session *session) {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
	fake_announce(session, 1);
	fake_send_frame(session, 1);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 1);
}

TEST(retired_view_is_readable_until_its_frame_is_released) {
	const struct fake_script script = { .start = send_retired };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *first = next_frame(&fixture), *second = next_frame(&fixture);
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(fixture.session, &stats);
	check_int(stats.retired, ==, 2);
	check_int(harness_count_fds(), ==, fixture.n_fds + 2);
	volatile const char *pixels = vitrine_frame_get_pixels(first, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(first);
	check_int(harness_count_fds(), ==, fixture.n_fds + 1);
	vitrine_frame_release(second);
	check_int(harness_count_fds(), ==, fixture.n_fds);
	fixture_finish(&fixture);
}

static void send_nv12(struct fake_session *session) {
	send_depth(session, 2);
	struct fake_view view = { .fourcc = DRM_FORMAT_NV12, .stride = FAKE_WIDTH };
	fake_send_view(session, &view);
	size_t luma = (size_t)FAKE_WIDTH * FAKE_HEIGHT;
	int fd = fake_memfd(luma * 3 / 2, FAKE_SEALS, O_RDONLY);
	fake_send_plane(session, &view, 0, dup(fd));
	view.offset = (uint32_t)luma;
	fake_send_plane(session, &view, 1, fd);
	fake_send_view_done(session, 0);
	fake_send_frame(session, 0);
}

TEST(planes_may_share_memory) {
	const struct fake_script script = { .start = send_nv12 };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *frame = next_frame(&fixture);
	check_int(vitrine_frame_get_info(frame)->n_planes, ==, 2);
	volatile const char *chroma = vitrine_frame_get_pixels(frame, 1);
	check_int(chroma[FAKE_WIDTH * FAKE_HEIGHT / 2 - 1], ==, 0);
	fixture_finish(&fixture);
}

static void send_tiled(struct fake_session *session) {
	send_depth(session, 2);
	struct fake_view view = { .modifier = 1 };
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
	fake_send_view_done(session, 0);
	fake_send_frame(session, 0);
}

TEST(unmapped_views_are_for_those_who_want_them) {
	const struct fake_script script = { .start = send_tiled };
	const struct vitrine_session_options options = { .allow_unmapped = true };
	struct fixture fixture;
	fixture_init(&fixture, &script, &options);
	struct vitrine_frame *frame = next_frame(&fixture);
	check(vitrine_frame_get_pixels(frame, 0) == NULL);
	check_int(vitrine_frame_get_info(frame)->fds[0], >=, 0);
	fixture_finish(&fixture);
}

TEST(client_can_go_while_frames_are_held) {
	struct fixture fixture;
	fixture_init(&fixture, &fake_animation, NULL);
	next_frame(&fixture);
	next_frame(&fixture);
	fixture_finish(&fixture);
}

TEST(sessions_can_end_with_events_in_flight) {
	harness_set_timeout(60);
	const struct fake_script script = { .start = send_retired };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_output *output = vitrine_client_find_output(fixture.client, NULL);
	vitrine_session_destroy(fixture.session);
	for (int i = 0; i < 1000; i++) {
		struct vitrine_session *session;
		check_int(vitrine_session_create(fixture.client, output, NULL, &session), ==, 0);
		// Sometimes nothing has arrived, sometimes a part, sometimes all
		struct vitrine_frame *frame;
		if (i % 3 > 0) {
			check_int(vitrine_session_next_frame(session, WAIT_MS, &frame), ==, 1);
		}
		vitrine_session_destroy(session);
	}
	// Whoever dispatches now sees what was on the way
	struct vitrine_session *session;
	struct vitrine_frame *frame;
	check_int(vitrine_session_create(fixture.client, output, NULL, &session), ==, 0);
	check_int(vitrine_session_next_frame(session, WAIT_MS, &frame), ==, 1);
	vitrine_session_destroy(session);
	check_int(harness_count_fds(), ==, fixture.n_fds);
	fixture_finish(&fixture);
}

/* The end of sessions, said properly */

static void expect_end(const struct fake_script *script,
		const struct vitrine_session_options *options, int error, const char *text) {
	struct fixture fixture;
	fixture_init(&fixture, script, options);
	struct vitrine_frame *frame;
	int ret;
	// What came before the end is good
	while ((ret = vitrine_session_next_frame(fixture.session, WAIT_MS, &frame)) == 1) {
	}
	check_int(ret, ==, error);
	const char *message = vitrine_client_get_error(fixture.client);
	if (strstr(message, text) == NULL) {
		harness_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", message, text);
	}
	// It stays ended
	check_int(vitrine_session_next_frame(fixture.session, -1, &frame), ==, error);
	vitrine_session_destroy(fixture.session);
	check_int(harness_count_fds(), ==, fixture.n_fds);
	fixture_finish(&fixture);
}

/** A test whose body is what the compositor sends when the session starts. */
#define END(test_name, error, text) \
	static void start_##test_name(struct fake_session *session); \
	TEST(test_name) { \
		const struct fake_script script = { .start = start_##test_name }; \
		expect_end(&script, NULL, error, text); \
	} \
	static void start_##test_name(struct fake_session *session)

#define STOP(reason) xx_dmabuf_view_session_v1_send_stopped(session->resource, \
	XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_##reason)

END(stopped_source_gone, -ENODEV, "does not exist") {
	send_one_frame(session);
	STOP(SOURCE_GONE);
}

END(stopped_denied, -EACCES, "denies") {
	STOP(DENIED);
}

END(stopped_revoked, -ECANCELED, "ended the session") {
	STOP(REVOKED);
}

END(stopped_locked, -ECANCELED, "locked") {
	STOP(LOCKED);
}

END(stopped_no_resources, -ENOMEM, "resources") {
	STOP(NO_RESOURCES);
}

END(stopped_unsupported, -ENOTSUP, "guarantees") {
	STOP(UNSUPPORTED);
}

END(stopped_for_another_reason, -ECANCELED, "ended the session") {
	xx_dmabuf_view_session_v1_send_stopped(session->resource, 1000);
}

END(stopped_in_the_middle_of_a_view, -ECANCELED, "locked") {
	struct fake_view view = {0};
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
	STOP(LOCKED);
}

END(protocol_error, -EPROTO, "xx_dmabuf_view_session_v1") {
	// What libwayland reads together with an error is not dispatched any more
	send_depth(session, 1);
	wl_resource_post_error(session->resource, 0, "test");
}

END(connection_lost, -EPIPE, "closed the connection") {
	wl_client_flush(wl_resource_get_client(session->resource));
	_exit(0);
}

END(connection_lost_in_the_middle_of_a_view, -EPIPE, "closed the connection") {
	struct fake_view view = {0};
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
	wl_client_flush(wl_resource_get_client(session->resource));
	_exit(0);
}

/* Lies about memory */

/** Announces memory as something it is not. */
static void announce_lie(struct fake_session *session, const struct fake_view *view, int take_fd) {
	send_depth(session, 1);
	fake_send_view(session, view);
	fake_send_plane(session, view, 0, take_fd);
	fake_send_view_done(session, view->index);
	fake_send_frame(session, view->index);
}

static void announce_memfd(struct fake_session *session, size_t size, unsigned seals, int flags) {
	struct fake_view view = {0};
	announce_lie(session, &view, fake_memfd(size, seals, flags));
}

END(memfd_that_is_short, -EPERM, "shorter") {
	announce_memfd(session, FAKE_SIZE - 1, FAKE_SEALS, O_RDONLY);
}

END(memfd_that_is_empty, -EPERM, "shorter") {
	announce_memfd(session, 0, FAKE_SEALS, O_RDONLY);
}

END(memfd_without_seals, -EPERM, "not sealed") {
	announce_memfd(session, FAKE_SIZE, 0, O_RDONLY);
}

END(memfd_that_can_be_written, -EPERM, "not sealed against writing") {
	announce_memfd(session, FAKE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, O_RDONLY);
}

END(memfd_that_can_shrink, -EPERM, "not sealed") {
	announce_memfd(session, FAKE_SIZE, F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, O_RDONLY);
}

END(memfd_that_can_be_sealed, -EPERM, "not sealed") {
	announce_memfd(session, FAKE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, O_RDONLY);
}

END(memfd_open_for_writing, -EPERM, "O_RDONLY") {
	announce_memfd(session, FAKE_SIZE, FAKE_SEALS, O_RDWR);
}

END(memfd_that_shrinks_while_it_is_announced, -EPERM, "not sealed") {
	struct fake_view view = {0};
	int fd = fake_memfd(FAKE_SIZE, F_SEAL_GROW, O_RDWR);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	announce_lie(session, &view, open(path, O_RDONLY | O_CLOEXEC));
	check(ftruncate(fd, 0) == 0);
	close(fd);
}

static int open_file(size_t size) {
	char path[] = "/tmp/vitrine-fake-XXXXXX";
	int fd = mkstemp(path);
	check(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	int read_only = open(path, O_RDONLY | O_CLOEXEC);
	check(read_only >= 0 && unlink(path) == 0);
	close(fd);
	return read_only;
}

END(file_instead_of_a_memfd, -EPERM, "view 0, plane 0") {
	announce_lie(session, &(struct fake_view){0}, open_file(FAKE_SIZE));
}

END(file_instead_of_a_dmabuf, -EPERM, "view 0, plane 0") {
	const struct fake_view view = {
		.is_dmabuf = true,
		.guarantee = VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	announce_lie(session, &view, open_file(FAKE_SIZE));
}

END(memfd_instead_of_a_dmabuf, -EPERM, "view 0, plane 0") {
	const struct fake_view view = { .is_dmabuf = true, .guarantee = VITRINE_GUARANTEE_GUARDED };
	announce_lie(session, &view, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
}

END(pipe_instead_of_a_memfd, -EPERM, "view 0, plane 0") {
	int fds[2];
	check(pipe(fds) == 0);
	close(fds[1]);
	announce_lie(session, &(struct fake_view){0}, fds[0]);
}

/* Lies about the layout */

static void announce_view(struct fake_session *session, const struct fake_view *view) {
	announce_lie(session, view, fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
}

END(stride_that_is_too_small, -EPERM, "offset and stride") {
	announce_view(session, &(struct fake_view){ .stride = FAKE_WIDTH * 4 - 1 });
}

END(stride_that_leaves_the_memory, -EPERM, "shorter") {
	announce_view(session, &(struct fake_view){ .stride = FAKE_WIDTH * 4 + 1 });
}

END(stride_that_overflows_32_bits, -EPERM, "shorter") {
	// 0x08000000 * 32 is 0 in 32 bits
	announce_view(session, &(struct fake_view){ .stride = 0x08000000 });
}

END(offset_that_leaves_the_memory, -EPERM, "shorter") {
	announce_view(session, &(struct fake_view){ .offset = 1 });
}

END(offset_that_overflows_32_bits, -EPERM, "shorter") {
	announce_view(session, &(struct fake_view){ .offset = UINT32_MAX });
}

END(largest_values_there_are, -EPERM, "out of range") {
	announce_view(session, &(struct fake_view){ .width = UINT32_MAX, .height = UINT32_MAX,
		.offset = UINT32_MAX, .stride = UINT32_MAX });
}

END(width_that_overflows_the_stride, -EPERM, "out of range") {
	announce_view(session, &(struct fake_view){ .width = 0x40000001, .stride = 4 });
}

static void send_raw_view(struct fake_session *session, uint32_t storage, uint32_t width,
		uint32_t height, uint32_t guarantee) {
	send_depth(session, 1);
	xx_dmabuf_view_session_v1_send_view(session->resource, 0, storage, width, height,
		DRM_FORMAT_XRGB8888, 0, 0, guarantee);
}

END(width_of_zero, -EPERM, "out of range") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 0, 1, VITRINE_GUARANTEE_SEALED);
}

END(height_of_zero, -EPERM, "out of range") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 0, VITRINE_GUARANTEE_SEALED);
}

END(guarantee_of_zero, -EPERM, "exactly one") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 1, 0);
}

END(two_guarantees, -EPERM, "exactly one") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 1,
		VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_SNAPSHOT);
}

END(unknown_guarantee, -EPERM, "exactly one") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 1, 1 << 4);
}

END(unknown_storage, -EPERM, "storage is unknown") {
	send_raw_view(session, 2, 1, 1, VITRINE_GUARANTEE_SEALED);
}

END(sealed_dmabuf, -EPERM, "does not fit its guarantee") {
	send_raw_view(session, VITRINE_STORAGE_DMABUF, 1, 1, VITRINE_GUARANTEE_SEALED);
}

END(snapshot_dmabuf, -EPERM, "does not fit its guarantee") {
	send_raw_view(session, VITRINE_STORAGE_DMABUF, 1, 1, VITRINE_GUARANTEE_SNAPSHOT);
}

END(guarded_memfd, -EPERM, "does not fit its guarantee") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 1, VITRINE_GUARANTEE_GUARDED);
}

END(fd_read_only_memfd, -EPERM, "does not fit its guarantee") {
	send_raw_view(session, VITRINE_STORAGE_MEMFD, 1, 1, VITRINE_GUARANTEE_FD_READ_ONLY);
}

TEST(guarantee_that_was_not_accepted) {
	const struct fake_script script = { .start = send_one_frame };
	const struct vitrine_session_options good = { .acceptable = VITRINE_GUARANTEE_SEALED };
	struct fixture fixture;
	fixture_init(&fixture, &script, &good);
	next_frame(&fixture);
	fixture_finish(&fixture);

	const struct vitrine_session_options bad = { .acceptable = VITRINE_GUARANTEE_SNAPSHOT };
	expect_end(&script, &bad, -EPERM, "not accepted");
}

END(format_that_is_unknown, -ENOTSUP, "format or modifier") {
	announce_view(session, &(struct fake_view){ .fourcc = 0x20202020 });
}

END(modifier_that_is_not_linear, -ENOTSUP, "format or modifier") {
	announce_view(session, &(struct fake_view){ .modifier = 1 });
}

END(modifier_that_is_invalid, -ENOTSUP, "format or modifier") {
	announce_view(session, &(struct fake_view){ .modifier = DRM_FORMAT_MOD_INVALID });
}

static void send_short_tiled(struct fake_session *session) {
	announce_view(session, &(struct fake_view){ .modifier = 1, .stride = FAKE_WIDTH * 4 + 1 });
}

TEST(unmapped_views_are_checked_too) {
	const struct fake_script script = { .start = send_short_tiled };
	const struct vitrine_session_options options = { .allow_unmapped = true };
	expect_end(&script, &options, -EPERM, "shorter");
}

/* Lies about planes */

static int good_memory(void) {
	return fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY);
}

END(plane_that_is_repeated, -EPERM, "out of order") {
	const struct fake_view view = {0};
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, good_memory());
	fake_send_plane(session, &view, 0, good_memory());
}

END(plane_that_is_left_out, -EPERM, "out of order") {
	const struct fake_view view = {0};
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 1, good_memory());
}

END(plane_that_the_format_does_not_have, -EPERM, "offset and stride") {
	const struct fake_view view = {0};
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, good_memory());
	fake_send_plane(session, &view, 1, good_memory());
}

END(plane_without_a_view, -EPERM, "out of order") {
	send_depth(session, 1);
	fake_send_plane(session, &(struct fake_view){0}, 0, good_memory());
}

END(plane_after_the_view_is_done, -EPERM, "out of order") {
	send_depth(session, 1);
	fake_announce(session, 0);
	fake_send_plane(session, &(struct fake_view){0}, 1, good_memory());
}

END(plane_of_another_view, -EPERM, "out of order") {
	send_depth(session, 1);
	fake_send_view(session, &(struct fake_view){ .index = 1 });
	fake_send_plane(session, &(struct fake_view){ .index = 2 }, 0, good_memory());
}

END(plane_with_a_large_index, -EPERM, "out of order") {
	send_depth(session, 1);
	fake_send_view(session, &(struct fake_view){0});
	fake_send_plane(session, &(struct fake_view){0}, UINT32_MAX, good_memory());
}

static void send_five_planes(struct fake_session *session) {
	const struct fake_view view = { .modifier = 1 };
	send_depth(session, 1);
	fake_send_view(session, &view);
	for (uint32_t i = 0; i < 5; i++) {
		fake_send_plane(session, &view, i, good_memory());
	}
}

TEST(fifth_plane) {
	const struct fake_script script = { .start = send_five_planes };
	const struct vitrine_session_options options = { .allow_unmapped = true };
	expect_end(&script, &options, -EPERM, "too many planes");
}

END(view_without_planes, -EPERM, "lacks a plane") {
	send_depth(session, 1);
	fake_send_view(session, &(struct fake_view){0});
	fake_send_view_done(session, 0);
}

END(view_with_half_of_its_planes, -EPERM, "lacks a plane") {
	const struct fake_view view = { .fourcc = DRM_FORMAT_NV12 };
	send_depth(session, 1);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, good_memory());
	fake_send_view_done(session, 0);
}

/* Lies about the order of events */

END(depth_of_zero, -EPERM, "depth") {
	send_depth(session, 0);
}

END(depth_beyond_reason, -EPERM, "depth") {
	send_depth(session, UINT32_MAX);
}

END(second_depth, -EPERM, "second depth") {
	send_depth(session, 2);
	send_depth(session, 2);
}

END(view_before_depth, -EPERM, "out of order") {
	fake_announce(session, 0);
}

END(view_within_a_view, -EPERM, "out of order") {
	send_depth(session, 2);
	fake_send_view(session, &(struct fake_view){ .index = 1 });
	fake_send_view(session, &(struct fake_view){ .index = 2 });
}

END(view_that_is_repeated, -EPERM, "again") {
	send_depth(session, 2);
	fake_announce(session, 3);
	fake_announce(session, 3);
}

END(view_done_without_a_view, -EPERM, "out of order") {
	send_depth(session, 2);
	fake_send_view_done(session, 0);
}

END(view_done_of_another_view, -EPERM, "out of order") {
	const struct fake_view view = {0};
	send_depth(session, 2);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, good_memory());
	fake_send_view_done(session, 1);
}

END(views_without_end, -EPERM, "too many views") {
	send_depth(session, 2);
	for (uint32_t i = 0; i < 100; i++) {
		fake_announce(session, i);
	}
}

END(frame_of_an_unknown_view, -EPERM, "view is unknown") {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 1);
}

END(frame_of_a_retired_view, -EPERM, "view is unknown") {
	send_depth(session, 2);
	fake_announce(session, 0);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
	fake_send_frame(session, 0);
}

END(frame_of_a_retired_view_that_is_held, -EPERM, "view is unknown") {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
	fake_send_frame(session, 0);
}

END(frame_of_an_unfinished_view, -EPERM, "out of order") {
	const struct fake_view view = {0};
	send_depth(session, 2);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, good_memory());
	fake_send_frame(session, 0);
}

END(more_frames_than_depth, -EPERM, "depth allows") {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	fake_send_frame(session, 0);
	fake_send_frame(session, 0);
}

END(serial_that_is_repeated, -EPERM, "serial") {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	session->next_serial--;
	fake_send_frame(session, 0);
}

END(frame_without_transform, -EPERM, "transform or time") {
	send_depth(session, 2);
	fake_announce(session, 0);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
}

END(frame_without_time, -EPERM, "transform or time") {
	send_depth(session, 2);
	fake_announce(session, 0);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
}

END(transform_that_is_unknown, -EPERM, "transform") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 8);
}

END(time_with_too_many_nanoseconds, -EPERM, "time") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 1000000000);
}

END(time_beyond_reason, -EPERM, "time") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_time(session->resource, UINT32_MAX, UINT32_MAX, 0);
}

END(damage_after_time, -EPERM, "out of order") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	xx_dmabuf_view_session_v1_send_damage(session->resource, 0, 0, 1, 1);
}

END(transform_after_time, -EPERM, "out of order") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
}

END(time_twice, -EPERM, "out of order") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
}

END(skipped_before_time, -EPERM, "out of order") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_skipped(session->resource, 1);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
}

END(view_between_damage_and_frame, -EPERM, "out of order") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_damage(session->resource, 0, 0, 1, 1);
	fake_announce(session, 0);
}

static void send_fence(struct fake_session *session) {
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	xx_dmabuf_view_session_v1_send_fence(session->resource, fds[0]);
	close(fds[0]);
	close(fds[1]);
}

END(fence_for_a_memfd, -EPERM, "fence") {
	send_depth(session, 2);
	fake_announce(session, 0);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	send_fence(session);
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
}

END(two_fences, -EPERM, "out of order") {
	send_depth(session, 2);
	send_fence(session);
	send_fence(session);
}

END(fence_before_depth, -EPERM, "out of order") {
	send_fence(session);
}

END(retired_view_that_is_unknown, -EPERM, "unknown view") {
	send_depth(session, 2);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
}

END(view_retired_twice, -EPERM, "unknown view") {
	send_depth(session, 2);
	fake_announce(session, 0);
	fake_send_frame(session, 0);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
	xx_dmabuf_view_session_v1_send_retired(session->resource, 0);
}

/** Whatever follows the lie in the same breath is not believed, nor leaked. */
END(file_descriptors_after_the_end, -EPERM, "depth") {
	send_depth(session, 0);
	for (uint32_t i = 0; i < 20; i++) {
		fake_announce(session, i);
	}
}

static void lie_on_release(struct fake_session *session, uint32_t serial) {
	fake_send_frame(session, 99);
}

TEST(frames_that_are_held_outlive_the_end) {
	const struct fake_script script = { .start = send_retired, .release = lie_on_release };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *first = next_frame(&fixture), *second = next_frame(&fixture), *third;
	vitrine_frame_release(first);
	check_int(vitrine_session_next_frame(fixture.session, WAIT_MS, &third), ==, -EPERM);
	volatile const char *pixels = vitrine_frame_get_pixels(second, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(second);
	check_int(harness_count_fds(), ==, fixture.n_fds);
	fixture_finish(&fixture);
}

TEST(other_sessions_go_on_after_a_lie) {
	const struct fake_script script = { .start = send_one_frame, .release = lie_on_release };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_session *other;
	struct vitrine_frame *frame;
	check_int(vitrine_session_create(fixture.client,
		vitrine_client_find_output(fixture.client, NULL), NULL, &other), ==, 0);
	vitrine_frame_release(next_frame(&fixture));
	check_int(vitrine_session_next_frame(fixture.session, WAIT_MS, &frame), ==, -EPERM);
	check_int(vitrine_session_next_frame(other, WAIT_MS, &frame), ==, 1);
	volatile const char *pixels = vitrine_frame_get_pixels(frame, 0);
	check_int(pixels[0], ==, 0);
	fixture_finish(&fixture);
}

static void flood(struct fake_session *session) {
	send_depth(session, 1);
	struct wl_client *client = wl_resource_get_client(session->resource);
	struct pollfd pollfd = { .fd = wl_client_get_fd(client), .events = POLLOUT };
	while (poll(&pollfd, 1, WAIT_MS) == 1 && pollfd.revents == POLLOUT) {
		for (int i = 0; i < 100; i++) {
			xx_dmabuf_view_session_v1_send_damage(session->resource, 0, 0, 1, 1);
		}
		wl_client_flush(client);
	}
}

TEST(flood_of_events_does_not_hold_up_the_timeout) {
	const struct fake_script script = { .start = flood };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(fixture.session, 100, &frame), ==, 0);
	fixture_finish(&fixture);
}

/* dma-bufs */

/** Zeroed memory, O_RDONLY from the beginning, or -1 if the machine has none. */
static int allocate_dmabuf(void) {
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (heap < 0) {
		return -1;
	}
	struct dma_heap_allocation_data data = { .len = FAKE_SIZE, .fd_flags = O_RDONLY | O_CLOEXEC };
	int ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
	close(heap);
	return ret < 0 ? -1 : (int)data.fd;
}

static void need_dmabufs(void) {
	int fd = allocate_dmabuf();
	if (fd < 0) {
		harness_skip("no /dev/dma_heap/system");
	}
	close(fd);
}

static void announce_dmabuf(struct fake_session *session) {
	const struct fake_view view = {
		.is_dmabuf = true,
		.guarantee = VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	send_depth(session, 2);
	fake_send_view(session, &view);
	fake_send_plane(session, &view, 0, allocate_dmabuf());
	fake_send_view_done(session, 0);
}

static int fence_writer = -1;

static void send_dmabuf_with_fence(struct fake_session *session) {
	announce_dmabuf(session);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	// All that the client does with a fence is to poll it
	int fds[2];
	check(pipe2(fds, O_CLOEXEC) == 0);
	xx_dmabuf_view_session_v1_send_fence(session->resource, fds[0]);
	close(fds[0]);
	fence_writer = fds[1];
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
	session->next_serial = 2;
	// The second frame has no fence, and waits for its turn
	fake_send_frame(session, 0);
	xx_dmabuf_view_session_v1_send_revoked(session->resource, 2);
	fake_send_frame(session, 0);
}

static void signal_fence(struct fake_session *session, uint32_t serial) {
	if (serial == 2) {
		usleep(200000);
		check(write(fence_writer, "x", 1) == 1);
	}
}

TEST(fence_is_waited_for) {
	need_dmabufs();
	const struct fake_script script = { .start = send_dmabuf_with_fence, .release = signal_fence };
	struct fixture fixture;
	fixture_init(&fixture, &script, NULL);
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(fixture.session, 50, &frame), ==, 0);
	frame = next_frame(&fixture);
	check_int(vitrine_frame_get_info(frame)->serial, ==, 1);
	check_int(vitrine_frame_get_info(frame)->storage, ==, VITRINE_STORAGE_DMABUF);
	volatile const char *pixels = vitrine_frame_get_pixels(frame, 0);
	check_int(pixels[FAKE_SIZE - 1], ==, 0);
	vitrine_frame_release(frame);
	frame = next_frame(&fixture);
	check_int(vitrine_frame_get_info(frame)->serial, ==, 3);
	vitrine_frame_release(frame);
	fixture_finish(&fixture);
}

static void send_dmabuf_with_broken_fence(struct fake_session *session) {
	announce_dmabuf(session);
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
	xx_dmabuf_view_session_v1_send_time(session->resource, 0, 1, 0);
	send_fence(session); // whose other end is closed
	xx_dmabuf_view_session_v1_send_frame(session->resource, 0, 1);
}

TEST(fence_that_is_none) {
	need_dmabufs();
	const struct fake_script script = { .start = send_dmabuf_with_broken_fence };
	expect_end(&script, NULL, -EPERM, "no fence");
}

/* Allocations that fail */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *pointer, size_t size);
char *__real_strdup(const char *string);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
char *__wrap_strdup(const char *string);

/** The n-th allocation of the library fails; 0 for none. Counts down. */
static int failing_allocation;

static bool allocation_fails(void) {
	return failing_allocation > 0 && --failing_allocation == 0;
}

void *__wrap_malloc(size_t size) {
	return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
	return allocation_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *pointer, size_t size) {
	return allocation_fails() ? NULL : __real_realloc(pointer, size);
}

char *__wrap_strdup(const char *string) {
	return allocation_fails() ? NULL : __real_strdup(string);
}

/** Connects and takes frames with the n-th allocation failing. */
static int use_everything(const struct fake_script *script, pid_t *pid, int n) {
	struct vitrine_client *client = NULL;
	struct vitrine_session *session = NULL;
	int fd = fake_start(script, pid);
	failing_allocation = n;
	int ret = vitrine_client_connect_to_fd(fd, &client, NULL);
	struct vitrine_output *output = ret == 0 ? vitrine_client_find_output(client, NULL) : NULL;
	if (ret == 0) {
		ret = output == NULL ? -ENOMEM : vitrine_session_create(client, output, NULL, &session);
	}
	for (int i = 0; ret == 0 && i < 2; i++) {
		struct vitrine_frame *frame;
		ret = vitrine_session_next_frame(session, WAIT_MS, &frame);
		if (ret == 1) {
			vitrine_frame_release(frame);
			ret = 0;
		}
	}
	vitrine_client_destroy(client);
	return ret;
}

TEST(allocations_that_fail) {
	harness_set_timeout(60);
	const struct fake_script script = { .start = send_retired };
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
