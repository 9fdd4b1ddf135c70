/* SPDX-License-Identifier: MIT */
/*
 * DMA_BUF_IOCTL_DERIVE of kernel/patches: what it promises, the faults of the
 * version that was proposed in May 2026, and bad input. Runs as root under the
 * patched kernel: tests/harness/guest/uml.
 */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "vitrine_importer.h"

#include <drm_fourcc.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

static const struct {
	const char *name;
	struct buffer_options options;
	uint32_t flags;
} read_only_params[] = {
	{"udmabuf, guarded", {EXPORTER_UDMABUF}, O_RDONLY},
	{"heap, guarded", {EXPORTER_HEAP}, O_RDONLY},
	{"vgem, guarded", {EXPORTER_VGEM}, O_RDONLY},
	{"vkms, guarded", {EXPORTER_VKMS}, O_RDONLY},
	{"udmabuf, unguarded", {EXPORTER_UDMABUF}, O_RDONLY | DERIVE_UNGUARDED},
	{"heap, unguarded", {EXPORTER_HEAP}, O_RDONLY | DERIVE_UNGUARDED},
	{"vgem, unguarded", {EXPORTER_VGEM}, O_RDONLY | DERIVE_UNGUARDED},
	{"vkms, unguarded", {EXPORTER_VKMS}, O_RDONLY | DERIVE_UNGUARDED},
};
#define TEST_EACH_READ_ONLY(name) TEST_WITH_EACH(buffer, read_only_params, name)

TEST_EACH_READ_ONLY(read_only_map_sees_the_writers_data) {
	check_sees_writes(f->fd, derive_checked(f->fd, param->flags | O_CLOEXEC));
}

TEST_EACH_READ_ONLY(derived_fd_is_the_same_buffer) {
	char exporter[32];
	snprintf(exporter, sizeof(exporter), "%s", dmabuf_fdinfo(f->fd, "exp_name"));
	check(exporter[0] != '\0');
	int derived = derive_checked(f->fd, param->flags);
	check(dmabuf_inode(derived) == f->inode);
	check(lseek(derived, 0, SEEK_END) == DMABUF_SIZE);
	check_ok(fcntl(derived, F_GETFD));
	check_str(dmabuf_fdinfo(derived, "exp_name"), exporter);
	check_str(dmabuf_fdinfo(derived, "derived"),
		param->flags == O_RDONLY ? "guarded" : "unguarded");
	derived = derive_checked(f->fd, param->flags | O_CLOEXEC);
	check(fcntl(derived, F_GETFD) == FD_CLOEXEC);
	check_str(dmabuf_fdinfo(f->fd, "derived"), "");
}

TEST_EACH_READ_ONLY(writable_map_is_refused) {
	check_cannot_be_written(f->fd, derive_checked(f->fd, param->flags));
}

TEST_EACH_EXPORTER(deriving_goes_down_only) {
	int full = derive_checked(f->fd, O_RDWR);
	int full_again = derive_checked(full, O_RDWR);
	volatile uint8_t *writer = dmabuf_map(full_again, PROT_READ | PROT_WRITE);
	writer[1] = 7;

	int unguarded = derive_checked(full_again, O_RDONLY | DERIVE_UNGUARDED);
	close(derive_checked(unguarded, O_RDONLY | DERIVE_UNGUARDED));
	check_errno(derive(unguarded, O_RDWR), EACCES);

	int guarded = derive_checked(unguarded, O_RDONLY);
	close(derive_checked(guarded, O_RDONLY));
	check_errno(derive(guarded, O_RDONLY | DERIVE_UNGUARDED), EACCES);
	check_errno(derive(guarded, O_RDWR), EACCES);

	volatile uint8_t *reader = dmabuf_map(guarded, PROT_READ);
	check(reader[1] == 7);
}

