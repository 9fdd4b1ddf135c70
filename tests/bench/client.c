/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <gbm.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wayland-client-protocol.h>

#include "busy.h"
#include "client.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "ext-image-copy-capture-v1-client-protocol.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "vitrine-bench-v1-client-protocol.h"
#include "wlr-export-dmabuf-unstable-v1-client-protocol.h"
#include "wlr-screencopy-unstable-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

/*
 * Measures one path in a running bench-compositor: connects the clients, all from
 * this process so that they do not compete for the CPU, lets the scene change for
 * a while to warm up, and for another while between two looks at the counters.
 * Prints the differences as a line of JSON.
 */

#define CLIENTS_CAP 1024

#define WARM_LIMIT_MS 1000
/** Nothing has come for so long: everything has come, even with another frame. */
#define QUIET_MS 5
#define SLOW_QUIET_MS 25
/** The compositor can be busy for seconds, with 64 copies of 8K each. */
#define ANSWER_MS 60000
/** More than that, and buffers are shared by clients. */
#define TARGETS_SIZE_CAP ((size_t)2400 << 20)

struct stats {
	uint32_t number, frames, missed, extra, redraw_us, rusage_us;
	uint64_t copied;
	uint32_t busy; // not 0 if the kernel's account is of no use
	uint32_t overhead_ns, redraw_ns; // then: medians of the last run's frames
};

/** All that is counted, at some moment, of clients that are awake. */
struct counters {
	struct stats stats;
	uint64_t compositor_ns, wakeups; // of all threads
	uint64_t main_thread_ns;
	uint64_t client_ns;
	struct wire wire;
	uint64_t frames, bytes_copied, skipped, revoked;
};

struct options {
	const struct path *path;
	uint32_t clients, frames, warm_frames, warm_interval_us, interval_us, limit_ms, idle_ms;
	uint32_t roundtrips, sessions, between_frames, asleep, leaving, leave_after;
	enum vitrine_bench_v1_damage damage;
	bool keep_session;
};

static struct {
	struct connection *connections; // those that are asleep or leave come after the others
	uint32_t connections_len, asleep_len, leaving_len;
	uint64_t leave_after; // frames of the first connection; 0 if they have left
	int epoll_fd;

	struct wl_display *controller;
	struct vitrine_bench_v1 *bench;
	pid_t compositor;
	bool running, finished, has_stats, synced;
	struct stats stats;

	uint32_t *latencies; // in ns, of the window
	size_t latencies_len, latencies_cap;
	bool measuring;
} state;

/* Frames */

bool bench_is_running(void) {
	return state.running;
}

void connection_set_time(struct connection *connection, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
		uint32_t tv_nsec) {
	uint64_t tv_sec = (uint64_t)tv_sec_hi << 32 | tv_sec_lo;
	connection->commit_ns = tv_sec * 1000000000 + tv_nsec;
}

static void add_latency(uint64_t then_ns) {
	uint32_t latency = clamp_ns(get_clock_ns(CLOCK_MONOTONIC) - then_ns);
	if (state.latencies_len == state.latencies_cap) {
		state.latencies_cap = state.latencies_cap > 0 ? 2 * state.latencies_cap : 65536;
		state.latencies =
			realloc(state.latencies, state.latencies_cap * sizeof(state.latencies[0]));
		if (state.latencies == NULL) {
			die("out of memory");
		}
	}
	state.latencies[state.latencies_len++] = latency;
}

static void see_pixel(struct connection *connection, uint32_t pixel) {
	// As the scene is drawn: red has the low byte
	uint32_t number = (pixel >> 16 & 0xff) | (pixel & 0xff00) | (pixel & 0xff) << 16;
	if (connection->format == WL_SHM_FORMAT_XBGR8888 ||
			connection->format == WL_SHM_FORMAT_ABGR8888) {
		number = pixel & 0xffffff; // some GPUs prefer to read back like this
	}
	connection->went_back |= number < connection->number;
	connection->number = number;
}

