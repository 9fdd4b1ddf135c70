/* SPDX-License-Identifier: MIT */
/* Copies of what a real GPU driver has drawn: runs in the guest with virtio-gpu. */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <gbm.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <vitrine/view_v1.h>
#include <wlr/render/allocator.h>
#include <wlr/render/dmabuf.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/gles2.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>

#include "buffer_copy.h"
#include "clock.h"
#include "copy_gl.h"
#include "dmabuf.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "gbm_buffer.h"
#include "harness.h"
#include "reader.h"
#include "thread.h"
#include "viewed_output.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

static struct wlr_renderer *create_once(void) {
	int fd = drm_open("virtio_gpu");
	struct wlr_renderer *renderer = wlr_gles2_renderer_create_with_drm_fd(fd);
	close(fd); // the renderer has one of its own
	check(renderer != NULL);
	return renderer;
}

static struct wlr_renderer *create_renderer(void) {
	harness_set_timeout(120); // the guest's processor is emulated
	// Mesa keeps file descriptors of a device once there was a display on it
	wlr_renderer_destroy(create_once());
	harness_forgive_fds();
	return create_once();
}

#define WITH_GPU .server.create_renderer = create_renderer

/* How long the event loop is blocked by copies */

static int64_t blocked_ns;

void __real_vt_snapshots_push(struct vt_snapshots *snapshots,
	const struct wlr_output_event_commit *event, const pixman_region32_t *damage);
void __wrap_vt_snapshots_push(struct vt_snapshots *snapshots,
	const struct wlr_output_event_commit *event, const pixman_region32_t *damage);
void __wrap_vt_snapshots_push(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage) {
	int64_t start = vt_now_ns();
	__real_vt_snapshots_push(snapshots, event, damage);
	blocked_ns += vt_now_ns() - start;
}

void __real_vt_stream_handle_copied(struct vt_stream *stream, bool is_made);
void __wrap_vt_stream_handle_copied(struct vt_stream *stream, bool is_made);
void __wrap_vt_stream_handle_copied(struct vt_stream *stream, bool is_made) {
	int64_t start = vt_now_ns();
	__real_vt_stream_handle_copied(stream, is_made);
	blocked_ns += vt_now_ns() - start;
}

/* Tests */

static void paint_until_seen(struct fixture *f, struct test_session *session, uint32_t color) {
	f->server.output->repaint = true;
	check(output_paint(f->server.output, color, NULL));
	pump_until(&f->server, session->n_frames > 0 &&
		test_session_get_pixel(session, 0, 0) == color);
}

static struct vt_snapshots *get_snapshots(struct fixture *f) {
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	check(!wl_list_empty(&manager->viewed_outputs));
	struct vt_viewed_output *viewed =
		wl_container_of(manager->viewed_outputs.next, viewed, link);
	return &viewed->snapshots;
}

/** Memory of ours that was offered to the driver to draw to. */
static atomic_int n_udmabufs;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg) {
	int ret = __real_ioctl(fd, request, arg);
	n_udmabufs += request == UDMABUF_CREATE && ret >= 0;
	return ret;
}

TEST_WITH(fixture, copy_in_a_memfd_has_each_pixel_that_the_gpu_drew, WITH_GPU,
		.acceptable = SNAPSHOT, .auto_release = true) {
	static const struct { int width, height; } sizes[] = {
		{ 1366, 768 }, { 1, 1 }, { 63, 1 }, { 64, 48 },
	};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int width = sizes[i].width, height = sizes[i].height;
		output_resize(f->server.output, width, height);
		paint_until_seen(f, f->session, 0x102030 + (uint32_t)i);
		struct rect rect = { width / 3, height / 2, (width + 2) / 3, (height + 1) / 2 };
		check(output_paint(f->server.output, 0xfe8001, &rect));
		pump_until(&f->server, test_session_get_pixel(f->session, (uint32_t)rect.x,
			(uint32_t)rect.y) == 0xfe8001);
		for (int y = 0; y < height; y++) {
			for (int x = 0; x < width; x++) {
				bool in = x >= rect.x && x < rect.x + rect.width && y >= rect.y &&
					y < rect.y + rect.height;
				check_int(test_session_get_pixel(f->session, (uint32_t)x, (uint32_t)y), ==,
					in ? 0xfe8001 : 0x102030 + (uint32_t)i);
			}
		}
	}
	check(!get_snapshots(f)->has_no_copier); // else it was the renderer
	check_int(n_udmabufs, >, 0); // whether the driver draws to it, it has been asked
}

