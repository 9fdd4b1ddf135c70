/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <vitrine/view_v1.h>

#include "hook.h"
#include "log.h"
#include "plugin.h"
#include "visible.h"

/** No line is longer. */
#define TEXT_CAP 2048
/** Bytes of a name of a client, as it is shown. */
#define NAME_CAP 256
/** How long the process waits at its end for lines to be written. */
#define FLUSH_MS 500
/** Variables that the command gets besides what the compositor has. */
#define VARIABLES_CAP 16

extern char **environ;

static struct hook hook = { .fd = -1 };
static uint64_t n_unrun; // commands, since the last one that was run

void plugin_log(const char *format, ...) {
	char text[TEXT_CAP];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_line(text);
}

void plugin_report_init(const struct plugin_options *options) {
	log_set_fd(options->log_fd);
	if (options->hook_fd >= 0 && !hook_init(&hook, options->hook_fd)) {
		plugin_log("there is no helper that runs the command for events");
	}
}

void plugin_report_finish(void) {
	hook_finish(&hook);
	log_flush(FLUSH_MS);
}

/** Names of a client as they may be shown between quotation marks. */
struct names {
	char source[NAME_CAP], comm[NAME_CAP], executable[NAME_CAP];
	char engine[NAME_CAP], app_id[NAME_CAP], instance_id[NAME_CAP];
};

static void show(char buffer[static NAME_CAP], const char *text) {
	visible_text(buffer, NAME_CAP, text != NULL ? text : "", VISIBLE_QUOTED);
}

static void names_init(struct names *names, const struct plugin_event *event) {
	show(names->source, event->source);
	show(names->comm, event->client->comm);
	show(names->executable, event->client->executable);
	show(names->engine, event->client->engine);
	show(names->app_id, event->client->app_id);
	show(names->instance_id, event->client->instance_id);
}

/* The command */

/** The compositor's environment, and what is added to it. */
struct hook_env {
	char **env; // ends with NULL
	size_t n_inherited, len;
};

static bool hook_env_init(struct hook_env *hook_env) {
	size_t n = 0;
	while (environ[n] != NULL) {
		n++;
	}
	*hook_env = (struct hook_env){ .n_inherited = n, .len = n };
	hook_env->env = calloc(n + VARIABLES_CAP + 1, sizeof(hook_env->env[0]));
	if (hook_env->env == NULL) {
		return false;
	}
	memcpy(hook_env->env, environ, n * sizeof(environ[0]));
	return true;
}

static void hook_env_finish(struct hook_env *hook_env) {
	for (size_t i = hook_env->n_inherited; i < hook_env->len; i++) {
		free(hook_env->env[i]);
	}
	free(hook_env->env);
}

__attribute__((format(printf, 2, 3)))
static void hook_env_add(struct hook_env *hook_env, const char *format, ...) {
	char *entry;
	va_list args;
	va_start(args, format);
	if (vasprintf(&entry, format, args) >= 0) {
		hook_env->env[hook_env->len++] = entry;
	}
	va_end(args);
}

static void hook_env_describe(struct hook_env *hook_env, const struct plugin_event *event,
		const struct names *names, const char *guarantee) {
	hook_env_add(hook_env, "VITRINE_EVENT=%s", event->what);
	hook_env_add(hook_env, "VITRINE_SOURCE=%s", names->source);
	hook_env_add(hook_env, "VITRINE_GUARANTEE=%s", guarantee);
	hook_env_add(hook_env, "VITRINE_PID=%d", (int)event->client->pid);
	hook_env_add(hook_env, "VITRINE_UID=%u", (unsigned)event->client->uid);
	hook_env_add(hook_env, "VITRINE_COMM=%s", names->comm);
	hook_env_add(hook_env, "VITRINE_EXECUTABLE=%s", names->executable);
	hook_env_add(hook_env, "VITRINE_ENGINE=%s", names->engine);
	hook_env_add(hook_env, "VITRINE_APP_ID=%s", names->app_id);
	hook_env_add(hook_env, "VITRINE_INSTANCE_ID=%s", names->instance_id);
	hook_env_add(hook_env, "VITRINE_PROTOCOL=%s", event->protocol);
	hook_env_add(hook_env, "VITRINE_FRAMES=%" PRIu64, event->frames);
}

static void run_hook(const struct plugin_event *event, const struct names *names,
		const char *guarantee) {
	struct hook_env hook_env;
	if (hook.fd < 0 || !hook_env_init(&hook_env)) {
		return;
	}
	hook_env_describe(&hook_env, event, names, guarantee);
	if (!hook_run(&hook, hook_env.env)) {
		if (n_unrun++ == 0) {
			plugin_log("the command for events is not run: its helper takes no more, and "
				"%zu before are not done yet", hook.n_pending);
		}
	} else if (n_unrun > 0) {
		plugin_log("the command for events is run again, %" PRIu64 " times it was not", n_unrun);
		n_unrun = 0;
	}
	hook_env_finish(&hook_env);
}

void plugin_report(const struct plugin_event *event) {
	struct names names;
	char text[TEXT_CAP];
	names_init(&names, event);
	const char *guarantee =
		event->guarantee != 0 ? vitrine_guarantee_name(event->guarantee) : "none";
	snprintf(text, sizeof(text), "capture %s source=%s guarantee=%s pid=%d uid=%u comm=\"%s\" "
		"exe=\"%s\" engine=\"%s\" app-id=\"%s\" protocol=%s frames=%" PRIu64, event->what,
		names.source, guarantee, (int)event->client->pid, (unsigned)event->client->uid, names.comm,
		names.executable, names.engine, names.app_id, event->protocol, event->frames);
	log_line_of(event->client->pid, text);
	run_hook(event, &names, guarantee);
}
