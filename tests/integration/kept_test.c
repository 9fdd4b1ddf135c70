/* SPDX-License-Identifier: MIT */
/* What clients keep: how much of it there can be, and that it costs no other client. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "fixture.h"
#include "harness.h"
#include "manager.h"

#define ALL VITRINE_GUARANTEE_ALL
#define SEALED VITRINE_GUARANTEE_SEALED
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT
#define BUFFER ((uint64_t)64 * 48 * 4) // bytes
#define SET (4 * BUFFER) // of a swapchain

static struct vt_manager *get_manager(const struct fixture *f) {
	struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	return manager;
}

static uint64_t get_shared(const struct fixture *f) {
	return get_manager(f)->quotas.all.used[VT_QUOTA_SHARED_BYTES];
}

/** The cap holds at each time, whatever is reserved and kept. */
static void check_cap(const struct fixture *f) {
	check_int(get_shared(f), <=, f->server.manager->limits.shared_bytes.for_all);
}

static void skip_if_silent(void) {
	if (!harness_kernel_tells_pins()) {
		harness_skip("the kernel does not say what keeps pages");
	}
}

/* Clients of other processes: each has a process of its own, which does nothing */

struct holder {
	struct client *client;
	pid_t pid;
	int life_fd; // closed: the process ends
};

static void send_fd(int socket_fd, int fd) {
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(socket_fd, &message, 0) != 1) {
		_exit(1);
	}
}

static int receive_fd(int socket_fd) {
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control) };
	check_int(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), ==, 1);
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/** The process is that of the end that the compositor has: who made the pair of sockets. */
static void holder_init(struct holder *holder, struct server *server) {
	int sockets[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	holder->pid = fork();
	check(holder->pid >= 0);
	if (holder->pid == 0) {
		int connection[2];
		// Not even the ends that other holders' processes wait for
		if (dup2(sockets[1], 3) != 3 || close_range(4, ~0U, 0) != 0 ||
				socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection) != 0) {
			_exit(1);
		}
		send_fd(3, connection[0]);
		send_fd(3, connection[1]);
		close(connection[0]);
		close(connection[1]);
		char byte;
		_exit(read(3, &byte, 1) == 0 ? 0 : 1);
	}
	close(sockets[1]);
	holder->life_fd = sockets[0];
	int ends[2] = { receive_fd(sockets[0]), receive_fd(sockets[0]) };
	holder->client = client_create_between(server, ends[0], ends[1]);
}

static void holder_finish(struct holder *holder) {
	client_destroy(holder->client);
	close(holder->life_fd);
	int status;
	check_int(waitpid(holder->pid, &status, 0), ==, holder->pid);
	check_int(status, ==, 0);
}

/** Looks at two frames, and ends. What it keeps is the caller's. */
static bool look_and_end(struct fixture *f, struct holder *holder, uint32_t acceptable) {
	struct test_session *session = test_session_try(holder->client, acceptable);
	session->auto_release = true;
	for (uint32_t i = 0; i < 3; i++) {
		check(output_paint(f->server.output, fixture_color(rand() & 0xff), NULL));
		client_roundtrip(holder->client);
	}
	bool was_shared = !session->stopped && session->n_views > 0 &&
		session->views[0].guarantee != SNAPSHOT;
	test_session_end(session);
	client_roundtrip(holder->client);
	check_cap(f);
	return was_shared;
}

static void set_limits(struct fixture *f) {
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->shared_bytes = (struct vitrine_view_limit){ 32 * SET, 16 * SET, 4 * SET };
	limits->starts_per_holder.burst = limits->starts_per_group.burst = 1000;
}

TEST_WITH(fixture, what_is_closed_is_given_back) {
	skip_if_silent();
	set_limits(f);
	struct holder holder;
	holder_init(&holder, &f->server);
	check(look_and_end(f, &holder, ALL));
	check_int(get_shared(f), >, 0); // the fds are open
	holder_finish(&holder);
	fixture_paint(f, 1); // what a still screen shows again is not free
	pump_until(&f->server, get_shared(f) == 0);
}

