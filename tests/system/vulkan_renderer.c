/* SPDX-License-Identifier: MIT */
/**
 * A library to preload: the compositor gets wlroots' Vulkan renderer on any device,
 * where wlroots itself would look for one with a DRM node. Lavapipe has none.
 */
#include <wlr/render/vulkan.h>

struct wlr_renderer *wlr_renderer_autocreate(struct wlr_backend *backend) {
	return wlr_vk_renderer_create_with_drm_fd(-1);
}
