/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/swapchain.h>
#include <wlr/types/wlr_output.h>

#include "fixture.h"
#include "harness.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL
#define SEALED VITRINE_GUARANTEE_SEALED
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

static uint64_t now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Announcing */

TEST_WITH_EACH(fixture, each_guarantee, depth_is_sent_once_and_first) {
	check_int(f->session->n_depth_events, ==, 1);
	fixture_paint(f, 0x010203);
	check_int(f->session->n_depth_events, ==, 1);
}

TEST_WITH_EACH(fixture, each_guarantee, view_is_announced_before_its_first_frame) {
	check_int(f->session->n_views, ==, 0);
	fixture_paint(f, 0xabcdef);
	check_int(f->session->n_views, ==, 1);
	check_int(f->session->n_frames, ==, 1);
	struct test_view *view = &f->session->views[0];
	check_int(view->storage, ==, XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MEMFD);
	check_int(view->guarantee, ==, param->options.acceptable);
	check_int(view->width, ==, 64);
	check_int(view->height, ==, 48);
	check_int(view->fourcc, ==, DRM_FORMAT_XRGB8888);
	check_int(view->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check_int(view->stride, >=, 64 * 4);
	check_int(test_view_get_pixel(view, 0, 0), ==, 0xabcdef);
	check_int(test_view_get_pixel(view, 63, 47), ==, 0xabcdef);
}

TEST_WITH(fixture, guarantee_is_one_that_the_client_accepts) {
	struct test_session *sealed = test_session_start(f->client, SEALED);
	struct test_session *snapshot = test_session_start(f->client, SNAPSHOT);
	struct test_session *both = test_session_start(f->client, SEALED | SNAPSHOT);
	fixture_paint(f, 0x00ff00);
	check_int(sealed->views[0].guarantee, ==, SEALED);
	check_int(snapshot->views[0].guarantee, ==, SNAPSHOT);
	check_int(both->views[0].guarantee, ==, SEALED); // zero-copy before the copy
	check_int(test_session_get_pixel(snapshot, 5, 5), ==, 0x00ff00);
}

TEST_WITH(fixture, guarantee_that_does_not_exist_here_is_unsupported,
		.acceptable = VITRINE_GUARANTEE_GUARDED) {
	check(output_paint(f->server.output, 0, NULL));
	pump_until(&f->server, f->session->stopped);
	check_int(f->session->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(f->session->n_views, ==, 0);
}

TEST_WITH(fixture, buffers_of_a_stock_allocator_are_only_copied, .server.stock_allocator = true) {
	struct test_session *sealed = test_session_start(f->client, SEALED);
	struct test_session *any = test_session_start(f->client, ALL);
	check(output_paint(f->server.output, 0x0000ff, NULL));
	pump_until(&f->server, sealed->stopped);
	check_int(sealed->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(any->views[0].guarantee, ==, SNAPSHOT);
	check_int(test_session_get_pixel(any, 63, 47), ==, 0x0000ff);
}

TEST_WITH(fixture, session_asks_a_static_output_for_its_first_frame) {
	f->server.output->repaint = true;
	check(output_paint(f->server.output, 0x777777, NULL));
	struct test_session *session = test_session_start(f->client, ALL);
	pump_until(&f->server, session->n_frames == 1);
	check_int(test_session_get_pixel(session, 1, 1), ==, 0x777777);
}

/** What is kept is of the output's own buffers, of which this one can have no view. */
TEST_WITH(fixture, snapshot_session_asks_for_a_frame_where_none_is_kept) {
	f->server.output->repaint = true;
	struct test_session *sealed = test_session_start_reader(f->client, SEALED);
	pump_until(&f->server, sealed->n_frames > 0);
	uint32_t n_requests = f->server.output->n_frame_requests;
	struct test_session *snapshot = test_session_start(f->client, SNAPSHOT);
	pump_until(&f->server, snapshot->n_frames == 1);
	check_int(f->server.output->n_frame_requests, >, n_requests);
}

TEST_WITH(fixture, nothing_is_sent_when_nothing_changes) {
	f->server.output->repaint = true;
	struct test_session *session = test_session_create(f->client, 0, ALL);
	struct test_session *snapshot = test_session_create(f->client, 0, SNAPSHOT);
	session->auto_release = snapshot->auto_release = true;
	pump_until(&f->server, session->n_frames > 0 && snapshot->n_frames > 0);
	pump(&f->server);
	uint32_t n_frames = session->n_frames + snapshot->n_frames;
	uint32_t n_requests = f->server.output->n_frame_requests;
	// Neither on the wire nor in the event loop
	for (int i = 0; i < 30; i++) {
		struct pollfd fds[] = {
			{ .fd = wl_event_loop_get_fd(f->server.loop), .events = POLLIN },
			{ .fd = wl_display_get_fd(f->client->display), .events = POLLIN },
		};
		// The backend's frame timer, and a look for late holders, may run out once
		// after the last commit
		int n = poll(fds, 2, 20);
		check(n == 0 || i < 10);
		pump(&f->server);
	}
	check_int(session->n_frames + snapshot->n_frames, ==, n_frames);
	check_int(f->server.output->n_frame_requests, ==, n_requests);
}

/* Frames */

TEST_WITH_EACH(fixture, each_reader, frame_comes_with_damage_transform_and_time) {
	uint64_t before = now_ns();
	fixture_paint(f, 0);
	uint64_t after = now_ns();
	struct test_frame *frame = test_session_last_frame(f->session);
	// "The first frame [...] is damaged entirely"
	check_int(frame->n_damage, ==, 1);
	check_int(frame->damage[0].width, ==, 64);
	check_int(frame->damage[0].height, ==, 48);
	check_int(f->session->n_transforms, ==, 1);
	check_int(f->session->transform, ==, WL_OUTPUT_TRANSFORM_NORMAL);
	uint64_t when = frame->tv_sec * 1000000000 + frame->tv_nsec;
	check(frame->tv_nsec < 1000000000 && when >= before && when <= after);

	const struct rect rect = { 3, 4, 10, 20 };
	check(output_paint(f->server.output, 0xffffff, &rect));
	pump(&f->server);
	frame = test_session_last_frame(f->session);
	check_int(f->session->n_frames, ==, 2);
	check_int(frame->n_damage, ==, 1);
	check(memcmp(&frame->damage[0], &rect, sizeof(rect)) == 0);
	check_int(f->session->n_transforms, ==, 1); // it did not change
}

TEST_WITH_EACH(fixture, each_reader, transform_is_sent_again_when_it_changes) {
	fixture_paint(f, 0);
	// The headless backend has no rotation of its own: the compositor rotates
	f->server.output->wlr_output->transform = WL_OUTPUT_TRANSFORM_90;
	fixture_paint(f, 1);
	check_int(f->session->n_transforms, ==, 2);
	check_int(f->session->transform, ==, WL_OUTPUT_TRANSFORM_90);
}

/** "the damage, transform and fence events that apply, in that order" */
TEST_WITH(fixture, damage_comes_before_a_new_transform, .acceptable = ALL) {
	fixture_paint_frames(f, 1, 2); // all that it may hold
	check(output_paint(f->server.output, 3, &(struct rect){ 0, 0, 4, 4 }));
	f->server.output->wlr_output->transform = WL_OUTPUT_TRANSFORM_90;
	check(output_paint(f->server.output, 4, &(struct rect){ 20, 20, 4, 4 }));
	test_session_release(f->session, 1);
	pump(&f->server);
	check_int(f->session->n_frames, ==, 3);
	check_int(f->session->n_transforms, ==, 2);
	// The fixture looks at the order of events
	check_int(test_session_last_frame(f->session)->n_damage_events, ==, 1);
}

TEST_WITH(fixture, damage_of_skipped_frames_is_merged, .acceptable = ALL) {
	fixture_paint(f, 0);
	test_session_release_last(f->session);
	pump(&f->server);
	// Fill up the depth with frames that are released later
	fixture_paint(f, 1);
	const struct rect a = { 0, 0, 4, 4 }, b = { 20, 20, 4, 4 };
	uint32_t held[2] = { test_session_last_frame(f->session)->serial, 0 };
	uint32_t n_frames = f->session->n_frames;
	check(output_paint(f->server.output, 2, &(struct rect){ 40, 40, 2, 2 }));
	pump(&f->server);
	if (f->session->n_frames > n_frames) {
		held[1] = test_session_last_frame(f->session)->serial;
		n_frames = f->session->n_frames;
	}
	check(output_paint(f->server.output, 3, &a));
	check(output_paint(f->server.output, 4, &b));
	pump(&f->server);
	check_int(f->session->n_frames, ==, n_frames);

	test_session_release(f->session, held[0]);
	pump(&f->server);
	check_int(f->session->n_frames, ==, n_frames + 1);
	struct test_frame *frame = test_session_last_frame(f->session);
	check_int(frame->skipped, ==, 1);
	bool has_a = false, has_b = false;
	for (uint32_t i = 0; i < frame->n_damage; i++) {
		has_a |= memcmp(&frame->damage[i], &a, sizeof(a)) == 0;
		has_b |= memcmp(&frame->damage[i], &b, sizeof(b)) == 0;
	}
	check(has_a && has_b);

	// "since the last frame": what was told once is not told again
	test_session_release_last(f->session);
	test_session_release(f->session, held[1]);
	pump(&f->server);
	check(output_paint(f->server.output, 5, &(struct rect){ 30, 30, 1, 1 }));
	pump(&f->server);
	check_int(f->session->n_frames, ==, n_frames + 2);
	frame = test_session_last_frame(f->session);
	check_int(frame->n_damage, ==, 1);
	check_int(frame->damage[0].x, ==, 30);
}

/** "in buffer coordinates" */
TEST_WITH_EACH(fixture, each_reader, damage_lies_inside_of_the_buffer) {
	fixture_paint(f, 0);
	check(output_paint(f->server.output, 1, &(struct rect){ 60, 40, 100, 100 }));
	pump(&f->server);
	const struct test_frame *frame = test_session_last_frame(f->session);
	check_int(f->session->n_frames, ==, 2);
	check_int(frame->n_damage, ==, 1);
	check_int(frame->damage[0].x, ==, 60);
	check_int(frame->damage[0].width, ==, 4);
	check_int(frame->damage[0].height, ==, 8);
}

static bool frame_is_damaged_in(const struct test_frame *frame, const struct rect *rect) {
	pixman_region32_t damage;
	test_frame_get_damage(frame, &damage);
	pixman_box32_t box = { rect->x, rect->y, rect->x + rect->width, rect->y + rect->height };
	bool is_damaged = pixman_region32_contains_rectangle(&damage, &box) == PIXMAN_REGION_IN;
	pixman_region32_fini(&damage);
	return is_damaged;
}

/** Frames that no session could take at all, so that they were not even copied. */
TEST_WITH_EACH(fixture, each_guarantee, damage_of_frames_that_none_could_take_comes_later) {
	const struct rect rects[] = { { 1, 1, 2, 2 }, { 20, 20, 3, 3 }, { 40, 40, 4, 4 } };
	fixture_paint_frames(f, 1, 2); // all that it may hold
	for (uint32_t i = 0; i < 2; i++) {
		check(output_paint(f->server.output, 3 + i, &rects[i]));
		pump(&f->server);
	}
	check_int(f->session->n_frames, ==, 2);
	test_session_release(f->session, 1);
	test_session_release(f->session, 2);
	check(output_paint(f->server.output, 5, &rects[2]));
	pump(&f->server);
	check(output_paint(f->server.output, 6, &rects[2]));
	pump(&f->server);
	check_int(f->session->n_frames, >, 2);
	for (uint32_t i = 0; i < 3; i++) {
		check(frame_is_damaged_in(&f->session->frames[2], &rects[i]));
	}
	check(!frame_is_damaged_in(&f->session->frames[2], &(struct rect){ 60, 0, 1, 1 }));
}

/** "the region is the union": of what was missed, and of what is new with the frame. */
TEST_WITH(fixture, damage_of_a_frame_that_retired_before_its_turn_comes_later,
		.acceptable = SEALED) {
	const struct rect missed = { 1, 1, 2, 2 }, next = { 20, 20, 3, 3 };
	fixture_paint_frames(f, 1, 2); // all that it may hold
	struct test_session *other = test_session_start(f->client, SEALED);
	check(output_paint(f->server.output, 3, &missed));
	pump(&f->server);
	check_int(f->session->n_frames, ==, 2);
	test_session_close(other); // with it, that frame
	test_session_release(f->session, 1);
	test_session_release(f->session, 2);
	pump(&f->server);
	check_int(f->session->n_frames, ==, 2);
	check(output_paint(f->server.output, 4, &next));
	pump(&f->server);
	check_int(f->session->n_frames, ==, 3);
	check(frame_is_damaged_in(test_session_last_frame(f->session), &missed));
	check(frame_is_damaged_in(test_session_last_frame(f->session), &next));
}

TEST_WITH_EACH(fixture, each_reader, first_frame_is_damaged_entirely_whatever_has_changed) {
	const struct rect rect = { 1, 2, 3, 4 };
	fixture_paint(f, 1);
	check(output_paint(f->server.output, 2, &rect));
	pump(&f->server);
	check_int(test_session_last_frame(f->session)->damage[0].width, ==, 3);
	struct test_session *late =
		test_session_start_reader(f->client, param->options.acceptable);
	pump_until(&f->server, late->n_frames == 1); // the same frame, and its first one
	check_int(late->frames[0].damage[0].width, ==, 64);
	check_int(late->frames[0].damage[0].height, ==, 48);
}

TEST_WITH(fixture, too_many_damage_rectangles_become_few, .acceptable = ALL) {
	fixture_paint(f, 0);
	fixture_paint(f, 1);
	for (int i = 0; i < 24; i++) {
		struct rect rect = { (i % 6) * 10, (i / 6) * 10, 3, 3 };
		check(output_paint(f->server.output, 2, &rect));
	}
	uint32_t serial = f->session->frames[0].serial;
	test_session_release(f->session, serial);
	pump(&f->server);
	check_int(f->session->n_frames, ==, 3);
	struct test_frame *frame = test_session_last_frame(f->session);
	check_int(frame->n_damage, <=, 16);
	pixman_region32_t damage;
	test_frame_get_damage(frame, &damage);
	const pixman_box32_t *extents = pixman_region32_extents(&damage);
	check_int(extents->x2, ==, 53);
	check_int(extents->y2, ==, 33);
	pixman_region32_fini(&damage);
}

TEST_WITH_EACH(fixture, each_guarantee,
		session_that_holds_as_many_frames_as_its_depth_gets_no_more) {
	fixture_paint_frames(f, 0, 9);
	check_int(f->session->depth, ==, 2);
	check_int(f->session->n_frames, ==, 2);
	check_int(f->session->n_revoked, ==, 0); // nobody else needs the buffers
}

static const struct {
	const char *name;
	uint32_t limit, depth;
} depths[] = {
	{ "none", 0, 1 }, { "one", 1, 1 }, { "three", 3, 3 }, { "four", 4, 4 },
	{ "more than there may be", 5, 4 },
};

/** "Frames that a session may hold, 1 to 4, for sessions that are created later." */
TEST_EACH(depths, session_may_hold_as_many_frames_as_the_limit_says) {
	struct fixture f;
	fixture_set_up(&f, &(struct fixture_options){ .acceptable = ALL });
	f.server.manager->limits.frame_deadline_ms = 1000000;
	f.server.manager->limits.frames_per_session = param->limit;
	check_int(f.session->depth, ==, 2);
	struct test_session *session = test_session_start(f.client, ALL);
	check_int(session->depth, ==, param->depth);
	test_session_close(f.session);
	for (uint32_t i = 0; i < 9; i++) {
		fixture_paint(&f, fixture_color(i));
		uint32_t n_held = session->n_frames - session->n_released - session->n_revoked;
		check_int(n_held, <=, param->depth);
	}
	check_int(session->n_frames, >, 0);
	fixture_tear_down(&f);
}

TEST_WITH(fixture, newest_frame_is_sent_on_release_and_older_ones_are_skipped, .acceptable = ALL) {
	fixture_paint_frames(f, 1, 10);
	check_int(f->session->n_frames, ==, 2);
	test_session_release(f->session, f->session->frames[0].serial);
	pump(&f->server);
	check_int(f->session->n_frames, ==, 3);
	check_int(test_session_last_frame(f->session)->skipped, ==, 7);
	check_int(test_session_get_pixel(f->session, 9, 9), ==, fixture_color(10));
}

TEST_WITH_EACH(fixture, each_reader, steady_state_carries_no_fd_and_makes_no_object) {
	fixture_paint_frames(f, 1, 16);
	uint32_t n_fds = f->session->n_fds;
	int open_fds = harness_count_fds();
	fixture_show_frames(f, f->session, 17, 600);
	check_int(f->session->n_frames, ==, 600);
	check_int(f->session->n_skipped, ==, 0);
	// One fd a plane and distinct buffer, and none of them in steady state
	check_int(f->session->n_fds, ==, n_fds);
	check_int(f->session->n_fds, ==, f->session->n_views);
	check_int(f->session->n_views, <=, 8);
	check_int(harness_count_fds(), ==, open_fds);
	// The frame event has no room for an fd or an object at all
	const struct wl_interface *interface = &xx_dmabuf_view_session_v1_interface;
	for (int i = 0; i < interface->event_count; i++) {
		if (strcmp(interface->events[i].name, "frame") == 0) {
			check_str(interface->events[i].signature, "uuuuuuuuu");
		}
	}
}

/* Invariant 1 */

TEST_WITH_EACH(fixture, each_guarantee, held_pixels_do_not_change) {
	struct test_session *other = test_session_start_reader(f->client, param->options.acceptable);
	fixture_paint(f, 0x0a0b0c);
	fixture_check_unchanged(f, f->session);
	check_int(other->n_frames, ==, 51);
	check_int(f->session->n_revoked, ==, 0);
}

/* Invariant 2 */

static void end_by_destroy(struct fixture *f) {
	test_session_end(f->session);
}

static void end_by_stop(struct fixture *f) {
	vitrine_view_manager_v1_stop_sessions(f->server.manager, VITRINE_VIEW_STOP_REVOKED);
}

static void end_by_lock(struct fixture *f) {
	vitrine_view_manager_v1_set_locked(f->server.manager, true);
}

static void end_by_disconnect(struct fixture *f) {
	wl_client_destroy(f->client->wl_client);
}

static struct vitrine_view_permission deny(const struct vitrine_view_request *request,
		void *data) {
	return (struct vitrine_view_permission){ .storages = VITRINE_STORAGE_ALL };
}

static void end_by_policy(struct fixture *f) {
	vitrine_view_manager_v1_set_policy(f->server.manager, deny, NULL);
}

/**
 * What a client keeps of an ended session must not show what is drawn later;
 * and the control: without the end, the same mapping does show it.
 */
static void check_kept_memory(struct fixture *f, void (*end)(struct fixture *f),
		bool release) {
	struct test_session *session = f->session;
	for (uint32_t i = 1; i <= 3; i++) {
		fixture_paint(f, fixture_color(i));
		if (release) {
			test_session_release_last(session);
			pump(&f->server);
		}
	}
	if (release) {
		uint64_t checksum = test_view_checksum(&session->views[0]);
		bool changed = false;
		session->auto_release = true;
		for (uint32_t i = 4; i <= 12; i++) {
			fixture_paint(f, fixture_color(i));
			changed |= test_view_checksum(&session->views[0]) != checksum;
		}
		check(changed);
	}

	end(f);
	pump(&f->server);
	fixture_check_unchanged(f, session);
	check_int(f->server.sessions_stopped, ==, 1);
}

TEST_PARAMS(fixture, keepers, bool releases) = {
	{ "sealed", { .acceptable = SEALED }, true },
	{ "sealed, held", { .acceptable = SEALED }, false },
	{ "snapshot", { .acceptable = SNAPSHOT }, true },
	{ "snapshot, held", { .acceptable = SNAPSHOT }, false },
};

TEST_WITH_EACH(fixture, keepers, memory_never_changes_after_destroy) {
	check_kept_memory(f, end_by_destroy, param->releases);
}

TEST_WITH_EACH(fixture, keepers, memory_never_changes_after_stop) {
	check_kept_memory(f, end_by_stop, param->releases);
}

TEST_WITH_EACH(fixture, keepers, memory_never_changes_after_lock) {
	check_kept_memory(f, end_by_lock, param->releases);
}

TEST_WITH_EACH(fixture, keepers, memory_never_changes_after_disconnect) {
	check_kept_memory(f, end_by_disconnect, param->releases);
}

TEST_WITH_EACH(fixture, keepers, memory_never_changes_after_a_change_of_policy) {
	check_kept_memory(f, end_by_policy, param->releases);
}

/** The first pixel of the page at the other end of a pipe. */
static uint32_t read_pixel(int fd) {
	uint32_t pixels[1024];
	check_int(read(fd, pixels, sizeof(pixels)), ==, sizeof(pixels));
	return pixels[0] & 0xffffff;
}

TEST_WITH(fixture, pages_in_a_pipe_never_change_after_the_end,
		.acceptable = SEALED, .auto_release = true) {
	fixture_paint(f, 0x111111);
	int ends[2], view_fd = f->session->views[0].fd;
	check_int(pipe2(ends, O_CLOEXEC), ==, 0);
	check_int(splice(view_fd, &(off64_t){ 0 }, ends[1], NULL, 4096, 0), ==, 4096);
	// The positive case: a pipe holds the pages themselves, not what was in them
	for (uint32_t i = 0; i < 4; i++) {
		fixture_paint(f, 0x222222);
	}
	check_int(read_pixel(ends[0]), ==, 0x222222);

	check_int(splice(view_fd, &(off64_t){ 0 }, ends[1], NULL, 4096, 0), ==, 4096);
	// Nobody has it open or mapped any more, as far as the kernel can tell
	test_session_close(f->session);
	for (uint32_t i = 0; i < 20; i++) {
		struct test_session *next = test_session_start(f->client, SEALED);
		fixture_paint(f, 0x333333);
		test_session_close(next);
	}
	check_int(read_pixel(ends[0]), ==, 0x222222);
	close(ends[0]);
	close(ends[1]);
}

TEST_WITH(fixture, memory_never_changes_in_a_swapchain_of_the_compositors_own) {
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = DRM_FORMAT_XRGB8888, .len = 1, .capacity = 1, .modifiers = &modifier,
	};
	f->server.output->swapchain = wlr_swapchain_create(f->server.allocator, 64, 48, &format);
	struct test_session *other = test_session_start_reader(f->client, ALL);
	for (int i = 0; i < WLR_SWAPCHAIN_CAP; i++) {
		fixture_paint(f, 0x313233); // into each buffer that it takes turns on
	}
	struct test_session *session = test_session_start(f->client, ALL);
	check_int(session->n_frames, ==, 1);
	check_int(session->views[0].guarantee, ==, SEALED);
	test_session_end(session);
	pump(&f->server);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	for (uint32_t i = 0; i < 20; i++) {
		// Drawn in part: what was there before has to be there still
		const struct rect rect = { 0, 0, 8, 8 };
		check(output_paint(f->server.output, fixture_color(i), &rect));
		pump(&f->server);
		check_int(test_view_checksum(&session->views[0]), ==, checksum);
		check_int(test_session_get_pixel(other, 1, 1), ==, fixture_color(i));
		check_int(test_session_get_pixel(other, 40, 40), ==, 0x313233);
	}
	check_int(other->n_frames, ==, WLR_SWAPCHAIN_CAP + 20);
	test_session_destroy(session);
	test_session_destroy(other);
	wlr_swapchain_destroy(f->server.output->swapchain);
	f->server.output->swapchain = NULL;
}

/** An output that stands still is shown to each session that comes. */
TEST_WITH_EACH(fixture, each_guarantee, static_output_is_shown_again_without_drawing) {
	uint32_t acceptable = param->options.acceptable;
	struct test_session *sessions[3] = { f->session };
	fixture_paint(f, 0x123456);
	uint32_t n_requests = f->server.output->n_frame_requests;
	for (int i = 0; i < 3; i++) {
		if (i > 0) {
			sessions[i] = test_session_start(f->client, acceptable);
			pump_until(&f->server, sessions[i]->n_frames == 1);
		}
		check_int(test_session_get_pixel(sessions[i], 63, 47), ==, 0x123456);
		check_int(sessions[i]->views[0].guarantee, ==, acceptable);
		check_int(test_session_last_frame(sessions[i])->n_damage, ==, 1);
		test_session_end(sessions[i]);
		client_roundtrip(f->client);
	}
	check_int(f->server.output->n_frame_requests, ==, n_requests);
	// It is the same memory, and yet what is drawn later is not in it
	for (uint32_t n = 1; n < 8; n++) {
		fixture_paint(f, fixture_color(n));
		for (int i = 0; i < 3; i++) {
			struct test_view *view = &sessions[i]->views[0];
			check_int(test_view_get_pixel(view, 63, 47), ==, 0x123456);
		}
	}
	// nor does the next one see what was there before
	struct test_session *next = test_session_start(f->client, acceptable);
	check_int(next->n_frames, ==, 0);
	fixture_show(f, next, 0x654321);
}

TEST_WITH_EACH(fixture, each_reader, session_on_retired_memory_goes_on_with_fresh_memory) {
	struct test_session *first = f->session;
	fixture_paint_frames(f, 1, 4);
	test_session_end(first);
	client_roundtrip(f->client);
	struct test_session *session = test_session_create(f->client, 0, param->options.acceptable);
	session->auto_release = true;
	pump_until(&f->server, session->n_frames == 1);
	check_int(test_session_get_pixel(session, 63, 47), ==, fixture_color(4));
	fixture_paint(f, fixture_color(5));
	// Holds two other buffers, so that all take their turns
	struct test_session *holder = test_session_start(f->client, param->options.acceptable);
	fixture_show_frames(f, session, 6, 17);
	check_int(session->n_frames, ==, 1 + 13);
	check_int(session->n_retired, ==, 1); // what it began with
	test_session_destroy(holder);
	for (uint32_t i = 0; i < first->n_views; i++) {
		check(test_view_get_pixel(&first->views[i], 63, 47) == fixture_color(3) ||
			test_view_get_pixel(&first->views[i], 63, 47) == fixture_color(4));
	}
}

TEST_WITH(fixture, what_is_about_to_be_drawn_comes_first, .acceptable = ALL) {
	fixture_paint(f, 1);
	test_session_close(f->session);
	wlr_output_update_needs_frame(f->server.output->wlr_output); // something has changed
	f->session = test_session_start(f->client, ALL);
	check_int(f->session->n_frames, ==, 0);
	fixture_paint(f, 2);
	check_int(f->session->n_frames, ==, 1);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 2);
}

TEST_WITH(fixture, output_can_go_while_its_last_frame_is_kept) {
	struct test_session *sealed = test_session_start(f->client, SEALED);
	struct test_session *copy = test_session_start(f->client, SNAPSHOT);
	fixture_paint(f, 1);
	test_session_destroy(sealed);
	test_session_close(copy);
	check_int(f->server.output->wlr_output->attach_render_locks, ==, 0);
	// A session that has been promised the frame, and does not get it
	struct test_session *late = test_session_create(f->client, 0, ALL);
	wl_display_flush(f->client->display);
	wl_event_loop_dispatch(wl_display_get_event_loop(f->server.display), 0);
	wlr_output_destroy(f->server.output->wlr_output);
	client_roundtrip(f->client);
	test_session_check_stop(late, VITRINE_VIEW_STOP_SOURCE_GONE);
}

TEST_WITH(fixture, memory_that_is_shown_again_is_charged_once) {
	f->server.manager->limits.shared_bytes.per_holder = 64 * 48 * 4 * 2;
	struct test_session *keeper = test_session_start(f->client, ALL);
	fixture_paint(f, 1);
	test_view_map(&keeper->views[0]);
	test_session_end(keeper); // and the memory is kept
	for (int i = 0; i < 20; i++) {
		struct test_session *session = test_session_start(f->client, ALL);
		pump_until(&f->server, session->n_frames == 1 || session->stopped);
		check(!session->stopped);
		test_session_close(session);
	}
}

TEST_WITH_EACH(fixture, each_guarantee, lock_is_told_as_the_reason) {
	fixture_paint(f, 1);
	vitrine_view_manager_v1_stop_sessions(f->server.manager, VITRINE_VIEW_STOP_LOCKED);
	client_roundtrip(f->client);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_LOCKED);
}

