/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "still.h"

/** For what has come while this process was stopped, past the end, in seconds. */
#define CATCH_UP_S 0.1

struct waiting {
	struct cli *cli;
	struct still *stills;
	size_t n_stills;
	double last_change; // seconds; of the start before the first one
};

/**
 * Takes the frames that have come, but not for long after the end if they come faster than they
 * are taken: then nothing stands still. Returns an exit status.
 */
static int waiting_take_frames(struct waiting *waiting, double end) {
	double limit = fmax(end, cli_now()) + CATCH_UP_S;
	for (size_t i = 0; i < waiting->n_stills; i++) {
		struct still *still = &waiting->stills[i];
		struct vitrine_frame *frame;
		int ret;
		while ((ret = vitrine_session_next_frame(still->session, 0, &frame)) > 0) {
			if (still->frame == NULL || vitrine_frame_get_info(frame)->n_damage > 0) {
				waiting->last_change = cli_now();
			}
			vitrine_frame_release(still->frame);
			still->frame = frame;
			if (cli_interrupted || cli_now() >= limit) {
				waiting->last_change = cli_now();
				break;
			}
		}
		if (ret < 0 && ret != -EINTR) {
			return cli_fail_client(waiting->cli, ret);
		}
	}
	return EXIT_SUCCESS;
}

static bool waiting_has_frames(const struct waiting *waiting) {
	for (size_t i = 0; i < waiting->n_stills; i++) {
		if (waiting->stills[i].frame == NULL) {
			return false;
		}
	}
	return true;
}

static int fail_late(const struct waiting *waiting) {
	double seconds = waiting->cli->timeout_ms / 1000.0;
	if (!waiting_has_frames(waiting)) {
		return cli_fail("no frame came within %g s; wait longer with --timeout", seconds);
	}
	cli_fail("the picture never stood still for %d ms within %g s",
		waiting->cli->still_ms, seconds);
	return EXIT_NEVER_STILL;
}

int cli_wait_still(struct cli *cli, struct still *stills, size_t n_stills, double end) {
	struct waiting waiting = { cli, stills, n_stills, .last_change = cli_now() };
	while (!cli_interrupted) {
		// What has come is looked at before time is: this process may have been stopped
		double now = cli_now();
		int status = waiting_take_frames(&waiting, end);
		if (status != EXIT_SUCCESS) {
			return status;
		}
		bool has_frames = waiting_has_frames(&waiting);
		double still = waiting.last_change + cli->still_ms / 1000.0;
		if (has_frames && now >= still) {
			return EXIT_SUCCESS;
		}
		if (now >= end) {
			return fail_late(&waiting);
		}
		status = cli_dispatch_until(cli, has_frames && still < end ? still : end);
		if (status != EXIT_SUCCESS) {
			return status;
		}
	}
	return cli_fail("interrupted");
}
