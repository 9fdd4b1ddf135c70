/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "backend.h"

static bool prime_probe(struct derive_devices *devices, const char **detail) {
	*detail = "not available: needs buffers of an allocator over GBM or dumb buffers";
	return false;
}

static int prime_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	return -EOPNOTSUPP;
}

const struct derive_backend derive_backend_prime = {
	.name = "prime",
	.guarantees = VITRINE_GUARANTEE_FD_READ_ONLY,
	.probe = prime_probe,
	.derive = prime_derive,
};
