/* SPDX-License-Identifier: MIT */
#ifndef CLI_PICTURE_H
#define CLI_PICTURE_H

#include "cli.h"
#include "image.h"

struct out_file;

enum picture_type {
	PICTURE_PNG,
	PICTURE_PPM,
	PICTURE_JPEG,
};

struct picture_options {
	const char *type; // as of --type, NULL for that of the file's ending
	int quality; // of JPEG, 1 to 100
};

/** Options of commands that write pictures: picture_parse_option() knows them. */
#define PICTURE_OPTIONS \
	{ "type", 't', "TYPE", "png, ppm or jpeg; that of the file's ending by default", \
		.values = "png ppm jpeg" }, \
	{ "quality", 'q', "N", "of a JPEG, from 1 to 100 (80)" }

/** Returns false if the option is another one. Exits for values that cannot be. */
bool picture_parse_option(const struct cli *cli, struct picture_options *options, int option);
/**
 * The type that the option and the ending of the file agree on: PNG if neither says. Exits
 * with EXIT_USAGE if they do not.
 */
enum picture_type picture_choose_type(const struct cli *cli, const struct picture_options *options,
	const char *path);
/** The ending of files of this type, without a dot. */
const char *picture_get_ending(enum picture_type type);
/** Writes and commits the file. Returns an exit status, after printing why. */
int picture_write(const struct picture_options *options, enum picture_type type,
	const struct image *image, struct out_file *file);

#endif
