/* SPDX-License-Identifier: MIT */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "image.h"

struct comparison {
	unsigned tolerance; // by how much a colour of a pixel may differ, of 255
	double fuzz; // how many pixels may differ by more, in percent

	// Set by image_compare()
	uint64_t n_pixels, n_different; // of those, by more than the tolerance
	unsigned most; // by how much a colour differs at most
	bool same_size, same;
};

/** Reads a PNG; what is transparent is on black. Returns 0, or -1 with `reason` set. */
int image_read_png(struct image *image, const char *path, char reason[static 128]);

void image_compare(const struct image *image, const struct image *golden,
	struct comparison *comparison);
/**
 * Has the picture show where the two differ, by more than the tolerance: in red, on the grey
 * of the golden one. Returns 0 or -ENOMEM.
 */
int image_show_differences(struct image *picture, const struct image *image,
	const struct image *golden, unsigned tolerance);

#endif