/* Fault 5. */
TEST_EACH_READ_ONLY(owners_state_is_read_only) {
	struct fence fence;
	fence_init(&fence);
	fence_signal(&fence);

	int writers[] = {f->fd, derive_checked(f->fd, O_RDWR)};
	int derived = derive_checked(f->fd, param->flags);
	for (size_t i = 0; i < 2; i++) {
		check_syncs_for_reading_only(writers[i], derived);
		check_ok(dmabuf_set_name(writers[i], i == 0 ? "first" : "owner"));
		check_ok(dmabuf_import_fence(writers[i], fence.fd, DMA_BUF_SYNC_RW));
	}
	check_errno(dmabuf_set_name(derived, "evil"), EACCES);
	check_errno(ioctl(derived, DMA_BUF_SET_NAME_A, "evil"), EACCES);
	check_errno(dmabuf_import_fence(derived, fence.fd, DMA_BUF_SYNC_READ), EACCES);
	check_errno(dmabuf_import_fence(derived, fence.fd, DMA_BUF_SYNC_WRITE), EACCES);
	check_str(dmabuf_fdinfo(derived, "name"), "owner");
	check_str(dmabuf_info(f->inode).name, "owner");
}

/* A holder that derives once more, as often as it likes, gets no more than it has. */
TEST_EACH_READ_ONLY(derived_of_a_derived_fd_is_no_more) {
	const char *kind = param->flags == O_RDONLY ? "guarded" : "unguarded";
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(derive_checked(f->fd, O_RDWR), fence.fd, DMA_BUF_SYNC_WRITE));
	fence_signal(&fence);
	int derived = derive_checked(f->fd, param->flags);
	for (int i = 0; i < 3; i++) {
		derived = derive_checked(derived, param->flags);
		check_str(dmabuf_fdinfo(derived, "derived"), kind);
		check_errno(derive(derived, O_RDWR), EACCES);
		check_cannot_be_written(f->fd, derived);
		check_syncs_for_reading_only(f->fd, derived);
		check_errno(dmabuf_set_name(derived, "evil"), EACCES);
		check_errno(dmabuf_import_fence(derived, fence.fd, DMA_BUF_SYNC_RW), EACCES);
		int vgem = drm_open("vgem"), again;
		uint32_t handle;
		if (param->flags == O_RDONLY) {
			check_errno(drmPrimeFDToHandle(vgem, derived, &handle), EACCES);
		} else {
			check_ok(drmPrimeFDToHandle(vgem, derived, &handle));
			check_errno(drmPrimeHandleToFD(vgem, handle, DRM_RDWR, &again), EACCES);
		}
		close(vgem);
	}
}

/* Fault 3: nothing changes for files that were not derived. */
TEST_WITH(buffer, exported_rdonly_files_are_as_before) {
	int fd = dmabuf_create_from_heap(O_RDONLY, DMABUF_SIZE);
	check_ok(dmabuf_sync(fd, DMA_BUF_SYNC_WRITE));
	check_ok(dmabuf_set_name(fd, "mine"));
	check_errno(dmabuf_try_map(fd, PROT_READ | PROT_WRITE), EACCES);
	/* An unrestricted holder may ask for what it has. */
	int unguarded = derive_checked(fd, O_RDONLY | DERIVE_UNGUARDED);
	check_errno(derive(fd, O_RDWR), EACCES);
	check_errno(derive(unguarded, O_RDWR), EACCES);

	int vgem = drm_try_open("vgem");
	if (vgem >= 0) {
		uint32_t handle;
		check_ok(drmPrimeFDToHandle(vgem, fd, &handle));
	}
}

