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

/* A client of the protocol, beside what the fixture's client knows */

struct exporter {
	struct client *client;
	struct wl_registry *registry;
	struct zwlr_export_dmabuf_manager_v1 *manager; // NULL if it is not there
};

static void handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct exporter *exporter = data;
	if (strcmp(interface, zwlr_export_dmabuf_manager_v1_interface.name) == 0) {
		check_int(version, ==, 1);
		exporter->manager =
			wl_registry_bind(registry, name, &zwlr_export_dmabuf_manager_v1_interface, 1);
	}
}

static void handle_global_remove(void *data, struct wl_registry *registry, uint32_t name) {
}

static const struct wl_registry_listener registry_listener = {
	.global = handle_global,
	.global_remove = handle_global_remove,
};

static void exporter_init(struct exporter *exporter, struct server *server) {
	*exporter = (struct exporter){ .client = client_create(server) };
	exporter->registry = wl_display_get_registry(exporter->client->display);
	wl_registry_add_listener(exporter->registry, &registry_listener, exporter);
	client_roundtrip(exporter->client);
	check(exporter->manager != NULL);
}

static void exporter_finish(struct exporter *exporter) {
	if (exporter->manager != NULL) {
		zwlr_export_dmabuf_manager_v1_destroy(exporter->manager);
	}
	wl_registry_destroy(exporter->registry);
	client_destroy(exporter->client);
}

static struct frame *capture_with(struct exporter *exporter, int32_t overlay_cursor) {
	struct frame *frame = calloc(1, sizeof(*frame));
	check(frame != NULL);
	frame->fd = -1;
	frame->proxy = zwlr_export_dmabuf_manager_v1_capture_output(exporter->manager,
		overlay_cursor, exporter->client->outputs[0]);
	zwlr_export_dmabuf_frame_v1_add_listener(frame->proxy, &frame_listener, frame);
	client_roundtrip(exporter->client);
	return frame;
}

static struct frame *capture(struct exporter *exporter) {
	return capture_with(exporter, 0);
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

static void frame_free(struct frame *frame) {
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

static void paint(struct server *server, uint32_t color) {
	check(output_paint(server->output, color, NULL));
	pump(server);
}

/** A frame that is there, of a colour of its own. */
static struct frame *capture_color(struct exporter *exporter, uint32_t color) {
	struct frame *frame = capture(exporter);
	paint(exporter->client->server, color);
	check_str(frame->events, "for");
	check_int(frame_get_pixel(frame), ==, color);
	return frame;
}

static void check_cancelled(struct frame *frame, uint32_t reason) {
	check_str(frame->events, "c");
	check_int(frame->reason, ==, reason);
	frame_free(frame);
}

static void init_with(struct server *server, struct exporter *exporter,
		const struct server_options *options) {
	server_init(server, options);
	check(vitrine_export_dmabuf_manager_v1_create(server->manager) != NULL);
	exporter_init(exporter, server);
}

static void init(struct server *server, struct exporter *exporter) {
	init_with(server, exporter, NULL);
}

static void finish(struct server *server, struct exporter *exporter) {
	exporter_finish(exporter);
	pump(server);
	server_finish(server);
}

/* The wire */

TEST(frame_is_described_as_the_stock_protocol_does) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture(&exporter);
	check_str(frame->events, "");
	paint(&server, 0x123456);
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
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(frame_cannot_be_written) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 0x0000ff);
	check_int(fcntl(frame->fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	check(mmap(NULL, frame->size, PROT_READ | PROT_WRITE, MAP_SHARED, frame->fd, 0) ==
		MAP_FAILED);
	check_int(errno, ==, EACCES);
	check(mprotect((void *)frame_map(frame), frame->size, PROT_READ | PROT_WRITE) != 0);
	check_int(errno, ==, EACCES);
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(capture_draws_a_frame_of_a_static_output) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	server.output->repaint = true;
	paint(&server, 0x777777);
	for (int i = 0; i < 5; i++) {
		struct frame *frame = capture(&exporter);
		pump_until(&server, strcmp(frame->events, "for") == 0);
		check_int(frame_get_pixel(frame), ==, 0x777777);
		frame_free(frame);
	}
	finish(&server, &exporter);
}

TEST(all_frames_that_are_waited_for_are_the_next_one) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frames[3];
	for (int i = 0; i < 3; i++) {
		frames[i] = capture(&exporter);
	}
	struct frame *given_up = capture(&exporter);
	frame_free(given_up);
	paint(&server, 0x00aa00);
	for (int i = 0; i < 3; i++) {
		check_str(frames[i]->events, "for");
		check_int(frame_get_pixel(frames[i]), ==, 0x00aa00);
		frame_free(frames[i]);
	}
	finish(&server, &exporter);
}

TEST(steady_captures_leave_nothing_behind) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	for (uint32_t i = 1; i <= 8; i++) {
		frame_free(capture_color(&exporter, i));
	}
	int n_fds = harness_count_fds();
	for (uint32_t i = 1; i <= 300; i++) {
		frame_free(capture_color(&exporter, i));
	}
	client_roundtrip(exporter.client);
	check_int(harness_count_fds(), ==, n_fds);
	check_int(server.sessions_started, ==, 1);
	check_int(server.sessions_stopped, ==, 0);
	finish(&server, &exporter);
}

