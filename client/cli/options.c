/* SPDX-License-Identifier: MIT */
/* The options of all commands: getopt, --help and the shells' completions are made of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/** Where the text of an option begins in --help. */
#define HELP_COLUMN 26

enum {
	OPTION_SOCKET = CLI_NO_LETTER + 1000,
	OPTION_JSON,
	OPTION_GUARANTEE,
	OPTION_STORAGE,
	OPTION_CURSOR,
	OPTION_TIMEOUT,
};

#define GUARANTEES "sealed guarded fd_read_only snapshot"
#define STORAGES "memfd mapped-dmabuf dmabuf"

/** Of groups; those of group 0 are for all. What one command alone takes is beside it. */
static const struct cli_option shared_options[] = {
	{ "output", 'o', "NAME", "the output to look at, the first one that is on by default",
		.group = CLI_SOURCE },
	{ "window", 'w', "WINDOW", "the window to look at: its identifier, app-id or title",
		.group = CLI_SOURCE },
	{ "region", 'g', "\"X,Y WxH\"", "a part of the layout, in logical pixels, as slurp prints it",
		.group = CLI_REGION },
	{ "all", 'a', NULL, "all outputs, at their places in the layout", .group = CLI_REGION },
	{ "scale", 's', "FACTOR", "pixels of the picture for each logical pixel; those of the\n"
		"sharpest output by default", .group = CLI_REGION },
	{ "guarantee", OPTION_GUARANTEE, "LIST",
		"guarantees to accept, such as sealed,snapshot; all by default",
		.group = CLI_SESSION, .values = GUARANTEES },
	{ "storage", OPTION_STORAGE, "LIST",
		"storages to ask for: memfd,mapped-dmabuf by default, and dmabuf",
		.group = CLI_SESSION, .values = STORAGES },
	{ "cursor", OPTION_CURSOR, NULL, "have the cursor in the pixels", .group = CLI_SESSION },
	{ "timeout", OPTION_TIMEOUT, "SECONDS",
		"how long to wait for an answer, and for the first frame (5)",
		.group = CLI_TIMEOUT },
	{ "json", OPTION_JSON, NULL, "print JSON", .group = CLI_JSON },
	{ "socket", OPTION_SOCKET, "NAME", "the Wayland socket instead of $WAYLAND_DISPLAY",
		.group = CLI_SOCKET },
	{ "help", 'h', NULL, "print this help" },
	{ "version", 'V', NULL, "print the version" },
};
#define N_SHARED (sizeof(shared_options) / sizeof(shared_options[0]))

size_t cli_list_options(const struct command *command,
		const struct cli_option *list[static CLI_MAX_OPTIONS]) {
	size_t n = 0;
	for (const struct cli_option *own = command->own; own != NULL && own->name != NULL &&
			n < CLI_MAX_OPTIONS - N_SHARED; own++) {
		list[n++] = own;
	}
	for (size_t i = 0; i < N_SHARED; i++) {
		if ((command->options & shared_options[i].group) == shared_options[i].group) {
			list[n++] = &shared_options[i];
		}
	}
	return n;
}

bool cli_option_has_letter(const struct cli_option *option) {
	return option->id < CLI_NO_LETTER;
}

