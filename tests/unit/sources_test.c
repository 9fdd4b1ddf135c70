/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vitrine-client/client.h>
#include <wayland-client-core.h>
#include <wayland-client-protocol.h>

#include "fake_compositor.h"
#include "harness.h"

/*
 * What the client library says of outputs and windows, and of the connection of a program
 * that has one already. The compositor is honest first, and lies then.
 */

#define WAIT_MS 5000

struct fixture {
	pid_t pid;
	struct wl_display *display; // the test's own, or NULL
	struct vitrine_client *client; // NULL if the test has destroyed it
	char heard[1024]; // what the listener was told
};

struct fixture_options {
	const struct fake_script *script;
	bool follows; // windows, before the listener is set
	bool has_display; // the client is made for one that is there
};

static void hear(void *data, const char *what, const char *name) {
	struct fixture *f = data;
	size_t len = strlen(f->heard);
	snprintf(f->heard + len, sizeof(f->heard) - len, "%s %s;", what, name);
}

static void hear_output_added(void *data, struct vitrine_output *output) {
	hear(data, "+", vitrine_output_get_name(output));
}

static void hear_output_changed(void *data, struct vitrine_output *output) {
	hear(data, "~", vitrine_output_get_name(output));
}

static void hear_output_removed(void *data, struct vitrine_output *output) {
	check(vitrine_output_is_gone(output));
	hear(data, "-", vitrine_output_get_name(output));
}

static void hear_toplevel_added(void *data, struct vitrine_toplevel *toplevel) {
	hear(data, "+", vitrine_toplevel_get_title(toplevel));
}

static void hear_toplevel_changed(void *data, struct vitrine_toplevel *toplevel) {
	hear(data, "~", vitrine_toplevel_get_title(toplevel));
}

static void hear_toplevel_removed(void *data, struct vitrine_toplevel *toplevel) {
	hear(data, "-", vitrine_toplevel_get_title(toplevel));
}

static const struct vitrine_client_listener listener = {
	.output_added = hear_output_added,
	.output_changed = hear_output_changed,
	.output_removed = hear_output_removed,
	.toplevel_added = hear_toplevel_added,
	.toplevel_changed = hear_toplevel_changed,
	.toplevel_removed = hear_toplevel_removed,
};

/** What libwayland complains of is an error of ours. */
static void fail_by_log(const char *format, va_list args) {
	char text[256];
	vsnprintf(text, sizeof(text), format, args);
	harness_fail(__FILE__, __LINE__, "libwayland: %s", text);
}

static void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	static const struct fake_script nothing;
	*f = (struct fixture){0};
	wl_log_set_handler_client(fail_by_log);
	int fd = fake_start(options->script != NULL ? options->script : &nothing, &f->pid);
	char *error = NULL;
	if (options->has_display) {
		f->display = wl_display_connect_to_fd(fd);
		check(f->display != NULL);
		check_int(vitrine_client_create_for_display(f->display, WAIT_MS, &f->client, &error),
			==, 0);
	} else {
		check_int(vitrine_client_connect_to_fd(fd, &f->client, &error), ==, 0);
	}
	check(error == NULL);
	if (options->follows) {
		check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, 0);
	}
	vitrine_client_set_listener(f->client, &listener, f);
}

static void fixture_tear_down(struct fixture *f) {
	vitrine_client_destroy(f->client);
	if (f->display != NULL) {
		wl_display_disconnect(f->display);
	}
	check(fake_wait(f->pid));
}

/** Has the compositor take a step, and waits until that was heard. */
static void expect(struct fixture *f, const char *heard) {
	f->heard[0] = '\0';
	fake_step(f->pid);
	while (strlen(f->heard) < strlen(heard)) {
		if (vitrine_client_dispatch(f->client, WAIT_MS) != 1) {
			harness_fail(__FILE__, __LINE__, "heard \"%s\", not \"%s\"", f->heard, heard);
		}
	}
	// Nothing more of what came with it
	vitrine_client_dispatch(f->client, 0);
	check_str(f->heard, heard);
}

static size_t count_toplevels(const struct fixture *f) {
	size_t len;
	vitrine_client_get_toplevels(f->client, &len);
	return len;
}

static struct vitrine_toplevel *get_toplevel(const struct fixture *f, size_t i) {
	size_t len;
	struct vitrine_toplevel *const *toplevels = vitrine_client_get_toplevels(f->client, &len);
	check_int(i, <, len);
	return toplevels[i];
}

