/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wayland-server-protocol.h>

#include "ext-image-capture-source-v1-protocol.h"
#include "fake_compositor.h"
#include "xdg-output-unstable-v1-protocol.h"

#define OUTPUTS_CAP 2048
#define WINDOWS_CAP 8192

struct output {
	struct fake *fake;
	const struct fake_output *what;
	struct wl_global *global; // NULL once it is gone
	struct wl_resource *resource, *xdg_resource; // NULL if there is none
};

struct window {
	const struct fake_window *what;
	struct wl_resource *handle; // NULL before the list was bound, and once it is destroyed
	bool is_closed;
};

struct fake {
	struct wl_display *display;
	const struct fake_script *script;
	struct fake_output first_output; // what the script says of it
	struct output outputs[OUTPUTS_CAP];
	size_t n_outputs;
	struct window windows[WINDOWS_CAP];
	size_t n_windows;
	struct wl_resource *window_list; // NULL if it is not bound
	struct wl_list sessions; // fake_session.link
	size_t n_steps; // taken
	struct wl_listener client_destroy;
};

/** What is captured; exactly one of them. */
struct source {
	struct output *output;
	struct window *window;
};

static void must(bool ok, const char *what) {
	if (!ok) {
		perror(what);
		abort();
	}
}

static int reopen_sealed(int take_fd, unsigned seals, int open_flags) {
	must(fcntl(take_fd, F_ADD_SEALS, seals) == 0, "F_ADD_SEALS");
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", take_fd);
	int reopened = open(path, open_flags | O_CLOEXEC);
	must(reopened >= 0, "reopen");
	close(take_fd);
	return reopened;
}

int fake_memfd(size_t size, unsigned seals, int open_flags) {
	int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "memfd");
	return reopen_sealed(fd, seals, open_flags);
}

int fake_memfd_with(const void *bytes, size_t size) {
	int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "memfd");
	return reopen_sealed(fd, FAKE_SEALS, O_RDONLY);
}

static void send_frame(struct fake_session *session, uint32_t index, uint32_t serial,
		uint32_t width, uint32_t height) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	xx_dmabuf_view_session_v1_send_frame(session->resource, index, serial,
		(uint32_t)((uint64_t)now.tv_sec >> 32), (uint32_t)now.tv_sec, (uint32_t)now.tv_nsec,
		0, 0, width, height);
}

void fake_say_event(struct fake_session *session, const struct fake_event *event) {
	union wl_argument arguments[9];
	for (size_t i = 0; i < 9; i++) {
		arguments[i].u = event->values[i];
	}
	wl_resource_post_event_array(session->resource, event->opcode, arguments);
}

void fake_say_explanation(struct fake_session *session, const struct fake_event *event) {
	xx_dmabuf_view_session_v1_send_explanation(session->resource, event->text);
}

void fake_say_view(struct fake_session *session, const struct fake_event *event) {
	const struct fake_view *view = &event->view;
	uint32_t storage = view->storage;
	xx_dmabuf_view_session_v1_send_view(session->resource, view->index,
		storage != 0 ? storage : VITRINE_STORAGE_MEMFD,
		view->width != 0 ? view->width : FAKE_WIDTH,
		view->height != 0 ? view->height : FAKE_HEIGHT,
		view->fourcc != 0 ? view->fourcc : DRM_FORMAT_XRGB8888,
		(uint32_t)(view->modifier >> 32), (uint32_t)view->modifier,
		view->guarantee != 0 ? view->guarantee : VITRINE_GUARANTEE_SEALED);
}

static void send_plane(struct fake_session *session, const struct fake_event *event, int take_fd) {
	const struct fake_view *view = &event->view;
	xx_dmabuf_view_session_v1_send_plane(session->resource, view->index, event->values[0],
		take_fd, view->offset, view->stride != 0 ? view->stride : FAKE_WIDTH * 4);
	close(take_fd);
}

void fake_say_plane(struct fake_session *session, const struct fake_event *event) {
	send_plane(session, event, event->make_fd != NULL ? event->make_fd(event) :
		fake_memfd(FAKE_SIZE, FAKE_SEALS, O_RDONLY));
}

void fake_say_announced(struct fake_session *session, const struct fake_event *event) {
	uint32_t index = event->values[0];
	fake_say(session,
		SAY(VIEW(.index = index), PLANE(0, .index = index), EVENT(VIEW_DONE, index)));
}

