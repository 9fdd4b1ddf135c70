/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wayland-client-protocol.h>

#include "client.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "ext-image-copy-capture-v1-client-protocol.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "vitrine-bench-v1-client-protocol.h"
#include "wlr-export-dmabuf-unstable-v1-client-protocol.h"
#include "wlr-screencopy-unstable-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

/* The limit */

static void bench_handle_tick(void *data, struct vitrine_bench_v1 *bench, uint32_t seq,
		uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec) {
	struct connection *connection = data;
	connection_set_time(connection, tv_sec_hi, tv_sec_lo, tv_nsec);
	connection_frame(connection, NULL);
	vitrine_bench_v1_ack(bench, seq);
}

IGNORE_EVENT(bench_handle_finished, struct vitrine_bench_v1 *bench)
IGNORE_EVENT(bench_handle_stats, struct vitrine_bench_v1 *bench, uint32_t number, uint32_t frames,
	uint32_t missed, uint32_t extra, uint32_t redraw_us, uint32_t rusage_us, uint32_t copied_hi,
	uint32_t copied_lo, uint32_t busy, uint32_t overhead_ns, uint32_t redraw_ns)

static const struct vitrine_bench_v1_listener bench_listener = {
	.tick = bench_handle_tick,
	.finished = bench_handle_finished,
	.stats = bench_handle_stats,
};

static void control_start(struct connection *connection) {
	vitrine_bench_v1_add_listener(connection->bench, &bench_listener, connection);
	vitrine_bench_v1_subscribe(connection->bench);
}

/**
 * Maps what has the pixel that is read. No more: udmabuf maps all pages at the first
 * fault, and in User-Mode Linux each can be a mapping of the host, which has not enough
 * of them for 64 clients in a process.
 */
static struct memory map_first_page(const struct connection *connection, int fd) {
	struct memory memory = {.size = (size_t)sysconf(_SC_PAGESIZE)};
	void *data = mmap(NULL, memory.size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		die("%s: cannot map a buffer: %s", connection->path->name, strerror(errno));
	}
	memory.pixels = data;
	return memory;
}

/* Buffers to copy to */

static void create_buffer(struct connection *connection) {
	int fd;
	size_t size = (size_t)connection->stride * connection->height;
	connection->target = connection_get_target(connection, size, &fd);
	struct wl_shm_pool *pool = wl_shm_create_pool(connection->shm, fd, (int32_t)size);
	connection->buffer = wl_shm_pool_create_buffer(pool, 0, (int32_t)connection->width,
		(int32_t)connection->height, (int32_t)connection->stride, connection->format);
	wl_shm_pool_destroy(pool);
	connection->buffer_is_new = true;
}

/** The device of all clients, whose node VITRINE_BENCH_GPU names. */
static struct gbm_device *get_gbm(void) {
	static struct gbm_device *gbm;
	const char *node = getenv("VITRINE_BENCH_GPU");
	int fd = gbm == NULL && node != NULL ? open(node, O_RDWR | O_CLOEXEC) : -1;
	if (fd >= 0) {
		gbm = gbm_create_device(fd);
	}
	if (gbm == NULL) {
		die_with(STATUS_UNAVAILABLE, "there is no device to make buffers with");
	}
	return gbm;
}

/** As the driver likes it; in a layout that has a name, if it does not know modifiers. */
static struct gbm_bo *create_bo(const struct connection *connection, uint64_t *modifier) {
	struct gbm_device *gbm = get_gbm();
	struct gbm_bo *bo = gbm_bo_create_with_modifiers2(gbm, connection->width, connection->height,
		connection->format, connection->modifiers, connection->modifiers_len,
		GBM_BO_USE_RENDERING);
	if (bo != NULL) {
		*modifier = gbm_bo_get_modifier(bo);
		return bo;
	}
	bool linear = false;
	for (uint32_t i = 0; i < connection->modifiers_len; i++) {
		linear |= connection->modifiers[i] == DRM_FORMAT_MOD_LINEAR;
	}
	*modifier = linear ? DRM_FORMAT_MOD_LINEAR : DRM_FORMAT_MOD_INVALID;
	return gbm_bo_create(gbm, connection->width, connection->height, connection->format,
		GBM_BO_USE_RENDERING | (linear ? GBM_BO_USE_LINEAR : 0));
}

