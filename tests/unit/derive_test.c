/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "harness.h"

#define SIZE 8192

/** A memfd as an owner has it: mapped and written to. */
struct owner {
	int fd;
	uint8_t *data;
	struct vitrine_derive_source source;
};

struct owner_options {
	int seals;
};

static void owner_set_up(struct owner *f, const struct owner_options *options) {
	f->fd = vitrine_memfd_create(SIZE);
	check_int(f->fd, >=, 0);
	f->data = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	check(f->data != MAP_FAILED);
	memset(f->data, 0x11, SIZE);
	check(fcntl(f->fd, F_ADD_SEALS, options->seals) == 0);
	f->source = (struct vitrine_derive_source){ .memfd = f->fd, .dmabuf_fd = -1, .size = SIZE };
}

static void owner_tear_down(struct owner *f) {
	munmap(f->data, SIZE);
	close(f->fd);
}

static int try_derive(const struct owner *f, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	struct vitrine_derive *derive = vitrine_derive_create();
	check(derive != NULL);
	int ret = vitrine_derive_fd(derive, &f->source, acceptable, derived);
	vitrine_derive_destroy(derive);
	return ret;
}

static struct vitrine_derived_fd derive(const struct owner *f, uint32_t acceptable) {
	struct vitrine_derived_fd derived;
	check_int(try_derive(f, acceptable, &derived), ==, 0);
	return derived;
}

static void expect_derive_error(const struct owner *f, uint32_t acceptable, int error) {
	struct vitrine_derived_fd derived;
	check_int(try_derive(f, acceptable, &derived), ==, error);
	check_int(derived.fd, ==, -1);
}

TEST(guarantees_have_names) {
	for (uint32_t bit = 1; bit <= VITRINE_GUARANTEE_FD_READ_ONLY; bit <<= 1) {
		const char *name = vitrine_guarantee_name(bit);
		check(strcmp(name, "unknown") != 0);
		check_int(vitrine_guarantee_from_name(name), ==, bit);
	}
	check_str(vitrine_guarantee_name(0), "unknown");
	check_int(vitrine_guarantee_from_name("read-only"), ==, 0);
}

TEST(storages_have_names) {
	for (uint32_t bit = 1; bit <= VITRINE_STORAGE_DMABUF; bit <<= 1) {
		const char *name = vitrine_storage_name(bit);
		check(strcmp(name, "unknown") != 0);
		check_int(vitrine_storage_from_name(name), ==, bit);
	}
	check_str(vitrine_storage_name(VITRINE_STORAGE_MEMFD), "memfd");
	check_str(vitrine_storage_name(VITRINE_STORAGE_DMABUF), "dmabuf");
	check_str(vitrine_storage_name(0), "unknown");
	check_int(vitrine_storage_from_name("disk"), ==, 0);
}

TEST(probe_lists_each_backend_with_a_reason) {
	struct vitrine_derive *derive = vitrine_derive_create();
	size_t len;
	const struct vitrine_derive_backend_info *infos = vitrine_derive_get_backends(derive, &len);
	static const char *const names[] = { "sealed", "ioctl", "guard", "prime", "snapshot" };
	check_int(len, ==, sizeof(names) / sizeof(names[0]));
	uint32_t guarantees = 0;
	for (size_t i = 0; i < len; i++) {
		check_str(infos[i].name, names[i]);
		check(infos[i].detail != NULL && infos[i].detail[0] != '\0');
		check(infos[i].available || strncmp(infos[i].detail, "not available: ", 15) == 0);
		guarantees |= infos[i].available ? infos[i].guarantees : 0;
	}
	check_int(vitrine_derive_get_guarantees(derive), ==, guarantees);
	check(guarantees & VITRINE_GUARANTEE_SEALED);
	check(guarantees & VITRINE_GUARANTEE_SNAPSHOT);
	vitrine_derive_destroy(derive);
}

TEST(backends_can_be_restricted) {
	setenv("VITRINE_BACKENDS", "snapshot,guard", 1);
	struct vitrine_derive *derive = vitrine_derive_create();
	check(!(vitrine_derive_get_guarantees(derive) & VITRINE_GUARANTEE_SEALED));
	check(vitrine_derive_get_guarantees(derive) & VITRINE_GUARANTEE_SNAPSHOT);
	size_t len;
	const struct vitrine_derive_backend_info *infos = vitrine_derive_get_backends(derive, &len);
	check_str(infos[0].detail, "not available: not in VITRINE_BACKENDS");
	vitrine_derive_destroy(derive);
	setenv("VITRINE_BACKENDS", "sealed2,asealed", 1);
	derive = vitrine_derive_create();
	check_int(vitrine_derive_get_guarantees(derive), ==, 0);
	vitrine_derive_destroy(derive);
}

