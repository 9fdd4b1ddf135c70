/* SPDX-License-Identifier: MIT */
/* Made-up policy files: each is either refused with one clear line, or decides. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <vitrine/derive.h>

#include "fuzz.h"
#include "rules.h"

static const struct rules_verdict all = { VITRINE_GUARANTEE_ALL, VITRINE_STORAGE_ALL };

static void check_error(const struct rules_error *error) {
	size_t len = strnlen(error->text, sizeof(error->text));
	fuzz_must(len > 0 && len < sizeof(error->text));
	fuzz_must(strncmp(error->text, "fuzz.json:", strlen("fuzz.json:")) == 0);
	for (size_t i = 0; i < len; i++) {
		fuzz_must(!iscntrl((unsigned char)error->text[i]));
	}
}

/** Some clients: nothing but what there is may be given, and the same each time. */
static void check_verdicts(const struct rules *rules) {
	static const struct rules_request requests[] = {
		{ .executable = "/usr/bin/obs", .uid = 1000, .source = "HEADLESS-1" },
		{ .executable = NULL, .uid = 0, .source = NULL },
		{ .executable = "/usr/bin/grim", .uid = 65534, .any_source = true },
		{ .sandboxed = true, .engine = "org.flatpak", .app_id = "com.obsproject.Studio",
			.uid = 1000, .source = "window:foot" },
		{ .sandboxed = true, .uid = 1000 },
	};
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct rules_verdict verdict = rules_decide(rules, &requests[i], all);
		fuzz_must((verdict.guarantees & ~(uint32_t)VITRINE_GUARANTEE_ALL) == 0);
		fuzz_must((verdict.storages & ~(uint32_t)VITRINE_STORAGE_ALL) == 0);
		struct rules_verdict again = rules_decide(rules, &requests[i], all);
		fuzz_must(again.guarantees == verdict.guarantees && again.storages == verdict.storages);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
	struct rules_error error = {0};
	// Of its own size, so that one byte beyond it is seen
	char *text = malloc(len > 0 ? len : 1);
	fuzz_must(text != NULL);
	memcpy(text, data, len);
	struct rules *rules = rules_parse("fuzz.json", text, len, &error);
	free(text); // the rules are to live on
	fuzz_must(len <= RULES_SIZE_CAP || rules == NULL);
	if (rules == NULL) {
		check_error(&error);
	} else {
		fuzz_must(error.text[0] == '\0');
		check_verdicts(rules);
	}
	rules_destroy(rules);
	return 0;
}