TEST(frames_outlive_their_manager) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture(&exporter);
	zwlr_export_dmabuf_manager_v1_destroy(exporter.manager);
	exporter.manager = NULL;
	paint(&server, 0x445566);
	check_str(frame->events, "for");
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(overlay_cursor_is_in_software_while_it_is_captured) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct wlr_output *output = server.output->wlr_output;
	frame_free(capture_color(&exporter, 1));
	check_int(output->software_cursor_locks, ==, 0);
	struct frame *frame = capture_with(&exporter, 1);
	paint(&server, 2);
	check_str(frame->events, "for");
	check_int(output->software_cursor_locks, ==, 1);
	frame_free(frame);
	pump_until(&server, server.sessions_stopped == 2);
	check_int(output->software_cursor_locks, ==, 0);
	check_int(output->attach_render_locks, ==, 0);
	finish(&server, &exporter);
}

/* What is held, and for how long */

TEST(frame_is_held_after_destroy) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 0xabcdef);
	frame_end(frame);
	for (uint32_t i = 0; i < 20; i++) {
		paint(&server, i);
		check_int(frame_get_pixel(frame), ==, 0xabcdef);
	}
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(frame_is_held_until_the_one_after_the_next_is_asked_for) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *first = capture_color(&exporter, 0xff0000);
	frame_end(first);
	struct frame *second = capture(&exporter);
	check_int(frame_get_pixel(first), ==, 0xff0000);
	paint(&server, 0x00ff00);
	check_str(second->events, "for");
	for (uint32_t i = 0; i < 20; i++) {
		paint(&server, i);
		check_int(frame_get_pixel(first), ==, 0xff0000);
		check_int(frame_get_pixel(second), ==, 0x00ff00);
	}
	// The positive case: it is the hold that kept it
	struct frame *third = capture(&exporter);
	bool reused = false;
	for (uint32_t i = 0; i < 4; i++) {
		paint(&server, i);
		reused |= frame_get_pixel(first) != 0xff0000;
	}
	check(reused);
	check_int(frame_get_pixel(second), ==, 0x00ff00);
	frame_free(first);
	frame_free(second);
	frame_free(third);
	finish(&server, &exporter);
}

TEST(holders_never_stop_the_output) {
	struct server server;
	struct exporter exporters[6];
	struct frame *frames[6];
	init(&server, &exporters[0]);
	for (int i = 0; i < 6; i++) {
		if (i > 0) {
			exporter_init(&exporters[i], &server);
		}
		frames[i] = capture_color(&exporters[i], 0x100000 + (uint32_t)i);
	}
	struct test_session *session =
		test_session_create(exporters[0].client, 0, VITRINE_GUARANTEE_SEALED);
	session->auto_release = true;
	// What is there. If a holder's time has run out by now, it has to be drawn again
	server.output->repaint = true;
	pump_until(&server, session->n_frames > 0);
	server.output->repaint = false;
	pump(&server);
	uint32_t before = session->n_frames;
	for (uint32_t i = 0; i < 30; i++) {
		paint(&server, i); // fails if there is no buffer left
	}
	check_int(session->n_frames, ==, before + 30);
	test_session_destroy(session);
	for (int i = 0; i < 6; i++) {
		frame_free(frames[i]);
		exporter_finish(&exporters[i]);
	}
	pump(&server);
	server_finish(&server);
}

