/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"
#include "cli.h"
#include "compare.h"
#include "file.h"
#include "picture.h"

struct shot {
	struct cli cli;
	struct picture_options options;
	enum picture_type type;
	const char *golden, *diff; // files, NULL if there are none
	struct comparison comparison;
	const char *path; // NULL for a name with the time, or no file with `golden`
	char *own_path; // that name, or NULL
};

enum {
	OPTION_WHEN_STILL = CLI_NO_LETTER,
	OPTION_WAIT,
	OPTION_COMPARE,
	OPTION_TOLERANCE,
	OPTION_FUZZ,
	OPTION_DIFF,
};

static const struct cli_option options[] = {
	PICTURE_OPTIONS,
	{ "wait", OPTION_WAIT, NULL, "wait for the window, if it is not there yet" },
	{ "when-still", OPTION_WHEN_STILL, "MS",
		"wait for it, and until nothing has changed for so long" },
	{ "compare", OPTION_COMPARE, "GOLDEN.png",
		"compare with that picture: the exit status is 3 if they differ" },
	{ "tolerance", OPTION_TOLERANCE, "N", "let each colour differ by N of 255 (0)" },
	{ "fuzz", OPTION_FUZZ, "PERCENT", "let so many pixels differ by more (0)" },
	{ "diff", OPTION_DIFF, "OUT.png", "write a picture of where they differ, if they do" },
	{ 0 },
};

/** Returns false if the option is another one. */
static bool parse_option(struct shot *shot, int option) {
	struct cli *cli = &shot->cli;
	switch (option) {
	case OPTION_WHEN_STILL:
		cli->still_ms = (int)cli_parse_number(cli, "when-still", optarg, 1);
		cli->wait_for_window = true;
		return true;
	case OPTION_WAIT:
		cli->wait_for_window = true;
		return true;
	case OPTION_COMPARE:
		shot->golden = optarg;
		return true;
	case OPTION_TOLERANCE:
		shot->comparison.tolerance = (unsigned)cli_parse_number(cli, "tolerance", optarg, 0);
		return true;
	case OPTION_FUZZ:
		shot->comparison.fuzz = cli_parse_number(cli, "fuzz", optarg, 0);
		return true;
	case OPTION_DIFF:
		shot->diff = optarg;
		return true;
	}
	return false;
}

/** Whether both are the same file, which is there. */
static bool is_same_file(const char *a, const char *b) {
	struct stat st_a, st_b;
	return stat(a, &st_a) == 0 && stat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
		st_a.st_ino == st_b.st_ino && S_ISREG(st_a.st_mode);
}

static void check_comparison(const struct shot *shot) {
	const struct comparison *comparison = &shot->comparison;
	if (shot->golden == NULL &&
			(shot->diff != NULL || comparison->tolerance > 0 || comparison->fuzz > 0)) {
		exit(cli_fail_usage(&shot->cli, "--tolerance, --fuzz and --diff are of --compare"));
	}
	const struct picture_options png = { .type = "png" };
	if (shot->diff != NULL) {
		picture_choose_type(&shot->cli, &png, shot->diff);
		if (is_same_file(shot->diff, shot->golden)) {
			exit(cli_fail_usage(&shot->cli, "--diff would replace the picture to compare with"));
		}
	}
}

static void parse_options(struct shot *shot, int argc, char **argv) {
	int option;
	while ((option = cli_getopt(&shot->cli, argc, argv)) != -1) {
		if (!parse_option(shot, option)) {
			picture_parse_option(&shot->cli, &shot->options, option);
		}
	}
	if (argc - optind > 1) {
		exit(cli_fail_usage(&shot->cli, "wants one file name, or - for standard output"));
	}
	shot->path = argv[optind]; // or the NULL at the end
	shot->type = picture_choose_type(&shot->cli, &shot->options,
		shot->path != NULL ? shot->path : "");
	if (shot->cli.wait_for_window && shot->cli.window == NULL && shot->cli.still_ms == 0) {
		exit(cli_fail_usage(&shot->cli, "--wait is of --window"));
	}
	if (shot->path != NULL && strcmp(shot->path, "-") == 0 && isatty(STDOUT_FILENO)) {
		exit(cli_fail_usage(&shot->cli, "does not write a picture to a terminal"));
	}
	check_comparison(shot);
	if (cli_check_cpu_reads(&shot->cli) != 0) {
		exit(EXIT_USAGE);
	}
}

