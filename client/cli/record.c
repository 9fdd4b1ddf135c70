/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "record_file.h"
#include "record_source.h"

/** A frame can arrive this much later than the time that it bears, in seconds. */
#define MAX_LATENESS 0.25
/** What waits to be written at a constant rate, at most, in seconds. */
#define MAX_LAG 1.0
/** After the end, to write what waits, and then to end the frame that was begun, in seconds. */
#define DRAIN_TIME 0.4
#define GRACE_TIME 0.3
/** An encoder has pictures of its own to end with. */
#define ENCODER_GRACE_TIME 10
/** How often a still screen is looked at, in milliseconds. */
#define TICK_MS 50
#define DEFAULT_RATE_MHZ 60000
#define MAX_RATE_MHZ 1000000

struct record {
	struct cli cli;
	struct record_source source;
	struct record_file file;
	struct record_writer *writer; // NULL before the first frame
	enum record_pace pace;
	uint64_t max_frames; // 0 without a limit
	double seconds; // 0 without a limit
	bool every_change, constant_rate; // as asked for
	const char *path; // NULL for a name with the time
	char *own_path; // that name, or NULL

	double zero; // the time of the first slot
	double last_progress;
	const char *end; // why to end, or NULL
};

static double record_get_slots(const struct record *record, double seconds) {
	return seconds * record->file.rate_mhz / 1000;
}

/** The slots that there are in the whole recording. */
static uint64_t record_get_end_slot(const struct record *record) {
	if (record->seconds == 0) {
		return UINT64_MAX;
	}
	double slots = round(record_get_slots(record, record->seconds));
	return slots < 1 ? 1 : (uint64_t)slots;
}

/** The slot that a time is nearest to. Times of the compositor may be any. */
static uint64_t record_find_slot(const struct record *record, double time) {
	double now = cli_now();
	double since = fmin(time, now) - record->zero;
	uint64_t slot = since > 0 ? (uint64_t)(record_get_slots(record, since) + 0.5) : 0;
	uint64_t end = record_get_end_slot(record);
	return slot < end ? slot : end;
}

/** What the first picture decides. */
static int record_begin(struct record *record) {
	const struct record_source *source = &record->source;
	int ret = record_file_begin(&record->file, &source->raster);
	if (ret < 0) {
		return ret;
	}
	// What a still screen shows is as old as it has been still: that was not recorded
	double time = cli_seconds(&source->time), now = cli_now();
	record->zero = !source->shown_again && time < now ? time : now;
	const struct record_writer_options options = {
		.pace = record->pace,
		.sink = record_file_get_sink(&record->file),
		.picture_len = record->file.picture_len,
		.max_frames = record->max_frames,
		.max_lag = (uint64_t)fmax(record_get_slots(record, MAX_LAG), 1),
	};
	return record_writer_create(&options, &record->writer);
}

/** Converts a picture and gives it back, before what comes next. */
static int record_add(struct record *record) {
	struct record_source *source = &record->source;
	uint64_t slot = record_find_slot(record, cli_seconds(&source->time));
	if (slot == record_get_end_slot(record)) {
		record_source_release(source); // it came after the end
		return 0;
	}
	uint8_t *room = record_writer_get_room(record->writer);
	if (room == NULL) {
		record_source_release(source);
		return -ENOMEM;
	}
	int ret = record_file_convert(&record->file, &source->raster, room);
	bool torn = record_source_release(source);
	if (ret < 0 || torn) {
		record_writer_give_back(record->writer);
		return ret;
	}
	record_writer_push(record->writer, slot);
	return 0;
}

/** What there is a new picture of. */
static int record_picture(struct record *record) {
	struct record_source *source = &record->source;
	int ret = record->writer == NULL ? record_begin(record) : 0;
	if (ret == 0) {
		record->end = record_file_find_change(&record->file, &source->raster);
	}
	if (ret < 0 || record->end != NULL) {
		record_source_release(source);
		return ret;
	}
	return record_add(record);
}

static void record_print_progress(struct record *record, bool last) {
	double now = cli_now();
	if (!isatty(STDERR_FILENO) || (!last && now - record->last_progress < 0.25)) {
		return;
	}
	record->last_progress = now;
	double seconds = now - record->zero;
	struct record_writer_stats stats;
	record_writer_get_stats(record->writer, &stats);
	fprintf(stderr, "\r%" PRIu64 " frames  %.1f s  %.1f fps  %.1f MB\033[K%s", stats.written,
		seconds, seconds > 0 ? (double)stats.written / seconds : 0, (double)stats.bytes / 1e6,
		last ? "\n" : "");
}

