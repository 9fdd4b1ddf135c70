/* SPDX-License-Identifier: MIT */
/**
 * Lines of JSON on a socket that no Wayland client is told of, and that is not in a
 * sandbox. Requests are small, and so are the answers: a list is written as it is read.
 */
#include <errno.h>
#include <json.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vitrine/view_v1.h>

#include "control_socket.h"
#include "control_path.h"
#include "peer.h"
#include "session_json.h"
#include "visible.h"

/** Requests of all peers in each interval: a flood waits. */
#define REQUESTS_CAP 32
#define INTERVAL_MS 100

struct control {
	struct control_options options;
	struct sockaddr_un address;
	dev_t device; // of the socket's file, so that no other one is removed
	ino_t inode;
	int fd;
	struct wl_event_source *source;
	struct wl_event_source *timer; // ends a pause
	bool is_paused;
	unsigned n_requests; // since the timer was set
	struct wl_list clients; // control_client.peer->link, the last one to speak first
	struct wl_listener manager_destroy;
	struct wl_listener session_guarantee;
	struct wl_listener session_stop;
};

/** A peer, and what it has asked for. */
struct control_client {
	struct control *control;
	bool watches;
	uint64_t last_id; // of a list that has more
};

static struct control_client *client_from_peer(struct peer *peer) {
	return peer->data;
}

/* Answers */

/** Sends a line, which it takes. May be NULL, without memory: the peer is given up. */
static void send_object(struct peer *peer, struct json_object *take_object) {
	const char *json = take_object != NULL ? json_object_to_json_string_ext(take_object,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
	char *line = NULL;
	size_t len = 0;
	FILE *stream = json != NULL ? open_memstream(&line, &len) : NULL;
	bool ok = stream != NULL;
	if (ok) {
		visible_print_json(stream, json);
		fputc('\n', stream);
		ok = !ferror(stream);
		ok = fclose(stream) == 0 && ok;
	}
	if (ok) {
		peer_send(peer, line, len);
	} else {
		peer_give_up(peer);
	}
	free(line);
	json_object_put(take_object);
}

/** An object of one key and a value, which it takes. NULL without memory. */
static struct json_object *make_pair(const char *key, struct json_object *take_value) {
	struct json_object *object = take_value != NULL ? json_object_new_object() : NULL;
	if (object == NULL || json_object_object_add(object, key, take_value) != 0) {
		json_object_put(object);
		json_object_put(take_value);
		return NULL;
	}
	return object;
}

static void send_end(struct peer *peer) {
	send_object(peer, make_pair("end", json_object_new_boolean(true)));
}

static void send_error(struct peer *peer, const char *error) {
	send_object(peer, make_pair("error", json_object_new_string(error)));
}

static struct vitrine_view_session_v1 *find_session(const struct control *control,
		uint64_t min_id) {
	struct vitrine_view_session_v1 *session = NULL;
	do {
		session = vitrine_view_manager_v1_get_next_session(control->options.manager, session);
	} while (session != NULL && vitrine_view_session_v1_get_id(session) < min_id);
	return session;
}

/** The next one of a list. */
static void continue_list(struct peer *peer) {
	struct control_client *client = client_from_peer(peer);
	const struct vitrine_view_session_v1 *session =
		find_session(client->control, client->last_id + 1);
	if (session != NULL) {
		client->last_id = vitrine_view_session_v1_get_id(session);
		send_object(peer, session_json_create(session));
	} else {
		peer->has_more = false;
		send_end(peer);
	}
}

/* Requests */

static void handle_list(struct peer *peer, struct json_object *value) {
	struct control_client *client = client_from_peer(peer);
	client->last_id = 0;
	peer->has_more = true; // see client_handle_drained()
}

static void handle_stop(struct peer *peer, struct json_object *value) {
	struct control_client *client = client_from_peer(peer);
	uint64_t id = json_object_get_uint64(value);
	struct vitrine_view_session_v1 *session =
		id > 0 ? find_session(client->control, id) : NULL;
	if (session == NULL || vitrine_view_session_v1_get_id(session) != id) {
		char error[64];
		snprintf(error, sizeof(error), "there is no session %llu", (unsigned long long)id);
		send_error(peer, error);
		return;
	}
	vitrine_view_session_v1_stop(session, VITRINE_VIEW_STOP_REVOKED);
	send_end(peer);
}

static void handle_reload(struct peer *peer, struct json_object *value) {
	const struct control_options *options = &client_from_peer(peer)->control->options;
	char error[CONTROL_ERROR_SIZE];
	if (options->reload == NULL) {
		send_error(peer, "there is no policy file: start the compositor with --policy");
	} else if (options->reload(options->data, error)) {
		send_end(peer);
	} else {
		send_error(peer, error);
	}
}

static void handle_watch(struct peer *peer, struct json_object *value) {
	client_from_peer(peer)->watches = true;
	peer->stays = true;
	send_end(peer);
}

static const struct request {
	const char *key;
	enum json_type type;
	void (*handle)(struct peer *peer, struct json_object *value);
} requests[] = {
	{ "list", json_type_boolean, handle_list },
	{ "stop", json_type_int, handle_stop },
	{ "reload", json_type_boolean, handle_reload },
	{ "watch", json_type_boolean, handle_watch },
};

/** The only key of an object that we know, and its value; NULL if there is none. */
static const struct request *find_request(const struct json_object *object,
		struct json_object **value) {
	if (!json_object_is_type(object, json_type_object) || json_object_object_length(object) != 1) {
		return NULL;
	}
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (json_object_object_get_ex(object, requests[i].key, value) &&
				json_object_is_type(*value, requests[i].type)) {
			bool is_false = requests[i].type == json_type_boolean &&
				!json_object_get_boolean(*value);
			return is_false ? NULL : &requests[i];
		}
	}
	return NULL;
}

