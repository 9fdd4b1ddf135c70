/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/interfaces/wlr_output.h>
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

static uint32_t frame_color(uint32_t n) {
	return (n * 0x010305) & 0xffffff;
}

static uint64_t now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/** A session that has started. */
static struct test_session *start_session(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create(client, 0, acceptable);
	client_roundtrip(client);
	check(!session->stopped);
	return session;
}

/** Paints a frame and lets everybody see it. */
static void paint(struct server *server, uint32_t color) {
	check(output_paint(server->output, color, NULL));
	pump(server);
}

/* Announcing */

TEST(depth_is_sent_once_and_first) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	check_int(session->n_depth_events, ==, 1);
	paint(&server, 0x010203);
	check_int(session->n_depth_events, ==, 1);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(view_is_announced_before_its_first_frame) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	check_int(session->n_views, ==, 0);
	paint(&server, 0xabcdef);
	check_int(session->n_views, ==, 1);
	check_int(session->n_frames, ==, 1);
	struct test_view *view = &session->views[0];
	check_int(view->storage, ==, XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MEMFD);
	check_int(view->guarantee, ==, SEALED);
	check_int(view->width, ==, 64);
	check_int(view->height, ==, 48);
	check_int(view->fourcc, ==, DRM_FORMAT_XRGB8888);
	check_int(view->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check_int(view->stride, >=, 64 * 4);
	check_int(test_view_get_pixel(view, 0, 0), ==, 0xabcdef);
	check_int(test_view_get_pixel(view, 63, 47), ==, 0xabcdef);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(guarantee_is_one_that_the_client_accepts) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *sealed = start_session(client, SEALED);
	struct test_session *snapshot = start_session(client, SNAPSHOT);
	struct test_session *both = start_session(client, SEALED | SNAPSHOT);
	paint(&server, 0x00ff00);
	check_int(sealed->views[0].guarantee, ==, SEALED);
	check_int(snapshot->views[0].guarantee, ==, SNAPSHOT);
	check_int(both->views[0].guarantee, ==, SEALED); // zero-copy before the copy
	check_int(test_session_get_pixel(snapshot, 5, 5), ==, 0x00ff00);
	test_session_destroy(sealed);
	test_session_destroy(snapshot);
	test_session_destroy(both);
	server_finish(&server);
}

TEST(guarantee_that_does_not_exist_here_is_unsupported) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, VITRINE_GUARANTEE_GUARDED);
	check(output_paint(server.output, 0, NULL));
	pump_until(&server, session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(session->n_views, ==, 0);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(buffers_of_a_stock_allocator_are_only_copied) {
	struct server server;
	server_init(&server, &(struct server_options){ .stock_allocator = true });
	struct client *client = client_create(&server);
	struct test_session *sealed = start_session(client, SEALED);
	struct test_session *any = start_session(client, ALL);
	check(output_paint(server.output, 0x0000ff, NULL));
	pump_until(&server, sealed->stopped);
	check_int(sealed->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(any->views[0].guarantee, ==, SNAPSHOT);
	check_int(test_session_get_pixel(any, 63, 47), ==, 0x0000ff);
	test_session_destroy(sealed);
	test_session_destroy(any);
	server_finish(&server);
}

TEST(session_asks_a_static_output_for_its_first_frame) {
	struct server server;
	server_init(&server, NULL);
	server.output->repaint = true;
	check(output_paint(server.output, 0x777777, NULL));
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	pump_until(&server, session->n_frames == 1);
	check_int(test_session_get_pixel(session, 1, 1), ==, 0x777777);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(nothing_is_sent_when_nothing_changes) {
	struct server server;
	server_init(&server, NULL);
	server.output->repaint = true;
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, 0, ALL);
	struct test_session *snapshot = test_session_create(client, 0, SNAPSHOT);
	session->auto_release = snapshot->auto_release = true;
	pump_until(&server, session->n_frames > 0 && snapshot->n_frames > 0);
	pump(&server);
	uint32_t n_frames = session->n_frames + snapshot->n_frames;
	uint32_t n_requests = server.output->n_frame_requests;
	// Neither on the wire nor in the event loop
	for (int i = 0; i < 30; i++) {
		struct pollfd fds[] = {
			{ .fd = wl_event_loop_get_fd(server.loop), .events = POLLIN },
			{ .fd = wl_display_get_fd(client->display), .events = POLLIN },
		};
		// The backend's frame timer, and a look for late holders, may run out once
		// after the last commit
		int n = poll(fds, 2, 20);
		check(n == 0 || i < 10);
		pump(&server);
	}
	check_int(session->n_frames + snapshot->n_frames, ==, n_frames);
	check_int(server.output->n_frame_requests, ==, n_requests);
	test_session_destroy(session);
	test_session_destroy(snapshot);
	server_finish(&server);
}

/* Frames */

TEST(frame_comes_with_damage_transform_and_time) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	uint64_t before = now_ns();
	paint(&server, 0);
	uint64_t after = now_ns();
	struct test_frame *frame = test_session_last_frame(session);
	// "The first frame [...] is damaged entirely"
	check_int(frame->n_damage, ==, 1);
	check_int(frame->damage[0].width, ==, 64);
	check_int(frame->damage[0].height, ==, 48);
	check_int(session->n_transforms, ==, 1);
	check_int(session->transform, ==, WL_OUTPUT_TRANSFORM_NORMAL);
	uint64_t when = frame->tv_sec * 1000000000 + frame->tv_nsec;
	check(frame->tv_nsec < 1000000000 && when >= before && when <= after);

	const struct rect rect = { 3, 4, 10, 20 };
	check(output_paint(server.output, 0xffffff, &rect));
	pump(&server);
	frame = test_session_last_frame(session);
	check_int(session->n_frames, ==, 2);
	check_int(frame->n_damage, ==, 1);
	check(memcmp(&frame->damage[0], &rect, sizeof(rect)) == 0);
	check_int(session->n_transforms, ==, 1); // it did not change
	test_session_destroy(session);
	server_finish(&server);
}

TEST(transform_is_sent_again_when_it_changes) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	paint(&server, 0);
	// The headless backend has no rotation of its own: the compositor rotates
	server.output->wlr_output->transform = WL_OUTPUT_TRANSFORM_90;
	paint(&server, 1);
	check_int(session->n_transforms, ==, 2);
	check_int(session->transform, ==, WL_OUTPUT_TRANSFORM_90);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(damage_of_skipped_frames_is_merged) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 0);
	test_session_release_last(session);
	pump(&server);
	// Fill up the depth with frames that are released later
	paint(&server, 1);
	const struct rect a = { 0, 0, 4, 4 }, b = { 20, 20, 4, 4 };
	uint32_t held[2] = { test_session_last_frame(session)->serial, 0 };
	uint32_t n_frames = session->n_frames;
	check(output_paint(server.output, 2, &(struct rect){ 40, 40, 2, 2 }));
	pump(&server);
	if (session->n_frames > n_frames) {
		held[1] = test_session_last_frame(session)->serial;
		n_frames = session->n_frames;
	}
	check(output_paint(server.output, 3, &a));
	check(output_paint(server.output, 4, &b));
	pump(&server);
	check_int(session->n_frames, ==, n_frames);

	test_session_release(session, held[0]);
	pump(&server);
	check_int(session->n_frames, ==, n_frames + 1);
	struct test_frame *frame = test_session_last_frame(session);
	check_int(frame->skipped, ==, 1);
	bool has_a = false, has_b = false;
	for (uint32_t i = 0; i < frame->n_damage; i++) {
		has_a |= memcmp(&frame->damage[i], &a, sizeof(a)) == 0;
		has_b |= memcmp(&frame->damage[i], &b, sizeof(b)) == 0;
	}
	check(has_a && has_b);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(too_many_damage_rectangles_become_few) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 0);
	paint(&server, 1);
	for (int i = 0; i < 24; i++) {
		struct rect rect = { (i % 6) * 10, (i / 6) * 10, 3, 3 };
		check(output_paint(server.output, 2, &rect));
	}
	uint32_t serial = session->frames[0].serial;
	test_session_release(session, serial);
	pump(&server);
	check_int(session->n_frames, ==, 3);
	struct test_frame *frame = test_session_last_frame(session);
	check_int(frame->n_damage, <=, 16);
	pixman_region32_t damage;
	test_frame_get_damage(frame, &damage);
	const pixman_box32_t *extents = pixman_region32_extents(&damage);
	check_int(extents->x2, ==, 53);
	check_int(extents->y2, ==, 33);
	pixman_region32_fini(&damage);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(session_that_holds_as_many_frames_as_its_depth_gets_no_more) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	for (uint32_t i = 0; i < 10; i++) {
		paint(&server, frame_color(i));
	}
	check_int(session->depth, ==, 2);
	check_int(session->n_frames, ==, 2);
	check_int(session->n_revoked, ==, 0); // nobody else needs the buffers
	test_session_destroy(session);
	server_finish(&server);
}