TEST(clients_that_keep_up_get_each_frame) {
	struct server server;
	struct exporter exporters[3];
	struct frame *previous[3] = { NULL };
	init(&server, &exporters[0]);
	exporter_init(&exporters[1], &server);
	exporter_init(&exporters[2], &server);
	struct test_session *session =
		test_session_create(exporters[0].client, 0, VITRINE_GUARANTEE_SEALED);
	session->auto_release = true;
	// Slow, and held back by none of the others
	struct test_session *slow =
		test_session_create(exporters[1].client, 0, VITRINE_GUARANTEE_SEALED);
	client_roundtrip(exporters[0].client);
	client_roundtrip(exporters[1].client);
	for (uint32_t n = 1; n <= 40; n++) {
		struct frame *frames[3];
		for (int i = 0; i < 3; i++) {
			frames[i] = capture(&exporters[i]);
		}
		paint(&server, n);
		for (int i = 0; i < 3; i++) {
			check_str(frames[i]->events, "for");
			check_int(frame_get_pixel(frames[i]), ==, n);
			if (previous[i] != NULL) {
				frame_free(previous[i]);
			}
			previous[i] = frames[i];
		}
		check_int(session->n_frames, ==, n);
		if (n % 4 == 0) {
			test_session_release_last(slow);
		}
	}
	check_int(slow->n_frames, >=, 8);
	test_session_destroy(session);
	test_session_destroy(slow);
	for (int i = 0; i < 3; i++) {
		frame_free(previous[i]);
		exporter_finish(&exporters[i]);
	}
	pump(&server);
	server_finish(&server);
}

TEST(waiting_frames_are_bounded) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frames[64];
	int n_cancelled = 0;
	for (int i = 0; i < 64; i++) {
		frames[i] = capture(&exporter);
		if (frames[i]->events[0] == 'c') {
			check_int(frames[i]->reason, ==, TEMPORARY);
			n_cancelled++;
		}
	}
	check_int(n_cancelled, >, 0);
	check_int(n_cancelled, <, 64);
	paint(&server, 3);
	for (int i = 0; i < 64; i++) {
		check(frames[i]->events[0] == 'f' || frames[i]->events[0] == 'c');
		frame_free(frames[i]);
	}
	finish(&server, &exporter);
}

/* The end */

static void check_never_changes(struct server *server, struct frame *frame, uint32_t color) {
	for (uint32_t i = 0; i < 20; i++) {
		paint(server, i);
		check_int(frame_get_pixel(frame), ==, color);
	}
}

TEST(who_stops_asking_sees_nothing_more) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	server.manager->limits.deadline_ms = 20;
	struct frame *older = capture_color(&exporter, 0xaa0000);
	struct frame *frame = capture_color(&exporter, 0x00aa00);
	pump_until(&server, server.sessions_stopped == server.sessions_started);
	uint32_t n_sessions = server.sessions_started; // 2 if the first one took as long as that
	check_never_changes(&server, frame, 0x00aa00);
	check_never_changes(&server, older, 0xaa0000);
	// And may ask again
	struct frame *again = capture_color(&exporter, 0x0000aa);
	check_int(server.sessions_started, ==, n_sessions + 1);
	frame_free(older);
	frame_free(frame);
	frame_free(again);
	finish(&server, &exporter);
}

TEST(who_is_gone_sees_nothing_more) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 0x0a0b0c);
	frame_end(frame);
	exporter_finish(&exporter);
	pump(&server);
	check_int(server.sessions_stopped, ==, 1);
	check_never_changes(&server, frame, 0x0a0b0c);
	frame_free(frame);
	server_finish(&server);
}

