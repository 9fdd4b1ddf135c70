/* SPDX-License-Identifier: MIT */
/*
 * Everything that can be done to derived files and guards, at random, by some
 * processes of two threads each that share the buffers. What must be refused is
 * checked each time, and that nothing is left at the end; the kernel's own checks
 * are the point of it: tests/harness/guest/uml --debug --cpus 2.
 *
 * VITRINE_STRESS_SECONDS: how long each of the two tests lasts, default 5.
 * VITRINE_GUARD_MODULE: the module that comes and goes in the second of them; guests
 * set it.
 */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "dma_buf_guard.h"
#include "vitrine_importer.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>

#define WORKERS 4
#define SLOTS 32

/* Of all processes. */
struct shared {
	/* While this is true no worker uses a module that is optional. */
	_Atomic bool pause;
	/* Of the calls that can be refused or not, so that the test can fail. */
	_Atomic long done, refused;
};

/* The owner's buffers, and what is held of them. Threads race for the slots. */
struct worker {
	int buffers[EXPORTER_COUNT];
	_Atomic int slots[SLOTS];
	int vgem, vkms, timeline;
	/* The module comes and goes: its device may be away. */
	bool module_is_optional;
	time_t end;
	struct shared *shared;
};

static time_t now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

/* May be -1, which close() lets pass. */
static int slot_take(struct worker *worker, unsigned *seed) {
	return atomic_exchange(&worker->slots[rand_r(seed) % SLOTS], -1);
}

static void slot_put(struct worker *worker, unsigned *seed, int fd) {
	if (fd >= 0) {
		close(atomic_exchange(&worker->slots[rand_r(seed) % SLOTS], fd));
	}
}

static int buffer_pick(struct worker *worker, unsigned *seed) {
	return worker->buffers[rand_r(seed) % EXPORTER_COUNT];
}

/* A derived file or a guard, or the owner's file where there is none to take. */
static int fd_take(struct worker *worker, unsigned *seed) {
	int fd = slot_take(worker, seed);
	return fd >= 0 ? fd : fcntl(buffer_pick(worker, seed), F_DUPFD_CLOEXEC, 3);
}

static bool is_read_only(int fd) {
	return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
}

static void do_derive(struct worker *worker, unsigned *seed) {
	static const uint32_t flags[] = {
		O_RDONLY,
		O_RDWR,
		O_RDONLY | DERIVE_UNGUARDED,
		O_RDONLY | O_CLOEXEC,
	};
	int fd = fd_take(worker, seed);
	int derived = derive(fd, flags[rand_r(seed) % 4]);
	if (derived >= 0) {
		/* Never up. */
		check(is_read_only(derived) || !is_read_only(fd));
		slot_put(worker, seed, derived);
		worker->shared->done++;
	} else {
		check(errno == EACCES || errno == ENOTTY || errno == EMFILE);
		worker->shared->refused++;
	}
	slot_put(worker, seed, fd);
}

static void do_guard(struct worker *worker, unsigned *seed) {
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		check(worker->module_is_optional);
		return;
	}
	int fd = fd_take(worker, seed);
	int guard = guard_try(device, fd, rand_r(seed) % 2 ? DMA_BUF_GUARD_OWN_FENCES : 0);
	if (guard >= 0) {
		check(is_read_only(guard));
		slot_put(worker, seed, guard);
		worker->shared->done++;
	} else {
		/* EOPNOTSUPP: a guard of do_move(), whose buffer moves. */
		check(errno == EACCES || errno == EMFILE || errno == EOPNOTSUPP);
		worker->shared->refused++;
	}
	slot_put(worker, seed, fd);
	close(device);
}

static void do_map(struct worker *worker, unsigned *seed) {
	int fd = fd_take(worker, seed);
	volatile uint8_t *map = dmabuf_map(fd, PROT_READ);
	uint8_t byte = map[rand_r(seed) % DMABUF_SIZE];
	(void)byte;
	int ret = mprotect((void *)map, DMABUF_SIZE, PROT_READ | PROT_WRITE);
	check(ret == 0 ? !is_read_only(fd) : errno == EACCES && is_read_only(fd));
	if (ret == 0) {
		map[0]++;
	}
	if (rand_r(seed) % 2 == 0) {
		slot_put(worker, seed, fd);
		fd = -1;
	}
	dmabuf_unmap(map);
	close(fd);
}