TEST(newest_frame_is_sent_on_release_and_older_ones_are_skipped) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	for (uint32_t i = 1; i <= 10; i++) {
		paint(&server, frame_color(i));
	}
	check_int(session->n_frames, ==, 2);
	test_session_release(session, session->frames[0].serial);
	pump(&server);
	check_int(session->n_frames, ==, 3);
	check_int(test_session_last_frame(session)->skipped, ==, 7);
	check_int(test_session_get_pixel(session, 9, 9), ==, frame_color(10));
	test_session_destroy(session);
	server_finish(&server);
}

TEST(steady_state_carries_no_fd_and_makes_no_object) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	for (uint32_t i = 1; i <= 16; i++) {
		paint(&server, frame_color(i));
	}
	uint32_t n_fds = session->n_fds;
	int open_fds = harness_count_fds();
	for (uint32_t i = 17; i <= 600; i++) {
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(session, 30, 30), ==, frame_color(i));
	}
	check_int(session->n_frames, ==, 600);
	check_int(session->n_skipped, ==, 0);
	// One fd a plane and distinct buffer, and none of them in steady state
	check_int(session->n_fds, ==, n_fds);
	check_int(session->n_fds, ==, session->n_views);
	check_int(session->n_views, <=, 8);
	check_int(harness_count_fds(), ==, open_fds);
	// The frame event has no room for an fd or an object at all
	const struct wl_interface *interface = &xx_dmabuf_view_session_v1_interface;
	for (int i = 0; i < interface->event_count; i++) {
		if (strcmp(interface->events[i].name, "frame") == 0) {
			check_str(interface->events[i].signature, "uu");
		}
	}
	test_session_destroy(session);
	server_finish(&server);
}

/* Invariant 1 */

TEST(held_pixels_do_not_change) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	for (int kind = 0; kind < 2; kind++) {
		struct test_session *session = start_session(client, kind == 0 ? SEALED : SNAPSHOT);
		struct test_session *other = start_session(client, kind == 0 ? SEALED : SNAPSHOT);
		other->auto_release = true;
		paint(&server, 0x0a0b0c);
		struct test_view *view = &session->views[test_session_last_frame(session)->index];
		uint64_t checksum = test_view_checksum(view);
		for (uint32_t i = 1; i <= 50; i++) {
			paint(&server, frame_color(i));
			check_int(test_view_checksum(view), ==, checksum);
		}
		check_int(other->n_frames, ==, 51);
		check_int(session->n_revoked, ==, 0);
		test_session_destroy(session);
		test_session_destroy(other);
	}
	server_finish(&server);
}

/* Invariant 2 */

enum ending { END_DESTROY, END_STOP, END_LOCK, END_DISCONNECT, END_POLICY };

static uint32_t deny_all(const struct vitrine_view_request *request, void *data) {
	return 0;
}

