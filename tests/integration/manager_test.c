/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
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
/** Of no driver: there is no such device. */
#define DEVICE makedev(4095, 1)

/** A policy that allows `allowed` and remembers what it was asked. */
static struct {
	struct vitrine_view_permission allowed;
	struct vitrine_view_request last;
} policy;

static struct vitrine_view_permission policy_decide(const struct vitrine_view_request *request,
		void *data) {
	policy.last = *request;
	return policy.allowed;
}

static void set_storages(struct fixture *f, uint32_t guarantees, uint32_t storages) {
	policy.allowed = (struct vitrine_view_permission){ guarantees, storages };
	vitrine_view_manager_v1_set_policy(f->server.manager, policy_decide, NULL);
}

static void set_policy(struct fixture *f, uint32_t guarantees) {
	set_storages(f, guarantees, VITRINE_STORAGE_ALL);
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
	test_session_create(f->client, VITRINE_VIEW_OPTION_PAINT_CURSORS,
		VITRINE_GUARANTEE_SEALED);
	client_roundtrip(f->client);
	check(policy.last.client == f->client->wl_client);
	check(policy.last.source != NULL);
	check_int(policy.last.acceptable, ==, VITRINE_GUARANTEE_SEALED);
	check_int(policy.last.storages, ==, VITRINE_STORAGE_ALL);
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
	struct test_session *either = test_session_start(f->client, ALL);
	fixture_paint(f, 0x112233);
	check(!sealed->stopped && !snapshot->stopped && !either->stopped);
	check_int(sealed->n_frames, ==, 1);
	check_int(either->views[0].guarantee, ==, VITRINE_GUARANTEE_SEALED);

	set_policy(f, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(f->client);
	test_session_check_stop(sealed, VITRINE_VIEW_STOP_DENIED);
	// It has another guarantee than it might have had
	test_session_check_stop(either, VITRINE_VIEW_STOP_DENIED);
	check(!snapshot->stopped);
}

TEST_WITH(fixture, policy_that_allows_more_gives_no_more_than_the_client_accepts,
		.acceptable = VITRINE_GUARANTEE_SNAPSHOT) {
	set_policy(f, ALL);
	fixture_show(f, f->session, 0x112233);
	check_int(f->session->views[0].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
}

/** What the signals said, and of which session. */
static struct {
	struct wl_listener start, guarantee;
	struct vitrine_view_session_v1 *session;
	uint32_t n_guarantees, guarantees[4];
} signals;

static void handle_start_signal(struct wl_listener *listener, void *data) {
	signals.session = data;
	check_int(vitrine_view_session_v1_get_guarantee(data), ==, 0); // "before the first frame"
}

static void handle_guarantee_signal(struct wl_listener *listener, void *data) {
	check(data == signals.session && signals.n_guarantees < 4);
	signals.guarantees[signals.n_guarantees++] = vitrine_view_session_v1_get_guarantee(data);
}

static void listen_to_signals(struct fixture *f) {
	signals.start.notify = handle_start_signal;
	wl_signal_add(&f->server.manager->events.session_start, &signals.start);
	signals.guarantee.notify = handle_guarantee_signal;
	wl_signal_add(&f->server.manager->events.session_guarantee, &signals.guarantee);
}

static void stop_listening_to_signals(void) {
	wl_list_remove(&signals.start.link);
	wl_list_remove(&signals.guarantee.link);
}

/** "about to be shown its first view, or one with another guarantee than before" */
TEST_WITH(fixture, guarantee_is_told_at_the_first_view_and_when_it_changes) {
	listen_to_signals(f);
	struct test_session *session = test_session_start_reader(f->client, ALL);
	check_int(signals.n_guarantees, ==, 0);
	fixture_show_frames(f, session, 1, 8);
	check_int(signals.n_guarantees, ==, 1);
	check_int(signals.guarantees[0], ==, VITRINE_GUARANTEE_SEALED);
	// Buffers that cannot be shared
	struct wlr_output *output = f->server.output->wlr_output;
	struct wlr_allocator *own = wlr_allocator_autocreate(f->server.backend, f->server.renderer);
	output->allocator = own;
	output_resize(f->server.output, 65, 48);
	fixture_paint_frames(f, 4, 9);
	check_int(session->views[session->n_views - 1].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	check_int(signals.n_guarantees, ==, 2);
	check_int(signals.guarantees[1], ==, VITRINE_GUARANTEE_SNAPSHOT);
	output->allocator = f->server.allocator;
	wlr_allocator_destroy(own);
	stop_listening_to_signals();
}

TEST_WITH(fixture, session_says_its_protocol_its_source_and_its_figures) {
	listen_to_signals(f);
	struct test_session *session = test_session_start(f->client, VITRINE_GUARANTEE_SNAPSHOT);
	fixture_paint_frames(f, 1, 6);
	test_session_release(session, 1);
	client_roundtrip(f->client);
	fixture_paint(f, 7);
	check_str(vitrine_view_session_v1_get_protocol(signals.session),
		"xx_dmabuf_view_manager_v1");
	check_str(vitrine_view_session_v1_get_source_name(signals.session),
		f->server.output->wlr_output->name);
	check(vitrine_view_session_v1_get_client(signals.session) == f->client->wl_client);
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(signals.session, &stats);
	check_int(stats.frames, ==, session->n_frames);
	check_int(stats.skipped, ==, session->n_skipped);
	check_int(stats.skipped, >, 0);
	check_int(stats.revoked, ==, session->n_revoked);
	check_int(stats.views, ==, session->n_views);
	check_int(stats.fds, ==, session->n_fds);
	check_int(stats.bytes_copied, ==, 64 * 48 * 4 * session->n_frames);
	stop_listening_to_signals();
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

TEST_WITH(fixture, policy_is_told_why_it_is_asked) {
	set_policy(f, ALL);
	check_int(policy.last.kind, ==, VITRINE_VIEW_REQUEST_BIND); // of the fixture's client
	struct test_session *session = test_session_start(f->client, ALL);
	check_int(policy.last.kind, ==, VITRINE_VIEW_REQUEST_SESSION);
	struct client *client = client_create(&f->server);
	check_int(policy.last.kind, ==, VITRINE_VIEW_REQUEST_BIND);
	client_destroy(client);
	vitrine_view_manager_v1_update_policy(f->server.manager);
	check_int(policy.last.kind, ==, VITRINE_VIEW_REQUEST_SESSION);
	check(!session->stopped && policy.last.window == NULL); // an output is no window
}

TEST_WITH(fixture, storage_that_policy_does_not_allow_is_not_given) {
	set_storages(f, ALL, VITRINE_STORAGE_MEMFD);
	struct test_session *session = test_session_start(f->client, ALL);
	fixture_paint(f, 0x112233);
	check_int(session->n_frames, ==, 1);
	check_int(vitrine_view_session_v1_get_storage(
		vitrine_view_manager_v1_get_next_session(f->server.manager, NULL)), ==,
		VITRINE_STORAGE_MEMFD);

	// There is no GPU: nothing is left
	set_storages(f, ALL, VITRINE_STORAGE_DMABUF);
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_DENIED);
	session = test_session_try(f->client, ALL);
	fixture_paint(f, 0x332211);
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_UNSUPPORTED);
	check_int(session->n_frames, ==, 0);

	set_storages(f, ALL, 0);
	test_session_check_stop(test_session_try(f->client, ALL), VITRINE_VIEW_STOP_UNSUPPORTED);
}

TEST_WITH(fixture, storages_that_policy_allows_again_are_given_again) {
	struct test_session *session = test_session_start(f->client, ALL);
	set_storages(f, ALL, VITRINE_STORAGE_MEMFD);
	set_policy(f, ALL);
	check_int(policy.last.storages, ==, VITRINE_STORAGE_ALL); // what it reads, not what it may
	fixture_paint(f, 0x112233);
	check_int(session->n_frames, ==, 1);
}

/* Sessions, for embedders */

TEST_WITH(fixture, sessions_are_found_in_turn) {
	struct vitrine_view_manager_v1 *manager = f->server.manager;
	check(vitrine_view_manager_v1_get_next_session(manager, NULL) == NULL);
	struct test_session *first = test_session_start(f->client, ALL);
	test_session_start(f->client, ALL);
	const struct vitrine_view_session_v1 *a =
		vitrine_view_manager_v1_get_next_session(manager, NULL);
	const struct vitrine_view_session_v1 *b =
		vitrine_view_manager_v1_get_next_session(manager, a);
	check(a != NULL && b != NULL && a != b);
	check(vitrine_view_manager_v1_get_next_session(manager, b) == NULL);
	uint64_t id = vitrine_view_session_v1_get_id(b);
	check_int(vitrine_view_session_v1_get_id(a), >, 0);
	check_int(id, >, vitrine_view_session_v1_get_id(a));
	check_int(vitrine_view_session_v1_get_storage(a), ==, 0); // nothing was shown yet
	check_int(llabs(time(NULL) - vitrine_view_session_v1_get_start_time(a).tv_sec), <=, 2);

	test_session_destroy(first);
	client_roundtrip(f->client);
	test_session_start(f->client, ALL);
	a = vitrine_view_manager_v1_get_next_session(manager, NULL);
	check_int(vitrine_view_session_v1_get_id(a), ==, id);
	check_int(vitrine_view_session_v1_get_id(
		vitrine_view_manager_v1_get_next_session(manager, a)), >, id); // none comes again
}

TEST_WITH(fixture, identity_of_a_client_without_sessions_is_known) {
	const struct vitrine_view_client *identity =
		vitrine_view_manager_v1_get_identity(f->server.manager, f->client->wl_client);
	check_int(identity->pid, ==, getpid());
	check(!identity->sandboxed);
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
	wp_security_context_v1_set_app_id(context, "org.example.App");
	wp_security_context_v1_set_instance_id(context, "instance 1");
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

/* Which client looks */

/** What a listener was told, with strings of its own. */
static struct {
	struct vitrine_view_client identity;
	char engine[64], app_id[64], instance_id[64];
	uint32_t n_stopped;
} told;

static void note_identity(const struct vitrine_view_client *identity) {
	told.identity = *identity;
	snprintf(told.engine, sizeof(told.engine), "%s", identity->engine);
	snprintf(told.app_id, sizeof(told.app_id), "%s", identity->app_id);
	snprintf(told.instance_id, sizeof(told.instance_id), "%s", identity->instance_id);
}

static void handle_stop(struct wl_listener *listener, void *data) {
	note_identity(vitrine_view_session_v1_get_identity(data));
	told.n_stopped++;
}

TEST_WITH(fixture, policy_is_told_which_client_asks) {
	set_policy(f, ALL);
	test_session_start(f->client, ALL);
	const struct vitrine_view_client *identity = policy.last.identity;
	check_int(identity->pid, ==, getpid());
	check_int(identity->uid, ==, getuid());
	check_int(identity->gid, ==, getgid());
	char path[PATH_MAX] = { 0 };
	check(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	check_str(identity->executable, path);
	check_str(identity->comm, "manager_test");
	check(!identity->sandboxed && identity->engine == NULL && identity->app_id == NULL &&
		identity->instance_id == NULL);
}

TEST_WITH(fixture, sandboxed_client_that_disconnects_is_told_of_with_its_app_id) {
	set_policy(f, ALL);
	struct client *client = connect_sandboxed(f->client);
	test_session_start(client, ALL);
	struct wl_listener listener = { .notify = handle_stop };
	wl_signal_add(&f->server.manager->events.session_stop, &listener);
	told.n_stopped = 0;
	check_ok(shutdown(wl_display_get_fd(client->display), SHUT_RDWR));
	pump_until(&f->server, told.n_stopped > 0);
	wl_list_remove(&listener.link);
	check_int(told.n_stopped, ==, 1);
	check_int(told.identity.pid, ==, getpid());
	check(told.identity.sandboxed);
	check_str(told.engine, "org.example.Sandbox");
	check_str(told.app_id, "org.example.App");
	check_str(told.instance_id, "instance 1");
}

/* Errors of setters and of start */

#define ERROR(name) XX_DMABUF_VIEW_SESSION_V1_ERROR_##name

static void set_no_guarantee(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, 0);
}

static void set_unknown_guarantee(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, 16 | 1);
}

static void set_no_storage(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_storages(session->proxy, 0);
}

static void set_unknown_storage(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_storages(session->proxy, 8 | 1);
}

static void set_unknown_cursors(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_cursors(session->proxy, 2);
}

static void add_format_of_no_device(struct test_session *session) {
	uint32_t half = 1;
	struct wl_array device = { .size = sizeof(half), .data = &half };
	xx_dmabuf_view_session_v1_add_format(session->proxy, &device, DRM_FORMAT_XRGB8888, 0, 0);
}

static void add_format_of_more_than_a_device(struct test_session *session) {
	dev_t two[] = { DEVICE, DEVICE };
	struct wl_array device = { .size = sizeof(two), .data = two };
	xx_dmabuf_view_session_v1_add_format(session->proxy, &device, DRM_FORMAT_XRGB8888, 0, 0);
}

static void add_too_many_formats(struct test_session *session) {
	for (uint32_t i = 0; i < 1024; i++) {
		test_session_add_format(session, DEVICE, i, 0);
	}
	test_session_add_format(session, DEVICE, 7, 0); // "is ignored"
	client_roundtrip(session->client);
	test_session_add_format(session, DEVICE, 1024, 0);
}

static void add_too_many_nodes(struct test_session *session) {
	for (unsigned i = 0; i < 16; i++) {
		test_session_add_format(session, DEVICE + i, DRM_FORMAT_XRGB8888, 0);
	}
	client_roundtrip(session->client);
	test_session_add_format(session, DEVICE + 16, DRM_FORMAT_XRGB8888, 0);
}

static void start_without_guarantees(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_storages(session->proxy, VITRINE_STORAGE_MEMFD);
	xx_dmabuf_view_session_v1_start(session->proxy);
}

static void start_without_storages(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, ALL);
	xx_dmabuf_view_session_v1_start(session->proxy);
}

static void start_dmabuf_without_a_format(struct test_session *session) {
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, ALL);
	xx_dmabuf_view_session_v1_set_storages(session->proxy, VITRINE_STORAGE_ALL);
	test_session_add_format(session, 0, DRM_FORMAT_XRGB8888, 0); // for the CPU
	xx_dmabuf_view_session_v1_start(session->proxy);
}

