/* SPDX-License-Identifier: MIT */
/*
 * The dma_buf_guard module of kernel/guard: what dma_buf_guard.h promises. Runs
 * as root where the module is loaded: tests/harness/guest/uml, tests/harness/guest/vm.
 */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "dma_buf_guard.h"
#include "vitrine_importer.h"

#include <drm/drm.h>
#include <drm/vgem_drm.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int device_open(void) {
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		test_skip("%s: %s", DMA_BUF_GUARD_DEVICE, strerror(errno));
	}
	return device;
}

/* The guard, or -1. */
static int guard_on(int device, int fd, uint32_t flags) {
	struct dma_buf_guard_create params = {.flags = flags, .fd = fd, .guard_fd = -1};
	int ret = ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, &params);
	return ret < 0 ? -1 : params.guard_fd;
}

static int guard_with_flags(int fd, uint32_t flags) {
	int device = device_open();
	int guard = guard_on(device, fd, flags);
	CHECK(guard >= 0);
	close(device);
	CHECK((fcntl(guard, F_GETFL) & O_ACCMODE) == O_RDONLY);
	return guard;
}

static int guard_checked(int fd) {
	return guard_with_flags(fd, O_CLOEXEC);
}

static struct dma_buf_guard_query query_checked(int fd) {
	int device = device_open();
	struct dma_buf_guard_query params = {.fd = fd, .flags = 0xff, .inode = 1};
	CHECK(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &params) == 0);
	close(device);
	return params;
}

static void test_map_sees_writes(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	volatile uint8_t *writer = buffer_map(fd, PROT_READ | PROT_WRITE);
	CHECK(writer != MAP_FAILED);
	volatile uint8_t *reader = buffer_map(guard, PROT_READ);
	CHECK(reader != MAP_FAILED);
	for (int value = 1; value < 4; value++) {
		writer[0] = (uint8_t)value;
		writer[BUFFER_SIZE - 1] = (uint8_t)(value * 2);
		CHECK(reader[0] == value && reader[BUFFER_SIZE - 1] == value * 2);
	}
}

static void test_identity(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	CHECK(buffer_inode(guard) != buffer_inode(fd));
	CHECK(lseek(guard, 0, SEEK_END) == BUFFER_SIZE);
	CHECK(strcmp(fdinfo(guard, "exp_name"), "dma_buf_guard") == 0);
	CHECK(fcntl(guard, F_GETFD) == FD_CLOEXEC);
	int device = device_open();
	int inherited = guard_on(device, fd, 0);
	CHECK(inherited >= 0 && fcntl(inherited, F_GETFD) == 0);

	struct dma_buf_guard_query query = query_checked(guard);
	CHECK(query.flags == DMA_BUF_GUARD_IS_GUARD);
	CHECK(query.inode == buffer_inode(fd));
	query = query_checked(fd);
	CHECK(query.flags == 0 && query.inode == buffer_inode(fd));
}

static void test_writable_map_refused(enum exporter exporter) {
	int fd = buffer_create(exporter);
	volatile uint8_t *writer = buffer_map(fd, PROT_READ);
	CHECK(writer != MAP_FAILED);
	CHECK(mprotect((void *)writer, BUFFER_SIZE, PROT_READ | PROT_WRITE) == 0);
	writer[0] = 1;
	int guard = guard_checked(fd);
	const int types[] = {MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		CHECK_ERRNO(mmap(NULL, BUFFER_SIZE, PROT_WRITE, types[i], guard, 0), EACCES);
		CHECK_ERRNO(mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, types[i], guard, 0),
			EACCES);
	}
	void *reader = buffer_map(guard, PROT_READ);
	CHECK(reader != MAP_FAILED);
	CHECK_ERRNO(mprotect(reader, BUFFER_SIZE, PROT_READ | PROT_WRITE), EACCES);
	CHECK_ERRNO(mprotect(reader, 4096, PROT_WRITE), EACCES);
	/* The file of this mapping is the original's, and open for writing. */
	CHECK_ERRNO(remap_file_pages(reader, BUFFER_SIZE, 0, 0, 0), EINVAL);
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	CHECK(mem >= 0);
	CHECK_ERRNO(pwrite(mem, "x", 1, (off_t)(uintptr_t)reader), EIO);
	CHECK(writer[0] == 1);

	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", guard);
	CHECK_ERRNO(open(path, O_RDWR), ENXIO);
	CHECK(fcntl(guard, F_SETFL, O_RDWR) == 0);
	CHECK_ERRNO(buffer_map(guard, PROT_READ | PROT_WRITE), EACCES);
}

