/* SPDX-License-Identifier: MIT */
/* What the clients of several processes cost, together and each. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "manager.h"

#define ALL VITRINE_GUARANTEE_ALL
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

/** A process that has connected, and passes its socket on: to this one. */
struct process {
	pid_t pid;
	struct client *client;
};

/** In a child, which has nothing of ours: memory would seem to be held by it. */
static void connect_and_pass(int channel) {
	int fds[2];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(channel, 3) != 3 || syscall(SYS_close_range, 4, ~0U, 0) != 0 ||
			socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
		return;
	}
	char byte = 0, control[CMSG_SPACE(sizeof(fds))] = { 0 };
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	(void)!sendmsg(3, &msg, MSG_NOSIGNAL);
	close(fds[0]);
	close(fds[1]);
}

static void receive_fds(int channel, int fds[static 2]) {
	char byte, control[CMSG_SPACE(2 * sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	check_int(recvmsg(channel, &msg, MSG_CMSG_CLOEXEC), ==, 1);
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	check(cmsg != NULL && cmsg->cmsg_len == CMSG_LEN(2 * sizeof(int)));
	memcpy(fds, CMSG_DATA(cmsg), 2 * sizeof(int));
}

static void process_end(struct process *process) {
	if (process->pid > 0) {
		check_ok(kill(process->pid, SIGKILL));
		check_int(waitpid(process->pid, NULL, 0), ==, process->pid);
		process->pid = 0;
	}
}

/** Connects a client of a new process, which lives until it is ended. */
static void process_start(struct process *process, struct server *server) {
	int channel[2], fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel));
	process->pid = fork();
	check(process->pid >= 0);
	if (process->pid == 0) {
		connect_and_pass(channel[1]);
		pause();
		_exit(1);
	}
	close(channel[1]);
	receive_fds(channel[0], fds);
	close(channel[0]);
	struct wl_client *wl_client = wl_client_create(server->display, fds[0]);
	check(wl_client != NULL);
	process->client = client_create_on(server, fds[1]);
}

/** One that is gone by the time that its client asks for anything. */
static void process_start_and_end(struct process *process, struct server *server) {
	process_start(process, server);
	process_end(process);
}

static struct vt_manager *get_manager(struct fixture *f) {
	struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	return manager;
}

/** Opens so many sessions. Returns how many of them run. */
static int open_sessions(struct process *process, struct test_session **sessions, int n) {
	for (int i = 0; i < n; i++) {
		sessions[i] = test_session_create(process->client, 0, ALL);
	}
	client_roundtrip(process->client);
	int n_running = 0;
	for (int i = 0; i < n; i++) {
		n_running += !sessions[i]->stopped;
	}
	return n_running;
}

static int count_running(struct test_session **sessions, int n) {
	int n_running = 0;
	for (int i = 0; i < n; i++) {
		client_roundtrip(sessions[i]->client);
		n_running += !sessions[i]->stopped;
	}
	return n_running;
}

TEST_WITH(fixture, processes_have_a_quota_each, .acceptable = SNAPSHOT, .auto_release = true) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 32, 16, 4 };
	struct process processes[3];
	struct test_session *sessions[3][5];
	for (int i = 0; i < 3; i++) {
		process_start(&processes[i], &f->server);
		check_int(open_sessions(&processes[i], sessions[i], 5), ==, 4);
		test_session_check_stop(sessions[i][4], VITRINE_VIEW_STOP_NO_RESOURCES);
	}
	check_int(get_manager(f)->quotas.all.used[VT_QUOTA_OBJECTS], ==, 13);
	fixture_show(f, f->session, 0x112233);
	for (int i = 0; i < 3; i++) {
		process_end(&processes[i]);
	}
}

TEST_WITH(fixture, connecting_again_is_no_new_quota) {
	f->server.manager->limits.objects.per_holder = 4;
	struct client *second = client_create(&f->server); // of this process as well
	for (int i = 0; i < 4; i++) {
		check(!test_session_try(i % 2 == 0 ? f->client : second, ALL)->stopped);
	}
	check(test_session_try(second, ALL)->stopped);
}

