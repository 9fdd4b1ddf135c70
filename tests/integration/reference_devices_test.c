/* SPDX-License-Identifier: MIT */
/**
 * vitrine-compositor with devices: which window is where, and which one gets the input. The
 * compositor and its client are in one thread; pointer and keyboard are the test's own.
 */
#include <linux/input-event-codes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wayland-client-protocol.h>
#include <wlr/backend.h>
#include <wlr/interfaces/wlr_keyboard.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/interfaces/wlr_pointer.h>
#include <wlr/types/wlr_ext_foreign_toplevel_list_v1.h>

#include "harness.h"
#include "server.h"
#include "wayland.h"
#include "xdg-decoration-unstable-v1-client-protocol.h"
#include "xdg-shell-client-protocol.h"

#define WINDOWS_CAP 3
#define WIDTH 400
#define HEIGHT 200
#define GAP 12

struct window {
	struct desk *desk;
	struct wl_surface *surface; // NULL for none
	struct xdg_surface *xdg_surface;
	struct xdg_toplevel *toplevel; // NULL for a popup
	struct xdg_popup *popup;
	int32_t x, y; // of a popup
	int32_t width, height; // as configured last
	bool activated, fullscreen;
};

struct desk {
	struct server_options options;
	struct output_mode modes[2];
	struct server server;
	struct wlr_pointer pointer_device;
	struct wlr_keyboard keyboard_device;

	struct wl_display *display;
	struct wl_compositor *compositor;
	struct wl_shm *shm;
	struct wl_seat *seat;
	struct wl_data_device_manager *data_devices;
	struct xdg_wm_base *wm_base;
	struct zxdg_decoration_manager_v1 *decorations;
	struct wl_pointer *pointer;
	struct wl_keyboard *keyboard;
	struct wl_data_device *data_device;
	struct window windows[WINDOWS_CAP];

	// What came last
	struct wl_surface *pointed, *focused; // NULL for none
	double x, y;
	uint32_t button, button_state, button_serial, key, key_state, modifiers;
	double scrolled;
	uint32_t n_frames, n_selections, n_drags;
	bool selection_is_there;
};

struct desk_options {
	size_t n_outputs; // 0 for 1
};

/** Handles everything that can be handled without waiting. */
static void desk_pump(struct desk *f) {
	wl_display_flush(f->display);
	wl_event_loop_dispatch(wl_display_get_event_loop(f->server.display), 1);
	wl_display_flush_clients(f->server.display);
	while (wl_display_prepare_read(f->display) != 0) {
		wl_display_dispatch_pending(f->display);
	}
	struct pollfd fd = { .fd = wl_display_get_fd(f->display), .events = POLLIN };
	if (poll(&fd, 1, 0) > 0) {
		wl_display_read_events(f->display);
	} else {
		wl_display_cancel_read(f->display);
	}
	check(wl_display_dispatch_pending(f->display) >= 0);
}

static void sync_handle_done(void *data, struct wl_callback *callback, uint32_t serial) {
	*(bool *)data = true;
	wl_callback_destroy(callback);
}

static void desk_roundtrip(struct desk *f) {
	static const struct wl_callback_listener listener = { .done = sync_handle_done };
	bool done = false;
	wl_callback_add_listener(wl_display_sync(f->display), &listener, &done);
	while (!done) {
		desk_pump(f);
	}
}

/* The client's pointer and keyboard */

static void pointer_handle_enter(void *data, struct wl_pointer *pointer, uint32_t serial,
		struct wl_surface *surface, wl_fixed_t x, wl_fixed_t y) {
	struct desk *f = data;
	f->pointed = surface;
	f->x = wl_fixed_to_double(x);
	f->y = wl_fixed_to_double(y);
}

static void pointer_handle_leave(void *data, struct wl_pointer *pointer, uint32_t serial,
		struct wl_surface *surface) {
	((struct desk *)data)->pointed = NULL;
}

static void pointer_handle_motion(void *data, struct wl_pointer *pointer, uint32_t time,
		wl_fixed_t x, wl_fixed_t y) {
	struct desk *f = data;
	f->x = wl_fixed_to_double(x);
	f->y = wl_fixed_to_double(y);
}

