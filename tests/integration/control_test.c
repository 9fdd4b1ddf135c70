/* SPDX-License-Identifier: MIT */
/* The control socket: what it tells and does, and what hostile peers cost. */
#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "control_socket.h"
#include "control_path.h"
#include "fixture.h"
#include "harness.h"

#define ALL VITRINE_GUARANTEE_ALL
#define NAME "wayland-test"
#define LINE_SIZE (64 * 1024)
#define FDS_PER_PEER 2 // of the compositor: libwayland duplicates what it polls
#define UNKNOWN "{\"error\":\"unknown request (known: {\\\"list\\\":true}, {\\\"stop\\\":ID}, " \
	"{\\\"reload\\\":true}, {\\\"watch\\\":true})\"}"

/* Allocations of the control socket can be made to fail, but for those of json-c */

static int fail_at_call = -1; // counts down

static bool call_fails(void) {
	return fail_at_call >= 0 && fail_at_call-- == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *data, size_t size);
FILE *__real_open_memstream(char **text, size_t *size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *data, size_t size);
FILE *__wrap_open_memstream(char **text, size_t *size);

void *__wrap_calloc(size_t n, size_t size) {
	return call_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *data, size_t size) {
	return call_fails() ? NULL : __real_realloc(data, size);
}

FILE *__wrap_open_memstream(char **text, size_t *size) {
	return call_fails() ? NULL : __real_open_memstream(text, size);
}

/* A compositor with a control socket */

struct controlled_options {
	bool no_reload;
};

struct controlled {
	struct server server;
	struct client *client;
	struct sockaddr_un address;
	int n_reloads;
	const char *reload_error; // NULL if reloads succeed
};

static bool reload(void *data, char error[static CONTROL_ERROR_SIZE]) {
	struct controlled *f = data;
	f->n_reloads++;
	if (f->reload_error != NULL) {
		snprintf(error, CONTROL_ERROR_SIZE, "%s", f->reload_error);
	}
	return f->reload_error == NULL;
}

static bool create_control(struct controlled *f, const char *name, char *error) {
	return control_socket_create(&(struct control_options){
		.loop = f->server.loop,
		.manager = f->server.manager,
		.wayland_display = name,
		.reload = reload,
		.data = f,
	}, error);
}

static void controlled_set_up(struct controlled *f, const struct controlled_options *options) {
	*f = (struct controlled){ 0 };
	server_init(&f->server, &(struct server_options){ 0 });
	f->client = client_create(&f->server);
	check(control_path_get(&f->address, NAME));
	char error[CONTROL_ERROR_SIZE] = "";
	check(control_socket_create(&(struct control_options){
		.loop = f->server.loop,
		.manager = f->server.manager,
		.wayland_display = NAME,
		.reload = options->no_reload ? NULL : reload,
		.data = f,
	}, error));
	check_str(error, "");
}

static void controlled_tear_down(struct controlled *f) {
	server_finish(&f->server);
	check_int(access(f->address.sun_path, F_OK), ==, -1); // it is gone with the compositor
}

static int connect_to(const struct sockaddr_un *address) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	check(fd >= 0);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connect_peer(struct controlled *f) {
	int fd;
	while ((fd = connect_to(&f->address)) < 0) {
		check_int(errno, ==, EAGAIN); // so many wait already
		pump_wait(&f->server);
	}
	return fd;
}

static void say(int fd, const char *text) {
	check_int(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (long long)strlen(text));
}

/** The next line without its end, or NULL if there is none any more. Static. */
static const char *hear(struct controlled *f, int fd) {
	static char line[LINE_SIZE];
	size_t len = 0;
	while (true) {
		ssize_t n = recv(fd, line + len, 1, 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET)) {
			check_int(len, ==, 0);
			return NULL;
		} else if (n < 0) {
			check_int(errno, ==, EAGAIN);
			pump_wait(&f->server);
		} else if (line[len] == '\n') {
			line[len] = '\0';
			return line;
		} else {
			check_int(++len, <, sizeof(line));
		}
	}
}

static void check_answer(struct controlled *f, int fd, const char *expected) {
	const char *line = hear(f, fd);
	check_str(line != NULL ? line : "nothing", expected);
}

