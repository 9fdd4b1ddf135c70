/* SPDX-License-Identifier: MIT */
/* Frames that are not finished when they are committed. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <vitrine/view_v1.h>
#include <wlr/render/swapchain.h>
#include <wlr/types/wlr_output.h>

#include "fence_fake.h"
#include "fixture.h"
#include "harness.h"
#include "viewed_output.h"

#define ALL VITRINE_GUARANTEE_ALL

/* What stands in for a nested output: the headless one, with its present event, and a
 * compositor around it that answers when it is told to */

static struct wl_display *parent; // the server's side; NULL unless the output is nested
static struct wl_display *parent_connection; // our side

bool __wrap_wlr_output_is_wl(struct wlr_output *output);
bool __wrap_wlr_output_is_wl(struct wlr_output *output) {
	return parent != NULL;
}

struct wl_display *__wrap_wlr_wl_backend_get_remote_display(struct wlr_backend *backend);
struct wl_display *__wrap_wlr_wl_backend_get_remote_display(struct wlr_backend *backend) {
	return parent_connection;
}

static void parent_begin(void) {
	int fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	parent = wl_display_create();
	check(wl_client_create(parent, fds[0]) != NULL);
	parent_connection = wl_display_connect_to_fd(fds[1]);
	check(parent_connection != NULL);
}

/** It handles what it was sent, and we its answers. Returns how many answers there were. */
static int parent_answer(void) {
	check_ok(wl_event_loop_dispatch(wl_display_get_event_loop(parent), 0));
	wl_display_flush_clients(parent);
	int count = wl_display_dispatch_pending(parent_connection);
	if (wl_display_prepare_read(parent_connection) == 0) {
		wl_display_read_events(parent_connection); // does not wait: EAGAIN is no error
		count += wl_display_dispatch_pending(parent_connection);
	}
	return count / 2; // each one comes with the deletion of its object
}

static void parent_end(void) {
	wl_display_disconnect(parent_connection);
	wl_display_destroy_clients(parent);
	wl_display_destroy(parent);
	parent = NULL;
}

/* What stands in for a kernel that gives no more views, such as guards */

static int derive_error; // of the next ones, 0 if they succeed
static uint32_t n_derive_errors; // how many of them; each one that fails counts it down

int __real_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (n_derive_errors == 0) {
		return __real_vitrine_derive_fd(derive, source, acceptable, derived);
	}
	n_derive_errors--;
	derived->fd = -1;
	return derive_error;
}

static void fail_to_derive(int error, uint32_t times) {
	derive_error = error;
	n_derive_errors = times;
}

/* What stands in for a fence on all buffers, or on one */

static bool is_fenced;
static const struct wlr_dmabuf_attributes *fenced_dmabuf;

bool __wrap_vt_fence_is_on_dmabuf(const struct wlr_dmabuf_attributes *dmabuf);
bool __wrap_vt_fence_is_on_dmabuf(const struct wlr_dmabuf_attributes *dmabuf) {
	return is_fenced || dmabuf == fenced_dmabuf;
}

/** Rectangles of damage that wait for somebody, of the place that has most. */
static int count_waiting_damage(struct server *server) {
	const struct vt_manager *manager = wl_container_of(server->manager, manager, base);
	int most = 0;
	struct vt_viewed_output *viewed;
	wl_list_for_each(viewed, &manager->viewed_outputs, link) {
		pixman_region32_t *regions[] = {
			&viewed->direct.lost_damage,
			&viewed->snapshots.stream.lost_damage,
		};
		for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
			int n = pixman_region32_n_rects(regions[i]);
			most = n > most ? n : most;
		}
		struct vt_stream_buffer *buffer;
		wl_list_for_each(buffer, &viewed->snapshots.stream.buffers, link) {
			int n = pixman_region32_n_rects(&buffer->stale);
			most = n > most ? n : most;
		}
		struct vt_subscriber *subscriber;
		wl_list_for_each(subscriber, &viewed->subscribers, output_link) {
			int n = pixman_region32_n_rects(&subscriber->damage);
			most = n > most ? n : most;
		}
	}
	return most;
}

#define N_DOTS (16 * 12)

