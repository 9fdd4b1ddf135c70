/* SPDX-License-Identifier: MIT */
#ifndef CLI_ENCODE_H
#define CLI_ENCODE_H

#include "yuv.h"

/** A file of video, which is encoded in software. */
struct encoder;

enum container {
	CONTAINER_MKV,
	CONTAINER_MP4,
	CONTAINER_WEBM,
};

struct encoder_options {
	enum container container;
	struct yuv_layout layout; // even
	int32_t rate_mhz; // of slots
	/** Writes all of it. Returns 0 or a negative errno. */
	int (*write)(void *data, const uint8_t *bytes, size_t len);
	/** As lseek(), with a negative errno. NULL if what was written cannot be changed. */
	int64_t (*seek)(void *data, int64_t offset, int whence);
	void *data;
};

/** What the module gives: libavcodec has a hundred libraries, which other commands do without. */
struct encoder_interface {
	/** Whether there is an encoder for this container: NULL, or in words why not. */
	const char *(*check)(enum container container);
	/** Writes nothing yet. Returns NULL without memory. */
	struct encoder *(*create)(const struct encoder_options *options);
	/** Accepts NULL. */
	void (*destroy)(struct encoder *encoder);
	/** Encodes a picture of the layout. Slots grow. Returns 0 or a negative errno. */
	int (*write)(struct encoder *encoder, const uint8_t *yuv, uint64_t slot);
	/** Ends the file well. Returns 0 or a negative errno. */
	int (*finish)(struct encoder *encoder);
};

#define ENCODER_MODULE "vitrine-encode.so"
/** The name of the interface in the module. */
#define ENCODER_SYMBOL "vitrine_encoder"

/**
 * Loads the module, for as long as the program runs. Returns NULL, and in `reason` why, if
 * it cannot encode for this container.
 */
const struct encoder_interface *encoder_load(enum container container, const char **reason);

#endif
