/* SPDX-License-Identifier: MIT */
#ifndef POLICY_RETIRED_MEMORY_H
#define POLICY_RETIRED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wayland-server-core.h>

struct vt_buffer;
struct vt_quota;

/**
 * Memory that was announced to clients and is not drawn to any more. It is watched
 * until no other process holds it, and charged to the processes that may.
 */
struct vt_retired_registry {
	struct wl_list memory; // retired_memory.link
	struct wl_event_source *watch_timer;
	uint32_t watch_interval_ms;
};

/** Returns false on allocation failure. */
bool vt_retired_registry_init(struct vt_retired_registry *registry, struct wl_event_loop *loop);
/** Gives everything back that is charged. */
void vt_retired_registry_finish(struct vt_retired_registry *registry);

/**
 * Watches the memory of a buffer that is not drawn to any more. `quotas` are those of
 * the clients that it was announced to; one that has too much of it by this emits
 * `exceeded`.
 */
void vt_retired_registry_watch(struct vt_retired_registry *registry,
	const struct vt_buffer *buffer, struct vt_quota *const *quotas, size_t quotas_len);
/**
 * Watches a copy that is about to be sent to a client, and that no other process has
 * yet. Returns false on failure.
 */
bool vt_retired_registry_watch_copy(struct vt_retired_registry *registry, struct vt_quota *quota,
	int borrowed_memfd, uint64_t size);

/**
 * Whether a process may keep so many bytes of retired memory more, after a look at
 * what is given back if it seems not. With 0: whether it keeps no more than it may.
 */
bool vt_retired_registry_has_room(struct vt_retired_registry *registry,
	const struct vt_quota *quota, uint64_t size);

#endif
