/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wayland-client-core.h>

#include "cli.h"

static const struct command *const commands[] = {
	&command_probe,
	&command_info,
	&command_shot,
	&command_record,
	&command_watch,
	&command_wait,
	&command_audit,
	&command_sessions,
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *file) {
	fputs("usage: vitrine COMMAND [OPTION]...\n\n"
		"Look at the outputs and windows of a Wayland compositor through read-only views.\n\n",
		file);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		fprintf(file, "  %-10s%s\n", commands[i]->name, commands[i]->summary);
	}
	fputs("\n`vitrine help COMMAND` tells more.\n", file);
}

static int fail_usage(const char *reason, const char *word) {
	struct cli_text text;
	fprintf(stderr, "vitrine: %s \"%s\"; see `vitrine --help`\n", reason,
		cli_visible(&text, word));
	return EXIT_USAGE;
}

static const struct command *find_command(const char *name) {
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strcmp(name, commands[i]->name) == 0) {
			return commands[i];
		}
	}
	return NULL;
}

/** What stands alone instead of a command; -1 if it is something else. */
static int run_general(int argc, char **argv) {
	const char *word = argv[1];
	bool wants_help = strcmp(word, "help") == 0;
	if (wants_help && argc > 2) {
		const struct command *command = find_command(argv[2]);
		return command == NULL ? fail_usage("unknown command", argv[2]) :
			command->run(2, (char *[]){ argv[2], (char[]){ "--help" }, NULL });
	}
	if (wants_help || strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
		print_help(stdout);
		return cli_flush_stdout();
	}
	if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0) {
		puts("vitrine " VITRINE_VERSION);
		return cli_flush_stdout();
	}
	if (strcmp(word, "--completion") == 0 && argc > 2) {
		return cli_print_completion(argv[2], commands, N_COMMANDS);
	}
	return -1;
}

/** Swaps the command with the options that stand before it. Returns whether there is one. */
static bool bring_command_to_front(int argc, char **argv) {
	int at = 1, n;
	while (at < argc && (n = cli_count_option_words(argv + at)) > 0) {
		at += n;
	}
	if (at >= argc) {
		return false;
	}
	char *command = argv[at];
	memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(argv[0]));
	argv[1] = command;
	return true;
}

int main(int argc, char **argv) {
	// Each error is reported once, by us
	wl_log_set_handler_client(cli_keep_log);

	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	int status = run_general(argc, argv);
	if (status != -1) {
		return status;
	}
	if (!bring_command_to_front(argc, argv)) {
		return fail_usage("no command follows", argv[1]);
	}
	const struct command *command = find_command(argv[1]);
	return command != NULL ? command->run(argc - 1, argv + 1) :
		fail_usage("unknown command", argv[1]);
}
