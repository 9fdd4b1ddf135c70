/* SPDX-License-Identifier: MIT */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "dma_buf_guard.h"
#include "vitrine_importer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only what hangs: kernels that check everything are slow, and some tests make 10,000 calls. */
#define TIMEOUT_S 60
#define FDS_CAP 1024

const struct buffer_param buffer_params[EXPORTER_COUNT] = {
	{"udmabuf", {EXPORTER_UDMABUF}},
	{"heap", {EXPORTER_HEAP}},
	{"vgem", {EXPORTER_VGEM}},
	{"vkms", {EXPORTER_VKMS}},
};

static bool was_open[FDS_CAP];

void buffer_set_up(struct buffer *f, const struct buffer_options *options) {
	harness_set_timeout(TIMEOUT_S);
	for (int fd = 0; fd < FDS_CAP; fd++) {
		was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	}
	f->fd = dmabuf_create(options->exporter);
	f->inode = dmabuf_inode(f->fd);
	f->references = dmabuf_info(f->inode).references;
}

void buffer_tear_down(struct buffer *f) {
	for (int fd = 0; fd < FDS_CAP; fd++) {
		if (!was_open[fd]) {
			close(fd);
		}
	}
}

int derive(int fd, uint32_t flags) {
	struct dma_buf_derive params = {.flags = flags & ~DERIVE_UNGUARDED, .fd = -1};
	unsigned long request = flags & DERIVE_UNGUARDED ? DMA_BUF_IOCTL_DERIVE_UNGUARDED :
		DMA_BUF_IOCTL_DERIVE;
	return ioctl(fd, request, &params) < 0 ? -1 : params.fd;
}

int derive_checked(int fd, uint32_t flags) {
	int derived = derive(fd, flags);
	if (derived < 0 && errno == ENOTTY) {
		dmabuf_skip_without_derive();
	}
	check(derived >= 0);
	check((uint32_t)(fcntl(derived, F_GETFL) & O_ACCMODE) == (flags & O_ACCMODE));
	return derived;
}

int guard_try(int device, int fd, uint32_t flags) {
	struct dma_buf_guard_create params = {.flags = flags, .fd = fd, .guard_fd = -1};
	return ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, &params) < 0 ? -1 : params.guard_fd;
}

bool module_unload(const char *name) {
	while (syscall(SYS_delete_module, name, O_NONBLOCK) < 0) {
		if (errno != EINTR) {
			check_int(errno, ==, EWOULDBLOCK);
			return false;
		}
	}
	return true;
}

void check_sees_writes(int fd, int read_only) {
	volatile uint8_t *writer = dmabuf_map(fd, PROT_READ | PROT_WRITE);
	volatile uint8_t *reader = dmabuf_map(read_only, PROT_READ);
	for (int value = 1; value < 4; value++) {
		writer[0] = (uint8_t)value;
		writer[DMABUF_SIZE - 1] = (uint8_t)(value * 2);
		check_int(reader[0], ==, value);
		check_int(reader[DMABUF_SIZE - 1], ==, value * 2);
	}
	dmabuf_unmap(reader);
	dmabuf_unmap(writer);
}

static void check_map_is_refused(int read_only) {
	const int types[] = {MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		check_errno(mmap(NULL, DMABUF_SIZE, PROT_WRITE, types[i], read_only, 0), EACCES);
		check_errno(mmap(NULL, DMABUF_SIZE, PROT_READ | PROT_WRITE, types[i], read_only, 0),
			EACCES);
	}
}

int write_by_proc_mem(const volatile void *map, uint8_t value) {
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	check_int(mem, >=, 0);
	int ret = pwrite(mem, &value, 1, (off_t)(uintptr_t)map) == 1 ? 0 : errno;
	close(mem);
	return ret;
}

