/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"

/** How long a child may take. */
#define CHILD_SECONDS 5

#define MEMFDS (VITRINE_GUARANTEE_SNAPSHOT | VITRINE_GUARANTEE_SEALED)
#define EVERY VITRINE_GUARANTEE_ALL

static size_t page_size(void) {
	return (size_t)sysconf(_SC_PAGESIZE);
}

size_t audit_round_to_pages(size_t len) {
	size_t mask = page_size() - 1;
	return (len + mask) & ~mask;
}

void attack_poke(const struct target *target, char *byte) {
	// The mark may be the byte itself, in memory that is only to be read
	*(volatile char *)byte = *(const volatile char *)target->mark;
}

static int run_child(int (*run)(const struct target *target), const struct target *target) {
	struct rlimit no_core = {0};
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	alarm(CHILD_SECONDS);
	int ret = run(target);
	return ret < 0 ? -ret : 0;
}

int audit_run_in_child(int (*run)(const struct target *target), const struct target *target) {
	pid_t pid = fork();
	if (pid < 0) {
		return -errno;
	}
	if (pid == 0) {
		_exit(run_child(run, target));
	}
	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	if (WIFEXITED(status)) {
		return -WEXITSTATUS(status);
	}
	switch (WTERMSIG(status)) {
	case SIGSEGV:
	case SIGBUS:
		return -EFAULT;
	case SIGALRM:
		return -ETIME;
	}
	return -ECHILD;
}

/* Rows 1 and 2: mappings */

static int make_writable(char *map, enum map_way way, const struct target *target) {
	if (way == MAP_WAY_REMAP && remap_file_pages(map, target->len, 0, 0, 0) < 0) {
		return -errno;
	}
	if (way != MAP_WAY_DIRECT && mprotect(map, target->len, PROT_READ | PROT_WRITE) < 0) {
		return -errno;
	}
	return 0;
}

int attack_map(int fd, uint64_t offset, int flags, enum map_way way,
		const struct target *target) {
	int prot = way == MAP_WAY_DIRECT ? PROT_READ | PROT_WRITE : PROT_READ;
	char *map = mmap(NULL, target->len, prot, flags, fd, (off_t)offset);
	if (map == MAP_FAILED) {
		return -errno;
	}
	int ret = make_writable(map, way, target);
	if (ret == 0) {
		attack_poke(target, map);
	}
	munmap(map, target->len);
	return ret < 0 ? ret : ATTACK_WORKED;
}

static int attack_mmap_shared(const struct target *target, const char **detail) {
	return attack_map(target->fd, 0, MAP_SHARED, MAP_WAY_DIRECT, target);
}

static int attack_mmap_shared_validate(const struct target *target, const char **detail) {
	return attack_map(target->fd, 0, MAP_SHARED_VALIDATE, MAP_WAY_DIRECT, target);
}

static int attack_mprotect(const struct target *target, const char **detail) {
	return attack_map(target->fd, 0, MAP_SHARED, MAP_WAY_MPROTECT, target);
}

static int attack_remap(const struct target *target, const char **detail) {
	return attack_map(target->fd, 0, MAP_SHARED, MAP_WAY_REMAP, target);
}

/* Row 3: writing to the read map */

static int store(const struct target *target) {
	attack_poke(target, target->map);
	return 0;
}

static int attack_store(const struct target *target, const char **detail) {
	int ret = audit_run_in_child(store, target);
	*detail = ret == -EFAULT ? "SIGSEGV" : NULL;
	return ret;
}

static int attack_proc_mem(const struct target *target, const char **detail) {
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		*detail = "/proc/self/mem cannot be opened";
		return ATTACK_UNAVAILABLE;
	}
	char byte = *target->mark;
	ssize_t n = pwrite(fd, &byte, 1, (off_t)(uintptr_t)target->map);
	int ret = n == 1 ? ATTACK_WORKED : -errno;
	close(fd);
	return ret;
}

/** A child that has stopped to be traced, or a negative errno. */
static pid_t start_traced_child(void) {
	pid_t pid = fork();
	if (pid < 0) {
		return -errno;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0) {
			raise(SIGSTOP);
		}
		_exit(EXIT_FAILURE);
	}
	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return WIFSTOPPED(status) ? pid : -EPERM;
}