/** Paints a dot that is apart from the others. */
static void paint_dot(struct fixture *f, uint32_t i, uint32_t color) {
	const struct rect rect = { (int)i % 16 * 4, (int)i / 16 * 4, 2, 2 };
	check(output_paint(f->server.output, color, &rect));
}

static uint32_t get_dot(struct fixture *f, uint32_t i) {
	return test_session_get_pixel(f->session, i % 16 * 4, i / 16 * 4);
}

TEST_WITH_EACH(fixture, each_guarantee, damage_that_nobody_takes_is_bounded) {
	struct test_session *session = f->session;
	for (int i = 0; i < 2; i++) { // as many as it can hold
		fixture_paint(f, 0);
	}
	uint32_t n_frames = session->n_frames;
	int most = 0;
	for (uint32_t i = 0; i < N_DOTS; i++) {
		paint_dot(f, i, 1);
		int n = count_waiting_damage(&f->server);
		most = n > most ? n : most;
	}
	check_int(session->n_frames, ==, n_frames);
	check_int(most, >, VT_DAMAGE_RECTS_CAP / 2); // else it waits elsewhere
	check_int(most, <=, VT_DAMAGE_RECTS_CAP);

	// And nothing of it is lost. Nothing was copied as long as there was no use for it
	f->server.output->repaint = param->options.acceptable == VITRINE_GUARANTEE_SNAPSHOT;
	for (uint32_t i = 0; i < n_frames; i++) {
		test_session_release(session, session->frames[i].serial);
	}
	pump_until(&f->server, session->n_frames > n_frames);
	pixman_region32_t damage;
	test_frame_get_damage(test_session_last_frame(session), &damage);
	const pixman_box32_t *extents = pixman_region32_extents(&damage);
	check(extents->x1 == 0 && extents->y1 == 0 && extents->x2 >= 62 && extents->y2 >= 46);
	pixman_region32_fini(&damage);
}

TEST_WITH(fixture, damage_of_who_takes_each_copy_is_bounded,
		.acceptable = VITRINE_GUARANTEE_SNAPSHOT, .auto_release = true) {
	fixture_paint(f, 0);
	for (uint32_t i = 0; i < N_DOTS; i++) {
		paint_dot(f, i, 0x010101u * (i + 1));
		pump(&f->server);
		check_int(get_dot(f, i), ==, 0x010101u * (i + 1));
		check_int(count_waiting_damage(&f->server), <=, VT_DAMAGE_RECTS_CAP);
	}
	check_int(f->session->n_frames, ==, 1 + N_DOTS);
	for (uint32_t i = 0; i < N_DOTS; i++) { // and none of them is missing
		check_int(get_dot(f, i), ==, 0x010101u * (i + 1));
	}
}

TEST_WITH_EACH(fixture, each_reader, frame_is_sent_when_its_fence_is_signalled) {
	fixture_paint(f, 0x010101);
	check_int(f->session->n_frames, ==, 1); // finished at once

	begin_fence();
	fixture_paint(f, 0x020202);
	client_roundtrip(f->client);
	check_int(f->session->n_frames, ==, 1);
	signal_fence();
	pump(&f->server);
	check_int(f->session->n_frames, ==, 2);
	check_int(test_session_get_pixel(f->session, 1, 1), ==, 0x020202);
}

TEST_WITH_EACH(fixture, each_reader, frame_that_may_be_unfinished_is_lost_and_asked_for_again) {
	fixture_paint(f, 0x010101);
	check_int(f->session->n_frames, ==, 1);

	fail_fences(true);
	fixture_paint(f, 0x020202);
	client_roundtrip(f->client);
	check_int(f->session->n_frames, ==, 1);
	fail_fences(false);
	f->server.output->repaint = true;
	pump_until(&f->server, f->session->n_frames == 2);
	check_int(test_session_get_pixel(f->session, 1, 1), ==, 0x020202);
}

TEST_WITH(fixture, output_goes_on_while_a_fence_is_pending) {
	f->server.output->repaint = true;
	// The first frame, which the session asks for, does not finish
	begin_fence();
	struct test_session *session = test_session_start_reader(f->client, ALL);
	pump(&f->server);
	fixture_paint_frames(f, 1, 20);
	check_int(session->n_frames, ==, 0);

	// The frame that waited is delivered, and then the newest one
	signal_fence();
	pump_until(&f->server, session->n_frames == 2);
	check_int(test_session_get_pixel(session, 1, 1), ==, fixture_color(20));
	check_int(test_session_last_frame(session)->skipped, >=, 20);
	check_int(test_session_last_frame(session)->n_damage, ==, 1);
}