void connection_frame(struct connection *connection, const uint32_t *pixels) {
	connection->frames++;
	if (state.measuring) {
		add_latency(connection->commit_ns);
	}
	if (pixels != NULL) {
		see_pixel(connection, *pixels);
	}
}

struct memory connection_get_target(struct connection *connection, size_t size, int *fd) {
	static struct {
		int fd;
		struct memory memory;
	} targets[CLIENTS_CAP];
	static size_t count;
	if (count == 0) {
		// Of their own, unless there is no room
		size_t cap = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 3;
		count = (cap < TARGETS_SIZE_CAP ? cap : TARGETS_SIZE_CAP) / size;
		count = count < 1 ? 1 : count > CLIENTS_CAP ? CLIENTS_CAP : count;
	}
	size_t i = connection->index % count;
	if (targets[i].memory.pixels == NULL) {
		int memfd = memfd_create("vitrine-bench", MFD_CLOEXEC);
		void *data = MAP_FAILED;
		if (memfd >= 0 && ftruncate(memfd, (off_t)size) == 0) {
			data = mmap(NULL, size, PROT_READ, MAP_SHARED, memfd, 0);
		}
		if (data == MAP_FAILED) {
			die("cannot allocate %zu bytes: %s", size, strerror(errno));
		}
		targets[i].fd = memfd;
		targets[i].memory = (struct memory){.pixels = data, .size = size};
	}
	*fd = targets[i].fd;
	return targets[i].memory;
}

/* Connections */

static bool path_needs(const struct path *path, const struct wl_interface *interface) {
	const struct wl_interface *const *needed = path->needs;
	while (*needed != NULL && *needed != interface) {
		needed++;
	}
	return *needed != NULL;
}

/** Binds what its path needs. */
static void connection_bind(struct connection *connection) {
	const struct wayland_global all[] = {
		{&wl_output_interface, 1, &connection->output},
		{&wl_shm_interface, 1, &connection->shm},
		{&vitrine_bench_v1_interface, 1, &connection->bench},
		{&zwlr_screencopy_manager_v1_interface, 3, &connection->screencopy},
		{&zwlr_export_dmabuf_manager_v1_interface, 1, &connection->export_dmabuf},
		{&ext_output_image_capture_source_manager_v1_interface, 1, &connection->sources},
		{&ext_image_copy_capture_manager_v1_interface, 1, &connection->copy_capture},
		{&xx_dmabuf_view_manager_v1_interface, 1, &connection->views},
		{&zwp_linux_dmabuf_v1_interface, 4, &connection->linux_dmabuf},
	};
	struct wayland_global needed[sizeof(all) / sizeof(all[0]) + 1] = {0};
	size_t needed_len = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (path_needs(connection->path, all[i].interface)) {
			needed[needed_len++] = all[i];
		}
	}
	wayland_bind(connection->display, STATUS_UNAVAILABLE, needed);
}

static void watch(struct wl_display *display, struct connection *connection) {
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
	if (epoll_ctl(state.epoll_fd, EPOLL_CTL_ADD, wl_display_get_fd(display), &event) != 0) {
		die("epoll: %s", strerror(errno));
	}
}

static void unwatch(struct wl_display *display) {
	epoll_ctl(state.epoll_fd, EPOLL_CTL_DEL, wl_display_get_fd(display), NULL);
}

static void connection_init(struct connection *connection, const struct path *path,
		uint32_t index) {
	connection->path = path;
	connection->index = index;
	connection->display = wayland_connect();
	connection_bind(connection);
	path->start(connection);
	wl_display_flush(connection->display);
	watch(connection->display, connection);
}

static void connection_finish(struct connection *connection) {
	unwatch(connection->display);
	for (size_t i = 0; i < VIEWS_CAP; i++) {
		if (connection->memories[i].pixels != NULL) {
			munmap((void *)connection->memories[i].pixels, connection->memories[i].size);
		}
	}
	if (connection->bo != NULL) {
		gbm_bo_destroy(connection->bo);
	}
	wl_display_disconnect(connection->display); // frees its objects as well
	*connection = (struct connection){0};
}

/* Events */

