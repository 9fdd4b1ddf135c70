/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "cli.h"

#define EXPLANATION_SIZE 513

/** What one frame of an output or window tells. */
struct sample {
	bool known;
	struct vitrine_frame_info info; // if known; pointers are stale
	char error[256]; // why not
	char buffers[EXPLANATION_SIZE]; // how they were chosen, empty if not known
};

/** After this time it is said what is waited for: a GPU's driver may have to start. */
#define PATIENCE_MS 1000

/** As cli_next_frame(). A source that is off is not waited for longer. */
static int wait_for_frame(const struct cli *cli, struct vitrine_session *session,
		const struct cli_target *target, struct vitrine_frame **frame) {
	int left_ms = cli->timeout_ms - PATIENCE_MS;
	// The window may be closed meanwhile, and its name with it
	struct cli_text name;
	cli_visible(&name, cli_target_name(target));
	int ret = cli_next_frame(session, left_ms > 0 ? PATIENCE_MS : cli->timeout_ms, frame);
	if (ret != 0 || left_ms <= 0 || vitrine_session_is_off(session)) {
		return ret;
	}
	cli_note("waiting up to %g s for the first frame of %s", cli->timeout_ms / 1000.0, name.text);
	return cli_next_frame(session, left_ms, frame);
}

/** The guarantee and format of a source are only known from a frame of it. */
static struct sample take_sample(struct cli *cli, const struct cli_target *target) {
	struct sample sample = {0};
	struct vitrine_session_options options;
	if (!cli_get_session_options(cli, &options)) {
		snprintf(sample.error, sizeof(sample.error), "out of memory");
		return sample;
	}
	struct vitrine_session *session;
	struct vitrine_frame *frame = NULL;
	int ret = vitrine_session_create(target->source, &options, &session);
	free((void *)options.formats);
	if (ret == 0) {
		ret = wait_for_frame(cli, session, target, &frame);
		const char *buffers = vitrine_session_get_explanation(session);
		snprintf(sample.buffers, sizeof(sample.buffers), "%s", buffers != NULL ? buffers : "");
	}
	if (ret > 0) {
		sample.known = true;
		sample.info = *vitrine_frame_get_info(frame);
		vitrine_frame_release(frame);
	} else {
		bool is_off = session != NULL && vitrine_session_is_off(session);
		snprintf(sample.error, sizeof(sample.error), "%s", ret < 0 ?
			vitrine_client_get_error(cli->client) : !is_off ? "no frame came" :
			cli->window != NULL ? "the window shows nothing" : "the output is off");
	}
	vitrine_session_destroy(session);
	return sample;
}

/** As /dev/dri has it in the fifth column of `ls -l`: major and minor. */
static const char *print_device(dev_t device, char text[static 32]) {
	snprintf(text, 32, "%u:%u", major(device), minor(device));
	return text;
}

static void add_string(struct json_object *object, const char *key, const char *value) {
	json_object_object_add(object, key, value[0] != '\0' ? json_object_new_string(value) : NULL);
}

static void add_sample(struct json_object *object, const struct sample *sample) {
	add_string(object, "buffers", sample->buffers);
	if (!sample->known) {
		json_object_object_add(object, "error", json_object_new_string(sample->error));
		return;
	}
	char fourcc[5];
	json_object_object_add(object, "format",
		json_object_new_string(cli_fourcc(sample->info.fourcc, fourcc)));
	json_object_object_add(object, "modifier", json_object_new_uint64(sample->info.modifier));
	json_object_object_add(object, "guarantee",
		json_object_new_string(vitrine_guarantee_name(sample->info.guarantee)));
	json_object_object_add(object, "storage",
		json_object_new_string(vitrine_storage_name(sample->info.storage)));
	char device[32];
	json_object_object_add(object, "device", sample->info.device != 0 ?
		json_object_new_string(print_device(sample->info.device, device)) : NULL);
	json_object_object_add(object, "transform",
		json_object_new_int((int32_t)sample->info.transform));
}

