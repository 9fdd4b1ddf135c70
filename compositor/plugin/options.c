/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "plugin.h"
#include "rules.h"

uint32_t plugin_guarantees_from_list(const char *list) {
	uint32_t guarantees = 0;
	while (true) {
		char name[32];
		size_t len = strcspn(list, ",");
		if (len >= sizeof(name)) {
			return 0;
		}
		memcpy(name, list, len);
		name[len] = '\0';
		uint32_t guarantee = vitrine_guarantee_from_name(name);
		if (guarantee == 0 || list[len] == '\0') {
			return guarantee != 0 ? guarantees | guarantee : 0;
		}
		guarantees |= guarantee;
		list += len + 1;
	}
}

/** A file descriptor that vitrine-run has passed on, or -1. */
static int take_env_fd(const char *name) {
	const char *value = getenv(name);
	int fd = value != NULL ? (int)strtol(value, NULL, 10) : -1;
	unsetenv(name);
	return fd > STDERR_FILENO ? fd : -1;
}

/**
 * Takes a variable out of the environment. Returns NULL, or a copy to be freed. Without memory
 * the process ends: what the user forbids must not be allowed for want of it.
 */
static char *take_env(const char *name) {
	const char *value = getenv(name);
	char *copy = value != NULL ? strdup(value) : NULL;
	if (value != NULL && copy == NULL) {
		fputs("vitrine: out of memory\n", stderr);
		_exit(EXIT_FAILURE);
	}
	unsetenv(name);
	return copy;
}

static bool is_plugin(const char *path, size_t len) {
	const size_t file_len = strlen(PLUGIN_FILE);
	return len >= file_len && strncmp(path + len - file_len, PLUGIN_FILE, file_len) == 0 &&
		(len == file_len || path[len - file_len - 1] == '/');
}

/** Other libraries are preloaded into the children as they would have been. */
static void leave_preload(void) {
	const char *separators = ": ";
	const char *preload = getenv("LD_PRELOAD");
	if (preload == NULL) {
		return;
	}
	char *rest = calloc(1, strlen(preload) + 1);
	if (rest == NULL) {
		unsetenv("LD_PRELOAD");
		return;
	}
	while (*preload != '\0') {
		size_t len = strcspn(preload, separators);
		if (len > 0 && !is_plugin(preload, len)) {
			if (rest[0] != '\0') {
				strcat(rest, ":");
			}
			strncat(rest, preload, len);
		}
		preload += len;
		preload += strspn(preload, separators);
	}
	if (rest[0] != '\0') {
		setenv("LD_PRELOAD", rest, true);
	} else {
		unsetenv("LD_PRELOAD");
	}
	free(rest);
}

static int open_log(const char *path) {
	if (path == NULL) {
		return STDERR_FILENO;
	}
	// A FIFO that is not read yet does not hold the compositor up, here or later; nor does
	// a terminal become that of the compositor
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		0600);
	if (fd < 0) {
		fprintf(stderr, "vitrine: cannot open %s: %s\n", path, strerror(errno));
		return STDERR_FILENO;
	}
	return fd;
}

void plugin_options_init(struct plugin_options *options) {
	leave_preload();
	char *min = take_env(PLUGIN_ENV_MIN_GUARANTEE);
	char *allow = take_env(PLUGIN_ENV_ALLOW);
	char *allow_sandboxed = take_env(PLUGIN_ENV_ALLOW_SANDBOXED);
	char *deadline = take_env(PLUGIN_ENV_DEADLINE);
	char *log = take_env(PLUGIN_ENV_LOG);
	*options = (struct plugin_options){
		// VITRINE_VIEW_GUARANTEES_DEFAULT
		.guarantees = rules_guarantees_from_min(min != NULL ? min : "guarded") |
			(allow != NULL ? plugin_guarantees_from_list(allow) : 0),
		.allow_sandboxed = allow_sandboxed != NULL,
		.policy = take_env(PLUGIN_ENV_POLICY),
		.deadline_ms = deadline != NULL ? (uint32_t)strtoul(deadline, NULL, 10) : 0,
		.log_fd = open_log(log),
		.hook_fd = take_env_fd(PLUGIN_ENV_HOOK_FD),
	};
	free(min);
	free(allow);
	free(allow_sandboxed);
	free(deadline);
	free(log);
}