/** The positive case first: it has started, and all it needs was said. */
static void start(struct test_session *session) {
	test_session_set_up(session, &(struct test_setup){ .acceptable = ALL });
	xx_dmabuf_view_session_v1_start(session->proxy);
	client_roundtrip(session->client);
	check_int(session->n_depth_events, ==, 1);
}

/** The same, but the client does not wait for an answer. */
static void start_unseen(struct test_session *session) {
	test_session_set_up(session, &(struct test_setup){ .acceptable = ALL });
	xx_dmabuf_view_session_v1_start(session->proxy);
}

static void start_twice(struct test_session *session) {
	start(session);
	xx_dmabuf_view_session_v1_start(session->proxy);
}

static void set_guarantees_after_start(struct test_session *session) {
	start(session);
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, ALL);
}

static void set_storages_after_start(struct test_session *session) {
	start(session);
	xx_dmabuf_view_session_v1_set_storages(session->proxy, VITRINE_STORAGE_MEMFD);
}

static void add_format_after_start(struct test_session *session) {
	start(session);
	test_session_add_format(session, DEVICE, DRM_FORMAT_XRGB8888, 0);
}

static void set_cursors_after_start(struct test_session *session) {
	start(session);
	xx_dmabuf_view_session_v1_set_cursors(session->proxy, 0);
}

