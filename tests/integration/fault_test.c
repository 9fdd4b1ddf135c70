/* SPDX-License-Identifier: MIT */
/* The n-th call that can fail does fail, for each n until none is left. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/render/wlr_texture.h>
#include <wlr/types/wlr_output.h>

#include "buffer_copy.h"
#include "control_path.h"
#include "control_socket.h"
#include "copier.h"
#include "copy_gl.h"
#include "faults.h"
#include "fixture.h"
#include "harness.h"
#include "manager.h"
#include "policy_file.h"
#include "subscriber.h"
#include "thread.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL

static void enter_server(bool enter) {
	fault_in_server = enter;
}

/** From now on, this call of the compositor fails each time. */
static void begin_failing(const char *call) {
	fixture_enter_server = enter_server;
	fault_for_ever = call;
	fault_failed = false;
}

static void end_failing(void) {
	fixture_enter_server = NULL;
	fault_for_ever = NULL;
	fault_in_server = false;
}

WRAP(struct vt_announced_memory *, vt_announced_memory_create, ENOMEM, NULL,
	(struct vt_retired_registry *registry, const struct vt_buffer *buffer,
		struct vt_reserve *reserve),
	(registry, buffer, reserve))

/** Leaves a region that counts as empty behind, as it does; only if it fails each time. */
pixman_bool_t __real_pixman_region32_union(pixman_region32_t *dst,
	const pixman_region32_t *a, const pixman_region32_t *b);
pixman_bool_t __wrap_pixman_region32_union(pixman_region32_t *dst,
	const pixman_region32_t *a, const pixman_region32_t *b);
pixman_bool_t __wrap_pixman_region32_union(pixman_region32_t *dst,
		const pixman_region32_t *a, const pixman_region32_t *b) {
	if (fault_for_ever != NULL && fault_fails("pixman_region32_union")) {
		pixman_region32_clear(dst);
		return false;
	}
	return __real_pixman_region32_union(dst, a, b);
}

/** The same, but if there is one rectangle, for which no memory is needed. */
pixman_bool_t __real_pixman_region32_intersect_rect(pixman_region32_t *dst,
	const pixman_region32_t *a, int x, int y, unsigned width, unsigned height);
pixman_bool_t __wrap_pixman_region32_intersect_rect(pixman_region32_t *dst,
	const pixman_region32_t *a, int x, int y, unsigned width, unsigned height);
pixman_bool_t __wrap_pixman_region32_intersect_rect(pixman_region32_t *dst,
		const pixman_region32_t *a, int x, int y, unsigned width, unsigned height) {
	if (fault_for_ever != NULL && pixman_region32_n_rects((pixman_region32_t *)a) > 1 &&
			fault_fails("pixman_region32_intersect_rect")) {
		pixman_region32_clear(dst);
		return false;
	}
	return __real_pixman_region32_intersect_rect(dst, a, x, y, width, height);
}

/**
 * Paints, which may fail: then there is no frame. What the last frame of a session with
 * implicit release shows stays, whatever fails.
 */
static void paint_beside(struct server *server, uint32_t color, struct test_session *implicit) {
	struct test_view *view = implicit->n_frames > 0 ?
		&implicit->views[test_session_last_frame(implicit)->index] : NULL;
	uint64_t before = view != NULL ? test_view_checksum(view) : 0;
	output_paint(server->output, color, NULL);
	pump(server);
	check(view == NULL || test_view_checksum(view) == before);
}

/** A life of some sessions. Whatever fails, it has to come to its end. */
static void run_scenario(struct server *server) {
	struct client *client = client_create(server);
	static const struct test_setup setups[] = {
		{ VITRINE_VIEW_OPTION_PAINT_CURSORS, VITRINE_GUARANTEE_SEALED },
		{ VITRINE_VIEW_OPTION_PAINT_CURSORS, VITRINE_GUARANTEE_SNAPSHOT },
		{ VITRINE_VIEW_OPTION_PAINT_CURSORS, ALL },
		{ .acceptable = VITRINE_GUARANTEE_SNAPSHOT, .implicit_release = true },
		{ .acceptable = ALL, .implicit_release = true },
	};
	enum { LEN = sizeof(setups) / sizeof(setups[0]) };
	struct test_session *sessions[LEN];
	fixture_enter_server = enter_server;
	for (int i = 0; i < LEN; i++) {
		sessions[i] = test_session_create_with(client, &setups[i]);
		sessions[i]->auto_release = i != 0 && !setups[i].implicit_release;
		pump(server);
	}
	for (uint32_t i = 0; i < 4; i++) {
		paint_beside(server, i, sessions[LEN - 1]);
	}
	test_session_end(sessions[0]);
	pump(server);
	paint_beside(server, 7, sessions[LEN - 1]);
	enter_server(true); // with the last of those that want cursors painted
	vitrine_view_manager_v1_stop_sessions(server->manager, VITRINE_VIEW_STOP_LOCKED);
	enter_server(false);
	pump(server);
	for (int i = 0; i < LEN; i++) {
		bool gone = client->wl_client == NULL; // "OOM post_no_memory"
		check(i == 0 || gone || sessions[i]->stopped);
		test_session_destroy(sessions[i]);
	}
	end_failing();
	client_destroy(client);
}

