/* SPDX-License-Identifier: MIT */
/* Frames that are not finished when they are committed. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/render/swapchain.h>
#include <wlr/types/wlr_output.h>

#include "fence.h"
#include "fixture.h"
#include "harness.h"
#include "viewed_output.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL

/* What stands in for a renderer that has only flushed: an eventfd as the fence */

static int next_fence_fd = -1;

int __wrap_vt_render_fence(struct wlr_renderer *renderer,
	const struct wlr_output_state *state, struct wlr_buffer *buffer);
int __wrap_vt_render_fence(struct wlr_renderer *renderer,
		const struct wlr_output_state *state, struct wlr_buffer *buffer) {
	return next_fence_fd >= 0 ? fcntl(next_fence_fd, F_DUPFD_CLOEXEC, 0) : -1;
}

static void fence_signal(int fd) {
	check(eventfd_write(fd, 1) == 0);
}

/* What stands in for a nested output: the headless one, with its present event */

static bool is_nested;

bool __wrap_wlr_output_is_wl(struct wlr_output *output);
bool __wrap_wlr_output_is_wl(struct wlr_output *output) {
	return is_nested;
}

static struct test_session *start_session(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create(client, 0, acceptable);
	client_roundtrip(client);
	check(!session->stopped);
	return session;
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

TEST(damage_that_nobody_takes_is_bounded) {
	static const uint32_t acceptable[] = { VITRINE_GUARANTEE_SEALED, VITRINE_GUARANTEE_SNAPSHOT };
	for (int kind = 0; kind < 2; kind++) {
		struct server server;
		server_init(&server, NULL);
		struct client *client = client_create(&server);
		struct test_session *session = start_session(client, acceptable[kind]);
		for (int i = 0; i < 2; i++) { // as many as it can hold
			check(output_paint(server.output, 0, NULL));
			pump(&server);
		}
		uint32_t n_frames = session->n_frames;
		int most = 0;
		for (int i = 0; i < 16 * 12; i++) {
			struct rect rect = { i % 16 * 4, i / 16 * 4, 2, 2 }; // apart from each other
			check(output_paint(server.output, 1, &rect));
			int n = count_waiting_damage(&server);
			most = n > most ? n : most;
		}
		check_int(session->n_frames, ==, n_frames);
		check_int(most, >, VT_DAMAGE_RECTS_CAP / 2); // else it waits elsewhere
		check_int(most, <=, VT_DAMAGE_RECTS_CAP);

		// And nothing of it is lost
		server.output->repaint = kind == 1; // nothing was copied for nobody
		for (uint32_t i = 0; i < n_frames; i++) {
			test_session_release(session, session->frames[i].serial);
		}
		pump_until(&server, session->n_frames > n_frames);
		pixman_region32_t damage;
		test_frame_get_damage(test_session_last_frame(session), &damage);
		const pixman_box32_t *extents = pixman_region32_extents(&damage);
		check(extents->x1 == 0 && extents->y1 == 0 && extents->x2 >= 62 && extents->y2 >= 46);
		pixman_region32_fini(&damage);
		test_session_destroy(session);
		server_finish(&server);
	}
}

TEST(damage_of_who_takes_each_copy_is_bounded) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, VITRINE_GUARANTEE_SNAPSHOT);
	session->auto_release = true;
	check(output_paint(server.output, 0, NULL));
	pump(&server);
	for (int i = 0; i < 16 * 12; i++) {
		struct rect rect = { i % 16 * 4, i / 16 * 4, 2, 2 };
		check(output_paint(server.output, 0x010101u * (uint32_t)(i + 1), &rect));
		pump(&server);
		check_int(test_session_get_pixel(session, (uint32_t)rect.x, (uint32_t)rect.y), ==,
			0x010101u * (uint32_t)(i + 1));
		check_int(count_waiting_damage(&server), <=, VT_DAMAGE_RECTS_CAP);
	}
	check_int(session->n_frames, ==, 1 + 16 * 12);
	for (int i = 0; i < 16 * 12; i++) { // and none of them is missing
		check_int(test_session_get_pixel(session, (uint32_t)i % 16 * 4, (uint32_t)i / 16 * 4), ==,
			0x010101u * (uint32_t)(i + 1));
	}
	test_session_destroy(session);
	server_finish(&server);
}

