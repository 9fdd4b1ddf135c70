/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * A small test runner. Each TEST runs in a process of its own, with an empty
 * XDG_RUNTIME_DIR, under a timeout, and fails if it leaves file descriptors open
 * or children behind. The runner prints TAP on stdout; what tests print
 * themselves goes to stderr.
 *
 * Arguments of a test executable are the names of tests to run, all by default.
 */

struct harness_test {
	const char *name;
	void (*run)(void);
	unsigned timeout_s;
};

void harness_register(struct harness_test *test);

/** Defines a test with a timeout of its own. */
#define TEST_TIMEOUT(test_name, seconds) \
	static void test_name(void); \
	__attribute__((constructor)) static void register_##test_name(void) { \
		static struct harness_test test = { \
			.name = #test_name, \
			.run = test_name, \
			.timeout_s = (seconds), \
		}; \
		harness_register(&test); \
	} \
	static void test_name(void)

/** Defines a test. */
#define TEST(test_name) TEST_TIMEOUT(test_name, 20)

/** Ends the test as failed unless the condition holds. */
#define check(condition) \
	do { \
		if (!(condition)) { \
			harness_fail(__FILE__, __LINE__, "%s", #condition); \
		} \
	} while (0)

/** Like check(), for integers, and says what they are. */
#define check_int(a, op, b) \
	do { \
		long long harness_a = (long long)(a), harness_b = (long long)(b); \
		if (!(harness_a op harness_b)) { \
			harness_fail(__FILE__, __LINE__, "%s %s %s (%lld, %lld)", \
				#a, #op, #b, harness_a, harness_b); \
		} \
	} while (0)

#define check_str(a, b) harness_check_str(__FILE__, __LINE__, #a, (a), (b))

_Noreturn void harness_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void harness_check_str(const char *file, int line, const char *expr, const char *a,
	const char *b);

/** Ends the test as skipped; the reason is printed and counted. */
_Noreturn void harness_skip(const char *reason);

/** How many file descriptors this process has open. */
int harness_count_fds(void);

/**
 * How much slower than usual everything is, because of sanitizers: for timeouts,
 * never for what is measured.
 */
unsigned harness_get_slowdown(void);

#endif