static void end_session(struct server *server, struct test_session *session,
		enum ending ending) {
	switch (ending) {
	case END_DESTROY:
		test_session_end(session);
		break;
	case END_STOP:
		vitrine_view_manager_v1_stop_sessions(server->manager, VITRINE_VIEW_STOP_REVOKED);
		break;
	case END_LOCK:
		vitrine_view_manager_v1_stop_sessions(server->manager, VITRINE_VIEW_STOP_LOCKED);
		break;
	case END_DISCONNECT:
		wl_client_destroy(session->client->wl_client);
		break;
	case END_POLICY:
		vitrine_view_manager_v1_set_policy(server->manager, deny_all, NULL);
		break;
	}
	pump(server);
}

/**
 * What a client keeps of an ended session must not show what is drawn later;
 * and the control: without the end, the same mapping does show it.
 */
static void check_kept_memory(enum ending ending, uint32_t acceptable, bool release) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, acceptable);
	for (uint32_t i = 1; i <= 3; i++) {
		paint(&server, frame_color(i));
		if (release) {
			test_session_release_last(session);
			pump(&server);
		}
	}
	if (release) {
		uint64_t checksum = test_view_checksum(&session->views[0]);
		bool changed = false;
		session->auto_release = true;
		for (uint32_t i = 4; i <= 12; i++) {
			paint(&server, frame_color(i));
			changed |= test_view_checksum(&session->views[0]) != checksum;
		}
		check(changed);
	}

	uint32_t n_views = session->n_views;
	check_int(n_views, >, 0);
	end_session(&server, session, ending);
	uint64_t checksums[SESSION_VIEWS_CAP];
	for (uint32_t i = 0; i < n_views; i++) {
		checksums[i] = test_view_checksum(&session->views[i]);
	}
	for (uint32_t n = 20; n < 50; n++) {
		check(output_paint(server.output, frame_color(n), NULL));
		wl_display_flush_clients(server.display);
		for (uint32_t i = 0; i < n_views; i++) {
			check_int(test_view_checksum(&session->views[i]), ==, checksums[i]);
		}
	}
	check_int(server.sessions_stopped, ==, 1);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(memory_never_changes_after_destroy) {
	check_kept_memory(END_DESTROY, SEALED, true);
	check_kept_memory(END_DESTROY, SEALED, false);
	check_kept_memory(END_DESTROY, SNAPSHOT, true);
	check_kept_memory(END_DESTROY, SNAPSHOT, false);
}

TEST(memory_never_changes_after_stop) {
	check_kept_memory(END_STOP, SEALED, true);
	check_kept_memory(END_STOP, SNAPSHOT, false);
}

TEST(memory_never_changes_after_lock) {
	check_kept_memory(END_LOCK, SEALED, true);
	check_kept_memory(END_LOCK, SNAPSHOT, true);
}

TEST(memory_never_changes_after_disconnect) {
	check_kept_memory(END_DISCONNECT, SEALED, true);
	check_kept_memory(END_DISCONNECT, SEALED, false);
}

TEST(memory_never_changes_after_a_change_of_policy) {
	check_kept_memory(END_POLICY, SEALED, true);
}

/** The first pixel of the page at the other end of a pipe. */
static uint32_t read_pixel(int fd) {
	uint32_t pixels[1024];
	check_int(read(fd, pixels, sizeof(pixels)), ==, sizeof(pixels));
	return pixels[0] & 0xffffff;
}

TEST(pages_in_a_pipe_never_change_after_the_end) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, SEALED);
	session->auto_release = true;
	paint(&server, 0x111111);
	int ends[2];
	check_int(pipe2(ends, O_CLOEXEC), ==, 0);
	check_int(splice(session->views[0].fd, &(off64_t){ 0 }, ends[1], NULL, 4096, 0), ==, 4096);
	// The positive case: a pipe holds the pages themselves, not what was in them
	for (uint32_t i = 0; i < 4; i++) {
		paint(&server, 0x222222);
	}
	check_int(read_pixel(ends[0]), ==, 0x222222);

	check_int(splice(session->views[0].fd, &(off64_t){ 0 }, ends[1], NULL, 4096, 0), ==, 4096);
	// Nobody has it open or mapped any more, as far as the kernel can tell
	test_session_destroy(session);
	client_roundtrip(client);
	for (uint32_t i = 0; i < 20; i++) {
		struct test_session *next = start_session(client, SEALED);
		paint(&server, 0x333333);
		test_session_destroy(next);
		client_roundtrip(client);
	}
	check_int(read_pixel(ends[0]), ==, 0x222222);
	close(ends[0]);
	close(ends[1]);
	server_finish(&server);
}

TEST(memory_never_changes_in_a_swapchain_of_the_compositors_own) {
	struct server server;
	server_init(&server, NULL);
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = DRM_FORMAT_XRGB8888, .len = 1, .capacity = 1, .modifiers = &modifier,
	};
	server.output->swapchain = wlr_swapchain_create(server.allocator, 64, 48, &format);
	struct client *client = client_create(&server);
	struct test_session *other = start_session(client, ALL);
	other->auto_release = true;
	for (int i = 0; i < WLR_SWAPCHAIN_CAP; i++) {
		paint(&server, 0x313233); // into each buffer that it takes turns on
	}
	struct test_session *session = start_session(client, ALL);
	check_int(session->n_frames, ==, 1);
	check_int(session->views[0].guarantee, ==, SEALED);
	test_session_end(session);
	pump(&server);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	for (uint32_t i = 0; i < 20; i++) {
		// Drawn in part: what was there before has to be there still
		check(output_paint(server.output, frame_color(i), &(struct rect){ 0, 0, 8, 8 }));
		pump(&server);
		check_int(test_view_checksum(&session->views[0]), ==, checksum);
		check_int(test_session_get_pixel(other, 1, 1), ==, frame_color(i));
		check_int(test_session_get_pixel(other, 40, 40), ==, 0x313233);
	}
	check_int(other->n_frames, ==, WLR_SWAPCHAIN_CAP + 20);
	test_session_destroy(session);
	test_session_destroy(other);
	wlr_swapchain_destroy(server.output->swapchain);
	server.output->swapchain = NULL;
	server_finish(&server);
}

