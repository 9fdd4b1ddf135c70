/* SPDX-License-Identifier: MIT */
/* Copies that a thread makes, with a stand-in for the GPU that takes as long as a test says. */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>

#include "copier.h"
#include "copy_gl.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"
#include "memfd_buffer.h"
#include "viewed_output.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

/* What stands in for buffers of a GPU: memfds, which are read by a map */

bool __real_wlr_buffer_get_dmabuf(struct wlr_buffer *buffer,
	struct wlr_dmabuf_attributes *dmabuf);
bool __wrap_wlr_buffer_get_dmabuf(struct wlr_buffer *buffer,
	struct wlr_dmabuf_attributes *dmabuf);
bool __wrap_wlr_buffer_get_dmabuf(struct wlr_buffer *buffer,
		struct wlr_dmabuf_attributes *dmabuf) {
	struct wlr_shm_attributes shm;
	if (!wlr_buffer_get_shm(buffer, &shm)) {
		return false;
	}
	*dmabuf = (struct wlr_dmabuf_attributes){
		.width = shm.width,
		.height = shm.height,
		.format = shm.format,
		.n_planes = 1,
		.fd = { shm.fd },
		.stride = { (uint32_t)shm.stride },
	};
	return true;
}

static int fence_fd = -1; // of each frame from now on

bool __wrap_vt_render_fence(struct wlr_renderer *renderer,
	const struct wlr_output_state *state, struct wlr_buffer *buffer, int *take_fence_fd);
bool __wrap_vt_render_fence(struct wlr_renderer *renderer,
		const struct wlr_output_state *state, struct wlr_buffer *buffer,
		int *take_fence_fd) {
	*take_fence_fd = fence_fd >= 0 ? fcntl(fence_fd, F_DUPFD_CLOEXEC, 0) : -1;
	return true;
}

/* What stands in for the GPU */

struct vt_copy_gl {
	void *pixels;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool is_closed; // copies wait
	int n_waiting; // of them
	int n_read;
	bool has_no_egl, fails;
} gpu = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };

static void gpu_close(void) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.is_closed = true;
	pthread_mutex_unlock(&gpu.mutex);
}

static void gpu_open(void) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.is_closed = false;
	pthread_cond_broadcast(&gpu.changed);
	pthread_mutex_unlock(&gpu.mutex);
}

/** Waits until a copy waits for the GPU. */
static void gpu_await_copy(void) {
	pthread_mutex_lock(&gpu.mutex);
	while (gpu.n_waiting == 0) {
		pthread_cond_wait(&gpu.changed, &gpu.mutex);
	}
	pthread_mutex_unlock(&gpu.mutex);
}

static int gpu_count_read(void) {
	pthread_mutex_lock(&gpu.mutex);
	int n = gpu.n_read;
	pthread_mutex_unlock(&gpu.mutex);
	return n;
}

struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd);
struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd) {
	return gpu.has_no_egl ? NULL : calloc(1, sizeof(struct vt_copy_gl));
}

bool __wrap_vt_copy_gl_attaches_fences(const struct vt_copy_gl *gl);
bool __wrap_vt_copy_gl_attaches_fences(const struct vt_copy_gl *gl) {
	return false;
}

void __wrap_vt_copy_gl_destroy(struct vt_copy_gl *gl);
void __wrap_vt_copy_gl_destroy(struct vt_copy_gl *gl) {
	if (gl != NULL) {
		free(gl->pixels);
	}
	free(gl);
}

/** Reads when it has come to its turn, as a GPU does. */
bool __wrap_vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
	uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels);
bool __wrap_vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
		uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.n_waiting++;
	pthread_cond_broadcast(&gpu.changed);
	while (gpu.is_closed) {
		pthread_cond_wait(&gpu.changed, &gpu.mutex);
	}
	gpu.n_waiting--;
	gpu.n_read++;
	bool ok = !gpu.fails;
	pthread_mutex_unlock(&gpu.mutex);

	size_t size = (size_t)source->stride[0] * (size_t)source->height;
	void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, source->fd[0], 0);
	free(gl->pixels);
	gl->pixels = malloc(size);
	check(data != MAP_FAILED && gl->pixels != NULL);
	memcpy(gl->pixels, data, size);
	munmap(data, size);
	*pixels = (struct vt_copy_gl_pixels){ gl->pixels, source->stride[0], 4 };
	return ok;
}

