/* SPDX-License-Identifier: MIT */
/* Sessions and buffer views on real dma-bufs: runs in the guests. */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vitrine/view_v1.h>

#include "buffer_copy.h"
#include "dmabuf.h"
#include "fixture.h"
#include "harness.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "manager.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT
/** Of no driver: there is no such device. */
#define DEVICE makedev(4095, 1)

static const struct guarantee_param dmabuf_guarantees[] = {
	{ "guarded", { .acceptable = GUARDED, .auto_release = true } },
	{ "fd-read-only", { .acceptable = FD_READ_ONLY, .auto_release = true } },
};

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

static void need(uint32_t guarantee) {
	if (guarantee == FD_READ_ONLY && !is_available(guarantee)) {
		dmabuf_skip_without_derive();
	}
	check(is_available(guarantee)); // every guest has the module at least
}

/* Sessions */

TEST_WITH_EACH(fixture, dmabuf_guarantees, session_views_are_dmabufs_derived_once_per_buffer) {
	need(param->options.acceptable);
	fixture_paint(f, 0x123456);
	struct test_view *view = &f->session->views[0];
	check_int(view->guarantee, ==, param->options.acceptable);
	check_int(view->storage, ==, XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MAPPED_DMABUF);
	check(view->device == 0); // "where the memory is the system's, which no device owns"
	check_int(test_session_get_pixel(f->session, 63, 47), ==, 0x123456);

	// "a 600-frame session derives once per distinct buffer"
	fixture_show_frames(f, f->session, 1, 599);
	check_int(f->session->n_frames, ==, 600);
	check_int(f->session->n_fds, ==, f->session->n_views);
	check_int(f->session->n_views, <=, 8);
}

TEST_WITH(fixture, guarantee_without_a_kernel_part_is_unsupported, .acceptable = FD_READ_ONLY) {
	if (is_available(FD_READ_ONLY)) {
		harness_skip("this kernel has all of them");
	}
	check(output_paint(f->server.output, 1, NULL));
	pump_until(&f->server, f->session->stopped);
	test_session_check_stop(f->session, VITRINE_VIEW_STOP_UNSUPPORTED);
}

TEST_WITH_EACH(fixture, dmabuf_guarantees, memory_never_changes_after_destroy) {
	need(param->options.acceptable);
	struct test_session *session = f->session;
	fixture_paint(f, 1);
	uint64_t checksum = test_view_checksum(&session->views[0]);
	fixture_paint_frames(f, 2, 9);
	check(test_view_checksum(&session->views[0]) != checksum); // the positive case

	test_session_end(session);
	pump(&f->server);
	fixture_check_unchanged(f, session);
}

TEST_WITH_EACH(fixture, dmabuf_guarantees, held_pixels_do_not_change) {
	need(param->options.acceptable);
	struct test_session *holder = test_session_start(f->client, param->options.acceptable);
	fixture_paint(f, 0x0a0b0c);
	fixture_check_unchanged(f, holder);
	check_int(f->session->n_frames, ==, 51);
}

TEST_WITH(fixture, sessions_of_one_output_have_different_guarantees) {
	static const uint32_t guarantees[] = {
		VITRINE_GUARANTEE_SEALED, GUARDED, SNAPSHOT,
	};
	struct test_session *sessions[3];
	for (int i = 0; i < 3; i++) {
		sessions[i] = test_session_start_reader(f->client, guarantees[i]);
	}
	for (uint32_t n = 0; n < 20; n++) {
		fixture_paint(f, fixture_color(n));
		for (int i = 0; i < 3; i++) {
			check_int(test_session_get_pixel(sessions[i], 1, 1), ==, fixture_color(n));
			check_int(sessions[i]->views[0].guarantee, ==, guarantees[i]);
		}
	}
}

/**
 * "memory of the source over a copy, and a stronger guarantee over a weaker one: sealed,
 * guarded, fd_read_only, snapshot, in this order"
 */
static const uint32_t preference[] = {
	VITRINE_GUARANTEE_SEALED, GUARDED, FD_READ_ONLY, SNAPSHOT,
};
#define N_PREFERENCE (sizeof(preference) / sizeof(preference[0]))

/** The first one from here on that the kernel of this guest has what it takes for. */
static uint32_t get_preferred(size_t first) {
	return preference[first] != FD_READ_ONLY || is_available(FD_READ_ONLY) ?
		preference[first] : SNAPSHOT;
}

TEST_WITH(fixture, session_prefers_the_stronger_guarantee) {
	vitrine_view_manager_v1_set_allowed(f->server.manager, VITRINE_GUARANTEE_ALL);
	uint32_t acceptable = VITRINE_GUARANTEE_ALL;
	for (size_t i = 0; i < N_PREFERENCE; i++) {
		struct test_session *session = test_session_start(f->client, acceptable);
		fixture_show(f, session, fixture_color((uint32_t)i));
		check_int(session->views[0].guarantee, ==, get_preferred(i));
		test_session_close(session);
		acceptable &= ~preference[i];
	}
}

