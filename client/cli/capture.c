/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <pixman.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "still.h"

/** How often a frame may be taken away under our hands before we give up. */
#define MAX_ATTEMPTS 8
/** How often two more frames may come while one is copied before we hold the next one. */
#define MAX_IMPLICIT_ATTEMPTS 2
/** Of a picture that is composed: what pixman's coordinates reach. */
#define MAX_SIDE 32767
/** Scales are quotients of integers: what is nearer than this is the same. */
#define EPSILON 1e-6

/* One source */

static int copy(const struct vitrine_frame *frame, struct image *image) {
	int ret = image_copy_frame(image, frame);
	if (ret == 0) {
		return EXIT_SUCCESS;
	}
	char fourcc[5];
	cli_fourcc(vitrine_frame_get_info(frame)->fourcc, fourcc);
	return ret == -ENOMEM ? cli_fail("out of memory") :
		cli_fail("pictures in the format %s cannot be converted", fourcc);
}

/** As cli_copy_frame(). */
static int copy_whole(struct vitrine_frame *frame, struct image *image) {
	int status = copy(frame, image);
	return status == EXIT_SUCCESS && vitrine_frame_is_revoked(frame) ? -EAGAIN : status;
}

static int copy_and_release(struct vitrine_frame *take_frame, struct image *image) {
	int status = copy_whole(take_frame, image);
	vitrine_frame_release(take_frame);
	return status;
}

int cli_copy_frame(const struct cli *cli, struct vitrine_session *session, struct image *image,
		int max_attempts) {
	int status = -EAGAIN;
	for (int i = 0; status == -EAGAIN && i < max_attempts; i++) {
		struct vitrine_frame *frame = cli_first_frame(cli, session);
		status = frame == NULL ? EXIT_FAILURE : copy_and_release(frame, image);
	}
	return status;
}

/** A picture that moves faster than it can be copied is held, which costs the compositor more. */
static int capture_held(struct cli *cli, struct vitrine_source *source, struct image *image) {
	struct vitrine_session *session;
	cli->implicit_release = false;
	int status = cli_start_session(cli, source, &session);
	if (status == EXIT_SUCCESS) {
		status = cli_copy_frame(cli, session, image, MAX_ATTEMPTS);
	}
	vitrine_session_destroy(session);
	return status != -EAGAIN ? status : cli_fail("the compositor took every frame back before "
		"it was read; is the machine overloaded?");
}

/* Pictures that are not as they came */

/** Where something is in the picture, in its pixels. */
struct place {
	double x, y, width, height;
};

/**
 * Whether the pixels are one to one at this scale, given the logical size. That is rounded
 * at scales which are no integers: what is less than a pixel away is no other scale.
 */