/** NULL if it is not one whole object, or without memory. */
static struct json_object *parse_line(const char *line, size_t len) {
	if (memchr(line, '\0', len) != NULL) {
		return NULL; // where json-c would end
	}
	struct json_tokener *tokener = json_tokener_new_ex(4);
	if (tokener == NULL) {
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *object = json_tokener_parse_ex(tokener, line, (int)len);
	json_tokener_free(tokener);
	return object;
}

static void control_pause(struct control *control);

static void client_handle_line(struct peer *peer, const char *line, size_t len) {
	struct control *control = client_from_peer(peer)->control;
	wl_list_remove(&peer->link); // it is the last one to speak
	wl_list_insert(&control->clients, &peer->link);
	if (control->n_requests++ == 0) {
		wl_event_source_timer_update(control->timer, INTERVAL_MS);
	} else if (control->n_requests >= REQUESTS_CAP) {
		control_pause(control);
	}
	struct json_object *object = parse_line(line, len), *value = NULL;
	const struct request *request = find_request(object, &value);
	if (request != NULL) {
		request->handle(peer, value);
	} else {
		send_error(peer, "unknown request (known: {\"list\":true}, {\"stop\":ID}, "
			"{\"reload\":true}, {\"watch\":true})");
	}
	json_object_put(object);
}

static void client_handle_drained(struct peer *peer) {
	// One at a time, so that a long list keeps no other work waiting
	if (peer->has_more) {
		continue_list(peer);
	}
}

static void client_handle_end(struct peer *peer) {
	free(peer->data);
}

static const struct peer_interface client_impl = {
	.handle_line = client_handle_line,
	.handle_drained = client_handle_drained,
	.handle_end = client_handle_end,
};

/* Events */

static void control_tell(struct control *control, const char *event,
		const struct vitrine_view_session_v1 *session) {
	struct peer *peer;
	wl_list_for_each(peer, &control->clients, link) {
		if (!client_from_peer(peer)->watches) {
			continue;
		}
		struct json_object *object = make_pair("event", json_object_new_string(event));
		struct json_object *value = object != NULL ? session_json_create(session) : NULL;
		if (value == NULL || json_object_object_add(object, "session", value) != 0) {
			json_object_put(value);
			json_object_put(object);
			object = NULL;
		}
		send_object(peer, object);
	}
}

static void control_handle_session_guarantee(struct wl_listener *listener, void *data) {
	struct control *control = wl_container_of(listener, control, session_guarantee);
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(data, &stats);
	control_tell(control, stats.frames == 0 ? "start" : "change", data);
}

static void control_handle_session_stop(struct wl_listener *listener, void *data) {
	struct control *control = wl_container_of(listener, control, session_stop);
	if (vitrine_view_session_v1_get_guarantee(data) != 0) {
		control_tell(control, "stop", data);
	} // else nothing was ever shown, and it was not told of
}

/* Connections */

/** For an interval no request is read and no connection accepted. */
static void control_pause(struct control *control) {
	struct peer *peer;
	control->is_paused = true;
	wl_event_source_fd_update(control->source, 0);
	wl_list_for_each(peer, &control->clients, link) {
		peer_set_paused(peer, true);
	}
}

static int control_handle_timer(void *data) {
	struct control *control = data;
	control->n_requests = 0;
	if (control->is_paused) {
		struct peer *peer;
		control->is_paused = false;
		wl_event_source_fd_update(control->source, WL_EVENT_READABLE);
		wl_list_for_each(peer, &control->clients, link) {
			peer_set_paused(peer, false);
		}
	}
	return 0;
}

/** Those that watch have reason to be silent. */
static struct peer *control_find_idle_peer(struct control *control) {
	struct peer *peer;
	wl_list_for_each_reverse(peer, &control->clients, link) {
		if (!client_from_peer(peer)->watches) {
			return peer;
		}
	}
	return NULL;
}

/** Whether there is room for one more, which may be made. */
static bool control_make_room(struct control *control) {
	if (wl_list_length(&control->clients) < CONTROL_PEERS_CAP) {
		return true;
	}
	struct peer *idle = control_find_idle_peer(control);
	if (idle != NULL) {
		peer_destroy(idle);
	}
	return idle != NULL;
}

static bool is_our_user(int fd) {
	struct ucred cred;
	socklen_t len = sizeof(cred);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
		(cred.uid == geteuid() || cred.uid == 0);
}

static void control_add_peer(struct control *control, int take_fd) {
	struct control_client *client = calloc(1, sizeof(*client));
	if (client == NULL || !is_our_user(take_fd) || !control_make_room(control)) {
		free(client);
		close(take_fd);
		return;
	}
	client->control = control;
	struct peer *peer = peer_create(control->options.loop, take_fd, &client_impl, client);
	if (peer == NULL) {
		free(client);
		return;
	}
	wl_list_insert(&control->clients, &peer->link);
}

static int control_handle_connection(int fd, uint32_t mask, void *data) {
	struct control *control = data;
	int peer_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer_fd >= 0) {
		// Connections count like requests, since each costs as much
		if (control->n_requests++ == 0) {
			wl_event_source_timer_update(control->timer, INTERVAL_MS);
		}
		control_add_peer(control, peer_fd);
	}
	bool failed = peer_fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
	if (failed || control->n_requests >= REQUESTS_CAP) {
		// Without a file descriptor, say, it would be readable again and again
		wl_event_source_timer_update(control->timer, INTERVAL_MS);
		control_pause(control);
	}
	return 0;
}