static void set_implicit_release_after_start(struct test_session *session) {
	start(session);
	xx_dmabuf_view_session_v1_set_implicit_release(session->proxy);
}

TEST_PARAMS(fixture, bad_sessions, void (*say)(struct test_session *session);
		uint32_t error) = {
	{ "invalid_guarantee, empty mask", {{0}}, set_no_guarantee, ERROR(INVALID_GUARANTEE) },
	{ "invalid_guarantee, unknown guarantee", {{0}}, set_unknown_guarantee,
		ERROR(INVALID_GUARANTEE) },
	{ "invalid_storage, empty mask", {{0}}, set_no_storage, ERROR(INVALID_STORAGE) },
	{ "invalid_storage, unknown storage", {{0}}, set_unknown_storage,
		ERROR(INVALID_STORAGE) },
	{ "invalid_cursors", {{0}}, set_unknown_cursors, ERROR(INVALID_CURSORS) },
	{ "invalid_format, no dev_t", {{0}}, add_format_of_no_device, ERROR(INVALID_FORMAT) },
	{ "invalid_format, two dev_t", {{0}}, add_format_of_more_than_a_device,
		ERROR(INVALID_FORMAT) },
	{ "invalid_format, too many", {{0}}, add_too_many_formats, ERROR(INVALID_FORMAT) },
	{ "invalid_format, too many nodes", {{0}}, add_too_many_nodes, ERROR(INVALID_FORMAT) },
	{ "incomplete, guarantees", {{0}}, start_without_guarantees, ERROR(INCOMPLETE) },
	{ "incomplete, storages", {{0}}, start_without_storages, ERROR(INCOMPLETE) },
	{ "incomplete, format", {{0}}, start_dmabuf_without_a_format, ERROR(INCOMPLETE) },
	{ "already_started, start", {{0}}, start_twice, ERROR(ALREADY_STARTED) },
	{ "already_started, guarantees", {{0}}, set_guarantees_after_start,
		ERROR(ALREADY_STARTED) },
	{ "already_started, storages", {{0}}, set_storages_after_start,
		ERROR(ALREADY_STARTED) },
	{ "already_started, format", {{0}}, add_format_after_start, ERROR(ALREADY_STARTED) },
	{ "already_started, cursors", {{0}}, set_cursors_after_start, ERROR(ALREADY_STARTED) },
	{ "already_started, implicit release", {{0}}, set_implicit_release_after_start,
		ERROR(ALREADY_STARTED) },
};

