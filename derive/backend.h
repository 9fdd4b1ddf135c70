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
};

void derive_devices_init(struct derive_devices *devices);
void derive_devices_finish(struct derive_devices *devices);

/**
 * A means of deriving.
 */
struct derive_backend {
	const char *name;
	uint32_t guarantees; // bitfield of enum vitrine_guarantee

	/** Whether it works on this machine. Sets `detail` to a static string. */
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

/** See vitrine_udmabuf_create(). */
int derive_udmabuf_create(struct derive_devices *devices, int memfd, uint64_t size);

#endif