/** What comes after a failure works as if there had been none. */
static void check_still_works(struct server *server) {
	struct client *client = client_create(server);
	struct test_session *sealed = test_session_create(client, 0, VITRINE_GUARANTEE_SEALED);
	struct test_session *snapshot = test_session_create(client, 0, VITRINE_GUARANTEE_SNAPSHOT);
	client_roundtrip(client);
	check(output_paint(server->output, 0x123456, NULL));
	pump(server);
	check_int(test_session_get_pixel(sealed, 0, 0), ==, 0x123456);
	check_int(test_session_get_pixel(snapshot, 0, 0), ==, 0x123456);
	test_session_destroy(sealed);
	test_session_destroy(snapshot);
	client_destroy(client);
}

TEST(each_call_of_a_sessions_life_can_fail) {
	harness_set_timeout(120);
	unsigned n = 0, n_given_back = 0;
	do {
		fault_failed = false;
		fault_calls_left = ++n;
		struct server server;
		server_init(&server, NULL);
		struct wlr_output_cursor *cursor = output_add_cursor(server.output, 0);
		wlr_output_cursor_move(cursor, 32, 24);
		run_scenario(&server);
		fault_calls_left = 0;
		check_int(server.output->wlr_output->software_cursor_locks, ==, 0);
		check_int(server.output->wlr_output->attach_render_locks, ==, 0);
		check_still_works(&server);
		n_given_back += server.output->wlr_output->hardware_cursor == cursor;
		wlr_output_cursor_destroy(cursor);
		server_finish(&server);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >, 50); // else nothing was wrapped
	check_int(n_given_back, >, n / 2); // but where it is this that failed
	check_int(n_given_back, <, n);
}

TEST_WITH(fixture, drawing_goes_on_without_fresh_memory,
		.acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true) {
	struct test_session *kept = f->session;
	for (int i = 0; i < 4; i++) { // so that the output has the two buffers that it needs
		fixture_paint(f, 0x111111);
	}
	check_int(test_session_get_pixel(kept, 0, 0), ==, 0x111111);
	test_session_end(kept);
	client_roundtrip(f->client);

	begin_failing("memfd_create");
	for (uint32_t i = 0; i < 8; i++) {
		fixture_paint(f, i);
		check_int(test_view_get_pixel(&kept->views[0], 0, 0), ==, 0x111111);
	}
	check(fault_failed); // else no memory was asked for
	// What is drawn to private pages is never shown, and not in old memory either
	struct test_session *late = test_session_try(f->client, VITRINE_GUARANTEE_SEALED);
	for (uint32_t i = 0; i < 8 && !late->stopped; i++) {
		fixture_paint(f, 0x222222);
		check(late->n_frames == 0 || test_session_get_pixel(late, 0, 0) == 0x222222);
	}
	end_failing();
	test_session_destroy(late);
	check_still_works(&f->server);
	check_int(test_view_get_pixel(&kept->views[0], 0, 0), ==, 0x111111);
}

TEST_WITH_EACH(fixture, each_guarantee, frame_that_was_lost_for_lack_of_memory_is_drawn_again) {
	begin_failing("calloc");
	fixture_paint(f, 0x111111);
	check(fault_failed && !f->session->stopped);
	check_int(f->session->n_frames, ==, 0);
	end_failing();
	// The screen stands still: it is only us that ask for a frame
	f->server.output->repaint = true;
	pump_until(&f->server, f->session->n_frames > 0);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x111111);
}

/** Counts frames that the output is asked for. */
struct frame_counter {
	struct wl_listener frame;
	unsigned n;
};

