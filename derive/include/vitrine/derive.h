/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_DERIVE_H
#define VITRINE_DERIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * libvitrine-derive turns memory that its owner can write into a file
 * descriptor that the holder cannot write through, by the best means that the
 * running kernel offers, and verifies the result.
 *
 * Functions that return int return 0 on success and a negative errno on error
 * unless they say otherwise. Nothing here is thread-safe per object.
 */

/**
 * What a holder of the file descriptor cannot do. The values are those of
 * xx_dmabuf_view_manager_v1.guarantee.
 */
enum vitrine_guarantee {
	/** A private copy: nothing of the owner's memory is shared. */
	VITRINE_GUARANTEE_SNAPSHOT = 1 << 0,
	/** The owner's memory as a sealed memfd: no holder can write it. */
	VITRINE_GUARANTEE_SEALED = 1 << 1,
	/**
	 * The owner's memory as a guarded dma-buf: CPU writes and every device
	 * mapping that is not read-only are refused.
	 */
	VITRINE_GUARANTEE_GUARDED = 1 << 2,
	/**
	 * The owner's memory as an O_RDONLY dma-buf: a holder that can also open a
	 * DRM node may still write.
	 */
	VITRINE_GUARANTEE_FD_READ_ONLY = 1 << 3,
};

/** All bits of enum vitrine_guarantee. */
#define VITRINE_GUARANTEE_ALL \
	(VITRINE_GUARANTEE_SNAPSHOT | VITRINE_GUARANTEE_SEALED | \
	VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY)

/**
 * What kind of file descriptor a view is. The values are those of
 * xx_dmabuf_view_manager_v1.storage.
 */
enum vitrine_storage {
	VITRINE_STORAGE_MEMFD = 1 << 0,
	/**
	 * A dma-buf whose bytes the CPU reads by mmap() and DMA_BUF_IOCTL_SYNC. A
	 * file descriptor does not tell: its owner says so. Nothing is derived as this.
	 */
	VITRINE_STORAGE_MAPPED_DMABUF = 1 << 1,
	/** A dma-buf, to be imported by a device. */
	VITRINE_STORAGE_DMABUF = 1 << 2,
};

/** All bits of enum vitrine_storage. */
#define VITRINE_STORAGE_ALL \
	(VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_MAPPED_DMABUF | VITRINE_STORAGE_DMABUF)
/** The storages that the CPU reads. */
#define VITRINE_STORAGE_CPU (VITRINE_STORAGE_MEMFD | VITRINE_STORAGE_MAPPED_DMABUF)

/** The word for one guarantee, such as "sealed", or "unknown". */
const char *vitrine_guarantee_name(enum vitrine_guarantee guarantee);
/** The bit for a word, or 0 if there is no such guarantee. */
uint32_t vitrine_guarantee_from_name(const char *name);
/** The word for a storage: "memfd", "mapped-dmabuf", "dmabuf" or "unknown". */
const char *vitrine_storage_name(enum vitrine_storage storage);
/** The bit for a word, or 0 if there is no such storage. */
uint32_t vitrine_storage_from_name(const char *name);

/**
 * One means of deriving. The table is ordered: the first backend that is
 * available, acceptable and fits the source is used.
 */
struct vitrine_derive_backend_info {
	const char *name;
	uint32_t guarantees; // bitfield of enum vitrine_guarantee
	bool available; // on this machine, now
	const char *detail; // how, or why not; never NULL
};

/**
 * Memory to derive from. All file descriptors are borrowed. Zero-initialize,
 * then set the file descriptors that do not exist to -1.
 */
struct vitrine_derive_source {
	/**
	 * The memory as a memfd with MFD_ALLOW_SEALING which no process but the
	 * owner holds, or -1. Deriving `sealed` adds seals to it: it must be mapped
	 * writable by its owner before, and a udmabuf of it must be made before.
	 */
	int memfd;
	/** The memory as a dma-buf, or -1. */
	int dmabuf_fd;
	/**
	 * Whether dmabuf_fd is the first PRIME export of its GEM object and was
	 * made without DRM_RDWR, so that it can be handed out itself.
	 */
	bool dmabuf_first_export_read_only;
	/**
	 * Whether the CPU sees the pixels in a mapping of dmabuf_fd, as it does in the
	 * system's memory. In a mapping of a GPU's it may see old or tiled bytes, without
	 * an error: no `snapshot` is derived of a dma-buf without this.
	 */
	bool dmabuf_is_mapped;
	/** Bytes, from the beginning of the memory, that the view must cover. */
	uint64_t size;
};

