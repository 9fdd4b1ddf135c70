/* SPDX-License-Identifier: MIT */
#ifndef CLI_LAYOUT_H
#define CLI_LAYOUT_H

#include "cli.h"
#include "image.h"

/** An output in a picture. */
struct layout_part {
	struct vitrine_output *output; // NULL for a window
	struct vitrine_geometry geometry;
	struct vitrine_session *session; // NULL if it is not in the picture
	struct vitrine_frame *frame; // NULL if it was copied
	uint32_t width, height; // of the frames of a recording, upright; 0 before the first one
	struct image image;
};

/** What --region or --all names: outputs at their places, and the picture of them. */
struct layout {
	struct cli *cli;
	struct layout_part *parts;
	size_t n_parts;
	double scale; // pixels of the picture for a logical one
	struct cli_region region; // in logical pixels
};

/**
 * Finds the outputs, and starts a session on each of them, all before any frame is waited for,
 * so that all are of one moment. Connects if necessary. Returns an exit status, after printing
 * why; to be finished in any case.
 */
int layout_open(struct layout *layout, struct cli *cli);
/** Releases the frames and ends the sessions. Harmless for what is zero. */
void layout_finish(struct layout *layout);

/** Has the image hold as many black pixels as the picture has. Returns an exit status. */
int layout_create_picture(const struct layout *layout, struct image *picture);
/** Draws the image of the part at its place. Returns 0, -ENOMEM or -EFBIG: see layout_fail(). */
int layout_draw_part(const struct layout *layout, const struct layout_part *part,
	struct image *picture);
/**
 * Whether the whole picture is a part of what the output shows, upright and with so many
 * pixels, none of them resampled: and which part.
 */
bool layout_find_crop(const struct layout *layout, const struct layout_part *part,
	uint32_t width, uint32_t height, struct vitrine_rect *crop);

/** Prints why the image of a part cannot be drawn. Returns EXIT_FAILURE. */
int layout_fail(int error, const struct image *image);

/** Has the image so many pixels for each one of the logical size. Returns an exit status. */
int layout_scale_image(struct image *image, double scale, double width, double height);

#endif