static struct vitrine_output *get_output(const struct fixture *f, size_t i) {
	size_t len;
	struct vitrine_output *const *outputs = vitrine_client_get_outputs(f->client, &len);
	check_int(i, <, len);
	return outputs[i];
}

/* Windows */

#define WINDOW(id, app, name) { .identifier = id, .app_id = app, .title = name }
#define WINDOWS(...) .windows = (const struct fake_window[]){ __VA_ARGS__, { 0 } }
#define SAY_TITLE ext_foreign_toplevel_handle_v1_send_title
#define SAY_APP_ID ext_foreign_toplevel_handle_v1_send_app_id
#define SAY_IDENTIFIER ext_foreign_toplevel_handle_v1_send_identifier
#define SAY_DONE ext_foreign_toplevel_handle_v1_send_done
#define SAY_CLOSED ext_foreign_toplevel_handle_v1_send_closed
#define TEXT_OF_32 "0123456789 abcdef~0123456789 abc"

static const struct fake_window one = WINDOW("1", "org.app", "one");
static const struct fake_window two = WINDOW("2", "org.app", "two");
static const struct fake_window unsaid = { 0 }; // an open window of which nothing is said yet

TEST_WITH(fixture, windows_are_known_when_following_returns,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one"), WINDOW(TEXT_OF_32, NULL, NULL)))) {
	check_int(count_toplevels(f), ==, 0);
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, 0);
	check_str(f->heard, "+ one;+ ;");
	check_int(count_toplevels(f), ==, 2);
	check_str(vitrine_toplevel_get_identifier(get_toplevel(f, 0)), "1");
	check_str(vitrine_toplevel_get_app_id(get_toplevel(f, 0)), "org.app");
	check_str(vitrine_toplevel_get_title(get_toplevel(f, 0)), "one");
	check_str(vitrine_toplevel_get_identifier(get_toplevel(f, 1)), TEXT_OF_32);
	check_str(vitrine_toplevel_get_app_id(get_toplevel(f, 1)), "");
	check_str(vitrine_toplevel_get_title(get_toplevel(f, 1)), "");
	// The compositor would not have it bound again
	check_int(vitrine_client_follow_toplevels(f->client, 0), ==, 0);
	check_int(vitrine_client_follow_toplevels(f->client, -1), ==, 0);
	check_int(count_toplevels(f), ==, 2);
}

static void open_one(struct fake *fake) {
	fake_open_window(fake, &one);
}

static void open_two(struct fake *fake) {
	fake_open_window(fake, &two);
}

static void rename_first(struct fake *fake) {
	SAY_TITLE(fake_get_window(fake, 0), "renamed");
	SAY_APP_ID(fake_get_window(fake, 0), "org.other");
	SAY_DONE(fake_get_window(fake, 0));
}

static void close_first(struct fake *fake) {
	fake_close_window(fake, 0);
}

TEST_WITH(fixture, listener_hears_of_windows_in_order,
		SCRIPT(.steps = { open_one, open_two, rename_first, close_first }), .follows = true) {
	expect(f, "+ one;");
	expect(f, "+ two;");
	expect(f, "~ renamed;");
	check_str(vitrine_toplevel_get_app_id(get_toplevel(f, 0)), "org.other");
	check_str(vitrine_toplevel_get_identifier(get_toplevel(f, 0)), "1");
	expect(f, "- renamed;");
	check_int(count_toplevels(f), ==, 1);
	check_str(vitrine_toplevel_get_title(get_toplevel(f, 0)), "two");
}

TEST_WITH(fixture, windows_are_followed_without_a_listener,
		SCRIPT(.steps = { open_one, close_first }), .follows = true) {
	static const struct vitrine_client_listener deaf;
	vitrine_client_set_listener(f->client, NULL, NULL);
	fake_step(f->pid);
	while (count_toplevels(f) == 0) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	vitrine_client_set_listener(f->client, &deaf, NULL);
	fake_step(f->pid);
	while (count_toplevels(f) == 1) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
}

static void say_nothing_new(struct fake *fake) {
	SAY_TITLE(fake_get_window(fake, 0), "one");
	SAY_DONE(fake_get_window(fake, 0));
	SAY_DONE(fake_get_window(fake, 0));
	SAY_TITLE(fake_get_window(fake, 1), "pending"); // without done
	fake_open_window(fake, &one);
}

