/* SPDX-License-Identifier: MIT */
#ifndef CLI_YUV_H
#define CLI_YUV_H

#include "image.h"

/**
 * A picture as planar YUV 4:2:0: luma, blue, red, each without padding. Limited range, with
 * chroma in the middle of four pixels.
 */
struct yuv_layout {
	uint32_t width, height; // of the picture, upright
	uint32_t luma_width, luma_height; // those, or the next even numbers
	bool is_bt709; // else BT.601
};

/** What a conversion needs besides. Zero-initialize. */
struct yuv_scratch {
	struct image image; // for formats that libyuv does not read
	uint8_t *pixels[2]; // changed to another format, and turned
	size_t len; // of each, in bytes
};

/**
 * The layout for pictures like this one, with even sides if the reader needs them. The matrix
 * is the one that players assume for the size: BT.709 for high definition, BT.601 for less.
 */
void yuv_layout_init(struct yuv_layout *layout, const struct raster *raster, bool even);
static inline uint32_t yuv_get_chroma_width(const struct yuv_layout *layout) {
	return (layout->luma_width + 1) / 2;
}
static inline uint32_t yuv_get_chroma_height(const struct yuv_layout *layout) {
	return (layout->luma_height + 1) / 2;
}
size_t yuv_get_size(const struct yuv_layout *layout);

/**
 * Converts a picture that has this layout, upright, without a copy of it if it can be had. At
 * an even edge that the picture has not, the last pixel is repeated. Returns 0, -ENOTSUP if the
 * format cannot be converted or is not mapped, -ENOMEM.
 */
int yuv_convert(const struct yuv_layout *layout, const struct raster *raster,
	struct yuv_scratch *scratch, uint8_t *yuv);
void yuv_scratch_finish(struct yuv_scratch *scratch);

#endif
