/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/util/log.h>

#include "nofile.h"
#include "policy_file.h"
#include "server.h"

#define MAX_OUTPUTS 16
#define MAX_SIZE 16384

static const char usage[] =
	"Usage: vitrine-compositor [options...] [-- <command> [argument...]]\n"
	"\n"
	"Runs the command in there, and exits when it ends, with its status.\n"
	"\n"
	"  -o, --output <WxH[@Hz]>     Add a headless output. Can be given several times;\n"
	"      --size <WxH[@Hz]>       the same. Default: 1280x720@60.\n"
	"      --ready-fd <number>     When it is ready, write the name of the socket there.\n"
	"      --run-timeout <seconds> End a command that runs for longer; status 124.\n"
	"  -s, --startup <command>     Run a command with sh when the socket is ready.\n"
	"  -x, --exit-with-startup     Exit when that command ends, with its status.\n"
	"  -b, --background <RRGGBB>   Set the background colour.\n"
	"      --backend <names>       Use these backends, as in WLR_BACKENDS, or auto;\n"
	"                              default: $WLR_BACKENDS, else headless.\n"
	"      --socket <name>         Listen on this socket.\n"
	"      --allow <guarantees>    Allow these too, separated by commas, such as\n"
	"                              fd_read_only.\n"
	"      --policy <file>         Say in a file which client may look at what; see\n"
	"                              vitrine-policy(5). Read again upon SIGHUP.\n"
	"      --no-stock-capture      Leave out the capture protocols that copy or that\n"
	"                              hand out writable buffers.\n"
	"      --no-xwayland           Have no X11 display.\n"
	"  -v, --verbose               Log more. Can be given twice.\n"
	"  -V, --version               Show the version.\n"
	"  -h, --help                  Show this text.\n";

enum {
	OPTION_BACKEND = 256,
	OPTION_SOCKET,
	OPTION_NO_STOCK_CAPTURE,
	OPTION_NO_XWAYLAND,
	OPTION_ALLOW,
	OPTION_POLICY,
	OPTION_READY_FD,
	OPTION_RUN_TIMEOUT,
};

static const struct option long_options[] = {
	{"startup", required_argument, NULL, 's'},
	{"exit-with-startup", no_argument, NULL, 'x'},
	{"output", required_argument, NULL, 'o'},
	{"size", required_argument, NULL, 'o'},
	{"ready-fd", required_argument, NULL, OPTION_READY_FD},
	{"run-timeout", required_argument, NULL, OPTION_RUN_TIMEOUT},
	{"background", required_argument, NULL, 'b'},
	{"backend", required_argument, NULL, OPTION_BACKEND},
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"no-stock-capture", no_argument, NULL, OPTION_NO_STOCK_CAPTURE},
	{"no-xwayland", no_argument, NULL, OPTION_NO_XWAYLAND},
	{"allow", required_argument, NULL, OPTION_ALLOW},
	{"policy", required_argument, NULL, OPTION_POLICY},
	{"verbose", no_argument, NULL, 'v'},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/** When it is not the command that fails, of which these are the statuses otherwise. */
#define STATUS_NOT_RUN 125
static int failure = EXIT_FAILURE;

static bool parse_output(const char *arg, struct output_mode *mode) {
	double hz = 60;
	int end = 0;
	if (sscanf(arg, "%5dx%5d%n", &mode->width, &mode->height, &end) != 2) {
		return false;
	}
	arg += end;
	if (*arg == '@') {
		char *rest;
		hz = strtod(arg + 1, &rest);
		if (rest == arg + 1) {
			return false;
		}
		arg = rest;
	}
	mode->refresh = hz >= 1 && hz <= 1000 ? (int)(hz * 1000 + 0.5) : 0;
	return *arg == '\0' && mode->refresh > 0 && mode->width > 0 && mode->height > 0 &&
		mode->width <= MAX_SIZE && mode->height <= MAX_SIZE;
}

static bool parse_color(const char *arg, float color[static 4]) {
	if (strspn(arg, "0123456789abcdefABCDEF") != 6 || strlen(arg) != 6) {
		return false;
	}
	unsigned long rgb = strtoul(arg, NULL, 16);
	color[0] = (float)(rgb >> 16 & 0xff) / 255;
	color[1] = (float)(rgb >> 8 & 0xff) / 255;
	color[2] = (float)(rgb & 0xff) / 255;
	color[3] = 1;
	return true;
}

/** Adds each word of the list, which is cut up. False if one is no guarantee. */
static bool parse_guarantees(char *list, uint32_t *guarantees) {
	char *save = NULL;
	for (char *name = strtok_r(list, ",", &save); name != NULL;
			name = strtok_r(NULL, ",", &save)) {
		uint32_t guarantee = vitrine_guarantee_from_name(name);
		if (guarantee == 0) {
			return false;
		}
		*guarantees |= guarantee;
	}
	return true;
}

/**
 * An open file descriptor, which what is started does not get, and which is closed: so none of
 * those that the command and messages are written to.
 */
static bool parse_fd(const char *arg, int *fd) {
	char *rest;
	long number = strtol(arg, &rest, 10);
	if (rest == arg || *rest != '\0' || number <= STDERR_FILENO || number > INT_MAX ||
			fcntl((int)number, F_SETFD, FD_CLOEXEC) != 0) {
		return false;
	}
	*fd = (int)number;
	return true;
}

/** Seconds, in ms. */
static bool parse_timeout(const char *arg, int *ms) {
	char *rest;
	double seconds = strtod(arg, &rest);
	if (rest == arg || *rest != '\0' || !(seconds >= 0.001 && seconds <= INT_MAX / 1000)) {
		return false;
	}
	*ms = (int)(seconds * 1000);
	return true;
}

