/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "file.h"
#include "image.h"

/** Begins each frame of a y4m file. */
#define Y4M_FRAME "FRAME\n"
#define Y4M_FRAME_LEN (sizeof(Y4M_FRAME) - 1)
/** A frame can arrive this much later than the time that it bears, in seconds. */
#define MAX_LATENESS 0.25

enum record_format {
	RECORD_Y4M,
	RECORD_RAW,
};

struct record {
	struct cli cli;
	struct vitrine_session *session;
	struct out_file file;
	enum record_format format;
	uint64_t max_frames; // 0 without a limit
	double seconds; // 0 without a limit
	bool constant_rate;
	int32_t rate_mhz; // of the output

	// The file's, fixed by the first frame
	uint32_t width, height, fourcc;
	bool has_header;

	struct image image; // y4m: the frame as it was read
	uint8_t *raw; // raw: the same
	uint8_t *data; // the frame as it is written, after has_header
	size_t data_len;

	uint64_t n_frames; // written
	uint64_t n_torn; // taken back while being read, and left out
	double started; // when the first frame came
	double first_time; // of the first frame; valid with has_header
	bool pending; // constant rate: data is to be written until the next frame's time
	double last_progress;
	const char *end; // why to end, or NULL
};

/** Whether a frame looks like those before it. The first one decides. */
static bool record_fits(struct record *record, const struct vitrine_frame_info *info,
		uint32_t width, uint32_t height) {
	uint32_t fourcc = record->format == RECORD_RAW ? info->fourcc : 0;
	if (!record->has_header) {
		record->width = width;
		record->height = height;
		record->fourcc = fourcc;
		record->first_time = cli_seconds(&info->time);
	}
	return record->width == width && record->height == height && record->fourcc == fourcc;
}

static int record_allocate(struct record *record, size_t len) {
	if (record->data == NULL) {
		record->data_len = len;
		record->data = malloc(len);
		record->raw = record->format == RECORD_RAW ? malloc(len) : NULL;
	}
	return record->data != NULL && (record->format != RECORD_RAW || record->raw != NULL) ?
		0 : -ENOMEM;
}

/** Writes what comes before the first frame, and says what raw frames are. */
static int record_write_header(struct record *record) {
	if (record->format == RECORD_RAW) {
		char fourcc[5];
		cli_note("raw frames of %" PRIu32 "x%" PRIu32 ", %s, %zu bytes each", record->width,
			record->height, cli_fourcc(record->fourcc, fourcc), record->data_len);
		return 0;
	}
	char header[160];
	int len = snprintf(header, sizeof(header), "YUV4MPEG2 W%" PRIu32 " H%" PRIu32 " F%" PRId32
		":1000 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n", record->width, record->height,
		record->rate_mhz);
	return out_file_write(&record->file, header, (size_t)len);
}

static int copy_raw(struct record *record, const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	size_t row = image_get_cpp(info->fourcc) * (size_t)info->width;
	const uint8_t *bytes = vitrine_frame_get_pixels(frame, 0);
	if (row == 0 || bytes == NULL) {
		return -ENOTSUP;
	}
	if (!record_fits(record, info, info->width, info->height)) {
		record->end = "the size or format of the output has changed";
		return 0;
	}
	int ret = record_allocate(record, row * info->height);
	for (uint32_t y = 0; ret == 0 && y < info->height; y++) {
		memcpy(record->raw + y * row, bytes + (size_t)y * info->strides[0], row);
	}
	return ret;
}

static int copy_y4m(struct record *record, const struct vitrine_frame *frame) {
	int ret = image_copy_frame(&record->image, frame);
	if (ret < 0) {
		return ret;
	}
	if (!record_fits(record, vitrine_frame_get_info(frame), record->image.width,
			record->image.height)) {
		record->end = "the size of the output has changed";
		return 0;
	}
	return record_allocate(record, Y4M_FRAME_LEN + image_get_yuv420_size(&record->image));
}

static void convert(struct record *record) {
	if (record->format == RECORD_RAW) {
		memcpy(record->data, record->raw, record->data_len);
		return;
	}
	memcpy(record->data, Y4M_FRAME, Y4M_FRAME_LEN);
	image_convert_yuv420(&record->image, record->data + Y4M_FRAME_LEN);
}

static bool record_is_full(const struct record *record) {
	return record->max_frames > 0 && record->n_frames >= record->max_frames;
}

