/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <json.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vitrine/derive.h>

#include "lines.h"
#include "rules.h"

/** What a client must be for a rule to count. Patterns are NULL if any will do. */
struct match {
	char *executable, *engine, *app_id, *source;
	bool has_uid;
	uid_t uid;
};

struct rule {
	struct match match; // none of the default
	struct rules_verdict verdict;
};

struct rules {
	struct rule *rules;
	size_t n_rules;
	bool has_default;
	struct rules_verdict default_verdict;
	locale_t bytes; // patterns match bytes, so that no text is too broken for them
};

/** What is being read, and where errors go. */
struct reading {
	const char *name;
	const struct lines *lines;
	struct rules_error *error;
};

/** A key of an object: `read` puts its value to `target`, or fails. */
struct key {
	const char *name;
	bool (*read)(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target);
	size_t offset; // in what the object is read to
};

/* Guarantees and storages */

uint32_t rules_guarantees_from_min(const char *name) {
	// By how much a holder could still do, the weakest first
	static const uint32_t by_strength[] = {
		VITRINE_GUARANTEE_FD_READ_ONLY,
		VITRINE_GUARANTEE_GUARDED,
		VITRINE_GUARANTEE_SEALED,
		VITRINE_GUARANTEE_SNAPSHOT,
	};
	uint32_t min = vitrine_guarantee_from_name(name);
	uint32_t guarantees = 0;
	for (size_t i = 0; i < sizeof(by_strength) / sizeof(by_strength[0]); i++) {
		if (guarantees != 0 || by_strength[i] == min) {
			guarantees |= by_strength[i];
		}
	}
	return guarantees;
}

/* Values */

#define fail_at(reading, value, ...) \
	(lines_fail((reading)->error, (reading)->name, \
		lines_find((reading)->lines, value), __VA_ARGS__), false)

static const char *get_type_name(const struct json_object *value) {
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return "true or false";
	case json_type_int:
	case json_type_double:
		return "a number";
	case json_type_string:
		return "a string";
	case json_type_array:
		return "a list";
	case json_type_object:
		return "an object";
	default:
		return "null";
	}
}

static bool need_type(const struct reading *reading, const char *key,
		const struct json_object *value, enum json_type type, const char *what) {
	return json_object_is_type(value, type) ||
		fail_at(reading, value, "\"%s\" is %s: it must be %s", key, get_type_name(value), what);
}

/** NULL if it is not what a C string can be. */
static const char *get_text(struct json_object *string) {
	const char *text = json_object_get_string(string);
	return text != NULL && strlen(text) == (size_t)json_object_get_string_len(string) ?
		text : NULL;
}

static bool read_pattern(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	char **pattern = target;
	if (!need_type(reading, key->name, value, json_type_string, "a string")) {
		return false;
	}
	const char *text = get_text(value);
	if (text == NULL || text[0] == '\0') {
		return fail_at(reading, value, "\"%s\" is empty or has a NUL: leave it out to match "
			"any", key->name);
	}
	*pattern = strdup(text);
	return *pattern != NULL || fail_at(reading, value, "out of memory");
}

static bool read_executable(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	if (!read_pattern(reading, key, value, target)) {
		return false;
	}
	char *const *pattern = target;
	return **pattern == '/' || fail_at(reading, value,
		"\"%s\" is no absolute path: it must begin with a slash", key->name);
}

static bool read_uid(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	struct match *match = target;
	if (!need_type(reading, key->name, value, json_type_int, "a whole number")) {
		return false;
	}
	int64_t number = json_object_get_int64(value);
	if (number < 0 || number >= UINT32_MAX) {
		return fail_at(reading, value, "\"%s\" is no user: it must be from 0 to %lu", key->name,
			UINT32_MAX - 1UL);
	}
	match->has_uid = true;
	match->uid = (uid_t)number;
	return true;
}

/** A list of words of which `from_name` knows the bits. */
static bool read_words(const struct reading *reading, const char *key,
		struct json_object *value, uint32_t (*from_name)(const char *), const char *known,
		uint32_t *bits) {
	if (!need_type(reading, key, value, json_type_array, "a list")) {
		return false;
	}
	size_t len = json_object_array_length(value);
	if (len == 0) {
		return fail_at(reading, value, "\"%s\" is empty: it must have one of %s; "
			"use \"deny\" to give nothing", key, known);
	}
	for (size_t i = 0; i < len; i++) {
		struct json_object *word = json_object_array_get_idx(value, i);
		const char *text = json_object_is_type(word, json_type_string) ? get_text(word) : NULL;
		uint32_t bit = text != NULL ? from_name(text) : 0;
		if (bit == 0) {
			struct lines_quote quote;
			return fail_at(reading, word, "\"%s\" has %s, which is unknown (known: %s)", key,
				text != NULL ? lines_quote(&quote, text, strlen(text)) : get_type_name(word),
				known);
		}
		*bits |= bit;
	}
	return true;
}

