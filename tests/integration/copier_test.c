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
#include <sys/stat.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/dmabuf.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>

#include "copier.h"
#include "copy_gl.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "faults.h"
#include "fixture.h"
#include "harness.h"
#include "memfd_buffer.h"
#include "viewed_output.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT

/* What stands in for buffers of a GPU: memfds, which are read by a map */

/** Of what the holders of copies do: not writable. -1 for nothing. */
static int target_fence_fd = -1;

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
	const struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(buffer);
	if (target_fence_fd >= 0 && vt_buffer != NULL && vt_buffer->device != 0) {
		dmabuf->fd[dmabuf->n_planes++] = target_fence_fd;
	}
	return true;
}

static int drm_fd = -1; // of the renderer

int __wrap_wlr_renderer_get_drm_fd(struct wlr_renderer *renderer);
int __wrap_wlr_renderer_get_drm_fd(struct wlr_renderer *renderer) {
	return drm_fd;
}

/** What is a memfd, and says that it is a dma-buf of a GPU. */
static struct wlr_buffer *gbm_allocator_create_buffer(struct wlr_allocator *allocator, int width,
		int height, const struct wlr_drm_format *format) {
	struct wlr_allocator *inner = vt_memfd_allocator_create();
	struct wlr_buffer *buffer =
		inner != NULL ? wlr_allocator_create_buffer(inner, width, height, format) : NULL;
	wlr_allocator_destroy(inner);
	check(buffer != NULL || fault_failed);
	if (buffer == NULL) {
		return NULL;
	}
	struct wlr_dmabuf_attributes dmabuf;
	check(wlr_buffer_get_dmabuf(buffer, &dmabuf));
	struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(buffer);
	if (!wlr_dmabuf_attributes_copy(&vt_buffer->dmabuf, &dmabuf)) {
		check(fault_failed);
		wlr_buffer_drop(buffer);
		return NULL;
	}
	vt_buffer->device = 1;
	return buffer;
}

static int n_copiers_wanted; // so far

struct vt_copier *__real_vt_copier_create(struct wl_event_loop *loop, int borrowed_drm_fd,
	bool is_private, const struct vt_copier_interface *impl, void *data);
struct vt_copier *__wrap_vt_copier_create(struct wl_event_loop *loop, int borrowed_drm_fd,
	bool is_private, const struct vt_copier_interface *impl, void *data);
struct vt_copier *__wrap_vt_copier_create(struct wl_event_loop *loop, int borrowed_drm_fd,
		bool is_private, const struct vt_copier_interface *impl, void *data) {
	n_copiers_wanted++;
	return __real_vt_copier_create(loop, borrowed_drm_fd, is_private, impl, data);
}

static int n_gbm_allocators; // made so far
static bool exports_for_writing;

static struct wlr_buffer *gbm_allocator_refuse(struct wlr_allocator *allocator, int width,
		int height, const struct wlr_drm_format *format) {
	return NULL;
}

static void gbm_allocator_destroy(struct wlr_allocator *allocator) {
	free(allocator);
}

static const struct wlr_allocator_interface gbm_allocator_impls[] = {
	{ .create_buffer = gbm_allocator_create_buffer, .destroy = gbm_allocator_destroy },
	{ .create_buffer = gbm_allocator_refuse, .destroy = gbm_allocator_destroy },
};

struct wlr_allocator *__wrap_vt_gbm_allocator_create(int borrowed_drm_fd, bool is_for_display);
struct wlr_allocator *__wrap_vt_gbm_allocator_create(int borrowed_drm_fd, bool is_for_display) {
	n_gbm_allocators++;
	struct wlr_allocator *allocator = calloc(1, sizeof(*allocator));
	check(allocator != NULL || fault_failed);
	if (allocator == NULL) {
		return NULL;
	}
	wlr_allocator_init(allocator, &gbm_allocator_impls[exports_for_writing],
		WLR_BUFFER_CAP_DMABUF);
	return allocator;
}

/** What the client gets is a memfd, whatever it is said to be. */
int __real_vitrine_verify_fd(int fd, enum vitrine_storage storage,
	enum vitrine_guarantee guarantee, uint64_t size, const char **reason);
int __wrap_vitrine_verify_fd(int fd, enum vitrine_storage storage,
	enum vitrine_guarantee guarantee, uint64_t size, const char **reason);