/** A kernel that cannot tell what keeps pages: huge pages are off for this process. */
static size_t retire_unknown(struct fixture *f, uint32_t interval_ms) {
	check_ok(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	set_limits(f);
	f->server.manager->limits.unknown_interval_ms = interval_ms;
	struct holder holder;
	holder_init(&holder, &f->server);
	check(look_and_end(f, &holder, ALL));
	size_t n_pieces = (size_t)(get_shared(f) / BUFFER);
	check_int(n_pieces, >, 1);
	holder_finish(&holder);
	fixture_paint(f, 1);
	return n_pieces;
}

TEST_WITH(fixture, what_may_be_kept_is_given_back_slowly) {
	size_t n_pieces = retire_unknown(f, 20);
	for (size_t i = 1; i <= n_pieces; i++) { // one after the other
		pump_until(&f->server, get_shared(f) == (n_pieces - i) * BUFFER);
	}
}

TEST_WITH(fixture, what_may_be_kept_is_not_given_back_before_its_time) {
	size_t n_pieces = retire_unknown(f, 1000000000);
	const struct wl_list *unknown = &get_manager(f)->retired.unknown;
	pump_until(&f->server, (size_t)wl_list_length(unknown) == n_pieces);
	check_int(get_shared(f), ==, n_pieces * BUFFER);
}

/** B1: a byte of each buffer, and nothing else that leads to it. */
static void keep_a_byte(struct test_session *session, int pipe_fd) {
	for (uint32_t i = 0; i < session->n_views; i++) {
		loff_t offset = 4096;
		check_int(splice(session->views[i].fd, &offset, pipe_fd, NULL, 1, 0), ==, 1);
	}
}

TEST_WITH(fixture, bytes_in_a_pipe_keep_memory_counted) {
	skip_if_silent();
	set_limits(f);
	struct holder holder;
	holder_init(&holder, &f->server);
	int pipe_fds[2];
	check_ok(pipe2(pipe_fds, O_CLOEXEC));
	struct test_session *session = test_session_start(holder.client, ALL);
	session->auto_release = true;
	for (uint32_t i = 0; i < 4; i++) {
		fixture_paint(f, fixture_color(i));
	}
	uint32_t n_views = session->n_views;
	check_int(n_views, >, 1);
	keep_a_byte(session, pipe_fds[1]);
	test_session_close(session); // with all fds and mappings
	check_int(get_shared(f), ==, n_views * BUFFER);
	// Another one, which keeps nothing, shows when it has been looked at
	check(look_and_end(f, &holder, ALL));
	uint64_t both = get_shared(f);
	check_int(both, >, n_views * BUFFER);
	client_destroy_sessions(holder.client);
	fixture_paint(f, 1);
	pump_until(&f->server, get_shared(f) < both);
	for (int i = 0; i < 20; i++) { // and is looked at again
		pump(&f->server);
		poll(NULL, 0, 10);
		check_int(get_shared(f), >=, n_views * BUFFER);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	pump_until(&f->server, get_shared(f) == 0);
	holder_finish(&holder);
}

TEST_WITH(fixture, bytes_in_pipes_are_bounded) {
	set_limits(f);
	struct holder holder;
	holder_init(&holder, &f->server);
	int pipe_fds[2];
	check_ok(pipe2(pipe_fds, O_CLOEXEC));
	fcntl(pipe_fds[1], F_SETPIPE_SZ, 256 * 4096);
	uint32_t n_shared = 0;
	for (uint32_t i = 0; i < 24; i++) {
		struct test_session *session = test_session_try(holder.client, ALL);
		session->auto_release = true;
		for (uint32_t j = 0; j < 3; j++) {
			check(output_paint(f->server.output, fixture_color(3 * i + j), NULL));
			client_roundtrip(holder.client);
		}
		if (!session->stopped && session->n_views > 0 && session->views[0].guarantee != SNAPSHOT) {
			keep_a_byte(session, pipe_fds[1]);
			n_shared++;
		}
		test_session_close(session);
		check_cap(f);
	}
	check_int(n_shared, >, 1); // the attack works until the holder has its share
	check_int(n_shared, <, 24);
	// Its share, and what its last session was shown
	check_int(get_shared(f), <=, f->server.manager->limits.shared_bytes.per_holder + SET);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	holder_finish(&holder);
}

TEST_PARAMS(fixture, other_caps, bool is_of_fds) = {
	{ "pieces" },
	{ "file descriptors", .is_of_fds = true },
};

/** Memory may be small: it is not only bytes that count. */
TEST_WITH_EACH(fixture, other_caps, what_is_kept_is_bounded_also_by) {
	set_limits(f);
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	struct vitrine_view_limit *limit = param->is_of_fds ? &limits->fds : &limits->shared_pieces;
	*limit = (struct vitrine_view_limit){ 24, 24, 24 };
	const uint64_t *used = &get_manager(f)->quotas.all.used[param->is_of_fds ? VT_QUOTA_FDS :
		VT_QUOTA_SHARED_PIECES];
	limits->shared_bytes = (struct vitrine_view_limit){ 1000 * SET, 1000 * SET, 1000 * SET };
	limits->private_bytes.per_holder = 0; // else it goes on with copies, which cost these too
	struct holder holder;
	holder_init(&holder, &f->server);
	check(look_and_end(f, &holder, ALL)); // the positive case
	uint32_t n_shared = 1;
	for (uint32_t i = 1; i < 24; i++) {
		n_shared += look_and_end(f, &holder, ALL); // with file descriptors that it keeps
		check_int(*used, <=, 24);
	}
	check_int(*used, >, 0);
	check_int(n_shared, <, 24);
	holder_finish(&holder);
}

TEST_WITH(fixture, what_holders_of_a_group_keep_is_bounded_together) {
	set_limits(f);
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->shared_bytes = (struct vitrine_view_limit){ 1000 * SET, 4 * SET, 1000 * SET };
	struct holder holders[2];
	for (size_t i = 0; i < 2; i++) {
		holder_init(&holders[i], &f->server);
		check(look_and_end(f, &holders[i], ALL)); // the positive case
	}
	uint32_t n_shared = 2;
	for (uint32_t i = 2; i < 24; i++) {
		n_shared += look_and_end(f, &holders[i % 2], ALL); // with file descriptors that it keeps
	}
	check_int(n_shared, <, 24);
	// Their share, and what the last session was shown
	check_int(get_shared(f), <=, limits->shared_bytes.per_group + SET);
	for (size_t i = 0; i < 2; i++) {
		holder_finish(&holders[i]);
	}
}

/* B2: what two holders keep costs a third one nothing */

TEST_PARAMS(fixture, honest, uint32_t acceptable) = {
	{ "with copies", .acceptable = ALL },
	{ "without copies", .acceptable = SEALED },
};

TEST_WITH_EACH(fixture, honest, session_goes_on_whatever_others_keep) {
	set_limits(f);
	f->server.output->repaint = true;
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	// No share of theirs saves the one that is honest: they can take all there is
	limits->shared_bytes = (struct vitrine_view_limit){ 8 * SET, 1000 * SET, 1000 * SET };
	struct test_session *session = test_session_start_reader(f->client, param->acceptable);
	fixture_paint(f, 1);
	check_int(session->n_frames, >, 0);
	struct holder holders[2];
	for (size_t i = 0; i < 2; i++) {
		holder_init(&holders[i], &f->server);
	}
	uint32_t n_refused = 0;
	for (uint32_t i = 0; i < 60; i++) {
		n_refused += !look_and_end(f, &holders[i % 2], ALL);
		uint32_t n_frames = session->n_frames;
		fixture_paint(f, fixture_color(i));
		client_roundtrip(f->client);
		check(!session->stopped);
		pump_until(&f->server, session->n_frames > n_frames &&
			test_session_get_pixel(session, 1, 1) == f->server.output->color);
	}
	check_int(n_refused, >, 0); // all was taken
	check(!session->stopped);
	for (size_t i = 0; i < 2; i++) {
		holder_finish(&holders[i]);
	}
}

/** What remains: copies of its own are what others of its user can have taken as well. */
TEST_WITH(fixture, session_ends_if_its_group_has_neither_room_nor_copies_left) {
	set_limits(f);
	f->server.output->repaint = true;
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->copiers.per_group = 1;
	struct test_session *session = test_session_start_reader(f->client, ALL);
	fixture_paint(f, 1);
	struct holder holder;
	holder_init(&holder, &f->server);
	limits->shared_bytes = (struct vitrine_view_limit){ 0, 1000 * SET, 1000 * SET };
	struct test_session *copies = test_session_start_reader(holder.client, ALL);
	fixture_paint(f, 2);
	client_roundtrip(holder.client);
	check_int(copies->views[0].guarantee, ==, SNAPSHOT);
	limits->shared_bytes.for_all = 8 * SET;
	for (uint32_t i = 0; i < 60 && !session->stopped; i++) {
		look_and_end(f, &holder, ALL);
		client_roundtrip(f->client);
	}
	test_session_check_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
	holder_finish(&holder);
}

/** Which memory a view is of. */
static ino_t get_inode(const struct test_session *session, uint32_t index) {
	struct stat st;
	check_ok(fstat(session->views[index].fd, &st));
	return st.st_ino;
}

static bool shares_memory(const struct test_session *a, const struct test_session *b) {
	bool shares = false;
	for (uint32_t i = 0; i < a->n_views; i++) {
		for (uint32_t j = 0; j < b->n_views; j++) {
			shares |= get_inode(a, i) == get_inode(b, j);
		}
	}
	return shares;
}

TEST_WITH(fixture, copies_beyond_the_budget_are_for_one_holder_alone) {
	set_limits(f);
	f->server.output->repaint = true;
	f->server.manager->limits.shared_bytes.for_all = 0;
	struct holder other;
	holder_init(&other, &f->server);
	struct test_session *ours[2], *others;
	ours[0] = test_session_start_reader(f->client, ALL);
	ours[1] = test_session_start_reader(f->client, SNAPSHOT);
	others = test_session_start_reader(other.client, ALL);
	for (uint32_t i = 0; i < 4; i++) {
		fixture_paint(f, fixture_color(i));
		client_roundtrip(other.client);
		pump_until(&f->server, ours[0]->n_frames > i && ours[1]->n_frames > i &&
			others->n_frames > i);
	}
	check_int(ours[0]->views[0].guarantee, ==, SNAPSHOT);
	check(shares_memory(ours[0], ours[1]));
	check(!shares_memory(ours[0], others));
	check_int(get_shared(f), ==, 0);
	pump_until(&f->server, test_session_get_pixel(others, 1, 1) == f->server.output->color);
	// "shows it nothing new once its session has ended"
	uint32_t n_retired = ours[1]->n_retired;
	test_session_end(ours[0]);
	client_roundtrip(f->client);
	check_int(ours[1]->n_retired, >, n_retired);
	fixture_check_unchanged(f, ours[0]);
	holder_finish(&other);
}

TEST_WITH(fixture, holder_without_room_of_its_own_is_refused) {
	set_limits(f);
	f->server.output->repaint = true;
	f->server.manager->limits.shared_bytes.for_all = 0;
	struct test_session *session = test_session_start_reader(f->client, ALL);
	fixture_paint(f, 1);
	check(!session->stopped); // the positive case
	test_session_close(session);
	f->server.manager->limits.private_bytes.per_holder = SET - 1;
	session = test_session_try(f->client, ALL);
	fixture_paint(f, 2);
	pump_until(&f->server, session->stopped);
	test_session_check_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
}

/** One that takes no copies is refused at its start, rather than stopped later. */
TEST_WITH(fixture, session_without_copies_has_a_reserve_or_does_not_start) {
	set_limits(f);
	f->server.output->repaint = true;
	f->server.manager->limits.shared_bytes.for_all = 2 * SET;
	struct test_session *session = test_session_start_reader(f->client, SEALED);
	fixture_paint(f, 1);
	check(!session->stopped && session->n_frames > 0);
	check_int(get_shared(f), ==, 2 * SET); // the stream's, and its own
	struct test_session *other = test_session_try(f->client, SEALED);
	fixture_paint(f, 2);
	pump_until(&f->server, other->stopped);
	test_session_check_stop(other, VITRINE_VIEW_STOP_NO_RESOURCES);
	test_session_close(session);
	test_session_close(other);
	f->server.manager->limits.shared_bytes.for_all = 3 * SET;
	session = test_session_start_reader(f->client, SEALED);
	fixture_paint(f, 3);
	check(!session->stopped);
}

/* "A screen is seen whatever its size" */

TEST_PARAMS(fixture, large_screens, uint32_t acceptable; bool moves; bool is_same_holder) = {
	{ "that stands still", .acceptable = ALL },
	{ "that moves", .acceptable = ALL, .moves = true },
	{ "that stands still, without copies", .acceptable = SEALED },
	{ "that moves, without copies", .acceptable = SEALED, .moves = true },
	{ "that stands still, from the same process", .acceptable = ALL, .is_same_holder = true },
	{ "that stands still, as a copy", .acceptable = SNAPSHOT },
};

/** The limits are for less than one buffer: a session has what the screen's size allows alone. */
static void set_tiny_limits(struct fixture *f) {
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->shared_bytes = (struct vitrine_view_limit){ BUFFER - 1, BUFFER - 2, BUFFER - 3 };
	limits->private_bytes = (struct vitrine_view_limit){ 0 };
	limits->shared_sets = (struct vitrine_view_limit){ 3, 2, 1 };
	limits->unknown_interval_ms = 0; // where the kernel does not tell what is free
}

static void need_frames(struct fixture *f, struct test_session *session, struct client *client,
		bool moves) {
	client_roundtrip(client);
	for (uint32_t i = 1; i <= 5 && moves; i++) {
		check(output_paint(f->server.output, fixture_color(rand() & 0xff), NULL));
		client_roundtrip(client);
		check(!session->stopped);
	}
	pump_until(&f->server, session->stopped || session->n_frames >= (moves ? 5 : 1));
	check(!session->stopped);
}

/** Of a still screen there may be others that keep what they were shown. */
static void end_both(struct fixture *f, struct test_session *a, struct test_session *b, bool keep) {
	(keep ? test_session_end : test_session_close)(a);
	(keep ? test_session_end : test_session_close)(b);
	pump_until(&f->server, wl_list_empty(&get_manager(f)->sessions));
	if (!keep) {
		fixture_paint(f, 1); // what a still screen shows again is not free
		pump_until(&f->server, get_shared(f) == 0);
	}
}

TEST_WITH_EACH(fixture, large_screens, second_client_sees_a_screen_beyond_the_limits) {
	f->server.output->repaint = true;
	set_tiny_limits(f);
	struct holder holder;
	holder_init(&holder, &f->server);
	struct client *other = param->is_same_holder ? f->client : holder.client;
	struct test_session *first = test_session_start_reader(f->client, param->acceptable);
	need_frames(f, first, f->client, param->moves);
	struct test_session *beside = test_session_start_reader(other, param->acceptable);
	need_frames(f, beside, other, param->moves);
	end_both(f, first, beside, !param->moves);
	struct test_session *second = test_session_start_reader(other, param->acceptable);
	need_frames(f, second, other, param->moves);
	check_int(get_shared(f), <=, 3 * SET);
	holder_finish(&holder);
}

/** What a hostile one keeps is bounded by the screen: by as many sets of its buffers. */
TEST_WITH(fixture, what_is_kept_of_a_screen_beyond_the_limits_is_bounded) {
	f->server.output->repaint = true;
	set_tiny_limits(f);
	uint32_t n_shared = 0;
	struct holder holders[8];
	for (uint32_t i = 0; i < 8; i++) {
		holder_init(&holders[i], &f->server);
		struct test_session *session = test_session_try(holders[i].client, ALL);
		session->auto_release = true;
		for (uint32_t j = 0; j < 4; j++) {
			check(output_paint(f->server.output, fixture_color(rand() & 0xff), NULL));
			client_roundtrip(holders[i].client);
		}
		n_shared += !session->stopped && session->n_views > 0;
		test_session_end(session);
		client_roundtrip(holders[i].client);
		check_int(get_shared(f), <=, 3 * SET);
	}
	check_int(n_shared, >, 1);
	check_int(n_shared, <, 8);
	for (uint32_t i = 0; i < 8; i++) {
		holder_finish(&holders[i]);
	}
}

TEST_PARAMS(fixture, newcomers, bool comes_another) = {
	{ "alone" },
	{ "with a newcomer", .comes_another = true },
};

/** What a session reserved at its start is too little once the output has grown fourfold. */
TEST_WITH_EACH(fixture, newcomers, session_without_copies_goes_on_in_a_larger_mode_if_there_is_room) {
	set_limits(f);
	struct vitrine_view_limits *limits = &f->server.manager->limits;
	limits->shared_bytes = (struct vitrine_view_limit){ 3 * SET, 1000 * SET, 1000 * SET };
	struct test_session *session = test_session_start_reader(f->client, SEALED);
	struct test_session *other = test_session_start_reader(f->client, SEALED);
	fixture_paint(f, 1);
	test_session_end(other); // what it was shown takes the room of what the stream reserves
	client_roundtrip(f->client);
	check(!session->stopped);
	check_cap(f);
	limits->shared_bytes.for_all = 1000 * SET;
	uint32_t n_frames = session->n_frames;
	if (param->comes_another) {
		other = test_session_try(f->client, SEALED);
	}
	for (uint32_t i = 0; i < 3; i++) {
		check(output_paint_mode(f->server.output, 256, 200, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	check(!session->stopped);
	check_int(session->n_frames, >, n_frames);
	if (param->comes_another) {
		check(!other->stopped);
		check_int(other->n_frames, >, 0);
	}
}

/** An end costs those that stay no more than what the other one knew. */
TEST_WITH(fixture, what_a_session_was_not_shown_does_not_retire_with_it) {
	struct test_session *session = test_session_start_reader(f->client, ALL);
	for (uint32_t i = 0; i < 4; i++) {
		fixture_paint(f, fixture_color(i));
	}
	check_int(session->n_views, >, 1);
	struct test_session *other = test_session_start(f->client, ALL); // sees the newest frame
	check_int(other->n_views, ==, 1);
	test_session_end(other);
	client_roundtrip(f->client);
	check_int(session->n_retired, ==, 1);
	fixture_check_unchanged(f, other);
	// The others are drawn to, and all that it knew before it saw them go on
	check_int(session->n_retired, ==, 1);
}

/** Memory that a still screen shows again may have been closed by all that had it before. */
TEST_WITH(fixture, what_a_still_screen_shows_again_goes_on_to_count) {
	skip_if_silent();
	set_limits(f);
	struct holder holder;
	holder_init(&holder, &f->server);
	struct test_session *session = test_session_start(f->client, ALL);
	fixture_paint(f, 1);
	check_int(session->n_views, ==, 1);
	ino_t inode = get_inode(session, 0);
	test_session_close(session);
	for (int i = 0; i < 30; i++) { // until it has been looked at
		pump(&f->server);
		poll(NULL, 0, 10);
	}
	session = test_session_start(holder.client, ALL);
	client_roundtrip(holder.client);
	check_int(session->n_views, ==, 1);
	check(get_inode(session, 0) == inode);
	test_session_end(session); // with a file descriptor that it keeps
	client_roundtrip(holder.client);
	fixture_paint(f, 2);
	for (int i = 0; i < 30; i++) {
		pump(&f->server);
		poll(NULL, 0, 10);
		check_int(get_shared(f), ==, BUFFER);
	}
	holder_finish(&holder);
	pump_until(&f->server, get_shared(f) == 0);
}
