/* SPDX-License-Identifier: MIT */
/* What -o and -w name, and sessions on it. */
#include <drm_fourcc.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "visible.h"

/** Names of what there is, for messages. */
struct names {
	char text[768];
	size_t used;
};

static void names_add(struct names *names, const char *name) {
	if (names->used < sizeof(names->text)) {
		names->used += (size_t)snprintf(names->text + names->used,
			sizeof(names->text) - names->used, "%s%s", names->used > 0 ? ", " : "", name);
	}
}

/* Outputs */

static struct cli_target target_of_output(struct vitrine_output *output) {
	return (struct cli_target){
		.source = vitrine_output_get_source(output),
		.output = output,
	};
}

static void fail_without_output(const struct cli *cli) {
	struct names names = {0};
	size_t len;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(cli->client, &len);
	for (size_t i = 0; i < len; i++) {
		if (!vitrine_output_is_gone(outputs[i])) {
			names_add(&names,
				cli_visible(&(struct cli_text){0}, vitrine_output_get_name(outputs[i])));
		}
	}
	if (names.used == 0) {
		cli_fail("the compositor has no output");
	} else {
		cli_fail("there is no output \"%s\"; there is %s", cli->output, names.text);
	}
}

static size_t count_outputs(const struct vitrine_client *client) {
	size_t len, n = 0;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(client, &len);
	for (size_t i = 0; i < len; i++) {
		n += !vitrine_output_is_gone(outputs[i]);
	}
	return n;
}

static int find_output(struct cli *cli, struct cli_target *target) {
	if (cli->chosen == NULL || vitrine_output_is_gone(cli->chosen)) {
		cli->chosen = vitrine_client_find_output(cli->client, cli->output);
	}
	if (cli->chosen == NULL) {
		fail_without_output(cli);
		return EXIT_FAILURE;
	}
	*target = target_of_output(cli->chosen);
	return EXIT_SUCCESS;
}

/* Windows */

typedef const char *(*get_name_func)(const struct vitrine_toplevel *toplevel);

/** What a window may be named by, the surest first. */
static const get_name_func get_names[] = {
	vitrine_toplevel_get_identifier, vitrine_toplevel_get_app_id, vitrine_toplevel_get_title,
};

/** As the user sees it in messages: the app-id, the title and the identifier. */
static const char *describe_window(const struct vitrine_toplevel *toplevel, char text[static 256]) {
	char app_id[64], title[104];
	visible_text(app_id, sizeof(app_id), vitrine_toplevel_get_app_id(toplevel), VISIBLE_PLAIN);
	visible_text(title, sizeof(title), vitrine_toplevel_get_title(toplevel), VISIBLE_QUOTED);
	snprintf(text, 256, "%s \"%s\" (%s)", app_id, title,
		vitrine_toplevel_get_identifier(toplevel));
	return text;
}

struct vitrine_toplevel *cli_match_window(const struct cli *cli, size_t *n_matches) {
	size_t len;
	struct vitrine_toplevel *const *toplevels = vitrine_client_get_toplevels(cli->client, &len);
	for (size_t i = 0; i < sizeof(get_names) / sizeof(get_names[0]); i++) {
		struct vitrine_toplevel *first = NULL;
		*n_matches = 0;
		for (size_t j = 0; j < len; j++) {
			if (strcmp(get_names[i](toplevels[j]), cli->window) == 0) {
				first = first != NULL ? first : toplevels[j];
				++*n_matches;
			}
		}
		if (first != NULL) {
			return first;
		}
	}
	return NULL;
}

/** Those that match, or all if the first is NULL. */
static void list_windows(const struct cli *cli, const struct vitrine_toplevel *first,
		struct names *names) {
	size_t len;
	struct vitrine_toplevel *const *toplevels = vitrine_client_get_toplevels(cli->client, &len);
	char text[256];
	for (size_t i = 0; i < len; i++) {
		bool matches = false;
		for (size_t j = 0; j < sizeof(get_names) / sizeof(get_names[0]); j++) {
			matches = matches || (first != NULL && strcmp(get_names[j](first), cli->window) == 0 &&
				strcmp(get_names[j](toplevels[i]), cli->window) == 0);
		}
		if (first == NULL || matches) {
			names_add(names, first == NULL ? describe_window(toplevels[i], text) :
				vitrine_toplevel_get_identifier(toplevels[i]));
		}
	}
}