/** What an output shows that nobody draws to is shown to each who comes. */
static void check_static_output(uint32_t acceptable) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *sessions[3];
	sessions[0] = start_session(client, acceptable);
	paint(&server, 0x123456);
	uint32_t n_requests = server.output->n_frame_requests;
	for (int i = 0; i < 3; i++) {
		if (i > 0) {
			sessions[i] = start_session(client, acceptable);
			pump_until(&server, sessions[i]->n_frames == 1);
		}
		check_int(test_session_get_pixel(sessions[i], 63, 47), ==, 0x123456);
		check_int(sessions[i]->views[0].guarantee, ==, acceptable);
		check_int(test_session_last_frame(sessions[i])->n_damage, ==, 1);
		test_session_end(sessions[i]);
		client_roundtrip(client);
	}
	check_int(server.output->n_frame_requests, ==, n_requests);
	// It is the same memory, and yet nobody sees what is drawn later
	for (uint32_t n = 1; n < 8; n++) {
		paint(&server, frame_color(n));
		for (int i = 0; i < 3; i++) {
			check_int(test_view_get_pixel(&sessions[i]->views[0], 63, 47), ==, 0x123456);
		}
	}
	// nor does the next one see what was there before
	struct test_session *next = start_session(client, acceptable);
	check_int(next->n_frames, ==, 0);
	paint(&server, 0x654321);
	check_int(test_session_get_pixel(next, 63, 47), ==, 0x654321);
	test_session_destroy(next);
	for (int i = 0; i < 3; i++) {
		test_session_destroy(sessions[i]);
	}
	server_finish(&server);
}

TEST(static_output_is_shown_again_without_drawing) {
	check_static_output(SEALED);
	check_static_output(SNAPSHOT);
}

/** Who begins with memory that is retired goes on with what is drawn later. */
static void check_moving_again(uint32_t acceptable) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *first = start_session(client, acceptable);
	first->auto_release = true;
	for (uint32_t i = 1; i <= 4; i++) {
		paint(&server, frame_color(i));
	}
	test_session_end(first);
	client_roundtrip(client);
	struct test_session *session = test_session_create(client, 0, acceptable);
	session->auto_release = true;
	pump_until(&server, session->n_frames == 1);
	check_int(test_session_get_pixel(session, 63, 47), ==, frame_color(4));
	paint(&server, frame_color(5));
	// Holds two other buffers, so that all take their turns
	struct test_session *holder = start_session(client, acceptable);
	for (uint32_t i = 6; i <= 17; i++) {
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(session, 63, 47), ==, frame_color(i));
	}
	check_int(session->n_frames, ==, 1 + 13);
	check_int(session->n_retired, ==, 1); // what it began with
	test_session_destroy(holder);
	for (uint32_t i = 0; i < first->n_views; i++) {
		check(test_view_get_pixel(&first->views[i], 63, 47) == frame_color(3) ||
			test_view_get_pixel(&first->views[i], 63, 47) == frame_color(4));
	}
	test_session_destroy(first);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(session_on_retired_memory_goes_on_with_fresh_memory) {
	check_moving_again(SEALED);
	check_moving_again(SNAPSHOT);
}

TEST(what_is_about_to_be_drawn_comes_first) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	test_session_destroy(session);
	client_roundtrip(client);
	wlr_output_update_needs_frame(server.output->wlr_output); // something has changed
	session = start_session(client, ALL);
	check_int(session->n_frames, ==, 0);
	paint(&server, 2);
	check_int(session->n_frames, ==, 1);
	check_int(test_session_get_pixel(session, 0, 0), ==, 2);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(output_can_go_while_its_last_frame_is_kept) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *sealed = start_session(client, SEALED);
	struct test_session *copy = start_session(client, SNAPSHOT);
	paint(&server, 1);
	test_session_destroy(sealed);
	test_session_destroy(copy);
	client_roundtrip(client);
	check_int(server.output->wlr_output->attach_render_locks, ==, 0);
	// A session that has been promised the frame, and does not get it
	struct test_session *late = test_session_create(client, 0, ALL);
	wl_display_flush(client->display);
	wl_event_loop_dispatch(wl_display_get_event_loop(server.display), 0);
	wlr_output_destroy(server.output->wlr_output);
	client_roundtrip(client);
	check(late->stopped);
	check_int(late->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	test_session_destroy(late);
	server_finish(&server);
}

TEST(memory_that_is_shown_again_is_charged_once) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retired_bytes_per_client = 64 * 48 * 4 * 2;
	struct client *client = client_create(&server);
	struct test_session *keeper = start_session(client, ALL);
	paint(&server, 1);
	test_view_map(&keeper->views[0]);
	test_session_end(keeper); // and the memory is kept
	for (int i = 0; i < 20; i++) {
		struct test_session *session = start_session(client, ALL);
		pump_until(&server, session->n_frames == 1 || session->stopped);
		check(!session->stopped);
		test_session_destroy(session);
		client_roundtrip(client);
	}
	test_session_destroy(keeper);
	server_finish(&server);
}

TEST(lock_is_told_as_the_reason) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	vitrine_view_manager_v1_stop_sessions(server.manager, VITRINE_VIEW_STOP_LOCKED);
	client_roundtrip(client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_LOCKED);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(other_sessions_go_on_with_new_views) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *ending = start_session(client, ALL);
	struct test_session *other = start_session(client, ALL);
	other->auto_release = true;
	paint(&server, 1);
	paint(&server, 2);
	uint32_t n_views = other->n_views;
	test_session_end(ending);
	pump(&server);
	check_int(other->n_retired, ==, n_views);
	for (uint32_t i = 3; i <= 10; i++) {
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(other, 7, 7), ==, frame_color(i));
	}
	check_int(other->n_frames, ==, 10);
	check(other->n_views > n_views);
	test_session_destroy(ending);
	test_session_destroy(other);
	server_finish(&server);
}

