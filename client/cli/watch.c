/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"

/** Latencies of this many last frames count in the percentiles. */
#define MAX_LATENCIES 16384

struct watch {
	struct cli cli;
	struct vitrine_session *session;
	uint64_t max_frames; // 0 without a limit
	double seconds; // 0 without a limit

	int64_t latencies[MAX_LATENCIES], sorted[MAX_LATENCIES]; // microseconds
	uint64_t n_latencies; // of n_frames: those that a still screen showed again have none
	uint64_t n_frames;
	double first_received, last_received; // seconds
	double started, last_line;
	uint64_t line_frames; // n_frames at the last line
	uint64_t damaged; // pixels of the last frame
	struct vitrine_frame_info info; // of the last frame; pointers are stale
};

static void watch_add_frame(struct watch *watch, const struct vitrine_frame_info *info) {
	if (!info->shown_again) {
		double latency = cli_seconds(&info->received) - cli_seconds(&info->time);
		watch->latencies[watch->n_latencies++ % MAX_LATENCIES] = (int64_t)(latency * 1e6);
	}
	watch->n_frames++;
	watch->last_received = cli_seconds(&info->received);
	if (watch->n_frames == 1) {
		watch->first_received = watch->last_received;
	}
	watch->damaged = 0;
	for (size_t i = 0; i < info->n_damage; i++) {
		watch->damaged += (uint64_t)info->damage[i].width * info->damage[i].height;
	}
	watch->info = *info;
}

