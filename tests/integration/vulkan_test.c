/* SPDX-License-Identifier: MIT */
/* Views of what wlroots' Vulkan renderer draws: runs in the guests, on lavapipe. */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <drm_fourcc.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <wlr/render/dmabuf.h>
#include <wlr/render/pass.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_texture.h>
#include <wlr/types/wlr_buffer.h>
#include <wlr/types/wlr_output.h>

#include "dmabuf.h"
#include "fixture.h"
#include "harness.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define WIDTH 640
#define HEIGHT 360
/** Of a frame, one above the other: what is sent too early shows one of the lower ones. */
#define N_LAYERS 64
#define N_FRAMES 12

struct vulkan {
	struct server server;
	struct server_output *output;
	struct client *client;
	struct test_session *session;
	bool commits_without_fds;
};

struct vulkan_options {
	uint32_t acceptable;
};

/**
 * Copies are made on the display without a device, of which a process has one until it
 * ends: with what Mesa has open for it.
 */
static void open_display_of_copies(void) {
	PFNEGLGETPLATFORMDISPLAYEXTPROC get_platform_display =
		(PFNEGLGETPLATFORMDISPLAYEXTPROC)eglGetProcAddress("eglGetPlatformDisplayEXT");
	check(get_platform_display != NULL);
	check(eglInitialize(get_platform_display(EGL_PLATFORM_SURFACELESS_MESA, NULL, NULL),
		NULL, NULL));
	harness_forgive_fds();
}

static void vulkan_set_up(struct vulkan *f, const struct vulkan_options *options) {
	*f = (struct vulkan){0};
	// Drawing goes on while others run, as it does on a GPU
	setenv("LP_NUM_THREADS", "2", true);
	open_display_of_copies();
	server_init(&f->server, &(struct server_options){ .vulkan = true, .no_output = true });
	f->output = server_add_output(&f->server, WIDTH, HEIGHT);
	f->client = client_create(&f->server);
	f->session = test_session_start(f->client, options->acceptable);
}

static void vulkan_tear_down(struct vulkan *f) {
	server_finish(&f->server);
}

/** So that none can be opened, or as before. */
static void limit_fds(bool limit) {
	struct rlimit limits;
	check_ok(getrlimit(RLIMIT_NOFILE, &limits));
	limits.rlim_cur = limits.rlim_max;
	if (limit) {
		int lowest_free = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
		close(lowest_free);
		limits.rlim_cur = (rlim_t)lowest_free;
	}
	check_ok(setrlimit(RLIMIT_NOFILE, &limits));
}

static void add_layer(struct wlr_render_pass *pass, uint32_t color, float alpha) {
	wlr_render_pass_add_rect(pass, &(struct wlr_render_rect_options){
		.box = { .width = WIDTH, .height = HEIGHT },
		.color = {
			.r = (float)(color >> 16 & 0xff) / 255 * alpha,
			.g = (float)(color >> 8 & 0xff) / 255 * alpha,
			.b = (float)(color & 0xff) / 255 * alpha,
			.a = alpha,
		},
	});
}

/**
 * The last layer is what is to be seen, and those below cannot be left out. Lavapipe has
 * drawn before it tells of a fence, which drivers do not: such a fence may be put on the
 * buffer instead.
 */
static void paint_with_fence(struct vulkan *f, uint32_t color, const struct fence *fence) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	struct wlr_render_pass *pass =
		wlr_output_begin_render_pass(f->output->wlr_output, &state, NULL);
	check(pass != NULL);
	for (uint32_t i = 0; i < N_LAYERS; i++) {
		add_layer(pass, ~color, 0.9f);
	}
	add_layer(pass, color, 1);
	check(wlr_render_pass_submit(pass));
	struct wlr_dmabuf_attributes dmabuf;
	check(wlr_buffer_get_dmabuf(state.buffer, &dmabuf));
	if (fence != NULL) {
		check_ok(dmabuf_import_fence(dmabuf.fd[0], fence->fd, DMA_BUF_SYNC_WRITE));
	}
	limit_fds(f->commits_without_fds);
	check(wlr_output_commit_state(f->output->wlr_output, &state));
	limit_fds(false);
	wlr_output_state_finish(&state);
}

static void paint_slowly(struct vulkan *f, uint32_t color) {
	paint_with_fence(f, color, NULL);
}

/** Paints, again as often as it is asked for, until there is a frame. */
static void show(struct vulkan *f, uint32_t color) {
	uint32_t n_frames = f->session->n_frames, n_requests = f->output->n_frame_requests;
	paint_slowly(f, color);
	while (f->session->n_frames == n_frames) {
		pump_wait(&f->server);
		if (f->output->n_frame_requests != n_requests) {
			n_requests = f->output->n_frame_requests;
			paint_slowly(f, color);
		}
	}
}

