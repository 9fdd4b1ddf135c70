/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "harness.h"

/** A display without any global, and the clients that it has. */
struct display_fixture {
	struct wl_display *display;
	struct vt_client_registry registry;
	int listen_fd;
	struct sockaddr_un address;
};

struct display_fixture_options {
	bool is_late; // the registry is, see add_registry()
};

static void add_registry(struct display_fixture *f) {
	vt_client_registry_init(&f->registry, f->display);
}

static void display_fixture_set_up(struct display_fixture *f, const struct display_fixture_options *options) {
	f->display = wl_display_create();
	check(f->display != NULL);
	f->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(f->address.sun_path, sizeof(f->address.sun_path), "%s/identity",
		getenv("XDG_RUNTIME_DIR"));
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(f->listen_fd >= 0);
	check_ok(bind(f->listen_fd, (struct sockaddr *)&f->address, sizeof(f->address)));
	check_ok(listen(f->listen_fd, 8));
	if (!options->is_late) {
		add_registry(f);
	}
}

static void display_fixture_tear_down(struct display_fixture *f) {
	wl_display_destroy_clients(f->display);
	vt_client_registry_finish(&f->registry);
	wl_display_destroy(f->display);
	close(f->listen_fd);
}

/** A process that connects the socket it is given, and lives until it is killed. */
static pid_t start_connector(const struct display_fixture *f, int fd) {
	int done[2];
	check_ok(pipe(done));
	pid_t pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "connector");
		if (connect(fd, (const struct sockaddr *)&f->address, sizeof(f->address)) == 0) {
			(void)!write(done[1], "", 1);
		}
		pause();
		_exit(1);
	}
	char byte;
	check_int(read(done[0], &byte, 1), ==, 1);
	close(done[0]);
	close(done[1]);
	return pid;
}

static void kill_and_reap(pid_t pid) {
	check_ok(kill(pid, SIGKILL));
	check_int(waitpid(pid, NULL, 0), ==, pid);
}

static int open_socket(void) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(fd >= 0);
	return fd;
}

static struct wl_client *accept_client(struct display_fixture *f) {
	int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	check(fd >= 0);
	struct wl_client *client = wl_client_create(f->display, fd);
	check(client != NULL);
	return client;
}

static struct wl_client *create_own_client(struct display_fixture *f, int *other_end) {
	int fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	*other_end = fds[1];
	struct wl_client *client = wl_client_create(f->display, fds[0]);
	check(client != NULL);
	return client;
}

