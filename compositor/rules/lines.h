/* SPDX-License-Identifier: MIT */
#ifndef RULES_LINES_H
#define RULES_LINES_H

#include <stddef.h>

struct json_object;
struct rules_error;

/** A text as values, of which each knows its line. */
struct lines;

/**
 * Parses JSON with comments, such as // and slash-star ones. Keys that are there twice,
 * which json-c lets pass, and null are errors.
 *
 * Returns NULL and fills in `error`, which begins with `name`.
 */
struct lines *lines_parse(const char *name, const char *text, size_t len,
	struct rules_error *error);
void lines_destroy(struct lines *lines);

/** The outermost value. Borrowed. */
struct json_object *lines_get_root(const struct lines *lines);
/** The line on which a value begins, from 1 on; 0 if it is not of this text. */
int lines_find(const struct lines *lines, const struct json_object *value);

/** Fills in an error. `line` is 0 if it is of the whole file. */
void lines_fail(struct rules_error *error, const char *name, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/** Text of a file as an error may quote it: cut, and without control characters. */
struct lines_quote {
	char text[72];
};
const char *lines_quote(struct lines_quote *quote, const char *text, size_t len);

#endif