/** Deadlines of seconds are over at once, if a test wants it. */
static bool deadline_is_over;

int __real_wl_event_source_timer_update(struct wl_event_source *source, int ms);
int __wrap_wl_event_source_timer_update(struct wl_event_source *source, int ms);
int __wrap_wl_event_source_timer_update(struct wl_event_source *source, int ms) {
	return __real_wl_event_source_timer_update(source,
		deadline_is_over && ms >= 10000 ? 1 : ms);
}

/* Tests */

/** The renderer passes for one that draws with a GPU, from the next frame on. */
static void use_gpu(struct fixture *f) {
	f->server.renderer->render_buffer_caps = WLR_BUFFER_CAP_DMABUF;
	f->server.output->repaint = true;
}

static bool is_idle(struct fixture *f) {
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	struct vt_viewed_output *viewed =
		wl_container_of(manager->viewed_outputs.next, viewed, link);
	const struct vt_snapshots *snapshots = &viewed->snapshots;
	return snapshots->copier != NULL && !vt_copier_is_busy(snapshots->copier) &&
		snapshots->stream.n_lost == 0;
}

/** Paints a frame, and waits until its copy waits for the GPU. */
static void begin_copy(struct fixture *f, uint32_t color) {
	pump_until(&f->server, is_idle(f)); // or the frame would come while another is copied
	gpu_close();
	check(output_paint(f->server.output, color, NULL));
	gpu_await_copy();
}

/** Paints until the session has a frame of this colour. */
static void paint_until_seen(struct fixture *f, struct test_session *session, uint32_t color) {
	check(output_paint(f->server.output, color, NULL));
	pump_until(&f->server, session->n_frames > 0 &&
		test_session_get_pixel(session, 63, 47) == color);
}

/** How often a copier has told of each event. */
static void count_copier_event(void *data, enum vt_copier_event event) {
	int *n_events = data;
	n_events[event]++;
}

static const struct vt_copier_interface counting_impl = { .handle_event = count_copier_event };

static struct wlr_buffer *create_memfd_buffer(struct wlr_allocator *allocator) {
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = { DRM_FORMAT_XRGB8888, 1, 1, &modifier };
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(allocator, 64, 48, &format);
	check(buffer != NULL);
	return buffer;
}

TEST_WITH(fixture, copier_goes_on_when_copies_are_cancelled_at_once) {
	int n_events[VT_COPIER_STUCK + 1] = {0};
	struct vt_copier *copier = vt_copier_create(f->server.loop, -1, &counting_impl, n_events);
	check(copier != NULL);
	pump_until(&f->server, !vt_copier_is_busy(copier));
	struct wlr_allocator *allocator = vt_memfd_allocator_create();
	check(allocator != NULL);
	struct vt_copy copy = {
		.source = create_memfd_buffer(allocator),
		.take_fence_fd = -1,
		.target = create_memfd_buffer(allocator),
		.fourcc = DRM_FORMAT_XRGB8888,
	};
	uint32_t format;
	check(wlr_buffer_begin_data_ptr_access(copy.target, WLR_BUFFER_DATA_PTR_ACCESS_WRITE,
		&copy.data, &format, &copy.stride));
	pixman_region32_t all;
	pixman_region32_init_rect(&all, 0, 0, 64, 48);
	copy.region = &all;

	for (int i = 0; i < 1000; i++) {
		check(vt_copier_start(copier, &copy));
		vt_copier_cancel(copier);
		pump_until(&f->server, !vt_copier_is_busy(copier));
	}
	check_int(n_events[VT_COPIER_CANCELLED], ==, 1000);
	check(vt_copier_start(copier, &copy));
	pump_until(&f->server, !vt_copier_is_busy(copier));
	check_int(n_events[VT_COPIER_DONE], ==, 2); // it has started, and this
	check_int(n_events[VT_COPIER_FAILED] + n_events[VT_COPIER_STUCK], ==, 0);

	vt_copier_destroy(copier);
	pixman_region32_fini(&all);
	wlr_buffer_end_data_ptr_access(copy.target);
	wlr_buffer_drop(copy.source);
	wlr_buffer_drop(copy.target);
	wlr_allocator_destroy(allocator);
}

