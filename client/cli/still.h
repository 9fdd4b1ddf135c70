/* SPDX-License-Identifier: MIT */
#ifndef CLI_STILL_H
#define CLI_STILL_H

#include "cli.h"

/** A session that is to stand still, and its newest frame, to be released; or NULL. */
struct still {
	struct vitrine_session *session;
	struct vitrine_frame *frame;
};

/**
 * Waits until no frame with damage has come for so long in any of the sessions, which have
 * implicit release, as the compositor's events say. Returns 0 with a frame for each, or else,
 * after printing why not: EXIT_NEVER_STILL if the time of --timeout ran out, EXIT_FAILURE.
 * The time ends at `end`, as of cli_get_end().
 */
int cli_wait_still(struct cli *cli, struct still *stills, size_t n_stills, double end);

#endif
