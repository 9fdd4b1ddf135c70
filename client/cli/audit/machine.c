/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audit.h"

/** Pages of memory to derive from: enough to lose one. */
#define MEMORY_PAGES 4

/** A kind of view: what a backend makes with one of its guarantees. */
struct variant {
	const char *backend;
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	/** Which exporters' memory fits: bitfield of 1 << enum exporter_kind. */
	unsigned exporters;
};

#define ANY_DMABUF (1 << EXPORTER_UDMABUF | 1 << EXPORTER_HEAP | 1 << EXPORTER_DRM)

static const struct variant variants[] = {
	{ "sealed", VITRINE_GUARANTEE_SEALED, VITRINE_STORAGE_MEMFD, 1 << EXPORTER_MEMFD },
	{ "guard", VITRINE_GUARANTEE_GUARDED, VITRINE_STORAGE_DMABUF, ANY_DMABUF },
	{ "ioctl", VITRINE_GUARANTEE_GUARDED, VITRINE_STORAGE_DMABUF, ANY_DMABUF },
	{ "ioctl", VITRINE_GUARANTEE_FD_READ_ONLY, VITRINE_STORAGE_DMABUF, ANY_DMABUF },
	{ "prime", VITRINE_GUARANTEE_FD_READ_ONLY, VITRINE_STORAGE_DMABUF, 1 << EXPORTER_DRM },
	{ "snapshot", VITRINE_GUARANTEE_SNAPSHOT, VITRINE_STORAGE_MEMFD,
		1 << EXPORTER_MEMFD | ANY_DMABUF },
};

static bool variant_is_prime(const struct variant *variant) {
	return strcmp(variant->backend, "prime") == 0;
}

#define VARIANTS_LEN (sizeof(variants) / sizeof(variants[0]))

/** One variant and exporter under attack. */
struct block {
	struct vitrine_derive *derive; // with one backend
	const struct variant *variant;
	const struct exporter *exporter;
	struct findings findings;
};

static size_t get_memory_len(void) {
	return MEMORY_PAGES * audit_round_to_pages(1);
}

/** Our memory, and the view of it for a hostile holder. */
struct exhibit {
	struct memory memory;
	struct target view;
};

/** Returns an fd or a negative errno. */
static int derive(const struct block *block, const struct memory *memory) {
	struct vitrine_derive_source source = {
		.memfd = memory->memfd,
		.dmabuf_fd = memory->dmabuf_fd,
		.dmabuf_first_export_read_only = variant_is_prime(block->variant),
		.dmabuf_is_mapped = true, // the owner's own writes are by the CPU
		.size = memory->len,
	};
	struct vitrine_derived_fd derived;
	int ret = vitrine_derive_fd(block->derive, &source, block->variant->guarantee, &derived);
	if (ret == 0 && derived.storage != block->variant->storage) {
		close(derived.fd);
		return -EPROTO;
	}
	return ret < 0 ? ret : derived.fd;
}

static void exhibit_finish(struct exhibit *exhibit) {
	target_finish(&exhibit->view);
	memory_finish(&exhibit->memory);
}

static int exhibit_init(struct exhibit *exhibit, const struct block *block) {
	exhibit->view = (struct target){ .fd = -1 };
	struct memory *memory = &exhibit->memory;
	int ret = memory_init(memory, block->exporter, get_memory_len(),
		variant_is_prime(block->variant), block->derive);
	if (ret < 0) {
		return ret;
	}
	if (block->exporter->kind == EXPORTER_MEMFD) {
		// As a compositor does, for its renderer, before the memory is sealed
		ret = vitrine_udmabuf_create(block->derive, memory->memfd, memory->len);
		memory->dmabuf_fd = ret < 0 ? -1 : ret;
	}
	int fd = derive(block, memory);
	if (fd < 0) {
		memory_finish(memory);
		return fd;
	}
	ret = target_init(&exhibit->view, fd, memory->len, PROT_READ, block->variant->storage);
	close(fd);
	if (ret < 0) {
		memory_finish(memory);
	}
	return ret;
}

