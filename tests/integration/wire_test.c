/* SPDX-License-Identifier: MIT */
/* What the protocol says of sessions in words, sentence by sentence. */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <string.h>
#include <vitrine/allocator.h>
#include <vitrine/view_v1.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/swapchain.h>
#include <wlr/types/wlr_output.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "session.h"
#include "stream.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL
#define SEALED VITRINE_GUARANTEE_SEALED
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

/** "The seals F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL are set, and at least one of ..." */
TEST_WITH_EACH(fixture, each_guarantee, memfd_has_the_seals_that_the_protocol_names) {
	fixture_paint(f, 0x123456);
	int seals = fcntl(f->session->views[0].fd, F_GET_SEALS);
	int fixed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	check_int(seals & fixed, ==, fixed);
	check(seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE));
}

/* Storages and formats */

TEST_WITH(fixture, memory_of_the_source_is_preferred_over_a_copy) {
	struct test_session *session = test_session_start(f->client, ALL);
	fixture_show(f, session, 0x123456);
	check_int(session->views[0].guarantee, ==, SEALED);
	check_int(session->views[0].storage, ==, VITRINE_STORAGE_MEMFD);
}

static struct test_session *start_with(struct fixture *f, const struct test_setup *setup) {
	struct test_session *session = test_session_create_with(f->client, setup);
	client_roundtrip(f->client);
	output_paint(f->server.output, 0x123456, NULL);
	pump(&f->server);
	return session;
}

static const struct {
	const char *name;
	struct test_setup setup;
} bad_storages[] = {
	{ "sealed", { .acceptable = SEALED, .storages = VITRINE_STORAGE_MAPPED_DMABUF } },
	{ "snapshot", { .acceptable = SNAPSHOT, .storages = VITRINE_STORAGE_MAPPED_DMABUF } },
};