static int record_write(struct record *record) {
	int ret = out_file_write(&record->file, record->data, record->data_len);
	if (ret == 0) {
		record->n_frames++;
	}
	return ret;
}

/** Repeats the pending frame up to a time, which is of the clock of frames. */
static int record_fill(struct record *record, double time) {
	double slots = (time - record->first_time) * record->rate_mhz / 1000;
	int ret = 0;
	while (record->pending && ret == 0 && (double)record->n_frames + 0.5 < slots &&
			!record_is_full(record) && cli_interrupted < 2) {
		ret = record_write(record);
	}
	return ret;
}

/** Writes what was copied, now that the frame is given back. */
static int record_take(struct record *record, double time) {
	int ret = record->has_header ? 0 : record_write_header(record);
	record->has_header = true;
	if (ret == 0 && record->constant_rate) {
		ret = record_fill(record, time);
	}
	if (ret < 0) {
		return ret;
	}
	convert(record);
	record->pending = true;
	return record->constant_rate ? 0 : record_write(record);
}

static int record_frame(struct record *record, struct vitrine_frame *frame) {
	double time = cli_seconds(&vitrine_frame_get_info(frame)->time);
	int ret = record->format == RECORD_RAW ? copy_raw(record, frame) : copy_y4m(record, frame);
	bool torn = vitrine_frame_is_revoked(frame);
	// Before the output, which may be slow
	vitrine_frame_release(frame);
	if (ret < 0 || record->end != NULL) {
		return ret;
	}
	if (torn) {
		record->n_torn++;
		return 0;
	}
	return record_take(record, time);
}

static void record_print_progress(struct record *record, bool last) {
	double now = cli_now();
	if (!isatty(STDERR_FILENO) || (!last && now - record->last_progress < 0.25)) {
		return;
	}
	record->last_progress = now;
	double seconds = now - record->started;
	fprintf(stderr, "\r%" PRIu64 " frames  %.1f s  %.1f fps  %.1f MB\033[K%s", record->n_frames,
		seconds, seconds > 0 ? (double)record->n_frames / seconds : 0,
		(double)record->file.written / 1e6, last ? "\n" : "");
}

static bool record_is_done(const struct record *record) {
	return record->end != NULL || record_is_full(record) ||
		(record->seconds > 0 && cli_now() - record->started >= record->seconds);
}

/** How long to wait for the next frame, in milliseconds. */
static int record_get_timeout(const struct record *record) {
	if (record->seconds == 0) {
		return CLI_TICK_MS;
	}
	double left = (record->seconds - (cli_now() - record->started)) * 1000;
	return left < 0 ? 0 : left < CLI_TICK_MS ? (int)left + 1 : CLI_TICK_MS;
}

/**
 * Returns 0 at the end, or a negative errno. Sets session_error to the error of
 * a session that has ended by itself.
 */
static int record_loop(struct record *record, struct vitrine_frame *frame, int *session_error) {
	int ret = record_frame(record, frame);
	while (ret == 0 && !record_is_done(record)) {
		int next = cli_next_frame(record->session, record_get_timeout(record), &frame);
		if (next < 0) {
			*session_error = next == -EINTR ? 0 : next;
			break;
		}
		if (next > 0) {
			ret = record_frame(record, frame);
		} else if (record->constant_rate) {
			ret = record_fill(record, cli_now() - MAX_LATENESS);
		}
		record_print_progress(record, false);
	}
	if (ret == 0 && record->constant_rate) {
		ret = record_fill(record, cli_now());
		// However short: what was seen is in the file
		if (ret == 0 && record->pending && record->n_frames == 0) {
			ret = record_write(record);
		}
	}
	return ret;
}

static int record_fail(const struct record *record, int error) {
	char fourcc[5];
	switch (error) {
	case -EPIPE:
		// The reader has seen enough, which is how `| head` ends
		return EXIT_SUCCESS;
	case -EINTR:
		return cli_fail("interrupted while the reader did not read; the last frame is not whole");
	case -ENOMEM:
		return cli_fail("out of memory");
	case -ENOTSUP:
		return cli_fail("frames in the format %s cannot be converted%s",
			cli_fourcc(record->fourcc, fourcc), record->format == RECORD_Y4M ?
			"; try --format raw" : "");
	}
	return cli_fail("cannot write %s: %s", record->file.name, strerror(-error));
}