static void dispatch(struct wl_display *display) {
	while (wl_display_prepare_read(display) != 0) {
		wl_display_dispatch_pending(display);
	}
	if (wl_display_read_events(display) < 0 || wl_display_dispatch_pending(display) < 0) {
		const struct wl_interface *interface = NULL;
		uint32_t id;
		uint32_t code = wl_display_get_protocol_error(display, &interface, &id);
		die("lost the connection: %s, error %u of %s", strerror(wl_display_get_error(display)),
			code, interface != NULL ? interface->name : "nothing");
	}
}

static struct wl_display *get_display(const struct epoll_event *event) {
	const struct connection *connection = event->data.ptr;
	return connection != NULL ? connection->display : state.controller;
}

/**
 * Returns false if nothing came. All answers are sent together: how often the
 * compositor wakes up for them would depend on the scheduler, and on chance.
 */
static bool pump(int timeout_ms) {
	struct epoll_event events[128];
	int len = epoll_wait(state.epoll_fd, events, 128, timeout_ms);
	for (int i = 0; i < len; i++) {
		dispatch(get_display(&events[i]));
	}
	for (int i = 0; i < len; i++) {
		wl_display_flush(get_display(&events[i]));
	}
	return len > 0;
}

/** They leave together, as those that are asleep are stopped together. */
static void leave_if_due(void) {
	if (state.leave_after == 0 || state.connections[0].frames < state.leave_after) {
		return;
	}
	for (uint32_t i = 0; i < state.leaving_len; i++) {
		connection_finish(&state.connections[state.connections_len + i]);
	}
	state.leave_after = 0;
}

static void pump_until(const bool *condition) {
	while (!*condition) {
		leave_if_due();
		if (!pump(ANSWER_MS)) {
			die("the compositor does not answer");
		}
	}
}

/* The controller */

// Not subscribed
IGNORE_EVENT(handle_tick, struct vitrine_bench_v1 *bench, uint32_t seq, uint32_t tv_sec_hi,
	uint32_t tv_sec_lo, uint32_t tv_nsec)

static void handle_finished(void *data, struct vitrine_bench_v1 *bench) {
	state.finished = true;
}

static void handle_stats(void *data, struct vitrine_bench_v1 *bench, uint32_t number,
		uint32_t frames, uint32_t missed, uint32_t extra, uint32_t redraw_us, uint32_t rusage_us,
		uint32_t copied_hi, uint32_t copied_lo, uint32_t busy, uint32_t overhead_ns,
		uint32_t redraw_ns) {
	state.stats = (struct stats){
		.number = number,
		.frames = frames,
		.missed = missed,
		.extra = extra,
		.redraw_us = redraw_us,
		.rusage_us = rusage_us,
		.copied = (uint64_t)copied_hi << 32 | copied_lo,
		.busy = busy,
		.overhead_ns = overhead_ns,
		.redraw_ns = redraw_ns,
	};
	state.has_stats = true;
}

static const struct vitrine_bench_v1_listener bench_listener = {
	.tick = handle_tick,
	.finished = handle_finished,
	.stats = handle_stats,
};

static void connect_controller(void) {
	state.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (state.epoll_fd < 0) {
		die("epoll: %s", strerror(errno));
	}
	state.controller = wayland_connect();
	wire_ignored_fd = wl_display_get_fd(state.controller);
	struct ucred ucred;
	socklen_t len = sizeof(ucred);
	if (getsockopt(wire_ignored_fd, SOL_SOCKET, SO_PEERCRED, &ucred, &len) != 0) {
		die("SO_PEERCRED: %s", strerror(errno));
	}
	state.compositor = ucred.pid;
	busy_leave_out_shared();
	wayland_bind(state.controller, EXIT_FAILURE, (struct wayland_global[]){
		{&vitrine_bench_v1_interface, 1, &state.bench}, {0}});
	vitrine_bench_v1_add_listener(state.bench, &bench_listener, NULL);
	watch(state.controller, NULL);
}

static void handle_synced(void *data, struct wl_callback *callback, uint32_t serial) {
	state.synced = true;
	wl_callback_destroy(callback);
}