static void create_gpu_buffer(struct connection *connection) {
	if (connection->modifiers_len == 0) {
		die_with(STATUS_UNAVAILABLE, "the compositor copies to no dma-buf here");
	}
	uint64_t modifier;
	connection->bo = create_bo(connection, &modifier);
	if (connection->bo == NULL) {
		die("%s: cannot create a buffer: %s", connection->path->name, strerror(errno));
	}
	struct zwp_linux_buffer_params_v1 *params =
		zwp_linux_dmabuf_v1_create_params(connection->linux_dmabuf);
	for (int i = 0; i < gbm_bo_get_plane_count(connection->bo); i++) {
		int fd = gbm_bo_get_fd_for_plane(connection->bo, i);
		if (fd < 0) {
			die("%s: cannot export a buffer", connection->path->name);
		}
		zwp_linux_buffer_params_v1_add(params, fd, (uint32_t)i,
			gbm_bo_get_offset(connection->bo, i), gbm_bo_get_stride_for_plane(connection->bo, i),
			modifier >> 32, modifier & UINT32_MAX);
		close(fd);
	}
	connection->buffer = zwp_linux_buffer_params_v1_create_immed(params,
		(int32_t)connection->width, (int32_t)connection->height, connection->format, 0);
	zwp_linux_buffer_params_v1_destroy(params);
	connection->buffer_is_new = true;
}

/**
 * The same buffer once more: drivers such as virgl read one that they have made from a copy
 * of their own, unless they have drawn to it themselves.
 */
static struct gbm_bo *import_bo(struct gbm_bo *bo) {
	struct gbm_import_fd_data data = {
		.fd = gbm_bo_get_fd(bo),
		.width = gbm_bo_get_width(bo),
		.height = gbm_bo_get_height(bo),
		.stride = gbm_bo_get_stride(bo),
		.format = gbm_bo_get_format(bo),
	};
	struct gbm_bo *imported =
		gbm_bo_import(get_gbm(), GBM_BO_IMPORT_FD, &data, GBM_BO_USE_RENDERING);
	close(data.fd);
	return imported;
}

/** Waits until the GPU has copied it. */
static uint32_t read_gpu_pixel(struct connection *connection) {
	uint32_t stride;
	void *map_data = NULL;
	struct gbm_bo *bo = import_bo(connection->bo);
	const uint32_t *pixels = bo != NULL ?
		gbm_bo_map(bo, 0, 0, 1, 1, GBM_BO_TRANSFER_READ, &stride, &map_data) : NULL;
	if (pixels == NULL) {
		die("%s: cannot map a buffer: %s", connection->path->name, strerror(errno));
	}
	uint32_t pixel = *pixels;
	gbm_bo_unmap(bo, map_data);
	gbm_bo_destroy(bo);
	return pixel;
}

/* wlr-screencopy */

static void screencopy_capture(struct connection *connection);

static void screencopy_handle_buffer(void *data, struct zwlr_screencopy_frame_v1 *frame,
		uint32_t format, uint32_t width, uint32_t height, uint32_t stride) {
	struct connection *connection = data;
	if (connection->buffer == NULL) {
		connection->format = format;
		connection->width = width;
		connection->height = height;
		connection->stride = stride;
		create_buffer(connection);
	}
}

IGNORE_EVENT(screencopy_handle_flags, struct zwlr_screencopy_frame_v1 *frame, uint32_t flags)

