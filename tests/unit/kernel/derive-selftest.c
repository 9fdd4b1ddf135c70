/* SPDX-License-Identifier: MIT */
/*
 * DMA_BUF_IOCTL_DERIVE of kernel/patches: what it promises, the faults of the
 * version that was proposed in May 2026, and bad input. Runs as root under the
 * patched kernel: tests/harness/guest/uml.
 */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "vitrine_importer.h"

#include <drm/drm.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* The derived fd, or -1. */
static int derive(int fd, uint32_t flags) {
	struct dma_buf_derive params = {.flags = flags, .fd = -1};
	int ret = ioctl(fd, DMA_BUF_IOCTL_DERIVE, &params);
	return ret < 0 ? -1 : params.fd;
}

static int derive_checked(int fd, uint32_t flags) {
	int derived = derive(fd, flags);
	if (derived < 0 && errno == ENOTTY) {
		test_skip("this kernel has no DMA_BUF_IOCTL_DERIVE");
	}
	CHECK(derived >= 0);
	CHECK((uint32_t)(fcntl(derived, F_GETFL) & O_ACCMODE) == (flags & O_ACCMODE));
	return derived;
}

static const uint32_t read_only_flags[] = {O_RDONLY, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED};
#define FOR_READ_ONLY(flags)                                                             \
	for (size_t i_ = 0; i_ < 2; i_++)                                                \
		for (uint32_t flags = read_only_flags[i_], once_ = 1; once_; once_ = 0)

static void test_read_only_map_sees_writes(enum exporter exporter) {
	int fd = buffer_create(exporter);
	volatile uint8_t *writer = buffer_map(fd, PROT_READ | PROT_WRITE);
	CHECK(writer != MAP_FAILED);
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(fd, flags | O_CLOEXEC);
		volatile uint8_t *reader = buffer_map(derived, PROT_READ);
		CHECK(reader != MAP_FAILED);
		for (int value = 1; value < 4; value++) {
			writer[0] = (uint8_t)value;
			writer[BUFFER_SIZE - 1] = (uint8_t)(value * 2);
			CHECK(reader[0] == value && reader[BUFFER_SIZE - 1] == value * 2);
		}
		buffer_unmap((void *)reader);
		close(derived);
	}
}

static void test_identity(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(fd, flags);
		CHECK(buffer_inode(derived) == inode);
		CHECK(lseek(derived, 0, SEEK_END) == BUFFER_SIZE);
		CHECK(fcntl(derived, F_GETFD) == 0);
		CHECK(strcmp(fdinfo(derived, "exp_name"), fdinfo(fd, "exp_name")) == 0);
		CHECK(strcmp(fdinfo(derived, "derived"),
			      flags == O_RDONLY ? "guarded" : "unguarded") == 0);
		close(derived);
		derived = derive_checked(fd, flags | O_CLOEXEC);
		CHECK(fcntl(derived, F_GETFD) == FD_CLOEXEC);
		close(derived);
	}
	CHECK(strcmp(fdinfo(fd, "derived"), "") == 0);
}

