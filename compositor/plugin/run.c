/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elf_file.h"
#include "hook.h"
#include "plugin.h"
#include "rules.h"

#define WLROOTS "libwlroots-0.20.so"

struct run_options {
	bool strict;
	const char *on_capture; // a shell command, NULL for none
	char **command; // NULL-terminated
};

/** These have no letter. */
enum {
	OPTION_ALLOW = 256,
	OPTION_POLICY,
};

/** Without these the plugin has nothing to hold on to. */
static const char *const needed_symbols[] = {
	"wl_display_create",
	"wlr_allocator_autocreate",
	"wlr_backend_start",
};

static void usage(FILE *file) {
	fputs("usage: vitrine-run [options] COMPOSITOR [ARGS...]\n"
		"\n"
		"Runs an unmodified wlroots 0.20 compositor with read-only views.\n"
		"\n"
		"  -g, --min-guarantee GUARANTEE  give no weaker one: fd_read_only, guarded\n"
		"                                 (default), sealed or snapshot\n"
		"      --allow LIST               give these too, such as fd_read_only\n"
		"      --policy FILE              say in a file which client may look at what: see\n"
		"                                 vitrine-policy(5)\n"
		"  -a, --allow-sandboxed          sandboxed clients may look too\n"
		"  -d, --deadline MS              take a held frame back after this time\n"
		"  -l, --log FILE                 tell which client looks there rather than on stderr\n"
		"  -c, --on-capture CMD           run this when a client starts or stops to look\n"
		"  -s, --strict                   fail where views are impossible, rather than\n"
		"                                 run the compositor without\n"
		"  -V, --version\n"
		"  -h, --help\n", file);
}

/**
 * The compositor reads the file again, when it may be in another directory. An error ends
 * the program: what the user forbids must not be allowed for a typing error.
 */
static void take_policy(const char *name) {
	char path[PATH_MAX];
	struct rules_error error;
	struct rules *rules = rules_get_path(path, name, &error) ? rules_read(path, &error) : NULL;
	if (rules == NULL) {
		fprintf(stderr, "vitrine-run: %s\n", error.text);
		exit(2);
	}
	rules_destroy(rules);
	setenv(PLUGIN_ENV_POLICY, path, true);
}

/** Returns false with a message if the value of an option is wrong. */
static bool take_option(struct run_options *options, int option) {
	char *end;
	switch (option) {
	case 'g':
		if (rules_guarantees_from_min(optarg) == 0) {
			fprintf(stderr, "vitrine-run: '%s' is no guarantee (fd_read_only, guarded, sealed, "
				"snapshot)\n", optarg);
			return false;
		}
		setenv(PLUGIN_ENV_MIN_GUARANTEE, optarg, true);
		return true;
	case OPTION_ALLOW:
		if (plugin_guarantees_from_list(optarg) == 0) {
			fprintf(stderr, "vitrine-run: '%s' is no list of guarantees (fd_read_only, guarded, "
				"sealed, snapshot)\n", optarg);
			return false;
		}
		setenv(PLUGIN_ENV_ALLOW, optarg, true);
		return true;
	case OPTION_POLICY:
		take_policy(optarg);
		return true;
	case 'a':
		setenv(PLUGIN_ENV_ALLOW_SANDBOXED, "1", true);
		return true;
	case 'd':
		errno = 0;
		long deadline = strtol(optarg, &end, 10);
		if (errno != 0 || *optarg == '\0' || *end != '\0' || deadline < 1 ||
				deadline > 3600 * 1000) {
			fprintf(stderr, "vitrine-run: '%s' is no time in ms, from 1 to 3600000\n", optarg);
			return false;
		}
		setenv(PLUGIN_ENV_DEADLINE, optarg, true);
		return true;
	case 'l':
		setenv(PLUGIN_ENV_LOG, optarg, true);
		return true;
	case 'c':
		options->on_capture = optarg;
		return true;
	case 's':
		options->strict = true;
		return true;
	}
	return false;
}

