/* SPDX-License-Identifier: MIT */
/* Sessions and buffer views on real dma-bufs: runs in the guests. */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <drm/vgem_drm.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "buffer_copy.h"
#include "fixture.h"
#include "harness.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT
#define DEVICE "/dev/dri/card0"

static const uint32_t dmabuf_guarantees[] = { GUARDED, FD_READ_ONLY };

/** Whether the kernel of this guest has what gives the guarantee. */
static bool is_available(uint32_t guarantee) {
	struct vitrine_derive *derive = vitrine_derive_create();
	size_t len;
	const struct vitrine_derive_backend_info *infos = vitrine_derive_get_backends(derive, &len);
	bool available = false;
	for (size_t i = 0; i < len; i++) {
		// prime is for buffers of a DRM device, which these are not
		available |= infos[i].available && (infos[i].guarantees & guarantee) &&
			strcmp(infos[i].name, "prime") != 0;
	}
	vitrine_derive_destroy(derive);
	return available;
}

/** Runs a check for each guarantee of a dma-buf that this guest can give. */
static void for_each_guarantee(void (*run)(uint32_t guarantee)) {
	check(is_available(GUARDED)); // every guest has the module at least
	for (size_t i = 0; i < 2; i++) {
		if (is_available(dmabuf_guarantees[i])) {
			run(dmabuf_guarantees[i]);
		}
	}
}

static uint32_t frame_color(uint32_t n) {
	return (n * 0x010305) & 0xffffff;
}

static struct test_session *start_session(struct client *client, uint32_t acceptable) {
	struct test_session *session = test_session_create(client, 0, acceptable);
	client_roundtrip(client);
	check(!session->stopped);
	return session;
}

static void paint(struct server *server, uint32_t color) {
	check(output_paint(server->output, color, NULL));
	pump(server);
}

/* Sessions */

static void check_session(uint32_t guarantee) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, guarantee);
	session->auto_release = true;
	paint(&server, 0x123456);
	struct test_view *view = &session->views[0];
	check_int(view->guarantee, ==, guarantee);
	check_int(view->storage, ==, XX_DMABUF_VIEW_MANAGER_V1_STORAGE_DMABUF);
	check_int(test_session_get_pixel(session, 63, 47), ==, 0x123456);

	// "a 600-frame session derives once per distinct buffer"
	for (uint32_t i = 1; i < 600; i++) {
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(session, 5, 5), ==, frame_color(i));
	}
	check_int(session->n_frames, ==, 600);
	check_int(session->n_fds, ==, session->n_views);
	check_int(session->n_views, <=, 8);
	test_session_destroy(session);
	server_finish(&server);
}

TEST(session_views_are_dmabufs_derived_once_per_buffer) {
	for_each_guarantee(check_session);
}

TEST(guarantee_without_a_kernel_part_is_unsupported) {
	if (is_available(FD_READ_ONLY)) {
		harness_skip("this kernel has all of them");
	}
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, FD_READ_ONLY);
	check(output_paint(server.output, 1, NULL));
	pump_until(&server, session->stopped);
	check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_UNSUPPORTED);
	test_session_destroy(session);
	server_finish(&server);
}

static void check_kept_memory(uint32_t guarantee) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, guarantee);
	session->auto_release = true;
	paint(&server, 1);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	for (uint32_t i = 2; i < 10; i++) {
		paint(&server, frame_color(i));
	}
	check(test_view_checksum(&session->views[0]) != checksum); // the positive case

	uint32_t n_views = session->n_views;
	test_session_end(session);
	pump(&server);
	uint64_t checksums[SESSION_VIEWS_CAP];
	for (uint32_t i = 0; i < n_views; i++) {
		checksums[i] = test_view_checksum(&session->views[i]);
	}
	for (uint32_t n = 20; n < 60; n++) {
		paint(&server, frame_color(n));
		for (uint32_t i = 0; i < n_views; i++) {
			check_int(test_view_checksum(&session->views[i]), ==, checksums[i]);
		}
	}
	test_session_destroy(session);
	server_finish(&server);
}

