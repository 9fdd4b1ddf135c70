/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <libyuv.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wayland-client-protocol.h>

#include "yuv.h"

/** Pixels of four bytes: in the frame, or changed and turned. */
struct pixels {
	const uint8_t *bytes;
	uint32_t stride; // in bytes
	uint32_t width, height;
	const struct ArgbConstants *bt601, *bt709; // for the order of their bytes
};

/** A format that libyuv reads. Its names have the order of bytes backwards, as DRM's do. */
struct readable_format {
	uint32_t fourcc;
	const struct ArgbConstants *bt601, *bt709;
	int (*change)(const uint8_t *, int, uint8_t *, int, int, int); // to that order; may be NULL
};

static const struct readable_format formats[] = {
	{ DRM_FORMAT_XRGB8888, &kArgbI601Constants, &kArgbH709Constants, NULL },
	{ DRM_FORMAT_ARGB8888, &kArgbI601Constants, &kArgbH709Constants, NULL },
	{ DRM_FORMAT_XBGR8888, &kAbgrI601Constants, &kAbgrH709Constants, NULL },
	{ DRM_FORMAT_ABGR8888, &kAbgrI601Constants, &kAbgrH709Constants, NULL },
	{ DRM_FORMAT_RGBX8888, &kRgbaI601Constants, &kRgbaH709Constants, NULL },
	{ DRM_FORMAT_RGBA8888, &kRgbaI601Constants, &kRgbaH709Constants, NULL },
	{ DRM_FORMAT_BGRX8888, &kBgraI601Constants, &kBgraH709Constants, NULL },
	{ DRM_FORMAT_BGRA8888, &kBgraI601Constants, &kBgraH709Constants, NULL },
	{ DRM_FORMAT_XRGB2101010, &kArgbI601Constants, &kArgbH709Constants, AR30ToARGB },
	{ DRM_FORMAT_ARGB2101010, &kArgbI601Constants, &kArgbH709Constants, AR30ToARGB },
	{ DRM_FORMAT_XBGR2101010, &kArgbI601Constants, &kArgbH709Constants, AB30ToARGB },
	{ DRM_FORMAT_ABGR2101010, &kArgbI601Constants, &kArgbH709Constants, AB30ToARGB },
};

static const struct readable_format *find_format(uint32_t fourcc) {
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (formats[i].fourcc == fourcc) {
			return &formats[i];
		}
	}
	return NULL;
}

static uint32_t round_up(uint32_t side, bool even) {
	return side + (even && side % 2 != 0);
}

void yuv_layout_init(struct yuv_layout *layout, const struct raster *raster, bool even) {
	uint32_t width, height;
	raster_get_upright_size(raster, &width, &height);
	*layout = (struct yuv_layout){
		.width = width,
		.height = height,
		.luma_width = round_up(width, even),
		.luma_height = round_up(height, even),
		.is_bt709 = width >= 1280 || height > 576,
	};
}

size_t yuv_get_size(const struct yuv_layout *layout) {
	return (size_t)layout->luma_width * layout->luma_height +
		2 * (size_t)yuv_get_chroma_width(layout) * yuv_get_chroma_height(layout);
}

/** How to turn an image clockwise, once its rows are upside down if it is flipped. */
static enum RotationMode get_rotation(uint32_t transform) {
	switch (transform) {
	case WL_OUTPUT_TRANSFORM_90:
	case WL_OUTPUT_TRANSFORM_FLIPPED_90:
		return kRotate90;
	case WL_OUTPUT_TRANSFORM_180:
	case WL_OUTPUT_TRANSFORM_FLIPPED:
		return kRotate180;
	case WL_OUTPUT_TRANSFORM_270:
	case WL_OUTPUT_TRANSFORM_FLIPPED_270:
		return kRotate270;
	}
	return kRotate0;
}

static int scratch_resize(struct yuv_scratch *scratch, size_t len) {
	for (int i = 0; i < 2; i++) {
		if (scratch->pixels[i] == NULL || scratch->len < len) {
			free(scratch->pixels[i]);
			scratch->pixels[i] = malloc(len);
		}
	}
	scratch->len = len;
	return scratch->pixels[0] != NULL && scratch->pixels[1] != NULL ? 0 : -ENOMEM;
}