void fake_say_device(struct fake_session *session, const struct fake_event *event) {
	dev_t device = event->values[2];
	struct wl_array array = { .size = event->values[1], .data = &device };
	xx_dmabuf_view_session_v1_send_device(session->resource, event->values[0], &array);
}

void fake_say_fence(struct fake_session *session, const struct fake_event *event) {
	int fds[2];
	must(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
	close(fds[1]);
	xx_dmabuf_view_session_v1_send_fence(session->resource, fds[0]);
	close(fds[0]);
}

void fake_say_frame(struct fake_session *session, const struct fake_event *event) {
	xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
	send_frame(session, event->values[0], session->next_serial++, 0, 0);
}

void fake_say(struct fake_session *session, const struct fake_event *events) {
	for (; events->say != NULL; events++) {
		events->say(session, events);
	}
}

static void handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

static void session_handle_release(struct wl_client *client, struct wl_resource *resource,
		uint32_t serial) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	must(!session->implicit_release, "no release of what is released by later frames");
	if (session->script->release != NULL) {
		session->script->release(session, serial);
	}
}

static void session_handle_set_guarantees(struct wl_client *client,
		struct wl_resource *resource, uint32_t mask) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->acceptable = mask;
}

static void session_handle_set_storages(struct wl_client *client, struct wl_resource *resource,
		uint32_t mask) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->storages = mask;
}

static void session_handle_add_format(struct wl_client *client, struct wl_resource *resource,
		struct wl_array *device, uint32_t fourcc, uint32_t modifier_hi, uint32_t modifier_lo) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->n_formats++;
	session->n_devices += device->size == sizeof(dev_t);
}

static void session_handle_set_cursors(struct wl_client *client, struct wl_resource *resource,
		uint32_t mode) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->cursors = mode;
}

static void session_handle_set_implicit_release(struct wl_client *client,
		struct wl_resource *resource) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->implicit_release = true;
}

static void session_handle_start(struct wl_client *client, struct wl_resource *resource) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	struct fake *fake = session->fake;
	if (fake->script->remove_output) {
		fake_remove_output(fake, 0);
	}
	if (session->is_gone) {
		fake_say(session, SAY(EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_SOURCE_GONE)));
		return;
	}
	if (fake->script->events != NULL) {
		fake_say(session, fake->script->events);
	}
	if (fake->script->start != NULL) {
		fake->script->start(session);
	}
}

static const struct xx_dmabuf_view_session_v1_interface session_impl = {
	.destroy = handle_destroy,
	.set_guarantees = session_handle_set_guarantees,
	.set_storages = session_handle_set_storages,
	.add_format = session_handle_add_format,
	.set_cursors = session_handle_set_cursors,
	.set_implicit_release = session_handle_set_implicit_release,
	.start = session_handle_start,
	.release = session_handle_release,
};

static void session_handle_resource_destroy(struct wl_resource *resource) {
	struct fake_session *session = wl_resource_get_user_data(resource);
	session->resource = NULL;
	if (session->script->stop != NULL) {
		session->script->stop(session);
	}
	wl_list_remove(&session->link);
	free(session);
}

static const struct ext_image_capture_source_v1_interface source_impl = {
	.destroy = handle_destroy,
};

static void source_handle_resource_destroy(struct wl_resource *resource) {
	free(wl_resource_get_user_data(resource));
}

static void create_source(struct wl_client *client, uint32_t id, struct output *output,
		struct window *window) {
	struct source *source = calloc(1, sizeof(*source));
	struct wl_resource *resource =
		wl_resource_create(client, &ext_image_capture_source_v1_interface, 1, id);
	must(source != NULL && resource != NULL, "source");
	*source = (struct source){ output, window };
	wl_resource_set_implementation(resource, &source_impl, source,
		source_handle_resource_destroy);
}

static void session_look_at(struct fake_session *session, const struct source *source) {
	session->output = source->output != NULL ? source->output->what : NULL;
	session->window = source->window != NULL ? source->window->what : NULL;
	session->is_gone = source->output != NULL ? source->output->global == NULL :
		source->window->is_closed;
	uint32_t width = session->output != NULL ? (uint32_t)session->output->width :
		session->window->width;
	uint32_t height = session->output != NULL ? (uint32_t)session->output->height :
		session->window->height;
	session->width = width != 0 ? width : FAKE_WIDTH;
	session->height = height != 0 ? height : FAKE_HEIGHT;
}

