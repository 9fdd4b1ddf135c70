/* SPDX-License-Identifier: MIT */
/* Whose turn it is to start: by itself, with quotas and an event loop. */
#include <stdlib.h>
#include <vitrine/view_v1.h>

#include "client.h"
#include "clock.h"
#include "harness.h"
#include "quota.h"
#include "start_queue.h"

#define INTERVAL_MS 20
/** For those that are to start in due course, in ms. */
#define PATIENCE_MS 5000

struct queue_fixture {
	struct vitrine_view_limits limits;
	struct vt_quota_registry registry;
	struct wl_event_loop *loop;
	struct vt_start_queue queue;
	struct vt_process processes[3];
	struct vt_quota *quotas[3];
};

struct queue_fixture_options {
	uint32_t group_burst;
};

static void queue_fixture_set_up(struct queue_fixture *f,
		const struct queue_fixture_options *options) {
	f->limits.starts_per_group = (struct vitrine_view_rate){ options->group_burst, INTERVAL_MS };
	f->limits.starts_per_holder = (struct vitrine_view_rate){ 100, 1 };
	vt_quota_registry_init(&f->registry, &f->limits, -1);
	f->loop = wl_event_loop_create();
	check(f->loop != NULL && vt_start_queue_init(&f->queue, f->loop));
	for (size_t i = 0; i < 3; i++) {
		f->processes[i] = (struct vt_process){ .n_refs = 1, .pidfd = -1 };
		const struct vt_quota_key key = { .process = &f->processes[i] };
		f->quotas[i] = vt_quota_get(&f->registry, &key, vt_now_ms());
		check(f->quotas[i] != NULL);
	}
}

static void queue_fixture_tear_down(struct queue_fixture *f) {
	vt_start_queue_finish(&f->queue);
	for (size_t i = 0; i < 3; i++) {
		vt_quota_unref(f->quotas[i]);
	}
	vt_quota_registry_finish(&f->registry);
	wl_event_loop_destroy(f->loop);
}

/** One that notes when it started. */
struct starter {
	struct vt_waiter waiter;
	int order; // 0: not started
	struct starter *cancels; // when it starts, may be NULL
};

static int n_started;

static void starter_start(struct vt_waiter *waiter) {
	struct starter *starter = wl_container_of(waiter, starter, waiter);
	check(waiter->quota == NULL); // it waits no more
	starter->order = ++n_started;
	if (starter->cancels != NULL) {
		vt_waiter_cancel(&starter->cancels->waiter);
	}
}

static void add(struct queue_fixture *f, struct starter *starter, size_t process) {
	vt_start_queue_add(&f->queue, &starter->waiter, f->quotas[process], starter_start);
}

static void dispatch_until_started(struct queue_fixture *f, int n) {
	int64_t end = vt_now_ms() + PATIENCE_MS;
	while (n_started < n) {
		check(vt_now_ms() < end);
		wl_event_loop_dispatch(f->loop, INTERVAL_MS);
	}
}

TEST_WITH(queue_fixture, burst_starts_at_once_and_the_rest_in_turn, .group_burst = 2) {
	struct starter starters[4] = { 0 };
	int64_t begin = vt_now_ms();
	for (int i = 0; i < 4; i++) {
		add(f, &starters[i], 0);
		check_int(starters[i].order, ==, i < 2 ? i + 1 : 0);
	}
	dispatch_until_started(f, 4);
	check(vt_now_ms() - begin >= 2 * INTERVAL_MS);
	check(starters[2].order == 3 && starters[3].order == 4);
}

TEST_WITH(queue_fixture, newcomer_is_before_all_that_have_started, .group_burst = 2) {
	struct starter hoarders[6] = { 0 }, other = { 0 }, newcomer = { 0 };
	add(f, &hoarders[0], 0);
	add(f, &other, 1);
	check_int(n_started, ==, 2); // from here on there is none left
	for (int i = 1; i < 6; i++) {
		add(f, &hoarders[i], 0);
	}
	struct starter again = { 0 };
	add(f, &again, 1);
	add(f, &newcomer, 2);
	check_int(n_started, ==, 2);
	dispatch_until_started(f, 9);
	check_int(newcomer.order, ==, 3); // it has had none
	check_int(hoarders[1].order, ==, 4); // its last one is longer ago than the other's
	check_int(again.order, ==, 5);
	for (int i = 2; i < 6; i++) {
		check_int(hoarders[i].order, ==, 4 + i);
	}
}

TEST_WITH(queue_fixture, cancelled_one_never_starts_and_the_others_do, .group_burst = 1) {
	struct starter starters[4] = { 0 };
	starters[1].cancels = &starters[2];
	for (int i = 0; i < 4; i++) {
		add(f, &starters[i], 0);
	}
	vt_waiter_cancel(&starters[0].waiter); // started long ago: harmless
	dispatch_until_started(f, 3);
	check(starters[2].order == 0 && starters[3].order == 3);
	check(wl_list_empty(&f->queue.waiters));
}

TEST_WITH(queue_fixture, holder_that_is_too_fast_holds_no_other_up, .group_burst = 100) {
	f->limits.starts_per_holder = (struct vitrine_view_rate){ 1, 1000000 };
	struct starter first = { 0 }, second = { 0 }, other = { 0 };
	add(f, &first, 0);
	add(f, &second, 0);
	add(f, &other, 1);
	check(first.order == 1 && second.order == 0 && other.order == 2);
	// One that may start earlier than the timer was armed for is not late
	f->limits.starts_per_holder.interval_ms = INTERVAL_MS;
	struct starter third = { 0 };
	add(f, &third, 1);
	dispatch_until_started(f, 4);
	check(second.order > 0 && third.order > 0);
}

static void start_freed(struct vt_waiter *waiter) {
	struct starter *starter = wl_container_of(waiter, starter, waiter);
	n_started++;
	free(starter);
}

TEST_WITH(queue_fixture, one_that_starts_may_be_freed_by_it, .group_burst = 1) {
	for (int i = 0; i < 3; i++) {
		struct starter *starter = calloc(1, sizeof(*starter));
		check(starter != NULL);
		vt_start_queue_add(&f->queue, &starter->waiter, f->quotas[0], start_freed);
	}
	check_int(n_started, ==, 1);
	dispatch_until_started(f, 3);
}