int cli_fail_window(const struct cli *cli) {
	struct names names = {0};
	list_windows(cli, NULL, &names);
	cli_fail("no such window: \"%s\"; there %s%s", cli->window, names.used > 0 ? "is " : "is none",
		names.text);
	return EXIT_NO_WINDOW;
}

static int find_window(struct cli *cli, struct cli_target *target) {
	int ret = vitrine_client_follow_toplevels(cli->client, cli->timeout_ms);
	if (ret < 0) {
		return cli_fail_client(cli, ret);
	}
	size_t n_matches;
	struct vitrine_toplevel *toplevel = cli_match_window(cli, &n_matches);
	double end = cli_get_end(cli);
	while (toplevel == NULL && cli->wait_for_window && !cli_interrupted && cli_now() < end) {
		int status = cli_dispatch_until(cli, end);
		if (status != EXIT_SUCCESS) {
			return status;
		}
		toplevel = cli_match_window(cli, &n_matches);
	}
	if (toplevel == NULL) {
		return cli_interrupted ? cli_fail("interrupted") : cli_fail_window(cli);
	}
	if (n_matches > 1 && !cli->has_noted) {
		struct names names = {0};
		list_windows(cli, toplevel, &names);
		cli_note("%zu windows are \"%s\": this is of the first of %s", n_matches, cli->window,
			names.text);
		cli->has_noted = true;
	}
	*target = (struct cli_target){
		.source = vitrine_toplevel_get_source(toplevel),
		.toplevel = toplevel,
	};
	return EXIT_SUCCESS;
}

int cli_find_target(struct cli *cli, struct cli_target *target) {
	if (cli->client == NULL && cli_connect(cli) != 0) {
		return EXIT_FAILURE;
	}
	return cli->window != NULL ? find_window(cli, target) : find_output(cli, target);
}

const char *cli_target_name(const struct cli_target *target) {
	if (target->output != NULL) {
		return vitrine_output_get_name(target->output);
	}
	const char *app_id = vitrine_toplevel_get_app_id(target->toplevel);
	return app_id[0] != '\0' ? app_id : vitrine_toplevel_get_identifier(target->toplevel);
}

/* Sessions */

int cli_check_cpu_reads(const struct cli *cli) {
	if (!(cli->storages & VITRINE_STORAGE_DMABUF)) {
		return 0;
	}
	return cli_fail_usage(cli, "reads pixels by the CPU: of --storage it takes memfd and "
		"mapped-dmabuf");
}

/** Formats of most screens. Of dma-bufs for devices nothing is looked at but what they are. */
static const uint32_t dmabuf_fourccs[] = {
	DRM_FORMAT_XRGB8888, DRM_FORMAT_ARGB8888, DRM_FORMAT_XBGR8888, DRM_FORMAT_ABGR8888,
	DRM_FORMAT_XRGB2101010, DRM_FORMAT_XBGR2101010, DRM_FORMAT_XBGR16161616F,
};
static const uint64_t dmabuf_modifiers[] = { DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID };
/** Render nodes that are asked for, at most. */
#define MAX_NODES 8

#define N_FOURCCS (sizeof(dmabuf_fourccs) / sizeof(dmabuf_fourccs[0]))
#define N_MODIFIERS (sizeof(dmabuf_modifiers) / sizeof(dmabuf_modifiers[0]))

static size_t add_formats(struct vitrine_format *formats, size_t n, dev_t device) {
	for (size_t i = 0; i < N_FOURCCS * N_MODIFIERS; i++) {
		formats[n++] = (struct vitrine_format){
			.device = device,
			.fourcc = dmabuf_fourccs[i / N_MODIFIERS],
			.modifier = dmabuf_modifiers[i % N_MODIFIERS],
		};
	}
	return n;
}

