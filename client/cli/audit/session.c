/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audit.h"

/** Views of the first session that are kept after its end. */
#define MAX_KEPT 4
/** Changes of the screen that must not show in them. */
#define MIN_CHANGES 5
/** How long to collect views before, in seconds. */
#define COLLECT_SECONDS 0.5
/** How long to count frames for their rate, in seconds. */
#define RATE_SECONDS 1.0
/** So often, if it is low: what else runs can make one second slow, a fence makes each one. */
#define RATE_TRIES 3

/** A view that outlives its session: a file descriptor and mapping of our own. */
struct kept {
	struct target target;
	uint32_t index;
	uint64_t sum; // when last looked at
	bool live; // later frames have shown in it while the session ran
};

/** What was kept of the first session. */
struct collection {
	struct session_audit *audit;
	struct kept kept[MAX_KEPT];
	size_t n_kept;
};

/** Takes a file descriptor and mapping of the frame's memory that are our own. */
static int target_init_view(struct target *target, const struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	size_t len = audit_round_to_pages(info->offsets[0] + (size_t)info->strides[0] * info->height);
	// The last row may be shorter than its stride
	off_t end = lseek(info->fds[0], 0, SEEK_END);
	if (end > 0 && (uint64_t)end < len) {
		len = audit_round_to_pages((size_t)end);
	}
	int ret = target_init(target, info->fds[0], len, PROT_READ, info->storage);
	// It is the user's screen: leave it as it is
	target->mark = target->map;
	return ret;
}

/** Memory of our own of the view's storage, or a memfd. */
static int run_control(struct session_audit *audit, const struct attack *attack, size_t len,
		const struct drm_node *node, const char **detail) {
	static const struct exporter memfd = { EXPORTER_MEMFD, "memfd", NULL };
	static const struct exporter udmabuf = { EXPORTER_UDMABUF, "udmabuf", NULL };
	static const struct exporter heap = { EXPORTER_HEAP, "heap", NULL };
	bool dmabuf = attack->control == CONTROL_DMABUF || (attack->control == CONTROL_SAME &&
		audit->findings.storage != VITRINE_STORAGE_MEMFD);
	if (!dmabuf) {
		return memory_control(&memfd, len, audit->derive, attack, node, detail);
	}
	int ret = memory_control(&udmabuf, len, audit->derive, attack, node, detail);
	return ret != -ENODEV ? ret :
		memory_control(&heap, len, audit->derive, attack, node, detail);
}

/** The view of the running session under attack. */
struct exposed {
	struct session_audit *audit;
	struct target view;
};

static void session_attack(void *data, const struct attack *attack,
		const struct drm_node *node) {
	struct exposed *exposed = data;
	struct session_audit *audit = exposed->audit;
	struct finding *finding = findings_add_attack(&audit->findings, attack, node);
	if (finding == NULL) {
		return;
	}
	if ((attack->flags & ATTACK_OWNER_JUDGES) && finding->expected == RESULT_REFUSED) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "only the owner could tell");
		return;
	}
	const char *control_detail = NULL, *detail = NULL;
	int control = run_control(audit, attack, exposed->view.len, node, &control_detail);
	exposed->view.node = node;
	int ret = attack->run(&exposed->view, &detail);
	finding_conclude(finding, attack, control, control_detail, ret, detail);
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
static int collection_keep(struct collection *collection, const struct vitrine_frame *frame) {
	uint32_t index = vitrine_frame_get_info(frame)->view_index;
	for (size_t i = 0; i < collection->n_kept; i++) {
		struct kept *kept = &collection->kept[i];
		if (kept->index == index) {
			uint64_t sum = get_sum(kept->target.map, kept->target.len);
			kept->live |= sum != kept->sum;
			kept->sum = sum;
			return 0;
		}
	}
	if (collection->n_kept == MAX_KEPT) {
		return 0;
	}
	struct kept *kept = &collection->kept[collection->n_kept];
	int ret = target_init_view(&kept->target, frame);
	if (ret < 0) {
		return ret;
	}
	kept->index = index;
	kept->sum = get_sum(kept->target.map, kept->target.len);
	collection->n_kept++;
	return 0;
}

/**
 * Collects views of the running session. Where frames may overlap, each is held
 * until the next one has come, so that there is more than one buffer to see.
 * Returns 0 or a negative errno.
 */
static int collection_fill(struct collection *collection, struct vitrine_session *session,
		struct vitrine_frame *frame) {
	bool overlap = vitrine_session_get_depth(session) > 1;
	double end = cli_now() + COLLECT_SECONDS;
	int ret = collection_keep(collection, frame);
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
		ret = collection_keep(collection, frame);
	}
	vitrine_frame_release(frame);
	return ret;
}