TEST(session_that_saw_nothing_retires_nothing) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	paint(&server, 1);
	struct wlr_swapchain *swapchain = server.output->wlr_output->swapchain;
	struct test_session *other = test_session_create(client, 0, ALL);
	test_session_destroy(other); // before it has been shown what is there
	client_roundtrip(client);
	check(server.output->wlr_output->swapchain == swapchain);
	check_int(session->n_retired, ==, 0);
	test_session_destroy(session);
	server_finish(&server);
}

/* Invariant 5 */

/** Holds every frame, and never releases one. */
static void check_hostile_holders(uint32_t n_hostile, uint32_t acceptable) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.deadline_ms = 30;
	server.manager->limits.contended_deadline_ms = 10;
	struct client *honest_client = client_create(&server);
	struct test_session *honest = start_session(honest_client, acceptable);
	honest->auto_release = true;
	struct test_session *hostile[16];
	for (uint32_t i = 0; i < n_hostile; i++) {
		// Each has a connection of its own, and starts at another time
		hostile[i] = start_session(client_create(&server), acceptable);
		paint(&server, i);
	}
	uint32_t before = honest->n_frames;
	const uint32_t n = 400;
	for (uint32_t i = 0; i < n; i++) {
		paint(&server, frame_color(i)); // fails if the output has no buffer left
		check_int(test_session_get_pixel(honest, 2, 2), ==, frame_color(i));
	}
	check_int(honest->n_frames - before, >=, n * 95 / 100);
	check_int(honest->n_revoked, ==, 0);
	for (uint32_t i = 0; i < n_hostile; i++) {
		check_int(hostile[i]->n_frames, >, 0);
		check_int(hostile[i]->n_frames, <=, 2);
		test_session_destroy(hostile[i]);
	}
	test_session_destroy(honest);
	server_finish(&server);
}

TEST(one_holder_costs_nobody_a_frame) {
	check_hostile_holders(1, SEALED);
	check_hostile_holders(1, SNAPSHOT);
}

TEST(five_holders_cost_nobody_a_frame) {
	check_hostile_holders(5, SEALED);
	check_hostile_holders(5, SNAPSHOT);
}

TEST(sixteen_holders_cost_nobody_a_frame) {
	check_hostile_holders(16, SEALED);
	check_hostile_holders(16, SNAPSHOT);
}

TEST(holders_that_come_back_again_and_again_cost_nobody_a_frame) {
	struct server server;
	server_init(&server, NULL);
	struct client *honest_client = client_create(&server);
	struct test_session *honest = start_session(honest_client, ALL);
	honest->auto_release = true;
	struct client *client = client_create(&server);
	struct test_session *hostile[8] = {0};
	for (uint32_t i = 0; i < 200; i++) {
		struct test_session **slot = &hostile[i % 8];
		if (*slot != NULL) {
			test_session_destroy(*slot);
		}
		*slot = start_session(client, ALL);
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(honest, 2, 2), ==, frame_color(i));
	}
	check_int(honest->n_frames, ==, 200);
	for (uint32_t i = 0; i < 8; i++) {
		test_session_destroy(hostile[i]);
	}
	test_session_destroy(honest);
	server_finish(&server);
}

TEST(slow_readers_take_turns_and_are_not_torn) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *fast = start_session(client, ALL);
	fast->auto_release = true;
	struct test_session *slow[3];
	for (int i = 0; i < 3; i++) {
		slow[i] = start_session(client, ALL);
	}
	uint32_t released[3] = {0};
	for (uint32_t i = 0; i < 300; i++) {
		paint(&server, frame_color(i));
		// Each holds a frame for about five of the source's, at times of its own
		for (uint32_t j = 0; j < 3; j++) {
			if (i % 5 == j && slow[j]->n_frames > released[j]) {
				test_session_release_last(slow[j]);
				released[j] = slow[j]->n_frames;
				pump(&server);
			}
		}
	}
	check_int(fast->n_frames, ==, 300);
	for (int i = 0; i < 3; i++) {
		// The first round is the only one in which they do not know each other
		check_int(slow[i]->n_revoked, <=, 1);
		test_session_destroy(slow[i]);
	}
	test_session_destroy(fast);
	server_finish(&server);
}

TEST(client_that_never_reads_costs_nobody_a_frame) {
	struct server server;
	server_init(&server, NULL);
	struct client *honest_client = client_create(&server);
	struct test_session *honest = start_session(honest_client, ALL);
	honest->auto_release = true;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	client->asleep = true;
	for (uint32_t i = 0; i < 500; i++) {
		paint(&server, frame_color(i));
	}
	check_int(honest->n_frames, ==, 500);
	client->asleep = false;
	client_roundtrip(client);
	// What waited for it in the socket is bounded
	check_int(session->n_frames, <=, 2);
	test_session_destroy(session);
	test_session_destroy(honest);
	server_finish(&server);
}

TEST(client_can_die_at_any_step) {
	for (int step = 0; step < 6; step++) {
		struct server server;
		server_init(&server, NULL);
		struct client *client = client_create(&server);
		struct test_session *session = test_session_create(client,
			XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS, step % 2 == 0 ? ALL : SNAPSHOT);
		if (step >= 1) {
			client_roundtrip(client);
		}
		if (step >= 2) {
			check(output_paint(server.output, 1, NULL));
		}
		if (step >= 3) {
			pump(&server);
		}
		if (step >= 4) {
			test_session_release_last(session);
		}
		if (step >= 5) {
			check(output_paint(server.output, 2, NULL));
		}
		wl_display_flush(client->display);
		wl_client_destroy(client->wl_client);
		check(output_paint(server.output, 3, NULL));
		pump(&server);
		check_int(server.output->wlr_output->software_cursor_locks, ==, 0);
		check_int(server.output->wlr_output->attach_render_locks, ==, 0);
		test_session_destroy(session);
		server_finish(&server);
	}
}

/* Invariant 6 */

