/* SPDX-License-Identifier: MIT */
/* Talks to the control socket of a compositor, which no Wayland client is told of. */
#include <errno.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli.h"
#include "control_path.h"
#include "visible.h"

/** No line of the compositor is as long. */
#define LINE_SIZE (64 * 1024)

struct sessions {
	struct cli cli;
	const char *stop; // the number of a session, NULL for none
	bool reload, watch;

	FILE *control;
	char line[LINE_SIZE];
	struct json_object *list; // what --json prints
};

/* The socket */

static int connect_socket(const struct sessions *sessions, const struct sockaddr_un *address) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval timeout = {
		.tv_sec = sessions->cli.timeout_ms / 1000,
		.tv_usec = sessions->cli.timeout_ms % 1000 * 1000 + 1, // none at all would be for ever
	};
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0 &&
			connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
		return fd;
	}
	int error = errno;
	if (fd >= 0) {
		close(fd);
	}
	errno = error;
	return -1;
}

static int connect_control(struct sessions *sessions) {
	const char *display = sessions->cli.socket;
	if (display == NULL) {
		display = getenv("WAYLAND_DISPLAY");
	}
	struct sockaddr_un address;
	if (!control_path_get(&address, display != NULL ? display : "wayland-0")) {
		return cli_fail(errno == ENOENT ? "XDG_RUNTIME_DIR is not set" :
			"the name of the socket is too long");
	}
	int fd = connect_socket(sessions, &address);
	if (fd < 0) {
		return cli_fail("there is no control socket at %s: %s; it is there for the user whose "
			"compositor runs with vitrine-run or is vitrine-compositor", address.sun_path,
			strerror(errno));
	}
	sessions->control = fdopen(fd, "r+");
	if (sessions->control == NULL) {
		close(fd);
		return cli_fail("out of memory");
	}
	return EXIT_SUCCESS;
}

/** Returns EXIT_SUCCESS, or EXIT_FAILURE after printing why not. */
static int ask(struct sessions *sessions, const char *request) {
	int fd = fileno(sessions->control);
	size_t len = strlen(request);
	if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) {
		return cli_fail("the compositor does not listen: %s", strerror(errno));
	}
	return EXIT_SUCCESS;
}

/** The next line, to be put. Returns NULL after printing why there is none. */
static struct json_object *read_line(struct sessions *sessions) {
	errno = 0;
	if (fgets(sessions->line, sizeof(sessions->line), sessions->control) == NULL) {
		cli_fail("the compositor %s", errno == EAGAIN ?
			"did not answer in time; wait longer with --timeout" : "closed the control socket");
		return NULL;
	}
	struct json_object *object = json_tokener_parse(sessions->line);
	if (!json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		cli_fail("the compositor answered with what is no object of JSON");
		return NULL;
	}
	return object;
}

/* What is printed */

/** "" if there is none. */
static const char *get_text(struct json_object *object, const char *key) {
	struct json_object *value = json_object_object_get(object, key);
	const char *text = json_object_get_string(value);
	return text != NULL ? text : "";
}

static void print_client(struct json_object *session) {
	struct cli_text text;
	printf("%s (pid %" PRId64, cli_visible(&text, get_text(session, "comm")),
		json_object_get_int64(json_object_object_get(session, "pid")));
	const char *executable = get_text(session, "executable");
	if (executable[0] != '\0') {
		printf(", %s", cli_visible(&text, executable));
	}
	if (json_object_get_boolean(json_object_object_get(session, "sandboxed"))) {
		printf(", app-id \"%s\"", cli_visible(&text, get_text(session, "app-id")));
		printf(" of \"%s\"", cli_visible(&text, get_text(session, "engine")));
	}
	putchar(')');
}

/** `event` is "" or what has happened. */
static void print_session(struct json_object *session, const char *event) {
	struct cli_text text;
	const char *guarantee = get_text(session, "guarantee");
	printf("%s%s%" PRId64 ": ", cli_visible(&text, event), event[0] != '\0' ? " " : "",
		json_object_get_int64(json_object_object_get(session, "id")));
	printf("%s, ", cli_visible(&text, get_text(session, "source")));
	if (get_text(session, "window")[0] != '\0') {
		printf("window \"%s\", ", cli_visible(&text, get_text(session, "window")));
	}
	if (guarantee[0] != '\0') {
		printf("%s in a ", cli_visible(&text, guarantee));
		printf("%s, ", cli_visible(&text, get_text(session, "storage")));
	}
	print_client(session);
	printf(", %" PRId64 " frames since %s\n",
		json_object_get_int64(json_object_object_get(session, "frames")),
		cli_visible(&text, get_text(session, "since")));
}

static void print_event(struct sessions *sessions, struct json_object *object) {
	if (sessions->cli.json) {
		visible_print_json(stdout, sessions->line);
	} else {
		print_session(json_object_object_get(object, "session"), get_text(object, "event"));
	}
}

