/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <wlr/backend.h>
#include <wlr/types/wlr_cursor.h>
#include <wlr/types/wlr_cursor_shape_v1.h>
#include <wlr/types/wlr_data_device.h>
#include <wlr/types/wlr_keyboard.h>
#include <wlr/types/wlr_keyboard_group.h>
#include <wlr/types/wlr_pointer.h>
#include <wlr/types/wlr_primary_selection.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_seat.h>
#include <wlr/types/wlr_virtual_keyboard_v1.h>
#include <wlr/types/wlr_virtual_pointer_v1.h>
#include <wlr/types/wlr_xcursor_manager.h>
#include <xkbcommon/xkbcommon.h>
#include "server.h"

/** A virtual keyboard: it has a keymap of its own. */
struct keyboard {
	struct server *server;
	struct wlr_keyboard *wlr_keyboard;

	struct {
		struct wl_listener key;
		struct wl_listener modifiers;
		struct wl_listener destroy;
	} listeners;
};

void seat_focus_surface(struct server *server, struct wlr_surface *surface) {
	struct wlr_seat *seat = server->seat.seat;
	struct wlr_keyboard *keyboard = wlr_seat_get_keyboard(seat);
	if (surface == NULL) {
		wlr_seat_keyboard_notify_clear_focus(seat);
	} else if (keyboard != NULL) {
		wlr_seat_keyboard_notify_enter(seat, surface, keyboard->keycodes,
			keyboard->num_keycodes, &keyboard->modifiers);
	}
}

/** The surface and the toplevel at the cursor; each may be NULL. */
static struct wlr_surface *server_surface_at_cursor(struct server *server,
		double *sx, double *sy, struct toplevel **toplevel) {
	struct wlr_cursor *cursor = server->seat.cursor;
	*toplevel = NULL;
	struct wlr_scene_node *node =
		wlr_scene_node_at(&server->scene->tree.node, cursor->x, cursor->y, sx, sy);
	if (node == NULL || node->type != WLR_SCENE_NODE_BUFFER) {
		return NULL;
	}
	struct wlr_scene_surface *scene_surface =
		wlr_scene_surface_try_from_buffer(wlr_scene_buffer_from_node(node));
	while (node != NULL && node->data == NULL) {
		node = node->parent != NULL ? &node->parent->node : NULL;
	}
	*toplevel = node != NULL ? node->data : NULL;
	return scene_surface != NULL ? scene_surface->surface : NULL;
}

static void seat_move_pointer(struct server *server, uint32_t time_msec) {
	struct wlr_seat *seat = server->seat.seat;
	double sx, sy;
	struct toplevel *toplevel;
	struct wlr_surface *surface = server_surface_at_cursor(server, &sx, &sy, &toplevel);
	if (surface == NULL) {
		wlr_cursor_set_xcursor(server->seat.cursor, server->seat.xcursor_manager, "default");
		wlr_seat_pointer_notify_clear_focus(seat);
		return;
	}
	wlr_seat_pointer_notify_enter(seat, surface, sx, sy);
	wlr_seat_pointer_notify_motion(seat, time_msec, sx, sy);
}

void seat_update_pointer_focus(struct server *server) {
	if (server->seat.has_pointer) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		seat_move_pointer(server, now.tv_sec * 1000 + now.tv_nsec / 1000000);
	}
}

static void server_handle_cursor_motion(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.cursor_motion);
	const struct wlr_pointer_motion_event *event = data;
	wlr_cursor_move(server->seat.cursor, &event->pointer->base, event->delta_x, event->delta_y);
	seat_move_pointer(server, event->time_msec);
}

static void server_handle_cursor_motion_absolute(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.cursor_motion_absolute);
	const struct wlr_pointer_motion_absolute_event *event = data;
	wlr_cursor_warp_absolute(server->seat.cursor, &event->pointer->base, event->x, event->y);
	seat_move_pointer(server, event->time_msec);
}

