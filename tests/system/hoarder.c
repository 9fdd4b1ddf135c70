/* SPDX-License-Identifier: MIT */
/**
 * Hostile clients, and an honest one to compare with: usage: hoarder [OPTION...] KIND...
 *
 *   --clients N    so many clients, which are of these kinds in turn (default: one of each)
 *   --processes N  in so many processes (default: 1)
 *   --seconds S    for so long (default: until SIGTERM)
 *   --pieces N     until so much memory is kept, or for so long; then they stay as they are
 *   --cost N       one process: what N requests for sessions cost the compositor, in ns of CPU
 *                  for one, before and after it has kept so much memory, or has been refused
 *   --seed N       for what is random (default: 1)
 *
 * The kinds are in `kinds`, below. An honest client prints what it has got so far, four times
 * a second: `TIME FRAMES SKIPPED MISSED`, in seconds of CLOCK_MONOTONIC. MISSED are the
 * refreshes at 60 Hz for which the output had no frame in time. At the end, and when `--pieces`
 * are kept, a line of JSON tells what all have got.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "hoard.h"
#include "wayland.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define SESSIONS_CAP 4
#define CLIENTS_CAP 256
#define REASONS 6
#define REASON_NO_RESOURCES XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_NO_RESOURCES
/** Requests of a client that floods, before it looks whether there is room for more. */
#define FLOOD_LEN 16
/** A client that does not read is here again after this time. */
#define DEAF_MS 2000
/** Frames after which a session is ended that gets no more views. */
#define FRAMES_OF_A_SESSION 8
#define TELL_MS 250
/** Of an output at 60 Hz. What comes half of that late has missed a refresh. */
#define PERIOD_NS 16666667

struct kind {
	const char *name;
	enum hoard_means means;
	uint32_t n_sessions; // at a time
	uint32_t n_views; // after so many it ends a session; 0: it ends none
	bool releases; // frames, tells how many there were, and looks once
	bool is_deaf; // it reads nothing after the first frame
	bool floods; // with sessions that it ends at once, and other requests
	bool passes; // each session has a connection, made by a process that is gone
	bool dies; // by a signal, at any time
};

