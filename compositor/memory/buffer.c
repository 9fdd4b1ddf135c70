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
}

struct vt_buffer *vt_buffer_try_from_buffer(struct wlr_buffer *wlr_buffer) {
	if (wlr_buffer->impl->destroy != vt_buffer_handle_destroy) {
		return NULL;
	}
	struct vt_buffer *buffer = wl_container_of(wlr_buffer, buffer, base);
	return buffer;
}

void vt_buffer_handle_destroy(struct wlr_buffer *wlr_buffer) {
	struct vt_buffer *buffer = vt_buffer_try_from_buffer(wlr_buffer);
	wlr_buffer_finish(wlr_buffer);
	vt_view_fds_finish(&buffer->derived);
	wlr_dmabuf_attributes_finish(&buffer->dmabuf);
	buffer_get_kind(buffer)->destroy(buffer);
}

bool vt_buffer_handle_get_dmabuf(struct wlr_buffer *wlr_buffer,
		struct wlr_dmabuf_attributes *dmabuf) {
	*dmabuf = vt_buffer_try_from_buffer(wlr_buffer)->dmabuf;
	return dmabuf->n_planes > 0;
}

/* What a client can read */

enum vitrine_storage vt_buffer_get_dmabuf_storage(const struct vt_buffer *buffer,
		const struct vt_reader *reader) {
	bool is_mapped = buffer->is_mapped_dmabuf && buffer->modifier == DRM_FORMAT_MOD_LINEAR &&
		(reader->storages & VITRINE_STORAGE_MAPPED_DMABUF) &&
		vt_reader_takes_cpu_format(reader, buffer->fourcc);
	return is_mapped ? VITRINE_STORAGE_MAPPED_DMABUF : VITRINE_STORAGE_DMABUF;
}

uint32_t vt_buffer_get_readable(const struct vt_buffer *buffer, const struct vt_reader *reader) {
	uint32_t readable = 0;
	if ((reader->storages & VITRINE_STORAGE_MEMFD) &&
			vt_reader_takes_cpu_format(reader, buffer->fourcc)) {
		readable |= VITRINE_GUARANTEE_SEALED;
	}
	if (vt_buffer_get_dmabuf_storage(buffer, reader) == VITRINE_STORAGE_MAPPED_DMABUF ||
			((reader->storages & VITRINE_STORAGE_DMABUF) && vt_reader_takes_dmabuf(reader,
			buffer->device, buffer->fourcc, buffer->modifier))) {
		readable |= VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY;
	}
	if (reader->takes_any_dmabuf && !buffer->is_mapped_dmabuf) {
		// Only a GPU reads this, and drivers of GPUs map what they import for writing
		// too, which a guard refuses. The protocol has no way to ask for other memory
		readable &= ~(uint32_t)VITRINE_GUARANTEE_GUARDED;
	}
	return readable;
}

/* Deriving */

void vt_view_fds_finish(struct vt_view_fds *fds) {
	for (int i = 0; i < fds->n_planes; i++) {
		close(fds->fds[i]);
	}
	fds->n_planes = 0;
}

bool vt_view_fds_copy(const struct vt_view_fds *fds, struct vt_view_fds *copy) {
	*copy = *fds;
	for (copy->n_planes = 0; copy->n_planes < fds->n_planes; copy->n_planes++) {
		int fd = fcntl(fds->fds[copy->n_planes], F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			wlr_log_errno(WLR_ERROR, "Failed to duplicate a view");
			vt_view_fds_finish(copy);
			return false;
		}
		copy->fds[copy->n_planes] = fd;
	}
	return true;
}

/**
 * Whether what is kept is the best that can be derived. There is nothing better than
 * `sealed`, and the first one is from before any client had the memfd: a holder with our
 * uid can keep us from opening it again, if it changes its mode often enough.
 */
static bool buffer_has_derived(const struct vt_buffer *buffer, uint32_t acceptable) {
	const struct vt_view_fds *derived = &buffer->derived;
	return derived->n_planes > 0 && (acceptable & derived->guarantee) &&
		(derived->guarantee == VITRINE_GUARANTEE_SEALED ||
			!(acceptable & ~buffer->refused & ~buffer->derived_from));
}

/**
 * Derives the first plane by the best means, and the others by the same. Returns 0,
 * or a negative errno with nothing derived.
 */
