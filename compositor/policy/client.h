/* SPDX-License-Identifier: MIT */
#ifndef POLICY_CLIENT_H
#define POLICY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vitrine/view_v1.h>
#include <wayland-server-core.h>

struct wlr_security_context_manager_v1;

/** All clients of a display, and the processes that they are. */
struct vt_client_registry {
	struct wl_list clients; // vt_client.link, those that are connected
	struct wl_list processes; // vt_process.link
	struct wlr_security_context_manager_v1 *security_context_manager; // may be NULL
	struct wl_listener security_context_manager_destroy;
	struct wl_listener client_created;
};

/**
 * A process that has connected. There is one for all its connections, and it goes on to
 * be there while it has references: a process that comes back is known again, and one
 * that only has the same number is another.
 */
struct vt_process {
	struct wl_list link; // vt_client_registry.processes
	size_t n_refs;
	pid_t pid;
	int pidfd;
};

/**
 * A connection, as it was when it came. Outlives it while it has references, so that
 * what is told of its end has names too.
 */
struct vt_client {
	struct wl_list link; // vt_client_registry.clients, or empty once it is gone
	struct vt_client_registry *registry; // NULL once it is gone
	size_t n_refs; // one of them is the connection's
	struct wl_client *wl_client; // NULL once it is gone
	struct wl_listener destroy_late;
	/**
	 * That connected, with a reference. NULL if it cannot be told from others: it is in
	 * a pid namespace that we do not see into, or was gone before its connection was
	 * accepted.
	 */
	struct vt_process *process;
	/**
	 * When it came, we had no file descriptor or no memory left to see which process it is.
	 * So a rule that denies by name would let it through. It is not asked for again: by now
	 * another program may run in the same process.
	 */
	bool is_unknown;
	struct vitrine_view_client identity; // its strings are ours
	char comm[17]; // identity.comm
};

/** Hears of clients from now on. */
void vt_client_registry_init(struct vt_client_registry *registry, struct wl_display *display);
/** Processes and clients that have references elsewhere live on. Also at the end of the display. */
void vt_client_registry_finish(struct vt_client_registry *registry);
/** `manager` may be NULL: no client is sandboxed. Forgotten when it is destroyed. */
void vt_client_registry_set_security_context_manager(struct vt_client_registry *registry,
	struct wlr_security_context_manager_v1 *manager);

/**
 * What is known of a client, borrowed: valid until it disconnects, or longer with a
 * reference. With its security context, which is there from a client's first request on,
 * but not when it connects. NULL for lack of resources, now or when it came: then nothing
 * is known, and the client must be denied.
 */
struct vt_client *vt_client_get(struct vt_client_registry *registry, struct wl_client *wl_client);
struct vt_client *vt_client_ref(struct vt_client *client);
/** Accepts NULL. */
void vt_client_unref(struct vt_client *client);

struct vt_process *vt_process_ref(struct vt_process *process);
/** Accepts NULL. */
void vt_process_unref(struct vt_process *process);
/** Asks the kernel. One that has ended, or is a zombie, is not alive any more. */
bool vt_process_is_alive(const struct vt_process *process);

#endif