static void test_writable_map_refused(enum exporter exporter) {
	int fd = buffer_create(exporter);
	/* Both ways that are to be refused do work on the original. */
	volatile uint8_t *writer = buffer_map(fd, PROT_READ);
	CHECK(writer != MAP_FAILED);
	CHECK(mprotect((void *)writer, BUFFER_SIZE, PROT_READ | PROT_WRITE) == 0);
	writer[0] = 1;
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(fd, flags);
		const int types[] = {MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE};
		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			int prots[] = {PROT_WRITE, PROT_READ | PROT_WRITE};
			for (size_t j = 0; j < sizeof(prots) / sizeof(prots[0]); j++) {
				CHECK_ERRNO(mmap(NULL, BUFFER_SIZE, prots[j], types[i],
						    derived, 0),
					EACCES);
			}
		}
		void *reader = buffer_map(derived, PROT_READ);
		CHECK(reader != MAP_FAILED);
		CHECK_ERRNO(mprotect(reader, BUFFER_SIZE, PROT_READ | PROT_WRITE), EACCES);
		CHECK_ERRNO(mprotect(reader, 4096, PROT_WRITE), EACCES);
		/* This maps the file of the mapping anew, by its own rights. */
		CHECK_ERRNO(remap_file_pages(reader, BUFFER_SIZE, 0, 0, 0), EINVAL);
		int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		CHECK(mem >= 0);
		CHECK_ERRNO(pwrite(mem, "x", 1, (off_t)(uintptr_t)reader), EIO);
		close(mem);
		CHECK(writer[0] == 1);
		buffer_unmap(reader);

		char path[64];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", derived);
		CHECK_ERRNO(open(path, O_RDWR), ENXIO);
		CHECK(fcntl(derived, F_SETFL, O_RDWR) == 0);
		CHECK_ERRNO(buffer_map(derived, PROT_READ | PROT_WRITE), EACCES);
		close(derived);
	}
}

static void test_derive_down_only(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int full = derive_checked(fd, O_RDWR);
	int full_again = derive_checked(full, O_RDWR);
	volatile uint8_t *writer = buffer_map(full_again, PROT_READ | PROT_WRITE);
	CHECK(writer != MAP_FAILED);
	writer[1] = 7;

	int unguarded = derive_checked(full_again, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED);
	close(derive_checked(unguarded, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED));
	CHECK_ERRNO(derive(unguarded, O_RDWR), EACCES);

	int guarded = derive_checked(unguarded, O_RDONLY);
	close(derive_checked(guarded, O_RDONLY));
	CHECK_ERRNO(derive(guarded, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED), EACCES);
	CHECK_ERRNO(derive(guarded, O_RDWR), EACCES);

	volatile uint8_t *reader = buffer_map(guarded, PROT_READ);
	CHECK(reader != MAP_FAILED && reader[1] == 7);
}

static int set_name(int fd, const char *name) {
	return ioctl(fd, DMA_BUF_SET_NAME_B, name);
}

static int import_fence(int fd, int fence, uint32_t flags) {
	struct dma_buf_import_sync_file params = {.flags = flags, .fd = fence};
	return ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &params);
}

static int export_fence(int fd, uint32_t flags) {
	struct dma_buf_export_sync_file params = {.flags = flags, .fd = -1};
	CHECK(ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &params) == 0);
	return params.fd;
}

/* Fault 5. */
static void test_owner_state_is_read_only(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int timeline = timeline_create();
	int fence = timeline_fence(timeline, 1);
	timeline_increase(timeline, 1);

	int full = derive_checked(fd, O_RDWR);
	int writers[] = {fd, full};
	for (size_t i = 0; i < 2; i++) {
		for (uint64_t when = 0; when <= DMA_BUF_SYNC_END; when += DMA_BUF_SYNC_END) {
			CHECK(buffer_sync(writers[i], when | DMA_BUF_SYNC_READ) == 0);
			CHECK(buffer_sync(writers[i], when | DMA_BUF_SYNC_WRITE) == 0);
			CHECK(buffer_sync(writers[i], when | DMA_BUF_SYNC_RW) == 0);
		}
		CHECK(set_name(writers[i], i == 0 ? "first" : "owner") == 0);
		CHECK(import_fence(writers[i], fence, DMA_BUF_SYNC_RW) == 0);
	}
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(fd, flags);
		for (uint64_t when = 0; when <= DMA_BUF_SYNC_END; when += DMA_BUF_SYNC_END) {
			CHECK(buffer_sync(derived, when | DMA_BUF_SYNC_READ) == 0);
			CHECK_ERRNO(buffer_sync(derived, when | DMA_BUF_SYNC_WRITE), EACCES);
			CHECK_ERRNO(buffer_sync(derived, when | DMA_BUF_SYNC_RW), EACCES);
			CHECK_ERRNO(buffer_sync(derived, when), EINVAL);
		}
		CHECK_ERRNO(set_name(derived, "evil"), EACCES);
		CHECK_ERRNO(ioctl(derived, DMA_BUF_SET_NAME_A, "evil"), EACCES);
		CHECK_ERRNO(import_fence(derived, fence, DMA_BUF_SYNC_READ), EACCES);
		CHECK_ERRNO(import_fence(derived, fence, DMA_BUF_SYNC_WRITE), EACCES);
		CHECK(strcmp(fdinfo(derived, "name"), "owner") == 0);
		close(derived);
	}
	CHECK(strcmp(buffer_info(inode).name, "owner") == 0);
}

