/* SPDX-License-Identifier: MIT */
#ifndef POLICY_RETIRED_MEMORY_H
#define POLICY_RETIRED_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <wayland-server-core.h>

#include "quota.h"

struct vitrine_view_limits;
struct vt_buffer;
struct vt_watched;
struct vt_watcher;

/**
 * What memory costs that other processes may have, for as long as any may. Who has memory
 * that several clients were shown cannot be known, so it has one budget for all:
 *
 * - Before it is announced it is reserved, at the quota of all.
 * - When it retires it is kept: charged to the holder whose end was the cause.
 * - A still screen shows it again, at no further charge.
 * - When it is shown no more, it is given back once it is certain that no other process has
 *   it, see vt_watcher.
 *
 * So the sum of what is reserved and what is kept is never more than the budget,
 * whatever clients do. Where the kernel cannot tell it is given back slowly instead, so
 * that screens can be captured for ever: see vitrine_view_limits.unknown_interval_ms. Memory that one holder alone is shown is the same, with the bytes
 * of its own quota from the start.
 */
struct vt_reserve {
	struct vt_charge bytes, pieces, fds; // pieces are of shared memory alone
};

/** Whose memory is reserved for. */
struct vt_reserve_for {
	struct vt_quota *quota; // of all, or of the one holder that is shown it
	bool is_private; // the latter
};

/** Charges so many pieces of so many bytes each, or returns false if there is no room. */
bool vt_reserve_try(struct vt_reserve *reserve, const struct vt_reserve_for *whom, uint64_t size,
	uint64_t n_pieces);
/** Makes so many pieces of these a reserve of their own, `part`. */
void vt_reserve_split(struct vt_reserve *reserve, struct vt_reserve *part, uint64_t size,
	uint64_t n_pieces);
/** Whether there are so many pieces of so many bytes each. */
bool vt_reserve_has(const struct vt_reserve *reserve, uint64_t size, uint64_t n_pieces);
/** `to` is dropped, and then what `from` was. */
void vt_reserve_move(struct vt_reserve *from, struct vt_reserve *to);
/** Gives back what is reserved. Twice is harmless. */
void vt_reserve_drop(struct vt_reserve *reserve);

/** All memory that was announced and is retired. */
struct vt_retired_registry {
	struct vt_watcher *watcher;
	struct wl_list memory; // vt_announced_memory.link
	struct wl_list unknown; // the same: those that the kernel tells nothing of, the oldest first
	struct wl_event_source *unknown_timer; // gives the oldest of them back
	bool told_unknown; // the log
	const struct vitrine_view_limits *limits; // borrowed, read anew at each use
};

/** Returns false on allocation failure. */
bool vt_retired_registry_init(struct vt_retired_registry *registry, struct wl_event_loop *loop,
	const struct vitrine_view_limits *borrowed_limits);
/** Gives everything back that is charged. */
void vt_retired_registry_finish(struct vt_retired_registry *registry);

/** Memory that is announced to clients: with all that is needed to watch it later. */
struct vt_announced_memory;

/**
 * For the memory of a buffer that is about to be announced; what it costs is taken from
 * `reserve`, which has it. NULL for lack of resources.
 */
struct vt_announced_memory *vt_announced_memory_create(struct vt_retired_registry *registry,
	const struct vt_buffer *buffer, struct vt_reserve *reserve);
/**
 * Nothing draws to it any more: it is kept from here on. The cause is the holder whose end it
 * was, NULL if it was none.
 */
void vt_announced_memory_retire(struct vt_announced_memory *memory, struct vt_quota *cause);
/**
 * It is retired, and will be shown to nobody any more: it is watched, and gone once no other
 * process has it. Not before, since whoever is shown it again may keep it as well.
 */
void vt_announced_memory_let_go(struct vt_announced_memory *memory);

/**
 * Watches a copy that is about to be sent to a client, at that one's charge, and that no
 * other process has yet. Returns false for lack of resources, or of its quota.
 */
bool vt_retired_registry_watch_copy(struct vt_retired_registry *registry, struct vt_quota *quota,
	int borrowed_memfd, uint64_t size);

#endif
