/* SPDX-License-Identifier: MIT */
/* Accounting by itself: linked without sessions and buffers. */
#include <sys/resource.h>
#include <unistd.h>
#include <vitrine/view_v1.h>

#include "client.h"
#include "harness.h"
#include "quota.h"

#define PID 10 // a number of a process here
#define UID 1000
#define START INT64_C(1000000) // ms

struct quota_fixture {
	struct vitrine_view_limits limits;
	struct vt_quota_registry registry;
	struct vt_quota *quota;
	struct vt_process processes[16];
};

struct quota_fixture_options {
	int unused;
};

/** Of a process of our user. */
static struct vt_quota *get(struct quota_fixture *f, int pid, int64_t now_ms) {
	const struct vt_quota_key key = { .uid = UID, .process = &f->processes[pid] };
	return vt_quota_get(&f->registry, &key, now_ms);
}

static int count_holders(const struct quota_fixture *f) {
	int n = 0;
	const struct vt_quota *group;
	wl_list_for_each(group, &f->registry.all.children, link) {
		n += wl_list_length(&group->children);
	}
	return n;
}

static void quota_fixture_set_up(struct quota_fixture *f,
		const struct quota_fixture_options *options) {
	f->limits = (struct vitrine_view_limits){
		.objects = { 24, 12, 3 },
		.fds = { 40, 20, 5 },
		.copiers = { 16, 8, 2 },
		.copies = { 16, 8, 1 },
		.private_bytes = { 8000, 4000, 1000 },
		.shared_bytes = { 16000, 8000, 2000 },
		.shared_pieces = { 2048, 1024, 256 },
		.starts_per_group = { 100, 50 },
		.starts_per_holder = { 2, 100 },
	};
	for (size_t i = 0; i < sizeof(f->processes) / sizeof(f->processes[0]); i++) {
		f->processes[i] = (struct vt_process){ .n_refs = 1, .pidfd = -1 };
	}
	vt_quota_registry_init(&f->registry, &f->limits, -1);
	f->quota = get(f, PID, START);
	check(f->quota != NULL);
}

static void quota_fixture_tear_down(struct quota_fixture *f) {
	vt_quota_unref(f->quota);
	vt_quota_registry_finish(&f->registry);
	for (size_t i = 0; i < sizeof(f->processes) / sizeof(f->processes[0]); i++) {
		check_int(f->processes[i].n_refs, ==, 1);
	}
}

static void take_tokens(struct quota_fixture *f, int n) {
	for (int i = 0; i < n; i++) {
		vt_quota_take_token(f->quota, START);
	}
}

/* Whose it is */

TEST_WITH(quota_fixture, quota_is_the_same_for_a_process_and_another_for_others) {
	struct vt_quota *again = get(f, PID, START);
	struct vt_quota *other = get(f, PID + 1, START);
	check(again == f->quota);
	check(other != f->quota && other->key.process == &f->processes[PID + 1]);
	vt_quota_unref(again);
	vt_quota_unref(other);
	vt_quota_unref(NULL);
}

TEST_WITH(quota_fixture, debt_outlives_the_references) {
	take_tokens(f, 4);
	vt_quota_unref(f->quota);
	f->quota = get(f, PID, START);
	check_int(f->quota->bucket.tokens, ==, -2);
}

TEST_WITH(quota_fixture, process_that_owes_nothing_is_forgotten) {
	vt_quota_take_token(f->quota, START);
	vt_quota_unref(f->quota);
	f->quota = NULL;
	// A token short: kept
	vt_quota_unref(get(f, PID + 1, START + 99));
	check_int(count_holders(f), ==, 2);
	vt_quota_unref(get(f, PID + 2, START + 100));
	check_int(count_holders(f), ==, 1); // the last one alone
}

