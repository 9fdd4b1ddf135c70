/* SPDX-License-Identifier: MIT */
#ifndef CLI_H
#define CLI_H

#include <getopt.h>
#include <signal.h>
#include <vitrine-client/client.h>

#define EXIT_USAGE 2
/** How often long waits look up: for signals, and to refresh what is shown. */
#define CLI_TICK_MS 500

/** Groups of the options that commands share. */
enum cli_options {
	CLI_SOCKET = 1 << 0, // --socket
	CLI_JSON = 1 << 1, // --json
	CLI_SESSION = 1 << 2, // --output, --guarantee, --storage, --cursor
	CLI_TIMEOUT = 1 << 3, // --timeout
};

struct command {
	const char *name;
	const char *synopsis; // after the name
	const char *summary; // one line
	const char *help; // the options of its own and what there is to know, or ""
	unsigned options; // bitfield of enum cli_options
	const char *letters; // of options of its own, as of getopt(); may be NULL
	int (*run)(int argc, char **argv); // returns the exit status
};

extern const struct command command_probe, command_info, command_shot, command_record,
	command_watch, command_audit, command_sessions;

/** What the shared options say, and the connection. */
struct cli {
	const struct command *command;
	const char *output; // NULL for the first one
	const char *socket; // NULL for $WAYLAND_DISPLAY
	uint32_t acceptable; // bitfield of enum vitrine_guarantee, 0 for all
	uint32_t storages; // bitfield of enum vitrine_storage, 0 for what the CPU reads
	bool implicit_release; // for commands that look at the newest frame alone
	bool cursor, json;
	int timeout_ms; // for the connection, and then for the first frame

	struct vitrine_client *client; // NULL if not connected
};

/** How many signals have asked to end. */
extern volatile sig_atomic_t cli_interrupted;

void cli_init(struct cli *cli, const struct command *command);
void cli_finish(struct cli *cli);

/**
 * As getopt_long(), with the options of the command's groups handled and those in
 * `own` returned. May exit: for --help, --version and wrong usage.
 */
int cli_getopt(struct cli *cli, int argc, char **argv, const struct option *own);
/** Prints one line and returns EXIT_USAGE. */
int cli_fail_usage(const struct cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/** Prints one line, prefixed with the program's name, and returns EXIT_FAILURE. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The same for a note: returns nothing. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Prints what the client library says about the error, and what to do. */
int cli_fail_client(const struct cli *cli, int error);

/** Parses a number of at least `min`. Exits with EXIT_USAGE if it is none. */
double cli_parse_number(const struct cli *cli, const char *option, const char *value, double min);

/** Have SIGINT and SIGTERM counted, and broken pipes reported by write(). */
void cli_catch_signals(void);

/** Returns 0, or EXIT_FAILURE after printing why not. */
int cli_connect(struct cli *cli);
/** Returns NULL after printing why not. */
struct vitrine_output *cli_find_output(const struct cli *cli);
/**
 * Fills in what the shared options say. `options->formats`, if there are any, are to be
 * freed. Returns false without memory.
 */
bool cli_get_session_options(const struct cli *cli, struct vitrine_session_options *options);
/** Connects if necessary. Returns NULL after printing why not. */
struct vitrine_session *cli_create_session(struct cli *cli, struct vitrine_output **output);
/** Returns 0, or EXIT_USAGE after printing that the command reads pixels by the CPU. */
int cli_check_cpu_reads(const struct cli *cli);
/**
 * As vitrine_session_next_frame(), but -EINTR says that it is time to end and
 * other signals are ignored. Waits for at most CLI_TICK_MS if timeout_ms is -1.
 */
int cli_next_frame(struct vitrine_session *session, int timeout_ms,
	struct vitrine_frame **frame);
/** Waits for the first frame. Returns NULL after printing why there is none. */
struct vitrine_frame *cli_first_frame(const struct cli *cli, struct vitrine_session *session);

/** Seconds on CLOCK_MONOTONIC. */
double cli_now(void);
double cli_seconds(const struct timespec *time);

struct json_object;
/** Prints the object as a line or more, and frees it. Returns the exit status. */
int cli_print_json(struct json_object *take_object);
/** A number with two decimals. */
struct json_object *cli_json_number(double number);
/** An array of the words for the guarantees in the mask. */
struct json_object *cli_json_guarantees(uint32_t guarantees);
/** The words for the guarantees in the mask, separated by commas; "none". Static. */
const char *cli_guarantees(uint32_t guarantees);
/** Flushes standard output. Whether that, or writing before, has failed. */
bool cli_stdout_is_broken(void);
/**
 * Flushes standard output. Returns EXIT_FAILURE after printing why if that fails,
 * but for a pipe whose reader is gone.
 */
int cli_flush_stdout(void);
/** For cli_visible(): a longer text ends with "...". */
struct cli_text {
	char text[1024];
};
/**
 * A text of the compositor as a terminal may show it, see visible.h. Into the buffer.
 */
const char *cli_visible(struct cli_text *buffer, const char *text);
/** The four characters of a DRM_FORMAT_*, into a buffer of 5. */
const char *cli_fourcc(uint32_t fourcc, char *buffer);

#endif