TEST_WITH(fixture, other_sessions_go_on_with_new_views) {
	struct test_session *ending = test_session_start(f->client, ALL);
	struct test_session *other = test_session_start_reader(f->client, ALL);
	fixture_paint(f, 1);
	fixture_paint(f, 2);
	uint32_t n_views = other->n_views;
	test_session_end(ending);
	pump(&f->server);
	check_int(other->n_retired, ==, n_views);
	fixture_show_frames(f, other, 3, 10);
	check_int(other->n_frames, ==, 10);
	check(other->n_views > n_views);
}

TEST_WITH(fixture, session_that_saw_nothing_retires_nothing,
		.acceptable = ALL, .auto_release = true) {
	fixture_paint(f, 1);
	struct wlr_swapchain *swapchain = f->server.output->wlr_output->swapchain;
	struct test_session *other = test_session_create(f->client, 0, ALL);
	test_session_close(other); // before it has been shown what is there
	check(f->server.output->wlr_output->swapchain == swapchain);
	check_int(f->session->n_retired, ==, 0);
}

/* Invariant 5 */

TEST_PARAMS(fixture, holders, uint32_t len) = {
	{ "one, sealed", { .acceptable = SEALED, .auto_release = true }, 1 },
	{ "one, snapshot", { .acceptable = SNAPSHOT, .auto_release = true }, 1 },
	{ "five, sealed", { .acceptable = SEALED, .auto_release = true }, 5 },
	{ "five, snapshot", { .acceptable = SNAPSHOT, .auto_release = true }, 5 },
	{ "sixteen, sealed", { .acceptable = SEALED, .auto_release = true }, 16 },
	{ "sixteen, snapshot", { .acceptable = SNAPSHOT, .auto_release = true }, 16 },
};