TEST_WITH(fixture, thread_copies_what_a_gpu_has_drawn,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	for (uint32_t i = 1; i <= 12; i++) {
		paint_until_seen(f, f->session, fixture_color(i));
		check_int(test_session_get_pixel(f->session, 0, 0), ==, fixture_color(i));
	}
	check_int(gpu_count_read(), >=, 12);
	check_int(f->session->n_revoked, ==, 0);

	// Of what has not changed, nothing is copied: the rest is there from before
	const struct rect dot = { 5, 6, 2, 2 };
	check(output_paint(f->server.output, 0xabcdef, &dot));
	pump_until(&f->server, test_session_get_pixel(f->session, 5, 6) == 0xabcdef);
	check_int(test_session_get_pixel(f->session, 7, 8), ==, fixture_color(12));
}

TEST_WITH(fixture, compositor_draws_while_a_copy_is_made,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	uint32_t n_frames = f->session->n_frames;
	begin_copy(f, 0x222222);
	for (uint32_t i = 0; i < 20; i++) { // more than there are buffers
		const struct rect dot = { (int)i, 0, 1, 1 };
		check(output_paint(f->server.output, 0x333333, &dot));
		client_roundtrip(f->client);
	}
	check_int(f->session->n_frames, ==, n_frames);

	gpu_open();
	pump_until(&f->server, f->session->n_frames == n_frames + 1);
	check_int(test_session_get_pixel(f->session, 40, 40), ==, 0x222222);
	// What came meanwhile was the last thing to come: it is asked for, with its damage
	pump_until(&f->server, f->session->n_frames >= n_frames + 2);
	check_int(test_session_get_pixel(f->session, 19, 0), ==, 0x333333);
	check_int(f->session->n_skipped, >=, 19);
}

TEST_WITH(fixture, copy_waits_for_the_frame_to_be_drawn,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	int n_read = gpu_count_read();
	uint32_t n_frames = f->session->n_frames;
	fence_fd = eventfd(0, EFD_CLOEXEC);
	check(output_paint(f->server.output, 0x222222, NULL));
	for (int i = 0; i < 10; i++) {
		client_roundtrip(f->client);
	}
	check_int(gpu_count_read(), ==, n_read);
	check_int(f->session->n_frames, ==, n_frames);
	check(eventfd_write(fence_fd, 1) == 0);
	close(fence_fd);
	fence_fd = -1;
	pump_until(&f->server, f->session->n_frames > n_frames);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x222222);
}

TEST_WITH(fixture, memory_never_changes_after_the_end_during_a_copy, .acceptable = SNAPSHOT) {
	use_gpu(f);
	struct test_session *other = test_session_create(f->client, 0, SNAPSHOT);
	f->session->auto_release = other->auto_release = true;
	for (uint32_t i = 1; i <= 6; i++) { // until there are no new buffers
		paint_until_seen(f, f->session, fixture_color(i));
	}
	uint32_t n_views = f->session->n_views;
	begin_copy(f, 0x222222);
	for (uint32_t i = 0; i < n_views; i++) {
		test_view_map(&f->session->views[i]);
	}
	test_session_end(f->session);
	client_roundtrip(f->client);
	uint64_t checksums[SESSION_VIEWS_CAP];
	for (uint32_t i = 0; i < n_views; i++) {
		checksums[i] = test_view_checksum(&f->session->views[i]);
	}

	gpu_open();
	pump_until(&f->server, test_session_get_pixel(other, 0, 0) == 0x222222); // another frame
	for (uint32_t i = 0; i < n_views; i++) {
		check(test_view_checksum(&f->session->views[i]) == checksums[i]);
	}
	test_session_close(other);
}

TEST_WITH(fixture, copy_that_never_ends_costs_its_stream_alone,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	struct test_session *sealed =
		test_session_create(f->client, 0, VITRINE_GUARANTEE_SEALED);
	sealed->auto_release = true;
	paint_until_seen(f, sealed, 0x121212);
	pump_until(&f->server, test_session_get_pixel(f->session, 0, 0) == 0x121212);

	pump_until(&f->server, is_idle(f)); // not the deadline of another one
	deadline_is_over = true;
	begin_copy(f, 0x222222);
	pump_until(&f->server, f->session->stopped);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_NO_RESOURCES);
	deadline_is_over = false;
	for (uint32_t i = 1; i <= 20; i++) { // the output and its other stream go on
		paint_until_seen(f, sealed, fixture_color(i));
	}
	check(!sealed->stopped);

	gpu_open(); // for the thread to come to its end
	struct test_session *late = test_session_create(f->client, 0, SNAPSHOT);
	late->auto_release = true;
	paint_until_seen(f, late, 0x333333);
	test_session_close(late);
	test_session_close(sealed);
}