static const struct kind kinds[] = {
	{ .name = "honest", .n_sessions = 1, .releases = true },
	{ .name = "hold", .means = HOARD_FDS, .n_sessions = SESSIONS_CAP },
	{ .name = "deaf", .means = HOARD_FDS, .n_sessions = 1, .is_deaf = true },
	{ .name = "flood", .n_sessions = 1, .floods = true },
	{ .name = "churn", .n_sessions = 1, .n_views = 1 },
	{ .name = "keep", .means = HOARD_FDS, .n_sessions = 1, .n_views = 3 },
	{ .name = "map", .means = HOARD_MAPS, .n_sessions = 1, .n_views = 3 },
	{ .name = "splice", .means = HOARD_PIPES, .n_sessions = 1, .n_views = 3 },
	{ .name = "send", .means = HOARD_SOCKETS, .n_sessions = 1, .n_views = 3 },
	{ .name = "pass", .means = HOARD_FDS, .n_sessions = 1, .n_views = 3, .passes = true },
	{ .name = "die", .n_sessions = 1, .dies = true },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/** What the clients of a kind have got, shared by the processes. */
struct counters {
	atomic_uint connections, disconnected;
	atomic_ullong sessions, shown, stopped[REASONS];
	atomic_ullong frames, skipped, missed;
};

struct session {
	struct client *client;
	struct xx_dmabuf_view_session_v1 *proxy; // NULL if there is none
	uint32_t serial; // of the last frame, 0 before the first
	int64_t time_ns; // of that frame
	uint32_t n_frames, n_views;
	bool is_over;
};

struct client {
	const struct kind *kind;
	struct counters *counters;
	struct wl_display *display; // NULL: not connected
	struct wl_output *output;
	struct ext_output_image_capture_source_manager_v1 *sources;
	struct xx_dmabuf_view_manager_v1 *views;
	struct ext_image_capture_source_v1 *source;
	struct session sessions[SESSIONS_CAP];
	int64_t deaf_until_ms; // 0 if it reads
	pid_t child; // of one that dies, 0 if there is none
};

static struct {
	struct hoard *hoard;
	struct counters *counters; // by kind
	const struct kind *kinds[CLIENTS_CAP];
	uint32_t n_kinds, n_clients, n_processes, n_pieces, n_cost;
	double seconds; // 0 without a limit
	uint64_t random;
	int64_t told_ms;
} state = { .n_processes = 1, .random = 1 };

static int64_t now_ms(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/** xorshift: the same numbers for the same seed, everywhere. */
static uint32_t get_random(void) {
	state.random ^= state.random << 13;
	state.random ^= state.random >> 7;
	state.random ^= state.random << 17;
	return (uint32_t)(state.random >> 32);
}

/* Sessions */

IGNORE_EVENT(handle_depth, struct xx_dmabuf_view_session_v1 *proxy, uint32_t depth)
IGNORE_EVENT(handle_index, struct xx_dmabuf_view_session_v1 *proxy, uint32_t index)
IGNORE_EVENT(handle_damage, struct xx_dmabuf_view_session_v1 *proxy, uint32_t x, uint32_t y,
	uint32_t width, uint32_t height)
IGNORE_EVENT(handle_power, struct xx_dmabuf_view_session_v1 *proxy)
IGNORE_EVENT(handle_explanation, struct xx_dmabuf_view_session_v1 *proxy, const char *text)
IGNORE_EVENT(handle_device, struct xx_dmabuf_view_session_v1 *proxy, uint32_t index,
	struct wl_array *device)

static void handle_view(void *data, struct xx_dmabuf_view_session_v1 *proxy, uint32_t index,
		uint32_t storage, uint32_t width, uint32_t height, uint32_t fourcc, uint32_t mod_hi,
		uint32_t mod_lo, uint32_t guarantee) {
	struct session *session = data;
	session->n_views++;
}

static void handle_plane(void *data, struct xx_dmabuf_view_session_v1 *proxy, uint32_t index,
		uint32_t plane, int32_t fd, uint32_t offset, uint32_t stride) {
	const struct session *session = data;
	hoard_keep(state.hoard, fd, session->client->kind->means);
}

static void handle_fence(void *data, struct xx_dmabuf_view_session_v1 *proxy, int32_t fd) {
	close(fd);
}

static void tell(const struct counters *counters) {
	int64_t now = now_ms();
	if (now - state.told_ms >= TELL_MS) {
		state.told_ms = now;
		printf("%.3f %llu %llu %llu\n", (double)now / 1000, counters->frames,
			counters->skipped, counters->missed);
		fflush(stdout);
	}
}

/** A frame that this client did not get was there in time, as far as it knows. */
static void count_missed(struct session *session, uint32_t n_skipped, int64_t time_ns) {
	int64_t periods = (time_ns - session->time_ns + PERIOD_NS / 2) / PERIOD_NS;
	if (periods > n_skipped + 1) {
		atomic_fetch_add(&session->client->counters->missed,
			(unsigned long long)periods - n_skipped - 1);
	}
}

static void handle_frame(void *data, struct xx_dmabuf_view_session_v1 *proxy, uint32_t index,
		uint32_t serial, uint32_t sec_hi, uint32_t sec_lo, uint32_t nsec, uint32_t x, uint32_t y,
		uint32_t width, uint32_t height) {
	struct session *session = data;
	struct client *client = session->client;
	int64_t time_ns = (int64_t)((uint64_t)sec_hi << 32 | sec_lo) * 1000000000 + nsec;
	if (session->n_frames++ == 0) {
		atomic_fetch_add(&client->counters->shown, 1);
	} else {
		atomic_fetch_add(&client->counters->skipped, serial - session->serial - 1);
		count_missed(session, serial - session->serial - 1, time_ns);
	}
	session->serial = serial;
	session->time_ns = time_ns;
	atomic_fetch_add(&client->counters->frames, 1);
	if (client->kind->releases) {
		xx_dmabuf_view_session_v1_release(proxy, serial);
	}
	if (client->kind->is_deaf) {
		client->deaf_until_ms = now_ms() + DEAF_MS;
	}
	session->is_over = client->kind->n_views > 0 &&
		(session->n_views >= client->kind->n_views || session->n_frames >= FRAMES_OF_A_SESSION);
}

static void handle_stopped(void *data, struct xx_dmabuf_view_session_v1 *proxy,
		uint32_t reason) {
	struct session *session = data;
	session->is_over = true;
	if (reason < REASONS) {
		atomic_fetch_add(&session->client->counters->stopped[reason], 1);
	}
}

static const struct xx_dmabuf_view_session_v1_listener session_listener = {
	.depth = handle_depth,
	.off = handle_power,
	.on = handle_power,
	.explanation = handle_explanation,
	.device = handle_device,
	.view = handle_view,
	.plane = handle_plane,
	.view_done = handle_index,
	.retired = handle_index,
	.damage = handle_damage,
	.transform = handle_index,
	.fence = handle_fence,
	.frame = handle_frame,
	.revoked = handle_index,
	.stopped = handle_stopped,
};

static void session_start(struct session *session, struct client *client) {
	*session = (struct session){ .client = client };
	session->proxy = xx_dmabuf_view_manager_v1_create_session(client->views, client->source);
	xx_dmabuf_view_session_v1_add_listener(session->proxy, &session_listener, session);
	xx_dmabuf_view_session_v1_set_guarantees(session->proxy, VITRINE_GUARANTEE_ALL);
	xx_dmabuf_view_session_v1_set_storages(session->proxy, VITRINE_STORAGE_CPU);
	// Or it would get no frame that it does not read, and no more views than it holds frames
	if (client->kind->is_deaf || client->kind->n_views > 1) {
		xx_dmabuf_view_session_v1_set_implicit_release(session->proxy);
	}
	xx_dmabuf_view_session_v1_start(session->proxy);
	atomic_fetch_add(&client->counters->sessions, 1);
}

static void session_end(struct session *session) {
	xx_dmabuf_view_session_v1_destroy(session->proxy);
	session->proxy = NULL;
}

/* Connections */

static int connect_to_compositor(void) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", getenv("XDG_RUNTIME_DIR"),
		getenv("WAYLAND_DISPLAY"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

union control {
	char data[CMSG_SPACE(sizeof(int))];
	struct cmsghdr header; // for the alignment
};

static void send_fd(int to, int fd) {
	char byte = 0;
	union control control = { .header = {
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)),
	} };
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	struct msghdr message = {
		.msg_iov = &(struct iovec){ .iov_base = &byte, .iov_len = 1 }, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control.data),
	};
	sendmsg(to, &message, MSG_NOSIGNAL);
}