TEST_WITH(fixture, client_that_keeps_retired_dmabufs_gets_no_more) {
	fixture_check_keeper(f, GUARDED);
}

/* Row 14: fences of the holder's making */

TEST_WITH_EACH(fixture, dmabuf_guarantees, injected_fence_costs_no_other_client_a_frame) {
	need(param->options.acceptable);
	struct fence fence;
	fence_init(&fence);
	struct test_session *honest =
		test_session_start_reader(client_create(&f->server), param->options.acceptable);
	fixture_paint_frames(f, 0, 7);
	// Whether it is refused or not: no other client may have to wait for it
	for (uint32_t i = 0; i < f->session->n_views; i++) {
		int ret = dmabuf_import_fence(f->session->views[i].fd, fence.fd, DMA_BUF_SYNC_RW);
		check(ret == 0 || errno == EACCES);
	}
	uint32_t n_frames = honest->n_frames;
	fixture_show_frames(f, honest, 0, 99);
	check_int(honest->n_frames, ==, n_frames + 100);
	fence_signal(&fence);
	fence_finish(&fence);
}

/* get_buffer_view */

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

static void view_handle_device(void *data, struct xx_dmabuf_view_v1 *proxy,
		struct wl_array *device) {
	check(false && "the device of a client's own buffer is not known");
}

static const struct xx_dmabuf_view_v1_listener view_listener = {
	.format = view_handle_format,
	.device = view_handle_device,
	.plane = view_handle_plane,
	.done = view_handle_done,
	.failed = view_handle_failed,
};

/** How the last plane is laid out: so much of it is to be seen, and copied. */
#define COPY_SIZE (256 * 16)
#define VIEWS_CAP 33

/** A client with a buffer to have views of. */
struct viewing {
	struct server server;
	struct client *client;
	int fd;
	struct wl_buffer *buffer; // NULL once the test has destroyed it
	struct fence fence; // of a write to it that is not done, if it was asked for
	bool has_fence;
	struct buffer_view views[VIEWS_CAP];
	uint32_t n_views;
	int n_fds; // before all of this
	bool leaves_copies;
};

struct viewing_options {
	enum exporter exporter;
	size_t size; // 0 for DMABUF_SIZE
	uint32_t offset;
	uint32_t fourcc; // 0 for XRGB8888
	bool fence;
	bool leaves_copies; // that are being made, at the end
};

static void viewing_set_up(struct viewing *f, const struct viewing_options *options) {
	*f = (struct viewing){ .n_fds = harness_count_fds(), .has_fence = options->fence,
		.leaves_copies = options->leaves_copies };
	const struct server_options server = { .linux_dmabuf_device = "/dev/dri/card0" };
	server_init(&f->server, &server);
	f->client = client_create(&f->server);
	f->fd = dmabuf_create_sized(options->exporter,
		options->size != 0 ? options->size : DMABUF_SIZE);
	f->buffer = create_dmabuf_buffer(f->client, f->fd, options->offset,
		options->fourcc != 0 ? options->fourcc : DRM_FORMAT_XRGB8888);
	if (f->has_fence) {
		fence_init(&f->fence);
		check_ok(dmabuf_import_fence(f->fd, f->fence.fd, DMA_BUF_SYNC_RW));
	}
}

/** A view that has not started, and for which nothing was said. */
static struct buffer_view *viewing_create_unstarted(struct viewing *f) {
	check_int(f->n_views, <, VIEWS_CAP);
	struct buffer_view *view = &f->views[f->n_views++];
	*view = (struct buffer_view){0};
	view->proxy = xx_dmabuf_view_manager_v1_get_buffer_view(f->client->manager, f->buffer);
	xx_dmabuf_view_v1_add_listener(view->proxy, &view_listener, view);
	return view;
}

static void buffer_view_add_format(struct buffer_view *view, dev_t device, uint32_t fourcc,
		uint64_t modifier) {
	struct wl_array array = { .size = device != 0 ? sizeof(device) : 0, .data = &device };
	xx_dmabuf_view_v1_add_format(view->proxy, &array, fourcc, (uint32_t)(modifier >> 32),
		(uint32_t)(modifier & UINT32_MAX));
}