/* Fault 3: nothing changes for files that were not derived. */
static void test_exported_read_only_is_as_before(enum exporter exporter) {
	(void)exporter;
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (heap < 0) {
		test_skip("no system dma-heap");
	}
	struct dma_heap_allocation_data data = {.len = BUFFER_SIZE, .fd_flags = O_RDONLY};
	CHECK(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0);
	int fd = (int)data.fd;
	CHECK(buffer_sync(fd, DMA_BUF_SYNC_WRITE) == 0);
	CHECK(set_name(fd, "mine") == 0);
	CHECK_ERRNO(buffer_map(fd, PROT_READ | PROT_WRITE), EACCES);
	/* An unrestricted holder may ask for what it has. */
	int unguarded = derive_checked(fd, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED);
	CHECK_ERRNO(derive(fd, O_RDWR), EACCES);
	CHECK_ERRNO(derive(unguarded, O_RDWR), EACCES);

	int vgem = drm_open("vgem");
	if (vgem >= 0) {
		uint32_t handle;
		CHECK(drm_import(vgem, fd, &handle) == 0);
	}
}

static void test_fences_are_shared(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int timeline = timeline_create();
	uint32_t value = 0;
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(fd, flags);
		int full = derive_checked(fd, O_RDWR);
		CHECK(buffer_poll(derived, POLLIN, 0) && buffer_poll(derived, POLLOUT, 0));

		/* A writer's fence, added through one file, is on all of them. */
		int fence = timeline_fence(timeline, ++value);
		CHECK(import_fence(full, fence, DMA_BUF_SYNC_WRITE) == 0);
		CHECK(!buffer_poll(fd, POLLIN, 0));
		CHECK(!buffer_poll(derived, POLLIN, 20));
		int exported = export_fence(derived, DMA_BUF_SYNC_READ);
		CHECK(!buffer_poll(exported, POLLIN, 0));
		timeline_increase(timeline, 1);
		CHECK(buffer_poll(exported, POLLIN, 1000));
		CHECK(buffer_poll(derived, POLLIN, 1000) && buffer_poll(fd, POLLIN, 1000));
		close(exported);
		close(fence);

		/* A reader's fence holds writers only. */
		fence = timeline_fence(timeline, ++value);
		CHECK(import_fence(fd, fence, DMA_BUF_SYNC_READ) == 0);
		CHECK(buffer_poll(derived, POLLIN, 0) && !buffer_poll(derived, POLLOUT, 0));
		timeline_increase(timeline, 1);
		CHECK(buffer_poll(derived, POLLOUT, 1000));
		close(fence);
		close(full);
		close(derived);
	}
}

/* Fault 4: the callback of a pending poll refers to the exported file. */
static void test_poll_outlives_files(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int timeline = timeline_create();
	int fence = timeline_fence(timeline, 1);
	CHECK(import_fence(fd, fence, DMA_BUF_SYNC_WRITE) == 0);
	int derived = derive_checked(fd, O_RDONLY);
	close(fd);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, derived, &event) == 0);
	CHECK(epoll_wait(epoll, &event, 1, 10) == 0);
	close(derived);
	/* Held by the callback alone. */
	check_references(inode, 1);
	timeline_increase(timeline, 1);
	check_gone(inode);
}

