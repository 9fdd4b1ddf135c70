/* SPDX-License-Identifier: MIT */
#ifndef CLI_H
#define CLI_H

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <vitrine-client/client.h>

#define EXIT_USAGE 2
#define EXIT_DIFFERS 3
#define EXIT_NEVER_STILL 4
#define EXIT_NO_WINDOW 5
/** How often long waits look up: for signals, and to refresh what is shown. */
#define CLI_TICK_MS 500

/** Groups of the options that commands share. */
enum cli_group {
	CLI_SOCKET = 1 << 0, // --socket
	CLI_JSON = 1 << 1, // --json
	CLI_SESSION = 1 << 2, // --guarantee, --storage, --cursor
	CLI_TIMEOUT = 1 << 3, // --timeout
	CLI_SOURCE = 1 << 4, // --output, --window
	CLI_REGION = 1 << 5, // --region, --all, --scale
};

/** cli_option.id of options that are written in full alone. */
#define CLI_NO_LETTER 256
/** Of one command, with those that it shares. */
#define CLI_MAX_OPTIONS 40

/** getopt, --help and the completions of shells are made of these. */
struct cli_option {
	const char *name; // NULL ends a list
	int id; // what cli_getopt() returns: its letter, or a number from CLI_NO_LETTER on
	const char *argument; // what --help calls its value; NULL if it takes none
	const char *help; // lines, the last one without an end; NULL if it is accepted only
	unsigned group; // of those that are shared: a bit of enum cli_group, or 0 for all
	const char *values; // words, separated by spaces, that shells offer; NULL for none
};

struct command {
	const char *name;
	const char *synopsis; // after the name
	const char *summary; // one line
	const struct cli_option *own; // what no other command takes; NULL for none
	unsigned options; // what it shares: bitfield of enum cli_group
	bool takes_file; // which shells complete
	int (*run)(int argc, char **argv); // returns the exit status
};

extern const struct command command_probe, command_info, command_shot, command_record,
	command_watch, command_wait, command_audit, command_sessions;

/** A part of the layout, in logical pixels. */
struct cli_region {
	int64_t x, y, width, height;
};

/** What the shared options say, and the connection. */
struct cli {
	const struct command *command;
	const char *output; // NULL for the first one that is on
	const char *window; // NULL for an output
	bool all, has_region; // in place of one output or window
	struct cli_region region;
	double scale; // pixels of the picture for a logical one; 0 for those of the screen
	bool wait_for_window; // if there is none of the name yet
	int still_ms; // how long a picture has to stand still; 0 if it has not
	const char *socket; // NULL for $WAYLAND_DISPLAY
	uint32_t acceptable; // bitfield of enum vitrine_guarantee, 0 for all
	uint32_t storages; // bitfield of enum vitrine_storage, 0 for what the CPU reads
	bool implicit_release; // for commands that look at the newest frame alone
	bool cursor, json;
	int timeout_ms; // for the connection, and then for the first frame

	struct vitrine_client *client; // NULL if not connected
	struct vitrine_output *chosen; // what all sessions are of, or NULL
	bool has_noted; // that there are other windows of the name
};

/** What there is to look at. Exactly one of the last two is not NULL. */
struct cli_target {
	struct vitrine_source *source;
	struct vitrine_output *output;
	struct vitrine_toplevel *toplevel; // freed as soon as the window is closed
};

/** How many signals have asked to end. */
extern volatile sig_atomic_t cli_interrupted;

void cli_init(struct cli *cli, const struct command *command);
void cli_finish(struct cli *cli);

/**
 * As getopt_long() with the options of the command: those that are shared are handled,
 * and its own returned. May exit: for --help, --version and wrong usage.
 */
int cli_getopt(struct cli *cli, int argc, char **argv);
/** What the command takes, its own options first. Returns how many there are. */
size_t cli_list_options(const struct command *command,
	const struct cli_option *list[static CLI_MAX_OPTIONS]);
bool cli_option_has_letter(const struct cli_option *option);
/** How many of the words, which end with NULL, are the option that they begin with. */
int cli_count_option_words(char **words);
/** Writes a script for the shell to standard output. Returns an exit status. */
int cli_print_completion(const char *shell, const struct command *const *commands,
	size_t n_commands);
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

/** Keeps a line of libwayland's log, for the message of the next failure. */
void cli_keep_log(const char *format, va_list args);
/** Returns 0, or EXIT_FAILURE after printing why not. */
int cli_connect(struct cli *cli);
/**
 * What is named, or the output that was chosen, or the first one. Connects if necessary.
 * Returns 0, EXIT_FAILURE or EXIT_NO_WINDOW after printing why not.
 */
int cli_find_target(struct cli *cli, struct cli_target *target);
/** The name of the output, or the app-id of the window. May have any bytes in it. */
const char *cli_target_name(const struct cli_target *target);
/**
 * The first window that is named by --window, and how many there are. The client follows
 * windows. NULL if there is none.
 */
struct vitrine_toplevel *cli_match_window(const struct cli *cli, size_t *n_matches);
/** Prints which windows there are. Returns EXIT_NO_WINDOW. */
int cli_fail_window(const struct cli *cli);
/**
 * Fills in what the shared options say. `options->formats`, if there are any, are to be
 * freed. Returns false without memory.
 */
bool cli_get_session_options(const struct cli *cli, struct vitrine_session_options *options);
/** Returns 0, or EXIT_FAILURE after printing why not, with NULL for the session. */
int cli_start_session(struct cli *cli, struct vitrine_source *source,
	struct vitrine_session **session);
/**
 * The same for what is named, or else the first output that is on. As cli_find_target().
 * `target` may be NULL.
 */
int cli_create_session(struct cli *cli, struct vitrine_session **session,
	struct cli_target *target);
/** Returns 0, or EXIT_USAGE after printing that the command reads pixels by the CPU. */
int cli_check_cpu_reads(const struct cli *cli);
/**
 * As vitrine_session_next_frame(), but -EINTR says that it is time to end and
 * other signals are ignored. Waits for at most CLI_TICK_MS if timeout_ms is -1.
 */
int cli_next_frame(struct vitrine_session *session, int timeout_ms,
	struct vitrine_frame **frame);
/**
 * Handles events, and waits for them until then, as cli_now() has it, or for less. Returns 0,
 * or EXIT_FAILURE after printing why the connection has failed.
 */
int cli_dispatch_until(const struct cli *cli, double end);
/** Waits for the first frame. Returns NULL after printing why there is none. */
struct vitrine_frame *cli_first_frame(const struct cli *cli, struct vitrine_session *session);

/** Seconds on CLOCK_MONOTONIC. */
double cli_now(void);
double cli_seconds(const struct timespec *time);
/** When the time of --timeout will be over. */
double cli_get_end(const struct cli *cli);

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
/** The same for what is put between quotation marks. */
const char *cli_quote(struct cli_text *buffer, const char *text);
/** The four characters of a DRM_FORMAT_*, into a buffer of 5. */
const char *cli_fourcc(uint32_t fourcc, char *buffer);

#endif
