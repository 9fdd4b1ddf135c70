/* SPDX-License-Identifier: MIT */
/*
 * A client that dies or is stopped at any step of the protocol: each request that it has
 * sent, each event that has come. An honest client gets all of its frames, and what the
 * compositor had for the other one goes.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "fixture.h"
#include "harness.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL
#define STEPS_CAP 400
#define STEP_SIZE 96

extern char **environ;

/** A victim, see victim.c, and what it has told. */
struct victim {
	pid_t pid;
	int stdout_fd;
	struct wl_client *wl_client; // NULL once the compositor has let it go
	struct wl_listener destroy;
	char buffer[4096];
	size_t len;
	char (*steps)[STEP_SIZE]; // STEPS_CAP of them
	unsigned n_steps;
	bool wants_off, wants_on, wants_end, wants_stop;
};

static void victim_handle_destroy(struct wl_listener *listener, void *data) {
	struct victim *victim = wl_container_of(listener, victim, destroy);
	victim->wl_client = NULL;
}

static void victim_start(struct victim *victim, struct server *server, int signal, unsigned n) {
	*victim = (struct victim){ .steps = calloc(STEPS_CAP, STEP_SIZE) };
	int sockets[2], out[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	check_ok(pipe2(out, O_CLOEXEC | O_NONBLOCK));
	char signal_text[16], n_text[16], path[] = "WAYLAND_SOCKET=3";
	snprintf(signal_text, sizeof(signal_text), "%d", signal);
	snprintf(n_text, sizeof(n_text), "%u", n);
	char *argv[] = { "victim", signal_text, n_text, NULL }, *envp[64] = { path };
	for (size_t i = 0; environ[i] != NULL && i < 62; i++) {
		envp[i + 1] = environ[i];
	}
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, sockets[1], 3);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	check(getenv("VICTIM") != NULL);
	check_ok(posix_spawn(&victim->pid, getenv("VICTIM"), &actions, NULL, argv, envp));
	posix_spawn_file_actions_destroy(&actions);
	close(sockets[1]);
	close(out[1]);
	victim->stdout_fd = out[0];
	victim->wl_client = wl_client_create(server->display, sockets[0]);
	check(victim->wl_client != NULL);
	victim->destroy.notify = victim_handle_destroy;
	wl_client_add_destroy_listener(victim->wl_client, &victim->destroy);
}

static void victim_take_line(struct victim *victim, const char *line) {
	victim->wants_off |= strcmp(line, "please output.off") == 0;
	victim->wants_on |= strcmp(line, "please output.on") == 0;
	victim->wants_end |= strcmp(line, "please others.end") == 0;
	victim->wants_stop |= strcmp(line, "please session.stop") == 0;
	if (strncmp(line, "please ", strlen("please ")) != 0) {
		check_int(victim->n_steps, <, STEPS_CAP);
		check_int(strlen(line), <, STEP_SIZE);
		strcpy(victim->steps[victim->n_steps++], line);
	}
}

static void victim_read(struct victim *victim) {
	ssize_t n;
	while ((n = read(victim->stdout_fd, victim->buffer + victim->len,
			sizeof(victim->buffer) - victim->len)) > 0) {
		victim->len += (size_t)n;
		char *end;
		while ((end = memchr(victim->buffer, '\n', victim->len)) != NULL) {
			*end = '\0';
			victim_take_line(victim, victim->buffer);
			victim->len -= (size_t)(end + 1 - victim->buffer);
			memmove(victim->buffer, end + 1, victim->len);
		}
	}
}

/* What the compositor does for its victim */

static void set_power(struct server *server, bool is_on) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, is_on);
	check(wlr_output_commit_state(server->output->wlr_output, &state));
	wlr_output_state_finish(&state);
}