int __wrap_vitrine_verify_fd(int fd, enum vitrine_storage storage,
		enum vitrine_guarantee guarantee, uint64_t size, const char **reason) {
	return storage == VITRINE_STORAGE_DMABUF ? 0 :
		__real_vitrine_verify_fd(fd, storage, guarantee, size, reason);
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
	bool is_lost;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool is_closed; // copies wait
	bool drawing_is_closed; // to dma-bufs
	int n_waiting; // of them
	int n_read, n_drawn;
	bool has_no_egl, fails;
	bool is_reset; // by the next copy
	int n_contexts; // made so far
} gpu = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };

static void gpu_close(void) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.is_closed = true;
	pthread_mutex_unlock(&gpu.mutex);
}

static void gpu_open(void) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.is_closed = gpu.drawing_is_closed = false;
	pthread_cond_broadcast(&gpu.changed);
	pthread_mutex_unlock(&gpu.mutex);
}

static int gpu_count_waiting(void) {
	pthread_mutex_lock(&gpu.mutex);
	int n = gpu.n_waiting;
	pthread_mutex_unlock(&gpu.mutex);
	return n;
}

/** Waits until a copy waits for the GPU: of what was painted last, if it is painted again. */
static void gpu_await_copy(struct fixture *f) {
	pump_until(&f->server, gpu_count_waiting() > 0);
}

static int gpu_count_read(void) {
	pthread_mutex_lock(&gpu.mutex);
	int n = gpu.n_read;
	pthread_mutex_unlock(&gpu.mutex);
	return n;
}

struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd);
struct vt_copy_gl *__wrap_vt_copy_gl_create(int borrowed_drm_fd) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.n_contexts++;
	pthread_mutex_unlock(&gpu.mutex);
	return gpu.has_no_egl ? NULL : calloc(1, sizeof(struct vt_copy_gl));
}

static int gpu_count_contexts(void) {
	pthread_mutex_lock(&gpu.mutex);
	int n = gpu.n_contexts;
	pthread_mutex_unlock(&gpu.mutex);
	return n;
}

/** As drivers do, the copy that this costs is said to have been made. */
static void gpu_reset(void) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.is_reset = true;
	pthread_mutex_unlock(&gpu.mutex);
}

/** Whether the copy that a context makes is lost, with the context. */
static bool gpu_loses(struct vt_copy_gl *gl) {
	pthread_mutex_lock(&gpu.mutex);
	gl->is_lost |= gpu.is_reset;
	gpu.is_reset = false;
	pthread_mutex_unlock(&gpu.mutex);
	return gl->is_lost;
}

bool __wrap_vt_copy_gl_is_lost(const struct vt_copy_gl *gl);
bool __wrap_vt_copy_gl_is_lost(const struct vt_copy_gl *gl) {
	return gl->is_lost;
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

/** Comes to its turn. */
static bool gpu_do(const bool *is_closed, int *count) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.n_waiting++;
	pthread_cond_broadcast(&gpu.changed);
	while (*is_closed) {
		pthread_cond_wait(&gpu.changed, &gpu.mutex);
	}
	gpu.n_waiting--;
	(*count)++;
	bool ok = !gpu.fails;
	pthread_mutex_unlock(&gpu.mutex);
	return ok;
}

/** Reads when it has come to its turn, as a GPU does. */
bool __wrap_vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
	uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels);
bool __wrap_vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
		uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels) {
	bool ok = gpu_do(&gpu.is_closed, &gpu.n_read);
	size_t size = (size_t)source->stride[0] * (size_t)source->height;
	void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, source->fd[0], 0);
	free(gl->pixels);
	gl->pixels = malloc(size);
	check(data != MAP_FAILED && gl->pixels != NULL);
	if (gpu_loses(gl)) {
		memset(gl->pixels, 0, size);
	} else {
		memcpy(gl->pixels, data, size);
	}
	munmap(data, size);
	*pixels = (struct vt_copy_gl_pixels){ gl->pixels, source->stride[0], 4 };
	return ok;
}

bool __wrap_vt_copy_gl_stage(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
	const pixman_region32_t *region, int cancel_fd);
bool __wrap_vt_copy_gl_stage(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
		const pixman_region32_t *region, int cancel_fd) {
	struct vt_copy_gl_pixels pixels;
	return __wrap_vt_copy_gl_read(gl, source, source->format, region, &pixels);
}