static void test_sync_reads_only(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	for (uint64_t when = 0; when <= DMA_BUF_SYNC_END; when += DMA_BUF_SYNC_END) {
		CHECK(buffer_sync(fd, when | DMA_BUF_SYNC_RW) == 0);
		CHECK(buffer_sync(guard, when | DMA_BUF_SYNC_READ) == 0);
		CHECK_ERRNO(buffer_sync(guard, when | DMA_BUF_SYNC_WRITE), EACCES);
		CHECK_ERRNO(buffer_sync(guard, when | DMA_BUF_SYNC_RW), EACCES);
	}
}

static void test_name_is_its_own(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	CHECK(ioctl(fd, DMA_BUF_SET_NAME_B, "owner") == 0);
	CHECK(ioctl(guard, DMA_BUF_SET_NAME_B, "evil") == 0);
	CHECK(strcmp(fdinfo(fd, "name"), "owner") == 0);
}

static void test_fences_are_shared(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	int timeline = timeline_create();
	CHECK(buffer_poll(guard, POLLIN, 0) && buffer_poll(guard, POLLOUT, 0));
	struct dma_buf_import_sync_file import = {
		.flags = DMA_BUF_SYNC_WRITE,
		.fd = timeline_fence(timeline, 1),
	};
	CHECK(ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) == 0);
	CHECK(!buffer_poll(guard, POLLIN, 20));
	struct dma_buf_export_sync_file export = {.flags = DMA_BUF_SYNC_READ};
	CHECK(ioctl(guard, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) == 0);
	CHECK(!buffer_poll(export.fd, POLLIN, 0));
	timeline_increase(timeline, 1);
	CHECK(buffer_poll(export.fd, POLLIN, 1000) && buffer_poll(guard, POLLIN, 1000));
}

/* The same by a driver's fence, for kernels without SW_SYNC. */
static void test_driver_fences_are_shared(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	int vgem = drm_open("vgem");
	if (vgem < 0) {
		test_skip("no vgem device");
	}
	struct drm_vgem_fence_attach attach = {.flags = VGEM_FENCE_WRITE};
	CHECK(drm_import(vgem, fd, &attach.handle) == 0);
	CHECK(ioctl(vgem, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) == 0);
	CHECK(!buffer_poll(guard, POLLIN, 20));
	struct drm_vgem_fence_signal signal = {.fence = attach.out_fence};
	CHECK(ioctl(vgem, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal) == 0);
	CHECK(buffer_poll(guard, POLLIN, 1000));
}

static int import_fence(int fd, int fence, uint32_t flags) {
	struct dma_buf_import_sync_file params = {.flags = flags, .fd = fence};
	return ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &params);
}

/* What a holder imports into its guard, nobody else waits for. */
static void test_own_fences_are_apart(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int shared = guard_checked(fd);
	int apart = guard_with_flags(fd, O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES);
	int other = guard_with_flags(fd, O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES);
	int timeline = timeline_create();
	CHECK(import_fence(shared, timeline_fence(timeline, 1), DMA_BUF_SYNC_WRITE) == 0);
	CHECK(!buffer_poll(fd, POLLIN, 0));
	timeline_increase(timeline, 1);
	CHECK(buffer_poll(fd, POLLIN, 1000));

	CHECK(import_fence(apart, timeline_fence(timeline, 2), DMA_BUF_SYNC_RW) == 0);
	CHECK(!buffer_poll(apart, POLLIN, 0));
	CHECK(buffer_poll(fd, POLLIN, 0) && buffer_poll(fd, POLLOUT, 0));
	CHECK(buffer_poll(other, POLLIN, 0) && buffer_poll(shared, POLLOUT, 0));
	CHECK(buffer_sync(fd, DMA_BUF_SYNC_RW) == 0);
	CHECK(buffer_sync(other, DMA_BUF_SYNC_READ) == 0);
	timeline_increase(timeline, 1);
}

