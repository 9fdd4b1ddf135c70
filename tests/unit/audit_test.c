/* SPDX-License-Identifier: MIT */
/* The judge of `vitrine audit`: what it must notice, and what it must not believe. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audit.h"
#include "harness.h"

static const struct exporter memfd_exporter = { EXPORTER_MEMFD, "memfd", NULL };

struct fixture {
	struct vitrine_derive *derive;
	struct memory memory;
	struct target target; // writable
	struct attack attack;
};

struct fixture_options {
	struct attack attack;
};

static void fixture_set_up(struct fixture *f, const struct fixture_options *options) {
	*f = (struct fixture){ .attack = options->attack };
	f->derive = vitrine_derive_create();
	check(f->derive != NULL);
	check_int(memory_init(&f->memory, &memfd_exporter, 1, false, f->derive), ==, 0);
	check_int(target_init(&f->target, f->memory.memfd, f->memory.len,
		PROT_READ | PROT_WRITE, VITRINE_STORAGE_MEMFD), ==, 0);
}

static void fixture_tear_down(struct fixture *f) {
	target_finish(&f->target);
	memory_finish(&f->memory);
	vitrine_derive_destroy(f->derive);
}

static int write_and_say_so(const struct target *target, const char **detail) {
	attack_poke(target, target->map);
	return ATTACK_WORKED;
}

static int write_and_deny(const struct target *target, const char **detail) {
	attack_poke(target, target->map);
	return -EACCES;
}

static int boast(const struct target *target, const char **detail) {
	return ATTACK_WORKED;
}

static int fail(const struct target *target, const char **detail) {
	return -EACCES;
}

static int resize(const struct target *target, const char **detail) {
	return ftruncate(target->fd, (off_t)target->len * 2) == 0 ? -EPERM : ATTACK_WORKED;
}

static int seal(const struct target *target, const char **detail) {
	return fcntl(target->fd, F_ADD_SEALS, F_SEAL_GROW) == 0 ? -EPERM : ATTACK_WORKED;
}

TEST_PARAMS(fixture, attacks, int verdict) = {
	{ "write and say so", {{ .run = write_and_say_so }}, ATTACK_WORKED },
	{ "write and deny", {{ .run = write_and_deny }}, ATTACK_WORKED },
	{ "boast", {{ .run = boast }}, ATTACK_HARMLESS },
	{ "boast of a claim", {{ .run = boast, .flags = ATTACK_CLAIM }}, ATTACK_WORKED },
	{ "fail", {{ .run = fail }}, -EACCES },
	{ "fail to claim", {{ .run = fail, .flags = ATTACK_CLAIM }}, -EACCES },
	{ "resize", {{ .run = resize }}, ATTACK_WORKED },
	{ "seal", {{ .run = seal }}, ATTACK_WORKED },
};

TEST_WITH_EACH(fixture, attacks, the_owner_is_the_judge) {
	const char *detail = NULL;
	check_int(memory_judge(&f->memory, &f->attack, &f->target, &detail), ==, param->verdict);
}

/** The copy is nobody's but the holders', and shared by them. */
TEST_WITH(fixture, a_changed_copy_is_noticed, .attack.run = write_and_say_so) {
	struct memory copy;
	check_int(memory_init(&copy, &memfd_exporter, 1, false, f->derive), ==, 0);
	const char *detail = NULL;
	check_int(memory_judge(&copy, &f->attack, &f->target, &detail), ==, ATTACK_WORKED);
	memory_finish(&copy);
}

TEST_WITH(fixture, every_attack_works_on_memory_that_can_be_written) {
	size_t worked = 0;
	for (size_t i = 0; i < file_attacks_len; i++) {
		const char *detail = NULL;
		int ret = memory_control(&memfd_exporter, 4 * audit_round_to_pages(1), f->derive,
			&file_attacks[i], NULL, &detail);
		if (ret != ATTACK_WORKED && ret != ATTACK_UNAVAILABLE) {
			harness_fail(__FILE__, __LINE__, "%s: %s", file_attacks[i].name, strerror(-ret));
		}
		worked += ret == ATTACK_WORKED;
	}
	check_int(worked, >=, file_attacks_len - 4);
}

static enum result conclude(unsigned flags, int control, int ret) {
	const struct attack attack = { .flags = flags };
	struct finding finding = {0};
	finding_conclude(&finding, &attack, control, "why", ret, "how");
	return finding.result;
}