static const struct exporter *get_control_exporter(const struct block *block,
		const struct attack *attack) {
	static const struct exporter memfd = { EXPORTER_MEMFD, "memfd", NULL };
	bool same = attack->control == CONTROL_DMABUF || (attack->control == CONTROL_SAME &&
		block->variant->storage == VITRINE_STORAGE_DMABUF);
	return same ? block->exporter : &memfd;
}

/** Each attack has memory of its own: what one of them breaks is no help to the next. */
static void block_attack(void *data, const struct attack *attack, const struct drm_node *node) {
	struct block *block = data;
	struct finding *finding = findings_add_attack(&block->findings, attack, node);
	if (finding == NULL) {
		return;
	}
	const char *control_detail = NULL, *detail = NULL;
	int control = memory_control(get_control_exporter(block, attack), get_memory_len(),
		block->derive, attack, node, &control_detail);
	struct exhibit exhibit;
	int ret = exhibit_init(&exhibit, block);
	if (ret < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no view could be derived: %s",
			strerror(-ret));
		return;
	}
	exhibit.view.node = node;
	ret = memory_judge(&exhibit.memory, attack, &exhibit.view, &detail);
	finding_conclude(finding, attack, control, control_detail, ret, detail);
	exhibit_finish(&exhibit);
}

static int store_own(const struct target *target) {
	attack_poke(target, target->map);
	return *(volatile char *)target->map == *target->mark ? 0 : -EIO;
}

/** An owner that waits for no fence uses its memory, in a child that may be stopped. */
static int use_as_owner(const struct memory *memory) {
	static const char mark = 1;
	struct target own = { .fd = -1, .map = memory->map, .len = memory->len, .mark = &mark };
	return audit_run_in_child(store_own, &own);
}

/** Whether a fence on memory that can be written is seen by its owner. */
static bool control_fence(const struct block *block, const struct fence *fence) {
	struct memory memory;
	bool works = memory_init(&memory, block->exporter, get_memory_len(), false,
		block->derive) == 0 && !fence_is_awaited(memory.dmabuf_fd) &&
		fence_import(fence, memory.dmabuf_fd) == 0 && fence_is_awaited(memory.dmabuf_fd);
	memory_finish(&memory);
	return works;
}

/** A guard of the view must not have the owner's fences where the view has not. */
static int import_by_guard(const struct fence *fence, int borrowed_fd) {
	int guard = audit_guard(borrowed_fd);
	if (guard < 0) {
		return guard;
	}
	int ret = fence_import(fence, guard);
	close(guard);
	return ret;
}

static void judge_fence(struct finding *finding, const struct block *block,
		const struct exhibit *exhibit, const struct fence *fence) {
	int ret = fence_import(fence, exhibit->view.fd);
	if (import_by_guard(fence, exhibit->view.fd) < 0 && ret < 0) {
		finding_set_error(finding, ret, NULL);
		return;
	}
	bool lands = fence_is_awaited(exhibit->memory.dmabuf_fd);
	ret = use_as_owner(&exhibit->memory);
	if (lands && block->variant->guarantee == VITRINE_GUARANTEE_GUARDED) {
		finding_set(finding, RESULT_ALLOWED, "the fence lands on the owner's buffer");
	} else if (ret < 0) {
		finding_set(finding, RESULT_ALLOWED, "the owner's own access does not go on: %s",
			strerror(-ret));
	} else {
		finding_set(finding, RESULT_REFUSED, lands ?
			"the fence lands on the owner's buffer; access that does not wait for it goes on" :
			"it goes through, but the fence does not land on the owner's buffer");
	}
}

/** What a session's audit asks is whether the compositor misses a frame. */
static void block_attack_with_fence(struct block *block) {
	bool dmabuf = block->variant->storage == VITRINE_STORAGE_DMABUF;
	struct finding *finding = findings_add(&block->findings, 14,
		"IMPORT_SYNC_FILE of an unsignalled fence: stall the owner",
		dmabuf ? RESULT_REFUSED : RESULT_NOT_APPLICABLE);
	struct fence fence = { .sync_fd = -1 };
	struct exhibit exhibit;
	int ret;
	if (!dmabuf) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the view is a memfd");
	} else if (fence_init(&fence) < 0) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "neither SW_SYNC nor vgem make a fence here");
	} else if (!control_fence(block, &fence)) {
		finding_set(finding, RESULT_INCONCLUSIVE, "it does not even work on our own memory");
	} else if ((ret = exhibit_init(&exhibit, block)) < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no view could be derived: %s",
			strerror(-ret));
	} else {
		judge_fence(finding, block, &exhibit, &fence);
		exhibit_finish(&exhibit);
	}
	fence_finish(&fence);
}