TEST(memory_never_changes_after_destroy) {
	for_each_guarantee(check_kept_memory);
}

static void check_held_pixels(uint32_t guarantee) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, guarantee);
	struct test_session *other = start_session(client, guarantee);
	other->auto_release = true;
	paint(&server, 0x0a0b0c);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	for (uint32_t i = 1; i <= 50; i++) {
		paint(&server, frame_color(i));
		check_int(test_view_checksum(&session->views[0]), ==, checksum);
	}
	check_int(other->n_frames, ==, 51);
	test_session_destroy(session);
	test_session_destroy(other);
	server_finish(&server);
}

TEST(held_pixels_do_not_change) {
	for_each_guarantee(check_held_pixels);
}

TEST(sessions_of_one_output_have_different_guarantees) {
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	static const uint32_t guarantees[] = {
		VITRINE_GUARANTEE_SEALED, GUARDED, SNAPSHOT,
	};
	struct test_session *sessions[3];
	for (int i = 0; i < 3; i++) {
		sessions[i] = start_session(client, guarantees[i]);
		sessions[i]->auto_release = true;
	}
	for (uint32_t n = 0; n < 20; n++) {
		paint(&server, frame_color(n));
		for (int i = 0; i < 3; i++) {
			check_int(test_session_get_pixel(sessions[i], 1, 1), ==, frame_color(n));
			check_int(sessions[i]->views[0].guarantee, ==, guarantees[i]);
		}
	}
	for (int i = 0; i < 3; i++) {
		test_session_destroy(sessions[i]);
	}
	server_finish(&server);
}

TEST(client_that_keeps_retired_dmabufs_gets_no_more) {
	struct server server;
	server_init(&server, NULL);
	server.manager->limits.retired_bytes_per_client = 64 * 48 * 4 * 3;
	struct client *client = client_create(&server);
	struct test_session *kept[16] = {0};
	uint32_t n_kept = 0;
	while (true) {
		check_int(n_kept, <, 16);
		struct test_session *session = test_session_create(client, 0, GUARDED);
		kept[n_kept++] = session;
		client_roundtrip(client);
		if (session->stopped) {
			check_int(session->stop_reason, ==, VITRINE_VIEW_STOP_NO_RESOURCES);
			break;
		}
		paint(&server, frame_color(n_kept));
		test_session_end(session);
		client_roundtrip(client);
	}
	check_int(n_kept, >, 2);
	for (uint32_t i = 0; i < n_kept; i++) {
		test_session_destroy(kept[i]);
	}
	struct test_session *session = start_session(client, GUARDED);
	test_session_destroy(session);
	server_finish(&server);
}

/* Row 14: fences of the holder's making */

struct sw_sync_create_fence_data {
	__u32 value;
	char name[32];
	__s32 fence;
};
#define SW_SYNC_IOC_CREATE_FENCE _IOWR('W', 0, struct sw_sync_create_fence_data)
#define SW_SYNC_IOC_INC _IOW('W', 1, __u32)

/** A fence that is not signalled before the test says so. */
struct test_fence {
	int fd; // sync_file
	int device_fd; // the sw_sync timeline, or the vgem device
	uint32_t vgem_fence; // 0 if the fence is of a sw_sync timeline
};

static bool fence_init_sw_sync(struct test_fence *fence) {
	*fence = (struct test_fence){
		.device_fd = open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC),
	};
	if (fence->device_fd < 0) {
		return false;
	}
	struct sw_sync_create_fence_data data = { .value = 1, .name = "test" };
	check(ioctl(fence->device_fd, SW_SYNC_IOC_CREATE_FENCE, &data) == 0);
	fence->fd = data.fence;
	return true;
}

