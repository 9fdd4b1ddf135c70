/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_CLIENT_H
#define VITRINE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <vitrine/derive.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * libvitrine-client looks at capture sources of a Wayland compositor that
 * implements xx-dmabuf-view-v1.
 *
 * The library does not trust the compositor: each file descriptor is verified
 * with vitrine_verify_fd(), and each view is checked for a layout that lies
 * inside of its memory, before the pixels are mapped.
 *
 * Functions that return int return 0 on success and a negative errno on error
 * unless they say otherwise. vitrine_client_get_error() then says in words
 * what happened. An object must be used by one thread at a time, along with
 * the client that it belongs to.
 */

struct wl_display;

/** A connection to a compositor. */
struct vitrine_client;
/** What a session looks at: an output or a toplevel. */
struct vitrine_source;
/** An output of the compositor, a source. */
struct vitrine_output;
/** A window of another client, a source. */
struct vitrine_toplevel;
/** A stream of frames of a capture source. */
struct vitrine_session;
/** A frame that is held until it is released. */
struct vitrine_frame;

/**
 * Connects to a compositor and learns its outputs. `name` is the name of the
 * Wayland socket, or NULL for $WAYLAND_DISPLAY.
 *
 * Fails with -ENOENT or -ECONNREFUSED if there is no compositor, -EPROTONOSUPPORT
 * if the compositor lacks a protocol that is needed or hides it from this client,
 * -ETIMEDOUT if it does not answer within 10 s, -EINTR if a signal arrived, -ENOMEM,
 * or another negative errno of the socket. `*client` is set to NULL on failure. If
 * `error` is not NULL it is set to a string on failure, which the caller frees, or
 * to NULL if there is no memory for it.
 */
int vitrine_client_connect(const char *name, struct vitrine_client **client,
	char **error);
/** The same, within so many milliseconds; -1 waits without a limit. */
int vitrine_client_connect_within(const char *name, int timeout_ms,
	struct vitrine_client **client, char **error);
/**
 * The same on a connected socket, which is taken over and closed also on
 * failure.
 */
int vitrine_client_connect_to_fd(int take_fd, struct vitrine_client **client,
	char **error);
/**
 * The same on a connection that the caller has, for a program that is a Wayland client
 * already. The client has an event queue and a registry of its own there. The display is
 * borrowed: it must outlive the client, is not disconnected, and goes on to be usable when
 * the client is destroyed or was not created. The caller may go on to dispatch it, also in
 * another thread. What it reads of the client's events waits for
 * vitrine_client_dispatch(), and the file descriptor does not tell of that: call it with a
 * timeout of 0 whenever the display was read.
 */
int vitrine_client_create_for_display(struct wl_display *borrowed_display, int timeout_ms,
	struct vitrine_client **client, char **error);
/**
 * Disconnects, unless the display is borrowed. Destroys the outputs, the toplevels and all
 * sessions and frames of the client, and calls no listener. Accepts NULL.
 */
void vitrine_client_destroy(struct vitrine_client *client);

/**
 * One line about the last error of this client, its sessions or frames. Valid
 * until the next call for the same client. Never NULL.
 */
const char *vitrine_client_get_error(const struct vitrine_client *client);

/** The guarantees that the compositor allows to this client. */
uint32_t vitrine_client_get_guarantees(const struct vitrine_client *client);

/**
 * The file descriptor to poll for POLLIN before vitrine_client_dispatch().
 * Owned by the client.
 */
int vitrine_client_get_fd(const struct vitrine_client *client);
/**
 * Sends what is pending, and handles events, waiting for them up to timeout_ms
 * milliseconds; 0 does not wait, -1 waits without a limit. Returns 1 if events
 * were handled, 0 if the time ran out, -EINTR if a signal arrived, -EPIPE if the
 * compositor is gone, -EPROTO after a protocol error, another negative errno.
 */
int vitrine_client_dispatch(struct vitrine_client *client, int timeout_ms);

/**
 * What happens to outputs and toplevels. Each may be NULL. They are called by
 * vitrine_client_dispatch() and by all functions that wait or look for events, in the order
 * of the events. They may create sessions, but must destroy neither sessions nor the client.
 */