/* The socket */

static bool fail(char error[static CONTROL_ERROR_SIZE], const char *path, const char *what) {
	snprintf(error, CONTROL_ERROR_SIZE, "no control socket at %s: %s", path, what);
	return false;
}

/** Whether another process listens: if none does, the socket was left behind. */
static bool has_listener(const struct sockaddr_un *address) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return true; // it cannot be known
	}
	bool is_refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return !is_refused;
}

static bool is_own_socket(const char *path) {
	struct stat stat;
	return lstat(path, &stat) == 0 && S_ISSOCK(stat.st_mode) && stat.st_uid == geteuid();
}

static bool bind_socket(int fd, const struct sockaddr_un *address) {
	// The mode of the file that bind() makes: it is right from the start
	if (fchmod(fd, 0600) != 0) {
		return false;
	}
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
		return true;
	}
	// The compositor has a lock on the Wayland socket of the same name, so no other one is
	// just about to do the same
	if (errno != EADDRINUSE) {
		return false;
	}
	if (!is_own_socket(address->sun_path) || has_listener(address)) {
		errno = EADDRINUSE;
		return false;
	}
	return unlink(address->sun_path) == 0 &&
		bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
}

static bool control_listen(struct control *control, char error[static CONTROL_ERROR_SIZE]) {
	const char *path = control->address.sun_path;
	struct stat stat;
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->fd < 0 || !bind_socket(control->fd, &control->address)) {
		return fail(error, path, strerror(errno));
	}
	if (lstat(path, &stat) == 0) {
		control->device = stat.st_dev;
		control->inode = stat.st_ino;
	}
	if (listen(control->fd, CONTROL_PEERS_CAP) != 0) {
		return fail(error, path, strerror(errno));
	}
	control->source = wl_event_loop_add_fd(control->options.loop, control->fd,
		WL_EVENT_READABLE, control_handle_connection, control);
	control->timer = wl_event_loop_add_timer(control->options.loop, control_handle_timer,
		control);
	return (control->source != NULL && control->timer != NULL) ||
		fail(error, path, "out of memory");
}

