/* SPDX-License-Identifier: MIT */
/**
 * The hardened wlr-export-dmabuf, as its clients see it. The same tests run on
 * real dma-bufs in the guests, and everywhere else with memfds for dma-bufs, see
 * export_dmabuf_fake.c.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/export_dmabuf_v1.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "fixture.h"
#include "harness.h"
#include "wlr-export-dmabuf-unstable-v1-client-protocol.h"

#define TEMPORARY ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY
#define PERMANENT ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT

/** A frame, and all that the compositor said of it. */
struct frame {
	struct wl_list link; // frames
	struct zwlr_export_dmabuf_frame_v1 *proxy; // NULL once it is destroyed
	char events[16]; // a letter for each
	uint32_t width, height, x, y, buffer_flags, flags, format, n_objects;
	uint64_t modifier;
	int fd; // -1 if there is none
	uint32_t index, size, offset, stride, plane;
	uint64_t tv_sec;
	uint32_t tv_nsec;
	uint32_t reason;
	const uint8_t *data; // NULL before it is mapped
};

static void frame_add_event(struct frame *frame, char event) {
	size_t len = strlen(frame->events);
	check(len + 1 < sizeof(frame->events));
	frame->events[len] = event;
}

static void handle_frame(void *data, struct zwlr_export_dmabuf_frame_v1 *proxy, uint32_t width,
		uint32_t height, uint32_t x, uint32_t y, uint32_t buffer_flags, uint32_t flags,
		uint32_t format, uint32_t mod_high, uint32_t mod_low, uint32_t n_objects) {
	struct frame *frame = data;
	frame_add_event(frame, 'f');
	frame->width = width;
	frame->height = height;
	frame->x = x;
	frame->y = y;
	frame->buffer_flags = buffer_flags;
	frame->flags = flags;
	frame->format = format;
	frame->modifier = (uint64_t)mod_high << 32 | mod_low;
	frame->n_objects = n_objects;
}

static void handle_object(void *data, struct zwlr_export_dmabuf_frame_v1 *proxy, uint32_t index,
		int32_t fd, uint32_t size, uint32_t offset, uint32_t stride, uint32_t plane) {
	struct frame *frame = data;
	frame_add_event(frame, 'o');
	check_int(frame->fd, ==, -1);
	frame->index = index;
	frame->fd = fd;
	frame->size = size;
	frame->offset = offset;
	frame->stride = stride;
	frame->plane = plane;
}

static void handle_ready(void *data, struct zwlr_export_dmabuf_frame_v1 *proxy,
		uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec) {
	struct frame *frame = data;
	frame_add_event(frame, 'r');
	frame->tv_sec = (uint64_t)tv_sec_hi << 32 | tv_sec_lo;
	frame->tv_nsec = tv_nsec;
}

static void handle_cancel(void *data, struct zwlr_export_dmabuf_frame_v1 *proxy,
		uint32_t reason) {
	struct frame *frame = data;
	frame_add_event(frame, 'c');
	frame->reason = reason;
}

static const struct zwlr_export_dmabuf_frame_v1_listener frame_listener = {
	.frame = handle_frame,
	.object = handle_object,
	.ready = handle_ready,
	.cancel = handle_cancel,
};

static struct wl_list frames; // frame.link

static struct frame *capture_with(struct client *client, int32_t overlay_cursor) {
	struct frame *frame = calloc(1, sizeof(*frame));
	check(frame != NULL);
	frame->fd = -1;
	wl_list_insert(&frames, &frame->link);
	frame->proxy = zwlr_export_dmabuf_manager_v1_capture_output(client->export_dmabuf,
		overlay_cursor, client->outputs[0]);
	zwlr_export_dmabuf_frame_v1_add_listener(frame->proxy, &frame_listener, frame);
	client_roundtrip(client);
	return frame;
}

static struct frame *capture(struct client *client) {
	return capture_with(client, 0);
}

static const uint8_t *frame_map(struct frame *frame) {
	if (frame->data == NULL) {
		void *data = mmap(NULL, frame->size, PROT_READ, MAP_SHARED, frame->fd, 0);
		check(data != MAP_FAILED);
		frame->data = data;
	}
	return frame->data;
}

/** As wl-mirror does: the object goes, the memory is looked at further on. */
static void frame_end(struct frame *frame) {
	zwlr_export_dmabuf_frame_v1_destroy(frame->proxy);
	frame->proxy = NULL;
}

