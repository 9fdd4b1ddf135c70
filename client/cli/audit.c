/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <linux/dma-heap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audit.h"
#include "cli.h"

#define MAX_FINDINGS 64
/** Views of the first session that are kept after its end. */
#define MAX_KEPT 4
/** Changes of the screen that must not show in them. */
#define MIN_CHANGES 5
/** How long to collect views before, in seconds. */
#define COLLECT_SECONDS 0.5

enum result {
	RESULT_REFUSED,
	RESULT_ALLOWED,
	RESULT_NOT_APPLICABLE,
	RESULT_INCONCLUSIVE,
};

static const char *const result_names[] = {
	[RESULT_REFUSED] = "refused",
	[RESULT_ALLOWED] = "allowed",
	[RESULT_NOT_APPLICABLE] = "not applicable",
	[RESULT_INCONCLUSIVE] = "inconclusive",
};

struct finding {
	unsigned row;
	const char *attack;
	enum result expected, result;
	char detail[160];
};

/** A view that outlives its session: a file descriptor and mapping of our own. */
struct kept {
	struct target target;
	uint32_t index;
	uint64_t sum; // when last looked at
	bool live; // later frames have shown in it while the session ran
};

struct audit {
	struct cli cli;
	struct vitrine_output *output;
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	struct vitrine_derive *derive;
	double seconds; // how long to wait for the screen to change
	struct kept kept[MAX_KEPT];
	size_t n_kept;
	struct finding findings[MAX_FINDINGS];
	size_t n_findings;
};

static struct finding *audit_add(struct audit *audit, unsigned row, const char *attack,
		enum result expected) {
	struct finding *finding = &audit->findings[audit->n_findings++];
	*finding = (struct finding){ .row = row, .attack = attack, .expected = expected };
	return finding;
}

static void finding_set(struct finding *finding, enum result result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void finding_set(struct finding *finding, enum result result, const char *format, ...) {
	finding->result = result;
	va_list args;
	va_start(args, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, args);
	va_end(args);
}

static size_t round_to_pages(size_t len) {
	size_t mask = (size_t)sysconf(_SC_PAGESIZE) - 1;
	return (len + mask) & ~mask;
}

static void target_finish(struct target *target) {
	if (target->map != NULL) {
		munmap(target->map, target->len);
	}
	if (target->fd >= 0) {
		close(target->fd);
	}
	*target = (struct target){ .fd = -1 };
}

static int target_map(struct target *target, int prot) {
	char *map = mmap(NULL, target->len, prot, MAP_SHARED, target->fd, 0);
	if (map == MAP_FAILED) {
		int ret = -errno;
		target_finish(target);
		return ret;
	}
	target->map = map;
	return 0;
}

/** Takes a file descriptor and mapping of the frame's memory that are our own. */
static int target_init_view(struct target *target, const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	*target = (struct target){
		.fd = fcntl(info->fds[0], F_DUPFD_CLOEXEC, 3),
		.storage = info->storage,
		.len = round_to_pages(info->offsets[0] + (size_t)info->strides[0] * info->height),
	};
	if (target->fd < 0) {
		return -errno;
	}
	// The last row may be shorter than its stride
	off_t end = lseek(info->fds[0], 0, SEEK_END);
	if (end > 0 && (uint64_t)end < target->len) {
		target->len = round_to_pages((size_t)end);
	}
	return target_map(target, PROT_READ);
}

static int allocate_from_heap(size_t len) {
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (heap < 0) {
		return -errno;
	}
	struct dma_heap_allocation_data data = { .len = len, .fd_flags = O_RDWR | O_CLOEXEC };
	int ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -errno : (int)data.fd;
	close(heap);
	return ret;
}

static int allocate_dmabuf(struct audit *audit, size_t len) {
	int memfd = vitrine_memfd_create(len);
	if (memfd < 0) {
		return memfd;
	}
	int fd = vitrine_udmabuf_create(audit->derive, memfd, len);
	close(memfd);
	return fd >= 0 ? fd : allocate_from_heap(len);
}

/** Memory of our own, that every attack should be able to write. */
static int target_init_own(struct target *target, struct audit *audit,
		enum attack_control control, size_t len) {
	bool dmabuf = control == CONTROL_DMABUF ||
		(control == CONTROL_SAME && audit->storage == VITRINE_STORAGE_DMABUF);
	*target = (struct target){
		.fd = dmabuf ? allocate_dmabuf(audit, len) : vitrine_memfd_create(len),
		.storage = dmabuf ? VITRINE_STORAGE_DMABUF : VITRINE_STORAGE_MEMFD,
		.len = len,
	};
	if (target->fd < 0) {
		int ret = target->fd;
		target->fd = -1;
		return ret;
	}
	return target_map(target, PROT_READ | PROT_WRITE);
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
	case ENOTTY:
	case EOPNOTSUPP:
	case ENODEV:
	case ESPIPE:
		return true;
	}
	return false;
}