static void server_handle_cursor_button(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.cursor_button);
	const struct wlr_pointer_button_event *event = data;
	wlr_seat_pointer_notify_button(server->seat.seat, event->time_msec, event->button,
		event->state);
	if (event->state == WL_POINTER_BUTTON_STATE_PRESSED) {
		double sx, sy;
		struct toplevel *toplevel;
		server_surface_at_cursor(server, &sx, &sy, &toplevel);
		if (toplevel != NULL) {
			server_unfocus_layer(server);
			toplevel_focus(server, toplevel);
		}
	}
}

static void server_handle_cursor_axis(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.cursor_axis);
	const struct wlr_pointer_axis_event *event = data;
	wlr_seat_pointer_notify_axis(server->seat.seat, event->time_msec, event->orientation,
		event->delta, event->delta_discrete, event->source, event->relative_direction);
}

static void server_handle_cursor_frame(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.cursor_frame);
	wlr_seat_pointer_notify_frame(server->seat.seat);
}

/** Alt+Escape ends the compositor. */
static bool keyboard_handle_binding(struct server *server, struct wlr_keyboard *keyboard,
		const struct wlr_keyboard_key_event *event) {
	if (keyboard->xkb_state == NULL || event->state != WL_KEYBOARD_KEY_STATE_PRESSED ||
			(wlr_keyboard_get_modifiers(keyboard) & WLR_MODIFIER_ALT) == 0 ||
			xkb_state_key_get_one_sym(keyboard->xkb_state, event->keycode + 8) != XKB_KEY_Escape) {
		return false;
	}
	wl_display_terminate(server->display);
	return true;
}

static void keyboard_notify_key(struct server *server, struct wlr_keyboard *keyboard,
		const struct wlr_keyboard_key_event *event) {
	if (!keyboard_handle_binding(server, keyboard, event)) {
		wlr_seat_set_keyboard(server->seat.seat, keyboard);
		wlr_seat_keyboard_notify_key(server->seat.seat, event->time_msec, event->keycode,
			event->state);
	}
}

static void keyboard_notify_modifiers(struct server *server, struct wlr_keyboard *keyboard) {
	wlr_seat_set_keyboard(server->seat.seat, keyboard);
	wlr_seat_keyboard_notify_modifiers(server->seat.seat, &keyboard->modifiers);
}

static void server_handle_keyboard_group_key(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.keyboard_group_key);
	keyboard_notify_key(server, &server->seat.keyboard_group->keyboard, data);
}

static void server_handle_keyboard_group_modifiers(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.keyboard_group_modifiers);
	keyboard_notify_modifiers(server, &server->seat.keyboard_group->keyboard);
}

static void keyboard_handle_key(struct wl_listener *listener, void *data) {
	struct keyboard *keyboard = wl_container_of(listener, keyboard, listeners.key);
	keyboard_notify_key(keyboard->server, keyboard->wlr_keyboard, data);
}

static void keyboard_handle_modifiers(struct wl_listener *listener, void *data) {
	struct keyboard *keyboard = wl_container_of(listener, keyboard, listeners.modifiers);
	keyboard_notify_modifiers(keyboard->server, keyboard->wlr_keyboard);
}

static void keyboard_handle_destroy(struct wl_listener *listener, void *data) {
	struct keyboard *keyboard = wl_container_of(listener, keyboard, listeners.destroy);
	struct server *server = keyboard->server;
	if (wlr_seat_get_keyboard(server->seat.seat) == keyboard->wlr_keyboard) {
		wlr_seat_set_keyboard(server->seat.seat, &server->seat.keyboard_group->keyboard);
	}
	listeners_remove(&keyboard->listeners);
	free(keyboard);
}

static void server_handle_new_virtual_keyboard(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_virtual_keyboard);
	struct wlr_virtual_keyboard_v1 *virtual_keyboard = data;
	struct keyboard *keyboard = calloc(1, sizeof(*keyboard));
	if (keyboard == NULL) {
		wl_resource_post_no_memory(virtual_keyboard->resource);
		return;
	}
	keyboard->server = server;
	keyboard->wlr_keyboard = &virtual_keyboard->keyboard;
	listener_add(&virtual_keyboard->keyboard.events.key, &keyboard->listeners.key,
		keyboard_handle_key);
	listener_add(&virtual_keyboard->keyboard.events.modifiers, &keyboard->listeners.modifiers,
		keyboard_handle_modifiers);
	listener_add(&virtual_keyboard->keyboard.base.events.destroy, &keyboard->listeners.destroy,
		keyboard_handle_destroy);
}

