/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"
#include "cli.h"
#include "file.h"
#include "picture.h"

struct shot {
	struct cli cli;
	struct picture_options options;
	enum picture_type type;
	const char *path; // NULL for a name with the time
	char *own_path; // that name, or NULL
};

static const struct cli_option options[] = {
	PICTURE_OPTIONS,
	{ 0 },
};

static void parse_options(struct shot *shot, int argc, char **argv) {
	int option;
	while ((option = cli_getopt(&shot->cli, argc, argv)) != -1) {
		picture_parse_option(&shot->cli, &shot->options, option);
	}
	if (argc - optind > 1) {
		exit(cli_fail_usage(&shot->cli, "wants one file name, or - for standard output"));
	}
	shot->path = argv[optind]; // or the NULL at the end
	shot->type = picture_choose_type(&shot->cli, &shot->options,
		shot->path != NULL ? shot->path : "");
	if (shot->path != NULL && strcmp(shot->path, "-") == 0 && isatty(STDOUT_FILENO)) {
		exit(cli_fail_usage(&shot->cli, "does not write a picture to a terminal"));
	}
	if (cli_check_cpu_reads(&shot->cli) != 0) {
		exit(EXIT_USAGE);
	}
}

static int open_file(struct shot *shot, struct out_file *file) {
	if (shot->path == NULL) {
		int status = cli_make_path("XDG_PICTURES_DIR", picture_get_ending(shot->type),
			&shot->own_path);
		if (status != EXIT_SUCCESS) {
			return status;
		}
		shot->path = shot->own_path;
	}
	return cli_open_file(file, shot->path);
}

/** Scripts read which name the file got. */
static int print_own_path(const struct shot *shot) {
	if (shot->own_path == NULL) {
		return EXIT_SUCCESS;
	}
	puts(shot->own_path);
	return cli_flush_stdout();
}

static int shot_run(int argc, char **argv) {
	struct shot shot = {0};
	cli_init(&shot.cli, &command_shot);
	parse_options(&shot, argc, argv);

	cli_catch_signals();
	struct image image = {0};
	struct out_file file = { .fd = -1 };
	int status = open_file(&shot, &file);
	if (status == EXIT_SUCCESS) {
		status = cli_capture(&shot.cli, &image);
	}
	cli_finish(&shot.cli); // nothing is held while the file is written
	if (status == EXIT_SUCCESS) {
		status = picture_write(&shot.options, shot.type, &image, &file);
	}
	if (status == EXIT_SUCCESS) {
		status = print_own_path(&shot);
	}
	out_file_abort(&file);
	image_finish(&image);
	free(shot.own_path);
	return status;
}

const struct command command_shot = {
	.name = "shot",
	.synopsis = "[-o OUTPUT|-w WINDOW|-g REGION|-a] [-s FACTOR] [-t TYPE] [FILE|-]",
	.summary = "Write a picture of an output, a window or a part of the layout",
	.own = options,
	.options = CLI_SOURCE | CLI_REGION | CLI_SESSION | CLI_TIMEOUT | CLI_SOCKET,
	.takes_file = true,
	.run = shot_run,
};
