/* SPDX-License-Identifier: MIT */
/*
 * What is derived from dma-bufs, and verified of them, on machines that need not have any:
 * memfds stand in, and the kernel's answers are what a test says. Real ones are in the guests.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "backend.h"
#include "dma_buf_guard.h"
#include "harness.h"

#define SIZE 8192
#define DMABUF VITRINE_STORAGE_DMABUF
#define MEMFD VITRINE_STORAGE_MEMFD
#define SEALED VITRINE_GUARANTEE_SEALED
#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY

/* What the kernel says */

static struct {
	long filesystem; // 0 for the truth
	bool is_guarded;
	bool is_mapped_for_writing, becomes_writable; // whatever the file descriptor allows
	int map_error; // of each map, if not 0
	bool has_guard, has_card;
	uint64_t guard_flags; // that were asked for
	enum derive_attack_result attack;
} kernel;

#define WRAP(suffix) \
	int __real_fstatfs##suffix(int fd, struct statfs *st); \
	int __wrap_fstatfs##suffix(int fd, struct statfs *st); \
	int __wrap_fstatfs##suffix(int fd, struct statfs *st) { \
		int ret = __real_fstatfs##suffix(fd, st); \
		st->f_type = kernel.filesystem != 0 ? kernel.filesystem : st->f_type; \
		return ret; \
	} \
	void *__real_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
		off_t offset); \
	void *__wrap_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
		off_t offset); \
	void *__wrap_mmap##suffix(void *address, size_t len, int prot, int flags, int fd, \
			off_t offset) { \
		if (kernel.map_error != 0) { \
			errno = kernel.map_error; \
			return MAP_FAILED; \
		} \
		bool allow = kernel.is_mapped_for_writing && (prot & PROT_WRITE); \
		return __real_mmap##suffix(address, len, prot, allow ? MAP_PRIVATE : flags, fd, offset); \
	} \
	int __real_open##suffix(const char *path, int flags, ...); \
	int __wrap_open##suffix(const char *path, int flags, ...); \
	int __wrap_open##suffix(const char *path, int flags, ...) { \
		if (strcmp(path, "/dev/dma_buf_guard") == 0 && kernel.has_guard) { \
			return __real_open##suffix("/dev/null", flags); \
		} else if (strncmp(path, "/dev/", 5) == 0) { \
			errno = ENOENT; \
			return -1; \
		} \
		return __real_open##suffix(path, flags); \
	}
WRAP()
WRAP(64)

int __real_mprotect(void *address, size_t len, int prot);
int __wrap_mprotect(void *address, size_t len, int prot);
int __wrap_mprotect(void *address, size_t len, int prot) {
	return kernel.becomes_writable ? 0 : __real_mprotect(address, len, prot);
}

/** Of dma-bufs and of the guard device. A guard is a file of its own. */
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...) {
	if (request == DMA_BUF_GUARD_IOCTL_CREATE) {
		va_list args;
		va_start(args, request);
		struct dma_buf_guard_create *create = va_arg(args, struct dma_buf_guard_create *);
		va_end(args);
		kernel.guard_flags = create->flags;
		create->guard_fd = fcntl(create->fd, F_DUPFD_CLOEXEC, 0);
		return create->guard_fd < 0 ? -1 : 0;
	}
	errno = EACCES;
	return kernel.is_guarded ? -1 : 0;
}

enum derive_attack_result __wrap_derive_attack_dmabuf(int dmabuf_fd);
enum derive_attack_result __wrap_derive_attack_dmabuf(int dmabuf_fd) {
	return kernel.attack;
}

bool __wrap_derive_card_next(struct derive_card *card, int *i);
bool __wrap_derive_card_next(struct derive_card *card, int *i) {
	*card = (struct derive_card){ .name = "card0 (fake)", .dmabuf_fd = dup(STDIN_FILENO) };
	bool is_there = kernel.has_card && (*i)++ == 0;
	if (!is_there) {
		derive_card_finish(card);
	}
	return is_there;
}

/* Memory that stands in for a dma-buf */

struct memory {
	int fd; // O_RDONLY
};

struct memory_options {
	int seals;
	bool is_memfd;
};