static int receive_fd(int from) {
	char byte;
	union control control;
	struct msghdr message = {
		.msg_iov = &(struct iovec){ .iov_base = &byte, .iov_len = 1 }, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control.data),
	};
	int fd = -1;
	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message) != NULL) {
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	}
	return fd;
}

/** The compositor sees the credentials of a process that is gone. */
static int connect_by_another(void) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		return -1;
	}
	pid_t pid = fork();
	if (pid == 0) {
		int fd = connect_to_compositor();
		if (fd >= 0) {
			send_fd(ends[1], fd);
		}
		_exit(EXIT_SUCCESS);
	}
	close(ends[1]);
	int fd = pid > 0 ? receive_fd(ends[0]) : -1;
	close(ends[0]);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
	}
	return fd;
}

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct client *client = data;
	const struct {
		const struct wl_interface *interface;
		void **target;
	} wanted[] = {
		{ &wl_output_interface, (void **)&client->output },
		{ &ext_output_image_capture_source_manager_v1_interface, (void **)&client->sources },
		{ &xx_dmabuf_view_manager_v1_interface, (void **)&client->views },
	};
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (strcmp(interface, wanted[i].interface->name) == 0 && *wanted[i].target == NULL) {
			*wanted[i].target = wl_registry_bind(registry, name, wanted[i].interface, 1);
		}
	}
}

IGNORE_EVENT(registry_handle_global_remove, struct wl_registry *registry, uint32_t name)

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

/** Its memory stays kept. */
static void client_disconnect(struct client *client) {
	if (client->display != NULL) {
		wl_display_disconnect(client->display); // its proxies leak, as it will be gone soon
	}
	*client = (struct client){
		.kind = client->kind, .counters = client->counters, .child = client->child,
	};
}