static void pointer_handle_button(void *data, struct wl_pointer *pointer, uint32_t serial,
		uint32_t time, uint32_t button, uint32_t button_state) {
	struct desk *f = data;
	f->button = button;
	f->button_state = button_state;
	f->button_serial = serial;
}

static void pointer_handle_axis(void *data, struct wl_pointer *pointer, uint32_t time,
		uint32_t axis, wl_fixed_t value) {
	if (axis == WL_POINTER_AXIS_VERTICAL_SCROLL) {
		((struct desk *)data)->scrolled += wl_fixed_to_double(value);
	}
}

static void pointer_handle_frame(void *data, struct wl_pointer *pointer) {
	((struct desk *)data)->n_frames++;
}

IGNORE_EVENT(pointer_handle_axis_source, struct wl_pointer *pointer, uint32_t source)
IGNORE_EVENT(pointer_handle_axis_stop, struct wl_pointer *pointer, uint32_t time, uint32_t axis)
IGNORE_EVENT(pointer_handle_axis_discrete, struct wl_pointer *pointer, uint32_t axis,
	int32_t discrete)

static const struct wl_pointer_listener pointer_listener = {
	.enter = pointer_handle_enter, .leave = pointer_handle_leave,
	.motion = pointer_handle_motion, .button = pointer_handle_button,
	.axis = pointer_handle_axis, .frame = pointer_handle_frame,
	.axis_source = pointer_handle_axis_source, .axis_stop = pointer_handle_axis_stop,
	.axis_discrete = pointer_handle_axis_discrete,
};

static void keyboard_handle_keymap(void *data, struct wl_keyboard *keyboard, uint32_t format,
		int32_t fd, uint32_t size) {
	check_int(format, ==, WL_KEYBOARD_KEYMAP_FORMAT_XKB_V1);
	close(fd);
}

static void keyboard_handle_enter(void *data, struct wl_keyboard *keyboard, uint32_t serial,
		struct wl_surface *surface, struct wl_array *keys) {
	((struct desk *)data)->focused = surface;
}

static void keyboard_handle_leave(void *data, struct wl_keyboard *keyboard, uint32_t serial,
		struct wl_surface *surface) {
	((struct desk *)data)->focused = NULL;
}

static void keyboard_handle_key(void *data, struct wl_keyboard *keyboard, uint32_t serial,
		uint32_t time, uint32_t key, uint32_t key_state) {
	struct desk *f = data;
	f->key = key;
	f->key_state = key_state;
}

static void keyboard_handle_modifiers(void *data, struct wl_keyboard *keyboard, uint32_t serial,
		uint32_t depressed, uint32_t latched, uint32_t locked, uint32_t group) {
	((struct desk *)data)->modifiers = depressed;
}

IGNORE_EVENT(keyboard_handle_repeat, struct wl_keyboard *keyboard, int32_t rate, int32_t delay)

static const struct wl_keyboard_listener keyboard_listener = {
	.keymap = keyboard_handle_keymap, .enter = keyboard_handle_enter,
	.leave = keyboard_handle_leave, .key = keyboard_handle_key,
	.modifiers = keyboard_handle_modifiers, .repeat_info = keyboard_handle_repeat,
};

static void data_device_handle_offer(void *data, struct wl_data_device *device,
		struct wl_data_offer *offer) {
	wl_proxy_set_user_data((struct wl_proxy *)offer, data);
}

static void data_device_handle_enter(void *data, struct wl_data_device *device, uint32_t serial,
		struct wl_surface *surface, wl_fixed_t x, wl_fixed_t y, struct wl_data_offer *offer) {
	((struct desk *)data)->n_drags++;
	wl_data_offer_destroy(offer);
}

static void data_device_handle_selection(void *data, struct wl_data_device *device,
		struct wl_data_offer *offer) {
	struct desk *f = data;
	f->n_selections++;
	f->selection_is_there = offer != NULL;
	if (offer != NULL) {
		wl_data_offer_destroy(offer);
	}
}

IGNORE_EVENT(data_device_handle_leave, struct wl_data_device *device)
IGNORE_EVENT(data_device_handle_motion, struct wl_data_device *device, uint32_t time,
	wl_fixed_t x, wl_fixed_t y)