static void memory_set_up(struct memory *f, const struct memory_options *options) {
	memset(&kernel, 0, sizeof(kernel));
	int memfd = vitrine_memfd_create(SIZE);
	check_int(memfd, >=, 0);
	check_ok(fcntl(memfd, F_ADD_SEALS, options->seals));
	f->fd = derive_reopen_read_only(memfd);
	check_int(f->fd, >=, 0);
	close(memfd);
	kernel.filesystem = options->is_memfd ? 0 : DMA_BUF_MAGIC;
}

static void memory_tear_down(struct memory *f) {
	close(f->fd);
}

static void expect(const struct memory *f, uint32_t storage, uint32_t guarantee, uint64_t size,
		const char *expected) {
	const char *reason = NULL;
	int ret = vitrine_verify_fd(f->fd, storage, guarantee, size, &reason);
	check_int(ret, ==, expected == NULL ? 0 : -EPERM);
	if (expected != NULL) {
		check_str(reason, expected);
	}
}

/* vitrine_verify_fd() */

/** "guarded (dma-buf, if that is its guarantee)" */
TEST_WITH(memory, guarded_dmabuf_refuses_a_claim_of_write_access) {
	expect(f, DMABUF, FD_READ_ONLY, SIZE, NULL);
	expect(f, DMABUF, GUARDED, SIZE, "the dma-buf is not guarded");
	kernel.is_guarded = true;
	expect(f, DMABUF, GUARDED, SIZE, NULL);
}

/** "at least `size` bytes long" */
TEST_WITH(memory, dmabuf_is_as_long_as_the_view) {
	expect(f, DMABUF, FD_READ_ONLY, SIZE, NULL);
	expect(f, DMABUF, FD_READ_ONLY, SIZE + 1, "the memory is shorter than the view");
}

/** "mappable for reading, and not mappable for writing" */
static void expect_no_map_for_writing(const struct memory *memory, uint32_t storage,
		uint32_t guarantee) {
	expect(memory, storage, guarantee, SIZE, NULL);
	kernel.is_mapped_for_writing = true;
	expect(memory, storage, guarantee, SIZE, "can be mapped for writing");
	kernel.is_mapped_for_writing = false;
	kernel.becomes_writable = true;
	expect(memory, storage, guarantee, SIZE, "a mapping can be made writable");
}

TEST_WITH(memory, dmabuf_is_not_mapped_for_writing) {
	expect_no_map_for_writing(f, DMABUF, FD_READ_ONLY);
}

TEST_WITH(memory, memfd_is_not_mapped_for_writing, .is_memfd = true,
		.seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) {
	expect_no_map_for_writing(f, MEMFD, SEALED);
}

/** Memory of a device need not be for the CPU; a memfd is. */
TEST_WITH(memory, dmabuf_may_have_no_map, .is_memfd = true,
		.seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) {
	static const int errors[] = { EINVAL, ENODEV, EOPNOTSUPP };
	for (int i = 0; i < 3; i++) {
		kernel.map_error = errors[i];
		kernel.filesystem = DMA_BUF_MAGIC;
		expect(f, DMABUF, FD_READ_ONLY, SIZE, NULL);
		kernel.filesystem = 0;
		check_int(vitrine_verify_fd(f->fd, MEMFD, SEALED, SIZE, NULL), ==, -errors[i]);
	}
	kernel.map_error = ENOMEM;
	kernel.filesystem = DMA_BUF_MAGIC;
	check_int(vitrine_verify_fd(f->fd, DMABUF, FD_READ_ONLY, SIZE, NULL), ==, -ENOMEM);
}

TEST_WITH(memory, memfd_of_huge_pages_is_none, .is_memfd = true,
		.seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) {
	expect(f, MEMFD, SEALED, SIZE, NULL);
	kernel.filesystem = HUGETLBFS_MAGIC;
	expect(f, MEMFD, SEALED, SIZE, "not a memfd");
}

TEST_WITH(memory, memfd_that_no_process_writes_is_sealed_as_well, .is_memfd = true,
		.seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) {
	expect(f, MEMFD, SEALED, SIZE, NULL);
}

/* vitrine_derive_fd() */

static int try_derive(const struct memory *f, uint32_t acceptable, bool is_first,
		struct vitrine_derived_fd *derived) {
	enum derive_attack_result attack = kernel.attack;
	kernel.attack = DERIVE_ATTACK_REFUSED; // of the card that is probed
	struct vitrine_derive *derive = vitrine_derive_create();
	check(derive != NULL);
	kernel.attack = attack;
	const struct vitrine_derive_source source = {
		.memfd = -1,
		.dmabuf_fd = f->fd,
		.dmabuf_first_export_read_only = is_first,
		.size = SIZE,
	};
	int ret = vitrine_derive_fd(derive, &source, acceptable, derived);
	vitrine_derive_destroy(derive);
	return ret;
}

