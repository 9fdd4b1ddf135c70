/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ext-foreign-toplevel-list-v1-client-protocol.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "private.h"
#include "xdg-output-unstable-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

/** A compositor that answers nothing for this long is not there. */
#define CONNECT_TIMEOUT_MS 10000

int client_fail(struct vitrine_client *client, int error, const char *format, ...) {
	va_list args;
	va_start(args, format);
	vsnprintf(client->message.text, sizeof(client->message.text), format, args);
	va_end(args);
	return error;
}

struct timespec deadline_in(int timeout_ms) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now.tv_sec += timeout_ms / 1000;
	now.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (now.tv_nsec >= 1000000000) {
		now.tv_sec++;
		now.tv_nsec -= 1000000000;
	}
	return now;
}

/** Milliseconds until the deadline, rounded up so that no loop spins; -1 without one. */
static int get_timeout(const struct timespec *deadline) {
	if (deadline == NULL) {
		return -1;
	}
	struct timespec now = deadline_in(0);
	int64_t ns = (int64_t)(deadline->tv_sec - now.tv_sec) * 1000000000 +
		(deadline->tv_nsec - now.tv_nsec);
	if (ns <= 0) {
		return 0;
	}
	int64_t ms = (ns + 999999) / 1000000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

bool deadline_has_passed(const struct timespec *deadline) {
	return get_timeout(deadline) == 0;
}

/** Takes the error of the display over, which is final. */
static int client_disconnect(struct vitrine_client *client, int fallback_errno) {
	if (client->error != 0) {
		return client->error;
	}
	int error = wl_display_get_error(client->display);
	if (error == 0) {
		error = fallback_errno != 0 ? fallback_errno : EPIPE;
	}
	if (error == EPROTO) {
		const struct wl_interface *interface = NULL;
		uint32_t id, code = wl_display_get_protocol_error(client->display, &interface, &id);
		client->error = client_fail(client, -EPROTO, "protocol error %u on %s", code,
			interface != NULL ? interface->name : "an unknown object");
	} else if (error == EPIPE || error == ECONNRESET) {
		client->error = client_fail(client, -EPIPE, "the compositor closed the connection");
	} else {
		client->error = client_fail(client, -error, "the connection failed: %s", strerror(error));
	}

	struct vitrine_session *session;
	wl_list_for_each(session, &client->sessions, link) {
		session_disconnect(session);
	}
	return client->error;
}

void client_flush(struct vitrine_client *client) {
	// EAGAIN is made up for in client_dispatch(). On EPIPE there may be an
	// error event to read, so that failing is left to reading too.
	wl_display_flush(client->display);
}

/**
 * Polls with the read intention of wl_display_prepare_read_queue(). Returns 1 if
 * the display can be read, 0 if not, or a negative errno.
 */
static int client_poll(struct vitrine_client *client, const struct timespec *deadline,
		int extra_fd, bool *extra_ready) {
	bool flushed = wl_display_flush(client->display) >= 0 || errno != EAGAIN;
	struct pollfd fds[] = {
		{ .fd = wl_display_get_fd(client->display),
			.events = (short)(flushed ? POLLIN : POLLIN | POLLOUT) },
		{ .fd = extra_fd, .events = POLLIN },
	};
	if (poll(fds, 2, get_timeout(deadline)) < 0) {
		return -errno;
	}
	*extra_ready = fds[1].revents != 0;
	return (fds[0].revents & ~POLLOUT) != 0;
}

/** Returns the number of events handled, or a negative errno. */
static int client_dispatch_pending(struct vitrine_client *client) {
	int n = wl_display_dispatch_queue_pending(client->display, client->queue);
	return n < 0 ? client_disconnect(client, errno) : n;
}

/** Returns 1 if events were handled, 0 if something else happened, or a negative errno. */
static int client_dispatch_once(struct vitrine_client *client, const struct timespec *deadline,
		int extra_fd, bool *extra_ready) {
	if (wl_display_prepare_read_queue(client->display, client->queue) < 0) {
		client_flush(client);
		return client_dispatch_pending(client);
	}
	int ret = client_poll(client, deadline, extra_fd, extra_ready);
	if (ret <= 0) {
		wl_display_cancel_read(client->display);
		return ret;
	}
	if (wl_display_read_events(client->display) < 0 && errno != EAGAIN) {
		return client_disconnect(client, errno);
	}
	return client_dispatch_pending(client);
}

int client_dispatch(struct vitrine_client *client, const struct timespec *deadline,
		int extra_fd) {
	while (client->error == 0) {
		bool extra_ready = false;
		int ret = client_dispatch_once(client, deadline, extra_fd, &extra_ready);
		if (ret < 0) {
			if (client->error == 0) {
				client_fail(client, ret, "waiting for the compositor failed: %s",
					strerror(-ret));
			}
			return ret;
		}
		if (ret > 0 || extra_ready) {
			return 1;
		}
		// Events of other queues, a part of an event, or a full socket that
		// drained, do not count
		if (get_timeout(deadline) == 0) {
			return 0;
		}
	}
	return client->error;
}

int vitrine_client_dispatch(struct vitrine_client *client, int timeout_ms) {
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	return client_dispatch(client, timeout_ms < 0 ? NULL : &deadline, -1);
}

static void sync_handle_done(void *data, struct wl_callback *callback, uint32_t serial) {
	bool *synced = data;
	*synced = true;
}

static const struct wl_callback_listener sync_listener = {
	.done = sync_handle_done,
};

int client_roundtrip(struct vitrine_client *client, const struct timespec *deadline) {
	struct wl_display *wrapper = wl_proxy_create_wrapper(client->display);
	if (wrapper == NULL) {
		return client_fail(client, -ENOMEM, "out of memory");
	}
	wl_proxy_set_queue((struct wl_proxy *)wrapper, client->queue);
	struct wl_callback *callback = wl_display_sync(wrapper);
	wl_proxy_wrapper_destroy(wrapper);
	if (callback == NULL) {
		return client_fail(client, -ENOMEM, "out of memory");
	}
	bool synced = false; // of this one: a listener may wait for another
	wl_callback_add_listener(callback, &sync_listener, &synced);

	int ret = 1;
	while (!synced && ret > 0) {
		ret = client_dispatch(client, deadline, -1);
		// Also if events come without end
		if (deadline_has_passed(deadline)) {
			break;
		}
	}
	wl_callback_destroy(callback);
	if (synced) {
		return 0;
	}
	return ret < 0 ? ret : client_fail(client, -ETIMEDOUT, "the compositor does not answer");
}

void text_set(struct text *text, const char *value) {
	free(text->next);
	text->next = strdup(value);
	if (text->next == NULL) {
		free(text->now);
		text->now = NULL;
	}
}

bool text_apply(struct text *text) {
	if (text->next == NULL) {
		return false;
	}
	bool is_new = text->now == NULL || strcmp(text->now, text->next) != 0;
	free(text->now);
	text->now = text->next;
	text->next = NULL;
	return is_new;
}

const char *text_get(const struct text *text) {
	return text->now != NULL ? text->now : "";
}

void text_finish(struct text *text) {
	free(text->now);
	free(text->next);
}

static void view_manager_handle_guarantees(void *data, struct xx_dmabuf_view_manager_v1 *manager,
		uint32_t mask) {
	struct vitrine_client *client = data;
	client->guarantees = mask & VITRINE_GUARANTEE_ALL;
}

static const struct xx_dmabuf_view_manager_v1_listener view_manager_listener = {
	.guarantees = view_manager_handle_guarantees,
};

static void client_bind_view_manager(struct vitrine_client *client, uint32_t name,
		uint32_t version) {
	client->view_manager =
		wl_registry_bind(client->registry, name, &xx_dmabuf_view_manager_v1_interface, 1);
	if (client->view_manager != NULL) {
		xx_dmabuf_view_manager_v1_add_listener(client->view_manager, &view_manager_listener,
			client);
	}
}

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct vitrine_client *client = data;
	if (strcmp(interface, wl_output_interface.name) == 0) {
		client_add_output(client, name, version);
	} else if (strcmp(interface, xx_dmabuf_view_manager_v1_interface.name) == 0 &&
			client->view_manager == NULL) {
		client_bind_view_manager(client, name, version);
	} else if (strcmp(interface, ext_output_image_capture_source_manager_v1_interface.name) == 0 &&
			client->source_manager == NULL) {
		client->source_manager = wl_registry_bind(registry, name,
			&ext_output_image_capture_source_manager_v1_interface, 1);
	} else if (strcmp(interface,
			ext_foreign_toplevel_image_capture_source_manager_v1_interface.name) == 0 &&
			client->toplevel_source_manager == NULL) {
		client->toplevel_source_manager = wl_registry_bind(registry, name,
			&ext_foreign_toplevel_image_capture_source_manager_v1_interface, 1);
	} else if (strcmp(interface, ext_foreign_toplevel_list_v1_interface.name) == 0 &&
			client->toplevel_list_global == 0) {
		client->toplevel_list_global = name;
	} else if (strcmp(interface, zxdg_output_manager_v1_interface.name) == 0 &&
			client->xdg_output_manager == NULL) {
		client_bind_xdg_output_manager(client, name, version);
	}
}