/** They hold every frame, and never release one. */
TEST_WITH_EACH(fixture, holders, holders_cost_nobody_a_frame) {
	f->server.manager->limits.frame_deadline_ms = 30;
	f->server.manager->limits.contended_frame_deadline_ms = 10;
	struct test_session *hostile[16];
	for (uint32_t i = 0; i < param->len; i++) {
		// Each has a connection of its own, and starts at another time
		struct client *client = client_create(&f->server);
		hostile[i] = test_session_start(client, param->options.acceptable);
		fixture_paint(f, i);
	}
	uint32_t before = f->session->n_frames;
	const uint32_t n = 400;
	fixture_show_frames(f, f->session, 0, n - 1); // fails if the output has no buffer left
	check_int(f->session->n_frames - before, >=, n * 95 / 100);
	check_int(f->session->n_revoked, ==, 0);
	for (uint32_t i = 0; i < param->len; i++) {
		check_int(hostile[i]->n_frames, >, 0);
		check_int(hostile[i]->n_frames, <=, 2);
	}
}

TEST_WITH(fixture, holders_that_come_back_again_and_again_cost_nobody_a_frame,
		.acceptable = ALL, .auto_release = true) {
	struct client *client = client_create(&f->server);
	struct test_session *hostile[8] = {0};
	for (uint32_t i = 0; i < 200; i++) {
		struct test_session **slot = &hostile[i % 8];
		if (*slot != NULL) {
			test_session_destroy(*slot);
		}
		*slot = test_session_start(client, ALL);
		fixture_show(f, f->session, fixture_color(i));
	}
	check_int(f->session->n_frames, ==, 200);
}

