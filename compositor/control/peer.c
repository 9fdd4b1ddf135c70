/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

bool peer_has_unread(const struct peer *peer) {
	return peer->out_len > 0;
}

void peer_give_up(struct peer *peer) {
	if (!peer->is_broken) {
		peer->is_broken = true;
		shutdown(peer->fd, SHUT_RDWR); // wakes the event loop
	}
}

static void peer_update_mask(struct peer *peer) {
	uint32_t mask = 0;
	if (peer_has_unread(peer) || peer->has_more) {
		mask = WL_EVENT_WRITABLE;
	} else if (!peer->has_ended && !peer->is_paused) {
		mask = WL_EVENT_READABLE;
	}
	wl_event_source_fd_update(peer->source, mask);
}

static void peer_flush(struct peer *peer) {
	while (peer->out_sent < peer->out_len) {
		ssize_t n = send(peer->fd, peer->out + peer->out_sent, peer->out_len - peer->out_sent,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			return;
		} else if (n < 0 && errno != EINTR) {
			peer_give_up(peer);
			return;
		}
		peer->out_sent += n > 0 ? (size_t)n : 0;
	}
	free(peer->out);
	peer->out = NULL;
	peer->out_len = peer->out_sent = 0;
}

void peer_send(struct peer *peer, const char *text, size_t len) {
	if (peer->is_broken) {
		return;
	}
	char *out = len <= PEER_UNREAD_CAP - peer->out_len ?
		realloc(peer->out, peer->out_len + len) : NULL;
	if (out == NULL) {
		peer_give_up(peer);
		return;
	}
	memcpy(out + peer->out_len, text, len);
	peer->out = out;
	peer->out_len += len;
	peer_flush(peer);
	peer_update_mask(peer);
}

void peer_end(struct peer *peer) {
	peer->has_ended = true;
	peer->stays = false;
	peer_update_mask(peer);
}

void peer_set_paused(struct peer *peer, bool is_paused) {
	peer->is_paused = is_paused;
	peer_update_mask(peer);
}

/**
 * Takes no more than a line from the socket. The rest waits there: the event loop comes
 * back for it, when the others have had their turn.
 */
static void peer_read(struct peer *peer) {
	char *room = peer->line + peer->line_len;
	ssize_t n = recv(peer->fd, room, sizeof(peer->line) - peer->line_len,
		MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0) {
		peer->has_ended = n == 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			peer_give_up(peer);
		}
		return;
	}
	const char *end = memchr(room, '\n', (size_t)n);
	size_t taken = end != NULL ? (size_t)(end + 1 - room) : (size_t)n;
	if (recv(peer->fd, room, taken, MSG_DONTWAIT) != (ssize_t)taken) {
		peer_give_up(peer);
		return;
	}
	peer->line_len += taken;
	if (end != NULL) {
		size_t len = peer->line_len - 1;
		peer->line_len = 0;
		peer->impl->handle_line(peer, peer->line, len);
	} else if (peer->line_len == sizeof(peer->line)) {
		static const char error[] = "{\"error\":\"the line is longer than 4096 bytes\"}\n";
		peer_send(peer, error, sizeof(error) - 1);
		peer_end(peer);
	}
}

/** Nothing more is to come of it. */
static bool peer_is_over(const struct peer *peer, uint32_t mask) {
	return peer->is_broken || (mask & (WL_EVENT_HANGUP | WL_EVENT_ERROR)) ||
		(peer->has_ended && !peer->stays && !peer_has_unread(peer) && !peer->has_more);
}

static int peer_handle_event(int fd, uint32_t mask, void *data) {
	struct peer *peer = data;
	if (!peer->is_broken && (mask & WL_EVENT_READABLE)) {
		peer_read(peer);
	}
	if (!peer->is_broken && peer_has_unread(peer)) {
		peer_flush(peer);
	}
	if (!peer->is_broken && !peer_has_unread(peer)) {
		peer->impl->handle_drained(peer);
	}
	if (peer_is_over(peer, mask)) {
		peer_destroy(peer);
	} else {
		peer_update_mask(peer);
	}
	return 0;
}

struct peer *peer_create(struct wl_event_loop *loop, int take_fd,
		const struct peer_interface *impl, void *data) {
	struct peer *peer = calloc(1, sizeof(*peer));
	if (peer == NULL) {
		close(take_fd);
		return NULL;
	}
	// A byte that is out of band, and so not in the line, would be readable for ever
	const int on = 1;
	setsockopt(take_fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	peer->impl = impl;
	peer->data = data;
	peer->fd = take_fd;
	wl_list_init(&peer->link);
	peer->source = wl_event_loop_add_fd(loop, take_fd, WL_EVENT_READABLE, peer_handle_event,
		peer);
	if (peer->source == NULL) {
		close(take_fd);
		free(peer);
		return NULL;
	}
	return peer;
}

void peer_destroy(struct peer *peer) {
	peer->impl->handle_end(peer);
	wl_list_remove(&peer->link);
	wl_event_source_remove(peer->source);
	close(peer->fd);
	free(peer->out);
	free(peer);
}