TEST_WITH(fixture, what_has_not_changed_is_no_change_and_what_is_not_done_does_not_hold,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one"), WINDOW("2", "org.app", "two")),
			.steps = { say_nothing_new }), .follows = true) {
	expect(f, "+ one;");
	check_str(vitrine_toplevel_get_title(get_toplevel(f, 1)), "two");
}

static void close_at_once(struct fake *fake) {
	fake_open_window(fake, &one);
	fake_close_window(fake, 0);
	// Closed before it was described
	fake_open_window(fake, &unsaid);
	fake_close_window(fake, 1);
	fake_open_window(fake, &two);
}

TEST_WITH(fixture, windows_may_close_at_once, SCRIPT(.steps = { close_at_once }),
		.follows = true) {
	expect(f, "+ one;- one;+ two;");
	check_int(count_toplevels(f), ==, 1);
}

static void close_twice(struct fake *fake) {
	struct wl_resource *handle = fake_get_window(fake, 0);
	SAY_CLOSED(handle);
	SAY_CLOSED(handle);
	SAY_TITLE(handle, "after the end");
	SAY_DONE(handle);
	fake_open_window(fake, &two);
}

TEST_WITH(fixture, nothing_comes_after_closed,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one")), .steps = { close_twice }),
		.follows = true) {
	expect(f, "- one;+ two;");
}

static void dispatch_inside(void *data, struct vitrine_toplevel *toplevel) {
	struct fixture *f = data;
	check_int(vitrine_client_dispatch(f->client, 0), >=, 0);
	hear(data, "-", vitrine_toplevel_get_title(toplevel));
}

/** "They are called by [...] all functions that wait or look for events", as listeners may. */
TEST_WITH(fixture, listener_may_look_for_events,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one")), .steps = { close_twice }),
		.follows = true) {
	struct vitrine_client_listener dispatching = listener;
	dispatching.toplevel_removed = dispatch_inside;
	vitrine_client_set_listener(f->client, &dispatching, f);
	expect(f, "+ two;- one;");
}

static void open_nameless(struct fake *fake, const char *identifier) {
	struct wl_resource *handle = fake_open_window(fake, &unsaid);
	SAY_TITLE(handle, "nameless");
	if (identifier != NULL) {
		SAY_IDENTIFIER(handle, identifier);
	}
	SAY_DONE(handle);
}

static void open_bad_ones(struct fake *fake) {
	open_nameless(fake, NULL);
	open_nameless(fake, "");
	open_nameless(fake, TEXT_OF_32 "3");
	open_nameless(fake, "\033[2J");
	open_nameless(fake, "\177");
	open_nameless(fake, "\303\244");
	fake_open_window(fake, &two);
}

static void close_bad_ones(struct fake *fake) {
	for (size_t i = 0; i < 6; i++) {
		fake_close_window(fake, i);
	}
	SAY_IDENTIFIER(fake_get_window(fake, 6), "3"); // it has one
	SAY_TITLE(fake_get_window(fake, 6), "three");
	SAY_DONE(fake_get_window(fake, 6));
}

TEST_WITH(fixture, window_without_a_valid_identifier_is_not_there,
		SCRIPT(.steps = { open_bad_ones, close_bad_ones }), .follows = true) {
	expect(f, "+ two;");
	check_int(count_toplevels(f), ==, 1);
	expect(f, "~ three;");
	check_str(vitrine_toplevel_get_identifier(get_toplevel(f, 0)), "2");
}

#define LONG_LEN 4000

static void open_long_one(struct fake *fake) {
	static char text[LONG_LEN + 1];
	memset(text, '\033', LONG_LEN);
	struct wl_resource *handle = fake_open_window(fake, &unsaid);
	SAY_IDENTIFIER(handle, "1");
	SAY_TITLE(handle, text);
	SAY_APP_ID(handle, text);
	SAY_DONE(handle);
}

TEST_WITH(fixture, text_of_others_may_be_long, SCRIPT(.steps = { open_long_one }),
		.follows = true) {
	vitrine_client_set_listener(f->client, NULL, NULL);
	fake_step(f->pid);
	while (count_toplevels(f) == 0) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	check_int(strlen(vitrine_toplevel_get_title(get_toplevel(f, 0))), ==, LONG_LEN);
	check_int(strlen(vitrine_toplevel_get_app_id(get_toplevel(f, 0))), ==, LONG_LEN);
}

/** A client that reads slowly is else given up. */
static void flush(struct fake *fake, size_t i) {
	struct wl_client *client = wl_resource_get_client(fake_get_window_list(fake));
	struct pollfd pollfd = { .fd = wl_client_get_fd(client), .events = POLLOUT };
	if (i % 10 == 0) {
		check_int(poll(&pollfd, 1, WAIT_MS), ==, 1);
		wl_client_flush(client);
	}
}

