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

/** What one frame of an output tells. */
struct sample {
	bool known;
	struct vitrine_frame_info info; // if known; pointers are stale
	char error[256]; // why not
	char buffers[EXPLANATION_SIZE]; // how they were chosen, empty if not known
};

/** After this time it is said what is waited for: a GPU's driver may have to start. */
#define PATIENCE_MS 1000

/** As cli_next_frame(). An output that is off is not waited for longer. */
static int wait_for_frame(const struct cli *cli, struct vitrine_session *session,
		const struct vitrine_output *output, struct vitrine_frame **frame) {
	int left_ms = cli->timeout_ms - PATIENCE_MS;
	int ret = cli_next_frame(session, left_ms > 0 ? PATIENCE_MS : cli->timeout_ms, frame);
	if (ret != 0 || left_ms <= 0 || vitrine_session_is_off(session)) {
		return ret;
	}
	cli_note("waiting up to %g s for the first frame of %s", cli->timeout_ms / 1000.0,
		cli_visible(&(struct cli_text){0}, vitrine_output_get_name(output)));
	return cli_next_frame(session, left_ms, frame);
}

/** The guarantee and format of an output are only known from a frame of it. */
static struct sample take_sample(struct cli *cli, struct vitrine_output *output) {
	struct sample sample = {0};
	struct vitrine_session_options options;
	if (!cli_get_session_options(cli, &options)) {
		snprintf(sample.error, sizeof(sample.error), "out of memory");
		return sample;
	}
	struct vitrine_session *session;
	struct vitrine_frame *frame = NULL;
	int ret = vitrine_session_create(vitrine_output_get_source(output), &options, &session);
	free((void *)options.formats);
	if (ret == 0) {
		ret = wait_for_frame(cli, session, output, &frame);
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
			vitrine_client_get_error(cli->client) : is_off ? "the output is off" : "no frame came");
	}
	vitrine_session_destroy(session);
	return sample;
}

/** As /dev/dri has it in the fifth column of `ls -l`: major and minor. */
static const char *print_device(dev_t device, char text[static 32]) {
	snprintf(text, 32, "%u:%u", major(device), minor(device));
	return text;
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
	json_object_object_add(object, "refresh_mhz", json_object_new_int(refresh));
	json_object_object_add(object, "buffers",
		sample->buffers[0] != '\0' ? json_object_new_string(sample->buffers) : NULL);
	if (!sample->known) {
		json_object_object_add(object, "error", json_object_new_string(sample->error));
		return object;
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
	return object;
}

static void print_output(const struct vitrine_output *output, const struct sample *sample) {
	int32_t width, height, refresh;
	vitrine_output_get_mode(output, &width, &height, &refresh);
	struct cli_text text;
	printf("%s: %" PRId32 "x%" PRId32 " at %.2f Hz",
		cli_visible(&text, vitrine_output_get_name(output)), width, height, refresh / 1000.0);
	if (sample->known) {
		char fourcc[5];
		printf(", %s, modifier 0x%" PRIx64 ", transform %" PRIu32 ", %s in a %s",
			cli_fourcc(sample->info.fourcc, fourcc), sample->info.modifier,
			sample->info.transform, vitrine_guarantee_name(sample->info.guarantee),
			vitrine_storage_name(sample->info.storage));
		char device[32];
		if (sample->info.device != 0) {
			printf(" of device %s", print_device(sample->info.device, device));
		}
	} else {
		printf(", no view: %s", cli_visible(&text, sample->error));
	}
	printf(" (%s)\n", cli_visible(&text, vitrine_output_get_description(output)));
	if (sample->buffers[0] != '\0') {
		printf("  buffers: %s\n", cli_visible(&text, sample->buffers));
	}
}

static int print_info(struct cli *cli) {
	struct json_object *list = json_object_new_array();
	if (!cli->json) {
		printf("allowed guarantees: %s\n",
			cli_guarantees(vitrine_client_get_guarantees(cli->client)));
	}
	size_t len;
	vitrine_client_get_outputs(cli->client, &len);
	for (size_t i = 0; i < len && !cli_interrupted; i++) {
		// The array may move while a sample is taken
		struct vitrine_output *output = vitrine_client_get_outputs(cli->client, &len)[i];
		if (vitrine_output_is_gone(output)) {
			continue;
		}
		struct sample sample = take_sample(cli, output);
		if (cli->json) {
			json_object_array_add(list, make_output_json(output, &sample));
		} else {
			print_output(output, &sample);
		}
	}
	if (!cli->json) {
		json_object_put(list);
		return cli_flush_stdout();
	}
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "guarantees",
		cli_json_guarantees(vitrine_client_get_guarantees(cli->client)));
	json_object_object_add(object, "outputs", list);
	return cli_print_json(object);
}

static int info_run(int argc, char **argv) {
	struct cli cli;
	cli_init(&cli, &command_info);
	cli_getopt(&cli, argc, argv, NULL);
	if (optind != argc) {
		return cli_fail_usage(&cli, "\"%s\" is too much", argv[optind]);
	}

	cli_catch_signals();
	int status = cli_connect(&cli);
	if (status == EXIT_SUCCESS) {
		status = print_info(&cli);
	}
	cli_finish(&cli);
	return status;
}

const struct command command_info = {
	.name = "info",
	.synopsis = "[--json]",
	.summary = "List the outputs, with the format and guarantee of their views",
	.help = "",
	.options = CLI_JSON | CLI_TIMEOUT | CLI_SOCKET,
	.run = info_run,
};
