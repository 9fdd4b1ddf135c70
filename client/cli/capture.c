/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "capture.h"
#include "layout.h"
#include "still.h"

/** How often a frame may be taken away under our hands before we give up. */
#define MAX_ATTEMPTS 8
/** How often two more frames may come while one is copied before we hold the next one. */
#define MAX_IMPLICIT_ATTEMPTS 2

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
	return known ? layout_scale_image(image, cli->scale, geometry.width, geometry.height) :
		layout_scale_image(image, cli->scale, image->width, image->height);
}

/* Parts of the layout */

static int layout_draw(const struct layout *layout, struct image *picture) {
	int status = layout_create_picture(layout, picture);
	for (size_t i = 0; i < layout->n_parts && status == EXIT_SUCCESS; i++) {
		const struct layout_part *part = &layout->parts[i];
		int ret = part->session != NULL ? layout_draw_part(layout, part, picture) : 0;
		status = ret == 0 ? EXIT_SUCCESS : layout_fail(ret, &part->image);
	}
	return status;
}

/** What is off stays black. */
static int layout_wait(struct layout *layout) {
	size_t n_shown = 0;
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct layout_part *part = &layout->parts[i];
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
	struct layout_part **parts = calloc(layout->n_parts, sizeof(*parts));
	if (stills == NULL || parts == NULL) {
		free(stills);
		free(parts);
		return cli_fail("out of memory");
	}
	size_t n = 0;
	for (size_t i = 0; i < layout->n_parts; i++) {
		struct layout_part *part = &layout->parts[i];
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
		struct layout_part *part = &layout->parts[i];
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
		struct layout_part *part = &layout->parts[i];
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

static int capture_layout(struct cli *cli, struct image *image) {
	struct layout layout;
	cli->implicit_release = true;
	int status = layout_open(&layout, cli);
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