/** A line of an answer. Returns false if it is the last one. `status` is set on an error. */
static bool handle_line(struct sessions *sessions, struct json_object *object, int *status) {
	if (json_object_object_get_ex(object, "error", NULL)) {
		*status = cli_fail("%s", get_text(object, "error"));
		return false;
	} else if (json_object_object_get_ex(object, "end", NULL)) {
		return false;
	} else if (json_object_object_get_ex(object, "event", NULL)) {
		print_event(sessions, object);
	} else if (sessions->watch && sessions->cli.json) {
		visible_print_json(stdout, sessions->line);
	} else if (sessions->cli.json) {
		json_object_array_add(sessions->list, json_object_get(object));
	} else {
		print_session(object, "");
	}
	return true;
}

/** Reads to the end of an answer. Returns the exit status. */
static int read_answer(struct sessions *sessions) {
	int status = EXIT_SUCCESS;
	bool more = true;
	while (more) {
		struct json_object *object = read_line(sessions);
		if (object == NULL) {
			return EXIT_FAILURE;
		}
		more = handle_line(sessions, object, &status);
		json_object_put(object);
	}
	return status;
}

/* What is asked */

static int list_sessions(struct sessions *sessions) {
	sessions->list = json_object_new_array();
	int status = ask(sessions, "{\"list\":true}\n");
	if (status == EXIT_SUCCESS) {
		status = read_answer(sessions);
	}
	if (status == EXIT_SUCCESS && sessions->cli.json && !sessions->watch) {
		struct json_object *object = json_object_new_object();
		json_object_object_add(object, "sessions", sessions->list);
		return cli_print_json(object);
	}
	json_object_put(sessions->list);
	return status != EXIT_SUCCESS ? status : cli_flush_stdout();
}

/** Those that are there, and all that happens from then on: nothing is missed in between. */
static int watch_sessions(struct sessions *sessions) {
	int status = ask(sessions, "{\"watch\":true}\n");
	if (status == EXIT_SUCCESS) {
		status = read_answer(sessions);
	}
	if (status == EXIT_SUCCESS) {
		status = list_sessions(sessions);
	}
	struct timeval forever = { 0 };
	setsockopt(fileno(sessions->control), SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	while (status == EXIT_SUCCESS && !cli_stdout_is_broken()) {
		struct json_object *object = read_line(sessions);
		if (object == NULL) {
			return EXIT_FAILURE;
		}
		handle_line(sessions, object, &status);
		json_object_put(object);
	}
	return status != EXIT_SUCCESS ? status : cli_flush_stdout();
}

static int stop_session(struct sessions *sessions) {
	char request[64];
	snprintf(request, sizeof(request), "{\"stop\":%s}\n", sessions->stop);
	int status = ask(sessions, request);
	return status == EXIT_SUCCESS ? read_answer(sessions) : status;
}

static int reload_policy(struct sessions *sessions) {
	int status = ask(sessions, "{\"reload\":true}\n");
	return status == EXIT_SUCCESS ? read_answer(sessions) : status;
}

/** A number that is put into a request as it is. */
static void check_number(const struct sessions *sessions, const char *text) {
	size_t len = strlen(text);
	if (len == 0 || len > 18 || strspn(text, "0123456789") != len || text[0] == '0') {
		exit(cli_fail_usage(&sessions->cli, "\"%s\" is no number of a session", text));
	}
}

enum {
	OPTION_STOP = CLI_NO_LETTER,
	OPTION_RELOAD,
	OPTION_WATCH,
};

static const struct cli_option options[] = {
	{ "stop", OPTION_STOP, "ID", "end this session, by the number that the list has" },
	{ "reload", OPTION_RELOAD, NULL, "have the compositor read its policy file again" },
	{ "watch", OPTION_WATCH, NULL, "go on to print sessions as they start and end" },
	{ 0 },
};

static void parse_options(struct sessions *sessions, int argc, char **argv) {
	int option;
	while ((option = cli_getopt(&sessions->cli, argc, argv)) != -1) {
		switch (option) {
		case OPTION_STOP:
			check_number(sessions, optarg);
			sessions->stop = optarg;
			break;
		case OPTION_RELOAD:
			sessions->reload = true;
			break;
		case OPTION_WATCH:
			sessions->watch = true;
			break;
		}
	}
	if (optind != argc) {
		exit(cli_fail_usage(&sessions->cli, "\"%s\" is too much", argv[optind]));
	}
	if ((sessions->stop != NULL) + sessions->reload + sessions->watch > 1) {
		exit(cli_fail_usage(&sessions->cli, "takes one of --stop, --reload and --watch"));
	}
}

static int sessions_run(int argc, char **argv) {
	static struct sessions sessions; // it is large
	cli_init(&sessions.cli, &command_sessions);
	parse_options(&sessions, argc, argv);
	int status = connect_control(&sessions);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	if (sessions.stop != NULL) {
		status = stop_session(&sessions);
	} else if (sessions.reload) {
		status = reload_policy(&sessions);
	} else if (sessions.watch) {
		status = watch_sessions(&sessions);
	} else {
		status = list_sessions(&sessions);
	}
	fclose(sessions.control);
	return status;
}

const struct command command_sessions = {
	.name = "sessions",
	.synopsis = "[--stop ID|--reload|--watch] [--json]",
	.summary = "List the sessions of your compositor: which program looks at what",
	.own = options,
	.options = CLI_TIMEOUT | CLI_JSON | CLI_SOCKET,
	.run = sessions_run,
};