static int compare_int64(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static size_t watch_sort(struct watch *watch) {
	size_t n = watch->n_latencies < MAX_LATENCIES ? (size_t)watch->n_latencies : MAX_LATENCIES;
	memcpy(watch->sorted, watch->latencies, n * sizeof(watch->sorted[0]));
	qsort(watch->sorted, n, sizeof(watch->sorted[0]), compare_int64);
	return n;
}

static int64_t get_percentile(const struct watch *watch, size_t n, unsigned percent) {
	return watch->sorted[(n - 1) * percent / 100];
}

/** NULL, which JSON writes as null, if there are none. */
static struct json_object *make_percentile(const struct watch *watch, size_t n, unsigned percent) {
	return n == 0 ? NULL : json_object_new_int64(get_percentile(watch, n, percent));
}

/** Of the terminal. */
static int get_columns(void) {
	struct winsize size;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

static void watch_print_line(struct watch *watch, bool terminal) {
	double now = cli_now();
	double fps = (double)(watch->n_frames - watch->line_frames) / (now - watch->last_line);
	watch->line_frames = watch->n_frames;
	watch->last_line = now;

	struct vitrine_session_stats stats;
	vitrine_session_get_stats(watch->session, &stats);
	size_t n = watch_sort(watch);
	char latency[64] = "-";
	if (n > 0) {
		snprintf(latency, sizeof(latency), "p50 %" PRId64 " p99 %" PRId64 " us",
			get_percentile(watch, n, 50), get_percentile(watch, n, 99));
	}
	const struct vitrine_frame_info *info = &watch->info;
	uint64_t pixels = (uint64_t)info->width * info->height;
	char fourcc[5];
	char line[256];
	snprintf(line, sizeof(line), "%" PRIu32 "x%" PRIu32 " %s  %5.1f fps  latency %s  "
		"damage %3.0f%%  frames %" PRIu64 "  skipped %" PRIu64 "  revoked %" PRIu64 "  %s, %s%s",
		info->width, info->height,
		watch->n_frames > 0 ? cli_fourcc(info->fourcc, fourcc) : "-", fps, latency,
		pixels > 0 ? 100.0 * (double)watch->damaged / (double)pixels : 0.0,
		watch->n_frames, stats.skipped, stats.revoked,
		watch->n_frames > 0 ? vitrine_guarantee_name(info->guarantee) : "no frame yet",
		watch->n_frames > 0 ? vitrine_storage_name(info->storage) : "waiting",
		!vitrine_session_is_off(watch->session) ? "" :
		watch->cli.window != NULL ? ", the window shows nothing" : ", the output is off");
	if (terminal) {
		// A longer one would go on in the next row, and stay there
		printf("\r%.*s\033[K", get_columns() - 1, line);
	} else {
		puts(line);
	}
}

static double watch_get_fps(const struct watch *watch) {
	double seconds = watch->last_received - watch->first_received;
	return watch->n_frames > 1 && seconds > 0 ? (double)(watch->n_frames - 1) / seconds : 0;
}

static int watch_print_json(struct watch *watch) {
	struct vitrine_session_stats stats;
	vitrine_session_get_stats(watch->session, &stats);
	size_t n = watch_sort(watch);
	bool any = watch->n_frames > 0;
	const char *guarantee = any ? vitrine_guarantee_name(watch->info.guarantee) : NULL;
	const char *storage = any ? vitrine_storage_name(watch->info.storage) : NULL;

	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "frames", json_object_new_uint64(watch->n_frames));
	json_object_object_add(object, "fps", cli_json_number(watch_get_fps(watch)));
	json_object_object_add(object, "guarantee",
		guarantee != NULL ? json_object_new_string(guarantee) : NULL);
	json_object_object_add(object, "storage",
		storage != NULL ? json_object_new_string(storage) : NULL);
	json_object_object_add(object, "distinct_buffers", json_object_new_uint64(stats.views));
	json_object_object_add(object, "planes", json_object_new_uint64(stats.planes));
	json_object_object_add(object, "fds_received", json_object_new_uint64(stats.fds));
	json_object_object_add(object, "latency_us_p50", make_percentile(watch, n, 50));
	json_object_object_add(object, "latency_us_p99", make_percentile(watch, n, 99));
	json_object_object_add(object, "skipped", json_object_new_uint64(stats.skipped));
	json_object_object_add(object, "revoked", json_object_new_uint64(stats.revoked));
	return cli_print_json(object);
}

static bool watch_is_done(const struct watch *watch) {
	return (watch->max_frames > 0 && watch->n_frames >= watch->max_frames) ||
		(watch->seconds > 0 && cli_now() - watch->started >= watch->seconds) ||
		cli_stdout_is_broken();
}

/** How long to wait for the next frame, in milliseconds: what comes after the end is too late. */
static int watch_get_timeout(const struct watch *watch) {
	double left = (watch->started + watch->seconds - cli_now()) * 1000;
	return watch->seconds == 0 || left > CLI_TICK_MS ? CLI_TICK_MS : left > 0 ? (int)left + 1 : 0;
}

/** Returns 0 at the end, or a negative errno. */
static int watch_loop(struct watch *watch) {
	bool terminal = isatty(STDOUT_FILENO);
	watch->started = watch->last_line = cli_now();
	while (!watch_is_done(watch)) {
		struct vitrine_frame *frame;
		int ret = cli_next_frame(watch->session, watch_get_timeout(watch), &frame);
		if (ret < 0) {
			return ret == -EINTR ? 0 : ret;
		}
		if (ret > 0) {
			watch_add_frame(watch, vitrine_frame_get_info(frame));
			vitrine_frame_release(frame);
		}
		if (!watch->cli.json && cli_now() - watch->last_line >= (terminal ? 0.25 : 1.0)) {
			watch_print_line(watch, terminal);
		}
	}
	return 0;
}

/** Whether all that was waited for has come. Returns an exit status. */
static int watch_judge(const struct watch *watch, int error) {
	if (error < 0) {
		return cli_fail_client(&watch->cli, error);
	}
	bool ended = watch->seconds > 0 && !cli_interrupted && !cli_stdout_is_broken();
	return !ended || watch->n_frames >= watch->max_frames ? EXIT_SUCCESS :
		cli_fail("%" PRIu64 " of %" PRIu64 " frames came in %g s", watch->n_frames,
			watch->max_frames, watch->seconds);
}

static int watch_finish(struct watch *watch, int error) {
	if (watch->cli.json) {
		int status = watch_print_json(watch);
		return status != EXIT_SUCCESS ? status : watch_judge(watch, error);
	}
	bool terminal = isatty(STDOUT_FILENO);
	if (watch->n_frames > watch->line_frames) {
		watch_print_line(watch, terminal);
	}
	if (terminal) {
		putchar('\n');
	}
	int status = cli_flush_stdout();
	return status != EXIT_SUCCESS ? status : watch_judge(watch, error);
}

enum {
	OPTION_FRAMES = CLI_NO_LETTER,
	OPTION_SECONDS,
};

static const struct cli_option options[] = {
	{ "frames", OPTION_FRAMES, "N", "end after N frames" },
	{ "seconds", OPTION_SECONDS, "S", "end after S seconds; it is an error if --frames did not come" },
	{ 0 },
};

static void parse_options(struct watch *watch, int argc, char **argv) {
	int option;
	while ((option = cli_getopt(&watch->cli, argc, argv)) != -1) {
		if (option == OPTION_FRAMES) {
			watch->max_frames = (uint64_t)cli_parse_number(&watch->cli, "frames", optarg, 1);
		} else {
			watch->seconds = cli_parse_number(&watch->cli, "seconds", optarg, 0.001);
		}
	}
	if (optind != argc) {
		exit(cli_fail_usage(&watch->cli, "\"%s\" is too much", argv[optind]));
	}
}

static int watch_run(int argc, char **argv) {
	static struct watch watch; // too large for the stack
	cli_init(&watch.cli, &command_watch);
	watch.cli.implicit_release = true; // no pixel is looked at
	parse_options(&watch, argc, argv);

	cli_catch_signals();
	int status = cli_create_session(&watch.cli, &watch.session, NULL);
	if (status == EXIT_SUCCESS) {
		status = watch_finish(&watch, watch_loop(&watch));
	}
	cli_finish(&watch.cli);
	return status;
}

const struct command command_watch = {
	.name = "watch",
	.synopsis = "[-o OUTPUT|-w WINDOW] [--frames N] [--seconds S] [--json]",
	.summary = "Show rate, latency, damage and guarantee of the frames as they come",
	.own = options,
	.options = CLI_SOURCE | CLI_SESSION | CLI_TIMEOUT | CLI_JSON | CLI_SOCKET,
	.run = watch_run,
};