static int buffer_derive_planes(const struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, struct vt_view_fds *fds) {
	struct vitrine_derived_fd derived;
	int n_planes = 1;
	for (fds->n_planes = 0; fds->n_planes < n_planes; fds->n_planes++) {
		struct vitrine_derive_source source;
		if (!buffer_get_kind(buffer)->get_derive_source(buffer, fds->n_planes,
				buffer->is_scanned_out, &source)) {
			vt_view_fds_finish(fds);
			return -EAGAIN;
		}
		int ret = vitrine_derive_fd(derive, &source, acceptable, &derived);
		if (ret != 0) {
			vt_view_fds_finish(fds);
			return ret;
		}
		acceptable = derived.guarantee;
		n_planes = derived.storage == VITRINE_STORAGE_MEMFD ? 1 : buffer->dmabuf.n_planes;
		fds->fds[fds->n_planes] = derived.fd;
	}
	fds->guarantee = derived.guarantee;
	fds->storage = derived.storage;
	return 0;
}

bool vt_buffer_can_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, bool is_scanned_out) {
	if (buffer->is_scanned_out != is_scanned_out) {
		vt_view_fds_finish(&buffer->derived);
		buffer->refused = 0;
		buffer->is_scanned_out = is_scanned_out;
	}
	struct vitrine_derive_source source;
	if (vt_buffer_has_refused(buffer, acceptable) || !buffer_get_kind(buffer)->get_derive_source(buffer,
			0, is_scanned_out, &source)) {
		return false;
	} else if (buffer_has_derived(buffer, acceptable)) {
		return true;
	}
	vt_view_fds_finish(&buffer->derived);
	int ret = buffer_derive_planes(buffer, derive, acceptable, &buffer->derived);
	if (ret == 0) {
		buffer->derived_from = acceptable;
	} else if (ret == -EOPNOTSUPP) {
		buffer->refused |= acceptable; // other errors may go away
	} else {
		wlr_log(WLR_ERROR, "Failed to derive a read-only view: %s", strerror(-ret));
	}
	return ret == 0;
}

bool vt_buffer_has_refused(const struct vt_buffer *buffer, uint32_t guarantees) {
	return !(guarantees & ~buffer->refused);
}

bool vt_buffer_derive(struct vt_buffer *buffer, struct vitrine_derive *derive,
		uint32_t acceptable, bool is_scanned_out, struct vt_view_fds *fds) {
	*fds = (struct vt_view_fds){0};
	if (!vt_buffer_can_derive(buffer, derive, acceptable, is_scanned_out)) {
		return false;
	}
	if (buffer->derived.storage == VITRINE_STORAGE_MEMFD) {
		return vt_view_fds_copy(&buffer->derived, fds);
	}
	*fds = buffer->derived;
	buffer->derived.n_planes = 0;
	return true;
}

bool vt_buffer_give(const struct vt_buffer *buffer, struct vt_view_fds *fds) {
	struct vt_view_fds own = {
		.guarantee = VITRINE_GUARANTEE_SNAPSHOT,
		.storage = VITRINE_STORAGE_DMABUF,
		.n_planes = buffer->dmabuf.n_planes,
	};
	memcpy(own.fds, buffer->dmabuf.fd, sizeof(own.fds));
	return vt_view_fds_copy(&own, fds);
}

/* Retirement */

bool vt_buffer_can_replace_memory(const struct vt_buffer *buffer) {
	// Users of a dma-buf would go on with the old memory
	return buffer->dmabuf.n_planes == 0;
}

void vt_buffer_retire(struct vt_buffer *buffer) {
	buffer->retired = true;
	// Its holders are counted from now on, and we are none of them
	vt_view_fds_finish(&buffer->derived);
}

void vt_buffer_set_fresh(struct vt_buffer *buffer) {
	vt_view_fds_finish(&buffer->derived);
	buffer->retired = false;
	buffer->generation++;
}

void vt_buffer_expect_retirement(struct vt_buffer *buffer) {
	const struct vt_buffer_kind *kind = buffer_get_kind(buffer);
	if (kind->expect_retirement != NULL) {
		kind->expect_retirement(buffer);
	}
}

void vt_buffer_prepare_memory(const struct vt_buffer *buffer) {
	const struct vt_buffer_kind *kind = buffer_get_kind(buffer);
	if (kind->prepare_memory != NULL) {
		kind->prepare_memory(buffer);
	}
}
