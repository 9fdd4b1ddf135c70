/* SPDX-License-Identifier: MIT */
/* Accounting by itself: linked without sessions, buffers and wlroots. */
#include <vitrine/view_v1.h>

#include "harness.h"
#include "quota.h"

#define PID 4711
#define START INT64_C(1000000) // ms

struct quota_fixture {
	struct vitrine_view_limits limits;
	struct vt_quota_registry registry;
	struct vt_quota *quota;
};

struct quota_fixture_options {
	int unused;
};

static void quota_fixture_set_up(struct quota_fixture *f,
		const struct quota_fixture_options *options) {
	f->limits = (struct vitrine_view_limits){
		.objects_per_process = 3,
		.retire_burst_per_process = 2,
		.retire_interval_ms = 100,
		.retired_bytes_per_process = 1000,
	};
	vt_quota_registry_init(&f->registry, &f->limits);
	f->quota = vt_quota_get(&f->registry, PID, START);
	check(f->quota != NULL);
}

static void quota_fixture_tear_down(struct quota_fixture *f) {
	vt_quota_unref(f->quota);
	vt_quota_registry_finish(&f->registry);
}

static void take_tokens(struct quota_fixture *f, int n) {
	for (int i = 0; i < n; i++) {
		vt_quota_take_token(f->quota, START);
	}
}

/* Whose it is */

TEST_WITH(quota_fixture, quota_is_the_same_for_a_process_and_another_for_others) {
	struct vt_quota *again = vt_quota_get(&f->registry, PID, START);
	struct vt_quota *other = vt_quota_get(&f->registry, PID + 1, START);
	check(again == f->quota);
	check(other != f->quota && other->pid == PID + 1);
	vt_quota_unref(again);
	vt_quota_unref(other);
	vt_quota_unref(NULL);
}

TEST_WITH(quota_fixture, debt_outlives_the_references) {
	take_tokens(f, 4);
	vt_quota_unref(f->quota);
	f->quota = vt_quota_get(&f->registry, PID, START);
	check_int(f->quota->tokens, ==, -2);
}

TEST_WITH(quota_fixture, process_that_owes_nothing_is_forgotten) {
	vt_quota_take_token(f->quota, START);
	vt_quota_unref(f->quota);
	f->quota = NULL;
	// A token short: kept
	vt_quota_unref(vt_quota_get(&f->registry, PID + 1, START + 99));
	check_int(wl_list_length(&f->registry.quotas), ==, 2);
	vt_quota_unref(vt_quota_get(&f->registry, PID + 2, START + 100));
	check_int(wl_list_length(&f->registry.quotas), ==, 1); // the last one alone
}

TEST_WITH(quota_fixture, charge_keeps_the_quota) {
	struct vt_charge charge = { 0 };
	check(vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 1));
	vt_quota_unref(f->quota);
	f->quota = NULL;
	vt_quota_unref(vt_quota_get(&f->registry, PID + 1, START));
	check_int(wl_list_length(&f->registry.quotas), ==, 2);
	vt_charge_drop(&charge);
	vt_quota_unref(vt_quota_get(&f->registry, PID + 2, START));
	check_int(wl_list_length(&f->registry.quotas), ==, 1);
}

/* Charges */

TEST_PARAMS(quota_fixture, kinds, enum vt_quota_kind kind; uint64_t limit) = {
	{ "objects", {0}, VT_QUOTA_OBJECTS, 3 },
	{ "copies", {0}, VT_QUOTA_COPIES, 1 },
	{ "retired bytes", {0}, VT_QUOTA_RETIRED_BYTES, 1000 },
	{ "retired pieces", {0}, VT_QUOTA_RETIRED_PIECES, 256 },
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
	check(vt_charge_try(&bytes, f->quota, VT_QUOTA_RETIRED_BYTES, 1000));
	vt_charge_drop(&objects);
	check_int(f->quota->used[VT_QUOTA_RETIRED_BYTES], ==, 1000);
	vt_charge_drop(&bytes);
}

TEST_WITH(quota_fixture, limits_are_read_anew) {
	struct vt_charge charge = { 0 };
	check(!vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 4));
	f->limits.objects_per_process = 4;
	check(vt_charge_try(&charge, f->quota, VT_QUOTA_OBJECTS, 4));
	f->limits.objects_per_process = 1;
	check(!vt_quota_has_room(f->quota, VT_QUOTA_OBJECTS, 0));
	vt_charge_drop(&charge);
}

struct exceeded_listener {
	struct wl_listener listener;
	const struct vt_quota *quota;
};

static void handle_exceeded(struct wl_listener *listener, void *data) {
	struct exceeded_listener *exceeded = wl_container_of(listener, exceeded, listener);
	exceeded->quota = data;
}

TEST_WITH(quota_fixture, exceeded_is_told_to_the_listeners_of_that_quota) {
	struct vt_quota *other = vt_quota_get(&f->registry, PID + 1, START);
	struct exceeded_listener ours = { .listener.notify = handle_exceeded };
	struct exceeded_listener others = { .listener.notify = handle_exceeded };
	wl_signal_add(&f->quota->events.exceeded, &ours.listener);
	wl_signal_add(&other->events.exceeded, &others.listener);
	vt_quota_emit_exceeded(f->quota);
	check(ours.quota == f->quota && others.quota == NULL);
	wl_list_remove(&ours.listener.link);
	wl_list_remove(&others.listener.link);
	vt_quota_unref(other);
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
	check_int(f->quota->tokens, ==, 2);
}

TEST_WITH(quota_fixture, without_an_interval_there_is_no_debt) {
	f->limits.retire_interval_ms = 0;
	take_tokens(f, 100);
	check_int(vt_quota_get_delay(f->quota, START), ==, 0);
}

TEST_WITH(quota_fixture, delay_fits_a_timer) {
	f->limits.retire_interval_ms = UINT32_MAX;
	take_tokens(f, 1000);
	check_int(vt_quota_get_delay(f->quota, START), ==, 3600000);
}