/** The child has the read map too, and is its parent's to write to. */
static int attack_ptrace(const struct target *target, const char **detail) {
	pid_t pid = start_traced_child();
	if (pid < 0) {
		*detail = "this process may not trace a child of its own";
		return ATTACK_UNAVAILABLE;
	}
	long word;
	memcpy(&word, target->map, sizeof(word));
	memcpy(&word, target->mark, 1);
	int ret = ptrace(PTRACE_POKEDATA, pid, target->map, word) == 0 ? ATTACK_WORKED : -errno;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
	return ret;
}

static int attack_process_vm_writev(const struct target *target, const char **detail) {
	char byte = *target->mark;
	struct iovec local = { &byte, 1 }, remote = { target->map, 1 };
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1) {
		return ATTACK_WORKED;
	}
	*detail = errno == ENOSYS ? "the kernel lacks it" : NULL;
	return errno == ENOSYS ? ATTACK_UNAVAILABLE : -errno;
}

/** A pipe with the mark of the target in it. */
static int open_pipe(const struct target *target, int fds[2]) {
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		return -errno;
	}
	if (write(fds[1], target->mark, 1) == 1) {
		return 0;
	}
	int ret = -errno;
	close(fds[0]);
	close(fds[1]);
	return ret;
}

static void close_pipe(int fds[2]) {
	close(fds[0]);
	close(fds[1]);
}

static int attack_read_into_map(const struct target *target, const char **detail) {
	int fds[2];
	int ret = open_pipe(target, fds);
	if (ret < 0) {
		return ret;
	}
	ret = read(fds[0], target->map, 1) == 1 ? ATTACK_WORKED : -errno;
	close_pipe(fds);
	return ret;
}

static int attack_vmsplice_into_map(const struct target *target, const char **detail) {
	int fds[2];
	int ret = open_pipe(target, fds);
	if (ret < 0) {
		return ret;
	}
	struct iovec iov = { target->map, 1 };
	ret = vmsplice(fds[0], &iov, 1, SPLICE_F_NONBLOCK) == 1 ? ATTACK_WORKED : -errno;
	close_pipe(fds);
	return ret;
}

static int attack_madvise_remove(const struct target *target, const char **detail) {
	return madvise(target->map, page_size(), MADV_REMOVE) == 0 ? ATTACK_WORKED : -errno;
}

/* Rows 4 and 5: more access to the same file */

int attack_write_somehow(int fd, const struct target *target) {
	int ret = attack_map(fd, 0, MAP_SHARED, MAP_WAY_DIRECT, target);
	if (ret == ATTACK_WORKED) {
		return ret;
	}
	return pwrite(fd, target->mark, 1, 0) == 1 ? ATTACK_WORKED : ret;
}

static int open_and_write(const char *path, const struct target *target, const char **detail) {
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	int ret = attack_write_somehow(fd, target);
	if (ret < 0) {
		*detail = "opens, but neither a writable mapping nor a write is let through";
	}
	close(fd);
	return ret;
}

static int attack_reopen(const struct target *target, const char **detail) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target->fd);
	return open_and_write(path, target, detail);
}

static int reopen_as_child(const struct target *target) {
	char path[64];
	const char *detail = NULL;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getppid(), target->fd);
	return open_and_write(path, target, &detail);
}

static int attack_reopen_of_process(const struct target *target, const char **detail) {
	return audit_run_in_child(reopen_as_child, target);
}

static int attack_map_files(const struct target *target, const char **detail) {
	char path[96];
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)target->map,
		(unsigned long)target->map + (unsigned long)target->len);
	int ret = open_and_write(path, target, detail);
	if (ret == -EPERM && *detail == NULL) {
		*detail = "map_files needs CAP_CHECKPOINT_RESTORE, which this process lacks";
		return ATTACK_UNAVAILABLE;
	}
	if (ret == -ENOENT) {
		*detail = "there is no such entry in map_files";
		return ATTACK_UNAVAILABLE;
	}
	return ret;
}

static int attack_setfl(const struct target *target, const char **detail) {
	fcntl(target->fd, F_SETFL, O_RDWR);
	return attack_write_somehow(target->fd, target);
}

static int attack_fchmod(const struct target *target, const char **detail) {
	// With or without success: what counts is what can be done afterwards
	fchmod(target->fd, 0666);
	return attack_reopen(target, detail);
}

/* Row 6: writing to the file */