/* "Exactly one list removal and release", in every order of closing. */
static void test_one_object_one_release(enum exporter exporter) {
	for (int last = 0; last < 4; last++) {
		int fds[4] = {buffer_create(exporter)};
		uint64_t inode = buffer_inode(fds[0]);
		/* An exporter may keep references, and so may its handles. */
		long base = buffer_info(inode).references;
		fds[1] = derive_checked(fds[0], O_RDONLY);
		fds[2] = derive_checked(fds[0], O_RDONLY | DMA_BUF_DERIVE_UNGUARDED);
		fds[3] = derive_checked(fds[0], O_RDWR);
		check_references(inode, base + 3);
		char count[32];
		snprintf(count, sizeof(count), "%ld", base + 3);
		for (int i = 0; i < 4; i++) {
			CHECK(strcmp(fdinfo(fds[i], "count"), count) == 0);
		}
		uint8_t *writer = buffer_map(fds[0], PROT_WRITE);
		CHECK(writer != MAP_FAILED);
		writer[5] = 5;
		buffer_unmap(writer);

		long left = base + 3;
		for (int i = 0; i < 4; i++) {
			if (i != last) {
				close(fds[i]);
				check_references(inode, --left);
			}
		}
		/* Whichever is left holds everything. */
		volatile uint8_t *reader = buffer_map(fds[last], PROT_READ);
		CHECK(reader != MAP_FAILED && reader[5] == 5);
		close(fds[last]);
		CHECK(reader[5] == 5 && buffer_info(inode).objects == 1);
		buffer_unmap((void *)reader);
		check_gone(inode);
	}
}

static int drm_open_checked(const char *driver) {
	int fd = drm_open(driver);
	if (fd < 0) {
		test_skip("no %s device", driver);
	}
	return fd;
}

/* Fault 1: what importing takes must be what giving up the import drops. */
static void test_import_references(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int vgem = drm_open_checked("vgem");
	int derived[] = {
		derive_checked(fd, O_RDWR),
		derive_checked(fd, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED),
	};
	long base = buffer_info(inode).references;
	for (size_t i = 0; i < 2; i++) {
		for (int j = 0; j < 50; j++) {
			uint32_t handle;
			CHECK(drm_import(vgem, derived[i], &handle) == 0);
			drm_close_handle(vgem, handle);
		}
	}
	/* vgem's own buffer got an import cache entry while it was imported. */
	check_references(inode, base);
	int guarded = derive_checked(fd, O_RDONLY);
	for (int j = 0; j < 50; j++) {
		uint32_t handle;
		CHECK_ERRNO(drm_import(vgem, guarded, &handle), EACCES);
	}
	check_references(inode, base + 1);
	close(vgem);
	close(guarded);
	close(derived[0]);
	close(derived[1]);
	close(fd);
	check_gone(inode);
}

