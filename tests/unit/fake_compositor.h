/* SPDX-License-Identifier: MIT */
#ifndef FAKE_COMPOSITOR_H
#define FAKE_COMPOSITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vitrine/derive.h>
#include <wayland-server-core.h>

/**
 * A compositor without a screen, in a process of its own, that says to its one
 * client what a script tells it to say: the truth or a lie.
 */

/** Seals that an honest compositor sets. */
#define FAKE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

struct fake_session {
	struct wl_resource *resource; // NULL after the client destroyed it
	const struct fake_script *script;
	struct fake *fake;
	uint32_t acceptable, options;
	uint32_t next_serial;
	struct fake_animation *animation; // NULL if none
};

struct fake_script {
	/** A session was created: send its events. */
	void (*start)(struct fake_session *session);
	/** A frame was released. May be NULL. */
	void (*release)(struct fake_session *session, uint32_t serial);
	/** A session was destroyed. May be NULL. */
	void (*stop)(struct fake_session *session);
	uint32_t guarantees; // to announce; 0 announces all of them
	bool no_manager, no_source_manager; // leave a global out
	bool remove_output; // once a session was created
	bool mute; // never answers at all
	uint32_t width, height; // of the mode; 0 for 64 by 32
};

/**
 * Starts the compositor. Returns the socket of its client; the compositor ends
 * once that is closed.
 */
int fake_start(const struct fake_script *script, pid_t *pid);
/** Waits for the compositor's end. Returns whether it was a clean one. */
bool fake_wait(pid_t pid);
/** Serves any number of clients on a named socket. Does not return. */
void fake_serve(const struct fake_script *script, const char *socket_name);

/** Makes a memfd with these seals and open mode. Aborts on failure. */
int fake_memfd(size_t size, unsigned seals, int open_flags);

/** What to announce. Zero stands for an honest value. */
struct fake_view {
	uint32_t index;
	uint32_t storage; // enum vitrine_storage
	bool is_dmabuf; // since 0 stands for dmabuf
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

void fake_send_view(struct fake_session *session, const struct fake_view *view);
/** Closes the file descriptor. */
void fake_send_plane(struct fake_session *session, const struct fake_view *view, uint32_t plane,
	int take_fd);
void fake_send_view_done(struct fake_session *session, uint32_t index);
/** The three above, with honest memory. */
void fake_announce(struct fake_session *session, uint32_t index);
/** Sends transform and time, and then frame. Returns the serial. */
uint32_t fake_send_frame(struct fake_session *session, uint32_t index);

/**
 * A script that plays a moving picture at 60 Hz, in 3 buffers with a depth of 2.
 */
extern const struct fake_script fake_animation;
/** The same, but it goes on drawing into the memory of sessions that have ended. */
extern const struct fake_script fake_animation_that_leaks;

#endif
