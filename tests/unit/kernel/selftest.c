/* SPDX-License-Identifier: MIT */
#include "selftest.h"

#include "vitrine_importer.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/** Only what hangs: kernels that check everything are slow, and some tests make 10,000 calls. */
#define TEST_SECONDS 180
#define STATUS_SKIPPED 77
/** Pages in which objects of a device are looked for: those of tests are the only ones. */
#define OFFSETS_CAP 0x400

const char *const exporter_names[EXPORTER_COUNT] = {
	[EXPORTER_UDMABUF] = "udmabuf",
	[EXPORTER_HEAP] = "heap",
	[EXPORTER_VGEM] = "vgem",
	[EXPORTER_VKMS] = "vkms",
};

void test_skip(const char *format, ...) {
	va_list args;
	va_start(args, format);
	printf("# skipped: ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
	_exit(STATUS_SKIPPED);
}

void test_fail(const char *file, int line, const char *format, ...) {
	va_list args;
	va_start(args, format);
	printf("# %s:%d: ", file, line);
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
	_exit(1);
}

/* 0: passed, STATUS_SKIPPED, else failed. */
static int test_run(const struct test *test, enum exporter exporter) {
	int objects = buffer_info(0).objects;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(TEST_SECONDS);
		test->run(exporter);
		fflush(stdout);
		_exit(0);
	}
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("# fork");
		return 1;
	}
	if (WIFSIGNALED(status)) {
		printf("# killed by %s\n", strsignal(WTERMSIG(status)));
		return 1;
	}
	/* The last references are dropped by a worker: wait for it. */
	for (int i = 0; i < 200; i++) {
		if (buffer_info(0).objects <= objects) {
			return WEXITSTATUS(status);
		}
		usleep(10 * 1000);
	}
	printf("# %d dma-bufs before, %d left\n", objects, buffer_info(0).objects);
	return 1;
}

static bool test_is_chosen(const struct test *test, int argc, char *argv[]) {
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], test->name) == 0) {
			return true;
		}
	}
	return argc < 2;
}

int selftest_main(const struct test *tests, size_t count, int argc, char *argv[]) {
	int number = 0, failed = 0;
	printf("TAP version 13\n");
	for (size_t i = 0; i < count; i++) {
		if (!test_is_chosen(&tests[i], argc, argv)) {
			continue;
		}
		for (int exporter = 0; exporter < EXPORTER_COUNT; exporter++) {
			int status = test_run(&tests[i], exporter);
			bool good = status == 0 || status == STATUS_SKIPPED;
			failed += !good;
			printf("%s %d - %s%s%s%s\n", good ? "ok" : "not ok", ++number,
				tests[i].name, tests[i].once ? "" : ", ",
				tests[i].once ? "" : exporter_names[exporter],
				status == STATUS_SKIPPED ? " # SKIP" : "");
			if (tests[i].once) {
				break;
			}
		}
	}
	printf("1..%d\n", number);
	return failed != 0 || number == 0;
}

static int udmabuf_create(void) {
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		test_skip("no /dev/udmabuf: %s", strerror(errno));
	}
	int memfd = memfd_create("selftest", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	CHECK(memfd >= 0);
	CHECK(ftruncate(memfd, BUFFER_SIZE) == 0);
	CHECK(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	struct udmabuf_create create = {
		.memfd = (uint32_t)memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = BUFFER_SIZE,
	};
	int fd = ioctl(device, UDMABUF_CREATE, &create);
	CHECK(fd >= 0);
	close(memfd);
	close(device);
	return fd;
}

static int heap_create(void) {
	int device = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (device < 0) {
		test_skip("no system dma-heap: %s", strerror(errno));
	}
	struct dma_heap_allocation_data data = {
		.len = BUFFER_SIZE,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	CHECK(ioctl(device, DMA_HEAP_IOCTL_ALLOC, &data) == 0);
	close(device);
	return (int)data.fd;
}

int drm_open(const char *driver) {
	for (int i = 0; i < 8; i++) {
		char path[32], name[32] = "";
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		struct drm_version version = {
			.name = name,
			.name_len = sizeof(name) - 1,
		};
		if (ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, driver) == 0) {
			return fd;
		}
		close(fd);
	}
	return -1;
}

int drm_import(int drm_fd, int fd, uint32_t *handle) {
	struct drm_prime_handle prime = {.fd = fd};
	int ret = ioctl(drm_fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime);
	*handle = prime.handle;
	return ret;
}

int drm_export(int drm_fd, uint32_t handle, uint32_t flags, int *fd) {
	struct drm_prime_handle prime = {.handle = handle, .flags = flags, .fd = -1};
	int ret = ioctl(drm_fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime);
	*fd = prime.fd;
	return ret;
}

void drm_close_handle(int drm_fd, uint32_t handle) {
	struct drm_gem_close request = {.handle = handle};
	CHECK(ioctl(drm_fd, DRM_IOCTL_GEM_CLOSE, &request) == 0);
}

void *drm_map_fake_offset(int drm_fd, int prot) {
	int error = EINVAL;
	for (off_t page = 0; page < OFFSETS_CAP; page++) {
		void *map = mmap(NULL, BUFFER_SIZE, prot, MAP_SHARED, drm_fd,
			DRM_FAKE_OFFSET + page * 4096);
		if (map != MAP_FAILED) {
			return map;
		}
		if (errno != EINVAL) {
			error = errno;
		}
	}
	errno = error;
	return MAP_FAILED;
}

static int drm_create(const char *driver) {
	int device = drm_open(driver);
	if (device < 0) {
		test_skip("no %s device", driver);
	}
	struct drm_mode_create_dumb create = {
		.width = BUFFER_WIDTH,
		.height = BUFFER_HEIGHT,
		.bpp = 32,
	};
	CHECK(ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, &create) == 0);
	CHECK(create.size == BUFFER_SIZE);
	int fd;
	CHECK(drm_export(device, create.handle, DRM_RDWR | DRM_CLOEXEC, &fd) == 0);
	close(device);
	return fd;
}