/* O_RDWR imports as the original does, and gives the original back. */
static void test_import_read_write(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int vgem = drm_open_checked("vgem");
	int full = derive_checked(fd, O_RDWR);
	uint32_t handle, same;
	CHECK(drm_import(vgem, full, &handle) == 0);
	CHECK(drm_import(vgem, fd, &same) == 0 && same == handle);
	int again;
	CHECK(drm_export(vgem, handle, DRM_RDWR, &again) == 0);
	CHECK((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDWR);
	CHECK(buffer_inode(again) == buffer_inode(fd));
}

/* Fault 2, and what DMA_BUF_DERIVE_UNGUARDED gives up. */
static void test_import_unguarded(enum exporter exporter) {
	int fd = buffer_create(exporter);
	volatile uint8_t *owner = buffer_map(fd, PROT_READ | PROT_WRITE);
	CHECK(owner != MAP_FAILED);
	owner[0] = 1;
	int unguarded = derive_checked(fd, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED);
	int vgem = drm_open_checked("vgem");
	uint32_t handle;
	CHECK(drm_import(vgem, unguarded, &handle) == 0);
	volatile uint8_t *map = drm_map_fake_offset(vgem, PROT_READ | PROT_WRITE);
	CHECK(map != MAP_FAILED);
	map[0] = 2;
	CHECK(owner[0] == 2);
	/* It is not handed out as what it was derived from. */
	int again;
	CHECK_ERRNO(drm_export(vgem, handle, DRM_RDWR, &again), EACCES);
	CHECK_ERRNO(drm_export(vgem, handle, 0, &again), EACCES);
	/* Unless whoever imported it has that too. */
	uint32_t same;
	CHECK(drm_import(vgem, fd, &same) == 0 && same == handle);
	CHECK(drm_export(vgem, handle, DRM_RDWR, &again) == 0);
}

static void test_import_guarded_refused(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int vgem = drm_open_checked("vgem");
	int guarded = derive_checked(fd, O_RDONLY);
	uint32_t handle;
	CHECK_ERRNO(drm_import(vgem, guarded, &handle), EACCES);
	/* Not either where the same file has the buffer already. */
	CHECK(drm_import(vgem, fd, &handle) == 0);
	CHECK_ERRNO(drm_import(vgem, guarded, &handle), EACCES);
}

/* vkms only reads what it scans out: it takes guarded buffers. */
static void test_import_guarded_by_reader(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int vkms = drm_open_checked("vkms");
	int guarded = derive_checked(fd, O_RDONLY);
	uint32_t handle, other;
	if (exporter == EXPORTER_VKMS) {
		/* Its own object: there is one, and others write to it. */
		CHECK_ERRNO(drm_import(vkms, guarded, &handle), EACCES);
		CHECK(drm_import(vkms, fd, &handle) == 0);
		return;
	}
	CHECK(drm_import(vkms, guarded, &handle) == 0);
	CHECK(drm_import(vkms, guarded, &other) == 0 && other == handle);

	/* No way back to the original. */
	int again;
	CHECK_ERRNO(drm_export(vkms, handle, DRM_RDWR, &again), EACCES);
	CHECK_ERRNO(drm_export(vkms, handle, 0, &again), EACCES);
	CHECK_ERRNO(drm_map_fake_offset(vkms, PROT_READ | PROT_WRITE), EACCES);
	CHECK_ERRNO(drm_map_fake_offset(vkms, PROT_READ), EACCES);

	/* Who has the original gets an object that does all of this. */
	CHECK(drm_import(vkms, fd, &other) == 0 && other != handle);
	CHECK(drm_export(vkms, other, DRM_RDWR, &again) == 0);
	void *map = drm_map_fake_offset(vkms, PROT_READ | PROT_WRITE);
	CHECK(map != MAP_FAILED);
	buffer_unmap(map);
	close(again);
	CHECK_ERRNO(drm_export(vkms, handle, DRM_RDWR, &again), EACCES);

	/* The other order. */
	drm_close_handle(vkms, handle);
	CHECK(drm_import(vkms, guarded, &handle) == 0 && other != handle);
	CHECK_ERRNO(drm_export(vkms, handle, DRM_RDWR, &again), EACCES);

	close(vkms);
	close(guarded);
	close(fd);
	check_gone(inode);
}

/* Drivers in general: refused unless they ask, or were trusted. */
static void test_driver_access(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	volatile uint8_t *owner = buffer_map(fd, PROT_READ);
	CHECK(owner != MAP_FAILED);
	int importer = importer_open();
	int derived[] = {
		derive_checked(fd, O_RDWR),
		derive_checked(fd, O_RDONLY | DMA_BUF_DERIVE_UNGUARDED),
	};
	int guarded = derive_checked(fd, O_RDONLY);
	long references = buffer_info(inode).references;
	for (size_t i = 0; i < 2; i++) {
		for (uint32_t flags = 0; flags <= VITRINE_IMPORTER_READER; flags++) {
			CHECK(importer_attach(importer, derived[i], flags) == 0);
			check_references(inode, references + 1);
			CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, 0) == 0);
			CHECK(ioctl(importer, VITRINE_IMPORTER_STORE, 10 + i) == 0);
			CHECK(owner[0] == 10 + i);
			CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);
			check_references(inode, references);
		}
	}
	for (uint32_t flags = 0; flags < VITRINE_IMPORTER_READER; flags++) {
		CHECK_ERRNO(importer_attach(importer, guarded, flags), EACCES);
		uint32_t reader = flags | VITRINE_IMPORTER_READER;
		CHECK(importer_attach(importer, guarded, reader) == 0);
		check_references(inode, references + 1);
		CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, 1) == 0);
		CHECK(ioctl(importer, VITRINE_IMPORTER_DETACH) == 0);
	}
	check_references(inode, references);
	/* The import holds the buffer, whichever fd it came by. */
	CHECK(importer_attach(importer, guarded, VITRINE_IMPORTER_READER) == 0);
	close(fd);
	close(guarded);
	close(derived[0]);
	close(derived[1]);
	buffer_unmap((void *)owner);
	check_references(inode, 1);
	CHECK(ioctl(importer, VITRINE_IMPORTER_MAP, 1) == 0);
	close(importer);
	check_gone(inode);
}