/** Stock kernels have no sw_sync, but vgem lets anybody make a fence. */
static void fence_init_vgem(struct test_fence *fence) {
	*fence = (struct test_fence){ .device_fd = open(DEVICE, O_RDWR | O_CLOEXEC) };
	check(fence->device_fd >= 0);
	uint32_t handle, stride;
	uint64_t size;
	check(drmModeCreateDumbBuffer(fence->device_fd, 16, 16, 32, 0, &handle, &stride, &size) == 0);
	struct drm_vgem_fence_attach attach = { .handle = handle, .flags = VGEM_FENCE_WRITE };
	check(drmIoctl(fence->device_fd, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) == 0);
	fence->vgem_fence = attach.out_fence;
	int dmabuf_fd;
	check(drmPrimeHandleToFD(fence->device_fd, handle, DRM_CLOEXEC, &dmabuf_fd) == 0);
	struct dma_buf_export_sync_file request = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	check(ioctl(dmabuf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) == 0);
	fence->fd = request.fd;
	close(dmabuf_fd);
	drmModeDestroyDumbBuffer(fence->device_fd, handle);
}

static void fence_init(struct test_fence *fence) {
	if (!fence_init_sw_sync(fence)) {
		fence_init_vgem(fence);
	}
	struct pollfd pollfd = { .fd = fence->fd, .events = POLLIN };
	check_int(poll(&pollfd, 1, 0), ==, 0);
}

static void fence_signal(struct test_fence *fence) {
	if (fence->vgem_fence != 0) {
		struct drm_vgem_fence_signal signal = { .fence = fence->vgem_fence };
		check(drmIoctl(fence->device_fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal) == 0);
	} else {
		__u32 one = 1;
		check(ioctl(fence->device_fd, SW_SYNC_IOC_INC, &one) == 0);
	}
}

static void fence_finish(struct test_fence *fence) {
	close(fence->fd);
	close(fence->device_fd);
}

static int import_write_fence(int dmabuf_fd, int fence_fd) {
	struct dma_buf_import_sync_file request = {
		.flags = DMA_BUF_SYNC_RW,
		.fd = fence_fd,
	};
	return ioctl(dmabuf_fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request) == 0 ? 0 : -errno;
}

static void check_fence_injection(uint32_t guarantee) {
	struct test_fence fence;
	fence_init(&fence);
	struct server server;
	server_init(&server, NULL);
	struct client *client = client_create(&server);
	struct test_session *session = start_session(client, guarantee);
	struct test_session *honest = start_session(client_create(&server), guarantee);
	session->auto_release = honest->auto_release = true;
	for (uint32_t i = 0; i < 8; i++) {
		paint(&server, frame_color(i));
	}
	// Whether it is refused or not: nobody may have to wait for it
	for (uint32_t i = 0; i < session->n_views; i++) {
		int ret = import_write_fence(session->views[i].fd, fence.fd);
		check(ret == 0 || ret == -EACCES);
	}
	uint32_t n_frames = honest->n_frames;
	for (uint32_t i = 0; i < 100; i++) {
		paint(&server, frame_color(i));
		check_int(test_session_get_pixel(honest, 3, 3), ==, frame_color(i));
	}
	check_int(honest->n_frames, ==, n_frames + 100);
	fence_signal(&fence);
	test_session_destroy(session);
	test_session_destroy(honest);
	server_finish(&server);
	fence_finish(&fence);
}

TEST(injected_fence_costs_nobody_a_frame) {
	for_each_guarantee(check_fence_injection);
}

/* get_buffer_view */

/** A dma-buf from one of the exporters that need no driver. */
static int make_dmabuf(bool from_heap, size_t size) {
	if (!from_heap) {
		struct vitrine_derive *derive = vitrine_derive_create();
		int memfd = vitrine_memfd_create(size);
		check_int(memfd, >=, 0);
		int fd = vitrine_udmabuf_create(derive, memfd, size);
		check_int(fd, >=, 0);
		close(memfd);
		vitrine_derive_destroy(derive);
		return fd;
	}
	int heap_fd = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	check(heap_fd >= 0);
	struct dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };
	check(ioctl(heap_fd, DMA_HEAP_IOCTL_ALLOC, &data) == 0);
	close(heap_fd);
	return (int)data.fd;
}

