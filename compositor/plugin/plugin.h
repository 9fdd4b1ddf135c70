/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_PLUGIN_H
#define PLUGIN_PLUGIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct wl_client;

/**
 * How vitrine-run tells the plugin what to do: environment variables, which the
 * plugin removes before the compositor sees them.
 */
#define PLUGIN_ENV_MIN_GUARANTEE "VITRINE_PLUGIN_MIN_GUARANTEE"
#define PLUGIN_ENV_ALLOW "VITRINE_PLUGIN_ALLOW"
#define PLUGIN_ENV_ALLOW_SANDBOXED "VITRINE_PLUGIN_ALLOW_SANDBOXED"
#define PLUGIN_ENV_DEADLINE "VITRINE_PLUGIN_DEADLINE"
#define PLUGIN_ENV_LOG "VITRINE_PLUGIN_LOG"
#define PLUGIN_ENV_ON_CAPTURE "VITRINE_PLUGIN_ON_CAPTURE"

#define PLUGIN_FILE "libvitrine-plugin.so"

struct plugin_options {
	uint32_t guarantees; // that clients may have, enum vitrine_guarantee
	bool allow_sandboxed;
	uint32_t deadline_ms; // 0 for the library's default
	int log_fd; // stderr unless there is a log file
	char *on_capture; // a shell command, may be NULL
};

/**
 * Takes the options from the environment and cleans that up, so that no child
 * of the compositor finds anything of the plugin in it.
 */
void plugin_options_init(struct plugin_options *options);

/** The guarantees that are at least as strong, or 0 if there is no such word. */
uint32_t plugin_guarantees_from_min(const char *name);
/** Those of a list of words that are separated by commas, or 0 if one is none. */
uint32_t plugin_guarantees_from_list(const char *list);

/** What to tell about a client that looks. */
struct plugin_event {
	const char *what; // "start", "change" or "stop"
	const char *source; // the name of an output
	const char *protocol;
	const char *app_id; // of a sandboxed client, may be NULL
	struct wl_client *client;
	uint32_t guarantee; // one bit, or 0 if nothing was shown
	uint64_t frames; // so far
};

/** Writes a line to the log and runs the command, if there is one. */
void plugin_report(const struct plugin_options *options, const struct plugin_event *event);

void plugin_log(const struct plugin_options *options, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