TEST_EACH(bad_storages, storage_that_was_not_asked_for_is_not_sent) {
	struct fixture f;
	fixture_set_up(&f, &(struct fixture_options){0});
	struct test_setup setup = param->setup;
	setup.storages = VITRINE_STORAGE_CPU;
	struct test_session *session = start_with(&f, &setup);
	check_int(session->views[0].storage, ==, VITRINE_STORAGE_MEMFD);
	test_session_check_stop(start_with(&f, &param->setup), VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(session->n_frames, ==, 2);
	fixture_tear_down(&f);
}

static struct test_session *start_with_format(struct fixture *f, uint32_t acceptable,
		uint32_t fourcc) {
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	struct test_session *session = test_session_create_unstarted(f->client, source);
	ext_image_capture_source_v1_destroy(source);
	test_session_set_up(session, &(struct test_setup){
		.acceptable = acceptable, .storages = VITRINE_STORAGE_CPU });
	test_session_add_format(session, 0, fourcc, DRM_FORMAT_MOD_LINEAR);
	xx_dmabuf_view_session_v1_start(session->proxy);
	client_roundtrip(f->client);
	output_paint(f->server.output, 0x123456, NULL);
	pump(&f->server);
	return session;
}

TEST_WITH(fixture, format_that_the_cpu_does_not_read_is_not_sent) {
	struct test_session *session = start_with_format(f, ALL, DRM_FORMAT_XRGB8888);
	check_int(session->views[0].guarantee, ==, SEALED);
	check_int(session->views[0].fourcc, ==, DRM_FORMAT_XRGB8888);
	test_session_check_stop(start_with_format(f, SEALED, DRM_FORMAT_XRGB2101010),
		VITRINE_VIEW_STOP_UNSUPPORTED);
	test_session_check_stop(start_with_format(f, ALL, DRM_FORMAT_XRGB2101010),
		VITRINE_VIEW_STOP_UNSUPPORTED);
}

TEST_WITH(fixture, copy_is_for_those_who_cannot_read_the_source) {
	f->server.output->fourcc = DRM_FORMAT_RGB565;
	check(output_paint(f->server.output, 0xff0000, NULL));
	struct test_session *any = test_session_start(f->client, ALL);
	struct test_session *copied = start_with_format(f, ALL, DRM_FORMAT_XRGB8888);
	check_int(any->views[0].guarantee, ==, SEALED);
	check_int(any->views[0].fourcc, ==, DRM_FORMAT_RGB565);
	check_int(copied->views[0].guarantee, ==, SNAPSHOT);
	check_int(copied->views[0].fourcc, ==, DRM_FORMAT_XRGB8888);
}

/* Frames */

/** "A frame of a source that stands still may be sent long after its time" */
TEST_WITH(fixture, frame_that_is_shown_again_has_the_time_of_its_content, .acceptable = ALL) {
	fixture_paint(f, 0x123456);
	struct test_session *later = test_session_start(f->client, ALL);
	pump_until(&f->server, later->n_frames > 0);
	const struct test_frame *first = test_session_last_frame(f->session);
	const struct test_frame *again = test_session_last_frame(later);
	check_int(again->tv_sec, ==, first->tv_sec);
	check_int(again->tv_nsec, ==, first->tv_nsec);
}

/** "A frame that was revoked counts like one that is held until the client releases it." */
TEST_WITH(fixture, revoked_frame_counts_until_it_is_released, .acceptable = ALL) {
	f->server.manager->limits.frame_deadline_ms = 1;
	f->server.manager->limits.contended_frame_deadline_ms = 1;
	check_int(f->session->depth, ==, 2);
	fixture_paint_frames(f, 1, 2);
	check_int(f->session->n_frames, ==, 2);
	pump_until(&f->server, f->session->n_revoked > 0);
	fixture_paint_frames(f, 3, 8);
	check_int(f->session->n_frames, ==, 2);
	test_session_release(f->session, 1);
	test_session_release(f->session, 2);
	pump_until(&f->server, f->session->n_frames > 2);
}

static void release_all(struct test_session *session) {
	for (uint32_t i = 0; i < session->n_frames && i < SESSION_FRAMES_CAP; i++) {
		if (!session->frames[i].released) {
			session->frames[i].released = true;
			test_session_release(session, session->frames[i].serial);
		}
	}
	client_roundtrip(session->client);
}

/**
 * "No other event of the session comes between the first of these and the frame event":
 * the fixture looks at each event, here at many of those that might.
 */
TEST_WITH(fixture, nothing_comes_between_a_view_and_its_frame, .acceptable = ALL) {
	f->server.manager->limits.frame_deadline_ms = 1;
	f->server.manager->limits.contended_frame_deadline_ms = 1;
	struct test_session *reader = test_session_start_reader(f->client, ALL);
	for (uint32_t i = 0; i < 5; i++) {
		uint32_t n_revoked = f->session->n_revoked;
		fixture_paint_frames(f, 3 * i, 3 * i + 2);
		pump_until(&f->server, f->session->n_revoked > n_revoked);
		release_all(f->session);
		output_resize(f->server.output, 65 + (int)i, 48);
	}
	check_int(reader->n_retired, >, 0);
	check_int(f->session->n_revoked, >, 0);
}

/* How buffers were chosen */

TEST_WITH(fixture, explanation_is_sent_once_before_the_first_view, .acceptable = ALL) {
	check_str(f->session->explanation, "memfd (nothing else was tried)");
	check_int(f->session->n_views, ==, 0);
	fixture_paint_frames(f, 1, 3);
	check_int(f->session->n_frames, >, 0);
	check_int(f->session->n_explanations, ==, 1);
}

TEST_WITH(fixture, explanation_comes_again_when_it_has_changed, .acceptable = ALL,
		.auto_release = true) {
	fixture_paint_frames(f, 1, 3);
	struct wlr_output *output = f->server.output->wlr_output;
	struct wlr_allocator *own = wlr_allocator_autocreate(f->server.backend, f->server.renderer);
	output->allocator = own;
	output_resize(f->server.output, 65, 48);
	fixture_paint_frames(f, 4, 9);
	check_int(f->session->n_frames, >, 6);
	check_int(f->session->views[f->session->n_views - 1].guarantee, ==, SNAPSHOT);
	check_int(f->session->n_explanations, ==, 2);
	check_str(f->session->explanation, "buffers of an allocator that is not Vitrine's");
	output->allocator = f->server.allocator;
	wlr_allocator_destroy(own);
}

TEST_WITH(fixture, buffers_of_others_are_explained, .acceptable = ALL,
		.server.stock_allocator = true) {
	check_str(f->session->explanation, "buffers of an allocator that is not Vitrine's");
}

static const char *description; // instead of the allocator's own

const char *__real_vitrine_allocator_describe(struct wlr_allocator *allocator);
const char *__wrap_vitrine_allocator_describe(struct wlr_allocator *allocator);
const char *__wrap_vitrine_allocator_describe(struct wlr_allocator *allocator) {
	return description != NULL ? description : __real_vitrine_allocator_describe(allocator);
}

static const struct {
	const char *name, *character;
	size_t len; // of what is left of a byte and many of them
} characters[] = {
	{ "ascii", "x", 512 },
	{ "of two bytes", "\u00e9", 511 },
	{ "of three bytes", "\u2026", 511 },
	{ "of four bytes", "\U0001f600", 509 },
};

/** "It is in UTF-8, has no more than 512 bytes" */
TEST_EACH(characters, explanation_has_no_more_than_512_bytes) {
	struct fixture fixture, *f = &fixture;
	fixture_set_up(f, &(struct fixture_options){0});
	char text[600] = "x";
	while (strlen(text) <= 512) {
		strcat(text, param->character);
	}
	description = text;
	struct test_session *session = test_session_start(f->client, ALL);
	check_int(strlen(session->explanation), ==, param->len);
	check(strncmp(session->explanation, text, param->len) == 0);
	fixture_paint(f, 0x123456); // of which it still is the explanation
	check_int(session->n_explanations, ==, 1);
	check_int(session->n_frames, ==, 1);
	fixture_tear_down(f);
}

/* Serials */

TEST_WITH(fixture, first_serial_is_one_whatever_came_before) {
	fixture_paint_frames(f, 1, 5);
	struct test_session *session = test_session_start(f->client, ALL);
	fixture_paint_frames(f, 6, 7);
	check_int(session->frames[0].serial, ==, 1);
	check_int(session->frames[0].skipped, ==, 0);
	check_int(session->frames[1].serial, ==, 2);
}

TEST_WITH(fixture, serial_counts_the_frames_that_were_missed, .acceptable = ALL) {
	fixture_paint_frames(f, 1, 7);
	check_int(f->session->n_frames, ==, 2);
	test_session_release(f->session, 1);
	client_roundtrip(f->client);
	check_int(test_session_last_frame(f->session)->serial, ==, 7);
	check_int(f->session->n_skipped, ==, 4);
}

/** The output goes on in buffers of wlroots' own, and the session in copies of them. */
TEST_WITH(fixture, serial_counts_the_frames_that_were_missed_on_the_way_to_copies) {
	struct test_session *session = test_session_start_reader(f->client, ALL);
	const struct wlr_output *output = f->server.output->wlr_output;
	fixture_show(f, session, 0x123456);
	check_int(test_session_last_frame(session)->serial, ==, 1);
	uint32_t first_commit = output->commit_seq;
	struct wlr_allocator *stock = wlr_allocator_autocreate(f->server.backend, f->server.renderer);
	struct wlr_drm_format format = { .format = DRM_FORMAT_XRGB8888 };
	f->server.output->swapchain = wlr_swapchain_create(stock, 64, 48, &format);
	f->server.output->repaint = true;
	check(output_paint(f->server.output, 0x654321, NULL));
	pump_until(&f->server, session->n_frames > 1);
	f->server.output->repaint = false;
	fixture_show(f, session, 0x445566);
	struct test_frame *last = test_session_last_frame(session);
	check_int(session->views[last->index].guarantee, ==, SNAPSHOT);
	check_int(session->n_skipped, >, 0);
	check_int(last->serial - 1, ==, output->commit_seq - first_commit);
	wlr_swapchain_destroy(f->server.output->swapchain);
	f->server.output->swapchain = NULL;
	wlr_allocator_destroy(stock);
}

/** The same for damage: of copies, what was changed by frames that the session missed. */
TEST_WITH(fixture, damage_counts_from_the_last_frame_on_the_way_to_copies) {
	struct test_session *session = test_session_start_reader(f->client, ALL);
	fixture_show(f, session, 0x123456);
	struct wlr_allocator *stock = wlr_allocator_autocreate(f->server.backend, f->server.renderer);
	struct wlr_drm_format format = { .format = DRM_FORMAT_XRGB8888 };
	f->server.output->swapchain = wlr_swapchain_create(stock, 64, 48, &format);
	check(output_paint(f->server.output, 0x654321, NULL));
	pump(&f->server);
	for (uint32_t i = 0; session->n_frames < 2; i++) {
		check_int(i, <, 8);
		check(output_paint(f->server.output, i, &(struct rect){ 1, 2, 3, 4 }));
		pump(&f->server);
	}
	struct test_frame *frame = &session->frames[1];
	check_int(session->views[frame->index].guarantee, ==, SNAPSHOT);
	check_int(frame->damage[0].width, ==, 64);
	check_int(frame->damage[0].height, ==, 48);
	wlr_swapchain_destroy(f->server.output->swapchain);
	f->server.output->swapchain = NULL;
	wlr_allocator_destroy(stock);
}

static struct vt_subscriber *find_subscriber(struct fixture *f) {
	struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	struct vitrine_view_session_v1 *session =
		wl_container_of(manager->sessions.next, session, link);
	return &session->subscriber;
}

/** "high 32 bits of the modifier" */
TEST_WITH(fixture, view_says_its_modifier_in_halves, .acceptable = SEALED) {
	fixture_paint(f, 0x123456);
	check_int(f->session->views[0].modifier, ==, DRM_FORMAT_MOD_LINEAR);
	// As that of a GPU's memory would be
	find_subscriber(f)->stream->newest.buffer->buffer->modifier = 0x0200000000000006;
	struct test_session *session = test_session_start(f->client, SEALED);
	pump_until(&f->server, session->n_frames > 0);
	check_int(session->views[0].modifier, ==, 0x0200000000000006);
}

/** "0 is no serial: 1 comes after the largest." */
TEST_WITH(fixture, zero_is_no_serial, .acceptable = ALL, .auto_release = true) {
	fixture_show(f, f->session, 0x123456);
	find_subscriber(f)->last_serial = UINT32_MAX - 1;
	f->session->last_serial = UINT32_MAX - 1;
	fixture_show(f, f->session, 0x123457);
	check_int(test_session_last_frame(f->session)->serial, ==, UINT32_MAX);
	fixture_show(f, f->session, 0x123458);
	check_int(test_session_last_frame(f->session)->serial, ==, 1);
	check_int(f->session->n_skipped, ==, 0);
}

TEST_WITH(fixture, serial_that_wraps_counts_the_frames_that_were_missed, .acceptable = ALL) {
	fixture_paint(f, 0x123456);
	find_subscriber(f)->last_serial = UINT32_MAX - 1;
	f->session->last_serial = UINT32_MAX - 1;
	fixture_paint_frames(f, 1, 6);
	test_session_release(f->session, 1);
	client_roundtrip(f->client);
	check_int(test_session_last_frame(f->session)->serial, ==, 5);
	check_int(f->session->n_skipped, ==, 4);
}

/* Off and on */

static void commit_enabled(struct fixture *f, bool enabled) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, enabled);
	check(wlr_output_commit_state(f->server.output->wlr_output, &state));
	wlr_output_state_finish(&state);
}

