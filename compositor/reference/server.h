/* SPDX-License-Identifier: MIT */
#ifndef REFERENCE_SERVER_H
#define REFERENCE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wayland-server-core.h>
#include <wlr/util/box.h>

struct output_mode {
	int width, height;
	int refresh; // mHz
};

struct policy_file;

/** What the command line says. All of it is borrowed. */
struct server_options {
	const char *backends; // as in WLR_BACKENDS, or "auto"; NULL for the default
	const char *socket; // NULL for the first that is free
	char *const *command; // with its arguments, NULL at the end; NULL for none
	bool exit_with_command;
	bool print_socket; // on standard output, when clients can connect
	int run_timeout_ms; // of the command, 0 for none
	int ready_fd; // owned, -1 for none
	bool stock_capture;
	bool xwayland; // if it is installed
	uint32_t guarantees; // that clients may have, bitfield of enum vitrine_guarantee
	struct policy_file *policy_file; // NULL for none
	float background[4];
	const struct output_mode *outputs;
	size_t outputs_len;
};

struct server {
	const struct server_options *options;

	struct wl_display *display;
	struct wlr_backend *backend; // NULL once it is gone
	struct wlr_backend *headless_backend; // inside of backend, may be NULL
	struct wlr_renderer *renderer;
	struct wlr_compositor *compositor;
	struct wlr_xwayland *xwayland; // may be NULL
	struct wlr_allocator *allocator;

	struct wlr_scene *scene;
	struct wlr_scene_tree *background_tree;
	struct wlr_scene_tree *layer_trees[4]; // by enum zwlr_layer_shell_v1_layer
	struct wlr_scene_tree *toplevel_tree;
	struct wlr_scene_tree *unmanaged_tree; // of X11 clients that place their windows themselves
	struct wlr_scene_tree *lock_tree; // enabled while the session is locked
	struct wlr_output_layout *output_layout;
	struct wlr_scene_output_layout *scene_output_layout;
	struct wlr_output_manager_v1 *output_manager;
	struct wlr_ext_foreign_toplevel_list_v1 *foreign_toplevel_list;

	struct vitrine_view_manager_v1 *view_manager;
	struct wlr_security_context_manager_v1 *security_context_manager;

	struct wl_list outputs; // output.link
	struct wl_list toplevels; // toplevel.link, as laid out from left to right
	struct toplevel *focused_toplevel; // may be NULL
	struct wlr_layer_surface_v1 *focused_layer; // has the keyboard before it; may be NULL

	struct {
		struct wlr_seat *seat;
		struct wlr_cursor *cursor;
		struct wlr_xcursor_manager *xcursor_manager;
		/** All physical keyboards; the keyboard of the seat when there is none. */
		struct wlr_keyboard_group *keyboard_group;
		bool has_pointer; // the cursor is shown once there was a device that moves it
	} seat;

	struct {
		bool locked; // stays true when the lock client dies
		struct wlr_session_lock_v1 *lock; // may be NULL
		bool locked_sent;
	} lock;

	struct {
		pid_t pid; // 0 if there is none, or it has ended without being waited for
		bool has_group; // that of its pid
		bool timed_out;
		struct wl_event_source *timer; // may be NULL
	} command;
	int exit_status;
	const char *socket; // NULL before the outputs are there
	bool ready_told;
	struct wl_event_source *signal_sources[3];
	struct wl_event_source *hangup_source; // NULL without a policy file