TEST(resize_announces_new_views_and_retires_the_old) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	for (int kind = 0; kind < 2; kind++) {
		struct test_session *session = start_session(client, kind == 0 ? SEALED : SNAPSHOT);
		session->auto_release = true;
		output_resize(server.output, 64, 48);
		for (uint32_t i = 0; i < 4; i++) {
			paint(&server, frame_color(i));
		}
		uint32_t n_views = session->n_views;
		output_resize(server.output, 100, 30);
		for (uint32_t i = 0; i < 4; i++) {
			paint(&server, 0x556677);
		}
		check(!session->stopped);
		check_int(session->n_retired, ==, n_views);
		struct test_view *view = &session->views[session->n_views - 1];
		check_int(view->width, ==, 100);
		check_int(view->height, ==, 30);
		check_int(test_session_get_pixel(session, 99, 29), ==, 0x556677);
		test_session_destroy(session);
	}
	server_finish(&server);
}

TEST(first_frame_after_a_resize_is_damaged_entirely) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	paint(&server, 1);
	output_resize(server.output, 32, 32);
	pump(&server);
	// wlroots attaches an empty buffer for the change of mode: a frame like others
	struct test_frame *frame = test_session_last_frame(session);
	check_int(session->n_frames, ==, 2);
	check_int(frame->damage[0].width, ==, 32);
	check_int(frame->damage[0].height, ==, 32);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(memory_of_before_a_resize_stays_mapped_and_readable) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 0x101010);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	output_resize(server.output, 8, 8);
	for (uint32_t i = 0; i < 8; i++) {
		paint(&server, frame_color(i));
	}
	// Held over the resize: neither SIGBUS nor a change
	check_int(test_view_checksum(&session->views[0]), ==, checksum);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(change_of_format_announces_new_views) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	paint(&server, 1);
	check(output_paint_format(server.output, 0x224466, DRM_FORMAT_ARGB8888));
	pump(&server);
	check(!session->stopped);
	struct test_frame *frame = test_session_last_frame(session);
	check_int(session->views[frame->index].fourcc, ==, DRM_FORMAT_ARGB8888);
	check_int(test_session_get_pixel(session, 3, 3), ==, 0x224466);
	check_int(frame->damage[0].width, ==, 64);
	test_session_destroy(session);
	server_finish(&server);
}

/* release */

static void expect_release_error(uint32_t (*choose)(struct test_session *session)) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	test_session_release(session, choose(session));
	client_expect_error(client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
	test_session_destroy(session);
	server_finish(&server);
}

static uint32_t choose_unknown(struct test_session *session) {
	return test_session_last_frame(session)->serial + 1;
}

static uint32_t choose_zero(struct test_session *session) {
	return 0;
}

static uint32_t choose_repeated(struct test_session *session) {
	test_session_release_last(session);
	client_roundtrip(session->client); // the first release is fine
	return test_session_last_frame(session)->serial;
}

TEST(release_of_an_unknown_serial_is_invalid_serial) {
	expect_release_error(choose_unknown);
}

TEST(release_of_serial_zero_is_invalid_serial) {
	expect_release_error(choose_zero);
}

TEST(release_of_a_released_serial_is_invalid_serial) {
	expect_release_error(choose_repeated);
}

TEST(release_of_a_serial_of_another_session_is_invalid_serial) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	struct test_session *other = start_session(client, ALL);
	other->auto_release = true;
	for (uint32_t i = 0; i < 5; i++) {
		paint(&server, i);
	}
	test_session_release(session, test_session_last_frame(other)->serial);
	client_expect_error(client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
	test_session_destroy(session);
	test_session_destroy(other);
	server_finish(&server);
}

TEST(release_after_stopped_has_no_effect) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	vitrine_view_manager_v1_stop_sessions(server.manager, VITRINE_VIEW_STOP_REVOKED);
	test_session_release_last(session);
	test_session_release(session, 12345);
	client_roundtrip(client); // fails on a protocol error
	check(session->stopped);
	test_session_destroy(session);
	server_finish(&server);
}

/* revoked */

TEST(frame_held_past_the_deadline_is_revoked) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.deadline_ms = 60;
	server.manager->limits.contended_deadline_ms = 20;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	uint64_t start = now_ns();
	for (uint32_t i = 1; i <= 4; i++) {
		paint(&server, i); // the buffer is in the way only when newer frames come
	}
	pump_until(&server, session->n_revoked > 0);
	check(now_ns() - start >= 60 * 1000000ull);
	check(session->frames[0].revoked);

	// "A frame that was revoked may be released as well", and has to be
	paint(&server, 5);
	uint32_t n_frames = session->n_frames;
	paint(&server, 6);
	check_int(session->n_frames, ==, n_frames);
	for (uint32_t i = 0; i < n_frames; i++) {
		test_session_release(session, session->frames[i].serial);
	}
	client_roundtrip(client);
	paint(&server, 7);
	check_int(session->n_frames, >, n_frames);
	check_int(test_session_get_pixel(session, 0, 0), ==, 7);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(frame_on_a_static_screen_is_not_revoked) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.deadline_ms = 10;
	server.manager->limits.contended_deadline_ms = 5;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	uint64_t start = now_ns();
	while (now_ns() - start < 100 * 1000000ull) {
		pump_wait(&server);
	}
	check_int(session->n_revoked, ==, 0);
	test_session_destroy(session);
	server_finish(&server);
}

/* stopped */

