/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "file.h"
#include "image.h"

/** Rows that are written at a time. */
#define N_ROWS 64

int image_write_ppm(const struct image *image, struct out_file *file) {
	size_t row_size = 3 * (size_t)image->width;
	uint8_t *rows = malloc(N_ROWS * row_size);
	if (rows == NULL) {
		return -ENOMEM;
	}
	char header[64];
	int len = snprintf(header, sizeof(header), "P6\n%u %u\n255\n", image->width, image->height);
	int ret = out_file_write(file, header, (size_t)len);
	for (uint32_t y = 0; y < image->height && ret == 0; y += N_ROWS) {
		uint32_t n = image->height - y < N_ROWS ? image->height - y : N_ROWS;
		for (uint32_t i = 0; i < n; i++) {
			image_get_rgb_row(image, y + i, rows + i * row_size);
		}
		ret = out_file_write(file, rows, n * row_size);
	}
	free(rows);
	return ret;
}
