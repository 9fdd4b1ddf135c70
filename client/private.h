/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_CLIENT_PRIVATE_H
#define VITRINE_CLIENT_PRIVATE_H

#include <vitrine-client/client.h>
#include <wayland-client.h>

#define MAX_PLANES 4
/** A compositor that sends more is not believed; memory stays bounded. */
#define MAX_DEPTH 256
#define MAX_LIVE_VIEWS 64
#define MAX_DAMAGE 256
#define MAX_SIDE 65535
#define MAX_OUTPUTS 1024
#define MAX_TOPLEVELS 4096
#define MAX_IDENTIFIER 32
/** So that no sum of a place and a size overflows. */
#define MAX_COORDINATE (1 << 24)
#define MAX_FORMATS 1024
#define MAX_NODES 16
#define MAX_EXPLANATION 512

struct ext_foreign_toplevel_image_capture_source_manager_v1;
struct ext_foreign_toplevel_list_v1;
struct ext_image_capture_source_v1;
struct ext_output_image_capture_source_manager_v1;
struct xx_dmabuf_view_manager_v1;
struct xx_dmabuf_view_session_v1;
struct zxdg_output_manager_v1;
struct zxdg_output_v1;

struct error_text {
	char text[256];
};

/** What the compositor says in a string, which holds from the next `done` event on. */
struct text {
	char *now; // NULL if not known
	char *next; // NULL if it does not change
};

struct vitrine_client {
	struct wl_display *display;
	bool borrows_display;
	struct wl_event_queue *queue; // of all our objects
	struct wl_registry *registry;
	struct xx_dmabuf_view_manager_v1 *view_manager;
	struct ext_output_image_capture_source_manager_v1 *source_manager;
	// NULL if the compositor has none
	struct zxdg_output_manager_v1 *xdg_output_manager;
	struct ext_foreign_toplevel_image_capture_source_manager_v1 *toplevel_source_manager;
	uint32_t toplevel_list_global; // 0 if the compositor has none
	struct ext_foreign_toplevel_list_v1 *toplevel_list; // NULL if it is not followed

	struct vitrine_output **outputs; // first those that are described
	size_t n_outputs, n_all_outputs;
	struct wl_list toplevel_sources; // vitrine_source.link, of all that have a handle
	size_t n_handles;
	bool toplevels_are_known; // those that were there when the list was bound
	struct vitrine_toplevel **toplevels; // those that are described
	size_t n_toplevels;
	const struct vitrine_client_listener *listener; // may be NULL
	void *listener_data;
	struct wl_list sessions; // vitrine_session.link

	uint32_t guarantees; // bitfield of enum vitrine_guarantee
	int error; // the connection is unusable: a negative errno, or 0
	struct error_text message;
};

/** Begins an output and a toplevel. */
struct vitrine_source {
	struct vitrine_client *client;
	struct wl_list link; // of a toplevel: vitrine_client.toplevel_sources
	const char *word; // for messages
	/** NULL once the source is gone. Returns NULL for lack of memory. */
	struct ext_image_capture_source_v1 *(*create_proxy)(struct vitrine_source *source);
};

/** What is said of an output in numbers, as it is said. */
struct output_state {
	int32_t width, height, refresh_mhz; // of the mode; 0 if not known
	int32_t x, y, scale; // of the wl_output
	uint32_t transform; // enum wl_output_transform
	int32_t logical_x, logical_y, logical_width, logical_height; // of the xdg_output
};

struct vitrine_output {
	struct vitrine_source source;
	struct wl_output *wl_output; // NULL once it is gone
	struct zxdg_output_v1 *xdg_output; // NULL if there is none
	uint32_t global_name;
	struct text name, description;
	struct output_state state, next_state; // the latter holds from the next done event on
	bool is_done; // it was described
};

struct plane {
	int fd; // -1 if none
	uint32_t offset, stride;
	void *data; // mapping from offset 0 of the file descriptor, or NULL
	size_t data_len;
	bool is_synced; // DMA_BUF_SYNC_START was called
};

/** Announced memory. */
struct view {
	struct wl_list link; // vitrine_session.views
	uint32_t index;
	uint32_t width, height, fourcc;
	uint64_t modifier;
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	dev_t device; // 0 if it was not said
	struct plane planes[MAX_PLANES];
	uint32_t n_planes;
	size_t n_frames; // frames that exist in it
	bool retired; // destroyed along with its last frame
};

/** The last event of a frame that came in; the protocol fixes their order. */
enum frame_stage {
	FRAME_STAGE_NONE,
	FRAME_STAGE_DAMAGE,
	FRAME_STAGE_TRANSFORM,
	FRAME_STAGE_FENCE,
};

