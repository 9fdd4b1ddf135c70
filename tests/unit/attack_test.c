/* SPDX-License-Identifier: MIT */
/*
 * Maps of what drivers export. Whether a read-only one can be written has to be tried: what
 * the answers mean. Memory that is written so is in the guests: here a private map stands in.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "backend.h"
#include "harness.h"

#define SIZE 8192

static int mmap_error; // instead of a map, if not 0
static bool maps_privately; // which the kernel does write to, by /proc/self/mem

static bool shrinks; // what is mapped has half of its memory
static int n_writes, n_interruptible; // those while signals are handled

static void count_interruptible(void) {
	sigset_t blocked;
	check_ok(pthread_sigmask(SIG_SETMASK, NULL, &blocked));
	n_writes++;
	n_interruptible += !sigismember(&blocked, SIGALRM);
}

/* Whichever names the headers give them */
#define WRAP(suffix) \
	void *__real_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
		off_t offset); \
	void *__wrap_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
		off_t offset); \
	void *__wrap_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
			off_t offset) { \
		errno = mmap_error; \
		check(!shrinks || ftruncate(fd, (off_t)len / 2) == 0); \
		return mmap_error != 0 ? MAP_FAILED : __real_mmap##suffix(address, len, prot, \
			maps_privately ? MAP_PRIVATE : flags, fd, offset); \
	} \
	ssize_t __real_pwrite##suffix(int fd, const void *data, size_t len, off_t offset); \
	ssize_t __wrap_pwrite##suffix(int fd, const void *data, size_t len, off_t offset); \
	ssize_t __wrap_pwrite##suffix(int fd, const void *data, size_t len, off_t offset) { \
		count_interruptible(); \
		return __real_pwrite##suffix(fd, data, len, offset); \
	}
WRAP()
WRAP(64)

static enum derive_attack_result attack(int fd) {
	sigset_t before, after;
	check_ok(pthread_sigmask(SIG_SETMASK, NULL, &before));
	int n_fds = harness_count_fds();
	enum derive_attack_result result = derive_attack_dmabuf(fd);
	check_int(harness_count_fds(), ==, n_fds);
	check_ok(pthread_sigmask(SIG_SETMASK, NULL, &after));
	check_int(sigismember(&after, SIGALRM), ==, sigismember(&before, SIGALRM));
	return result;
}

struct memory {
	int fd;
};

struct memory_options {
	int unused;
};

static void memory_set_up(struct memory *f, const struct memory_options *options) {
	f->fd = vitrine_memfd_create(SIZE);
	check_int(f->fd, >=, 0);
	mmap_error = 0;
	maps_privately = true;
	check_int(attack(f->fd), ==, DERIVE_ATTACK_WORKED); // the positive case of each
	maps_privately = false;
}

static void memory_tear_down(struct memory *f) {
	close(f->fd);
}

TEST_WITH(memory, map_that_is_shared_is_not_written) {
	check_int(attack(f->fd), ==, DERIVE_ATTACK_REFUSED);
}

TEST_WITH(memory, exporter_without_maps_is_not_written) {
	static const int errors[] = { EINVAL, ENODEV, EOPNOTSUPP };
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		mmap_error = errors[i];
		check_int(attack(f->fd), ==, DERIVE_ATTACK_REFUSED);
	}
}

/** Another time there may be a map, and a holder may have one. */
TEST_WITH(memory, map_that_fails_is_no_refusal) {
	static const int errors[] = { ENOMEM, EAGAIN, EPERM, EACCES, EIO };
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		mmap_error = errors[i];
		check_int(attack(f->fd), ==, i < 2 ? DERIVE_ATTACK_NO_RESOURCES : DERIVE_ATTACK_UNTRIED);
	}
}

/** A read of it is a SIGBUS, also for the process that looks. */
TEST_WITH(memory, map_without_memory_is_no_refusal_and_no_sigbus) {
	check_ok(ftruncate(f->fd, 0));
	check_int(attack(f->fd), ==, DERIVE_ATTACK_UNTRIED);
	maps_privately = true;
	check_int(attack(f->fd), ==, DERIVE_ATTACK_UNTRIED);
}

TEST_WITH(memory, without_a_file_descriptor_it_is_tried_another_time) {
	struct rlimit saved;
	check_ok(getrlimit(RLIMIT_NOFILE, &saved));
	struct rlimit none = { 0, saved.rlim_max };
	check_ok(setrlimit(RLIMIT_NOFILE, &none));
	enum derive_attack_result result = derive_attack_dmabuf(f->fd);
	check_ok(setrlimit(RLIMIT_NOFILE, &saved));
	check_int(result, ==, DERIVE_ATTACK_NO_RESOURCES);
}

/** The memory of the source is gone when it is copied, of which its length says nothing. */
TEST_WITH(memory, copy_of_a_map_without_memory_fails_and_no_sigbus) {
	const struct vitrine_derive_source source = { .memfd = f->fd, .dmabuf_fd = -1, .size = SIZE };
	struct vitrine_derived_fd derived;
	int n_fds = harness_count_fds();
	check_int(derive_backend_snapshot.derive(NULL, &source, VITRINE_GUARANTEE_SNAPSHOT, &derived),
		==, 0);
	close(derived.fd);
	shrinks = true;
	check_int(derive_backend_snapshot.derive(NULL, &source, VITRINE_GUARANTEE_SNAPSHOT, &derived),
		==, -EFAULT);
	shrinks = false;
	check_int(harness_count_fds(), ==, n_fds);
}

/** Drivers that are interrupted fail, which looks like a refusal. */
TEST_WITH(memory, no_signal_interrupts_the_attack) {
	n_writes = n_interruptible = 0;
	attack(f->fd);
	check_int(n_writes, >, 0);
	check_int(n_interruptible, ==, 0);
}