static void handle_frame(struct wl_listener *listener, void *data) {
	struct frame_counter *counter = wl_container_of(listener, counter, frame);
	counter->n++;
}

TEST_PARAMS(fixture, waiting_sessions, bool ends_before_there_is_memory) = {
	{ "session stays", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT }, false },
	{ "session ends", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT }, true },
};

TEST_WITH_EACH(fixture, waiting_sessions, output_that_never_has_the_memory_is_given_up) {
	struct server_output *output = f->server.output;
	f->server.manager->limits.contended_frame_deadline_ms = 2;
	output->repaint = true;
	begin_failing("wlr_texture_from_buffer");
	struct frame_counter counter = { .frame.notify = handle_frame };
	wl_signal_add(&output->wlr_output->events.frame, &counter.frame);
	check(output_paint(output, 0x111111, NULL));
	if (param->ends_before_there_is_memory) {
		test_session_end(f->session);
		client_roundtrip(f->client);
		counter.n = 0;
		for (int i = 0; i < 20; i++) {
			pump_wait(&f->server);
		}
		check_int(counter.n, <=, 1);
	} else {
		pump_until(&f->server, f->session->stopped);
		check_int(f->session->stop_reason, ==, VITRINE_VIEW_STOP_NO_RESOURCES);
		check_int(counter.n, <, 20);
	}
	check(fault_failed && f->session->n_frames == 0);
	wl_list_remove(&counter.frame.link);
	end_failing();
	test_session_destroy(f->session);
	output->repaint = false;
	check_still_works(&f->server);
}

/** What is no dma-buf is found out by the thread: here it is about starting it. */
TEST(starting_a_copy_can_fail) {
	const struct wlr_dmabuf_attributes dmabuf = {
		.n_planes = 2, .fd = { vitrine_memfd_create(4096), vitrine_memfd_create(4096) },
	};
	const uint64_t sizes[WLR_DMABUF_MAX_PLANES] = { 4096, 4096 };
	int n_fds = harness_count_fds();
	unsigned n = 0;
	do {
		fault_failed = false;
		fault_calls_left = ++n;
		fault_in_server = true;
		struct vt_buffer_copy *copy = vt_buffer_copy_start(&dmabuf, sizes, -1);
		fault_in_server = false;
		fault_calls_left = 0;
		check((copy != NULL) == !fault_failed);
		if (copy != NULL) {
			struct pollfd pollfd = { .fd = vt_buffer_copy_get_fd(copy), .events = POLLIN };
			check_int(poll(&pollfd, 1, -1), ==, 1);
			struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
			struct vt_buffer_copy_layout layout;
			check_int(vt_buffer_copy_take(copy, derived, &layout), ==, -ENOTTY);
			vt_buffer_copy_destroy(copy);
		}
		check_int(harness_count_fds(), ==, n_fds);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >=, 4); // memory, an eventfd, a thread, and none of them
	close(dmabuf.fd[0]);
	close(dmabuf.fd[1]);
}

/** Whether the thread has an EGL is another test's. */
struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd);
struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd) {
	return NULL;
}

static int handle_no_timer(void *data) {
	return 0;
}

static void count_copier_event(void *data, enum vt_copier_event event) {
	check_int(event, ==, VT_COPIER_FAILED);
	++*(int *)data;
}

TEST(starting_a_copier_can_fail) {
	static const struct vt_copier_interface impl = { .handle_event = count_copier_event };
	struct wl_event_loop *loop = wl_event_loop_create();
	int node = open("/dev/null", O_RDWR | O_CLOEXEC);
	// The loop keeps a file descriptor for all timers once there was one
	wl_event_source_remove(wl_event_loop_add_timer(loop, handle_no_timer, NULL));
	int n_fds = harness_count_fds();
	unsigned n = 0;
	do {
		fault_failed = false;
		fault_calls_left = ++n;
		fault_in_server = true;
		int n_events = 0;
		struct vt_copier *copier = vt_copier_create(loop, node, true, &impl, &n_events);
		fault_in_server = false;
		fault_calls_left = 0;
		check((copier != NULL) == !fault_failed);
		while (copier != NULL && n_events == 0) {
			wl_event_loop_dispatch(loop, -1);
		}
		vt_copier_destroy(copier);
		wl_event_loop_dispatch(loop, 0); // removed sources are closed
		vt_threads_wait_for_drivers(10000);
		check_int(harness_count_fds(), ==, n_fds);
	} while (fault_failed);
	// memory twice, the device, two eventfds, a thread, two event sources, and none of them
	harness_count(n - 1, "faults injected");
	check_int(n, >=, 8);
	close(node);
	wl_event_loop_destroy(loop);
}