#define GUARANTEES "fd_read_only, guarded, sealed, snapshot"

/** What a rule says, before it is known whether that makes sense. */
struct saying {
	struct json_object *value; // of the rule
	struct match match;
	bool denies;
	uint32_t allowed, min, storages;
};

static bool read_allow(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	return read_words(reading, key->name, value, vitrine_guarantee_from_name, GUARANTEES, target);
}

static bool read_storages(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	return read_words(reading, key->name, value, vitrine_storage_from_name,
		"memfd, mapped-dmabuf, dmabuf", target);
}

static bool read_min(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	uint32_t *bits = target;
	if (!need_type(reading, key->name, value, json_type_string, "one of " GUARANTEES)) {
		return false;
	}
	const char *text = get_text(value);
	*bits = text != NULL ? rules_guarantees_from_min(text) : 0;
	struct lines_quote quote;
	return *bits != 0 || fail_at(reading, value, "\"%s\" is \"%s\", which is unknown (known: "
		GUARANTEES ")", key->name, lines_quote(&quote, json_object_get_string(value),
		(size_t)json_object_get_string_len(value)));
}

static bool read_deny(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	bool *denies = target;
	if (!need_type(reading, key->name, value, json_type_boolean, "true")) {
		return false;
	}
	*denies = json_object_get_boolean(value);
	return *denies || fail_at(reading, value, "\"%s\" is false: it must be true, or left out",
		key->name);
}

/* Objects */

static const struct key *find_key(const struct key *keys, const char *name) {
	while (keys->name != NULL && strcmp(keys->name, name) != 0) {
		keys++;
	}
	return keys->name != NULL ? keys : NULL;
}

static bool fail_unknown(const struct reading *reading, const struct json_object *value,
		const struct key *keys, const char *name) {
	char known[160] = "";
	struct lines_quote quote;
	for (size_t used = 0; keys->name != NULL && used < sizeof(known); keys++) {
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
			used > 0 ? ", " : "", keys->name);
	}
	return fail_at(reading, value, "unknown key \"%s\" (known: %s)",
		lines_quote(&quote, name, strlen(name)), known);
}

static bool read_object(const struct reading *reading, const char *what,
		struct json_object *value, const struct key *keys, void *target) {
	if (!need_type(reading, what, value, json_type_object, "an object")) {
		return false;
	}
	json_object_object_foreach(value, name, member) {
		const struct key *key = find_key(keys, name);
		if (key == NULL) {
			return fail_unknown(reading, member, keys, name);
		}
		if (!key->read(reading, key, member, (char *)target + key->offset)) {
			return false;
		}
	}
	return true;
}

static void match_finish(struct match *match) {
	free(match->executable);
	free(match->engine);
	free(match->app_id);
	free(match->source);
}

static bool read_match(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	static const struct key keys[] = {
		{ "executable", read_executable, offsetof(struct match, executable) },
		{ "uid", read_uid, 0 },
		{ "engine", read_pattern, offsetof(struct match, engine) },
		{ "app-id", read_pattern, offsetof(struct match, app_id) },
		{ "source", read_pattern, offsetof(struct match, source) },
		{ 0 },
	};
	struct saying *saying = target;
	return read_object(reading, key->name, value, keys, &saying->match);
}

static bool check_saying(const struct reading *reading, const char *what,
		const struct saying *saying) {
	int n_verdicts = saying->denies + (saying->allowed != 0) + (saying->min != 0);
	if (n_verdicts != 1) {
		return fail_at(reading, saying->value, "%s has %s of \"allow\", \"min-guarantee\" and "
			"\"deny\": it must have one", what, n_verdicts == 0 ? "none" : "several");
	}
	return !saying->denies || saying->storages == 0 || fail_at(reading, saying->value,
		"%s has \"deny\" and \"storages\": leave one out", what);
}

