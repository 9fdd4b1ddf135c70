/* SPDX-License-Identifier: MIT */
/* Policy files: what is wrong with them is said, with its line; what is right is obeyed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "harness.h"
#include "rules.h"

#define SNAPSHOT VITRINE_GUARANTEE_SNAPSHOT
#define SEALED VITRINE_GUARANTEE_SEALED
#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY
#define ALL_STORAGES VITRINE_STORAGE_ALL

/* Allocations of ours can be made to fail; json-c has its own */

static int fail_at_call = -1; // counts down

static bool call_fails(void) {
	return fail_at_call >= 0 && fail_at_call-- == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
char *__real_strdup(const char *text);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_calloc(size_t n, size_t size) {
	return call_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size) {
	return call_fails() ? NULL : __real_malloc(size);
}

char *__wrap_strdup(const char *text) {
	return call_fails() ? NULL : __real_strdup(text);
}

static struct rules *parse(const char *text, struct rules_error *error) {
	memset(error, 'x', sizeof(*error));
	error->text[0] = '\0';
	struct rules *rules = rules_parse("rules.json", text, strlen(text), error);
	check((rules == NULL) == (error->text[0] != '\0'));
	return rules;
}

static struct rules *parse_good(const char *text) {
	struct rules_error error;
	struct rules *rules = parse(text, &error);
	check_str(error.text, "");
	return rules;
}

/* What is wrong */

static const struct {
	const char *name, *text, *error;
} faults[] = {
	{ "nothing", "", "rules.json:1: the text ends too early: is a bracket not closed?" },
	{ "comment_alone", "// nothing\n",
		"rules.json:2: the text ends too early: is a bracket not closed?" },
	{ "open_object", "{\n\n", "rules.json:3: the text ends too early: is a bracket not closed?" },
	{ "open_comment", "{\n\n  /* to the end \n\n }",
		"rules.json:3: the comment does not end: write */ after it" },
	{ "list", "[]", "rules.json:1: the policy is a list: it must be an object" },
	{ "number", " \n 7", "rules.json:2: the policy is a number: it must be an object" },
	{ "null", "null", "rules.json:1: null is no value here" },
	{ "says_nothing", "{}",
		"rules.json:1: neither \"rules\" nor \"default\": the file says nothing" },
	{ "trailing", "{\"rules\": []}\n\n}", "rules.json:3: unexpected character" },
	{ "trailing_comma", "{\"rules\": [\n],\n}", "rules.json:3: unexpected character" },
	{ "single_quotes", "{\n'rules': []}",
		"rules.json:2: 'rules' is no key: write it in double quotes" },
	{ "no_colon", "{\"rules\"\n []}", "rules.json:2: object property name separator ':' expected" },
	{ "no_utf8", "{\"rules\": [],\n\"\xff\": 1}", "rules.json:2: invalid utf-8 string" },
	{ "too_deep", "{\"rules\": [\n[[[[[[[[]]]]]]]]]}", "rules.json:2: nesting too deep" },
	{ "unknown_key", "{\"rules\": [], // and\n\"defualt\": {}}",
		"rules.json:2: unknown key \"defualt\" (known: rules, default)" },
	{ "unknown_in_rule", "{\"rules\": [{\n\n\"permit\": true}]}",
		"rules.json:3: unknown key \"permit\" (known: match, allow, min-guarantee, deny, storages)" },
	{ "unknown_in_match", "{\"rules\": [{\"match\": {\n/* \n */\"exectuable\": \"/x\"}, \"deny\": true}]}",
		"rules.json:3: unknown key \"exectuable\" (known: executable, uid, engine, app-id, source)" },
	{ "match_in_default", "{\"default\": {\"match\": {}, \"deny\": true}}",
		"rules.json:1: unknown key \"match\" (known: allow, min-guarantee, deny, storages)" },
	{ "terminal_in_key", "{\"]0;\x7f\xc2\x9b\xe2\x80\xae\": 1}",
		"rules.json:1: unknown key \"]0;\\x7f\\xc2\\x9b\\xe2\\x80\\xae\" (known: rules, default)" },
	{ "control_in_text", "{\"\x1b]0;\": 1}", "rules.json:1: invalid string sequence" },
	{ "long_key", "{\"0123456789012345678901234567890123456789012345678901234567890123456789\": 1}",
		"rules.json:1: unknown key \"01234567890123456789012345678901234567890123456789012345678901234"
		"...\" (known: rules, default)" },
	{ "escaped_key", "{\n\"rul\\u0065s\": []}",
		"rules.json:2: unknown key \"rul\\u0065s\": write keys without a backslash" },
	{ "twice", "{\"rules\": [],\n\n\"default\": {\"deny\": true},\n\"rules\": [] }",
		"rules.json:4: the key \"rules\" is there twice: leave one out" },
	{ "twice_inside", "{\"rules\": [{\"match\": {\"uid\": [[1]],\n\"uid\": 2}, \"deny\": true}]}",
		"rules.json:2: the key \"uid\" is there twice: leave one out" },
	{ "null_inside", "{\"rules\": [{\"match\":\n null, \"deny\": true}]}",
		"rules.json:2: null is no value here: leave the key out" },
	{ "nan", "{\"rules\": [{\"match\": {\"uid\":\n NaN}, \"deny\": true}]}",
		"rules.json:2: NaN is no value here: leave the key out" },
	{ "infinity", "{\"rules\": [{\"match\": {\"uid\": Infinity}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is a number: it must be a whole number" },
	{ "rules_object", "{\n\"rules\": {}}", "rules.json:2: \"rules\" is an object: it must be a list" },
	{ "rule_string", "{\"rules\": [\n\"deny\"]}",
		"rules.json:2: \"the rule\" is a string: it must be an object" },
	{ "match_list", "{\"rules\": [{\"match\": []}]}",
		"rules.json:1: \"match\" is a list: it must be an object" },
	{ "no_verdict", "{\"rules\": [\n{\"match\": {}},\n{\"deny\": true}]}",
		"rules.json:2: the rule has none of \"allow\", \"min-guarantee\" and \"deny\": it must have one" },
	{ "two_verdicts", "{\"default\": {\"deny\": true, \"allow\": [\"sealed\"]}}",
		"rules.json:1: the default has several of \"allow\", \"min-guarantee\" and \"deny\": it must "
		"have one" },
	{ "deny_storages", "{\"default\": {\"deny\": true, \"storages\": [\"memfd\"]}}",
		"rules.json:1: the default has \"deny\" and \"storages\": leave one out" },
	{ "deny_false", "{\"default\": {\"deny\": false}}",
		"rules.json:1: \"deny\" is false: it must be true, or left out" },
	{ "deny_string", "{\"default\": {\"deny\": \"true\"}}",
		"rules.json:1: \"deny\" is a string: it must be true" },
	{ "allow_empty", "{\"default\": {\"allow\":\n []}}",
		"rules.json:2: \"allow\" is empty: it must have one of fd_read_only, guarded, sealed, "
		"snapshot; use \"deny\" to give nothing" },
	{ "allow_string", "{\"default\": {\"allow\": \"sealed\"}}",
		"rules.json:1: \"allow\" is a string: it must be a list" },
	{ "allow_unknown", "{\"default\": {\"allow\": [\"sealed\",\n\"saeled\"]}}",
		"rules.json:2: \"allow\" has saeled, which is unknown (known: fd_read_only, guarded, sealed, "
		"snapshot)" },
	{ "allow_number", "{\"default\": {\"allow\": [\"sealed\", 2]}}",
		"rules.json:1: \"allow\" has a number, which is unknown (known: fd_read_only, guarded, "
		"sealed, snapshot)" },
	{ "allow_nul", "{\"default\": {\"allow\": [\"sealed\\u0000\"]}}",
		"rules.json:1: \"allow\" has a string, which is unknown (known: fd_read_only, guarded, "
		"sealed, snapshot)" },
	{ "min_unknown", "{\"default\": {\"min-guarantee\": \"strong\"}}",
		"rules.json:1: \"min-guarantee\" is \"strong\", which is unknown (known: fd_read_only, "
		"guarded, sealed, snapshot)" },
	{ "min_list", "{\"default\": {\"min-guarantee\": [\"sealed\"]}}",
		"rules.json:1: \"min-guarantee\" is a list: it must be one of fd_read_only, guarded, sealed, "
		"snapshot" },
	{ "storage_unknown", "{\"default\": {\"allow\": [\"sealed\"], \"storages\": [\"shm\"]}}",
		"rules.json:1: \"storages\" has shm, which is unknown (known: memfd, mapped-dmabuf, dmabuf)" },
	{ "uid_negative", "{\"rules\": [{\"match\": {\"uid\": -1}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is no user: it must be from 0 to 4294967294" },
	{ "uid_nobody", "{\"rules\": [{\"match\": {\"uid\": 4294967295}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is no user: it must be from 0 to 4294967294" },
	{ "uid_huge", "{\"rules\": [{\"match\": {\"uid\": 99999999999}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is no user: it must be from 0 to 4294967294" },
	{ "uid_string", "{\"rules\": [{\"match\": {\"uid\": \"1000\"}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is a string: it must be a whole number" },
	{ "uid_fraction", "{\"rules\": [{\"match\": {\"uid\": 1000.0}, \"deny\": true}]}",
		"rules.json:1: \"uid\" is a number: it must be a whole number" },
	{ "executable_relative", "{\"rules\": [{\"match\": {\"executable\": \"obs\"}, \"deny\": true}]}",
		"rules.json:1: \"executable\" is no absolute path: it must begin with a slash" },
	{ "pattern_empty", "{\"rules\": [{\"match\": {\"app-id\": \"\"}, \"deny\": true}]}",
		"rules.json:1: \"app-id\" is empty or has a NUL: leave it out to match any" },
	{ "pattern_nul", "{\"rules\": [{\"match\": {\"app-id\": \"a\\u0000b\"}, \"deny\": true}]}",
		"rules.json:1: \"app-id\" is empty or has a NUL: leave it out to match any" },
};

TEST_EACH(faults, fault_is_told_with_its_line) {
	struct rules_error error;
	check(parse(param->text, &error) == NULL);
	check_str(error.text, param->error);
}

TEST(text_with_a_nul_is_refused) {
	static const char text[] = "{\"rules\": []}\0 {";
	struct rules_error error;
	check(rules_parse("rules.json", text, sizeof(text), &error) == NULL);
	check_str(error.text, "rules.json: it has a NUL in it: is it a text?");
}

TEST(long_name_leaves_the_error_whole) {
	char name[1024];
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	struct rules_error error;
	check(rules_parse(name, "{", 1, &error) == NULL);
	check_int(strlen(error.text), ==, sizeof(error.text) - 1);
}

TEST(keys_beyond_the_cap_are_refused) {
	char text[2048] = "{";
	for (int i = 0; i < 40; i++) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s\"k%d\": 1", i > 0 ? ",\n" : "", i);
	}
	strcat(text, "}");
	struct rules_error error;
	check(parse(text, &error) == NULL);
	check_str(error.text, "rules.json:33: too many keys in one object, at \"k32\"");
}

