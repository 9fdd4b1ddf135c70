/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wayland-client-protocol.h>

#include "image.h"

/** A packed format: where the high 8 bits of each component are. */
struct packed_format {
	uint32_t fourcc;
	uint8_t cpp; // bytes per pixel
	uint8_t r_shift, g_shift, b_shift;
	uint8_t rb_bits, g_bits;
};

static const struct packed_format formats[] = {
	{ DRM_FORMAT_XRGB8888, 4, 16, 8, 0, 8, 8 },
	{ DRM_FORMAT_ARGB8888, 4, 16, 8, 0, 8, 8 },
	{ DRM_FORMAT_XBGR8888, 4, 0, 8, 16, 8, 8 },
	{ DRM_FORMAT_ABGR8888, 4, 0, 8, 16, 8, 8 },
	{ DRM_FORMAT_RGBX8888, 4, 24, 16, 8, 8, 8 },
	{ DRM_FORMAT_RGBA8888, 4, 24, 16, 8, 8, 8 },
	{ DRM_FORMAT_BGRX8888, 4, 8, 16, 24, 8, 8 },
	{ DRM_FORMAT_BGRA8888, 4, 8, 16, 24, 8, 8 },
	{ DRM_FORMAT_XRGB2101010, 4, 20, 10, 0, 10, 10 },
	{ DRM_FORMAT_ARGB2101010, 4, 20, 10, 0, 10, 10 },
	{ DRM_FORMAT_XBGR2101010, 4, 0, 10, 20, 10, 10 },
	{ DRM_FORMAT_ABGR2101010, 4, 0, 10, 20, 10, 10 },
	{ DRM_FORMAT_RGB888, 3, 16, 8, 0, 8, 8 },
	{ DRM_FORMAT_BGR888, 3, 0, 8, 16, 8, 8 },
	{ DRM_FORMAT_RGB565, 2, 11, 5, 0, 5, 6 },
	{ DRM_FORMAT_BGR565, 2, 0, 5, 11, 5, 6 },
};

static const struct packed_format *find_format(uint32_t fourcc) {
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (formats[i].fourcc == fourcc) {
			return &formats[i];
		}
	}
	return NULL;
}

uint32_t image_get_cpp(uint32_t fourcc) {
	const struct packed_format *format = find_format(fourcc);
	return format != NULL ? format->cpp : 0;
}

/** Scales a component of `bits` bits to 8. */
static uint32_t get_component(uint32_t pixel, uint8_t shift, uint8_t bits) {
	uint32_t value = pixel >> shift & ((1u << bits) - 1);
	if (bits >= 8) {
		return value >> (bits - 8);
	}
	return value << (8 - bits) | value >> (2 * bits - 8);
}

static uint32_t load_pixel(const uint8_t *bytes, uint8_t cpp) {
	// DRM formats are little-endian
	uint32_t pixel = 0;
	for (uint8_t i = 0; i < cpp; i++) {
		pixel |= (uint32_t)bytes[i] << 8 * i;
	}
	return pixel;
}

static uint32_t convert_pixel(const struct packed_format *format, const uint8_t *bytes) {
	uint32_t pixel = load_pixel(bytes, format->cpp);
	return get_component(pixel, format->r_shift, format->rb_bits) << 16 |
		get_component(pixel, format->g_shift, format->g_bits) << 8 |
		get_component(pixel, format->b_shift, format->rb_bits);
}

static bool is_xrgb8888(const struct packed_format *format) {
	return format->cpp == 4 && format->rb_bits == 8 && format->r_shift == 16;
}

static void convert_row(const struct packed_format *format, const uint8_t *bytes, uint32_t *row,
		uint32_t width) {
	if (is_xrgb8888(format)) {
		for (uint32_t x = 0; x < width; x++) {
			row[x] = load_pixel(bytes + 4 * (size_t)x, 4) & 0xffffff;
		}
		return;
	}
	for (uint32_t x = 0; x < width; x++) {
		row[x] = convert_pixel(format, bytes + format->cpp * (size_t)x);
	}
}

static bool transform_swaps_sides(uint32_t transform) {
	return transform & WL_OUTPUT_TRANSFORM_90;
}

/** Where the pixel of the buffer is in the upright picture. */
static size_t get_upright_index(const struct image *image, uint32_t transform, uint32_t x,
		uint32_t y, uint32_t width, uint32_t height) {
	uint32_t x2 = width - 1 - x, y2 = height - 1 - y;
	size_t stride = image->width;
	switch (transform) {
	case WL_OUTPUT_TRANSFORM_90:
		return x * stride + y2;
	case WL_OUTPUT_TRANSFORM_180:
		return y2 * stride + x2;
	case WL_OUTPUT_TRANSFORM_270:
		return x2 * stride + y;
	case WL_OUTPUT_TRANSFORM_FLIPPED:
		return y * stride + x2;
	case WL_OUTPUT_TRANSFORM_FLIPPED_90:
		return x * stride + y;
	case WL_OUTPUT_TRANSFORM_FLIPPED_180:
		return y2 * stride + x;
	case WL_OUTPUT_TRANSFORM_FLIPPED_270:
		return x2 * stride + y2;
	}
	return y * stride + x;
}