/** Of several frames, a client reads the one first that it got first. */
static void check_not_torn(const struct test_session *session) {
	uint32_t i = session->n_released;
	check(i == session->n_frames || !session->frames[i % SESSION_FRAMES_CAP].revoked);
}

/** On a machine that is busy, the deadlines would come first. */
static void set_no_deadlines(struct fixture *f) {
	f->server.manager->limits.frame_deadline_ms = 1000000;
	f->server.manager->limits.contended_frame_deadline_ms = 1000000;
}

TEST_WITH(fixture, slow_readers_take_turns_and_are_not_torn) {
	set_no_deadlines(f);
	struct test_session *fast = test_session_start_reader(f->client, ALL);
	struct test_session *slow[3];
	for (int i = 0; i < 3; i++) {
		slow[i] = test_session_start(f->client, ALL);
	}
	for (uint32_t i = 0; i < 300; i++) {
		fixture_paint(f, fixture_color(i));
		// Each holds a frame for about five of the source's, at times of its own
		for (uint32_t j = 0; j < 3; j++) {
			if (i % 5 == j) {
				check_not_torn(slow[j]);
				test_session_release_all_but(slow[j], 0);
				pump(&f->server);
			}
		}
	}
	check_int(fast->n_frames, ==, 300);
	for (int i = 0; i < 3; i++) {
		// What it had behind the frame that it read, before it was known to be slow
		check_int(slow[i]->n_revoked, <=, 2);
	}
}

/* Sessions that hold the newest frame until they get the next one */

static void check_trader(const struct test_session *trader, uint32_t n_frames) {
	check_int(trader->n_frames, ==, n_frames);
	check_int(trader->n_skipped, ==, 0);
	check_int(trader->n_revoked, ==, 0);
}

TEST_WITH_EACH(fixture, each_guarantee, session_that_holds_the_newest_frame_is_not_slow) {
	set_no_deadlines(f);
	struct test_session *traders[] = {
		f->session, test_session_start(f->client, param->options.acceptable),
	};
	struct test_session *reader =
		test_session_start_reader(f->client, param->options.acceptable);
	struct test_session *slow = test_session_start(f->client, param->options.acceptable);
	for (uint32_t i = 0; i < 100; i++) {
		fixture_paint(f, fixture_color(i));
		for (int j = 0; j < 2; j++) {
			check_trader(traders[j], i + 1);
			check_int(test_session_get_pixel(traders[j], 63, 47), ==, fixture_color(i));
			test_session_release_all_but(traders[j], 1);
		}
		if (i % 5 == 4) {
			check_not_torn(slow);
			test_session_release_all_but(slow, 0);
		}
		pump(&f->server);
	}
	check_int(reader->n_frames, ==, 100);
	check_int(slow->n_frames, >=, 20);
	check_int(slow->n_revoked, <=, 2); // behind what it read, before it was known to be slow
}

/** Each releases what it has upon what it gets, until nothing comes any more. */
static void trade(struct fixture *f, struct test_session **traders, int len) {
	uint32_t n_released, n_before;
	do {
		n_released = n_before = 0;
		for (int i = 0; i < len; i++) {
			n_before += traders[i]->n_released;
			test_session_release_all_but(traders[i], 1);
			n_released += traders[i]->n_released;
		}
		pump(&f->server);
	} while (n_released > n_before);
}

/** Trades until each gets each frame; fails if that takes too long. */
static void trade_until_fast(struct fixture *f, struct test_session **traders, int len) {
	int n_in_time = 0;
	for (uint32_t i = 0; n_in_time < 5 * len; i++) {
		check_int(i, <, 10);
		fixture_paint(f, fixture_color(i));
		for (int j = 0; j < len; j++) {
			bool has_newest = test_session_get_pixel(traders[j], 0, 0) == fixture_color(i);
			n_in_time = has_newest ? n_in_time + 1 : 0;
		}
		trade(f, traders, len);
	}
}

TEST_PARAMS(fixture, lateness, uint32_t n_frames) = {
	{ "one frame", { .acceptable = ALL }, 1 },
	{ "two frames", { .acceptable = ALL }, 2 },
	{ "ten frames", { .acceptable = ALL }, 10 },
};

TEST_WITH_EACH(fixture, lateness, session_that_was_late_keeps_up_again) {
	set_no_deadlines(f);
	struct test_session *traders[] = { f->session, test_session_start(f->client, ALL) };
	struct test_session *reader = test_session_start_reader(f->client, ALL);
	trade_until_fast(f, traders, 2);
	for (int n_late = 1; n_late <= 2; n_late++) {
		for (uint32_t i = 0; i < param->n_frames; i++) {
			fixture_paint(f, i);
			trade(f, traders + n_late, 2 - n_late);
		}
		trade_until_fast(f, traders, 2);
	}
	check_int(reader->n_skipped + reader->n_revoked, ==, 0);
}

TEST_WITH(fixture, session_whose_frame_was_revoked_keeps_up_again, .acceptable = ALL) {
	f->server.manager->limits.frame_deadline_ms = 20;
	f->server.manager->limits.contended_frame_deadline_ms = 10;
	struct test_session *reader = test_session_start_reader(f->client, ALL);
	// So often that no more is tried for the time being
	for (uint32_t n_revoked = 0; n_revoked < 5; n_revoked = f->session->n_revoked) {
		for (uint32_t i = 0; i < 4; i++) {
			fixture_paint(f, i);
		}
		pump_until(&f->server, f->session->n_revoked > n_revoked);
		test_session_release_all_but(f->session, 0);
		pump(&f->server);
	}
	trade_until_fast(f, &f->session, 1);
	check_int(reader->n_skipped, ==, 0);
}