static void registry_handle_global_remove(void *data, struct wl_registry *registry,
		uint32_t name) {
	struct vitrine_client *client = data;
	if (name == client->toplevel_list_global) {
		client->toplevel_list_global = 0;
	}
	client_remove_output(client, name);
}

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

static int client_get_registry(struct vitrine_client *client) {
	client->queue = wl_display_create_queue(client->display);
	struct wl_display *wrapper = wl_proxy_create_wrapper(client->display);
	if (client->queue != NULL && wrapper != NULL) {
		// All objects of ours inherit the queue
		wl_proxy_set_queue((struct wl_proxy *)wrapper, client->queue);
		client->registry = wl_display_get_registry(wrapper);
	}
	if (wrapper != NULL) {
		wl_proxy_wrapper_destroy(wrapper);
	}
	if (client->registry == NULL) {
		return client_fail(client, -ENOMEM, "out of memory");
	}
	wl_registry_add_listener(client->registry, &registry_listener, client);
	return 0;
}

static int client_check_globals(struct vitrine_client *client) {
	const struct wl_interface *missing = NULL;
	if (client->view_manager == NULL) {
		missing = &xx_dmabuf_view_manager_v1_interface;
	} else if (client->source_manager == NULL) {
		missing = &ext_output_image_capture_source_manager_v1_interface;
	}
	if (missing != NULL) {
		return client_fail(client, -EPROTONOSUPPORT,
			"the compositor does not offer %s to this client", missing->name);
	}
	return 0;
}