static int open_file(struct shot *shot, struct out_file *file) {
	if (shot->path == NULL && shot->golden != NULL) {
		return EXIT_SUCCESS;
	}
	if (shot->path == NULL) {
		return cli_open_own_file(file, "XDG_PICTURES_DIR", picture_get_ending(shot->type),
			&shot->own_path);
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

static int read_golden(const struct shot *shot, struct image *golden) {
	char reason[128];
	return shot->golden == NULL || image_read_png(golden, shot->golden, reason) == 0 ?
		EXIT_SUCCESS : cli_fail("cannot read \"%s\": %s", shot->golden, reason);
}

static int write_diff(const struct shot *shot, const struct image *image,
		const struct image *golden) {
	struct out_file file = { .fd = -1 };
	struct image picture = {0};
	int status = cli_open_file(&file, shot->diff);
	if (status == EXIT_SUCCESS && image_show_differences(&picture, image, golden,
			shot->comparison.tolerance) < 0) {
		status = cli_fail("out of memory");
	}
	if (status == EXIT_SUCCESS) {
		status = picture_write(&shot->options, PICTURE_PNG, &picture, &file);
	}
	out_file_abort(&file);
	image_finish(&picture);
	return status;
}

/** Says by how much they differ. Returns an exit status. */
static int compare(struct shot *shot, const struct image *image, const struct image *golden) {
	struct comparison *comparison = &shot->comparison;
	image_compare(image, golden, comparison);
	if (!comparison->same_size) {
		cli_note("the picture has %u x %u pixels, and \"%s\" %u x %u", image->width,
			image->height, shot->golden, golden->width, golden->height);
	} else {
		cli_note("%llu of %llu pixels differ from \"%s\" by more than %u, and by %u of 255 at most",
			(unsigned long long)comparison->n_different, (unsigned long long)comparison->n_pixels,
			shot->golden, comparison->tolerance, comparison->most);
	}
	if (comparison->same) {
		return EXIT_SUCCESS;
	}
	int status = shot->diff != NULL ? write_diff(shot, image, golden) : EXIT_SUCCESS;
	return status != EXIT_SUCCESS ? status : EXIT_DIFFERS;
}

static int write_file(const struct shot *shot, const struct image *image, struct out_file *file) {
	if (shot->path == NULL && shot->own_path == NULL) {
		return EXIT_SUCCESS;
	}
	int status = picture_write(&shot->options, shot->type, image, file);
	return status == EXIT_SUCCESS ? print_own_path(shot) : status;
}

static int shot_run(int argc, char **argv) {
	struct shot shot = {0};
	cli_init(&shot.cli, &command_shot);
	parse_options(&shot, argc, argv);

	cli_catch_signals();
	struct image image = {0}, golden = {0};
	struct out_file file = { .fd = -1 };
	// Before the picture, which may have its name. Where there is none yet, it can be made of that
	int golden_status = read_golden(&shot, &golden);
	int status = shot.path == NULL ? golden_status : EXIT_SUCCESS;
	if (status == EXIT_SUCCESS) {
		status = open_file(&shot, &file);
	}
	if (status == EXIT_SUCCESS) {
		status = cli_capture(&shot.cli, &image);
	}
	cli_finish(&shot.cli); // nothing is held while the file is written
	if (status == EXIT_SUCCESS) {
		status = write_file(&shot, &image, &file);
	}
	if (status == EXIT_SUCCESS && shot.golden != NULL) {
		status = golden_status != EXIT_SUCCESS ? golden_status : compare(&shot, &image, &golden);
	}
	out_file_abort(&file);
	image_finish(&image);
	image_finish(&golden);
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