static const struct wl_callback_listener sync_listener = {.done = handle_synced};

/** Waits until everything that was under way has been handled by both sides. */
static void settle(void) {
	int quiet_ms = busy_is_needed() ? SLOW_QUIET_MS : QUIET_MS;
	for (int i = 0; i < 2; i++) {
		while (pump(quiet_ms)) {
		}
		state.synced = false;
		wl_callback_add_listener(wl_display_sync(state.controller), &sync_listener, NULL);
		wl_display_flush(state.controller);
		pump_until(&state.synced);
	}
	while (pump(quiet_ms)) {
	}
}

/** Returns whether any of them asked for a frame. */
static bool resume_connections(void) {
	bool resumed = false;
	for (uint32_t i = 0; i < state.connections_len; i++) {
		struct connection *connection = &state.connections[i];
		if (connection->held_back) {
			connection->held_back = false;
			connection->path->resume(connection);
			wl_display_flush(connection->display);
			resumed = true;
		}
	}
	return resumed;
}

static void run_scene(const struct options *options, uint32_t frames, uint32_t interval_us,
		uint32_t limit_ms) {
	state.finished = false;
	state.running = true;
	resume_connections();
	vitrine_bench_v1_run(state.bench, frames, interval_us, limit_ms, options->damage);
	wl_display_flush(state.controller);
	pump_until(&state.finished);
	state.running = false;
	settle();
	if (resume_connections()) { // the last change may have come while they did not ask
		settle();
	}
}

/* Counters */

/** The number in the first line of a thread's file that has this format; 0 if there is none. */
static uint64_t read_thread(const char *tid, const char *name, const char *format) {
	char path[320], line[128];
	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)state.compositor, tid, name);
	uint64_t number = 0;
	FILE *file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL &&
			sscanf(line, format, &number) != 1) {
	}
	if (file != NULL) {
		fclose(file);
	}
	return number;
}

static void read_compositor(struct counters *counters) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", (int)state.compositor);
	DIR *dir = opendir(path);
	if (dir == NULL) {
		die("cannot read %s: %s", path, strerror(errno));
	}
	const struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.') {
			// In ns: see Documentation/scheduler/sched-stats.rst
			uint64_t ns = read_thread(entry->d_name, "schedstat", "%" SCNu64);
			counters->compositor_ns += ns;
			if (atoi(entry->d_name) == (int)state.compositor) {
				counters->main_thread_ns = ns;
			}
			// How often it went to sleep
			counters->wakeups +=
				read_thread(entry->d_name, "status", "voluntary_ctxt_switches: %" SCNu64);
		}
	}
	closedir(dir);
	if (counters->compositor_ns == 0) {
		// No CONFIG_SCHED_INFO, or a kernel that says 0: the clock has the same sum
		clockid_t clock;
		if (clock_getcpuclockid(state.compositor, &clock) == 0) {
			counters->compositor_ns = get_clock_ns(clock);
		}
		counters->main_thread_ns = counters->compositor_ns;
	}
}

static struct counters read_counters(void) {
	struct counters counters = {0};
	state.has_stats = false;
	vitrine_bench_v1_get_stats(state.bench);
	wl_display_flush(state.controller);
	pump_until(&state.has_stats);
	busy_sleep_us(2000); // asleep, so that the kernel has accounted for everything
	counters.stats = state.stats;
	read_compositor(&counters);
	counters.client_ns = state.stats.busy ?
		busy_get_ns() : get_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	counters.wire = wire;
	for (uint32_t i = 0; i < state.connections_len; i++) {
		const struct connection *connection = &state.connections[i];
		counters.frames += connection->frames;
		counters.bytes_copied += connection->bytes_copied;
		counters.skipped += connection->skipped;
		counters.revoked += connection->revoked;
	}
	return counters;
}

/* What is measured */

static double get_latency_us(double quantile) {
	return (double)get_quantile(state.latencies, state.latencies_len, quantile) / 1000;
}

