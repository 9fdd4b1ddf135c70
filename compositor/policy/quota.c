/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdlib.h>
#include <vitrine/view_v1.h>

#include "quota.h"

/** Retired pieces that the clients of a process may keep. */
#define RETIRED_PIECES_CAP 256
/** Copies of clients' buffers are made one after the other. */
#define COPIES_CAP 1
/** Then it is time to look again; a timer takes no more than an int. */
#define DELAY_CAP_MS 3600000

void vt_quota_registry_init(struct vt_quota_registry *registry,
		const struct vitrine_view_limits *borrowed_limits) {
	registry->limits = borrowed_limits;
	wl_list_init(&registry->quotas);
}

static void quota_destroy(struct vt_quota *quota) {
	assert(quota->n_refs == 0);
	assert(wl_list_empty(&quota->events.exceeded.listener_list));
	wl_list_remove(&quota->link);
	free(quota);
}

void vt_quota_registry_finish(struct vt_quota_registry *registry) {
	struct vt_quota *quota, *tmp;
	wl_list_for_each_safe(quota, tmp, &registry->quotas, link) {
		quota_destroy(quota);
	}
}

/* Tokens */

static void quota_refill(struct vt_quota *quota, int64_t now_ms) {
	const struct vitrine_view_limits *limits = quota->registry->limits;
	int64_t missing = (int64_t)limits->retire_burst_per_process - quota->tokens;
	if (limits->retire_interval_ms == 0 || missing <= 0) {
		quota->tokens = limits->retire_burst_per_process;
		quota->refilled_ms = now_ms;
		return;
	}
	int64_t earned = (now_ms - quota->refilled_ms) / limits->retire_interval_ms;
	if (earned > missing) {
		quota->tokens = limits->retire_burst_per_process;
		quota->refilled_ms = now_ms;
	} else {
		quota->tokens += earned;
		quota->refilled_ms += earned * limits->retire_interval_ms;
	}
}

uint32_t vt_quota_get_delay(struct vt_quota *quota, int64_t now_ms) {
	quota_refill(quota, now_ms);
	if (quota->tokens > 0) {
		return 0;
	}
	int64_t interval = quota->registry->limits->retire_interval_ms;
	int64_t delay = quota->refilled_ms + interval * (1 - quota->tokens) - now_ms;
	if (delay <= 0) {
		return 1;
	}
	return delay < DELAY_CAP_MS ? (uint32_t)delay : DELAY_CAP_MS;
}

void vt_quota_take_token(struct vt_quota *quota, int64_t now_ms) {
	quota_refill(quota, now_ms);
	quota->tokens--;
}

/* Charges */

static uint64_t quota_get_limit(const struct vt_quota *quota, enum vt_quota_kind kind) {
	switch (kind) {
	case VT_QUOTA_OBJECTS:
		return quota->registry->limits->objects_per_process;
	case VT_QUOTA_COPIES:
		return COPIES_CAP;
	case VT_QUOTA_PRIVATE_BYTES: // as much as they will be once they have retired
	case VT_QUOTA_RETIRED_BYTES:
		return quota->registry->limits->retired_bytes_per_process;
	case VT_QUOTA_RETIRED_PIECES:
		return RETIRED_PIECES_CAP;
	case VT_QUOTA_KINDS:
		break;
	}
	return 0;
}

bool vt_quota_has_room(const struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount) {
	uint64_t limit = quota_get_limit(quota, kind);
	return amount <= limit && quota->used[kind] <= limit - amount;
}

void vt_charge_add(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	assert(charge->quota == NULL);
	*charge = (struct vt_charge){
		.quota = vt_quota_ref(quota),
		.kind = kind,
		.amount = amount,
	};
	quota->used[kind] += amount;
}

bool vt_charge_try(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	if (!vt_quota_has_room(quota, kind, amount)) {
		return false;
	}
	vt_charge_add(charge, quota, kind, amount);
	return true;
}

void vt_charge_drop(struct vt_charge *charge) {
	if (charge->quota == NULL) {
		return;
	}
	assert(charge->quota->used[charge->kind] >= charge->amount);
	charge->quota->used[charge->kind] -= charge->amount;
	vt_quota_unref(charge->quota);
	charge->quota = NULL;
}

void vt_quota_emit_exceeded(struct vt_quota *quota) {
	wl_signal_emit_mutable(&quota->events.exceeded, quota);
}

/* Lifetime */

/** Forgets the processes that are gone and owe nothing. */
static void registry_forget_idle(struct vt_quota_registry *registry, int64_t now_ms) {
	struct vt_quota *quota, *tmp;
	wl_list_for_each_safe(quota, tmp, &registry->quotas, link) {
		if (quota->n_refs > 0) {
			continue;
		}
		quota_refill(quota, now_ms);
		if (quota->tokens >= (int64_t)registry->limits->retire_burst_per_process) {
			quota_destroy(quota);
		}
	}
}

struct vt_quota *vt_quota_get(struct vt_quota_registry *registry, pid_t pid, int64_t now_ms) {
	registry_forget_idle(registry, now_ms);
	struct vt_quota *quota;
	wl_list_for_each(quota, &registry->quotas, link) {
		if (quota->pid == pid) {
			return vt_quota_ref(quota);
		}
	}

	quota = calloc(1, sizeof(*quota));
	if (quota == NULL) {
		return NULL;
	}
	quota->registry = registry;
	quota->pid = pid;
	quota->tokens = registry->limits->retire_burst_per_process;
	quota->refilled_ms = now_ms;
	wl_signal_init(&quota->events.exceeded);
	wl_list_insert(&registry->quotas, &quota->link);
	return vt_quota_ref(quota);
}

struct vt_quota *vt_quota_get_for_client(struct vt_quota_registry *registry,
		struct wl_client *client, int64_t now_ms) {
	pid_t pid;
	wl_client_get_credentials(client, &pid, NULL, NULL);
	return vt_quota_get(registry, pid, now_ms);
}

struct vt_quota *vt_quota_ref(struct vt_quota *quota) {
	quota->n_refs++;
	return quota;
}

void vt_quota_unref(struct vt_quota *quota) {
	if (quota == NULL) {
		return;
	}
	// Kept in the list until its tokens have come back, see registry_forget_idle()
	assert(quota->n_refs > 0);
	quota->n_refs--;
}