/** Draws when it has come to its turn, whether or not that is still wanted. */
bool __wrap_vt_copy_gl_draw(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *target,
	const pixman_region32_t *region, int cancel_fd);
bool __wrap_vt_copy_gl_draw(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *target,
		const pixman_region32_t *region, int cancel_fd) {
	bool ok = gpu_do(&gpu.drawing_is_closed, &gpu.n_drawn);
	size_t size = (size_t)target->stride[0] * (size_t)target->height;
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, target->fd[0], 0);
	check(data != MAP_FAILED);
	memcpy(data, gl->pixels, size);
	munmap(data, size);
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
	gpu_await_copy(f);
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
	struct vt_copier *copier = vt_copier_create(f->server.loop, -1, false, &counting_impl,
		n_events);
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

TEST_WITH(fixture, output_has_a_buffer_beside_a_copy_and_frames_that_are_held,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	struct test_session *holder = test_session_start(f->client, VITRINE_GUARANTEE_SEALED);
	for (uint32_t i = 1; holder->n_frames < 2; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	check_int(holder->n_revoked, ==, 0);
	begin_copy(f, 0x222222);
	for (uint32_t i = 1; i <= 8; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	gpu_open();
	paint_until_seen(f, f->session, 0x333333);
	test_session_close(holder);
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

TEST_WITH(fixture, copies_go_on_after_the_gpu_was_reset,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_gpu(f);
	paint_until_seen(f, f->session, 0x111111);
	for (int i = 1; i <= 6; i++) { // more than may fail one after the other
		pump_until(&f->server, is_idle(f));
		gpu_reset();
		check(output_paint(f->server.output, fixture_color((uint32_t)i), NULL));
		// What was lost is asked for again, and copied by the next context
		pump_until(&f->server, test_session_get_pixel(f->session, 63, 47) != 0x111111);
		check_int(test_session_get_pixel(f->session, 63, 47), ==, fixture_color((uint32_t)i));
		paint_until_seen(f, f->session, 0x111111);
		check_int(gpu_count_contexts(), ==, 1 + i);
	}
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

/* Copies for one client alone */

/** Buffers of a swapchain that are in use, besides by the swapchain. */
static size_t count_locked(const struct wlr_swapchain *swapchain) {
	size_t count = 0;
	for (size_t i = 0; i < WLR_SWAPCHAIN_CAP; i++) {
		count += swapchain->slots[i].buffer != NULL && swapchain->slots[i].acquired;
	}
	return count;
}

/** Has the renderer be one with a device: any, of which /dev/null is one. */
static void use_device(struct fixture *f) {
	drm_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	check(drm_fd >= 0);
	use_gpu(f);
}

static void forget_device(void) {
	close(drm_fd);
	drm_fd = -1;
}

/** A session of a client that reads dma-bufs alone. */
static struct test_session *start_device_session(struct client *client) {
	struct stat stat;
	check_ok(fstat(drm_fd, &stat));
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	struct test_session *session = test_session_create_unstarted(client, source);
	ext_image_capture_source_v1_destroy(source);
	test_session_set_up(session, &(struct test_setup){
		.acceptable = SNAPSHOT,
		.storages = VITRINE_STORAGE_DMABUF,
	});
	test_session_add_format(session, stat.st_rdev, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	session->auto_release = true;
	xx_dmabuf_view_session_v1_start(session->proxy);
	return session;
}

TEST_WITH(fixture, clients_with_devices_have_copies_of_their_own) {
	use_device(f);
	struct test_session *a = start_device_session(f->client);
	struct test_session *b = start_device_session(f->client);
	for (uint32_t i = 1; i <= 12; i++) {
		paint_until_seen(f, a, fixture_color(i));
		pump_until(&f->server, b->n_frames > 0 &&
			test_session_get_pixel(b, 0, 0) == fixture_color(i));
	}
	check_int(a->views[0].storage, ==, VITRINE_STORAGE_DMABUF);
	check_int(a->views[0].guarantee, ==, SNAPSHOT);
	check_int(n_gbm_allocators, ==, 1);
	check_int(a->n_revoked + b->n_revoked, ==, 0);
	test_session_close(a);
	test_session_close(b);
	forget_device();
}

TEST_WITH(fixture, sessions_with_copies_of_their_own_cost_tokens_without_a_frame) {
	use_device(f);
	f->server.manager->limits.starts_per_holder.burst = 4;
	f->server.manager->limits.starts_per_holder.interval_ms = 1000000;
	gpu_close();
	for (uint32_t i = 1; i <= 8; i++) {
		uint32_t n_started = f->server.sessions_started;
		struct test_session *session = start_device_session(f->client);
		client_roundtrip(f->client);
		check_int(f->server.sessions_started, ==, n_started + (i <= 4));
		check(output_paint(f->server.output, fixture_color(i), NULL));
		check_int(session->n_frames, ==, 0);
		test_session_close(session);
	}
	gpu_open(); // for the threads to come to their end
	forget_device();
}

TEST_WITH(fixture, sessions_with_copies_of_their_own_are_charged_before_a_frame) {
	use_device(f);
	f->server.manager->limits.private_bytes.per_holder = 2 * 5 * 64 * 48 * 4;
	struct test_session *sessions[3];
	for (int i = 0; i < 3; i++) {
		sessions[i] = start_device_session(f->client);
	}
	client_roundtrip(f->client);
	check(output_paint(f->server.output, 0x111111, NULL));
	pump_until(&f->server, sessions[2]->stopped);
	test_session_check_stop(sessions[2], VITRINE_VIEW_STOP_NO_RESOURCES);
	for (int i = 0; i < 2; i++) {
		paint_until_seen(f, sessions[i], fixture_color((uint32_t)i + 1));
	}
	for (int i = 0; i < 3; i++) {
		test_session_close(sessions[i]);
	}
	forget_device();
}

TEST_WITH(fixture, threads_for_one_client_each_are_bounded,
		.acceptable = SNAPSHOT, .auto_release = true) {
	use_device(f);
	f->server.manager->limits.starts_per_holder.burst = 100;
	f->server.manager->limits.copiers = (struct vitrine_view_limit){ 100, 100, 100 };
	f->server.manager->limits.contended_frame_deadline_ms = 1;
	struct test_session *sessions[VT_COPIERS_PRIVATE_CAP + 1];
	for (int i = 0; i < VT_COPIERS_PRIVATE_CAP; i++) {
		sessions[i] = start_device_session(f->client);
	}
	for (int i = 0; i < VT_COPIERS_PRIVATE_CAP; i++) {
		paint_until_seen(f, sessions[i], fixture_color((uint32_t)i + 1));
	}
	int n_wanted = n_copiers_wanted;
	sessions[VT_COPIERS_PRIVATE_CAP] = start_device_session(f->client);
	for (uint32_t i = 0; !sessions[VT_COPIERS_PRIVATE_CAP]->stopped; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	// Tried now and then, and not with each frame
	check_int(n_copiers_wanted - n_wanted, <=, 8);
	test_session_check_stop(sessions[VT_COPIERS_PRIVATE_CAP], VITRINE_VIEW_STOP_NO_RESOURCES);
	paint_until_seen(f, f->session, 0x222222); // by the thread that all share
	test_session_close(sessions[0]);
	struct test_session *late = start_device_session(f->client);
	paint_until_seen(f, late, 0x333333);
	test_session_close(late);
	for (int i = 1; i <= VT_COPIERS_PRIVATE_CAP; i++) {
		test_session_close(sessions[i]);
	}
	forget_device();
}

TEST_WITH(fixture, device_that_gives_no_read_only_buffer_is_unsupported) {
	use_device(f);
	exports_for_writing = true;
	struct test_session *session = start_device_session(f->client);
	pump_until(&f->server, session->stopped);
	test_session_check_stop(session, VITRINE_VIEW_STOP_UNSUPPORTED);
	test_session_close(session);
	forget_device();
}

/** Starts to copy 0x222222, and waits until that is read, and about to be drawn. */
static void begin_to_draw(struct fixture *f) {
	pthread_mutex_lock(&gpu.mutex);
	gpu.drawing_is_closed = true;
	pthread_mutex_unlock(&gpu.mutex);
	int n_read = gpu_count_read();
	check(output_paint(f->server.output, 0x222222, NULL));
	pump_until(&f->server, gpu_count_read() > n_read);
	gpu_await_copy(f);
}

TEST_WITH(fixture, output_has_its_buffers_back_while_a_dma_buf_is_drawn_to) {
	use_device(f);
	struct test_session *session = start_device_session(f->client);
	paint_until_seen(f, session, 0x111111);
	begin_to_draw(f);
	for (uint32_t i = 1; i <= 20; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	// What is shown
	pump_until(&f->server, count_locked(f->server.output->wlr_output->swapchain) <= 1);
	uint32_t n_frames = session->n_frames;
	gpu_open();
	pump_until(&f->server, session->n_frames > n_frames);
	check_int(test_session_get_pixel(session, 0, 0), ==, 0x222222);
	pump_until(&f->server, test_session_get_pixel(session, 0, 0) == fixture_color(20));
	test_session_close(session);
	forget_device();
}

TEST_WITH(fixture, nothing_that_comes_after_the_end_is_in_a_dma_buf) {
	use_device(f);
	struct test_session *session = start_device_session(f->client);
	for (uint32_t i = 1; i <= 6; i++) { // until there are no new buffers
		paint_until_seen(f, session, fixture_color(i));
	}
	begin_to_draw(f);
	uint32_t n_views = session->n_views;
	for (uint32_t i = 0; i < n_views; i++) {
		test_view_map(&session->views[i]);
	}
	test_session_end(session);
	client_roundtrip(f->client);
	for (uint32_t i = 1; i <= 6; i++) { // all buffers of the output have it
		check(output_paint(f->server.output, 0x999999, NULL));
	}
	gpu_open();
	struct test_session *late = start_device_session(f->client);
	paint_until_seen(f, late, 0x888888);
	bool is_drawn = false;
	for (uint32_t i = 0; i < n_views; i++) {
		uint32_t pixel = test_view_get_pixel(&session->views[i], 10, 10);
		is_drawn |= pixel == 0x222222; // "what it had begun before"
		check(pixel != 0x999999 && pixel != 0x888888);
	}
	check(is_drawn);
	test_session_close(late);
	forget_device();
}

TEST_WITH(fixture, nothing_is_drawn_for_a_session_that_ends_while_a_frame_is_read) {
	use_device(f);
	struct test_session *session = start_device_session(f->client);
	for (uint32_t i = 1; i <= 6; i++) {
		paint_until_seen(f, session, fixture_color(i));
	}
	gpu_close();
	check(output_paint(f->server.output, 0x222222, NULL));
	gpu_await_copy(f);
	uint32_t n_views = session->n_views;
	uint64_t checksums[SESSION_VIEWS_CAP];
	for (uint32_t i = 0; i < n_views; i++) {
		test_view_map(&session->views[i]);
	}
	test_session_end(session);
	client_roundtrip(f->client);
	for (uint32_t i = 0; i < n_views; i++) {
		checksums[i] = test_view_checksum(&session->views[i]);
	}
	gpu_open();
	struct test_session *late = start_device_session(f->client);
	paint_until_seen(f, late, 0x888888);
	for (uint32_t i = 0; i < n_views; i++) {
		check(test_view_checksum(&session->views[i]) == checksums[i]);
	}
	test_session_close(late);
	forget_device();
}

TEST_WITH(fixture, copies_keep_one_buffer_of_the_output_at_a_time) {
	use_device(f);
	f->server.manager->limits.copiers.per_holder = 4;
	struct server_output *output = f->server.output;
	struct test_session *sessions[4];
	gpu_close();
	for (uint32_t i = 0; i < 4; i++) { // each would begin with another frame
		sessions[i] = start_device_session(f->client);
		client_roundtrip(f->client);
		check(output_paint(output, fixture_color(i + 1), NULL));
		uint32_t n_requests = output->n_frame_requests;
		pump_until(&f->server, output->n_frame_requests > n_requests); // its thread is up
		for (uint32_t j = 0; j < 4; j++) {
			check(output_paint(output, fixture_color(i + j + 2), NULL));
			client_roundtrip(f->client);
		}
	}
	check_int(count_locked(output->wlr_output->swapchain), <=, 2); // read, and shown
	gpu_await_copy(f);
	check_int(gpu_count_waiting(), ==, 1);
	gpu_open();
	for (uint32_t i = 0; i < 4; i++) { // those that had to wait get what is newest then
		pump_until(&f->server, sessions[i]->n_frames > 0 &&
			test_session_get_pixel(sessions[i], 0, 0) == output->color);
		test_session_close(sessions[i]);
	}
	forget_device();
}

TEST_WITH(fixture, holder_with_fences_gets_other_buffers_and_costs_the_output_none) {
	use_device(f);
	struct test_session *session = start_device_session(f->client);
	paint_until_seen(f, session, 0x111111);
	uint32_t n_views = session->n_views;
	int fenced_fd = eventfd(0, EFD_CLOEXEC);
	check(fenced_fd >= 0 && eventfd_write(fenced_fd, UINT64_MAX - 1) == 0);
	target_fence_fd = fenced_fd;
	for (uint32_t i = 1; i <= 20; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		client_roundtrip(f->client);
	}
	// What is shown, while the thread waits for the holder
	pump_until(&f->server, count_locked(f->server.output->wlr_output->swapchain) <= 1);
	pump_until(&f->server, session->n_retired > 0);
	target_fence_fd = -1;
	paint_until_seen(f, session, 0x222222);
	check_int(session->n_views, >, n_views);
	test_session_close(session);
	close(fenced_fd);
	forget_device();
}

/* Calls that fail */

WRAP(bool, wlr_dmabuf_attributes_copy, EMFILE, false,
	(struct wlr_dmabuf_attributes *target, const struct wlr_dmabuf_attributes *source),
	(target, source))
WRAP(pixman_bool_t, pixman_region32_copy, ENOMEM, false,
	(pixman_region32_t *target, const pixman_region32_t *source), (target, source))

static void enter_server(bool enter) {
	fault_in_server = enter;
}

static bool is_served(struct test_session *session, uint32_t color) {
	return session->stopped || session->client->wl_client == NULL ||
		(session->n_frames > 0 && test_session_get_pixel(session, 63, 47) == color);
}

enum { FAILING_SESSIONS = 3 };

/** What cannot be drawn is drawn later, as compositors do. */
static void paint_in_the_end(struct fixture *f, uint32_t color) {
	if (!output_paint(f->server.output, color, NULL)) {
		wlr_output_update_needs_frame(f->server.output->wlr_output);
	}
}

/** What comes is right, and what cannot come is told. No session gets less than it asked for. */
static void check_served(struct fixture *f, struct test_session *sessions[], uint32_t color) {
	paint_in_the_end(f, color);
	for (int i = 0; i < FAILING_SESSIONS; i++) {
		pump_until(&f->server, is_served(sessions[i], color));
		check(!sessions[i]->stopped ||
			sessions[i]->stop_reason == VITRINE_VIEW_STOP_NO_RESOURCES ||
			sessions[i]->stop_reason == VITRINE_VIEW_STOP_UNSUPPORTED);
		for (uint32_t j = 0; j < sessions[i]->n_views; j++) {
			check_int(sessions[i]->views[j].guarantee, ==, SNAPSHOT);
		}
	}
}

/** One of shared copies, one of a holder's own in memfds, and one of its own in dma-bufs. */
static void run_copies(struct fixture *f, struct client *client) {
	struct test_session *sessions[FAILING_SESSIONS];
	fixture_enter_server = enter_server;
	sessions[0] = test_session_create(client, 0, SNAPSHOT);
	sessions[0]->auto_release = true;
	paint_in_the_end(f, 0x111111);
	pump_until(&f->server, is_served(sessions[0], 0x111111));
	f->server.manager->limits.shared_bytes = (struct vitrine_view_limit){ 1, 1, 1 };
	sessions[1] = test_session_create(client, 0, SNAPSHOT);
	sessions[1]->auto_release = true;
	sessions[2] = start_device_session(client);
	for (uint32_t i = 2; i < 4; i++) {
		check_served(f, sessions, fixture_color(i));
	}
	client_destroy_sessions(client);
	pump(&f->server);
}

TEST(each_call_of_copies_by_a_thread_can_fail) {
	harness_set_timeout(120 * harness_get_slowdown());
	unsigned n = 0;
	do {
		struct fixture f;
		fixture_set_up(&f, &(struct fixture_options){ 0 });
		use_device(&f);
		struct client *client = client_create(&f.server);
		fault_failed = false;
		fault_calls_left = ++n;
		run_copies(&f, client);
		fault_calls_left = 0;
		fixture_enter_server = NULL;
		fixture_tear_down(&f);
		forget_device();
	} while (fault_failed);
	harness_count(n - 1, "faults injected");
	check_int(n, >, 50);
}