/**
 * Runs the attack on memory that can be written: without its success, a refusal
 * proves nothing. Returns whether it is worth running it on the view.
 */
static bool audit_control(struct audit *audit, const struct attack *attack, size_t len,
		struct finding *finding) {
	struct target own;
	int ret = target_init_own(&own, audit, attack->control, len);
	if (ret < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no memory of our own to try it on first: %s",
			strerror(-ret));
		return false;
	}
	const char *detail = NULL;
	ret = attack->run(&own, &detail);
	target_finish(&own);
	if (ret == ATTACK_UNAVAILABLE) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "%s", detail);
	} else if (ret < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "it does not even work on our own memory: %s",
			strerror(-ret));
	}
	return ret == ATTACK_WORKED;
}

static void audit_attack(struct audit *audit, const struct attack *attack,
		const struct target *view) {
	bool refused = attack->refused & audit->guarantee;
	bool allowed = attack->allowed & audit->guarantee;
	struct finding *finding = audit_add(audit, attack->row, attack->name,
		refused ? RESULT_REFUSED : allowed ? RESULT_ALLOWED : RESULT_NOT_APPLICABLE);
	if (!refused && !allowed) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the view is %s, a %s",
			vitrine_guarantee_name(audit->guarantee), vitrine_storage_name(audit->storage));
		return;
	}
	if (!audit_control(audit, attack, view->len, finding)) {
		return;
	}
	const char *detail = NULL;
	int ret = attack->run(view, &detail);
	if (ret == ATTACK_WORKED) {
		finding_set(finding, RESULT_ALLOWED, "it worked");
	} else if (ret == ATTACK_UNAVAILABLE) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "%s", detail);
	} else if (is_refusal(ret)) {
		finding_set(finding, RESULT_REFUSED, "%s%s%s", strerrorname_np(-ret),
			detail != NULL ? ": " : "", detail != NULL ? detail : "");
	} else {
		finding_set(finding, RESULT_INCONCLUSIVE, "it failed, but not for lack of permission: %s",
			strerror(-ret));
	}
}