static struct json_object *make_output_json(const struct vitrine_output *output,
		const struct sample *sample) {
	int32_t width, height, refresh;
	vitrine_output_get_mode(output, &width, &height, &refresh);
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "name",
		json_object_new_string(vitrine_output_get_name(output)));
	json_object_object_add(object, "description",
		json_object_new_string(vitrine_output_get_description(output)));
	json_object_object_add(object, "width", json_object_new_int(width));
	json_object_object_add(object, "height", json_object_new_int(height));
	json_object_object_add(object, "refresh_mhz",
		refresh > 0 ? json_object_new_int(refresh) : NULL);
	add_sample(object, sample);
	return object;
}

/** The sample is NULL if none was taken. */
static struct json_object *make_window_json(const struct vitrine_toplevel *toplevel,
		const struct sample *sample) {
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "identifier",
		json_object_new_string(vitrine_toplevel_get_identifier(toplevel)));
	add_string(object, "app_id", vitrine_toplevel_get_app_id(toplevel));
	add_string(object, "title", vitrine_toplevel_get_title(toplevel));
	if (sample != NULL && sample->known) {
		json_object_object_add(object, "width", json_object_new_int64(sample->info.width));
		json_object_object_add(object, "height", json_object_new_int64(sample->info.height));
	}
	if (sample != NULL) {
		add_sample(object, sample);
	}
	return object;
}

static void print_sample(const struct sample *sample) {
	if (!sample->known) {
		printf(", no view: %s", cli_visible(&(struct cli_text){0}, sample->error));
		return;
	}
	char fourcc[5], device[32];
	printf(", %s, modifier 0x%" PRIx64 ", transform %" PRIu32 ", %s in a %s",
		cli_fourcc(sample->info.fourcc, fourcc), sample->info.modifier,
		sample->info.transform, vitrine_guarantee_name(sample->info.guarantee),
		vitrine_storage_name(sample->info.storage));
	if (sample->info.device != 0) {
		printf(" of device %s", print_device(sample->info.device, device));
	}
}

static void print_buffers(const struct sample *sample) {
	if (sample->buffers[0] != '\0') {
		printf("  buffers: %s\n", cli_visible(&(struct cli_text){0}, sample->buffers));
	}
}

static void print_output(const struct vitrine_output *output, const struct sample *sample) {
	int32_t width, height, refresh;
	vitrine_output_get_mode(output, &width, &height, &refresh);
	struct cli_text text;
	printf("%s: %" PRId32 "x%" PRId32, cli_visible(&text, vitrine_output_get_name(output)), width,
		height);
	if (refresh > 0) {
		printf(" at %.2f Hz", refresh / 1000.0);
	} else {
		fputs(" at an unknown rate", stdout);
	}
	print_sample(sample);
	printf(" (%s)\n", cli_visible(&text, vitrine_output_get_description(output)));
	print_buffers(sample);
}

/** The sample is NULL if none was taken. */
static void print_window(const struct vitrine_toplevel *toplevel, const struct sample *sample) {
	struct cli_text text;
	printf("window %s: ", cli_visible(&text, vitrine_toplevel_get_identifier(toplevel)));
	fputs(cli_visible(&text, vitrine_toplevel_get_app_id(toplevel)), stdout);
	printf(" \"%s\"", cli_quote(&text, vitrine_toplevel_get_title(toplevel)));
	if (sample != NULL && sample->known) {
		printf(", %" PRIu32 "x%" PRIu32, sample->info.width, sample->info.height);
	}
	if (sample != NULL) {
		print_sample(sample);
	}
	putchar('\n');
	if (sample != NULL) {
		print_buffers(sample);
	}
}

/** What is printed: text at once, and JSON at the end. */
struct info {
	struct cli cli;
	struct json_object *outputs, *windows; // arrays
};

static void tell_output(struct info *info, struct vitrine_output *output) {
	const struct cli_target target = { vitrine_output_get_source(output), .output = output };
	struct sample sample = take_sample(&info->cli, &target);
	if (info->cli.json) {
		json_object_array_add(info->outputs, make_output_json(output, &sample));
	} else {
		print_output(output, &sample);
	}
}