TEST_WITH(display_fixture, process_that_connected_is_known_by_all_its_names) {
	int fd = open_socket();
	pid_t pid = start_connector(f, fd);
	struct vt_client *client = vt_client_get(&f->registry, accept_client(f));
	check_int(client->identity.pid, ==, pid);
	check_int(client->identity.uid, ==, getuid());
	check_str(client->identity.comm, "connector");
	char path[PATH_MAX] = { 0 };
	check(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	check_str(client->identity.executable, path);
	check(client->process != NULL && vt_process_is_alive(client->process));
	kill_and_reap(pid);
	close(fd);
}

TEST_WITH(display_fixture, passed_socket_is_still_of_the_process_that_connected_it) {
	int fd = open_socket();
	pid_t pid = start_connector(f, fd); // this process has the socket as well
	struct vt_client *client = vt_client_get(&f->registry, accept_client(f));
	check(vt_process_is_alive(client->process));
	check_ok(kill(pid, SIGKILL));
	siginfo_t info;
	check_ok(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	check(!vt_process_is_alive(client->process)); // not even a zombie is
	check_int(waitpid(pid, NULL, 0), ==, pid);
	check(!vt_process_is_alive(client->process));
	check_str(client->identity.comm, "connector"); // as it was
	close(fd);
}

TEST_WITH(display_fixture, process_that_is_gone_when_it_is_accepted_has_a_number_alone) {
	int fd = open_socket();
	pid_t pid = start_connector(f, fd);
	kill_and_reap(pid);
	struct vt_client *client = vt_client_get(&f->registry, accept_client(f));
	check_int(client->identity.pid, ==, pid);
	check(client->process == NULL);
	check_str(client->identity.comm, "");
	check(client->identity.executable == NULL);
	close(fd);
}

TEST_WITH(display_fixture, connections_of_a_process_share_it) {
	int fds[3];
	struct vt_client *clients[3];
	for (size_t i = 0; i < 2; i++) {
		clients[i] = vt_client_get(&f->registry, create_own_client(f, &fds[i]));
	}
	check(clients[0]->process == clients[1]->process);
	int fd = open_socket();
	pid_t pid = start_connector(f, fd);
	clients[2] = vt_client_get(&f->registry, accept_client(f));
	check(clients[2]->process != clients[0]->process);
	kill_and_reap(pid);
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

TEST_WITH(display_fixture, process_with_a_reference_is_known_again) {
	int fd;
	struct wl_client *wl_client = create_own_client(f, &fd);
	struct vt_process *process = vt_client_get(&f->registry, wl_client)->process;
	process = vt_process_ref(process);
	wl_client_destroy(wl_client);
	close(fd);
	struct vt_client *client = vt_client_get(&f->registry, create_own_client(f, &fd));
	check(client->process == process);
	vt_process_unref(process);
	close(fd);
}

TEST_WITH(display_fixture, process_is_forgotten_with_its_last_connection) {
	int fd;
	struct wl_client *wl_client = create_own_client(f, &fd);
	check(!wl_list_empty(&f->registry.processes)); // else the next would prove nothing
	wl_client_destroy(wl_client);
	check(wl_list_empty(&f->registry.processes) && wl_list_empty(&f->registry.clients));
	close(fd);
}

TEST_WITH(display_fixture, client_with_a_reference_outlives_its_connection_and_the_display) {
	int fd;
	struct wl_client *wl_client = create_own_client(f, &fd);
	struct vt_client *client = vt_client_ref(vt_client_get(&f->registry, wl_client));
	wl_client_destroy(wl_client);
	check(client->wl_client == NULL);
	check_str(client->identity.comm, "client_identity");
	display_fixture_tear_down(f);
	check_int(client->identity.pid, ==, getpid());
	vt_client_unref(client);
	unlink(f->address.sun_path);
	display_fixture_set_up(f, &(struct display_fixture_options){ 0 });
	close(fd);
}

TEST_WITH(display_fixture, client_that_was_there_before_is_known_at_its_first_request,
		.is_late = true) {
	int fd;
	struct wl_client *wl_client = create_own_client(f, &fd);
	add_registry(f);
	struct vt_client *client = vt_client_get(&f->registry, wl_client);
	check_int(client->identity.pid, ==, getpid());
	check(vt_client_get(&f->registry, wl_client) == client);
	close(fd);
}

/** What a compositor in a pid namespace of its own knows of a client outside. */
static int look_from_inside(struct display_fixture *f, int take_fd) {
	struct wl_client *wl_client = wl_client_create(f->display, take_fd);
	struct vt_client *client = vt_client_get(&f->registry, wl_client);
	return client->identity.pid == 0 && client->process == NULL &&
		client->identity.comm[0] == '\0' && client->identity.executable == NULL ? 0 : 254;
}

/** The same, in such a namespace. Returns the errno of making it, or the above. */
static int look_from_namespace(struct display_fixture *f, int take_fd) {
	if (unshare(CLONE_NEWPID) != 0) {
		return errno;
	}
	pid_t pid = fork(); // is 1 in there
	if (pid == 0) {
		_exit(look_from_inside(f, take_fd));
	}
	int status;
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ?
		WEXITSTATUS(status) : 255;
}

TEST_WITH(display_fixture, client_outside_of_our_pid_namespace_has_no_number) {
	int fds[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	pid_t pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		_exit(look_from_namespace(f, fds[0]));
	}
	int status;
	check_int(waitpid(pid, &status, 0), ==, pid);
	check(WIFEXITED(status));
	if (WEXITSTATUS(status) == EPERM) {
		harness_skip("needs a pid namespace");
	}
	check_int(WEXITSTATUS(status), ==, 0);
	close(fds[0]);
	close(fds[1]);
}