struct vitrine_session {
	struct vitrine_client *client;
	const char *source_word; // see vitrine_source.word
	struct wl_list link; // vitrine_client.sessions
	struct xx_dmabuf_view_session_v1 *proxy; // NULL once it has ended
	uint32_t acceptable, storages;
	struct vitrine_format *formats; // of dma-bufs that were asked for
	size_t n_formats;
	bool implicit_release;
	const struct vitrine_session_listener *listener;
	void *data;

	uint32_t depth; // 0 if not known
	bool is_off;
	char explanation[MAX_EXPLANATION + 1]; // empty if there is none
	struct wl_list views; // view.link
	struct view *announced; // between view and view_done, not in views, or NULL

	// What was sent ahead of the next frame event
	enum frame_stage stage;
	struct vitrine_rect *damage; // MAX_DAMAGE
	size_t n_damage;
	bool has_transform;
	uint32_t transform;
	uint32_t skipped; // of frames that were left out for newer ones
	int fence_fd; // -1 if none

	uint32_t last_serial; // 0 before the first frame
	struct timespec last_time; // of the newest content; at first, of the start
	uint64_t n_sent; // frame events

	struct wl_list ready; // vitrine_frame.link, oldest first
	struct wl_list held; // vitrine_frame.link

	struct vitrine_session_stats stats;
	int error; // the session has ended: a negative errno, or 0
	bool is_stopped; // by the compositor, which said before all that it had to say
	struct error_text message;
};

struct vitrine_frame {
	struct wl_list link; // vitrine_session.ready or .held
	struct vitrine_session *session;
	struct view *view;
	struct vitrine_frame_info info;
	int fence_fd; // -1 if none
	uint64_t number; // counts the frame events of the session
	bool revoked;
	bool reading; // DMA_BUF_SYNC_START was called
	struct vitrine_rect damage[];
};

/** Returns `error`, after noting why. */
int client_fail(struct vitrine_client *client, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/**
 * Handles events until the deadline, NULL to wait without a limit, or until
 * extra_fd, which may be -1, is readable. Returns as vitrine_client_dispatch().
 */
int client_dispatch(struct vitrine_client *client, const struct timespec *deadline, int extra_fd);
/** As wl_display_roundtrip_queue(), but ends on a signal and at the deadline, if it is not NULL. */
int client_roundtrip(struct vitrine_client *client, const struct timespec *deadline);
/** Sends what is pending, as far as the socket takes it. */
void client_flush(struct vitrine_client *client);

/** The time in timeout_ms milliseconds. */
struct timespec deadline_in(int timeout_ms);
bool deadline_has_passed(const struct timespec *deadline);

/** Copies what is to hold from now on. Without memory it is not known, rather than an old one. */
void text_set(struct text *text, const char *value);
/** Returns whether it is another one than before. */
bool text_apply(struct text *text);
const char *text_get(const struct text *text);
void text_finish(struct text *text);

/** An output that cannot be had for lack of memory is not there. */
void client_add_output(struct vitrine_client *client, uint32_t global_name, uint32_t version);
void client_remove_output(struct vitrine_client *client, uint32_t global_name);
void client_bind_xdg_output_manager(struct vitrine_client *client, uint32_t global_name,
	uint32_t version);
void client_finish_outputs(struct vitrine_client *client);
void client_finish_toplevels(struct vitrine_client *client);

/** NULL on allocation failure. */
struct view *view_create(void);
/** Closes and unmaps everything. Accepts NULL. */
void view_destroy(struct view *view);
/** Whether the view is for the CPU, and mapped, rather than for a device. */
bool view_is_for_cpu(const struct view *view);
/**
 * Checks what the view event said against what was asked for. On failure `reason` is
 * set to a static string.
 */
int view_check(const struct view *view, const struct vitrine_session *session,
	const char **reason);
/**
 * Checks and maps the next plane. Takes the file descriptor over, also on
 * failure. On failure `reason` is set to a static string.
 */
int view_add_plane(struct view *view, int take_fd, uint32_t offset, uint32_t stride,
	const char **reason);
/** Whether the number of planes fits the format. */
bool view_is_complete(const struct view *view);
/** Brackets reading of a dma-buf by the CPU, without waiting. Does nothing otherwise. */
int view_begin_read(struct view *view);
void view_end_read(struct view *view);

/** Ends all sessions, since the connection has failed. */
void session_disconnect(struct vitrine_session *session);

#endif
