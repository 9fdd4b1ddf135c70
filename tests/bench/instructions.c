/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <valgrind/callgrind.h>
#include <wlr/types/wlr_output.h>

#include "control.h"
#include "fixture.h"
#include "harness.h"
#include "vitrine-bench-v1-client-protocol.h"
#include "vitrine-bench-v1-protocol.h"
#include "wayland.h"

/*
 * instructions PATH CLIENTS FRAMES: delivers frames in the fixture, where callgrind
 * counts the instructions of the compositor's side alone. They are the same each
 * time, however busy the machine is.
 */

#define WARM_FRAMES 10

/* The fixture is made for tests; a failed check ends this program. */

void harness_fail(const char *file, int line, const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s:%d: ", file, line);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(EXIT_FAILURE);
}

bool harness_kernel_tells_pins(void) {
	return false;
}

void harness_check_str(const char *file, int line, const char *expr, const char *a,
		const char *b) {
	if (strcmp(a, b) != 0) {
		harness_fail(file, line, "%s: %s, %s", expr, a, b);
	}
}

/* Counting */

static bool counting;

static void handle_enter_server(bool enter) {
	if (counting) {
		CALLGRIND_TOGGLE_COLLECT;
	}
}

/* The limit: see control.h */

struct limit {
	struct control control;
	struct wl_listener commit;
};

static const struct vitrine_bench_v1_interface limit_impl = {
	.destroy = control_handle_destroy,
	.subscribe = control_handle_subscribe,
	.ack = control_handle_ack,
};

static void limit_handle_commit(struct wl_listener *listener, void *data) {
	struct limit *limit = wl_container_of(listener, limit, commit);
	const struct wlr_output_event_commit *event = data;
	control_send_ticks(&limit->control, &event->when);
}

static void limit_init(struct limit *limit, struct server *server) {
	check(control_init(&limit->control, server->display, &limit_impl, control_unsubscribe));
	limit->commit.notify = limit_handle_commit;
	wl_signal_add(&server->output->wlr_output->events.commit, &limit->commit);
}

static uint64_t n_ticks;

static void bench_handle_tick(void *data, struct vitrine_bench_v1 *bench, uint32_t seq,
		uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec) {
	n_ticks++;
	vitrine_bench_v1_ack(bench, seq);
}

static const struct vitrine_bench_v1_listener bench_listener = {.tick = bench_handle_tick};

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	if (strcmp(interface, vitrine_bench_v1_interface.name) == 0) {
		struct vitrine_bench_v1 *bench =
			wl_registry_bind(registry, name, &vitrine_bench_v1_interface, 1);
		vitrine_bench_v1_add_listener(bench, &bench_listener, NULL);
		vitrine_bench_v1_subscribe(bench);
	}
}

IGNORE_EVENT(registry_handle_global_remove, struct wl_registry *registry, uint32_t name)

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

static void limit_start(struct client *client) {
	struct wl_registry *registry = wl_display_get_registry(client->display);
	wl_registry_add_listener(registry, &registry_listener, NULL);
	client_roundtrip(client);
	client_roundtrip(client);
}

/* What is delivered */

/** Returns false if there is no such path. */
static bool path_start(const char *path, struct client *client, uint32_t index) {
	if (strcmp(path, "control") == 0) {
		limit_start(client);
	} else if (strcmp(path, "sealed") == 0) {
		test_session_start_reader(client, VITRINE_GUARANTEE_SEALED);
	} else if (strcmp(path, "implicit") == 0) {
		test_session_create_with(client, &(struct test_setup){
			.acceptable = VITRINE_GUARANTEE_SEALED, .implicit_release = true });
	} else if (strcmp(path, "sealed-beside-slow") == 0) {
		// The first one never releases anything
		test_session_start(client, VITRINE_GUARANTEE_SEALED)->auto_release = index > 0;
	} else if (strcmp(path, "snapshot") == 0) {
		test_session_start_reader(client, VITRINE_GUARANTEE_SNAPSHOT);
	} else {
		return false;
	}
	return true;
}

static void run(struct server *server, uint32_t frames) {
	static uint32_t color;
	for (uint32_t i = 0; i < frames; i++) {
		const struct rect rect = {8, 8, 16, 16};
		check(output_paint(server->output, ++color, &rect));
		pump_wait(server); // the events go out
		pump_wait(server); // the requests come in
	}
}

int main(int argc, char *argv[]) {
	if (argc != 4) {
		fprintf(stderr, "usage: instructions PATH CLIENTS FRAMES\n");
		return EXIT_FAILURE;
	}
	const char *path = argv[1];
	uint32_t clients = (uint32_t)atoi(argv[2]), frames = (uint32_t)atoi(argv[3]);

	struct server server;
	struct limit limit;
	server_init(&server, NULL);
	limit_init(&limit, &server);
	fixture_enter_server = handle_enter_server;
	for (uint32_t i = 0; i < clients; i++) {
		check(path_start(path, client_create(&server), i));
	}
	run(&server, WARM_FRAMES);
	counting = true;
	run(&server, frames);
	counting = false;
	check(n_ticks == 0 || n_ticks == (uint64_t)clients * (WARM_FRAMES + frames));
	_exit(EXIT_SUCCESS); // nothing here is about ending well
}
