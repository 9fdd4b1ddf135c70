/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <wayland-server-core.h>

#include "plugin.h"

extern char **environ;

/** What clients say of themselves must not make up lines or terminal commands. */
static void sanitize(char *text) {
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text <= ' ' || *text == 0x7f || *text == '"') {
			*text = '_';
		}
	}
}

void plugin_log(const struct plugin_options *options, const char *format, ...) {
	char line[512];
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	size_t len = strftime(line, sizeof(line), "%FT%T%z vitrine: ", &tm);
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);
	len += n < 0 ? 0 : (size_t)n;
	if (len > sizeof(line) - 2) {
		len = sizeof(line) - 2;
	}
	line[len++] = '\n';
	// One write, so that lines of several compositors do not mix
	if (write(options->log_fd, line, len) < 0) {
		return; // there is no command to tell
	}
}

static void read_comm(pid_t pid, char *comm, size_t size) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, comm, size - 1) : 0;
	if (fd >= 0) {
		close(fd);
	}
	comm[len > 0 ? len : 0] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	sanitize(comm);
}

/** Appends NAME=value to an environment. `env` has room. */
static void add_env(char **env, size_t *len, const char *name, const char *value) {
	char *entry;
	if (asprintf(&entry, "%s=%s", name, value) >= 0) {
		env[(*len)++] = entry;
		env[*len] = NULL;
	}
}

struct hook_env {
	char **env;
	size_t n_inherited, len;
};

static bool hook_env_init(struct hook_env *hook, size_t n_more) {
	size_t n = 0;
	while (environ[n] != NULL) {
		n++;
	}
	*hook = (struct hook_env){ .n_inherited = n, .len = n };
	hook->env = calloc(n + n_more + 1, sizeof(hook->env[0]));
	if (hook->env == NULL) {
		return false;
	}
	memcpy(hook->env, environ, n * sizeof(environ[0]));
	return true;
}

static void hook_env_finish(struct hook_env *hook) {
	for (size_t i = hook->n_inherited; i < hook->len; i++) {
		free(hook->env[i]);
	}
	free(hook->env);
}

/** Event loops block the signals that they read, which a child must not inherit. */
static void init_spawn_attr(posix_spawnattr_t *attr) {
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(attr);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static void run_command(const char *command, char *const env[]) {
	// The shell leaves the command behind at once, which is not our child then:
	// the compositor never meets it in its own waitpid()
	char *const argv[] = {
		(char *)"sh", (char *)"-c", (char *)"eval \"$1\" &", (char *)"sh", (char *)command, NULL,
	};
	posix_spawnattr_t attr;
	init_spawn_attr(&attr);
	pid_t pid;
	if (posix_spawn(&pid, "/bin/sh", NULL, &attr, argv, env) == 0) {
		waitpid(pid, NULL, 0);
	}
	posix_spawnattr_destroy(&attr);
}

void plugin_report(const struct plugin_options *options, const struct plugin_event *event) {
	pid_t pid = 0;
	wl_client_get_credentials(event->client, &pid, NULL, NULL);
	char comm[32], app_id[128];
	read_comm(pid, comm, sizeof(comm));
	snprintf(app_id, sizeof(app_id), "%s", event->app_id != NULL ? event->app_id : "");
	sanitize(app_id);
	const char *guarantee =
		event->guarantee != 0 ? vitrine_guarantee_name(event->guarantee) : "none";

	plugin_log(options, "capture %s source=%s guarantee=%s pid=%d comm=\"%s\" app-id=\"%s\" "
		"protocol=%s frames=%" PRIu64, event->what, event->source, guarantee, (int)pid, comm,
		app_id, event->protocol, event->frames);

	struct hook_env hook;
	if (options->on_capture == NULL || !hook_env_init(&hook, 8)) {
		return;
	}
	char number[24];
	add_env(hook.env, &hook.len, "VITRINE_EVENT", event->what);
	add_env(hook.env, &hook.len, "VITRINE_SOURCE", event->source);
	add_env(hook.env, &hook.len, "VITRINE_GUARANTEE", guarantee);
	add_env(hook.env, &hook.len, "VITRINE_COMM", comm);
	add_env(hook.env, &hook.len, "VITRINE_APP_ID", app_id);
	add_env(hook.env, &hook.len, "VITRINE_PROTOCOL", event->protocol);
	snprintf(number, sizeof(number), "%d", (int)pid);
	add_env(hook.env, &hook.len, "VITRINE_PID", number);
	snprintf(number, sizeof(number), "%" PRIu64, event->frames);
	add_env(hook.env, &hook.len, "VITRINE_FRAMES", number);
	run_command(options->on_capture, hook.env);
	hook_env_finish(&hook);
}