TEST_PARAMS(fixture, endings, enum { END_DESTROY, END_DISCONNECT, END_OUTPUT } ending) = {
	{ "destroy", { .acceptable = ALL }, END_DESTROY },
	{ "disconnect", { .acceptable = ALL }, END_DISCONNECT },
	{ "output", { .acceptable = ALL }, END_OUTPUT },
};

TEST_WITH_EACH(fixture, endings, session_can_end_while_a_fence_is_pending) {
	fixture_paint(f, 1);
	begin_fence();
	fixture_paint(f, 2);
	if (param->ending == END_DESTROY) {
		test_session_end(f->session);
	} else if (param->ending == END_DISCONNECT) {
		wl_client_destroy(f->client->wl_client);
	} else {
		wlr_output_destroy(f->server.output->wlr_output);
	}
	pump(&f->server);
	signal_fence();
	pump(&f->server);
	check_int(f->session->n_frames, ==, 1);
}

TEST_WITH(fixture, resize_while_a_fence_is_pending_loses_nothing_but_frames,
		.acceptable = ALL, .auto_release = true) {
	begin_fence();
	check(output_paint(f->server.output, 1, NULL));
	output_resize(f->server.output, 20, 20);
	pump(&f->server);
	signal_fence();
	pump(&f->server);
	fixture_show(f, f->session, 0x0c0c0c);
	check_int(f->session->views[test_session_last_frame(f->session)->index].width, ==, 20);
}

/* Nested outputs: the parent's wl_shm maps the memory writable, so that it must
 * not be sealed before the parent has handled the commit. */

static int output_count_sealed_buffers(struct wlr_output *output) {
	int count = 0;
	for (size_t i = 0; output->swapchain != NULL && i < WLR_SWAPCHAIN_CAP; i++) {
		struct wlr_shm_attributes shm;
		struct wlr_buffer *buffer = output->swapchain->slots[i].buffer;
		if (buffer != NULL && wlr_buffer_get_shm(buffer, &shm)) {
			int seals = fcntl(shm.fd, F_GET_SEALS);
			check_int(seals, >=, 0);
			count += (seals & F_SEAL_FUTURE_WRITE) != 0;
		}
	}
	return count;
}

TEST_WITH(fixture, nested_output_is_sealed_once_its_parent_has_handled_it) {
	parent_begin();
	struct test_session *session = test_session_start(f->client, VITRINE_GUARANTEE_SEALED);
	check(output_paint(f->server.output, 0x010203, NULL));
	wl_display_flush_clients(f->server.display);
	check_int(output_count_sealed_buffers(f->server.output->wlr_output), ==, 0);
	pump(&f->server); // with the present event, which wlroots may make up
	check_int(output_count_sealed_buffers(f->server.output->wlr_output), ==, 0);
	check_int(session->n_frames, ==, 0);
	check_int(parent_answer(), ==, 1);
	pump(&f->server);
	check_int(session->n_frames, ==, 1);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SEALED);
	check_int(output_count_sealed_buffers(f->server.output->wlr_output), ==, 1);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x010203);
	wlr_output_destroy(f->server.output->wlr_output);
	parent_end();
}

TEST_WITH(fixture, parent_is_asked_once_at_a_time, .auto_release = true) {
	parent_begin();
	struct test_session *session = test_session_start(f->client, VITRINE_GUARANTEE_SEALED);
	for (int i = 0; i < 5; i++) { // and does not answer
		check(output_paint(f->server.output, 0x010101u * (uint32_t)i, NULL));
		pump(&f->server);
	}
	check_int(session->n_frames, ==, 0);
	check_int(parent_answer(), ==, 1); // and what came after that is asked about now
	pump(&f->server);
	check_int(session->n_frames, ==, 1);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0);
	check_int(parent_answer(), ==, 1);
	check(output_paint(f->server.output, 0x0a0b0c, NULL));
	pump(&f->server);
	check_int(session->n_frames, ==, 1);
	check_int(parent_answer(), ==, 1);
	pump(&f->server);
	check_int(session->n_frames, ==, 2);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x0a0b0c);
	wlr_output_destroy(f->server.output->wlr_output);
	parent_end();
}