	struct {
		struct wl_listener backend_destroy;
		struct wl_listener primary_backend_destroy;
		struct wl_listener new_output;
		struct wl_listener new_input;
		struct wl_listener output_layout_change;
		struct wl_listener output_manager_apply;
		struct wl_listener output_manager_test;
		struct wl_listener request_activate;
		struct wl_listener new_layer_surface;
		struct wl_listener new_x11_window;
		struct wl_listener new_toplevel;
		struct wl_listener new_popup;
		struct wl_listener toplevel_capture;
		struct wl_listener new_decoration;
		struct wl_listener new_virtual_pointer;
		struct wl_listener new_virtual_keyboard;
		struct wl_listener request_set_cursor;
		struct wl_listener request_set_shape;
		struct wl_listener request_set_selection;
		struct wl_listener request_set_primary_selection;
		struct wl_listener request_start_drag;
		struct wl_listener cursor_motion;
		struct wl_listener cursor_motion_absolute;
		struct wl_listener cursor_button;
		struct wl_listener cursor_axis;
		struct wl_listener cursor_frame;
		struct wl_listener keyboard_group_key;
		struct wl_listener keyboard_group_modifiers;
		struct wl_listener new_lock;
		struct wl_listener lock_new_surface;
		struct wl_listener lock_unlock;
		struct wl_listener lock_destroy;
		struct wl_listener view_session_guarantee;
		struct wl_listener view_session_stop;
	} listeners;
};

struct output {
	struct wl_list link; // server.outputs
	struct server *server;
	struct wlr_output *wlr_output;
	struct wlr_scene_output *scene_output;
	struct wlr_scene_rect *background;
	struct wlr_scene_rect *curtain; // black, in server.lock_tree
	struct wlr_box box; // in the layout, empty while the output is disabled
	struct wlr_box usable; // what panels leave of it
	struct wl_list layer_surfaces; // layer_surface.link
	bool lock_frame_pending; // no locked frame was committed yet

	struct {
		struct wl_listener frame;
		struct wl_listener request_state;
		struct wl_listener destroy;
	} listeners;
};

struct toplevel;

/** What depends on the protocol of a window. */
struct toplevel_interface {
	const char *(*get_title)(const struct toplevel *toplevel); // may return NULL
	const char *(*get_app_id)(const struct toplevel *toplevel); // the same
	/** What of its surface is the window. */
	struct wlr_box (*get_geometry)(const struct toplevel *toplevel);
	/** Asks for this place in the layout. */
	void (*set_box)(struct toplevel *toplevel, const struct wlr_box *box);
	void (*set_activated)(struct toplevel *toplevel, bool activated);
};

struct toplevel {
	struct wl_list link; // server.toplevels, while it has a place there
	struct server *server;
	const struct toplevel_interface *impl;
	struct wlr_surface *surface;
	struct wlr_ext_foreign_toplevel_handle_v1 *foreign_handle; // NULL if unmapped
	struct wlr_scene_tree *tree; // has the popups too
	struct wlr_scene_tree *surface_tree;
	struct wlr_scene *capture_scene; // the window and its popups alone
	struct wlr_ext_image_capture_source_v1 *capture_source; // NULL before the first request
	struct output *output; // may be NULL
	struct wlr_box tile; // in the layout
	bool fullscreen;
};

/** Where popups of a window, or of a popup, are put. */
struct popup_parent {
	struct wlr_scene_tree *shown;
	struct wlr_scene_tree *captured; // NULL for what is captured with its output only
	struct wlr_scene_tree *root; // of the window, which has its place in the layout
};

void listener_add(struct wl_signal *signal, struct wl_listener *listener, wl_notify_func_t notify);
/** Harmless for a listener that was not added or was removed before. */
void listener_remove(struct wl_listener *listener);
/** The same for all members of a struct that has nothing but listeners. */
#define listeners_remove(listeners) \
	listeners_remove_each((struct wl_listener *)(listeners), \
		sizeof(*(listeners)) / sizeof(struct wl_listener))
void listeners_remove_each(struct wl_listener *listeners, size_t len);

// server.c
/** Returns false on failure, after which server_finish() is still needed. */
bool server_init(struct server *server, const struct server_options *options);
/** Runs until a signal or the command ends it. Returns the exit status, -1 if it could not start. */
int server_run(struct server *server);
void server_finish(struct server *server);