static void open_many(struct fake *fake) {
	for (size_t i = 0; i < 5000; i++) {
		// Half of them are never described, and cost all the same
		fake_open_window(fake, i % 2 == 0 ? &one : &unsaid);
		flush(fake, i);
	}
}

static void close_most(struct fake *fake) {
	for (size_t i = 0; i < 4000; i++) {
		fake_close_window(fake, i);
		flush(fake, i);
	}
	fake_open_window(fake, &two);
}

TEST_WITH(fixture, windows_are_bounded, SCRIPT(.steps = { open_many, close_most }),
		.follows = true) {
	vitrine_client_set_listener(f->client, NULL, NULL);
	fake_step(f->pid);
	while (count_toplevels(f) < 2048) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
	check_int(vitrine_client_dispatch(f->client, 100), >=, 0);
	check_int(count_toplevels(f), ==, 2048);
	fake_step(f->pid);
	while (count_toplevels(f) != 49 || strcmp(
			vitrine_toplevel_get_title(get_toplevel(f, 48)), "two") != 0) {
		check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
	}
}

static void go_on_after_finished(struct fake *fake) {
	ext_foreign_toplevel_list_v1_send_finished(fake_get_window_list(fake));
	ext_foreign_toplevel_list_v1_send_finished(fake_get_window_list(fake));
	rename_first(fake);
	fake_open_window(fake, &two);
}

TEST_WITH(fixture, windows_outlive_a_list_that_is_finished,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one")), .steps = { go_on_after_finished }),
		.follows = true) {
	expect(f, "~ renamed;+ two;");
}

TEST_WITH(fixture, windows_need_a_list, SCRIPT(.no_toplevel_list = true)) {
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, -EPROTONOSUPPORT);
	check(strstr(vitrine_client_get_error(f->client), "ext_foreign_toplevel_list_v1") != NULL);
	check_int(vitrine_client_dispatch(f->client, 0), ==, 0);
}

TEST_WITH(fixture, windows_need_a_manager_of_sources, SCRIPT(.no_toplevel_sources = true)) {
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, -EPROTONOSUPPORT);
	check(strstr(vitrine_client_get_error(f->client),
		"ext_foreign_toplevel_image_capture_source_manager_v1") != NULL);
}

/** "it may be called again after -ETIMEDOUT" */
TEST_WITH(fixture, following_waits_again_after_a_time_out,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one")))) {
	check_ok(kill(f->pid, SIGSTOP));
	check_int(vitrine_client_follow_toplevels(f->client, 0), ==, -ETIMEDOUT);
	check_int(vitrine_client_follow_toplevels(f->client, 20), ==, -ETIMEDOUT);
	check_int(count_toplevels(f), ==, 0);
	check_ok(kill(f->pid, SIGCONT));
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, 0);
	check_int(count_toplevels(f), ==, 1);
}

TEST_WITH(fixture, following_fails_once_the_compositor_is_gone) {
	kill(f->pid, SIGKILL);
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, -EPIPE);
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, -EPIPE);
	vitrine_client_destroy(f->client);
	f->client = NULL;
	check(!fake_wait(f->pid));
	// For the end of the fixture
	int fd = fake_start(&(struct fake_script){ .no_manager = true }, &f->pid);
	check_int(vitrine_client_connect_to_fd(fd, &f->client, NULL), ==, -EPROTONOSUPPORT);
}

/* Sessions on windows */

static void show_size(struct fake_session *session) {
	// Which window it is can be told by its size
	fake_say(session, SAY(EVENT(DEPTH, session->window != NULL ? session->width : 1),
		ANNOUNCE(0), FRAME(0)));
}

#define SIZED_WINDOWS WINDOWS({ "1", "org.app", "one", .width = 11 }, \
	{ "2", "org.app", "two", .width = 22 })

static void expect_frame(struct vitrine_session *session) {
	struct vitrine_frame *frame;
	check_int(vitrine_session_next_frame(session, WAIT_MS, &frame), ==, 1);
	vitrine_frame_release(frame);
}