/** FNV-1a over words: any change shows. */
static uint64_t get_sum(const char *data, size_t len) {
	uint64_t sum = 0xcbf29ce484222325, word;
	for (size_t i = 0; i + sizeof(word) <= len; i += sizeof(word)) {
		memcpy(&word, data + i, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3;
	}
	return sum;
}

static uint64_t get_frame_sum(const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	const char *pixels = vitrine_frame_get_pixels(frame, 0);
	// The last row may be shorter than its stride
	return get_sum(pixels, (size_t)info->strides[0] * (info->height - 1));
}

/** Keeps the memory of a frame, or sees whether it changes in what is kept. */
static int audit_keep(struct audit *audit, const struct vitrine_frame *frame) {
	uint32_t index = vitrine_frame_get_info(frame)->view_index;
	for (size_t i = 0; i < audit->n_kept; i++) {
		struct kept *kept = &audit->kept[i];
		if (kept->index == index) {
			uint64_t sum = get_sum(kept->target.map, kept->target.len);
			kept->live |= sum != kept->sum;
			kept->sum = sum;
			return 0;
		}
	}
	if (audit->n_kept == MAX_KEPT) {
		return 0;
	}
	struct kept *kept = &audit->kept[audit->n_kept];
	int ret = target_init_view(&kept->target, frame);
	if (ret < 0) {
		return ret;
	}
	kept->index = index;
	kept->sum = get_sum(kept->target.map, kept->target.len);
	audit->n_kept++;
	return 0;
}

/**
 * Collects views of the running session. Where frames may overlap, each is held
 * until the next one has come, so that there is more than one buffer to see.
 * Returns 0 or a negative errno.
 */
static int audit_collect(struct audit *audit, struct vitrine_session *session,
		struct vitrine_frame *frame) {
	bool overlap = vitrine_session_get_depth(session) > 1;
	double end = cli_now() + COLLECT_SECONDS;
	int ret = audit_keep(audit, frame);
	while (ret == 0 && cli_now() < end) {
		if (!overlap) {
			vitrine_frame_release(frame);
			frame = NULL;
		}
		struct vitrine_frame *next;
		ret = cli_next_frame(session, (int)((end - cli_now()) * 1000) + 1, &next);
		if (ret <= 0) {
			break;
		}
		vitrine_frame_release(frame);
		frame = next;
		ret = audit_keep(audit, frame);
	}
	vitrine_frame_release(frame);
	return ret;
}

/** The first kept view that has changed, or NULL. */
static const struct kept *audit_find_change(const struct audit *audit) {
	for (size_t i = 0; i < audit->n_kept; i++) {
		const struct kept *kept = &audit->kept[i];
		if (get_sum(kept->target.map, kept->target.len) != kept->sum) {
			return kept;
		}
	}
	return NULL;
}

static size_t audit_count_live(const struct audit *audit) {
	size_t n = 0;
	for (size_t i = 0; i < audit->n_kept; i++) {
		n += audit->kept[i].live;
	}
	return n;
}

/**
 * Watches a new session until its pictures have changed often enough. Returns
 * the number of changes, or a negative errno. The first frame comes after the
 * compositor has ended the old session: what is kept must not change from then.
 */
static int audit_watch(struct audit *audit, struct vitrine_session *session) {
	double end = cli_now() + audit->seconds;
	int changes = 0;
	bool first = true;
	uint64_t last_sum = 0;
	while (changes < MIN_CHANGES && cli_now() < end) {
		struct vitrine_frame *frame;
		int ret = cli_next_frame(session, (int)((end - cli_now()) * 1000) + 1, &frame);
		if (ret <= 0) {
			return ret < 0 ? ret : changes;
		}
		uint64_t sum = get_frame_sum(frame);
		vitrine_frame_release(frame);
		changes += !first && sum != last_sum;
		for (size_t i = 0; first && i < audit->n_kept; i++) {
			audit->kept[i].sum = get_sum(audit->kept[i].target.map, audit->kept[i].target.len);
		}
		first = false;
		last_sum = sum;
	}
	return changes;
}

static void audit_later_content(struct audit *audit) {
	struct finding *finding = audit_add(audit, 15,
		"see later content in a view that was kept after its session", RESULT_REFUSED);
	struct vitrine_session *session = cli_create_session(&audit->cli, NULL);
	if (session == NULL) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no second session could be made");
		return;
	}
	int ret = audit_watch(audit, session);
	const struct kept *changed = audit_find_change(audit);
	if (ret < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "the second session failed: %s",
			ret == -EINTR ? "interrupted" : vitrine_client_get_error(audit->cli.client));
	} else if (changed != NULL) {
		finding_set(finding, RESULT_ALLOWED, "the kept view %u has changed", changed->index);
	} else if (ret < MIN_CHANGES) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the screen is static");
	} else {
		finding_set(finding, RESULT_REFUSED,
			"the screen changed %d times, none of %zu kept views did (%zu did before)", ret,
			audit->n_kept, audit_count_live(audit));
	}
	vitrine_session_destroy(session);
}