/** As many as there would be of two, and then some. */
#define N_PASSED 71

TEST_WITH(fixture, clients_whose_process_has_ended_are_one_holder,
		.acceptable = SNAPSHOT, .auto_release = true) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 512, 256, 4 };
	struct process processes[N_PASSED];
	struct test_session *sessions[N_PASSED];
	// Those that live have all that they ask for
	for (int i = 0; i < N_PASSED; i++) {
		process_start(&processes[i], &f->server);
		check_int(open_sessions(&processes[i], &sessions[i], 1), ==, 1);
	}
	check_int(count_running(sessions, N_PASSED), ==, N_PASSED);
	fixture_show(f, f->session, 0x112233);
	for (int i = 0; i < N_PASSED; i++) {
		test_session_destroy(sessions[i]);
		process_end(&processes[i]);
	}
	// The attack: a child connects, passes the socket on and ends. It has no more than one
	for (int i = 0; i < N_PASSED; i++) {
		open_sessions(&processes[i], &sessions[i], 1);
		fixture_show(f, f->session, fixture_color((uint32_t)i));
	}
	check_int(count_running(sessions, N_PASSED), ==, 4);
	check_int(get_manager(f)->quotas.all.used[VT_QUOTA_OBJECTS], ==, 1 + 4);
}

TEST_WITH(fixture, what_a_process_has_left_behind_stays_charged_to_it) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 32, 16, 4 };
	struct process processes[2];
	struct test_session *sessions[2][8];
	process_start(&processes[0], &f->server);
	check_int(open_sessions(&processes[0], sessions[0], 4), ==, 4);
	process_end(&processes[0]);
	// It is another holder from now on, which it shares
	check_int(open_sessions(&processes[0], sessions[0] + 4, 2), ==, 2);
	process_start_and_end(&processes[1], &f->server);
	check_int(open_sessions(&processes[1], sessions[1], 4), ==, 2);
	struct vt_manager *manager = get_manager(f);
	check_int(manager->quotas.all.used[VT_QUOTA_OBJECTS], ==, 8);
	client_destroy(processes[0].client);
	check_int(manager->quotas.all.used[VT_QUOTA_OBJECTS], ==, 2);
}

TEST_WITH(fixture, largest_holder_makes_room_for_a_newcomer) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 32, 12, 8 };
	struct process processes[3];
	struct test_session *sessions[3][8];
	for (int i = 0; i < 3; i++) {
		process_start(&processes[i], &f->server);
	}
	check_int(open_sessions(&processes[0], sessions[0], 4), ==, 4);
	check_int(open_sessions(&processes[1], sessions[1], 8), ==, 8); // the group has no more
	check_int(open_sessions(&processes[2], sessions[2], 4), ==, 3);
	client_roundtrip(processes[1].client);
	for (int i = 0; i < 8; i++) { // its newest ones have ended
		check_int(sessions[1][i]->stopped, ==, i >= 5);
	}
	test_session_check_stop(sessions[1][7], VITRINE_VIEW_STOP_NO_RESOURCES);
	check_int(count_running(sessions[0], 4), ==, 4);
	for (int i = 0; i < 3; i++) {
		process_end(&processes[i]);
	}
}

TEST_WITH(fixture, holder_of_a_few_sessions_never_pays) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 64, 11, 32 };
	struct test_session *ours[3];
	for (int i = 0; i < 3; i++) {
		ours[i] = test_session_start(f->client, ALL);
	}
	// Processes of one session each leave it the largest
	struct process processes[12];
	struct test_session *sessions[12];
	int n_running = 0;
	for (int i = 0; i < 12; i++) {
		process_start(&processes[i], &f->server);
		n_running += open_sessions(&processes[i], &sessions[i], 1);
	}
	check_int(n_running, ==, 8);
	check_int(count_running(ours, 3), ==, 3);
	for (int i = 0; i < 12; i++) {
		process_end(&processes[i]);
	}
}