/** The first kept view that has changed, or NULL. */
static const struct kept *collection_find_change(const struct collection *collection) {
	for (size_t i = 0; i < collection->n_kept; i++) {
		const struct kept *kept = &collection->kept[i];
		if (get_sum(kept->target.map, kept->target.len) != kept->sum) {
			return kept;
		}
	}
	return NULL;
}

static size_t collection_count_live(const struct collection *collection) {
	size_t n = 0;
	for (size_t i = 0; i < collection->n_kept; i++) {
		n += collection->kept[i].live;
	}
	return n;
}

/**
 * Watches a new session until its pictures have changed often enough. Returns
 * the number of changes, or a negative errno. The first frame comes after the
 * compositor has ended the old session: what is kept must not change from then.
 */
static int collection_watch(struct collection *collection, struct vitrine_session *session) {
	double end = cli_now() + collection->audit->seconds;
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
		for (size_t i = 0; first && i < collection->n_kept; i++) {
			struct kept *kept = &collection->kept[i];
			kept->sum = get_sum(kept->target.map, kept->target.len);
		}
		first = false;
		last_sum = sum;
	}
	return changes;
}

static void check_later_content(struct collection *collection) {
	struct session_audit *audit = collection->audit;
	struct finding *finding = findings_add(&audit->findings, 15,
		"see later content in a view that was kept after its session", RESULT_REFUSED);
	struct vitrine_session *session;
	if (cli_create_session(audit->cli, &session, NULL) != EXIT_SUCCESS) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no second session could be made");
		return;
	}
	int ret = collection_watch(collection, session);
	const struct kept *changed = collection_find_change(collection);
	if (ret < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "the second session failed: %s",
			ret == -EINTR ? "interrupted" : vitrine_client_get_error(audit->cli->client));
	} else if (changed != NULL) {
		finding_set(finding, RESULT_ALLOWED, "the kept view %u has changed", changed->index);
	} else if (ret < MIN_CHANGES) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the screen is static");
	} else {
		finding_set(finding, RESULT_REFUSED,
			"the screen changed %d times, none of %zu kept views did (%zu did before)", ret,
			collection->n_kept, collection_count_live(collection));
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
static bool control_sigbus(size_t len) {
	struct target own;
	int memfd = vitrine_memfd_create(len);
	if (memfd < 0) {
		return false;
	}
	bool noticed = false;
	if (target_init(&own, memfd, len, PROT_READ | PROT_WRITE, VITRINE_STORAGE_MEMFD) == 0) {
		noticed = audit_run_in_child(read_all, &own) == 0 && ftruncate(memfd, 0) == 0 &&
			audit_run_in_child(read_all, &own) == -EFAULT;
		target_finish(&own);
	}
	close(memfd);
	return noticed;
}

/** Its session is over: the output may do with its buffers what it does on a resize. */
static void check_sigbus(struct collection *collection) {
	struct finding *finding = findings_add(&collection->audit->findings, 17,
		"SIGBUS in a reader of a view that was retired", RESULT_REFUSED);
	if (!control_sigbus(collection->kept[0].target.len)) {
		finding_set(finding, RESULT_INCONCLUSIVE, "a SIGBUS of our own was not noticed");
		return;
	}
	for (size_t i = 0; i < collection->n_kept; i++) {
		int ret = audit_run_in_child(read_all, &collection->kept[i].target);
		if (ret < 0) {
			finding_set(finding, ret == -EFAULT ? RESULT_ALLOWED : RESULT_INCONCLUSIVE,
				"reading view %u: %s", collection->kept[i].index, strerror(-ret));
			return;
		}
	}
	finding_set(finding, RESULT_REFUSED, "every page of %zu retired views was read",
		collection->n_kept);
}

/** Frames in a second, or a negative errno. */
static int count_frames(struct vitrine_session *session) {
	double end = cli_now() + RATE_SECONDS;
	int n = 0;
	while (cli_now() < end) {
		struct vitrine_frame *frame;
		int ret = cli_next_frame(session, (int)((end - cli_now()) * 1000) + 1, &frame);
		if (ret < 0) {
			return ret;
		}
		n += ret > 0;
		vitrine_frame_release(frame);
	}
	return n;
}

/** Returns 0 if the fence has been put on any of the views, or a negative errno. */
static int collection_import_fence(const struct collection *collection,
		const struct fence *fence) {
	int result = -ENOENT;
	for (size_t i = 0; i < collection->n_kept; i++) {
		int ret = fence_import(fence, collection->kept[i].target.fd);
		result = result == 0 ? 0 : ret;
	}
	return result;
}

/** Without that, frames that keep coming prove nothing. */
static bool collection_awaits_fence(const struct collection *collection) {
	for (size_t i = 0; i < collection->n_kept; i++) {
		if (fence_is_awaited(collection->kept[i].target.fd)) {
			return true;
		}
	}
	return false;
}

static void judge_rate(struct finding *finding, int before, int after) {
	if (before < 0 || after < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "the session failed: %s",
			strerror(before < 0 ? -before : -after));
	} else if (before < MIN_CHANGES) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the screen is static");
	} else {
		finding_set(finding, after >= before / 2 ? RESULT_REFUSED : RESULT_ALLOWED,
			"%d frames a second before, %d with the fence", before, after);
	}
}

