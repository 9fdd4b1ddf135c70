/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wlr/types/wlr_security_context_v1.h>

#include "client.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 // Linux 6.5
#endif

/* Processes */

bool vt_process_is_alive(const struct vt_process *process) {
	struct pollfd pollfd = { .fd = process->pidfd, .events = POLLIN };
	return poll(&pollfd, 1, 0) == 0;
}

struct vt_process *vt_process_ref(struct vt_process *process) {
	process->n_refs++;
	return process;
}

void vt_process_unref(struct vt_process *process) {
	if (process == NULL || --process->n_refs > 0) {
		return;
	}
	wl_list_remove(&process->link);
	close(process->pidfd);
	free(process);
}

/** Whether it is us that lack something, and not the process that is gone. */
static bool is_shortage(int error) {
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/**
 * Of the process that connected, -1 with errno if it is gone. Before Linux 6.5 we have but its
 * number, which another one may have by now.
 */
static int open_pidfd(int socket_fd, pid_t pid) {
	int pidfd = -1;
	socklen_t len = sizeof(pidfd);
	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) {
		return pidfd; // is CLOEXEC
	}
	return errno == ENOPROTOOPT ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

/**
 * With a reference. Takes the pidfd over. NULL if it is dead, with errno ESRCH, or on
 * allocation failure, with ENOMEM.
 */
static struct vt_process *registry_get_process(struct vt_client_registry *registry, pid_t pid,
		int take_pidfd) {
	struct vt_process *process = calloc(1, sizeof(*process));
	if (process == NULL) {
		close(take_pidfd);
		errno = ENOMEM;
		return NULL;
	}
	*process = (struct vt_process){ .n_refs = 1, .pid = pid, .pidfd = take_pidfd };
	wl_list_insert(&registry->processes, &process->link);
	if (!vt_process_is_alive(process)) {
		vt_process_unref(process);
		errno = ESRCH;
		return NULL;
	}
	struct vt_process *known;
	wl_list_for_each(known, &registry->processes, link) {
		// Both are alive, and two that are do not have the same number
		if (known != process && known->pid == pid && vt_process_is_alive(known)) {
			vt_process_unref(process);
			return vt_process_ref(known);
		}
	}
	return process;
}

/* Names */

/** False if there was no file descriptor for it. */
static bool client_read_comm(struct vt_client *client) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)client->identity.pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return !is_shortage(errno);
	}
	ssize_t len = read(fd, client->comm, sizeof(client->comm) - 1);
	close(fd);
	while (len > 0 && client->comm[len - 1] == '\n') {
		len--;
	}
	client->comm[len > 0 ? len : 0] = '\0';
	return true;
}

/** False if there was no memory for it. */
static bool client_read_executable(struct vt_client *client) {
	char path[64], target[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)client->identity.pid);
	ssize_t len = readlink(path, target, sizeof(target) - 1);
	if (len <= 0 || len >= (ssize_t)sizeof(target) - 1) {
		return len >= 0 || !is_shortage(errno);
	}
	client->identity.executable = strndup(target, (size_t)len);
	return client->identity.executable != NULL;
}

static void client_forget_names(struct vt_client *client) {
	free((char *)client->identity.executable);
	client->identity.executable = NULL;
	client->comm[0] = '\0';
}

/** False if it is for lack of resources that not all is known. */
static bool client_read_process(struct vt_client *client) {
	pid_t pid = client->identity.pid;
	if (pid <= 0) {
		return true;
	}
	int pidfd = open_pidfd(wl_client_get_fd(client->wl_client), pid);
	client->process = pidfd >= 0 ? registry_get_process(client->registry, pid, pidfd) : NULL;
	if (client->process == NULL) {
		return !is_shortage(errno);
	}
	bool ok = client_read_comm(client);
	ok = client_read_executable(client) && ok;
	if (!vt_process_is_alive(client->process)) {
		client_forget_names(client); // they may be those of the next one with its number
		vt_process_unref(client->process);
		client->process = NULL;
	}
	return ok;
}

/* Security contexts */

/** `target` stays NULL if there is nothing to copy. */
static bool copy_string(const char **target, const char *source) {
	*target = source != NULL ? strdup(source) : NULL;
	return source == NULL || *target != NULL;
}

static void client_forget_context(struct vt_client *client) {
	struct vitrine_view_client *identity = &client->identity;
	free((char *)identity->engine);
	free((char *)identity->app_id);
	free((char *)identity->instance_id);
	identity->engine = identity->app_id = identity->instance_id = NULL;
	identity->sandboxed = false;
}

/** A client comes into its context after it is created, and never out of it. */
static bool client_update_context(struct vt_client *client) {
	struct vitrine_view_client *identity = &client->identity;
	struct wlr_security_context_manager_v1 *manager = client->registry->security_context_manager;
	const struct wlr_security_context_v1_state *context =
		manager == NULL || identity->sandboxed ? NULL :
		wlr_security_context_manager_v1_lookup_client(manager, client->wl_client);
	if (context == NULL) {
		return true;
	}
	identity->sandboxed = true;
	if (!copy_string(&identity->engine, context->sandbox_engine) ||
			!copy_string(&identity->app_id, context->app_id) ||
			!copy_string(&identity->instance_id, context->instance_id)) {
		client_forget_context(client);
		return false;
	}
	return true;
}