static int record_finish(struct record *record, int error, int session_error) {
	record_print_progress(record, true);
	if (record->n_torn > 0) {
		cli_note("%" PRIu64 " frames were taken back by the compositor while they were read, "
			"and left out", record->n_torn);
	}
	if (error < 0) {
		return record_fail(record, error);
	}
	if (record->n_frames == 0) {
		return cli_fail("no frame was recorded");
	}
	error = out_file_commit(&record->file);
	if (error < 0) {
		return record_fail(record, error);
	}
	if (session_error < 0) {
		// What came before is good
		return cli_fail_client(&record->cli, session_error);
	}
	if (record->end != NULL) {
		cli_note("%s: the recording ends here, after %" PRIu64 " frames", record->end,
			record->n_frames);
	}
	return EXIT_SUCCESS;
}

static int record_session(struct record *record) {
	struct vitrine_output *output;
	record->session = cli_create_session(&record->cli, &output);
	if (record->session == NULL) {
		return EXIT_FAILURE;
	}
	int32_t width, height;
	vitrine_output_get_mode(output, &width, &height, &record->rate_mhz);
	if (record->rate_mhz == 0) {
		record->rate_mhz = 60000;
	}
	struct vitrine_frame *frame = cli_first_frame(&record->cli, record->session);
	if (frame == NULL) {
		return EXIT_FAILURE;
	}
	record->fourcc = vitrine_frame_get_info(frame)->fourcc;
	record->started = cli_now();
	int session_error = 0;
	int ret = record_loop(record, frame, &session_error);
	return record_finish(record, ret, session_error);
}

static void parse_format(struct record *record, const char *value) {
	if (strcmp(value, "y4m") == 0) {
		record->format = RECORD_Y4M;
	} else if (strcmp(value, "raw") == 0) {
		record->format = RECORD_RAW;
	} else {
		exit(cli_fail_usage(&record->cli, "\"%s\" is no format; there are y4m and raw", value));
	}
}

static void parse_options(struct record *record, int argc, char **argv) {
	static const struct option options[] = {
		{ "frames", required_argument, NULL, 'n' },
		{ "seconds", required_argument, NULL, 's' },
		{ "format", required_argument, NULL, 'f' },
		{ "cfr", no_argument, NULL, 'r' },
		{0},
	};
	int option;
	while ((option = cli_getopt(&record->cli, argc, argv, options)) != -1) {
		switch (option) {
		case 'n':
			record->max_frames = (uint64_t)cli_parse_number(&record->cli, "frames", optarg, 1);
			break;
		case 's':
			record->seconds = cli_parse_number(&record->cli, "seconds", optarg, 0.001);
			break;
		case 'f':
			parse_format(record, optarg);
			break;
		case 'r':
			record->constant_rate = true;
			break;
		}
	}
	if (argc - optind != 1) {
		exit(cli_fail_usage(&record->cli, "wants one file name, or - for standard output"));
	}
}

static int record_run(int argc, char **argv) {
	struct record record = { .file.fd = -1 };
	cli_init(&record.cli, &command_record);
	parse_options(&record, argc, argv);
	const char *path = argv[optind];
	if (strcmp(path, "-") == 0 && isatty(STDOUT_FILENO)) {
		return cli_fail_usage(&record.cli, "does not write video to a terminal");
	}

	if (cli_check_cpu_reads(&record.cli) != 0) {
		return EXIT_USAGE;
	}

	cli_catch_signals();
	int status = cli_open_file(&record.file, path);
	if (status == EXIT_SUCCESS) {
		status = record_session(&record);
	}
	out_file_abort(&record.file);
	cli_finish(&record.cli);
	image_finish(&record.image);
	free(record.raw);
	free(record.data);
	return status;
}

const struct command command_record = {
	.name = "record",
	.synopsis = "[-o OUTPUT] [--frames N] [--seconds S] [--format y4m|raw] [--cfr] FILE|-",
	.summary = "Record frames to a file or a pipe, until it is interrupted",
	.help =
		"      --frames N          end after N frames\n"
		"      --seconds S         end S seconds after the first frame\n"
		"      --format FORMAT     y4m (YUV4MPEG2, the default) or raw (rows without padding)\n"
		"      --cfr               repeat frames so that there is one per refresh of the output;\n"
		"                          otherwise there is one for each change of the picture\n",
	.options = CLI_SESSION | CLI_TIMEOUT | CLI_SOCKET,
	.run = record_run,
};
