/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "record_file.h"

/** Begins each frame of a y4m file. Luma comes after it, and is aligned. */
#define Y4M_FRAME "FRAME\n"
#define Y4M_FRAME_LEN (sizeof(Y4M_FRAME) - 1)
#define Y4M_LUMA 64
/** As much as a user without privileges may have in a pipe: frames are large. */
#define PIPE_SIZE (1024 * 1024)

static const char *const names[RECORD_N_TYPES] = {
	[RECORD_Y4M] = "y4m",
	[RECORD_RAW] = "raw",
	[RECORD_MKV] = "mkv",
	[RECORD_MP4] = "mp4",
	[RECORD_WEBM] = "webm",
};

const char *record_type_get_name(enum record_type type) {
	return names[type];
}

bool record_type_from_name(const char *name, enum record_type *type) {
	for (int i = 0; i < RECORD_N_TYPES; i++) {
		if (strcasecmp(names[i], name) == 0) {
			*type = (enum record_type)i;
			return true;
		}
	}
	return false;
}

bool record_type_needs_constant_rate(enum record_type type) {
	return type == RECORD_Y4M;
}

bool record_type_is_encoded(enum record_type type) {
	return type >= RECORD_MKV;
}

/** As wlr-randr and sway say it; the compositor may send any number. */
static const char *get_transform_name(uint32_t transform) {
	static const char *const transforms[] = {
		"normal", "90", "180", "270", "flipped", "flipped-90", "flipped-180", "flipped-270",
	};
	return transform < sizeof(transforms) / sizeof(transforms[0]) ? transforms[transform] :
		"unknown";
}

static int write_encoded(void *data, const uint8_t *bytes, size_t len) {
	struct record_file *file = data;
	return out_file_write(&file->out, bytes, len);
}

static int64_t seek_encoded(void *data, int64_t offset, int whence) {
	struct record_file *file = data;
	off_t pos = lseek(file->out.fd, offset, whence);
	return pos < 0 ? -errno : pos;
}

static int begin_encoded(struct record_file *file) {
	file->encoder = file->encoding->create(&(struct encoder_options){
		.container = (enum container)(file->type - RECORD_MKV),
		.layout = file->layout,
		.rate_mhz = file->rate_mhz,
		.write = write_encoded,
		.seek = file->out.path != NULL ? seek_encoded : NULL,
		.data = file,
	});
	return file->encoder != NULL ? 0 : -ENOMEM;
}

static int begin_raw(struct record_file *file) {
	char fourcc[5];
	file->picture_len = image_get_cpp(file->fourcc) * (size_t)file->width * file->height;
	if (file->picture_len == 0) {
		return -ENOTSUP;
	}
	cli_note("raw frames of %" PRIu32 "x%" PRIu32 ", %s, %zu bytes each, transform %s", file->width,
		file->height, cli_fourcc(file->fourcc, fourcc), file->picture_len,
		get_transform_name(file->transform));
	return 0;
}

int record_file_begin(struct record_file *file, const struct raster *raster) {
	file->fourcc = raster->fourcc;
	file->transform = raster->transform;
	file->width = raster->width;
	file->height = raster->height;
	int pipe_size = fcntl(file->out.fd, F_GETPIPE_SZ);
	if (pipe_size >= 0 && pipe_size < PIPE_SIZE) {
		fcntl(file->out.fd, F_SETPIPE_SZ, PIPE_SIZE); // at best
	}
	if (file->type == RECORD_RAW) {
		return begin_raw(file);
	}
	yuv_layout_init(&file->layout, raster, record_type_is_encoded(file->type));
	file->picture_len = yuv_get_size(&file->layout);
	if (file->type == RECORD_Y4M) {
		file->picture_len += Y4M_LUMA;
		return 0;
	}
	return begin_encoded(file);
}

