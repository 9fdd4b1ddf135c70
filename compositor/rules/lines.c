/* SPDX-License-Identifier: MIT */
/**
 * Json-c checks the text, and makes values of it. It does not keep where they were, nor that
 * a key was there twice: for both, the text is gone through once more, in the same order.
 */
#include <json.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "rules.h"

/** More than any text of ours has; it bounds the recursion as well. */
#define DEPTH_CAP 8
#define KEYS_CAP 32

/** Where a value is. Json-c could keep this itself, but version 0.19 crashes then. */
struct place {
	const struct json_object *value;
	int line;
};

struct lines {
	struct json_object *root;
	struct place *places; // outer ones before what is in them
	size_t n_places;
};

struct slice {
	const char *start;
	size_t len;
};

/** Where the second reading of a text is. */
struct scan {
	const char *name;
	const char *at; // the text ends with a NUL
	int line;
	struct lines *lines; // there is room for all places
	struct rules_error *error;
};

void lines_fail(struct rules_error *error, const char *name, int line, const char *format, ...) {
	int len = line > 0 ? snprintf(error->text, sizeof(error->text), "%s:%d: ", name, line) :
		snprintf(error->text, sizeof(error->text), "%s: ", name);
	if (len < 0 || (size_t)len >= sizeof(error->text)) {
		return; // the name alone is as long
	}
	va_list args;
	va_start(args, format);
	vsnprintf(error->text + len, sizeof(error->text) - (size_t)len, format, args);
	va_end(args);
}

const char *lines_quote(struct lines_quote *quote, const char *text, size_t len) {
	size_t used = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (used + 8 > sizeof(quote->text)) {
			memcpy(quote->text + used, "...", 3);
			used += 3;
			break;
		}
		bool plain = c >= ' ' && c <= '~';
		int n = snprintf(quote->text + used, sizeof(quote->text) - used,
			plain ? "%c" : "\\x%02x", c);
		used += (size_t)n;
	}
	quote->text[used] = '\0';
	return quote->text;
}

static int count_lines(const char *text, size_t len) {
	int line = 1;
	for (size_t i = 0; i < len; i++) {
		line += text[i] == '\n';
	}
	return line;
}

/* Comments */

/** Past the end of a string, of which `text` is the first quote. */
static const char *skip_string(const char *text) {
	for (text++; *text != '"' && *text != '\0'; text++) {
		if (*text == '\\' && text[1] != '\0') {
			text++;
		}
	}
	return *text == '"' ? text + 1 : text;
}

/** NULL if it does not end. */
static char *find_comment_end(char *comment) {
	if (comment[1] == '/') {
		return comment + strcspn(comment, "\n");
	}
	char *end = strstr(comment + 2, "*/");
	return end != NULL ? end + 2 : NULL;
}

/**
 * Overwrites comments with spaces, so that all lines stay where they are. Json-c knows
 * comments too, but only together with all else that it takes for JSON.
 */
static bool blank_comments(char *text, const char *name, struct rules_error *error) {
	for (char *at = text; *at != '\0';) {
		if (*at == '"') {
			at = (char *)skip_string(at);
		} else if (*at == '/' && (at[1] == '/' || at[1] == '*')) {
			char *end = find_comment_end(at);
			if (end == NULL) {
				lines_fail(error, name, count_lines(text, (size_t)(at - text)),
					"the comment does not end: write */ after it");
				return false;
			}
			for (; at < end; at++) {
				*at = *at == '\n' ? '\n' : ' ';
			}
		} else {
			at++;
		}
	}
	return true;
}

/* The second reading: the text is JSON */

static void skip_space(struct scan *scan) {
	for (; *scan->at == ' ' || (*scan->at >= '\t' && *scan->at <= '\r'); scan->at++) {
		scan->line += *scan->at == '\n';
	}
}

static bool scan_fail(struct scan *scan, const char *what, struct slice of) {
	struct lines_quote quote;
	lines_fail(scan->error, scan->name, scan->line, what,
		lines_quote(&quote, of.start, of.len));
	return false;
}

static struct slice take_string(struct scan *scan) {
	const char *start = scan->at + 1;
	scan->at = skip_string(scan->at);
	return (struct slice){ start, (size_t)(scan->at - 1 - start) };
}

static bool scan_value(struct scan *scan);

/** Keys are compared as they are written, so none may be written in two ways. */
static bool take_key(struct scan *scan, struct slice *keys, size_t *n_keys) {
	struct slice key = take_string(scan);
	if (memchr(key.start, '\\', key.len) != NULL) {
		return scan_fail(scan, "unknown key \"%s\": write keys without a backslash", key);
	}
	for (size_t i = 0; i < *n_keys; i++) {
		if (keys[i].len == key.len && memcmp(keys[i].start, key.start, key.len) == 0) {
			return scan_fail(scan, "the key \"%s\" is there twice: leave one out", key);
		}
	}
	if (*n_keys == KEYS_CAP) {
		return scan_fail(scan, "too many keys in one object, at \"%s\"", key);
	}
	keys[(*n_keys)++] = key;
	return true;
}

/** Takes what is between two values. Returns whether there is another one. */
static bool take_separator(struct scan *scan, char close) {
	skip_space(scan);
	return *scan->at != '\0' && *scan->at++ != close;
}

