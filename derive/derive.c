/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"

/*
 * In order of preference: what keeps most of the promise at no copy first, the
 * copy last.
 */
static const struct derive_backend *const backends[] = {
	&derive_backend_sealed,
	&derive_backend_ioctl,
	&derive_backend_guard,
	&derive_backend_prime,
	&derive_backend_snapshot,
};

#define BACKENDS_LEN (sizeof(backends) / sizeof(backends[0]))

struct vitrine_derive {
	struct derive_devices devices;
	struct vitrine_derive_backend_info infos[BACKENDS_LEN];
};

static const struct {
	enum vitrine_guarantee guarantee;
	const char *name;
} guarantee_names[] = {
	{ VITRINE_GUARANTEE_SNAPSHOT, "snapshot" },
	{ VITRINE_GUARANTEE_SEALED, "sealed" },
	{ VITRINE_GUARANTEE_GUARDED, "guarded" },
	{ VITRINE_GUARANTEE_FD_READ_ONLY, "fd_read_only" },
};

#define GUARANTEES_LEN (sizeof(guarantee_names) / sizeof(guarantee_names[0]))

const char *vitrine_guarantee_name(enum vitrine_guarantee guarantee) {
	for (size_t i = 0; i < GUARANTEES_LEN; i++) {
		if (guarantee_names[i].guarantee == guarantee) {
			return guarantee_names[i].name;
		}
	}
	return "unknown";
}

uint32_t vitrine_guarantee_from_name(const char *name) {
	for (size_t i = 0; i < GUARANTEES_LEN; i++) {
		if (strcmp(guarantee_names[i].name, name) == 0) {
			return guarantee_names[i].guarantee;
		}
	}
	return 0;
}

static const struct {
	enum vitrine_storage storage;
	const char *name;
} storage_names[] = {
	{ VITRINE_STORAGE_MEMFD, "memfd" },
	{ VITRINE_STORAGE_MAPPED_DMABUF, "mapped-dmabuf" },
	{ VITRINE_STORAGE_DMABUF, "dmabuf" },
};

#define STORAGES_LEN (sizeof(storage_names) / sizeof(storage_names[0]))

const char *vitrine_storage_name(enum vitrine_storage storage) {
	for (size_t i = 0; i < STORAGES_LEN; i++) {
		if (storage_names[i].storage == storage) {
			return storage_names[i].name;
		}
	}
	return "unknown";
}

uint32_t vitrine_storage_from_name(const char *name) {
	for (size_t i = 0; i < STORAGES_LEN; i++) {
		if (strcmp(storage_names[i].name, name) == 0) {
			return storage_names[i].storage;
		}
	}
	return 0;
}

/** Whether a comma-separated list has a word in it. */
static bool list_has(const char *list, const char *word) {
	size_t len = strlen(word);
	for (const char *entry = list; entry != NULL; entry = strchr(entry, ',')) {
		entry += *entry == ',';
		if (strncmp(entry, word, len) == 0 && (entry[len] == ',' || entry[len] == '\0')) {
			return true;
		}
	}
	return false;
}

static void probe_backend(struct vitrine_derive *derive, size_t i, const char *wanted) {
	struct vitrine_derive_backend_info *info = &derive->infos[i];
	info->name = backends[i]->name;
	info->guarantees = backends[i]->guarantees;
	if (wanted != NULL && !list_has(wanted, info->name)) {
		info->detail = "not available: not in VITRINE_BACKENDS";
		return;
	}
	info->available = backends[i]->probe(&derive->devices, &info->detail);
	assert(info->detail != NULL);
	if (info->available && backends[i]->get_guarantees != NULL) {
		info->guarantees = backends[i]->get_guarantees(&derive->devices);
	}
}

struct vitrine_derive *vitrine_derive_create(void) {
	struct vitrine_derive *derive = calloc(1, sizeof(*derive));
	if (derive == NULL) {
		return NULL;
	}
	derive_devices_init(&derive->devices);
	const char *wanted = getenv("VITRINE_BACKENDS");
	for (size_t i = 0; i < BACKENDS_LEN; i++) {
		probe_backend(derive, i, wanted);
	}
	return derive;
}