static void fill_dmabuf(int fd, size_t size, uint8_t value) {
	uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(data != MAP_FAILED);
	memset(data, value, size);
	munmap(data, size);
}

static struct wl_buffer *create_dmabuf_buffer(struct client *client, int fd, uint32_t offset,
		uint32_t fourcc) {
	check(client->linux_dmabuf != NULL);
	struct zwp_linux_buffer_params_v1 *params =
		zwp_linux_dmabuf_v1_create_params(client->linux_dmabuf);
	zwp_linux_buffer_params_v1_add(params, fd, 0, offset, 256,
		DRM_FORMAT_MOD_LINEAR >> 32, DRM_FORMAT_MOD_LINEAR & 0xffffffff);
	if (fourcc == DRM_FORMAT_NV12) {
		zwp_linux_buffer_params_v1_add(params, fd, 1, offset + 256 * 16, 256,
			DRM_FORMAT_MOD_LINEAR >> 32, DRM_FORMAT_MOD_LINEAR & 0xffffffff);
	}
	struct wl_buffer *buffer =
		zwp_linux_buffer_params_v1_create_immed(params, 64, 16, fourcc, 0);
	zwp_linux_buffer_params_v1_destroy(params);
	return buffer;
}

/** What the compositor said of a buffer view. */
struct buffer_view {
	struct xx_dmabuf_view_v1 *proxy;
	uint32_t storage, width, height, fourcc, guarantee;
	uint64_t modifier;
	int fds[4];
	uint32_t offsets[4], strides[4];
	uint32_t n_planes;
	bool has_format, done, failed;
	uint32_t reason;
};

static void view_handle_format(void *data, struct xx_dmabuf_view_v1 *proxy, uint32_t storage,
		uint32_t width, uint32_t height, uint32_t fourcc, uint32_t modifier_hi,
		uint32_t modifier_lo, uint32_t guarantee) {
	struct buffer_view *view = data;
	check(!view->has_format && !view->done && !view->failed);
	view->has_format = true;
	view->storage = storage;
	view->width = width;
	view->height = height;
	view->fourcc = fourcc;
	view->modifier = (uint64_t)modifier_hi << 32 | modifier_lo;
	view->guarantee = guarantee;
}

static void view_handle_plane(void *data, struct xx_dmabuf_view_v1 *proxy, uint32_t plane,
		int32_t fd, uint32_t offset, uint32_t stride) {
	struct buffer_view *view = data;
	check(view->has_format && !view->done && plane == view->n_planes && plane < 4);
	view->fds[plane] = fd;
	view->offsets[plane] = offset;
	view->strides[plane] = stride;
	view->n_planes++;
	const char *reason = "";
	if (vitrine_verify_fd(fd, view->storage, view->guarantee, offset + stride, &reason) != 0) {
		harness_fail(__FILE__, __LINE__, "fd: %s", reason);
	}
}

static void view_handle_done(void *data, struct xx_dmabuf_view_v1 *proxy) {
	struct buffer_view *view = data;
	check(view->n_planes > 0 && !view->done);
	view->done = true;
}

static void view_handle_failed(void *data, struct xx_dmabuf_view_v1 *proxy, uint32_t reason) {
	struct buffer_view *view = data;
	check(!view->has_format && !view->failed);
	view->failed = true;
	view->reason = reason;
}

static const struct xx_dmabuf_view_v1_listener view_listener = {
	.format = view_handle_format,
	.plane = view_handle_plane,
	.done = view_handle_done,
	.failed = view_handle_failed,
};

static void buffer_view_init(struct buffer_view *view, struct client *client,
		struct wl_buffer *buffer, uint32_t acceptable) {
	*view = (struct buffer_view){0};
	view->proxy =
		xx_dmabuf_view_manager_v1_get_buffer_view(client->manager, buffer, acceptable);
	xx_dmabuf_view_v1_add_listener(view->proxy, &view_listener, view);
}

/** Until it is described or has failed. Copies take time. */
static void buffer_view_wait(struct server *server, const struct buffer_view *view) {
	pump_until(server, view->done || view->failed);
}

