/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/backend.h>
#include <wlr/render/allocator.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "security-context-v1-client-protocol.h"
#include "single-pixel-buffer-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL

/** A policy that allows `allowed` and remembers what it was asked. */
struct policy {
	uint32_t allowed;
	struct vitrine_view_request last;
};

static uint32_t policy_decide(const struct vitrine_view_request *request, void *data) {
	struct policy *policy = data;
	policy->last = *request;
	return policy->allowed;
}

/* Guarantees */

TEST(guarantees_are_sent_once_after_bind) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	check_int(client->n_guarantees_events, ==, 1);
	check_int(client->guarantees, ==, ALL);
	server_finish(&server);
}

TEST(guarantees_are_sent_again_when_policy_changes) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct policy policy = { .allowed = VITRINE_GUARANTEE_SNAPSHOT };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	client_roundtrip(client);
	check_int(client->n_guarantees_events, ==, 2);
	check_int(client->guarantees, ==, VITRINE_GUARANTEE_SNAPSHOT);

	vitrine_view_manager_v1_update_policy(server.manager);
	client_roundtrip(client);
	check_int(client->n_guarantees_events, ==, 2); // it did not change
	server_finish(&server);
}

TEST(policy_sees_the_client_the_source_and_what_is_asked) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct policy policy = { .allowed = ALL };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	struct test_session *session = test_session_create(client,
		XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS, VITRINE_GUARANTEE_SEALED);
	client_roundtrip(client);
	check(policy.last.client == client->wl_client);
	check(policy.last.source != NULL);
	check_int(policy.last.acceptable, ==, VITRINE_GUARANTEE_SEALED);
	check_int(policy.last.options, ==, VITRINE_VIEW_OPTION_PAINT_CURSORS);
	check(!policy.last.sandboxed);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(policy_sees_the_source_of_a_running_session) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, 0, VITRINE_GUARANTEE_SEALED);
	client_roundtrip(client);
	struct policy policy = { .allowed = ALL };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	check(policy.last.source != NULL);
	check(wlr_output_try_from_ext_image_capture_source_v1(policy.last.source) ==
		server.output->wlr_output);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(policy_that_forbids_a_running_session_stops_it) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *sealed = test_session_create(client, 0, VITRINE_GUARANTEE_SEALED);
	struct test_session *snapshot = test_session_create(client, 0, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(client);
	check(output_paint(server.output, 0x112233, NULL));
	client_roundtrip(client);
	check(!sealed->stopped && !snapshot->stopped);
	check_int(sealed->n_frames, ==, 1);

	struct policy policy = { .allowed = VITRINE_GUARANTEE_SNAPSHOT };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	client_roundtrip(client);
	check(sealed->stopped);
	check_int(sealed->stop_reason, ==, VITRINE_VIEW_STOP_DENIED);
	check(!snapshot->stopped);
	test_session_destroy(sealed);
	test_session_destroy(snapshot);
	server_finish(&server);
}

TEST(denied_client_gets_stopped_denied) {
	struct server server;
	server_init(&server, NULL);
	struct policy policy = { .allowed = 0 };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	struct client *client = client_create(&server);
	check_int(client->guarantees, ==, 0);
	struct test_session *session = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_DENIED);
	check_int(server.sessions_started, ==, 0);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(empty_intersection_of_guarantees_is_unsupported) {
	struct server server;
	server_init(&server, NULL);
	struct policy policy = { .allowed = VITRINE_GUARANTEE_SNAPSHOT };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, 0, VITRINE_GUARANTEE_SEALED);
	client_roundtrip(client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	test_session_destroy(session);
	server_finish(&server);
}

/* Sandboxed clients */

/** Connects a client through a security context that `parent` makes. */
static struct client *connect_sandboxed(struct server *server, struct client *parent) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sandbox",
		getenv("XDG_RUNTIME_DIR"));
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(listen_fd >= 0);
	check(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	check(listen(listen_fd, 1) == 0);
	int close_fds[2];
	check(pipe(close_fds) == 0);
	struct wp_security_context_v1 *context = wp_security_context_manager_v1_create_listener(
		parent->security_contexts, listen_fd, close_fds[0]);
	wp_security_context_v1_set_sandbox_engine(context, "org.example.Sandbox");
	wp_security_context_v1_commit(context);
	wp_security_context_v1_destroy(context);
	client_roundtrip(parent);
	close(listen_fd);
	close(close_fds[0]);

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	struct client *client = client_create_on(server, fd);
	close(close_fds[1]);
	return client;
}

TEST(sandboxed_client_is_denied_by_default) {
	struct server server;
	server_init(&server, NULL);
	struct client *parent = client_create(&server);
	check_int(parent->guarantees, ==, ALL); // else the refusal would prove nothing
	struct client *client = connect_sandboxed(&server, parent);
	check(client->manager != NULL);
	check_int(client->guarantees, ==, 0);
	struct test_session *session = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_DENIED);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(policy_may_allow_a_sandboxed_client) {
	struct server server;
	server_init(&server, NULL);
	struct policy policy = { .allowed = VITRINE_GUARANTEE_SNAPSHOT };
	vitrine_view_manager_v1_set_policy(server.manager, policy_decide, &policy);
	struct client *parent = client_create(&server);
	struct client *client = connect_sandboxed(&server, parent);
	check(policy.last.sandboxed);
	check_int(client->guarantees, ==, VITRINE_GUARANTEE_SNAPSHOT);
	struct test_session *session = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	check(output_paint(server.output, 0x445566, NULL));
	client_roundtrip(client);
	check_int(test_session_get_pixel(session, 1, 1), ==, 0x445566);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	test_session_destroy(session);
	server_finish(&server);
}

