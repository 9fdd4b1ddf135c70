/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "visible.h"

#define MAX_OPTIONS 24

volatile sig_atomic_t cli_interrupted;

static const struct {
	unsigned group; // 0: for all
	struct option option;
} shared_options[] = {
	{ 0, { "help", no_argument, NULL, 'h' } },
	{ 0, { "version", no_argument, NULL, 'V' } },
	{ CLI_SOCKET, { "socket", required_argument, NULL, 'S' } },
	{ CLI_JSON, { "json", no_argument, NULL, 'j' } },
	{ CLI_SESSION, { "output", required_argument, NULL, 'o' } },
	{ CLI_SESSION, { "guarantee", required_argument, NULL, 'g' } },
	{ CLI_SESSION, { "storage", required_argument, NULL, 'm' } },
	{ CLI_SESSION, { "cursor", no_argument, NULL, 'c' } },
	{ CLI_TIMEOUT, { "timeout", required_argument, NULL, 'w' } },
};

static const struct {
	unsigned group;
	const char *text;
} shared_help[] = {
	{ CLI_SESSION, "  -o, --output NAME       the output to look at, the first one by default\n"
		"      --guarantee LIST    guarantees to accept, such as sealed,snapshot; all by default\n"
		"      --storage LIST      storages to ask for: memfd,mapped-dmabuf by default, and dmabuf\n"
		"      --cursor            have the cursor in the pixels\n" },
	{ CLI_TIMEOUT, "      --timeout SECONDS   how long to wait for an answer, and for the first frame\n" },
	{ CLI_JSON, "      --json              print JSON\n" },
	{ CLI_SOCKET, "      --socket NAME       the Wayland socket instead of $WAYLAND_DISPLAY\n" },
	{ 0, "  -h, --help              print this help\n"
		"  -V, --version           print the version\n" },
};

void cli_init(struct cli *cli, const struct command *command) {
	*cli = (struct cli){ .command = command, .timeout_ms = 5000 };
}

void cli_finish(struct cli *cli) {
	vitrine_client_destroy(cli->client);
	cli->client = NULL;
}

/** Whatever the compositor has to do with it: as one line. */
static void print_visible(const char *format, va_list args) {
	char text[1024], visible[1024];
	vsnprintf(text, sizeof(text), format, args);
	fputs(visible_text(visible, sizeof(visible), text, VISIBLE_PLAIN), stderr);
}

static void print_line(const char *format, va_list args) {
	fputs("vitrine: ", stderr);
	print_visible(format, args);
	fputc('\n', stderr);
}

int cli_fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	print_line(format, args);
	va_end(args);
	return EXIT_FAILURE;
}

void cli_note(const char *format, ...) {
	va_list args;
	va_start(args, format);
	print_line(format, args);
	va_end(args);
}

int cli_fail_usage(const struct cli *cli, const char *format, ...) {
	fprintf(stderr, "vitrine: %s: ", cli->command->name);
	va_list args;
	va_start(args, format);
	print_visible(format, args);
	va_end(args);
	fprintf(stderr, "; see `vitrine %s --help`\n", cli->command->name);
	return EXIT_USAGE;
}