/* The writer is waited for nonetheless, if it is asked for. */
static void test_own_fences_sync_waits(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int apart = guard_with_flags(fd, O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES);
	int timeline = timeline_create();
	CHECK(import_fence(fd, timeline_fence(timeline, 1), DMA_BUF_SYNC_WRITE) == 0);
	CHECK(!buffer_poll(fd, POLLIN, 0) && buffer_poll(apart, POLLIN, 0));
	pid_t pid = fork();
	if (pid == 0) {
		_exit(buffer_sync(apart, DMA_BUF_SYNC_READ) != 0);
	}
	int status;
	usleep(200 * 1000);
	CHECK(waitpid(pid, &status, WNOHANG) == 0);
	timeline_increase(timeline, 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void test_no_way_back(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	long references = buffer_info(inode).references;
	int guard = guard_checked(fd);
	int again = guard_checked(guard);
	CHECK(query_checked(again).inode == inode);
	CHECK_ERRNO(buffer_map(again, PROT_WRITE), EACCES);
	/* Both hold the original, and neither the other. */
	check_references(inode, references + 2);
	uint64_t guard_inode = buffer_inode(guard);
	close(guard);
	check_gone(guard_inode);
	check_references(inode, references + 1);
	CHECK(buffer_map(again, PROT_READ) != MAP_FAILED);
}

static void test_holds_the_original(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	uint8_t *writer = buffer_map(fd, PROT_WRITE);
	CHECK(writer != MAP_FAILED);
	writer[5] = 5;
	buffer_unmap(writer);
	int guard = guard_checked(fd);
	uint64_t guard_inode = buffer_inode(guard);
	close(fd);
	check_references(inode, 1);
	volatile uint8_t *reader = buffer_map(guard, PROT_READ);
	CHECK(reader != MAP_FAILED && reader[5] == 5);
	close(guard);
	check_gone(guard_inode);
	CHECK(reader[5] == 5);
	buffer_unmap((void *)reader);
	check_gone(inode);
}

/* Refused at import, or where what was imported is used: see dma_buf_guard.h. */
static void check_device_refused(int fd, int guard, const char *driver) {
	int device = drm_open(driver);
	if (device < 0) {
		test_skip("no %s device", driver);
	}
	volatile uint8_t *owner = buffer_map(fd, PROT_READ | PROT_WRITE);
	CHECK(owner != MAP_FAILED);
	owner[0] = 1;
	uint32_t handle;
	CHECK(drm_import(device, fd, &handle) == 0);
	volatile uint8_t *map = drm_map_fake_offset(device, PROT_READ | PROT_WRITE);
	CHECK(map != MAP_FAILED);
	map[0] = 2;
	CHECK(owner[0] == 2);
	close(device);

	device = drm_open(driver);
	CHECK(device >= 0);
	if (drm_import(device, guard, &handle) < 0) {
		CHECK(errno == EACCES);
		printf("# %s refuses the import\n", driver);
		return;
	}
	printf("# %s imports, and refuses the use\n", driver);
	CHECK_ERRNO(drm_map_fake_offset(device, PROT_READ | PROT_WRITE), EACCES);
	CHECK_ERRNO(drm_map_fake_offset(device, PROT_WRITE), EACCES);
	CHECK_ERRNO(drm_map_fake_offset(device, PROT_READ), EACCES);
	int again;
	CHECK(drm_export(device, handle, DRM_RDWR, &again) == 0);
	CHECK(buffer_inode(again) == buffer_inode(guard));
	CHECK((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHECK_ERRNO(buffer_map(again, PROT_WRITE), EACCES);
}

static void test_vgem_is_refused(enum exporter exporter) {
	int fd = buffer_create(exporter);
	check_device_refused(fd, guard_checked(fd), "vgem");
}

static void test_vkms_is_refused(enum exporter exporter) {
	int fd = buffer_create(exporter);
	check_device_refused(fd, guard_checked(fd), "vkms");
}

/* enum dma_data_direction */
enum { BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE };

static void check_device_reads_only(enum exporter exporter, uint32_t flags) {
	int fd = buffer_create(exporter);
	int guard = guard_with_flags(fd, O_CLOEXEC | flags);
	uint64_t inode = buffer_inode(fd);
	long references = buffer_info(inode).references;
	volatile uint8_t *owner = buffer_map(fd, PROT_READ);
	CHECK(owner != MAP_FAILED);
	int importer = importer_open();

	CHECK(importer_attach(importer, fd, 0) == 0);
	for (long direction = BIDIRECTIONAL; direction <= FROM_DEVICE; direction++) {
		CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, direction) == 0);
		CHECK(ioctl(importer, VITRINE_IMPORTER_UNMAP) == 0);
	}
	CHECK(ioctl(importer, VITRINE_IMPORTER_STORE, 42) == 0);
	CHECK(owner[0] == 42);
	CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);

	for (int i = 0; i < 3; i++) {
		CHECK(importer_attach(importer, guard, 0) == 0);
		CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
		CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_MAP, FROM_DEVICE), EACCES);
		CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_STORE, 66), EINVAL);
		CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE) == 0);
		CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_STORE, 66), EINVAL);
		/* The file's end takes the mapping with it every second time. */
		if (i % 2 == 0) {
			CHECK(ioctl(importer, VITRINE_IMPORTER_UNMAP) == 0);
		}
		close(importer);
		importer = importer_open();
	}
	CHECK(owner[0] == 42);
	buffer_unmap((void *)owner);
	check_references(inode, references);
}

