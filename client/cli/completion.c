/* SPDX-License-Identifier: MIT */
/*
 * What shells complete. Nothing of it asks a compositor: a shell would expand the names of
 * outputs and windows, which others choose.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct completion {
	const struct command *const *commands;
	size_t n_commands;
};

typedef void (*print_option_func)(const struct command *command,
	const struct cli_option *option);

/** For those options that --help has. */
static void for_each_option(const struct command *command, print_option_func print) {
	const struct cli_option *list[CLI_MAX_OPTIONS];
	size_t n = cli_list_options(command, list);
	for (size_t i = 0; i < n; i++) {
		if (list[i]->help != NULL) {
			print(command, list[i]);
		}
	}
}

/** The text in single quotes, where the mark itself is written as `quote`; on one line. */
static void print_quoted(const char *text, const char *quote) {
	putchar('\'');
	for (; *text != '\0'; text++) {
		if (*text == '\'') {
			fputs(quote, stdout);
		} else {
			putchar(*text == '\n' ? ' ' : *text);
		}
	}
	putchar('\'');
}

/* bash */

static void print_bash_words(const struct command *command, const struct cli_option *option) {
	if (cli_option_has_letter(option)) {
		printf(" -%c", option->id);
	}
	printf(" --%s", option->name);
}

/** The options whose value comes next. */
static void print_bash_case(const struct command *command, const struct cli_option *option) {
	if (option->argument == NULL) {
		return;
	}
	printf("\t%s:--%s", command->name, option->name);
	if (cli_option_has_letter(option)) {
		printf("|%s:-%c", command->name, option->id);
	}
	printf(") words='%s' files= ;;\n", option->values != NULL ? option->values : "");
}

static void print_bash(const struct completion *completion) {
	fputs("# bash completion for vitrine\n"
		"_vitrine() {\n"
		"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
		"\tlocal command= words= files= i\n"
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		"\t\tcase ${COMP_WORDS[i]} in\n"
		"\t\t--socket|--timeout) ((i++)) ;;\n"
		"\t\t-*) ;;\n"
		"\t\t*) command=${COMP_WORDS[i]}; break ;;\n"
		"\t\tesac\n"
		"\tdone\n"
		"\tcase $command in\n"
		"\t'') words='help", stdout);
	for (size_t i = 0; i < completion->n_commands; i++) {
		printf(" %s", completion->commands[i]->name);
	}
	puts(" --socket --timeout --help --version' ;;");
	fputs("\thelp) words='", stdout);
	for (size_t i = 0; i < completion->n_commands; i++) {
		printf("%s%s", i > 0 ? " " : "", completion->commands[i]->name);
	}
	puts("' ;;");
	for (size_t i = 0; i < completion->n_commands; i++) {
		const struct command *command = completion->commands[i];
		printf("\t%s) files=%s words='", command->name, command->takes_file ? "yes" : "");
		for_each_option(command, print_bash_words);
		puts("' ;;");
	}
	puts("\tesac\n\tcase $command:$previous in");
	for (size_t i = 0; i < completion->n_commands; i++) {
		for_each_option(completion->commands[i], print_bash_case);
	}
	puts("\tesac\n"
		"\tCOMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
		"\tif [[ $files && $current != -* ]]; then\n"
		"\t\tcompopt -o filenames 2>/dev/null\n"
		"\t\tlocal IFS=$'\\n'\n"
		"\t\tCOMPREPLY=($(compgen -f -- \"$current\"))\n"
		"\tfi\n"
		"}\n"
		"complete -F _vitrine vitrine");
}

/* zsh */

/** In a specification of _arguments, where brackets and colons have a meaning. */
static void print_zsh_option(const struct command *command, const struct cli_option *option) {
	char spec[512] = "";
	size_t used = 0;
	for (const char *c = option->help; *c != '\0' && used < sizeof(spec) - 3; c++) {
		if (strchr("[]:\\", *c) != NULL) {
			spec[used++] = '\\';
		}
		spec[used++] = *c;
	}
	char text[1024], values[256] = "";
	if (option->argument != NULL) {
		snprintf(values, sizeof(values), option->values != NULL ? ":%s:(%s)" : ":%s: ",
			option->argument, option->values);
	}
	snprintf(text, sizeof(text), "--%s%s[%s]%s", option->name, option->argument != NULL ? "=" : "",
		spec, values);
	fputs("\t\t\t", stdout);
	print_quoted(text, "'\\''");
	if (cli_option_has_letter(option)) {
		snprintf(text, sizeof(text), "-%c%s[%s]%s", option->id, option->argument != NULL ? "+" : "",
			spec, values);
		putchar(' ');
		print_quoted(text, "'\\''");
	}
	puts(" \\");
}

