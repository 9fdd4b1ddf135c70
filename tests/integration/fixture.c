/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <vitrine/view_v1.h>
#include <wlr/backend.h>
#include <wlr/backend/headless.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/allocator.h>
#include <wlr/render/pixman.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/vulkan.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_linux_dmabuf_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_security_context_v1.h>
#include <wlr/types/wlr_shm.h>
#include <wlr/types/wlr_single_pixel_buffer_v1.h>
#include <wlr/util/log.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "security-context-v1-client-protocol.h"
#include "single-pixel-buffer-v1-client-protocol.h"
#include "wlr-export-dmabuf-unstable-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

void (*fixture_enter_server)(bool enter);

static void enter_server(bool enter) {
	if (fixture_enter_server != NULL) {
		fixture_enter_server(enter);
	}
}

/* The compositor */

static void server_handle_session_start(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, session_start);
	check(vitrine_view_session_v1_get_source_name(data) != NULL);
	check(vitrine_view_session_v1_get_client(data) != NULL);
	server->sessions_started++;
}

static void server_handle_session_stop(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, session_stop);
	check(vitrine_view_session_v1_get_source_name(data) != NULL);
	server->sessions_stopped++;
}

static void offer_linux_dmabuf(struct server *server, const char *device) {
	struct stat st;
	check(stat(device, &st) == 0);
	struct wlr_linux_dmabuf_feedback_v1 feedback = { .main_device = st.st_rdev };
	struct wlr_linux_dmabuf_feedback_v1_tranche *tranche =
		wlr_linux_dmabuf_feedback_add_tranche(&feedback);
	tranche->target_device = st.st_rdev;
	check(wlr_drm_format_set_add(&tranche->formats, DRM_FORMAT_XRGB8888,
		DRM_FORMAT_MOD_LINEAR));
	check(wlr_drm_format_set_add(&tranche->formats, DRM_FORMAT_NV12, DRM_FORMAT_MOD_LINEAR));
	check(wlr_linux_dmabuf_v1_create(server->display, 4, &feedback) != NULL);
	wlr_linux_dmabuf_feedback_v1_finish(&feedback);
}

void server_init(struct server *server, const struct server_options *options) {
	static const struct server_options defaults = {0};
	options = options != NULL ? options : &defaults;
	*server = (struct server){0};
	wlr_log_init(getenv("TEST_DEBUG") != NULL ? WLR_DEBUG : WLR_ERROR, NULL);
	wl_list_init(&server->clients);
	server->renderer = options->create_renderer != NULL ? options->create_renderer() :
		options->vulkan ? wlr_vk_renderer_create_with_drm_fd(-1) : wlr_pixman_renderer_create();
	server->display = wl_display_create();
	server->loop = wl_display_get_event_loop(server->display);
	server->backend = wlr_headless_backend_create(server->loop);
	check(server->backend != NULL && server->renderer != NULL);
	server->allocator = options->create_allocator != NULL ?
		options->create_allocator(server->backend, server->renderer) :
		options->stock_allocator || options->create_renderer != NULL ?
		wlr_allocator_autocreate(server->backend, server->renderer) :
		vitrine_allocator_create(server->backend, server->renderer);
	check(server->allocator != NULL);

	wlr_shm_create_with_renderer(server->display, 1, server->renderer);
	wlr_single_pixel_buffer_manager_v1_create(server->display);
	wlr_ext_output_image_capture_source_manager_v1_create(server->display, 1);
	server->security_context_manager =
		wlr_security_context_manager_v1_create(server->display);
	server->manager = vitrine_view_manager_v1_create(server->display, 1);
	check(server->manager != NULL);
	vitrine_view_manager_v1_set_security_context_manager(server->manager,
		server->security_context_manager);
	if (options->linux_dmabuf_device != NULL) {
		offer_linux_dmabuf(server, options->linux_dmabuf_device);
	}
	// The default policy has a test of its own, and so has the rate limit
	vitrine_view_manager_v1_set_allowed(server->manager, VITRINE_GUARANTEE_ALL);
	server->manager->limits.starts_per_group.burst = 1000000;
	server->manager->limits.starts_per_holder.burst = 1000000;
	// Tests of the budget choose it by its bytes
	server->manager->limits.shared_sets = (struct vitrine_view_limit){ 0 };
	server->session_start.notify = server_handle_session_start;
	wl_signal_add(&server->manager->events.session_start, &server->session_start);
	server->session_stop.notify = server_handle_session_stop;
	wl_signal_add(&server->manager->events.session_stop, &server->session_stop);

	check(wlr_backend_start(server->backend));
	if (!options->no_output) {
		server->output = server_add_output(server, 64, 48);
	}
}