static void manager_handle_create_session(struct wl_client *client, struct wl_resource *resource,
		uint32_t id, struct wl_resource *source) {
	struct fake *fake = wl_resource_get_user_data(resource);
	struct fake_session *session = calloc(1, sizeof(*session));
	must(session != NULL, "calloc");
	session->fake = fake;
	session_look_at(session, wl_resource_get_user_data(source));
	wl_list_insert(&fake->sessions, &session->link);
	session->script = fake->script;
	session->next_serial = 1;
	session->resource = wl_resource_create(client, &xx_dmabuf_view_session_v1_interface, 1, id);
	must(session->resource != NULL, "wl_resource_create");
	wl_resource_set_implementation(session->resource, &session_impl, session,
		session_handle_resource_destroy);
}

static const struct xx_dmabuf_view_manager_v1_interface manager_impl = {
	.destroy = handle_destroy,
	.create_session = manager_handle_create_session,
};

static void manager_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	struct fake *fake = data;
	struct wl_resource *resource =
		wl_resource_create(client, &xx_dmabuf_view_manager_v1_interface, 1, id);
	wl_resource_set_implementation(resource, &manager_impl, fake, NULL);
	uint32_t guarantees = fake->script->guarantees;
	xx_dmabuf_view_manager_v1_send_guarantees(resource,
		guarantees != 0 ? guarantees : VITRINE_GUARANTEE_ALL);
}

static void source_manager_handle_create_source(struct wl_client *client,
		struct wl_resource *resource, uint32_t id, struct wl_resource *output) {
	create_source(client, id, wl_resource_get_user_data(output), NULL);
}

static const struct ext_output_image_capture_source_manager_v1_interface source_manager_impl = {
	.create_source = source_manager_handle_create_source,
	.destroy = handle_destroy,
};

static void source_manager_bind(struct wl_client *client, void *data, uint32_t version,
		uint32_t id) {
	struct wl_resource *resource = wl_resource_create(client,
		&ext_output_image_capture_source_manager_v1_interface, 1, id);
	wl_resource_set_implementation(resource, &source_manager_impl, data, NULL);
}

/* Outputs */

static const struct wl_output_interface output_impl = {
	.release = handle_destroy,
};

static void output_handle_resource_destroy(struct wl_resource *resource) {
	struct output *output = wl_resource_get_user_data(resource);
	output->resource = NULL;
}

static void output_say(const struct output *output) {
	const struct fake_output *what = output->what;
	uint32_t version = (uint32_t)wl_resource_get_version(output->resource);
	// As wlroots does if there is an xdg-output to say where it is
	bool has_place = output->fake->script->xdg_output_version == 0;
	wl_output_send_geometry(output->resource, has_place ? what->x : 0, has_place ? what->y : 0,
		0, 0, 0, "make", "model", what->transform);
	wl_output_send_mode(output->resource, WL_OUTPUT_MODE_CURRENT,
		what->width != 0 ? what->width : FAKE_WIDTH,
		what->height != 0 ? what->height : FAKE_HEIGHT,
		output->fake->script->no_refresh ? 0 : 60000);
	wl_output_send_mode(output->resource, 0, 1, 1, 1); // another one that it could have
	if (version >= WL_OUTPUT_SCALE_SINCE_VERSION) {
		wl_output_send_scale(output->resource, what->scale != 0 ? what->scale : 1);
	}
	if (version >= WL_OUTPUT_DESCRIPTION_SINCE_VERSION) {
		wl_output_send_description(output->resource,
			what->description != NULL ? what->description : "a fake output");
	}
}

static void output_say_done(const struct output *output) {
	if (wl_resource_get_version(output->resource) >= WL_OUTPUT_DONE_SINCE_VERSION) {
		wl_output_send_done(output->resource);
	}
}

static void output_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	struct output *output = data;
	output->resource = wl_resource_create(client, &wl_output_interface, (int)version, id);
	wl_resource_set_implementation(output->resource, &output_impl, output,
		output_handle_resource_destroy);
	if (version >= WL_OUTPUT_NAME_SINCE_VERSION) {
		wl_output_send_name(output->resource,
			output->what->name != NULL ? output->what->name : "FAKE-1");
	}
	output_say(output);
	output_say_done(output);
}

