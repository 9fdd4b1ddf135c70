/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <pixman.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"

/** Of a picture that is composed: what pixman's coordinates reach. */
#define MAX_SIDE 32767
/** Scales are quotients of integers: what is nearer than this is the same. */
#define EPSILON 1e-6

/* Drawing */

/** Where something is in the picture, in its pixels. */
struct place {
	double x, y, width, height;
};

/**
 * Whether the pixels are one to one at this scale, given the logical size. That is rounded
 * at scales which are no integers: what is less than a pixel away is no other scale.
 */
static bool fits(uint32_t image_width, uint32_t image_height, double width, double height,
		double scale) {
	double x_scale = image_width / width, y_scale = image_height / height;
	if (fabs(x_scale - round(x_scale)) < EPSILON && fabs(y_scale - x_scale) < EPSILON) {
		return fabs(scale - x_scale) < EPSILON;
	}
	return fabs(width * scale - image_width) < 1 && fabs(height * scale - image_height) < 1;
}

static void draw_exactly(struct image *picture, const struct image *image, int64_t x0, int64_t y0) {
	int64_t left = x0 < 0 ? 0 : x0;
	int64_t right = x0 + image->width < picture->width ? x0 + image->width : picture->width;
	for (int64_t y = y0 < 0 ? 0 : y0; left < right && y < y0 + image->height &&
			y < picture->height; y++) {
		memcpy(picture->pixels + y * picture->width + left,
			image->pixels + (y - y0) * image->width + (left - x0),
			(size_t)(right - left) * sizeof(picture->pixels[0]));
	}
}

/** Each pixel of a smaller picture is the mean of what it stands for. */
static void set_filter(pixman_image_t *source, double x_factor, double y_factor) {
	if (x_factor <= 1 && y_factor <= 1) {
		pixman_image_set_filter(source, PIXMAN_FILTER_BILINEAR, NULL, 0);
		return;
	}
	int n = 0;
	pixman_fixed_t *parameters = pixman_filter_create_separable_convolution(&n,
		pixman_double_to_fixed(fmax(x_factor, 1)), pixman_double_to_fixed(fmax(y_factor, 1)),
		PIXMAN_KERNEL_IMPULSE, PIXMAN_KERNEL_IMPULSE, PIXMAN_KERNEL_BOX, PIXMAN_KERNEL_BOX, 4, 4);
	if (parameters != NULL) {
		pixman_image_set_filter(source, PIXMAN_FILTER_SEPARABLE_CONVOLUTION, parameters, n);
	}
	free(parameters);
}

static pixman_image_t *wrap(const struct image *image) {
	return pixman_image_create_bits_no_clear(PIXMAN_x8r8g8b8, (int)image->width,
		(int)image->height, image->pixels, (int)(image->width * sizeof(image->pixels[0])));
}

/** From where to where in the picture. Returns false if nothing of it is seen there. */
static bool find_seen(const struct place *place, const struct image *picture, int from[static 2],
		int to[static 2]) {
	// Neighbours share an edge, wherever it falls
	from[0] = (int)fmin(fmax(round(place->x), 0), picture->width);
	from[1] = (int)fmin(fmax(round(place->y), 0), picture->height);
	to[0] = (int)fmin(fmax(round(place->x + place->width), 0), picture->width);
	to[1] = (int)fmin(fmax(round(place->y + place->height), 0), picture->height);
	return from[0] < to[0] && from[1] < to[1];
}

static bool composite(pixman_image_t *target, pixman_image_t *source,
		const struct pixman_f_transform *exact, const int from[static 2], const int to[static 2]) {
	struct pixman_transform transform;
	if (!pixman_transform_from_pixman_f_transform(&transform, exact) ||
			!pixman_image_set_transform(source, &transform)) {
		return false;
	}
	pixman_image_set_repeat(source, PIXMAN_REPEAT_PAD);
	pixman_image_composite32(PIXMAN_OP_SRC, source, NULL, target, 0, 0, 0, 0, from[0], from[1],
		to[0] - from[0], to[1] - from[1]);
	return true;
}

