/* SPDX-License-Identifier: MIT */
/*
 * vkms as the importer that only reads, see kernel/patches: it shows a guarded
 * buffer, which its writeback proves, and does not write back into one. Runs as
 * root under the patched kernel: tests/harness/guest/uml.
 */
#include "selftest.h"

#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

struct output {
	int fd;
	uint32_t crtc, plane, writeback, mode_blob;
};

static uint64_t property(struct output *output, uint32_t object, const char *name,
		uint32_t *id) {
	uint64_t value = 0;
	*id = 0;
	drmModeObjectProperties *properties =
		drmModeObjectGetProperties(output->fd, object, DRM_MODE_OBJECT_ANY);
	check(properties != NULL);
	for (uint32_t i = 0; i < properties->count_props; i++) {
		drmModePropertyRes *info = drmModeGetProperty(output->fd, properties->props[i]);
		check(info != NULL);
		if (strcmp(info->name, name) == 0) {
			*id = info->prop_id;
			value = properties->prop_values[i];
		}
		drmModeFreeProperty(info);
	}
	drmModeFreeObjectProperties(properties);
	return value;
}

static void set(struct output *output, drmModeAtomicReq *request, uint32_t object,
		const char *name, uint64_t value) {
	uint32_t id;
	property(output, object, name, &id);
	check(id != 0);
	check(drmModeAtomicAddProperty(request, object, id, value) > 0);
}

static void output_init(struct output *output) {
	output->fd = drm_open("vkms");
	check_ok(drmSetClientCap(output->fd, DRM_CLIENT_CAP_UNIVERSAL_PLANES, 1));
	check_ok(drmSetClientCap(output->fd, DRM_CLIENT_CAP_ATOMIC, 1));
	check_ok(drmSetClientCap(output->fd, DRM_CLIENT_CAP_WRITEBACK_CONNECTORS, 1));
	drmModeRes *resources = drmModeGetResources(output->fd);
	check(resources != NULL && resources->count_crtcs > 0);
	output->crtc = resources->crtcs[0];
	for (int i = 0; i < resources->count_connectors; i++) {
		drmModeConnector *connector =
			drmModeGetConnector(output->fd, resources->connectors[i]);
		check(connector != NULL);
		if (connector->connector_type == DRM_MODE_CONNECTOR_WRITEBACK) {
			output->writeback = connector->connector_id;
		}
		drmModeFreeConnector(connector);
	}
	drmModeFreeResources(resources);
	if (output->writeback == 0) {
		harness_skip("vkms has no writeback");
	}
	drmModePlaneRes *planes = drmModeGetPlaneResources(output->fd);
	check(planes != NULL);
	for (uint32_t i = 0; i < planes->count_planes; i++) {
		uint32_t id;
		if (property(output, planes->planes[i], "type", &id) ==
				DRM_PLANE_TYPE_PRIMARY) {
			output->plane = planes->planes[i];
			break;
		}
	}
	drmModeFreePlaneResources(planes);
	check(output->plane != 0);

	drmModeModeInfo mode = {
		.clock = 500,
		.hdisplay = DMABUF_WIDTH,
		.hsync_start = DMABUF_WIDTH + 8,
		.hsync_end = DMABUF_WIDTH + 16,
		.htotal = DMABUF_WIDTH + 24,
		.vdisplay = DMABUF_HEIGHT,
		.vsync_start = DMABUF_HEIGHT + 8,
		.vsync_end = DMABUF_HEIGHT + 16,
		.vtotal = DMABUF_HEIGHT + 24,
		.vrefresh = 60,
		.name = "test",
	};
	check_ok(drmModeCreatePropertyBlob(output->fd, &mode, sizeof(mode), &output->mode_blob));
}

static uint32_t framebuffer(struct output *output, int buffer) {
	uint32_t handles[4] = {0}, pitches[4] = {DMABUF_WIDTH * 4}, offsets[4] = {0}, id;
	check_ok(drmPrimeFDToHandle(output->fd, buffer, &handles[0]));
	check_ok(drmModeAddFB2(output->fd, DMABUF_WIDTH, DMABUF_HEIGHT, DRM_FORMAT_XRGB8888,
		      handles, pitches, offsets, &id, 0));
	return id;
}