static void set_enabled(struct fixture *f, bool enabled) {
	commit_enabled(f, enabled);
	client_roundtrip(f->client);
}

TEST_WITH_EACH(fixture, each_reader, source_that_is_off_is_told_and_that_it_is_on_again) {
	fixture_show(f, f->session, 0x123456);
	check_int(f->session->n_off, ==, 0);
	set_enabled(f, false);
	check_int(f->session->n_off, ==, 1);
	check_int(f->session->n_on, ==, 0);
	uint32_t n_frames = f->session->n_frames;
	set_enabled(f, true);
	check_int(f->session->n_on, ==, 1);
	// "The session goes on"
	check(!f->session->stopped);
	fixture_show(f, f->session, 0x654321);
	check_int(f->session->n_frames, >, n_frames);
	set_enabled(f, false);
	set_enabled(f, true);
	check_int(f->session->n_off, ==, 2);
	check_int(f->session->n_on, ==, 2);
}

TEST_WITH(fixture, session_of_a_source_that_is_off_is_told_first) {
	set_enabled(f, false);
	struct test_session *session = test_session_start(f->client, ALL);
	check_int(session->n_depth_events, ==, 1);
	check_int(session->n_off, ==, 1);
	check_int(session->n_frames, ==, 0);
	set_enabled(f, true);
	check_int(session->n_on, ==, 1);
	fixture_show(f, session, 0x123456);
}