static void server_destroy_memory(struct server *server) {
	wl_list_remove(&server->session_start.link);
	wl_list_remove(&server->session_stop.link);
	wlr_backend_destroy(server->backend);
	wlr_allocator_destroy(server->allocator);
	wlr_renderer_destroy(server->renderer);
}

void server_crash(struct server *server) {
	server_destroy_memory(server);
	wl_display_flush_clients(server->display);
	wl_display_destroy_clients(server->display);
	wl_display_destroy(server->display);
	server->display = NULL;
}

void server_finish(struct server *server) {
	struct client *client, *tmp;
	wl_list_for_each_safe(client, tmp, &server->clients, link) {
		client_destroy(client);
	}
	if (server->display == NULL) {
		return;
	}
	wl_display_destroy_clients(server->display);
	check_int(server->sessions_started, ==, server->sessions_stopped);
	server_destroy_memory(server);
	wl_display_destroy(server->display);
}

static void output_handle_needs_frame(struct wl_listener *listener, void *data) {
	struct server_output *output = wl_container_of(listener, output, needs_frame);
	output->n_frame_requests++;
}

static void output_handle_destroy(struct wl_listener *listener, void *data) {
	struct server_output *output = wl_container_of(listener, output, destroy);
	wl_list_remove(&output->needs_frame.link);
	wl_list_remove(&output->destroy.link);
	if (output->server->output == output) {
		output->server->output = NULL;
	}
	free(output);
}

struct server_output *server_add_output(struct server *server, int width, int height) {
	struct server_output *output = calloc(1, sizeof(*output));
	output->server = server;
	output->wlr_output =
		wlr_headless_add_output(server->backend, (unsigned)width, (unsigned)height);
	check(output->wlr_output != NULL);
	check(wlr_output_init_render(output->wlr_output, server->allocator, server->renderer));
	output->needs_frame.notify = output_handle_needs_frame;
	wl_signal_add(&output->wlr_output->events.needs_frame, &output->needs_frame);
	output->destroy.notify = output_handle_destroy;
	wl_signal_add(&output->wlr_output->events.destroy, &output->destroy);

	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, true);
	check(wlr_output_commit_state(output->wlr_output, &state));
	wlr_output_state_finish(&state);
	wlr_output_create_global(output->wlr_output, server->display);
	return output;
}

void output_resize(struct server_output *output, int width, int height) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_custom_mode(&state, width, height, 0);
	check(wlr_output_commit_state(output->wlr_output, &state));
	wlr_output_state_finish(&state);
}

static struct wlr_render_pass *output_begin_pass(struct server_output *output,
		struct wlr_output_state *state) {
	if (output->swapchain == NULL) {
		return wlr_output_begin_render_pass(output->wlr_output, state, NULL);
	}
	struct wlr_buffer *buffer = wlr_swapchain_acquire(output->swapchain);
	if (buffer == NULL) {
		return NULL;
	}
	wlr_output_state_set_buffer(state, buffer);
	wlr_buffer_unlock(buffer);
	return wlr_renderer_begin_buffer_pass(output->server->renderer, buffer, NULL);
}

static bool output_paint_state(struct server_output *output, struct wlr_output_state *state,
		uint32_t color, const struct rect *rect) {
	struct wlr_output *wlr_output = output->wlr_output;
	struct wlr_render_pass *pass = output_begin_pass(output, state);
	if (pass == NULL) {
		return false;
	}
	struct wlr_box box = { .width = state->buffer->width, .height = state->buffer->height };
	if (rect != NULL) {
		box = (struct wlr_box){ rect->x, rect->y, rect->width, rect->height };
		pixman_region32_t damage;
		pixman_region32_init_rect(&damage, box.x, box.y, (unsigned)box.width,
			(unsigned)box.height);
		wlr_output_state_set_damage(state, &damage);
		pixman_region32_fini(&damage);
	}
	wlr_render_pass_add_rect(pass, &(struct wlr_render_rect_options){
		.box = box,
		.color = {
			.r = (float)(color >> 16 & 0xff) / 255,
			.g = (float)(color >> 8 & 0xff) / 255,
			.b = (float)(color & 0xff) / 255,
			.a = 1,
		},
		.blend_mode = WLR_RENDER_BLEND_MODE_NONE,
	});
	wlr_output_add_software_cursors_to_render_pass(wlr_output, pass, NULL);
	return wlr_render_pass_submit(pass) && wlr_output_commit_state(wlr_output, state);
}

static bool output_paint_and_finish(struct server_output *output, struct wlr_output_state *state,
		uint32_t color, const struct rect *rect) {
	if (output->fourcc != 0) {
		wlr_output_state_set_render_format(state, output->fourcc);
	}
	enter_server(true);
	bool ok = output_paint_state(output, state, color, rect);
	wlr_output_state_finish(state);
	enter_server(false);
	output->color = color;
	return ok;
}