static bool region_is(pixman_region32_t *region, int x1, int y1, int x2, int y2) {
	const pixman_box32_t *box = pixman_region32_extents(region);
	return pixman_region32_n_rects(region) == 1 && box->x1 == x1 && box->y1 == y1 &&
		box->x2 == x2 && box->y2 == y2;
}

TEST(damage_is_rather_too_much_than_lost) {
	pixman_region32_t region, damage;
	pixman_region32_init(&region);
	pixman_region32_init_rect(&damage, 10, 20, 5, 6);
	begin_failing("pixman_region32_union");
	fault_in_server = true;
	vt_damage_add(&region, &damage);
	check(fault_failed && region_is(&region, 10, 20, 15, 26));
	pixman_region32_translate(&damage, -8, 30);
	vt_damage_add(&region, &damage);
	check(region_is(&region, 2, 20, 15, 56));
	end_failing();
	pixman_region32_fini(&damage);
	pixman_region32_fini(&region);
}

TEST(damage_that_cannot_be_clipped_is_too_much) {
	pixman_region32_t region, damage;
	pixman_region32_init_rect(&region, 10, 20, 5, 6);
	pixman_region32_init_rect(&damage, 90, 30, 20, 1);
	vt_damage_add(&region, &damage);
	check_int(pixman_region32_n_rects(&region), ==, 2);
	begin_failing("pixman_region32_intersect_rect");
	fault_in_server = true;
	vt_damage_clip(&region, 100, 100);
	check(fault_failed && region_is(&region, 10, 20, 100, 31));
	end_failing();
	pixman_region32_fini(&damage);
	pixman_region32_fini(&region);
}

TEST(creating_the_manager_can_fail) {
	unsigned n = 0;
	do {
		fault_failed = false;
		fault_calls_left = ++n;
		struct wl_display *display = wl_display_create();
		fault_in_server = true;
		struct vitrine_view_manager_v1 *manager = vitrine_view_manager_v1_create(display, 1);
		fault_in_server = false;
		check(manager != NULL || fault_failed);
		fault_calls_left = 0;
		wl_display_destroy(display);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >, 3);
}

struct eager {
	struct wl_listener needs_frame;
	struct server_output *output; // NULL while it is drawn
};

/** A compositor that draws as soon as it is asked to. */
static void eager_handle_needs_frame(struct wl_listener *listener, void *data) {
	struct eager *eager = wl_container_of(listener, eager, needs_frame);
	struct server_output *output = eager->output;
	if (output != NULL) {
		eager->output = NULL;
		check(output_paint(output, 0x123456, NULL));
		fault_in_server = fixture_enter_server != NULL;
		eager->output = output;
	}
}

TEST_WITH(fixture, session_can_fail_in_the_frame_that_it_asks_for) {
	struct eager eager = {
		.needs_frame.notify = eager_handle_needs_frame,
		.output = f->server.output,
	};
	wl_signal_add(&f->server.output->wlr_output->events.needs_frame, &eager.needs_frame);
	struct test_session *session = test_session_start(f->client, VITRINE_GUARANTEE_SEALED);
	pump_until(&f->server, session->n_frames > 0);
	begin_failing("vt_announced_memory_create");
	// Of the CPU alone: it lists no formats, which would be the array to fail
	struct test_session *other = test_session_create_with(f->client, &(struct test_setup){
		.options = VITRINE_VIEW_OPTION_PAINT_CURSORS,
		.acceptable = VITRINE_GUARANTEE_SNAPSHOT, .storages = VITRINE_STORAGE_CPU });
	pump_until(&f->server, other->stopped);
	end_failing();
	check(fault_failed);
	test_session_check_stop(other, VITRINE_VIEW_STOP_NO_RESOURCES);
	wl_list_remove(&eager.needs_frame.link);
}

/* A client's first connection */

/** What the policy knows of a client that asks: all of it, or it is not asked. */
static struct vitrine_view_permission decide_by_name(
		const struct vitrine_view_request *request, void *data) {
	const struct vitrine_view_client *identity = request->identity;
	check(identity->executable != NULL && identity->comm[0] != '\0');
	return (struct vitrine_view_permission){ ALL, VITRINE_STORAGE_ALL };
}