struct vitrine_client_listener {
	/** It is described, but its place in the layout may follow in a change. */
	void (*output_added)(void *data, struct vitrine_output *output);
	/** A property of it has another value. */
	void (*output_changed)(void *data, struct vitrine_output *output);
	/**
	 * The compositor has removed it. The output lives as long as the client; one that comes
	 * back is another output, maybe of the same name.
	 */
	void (*output_removed)(void *data, struct vitrine_output *output);
	void (*toplevel_added)(void *data, struct vitrine_toplevel *toplevel);
	/** Its title or app-id has another value. */
	void (*toplevel_changed)(void *data, struct vitrine_toplevel *toplevel);
	/** The window was closed. The toplevel is freed when this returns; its sessions end. */
	void (*toplevel_removed)(void *data, struct vitrine_toplevel *toplevel);
};

/**
 * Has the client tell of changes from now on; what there is already is to be listed
 * before. Both are borrowed. NULL for no listener.
 */
void vitrine_client_set_listener(struct vitrine_client *client,
	const struct vitrine_client_listener *listener, void *data);

/**
 * The outputs, those that are gone included, in the order of their appearance, as an array
 * that is valid until the next dispatch. An output lives as long as the client, which has at
 * most 1024 of them in its life.
 */
struct vitrine_output *const *vitrine_client_get_outputs(
	const struct vitrine_client *client, size_t *len);
/**
 * The output with this name, or the first one if the name is NULL. Returns
 * NULL if there is none.
 */
struct vitrine_output *vitrine_client_find_output(
	const struct vitrine_client *client, const char *name);

/** The output as a source. Belongs to the output. */
struct vitrine_source *vitrine_output_get_source(struct vitrine_output *output);
/** Empty if unknown, never NULL. Valid until the next dispatch. */
const char *vitrine_output_get_name(const struct vitrine_output *output);
/** The same for people. Any bytes may be in both: print none that a terminal obeys. */
const char *vitrine_output_get_description(const struct vitrine_output *output);
/** The mode in pixels, before it is transformed, and its refresh rate in mHz, 0 if unknown. */
void vitrine_output_get_mode(const struct vitrine_output *output,
	int32_t *width, int32_t *height, int32_t *refresh_mhz);
/** Whether the compositor has removed the output. */
bool vitrine_output_is_gone(const struct vitrine_output *output);

/** Where an output is in the compositor's layout. */
struct vitrine_geometry {
	int32_t x, y, width, height; // in logical pixels
	uint32_t transform; // enum wl_output_transform
	/**
	 * Pixels for a logical pixel, as the transformed width of the mode by that of the layout:
	 * near what people set. An output of 1280 pixels with a scale of 1.5 is 853 logical pixels
	 * wide, which makes 1.5006.
	 */
	double scale;
};

/**
 * Returns false if the output is gone, is not in the layout, or if the compositor has not
 * said yet or says what cannot be. No sum of a place and a size overflows. A compositor
 * without xdg-output tells no fractional scale, but the next larger integer.
 */
bool vitrine_output_get_geometry(const struct vitrine_output *output,
	struct vitrine_geometry *geometry);

/**
 * Learns the toplevels, and goes on to follow them, until the client is destroyed: at most
 * 4096 at a time. When it returns 0, those that there are have their identifiers, titles and
 * app-ids, and the listener was told of them. Waits for that up to timeout_ms milliseconds,
 * -1 without a limit; it may be called again after -ETIMEDOUT and -EINTR, and does nothing
 * once it has returned 0.
 *
 * Fails with -EPROTONOSUPPORT if the compositor does not tell this client of windows or
 * does not let them be captured, -ETIMEDOUT, -EINTR, -ENOMEM or an error of
 * vitrine_client_dispatch().
 */
int vitrine_client_follow_toplevels(struct vitrine_client *client, int timeout_ms);
/**
 * The toplevels in the order of their appearance, as an array that is valid until the
 * next dispatch.
 */
struct vitrine_toplevel *const *vitrine_client_get_toplevels(
	const struct vitrine_client *client, size_t *len);

/** The toplevel as a source. Belongs to the toplevel. */
struct vitrine_source *vitrine_toplevel_get_source(struct vitrine_toplevel *toplevel);
/**
 * A name that no other toplevel of this compositor has or will have: 1 to 32 printable ASCII
 * characters. Never NULL. Valid as long as the toplevel.
 */