IGNORE_EVENT(data_device_handle_drop, struct wl_data_device *device)

static const struct wl_data_device_listener data_device_listener = {
	.data_offer = data_device_handle_offer, .enter = data_device_handle_enter,
	.leave = data_device_handle_leave, .motion = data_device_handle_motion,
	.drop = data_device_handle_drop, .selection = data_device_handle_selection,
};

/* The client */

static void desk_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct desk *f = data;
	const struct wayland_global globals[] = {
		{ &wl_compositor_interface, 4, &f->compositor }, { &wl_shm_interface, 1, &f->shm },
		{ &wl_seat_interface, 5, &f->seat },
		{ &wl_data_device_manager_interface, 3, &f->data_devices },
		{ &xdg_wm_base_interface, 3, &f->wm_base },
		{ &zxdg_decoration_manager_v1_interface, 1, &f->decorations },
	};
	for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++) {
		if (strcmp(interface, globals[i].interface->name) == 0) {
			*(void **)globals[i].target = wl_registry_bind(registry, name,
				globals[i].interface, globals[i].version);
		}
	}
}

IGNORE_EVENT(desk_handle_global_remove, struct wl_registry *registry, uint32_t name)

static void desk_connect(struct desk *f) {
	static const struct wl_registry_listener listener = {
		.global = desk_handle_global, .global_remove = desk_handle_global_remove,
	};
	int fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	check(wl_client_create(f->server.display, fds[0]) != NULL);
	f->display = wl_display_connect_to_fd(fds[1]);
	check(f->display != NULL);
	struct wl_registry *registry = wl_display_get_registry(f->display);
	wl_registry_add_listener(registry, &listener, f);
	desk_roundtrip(f);
	wl_registry_destroy(registry);
	check(f->seat != NULL && f->data_devices != NULL && f->decorations != NULL);
	f->pointer = wl_seat_get_pointer(f->seat);
	wl_pointer_add_listener(f->pointer, &pointer_listener, f);
	f->keyboard = wl_seat_get_keyboard(f->seat);
	wl_keyboard_add_listener(f->keyboard, &keyboard_listener, f);
	f->data_device = wl_data_device_manager_get_data_device(f->data_devices, f->seat);
	wl_data_device_add_listener(f->data_device, &data_device_listener, f);
	desk_roundtrip(f);
}

/** wlroots keeps the source of its tokens, which the first window of a list has, open. */
static void forgive_token_source(void) {
	struct wl_display *display = wl_display_create();
	struct wlr_ext_foreign_toplevel_list_v1 *list =
		wlr_ext_foreign_toplevel_list_v1_create(display, 1);
	wlr_ext_foreign_toplevel_handle_v1_destroy(wlr_ext_foreign_toplevel_handle_v1_create(list,
		&(struct wlr_ext_foreign_toplevel_handle_v1_state){ 0 }));
	wl_display_destroy(display);
	harness_forgive_fds();
}

static void desk_set_up(struct desk *f, const struct desk_options *options) {
	static const struct wlr_pointer_impl pointer_impl = { .name = "pointer" };
	static const struct wlr_keyboard_impl keyboard_impl = { .name = "keyboard" };
	*f = (struct desk){ .modes = { { WIDTH, HEIGHT, 60000 }, { 300, 100, 60000 } } };
	f->options = (struct server_options){
		.guarantees = VITRINE_VIEW_GUARANTEES_DEFAULT, .background = { 0, 0, 0, 1 },
		.outputs = f->modes, .outputs_len = options->n_outputs != 0 ? options->n_outputs : 1,
		.backends = "headless",
	};
	setenv("WLR_RENDERER", "pixman", 1);
	forgive_token_source();
	check(server_init(&f->server, &f->options));
	check(wlr_backend_start(f->server.backend));
	check(server_add_headless_outputs(&f->server));
	desk_connect(f);
	wlr_pointer_init(&f->pointer_device, &pointer_impl, "pointer");
	wlr_keyboard_init(&f->keyboard_device, &keyboard_impl, "keyboard");
	wl_signal_emit_mutable(&f->server.backend->events.new_input, &f->pointer_device.base);
	wl_signal_emit_mutable(&f->server.backend->events.new_input, &f->keyboard_device.base);
}