static void registry_forget_security_context_manager(struct vt_client_registry *registry) {
	wl_list_remove(&registry->security_context_manager_destroy.link);
	wl_list_init(&registry->security_context_manager_destroy.link);
	registry->security_context_manager = NULL;
}

static void registry_handle_security_context_manager_destroy(struct wl_listener *listener,
		void *data) {
	struct vt_client_registry *registry =
		wl_container_of(listener, registry, security_context_manager_destroy);
	registry_forget_security_context_manager(registry);
}

void vt_client_registry_set_security_context_manager(struct vt_client_registry *registry,
		struct wlr_security_context_manager_v1 *manager) {
	registry_forget_security_context_manager(registry);
	registry->security_context_manager = manager;
	if (manager != NULL) {
		wl_signal_add(&manager->events.destroy, &registry->security_context_manager_destroy);
	}
}

/* Clients */

struct vt_client *vt_client_ref(struct vt_client *client) {
	client->n_refs++;
	return client;
}

void vt_client_unref(struct vt_client *client) {
	if (client == NULL || --client->n_refs > 0) {
		return;
	}
	assert(client->wl_client == NULL);
	client_forget_names(client);
	client_forget_context(client);
	vt_process_unref(client->process);
	free(client);
}

static void client_disconnect(struct vt_client *client) {
	wl_list_remove(&client->destroy_late.link);
	wl_list_remove(&client->link);
	wl_list_init(&client->link);
	client->wl_client = NULL;
	client->registry = NULL;
	vt_client_unref(client);
}

/** All that it had is gone by now, and was told of. */
static void client_handle_destroy_late(struct wl_listener *listener, void *data) {
	struct vt_client *client = wl_container_of(listener, client, destroy_late);
	client_disconnect(client);
}

static struct vt_client *client_create(struct vt_client_registry *registry,
		struct wl_client *wl_client) {
	struct vt_client *client = calloc(1, sizeof(*client));
	if (client == NULL) {
		return NULL;
	}
	client->n_refs = 1;
	client->registry = registry;
	client->wl_client = wl_client;
	struct vitrine_view_client *identity = &client->identity;
	wl_client_get_credentials(wl_client, &identity->pid, &identity->uid, &identity->gid);
	identity->comm = client->comm;
	client->is_unknown = !client_read_process(client);
	client->destroy_late.notify = client_handle_destroy_late;
	wl_client_add_destroy_late_listener(wl_client, &client->destroy_late);
	wl_list_insert(&registry->clients, &client->link);
	return client;
}

static struct vt_client *registry_find(const struct vt_client_registry *registry,
		struct wl_client *wl_client) {
	struct wl_listener *listener =
		wl_client_get_destroy_late_listener(wl_client, client_handle_destroy_late);
	if (listener == NULL) {
		return NULL;
	}
	struct vt_client *client = wl_container_of(listener, client, destroy_late);
	assert(client->registry == registry); // a display has one view manager
	return client;
}

struct vt_client *vt_client_get(struct vt_client_registry *registry,
		struct wl_client *wl_client) {
	struct vt_client *client = registry_find(registry, wl_client);
	if (client == NULL) {
		// It was there before us, or memory was short when it came
		client = client_create(registry, wl_client);
	}
	bool is_known = client != NULL && !client->is_unknown && client_update_context(client);
	return is_known ? client : NULL;
}

static void registry_handle_client_created(struct wl_listener *listener, void *data) {
	struct vt_client_registry *registry = wl_container_of(listener, registry, client_created);
	client_create(registry, data); // if that fails, the first request tries it again
}

void vt_client_registry_init(struct vt_client_registry *registry, struct wl_display *display) {
	wl_list_init(&registry->clients);
	wl_list_init(&registry->processes);
	registry->security_context_manager = NULL;
	registry->security_context_manager_destroy.notify =
		registry_handle_security_context_manager_destroy;
	wl_list_init(&registry->security_context_manager_destroy.link);
	registry->client_created.notify = registry_handle_client_created;
	wl_display_add_client_created_listener(display, &registry->client_created);
}

void vt_client_registry_finish(struct vt_client_registry *registry) {
	struct vt_client *client, *tmp;
	wl_list_for_each_safe(client, tmp, &registry->clients, link) {
		client_disconnect(client);
	}
	struct vt_process *process, *process_tmp;
	wl_list_for_each_safe(process, process_tmp, &registry->processes, link) {
		wl_list_remove(&process->link);
		wl_list_init(&process->link);
	}
	registry_forget_security_context_manager(registry);
	wl_list_remove(&registry->client_created.link);
}