static void control_destroy(struct control *control) {
	struct peer *peer, *tmp;
	wl_list_for_each_safe(peer, tmp, &control->clients, link) {
		peer_destroy(peer);
	}
	if (control->source != NULL) {
		wl_event_source_remove(control->source);
	}
	if (control->timer != NULL) {
		wl_event_source_remove(control->timer);
	}
	struct stat stat;
	const char *path = control->address.sun_path;
	if (control->inode != 0 && lstat(path, &stat) == 0 && stat.st_dev == control->device &&
			stat.st_ino == control->inode) {
		unlink(path);
	}
	if (control->fd >= 0) {
		close(control->fd);
	}
	free(control);
}

static void control_handle_manager_destroy(struct wl_listener *listener, void *data) {
	struct control *control = wl_container_of(listener, control, manager_destroy);
	wl_list_remove(&control->manager_destroy.link);
	wl_list_remove(&control->session_guarantee.link);
	wl_list_remove(&control->session_stop.link);
	control_destroy(control);
}

bool control_socket_create(const struct control_options *options,
		char error[static CONTROL_ERROR_SIZE]) {
	struct control *control = calloc(1, sizeof(*control));
	if (control == NULL) {
		return fail(error, options->wayland_display, "out of memory");
	}
	control->options = *options;
	control->options.wayland_display = NULL; // borrowed until now
	control->fd = -1;
	wl_list_init(&control->clients);
	if (!control_path_get(&control->address, options->wayland_display)) {
		fail(error, options->wayland_display, strerror(errno));
		control_destroy(control);
		return false;
	}
	if (!control_listen(control, error)) {
		control_destroy(control);
		return false;
	}
	control->manager_destroy.notify = control_handle_manager_destroy;
	wl_signal_add(&options->manager->events.destroy, &control->manager_destroy);
	control->session_guarantee.notify = control_handle_session_guarantee;
	wl_signal_add(&options->manager->events.session_guarantee, &control->session_guarantee);
	control->session_stop.notify = control_handle_session_stop;
	wl_signal_add(&options->manager->events.session_stop, &control->session_stop);
	return true;
}