static void stop_sessions_of(struct server *server, const struct wl_client *client) {
	struct vitrine_view_session_v1 *session =
		vitrine_view_manager_v1_get_next_session(server->manager, NULL);
	while (session != NULL) {
		struct vitrine_view_session_v1 *next =
			vitrine_view_manager_v1_get_next_session(server->manager, session);
		if (vitrine_view_session_v1_get_client(session) == client) {
			vitrine_view_session_v1_stop(session, VITRINE_VIEW_STOP_REVOKED);
		}
		session = next;
	}
}

/** Draws two rectangles apart, so that there is a damage event too. */
static void paint_apart(struct server *server, uint32_t color) {
	output_paint(server->output, color, &(struct rect){ 0, 0, 4, 4 });
	output_paint(server->output, color, &(struct rect){ 40, 30, 4, 4 });
	pump(server);
}

/** A frame, and what the victim has asked for. */
static void serve(struct fixture *f, struct victim *victim, struct test_session **other,
		uint32_t color) {
	struct server *server = &f->server;
	victim_read(victim);
	if (victim->wants_off && !victim->wants_on) {
		if (server->output->wlr_output->enabled) {
			set_power(server, false);
		}
	} else {
		if (!server->output->wlr_output->enabled) {
			set_power(server, true);
		}
		paint_apart(server, color);
	}
	if (victim->wants_end && *other != NULL) {
		test_session_destroy(*other);
		*other = NULL;
	}
	if (victim->wants_stop && victim->wl_client != NULL) {
		victim->wants_stop = false; // not the next one as well
		stop_sessions_of(server, victim->wl_client);
	}
	pump_wait(server);
}

/** Serves it until it ends or stops; returns whether it stopped or was killed at its step. */
static bool serve_until_step(struct fixture *f, struct victim *victim, int *status) {
	struct test_session *other = test_session_start_reader(f->client, ALL);
	uint32_t color = 0;
	while (waitpid(victim->pid, status, WUNTRACED | WNOHANG) == 0) {
		serve(f, victim, &other, fixture_color(++color));
	}
	victim_read(victim);
	if (other != NULL) {
		test_session_destroy(other);
	}
	if (!f->server.output->wlr_output->enabled) {
		set_power(&f->server, true);
	}
	return WIFSTOPPED(*status) || WIFSIGNALED(*status);
}

static const struct {
	const char *name;
	uint32_t acceptable; // to the honest client
	int signal;
} ends[] = {
	{ "SIGKILL, sealed", VITRINE_GUARANTEE_SEALED, SIGKILL },
	{ "SIGKILL, snapshot", VITRINE_GUARANTEE_SNAPSHOT, SIGKILL },
	{ "SIGSTOP, sealed", VITRINE_GUARANTEE_SEALED, SIGSTOP },
};

/** The session gets each of these frames, if not at once. */
static void show_frames(struct fixture *f, uint32_t first, uint32_t last) {
	f->server.output->repaint = true; // as compositors do when a session asks for a frame
	for (uint32_t n = first; n <= last; n++) {
		uint32_t n_frames = f->session->n_frames;
		fixture_paint(f, fixture_color(n));
		pump_until(&f->server, f->session->n_frames > n_frames);
		check_int(test_session_get_pixel(f->session, 0, 0), ==, fixture_color(n));
	}
	f->server.output->repaint = false;
}

/**
 * After the last session. A buffer keeps what was derived from it until its memory is
 * retired: which ones do depends on what was drawn last, so all are replaced.
 */
static void replace_buffers(struct fixture *f) {
	output_resize(f->server.output, 80, 48);
	paint_apart(&f->server, fixture_color(1));
}

/** What the compositor has open once nothing of it goes any more. */
static int count_settled_fds(struct server *server) {
	int n_fds = harness_count_fds();
	for (int i = 0; i < 40; i++) {
		pump_wait(server);
		if (harness_count_fds() < n_fds) {
			n_fds = harness_count_fds();
			i = 0;
		}
	}
	return n_fds;
}