static int client_init(struct vitrine_client *client, const struct timespec *deadline) {
	int ret = client_get_registry(client);
	if (ret < 0) {
		return ret;
	}
	ret = client_roundtrip(client, deadline); // globals
	if (ret < 0) {
		return ret;
	}
	ret = client_check_globals(client);
	if (ret < 0) {
		return ret;
	}
	return client_roundtrip(client, deadline); // outputs, guarantees
}

/** Takes the display over unless it is borrowed. */
static int client_create(struct wl_display *display, bool is_borrowed,
		const struct timespec *deadline, struct vitrine_client **client_ptr, char **error) {
	struct vitrine_client *client = calloc(1, sizeof(*client));
	if (client == NULL) {
		if (!is_borrowed) {
			wl_display_disconnect(display);
		}
		return -ENOMEM;
	}
	client->display = display;
	client->borrows_display = is_borrowed;
	wl_list_init(&client->sessions);
	wl_list_init(&client->toplevel_sources);

	int ret = client_init(client, deadline);
	if (ret < 0) {
		if (error != NULL) {
			*error = strdup(client->message.text);
		}
		vitrine_client_destroy(client);
		return ret;
	}
	*client_ptr = client;
	return 0;
}

static int fail_to_connect(int error, const char *name, char **message) {
	if (message == NULL) {
		return error;
	}
	if (name == NULL) {
		name = getenv("WAYLAND_DISPLAY");
	}
	name = name != NULL ? name : "wayland-0";
	const char *dir = getenv("XDG_RUNTIME_DIR");
	bool has_place = name[0] == '/' || (dir != NULL && dir[0] == '/') ||
		getenv("WAYLAND_SOCKET") != NULL;
	if (asprintf(message, "cannot connect to the Wayland socket \"%s\": %s", name,
			has_place ? strerror(-error) : dir == NULL ? "XDG_RUNTIME_DIR is not set" :
			"XDG_RUNTIME_DIR is no absolute path") < 0) {
		*message = NULL;
	}
	return error;
}

