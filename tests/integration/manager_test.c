/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
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
static struct {
	uint32_t allowed;
	struct vitrine_view_request last;
} policy;

static uint32_t policy_decide(const struct vitrine_view_request *request, void *data) {
	policy.last = *request;
	return policy.allowed;
}

static void set_policy(struct fixture *f, uint32_t allowed) {
	policy.allowed = allowed;
	vitrine_view_manager_v1_set_policy(f->server.manager, policy_decide, NULL);
}

/* Guarantees */

TEST_WITH(fixture, guarantees_are_sent_once_after_bind) {
	check_int(f->client->n_guarantees_events, ==, 1);
	check_int(f->client->guarantees, ==, ALL);
}

TEST_WITH(fixture, guarantees_are_sent_again_when_policy_changes) {
	set_policy(f, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(f->client);
	check_int(f->client->n_guarantees_events, ==, 2);
	check_int(f->client->guarantees, ==, VITRINE_GUARANTEE_SNAPSHOT);

	vitrine_view_manager_v1_update_policy(f->server.manager);
	client_roundtrip(f->client);
	check_int(f->client->n_guarantees_events, ==, 2); // it did not change
}

TEST_WITH(fixture, policy_sees_the_client_the_source_and_what_is_asked) {
	set_policy(f, ALL);
	test_session_create(f->client, XX_DMABUF_VIEW_MANAGER_V1_OPTION_PAINT_CURSORS,
		VITRINE_GUARANTEE_SEALED);
	client_roundtrip(f->client);
	check(policy.last.client == f->client->wl_client);
	check(policy.last.source != NULL);
	check_int(policy.last.acceptable, ==, VITRINE_GUARANTEE_SEALED);
	check_int(policy.last.options, ==, VITRINE_VIEW_OPTION_PAINT_CURSORS);
	check(!policy.last.sandboxed);
}

TEST_WITH(fixture, policy_sees_the_source_of_a_running_session,
		.acceptable = VITRINE_GUARANTEE_SEALED) {
	set_policy(f, ALL);
	check(policy.last.source != NULL);
	check(wlr_output_try_from_ext_image_capture_source_v1(policy.last.source) ==
		f->server.output->wlr_output);
}

TEST_WITH(fixture, policy_that_forbids_a_running_session_stops_it) {
	struct test_session *sealed = test_session_create(f->client, 0, VITRINE_GUARANTEE_SEALED);
	struct test_session *snapshot = test_session_start(f->client, VITRINE_GUARANTEE_SNAPSHOT);
	fixture_paint(f, 0x112233);
	check(!sealed->stopped && !snapshot->stopped);
	check_int(sealed->n_frames, ==, 1);

	set_policy(f, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(f->client);
	test_session_check_stop(sealed, VITRINE_VIEW_STOP_DENIED);
	check(!snapshot->stopped);
}

TEST_WITH(fixture, denied_client_gets_stopped_denied) {
	set_policy(f, 0);
	struct client *client = client_create(&f->server);
	check_int(client->guarantees, ==, 0);
	test_session_check_stop(test_session_try(client, ALL), VITRINE_VIEW_STOP_DENIED);
	check_int(f->server.sessions_started, ==, 0);
}

TEST_WITH(fixture, empty_intersection_of_guarantees_is_unsupported) {
	set_policy(f, VITRINE_GUARANTEE_SNAPSHOT);
	test_session_check_stop(test_session_try(f->client, VITRINE_GUARANTEE_SEALED),
		VITRINE_VIEW_STOP_UNSUPPORTED);
}

/* Sandboxed clients */

/** Connects a client through a security context that `parent` makes. */
static struct client *connect_sandboxed(struct client *parent) {
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
	struct client *client = client_create_on(parent->server, fd);
	close(close_fds[1]);
	return client;
}

TEST_WITH(fixture, sandboxed_client_is_denied_by_default) {
	check_int(f->client->guarantees, ==, ALL); // else the refusal would prove nothing
	struct client *client = connect_sandboxed(f->client);
	check(client->manager != NULL);
	check_int(client->guarantees, ==, 0);
	test_session_check_stop(test_session_try(client, ALL), VITRINE_VIEW_STOP_DENIED);
}

TEST_WITH(fixture, policy_may_allow_a_sandboxed_client) {
	set_policy(f, VITRINE_GUARANTEE_SNAPSHOT);
	struct client *client = connect_sandboxed(f->client);
	check(policy.last.sandboxed);
	check_int(client->guarantees, ==, VITRINE_GUARANTEE_SNAPSHOT);
	struct test_session *session = test_session_start(client, ALL);
	fixture_show(f, session, 0x445566);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
}

/* Errors of create_session */

#define INVALID_BUFFER XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_BUFFER
#define INVALID_GUARANTEE XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_GUARANTEE
#define INVALID_OPTION XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_OPTION

TEST_PARAMS(fixture, bad_sessions, uint32_t session_options, acceptable, error) = {
	{ "invalid_option, unknown options", {{0}}, 2, ALL, INVALID_OPTION },
	{ "invalid_guarantee, empty mask", {{0}}, 0, 0, INVALID_GUARANTEE },
	{ "invalid_guarantee, unknown guarantee", {{0}}, 0, 16 | 1, INVALID_GUARANTEE },
};

TEST_WITH_EACH(fixture, bad_sessions, error_of_create_session) {
	test_session_create(f->client, param->session_options, param->acceptable);
	client_expect_error(f->client, &xx_dmabuf_view_manager_v1_interface, param->error);
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

TEST_PARAMS(fixture, bad_views, struct wl_buffer *(*create_buffer)(struct client *client);
		uint32_t acceptable, error) = {
	{ "invalid_buffer, shm", {{0}}, create_shm_buffer, ALL, INVALID_BUFFER },
	{ "invalid_buffer, single pixel", {{0}}, create_single_pixel_buffer, ALL, INVALID_BUFFER },
	{ "invalid_guarantee, empty mask", {{0}}, create_shm_buffer, 0, INVALID_GUARANTEE },
	{ "invalid_guarantee, unknown guarantee", {{0}}, create_shm_buffer, 1u << 31,
		INVALID_GUARANTEE },
};

TEST_WITH_EACH(fixture, bad_views, error_of_get_buffer_view) {
	struct wl_buffer *buffer = param->create_buffer(f->client);
	client_roundtrip(f->client);
	struct xx_dmabuf_view_v1 *view = xx_dmabuf_view_manager_v1_get_buffer_view(
		f->client->manager, buffer, param->acceptable);
	client_expect_error(f->client, &xx_dmabuf_view_manager_v1_interface, param->error);
	xx_dmabuf_view_v1_destroy(view);
	wl_buffer_destroy(buffer);
}

/* Lifetime */

TEST_WITH(fixture, sessions_live_on_when_the_manager_object_is_destroyed) {
	struct test_session *session = test_session_create(f->client, 0, ALL);
	xx_dmabuf_view_manager_v1_destroy(f->client->manager);
	f->client->manager = NULL;
	client_roundtrip(f->client);
	fixture_show(f, session, 0x123456);
}

TEST_WITH(fixture, source_of_a_removed_output_is_source_gone) {
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	client_roundtrip(f->client);
	wlr_output_destroy(f->server.output->wlr_output);
	struct test_session *session = test_session_create_for(f->client, source, 0, ALL);
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	ext_image_capture_source_v1_destroy(source);
}

TEST_WITH_EACH(fixture, each_guarantee, compositor_can_go_away_first) {
	fixture_show(f, f->session, 0x123456);
	check_int(f->session->n_frames, ==, 1);

	// With a frame held and the client connected, as at a crash of the session
	server_crash(&f->server);
	while (wl_display_dispatch(f->client->display) >= 0) {
		// until the end of the connection
	}
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_SOURCE_GONE);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x123456);
}
