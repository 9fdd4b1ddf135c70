/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_PLUGIN_H
#define PLUGIN_PLUGIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct vitrine_view_client;

/**
 * How vitrine-run tells the plugin what to do: environment variables, which the
 * plugin removes before the compositor sees them.
 */
#define PLUGIN_ENV_MIN_GUARANTEE "VITRINE_PLUGIN_MIN_GUARANTEE"
#define PLUGIN_ENV_ALLOW "VITRINE_PLUGIN_ALLOW"
#define PLUGIN_ENV_ALLOW_SANDBOXED "VITRINE_PLUGIN_ALLOW_SANDBOXED"
#define PLUGIN_ENV_DEADLINE "VITRINE_PLUGIN_DEADLINE"
#define PLUGIN_ENV_POLICY "VITRINE_PLUGIN_POLICY"
#define PLUGIN_ENV_LOG "VITRINE_PLUGIN_LOG"
/** The socket of the helper that runs the command for events, see hook.h. */
#define PLUGIN_ENV_HOOK_FD "VITRINE_PLUGIN_HOOK_FD"

#define PLUGIN_FILE "libvitrine-plugin.so"

struct plugin_options {
	uint32_t guarantees; // that clients may have, enum vitrine_guarantee
	bool allow_sandboxed;
	char *policy; // a file, as an absolute path; NULL for none
	uint32_t deadline_ms; // 0 for the library's default
	int log_fd; // stderr unless there is a log file
	int hook_fd; // of the helper that runs a command for events, -1 if there is none
};

/**
 * Takes the options from the environment and cleans that up, so that no child
 * of the compositor finds anything of the plugin in it.
 */
void plugin_options_init(struct plugin_options *options);

/** Those of a list of words that are separated by commas, or 0 if one is none. */
uint32_t plugin_guarantees_from_list(const char *list);

/** What to tell about a client that looks. */
struct plugin_event {
	const char *what; // "start", "change" or "stop"
	const char *source; // the name of an output
	const char *protocol;
	const struct vitrine_view_client *client;
	uint32_t guarantee; // one bit, or 0 if nothing was shown
	uint64_t frames; // so far
};

/** What is told goes where the options say. */
void plugin_report_init(const struct plugin_options *options);
/** Waits a moment for what is not written yet: the process ends. */
void plugin_report_finish(void);
/**
 * Writes a line to the log and has the command run, if there is one. Neither is waited for,
 * and what one process causes is bounded: see log.h and hook.h.
 */
void plugin_report(const struct plugin_event *event);

/** Writes a line to the log, which is not waited for. */
void plugin_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