/** Whether what the owner writes is gone when the holder of a dma-buf has synced it. */
static bool sync_takes_back(const struct memory *memory, int holders_fd) {
	volatile char *byte = memory->map;
	audit_sync_dmabuf(holders_fd); // so that devices have what was there before
	char value = (char)~*byte;
	*byte = value;
	audit_sync_dmabuf(holders_fd);
	return *byte != value;
}

/** Bounce buffers do that, and caches that are not coherent. */
static bool control_sync(const struct block *block) {
	struct memory memory;
	bool works = memory_init(&memory, block->exporter, get_memory_len(), false,
		block->derive) == 0 && sync_takes_back(&memory, memory.dmabuf_fd);
	memory_finish(&memory);
	return works;
}

static void block_attack_by_sync(struct block *block) {
	bool dmabuf = block->variant->storage == VITRINE_STORAGE_DMABUF;
	struct finding *finding = findings_add(&block->findings, 13,
		"DMA_BUF_IOCTL_SYNC, several at once: take back what the owner wrote",
		dmabuf ? RESULT_REFUSED : RESULT_NOT_APPLICABLE);
	struct exhibit exhibit;
	int ret;
	if (!dmabuf) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "the view is a memfd");
	} else if ((ret = exhibit_init(&exhibit, block)) < 0) {
		finding_set(finding, RESULT_INCONCLUSIVE, "no view could be derived: %s",
			strerror(-ret));
	} else {
		if (sync_takes_back(&exhibit.memory, exhibit.view.fd)) {
			finding_set(finding, RESULT_ALLOWED, "it worked");
		} else if (!control_sync(block)) {
			finding_set(finding, RESULT_NOT_APPLICABLE,
				"not even a holder that may write can: there are no bounce buffers");
		} else {
			finding_set(finding, RESULT_REFUSED, "a holder that may write can");
		}
		exhibit_finish(&exhibit);
	}
}

/** What a process cannot read, it must not be able to read by way of a view. */
static void block_attack_unreadable(struct block *block) {
	bool applies = block->exporter->kind == EXPORTER_HEAP &&
		block->variant->storage == VITRINE_STORAGE_DMABUF;
	struct finding *finding = findings_add(&block->findings, 9,
		"derive from an fd that is open with O_WRONLY", applies ? RESULT_REFUSED :
		RESULT_NOT_APPLICABLE);
	if (!applies) {
		finding_set(finding, RESULT_NOT_APPLICABLE, "a heap alone hands out such fds");
		return;
	}
	struct memory memory = {
		.memfd = -1,
		.dmabuf_fd = memory_alloc_from_heap(get_memory_len(), O_WRONLY),
		.device = -1,
		.len = get_memory_len(),
	};
	// That one which can be read is taken has been seen: no view would be there to attack
	int ret = memory.dmabuf_fd < 0 ? memory.dmabuf_fd : derive(block, &memory);
	if (ret < 0) {
		finding_set_error(finding, ret, NULL);
	} else {
		finding_set(finding, RESULT_ALLOWED, "it worked");
		close(ret);
	}
	memory_finish(&memory);
}

/** Whether the view that was refused would have been one that can be written. */
static bool is_refused_rightly(const struct block *block) {
	struct memory memory;
	struct target target = { .fd = -1 };
	bool works = false;
	if (memory_init(&memory, block->exporter, get_memory_len(), true, block->derive) == 0 &&
			target_init(&target, memory.dmabuf_fd, memory.len, PROT_READ,
			block->variant->storage) == 0) {
		for (size_t i = 0; i < file_attacks_len; i++) {
			const char *detail = NULL;
			works |= file_attacks[i].row == 3 && memory_judge(&memory, &file_attacks[i], &target,
				&detail) == ATTACK_WORKED;
		}
	}
	target_finish(&target);
	memory_finish(&memory);
	return works;
}