/** Accepts all storages, and the formats that these tests use. */
static struct buffer_view *viewing_get(struct viewing *f, uint32_t acceptable) {
	struct buffer_view *view = viewing_create_unstarted(f);
	xx_dmabuf_view_v1_set_guarantees(view->proxy, acceptable);
	xx_dmabuf_view_v1_set_storages(view->proxy, VITRINE_STORAGE_ALL);
	buffer_view_add_format(view, DEVICE, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	buffer_view_add_format(view, DEVICE, DRM_FORMAT_NV12, DRM_FORMAT_MOD_LINEAR);
	xx_dmabuf_view_v1_start(view->proxy);
	return view;
}

/** Until it is described or has failed. Copies take time. */
static void viewing_wait(struct viewing *f, const struct buffer_view *view) {
	pump_until(&f->server, view->done || view->failed);
}

static struct buffer_view *viewing_get_and_wait(struct viewing *f, uint32_t acceptable) {
	struct buffer_view *view = viewing_get(f, acceptable);
	viewing_wait(f, view);
	return view;
}

static void buffer_view_finish(struct buffer_view *view) {
	if (view->proxy == NULL) {
		return;
	}
	for (uint32_t i = 0; i < view->n_planes; i++) {
		close(view->fds[i]);
	}
	xx_dmabuf_view_v1_destroy(view->proxy);
	view->proxy = NULL;
}

static void viewing_finish_views(struct viewing *f) {
	for (uint32_t i = 0; i < f->n_views; i++) {
		buffer_view_finish(&f->views[i]);
	}
	f->n_views = 0;
}

static void viewing_destroy_buffer(struct viewing *f) {
	if (f->buffer != NULL) {
		wl_buffer_destroy(f->buffer);
		f->buffer = NULL;
	}
}

/** Threads of copies tell no one of their end, but have file descriptors. */
static void wait_for_threads(int n_fds) {
	while (harness_count_fds() > n_fds) {
		sched_yield();
	}
}

static void viewing_tear_down(struct viewing *f) {
	viewing_finish_views(f);
	viewing_destroy_buffer(f);
	close(f->fd);
	if (f->has_fence) {
		fence_finish(&f->fence);
	}
	server_finish(&f->server);
	if (f->leaves_copies) {
		wait_for_threads(f->n_fds);
	}
}

static void view_check_failed(const struct buffer_view *view, uint32_t reason) {
	check(view->failed);
	check_int(view->reason, ==, reason);
}

TEST_PARAMS(viewing, exported_views, uint32_t guarantee) = {
	{ "guarded, udmabuf", { EXPORTER_UDMABUF, .offset = 4096 }, GUARDED },
	{ "guarded, heap", { EXPORTER_HEAP, .offset = 4096 }, GUARDED },
	{ "fd-read-only, udmabuf", { EXPORTER_UDMABUF, .offset = 4096 }, FD_READ_ONLY },
	{ "fd-read-only, heap", { EXPORTER_HEAP, .offset = 4096 }, FD_READ_ONLY },
	{ "snapshot, udmabuf", { EXPORTER_UDMABUF, .offset = 4096 }, SNAPSHOT },
	{ "snapshot, heap", { EXPORTER_HEAP, .offset = 4096 }, SNAPSHOT },
};

TEST_WITH_EACH(viewing, exported_views, buffer_view_is_read_only_memory_of_the_buffer) {
	need(param->guarantee);
	dmabuf_fill(f->fd, 0x11);
	struct buffer_view *view = viewing_get_and_wait(f, param->guarantee);
	check(view->done && !view->failed);
	check_int(view->guarantee, ==, param->guarantee);
	check_int(view->width, ==, 64);
	check_int(view->height, ==, 16);
	check_int(view->fourcc, ==, DRM_FORMAT_XRGB8888);
	check_int(view->modifier, ==, DRM_FORMAT_MOD_LINEAR);
	check_int(view->n_planes, ==, 1);
	check_int(view->offsets[0], ==, 4096);
	check_int(view->strides[0], ==, 256);

	// "The view lives on when the wl_buffer is destroyed", and is the memory, or a copy
	viewing_destroy_buffer(f);
	client_roundtrip(f->client);
	check_int(dmabuf_read_first_byte(view->fds[0]), ==, 0x11);
	dmabuf_fill(f->fd, 0x22);
	check_int(dmabuf_read_first_byte(view->fds[0]), ==,
		param->guarantee == SNAPSHOT ? 0x11 : 0x22);
}

TEST_WITH(viewing, buffer_view_prefers_the_stronger_guarantee) {
	vitrine_view_manager_v1_set_allowed(f->server.manager, VITRINE_GUARANTEE_ALL);
	uint32_t acceptable = VITRINE_GUARANTEE_ALL & ~VITRINE_GUARANTEE_SEALED; // of memfds alone
	for (size_t i = 1; i < N_PREFERENCE; i++) {
		struct buffer_view *view = viewing_get_and_wait(f, acceptable);
		check(view->done);
		check_int(view->guarantee, ==, get_preferred(i));
		acceptable &= ~preference[i];
	}
}

TEST_PARAMS(viewing, views_of_planes, uint32_t guarantee) = {
	{ "guarded", { .fourcc = DRM_FORMAT_NV12 }, GUARDED },
	{ "fd-read-only", { .fourcc = DRM_FORMAT_NV12 }, FD_READ_ONLY },
	{ "snapshot", { .fourcc = DRM_FORMAT_NV12 }, SNAPSHOT },
};

TEST_WITH_EACH(viewing, views_of_planes, buffer_view_passes_planes_and_offsets_through) {
	need(param->guarantee);
	struct buffer_view *view = viewing_get_and_wait(f, param->guarantee);
	check(view->done);
	check_int(view->fourcc, ==, DRM_FORMAT_NV12);
	check_int(view->n_planes, ==, 2);
	check_int(view->offsets[0], ==, 0);
	check_int(view->offsets[1], ==, 256 * 16);
}

/* Before the start of a buffer view */

#define ERROR(name) XX_DMABUF_VIEW_V1_ERROR_##name

static void set_no_guarantee(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_guarantees(view->proxy, 0);
}

static void set_unknown_guarantee(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_guarantees(view->proxy, 16 | 1);
}

static void set_no_storage(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_storages(view->proxy, 0);
}

static void set_unknown_storage(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_storages(view->proxy, 8 | 1);
}

static void add_format_of_no_device(struct buffer_view *view) {
	uint32_t half = 1;
	struct wl_array device = { .size = sizeof(half), .data = &half };
	xx_dmabuf_view_v1_add_format(view->proxy, &device, DRM_FORMAT_XRGB8888, 0, 0);
}

static void add_format_of_more_than_a_device(struct buffer_view *view) {
	dev_t two[] = { DEVICE, DEVICE };
	struct wl_array device = { .size = sizeof(two), .data = two };
	xx_dmabuf_view_v1_add_format(view->proxy, &device, DRM_FORMAT_XRGB8888, 0, 0);
}

static void add_too_many_formats(struct buffer_view *view) {
	for (uint32_t i = 0; i < 1025; i++) {
		buffer_view_add_format(view, DEVICE, i, 0);
	}
}

static void start_without_guarantees(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_storages(view->proxy, VITRINE_STORAGE_MEMFD);
	xx_dmabuf_view_v1_start(view->proxy);
}

static void start_without_storages(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_guarantees(view->proxy, SNAPSHOT);
	xx_dmabuf_view_v1_start(view->proxy);
}

static void start_dmabuf_without_a_format(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_guarantees(view->proxy, SNAPSHOT);
	xx_dmabuf_view_v1_set_storages(view->proxy, VITRINE_STORAGE_ALL);
	xx_dmabuf_view_v1_start(view->proxy);
}

/** It waits for the fence of the buffer, so that it is neither done nor failed. */
static void start(struct buffer_view *view) {
	xx_dmabuf_view_v1_set_guarantees(view->proxy, SNAPSHOT);
	start_without_guarantees(view);
}

static void start_twice(struct buffer_view *view) {
	start(view);
	xx_dmabuf_view_v1_start(view->proxy);
}

static void set_guarantees_after_start(struct buffer_view *view) {
	start(view);
	xx_dmabuf_view_v1_set_guarantees(view->proxy, SNAPSHOT);
}

static void set_storages_after_start(struct buffer_view *view) {
	start(view);
	xx_dmabuf_view_v1_set_storages(view->proxy, VITRINE_STORAGE_MEMFD);
}

static void add_format_after_start(struct buffer_view *view) {
	start(view);
	buffer_view_add_format(view, DEVICE, DRM_FORMAT_XRGB8888, 0);
}

TEST_PARAMS(viewing, bad_setups, void (*say)(struct buffer_view *view); uint32_t error) = {
	{ "invalid_guarantee, empty", {0}, set_no_guarantee, ERROR(INVALID_GUARANTEE) },
	{ "invalid_guarantee, unknown", {0}, set_unknown_guarantee, ERROR(INVALID_GUARANTEE) },
	{ "invalid_storage, empty", {0}, set_no_storage, ERROR(INVALID_STORAGE) },
	{ "invalid_storage, unknown", {0}, set_unknown_storage, ERROR(INVALID_STORAGE) },
	{ "invalid_format, no dev_t", {0}, add_format_of_no_device, ERROR(INVALID_FORMAT) },
	{ "invalid_format, two dev_t", {0}, add_format_of_more_than_a_device,
		ERROR(INVALID_FORMAT) },
	{ "invalid_format, too many", {0}, add_too_many_formats, ERROR(INVALID_FORMAT) },
	{ "incomplete, guarantees", {0}, start_without_guarantees, ERROR(INCOMPLETE) },
	{ "incomplete, storages", {0}, start_without_storages, ERROR(INCOMPLETE) },
	{ "incomplete, format", {0}, start_dmabuf_without_a_format, ERROR(INCOMPLETE) },
	{ "already_started, start", { .fence = true }, start_twice, ERROR(ALREADY_STARTED) },
	{ "already_started, guarantees", { .fence = true }, set_guarantees_after_start,
		ERROR(ALREADY_STARTED) },
	{ "already_started, storages", { .fence = true }, set_storages_after_start,
		ERROR(ALREADY_STARTED) },
	{ "already_started, format", { .fence = true }, add_format_after_start,
		ERROR(ALREADY_STARTED) },
};

TEST_WITH_EACH(viewing, bad_setups, error_of_buffer_view) {
	struct buffer_view *view = viewing_create_unstarted(f);
	client_roundtrip(f->client);
	check(!view->done && !view->failed);
	param->say(view);
	client_expect_error(f->client, &xx_dmabuf_view_v1_interface, param->error);
}

TEST_WITH(viewing, nothing_is_sent_before_a_buffer_view_starts) {
	struct buffer_view *view = viewing_create_unstarted(f);
	viewing_destroy_buffer(f); // "right after this request"
	client_roundtrip(f->client);
	check(!view->has_format && !view->failed);
	start(view);
	viewing_wait(f, view);
	check(view->done);
	// Described, it takes no more requests, whatever they say
	start_twice(view);
	set_unknown_guarantee(view);
	client_roundtrip(f->client);
	check_int(wl_display_get_error(f->client->display), ==, 0);
}

/** "A setter that is called again replaces what it said before" */
TEST_WITH(viewing, buffer_view_is_what_was_asked_for_last) {
	struct buffer_view *view = viewing_create_unstarted(f);
	xx_dmabuf_view_v1_set_guarantees(view->proxy, GUARDED);
	xx_dmabuf_view_v1_set_storages(view->proxy, VITRINE_STORAGE_DMABUF);
	start(view);
	viewing_wait(f, view);
	check(view->done);
	check_int(view->guarantee, ==, SNAPSHOT);
	check_int(view->storage, ==, VITRINE_STORAGE_MEMFD);
}

TEST_WITH(viewing, buffer_view_that_has_not_started_is_charged_and_can_go) {
	f->server.manager->limits.objects.per_holder = 1;
	struct buffer_view *view = viewing_create_unstarted(f);
	client_roundtrip(f->client);
	check(!view->failed);
	view_check_failed(viewing_get_and_wait(f, SNAPSHOT),
		XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	buffer_view_finish(view);
	check(viewing_get_and_wait(f, SNAPSHOT)->done);
}

TEST_WITH(viewing, buffer_view_that_has_not_started_goes_with_its_client) {
	struct buffer_view *view = viewing_create_unstarted(f);
	client_roundtrip(f->client);
	wl_client_destroy(f->client->wl_client);
	pump(&f->server);
	check(!view->done && !view->failed);
}

/** Says what the client reads, and waits for the answer. */
static struct buffer_view *viewing_ask(struct viewing *f, uint32_t acceptable,
		uint32_t storages, dev_t device, uint32_t fourcc) {
	struct buffer_view *view = viewing_create_unstarted(f);
	xx_dmabuf_view_v1_set_guarantees(view->proxy, acceptable);
	xx_dmabuf_view_v1_set_storages(view->proxy, storages);
	buffer_view_add_format(view, device, fourcc, DRM_FORMAT_MOD_LINEAR);
	xx_dmabuf_view_v1_start(view->proxy);
	viewing_wait(f, view);
	return view;
}

TEST_WITH(viewing, buffer_view_is_of_a_storage_and_a_format_that_was_asked_for) {
	const uint32_t memfd = VITRINE_STORAGE_MEMFD, dmabuf = VITRINE_STORAGE_DMABUF;
	const uint32_t xrgb = DRM_FORMAT_XRGB8888, nv12 = DRM_FORMAT_NV12;
	struct buffer_view *view = viewing_ask(f, GUARDED | SNAPSHOT, dmabuf | memfd, DEVICE, xrgb);
	check_int(view->guarantee, ==, GUARDED);
	check_int(view->storage, ==, dmabuf);
	view = viewing_ask(f, GUARDED | SNAPSHOT, dmabuf | memfd, DEVICE, nv12);
	check_int(view->guarantee, ==, SNAPSHOT);
	check_int(view->storage, ==, memfd);
	view = viewing_ask(f, GUARDED | SNAPSHOT, memfd, 0, xrgb);
	check_int(view->guarantee, ==, SNAPSHOT);
	check_int(view->storage, ==, memfd);
	view_check_failed(viewing_ask(f, GUARDED | SNAPSHOT, memfd, 0, nv12),
		XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
	view_check_failed(viewing_ask(f, GUARDED, memfd, 0, xrgb),
		XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
	view_check_failed(viewing_ask(f, SNAPSHOT, dmabuf, DEVICE, xrgb),
		XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
}

TEST_WITH(viewing, buffer_view_that_nothing_can_give_is_unsupported) {
	view_check_failed(viewing_get_and_wait(f, VITRINE_GUARANTEE_SEALED),
		XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
}

static struct vitrine_view_permission deny_all(const struct vitrine_view_request *request,
		void *data) {
	check(request->source == NULL);
	return (struct vitrine_view_permission){ .storages = VITRINE_STORAGE_ALL };
}

TEST_WITH(viewing, buffer_view_of_a_denied_client_is_denied) {
	vitrine_view_manager_v1_set_policy(f->server.manager, deny_all, NULL);
	view_check_failed(viewing_get_and_wait(f, VITRINE_GUARANTEE_ALL),
		XX_DMABUF_VIEW_V1_FAILURE_DENIED);
}

TEST_WITH(viewing, buffer_view_waits_for_writes_without_stalling_the_compositor, .fence = true) {
	struct buffer_view *view = viewing_get(f, SNAPSHOT);
	struct buffer_view *dying = viewing_get(f, SNAPSHOT);
	for (uint32_t i = 0; i < 20; i++) {
		check(output_paint(f->server.output, fixture_color(i), NULL));
		pump(&f->server);
		client_roundtrip(f->client);
	}
	check(!view->done && !view->failed);
	buffer_view_finish(dying);
	fence_signal(&f->fence);
	pump_until(&f->server, view->done);
}

/** How a view that waits loses what it was allowed when it started. */
static void deny(struct server *server) {
	vitrine_view_manager_v1_set_policy(server->manager, deny_all, NULL);
}

static void lock_screen(struct server *server) {
	vitrine_view_manager_v1_set_locked(server->manager, true);
}

static void allow_no_copies(struct server *server) {
	vitrine_view_manager_v1_set_allowed(server->manager, VITRINE_GUARANTEE_SEALED);
}

TEST_PARAMS(viewing, changes_of_mind, void (*change)(struct server *server); uint32_t failure) = {
	{ "denied", { .fence = true }, deny, XX_DMABUF_VIEW_V1_FAILURE_DENIED },
	{ "locked", { .fence = true }, lock_screen, XX_DMABUF_VIEW_V1_FAILURE_DENIED },
	{ "not allowed", { .fence = true }, allow_no_copies, XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED },
};

TEST_WITH_EACH(viewing, changes_of_mind, buffer_view_that_waits_is_sent_by_the_policy_of_then) {
	struct buffer_view *view = viewing_get(f, SNAPSHOT);
	client_roundtrip(f->client);
	check(!view->done && !view->failed);
	param->change(&f->server);
	fence_signal(&f->fence);
	pump_until(&f->server, view->done || view->failed);
	view_check_failed(view, param->failure);
}

TEST_WITH_EACH(viewing, changes_of_mind, buffer_view_that_is_copied_is_sent_by_the_policy_of_then) {
	struct buffer_view *view = viewing_get(f, SNAPSHOT);
	client_roundtrip(f->client);
	fence_signal(&f->fence);
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	while (wl_list_empty(&manager->copies)) {
		check(!view->done && !view->failed);
		wl_event_loop_dispatch(f->server.loop, -1);
	}
	param->change(&f->server);
	pump_until(&f->server, view->done || view->failed);
	view_check_failed(view, param->failure);
}

TEST_WITH(viewing, buffer_views_beyond_the_quota_fail_with_no_resources, .fence = true) {
	f->server.manager->limits.objects.per_holder = 2;
	for (int i = 0; i < 3; i++) {
		viewing_get(f, SNAPSHOT);
	}
	client_roundtrip(f->client);
	check(!f->views[0].failed && !f->views[1].failed);
	view_check_failed(&f->views[2], XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	fence_signal(&f->fence);
	pump_until(&f->server, f->views[0].done && f->views[1].done);
}

TEST_WITH(viewing, buffer_views_beyond_the_file_descriptors_fail_with_no_resources) {
	struct vitrine_view_limit *limit = &f->server.manager->limits.fds;
	*limit = (struct vitrine_view_limit){ 1000, 1000, 100 };
	check(viewing_get_and_wait(f, SNAPSHOT)->done);
	viewing_finish_views(f);
	// Its plane, and what waits for that
	limit->per_holder = 1;
	view_check_failed(viewing_get_and_wait(f, SNAPSHOT),
		XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	// And what its copy takes beside
	limit->per_holder = 4;
	view_check_failed(viewing_get_and_wait(f, SNAPSHOT),
		XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	limit->per_holder = 100;
	check(viewing_get_and_wait(f, SNAPSHOT)->done);
}

TEST_WITH(viewing, copies_that_a_client_keeps_are_charged) {
	f->server.manager->limits.private_bytes.per_holder = 4 * DMABUF_SIZE;
	struct buffer_view *view;
	do {
		view = viewing_get_and_wait(f, SNAPSHOT);
	} while (!view->failed);
	check_int(f->n_views, >, 2);
	check_int(f->n_views, <=, 32);
	check_int(view->reason, ==, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	viewing_finish_views(f);
	// Everything is closed: the client may go on as soon as that is known
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	if (harness_kernel_tells_pins()) {
		pump_until(&f->server, manager->quotas.all.used[VT_QUOTA_PRIVATE_BYTES] == 0);
		check(viewing_get_and_wait(f, SNAPSHOT)->done);
	}
}

/** Else copies of several holders begin together, and take more than there may be. */
TEST_WITH(viewing, copy_is_charged_before_it_is_made, .fence = true) {
	const struct vt_manager *manager = wl_container_of(f->server.manager, manager, base);
	struct buffer_view *view = viewing_get(f, SNAPSHOT);
	client_roundtrip(f->client);
	fence_signal(&f->fence);
	while (wl_list_empty(&manager->copies)) {
		check(!view->done && !view->failed);
		wl_event_loop_dispatch(f->server.loop, -1);
	}
	check_int(manager->quotas.all.used[VT_QUOTA_PRIVATE_BYTES], ==, COPY_SIZE);
	viewing_wait(f, view);
	check(view->done);
	check_int(manager->quotas.all.used[VT_QUOTA_PRIVATE_BYTES], ==, COPY_SIZE);
}

TEST_WITH(viewing, copies_that_wait_for_each_other_are_charged_together) {
	f->server.manager->limits.private_bytes.per_holder = 4 * COPY_SIZE;
	for (int i = 0; i < 8; i++) {
		viewing_get(f, SNAPSHOT);
	}
	int n_done = 0;
	for (int i = 0; i < 8; i++) {
		viewing_wait(f, &f->views[i]);
		n_done += f->views[i].done;
		check(f->views[i].done ||
			f->views[i].reason == XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	}
	check_int(n_done, ==, 4);
}

TEST_WITH(viewing, planes_of_one_memory_are_charged_each, .fourcc = DRM_FORMAT_NV12) {
	f->server.manager->limits.private_bytes.per_holder = 2 * COPY_SIZE;
	view_check_failed(viewing_get_and_wait(f, SNAPSHOT),
		XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	f->server.manager->limits.private_bytes.per_holder = 3 * COPY_SIZE;
	check(viewing_get_and_wait(f, SNAPSHOT)->done);
}

#define LARGE_SIZE (4 << 20)

TEST_WITH(viewing, buffer_view_can_go_while_it_is_copied,
		.size = LARGE_SIZE, .offset = LARGE_SIZE - 8192, .leaves_copies = true) {
	f->server.manager->limits.fds = (struct vitrine_view_limit){ 1000, 1000, 1000 };
	for (int i = 0; i < 16; i++) {
		struct buffer_view *dying = viewing_get(f, SNAPSHOT);
		struct buffer_view *waiting = viewing_get(f, SNAPSHOT);
		for (int j = 0; j < i % 4; j++) {
			pump_wait(&f->server);
		}
		buffer_view_finish(dying);
		if (i % 2 == 0) {
			viewing_wait(f, waiting); // its turn comes
			check(waiting->done);
		}
		buffer_view_finish(waiting);
		client_roundtrip(f->client);
	}
}

/* What a client could do once the compositor has found its buffer idle. */

static const uint64_t copied_sizes[WLR_DMABUF_MAX_PLANES] = { DMABUF_SIZE };

TEST_WITH(viewing, copy_waits_for_a_fence_in_its_own_thread, .fence = true) {
	const struct wlr_dmabuf_attributes dmabuf = { .n_planes = 1, .fd = { f->fd } };
	dmabuf_fill(f->fd, 0x11);
	struct vt_buffer_copy *copy = vt_buffer_copy_start(&dmabuf, copied_sizes, -1);
	check(copy != NULL);
	check(!dmabuf_poll(vt_buffer_copy_get_fd(copy), POLLIN, 100));
	dmabuf_fill(f->fd, 0x22);
	fence_signal(&f->fence);
	check(dmabuf_poll(vt_buffer_copy_get_fd(copy), POLLIN, -1));
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	struct vt_buffer_copy_layout layout;
	check_int(vt_buffer_copy_take(copy, derived, &layout), ==, 0);
	check_int(dmabuf_read_first_byte(derived[0].fd), ==, 0x22);
	close(derived[0].fd);
	vt_buffer_copy_destroy(copy);
}

TEST_WITH(viewing, copy_without_a_waiter_comes_to_its_end, .fence = true) {
	const struct wlr_dmabuf_attributes dmabuf = { .n_planes = 1, .fd = { f->fd } };
	int n_fds = harness_count_fds();
	vt_buffer_copy_destroy(vt_buffer_copy_start(&dmabuf, copied_sizes, -1));
	fence_signal(&f->fence);
	wait_for_threads(n_fds);
}

TEST_WITH(viewing, pending_buffer_view_fails_when_the_compositor_goes, .fence = true) {
	struct buffer_view *view = viewing_get(f, SNAPSHOT);
	client_roundtrip(f->client);
	wl_client_destroy(f->client->wl_client); // with the view in the event loop
	fence_signal(&f->fence);
	pump(&f->server);
	check(!view->done);
}

/* derive/ on real dma-bufs */

TEST_EACH(dmabuf_guarantees, fd_limit_leaks_nothing) {
	need(param->options.acceptable);
	struct vitrine_derive *derive = vitrine_derive_create();
	const struct vitrine_derive_source source = {
		.memfd = -1, .dmabuf_fd = dmabuf_create(EXPORTER_UDMABUF), .size = DMABUF_SIZE,
	};
	struct vitrine_derived_fd derived;
	check_int(vitrine_derive_fd(derive, &source, param->options.acceptable, &derived), ==, 0);
	int lowest_free = derived.fd;
	close(derived.fd);
	int n_fds = harness_count_fds();
	struct rlimit saved;
	check_ok(getrlimit(RLIMIT_NOFILE, &saved));
	struct rlimit limit = { (rlim_t)lowest_free, saved.rlim_max };
	check_ok(setrlimit(RLIMIT_NOFILE, &limit));
	int ret = vitrine_derive_fd(derive, &source, param->options.acceptable, &derived);
	check_ok(setrlimit(RLIMIT_NOFILE, &saved));
	check_int(ret, ==, -EMFILE);
	check_int(harness_count_fds(), ==, n_fds);
	close(source.dmabuf_fd);
	vitrine_derive_destroy(derive);
}

TEST_EACH(dmabuf_guarantees, what_is_no_dmabuf_is_refused) {
	need(param->options.acceptable);
	struct vitrine_derive *derive = vitrine_derive_create();
	int memfd = vitrine_memfd_create(DMABUF_SIZE);
	struct vitrine_derive_source source = {
		.memfd = -1, .dmabuf_fd = memfd, .size = DMABUF_SIZE,
	};
	struct vitrine_derived_fd derived;
	int ret = vitrine_derive_fd(derive, &source, param->options.acceptable, &derived);
	check(ret == -ENOTTY || ret == -EINVAL);
	source.dmabuf_fd = 9999;
	check_int(vitrine_derive_fd(derive, &source, param->options.acceptable, &derived), ==,
		-EBADF);
	close(memfd);
	vitrine_derive_destroy(derive);
}

static int verify(int fd, uint32_t guarantee, uint64_t size, const char **reason) {
	return vitrine_verify_fd(fd, VITRINE_STORAGE_DMABUF, guarantee, size, reason);
}

TEST(library_makes_a_udmabuf_of_a_memfd) {
	struct vitrine_derive *derive = vitrine_derive_create();
	int memfd = vitrine_memfd_create(DMABUF_SIZE);
	check_int(memfd, >=, 0);
	int fd = vitrine_udmabuf_create(derive, memfd, DMABUF_SIZE);
	check_int(fd, >=, 0);
	dmabuf_fill(fd, 0x33);
	uint8_t byte = 0;
	check_int(pread(memfd, &byte, 1, DMABUF_SIZE - 1), ==, 1);
	check_int(byte, ==, 0x33);
	close(fd);
	close(memfd);
	vitrine_derive_destroy(derive);
}

TEST(verify_tells_a_guard_from_a_read_only_fd) {
	// What the seed's objectors said: O_RDONLY is not read-only
	int fd = dmabuf_create_from_heap(O_RDONLY, 4096);
	const char *reason = NULL;
	check_int(verify(fd, FD_READ_ONLY, 4096, &reason), ==, 0);
	check_int(verify(fd, GUARDED, 4096, &reason), ==, -EPERM);
	check_str(reason, "the dma-buf is not guarded");
	check_int(verify(fd, FD_READ_ONLY, 8192, &reason), ==, -EPERM);
	close(fd);

	int writable = dmabuf_create_sized(EXPORTER_UDMABUF, 4096);
	check_int(verify(writable, FD_READ_ONLY, 4096, &reason), ==, -EPERM);
	check_str(reason, "not open with O_RDONLY");
	close(writable);
}
