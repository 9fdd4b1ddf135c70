/* SPDX-License-Identifier: MIT */
#ifndef DERIVE_BACKEND_H
#define DERIVE_BACKEND_H

#include <vitrine/derive.h>

/** Device nodes that backends share, opened once. -1 where there is none. */
struct derive_devices {
	int udmabuf_fd;
	int udmabuf_errno; // why udmabuf_fd is -1
	int guard_fd;
	int guard_errno;
	bool has_unguarded; // the ioctl derives what importers take as they take any other
	char guard_detail[160], prime_detail[200]; // what the probes of these found
};

void derive_devices_init(struct derive_devices *devices);
void derive_devices_finish(struct derive_devices *devices);

/**
 * A means of deriving.
 */
struct derive_backend {
	const char *name;
	uint32_t guarantees; // bitfield of enum vitrine_guarantee: the most that it can give
	/** What it gives on this machine, asked if `probe` was true. NULL: `guarantees`. */
	uint32_t (*get_guarantees)(const struct derive_devices *devices);

	/**
	 * Whether it works on this machine. Sets `detail` to a string that lives as
	 * long as `devices`.
	 */
	bool (*probe)(struct derive_devices *devices, const char **detail);

	/**
	 * Derives a file descriptor, which vitrine_derive_fd() verifies. Returns
	 * -EOPNOTSUPP if the source does not fit.
	 */
	int (*derive)(struct derive_devices *devices, const struct vitrine_derive_source *source,
		uint32_t acceptable, struct vitrine_derived_fd *derived);
};

extern const struct derive_backend derive_backend_sealed;
extern const struct derive_backend derive_backend_guard;
extern const struct derive_backend derive_backend_ioctl;
extern const struct derive_backend derive_backend_prime;
extern const struct derive_backend derive_backend_snapshot;

/**
 * Opens the file behind a file descriptor once more, with O_RDONLY and a file
 * description of its own. Returns a file descriptor or a negative errno.
 */
int derive_reopen_read_only(int fd);

enum derive_attack_result {
	DERIVE_ATTACK_REFUSED,
	DERIVE_ATTACK_WORKED,
	DERIVE_ATTACK_UNTRIED, // may not be mapped or read, or not even our own memory written so
	DERIVE_ATTACK_NO_RESOURCES, // the same, for now: no memory or file descriptors
};

/**
 * Writes through a read-only map of a dma-buf, by a way on which the kernel does not
 * ask for permission. It writes what is there, one byte that is no colour: the
 * owner must not write to the first pixel meanwhile.
 */
enum derive_attack_result derive_attack_dmabuf(int dmabuf_fd);

/** A DRM device that exports dma-bufs. */
struct derive_card {
	char name[40]; // "card0 (bochs-drm)"
	int dmabuf_fd; // a buffer, first exported with O_RDONLY; -1 if it has no dumb ones
};

/**
 * Finds the card at or after minor `i`, which is 0 at first, and sets `i` to what
 * comes after it. False if there is none. A card is finished by its finder.
 */
bool derive_card_next(struct derive_card *card, int *i);
void derive_card_finish(struct derive_card *card);

/** See vitrine_udmabuf_create(). */
int derive_udmabuf_create(struct derive_devices *devices, int memfd, uint64_t size);

#endif
