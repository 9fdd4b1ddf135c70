/* SPDX-License-Identifier: MIT */
/*
 * The dma_buf_guard module of kernel/guard: what dma_buf_guard.h promises. Runs
 * as root where the module is loaded: tests/harness/guest/uml, tests/harness/guest/vm.
 */
#include "selftest.h"

#include "dma_buf_derive.h"
#include "dma_buf_guard.h"
#include "vitrine_importer.h"

#include <drm/vgem_drm.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xf86drm.h>

static int device_open(void) {
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		harness_skip("%s: %s", DMA_BUF_GUARD_DEVICE, strerror(errno));
	}
	return device;
}

static int guard_create(int fd, uint32_t flags) {
	int device = device_open();
	int guard = guard_try(device, fd, flags | O_CLOEXEC);
	check(guard >= 0);
	close(device);
	check((fcntl(guard, F_GETFL) & O_ACCMODE) == O_RDONLY);
	return guard;
}

static struct dma_buf_guard_query guard_query(int fd) {
	int device = device_open();
	struct dma_buf_guard_query params = {.fd = fd, .flags = 0xff, .inode = 1};
	check_ok(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &params));
	close(device);
	return params;
}

TEST_EACH_EXPORTER(read_only_map_sees_the_writers_data) {
	check_sees_writes(f->fd, guard_create(f->fd, 0));
}

TEST_EACH_EXPORTER(identity_and_query) {
	int guard = guard_create(f->fd, 0);
	check(dmabuf_inode(guard) != f->inode);
	check(lseek(guard, 0, SEEK_END) == DMABUF_SIZE);
	check_str(dmabuf_fdinfo(guard, "exp_name"), "dma_buf_guard");
	check(fcntl(guard, F_GETFD) == FD_CLOEXEC);
	int device = device_open();
	int inherited = guard_try(device, f->fd, 0);
	check(inherited >= 0 && fcntl(inherited, F_GETFD) == 0);

	struct dma_buf_guard_query query = guard_query(guard);
	check(query.flags == DMA_BUF_GUARD_IS_GUARD && query.inode == f->inode);
	query = guard_query(f->fd);
	check(query.flags == 0 && query.inode == f->inode);
}

TEST_EACH_EXPORTER(writable_map_is_refused) {
	check_cannot_be_written(f->fd, guard_create(f->fd, 0));
}

TEST_EACH_EXPORTER(sync_is_for_reading) {
	check_syncs_for_reading_only(f->fd, guard_create(f->fd, 0));
}

TEST_EACH_EXPORTER(name_is_its_own) {
	int guard = guard_create(f->fd, 0);
	check_ok(dmabuf_set_name(f->fd, "owner"));
	check_ok(dmabuf_set_name(guard, "evil"));
	check_str(dmabuf_fdinfo(f->fd, "name"), "owner");
}

TEST_EACH_EXPORTER(fences_are_shared) {
	check_fences_are_shared(f->fd, f->fd, guard_create(f->fd, 0));
}

/* The same by a fence that a driver itself has put there. */
TEST_EACH_EXPORTER(drivers_fences_are_shared) {
	int guard = guard_create(f->fd, 0);
	int vgem = drm_open("vgem");
	struct drm_vgem_fence_attach attach = {.flags = VGEM_FENCE_WRITE};
	check_ok(drmPrimeFDToHandle(vgem, f->fd, &attach.handle));
	check_ok(ioctl(vgem, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach));
	check(!dmabuf_poll(guard, POLLIN, 20));
	struct drm_vgem_fence_signal signal = {.fence = attach.out_fence};
	check_ok(ioctl(vgem, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal));
	check(dmabuf_poll(guard, POLLIN, 1000));
}