/**
 * Tries on the file descriptor as it is, and on one that is open for writing,
 * since a memfd can be opened again like that.
 */
static int attack_file(const struct target *target, int (*write_file)(int fd,
		const struct target *target)) {
	int ret = write_file(target->fd, target);
	if (ret >= 0) {
		return ret;
	}
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target->fd);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return ret;
	}
	ret = write_file(fd, target);
	close(fd);
	return ret;
}

static int file_write(int fd, const struct target *target) {
	if (lseek(fd, 0, SEEK_SET) < 0 && errno != ESPIPE) {
		return -errno;
	}
	return write(fd, target->mark, 1) == 1 ? ATTACK_WORKED : -errno;
}

static int file_pwrite(int fd, const struct target *target) {
	return pwrite(fd, target->mark, 1, 0) == 1 ? ATTACK_WORKED : -errno;
}

static int file_truncate(int fd, const struct target *target) {
	return ftruncate(fd, (off_t)(target->len - page_size())) == 0 ? ATTACK_WORKED : -errno;
}

static int file_grow(int fd, const struct target *target) {
	return ftruncate(fd, (off_t)(target->len + page_size())) == 0 ? ATTACK_WORKED : -errno;
}

static int file_punch(int fd, const struct target *target) {
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page_size()) == 0 ?
		ATTACK_WORKED : -errno;
}

static int file_splice(int fd, const struct target *target) {
	int fds[2];
	int ret = open_pipe(target, fds);
	if (ret < 0) {
		return ret;
	}
	off_t offset = 0;
	ret = splice(fds[0], NULL, fd, &offset, 1, SPLICE_F_NONBLOCK) == 1 ? ATTACK_WORKED : -errno;
	close_pipe(fds);
	return ret;
}

/** A file that holds the mark of the target. */
static int open_source(const struct target *target) {
	int source = memfd_create("source", MFD_CLOEXEC);
	if (source >= 0 && pwrite(source, target->mark, 1, 0) != 1) {
		close(source);
		return -1;
	}
	return source;
}

static int file_sendfile(int fd, const struct target *target) {
	int source = open_source(target);
	if (source < 0) {
		return -ENOMEM;
	}
	off_t offset = 0;
	lseek(fd, 0, SEEK_SET);
	int ret = sendfile(fd, source, &offset, 1) == 1 ? ATTACK_WORKED : -errno;
	close(source);
	return ret;
}

static int file_copy_range(int fd, const struct target *target) {
	int source = open_source(target);
	if (source < 0) {
		return -ENOMEM;
	}
	off_t from = 0, to = 0;
	int ret = copy_file_range(source, &from, fd, &to, 1, 0) == 1 ? ATTACK_WORKED : -errno;
	close(source);
	return ret;
}

static int attack_write(const struct target *target, const char **detail) {
	return attack_file(target, file_write);
}

static int attack_pwrite(const struct target *target, const char **detail) {
	return attack_file(target, file_pwrite);
}

static int attack_truncate(const struct target *target, const char **detail) {
	return attack_file(target, file_truncate);
}

static int attack_grow(const struct target *target, const char **detail) {
	return attack_file(target, file_grow);
}

static int attack_punch(const struct target *target, const char **detail) {
	return attack_file(target, file_punch);
}

static int attack_splice(const struct target *target, const char **detail) {
	return attack_file(target, file_splice);
}

static int attack_sendfile(const struct target *target, const char **detail) {
	return attack_file(target, file_sendfile);
}

static int attack_copy_range(const struct target *target, const char **detail) {
	return attack_file(target, file_copy_range);
}

struct ring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	size_t sq_len, cq_len, sqes_len;
	struct io_uring_sqe *sqes;
};

static void *ring_map(const struct ring *ring, size_t len, uint64_t offset) {
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
		(off_t)offset);
}

static bool ring_init(struct ring *ring) {
	*ring = (struct ring){0};
	ring->fd = (int)syscall(SYS_io_uring_setup, 1, &ring->params);
	if (ring->fd < 0) {
		return false;
	}
	const struct io_uring_params *params = &ring->params;
	ring->sq_len = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
	ring->cq_len = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	ring->sqes_len = params->sq_entries * sizeof(struct io_uring_sqe);
	ring->sq = ring_map(ring, ring->sq_len, IORING_OFF_SQ_RING);
	ring->cq = ring_map(ring, ring->cq_len, IORING_OFF_CQ_RING);
	ring->sqes = ring_map(ring, ring->sqes_len, IORING_OFF_SQES);
	return ring->sq != MAP_FAILED && ring->cq != MAP_FAILED && ring->sqes != MAP_FAILED;
}

