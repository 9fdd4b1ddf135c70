/* SPDX-License-Identifier: MIT */
/*
 * What no flag tells: the kernel writes to memory that it has no pages of by the
 * exporter's vm_ops->access, for /proc/PID/mem and ptrace(), and asks for no
 * permission. Whether a read-only map is one has to be tried.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"

/** The byte of the first pixel that most formats use for alpha, or for nothing. */
#define ATTACKED_BYTE 3

/** Writes what is there already, so that the owner notices nothing. */
static bool write_back(int mem_fd, volatile char *byte) {
	char value = *byte;
	return pwrite(mem_fd, &value, 1, (off_t)(uintptr_t)byte) == 1;
}

static enum derive_attack_result attack_map(const char *map) {
	int mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (mem_fd < 0) {
		return DERIVE_ATTACK_UNTRIED;
	}
	// The refusal of one would say nothing if it never worked
	char own = 0;
	enum derive_attack_result result = DERIVE_ATTACK_UNTRIED;
	if (write_back(mem_fd, &own)) {
		result = write_back(mem_fd, (char *)map + ATTACKED_BYTE) ?
			DERIVE_ATTACK_WORKED : DERIVE_ATTACK_REFUSED;
	}
	close(mem_fd);
	return result;
}

enum derive_attack_result derive_attack_dmabuf(int dmabuf_fd) {
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	const char *map = mmap(NULL, len, PROT_READ, MAP_SHARED, dmabuf_fd, 0);
	if (map == MAP_FAILED) {
		return DERIVE_ATTACK_REFUSED; // there is nothing to write to
	}
	enum derive_attack_result result = attack_map(map);
	munmap((void *)map, len);
	return result;
}