TEST_WITH(fixture, holders_that_take_two_frames_cost_a_trader_none, .acceptable = ALL) {
	set_no_deadlines(f);
	struct test_session *hostile[8];
	for (uint32_t i = 0; i < 8; i++) {
		hostile[i] = test_session_start(client_create(&f->server), ALL);
	}
	for (uint32_t i = 0; i < 200; i++) {
		fixture_paint(f, fixture_color(i)); // fails if the output has no buffer left
		check_trader(f->session, i + 1);
		test_session_release_all_but(f->session, 1);
		// Each gives back all that it has, at a time of its own, and takes two again
		test_session_release_all_but(hostile[i % 8], 0);
		pump(&f->server);
	}
}

/** A frame that was the newest for long is not late as soon as it is not any more. */
TEST_WITH(fixture, deadline_counts_from_the_next_frame, .acceptable = ALL) {
	// Looked at often enough that it would be revoked long before, if it were too early
	f->server.manager->limits.frame_deadline_ms = 500;
	f->server.manager->limits.contended_frame_deadline_ms = 5;
	struct test_session *reader = test_session_start_reader(f->client, ALL);
	fixture_paint(f, 1);
	uint64_t start = now_ns();
	while (now_ns() - start < 520 * 1000000ull) {
		pump_wait(&f->server);
	}
	start = now_ns();
	fixture_paint(f, 2);
	check_int(f->session->n_revoked, ==, 0);
	pump_until(&f->server, f->session->n_revoked > 0);
	check(f->session->frames[0].revoked);
	check(now_ns() - start >= 499 * 1000000ull);
	check_int(reader->n_frames, ==, 2);
}

TEST_WITH(fixture, client_that_never_reads_costs_nobody_a_frame,
		.acceptable = ALL, .auto_release = true) {
	struct client *client = client_create(&f->server);
	struct test_session *session = test_session_start(client, ALL);
	client->asleep = true;
	fixture_paint_frames(f, 0, 499);
	check_int(f->session->n_frames, ==, 500);
	client->asleep = false;
	client_roundtrip(client);
	// What waited for it in the socket is bounded
	check_int(session->n_frames, <=, 2);
}

/** Leaves so many answers in the socket of a client that does not read that it is full. */
static void fill_socket(struct client *client) {
	int fd = wl_client_get_fd(client->wl_client), size, queued = 0;
	socklen_t len = sizeof(size);
	check_ok(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len));
	while (queued <= size / 4 * 3) {
		wl_callback_destroy(wl_display_sync(client->display));
		check_int(wl_display_flush(client->display), >=, 0);
		pump(client->server);
		check_ok(ioctl(fd, SIOCOUTQ, &queued));
	}
}

/** "The event is on its way to the client before the content changes" */
TEST_WITH(fixture, frame_that_cannot_be_revoked_in_time_ends_its_session) {
	f->server.manager->limits.frame_deadline_ms = 1;
	f->server.manager->limits.contended_frame_deadline_ms = 1;
	struct client *client = client_create(&f->server);
	struct test_session *session = test_session_start(client, ALL);
	fixture_paint(f, fixture_color(0));
	check_int(session->n_frames, ==, 1);
	client->asleep = true;
	fill_socket(client);
	for (uint32_t i = 1; f->server.sessions_stopped == 0; i++) {
		check_int(i, <, 1000);
		fixture_paint(f, fixture_color(i));
		pump_wait(&f->server);
	}
	fixture_paint_frames(f, 2000, 2050);
	check_int(test_session_get_pixel(session, 0, 0), ==, fixture_color(0));
	client->asleep = false;
	client_roundtrip(client);
	check_int(session->n_revoked, ==, 0);
	test_session_check_stop(session, VITRINE_VIEW_STOP_REVOKED);
}

TEST_PARAMS(fixture, deaths, int step) = {
	{ "not started", .step = 0 },
	{ "started", .step = 1 },
	{ "painted", .step = 2 },
	{ "shown", .step = 3 },
	{ "released", .step = 4 },
	{ "painted again", .step = 5 },
};

TEST_WITH_EACH(fixture, deaths, client_can_die_at_any_step) {
	for (size_t i = 0; i < 2; i++) {
		struct client *client = client_create(&f->server);
		struct test_session *session = test_session_create(client,
			VITRINE_VIEW_OPTION_PAINT_CURSORS, i == 0 ? ALL : SNAPSHOT);
		if (param->step >= 1) {
			client_roundtrip(client);
		}
		if (param->step >= 2) {
			check(output_paint(f->server.output, 1, NULL));
		}
		if (param->step >= 3) {
			pump(&f->server);
		}
		if (param->step >= 4) {
			test_session_release_last(session);
		}
		if (param->step >= 5) {
			check(output_paint(f->server.output, 2, NULL));
		}
		wl_display_flush(client->display);
		wl_client_destroy(client->wl_client);
		fixture_paint(f, 3);
		check_int(f->server.output->wlr_output->software_cursor_locks, ==, 0);
		check_int(f->server.output->wlr_output->attach_render_locks, ==, 0);
	}
}

/* Invariant 6 */

TEST_WITH_EACH(fixture, each_reader, resize_announces_new_views_and_retires_the_old) {
	struct test_session *session = f->session;
	output_resize(f->server.output, 64, 48);
	fixture_paint_frames(f, 0, 3);
	uint32_t n_views = session->n_views;
	output_resize(f->server.output, 100, 30);
	fixture_paint_frames(f, 4, 7);
	check(!session->stopped);
	check_int(session->n_retired, ==, n_views);
	struct test_view *view = &session->views[session->n_views - 1];
	check_int(view->width, ==, 100);
	check_int(view->height, ==, 30);
	check_int(test_session_get_pixel(session, 99, 29), ==, fixture_color(7));
}

TEST_WITH_EACH(fixture, each_reader, first_frame_after_a_resize_is_damaged_entirely) {
	fixture_paint(f, 1);
	output_resize(f->server.output, 32, 32);
	pump(&f->server);
	// wlroots attaches an empty buffer for the change of mode: a frame like others
	struct test_frame *frame = test_session_last_frame(f->session);
	check_int(f->session->n_frames, ==, 2);
	check_int(frame->damage[0].width, ==, 32);
	check_int(frame->damage[0].height, ==, 32);
}

TEST_PARAMS(fixture, sizes, int width, height) = {
	{ "width, sealed", { .acceptable = SEALED, .auto_release = true }, 65, 48 },
	{ "width, snapshot", { .acceptable = SNAPSHOT, .auto_release = true }, 65, 48 },
	{ "height, sealed", { .acceptable = SEALED, .auto_release = true }, 64, 49 },
	{ "height, snapshot", { .acceptable = SNAPSHOT, .auto_release = true }, 64, 49 },
};

TEST_WITH_EACH(fixture, sizes, first_frame_of_another_size_is_damaged_entirely) {
	fixture_paint(f, 1);
	const struct rect rect = { 1, 2, 3, 4 };
	check(output_paint_mode(f->server.output, param->width, param->height, 2, &rect));
	pump(&f->server);
	for (uint32_t i = 3; f->session->n_frames < 2; i++) { // the first one may be lost
		check_int(i, <, 6);
		check(output_paint(f->server.output, i, &rect));
		pump(&f->server);
	}
	struct test_frame *frame = test_session_last_frame(f->session);
	check_int(f->session->views[frame->index].width, ==, param->width);
	check_int(frame->damage[0].width, ==, param->width);
	check_int(frame->damage[0].height, ==, param->height);
	check(output_paint(f->server.output, 6, &rect)); // and the one after that is not
	pump(&f->server);
	check_int(test_session_last_frame(f->session)->damage[0].width, ==, 3);
}

TEST_WITH_EACH(fixture, each_guarantee, memory_of_before_a_resize_stays_mapped_and_readable) {
	fixture_paint(f, 0x101010);
	uint64_t checksum = test_view_checksum(&f->session->views[0]);
	output_resize(f->server.output, 8, 8);
	fixture_paint_frames(f, 0, 7);
	// Held over the resize: neither SIGBUS nor a change
	check_int(test_view_checksum(&f->session->views[0]), ==, checksum);
}

TEST_WITH(fixture, change_of_format_announces_new_views, .acceptable = ALL, .auto_release = true) {
	fixture_paint(f, 1);
	f->server.output->fourcc = DRM_FORMAT_ARGB8888;
	fixture_paint(f, 0x224466);
	check(!f->session->stopped);
	struct test_frame *frame = test_session_last_frame(f->session);
	check_int(f->session->views[frame->index].fourcc, ==, DRM_FORMAT_ARGB8888);
	check_int(test_session_get_pixel(f->session, 3, 3), ==, 0x224466);
	check_int(frame->damage[0].width, ==, 64);
}

TEST_PARAMS(fixture, formats, uint32_t fourcc) = {
	{ "ARGB8888", { .acceptable = SEALED, .auto_release = true }, DRM_FORMAT_ARGB8888 },
	{ "RGB565", { .acceptable = SEALED, .auto_release = true }, DRM_FORMAT_RGB565 },
};