static void check_asked(struct controlled *f, int fd, const char *request,
		const char *expected) {
	say(fd, request);
	check_answer(f, fd, expected);
}

/** The next line as JSON, to be put. */
static struct json_object *hear_object(struct controlled *f, int fd) {
	const char *line = hear(f, fd);
	check(line != NULL);
	struct json_object *object = json_tokener_parse(line);
	check(object != NULL);
	return object;
}

static struct json_object *get(struct json_object *object, const char *key) {
	struct json_object *value;
	check(json_object_object_get_ex(object, key, &value));
	return value;
}

static const char *get_text(struct json_object *object, const char *key) {
	return json_object_get_string(get(object, key));
}

/** What it knows of the only session; 0 if there is none. */
static int64_t list_one(struct controlled *f, int fd) {
	say(fd, "{\"list\":true}\n");
	struct json_object *object = hear_object(f, fd);
	int64_t id = 0;
	if (json_object_object_get_ex(object, "id", NULL)) {
		id = json_object_get_int64(get(object, "id"));
		check_answer(f, fd, "{\"end\":true}");
	}
	json_object_put(object);
	return id;
}

/* What it tells */

TEST_WITH(controlled, list_of_no_session_is_its_end) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	check_asked(f, fd, " { \"list\" : true } \r\n", "{\"end\":true}"); // and again
	close(fd);
}

TEST_WITH(controlled, list_tells_what_a_session_is) {
	struct test_session *session = test_session_start(f->client, ALL);
	int fd = connect_peer(f);
	say(fd, "{\"list\":true}\n");
	struct json_object *object = hear_object(f, fd);
	check(get(object, "guarantee") == NULL && get(object, "storage") == NULL);
	check_int(json_object_get_int64(get(object, "frames")), ==, 0);
	json_object_put(object);
	check_answer(f, fd, "{\"end\":true}");

	check(output_paint(f->server.output, 0x112233, NULL));
	pump(&f->server);
	client_roundtrip(f->client);
	check_int(session->n_frames, ==, 1);
	say(fd, "{\"list\":true}\n");
	object = hear_object(f, fd);
	check_int(json_object_get_int64(get(object, "id")), >, 0);
	check_str(get_text(object, "source"), f->server.output->wlr_output->name);
	check(get(object, "window") == NULL);
	check_str(get_text(object, "guarantee"), "sealed");
	check_str(get_text(object, "storage"), "memfd");
	check_str(get_text(object, "protocol"), "xx_dmabuf_view_manager_v1");
	check_int(json_object_get_int64(get(object, "pid")), ==, getpid());
	check_int(json_object_get_int64(get(object, "uid")), ==, getuid());
	check_int(json_object_get_int64(get(object, "gid")), ==, getgid());
	check_str(get_text(object, "comm"), "control_test");
	check(strstr(get_text(object, "executable"), "/control_test") != NULL);
	check(!json_object_get_boolean(get(object, "sandboxed")));
	check(get(object, "engine") == NULL && get(object, "app-id") == NULL &&
		get(object, "instance-id") == NULL);
	check_int(json_object_get_int64(get(object, "frames")), ==, 1);
	int year;
	check_int(sscanf(get_text(object, "since"), "%d-%*d-%*dT%*d:%*d:%*dZ", &year), ==, 1);
	check_int(year, >=, 2026);
	json_object_put(object);
	check_answer(f, fd, "{\"end\":true}");
	close(fd);
}

TEST_WITH(controlled, long_list_is_whole) {
	for (int i = 0; i < 40; i++) {
		test_session_create(f->client, 0, ALL);
	}
	client_roundtrip(f->client);
	// Those that are not started yet, as they come too fast, are not told
	check_int(f->server.sessions_started, >, 4);
	int fd = connect_peer(f);
	int64_t last = 0;
	uint32_t n = 0;
	say(fd, "{\"list\":true}\n");
	while (true) {
		struct json_object *object = hear_object(f, fd);
		bool is_end = json_object_object_get_ex(object, "end", NULL);
		if (!is_end) {
			check_int(json_object_get_int64(get(object, "id")), >, last);
			last = json_object_get_int64(get(object, "id"));
			n++;
		}
		json_object_put(object);
		if (is_end) {
			break;
		}
	}
	check_int(n, >=, 4);
	check_int(n, <=, f->server.sessions_started);
	close(fd);
}