/** Each client has the scene's last change in its pixels. */
static void check_content(const struct stats *stats) {
	for (uint32_t i = 0; i < state.connections_len; i++) {
		struct connection *connection = &state.connections[i];
		if (connection->path->read_pixel != NULL) {
			see_pixel(connection, connection->path->read_pixel(connection));
		}
		// What was taken back may have been of a later frame by the time it was read, and so
		// may be what comes without being held
		if (connection->went_back && connection->revoked == 0 &&
				!connection->path->implicit_release) {
			die("%s: client %u saw an older frame after a newer one", connection->path->name, i);
		}
		bool is_read = connection->number != 0 || connection->path->read_pixel != NULL;
		if (is_read && connection->number != (stats->number & 0xffffff)) {
			die("%s: client %u sees frame %u instead of %u", connection->path->name, i,
				connection->number, stats->number);
		}
	}
}

/** Until no new buffer comes: the first frame in each has to get its memory. */
static void warm_up(const struct options *options) {
	uint64_t fds;
	// Of exported frames, each has one
	int tries = options->path->resume != NULL ? 1 : 3;
	do {
		fds = wire.fds;
		run_scene(options, options->warm_frames, options->warm_interval_us, WARM_LIMIT_MS);
	} while (wire.fds != fds && --tries > 0);
}

/**
 * What an ended session leaves to threads, such as memory to make or to free, is not
 * part of what comes next.
 */
static void wait_for_threads(void) {
	uint64_t before = 0, now = 1;
	for (int tries = 0; tries < 100 && now != before && !state.stats.busy; tries++) {
		before = now;
		usleep(20000);
		struct counters counters = {0};
		read_compositor(&counters);
		now = counters.compositor_ns - counters.main_thread_ns;
	}
}

/**
 * The host can take the processor away for far longer than a frame takes: it is in the
 * sum, but not in the median of the frames.
 */
static void estimate_cpu_time(const struct counters *before, struct counters *after) {
	uint64_t frames = after->stats.frames - before->stats.frames;
	uint64_t redraw_ns = frames * after->stats.redraw_ns;
	after->compositor_ns = before->compositor_ns + redraw_ns + frames * after->stats.overhead_ns;
	after->stats.redraw_us = before->stats.redraw_us + (uint32_t)(redraw_ns / 1000);
}

static void fall_asleep(struct connection *connection) {
	connection->asleep = true;
	unwatch(connection->display);
}

/** Wakes up those that were asleep. Returns how many sessions had been stopped by then. */
static uint32_t count_stopped(void) {
	uint32_t stopped = 0;
	for (uint32_t i = 0; i < state.asleep_len; i++) {
		struct connection *connection = &state.connections[state.connections_len + i];
		if (wl_display_roundtrip(connection->display) < 0) {
			die("client %u was disconnected while it slept", connection->index);
		}
		stopped += connection->stopped;
	}
	return stopped;
}

static void measure_frames(const struct options *options) {
	warm_up(options);
	wait_for_threads();
	struct counters before = read_counters();
	state.measuring = true;
	run_scene(options, options->frames, options->interval_us, options->limit_ms);
	state.measuring = false;
	struct counters after = read_counters();
	check_content(&after.stats);

	if (after.stats.busy) {
		estimate_cpu_time(&before, &after);
	}

	uint64_t frames = after.frames - before.frames;
	if (frames == 0 && options->path != &paths[0]) {
		die("%s: no frames", options->path->name);
	}
	uint64_t copied = after.bytes_copied - before.bytes_copied;
	printf("{\"frames\": %" PRIu64 ", \"output_frames\": %u, \"missed\": %u, \"extra\": %u, "
		"\"compositor_ns\": %" PRIu64 ", \"main_thread_ns\": %" PRIu64 ", "
		"\"redraw_us\": %u, \"rusage_us\": %u, "
		"\"client_ns\": %" PRIu64 ", \"wakeups\": %" PRIu64 ", "
		"\"wire_bytes\": %" PRIu64 ", \"fds\": %" PRIu64 ", \"bytes_copied\": %" PRIu64 ", "
		"\"skipped\": %" PRIu64 ", \"revoked\": %" PRIu64 ", \"asleep_stopped\": %u, "
		"\"latency_us_p50\": %.1f, \"latency_us_p99\": %.1f, \"busy\": %s}\n",
		frames, after.stats.frames - before.stats.frames, after.stats.missed - before.stats.missed,
		after.stats.extra - before.stats.extra, after.compositor_ns - before.compositor_ns,
		after.main_thread_ns - before.main_thread_ns,
		after.stats.redraw_us - before.stats.redraw_us,
		after.stats.rusage_us - before.stats.rusage_us, after.client_ns - before.client_ns,
		after.wakeups - before.wakeups, after.wire.bytes - before.wire.bytes,
		after.wire.fds - before.wire.fds,
		copied > 0 ? copied : after.stats.copied - before.stats.copied,
		after.skipped - before.skipped, after.revoked - before.revoked, count_stopped(),
		get_latency_us(0.5), get_latency_us(0.99), after.stats.busy ? "true" : "false");
}