/** Done for all that are left once a test has ended. */
static void frame_free(struct frame *frame) {
	wl_list_remove(&frame->link);
	if (frame->proxy != NULL) {
		frame_end(frame);
	}
	if (frame->data != NULL) {
		munmap((void *)frame->data, frame->size);
	}
	if (frame->fd >= 0) {
		close(frame->fd);
	}
	free(frame);
}

/** The pixel at the end of the last line as 0xRRGGBB. */
static uint32_t frame_get_pixel(struct frame *frame) {
	size_t last = frame->offset + (size_t)frame->stride * (frame->height - 1) +
		4 * (size_t)(frame->width - 1);
	uint32_t pixel;
	memcpy(&pixel, frame_map(frame) + last, sizeof(pixel));
	return pixel & 0xffffff;
}

/** A frame that is there, of a colour of its own. */
static struct frame *capture_color(struct client *client, uint32_t color) {
	struct frame *frame = capture(client);
	check(output_paint(client->server->output, color, NULL));
	pump(client->server);
	check_str(frame->events, "for");
	check_int(frame_get_pixel(frame), ==, color);
	return frame;
}

static void check_cancelled(struct frame *frame, uint32_t reason) {
	check_str(frame->events, "c");
	check_int(frame->reason, ==, reason);
	frame_free(frame);
}

/* The fixture */

#define CLIENTS_CAP 6

struct exporting {
	struct server server;
	struct client *clients[CLIENTS_CAP];
	struct client *client; // the first one
};

struct exporting_options {
	struct server_options server;
	uint32_t n_clients; // 0 for one
};

static void exporting_set_up(struct exporting *f, const struct exporting_options *options) {
	wl_list_init(&frames);
	server_init(&f->server, &options->server);
	check(vitrine_export_dmabuf_manager_v1_create(f->server.manager) != NULL);
	uint32_t n = 0;
	do {
		f->clients[n] = client_create(&f->server);
		check(f->clients[n]->export_dmabuf != NULL);
	} while (++n < options->n_clients);
	f->client = f->clients[0];
}

static void exporting_tear_down(struct exporting *f) {
	struct frame *frame, *tmp;
	wl_list_for_each_safe(frame, tmp, &frames, link) {
		frame_free(frame);
	}
	server_finish(&f->server);
}

static void paint(struct exporting *f, uint32_t color) {
	check(output_paint(f->server.output, color, NULL));
	pump(&f->server);
}

/* The wire */