TEST_WITH(controlled, hostile_name_moves_no_cursor_and_makes_up_no_line) {
	check_ok(prctl(PR_SET_NAME, "\x1b[2J\"\n\xff\xe2\x80\xaex"));
	struct client *client = client_create(&f->server);
	test_session_start(client, ALL);
	int fd = connect_peer(f);
	say(fd, "{\"list\":true}\n");
	const char *line = hear(f, fd);
	for (const char *c = line; *c != '\0'; c++) {
		check(*c >= ' ' && *c <= '~');
	}
	struct json_object *object = json_tokener_parse(line);
	check(object != NULL);
	check_str(get_text(object, "comm"), "\x1b[2J\"\n\\xff\xe2\x80\xaex");
	json_object_put(object);
	check_answer(f, fd, "{\"end\":true}");
	close(fd);
}

/* What it does */

TEST_WITH(controlled, stop_ends_the_session_it_names) {
	struct test_session *first = test_session_start(f->client, ALL);
	int fd = connect_peer(f);
	int64_t id = list_one(f, fd);
	check_int(id, >, 0);
	struct test_session *second = test_session_start(f->client, ALL);
	char request[64];
	snprintf(request, sizeof(request), "{\"stop\":%lld}\n", (long long)id);
	check_asked(f, fd, request, "{\"end\":true}");
	client_roundtrip(f->client);
	check(first->stopped && !second->stopped);
	check_int(first->stop_reason, ==, VITRINE_VIEW_STOP_REVOKED);

	check_int(list_one(f, fd), >, id); // the other one goes on
	say(fd, request);
	snprintf(request, sizeof(request), "{\"error\":\"there is no session %lld\"}", (long long)id);
	check_answer(f, fd, request);
	close(fd);
}

TEST_WITH(controlled, stop_is_obeyed_though_its_peer_goes_at_once) {
	struct test_session *session = test_session_start(f->client, ALL);
	int fd = connect_peer(f);
	char request[64];
	snprintf(request, sizeof(request), "{\"stop\":%lld}\n", (long long)list_one(f, fd));
	say(fd, request);
	close(fd);
	while (!session->stopped) {
		client_roundtrip(f->client);
	}
}

TEST_WITH(controlled, reload_is_handed_on) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"reload\":true}\n", "{\"end\":true}");
	check_int(f->n_reloads, ==, 1);
	f->reload_error = "rules.json:7: unknown key \"x\"";
	check_asked(f, fd, "{\"reload\":true}\n",
		"{\"error\":\"rules.json:7: unknown key \\\"x\\\"\"}");
	check_int(f->n_reloads, ==, 2);
	close(fd);
}

TEST_WITH(controlled, reload_without_a_file_is_an_error, .no_reload = true) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"reload\":true}\n",
		"{\"error\":\"there is no policy file: start the compositor with --policy\"}");
	close(fd);
}

/** Returns how many frames the session had. */
static int64_t hear_event(struct controlled *f, int fd, const char *event) {
	struct json_object *object = hear_object(f, fd);
	check_str(get_text(object, "event"), event);
	struct json_object *session = get(object, "session");
	check_int(json_object_get_int64(get(session, "pid")), ==, getpid());
	int64_t n_frames = json_object_get_int64(get(session, "frames"));
	json_object_put(object);
	return n_frames;
}

TEST_WITH(controlled, watch_tells_of_starts_and_ends) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"watch\":true}\n", "{\"end\":true}");
	check_ok(shutdown(fd, SHUT_WR)); // as a pipe into a program that sends does
	// A session that was shown nothing is no event
	test_session_destroy(test_session_start(f->client, ALL));
	client_roundtrip(f->client);
	struct test_session *session = test_session_start(f->client, ALL);
	check(output_paint(f->server.output, 0x112233, NULL));
	check_int(hear_event(f, fd, "start"), ==, 0);
	test_session_destroy(session);
	client_roundtrip(f->client);
	check_int(hear_event(f, fd, "stop"), ==, 1);
	char byte;
	check_errno(recv(fd, &byte, 1, 0), EAGAIN);
	close(fd);
}

