/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"
#include "dma_buf_guard.h"

/** A guard, or a negative errno: -EOPNOTSUPP for exporters that move their memory. */
static int create_guard(struct derive_devices *devices, int dmabuf_fd) {
	// With common fences a holder could make the owner wait, and its display
	struct dma_buf_guard_create create = {
		.flags = O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES,
		.fd = dmabuf_fd,
	};
	if (ioctl(devices->guard_fd, DMA_BUF_GUARD_IOCTL_CREATE, &create) < 0) {
		return -errno;
	}
	return create.guard_fd;
}

static bool card_can_be_guarded(struct derive_devices *devices, const struct derive_card *card) {
	int fd = card->dmabuf_fd < 0 ? -1 : create_guard(devices, card->dmabuf_fd);
	if (fd >= 0) {
		close(fd);
	}
	return fd != -EOPNOTSUPP;
}

/** Says what cannot be guarded, of the cards that can be opened. */
static void describe_cards(struct derive_devices *devices) {
	size_t size = sizeof(devices->guard_detail);
	snprintf(devices->guard_detail, size, "/dev/dma_buf_guard, for any dma-buf");
	struct derive_card card;
	for (int i = 0; derive_card_next(&card, &i);) {
		if (!card_can_be_guarded(devices, &card)) {
			snprintf(devices->guard_detail, size, "/dev/dma_buf_guard, but not for buffers of %s, "
				"which moves them", card.name);
		}
		derive_card_finish(&card);
	}
}

static bool guard_probe(struct derive_devices *devices, const char **detail) {
	if (devices->guard_fd >= 0) {
		describe_cards(devices);
		*detail = devices->guard_detail;
		return true;
	}
	switch (devices->guard_errno) {
	case EACCES:
	case EPERM:
		*detail = "not available: no permission to open /dev/dma_buf_guard "
			"(see the udev rule in kernel/guard)";
		break;
	case EMFILE:
	case ENFILE:
		*detail = "not available: too many open files";
		break;
	default:
		*detail = "not available: no /dev/dma_buf_guard (the module is not loaded)";
		break;
	}
	return false;
}

static int guard_derive(struct derive_devices *devices,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	if (source->dmabuf_fd < 0) {
		return -EOPNOTSUPP;
	}
	int fd = create_guard(devices, source->dmabuf_fd);
	if (fd < 0) {
		return fd;
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fd,
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = VITRINE_GUARANTEE_GUARDED,
	};
	return 0;
}

const struct derive_backend derive_backend_guard = {
	.name = "guard",
	.guarantees = VITRINE_GUARANTEE_GUARDED,
	.probe = guard_probe,
	.derive = guard_derive,
};
