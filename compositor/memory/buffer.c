/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "buffer.h"

static const struct vt_buffer_kind *buffer_get_kind(const struct vt_buffer *buffer) {
	const struct vt_buffer_kind *kind = wl_container_of(buffer->base.impl, kind, base);
	return kind;
}

void vt_buffer_init(struct vt_buffer *buffer, const struct vt_buffer_kind *kind, int width,
		int height) {
	wlr_buffer_init(&buffer->base, &kind->base, width, height);
	buffer->modifier = DRM_FORMAT_MOD_LINEAR;
	buffer->lease_fd = -1;
	buffer->derived.fd = -1;
}

struct vt_buffer *vt_buffer_try_from_buffer(struct wlr_buffer *wlr_buffer) {
	if (wlr_buffer->impl->destroy != vt_buffer_handle_destroy) {
		return NULL;
	}
	struct vt_buffer *buffer = wl_container_of(wlr_buffer, buffer, base);
	return buffer;
}

static void buffer_forget_derived(struct vt_buffer *buffer) {
	if (buffer->derived.fd >= 0) {
		close(buffer->derived.fd);
		buffer->derived.fd = -1;
	}
}

void vt_buffer_handle_destroy(struct wlr_buffer *wlr_buffer) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	wlr_buffer_finish(wlr_buffer);
	buffer_forget_derived(buffer);
	wlr_dmabuf_attributes_finish(&buffer->dmabuf);
	buffer_get_kind(buffer)->destroy(buffer);
}

/* Deriving */

/** Whether what is kept is the best that can be derived. */
static bool buffer_has_derived(const struct vt_buffer *buffer, uint32_t acceptable) {
	return buffer->derived.fd >= 0 && (acceptable & buffer->derived.guarantee) &&
		!(acceptable & ~buffer->refused & ~buffer->derived_from);
}

bool vt_buffer_can_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, bool is_scanned_out) {
	if (buffer->is_scanned_out != is_scanned_out) {
		buffer_forget_derived(buffer);
		buffer->refused = 0;
		buffer->is_scanned_out = is_scanned_out;
	}
	struct vitrine_derive_source source;
	if (!(acceptable & ~buffer->refused) ||
			!buffer_get_kind(buffer)->get_derive_source(buffer, is_scanned_out, &source)) {
		return false;
	} else if (buffer_has_derived(buffer, acceptable)) {
		return true;
	}
	buffer_forget_derived(buffer);
	int ret = vitrine_derive_fd(derive, &source, acceptable, &buffer->derived);
	if (ret == 0) {
		buffer->derived_from = acceptable;
	} else if (ret == -EOPNOTSUPP) {
		buffer->refused |= acceptable; // other errors may go away
	} else {
		wlr_log(WLR_ERROR, "Failed to derive a read-only view: %s", strerror(-ret));
	}
	return ret == 0;
}

bool vt_buffer_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, bool is_scanned_out, struct vitrine_derived_fd *derived) {
	if (!vt_buffer_can_derive(buffer, derive, acceptable, is_scanned_out)) {
		return false;
	}
	*derived = buffer->derived;
	if (derived->storage == VITRINE_STORAGE_MEMFD) {
		derived->fd = fcntl(buffer->derived.fd, F_DUPFD_CLOEXEC, 0);
	} else {
		buffer->derived.fd = -1;
	}
	return derived->fd >= 0;
}

/* Retirement */

bool vt_buffer_can_replace_memory(const struct vt_buffer *buffer) {
	// Users of a dma-buf would go on with the old memory
	return buffer->dmabuf.n_planes == 0;
}

void vt_buffer_retire(struct vt_buffer *buffer) {
	buffer->retired = true;
	// Its holders are counted from now on, and we are none of them
	buffer_forget_derived(buffer);
}

void vt_buffer_set_fresh(struct vt_buffer *buffer) {
	buffer_forget_derived(buffer);
	buffer->retired = false;
	buffer->generation++;
}

void vt_buffer_prepare_memory(const struct vt_buffer *buffer) {
	const struct vt_buffer_kind *kind = buffer_get_kind(buffer);
	if (kind->prepare_memory != NULL) {
		kind->prepare_memory(buffer);
	}
}