static bool client_connect(struct client *client) {
	int fd = client->kind->passes ? connect_by_another() : connect_to_compositor();
	client->display = fd >= 0 ? wl_display_connect_to_fd(fd) : NULL;
	if (client->display == NULL) {
		return false;
	}
	atomic_fetch_add(&client->counters->connections, 1);
	struct wl_registry *registry = wl_display_get_registry(client->display);
	wl_registry_add_listener(registry, &registry_listener, client);
	if (wl_display_roundtrip(client->display) < 0 || client->output == NULL ||
			client->sources == NULL || client->views == NULL) {
		client_disconnect(client);
		return false;
	}
	wl_registry_destroy(registry);
	client->source = ext_output_image_capture_source_manager_v1_create_source(
		client->sources, client->output);
	return true;
}

/* What they do */

static void client_flood(struct client *client) {
	for (int i = 0; i < FLOOD_LEN; i++) {
		struct session session;
		session_start(&session, client);
		session_end(&session);
		wl_callback_destroy(wl_display_sync(client->display));
		ext_image_capture_source_v1_destroy(
			ext_output_image_capture_source_manager_v1_create_source(
				client->sources, client->output));
	}
}

static void client_renew_sessions(struct client *client) {
	for (uint32_t i = 0; i < client->kind->n_sessions; i++) {
		struct session *session = &client->sessions[i];
		if (session->proxy != NULL && session->is_over) {
			session_end(session);
			if (client->kind->passes) {
				wl_display_flush(client->display);
				client_disconnect(client);
				return;
			}
		}
		// An honest one that is stopped stays so
		if (session->proxy == NULL && !(client->kind->releases && session->is_over)) {
			session_start(session, client);
		}
	}
}

static int dispatch(struct client *client) {
	return wl_display_dispatch(client->display);
}

/** Never returns: it is killed while it looks, or before. */
static _Noreturn void look_until_death(struct client *client) {
	struct itimerval death = { .it_value.tv_usec = 1 + get_random() % 300000 };
	signal(SIGALRM, SIG_DFL);
	setitimer(ITIMER_REAL, &death, NULL);
	if (client_connect(client)) {
		do {
			client_renew_sessions(client);
		} while (dispatch(client) >= 0);
	}
	pause();
	_exit(EXIT_FAILURE);
}

static void client_die_again(struct client *client) {
	if (client->child > 0 && waitpid(client->child, NULL, WNOHANG) != client->child) {
		return;
	}
	get_random(); // another time than the last one
	client->child = fork();
	if (client->child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		look_until_death(client);
	}
}

/** Returns the events to wait for, or 0 for none. */
static short client_act(struct client *client) {
	if (client->kind->releases) {
		tell(client->counters);
	}
	if (client->kind->dies) {
		client_die_again(client);
		return 0;
	}
	if (client->deaf_until_ms > 0) {
		if (now_ms() < client->deaf_until_ms) {
			return 0;
		}
		client_disconnect(client);
	}
	if (client->display == NULL && !client_connect(client)) {
		return 0;
	}
	if (!client->kind->floods) {
		client_renew_sessions(client);
	}
	if (client->display == NULL) { // it has passed by: the next time, another connection
		return 0;
	}
	bool is_full = wl_display_flush(client->display) < 0 && errno == EAGAIN;
	return POLLIN | (is_full || client->kind->floods ? POLLOUT : 0);
}

static void client_handle(struct client *client, short events) {
	if (events & POLLOUT && client->kind->floods) {
		client_flood(client);
	}
	if (events & (POLLIN | POLLHUP | POLLERR) && dispatch(client) < 0) {
		atomic_fetch_add(&client->counters->disconnected, 1);
		client_disconnect(client);
	}
}

static bool is_enough(void) {
	return state.n_pieces > 0 && state.hoard->pieces >= state.n_pieces;
}

static void act(struct client *clients, uint32_t len) {
	struct pollfd fds[CLIENTS_CAP];
	for (uint32_t i = 0; i < len; i++) {
		short events = client_act(&clients[i]);
		fds[i] = (struct pollfd){
			.fd = events != 0 ? wl_display_get_fd(clients[i].display) : -1, .events = events,
		};
	}
	if (poll(fds, len, 10) < 0) {
		return;
	}
	for (uint32_t i = 0; i < len; i++) {
		if (fds[i].fd >= 0 && fds[i].revents != 0) {
			client_handle(&clients[i], fds[i].revents);
		}
	}
}