static void server_add_pointer(struct server *server, struct wlr_input_device *device) {
	wlr_cursor_attach_input_device(server->seat.cursor, device);
	server->seat.has_pointer = true;
	seat_update_pointer_focus(server);
}

static void server_handle_new_virtual_pointer(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_virtual_pointer);
	const struct wlr_virtual_pointer_v1_new_pointer_event *event = data;
	struct wlr_input_device *device = &event->new_pointer->pointer.base;
	server_add_pointer(server, device);
	if (event->suggested_output != NULL) {
		wlr_cursor_map_input_to_output(server->seat.cursor, device, event->suggested_output);
	}
}

static void server_handle_new_input(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_input);
	struct wlr_input_device *device = data;
	if (device->type == WLR_INPUT_DEVICE_POINTER) {
		server_add_pointer(server, device);
	} else if (device->type == WLR_INPUT_DEVICE_KEYBOARD) {
		struct wlr_keyboard_group *group = server->seat.keyboard_group;
		struct wlr_keyboard *keyboard = wlr_keyboard_from_input_device(device);
		wlr_keyboard_set_keymap(keyboard, group->keyboard.keymap);
		wlr_keyboard_group_add_keyboard(group, keyboard);
	}
}

static void server_handle_request_set_cursor(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.request_set_cursor);
	const struct wlr_seat_pointer_request_set_cursor_event *event = data;
	if (event->seat_client == server->seat.seat->pointer_state.focused_client) {
		wlr_cursor_set_surface(server->seat.cursor, event->surface, event->hotspot_x,
			event->hotspot_y);
	}
}

static void server_handle_request_set_shape(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.request_set_shape);
	const struct wlr_cursor_shape_manager_v1_request_set_shape_event *event = data;
	if (event->tablet_tool == NULL &&
			event->seat_client == server->seat.seat->pointer_state.focused_client) {
		wlr_cursor_set_xcursor(server->seat.cursor, server->seat.xcursor_manager,
			wlr_cursor_shape_v1_name(event->shape));
	}
}

static void server_handle_request_set_selection(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.request_set_selection);
	const struct wlr_seat_request_set_selection_event *event = data;
	wlr_seat_set_selection(server->seat.seat, event->source, event->serial);
}

static void server_handle_request_set_primary_selection(struct wl_listener *listener,
		void *data) {
	struct server *server =
		wl_container_of(listener, server, listeners.request_set_primary_selection);
	const struct wlr_seat_request_set_primary_selection_event *event = data;
	wlr_seat_set_primary_selection(server->seat.seat, event->source, event->serial);
}

static void server_handle_request_start_drag(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.request_start_drag);
	const struct wlr_seat_request_start_drag_event *event = data;
	if (wlr_seat_validate_pointer_grab_serial(server->seat.seat, event->origin, event->serial)) {
		wlr_seat_start_pointer_drag(server->seat.seat, event->drag, event->serial);
	} else {
		wlr_data_source_destroy(event->drag->source);
	}
}

static void seat_listen(struct server *server) {
	struct wlr_seat *seat = server->seat.seat;
	listener_add(&server->backend->events.new_input, &server->listeners.new_input,
		server_handle_new_input);
	listener_add(&seat->events.request_set_cursor, &server->listeners.request_set_cursor,
		server_handle_request_set_cursor);
	listener_add(&seat->events.request_set_selection, &server->listeners.request_set_selection,
		server_handle_request_set_selection);
	listener_add(&seat->events.request_set_primary_selection,
		&server->listeners.request_set_primary_selection,
		server_handle_request_set_primary_selection);
	listener_add(&seat->events.request_start_drag, &server->listeners.request_start_drag,
		server_handle_request_start_drag);

	struct wlr_cursor *cursor = server->seat.cursor;
	listener_add(&cursor->events.motion, &server->listeners.cursor_motion,
		server_handle_cursor_motion);
	listener_add(&cursor->events.motion_absolute, &server->listeners.cursor_motion_absolute,
		server_handle_cursor_motion_absolute);
	listener_add(&cursor->events.button, &server->listeners.cursor_button,
		server_handle_cursor_button);
	listener_add(&cursor->events.axis, &server->listeners.cursor_axis, server_handle_cursor_axis);
	listener_add(&cursor->events.frame, &server->listeners.cursor_frame, server_handle_cursor_frame);
}