bool output_paint(struct server_output *output, uint32_t color, const struct rect *rect) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	return output_paint_and_finish(output, &state, color, rect);
}

bool output_paint_mode(struct server_output *output, int width, int height, uint32_t color,
		const struct rect *rect) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_custom_mode(&state, width, height, 0);
	return output_paint_and_finish(output, &state, color, rect);
}

#define CURSOR_SIZE 9

struct wlr_output_cursor *output_add_cursor(struct server_output *output, int32_t hotspot) {
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = { .format = DRM_FORMAT_ARGB8888, .len = 1,
		.capacity = 1, .modifiers = &modifier };
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(output->server->allocator,
		CURSOR_SIZE, CURSOR_SIZE, &format);
	uint32_t fourcc;
	size_t stride;
	void *data;
	check(buffer != NULL && wlr_buffer_begin_data_ptr_access(buffer,
		WLR_BUFFER_DATA_PTR_ACCESS_WRITE, &data, &fourcc, &stride));
	memset(data, 0xff, stride * CURSOR_SIZE);
	wlr_buffer_end_data_ptr_access(buffer);
	struct wlr_output_cursor *cursor = wlr_output_cursor_create(output->wlr_output);
	check(wlr_output_cursor_set_buffer(cursor, buffer, hotspot, hotspot));
	check(output->wlr_output->hardware_cursor == cursor);
	wlr_buffer_drop(buffer);
	return cursor;
}

/* Events */

void client_read(struct client *client) {
	if (client->asleep || wl_display_get_error(client->display) != 0) {
		return;
	}
	wl_display_flush(client->display);
	while (wl_display_prepare_read(client->display) != 0) {
		wl_display_dispatch_pending(client->display);
	}
	struct pollfd pollfd = { .fd = wl_display_get_fd(client->display), .events = POLLIN };
	if (poll(&pollfd, 1, 0) == 1) {
		wl_display_read_events(client->display);
	} else {
		wl_display_cancel_read(client->display);
	}
	wl_display_dispatch_pending(client->display);
	wl_display_flush(client->display);
}

static void pump_once(struct server *server, int timeout_ms) {
	enter_server(true);
	wl_display_flush_clients(server->display);
	wl_event_loop_dispatch(server->loop, timeout_ms);
	wl_display_flush_clients(server->display);
	enter_server(false);
	struct client *client;
	wl_list_for_each(client, &server->clients, link) {
		client_read(client);
	}
	struct server_output *output = server->output;
	if (output != NULL && output->repaint && output->wlr_output->needs_frame) {
		bool ok = output_paint(output, output->color, NULL);
		check(ok || fixture_enter_server != NULL); // a call can fail: it is still needed
	}
}

void pump(struct server *server) {
	// A request, its answer, and what the client says to that
	for (int i = 0; i < 4; i++) {
		pump_once(server, 0);
	}
}

void pump_wait(struct server *server) {
	pump_once(server, 5);
}

static void handle_done(void *data, struct wl_callback *callback, uint32_t serial) {
	*(bool *)data = true;
	wl_callback_destroy(callback);
}

static const struct wl_callback_listener callback_listener = { .done = handle_done };

void client_roundtrip(struct client *client) {
	bool done = false;
	struct wl_callback *callback = wl_display_sync(client->display);
	wl_callback_add_listener(callback, &callback_listener, &done);
	while (!done) {
		pump_once(client->server, 0);
		check_int(wl_display_get_error(client->display), ==, 0);
	}
}

void client_expect_error(struct client *client, const struct wl_interface *interface,
		uint32_t code) {
	// It comes before the answer to anything that was asked later, or not at all
	bool done = false;
	struct wl_callback *callback = wl_display_sync(client->display);
	wl_callback_add_listener(callback, &callback_listener, &done);
	pump_until(client->server, done || wl_display_get_error(client->display) != 0);
	check(!done);
	wl_callback_destroy(callback);
	const struct wl_interface *error_interface = NULL;
	uint32_t id;
	uint32_t error = wl_display_get_protocol_error(client->display, &error_interface, &id);
	check_int(wl_display_get_error(client->display), ==, EPROTO);
	check(error_interface != NULL);
	check_str(error_interface->name, interface->name);
	check_int(error, ==, code);
}

/* Clients */

static void manager_handle_guarantees(void *data, struct xx_dmabuf_view_manager_v1 *manager,
		uint32_t mask) {
	struct client *client = data;
	client->guarantees = mask;
	client->n_guarantees_events++;
}

static const struct xx_dmabuf_view_manager_v1_listener manager_listener = {
	.guarantees = manager_handle_guarantees,
};

