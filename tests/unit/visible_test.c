/* SPDX-License-Identifier: MIT */
#include <json.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "visible.h"

static const struct {
	const char *name, *text, *plain, *quoted;
} texts[] = {
	{ "ascii", "a b-c~", "a b-c~", "a b-c~" },
	{ "words", "\u00e9\u4e16\u0440\u05d0\U0001f600", "\u00e9\u4e16\u0440\u05d0\U0001f600",
		"\u00e9\u4e16\u0440\u05d0\U0001f600" },
	{ "joiners", "\u200c\u200d", "\u200c\u200d", "\u200c\u200d" },
	{ "quotes", "\"\\", "\"\\", "\\u{22}\\u{5c}" },
	{ "c0", "\001\t\n\r\033[2J\037", "\\u{1}\\u{9}\\u{a}\\u{d}\\u{1b}[2J\\u{1f}",
		"\\u{1}\\u{9}\\u{a}\\u{d}\\u{1b}[2J\\u{1f}" },
	{ "del", "\177", "\\u{7f}", "\\u{7f}" },
	{ "c1", "\xc2\x80\xc2\x9b\xc2\x9f", "\\u{80}\\u{9b}\\u{9f}", "\\u{80}\\u{9b}\\u{9f}" },
	{ "marks", "\u200e\u200f\u061c", "\\u{200e}\\u{200f}\\u{61c}", "\\u{200e}\\u{200f}\\u{61c}" },
	{ "overrides", "\u202a\u202b\u202c\u202d\u202e",
		"\\u{202a}\\u{202b}\\u{202c}\\u{202d}\\u{202e}",
		"\\u{202a}\\u{202b}\\u{202c}\\u{202d}\\u{202e}" },
	{ "isolates", "\u2066\u2067\u2068\u2069", "\\u{2066}\\u{2067}\\u{2068}\\u{2069}",
		"\\u{2066}\\u{2067}\\u{2068}\\u{2069}" },
	{ "separators", "\u2028\u2029", "\\u{2028}\\u{2029}", "\\u{2028}\\u{2029}" },
	{ "no width", "\u00ad\u200b\u2060\ufeff", "\\u{ad}\\u{200b}\\u{2060}\\u{feff}",
		"\\u{ad}\\u{200b}\\u{2060}\\u{feff}" },
	{ "blank letters", "\u115f\u1160\u3164\uffa0", "\\u{115f}\\u{1160}\\u{3164}\\u{ffa0}",
		"\\u{115f}\\u{1160}\\u{3164}\\u{ffa0}" },
	{ "controls of scripts", "\u034f\u17b4\U00013430\U0001bca0\U0001d173",
		"\\u{34f}\\u{17b4}\\u{13430}\\u{1bca0}\\u{1d173}",
		"\\u{34f}\\u{17b4}\\u{13430}\\u{1bca0}\\u{1d173}" },
	{ "tags", "\U000e0041", "\\u{e0041}", "\\u{e0041}" },
	{ "unknown", "\u0378\U0010ffff", "\\u{378}\\u{10ffff}", "\\u{378}\\u{10ffff}" },
	{ "half a character", "\xe2\x80 \xf0\x9f\x98", "\\xe2\\x80 \\xf0\\x9f\\x98",
		"\\xe2\\x80 \\xf0\\x9f\\x98" },
	{ "stray bytes", "\x80\xff\xfe", "\\x80\\xff\\xfe", "\\x80\\xff\\xfe" },
	{ "overlong", "\xc0\xaf\xe0\x80\x8a", "\\xc0\\xaf\\xe0\\x80\\x8a", "\\xc0\\xaf\\xe0\\x80\\x8a" },
	{ "surrogates", "\xed\xa0\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80" },
	{ "beyond unicode", "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", "\\xf4\\x90\\x80\\x80" },
};

TEST_EACH(texts, what_a_terminal_would_obey_is_made_visible) {
	char buffer[256];
	check_str(visible_text(buffer, sizeof(buffer), param->text, VISIBLE_PLAIN), param->plain);
	check_str(visible_text(buffer, sizeof(buffer), param->text, VISIBLE_QUOTED), param->quoted);
	// Nothing is left to make visible
	char again[256];
	check_str(visible_text(again, sizeof(again), buffer, VISIBLE_PLAIN), buffer);
}

/** What json-c, and then a parser, makes of a text. */
static struct json_object *pass_through_json(const char *text, char **printed) {
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "text", json_object_new_string(text));
	size_t size;
	FILE *file = open_memstream(printed, &size);
	check(file != NULL);
	visible_print_json(file, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY));
	fclose(file);
	json_object_put(object);
	struct json_tokener *tokener = json_tokener_new();
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *parsed = json_tokener_parse_ex(tokener, *printed, (int)size);
	check(parsed != NULL);
	json_tokener_free(tokener);
	return parsed;
}

TEST_EACH(texts, json_loses_nothing_and_has_nothing_that_a_terminal_obeys) {
	char *printed, shown[1024];
	struct json_object *parsed = pass_through_json(param->text, &printed);
	const char *text = json_object_get_string(json_object_object_get(parsed, "text"));
	bool is_utf8 = strstr(param->plain, "\\x") == NULL;
	check_str(text, is_utf8 ? param->text : param->plain);
	for (char *c = printed; *c != '\0'; c++) {
		*c = *c == '\n' ? ' ' : *c; // json-c's own
	}
	check_str(visible_text(shown, sizeof(shown), printed, VISIBLE_PLAIN), printed);
	json_object_put(parsed);
	free(printed);
}

TEST(what_is_too_long_is_cut_between_characters) {
	char buffer[12];
	check_str(visible_text(buffer, sizeof(buffer), "0123456789a", VISIBLE_PLAIN), "0123456789a");
	check_str(visible_text(buffer, sizeof(buffer), "0123456789ab", VISIBLE_PLAIN), "01234567...");
	check_str(visible_text(buffer, sizeof(buffer), "0123456\u00e9\u00e9\u00e9", VISIBLE_PLAIN),
		"0123456...");
	check_str(visible_text(buffer, sizeof(buffer), "0123456\n\n", VISIBLE_PLAIN), "0123456...");
	check_str(visible_text(buffer, 4, "abc", VISIBLE_PLAIN), "abc");
	check_str(visible_text(buffer, 4, "\n", VISIBLE_PLAIN), "...");
	check_str(visible_text(buffer, 4, "", VISIBLE_PLAIN), "");
}

TEST(locale_of_the_program_does_not_matter_and_stays) {
	char buffer[64];
	check(setlocale(LC_ALL, "C") != NULL);
	locale_t before = uselocale((locale_t)0);
	check_str(visible_text(buffer, sizeof(buffer), "\u00e9\u202e", VISIBLE_PLAIN), "\u00e9\\u{202e}");
	check(uselocale((locale_t)0) == before);
}
