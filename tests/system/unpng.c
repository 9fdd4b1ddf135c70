/* SPDX-License-Identifier: MIT */
/** Writes the pixels of a picture as they are, as a PPM: usage: unpng FILE.png FILE.ppm */
#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *why) {
	fprintf(stderr, "unpng: %s: %s\n", what, why);
	return EXIT_FAILURE;
}

int main(int argc, char *argv[]) {
	if (argc != 3) {
		return fail("usage", "unpng FILE.png FILE.ppm");
	}
	png_image image = { .version = PNG_IMAGE_VERSION };
	if (!png_image_begin_read_from_file(&image, argv[1])) {
		return fail(argv[1], image.message);
	}
	image.format = PNG_FORMAT_RGB;
	png_bytep pixels = malloc(PNG_IMAGE_SIZE(image));
	if (pixels == NULL || !png_image_finish_read(&image, NULL, pixels, 0, NULL)) {
		png_image_free(&image);
		free(pixels);
		return fail(argv[1], image.message);
	}
	FILE *file = fopen(argv[2], "wb");
	bool written = file != NULL &&
		fprintf(file, "P6 %u %u 255\n", image.width, image.height) > 0 &&
		fwrite(pixels, PNG_IMAGE_SIZE(image), 1, file) == 1;
	written = (file == NULL || fclose(file) == 0) && written;
	free(pixels);
	return written ? EXIT_SUCCESS : fail(argv[2], "not written");
}
