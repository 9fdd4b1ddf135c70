/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <locale.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "visible.h"

/** A character, or a byte that is none. */
struct character {
	size_t len; // in bytes
	uint32_t code; // or the byte
	bool is_valid;
	bool is_shown;
};

/** Ranges that iswprint() lets pass, and that are not to be seen where they stand. */
static const struct {
	uint32_t first, last;
} hidden[] = {
	{ 0x00ad, 0x00ad }, // soft hyphen
	{ 0x034f, 0x034f }, { 0x17b4, 0x17b5 }, // no width, and not on a character either
	{ 0x115f, 0x1160 }, { 0x3164, 0x3164 }, { 0xffa0, 0xffa0 }, // letters that are blank
	{ 0x061c, 0x061c }, { 0x200e, 0x200f }, // marks of direction
	{ 0x180b, 0x180f }, { 0x200b, 0x200b }, // no width; joiners have a use in words
	{ 0x2028, 0x202e }, // separators of lines and paragraphs, embeddings and overrides
	{ 0x2060, 0x206f }, // isolates, and more without width
	{ 0xfeff, 0xfeff }, { 0xfff9, 0xfffb }, // a byte order mark, annotations
	{ 0x13430, 0x1343f }, { 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a }, // controls of scripts
	{ 0xe0000, 0xe0fff }, // tags
};

static bool is_shown(wint_t c) {
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (c >= hidden[i].first && c <= hidden[i].last) {
			return false;
		}
	}
	return iswprint(c);
}

static struct character get_character(const char *text, size_t left) {
	mbstate_t state = { 0 };
	wchar_t c;
	size_t len = mbrtowc(&c, text, left, &state);
	// Errors are large numbers, and glibc knows more characters than there are
	if (len == 0 || len > left || c > 0x10ffff) {
		return (struct character){ .len = 1, .code = (unsigned char)*text };
	}
	return (struct character){
		.len = len, .code = (uint32_t)c, .is_valid = true, .is_shown = is_shown((wint_t)c),
	};
}

/** The program's own locale says nothing about the text. Without this one ASCII is shown. */
static locale_t enter_utf8(locale_t *before) {
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	*before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
	return utf8;
}

static void leave_utf8(locale_t utf8, locale_t before) {
	if (utf8 != (locale_t)0) {
		uselocale(before);
		freelocale(utf8);
	}
}

/** Returns the length of what stands for the character, in `escape` or where it is. */
static size_t represent(const struct character *c, const char **text, char escape[static 16],
		enum visible_mode mode) {
	bool is_ours = mode == VISIBLE_QUOTED && (c->code == '"' || c->code == '\\');
	if (c->is_shown && !is_ours) {
		return c->len;
	}
	*text = escape;
	return (size_t)snprintf(escape, 16, c->is_valid ? "\\u{%x}" : "\\x%02x", c->code);
}

const char *visible_text(char *buffer, size_t size, const char *text, enum visible_mode mode) {
	static const char end[] = "...";
	assert(size >= sizeof(end));
	locale_t before, utf8 = enter_utf8(&before);
	size_t left = strlen(text), used = 0;
	size_t cut = 0; // where "..." has room
	while (left > 0) {
		struct character c = get_character(text, left);
		char escape[16];
		const char *shown = text;
		size_t len = represent(&c, &shown, escape, mode);
		if (used + sizeof(end) <= size) {
			cut = used;
		}
		if (used + len >= size) {
			break;
		}
		memcpy(buffer + used, shown, len);
		used += len;
		text += c.len;
		left -= c.len;
	}
	if (left > 0) {
		memcpy(buffer + cut, end, sizeof(end));
	} else {
		buffer[used] = '\0';
	}
	leave_utf8(utf8, before);
	return buffer;
}

static void print_json_escape(FILE *file, const struct character *c) {
	if (!c->is_valid) {
		fprintf(file, "\\\\x%02x", c->code);
	} else if (c->code > 0xffff) {
		uint32_t rest = c->code - 0x10000;
		fprintf(file, "\\u%04x\\u%04x", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
	} else {
		fprintf(file, "\\u%04x", c->code);
	}
}

void visible_print_json(FILE *file, const char *json) {
	locale_t before, utf8 = enter_utf8(&before);
	size_t left = strlen(json);
	while (left > 0) {
		struct character c = get_character(json, left);
		// Of the controls of ASCII none but DEL is in strings that are correct
		bool is_structure = c.is_valid && c.code < 0x7f;
		if (c.is_shown || is_structure) {
			fwrite(json, 1, c.len, file);
		} else {
			print_json_escape(file, &c);
		}
		json += c.len;
		left -= c.len;
	}
	leave_utf8(utf8, before);
}