/* Of an exporter that can be mapped private, which the others can not. */
static void test_private_map_refused(enum exporter exporter) {
	(void)exporter;
	int importer = importer_open();
	struct vitrine_importer_export params = {.pages = BUFFER_SIZE / 4096};
	CHECK(ioctl(importer, VITRINE_IMPORTER_EXPORT, &params) == 0);
	void *map = mmap(NULL, BUFFER_SIZE, PROT_READ, MAP_PRIVATE, params.fd, 0);
	CHECK(map != MAP_FAILED && mprotect(map, BUFFER_SIZE, PROT_READ | PROT_WRITE) == 0);
	FOR_READ_ONLY(flags) {
		int derived = derive_checked(params.fd, flags);
		CHECK_ERRNO(mmap(NULL, BUFFER_SIZE, PROT_WRITE, MAP_PRIVATE, derived, 0), EACCES);
		map = mmap(NULL, BUFFER_SIZE, PROT_READ, MAP_PRIVATE, derived, 0);
		CHECK(map != MAP_FAILED);
		CHECK_ERRNO(mprotect(map, BUFFER_SIZE, PROT_READ | PROT_WRITE), EACCES);
		close(derived);
	}
}

static void test_bad_fd(enum exporter exporter) {
	int fd = buffer_create(exporter);
	close(derive_checked(fd, O_RDONLY));
	int memfd = memfd_create("selftest", MFD_CLOEXEC);
	int pipes[2];
	CHECK(pipe(pipes) == 0);
	CHECK_ERRNO(derive(memfd, O_RDONLY), ENOTTY);
	CHECK_ERRNO(derive(pipes[0], O_RDONLY), ENOTTY);
	int derived = derive_checked(fd, O_RDONLY);
	close(derived);
	CHECK_ERRNO(derive(derived, O_RDONLY), EBADF);
	CHECK_ERRNO(derive(-1, O_RDONLY), EBADF);
}

static void test_bad_flags(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int fds = count_fds();
	close(derive_checked(fd, O_RDONLY));
	CHECK_ERRNO(derive(fd, O_WRONLY), EINVAL);
	CHECK_ERRNO(derive(fd, O_ACCMODE), EINVAL);
	CHECK_ERRNO(derive(fd, O_RDWR | DMA_BUF_DERIVE_UNGUARDED), EINVAL);
	CHECK_ERRNO(derive(fd, O_WRONLY | DMA_BUF_DERIVE_UNGUARDED), EINVAL);
	for (int bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;
		if ((flag & (O_ACCMODE | O_CLOEXEC | DMA_BUF_DERIVE_UNGUARDED)) == 0) {
			CHECK_ERRNO(derive(fd, flag), EINVAL);
			CHECK_ERRNO(derive(fd, flag | O_CLOEXEC | O_RDWR), EINVAL);
		}
	}
	CHECK(count_fds() == fds);
}

