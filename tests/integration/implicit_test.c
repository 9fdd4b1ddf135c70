/* SPDX-License-Identifier: MIT */
/* Sessions with implicit release. */
#include <poll.h>
#include <vitrine/view_v1.h>
#include <wayland-client.h>
#include <wlr/config.h>
#include <wlr/types/wlr_output.h>

#include "fence_fake.h"
#include "fixture.h"
#include "harness.h"
#include "session.h"
#include "stream.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL

/* What stands in for an output that is nested in an X server: the headless one, with
 * its present event */

static bool is_nested;

bool __wrap_wlr_output_is_x11(struct wlr_output *output);
bool __wrap_wlr_output_is_x11(struct wlr_output *output) {
	return is_nested;
}

static struct test_session *create_implicit(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create_with(client,
		&(struct test_setup){ .acceptable = acceptable, .implicit_release = true });
	client_roundtrip(client);
	return session;
}

static struct test_session *start_implicit(struct client *client, uint32_t acceptable) {
	struct test_session *session = create_implicit(client, acceptable);
	check_int(session->n_depth_events, ==, 1);
	check_int(session->depth, ==, 2); // "the newest frame and the one before"
	return session;
}

/** What an implicit session was shown, and may still look at. */
struct shown {
	struct test_session *session;
	struct wl_listener precommit; // the next frame is drawn, and not sent yet
	uint32_t n_frames; // that were looked at
	struct test_view *views[2]; // of the newest frame, and of the one before
	uint64_t checksums[2];
};

/** "A frame stays unchanged until the second frame event after it has been sent" */
static void shown_check(const struct shown *shown) {
	for (int i = 0; i < 2; i++) {
		check(shown->views[i] == NULL ||
			test_view_checksum(shown->views[i]) == shown->checksums[i]);
	}
}

/** Looks at the newest frame, which is the next one after the one that it has looked at. */
static void shown_update(struct shown *shown) {
	struct test_session *session = shown->session;
	check_int(session->n_frames, ==, ++shown->n_frames);
	shown->views[1] = shown->views[0];
	shown->checksums[1] = shown->checksums[0];
	shown->views[0] = &session->views[test_session_last_frame(session)->index];
	shown->checksums[0] = test_view_checksum(shown->views[0]);
	shown_check(shown);
}

/** Paints, and checks that the session has this frame, and the one before as it was. */
static void show_implicit(struct fixture *f, struct shown *shown, uint32_t color) {
	fixture_paint(f, color);
	shown_update(shown);
	check_int(test_view_get_pixel(shown->views[0], 63, 47), ==, color);
}

static void shown_handle_precommit(struct wl_listener *listener, void *data) {
	struct shown *shown = wl_container_of(listener, shown, precommit);
	shown_check(shown);
}

TEST_WITH_EACH(fixture, each_guarantee, frame_stays_until_the_second_frame_after_it) {
	test_session_close(f->session);
	struct shown shown = {
		.session = start_implicit(f->client, param->options.acceptable),
		.precommit.notify = shown_handle_precommit,
	};
	wl_signal_add(&f->server.output->wlr_output->events.precommit, &shown.precommit);
	show_implicit(f, &shown, fixture_color(0));
	uint64_t first = shown.checksums[0];
	bool is_drawn_to_again = false;
	for (uint32_t i = 1; i < 40; i++) {
		show_implicit(f, &shown, fixture_color(i));
		is_drawn_to_again |= test_view_checksum(&shown.session->views[0]) != first;
	}
	wl_list_remove(&shown.precommit.link);
	check(is_drawn_to_again); // else anything would stay
	check_int(shown.session->n_views, <=, 4);
	check_int(shown.session->n_revoked, ==, 0);
	check_int(shown.session->n_skipped, ==, 0);
}

