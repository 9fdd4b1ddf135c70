/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/**
 * A small test runner. Each test runs in a process of its own, with an empty
 * XDG_RUNTIME_DIR, under a timeout of 20 seconds, and fails if it leaves file
 * descriptors open or children behind. The runner prints TAP on stdout; what tests
 * print themselves goes to stderr.
 *
 * Arguments of a test executable are the names of tests to run, all by default.
 */

struct harness_test {
	const char *name;
	/** Gets an element of `params`, or NULL if there are none. */
	void (*run)(const void *param);
	/**
	 * If not NULL, there is a test point "name[param]" for each element. Elements are
	 * structs that begin with a `const char *name`.
	 */
	const void *params;
	size_t param_size, params_len;
};

void harness_register(const struct harness_test *test);

#define HARNESS_REGISTER(test_name, ...) \
	__attribute__((constructor)) static void register_##test_name(void) { \
		static const struct harness_test test = { \
			.name = #test_name, \
			.run = run_##test_name, \
			__VA_ARGS__ \
		}; \
		harness_register(&test); \
	}

#define HARNESS_PARAMS(array) \
	.params = (array), \
	.param_size = sizeof((array)[0]), \
	.params_len = sizeof(array) / sizeof((array)[0]),

/** Defines a test. */
#define TEST(test_name) \
	static void test_name(void); \
	static void run_##test_name(const void *param) { \
		test_name(); \
	} \
	HARNESS_REGISTER(test_name, ) \
	static void test_name(void)

/** Defines a test for each element of an array, to which `param` points. */
#define TEST_EACH(array, test_name) \
	static void test_name(const __typeof__((array)[0]) *param); \
	static void run_##test_name(const void *param) { \
		test_name(param); \
	} \
	HARNESS_REGISTER(test_name, HARNESS_PARAMS(array)) \
	static void test_name(const __typeof__((array)[0]) *param)

/**
 * Defines a test with a fixture: `struct fixture` is handed over as `f` between
 * fixture_set_up(f, options) and fixture_tear_down(f). What follows the name
 * initializes the options, a `struct fixture_options`.
 */
#define TEST_WITH(fixture, test_name, ...) \
	static void test_name(struct fixture *f); \
	static const struct fixture##_options options_##test_name = { __VA_ARGS__ }; \
	static void run_##test_name(const void *param) { \
		struct fixture f; \
		fixture##_set_up(&f, &options_##test_name); \
		test_name(&f); \
		fixture##_tear_down(&f); \
	} \
	HARNESS_REGISTER(test_name, ) \
	static void test_name(struct fixture *f)

/**
 * Both: a test with a fixture for each element of an array, whose field `options` is
 * what the fixture is set up with.
 */
#define TEST_WITH_EACH(fixture, array, test_name) \
	static void test_name(struct fixture *f, const __typeof__((array)[0]) *param); \
	static void run_##test_name(const void *data) { \
		const __typeof__((array)[0]) *param = data; \
		struct fixture f; \
		fixture##_set_up(&f, &param->options); \
		test_name(&f, param); \
		fixture##_tear_down(&f); \
	} \
	HARNESS_REGISTER(test_name, HARNESS_PARAMS(array)) \
	static void test_name(struct fixture *f, const __typeof__((array)[0]) *param)

/**
 * Declares the array of a TEST_WITH_EACH(): after its name and its options, an element has
 * these fields.
 */
#define TEST_PARAMS(fixture, array, ...) \
	static const struct { \
		const char *name; \
		struct fixture##_options options; \
		__VA_ARGS__; \
	} array[]

/** Gives this test so many seconds from now on. */
void harness_set_timeout(unsigned seconds);

/**
 * What is open now may stay open after the test: a library keeps it for as long as the
 * process lives.
 */
void harness_forgive_fds(void);

/**
 * Has something of the whole system counted before and after each test, which fails if
 * there is more left of it for longer than what is released late may take.
 */
void harness_watch(const char *what, int (*count)(void));

/**
 * Adds to a figure that full runs print: one of FIGURES in tools/testlog.py, which a kind
 * may follow, as in "attacks: sealed".
 */
void harness_count(unsigned number, const char *what);

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

/** The call returns 0; if it does not, the test says errno. */
#define check_ok(call) \
	do { \
		errno = 0; \
		long long harness_ret = (long long)(call); \
		int harness_errno = errno; \
		if (harness_ret != 0) { \
			harness_fail(__FILE__, __LINE__, "%s returned %lld, %s", #call, harness_ret, \
				strerrorname_np(harness_errno)); \
		} \
	} while (0)

/** The call returns -1 and sets errno to this. */
#define check_errno(call, expected) \
	do { \
		errno = 0; \
		long long harness_ret = (long long)(call); \
		int harness_errno = errno; \
		if (harness_ret != -1 || harness_errno != (expected)) { \
			harness_fail(__FILE__, __LINE__, "%s returned %lld, %s, not %s", #call, \
				harness_ret, strerrorname_np(harness_errno), \
				strerrorname_np(expected)); \
		} \
	} while (0)

#define check_str(a, b) harness_check_str(__FILE__, __LINE__, #a, (a), (b))

_Noreturn void harness_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void harness_check_str(const char *file, int line, const char *expr, const char *a,
	const char *b);

/** Ends the test as skipped; the reason is printed and counted. */
_Noreturn void harness_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** How many file descriptors this process has open. */
int harness_count_fds(void);

/**
 * How much slower than usual everything is, because of sanitizers: for timeouts,
 * never for what is measured.
 */
unsigned harness_get_slowdown(void);

/**
 * Whether the kernel is one that tells what keeps pages of a memfd: with huge pages, and from
 * Linux 6.7 on.
 */
bool harness_kernel_tells_pins(void);

#endif