TEST_WITH(fixture, session_looks_at_its_window,
		SCRIPT(SIZED_WINDOWS, .start = show_size, .steps = { close_first }), .follows = true) {
	struct vitrine_session *first, *second, *output;
	struct vitrine_frame *frame;
	check_int(vitrine_session_create(vitrine_toplevel_get_source(get_toplevel(f, 0)), NULL,
		&first), ==, 0);
	check_int(vitrine_session_create(vitrine_toplevel_get_source(get_toplevel(f, 1)), NULL,
		&second), ==, 0);
	check_int(vitrine_session_create(vitrine_output_get_source(get_output(f, 0)), NULL,
		&output), ==, 0);
	expect_frame(first);
	expect_frame(second);
	expect_frame(output);
	check_int(vitrine_session_get_depth(first), ==, 11);
	check_int(vitrine_session_get_depth(second), ==, 22);
	check_int(vitrine_session_get_depth(output), ==, 1);

	expect(f, "- one;");
	check_int(vitrine_session_next_frame(first, WAIT_MS, &frame), ==, -ENODEV);
	check(strstr(vitrine_client_get_error(f->client),
		"the window does not exist any more") != NULL);
	// The others have not ended
	check_int(vitrine_session_next_frame(second, 0, &frame), ==, 0);
	check_int(vitrine_session_next_frame(output, 0, &frame), ==, 0);
}

static void try_to_look(void *data, struct vitrine_toplevel *toplevel) {
	struct fixture *f = data;
	struct vitrine_session *session;
	check_int(vitrine_session_create(vitrine_toplevel_get_source(toplevel), NULL, &session),
		==, -ENODEV);
	check(session == NULL);
	check(strstr(vitrine_client_get_error(f->client),
		"the window does not exist any more") != NULL);
	hear(data, "-", vitrine_toplevel_get_title(toplevel));
}

TEST_WITH(fixture, window_that_is_gone_is_refused,
		SCRIPT(SIZED_WINDOWS, .steps = { close_first }), .follows = true) {
	struct vitrine_client_listener looking = listener;
	looking.toplevel_removed = try_to_look;
	vitrine_client_set_listener(f->client, &looking, f);
	expect(f, "- one;");
}

static struct vitrine_session *created;

static void look_at_once(void *data, struct vitrine_toplevel *toplevel) {
	check_int(vitrine_session_create(vitrine_toplevel_get_source(toplevel), NULL, &created),
		==, 0);
	hear(data, "+", vitrine_toplevel_get_title(toplevel));
}

/** "They may create sessions" */
TEST_WITH(fixture, window_may_be_looked_at_from_the_moment_that_it_is_there,
		SCRIPT(.start = show_size, .steps = { open_one }), .follows = true) {
	struct vitrine_client_listener looking = listener;
	looking.toplevel_added = look_at_once;
	vitrine_client_set_listener(f->client, &looking, f);
	expect(f, "+ one;");
	expect_frame(created);
}

TEST_WITH(fixture, session_ends_whose_window_closes_meanwhile,
		SCRIPT(SIZED_WINDOWS, .start = show_size, .steps = { close_first }), .follows = true) {
	fake_step(f->pid);
	struct pollfd pollfd = { .fd = vitrine_client_get_fd(f->client), .events = POLLIN };
	check_int(poll(&pollfd, 1, WAIT_MS), ==, 1);
	// It is closed, which the client has not read
	struct vitrine_session *session;
	struct vitrine_frame *frame;
	check_int(vitrine_session_create(vitrine_toplevel_get_source(get_toplevel(f, 0)), NULL,
		&session), ==, 0);
	check_int(vitrine_session_next_frame(session, WAIT_MS, &frame), ==, -ENODEV);
	check_int(count_toplevels(f), ==, 1);
}

/* Outputs */

#define OUTPUTS(...) .outputs = (const struct fake_output[]){ __VA_ARGS__, { 0 } }

static const struct fake_output left = { .name = "LEFT", .width = 1280, .height = 720 };
static const struct fake_output right = {
	.name = "RIGHT", .width = 800, .height = 600, .x = 1280, .y = 30,
};
static const struct fake_output right_changed = {
	.name = "RIGHT", .description = "larger", .width = 1024, .height = 768, .x = 1280, .y = 30,
};

static void add_left(struct fake *fake) {
	fake_add_output(fake, &left);
}

static void add_right(struct fake *fake) {
	fake_add_output(fake, &right);
}

static void change_right(struct fake *fake) {
	fake_change_output(fake, 1, &right_changed);
}

static void say_right_again(struct fake *fake) {
	fake_change_output(fake, 1, &right_changed);
	fake_add_output(fake, &left);
}

static void remove_right(struct fake *fake) {
	fake_remove_output(fake, 1);
}