TEST_WITH(fixture, frames_come_with_damage_time_and_serials_in_a_row) {
	struct test_session *session = start_implicit(f->client, ALL);
	fixture_paint(f, 0);
	const struct rect rect = { 3, 4, 10, 20 };
	uint32_t serial = test_session_last_frame(session)->serial;
	uint64_t before = 0;
	for (uint32_t i = 1; i < 8; i++) {
		check(output_paint(f->server.output, i, &rect));
		pump(&f->server);
		const struct test_frame *frame = test_session_last_frame(session);
		check_int(frame->n_damage, ==, 1);
		check_int(frame->damage[0].width, ==, rect.width);
		check_int(frame->serial, ==, serial + i);
		uint64_t when = frame->tv_sec * 1000000000 + frame->tv_nsec;
		check(when > before);
		before = when;
	}
}

static struct vt_subscriber *find_subscriber(struct fixture *f, bool implicit_release) {
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &manager->sessions, link) {
		if (session->subscriber.implicit_release == implicit_release) {
			return &session->subscriber;
		}
	}
	return NULL;
}

/** Buffers that the output cannot draw to, besides the newest. */
static size_t count_old(const struct vt_stream *stream) {
	size_t n = 0;
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		n += buffer->n_refs > 0 && buffer != stream->newest.buffer;
	}
	return n;
}

TEST_WITH_EACH(fixture, each_guarantee, any_number_of_sessions_costs_one_buffer) {
	test_session_close(f->session);
	f->server.manager->limits.objects.per_holder = 256;
	struct test_session *sessions[256];
	for (int i = 0; i < 256; i++) {
		// Some of them begin with a frame that others have already
		sessions[i] = start_implicit(f->client, param->options.acceptable);
		if (i % 100 == 99) {
			fixture_paint(f, 1);
		}
	}
	struct shown first = { sessions[0], .n_frames = sessions[0]->n_frames };
	const struct vt_stream *stream = find_subscriber(f, true)->stream;
	for (uint32_t i = 0; i < 20; i++) {
		show_implicit(f, &first, fixture_color(i));
		check_int(count_old(stream), ==, 1);
	}
	for (int i = 0; i < 256; i++) {
		check_int(sessions[i]->n_frames, >=, 20);
		check_int(test_session_get_pixel(sessions[i], 63, 47), ==, fixture_color(19));
		check_int(sessions[i]->n_skipped, ==, 0);
		check_int(sessions[i]->n_revoked, ==, 0);
	}
	for (int i = 1; i < 256; i++) {
		test_session_end(sessions[i]);
	}
	client_roundtrip(f->client);
	fixture_paint(f, 1);
	fixture_paint(f, 2);
	check_int(count_old(stream), ==, 1); // the one that stays is as good
}

TEST_WITH(fixture, nothing_is_kept_when_the_last_one_is_gone, .acceptable = ALL,
		.auto_release = true) {
	struct test_session *session = start_implicit(f->client, ALL);
	fixture_paint_frames(f, 0, 4);
	const struct vt_stream *stream = find_subscriber(f, true)->stream;
	check_int(count_old(stream), ==, 1);
	test_session_close(session);
	check(find_subscriber(f, false)->stream == stream);
	fixture_paint_frames(f, 5, 6);
	check_int(count_old(stream), ==, 0);
	check_int(stream->n_implicit, ==, 0);
}

/* Beside sessions with explicit release */

TEST_PARAMS(fixture, holders, uint32_t len) = {
	{ "one, sealed", { .acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true }, 1 },
	{ "one, snapshot", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT, .auto_release = true }, 1 },
	{ "nine, sealed", { .acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true }, 9 },
	{ "nine, snapshot", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT, .auto_release = true }, 9 },
};

/** They hold every frame, and never release one. */
TEST_WITH_EACH(fixture, holders, holders_cost_neither_kind_a_frame) {
	f->server.manager->limits.frame_deadline_ms = 30;
	f->server.manager->limits.contended_frame_deadline_ms = 10;
	struct shown shown = { start_implicit(f->client, param->options.acceptable) };
	for (uint32_t i = 0; i < param->len; i++) {
		test_session_start(client_create(&f->server), param->options.acceptable);
		show_implicit(f, &shown, i);
	}
	uint32_t before = f->session->n_frames;
	for (uint32_t i = 0; i < 300; i++) {
		show_implicit(f, &shown, fixture_color(i)); // fails if the output has no buffer left
	}
	check_int(f->session->n_frames - before, ==, 300);
	check_int(f->session->n_revoked, ==, 0);
}