static void window_destroy(struct window *window) {
	if (window->popup != NULL) {
		xdg_popup_destroy(window->popup);
	}
	if (window->toplevel != NULL) {
		xdg_toplevel_destroy(window->toplevel);
	}
	xdg_surface_destroy(window->xdg_surface);
	wl_surface_destroy(window->surface);
	desk_roundtrip(window->desk);
	*window = (struct window){ 0 };
}

static void desk_tear_down(struct desk *f) {
	for (size_t i = WINDOWS_CAP; i-- > 0;) { // popups first
		if (f->windows[i].surface != NULL) {
			window_destroy(&f->windows[i]);
		}
	}
	wl_data_device_destroy(f->data_device);
	wl_keyboard_destroy(f->keyboard);
	wl_pointer_destroy(f->pointer);
	zxdg_decoration_manager_v1_destroy(f->decorations);
	xdg_wm_base_destroy(f->wm_base);
	wl_data_device_manager_destroy(f->data_devices);
	wl_seat_destroy(f->seat);
	wl_shm_destroy(f->shm);
	wl_compositor_destroy(f->compositor);
	wl_display_disconnect(f->display);
	wlr_pointer_finish(&f->pointer_device);
	wlr_keyboard_finish(&f->keyboard_device);
	server_finish(&f->server);
}

/* Its windows */

static void window_paint(struct window *window) {
	const int size = window->width * window->height * 4;
	int fd = memfd_create("window", MFD_CLOEXEC);
	check_ok(ftruncate(fd, size));
	struct wl_shm_pool *pool = wl_shm_create_pool(window->desk->shm, fd, size);
	struct wl_buffer *buffer = wl_shm_pool_create_buffer(pool, 0, window->width, window->height,
		window->width * 4, WL_SHM_FORMAT_XRGB8888);
	wl_surface_attach(window->surface, buffer, 0, 0);
	wl_surface_commit(window->surface);
	desk_roundtrip(window->desk);
	wl_buffer_destroy(buffer);
	wl_shm_pool_destroy(pool);
	close(fd);
}

static void window_handle_configure(void *data, struct xdg_surface *surface, uint32_t serial) {
	xdg_surface_ack_configure(surface, serial);
}

static const struct xdg_surface_listener surface_listener = {
	.configure = window_handle_configure,
};

static void window_handle_toplevel_configure(void *data, struct xdg_toplevel *toplevel,
		int32_t width, int32_t height, struct wl_array *states) {
	struct window *window = data;
	window->width = width;
	window->height = height;
	window->activated = window->fullscreen = false;
	uint32_t *state;
	wl_array_for_each(state, states) {
		window->activated |= *state == XDG_TOPLEVEL_STATE_ACTIVATED;
		window->fullscreen |= *state == XDG_TOPLEVEL_STATE_FULLSCREEN;
	}
}

IGNORE_EVENT(window_handle_close, struct xdg_toplevel *toplevel)

static const struct xdg_toplevel_listener toplevel_listener = {
	.configure = window_handle_toplevel_configure, .close = window_handle_close,
};

static struct window *window_init(struct desk *f, size_t index) {
	struct window *window = &f->windows[index];
	window->desk = f;
	window->surface = wl_compositor_create_surface(f->compositor);
	window->xdg_surface = xdg_wm_base_get_xdg_surface(f->wm_base, window->surface);
	xdg_surface_add_listener(window->xdg_surface, &surface_listener, window);
	return window;
}

/** A toplevel that is not shown yet, but has got its size. */
static struct window *window_create_hidden(struct desk *f, size_t index) {
	struct window *window = window_init(f, index);
	window->toplevel = xdg_surface_get_toplevel(window->xdg_surface);
	xdg_toplevel_add_listener(window->toplevel, &toplevel_listener, window);
	wl_surface_commit(window->surface);
	desk_roundtrip(f);
	return window;
}

static struct window *window_create(struct desk *f, size_t index) {
	struct window *window = window_create_hidden(f, index);
	window_paint(window);
	return window;
}

