/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "audit.h"

struct audit {
	struct cli cli;
	struct vitrine_derive *derive;
	double seconds;
	bool verbose, no_session, no_machine;
	bool has_session;
	struct session_audit session;
	struct machine_audit machine;
};

static void audit_count(const struct audit *audit, struct tally *tally) {
	*tally = (struct tally){0};
	findings_count(&audit->session.findings, tally);
	for (size_t i = 0; i < audit->machine.n_blocks; i++) {
		findings_count(&audit->machine.blocks[i], tally);
	}
}

static void add_string(struct json_object *object, const char *key, const char *value) {
	json_object_object_add(object, key, value != NULL ? json_object_new_string(value) : NULL);
}

static void add_tally(struct json_object *object, const struct tally *tally) {
	json_object_object_add(object, "broken", json_object_new_uint64(tally->broken));
	json_object_object_add(object, "inconclusive", json_object_new_uint64(tally->inconclusive));
}

static void add_rows(struct json_object *object, const struct findings *findings) {
	struct json_object *rows = json_object_new_array();
	findings_add_json(findings, rows, false);
	json_object_object_add(object, "rows", rows);
}

/** What a session's view is; null without one. */
static void add_view(struct json_object *object, const struct audit *audit) {
	const struct findings *findings = &audit->session.findings;
	bool there = audit->has_session;
	bool is_window = audit->cli.window != NULL;
	add_string(object, "output", there && !is_window ? audit->session.name : NULL);
	add_string(object, "window", there && is_window ? audit->session.name : NULL);
	add_string(object, "guarantee", there ? vitrine_guarantee_name(findings->guarantee) : NULL);
	add_string(object, "storage", there ? vitrine_storage_name(findings->storage) : NULL);
}

static struct json_object *make_session_json(const struct audit *audit) {
	if (!audit->has_session) {
		return NULL;
	}
	struct json_object *object = json_object_new_object();
	struct tally tally = {0};
	findings_count(&audit->session.findings, &tally);
	add_view(object, audit);
	add_tally(object, &tally);
	add_rows(object, &audit->session.findings);
	return object;
}

static struct json_object *make_block_json(const struct findings *block) {
	struct json_object *object = json_object_new_object();
	struct utsname name;
	struct tally tally = {0};
	findings_count(block, &tally);
	add_string(object, "backend", block->backend);
	add_string(object, "exporter", block->exporter);
	add_string(object, "guarantee", vitrine_guarantee_name(block->guarantee));
	add_string(object, "storage", vitrine_storage_name(block->storage));
	add_string(object, "kernel", uname(&name) == 0 ? name.release : NULL);
	add_tally(object, &tally);
	add_rows(object, block);
	return object;
}

static struct json_object *make_machine_json(const struct audit *audit) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < audit->machine.n_blocks; i++) {
		json_object_array_add(list, make_block_json(&audit->machine.blocks[i]));
	}
	return list;
}

static struct json_object *make_backends_json(const struct audit *audit) {
	struct json_object *list = json_object_new_array();
	size_t len;
	const struct vitrine_derive_backend_info *infos =
		vitrine_derive_get_backends(audit->derive, &len);
	for (size_t i = 0; i < len; i++) {
		struct json_object *object = json_object_new_object();
		add_string(object, "name", infos[i].name);
		json_object_object_add(object, "available", json_object_new_boolean(infos[i].available));
		json_object_object_add(object, "exercised", json_object_new_boolean(
			machine_audit_has_exercised(&audit->machine, infos[i].name)));
		add_string(object, "detail", infos[i].detail);
		json_object_array_add(list, object);
	}
	return list;
}

/** The session comes last, so that a look-up of an attack by its name finds its. */
static struct json_object *make_flat_json(const struct audit *audit) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < audit->machine.n_blocks; i++) {
		findings_add_json(&audit->machine.blocks[i], list, true);
	}
	findings_add_json(&audit->session.findings, list, true);
	return list;
}

static int audit_print_json(const struct audit *audit, const struct tally *tally) {
	struct json_object *object = json_object_new_object();
	add_view(object, audit);
	add_tally(object, tally);
	json_object_object_add(object, "session", make_session_json(audit));
	json_object_object_add(object, "machine", make_machine_json(audit));
	json_object_object_add(object, "backends", make_backends_json(audit));
	json_object_object_add(object, "audit", make_flat_json(audit));
	return cli_print_json(object);
}

static void print_backends(const struct audit *audit) {
	size_t len;
	const struct vitrine_derive_backend_info *infos =
		vitrine_derive_get_backends(audit->derive, &len);
	for (size_t i = 0; i < len; i++) {
		if (!infos[i].available) {
			printf("%s: %s\n", infos[i].name, infos[i].detail);
		}
	}
}

static int audit_print_text(const struct audit *audit) {
	if (audit->has_session) {
		printf("%s: ", cli_visible(&(struct cli_text){0}, audit->session.name));
		findings_print(&audit->session.findings, audit->verbose);
	}
	for (size_t i = 0; i < audit->machine.n_blocks; i++) {
		findings_print(&audit->machine.blocks[i], audit->verbose);
	}
	if (!audit->no_machine) {
		print_backends(audit);
	}
	return cli_flush_stdout();
}