/** To the right order of bytes. */
static void change(struct pixels *pixels, const struct readable_format *format,
		struct yuv_scratch *scratch) {
	uint32_t stride = pixels->width * 4;
	format->change(pixels->bytes, (int)pixels->stride, scratch->pixels[0], (int)stride,
		(int)pixels->width, (int)pixels->height);
	pixels->bytes = scratch->pixels[0];
	pixels->stride = stride;
}

static void turn(struct pixels *pixels, uint32_t transform, struct yuv_scratch *scratch) {
	bool swap = transform & WL_OUTPUT_TRANSFORM_90;
	bool flipped = transform >= WL_OUTPUT_TRANSFORM_FLIPPED;
	uint32_t width = swap ? pixels->height : pixels->width;
	uint32_t height = swap ? pixels->width : pixels->height;
	ARGBRotate(pixels->bytes, (int)pixels->stride, scratch->pixels[1], (int)width * 4,
		(int)pixels->width, flipped ? -(int)pixels->height : (int)pixels->height,
		get_rotation(transform));
	*pixels = (struct pixels){ scratch->pixels[1], width * 4, width, height, pixels->bt601,
		pixels->bt709 };
}

/** Pixels that libyuv reads, upright. */
static int load_readable(const struct raster *raster, struct yuv_scratch *scratch,
		struct pixels *pixels) {
	const struct readable_format *format = find_format(raster->fourcc);
	*pixels = (struct pixels){ raster->bytes, raster->stride, raster->width, raster->height,
		format->bt601, format->bt709 };
	// libyuv counts in int
	if (pixels->bytes == NULL || (uint64_t)raster->stride * raster->height > INT_MAX) {
		return -ENOTSUP;
	}
	if (format->change == NULL && raster->transform == WL_OUTPUT_TRANSFORM_NORMAL) {
		return 0;
	}
	int ret = scratch_resize(scratch, (size_t)raster->width * raster->height * 4);
	if (ret < 0) {
		return ret;
	}
	if (format->change != NULL) {
		change(pixels, format, scratch);
	}
	if (raster->transform != WL_OUTPUT_TRANSFORM_NORMAL) {
		turn(pixels, raster->transform, scratch);
	}
	return 0;
}

/** Any other pixels. */
static int load_other(const struct raster *raster, struct yuv_scratch *scratch,
		struct pixels *pixels) {
	const struct image *image = &scratch->image;
	int ret = image_copy_raster(&scratch->image, raster);
	if (ret == 0 && (uint64_t)image->width * image->height * 4 > INT_MAX) {
		return -ENOTSUP;
	}
	*pixels = (struct pixels){ (const uint8_t *)image->pixels, image->width * 4, image->width,
		image->height, &kArgbI601Constants, &kArgbH709Constants };
	return ret;
}

/** Fills what the luma has more than the picture. Of chroma there is no more. */
static void repeat_edge(const struct yuv_layout *layout, uint8_t *luma) {
	size_t stride = layout->luma_width;
	for (uint32_t y = 0; stride > layout->width && y < layout->height; y++) {
		luma[y * stride + layout->width] = luma[y * stride + layout->width - 1];
	}
	if (layout->luma_height > layout->height) {
		memcpy(luma + layout->height * stride, luma + (layout->height - 1) * stride, stride);
	}
}

int yuv_convert(const struct yuv_layout *layout, const struct raster *raster,
		struct yuv_scratch *scratch, uint8_t *yuv) {
	struct pixels pixels;
	bool readable = find_format(raster->fourcc) != NULL;
	int ret = readable ? load_readable(raster, scratch, &pixels) :
		load_other(raster, scratch, &pixels);
	if (ret < 0) {
		return ret;
	}
	uint32_t chroma_width = yuv_get_chroma_width(layout);
	uint8_t *u = yuv + (size_t)layout->luma_width * layout->luma_height;
	uint8_t *v = u + (size_t)chroma_width * yuv_get_chroma_height(layout);
	ARGBToI420Matrix(pixels.bytes, (int)pixels.stride, yuv, (int)layout->luma_width, u,
		(int)chroma_width, v, (int)chroma_width,
		layout->is_bt709 ? pixels.bt709 : pixels.bt601, (int)pixels.width,
		(int)pixels.height);
	repeat_edge(layout, yuv);
	return 0;
}

void yuv_scratch_finish(struct yuv_scratch *scratch) {
	image_finish(&scratch->image);
	free(scratch->pixels[0]);
	free(scratch->pixels[1]);
	*scratch = (struct yuv_scratch){0};
}
