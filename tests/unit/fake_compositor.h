/* SPDX-License-Identifier: MIT */
#ifndef FAKE_COMPOSITOR_H
#define FAKE_COMPOSITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vitrine/derive.h>
#include <wayland-server-core.h>

#include "ext-foreign-toplevel-list-v1-protocol.h"
#include "xx-dmabuf-view-v1-protocol.h"

/**
 * A compositor without a screen, in a process of its own, that says to its one
 * client what a script tells it to say: the truth or a lie.
 */

/** Seals that an honest compositor sets. */
#define FAKE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

struct fake;

/** Zero stands for an honest value. */
struct fake_output {
	const char *name, *description; // FAKE-1, a fake output
	int32_t width, height; // of the mode: 64 by 32
	int32_t x, y; // in the layout
	int32_t scale; // of the wl_output: 1
	int32_t logical_width, logical_height; // of the xdg_output: as the mode and the scale say
	int32_t transform;
};

struct fake_window {
	const char *identifier, *app_id, *title; // NULL if they are not said
	uint32_t width, height; // 64 by 32
};

struct fake_session {
	struct wl_resource *resource; // NULL after the client destroyed it
	struct wl_list link; // struct fake.sessions
	const struct fake_output *output; // that it looks at, or NULL
	const struct fake_window *window; // that it looks at, or NULL
	uint32_t width, height; // of either
	bool is_gone; // what it looks at
	const struct fake_script *script;
	struct fake *fake;
	uint32_t acceptable, storages, n_formats, n_devices, cursors; // as the client has said
	bool implicit_release;
	uint32_t next_serial;
	struct fake_animation *animation; // NULL if none
};

struct fake_script {
	/** A session has started: say this. May be NULL. */
	const struct fake_event *events;
	/** The same, for what is said later. May be NULL. */
	void (*start)(struct fake_session *session);
	/** A frame was released. May be NULL. */
	void (*release)(struct fake_session *session, uint32_t serial);
	/** A session was destroyed. May be NULL. */
	void (*stop)(struct fake_session *session);
	uint32_t guarantees; // to announce; 0 announces all of them
	bool no_manager, no_source_manager; // leave a global out
	bool remove_output; // the first one, once a session was started
	bool mute; // never answers at all
	uint32_t width, height; // of the mode; 0 for 64 by 32
	bool no_refresh; // of the mode; else 60 Hz
	const char *name, *description; // of the output; NULL for honest ones
	const struct fake_output *outputs; // in place of that one, up to one without a name
	uint32_t output_version; // 0 for 4
	uint32_t xdg_output_version; // 0 for none
	bool no_toplevel_list, no_toplevel_sources; // leave a global out
	const struct fake_window *windows; // that there are, up to one without an identifier
	/** What happens each time that fake_step() is called. */
	void (*steps[8])(struct fake *fake);
};

/** For the options of a fixture. */
#define SCRIPT(...) .script = &(const struct fake_script){ __VA_ARGS__ }

/**
 * Starts the compositor. Returns the socket of its client; the compositor ends
 * once that is closed.
 */
int fake_start(const struct fake_script *script, pid_t *pid);
/** Has it take the next step of its script. */
void fake_step(pid_t pid);
/** Waits for the compositor's end. Returns whether it was a clean one. */
bool fake_wait(pid_t pid);

/* For steps. Outputs and windows are counted from 0 in the order of their appearance. */

/** What is pointed to has to stay. */
void fake_add_output(struct fake *fake, const struct fake_output *output);
/** Says what wlroots does: what xdg-output says, if it has changed, and all the rest. */
void fake_change_output(struct fake *fake, size_t i, const struct fake_output *output);
void fake_remove_output(struct fake *fake, size_t i);
/** Says what it is, and that this is all, unless it has no identifier. Returns its handle. */
struct wl_resource *fake_open_window(struct fake *fake, const struct fake_window *window);
/** Its ext_foreign_toplevel_handle_v1. */
struct wl_resource *fake_get_window(struct fake *fake, size_t i);
/** Says that it was closed, and ends the sessions that look at it. */
void fake_close_window(struct fake *fake, size_t i);
/** Its ext_foreign_toplevel_list_v1. */
struct wl_resource *fake_get_window_list(struct fake *fake);

