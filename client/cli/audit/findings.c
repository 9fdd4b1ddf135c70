/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"

static const char *const result_names[] = {
	[RESULT_REFUSED] = "refused",
	[RESULT_ALLOWED] = "allowed",
	[RESULT_NOT_APPLICABLE] = "not applicable",
	[RESULT_INCONCLUSIVE] = "inconclusive",
};

void findings_finish(struct findings *findings) {
	free(findings->list);
	findings->list = NULL;
	findings->len = 0;
}

struct finding *findings_add(struct findings *findings, unsigned row, const char *attack,
		enum result expected) {
	struct finding *list = reallocarray(findings->list, findings->len + 1, sizeof(*list));
	if (list == NULL) {
		exit(cli_fail("out of memory"));
	}
	findings->list = list;
	struct finding *finding = &list[findings->len++];
	*finding = (struct finding){ .row = row, .expected = expected };
	snprintf(finding->attack, sizeof(finding->attack), "%s", attack);
	return finding;
}

void finding_set(struct finding *finding, enum result result, const char *format, ...) {
	finding->result = result;
	va_list args;
	va_start(args, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, args);
	va_end(args);
}

struct finding *findings_add_attack(struct findings *findings, const struct attack *attack,
		const struct drm_node *node) {
	bool refused = attack->refused & findings->guarantee;
	bool allowed = attack->allowed & findings->guarantee;
	struct finding *finding = findings_add(findings, attack->row, attack->name,
		refused ? RESULT_REFUSED : allowed ? RESULT_ALLOWED : RESULT_NOT_APPLICABLE);
	if (node != NULL) {
		snprintf(finding->attack, sizeof(finding->attack), "%.60s (%s)", attack->name,
			node->name);
	}
	if (!refused && !allowed) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the view is %s, a %s",
			vitrine_guarantee_name(findings->guarantee),
			vitrine_storage_name(findings->storage));
		return NULL;
	}
	return finding;
}

/** Whether an error says that the kernel refused, rather than that something broke. */
static bool is_refusal(int error) {
	switch (-error) {
	case EACCES:
	case EPERM:
	case EBADF:
	case EFAULT:
	case EIO:
	case EINVAL:
	case ENXIO:
	case EBUSY:
	case ENOSYS: // of an exporter, such as bochs, that lets no device in
	case ENOTTY:
	case EOPNOTSUPP:
	case ENODEV:
	case ESPIPE:
		return true;
	}
	return false;
}

void finding_set_error(struct finding *finding, int error, const char *detail) {
	if (is_refusal(error)) {
		finding_set(finding, RESULT_REFUSED, "%s%s%s", strerrorname_np(-error),
			detail != NULL ? ": " : "", detail != NULL ? detail : "");
	} else {
		finding_set(finding, RESULT_INCONCLUSIVE, "it failed, but not for lack of permission: %s",
			strerror(-error));
	}
}

/** Where the attack fails on memory that can be written, its refusal would prove nothing. */
static void conclude_without_control(struct finding *finding, const struct attack *attack,
		int control, const char *detail) {
	if (control == ATTACK_UNAVAILABLE) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "%s", detail);
	} else if (control == ATTACK_HARMLESS) {
		// With bounce buffers, some drivers undo at the end what was written
		finding_set(finding, attack->flags & ATTACK_UP_TO_DRIVERS ? RESULT_NOT_APPLICABLE :
			RESULT_INCONCLUSIVE, "on our own memory it has no effect");
	} else if ((attack->flags & ATTACK_UP_TO_DRIVERS) && is_refusal(control)) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "no driver does that, not even to a dma-buf "
			"that can be written: %s", strerrorname_np(-control));
	} else {
		finding_set(finding, RESULT_INCONCLUSIVE, "%s: %s",
			detail != NULL ? detail : "it does not even work on our own memory",
			strerror(-control));
	}
}