TEST_WITH(owner, sealed_shows_what_the_owner_writes) {
	struct vitrine_derived_fd derived = derive(f, VITRINE_GUARANTEE_SEALED);
	check_int(derived.guarantee, ==, VITRINE_GUARANTEE_SEALED);
	check_int(derived.storage, ==, VITRINE_STORAGE_MEMFD);
	check(fcntl(derived.fd, F_GETFD) & FD_CLOEXEC);
	const uint8_t *view = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, derived.fd, 0);
	check(view != MAP_FAILED);
	check_int(view[SIZE - 1], ==, 0x11);
	f->data[SIZE - 1] = 0x22;
	check_int(view[SIZE - 1], ==, 0x22);
	munmap((void *)view, SIZE);
	close(derived.fd);
}

TEST_WITH(owner, sealed_refuses_every_way_to_write) {
	// The positive case: all of it works before the memory is sealed
	check(pwrite(f->fd, "x", 1, 0) == 1);
	void *data = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	check(data != MAP_FAILED);
	munmap(data, SIZE);

	struct vitrine_derived_fd derived = derive(f, VITRINE_GUARANTEE_SEALED);
	check_errno(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, derived.fd, 0), EACCES);
	data = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, derived.fd, 0);
	check(data != MAP_FAILED);
	check_errno(mprotect(data, SIZE, PROT_READ | PROT_WRITE), EACCES);
	munmap(data, SIZE);
	check_errno(pwrite(derived.fd, "x", 1, 0), EBADF);

	// The owner's own fd is no way in either, nor is opening the file anew
	check_errno(pwrite(f->fd, "x", 1, 0), EPERM);
	check_errno(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0), EPERM);
	check_errno(ftruncate(f->fd, 0), EPERM);
	check_errno(fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
	check_errno(fcntl(f->fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	close(derived.fd);
}

TEST_WITH(owner, sealed_can_be_derived_again) {
	struct vitrine_derived_fd first = derive(f, VITRINE_GUARANTEE_SEALED);
	struct vitrine_derived_fd second = derive(f, VITRINE_GUARANTEE_SEALED);
	check_int(first.fd, !=, second.fd);
	close(first.fd);
	close(second.fd);
}

static void check_copy(const struct owner *f, struct vitrine_derived_fd derived) {
	check_int(derived.guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	const uint8_t *view = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, derived.fd, 0);
	check(view != MAP_FAILED);
	check_int(view[0], ==, 0x11);
	f->data[0] = 0x22;
	check_int(view[0], ==, 0x11);
	check_int(fcntl(derived.fd, F_GET_SEALS) & F_SEAL_WRITE, ==, F_SEAL_WRITE);
	// The owner's memory is not sealed by this
	check(pwrite(f->fd, "x", 1, 0) == 1);
	munmap((void *)view, SIZE);
	close(derived.fd);
}

TEST_WITH(owner, snapshot_shares_nothing) {
	check_copy(f, derive(f, VITRINE_GUARANTEE_SNAPSHOT));
}

TEST_WITH(owner, snapshot_needs_no_probed_machine) {
	struct vitrine_derived_fd derived;
	check_int(vitrine_derive_snapshot(&f->source, &derived), ==, 0);
	check_copy(f, derived);
	f->source.size = 0;
	check_int(vitrine_derive_snapshot(&f->source, &derived), ==, -EINVAL);
	check_int(derived.fd, ==, -1);
}

/** A map of a GPU's memory may show old bytes, without an error. */
TEST_WITH(owner, snapshot_of_a_dmabuf_needs_a_map_that_shows_the_pixels) {
	struct vitrine_derived_fd derived;
	f->source.dmabuf_fd = f->fd; // whether it is one does not matter yet
	f->source.memfd = -1;
	check_int(vitrine_derive_snapshot(&f->source, &derived), ==, -EOPNOTSUPP);
	check_int(derived.fd, ==, -1);
	f->source.dmabuf_is_mapped = true;
	check_int(vitrine_derive_snapshot(&f->source, &derived), ==, -ENOTTY);
	f->source.memfd = f->fd;
	f->source.dmabuf_is_mapped = false;
	check_int(vitrine_derive_snapshot(&f->source, &derived), ==, 0);
	check_copy(f, derived);
}

TEST_WITH(owner, zero_copy_is_preferred_to_a_copy) {
	struct vitrine_derived_fd derived = derive(f, VITRINE_GUARANTEE_ALL);
	check_int(derived.guarantee, ==, VITRINE_GUARANTEE_SEALED);
	close(derived.fd);
}

TEST_WITH(owner, nothing_acceptable_is_not_supported) {
	expect_derive_error(f, 0, -EOPNOTSUPP);
	f->source.memfd = -1;
	expect_derive_error(f, VITRINE_GUARANTEE_ALL, -EOPNOTSUPP);
}

TEST_WITH(owner, bad_sources_are_refused) {
	f->source.size = 0;
	expect_derive_error(f, VITRINE_GUARANTEE_ALL, -EINVAL);
	f->source.size = SIZE + 1; // longer than the memory is
	expect_derive_error(f, VITRINE_GUARANTEE_SNAPSHOT, -EINVAL);
	expect_derive_error(f, VITRINE_GUARANTEE_SEALED, -EPERM);
	f->source = (struct vitrine_derive_source){ .memfd = 9999, .dmabuf_fd = -1, .size = SIZE };
	expect_derive_error(f, VITRINE_GUARANTEE_SEALED, -EBADF);
	int pipe_fds[2];
	check(pipe(pipe_fds) == 0);
	f->source.memfd = pipe_fds[0];
	expect_derive_error(f, VITRINE_GUARANTEE_SEALED, -EINVAL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

TEST_WITH(owner, fd_limit_leaks_nothing) {
	struct vitrine_derive *derive = vitrine_derive_create();
	struct vitrine_derived_fd derived;
	int ret = vitrine_derive_fd(derive, &f->source, VITRINE_GUARANTEE_SNAPSHOT, &derived);
	check_int(ret, ==, 0);
	int lowest_free = derived.fd;
	close(derived.fd);
	int n_fds = harness_count_fds();
	struct rlimit saved;
	check(getrlimit(RLIMIT_NOFILE, &saved) == 0);
	// Room for none, then for the copy but not for its read-only fd
	for (int room = 0; room < 2; room++) {
		struct rlimit limit = { (rlim_t)(lowest_free + room - 1), saved.rlim_max };
		check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		ret = vitrine_derive_fd(derive, &f->source, VITRINE_GUARANTEE_SNAPSHOT, &derived);
		check(setrlimit(RLIMIT_NOFILE, &saved) == 0);
		check_int(ret, ==, -EMFILE);
		check_int(harness_count_fds(), ==, n_fds);
	}
	vitrine_derive_destroy(derive);
}

TEST(memory_sizes_are_checked) {
	check_int(vitrine_memfd_create(0), ==, -EINVAL);
	check_int(vitrine_memfd_create(UINT64_MAX), ==, -EINVAL);
	int fd = vitrine_memfd_create(1);
	struct stat st;
	check(fstat(fd, &st) == 0);
	check_int(st.st_size, ==, sysconf(_SC_PAGESIZE)); // whole pages
	close(fd);
}

/* vitrine_verify_fd() */

static void expect_verify_error(int fd, uint32_t storage, uint32_t guarantee,
		const char *expected) {
	const char *reason = NULL;
	check_int(vitrine_verify_fd(fd, storage, guarantee, SIZE, &reason), ==, -EPERM);
	check_str(reason, expected);
}

static void expect_not_sealed(int fd, const char *expected) {
	expect_verify_error(fd, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_SEALED, expected);
}

/** A memfd with these seals, reopened read-only. */
static int make_memfd(int seals, off_t size) {
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(fd >= 0 && ftruncate(fd, size) == 0);
	check(fcntl(fd, F_ADD_SEALS, seals) == 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int read_only = open(path, O_RDONLY | O_CLOEXEC);
	check(read_only >= 0);
	close(fd);
	return read_only;
}

#define NOT_SEALED "the memfd is not sealed against resizing and further seals"
#define GOOD_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

TEST(verify_accepts_what_is_sealed) {
	int fd = make_memfd(GOOD_SEALS, SIZE);
	check_int(vitrine_verify_fd(fd, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_SEALED, SIZE,
		NULL), ==, 0);
	close(fd);
}

TEST_WITH(owner, verify_refuses_a_writable_fd, .seals = GOOD_SEALS) {
	expect_not_sealed(f->fd, "not open with O_RDONLY");
}

static const struct {
	const char *name;
	int missing_seals;
	off_t size;
	const char *reason;
} bad_memfds[] = {
	{ "can shrink", F_SEAL_SHRINK, SIZE, NOT_SEALED },
	{ "can grow", F_SEAL_GROW, SIZE, NOT_SEALED },
	{ "can be sealed", F_SEAL_SEAL, SIZE, NOT_SEALED },
	{ "can be written", F_SEAL_FUTURE_WRITE, SIZE, "the memfd is not sealed against writing" },
	{ "is short", 0, SIZE - 1, "the memory is shorter than the view" },
};

TEST_EACH(bad_memfds, verify_refuses_a_memfd_that) {
	int fd = make_memfd(GOOD_SEALS & ~param->missing_seals, param->size);
	expect_not_sealed(fd, param->reason);
	close(fd);
}

TEST(verify_refuses_what_is_no_memfd) {
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	expect_not_sealed(fd, "not a memfd");
	close(fd);
	fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	expect_not_sealed(fd, "not open with O_RDONLY");
	close(fd);
	check_int(vitrine_verify_fd(-1, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_SEALED, 1, NULL),
		==, -EBADF);
}

TEST(verify_refuses_a_plain_file_as_a_dmabuf) {
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	expect_verify_error(fd, VITRINE_STORAGE_DMABUF, VITRINE_GUARANTEE_FD_READ_ONLY,
		"not a dma-buf");
	close(fd);
}

TEST(verify_accepts_a_snapshot_in_each_storage) {
	int fd = make_memfd(GOOD_SEALS, SIZE);
	check_int(vitrine_verify_fd(fd, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_SNAPSHOT, SIZE,
		NULL), ==, 0);
	// The file descriptor must be of the storage all the same
	expect_verify_error(fd, VITRINE_STORAGE_DMABUF, VITRINE_GUARANTEE_SNAPSHOT,
		"not a dma-buf");
	expect_verify_error(fd, VITRINE_STORAGE_MAPPED_DMABUF, VITRINE_GUARANTEE_SNAPSHOT,
		"not a dma-buf");
	close(fd);
}

TEST(verify_refuses_a_storage_that_does_not_fit) {
	const char *reason = "the storage does not fit the guarantee";
	int fd = make_memfd(GOOD_SEALS, SIZE);
	expect_verify_error(fd, VITRINE_STORAGE_DMABUF, VITRINE_GUARANTEE_SEALED, reason);
	expect_verify_error(fd, VITRINE_STORAGE_MAPPED_DMABUF, VITRINE_GUARANTEE_SEALED, reason);
	expect_verify_error(fd, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_GUARDED, reason);
	expect_verify_error(fd, VITRINE_STORAGE_MEMFD, VITRINE_GUARANTEE_FD_READ_ONLY, reason);
	expect_verify_error(fd, VITRINE_STORAGE_MEMFD, 0, reason);
	close(fd);
}

/** What the holder of a view with our uid may do to the file, and we alone are to undo. */
static void derive_from_a_file_whose_mode_was_changed(void) {
	struct owner f;
	owner_set_up(&f, &(struct owner_options){0});
	struct vitrine_derived_fd derived = derive(&f, VITRINE_GUARANTEE_SEALED);
	const mode_t modes[] = { 0, 0111, 0222 };
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		check_ok(fchmod(derived.fd, modes[i]));
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", f.fd);
		check_errno(open(path, O_RDONLY | O_CLOEXEC), EACCES); // the change has that effect
		struct vitrine_derived_fd again = derive(&f, VITRINE_GUARANTEE_SEALED);
		const uint8_t *data = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, again.fd, 0);
		check(data != MAP_FAILED && data[0] == 0x11);
		munmap((void *)data, SIZE);
		close(again.fd);
	}
	close(derived.fd);
	owner_tear_down(&f);
}

TEST(holder_with_our_uid_does_not_keep_us_from_deriving) {
	pid_t pid = fork();
	check_int(pid, >=, 0);
	if (pid == 0) {
		// Root opens any file
		if (getuid() == 0) {
			check_ok(setgid(65534));
			check_ok(setuid(65534));
		}
		derive_from_a_file_whose_mode_was_changed();
		_exit(0);
	}
	int status;
	check(waitpid(pid, &status, 0) == pid && status == 0);
}