TEST_WITH(controlled, watcher_can_ask_as_well) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"watch\":true}\n", "{\"end\":true}");
	test_session_start(f->client, ALL);
	check(list_one(f, fd) > 0);
	close(fd);
}

/* What it does not take */

static const struct {
	const char *name, *line;
} unknowns[] = {
	{ "empty", "" },
	{ "no_json", "list" },
	{ "list_alone", "\"list\"" },
	{ "array", "[{\"list\":true}]" },
	{ "no_key", "{}" },
	{ "false", "{\"list\":false}" },
	{ "number", "{\"list\":1}" },
	{ "null", "{\"list\":null}" },
	{ "two_keys", "{\"list\":true,\"watch\":true}" },
	{ "other_key", "{\"kill\":1}" },
	{ "stop_string", "{\"stop\":\"1\"}" },
	{ "stop_fraction", "{\"stop\":1.5}" },
	{ "stop_list", "{\"stop\":[1]}" },
	{ "deep", "{\"list\":[[[[[[[[[[]]]]]]]]]]}" },
	{ "two_objects", "{\"list\":true}{\"list\":true}" },
	{ "half", "{\"list\":tr" },
	{ "comment", "{/**/\"list\":true}" },
	{ "no_utf8", "{\"\xff\":true}" },
};

TEST_WITH(controlled, other_lines_are_refused_and_the_next_is_taken) {
	for (size_t i = 0; i < sizeof(unknowns) / sizeof(unknowns[0]); i++) {
		int fd = connect_peer(f);
		char line[128];
		snprintf(line, sizeof(line), "%s\n", unknowns[i].line);
		check_asked(f, fd, line, UNKNOWN);
		check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
		close(fd);
	}
}

TEST_WITH(controlled, line_with_a_nul_is_refused) {
	static const char line[] = "{\"list\":true}\0\n";
	int fd = connect_peer(f);
	check_int(send(fd, line, sizeof(line) - 1, 0), ==, sizeof(line) - 1);
	check_answer(f, fd, UNKNOWN);
	close(fd);
}

TEST_WITH(controlled, number_beyond_all_sessions_is_none) {
	int fd = connect_peer(f);
	test_session_start(f->client, ALL);
	check_asked(f, fd, "{\"stop\":18446744073709551615}\n",
		"{\"error\":\"there is no session 18446744073709551615\"}");
	check_asked(f, fd, "{\"stop\":-1}\n", "{\"error\":\"there is no session 0\"}");
	check(list_one(f, fd) > 0);
	close(fd);
}

TEST_WITH(controlled, line_may_come_in_pieces) {
	int fd = connect_peer(f);
	static const char line[] = "{\"list\":true}\n{\"reload\":true}\n";
	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		check_int(send(fd, &line[i], 1, 0), ==, 1);
		pump(&f->server);
	}
	check_answer(f, fd, "{\"end\":true}");
	check_answer(f, fd, "{\"end\":true}");
	check_int(f->n_reloads, ==, 1);
	close(fd);
}

TEST_WITH(controlled, lines_may_come_at_once) {
	int fd = connect_peer(f);
	say(fd, "{\"list\":true}\nwhat\n{\"reload\":true}\n");
	check_ok(shutdown(fd, SHUT_WR)); // all of them are answered before it ends
	check_answer(f, fd, "{\"end\":true}");
	check_answer(f, fd, UNKNOWN);
	check_answer(f, fd, "{\"end\":true}");
	check(hear(f, fd) == NULL);
	close(fd);
}

TEST_WITH(controlled, longest_line_is_taken_and_a_longer_one_ends_the_connection) {
	char line[4097];
	memset(line, ' ', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	memcpy(line, "{\"list\":true}", 13);
	line[4095] = '\n';
	int fd = connect_peer(f);
	check_asked(f, fd, line, "{\"end\":true}");
	line[4095] = ' ';
	check_asked(f, fd, line, "{\"error\":\"the line is longer than 4096 bytes\"}");
	check(hear(f, fd) == NULL);
	close(fd);
}

/* Hostile peers */

/** Another peer is served, and frames come. */
static void check_alive(struct controlled *f) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	close(fd);
	struct test_session *session = test_session_start(f->client, ALL);
	check(output_paint(f->server.output, 0x112233, NULL));
	pump(&f->server);
	client_roundtrip(f->client);
	check_int(session->n_frames, >, 0);
	test_session_destroy(session);
	client_roundtrip(f->client);
}