/* What is right */

static const char policy[] =
	"// Who may look\n"
	"{\n"
	"  \"rules\": [\n"
	"    { \"match\": { \"source\": \"HEADLESS-9\" }, \"deny\": true },\n"
	"    /* OBS, \"wherever\" // it is */\n"
	"    { \"match\": { \"executable\": \"/usr/*/obs\", \"uid\": 1000 },\n"
	"      \"allow\": [\"fd_read_only\", \"sealed\"], \"storages\": [\"memfd\", \"dmabuf\"] },\n"
	"    { \"match\": { \"engine\": \"org.flatpak\", \"app-id\": \"com.example.*\" },\n"
	"      \"min-guarantee\": \"sealed\" },\n"
	"    { \"match\": { \"engine\": \"org.evil\" }, \"deny\": true },\n"
	"    { \"match\": { \"source\": \"window:org.*\" }, \"allow\": [\"snapshot\"] },\n"
	"    { \"match\": { \"source\": \"*://not a comment\" }, \"allow\": [\"fd_read_only\"] },\n"
	"    { \"match\": { \"executable\": \"/*\", \"uid\": 7 }, \"allow\": [\"guarded\"] },\n"
	"    { \"match\": { \"uid\": 66 }, \"deny\": true }\n"
	"  ],\n"
	"  \"default\": { \"min-guarantee\": \"guarded\" }\n"
	"}\n";