static void check_size(const struct window *window, int32_t width, int32_t height) {
	check_int(window->width, ==, width);
	check_int(window->height, ==, height);
}

/** Two windows that have painted what they were told: columns of 182 pixels at 12 and at 206. */
static void desk_create_columns(struct desk *f) {
	window_create(f, 0);
	window_create(f, 1);
	window_paint(&f->windows[0]);
	window_paint(&f->windows[1]);
}

/* What the devices do */

static void desk_point_at(struct desk *f, double x, double y) {
	wl_signal_emit_mutable(&f->pointer_device.events.motion_absolute,
		&(struct wlr_pointer_motion_absolute_event){
			.pointer = &f->pointer_device, .x = x / WIDTH, .y = y / HEIGHT });
	wl_signal_emit_mutable(&f->pointer_device.events.frame, &f->pointer_device);
	desk_roundtrip(f);
}

static void desk_click(struct desk *f, enum wl_pointer_button_state button_state) {
	wlr_pointer_notify_button(&f->pointer_device, &(struct wlr_pointer_button_event){
		.pointer = &f->pointer_device, .button = BTN_LEFT, .state = button_state });
	wl_signal_emit_mutable(&f->pointer_device.events.frame, &f->pointer_device);
	desk_roundtrip(f);
}

static void desk_press(struct desk *f, uint32_t key, enum wl_keyboard_key_state key_state) {
	wlr_keyboard_notify_key(&f->keyboard_device, &(struct wlr_keyboard_key_event){
		.keycode = key, .update_state = true, .state = key_state });
}

TEST_WITH(desk, windows_are_columns_of_equal_width) {
	struct window *first = window_create(f, 0);
	check_size(first, WIDTH - 2 * GAP, HEIGHT - 2 * GAP);
	check(first->activated);
	struct window *second = window_create(f, 1);
	check_size(first, 182, HEIGHT - 2 * GAP);
	check_size(second, 182, HEIGHT - 2 * GAP);
	check(second->activated && !first->activated);
	check(f->focused == second->surface);
}

TEST_WITH(desk, window_that_closes_gives_its_place_and_focus_to_the_other) {
	desk_create_columns(f);
	window_destroy(&f->windows[1]);
	check_size(&f->windows[0], WIDTH - 2 * GAP, HEIGHT - 2 * GAP);
	check(f->windows[0].activated);
	check(f->focused == f->windows[0].surface);
}

TEST_WITH(desk, window_that_was_never_shown_gives_its_place_back) {
	window_create(f, 0);
	struct window *hidden = window_create_hidden(f, 1);
	check_size(hidden, 182, HEIGHT - 2 * GAP);
	check(f->focused == f->windows[0].surface);
	window_destroy(hidden);
	check_size(&f->windows[0], WIDTH - 2 * GAP, HEIGHT - 2 * GAP);
}

TEST_WITH(desk, fullscreen_window_has_the_whole_output) {
	desk_create_columns(f);
	struct window *window = &f->windows[0];
	xdg_toplevel_set_fullscreen(window->toplevel, NULL);
	desk_roundtrip(f);
	check(window->fullscreen);
	check_size(window, WIDTH, HEIGHT);
	window_paint(window);
	desk_point_at(f, 300, 100); // above its neighbour
	check(f->pointed == window->surface);
	check(f->x == 300 && f->y == 100);
	xdg_toplevel_unset_fullscreen(window->toplevel);
	desk_roundtrip(f);
	check(!window->fullscreen);
	check_size(window, 182, HEIGHT - 2 * GAP);
}

TEST_WITH(desk, pointer_enters_what_is_below_it) {
	desk_create_columns(f);
	desk_point_at(f, 100, 100);
	check(f->pointed == f->windows[0].surface);
	check(f->x == 100 - GAP && f->y == 100 - GAP);
	check_int(f->n_frames, >, 0);
	wl_signal_emit_mutable(&f->pointer_device.events.motion, &(struct wlr_pointer_motion_event){
		.pointer = &f->pointer_device, .delta_x = 5, .delta_y = -7 });
	desk_roundtrip(f);
	check(f->pointed == f->windows[0].surface);
	check(f->x == 105 - GAP && f->y == 93 - GAP);
	desk_point_at(f, 300, 100);
	check(f->pointed == f->windows[1].surface);
	check(f->x == 300 - 206);
	desk_point_at(f, 200, 100); // the gap between them
	check(f->pointed == NULL);
}

