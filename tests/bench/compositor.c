/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <vitrine/export_dmabuf_v1.h>
#include <vitrine/view_v1.h>
#include <wlr/backend.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/util/log.h>

#include "busy.h"
#include "control.h"
#include "server.h"
#include "vitrine-bench-v1-protocol.h"

/**
 * vitrine-compositor with a scene that changes by itself, so that no application
 * gets in between, and with a clock that tells late frames: the headless output's
 * own starts anew with each commit, however late that is. A paced compositor has a
 * screen that refreshes with that clock, so that who asks for a frame gets the next
 * change, as on a real one, and not one more of what is there.
 */

/** Far above what is asked for: our clock is the one that counts. */
#define OUTPUT_REFRESH 1000000 // mHz
/** So slow that it never comes. */
#define PACED_OUTPUT_REFRESH 100 // mHz
/**
 * Of a paced screen while nothing runs. Where system calls are slow, clients need time to
 * answer in between, or those that are behind would never catch up.
 */
#define REST_INTERVAL_US 1000
#define SLOW_REST_INTERVAL_US 20000
#define SMALL_DAMAGE_SIZE 64
/** How much longer clients may take where system calls are slow. */
#define SLOW_FACTOR 10

/** Frames of a run whose cost is kept. */
#define COSTS_CAP 1024

/** A session of the view manager, for its figures. */
struct bench_session {
	struct wl_list link; // bench.sessions
	struct vitrine_view_session_v1 *session;
};

struct bench {
	struct server server;
	struct control control;
	struct wl_list sessions; // bench_session.link

	struct wlr_output *output; // the only one, NULL before it is there
	struct wlr_scene_rect *small, *full;
	int timer_fd;
	bool paced;
	bool uses_busy; // instead of the kernel's account of CPU time

	struct {
		struct wl_resource *resource; // who asked for it, NULL if there is no run
		uint32_t frames_left;
		uint64_t end_ns;
		enum vitrine_bench_v1_damage damage;
	} run;

	uint32_t number, shown_number; // of changes of the scene
	uint32_t ticks, frames, extra;
	uint64_t redraw_ns, redraw_start_ns;

	/** Of each frame of the run, in ns, where the host can take the processor away. */
	struct {
		uint32_t overhead[COSTS_CAP], redraw[COSTS_CAP];
		uint32_t len;
		uint64_t last_cpu_ns, last_redraw_ns; // as they were at the last frame, or 0
	} costs;

	struct wl_listener new_output;
	struct wl_listener output_frame;
	struct wl_listener output_precommit;
	struct wl_listener output_commit;
	struct wl_listener session_start;
	struct wl_listener session_stop;
};

static uint64_t bench_get_cpu_ns(const struct bench *bench) {
	return bench->uses_busy ? busy_get_ns() : get_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The scene */

/** Drawn as 0xBBGGRR: so that who reads the pixel knows which frame it is. */
static void bench_color_rect(struct bench *bench, struct wlr_scene_rect *rect) {
	const float color[4] = {
		(float)(bench->number & 0xff) / 255,
		(float)(bench->number >> 8 & 0xff) / 255,
		(float)(bench->number >> 16 & 0xff) / 255,
		1,
	};
	wlr_scene_rect_set_color(rect, color);
}

static void bench_change_scene(struct bench *bench) {
	bench->number++;
	bench_color_rect(bench, bench->run.damage == VITRINE_BENCH_V1_DAMAGE_FULL ?
		bench->full : bench->small);
}

static void bench_set_clock(struct bench *bench, uint32_t interval_us, bool once) {
	const struct timespec interval = {
		.tv_sec = interval_us / 1000000,
		.tv_nsec = interval_us % 1000000 * 1000,
	};
	struct itimerspec spec = {.it_value = interval};
	if (!once) {
		spec.it_interval = interval;
	}
	timerfd_settime(bench->timer_fd, 0, &spec, NULL);
}

/** Nothing changes by itself, and who asks for a frame gets it soon. */
static void bench_rest(struct bench *bench) {
	uint32_t interval_us = bench->uses_busy ? SLOW_REST_INTERVAL_US : REST_INTERVAL_US;
	bench_set_clock(bench, bench->paced ? interval_us : 0, true);
}

static int bench_handle_timer(int fd, uint32_t mask, void *data) {
	struct bench *bench = data;
	uint64_t expirations;
	if (read(fd, &expirations, sizeof(expirations)) != sizeof(expirations)) {
		return 0;
	}
	if (bench->run.resource != NULL) {
		bench->ticks += (uint32_t)expirations;
		bench_change_scene(bench);
	}
	if (bench->paced && bench->output != NULL) {
		wlr_output_send_frame(bench->output);
	}
	return 0;
}

static void bench_end_run(struct bench *bench) {
	bench_rest(bench);
	vitrine_bench_v1_send_finished(bench->run.resource);
	bench->run.resource = NULL;
}

/** Before all that draws. */
static void bench_handle_output_frame(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, output_frame);
	bench->redraw_start_ns = bench_get_cpu_ns(bench);
}