static const struct {
	const char *name;
	struct rules_request request;
	uint32_t guarantees, storages;
} decisions[] = {
	{ "default", { .executable = "/usr/bin/x", .uid = 1000, .source = "HEADLESS-1" },
		GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "first_rule_counts", { .executable = "/usr/bin/obs", .uid = 1000, .source = "HEADLESS-9" }, 0 },
	{ "allowed", { .executable = "/usr/bin/obs", .uid = 1000, .source = "HEADLESS-1" },
		FD_READ_ONLY | SEALED, VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_DMABUF },
	{ "no_source", { .executable = "/usr/bin/obs", .uid = 1000 },
		FD_READ_ONLY | SEALED, VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_DMABUF },
	{ "other_uid", { .executable = "/usr/bin/obs", .uid = 1001, .source = "HEADLESS-1" },
		GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "star_stops_at_a_slash", { .executable = "/usr/local/bin/obs", .uid = 1000 },
		GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "unknown_executable", { .uid = 1000 }, GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "star", { .uid = 7, .executable = "/init" }, GUARDED, ALL_STORAGES },
	{ "unknown_executable_of_star", { .uid = 7 }, GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "denied_uid", { .uid = 66, .source = "HEADLESS-1" }, 0 },
	{ "window", { .source = "window:org.example.Notes" }, SNAPSHOT, ALL_STORAGES },
	{ "other_window", { .source = "window:com.example" }, GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "no_comment", { .source = "x://not a comment" }, FD_READ_ONLY, ALL_STORAGES },
	{ "sandboxed", { .sandboxed = true, .engine = "org.flatpak", .app_id = "com.example.App" },
		SEALED | SNAPSHOT, ALL_STORAGES },
	{ "sandboxed_denied", { .sandboxed = true, .engine = "org.evil", .app_id = "com.example.App" },
		0 },
	{ "sandboxed_default", { .sandboxed = true, .engine = "org.flatpak", .app_id = "org.other" }, 0 },
	{ "sandboxed_without_a_name", { .sandboxed = true }, 0 },
	{ "sandboxed_of_allowed_executable",
		{ .sandboxed = true, .executable = "/usr/bin/obs", .uid = 1000 }, 0 },
	{ "names_of_no_sandbox", { .engine = "org.flatpak", .app_id = "com.example.App" },
		GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "broken_text", { .sandboxed = true, .engine = "org.flatpak", .app_id = "com.example.\xff" },
		SEALED | SNAPSHOT, ALL_STORAGES },
	// One source or another
	{ "any", { .any_source = true }, FD_READ_ONLY | GUARDED | SEALED | SNAPSHOT, ALL_STORAGES },
	{ "any_of_rule", { .any_source = true, .executable = "/usr/bin/obs", .uid = 1000 },
		FD_READ_ONLY | SEALED, VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_DMABUF },
	{ "any_of_denied", { .any_source = true, .uid = 66 }, FD_READ_ONLY | SNAPSHOT, ALL_STORAGES },
	{ "any_sandboxed", { .any_source = true, .sandboxed = true }, 0 },
};

