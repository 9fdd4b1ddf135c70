/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "harness.h"
#include "pins.h"

#define HUGE ((size_t)2 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/** Memory as a compositor has it: written, sealed, and not mapped any more. */
struct memory {
	int memfd, view; // of the owner, and of a holder
	size_t size;
};

struct memory_options {
	size_t size;
	bool is_huge, is_writable;
};

/** At an address that huge pages can be mapped to; to be unmapped by what is returned. */
static char *map_aligned(int fd, size_t size, char **reserved) {
	*reserved = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(*reserved != MAP_FAILED);
	char *data = *reserved + HUGE - (uintptr_t)*reserved % HUGE;
	check(mmap(data, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == data);
	return data;
}

static void derive(struct memory *memory) {
	struct vitrine_derive *derive = vitrine_derive_create();
	struct vitrine_derived_fd derived;
	check_int(vitrine_derive_fd(derive, &(struct vitrine_derive_source){
		.memfd = memory->memfd,
		.dmabuf_fd = -1,
		.size = memory->size,
	}, VITRINE_GUARANTEE_SEALED, &derived), ==, 0);
	vitrine_derive_destroy(derive);
	memory->view = derived.fd;
}

static void memory_set_up(struct memory *memory, const struct memory_options *options) {
	memory->size = options->size != 0 ? options->size : 2 * HUGE;
	memory->memfd = vitrine_memfd_create(memory->size);
	check(memory->memfd >= 0);
	char *reserved, *data = map_aligned(memory->memfd, memory->size, &reserved);
	if (options->is_huge) {
		for (size_t offset = 0; offset < memory->size; offset += HUGE) {
			madvise(data + offset, 4096, MADV_POPULATE_WRITE);
		}
		madvise(data, memory->size, MADV_COLLAPSE); // else the memory is of small pages
	}
	memset(data, 7, memory->size);
	memory->view = -1;
	if (!options->is_writable) {
		derive(memory);
	}
	munmap(reserved, memory->size + HUGE);
}

static void memory_tear_down(struct memory *memory) {
	if (memory->view >= 0) {
		close(memory->view);
	}
	close(memory->memfd);
}

static void skip_if_silent(void) {
	if (!harness_kernel_tells_pins()) {
		harness_skip("the kernel has no huge pages, or does not say what is huge");
	}
}

/** Nothing keeps it; the kernel may be at it for a moment, such as with pages just written. */
static void check_none(const struct memory *memory) {
	size_t checked = 0;
	enum vt_pins pins;
	while ((pins = vt_pins_find(memory->memfd, &checked)) == VT_PINS_SOME) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); // the harness has a timeout
	}
	check_int(pins, ==, VT_PINS_NONE);
	check_int(checked, >=, memory->size);
	check_int(vt_pins_find(memory->memfd, &checked), ==, VT_PINS_NONE); // all is known
}

TEST_WITH(memory, a_kernel_that_cannot_say_is_believed_nothing, .is_huge = true) {
	size_t checked = 0;
	if (!harness_kernel_tells_pins()) {
		check_int(vt_pins_find(f->memfd, &checked), ==, VT_PINS_UNKNOWN);
		check_int(checked, ==, 0);
	} else {
		check_none(f);
	}
}

/* Ways to keep pages: each opens file descriptors, and reads or writes what is at `offset` */

struct keeper {
	int fds[3];
};

static void keep_in_pipe(struct keeper *keeper, const struct memory *memory, size_t offset) {
	check_ok(pipe2(keeper->fds, O_CLOEXEC));
	loff_t from = (loff_t)offset;
	check_int(splice(memory->view, &from, keeper->fds[1], NULL, 1, 0), ==, 1);
}

static void keep_map_in_pipe(struct keeper *keeper, const struct memory *memory,
		size_t offset) {
	check_ok(pipe2(keeper->fds, O_CLOEXEC));
	char *data = mmap(NULL, memory->size, PROT_READ, MAP_SHARED, memory->view, 0);
	check(data != MAP_FAILED);
	struct iovec part = { .iov_base = data + offset, .iov_len = 1 };
	check_int(vmsplice(keeper->fds[1], &part, 1, 0), ==, 1);
	munmap(data, memory->size);
}

static void keep_in_unix_socket(struct keeper *keeper, const struct memory *memory,
		size_t offset) {
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keeper->fds));
	off_t from = (off_t)offset;
	check_int(sendfile(keeper->fds[0], memory->view, &from, 1), ==, 1);
}