static void ring_finish(struct ring *ring) {
	if (ring->sq != NULL && ring->sq != MAP_FAILED) {
		munmap(ring->sq, ring->sq_len);
	}
	if (ring->cq != NULL && ring->cq != MAP_FAILED) {
		munmap(ring->cq, ring->cq_len);
	}
	if (ring->sqes != NULL && ring->sqes != MAP_FAILED) {
		munmap(ring->sqes, ring->sqes_len);
	}
	if (ring->fd >= 0) {
		close(ring->fd);
	}
}

/** Submits one request to a fresh ring, and returns its result. */
static int ring_submit(struct ring *ring, const struct io_uring_sqe *sqe) {
	ring->sqes[0] = *sqe;
	uint32_t *array = (uint32_t *)(ring->sq + ring->params.sq_off.array);
	uint32_t *tail = (uint32_t *)(ring->sq + ring->params.sq_off.tail);
	array[0] = 0;
	__atomic_store_n(tail, 1, __ATOMIC_RELEASE);
	int n;
	do {
		n = (int)syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring->cq + ring->params.cq_off.cqes);
	return cqes[0].res;
}

static int file_io_uring(int fd, const struct target *target) {
	struct ring ring;
	char byte = *target->mark;
	int ret = ATTACK_UNAVAILABLE;
	if (ring_init(&ring)) {
		struct io_uring_sqe sqe = {
			.opcode = IORING_OP_WRITE,
			.fd = fd,
			.addr = (uint64_t)(uintptr_t)&byte,
			.len = 1,
		};
		int n = ring_submit(&ring, &sqe);
		ret = n == 1 ? ATTACK_WORKED : n < 0 ? n : -EIO;
	}
	ring_finish(&ring);
	return ret;
}

static int attack_io_uring(const struct target *target, const char **detail) {
	int ret = attack_file(target, file_io_uring);
	if (ret == ATTACK_UNAVAILABLE) {
		*detail = "io_uring is not available to this process";
	}
	return ret;
}

/* Rows 7 and 8: seals and udmabuf */

static int attack_add_seals(const struct target *target, const char **detail) {
	return fcntl(target->fd, F_ADD_SEALS, F_SEAL_SEAL) == 0 ? ATTACK_WORKED : -errno;
}

/** F_SEAL_WRITE from a holder would be a denial of service to the owner. */
static int file_seal_write(int fd, const struct target *target) {
	return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0 ? ATTACK_WORKED : -errno;
}

static int attack_seal_write(const struct target *target, const char **detail) {
	return attack_file(target, file_seal_write);
}

static int file_udmabuf(int fd, const struct target *target) {
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		return ATTACK_UNAVAILABLE;
	}
	// Asked for by udmabuf, and set on every view already
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	struct udmabuf_create create = {
		.memfd = (uint32_t)fd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = target->len,
	};
	int dmabuf = ioctl(device, UDMABUF_CREATE, &create);
	int ret = dmabuf < 0 ? -errno : attack_write_somehow(dmabuf, target);
	if (dmabuf >= 0) {
		close(dmabuf);
	}
	close(device);
	return ret;
}

static int attack_udmabuf(const struct target *target, const char **detail) {
	int ret = attack_file(target, file_udmabuf);
	if (ret == ATTACK_UNAVAILABLE) {
		*detail = "/dev/udmabuf cannot be opened";
	}
	return ret;
}