static void print_zsh(const struct completion *completion) {
	puts("#compdef vitrine\n"
		"_vitrine() {\n"
		"\tlocal curcontext=$curcontext state line\n"
		"\tlocal -a commands=(\n"
		"\t\t'help:Tell about a command'");
	for (size_t i = 0; i < completion->n_commands; i++) {
		char text[256];
		snprintf(text, sizeof(text), "%s:%s", completion->commands[i]->name,
			completion->commands[i]->summary);
		fputs("\t\t", stdout);
		print_quoted(text, "'\\''");
		putchar('\n');
	}
	puts("\t)\n"
		"\t_arguments -C '--socket=[the Wayland socket]:NAME: ' \\\n"
		"\t\t'--timeout=[how long to wait]:SECONDS: ' \\\n"
		"\t\t'(- *)'{-h,--help}'[print help]' '(- *)'{-V,--version}'[print the version]' \\\n"
		"\t\t'1: :->command' '*:: :->arguments'\n"
		"\tcase $state in\n"
		"\tcommand) _describe command commands ;;\n"
		"\targuments)\n"
		"\t\tcase $line[1] in\n"
		"\t\thelp) _describe command commands ;;");
	for (size_t i = 0; i < completion->n_commands; i++) {
		const struct command *command = completion->commands[i];
		printf("\t\t%s) _arguments \\\n", command->name);
		for_each_option(command, print_zsh_option);
		puts(command->takes_file ? "\t\t\t'*: :_files' ;;" : "\t\t\t&& return ;;");
	}
	puts("\t\tesac ;;\n"
		"\tesac\n"
		"}\n"
		"_vitrine \"$@\"");
}

/* fish */

static void print_fish_option(const struct command *command, const struct cli_option *option) {
	printf("complete -c vitrine -n '__fish_seen_subcommand_from %s' -l %s", command->name,
		option->name);
	if (cli_option_has_letter(option)) {
		printf(" -s %c", option->id);
	}
	if (option->argument != NULL) {
		fputs(" -x", stdout);
	}
	if (option->values != NULL) {
		fputs(" -a ", stdout);
		print_quoted(option->values, "\\'");
	}
	fputs(" -d ", stdout);
	print_quoted(option->help, "\\'");
	putchar('\n');
}

static void print_fish(const struct completion *completion) {
	puts("complete -c vitrine -f\n"
		"complete -c vitrine -n __fish_use_subcommand -x -l socket -d 'the Wayland socket'\n"
		"complete -c vitrine -n __fish_use_subcommand -x -l timeout -d 'how long to wait'\n"
		"complete -c vitrine -n __fish_use_subcommand -s h -l help -d 'print help'\n"
		"complete -c vitrine -n __fish_use_subcommand -s V -l version -d 'print the version'\n"
		"complete -c vitrine -n __fish_use_subcommand -a help -d 'Tell about a command'");
	for (size_t i = 0; i < completion->n_commands; i++) {
		const struct command *command = completion->commands[i];
		printf("complete -c vitrine -n __fish_use_subcommand -a %s -d ", command->name);
		print_quoted(command->summary, "\\'");
		printf("\ncomplete -c vitrine -n '__fish_seen_subcommand_from help' -a %s\n", command->name);
		if (command->takes_file) {
			printf("complete -c vitrine -n '__fish_seen_subcommand_from %s' -F\n", command->name);
		}
		for_each_option(command, print_fish_option);
	}
}

int cli_print_completion(const char *shell, const struct command *const *commands,
		size_t n_commands) {
	static const struct {
		const char *name;
		void (*print)(const struct completion *completion);
	} shells[] = { { "bash", print_bash }, { "zsh", print_zsh }, { "fish", print_fish } };
	const struct completion completion = { commands, n_commands };
	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(shell, shells[i].name) == 0) {
			shells[i].print(&completion);
			return cli_flush_stdout();
		}
	}
	fputs("vitrine: --completion is for bash, zsh and fish\n", stderr);
	return EXIT_USAGE;
}
