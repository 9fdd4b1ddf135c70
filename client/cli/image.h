/* SPDX-License-Identifier: MIT */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <vitrine-client/client.h>

/** A private, upright copy of a frame. Zero-initialize. */
struct image {
	uint32_t width, height;
	uint32_t *pixels; // 0x00RRGGBB, rows without padding
	size_t capacity; // in pixels
};

/** Packed pixels that belong to another, as they are in memory. */
struct raster {
	const uint8_t *bytes; // of the first row; NULL if they are not mapped
	uint32_t fourcc, width, height, stride; // in pixels, and bytes
	uint32_t transform; // enum wl_output_transform
};

/** The pixels of the frame, until it is released. */
void raster_init(struct raster *raster, const struct vitrine_frame *frame);
/** The pixels of the image, until it is changed. */
void raster_init_image(struct raster *raster, const struct image *image);
/** The size of the upright picture. */
void raster_get_upright_size(const struct raster *raster, uint32_t *width, uint32_t *height);
/**
 * Leaves a part, which has to be inside: where it is in the upright picture. Nothing is
 * copied. Returns 0, or -ENOTSUP if the format cannot be cut.
 */
int raster_crop(struct raster *raster, uint32_t x, uint32_t y, uint32_t width, uint32_t height);

/** As image_copy_frame(). */
int image_copy_raster(struct image *image, const struct raster *raster);
/**
 * Copies the frame. Returns 0, -ENOTSUP if its format cannot be converted or it
 * is not mapped, -ENOMEM.
 */
int image_copy_frame(struct image *image, const struct vitrine_frame *frame);
/** Has it hold so many pixels, which are black if it held none. Returns 0 or -ENOMEM. */
int image_resize(struct image *image, uint32_t width, uint32_t height);
void image_finish(struct image *image);

/** Bytes per pixel of a packed format, 0 if it is not known. */
uint32_t image_get_cpp(uint32_t fourcc);

struct out_file;
/** Writes a PNG. Returns 0 or a negative errno. */
int image_write_png(const struct image *image, struct out_file *file);
/** The same as a PPM. */
int image_write_ppm(const struct image *image, struct out_file *file);
/** The same as a JPEG, whose quality is from 1 to 100. Fails with -EFBIG too. */
int image_write_jpeg(const struct image *image, struct out_file *file, int quality);
/** Three bytes for each pixel of the row: red, green, blue. */
void image_get_rgb_row(const struct image *image, uint32_t y, uint8_t *row);

#endif