static bool image_fits(const struct image *image, double width, double height, double scale) {
	double x_scale = image->width / width, y_scale = image->height / height;
	if (fabs(x_scale - round(x_scale)) < EPSILON && fabs(y_scale - x_scale) < EPSILON) {
		return fabs(scale - x_scale) < EPSILON;
	}
	return fabs(width * scale - image->width) < 1 && fabs(height * scale - image->height) < 1;
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

/** pixman draws nothing where it would count beyond 16 bits: so it is told of what is seen alone. */
static int draw_scaled(struct image *picture, const struct image *image,
		const struct place *place) {
	int from[2], to[2];
	if (image->width > MAX_SIDE || image->height > MAX_SIDE) {
		return cli_fail("a picture of %u x %u pixels cannot be scaled; up to %d x %d can",
			image->width, image->height, MAX_SIDE, MAX_SIDE);
	}
	if (!find_seen(place, picture, from, to)) {
		return EXIT_SUCCESS;
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
	return ok ? EXIT_SUCCESS : cli_fail("out of memory, or scaled too much");
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

/** Has the image so many pixels for each one of the logical size. */
static int scale_image(struct image *image, double scale, double width, double height) {
	if (image_fits(image, width, height, scale)) {
		return EXIT_SUCCESS;
	}
	const struct place place = { 0, 0, width * scale, height * scale };
	struct image picture = {0};
	int status = create_picture(&picture, place.width, place.height);
	if (status == EXIT_SUCCESS) {
		status = draw_scaled(&picture, image, &place);
	}
	image_finish(image);
	*image = picture;
	return status;
}

/**
 * The picture that has stood still. If it moves before it is copied, it has to stand still
 * again: what moves is not wanted.
 */
static int copy_still(struct cli *cli, struct vitrine_session *session, struct image *image) {
	struct still still = { .session = session };
	double end = cli_get_end(cli);
	int status = -EAGAIN;
	while (status == -EAGAIN) {
		status = cli_wait_still(cli, &still, 1, end);
		if (status == EXIT_SUCCESS) {
			status = copy_whole(still.frame, image);
		}
	}
	vitrine_frame_release(still.frame);
	return status;
}

static int capture_one(struct cli *cli, struct image *image) {
	struct cli_target target;
	struct vitrine_session *session;
	cli->implicit_release = true;
	int status = cli_create_session(cli, &session, &target);
	if (status == EXIT_SUCCESS) {
		status = cli->still_ms > 0 ? copy_still(cli, session, image) :
			cli_copy_frame(cli, session, image, MAX_IMPLICIT_ATTEMPTS);
	}
	vitrine_session_destroy(session);
	if (status == -EAGAIN) {
		status = cli_find_target(cli, &target); // which may have gone
		if (status == EXIT_SUCCESS) {
			status = capture_held(cli, target.source, image);
		}
	}
	if (status != EXIT_SUCCESS || cli->scale == 0) {
		return status;
	}
	// Of windows no scale is known: theirs is 1
	struct vitrine_geometry geometry;
	bool known = target.output != NULL && vitrine_output_get_geometry(target.output, &geometry);
	return known ? scale_image(image, cli->scale, geometry.width, geometry.height) :
		scale_image(image, cli->scale, image->width, image->height);
}

/* Parts of the layout */

struct part {
	struct vitrine_output *output;
	struct vitrine_geometry geometry;
	struct vitrine_session *session; // NULL if it is not in the picture
	struct vitrine_frame *frame; // NULL if it was copied
	struct image image;
};

struct layout {
	struct cli *cli;
	struct part *parts;
	size_t n_parts;
	double scale;
	struct cli_region region; // in logical pixels
};

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
		struct part *part = &layout->parts[layout->n_parts];
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
	layout->cli->implicit_release = true;
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct part *part = &layout->parts[i];
		int status = cli_start_session(layout->cli, vitrine_output_get_source(part->output),
			&part->session);
		if (status != EXIT_SUCCESS) {
			return status;
		}
	}
	return EXIT_SUCCESS;
}

/** What is off stays black. */
static int layout_wait(struct layout *layout) {
	size_t n_shown = 0;
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct part *part = &layout->parts[i];
		vitrine_session_wait_started(part->session, layout->cli->timeout_ms);
		if (vitrine_session_is_off(part->session)) {
			cli_note("%s is off, and black in the picture",
				cli_visible(&(struct cli_text){0}, vitrine_output_get_name(part->output)));
			vitrine_session_destroy(part->session);
			part->session = NULL;
			continue;
		}
		part->frame = cli_first_frame(layout->cli, part->session);
		if (part->frame == NULL) {
			return EXIT_FAILURE;
		}
		n_shown++;
	}
	return n_shown > 0 ? EXIT_SUCCESS : cli_fail("all outputs in the picture are off");
}

/** Has all of them have stood still at the same time. */
static int layout_wait_still(struct layout *layout, double end) {
	struct still *stills = calloc(layout->n_parts, sizeof(*stills));
	struct part **parts = calloc(layout->n_parts, sizeof(*parts));
	if (stills == NULL || parts == NULL) {
		free(stills);
		free(parts);
		return cli_fail("out of memory");
	}
	size_t n = 0;
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct part *part = &layout->parts[i];
		if (part->session != NULL) {
			parts[n] = part;
			stills[n++] = (struct still){ part->session, part->frame };
		}
	}
	int status = cli_wait_still(layout->cli, stills, n, end);
	for (size_t i = 0; i < n; i++) {
		parts[i]->frame = stills[i].frame;
	}
	free(stills);
	free(parts);
	return status;
}