/** Returns what is derived of a first export, and closes it. */
static int derive(const struct memory *f, uint32_t acceptable) {
	struct vitrine_derived_fd derived;
	int ret = try_derive(f, acceptable, true, &derived);
	check_int(derived.fd >= 0, ==, ret == 0);
	if (ret == 0) {
		check_int(derived.storage, ==, DMABUF);
		check_int(derived.guarantee, ==, acceptable);
		check_int(derived.fd, !=, f->fd);
		check(fcntl(derived.fd, F_GETFD) & FD_CLOEXEC);
		check_int(fcntl(derived.fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
		close(derived.fd);
	}
	return ret;
}

/** "the first PRIME export of its GEM object and was made without DRM_RDWR" */
TEST_WITH(memory, export_that_is_not_the_first_is_not_handed_out) {
	kernel.has_card = true;
	check_int(derive(f, FD_READ_ONLY), ==, 0);
	struct vitrine_derived_fd derived;
	check_int(try_derive(f, FD_READ_ONLY, false, &derived), ==, -EOPNOTSUPP);
	check_int(derived.fd, ==, -1);
}

/** "the memory of some drivers can be written through read-only maps" */
TEST_WITH(memory, what_can_be_written_all_the_same_is_not_handed_out) {
	kernel.has_card = true;
	static const struct {
		enum derive_attack_result result;
		int ret;
	} attacks[] = {
		{ DERIVE_ATTACK_REFUSED, 0 },
		{ DERIVE_ATTACK_WORKED, -EOPNOTSUPP },
		{ DERIVE_ATTACK_UNTRIED, -EOPNOTSUPP },
		{ DERIVE_ATTACK_NO_RESOURCES, -ENOMEM },
	};
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		kernel.attack = attacks[i].result;
		check_int(derive(f, FD_READ_ONLY), ==, attacks[i].ret);
	}
}

/** What the kernel promises need not be tried, but if it is broken it is broken. */
TEST_WITH(memory, guard_is_handed_out_untried_but_not_if_it_can_be_written) {
	kernel.has_guard = kernel.is_guarded = true;
	kernel.attack = DERIVE_ATTACK_UNTRIED;
	check_int(derive(f, GUARDED), ==, 0);
	kernel.attack = DERIVE_ATTACK_NO_RESOURCES;
	check_int(derive(f, GUARDED), ==, 0);
	kernel.attack = DERIVE_ATTACK_WORKED;
	check_int(derive(f, GUARDED), ==, -EOPNOTSUPP);
	// A holder's fences must not stop the owner
	check(kernel.guard_flags & DMA_BUF_GUARD_OWN_FENCES);
	check(kernel.guard_flags & O_CLOEXEC);
}

/** "-EPERM if a derived file descriptor did not pass the verification" */
TEST_WITH(memory, guard_that_guards_nothing_is_not_handed_out) {
	kernel.has_guard = true;
	check_int(derive(f, GUARDED), ==, -EPERM);
	kernel.is_guarded = true;
	check_int(derive(f, GUARDED), ==, 0);
}

/** "with the kernel's error otherwise": of a later backend that never fitted there is none. */
TEST_WITH(memory, first_error_is_told) {
	kernel.has_guard = kernel.has_card = true;
	struct vitrine_derived_fd derived;
	check_int(try_derive(f, GUARDED | FD_READ_ONLY, false, &derived), ==, -EPERM);
	check_int(try_derive(f, FD_READ_ONLY, false, &derived), ==, -EOPNOTSUPP);
}

/** "-ENODEV if there is no usable /dev/udmabuf" */
TEST_WITH(memory, without_udmabuf_there_is_no_dmabuf_of_a_memfd) {
	struct vitrine_derive *derive = vitrine_derive_create();
	int memfd = vitrine_memfd_create(SIZE);
	check_int(vitrine_udmabuf_create(derive, memfd, SIZE), ==, -ENODEV);
	check_int(fcntl(memfd, F_GET_SEALS), ==, 0); // and it is as it was
	check(fcntl(memfd, F_GETFD) & FD_CLOEXEC);
	close(memfd);
	vitrine_derive_destroy(derive);
}