void vitrine_derive_destroy(struct vitrine_derive *derive) {
	if (derive == NULL) {
		return;
	}
	derive_devices_finish(&derive->devices);
	free(derive);
}

const struct vitrine_derive_backend_info *vitrine_derive_get_backends(
		const struct vitrine_derive *derive, size_t *len) {
	*len = BACKENDS_LEN;
	return derive->infos;
}

uint32_t vitrine_derive_get_guarantees(const struct vitrine_derive *derive) {
	uint32_t guarantees = 0;
	for (size_t i = 0; i < BACKENDS_LEN; i++) {
		if (derive->infos[i].available) {
			guarantees |= derive->infos[i].guarantees;
		}
	}
	return guarantees;
}

/** What flags do not tell. To a caller it is as if no backend fitted the source. */
static int try_to_write(const struct vitrine_derived_fd *derived) {
	if (derived->storage == VITRINE_STORAGE_MEMFD) {
		return 0; // has pages, and seals
	}
	// Guarding is the kernel's promise. Read-only is what the exporter makes of it
	bool is_trusted = derived->guarantee == VITRINE_GUARANTEE_GUARDED;
	switch (derive_attack_dmabuf(derived->fd)) {
	case DERIVE_ATTACK_REFUSED:
		return 0;
	case DERIVE_ATTACK_WORKED:
		return -EOPNOTSUPP;
	case DERIVE_ATTACK_UNTRIED:
		return is_trusted ? 0 : -EOPNOTSUPP;
	case DERIVE_ATTACK_NO_RESOURCES:
		return is_trusted ? 0 : -ENOMEM;
	}
	return -EOPNOTSUPP;
}

static int derive_with_backend(struct derive_devices *devices, const struct derive_backend *backend,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	struct vitrine_derived_fd candidate = { .fd = -1 };
	int ret = backend->derive(devices, source, acceptable, &candidate);
	if (ret < 0) {
		return ret;
	}
	assert(candidate.guarantee & acceptable & backend->guarantees);
	// Invariant 3 of the protocol: no file descriptor leaves unchecked
	ret = vitrine_verify_fd(candidate.fd, candidate.storage, candidate.guarantee,
		source->size, NULL);
	if (ret == 0) {
		ret = try_to_write(&candidate);
	}
	if (ret < 0) {
		close(candidate.fd);
		return ret;
	}
	*derived = candidate;
	return 0;
}

int vitrine_derive_fd(struct vitrine_derive *derive, const struct vitrine_derive_source *source,
		uint32_t acceptable, struct vitrine_derived_fd *derived) {
	*derived = (struct vitrine_derived_fd){ .fd = -1 };
	if (source->size == 0) {
		return -EINVAL;
	}

	// The first real error is worth more to the caller than "not supported"
	// of a later backend that was never going to fit
	int first_error = -EOPNOTSUPP;
	for (size_t i = 0; i < BACKENDS_LEN; i++) {
		if (!derive->infos[i].available || !(derive->infos[i].guarantees & acceptable)) {
			continue;
		}
		int ret = derive_with_backend(&derive->devices, backends[i], source, acceptable,
			derived);
		if (ret == 0) {
			return 0;
		}
		if (first_error == -EOPNOTSUPP) {
			first_error = ret;
		}
	}
	return first_error;
}

int vitrine_derive_snapshot(const struct vitrine_derive_source *source,
		struct vitrine_derived_fd *derived) {
	*derived = (struct vitrine_derived_fd){ .fd = -1 };
	if (source->size == 0) {
		return -EINVAL;
	}
	return derive_with_backend(NULL, &derive_backend_snapshot, source,
		VITRINE_GUARANTEE_SNAPSHOT, derived);
}

int vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size) {
	return derive_udmabuf_create(&derive->devices, memfd, size);
}
