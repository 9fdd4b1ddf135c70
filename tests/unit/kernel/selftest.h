/* SPDX-License-Identifier: MIT */
/*
 * What the selftests have in common: a buffer of every exporter there is, and
 * what must hold for each fd that is to be read-only, of a guard or derived.
 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include "dmabuf.h"
#include "harness.h"

#include <linux/dma-buf.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * The fixture. Tests may leave open what they opened: that the kernel keeps none
 * of it is seen in the number of dma-bufs, once the test has ended.
 */
struct buffer {
	int fd;
	uint64_t inode;
	/* An exporter may keep some, and so may its handles. */
	long references;
};

struct buffer_options {
	enum exporter exporter;
};

void buffer_set_up(struct buffer *f, const struct buffer_options *options);
void buffer_tear_down(struct buffer *f);

struct buffer_param {
	const char *name;
	struct buffer_options options;
};

extern const struct buffer_param buffer_params[EXPORTER_COUNT];

#define TEST_EACH_EXPORTER(name) TEST_WITH_EACH(buffer, buffer_params, name)

/* In the flags of derive(): by DMA_BUF_IOCTL_DERIVE_UNGUARDED, which is not given it. */
#define DERIVE_UNGUARDED (1u << 31)

/* A derived fd or a guard, or -1 with errno set. */
int derive(int fd, uint32_t flags);
int guard_try(int device, int fd, uint32_t flags);
/* The same, but skips the test where the kernel cannot derive. */
int derive_checked(int fd, uint32_t flags);
/* False when it is in use. */
bool module_unload(const char *name);

/* What is written through `fd` is seen through `read_only`. */
void check_sees_writes(int fd, int read_only);
/* `read_only` cannot be mapped for writing, nor become so, while `fd` can. */
void check_cannot_be_written(int fd, int read_only);
/* The same of a mapping that is private, where the exporter has such. */
void check_cannot_be_written_privately(int fd, int read_only);
/*
 * Write the first byte of a mapping by ways that do not ask for its permissions: 0
 * or an errno. The mapping must be shared for the second.
 */
int write_by_proc_mem(const volatile void *map, uint8_t value);
int write_by_ptrace(const volatile void *map, uint8_t value);
/* `read_only` does not tell the exporter that it writes, while `fd` does. */
void check_syncs_for_reading_only(int fd, int read_only);
/* What an access by one of these three waits for is the same for all. */
void check_fences_are_shared(int fd, int writer, int read_only);
/* Runs it in a child that is another user. */
void check_as_other_user(void (*run)(int fd), int fd);
/* `make` is called until there are no fds left; then it must fail with EMFILE. */
void check_fd_limit_leaks_nothing(struct buffer *f, int (*make)(int fd));
/* A page for what an ioctl is given. */
void *arguments_create(void);
/* The ioctl fails where it can read its arguments but not write to them. */
void check_bad_memory_leaks_nothing(struct buffer *f, int fd, unsigned long request,
	void *arguments);

/* The driver of tests/harness/guest/importer. Skips the test where it is not loaded. */
int importer_open(void);
/* 0 or -1 with errno set. */
int importer_attach(int importer, int fd, uint32_t flags);
/* A dma-buf of the driver's own, which moves when it is told to, or one that is PAGELESS. */
int importer_export(int importer, uint32_t flags);

/* enum dma_data_direction */
enum { BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE };

#endif
