/* SPDX-License-Identifier: MIT */
#ifndef FAULTS_H
#define FAULTS_H

#include <errno.h>
#include <stdbool.h>

/**
 * Calls of the code under test that fail when a test wants it: those that faults.c stands in
 * for (the linker does the rest, see fault_wraps), and those that a test adds with WRAP().
 */

/** Calls until one fails; 0 is never. */
extern unsigned fault_calls_left;
/** Whether this thread runs the code under test: what the test itself calls never fails. */
extern _Thread_local bool fault_in_server;
/** Whether a call has failed. */
extern bool fault_failed;
/** A call that fails each time, or NULL. */
extern const char *fault_for_ever;

/** Counts a call of the code under test. Returns whether it is to fail. */
bool fault_fails(const char *call);

/** Defines what the linker calls instead of a function. */
#define WRAP(type, name, error, result, parameters, arguments) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters { \
		if (fault_fails(#name)) { \
			errno = (error); \
			return result; \
		} \
		return __real_##name arguments; \
	}

#endif