static struct test_session *create_unstarted(struct fixture *f) {
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	struct test_session *session = test_session_create_unstarted(f->client, source);
	ext_image_capture_source_v1_destroy(source);
	return session;
}

TEST_WITH_EACH(fixture, bad_sessions, error_of_session) {
	struct test_session *session = create_unstarted(f);
	client_roundtrip(f->client);
	param->say(session);
	client_expect_error(f->client, &xx_dmabuf_view_session_v1_interface, param->error);
}

TEST_WITH(fixture, setters_that_are_called_again_replace_what_was_said) {
	struct test_session *session = create_unstarted(f);
	test_session_set_up(session, &(struct test_setup){
		.acceptable = VITRINE_GUARANTEE_SEALED, .storages = VITRINE_STORAGE_MAPPED_DMABUF,
		.options = VITRINE_VIEW_OPTION_PAINT_CURSORS });
	xx_dmabuf_view_session_v1_set_cursors(session->proxy, XX_DMABUF_VIEW_SESSION_V1_CURSORS_ANY);
	set_policy(f, ALL);
	test_session_set_up(session, &(struct test_setup){
		.acceptable = VITRINE_GUARANTEE_SNAPSHOT, .storages = VITRINE_STORAGE_MEMFD });
	xx_dmabuf_view_session_v1_start(session->proxy);
	client_roundtrip(f->client);
	check_int(policy.last.acceptable, ==, VITRINE_GUARANTEE_SNAPSHOT);
	check_int(policy.last.storages, ==, VITRINE_STORAGE_MEMFD);
	check_int(policy.last.options, ==, 0);
	fixture_show(f, session, 0x123456);
	check_int(session->views[0].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
}

/* Before the start */

TEST_WITH(fixture, nothing_is_sent_before_the_start) {
	struct test_session *session = create_unstarted(f);
	fixture_paint(f, 0x123456);
	client_roundtrip(f->client);
	check_int(session->n_depth_events + session->n_frames, ==, 0);
	check(!session->stopped);
	check_int(f->server.sessions_started, ==, 0);
	start(session);
	fixture_show(f, session, 0x654321);
}

TEST_WITH(fixture, session_that_has_not_started_ends_with_its_output) {
	struct test_session *session = create_unstarted(f);
	client_roundtrip(f->client);
	wlr_output_destroy(f->server.output->wlr_output);
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	// "Requests of this session have no effect any more", whatever they say
	start_without_guarantees(session);
	set_unknown_guarantee(session);
	set_no_storage(session);
	set_unknown_cursors(session);
	add_format_of_no_device(session);
	xx_dmabuf_view_session_v1_set_implicit_release(session->proxy);
	xx_dmabuf_view_session_v1_release(session->proxy, 1);
	client_roundtrip(f->client);
	check_int(wl_display_get_error(f->client->display), ==, 0);
}

TEST_WITH(fixture, session_that_has_not_started_can_be_destroyed) {
	test_session_close(create_unstarted(f));
	struct test_session *session = create_unstarted(f);
	client_roundtrip(f->client);
	start_unseen(session);
	client_destroy(f->client);
	f->client = client_create(&f->server);
	test_session_start(f->client, ALL);
}

TEST_WITH(fixture, session_that_has_not_started_ends_with_the_compositor) {
	struct test_session *session = create_unstarted(f);
	client_roundtrip(f->client);
	server_crash(&f->server);
	while (wl_display_dispatch(f->client->display) >= 0) {
		// until the end of the connection
	}
	test_session_check_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
}

TEST_WITH(fixture, locked_screen_stops_sessions_that_start_then) {
	struct test_session *session = create_unstarted(f);
	client_roundtrip(f->client);
	vitrine_view_manager_v1_set_locked(f->server.manager, true);
	client_roundtrip(f->client);
	check(!session->stopped);
	check_int(f->client->guarantees, ==, 0); // though it is not denied
	start_unseen(session);
	client_roundtrip(f->client);
	test_session_check_stop(session, VITRINE_VIEW_STOP_LOCKED);
}

/** "stops all sessions with `locked` when it is set, refuses new ones" until it is cleared */
TEST_WITH(fixture, running_sessions_stop_when_the_screen_is_locked, .acceptable = ALL) {
	fixture_show(f, f->session, 0x123456);
	vitrine_view_manager_v1_set_locked(f->server.manager, true);
	client_roundtrip(f->client);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_LOCKED);
	check_int(f->client->guarantees, ==, 0);
	test_session_check_stop(test_session_try(f->client, ALL), VITRINE_VIEW_STOP_LOCKED);
	vitrine_view_manager_v1_set_locked(f->server.manager, false);
	client_roundtrip(f->client);
	check_int(f->client->guarantees, ==, ALL);
	struct test_session *session = test_session_start(f->client, ALL);
	pump_until(&f->server, session->n_frames > 0);
	fixture_paint(f, 0x654321);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x654321);
}