/* Others do not wait for what a holder imports into its guard. */
TEST_EACH_EXPORTER(own_fences_are_apart) {
	int shared = guard_create(f->fd, 0);
	int apart = guard_create(f->fd, DMA_BUF_GUARD_OWN_FENCES);
	int other = guard_create(f->fd, DMA_BUF_GUARD_OWN_FENCES);
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(shared, fence.fd, DMA_BUF_SYNC_WRITE));
	check(!dmabuf_poll(f->fd, POLLIN, 0));
	fence_signal(&fence);
	check(dmabuf_poll(f->fd, POLLIN, 1000));

	fence_init(&fence);
	check_ok(dmabuf_import_fence(apart, fence.fd, DMA_BUF_SYNC_RW));
	check(!dmabuf_poll(apart, POLLIN, 0));
	check(dmabuf_poll(f->fd, POLLIN, 0) && dmabuf_poll(f->fd, POLLOUT, 0));
	check(dmabuf_poll(other, POLLIN, 0) && dmabuf_poll(shared, POLLOUT, 0));
	check_ok(dmabuf_sync(f->fd, DMA_BUF_SYNC_RW));
	check_ok(dmabuf_sync(other, DMA_BUF_SYNC_READ));
	fence_signal(&fence);
}

/* What a holder makes of its guard, by whichever flags, and hands to itself again. */
static void check_fences_stay_apart(struct buffer *f, int guard) {
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(guard, fence.fd, DMA_BUF_SYNC_RW));
	check(!dmabuf_poll(guard, POLLIN, 0)); /* that is where it is */
	check(dmabuf_poll(f->fd, POLLIN, 0) && dmabuf_poll(f->fd, POLLOUT, 0));
	fence_signal(&fence);
}

/* The same way leads to the owner's fences from a guard that has them in common with it. */
static void check_fences_are_common(struct buffer *f, int guard) {
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(guard, fence.fd, DMA_BUF_SYNC_RW));
	check(!dmabuf_poll(f->fd, POLLIN, 0));
	fence_signal(&fence);
	check(dmabuf_poll(f->fd, POLLIN, 1000) && dmabuf_poll(f->fd, POLLOUT, 1000));
}

TEST_EACH_EXPORTER(own_fences_stay_apart_in_a_guard_of_the_guard) {
	check_fences_are_common(f, guard_create(guard_create(f->fd, 0), 0));

	int apart = guard_create(f->fd, DMA_BUF_GUARD_OWN_FENCES);
	const uint32_t flags[] = {0, DMA_BUF_GUARD_OWN_FENCES};
	for (size_t i = 0; i < 2; i++) {
		int again = guard_create(apart, flags[i]);
		check_fences_stay_apart(f, again);
		check_fences_stay_apart(f, guard_create(again, 0));
		check_int(guard_query(again).inode, ==, f->inode);
	}
	/* One with common fences can become one with its own. */
	int parted = guard_create(guard_create(f->fd, 0), DMA_BUF_GUARD_OWN_FENCES);
	check_fences_stay_apart(f, parted);
	check_fences_stay_apart(f, guard_create(parted, 0));
	check_fences_are_common(f, f->fd);
}

/* What a device imported, and exports again, is the guard as it was. */
TEST_EACH_EXPORTER(own_fences_stay_apart_by_way_of_a_device) {
	const uint32_t flags[] = {0, DMA_BUF_GUARD_OWN_FENCES};
	for (size_t i = 0; i < 2; i++) {
		int vgem = drm_open("vgem"), exported;
		uint32_t handle;
		if (drmPrimeFDToHandle(vgem, guard_create(f->fd, flags[i]), &handle) < 0) {
			check_int(errno, ==, EACCES);
			printf("# vgem refuses the import\n");
			return;
		}
		check_ok(drmPrimeHandleToFD(vgem, handle, 0, &exported));
		int again = guard_create(exported, 0);
		if (flags[i] == 0) {
			check_fences_are_common(f, again);
		} else {
			check_fences_stay_apart(f, exported);
			check_fences_stay_apart(f, again);
		}
		close(vgem);
	}
}