/** The result of vitrine_derive_fd(). */
struct vitrine_derived_fd {
	int fd; // O_RDONLY, O_CLOEXEC, owned by the caller
	enum vitrine_storage storage;
	enum vitrine_guarantee guarantee;
};

/**
 * A probed machine: which backends are there, and their open devices.
 */
struct vitrine_derive;

/**
 * Probes the machine. Returns NULL on allocation failure only: a machine
 * without any device still derives `sealed` and `snapshot`. The environment
 * variable VITRINE_BACKENDS, a list such as "guard,snapshot", restricts what is
 * used.
 */
struct vitrine_derive *vitrine_derive_create(void);
/** Accepts NULL. Derived file descriptors live on. */
void vitrine_derive_destroy(struct vitrine_derive *derive);

/**
 * The backends in order of preference. The array and its strings belong to
 * `derive` and live as long.
 */
const struct vitrine_derive_backend_info *vitrine_derive_get_backends(
	const struct vitrine_derive *derive, size_t *len);

/**
 * The union of the guarantees of the available backends.
 */
uint32_t vitrine_derive_get_guarantees(const struct vitrine_derive *derive);

/**
 * Derives a read-only file descriptor with the first backend that is available,
 * fits the source and gives a guarantee in `acceptable`, and verifies it with
 * vitrine_verify_fd(). Through a map of a dma-buf it also tries to write to the owner's
 * memory, since the memory of some drivers can be written through read-only maps: what
 * is there, one byte that is no colour in most formats. No process may draw meanwhile.
 *
 * Fails with -EOPNOTSUPP if there is no such backend, -EPERM if a derived file
 * descriptor did not pass the verification, and with the kernel's error
 * otherwise. On failure `derived->fd` is -1.
 */
int vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);

/**
 * Derives `snapshot`, a copy, as vitrine_derive_fd() does. It needs no probed
 * machine, and may be called in any thread: a copy takes time, and waits for the
 * writes to a dma-buf that are pending. The copy is made by the CPU: see
 * vitrine_derive_source.dmabuf_is_mapped.
 *
 * Fails as vitrine_derive_fd() does.
 */
int vitrine_derive_snapshot(const struct vitrine_derive_source *source,
	struct vitrine_derived_fd *derived);

/**
 * Creates zeroed memory that vitrine_derive_fd() can derive `sealed` from: a
 * sealable memfd of at least `size` bytes, rounded up to whole pages.
 *
 * Returns a file descriptor owned by the caller, or a negative errno.
 */
int vitrine_memfd_create(uint64_t size);

/**
 * Makes a dma-buf of a whole memfd with /dev/udmabuf. This must be done before
 * deriving, since the kernel refuses it once the memfd is sealed against
 * writing, and hands out a writable dma-buf if it is not.
 *
 * Returns an O_RDWR file descriptor owned by the caller, -ENODEV if there is no
 * usable /dev/udmabuf, or another negative errno.
 */
int vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size);

/**
 * Checks that a file descriptor is what a view with this storage and guarantee
 * must be: open with O_RDONLY, sealed (memfd) or guarded (dma-buf, if that is its
 * guarantee), at least `size` bytes long, mappable for reading, and not mappable for
 * writing. A snapshot may be of any storage: that nothing is shared, no file
 * descriptor can tell.
 *
 * Both sides use it: the owner before a file descriptor leaves the process,
 * the holder before it maps what it received.
 *
 * Returns 0, or -EPERM if the file descriptor is not what it must be, or another
 * negative errno if it could not be checked. If `reason` is not NULL it is set
 * to a static string on failure.
 */
int vitrine_verify_fd(int fd, enum vitrine_storage storage,
	enum vitrine_guarantee guarantee, uint64_t size, const char **reason);

#ifdef __cplusplus
}
#endif

#endif
