/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "file.h"
#include "image.h"

/** How often a frame may be taken away under our hands before we give up. */
#define MAX_ATTEMPTS 8
/** How often two more frames may come while one is copied before we hold the next one. */
#define MAX_IMPLICIT_ATTEMPTS 2

/**
 * Copies a frame that was not revoked meanwhile, nor followed by two others. Returns
 * EXIT_*, and says why; or -EAGAIN if no frame was left alone.
 */
static int try_capture(const struct cli *cli, struct vitrine_session *session,
		struct image *image, int max_attempts) {
	for (int i = 0; i < max_attempts; i++) {
		struct vitrine_frame *frame = cli_first_frame(cli, session);
		if (frame == NULL) {
			return EXIT_FAILURE;
		}
		int ret = image_copy_frame(image, frame);
		if (ret < 0) {
			char fourcc[5];
			cli_fourcc(vitrine_frame_get_info(frame)->fourcc, fourcc);
			return ret == -ENOMEM ? cli_fail("out of memory") :
				cli_fail("pictures in the format %s cannot be converted", fourcc);
		}
		bool torn = vitrine_frame_is_revoked(frame);
		vitrine_frame_release(frame);
		if (!torn) {
			return EXIT_SUCCESS;
		}
	}
	return -EAGAIN;
}

/** A picture that moves faster than it can be copied is held, which costs the compositor more. */
static int capture(struct cli *cli, struct image *image) {
	cli->implicit_release = true;
	struct vitrine_session *session;
	int status = cli_create_session(cli, &session, NULL);
	if (status == EXIT_SUCCESS) {
		status = try_capture(cli, session, image, MAX_IMPLICIT_ATTEMPTS);
	}
	if (status != -EAGAIN) {
		return status;
	}
	vitrine_session_destroy(session);
	cli->implicit_release = false;
	status = cli_create_session(cli, &session, NULL);
	if (status == EXIT_SUCCESS) {
		status = try_capture(cli, session, image, MAX_ATTEMPTS);
	}
	return status != -EAGAIN ? status : cli_fail("the compositor took every frame back before "
		"it was read; is the machine overloaded?");
}

static int write_png(struct out_file *file, const struct image *image) {
	int ret = image_write_png(image, file);
	if (ret == 0) {
		ret = out_file_commit(file);
	}
	return ret == 0 ? EXIT_SUCCESS : cli_fail("cannot write %s: %s", file->name, strerror(-ret));
}

static int shot_run(int argc, char **argv) {
	struct cli cli;
	cli_init(&cli, &command_shot);
	cli_getopt(&cli, argc, argv);
	if (argc - optind != 1) {
		return cli_fail_usage(&cli, "wants one file name, or - for standard output");
	}

	if (strcmp(argv[optind], "-") == 0 && isatty(STDOUT_FILENO)) {
		return cli_fail_usage(&cli, "does not write a picture to a terminal");
	}

	if (cli_check_cpu_reads(&cli) != 0) {
		return EXIT_USAGE;
	}

	cli_catch_signals();
	struct image image = {0};
	struct out_file file = { .fd = -1 };
	int status = cli_open_file(&file, argv[optind]);
	if (status == EXIT_SUCCESS) {
		status = capture(&cli, &image);
	}
	cli_finish(&cli); // nothing is held while the file is written
	if (status == EXIT_SUCCESS) {
		status = write_png(&file, &image);
	}
	out_file_abort(&file);
	image_finish(&image);
	return status;
}

const struct command command_shot = {
	.name = "shot",
	.synopsis = "[-o OUTPUT|-w WINDOW] FILE.png|-",
	.summary = "Write one frame to a PNG file, or to standard output",
	.options = CLI_SOURCE | CLI_SESSION | CLI_TIMEOUT | CLI_SOCKET,
	.takes_file = true,
	.run = shot_run,
};