/**
 * A session to count the frames of the output by, without memory that has fences: the
 * readers of what we put ours on wait for it, us included. NULL if there is none.
 */
static struct vitrine_session *create_observer(struct session_audit *audit) {
	struct vitrine_session_options options = {
		.acceptable = VITRINE_GUARANTEE_SNAPSHOT | VITRINE_GUARANTEE_SEALED,
	};
	struct cli_target target;
	struct vitrine_session *observer;
	if (cli_find_target(audit->cli, &target) != EXIT_SUCCESS ||
			vitrine_session_create(target.source, &options, &observer) < 0) {
		return NULL;
	}
	struct vitrine_frame *frame;
	if (cli_next_frame(observer, audit->cli->timeout_ms, &frame) <= 0) {
		vitrine_session_destroy(observer);
		return NULL;
	}
	vitrine_frame_release(frame);
	return observer;
}

static void judge_fence(struct finding *finding, const struct collection *collection,
		const struct fence *fence, struct vitrine_session *observer) {
	int before = count_frames(observer);
	int ret = collection_import_fence(collection, fence);
	if (ret < 0) {
		finding_set_error(finding, ret, NULL);
	} else if (!collection_awaits_fence(collection)) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no view has the fence");
	} else {
		int after = 0;
		for (int i = 0; i < RATE_TRIES && after >= 0 && after < before / 2; i++) {
			after = count_frames(observer);
		}
		judge_rate(finding, before, after);
	}
}

/** Whether the compositor misses frames for a fence of ours, while the session runs. */
static void check_fence(struct collection *collection) {
	struct session_audit *audit = collection->audit;
	bool dmabuf = audit->findings.storage != VITRINE_STORAGE_MEMFD;
	struct finding *finding = findings_add(&audit->findings, 14,
		"IMPORT_SYNC_FILE of an unsignalled fence: stop the frames",
		dmabuf ? RESULT_REFUSED : RESULT_NOT_APPLICABLE);
	struct fence fence = { .sync_fd = -1 };
	struct vitrine_session *observer = dmabuf ? create_observer(audit) : NULL;
	if (!dmabuf) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the view is a memfd");
	} else if (observer == NULL) {
		finding_set(finding, RESULT_NOT_APPLICABLE,
			"no snapshot or sealed view is given, to count frames by");
	} else if (fence_init(&fence) < 0) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "neither SW_SYNC nor vgem make a fence here");
	} else {
		judge_fence(finding, collection, &fence, observer);
	}
	fence_finish(&fence);
	vitrine_session_destroy(observer);
}

/** Returns an exit status. */
static int attack_session(struct collection *collection, struct vitrine_session *session) {
	struct session_audit *audit = collection->audit;
	struct vitrine_frame *frame = cli_first_frame(audit->cli, session);
	if (frame == NULL) {
		return EXIT_FAILURE;
	}
	audit->findings.guarantee = vitrine_frame_get_info(frame)->guarantee;
	audit->findings.storage = vitrine_frame_get_info(frame)->storage;

	struct exposed exposed = { .audit = audit };
	int ret = target_init_view(&exposed.view, frame);
	if (ret < 0) {
		vitrine_frame_release(frame);
		return cli_fail("the view cannot be mapped: %s", strerror(-ret));
	}
	audit_for_each_attack(session_attack, &exposed);
	target_finish(&exposed.view);

	ret = collection_fill(collection, session, frame);
	if (ret < 0 && ret != -EINTR) {
		return cli_fail_client(audit->cli, ret);
	}
	check_fence(collection);
	return EXIT_SUCCESS;
}

static void collection_finish(struct collection *collection) {
	for (size_t i = 0; i < collection->n_kept; i++) {
		target_finish(&collection->kept[i].target);
	}
}

int session_audit_run(struct session_audit *audit) {
	struct cli_target target;
	struct vitrine_session *session;
	int status = cli_create_session(audit->cli, &session, &target);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	snprintf(audit->name, sizeof(audit->name), "%s", cli_target_name(&target));
	struct collection collection = { .audit = audit };
	status = attack_session(&collection, session);
	vitrine_session_destroy(session);
	if (status == EXIT_SUCCESS) {
		check_later_content(&collection);
		check_sigbus(&collection);
	}
	collection_finish(&collection);
	return status;
}