static void print_help(const struct command *command) {
	printf("usage: vitrine %s %s\n\n%s\n\n%s", command->name, command->synopsis,
		command->summary, command->help);
	for (size_t i = 0; i < sizeof(shared_help) / sizeof(shared_help[0]); i++) {
		if ((command->options & shared_help[i].group) == shared_help[i].group) {
			fputs(shared_help[i].text, stdout);
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

/** Returns whether the option was one that is shared. */
static bool handle_shared_option(struct cli *cli, int option) {
	switch (option) {
	case 'h':
		print_help(cli->command);
		exit(cli_flush_stdout());
	case 'V':
		puts("vitrine " VITRINE_VERSION);
		exit(cli_flush_stdout());
	case 'S':
		cli->socket = optarg;
		return true;
	case 'j':
		cli->json = true;
		return true;
	case 'o':
		cli->output = optarg;
		return true;
	case 'g':
		cli->acceptable = parse_words(cli, "guarantee", optarg, vitrine_guarantee_from_name,
			cli_guarantees(VITRINE_GUARANTEE_ALL));
		return true;
	case 'm':
		cli->storages = parse_words(cli, "storage", optarg, vitrine_storage_from_name,
			"memfd,mapped-dmabuf,dmabuf");
		return true;
	case 'c':
		cli->cursor = true;
		return true;
	case 'w':
		cli->timeout_ms = parse_timeout(cli, optarg);
		return true;
	}
	return false;
}

int cli_getopt(struct cli *cli, int argc, char **argv, const struct option *own) {
	struct option options[MAX_OPTIONS] = {0};
	size_t n = 0;
	for (size_t i = 0; i < sizeof(shared_options) / sizeof(shared_options[0]); i++) {
		if ((cli->command->options & shared_options[i].group) == shared_options[i].group) {
			options[n++] = shared_options[i].option;
		}
	}
	for (; own != NULL && own->name != NULL && n < MAX_OPTIONS - 1; own++) {
		options[n++] = *own;
	}

	char letters[32];
	snprintf(letters, sizeof(letters), ":hV%s%s", cli->command->options & CLI_SESSION ? "o:" : "",
		cli->command->letters != NULL ? cli->command->letters : "");
	int option;
	do {
		option = getopt_long(argc, argv, letters, options, NULL);
		if (option == '?') {
			exit(cli_fail_usage(cli, "unknown option \"%s\"", argv[optind - 1]));
		} else if (option == ':') {
			exit(cli_fail_usage(cli, "option \"%s\" wants a value", argv[optind - 1]));
		}
	} while (handle_shared_option(cli, option));
	return option;
}

static void handle_signal(int signal) {
	cli_interrupted++;
}

void cli_catch_signals(void) {
	// Without SA_RESTART, so that waiting ends
	struct sigaction action = { .sa_handler = handle_signal };
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
}

/** What the user can do about an error. */
static const char *get_hint(int error) {
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "; start a compositor, set WAYLAND_DISPLAY, or name its socket with --socket";
	case -EPROTONOSUPPORT:
		return "; start the compositor with vitrine-run, and this program outside of a sandbox";
	case -ETIMEDOUT:
		return "; wait longer with --timeout";
	case -EACCES:
		return "; `vitrine info` shows what is allowed";
	case -ENOTSUP:
		return "; accept more with --guarantee or --storage, `vitrine probe` shows what there is";
	case -EPERM:
		return "; do not trust this compositor";
	}
	return "";
}

int cli_fail_client(const struct cli *cli, int error) {
	return cli_fail("%s%s", vitrine_client_get_error(cli->client), get_hint(error));
}

int cli_connect(struct cli *cli) {
	char *message = NULL;
	int ret = vitrine_client_connect_within(cli->socket, cli->timeout_ms, &cli->client,
		&message);
	if (ret < 0) {
		cli_fail("%s%s", message != NULL ? message : strerror(-ret), get_hint(ret));
		free(message);
		return EXIT_FAILURE;
	}
	return 0;
}

struct vitrine_output *cli_find_output(const struct cli *cli) {
	struct vitrine_output *output = vitrine_client_find_output(cli->client, cli->output);
	if (output != NULL) {
		return output;
	}
	char names[512] = "";
	size_t len, used = 0;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(cli->client, &len);
	for (size_t i = 0; i < len; i++) {
		if (!vitrine_output_is_gone(outputs[i]) && used < sizeof(names)) {
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
				used > 0 ? ", " : "",
				cli_visible(&(struct cli_text){0}, vitrine_output_get_name(outputs[i])));
		}
	}
	if (used == 0) {
		cli_fail("the compositor has no output");
	} else {
		cli_fail("there is no output \"%s\"; there is %s", cli->output, names);
	}
	return NULL;
}

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

struct vitrine_session *cli_create_session(struct cli *cli, struct vitrine_output **output_ptr) {
	if (cli->client == NULL && cli_connect(cli) != 0) {
		return NULL;
	}
	struct vitrine_output *output = cli_find_output(cli);
	if (output == NULL) {
		return NULL;
	}
	struct vitrine_session_options options;
	if (!cli_get_session_options(cli, &options)) {
		cli_fail("out of memory");
		return NULL;
	}
	struct vitrine_session *session;
	int ret = vitrine_session_create(vitrine_output_get_source(output), &options, &session);
	free((void *)options.formats);
	if (ret < 0) {
		cli_fail_client(cli, ret);
		return NULL;
	}
	if (output_ptr != NULL) {
		*output_ptr = output;
	}
	return session;
}

int cli_next_frame(struct vitrine_session *session, int timeout_ms,
		struct vitrine_frame **frame) {
	// A signal between the check and poll() would be slept over: not for long
	double end = cli_now() + (timeout_ms < 0 ? CLI_TICK_MS : timeout_ms) / 1000.0;
	*frame = NULL;
	while (!cli_interrupted) {
		double left = (end - cli_now()) * 1000;
		int ret = vitrine_session_next_frame(session,
			left < 0 ? 0 : left > CLI_TICK_MS ? CLI_TICK_MS : (int)left + 1, frame);
		if (ret > 0 || (ret < 0 && ret != -EINTR)) {
			return ret;
		}
		if (ret == 0 && cli_now() >= end) {
			return 0;
		}
	}
	return -EINTR;
}

struct vitrine_frame *cli_first_frame(const struct cli *cli, struct vitrine_session *session) {
	struct vitrine_frame *frame;
	int ret = cli_next_frame(session, cli->timeout_ms, &frame);
	if (ret > 0) {
		return frame;
	}
	if (ret == 0) {
		cli_fail("no frame came within %g s%s", cli->timeout_ms / 1000.0,
			vitrine_session_is_off(session) ? ": the output is off" :
			"; wait longer with --timeout");
	} else if (ret == -EINTR) {
		cli_fail("interrupted before the first frame");
	} else {
		cli_fail_client(cli, ret);
	}
	return NULL;
}

double cli_seconds(const struct timespec *time) {
	return (double)time->tv_sec + (double)time->tv_nsec / 1e9;
}

double cli_now(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return cli_seconds(&now);
}

/** The first error on standard output: an errno, or 0. */
static int stdout_errno;

bool cli_stdout_is_broken(void) {
	if (stdout_errno == 0 && fflush(stdout) != 0) {
		stdout_errno = errno;
	} else if (stdout_errno == 0 && ferror(stdout)) {
		stdout_errno = EIO;
	}
	return stdout_errno != 0;
}

int cli_flush_stdout(void) {
	// A reader that has seen enough is no failure
	if (!cli_stdout_is_broken() || stdout_errno == EPIPE) {
		return EXIT_SUCCESS;
	}
	return cli_fail("cannot write standard output: %s", strerror(stdout_errno));
}

int cli_print_json(struct json_object *take_object) {
	const char *text = json_object_to_json_string_ext(take_object,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text != NULL) {
		visible_print_json(stdout, text);
		putchar('\n');
	}
	json_object_put(take_object);
	return text != NULL ? cli_flush_stdout() : cli_fail("out of memory");
}

struct json_object *cli_json_number(double number) {
	char text[32];
	snprintf(text, sizeof(text), "%.2f", number);
	return json_object_new_double_s(number, text);
}

struct json_object *cli_json_guarantees(uint32_t guarantees) {
	struct json_object *array = json_object_new_array();
	for (uint32_t bit = 1; bit & VITRINE_GUARANTEE_ALL; bit <<= 1) {
		if (guarantees & bit) {
			json_object_array_add(array, json_object_new_string(vitrine_guarantee_name(bit)));
		}
	}
	return array;
}

const char *cli_guarantees(uint32_t guarantees) {
	static char text[128];
	size_t used = 0;
	for (uint32_t bit = 1; bit & VITRINE_GUARANTEE_ALL; bit <<= 1) {
		if ((guarantees & bit) && used < sizeof(text)) {
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
				used > 0 ? ", " : "", vitrine_guarantee_name(bit));
		}
	}
	return used > 0 ? text : "none";
}

const char *cli_visible(struct cli_text *buffer, const char *text) {
	return visible_text(buffer->text, sizeof(buffer->text), text, VISIBLE_PLAIN);
}

const char *cli_fourcc(uint32_t fourcc, char *buffer) {
	for (int i = 0; i < 4; i++) {
		char c = (char)(fourcc >> 8 * i);
		buffer[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	buffer[4] = '\0';
	return buffer;
}