/** The globals that a client binds, and where in struct client it keeps them. */
static const struct {
	const struct wl_interface *interface;
	uint32_t version;
	size_t offset;
} globals[] = {
	{ &xx_dmabuf_view_manager_v1_interface, 1, offsetof(struct client, manager) },
	{ &ext_output_image_capture_source_manager_v1_interface, 1,
		offsetof(struct client, sources) },
	{ &wl_shm_interface, 1, offsetof(struct client, shm) },
	{ &wp_single_pixel_buffer_manager_v1_interface, 1, offsetof(struct client, single_pixel) },
	{ &wp_security_context_manager_v1_interface, 1,
		offsetof(struct client, security_contexts) },
	{ &zwp_linux_dmabuf_v1_interface, 4, offsetof(struct client, linux_dmabuf) },
	{ &zwlr_export_dmabuf_manager_v1_interface, 1, offsetof(struct client, export_dmabuf) },
};
#define N_GLOBALS (sizeof(globals) / sizeof(globals[0]))

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct client *client = data;
	for (size_t i = 0; i < N_GLOBALS; i++) {
		if (strcmp(interface, globals[i].interface->name) == 0) {
			check_int(version, ==, globals[i].version);
			void *proxy =
				wl_registry_bind(registry, name, globals[i].interface, version);
			memcpy((char *)client + globals[i].offset, &proxy, sizeof(proxy));
		}
	}
	if (strcmp(interface, xx_dmabuf_view_manager_v1_interface.name) == 0) {
		xx_dmabuf_view_manager_v1_add_listener(client->manager, &manager_listener, client);
	} else if (strcmp(interface, wl_output_interface.name) == 0 && client->n_outputs < 32) {
		client->outputs[client->n_outputs++] =
			wl_registry_bind(registry, name, &wl_output_interface, 4);
	}
}

static void registry_handle_global_remove(void *data, struct wl_registry *registry,
		uint32_t name) {
	// Tests that remove an output know which
}

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

static void client_handle_wl_client_destroy(struct wl_listener *listener, void *data) {
	struct client *client = wl_container_of(listener, client, wl_client_destroy);
	client->wl_client = NULL;
}

struct client *client_create_on(struct server *server, int take_fd) {
	struct client *client = calloc(1, sizeof(*client));
	client->server = server;
	client->display = wl_display_connect_to_fd(take_fd);
	check(client->display != NULL);
	wl_list_init(&client->sessions);
	wl_list_insert(server->clients.prev, &client->link);
	client->registry = wl_display_get_registry(client->display);
	wl_registry_add_listener(client->registry, &registry_listener, client);
	client_roundtrip(client);
	client_roundtrip(client);
	return client;
}

struct client *client_create_between(struct server *server, int take_server_fd,
		int take_client_fd) {
	struct wl_client *wl_client = wl_client_create(server->display, take_server_fd);
	check(wl_client != NULL);
	struct client *client = client_create_on(server, take_client_fd);
	client->wl_client = wl_client;
	client->wl_client_destroy.notify = client_handle_wl_client_destroy;
	wl_client_add_destroy_listener(wl_client, &client->wl_client_destroy);
	return client;
}

struct client *client_create(struct server *server) {
	int fds[2];
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	return client_create_between(server, fds[0], fds[1]);
}

void client_destroy_sessions(struct client *client) {
	struct test_session *session, *tmp;
	wl_list_for_each_safe(session, tmp, &client->sessions, link) {
		test_session_destroy(session);
	}
}

void client_destroy(struct client *client) {
	client_destroy_sessions(client);
	wl_list_remove(&client->link);
	for (size_t i = 0; i < N_GLOBALS; i++) {
		struct wl_proxy *proxy;
		memcpy(&proxy, (char *)client + globals[i].offset, sizeof(proxy));
		if (proxy != NULL) {
			wl_proxy_destroy(proxy);
		}
	}
	for (uint32_t i = 0; i < client->n_outputs; i++) {
		wl_output_destroy(client->outputs[i]);
	}
	wl_registry_destroy(client->registry);
	wl_display_disconnect(client->display);
	if (client->wl_client != NULL) {
		wl_list_remove(&client->wl_client_destroy.link);
	}
	if (client->server->display != NULL) {
		pump(client->server);
	}
	free(client);
}

struct ext_image_capture_source_v1 *client_get_source(struct client *client, uint32_t output) {
	check_int(output, <, client->n_outputs);
	return ext_output_image_capture_source_manager_v1_create_source(client->sources,
		client->outputs[output]);
}

/* Sessions: the letters stand for events and check their order */

static struct test_view *session_get_view(struct test_session *session, uint32_t index) {
	check_int(index, <, SESSION_VIEWS_CAP);
	if (session->views == NULL) {
		session->views = calloc(SESSION_VIEWS_CAP, sizeof(session->views[0]));
	}
	return &session->views[index];
}

