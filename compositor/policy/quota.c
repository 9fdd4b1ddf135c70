/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vitrine/view_v1.h>

#include "client.h"
#include "quota.h"

/** Then it is time to look again; a timer takes no more than an int. */
#define DELAY_CAP_MS 3600000
/** A holder that has no more than this part of what it may have never pays for others. */
#define PAYER_FLOOR 8
/** Buffers of a swapchain. */
#define SET_LEN 4
/** Screens raise no limit to more than this part of the machine's memory. */
#define SCREENS_PART 4

/* Limits */

/** File descriptors that the process may have, 0 if that is not known. */
static uint64_t get_fd_limit(void) {
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

/** A part of the machine's memory, in bytes; 0 if that is not known. */
static uint64_t get_screens_cap(void) {
	long n_pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
	return n_pages > 0 && page_size > 0 ?
		(uint64_t)n_pages * (uint64_t)page_size / SCREENS_PART : 0;
}

/** The limit, or more for so many sets of the largest screen's buffers. */
static uint64_t registry_raise(const struct vt_quota_registry *registry, uint64_t limit,
		uint64_t n_sets) {
	uint64_t cap = registry->screens_cap, most = 0;
	const struct vt_quota_screen *screen;
	wl_list_for_each(screen, &registry->screens, link) {
		most = screen->buffer_bytes > most ? screen->buffer_bytes : most;
	}
	uint64_t n = n_sets < UINT64_MAX / SET_LEN ? n_sets * SET_LEN : UINT64_MAX;
	uint64_t needed = n == 0 ? 0 : (most <= cap / n ? most * n : cap);
	return needed > limit ? needed : limit;
}

static struct vitrine_view_limit get_shared_bytes(const struct vt_quota_registry *registry) {
	const struct vitrine_view_limits *limits = registry->limits;
	const struct vitrine_view_limit *bytes = &limits->shared_bytes, *sets = &limits->shared_sets;
	return (struct vitrine_view_limit){
		.for_all = registry_raise(registry, bytes->for_all, sets->for_all),
		.per_group = registry_raise(registry, bytes->per_group, sets->per_group),
		.per_holder = registry_raise(registry, bytes->per_holder, sets->per_holder),
	};
}

static struct vitrine_view_limit get_limit(const struct vt_quota_registry *registry,
		enum vt_quota_kind kind) {
	const struct vitrine_view_limits *limits = registry->limits;
	switch (kind) {
	case VT_QUOTA_OBJECTS:
		return limits->objects;
	case VT_QUOTA_FDS:
		if (limits->fds.for_all == 0) {
			uint64_t n = get_fd_limit();
			return (struct vitrine_view_limit){ n / 4, n / 8, n / 32 };
		}
		return limits->fds;
	case VT_QUOTA_COPIERS:
		return limits->copiers;
	case VT_QUOTA_COPIES:
		return limits->copies;
	case VT_QUOTA_PRIVATE_BYTES:
		return limits->private_bytes;
	case VT_QUOTA_SHARED_BYTES:
		return get_shared_bytes(registry);
	case VT_QUOTA_SHARED_PIECES:
		return limits->shared_pieces;
	case VT_QUOTA_KINDS:
		break;
	}
	return (struct vitrine_view_limit){ 0 };
}

static uint64_t quota_get_limit(const struct vt_quota *quota, enum vt_quota_kind kind) {
	struct vitrine_view_limit limit = get_limit(quota->registry, kind);
	switch (quota->level) {
	case VT_QUOTA_ALL:
		return limit.for_all;
	case VT_QUOTA_GROUP:
		return limit.per_group;
	case VT_QUOTA_CONTEXT:
		return limit.per_group / 2;
	case VT_QUOTA_HOLDER:
		break;
	}
	return limit.per_holder;
}

static struct vitrine_view_rate quota_get_rate(const struct vt_quota *quota) {
	const struct vitrine_view_limits *limits = quota->registry->limits;
	switch (quota->level) {
	case VT_QUOTA_ALL:
		break; // as many as the groups may
	case VT_QUOTA_GROUP:
	case VT_QUOTA_CONTEXT:
		return limits->starts_per_group;
	case VT_QUOTA_HOLDER:
		return limits->starts_per_holder;
	}
	return (struct vitrine_view_rate){ .burst = 1 };
}

/* Tokens */

static void quota_refill(struct vt_quota *quota, int64_t now_ms) {
	struct vitrine_view_rate rate = quota_get_rate(quota);
	struct vt_bucket *bucket = &quota->bucket;
	int64_t missing = (int64_t)rate.burst - bucket->tokens;
	if (rate.interval_ms == 0 || missing <= 0) {
		*bucket = (struct vt_bucket){ .tokens = rate.burst, .refilled_ms = now_ms };
		return;
	}
	int64_t earned = (now_ms - bucket->refilled_ms) / rate.interval_ms;
	if (earned > missing) {
		*bucket = (struct vt_bucket){ .tokens = rate.burst, .refilled_ms = now_ms };
	} else {
		bucket->tokens += earned;
		bucket->refilled_ms += earned * rate.interval_ms;
	}
}

static uint32_t quota_get_own_delay(struct vt_quota *quota, int64_t now_ms) {
	quota_refill(quota, now_ms);
	const struct vt_bucket *bucket = &quota->bucket;
	if (bucket->tokens > 0) {
		return 0;
	}
	int64_t interval = quota_get_rate(quota).interval_ms;
	int64_t delay = bucket->refilled_ms + interval * (1 - bucket->tokens) - now_ms;
	if (delay <= 0) {
		return 1;
	}
	return delay < DELAY_CAP_MS ? (uint32_t)delay : DELAY_CAP_MS;
}

uint32_t vt_quota_get_delay(struct vt_quota *quota, int64_t now_ms) {
	uint32_t longest = 0;
	for (; quota != NULL; quota = quota->parent) {
		uint32_t delay = quota_get_own_delay(quota, now_ms);
		longest = delay > longest ? delay : longest;
	}
	return longest;
}

void vt_quota_take_token(struct vt_quota *quota, int64_t now_ms) {
	for (; quota != NULL; quota = quota->parent) {
		quota_refill(quota, now_ms);
		quota->bucket.tokens--;
	}
}

/* Room */

/**
 * Whether less than half of the file descriptors that the process may have are open: the
 * kernel gives the lowest number that is free.
 */
static bool registry_has_fds(const struct vt_quota_registry *registry) {
	if (registry->borrowed_fd < 0) {
		return true;
	}
	int lowest = fcntl(registry->borrowed_fd, F_DUPFD_CLOEXEC, 0);
	if (lowest < 0) {
		return false;
	}
	close(lowest);
	return (uint64_t)lowest < get_fd_limit() / 2;
}

static bool quota_has_own_room(const struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	uint64_t limit = quota_get_limit(quota, kind);
	return amount <= limit && quota->used[kind] <= limit - amount;
}

/** The lowest level that has no room for so much more. NULL if all have. */
static struct vt_quota *quota_find_full(const struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	while (quota != NULL && quota_has_own_room(quota, kind, amount)) {
		quota = quota->parent;
	}
	return (struct vt_quota *)quota;
}

bool vt_quota_has_room(const struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount) {
	return quota_find_full(quota, kind, amount) == NULL &&
		(kind != VT_QUOTA_FDS || amount == 0 || registry_has_fds(quota->registry));
}

bool vt_quota_is_over(const struct vt_quota *quota, enum vt_quota_kind kind) {
	return !quota_has_own_room(quota, kind, 0);
}

/* Charges */

static void quota_use(struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount) {
	for (; quota != NULL; quota = quota->parent) {
		quota->used[kind] += amount;
	}
}

static void quota_give_back(struct vt_quota *quota, enum vt_quota_kind kind, uint64_t amount) {
	for (; quota != NULL; quota = quota->parent) {
		assert(quota->used[kind] >= amount);
		quota->used[kind] -= amount;
	}
}

void vt_charge_add(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	assert(charge->quota == NULL);
	*charge = (struct vt_charge){
		.quota = vt_quota_ref(quota),
		.kind = kind,
		.amount = amount,
	};
	quota_use(quota, kind, amount);
}

bool vt_charge_try(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	if (!vt_quota_has_room(quota, kind, amount)) {
		return false;
	}
	vt_charge_add(charge, quota, kind, amount);
	return true;
}

void vt_charge_set_payable(struct vt_charge *charge, void (*pay)(struct vt_charge *charge)) {
	assert(charge->quota != NULL && charge->pay == NULL);
	assert(charge->quota->level == VT_QUOTA_HOLDER);
	charge->pay = pay;
	wl_list_insert(&charge->quota->payable, &charge->link);
}

void vt_charge_split(struct vt_charge *charge, struct vt_charge *part, uint64_t amount) {
	assert(part->quota == NULL && charge->pay == NULL && amount <= charge->amount);
	*part = (struct vt_charge){
		.quota = vt_quota_ref(charge->quota),
		.kind = charge->kind,
		.amount = amount,
	};
	charge->amount -= amount;
}

void vt_charge_move(struct vt_charge *charge, struct vt_quota *quota) {
	assert(charge->quota != NULL && charge->pay == NULL);
	struct vt_quota *before = charge->quota;
	charge->quota = vt_quota_ref(quota);
	quota_use(quota, charge->kind, charge->amount);
	quota_give_back(before, charge->kind, charge->amount);
	vt_quota_unref(before);
}

void vt_charge_drop(struct vt_charge *charge) {
	if (charge->quota == NULL) {
		return;
	}
	if (charge->pay != NULL) {
		wl_list_remove(&charge->link);
	}
	quota_give_back(charge->quota, charge->kind, charge->amount);
	vt_quota_unref(charge->quota);
	*charge = (struct vt_charge){ 0 };
}

/* The largest holder pays */

static struct vt_quota *quota_find_largest(const struct vt_quota *quota, enum vt_quota_kind kind) {
	struct vt_quota *child, *largest = NULL;
	wl_list_for_each(child, &quota->children, link) {
		if (largest == NULL || child->used[kind] > largest->used[kind]) {
			largest = child;
		}
	}
	return largest;
}

/** The holder that is to pay so that there is room in a level, NULL if there is none. */
static struct vt_quota *find_payer(struct vt_quota *full, const struct vt_quota *asker,
		enum vt_quota_kind kind, uint64_t amount) {
	while (full != NULL && full->level != VT_QUOTA_HOLDER) {
		full = quota_find_largest(full, kind);
	}
	if (full == NULL || full->used[kind] <= quota_get_limit(full, kind) / PAYER_FLOOR ||
			full->used[kind] / 2 < asker->used[kind] + amount) {
		return NULL;
	}
	return full;
}

static struct vt_charge *quota_find_payable(const struct vt_quota *quota, enum vt_quota_kind kind) {
	struct vt_charge *charge;
	wl_list_for_each(charge, &quota->payable, link) {
		if (charge->kind == kind) {
			return charge;
		}
	}
	return NULL;
}

/** Whether something was given up. */
static bool quota_pay(struct vt_quota *payer, enum vt_quota_kind kind) {
	struct vt_charge *charge = quota_find_payable(payer, kind);
	if (charge == NULL) {
		return false;
	}
	uint64_t before = payer->used[kind];
	vt_quota_ref(payer);
	charge->pay(charge); // the charge may be gone
	bool has_paid = payer->used[kind] < before;
	vt_quota_unref(payer);
	return has_paid;
}

bool vt_charge_claim(struct vt_charge *charge, struct vt_quota *quota, enum vt_quota_kind kind,
		uint64_t amount) {
	struct vt_quota *full;
	while ((full = quota_find_full(quota, kind, amount)) != NULL && full != quota) {
		struct vt_quota *payer = find_payer(full, quota, kind, amount);
		if (payer == NULL || !quota_pay(payer, kind)) {
			return false;
		}
	}
	return vt_charge_try(charge, quota, kind, amount);
}

/* Lifetime */

static void quota_init(struct vt_quota *quota, struct vt_quota *parent,
		const struct vt_quota_registry *registry, enum vt_quota_level level, int64_t now_ms) {
	quota->parent = parent;
	quota->registry = registry;
	quota->level = level;
	quota->bucket = (struct vt_bucket){
		.tokens = quota_get_rate(quota).burst,
		.refilled_ms = now_ms,
	};
	wl_list_init(&quota->link);
	wl_list_init(&quota->children);
	wl_list_init(&quota->payable);
}

static void quota_destroy(struct vt_quota *quota) {
	assert(quota->n_refs == 0 && wl_list_empty(&quota->children));
	assert(wl_list_empty(&quota->payable));
	wl_list_remove(&quota->link);
	free((char *)quota->key.engine);
	free((char *)quota->key.app_id);
	vt_process_unref(quota->key.process);
	free(quota);
}

void vt_quota_registry_init(struct vt_quota_registry *registry,
		const struct vitrine_view_limits *borrowed_limits, int borrowed_fd) {
	*registry = (struct vt_quota_registry){
		.limits = borrowed_limits,
		.borrowed_fd = borrowed_fd,
		.screens_cap = get_screens_cap(),
	};
	wl_list_init(&registry->screens);
	quota_init(&registry->all, NULL, registry, VT_QUOTA_ALL, 0);
}

static void quota_destroy_children(struct vt_quota *quota) {
	struct vt_quota *child, *tmp;
	wl_list_for_each_safe(child, tmp, &quota->children, link) {
		quota_destroy_children(child);
		quota_destroy(child);
	}
}

void vt_quota_registry_finish(struct vt_quota_registry *registry) {
	assert(wl_list_empty(&registry->screens));
	quota_destroy_children(&registry->all);
	assert(registry->all.n_refs == 0);
}

void vt_quota_screen_add(struct vt_quota_screen *screen, struct vt_quota_registry *registry) {
	wl_list_insert(&registry->screens, &screen->link);
}

void vt_quota_screen_remove(struct vt_quota_screen *screen) {
	wl_list_remove(&screen->link);
}

void vt_quota_screen_expect(struct vt_quota_screen *screen, uint64_t buffer_bytes) {
	if (buffer_bytes > screen->buffer_bytes) {
		screen->buffer_bytes = buffer_bytes;
	}
}

/** Forgets those below that nothing refers to and that have all their tokens. */
static void quota_forget_idle(struct vt_quota *quota, int64_t now_ms) {
	struct vt_quota *child, *tmp;
	wl_list_for_each_safe(child, tmp, &quota->children, link) {
		quota_forget_idle(child, now_ms);
		if (child->n_refs > 0 || !wl_list_empty(&child->children)) {
			continue;
		}
		quota_refill(child, now_ms);
		if (child->bucket.tokens >= (int64_t)quota_get_rate(child).burst) {
			quota_destroy(child);
		}
	}
}

static bool names_are_equal(const char *a, const char *b) {
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/** Whether a node is that of a key, of those with the same parent. */
static bool quota_is_of(const struct vt_quota *quota, const struct vt_quota_key *key) {
	switch (quota->level) {
	case VT_QUOTA_ALL:
		break;
	case VT_QUOTA_GROUP:
		return quota->key.uid == key->uid && quota->key.is_sandboxed == key->is_sandboxed;
	case VT_QUOTA_CONTEXT:
		return names_are_equal(quota->key.engine, key->engine) &&
			names_are_equal(quota->key.app_id, key->app_id);
	case VT_QUOTA_HOLDER:
		return quota->key.process == key->process;
	}
	return true;
}

/** False on allocation failure. */
static bool copy_name(const char **copy, const char *name) {
	*copy = name != NULL ? strdup(name) : NULL;
	return name == NULL || *copy != NULL;
}

static struct vt_quota *quota_create(struct vt_quota *parent, enum vt_quota_level level,
		const struct vt_quota_key *key, int64_t now_ms) {
	struct vt_quota *quota = calloc(1, sizeof(*quota));
	if (quota == NULL) {
		return NULL;
	}
	quota->key = (struct vt_quota_key){ .uid = key->uid, .is_sandboxed = key->is_sandboxed };
	quota_init(quota, parent, parent->registry, level, now_ms);
	if (level == VT_QUOTA_CONTEXT && (!copy_name(&quota->key.engine, key->engine) ||
			!copy_name(&quota->key.app_id, key->app_id))) {
		quota_destroy(quota);
		return NULL;
	}
	if (level == VT_QUOTA_HOLDER && key->process != NULL) {
		quota->key.process = vt_process_ref(key->process);
	}
	wl_list_insert(&parent->children, &quota->link);
	return quota;
}

/** The child that is of a key; made if needed. NULL on allocation failure, or of NULL. */
static struct vt_quota *quota_get_child(struct vt_quota *parent, enum vt_quota_level level,
		const struct vt_quota_key *key, int64_t now_ms) {
	if (parent == NULL) {
		return NULL;
	}
	struct vt_quota *child;
	wl_list_for_each(child, &parent->children, link) {
		if (child->level == level && quota_is_of(child, key)) {
			return child;
		}
	}
	return quota_create(parent, level, key, now_ms);
}

struct vt_quota *vt_quota_get(struct vt_quota_registry *registry, const struct vt_quota_key *key,
		int64_t now_ms) {
	quota_forget_idle(&registry->all, now_ms);
	struct vt_quota *quota = quota_get_child(&registry->all, VT_QUOTA_GROUP, key, now_ms);
	if (key->is_sandboxed) {
		quota = quota_get_child(quota, VT_QUOTA_CONTEXT, key, now_ms);
	}
	quota = quota_get_child(quota, VT_QUOTA_HOLDER, key, now_ms);
	return quota != NULL ? vt_quota_ref(quota) : NULL;
}

struct vt_quota *vt_quota_get_for_client(struct vt_quota_registry *registry,
		const struct vt_client *client, int64_t now_ms) {
	if (client == NULL) {
		return NULL;
	}
	const struct vitrine_view_client *identity = &client->identity;
	struct vt_process *process = client->process;
	const struct vt_quota_key key = {
		.uid = identity->uid,
		.is_sandboxed = identity->sandboxed,
		.engine = identity->engine,
		.app_id = identity->app_id,
		.process = process != NULL && vt_process_is_alive(process) ? process : NULL,
	};
	return vt_quota_get(registry, &key, now_ms);
}

struct vt_quota *vt_quota_ref(struct vt_quota *quota) {
	quota->n_refs++;
	return quota;
}

void vt_quota_unref(struct vt_quota *quota) {
	if (quota == NULL) {
		return;
	}
	// Kept in the list until its tokens have come back, see quota_forget_idle()
	assert(quota->n_refs > 0);
	quota->n_refs--;
}
