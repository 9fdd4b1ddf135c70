/* SPDX-License-Identifier: MIT */
#ifndef RECORD_FILE_H
#define RECORD_FILE_H

#include "encode.h"
#include "file.h"
#include "record_writer.h"

enum record_type {
	RECORD_Y4M,
	RECORD_RAW,
	RECORD_MKV,
	RECORD_MP4,
	RECORD_WEBM,
};
#define RECORD_N_TYPES (RECORD_WEBM + 1)

/** What the file is made of: all frames fit the first one. Zero-initialize, out.fd is -1. */
struct record_file {
	enum record_type type;
	int32_t rate_mhz;
	struct out_file out; // of the thread that writes while there is one

	uint32_t fourcc, transform, width, height; // of the first frame
	struct yuv_layout layout; // but for raw
	size_t picture_len; // 0 before the first frame
	struct yuv_scratch scratch;

	bool has_header;
	const struct encoder_interface *encoding; // for types that are encoded
	struct encoder *encoder; // NULL if none
};

/** Returns a name such as "y4m". */
const char *record_type_get_name(enum record_type type);
/** The type with this name. Returns whether there is one. */
bool record_type_from_name(const char *name, enum record_type *type);
/** Whether frames have to be one for each slot, as their time is not in the file. */
bool record_type_needs_constant_rate(enum record_type type);
bool record_type_is_encoded(enum record_type type);

/** Fixes what pictures are by the first one. Returns 0, -ENOTSUP or -ENOMEM. */
int record_file_begin(struct record_file *file, const struct raster *raster);
/** Whether a picture is as the first one: NULL, or what has changed. */
const char *record_file_find_change(const struct record_file *file,
	const struct raster *raster);
/** Converts a picture to what is written. Returns 0, -ENOTSUP or -ENOMEM. */
int record_file_convert(struct record_file *file, const struct raster *raster,
	uint8_t *picture);
/** Where such pictures go. */
struct record_sink record_file_get_sink(struct record_file *file);
void record_file_finish(struct record_file *file);

#endif