static void session_handle_depth(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t count) {
	struct test_session *session = data;
	check_int(session->last_event, ==, 0); // "Sent once, before every other event"
	check_int(count, >=, 1);
	session->depth = count;
	session->n_depth_events++;
	session->last_event = 'D';
}

/** "No other event of the session comes between the first of these and the frame event." */
static void session_check_between(const struct test_session *session) {
	check(session->last_event == 'D' || session->last_event == 'f');
}

static void session_handle_off(void *data, struct xx_dmabuf_view_session_v1 *proxy) {
	struct test_session *session = data;
	session_check_between(session);
	check_int(session->n_off++, ==, session->n_on); // "It alternates with the on event"
}

static void session_handle_on(void *data, struct xx_dmabuf_view_session_v1 *proxy) {
	struct test_session *session = data;
	session_check_between(session);
	check_int(++session->n_on, ==, session->n_off);
}

static void session_handle_view(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t storage, uint32_t width, uint32_t height, uint32_t fourcc,
		uint32_t modifier_hi, uint32_t modifier_lo, uint32_t guarantee) {
	struct test_session *session = data;
	struct test_view *view = session_get_view(session, index);
	check(!view->announced); // "An index is never reused"
	check_int(index, ==, session->n_views);
	*view = (struct test_view){
		.announced = true,
		.storage = storage,
		.width = width,
		.height = height,
		.fourcc = fourcc,
		.modifier = (uint64_t)modifier_hi << 32 | modifier_lo,
		.guarantee = guarantee,
		.fd = -1,
	};
	session->n_views++;
	session_check_between(session);
	session->last_event = 'v';
}

static void session_handle_device(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, struct wl_array *device) {
	struct test_session *session = data;
	struct test_view *view = session_get_view(session, index);
	check(session->last_event == 'v' && index == session->n_views - 1);
	check(view->storage != VITRINE_STORAGE_MEMFD && view->device == 0);
	check_int(device->size, ==, sizeof(view->device));
	memcpy(&view->device, device->data, sizeof(view->device));
}

static void session_handle_plane(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t plane, int32_t fd, uint32_t offset, uint32_t stride) {
	struct test_session *session = data;
	struct test_view *view = session_get_view(session, index);
	check(session->last_event == 'v' && index == session->n_views - 1 && plane == 0);
	view->fd = fd;
	view->offset = offset;
	view->stride = stride;
	session->n_fds++;
	// Invariant 3: every fd was checked before it was sent
	const char *reason = "";
	int ret = vitrine_verify_fd(fd, view->storage, view->guarantee,
		offset + (uint64_t)stride * view->height, &reason);
	if (ret != 0) {
		harness_fail(__FILE__, __LINE__, "fd: %s", reason);
	}
	session->last_event = 'p';
}

static void session_handle_view_done(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index) {
	struct test_session *session = data;
	check(session->last_event == 'p' && index == session->n_views - 1);
	session_get_view(session, index)->done = true;
	session->last_event = 'd';
}

static void session_handle_retired(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index) {
	struct test_session *session = data;
	struct test_view *view = session_get_view(session, index);
	check(view->done && !view->retired); // "Sent at most once per view"
	session_check_between(session);
	view->retired = true;
	session->n_retired++;
}

/** "the damage, transform and fence events that apply, in that order" */
static void session_check_order(struct test_session *session, char event) {
	static const char order[] = "Ddfatg";
	const char *last = strchr(order, session->last_event);
	check(session->last_event != 0 && last != NULL);
	check(event == 'f' || last <= strchr(order, event));
	// One transform is the frame's, and a fence is "sent at most once per frame"
	check(last < strchr(order, 't') || session->last_event != event);
	session->last_event = event;
}

static void session_add_damage(struct test_session *session, uint32_t x, uint32_t y,
		uint32_t width, uint32_t height) {
	struct test_frame *frame = &session->building;
	check_int(frame->n_damage, <, 32);
	frame->damage[frame->n_damage++] = (struct rect){ (int)x, (int)y, (int)width, (int)height };
}

static void session_handle_damage(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	struct test_session *session = data;
	session_check_order(session, 'a');
	session->building.n_damage_events++;
	session_add_damage(session, x, y, width, height);
}

void test_frame_get_damage(const struct test_frame *frame, pixman_region32_t *damage) {
	pixman_region32_init(damage);
	for (uint32_t i = 0; i < frame->n_damage; i++) {
		const struct rect *rect = &frame->damage[i];
		pixman_region32_union_rect(damage, damage, rect->x, rect->y, (unsigned)rect->width,
			(unsigned)rect->height);
	}
}

static void session_handle_transform(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t transform) {
	struct test_session *session = data;
	session_check_order(session, 't');
	session->transform = transform;
	session->n_transforms++;
}