bool cli_get_session_options(const struct cli *cli, struct vitrine_session_options *options) {
	*options = (struct vitrine_session_options){
		.acceptable = cli->acceptable,
		.storages = cli->storages,
		.paint_cursors = cli->cursor,
		.implicit_release = cli->implicit_release,
	};
	if (!(cli->storages & VITRINE_STORAGE_DMABUF)) {
		return true;
	}
	struct vitrine_format *formats =
		calloc(MAX_NODES * N_FOURCCS * N_MODIFIERS, sizeof(*formats));
	options->formats = formats;
	for (int i = 0; formats != NULL && i < MAX_NODES; i++) {
		char path[32];
		struct stat st;
		snprintf(path, sizeof(path), "/dev/dri/renderD%d", 128 + i);
		if (stat(path, &st) == 0) {
			options->n_formats = add_formats(formats, options->n_formats, st.st_rdev);
		}
	}
	return formats != NULL;
}

int cli_start_session(struct cli *cli, struct vitrine_source *source,
		struct vitrine_session **session) {
	*session = NULL;
	struct vitrine_session_options options;
	if (!cli_get_session_options(cli, &options)) {
		return cli_fail("out of memory");
	}
	int ret = vitrine_session_create(source, &options, session);
	free((void *)options.formats);
	return ret < 0 ? cli_fail_client(cli, ret) : EXIT_SUCCESS;
}

/**
 * A session on the first output that is on, or on the first one if none is. Sets
 * cli->chosen.
 */
static int start_on_some_output(struct cli *cli, struct vitrine_session **session) {
	size_t len;
	vitrine_client_get_outputs(cli->client, &len);
	for (size_t i = 0; i < len && !cli_interrupted; i++) {
		// The array may move while an answer is waited for
		struct vitrine_output *output = vitrine_client_get_outputs(cli->client, &len)[i];
		if (vitrine_output_is_gone(output)) {
			continue;
		}
		int status = cli_start_session(cli, vitrine_output_get_source(output), session);
		if (status != EXIT_SUCCESS) {
			return status;
		}
		// If that fails, the session says why to the one that waits for a frame
		vitrine_session_wait_started(*session, cli->timeout_ms);
		if (!vitrine_session_is_off(*session)) {
			cli->chosen = output;
			return EXIT_SUCCESS;
		}
		vitrine_session_destroy(*session);
		*session = NULL;
	}
	struct cli_target target;
	int status = find_output(cli, &target);
	return status == EXIT_SUCCESS ? cli_start_session(cli, target.source, session) : status;
}

static int choose_output(struct cli *cli, struct vitrine_session **session,
		struct cli_target *target) {
	int status = start_on_some_output(cli, session);
	if (status == EXIT_SUCCESS) {
		*target = target_of_output(cli->chosen);
		cli_note("this is of %s, one of %zu outputs; --output names another",
			cli_visible(&(struct cli_text){0}, vitrine_output_get_name(cli->chosen)),
			count_outputs(cli->client));
	}
	return status;
}

int cli_create_session(struct cli *cli, struct vitrine_session **session,
		struct cli_target *target_ptr) {
	*session = NULL;
	if (cli->client == NULL && cli_connect(cli) != 0) {
		return EXIT_FAILURE;
	}
	struct cli_target target;
	int status;
	if (cli->output == NULL && cli->window == NULL && cli->chosen == NULL &&
			count_outputs(cli->client) > 1) {
		status = choose_output(cli, session, &target);
	} else {
		status = cli_find_target(cli, &target);
		if (status == EXIT_SUCCESS) {
			status = cli_start_session(cli, target.source, session);
		}
	}
	if (status == EXIT_SUCCESS && target_ptr != NULL) {
		*target_ptr = target;
	}
	return status;
}