const char *vitrine_toplevel_get_identifier(const struct vitrine_toplevel *toplevel);
/**
 * What its application says it is, such as "org.mozilla.firefox". Any application may
 * say so, and it may have any bytes in it: print none that a terminal obeys. Empty if
 * unknown, never NULL. Valid until the next dispatch.
 */
const char *vitrine_toplevel_get_app_id(const struct vitrine_toplevel *toplevel);
/** The same for the title of the window. */
const char *vitrine_toplevel_get_title(const struct vitrine_toplevel *toplevel);

/** A format that the caller can read. */
struct vitrine_format {
	/** The dev_t of a node of the device that imports it, or 0 for the CPU. */
	dev_t device;
	uint32_t fourcc; // DRM_FORMAT_*
	uint64_t modifier; // DRM_FORMAT_MOD_*; of the CPU, DRM_FORMAT_MOD_LINEAR
};

/**
 * What happens to a session besides frames. Each may be NULL. They are called by
 * vitrine_client_dispatch() and by all functions that wait or look for events. They
 * must not destroy the session, or the client; they may release frames, but for the
 * one that they are told of and the one that vitrine_frame_is_revoked() was called with.
 */
struct vitrine_session_listener {
	/** A frame that is held was taken back: what was read of it may be torn. */
	void (*revoked)(void *data, struct vitrine_session *session, struct vitrine_frame *frame);
	/**
	 * No frame comes in this view any more. Its memory is the compositor's cost for
	 * as long as a duplicate of its file descriptors is kept open.
	 */
	void (*retired)(void *data, struct vitrine_session *session, uint32_t view_index);
	/** The source shows nothing, and no frame comes; or it shows something again. */
	void (*power)(void *data, struct vitrine_session *session, bool is_on);
};

struct vitrine_session_options {
	/** Guarantees to accept; 0 accepts all. */
	uint32_t acceptable; // bitfield of enum vitrine_guarantee
	/**
	 * Storages that the caller can read; 0 is VITRINE_STORAGE_CPU. Views of memfd and
	 * mapped-dmabuf storage are mapped. Of those of dmabuf storage no more is checked
	 * than that their layout lies inside of the memory: they are for callers that
	 * import them to a device.
	 */
	uint32_t storages; // bitfield of enum vitrine_storage
	/**
	 * For dmabuf storage, what the caller imports: at least one, by devices. For
	 * the CPU none has to be named: the library maps what it knows to be linear.
	 */
	const struct vitrine_format *formats;
	size_t n_formats;
	bool paint_cursors;
	/**
	 * For callers that show or sample what is newest: vitrine_session_next_frame()
	 * gives the newest frame, nothing that the caller holds costs the compositor
	 * anything, and a frame is not torn for at least two more: look with
	 * vitrine_frame_is_revoked() after reading.
	 */
	bool implicit_release;
	const struct vitrine_session_listener *listener; // may be NULL; borrowed
	void *data; // of the listener
};

/** Figures of a session. */
struct vitrine_session_stats {
	uint64_t frames; // received
	uint64_t skipped; // frames that the compositor skipped
	uint64_t revoked; // frames taken back while held
	uint32_t views; // announced
	uint32_t planes; // announced
	uint32_t fds; // received, of planes and fences
	uint32_t retired; // views retired
};

/**
 * Starts a session. `options` may be NULL, and are borrowed until this returns, but for the
 * listener. The session does not need the source any more. Fails with -ENODEV if the source is
 * gone, -EINVAL if a guarantee or a storage is unknown, if there are more than 1024
 * formats or 16 device nodes, or if dmabuf storage is asked for without a format of a
 * device, -ENOMEM, or the error that the connection has ended with. The session fails
 * later if the compositor refuses it.
 */
int vitrine_session_create(struct vitrine_source *source,
	const struct vitrine_session_options *options, struct vitrine_session **session);
/** Ends the session, and frees the frames of it that are held. Accepts NULL. */
void vitrine_session_destroy(struct vitrine_session *session);