static void tell_outputs(struct info *info) {
	size_t len;
	vitrine_client_get_outputs(info->cli.client, &len);
	for (size_t i = 0; i < len && !cli_interrupted; i++) {
		// The array may move while a sample is taken
		struct vitrine_output *output = vitrine_client_get_outputs(info->cli.client, &len)[i];
		if (!vitrine_output_is_gone(output)) {
			tell_output(info, output);
		}
	}
}

static void tell_window(struct info *info, const struct vitrine_toplevel *toplevel,
		const struct sample *sample) {
	if (info->cli.json) {
		json_object_array_add(info->windows, make_window_json(toplevel, sample));
	} else {
		print_window(toplevel, sample);
	}
}

/** None is no error: many compositors do not tell of windows. Returns an exit status. */
static int tell_windows(struct info *info) {
	struct vitrine_client *client = info->cli.client;
	int ret = vitrine_client_follow_toplevels(client, info->cli.timeout_ms);
	if (ret < 0 && ret != -EPROTONOSUPPORT) {
		return cli_fail_client(&info->cli, ret);
	}
	if (ret < 0) {
		if (!info->cli.json) {
			printf("windows: %s\n",
				cli_visible(&(struct cli_text){0}, vitrine_client_get_error(client)));
		}
		return EXIT_SUCCESS;
	}
	size_t len;
	struct vitrine_toplevel *const *toplevels = vitrine_client_get_toplevels(client, &len);
	for (size_t i = 0; i < len; i++) {
		tell_window(info, toplevels[i], NULL);
	}
	return EXIT_SUCCESS;
}

/** What --output or --window names. */
static int tell_target(struct info *info) {
	struct cli_target target;
	int status = cli_find_target(&info->cli, &target);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	if (target.output != NULL) {
		tell_output(info, target.output);
		return EXIT_SUCCESS;
	}
	struct sample sample = take_sample(&info->cli, &target);
	// It may have been closed
	status = cli_find_target(&info->cli, &target);
	if (status == EXIT_SUCCESS) {
		tell_window(info, target.toplevel, &sample);
	}
	return status;
}

static int print_json(const struct info *info) {
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "guarantees",
		cli_json_guarantees(vitrine_client_get_guarantees(info->cli.client)));
	json_object_object_add(object, "outputs", json_object_get(info->outputs));
	json_object_object_add(object, "windows", json_object_get(info->windows));
	return cli_print_json(object);
}

static int print_info(struct info *info) {
	int status = EXIT_SUCCESS;
	if (!info->cli.json) {
		printf("allowed guarantees: %s\n",
			cli_guarantees(vitrine_client_get_guarantees(info->cli.client)));
	}
	if (info->cli.output != NULL || info->cli.window != NULL) {
		status = tell_target(info);
	} else {
		tell_outputs(info);
		status = tell_windows(info);
	}
	if (status != EXIT_SUCCESS) {
		return status;
	}
	return info->cli.json ? print_json(info) : cli_flush_stdout();
}

static int info_run(int argc, char **argv) {
	struct info info = {0};
	cli_init(&info.cli, &command_info);
	cli_getopt(&info.cli, argc, argv);
	if (optind != argc) {
		return cli_fail_usage(&info.cli, "\"%s\" is too much", argv[optind]);
	}

	cli_catch_signals();
	info.outputs = json_object_new_array();
	info.windows = json_object_new_array();
	int status = cli_connect(&info.cli);
	if (status == EXIT_SUCCESS) {
		status = print_info(&info);
	}
	json_object_put(info.outputs);
	json_object_put(info.windows);
	cli_finish(&info.cli);
	return status;
}

const struct command command_info = {
	.name = "info",
	.synopsis = "[-o OUTPUT|-w WINDOW] [--json]",
	.summary = "List the outputs, with the format and guarantee of their views, and the windows",
	.options = CLI_SOURCE | CLI_JSON | CLI_TIMEOUT | CLI_SOCKET,
	.run = info_run,
};