TEST_WITH_EACH(fixture, formats, first_frame_after_a_change_of_format_is_damaged_entirely) {
	fixture_paint(f, 1);
	const struct rect rect = { 1, 2, 3, 4 };
	check(output_paint(f->server.output, 2, &rect));
	pump(&f->server);
	check_int(test_session_last_frame(f->session)->damage[0].width, ==, 3);
	f->server.output->fourcc = param->fourcc;
	check(output_paint(f->server.output, 3, &rect));
	pump(&f->server);
	const struct test_frame *frame = test_session_last_frame(f->session);
	check_int(f->session->n_frames, ==, 3);
	check_int(f->session->views[frame->index].fourcc, ==, param->fourcc);
	check_int(frame->n_damage, ==, 1);
	check_int(frame->damage[0].x + frame->damage[0].y, ==, 0);
	check_int(frame->damage[0].width, ==, 64);
	check_int(frame->damage[0].height, ==, 48);
}

/* release */

TEST_PARAMS(fixture, bad_serials, bool is_zero, is_released; uint32_t beyond_the_last) = {
	{ "unknown", { .acceptable = ALL }, .beyond_the_last = 1 },
	{ "zero", { .acceptable = ALL }, .is_zero = true },
	{ "released", { .acceptable = ALL }, .is_released = true },
};