static void output_say_xdg(const struct output *output) {
	const struct fake_output *what = output->what;
	bool is_turned = what->transform & WL_OUTPUT_TRANSFORM_90;
	int32_t width = what->width != 0 ? what->width : FAKE_WIDTH;
	int32_t height = what->height != 0 ? what->height : FAKE_HEIGHT;
	int32_t scale = what->scale != 0 ? what->scale : 1;
	zxdg_output_v1_send_logical_position(output->xdg_resource, what->x, what->y);
	zxdg_output_v1_send_logical_size(output->xdg_resource,
		what->logical_width != 0 ? what->logical_width : (is_turned ? height : width) / scale,
		what->logical_height != 0 ? what->logical_height : (is_turned ? width : height) / scale);
	if (wl_resource_get_version(output->xdg_resource) < 3) {
		zxdg_output_v1_send_done(output->xdg_resource);
	}
}

static const struct zxdg_output_v1_interface xdg_output_impl = {
	.destroy = handle_destroy,
};

static void xdg_output_handle_resource_destroy(struct wl_resource *resource) {
	struct output *output = wl_resource_get_user_data(resource);
	output->xdg_resource = NULL;
}

static void xdg_output_manager_handle_get_xdg_output(struct wl_client *client,
		struct wl_resource *resource, uint32_t id, struct wl_resource *output_resource) {
	struct output *output = wl_resource_get_user_data(output_resource);
	output->xdg_resource = wl_resource_create(client, &zxdg_output_v1_interface,
		wl_resource_get_version(resource), id);
	wl_resource_set_implementation(output->xdg_resource, &xdg_output_impl, output,
		xdg_output_handle_resource_destroy);
	output_say_xdg(output);
	if (wl_resource_get_version(resource) >= 3) {
		output_say_done(output);
	}
}

static const struct zxdg_output_manager_v1_interface xdg_output_manager_impl = {
	.destroy = handle_destroy,
	.get_xdg_output = xdg_output_manager_handle_get_xdg_output,
};

static void xdg_output_manager_bind(struct wl_client *client, void *data, uint32_t version,
		uint32_t id) {
	struct wl_resource *resource =
		wl_resource_create(client, &zxdg_output_manager_v1_interface, (int)version, id);
	wl_resource_set_implementation(resource, &xdg_output_manager_impl, data, NULL);
}

void fake_add_output(struct fake *fake, const struct fake_output *what) {
	must(fake->n_outputs < OUTPUTS_CAP, "too many outputs");
	uint32_t version = fake->script->output_version;
	struct output *output = &fake->outputs[fake->n_outputs++];
	output->fake = fake;
	output->what = what;
	output->global = wl_global_create(fake->display, &wl_output_interface,
		version != 0 ? (int)version : 4, output, output_bind);
	must(output->global != NULL, "wl_global_create");
}

void fake_change_output(struct fake *fake, size_t i, const struct fake_output *what) {
	struct output *output = &fake->outputs[i];
	const struct fake_output *old = output->what;
	output->what = what;
	must(output->resource != NULL, "the output is bound");
	output_say(output);
	if (output->xdg_resource != NULL && (what->x != old->x || what->y != old->y ||
			what->logical_width != old->logical_width ||
			what->logical_height != old->logical_height)) {
		output_say_xdg(output);
	}
	output_say_done(output);
}

void fake_remove_output(struct fake *fake, size_t i) {
	struct output *output = &fake->outputs[i];
	if (output->global != NULL) {
		wl_global_remove(output->global);
		output->global = NULL;
	}
}

/* Windows */

static const struct ext_foreign_toplevel_handle_v1_interface handle_impl = {
	.destroy = handle_destroy,
};

static void handle_handle_resource_destroy(struct wl_resource *resource) {
	struct window *window = wl_resource_get_user_data(resource);
	window->handle = NULL;
}

static void window_say(struct fake *fake, struct window *window) {
	const struct fake_window *what = window->what;
	window->handle = wl_resource_create(wl_resource_get_client(fake->window_list),
		&ext_foreign_toplevel_handle_v1_interface, 1, 0);
	must(window->handle != NULL, "wl_resource_create");
	wl_resource_set_implementation(window->handle, &handle_impl, window,
		handle_handle_resource_destroy);
	ext_foreign_toplevel_list_v1_send_toplevel(fake->window_list, window->handle);
	if (what->title != NULL) {
		ext_foreign_toplevel_handle_v1_send_title(window->handle, what->title);
	}
	if (what->app_id != NULL) {
		ext_foreign_toplevel_handle_v1_send_app_id(window->handle, what->app_id);
	}
	if (what->identifier != NULL) {
		ext_foreign_toplevel_handle_v1_send_identifier(window->handle, what->identifier);
		ext_foreign_toplevel_handle_v1_send_done(window->handle);
	}
}