static void screencopy_handle_ready(void *data, struct zwlr_screencopy_frame_v1 *frame,
		uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec) {
	struct connection *connection = data;
	connection_set_time(connection, tv_sec_hi, tv_sec_lo, tv_nsec);
	// It copies everything, whatever the damage
	connection->bytes_copied += (uint64_t)connection->stride * connection->height;
	connection_frame(connection, connection->target.pixels);
	zwlr_screencopy_frame_v1_destroy(frame);
	screencopy_capture(connection);
}

static void screencopy_handle_failed(void *data, struct zwlr_screencopy_frame_v1 *frame) {
	die("wlr-screencopy failed");
}

IGNORE_EVENT(screencopy_handle_damage, struct zwlr_screencopy_frame_v1 *frame, uint32_t x,
	uint32_t y, uint32_t width, uint32_t height)
IGNORE_EVENT(screencopy_handle_linux_dmabuf, struct zwlr_screencopy_frame_v1 *frame,
	uint32_t format, uint32_t width, uint32_t height)

static void screencopy_handle_buffer_done(void *data, struct zwlr_screencopy_frame_v1 *frame) {
	struct connection *connection = data;
	// With damage: each frame that changes something, and no other
	zwlr_screencopy_frame_v1_copy_with_damage(frame, connection->buffer);
}

static const struct zwlr_screencopy_frame_v1_listener screencopy_listener = {
	.buffer = screencopy_handle_buffer,
	.flags = screencopy_handle_flags,
	.ready = screencopy_handle_ready,
	.failed = screencopy_handle_failed,
	.damage = screencopy_handle_damage,
	.linux_dmabuf = screencopy_handle_linux_dmabuf,
	.buffer_done = screencopy_handle_buffer_done,
};

static void screencopy_capture(struct connection *connection) {
	struct zwlr_screencopy_frame_v1 *frame = zwlr_screencopy_manager_v1_capture_output(
		connection->screencopy, 0, connection->output);
	zwlr_screencopy_frame_v1_add_listener(frame, &screencopy_listener, connection);
}

/* ext-image-copy-capture */

static void copy_capture(struct connection *connection);

IGNORE_EVENT(copy_frame_handle_transform, struct ext_image_copy_capture_frame_v1 *frame,
	uint32_t transform)
IGNORE_EVENT(copy_frame_handle_damage, struct ext_image_copy_capture_frame_v1 *frame, int32_t x,
	int32_t y, int32_t width, int32_t height)

static void copy_frame_handle_presentation_time(void *data,
		struct ext_image_copy_capture_frame_v1 *frame, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
		uint32_t tv_nsec) {
	connection_set_time(data, tv_sec_hi, tv_sec_lo, tv_nsec);
}

static void copy_frame_handle_ready(void *data, struct ext_image_copy_capture_frame_v1 *frame) {
	struct connection *connection = data;
	connection->buffer_is_new = false;
	if (!connection->path->gpu) {
		// To shm, wlroots copies everything, whatever the damage
		connection->bytes_copied += (uint64_t)connection->stride * connection->height;
	}
	connection_frame(connection, connection->target.pixels);
	ext_image_copy_capture_frame_v1_destroy(frame);
	copy_capture(connection);
}

static void copy_frame_handle_failed(void *data, struct ext_image_copy_capture_frame_v1 *frame,
		uint32_t reason) {
	die("ext-image-copy-capture failed: reason %u", reason);
}

static const struct ext_image_copy_capture_frame_v1_listener copy_frame_listener = {
	.transform = copy_frame_handle_transform,
	.damage = copy_frame_handle_damage,
	.presentation_time = copy_frame_handle_presentation_time,
	.ready = copy_frame_handle_ready,
	.failed = copy_frame_handle_failed,
};