static int compare_int64(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

#define N_FRAMES 31

/** How long the event loop is blocked by the copy of a frame. */
static int64_t measure_blocked(struct fixture *f, uint32_t color) {
	uint32_t n_frames = f->session->n_frames;
	blocked_ns = 0;
	check(output_paint(f->server.output, color, NULL));
	pump_until(&f->server, f->session->n_frames > n_frames);
	check_int(test_session_get_pixel(f->session, 1919, 1079), ==, color);
	return blocked_ns;
}

/** The least: what others do on the same processors only adds to it. */
static int64_t get_least(const char *what, int64_t times[static N_FRAMES]) {
	qsort(times, N_FRAMES, sizeof(times[0]), compare_int64);
	fprintf(stderr, "%s: the event loop is blocked for %.3f ms a frame (median %.3f, at most "
		"%.3f)\n", what, (double)times[0] / 1e6, (double)times[N_FRAMES / 2] / 1e6,
		(double)times[N_FRAMES - 1] / 1e6);
	return times[0];
}

TEST_WITH(fixture, copy_blocks_the_event_loop_a_twentieth_of_what_reading_back_does, WITH_GPU,
		.acceptable = SNAPSHOT, .auto_release = true) {
	output_resize(f->server.output, 1920, 1080);
	paint_until_seen(f, f->session, 0x111111);
	struct vt_snapshots *snapshots = get_snapshots(f);
	check(!snapshots->has_no_copier);
	f->server.output->repaint = false;
	int64_t by_thread[N_FRAMES], by_renderer[N_FRAMES];
	for (uint32_t i = 0; i < N_FRAMES; i++) { // in turns, as others use the machine too
		snapshots->has_no_copier = false;
		by_thread[i] = measure_blocked(f, fixture_color(2 * i));
		snapshots->has_no_copier = true;
		by_renderer[i] = measure_blocked(f, fixture_color(2 * i + 1));
	}
	snapshots->has_no_copier = false;
	check_int(get_least("a thread copies", by_thread) * 20, <=,
		get_least("the renderer reads back", by_renderer));
}

/* Copies in dma-bufs, and clients that read them by a device of their own */

/** Such a client. */
struct gpu_reader {
	struct test_session *session;
	uint32_t n_released; // of its frames
	int drm_fd;
};

/** What readers read with, and the test itself. */
static struct vt_copy_gl *readers_gl;

static void reader_init_for(struct gpu_reader *reader, struct client *client,
		uint32_t acceptable) {
	reader->n_released = 0;
	reader->drm_fd = drm_open("virtio_gpu");
	if (readers_gl == NULL) {
		readers_gl = vt_copy_gl_create(reader->drm_fd);
	}
	struct stat stat;
	check(readers_gl != NULL && fstat(reader->drm_fd, &stat) == 0);
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	reader->session = test_session_create_unstarted(client, source);
	ext_image_capture_source_v1_destroy(source);
	test_session_set_up(reader->session, &(struct test_setup){
		.acceptable = acceptable,
		.storages = VITRINE_STORAGE_DMABUF,
	});
	test_session_add_format(reader->session, stat.st_rdev, DRM_FORMAT_XRGB8888,
		DRM_FORMAT_MOD_LINEAR);
	xx_dmabuf_view_session_v1_start(reader->session->proxy);
}

static void reader_init(struct gpu_reader *reader, struct client *client) {
	reader_init_for(reader, client, SNAPSHOT);
}

static void reader_finish(struct gpu_reader *reader) {
	test_session_close(reader->session);
	close(reader->drm_fd);
}

static void finish_readers(void) {
	vt_copy_gl_destroy(readers_gl);
	readers_gl = NULL;
}

/** The first and the last pixel of a view, as the client's GPU sees them; all must be alike. */
static uint32_t get_color(const struct test_view *view) {
	const struct wlr_dmabuf_attributes dmabuf = {
		.width = (int)view->width,
		.height = (int)view->height,
		.format = view->fourcc,
		.modifier = view->modifier,
		.n_planes = 1,
		.offset = { view->offset },
		.stride = { view->stride },
		.fd = { view->fd },
	};
	pixman_region32_t all;
	pixman_region32_init_rect(&all, 0, 0, view->width, view->height);
	struct vt_copy_gl_pixels pixels;
	check(vt_copy_gl_read(readers_gl, &dmabuf, DRM_FORMAT_XRGB8888, &all, &pixels));
	pixman_region32_fini(&all);
	uint32_t first = *(const uint32_t *)pixels.data & 0xffffff;
	for (uint32_t y = 0; y < view->height; y++) {
		const uint32_t *row =
			(const uint32_t *)((const char *)pixels.data + y * pixels.stride);
		for (uint32_t x = 0; x < view->width; x++) {
			check_int(row[x] & 0xffffff, ==, first);
		}
	}
	return first;
}

static struct test_view *reader_get_last_view(struct gpu_reader *reader) {
	return &reader->session->views[test_session_last_frame(reader->session)->index];
}

/** "Clients must compare devices rather than nodes" */
static bool reader_has_device_of(const struct gpu_reader *reader, const struct test_view *view) {
	struct stat stat;
	check_ok(fstat(reader->drm_fd, &stat));
	return view->device != 0 &&
		vt_reader_find_node(view->device) == vt_reader_find_node(stat.st_rdev);
}

/** The colour of the reader's last frame, which it releases when it has been read. */
static uint32_t reader_take_color(struct gpu_reader *reader) {
	uint32_t color = get_color(reader_get_last_view(reader));
	for (; reader->n_released < reader->session->n_frames; reader->n_released++) {
		test_session_release(reader->session,
			reader->session->frames[reader->n_released % SESSION_FRAMES_CAP].serial);
	}
	return color;
}

/** Paints, and waits until the reader has a frame of this colour. */
static void show_reader(struct fixture *f, struct gpu_reader *reader, uint32_t color) {
	f->server.output->repaint = true;
	check(output_paint(f->server.output, color, NULL));
	do {
		pump_until(&f->server, reader->session->n_frames > reader->n_released);
	} while (reader_take_color(reader) != color);
}

/**
 * A swapchain has at most four buffers, and each of them is one view. (A reader that is slow can
 * be shown a copy beside the output's own buffers, which has another guarantee.)
 */
static void check_announced_once(const struct test_session *session, uint32_t guarantee) {
	ino_t buffers[4];
	unsigned n = 0;
	for (uint32_t i = 0; i < session->n_views; i++) {
		const struct test_view *view = &session->views[i];
		if (view->guarantee != guarantee) {
			continue;
		}
		struct stat st;
		check_ok(fstat(view->fd, &st));
		check_int(n, <, 4);
		for (unsigned j = 0; j < n; j++) {
			check_int(buffers[j], !=, st.st_ino);
		}
		buffers[n++] = st.st_ino;
	}
	check_int(n, >, 0);
}

TEST_WITH(fixture, gpu_reader_of_a_copy_sees_what_was_drawn, WITH_GPU) {
	struct gpu_reader reader;
	reader_init(&reader, f->client);
	for (uint32_t i = 1; i <= 6; i++) {
		show_reader(f, &reader, fixture_color(i));
	}
	const struct test_view *view = reader_get_last_view(&reader);
	check_int(view->storage, ==, VITRINE_STORAGE_DMABUF);
	check_int(view->guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	check_int(view->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check(reader_has_device_of(&reader, view));
	check_int(fcntl(view->fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	check_announced_once(reader.session, SNAPSHOT);
	reader_finish(&reader);
	finish_readers();
}

/** Writes to a view through a device node, which no file descriptor keeps a holder from. */
static void write_by_device(struct gpu_reader *reader, const struct test_view *view,
		uint32_t color) {
	struct gbm_device *gbm = gbm_create_device(reader->drm_fd);
	struct gbm_import_fd_data data = {
		.fd = view->fd,
		.width = view->width,
		.height = view->height,
		.stride = view->stride,
		.format = view->fourcc,
	};
	struct gbm_bo *bo =
		gbm_bo_import(gbm, GBM_BO_IMPORT_FD, &data, GBM_BO_USE_RENDERING);
	check(bo != NULL);
	uint32_t stride;
	void *map_data = NULL;
	char *map = gbm_bo_map(bo, 0, 0, view->width, view->height, GBM_BO_TRANSFER_WRITE,
		&stride, &map_data);
	check(map != NULL);
	for (uint32_t y = 0; y < view->height; y++) {
		uint32_t *row = (uint32_t *)(map + (size_t)y * stride);
		for (uint32_t x = 0; x < view->width; x++) {
			row[x] = color;
		}
	}
	gbm_bo_unmap(bo, map_data);
	gbm_bo_destroy(bo);
	gbm_device_destroy(gbm);
}

TEST_WITH(fixture, holder_that_writes_by_a_device_changes_its_own_copy_alone, WITH_GPU,
		.acceptable = SNAPSHOT, .auto_release = true) {
	struct gpu_reader attacker, honest;
	reader_init(&attacker, f->client);
	reader_init(&honest, client_create(&f->server));
	f->server.output->repaint = true;
	check(output_paint(f->server.output, 0x111111, NULL));
	pump_until(&f->server, attacker.session->n_frames > 0 && honest.session->n_frames > 0 &&
		f->session->n_frames > 0);

	struct test_view *view = reader_get_last_view(&attacker); // held: nothing draws to it
	check_int(get_color(view), ==, 0x111111);
	write_by_device(&attacker, view, 0xff00ff);
	check_int(get_color(view), ==, 0xff00ff); // else it was no attack
	check_int(get_color(reader_get_last_view(&honest)), ==, 0x111111);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x111111);
	show_reader(f, &honest, 0x222222);
	reader_finish(&honest);
	reader_finish(&attacker);
	finish_readers();
}

/** A holder puts a fence on each view that it gets: the output and others do not notice. */
static void fence_views(const struct gpu_reader *attacker, const struct fence *fence,
		uint32_t *n_fenced) {
	for (; *n_fenced < attacker->session->n_views; ++*n_fenced) {
		check_int(dmabuf_import_fence(attacker->session->views[*n_fenced].fd, fence->fd,
			DMA_BUF_SYNC_RW), ==, 0);
	}
}

/** vgem gives a fence up after 10 seconds: there is no attack then. */
static void check_pending(const struct fence *fence) {
	check(!dmabuf_poll(fence->fd, POLLIN, 0));
}

TEST_WITH(fixture, fence_on_a_copy_costs_its_holder_alone, WITH_GPU,
		.acceptable = SNAPSHOT, .auto_release = true) {
	struct gpu_reader attacker;
	reader_init(&attacker, client_create(&f->server));
	struct fence fence;
	fence_init(&fence);
	for (uint32_t i = 1; i <= 6; i++) {
		show_reader(f, &attacker, fixture_color(i));
	}
	uint32_t n_fenced = 0;
	for (uint32_t i = 1; i <= 30; i++) {
		fence_views(&attacker, &fence, &n_fenced);
		check(output_paint(f->server.output, fixture_color(100 + i), NULL));
		pump_until(&f->server,
			test_session_get_pixel(f->session, 0, 0) == fixture_color(100 + i));
	}
	check(n_fenced > 0);
	check_pending(&fence);
	// It gets other buffers, until it keeps too much; the thread waits for nothing of it
	fence_signal(&fence);
	fence_finish(&fence);
	reader_finish(&attacker);
	finish_readers();
}

/* The output's own buffers, which readers are sent without a copy */

#define READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define WITH_GPU_BUFFERS \
	.server.create_renderer = create_renderer, \
	.server.create_allocator = vitrine_allocator_autocreate

TEST_WITH(fixture, gpu_reader_of_the_outputs_own_buffers_sees_what_was_drawn,
		WITH_GPU_BUFFERS) {
	check_str(vitrine_allocator_describe(f->server.allocator), "GPU buffers (not memfd: "
		"the renderer cannot draw to it)");
	struct gpu_reader reader;
	reader_init_for(&reader, f->client, READ_ONLY | SNAPSHOT);
	for (uint32_t i = 1; i <= 6; i++) {
		show_reader(f, &reader, fixture_color(i));
	}
	const struct test_view *view = reader_get_last_view(&reader);
	check_int(view->storage, ==, VITRINE_STORAGE_DMABUF);
	check_int(view->guarantee, ==, READ_ONLY);
	check(reader_has_device_of(&reader, view));
	check_int(fcntl(view->fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	check_announced_once(reader.session, READ_ONLY);
	reader_finish(&reader);
	finish_readers();
}

TEST_WITH(fixture, output_shares_its_own_buffers_if_that_is_allowed_alone, WITH_GPU_BUFFERS) {
	vitrine_view_manager_v1_set_allowed(f->server.manager,
		VITRINE_GUARANTEE_ALL & ~(uint32_t)READ_ONLY);
	struct gpu_reader reader;
	reader_init_for(&reader, f->client, READ_ONLY | SNAPSHOT);
	show_reader(f, &reader, 0x123456);
	check_int(reader_get_last_view(&reader)->guarantee, ==, SNAPSHOT);
	reader_finish(&reader);
	finish_readers();
}

/* "a holder that can also open a DRM node may still write" */
TEST_WITH(fixture, holder_that_writes_by_a_device_changes_the_outputs_own_buffer,
		WITH_GPU_BUFFERS) {
	struct gpu_reader attacker, other;
	reader_init_for(&attacker, f->client, READ_ONLY);
	reader_init_for(&other, client_create(&f->server), READ_ONLY);
	f->server.output->repaint = true;
	check(output_paint(f->server.output, 0x111111, NULL));
	pump_until(&f->server, attacker.session->n_frames > 0 && other.session->n_frames > 0);
	check_int(get_color(reader_get_last_view(&other)), ==, 0x111111);
	write_by_device(&attacker, reader_get_last_view(&attacker), 0xff00ff);
	check_int(get_color(reader_get_last_view(&other)), ==, 0xff00ff);
	// Until the session ends: then the output draws to other memory
	reader_finish(&attacker);
	show_reader(f, &other, 0x222222);
	reader_finish(&other);
	finish_readers();
}

TEST_WITH(fixture, fence_on_the_outputs_own_buffers_costs_it_no_frame, WITH_GPU_BUFFERS,
		.acceptable = SNAPSHOT, .auto_release = true) {
	struct gpu_reader attacker;
	struct client *client = client_create(&f->server);
	reader_init_for(&attacker, client, READ_ONLY);
	struct fence fence;
	fence_init(&fence);
	for (uint32_t i = 1; i <= 6; i++) {
		show_reader(f, &attacker, fixture_color(i));
	}
	pump_until(&f->server, f->session->n_frames > 0);
	attacker.session->auto_release = true; // so that it knows all buffers
	uint32_t n_fenced = 0;
	for (uint32_t i = 1; i <= 12; i++) {
		fence_views(&attacker, &fence, &n_fenced);
		check(output_paint(f->server.output, fixture_color(100 + i), NULL));
		client_roundtrip(client);
		check_pending(&fence); // "not one page flip"
	}
	check(n_fenced > 0);
	// What has a fence is not drawn to again
	check(attacker.session->views[0].retired);
	// A copy of what has one waits for it: see "What remains" of the threat model
	fence_signal(&fence);
	pump_until(&f->server, test_session_get_pixel(f->session, 0, 0) == fixture_color(112));
	fence_finish(&fence);
	reader_finish(&attacker);
	finish_readers();
}

TEST_WITH(fixture, copies_for_one_client_are_charged_to_it, WITH_GPU) {
	f->server.manager->limits.private_bytes.per_holder = 4 * 64 * 48 * 4; // five are made
	struct gpu_reader reader;
	reader_init(&reader, f->client);
	check(output_paint(f->server.output, 1, NULL));
	f->server.output->repaint = true;
	pump_until(&f->server, reader.session->stopped);
	test_session_check_stop(reader.session, VITRINE_VIEW_STOP_NO_RESOURCES);
	f->server.manager->limits.private_bytes.per_holder = 5 * 64 * 48 * 4;
	reader_finish(&reader);
	reader_init(&reader, f->client);
	show_reader(f, &reader, 0x123456);
	reader_finish(&reader);
	finish_readers();
}

TEST_WITH(fixture, client_that_lists_no_format_of_the_device_gets_a_memfd, WITH_GPU) {
	struct test_session *session = test_session_create_with(f->client, &(struct test_setup){
		.acceptable = SNAPSHOT, // with formats of a device that there is not
	});
	check(output_paint(f->server.output, 1, NULL));
	f->server.output->repaint = true;
	pump_until(&f->server, session->n_frames > 0); // a memfd, which it reads too
	check_int(session->views[0].storage, ==, VITRINE_STORAGE_MEMFD);
	test_session_close(session);
}

/* Copies of clients' buffers */

/** A buffer that the GPU has drawn to. */
static struct wlr_buffer *create_drawn(struct fixture *f, struct wlr_allocator *allocator,
		int width, int height) {
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = DRM_FORMAT_ARGB8888,
		.len = 1,
		.capacity = 1,
		.modifiers = &modifier,
	};
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(allocator, width, height, &format);
	check(buffer != NULL);
	struct wlr_render_pass *pass =
		wlr_renderer_begin_buffer_pass(f->server.renderer, buffer, NULL);
	check(pass != NULL);
	wlr_render_pass_add_rect(pass, &(struct wlr_render_rect_options){
		.box = { .width = width, .height = height },
		.color = { .r = 1, .b = 0.2f, .a = 1 },
		.blend_mode = WLR_RENDER_BLEND_MODE_NONE,
	});
	wlr_render_pass_add_rect(pass, &(struct wlr_render_rect_options){
		.box = { .width = 3, .height = 2 }, // transparent
		.blend_mode = WLR_RENDER_BLEND_MODE_NONE,
	});
	check(wlr_render_pass_submit(pass));
	return buffer;
}

TEST_WITH(fixture, buffer_of_a_gpu_is_copied_by_a_gpu, WITH_GPU) {
	int drm_fd = drm_open("virtio_gpu");
	struct wlr_allocator *allocator = vt_gbm_allocator_create(drm_fd, false);
	check(allocator != NULL);
	struct wlr_buffer *buffer = create_drawn(f, allocator, 67, 31);
	struct wlr_dmabuf_attributes dmabuf;
	check(wlr_buffer_get_dmabuf(buffer, &dmabuf));
	const uint64_t sizes[WLR_DMABUF_MAX_PLANES] = { (uint64_t)dmabuf.stride[0] * 31 };
	struct vt_buffer_copy *copy = vt_buffer_copy_start(&dmabuf, sizes, drm_fd);
	check(copy != NULL);
	check(dmabuf_poll(vt_buffer_copy_get_fd(copy), POLLIN, 60000));
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	struct vt_buffer_copy_layout layout;
	check_int(vt_buffer_copy_take(copy, derived, &layout), ==, 0);
	vt_buffer_copy_destroy(copy);
	check_int(derived[0].storage, ==, VITRINE_STORAGE_MEMFD);
	check_int(derived[0].guarantee, ==, VITRINE_GUARANTEE_SNAPSHOT);
	check_int(layout.n_planes, ==, 1);
	check_int(layout.sizes[0], >=, (uint64_t)layout.strides[0] * 31);
	const char *data = mmap(NULL, layout.sizes[0], PROT_READ, MAP_SHARED, derived[0].fd, 0);
	check(data != MAP_FAILED);
	for (uint32_t y = 0; y < 31; y++) {
		for (uint32_t x = 0; x < 67; x++) {
			uint32_t pixel =
				*(const uint32_t *)(data + (size_t)y * layout.strides[0] + x * sizeof(pixel));
			check_int(pixel, ==, x < 3 && y < 2 ? 0 : 0xffff0033);
		}
	}
	munmap((void *)data, layout.sizes[0]);
	close(derived[0].fd);
	wlr_buffer_drop(buffer);
	wlr_allocator_destroy(allocator);
	close(drm_fd);
	vt_threads_wait_for_drivers(10000);
}