TEST_WITH(fixture, output_may_go_while_its_parent_is_asked) {
	parent_begin();
	test_session_start(f->client, VITRINE_GUARANTEE_SEALED);
	check(output_paint(f->server.output, 1, NULL));
	wlr_output_destroy(f->server.output->wlr_output);
	parent_answer(); // which does not arrive any more
	parent_end();
}

TEST_WITH(fixture, buffers_are_not_sealed_before_somebody_looks) {
	fixture_paint_frames(f, 0, 7);
	check_int(output_count_sealed_buffers(f->server.output->wlr_output), ==, 0);
	test_session_start(f->client, ALL);
	fixture_paint(f, 9);
	check_int(output_count_sealed_buffers(f->server.output->wlr_output), ==, 1);
}

/* Views that cannot be had for lack of resources */

TEST_WITH(fixture, session_gets_copies_when_there_are_no_more_views, .acceptable = ALL,
		.auto_release = true) {
	struct test_session *session = f->session;
	struct test_session *other = test_session_start_reader(f->client, VITRINE_GUARANTEE_SNAPSHOT);
	fixture_show(f, session, 1);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SEALED);
	uint32_t n_views = session->n_views;
	fail_to_derive(-EDQUOT, 1);
	f->server.output->repaint = true;
	for (uint32_t n = 2; n_derive_errors > 0; n++) {
		fixture_paint(f, n); // until there is a buffer that it does not know
	}
	fixture_paint(f, 99);
	fixture_show_frames(f, session, 100, 119);
	check(!session->stopped);
	check_int(session->views[session->n_views - 1].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	for (uint32_t i = 0; i < n_views; i++) {
		check(session->views[i].retired);
	}
	check_int(session->n_frames + session->n_skipped, ==, other->n_frames + other->n_skipped);
	// Others begin with what there is
	struct test_session *late = test_session_start_reader(f->client, VITRINE_GUARANTEE_SEALED);
	fixture_show(f, late, 120);
}

TEST_PARAMS(fixture, lacking, int error; uint32_t acceptable, guarantee, stop_reason) = {
	{ "quota, copy accepted", {}, -EDQUOT, ALL, VITRINE_GUARANTEE_SNAPSHOT, 0 },
	{ "memory, copy accepted", {}, -ENOMEM, ALL, VITRINE_GUARANTEE_SNAPSHOT, 0 },
	{ "quota", {}, -EDQUOT, VITRINE_GUARANTEE_SEALED, 0, VITRINE_VIEW_STOP_NO_RESOURCES },
	{ "memory", {}, -ENOMEM, VITRINE_GUARANTEE_SEALED, 0, VITRINE_VIEW_STOP_NO_RESOURCES },
	{ "never", {}, -EOPNOTSUPP, VITRINE_GUARANTEE_SEALED, 0, VITRINE_VIEW_STOP_UNSUPPORTED },
};

TEST_WITH_EACH(fixture, lacking, session_that_lacks_a_view_at_its_begin) {
	struct test_session *session = test_session_start_reader(f->client, param->acceptable);
	fail_to_derive(param->error, 1);
	check(output_paint(f->server.output, 1, NULL));
	check_int(n_derive_errors, ==, 0);
	pump(&f->server);
	if (param->guarantee != 0) {
		fixture_show(f, session, 2);
		check_int(session->views[0].guarantee, ==, param->guarantee);
	} else {
		test_session_check_stop(session, param->stop_reason);
	}
}

TEST_WITH(fixture, session_without_copies_stops_when_there_are_no_more_views,
		.acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true) {
	fixture_show(f, f->session, 1);
	fail_to_derive(-EDQUOT, 1);
	for (uint32_t n = 2; n_derive_errors > 0; n++) {
		fixture_paint(f, n);
	}
	pump(&f->server);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_NO_RESOURCES);
}

/** Of the first output that is viewed. */
static struct vt_viewed_output *get_viewed_output(struct server *server) {
	const struct vt_manager *manager = wl_container_of(server->manager, manager, base);
	check(!wl_list_empty(&manager->viewed_outputs));
	return wl_container_of(manager->viewed_outputs.next, (struct vt_viewed_output *)NULL, link);
}

