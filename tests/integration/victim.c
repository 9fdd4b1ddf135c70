/* SPDX-License-Identifier: MIT */
/*
 * victim SIGNAL N: a client that says and hears all that the protocol has, in a session, a
 * second one and two views of its own buffers. At the N-th step of it, which is a request
 * that has been sent or an event that has come, it sends itself the signal. It tells its
 * steps on stdout, a line each, and asks there for what makes the next events come.
 */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <wayland-client.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "wayland.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

enum { WIDTH = 16, HEIGHT = 16 };

static struct {
	struct wl_display *display;
	struct wl_output *output;
	struct xx_dmabuf_view_manager_v1 *manager;
	struct ext_output_image_capture_source_manager_v1 *sources;
	struct zwp_linux_dmabuf_v1 *linux_dmabuf;
	int signal;
	unsigned steps_left;
	bool releases; // frames that come, rather than those that are revoked
	bool is_implicit; // neither
	uint32_t held[16];
	unsigned n_held;
	unsigned n_frames, n_damage, n_revoked, n_retired, n_off, n_on, n_stopped, n_answers, n_guarantees;
} victim;

static void tell(const char *what, const char *interface, const char *name) {
	char line[128];
	const char *assigned = strrchr(interface, ' '); // "session = INTERFACE"
	int len = snprintf(line, sizeof(line), "%s %s.%s\n", what,
		assigned != NULL ? assigned + 1 : interface, name);
	if (write(STDOUT_FILENO, line, (size_t)len) != len) {
		die("cannot tell what it does");
	}
}

static void take_step(const char *what, const char *interface, const char *name) {
	tell(what, interface, name);
	if (--victim.steps_left == 0) {
		raise(victim.signal);
	}
}

/** What has been sent is in the socket when the step is taken. */
#define REQUEST(interface, name, ...) \
	do { \
		interface##_##name(__VA_ARGS__); \
		wl_display_flush(victim.display); \
		take_step("request", #interface, #name); \
	} while (0)

static void count_event(const char *interface, const char *name, const union wl_argument *args) {
	const struct {
		const char *interface, *name;
		unsigned *count;
	} counted[] = {
		{ "session", "frame", &victim.n_frames }, { "session", "damage", &victim.n_damage },
		{ "session", "revoked", &victim.n_revoked },
		{ "session", "retired", &victim.n_retired }, { "session", "off", &victim.n_off },
		{ "session", "on", &victim.n_on }, { "session", "stopped", &victim.n_stopped },
		{ "view_v1", "done", &victim.n_answers }, { "view_v1", "failed", &victim.n_answers },
		{ "manager", "guarantees", &victim.n_guarantees },
	};
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
		if (strstr(interface, counted[i].interface) && strcmp(name, counted[i].name) == 0) {
			++*counted[i].count;
		}
	}
}

/** If it is held: a release and an event that revokes it may cross. */
static void release_frame(void *session, uint32_t serial) {
	for (unsigned i = 0; i < victim.n_held; i++) {
		if (victim.held[i] == serial) {
			victim.held[i] = victim.held[--victim.n_held];
			REQUEST(xx_dmabuf_view_session_v1, release, session, serial);
			return;
		}
	}
}

static void hold_or_release(void *session, const char *name, const union wl_argument *args) {
	bool is_frame = strcmp(name, "frame") == 0;
	if (victim.is_implicit || !(is_frame || strcmp(name, "revoked") == 0)) {
		return;
	}
	if (is_frame) {
		victim.held[victim.n_held++ % 16] = args[1].u;
	}
	if (!is_frame || victim.releases) {
		release_frame(session, is_frame ? args[1].u : args[0].u);
	}
}

/** Any event of any object of the protocol. */
static int handle_event(const void *data, void *target, uint32_t opcode,
		const struct wl_message *message, union wl_argument *args) {
	const char *interface = wl_proxy_get_class(target);
	const char *type = strchr(message->signature, 'h');
	if (type != NULL) {
		close(args[type - message->signature].h); // no digits before: since version 1
	}
	count_event(interface, message->name, args);
	take_step("event", interface, message->name);
	hold_or_release(target, message->name, args);
	return 0;
}

#define LISTEN(proxy) \
	wl_proxy_add_dispatcher((struct wl_proxy *)(proxy), handle_event, NULL, NULL)

#define WAIT_UNTIL(condition) \
	while (!(condition)) { \
		if (wl_display_dispatch(victim.display) < 0) { \
			die("the compositor hung up while waiting for %s", #condition); \
		} \
	}

/** A buffer that looks like a dma-buf to whoever does not ask the kernel. */
static struct wl_buffer *create_buffer(void) {
	int fd = memfd_create("victim", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, WIDTH * HEIGHT * 4) < 0) {
		die("no memory");
	}
	struct zwp_linux_buffer_params_v1 *params =
		zwp_linux_dmabuf_v1_create_params(victim.linux_dmabuf);
	zwp_linux_buffer_params_v1_add(params, fd, 0, 0, WIDTH * 4, 0, 0);
	struct wl_buffer *buffer = zwp_linux_buffer_params_v1_create_immed(params, WIDTH, HEIGHT,
		DRM_FORMAT_XRGB8888, 0);
	zwp_linux_buffer_params_v1_destroy(params);
	close(fd);
	return buffer;
}

