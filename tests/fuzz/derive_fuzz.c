/* SPDX-License-Identifier: MIT */
/*
 * Made-up file descriptors and attributes into libvitrine-derive. What it accepts is held
 * against the promise by other means: each way to write that a holder has is tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "fuzz.h"

enum { PAGE = 4096, SIZE_CAP = 8 * PAGE };

/** What the bytes of an input mean. */
struct plan {
	uint8_t kind, mode, n_bytes_high, flags;
	uint16_t n_bytes, seals;
	uint32_t storage, guarantee, acceptable;
	uint64_t size;
};

enum kind { KIND_MEMFD, KIND_NO_SEALS, KIND_PIPE, KIND_DIRECTORY, KIND_ZERO, KIND_CLOSED, N_KINDS };

/** One bit in most cases, since few others get far. */
static uint32_t pick_bit(uint32_t value) {
	return value & 0x80000000u ? value : 1u << value % 5;
}

static int make_memfd(const struct plan *plan, bool sealable) {
	int fd = memfd_create("fuzz", MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0));
	fuzz_must(fd >= 0 && ftruncate(fd, plan->n_bytes % SIZE_CAP) == 0);
	if (sealable) {
		// EXEC is none of ours: it takes the mode away that tells on which side we are
		(void)fcntl(fd, F_ADD_SEALS, plan->seals & 0x1f);
	}
	return fd;
}

static int make_fd(const struct plan *plan) {
	int ends[2];
	switch (plan->kind % N_KINDS) {
	case KIND_MEMFD:
	case KIND_NO_SEALS:
		return make_memfd(plan, plan->kind % N_KINDS == KIND_MEMFD);
	case KIND_PIPE:
		fuzz_must(pipe2(ends, O_CLOEXEC) == 0);
		close(ends[1]);
		return ends[0];
	case KIND_DIRECTORY:
		return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case KIND_ZERO:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	default:
		return -1;
	}
}

/** The same file in another mode, if it can be had. */
static int reopen(int take_fd, uint8_t mode) {
	static const int modes[] = { O_RDONLY, O_RDONLY, O_RDWR, O_WRONLY, O_PATH };
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", take_fd);
	int fd = open(path, modes[mode % 5] | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		return take_fd;
	}
	close(take_fd);
	return fd;
}

/** What a holder may try on what is called read-only. */
static void attack(int fd, uint64_t size) {
	struct stat st;
	fuzz_must(fstat(fd, &st) == 0 && (uint64_t)st.st_size >= size);
	fuzz_must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	fuzz_must(pwrite(fd, "x", 1, 0) < 0);
	fuzz_must(ftruncate(fd, 0) < 0);
	fuzz_must(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
	int writer = reopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), 2);
	fuzz_must(pwrite(writer, "x", 1, 0) < 0);
	fuzz_must(ftruncate(writer, st.st_size / 2) < 0 || st.st_size == 0);
	fuzz_must(ftruncate(writer, st.st_size + PAGE) < 0);
	fuzz_must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0) == MAP_FAILED);
	close(writer);
}

static void fuzz_verify(const struct plan *plan, int fd) {
	const char *reason = NULL;
	int ret = vitrine_verify_fd(fd, pick_bit(plan->storage), pick_bit(plan->guarantee),
		plan->size, &reason);
	fuzz_must(ret <= 0 && (ret == 0) == (reason == NULL));
	if (ret == 0) {
		attack(fd, plan->size);
	}
}

static void fuzz_derive(const struct plan *plan, int fd) {
	static struct vitrine_derive *derive;
	if (derive == NULL) {
		fuzz_must((derive = vitrine_derive_create()) != NULL);
	}
	const struct vitrine_derive_source source = {
		.memfd = plan->flags & 1 ? fd : -1,
		.dmabuf_fd = plan->flags & 2 ? fd : -1,
		.dmabuf_first_export_read_only = plan->flags & 4,
		.dmabuf_is_mapped = plan->flags & 8,
		.size = plan->flags & 16 ? plan->size : plan->n_bytes % SIZE_CAP,
	};
	struct vitrine_derived_fd derived = { .fd = 12345 };
	int ret = plan->flags & 32 ? vitrine_derive_snapshot(&source, &derived) :
		vitrine_derive_fd(derive, &source, plan->acceptable, &derived);
	fuzz_must(ret <= 0 && (ret == 0) == (derived.fd >= 0));
	if (ret == 0) {
		fuzz_must(plan->flags & 32 || derived.guarantee & plan->acceptable);
		fuzz_must(vitrine_verify_fd(derived.fd, derived.storage, derived.guarantee,
			source.size, NULL) == 0);
		attack(derived.fd, source.size);
		close(derived.fd);
	}
}

/** Words for what there is lead back to it, and no other word does. */
static void fuzz_names(const uint8_t *data, size_t len) {
	char name[32] = {0};
	memcpy(name, data, len < sizeof(name) - 1 ? len : sizeof(name) - 1);
	uint32_t guarantee = vitrine_guarantee_from_name(name);
	uint32_t storage = vitrine_storage_from_name(name);
	fuzz_must(guarantee == 0 || strcmp(vitrine_guarantee_name(guarantee), name) == 0);
	fuzz_must(storage == 0 || strcmp(vitrine_storage_name(storage), name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
	struct plan plan = {0};
	memcpy(&plan, data, len < sizeof(plan) ? len : sizeof(plan));
	fuzz_names(data, len);
	int fd = reopen(make_fd(&plan), plan.mode);
	if (plan.flags & 64) {
		fuzz_verify(&plan, fd);
	} else {
		fuzz_derive(&plan, fd);
	}
	if (fd >= 0) {
		close(fd);
	}
	return 0;
}