static void die(const char *what, const char *arg) {
	fprintf(stderr, "vitrine-compositor: %s%s%s\n", what, arg != NULL ? ": " : "",
		arg != NULL ? arg : "");
	exit(failure);
}

/** What is to be run: what stands after --, or the startup command. */
static void find_command(int argc, char *argv[], char *startup, struct server_options *options) {
	static char *shell[] = {"/bin/sh", "-c", NULL, NULL};
	if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
		die("unexpected argument", argv[optind]);
	}
	if (options->exit_with_command && startup == NULL) {
		die("--exit-with-startup needs --startup", NULL);
	}
	if (optind < argc && startup != NULL) {
		die("there is a startup command already", argv[optind]);
	}
	if (optind < argc) {
		options->command = argv + optind;
		options->exit_with_command = true;
		options->print_socket = false; // what is printed is the command's
	} else if (startup != NULL) {
		shell[2] = startup;
		options->command = shell;
	}
	if (options->run_timeout_ms != 0 && !options->exit_with_command) {
		die("--run-timeout needs a command", NULL);
	}
}

/** An error ends the program: what the user forbids must not be allowed for a typing error. */
static void read_policy(const char *name, struct server_options *options) {
	struct rules_error error;
	char path[PATH_MAX];
	// It is opened again later
	if (!rules_get_path(path, name, &error) ||
			!policy_file_init(options->policy_file, path, &error)) {
		fprintf(stderr, "vitrine-compositor: %s\n", error.text);
		exit(failure == STATUS_NOT_RUN ? failure : 2);
	}
}

/** Those whose argument can be wrong. Returns whether it is one of them. */
static bool parse_value(int option, char *arg, struct server_options *options,
		struct output_mode outputs[static MAX_OUTPUTS]) {
	const char *wrong = NULL;
	switch (option) {
	case 'o':
		if (options->outputs_len == MAX_OUTPUTS) {
			die("too many outputs", NULL);
		}
		wrong = parse_output(arg, &outputs[options->outputs_len++]) ? NULL :
			"not an output mode like 1280x720@60";
		break;
	case 'b':
		wrong = parse_color(arg, options->background) ? NULL : "not a colour like 20242c";
		break;
	case OPTION_ALLOW:
		wrong = parse_guarantees(arg, &options->guarantees) ? NULL :
			"no guarantees like fd_read_only";
		break;
	case OPTION_READY_FD:
		wrong = parse_fd(arg, &options->ready_fd) ? NULL : "not an open file descriptor from 3 on";
		break;
	case OPTION_RUN_TIMEOUT:
		wrong = parse_timeout(arg, &options->run_timeout_ms) ? NULL : "not a number of seconds";
		break;
	default:
		return false;
	}
	if (wrong != NULL) {
		die(wrong, arg);
	}
	return true;
}

static enum wlr_log_importance parse_options(int argc, char *argv[],
		struct server_options *options, struct output_mode outputs[static MAX_OUTPUTS]) {
	int verbosity = WLR_ERROR, c;
	const char *policy = NULL;
	char *startup = NULL;
	while ((c = getopt_long(argc, argv, "+s:xo:b:vVh", long_options, NULL)) != -1) {
		if (parse_value(c, optarg, options, outputs)) {
			continue;
		}
		switch (c) {
		case 's':
			startup = optarg;
			break;
		case 'x':
			options->exit_with_command = true;
			break;
		case OPTION_BACKEND:
			options->backends = optarg;
			break;
		case OPTION_SOCKET:
			options->socket = optarg;
			break;
		case OPTION_NO_STOCK_CAPTURE:
			options->stock_capture = false;
			break;
		case OPTION_NO_XWAYLAND:
			options->xwayland = false;
			break;
		case OPTION_POLICY:
			policy = optarg;
			break;
		case 'v':
			verbosity += verbosity < WLR_DEBUG;
			break;
		case 'V':
			puts("vitrine-compositor " VITRINE_VERSION);
			exit(EXIT_SUCCESS);
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			exit(failure); // getopt said why
		}
	}
	find_command(argc, argv, startup, options);
	if (policy != NULL) {
		read_policy(policy, options);
	} else {
		options->policy_file = NULL;
	}
	return verbosity;
}

int main(int argc, char *argv[]) {
	for (int i = 1; i < argc; i++) {
		failure = strcmp(argv[i], "--") == 0 ? STATUS_NOT_RUN : failure;
	}
	struct output_mode outputs[MAX_OUTPUTS] = {{.width = 1280, .height = 720, .refresh = 60000}};
	struct policy_file policy_file = {0};
	struct server_options options = {
		.stock_capture = true,
		.xwayland = true,
		.guarantees = VITRINE_VIEW_GUARANTEES_DEFAULT,
		.background = {0x2b / 255.0, 0x30 / 255.0, 0x3b / 255.0, 1},
		.print_socket = true,
		.ready_fd = -1,
		.outputs = outputs,
		.policy_file = &policy_file,
	};
	enum wlr_log_importance verbosity = parse_options(argc, argv, &options, outputs);
	if (options.outputs_len == 0) {
		options.outputs_len = 1; // the default
	}
	wlr_log_init(verbosity, NULL);
	nofile_raise();

	struct server server;
	int status = server_init(&server, &options) ? server_run(&server) : -1;
	server_finish(&server);
	policy_file_finish(&policy_file);
	return status >= 0 ? status : failure;
}
