/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "record_source.h"

/** How often to look for a fence that has fired, and for how long after the event, in seconds. */
#define FENCE_TICK 0.002
#define FENCE_TIME 0.05

static bool source_is_over(const struct record_source *source) {
	return source->change != NULL || source->read_error < 0;
}

/* Pictures of frames */

static void source_note(struct record_source *source, const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	// Outputs have their times each for itself
	if (cli_seconds(&info->time) >= cli_seconds(&source->time)) {
		source->time = info->time;
		source->shown_again = info->shown_again;
	}
}

/** Whether the part is where it was, and as large: NULL, or what has changed. */
static const char *part_find_change(const struct layout_part *part, uint32_t width,
		uint32_t height) {
	struct vitrine_geometry now;
	if (width != part->width || height != part->height) {
		return "the size of the picture has changed";
	}
	bool moved = part->output != NULL && vitrine_output_get_geometry(part->output, &now) &&
		(now.x != part->geometry.x || now.y != part->geometry.y ||
		now.width != part->geometry.width || now.height != part->geometry.height);
	return moved ? "the layout of the outputs has changed" : NULL;
}

/** What the first frame decides. */
static void part_begin(struct record_source *source, struct layout_part *part, uint32_t width,
		uint32_t height) {
	part->width = width;
	part->height = height;
	if (part->geometry.width == 0) {
		// Of windows no scale is known: theirs is 1
		part->geometry.width = (int32_t)width;
		part->geometry.height = (int32_t)height;
		source->layout.region = (struct cli_region){ 0, 0, width, height };
	}
}

/** Takes the frame over, and draws it unless it was torn. Returns whether it did. */
static bool source_compose(struct record_source *source, struct layout_part *part,
		struct vitrine_frame *take_frame) {
	int ret = image_copy_frame(&source->spare, take_frame);
	bool torn = vitrine_frame_is_revoked(take_frame);
	if (ret == 0 && !torn) {
		source_note(source, take_frame);
	}
	vitrine_frame_release(take_frame);
	source->n_torn += torn;
	source->read_error = ret;
	if (ret < 0 || torn) {
		return false;
	}
	struct image image = part->image;
	part->image = source->spare;
	source->spare = image;
	source->read_error = layout_draw_part(&source->layout, part, &source->picture);
	raster_init_image(&source->raster, &source->picture);
	return source->read_error == 0;
}

/** Whether all of the picture is in this frame, and where. */
static bool source_crop(const struct record_source *source, const struct layout_part *part,
		struct raster *raster) {
	struct vitrine_rect crop;
	return source->is_whole || (source->layout.n_parts == 1 &&
		layout_find_crop(&source->layout, part, part->width, part->height, &crop) &&
		raster_crop(raster, crop.x, crop.y, crop.width, crop.height) == 0);
}

/** Takes the frame over. Returns whether there is another picture. */
static bool source_take(struct record_source *source, struct layout_part *part,
		struct vitrine_frame *take_frame) {
	struct raster raster;
	uint32_t width, height;
	raster_init(&raster, take_frame);
	raster_get_upright_size(&raster, &width, &height);
	if (part->width == 0) {
		part_begin(source, part, width, height);
	}
	const char *change = source->is_whole ? NULL : part_find_change(part, width, height);
	if (change != NULL) {
		source->change = change;
		vitrine_frame_release(take_frame);
		return false;
	}
	source->n_skipped += vitrine_frame_get_info(take_frame)->skipped;
	if (!source_crop(source, part, &raster)) {
		return source_compose(source, part, take_frame);
	}
	source->time = vitrine_frame_get_info(take_frame)->time;
	source->shown_again = vitrine_frame_get_info(take_frame)->shown_again;
	part->frame = take_frame;
	source->raster = raster;
	return true;
}

bool record_source_release(struct record_source *source) {
	struct layout_part *part = &source->layout.parts[0];
	if (part->frame == NULL) {
		return false; // what is composed is ours
	}
	bool torn = vitrine_frame_is_revoked(part->frame);
	vitrine_frame_release(part->frame);
	part->frame = NULL;
	source->n_torn += torn;
	return torn;
}

/* Sessions */

static int source_open_one(struct record_source *source, struct cli *cli) {
	struct layout *layout = &source->layout;
	layout->cli = cli;
	layout->scale = cli->scale;
	layout->parts = calloc(1, sizeof(layout->parts[0]));
	if (layout->parts == NULL) {
		return cli_fail("out of memory");
	}
	layout->n_parts = 1;
	struct layout_part *part = &layout->parts[0];
	struct cli_target target;
	int status = cli_create_session(cli, &part->session, &target);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	source->is_whole = cli->scale == 0;
	part->output = target.output;
	if (part->output != NULL && vitrine_output_get_geometry(part->output, &part->geometry)) {
		layout->region = (struct cli_region){ part->geometry.x, part->geometry.y,
			part->geometry.width, part->geometry.height };
	}
	return EXIT_SUCCESS;
}