static void print_option(const struct cli_option *option) {
	char letter[8] = "   ", left[80];
	if (cli_option_has_letter(option)) {
		snprintf(letter, sizeof(letter), "-%c,", option->id);
	}
	snprintf(left, sizeof(left), "  %s --%s%s%s", letter, option->name,
		option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
	printf("%-*s", HELP_COLUMN, left);
	if (strlen(left) >= HELP_COLUMN) {
		printf("\n%*s", HELP_COLUMN, "");
	}
	for (const char *c = option->help; *c != '\0'; c++) {
		putchar(*c);
		if (*c == '\n') {
			printf("%*s", HELP_COLUMN, "");
		}
	}
	putchar('\n');
}

static void print_help(const struct command *command) {
	printf("usage: vitrine %s %s\n\n%s\n\n", command->name, command->synopsis, command->summary);
	const struct cli_option *list[CLI_MAX_OPTIONS];
	size_t n = cli_list_options(command, list);
	for (size_t i = 0; i < n; i++) {
		if (list[i]->help != NULL) {
			print_option(list[i]);
		}
	}
}

double cli_parse_number(const struct cli *cli, const char *option, const char *value, double min) {
	char *end;
	errno = 0;
	double number = strtod(value, &end);
	// Written so that NaN fails too
	if (end == value || *end != '\0' || errno != 0 || !(number >= min && number <= 1e9)) {
		exit(cli_fail_usage(cli, "--%s wants a number of at least %g, not \"%s\"", option, min,
			value));
	}
	return number;
}

/** The bits for a list of words. Exits with EXIT_USAGE if there is none, or an unknown one. */
static uint32_t parse_words(const struct cli *cli, const char *option, const char *value,
		uint32_t (*from_name)(const char *name), const char *known) {
	char *copy = strdup(value);
	if (copy == NULL) {
		exit(cli_fail("out of memory"));
	}
	uint32_t mask = 0;
	char *save = NULL;
	for (char *word = strtok_r(copy, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save)) {
		uint32_t bit = from_name(word);
		if (bit == 0) {
			exit(cli_fail_usage(cli, "\"%s\" is no %s; there are %s", word, option, known));
		}
		mask |= bit;
	}
	free(copy);
	if (mask == 0) {
		exit(cli_fail_usage(cli, "--%s wants at least one of %s", option, known));
	}
	return mask;
}

/** Seconds to milliseconds, without overflow. */
static int parse_timeout(const struct cli *cli, const char *value) {
	double seconds = cli_parse_number(cli, "timeout", value, 0);
	return seconds < 1e6 ? (int)(seconds * 1000) : 1000000000;
}

/** What is empty names nothing, though windows may have empty names. */
static const char *parse_name(const struct cli *cli, const char *option, const char *value) {
	if (value[0] == '\0') {
		exit(cli_fail_usage(cli, "--%s wants a name that is not empty", option));
	}
	return value;
}

/** Reads "X,Y WxH". Exits with EXIT_USAGE if it is something else. */
static struct cli_region parse_region(const struct cli *cli, const char *value) {
	struct cli_region region;
	int end = -1;
	int n = sscanf(value, "%9" SCNd64 ",%9" SCNd64 " %9" SCNd64 "x%9" SCNd64 " %n", &region.x,
		&region.y, &region.width, &region.height, &end);
	if (n != 4 || end < 0 || value[end] != '\0' || region.width < 1 || region.height < 1) {
		exit(cli_fail_usage(cli, "--region wants \"X,Y WxH\", not \"%s\"", value));
	}
	return region;
}

/** There is one thing to look at. */
static void check_source(const struct cli *cli) {
	if ((cli->output != NULL) + (cli->window != NULL) + cli->has_region + cli->all > 1) {
		exit(cli_fail_usage(cli, "takes one of %s", cli->command->options & CLI_REGION ?
			"--output, --window, --region and --all" : "--output and --window"));
	}
}

/** Returns whether the option was one that is shared. */
static bool handle_shared_option(struct cli *cli, int option) {
	switch (option) {
	case 'h':
		print_help(cli->command);
		exit(cli_flush_stdout());
	case 'V':
		puts("vitrine " VITRINE_VERSION);
		exit(cli_flush_stdout());
	case OPTION_SOCKET:
		cli->socket = optarg;
		return true;
	case OPTION_JSON:
		cli->json = true;
		return true;
	case 'o':
		cli->output = parse_name(cli, "output", optarg);
		return true;
	case 'w':
		cli->window = parse_name(cli, "window", optarg);
		return true;
	case 'g':
		cli->region = parse_region(cli, optarg);
		cli->has_region = true;
		return true;
	case 'a':
		cli->all = true;
		return true;
	case 's':
		cli->scale = cli_parse_number(cli, "scale", optarg, 0.001);
		return true;
	case OPTION_GUARANTEE:
		cli->acceptable = parse_words(cli, "guarantee", optarg, vitrine_guarantee_from_name,
			cli_guarantees(VITRINE_GUARANTEE_ALL));
		return true;
	case OPTION_STORAGE:
		cli->storages = parse_words(cli, "storage", optarg, vitrine_storage_from_name,
			"memfd,mapped-dmabuf,dmabuf");
		return true;
	case OPTION_CURSOR:
		cli->cursor = true;
		return true;
	case OPTION_TIMEOUT:
		cli->timeout_ms = parse_timeout(cli, optarg);
		return true;
	}
	return false;
}

int cli_getopt(struct cli *cli, int argc, char **argv) {
	const struct cli_option *list[CLI_MAX_OPTIONS];
	size_t n = cli_list_options(cli->command, list);
	struct option options[CLI_MAX_OPTIONS + 1] = {0};
	char letters[2 * CLI_MAX_OPTIONS + 2] = ":", *end = letters + 1;
	for (size_t i = 0; i < n; i++) {
		bool has_argument = list[i]->argument != NULL;
		options[i] = (struct option){ list[i]->name,
			has_argument ? required_argument : no_argument, NULL, list[i]->id };
		if (cli_option_has_letter(list[i])) {
			*end++ = (char)list[i]->id;
			*end = ':';
			end += has_argument;
		}
	}
	*end = '\0';

	int option;
	do {
		option = getopt_long(argc, argv, letters, options, NULL);
		if (option == '?') {
			exit(cli_fail_usage(cli, "unknown option \"%s\"", argv[optind - 1]));
		} else if (option == ':') {
			exit(cli_fail_usage(cli, "option \"%s\" wants a value", argv[optind - 1]));
		}
	} while (handle_shared_option(cli, option));
	if (option == -1) {
		check_source(cli);
	}
	return option;
}

/** Whether the word is the option: "-o", "-oX", "--output", "--output=X". */
static bool word_is_option(const char *word, const struct cli_option *option, bool *has_value) {
	size_t len = strlen(option->name);
	if (cli_option_has_letter(option) && word[1] == option->id) {
		*has_value = word[2] != '\0';
		return true;
	}
	*has_value = word[1] == '-' && word[2 + strcspn(word + 2, "=")] == '=';
	return word[1] == '-' && strncmp(word + 2, option->name, len) == 0 &&
		(word[2 + len] == '\0' || word[2 + len] == '=');
}

int cli_count_option_words(char **words) {
	if (words[0] == NULL || words[0][0] != '-' || words[0][1] == '\0') {
		return 0;
	}
	for (size_t i = 0; i < N_SHARED; i++) {
		bool has_value;
		if (word_is_option(words[0], &shared_options[i], &has_value)) {
			return shared_options[i].argument != NULL && !has_value && words[1] != NULL ? 2 : 1;
		}
	}
	return 1; // which the command will refuse
}