TEST_WITH(fixture, frames_that_are_held_stay_while_the_source_is_off, .acceptable = ALL) {
	fixture_show(f, f->session, 0x123456);
	set_enabled(f, false);
	check_int(f->session->n_revoked, ==, 0);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x123456);
	set_enabled(f, true);
	fixture_paint_frames(f, 1, 3);
	check_int(test_view_get_pixel(&f->session->views[f->session->frames[0].index], 0, 0), ==,
		0x123456);
}

TEST_PARAMS(fixture, orders, bool is_global_first) = {
	{ "then removed" },
	{ "after it was removed", .is_global_first = true },
};

/** "An output that is off and has no wl_output global does not exist any more" */
TEST_WITH_EACH(fixture, orders, source_is_gone_when_it_is_off) {
	struct wlr_output *output = f->server.output->wlr_output;
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	struct test_session *session = test_session_start_reader(f->client, ALL);
	fixture_show(f, session, 0x123456);
	set_enabled(f, false);
	check(!session->stopped); // the positive case
	set_enabled(f, true);
	if (param->is_global_first) {
		wlr_output_destroy_global(output);
	}
	commit_enabled(f, false);
	if (!param->is_global_first) {
		wlr_output_destroy_global(output);
	}
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	// Nor does one wait for ever that named it before
	struct test_session *late = test_session_create_for(f->client, source, 0, ALL);
	client_roundtrip(f->client);
	test_session_check_stop(late, VITRINE_VIEW_STOP_SOURCE_GONE);
	ext_image_capture_source_v1_destroy(source);
}