static void buffer_view_finish(struct buffer_view *view) {
	for (uint32_t i = 0; i < view->n_planes; i++) {
		close(view->fds[i]);
	}
	xx_dmabuf_view_v1_destroy(view->proxy);
}

static uint8_t read_first_byte(int fd, size_t size) {
	uint8_t *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	check(data != MAP_FAILED);
	uint8_t value = data[0];
	munmap(data, size);
	return value;
}

#define BUFFER_SIZE 16384
/** So much of it is to be seen, and copied. */
#define COPY_SIZE (256 * 16)

static void check_buffer_view(uint32_t guarantee) {
	for (int from_heap = 0; from_heap < 2; from_heap++) {
		struct server server;
		server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
		struct client *client = client_create(&server);
		int fd = make_dmabuf(from_heap, BUFFER_SIZE);
		fill_dmabuf(fd, BUFFER_SIZE, 0x11);
		struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 4096, DRM_FORMAT_XRGB8888);
		struct buffer_view view;
		buffer_view_init(&view, client, buffer, guarantee);
		buffer_view_wait(&server, &view);
		check(view.done && !view.failed);
		check_int(view.guarantee, ==, guarantee);
		check_int(view.width, ==, 64);
		check_int(view.height, ==, 16);
		check_int(view.fourcc, ==, DRM_FORMAT_XRGB8888);
		check_int(view.modifier, ==, DRM_FORMAT_MOD_LINEAR);
		check_int(view.n_planes, ==, 1);
		check_int(view.offsets[0], ==, 4096);
		check_int(view.strides[0], ==, 256);

		// "The view lives on when the wl_buffer is destroyed", and is the memory
		wl_buffer_destroy(buffer);
		client_roundtrip(client);
		check_int(read_first_byte(view.fds[0], BUFFER_SIZE), ==, 0x11);
		fill_dmabuf(fd, BUFFER_SIZE, 0x22);
		check_int(read_first_byte(view.fds[0], BUFFER_SIZE), ==,
			guarantee == SNAPSHOT ? 0x11 : 0x22);
		buffer_view_finish(&view);
		close(fd);
		server_finish(&server);
	}
}

TEST(buffer_view_is_read_only_memory_of_the_buffer) {
	for_each_guarantee(check_buffer_view);
}

TEST(buffer_view_as_a_snapshot_is_a_copy) {
	check_buffer_view(SNAPSHOT);
}

static void check_planes(uint32_t guarantee) {
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_NV12);
	struct buffer_view view;
	buffer_view_init(&view, client, buffer, guarantee);
	buffer_view_wait(&server, &view);
	check(view.done);
	check_int(view.fourcc, ==, DRM_FORMAT_NV12);
	check_int(view.n_planes, ==, 2);
	check_int(view.offsets[0], ==, 0);
	check_int(view.offsets[1], ==, 256 * 16);
	buffer_view_finish(&view);
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server);
}

TEST(buffer_view_passes_planes_and_offsets_through) {
	for_each_guarantee(check_planes);
	check_planes(SNAPSHOT);
}

TEST(buffer_view_that_nothing_can_give_is_unsupported) {
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	struct buffer_view view;
	buffer_view_init(&view, client, buffer, VITRINE_GUARANTEE_SEALED);
	buffer_view_wait(&server, &view);
	check(view.failed);
	check_int(view.reason, ==, XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
	buffer_view_finish(&view);
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server);
}

static uint32_t deny_all(const struct vitrine_view_request *request, void *data) {
	check(request->source == NULL);
	return 0;
}

TEST(buffer_view_of_a_denied_client_is_denied) {
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	vitrine_view_manager_v1_set_policy(server.manager, deny_all, NULL);
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	struct buffer_view view;
	buffer_view_init(&view, client, buffer, VITRINE_GUARANTEE_ALL);
	buffer_view_wait(&server, &view);
	check(view.failed);
	check_int(view.reason, ==, XX_DMABUF_VIEW_V1_FAILURE_DENIED);
	buffer_view_finish(&view);
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server);
}