/** A life beside an honest session, at whose end the compositor has no more than this open. */
struct life {
	uint32_t acceptable; // to the honest client
	int signal;
	int n_fds; // 0: this life is the measure, and there is no victim
};

/** Returns whether the victim came to its end. */
static bool live(struct fixture *f, const struct life *life, unsigned n, struct victim *victim) {
	int status;
	victim_start(victim, &f->server, life->signal, n);
	bool is_ended = serve_until_step(f, victim, &status);
	check(is_ended || status == 0);
	show_frames(f, 5, 12); // whether the other is stopped or dead
	if (WIFSTOPPED(status)) {
		check_ok(kill(victim->pid, SIGKILL));
		check_int(waitpid(victim->pid, &status, 0), ==, victim->pid);
	}
	pump_until(&f->server, victim->wl_client == NULL);
	close(victim->stdout_fd);
	return !is_ended;
}

static bool run_life(struct life *life, unsigned n, struct victim *victim) {
	struct fixture f;
	fixture_set_up(&f, &(struct fixture_options){
		.server.linux_dmabuf_device = "/dev/null", // see fake_drm.c
		.acceptable = life->acceptable,
		.auto_release = true,
	});
	f.server.manager->limits.frame_deadline_ms = 20;
	f.server.manager->limits.contended_frame_deadline_ms = 2;
	show_frames(&f, 1, 4);
	bool is_whole = victim == NULL || live(&f, life, n, victim);
	show_frames(&f, 13, 16);
	test_session_close(f.session);
	replace_buffers(&f);
	if (life->n_fds == 0) {
		life->n_fds = count_settled_fds(&f.server);
	}
	pump_until(&f.server, harness_count_fds() <= life->n_fds);
	fixture_tear_down(&f);
	return is_whole;
}

/** Events for which it takes a real dma-buf, or a GPU that draws. */
static bool needs_dmabuf(const struct wl_interface *interface, const char *name) {
	bool is_view = interface == &xx_dmabuf_view_v1_interface;
	return strcmp(name, "device") == 0 || strcmp(name, "fence") == 0 ||
		(is_view && strcmp(name, "failed") != 0);
}

static bool has_step(const struct victim *victim, const char *what,
		const struct wl_interface *interface, const struct wl_message *message) {
	char step[STEP_SIZE];
	snprintf(step, sizeof(step), "%s %s.%s", what, interface->name, message->name);
	for (unsigned i = 0; i < victim->n_steps; i++) {
		if (strcmp(victim->steps[i], step) == 0) {
			return true;
		}
	}
	fprintf(stderr, "no step: %s\n", step);
	return false;
}

/** A whole life has all that the protocol has. */
static void check_steps(const struct victim *victim) {
	static const struct wl_interface *const interfaces[] = { &xx_dmabuf_view_manager_v1_interface,
		&xx_dmabuf_view_v1_interface, &xx_dmabuf_view_session_v1_interface };
	for (size_t i = 0; i < 3; i++) {
		const struct wl_interface *interface = interfaces[i];
		for (int j = 0; j < interface->method_count; j++) {
			check(has_step(victim, "request", interface, &interface->methods[j]));
		}
		for (int j = 0; j < interface->event_count; j++) {
			check(needs_dmabuf(interface, interface->events[j].name) ||
				has_step(victim, "event", interface, &interface->events[j]));
		}
	}
}

TEST_EACH(ends, client_may_end_at_any_step) {
	harness_set_timeout(120);
	struct life life = { param->acceptable, param->signal, 0 };
	run_life(&life, 0, NULL);
	unsigned n = 0;
	bool is_whole;
	do {
		struct victim victim;
		is_whole = run_life(&life, ++n, &victim);
		check(is_whole || victim.n_steps == n);
		if (is_whole) {
			check_steps(&victim);
		}
		free(victim.steps);
	} while (!is_whole);
	harness_count(n - 1, "kill points");
}