/* What an exporter does then can take back what the owner has written. */
TEST_EACH_READ_ONLY(sync_does_not_reach_the_exporter) {
	int importer = importer_open();
	struct vitrine_importer_state state = {
		.fd = importer_export(importer, VITRINE_IMPORTER_PAGELESS),
	};
	int derived[] = {derive_checked(state.fd, O_RDWR), derive_checked(state.fd, param->flags)};
	for (size_t i = 0; i < 2; i++) {
		check_ok(dmabuf_sync(derived[i], DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
		check_ok(dmabuf_sync(derived[i], DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
		check_ok(ioctl(importer, VITRINE_IMPORTER_STATE, &state));
		check_int(state.syncs, ==, 2); /* of the one that may write */
	}
}

/* It waits for the writers nonetheless. */
TEST_EACH_READ_ONLY(sync_waits_for_the_writer) {
	int derived = derive_checked(f->fd, param->flags);
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(f->fd, fence.fd, DMA_BUF_SYNC_WRITE));
	pid_t pid = fork();
	if (pid == 0) {
		_exit(dmabuf_sync(derived, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) != 0);
	}
	int status;
	/* Time in which it would end, if it did not wait. */
	usleep(200 * 1000);
	check(waitpid(pid, &status, WNOHANG) == 0);
	fence_signal(&fence);
	check(waitpid(pid, &status, 0) == pid && status == 0);
}

/* A heap hands out what its caller asks for. */
TEST_WITH(buffer, fd_that_cannot_read_is_refused) {
	int fd = dmabuf_create_from_heap(O_WRONLY, DMABUF_SIZE);
	const uint32_t flags[] = {O_RDONLY, O_RDONLY | DERIVE_UNGUARDED, O_RDWR};
	int fds = harness_count_fds();
	for (size_t i = 0; i < 3; i++) {
		int readable = dmabuf_create_from_heap(O_RDWR, DMABUF_SIZE);
		close(derive_checked(readable, flags[i]));
		close(readable);
		check_errno(derive(fd, flags[i]), EACCES);
	}
	check_int(harness_count_fds(), ==, fds);
}

TEST_EACH_READ_ONLY(fences_are_shared) {
	check_fences_are_shared(f->fd, derive_checked(f->fd, O_RDWR),
		derive_checked(f->fd, param->flags));
}

/* Fault 4: the callback of a pending poll refers to the exported file. */
TEST_EACH_EXPORTER(pending_poll_outlives_the_files) {
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(f->fd, fence.fd, DMA_BUF_SYNC_WRITE));
	int derived = derive_checked(f->fd, O_RDONLY);
	close(f->fd);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};
	check_ok(epoll_ctl(epoll, EPOLL_CTL_ADD, derived, &event));
	check(epoll_wait(epoll, &event, 1, 10) == 0);
	close(derived);
	/* Held by the callback alone. */
	dmabuf_check_references(f->inode, 1);
	fence_signal(&fence);
	dmabuf_check_gone(f->inode);
}

/* "Exactly one list removal and release", in every order of closing. */
TEST_EACH_EXPORTER(one_object_one_release) {
	for (int last = 0; last < 4; last++) {
		int fds[4] = {dmabuf_create(param->options.exporter)};
		uint64_t inode = dmabuf_inode(fds[0]);
		long base = dmabuf_info(inode).references;
		fds[1] = derive_checked(fds[0], O_RDONLY);
		fds[2] = derive_checked(fds[0], O_RDONLY | DERIVE_UNGUARDED);
		fds[3] = derive_checked(fds[0], O_RDWR);
		dmabuf_check_references(inode, base + 3);
		char count[32];
		snprintf(count, sizeof(count), "%ld", base + 3);
		for (int i = 0; i < 4; i++) {
			check_str(dmabuf_fdinfo(fds[i], "count"), count);
		}
		uint8_t *writer = dmabuf_map(fds[0], PROT_WRITE);
		writer[5] = 5;
		dmabuf_unmap(writer);

		long left = base + 3;
		for (int i = 0; i < 4; i++) {
			if (i != last) {
				close(fds[i]);
				dmabuf_check_references(inode, --left);
			}
		}
		/* Whichever is left holds everything. */
		volatile uint8_t *reader = dmabuf_map(fds[last], PROT_READ);
		check(reader[5] == 5);
		close(fds[last]);
		check(reader[5] == 5 && dmabuf_info(inode).objects == 1);
		dmabuf_unmap(reader);
		dmabuf_check_gone(inode);
	}
}

/* Fault 1: what importing takes must be what giving up the import drops. */
TEST_EACH_EXPORTER(imports_keep_the_references_exact) {
	int vgem = drm_open("vgem");
	int derived[] = {
		derive_checked(f->fd, O_RDWR),
		derive_checked(f->fd, O_RDONLY | DERIVE_UNGUARDED),
	};
	long base = dmabuf_info(f->inode).references;
	for (size_t i = 0; i < 2; i++) {
		for (int j = 0; j < 50; j++) {
			uint32_t handle;
			check_ok(drmPrimeFDToHandle(vgem, derived[i], &handle));
			check_ok(drmCloseBufferHandle(vgem, handle));
		}
	}
	/* vgem's own buffer got an import cache entry while it was imported. */
	dmabuf_check_references(f->inode, base);
	int guarded = derive_checked(f->fd, O_RDONLY);
	for (int j = 0; j < 50; j++) {
		uint32_t handle;
		check_errno(drmPrimeFDToHandle(vgem, guarded, &handle), EACCES);
	}
	dmabuf_check_references(f->inode, base + 1);
	close(vgem);
	close(guarded);
	close(derived[0]);
	close(derived[1]);
	close(f->fd);
	dmabuf_check_gone(f->inode);
}

/* O_RDWR imports as the original does, and gives the original back. */
TEST_EACH_EXPORTER(rdwr_imports_as_the_original) {
	int vgem = drm_open("vgem");
	int full = derive_checked(f->fd, O_RDWR);
	uint32_t handle, same;
	check_ok(drmPrimeFDToHandle(vgem, full, &handle));
	check(drmPrimeFDToHandle(vgem, f->fd, &same) == 0 && same == handle);
	int again;
	check_ok(drmPrimeHandleToFD(vgem, handle, DRM_RDWR, &again));
	check((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDWR);
	check(dmabuf_inode(again) == f->inode);
}

/* Fault 2, and what DERIVE_UNGUARDED gives up. */
TEST_EACH_EXPORTER(unguarded_imports_and_writes) {
	volatile uint8_t *owner = dmabuf_map(f->fd, PROT_READ | PROT_WRITE);
	owner[0] = 1;
	int unguarded = derive_checked(f->fd, O_RDONLY | DERIVE_UNGUARDED);
	int vgem = drm_open("vgem");
	uint32_t handle;
	check_ok(drmPrimeFDToHandle(vgem, unguarded, &handle));
	volatile uint8_t *map = drm_map_fake_offset(vgem, PROT_READ | PROT_WRITE);
	check(map != MAP_FAILED);
	map[0] = 2;
	check(owner[0] == 2);
	/* It is not handed out as what it was derived from. */
	int again;
	check_errno(drmPrimeHandleToFD(vgem, handle, DRM_RDWR, &again), EACCES);
	check_errno(drmPrimeHandleToFD(vgem, handle, 0, &again), EACCES);
	/* Unless the importer has that too. */
	uint32_t same;
	check(drmPrimeFDToHandle(vgem, f->fd, &same) == 0 && same == handle);
	check_ok(drmPrimeHandleToFD(vgem, handle, DRM_RDWR, &again));
}

/* A handle of what a framebuffer of the first one was made of. */
static uint32_t second_handle(int device, uint32_t handle) {
	uint32_t handles[4] = {handle}, pitches[4] = {4 * DMABUF_WIDTH}, offsets[4] = {0}, id;
	check_ok(drmModeAddFB2(device, DMABUF_WIDTH, DMABUF_HEIGHT, DRM_FORMAT_XRGB8888, handles,
		pitches, offsets, &id, 0));
	drmModeFB2Ptr fb = drmModeGetFB2(device, id);
	check(fb != NULL && fb->handles[0] != 0 && fb->handles[0] != handle);
	uint32_t second = fb->handles[0];
	drmModeFreeFB2(fb);
	check_ok(drmModeRmFB(device, id));
	return second;
}

static int flink_and_open(int device, uint32_t handle, int other, uint32_t *opened) {
	struct drm_gem_flink flink = {.handle = handle};
	if (drmIoctl(device, DRM_IOCTL_GEM_FLINK, &flink) < 0) {
		return -1;
	}
	struct drm_gem_open open_name = {.name = flink.name};
	int ret = drmIoctl(other, DRM_IOCTL_GEM_OPEN, &open_name);
	*opened = open_name.handle;
	return ret;
}

/* What was imported is what must not be had, by whichever handle of it. */
TEST_EACH_EXPORTER(unguarded_import_is_exported_by_no_handle) {
	int fd;
	uint32_t handle, opened;
	/* The ways work with all rights. */
	int vkms = drm_open("vkms"), other = drm_open("vkms");
	check_ok(drmPrimeFDToHandle(vkms, f->fd, &handle));
	check_ok(drmPrimeHandleToFD(vkms, second_handle(vkms, handle), DRM_RDWR, &fd));
	check(dmabuf_inode(fd) == f->inode && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
	check_ok(flink_and_open(vkms, handle, other, &opened));
	check_ok(drmPrimeHandleToFD(other, opened, DRM_RDWR, &fd));
	check(dmabuf_inode(fd) == f->inode && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
	close(other);
	close(vkms);

	vkms = drm_open("vkms");
	other = drm_open("vkms");
	check_ok(drmPrimeFDToHandle(vkms, derive_checked(f->fd, O_RDONLY | DERIVE_UNGUARDED),
		&handle));
	uint32_t second = second_handle(vkms, handle);
	check_errno(drmPrimeHandleToFD(vkms, second, DRM_RDWR, &fd), EACCES);
	uint32_t handles[] = {handle, second};
	for (size_t i = 0; i < 2; i++) {
		check_errno(flink_and_open(vkms, handles[i], other, &opened), EACCES);
	}
	/* Unless the file has the rights. */
	check_ok(drmPrimeFDToHandle(vkms, f->fd, &handle));
	check_ok(drmPrimeHandleToFD(vkms, second, DRM_RDWR, &fd));
	check_ok(flink_and_open(vkms, handle, other, &opened));
}

TEST_EACH_EXPORTER(guarded_importers_are_refused) {
	int vgem = drm_open("vgem");
	int guarded = derive_checked(f->fd, O_RDONLY);
	uint32_t handle;
	check_errno(drmPrimeFDToHandle(vgem, guarded, &handle), EACCES);
	/* Not either where the same file has the buffer already. */
	check_ok(drmPrimeFDToHandle(vgem, f->fd, &handle));
	check_errno(drmPrimeFDToHandle(vgem, guarded, &handle), EACCES);
}

/* Not one that only reads, either, if it does not say so: vkms scans out. */
TEST_EACH_EXPORTER(guarded_scanout_is_refused) {
	int vkms = drm_open("vkms");
	int guarded = derive_checked(f->fd, O_RDONLY);
	uint32_t handle;
	check_errno(drmPrimeFDToHandle(vkms, guarded, &handle), EACCES);
	check_ok(drmPrimeFDToHandle(vkms, f->fd, &handle));
	check_errno(drmPrimeFDToHandle(vkms, guarded, &handle), EACCES);
}

/* Drivers in general: refused unless they ask, or were trusted. */
TEST_EACH_EXPORTER(drivers_are_refused_unless_they_ask) {
	volatile uint8_t *owner = dmabuf_map(f->fd, PROT_READ);
	int importer = importer_open();
	int derived[] = {
		derive_checked(f->fd, O_RDWR),
		derive_checked(f->fd, O_RDONLY | DERIVE_UNGUARDED),
	};
	int guarded = derive_checked(f->fd, O_RDONLY);
	long references = dmabuf_info(f->inode).references;
	for (size_t i = 0; i < 2; i++) {
		for (uint32_t flags = 0; flags <= VITRINE_IMPORTER_READER; flags++) {
			check_ok(importer_attach(importer, derived[i], flags));
			dmabuf_check_references(f->inode, references + 1);
			check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, 0));
			check_ok(ioctl(importer, VITRINE_IMPORTER_STORE, 10 + i));
			check(owner[0] == 10 + i);
			check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));
			dmabuf_check_references(f->inode, references);
		}
	}
	for (uint32_t flags = 0; flags < VITRINE_IMPORTER_READER; flags++) {
		check_errno(importer_attach(importer, guarded, flags), EACCES);
		uint32_t reader = flags | VITRINE_IMPORTER_READER;
		check_ok(importer_attach(importer, guarded, reader));
		dmabuf_check_references(f->inode, references + 1);
		check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, 1));
		check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));
	}
	dmabuf_check_references(f->inode, references);
	/* The import holds the buffer, whichever fd it came by. */
	check_ok(importer_attach(importer, guarded, VITRINE_IMPORTER_READER));
	close(f->fd);
	close(guarded);
	close(derived[0]);
	close(derived[1]);
	dmabuf_unmap(owner);
	dmabuf_check_references(f->inode, 1);
	check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, 1));
	close(importer);
	dmabuf_check_gone(f->inode);
}

