/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "backend.h"

static bool ioctl_probe(struct derive_devices *devices, const char **detail) {
	*detail = "not available: the kernel lacks DMA_BUF_IOCTL_DERIVE";
	return false;
}

static int ioctl_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	return -EOPNOTSUPP;
}

const struct derive_backend derive_backend_ioctl = {
	.name = "ioctl",
	.guarantees = VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY,
	.probe = ioctl_probe,
	.derive = ioctl_derive,
};