TEST_WITH(quota_fixture, charge_keeps_the_quota) {
	struct vt_charge charge = { 0 };
	check(vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 1));
	vt_quota_unref(f->quota);
	f->quota = NULL;
	vt_quota_unref(get(f, PID + 1, START));
	check_int(count_holders(f), ==, 2);
	vt_charge_drop(&charge);
	vt_quota_unref(get(f, PID + 2, START));
	check_int(count_holders(f), ==, 1);
}

TEST_WITH(quota_fixture, user_has_a_group_and_its_sandboxed_clients_another) {
	const struct vt_quota_key keys[] = {
		{ .uid = UID, .process = &f->processes[PID] },
		{ .uid = UID + 1, .process = &f->processes[PID] },
		{ .uid = UID, .is_sandboxed = true, .engine = "a", .app_id = "b", .process = &f->processes[PID] },
		{ .uid = UID, .is_sandboxed = true, .engine = "a", .app_id = "c", .process = &f->processes[PID] },
		{ .uid = UID, .is_sandboxed = true, .engine = "c", .app_id = "b", .process = &f->processes[PID] },
		{ .uid = UID, .is_sandboxed = true, .process = &f->processes[PID] },
	};
	struct vt_quota *quotas[6];
	for (size_t i = 0; i < 6; i++) {
		quotas[i] = vt_quota_get(&f->registry, &keys[i], START);
		for (size_t j = 0; j < i; j++) {
			check(quotas[j] != quotas[i]);
		}
		struct vt_quota *again = vt_quota_get(&f->registry, &keys[i], START);
		check(again == quotas[i]);
		vt_quota_unref(again);
	}
	check(quotas[0] == f->quota && quotas[0]->parent->level == VT_QUOTA_GROUP);
	check(quotas[1]->parent != quotas[0]->parent);
	check(quotas[2]->parent->level == VT_QUOTA_CONTEXT);
	check(quotas[2]->parent->parent->level == VT_QUOTA_GROUP);
	check(quotas[2]->parent->parent != quotas[0]->parent);
	for (size_t i = 2; i < 6; i++) {
		check(quotas[i]->parent->parent == quotas[2]->parent->parent);
	}
	for (size_t i = 0; i < 6; i++) {
		vt_quota_unref(quotas[i]);
	}
}

TEST_WITH(quota_fixture, processes_that_are_not_known_are_one_holder_in_each_group) {
	struct vt_quota_key key = { .uid = UID };
	struct vt_quota *first = vt_quota_get(&f->registry, &key, START);
	struct vt_quota *second = vt_quota_get(&f->registry, &key, START);
	check(first == second && first->parent == f->quota->parent && first != f->quota);
	key.uid++;
	struct vt_quota *other = vt_quota_get(&f->registry, &key, START);
	check(other != first);
	vt_quota_unref(first);
	vt_quota_unref(second);
	vt_quota_unref(other);
}

/* Charges */

TEST_PARAMS(quota_fixture, kinds, enum vt_quota_kind kind; uint64_t limit) = {
	{ "objects", {0}, VT_QUOTA_OBJECTS, 3 },
	{ "copies", {0}, VT_QUOTA_COPIES, 1 },
	{ "file descriptors", {0}, VT_QUOTA_FDS, 5 },
	{ "copiers", {0}, VT_QUOTA_COPIERS, 2 },
	{ "private bytes", {0}, VT_QUOTA_PRIVATE_BYTES, 1000 },
	{ "shared bytes", {0}, VT_QUOTA_SHARED_BYTES, 2000 },
	{ "shared pieces", {0}, VT_QUOTA_SHARED_PIECES, 256 },
};