/** Makes a memfd with these seals and open mode. Aborts on failure. */
int fake_memfd(size_t size, unsigned seals, int open_flags);
/** The same with these bytes in it, open read-only, and with honest seals. */
int fake_memfd_with(const void *bytes, size_t size);

/** What to announce. Zero stands for an honest value. */
struct fake_view {
	uint32_t index;
	uint32_t storage; // enum vitrine_storage
	uint32_t width, height; // 64 by 32
	uint32_t fourcc; // XRGB8888
	uint64_t modifier;
	uint32_t guarantee; // sealed
	uint32_t offset, stride; // 0, 4 * width
};

/** The size of the memory of an honest view. */
#define FAKE_WIDTH 64
#define FAKE_HEIGHT 32
#define FAKE_SIZE ((size_t)FAKE_WIDTH * FAKE_HEIGHT * 4)

/** Something that the compositor says or does. */
struct fake_event {
	/** NULL ends a list of events. */
	void (*say)(struct fake_session *session, const struct fake_event *event);
	uint32_t opcode, values[9];
	struct fake_view view;
	const char *text;
	int (*make_fd)(const struct fake_event *event); // NULL for honest memory
};

/** Says them all, one after the other. */
void fake_say(struct fake_session *session, const struct fake_event *events);
void fake_say_event(struct fake_session *session, const struct fake_event *event);
void fake_say_view(struct fake_session *session, const struct fake_event *event);
void fake_say_plane(struct fake_session *session, const struct fake_event *event);
void fake_say_announced(struct fake_session *session, const struct fake_event *event);
void fake_say_explanation(struct fake_session *session, const struct fake_event *event);
void fake_say_device(struct fake_session *session, const struct fake_event *event);
void fake_say_fence(struct fake_session *session, const struct fake_event *event);
void fake_say_frame(struct fake_session *session, const struct fake_event *event);

/* For lists of events: SAY(EVENT(DEPTH, 2), ANNOUNCE(0), FRAME(0)) */
#define SAY(...) ((const struct fake_event[]){ __VA_ARGS__, { .say = NULL } })
/** An event of the protocol, with its arguments. */
#define EVENT(name, ...) { .say = fake_say_event, \
	.opcode = XX_DMABUF_VIEW_SESSION_V1_##name, .values = { __VA_ARGS__ } }
/** These take fields of struct fake_view. */
#define VIEW(...) { .say = fake_say_view, .view = { __VA_ARGS__ } }
#define PLANE(plane, ...) \
	{ .say = fake_say_plane, .values = { plane }, .view = { __VA_ARGS__ } }
/** In memory that a function makes, which gets the event; what follows are its fields. */
#define PLANE_OF(function, ...) { .say = fake_say_plane, .make_fd = function, __VA_ARGS__ }
/** VIEW, PLANE and view_done, and nothing of it is a lie. */
#define ANNOUNCE(index) { .say = fake_say_announced, .values = { index } }
/** How the buffers were chosen. */
#define EXPLANATION(string) { .say = fake_say_explanation, .text = string }
/** The device of a view, as so many bytes of a dev_t with this value. */
#define DEVICE(index, size, value) { .say = fake_say_device, .values = { index, size, value } }
/** A pipe that has no other end. */
#define FENCE() { .say = fake_say_fence }
/** A transform, and a frame of now, with the next serial, damaged where it is said before. */
#define FRAME(index) { .say = fake_say_frame, .values = { index } }
/** What needs a function; what follows is its event's values. */
#define CALL(function, ...) { .say = function, .values = { __VA_ARGS__ } }

/**
 * A script that plays a moving picture at 60 Hz, in 3 buffers with a depth of 2.
 */
extern const struct fake_script fake_animation;
/** The same, but it goes on drawing into the memory of sessions that have ended. */
extern const struct fake_script fake_animation_that_leaks;

#endif