/** The promise is kept if nothing that it excludes works, and that was shown. */
static int audit_report(const struct audit *audit) {
	struct tally tally;
	audit_count(audit, &tally);
	int status = audit->cli.json ? audit_print_json(audit, &tally) : audit_print_text(audit);
	if (tally.better > 0) {
		cli_note("%zu attacks that the guarantee allows were refused on this machine",
			tally.better);
	}
	if (tally.broken > 0) {
		return cli_fail("a promise is broken by %zu attacks: do not rely on it", tally.broken);
	}
	if (tally.inconclusive > 0) {
		return cli_fail("%zu attacks could not be judged", tally.inconclusive);
	}
	return status;
}

enum {
	OPTION_SECONDS = CLI_NO_LETTER,
	OPTION_NO_SESSION,
	OPTION_NO_MACHINE,
	OPTION_VERBOSE,
};

static const struct cli_option options[] = {
	{ "seconds", OPTION_SECONDS, "S", "how long to wait for the screen to change (5)" },
	{ "no-session", OPTION_NO_SESSION, NULL,
		"attack memory of our own only, not a compositor's" },
	{ "no-machine", OPTION_NO_MACHINE, NULL, "attack a compositor's only" },
	{ "verbose", OPTION_VERBOSE, NULL, "show what is as it should be, too" },
	{ 0 },
};

static bool names_session(const struct audit *audit) {
	const struct cli *cli = &audit->cli;
	return cli->socket != NULL || cli->output != NULL || cli->window != NULL;
}

static void parse_options(struct audit *audit, int argc, char **argv) {
	int option;
	while ((option = cli_getopt(&audit->cli, argc, argv)) != -1) {
		switch (option) {
		case OPTION_SECONDS:
			audit->seconds = cli_parse_number(&audit->cli, "seconds", optarg, 0);
			break;
		case OPTION_NO_SESSION:
			audit->no_session = true;
			break;
		case OPTION_NO_MACHINE:
			audit->no_machine = true;
			break;
		case OPTION_VERBOSE:
			audit->verbose = true;
			break;
		}
	}
	if (optind != argc) {
		exit(cli_fail_usage(&audit->cli, "\"%s\" is too much", argv[optind]));
	}
	if (audit->no_session && audit->no_machine) {
		exit(cli_fail_usage(&audit->cli, "--no-session and --no-machine leave nothing to do"));
	}
	if (audit->no_session && names_session(audit)) {
		exit(cli_fail_usage(&audit->cli,
			"--no-session is at odds with --socket, --output and --window"));
	}
}

/** Whether a session was asked for, so that the lack of a compositor is an error. */
static bool wants_session(const struct audit *audit) {
	return audit->no_machine || names_session(audit);
}

/** A machine without a compositor can be audited too. Returns an exit status. */
static int audit_find_compositor(struct audit *audit) {
	if (audit->no_session) {
		return EXIT_SUCCESS;
	}
	if (wants_session(audit)) {
		audit->has_session = true;
		return cli_connect(&audit->cli);
	}
	char *message = NULL;
	int ret = vitrine_client_connect_within(NULL, audit->cli.timeout_ms,
		&audit->cli.client, &message);
	bool is_alone = ret == -ENOENT || ret == -ECONNREFUSED;
	audit->has_session = ret >= 0;
	if (is_alone) {
		cli_note("no session is audited: %s", message != NULL ? message : strerror(-ret));
	}
	free(message);
	return ret < 0 && !is_alone ? cli_connect(&audit->cli) : EXIT_SUCCESS;
}

static int run_both(struct audit *audit) {
	int status = audit_find_compositor(audit);
	if (status == EXIT_SUCCESS && audit->has_session) {
		audit->session = (struct session_audit){
			.cli = &audit->cli,
			.derive = audit->derive,
			.seconds = audit->seconds,
		};
		status = session_audit_run(&audit->session);
	}
	if (status == EXIT_SUCCESS && !audit->no_machine && !cli_interrupted) {
		audit->machine = (struct machine_audit){
			.derive = audit->derive,
			.acceptable = audit->cli.acceptable != 0 ? audit->cli.acceptable :
				VITRINE_GUARANTEE_ALL,
		};
		machine_audit_run(&audit->machine);
	}
	return status == EXIT_SUCCESS && cli_interrupted ? cli_fail("interrupted") : status;
}

static int audit_run(int argc, char **argv) {
	struct audit audit = { .seconds = 5 };
	cli_init(&audit.cli, &command_audit);
	parse_options(&audit, argc, argv);

	cli_catch_signals();
	audit.derive = vitrine_derive_create();
	if (audit.derive == NULL) {
		return cli_fail("out of memory");
	}
	int status = run_both(&audit);
	if (status == EXIT_SUCCESS) {
		status = audit_report(&audit);
	}
	findings_finish(&audit.session.findings);
	machine_audit_finish(&audit.machine);
	cli_finish(&audit.cli);
	vitrine_derive_destroy(audit.derive);
	return status;
}

const struct command command_audit = {
	.name = "audit",
	.synopsis = "[-o OUTPUT|-w WINDOW] [--seconds S] [--no-session|--no-machine] [--verbose] [--json]",
	.summary = "Try every known way to write through a view, and compare with its guarantee",
	.own = options,
	.options = CLI_SOURCE | CLI_SESSION | CLI_TIMEOUT | CLI_JSON | CLI_SOCKET,
	.run = audit_run,
};