static bool scan_object(struct scan *scan) {
	struct slice keys[KEYS_CAP];
	size_t n_keys = 0;
	skip_space(scan);
	if (*scan->at == '}') {
		scan->at++;
		return true;
	}
	do {
		skip_space(scan);
		if (*scan->at != '"') { // json-c takes other quotes as well
			return scan_fail(scan, "%s is no key: write it in double quotes",
				(struct slice){ scan->at, strcspn(scan->at, " \t\n\v\f\r:") });
		}
		if (!take_key(scan, keys, &n_keys)) {
			return false;
		}
		skip_space(scan);
		scan->at++; // the colon
		if (!scan_value(scan)) {
			return false;
		}
	} while (take_separator(scan, '}'));
	return true;
}

static bool scan_array(struct scan *scan) {
	skip_space(scan);
	if (*scan->at == ']') {
		scan->at++;
		return true;
	}
	do {
		if (!scan_value(scan)) {
			return false;
		}
	} while (take_separator(scan, ']'));
	return true;
}

/** The recursion is as deep as json-c's was. */
static bool scan_value(struct scan *scan) {
	skip_space(scan);
	scan->lines->places[scan->lines->n_places++].line = scan->line;
	switch (*scan->at) {
	case '{':
		scan->at++;
		return scan_object(scan);
	case '[':
		scan->at++;
		return scan_array(scan);
	case '"':
		take_string(scan);
		return true;
	}
	struct slice word = { scan->at, strcspn(scan->at, " \t\n\v\f\r,]}") };
	if (*word.start == 'n' || *word.start == 'N') {
		return scan_fail(scan, "%s is no value here: leave the key out", word);
	}
	scan->at += word.len;
	return true;
}

/** In the order of scan_value(): objects keep that of their keys. */
static struct place *place_values(struct json_object *value, struct place *place) {
	place++->value = value;
	if (json_object_is_type(value, json_type_array)) {
		size_t len = json_object_array_length(value);
		for (size_t i = 0; i < len; i++) {
			place = place_values(json_object_array_get_idx(value, i), place);
		}
	} else if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, key, member) {
			(void)key;
			place = place_values(member, place);
		}
	}
	return place;
}

static bool find_places(struct lines *lines, const char *name, const char *text,
		struct rules_error *error) {
	struct scan scan = { .name = name, .at = text, .line = 1, .lines = lines, .error = error };
	lines->places = calloc(strlen(text) + 1, sizeof(lines->places[0])); // no value without a byte
	if (lines->places == NULL) {
		lines_fail(error, name, 0, "out of memory");
		return false;
	}
	if (!scan_value(&scan)) {
		return false;
	}
	place_values(lines->root, lines->places);
	return true;
}

/* The first reading */

static struct json_object *parse_strictly(const char *name, const char *text,
		struct rules_error *error) {
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_CAP);
	if (tokener == NULL) {
		lines_fail(error, name, 0, "out of memory");
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *value = json_tokener_parse_ex(tokener, text, -1);
	if (value == NULL) {
		enum json_tokener_error reason = json_tokener_get_error(tokener);
		bool is_null = reason == json_tokener_success;
		int line = count_lines(text, json_tokener_get_parse_end(tokener));
		lines_fail(error, name, line, "%s", is_null ? "null is no value here" :
			reason == json_tokener_error_parse_eof || reason == json_tokener_continue ?
			"the text ends too early: is a bracket not closed?" :
			json_tokener_error_desc(reason));
	}
	json_tokener_free(tokener);
	return value;
}

static struct lines *parse_text(const char *name, char *text, struct rules_error *error) {
	struct json_object *root = NULL;
	if (blank_comments(text, name, error)) {
		root = parse_strictly(name, text, error);
	}
	if (root == NULL) {
		return NULL;
	}
	struct lines *lines = calloc(1, sizeof(*lines));
	if (lines == NULL) {
		lines_fail(error, name, 0, "out of memory");
		json_object_put(root);
		return NULL;
	}
	lines->root = root;
	if (!find_places(lines, name, text, error)) {
		lines_destroy(lines);
		return NULL;
	}
	return lines;
}

struct lines *lines_parse(const char *name, const char *text, size_t len,
		struct rules_error *error) {
	if (memchr(text, '\0', len) != NULL) {
		lines_fail(error, name, 0, "it has a NUL in it: is it a text?");
		return NULL;
	}
	char *copy = malloc(len + 1);
	if (copy == NULL) {
		lines_fail(error, name, 0, "out of memory");
		return NULL;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	struct lines *lines = parse_text(name, copy, error);
	free(copy);
	return lines;
}

void lines_destroy(struct lines *lines) {
	if (lines != NULL) {
		json_object_put(lines->root);
		free(lines->places);
		free(lines);
	}
}

struct json_object *lines_get_root(const struct lines *lines) {
	return lines->root;
}

int lines_find(const struct lines *lines, const struct json_object *value) {
	for (size_t i = 0; i < lines->n_places; i++) {
		if (lines->places[i].value == value) {
			return lines->places[i].line;
		}
	}
	return 0;
}