/**
 * pixman draws nothing where it would count beyond 16 bits: so it is told of what is seen alone.
 * As layout_draw_part().
 */
static int draw_scaled(struct image *picture, const struct image *image,
		const struct place *place) {
	int from[2], to[2];
	if (image->width > MAX_SIDE || image->height > MAX_SIDE) {
		return -EFBIG;
	}
	if (!find_seen(place, picture, from, to)) {
		return 0;
	}
	pixman_image_t *source = wrap(image), *target = wrap(picture);
	bool ok = source != NULL && target != NULL;
	if (ok) {
		double x_factor = image->width / place->width, y_factor = image->height / place->height;
		struct pixman_f_transform exact;
		pixman_f_transform_init_translate(&exact, from[0] - place->x, from[1] - place->y);
		pixman_f_transform_scale(&exact, NULL, x_factor, y_factor);
		set_filter(source, x_factor, y_factor);
		ok = composite(target, source, &exact, from, to);
	}
	if (source != NULL) {
		pixman_image_unref(source);
	}
	if (target != NULL) {
		pixman_image_unref(target);
	}
	return ok ? 0 : -ENOMEM;
}

static int create_picture(struct image *picture, double width, double height) {
	if (!(width >= 1 - EPSILON && height >= 1 - EPSILON && width <= MAX_SIDE &&
			height <= MAX_SIDE)) {
		return cli_fail("the picture would have %.0f x %.0f pixels; there can be up to %d x %d",
			width, height, MAX_SIDE, MAX_SIDE);
	}
	return image_resize(picture, (uint32_t)(width + EPSILON), (uint32_t)(height + EPSILON)) == 0 ?
		EXIT_SUCCESS : cli_fail("out of memory");
}

int layout_fail(int error, const struct image *image) {
	if (error == -EFBIG) {
		return cli_fail("a picture of %u x %u pixels cannot be scaled; up to %d x %d can",
			image->width, image->height, MAX_SIDE, MAX_SIDE);
	}
	return cli_fail("out of memory, or scaled too much");
}

int layout_scale_image(struct image *image, double scale, double width, double height) {
	if (fits(image->width, image->height, width, height, scale)) {
		return EXIT_SUCCESS;
	}
	const struct place place = { 0, 0, width * scale, height * scale };
	struct image picture = {0};
	int status = create_picture(&picture, place.width, place.height);
	int ret = status == EXIT_SUCCESS ? draw_scaled(&picture, image, &place) : 0;
	if (ret < 0) {
		status = layout_fail(ret, image);
	}
	image_finish(image);
	*image = picture;
	return status;
}

/* Parts */

static bool region_touches(const struct cli_region *region, const struct vitrine_geometry *it) {
	return it->x < region->x + region->width && it->y < region->y + region->height &&
		region->x < (int64_t)it->x + it->width && region->y < (int64_t)it->y + it->height;
}

/** Has the region reach over what is in it and this. */
static void region_extend(struct cli_region *region, const struct vitrine_geometry *it) {
	int64_t right = region->x + region->width, bottom = region->y + region->height;
	if (region->width == 0) {
		*region = (struct cli_region){ it->x, it->y, it->width, it->height };
		return;
	}
	right = it->x + it->width > right ? it->x + it->width : right;
	bottom = it->y + it->height > bottom ? it->y + it->height : bottom;
	region->x = it->x < region->x ? it->x : region->x;
	region->y = it->y < region->y ? it->y : region->y;
	region->width = right - region->x;
	region->height = bottom - region->y;
}

/** The outputs that are to be in the picture. Returns an exit status. */
static int layout_find_parts(struct layout *layout) {
	struct cli *cli = layout->cli;
	size_t len;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(cli->client, &len);
	layout->parts = calloc(len + 1, sizeof(layout->parts[0]));
	if (layout->parts == NULL) {
		return cli_fail("out of memory");
	}
	for (size_t i = 0; i < len; i++) {
		struct layout_part *part = &layout->parts[layout->n_parts];
		if (!vitrine_output_get_geometry(outputs[i], &part->geometry) ||
				(!cli->all && !region_touches(&cli->region, &part->geometry))) {
			continue;
		}
		part->output = outputs[i];
		layout->n_parts++;
	}
	if (layout->n_parts == 0) {
		return cli->all ? cli_fail("the compositor has no output") :
			cli_fail("there is no output in the region");
	}
	return EXIT_SUCCESS;
}