/** As many as one process may have. */
static void raise_fd_limit(void) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/** The clients of one process; those are every n_processes-th. */
static uint32_t make_clients(struct client *clients, uint32_t process) {
	uint32_t len = 0;
	for (uint32_t i = process; i < state.n_clients; i += state.n_processes) {
		const struct kind *kind = state.kinds[i % state.n_kinds];
		clients[len++] = (struct client){
			.kind = kind, .counters = &state.counters[kind - kinds],
		};
	}
	return len;
}

/** What they keep stays. */
static void disconnect(struct client *clients, uint32_t len) {
	for (uint32_t i = 0; i < len; i++) {
		client_disconnect(&clients[i]);
	}
}

static _Noreturn void run_process(uint32_t process) {
	static struct client clients[CLIENTS_CAP];
	state.random += 0x9e3779b97f4a7c15 * (process + 1);
	raise_fd_limit();
	uint32_t len = make_clients(clients, process);
	while (!is_enough()) {
		act(clients, len);
	}
	disconnect(clients, len);
	for (;;) {
		pause();
	}
}

/* What requests cost */

/** Of its main thread, which answers; what others do with retired memory is not part of it. */
static int64_t get_cpu_ns(const char *schedstat) {
	FILE *file = fopen(schedstat, "re");
	int64_t ns;
	if (file == NULL || fscanf(file, "%" SCNd64, &ns) != 1) {
		die("%s: no time", schedstat);
	}
	fclose(file);
	return ns;
}

static void find_schedstat(struct client *client, char *path, size_t size) {
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(wl_display_get_fd(client->display), SOL_SOCKET, SO_PEERCRED, &peer,
			&len) != 0) {
		die("the compositor has no credentials");
	}
	snprintf(path, size, "/proc/%d/task/%d/schedstat", peer.pid, peer.pid);
}

/** CPU time of the compositor for one request, the least of several tries. */
static int64_t measure(bool sessions) {
	static const struct kind kind = { .name = "cost" };
	static struct counters counters;
	struct client client = { .kind = &kind, .counters = &counters };
	if (!client_connect(&client)) {
		die("cannot connect");
	}
	char schedstat[64];
	find_schedstat(&client, schedstat, sizeof(schedstat));
	int64_t least = INT64_MAX;
	for (int try = 0; try < 10; try++) {
		int64_t start = get_cpu_ns(schedstat);
		for (uint32_t i = 0; i < state.n_cost; i++) {
			if (sessions) {
				struct session session;
				session_start(&session, &client);
				session_end(&session);
			} else {
				wl_callback_destroy(wl_display_sync(client.display));
			}
			if (i % FLOOD_LEN == 0 && wl_display_roundtrip(client.display) < 0) {
				die("lost the connection");
			}
		}
		wl_display_roundtrip(client.display);
		int64_t spent = (get_cpu_ns(schedstat) - start) / state.n_cost;
		least = spent < least ? spent : least;
	}
	client_disconnect(&client);
	return least;
}

static void print_cost(const char *name) {
	printf("{\"when\": \"%s\", \"sync_ns\": %" PRId64 ", \"session_ns\": %" PRId64 ", "
		"\"pieces\": %u}\n", name, measure(false), measure(true), state.hoard->pieces);
	fflush(stdout);
}

static int run_cost(void) {
	static struct client clients[CLIENTS_CAP];
	raise_fd_limit();
	uint32_t len = make_clients(clients, 0);
	print_cost("before");
	int64_t end = now_ms() + (int64_t)(state.seconds * 1000);
	const atomic_ullong *refused = &clients[0].counters->stopped[REASON_NO_RESOURCES];
	while (!is_enough() && *refused == 0 && now_ms() < end) {
		act(clients, len);
	}
	disconnect(clients, len); // or frames would be in the sum
	print_cost("after");
	return EXIT_SUCCESS;
}

/* The whole */

static void print_kind(const struct kind *kind, const struct counters *counters) {
	static const char *const reasons[REASONS] = {
		"source_gone", "denied", "revoked", "locked", "no_resources", "unsupported",
	};
	printf(", \"%s\": {\"connections\": %u, \"disconnected\": %u, \"sessions\": %llu, "
		"\"shown\": %llu, \"frames\": %llu, \"skipped\": %llu", kind->name,
		counters->connections, counters->disconnected, counters->sessions, counters->shown,
		counters->frames, counters->skipped);
	for (int i = 0; i < REASONS; i++) {
		printf(", \"%s\": %llu", reasons[i], counters->stopped[i]);
	}
	printf("}");
}