const struct attack file_attacks[] = {
	{ 1, "mmap(PROT_WRITE, MAP_SHARED)", EVERY, 0, CONTROL_SAME, 0, attack_mmap_shared },
	{ 1, "mmap(PROT_WRITE, MAP_SHARED_VALIDATE)", EVERY, 0, CONTROL_SAME, 0,
		attack_mmap_shared_validate },
	{ 2, "mprotect(PROT_WRITE) of a read map", EVERY, 0, CONTROL_SAME, 0, attack_mprotect },
	{ 2, "remap_file_pages() of a read map, then mprotect(PROT_WRITE)", EVERY, 0, CONTROL_SAME,
		ATTACK_UP_TO_DRIVERS, attack_remap },
	{ 3, "store through the read map", EVERY, 0, CONTROL_SAME, 0, attack_store },
	{ 3, "write to the read map by /proc/self/mem", EVERY, 0, CONTROL_MEMFD, 0, attack_proc_mem },
	{ 3, "PTRACE_POKEDATA to the read map of a child", EVERY, 0, CONTROL_MEMFD, 0, attack_ptrace },
	{ 3, "process_vm_writev() to the read map", EVERY, 0, CONTROL_MEMFD, 0,
		attack_process_vm_writev },
	{ 3, "read() into the read map", EVERY, 0, CONTROL_SAME, 0, attack_read_into_map },
	{ 3, "vmsplice() into the read map", EVERY, 0, CONTROL_SAME, 0, attack_vmsplice_into_map },
	{ 3, "madvise(MADV_REMOVE) of the read map", EVERY, 0, CONTROL_MEMFD, 0, attack_madvise_remove },
	{ 4, "reopen /proc/self/fd read-write and write", EVERY, 0, CONTROL_MEMFD, 0, attack_reopen },
	{ 4, "reopen /proc/PID/fd read-write and write", EVERY, 0, CONTROL_MEMFD, 0,
		attack_reopen_of_process },
	{ 4, "reopen /proc/self/map_files read-write and write", EVERY, 0, CONTROL_MEMFD, 0,
		attack_map_files },
	{ 5, "fcntl(F_SETFL, O_RDWR) and write", EVERY, 0, CONTROL_SAME, 0, attack_setfl },
	{ 5, "fchmod(0666), reopen and write", EVERY, 0, CONTROL_MEMFD, 0, attack_fchmod },
	{ 6, "write()", EVERY, 0, CONTROL_MEMFD, 0, attack_write },
	{ 6, "pwrite()", EVERY, 0, CONTROL_MEMFD, 0, attack_pwrite },
	{ 6, "ftruncate() to less", EVERY, 0, CONTROL_MEMFD, 0, attack_truncate },
	{ 6, "ftruncate() to more", EVERY, 0, CONTROL_MEMFD, 0, attack_grow },
	{ 6, "fallocate(FALLOC_FL_PUNCH_HOLE)", EVERY, 0, CONTROL_MEMFD, 0, attack_punch },
	{ 6, "splice()", EVERY, 0, CONTROL_MEMFD, 0, attack_splice },
	{ 6, "sendfile()", EVERY, 0, CONTROL_MEMFD, 0, attack_sendfile },
	{ 6, "copy_file_range()", EVERY, 0, CONTROL_MEMFD, 0, attack_copy_range },
	{ 6, "io_uring write", EVERY, 0, CONTROL_MEMFD, 0, attack_io_uring },
	{ 7, "add a seal", MEMFDS, 0, CONTROL_MEMFD, 0, attack_add_seals },
	{ 7, "seal against the owner's writing", MEMFDS, 0, CONTROL_MEMFD, 0, attack_seal_write },
	{ 8, "UDMABUF_CREATE and write", MEMFDS, 0, CONTROL_MEMFD, 0, attack_udmabuf },
};
const size_t file_attacks_len = sizeof(file_attacks) / sizeof(file_attacks[0]);

static void call_for_nodes(void (*call)(void *data, const struct attack *attack,
		const struct drm_node *node), void *data, const struct attack *attack) {
	size_t len;
	const struct drm_node *nodes = audit_get_drm_nodes(&len);
	for (size_t i = 0; i < len && !cli_interrupted; i++) {
		call(data, attack, &nodes[i]);
	}
	if (len == 0) {
		call(data, attack, NULL);
	}
}

static void call_for_table(void (*call)(void *data, const struct attack *attack,
		const struct drm_node *node), void *data, const struct attack *table, size_t len) {
	for (size_t i = 0; i < len && !cli_interrupted; i++) {
		if (table[i].flags & ATTACK_PER_NODE) {
			call_for_nodes(call, data, &table[i]);
		} else {
			call(data, &table[i], NULL);
		}
	}
}

void audit_for_each_attack(void (*call)(void *data, const struct attack *attack,
		const struct drm_node *node), void *data) {
	call_for_table(call, data, file_attacks, file_attacks_len);
	call_for_table(call, data, dmabuf_attacks, dmabuf_attacks_len);
}