/* IMPORT_SYNC_FILE is refused on what is derived for reading: a guard is no way round that. */
TEST_EACH_EXPORTER(fences_stay_apart_in_a_guard_of_a_derived_fd) {
	check_fences_are_common(f, guard_create(derive_checked(f->fd, O_RDWR), 0));

	int unguarded = derive_checked(f->fd, O_RDONLY | DERIVE_UNGUARDED);
	struct fence fence;
	fence_init(&fence);
	check_errno(dmabuf_import_fence(unguarded, fence.fd, DMA_BUF_SYNC_RW), EACCES);
	check_fences_stay_apart(f, guard_create(unguarded, 0));
	/* And what is derived of a guard. */
	int apart = guard_create(f->fd, DMA_BUF_GUARD_OWN_FENCES);
	unguarded = derive_checked(apart, O_RDONLY | DERIVE_UNGUARDED);
	check_fences_stay_apart(f, guard_create(unguarded, 0));
}

/* The writer is waited for nonetheless, if it is asked for. */
TEST_EACH_EXPORTER(own_fences_sync_waits_for_the_writer) {
	int apart = guard_create(f->fd, DMA_BUF_GUARD_OWN_FENCES);
	struct fence fence;
	fence_init(&fence);
	check_ok(dmabuf_import_fence(f->fd, fence.fd, DMA_BUF_SYNC_WRITE));
	check(!dmabuf_poll(f->fd, POLLIN, 0) && dmabuf_poll(apart, POLLIN, 0));
	pid_t pid = fork();
	if (pid == 0) {
		_exit(dmabuf_sync(apart, DMA_BUF_SYNC_READ) != 0);
	}
	int status;
	usleep(200 * 1000);
	check(waitpid(pid, &status, WNOHANG) == 0);
	fence_signal(&fence);
	check(waitpid(pid, &status, 0) == pid && status == 0);
}

TEST_EACH_EXPORTER(no_way_back_to_the_original) {
	int guard = guard_create(f->fd, 0);
	int again = guard_create(guard, 0);
	check(guard_query(again).inode == f->inode);
	check_errno(dmabuf_try_map(again, PROT_WRITE), EACCES);
	/* Both hold the original, and neither the other. */
	dmabuf_check_references(f->inode, f->references + 2);
	uint64_t guard_inode = dmabuf_inode(guard);
	close(guard);
	dmabuf_check_gone(guard_inode);
	dmabuf_check_references(f->inode, f->references + 1);
	dmabuf_map(again, PROT_READ);
}

TEST_EACH_EXPORTER(guard_holds_the_original) {
	uint8_t *writer = dmabuf_map(f->fd, PROT_WRITE);
	writer[5] = 5;
	dmabuf_unmap(writer);
	int guard = guard_create(f->fd, 0);
	uint64_t guard_inode = dmabuf_inode(guard);
	close(f->fd);
	dmabuf_check_references(f->inode, 1);
	volatile uint8_t *reader = dmabuf_map(guard, PROT_READ);
	check(reader[5] == 5);
	close(guard);
	dmabuf_check_gone(guard_inode);
	check(reader[5] == 5);
	dmabuf_unmap(reader);
	dmabuf_check_gone(f->inode);
}

