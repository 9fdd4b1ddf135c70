/* SPDX-License-Identifier: MIT */
/*
 * What derive-selftest and guard-selftest have in common: tests that run in a
 * child each and report as TAP, and real dma-bufs of every exporter there is.
 */
#ifndef VITRINE_VM_SELFTEST_H
#define VITRINE_VM_SELFTEST_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number of the first GEM object that was given an mmap offset. */
#define DRM_FAKE_OFFSET 0x100000000

#define BUFFER_WIDTH 64
#define BUFFER_HEIGHT 64
#define BUFFER_SIZE (BUFFER_WIDTH * BUFFER_HEIGHT * 4)

enum exporter {
	EXPORTER_UDMABUF,
	EXPORTER_HEAP,
	EXPORTER_VGEM,
	EXPORTER_VKMS,
	EXPORTER_COUNT,
};

extern const char *const exporter_names[EXPORTER_COUNT];

/* Ends the test as skipped, or as failed. */
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define CHECK(condition)                                                                 \
	do {                                                                             \
		if (!(condition)) {                                                      \
			test_fail(__FILE__, __LINE__, "%s, errno: %s", #condition,       \
				strerrorname_np(errno));                                 \
		}                                                                        \
	} while (0)

/* The call returns -1 with this errno. */
#define CHECK_ERRNO(call, expected)                                                      \
	do {                                                                             \
		errno = 0;                                                               \
		long result = (long)(call);                                              \
		int error = errno;                                                       \
		if (result != -1 || error != (expected)) {                               \
			test_fail(__FILE__, __LINE__, "%s returned %ld, %s, not %s",     \
				#call, result, strerrorname_np(error),                   \
				strerrorname_np(expected));                              \
		}                                                                        \
	} while (0)

struct test {
	const char *name;
	void (*run)(enum exporter exporter);
	/* Once, and not for every exporter; `exporter` is then EXPORTER_UDMABUF. */
	bool once;
};

/**
 * Runs the tests, each in a child with a time limit of its own, that must leave
 * the number of dma-bufs in the system as it was. Arguments: the names of the
 * tests to run, default all. Returns the exit status.
 */
int selftest_main(const struct test *tests, size_t count, int argc, char *argv[]);

/* A new read-write dma-buf of BUFFER_SIZE. Skips the test where there is none. */
int buffer_create(enum exporter exporter);

/* An fd of the DRM device of this driver, or -1. */
int drm_open(const char *driver);
/* 0 or -1 with errno set. */
int drm_import(int drm_fd, int fd, uint32_t *handle);
int drm_export(int drm_fd, uint32_t handle, uint32_t flags, int *fd);
void drm_close_handle(int drm_fd, uint32_t handle);
/*
 * Maps what the device has at its fake offsets, which a handle need not tell.
 * Returns MAP_FAILED with the errno of the last that was refused with something
 * else than EINVAL.
 */
void *drm_map_fake_offset(int drm_fd, int prot);

/* MAP_FAILED with errno set. */
void *buffer_map(int fd, int prot);
void buffer_unmap(void *map);
int buffer_sync(int fd, uint64_t flags);
uint64_t buffer_inode(int fd);
bool buffer_poll(int fd, short events, int timeout_ms);

/* From debugfs: the objects with this inode, or all for 0. */
struct buffer_info {
	int objects;
	/* of the last of them */
	long references;
	char name[32];
};
struct buffer_info buffer_info(uint64_t inode);
/* Waits until references are `references`, as some are dropped late. */
void check_references(uint64_t inode, long references);
void check_gone(uint64_t inode);

/* A line of /proc/self/fdinfo/FD, "" where there is none. */
const char *fdinfo(int fd, const char *key);

/* The fence timeline of debugfs. Skips the test where there is none. */
int timeline_create(void);
int timeline_fence(int timeline, uint32_t value);
void timeline_increase(int timeline, uint32_t by);

/* The driver of tests/harness/guest/importer. Skips the test where it is not loaded. */
int importer_open(void);
/* 0 or -1 with errno set. */
int importer_attach(int importer, int fd, uint32_t flags);

int count_fds(void);

#endif
