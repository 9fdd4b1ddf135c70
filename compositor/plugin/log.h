/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_LOG_H
#define PLUGIN_LOG_H

#include <stdbool.h>
#include <sys/types.h>

/**
 * Lines that go to a file descriptor without anything waiting for it: a thread writes
 * them. O_NONBLOCK would do as well, but belongs to the open file, which may be the
 * terminal of the user. There is one log in a process. What is said here is for the event
 * loop's thread to call.
 */

/** What is logged goes here from now on. Borrowed. Not while lines wait for another one. */
void log_set_fd(int borrowed_fd);

/**
 * Appends "TIME vitrine: ", the text, as visible_text() has it, and a newline. What is
 * longer than a line may be is cut. If 64 KiB wait already the line is dropped, and how
 * many were is told once it goes on.
 */
void log_line(const char *text);
/** The same for what a client causes: of each process only so many lines a second. */
void log_line_of(pid_t pid, const char *text);

/** Waits no longer than this until all is written, before the process ends. */
void log_flush(int timeout_ms);

#endif
