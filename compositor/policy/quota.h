/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_QUOTA_H
#define COMPOSITOR_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <wayland-server-core.h>

struct vt_buffer;
struct vt_manager;

/**
 * What the clients of one process cost. Keyed by process rather than by
 * connection, since reconnecting must not wash a debt away.
 */
struct vt_quota {
	struct wl_list link; // vt_manager.quotas
	struct vt_manager *manager;
	pid_t pid;

	size_t n_refs; // sessions, views, and retired memory that is charged
	uint32_t n_objects; // sessions and views that are not over
	uint64_t retired_bytes; // retired memory that somebody still holds
	uint32_t n_retired; // how many pieces it is
	bool is_copying; // a buffer of the client: one at a time

	// A token bucket of sessions and copies, which can make us allocate. Sessions take
	// theirs at the end: below 0 it is a debt
	int64_t tokens;
	uint64_t refilled_ms; // CLOCK_MONOTONIC, when the last token was added
};

/** The quota of a client, with a reference. NULL on allocation failure. */
struct vt_quota *vt_quota_get(struct vt_manager *manager, struct wl_client *client);
struct vt_quota *vt_quota_ref(struct vt_quota *quota);
/** Accepts NULL. */
void vt_quota_unref(struct vt_quota *quota);

/** Counts one more session or view, or returns false if there are too many. */
bool vt_quota_add_object(struct vt_quota *quota);
void vt_quota_remove_object(struct vt_quota *quota);

/** Whether the client may keep more retired memory alive. */
bool vt_quota_allows_memory(const struct vt_quota *quota);

/** The same, if it is going to keep a copy of that many bytes. */
bool vt_quota_allows_copy(const struct vt_quota *quota, uint64_t size);

/** Milliseconds until a session may start; 0 is now. */
uint32_t vt_quota_get_delay(struct vt_quota *quota);
/** A session that saw something has ended, or a copy is about to be made. */
void vt_quota_take_token(struct vt_quota *quota);

/**
 * Memory that was announced to clients and is not drawn to any more. It is
 * watched until nobody else holds it, and charged to those who may.
 */
struct vt_retired_memory;

/**
 * Watches the memory of a buffer that is not drawn to any more. `quotas` are the
 * clients that it was announced to; the sessions of one that has too much of it
 * by this are stopped.
 */
void vt_retired_memory_watch(struct vt_manager *manager, const struct vt_buffer *buffer,
	struct vt_quota *const *quotas, size_t quotas_len);
/**
 * Watches a copy that is about to be sent to a client, and that nobody else has
 * yet. Returns false on failure.
 */
bool vt_retired_memory_watch_copy(struct vt_quota *quota, int memfd, uint64_t size);

/** Returns false on allocation failure. */
bool vt_quotas_init(struct vt_manager *manager, struct wl_event_loop *loop);
/** Frees everything, also what is charged. */
void vt_quotas_finish(struct vt_manager *manager);

#endif