/* Errors of create_session */

static void expect_create_session_error(uint32_t options, uint32_t acceptable, uint32_t code) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, options, acceptable);
	client_expect_error(client, &xx_dmabuf_view_manager_v1_interface, code);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(create_session_with_unknown_options_is_invalid_option) {
	expect_create_session_error(2, ALL, XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_OPTION);
}

TEST(create_session_with_empty_mask_is_invalid_guarantee) {
	expect_create_session_error(0, 0, XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_GUARANTEE);
}

TEST(create_session_with_unknown_guarantee_is_invalid_guarantee) {
	expect_create_session_error(0, 16 | 1, XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_GUARANTEE);
}

/* Errors of get_buffer_view; its answers need dma-bufs and are tested with them */

static struct wl_buffer *create_shm_buffer(struct client *client) {
	int fd = memfd_create("test", MFD_CLOEXEC);
	check(fd >= 0 && ftruncate(fd, 4096) == 0);
	struct wl_shm_pool *pool = wl_shm_create_pool(client->shm, fd, 4096);
	struct wl_buffer *buffer =
		wl_shm_pool_create_buffer(pool, 0, 8, 8, 32, WL_SHM_FORMAT_XRGB8888);
	wl_shm_pool_destroy(pool);
	close(fd);
	return buffer;
}

static struct wl_buffer *create_single_pixel_buffer(struct client *client) {
	return wp_single_pixel_buffer_manager_v1_create_u32_rgba_buffer(client->single_pixel,
		UINT32_MAX, 0, 0, UINT32_MAX);
}

static void expect_get_buffer_view_error(
		struct wl_buffer *(*create_buffer)(struct client *client), uint32_t acceptable,
		uint32_t code) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct wl_buffer *buffer = create_buffer(client);
	client_roundtrip(client);
	struct xx_dmabuf_view_v1 *view =
		xx_dmabuf_view_manager_v1_get_buffer_view(client->manager, buffer, acceptable);
	client_expect_error(client, &xx_dmabuf_view_manager_v1_interface, code);
	xx_dmabuf_view_v1_destroy(view);
	wl_buffer_destroy(buffer);
	server_finish(&server);
}

TEST(get_buffer_view_of_shm_is_invalid_buffer) {
	expect_get_buffer_view_error(create_shm_buffer, ALL,
		XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_BUFFER);
}

TEST(get_buffer_view_of_single_pixel_is_invalid_buffer) {
	expect_get_buffer_view_error(create_single_pixel_buffer, ALL,
		XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_BUFFER);
}

TEST(get_buffer_view_with_empty_mask_is_invalid_guarantee) {
	expect_get_buffer_view_error(create_shm_buffer, 0,
		XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_GUARANTEE);
}

TEST(get_buffer_view_with_unknown_guarantee_is_invalid_guarantee) {
	expect_get_buffer_view_error(create_shm_buffer, 1u << 31,
		XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_GUARANTEE);
}

/* Lifetime */

TEST(sessions_live_on_when_the_manager_object_is_destroyed) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, 0, ALL);
	xx_dmabuf_view_manager_v1_destroy(client->manager);
	client->manager = NULL;
	client_roundtrip(client);
	check(output_paint(server.output, 0x123456, NULL));
	client_roundtrip(client);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x123456);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(source_of_a_removed_output_is_source_gone) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	client_roundtrip(client);
	wlr_output_destroy(server.output->wlr_output);
	struct test_session *session = test_session_create_for(client, source, 0, ALL);
	client_roundtrip(client);
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	ext_image_capture_source_v1_destroy(source);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(compositor_can_go_away_first) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = test_session_create(client, 0, ALL);
	client_roundtrip(client);
	check(output_paint(server.output, 0x123456, NULL));
	client_roundtrip(client);
	check_int(session->n_frames, ==, 1);

	// With a frame held and the client connected, as at a crash of the session
	wl_list_remove(&server.session_start.link);
	wl_list_remove(&server.session_stop.link);
	wl_list_remove(&client->wl_client_destroy.link);
	wlr_backend_destroy(server.backend);
	wlr_allocator_destroy(server.allocator);
	wlr_renderer_destroy(server.renderer);
	wl_display_flush_clients(server.display);
	wl_display_destroy_clients(server.display);
	wl_display_destroy(server.display);

	while (wl_display_dispatch(client->display) >= 0) {
		// until the end of the connection
	}
	check(session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x123456);
	test_session_destroy(session);
	ext_output_image_capture_source_manager_v1_destroy(client->sources);
	xx_dmabuf_view_manager_v1_destroy(client->manager);
	wl_shm_destroy(client->shm);
	wp_single_pixel_buffer_manager_v1_destroy(client->single_pixel);
	wp_security_context_manager_v1_destroy(client->security_contexts);
	wl_output_destroy(client->outputs[0]);
	wl_registry_destroy(client->registry);
	wl_display_disconnect(client->display);
	free(client);
}