TEST_WITH(controlled, half_a_line_keeps_nothing_waiting) {
	int fd = connect_peer(f);
	say(fd, "{\"list\":");
	check_alive(f);
	close(fd);
	pump(&f->server);
	check_alive(f);
}

static bool is_given_up(int fd) {
	return send(fd, " ", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE;
}

/** Reads all that has come. Returns how many lines that were. */
static int drain(int fd) {
	char text[4096];
	int n_lines = 0;
	ssize_t n;
	while ((n = recv(fd, text, sizeof(text), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			n_lines += text[i] == '\n';
		}
	}
	check_int(n, ==, -1);
	check_int(errno, ==, EAGAIN);
	return n_lines;
}

TEST_WITH(controlled, peer_that_never_reads_is_given_up) {
	int mute = connect_peer(f);
	check_asked(f, mute, "{\"watch\":true}\n", "{\"end\":true}");
	int other = connect_peer(f);
	check_asked(f, other, "{\"watch\":true}\n", "{\"end\":true}");
	harness_set_timeout(60 * harness_get_slowdown());
	// Until its socket and what is kept for it are full
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->starts_per_holder.interval_ms = limits->starts_per_group.interval_ms = 0;
	limits->shared_bytes = limits->shared_pieces = (struct vitrine_view_limit){
		UINT64_C(1) << 40, UINT64_C(1) << 40, UINT64_C(1) << 40,
	};
	int n_lines = 0;
	for (int i = 0; i < 20000 && !is_given_up(mute); i++) {
		struct test_session *session = test_session_create(f->client, 0, ALL);
		client_roundtrip(f->client);
		check(output_paint(f->server.output, (uint32_t)i, NULL));
		pump(&f->server);
		test_session_destroy(session);
		client_roundtrip(f->client);
		n_lines += drain(other);
	}
	check(is_given_up(mute));
	check_int(n_lines, >, 200); // so many are not lost on a peer that is merely slow
	check(!is_given_up(other));
	check_alive(f);
	close(mute);
	close(other);
}

TEST_WITH(controlled, flood_of_requests_is_slowed_down) {
	struct timespec before, after;
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	clock_gettime(CLOCK_MONOTONIC, &before);
	char lines[320 * 14 + 1] = "";
	for (int i = 0; i < 320; i++) {
		strcpy(lines + 14 * i, "{\"list\":true}\n");
	}
	say(fd, lines);
	for (int i = 0; i < 320; i++) {
		check_answer(f, fd, "{\"end\":true}");
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	// 32 in each tenth of a second, but for the first
	check_int((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000,
		>=, 800);
	close(fd);
}

TEST_WITH(controlled, flood_of_a_peer_that_never_reads_keeps_nothing_waiting) {
	int fd = connect_peer(f);
	static const char line[] = "{\"list\":true}\n";
	for (int i = 0; i < 20; i++) {
		while (send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL) > 0) {
			// until its socket is full
		}
		pump(&f->server);
	}
	check_alive(f);
	close(fd);
	pump(&f->server);
	check_alive(f);
}

TEST_WITH(controlled, hundred_connections_keep_eight_and_those_that_watch) {
	harness_set_timeout(60 * harness_get_slowdown());
	int n_fds = harness_count_fds();
	int watcher = connect_peer(f);
	check_asked(f, watcher, "{\"watch\":true}\n", "{\"end\":true}");
	int fds[100];
	for (int i = 0; i < 100; i++) {
		fds[i] = connect_peer(f);
		pump(&f->server);
	}
	// The last one is accepted too, in its turn
	check_asked(f, fds[99], "{\"list\":true}\n", "{\"end\":true}");
	check_int(harness_count_fds(), ==, n_fds + 101 + CONTROL_PEERS_CAP * FDS_PER_PEER);
	check_alive(f);
	for (int i = 0; i < 100; i++) {
		close(fds[i]);
	}
	test_session_start(f->client, ALL);
	check(output_paint(f->server.output, 0x112233, NULL));
	hear_event(f, watcher, "start"); // that of check_alive()
	hear_event(f, watcher, "stop");
	hear_event(f, watcher, "start");
	close(watcher);
}

TEST_WITH(controlled, no_file_descriptor_left_is_waited_for_without_a_busy_loop) {
	struct rlimit before, none;
	check_ok(getrlimit(RLIMIT_NOFILE, &before));
	int fd = connect_peer(f);
	none = before;
	none.rlim_cur = 0;
	check_ok(setrlimit(RLIMIT_NOFILE, &none));
	int n_events = 0;
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		check_ok(wl_event_loop_dispatch(f->server.loop, 20));
		n_events++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < 0.4);
	check_int(n_events, <, 100);
	check_ok(setrlimit(RLIMIT_NOFILE, &before));
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}"); // it was not forgotten
	close(fd);
}

TEST_WITH(controlled, file_descriptors_that_are_passed_are_closed) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	int pipe_fds[2];
	check_ok(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK));
	char text[] = "{\"list\":true}\n";
	union {
		char data[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { .header = {
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
	} };
	memcpy(CMSG_DATA(&control.header), &pipe_fds[1], sizeof(int));
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.data, .msg_controllen = sizeof(control.data) };
	check_int(sendmsg(fd, &message, 0), ==, sizeof(text) - 1);
	close(pipe_fds[1]);
	check_answer(f, fd, "{\"end\":true}");
	char byte;
	check_int(read(pipe_fds[0], &byte, 1), ==, 0); // no other end is left
	close(pipe_fds[0]);
	close(fd);
}