/** Has the renderer finish all that it was told: what is read comes after it. */
static void finish_drawing(struct vulkan *f) {
	struct wlr_buffer *buffer = wlr_swapchain_acquire(f->output->wlr_output->swapchain);
	check(buffer != NULL);
	struct wlr_texture *texture = wlr_texture_from_buffer(f->server.renderer, buffer);
	check(texture != NULL);
	uint32_t pixel;
	check(wlr_texture_read_pixels(texture, &(struct wlr_texture_read_pixels_options){
		.data = &pixel,
		.format = DRM_FORMAT_XRGB8888,
		.stride = sizeof(pixel),
		.src_box = { .width = 1, .height = 1 },
	}));
	wlr_texture_destroy(texture);
	wlr_buffer_unlock(buffer);
}

static struct test_view *last_view(struct vulkan *f) {
	return &f->session->views[test_session_last_frame(f->session)->index];
}

TEST_PARAMS(vulkan, guarantees, uint32_t guarantee) = {
	{ "sealed", { VITRINE_GUARANTEE_SEALED }, VITRINE_GUARANTEE_SEALED },
	{ "snapshot", { VITRINE_GUARANTEE_SNAPSHOT }, VITRINE_GUARANTEE_SNAPSHOT },
};

TEST_WITH_EACH(vulkan, guarantees, frames_of_vulkan_are_finished_from_the_first_one_on) {
	for (uint32_t i = 0; i < N_FRAMES; i++) {
		uint32_t color = fixture_color(i + 1);
		show(f, color);
		struct test_view *view = last_view(f);
		uint64_t checksum = test_view_checksum(view);
		check_int(view->guarantee, ==, param->guarantee);
		check_int(view->storage, ==, XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MEMFD);
		check_int(test_view_get_pixel(view, 0, 0), ==, color);
		check_int(test_view_get_pixel(view, WIDTH - 1, HEIGHT - 1), ==, color);
		finish_drawing(f);
		check_int(test_view_checksum(view), ==, checksum);
		test_session_release_last(f->session);
		client_roundtrip(f->client);
	}
}

TEST_WITH_EACH(vulkan, guarantees, memory_of_vulkan_never_changes_after_the_end) {
	show(f, 0x123456);
	struct test_view *view = last_view(f);
	uint64_t checksum = test_view_checksum(view);
	test_session_end(f->session);
	client_roundtrip(f->client);
	for (uint32_t i = 0; i < N_FRAMES; i++) {
		paint_slowly(f, fixture_color(i + 1));
		pump(&f->server);
	}
	finish_drawing(f);
	check_int(test_view_checksum(view), ==, checksum);
	check_int(test_view_get_pixel(view, 0, 0), ==, 0x123456);
}

TEST_WITH_EACH(vulkan, guarantees, frame_of_vulkan_waits_for_the_fence_of_its_buffer) {
	show(f, 0x111111);
	test_session_release_last(f->session);
	client_roundtrip(f->client);

	struct fence fence;
	fence_init(&fence);
	paint_with_fence(f, 0x222222, &fence);
	client_roundtrip(f->client);
	check_int(f->session->n_frames, ==, 1);
	fence_signal(&fence);
	pump_until(&f->server, f->session->n_frames == 2);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x222222);
	fence_finish(&fence);
}

TEST_WITH(vulkan, frame_of_vulkan_that_may_be_unfinished_is_lost_and_asked_for_again,
		VITRINE_GUARANTEE_SEALED) {
	// All buffers of the swapchain are known by now: nothing but the fence is opened
	for (uint32_t i = 0; i < WLR_SWAPCHAIN_CAP; i++) {
		show(f, fixture_color(i + 1));
		test_session_release_last(f->session);
		client_roundtrip(f->client);
	}
	uint32_t n_frames = f->session->n_frames;
	struct fence fence;
	fence_init(&fence);
	uint32_t n_requests = f->output->n_frame_requests;
	f->commits_without_fds = true;
	paint_with_fence(f, 0x222222, &fence);
	f->commits_without_fds = false;
	fence_signal(&fence);
	client_roundtrip(f->client);
	check_int(f->session->n_frames, ==, n_frames);
	pump_until(&f->server, f->output->n_frame_requests > n_requests);
	show(f, 0x222222);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x222222);
	fence_finish(&fence);
}

/* What was once taken for a frame that was sent too early. */
TEST_WITH(vulkan, mode_change_without_a_picture_shows_black, VITRINE_GUARANTEE_SEALED) {
	show(f, 0x123456);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0x123456);
	test_session_release_last(f->session);
	output_resize(f->output, WIDTH / 2, HEIGHT / 2);
	pump_until(&f->server, f->session->n_frames > 1);
	check_int(test_session_get_pixel(f->session, 0, 0), ==, 0);
}
