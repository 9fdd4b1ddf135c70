/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <png.h>
#include <stdlib.h>

#include "file.h"
#include "image.h"

static void handle_write(png_structp png, png_bytep data, size_t len) {
	if (out_file_write(png_get_io_ptr(png), data, len) < 0) {
		png_error(png, "write");
	}
}

static void handle_flush(png_structp png) {
	// out_file_write() does not buffer
}

static void handle_error(png_structp png, png_const_charp message) {
	png_longjmp(png, 1);
}

static void handle_warning(png_structp png, png_const_charp message) {
	// Nothing a user could do about it
}

static void write_rows(png_structp png, const struct image *image, uint8_t *row) {
	for (uint32_t y = 0; y < image->height; y++) {
		image_get_rgb_row(image, y, row);
		png_write_row(png, row);
	}
}

/** All of what may longjmp; false if it did. No local variable changes after setjmp. */
static bool write_image(png_structp png, png_infop info, const struct image *image,
		struct out_file *file, uint8_t *row) {
	if (setjmp(png_jmpbuf(png)) != 0) {
		return false;
	}
	png_set_write_fn(png, file, handle_write, handle_flush);
	// People wait. Beside the pixel on its left, text is as small as without a filter, and a
	// photograph half as large; to choose a filter row by row takes twice as long as all else.
	png_set_compression_level(png, 1);
	png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
	png_set_IHDR(png, info, image->width, image->height, 8, PNG_COLOR_TYPE_RGB,
		PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	write_rows(png, image, row);
	png_write_end(png, info);
	return true;
}

int image_write_png(const struct image *image, struct out_file *file) {
	int ret = -ENOMEM;
	png_infop info = NULL;
	uint8_t *row = malloc(3 * (size_t)image->width);
	png_structp png =
		png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, handle_error, handle_warning);
	if (png == NULL || row == NULL) {
		goto out;
	}
	info = png_create_info_struct(png);
	if (info == NULL) {
		goto out;
	}
	if (write_image(png, info, image, file, row)) {
		ret = 0;
	} else {
		ret = file->error < 0 ? file->error : -ENOMEM;
	}
out:
	png_destroy_write_struct(&png, &info);
	free(row);
	return ret;
}