static struct wl_array *no_device(void) {
	static struct wl_array array;
	return &array;
}

static void look_at_buffer(void) {
	struct xx_dmabuf_view_v1 *view = NULL;
	struct wl_buffer *buffer = create_buffer();
	unsigned n_answers = victim.n_answers;
	REQUEST(view = xx_dmabuf_view_manager_v1, get_buffer_view, victim.manager, buffer);
	LISTEN(view);
	REQUEST(xx_dmabuf_view_v1, set_guarantees, view, VITRINE_GUARANTEE_ALL);
	REQUEST(xx_dmabuf_view_v1, set_storages, view, VITRINE_STORAGE_CPU);
	REQUEST(xx_dmabuf_view_v1, add_format, view, no_device(), DRM_FORMAT_XRGB8888, 0, 0);
	REQUEST(xx_dmabuf_view_v1, start, view);
	WAIT_UNTIL(victim.n_answers > n_answers);
	REQUEST(xx_dmabuf_view_v1, destroy, view);
	wl_buffer_destroy(buffer);
}

static struct xx_dmabuf_view_session_v1 *start_session(bool implicit_release) {
	struct ext_image_capture_source_v1 *source =
		ext_output_image_capture_source_manager_v1_create_source(victim.sources, victim.output);
	struct xx_dmabuf_view_session_v1 *session = NULL;
	REQUEST(session = xx_dmabuf_view_manager_v1, create_session, victim.manager, source);
	LISTEN(session);
	REQUEST(xx_dmabuf_view_session_v1, set_guarantees, session, VITRINE_GUARANTEE_ALL);
	REQUEST(xx_dmabuf_view_session_v1, set_storages, session, VITRINE_STORAGE_CPU);
	REQUEST(xx_dmabuf_view_session_v1, add_format, session, no_device(), DRM_FORMAT_XRGB8888,
		0, 0);
	REQUEST(xx_dmabuf_view_session_v1, set_cursors, session,
		XX_DMABUF_VIEW_SESSION_V1_CURSORS_PAINTED);
	victim.is_implicit = implicit_release;
	if (implicit_release) {
		REQUEST(xx_dmabuf_view_session_v1, set_implicit_release, session);
	}
	REQUEST(xx_dmabuf_view_session_v1, start, session);
	ext_image_capture_source_v1_destroy(source);
	unsigned n_frames = victim.n_frames;
	WAIT_UNTIL(victim.n_frames > n_frames);
	return session;
}

static void watch_output(void) {
	struct xx_dmabuf_view_session_v1 *session = start_session(false);
	// It comes with a frame after some that were missed
	WAIT_UNTIL(victim.n_revoked > 0 && victim.n_damage > 0);
	victim.releases = true;
	while (victim.n_held > 0) {
		release_frame(session, victim.held[0]);
	}
	tell("please", "output", "off");
	WAIT_UNTIL(victim.n_off > 0);
	tell("please", "output", "on");
	WAIT_UNTIL(victim.n_on > 0);
	unsigned n_frames = victim.n_frames; // in a view that another one can retire
	WAIT_UNTIL(victim.n_frames > n_frames);
	tell("please", "others", "end");
	WAIT_UNTIL(victim.n_retired > 0);
	tell("please", "session", "stop");
	WAIT_UNTIL(victim.n_stopped > 0);
	REQUEST(xx_dmabuf_view_session_v1, destroy, session);
}

int main(int argc, char *argv[]) {
	if (argc != 3) {
		die("usage: victim SIGNAL N");
	}
	victim.signal = atoi(argv[1]);
	victim.steps_left = (unsigned)atoi(argv[2]);
	victim.display = wayland_connect();
	wayland_bind(victim.display, EXIT_FAILURE, (struct wayland_global[]){
		{ &xx_dmabuf_view_manager_v1_interface, 1, &victim.manager, 0, 0 },
		{ &ext_output_image_capture_source_manager_v1_interface, 1, &victim.sources, 0, 0 },
		{ &wl_output_interface, 4, &victim.output, 0, 0 },
		{ &zwp_linux_dmabuf_v1_interface, 3, &victim.linux_dmabuf, 0, 0 },
		{0},
	});
	LISTEN(victim.manager);
	WAIT_UNTIL(victim.n_guarantees > 0);
	watch_output();
	REQUEST(xx_dmabuf_view_session_v1, destroy, start_session(true));
	look_at_buffer();
	REQUEST(xx_dmabuf_view_manager_v1, destroy, victim.manager);
	wl_display_disconnect(victim.display);
	return 0;
}