/** -EAGAIN if one has moved meanwhile. */
static int layout_copy_still(struct layout *layout) {
	int status = EXIT_SUCCESS;
	for (size_t i = 0; i < layout->n_parts && status == EXIT_SUCCESS; i++) {
		struct part *part = &layout->parts[i];
		if (part->session != NULL) {
			status = copy_whole(part->frame, &part->image);
		}
	}
	return status;
}

/** As copy_still(). */
static int layout_take_still(struct layout *layout) {
	double end = cli_get_end(layout->cli);
	int status = -EAGAIN;
	while (status == -EAGAIN) {
		status = layout_wait_still(layout, end);
		if (status == EXIT_SUCCESS) {
			status = layout_copy_still(layout);
		}
	}
	return status;
}

static int layout_take(struct layout *layout) {
	int status = EXIT_SUCCESS;
	for (size_t i = 0; i < layout->n_parts && status == EXIT_SUCCESS; i++) {
		struct part *part = &layout->parts[i];
		if (part->session == NULL) {
			continue;
		}
		status = copy_and_release(part->frame, &part->image);
		part->frame = NULL;
		if (status == -EAGAIN) {
			status = capture_held(layout->cli, vitrine_output_get_source(part->output),
				&part->image);
		}
	}
	return status;
}

static struct place layout_get_place(const struct layout *layout, const struct part *part) {
	return (struct place){
		.x = (double)(part->geometry.x - layout->region.x) * layout->scale,
		.y = (double)(part->geometry.y - layout->region.y) * layout->scale,
		.width = part->geometry.width * layout->scale,
		.height = part->geometry.height * layout->scale,
	};
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

static int layout_draw(struct layout *layout, struct image *picture) {
	layout_measure(layout);
	int status = create_picture(picture, (double)layout->region.width * layout->scale,
		(double)layout->region.height * layout->scale);
	for (size_t i = 0; i < layout->n_parts && status == EXIT_SUCCESS; i++) {
		const struct part *part = &layout->parts[i];
		struct place place = layout_get_place(layout, part);
		if (part->session == NULL) {
			continue;
		}
		if (image_fits(&part->image, part->geometry.width, part->geometry.height,
				layout->scale)) {
			draw_exactly(picture, &part->image, (int64_t)round(place.x),
				(int64_t)round(place.y));
		} else {
			status = draw_scaled(picture, &part->image, &place);
		}
	}
	return status;
}

static void layout_finish(struct layout *layout) {
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct part *part = &layout->parts[i];
		vitrine_frame_release(part->frame);
		vitrine_session_destroy(part->session);
		image_finish(&part->image);
	}
	free(layout->parts);
}

static int capture_layout(struct cli *cli, struct image *image) {
	struct layout layout = { .cli = cli };
	int status = cli->client != NULL ? EXIT_SUCCESS : cli_connect(cli);
	if (status == EXIT_SUCCESS) {
		status = layout_find_parts(&layout);
	}
	if (status == EXIT_SUCCESS) {
		status = layout_start(&layout);
	}
	if (status == EXIT_SUCCESS) {
		status = layout_wait(&layout);
	}
	if (status == EXIT_SUCCESS) {
		status = cli->still_ms > 0 ? layout_take_still(&layout) : layout_take(&layout);
	}
	if (status == EXIT_SUCCESS) {
		status = layout_draw(&layout, image);
	}
	layout_finish(&layout);
	return status;
}

int cli_capture(struct cli *cli, struct image *image) {
	return cli->all || cli->has_region ? capture_layout(cli, image) : capture_one(cli, image);
}