TEST(removed_output_stops_its_sessions) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *direct = start_session(client, SEALED);
	struct test_session *snapshot = start_session(client, SNAPSHOT);
	paint(&server, 0x998877);
	wlr_output_destroy(server.output->wlr_output);
	client_roundtrip(client);
	check(direct->stopped && snapshot->stopped);
	check_int(direct->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(snapshot->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(test_session_get_pixel(direct, 0, 0), ==, 0x998877);
	test_session_destroy(direct);
	test_session_destroy(snapshot);
	server_finish(&server);
}

TEST(sessions_of_one_output_see_nothing_of_another) {
	struct server server;
	server_init(&server, NULL);
	struct server_output *other_output = server_add_output(&server, 64, 48);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	paint(&server, 0x111111);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	uint32_t n_frames = session->n_frames;
	for (uint32_t i = 0; i < 20; i++) {
		check(output_paint(other_output, 0x222222, NULL));
		pump(&server);
	}
	check_int(session->n_frames, ==, n_frames);
	check_int(test_view_checksum(&session->views[0]), ==, checksum);
	test_session_destroy(session);
	server_finish(&server);
}

/* Options */

TEST(paint_cursors_locks_software_cursors_while_the_session_lives) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct wlr_output *output = server.output->wlr_output;
	struct test_session *without = start_session(client, ALL);
	check_int(output->software_cursor_locks, ==, 0);
	check_int(output->attach_render_locks, ==, 1);
	struct test_session *with = test_session_create(client,
		XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS, ALL);
	client_roundtrip(client);
	check_int(output->software_cursor_locks, ==, 1);
	test_session_destroy(with);
	client_roundtrip(client);
	check_int(output->software_cursor_locks, ==, 0);
	test_session_destroy(without);
	client_roundtrip(client);
	check_int(output->attach_render_locks, ==, 0);
	server_finish(&server);
}

/* Snapshots */

TEST(snapshot_copies_only_damage_once_for_all) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *sessions[8];
	for (int i = 0; i < 8; i++) {
		sessions[i] = start_session(client, SNAPSHOT);
		sessions[i]->auto_release = true;
	}
	for (uint32_t i = 0; i < 6; i++) {
		paint(&server, 0x303030); // all copies have been painted now
	}
	uint64_t checksum = test_view_checksum(&sessions[0]->views[0]);
	const struct rect rect = { 8, 8, 4, 4 };
	for (uint32_t i = 0; i < 6; i++) {
		check(output_paint(server.output, 0xff0000, &rect));
		pump(&server);
	}
	for (int i = 0; i < 8; i++) {
		check_int(sessions[i]->n_frames, ==, 12);
		check_int(test_session_get_pixel(sessions[i], 9, 9), ==, 0xff0000);
		check_int(test_session_get_pixel(sessions[i], 20, 20), ==, 0x303030);
		check_int(sessions[i]->n_views, <=, 4);
	}
	check(test_view_checksum(&sessions[0]->views[0]) != checksum);
	for (int i = 0; i < 8; i++) {
		test_session_destroy(sessions[i]);
	}
	server_finish(&server);
}

TEST(snapshot_session_that_was_full_gets_the_newest_content) {
	struct server server;
	server_init(&server, NULL);
	server.output->repaint = true;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, SNAPSHOT);
	for (uint32_t i = 1; i <= 6; i++) {
		paint(&server, frame_color(i));
	}
	check_int(session->n_frames, ==, 2);
	uint32_t serial = test_session_last_frame(session)->serial;
	test_session_release(session, session->frames[0].serial);
	test_session_release(session, serial);
	pump_until(&server, session->n_frames > 2);
	check_int(test_session_get_pixel(session, 4, 4), ==, frame_color(6));
	check_int(test_session_last_frame(session)->skipped, >, 0);
	test_session_destroy(session);
	server_finish(&server);
}

/* Races and endurance */

TEST(thousand_sessions_destroyed_at_any_moment) {
	harness_set_timeout(60);
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	paint(&server, 0);
	pump(&server);
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
			check(output_paint(server.output, frame_color(i), NULL));
			for (int m = rand_r(&seed) % 3; m > 0; m--) {
				pump(&server);
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
	check_int(server.sessions_started, ==, 1000);
	check_int(server.sessions_stopped, ==, 1000);
	// Retired memory is watched until the client has closed it
	pump_until(&server, harness_count_fds() <= n_fds);
	server_finish(&server);
}

/* Quotas */

TEST(sessions_beyond_the_quota_stop_with_no_resources) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.sessions_per_client = 4;
	struct client *client = client_create(&server);
	struct test_session *sessions[5];
	for (int i = 0; i < 5; i++) {
		sessions[i] = test_session_create(client, 0, ALL);
	}
	client_roundtrip(client);
	for (int i = 0; i < 4; i++) {
		check(!sessions[i]->stopped);
	}
	check(sessions[4]->stopped);
	check_int(sessions[4]->stop_reason, ==, VITRINE_VIEW_STOP_NO_RESOURCES);
	test_session_destroy(sessions[0]);
	struct test_session *again = start_session(client, ALL); // there is room again
	for (int i = 1; i < 5; i++) {
		test_session_destroy(sessions[i]);
	}
	test_session_destroy(again);
	server_finish(&server);
}

TEST(ten_thousand_sessions_leave_others_alone) {
	struct server server;
	server_init(&server, NULL);
	// One process, so one quota: this is what hostile clients leave of it
	server.manager->limits.sessions_per_client = 65;
	struct client *honest_client = client_create(&server);
	struct test_session *honest = start_session(honest_client, ALL);
	honest->auto_release = true;
	struct client *client = client_create(&server);
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	struct test_session **sessions = calloc(10000, sizeof(*sessions));
	for (uint32_t i = 0; i < 10000; i++) {
		sessions[i] = test_session_create_for(client, source, 0, ALL);
		if (i % 100 == 99) {
			paint(&server, frame_color(i));
			check_int(test_session_get_pixel(honest, 0, 0), ==, frame_color(i));
		}
	}
	client_roundtrip(client);
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
	test_session_destroy(honest);
	server_finish(&server);
}

TEST(sessions_that_retire_too_often_start_later) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retire_burst = 3;
	server.manager->limits.retire_interval_ms = 40;
	struct client *client = client_create(&server);
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < 6; i++) {
		struct test_session *session = test_session_create(client, 0, ALL);
		pump_until(&server, session->n_depth_events == 1);
		paint(&server, frame_color(i));
		check(session->n_frames > 0); // what was there before may come first
		check_int(test_session_get_pixel(session, 0, 0), ==, frame_color(i));
		test_session_destroy(session);
		client_roundtrip(client);
	}
	check(now_ns() - start >= 2 * 40 * 1000000ull);
	server_finish(&server);
}