// command.c
bool command_start(struct server *server);
/** A handler of SIGCHLD. The end of the command may be the end of the compositor. */
int command_handle_child(int signal_number, void *data);
/** Asks the command to end. */
void command_terminate(struct server *server);
/** Waits for all that the command has started, not for long: in the end it is killed. */
void command_finish(struct server *server);

// ready.c
/** Tells once, when clients can connect and there is an output. */
void server_tell_if_ready(struct server *server);

// policy.c
/** Says who may look; from now on a hangup has the policy file read again. */
bool server_init_policy(struct server *server);
/** Whether a sandboxed client may look at anything, by the policy file. */
bool server_client_may_look(struct server *server, struct wl_client *client);
/** Without a control socket, an error is logged. */
void server_init_control(struct server *server, const char *socket);

// output.c
bool server_init_outputs(struct server *server);
bool server_add_headless_outputs(struct server *server);

// protocols.c
bool server_init_protocols(struct server *server);

// layer_shell.c
bool server_init_layer_shell(struct server *server);
/** Sizes the surfaces in layers after a change of the output, and what is left for windows. */
void output_arrange_layers(struct output *output);
/** Takes the keyboard from a layer that does not insist on it. */
void server_unfocus_layer(struct server *server);
/** Before the output is gone. */
void output_close_layers(struct output *output);

// xwayland.c
/** Without Xwayland, X11 clients find no display. */
void server_init_xwayland(struct server *server);
void server_finish_xwayland(struct server *server);
/** Whether the global is for Xwayland, which the client is not. */
bool server_hides_from(const struct server *server, const struct wl_client *client,
	const struct wl_global *global);

// toplevel.c
bool server_init_toplevels(struct server *server);
/** Returns false on allocation failure, after which there is nothing to finish. */
bool toplevel_init(struct toplevel *toplevel, struct server *server,
	const struct toplevel_interface *impl, struct wlr_surface *surface);
void toplevel_finish(struct toplevel *toplevel);
/** Gives the window a place in the layout, before it is mapped. */
void toplevel_insert(struct toplevel *toplevel);
/** It is mapped: lists and focuses it. */
void toplevel_show(struct toplevel *toplevel);
/** It is unmapped: gives up what it had. */
void toplevel_hide(struct toplevel *toplevel);
/** Tells title and app-id. Sends nothing if nothing changed, so that each commit may call it. */
void toplevel_update(struct toplevel *toplevel);
/** Puts the window into the middle of its tile, and hides what sticks out. */
void toplevel_place(struct toplevel *toplevel);
void toplevel_set_fullscreen(struct toplevel *toplevel, bool fullscreen);
/** Lays out all toplevels, after a change of them or of the outputs. */
void server_arrange_toplevels(struct server *server);
/** Hides from captures, or shows in them, all windows, when the screen was locked or unlocked. */
void server_update_captures(struct server *server);
/** Gives the keyboard focus to a toplevel, or to none if it is NULL. */
void toplevel_focus(struct server *server, struct toplevel *toplevel);
/** Gives the keyboard to what has the focus now, unless the screen is locked. */
void server_update_keyboard_focus(struct server *server);

// xdg_shell.c
bool server_init_xdg_shell(struct server *server);
struct wlr_xdg_popup;
void server_add_popup(struct server *server, struct wlr_xdg_popup *xdg_popup,
	const struct popup_parent *parent);

// seat.c
bool server_init_seat(struct server *server);
void server_finish_seat(struct server *server);
void seat_focus_surface(struct server *server, struct wlr_surface *surface);
/** Finds out what is under the pointer now, after a change of the scene. */
void seat_update_pointer_focus(struct server *server);

// lock.c
bool server_init_lock(struct server *server);
/** Sizes the lock surfaces after a change of the outputs. */
void lock_arrange(struct server *server);
/** Tells the lock client once no output shows the session any more. */
void lock_send_locked_if_hidden(struct server *server);

#endif