TEST_WITH(exporting, frame_is_described_as_the_stock_protocol_does) {
	struct frame *frame = capture(f->client);
	check_str(frame->events, "");
	paint(f, 0x123456);
	check_str(frame->events, "for");
	check_int(frame->width, ==, 64);
	check_int(frame->height, ==, 48);
	check_int(frame->x, ==, 0);
	check_int(frame->y, ==, 0);
	check_int(frame->buffer_flags, ==, 0);
	check_int(frame->flags, ==, ZWLR_EXPORT_DMABUF_FRAME_V1_FLAGS_TRANSIENT);
	check_int(frame->format, ==, DRM_FORMAT_XRGB8888);
	check_int(frame->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check_int(frame->n_objects, ==, 1);
	check_int(frame->index, ==, 0);
	check_int(frame->plane, ==, 0);
	check_int(frame->stride, >=, 64 * 4);
	check_int(frame->size, >=, frame->offset + frame->stride * 48);
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t age_ns = ((uint64_t)now.tv_sec - frame->tv_sec) * 1000000000 +
		(uint64_t)now.tv_nsec - frame->tv_nsec;
	check(frame->tv_nsec < 1000000000 && age_ns < 20000000000);
	check_int(frame_get_pixel(frame), ==, 0x123456);
}

TEST_WITH(exporting, frame_cannot_be_written) {
	struct frame *frame = capture_color(f->client, 0x0000ff);
	check_int(fcntl(frame->fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	check_errno(mmap(NULL, frame->size, PROT_READ | PROT_WRITE, MAP_SHARED, frame->fd, 0),
		EACCES);
	check_errno(mprotect((void *)frame_map(frame), frame->size, PROT_READ | PROT_WRITE),
		EACCES);
}

TEST_WITH(exporting, capture_draws_a_frame_of_a_static_output) {
	f->server.output->repaint = true;
	paint(f, 0x777777);
	for (int i = 0; i < 5; i++) {
		struct frame *frame = capture(f->client);
		pump_until(&f->server, strcmp(frame->events, "for") == 0);
		check_int(frame_get_pixel(frame), ==, 0x777777);
		frame_free(frame);
	}
}

TEST_WITH(exporting, all_frames_that_are_waited_for_are_the_next_one) {
	struct frame *waiting[3];
	for (int i = 0; i < 3; i++) {
		waiting[i] = capture(f->client);
	}
	frame_free(capture(f->client)); // given up
	paint(f, 0x00aa00);
	for (int i = 0; i < 3; i++) {
		check_str(waiting[i]->events, "for");
		check_int(frame_get_pixel(waiting[i]), ==, 0x00aa00);
	}
}

TEST_WITH(exporting, steady_captures_leave_nothing_behind) {
	for (uint32_t i = 1; i <= 8; i++) {
		frame_free(capture_color(f->client, i));
	}
	int n_fds = harness_count_fds();
	for (uint32_t i = 1; i <= 300; i++) {
		frame_free(capture_color(f->client, i));
	}
	client_roundtrip(f->client);
	check_int(harness_count_fds(), ==, n_fds);
	check_int(f->server.sessions_started, ==, 1);
	check_int(f->server.sessions_stopped, ==, 0);
}

TEST_WITH(exporting, frames_outlive_their_manager) {
	struct frame *frame = capture(f->client);
	zwlr_export_dmabuf_manager_v1_destroy(f->client->export_dmabuf);
	f->client->export_dmabuf = NULL;
	paint(f, 0x445566);
	check_str(frame->events, "for");
}

TEST_WITH(exporting, overlay_cursor_is_in_software_while_it_is_captured) {
	struct wlr_output *output = f->server.output->wlr_output;
	frame_free(capture_color(f->client, 1));
	check_int(output->software_cursor_locks, ==, 0);
	struct frame *frame = capture_with(f->client, 1);
	paint(f, 2);
	check_str(frame->events, "for");
	check_int(output->software_cursor_locks, ==, 1);
	frame_free(frame);
	pump_until(&f->server, f->server.sessions_stopped == 2);
	check_int(output->software_cursor_locks, ==, 0);
	check_int(output->attach_render_locks, ==, 0);
}

/* What is held, and for how long */

static void check_never_changes(struct exporting *f, struct frame *frame, uint32_t color) {
	for (uint32_t i = 0; i < 20; i++) {
		paint(f, i);
		check_int(frame_get_pixel(frame), ==, color);
	}
}

TEST_WITH(exporting, frame_is_held_after_destroy) {
	struct frame *frame = capture_color(f->client, 0xabcdef);
	frame_end(frame);
	check_never_changes(f, frame, 0xabcdef);
}

TEST_WITH(exporting, frame_is_held_until_the_one_after_the_next_is_asked_for) {
	struct frame *first = capture_color(f->client, 0xff0000);
	frame_end(first);
	struct frame *second = capture(f->client);
	check_int(frame_get_pixel(first), ==, 0xff0000);
	paint(f, 0x00ff00);
	check_str(second->events, "for");
	for (uint32_t i = 0; i < 20; i++) {
		paint(f, i);
		check_int(frame_get_pixel(first), ==, 0xff0000);
		check_int(frame_get_pixel(second), ==, 0x00ff00);
	}
	// The positive case: it is the hold that kept it
	capture(f->client);
	bool reused = false;
	for (uint32_t i = 0; i < 4; i++) {
		paint(f, i);
		reused |= frame_get_pixel(first) != 0xff0000;
	}
	check(reused);
	check_int(frame_get_pixel(second), ==, 0x00ff00);
}

TEST_WITH(exporting, holders_never_stop_the_output, .n_clients = 6) {
	for (uint32_t i = 0; i < 6; i++) {
		capture_color(f->clients[i], 0x100000 + i);
	}
	struct test_session *session =
		test_session_create(f->client, 0, VITRINE_GUARANTEE_SEALED);
	session->auto_release = true;
	// What is there. If a holder's time has run out by now, it has to be drawn again
	f->server.output->repaint = true;
	pump_until(&f->server, session->n_frames > 0);
	f->server.output->repaint = false;
	pump(&f->server);
	uint32_t before = session->n_frames;
	for (uint32_t i = 0; i < 30; i++) {
		paint(f, i); // fails if there is no buffer left
	}
	check_int(session->n_frames, ==, before + 30);
}

/** Kinds of sessions that hold, each in its way, beside one that holds nothing. */
TEST_WITH(exporting, sessions_with_implicit_release_get_each_frame_beside_all_others,
		.n_clients = 3) {
	struct test_session *implicit = test_session_create_with(f->clients[0],
		&(struct test_setup){
			.acceptable = VITRINE_GUARANTEE_SEALED, .implicit_release = true });
	struct test_session *reader =
		test_session_start_reader(f->clients[1], VITRINE_GUARANTEE_SEALED);
	test_session_start(f->clients[1], VITRINE_GUARANTEE_SEALED); // and holds what it gets
	struct frame *previous[3] = { NULL };
	uint64_t before = 0; // of the implicit session's last frame
	for (uint32_t n = 1; n <= 40; n++) {
		struct frame *newest[3];
		for (int i = 0; i < 3; i++) {
			newest[i] = capture(f->clients[i]);
		}
		struct test_view *view = n > 1 ?
			&implicit->views[test_session_last_frame(implicit)->index] : NULL;
		paint(f, n);
		for (int i = 0; i < 3; i++) {
			check_str(newest[i]->events, "for");
			check_int(frame_get_pixel(newest[i]), ==, n);
			if (previous[i] != NULL) {
				frame_free(previous[i]);
			}
			previous[i] = newest[i];
		}
		check_int(implicit->n_frames, ==, n);
		check_int(reader->n_frames, ==, n);
		check_int(test_session_get_pixel(implicit, 0, 0), ==, n);
		check(view == NULL || test_view_checksum(view) == before);
		before = test_view_checksum(
			&implicit->views[test_session_last_frame(implicit)->index]);
	}
	check_int(reader->n_revoked, ==, 0);
}

TEST_WITH(exporting, clients_that_keep_up_get_each_frame, .n_clients = 3) {
	struct frame *previous[3] = { NULL };
	struct test_session *session =
		test_session_start_reader(f->clients[0], VITRINE_GUARANTEE_SEALED);
	// Slow, and held back by none of the others
	struct test_session *slow =
		test_session_start(f->clients[1], VITRINE_GUARANTEE_SEALED);
	for (uint32_t n = 1; n <= 40; n++) {
		struct frame *newest[3];
		for (int i = 0; i < 3; i++) {
			newest[i] = capture(f->clients[i]);
		}
		paint(f, n);
		for (int i = 0; i < 3; i++) {
			check_str(newest[i]->events, "for");
			check_int(frame_get_pixel(newest[i]), ==, n);
			if (previous[i] != NULL) {
				frame_free(previous[i]);
			}
			previous[i] = newest[i];
		}
		check_int(session->n_frames, ==, n);
		if (n % 4 == 0) {
			test_session_release_all_but(slow, 0);
		}
	}
	check_int(slow->n_frames, >=, 8);
}

TEST_WITH(exporting, waiting_frames_are_bounded) {
	struct frame *frame;
	int n_cancelled = 0;
	for (int i = 0; i < 64; i++) {
		frame = capture(f->client);
		if (frame->events[0] == 'c') {
			check_int(frame->reason, ==, TEMPORARY);
			n_cancelled++;
		}
	}
	check_int(n_cancelled, >, 0);
	check_int(n_cancelled, <, 64);
	paint(f, 3);
	wl_list_for_each(frame, &frames, link) {
		check(frame->events[0] == 'f' || frame->events[0] == 'c');
	}
}

TEST_WITH(exporting, frame_beyond_the_file_descriptors_of_its_client_is_cancelled) {
	f->server.manager->limits.fds = (struct vitrine_view_limit){ 1000, 1000, 1 };
	struct frame *first = capture_color(f->client, 0x112233);
	struct frame *frame = capture(f->client);
	paint(f, 0x445566); // in another buffer
	check_cancelled(frame, TEMPORARY);
	frame_end(first);
	client_destroy(f->client);
	f->server.manager->limits.fds.per_holder = 1000;
	f->client = client_create(&f->server);
	capture_color(f->client, 0x778899);
}

/* The end */

TEST_WITH(exporting, client_that_stops_asking_sees_nothing_more) {
	f->server.manager->limits.frame_deadline_ms = 20;
	struct frame *older = capture_color(f->client, 0xaa0000);
	struct frame *frame = capture_color(f->client, 0x00aa00);
	pump_until(&f->server, f->server.sessions_stopped == f->server.sessions_started);
	uint32_t n_sessions = f->server.sessions_started; // 2 if the first one took as long as that
	check_never_changes(f, frame, 0x00aa00);
	check_never_changes(f, older, 0xaa0000);
	// And may ask again
	capture_color(f->client, 0x0000aa);
	check_int(f->server.sessions_started, ==, n_sessions + 1);
}

TEST_WITH(exporting, client_that_is_gone_sees_nothing_more) {
	struct frame *frame = capture_color(f->client, 0x0a0b0c);
	frame_end(frame);
	client_destroy(f->client);
	check_int(f->server.sessions_stopped, ==, 1);
	check_never_changes(f, frame, 0x0a0b0c);
}

TEST_WITH(exporting, client_that_is_locked_out_sees_nothing_more) {
	struct frame *frame = capture_color(f->client, 0x0a0b0c);
	struct frame *waiting = capture(f->client);
	vitrine_view_manager_v1_set_locked(f->server.manager, true);
	pump(&f->server);
	check_cancelled(waiting, TEMPORARY);
	check_never_changes(f, frame, 0x0a0b0c);
	check_cancelled(capture(f->client), TEMPORARY);
	vitrine_view_manager_v1_set_locked(f->server.manager, false);
	frame_free(capture_color(f->client, 0x111111));
}

TEST_WITH(exporting, client_may_vanish_with_frames_waiting, .n_clients = 2) {
	struct frame *frame = capture(f->client);
	wl_client_destroy(f->client->wl_client);
	frame_free(capture_color(f->clients[1], 0x050505));
	check_str(frame->events, "");
}

TEST_WITH(exporting, output_that_goes_is_permanent) {
	capture_color(f->client, 5);
	struct frame *waiting = capture(f->client);
	wlr_output_destroy(f->server.output->wlr_output);
	pump(&f->server);
	check_cancelled(waiting, PERMANENT);
	check_cancelled(capture(f->client), PERMANENT);
}

TEST_WITH(exporting, server_may_end_with_frames_waiting) {
	capture_color(f->client, 5);
	capture(f->client);
}

/* What there is none of */

static uint32_t allowed;

static struct vitrine_view_permission decide(const struct vitrine_view_request *request,
		void *data) {
	if (request->source == NULL && request->output != NULL) {
		const struct server *server = data;
		check(request->output == server->output->wlr_output);
		check_int(request->acceptable, ==,
			VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY);
	}
	return (struct vitrine_view_permission){ allowed, VITRINE_STORAGE_ALL };
}

TEST_WITH(exporting, what_policy_does_not_allow_is_permanent) {
	allowed = VITRINE_GUARANTEE_ALL;
	vitrine_view_manager_v1_set_policy(f->server.manager, decide, &f->server);
	frame_free(capture_color(f->client, 1));
	struct frame *waiting = capture(f->client);
	allowed = 0;
	vitrine_view_manager_v1_update_policy(f->server.manager);
	pump(&f->server);
	check_cancelled(waiting, PERMANENT);
	check_cancelled(capture(f->client), PERMANENT);
	// No dma-buf can be that
	allowed = VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_SNAPSHOT;
	check_cancelled(capture(f->client), PERMANENT);
}

TEST_WITH(exporting, buffers_that_cannot_be_derived_from_are_permanent,
		.server = { .stock_allocator = true }) {
	struct frame *frame = capture(f->client);
	check(output_paint(f->server.output, 1, NULL));
	pump_until(&f->server, frame->events[0] != '\0');
	check_cancelled(frame, PERMANENT);
}

TEST_WITH(exporting, output_that_is_off_is_permanent) {
	frame_free(capture_color(f->client, 1));
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, false);
	check(wlr_output_commit_state(f->server.output->wlr_output, &state));
	wlr_output_state_finish(&state);
	check_cancelled(capture(f->client), PERMANENT);
}

TEST_WITH(exporting, resized_output_goes_on) {
	frame_free(capture_color(f->client, 1));
	struct frame *frame = capture(f->client);
	output_resize(f->server.output, 128, 96);
	paint(f, 0x22);
	check_str(frame->events, "for");
	frame_free(frame);
	frame = capture_color(f->client, 0x33);
	check_int(frame->width, ==, 128);
	check_int(frame->height, ==, 96);
}
