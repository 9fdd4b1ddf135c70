/* SPDX-License-Identifier: MIT */
#ifndef CLI_CAPTURE_H
#define CLI_CAPTURE_H

#include "cli.h"
#include "image.h"

/**
 * Composes what the options name into one upright picture: an output or a window as it is,
 * or a part of the layout, in which all outputs are at their places, taken as near to one
 * moment as can be. Connects if necessary. Returns an exit status, after printing why.
 */
int cli_capture(struct cli *cli, struct image *image);

/**
 * The first frame of the session that was not taken back while it was copied. Returns 0,
 * -EAGAIN if there was none in so many attempts, or EXIT_FAILURE after printing why.
 */
int cli_copy_frame(const struct cli *cli, struct vitrine_session *session, struct image *image,
	int max_attempts);

#endif