/** A denial by name must not be avoided by coming when the compositor lacks something. */
static void check_first_connection(struct server *server) {
	int fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	fault_in_server = true;
	struct wl_client *wl_client = wl_client_create(server->display, fds[0]);
	const struct vitrine_view_client *identity =
		vitrine_view_manager_v1_get_identity(server->manager, wl_client);
	fault_in_server = false;
	check(identity != NULL || fault_failed);
	check(identity == NULL || (identity->executable != NULL && identity->comm[0] != '\0'));
	const struct vt_manager *manager = wl_container_of(server->manager, manager, base);
	const struct vt_client *known = vt_client_get(
		(struct vt_client_registry *)&manager->clients, wl_client);
	check(known == NULL || known->process != NULL); // else it would be another holder
	wl_client_destroy(wl_client);
	close(fds[1]);
}

TEST(first_connection_can_fail) {
	harness_set_timeout(60 * harness_get_slowdown());
	unsigned n = 0;
	do {
		struct server server;
		server_init(&server, NULL);
		vitrine_view_manager_v1_set_policy(server.manager, decide_by_name, NULL);
		int n_fds = harness_count_fds();
		fault_failed = false;
		fault_calls_left = ++n;
		check_first_connection(&server);
		fault_calls_left = 0;
		check_int(harness_count_fds(), ==, n_fds);
		check_still_works(&server);
		server_finish(&server);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >=, 6); // memory twice, the process twice, its two names, and none of them
}

/* The policy and the control socket */

#define ALLOWING "{\"default\":{\"allow\":[\"snapshot\"]},\"rules\":[{\"match\":" \
	"{\"executable\":\"/nowhere\"},\"deny\":true}]}"
#define DENYING "{\"default\":{\"deny\":true},\"rules\":[{\"match\":" \
	"{\"executable\":\"/nowhere\"},\"deny\":true},{\"match\":{\"source\":\"nothing\"}," \
	"\"deny\":true},{\"match\":{\"engine\":\"e\",\"app-id\":\"a\"},\"min-guarantee\":\"snapshot\"}]}"

/** A compositor with a policy file and a control socket. */
struct governed {
	struct server server;
	struct policy_file policy_file;
	struct client *client;
	struct test_session *session;
	char path[256];
	bool has_control;
};

static struct vitrine_view_permission governed_decide(
		const struct vitrine_view_request *request, void *data) {
	return policy_file_decide(data, request,
		(struct vitrine_view_permission){ ALL, VITRINE_STORAGE_ALL });
}

static bool governed_reload(void *data, char error[static CONTROL_ERROR_SIZE]) {
	struct governed *governed = data;
	struct rules_error reason;
	if (!policy_file_reload(&governed->policy_file, &reason)) {
		snprintf(error, CONTROL_ERROR_SIZE, "%s", reason.text);
		return false;
	}
	vitrine_view_manager_v1_update_policy(governed->server.manager);
	return true;
}