/* Of an exporter that can be mapped private, which the others can not. */
TEST_WITH(buffer, private_map_is_refused) {
	int fd = importer_export(importer_open(), 0);
	check_cannot_be_written_privately(fd, derive_checked(fd, O_RDONLY));
	check_cannot_be_written_privately(fd,
		derive_checked(fd, O_RDONLY | DERIVE_UNGUARDED));
}

TEST_EACH_EXPORTER(not_a_dmabuf_not_an_fd) {
	close(derive_checked(f->fd, O_RDONLY));
	int memfd = memfd_create("selftest", MFD_CLOEXEC);
	int pipes[2];
	check_ok(pipe(pipes));
	check_errno(derive(memfd, O_RDONLY), ENOTTY);
	check_errno(derive(pipes[0], O_RDONLY), ENOTTY);
	int derived = derive_checked(f->fd, O_RDONLY);
	close(derived);
	check_errno(derive(derived, O_RDONLY), EBADF);
	check_errno(derive(-1, O_RDONLY), EBADF);
}

TEST_EACH_EXPORTER(bad_flags) {
	int fds = harness_count_fds();
	close(derive_checked(f->fd, O_RDONLY));
	check_errno(derive(f->fd, O_WRONLY), EINVAL);
	check_errno(derive(f->fd, O_ACCMODE), EINVAL);
	check_errno(derive(f->fd, O_RDWR | DERIVE_UNGUARDED), EINVAL);
	check_errno(derive(f->fd, O_WRONLY | DERIVE_UNGUARDED), EINVAL);
	const unsigned long requests[] = {DMA_BUF_IOCTL_DERIVE, DMA_BUF_IOCTL_DERIVE_UNGUARDED};
	for (int bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;
		for (size_t i = 0; i < 2 && (flag & (O_ACCMODE | O_CLOEXEC)) == 0; i++) {
			struct dma_buf_derive params = {.flags = flag};
			check_errno(ioctl(f->fd, requests[i], &params), EINVAL);
			params.flags = flag | O_CLOEXEC | O_RDWR;
			check_errno(ioctl(f->fd, requests[i], &params), EINVAL);
		}
	}
	check_int(harness_count_fds(), ==, fds);
}