TEST(sessions_at_once_are_a_debt) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retire_burst = 3;
	server.manager->limits.retire_interval_ms = 40;
	struct client *client = client_create(&server);
	struct test_session *sessions[6];
	for (int i = 0; i < 6; i++) {
		sessions[i] = start_session(client, ALL);
	}
	paint(&server, 0x111111);
	uint64_t start = now_ns();
	for (int i = 0; i < 6; i++) {
		check_int(sessions[i]->n_frames, ==, 1);
		test_session_destroy(sessions[i]);
	}
	client_roundtrip(client);
	struct test_session *late = test_session_create(client, 0, ALL);
	pump_until(&server, late->n_depth_events == 1);
	check(now_ns() - start >= (6 - 3) * 40 * 1000000ull);
	test_session_destroy(late);
	server_finish(&server);
}

TEST(sessions_on_a_still_screen_start_later_as_well) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retire_burst = 3;
	server.manager->limits.retire_interval_ms = 100000;
	struct client *client = client_create(&server);
	for (int i = 0; i < 3; i++) {
		struct test_session *session = start_session(client, ALL);
		if (i == 0) {
			paint(&server, 0x111111);
		}
		pump_until(&server, session->n_frames == 1);
		test_session_destroy(session);
		client_roundtrip(client);
	}
	struct test_session *late = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	check(late->n_depth_events == 0 && !late->stopped);
	test_session_destroy(late);
	server_finish(&server);
}

TEST(session_that_waits_to_start_can_be_destroyed) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retire_burst = 1;
	server.manager->limits.retire_interval_ms = 100000;
	struct client *client = client_create(&server);
	struct test_session *first = start_session(client, ALL);
	paint(&server, 1);
	test_session_destroy(first);
	client_roundtrip(client);

	struct test_session *waiting[3];
	for (int i = 0; i < 3; i++) {
		waiting[i] = test_session_create(client, 0, ALL);
	}
	client_roundtrip(client);
	for (int i = 0; i < 3; i++) {
		check(waiting[i]->n_depth_events == 0 && !waiting[i]->stopped);
	}
	test_session_destroy(waiting[0]);
	client_roundtrip(client);
	vitrine_view_manager_v1_stop_sessions(server.manager, VITRINE_VIEW_STOP_LOCKED);
	client_roundtrip(client);
	check(waiting[1]->stopped && waiting[2]->stopped);
	test_session_destroy(waiting[1]);
	test_session_destroy(waiting[2]);

	struct test_session *last = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	wlr_output_destroy(server.output->wlr_output);
	client_roundtrip(client);
	check(last->stopped);
	check_int(last->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	test_session_destroy(last);
	server_finish(&server);
}

TEST(client_that_keeps_retired_memory_gets_no_more) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retired_bytes_per_client = 64 * 48 * 4 * 3;
	struct client *client = client_create(&server);
	struct test_session *kept[16] = {0};
	uint32_t n_kept = 0;
	while (true) {
		check_int(n_kept, <, 16);
		struct test_session *session = test_session_create(client, 0, ALL);
		kept[n_kept++] = session;
		client_roundtrip(client);
		if (session->stopped) {
			check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_NO_RESOURCES);
			break;
		}
		paint(&server, frame_color(n_kept));
		test_session_end(session);
		client_roundtrip(client);
	}
	check_int(n_kept, >, 2);
	for (uint32_t i = 0; i < n_kept; i++) {
		test_session_destroy(kept[i]);
	}
	// Everything is closed: the client may go on
	struct test_session *session = start_session(client, ALL);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(running_session_that_keeps_too_much_is_stopped) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retired_bytes_per_client = 64 * 48 * 4 * 4;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	// Each change of size retires a buffer, and this client closes nothing
	for (int i = 0; i < 32 && !session->stopped; i++) {
		output_resize(server.output, i % 2 == 0 ? 48 : 64, i % 2 == 0 ? 64 : 48);
		paint(&server, frame_color((uint32_t)i));
		client_roundtrip(client);
	}
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_NO_RESOURCES);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(holder_cannot_take_a_lease) {
	// The positive case: nobody else holds this one
	int memfd = vitrine_memfd_create(4096);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	check(fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
	close(fd);
	close(memfd);

	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	// With it, the compositor would have to wait for us when it opens the file
	check(fcntl(session->views[0].fd, F_SETLEASE, F_RDLCK) < 0);
	check(fcntl(session->views[0].fd, F_SETLEASE, F_WRLCK) < 0);
	test_session_destroy(session);
	server_finish(&server);
}

/* Bytes that no library would send */

TEST(half_a_message_and_a_flood_of_fds_hurt_only_the_sender) {
	struct server server;
	server_init(&server, NULL);
	struct client *honest_client = client_create(&server);
	struct test_session *honest = start_session(honest_client, ALL);
	honest->auto_release = true;

	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	paint(&server, 1);
	check_int(session->n_frames, ==, 1);
	int socket_fd = wl_display_get_fd(client->display);
	const uint32_t half[] = { 2, 12 << 16 };
	check(write(socket_fd, half, sizeof(half)) == sizeof(half));
	for (uint32_t i = 0; i < 20; i++) {
		paint(&server, frame_color(i));
	}
	check_int(honest->n_frames, ==, 21);

	const uint32_t nonsense[] = { 0xffffffff, 0xffffffff, 0, 0 };
	check(write(socket_fd, nonsense, sizeof(nonsense)) > 0);
	pump_until(&server, client->wl_client == NULL);
	for (uint32_t i = 0; i < 20; i++) {
		paint(&server, frame_color(i));
	}
	check_int(honest->n_frames, ==, 41);
	test_session_destroy(session);
	test_session_destroy(honest);
	server_finish(&server);
}
