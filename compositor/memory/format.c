/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <inttypes.h>
#include <stddef.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/util/log.h>

#include "format.h"

static uint32_t get_bytes_per_pixel(uint32_t fourcc) {
	switch (fourcc) {
	case DRM_FORMAT_RGB565:
	case DRM_FORMAT_BGR565:
		return 2;
	case DRM_FORMAT_ARGB8888:
	case DRM_FORMAT_XRGB8888:
	case DRM_FORMAT_ABGR8888:
	case DRM_FORMAT_XBGR8888:
	case DRM_FORMAT_RGBA8888:
	case DRM_FORMAT_RGBX8888:
	case DRM_FORMAT_BGRA8888:
	case DRM_FORMAT_BGRX8888:
	case DRM_FORMAT_ARGB2101010:
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ABGR2101010:
	case DRM_FORMAT_XBGR2101010:
		return 4;
	case DRM_FORMAT_ABGR16161616:
	case DRM_FORMAT_XBGR16161616:
	case DRM_FORMAT_ABGR16161616F:
	case DRM_FORMAT_XBGR16161616F:
		return 8;
	}
	return 0;
}

static bool allows_linear(const struct wlr_drm_format *format) {
	for (size_t i = 0; i < format->len; i++) {
		if (format->modifiers[i] == DRM_FORMAT_MOD_LINEAR ||
				format->modifiers[i] == DRM_FORMAT_MOD_INVALID) {
			return true;
		}
	}
	return false;
}

uint32_t vt_format_get_bytes_per_pixel(const struct wlr_drm_format *format, int width,
		int height) {
	if (!allows_linear(format)) {
		wlr_log(WLR_ERROR, "Buffers are linear, which format 0x%08" PRIX32 " does not allow here",
			format->format);
		return 0;
	}
	uint32_t bytes_per_pixel = get_bytes_per_pixel(format->format);
	if (bytes_per_pixel == 0 || width <= 0 || height <= 0) {
		wlr_log(WLR_ERROR, "Unsupported buffer: %dx%d, format 0x%08" PRIX32,
			width, height, format->format);
		return 0;
	}
	return bytes_per_pixel;
}

bool vt_format_is_deep(uint32_t fourcc) {
	return get_bytes_per_pixel(fourcc) > 4;
}

uint32_t vt_format_get_deep(uint32_t fourcc) {
	switch (fourcc) {
	case DRM_FORMAT_ARGB2101010:
	case DRM_FORMAT_XRGB2101010:
		return DRM_FORMAT_XRGB2101010;
	case DRM_FORMAT_ABGR2101010:
	case DRM_FORMAT_XBGR2101010:
		return DRM_FORMAT_XBGR2101010;
	case DRM_FORMAT_ABGR16161616F:
	case DRM_FORMAT_XBGR16161616F:
		return DRM_FORMAT_XBGR16161616F;
	}
	return 0;
}