int write_by_ptrace(const volatile void *map, uint8_t value) {
	pid_t pid = fork();
	check_int(pid, >=, 0);
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	int status;
	check(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	long word = *(const volatile long *)map;
	memcpy(&word, &value, 1);
	int ret = ptrace(PTRACE_POKEDATA, pid, map, word) == 0 ? 0 : errno;
	check_ok(kill(pid, SIGKILL));
	check(waitpid(pid, &status, 0) == pid);
	return ret;
}

static void check_mapping_stays_read_only(void *reader) {
	check_errno(mprotect(reader, DMABUF_SIZE, PROT_READ | PROT_WRITE), EACCES);
	check_errno(mprotect(reader, 4096, PROT_WRITE), EACCES);
	/* Maps the file of the mapping anew, by its own rights: a guard's is the original's. */
	check_errno(remap_file_pages(reader, DMABUF_SIZE, 0, 0, 0), EINVAL);
	check_int(write_by_proc_mem(reader, 'x'), ==, EIO);
	check_int(write_by_ptrace(reader, 'x'), ==, EIO);
}

void check_cannot_be_written(int fd, int read_only) {
	/* Both ways that are to be refused do work on the original. */
	volatile uint8_t *writer = dmabuf_map(fd, PROT_READ);
	check_ok(mprotect((void *)writer, DMABUF_SIZE, PROT_READ | PROT_WRITE));
	writer[0] = 1;
	check_map_is_refused(read_only);
	void *reader = dmabuf_map(read_only, PROT_READ);
	check_mapping_stays_read_only(reader);
	check_int(writer[0], ==, 1);
	dmabuf_unmap(reader);

	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", read_only);
	check_errno(open(path, O_RDWR), ENXIO);
	check_ok(fcntl(read_only, F_SETFL, O_RDWR));
	check_errno(dmabuf_try_map(read_only, PROT_READ | PROT_WRITE), EACCES);
	dmabuf_unmap(writer);
}

void check_cannot_be_written_privately(int fd, int read_only) {
	void *map = mmap(NULL, DMABUF_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	check(map != MAP_FAILED);
	check_ok(mprotect(map, DMABUF_SIZE, PROT_READ | PROT_WRITE));
	check_errno(mmap(NULL, DMABUF_SIZE, PROT_WRITE, MAP_PRIVATE, read_only, 0), EACCES);
	map = mmap(NULL, DMABUF_SIZE, PROT_READ, MAP_PRIVATE, read_only, 0);
	check(map != MAP_FAILED);
	check_errno(mprotect(map, DMABUF_SIZE, PROT_READ | PROT_WRITE), EACCES);
}

void check_syncs_for_reading_only(int fd, int read_only) {
	for (uint64_t when = 0; when <= DMA_BUF_SYNC_END; when += DMA_BUF_SYNC_END) {
		check_ok(dmabuf_sync(fd, when | DMA_BUF_SYNC_READ));
		check_ok(dmabuf_sync(fd, when | DMA_BUF_SYNC_WRITE));
		check_ok(dmabuf_sync(fd, when | DMA_BUF_SYNC_RW));
		check_ok(dmabuf_sync(read_only, when | DMA_BUF_SYNC_READ));
		check_errno(dmabuf_sync(read_only, when | DMA_BUF_SYNC_WRITE), EACCES);
		check_errno(dmabuf_sync(read_only, when | DMA_BUF_SYNC_RW), EACCES);
		check_errno(dmabuf_sync(read_only, when), EINVAL);
	}
}

void check_fences_are_shared(int fd, int writer, int read_only) {
	check(dmabuf_poll(read_only, POLLIN, 0) && dmabuf_poll(read_only, POLLOUT, 0));

	/* A writer's fence, added through one file, is on all of them. */
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(writer, fence.fd, DMA_BUF_SYNC_WRITE));
	check(!dmabuf_poll(fd, POLLIN, 0));
	check(!dmabuf_poll(read_only, POLLIN, 20));
	int exported = dmabuf_export_fence(read_only, DMA_BUF_SYNC_READ);
	check(!dmabuf_poll(exported, POLLIN, 0));
	fence_signal(&fence);
	check(dmabuf_poll(exported, POLLIN, 1000));
	check(dmabuf_poll(read_only, POLLIN, 1000) && dmabuf_poll(fd, POLLIN, 1000));

	/* A reader's fence holds writers only. */
	fence_init(&fence);
	check_ok(dmabuf_import_fence(fd, fence.fd, DMA_BUF_SYNC_READ));
	check(dmabuf_poll(read_only, POLLIN, 0) && !dmabuf_poll(read_only, POLLOUT, 0));
	fence_signal(&fence);
	check(dmabuf_poll(read_only, POLLOUT, 1000));
}

void check_as_other_user(void (*run)(int fd), int fd) {
	pid_t pid = fork();
	if (pid == 0) {
		check_ok(setgid(65534));
		check_ok(setuid(65534));
		run(fd);
		_exit(0);
	}
	int status;
	check(waitpid(pid, &status, 0) == pid && status == 0);
}

void check_fd_limit_leaks_nothing(struct buffer *f, int (*make)(int fd)) {
	int fds[64], count = 0;
	const struct rlimit low = {.rlim_cur = 32, .rlim_max = 4096};
	const struct rlimit high = {.rlim_cur = 4096, .rlim_max = 4096};
	check_ok(setrlimit(RLIMIT_NOFILE, &low));
	while (count < 64 && (fds[count] = make(f->fd)) >= 0) {
		count++;
	}
	check(count > 0 && count < 32 && errno == EMFILE);
	for (int i = 0; i < 100; i++) {
		check_errno(make(f->fd), EMFILE);
	}
	check_ok(setrlimit(RLIMIT_NOFILE, &high));
	dmabuf_check_references(f->inode, f->references + count);
	while (count > 0) {
		close(fds[--count]);
	}
	dmabuf_check_references(f->inode, f->references);
}

void *arguments_create(void) {
	void *arguments =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(arguments != MAP_FAILED);
	return arguments;
}

void check_bad_memory_leaks_nothing(struct buffer *f, int fd, unsigned long request,
		void *arguments) {
	int fds = harness_count_fds(), objects = dmabuf_info(0).objects;
	check_ok(mprotect(arguments, 4096, PROT_READ));
	for (int i = 0; i < 100; i++) {
		check_errno(ioctl(fd, request, arguments), EFAULT);
	}
	check_errno(ioctl(fd, request, NULL), EFAULT);
	check_int(harness_count_fds(), ==, fds);
	dmabuf_check_references(f->inode, f->references);
	check_int(dmabuf_info(0).objects, ==, objects);
}

int importer_open(void) {
	int fd = open(VITRINE_IMPORTER_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		harness_skip("%s: %s", VITRINE_IMPORTER_DEVICE, strerror(errno));
	}
	return fd;
}

int importer_attach(int importer, int fd, uint32_t flags) {
	struct vitrine_importer_attach params = {.fd = fd, .flags = flags};
	return ioctl(importer, VITRINE_IMPORTER_ATTACH, &params);
}

int importer_export(int importer, uint32_t flags) {
	int fd = ioctl(importer, VITRINE_IMPORTER_EXPORT, DMABUF_SIZE / 4096 | (unsigned long)flags);
	check_int(fd, >=, 0);
	return fd;
}