static bool parse_options(struct run_options *options, int argc, char *argv[]) {
	static const struct option long_options[] = {
		{ "min-guarantee", required_argument, NULL, 'g' },
		{ "allow", required_argument, NULL, OPTION_ALLOW },
		{ "policy", required_argument, NULL, OPTION_POLICY },
		{ "allow-sandboxed", no_argument, NULL, 'a' },
		{ "deadline", required_argument, NULL, 'd' },
		{ "log", required_argument, NULL, 'l' },
		{ "on-capture", required_argument, NULL, 'c' },
		{ "strict", no_argument, NULL, 's' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;
	// The compositor's own options are not ours: "+"
	while ((option = getopt_long(argc, argv, "+g:ad:l:c:sVh", long_options, NULL)) != -1) {
		if (option == 'h') {
			usage(stdout);
			exit(EXIT_SUCCESS);
		} else if (option == 'V') {
			puts("vitrine-run " VITRINE_VERSION);
			exit(EXIT_SUCCESS);
		} else if (!take_option(options, option)) {
			return false;
		}
	}
	if (optind == argc) {
		fputs("vitrine-run: which compositor?\n", stderr);
		return false;
	}
	options->command = &argv[optind];
	return true;
}

/** As execvp() does. Returns false if there is no such program. */
static bool find_program(const char *name, char path[static PATH_MAX]) {
	if (strchr(name, '/') != NULL) {
		return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
	}
	const char *dirs = getenv("PATH");
	if (dirs == NULL) {
		dirs = "/usr/local/bin:/usr/bin:/bin";
	}
	while (true) {
		int len = (int)strcspn(dirs, ":");
		int n = snprintf(path, PATH_MAX, "%.*s%s%s", len, dirs, len > 0 ? "/" : "./", name);
		if (n < PATH_MAX && access(path, X_OK) == 0) {
			return true;
		}
		if (dirs[len] == '\0') {
			return false;
		}
		dirs += len + 1;
	}
}

/** Whether the dynamic linker would ignore what is to be preloaded. */
static bool is_privileged(const char *path) {
	struct stat st;
	return geteuid() != 0 && ((stat(path, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID))) ||
		getxattr(path, "security.capability", NULL, 0) > 0);
}

static bool check_elf_file(const struct elf_file *file, char *reason, size_t size) {
	size_t cursor = 0;
	if (!file->is_dynamic) {
		snprintf(reason, size, "it is linked statically");
		return false;
	}
	const char *wlroots = elf_file_next_needed(file, "libwlroots", &cursor);
	if (wlroots == NULL) {
		snprintf(reason, size, "it does not link " WLROOTS
			" (it is no wlroots compositor, or has its own copy inside)");
		return false;
	}
	if (strncmp(wlroots, WLROOTS, strlen(WLROOTS)) != 0) {
		snprintf(reason, size, "it links %s rather than " WLROOTS, wlroots);
		return false;
	}
	for (size_t i = 0; i < sizeof(needed_symbols) / sizeof(needed_symbols[0]); i++) {
		if (!elf_file_imports(file, needed_symbols[i])) {
			snprintf(reason, size, "it does not call %s()", needed_symbols[i]);
			return false;
		}
	}
	return true;
}

/** Whether the plugin can be loaded into a program; sets `reason` if not. */
static bool check_program(const char *path, char *reason, size_t size) {
	if (is_privileged(path)) {
		snprintf(reason, size, "it has file capabilities or is set-user-ID, so nothing can "
			"be preloaded into it");
		return false;
	}
	struct elf_file file;
	int ret = elf_file_init(&file, path);
	if (ret == -ENOEXEC) {
		snprintf(reason, size, "it is no program of this machine, but maybe a script that "
			"starts one");
		return false;
	} else if (ret < 0) {
		snprintf(reason, size, "it cannot be read: %s", strerror(-ret));
		return false;
	}
	bool ok = check_elf_file(&file, reason, size);
	elf_file_finish(&file);
	return ok;
}

/** Where it was built if this program is run from there, else where it is installed. */
static bool find_plugin(char path[static PATH_MAX]) {
	ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);
	if (len > 0) {
		path[len] = '\0';
		char *slash = strrchr(path, '/');
		size_t room = PATH_MAX - (size_t)(slash + 1 - path);
		if (slash != NULL && (size_t)snprintf(slash + 1, room, PLUGIN_FILE) < room &&
				access(path, R_OK) == 0) {
			return true;
		}
	}
	snprintf(path, PATH_MAX, "%s/%s", VITRINE_PLUGIN_DIR, PLUGIN_FILE);
	return access(path, R_OK) == 0;
}

