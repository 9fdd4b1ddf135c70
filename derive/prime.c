/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "backend.h"

/** What is known of the cards of this machine. */
struct cards {
	char usable[40]; // the name of the first, "" if there is none
	char writable[40]; // the same of those whose promise would be broken
	bool untried;
};

static void cards_add(struct cards *cards, const struct derive_card *card) {
	// Without dumb buffers it may have others: each of those is tried when it is derived
	enum derive_attack_result result = card->dmabuf_fd < 0 ? DERIVE_ATTACK_REFUSED :
		derive_attack_dmabuf(card->dmabuf_fd);
	char *name = result == DERIVE_ATTACK_REFUSED ? cards->usable : cards->writable;
	if (result == DERIVE_ATTACK_UNTRIED || result == DERIVE_ATTACK_NO_RESOURCES) {
		cards->untried = true;
	} else if (name[0] == '\0') {
		snprintf(name, sizeof(cards->usable), "%s", card->name);
	}
}

static void describe(const struct cards *cards, char *detail, size_t size) {
	bool usable = cards->usable[0] != '\0', writable = cards->writable[0] != '\0';
	if (usable) {
		snprintf(detail, size, "buffers of %s, first exported with O_RDONLY%s%s%s", cards->usable,
			writable ? "; not of " : "", cards->writable,
			writable ? ", whose read-only maps can be written" : "");
	} else if (writable) {
		snprintf(detail, size, "not available: a read-only map of a buffer of %s can be written "
			"by /proc/self/mem", cards->writable);
	} else if (cards->untried) {
		snprintf(detail, size, "not available: it cannot be tried here, by /proc/self/mem, "
			"whether a read-only map can be written");
	} else {
		snprintf(detail, size, "not available: no DRM device that exports by PRIME can be opened");
	}
}

static bool prime_probe(struct derive_devices *devices, const char **detail) {
	struct cards cards = {0};
	struct derive_card card;
	for (int i = 0; derive_card_next(&card, &i);) {
		cards_add(&cards, &card);
		derive_card_finish(&card);
	}
	describe(&cards, devices->prime_detail, sizeof(devices->prime_detail));
	*detail = devices->prime_detail;
	return cards.usable[0] != '\0';
}

static int prime_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	// Whether an fd is the first export is known to the exporting process alone: a
	// later one without DRM_RDWR is the same writable file
	if (source->dmabuf_fd < 0 || !source->dmabuf_first_export_read_only) {
		return -EOPNOTSUPP;
	}
	int fd = fcntl(source->dmabuf_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fd,
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	return 0;
}

const struct derive_backend derive_backend_prime = {
	.name = "prime",
	.guarantees = VITRINE_GUARANTEE_FD_READ_ONLY,
	.probe = prime_probe,
	.derive = prime_derive,
};
