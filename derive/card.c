/* SPDX-License-Identifier: MIT */
#include <drm.h>
#include <drm_mode.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"

/** Minors of primary nodes: /dev/dri/card0 to card63. */
#define CARDS 64

/** Names the card by its node and driver. False if it cannot export. */
static bool card_init_name(struct derive_card *card, int i, int fd) {
	char driver[24] = "";
	struct drm_version version = { .name = driver, .name_len = sizeof(driver) - 1 };
	struct drm_get_cap request = { .capability = DRM_CAP_PRIME };
	if (ioctl(fd, DRM_IOCTL_VERSION, &version) < 0 ||
			ioctl(fd, DRM_IOCTL_GET_CAP, &request) < 0 ||
			!(request.value & DRM_PRIME_CAP_EXPORT)) {
		return false;
	}
	snprintf(card->name, sizeof(card->name), "card%d (%s)", i, driver);
	return true;
}

/** Which cards have some shows a trial: vgem does, though it has no such capability. */
static void card_init_buffer(struct derive_card *card, int fd) {
	struct drm_mode_create_dumb create = { .width = 8, .height = 8, .bpp = 32 };
	if (ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &create) != 0) {
		return;
	}
	struct drm_prime_handle prime = { .handle = create.handle, .flags = DRM_CLOEXEC };
	if (ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) == 0) {
		card->dmabuf_fd = prime.fd;
	}
	struct drm_mode_destroy_dumb destroy = { .handle = create.handle };
	ioctl(fd, DRM_IOCTL_MODE_DESTROY_DUMB, &destroy);
}

bool derive_card_next(struct derive_card *card, int *i) {
	for (; *i < CARDS; (*i)++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/dri/card%d", *i);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		*card = (struct derive_card){ .dmabuf_fd = -1 };
		bool exports = card_init_name(card, *i, fd);
		if (exports) {
			card_init_buffer(card, fd);
		}
		close(fd);
		if (exports) {
			(*i)++;
			return true;
		}
	}
	return false;
}

void derive_card_finish(struct derive_card *card) {
	if (card->dmabuf_fd >= 0) {
		close(card->dmabuf_fd);
	}
	card->dmabuf_fd = -1;
}

