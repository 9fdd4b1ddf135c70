/* SPDX-License-Identifier: MIT */
/*
 * What no flag tells: the kernel writes to memory that it has no pages of by the
 * exporter's vm_ops->access, for /proc/PID/mem and ptrace(), and asks for no
 * permission. Whether a read-only map is one has to be tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"

/** The byte of the first pixel that most formats use for alpha, or for nothing. */
#define ATTACKED_BYTE 3

/** Of an attempt that has failed before it came to what was to be tried. */
static enum derive_attack_result untried(int error) {
	bool may_go_away = error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE;
	return may_go_away ? DERIVE_ATTACK_NO_RESOURCES : DERIVE_ATTACK_UNTRIED;
}

/**
 * Writes what is there already, so that the owner notices nothing. The kernel reads it
 * from the map: where the exporter has no memory for that, this is EFAULT and no SIGBUS.
 */
static enum derive_attack_result write_back(int mem_fd, const char *byte) {
	ssize_t len = pwrite(mem_fd, byte, 1, (off_t)(uintptr_t)byte);
	if (len == 1) {
		return DERIVE_ATTACK_WORKED;
	}
	return len < 0 && errno == EIO ? DERIVE_ATTACK_REFUSED : untried(errno);
}

static enum derive_attack_result attack_map(const char *map) {
	int mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (mem_fd < 0) {
		return untried(errno);
	}
	// The refusal of one would say nothing if it never worked
	char own = 0;
	enum derive_attack_result result = write_back(mem_fd, &own);
	if (result == DERIVE_ATTACK_WORKED) {
		result = write_back(mem_fd, map + ATTACKED_BYTE);
	} else if (result == DERIVE_ATTACK_REFUSED) {
		result = DERIVE_ATTACK_UNTRIED;
	}
	close(mem_fd);
	return result;
}

/** Exporters that are interrupted fail, and the kernel does not tell that from a refusal. */
static enum derive_attack_result attack_map_uninterrupted(const char *map) {
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	enum derive_attack_result result = attack_map(map);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

enum derive_attack_result derive_attack_dmabuf(int dmabuf_fd) {
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	const char *map = mmap(NULL, len, PROT_READ, MAP_SHARED, dmabuf_fd, 0);
	if (map == MAP_FAILED) {
		// Of an exporter without maps there is nothing to write to
		bool has_none = errno == EINVAL || errno == ENODEV || errno == EOPNOTSUPP;
		return has_none ? DERIVE_ATTACK_REFUSED : untried(errno);
	}
	enum derive_attack_result result = attack_map_uninterrupted(map);
	munmap((void *)map, len);
	return result;
}
