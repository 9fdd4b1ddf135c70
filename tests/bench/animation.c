/* SPDX-License-Identifier: MIT */
/**
 * A window of which every pixel changes with each frame: usage: animation WARM FRAMES
 *
 * Prints a line when the compositor has asked for WARM frames, and another one after FRAMES
 * more, and then stands still.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wayland.h"
#include "xdg-shell-client-protocol.h"

#define N_BUFFERS 3

struct buffer {
	struct wl_buffer *buffer;
	bool busy;
};

static struct {
	struct wl_compositor *compositor;
	struct wl_shm *shm;
	struct xdg_wm_base *wm_base;
	struct wl_surface *surface;
	struct buffer buffers[N_BUFFERS]; // each of one colour, drawn once: this costs no time
	int width, height;
	long warm, last;
	long n_frames; // that the compositor asked for
	bool owes_frame; // it has asked, and no buffer was free
	bool closed;
} state;

static void paint(void);

static void handle_release(void *data, struct wl_buffer *wl_buffer) {
	struct buffer *buffer = data;
	buffer->busy = false;
	if (state.owes_frame) {
		paint();
	}
}

static const struct wl_buffer_listener buffer_listener = {
	.release = handle_release,
};

static void handle_frame_done(void *data, struct wl_callback *callback, uint32_t time) {
	wl_callback_destroy(callback);
	state.n_frames++;
	if (state.n_frames == state.warm || state.n_frames == state.last) {
		printf("%ld\n", state.n_frames);
	}
	if (state.n_frames < state.last) {
		paint();
	}
}

static const struct wl_callback_listener frame_listener = {
	.done = handle_frame_done,
};

static struct buffer *find_free_buffer(void) {
	for (size_t i = 0; i < N_BUFFERS; i++) {
		struct buffer *buffer = &state.buffers[i];
		if (!buffer->busy) {
			return buffer;
		}
	}
	return NULL;
}

static void paint(void) {
	struct buffer *buffer = find_free_buffer();
	state.owes_frame = buffer == NULL;
	if (state.owes_frame) {
		return;
	}
	buffer->busy = true;
	wl_surface_attach(state.surface, buffer->buffer, 0, 0);
	wl_surface_damage(state.surface, 0, 0, state.width, state.height);
	wl_callback_add_listener(wl_surface_frame(state.surface), &frame_listener, NULL);
	wl_surface_commit(state.surface);
}

static void create_buffers(void) {
	const size_t stride = (size_t)state.width * 4, size = stride * (size_t)state.height;
	int fd = memfd_create("animation", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)(size * N_BUFFERS)) < 0) {
		die("memfd: %s", strerror(errno));
	}
	uint8_t *pixels =
		mmap(NULL, size * N_BUFFERS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (pixels == MAP_FAILED) {
		die("mmap: %s", strerror(errno));
	}
	struct wl_shm_pool *pool = wl_shm_create_pool(state.shm, fd, (int32_t)(size * N_BUFFERS));
	for (size_t i = 0; i < N_BUFFERS; i++) {
		memset(pixels + i * size, (int)(0x40 * (i + 1)), size);
		struct buffer *buffer = &state.buffers[i];
		buffer->buffer = wl_shm_pool_create_buffer(pool, (int32_t)(i * size), state.width,
			state.height, (int32_t)stride, WL_SHM_FORMAT_XRGB8888);
		wl_buffer_add_listener(buffer->buffer, &buffer_listener, buffer);
	}
	wl_shm_pool_destroy(pool);
	close(fd);
}

static void handle_surface_configure(void *data, struct xdg_surface *xdg_surface,
		uint32_t serial) {
	xdg_surface_ack_configure(xdg_surface, serial);
	if (state.buffers[0].buffer == NULL) {
		create_buffers();
		paint();
	} else {
		wl_surface_commit(state.surface); // the size stays
	}
}

static const struct xdg_surface_listener surface_listener = {
	.configure = handle_surface_configure,
};

static void handle_toplevel_configure(void *data, struct xdg_toplevel *toplevel, int32_t width,
		int32_t height, struct wl_array *states) {
	if (state.width == 0) {
		state.width = width > 0 ? width : 640;
		state.height = height > 0 ? height : 480;
	}
}

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

static void create_window(void) {
	state.surface = wl_compositor_create_surface(state.compositor);
	struct xdg_surface *xdg_surface =
		xdg_wm_base_get_xdg_surface(state.wm_base, state.surface);
	xdg_surface_add_listener(xdg_surface, &surface_listener, NULL);
	struct xdg_toplevel *toplevel = xdg_surface_get_toplevel(xdg_surface);
	xdg_toplevel_add_listener(toplevel, &toplevel_listener, NULL);
	xdg_toplevel_set_app_id(toplevel, "animation");
	wl_surface_commit(state.surface);
}

int main(int argc, char *argv[]) {
	if (argc == 3) {
		state.warm = strtol(argv[1], NULL, 10);
		state.last = state.warm + strtol(argv[2], NULL, 10);
	}
	if (state.warm < 1 || state.last <= state.warm) {
		die("usage: animation WARM FRAMES");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct wl_display *display = wayland_connect();
	wayland_bind(display, EXIT_FAILURE, (struct wayland_global[]){
		{ &wl_compositor_interface, 1, &state.compositor },
		{ &wl_shm_interface, 1, &state.shm },
		{ &xdg_wm_base_interface, 1, &state.wm_base },
		{ 0 } });
	xdg_wm_base_add_listener(state.wm_base, &wm_base_listener, NULL);
	create_window();
	while (!state.closed && wl_display_dispatch(display) >= 0) {
	}
	wl_display_disconnect(display);
	return EXIT_SUCCESS;
}