static void copy_capture(struct connection *connection) {
	struct ext_image_copy_capture_frame_v1 *frame =
		ext_image_copy_capture_session_v1_create_frame(connection->copy_session);
	ext_image_copy_capture_frame_v1_add_listener(frame, &copy_frame_listener, connection);
	ext_image_copy_capture_frame_v1_attach_buffer(frame, connection->buffer);
	if (connection->buffer_is_new) {
		ext_image_copy_capture_frame_v1_damage_buffer(frame, 0, 0, (int32_t)connection->width,
			(int32_t)connection->height);
	}
	ext_image_copy_capture_frame_v1_capture(frame);
}

static void copy_session_handle_buffer_size(void *data,
		struct ext_image_copy_capture_session_v1 *session, uint32_t width, uint32_t height) {
	struct connection *connection = data;
	connection->width = width;
	connection->height = height;
	connection->stride = width * 4;
}

static void copy_session_handle_shm_format(void *data,
		struct ext_image_copy_capture_session_v1 *session, uint32_t format) {
	struct connection *connection = data;
	if (!connection->path->gpu &&
			(format == WL_SHM_FORMAT_XRGB8888 || format == WL_SHM_FORMAT_ARGB8888)) {
		connection->format = format;
	}
}

IGNORE_EVENT(copy_session_handle_dmabuf_device, struct ext_image_copy_capture_session_v1 *session,
	struct wl_array *device)

static void copy_session_handle_dmabuf_format(void *data,
		struct ext_image_copy_capture_session_v1 *session, uint32_t format,
		struct wl_array *modifiers) {
	struct connection *connection = data;
	if (!connection->path->gpu ||
			(format != DRM_FORMAT_XRGB8888 && format != DRM_FORMAT_ARGB8888)) {
		return;
	}
	connection->format = format;
	connection->modifiers_len = 0;
	const uint64_t *modifier;
	wl_array_for_each(modifier, modifiers) {
		if (connection->modifiers_len < MODIFIERS_CAP) {
			connection->modifiers[connection->modifiers_len++] = *modifier;
		}
	}
}

static void copy_session_handle_done(void *data,
		struct ext_image_copy_capture_session_v1 *session) {
	struct connection *connection = data;
	if (connection->buffer == NULL) {
		if (connection->path->gpu) {
			create_gpu_buffer(connection);
		} else {
			create_buffer(connection);
		}
		copy_capture(connection);
	}
}

static void copy_session_handle_stopped(void *data,
		struct ext_image_copy_capture_session_v1 *session) {
	die("ext-image-copy-capture stopped");
}

static const struct ext_image_copy_capture_session_v1_listener copy_session_listener = {
	.buffer_size = copy_session_handle_buffer_size,
	.shm_format = copy_session_handle_shm_format,
	.dmabuf_device = copy_session_handle_dmabuf_device,
	.dmabuf_format = copy_session_handle_dmabuf_format,
	.done = copy_session_handle_done,
	.stopped = copy_session_handle_stopped,
};

static void copy_capture_start(struct connection *connection) {
	struct ext_image_capture_source_v1 *source =
		ext_output_image_capture_source_manager_v1_create_source(connection->sources,
			connection->output);
	connection->copy_session = ext_image_copy_capture_manager_v1_create_session(
		connection->copy_capture, source, 0);
	ext_image_copy_capture_session_v1_add_listener(connection->copy_session,
		&copy_session_listener, connection);
	ext_image_capture_source_v1_destroy(source);
}

/* wlr-export-dmabuf */

static void export_dmabuf_capture(struct connection *connection);

IGNORE_EVENT(export_handle_frame, struct zwlr_export_dmabuf_frame_v1 *frame, uint32_t width,
	uint32_t height, uint32_t offset_x, uint32_t offset_y, uint32_t buffer_flags, uint32_t flags,
	uint32_t format, uint32_t mod_high, uint32_t mod_low, uint32_t num_objects)

/**
 * Buffers have no names in this protocol, but each dma-buf has a number of its own
 * while there is a mapping of it: so that a buffer is mapped once, as it would be by a
 * client that uses it with a GPU.
 */