static double record_get_time_left(const struct record *record) {
	return record->seconds > 0 ? record->zero + record->seconds - cli_now() : INFINITY;
}

static bool record_is_done(const struct record *record) {
	return record->end != NULL || record_get_time_left(record) <= 0 ||
		record_writer_is_done(record->writer);
}

/** How long to wait for the next frame, in milliseconds. */
static int record_get_timeout(const struct record *record) {
	double left = fmax(record_get_time_left(record), 0) * 1000;
	return left < TICK_MS ? (int)left + 1 : TICK_MS;
}

/**
 * Returns 0 at the end, or a negative errno. Sets session_error to the error of
 * a session that has ended by itself.
 */
static int record_loop(struct record *record, int *session_error) {
	struct record_source *source = &record->source;
	int ret = record_picture(record);
	while (ret == 0 && !record_is_done(record)) {
		int next = record_source_next(source, record_get_timeout(record));
		if (next < 0) {
			*session_error = next == -EINTR ? 0 : next;
			break;
		}
		if (next > 0) {
			ret = record_picture(record);
		} else {
			ret = source->read_error;
			record->end = source->change;
			record_writer_extend(record->writer,
				record_find_slot(record, cli_now() - MAX_LATENESS));
		}
		if (ret == 0) {
			record_print_progress(record, false);
		}
	}
	return ret;
}

/** Has all of it written, as far as there is time. */
static int record_drain(struct record *record) {
	// However short: what was seen is in the file
	uint64_t end = record_find_slot(record, cli_now());
	record_writer_extend(record->writer, end > 0 ? end : 1);
	bool is_encoded = record_type_is_encoded(record->file.type);
	double now = cli_now();
	struct record_deadlines deadlines = { INFINITY, INFINITY };
	if (record->seconds > 0 || cli_interrupted > 0) {
		deadlines.last_frame = now + DRAIN_TIME;
	}
	if (record->seconds > 0) {
		deadlines.give_up = now + DRAIN_TIME + (is_encoded ? ENCODER_GRACE_TIME : GRACE_TIME);
	}
	return record_writer_finish(record->writer, &deadlines);
}

static int record_fail(const struct record *record, int error) {
	char fourcc[5];
	switch (error) {
	case -EPIPE:
		// The reader has seen enough, which is how `| head` ends
		return EXIT_SUCCESS;
	case -EINTR:
		return cli_fail("the reader of %s did not read in time; the last frame is not whole",
			record->file.out.name);
	case -ENOMEM:
		return cli_fail("out of memory");
	case -ENOTSUP:
		return cli_fail("frames in the format %s cannot be converted%s",
			cli_fourcc(record->file.fourcc, fourcc), record->file.type == RECORD_RAW ? "" :
			"; try --type raw");
	}
	return cli_fail("cannot write %s: %s", record->file.out.name, strerror(-error));
}

/** One line for all that is not in the file, if there is any. */
static void record_print_losses(const struct record *record,
		const struct record_writer_stats *stats) {
	const struct {
		uint64_t n;
		const char *what;
	} losses[] = {
		{ stats->dropped, "dropped as it was not written fast enough" },
		{ stats->unseen, "replaced by newer ones before they were written" },
		{ record->source.n_skipped, "skipped by the compositor" },
		{ record->source.n_torn, "taken back by the compositor while they were read" },
	};
	char text[256];
	size_t used = 0;
	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		if (losses[i].n > 0) {
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRIu64 " %s",
				used > 0 ? ", " : "", losses[i].n, losses[i].what);
		}
	}
	if (used > 0) {
		cli_note("frames that are not in the recording: %s", text);
	}
}

static int record_finish(struct record *record, int error, int session_error) {
	if (record->writer == NULL) {
		return record_fail(record, error);
	}
	int write_error = record_drain(record);
	error = error < 0 ? error : write_error;
	record_print_progress(record, true);
	struct record_writer_stats stats;
	record_writer_get_stats(record->writer, &stats);
	record_print_losses(record, &stats);
	if (error < 0) {
		return record_fail(record, error);
	}
	if (stats.written == 0) {
		return cli_fail("no frame was recorded");
	}
	error = out_file_commit(&record->file.out);
	if (error < 0) {
		return record_fail(record, error);
	}
	if (record->own_path != NULL) {
		puts(record->own_path); // scripts read which name the file got
	}
	if (session_error < 0) {
		// What came before is good
		return cli_fail_client(&record->cli, session_error);
	}
	if (record->end != NULL) {
		cli_note("%s: the recording ends here, after %" PRIu64 " frame%s", record->end,
			stats.written, stats.written == 1 ? "" : "s");
	}
	return record->own_path != NULL ? cli_flush_stdout() : EXIT_SUCCESS;
}