TEST_WITH_EACH(fixture, bad_serials, release_of_a_bad_serial_is_invalid_serial) {
	fixture_paint(f, 1);
	uint32_t serial = test_session_last_frame(f->session)->serial;
	if (param->is_released) {
		test_session_release(f->session, serial);
		client_roundtrip(f->client); // the first release is fine
	}
	test_session_release(f->session, param->is_zero ? 0 : serial + param->beyond_the_last);
	client_expect_error(f->client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
}

TEST_WITH(fixture, release_of_a_serial_of_another_session_is_invalid_serial, .acceptable = ALL) {
	struct test_session *other = test_session_start_reader(f->client, ALL);
	fixture_paint_frames(f, 0, 4);
	test_session_release(f->session, test_session_last_frame(other)->serial);
	client_expect_error(f->client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
}

TEST_WITH_EACH(fixture, each_guarantee, release_after_stopped_has_no_effect) {
	fixture_paint(f, 1);
	vitrine_view_manager_v1_stop_sessions(f->server.manager, VITRINE_VIEW_STOP_REVOKED);
	test_session_release_last(f->session);
	test_session_release(f->session, 12345);
	client_roundtrip(f->client); // fails on a protocol error
	check(f->session->stopped);
}

/* revoked */

TEST_WITH(fixture, frame_held_past_the_deadline_is_revoked) {
	f->server.manager->limits.frame_deadline_ms = 60;
	f->server.manager->limits.contended_frame_deadline_ms = 20;
	struct test_session *session = test_session_start(f->client, ALL);
	uint64_t start = now_ns();
	fixture_paint_frames(f, 1, 4); // the buffer is in the way only when newer ones come
	pump_until(&f->server, session->n_revoked > 0);
	check(now_ns() - start >= 60 * 1000000ull);
	check(session->frames[0].revoked);

	// "A frame that was revoked may be released as well", and has to be
	fixture_paint(f, 5);
	uint32_t n_frames = session->n_frames;
	fixture_paint(f, 6);
	check_int(session->n_frames, ==, n_frames);
	for (uint32_t i = 0; i < n_frames; i++) {
		test_session_release(session, session->frames[i].serial);
	}
	client_roundtrip(f->client);
	fixture_paint(f, 7);
	check_int(session->n_frames, >, n_frames);
	check_int(test_session_get_pixel(session, 0, 0), ==, 7);
}

/** The newest frame is there for a session that has none, and no buffer for both. */
TEST_WITH(fixture, frame_is_revoked_earlier_if_another_session_waits, .acceptable = SEALED) {
	f->server.manager->limits.frame_deadline_ms = 1000000;
	f->server.manager->limits.contended_frame_deadline_ms = 20;
	fixture_paint_frames(f, 1, 2);
	struct test_session *other = test_session_start(f->client, SEALED);
	fixture_paint_frames(f, 3, 4);
	check_int(f->session->n_frames, ==, 2);
	test_session_release_all_but(other, 0);
	client_roundtrip(f->client);
	uint32_t n_frames = other->n_frames;
	pump_until(&f->server, other->n_frames > n_frames);
	check_int(f->session->n_revoked, >, 0);
}

/** "The event is on its way to the client before the content changes" */
TEST_WITH(fixture, revoked_is_on_its_way_when_the_output_takes_a_buffer_back,
		.acceptable = SEALED) {
	fixture_paint_frames(f, 1, 2);
	struct test_session *late = test_session_start(f->client, SEALED);
	uint32_t n_revoked = 0;
	for (uint32_t i = 3; n_revoked == 0; i++) {
		check_int(i, <, 8);
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_read(f->client); // before the event loop flushes anything
		n_revoked = f->session->n_revoked + late->n_revoked;
		pump(&f->server);
		check_int(f->session->n_revoked + late->n_revoked, ==, n_revoked);
	}
}

TEST_WITH_EACH(fixture, each_guarantee, revoked_is_on_its_way_at_the_deadline) {
	f->server.manager->limits.frame_deadline_ms = 10;
	f->server.manager->limits.contended_frame_deadline_ms = 5;
	fixture_paint_frames(f, 1, 4);
	uint32_t n_revoked = 0;
	while (n_revoked == 0) {
		wl_event_loop_dispatch(f->server.loop, 5);
		client_read(f->client);
		n_revoked = f->session->n_revoked;
		wl_display_flush_clients(f->server.display); // what would not be on its way
		client_read(f->client);
		check_int(f->session->n_revoked, ==, n_revoked);
	}
}

TEST_WITH(fixture, frame_on_a_static_screen_is_not_revoked) {
	f->server.manager->limits.frame_deadline_ms = 10;
	f->server.manager->limits.contended_frame_deadline_ms = 5;
	struct test_session *session = test_session_start(f->client, ALL);
	fixture_paint(f, 1);
	uint64_t start = now_ns();
	while (now_ns() - start < 100 * 1000000ull) {
		pump_wait(&f->server);
	}
	check_int(session->n_revoked, ==, 0);
}

/* stopped */

TEST_WITH(fixture, removed_output_stops_its_sessions) {
	struct test_session *direct = test_session_start(f->client, SEALED);
	struct test_session *snapshot = test_session_start(f->client, SNAPSHOT);
	fixture_paint(f, 0x998877);
	wlr_output_destroy(f->server.output->wlr_output);
	client_roundtrip(f->client);
	check(direct->stopped && snapshot->stopped);
	check_int(direct->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(snapshot->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(test_session_get_pixel(direct, 0, 0), ==, 0x998877);
}

TEST_WITH_EACH(fixture, each_reader, sessions_of_one_output_see_nothing_of_another) {
	struct server_output *other_output = server_add_output(&f->server, 64, 48);
	fixture_paint(f, 0x111111);
	uint64_t checksum = test_view_checksum(&f->session->views[0]);
	uint32_t n_frames = f->session->n_frames;
	for (uint32_t i = 0; i < 20; i++) {
		check(output_paint(other_output, 0x222222, NULL));
		pump(&f->server);
	}
	check_int(f->session->n_frames, ==, n_frames);
	check_int(test_view_checksum(&f->session->views[0]), ==, checksum);
}

/* Options */

TEST_WITH(fixture, paint_cursors_locks_software_cursors_while_the_session_lives) {
	struct wlr_output *output = f->server.output->wlr_output;
	struct test_session *without = test_session_start(f->client, ALL);
	check_int(output->software_cursor_locks, ==, 0);
	check_int(output->attach_render_locks, ==, 1);
	struct test_session *with = test_session_create(f->client,
		VITRINE_VIEW_OPTION_PAINT_CURSORS, ALL);
	client_roundtrip(f->client);
	check_int(output->software_cursor_locks, ==, 1);
	test_session_close(with);
	check_int(output->software_cursor_locks, ==, 0);
	test_session_close(without);
	check_int(output->attach_render_locks, ==, 0);
}

TEST_PARAMS(fixture, cursors, float scale; enum wl_output_transform transform; int32_t hotspot) = {
	{ "as it was", .scale = 1 },
	{ "on an output with a scale", .scale = 1.5F, .hotspot = 3 },
	{ "on an output that is rotated", .scale = 1, .transform = WL_OUTPUT_TRANSFORM_90, .hotspot = 2 },
};

/** The first pixel of the picture that a session begins with, as people see it. */
static uint32_t look_once(struct fixture *f, uint32_t options) {
	struct test_session *session = test_session_create(f->client, options, ALL);
	pump_until(&f->server, session->n_frames > 0);
	bool is_rotated = f->server.output->wlr_output->transform == WL_OUTPUT_TRANSFORM_90;
	uint32_t pixel = test_session_get_pixel(session, 0, is_rotated ? 47 : 0);
	test_session_close(session);
	return pixel;
}

TEST_WITH_EACH(fixture, cursors, cursor_of_a_session_that_has_ended_is_not_shown_again) {
	struct wlr_output *output = f->server.output->wlr_output;
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_scale(&state, param->scale);
	wlr_output_state_set_transform(&state, param->transform);
	check(wlr_output_commit_state(output, &state));
	wlr_output_state_finish(&state);
	f->server.output->repaint = true;
	fixture_paint(f, 0x123456);
	struct wlr_output_cursor *cursor = output_add_cursor(f->server.output, param->hotspot);
	check(output->hardware_cursor == cursor);
	const struct wlr_output_cursor before = *cursor;

	for (uint32_t i = 0; i < 3; i++) { // on a screen that stands still
		check_int(look_once(f, 0), ==, 0x123456);
		check_int(look_once(f, VITRINE_VIEW_OPTION_PAINT_CURSORS), ==, 0xffffff);
		check(output->hardware_cursor == cursor);
	}
	check_int(cursor->width, ==, before.width);
	check_int(cursor->height, ==, before.height);
	check_int(cursor->hotspot_x, ==, before.hotspot_x);
	check_int(cursor->hotspot_y, ==, before.hotspot_y);
	wlr_output_cursor_destroy(cursor);
}

TEST_PARAMS(fixture, cursor_changes, bool is_destroyed, is_hidden, is_locked, is_off) = {
	{ "has gone", .is_destroyed = true },
	{ "is hidden", .is_hidden = true },
	{ "others want in the pixels", .is_locked = true },
	{ "is on an output that is off", .is_off = true },
};

TEST_WITH_EACH(fixture, cursor_changes, display_does_not_get_a_cursor_back_that) {
	struct wlr_output *output = f->server.output->wlr_output;
	f->server.output->repaint = true;
	fixture_paint(f, 0x123456);
	struct wlr_output_cursor *cursor = output_add_cursor(f->server.output, 0);
	struct test_session *session =
		test_session_create(f->client, VITRINE_VIEW_OPTION_PAINT_CURSORS, ALL);
	pump_until(&f->server, session->n_frames > 0);
	check(output->hardware_cursor == NULL);
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	if (param->is_destroyed) {
		wlr_output_cursor_destroy(cursor);
	} else if (param->is_hidden) {
		wlr_output_cursor_set_buffer(cursor, NULL, 0, 0);
	} else if (param->is_locked) {
		wlr_output_lock_software_cursors(output, true);
	} else {
		wlr_output_state_set_enabled(&state, false);
		check(wlr_output_commit_state(output, &state));
	}
	wlr_output_state_finish(&state);
	test_session_close(session);
	check(output->hardware_cursor == NULL);
	if (!param->is_destroyed) {
		wlr_output_cursor_destroy(cursor);
	}
}

/* Snapshots */

TEST_WITH(fixture, snapshot_copies_only_damage_once_for_all) {
	struct test_session *sessions[8];
	for (int i = 0; i < 8; i++) {
		sessions[i] = test_session_start_reader(f->client, SNAPSHOT);
	}
	for (uint32_t i = 0; i < 6; i++) {
		fixture_paint(f, 0x303030); // all copies have been painted now
	}
	uint64_t checksum = test_view_checksum(&sessions[0]->views[0]);
	const struct rect rect = { 8, 8, 4, 4 };
	for (uint32_t i = 0; i < 6; i++) {
		check(output_paint(f->server.output, 0xff0000, &rect));
		pump(&f->server);
	}
	for (int i = 0; i < 8; i++) {
		check_int(sessions[i]->n_frames, ==, 12);
		check_int(test_session_get_pixel(sessions[i], 9, 9), ==, 0xff0000);
		check_int(test_session_get_pixel(sessions[i], 20, 20), ==, 0x303030);
		check_int(sessions[i]->n_views, <=, 4);
	}
	check(test_view_checksum(&sessions[0]->views[0]) != checksum);
}

TEST_WITH(fixture, snapshot_session_that_was_full_gets_the_newest_content) {
	f->server.output->repaint = true;
	struct test_session *session = test_session_start(f->client, SNAPSHOT);
	fixture_paint_frames(f, 1, 6);
	check_int(session->n_frames, ==, 2);
	uint32_t serial = test_session_last_frame(session)->serial;
	test_session_release(session, session->frames[0].serial);
	test_session_release(session, serial);
	pump_until(&f->server, session->n_frames > 2);
	check_int(test_session_get_pixel(session, 4, 4), ==, fixture_color(6));
	check_int(test_session_last_frame(session)->skipped, >, 0);
}

/* Races and endurance */

TEST_WITH(fixture, thousand_sessions_destroyed_at_any_moment) {
	harness_set_timeout(60);
	struct client *client = f->client;
	fixture_paint(f, 0);
	pump(&f->server);
	int n_fds = 0;
	unsigned seed = 1;
	for (uint32_t i = 0; i < 1000; i++) {
		if (i == 10) {
			n_fds = harness_count_fds();
		}
		struct test_session *session = test_session_create(client, 0,
			i % 3 == 0 ? SNAPSHOT : ALL);
		session->auto_release = rand_r(&seed) % 2;
		wl_display_flush(client->display);
		// The compositor goes on for a while without the client reading anything
		client->asleep = rand_r(&seed) % 2;
		for (int n = rand_r(&seed) % 4; n > 0; n--) {
			check(output_paint(f->server.output, fixture_color(i), NULL));
			for (int m = rand_r(&seed) % 3; m > 0; m--) {
				pump(&f->server);
			}
		}
		client->asleep = false;
		if (rand_r(&seed) % 2) {
			wl_display_dispatch_pending(client->display);
		}
		test_session_destroy(session); // events are in flight
		if (rand_r(&seed) % 2) {
			client_roundtrip(client);
		}
	}
	client_roundtrip(client);
	check_int(wl_display_get_error(client->display), ==, 0);
	check_int(f->server.sessions_started, ==, 1000);
	check_int(f->server.sessions_stopped, ==, 1000);
	// Retired memory is watched until the client has closed it
	pump_until(&f->server, harness_count_fds() <= n_fds);
}

/* Quotas */

TEST_WITH(fixture, sessions_beyond_the_quota_stop_with_no_resources) {
	f->server.manager->limits.objects.per_holder = 4;
	struct test_session *sessions[5];
	for (int i = 0; i < 5; i++) {
		sessions[i] = test_session_create(f->client, 0, ALL);
	}
	client_roundtrip(f->client);
	for (int i = 0; i < 4; i++) {
		check(!sessions[i]->stopped);
	}
	test_session_check_stop(sessions[4], VITRINE_VIEW_STOP_NO_RESOURCES);
	test_session_destroy(sessions[0]);
	test_session_start(f->client, ALL); // there is room again
}

TEST_WITH(fixture, ten_thousand_sessions_leave_others_alone) {
	// One process, so one quota: this is what hostile clients leave of it
	f->server.manager->limits.objects.per_holder = 65;
	struct client *honest_client = client_create(&f->server);
	struct test_session *honest = test_session_start_reader(honest_client, ALL);
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	struct test_session **sessions = calloc(10000, sizeof(*sessions));
	for (uint32_t i = 0; i < 10000; i++) {
		sessions[i] = test_session_create_for(f->client, source, 0, ALL);
		if (i % 100 == 99) {
			fixture_show(f, honest, fixture_color(i));
		}
	}
	client_roundtrip(f->client);
	uint32_t running = 0;
	for (uint32_t i = 0; i < 10000; i++) {
		running += !sessions[i]->stopped;
	}
	check_int(running, ==, 64);
	check_int(honest->n_frames, ==, 100);
	for (uint32_t i = 0; i < 10000; i++) {
		test_session_destroy(sessions[i]);
	}
	ext_image_capture_source_v1_destroy(source);
	free(sessions);
}

TEST_WITH(fixture, sessions_that_retire_too_often_start_later) {
	f->server.manager->limits.starts_per_holder.burst = 3;
	f->server.manager->limits.starts_per_holder.interval_ms = 40;
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < 6; i++) {
		struct test_session *session = test_session_create(f->client, 0, ALL);
		pump_until(&f->server, session->n_depth_events == 1);
		fixture_paint(f, fixture_color(i));
		check(session->n_frames > 0); // what was there before may come first
		check_int(test_session_get_pixel(session, 0, 0), ==, fixture_color(i));
		test_session_close(session);
	}
	check(now_ns() - start >= 2 * 40 * 1000000ull);
}

TEST_WITH(fixture, sessions_at_once_start_one_an_interval) {
	f->server.manager->limits.starts_per_holder.burst = 3;
	f->server.manager->limits.starts_per_holder.interval_ms = 40;
	struct test_session *sessions[6];
	uint64_t start = now_ns();
	for (int i = 0; i < 6; i++) {
		sessions[i] = test_session_create(f->client, 0, ALL);
	}
	client_roundtrip(f->client);
	check(sessions[2]->n_depth_events == 1);
	for (int i = 3; i < 6; i++) {
		pump_until(&f->server, sessions[i]->n_depth_events == 1);
		// Less a ms, by which the clock of quotas may be behind
		check(now_ns() - start >= ((uint64_t)(i - 2) * 40 - 1) * 1000000);
	}
	// They were paid for when they started: their ends are no debt that others wait for
	for (uint32_t i = 0; i < 6; i++) {
		fixture_paint(f, fixture_color(i));
		check(sessions[i]->n_frames > 0);
		test_session_destroy(sessions[i]);
	}
	client_roundtrip(f->client);
	start = now_ns();
	struct test_session *late = test_session_create(f->client, 0, ALL);
	pump_until(&f->server, late->n_depth_events == 1);
	check(now_ns() - start < 3 * 40 * 1000000ull);
}

TEST_WITH(fixture, sessions_on_a_still_screen_start_later_as_well) {
	f->server.manager->limits.starts_per_holder.burst = 3;
	f->server.manager->limits.starts_per_holder.interval_ms = 100000;
	for (int i = 0; i < 3; i++) {
		struct test_session *session = test_session_start(f->client, ALL);
		if (i == 0) {
			fixture_paint(f, 0x111111);
		}
		pump_until(&f->server, session->n_frames == 1);
		test_session_close(session);
	}
	struct test_session *late = test_session_try(f->client, ALL);
	check(late->n_depth_events == 0 && !late->stopped);
}

TEST_WITH(fixture, session_that_waits_to_start_can_be_destroyed) {
	f->server.manager->limits.starts_per_holder.burst = 1;
	f->server.manager->limits.starts_per_holder.interval_ms = 100000;
	struct test_session *first = test_session_start(f->client, ALL);
	fixture_paint(f, 1);
	test_session_close(first);

	struct test_session *waiting[3];
	for (int i = 0; i < 3; i++) {
		waiting[i] = test_session_create(f->client, 0, ALL);
	}
	client_roundtrip(f->client);
	for (int i = 0; i < 3; i++) {
		check(waiting[i]->n_depth_events == 0 && !waiting[i]->stopped);
	}
	test_session_close(waiting[0]);
	vitrine_view_manager_v1_stop_sessions(f->server.manager, VITRINE_VIEW_STOP_LOCKED);
	client_roundtrip(f->client);
	check(waiting[1]->stopped && waiting[2]->stopped);
	test_session_destroy(waiting[1]);
	test_session_destroy(waiting[2]);

	struct test_session *last = test_session_try(f->client, ALL);
	wlr_output_destroy(f->server.output->wlr_output);
	client_roundtrip(f->client);
	test_session_check_stop(last, VITRINE_VIEW_STOP_SOURCE_GONE);
}

TEST_WITH(fixture, client_that_keeps_retired_memory_gets_no_more) {
	fixture_check_keeper(f, ALL);
}

/** Goes on in buffers of wlroots' own after two frames that were shared. */
static void move_to_copies(struct fixture *f, struct test_session *session, bool drop) {
	struct wlr_allocator *stock = wlr_allocator_autocreate(f->server.backend, f->server.renderer);
	struct wlr_drm_format format = {.format = DRM_FORMAT_XRGB8888};
	struct wlr_output *output = f->server.output->wlr_output;
	fixture_paint(f, 1);
	fixture_paint(f, 2);
	check_int(session->n_views, ==, 2); // both are going to retire
	f->server.output->swapchain = wlr_swapchain_create(stock, 64, 48, &format);
	f->server.output->repaint = true;
	check(output_paint(f->server.output, 3, NULL));
	if (drop) { // before the session has its first copy
		wl_event_loop_dispatch(f->server.loop, 0);
		wlr_swapchain_destroy(output->swapchain);
		output->swapchain = NULL;
	}
	pump_until(&f->server, session->stopped || session->n_frames >= 3);
	if (!session->stopped) {
		fixture_paint(f, 0x445566);
	}
	wlr_swapchain_destroy(f->server.output->swapchain);
	f->server.output->swapchain = NULL;
	wlr_allocator_destroy(stock);
}

TEST_WITH(fixture, session_that_changes_to_copies_and_keeps_too_much_gets_its_own) {
	f->server.manager->limits.shared_bytes.per_holder = 64 * 48 * 4;
	struct test_session *session = test_session_start_reader(f->client, ALL);
	move_to_copies(f, session, false);
	check(!session->stopped);
	struct test_view *view = &session->views[test_session_last_frame(session)->index];
	check_int(view->guarantee, ==, SNAPSHOT);
	check_int(test_view_get_pixel(view, 1, 1), ==, 0x445566);
}

TEST_PARAMS(fixture, swapchains, bool drop) = {
	{ "kept" },
	{ "dropped", .drop = true },
};

TEST_WITH_EACH(fixture, swapchains, session_that_changes_to_copies_forgets_the_views_before) {
	struct test_session *session = test_session_start_reader(f->client, ALL);
	move_to_copies(f, session, param->drop);
	check_int(session->n_retired, ==, 2);
	struct test_view *view = &session->views[test_session_last_frame(session)->index];
	check_int(view->guarantee, ==, SNAPSHOT);
	check_int(test_view_get_pixel(view, 1, 1), ==, 0x445566);
}

/** Each change of size retires a buffer, and the client closes nothing. */
static void resize_until_it_stops(struct fixture *f, struct test_session *session,
		uint32_t guarantee) {
	for (int i = 0; i < 64 && !session->stopped; i++) {
		output_resize(f->server.output, i % 2 == 0 ? 48 : 64, i % 2 == 0 ? 64 : 48);
		fixture_paint(f, fixture_color((uint32_t)i));
		client_roundtrip(f->client);
		if (!session->stopped && session->views[session->n_views - 1].guarantee == guarantee) {
			return;
		}
	}
}

TEST_WITH(fixture, running_session_that_keeps_too_much_gets_copies_at_its_own_charge) {
	f->server.output->repaint = true;
	f->server.manager->limits.shared_bytes.per_holder = 64 * 48 * 4 * 4;
	f->server.manager->limits.private_bytes.per_holder = 64 * 48 * 4 * 8;
	struct test_session *session = test_session_start_reader(f->client, ALL);
	resize_until_it_stops(f, session, SNAPSHOT);
	check(!session->stopped);
	resize_until_it_stops(f, session, 0); // what it keeps of these is nobody else's
	test_session_check_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
}

TEST_WITH(fixture, holder_cannot_take_a_lease, .acceptable = ALL) {
	// The positive case: nobody else holds this one
	int memfd = vitrine_memfd_create(4096);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	check(fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
	close(fd);
	close(memfd);

	fixture_paint(f, 1);
	// With it, the compositor would have to wait for us when it opens the file
	check(fcntl(f->session->views[0].fd, F_SETLEASE, F_RDLCK) < 0);
	check(fcntl(f->session->views[0].fd, F_SETLEASE, F_WRLCK) < 0);
}

/* Bytes that no library would send */

TEST_WITH(fixture, half_a_message_and_a_flood_of_fds_hurt_only_the_sender,
		.acceptable = ALL, .auto_release = true) {
	struct client *client = client_create(&f->server);

	struct test_session *session = test_session_start(client, ALL);
	fixture_paint(f, 1);
	check_int(session->n_frames, ==, 1);
	int socket_fd = wl_display_get_fd(client->display);
	const uint32_t half[] = { 2, 12 << 16 };
	check(write(socket_fd, half, sizeof(half)) == sizeof(half));
	fixture_paint_frames(f, 0, 19);
	check_int(f->session->n_frames, ==, 21);

	const uint32_t nonsense[] = { 0xffffffff, 0xffffffff, 0, 0 };
	check(write(socket_fd, nonsense, sizeof(nonsense)) > 0);
	pump_until(&f->server, client->wl_client == NULL);
	fixture_paint_frames(f, 0, 19);
	check_int(f->session->n_frames, ==, 41);
}

/* Listeners that stop sessions */

static struct vitrine_view_session_v1 *started[8];
static size_t n_started;

static void handle_session_start(struct wl_listener *listener, void *data) {
	started[n_started++] = data;
}

/** An embedder for which a capture is a set of sessions: with one, all end. */
static void handle_session_stop(struct wl_listener *listener, void *data) {
	for (size_t i = 0; i < n_started; i++) {
		struct vitrine_view_session_v1 *session = started[i];
		started[i] = NULL;
		if (session != NULL && session != data) {
			vitrine_view_session_v1_stop(session, VITRINE_VIEW_STOP_REVOKED);
		}
	}
}

static void end_by_output(struct fixture *f) {
	wlr_output_destroy(f->server.output->wlr_output);
}

static void end_by_quota(struct fixture *f) {
	f->server.manager->limits.shared_bytes.for_all = 0;
	f->server.manager->limits.private_bytes.for_all = 0;
	output_resize(f->server.output, 48, 64); // what was announced retires, and nothing is left
	fixture_paint(f, 2);
	fixture_paint(f, 3); // for those that would have copies of their own
}

TEST_PARAMS(fixture, ends, void (*end)(struct fixture *f)) = {
	{ "lock", .end = end_by_lock },
	{ "policy", .end = end_by_policy },
	{ "output", .end = end_by_output },
	{ "quota", .end = end_by_quota },
};

TEST_WITH_EACH(fixture, ends, listener_may_stop_other_sessions) {
	server_add_output(&f->server, 64, 48);
	struct client *client = client_create(&f->server);
	struct wl_listener start = { .notify = handle_session_start };
	struct wl_listener stop = { .notify = handle_session_stop };
	wl_signal_add(&f->server.manager->events.session_start, &start);
	wl_signal_add(&f->server.manager->events.session_stop, &stop);
	struct ext_image_capture_source_v1 *sources[] = {
		client_get_source(client, 0), client_get_source(client, 1),
	};
	for (uint32_t i = 0; i < 6; i++) {
		test_session_create_for(client, sources[i / 2 % 2], 0, ALL)->auto_release = true;
	}
	ext_image_capture_source_v1_destroy(sources[0]);
	ext_image_capture_source_v1_destroy(sources[1]);
	client_roundtrip(client);
	check_int(n_started, ==, 6);
	uint32_t n_stopped = f->server.sessions_stopped;
	fixture_paint(f, 1);
	param->end(f);
	pump(&f->server);
	check_int(f->server.sessions_stopped, ==, n_stopped + 6);
	wl_list_remove(&start.link);
	wl_list_remove(&stop.link);
}