TEST_WITH_EACH(quota_fixture, kinds, charges_end_at_the_limit) {
	struct vt_charge most = { 0 }, more = { 0 };
	check(vt_charge_try(&most, f->quota, param->kind, param->limit));
	check_int(f->quota->used[param->kind], ==, param->limit);
	check(vt_quota_has_room(f->quota, param->kind, 0));
	check(!vt_quota_has_room(f->quota, param->kind, 1));
	check(!vt_quota_has_room(f->quota, param->kind, UINT64_MAX));
	check(!vt_charge_try(&more, f->quota, param->kind, 1));
	check(more.quota == NULL && f->quota->used[param->kind] == param->limit);

	// What is there already is charged all the same
	vt_charge_add(&more, f->quota, param->kind, 1);
	check(!vt_quota_has_room(f->quota, param->kind, 0));
	vt_charge_drop(&more);
	vt_charge_drop(&more); // twice is harmless
	check(vt_quota_has_room(f->quota, param->kind, 0));
	vt_charge_drop(&most);
	check_int(f->quota->used[param->kind], ==, 0);
}

TEST_WITH(quota_fixture, kinds_do_not_count_together) {
	struct vt_charge objects = { 0 }, bytes = { 0 };
	check(vt_charge_try(&objects, f->quota, VT_QUOTA_OBJECTS, 3));
	check(vt_charge_try(&bytes, f->quota, VT_QUOTA_SHARED_BYTES, 2000));
	vt_charge_drop(&objects);
	check_int(f->quota->used[VT_QUOTA_SHARED_BYTES], ==, 2000);
	vt_charge_drop(&bytes);
}

TEST_WITH(quota_fixture, file_descriptors_are_a_part_of_what_the_process_may_have) {
	f->limits.fds = (struct vitrine_view_limit){ 0 };
	struct rlimit saved;
	check(getrlimit(RLIMIT_NOFILE, &saved) == 0);
	const struct rlimit limit = { .rlim_cur = 640, .rlim_max = saved.rlim_max };
	check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	check(vt_quota_has_room(f->quota, VT_QUOTA_FDS, 20));
	check(!vt_quota_has_room(f->quota, VT_QUOTA_FDS, 21));
	check(vt_quota_has_room(f->quota->parent, VT_QUOTA_FDS, 80));
	check(!vt_quota_has_room(f->quota->parent, VT_QUOTA_FDS, 81));
	check(vt_quota_has_room(&f->registry.all, VT_QUOTA_FDS, 160));
	check(!vt_quota_has_room(&f->registry.all, VT_QUOTA_FDS, 161));
	check(setrlimit(RLIMIT_NOFILE, &saved) == 0);
}

TEST_WITH(quota_fixture, no_file_descriptor_is_kept_once_half_of_all_are_open) {
	struct rlimit saved;
	check(getrlimit(RLIMIT_NOFILE, &saved) == 0);
	const struct rlimit limit = { .rlim_cur = 64, .rlim_max = saved.rlim_max };
	check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	f->registry.borrowed_fd = STDERR_FILENO;
	int fds[64], n = 0;
	for (int fd; (fd = dup(STDERR_FILENO)) < 31; n++) {
		check(fd >= 0);
		fds[n] = fd;
		check(vt_quota_has_room(f->quota, VT_QUOTA_FDS, 1));
	}
	fds[n++] = 31;
	check(!vt_quota_has_room(f->quota, VT_QUOTA_FDS, 1));
	check(vt_quota_has_room(f->quota, VT_QUOTA_FDS, 0)); // none more
	check(vt_quota_has_room(f->quota, VT_QUOTA_OBJECTS, 1));
	while (n > 0) {
		close(fds[--n]);
	}
	check(vt_quota_has_room(f->quota, VT_QUOTA_FDS, 1));
	check(setrlimit(RLIMIT_NOFILE, &saved) == 0);
}