TEST_WITH(fixture, sessions_that_have_not_started_are_charged) {
	f->server.manager->limits.objects.per_holder = 3;
	struct test_session *sessions[4];
	for (size_t i = 0; i < 4; i++) {
		sessions[i] = create_unstarted(f);
	}
	client_roundtrip(f->client);
	for (size_t i = 0; i < 3; i++) {
		check(!sessions[i]->stopped);
	}
	test_session_check_stop(sessions[3], VITRINE_VIEW_STOP_NO_RESOURCES);
	// Starting costs no more than being there, and what is destroyed costs nothing
	for (size_t i = 0; i < 3; i++) {
		start(sessions[i]);
	}
	test_session_close(sessions[0]);
	start(create_unstarted(f));
}

/* The default policy */

TEST_WITH(fixture, default_policy_allows_all_but_fd_read_only) {
	vitrine_view_manager_v1_set_allowed(f->server.manager, VITRINE_VIEW_GUARANTEES_DEFAULT);
	client_roundtrip(f->client);
	check_int(f->client->guarantees, ==, ALL & ~VITRINE_GUARANTEE_FD_READ_ONLY);
	test_session_check_stop(test_session_try(f->client, VITRINE_GUARANTEE_FD_READ_ONLY),
		VITRINE_VIEW_STOP_UNSUPPORTED);
	vitrine_view_manager_v1_set_allowed(f->server.manager, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(f->client);
	check_int(f->client->guarantees, ==, VITRINE_GUARANTEE_SNAPSHOT);
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

TEST_PARAMS(fixture, bad_views, struct wl_buffer *(*create_buffer)(struct client *client)) = {
	{ "invalid_buffer, shm", {{0}}, create_shm_buffer },
	{ "invalid_buffer, single pixel", {{0}}, create_single_pixel_buffer },
};

TEST_WITH_EACH(fixture, bad_views, error_of_get_buffer_view) {
	struct wl_buffer *buffer = param->create_buffer(f->client);
	client_roundtrip(f->client);
	struct xx_dmabuf_view_v1 *view = xx_dmabuf_view_manager_v1_get_buffer_view(
		f->client->manager, buffer);
	client_expect_error(f->client, &xx_dmabuf_view_manager_v1_interface,
		XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_BUFFER);
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
