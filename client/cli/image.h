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