TEST_WITH_EACH(fixture, each_guarantee, slow_session_keeps_its_frame_beside_implicit_ones) {
	struct test_session *slow = f->session;
	struct shown shown = { start_implicit(f->client, param->options.acceptable) };
	for (uint32_t i = 0; i < 30; i++) {
		for (uint32_t j = 0; j < 5; j++) {
			show_implicit(f, &shown, fixture_color(5 * i + j));
		}
		check_int(slow->n_frames, >, slow->n_released);
		check(!slow->frames[slow->n_released % SESSION_FRAMES_CAP].revoked); // what it reads
		test_session_release_all_but(slow, 0);
		pump(&f->server);
	}
	check_int(slow->n_frames, >=, 30);
	check_int(slow->n_revoked, <=, 2); // behind what it read, before it was known to be slow
}

/* Frames that are not finished */

TEST_WITH_EACH(fixture, each_guarantee, frame_before_stays_while_a_fence_is_pending) {
	test_session_close(f->session);
	struct shown shown = { start_implicit(f->client, param->options.acceptable) };
	for (uint32_t i = 0; i < 10; i++) {
		show_implicit(f, &shown, fixture_color(2 * i));
		begin_fence();
		for (int j = 0; j < 3; j++) { // lost but for the first one, and yet drawn
			fixture_paint(f, fixture_color(2 * i + 1));
			shown_check(&shown);
			check_int(shown.session->n_frames, ==, shown.n_frames);
		}
		// The frame that waited, and the one that is asked for because of those lost
		f->server.output->repaint = true;
		signal_fence();
		pump_until(&f->server, shown.session->n_frames > shown.n_frames);
		shown_update(&shown);
		pump_until(&f->server, shown.session->n_frames > shown.n_frames);
		shown_update(&shown);
		f->server.output->repaint = false;
	}
}

TEST_WITH(fixture, pending_fence_beside_a_holder_leaves_a_buffer_to_draw_to, .acceptable = ALL) {
	struct shown shown = { start_implicit(f->client, ALL) };
	struct test_session *holder = f->session;
	for (uint32_t i = 0; i < 6; i++) {
		show_implicit(f, &shown, fixture_color(i));
	}
	check_int(holder->n_frames, >, 0);
	begin_fence();
	fixture_paint(f, 7);
	fixture_paint(f, 8); // fails if there is none
	fixture_paint(f, 9);
	shown_check(&shown);
	signal_fence();
	pump(&f->server);
	shown_update(&shown);
}

/** No other copy is made until then, so that no buffer has to be taken back. */
TEST_WITH(fixture, pending_copy_takes_nothing_back, .acceptable = VITRINE_GUARANTEE_SNAPSHOT) {
	struct shown shown = { start_implicit(f->client, VITRINE_GUARANTEE_SNAPSHOT) };
	const struct test_session *holder = f->session;
	for (uint32_t i = 0; i < 6; i++) {
		show_implicit(f, &shown, fixture_color(i));
	}
	begin_fence();
	for (uint32_t i = 7; i < 12; i++) {
		fixture_paint(f, i);
		shown_check(&shown);
		check(!holder->frames[0].revoked);
	}
	signal_fence();
	pump(&f->server);
	shown_update(&shown);
	for (uint32_t i = 0; i < 6; i++) {
		show_implicit(f, &shown, fixture_color(i));
		check(!holder->frames[0].revoked);
	}
}

TEST_WITH(fixture, nested_frame_waits_for_the_present_event) {
	if (!WLR_HAS_X11_BACKEND) {
		harness_skip("wlroots has no X11 backend");
	}
	is_nested = true;
	struct shown shown = { start_implicit(f->client, VITRINE_GUARANTEE_SEALED) };
	for (uint32_t i = 0; i < 8; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		shown_check(&shown);
		pump(&f->server); // with the present event
		shown_update(&shown);
		check_int(test_session_get_pixel(shown.session, 0, 0), ==, fixture_color(i));
	}
}