TEST_WITH(fixture, source_goes_on_that_is_on_again_at_once) {
	struct wlr_output *output = f->server.output->wlr_output;
	struct test_session *session = test_session_start_reader(f->client, ALL);
	fixture_show(f, session, 0x123456);
	commit_enabled(f, false); // such as by a configuration that is read again
	wlr_output_destroy_global(output);
	wlr_output_create_global(output, f->server.display);
	commit_enabled(f, true);
	client_roundtrip(f->client);
	check(!session->stopped);
	fixture_show(f, session, 0x654321);
}

/* Implicit release */

#define IMPLICIT &(struct test_setup){ .acceptable = ALL, .implicit_release = true }

TEST_WITH(fixture, implicit_release_has_a_depth_of_two) {
	f->server.manager->limits.frames_per_session = 4;
	struct test_session *session = start_with(f, IMPLICIT);
	check_int(session->depth, ==, 2);
	struct test_session *other = test_session_start(f->client, ALL);
	check_int(other->depth, ==, 4);
}

TEST_WITH(fixture, release_with_implicit_release_is_invalid_serial) {
	struct test_session *session = start_with(f, IMPLICIT);
	check_int(test_session_last_frame(session)->serial, ==, 1);
	test_session_release(session, 1);
	client_expect_error(f->client, &xx_dmabuf_view_session_v1_interface,
		XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_SERIAL);
}

TEST_WITH(fixture, frame_with_one_damaged_rectangle_is_one_event) {
	struct test_session *session = start_with(f, IMPLICIT);
	uint32_t n_transforms = session->n_transforms;
	for (int i = 0; i < 10; i++) {
		const struct rect rect = { i, i, 5, 6 };
		check(output_paint(f->server.output, fixture_color((uint32_t)i), &rect));
		pump(&f->server);
		struct test_frame *frame = test_session_last_frame(session);
		check_int(frame->n_damage_events, ==, 0);
		check_int(frame->n_damage, ==, 1);
		check_int(frame->damage[0].x, ==, i);
		check_int(frame->damage[0].height, ==, 6);
	}
	check_int(session->n_frames, ==, 11);
	check_int(session->n_transforms, ==, n_transforms);
}
