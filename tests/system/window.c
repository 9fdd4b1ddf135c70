/* SPDX-License-Identifier: MIT */
/**
 * A window that is painted anew so many times a second, shown or not: usage: window RATE APP-ID
 *
 * Prints a line whenever the compositor says that it has shown a picture.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "wayland.h"
#include "xdg-shell-client-protocol.h"

#define SIZE 64

static struct {
	struct wl_compositor *compositor;
	struct wl_shm *shm;
	struct xdg_wm_base *wm_base;
	struct wl_surface *surface;
	struct wl_buffer *buffer;
	uint32_t *pixels;
	uint32_t n_painted;
	struct wl_callback *frame; // NULL if it is not awaited
	bool configured, closed;
} state;

static void handle_frame_done(void *data, struct wl_callback *frame, uint32_t time) {
	wl_callback_destroy(frame);
	state.frame = NULL;
	printf("shown\n");
}

static const struct wl_callback_listener frame_listener = {
	.done = handle_frame_done,
};

/** The buffer is not waited for either: torn pictures differ just as well. */
static void paint(void) {
	state.n_painted++;
	for (size_t i = 0; i < SIZE * SIZE; i++) {
		state.pixels[i] = state.n_painted * 0x010305;
	}
	wl_surface_attach(state.surface, state.buffer, 0, 0);
	wl_surface_damage(state.surface, 0, 0, SIZE, SIZE);
	if (state.frame == NULL) {
		state.frame = wl_surface_frame(state.surface);
		wl_callback_add_listener(state.frame, &frame_listener, NULL);
	}
	wl_surface_commit(state.surface);
}

static void handle_surface_configure(void *data, struct xdg_surface *xdg_surface,
		uint32_t serial) {
	xdg_surface_ack_configure(xdg_surface, serial);
	state.configured = true;
}

static const struct xdg_surface_listener surface_listener = {
	.configure = handle_surface_configure,
};

IGNORE_EVENT(handle_toplevel_configure, struct xdg_toplevel *toplevel, int32_t width,
	int32_t height, struct wl_array *states)

static void handle_toplevel_close(void *data, struct xdg_toplevel *toplevel) {
	state.closed = true;
}

static const struct xdg_toplevel_listener toplevel_listener = {
	.configure = handle_toplevel_configure,
	.close = handle_toplevel_close,
};

static void handle_ping(void *data, struct xdg_wm_base *wm_base, uint32_t serial) {
	xdg_wm_base_pong(wm_base, serial);
}

static const struct xdg_wm_base_listener wm_base_listener = {
	.ping = handle_ping,
};

static void create_buffer(void) {
	const size_t size = SIZE * SIZE * 4;
	int fd = memfd_create("window", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
		die("memfd: %s", strerror(errno));
	}
	state.pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (state.pixels == MAP_FAILED) {
		die("mmap: %s", strerror(errno));
	}
	struct wl_shm_pool *pool = wl_shm_create_pool(state.shm, fd, (int32_t)size);
	state.buffer = wl_shm_pool_create_buffer(pool, 0, SIZE, SIZE, SIZE * 4,
		WL_SHM_FORMAT_XRGB8888);
	wl_shm_pool_destroy(pool);
	close(fd);
}

static void create_window(const char *app_id) {
	state.surface = wl_compositor_create_surface(state.compositor);
	struct xdg_surface *xdg_surface =
		xdg_wm_base_get_xdg_surface(state.wm_base, state.surface);
	xdg_surface_add_listener(xdg_surface, &surface_listener, NULL);
	struct xdg_toplevel *toplevel = xdg_surface_get_toplevel(xdg_surface);
	xdg_toplevel_add_listener(toplevel, &toplevel_listener, NULL);
	xdg_toplevel_set_app_id(toplevel, app_id);
	wl_surface_commit(state.surface);
}

static int create_timer(long rate) {
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	const struct timespec interval = { .tv_nsec = 1000000000 / rate };
	const struct itimerspec spec = { .it_interval = interval, .it_value = interval };
	if (fd < 0 || timerfd_settime(fd, 0, &spec, NULL) != 0) {
		die("timerfd: %s", strerror(errno));
	}
	return fd;
}

static void run(struct wl_display *display, int timer_fd) {
	struct pollfd fds[] = {
		{ .fd = wl_display_get_fd(display), .events = POLLIN },
		{ .fd = timer_fd, .events = POLLIN },
	};
	while (!state.closed) {
		uint64_t expirations;
		if (wl_display_dispatch_pending(display) < 0 || wl_display_flush(display) < 0 ||
				poll(fds, 2, -1) < 0 ||
				(fds[0].revents != 0 && wl_display_dispatch(display) < 0)) {
			die("lost the connection: %s", strerror(errno));
		}
		if (fds[1].revents != 0 &&
				read(timer_fd, &expirations, sizeof(expirations)) > 0 && state.configured) {
			paint();
		}
	}
}

int main(int argc, char *argv[]) {
	long rate = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
	if (rate < 2) {
		die("usage: window RATE APP-ID");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct wl_display *display = wayland_connect();
	wayland_bind(display, EXIT_FAILURE, (struct wayland_global[]){
		{ &wl_compositor_interface, 1, &state.compositor },
		{ &wl_shm_interface, 1, &state.shm },
		{ &xdg_wm_base_interface, 1, &state.wm_base },
		{ 0 } });
	xdg_wm_base_add_listener(state.wm_base, &wm_base_listener, NULL);
	create_buffer();
	create_window(argv[2]);
	int timer_fd = create_timer(rate);
	run(display, timer_fd);
	close(timer_fd);
	wl_display_disconnect(display);
	return EXIT_SUCCESS;
}
