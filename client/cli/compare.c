/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>

#include "compare.h"

/** The largest difference of the three colours. */
static unsigned get_difference(uint32_t a, uint32_t b) {
	unsigned most = 0;
	for (int shift = 0; shift < 24; shift += 8) {
		int difference = abs((int)(a >> shift & 0xff) - (int)(b >> shift & 0xff));
		most = (unsigned)difference > most ? (unsigned)difference : most;
	}
	return most;
}

void image_compare(const struct image *image, const struct image *golden,
		struct comparison *comparison) {
	comparison->n_pixels = (uint64_t)golden->width * golden->height;
	comparison->n_different = 0;
	comparison->most = 0;
	comparison->same_size = image->width == golden->width && image->height == golden->height;
	for (uint64_t i = 0; comparison->same_size && i < comparison->n_pixels; i++) {
		unsigned difference = get_difference(image->pixels[i], golden->pixels[i]);
		comparison->most = difference > comparison->most ? difference : comparison->most;
		comparison->n_different += difference > comparison->tolerance;
	}
	comparison->same = comparison->same_size &&
		(double)comparison->n_different * 100 <= comparison->fuzz * (double)comparison->n_pixels;
}

/** NULL outside of it. */
static const uint32_t *get_pixel(const struct image *image, uint32_t x, uint32_t y) {
	return x < image->width && y < image->height ?
		&image->pixels[(size_t)y * image->width + x] : NULL;
}

static uint32_t show_pixel(const uint32_t *pixel, const uint32_t *golden, unsigned tolerance) {
	if (pixel == NULL || golden == NULL || get_difference(*pixel, *golden) > tolerance) {
		return 0xff0000;
	}
	uint32_t grey = ((*golden >> 16 & 0xff) + (*golden >> 8 & 0xff) + (*golden & 0xff)) / 6;
	return grey << 16 | grey << 8 | grey;
}

int image_show_differences(struct image *picture, const struct image *image,
		const struct image *golden, unsigned tolerance) {
	uint32_t width = image->width > golden->width ? image->width : golden->width;
	uint32_t height = image->height > golden->height ? image->height : golden->height;
	int ret = image_resize(picture, width, height);
	for (uint32_t y = 0; ret == 0 && y < height; y++) {
		for (uint32_t x = 0; x < width; x++) {
			picture->pixels[(size_t)y * width + x] =
				show_pixel(get_pixel(image, x, y), get_pixel(golden, x, y), tolerance);
		}
	}
	return ret;
}

int image_read_png(struct image *image, const char *path, char reason[static 128]) {
	png_image png = { .version = PNG_IMAGE_VERSION };
	if (!png_image_begin_read_from_file(&png, path)) {
		snprintf(reason, 128, "%s", png.message);
		return -1;
	}
	png.format = PNG_FORMAT_RGB;
	uint8_t *rgb = malloc(PNG_IMAGE_SIZE(png));
	const png_color black = {0};
	int ret = -1;
	if (rgb == NULL || image_resize(image, png.width, png.height) < 0) {
		snprintf(reason, 128, "out of memory");
	} else if (!png_image_finish_read(&png, &black, rgb, 0, NULL)) {
		snprintf(reason, 128, "%s", png.message);
	} else {
		for (size_t i = 0; i < (size_t)image->width * image->height; i++) {
			image->pixels[i] = (uint32_t)rgb[3 * i] << 16 | (uint32_t)rgb[3 * i + 1] << 8 |
				rgb[3 * i + 2];
		}
		ret = 0;
	}
	png_image_free(&png);
	free(rgb);
	return ret;
}