static int read_all(const struct target *target) {
	volatile char sink;
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < target->len; i += page_size) {
		sink = target->map[i];
	}
	(void)sink;
	return 0;
}

/** Shows that a reader of memory that shrinks would be noticed. */
static bool control_sigbus(struct audit *audit, size_t len) {
	struct target own;
	if (target_init_own(&own, audit, CONTROL_MEMFD, len) < 0) {
		return false;
	}
	bool whole = audit_run_in_child(read_all, &own) == 0;
	bool broken = ftruncate(own.fd, 0) == 0 && audit_run_in_child(read_all, &own) == -EFAULT;
	target_finish(&own);
	return whole && broken;
}

/** Its session is over: the output may do with its buffers what it does on a resize. */
static void audit_sigbus(struct audit *audit) {
	struct finding *finding = audit_add(audit, 17,
		"SIGBUS in a reader of a view that was retired", RESULT_REFUSED);
	if (!control_sigbus(audit, audit->kept[0].target.len)) {
		finding_set(finding, RESULT_INCONCLUSIVE, "a SIGBUS of our own was not noticed");
		return;
	}
	for (size_t i = 0; i < audit->n_kept; i++) {
		int ret = audit_run_in_child(read_all, &audit->kept[i].target);
		if (ret < 0) {
			finding_set(finding, ret == -EFAULT ? RESULT_ALLOWED : RESULT_INCONCLUSIVE,
				"reading view %u: %s", audit->kept[i].index, strerror(-ret));
			return;
		}
	}
	finding_set(finding, RESULT_REFUSED, "every page of %zu retired views was read",
		audit->n_kept);
}

/** Returns an exit status. */
static int audit_session(struct audit *audit) {
	struct vitrine_session *session = cli_create_session(&audit->cli, &audit->output);
	if (session == NULL) {
		return EXIT_FAILURE;
	}
	struct vitrine_frame *frame = cli_first_frame(&audit->cli, session);
	if (frame == NULL) {
		return EXIT_FAILURE;
	}
	audit->guarantee = vitrine_frame_get_info(frame)->guarantee;
	audit->storage = vitrine_frame_get_info(frame)->storage;

	struct target view;
	int ret = target_init_view(&view, frame);
	if (ret < 0) {
		return cli_fail("the view cannot be mapped: %s", strerror(-ret));
	}
	for (size_t i = 0; i < attacks_len && !cli_interrupted; i++) {
		audit_attack(audit, &attacks[i], &view);
	}
	target_finish(&view);

	ret = audit_collect(audit, session, frame);
	if (ret < 0 && ret != -EINTR) {
		return cli_fail_client(&audit->cli, ret);
	}
	vitrine_session_destroy(session);
	audit_later_content(audit);
	audit_sigbus(audit);
	return cli_interrupted ? cli_fail("interrupted") : EXIT_SUCCESS;
}

static bool finding_is_broken(const struct finding *finding) {
	return finding->expected == RESULT_REFUSED && finding->result == RESULT_ALLOWED;
}

static size_t audit_count(const struct audit *audit, bool (*is)(const struct finding *finding)) {
	size_t n = 0;
	for (size_t i = 0; i < audit->n_findings; i++) {
		n += is(&audit->findings[i]);
	}
	return n;
}

static bool finding_is_inconclusive(const struct finding *finding) {
	return finding->result == RESULT_INCONCLUSIVE;
}

static bool finding_is_better(const struct finding *finding) {
	return finding->expected == RESULT_ALLOWED && finding->result == RESULT_REFUSED;
}

static struct json_object *make_finding_json(const struct finding *finding) {
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "row", json_object_new_int((int32_t)finding->row));
	json_object_object_add(object, "attack", json_object_new_string(finding->attack));
	json_object_object_add(object, "expected",
		json_object_new_string(result_names[finding->expected]));
	json_object_object_add(object, "result", json_object_new_string(result_names[finding->result]));
	json_object_object_add(object, "detail", json_object_new_string(finding->detail));
	return object;
}

