/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "visible.h"

volatile sig_atomic_t cli_interrupted;

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

/** What libwayland said last; empty if nothing. */
static char last_log[256];

void cli_keep_log(const char *format, va_list args) {
	vsnprintf(last_log, sizeof(last_log), format, args);
	last_log[strcspn(last_log, "\n")] = '\0';
}

/** Prints the message, what libwayland knows about it, and what to do. */
static int fail_with_hint(const char *message, int error) {
	bool logged = last_log[0] != '\0';
	int status = cli_fail("%s%s%s%s%s", message, logged ? " (" : "", last_log,
		logged ? ")" : "", get_hint(error));
	last_log[0] = '\0';
	return status;
}

int cli_fail_client(const struct cli *cli, int error) {
	return fail_with_hint(vitrine_client_get_error(cli->client), error);
}

int cli_connect(struct cli *cli) {
	char *message = NULL;
	int ret = vitrine_client_connect_within(cli->socket, cli->timeout_ms, &cli->client,
		&message);
	if (ret < 0) {
		fail_with_hint(message != NULL ? message : strerror(-ret), ret);
		free(message);
		return EXIT_FAILURE;
	}
	return 0;
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

int cli_dispatch_until(const struct cli *cli, double end) {
	// A signal between the check and poll() would be slept over: not for long
	double left = (end - cli_now()) * 1000;
	int ret = vitrine_client_dispatch(cli->client,
		left < 0 ? 0 : left > CLI_TICK_MS ? CLI_TICK_MS : (int)left + 1);
	return ret < 0 && ret != -EINTR ? cli_fail_client(cli, ret) : EXIT_SUCCESS;
}

struct vitrine_frame *cli_first_frame(const struct cli *cli, struct vitrine_session *session) {
	struct vitrine_frame *frame;
	int ret = cli_next_frame(session, cli->timeout_ms, &frame);
	if (ret > 0) {
		return frame;
	}
	if (ret == 0) {
		cli_fail("no frame came within %g s%s", cli->timeout_ms / 1000.0,
			!vitrine_session_is_off(session) ? "; wait longer with --timeout" :
			cli->window != NULL ? ": the window shows nothing" : ": the output is off");
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

double cli_get_end(const struct cli *cli) {
	return cli_now() + cli->timeout_ms / 1000.0;
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

const char *cli_quote(struct cli_text *buffer, const char *text) {
	return visible_text(buffer->text, sizeof(buffer->text), text, VISIBLE_QUOTED);
}

const char *cli_fourcc(uint32_t fourcc, char *buffer) {
	for (int i = 0; i < 4; i++) {
		char c = (char)(fourcc >> 8 * i);
		buffer[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	buffer[4] = '\0';
	return buffer;
}
