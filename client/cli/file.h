/* SPDX-License-Identifier: MIT */
#ifndef CLI_FILE_H
#define CLI_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * A file that appears under its name only when it is complete, or a pipe, a
 * device or standard output, to which bytes go at once.
 */
struct out_file {
	char name[128]; // for messages
	char *path; // where it will be, symbolic links followed; NULL if written to directly
	char *temp_path; // NULL if the file has no name yet
	/** A name that was made up, the caller's: numbered if there is such a file. Or NULL. */
	char **own_path;
	int fd;
	uint64_t written; // bytes
	int error; // the first error of out_file_write(), a negative errno
	/** Set by another thread: a write that a signal interrupts is to fail. */
	atomic_bool give_up;
};

/** `name` is a path or "-". Returns 0 or a negative errno. */
int out_file_open(struct out_file *file, const char *name);
/** The same, but prints what is wrong. Returns an exit status. */
int cli_open_file(struct out_file *file, const char *name);
/**
 * The same for a name with the time in it: in the directory of the user that `key` is the
 * environment's variable for, or the line of user-dirs.dirs, or else at home. It is set in
 * `path`, to be freed, and holds from out_file_commit() on.
 */
int cli_open_own_file(struct out_file *file, const char *key, const char *ending, char **path);
/**
 * Writes everything. Fails with -EINTR if a second signal asks to end, or the writing is
 * given up, while the reader of a pipe does not read.
 */
int out_file_write(struct out_file *file, const void *data, size_t len);
/**
 * Gives the file its name and closes it, also on failure. A name that was made up replaces
 * no file, and is what the file has then.
 */
int out_file_commit(struct out_file *file);
/** Closes the file and leaves nothing behind. Harmless after out_file_commit(). */
void out_file_abort(struct out_file *file);

#endif