static void test_device_reads_only(enum exporter exporter) {
	check_device_reads_only(exporter, 0);
}

static void test_own_fences_device_reads_only(enum exporter exporter) {
	check_device_reads_only(exporter, DMA_BUF_GUARD_OWN_FENCES);
}

/* What is mapped outlives the fds and the guard's owner. */
static void test_device_holds_the_guard(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int guard = guard_checked(fd);
	int importer = importer_open();
	CHECK(importer_attach(importer, guard, 0) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE) == 0);
	close(fd);
	close(guard);
	check_references(inode, 1);
	CHECK_ERRNO(syscall(SYS_delete_module, "dma_buf_guard", O_NONBLOCK), EWOULDBLOCK);
	close(importer);
	check_gone(inode);
}

static struct vitrine_importer_state state_checked(int importer, int fd) {
	struct vitrine_importer_state state = {.fd = fd};
	CHECK(ioctl(importer, VITRINE_IMPORTER_STATE, &state) == 0);
	return state;
}

static int exported_checked(int importer) {
	struct vitrine_importer_export params = {.pages = BUFFER_SIZE / 4096};
	CHECK(ioctl(importer, VITRINE_IMPORTER_EXPORT, &params) == 0);
	return params.fd;
}

/* An exporter that moves its memory: pinned while a guard is mapped. */
static void test_dynamic_exporter(enum exporter exporter) {
	(void)exporter;
	int importer = importer_open();
	int fd = exported_checked(importer);
	int device = device_open();
	CHECK_ERRNO(guard_on(device, fd, DMA_BUF_GUARD_OWN_FENCES), EOPNOTSUPP);
	int guard = guard_checked(fd);
	volatile uint8_t *writer = buffer_map(fd, PROT_READ | PROT_WRITE);
	CHECK(writer != MAP_FAILED);
	writer[9] = 9;
	volatile uint8_t *reader = buffer_map(guard, PROT_READ);
	CHECK(reader != MAP_FAILED && reader[9] == 9);
	CHECK_ERRNO(mprotect((void *)reader, BUFFER_SIZE, PROT_WRITE), EACCES);

	/* It lets itself be mapped private, which the other exporters do not. */
	void *map = mmap(NULL, BUFFER_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(map != MAP_FAILED && mprotect(map, BUFFER_SIZE, PROT_READ | PROT_WRITE) == 0);
	map = mmap(NULL, BUFFER_SIZE, PROT_READ, MAP_PRIVATE, guard, 0);
	CHECK(map != MAP_FAILED);
	CHECK_ERRNO(mprotect(map, BUFFER_SIZE, PROT_READ | PROT_WRITE), EACCES);

	CHECK(importer_attach(importer, guard, 0) == 0);
	CHECK(state_checked(importer, fd).pins == 0);
	for (int i = 0; i < 3; i++) {
		CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
		CHECK(state_checked(importer, fd).pins == 0);
		CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE) == 0);
		struct vitrine_importer_state state = state_checked(importer, fd);
		CHECK(state.pins >= 1 && state.mappings == 1);
		/* A static importer has nothing to be told. */
		CHECK(ioctl(importer, VITRINE_IMPORTER_MOVE, fd) == 0);
		CHECK(state_checked(importer, fd).moves == 0);
		CHECK(ioctl(importer, VITRINE_IMPORTER_UNMAP) == 0);
		state = state_checked(importer, fd);
		CHECK(state.pins == 0 && state.mappings == 0);
	}
}