struct wl_resource *fake_open_window(struct fake *fake, const struct fake_window *what) {
	must(fake->n_windows < WINDOWS_CAP, "too many windows");
	struct window *window = &fake->windows[fake->n_windows++];
	window->what = what;
	if (fake->window_list != NULL) {
		window_say(fake, window);
	}
	return window->handle;
}

struct wl_resource *fake_get_window(struct fake *fake, size_t i) {
	must(fake->windows[i].handle != NULL, "the window has a handle");
	return fake->windows[i].handle;
}

struct wl_resource *fake_get_window_list(struct fake *fake) {
	return fake->window_list;
}

void fake_close_window(struct fake *fake, size_t i) {
	struct window *window = &fake->windows[i];
	window->is_closed = true;
	if (window->handle != NULL) {
		ext_foreign_toplevel_handle_v1_send_closed(window->handle);
	}
	struct fake_session *session;
	wl_list_for_each(session, &fake->sessions, link) {
		if (session->window == window->what && !session->is_gone) {
			session->is_gone = true;
			fake_say(session,
				SAY(EVENT(STOPPED, XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_SOURCE_GONE)));
		}
	}
}

static void window_list_handle_stop(struct wl_client *client, struct wl_resource *resource) {
	ext_foreign_toplevel_list_v1_send_finished(resource);
}

static const struct ext_foreign_toplevel_list_v1_interface window_list_impl = {
	.destroy = handle_destroy,
	.stop = window_list_handle_stop,
};

static void window_list_handle_resource_destroy(struct wl_resource *resource) {
	struct fake *fake = wl_resource_get_user_data(resource);
	fake->window_list = NULL;
}

static void window_list_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	struct fake *fake = data;
	must(fake->window_list == NULL, "the windows are listed once");
	fake->window_list =
		wl_resource_create(client, &ext_foreign_toplevel_list_v1_interface, 1, id);
	wl_resource_set_implementation(fake->window_list, &window_list_impl, fake,
		window_list_handle_resource_destroy);
	for (size_t i = 0; i < fake->n_windows; i++) {
		if (!fake->windows[i].is_closed) {
			window_say(fake, &fake->windows[i]);
		}
	}
}

static void window_source_manager_handle_create_source(struct wl_client *client,
		struct wl_resource *resource, uint32_t id, struct wl_resource *handle) {
	create_source(client, id, NULL, wl_resource_get_user_data(handle));
}

static const struct ext_foreign_toplevel_image_capture_source_manager_v1_interface
		window_source_manager_impl = {
	.create_source = window_source_manager_handle_create_source,
	.destroy = handle_destroy,
};

static void window_source_manager_bind(struct wl_client *client, void *data, uint32_t version,
		uint32_t id) {
	struct wl_resource *resource = wl_resource_create(client,
		&ext_foreign_toplevel_image_capture_source_manager_v1_interface, 1, id);
	wl_resource_set_implementation(resource, &window_source_manager_impl, data, NULL);
}

static int handle_step(int signal, void *data) {
	struct fake *fake = data;
	must(fake->n_steps < 8 && fake->script->steps[fake->n_steps] != NULL, "a step of the script");
	fake->script->steps[fake->n_steps++](fake);
	return 0;
}

static void fake_init_sources(struct fake *fake) {
	const struct fake_script *script = fake->script;
	if (!script->no_source_manager) {
		wl_global_create(fake->display, &ext_output_image_capture_source_manager_v1_interface, 1,
			fake, source_manager_bind);
	}
	if (!script->no_toplevel_sources) {
		wl_global_create(fake->display,
			&ext_foreign_toplevel_image_capture_source_manager_v1_interface, 1, fake,
			window_source_manager_bind);
	}
	if (!script->no_toplevel_list) {
		wl_global_create(fake->display, &ext_foreign_toplevel_list_v1_interface, 1, fake,
			window_list_bind);
	}
	fake->first_output = (struct fake_output){
		.name = script->name, .description = script->description,
		.width = (int32_t)script->width, .height = (int32_t)script->height,
	};
	const struct fake_output *output = script->outputs;
	if (output == NULL) {
		fake_add_output(fake, &fake->first_output);
	}
	for (; output != NULL && output->name != NULL; output++) {
		fake_add_output(fake, output);
	}
	for (const struct fake_window *window = script->windows;
			window != NULL && window->identifier != NULL; window++) {
		fake_open_window(fake, window);
	}
}