/**
 * Waits up to timeout_ms milliseconds for the next frame (0: does not wait, -1:
 * without a limit), and for its fence, so that the pixels can be read. Frames
 * come in order; with implicit release, older ones than the newest are left out, and
 * count as skipped.
 *
 * Returns 1 and sets `*frame`, to be given back with vitrine_frame_release(); 0
 * if the time ran out; -EACCES if the session was denied, -ECANCELED if the
 * compositor ended it, -ENODEV if the source is gone, -ENOTSUP if no acceptable
 * guarantee could be given, -ENOMEM if the compositor has no resources for it,
 * -EPERM if the compositor sent something that is not what it promised, -EINTR if
 * a signal arrived, or an error of vitrine_client_dispatch(). After an error other
 * than -EINTR no frame comes any more; frames that are held stay readable, and are
 * to be released.
 */
int vitrine_session_next_frame(struct vitrine_session *session, int timeout_ms,
	struct vitrine_frame **frame);

/**
 * Waits up to timeout_ms milliseconds (-1: without a limit) until the compositor has
 * started the session: from then on vitrine_session_is_off() tells whether frames are to
 * be expected. Returns 1, 0 if the time ran out, or an error of
 * vitrine_session_next_frame().
 */
int vitrine_session_wait_started(struct vitrine_session *session, int timeout_ms);

void vitrine_session_get_stats(const struct vitrine_session *session,
	struct vitrine_session_stats *stats);
/** How many frames may be held at a time; 0 before it is known. */
uint32_t vitrine_session_get_depth(const struct vitrine_session *session);
/** Whether the compositor has said that the source shows nothing. */
bool vitrine_session_is_off(const struct vitrine_session *session);
/**
 * How the compositor has chosen the buffers of the source, in a line for people, which
 * may have any bytes in it: print none that a terminal obeys. Valid until the next
 * dispatch. NULL if the compositor has not said.
 */
const char *vitrine_session_get_explanation(const struct vitrine_session *session);

/**
 * Gives the frame back to the compositor and frees it. A caller that keeps the newest
 * frame until it has the next one, and gives it back then, costs the compositor no
 * buffer and gets every frame. Its pixels must not be
 * read afterwards, and devices must have finished reading them. Accepts NULL.
 */
void vitrine_frame_release(struct vitrine_frame *frame);

struct vitrine_rect {
	uint32_t x, y, width, height;
};

/** What a frame is. Strings, file descriptors and memory are borrowed. */
struct vitrine_frame_info {
	uint32_t width, height; // in pixels
	uint32_t fourcc; // DRM_FORMAT_*
	uint64_t modifier; // DRM_FORMAT_MOD_*
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	dev_t device; // of a dma-buf, a node of its device; 0 if none is known
	uint32_t transform; // enum wl_output_transform
	struct timespec time; // CLOCK_MONOTONIC, see the protocol's frame event
	struct timespec received; // CLOCK_MONOTONIC, when the frame event was handled
	/**
	 * What a still screen shows again: the time is from before the session's start, or that of
	 * a frame before. It says how old the content is, so no latency follows from it.
	 */
	bool shown_again;
	uint32_t skipped; // frames missed before this one
	uint32_t view_index;
	uint32_t serial;
	uint32_t n_planes;
	/**
	 * Of the view, the same for all frames of it: open until the view has retired or the
	 * session has ended, and no frame of it is held. -1 if none.
	 */
	int fds[4];
	uint32_t offsets[4], strides[4]; // in bytes
	const struct vitrine_rect *damage; // changes since the last frame, inside of it
	size_t n_damage;
};

/** The description of the frame, valid until it is released. */
const struct vitrine_frame_info *vitrine_frame_get_info(
	const struct vitrine_frame *frame);
/**
 * The pixels of a plane: the first byte of the first row, to be read only. NULL
 * if there is no such plane or the view is not mapped. Valid until the frame is
 * released.
 */
const void *vitrine_frame_get_pixels(const struct vitrine_frame *frame,
	uint32_t plane);
/**
 * Whether the compositor took the frame back, or, with implicit release, has sent two
 * more since, so that what was read of it may be torn. Handles events that have arrived,
 * without waiting.
 */
bool vitrine_frame_is_revoked(struct vitrine_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