/* Fault 6. */
static void test_bad_memory_leaks_nothing(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	int fds = count_fds();
	long references = buffer_info(inode).references;
	struct dma_buf_derive *params =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(params != MAP_FAILED);
	params->flags = O_RDONLY;
	CHECK(ioctl(fd, DMA_BUF_IOCTL_DERIVE, params) == 0);
	close(params->fd);
	CHECK(mprotect(params, 4096, PROT_READ) == 0);
	for (int i = 0; i < 100; i++) {
		CHECK_ERRNO(ioctl(fd, DMA_BUF_IOCTL_DERIVE, params), EFAULT);
	}
	CHECK_ERRNO(ioctl(fd, DMA_BUF_IOCTL_DERIVE, NULL), EFAULT);
	CHECK(count_fds() == fds);
	check_references(inode, references);
}

static void test_fd_limit_leaks_nothing(enum exporter exporter) {
	int fd = buffer_create(exporter);
	uint64_t inode = buffer_inode(fd);
	long references = buffer_info(inode).references;
	int derived[64];
	int count = 0;
	const struct rlimit low = {.rlim_cur = 32, .rlim_max = 4096};
	const struct rlimit high = {.rlim_cur = 4096, .rlim_max = 4096};
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (count < 64 && (derived[count] = derive(fd, O_RDONLY)) >= 0) {
		count++;
	}
	CHECK(count > 0 && count < 32 && errno == EMFILE);
	for (int i = 0; i < 100; i++) {
		CHECK_ERRNO(derive(fd, O_RDONLY), EMFILE);
	}
	CHECK(setrlimit(RLIMIT_NOFILE, &high) == 0);
	check_references(inode, references + count);
	while (count > 0) {
		close(derived[--count]);
	}
	check_references(inode, references);
}

static void test_passes_to_other_users(enum exporter exporter) {
	int fd = buffer_create(exporter);
	int guarded = derive_checked(fd, O_RDONLY);
	pid_t pid = fork();
	if (pid == 0) {
		close(fd);
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
		CHECK(buffer_map(guarded, PROT_READ) != MAP_FAILED);
		CHECK_ERRNO(buffer_map(guarded, PROT_WRITE), EACCES);
		close(derive_checked(guarded, O_RDONLY));
		CHECK_ERRNO(derive(guarded, O_RDWR), EACCES);
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char *argv[]) {
	static const struct test tests[] = {
		{"read-only map sees the writer's data", test_read_only_map_sees_writes, false},
		{"derived fd is the same buffer", test_identity, false},
		{"writable map is refused", test_writable_map_refused, false},
		{"deriving goes down only", test_derive_down_only, false},
		{"owner's state is read-only", test_owner_state_is_read_only, false},
		{"exported O_RDONLY files are as before", test_exported_read_only_is_as_before,
			true},
		{"fences are shared", test_fences_are_shared, false},
		{"pending poll outlives the files", test_poll_outlives_files, false},
		{"one object, one release", test_one_object_one_release, false},
		{"imports keep the references exact", test_import_references, false},
		{"O_RDWR imports as the original", test_import_read_write, false},
		{"unguarded: imports, and writes", test_import_unguarded, false},
		{"guarded: importers are refused", test_import_guarded_refused, false},
		{"guarded: an importer that reads", test_import_guarded_by_reader, false},
		{"drivers are refused unless they ask", test_driver_access, false},
		{"private map is refused", test_private_map_refused, true},
		{"not a dma-buf, not an fd", test_bad_fd, false},
		{"bad flags", test_bad_flags, false},
		{"bad memory leaks nothing", test_bad_memory_leaks_nothing, false},
		{"fd limit leaks nothing", test_fd_limit_leaks_nothing, false},
		{"other users", test_passes_to_other_users, false},
	};
	return selftest_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
