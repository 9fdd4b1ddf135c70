/* SPDX-License-Identifier: MIT */
/**
 * Looks at a window through read-only views: usage: toplevel FRAMES APP-ID|TITLE
 *
 * Prints a line for each view, and one for what ends it. Ends after so many
 * frames, or when the compositor stops the session.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "ext-foreign-toplevel-list-v1-client-protocol.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "wayland.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define VIEWS_CAP 64

struct view {
	uint32_t width, height, stride, offset;
	const uint8_t *data;
};

static struct {
	struct ext_foreign_toplevel_handle_v1 *toplevel; // NULL before there is one
	const char *name; // its app-id or its title
	struct view views[VIEWS_CAP];
	unsigned long n_frames, n_different, n_wanted;
	uint64_t checksum;
	bool stopped;
} state;

IGNORE_EVENT(handle_closed, struct ext_foreign_toplevel_handle_v1 *toplevel)
IGNORE_EVENT(handle_done, struct ext_foreign_toplevel_handle_v1 *toplevel)
IGNORE_EVENT(handle_text, struct ext_foreign_toplevel_handle_v1 *toplevel, const char *text)

static void handle_name(void *data, struct ext_foreign_toplevel_handle_v1 *toplevel,
		const char *name) {
	if (strcmp(name, state.name) == 0) {
		state.toplevel = toplevel;
	}
}

static const struct ext_foreign_toplevel_handle_v1_listener toplevel_listener = {
	.closed = handle_closed,
	.done = handle_done,
	.title = handle_name,
	.app_id = handle_name,
	.identifier = handle_text,
};

static void handle_toplevel(void *data, struct ext_foreign_toplevel_list_v1 *list,
		struct ext_foreign_toplevel_handle_v1 *toplevel) {
	ext_foreign_toplevel_handle_v1_add_listener(toplevel, &toplevel_listener, NULL);
}

IGNORE_EVENT(handle_finished, struct ext_foreign_toplevel_list_v1 *list)

static const struct ext_foreign_toplevel_list_v1_listener list_listener = {
	.toplevel = handle_toplevel,
	.finished = handle_finished,
};

IGNORE_EVENT(handle_depth, struct xx_dmabuf_view_session_v1 *session, uint32_t depth)
IGNORE_EVENT(handle_view_done, struct xx_dmabuf_view_session_v1 *session, uint32_t index)
IGNORE_EVENT(handle_retired, struct xx_dmabuf_view_session_v1 *session, uint32_t index)
IGNORE_EVENT(handle_damage, struct xx_dmabuf_view_session_v1 *session, uint32_t x, uint32_t y,
	uint32_t width, uint32_t height)
IGNORE_EVENT(handle_transform, struct xx_dmabuf_view_session_v1 *session, uint32_t transform)
IGNORE_EVENT(handle_power, struct xx_dmabuf_view_session_v1 *session)
IGNORE_EVENT(handle_device, struct xx_dmabuf_view_session_v1 *session, uint32_t index,
	struct wl_array *device)
// Released already: each frame is when it comes
IGNORE_EVENT(handle_revoked, struct xx_dmabuf_view_session_v1 *session, uint32_t serial)

static void handle_view(void *data, struct xx_dmabuf_view_session_v1 *session, uint32_t index,
		uint32_t storage, uint32_t width, uint32_t height, uint32_t fourcc, uint32_t mod_hi,
		uint32_t mod_lo, uint32_t guarantee) {
	printf("view %ux%u %s\n", width, height, vitrine_guarantee_name(guarantee));
	if (index < VIEWS_CAP) {
		state.views[index] = (struct view){ .width = width, .height = height };
	}
}

static void handle_plane(void *data, struct xx_dmabuf_view_session_v1 *session, uint32_t index,
		uint32_t plane, int32_t fd, uint32_t offset, uint32_t stride) {
	if (index < VIEWS_CAP) {
		struct view *view = &state.views[index];
		void *map = mmap(NULL, offset + (size_t)stride * view->height, PROT_READ, MAP_SHARED,
			fd, 0);
		view->data = map != MAP_FAILED ? map : NULL;
		view->offset = offset;
		view->stride = stride;
	}
	close(fd);
}

static void handle_fence(void *data, struct xx_dmabuf_view_session_v1 *session, int32_t fd) {
	close(fd);
}

static uint64_t checksum(const struct view *view) {
	uint64_t sum = 0;
	for (uint32_t y = 0; y < view->height; y++) {
		const uint8_t *line = view->data + view->offset + (size_t)y * view->stride;
		for (uint32_t x = 0; x < view->width * 4; x += 4) {
			sum = sum * 31 + line[x] + line[x + 1] + line[x + 2];
		}
	}
	return sum;
}

static void handle_frame(void *data, struct xx_dmabuf_view_session_v1 *session, uint32_t index,
		uint32_t serial, uint32_t sec_hi, uint32_t sec_lo, uint32_t nsec, uint32_t x, uint32_t y,
		uint32_t width, uint32_t height) {
	// More may come together with the last one that is wanted
	if (state.n_frames < state.n_wanted) {
		state.n_frames++;
		if (index < VIEWS_CAP && state.views[index].data != NULL) {
			uint64_t sum = checksum(&state.views[index]);
			state.n_different += sum != state.checksum;
			state.checksum = sum;
		}
	}
	xx_dmabuf_view_session_v1_release(session, serial);
}

static void handle_stopped(void *data, struct xx_dmabuf_view_session_v1 *session,
		uint32_t reason) {
	printf("stopped %u\n", reason);
	state.stopped = true;
}

IGNORE_EVENT(handle_explanation, struct xx_dmabuf_view_session_v1 *session, const char *text)

static const struct xx_dmabuf_view_session_v1_listener session_listener = {
	.depth = handle_depth,
	.off = handle_power,
	.on = handle_power,
	.explanation = handle_explanation,
	.device = handle_device,
	.view = handle_view,
	.plane = handle_plane,
	.view_done = handle_view_done,
	.retired = handle_retired,
	.damage = handle_damage,
	.transform = handle_transform,
	.fence = handle_fence,
	.frame = handle_frame,
	.revoked = handle_revoked,
	.stopped = handle_stopped,
};

static double now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void dispatch(struct wl_display *display) {
	if (wl_display_dispatch(display) < 0) {
		die("lost the connection: %s", strerror(errno));
	}
}

int main(int argc, char *argv[]) {
	if (argc != 3) {
		die("usage: toplevel FRAMES APP-ID|TITLE");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	state.n_wanted = strtoul(argv[1], NULL, 10);
	state.name = argv[2];
	struct wl_display *display = wayland_connect();
	struct ext_foreign_toplevel_list_v1 *list;
	struct ext_foreign_toplevel_image_capture_source_manager_v1 *sources;
	struct xx_dmabuf_view_manager_v1 *views;
	wayland_bind(display, EXIT_FAILURE, (struct wayland_global[]){
		{ &ext_foreign_toplevel_list_v1_interface, 1, &list },
		{ &ext_foreign_toplevel_image_capture_source_manager_v1_interface, 1, &sources },
		{ &xx_dmabuf_view_manager_v1_interface, 1, &views },
		{ 0 } });
	ext_foreign_toplevel_list_v1_add_listener(list, &list_listener, NULL);
	while (state.toplevel == NULL) {
		dispatch(display);
	}
	struct ext_image_capture_source_v1 *source =
		ext_foreign_toplevel_image_capture_source_manager_v1_create_source(sources,
			state.toplevel);
	struct xx_dmabuf_view_session_v1 *session =
		xx_dmabuf_view_manager_v1_create_session(views, source);
	xx_dmabuf_view_session_v1_add_listener(session, &session_listener, NULL);
	xx_dmabuf_view_session_v1_set_guarantees(session, VITRINE_GUARANTEE_ALL);
	xx_dmabuf_view_session_v1_set_storages(session, VITRINE_STORAGE_CPU);
	xx_dmabuf_view_session_v1_start(session);
	double start = now();
	while (!state.stopped && state.n_frames < state.n_wanted) {
		dispatch(display);
	}
	printf("frames %lu different %lu rate %.1f\n", state.n_frames, state.n_different,
		(double)state.n_frames / (now() - start));
	wl_display_disconnect(display);
	return EXIT_SUCCESS;
}