static void fake_init(struct fake *fake, const struct fake_script *script) {
	fake->script = script;
	fake->display = wl_display_create();
	must(fake->display != NULL, "wl_display_create");
	wl_list_init(&fake->sessions);
	wl_event_loop_add_signal(wl_display_get_event_loop(fake->display), SIGUSR1, handle_step, fake);
	if (!script->no_manager) {
		wl_global_create(fake->display, &xx_dmabuf_view_manager_v1_interface, 1, fake, manager_bind);
	}
	fake_init_sources(fake);
	// Last, as compositors do not agree on their order
	if (script->xdg_output_version != 0) {
		wl_global_create(fake->display, &zxdg_output_manager_v1_interface,
			(int)script->xdg_output_version, fake, xdg_output_manager_bind);
	}
}

static void handle_client_destroy(struct wl_listener *listener, void *data) {
	struct fake *fake = wl_container_of(listener, fake, client_destroy);
	wl_display_terminate(fake->display);
}

static void fake_run(const struct fake_script *script, int fd) {
	struct fake *fake = calloc(1, sizeof(*fake));
	must(fake != NULL, "calloc");
	fake_init(fake, script);
	struct wl_client *client = wl_client_create(fake->display, fd);
	must(client != NULL, "wl_client_create");
	fake->client_destroy.notify = handle_client_destroy;
	wl_client_add_destroy_listener(client, &fake->client_destroy);
	wl_display_run(fake->display);
	wl_display_destroy(fake->display);
	free(fake);
}

/** Reads until the end of the connection, and answers nothing. */
static void be_mute(int fd) {
	char buffer[4096];
	while (read(fd, buffer, sizeof(buffer)) > 0) {
	}
}

_Noreturn static void run_in_child(const struct fake_script *script, int fd) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	// Else pipes stay open whose end the test waits for
	must(dup2(fd, 3) == 3 && fcntl(3, F_SETFD, FD_CLOEXEC) == 0, "dup2");
	must(close_range(4, ~0u, 0) == 0, "close_range");
	if (script->mute) {
		be_mute(3);
	} else {
		fake_run(script, 3);
	}
	_exit(0);
}

int fake_start(const struct fake_script *script, pid_t *pid) {
	int fds[2];
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
	// It may be told to take a step before it looks
	sigset_t step, old;
	sigemptyset(&step);
	sigaddset(&step, SIGUSR1);
	sigprocmask(SIG_BLOCK, &step, &old);
	*pid = fork();
	must(*pid >= 0, "fork");
	if (*pid == 0) {
		run_in_child(script, fds[1]);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fds[1]);
	return fds[0];
}

void fake_step(pid_t pid) {
	must(kill(pid, SIGUSR1) == 0, "kill");
}