static const uint32_t *export_get_pixels(struct connection *connection, int fd) {
	struct stat stat;
	if (fstat(fd, &stat) != 0) {
		die("cannot look at a dma-buf: %s", strerror(errno));
	}
	for (size_t i = 0; i < VIEWS_CAP && connection->memories[i].pixels != NULL; i++) {
		if (connection->memories[i].inode == stat.st_ino) {
			return connection->memories[i].pixels;
		}
	}
	struct memory *memory = &connection->memories[connection->memories_len++ % VIEWS_CAP];
	if (memory->pixels != NULL) {
		munmap((void *)memory->pixels, memory->size);
	}
	*memory = map_first_page(connection, fd);
	memory->inode = stat.st_ino;
	return memory->pixels;
}

static void export_handle_object(void *data, struct zwlr_export_dmabuf_frame_v1 *frame,
		uint32_t index, int32_t fd, uint32_t size, uint32_t offset, uint32_t stride,
		uint32_t plane_index) {
	struct connection *connection = data;
	if (index > 0 || offset > 0) {
		die("%s: too many objects", connection->path->name);
	}
	connection->exported = export_get_pixels(connection, fd);
	close(fd);
}

static void export_ask_again(struct connection *connection,
		struct zwlr_export_dmabuf_frame_v1 *frame) {
	zwlr_export_dmabuf_frame_v1_destroy(frame);
	if (bench_is_running()) {
		export_dmabuf_capture(connection);
	} else {
		connection->held_back = true;
	}
}

static void export_handle_ready(void *data, struct zwlr_export_dmabuf_frame_v1 *frame,
		uint32_t tv_sec_hi, uint32_t tv_sec_lo, uint32_t tv_nsec) {
	struct connection *connection = data;
	connection_set_time(connection, tv_sec_hi, tv_sec_lo, tv_nsec);
	connection_frame(connection, connection->exported);
	export_ask_again(connection, frame);
}

static void export_handle_cancel(void *data, struct zwlr_export_dmabuf_frame_v1 *frame,
		uint32_t reason) {
	struct connection *connection = data;
	if (connection->frames == 0 && reason == ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_PERMANENT) {
		die_with(STATUS_UNAVAILABLE, "the compositor cannot export its buffers here");
	}
	if (reason == ZWLR_EXPORT_DMABUF_FRAME_V1_CANCEL_REASON_TEMPORARY) {
		connection->revoked++; // the hardened one does not wait for who is too slow
		export_ask_again(connection, frame);
		return;
	}
	die("%s failed: reason %u", connection->path->name, reason);
}

static const struct zwlr_export_dmabuf_frame_v1_listener export_listener = {
	.frame = export_handle_frame,
	.object = export_handle_object,
	.ready = export_handle_ready,
	.cancel = export_handle_cancel,
};

static void export_dmabuf_capture(struct connection *connection) {
	struct zwlr_export_dmabuf_frame_v1 *frame = zwlr_export_dmabuf_manager_v1_capture_output(
		connection->export_dmabuf, 0, connection->output);
	zwlr_export_dmabuf_frame_v1_add_listener(frame, &export_listener, connection);
}

/* xx-dmabuf-view */

IGNORE_EVENT(session_handle_depth, struct xx_dmabuf_view_session_v1 *session, uint32_t count)

static void session_handle_view(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t index, uint32_t storage, uint32_t width, uint32_t height, uint32_t fourcc,
		uint32_t modifier_hi, uint32_t modifier_lo, uint32_t guarantee) {
	struct connection *connection = data;
	if (guarantee != connection->path->guarantee) {
		die("%s: a view with the guarantee %u", connection->path->name, guarantee);
	}
}

static void session_handle_plane(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t index, uint32_t plane, int32_t fd, uint32_t offset, uint32_t stride) {
	struct connection *connection = data;
	if (connection->path->gpu) {
		close(fd); // the CPU would not see what is in there
		return;
	}
	struct memory *memory = &connection->memories[index % VIEWS_CAP];
	if (memory->pixels != NULL || plane > 0 || offset > 0) {
		die("%s: too many views or planes", connection->path->name);
	}
	*memory = map_first_page(connection, fd);
	close(fd);
}