TEST_EACH(decisions, first_rule_that_matches_decides) {
	struct rules *rules = parse_good(policy);
	struct rules_verdict verdict = rules_decide(rules, &param->request,
		(struct rules_verdict){ UINT32_MAX, UINT32_MAX });
	check_int(verdict.guarantees, ==, param->guarantees);
	check(verdict.guarantees == 0 || verdict.storages == param->storages);
	rules_destroy(rules);
}

TEST(without_a_default_the_caller_decides) {
	struct rules *rules = parse_good("{\"rules\": [{\"match\": {\"uid\": 1}, \"deny\": true}]}");
	struct rules_verdict otherwise = { SEALED, VITRINE_STORAGE_MEMFD };
	struct rules_request request = { .uid = 1 };
	check_int(rules_decide(rules, &request, otherwise).guarantees, ==, 0);
	request.uid = 2;
	check_int(rules_decide(rules, &request, otherwise).guarantees, ==, SEALED);
	check_int(rules_decide(rules, &request, otherwise).storages, ==, VITRINE_STORAGE_MEMFD);
	rules_destroy(rules);
}

TEST(rule_without_match_is_for_all_but_sandboxed_clients) {
	struct rules *rules = parse_good("{\"rules\": [{\"allow\": [\"sealed\"]}]}");
	struct rules_request request = { .uid = 1 };
	check_int(rules_decide(rules, &request, (struct rules_verdict){ 0 }).guarantees, ==, SEALED);
	request.sandboxed = true;
	check_int(rules_decide(rules, &request, (struct rules_verdict){ 0 }).guarantees, ==, 0);
	rules_destroy(rules);
}