/* Refused at import, or where what was imported is used: see dma_buf_guard.h. */
static void check_device_refused(int fd, int guard, const char *driver) {
	int device = drm_open(driver);
	volatile uint8_t *owner = dmabuf_map(fd, PROT_READ | PROT_WRITE);
	owner[0] = 1;
	uint32_t handle;
	check_ok(drmPrimeFDToHandle(device, fd, &handle));
	volatile uint8_t *map = drm_map_fake_offset(device, PROT_READ | PROT_WRITE);
	check(map != MAP_FAILED);
	map[0] = 2;
	check(owner[0] == 2);
	close(device);

	device = drm_try_open(driver);
	check_int(device, >=, 0);
	if (drmPrimeFDToHandle(device, guard, &handle) < 0) {
		check(errno == EACCES);
		printf("# %s refuses the import\n", driver);
		return;
	}
	printf("# %s imports, and refuses the use\n", driver);
	check_errno(drm_map_fake_offset(device, PROT_READ | PROT_WRITE), EACCES);
	check_errno(drm_map_fake_offset(device, PROT_WRITE), EACCES);
	check_errno(drm_map_fake_offset(device, PROT_READ), EACCES);
	int again;
	check_ok(drmPrimeHandleToFD(device, handle, DRM_RDWR, &again));
	check(dmabuf_inode(again) == dmabuf_inode(guard));
	check((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDONLY);
	check_errno(dmabuf_try_map(again, PROT_WRITE), EACCES);
}

TEST_EACH_EXPORTER(vgem_is_refused) {
	check_device_refused(f->fd, guard_create(f->fd, 0), "vgem");
}

TEST_EACH_EXPORTER(vkms_is_refused) {
	check_device_refused(f->fd, guard_create(f->fd, 0), "vkms");
}

static void check_device_reads_only(struct buffer *f, uint32_t flags) {
	int guard = guard_create(f->fd, flags);
	volatile uint8_t *owner = dmabuf_map(f->fd, PROT_READ);
	int importer = importer_open();

	check_ok(importer_attach(importer, f->fd, 0));
	for (long direction = BIDIRECTIONAL; direction <= FROM_DEVICE; direction++) {
		check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, direction));
		check_ok(ioctl(importer, VITRINE_IMPORTER_UNMAP));
	}
	check_ok(ioctl(importer, VITRINE_IMPORTER_STORE, 42));
	check(owner[0] == 42);
	check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));

	for (int i = 0; i < 3; i++) {
		check_ok(importer_attach(importer, guard, 0));
		check_errno(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
		check_errno(ioctl(importer, VITRINE_IMPORTER_MAP, FROM_DEVICE), EACCES);
		check_errno(ioctl(importer, VITRINE_IMPORTER_STORE, 66), EINVAL);
		check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE));
		check_errno(ioctl(importer, VITRINE_IMPORTER_STORE, 66), EINVAL);
		/* The file's end takes the mapping with it every second time. */
		if (i % 2 == 0) {
			check_ok(ioctl(importer, VITRINE_IMPORTER_UNMAP));
		}
		close(importer);
		importer = importer_open();
	}
	check(owner[0] == 42);
	dmabuf_unmap(owner);
	/* The guard has one. */
	dmabuf_check_references(f->inode, f->references + 1);
}

TEST_EACH_EXPORTER(device_reads_only) {
	check_device_reads_only(f, 0);
}

TEST_EACH_EXPORTER(own_fences_device_reads_only) {
	check_device_reads_only(f, DMA_BUF_GUARD_OWN_FENCES);
}

/* What is mapped outlives the fds and the guard's owner. */
TEST_EACH_EXPORTER(device_holds_the_guard) {
	int guard = guard_create(f->fd, 0);
	int importer = importer_open();
	check_ok(importer_attach(importer, guard, 0));
	check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE));
	close(f->fd);
	close(guard);
	dmabuf_check_references(f->inode, 1);
	check(!module_unload("dma_buf_guard"));
	close(importer);
	dmabuf_check_gone(f->inode);
}

static struct vitrine_importer_state importer_state(int importer, int fd) {
	struct vitrine_importer_state state = {.fd = fd};
	check_ok(ioctl(importer, VITRINE_IMPORTER_STATE, &state));
	return state;
}

