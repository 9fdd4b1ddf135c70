/* SPDX-License-Identifier: MIT */
#ifndef CONTROL_PEER_H
#define CONTROL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <wayland-server-core.h>

/** A longer line ends the connection. */
#define PEER_LINE_CAP 4096
/** A peer that lets more than this wait to be read is given up. */
#define PEER_UNREAD_CAP (256 * 1024)

struct peer;

struct peer_interface {
	/** A line has come, without its end. Not called while there is something to be read. */
	void (*handle_line)(struct peer *peer, const char *line, size_t len);
	/** The peer has read all that was sent: now it may be sent more. */
	void (*handle_drained)(struct peer *peer);
	/** It is about to be freed. */
	void (*handle_end)(struct peer *peer);
};

/**
 * A connection of which lines come and to which lines go. It never blocks, and what it
 * keeps is bounded: lines are taken one at a time, and none while an answer waits to be
 * read.
 */
struct peer {
	const struct peer_interface *impl;
	void *data; // of the implementation
	struct wl_list link; // of the implementation
	/** Has a use for the connection even if no more lines come. Of the implementation. */
	bool stays;
	/** There is more to send, when this has been read: no line is taken before. Likewise. */
	bool has_more;

	int fd;
	struct wl_event_source *source; // which has a file descriptor of its own
	char line[PEER_LINE_CAP];
	size_t line_len;
	char *out;
	size_t out_len, out_sent;
	bool has_ended; // no more lines come
	bool is_paused;
	bool is_broken; // is destroyed when the event loop comes to it
};

/** Takes the connection. Returns NULL on failure, and closes it. */
struct peer *peer_create(struct wl_event_loop *loop, int take_fd,
	const struct peer_interface *impl, void *data);
void peer_destroy(struct peer *peer);

/** Sends a text. On failure the peer is given up. */
void peer_send(struct peer *peer, const char *text, size_t len);
/** It is destroyed when the event loop comes to it, and can be used until then. */
void peer_give_up(struct peer *peer);
/** What was sent is the last: the peer goes when it has read that. */
void peer_end(struct peer *peer);
/** Whether something waits to be read. */
bool peer_has_unread(const struct peer *peer);
/** Whether lines are taken. */
void peer_set_paused(struct peer *peer, bool is_paused);

#endif