TEST_WITH(desk, pointer_enters_what_comes_to_be_below_it) {
	window_create(f, 0);
	desk_point_at(f, 300, 100);
	check(f->pointed == f->windows[0].surface);
	window_create(f, 1);
	check(f->pointed == f->windows[1].surface);
	check(f->x == 300 - 206);
	window_destroy(&f->windows[1]);
	window_paint(&f->windows[0]);
	desk_point_at(f, 301, 100);
	check(f->pointed == f->windows[0].surface);
}

TEST_WITH(desk, click_goes_to_the_window_and_focuses_it) {
	desk_create_columns(f);
	check(f->focused == f->windows[1].surface);
	desk_point_at(f, 100, 100);
	check(f->focused == f->windows[1].surface); // not by the motion alone
	desk_click(f, WL_POINTER_BUTTON_STATE_PRESSED);
	check_int(f->button, ==, BTN_LEFT);
	check_int(f->button_state, ==, WL_POINTER_BUTTON_STATE_PRESSED);
	check(f->focused == f->windows[0].surface);
	check(f->windows[0].activated && !f->windows[1].activated);
	desk_click(f, WL_POINTER_BUTTON_STATE_RELEASED);
	check_int(f->button_state, ==, WL_POINTER_BUTTON_STATE_RELEASED);
	wl_signal_emit_mutable(&f->pointer_device.events.axis, &(struct wlr_pointer_axis_event){
		.pointer = &f->pointer_device, .orientation = WL_POINTER_AXIS_VERTICAL_SCROLL,
		.delta = 15, .delta_discrete = WLR_POINTER_AXIS_DISCRETE_STEP });
	desk_roundtrip(f);
	check(f->scrolled == 15);
}

TEST_WITH(desk, keys_go_to_the_window_with_the_focus) {
	window_create(f, 0);
	desk_press(f, KEY_A, WL_KEYBOARD_KEY_STATE_PRESSED);
	desk_roundtrip(f);
	check_int(f->key, ==, KEY_A);
	check_int(f->key_state, ==, WL_KEYBOARD_KEY_STATE_PRESSED);
	desk_press(f, KEY_A, WL_KEYBOARD_KEY_STATE_RELEASED);
	desk_press(f, KEY_LEFTSHIFT, WL_KEYBOARD_KEY_STATE_PRESSED);
	desk_roundtrip(f);
	check_int(f->key, ==, KEY_LEFTSHIFT);
	check_int(f->modifiers, ==, WLR_MODIFIER_SHIFT);
}

static void end_by_keys(void *data) {
	struct desk *f = data;
	desk_press(f, KEY_LEFTALT, WL_KEYBOARD_KEY_STATE_PRESSED);
	desk_press(f, KEY_ESC, WL_KEYBOARD_KEY_STATE_PRESSED);
}

TEST_WITH(desk, alt_and_escape_end_the_compositor) {
	window_create(f, 0);
	desk_press(f, KEY_ESC, WL_KEYBOARD_KEY_STATE_PRESSED);
	desk_press(f, KEY_ESC, WL_KEYBOARD_KEY_STATE_RELEASED);
	desk_roundtrip(f);
	check_int(f->key, ==, KEY_ESC); // alone, it is the window's
	wl_event_loop_add_idle(wl_display_get_event_loop(f->server.display), end_by_keys, f);
	wl_display_run(f->server.display); // for ever, unless that ends it
	desk_roundtrip(f);
	check_int(f->key, ==, KEY_LEFTALT);
}