/** A view that cannot be had at all is one finding, not one for each attack. */
static bool block_can_derive(struct block *block) {
	struct exhibit exhibit;
	int ret = exhibit_init(&exhibit, block);
	if (ret == 0) {
		exhibit_finish(&exhibit);
		return true;
	}
	struct finding *finding = findings_add(&block->findings, 0, "derive a view", RESULT_ALLOWED);
	if (variant_is_prime(block->variant) && ret == -EOPNOTSUPP && is_refused_rightly(block)) {
		finding_set(finding, RESULT_NOT_APPLICABLE,
			"it is not given, rightly: its read-only maps can be written");
	} else {
		finding_set(finding, RESULT_INCONCLUSIVE, "%s", strerror(-ret));
	}
	return false;
}

static void block_run(struct block *block) {
	if (block_can_derive(block)) {
		audit_for_each_attack(block_attack, block);
		block_attack_unreadable(block);
		block_attack_by_sync(block);
		block_attack_with_fence(block);
	}
}

static bool backend_is_available(const struct machine_audit *audit, const char *name) {
	size_t len;
	const struct vitrine_derive_backend_info *infos =
		vitrine_derive_get_backends(audit->derive, &len);
	for (size_t i = 0; i < len; i++) {
		if (strcmp(infos[i].name, name) == 0) {
			return infos[i].available;
		}
	}
	return false;
}

static void add_block(struct machine_audit *audit, struct vitrine_derive *derive,
		const struct variant *variant, const struct exporter *exporter) {
	struct block block = {
		.derive = derive,
		.variant = variant,
		.exporter = exporter,
		.findings = {
			.backend = variant->backend,
			.exporter = exporter->name,
			.guarantee = variant->guarantee,
			.storage = variant->storage,
		},
	};
	block_run(&block);
	audit->blocks[audit->n_blocks++] = block.findings;
}

/** The library would take the first backend with the guarantee: have it see one only. */
static struct vitrine_derive *create_derive(const char *backend) {
	const char *value = getenv("VITRINE_BACKENDS");
	char *old = value != NULL ? strdup(value) : NULL;
	setenv("VITRINE_BACKENDS", backend, 1);
	struct vitrine_derive *derive = vitrine_derive_create();
	if (old != NULL) {
		setenv("VITRINE_BACKENDS", old, 1);
	} else {
		unsetenv("VITRINE_BACKENDS");
	}
	free(old);
	if (derive == NULL) {
		exit(cli_fail("out of memory"));
	}
	return derive;
}

static void add_variant(struct machine_audit *audit, const struct variant *variant) {
	struct vitrine_derive *derive = create_derive(variant->backend);
	for (size_t i = 0; i < audit->n_exporters && !cli_interrupted; i++) {
		if (variant->exporters & 1u << audit->exporters[i].kind) {
			add_block(audit, derive, variant, &audit->exporters[i]);
		}
	}
	vitrine_derive_destroy(derive);
}

void machine_audit_run(struct machine_audit *audit) {
	audit->n_exporters = audit_find_exporters(audit->derive, audit->exporters);
	audit->blocks = calloc(VARIANTS_LEN * MAX_EXPORTERS, sizeof(audit->blocks[0]));
	if (audit->blocks == NULL) {
		exit(cli_fail("out of memory"));
	}
	for (size_t i = 0; i < VARIANTS_LEN; i++) {
		if ((variants[i].guarantee & audit->acceptable) &&
				backend_is_available(audit, variants[i].backend)) {
			add_variant(audit, &variants[i]);
		}
	}
}

void machine_audit_finish(struct machine_audit *audit) {
	for (size_t i = 0; i < audit->n_blocks; i++) {
		findings_finish(&audit->blocks[i]);
	}
	free(audit->blocks);
	audit->blocks = NULL;
	audit->n_blocks = 0;
}

bool machine_audit_has_exercised(const struct machine_audit *audit, const char *backend) {
	for (size_t i = 0; i < audit->n_blocks; i++) {
		struct tally tally = {0};
		findings_count(&audit->blocks[i], &tally);
		if (strcmp(audit->blocks[i].backend, backend) == 0 &&
				tally.ok + tally.better + tally.broken > 0) {
			return true;
		}
	}
	return false;
}
