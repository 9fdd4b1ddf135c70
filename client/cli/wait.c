/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "still.h"

struct wait {
	struct cli cli;
	uint64_t n_frames; // 0 if none are waited for
};

enum {
	OPTION_STILL = CLI_NO_LETTER,
	OPTION_FRAMES,
};

static const struct cli_option options[] = {
	{ "still", OPTION_STILL, "MS", "until nothing has changed for so long" },
	{ "frames", OPTION_FRAMES, "N", "until there were N frames" },
	{ 0 },
};

static void parse_options(struct wait *wait, int argc, char **argv) {
	struct cli *cli = &wait->cli;
	int option;
	while ((option = cli_getopt(cli, argc, argv)) != -1) {
		if (option == OPTION_STILL) {
			cli->still_ms = (int)cli_parse_number(cli, "still", optarg, 1);
		} else if (option == OPTION_FRAMES) {
			wait->n_frames = (uint64_t)cli_parse_number(cli, "frames", optarg, 1);
		}
	}
	if (optind != argc) {
		exit(cli_fail_usage(cli, "\"%s\" is too much", argv[optind]));
	}
	if (cli->still_ms > 0 && wait->n_frames > 0) {
		exit(cli_fail_usage(cli, "takes one of --still and --frames"));
	}
	if (cli->window == NULL && cli->still_ms == 0 && wait->n_frames == 0) {
		exit(cli_fail_usage(cli, "wants --window, --still or --frames to wait for"));
	}
}

static int wait_for_frames(const struct wait *wait, struct vitrine_session *session) {
	double end = cli_get_end(&wait->cli);
	for (uint64_t n = 0; n < wait->n_frames; n++) {
		double left = (end - cli_now()) * 1000;
		struct vitrine_frame *frame;
		int ret = cli_next_frame(session, left > 0 ? (int)left + 1 : 0, &frame);
		if (ret == -EINTR) {
			return cli_fail("interrupted");
		} else if (ret < 0) {
			return cli_fail_client(&wait->cli, ret);
		} else if (ret == 0) {
			return cli_fail("%llu of %llu frames came within %g s", (unsigned long long)n,
				(unsigned long long)wait->n_frames, wait->cli.timeout_ms / 1000.0);
		}
		vitrine_frame_release(frame);
	}
	return EXIT_SUCCESS;
}

static int wait_for_session(struct wait *wait) {
	struct still still = {0};
	int status = cli_create_session(&wait->cli, &still.session, NULL);
	if (status == EXIT_SUCCESS) {
		status = wait->n_frames > 0 ? wait_for_frames(wait, still.session) :
			cli_wait_still(&wait->cli, &still, 1, cli_get_end(&wait->cli));
	}
	vitrine_frame_release(still.frame);
	return status;
}

static int wait_run(int argc, char **argv) {
	struct wait wait = {0};
	cli_init(&wait.cli, &command_wait);
	wait.cli.wait_for_window = true;
	wait.cli.implicit_release = true; // no pixel is looked at
	parse_options(&wait, argc, argv);

	cli_catch_signals();
	struct cli_target target;
	int status = wait.n_frames > 0 || wait.cli.still_ms > 0 ? wait_for_session(&wait) :
		cli_find_target(&wait.cli, &target);
	cli_finish(&wait.cli);
	return status;
}

const struct command command_wait = {
	.name = "wait",
	.synopsis = "[-o OUTPUT|-w WINDOW] [--still MS|--frames N]",
	.summary = "Wait for a window to appear, and for a picture to move or to stand still",
	.own = options,
	.options = CLI_SOURCE | CLI_SESSION | CLI_TIMEOUT | CLI_SOCKET,
	.run = wait_run,
};