static void session_handle_fence(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		int32_t fd) {
	struct test_session *session = data;
	session_check_order(session, 'g');
	// A GPU signals it, without the help of this thread
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	check_int(poll(&pollfd, 1, 10000), ==, 1);
	close(fd);
}

/** "the number of frames of the source that this session did not receive in between" */
static uint32_t session_take_serial(struct test_session *session, uint32_t serial) {
	uint32_t last = session->last_serial;
	check(serial != 0 && serial != last && (last != 0 || serial == 1));
	session->last_serial = serial;
	return serial > last ? serial - last - 1 : UINT32_MAX - last + serial - 1;
}

static void session_handle_frame(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t index, uint32_t serial, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
		uint32_t tv_nsec, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	struct test_session *session = data;
	struct test_frame *frame = &session->building;
	if (width > 0 && height > 0) {
		session_add_damage(session, x, y, width, height);
	}
	bool has_fence = session->last_event == 'g';
	session_check_order(session, 'f');
	struct test_view *view = session_get_view(session, index);
	check(!has_fence || view->storage != VITRINE_STORAGE_MEMFD); // there are none with memfds
	check(view->done && !view->retired); // "The view was announced and is not retired"
	check(session->n_transforms > 0); // "Sent before the first frame"
	frame->index = index;
	frame->serial = serial;
	frame->skipped = session_take_serial(session, serial);
	frame->tv_sec = (uint64_t)tv_sec_hi << 32 | tv_sec_lo;
	frame->tv_nsec = tv_nsec;
	check_int(tv_nsec, <, 1000000000);
	frame->released = session->auto_release;
	session->n_skipped += frame->skipped;
	session->frames[session->n_frames++ % SESSION_FRAMES_CAP] = *frame;
	*frame = (struct test_frame){0};
	if (session->auto_release) {
		xx_dmabuf_view_session_v1_release(proxy, serial);
	}
}

static void session_handle_revoked(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t serial) {
	struct test_session *session = data;
	session_check_between(session);
	session->n_revoked++;
	for (size_t i = 0; i < SESSION_FRAMES_CAP; i++) {
		struct test_frame *frame = &session->frames[i];
		if (frame->serial != serial) {
			continue;
		}
		check(!frame->revoked); // "Sent at most once per frame"
		frame->revoked = true;
		// Not if its release is on the way: the two may cross
		if (session->auto_release && !frame->released) {
			frame->released = true;
			xx_dmabuf_view_session_v1_release(proxy, serial);
		}
	}
}

static void session_handle_stopped(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t reason) {
	struct test_session *session = data;
	check(!session->stopped); // "No event follows"
	session->stopped = true;
	session->stop_reason = reason;
}

static void session_handle_explanation(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		const char *text) {
	struct test_session *session = data;
	session_check_between(session);
	check_int(session->n_depth_events, ==, 1);
	check(strlen(text) <= 512 && strcmp(text, session->explanation) != 0); // "if it has changed"
	snprintf(session->explanation, sizeof(session->explanation), "%s", text);
	session->n_explanations++;
}

static const struct xx_dmabuf_view_session_v1_listener session_listener = {
	.depth = session_handle_depth,
	.off = session_handle_off,
	.on = session_handle_on,
	.explanation = session_handle_explanation,
	.view = session_handle_view,
	.device = session_handle_device,
	.plane = session_handle_plane,
	.view_done = session_handle_view_done,
	.retired = session_handle_retired,
	.damage = session_handle_damage,
	.transform = session_handle_transform,
	.fence = session_handle_fence,
	.frame = session_handle_frame,
	.revoked = session_handle_revoked,
	.stopped = session_handle_stopped,
};

struct test_session *test_session_create_unstarted(struct client *client,
		struct ext_image_capture_source_v1 *source) {
	struct test_session *session = calloc(1, sizeof(*session));
	session->client = client;
	wl_list_insert(&client->sessions, &session->link);
	session->proxy = xx_dmabuf_view_manager_v1_create_session(client->manager, source);
	xx_dmabuf_view_session_v1_add_listener(session->proxy, &session_listener, session);
	return session;
}

void test_session_add_format(struct test_session *session, dev_t device, uint32_t fourcc,
		uint64_t modifier) {
	struct wl_array array = { .size = device != 0 ? sizeof(device) : 0, .data = &device };
	xx_dmabuf_view_session_v1_add_format(session->proxy, &array, fourcc,
		(uint32_t)(modifier >> 32), (uint32_t)(modifier & UINT32_MAX));
}