static void write_policy(const struct governed *governed, const char *text) {
	FILE *file = fopen(governed->path, "we");
	check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void governed_set_up(struct governed *governed) {
	*governed = (struct governed){ 0 };
	snprintf(governed->path, sizeof(governed->path), "%s/policy", getenv("XDG_RUNTIME_DIR"));
	write_policy(governed, ALLOWING);
	server_init(&governed->server, NULL);
	struct rules_error error;
	check(policy_file_init(&governed->policy_file, governed->path, &error));
	vitrine_view_manager_v1_set_policy(governed->server.manager, governed_decide,
		&governed->policy_file);
}

/** Whether there is one now. With a reason if not. */
static void governed_add_control(struct governed *governed) {
	char error[CONTROL_ERROR_SIZE] = "";
	governed->has_control = control_socket_create(&(struct control_options){
		.loop = governed->server.loop,
		.manager = governed->server.manager,
		.wayland_display = "wayland-test",
		.reload = governed_reload,
		.data = governed,
	}, error);
	check(governed->has_control == (error[0] == '\0'));
}

static void governed_start_session(struct governed *governed) {
	governed->client = client_create(&governed->server);
	governed->session = test_session_start(governed->client, VITRINE_GUARANTEE_SNAPSHOT);
	check(output_paint(governed->server.output, 0x111111, NULL));
	pump_until(&governed->server, governed->session->n_frames > 0);
}

static void governed_tear_down(struct governed *governed) {
	server_finish(&governed->server);
	policy_file_finish(&governed->policy_file);
}

static int connect_control(void) {
	struct sockaddr_un address;
	check(control_path_get(&address, "wayland-test"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	check_ok(connect(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

/** Says a line. Returns the first letter of the answer's key, 0 if the connection is ended. */
static char ask_control(struct governed *governed, const char *line) {
	int fd = connect_control();
	check_int(send(fd, line, strlen(line), MSG_NOSIGNAL), ==, (long long)strlen(line));
	check_ok(shutdown(fd, SHUT_WR));
	char answer[1024] = "", byte;
	size_t len = 0;
	ssize_t n;
	while ((n = recv(fd, &byte, 1, 0)) != 0 && !(n < 0 && errno == ECONNRESET)) {
		if (n > 0 && len < sizeof(answer) - 1) {
			answer[len++] = byte;
		} else if (n < 0) {
			check_int(errno, ==, EAGAIN);
			pump_wait(&governed->server);
		}
	}
	close(fd);
	return len > 0 && answer[len - 1] == '\n' ? answer[2] : '\0'; // {"end or {"error
}

/** What the file in force says is what the session has, whatever the answer was. */
static void check_one_policy_is_in_force(struct governed *governed) {
	bool is_known = governed->client->wl_client != NULL;
	const struct vitrine_view_client identity = {
		.executable = "/bin/x", .comm = "x", .uid = getuid(),
	};
	check(governed->policy_file.rules != NULL);
	bool may_look = policy_file_may_look(&governed->policy_file, &identity,
		(struct vitrine_view_permission){ 0 });
	check(!is_known || governed->session->stopped == !may_look);
}

TEST(reloading_the_policy_can_fail) {
	harness_set_timeout(60 * harness_get_slowdown());
	unsigned n = 0;
	do {
		struct governed governed;
		governed_set_up(&governed);
		governed_add_control(&governed);
		check(governed.has_control);
		governed_start_session(&governed);
		int watcher = connect_control();
		check_int(send(watcher, "{\"watch\":true}\n", 15, MSG_NOSIGNAL), ==, 15);
		pump(&governed.server);
		int n_fds = harness_count_fds();
		write_policy(&governed, DENYING);
		fixture_enter_server = enter_server;
		fault_failed = false;
		fault_calls_left = ++n;
		char answer = ask_control(&governed, "{\"list\":true}\n{\"reload\":true}\n");
		fault_calls_left = 0;
		end_failing();
		pump(&governed.server);
		check(answer != '\0' || fault_failed);
		check_one_policy_is_in_force(&governed);
		check_int(ask_control(&governed, "{\"reload\":true}\n"), ==, 'e');
		pump(&governed.server);
		check(governed.session->stopped || governed.client->wl_client == NULL);
		check_int(harness_count_fds(), <=, n_fds);
		close(watcher);
		governed_tear_down(&governed);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >, 20);
}

TEST(starting_the_control_socket_can_fail) {
	unsigned n = 0;
	do {
		struct governed governed;
		governed_set_up(&governed);
		int n_fds = harness_count_fds();
		fault_failed = false;
		fault_calls_left = ++n;
		fault_in_server = true;
		governed_add_control(&governed);
		fault_in_server = false;
		fault_calls_left = 0;
		check(governed.has_control == !fault_failed);
		if (!governed.has_control) {
			wl_event_loop_dispatch(governed.server.loop, 0); // removed sources are closed
			check_int(harness_count_fds(), <=, n_fds + 1); // libwayland's for all timers
			governed_add_control(&governed); // nothing is left in its way
		}
		check_int(ask_control(&governed, "{\"reload\":true}\n"), ==, 'e');
		governed_tear_down(&governed);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >=, 6); // memory, a socket, its name, its queue, two event sources
}

TEST(reading_the_first_policy_can_fail) {
	char path[256];
	snprintf(path, sizeof(path), "%s/policy", getenv("XDG_RUNTIME_DIR"));
	struct governed governed = { 0 };
	strcpy(governed.path, path);
	write_policy(&governed, DENYING);
	unsigned n = 0;
	do {
		struct policy_file file;
		struct rules_error error = { 0 };
		int n_fds = harness_count_fds();
		fault_failed = false;
		fault_calls_left = ++n;
		fault_in_server = true;
		bool ok = policy_file_init(&file, path, &error);
		fault_in_server = false;
		fault_calls_left = 0;
		check(ok == !fault_failed);
		check(ok == (file.rules != NULL) && ok == (error.text[0] == '\0'));
		check_int(harness_count_fds(), ==, n_fds);
		policy_file_finish(&file);
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >, 8);
}