/** Nothing changes: what does the compositor do? */
static void measure_idle(const struct options *options) {
	warm_up(options);
	struct counters before = {0}, after = {0};
	usleep(200000);
	read_compositor(&before);
	usleep(options->idle_ms * 1000);
	read_compositor(&after);
	printf("{\"wakeups\": %" PRIu64 ", \"compositor_ns\": %" PRIu64 ", \"ms\": %u}\n",
		after.wakeups - before.wakeups, after.compositor_ns - before.compositor_ns,
		options->idle_ms);
}

/** A session of one frame, from the connection to the end. */
static void run_session(const struct options *options, bool counts) {
	struct connection *connection = &state.connections[0];
	uint64_t start_ns = get_clock_ns(CLOCK_MONOTONIC);
	connection_init(connection, options->path, 0);
	while (connection->frames == 0) {
		if (!pump(ANSWER_MS)) {
			die("%s: no frame", options->path->name);
		}
	}
	if (counts) {
		add_latency(start_ns);
	}
	connection_finish(connection);
}

/**
 * Sessions of one frame each, by one client after the other; beside another session,
 * if that is to keep the compositor from forgetting everything each time. Between
 * them the scene stands still, or changes for some frames.
 */
static void measure_sessions(const struct options *options) {
	struct counters before = {0}, after;
	state.connections_len = 1;
	if (options->keep_session) {
		static struct connection kept;
		connection_init(&kept, options->path, 0);
		settle();
	}
	for (uint32_t i = 0; i < options->sessions + 2; i++) {
		if (i == 2) { // the first ones are to warm up
			before = read_counters();
		}
		if (options->between_frames > 0) {
			run_scene(options, options->between_frames, options->interval_us, WARM_LIMIT_MS);
		}
		if (options->path != &paths[0]) {
			run_session(options, i >= 2);
		}
		settle();
	}
	state.connections_len = 0; // which are gone
	after = read_counters();
	printf("{\"compositor_ns\": %" PRIu64 ", \"main_thread_ns\": %" PRIu64 ", "
		"\"first_frame_us\": %.1f, \"sessions\": %u}\n",
		after.compositor_ns - before.compositor_ns, after.main_thread_ns - before.main_thread_ns,
		get_latency_us(0.5), options->sessions);
}

static void measure_roundtrips(const struct options *options) {
	struct wl_display *display = wayland_connect();
	for (uint32_t i = 0; i < 100; i++) {
		wl_display_roundtrip(display);
	}
	struct counters before = read_counters();
	for (uint32_t i = 0; i < options->roundtrips; i++) {
		wl_display_roundtrip(display);
	}
	struct counters after = read_counters();
	printf("{\"compositor_ns\": %" PRIu64 ", \"roundtrips\": %u}\n",
		after.compositor_ns - before.compositor_ns, options->roundtrips);
	wl_display_disconnect(display);
}

/* The command line */

static const struct path *find_path(const char *name) {
	for (size_t i = 0; i < paths_len; i++) {
		if (strcmp(paths[i].name, name) == 0) {
			return &paths[i];
		}
	}
	die("unknown path '%s'", name);
}

