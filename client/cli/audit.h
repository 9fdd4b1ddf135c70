/* SPDX-License-Identifier: MIT */
#ifndef CLI_AUDIT_H
#define CLI_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vitrine/derive.h>

/** Memory to attack: the view, or memory of our own to show that the attack works. */
struct target {
	int fd;
	/** As the holder can have it: to be read if it is the view, writable if it is ours. */
	char *map;
	size_t len; // whole pages
	enum vitrine_storage storage;
};

/** What an attack returns besides a negative errno, which says that it was refused. */
enum attack_outcome {
	ATTACK_WORKED = 0, // the memory was written
	ATTACK_UNAVAILABLE = 1, // this machine lacks what it needs
};

/** Which memory of our own the attack must work on. */
enum attack_control {
	CONTROL_MEMFD, // a memfd that can be written and sealed
	CONTROL_SAME, // of the storage of the view
	CONTROL_DMABUF, // a dma-buf
};

struct attack {
	unsigned row; // of the threat model's table
	const char *name;
	uint32_t refused; // guarantees that promise that it fails
	uint32_t allowed; // guarantees that say that it works
	enum attack_control control;
	/**
	 * Writes the target, leaving the bytes as they are where that is possible.
	 * `detail` may be set to a static string.
	 */
	int (*run)(const struct target *target, const char **detail);
};

/** What needs one view only. */
extern const struct attack attacks[];
extern const size_t attacks_len;

/**
 * Calls the function in a child. Returns its result, or -EFAULT if it was killed
 * by SIGSEGV or SIGBUS.
 */
int audit_run_in_child(int (*run)(const struct target *target), const struct target *target);

#endif