TEST_WITH(desk, selection_is_offered_to_the_window_with_the_focus) {
	window_create(f, 0);
	desk_point_at(f, 100, 100);
	desk_click(f, WL_POINTER_BUTTON_STATE_PRESSED);
	uint32_t n_before = f->n_selections;
	struct wl_data_source *source = wl_data_device_manager_create_data_source(f->data_devices);
	wl_data_source_offer(source, "text/plain");
	wl_data_device_set_selection(f->data_device, source, f->button_serial);
	desk_roundtrip(f);
	check_int(f->n_selections, ==, n_before + 1);
	check(f->selection_is_there);
	wl_data_device_set_selection(f->data_device, NULL, f->button_serial);
	desk_roundtrip(f);
	check(!f->selection_is_there);
	wl_data_source_destroy(source);
}

IGNORE_EVENT(source_handle_target, struct wl_data_source *source, const char *type)
IGNORE_EVENT(source_handle_send, struct wl_data_source *source, const char *type, int32_t fd)
IGNORE_EVENT(source_handle_action, struct wl_data_source *source, uint32_t action)
IGNORE_EVENT(source_handle_event, struct wl_data_source *source)

static void source_handle_cancelled(void *data, struct wl_data_source *source) {
	*(bool *)data = true;
}

/** What a client does to have something dragged from its first window. */
static struct wl_data_source *desk_start_drag(struct desk *f, uint32_t serial, bool *cancelled) {
	static const struct wl_data_source_listener listener = {
		.target = source_handle_target, .send = source_handle_send,
		.cancelled = source_handle_cancelled, .dnd_drop_performed = source_handle_event,
		.dnd_finished = source_handle_event, .action = source_handle_action,
	};
	struct wl_data_source *source = wl_data_device_manager_create_data_source(f->data_devices);
	wl_data_source_add_listener(source, &listener, cancelled);
	wl_data_source_offer(source, "text/plain");
	wl_data_source_set_actions(source, WL_DATA_DEVICE_MANAGER_DND_ACTION_COPY);
	wl_data_device_start_drag(f->data_device, source, f->windows[0].surface, NULL, serial);
	desk_roundtrip(f);
	return source;
}

TEST_WITH(desk, drag_begins_with_a_pressed_button_alone) {
	bool cancelled = false;
	window_create(f, 0);
	desk_point_at(f, 100, 100);
	struct wl_data_source *refused = desk_start_drag(f, 1234, &cancelled);
	check(cancelled);
	desk_point_at(f, 101, 100);
	check_int(f->n_drags, ==, 0);
	cancelled = false;
	desk_click(f, WL_POINTER_BUTTON_STATE_PRESSED);
	struct wl_data_source *source = desk_start_drag(f, f->button_serial, &cancelled);
	desk_point_at(f, 102, 100);
	check_int(f->n_drags, ==, 1);
	check(!cancelled);
	desk_click(f, WL_POINTER_BUTTON_STATE_RELEASED); // where nothing was accepted
	check(cancelled);
	wl_data_source_destroy(source);
	wl_data_source_destroy(refused);
}

static void popup_handle_configure(void *data, struct xdg_popup *popup, int32_t x, int32_t y,
		int32_t width, int32_t height) {
	struct window *window = data;
	window->x = x;
	window->y = y;
	window->width = width;
	window->height = height;
}

IGNORE_EVENT(popup_handle_done, struct xdg_popup *popup)
IGNORE_EVENT(popup_handle_repositioned, struct xdg_popup *popup, uint32_t token)

static const struct xdg_popup_listener popup_listener = {
	.configure = popup_handle_configure, .popup_done = popup_handle_done,
	.repositioned = popup_handle_repositioned,
};

/** Below and to the right of this point, as far as the output goes. */
static struct xdg_positioner *desk_create_positioner(struct desk *f, int x, int y) {
	struct xdg_positioner *positioner = xdg_wm_base_create_positioner(f->wm_base);
	xdg_positioner_set_size(positioner, 50, 40);
	xdg_positioner_set_anchor_rect(positioner, x, y, 1, 1);
	xdg_positioner_set_anchor(positioner, XDG_POSITIONER_ANCHOR_TOP_LEFT);
	xdg_positioner_set_gravity(positioner, XDG_POSITIONER_GRAVITY_BOTTOM_RIGHT);
	xdg_positioner_set_constraint_adjustment(positioner,
		XDG_POSITIONER_CONSTRAINT_ADJUSTMENT_SLIDE_X |
		XDG_POSITIONER_CONSTRAINT_ADJUSTMENT_SLIDE_Y);
	return positioner;
}