TEST_WITH(fixture, listener_hears_of_outputs_in_order,
		SCRIPT(OUTPUTS({ .name = "A" }),
			.steps = { add_right, change_right, say_right_again, remove_right, add_right })) {
	expect(f, "+ RIGHT;");
	struct vitrine_output *output = get_output(f, 1);
	expect(f, "~ RIGHT;");
	check_str(vitrine_output_get_description(output), "larger");
	expect(f, "+ LEFT;"); // and nothing of what is as it was
	expect(f, "- RIGHT;");
	check(vitrine_output_is_gone(output));
	check(vitrine_client_find_output(f->client, "RIGHT") == NULL);
	struct vitrine_session *session;
	check_int(vitrine_session_create(vitrine_output_get_source(output), NULL, &session), ==,
		-ENODEV);
	// One that comes back is another one
	expect(f, "+ RIGHT;");
	check(get_output(f, 1) == output && vitrine_output_is_gone(output));
	check(vitrine_client_find_output(f->client, "RIGHT") == get_output(f, 3));
	check_int(vitrine_session_create(vitrine_output_get_source(get_output(f, 3)), NULL, &session),
		==, 0);
}

static void add_and_remove(struct fake *fake) {
	fake_add_output(fake, &right);
	fake_remove_output(fake, 1);
	fake_add_output(fake, &left);
}

TEST_WITH(fixture, output_that_is_gone_before_it_is_described_is_never_there,
		SCRIPT(OUTPUTS({ .name = "A" }), .steps = { add_and_remove, add_left })) {
	expect(f, "+ LEFT;");
	check_str(vitrine_output_get_name(get_output(f, 1)), "LEFT");
	check(!vitrine_output_is_gone(get_output(f, 1)));
	expect(f, "+ LEFT;");
}

/** What the client asks of each is more than a compositor keeps for it. */
#define MANY 150

static void add_many(struct fake *fake) {
	for (size_t i = 0; i < MANY; i++) {
		fake_add_output(fake, &right);
	}
}

TEST_WITH(fixture, outputs_are_bounded, SCRIPT(.steps = { add_many, add_many,
		add_many, add_many, add_many, add_many, add_many })) {
	vitrine_client_set_listener(f->client, NULL, NULL);
	size_t len = 1;
	for (size_t i = 1; i <= 7; i++) {
		fake_step(f->pid);
		while (len < 1 + i * MANY && len < 1024) {
			check_int(vitrine_client_dispatch(f->client, WAIT_MS), ==, 1);
			vitrine_client_get_outputs(f->client, &len);
		}
	}
	// The answer to a request comes after what else there is to say
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, 0);
	vitrine_client_get_outputs(f->client, &len);
	check_int(len, ==, 1024);
}

static void check_place(const struct fixture *f, size_t i, int32_t x, int32_t y, int32_t width,
		int32_t height, double scale) {
	struct vitrine_geometry geometry;
	check(vitrine_output_get_geometry(get_output(f, i), &geometry));
	check_int(geometry.x, ==, x);
	check_int(geometry.y, ==, y);
	check_int(geometry.width, ==, width);
	check_int(geometry.height, ==, height);
	check(geometry.scale > scale - 0.0001 && geometry.scale < scale + 0.0001);
}

/** With a change of the mode, wlroots says again that each wl_output is at 0, 0. */
TEST_WITH(fixture, place_of_an_output_is_that_of_xdg_output,
		SCRIPT(OUTPUTS({ .name = "A" }, { .name = "RIGHT", .width = 800, .height = 600,
			.x = 1280, .y = 30 }), .xdg_output_version = 3, .steps = { change_right })) {
	check_place(f, 0, 0, 0, FAKE_WIDTH, FAKE_HEIGHT, 1);
	check_place(f, 1, 1280, 30, 800, 600, 1);
	expect(f, "~ RIGHT;");
	check_place(f, 1, 1280, 30, 800, 600, 1024.0 / 800);
}

TEST_WITH(fixture, place_of_an_output_is_known_without_xdg_output,
		SCRIPT(OUTPUTS({ .name = "A" }, { .name = "RIGHT", .width = 800, .height = 600,
			.x = 1280, .y = 30, .scale = 2 }), .steps = { change_right, remove_right })) {
	check_place(f, 1, 1280, 30, 400, 300, 2);
	expect(f, "~ RIGHT;");
	check_place(f, 1, 1280, 30, 1024, 768, 1);
	expect(f, "- RIGHT;");
	struct vitrine_geometry geometry;
	check(!vitrine_output_get_geometry(get_output(f, 1), &geometry));
}