/** Drawn, and nobody has been told. */
static void bench_handle_output_precommit(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, output_precommit);
	bench->redraw_ns += bench_get_cpu_ns(bench) - bench->redraw_start_ns;
}

/** What has been done since the last frame, for it and for this one. */
static void bench_add_cost(struct bench *bench) {
	uint64_t cpu_ns = bench_get_cpu_ns(bench);
	uint32_t i = bench->costs.len;
	if (bench->costs.last_cpu_ns > 0 && i < COSTS_CAP) {
		uint64_t redraw_ns = bench->redraw_ns - bench->costs.last_redraw_ns;
		bench->costs.redraw[i] = clamp_ns(redraw_ns);
		bench->costs.overhead[i] = clamp_ns(cpu_ns - bench->costs.last_cpu_ns - redraw_ns);
		bench->costs.len++;
	}
	bench->costs.last_cpu_ns = cpu_ns;
	bench->costs.last_redraw_ns = bench->redraw_ns;
}

static void bench_handle_output_commit(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, output_commit);
	const struct wlr_output_event_commit *event = data;
	if (!(event->state->committed & WLR_OUTPUT_STATE_BUFFER)) {
		return;
	}
	control_send_ticks(&bench->control, &event->when);
	if (bench->paced && bench->run.resource == NULL) {
		bench_rest(bench);
	}
	if (bench->shown_number == bench->number) {
		bench->extra++;
		return;
	}
	bench->shown_number = bench->number;
	bench->frames++;
	if (bench->run.resource != NULL) {
		if (bench->uses_busy) {
			bench_add_cost(bench);
		}
		bench->run.frames_left--;
		if (bench->run.frames_left == 0 || get_clock_ns(CLOCK_MONOTONIC) >= bench->run.end_ns) {
			bench_end_run(bench);
		}
	}
}

static void bench_handle_new_output(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, new_output);
	struct wlr_output *output = data;
	if (bench->output != NULL) {
		return;
	}
	bench->output = output;
	// The server is listening already: to come before it takes the list's head
	bench->output_frame.notify = bench_handle_output_frame;
	wl_list_insert(&output->events.frame.listener_list, &bench->output_frame.link);
	bench->output_precommit.notify = bench_handle_output_precommit;
	wl_signal_add(&output->events.precommit, &bench->output_precommit);
	bench->output_commit.notify = bench_handle_output_commit;
	wl_signal_add(&output->events.commit, &bench->output_commit);
}

/* What is copied */

static void bench_handle_session_start(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, session_start);
	struct bench_session *session = calloc(1, sizeof(*session));
	if (session != NULL) {
		session->session = data;
		wl_list_insert(&bench->sessions, &session->link);
	}
}

static void bench_handle_session_stop(struct wl_listener *listener, void *data) {
	struct bench *bench = wl_container_of(listener, bench, session_stop);
	struct bench_session *session, *tmp;
	wl_list_for_each_safe(session, tmp, &bench->sessions, link) {
		if (session->session == data) {
			wl_list_remove(&session->link);
			free(session);
		}
	}
}

/** A copy is shared by all sessions, each of which counts it. */
static uint64_t bench_get_bytes_copied(const struct bench *bench) {
	uint64_t most = 0;
	const struct bench_session *session;
	wl_list_for_each(session, &bench->sessions, link) {
		struct vitrine_view_session_stats stats;
		vitrine_view_session_v1_get_stats(session->session, &stats);
		most = stats.bytes_copied > most ? stats.bytes_copied : most;
	}
	return most;
}

/* The global */

static struct bench *bench_from_resource(struct wl_resource *resource) {
	struct control *control = wl_resource_get_user_data(resource);
	struct bench *bench = wl_container_of(control, bench, control);
	return bench;
}

static void bench_handle_run(struct wl_client *client, struct wl_resource *resource,
		uint32_t frames, uint32_t interval_us, uint32_t limit_ms, uint32_t damage) {
	struct bench *bench = bench_from_resource(resource);
	bool full = damage == VITRINE_BENCH_V1_DAMAGE_FULL;
	// The one that was hidden has an old number
	bench_color_rect(bench, bench->small);
	bench_color_rect(bench, bench->full);
	wlr_scene_rect_set_size(bench->full, bench->output->width, bench->output->height);
	wlr_scene_node_set_enabled(&bench->full->node, full);
	wlr_scene_node_set_enabled(&bench->small->node, !full);

	bench->costs.len = 0;
	bench->costs.last_cpu_ns = 0;
	bench->run.resource = resource;
	bench->run.frames_left = frames > 0 ? frames : 1;
	bench->run.end_ns = get_clock_ns(CLOCK_MONOTONIC) + (uint64_t)limit_ms * 1000000;
	bench->run.damage = damage;
	bench_set_clock(bench, interval_us > 0 ? interval_us : 1, false);
}