int record_source_open(struct record_source *source, struct cli *cli) {
	return cli->all || cli->has_region ? layout_open(&source->layout, cli) :
		source_open_one(source, cli);
}

int32_t record_source_get_refresh(const struct record_source *source) {
	int32_t fastest = -1;
	for (size_t i = 0; i < source->layout.n_parts; i++) {
		const struct vitrine_output *output = source->layout.parts[i].output;
		int32_t width, height, refresh_mhz;
		if (output != NULL) {
			vitrine_output_get_mode(output, &width, &height, &refresh_mhz);
			fastest = refresh_mhz > fastest ? refresh_mhz : fastest;
		}
	}
	return fastest;
}

/** Takes the first frame over. Returns 0, -EAGAIN if it was torn, or EXIT_FAILURE. */
static int source_begin(struct record_source *source, struct layout_part *part,
		struct vitrine_frame *take_frame) {
	struct raster raster;
	uint32_t width, height;
	char fourcc[5];
	raster_init(&raster, take_frame);
	raster_get_upright_size(&raster, &width, &height);
	part_begin(source, part, width, height);
	if (!source->is_whole && source->picture.pixels == NULL &&
			layout_create_picture(&source->layout, &source->picture) != EXIT_SUCCESS) {
		vitrine_frame_release(take_frame);
		return EXIT_FAILURE;
	}
	if (source_take(source, part, take_frame)) {
		return 0;
	}
	if (source->read_error == -ENOTSUP) {
		return cli_fail("frames in the format %s cannot be converted",
			cli_fourcc(raster.fourcc, fourcc));
	}
	return source->read_error < 0 ? layout_fail(source->read_error, &part->image) :
		source->change != NULL ? cli_fail("%s", source->change) : -EAGAIN;
}

/** Sets `shown` unless it is off. Returns an exit status. */
static int source_wait_for_part(struct record_source *source, struct layout_part *part,
		bool *shown) {
	struct cli *cli = source->layout.cli;
	*shown = false;
	if (source->layout.n_parts > 1) {
		vitrine_session_wait_started(part->session, cli->timeout_ms);
		if (vitrine_session_is_off(part->session)) {
			cli_note("%s is off, and black in the picture until it is on",
				cli_visible(&(struct cli_text){0}, vitrine_output_get_name(part->output)));
			return EXIT_SUCCESS;
		}
	}
	int status;
	do {
		struct vitrine_frame *frame = cli_first_frame(cli, part->session);
		status = frame == NULL ? EXIT_FAILURE : source_begin(source, part, frame);
	} while (status == -EAGAIN);
	*shown = status == EXIT_SUCCESS;
	return status;
}

int record_source_wait(struct record_source *source) {
	size_t n_shown = 0;
	for (size_t i = 0; i < source->layout.n_parts; i++) {
		bool shown;
		int status = source_wait_for_part(source, &source->layout.parts[i], &shown);
		if (status != EXIT_SUCCESS) {
			return status;
		}
		n_shown += shown;
	}
	return n_shown > 0 ? EXIT_SUCCESS : cli_fail("all outputs in the picture are off");
}

/** Takes a frame of each output that has one. As record_source_next(). */
static int source_take_all(struct record_source *source) {
	int any = 0;
	for (size_t i = 0; i < source->layout.n_parts && !source_is_over(source); i++) {
		struct layout_part *part = &source->layout.parts[i];
		struct vitrine_frame *frame;
		int ret = vitrine_session_next_frame(part->session, 0, &frame);
		if (ret < 0 && ret != -EINTR) {
			return ret;
		}
		any |= ret > 0 && source_take(source, part, frame);
	}
	return any;
}

/** Of several outputs, until then. */
static int source_next_of_several(struct record_source *source, double end) {
	double last_event = -INFINITY;
	while (!cli_interrupted) {
		int ret = source_take_all(source);
		double now = cli_now();
		if (ret != 0 || source_is_over(source) || now >= end) {
			return ret;
		}
		// A frame whose fence has not fired is there, but nothing tells when it does
		double left = now < last_event + FENCE_TIME ? fmin(end - now, FENCE_TICK) : end - now;
		ret = vitrine_client_dispatch(source->layout.cli->client, (int)(left * 1000) + 1);
		if (ret < 0 && ret != -EINTR) {
			return ret;
		}
		last_event = ret > 0 ? cli_now() : last_event;
	}
	return -EINTR;
}

int record_source_next(struct record_source *source, int timeout_ms) {
	if (source->layout.n_parts > 1) {
		return source_next_of_several(source, cli_now() + timeout_ms / 1000.0);
	}
	struct layout_part *part = &source->layout.parts[0];
	struct vitrine_frame *frame;
	int ret = cli_next_frame(part->session, timeout_ms, &frame);
	return ret > 0 ? source_take(source, part, frame) : ret;
}

void record_source_finish(struct record_source *source) {
	layout_finish(&source->layout);
	image_finish(&source->picture);
	image_finish(&source->spare);
}