/* An importer that follows such moves. */
static void check_dynamic_importer(int importer, int fd, int guard, uint32_t flags) {
	CHECK(importer_attach(importer, fd, flags) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_UNMAP) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);

	if (importer_attach(importer, guard, flags) < 0) {
		/* Kernels that map at once, for both directions. */
		CHECK(errno == EACCES);
		printf("# a dynamic importer can not attach\n");
		return;
	}
	CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
	CHECK_ERRNO(ioctl(importer, VITRINE_IMPORTER_MAP, FROM_DEVICE), EACCES);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE) == 0);
}

static void test_dynamic_importer(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guard = guard_checked(fd);
	int importer = importer_open();
	check_dynamic_importer(importer, fd, guard, VITRINE_IMPORTER_DYNAMIC);
	close(importer);
	importer = importer_open();
	check_dynamic_importer(importer, fd, guard,
		VITRINE_IMPORTER_DYNAMIC | VITRINE_IMPORTER_PEER);
}

static void test_dynamic_importer_is_told(enum exporter exporter) {
	(void)exporter;
	int importer = importer_open();
	int fd = exported_checked(importer);
	int guard = guard_checked(fd);
	CHECK(importer_attach(importer, fd, VITRINE_IMPORTER_DYNAMIC) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MOVE, fd) == 0);
	CHECK(state_checked(importer, fd).moves == 1);
	CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);

	check_dynamic_importer(importer, fd, guard, VITRINE_IMPORTER_DYNAMIC);
	struct vitrine_importer_state state = state_checked(importer, fd);
	if (state.mappings == 0) {
		return;
	}
	CHECK(state.pins == 1 && state.moves == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_UNMAP) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MOVE, fd) == 0);
	state = state_checked(importer, fd);
	CHECK(state.pins == 0 && state.mappings == 0 && state.moves == 1);
	CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MOVE, fd) == 0);
}

static void test_bad_fd(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int device = device_open();
	int guard = guard_checked(fd);
	int memfd = memfd_create("selftest", MFD_CLOEXEC);
	CHECK_ERRNO(guard_on(device, memfd, 0), EINVAL);
	CHECK_ERRNO(guard_on(device, device, 0), EINVAL);
	close(guard);
	CHECK_ERRNO(guard_on(device, guard, 0), EBADF);
	CHECK_ERRNO(guard_on(device, -1, 0), EBADF);
	struct dma_buf_guard_query query = {.fd = memfd};
	CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EINVAL);
	query.fd = -1;
	CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EBADF);

	struct dma_buf_derive params = {.flags = O_RDONLY};
	if (ioctl(fd, DMA_BUF_IOCTL_DERIVE, &params) == 0) {
		CHECK_ERRNO(guard_on(device, params.fd, 0), EACCES);
		query.fd = params.fd;
		CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EACCES);
	}
}

static void test_bad_flags(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int device = device_open();
	int fds = count_fds();
	close(guard_checked(fd));
	CHECK_ERRNO(guard_on(device, fd, O_RDWR), EINVAL);
	CHECK_ERRNO(guard_on(device, fd, O_WRONLY), EINVAL);
	for (int bit = 0; bit < 32; bit++) {
		if ((1u << bit & (O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES)) == 0) {
			CHECK_ERRNO(guard_on(device, fd, 1u << bit), EINVAL);
		}
	}
	struct dma_buf_guard_create params = {.fd = fd, .reserved = 1};
	CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, &params), EINVAL);
	CHECK_ERRNO(ioctl(device, _IO(DMA_BUF_GUARD_BASE, 7)), ENOTTY);
	CHECK_ERRNO(ioctl(device, DMA_BUF_IOCTL_DERIVE, &params), ENOTTY);
	CHECK(count_fds() == fds);
}