static void print_report(void) {
	printf("{\"pieces\": %u, \"bytes\": %llu, \"pins\": %llu", state.hoard->pieces,
		state.hoard->bytes, state.hoard->pins);
	for (size_t i = 0; i < KINDS; i++) {
		if (state.counters[i].connections > 0) {
			print_kind(&kinds[i], &state.counters[i]);
		}
	}
	printf("}\n");
	fflush(stdout);
}

/** Until SIGTERM, or the time has passed, or, with `for_pieces`, enough is kept. */
static bool wait_for_end(const sigset_t *signals, int64_t end_ms, bool for_pieces) {
	while ((state.seconds == 0 || now_ms() < end_ms) && !(for_pieces && is_enough())) {
		const struct timespec interval = { .tv_nsec = 20000000 };
		if (sigtimedwait(signals, NULL, &interval) > 0) {
			return false;
		}
	}
	return true;
}

static void run_processes(void) {
	static pid_t pids[CLIENTS_CAP];
	sigset_t signals, before;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, &before);
	for (uint32_t i = 0; i < state.n_processes; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sigprocmask(SIG_SETMASK, &before, NULL);
			run_process(i);
		}
	}
	int64_t end = now_ms() + (int64_t)(state.seconds * 1000);
	if (wait_for_end(&signals, end, true) && state.n_pieces > 0) {
		print_report();
		state.seconds = 0;
		wait_for_end(&signals, 0, false);
	}
	for (uint32_t i = 0; i < state.n_processes; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
}

static const struct kind *find_kind(const char *name) {
	for (size_t i = 0; i < KINDS; i++) {
		if (strcmp(kinds[i].name, name) == 0) {
			return &kinds[i];
		}
	}
	die("no kind '%s'", name);
}

static double parse_number(const char *text, double max) {
	char *end;
	double number = strtod(text, &end);
	if (*text == '\0' || *end != '\0' || !(number > 0) || number > max) {
		die("not a number that fits: '%s'", text);
	}
	return number;
}

static void parse_options(int argc, char *argv[]) {
	static const struct option options[] = {
		{ "clients", required_argument, NULL, 'c' },
		{ "processes", required_argument, NULL, 'p' },
		{ "seconds", required_argument, NULL, 's' },
		{ "pieces", required_argument, NULL, 'n' },
		{ "cost", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'x' },
		{ 0 },
	};
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			state.n_clients = (uint32_t)parse_number(optarg, CLIENTS_CAP);
			break;
		case 'p':
			state.n_processes = (uint32_t)parse_number(optarg, CLIENTS_CAP);
			break;
		case 's':
			state.seconds = parse_number(optarg, 1e6);
			break;
		case 'n':
			state.n_pieces = (uint32_t)parse_number(optarg, 1e6);
			break;
		case 'r':
			state.n_cost = (uint32_t)parse_number(optarg, 1e6);
			break;
		case 'x':
			state.random = (uint64_t)parse_number(optarg, 1e15);
			break;
		default:
			exit(2);
		}
	}
	for (int i = optind; i < argc && state.n_kinds < CLIENTS_CAP; i++) {
		state.kinds[state.n_kinds++] = find_kind(argv[i]);
	}
	state.n_clients = state.n_clients > 0 ? state.n_clients : state.n_kinds;
}

int main(int argc, char *argv[]) {
	parse_options(argc, argv);
	if (state.n_kinds == 0 || state.n_processes > state.n_clients ||
			getenv("XDG_RUNTIME_DIR") == NULL || getenv("WAYLAND_DISPLAY") == NULL) {
		die("no kind, more processes than clients, or no compositor");
	}
	signal(SIGPIPE, SIG_IGN);
	state.hoard = hoard_create();
	state.counters = mmap(NULL, KINDS * sizeof(struct counters), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (state.counters == MAP_FAILED) {
		die("mmap: %s", strerror(errno));
	}
	if (state.n_cost > 0) {
		return run_cost();
	}
	run_processes();
	print_report();
	return EXIT_SUCCESS;
}