TEST_WITH(quota_fixture, levels_bound_what_those_below_use_together) {
	struct vt_quota *others[8];
	struct vt_charge charges[8] = { 0 };
	// Four of our group fill it, and four of another all that there is
	for (size_t i = 0; i < 8; i++) {
		const struct vt_quota_key key = { .uid = UID + 1 + i / 4, .process = &f->processes[i] };
		others[i] = vt_quota_get(&f->registry, &key, START);
		check(vt_charge_try(&charges[i], others[i], VT_QUOTA_OBJECTS, 3));
		struct vt_charge more = { 0 };
		check(!vt_charge_try(&more, others[i], VT_QUOTA_OBJECTS, 1));
		bool is_full = vt_quota_has_room(others[i]->parent, VT_QUOTA_OBJECTS, 1);
		check(is_full == (i % 4 != 3));
	}
	check_int(f->registry.all.used[VT_QUOTA_OBJECTS], ==, 24);
	check(!vt_quota_has_room(f->quota, VT_QUOTA_OBJECTS, 1)); // of the third group
	vt_charge_drop(&charges[0]);
	check(vt_quota_has_room(f->quota, VT_QUOTA_OBJECTS, 3));
	for (size_t i = 0; i < 8; i++) {
		vt_charge_drop(&charges[i]);
		vt_quota_unref(others[i]);
	}
	check_int(f->registry.all.used[VT_QUOTA_OBJECTS], ==, 0);
}

TEST_WITH(quota_fixture, context_has_half_of_its_group) {
	const struct vt_quota_key key = {
		.uid = UID, .is_sandboxed = true, .engine = "engine", .app_id = "app", .process = &f->processes[PID],
	};
	struct vt_quota *quota = vt_quota_get(&f->registry, &key, START);
	check(vt_quota_has_room(quota->parent, VT_QUOTA_OBJECTS, 6));
	check(!vt_quota_has_room(quota->parent, VT_QUOTA_OBJECTS, 7));
	check(vt_quota_has_room(quota->parent->parent, VT_QUOTA_OBJECTS, 12));
	vt_quota_unref(quota);
}

TEST_WITH(quota_fixture, what_is_reserved_for_all_can_become_that_of_a_holder) {
	struct vt_charge reserved = { 0 }, kept = { 0 };
	check(vt_charge_try(&reserved, &f->registry.all, VT_QUOTA_SHARED_BYTES, 16000));
	check(!vt_quota_has_room(f->quota, VT_QUOTA_SHARED_BYTES, 1));
	vt_charge_split(&reserved, &kept, 4000);
	check_int(reserved.amount, ==, 12000);
	check_int(kept.amount, ==, 4000);
	check(kept.quota == &f->registry.all);
	vt_charge_move(&kept, f->quota); // twice what it may
	check_int(f->quota->used[VT_QUOTA_SHARED_BYTES], ==, 4000);
	check_int(f->quota->parent->used[VT_QUOTA_SHARED_BYTES], ==, 4000);
	check_int(f->registry.all.used[VT_QUOTA_SHARED_BYTES], ==, 16000);
	vt_charge_drop(&reserved);
	check(!vt_quota_has_room(f->quota, VT_QUOTA_SHARED_BYTES, 0));
	check_int(f->registry.all.used[VT_QUOTA_SHARED_BYTES], ==, 4000);
	vt_charge_drop(&kept);
	check_int(f->registry.all.used[VT_QUOTA_SHARED_BYTES], ==, 0);
}

/* The largest holder pays */

static int n_paid;

static void pay(struct vt_charge *charge) {
	n_paid++;
	vt_charge_drop(charge);
}

static void refuse_to_pay(struct vt_charge *charge) {
	n_paid++;
}

/** A process of our user with so many objects, each its own charge that can be given up. */
static struct vt_quota *hoard(struct quota_fixture *f, int pid, struct vt_charge *charges,
		int n) {
	struct vt_quota *quota = get(f, pid, START);
	for (int i = 0; i < n; i++) {
		check(vt_charge_try(&charges[i], quota, VT_QUOTA_OBJECTS, 1));
		vt_charge_set_payable(&charges[i], pay);
	}
	return quota;
}

