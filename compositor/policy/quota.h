/* SPDX-License-Identifier: MIT */
#ifndef POLICY_QUOTA_H
#define POLICY_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wayland-server-core.h>

struct vitrine_view_limits;
struct vt_client;
struct vt_process;

/** What is charged. */
enum vt_quota_kind {
	VT_QUOTA_OBJECTS, // sessions and views that are not over
	VT_QUOTA_FDS, // file descriptors of ours that are kept for clients
	VT_QUOTA_COPIERS, // threads that copy frames for one holder alone
	VT_QUOTA_COPIES, // threads that copy a client's buffer
	VT_QUOTA_PRIVATE_BYTES, // of copies of frames that are for one holder alone
	VT_QUOTA_SHARED_BYTES, // of memory that more than one holder may be shown, or was
	VT_QUOTA_SHARED_PIECES, // of that memory
	VT_QUOTA_KINDS,
};

/** Each level is made of those below, and bounds what they use together. */
enum vt_quota_level {
	VT_QUOTA_ALL, // clients of the display
	VT_QUOTA_GROUP, // clients of a user, those behind security contexts apart
	VT_QUOTA_CONTEXT, // clients of one application behind security contexts
	VT_QUOTA_HOLDER, // clients of one process
};

/** Which clients are whose. */
struct vt_quota_key {
	uid_t uid;
	/** Behind a security context, whose names are borrowed and may be NULL. */
	bool is_sandboxed;
	const char *engine, *app_id;
	/**
	 * That lives, borrowed. NULL if it has ended or is not known: all such clients of a
	 * group or context are one holder.
	 */
	struct vt_process *process;
};

/** Which starts a level may cause: so many at once, and one more in each interval. */
struct vt_bucket {
	int64_t tokens;
	int64_t refilled_ms; // when the last token was added
};

/**
 * What the clients of one level cost: a node of a tree. The quota of a client is that of
 * its holder, the process that connected. Reconnecting washes nothing away, and what a
 * process has left behind stays charged to it.
 */
struct vt_quota {
	struct wl_list link; // vt_quota.children of the parent
	struct wl_list children; // vt_quota.link, of the level below
	struct vt_quota *parent; // NULL of all
	const struct vt_quota_registry *registry;
	enum vt_quota_level level;
	struct vt_quota_key key; // as far as the level has it, with copies and a reference
	size_t n_refs; // charges are among them
	uint64_t used[VT_QUOTA_KINDS]; // with what those below use
	struct vt_bucket bucket;
	uint64_t last_start; // of a holder, a number of vt_start_queue; 0 is none
	struct wl_list payable; // vt_charge.link, the newest first; of a holder
};

/**
 * A screen that is viewed: what clients may be shown together has room for it, see
 * vitrine_view_limits.shared_sets.
 */
struct vt_quota_screen {
	struct wl_list link; // vt_quota_registry.screens
	uint64_t buffer_bytes; // of the largest of its buffers that was asked about
};

/** The quotas of all clients. Knows neither what is charged nor why. */
struct vt_quota_registry {
	const struct vitrine_view_limits *limits; // borrowed, read anew at each use
	int borrowed_fd; // any that is open; -1: file descriptors are not watched
	uint64_t screens_cap; // bytes, beyond which no screen raises a limit
	struct wl_list screens; // vt_quota_screen.link
	struct vt_quota all;
};

/** A part of a quota that is in use. All zero: nothing is charged. */
struct vt_charge {
	struct vt_quota *quota;
	enum vt_quota_kind kind;
	uint64_t amount;
	struct wl_list link; // vt_quota.payable, if it has `pay`
	void (*pay)(struct vt_charge *charge);
};

/** `borrowed_fd`: see there. */
void vt_quota_registry_init(struct vt_quota_registry *registry,
	const struct vitrine_view_limits *borrowed_limits, int borrowed_fd);
/** Everything that was charged must have been given back. */
void vt_quota_registry_finish(struct vt_quota_registry *registry);

/** Counts a screen from here on, with its size so far. */
void vt_quota_screen_add(struct vt_quota_screen *screen, struct vt_quota_registry *registry);
/** The screen is not viewed any more. It must have been added. */
void vt_quota_screen_remove(struct vt_quota_screen *screen);
/** The screen has buffers of so many bytes. */
void vt_quota_screen_expect(struct vt_quota_screen *screen, uint64_t buffer_bytes);

/**
 * The quota of a holder, with a reference. Times are in ms of CLOCK_MONOTONIC, here
 * and below. Forgets holders that owe nothing. NULL on allocation failure.
 */
struct vt_quota *vt_quota_get(struct vt_quota_registry *registry, const struct vt_quota_key *key,
	int64_t now_ms);
/** The same of the process that a client is. NULL also for `client` NULL. */
struct vt_quota *vt_quota_get_for_client(struct vt_quota_registry *registry,
	const struct vt_client *client, int64_t now_ms);
struct vt_quota *vt_quota_ref(struct vt_quota *quota);
/** Accepts NULL. */
void vt_quota_unref(struct vt_quota *quota);

/**
 * Whether so much more of a kind may be charged, at this level and all above; with 0,
 * whether no more than allowed is. File descriptors: nor if half of those that the
 * process may have are open, for whatever.
 */
bool vt_quota_has_room(const struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount);
/** Whether a level has more of a kind than it may have, be it that those above have room. */
bool vt_quota_is_over(const struct vt_quota *quota, enum vt_quota_kind kind);

/** Charges without a look at the limit: for what is there already. */
void vt_charge_add(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
	uint64_t amount);
/** Charges, or returns false if there is no room. */
bool vt_charge_try(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
	uint64_t amount);
/**
 * The same for a holder that has room itself, where others leave it none: the largest
 * holder of the level that is full pays first, if it has at least twice what this one
 * would have, and more than an eighth of what a holder may have. It pays with its newest
 * charge that has `pay`, and with as many as are needed. Not while an output commits.
 */
bool vt_charge_claim(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
	uint64_t amount);
/**
 * Lets a charge of a holder be given up for others: `pay` ends what it is for, and drops
 * the charge. The charge must not move in memory from here on.
 */
void vt_charge_set_payable(struct vt_charge *charge, void (*pay)(struct vt_charge *charge));
/** Makes a part of a charge one of its own, `part`, with the same quota. */
void vt_charge_split(struct vt_charge *charge, struct vt_charge *part, uint64_t amount);
/**
 * Charges another quota from here on, without a look at its limit: what was reserved at
 * a level is now for one below it.
 */
void vt_charge_move(struct vt_charge *charge, struct vt_quota *quota);
/** Gives back what is charged. Twice is harmless. */
void vt_charge_drop(struct vt_charge *charge);

/** Milliseconds until a session may start or a copy be made; 0 is now. */
uint32_t vt_quota_get_delay(struct vt_quota *quota, int64_t now_ms);
/** A session starts, or a copy is about to be made. */
void vt_quota_take_token(struct vt_quota *quota, int64_t now_ms);

#endif