/* Fault 6. */
TEST_EACH_EXPORTER(bad_memory_leaks_nothing) {
	struct dma_buf_derive *params = arguments_create();
	int fds = harness_count_fds();
	params->flags = O_RDONLY;
	check_ok(ioctl(f->fd, DMA_BUF_IOCTL_DERIVE, params));
	close(params->fd);
	check_bad_memory_leaks_nothing(f, f->fd, DMA_BUF_IOCTL_DERIVE, params);
	check_int(harness_count_fds(), ==, fds);
}

static int make_derived(int fd) {
	return derive(fd, O_RDONLY);
}

TEST_EACH_EXPORTER(fd_limit_leaks_nothing) {
	check_fd_limit_leaks_nothing(f, make_derived);
}

static void map_and_derive(int guarded) {
	dmabuf_unmap(dmabuf_map(guarded, PROT_READ));
	check_errno(dmabuf_try_map(guarded, PROT_WRITE), EACCES);
	close(derive_checked(guarded, O_RDONLY));
	check_errno(derive(guarded, O_RDWR), EACCES);
}

TEST_EACH_EXPORTER(other_users) {
	int guarded = derive_checked(f->fd, O_RDONLY);
	close(f->fd);
	check_as_other_user(map_and_derive, guarded);
}

/* Whether an event has `text` in it. */
static bool trace_has(const char *text) {
	FILE *file = fopen("/sys/kernel/tracing/trace", "re");
	check(file != NULL);
	char line[512];
	bool found = false;
	while (!found && fgets(line, sizeof(line), file) != NULL) {
		found = strstr(line, text) != NULL;
	}
	fclose(file);
	return found;
}

static void trace_write(const char *name, const char *text) {
	char path[128];
	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", name);
	FILE *file = fopen(path, "we");
	check(file != NULL && fputs(text, file) >= 0);
	check_int(fclose(file), ==, 0);
}

TEST_EACH_EXPORTER(deriving_is_traced) {
	if (access("/sys/kernel/tracing/trace", F_OK) != 0) {
		check_ok(mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL));
	}
	trace_write("trace", "");
	trace_write("events/dma_buf/dma_buf_derive/enable", "1");
	int derived = derive_checked(f->fd, O_RDONLY);
	check_errno(derive(derived, O_RDWR), EACCES);
	trace_write("events/dma_buf/dma_buf_derive/enable", "0");
	char text[64];
	snprintf(text, sizeof(text), "ino=%" PRIu64 " fd=%d", f->inode, derived);
	check(trace_has("dma_buf_derive: exp_name="));
	check(trace_has(text));
	/* Of those that are enabled. */
	trace_write("trace", "");
	close(derive_checked(f->fd, O_RDWR));
	check(!trace_has("dma_buf_derive:"));
}