IGNORE_EVENT(session_handle_power, struct xx_dmabuf_view_session_v1 *session)
IGNORE_EVENT(session_handle_device, struct xx_dmabuf_view_session_v1 *session, uint32_t index,
	struct wl_array *device)
IGNORE_EVENT(session_handle_view_done, struct xx_dmabuf_view_session_v1 *session, uint32_t index)

static void session_handle_retired(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t index) {
	struct connection *connection = data;
	struct memory *memory = &connection->memories[index % VIEWS_CAP];
	munmap((void *)memory->pixels, memory->size);
	memory->pixels = NULL;
}

IGNORE_EVENT(session_handle_damage, struct xx_dmabuf_view_session_v1 *session, uint32_t x,
	uint32_t y, uint32_t width, uint32_t height)
IGNORE_EVENT(session_handle_transform, struct xx_dmabuf_view_session_v1 *session,
	uint32_t transform)

static void session_handle_fence(void *data, struct xx_dmabuf_view_session_v1 *session,
		int32_t fd) {
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};
	poll(&pollfd, 1, 1000);
	close(fd);
}

static void session_handle_frame(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t index, uint32_t serial, uint32_t tv_sec_hi, uint32_t tv_sec_lo,
		uint32_t tv_nsec, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	struct connection *connection = data;
	connection_set_time(connection, tv_sec_hi, tv_sec_lo, tv_nsec);
	// Serials count the frames that were missed, from 1
	connection->skipped += serial - connection->serial - 1;
	connection->serial = serial;
	connection_frame(connection, connection->memories[index % VIEWS_CAP].pixels);
	if (!connection->path->implicit_release) {
		xx_dmabuf_view_session_v1_release(session, serial);
	}
}

static void session_handle_revoked(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t serial) {
	struct connection *connection = data;
	connection->revoked++; // its release is on the way
	connection->number = 0; // what was read may be of a later frame
}

static void session_handle_stopped(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t reason) {
	struct connection *connection = data;
	if (reason == XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_UNSUPPORTED) {
		die_with(STATUS_UNAVAILABLE, "the compositor cannot give %s views here",
			connection->path->name);
	}
	if (!connection->asleep || reason != XX_DMABUF_VIEW_SESSION_V1_STOP_REASON_REVOKED) {
		die("%s: the session stopped: reason %u", connection->path->name, reason);
	}
	connection->stopped = true;
}

IGNORE_EVENT(session_handle_explanation, struct xx_dmabuf_view_session_v1 *session,
	const char *text)

static const struct xx_dmabuf_view_session_v1_listener session_listener = {
	.depth = session_handle_depth,
	.off = session_handle_power,
	.on = session_handle_power,
	.explanation = session_handle_explanation,
	.view = session_handle_view,
	.device = session_handle_device,
	.plane = session_handle_plane,
	.view_done = session_handle_view_done,
	.retired = session_handle_retired,
	.damage = session_handle_damage,
	.transform = session_handle_transform,
	.fence = session_handle_fence,
	.frame = session_handle_frame,
	.revoked = session_handle_revoked,
	.stopped = session_handle_stopped,
};

/** The client reads by the device whose node VITRINE_BENCH_GPU names. */
static void list_gpu_format(struct xx_dmabuf_view_session_v1 *session) {
	const char *node = getenv("VITRINE_BENCH_GPU");
	struct stat stat_buffer;
	if (node == NULL || stat(node, &stat_buffer) != 0) {
		die_with(STATUS_UNAVAILABLE, "there is no device to read with");
	}
	dev_t device = stat_buffer.st_rdev;
	struct wl_array array = { .size = sizeof(device), .alloc = sizeof(device), .data = &device };
	xx_dmabuf_view_session_v1_add_format(session, &array, DRM_FORMAT_XRGB8888,
		DRM_FORMAT_MOD_LINEAR >> 32, DRM_FORMAT_MOD_LINEAR & UINT32_MAX);
}