static int audit_print_json(const struct audit *audit) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < audit->n_findings; i++) {
		json_object_array_add(list, make_finding_json(&audit->findings[i]));
	}
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "output",
		json_object_new_string(vitrine_output_get_name(audit->output)));
	json_object_object_add(object, "guarantee",
		json_object_new_string(vitrine_guarantee_name(audit->guarantee)));
	json_object_object_add(object, "storage",
		json_object_new_string(vitrine_storage_name(audit->storage)));
	json_object_object_add(object, "broken",
		json_object_new_uint64(audit_count(audit, finding_is_broken)));
	json_object_object_add(object, "inconclusive",
		json_object_new_uint64(audit_count(audit, finding_is_inconclusive)));
	json_object_object_add(object, "audit", list);
	return cli_print_json(object);
}

static int audit_print_text(const struct audit *audit) {
	printf("%s: %s in a %s\n", vitrine_output_get_name(audit->output),
		vitrine_guarantee_name(audit->guarantee), vitrine_storage_name(audit->storage));
	for (size_t i = 0; i < audit->n_findings; i++) {
		const struct finding *finding = &audit->findings[i];
		const char *mark = finding_is_broken(finding) ? "BROKEN" :
			finding_is_inconclusive(finding) ? "?" : finding_is_better(finding) ? "note" : "ok";
		printf("%2u  %-6s %-62s %-14s %s\n", finding->row, mark, finding->attack,
			result_names[finding->result], finding->detail);
	}
	return cli_flush_stdout();
}

/** The promise is kept if nothing that it excludes works, and that was shown. */
static int audit_report(const struct audit *audit) {
	int status = audit->cli.json ? audit_print_json(audit) : audit_print_text(audit);
	size_t n_broken = audit_count(audit, finding_is_broken);
	size_t n_inconclusive = audit_count(audit, finding_is_inconclusive);
	size_t n_better = audit_count(audit, finding_is_better);
	if (n_better > 0) {
		cli_note("%zu attacks that %s allows were refused on this machine", n_better,
			vitrine_guarantee_name(audit->guarantee));
	}
	if (n_broken > 0) {
		return cli_fail("the promise of %s is broken by %zu attacks: do not rely on it",
			vitrine_guarantee_name(audit->guarantee), n_broken);
	}
	if (n_inconclusive > 0) {
		return cli_fail("%zu attacks could not be judged", n_inconclusive);
	}
	return status;
}

static void parse_options(struct audit *audit, int argc, char **argv) {
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{0},
	};
	while (cli_getopt(&audit->cli, argc, argv, options) != -1) {
		audit->seconds = cli_parse_number(&audit->cli, "seconds", optarg, 0);
	}
	if (optind != argc) {
		exit(cli_fail_usage(&audit->cli, "\"%s\" is too much", argv[optind]));
	}
}

static int audit_run(int argc, char **argv) {
	static struct audit audit; // too large for the stack
	audit.seconds = 5;
	cli_init(&audit.cli, &command_audit);
	parse_options(&audit, argc, argv);

	cli_catch_signals();
	audit.derive = vitrine_derive_create();
	if (audit.derive == NULL) {
		return cli_fail("out of memory");
	}
	int status = audit_session(&audit);
	if (status == EXIT_SUCCESS) {
		status = audit_report(&audit);
	}
	for (size_t i = 0; i < audit.n_kept; i++) {
		target_finish(&audit.kept[i].target);
	}
	cli_finish(&audit.cli);
	vitrine_derive_destroy(audit.derive);
	return status;
}

const struct command command_audit = {
	.name = "audit",
	.synopsis = "[-o OUTPUT] [--seconds S] [--json]",
	.summary = "Try every known way to write through a view, and compare with its guarantee",
	.help =
		"      --seconds S         how long to wait for the screen to change (5)\n",
	.options = CLI_SESSION | CLI_TIMEOUT | CLI_JSON | CLI_SOCKET,
	.run = audit_run,
};