/** Where wl_display_connect() finds it. Returns false if it would find nothing. */
static bool find_socket(const char *name, struct sockaddr_un *address) {
	const char *dir = getenv("XDG_RUNTIME_DIR");
	if (name == NULL) {
		name = getenv("WAYLAND_DISPLAY");
	}
	name = name != NULL ? name : "wayland-0";
	if (name[0] != '/' && (dir == NULL || dir[0] != '/')) {
		return false;
	}
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int len = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s%s",
		name[0] == '/' ? "" : dir, name[0] == '/' ? "" : "/", name);
	return len > 0 && (size_t)len < sizeof(address->sun_path);
}

/**
 * As wl_display_connect(), which waits without an end where so many wait for a compositor
 * that its socket takes no more. NULL with errno.
 */
static struct wl_display *connect_within(const char *name, int timeout_ms) {
	struct sockaddr_un address;
	if (getenv("WAYLAND_SOCKET") != NULL) {
		return wl_display_connect(name); // is connected
	}
	if (!find_socket(name, &address)) {
		errno = ENOENT;
		return NULL;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	// Zero is for ever
	struct timeval wait = {0};
	if (timeout_ms >= 0) {
		wait = (struct timeval){ timeout_ms / 1000, timeout_ms % 1000 * 1000 + 1 };
	}
	if (fd < 0) {
		return NULL;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0 ||
			connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		int error = errno;
		close(fd);
		errno = error == EAGAIN ? ETIMEDOUT : error;
		return NULL;
	}
	return wl_display_connect_to_fd(fd);
}

int vitrine_client_connect_within(const char *name, int timeout_ms,
		struct vitrine_client **client, char **error) {
	*client = NULL;
	if (error != NULL) {
		*error = NULL;
	}
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	errno = 0;
	struct wl_display *display = connect_within(name, timeout_ms);
	if (display == NULL) {
		return fail_to_connect(errno > 0 ? -errno : -ENOENT, name, error);
	}
	return client_create(display, false, timeout_ms < 0 ? NULL : &deadline, client, error);
}

int vitrine_client_connect(const char *name, struct vitrine_client **client, char **error) {
	return vitrine_client_connect_within(name, CONNECT_TIMEOUT_MS, client, error);
}

int vitrine_client_connect_to_fd(int take_fd, struct vitrine_client **client, char **error) {
	*client = NULL;
	if (error != NULL) {
		*error = NULL;
	}
	// libwayland closes the file descriptor also on failure
	struct wl_display *display = wl_display_connect_to_fd(take_fd);
	if (display == NULL) {
		return -ENOMEM;
	}
	struct timespec deadline = deadline_in(CONNECT_TIMEOUT_MS);
	return client_create(display, false, &deadline, client, error);
}

int vitrine_client_create_for_display(struct wl_display *borrowed_display, int timeout_ms,
		struct vitrine_client **client, char **error) {
	*client = NULL;
	if (error != NULL) {
		*error = NULL;
	}
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	return client_create(borrowed_display, true, timeout_ms < 0 ? NULL : &deadline, client, error);
}

void vitrine_client_destroy(struct vitrine_client *client) {
	if (client == NULL) {
		return;
	}
	client->listener = NULL;
	struct vitrine_session *session, *tmp;
	wl_list_for_each_safe(session, tmp, &client->sessions, link) {
		vitrine_session_destroy(session);
	}
	// Objects that were created by events have to be had to be destroyed
	if (client->queue != NULL) {
		wl_display_dispatch_queue_pending(client->display, client->queue);
	}
	client_finish_outputs(client);
	client_finish_toplevels(client);
	if (client->view_manager != NULL) {
		xx_dmabuf_view_manager_v1_destroy(client->view_manager);
	}
	if (client->source_manager != NULL) {
		ext_output_image_capture_source_manager_v1_destroy(client->source_manager);
	}
	if (client->registry != NULL) {
		wl_registry_destroy(client->registry);
	}
	client_flush(client);
	// After its objects: events that wait in it refer to them
	if (client->queue != NULL) {
		wl_event_queue_destroy(client->queue);
	}
	if (!client->borrows_display) {
		wl_display_disconnect(client->display);
	}
	free(client);
}

const char *vitrine_client_get_error(const struct vitrine_client *client) {
	return client->message.text;
}

uint32_t vitrine_client_get_guarantees(const struct vitrine_client *client) {
	return client->guarantees;
}

int vitrine_client_get_fd(const struct vitrine_client *client) {
	return wl_display_get_fd(client->display);
}

void vitrine_client_set_listener(struct vitrine_client *client,
		const struct vitrine_client_listener *listener, void *data) {
	client->listener = listener;
	client->listener_data = data;
}
