/* SPDX-License-Identifier: MIT */
/*
 * vkms as the importer that only reads, see kernel/patches: it shows a guarded
 * buffer, which its writeback proves, and does not write back into one. Runs as
 * root under the patched kernel: tests/harness/guest/uml.
 */
#include "selftest.h"

#include "dma_buf_derive.h"

#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

struct output {
	int fd;
	uint32_t crtc, plane, writeback, mode_blob;
};

static int derive(int fd, uint32_t flags) {
	struct dma_buf_derive params = {.flags = flags, .fd = -1};
	if (ioctl(fd, DMA_BUF_IOCTL_DERIVE, &params) < 0) {
		test_skip("no DMA_BUF_IOCTL_DERIVE: %s", strerror(errno));
	}
	return params.fd;
}

static uint64_t property(struct output *output, uint32_t object, uint32_t type,
		const char *name, uint32_t *id) {
	uint64_t value = 0;
	*id = 0;
	drmModeObjectProperties *properties =
		drmModeObjectGetProperties(output->fd, object, type);
	CHECK(properties != NULL);
	for (uint32_t i = 0; i < properties->count_props; i++) {
		drmModePropertyRes *info = drmModeGetProperty(output->fd, properties->props[i]);
		CHECK(info != NULL);
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
		uint32_t type, const char *name, uint64_t value) {
	uint32_t id;
	property(output, object, type, name, &id);
	CHECK(id != 0);
	CHECK(drmModeAtomicAddProperty(request, object, id, value) > 0);
}

static void output_init(struct output *output) {
	output->fd = drm_open("vkms");
	if (output->fd < 0) {
		test_skip("no vkms device");
	}
	CHECK(drmSetClientCap(output->fd, DRM_CLIENT_CAP_UNIVERSAL_PLANES, 1) == 0);
	CHECK(drmSetClientCap(output->fd, DRM_CLIENT_CAP_ATOMIC, 1) == 0);
	CHECK(drmSetClientCap(output->fd, DRM_CLIENT_CAP_WRITEBACK_CONNECTORS, 1) == 0);
	drmModeRes *resources = drmModeGetResources(output->fd);
	CHECK(resources != NULL && resources->count_crtcs > 0);
	output->crtc = resources->crtcs[0];
	for (int i = 0; i < resources->count_connectors; i++) {
		drmModeConnector *connector =
			drmModeGetConnector(output->fd, resources->connectors[i]);
		CHECK(connector != NULL);
		if (connector->connector_type == DRM_MODE_CONNECTOR_WRITEBACK) {
			output->writeback = connector->connector_id;
		}
		drmModeFreeConnector(connector);
	}
	drmModeFreeResources(resources);
	if (output->writeback == 0) {
		test_skip("vkms has no writeback");
	}
	drmModePlaneRes *planes = drmModeGetPlaneResources(output->fd);
	CHECK(planes != NULL);
	for (uint32_t i = 0; i < planes->count_planes; i++) {
		uint32_t id;
		if (property(output, planes->planes[i], DRM_MODE_OBJECT_PLANE, "type", &id) ==
				DRM_PLANE_TYPE_PRIMARY) {
			output->plane = planes->planes[i];
			break;
		}
	}
	drmModeFreePlaneResources(planes);
	CHECK(output->plane != 0);

	drmModeModeInfo mode = {
		.clock = 500,
		.hdisplay = BUFFER_WIDTH,
		.hsync_start = BUFFER_WIDTH + 8,
		.hsync_end = BUFFER_WIDTH + 16,
		.htotal = BUFFER_WIDTH + 24,
		.vdisplay = BUFFER_HEIGHT,
		.vsync_start = BUFFER_HEIGHT + 8,
		.vsync_end = BUFFER_HEIGHT + 16,
		.vtotal = BUFFER_HEIGHT + 24,
		.vrefresh = 60,
		.name = "test",
	};
	CHECK(drmModeCreatePropertyBlob(output->fd, &mode, sizeof(mode), &output->mode_blob) ==
		0);
}

static uint32_t framebuffer(struct output *output, int buffer) {
	uint32_t handles[4] = {0}, pitches[4] = {BUFFER_WIDTH * 4}, offsets[4] = {0}, id;
	CHECK(drm_import(output->fd, buffer, &handles[0]) == 0);
	CHECK(drmModeAddFB2(output->fd, BUFFER_WIDTH, BUFFER_HEIGHT, DRM_FORMAT_XRGB8888,
		      handles, pitches, offsets, &id, 0) == 0);
	return id;
}

/* 0 or the negative errno of the commit. */
static int show(struct output *output, uint32_t shown, uint32_t written, uint32_t flags,
		int *fence) {
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	CHECK(request != NULL);
	const uint32_t crtc = DRM_MODE_OBJECT_CRTC, plane = DRM_MODE_OBJECT_PLANE;
	set(output, request, output->crtc, crtc, "MODE_ID", output->mode_blob);
	set(output, request, output->crtc, crtc, "ACTIVE", 1);
	set(output, request, output->plane, plane, "FB_ID", shown);
	set(output, request, output->plane, plane, "CRTC_ID", output->crtc);
	set(output, request, output->plane, plane, "SRC_W", BUFFER_WIDTH << 16);
	set(output, request, output->plane, plane, "SRC_H", BUFFER_HEIGHT << 16);
	set(output, request, output->plane, plane, "CRTC_W", BUFFER_WIDTH);
	set(output, request, output->plane, plane, "CRTC_H", BUFFER_HEIGHT);
	const uint32_t connector = DRM_MODE_OBJECT_CONNECTOR;
	set(output, request, output->writeback, connector, "CRTC_ID", output->crtc);
	set(output, request, output->writeback, connector, "WRITEBACK_FB_ID", written);
	if (fence != NULL) {
		set(output, request, output->writeback, connector, "WRITEBACK_OUT_FENCE_PTR",
			(uint64_t)(uintptr_t)fence);
	}
	int ret = drmModeAtomicCommit(output->fd, request,
		flags | DRM_MODE_ATOMIC_ALLOW_MODESET, NULL);
	drmModeAtomicFree(request);
	return ret < 0 ? -errno : 0;
}

static void test_shows_guarded_buffer(enum exporter exporter) {
	struct output output = {.fd = -1};
	output_init(&output);
	int source = buffer_create(exporter);
	int guarded = derive(source, O_RDONLY);
	/* vkms has one object of its own buffers, so there can be no second one. */
	uint32_t handle;
	if (exporter == EXPORTER_VKMS) {
		CHECK_ERRNO(drm_import(output.fd, guarded, &handle), EACCES);
		return;
	}
	int target = buffer_create(EXPORTER_UDMABUF);
	uint32_t *pixels = buffer_map(source, PROT_READ | PROT_WRITE);
	volatile uint32_t *written = buffer_map(target, PROT_READ | PROT_WRITE);
	CHECK(pixels != MAP_FAILED && written != MAP_FAILED);
	for (uint32_t i = 0; i < BUFFER_WIDTH * BUFFER_HEIGHT; i++) {
		pixels[i] = i * 4099 % 0x1000000;
		written[i] = 0;
	}
	/* The importer has no other than the guarded fd. */
	close(source);
	uint32_t shown = framebuffer(&output, guarded);
	uint32_t back = framebuffer(&output, target);
	int fence = -1;
	CHECK(show(&output, shown, back, 0, &fence) == 0);
	CHECK(fence >= 0 && buffer_poll(fence, POLLIN, 5000));
	close(fence);
	for (uint32_t i = 0; i < BUFFER_WIDTH * BUFFER_HEIGHT; i++) {
		CHECK((written[i] & 0xffffff) == (pixels[i] & 0xffffff));
	}
}

static void test_no_writeback_into_guarded(enum exporter exporter) {
	struct output output = {.fd = -1};
	output_init(&output);
	if (exporter == EXPORTER_VKMS) {
		test_skip("vkms takes no guards of its own buffers");
	}
	int target = buffer_create(exporter);
	uint32_t shown = framebuffer(&output, buffer_create(EXPORTER_UDMABUF));
	uint32_t full = framebuffer(&output, target);
	uint32_t guarded = framebuffer(&output, derive(target, O_RDONLY));
	CHECK(show(&output, shown, full, DRM_MODE_ATOMIC_TEST_ONLY, NULL) == 0);
	CHECK(show(&output, shown, guarded, DRM_MODE_ATOMIC_TEST_ONLY, NULL) == -EACCES);
	CHECK(show(&output, shown, guarded, 0, NULL) == -EACCES);
}

int main(int argc, char *argv[]) {
	static const struct test tests[] = {
		{"vkms shows a guarded buffer", test_shows_guarded_buffer, false},
		{"no writeback into a guarded buffer", test_no_writeback_into_guarded, false},
	};
	return selftest_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