void finding_conclude(struct finding *finding, const struct attack *attack, int control,
		const char *control_detail, int ret, const char *detail) {
	if (ret == ATTACK_WORKED) {
		// Also if the control says otherwise
		finding_set(finding, RESULT_ALLOWED, "%s", detail != NULL ? detail : "it worked");
	} else if (control != ATTACK_WORKED) {
		conclude_without_control(finding, attack, control, control_detail);
	} else if (ret == ATTACK_UNAVAILABLE) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "%s", detail);
	} else if (ret == ATTACK_HARMLESS) {
		finding_set(finding, RESULT_REFUSED, "%s", detail);
	} else {
		finding_set_error(finding, ret, detail);
	}
}

/** The promise is kept if nothing that it excludes works, and that was shown. */
static bool finding_is_broken(const struct finding *finding) {
	return finding->expected == RESULT_REFUSED && finding->result == RESULT_ALLOWED;
}

static bool finding_is_better(const struct finding *finding) {
	return finding->expected == RESULT_ALLOWED && finding->result == RESULT_REFUSED;
}

static void tally_add(struct tally *tally, const struct finding *finding) {
	if (finding_is_broken(finding)) {
		tally->broken++;
	} else if (finding->result == RESULT_INCONCLUSIVE) {
		tally->inconclusive++;
	} else if (finding->result == RESULT_NOT_APPLICABLE) {
		tally->not_applicable++;
	} else if (finding_is_better(finding)) {
		tally->better++;
	} else {
		tally->ok++;
	}
}

void findings_count(const struct findings *findings, struct tally *tally) {
	for (size_t i = 0; i < findings->len; i++) {
		tally_add(tally, &findings->list[i]);
	}
}

static const char *get_mark(const struct finding *finding) {
	struct tally tally = {0};
	tally_add(&tally, finding);
	return tally.broken ? "BROKEN" : tally.inconclusive ? "?" : tally.better ? "note" :
		tally.not_applicable ? "-" : "ok";
}

static void print_counts(const struct tally *tally) {
	printf(": %zu ok", tally->ok);
	if (tally->better > 0) {
		printf(", %zu better than promised", tally->better);
	}
	if (tally->not_applicable > 0) {
		printf(", %zu not applicable", tally->not_applicable);
	}
	if (tally->inconclusive > 0) {
		printf(", %zu inconclusive", tally->inconclusive);
	}
	if (tally->broken > 0) {
		printf(", %zu BROKEN", tally->broken);
	}
	puts("");
}

void findings_print(const struct findings *findings, bool verbose) {
	struct tally tally = {0};
	findings_count(findings, &tally);
	if (findings->backend != NULL) {
		printf("%s of %s, ", findings->backend, findings->exporter);
	}
	printf("%s in a %s", vitrine_guarantee_name(findings->guarantee),
		vitrine_storage_name(findings->storage));
	print_counts(&tally);
	for (size_t i = 0; i < findings->len; i++) {
		const struct finding *finding = &findings->list[i];
		struct tally one = {0};
		tally_add(&one, finding);
		if (verbose || (one.ok == 0 && one.not_applicable == 0)) {
			printf("%2u  %-6s %-62s %-14s %s\n", finding->row, get_mark(finding),
				finding->attack, result_names[finding->result], finding->detail);
		}
	}
}

static void add_string(struct json_object *object, const char *key, const char *value) {
	json_object_object_add(object, key, json_object_new_string(value));
}

void findings_add_json(const struct findings *findings, struct json_object *list, bool flat) {
	for (size_t i = 0; i < findings->len; i++) {
		const struct finding *finding = &findings->list[i];
		struct json_object *object = json_object_new_object();
		if (flat && findings->backend != NULL) {
			add_string(object, "backend", findings->backend);
			add_string(object, "exporter", findings->exporter);
			add_string(object, "guarantee", vitrine_guarantee_name(findings->guarantee));
		}
		json_object_object_add(object, "row", json_object_new_int((int32_t)finding->row));
		add_string(object, "attack", finding->attack);
		add_string(object, "expected", result_names[finding->expected]);
		add_string(object, "result", result_names[finding->result]);
		add_string(object, "detail", finding->detail);
		json_object_array_add(list, object);
	}
}