/* Moving, stopping, retiring */

TEST_WITH_EACH(fixture, each_guarantee, resize_keeps_what_is_looked_at) {
	test_session_close(f->session);
	struct shown shown = { start_implicit(f->client, param->options.acceptable) };
	show_implicit(f, &shown, 1);
	show_implicit(f, &shown, 2);
	for (int i = 0; i < 10; i++) {
		output_resize(f->server.output, i % 2 == 0 ? 20 : 64, 48);
		pump(&f->server);
		shown_update(&shown); // wlroots attaches an empty buffer for the change of mode
		fixture_paint(f, fixture_color((uint32_t)i));
		shown_update(&shown);
		check_int(shown.views[0]->width, ==, i % 2 == 0 ? 20 : 64);
	}
	check_int(shown.session->n_retired, >, 0);
	check_int(shown.session->n_revoked, ==, 0);
}

TEST_WITH_EACH(fixture, each_guarantee, end_of_another_session_keeps_what_is_looked_at) {
	test_session_close(f->session);
	struct shown shown = { start_implicit(f->client, param->options.acceptable) };
	for (uint32_t i = 0; i < 10; i++) {
		struct test_session *other = start_implicit(f->client, param->options.acceptable);
		show_implicit(f, &shown, fixture_color(3 * i));
		show_implicit(f, &shown, fixture_color(3 * i + 1));
		test_session_close(other);
		shown_check(&shown);
		show_implicit(f, &shown, fixture_color(3 * i + 2));
	}
	check_int(shown.session->n_retired, >, 0);
}

static void stop_later(struct vt_subscriber *subscriber) {
	subscriber->impl->stop_later(subscriber, VITRINE_VIEW_STOP_NO_RESOURCES);
}

/** Several frames may come before a session that is to end has ended. */
TEST_WITH(fixture, none_goes_on_before_one_that_leaves_has_left) {
	struct shown leaving = { start_implicit(f->client, ALL) };
	struct shown staying = { start_implicit(f->client, ALL) };
	for (uint32_t i = 0; i < 3; i++) {
		fixture_paint(f, fixture_color(i));
		shown_update(&leaving);
		shown_update(&staying);
	}
	stop_later(find_subscriber(f, true)); // the first one
	for (uint32_t i = 0; i < 3; i++) {
		check(output_paint(f->server.output, 0x111111, NULL));
		shown_check(&leaving);
		shown_check(&staying);
	}
	pump(&f->server);
	check(leaving.session->stopped && !staying.session->stopped);
	shown_check(&leaving);
	shown_update(&staying); // with the newest one
	check_int(test_session_last_frame(staying.session)->skipped, ==, 2);
	for (uint32_t i = 0; i < 8; i++) {
		fixture_paint(f, fixture_color(i));
		shown_check(&leaving);
	}
}