static void test_bad_memory_leaks_nothing(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int device = device_open();
	uint64_t inode = buffer_inode(fd);
	long references = buffer_info(inode).references;
	int fds = count_fds(), objects = buffer_info(0).objects;
	struct dma_buf_guard_create *params =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(params != MAP_FAILED);
	params->fd = fd;
	CHECK(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, params) == 0);
	close(params->guard_fd);
	CHECK(mprotect(params, 4096, PROT_READ) == 0);
	for (int i = 0; i < 100; i++) {
		CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, params), EFAULT);
	}
	CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, NULL), EFAULT);
	CHECK_ERRNO(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, NULL), EFAULT);
	check_references(inode, references);
	CHECK(count_fds() == fds && buffer_info(0).objects == objects);
}

static void test_fd_limit_leaks_nothing(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int device = device_open();
	uint64_t inode = buffer_inode(fd);
	long references = buffer_info(inode).references;
	int guards[64];
	int count = 0;
	const struct rlimit low = {.rlim_cur = 32, .rlim_max = 4096};
	const struct rlimit high = {.rlim_cur = 4096, .rlim_max = 4096};
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (count < 64 && (guards[count] = guard_on(device, fd, 0)) >= 0) {
		count++;
	}
	CHECK(count > 0 && count < 32 && errno == EMFILE);
	for (int i = 0; i < 100; i++) {
		CHECK_ERRNO(guard_on(device, fd, 0), EMFILE);
	}
	CHECK(setrlimit(RLIMIT_NOFILE, &high) == 0);
	check_references(inode, references + count);
	while (count > 0) {
		close(guards[--count]);
	}
	check_references(inode, references);
}

static int module_unload(void) {
	return (int)syscall(SYS_delete_module, "dma_buf_guard", O_NONBLOCK);
}

static void test_module_stays_while_used(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int device = device_open();
	CHECK_ERRNO(module_unload(), EWOULDBLOCK);
	int guard = guard_on(device, fd, 0);
	close(device);
	CHECK_ERRNO(module_unload(), EWOULDBLOCK);
	close(fd);
	CHECK_ERRNO(module_unload(), EWOULDBLOCK);
	int copy = dup(guard);
	close(guard);
	CHECK_ERRNO(module_unload(), EWOULDBLOCK);
	close(copy);
}

static void test_other_users(enum exporter exporter) {
	int fd = buffer_create(exporter);
	device_open();
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
		int guard = guard_checked(fd);
		CHECK(buffer_map(guard, PROT_READ) != MAP_FAILED);
		CHECK_ERRNO(buffer_map(guard, PROT_WRITE), EACCES);
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char *argv[]) {
	static const struct test tests[] = {
		{"read-only map sees the writer's data", test_map_sees_writes, false},
		{"identity and query", test_identity, false},
		{"writable map is refused", test_writable_map_refused, false},
		{"sync is for reading", test_sync_reads_only, false},
		{"name is its own", test_name_is_its_own, false},
		{"fences are shared", test_fences_are_shared, false},
		{"driver's fences are shared", test_driver_fences_are_shared, false},
		{"own fences are apart", test_own_fences_are_apart, false},
		{"own fences: sync waits for the writer", test_own_fences_sync_waits, false},
		{"own fences: device reads only", test_own_fences_device_reads_only, false},
		{"no way back to the original", test_no_way_back, false},
		{"guard holds the original", test_holds_the_original, false},
		{"vgem is refused", test_vgem_is_refused, false},
		{"vkms is refused", test_vkms_is_refused, false},
		{"device reads only", test_device_reads_only, false},
		{"device holds the guard", test_device_holds_the_guard, false},
		{"exporter that moves", test_dynamic_exporter, true},
		{"importer that follows", test_dynamic_importer, false},
		{"importer that follows is told", test_dynamic_importer_is_told, true},
		{"not a dma-buf, not an fd", test_bad_fd, false},
		{"bad flags", test_bad_flags, false},
		{"bad memory leaks nothing", test_bad_memory_leaks_nothing, false},
		{"fd limit leaks nothing", test_fd_limit_leaks_nothing, false},
		{"module stays while used", test_module_stays_while_used, true},
		{"other users", test_other_users, false},
	};
	return selftest_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
