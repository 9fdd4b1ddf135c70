/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_HOOK_H
#define PLUGIN_HOOK_H

#include <stdbool.h>
#include <stddef.h>

/**
 * Commands that are run for events, by a helper: a process that vitrine-run makes before it
 * becomes the compositor. So the compositor spawns nothing, waits for nothing, and has no
 * child that it does not know of. The helper is told by a socket. For each command it gets a
 * byte and a memfd that has the environment; it answers with a byte when the command is done.
 */

/** Commands that run at a time, and those that wait for their turn. */
#define HOOK_RUNNING_CAP 8
#define HOOK_QUEUE_CAP 64

/**
 * Makes the helper, which runs `command` with sh -c and is no child of the caller. It ends
 * when the other end of its socket is closed. Returns that, which is not CLOEXEC, or -errno.
 */
int hook_start_helper(const char *command);

/** What the compositor knows of the helper. */
struct hook {
	int fd; // -1 if there is none
	size_t n_pending; // commands that are not done
};

/** Takes the socket over. False if it is none: then it belongs to another, and is left alone. */
bool hook_init(struct hook *hook, int take_fd);
void hook_finish(struct hook *hook);
/**
 * Has the command run with this environment, which ends with NULL. Never blocks. False if too
 * many are not done yet, or the helper cannot be told.
 */
bool hook_run(struct hook *hook, char *const env[]);

#endif