TEST_WITH(fixture, session_goes_on_in_copies, .server.stock_allocator = true) {
	struct shown shown = { start_implicit(f->client, ALL) };
	for (uint32_t i = 0; i < 8; i++) {
		show_implicit(f, &shown, fixture_color(i));
		check_int(shown.views[0]->guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	}
}

/* Hostile clients */

TEST_PARAMS(fixture, releases, uint32_t of_serial) = {
	{ "the newest frame", .of_serial = 2 },
	{ "the frame before", .of_serial = 1 },
	{ "no frame", .of_serial = 3 },
};

TEST_WITH_EACH(fixture, releases, release_of_a_frame_is_invalid_serial) {
	struct shown shown = { start_implicit(f->client, ALL) };
	struct client *client = client_create(&f->server);
	struct test_session *other = test_session_start(client, ALL);
	show_implicit(f, &shown, 1);
	show_implicit(f, &shown, 2);
	check_int(test_session_last_frame(shown.session)->serial, ==, 2);
	test_session_release(other, param->of_serial % 2 + 1); // with explicit release it is fine
	client_roundtrip(client);
	test_session_release(shown.session, param->of_serial);
	client_expect_error(f->client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
}

static void paint_until_stopped(struct fixture *f, uint32_t n_sessions) {
	struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	uint32_t n = 0;
	while ((uint32_t)wl_list_length(&manager->sessions) > n_sessions) {
		check_int(n, <, 1000);
		fixture_paint(f, fixture_color(n++));
	}
	// Each frame is a message at least, and fewer than this fill no socket
	check_int(n, >, 100);
}

/** What has come, without the compositor doing anything. */
static void read_all(struct client *client) {
	struct pollfd pollfd = { .fd = wl_display_get_fd(client->display), .events = POLLIN };
	while (poll(&pollfd, 1, 0) == 1) {
		check_int(wl_display_dispatch(client->display), >=, 0);
	}
}

/** "that event is on its way to the client before they do": each one is. */
TEST_WITH_EACH(fixture, each_guarantee, frame_is_on_its_way_when_it_is_sent) {
	struct test_session *session = start_implicit(f->client, param->options.acceptable);
	fixture_paint(f, 1);
	for (uint32_t i = 2; i < 6; i++) {
		check_int(session->n_frames, ==, i - 1);
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_read(f->client); // before the event loop flushes anything
		check_int(session->n_frames, ==, i);
		pump(&f->server);
	}
}

/** "if no more than one frame event came after that of the frame, [it] is not torn" */
TEST_WITH_EACH(fixture, each_guarantee, client_that_let_events_pile_up_is_not_told_wrong) {
	test_session_close(f->session);
	struct client *client = client_create(&f->server);
	struct test_session *session = start_implicit(client, param->options.acceptable);
	client->asleep = true;
	paint_until_stopped(f, 0);
	fixture_paint_frames(f, 2000, 2050);
	read_all(client);
	const struct test_frame *last = test_session_last_frame(session);
	check_int(last->serial, ==, session->n_frames);
	check_int(test_session_get_pixel(session, 0, 0), ==, fixture_color(last->serial - 1));
	client->asleep = false;
	client_roundtrip(client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_REVOKED);
}

/** Each end replaces memory: a client that is found out takes the others with it. */
TEST_WITH_EACH(fixture, each_guarantee, clients_that_never_read_leave_together) {
	struct client *asleep[3];
	for (int i = 0; i < 3; i++) {
		asleep[i] = client_create(&f->server);
		start_implicit(asleep[i], param->options.acceptable);
		asleep[i]->asleep = true;
		fixture_paint_frames(f, 10 * (uint32_t)i, 10 * (uint32_t)i + 5); // found out apart
	}
	paint_until_stopped(f, 3); // one of these, and f->session stays
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	check_int(wl_list_length(&manager->sessions), ==, 1);
	for (int i = 0; i < 3; i++) {
		asleep[i]->asleep = false;
		client_roundtrip(asleep[i]);
		struct test_session *session =
			wl_container_of(asleep[i]->sessions.next, session, link);
		test_session_check_stop(session, VITRINE_VIEW_STOP_REVOKED);
	}
}

TEST_WITH(fixture, clients_that_never_read_cost_an_honest_one_nothing, .acceptable = ALL,
		.auto_release = true) {
	harness_set_timeout(60);
	struct client *asleep[32];
	for (int i = 0; i < 32; i++) {
		asleep[i] = client_create(&f->server);
		start_implicit(asleep[i], ALL);
		asleep[i]->asleep = true;
	}
	struct shown honest = { start_implicit(f->client, ALL) };
	for (uint32_t i = 0; i < 1000; i++) {
		show_implicit(f, &honest, fixture_color(i));
	}
	check_int(f->session->n_frames, ==, 1000);
	check_int(f->session->n_revoked + f->session->n_skipped, ==, 0);
	for (int i = 0; i < 32; i++) {
		asleep[i]->asleep = false;
		client_roundtrip(asleep[i]);
		struct test_session *session =
			wl_container_of(asleep[i]->sessions.next, session, link);
		test_session_check_stop(session, VITRINE_VIEW_STOP_REVOKED);
	}
	show_implicit(f, &honest, 0x123456);
}