TEST(a_refusal_needs_a_control) {
	check_int(conclude(0, ATTACK_WORKED, -EACCES), ==, RESULT_REFUSED);
	check_int(conclude(0, -EACCES, -EACCES), ==, RESULT_INCONCLUSIVE);
	check_int(conclude(0, ATTACK_HARMLESS, -EACCES), ==, RESULT_INCONCLUSIVE);
	check_int(conclude(0, ATTACK_UNAVAILABLE, -EACCES), ==, RESULT_NOT_APPLICABLE);
	check_int(conclude(ATTACK_UP_TO_DRIVERS, -EACCES, -EACCES), ==, RESULT_NOT_APPLICABLE);
	check_int(conclude(ATTACK_UP_TO_DRIVERS, -ENOSYS, -ENOSYS), ==, RESULT_NOT_APPLICABLE);
	check_int(conclude(ATTACK_UP_TO_DRIVERS, ATTACK_HARMLESS, -EACCES), ==, RESULT_NOT_APPLICABLE);
	check_int(conclude(ATTACK_UP_TO_DRIVERS, -ENOMEM, -EACCES), ==, RESULT_INCONCLUSIVE);
	check_int(conclude(0, ATTACK_WORKED, ATTACK_HARMLESS), ==, RESULT_REFUSED);
	check_int(conclude(0, ATTACK_WORKED, ATTACK_UNAVAILABLE), ==, RESULT_NOT_APPLICABLE);
	// Something broke: that says nothing about permission
	check_int(conclude(0, ATTACK_WORKED, -ENOMEM), ==, RESULT_INCONCLUSIVE);
	check_int(conclude(0, ATTACK_WORKED, -EMFILE), ==, RESULT_INCONCLUSIVE);
	// A success needs none
	check_int(conclude(0, -EACCES, ATTACK_WORKED), ==, RESULT_ALLOWED);
	check_int(conclude(0, ATTACK_UNAVAILABLE, ATTACK_WORKED), ==, RESULT_ALLOWED);
}

TEST(findings_are_counted) {
	static const struct {
		enum result expected, result;
	} cases[] = {
		{ RESULT_REFUSED, RESULT_REFUSED }, { RESULT_ALLOWED, RESULT_ALLOWED },
		{ RESULT_REFUSED, RESULT_ALLOWED }, { RESULT_ALLOWED, RESULT_REFUSED },
		{ RESULT_REFUSED, RESULT_NOT_APPLICABLE }, { RESULT_ALLOWED, RESULT_INCONCLUSIVE },
	};
	struct findings findings = { .guarantee = VITRINE_GUARANTEE_SEALED };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		finding_set(findings_add(&findings, 1, "attack", cases[i].expected), cases[i].result, "-");
	}
	struct tally tally = {0};
	findings_count(&findings, &tally);
	check_int(tally.ok, ==, 2);
	check_int(tally.broken, ==, 1);
	check_int(tally.better, ==, 1);
	check_int(tally.not_applicable, ==, 1);
	check_int(tally.inconclusive, ==, 1);
	findings_finish(&findings);
}

/** What is found if a backend hands out the original. */
TEST_WITH(fixture, a_view_that_can_be_written_breaks_every_promise) {
	struct findings findings = { .guarantee = VITRINE_GUARANTEE_SEALED };
	for (size_t i = 0; i < file_attacks_len; i++) {
		struct finding *finding = findings_add_attack(&findings, &file_attacks[i], NULL);
		check(finding != NULL);
		const char *detail = NULL;
		int ret = memory_control(&memfd_exporter, 4 * audit_round_to_pages(1), f->derive,
			&file_attacks[i], NULL, &detail);
		finding_conclude(finding, &file_attacks[i], ret, detail, ret, detail);
	}
	struct tally tally = {0};
	findings_count(&findings, &tally);
	check_int(tally.broken + tally.not_applicable, ==, file_attacks_len);
	check_int(tally.broken, >=, file_attacks_len - 4);
	findings_finish(&findings);
}

TEST_WITH(fixture, this_machine_keeps_its_promises) {
	harness_set_timeout(60);
	struct machine_audit audit = { .derive = f->derive, .acceptable = VITRINE_GUARANTEE_ALL };
	setenv("VITRINE_BACKENDS", "what,was,set", 1);
	machine_audit_run(&audit);
	check_str(getenv("VITRINE_BACKENDS"), "what,was,set");
	check(machine_audit_has_exercised(&audit, "sealed"));
	check(machine_audit_has_exercised(&audit, "snapshot"));
	size_t len;
	const struct vitrine_derive_backend_info *infos =
		vitrine_derive_get_backends(f->derive, &len);
	for (size_t i = 0; i < len; i++) {
		check_int(machine_audit_has_exercised(&audit, infos[i].name), ==, infos[i].available);
	}
	for (size_t i = 0; i < audit.n_blocks; i++) {
		struct tally tally = {0};
		findings_count(&audit.blocks[i], &tally);
		check_int(tally.broken, ==, 0);
		check_int(tally.inconclusive, ==, 0);
	}
	machine_audit_finish(&audit);
}

/** Where there is a fence to try it with: it is awaited until it is finished. */
TEST_WITH(fixture, a_fence_is_awaited) {
	struct exporter exporters[MAX_EXPORTERS];
	struct fence fence;
	struct memory memory;
	size_t len = audit_find_exporters(f->derive, exporters);
	if (len < 2 || fence_init(&fence) < 0) {
		harness_skip("no dma-bufs, or neither SW_SYNC nor vgem");
	}
	check_int(memory_init(&memory, &exporters[1], 1, false, f->derive), ==, 0);
	check(!fence_is_awaited(memory.dmabuf_fd));
	check_int(fence_import(&fence, memory.dmabuf_fd), ==, 0);
	check(fence_is_awaited(memory.dmabuf_fd));
	fence_finish(&fence);
	check(!fence_is_awaited(memory.dmabuf_fd));
	memory_finish(&memory);
}