void test_session_set_up(struct test_session *session, const struct test_setup *setup) {
	static const uint32_t fourccs[] = { DRM_FORMAT_XRGB8888, DRM_FORMAT_ARGB8888,
		DRM_FORMAT_XBGR8888, DRM_FORMAT_XRGB2101010, DRM_FORMAT_RGB565 };
	struct xx_dmabuf_view_session_v1 *proxy = session->proxy;
	if (setup->acceptable != 0) {
		xx_dmabuf_view_session_v1_set_guarantees(proxy, setup->acceptable);
	}
	xx_dmabuf_view_session_v1_set_storages(proxy,
		setup->storages != 0 ? setup->storages : VITRINE_STORAGE_ALL);
	for (size_t i = 0; setup->storages == 0 && i < sizeof(fourccs) / sizeof(fourccs[0]); i++) {
		test_session_add_format(session, makedev(4095, 1), fourccs[i], DRM_FORMAT_MOD_LINEAR);
	}
	if (setup->options & VITRINE_VIEW_OPTION_PAINT_CURSORS) {
		xx_dmabuf_view_session_v1_set_cursors(proxy,
			XX_DMABUF_VIEW_SESSION_V1_CURSORS_PAINTED);
	}
	if (setup->implicit_release) {
		xx_dmabuf_view_session_v1_set_implicit_release(proxy);
	}
}

static struct test_session *create_session(struct client *client,
		struct ext_image_capture_source_v1 *source, const struct test_setup *setup) {
	struct test_session *session = test_session_create_unstarted(client, source);
	test_session_set_up(session, setup);
	xx_dmabuf_view_session_v1_start(session->proxy);
	return session;
}

struct test_session *test_session_create_for(struct client *client,
		struct ext_image_capture_source_v1 *source, uint32_t options, uint32_t acceptable) {
	return create_session(client, source,
		&(struct test_setup){ .options = options, .acceptable = acceptable });
}

struct test_session *test_session_create_with(struct client *client,
		const struct test_setup *setup) {
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	struct test_session *session = create_session(client, source, setup);
	// "The source may be destroyed by the client right after this request"
	ext_image_capture_source_v1_destroy(source);
	return session;
}

struct test_session *test_session_create(struct client *client, uint32_t options,
		uint32_t acceptable) {
	return test_session_create_with(client,
		&(struct test_setup){ .options = options, .acceptable = acceptable });
}

struct test_session *test_session_try(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create(client, 0, acceptable);
	client_roundtrip(client);
	return session;
}

struct test_session *test_session_start(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_try(client, acceptable);
	check(!session->stopped);
	return session;
}

struct test_session *test_session_start_reader(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create(client, 0, acceptable);
	session->auto_release = true; // before the first frame
	client_roundtrip(client);
	check(!session->stopped);
	return session;
}

void test_session_check_stop(const struct test_session *session, uint32_t reason) {
	check(session->stopped);
	check_int(session->stop_reason, ==, reason);
}

void test_session_end(struct test_session *session) {
	if (session->proxy != NULL) {
		xx_dmabuf_view_session_v1_destroy(session->proxy);
		session->proxy = NULL;
	}
}

void test_session_destroy(struct test_session *session) {
	test_session_end(session);
	wl_list_remove(&session->link);
	for (uint32_t i = 0; i < session->n_views; i++) {
		struct test_view *view = &session->views[i];
		if (view->data != NULL) {
			munmap(view->data, view->size);
		}
		if (view->fd >= 0) {
			close(view->fd);
		}
	}
	free(session->views);
	free(session);
}

void test_session_close(struct test_session *session) {
	struct client *client = session->client;
	test_session_destroy(session);
	client_roundtrip(client);
}

struct test_frame *test_session_last_frame(struct test_session *session) {
	check_int(session->n_frames, >, 0);
	return &session->frames[(session->n_frames - 1) % SESSION_FRAMES_CAP];
}

void test_session_release(struct test_session *session, uint32_t serial) {
	xx_dmabuf_view_session_v1_release(session->proxy, serial);
}

void test_session_release_last(struct test_session *session) {
	test_session_release(session, test_session_last_frame(session)->serial);
}

void test_session_release_all_but(struct test_session *session, uint32_t n_kept) {
	for (; session->n_released < session->n_frames; session->n_released++) {
		const struct test_frame *frame =
			&session->frames[session->n_released % SESSION_FRAMES_CAP];
		if (session->n_released + n_kept >= session->n_frames && !frame->revoked) {
			break;
		}
		test_session_release(session, frame->serial);
	}
}

/* Views */

const uint8_t *test_view_map(struct test_view *view) {
	check(view->done && view->fd >= 0);
	if (view->data == NULL) {
		view->size = view->offset + (size_t)view->stride * view->height;
		view->data = mmap(NULL, view->size, PROT_READ, MAP_SHARED, view->fd, 0);
		check(view->data != MAP_FAILED);
	}
	return view->data;
}