/** The rate that was asked for, or that of the fastest output. */
static void record_choose_rate(struct record *record) {
	int32_t rate_mhz = record_source_get_refresh(&record->source);
	if (record->file.rate_mhz > 0) {
		return;
	}
	if (rate_mhz > 0 && rate_mhz <= MAX_RATE_MHZ) {
		record->file.rate_mhz = rate_mhz;
		return;
	}
	record->file.rate_mhz = DEFAULT_RATE_MHZ;
	if (record->pace == RECORD_CONSTANT_RATE && rate_mhz >= 0) {
		cli_note("the compositor does not say how often the output is refreshed: recording "
			"%d frames a second, --rate chooses", DEFAULT_RATE_MHZ / 1000);
	}
}

static int record_session(struct record *record) {
	int status = record_source_open(&record->source, &record->cli);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	record_choose_rate(record);
	status = record_source_wait(&record->source);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	int session_error = 0;
	int ret = record_loop(record, &session_error);
	return record_finish(record, ret, session_error);
}

static const char *const type_list = "y4m, raw, mkv, mp4 and webm";

static void parse_type(struct record *record, const char *value) {
	if (!record_type_from_name(value, &record->file.type)) {
		exit(cli_fail_usage(&record->cli, "\"%s\" is no type; there are %s", value, type_list));
	}
}

static void parse_rate(struct record *record, double rate) {
	if (rate * 1000 > MAX_RATE_MHZ) {
		exit(cli_fail_usage(&record->cli, "--rate wants %d frames a second at most",
			MAX_RATE_MHZ / 1000));
	}
	record->file.rate_mhz = (int32_t)lround(rate * 1000);
	record->constant_rate = true;
}

enum {
	OPTION_FRAMES = CLI_NO_LETTER,
	OPTION_SECONDS,
	OPTION_RATE,
	OPTION_EVERY_CHANGE,
	OPTION_CFR,
};

static const struct cli_option options[] = {
	{ "frames", OPTION_FRAMES, "N", "end after N frames" },
	{ "seconds", OPTION_SECONDS, "S", "record S seconds, and be done then whatever reads it" },
	{ "type", 't', "TYPE", "y4m (YUV4MPEG2), raw (rows without padding), mkv, mp4, webm;\n"
		"that of the file's ending by default, y4m for others",
		.values = "y4m raw mkv mp4 webm" },
	{ "format", 't', "TYPE", NULL }, // before it was --type
	{ "rate", OPTION_RATE, "FPS", "frames a second, as many as the output has by default" },
	{ "every-change", OPTION_EVERY_CHANGE, NULL,
		"one frame for each change of the picture, however long it\n"
		"stood; the default for raw without --rate" },
	{ "cfr", OPTION_CFR, NULL, NULL }, // before it was the default
	{ 0 },
};

/** Returns whether the option is one. */
static bool parse_option(struct record *record, int option) {
	switch (option) {
	case OPTION_FRAMES:
		record->max_frames = (uint64_t)cli_parse_number(&record->cli, "frames", optarg, 1);
		return true;
	case OPTION_SECONDS:
		record->seconds = cli_parse_number(&record->cli, "seconds", optarg, 0.001);
		return true;
	case OPTION_RATE:
		parse_rate(record, cli_parse_number(&record->cli, "rate", optarg, 0.001));
		return true;
	case OPTION_EVERY_CHANGE:
		record->every_change = true;
		return true;
	case OPTION_CFR: // before it was the default
		record->constant_rate = true;
		return true;
	}
	return false;
}

/** The ending of a file's name. */
static const char *get_ending(const char *path) {
	const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
	return dot != NULL && dot > (slash != NULL ? slash : path) ? dot + 1 : "";
}

/** Of a file that has no name yet: one that plays, if there is an encoder. */
static enum record_type get_default_type(void) {
	const char *reason;
	return encoder_load(CONTAINER_MKV, &reason) != NULL ? RECORD_MKV : RECORD_Y4M;
}