/* An exporter that moves its memory: pinned while a guard is mapped. */
TEST_WITH(buffer, exporter_that_moves) {
	int importer = importer_open();
	int fd = importer_export(importer, 0);
	int device = device_open();
	check_errno(guard_try(device, fd, DMA_BUF_GUARD_OWN_FENCES), EOPNOTSUPP);
	int guard = guard_create(fd, 0);
	volatile uint8_t *writer = dmabuf_map(fd, PROT_READ | PROT_WRITE);
	writer[9] = 9;
	volatile uint8_t *reader = dmabuf_map(guard, PROT_READ);
	check(reader[9] == 9);
	check_errno(mprotect((void *)reader, DMABUF_SIZE, PROT_WRITE), EACCES);

	/* It lets itself be mapped private, which the other exporters do not. */
	check_cannot_be_written_privately(fd, guard);

	check_ok(importer_attach(importer, guard, 0));
	check(importer_state(importer, fd).pins == 0);
	for (int i = 0; i < 3; i++) {
		check_errno(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
		check(importer_state(importer, fd).pins == 0);
		check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE));
		struct vitrine_importer_state state = importer_state(importer, fd);
		check(state.pins >= 1 && state.mappings == 1);
		/* A static importer has nothing to be told. */
		check_ok(ioctl(importer, VITRINE_IMPORTER_MOVE, fd));
		check(importer_state(importer, fd).moves == 0);
		check_ok(ioctl(importer, VITRINE_IMPORTER_UNMAP));
		state = importer_state(importer, fd);
		check(state.pins == 0 && state.mappings == 0);
	}
}

/*
 * Memory that mm has no pages of is reached by the exporter's ->access(), which asks
 * for no permission: as of TTM and i915.
 */
static void check_pageless(uint32_t flags) {
	int importer = importer_open();
	int fd = importer_export(importer, VITRINE_IMPORTER_PAGELESS);
	uint64_t inode = dmabuf_inode(fd);
	volatile uint8_t *writer = dmabuf_map(fd, PROT_READ | PROT_WRITE);
	int control = write_by_proc_mem(writer, 1);
	if (control != 0) {
		/* That is up to the architecture: this one does not call it. */
		check_str(getenv("VITRINE_GUEST"), "uml");
		check_int(control, ==, EIO);
	} else {
		check_int(writer[0], ==, 1);
		check_int(write_by_ptrace(writer, 2), ==, 0);
		check_int(writer[0], ==, 2);
	}
	writer[0] = 3;

	int guard = guard_create(fd, flags);
	volatile uint8_t *reader = dmabuf_map(guard, PROT_READ);
	check_int(reader[0], ==, 3);
	check_int(write_by_proc_mem(reader, 4), ==, EIO);
	check_int(write_by_ptrace(reader, 4), ==, EIO);
	check_errno(mprotect((void *)reader, DMABUF_SIZE, PROT_READ | PROT_WRITE), EACCES);
	check_int(writer[0], ==, 3);

	/* The mapping has the code of the module, in all its parts and in children. */
	check_int(importer_state(importer, fd).maps, ==, 2);
	check_ok(munmap((void *)(reader + 4096), 4096));
	check_int(importer_state(importer, fd).maps, ==, 3);
	close(guard);
	close(fd);
	dmabuf_unmap(writer);
	check(!module_unload("dma_buf_guard"));
	check_int(write_by_proc_mem(reader + 8192, 4), ==, EIO);
	check_int(write_by_ptrace(reader, 4), ==, EIO);
	check_int(reader[0], ==, 3);
	check_ok(munmap((void *)reader, 4096));
	check(!module_unload("dma_buf_guard"));
	check_ok(munmap((void *)(reader + 8192), DMABUF_SIZE - 8192));
	dmabuf_check_gone(inode);
}

TEST_WITH(buffer, pageless_memory_is_not_written) {
	check_pageless(0);
}

TEST_WITH(buffer, pageless_memory_is_not_written_with_own_fences) {
	check_pageless(DMA_BUF_GUARD_OWN_FENCES);
}