static bool add_preload(const char *plugin) {
	if (strpbrk(plugin, ": ") != NULL) {
		return false; // which separate entries
	}
	const char *others = getenv("LD_PRELOAD");
	char *value;
	if (asprintf(&value, "%s%s%s", plugin, others != NULL ? ":" : "",
			others != NULL ? others : "") < 0) {
		return false;
	}
	setenv("LD_PRELOAD", value, true);
	free(value);
	return true;
}

/** It is not the compositor that runs commands. */
static bool prepare_hook(const char *command) {
	int fd = hook_start_helper(command);
	if (fd < 0) {
		fprintf(stderr, "vitrine-run: %s cannot be run for events: %s\n", command, strerror(-fd));
		return false;
	}
	char value[16];
	snprintf(value, sizeof(value), "%d", fd);
	setenv(PLUGIN_ENV_HOOK_FD, value, true);
	return true;
}

/** Returns false, with the reason, if the compositor has to do without. */
static bool prepare(const char *program, char *reason, size_t size) {
	char path[PATH_MAX];
	if (!check_program(program, reason, size)) {
		return false;
	}
	if (!find_plugin(path) || !add_preload(path)) {
		snprintf(reason, size, "the plugin cannot be loaded from %s", path);
		return false;
	}
	return true;
}

static void clean_environment(void) {
	unsetenv(PLUGIN_ENV_MIN_GUARANTEE);
	unsetenv(PLUGIN_ENV_ALLOW);
	unsetenv(PLUGIN_ENV_ALLOW_SANDBOXED);
	unsetenv(PLUGIN_ENV_DEADLINE);
	unsetenv(PLUGIN_ENV_POLICY);
	unsetenv(PLUGIN_ENV_LOG);
	unsetenv(PLUGIN_ENV_HOOK_FD);
}

int main(int argc, char *argv[]) {
	struct run_options options = { 0 };
	clean_environment();
	if (!parse_options(&options, argc, argv)) {
		fputs("vitrine-run: see vitrine-run --help\n", stderr);
		return 2;
	}

	const char *name = options.command[0];
	char path[PATH_MAX], reason[PATH_MAX + 128];
	if (!find_program(name, path)) {
		fprintf(stderr, "vitrine-run: %s: not found\n", name);
		return 127;
	}
	if (!prepare(path, reason, sizeof(reason))) {
		fprintf(stderr, "vitrine-run: %s runs %s read-only views: %s\n", name,
			options.strict ? "not at all, for want of" : "without", reason);
		if (options.strict) {
			return EXIT_FAILURE;
		}
		clean_environment();
	} else if (options.on_capture != NULL && !prepare_hook(options.on_capture) &&
			options.strict) {
		return EXIT_FAILURE;
	}
	execv(path, options.command);
	int error = errno;
	if (error == ENOEXEC) {
		execvp(name, options.command); // a script without an interpreter line
	}
	fprintf(stderr, "vitrine-run: %s: %s\n", path, strerror(error));
	return error == ENOENT ? 127 : 126;
}