TEST_WITH(quota_fixture, largest_holder_pays_with_its_newest_charge) {
	f->limits.objects = (struct vitrine_view_limit){ 24, 12, 16 };
	struct vt_charge small[4] = { 0 }, large[8] = { 0 }, ours[4] = { 0 };
	struct vt_quota *quotas[] = { hoard(f, 1, small, 4), hoard(f, 2, large, 8) };
	check(!vt_charge_try(&ours[0], f->quota, VT_QUOTA_OBJECTS, 1)); // the group is full
	check_int(n_paid, ==, 0);
	for (int i = 0; i < 3; i++) {
		check(vt_charge_claim(&ours[i], f->quota, VT_QUOTA_OBJECTS, 1));
		check_int(n_paid, ==, i + 1);
		check(large[7 - i].quota == NULL && large[6 - i].quota != NULL);
	}
	// It has five, which is not twice as many as four
	check(!vt_charge_claim(&ours[3], f->quota, VT_QUOTA_OBJECTS, 1));
	check_int(n_paid, ==, 3);
	check_int(quotas[0]->used[VT_QUOTA_OBJECTS], ==, 4);
	for (int i = 0; i < 8; i++) {
		vt_charge_drop(&large[i]);
		vt_charge_drop(&small[i % 4]);
		vt_charge_drop(&ours[i % 4]);
	}
	vt_quota_unref(quotas[0]);
	vt_quota_unref(quotas[1]);
}

TEST_WITH(quota_fixture, largest_group_pays_where_all_is_full) {
	f->limits.objects = (struct vitrine_view_limit){ 12, 10, 16 };
	struct vt_charge charges[10] = { 0 }, others[4] = { 0 };
	struct vt_quota *quota = hoard(f, 1, charges, 10);
	const struct vt_quota_key key = { .uid = UID + 1, .process = &f->processes[2] };
	struct vt_quota *other = vt_quota_get(&f->registry, &key, START);
	check(vt_charge_claim(&others[0], other, VT_QUOTA_OBJECTS, 2));
	check_int(n_paid, ==, 0);
	check(vt_charge_claim(&others[1], other, VT_QUOTA_OBJECTS, 1));
	check(vt_charge_claim(&others[2], other, VT_QUOTA_OBJECTS, 1));
	check(!vt_charge_claim(&others[3], other, VT_QUOTA_OBJECTS, 1)); // not twice as many as five
	check_int(n_paid, ==, 2);
	check_int(quota->used[VT_QUOTA_OBJECTS], ==, 8);
	for (int i = 0; i < 10; i++) {
		vt_charge_drop(&charges[i]);
	}
	for (int i = 0; i < 3; i++) {
		vt_charge_drop(&others[i]);
	}
	vt_quota_unref(other);
	vt_quota_unref(quota);
}

TEST_PARAMS(quota_fixture, non_payers, struct vitrine_view_limit objects; int n; int wanted) = {
	{ "the holder is full itself", {0}, { 24, 24, 4 }, 4, 5 },
	{ "no more than an eighth of what a holder may have", {0}, { 4, 4, 32 }, 4, 1 },
	{ "more than the level has", {0}, { 24, 3, 16 }, 3, 4 },
};

TEST_WITH_EACH(quota_fixture, non_payers, nobody_pays_for_what_is_not_due) {
	f->limits.objects = param->objects;
	struct vt_charge charges[4] = { 0 }, ours = { 0 };
	struct vt_quota *quota = hoard(f, 1, charges, param->n);
	check(!vt_charge_claim(&ours, f->quota, VT_QUOTA_OBJECTS, (uint64_t)param->wanted));
	check_int(n_paid, ==, 0);
	for (int i = 0; i < 4; i++) {
		vt_charge_drop(&charges[i]);
	}
	vt_quota_unref(quota);
}

