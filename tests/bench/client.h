/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wayland.h"

/** The status of the client where what was asked for does not exist. */
#define STATUS_UNAVAILABLE 77

struct connection;

/** A way to get frames. */
struct path {
	const char *name;
	/** Interfaces that it needs, NULL-terminated. */
	const struct wl_interface *const *needs;
	/** Starts capturing; frames are handed to connection_frame(). */
	void (*start)(struct connection *connection);
	uint32_t guarantee; // for start()
	/** Asks again, after a time without asking. NULL if frames come unasked. */
	void (*resume)(struct connection *connection);
	bool implicit_release; // for start()
	bool gpu; // for start(): the client reads dma-bufs of a device
	/**
	 * Reads the pixel with the number of the last frame, at a cost: not for each frame. NULL
	 * if each frame is read, or none can be.
	 */
	uint32_t (*read_pixel)(struct connection *connection);
};

extern const struct path paths[];
extern const size_t paths_len;

/** The memory of a view, or of a buffer that is copied to. */
struct memory {
	const uint32_t *pixels;
	size_t size;
	uint64_t inode; // of the file, for paths that tell buffers apart by it
};

#define VIEWS_CAP 64
#define MODIFIERS_CAP 64

/** A client as far as the compositor can tell: a connection of its own. */
struct connection {
	struct wl_display *display;
	const struct path *path;
	uint32_t index; // among all connections

	// NULL where the path does not need it
	struct wl_output *output;
	struct wl_shm *shm;
	struct vitrine_bench_v1 *bench;
	struct zwlr_screencopy_manager_v1 *screencopy;
	struct zwlr_export_dmabuf_manager_v1 *export_dmabuf;
	struct ext_output_image_capture_source_manager_v1 *sources;
	struct ext_image_copy_capture_manager_v1 *copy_capture;
	struct xx_dmabuf_view_manager_v1 *views;
	struct zwp_linux_dmabuf_v1 *linux_dmabuf;

	// Of paths that copy
	struct ext_image_copy_capture_session_v1 *copy_session;
	struct wl_buffer *buffer;
	bool buffer_is_new; // nothing was copied to it yet
	uint32_t width, height, stride, format;
	struct memory target;
	struct gbm_bo *bo; // NULL if target is copied to
	uint64_t modifiers[MODIFIERS_CAP]; // that it may have, with this format
	uint32_t modifiers_len;

	// Of views and of exported buffers
	struct memory memories[VIEWS_CAP]; // by index of the view, modulo the size
	uint32_t memories_len; // of exported buffers, modulo the size as well
	const uint32_t *exported; // in the frame that is being described
	bool held_back; // did not ask for a frame, see bench_is_running()

	uint64_t commit_ns; // when the frame was, that is being described
	uint32_t number; // in the pixels of the last frame
	bool went_back; // a number was lower than the one before
	uint64_t frames;
	uint64_t bytes_copied; // by the compositor, as far as the protocol tells
	uint64_t skipped, revoked;
	bool asleep; // it does not read, and its session may be stopped for that
	bool stopped;
	uint32_t serial; // of the last frame, of views
};

/** A frame has come. `pixels` has the number of the frame; NULL if it cannot be read. */
void connection_frame(struct connection *connection, const uint32_t *pixels);
/** Sets connection.commit_ns. */
void connection_set_time(struct connection *connection, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
	uint32_t tv_nsec);
/**
 * Whether the scene changes. Outside of that, who would get a frame each time that it
 * asks for one is not to ask, or there would be no end of frames.
 */
bool bench_is_running(void);
/** Memory to copy to, as a memfd that the caller does not own. */
struct memory connection_get_target(struct connection *connection, size_t size, int *fd);

/** What went through the sockets of all connections, but for the controller's. */
struct wire {
	uint64_t bytes, fds;
};

extern struct wire wire;
/** The socket that is not counted. */
extern int wire_ignored_fd;

#endif