TEST(who_is_locked_out_sees_nothing_more) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 0x0a0b0c);
	struct frame *waiting = capture(&exporter);
	vitrine_view_manager_v1_set_locked(server.manager, true);
	pump(&server);
	check_cancelled(waiting, TEMPORARY);
	check_never_changes(&server, frame, 0x0a0b0c);
	check_cancelled(capture(&exporter), TEMPORARY);
	vitrine_view_manager_v1_set_locked(server.manager, false);
	frame_free(capture_color(&exporter, 0x111111));
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(client_may_vanish_with_frames_waiting) {
	struct server server;
	struct exporter exporter, other;
	init(&server, &exporter);
	exporter_init(&other, &server);
	struct frame *frame = capture(&exporter);
	wl_client_destroy(exporter.client->wl_client);
	frame_free(capture_color(&other, 0x050505));
	check_str(frame->events, "");
	frame_free(frame);
	exporter_finish(&exporter);
	finish(&server, &other);
}

TEST(output_that_goes_is_permanent) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 5);
	struct frame *waiting = capture(&exporter);
	wlr_output_destroy(server.output->wlr_output);
	pump(&server);
	check_cancelled(waiting, PERMANENT);
	check_cancelled(capture(&exporter), PERMANENT);
	frame_free(frame);
	finish(&server, &exporter);
}

TEST(server_may_end_with_frames_waiting) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	struct frame *frame = capture_color(&exporter, 5);
	struct frame *waiting = capture(&exporter);
	frame_free(frame);
	frame_free(waiting);
	finish(&server, &exporter);
}

/* What there is none of */

static uint32_t allowed;

static uint32_t decide(const struct vitrine_view_request *request, void *data) {
	if (request->source == NULL && request->output != NULL) {
		const struct server *server = data;
		check(request->output == server->output->wlr_output);
		check_int(request->acceptable, ==,
			VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY);
	}
	return allowed;
}

TEST(what_policy_does_not_allow_is_permanent) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	allowed = VITRINE_GUARANTEE_ALL;
	vitrine_view_manager_v1_set_policy(server.manager, decide, &server);
	frame_free(capture_color(&exporter, 1));
	struct frame *waiting = capture(&exporter);
	allowed = 0;
	vitrine_view_manager_v1_update_policy(server.manager);
	pump(&server);
	check_cancelled(waiting, PERMANENT);
	check_cancelled(capture(&exporter), PERMANENT);
	// No dma-buf can be that
	allowed = VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_SNAPSHOT;
	check_cancelled(capture(&exporter), PERMANENT);
	finish(&server, &exporter);
}

TEST(buffers_that_cannot_be_derived_from_are_permanent) {
	struct server server;
	struct exporter exporter;
	init_with(&server, &exporter, &(struct server_options){ .stock_allocator = true });
	struct frame *frame = capture(&exporter);
	check(output_paint(server.output, 1, NULL));
	pump_until(&server, frame->events[0] != '\0');
	check_cancelled(frame, PERMANENT);
	finish(&server, &exporter);
}

TEST(output_that_is_off_is_permanent) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	frame_free(capture_color(&exporter, 1));
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, false);
	check(wlr_output_commit_state(server.output->wlr_output, &state));
	wlr_output_state_finish(&state);
	check_cancelled(capture(&exporter), PERMANENT);
	finish(&server, &exporter);
}

TEST(resized_output_goes_on) {
	struct server server;
	struct exporter exporter;
	init(&server, &exporter);
	frame_free(capture_color(&exporter, 1));
	struct frame *frame = capture(&exporter);
	output_resize(server.output, 128, 96);
	paint(&server, 0x22);
	check_str(frame->events, "for");
	frame_free(frame);
	frame = capture_color(&exporter, 0x33);
	check_int(frame->width, ==, 128);
	check_int(frame->height, ==, 96);
	frame_free(frame);
	finish(&server, &exporter);
}
