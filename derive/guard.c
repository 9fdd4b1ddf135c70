/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "backend.h"

static bool guard_probe(struct derive_devices *devices, const char **detail) {
	if (devices->guard_fd >= 0) {
		*detail = "not available: /dev/dma_buf_guard is there, but this version does not use it";
	} else if (devices->guard_errno == EACCES || devices->guard_errno == EPERM) {
		*detail = "not available: no permission to open /dev/dma_buf_guard";
	} else {
		*detail = "not available: no /dev/dma_buf_guard (the module is not loaded)";
	}
	return false;
}

static int guard_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	return -EOPNOTSUPP;
}

const struct derive_backend derive_backend_guard = {
	.name = "guard",
	.guarantees = VITRINE_GUARANTEE_GUARDED,
	.probe = guard_probe,
	.derive = guard_derive,
};