TEST_WITH(quota_fixture, holder_that_cannot_pay_is_asked_once) {
	f->limits.objects = (struct vitrine_view_limit){ 24, 12, 16 };
	struct vt_charge one = { 0 }, rest = { 0 }, ours = { 0 };
	struct vt_quota *quota = hoard(f, 1, &rest, 0);
	check(vt_charge_try(&rest, quota, VT_QUOTA_OBJECTS, 11));
	check(vt_charge_try(&one, quota, VT_QUOTA_OBJECTS, 1));
	check(!vt_charge_claim(&ours, f->quota, VT_QUOTA_OBJECTS, 1)); // it has none to give up
	vt_charge_set_payable(&one, refuse_to_pay);
	check(!vt_charge_claim(&ours, f->quota, VT_QUOTA_OBJECTS, 1));
	check_int(n_paid, ==, 1);
	vt_charge_drop(&one);
	vt_charge_drop(&rest);
	vt_quota_unref(quota);
}

TEST_WITH(quota_fixture, limits_are_read_anew) {
	struct vt_charge charge = { 0 };
	check(!vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 4));
	f->limits.objects.per_holder = 4;
	check(vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 4));
	f->limits.objects.per_holder = 1;
	check(!vt_quota_has_room(f->quota, VT_QUOTA_OBJECTS, 0));
	vt_charge_drop(&charge);
}

TEST_WITH(quota_fixture, one_level_can_be_over_while_others_are_not) {
	f->limits.shared_bytes = (struct vitrine_view_limit){ 100, 50, 10 };
	struct vt_quota *other = get(f, PID + 1, START);
	struct vt_charge charge = { 0 };
	vt_charge_add(&charge, other, VT_QUOTA_SHARED_BYTES, 10);
	check(!vt_quota_is_over(other, VT_QUOTA_SHARED_BYTES));
	vt_charge_drop(&charge);
	vt_charge_add(&charge, other, VT_QUOTA_SHARED_BYTES, 51);
	check(vt_quota_is_over(other, VT_QUOTA_SHARED_BYTES));
	check(vt_quota_is_over(other->parent, VT_QUOTA_SHARED_BYTES));
	check(!vt_quota_is_over(&f->registry.all, VT_QUOTA_SHARED_BYTES));
	check(!vt_quota_is_over(f->quota, VT_QUOTA_SHARED_BYTES)); // of the same group
	check(!vt_quota_has_room(f->quota, VT_QUOTA_SHARED_BYTES, 0));
	vt_charge_drop(&charge);
	vt_quota_unref(other);
}

/* Screens */

static uint64_t get_room(const struct vt_quota *quota) {
	uint64_t room = 0;
	for (uint64_t bit = UINT64_C(1) << 40; bit > 0; bit >>= 1) {
		room |= vt_quota_has_room(quota, VT_QUOTA_SHARED_BYTES, room | bit) ? bit : 0;
	}
	return room;
}

TEST_WITH(quota_fixture, shared_bytes_have_room_for_sets_of_the_largest_screen) {
	f->limits.shared_sets = (struct vitrine_view_limit){ 3, 2, 1 };
	struct vt_quota_screen small = { 0 }, large = { 0 };
	vt_quota_screen_add(&small, &f->registry);
	vt_quota_screen_add(&large, &f->registry);
	vt_quota_screen_expect(&small, 499);
	check_int(get_room(f->quota), ==, 2000); // of a screen of no more than a usual size
	vt_quota_screen_expect(&large, 3000);
	vt_quota_screen_expect(&large, 10); // its largest buffer counts
	check_int(get_room(f->quota), ==, 4 * 3000);
	check_int(get_room(f->quota->parent), ==, 2 * 4 * 3000);
	check_int(get_room(&f->registry.all), ==, 3 * 4 * 3000);
	check(!vt_quota_has_room(f->quota, VT_QUOTA_PRIVATE_BYTES, 1001)); // the others stay
	vt_quota_screen_remove(&large);
	check_int(get_room(f->quota), ==, 2000);
	vt_quota_screen_remove(&small);
}