TEST_WITH(controlled, byte_out_of_band_is_one_of_its_line) {
	int fd = connect_peer(f);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	if (send(fd, "\n", 1, MSG_OOB) != 1) {
		harness_skip("this kernel has no bytes out of band in Unix sockets");
	}
	check_answer(f, fd, UNKNOWN); // else it would be readable for as long as it is there
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	close(fd);
}

TEST_WITH(controlled, random_bytes_hurt_no_other_peer) {
	uint32_t state = 7;
	for (int i = 0; i < 20; i++) {
		int fd = connect_peer(f);
		char bytes[3000];
		for (size_t j = 0; j < sizeof(bytes); j++) {
			static const char likely[] = "{}\"[]:,\\list stop watch true 0123456789\n\n\0\xff";
			state = state * 1664525 + 1013904223;
			bytes[j] = likely[(state >> 16) % sizeof(likely)];
		}
		check_int(send(fd, bytes, sizeof(bytes), 0), ==, sizeof(bytes));
		pump(&f->server);
		close(fd);
		pump(&f->server);
	}
	check_alive(f);
}

/** Whether a process of this user is answered. In a process of its own. */
static bool is_answered_as(struct controlled *f, uid_t uid) {
	pid_t pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		char byte;
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) {
			_exit(3);
		}
		if (connect(fd, (struct sockaddr *)&f->address, sizeof(f->address)) != 0) {
			_exit(errno == EACCES ? 2 : 3);
		}
		if (send(fd, "{\"list\":true}\n", 14, MSG_NOSIGNAL) != 14) {
			_exit(1);
		}
		_exit(recv(fd, &byte, 1, 0) == 1 ? 0 : 1);
	}
	int status;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		wl_event_loop_dispatch(f->server.loop, 10);
	}
	check(WIFEXITED(status));
	check_int(WEXITSTATUS(status), !=, 3);
	return WEXITSTATUS(status) == 0;
}

TEST_WITH(controlled, other_users_are_refused_by_the_mode_and_by_who_they_are) {
	if (geteuid() != 0) {
		harness_skip("only root can be another user");
	}
	struct stat stat;
	check_ok(lstat(f->address.sun_path, &stat));
	check_int(stat.st_mode, ==, S_IFSOCK | 0600);
	check(is_answered_as(f, 0));
	check(!is_answered_as(f, 1));
	// Even if the mode lets them in
	check_ok(chmod(getenv("XDG_RUNTIME_DIR"), 0755));
	check_ok(chmod(f->address.sun_path, 0666));
	check(!is_answered_as(f, 1));
	check(is_answered_as(f, 0));
}

