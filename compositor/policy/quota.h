/* SPDX-License-Identifier: MIT */
#ifndef POLICY_QUOTA_H
#define POLICY_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wayland-server-core.h>

struct vitrine_view_limits;

/** What is charged. */
enum vt_quota_kind {
	VT_QUOTA_OBJECTS, // sessions and views that are not over
	VT_QUOTA_COPIES, // copies of a client's buffer that are being made
	VT_QUOTA_PRIVATE_BYTES, // of copies of frames that are for one client alone
	VT_QUOTA_RETIRED_BYTES, // of retired memory that another process may hold
	VT_QUOTA_RETIRED_PIECES, // of that memory: each is a file descriptor or two of ours
	VT_QUOTA_KINDS,
};

/** The quotas of all processes. Knows neither what is charged nor why. */
struct vt_quota_registry {
	const struct vitrine_view_limits *limits; // borrowed, read anew at each use
	struct wl_list quotas; // vt_quota.link
};

/**
 * What the clients of one process cost. Keyed by process rather than by
 * connection, since reconnecting must not wash a debt away.
 */
struct vt_quota {
	struct wl_list link; // vt_quota_registry.quotas
	const struct vt_quota_registry *registry;
	pid_t pid;
	size_t n_refs; // charges are among them
	uint64_t used[VT_QUOTA_KINDS];

	// A token bucket of sessions and copies, which can make us allocate. Sessions take
	// theirs at the end: below 0 it is a debt
	int64_t tokens;
	int64_t refilled_ms; // when the last token was added

	struct {
		/** The process keeps more than it may: struct vt_quota. */
		struct wl_signal exceeded;
	} events;
};

/** A part of a quota that is in use. All zero: nothing is charged. */
struct vt_charge {
	struct vt_quota *quota;
	enum vt_quota_kind kind;
	uint64_t amount;
};

void vt_quota_registry_init(struct vt_quota_registry *registry,
	const struct vitrine_view_limits *borrowed_limits);
/** Everything that was charged must have been given back. */
void vt_quota_registry_finish(struct vt_quota_registry *registry);

/**
 * The quota of a process, with a reference. Times are in ms of CLOCK_MONOTONIC, here
 * and below. Forgets processes that owe nothing. NULL on allocation failure.
 */
struct vt_quota *vt_quota_get(struct vt_quota_registry *registry, pid_t pid, int64_t now_ms);
/** The same of the process that a client is. */
struct vt_quota *vt_quota_get_for_client(struct vt_quota_registry *registry,
	struct wl_client *client, int64_t now_ms);
struct vt_quota *vt_quota_ref(struct vt_quota *quota);
/** Accepts NULL. */
void vt_quota_unref(struct vt_quota *quota);

/** Whether so much more of a kind may be charged; with 0, whether no more than allowed is. */
bool vt_quota_has_room(const struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount);
/** Tells the listeners of `exceeded`. */
void vt_quota_emit_exceeded(struct vt_quota *quota);

/** Charges without a look at the limit: for what is there already. */
void vt_charge_add(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
	uint64_t amount);
/** Charges, or returns false if there is no room. */
bool vt_charge_try(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
	uint64_t amount);
/** Gives back what is charged. Twice is harmless. */
void vt_charge_drop(struct vt_charge *charge);

/** Milliseconds until a session may start or a copy be made; 0 is now. */
uint32_t vt_quota_get_delay(struct vt_quota *quota, int64_t now_ms);
/** A session that saw something has ended, or a copy is about to be made. */
void vt_quota_take_token(struct vt_quota *quota, int64_t now_ms);

#endif