void raster_init(struct raster *raster, const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	*raster = (struct raster){
		.bytes = vitrine_frame_get_pixels(frame, 0),
		.fourcc = info->fourcc,
		.width = info->width,
		.height = info->height,
		.stride = info->strides[0],
		.transform = info->transform,
	};
}

void raster_init_image(struct raster *raster, const struct image *image) {
	*raster = (struct raster){
		.bytes = (const uint8_t *)image->pixels,
		.fourcc = DRM_FORMAT_XRGB8888,
		.width = image->width,
		.height = image->height,
		.stride = image->width * (uint32_t)sizeof(image->pixels[0]),
	};
}

void raster_get_upright_size(const struct raster *raster, uint32_t *width, uint32_t *height) {
	bool swap = transform_swaps_sides(raster->transform);
	*width = swap ? raster->height : raster->width;
	*height = swap ? raster->width : raster->height;
}

/** The reverse of get_upright_index(). */
static void find_in_buffer(const struct raster *raster, uint32_t upright_x, uint32_t upright_y,
		uint32_t *x, uint32_t *y) {
	bool swap = transform_swaps_sides(raster->transform);
	*x = swap ? upright_y : upright_x;
	*y = swap ? upright_x : upright_y;
	switch (raster->transform) {
	case WL_OUTPUT_TRANSFORM_180:
	case WL_OUTPUT_TRANSFORM_270:
	case WL_OUTPUT_TRANSFORM_FLIPPED:
	case WL_OUTPUT_TRANSFORM_FLIPPED_270:
		*x = raster->width - 1 - *x;
	}
	switch (raster->transform) {
	case WL_OUTPUT_TRANSFORM_90:
	case WL_OUTPUT_TRANSFORM_180:
	case WL_OUTPUT_TRANSFORM_FLIPPED_180:
	case WL_OUTPUT_TRANSFORM_FLIPPED_270:
		*y = raster->height - 1 - *y;
	}
}

int raster_crop(struct raster *raster, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
	uint32_t cpp = image_get_cpp(raster->fourcc);
	if (cpp == 0 || raster->bytes == NULL) {
		return -ENOTSUP;
	}
	uint32_t x1, y1, x2, y2;
	find_in_buffer(raster, x, y, &x1, &y1);
	find_in_buffer(raster, x + width - 1, y + height - 1, &x2, &y2);
	uint32_t left = x1 < x2 ? x1 : x2, top = y1 < y2 ? y1 : y2;
	raster->bytes += (size_t)top * raster->stride + (size_t)left * cpp;
	bool swap = transform_swaps_sides(raster->transform);
	raster->width = swap ? height : width;
	raster->height = swap ? width : height;
	return 0;
}

int image_resize(struct image *image, uint32_t width, uint32_t height) {
	size_t n = (size_t)width * height;
	if (n > image->capacity) {
		free(image->pixels);
		image->capacity = 0;
		image->pixels = calloc(n, sizeof(image->pixels[0]));
		if (image->pixels == NULL) {
			return -ENOMEM;
		}
		image->capacity = n;
	}
	image->width = width;
	image->height = height;
	return 0;
}

int image_copy_raster(struct image *image, const struct raster *raster) {
	const struct packed_format *format = find_format(raster->fourcc);
	const uint8_t *bytes = raster->bytes;
	if (format == NULL || bytes == NULL) {
		return -ENOTSUP;
	}
	uint32_t width, height;
	raster_get_upright_size(raster, &width, &height);
	int ret = image_resize(image, width, height);
	if (ret < 0) {
		return ret;
	}

	for (uint32_t y = 0; y < raster->height; y++, bytes += raster->stride) {
		if (raster->transform == WL_OUTPUT_TRANSFORM_NORMAL) {
			convert_row(format, bytes, image->pixels + (size_t)y * image->width, image->width);
			continue;
		}
		for (uint32_t x = 0; x < raster->width; x++) {
			image->pixels[get_upright_index(image, raster->transform, x, y, raster->width,
				raster->height)] = convert_pixel(format, bytes + format->cpp * (size_t)x);
		}
	}
	return 0;
}

int image_copy_frame(struct image *image, const struct vitrine_frame *frame) {
	struct raster raster;
	raster_init(&raster, frame);
	return image_copy_raster(image, &raster);
}

void image_get_rgb_row(const struct image *image, uint32_t y, uint8_t *row) {
	const uint32_t *pixels = image->pixels + (size_t)y * image->width;
	for (uint32_t x = 0; x < image->width; x++) {
		row[3 * (size_t)x] = (uint8_t)(pixels[x] >> 16);
		row[3 * (size_t)x + 1] = (uint8_t)(pixels[x] >> 8);
		row[3 * (size_t)x + 2] = (uint8_t)pixels[x];
	}
}

void image_finish(struct image *image) {
	free(image->pixels);
	*image = (struct image){0};
}