/* The socket's file */

TEST_WITH(controlled, socket_that_another_process_listens_on_is_left_alone) {
	char error[CONTROL_ERROR_SIZE];
	check(!create_control(f, NAME, error));
	char expected[CONTROL_ERROR_SIZE];
	snprintf(expected, sizeof(expected), "no control socket at %s: Address already in use",
		f->address.sun_path);
	check_str(error, expected);
	check_alive(f);
}

TEST_WITH(controlled, socket_that_was_left_behind_is_replaced) {
	struct sockaddr_un address;
	check(control_path_get(&address, "stale"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check_ok(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	close(fd);
	char error[CONTROL_ERROR_SIZE] = "";
	check(create_control(f, "stale", error));
	fd = connect_to(&address);
	check_asked(f, fd, "{\"list\":true}\n", "{\"end\":true}");
	close(fd);
}

TEST_WITH(controlled, what_is_no_socket_is_not_replaced) {
	struct sockaddr_un address;
	char error[CONTROL_ERROR_SIZE];
	check(control_path_get(&address, "file"));
	int fd = open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	check(fd >= 0);
	close(fd);
	check(!create_control(f, "file", error));
	check(strstr(error, "Address already in use") != NULL);
	check_ok(unlink(address.sun_path));
	check_ok(symlink("elsewhere", address.sun_path));
	check(!create_control(f, "file", error));
	check_ok(unlink(address.sun_path));
}

TEST_WITH(controlled, another_ones_socket_is_not_removed_at_the_end) {
	check_ok(unlink(f->address.sun_path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check_ok(bind(fd, (struct sockaddr *)&f->address, sizeof(f->address)));
	server_crash(&f->server);
	check_ok(access(f->address.sun_path, F_OK));
	check_ok(unlink(f->address.sun_path));
	close(fd);
}

TEST_WITH(controlled, path_is_beside_the_wayland_socket) {
	struct sockaddr_un address;
	check(control_path_get(&address, "/run/x/wayland-7"));
	check_str(address.sun_path, "/run/x/vitrine-wayland-7.control");
	char expected[256];
	snprintf(expected, sizeof(expected), "%s/x/vitrine-wayland-7.control",
		getenv("XDG_RUNTIME_DIR"));
	check(control_path_get(&address, "x/wayland-7")); // as libwayland has it
	check_str(address.sun_path, expected);
	char name[200], error[CONTROL_ERROR_SIZE];
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	check(!create_control(f, name, error));
	check(strstr(error, "File name too long") != NULL);
	char *dir = strdup(getenv("XDG_RUNTIME_DIR"));
	unsetenv("XDG_RUNTIME_DIR");
	check(!create_control(f, "wayland-7", error));
	setenv("XDG_RUNTIME_DIR", dir, true);
	free(dir);
}

/* No memory */

TEST_WITH(controlled, each_allocation_that_fails_loses_a_connection_at_most) {
	test_session_start(f->client, ALL);
	check(output_paint(f->server.output, 0x112233, NULL));
	pump(&f->server);
	int n_fds = harness_count_fds();
	bool done = false;
	for (int n = 0; !done; n++) {
		int fd = connect_peer(f);
		say(fd, "{\"watch\":true}\n{\"list\":true}\nwhat\n");
		fail_at_call = n;
		const char *line;
		int n_lines = 0;
		while (n_lines < 4 && (line = hear(f, fd)) != NULL) {
			n_lines++;
		}
		done = fail_at_call >= 0; // none was left to fail
		fail_at_call = -1;
		check(done == (n_lines == 4));
		close(fd);
		pump(&f->server);
		check_int(harness_count_fds(), ==, n_fds);
	}
	char error[CONTROL_ERROR_SIZE];
	fail_at_call = 0;
	check(!create_control(f, "other", error));
	check_str(error, "no control socket at other: out of memory");
	fail_at_call = -1;
}