int buffer_create(enum exporter exporter) {
	int fd = -1;
	switch (exporter) {
	case EXPORTER_UDMABUF:
		fd = udmabuf_create();
		break;
	case EXPORTER_HEAP:
		fd = heap_create();
		break;
	case EXPORTER_VGEM:
	case EXPORTER_VKMS:
		fd = drm_create(exporter_names[exporter]);
		break;
	case EXPORTER_COUNT:
		abort();
	}
	CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
	return fd;
}

void *buffer_map(int fd, int prot) {
	return mmap(NULL, BUFFER_SIZE, prot, MAP_SHARED, fd, 0);
}

void buffer_unmap(void *map) {
	CHECK(munmap(map, BUFFER_SIZE) == 0);
}

int buffer_sync(int fd, uint64_t flags) {
	struct dma_buf_sync sync = {.flags = flags};
	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

uint64_t buffer_inode(int fd) {
	struct stat st;
	CHECK(fstat(fd, &st) == 0);
	return st.st_ino;
}

bool buffer_poll(int fd, short events, int timeout_ms) {
	struct pollfd pollfd = {.fd = fd, .events = events};
	int ret = poll(&pollfd, 1, timeout_ms);
	CHECK(ret >= 0);
	return (pollfd.revents & events) == events;
}

struct buffer_info buffer_info(uint64_t inode) {
	struct buffer_info info = {0};
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
	if (file == NULL) {
		test_skip("no debugfs: %s", strerror(errno));
	}
	char line[256], exporter[64], name[32];
	while (fgets(line, sizeof(line), file) != NULL) {
		long references;
		uint64_t found;
		if (sscanf(line, "%*d %*x %*x %ld %63s %" SCNu64 " %31s", &references,
			    exporter, &found, name) != 4 ||
				(inode != 0 && found != inode)) {
			continue;
		}
		info.objects++;
		info.references = references;
		memcpy(info.name, name, sizeof(name));
	}
	fclose(file);
	return info;
}

void check_references(uint64_t inode, long references) {
	struct buffer_info info = {0};
	for (int i = 0; i < 200; i++) {
		info = buffer_info(inode);
		if (info.objects == 1 && info.references == references) {
			return;
		}
		usleep(10 * 1000);
	}
	test_fail(__FILE__, __LINE__, "%d objects, %ld references, not %ld", info.objects,
		info.references, references);
}

void check_gone(uint64_t inode) {
	for (int i = 0; i < 200; i++) {
		if (buffer_info(inode).objects == 0) {
			return;
		}
		usleep(10 * 1000);
	}
	test_fail(__FILE__, __LINE__, "inode %" PRIu64 " is still there", inode);
}

const char *fdinfo(int fd, const char *key) {
	static char line[128];
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");
	CHECK(file != NULL);
	const char *value = "";
	size_t length = strlen(key);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, length) == 0 && line[length] == ':') {
			line[strcspn(line, "\n")] = '\0';
			value = line + length + 1;
			value += strspn(value, "\t ");
			break;
		}
	}
	fclose(file);
	return value;
}

struct sw_sync_create_fence_data {
	uint32_t value;
	char name[32];
	int32_t fence;
};
#define SW_SYNC_IOC_CREATE_FENCE _IOWR('W', 0, struct sw_sync_create_fence_data)
#define SW_SYNC_IOC_INC _IOW('W', 1, uint32_t)

int timeline_create(void) {
	int fd = open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		test_skip("no SW_SYNC: %s", strerror(errno));
	}
	return fd;
}

int timeline_fence(int timeline, uint32_t value) {
	struct sw_sync_create_fence_data data = {.value = value, .name = "selftest"};
	CHECK(ioctl(timeline, SW_SYNC_IOC_CREATE_FENCE, &data) == 0);
	return data.fence;
}

void timeline_increase(int timeline, uint32_t by) {
	CHECK(ioctl(timeline, SW_SYNC_IOC_INC, &by) == 0);
}

int importer_open(void) {
	int fd = open(VITRINE_IMPORTER_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		test_skip("%s: %s", VITRINE_IMPORTER_DEVICE, strerror(errno));
	}
	return fd;
}

int importer_attach(int importer, int fd, uint32_t flags) {
	struct vitrine_importer_attach params = {.fd = fd, .flags = flags};
	return ioctl(importer, VITRINE_IMPORTER_ATTACH, &params);
}

int count_fds(void) {
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");
	CHECK(dir != NULL);
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count;
}