/** Reads a rule, or the default, to `rule`, which is zeroed and to be finished in any case. */
static bool read_rule(const struct reading *reading, const char *what,
		struct json_object *value, const struct key *keys, struct rule *rule) {
	struct saying saying = { .value = value };
	bool ok = read_object(reading, what, value, keys, &saying) &&
		check_saying(reading, what, &saying);
	rule->match = saying.match;
	rule->verdict = (struct rules_verdict){
		.guarantees = saying.allowed | saying.min,
		.storages = saying.storages != 0 ? saying.storages : (uint32_t)VITRINE_STORAGE_ALL,
	};
	return ok;
}

#define VERDICT_KEYS \
	{ "allow", read_allow, offsetof(struct saying, allowed) }, \
	{ "min-guarantee", read_min, offsetof(struct saying, min) }, \
	{ "deny", read_deny, offsetof(struct saying, denies) }, \
	{ "storages", read_storages, offsetof(struct saying, storages) }

static bool read_rules(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	static const struct key keys[] = { { "match", read_match, 0 }, VERDICT_KEYS, { 0 } };
	struct rules *rules = target;
	if (!need_type(reading, key->name, value, json_type_array, "a list")) {
		return false;
	}
	size_t len = json_object_array_length(value);
	rules->rules = calloc(len + 1, sizeof(rules->rules[0])); // of 0 it may be NULL
	if (rules->rules == NULL) {
		return fail_at(reading, value, "out of memory");
	}
	while (rules->n_rules < len) {
		size_t i = rules->n_rules++;
		if (!read_rule(reading, "the rule", json_object_array_get_idx(value, i), keys,
				&rules->rules[i])) {
			return false;
		}
	}
	return true;
}

static bool read_default(const struct reading *reading, const struct key *key,
		struct json_object *value, void *target) {
	static const struct key keys[] = { VERDICT_KEYS, { 0 } };
	struct rules *rules = target;
	struct rule rule = { 0 };
	rules->has_default = true;
	bool ok = read_rule(reading, "the default", value, keys, &rule);
	rules->default_verdict = rule.verdict;
	return ok;
}

static bool read_all(const struct reading *reading, struct json_object *value,
		struct rules *rules) {
	static const struct key keys[] = {
		{ "rules", read_rules, 0 },
		{ "default", read_default, 0 },
		{ 0 },
	};
	if (!json_object_is_type(value, json_type_object)) {
		return fail_at(reading, value, "the policy is %s: it must be an object",
			get_type_name(value));
	}
	if (!read_object(reading, "the policy", value, keys, rules)) {
		return false;
	}
	return rules->rules != NULL || rules->has_default ||
		fail_at(reading, value, "neither \"rules\" nor \"default\": the file says nothing");
}

void rules_destroy(struct rules *rules) {
	if (rules == NULL) {
		return;
	}
	for (size_t i = 0; i < rules->n_rules; i++) {
		match_finish(&rules->rules[i].match);
	}
	free(rules->rules);
	freelocale(rules->bytes);
	free(rules);
}

static struct rules *rules_create(void) {
	struct rules *rules = calloc(1, sizeof(*rules));
	if (rules == NULL) {
		return NULL;
	}
	rules->bytes = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (rules->bytes == (locale_t)0) {
		free(rules);
		return NULL;
	}
	return rules;
}

struct rules *rules_parse(const char *name, const char *text, size_t len,
		struct rules_error *error) {
	struct lines *lines = lines_parse(name, text, len, error);
	if (lines == NULL) {
		return NULL;
	}
	struct rules *rules = rules_create();
	if (rules == NULL) {
		lines_fail(error, name, 0, "out of memory");
	} else if (!read_all(&(struct reading){ name, lines, error }, lines_get_root(lines), rules)) {
		rules_destroy(rules);
		rules = NULL;
	}
	lines_destroy(lines);
	return rules;
}

/* Files */

static bool check_file(const char *path, const struct stat *stat, struct rules_error *error) {
	if (!S_ISREG(stat->st_mode)) {
		lines_fail(error, path, 0, "it is no regular file");
	} else if (stat->st_mode & S_IWOTH) {
		lines_fail(error, path, 0, "every user can write it: chmod o-w");
	} else if (stat->st_size > RULES_SIZE_CAP) {
		lines_fail(error, path, 0, "it is longer than %d bytes", RULES_SIZE_CAP);
	} else {
		return true;
	}
	return false;
}