static void keep_in_tcp_socket(struct keeper *keeper, const struct memory *memory,
		size_t offset) {
	// A packet that another processor has made waits to be freed until that one gets the next
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	check_ok(sched_setaffinity(0, sizeof(one), &one));
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);
	keeper->fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	keeper->fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check_ok(bind(keeper->fds[0], (struct sockaddr *)&address, len));
	check_ok(listen(keeper->fds[0], 1));
	check_ok(getsockname(keeper->fds[0], (struct sockaddr *)&address, &len));
	if (connect(keeper->fds[1], (struct sockaddr *)&address, len) != 0) {
		harness_skip("there is no loopback interface: %s", strerrorname_np(errno));
	}
	keeper->fds[2] = accept4(keeper->fds[0], NULL, NULL, SOCK_CLOEXEC);
	check(keeper->fds[2] >= 0);
	off_t from = (off_t)offset;
	check_int(sendfile(keeper->fds[1], memory->view, &from, 1), ==, 1);
}

/** Only what can be written is registered, which a view cannot: it shows the pin alone. */
static void keep_in_io_uring(struct keeper *keeper, const struct memory *memory,
		size_t offset) {
	struct io_uring_params params = { 0 };
	keeper->fds[0] = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (keeper->fds[0] < 0) {
		harness_skip("there is no io_uring here: %s", strerrorname_np(errno));
	}
	char *data = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->memfd, 0);
	check(data != MAP_FAILED);
	struct iovec part = { .iov_base = data + offset, .iov_len = 1 };
	check_ok(syscall(SYS_io_uring_register, keeper->fds[0], IORING_REGISTER_BUFFERS, &part, 1));
	munmap(data, memory->size);
}

static void let_go(struct keeper *keeper) {
	for (size_t i = 0; i < 3; i++) {
		if (keeper->fds[i] >= 0) {
			close(keeper->fds[i]);
			keeper->fds[i] = -1;
		}
	}
}

#define KEEPERS(size, suffix, ...) \
	{ "pipe" suffix, { size, __VA_ARGS__ }, keep_in_pipe }, \
	{ "mapping-in-pipe" suffix, { size, __VA_ARGS__ }, keep_map_in_pipe }, \
	{ "unix-socket" suffix, { size, __VA_ARGS__ }, keep_in_unix_socket }, \
	{ "tcp-socket" suffix, { size, __VA_ARGS__ }, keep_in_tcp_socket }

TEST_PARAMS(memory, keepers, void (*keep)(struct keeper *keeper, const struct memory *memory,
		size_t offset)) = {
	KEEPERS(4 * HUGE, ", huge pages", true),
	KEEPERS(4 * HUGE, ", small pages", false),
	KEEPERS(3 * HUGE + 3 * 4096, ", both", true),
	KEEPERS(5 * 4096, ", less than a huge page", false),
	{ "io_uring, huge pages", { 4 * HUGE, true, true }, keep_in_io_uring },
	{ "io_uring, small pages", { 4 * HUGE, false, true }, keep_in_io_uring },
};

TEST_WITH_EACH(memory, keepers, a_byte_that_is_kept_is_found_until_it_is_not) {
	skip_if_silent();
	for (size_t i = 0; i < 3; i++) {
		size_t offset = i * (f->size - 1) / 2, checked = 0; // in the first and the last page
		struct keeper keeper = { .fds = { -1, -1, -1 } };
		param->keep(&keeper, f, offset);
		for (size_t j = 0; j < 2; j++) {
			check_int(vt_pins_find(f->memfd, &checked), ==, VT_PINS_SOME);
			check_int(checked, <=, offset);
		}
		let_go(&keeper);
		check_none(f);
		// A look that finds nothing leaves small pages behind
		memory_tear_down(f);
		memory_set_up(f, &param->options);
	}
}

TEST_WITH(memory, what_is_known_is_not_looked_at_again, .size = 3 * HUGE, .is_huge = true) {
	skip_if_silent();
	check_none(f);
	struct keeper keeper = { .fds = { -1, -1, -1 } };
	keep_in_pipe(&keeper, f, 2 * HUGE);
	size_t checked = 0;
	check_int(vt_pins_find(f->memfd, &checked), ==, VT_PINS_SOME);
	check_int(checked, ==, 2 * HUGE);
	let_go(&keeper);
	// No such pin could be new: the caller knows that nothing leads to the memory
	keep_in_pipe(&keeper, f, 0);
	check_int(vt_pins_find(f->memfd, &checked), ==, VT_PINS_NONE);
	checked = 0;
	check_int(vt_pins_find(f->memfd, &checked), ==, VT_PINS_SOME);
	let_go(&keeper);
}

TEST_WITH(memory, looking_changes_nothing, .size = 3 * HUGE + 4096, .is_huge = true) {
	for (size_t i = 0; i < 3; i++) {
		size_t checked = 0;
		vt_pins_find(f->memfd, &checked);
	}
	char *data = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->memfd, 0);
	check(data != MAP_FAILED);
	check(data[0] == 7 && memcmp(data, data + 1, f->size - 1) == 0);
	munmap(data, f->size);
}

TEST(a_file_that_cannot_be_looked_at_is_not_known) {
	size_t checked = 0;
	check_int(vt_pins_find(-1, &checked), ==, VT_PINS_UNKNOWN);
}