/** Starts all sessions before any frame is waited for, so that all are of one moment. */
static int layout_start(struct layout *layout) {
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct layout_part *part = &layout->parts[i];
		int status = cli_start_session(layout->cli, vitrine_output_get_source(part->output),
			&part->session);
		if (status != EXIT_SUCCESS) {
			return status;
		}
	}
	return EXIT_SUCCESS;
}

/** The scale is that of the sharpest output: nothing that is seen is lost. */
static void layout_measure(struct layout *layout) {
	for (size_t i = 0; i < layout->n_parts; i++) {
		const struct vitrine_geometry *geometry = &layout->parts[i].geometry;
		layout->scale = fmax(layout->scale, geometry->scale);
		if (layout->cli->all) {
			region_extend(&layout->region, geometry);
		}
	}
	if (!layout->cli->all) {
		layout->region = layout->cli->region;
	}
	if (layout->cli->scale > 0) {
		layout->scale = layout->cli->scale;
	}
}

int layout_open(struct layout *layout, struct cli *cli) {
	*layout = (struct layout){ .cli = cli };
	int status = cli->client != NULL ? EXIT_SUCCESS : cli_connect(cli);
	if (status == EXIT_SUCCESS) {
		status = layout_find_parts(layout);
	}
	if (status == EXIT_SUCCESS) {
		layout_measure(layout);
		status = layout_start(layout);
	}
	return status;
}

void layout_finish(struct layout *layout) {
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct layout_part *part = &layout->parts[i];
		vitrine_frame_release(part->frame);
		vitrine_session_destroy(part->session);
		image_finish(&part->image);
	}
	free(layout->parts);
}

/* The picture */

static struct place layout_get_place(const struct layout *layout, const struct layout_part *part) {
	return (struct place){
		.x = (double)(part->geometry.x - layout->region.x) * layout->scale,
		.y = (double)(part->geometry.y - layout->region.y) * layout->scale,
		.width = part->geometry.width * layout->scale,
		.height = part->geometry.height * layout->scale,
	};
}

bool layout_find_crop(const struct layout *layout, const struct layout_part *part,
		uint32_t width, uint32_t height, struct vitrine_rect *crop) {
	struct place place = layout_get_place(layout, part);
	// The picture is where the part is, by whole pixels, to the left and above its origin
	double x = -round(place.x), y = -round(place.y);
	double crop_width = floor((double)layout->region.width * layout->scale + EPSILON);
	double crop_height = floor((double)layout->region.height * layout->scale + EPSILON);
	if (!fits(width, height, part->geometry.width, part->geometry.height, layout->scale) ||
			x < 0 || y < 0 || crop_width < 1 || crop_height < 1 || x + crop_width > width ||
			y + crop_height > height) {
		return false;
	}
	*crop = (struct vitrine_rect){ (uint32_t)x, (uint32_t)y, (uint32_t)crop_width,
		(uint32_t)crop_height };
	return true;
}

int layout_create_picture(const struct layout *layout, struct image *picture) {
	return create_picture(picture, (double)layout->region.width * layout->scale,
		(double)layout->region.height * layout->scale);
}

int layout_draw_part(const struct layout *layout, const struct layout_part *part,
		struct image *picture) {
	struct place place = layout_get_place(layout, part);
	if (!fits(part->image.width, part->image.height, part->geometry.width,
			part->geometry.height, layout->scale)) {
		return draw_scaled(picture, &part->image, &place);
	}
	draw_exactly(picture, &part->image, (int64_t)round(place.x), (int64_t)round(place.y));
	return 0;
}