/* An importer that follows such moves. */
static void check_dynamic_importer(int importer, int fd, int guard, uint32_t flags) {
	check_ok(importer_attach(importer, fd, flags));
	check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL));
	check_ok(ioctl(importer, VITRINE_IMPORTER_UNMAP));
	check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));

	if (importer_attach(importer, guard, flags) < 0) {
		/* Kernels that map at once, for both directions. */
		check(errno == EACCES);
		printf("# a dynamic importer can not attach\n");
		return;
	}
	check_errno(ioctl(importer, VITRINE_IMPORTER_MAP, BIDIRECTIONAL), EACCES);
	check_errno(ioctl(importer, VITRINE_IMPORTER_MAP, FROM_DEVICE), EACCES);
	check_ok(ioctl(importer, VITRINE_IMPORTER_MAP, TO_DEVICE));
}

TEST_EACH_EXPORTER(importer_that_follows) {
	int guard = guard_create(f->fd, 0);
	int importer = importer_open();
	check_dynamic_importer(importer, f->fd, guard, VITRINE_IMPORTER_DYNAMIC);
	close(importer);
	importer = importer_open();
	check_dynamic_importer(importer, f->fd, guard,
		VITRINE_IMPORTER_DYNAMIC | VITRINE_IMPORTER_PEER);
}

TEST_WITH(buffer, importer_that_follows_is_told) {
	int importer = importer_open();
	int fd = importer_export(importer, 0);
	int guard = guard_create(fd, 0);
	check_ok(importer_attach(importer, fd, VITRINE_IMPORTER_DYNAMIC));
	check_ok(ioctl(importer, VITRINE_IMPORTER_MOVE, fd));
	check(importer_state(importer, fd).moves == 1);
	check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));

	check_dynamic_importer(importer, fd, guard, VITRINE_IMPORTER_DYNAMIC);
	struct vitrine_importer_state state = importer_state(importer, fd);
	if (state.mappings == 0) {
		return;
	}
	check(state.pins == 1 && state.moves == 0);
	check_ok(ioctl(importer, VITRINE_IMPORTER_UNMAP));
	check_ok(ioctl(importer, VITRINE_IMPORTER_MOVE, fd));
	state = importer_state(importer, fd);
	check(state.pins == 0 && state.mappings == 0 && state.moves == 1);
	check_ok(ioctl(importer, VITRINE_IMPORTER_DETACH));
	check_ok(ioctl(importer, VITRINE_IMPORTER_MOVE, fd));
}

