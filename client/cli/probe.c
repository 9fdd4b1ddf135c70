/* SPDX-License-Identifier: MIT */
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct probe {
	struct cli cli;
	struct vitrine_derive *derive;
	char *compositor_error; // why it is not reachable, NULL if it is
};

static struct json_object *make_machine_json(const struct probe *probe) {
	struct json_object *list = json_object_new_array();
	size_t len;
	const struct vitrine_derive_backend_info *backends =
		vitrine_derive_get_backends(probe->derive, &len);
	for (size_t i = 0; i < len; i++) {
		struct json_object *backend = json_object_new_object();
		json_object_object_add(backend, "name", json_object_new_string(backends[i].name));
		json_object_object_add(backend, "available",
			json_object_new_boolean(backends[i].available));
		json_object_object_add(backend, "guarantees",
			cli_json_guarantees(backends[i].guarantees));
		json_object_object_add(backend, "detail", json_object_new_string(backends[i].detail));
		json_object_array_add(list, backend);
	}
	struct json_object *machine = json_object_new_object();
	json_object_object_add(machine, "guarantees",
		cli_json_guarantees(vitrine_derive_get_guarantees(probe->derive)));
	json_object_object_add(machine, "backends", list);
	return machine;
}

static struct json_object *make_compositor_json(const struct probe *probe) {
	struct json_object *compositor = json_object_new_object();
	bool reachable = probe->cli.client != NULL;
	json_object_object_add(compositor, "reachable", json_object_new_boolean(reachable));
	json_object_object_add(compositor, "error",
		reachable ? NULL : json_object_new_string(probe->compositor_error));
	json_object_object_add(compositor, "guarantees", cli_json_guarantees(
		reachable ? vitrine_client_get_guarantees(probe->cli.client) : 0));
	return compositor;
}

static int print_json(const struct probe *probe) {
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "machine", make_machine_json(probe));
	json_object_object_add(object, "compositor", make_compositor_json(probe));
	return cli_print_json(object);
}

static int print_text(const struct probe *probe) {
	size_t len;
	const struct vitrine_derive_backend_info *backends =
		vitrine_derive_get_backends(probe->derive, &len);
	puts("This machine:");
	for (size_t i = 0; i < len; i++) {
		printf("  %-3s %-9s %-22s %s\n", backends[i].available ? "yes" : "no", backends[i].name,
			cli_guarantees(backends[i].guarantees), backends[i].detail);
	}
	puts("The compositor:");
	if (probe->cli.client == NULL) {
		printf("  %s\n", cli_visible(&(struct cli_text){0}, probe->compositor_error));
	} else {
		printf("  allows to this client: %s\n",
			cli_guarantees(vitrine_client_get_guarantees(probe->cli.client)));
	}
	return cli_flush_stdout();
}

/** No compositor is an answer too, and no error. */
static void probe_compositor(struct probe *probe) {
	char *message = NULL;
	int ret = vitrine_client_connect_within(probe->cli.socket,
		probe->cli.timeout_ms, &probe->cli.client, &message);
	if (ret < 0) {
		probe->compositor_error = message != NULL ? message : strdup(strerror(-ret));
	}
}

static int probe_run(int argc, char **argv) {
	struct probe probe = {0};
	cli_init(&probe.cli, &command_probe);
	cli_getopt(&probe.cli, argc, argv);
	if (optind != argc) {
		return cli_fail_usage(&probe.cli, "\"%s\" is too much", argv[optind]);
	}

	probe.derive = vitrine_derive_create();
	if (probe.derive == NULL) {
		return cli_fail("out of memory");
	}
	probe_compositor(&probe);
	int status;
	if (probe.cli.client == NULL && probe.compositor_error == NULL) {
		status = cli_fail("out of memory");
	} else {
		status = probe.cli.json ? print_json(&probe) : print_text(&probe);
	}
	free(probe.compositor_error);
	vitrine_derive_destroy(probe.derive);
	cli_finish(&probe.cli);
	return status;
}

const struct command command_probe = {
	.name = "probe",
	.synopsis = "[--json]",
	.summary = "Show what this machine and the compositor can guarantee, and why not more",
	.options = CLI_TIMEOUT | CLI_JSON | CLI_SOCKET,
	.run = probe_run,
};
