/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "backend.h"

static bool sealed_probe(struct derive_devices *devices, const char **detail) {
	// F_SEAL_FUTURE_WRITE came with Linux 5.1: try, rather than compare versions
	int fd = vitrine_memfd_create(1);
	if (fd < 0) {
		*detail = "not available: memfd_create() failed";
		return false;
	}
	bool ok = fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
	close(fd);
	if (!ok) {
		*detail = "not available: the kernel lacks F_SEAL_FUTURE_WRITE (Linux 5.1)";
	} else if (devices->udmabuf_fd < 0) {
		*detail = "memfd with F_SEAL_FUTURE_WRITE; no /dev/udmabuf, so the same memory "
			"is no dma-buf for the renderer";
	} else {
		*detail = "memfd with F_SEAL_FUTURE_WRITE, a dma-buf for the renderer by udmabuf";
	}
	return ok;
}

static int sealed_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->memfd < 0) {
		return -EOPNOTSUPP;
	}

	// F_SEAL_FUTURE_WRITE leaves the owner's existing mapping and udmabuf
	// writable and refuses every new way to write. SHRINK keeps readers from
	// SIGBUS, SEAL keeps a holder from adding F_SEAL_WRITE against the owner.
	// On memory that is sealed already this is refused, and verified later.
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	int have = fcntl(source->memfd, F_GET_SEALS);
	if (have < 0) {
		return -errno;
	}
	if ((have & seals) != seals && fcntl(source->memfd, F_ADD_SEALS, seals) < 0) {
		return -errno;
	}

	int fd = derive_reopen_read_only(source->memfd);
	if (fd < 0) {
		return fd;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fd,
		.storage = VITRINE_STORAGE_MEMFD,
		.guarantee = VITRINE_GUARANTEE_SEALED,
	};
	return 0;
}

const struct derive_backend derive_backend_sealed = {
	.name = "sealed",
	.guarantees = VITRINE_GUARANTEE_SEALED,
	.probe = sealed_probe,
	.derive = sealed_derive,
};
