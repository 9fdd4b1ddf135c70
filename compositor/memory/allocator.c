/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <wlr/backend.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>
#include <xf86drm.h>

/**
 * Whether the renderer draws on a device whose memory is not the system's.
 * Devices without hardware are there for software renderers.
 */
static bool renderer_has_gpu(struct wlr_renderer *renderer) {
	int drm_fd = wlr_renderer_get_drm_fd(renderer);
	if (drm_fd < 0 || (renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR)) {
		return false;
	}
	drmVersion *version = drmGetVersion(drm_fd);
	if (version == NULL) {
		return true;
	}
	bool is_virtual = strcmp(version->name, "vgem") == 0 || strcmp(version->name, "vkms") == 0;
	drmFreeVersion(version);
	return !is_virtual;
}

static struct wlr_allocator *create_dumb_on_device(const char *path,
		struct wlr_renderer *renderer) {
	int drm_fd = open(path, O_RDWR | O_CLOEXEC);
	if (drm_fd < 0) {
		wlr_log_errno(WLR_ERROR, "Failed to open %s", path);
		return NULL;
	}
	struct wlr_allocator *allocator = vitrine_allocator_create_dumb(drm_fd, renderer);
	close(drm_fd);
	return allocator;
}

struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	const char *forced = getenv("VITRINE_ALLOCATOR");
	if (forced != NULL && strcmp(forced, "memfd") == 0) {
		return vitrine_allocator_create(backend, renderer);
	} else if (forced != NULL && strcmp(forced, "dumb") == 0) {
		return vitrine_allocator_create_dumb(wlr_backend_get_drm_fd(backend), renderer);
	} else if (forced != NULL && strncmp(forced, "dumb:", strlen("dumb:")) == 0) {
		return create_dumb_on_device(forced + strlen("dumb:"), renderer);
	}
	// With a GPU, buffers in system memory would cost more than views gain
	bool stock = renderer_has_gpu(renderer) ||
		(forced != NULL && strcmp(forced, "wlroots") == 0);
	struct wlr_allocator *allocator =
		stock ? NULL : vitrine_allocator_create(backend, renderer);
	return allocator != NULL ? allocator : wlr_allocator_autocreate(backend, renderer);
}