/**
 * The seat has a pointer and a keyboard even if no device is there: virtual
 * ones may come later, and many programs look only once.
 */
static bool seat_init_keyboard(struct server *server) {
	server->seat.keyboard_group = wlr_keyboard_group_create();
	struct xkb_context *context = xkb_context_new(XKB_CONTEXT_NO_FLAGS);
	struct xkb_keymap *keymap = context != NULL ?
		xkb_keymap_new_from_names(context, NULL, XKB_KEYMAP_COMPILE_NO_FLAGS) : NULL;
	bool ok = server->seat.keyboard_group != NULL && keymap != NULL &&
		wlr_keyboard_set_keymap(&server->seat.keyboard_group->keyboard, keymap);
	xkb_keymap_unref(keymap);
	xkb_context_unref(context);
	if (!ok) {
		return false;
	}
	struct wlr_keyboard *keyboard = &server->seat.keyboard_group->keyboard;
	wlr_keyboard_set_repeat_info(keyboard, 25, 600);
	listener_add(&keyboard->events.key, &server->listeners.keyboard_group_key,
		server_handle_keyboard_group_key);
	listener_add(&keyboard->events.modifiers, &server->listeners.keyboard_group_modifiers,
		server_handle_keyboard_group_modifiers);
	wlr_seat_set_keyboard(server->seat.seat, keyboard);
	return true;
}

bool server_init_seat(struct server *server) {
	struct wl_display *display = server->display;
	server->seat.seat = wlr_seat_create(display, "seat0");
	server->seat.cursor = wlr_cursor_create();
	server->seat.xcursor_manager = wlr_xcursor_manager_create(NULL, 24);
	if (server->seat.seat == NULL || server->seat.cursor == NULL ||
			server->seat.xcursor_manager == NULL || !seat_init_keyboard(server)) {
		return false;
	}
	wlr_seat_set_capabilities(server->seat.seat,
		WL_SEAT_CAPABILITY_POINTER | WL_SEAT_CAPABILITY_KEYBOARD);
	wlr_cursor_attach_output_layout(server->seat.cursor, server->output_layout);
	seat_listen(server);

	struct wlr_cursor_shape_manager_v1 *cursor_shape_manager =
		wlr_cursor_shape_manager_v1_create(display, 1);
	struct wlr_virtual_pointer_manager_v1 *virtual_pointer_manager =
		wlr_virtual_pointer_manager_v1_create(display);
	struct wlr_virtual_keyboard_manager_v1 *virtual_keyboard_manager =
		wlr_virtual_keyboard_manager_v1_create(display);
	if (cursor_shape_manager == NULL || virtual_pointer_manager == NULL ||
			virtual_keyboard_manager == NULL) {
		return false;
	}
	listener_add(&cursor_shape_manager->events.request_set_shape,
		&server->listeners.request_set_shape, server_handle_request_set_shape);
	listener_add(&virtual_pointer_manager->events.new_virtual_pointer,
		&server->listeners.new_virtual_pointer, server_handle_new_virtual_pointer);
	listener_add(&virtual_keyboard_manager->events.new_virtual_keyboard,
		&server->listeners.new_virtual_keyboard, server_handle_new_virtual_keyboard);
	return true;
}

void server_finish_seat(struct server *server) {
	if (server->seat.xcursor_manager != NULL) {
		wlr_xcursor_manager_destroy(server->seat.xcursor_manager);
	}
	if (server->seat.cursor != NULL) {
		wlr_cursor_destroy(server->seat.cursor);
	}
	if (server->seat.keyboard_group != NULL) {
		wlr_keyboard_group_destroy(server->seat.keyboard_group);
	}
}