TEST_WITH(fixture, renderer_copies_without_an_egl,
		.acceptable = SNAPSHOT, .auto_release = true) {
	gpu.has_no_egl = true;
	use_gpu(f);
	for (uint32_t i = 1; i <= 6; i++) {
		paint_until_seen(f, f->session, fixture_color(i));
	}
	check_int(gpu_count_read(), ==, 0);
}

TEST_WITH(fixture, renderer_copies_what_the_gpu_cannot_read,
		.acceptable = SNAPSHOT, .auto_release = true) {
	gpu.fails = true;
	use_gpu(f);
	for (uint32_t i = 1; i <= 6; i++) {
		paint_until_seen(f, f->session, fixture_color(i));
	}
	check_int(gpu_count_read(), ==, 3); // it was tried
}

TEST_WITH(fixture, session_can_end_while_the_thread_starts, .acceptable = SNAPSHOT) {
	use_gpu(f);
	check(output_paint(f->server.output, 0x111111, NULL));
	test_session_close(f->session);
	f->session = NULL;
	for (uint32_t i = 1; i <= 6; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		pump(&f->server);
	}
}

TEST_WITH(fixture, output_can_go_while_a_copy_is_made,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	begin_copy(f, 0x222222);
	wlr_output_destroy(f->server.output->wlr_output);
	pump_until(&f->server, f->session->stopped);
	gpu_open();
}

/* Deep formats */

static struct test_session *start_deep_reader(struct fixture *f, uint32_t fourcc) {
	struct ext_image_capture_source_v1 *source = client_get_source(f->client, 0);
	struct test_session *session = test_session_create_unstarted(f->client, source);
	ext_image_capture_source_v1_destroy(source);
	test_session_set_up(session, &(struct test_setup){
		.acceptable = SNAPSHOT,
		.storages = VITRINE_STORAGE_MEMFD,
	});
	test_session_add_format(session, 0, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	test_session_add_format(session, 0, fourcc, DRM_FORMAT_MOD_LINEAR);
	session->auto_release = true;
	xx_dmabuf_view_session_v1_start(session->proxy);
	return session;
}

static struct test_view *get_last_view(struct test_session *session) {
	return &session->views[test_session_last_frame(session)->index];
}

TEST_WITH(fixture, deep_source_keeps_its_depth_if_all_readers_list_it) {
	f->server.output->fourcc = DRM_FORMAT_XRGB2101010;
	f->server.output->repaint = true;
	struct test_session *deep = start_deep_reader(f, DRM_FORMAT_XRGB2101010);
	fixture_paint(f, 0xff8000);
	pump_until(&f->server, deep->n_frames > 0);
	struct test_view *view = get_last_view(deep);
	check_int(view->fourcc, ==, DRM_FORMAT_XRGB2101010);
	check_int(*(const uint32_t *)test_view_map(view) & 0x3fffffff, ==,
		0x3ff << 20 | 0x202 << 10); // 0x80 of 0xff, of 0x3ff

	// Copies are shared, so one that has not listed it decides for all
	struct test_session *plain = start_deep_reader(f, DRM_FORMAT_XBGR2101010);
	fixture_paint(f, 0x0080ff);
	pump_until(&f->server, plain->n_frames > 0 &&
		get_last_view(deep)->fourcc == DRM_FORMAT_XRGB8888);
	check_int(test_session_get_pixel(plain, 0, 0), ==, 0x0080ff);
	check_int(test_session_get_pixel(deep, 0, 0), ==, 0x0080ff);
	test_session_close(plain);
	fixture_paint(f, 0xff8000);
	pump_until(&f->server, get_last_view(deep)->fourcc == DRM_FORMAT_XRGB2101010);
	test_session_close(deep);
}