/** In every version of xdg-output, one that appears, and what changes of it. */
TEST_PARAMS(fixture, versions) = {
	{ "1", { SCRIPT(OUTPUTS({ .name = "A" }), .xdg_output_version = 1,
		.steps = { add_right, remove_right }) } },
	{ "2", { SCRIPT(OUTPUTS({ .name = "A" }), .xdg_output_version = 2,
		.steps = { add_right, remove_right }) } },
	{ "3", { SCRIPT(OUTPUTS({ .name = "A" }), .xdg_output_version = 3,
		.steps = { add_right, remove_right }) } },
};

TEST_WITH_EACH(fixture, versions, place_of_an_output_that_appears_follows) {
	struct vitrine_geometry geometry;
	check_place(f, 0, 0, 0, FAKE_WIDTH, FAKE_HEIGHT, 1);
	expect(f, "+ RIGHT;~ RIGHT;");
	check_place(f, 1, 1280, 30, 800, 600, 1);
	expect(f, "- RIGHT;");
	check(!vitrine_output_get_geometry(get_output(f, 1), &geometry));
}

TEST_PARAMS(fixture, outputs, int32_t width, height; double scale) = {
	{ "fractional", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720, .scale = 2,
		.logical_width = 853, .logical_height = 480 }), .xdg_output_version = 3) },
		853, 480, 1.5006 },
	{ "fractional_of_the_next_integer", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280,
		.height = 720, .scale = 2 })) }, 640, 360, 2 },
	{ "90", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720, .transform = 1 })) },
		720, 1280, 1 },
	{ "180", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720, .transform = 2 })) },
		1280, 720, 1 },
	{ "270", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720, .transform = 3,
		.logical_width = 576, .logical_height = 1024 }), .xdg_output_version = 3) },
		576, 1024, 1.25 },
	{ "flipped", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720,
		.transform = 4 })) }, 1280, 720, 1 },
	{ "flipped_90", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720,
		.transform = 5, .scale = 2 })) }, 360, 640, 2 },
	{ "unknown_transform", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720,
		.transform = 9 })) }, 1280, 720, 1 },
	{ "negative_transform", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720,
		.transform = INT_MIN })) }, 1280, 720, 1 },
	{ "version_1", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720 }),
		.output_version = 1) }, 1280, 720, 1 },
	{ "version_3", { SCRIPT(OUTPUTS({ .name = "A", .width = 1280, .height = 720, .scale = 2 }),
		.output_version = 3, .xdg_output_version = 2) }, 640, 360, 2 },
};

TEST_WITH_EACH(fixture, outputs, output_has_its_size_in_the_layout) {
	check_place(f, 0, 0, 0, param->width, param->height, param->scale);
}

TEST_PARAMS(fixture, lies) = {
	{ "scale_of_minus_one", { SCRIPT(OUTPUTS({ .name = "A", .scale = -1 })) } },
	{ "least_scale", { SCRIPT(OUTPUTS({ .name = "A", .scale = INT_MIN })) } },
	{ "scale_beyond_the_size", { SCRIPT(OUTPUTS({ .name = "A", .scale = INT_MAX })) } },
	{ "negative_width", { SCRIPT(OUTPUTS({ .name = "A", .width = -1 })) } },
	{ "least_height", { SCRIPT(OUTPUTS({ .name = "A", .height = INT_MIN })) } },
	{ "negative_mode_with_xdg_output", { SCRIPT(OUTPUTS({ .name = "A", .width = -1,
		.logical_width = 1, .logical_height = 1 }), .xdg_output_version = 3) } },
	{ "negative_logical_width", { SCRIPT(OUTPUTS({ .name = "A", .logical_width = -1 }),
		.xdg_output_version = 3) } },
	{ "least_logical_height", { SCRIPT(OUTPUTS({ .name = "A", .logical_height = INT_MIN }),
		.xdg_output_version = 3) } },
	{ "largest_logical_width", { SCRIPT(OUTPUTS({ .name = "A", .logical_width = INT_MAX }),
		.xdg_output_version = 3) } },
	{ "largest_width", { SCRIPT(OUTPUTS({ .name = "A", .width = INT_MAX })) } },
	{ "largest_place", { SCRIPT(OUTPUTS({ .name = "A", .x = INT_MAX })) } },
	{ "least_place", { SCRIPT(OUTPUTS({ .name = "A", .y = INT_MIN }),
		.xdg_output_version = 3) } },
};