static uint32_t parse_number(const char *arg) {
	char *end;
	unsigned long number = strtoul(arg, &end, 10);
	if (*arg == '\0' || *end != '\0' || number > 100000000) {
		die("not a number: '%s'", arg);
	}
	return (uint32_t)number;
}

static void parse_options(int argc, char *argv[], struct options *options) {
	static const struct option long_options[] = {
		// As in numbers[]
		{"clients", required_argument, NULL, 'n'},
		{"frames", required_argument, NULL, 'n'},
		{"warm-frames", required_argument, NULL, 'n'},
		{"warm-interval-us", required_argument, NULL, 'n'},
		{"interval-us", required_argument, NULL, 'n'},
		{"limit-ms", required_argument, NULL, 'n'},
		{"idle-ms", required_argument, NULL, 'n'},
		{"sessions", required_argument, NULL, 'n'},
		{"between-frames", required_argument, NULL, 'n'},
		{"roundtrips", required_argument, NULL, 'n'},
		{"asleep", required_argument, NULL, 'n'},
		{"leaving", required_argument, NULL, 'n'},
		{"leave-after", required_argument, NULL, 'n'},
		{"path", required_argument, NULL, 'p'},
		{"full-damage", no_argument, NULL, 'd'},
		{"keep-session", no_argument, NULL, 'k'},
		{0},
	};
	uint32_t *const numbers[] = {
		&options->clients, &options->frames, &options->warm_frames, &options->warm_interval_us,
		&options->interval_us, &options->limit_ms, &options->idle_ms, &options->sessions,
		&options->between_frames, &options->roundtrips, &options->asleep,
		&options->leaving, &options->leave_after,
	};
	int c, index;
	while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		switch (c) {
		case 'n':
			*numbers[index] = parse_number(optarg);
			break;
		case 'p':
			options->path = find_path(optarg);
			break;
		case 'd':
			options->damage = VITRINE_BENCH_V1_DAMAGE_FULL;
			break;
		case 'k':
			options->keep_session = true;
			break;
		default:
			exit(EXIT_FAILURE); // getopt said why
		}
	}
	if (options->clients < 1 || options->clients > CLIENTS_CAP ||
			options->asleep > CLIENTS_CAP - options->clients ||
			options->leaving > CLIENTS_CAP - options->clients) {
		die("between 1 and %d clients", CLIENTS_CAP);
	}
	if (options->asleep > 0 && options->leaving > 0) {
		die("clients are asleep, or leave");
	}
}

int main(int argc, char *argv[]) {
	struct options options = {
		.path = &paths[0],
		.clients = 1,
		.frames = 60,
		.warm_frames = 12,
		// No faster than clients answer, or they would be taken for slow ones
		.warm_interval_us = 5000,
		.interval_us = 16667,
		.limit_ms = 1000,
	};
	parse_options(argc, argv, &options);
	connect_controller();
	uint32_t others = options.asleep + options.leaving;
	state.connections = calloc(options.clients + others, sizeof(state.connections[0]));
	if (state.connections == NULL) {
		die("out of memory");
	}
	if (options.roundtrips > 0) {
		measure_roundtrips(&options);
		return EXIT_SUCCESS;
	}
	if (options.sessions > 0) {
		measure_sessions(&options);
		return EXIT_SUCCESS;
	}
	state.connections_len = options.clients;
	state.asleep_len = options.asleep;
	state.leaving_len = options.leaving;
	state.leave_after = options.leaving > 0 ? options.leave_after : 0;
	for (uint32_t i = 0; i < options.clients; i++) {
		connection_init(&state.connections[i], options.path, i);
	}
	for (uint32_t i = options.clients; i < options.clients + others; i++) {
		connection_init(&state.connections[i], find_path("implicit"), i);
	}
	settle();
	for (uint32_t i = options.clients; i < options.clients + options.asleep; i++) {
		fall_asleep(&state.connections[i]);
	}
	if (options.idle_ms > 0) {
		measure_idle(&options);
	} else {
		measure_frames(&options);
	}
	return EXIT_SUCCESS;
}