/* 0 or the negative errno of the commit. */
static int show(struct output *output, uint32_t shown, uint32_t written, uint32_t flags,
		int *fence) {
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	check(request != NULL);
	set(output, request, output->crtc, "MODE_ID", output->mode_blob);
	set(output, request, output->crtc, "ACTIVE", 1);
	set(output, request, output->plane, "FB_ID", shown);
	set(output, request, output->plane, "CRTC_ID", output->crtc);
	set(output, request, output->plane, "SRC_W", DMABUF_WIDTH << 16);
	set(output, request, output->plane, "SRC_H", DMABUF_HEIGHT << 16);
	set(output, request, output->plane, "CRTC_W", DMABUF_WIDTH);
	set(output, request, output->plane, "CRTC_H", DMABUF_HEIGHT);
	set(output, request, output->writeback, "CRTC_ID", output->crtc);
	set(output, request, output->writeback, "WRITEBACK_FB_ID", written);
	if (fence != NULL) {
		set(output, request, output->writeback, "WRITEBACK_OUT_FENCE_PTR",
			(uint64_t)(uintptr_t)fence);
	}
	int ret = drmModeAtomicCommit(output->fd, request,
		flags | DRM_MODE_ATOMIC_ALLOW_MODESET, NULL);
	drmModeAtomicFree(request);
	return ret < 0 ? -errno : 0;
}

TEST_EACH_EXPORTER(vkms_shows_a_guarded_buffer) {
	struct output output = {.fd = -1};
	output_init(&output);
	int guarded = derive_checked(f->fd, O_RDONLY);
	/* vkms has one object of its own buffers, so there can be no second one. */
	uint32_t handle;
	if (param->options.exporter == EXPORTER_VKMS) {
		check_errno(drmPrimeFDToHandle(output.fd, guarded, &handle), EACCES);
		return;
	}
	int target = dmabuf_create(EXPORTER_UDMABUF);
	uint32_t *pixels = dmabuf_map(f->fd, PROT_READ | PROT_WRITE);
	volatile uint32_t *written = dmabuf_map(target, PROT_READ | PROT_WRITE);
	for (uint32_t i = 0; i < DMABUF_WIDTH * DMABUF_HEIGHT; i++) {
		pixels[i] = i * 4099 % 0x1000000;
		written[i] = 0;
	}
	/* The importer has no other than the guarded fd. */
	close(f->fd);
	uint32_t shown = framebuffer(&output, guarded);
	uint32_t back = framebuffer(&output, target);
	int fence = -1;
	check_int(show(&output, shown, back, 0, &fence), ==, 0);
	check(fence >= 0 && dmabuf_poll(fence, POLLIN, 5000));
	close(fence);
	for (uint32_t i = 0; i < DMABUF_WIDTH * DMABUF_HEIGHT; i++) {
		check((written[i] & 0xffffff) == (pixels[i] & 0xffffff));
	}
}

TEST_EACH_EXPORTER(no_writeback_into_a_guarded_buffer) {
	struct output output = {.fd = -1};
	output_init(&output);
	if (param->options.exporter == EXPORTER_VKMS) {
		harness_skip("vkms takes no guards of its own buffers");
	}
	uint32_t shown = framebuffer(&output, dmabuf_create(EXPORTER_UDMABUF));
	uint32_t full = framebuffer(&output, f->fd);
	uint32_t guarded = framebuffer(&output, derive_checked(f->fd, O_RDONLY));
	check_int(show(&output, shown, full, DRM_MODE_ATOMIC_TEST_ONLY, NULL), ==, 0);
	check_int(show(&output, shown, guarded, DRM_MODE_ATOMIC_TEST_ONLY, NULL), ==, -EACCES);
	check_int(show(&output, shown, guarded, 0, NULL), ==, -EACCES);
}