TEST_WITH_EACH(fixture, lies, place_that_cannot_be_is_none) {
	struct vitrine_geometry geometry;
	check(!vitrine_output_get_geometry(get_output(f, 0), &geometry));
	int32_t width, height, refresh;
	vitrine_output_get_mode(get_output(f, 0), &width, &height, &refresh);
	check((width > 0) == (height > 0) && width >= 0);
	// It can be looked at all the same
	struct vitrine_session *session;
	check_int(vitrine_session_create(vitrine_output_get_source(get_output(f, 0)), NULL, &session),
		==, 0);
}

/* A connection that the program has */

static void count_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	(*(int *)data)++;
}

static void ignore_global(void *data, struct wl_registry *registry, uint32_t name) {
}

/** The test fails unless the program can use its display. */
static void use_display(struct wl_display *display) {
	static const struct wl_registry_listener registry_listener = { count_global, ignore_global };
	int n_globals = 0;
	struct wl_registry *registry = wl_display_get_registry(display);
	wl_registry_add_listener(registry, &registry_listener, &n_globals);
	check_int(wl_display_roundtrip(display), >=, 0);
	wl_registry_destroy(registry);
	check_int(n_globals, >=, 4);
	check_int(wl_display_get_error(display), ==, 0);
}

TEST_WITH(fixture, display_of_a_program_has_views_too, .has_display = true,
		.script = &fake_animation) {
	struct vitrine_session *session;
	check_int(vitrine_session_create(vitrine_output_get_source(get_output(f, 0)), NULL, &session),
		==, 0);
	for (int i = 0; i < 5; i++) {
		expect_frame(session);
		use_display(f->display);
	}
	check_int(vitrine_client_get_fd(f->client), ==, wl_display_get_fd(f->display));
	// What the program has read waits for the client
	struct vitrine_session_stats before, after;
	vitrine_session_get_stats(session, &before);
	do {
		use_display(f->display);
		vitrine_session_get_stats(session, &after);
		check_int(before.frames, ==, after.frames);
	} while (vitrine_client_dispatch(f->client, 0) == 0);
	vitrine_session_get_stats(session, &after);
	check_int(after.frames, >, before.frames);
}

TEST_WITH(fixture, display_stays_when_the_client_goes, .has_display = true, .follows = true,
		SCRIPT(WINDOWS(WINDOW("1", "org.app", "one")), .start = show_size,
			.xdg_output_version = 3, .steps = { open_two, add_right })) {
	int n_fds = harness_count_fds();
	for (int i = 0; i < 3; i++) {
		struct vitrine_session *session;
		check_int(vitrine_session_create(vitrine_toplevel_get_source(get_toplevel(f, 0)), NULL,
			&session), ==, 0);
		if (i == 1) {
			expect_frame(session);
		}
	}
	fake_step(f->pid);
	fake_step(f->pid);
	// The program reads what is for the client, which never looks at it
	use_display(f->display);
	vitrine_client_destroy(f->client);
	f->client = NULL;
	check_str(f->heard, "");
	use_display(f->display);
	check_int(harness_count_fds(), ==, n_fds);
	// And has another one
	check_int(vitrine_client_create_for_display(f->display, -1, &f->client, NULL), ==, 0);
	check_int(vitrine_client_follow_toplevels(f->client, WAIT_MS), ==, 0);
	check_int(count_toplevels(f), ==, 2);
}

TEST(display_stays_when_there_is_no_client_for_it) {
	pid_t pid;
	int fd = fake_start(&(struct fake_script){ .no_manager = true }, &pid);
	struct wl_display *display = wl_display_connect_to_fd(fd);
	struct vitrine_client *client;
	char *error;
	check_int(vitrine_client_create_for_display(display, WAIT_MS, &client, &error), ==,
		-EPROTONOSUPPORT);
	check(client == NULL && strstr(error, "xx_dmabuf_view_manager_v1") != NULL);
	free(error);
	check_int(vitrine_client_create_for_display(display, WAIT_MS, &client, NULL), ==,
		-EPROTONOSUPPORT);
	use_display(display);
	check_ok(kill(pid, SIGSTOP));
	check_int(vitrine_client_create_for_display(display, 20, &client, &error), ==, -ETIMEDOUT);
	free(error);
	check_ok(kill(pid, SIGCONT));
	use_display(display);
	wl_display_disconnect(display);
	check(fake_wait(pid));
}