/** The type that was asked for, or that of the file's ending: both are the same, or it fails. */
static void choose_type(struct record *record, const char *type, const char *path) {
	const char *ending = path != NULL ? get_ending(path) : "";
	enum record_type of_ending;
	bool is_known = record_type_from_name(ending, &of_ending);
	if (type != NULL) {
		parse_type(record, type);
		if (is_known && of_ending != record->file.type) {
			exit(cli_fail_usage(&record->cli, "\"%s\" would be a file of type %s, not %s", path,
				type, ending));
		}
	} else if (is_known) {
		record->file.type = of_ending;
	} else if (path == NULL) {
		record->file.type = get_default_type();
	} else if (*ending != '\0') {
		exit(cli_fail_usage(&record->cli, "\".%s\" is no type of file; there are %s, and --type",
			ending, type_list));
	}
}

static void choose_pace(struct record *record) {
	// A y4m file says its rate in either case
	if (record->every_change && record->constant_rate && record->file.type == RECORD_RAW) {
		exit(cli_fail_usage(&record->cli, "--every-change is at odds with --rate"));
	}
	if (record_type_is_encoded(record->file.type)) {
		record->pace = RECORD_TIMED;
	} else if (record->every_change) {
		record->pace = RECORD_EVERY_CHANGE;
	} else {
		record->pace = record->constant_rate ||
			record_type_needs_constant_rate(record->file.type) ?
			RECORD_CONSTANT_RATE : RECORD_EVERY_CHANGE;
	}
}

static void parse_options(struct record *record, int argc, char **argv) {
	int option;
	const char *type = NULL;
	while ((option = cli_getopt(&record->cli, argc, argv)) != -1) {
		if (!parse_option(record, option) && option == 't') {
			type = optarg;
		}
	}
	if (argc - optind > 1) {
		exit(cli_fail_usage(&record->cli, "wants one file name, or - for standard output"));
	}
	record->path = argv[optind]; // or the NULL at the end
	choose_type(record, type, record->path);
	choose_pace(record);
	if (record->path != NULL && strcmp(record->path, "-") == 0 && isatty(STDOUT_FILENO)) {
		exit(cli_fail_usage(&record->cli, "does not write video to a terminal"));
	}
	if (cli_check_cpu_reads(&record->cli) != 0) {
		exit(EXIT_USAGE);
	}
}

/** Returns EXIT_SUCCESS, or another status after printing why the file cannot be written. */
static int load_encoder(struct record *record) {
	if (!record_type_is_encoded(record->file.type)) {
		return EXIT_SUCCESS;
	}
	const char *reason;
	record->file.encoding =
		encoder_load((enum container)(record->file.type - RECORD_MKV), &reason);
	if (record->file.encoding != NULL) {
		return EXIT_SUCCESS;
	}
	const char *path = record->path == NULL || strcmp(record->path, "-") == 0 ? "FILE" :
		record->path;
	return cli_fail("cannot encode %s: %s; `vitrine record - | ffmpeg -i - -vf "
		"'pad=ceil(iw/2)*2:ceil(ih/2)*2' %s` does",
		record_type_get_name(record->file.type), reason, path);
}

static int open_file(struct record *record) {
	if (record->path == NULL) {
		return cli_open_own_file(&record->file.out, "XDG_VIDEOS_DIR",
			record_type_get_name(record->file.type), &record->own_path);
	}
	return cli_open_file(&record->file.out, record->path);
}

static int record_run(int argc, char **argv) {
	struct record record = { .file.out.fd = -1 };
	cli_init(&record.cli, &command_record);
	parse_options(&record, argc, argv);
	if (load_encoder(&record) != EXIT_SUCCESS) {
		return EXIT_FAILURE;
	}

	cli_catch_signals();
	int status = open_file(&record);
	if (status == EXIT_SUCCESS) {
		status = record_session(&record);
	}
	record_writer_destroy(record.writer);
	record_file_finish(&record.file);
	record_source_finish(&record.source);
	cli_finish(&record.cli);
	free(record.own_path);
	return status;
}

const struct command command_record = {
	.name = "record",
	.synopsis = "[-o OUTPUT|-w WINDOW|-g REGION|-a] [-s FACTOR] [--frames N] [--seconds S] [-t TYPE] [--rate FPS] [--every-change] [FILE|-]",
	.summary = "Record frames to a file or a pipe, until it is interrupted",
	.own = options,
	.options = CLI_SOURCE | CLI_REGION | CLI_SESSION | CLI_TIMEOUT | CLI_SOCKET,
	.takes_file = true,
	.run = record_run,
};
