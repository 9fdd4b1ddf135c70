/* SPDX-License-Identifier: MIT */
#ifndef VISIBLE_H
#define VISIBLE_H

#include <stddef.h>
#include <stdio.h>

/**
 * Text that others chose, as it may be shown: it moves no cursor, makes up no line and
 * turns nothing around. Characters that a terminal does not show in their place become
 * \u{202e}, by their number: controls, what turns the direction of text, separators of
 * lines, what has no width, and what Unicode does not know. Bytes that are no UTF-8 become
 * \x9b.
 */
enum visible_mode {
	VISIBLE_PLAIN, // a backslash stays as it is, and so may look like one of ours
	VISIBLE_QUOTED, // between quotation marks: these and backslashes become \u{22}, \u{5c}
};

/**
 * Writes the text into the buffer, which has room for `size` bytes, and returns that. What
 * is too long is cut between characters, and ends with "...". `size` is at least 4.
 */
const char *visible_text(char *buffer, size_t size, const char *text, enum visible_mode mode);

/**
 * Prints JSON that is correct but for bytes in its strings that are no UTF-8: these become
 * \\x9b, and the characters above escapes of JSON, so that a parser gets them all.
 */
void visible_print_json(FILE *file, const char *json);

#endif