/** Returns the length, or -1 with a message. */
static ssize_t read_file(const char *path, char *text, struct rules_error *error) {
	// A fifo would be waited for, and a terminal become ours
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;
	if (fd < 0 || fstat(fd, &stat) != 0) {
		lines_fail(error, path, 0, "%s", strerror(errno));
		if (fd >= 0) {
			close(fd);
		}
		return -1;
	}
	ssize_t len = -1;
	if (check_file(path, &stat, error)) {
		size_t used = 0;
		do { // one byte more than may be there, in case it grows
			len = read(fd, text + used, RULES_SIZE_CAP + 1 - used);
			used += len > 0 ? (size_t)len : 0;
		} while (len > 0 && used <= RULES_SIZE_CAP);
		if (len < 0) {
			lines_fail(error, path, 0, "%s", strerror(errno));
		} else if (used > RULES_SIZE_CAP) {
			lines_fail(error, path, 0, "it is longer than %d bytes", RULES_SIZE_CAP);
			len = -1;
		} else {
			len = (ssize_t)used;
		}
	}
	close(fd);
	return len;
}

struct rules *rules_read(const char *path, struct rules_error *error) {
	char *text = malloc(RULES_SIZE_CAP + 1);
	if (text == NULL) {
		lines_fail(error, path, 0, "out of memory");
		return NULL;
	}
	ssize_t len = read_file(path, text, error);
	struct rules *rules = len >= 0 ? rules_parse(path, text, (size_t)len, error) : NULL;
	free(text);
	return rules;
}

bool rules_get_path(char path[static PATH_MAX], const char *name, struct rules_error *error) {
	bool is_relative = name[0] != '/';
	char *dir = is_relative ? getcwd(NULL, 0) : NULL;
	if (is_relative && dir == NULL) {
		lines_fail(error, name, 0, "%s", strerror(errno));
		return false;
	}
	int len = snprintf(path, PATH_MAX, "%s%s%s", is_relative ? dir : "", is_relative ? "/" : "",
		name);
	free(dir);
	if (len < 0 || len >= PATH_MAX) {
		lines_fail(error, name, 0, "%s", strerror(ENAMETOOLONG));
		return false;
	}
	return true;
}

/* Decisions */

/** What is not known matches no pattern. */
static bool fits(const char *pattern, const char *text, int flags) {
	return pattern == NULL || (text != NULL && fnmatch(pattern, text, flags) == 0);
}

static bool rule_fits_client(const struct rule *rule, const struct rules_request *request) {
	const struct match *match = &rule->match;
	bool names_sandbox = match->engine != NULL || match->app_id != NULL;
	if (request->sandboxed && !names_sandbox && rule->verdict.guarantees != 0) {
		return false; // what is given to all is not meant for those that are locked in
	}
	return (!match->has_uid || match->uid == request->uid) &&
		(!names_sandbox || request->sandboxed) &&
		// "/home/*/x" is not what any of its users has made further down
		fits(match->executable, request->executable, FNM_PATHNAME) &&
		fits(match->engine, request->engine, 0) &&
		fits(match->app_id, request->app_id, 0);
}

static struct rules_verdict decide_without_rule(const struct rules *rules,
		const struct rules_request *request, struct rules_verdict otherwise) {
	if (!rules->has_default) {
		return otherwise;
	}
	return request->sandboxed ? (struct rules_verdict){ 0 } : rules->default_verdict;
}

struct rules_verdict rules_decide(const struct rules *rules, const struct rules_request *request,
		struct rules_verdict otherwise) {
	struct rules_verdict some = { 0 }; // of those sources that rules name
	locale_t before = uselocale(rules->bytes);
	const struct rule *found = NULL;
	for (size_t i = 0; i < rules->n_rules && found == NULL; i++) {
		const struct rule *rule = &rules->rules[i];
		bool fits_client = rule_fits_client(rule, request);
		if (fits_client && request->any_source && rule->match.source != NULL) {
			some.guarantees |= rule->verdict.guarantees;
			some.storages |= rule->verdict.guarantees != 0 ? rule->verdict.storages : 0;
		} else if (fits_client && fits(rule->match.source, request->source, 0)) {
			found = rule;
		}
	}
	uselocale(before);
	struct rules_verdict verdict = found != NULL ? found->verdict :
		decide_without_rule(rules, request, otherwise);
	verdict.guarantees |= some.guarantees;
	verdict.storages |= some.storages;
	return verdict;
}