/** Each run of a hostile app-id against each star costs no more than their product. */
TEST(hostile_text_does_not_hang_a_pattern) {
	struct rules *rules = parse_good("{\"rules\": [{\"match\": {\"app-id\": "
		"\"*a*a*a*a*a*a*a*a*a*a*a*b\"}, \"allow\": [\"sealed\"]}]}");
	char app_id[4096];
	memset(app_id, 'a', sizeof(app_id));
	app_id[sizeof(app_id) - 1] = '\0';
	struct rules_request request = { .sandboxed = true, .app_id = app_id };
	check_int(rules_decide(rules, &request, (struct rules_verdict){ 0 }).guarantees, ==, 0);
	app_id[sizeof(app_id) - 2] = 'b';
	check_int(rules_decide(rules, &request, (struct rules_verdict){ 0 }).guarantees, ==, SEALED);
	rules_destroy(rules);
}

TEST(each_allocation_that_fails_is_told) {
	struct rules_error error;
	struct rules *rules = NULL;
	int n = 0;
	for (; rules == NULL; n++) {
		fail_at_call = n;
		rules = parse(policy, &error);
		check(rules != NULL || strstr(error.text, "out of memory") != NULL);
	}
	check_int(n, >, 10);
	check_int(fail_at_call, >=, 0); // none was left to fail
	fail_at_call = -1;
	rules_destroy(rules);
}

/* Random texts: none may crash it, and each refusal says why */