const char *record_file_find_change(const struct record_file *file,
		const struct raster *raster) {
	if (file->type != RECORD_RAW) {
		struct yuv_layout layout;
		yuv_layout_init(&layout, raster, false);
		return layout.width == file->layout.width && layout.height == file->layout.height ?
			NULL : "the size of the picture has changed";
	}
	if (raster->width != file->width || raster->height != file->height) {
		return "the size of the picture has changed";
	}
	if (raster->fourcc != file->fourcc) {
		return "the format of the picture has changed";
	}
	return raster->transform != file->transform ? "the transform of the picture has changed" : NULL;
}

static int convert_raw(const struct record_file *file, const struct raster *raster,
		uint8_t *picture) {
	const uint8_t *bytes = raster->bytes;
	size_t row = image_get_cpp(file->fourcc) * (size_t)file->width;
	if (bytes == NULL) {
		return -ENOTSUP;
	}
	if (raster->stride == row) {
		memcpy(picture, bytes, file->picture_len); // which leaves the caches alone
		return 0;
	}
	for (uint32_t y = 0; y < file->height; y++) {
		memcpy(picture + y * row, bytes + (size_t)y * raster->stride, row);
	}
	return 0;
}

int record_file_convert(struct record_file *file, const struct raster *raster,
		uint8_t *picture) {
	switch (file->type) {
	case RECORD_RAW:
		return convert_raw(file, raster, picture);
	case RECORD_Y4M:
		memcpy(picture + Y4M_LUMA - Y4M_FRAME_LEN, Y4M_FRAME, Y4M_FRAME_LEN);
		return yuv_convert(&file->layout, raster, &file->scratch, picture + Y4M_LUMA);
	default:
		return yuv_convert(&file->layout, raster, &file->scratch, picture);
	}
}

static int write_y4m_header(struct record_file *file) {
	char header[160];
	int len = snprintf(header, sizeof(header), "YUV4MPEG2 W%" PRIu32 " H%" PRIu32 " F%" PRId32
		":1000 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n", file->layout.width,
		file->layout.height, file->rate_mhz);
	return out_file_write(&file->out, header, (size_t)len);
}

static int write_bytes(struct record_file *file, const uint8_t *bytes, size_t len) {
	uint64_t before = file->out.written;
	int ret = out_file_write(&file->out, bytes, len);
	if (ret == -EINTR && file->out.written == before) {
		file->out.error = 0; // nothing is amiss with the file
		return -ECANCELED;
	}
	return ret;
}

static int write_picture(void *data, const uint8_t *picture, uint64_t slot) {
	struct record_file *file = data;
	if (file->encoder != NULL) {
		return file->encoding->write(file->encoder, picture, slot);
	}
	size_t skip = 0;
	if (file->type == RECORD_Y4M) {
		int ret = file->has_header ? 0 : write_y4m_header(file);
		if (ret < 0) {
			return ret;
		}
		file->has_header = true;
		skip = Y4M_LUMA - Y4M_FRAME_LEN;
	}
	return write_bytes(file, picture + skip, file->picture_len - skip);
}

static int finish_encoder(void *data) {
	struct record_file *file = data;
	return file->encoding->finish(file->encoder);
}

static uint64_t get_bytes(void *data) {
	const struct record_file *file = data;
	return file->out.written;
}

static void give_up(void *data) {
	struct record_file *file = data;
	atomic_store(&file->out.give_up, true);
}

struct record_sink record_file_get_sink(struct record_file *file) {
	return (struct record_sink){
		.write = write_picture,
		.finish = file->encoder != NULL ? finish_encoder : NULL,
		.get_bytes = get_bytes,
		.give_up = give_up,
		.data = file,
	};
}

void record_file_finish(struct record_file *file) {
	if (file->encoder != NULL) {
		file->encoding->destroy(file->encoder);
	}
	file->encoder = NULL;
	yuv_scratch_finish(&file->scratch);
	out_file_abort(&file->out);
}