static void do_poll(struct worker *worker, unsigned *seed) {
	int fd = fd_take(worker, seed);
	uint32_t value = 1 + rand_r(seed) % 3;
	int fence = timeline_create_fence(worker->timeline, value);
	check_ok(dmabuf_import_fence(buffer_pick(worker, seed), fence,
		rand_r(seed) % 2 ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ));
	close(fence);
	dmabuf_poll(fd, POLLIN | POLLOUT, 1);
	timeline_increase(worker->timeline, value);
	close(fd);
}

static void do_sync(struct worker *worker, unsigned *seed) {
	int fd = fd_take(worker, seed);
	timeline_increase(worker->timeline, 100);
	check_ok(dmabuf_sync(fd, DMA_BUF_SYNC_READ));
	check_ok(dmabuf_sync(fd, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END));
	if (is_read_only(fd)) {
		check_errno(dmabuf_sync(fd, DMA_BUF_SYNC_WRITE), EACCES);
	}
	slot_put(worker, seed, fd);
}

static void do_import(struct worker *worker, unsigned *seed) {
	int drm = rand_r(seed) % 2 ? worker->vgem : worker->vkms;
	int fd = fd_take(worker, seed), again;
	uint32_t handle;
	/* The other thread may close the handle: it is the same one for both. */
	if (drmPrimeFDToHandle(drm, fd, &handle) == 0) {
		if (drmPrimeHandleToFD(drm, handle, 0, &again) == 0) {
			close(again);
		}
		drmCloseBufferHandle(drm, handle);
		worker->shared->done++;
	} else {
		check(errno == EACCES || errno == ENOENT);
		worker->shared->refused++;
	}
	slot_put(worker, seed, fd);
}

static void do_driver(struct worker *worker, unsigned *seed) {
	int importer = importer_open();
	int fd = fd_take(worker, seed);
	if (importer_attach(importer, fd, rand_r(seed) % 8) == 0) {
		close(fd);
		fd = -1;
		if (ioctl(importer, VITRINE_IMPORTER_MAP, (long)(rand_r(seed) % 3)) == 0 &&
				rand_r(seed) % 2 == 0) {
			ioctl(importer, VITRINE_IMPORTER_UNMAP);
		}
		worker->shared->done++;
	} else {
		check(errno == EACCES);
		worker->shared->refused++;
	}
	close(importer);
	slot_put(worker, seed, fd);
}

/* One that moves, with its own guard, imported by a driver that follows. */
static void do_move(struct worker *worker, unsigned *seed) {
	int importer = importer_open(), fd = importer_export(importer, 0);
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	int guard = device >= 0 ? guard_try(device, fd, 0) : -1;
	if (guard >= 0 && importer_attach(importer, guard, VITRINE_IMPORTER_DYNAMIC) == 0) {
		check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, 1L));
	}
	slot_put(worker, seed, guard);
	int other = importer_open();
	check_ok(ioctl(other, VITRINE_IMPORTER_MOVE, (long)fd));
	close(other);
	close(fd);
	close(importer);
	close(device);
}

static void do_fork(struct worker *worker, unsigned *seed) {
	pid_t pid = fork();
	if (pid == 0) {
		dmabuf_try_map(slot_take(worker, seed), PROT_READ);
		_exit(0);
	}
	check(pid > 0 && waitpid(pid, NULL, 0) == pid);
}

/* Left in a socket that is closed unread. */
static void do_send(struct worker *worker, unsigned *seed) {
	int sockets[2];
	check_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	int fd = fd_take(worker, seed);
	union {
		struct cmsghdr header;
		char buffer[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char byte = 0;
	struct iovec iovec = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &iovec,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.buffer),
	};
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	check(sendmsg(sockets[0], &message, 0) == 1);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
}

static void do_look(struct worker *worker, unsigned *seed) {
	int fd = fd_take(worker, seed);
	dmabuf_fdinfo(fd, "count");
	dmabuf_info(0);
	slot_put(worker, seed, fd);
	check(!module_unload("vitrine_importer"));
	check(worker->module_is_optional || !module_unload("dma_buf_guard"));
}

static void do_close(struct worker *worker, unsigned *seed) {
	for (int i = 0; i < 4; i++) {
		close(slot_take(worker, seed));
	}
}

static void slots_clear(struct worker *worker) {
	for (int i = 0; i < SLOTS; i++) {
		close(atomic_exchange(&worker->slots[i], -1));
	}
}

