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
	&command_audit,
	&command_sessions,
};

static void print_help(FILE *file) {
	fputs("usage: vitrine COMMAND [OPTION]...\n\n"
		"Look at the outputs of a Wayland compositor through read-only views.\n\n", file);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		fprintf(file, "  %-10s%s\n", commands[i]->name, commands[i]->summary);
	}
	fputs("\n`vitrine COMMAND --help` tells more.\n", file);
}

/** libwayland's lines: each error is reported once, by us. */
static void discard_log(const char *format, va_list args) {
}

int main(int argc, char **argv) {
	wl_log_set_handler_client(discard_log);

	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
		print_help(stdout);
		return cli_flush_stdout();
	}
	if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
		puts("vitrine " VITRINE_VERSION);
		return cli_flush_stdout();
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i]->name) == 0) {
			return commands[i]->run(argc - 1, argv + 1);
		}
	}
	fprintf(stderr, "vitrine: unknown command \"%s\"; see `vitrine --help`\n", argv[1]);
	return EXIT_USAGE;
}