/* What an exporter does then can take back what the owner has written. */
TEST_WITH(buffer, sync_does_not_reach_the_exporter) {
	int importer = importer_open();
	int fd = importer_export(importer, VITRINE_IMPORTER_PAGELESS);
	check_ok(dmabuf_sync(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
	check_ok(dmabuf_sync(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
	check_int(importer_state(importer, fd).syncs, ==, 2);
	const uint32_t flags[] = {0, DMA_BUF_GUARD_OWN_FENCES};
	for (size_t i = 0; i < 2; i++) {
		int guard = guard_create(fd, flags[i]);
		check_ok(dmabuf_sync(guard, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
		check_ok(dmabuf_sync(guard, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
		check_errno(dmabuf_sync(guard, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), EACCES);
		check_errno(dmabuf_sync(guard, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE), EACCES);
		check_int(importer_state(importer, fd).syncs, ==, 2);
	}
}

TEST_EACH_EXPORTER(not_a_dmabuf_not_an_fd) {
	int device = device_open();
	int guard = guard_create(f->fd, 0);
	int memfd = memfd_create("selftest", MFD_CLOEXEC);
	check_errno(guard_try(device, memfd, 0), EINVAL);
	check_errno(guard_try(device, device, 0), EINVAL);
	close(guard);
	check_errno(guard_try(device, guard, 0), EBADF);
	check_errno(guard_try(device, -1, 0), EBADF);
	struct dma_buf_guard_query query = {.fd = memfd};
	check_errno(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EINVAL);
	query.fd = -1;
	check_errno(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EBADF);

	query.fd = derive(f->fd, O_RDONLY);
	if (query.fd >= 0) {
		check_errno(guard_try(device, query.fd, 0), EACCES);
		check_errno(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, &query), EACCES);
	}
}

TEST_EACH_EXPORTER(bad_flags) {
	int device = device_open();
	int fds = harness_count_fds();
	close(guard_create(f->fd, 0));
	check_errno(guard_try(device, f->fd, O_RDWR), EINVAL);
	check_errno(guard_try(device, f->fd, O_WRONLY), EINVAL);
	for (int bit = 0; bit < 32; bit++) {
		if ((1u << bit & (O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES)) == 0) {
			check_errno(guard_try(device, f->fd, 1u << bit), EINVAL);
		}
	}
	struct dma_buf_guard_create params = {.fd = f->fd, .reserved = 1};
	check_errno(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, &params), EINVAL);
	check_errno(ioctl(device, _IO(DMA_BUF_GUARD_BASE, 7)), ENOTTY);
	check_errno(ioctl(device, DMA_BUF_IOCTL_DERIVE, &params), ENOTTY);
	check_int(harness_count_fds(), ==, fds);
}

TEST_EACH_EXPORTER(bad_memory_leaks_nothing) {
	int device = device_open();
	struct dma_buf_guard_create *params = arguments_create();
	int fds = harness_count_fds(), objects = dmabuf_info(0).objects;
	params->fd = f->fd;
	check_ok(ioctl(device, DMA_BUF_GUARD_IOCTL_CREATE, params));
	close(params->guard_fd);
	check_bad_memory_leaks_nothing(f, device, DMA_BUF_GUARD_IOCTL_CREATE, params);
	check_errno(ioctl(device, DMA_BUF_GUARD_IOCTL_QUERY, NULL), EFAULT);
	check_int(harness_count_fds(), ==, fds);
	check_int(dmabuf_info(0).objects, ==, objects);
}

/* A heap hands out what its caller asks for. */
TEST_WITH(buffer, fd_that_cannot_read_is_refused) {
	int device = device_open();
	const int readable[] = {O_RDWR, O_RDONLY};
	for (size_t i = 0; i < 2; i++) {
		int fd = dmabuf_create_from_heap(readable[i], DMABUF_SIZE);
		dmabuf_map(guard_create(fd, 0), PROT_READ);
	}
	int fd = dmabuf_create_from_heap(O_WRONLY, DMABUF_SIZE);
	int fds = harness_count_fds(), objects = dmabuf_info(0).objects;
	check_errno(guard_try(device, fd, 0), EACCES);
	check_errno(guard_try(device, fd, DMA_BUF_GUARD_OWN_FENCES), EACCES);
	check_int(harness_count_fds(), ==, fds);
	check_int(dmabuf_info(0).objects, ==, objects);
}

static void guard_and_map(int fd) {
	int guard = guard_create(fd, 0);
	dmabuf_unmap(dmabuf_map(guard, PROT_READ));
	check_errno(dmabuf_try_map(guard, PROT_WRITE), EACCES);
}

#define GUARDS_PER_USER "/sys/module/dma_buf_guard/parameters/guards_per_user"

/* Returns what it was before. */
static unsigned set_guards_per_user(unsigned value) {
	unsigned before;
	FILE *file = fopen(GUARDS_PER_USER, "r+e");
	check(file != NULL);
	check(fscanf(file, "%u", &before) == 1);
	check(fseek(file, 0, SEEK_SET) == 0);
	check(fprintf(file, "%u", value) > 0);
	check(fclose(file) == 0);
	return before;
}

/* Fds are not what bounds them: a device that has imported one needs none. */
TEST_EACH_EXPORTER(guards_are_bounded_per_user) {
	int device = device_open(), guards[8];
	unsigned before = set_guards_per_user(8);
	for (size_t i = 0; i < 8; i++) {
		guards[i] = guard_create(f->fd, 0);
	}
	int fds = harness_count_fds();
	check_errno(guard_try(device, f->fd, 0), EDQUOT);
	check_errno(guard_try(device, f->fd, DMA_BUF_GUARD_OWN_FENCES), EDQUOT);
	check_int(harness_count_fds(), ==, fds);
	check_as_other_user(guard_and_map, f->fd);
	uint64_t inode = dmabuf_inode(guards[7]);
	close(guards[7]);
	dmabuf_check_gone(inode);
	close(guard_create(f->fd, 0));
	set_guards_per_user(before);
	check_int(before, ==, 4096);
	dmabuf_check_references(f->inode, f->references + 7);
}

/* With no fd left of any: their memory is held all the same. */
TEST_EACH_EXPORTER(guards_that_a_device_holds_count) {
	int device = device_open(), vgem = drm_open("vgem");
	unsigned before = set_guards_per_user(8);
	int fds = harness_count_fds();
	for (size_t i = 0; i < 8; i++) {
		int guard = guard_create(f->fd, 0);
		uint32_t handle;
		if (drmPrimeFDToHandle(vgem, guard, &handle) < 0) {
			check_int(errno, ==, EACCES);
			printf("# vgem refuses the import\n");
			set_guards_per_user(before);
			return;
		}
		close(guard);
	}
	check_int(harness_count_fds(), ==, fds);
	check_errno(guard_try(device, f->fd, 0), EDQUOT);
	close(vgem);
	/* Gone with the handles, which the kernel's worker gives up. */
	dmabuf_check_references(f->inode, f->references);
	close(guard_create(f->fd, 0));
	set_guards_per_user(before);
}

/* How many objects there are in a cache of the kernel's allocator, -1 if there is none. */
static long count_objects(const char *cache) {
	FILE *file = fopen("/proc/slabinfo", "re");
	char line[512], name[64];
	long count, found = -1;
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%63s %ld", name, &count) == 2 && strcmp(name, cache) == 0) {
			found = count;
		}
	}
	if (file != NULL) {
		fclose(file);
	}
	return found;
}

/* What is allocated for a memory cgroup has caches of its own: a guard is two pointers. */
TEST_WITH(buffer, guards_are_charged_to_the_memory_cgroup) {
	enum { GUARDS = 1000, PRECISION = 256 };
	static int guards[GUARDS];
	if (count_objects("kmalloc-cg-16") < 0) {
		harness_skip("this kernel has no memory cgroups");
	}
	int device = device_open();
	const struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
	check_ok(setrlimit(RLIMIT_NOFILE, &limit));
	long charged = count_objects("kmalloc-cg-16"), free_of_charge = count_objects("kmalloc-16");
	for (size_t i = 0; i < GUARDS; i++) {
		guards[i] = guard_try(device, f->fd, O_CLOEXEC);
		check_int(guards[i], >=, 0);
	}
	check_int(count_objects("kmalloc-cg-16") - charged, >=, GUARDS - PRECISION);
	check_int(count_objects("kmalloc-16") - free_of_charge, <, GUARDS - PRECISION);
	for (size_t i = 0; i < GUARDS; i++) {
		close(guards[i]);
	}
}

static int limited_device = -1;

static int make_guard(int fd) {
	return guard_try(limited_device, fd, 0);
}

TEST_EACH_EXPORTER(fd_limit_leaks_nothing) {
	limited_device = device_open();
	check_fd_limit_leaks_nothing(f, make_guard);
}

TEST_WITH(buffer, module_stays_while_used) {
	int device = device_open();
	check(!module_unload("dma_buf_guard"));
	int guard = guard_try(device, f->fd, 0);
	close(device);
	check(!module_unload("dma_buf_guard"));
	close(f->fd);
	check(!module_unload("dma_buf_guard"));
	int copy = dup(guard);
	close(guard);
	check(!module_unload("dma_buf_guard"));
	close(copy);
}

TEST_EACH_EXPORTER(other_users) {
	device_open();
	check_as_other_user(guard_and_map, f->fd);
}