uint32_t test_view_get_pixel(struct test_view *view, uint32_t x, uint32_t y) {
	check(view->fourcc == DRM_FORMAT_XRGB8888 || view->fourcc == DRM_FORMAT_ARGB8888);
	check(x < view->width && y < view->height);
	uint32_t pixel;
	memcpy(&pixel, test_view_map(view) + view->offset + (size_t)y * view->stride + x * 4,
		sizeof(pixel));
	return pixel & 0xffffff;
}

uint32_t test_session_get_pixel(struct test_session *session, uint32_t x, uint32_t y) {
	return test_view_get_pixel(
		session_get_view(session, test_session_last_frame(session)->index), x, y);
}

uint64_t test_view_checksum(struct test_view *view) {
	const uint8_t *data = test_view_map(view);
	uint64_t hash = 14695981039346656037u; // FNV-1a
	for (size_t i = 0; i < view->size; i++) {
		hash = (hash ^ data[i]) * 1099511628211u;
	}
	return hash;
}

/* Fixture */

const struct guarantee_param each_guarantee[2] = {
	{ "sealed", { .acceptable = VITRINE_GUARANTEE_SEALED } },
	{ "snapshot", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT } },
};

const struct guarantee_param each_reader[2] = {
	{ "sealed", { .acceptable = VITRINE_GUARANTEE_SEALED, .auto_release = true } },
	{ "snapshot", { .acceptable = VITRINE_GUARANTEE_SNAPSHOT, .auto_release = true } },
};

void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	*f = (struct fixture){0};
	server_init(&f->server, &options->server);
	f->client = client_create(&f->server);
	if (options->acceptable != 0) {
		f->session = test_session_start(f->client, options->acceptable);
		f->session->auto_release = options->auto_release;
	}
}

void fixture_tear_down(struct fixture *f) {
	server_finish(&f->server);
}

void fixture_paint(struct fixture *f, uint32_t color) {
	check(output_paint(f->server.output, color, NULL));
	pump(&f->server);
}

uint32_t fixture_color(uint32_t n) {
	return (n * 0x010305) & 0xffffff;
}

void fixture_paint_frames(struct fixture *f, uint32_t first, uint32_t last) {
	for (uint32_t n = first; n <= last; n++) {
		fixture_paint(f, fixture_color(n));
	}
}

void fixture_show(struct fixture *f, struct test_session *session, uint32_t color) {
	uint32_t n_frames = session->n_frames;
	fixture_paint(f, color);
	check_int(session->n_frames, >, n_frames);
	struct test_view *view =
		session_get_view(session, test_session_last_frame(session)->index);
	check_int(test_view_get_pixel(view, 0, 0), ==, color);
	check_int(test_view_get_pixel(view, view->width - 1, view->height - 1), ==, color);
}

void fixture_show_frames(struct fixture *f, struct test_session *session, uint32_t first,
		uint32_t last) {
	for (uint32_t n = first; n <= last; n++) {
		fixture_show(f, session, fixture_color(n));
	}
}

void fixture_check_unchanged(struct fixture *f, struct test_session *session) {
	uint32_t n_views = session->n_views;
	check_int(n_views, >, 0);
	uint64_t checksums[SESSION_VIEWS_CAP];
	for (uint32_t i = 0; i < n_views; i++) {
		checksums[i] = test_view_checksum(&session->views[i]);
	}
	for (uint32_t n = 20; n < 70; n++) {
		fixture_paint(f, fixture_color(n));
		for (uint32_t i = 0; i < n_views; i++) {
			check_int(test_view_checksum(&session->views[i]), ==, checksums[i]);
		}
	}
}

/** A session that was shown a frame, or that has been stopped. */
static struct test_session *try_session(struct fixture *f, uint32_t acceptable) {
	struct test_session *session = test_session_try(f->client, acceptable);
	uint32_t i = 0;
	do {
		fixture_paint(f, fixture_color(i++)); // not what the one before has seen
	} while (!session->stopped && session->n_frames == 0);
	return session;
}

void fixture_check_keeper(struct fixture *f, uint32_t acceptable) {
	f->server.manager->limits.shared_bytes.per_holder = 64 * 48 * 4 * 3;
	f->server.manager->limits.private_bytes.per_holder = 0; // nor copies of its own
	struct test_session *session;
	uint32_t n_kept = 0;
	while (!(session = try_session(f, acceptable))->stopped) {
		check_int(++n_kept, <, 16);
		test_session_end(session);
	}
	test_session_check_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
	check_int(n_kept, >, 1);
	client_destroy_sessions(f->client);
	// Everything is closed: the client may go on as soon as that is known
	while (harness_kernel_tells_pins() && (session = try_session(f, acceptable))->stopped) {
		test_session_close(session);
	}
}