static uint32_t next_random(uint32_t *state) {
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/** Words of policies, so that much of it gets past json-c. */
static size_t make_text(char *text, size_t size, uint32_t *state) {
	static const char *const words[] = {
		"{", "}", "[", "]", ":", ",", "\"", "\\", "\n", " ", "//", "/*", "*/", "\"rules\":", "\"match\":",
		"\"allow\":", "\"default\":", "\"deny\": true", "\"sealed\"", "null", "true", "false", "7", "-",
		"1e9", "NaN", "\"uid\":", "\"x\"", "\xc3", "\\u0000", "{\"match\":{},\"deny\":true}", "'",
	};
	size_t len = 0;
	for (uint32_t n = next_random(state) % 40; n > 0; n--) {
		const char *word = words[next_random(state) % (sizeof(words) / sizeof(words[0]))];
		if (len + strlen(word) < size) {
			memcpy(text + len, word, strlen(word));
			len += strlen(word);
		}
	}
	return len;
}

/** A good one with some bytes changed. */
static size_t spoil_text(char *text, uint32_t *state) {
	memcpy(text, policy, sizeof(policy) - 1);
	for (uint32_t n = next_random(state) % 4; n > 0; n--) {
		static const char bytes[] = "{}[]:,\"\\\n /*x0\xff";
		text[next_random(state) % (sizeof(policy) - 1)] =
			bytes[next_random(state) % (sizeof(bytes) - 1)];
	}
	return sizeof(policy) - 1;
}

TEST(random_texts_are_read_or_refused) {
	harness_set_timeout(60 * harness_get_slowdown());
	uint32_t state = 1;
	int n_good = 0, n_bad = 0;
	for (int i = 0; i < 40000; i++) {
		char text[2048];
		size_t len = i % 2 == 0 ? make_text(text, sizeof(text), &state) : spoil_text(text, &state);
		struct rules_error error = { "" };
		// Of just this size, for the sanitizer
		char *exact = malloc(len + 1);
		memcpy(exact, text, len);
		struct rules *rules = rules_parse("r", exact, len, &error);
		free(exact);
		check((rules == NULL) == (strncmp(error.text, "r:", 2) == 0));
		*(rules != NULL ? &n_good : &n_bad) += 1;
		rules_destroy(rules);
	}
	check_int(n_good, >, 100);
	check_int(n_bad, >, 100);
}

/* Files */

static const char *write_file(const char *text, size_t len, mode_t mode) {
	static char path[256];
	snprintf(path, sizeof(path), "%s/rules.json", getenv("XDG_RUNTIME_DIR"));
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	check(fd >= 0);
	check_int(write(fd, text, len), ==, (long long)len);
	check_ok(fchmod(fd, mode));
	close(fd);
	return path;
}

static void check_unreadable(const char *path, const char *why) {
	struct rules_error error;
	char expected[512];
	check(rules_read(path, &error) == NULL);
	snprintf(expected, sizeof(expected), "%s: %s", path, why);
	check_str(error.text, expected);
}

TEST(file_is_read) {
	struct rules_error error;
	struct rules *rules = rules_read(write_file(policy, strlen(policy), 0644), &error);
	check(rules != NULL);
	rules_destroy(rules);
}

TEST(example_is_a_policy_that_means_what_it_says) {
	struct rules_error error = { "" };
	struct rules *rules = rules_read(EXAMPLE, &error);
	check_str(error.text, "");
	struct rules_verdict none = { 0 };
	struct rules_request request = { .executable = "/usr/bin/obs", .uid = 1000, .source = "DP-1" };
	check_int(rules_decide(rules, &request, none).guarantees, ==, FD_READ_ONLY | GUARDED | SEALED);
	request.source = "window:org.keepassxc.KeePassXC";
	check_int(rules_decide(rules, &request, none).guarantees, ==, 0);
	request = (struct rules_request){ .sandboxed = true, .engine = "org.flatpak",
		.app_id = "com.obsproject.Studio", .source = "DP-1" };
	check_int(rules_decide(rules, &request, none).guarantees, ==, SNAPSHOT);
	check_int(rules_decide(rules, &request, none).storages, ==, VITRINE_STORAGE_MEMFD);
	request.app_id = "org.example.Other";
	check_int(rules_decide(rules, &request, none).guarantees, ==, 0);
	request = (struct rules_request){ .uid = 979, .source = "DP-2" };
	check_int(rules_decide(rules, &request, none).guarantees, ==, SEALED | SNAPSHOT);
	request.uid = 1000;
	check_int(rules_decide(rules, &request, none).guarantees, ==, 0);
	request.source = "DP-1";
	check_int(rules_decide(rules, &request, none).guarantees, ==, GUARDED | SEALED | SNAPSHOT);
	rules_destroy(rules);
}

TEST(path_of_a_file_keeps_its_symbolic_links) {
	char path[PATH_MAX], expected[PATH_MAX + 16], name[PATH_MAX];
	struct rules_error error;
	check_ok(chdir(getenv("XDG_RUNTIME_DIR")));
	check_ok(symlink("/etc/passwd", "link.json"));
	char *dir = getcwd(NULL, 0);
	snprintf(expected, sizeof(expected), "%s/link.json", dir);
	free(dir);
	check(rules_get_path(path, "link.json", &error));
	check_str(path, expected);
	check(rules_get_path(name, path, &error));
	check_str(name, expected);
	memset(name, '/', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	check(rules_get_path(path, name, &error));
	name[0] = 'n';
	check(!rules_get_path(path, name, &error));
	check(strstr(error.text, "n//") == error.text);
}

TEST(file_that_is_none_is_refused) {
	const char *path = write_file("", 0, 0600);
	unlink(path);
	check_unreadable(path, "No such file or directory");
	check_unreadable(getenv("XDG_RUNTIME_DIR"), "it is no regular file");
	check_ok(mkfifo(path, 0600));
	check_unreadable(path, "it is no regular file"); // and not waited for
	unlink(path);
}

TEST(file_that_all_can_write_is_refused) {
	check_unreadable(write_file(policy, strlen(policy), 0646), "every user can write it: chmod o-w");
}

TEST(file_of_the_largest_size_is_read_and_a_larger_one_refused) {
	static char text[RULES_SIZE_CAP + 1];
	memset(text, ' ', sizeof(text));
	memcpy(text, policy, sizeof(policy) - 1);
	struct rules_error error;
	struct rules *rules = rules_read(write_file(text, RULES_SIZE_CAP, 0600), &error);
	check(rules != NULL);
	rules_destroy(rules);
	check_unreadable(write_file(text, sizeof(text), 0600), "it is longer than 65536 bytes");
}