static void bench_handle_get_stats(struct wl_client *client, struct wl_resource *resource) {
	struct bench *bench = bench_from_resource(resource);
	struct rusage rusage;
	getrusage(RUSAGE_SELF, &rusage);
	int64_t rusage_us = (int64_t)(rusage.ru_utime.tv_sec + rusage.ru_stime.tv_sec) * 1000000 +
		rusage.ru_utime.tv_usec + rusage.ru_stime.tv_usec;
	uint64_t copied = bench_get_bytes_copied(bench);
	uint32_t missed = bench->ticks - bench->frames;
	vitrine_bench_v1_send_stats(resource, bench->number, bench->frames, missed, bench->extra,
		(uint32_t)(bench->redraw_ns / 1000), (uint32_t)rusage_us, (uint32_t)(copied >> 32),
		(uint32_t)(copied & UINT32_MAX), bench->uses_busy,
		get_quantile(bench->costs.overhead, bench->costs.len, 0.5),
		get_quantile(bench->costs.redraw, bench->costs.len, 0.5));
}

static const struct vitrine_bench_v1_interface bench_impl = {
	.destroy = control_handle_destroy,
	.subscribe = control_handle_subscribe,
	.ack = control_handle_ack,
	.run = bench_handle_run,
	.get_stats = bench_handle_get_stats,
};

static void bench_handle_resource_destroy(struct wl_resource *resource) {
	struct bench *bench = bench_from_resource(resource);
	control_unsubscribe(resource);
	if (bench->run.resource == resource) {
		bench->run.resource = NULL;
		bench_rest(bench);
	}
}

/* Lifetime */

/** One process is 256 clients here, and what is measured is no refusal. */
static void raise_limits(struct vitrine_view_limits *limits) {
	static const struct vitrine_view_limit none = { UINT32_MAX, UINT32_MAX, UINT32_MAX };
	limits->starts_per_group.burst = UINT32_MAX;
	limits->starts_per_holder.burst = UINT32_MAX;
	limits->objects = none;
	limits->fds = none;
	limits->shared_pieces = none;
	limits->shared_bytes = (struct vitrine_view_limit){ UINT64_MAX, UINT64_MAX, UINT64_MAX };
}

static bool bench_init(struct bench *bench, const struct server_options *options) {
	static const float black[4] = {0, 0, 0, 1};
	struct server *server = &bench->server;
	bench->uses_busy = busy_is_needed();
	if (bench->uses_busy && !busy_share()) {
		return false;
	}
	wl_list_init(&bench->sessions);
	if (!server_init(server, options)) {
		return false;
	}
	raise_limits(&server->view_manager->limits);
	if (bench->uses_busy) {
		// Or opening 64 connections is enough for the first to be taken for idle
		server->view_manager->limits.frame_deadline_ms *= SLOW_FACTOR;
		server->view_manager->limits.contended_frame_deadline_ms *= SLOW_FACTOR;
	}
	bench->small = wlr_scene_rect_create(server->toplevel_tree, SMALL_DAMAGE_SIZE,
		SMALL_DAMAGE_SIZE, black);
	bench->full = wlr_scene_rect_create(server->toplevel_tree, 0, 0, black);
	bench->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (bench->small == NULL || bench->full == NULL || bench->timer_fd < 0 ||
			wl_event_loop_add_fd(wl_display_get_event_loop(server->display), bench->timer_fd,
				WL_EVENT_READABLE, bench_handle_timer, bench) == NULL ||
			!control_init(&bench->control, server->display, &bench_impl,
				bench_handle_resource_destroy)) {
		return false;
	}
	bench->new_output.notify = bench_handle_new_output;
	wl_signal_add(&server->backend->events.new_output, &bench->new_output);
	bench->session_start.notify = bench_handle_session_start;
	wl_signal_add(&server->view_manager->events.session_start, &bench->session_start);
	bench->session_stop.notify = bench_handle_session_stop;
	wl_signal_add(&server->view_manager->events.session_stop, &bench->session_stop);
	return true;
}

int main(int argc, char *argv[]) {
	static struct bench bench;
	struct output_mode mode = {0};
	int i = 2;
	bench.paced = i < argc && strcmp(argv[i], "paced") == 0;
	i += bench.paced;
	// Two globals of one interface: a compositor offers the one or the other
	bool hardened = i < argc && strcmp(argv[i], "hardened") == 0;
	i += hardened;
	if (argc < 2 || i != argc || sscanf(argv[1], "%5dx%5d", &mode.width, &mode.height) != 2) {
		fprintf(stderr, "usage: bench-compositor WIDTHxHEIGHT [paced] [hardened]\n");
		return EXIT_FAILURE;
	}
	mode.refresh = bench.paced ? PACED_OUTPUT_REFRESH : OUTPUT_REFRESH;
	const struct server_options options = {
		.print_socket = true,
		.ready_fd = -1,
		.backends = "headless",
		.stock_capture = !hardened,
		.guarantees = VITRINE_GUARANTEE_ALL,
		.background = {0.2f, 0.2f, 0.2f, 1},
		.outputs = &mode,
		.outputs_len = 1,
	};
	wlr_log_init(WLR_ERROR, NULL);
	if (!bench_init(&bench, &options) || (hardened &&
			vitrine_export_dmabuf_manager_v1_create(bench.server.view_manager) == NULL)) {
		return EXIT_FAILURE;
	}
	// What is open is closed by the kernel: nothing here is about ending well
	_exit(server_run(&bench.server));
}