TEST(frame_is_sent_when_its_fence_is_signalled) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	for (int kind = 0; kind < 2; kind++) {
		struct test_session *session =
			start_session(client, kind == 0 ? VITRINE_GUARANTEE_SEALED : VITRINE_GUARANTEE_SNAPSHOT);
		session->auto_release = true;
		check(output_paint(server.output, 0x010101, NULL));
		pump(&server);
		check_int(session->n_frames, ==, 1); // finished at once

		next_fence_fd = eventfd(0, EFD_CLOEXEC);
		check(output_paint(server.output, 0x020202, NULL));
		pump(&server);
		client_roundtrip(client);
		check_int(session->n_frames, ==, 1);
		fence_signal(next_fence_fd);
		pump(&server);
		check_int(session->n_frames, ==, 2);
		check_int(test_session_get_pixel(session, 1, 1), ==, 0x020202);
		close(next_fence_fd);
		next_fence_fd = -1;
		test_session_destroy(session);
	}
	server_finish(&server);
}

TEST(output_goes_on_while_a_fence_is_pending) {
	struct server server;
	server_init(&server, NULL);
	server.output->repaint = true;
	struct client *client = client_create(&server);
	// The first frame, which the session asks for, does not finish
	next_fence_fd = eventfd(0, EFD_CLOEXEC);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	pump(&server);
	for (uint32_t i = 1; i <= 20; i++) {
		check(output_paint(server.output, i, NULL));
		pump(&server);
	}
	check_int(session->n_frames, ==, 0);

	// The frame that waited is delivered, and then the newest one
	int fence_fd = next_fence_fd;
	next_fence_fd = -1;
	fence_signal(fence_fd);
	pump_until(&server, session->n_frames == 2);
	check_int(test_session_get_pixel(session, 1, 1), ==, 20);
	check_int(test_session_last_frame(session)->skipped, >=, 20);
	check_int(test_session_last_frame(session)->n_damage, ==, 1);
	close(fence_fd);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(session_can_end_while_a_fence_is_pending) {
	for (int step = 0; step < 3; step++) {
		struct server server;
		server_init(&server, NULL);
		struct client *client = client_create(&server);
		struct test_session *session = start_session(client, ALL);
		check(output_paint(server.output, 1, NULL));
		pump(&server);
		next_fence_fd = eventfd(0, EFD_CLOEXEC);
		check(output_paint(server.output, 2, NULL));
		pump(&server);
		if (step == 0) {
			test_session_end(session);
		} else if (step == 1) {
			wl_client_destroy(client->wl_client);
		} else {
			wlr_output_destroy(server.output->wlr_output);
		}
		pump(&server);
		fence_signal(next_fence_fd);
		pump(&server);
		check_int(session->n_frames, ==, 1);
		close(next_fence_fd);
		next_fence_fd = -1;
		test_session_destroy(session);
		server_finish(&server);
	}
}

TEST(resize_while_a_fence_is_pending_loses_nothing_but_frames) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, ALL);
	session->auto_release = true;
	next_fence_fd = eventfd(0, EFD_CLOEXEC);
	check(output_paint(server.output, 1, NULL));
	output_resize(server.output, 20, 20);
	pump(&server);
	int fence_fd = next_fence_fd;
	next_fence_fd = -1;
	fence_signal(fence_fd);
	pump(&server);
	check(output_paint(server.output, 0x0c0c0c, NULL));
	pump(&server);
	check_int(test_session_get_pixel(session, 19, 19), ==, 0x0c0c0c);
	check_int(session->views[test_session_last_frame(session)->index].width, ==, 20);
	close(fence_fd);
	test_session_destroy(session);
	server_finish(&server);
}

/* Nested outputs: the parent's wl_shm maps the memory writable, so that it must
 * not be sealed before the parent has shown it. */

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

TEST(nested_output_is_sealed_after_it_was_presented) {
	struct server server;
	server_init(&server, NULL);
	is_nested = true;
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, VITRINE_GUARANTEE_SEALED);
	check(output_paint(server.output, 0x010203, NULL));
	wl_display_flush_clients(server.display);
	check_int(output_count_sealed_buffers(server.output->wlr_output), ==, 0);
	pump(&server); // with the present event
	check_int(session->n_frames, ==, 1);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SEALED);
	check_int(output_count_sealed_buffers(server.output->wlr_output), ==, 1);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x010203);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(buffers_are_not_sealed_before_somebody_looks) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	for (uint32_t i = 0; i < 8; i++) {
		check(output_paint(server.output, i, NULL));
		pump(&server);
	}
	check_int(output_count_sealed_buffers(server.output->wlr_output), ==, 0);
	struct test_session *session = start_session(client, ALL);
	check(output_paint(server.output, 9, NULL));
	pump(&server);
	check_int(output_count_sealed_buffers(server.output->wlr_output), ==, 1);
	test_session_destroy(session);
	server_finish(&server);
}