bool fake_wait(pid_t pid) {
	int status;
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define N_BUFFERS 3
#define DEPTH 2

struct fake_animation {
	struct fake_session *session; // NULL after it has ended
	struct wl_event_source *timer;
	uint32_t width, height;
	uint32_t *pixels[N_BUFFERS];
	int fds[N_BUFFERS]; // read-only; -1 once announced
	uint32_t serials[N_BUFFERS]; // of the frame that is held, 0 if none
	uint32_t n_frames;
	bool transform_sent;
};

static struct fake_animation *animation_create(struct fake_session *session) {
	struct fake_animation *animation = calloc(1, sizeof(*animation));
	must(animation != NULL, "calloc");
	animation->session = session;
	animation->width = session->width;
	animation->height = session->height;
	size_t size = (size_t)animation->width * animation->height * 4;
	for (int i = 0; i < N_BUFFERS; i++) {
		int fd = vitrine_memfd_create(size);
		must(fd >= 0, "memfd");
		animation->pixels[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		must(animation->pixels[i] != MAP_FAILED, "mmap");
		animation->fds[i] = reopen_sealed(fd, FAKE_SEALS, O_RDONLY);
	}
	return animation;
}

/** Red grows to the right, green downwards, blue by time. */
static void animation_draw(struct fake_animation *animation, uint32_t *pixels) {
	uint32_t width = animation->width, height = animation->height;
	for (uint32_t y = 0; y < height; y++) {
		for (uint32_t x = 0; x < width; x++) {
			pixels[(size_t)y * width + x] = (x * 255 / width) << 16 | (y * 255 / height) << 8 |
				(animation->n_frames * 4 & 0xff);
		}
	}
}

static int animation_find_buffer(const struct fake_animation *animation) {
	if (animation->session->implicit_release) {
		return (int)(animation->n_frames % N_BUFFERS); // the two before stay as they are
	}
	int n_held = 0, found = -1;
	for (int i = 0; i < N_BUFFERS; i++) {
		n_held += animation->serials[i] != 0;
		if (animation->serials[i] == 0) {
			found = i;
		}
	}
	return n_held < DEPTH ? found : -1;
}

static void animation_announce(struct fake_animation *animation, int i) {
	const struct fake_event event = {
		.view = {
			.index = (uint32_t)i,
			.width = animation->width,
			.height = animation->height,
			.stride = animation->width * 4,
			.guarantee = animation->session->acceptable & VITRINE_GUARANTEE_SEALED ?
				VITRINE_GUARANTEE_SEALED : VITRINE_GUARANTEE_SNAPSHOT,
		},
	};
	fake_say_view(animation->session, &event);
	send_plane(animation->session, &event, animation->fds[i]);
	xx_dmabuf_view_session_v1_send_view_done(animation->session->resource, (uint32_t)i);
	animation->fds[i] = -1;
}

static void animation_show(struct fake_animation *animation) {
	struct fake_session *session = animation->session;
	int i = animation_find_buffer(animation);
	if (i < 0) {
		session->next_serial++; // missed
		return;
	}
	animation_draw(animation, animation->pixels[i]);
	if (animation->fds[i] >= 0) {
		animation_announce(animation, i);
	}
	if (!animation->transform_sent) {
		xx_dmabuf_view_session_v1_send_transform(session->resource, 0);
		animation->transform_sent = true;
	}
	animation->serials[i] = session->next_serial++;
	send_frame(session, (uint32_t)i, animation->serials[i], animation->width,
		animation->height);
}

static int animation_handle_timer(void *data) {
	struct fake_animation *animation = data;
	animation->n_frames++;
	wl_event_source_timer_update(animation->timer, 16);
	if (animation->session != NULL) {
		animation_show(animation);
	}
	for (int i = 0; i < N_BUFFERS && animation->session == NULL; i++) {
		animation_draw(animation, animation->pixels[i]);
	}
	return 0;
}

static void animation_start(struct fake_session *session) {
	struct fake_animation *animation = animation_create(session);
	session->animation = animation;
	xx_dmabuf_view_session_v1_send_depth(session->resource, DEPTH);
	animation->timer = wl_event_loop_add_timer(wl_display_get_event_loop(session->fake->display),
		animation_handle_timer, animation);
	animation_handle_timer(animation);
}

static void animation_release(struct fake_session *session, uint32_t serial) {
	for (int i = 0; i < N_BUFFERS; i++) {
		if (session->animation->serials[i] == serial) {
			session->animation->serials[i] = 0;
		}
	}
}

static void animation_stop(struct fake_session *session) {
	struct fake_animation *animation = session->animation;
	wl_event_source_remove(animation->timer);
	for (int i = 0; i < N_BUFFERS; i++) {
		munmap(animation->pixels[i], (size_t)animation->width * animation->height * 4);
		if (animation->fds[i] >= 0) {
			close(animation->fds[i]);
		}
	}
	free(animation);
}

static void animation_stop_but_go_on(struct fake_session *session) {
	session->animation->session = NULL;
}

#define ANIMATION .start = animation_start, .release = animation_release, \
	.guarantees = VITRINE_GUARANTEE_SEALED | VITRINE_GUARANTEE_SNAPSHOT, \
	.width = 320, .height = 200

const struct fake_script fake_animation = { ANIMATION, .stop = animation_stop };

const struct fake_script fake_animation_that_leaks = {
	ANIMATION,
	.stop = animation_stop_but_go_on,
};