static void *worker_thread(void *data) {
	static void (*const operations[])(struct worker *worker, unsigned *seed) = {
		do_derive, do_derive, do_guard, do_guard, do_map, do_map, do_poll, do_sync,
		do_import, do_import, do_driver, do_driver, do_move, do_fork, do_send, do_look,
		do_close,
	};
	struct worker *worker = data;
	unsigned seed = (unsigned)(getpid() * 31 + gettid());
	while (now() < worker->end) {
		if (worker->module_is_optional && worker->shared->pause) {
			slots_clear(worker); /* again, until the other thread fills none */
			usleep(5 * 1000);
			continue;
		}
		for (int i = 0; i < 20; i++) {
			size_t count = sizeof(operations) / sizeof(operations[0]);
			operations[(size_t)rand_r(&seed) % count](worker, &seed);
		}
	}
	return NULL;
}

_Noreturn static void worker_run(struct worker *worker) {
	/* Each process has devices of its own, and its threads share them. */
	worker->vgem = drm_try_open("vgem");
	worker->vkms = drm_try_open("vkms");
	worker->timeline = timeline_try_open();
	check(worker->vgem >= 0 && worker->vkms >= 0 && worker->timeline >= 0);
	for (int i = 0; i < SLOTS; i++) {
		worker->slots[i] = -1;
	}
	pthread_t thread;
	check_ok(pthread_create(&thread, NULL, worker_thread, worker));
	worker_thread(worker);
	check_ok(pthread_join(thread, NULL));
	_exit(0);
}

/* Each try takes a millisecond, or more. */
static bool module_try_unload(long tries) {
	bool done = false;
	for (long i = 0; i < tries && !done; i++) {
		done = module_unload("dma_buf_guard");
		usleep(1000);
	}
	return done;
}

/* Once at least, however slow the machine is: the workers leave it alone at the end. */
static void module_cycle(struct shared *shared, const char *path, time_t end) {
	int cycles = 0;
	do {
		/* While it is used, while it is not, and loaded while all workers want it. */
		bool unloaded = module_try_unload(100);
		shared->pause = true;
		check(unloaded || module_try_unload((end - now() + 60) * 1000));
		shared->pause = false;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		check(fd >= 0 && syscall(SYS_finit_module, fd, "", 0) == 0);
		close(fd);
		cycles++;
	} while (now() < end);
	printf("# unloaded %d times\n", cycles);
}

/* Workers that have ended, all of them well. */
static void wait_for_workers(const pid_t pids[WORKERS]) {
	bool good = true;
	for (int i = 0; i < WORKERS; i++) {
		int status;
		check(waitpid(pids[i], &status, 0) == pids[i]);
		good = good && status == 0;
	}
	check(good);
}

static void run_workers(const char *module) {
	const char *text = getenv("VITRINE_STRESS_SECONDS");
	int seconds = text != NULL ? atoi(text) : 5;
	harness_set_timeout((unsigned)seconds + 120);
	struct worker worker = {
		.module_is_optional = module != NULL,
		.end = now() + seconds,
		.shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	};
	check(worker.shared != MAP_FAILED);
	/* Where this runs all of them are, and a skip would hide that one is not. */
	for (int i = 0; i < 2; i++) {
		int drm = drm_try_open(i == 0 ? "vgem" : "vkms");
		check_int(drm, >=, 0);
		close(drm);
	}
	check_ok(access(VITRINE_IMPORTER_DEVICE, R_OK | W_OK));
	for (int i = 0; i < EXPORTER_COUNT; i++) {
		worker.buffers[i] = dmabuf_create((enum exporter)i);
	}
	/* Keeps the modules in use, but for one that is to come and go. */
	int importer = importer_open();
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	check(device >= 0);
	if (module != NULL) {
		close(device);
		device = -1;
	}
	pid_t pids[WORKERS];
	for (int i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		check(pids[i] >= 0);
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			worker_run(&worker);
		}
	}
	if (module != NULL) {
		module_cycle(worker.shared, module, worker.end);
	}
	wait_for_workers(pids);
	printf("# %ld done, %ld refused\n", worker.shared->done, worker.shared->refused);
	check(worker.shared->done > 0 && worker.shared->refused > 0);
	munmap(worker.shared, sizeof(*worker.shared));
	close(importer);
	close(device);
	for (int i = 0; i < EXPORTER_COUNT; i++) {
		close(worker.buffers[i]);
	}
}

TEST(stress) {
	run_workers(NULL);
}

static const char *module_path(void) {
	const char *path = getenv("VITRINE_GUARD_MODULE");
	if (path == NULL) {
		harness_skip("VITRINE_GUARD_MODULE is not set");
	}
	return path;
}

TEST(stress_while_the_module_comes_and_goes) {
	run_workers(module_path());
}

/* The last test: nothing of the module is left, so that it can go. */
TEST(module_goes_at_the_end) {
	module_path();
	check(module_try_unload(1000));
}