static void views_start(struct connection *connection) {
	struct ext_image_capture_source_v1 *source =
		ext_output_image_capture_source_manager_v1_create_source(connection->sources,
			connection->output);
	struct xx_dmabuf_view_session_v1 *session = xx_dmabuf_view_manager_v1_create_session(
		connection->views, source);
	xx_dmabuf_view_session_v1_add_listener(session, &session_listener, connection);
	xx_dmabuf_view_session_v1_set_guarantees(session, connection->path->guarantee);
	if (connection->path->gpu) {
		xx_dmabuf_view_session_v1_set_storages(session,
			XX_DMABUF_VIEW_MANAGER_V1_STORAGE_DMABUF);
		list_gpu_format(session);
	} else {
		xx_dmabuf_view_session_v1_set_storages(session,
			XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MEMFD |
			XX_DMABUF_VIEW_MANAGER_V1_STORAGE_MAPPED_DMABUF);
	}
	if (connection->path->implicit_release) {
		xx_dmabuf_view_session_v1_set_implicit_release(session);
	}
	xx_dmabuf_view_session_v1_start(session);
	ext_image_capture_source_v1_destroy(source);
}

/* All of them */

static void baseline_start(struct connection *connection) {
	// Nothing is captured
}

#define NEEDS(...) (const struct wl_interface *const[]){__VA_ARGS__, NULL}

const struct path paths[] = {
	{"baseline", NEEDS(&wl_output_interface), baseline_start, 0, NULL},
	{"control", NEEDS(&vitrine_bench_v1_interface), control_start, 0, NULL},
	{"wlr-screencopy-shm",
		NEEDS(&wl_output_interface, &wl_shm_interface, &zwlr_screencopy_manager_v1_interface),
		screencopy_capture, 0, NULL},
	{"ext-image-copy-capture-shm",
		NEEDS(&wl_output_interface, &wl_shm_interface, &ext_image_copy_capture_manager_v1_interface,
			&ext_output_image_capture_source_manager_v1_interface),
		copy_capture_start, 0, NULL},
	{"ext-image-copy-capture-dmabuf",
		NEEDS(&wl_output_interface, &zwp_linux_dmabuf_v1_interface,
			&ext_image_copy_capture_manager_v1_interface,
			&ext_output_image_capture_source_manager_v1_interface),
		copy_capture_start, 0, NULL, .gpu = true, .read_pixel = read_gpu_pixel},
	{"wlr-export-dmabuf",
		NEEDS(&wl_output_interface, &zwlr_export_dmabuf_manager_v1_interface),
		export_dmabuf_capture, 0, export_dmabuf_capture},
	{"wlr-export-dmabuf-hardened", // by the same name, from another compositor
		NEEDS(&wl_output_interface, &zwlr_export_dmabuf_manager_v1_interface),
		export_dmabuf_capture, 0, export_dmabuf_capture},
#define VIEWS \
	NEEDS(&wl_output_interface, &xx_dmabuf_view_manager_v1_interface, \
		&ext_output_image_capture_source_manager_v1_interface), views_start
	{"sealed", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_SEALED, NULL},
	{"implicit", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_SEALED, NULL,
		.implicit_release = true},
	{"snapshot", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_SNAPSHOT, NULL},
	{"snapshot-dmabuf", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_SNAPSHOT, NULL,
		.gpu = true},
	{"fd-read-only", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_FD_READ_ONLY, NULL,
		.gpu = true},
	{"guarded", VIEWS, XX_DMABUF_VIEW_MANAGER_V1_GUARANTEE_GUARDED, NULL},
};
const size_t paths_len = sizeof(paths) / sizeof(paths[0]);