TEST(buffer_view_waits_for_writes_without_stalling_the_compositor) {
	struct test_fence fence;
	fence_init(&fence);
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	check_int(import_write_fence(fd, fence.fd), ==, 0);
	struct buffer_view view, dying;
	buffer_view_init(&view, client, buffer, SNAPSHOT);
	buffer_view_init(&dying, client, buffer, SNAPSHOT);
	for (uint32_t i = 0; i < 20; i++) {
		paint(&server, frame_color(i));
		client_roundtrip(client);
	}
	check(!view.done && !view.failed);
	buffer_view_finish(&dying);
	fence_signal(&fence);
	pump_until(&server, view.done);
	buffer_view_finish(&view);
	wl_buffer_destroy(buffer);
	close(fd);
	fence_finish(&fence);
	server_finish(&server);
}

TEST(buffer_views_beyond_the_quota_fail_with_no_resources) {
	struct test_fence fence;
	fence_init(&fence);
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	server.manager->limits.sessions_per_client = 2;
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	check_int(import_write_fence(fd, fence.fd), ==, 0);
	struct buffer_view views[3];
	for (int i = 0; i < 3; i++) {
		buffer_view_init(&views[i], client, buffer, SNAPSHOT);
	}
	client_roundtrip(client);
	check(!views[0].failed && !views[1].failed && views[2].failed);
	check_int(views[2].reason, ==, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	fence_signal(&fence);
	pump_until(&server, views[0].done && views[1].done);
	for (int i = 0; i < 3; i++) {
		buffer_view_finish(&views[i]);
	}
	wl_buffer_destroy(buffer);
	close(fd);
	fence_finish(&fence);
	server_finish(&server);
}

TEST(copies_that_a_client_keeps_are_charged) {
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	server.manager->limits.retired_bytes_per_client = 4 * BUFFER_SIZE;
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	struct buffer_view views[32];
	int n_views = 0;
	do {
		check_int(n_views, <, 32);
		buffer_view_init(&views[n_views++], client, buffer, SNAPSHOT);
		buffer_view_wait(&server, &views[n_views - 1]);
	} while (!views[n_views - 1].failed);
	check_int(n_views, >, 2);
	check_int(views[n_views - 1].reason, ==, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	for (int i = 0; i < n_views; i++) {
		buffer_view_finish(&views[i]);
	}
	// Everything is closed: the client may go on
	buffer_view_init(&views[0], client, buffer, SNAPSHOT);
	buffer_view_wait(&server, &views[0]);
	check(views[0].done);
	buffer_view_finish(&views[0]);
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server);
}

TEST(copies_that_wait_for_each_other_are_charged_together) {
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	server.manager->limits.retired_bytes_per_client = 4 * COPY_SIZE;
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	struct buffer_view views[8];
	for (int i = 0; i < 8; i++) {
		buffer_view_init(&views[i], client, buffer, SNAPSHOT);
	}
	int n_done = 0;
	for (int i = 0; i < 8; i++) {
		buffer_view_wait(&server, &views[i]);
		n_done += views[i].done;
		check(views[i].done || views[i].reason == XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	}
	check_int(n_done, ==, 4);
	for (int i = 0; i < 8; i++) {
		buffer_view_finish(&views[i]);
	}
	wl_buffer_destroy(buffer);
	close(fd);

	// Planes of one memory are copied each
	fd = make_dmabuf(false, BUFFER_SIZE);
	buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_NV12);
	server.manager->limits.retired_bytes_per_client = 2 * COPY_SIZE;
	buffer_view_init(&views[0], client, buffer, SNAPSHOT);
	buffer_view_wait(&server, &views[0]);
	check(views[0].failed && views[0].reason == XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	buffer_view_finish(&views[0]);
	server.manager->limits.retired_bytes_per_client = 3 * COPY_SIZE;
	buffer_view_init(&views[0], client, buffer, SNAPSHOT);
	buffer_view_wait(&server, &views[0]);
	check(views[0].done);
	buffer_view_finish(&views[0]);
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server);
}

/** Those of copies tell nobody, but have file descriptors; the harness has a timeout. */
static void wait_for_threads(int n_fds) {
	while (harness_count_fds() > n_fds) {
		sched_yield();
	}
}

TEST(buffer_view_can_go_while_it_is_copied) {
	int n_fds = harness_count_fds();
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	struct client *client = client_create(&server);
	const size_t size = 4 << 20;
	int fd = make_dmabuf(false, size);
	struct wl_buffer *buffer =
		create_dmabuf_buffer(client, fd, (uint32_t)size - 8192, DRM_FORMAT_XRGB8888);
	for (int i = 0; i < 16; i++) {
		struct buffer_view dying, waiting;
		buffer_view_init(&dying, client, buffer, SNAPSHOT);
		buffer_view_init(&waiting, client, buffer, SNAPSHOT);
		for (int j = 0; j < i % 4; j++) {
			pump_wait(&server);
		}
		buffer_view_finish(&dying);
		if (i % 2 == 0) {
			buffer_view_wait(&server, &waiting); // its turn comes
			check(waiting.done);
		}
		buffer_view_finish(&waiting);
		client_roundtrip(client);
	}
	wl_buffer_destroy(buffer);
	close(fd);
	server_finish(&server); // maybe with a copy that is being made
	wait_for_threads(n_fds);
}

/* What a client could do once the compositor has found its buffer idle. */

TEST(copy_waits_for_a_fence_in_its_own_thread) {
	struct test_fence fence;
	fence_init(&fence);
	const struct wlr_dmabuf_attributes dmabuf = {
		.n_planes = 1, .fd = { make_dmabuf(false, BUFFER_SIZE) },
	};
	const uint64_t sizes[WLR_DMABUF_MAX_PLANES] = { BUFFER_SIZE };
	fill_dmabuf(dmabuf.fd[0], BUFFER_SIZE, 0x11);
	check_int(import_write_fence(dmabuf.fd[0], fence.fd), ==, 0);
	struct vt_buffer_copy *copy = vt_buffer_copy_start(&dmabuf, sizes);
	check(copy != NULL);
	struct pollfd pollfd = { .fd = vt_buffer_copy_get_fd(copy), .events = POLLIN };
	check_int(poll(&pollfd, 1, 100), ==, 0);
	fill_dmabuf(dmabuf.fd[0], BUFFER_SIZE, 0x22);
	fence_signal(&fence);
	check_int(poll(&pollfd, 1, -1), ==, 1);
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	check_int(vt_buffer_copy_take(copy, derived), ==, 0);
	check_int(read_first_byte(derived[0].fd, BUFFER_SIZE), ==, 0x22);
	close(derived[0].fd);
	vt_buffer_copy_destroy(copy);
	close(dmabuf.fd[0]);
	fence_finish(&fence);
}

TEST(copy_that_nobody_waits_for_comes_to_its_end) {
	struct test_fence fence;
	fence_init(&fence);
	const struct wlr_dmabuf_attributes dmabuf = {
		.n_planes = 1, .fd = { make_dmabuf(false, BUFFER_SIZE) },
	};
	const uint64_t sizes[WLR_DMABUF_MAX_PLANES] = { BUFFER_SIZE };
	check_int(import_write_fence(dmabuf.fd[0], fence.fd), ==, 0);
	int n_fds = harness_count_fds();
	vt_buffer_copy_destroy(vt_buffer_copy_start(&dmabuf, sizes));
	fence_signal(&fence);
	wait_for_threads(n_fds);
	close(dmabuf.fd[0]);
	fence_finish(&fence);
}

TEST(pending_buffer_view_fails_when_the_compositor_goes) {
	struct test_fence fence;
	fence_init(&fence);
	struct server server;
	server_init(&server, &(struct server_options){ .linux_dmabuf_device = DEVICE });
	struct client *client = client_create(&server);
	int fd = make_dmabuf(false, BUFFER_SIZE);
	struct wl_buffer *buffer = create_dmabuf_buffer(client, fd, 0, DRM_FORMAT_XRGB8888);
	check_int(import_write_fence(fd, fence.fd), ==, 0);
	struct buffer_view view;
	buffer_view_init(&view, client, buffer, SNAPSHOT);
	client_roundtrip(client);
	wl_client_destroy(client->wl_client); // with the view in the event loop
	fence_signal(&fence);
	pump(&server);
	check(!view.done);
	buffer_view_finish(&view);
	wl_buffer_destroy(buffer);
	close(fd);
	fence_finish(&fence);
	server_finish(&server);
}

/* derive/ on real dma-bufs */

static void check_fd_limit(uint32_t guarantee) {
	struct vitrine_derive *derive = vitrine_derive_create();
	const struct vitrine_derive_source source = {
		.memfd = -1, .dmabuf_fd = make_dmabuf(false, BUFFER_SIZE), .size = BUFFER_SIZE,
	};
	struct vitrine_derived_fd derived;
	check_int(vitrine_derive_fd(derive, &source, guarantee, &derived), ==, 0);
	int lowest_free = derived.fd;
	close(derived.fd);
	int n_fds = harness_count_fds();
	struct rlimit saved;
	check(getrlimit(RLIMIT_NOFILE, &saved) == 0);
	struct rlimit limit = { (rlim_t)lowest_free, saved.rlim_max };
	check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	int ret = vitrine_derive_fd(derive, &source, guarantee, &derived);
	check(setrlimit(RLIMIT_NOFILE, &saved) == 0);
	check_int(ret, ==, -EMFILE);
	check_int(harness_count_fds(), ==, n_fds);
	close(source.dmabuf_fd);
	vitrine_derive_destroy(derive);
}

TEST(fd_limit_leaks_nothing) {
	for_each_guarantee(check_fd_limit);
}

static void check_not_a_dmabuf(uint32_t guarantee) {
	struct vitrine_derive *derive = vitrine_derive_create();
	int memfd = vitrine_memfd_create(BUFFER_SIZE);
	struct vitrine_derive_source source = {
		.memfd = -1, .dmabuf_fd = memfd, .size = BUFFER_SIZE,
	};
	struct vitrine_derived_fd derived;
	int ret = vitrine_derive_fd(derive, &source, guarantee, &derived);
	check(ret == -ENOTTY || ret == -EINVAL);
	source.dmabuf_fd = 9999;
	check_int(vitrine_derive_fd(derive, &source, guarantee, &derived), ==, -EBADF);
	close(memfd);
	vitrine_derive_destroy(derive);
}

TEST(what_is_no_dmabuf_is_refused) {
	for_each_guarantee(check_not_a_dmabuf);
}

TEST(verify_tells_a_guard_from_a_read_only_fd) {
	// What the seed's objectors said: O_RDONLY is not read-only
	int heap_fd = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	check(heap_fd >= 0);
	struct dma_heap_allocation_data data = { .len = 4096, .fd_flags = O_RDONLY | O_CLOEXEC };
	check(ioctl(heap_fd, DMA_HEAP_IOCTL_ALLOC, &data) == 0);
	close(heap_fd);
	const char *reason = NULL;
	check_int(vitrine_verify_fd((int)data.fd, VITRINE_STORAGE_DMABUF, FD_READ_ONLY, 4096,
		&reason), ==, 0);
	check_int(vitrine_verify_fd((int)data.fd, VITRINE_STORAGE_DMABUF, GUARDED, 4096,
		&reason), ==, -EPERM);
	check_str(reason, "the dma-buf is not guarded");
	check_int(vitrine_verify_fd((int)data.fd, VITRINE_STORAGE_DMABUF, FD_READ_ONLY, 8192,
		&reason), ==, -EPERM);
	close((int)data.fd);

	int writable = make_dmabuf(false, 4096);
	check_int(vitrine_verify_fd(writable, VITRINE_STORAGE_DMABUF, FD_READ_ONLY, 4096,
		&reason), ==, -EPERM);
	check_str(reason, "not open with O_RDONLY");
	close(writable);
}