TEST_WITH(quota_fixture, screens_raise_no_limit_beyond_their_part_of_the_memory) {
	f->limits.shared_sets = (struct vitrine_view_limit){ 3, 2, UINT64_MAX };
	check_int(f->registry.screens_cap, >, 0);
	f->registry.screens_cap = 20000;
	struct vt_quota_screen screen = { 0 };
	vt_quota_screen_add(&screen, &f->registry);
	vt_quota_screen_expect(&screen, 2000);
	check_int(get_room(f->quota->parent), ==, 16000); // the positive case
	check_int(get_room(&f->registry.all), ==, 20000);
	vt_quota_screen_expect(&screen, UINT64_MAX);
	check_int(get_room(&f->registry.all), ==, 20000);
	check_int(get_room(f->quota), ==, 20000); // also if the number of sets overflows
	vt_quota_screen_remove(&screen);
}

/* Tokens */

TEST_WITH(quota_fixture, burst_is_free_and_what_follows_is_paced) {
	for (int i = 0; i < 2; i++) {
		check_int(vt_quota_get_delay(f->quota, START), ==, 0);
		vt_quota_take_token(f->quota, START);
	}
	check_int(vt_quota_get_delay(f->quota, START), ==, 100);
	check_int(vt_quota_get_delay(f->quota, START + 30), ==, 70);
	check_int(vt_quota_get_delay(f->quota, START + 100), ==, 0);
}

TEST_WITH(quota_fixture, debt_is_paid_back_one_an_interval) {
	take_tokens(f, 5);
	check_int(vt_quota_get_delay(f->quota, START), ==, 400);
	check_int(vt_quota_get_delay(f->quota, START + 399), ==, 1);
	check_int(vt_quota_get_delay(f->quota, START + 400), ==, 0);
	vt_quota_take_token(f->quota, START + 450); // half of the next one is earned
	check_int(vt_quota_get_delay(f->quota, START + 450), ==, 50);
}

TEST_WITH(quota_fixture, tokens_are_saved_up_to_the_burst) {
	vt_quota_take_token(f->quota, START);
	check_int(vt_quota_get_delay(f->quota, START + 1000000), ==, 0);
	check_int(f->quota->bucket.tokens, ==, 2);
}

TEST_WITH(quota_fixture, without_an_interval_there_is_no_debt) {
	f->limits.starts_per_group.interval_ms = 0;
	f->limits.starts_per_holder.interval_ms = 0;
	take_tokens(f, 100);
	check_int(vt_quota_get_delay(f->quota, START), ==, 0);
}

TEST_WITH(quota_fixture, holders_of_a_group_share_its_rate) {
	f->limits.starts_per_group = (struct vitrine_view_rate){ 3, 1000 };
	struct vt_quota *others[2] = { get(f, 1, START), get(f, 2, START) };
	f->quota->parent->bucket.tokens = 3; // the group was made with more
	take_tokens(f, 2);
	check_int(vt_quota_get_delay(f->quota, START), ==, 100); // its own
	check_int(vt_quota_get_delay(others[0], START), ==, 0);
	vt_quota_take_token(others[0], START);
	check_int(vt_quota_get_delay(others[0], START), ==, 1000); // the group's
	check_int(vt_quota_get_delay(others[1], START), ==, 1000);
	const struct vt_quota_key key = { .uid = UID + 1, .process = &f->processes[1] };
	struct vt_quota *stranger = vt_quota_get(&f->registry, &key, START);
	check_int(vt_quota_get_delay(stranger, START), ==, 0);
	vt_quota_unref(others[0]);
	vt_quota_unref(others[1]);
	vt_quota_unref(stranger);
}

TEST_WITH(quota_fixture, delay_fits_a_timer) {
	f->limits.starts_per_holder.interval_ms = UINT32_MAX;
	take_tokens(f, 1000);
	check_int(vt_quota_get_delay(f->quota, START), ==, 3600000);
}