TEST_WITH(desk, popup_stays_on_the_output) {
	struct window *parent = window_create(f, 0), *window = window_init(f, 1);
	struct xdg_positioner *positioner = desk_create_positioner(f, 370, 20);
	window->popup = xdg_surface_get_popup(window->xdg_surface, parent->xdg_surface, positioner);
	xdg_popup_add_listener(window->popup, &popup_listener, window);
	wl_surface_commit(window->surface);
	desk_roundtrip(f);
	check_size(window, 50, 40);
	check_int(window->x, ==, WIDTH - GAP - 50); // in the window, which begins at the gap
	check_int(window->y, ==, 20);
	window_paint(window);
	desk_point_at(f, WIDTH - 1, 20 + GAP);
	check(f->pointed == window->surface);
	xdg_positioner_destroy(positioner);
	positioner = desk_create_positioner(f, 10, 170);
	xdg_popup_reposition(window->popup, positioner, 1);
	desk_roundtrip(f);
	check_int(window->x, ==, 10);
	check_int(window->y, ==, HEIGHT - GAP - 40);
	xdg_positioner_destroy(positioner);
}

static void decoration_handle_configure(void *data,
		struct zxdg_toplevel_decoration_v1 *decoration, uint32_t mode) {
	*(uint32_t *)data = mode;
}

TEST_WITH(desk, windows_are_told_not_to_decorate_themselves) {
	static const struct zxdg_toplevel_decoration_v1_listener listener = {
		.configure = decoration_handle_configure,
	};
	uint32_t mode = 0;
	struct window *window = window_init(f, 0);
	window->toplevel = xdg_surface_get_toplevel(window->xdg_surface);
	xdg_toplevel_add_listener(window->toplevel, &toplevel_listener, window);
	struct zxdg_toplevel_decoration_v1 *decoration =
		zxdg_decoration_manager_v1_get_toplevel_decoration(f->decorations, window->toplevel);
	zxdg_toplevel_decoration_v1_add_listener(decoration, &listener, &mode);
	wl_surface_commit(window->surface);
	desk_roundtrip(f);
	check_int(mode, ==, ZXDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	zxdg_toplevel_decoration_v1_set_mode(decoration,
		ZXDG_TOPLEVEL_DECORATION_V1_MODE_CLIENT_SIDE);
	desk_roundtrip(f);
	check_int(mode, ==, ZXDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	zxdg_toplevel_decoration_v1_destroy(decoration);
	desk_roundtrip(f);
}

static struct output *desk_get_output(struct desk *f) {
	struct output *output = wl_container_of(f->server.outputs.next, output, link);
	return output;
}

/** What the window of a nested compositor asks for. */
static void desk_request_mode(struct desk *f, int width, int height) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_custom_mode(&state, width, height, 60000);
	wlr_output_send_request_state(desk_get_output(f)->wlr_output, &state);
	wlr_output_state_finish(&state);
	desk_roundtrip(f);
}

TEST_WITH(desk, windows_follow_the_size_of_their_output) {
	desk_create_columns(f);
	desk_request_mode(f, 200, 100);
	check_size(&f->windows[0], 82, 100 - 2 * GAP);
	check_size(&f->windows[1], 82, 100 - 2 * GAP);
	desk_request_mode(f, WIDTH, HEIGHT);
	check_size(&f->windows[0], 182, HEIGHT - 2 * GAP);
}

TEST_WITH(desk, windows_go_to_the_output_that_is_left, .n_outputs = 2) {
	struct window *first = window_create(f, 0), *second = window_create(f, 1);
	check_size(first, WIDTH - 2 * GAP, HEIGHT - 2 * GAP);
	check_size(second, 300 - 2 * GAP, 100 - 2 * GAP); // the one that had none
	wlr_output_destroy(desk_get_output(f)->wlr_output);
	desk_roundtrip(f);
	check_size(first, 132, 100 - 2 * GAP);
	check_size(second, 132, 100 - 2 * GAP);
	wlr_output_destroy(desk_get_output(f)->wlr_output);
	desk_roundtrip(f); // with no output at all
	check(f->focused == second->surface);
}
