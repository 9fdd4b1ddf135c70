/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "file.h"
#include "picture.h"

static const struct {
	const char *name;
	const char *endings[4];
} types[] = {
	[PICTURE_PNG] = { "png", { "png" } },
	[PICTURE_PPM] = { "ppm", { "ppm", "pnm" } },
	[PICTURE_JPEG] = { "jpeg", { "jpg", "jpeg", "jpe" } },
};
#define N_TYPES ((int)(sizeof(types) / sizeof(types[0])))

/** What a file of this ending is taken for, and what this program writes no picture as. */
static const char *const other_endings[] = {
	"avif", "bmp", "gif", "heic", "heif", "jp2", "jxl", "pam", "pbm", "pdf", "pgm", "qoi", "svg",
	"tga", "tif", "tiff", "webp", "xpm", "y4m", "raw", "mkv", "mp4", "mov", "webm", "avi", NULL,
};

/** The end of the name after its last dot, NULL if there is none. */
static const char *get_ending(const char *path) {
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	return dot != NULL && dot != name ? dot + 1 : NULL;
}

/** -1 if it is none. */
static int find_type(const char *name) {
	for (int i = 0; i < N_TYPES; i++) {
		if (strcmp(types[i].name, name) == 0) {
			return i;
		}
	}
	return -1;
}

static int find_type_of_ending(const char *ending) {
	for (int i = 0; ending != NULL && i < N_TYPES; i++) {
		for (size_t j = 0; j < 4 && types[i].endings[j] != NULL; j++) {
			if (strcasecmp(types[i].endings[j], ending) == 0) {
				return i;
			}
		}
	}
	return -1;
}

static bool is_other_ending(const char *ending) {
	for (size_t i = 0; ending != NULL && other_endings[i] != NULL; i++) {
		if (strcasecmp(other_endings[i], ending) == 0) {
			return true;
		}
	}
	return false;
}

bool picture_parse_option(const struct cli *cli, struct picture_options *options, int option) {
	if (option == 't') {
		options->type = optarg;
		if (find_type(optarg) < 0) {
			exit(cli_fail_usage(cli, "\"%s\" is no type; there are png, ppm and jpeg", optarg));
		}
	} else if (option == 'q') {
		double quality = cli_parse_number(cli, "quality", optarg, 1);
		if (quality > 100) {
			exit(cli_fail_usage(cli, "--quality is from 1 to 100"));
		}
		options->quality = (int)quality;
	} else {
		return false;
	}
	return true;
}

enum picture_type picture_choose_type(const struct cli *cli, const struct picture_options *options,
		const char *path) {
	const char *ending = get_ending(path);
	int by_option = options->type != NULL ? find_type(options->type) : -1;
	int by_ending = find_type_of_ending(ending);
	if (is_other_ending(ending)) {
		exit(cli_fail_usage(cli, "writes no .%s; there are png, ppm and jpeg", ending));
	}
	if (by_option >= 0 && by_ending >= 0 && by_option != by_ending) {
		exit(cli_fail_usage(cli, "--type %s is at odds with the ending .%s", options->type, ending));
	}
	int type = by_option >= 0 ? by_option : by_ending >= 0 ? by_ending : PICTURE_PNG;
	if (options->quality != 0 && type != PICTURE_JPEG) {
		exit(cli_fail_usage(cli, "--quality is of jpeg, and this is a %s", types[type].name));
	}
	return (enum picture_type)type;
}

const char *picture_get_ending(enum picture_type type) {
	return types[type].endings[0];
}

int picture_write(const struct picture_options *options, enum picture_type type,
		const struct image *image, struct out_file *file) {
	int ret = -EINVAL;
	switch (type) {
	case PICTURE_PNG:
		ret = image_write_png(image, file);
		break;
	case PICTURE_PPM:
		ret = image_write_ppm(image, file);
		break;
	case PICTURE_JPEG:
		ret = image_write_jpeg(image, file, options->quality != 0 ? options->quality : 80);
		break;
	}
	if (ret == 0) {
		ret = out_file_commit(file);
	}
	return ret == 0 ? EXIT_SUCCESS : cli_fail("cannot write %s: %s", file->name, strerror(-ret));
}