TEST_WITH(fixture, sessions_that_have_not_started_are_given_up_as_well) {
	f->server.manager->limits.objects = (struct vitrine_view_limit){ 32, 8, 8 };
	struct process processes[2];
	process_start(&processes[0], &f->server);
	process_start(&processes[1], &f->server);
	struct ext_image_capture_source_v1 *source = client_get_source(processes[0].client, 0);
	struct test_session *unstarted[8], *session;
	for (int i = 0; i < 8; i++) {
		unstarted[i] = test_session_create_unstarted(processes[0].client, source);
	}
	client_roundtrip(processes[0].client);
	check_int(count_running(unstarted, 8), ==, 8);
	check_int(open_sessions(&processes[1], &session, 1), ==, 1);
	check_int(count_running(unstarted, 8), ==, 7);
	test_session_check_stop(unstarted[7], VITRINE_VIEW_STOP_NO_RESOURCES);
	ext_image_capture_source_v1_destroy(source);
	process_end(&processes[0]);
	process_end(&processes[1]);
}

TEST_WITH(fixture, newcomer_waits_for_one_turn_of_each_other_process) {
	f->server.manager->limits.starts_per_group = (struct vitrine_view_rate){ 4, 20 };
	pump(&f->server);
	struct process processes[2];
	struct test_session *sessions[2][8];
	for (int i = 0; i < 2; i++) {
		process_start(&processes[i], &f->server);
	}
	for (int i = 0; i < 2; i++) {
		open_sessions(&processes[i], sessions[i], 8);
	}
	uint32_t n_started = f->server.sessions_started;
	check_int(n_started, <, 8); // the others wait
	struct test_session *newcomer = test_session_create(f->client, 0, ALL);
	pump_until(&f->server, newcomer->n_depth_events == 1);
	check_int(f->server.sessions_started - n_started, <=, 3);
	check_int(f->server.sessions_started, <, 16);
	for (int i = 0; i < 2; i++) {
		process_end(&processes[i]);
	}
}

/* What creating costs */

static int64_t entered_ns, server_ns;

/** Adds up what the compositor takes, and not what its clients do. */
static void measure_server(bool enter) {
	if (enter) {
		entered_ns = vt_now_ns();
	} else {
		server_ns += vt_now_ns() - entered_ns;
	}
}

/** To create 32 sessions and start them; the least of several times. */
static int64_t measure_creation(struct client *client) {
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	int64_t least = INT64_MAX;
	for (int i = 0; i < 9; i++) {
		struct test_session *sessions[32];
		client_roundtrip(client);
		server_ns = 0;
		fixture_enter_server = measure_server;
		for (int j = 0; j < 32; j++) {
			sessions[j] = test_session_create_for(client, source, 0, ALL);
		}
		client_roundtrip(client);
		fixture_enter_server = NULL;
		least = server_ns < least ? server_ns : least;
		for (int j = 0; j < 32; j++) {
			test_session_destroy(sessions[j]);
		}
	}
	ext_image_capture_source_v1_destroy(source);
	return least;
}

#define KEPT 254

TEST_WITH(fixture, creation_costs_the_same_whatever_is_kept) {
	int64_t before = measure_creation(f->client);
	// A client that sees a frame, ends, and closes nothing
	struct vt_manager *manager = get_manager(f);
	for (uint32_t i = 0; manager->quotas.all.used[VT_QUOTA_SHARED_PIECES] < KEPT; i++) {
		check_int(i, <, 4 * KEPT);
		struct test_session *session = test_session_start(f->client, ALL);
		fixture_paint(f, fixture_color(i));
		test_session_end(session);
		client_roundtrip(f->client);
	}
	int64_t after = measure_creation(f->client);
	// And if it is more than the client may keep
	f->server.manager->limits.shared_pieces.per_holder = KEPT / 2;
	int64_t beyond = measure_creation(f->client);
	check_int(manager->quotas.all.used[VT_QUOTA_SHARED_PIECES], >=, KEPT);
	printf("# 32 sessions: %d us, %d us with %d pieces kept, %d us if that is too many\n",
		(int)(before / 1000), (int)(after / 1000), KEPT, (int)(beyond / 1000));
	check_int(after, <=, 2 * before);
	check_int(beyond, <=, 2 * before);
}