/** As if the views were of the owner's own dma-bufs, fences included, and all of them known. */
static struct vt_subscriber *share_fences(struct fixture *f, uint32_t i) {
	fixture_paint_frames(f, 10 * i, 10 * i + 6);
	pump(&f->server);
	struct vt_viewed_output *viewed = get_viewed_output(&f->server);
	struct vt_subscriber *subscriber =
		wl_container_of(viewed->direct.subscribers.next, subscriber, stream_link);
	subscriber->guarantee = VITRINE_GUARANTEE_FD_READ_ONLY;
	return subscriber;
}

/** The buffer with a frame that was lost before it was finished, of which there is one. */
static struct vt_stream_buffer *get_unfinished(const struct vt_stream *stream) {
	struct vt_stream_buffer *buffer, *unfinished = NULL;
	wl_list_for_each(buffer, &stream->buffers, link) {
		if (vt_stream_buffer_is_drawn_to(buffer)) {
			check(unfinished == NULL);
			unfinished = buffer;
		}
	}
	check(unfinished != NULL);
	return unfinished;
}

TEST_PARAMS(fixture, lost_frames, bool is_slow) = {
	{ "which is finished", { .acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true } },
	{ "which takes too long", { .acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true },
		true },
};

TEST_WITH_EACH(fixture, lost_frames, fence_of_a_lost_frame_is_no_holders_while_it_is_drawn) {
	fixture_paint(f, 1);
	share_fences(f, 1);
	struct vt_viewed_output *viewed = get_viewed_output(&f->server);
	begin_fence();
	fixture_paint(f, 20); // which is waited for
	fixture_paint(f, 21);
	struct vt_stream_buffer *unfinished = get_unfinished(&viewed->direct);
	fenced_dmabuf = &unfinished->buffer->dmabuf;
	vt_viewed_output_check_fences(viewed);
	check_int(viewed->n_fences_found, ==, 0);
	check_int(f->session->n_retired, ==, 0);

	// What is on it afterwards is a holder's
	if (param->is_slow) {
		unfinished->lost_since_ms -= 500;
		// Nor is it more if it is drawn to again and again meanwhile
		vt_stream_buffer_lose(unfinished, fcntl(unfinished->lost_fence_fd, F_DUPFD_CLOEXEC, 0));
	} else {
		signal_fence();
	}
	vt_viewed_output_check_fences(viewed);
	fenced_dmabuf = NULL;
	check_int(viewed->n_fences_found, ==, 1);
	if (param->is_slow) {
		signal_fence();
	}
	f->server.output->repaint = true;
	pump_until(&f->server, f->session->n_retired > 0);
	fixture_show(f, f->session, fixture_color(22));
}

TEST_WITH(fixture, third_fence_of_a_holder_ends_the_sharing_of_fences,
		.acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true) {
	fixture_paint(f, 1);
	struct vt_viewed_output *viewed = get_viewed_output(&f->server);
	const struct vt_subscriber *subscriber = NULL;
	for (uint32_t i = 1; i <= 3; i++) {
		subscriber = share_fences(f, i);
		check(!viewed->direct.is_scanned_out);
		check_int(viewed->n_fences_found, ==, i - 1);
		uint32_t n_retired = f->session->n_retired;
		is_fenced = true;
		fixture_paint(f, fixture_color(10 * i + 7));
		pump_until(&f->server, viewed->n_fences_found == i);
		is_fenced = false;
		pump_until(&f->server, f->session->n_retired > n_retired); // and no more is drawn to it
	}
	check_int(subscriber->state, ==, VT_SUBSCRIBER_ATTACHED);
	check(output_paint(f->server.output, fixture_color(40), NULL));
	check(viewed->direct.is_scanned_out); // as one whose display waits for all fences
	check_int(subscriber->state, ==, VT_SUBSCRIBER_MOVING);
	// It goes on with what shares none
	f->server.output->repaint = true;
	pump_until(&f->server, test_session_get_pixel(f->session, 1, 1) == fixture_color(40));
	check_int(subscriber->guarantee, ==, VITRINE_GUARANTEE_SEALED);
	check_int(viewed->n_fences_found, ==, 3);
}
