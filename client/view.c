/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "private.h"

struct format_plane {
	uint8_t cpp; // bytes per pixel of the plane
	uint8_t hsub, vsub; // subsampling
};

struct format {
	uint32_t fourcc;
	uint32_t n_planes;
	struct format_plane planes[3];
};

#define PACKED(fourcc, cpp) { fourcc, 1, { { cpp, 1, 1 } } }

/** Formats whose layout can be checked, and so be mapped. */
static const struct format formats[] = {
	PACKED(DRM_FORMAT_XRGB8888, 4),
	PACKED(DRM_FORMAT_ARGB8888, 4),
	PACKED(DRM_FORMAT_XBGR8888, 4),
	PACKED(DRM_FORMAT_ABGR8888, 4),
	PACKED(DRM_FORMAT_RGBX8888, 4),
	PACKED(DRM_FORMAT_RGBA8888, 4),
	PACKED(DRM_FORMAT_BGRX8888, 4),
	PACKED(DRM_FORMAT_BGRA8888, 4),
	PACKED(DRM_FORMAT_XRGB2101010, 4),
	PACKED(DRM_FORMAT_ARGB2101010, 4),
	PACKED(DRM_FORMAT_XBGR2101010, 4),
	PACKED(DRM_FORMAT_ABGR2101010, 4),
	PACKED(DRM_FORMAT_RGB888, 3),
	PACKED(DRM_FORMAT_BGR888, 3),
	PACKED(DRM_FORMAT_RGB565, 2),
	PACKED(DRM_FORMAT_BGR565, 2),
	PACKED(DRM_FORMAT_R8, 1),
	PACKED(DRM_FORMAT_XBGR16161616, 8),
	PACKED(DRM_FORMAT_ABGR16161616, 8),
	PACKED(DRM_FORMAT_XBGR16161616F, 8),
	PACKED(DRM_FORMAT_ABGR16161616F, 8),
	{ DRM_FORMAT_NV12, 2, { { 1, 1, 1 }, { 2, 2, 2 } } },
	{ DRM_FORMAT_P010, 2, { { 2, 1, 1 }, { 4, 2, 2 } } },
	{ DRM_FORMAT_YUV420, 3, { { 1, 1, 1 }, { 1, 2, 2 }, { 1, 2, 2 } } },
};

static const struct format *find_format(uint32_t fourcc) {
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (formats[i].fourcc == fourcc) {
			return &formats[i];
		}
	}
	return NULL;
}

static int fail(const char **reason, const char *text, int error) {
	*reason = text;
	return error;
}

struct view *view_create(void) {
	struct view *view = calloc(1, sizeof(*view));
	if (view == NULL) {
		return NULL;
	}
	wl_list_init(&view->link);
	for (size_t i = 0; i < MAX_PLANES; i++) {
		view->planes[i].fd = -1;
	}
	return view;
}

void view_destroy(struct view *view) {
	if (view == NULL) {
		return;
	}
	for (size_t i = 0; i < MAX_PLANES; i++) {
		struct plane *plane = &view->planes[i];
		if (plane->data != NULL) {
			munmap(plane->data, plane->data_len);
		}
		if (plane->fd >= 0) {
			close(plane->fd);
		}
	}
	wl_list_remove(&view->link);
	free(view);
}

/** Whether the layout is known to us, so that it can be checked and read. */
static bool view_has_known_layout(const struct view *view) {
	return view->modifier == DRM_FORMAT_MOD_LINEAR && find_format(view->fourcc) != NULL;
}

static bool is_one_of(uint32_t bit, uint32_t mask) {
	return bit != 0 && (bit & (bit - 1)) == 0 && (bit & mask) != 0;
}

bool view_is_for_cpu(const struct view *view) {
	return (view->storage & VITRINE_STORAGE_CPU) != 0;
}

/** A private copy may be in any storage. */
static bool storage_fits(const struct view *view) {
	bool is_memfd = view->storage == VITRINE_STORAGE_MEMFD;
	return view->guarantee == VITRINE_GUARANTEE_SNAPSHOT ||
		is_memfd == (view->guarantee == VITRINE_GUARANTEE_SEALED);
}

/** Which device it is cannot be compared by its node: its format must do. */
static bool format_was_asked_for(const struct view *view, const struct vitrine_session *session) {
	for (size_t i = 0; i < session->n_formats; i++) {
		const struct vitrine_format *format = &session->formats[i];
		if (format->device != 0 && format->fourcc == view->fourcc &&
				format->modifier == view->modifier) {
			return true;
		}
	}
	return false;
}

int view_check(const struct view *view, const struct vitrine_session *session,
		const char **reason) {
	if (!is_one_of(view->guarantee, VITRINE_GUARANTEE_ALL)) {
		return fail(reason, "its guarantee is not exactly one known guarantee", -EPERM);
	}
	if (!is_one_of(view->guarantee, session->acceptable)) {
		return fail(reason, "its guarantee was not accepted", -EPERM);
	}
	if (!is_one_of(view->storage, VITRINE_STORAGE_ALL)) {
		return fail(reason, "its storage is not exactly one known storage", -EPERM);
	}
	if (!storage_fits(view)) {
		return fail(reason, "its storage does not fit its guarantee", -EPERM);
	}
	if (!is_one_of(view->storage, session->storages)) {
		return fail(reason, "its storage was not asked for", -EPERM);
	}
	if (view->width == 0 || view->height == 0 ||
			view->width > MAX_SIDE || view->height > MAX_SIDE) {
		return fail(reason, "its size is out of range", -EPERM);
	}
	if (!view_is_for_cpu(view) && !format_was_asked_for(view, session)) {
		return fail(reason, "its format or modifier was not asked for", -EPERM);
	}
	if (view_is_for_cpu(view) && !view_has_known_layout(view)) {
		return fail(reason, "its format or modifier cannot be read by the CPU", -ENOTSUP);
	}
	return 0;
}

/**
 * How many bytes of the file descriptor the plane covers. Returns false if the
 * layout makes no sense. Nothing can overflow: the sides are at most MAX_SIDE,
 * the rest has 32 bits.
 */
static bool plane_get_size(const struct view *view, uint32_t index, uint32_t offset,
		uint32_t stride, uint64_t *size) {
	const struct format *format = find_format(view->fourcc);
	if (!view_has_known_layout(view)) {
		// The stride of a tiled plane may mean anything, 0 included
		*size = (uint64_t)offset + (uint64_t)stride * view->height;
		return *size > 0;
	}
	if (index >= format->n_planes) {
		return false;
	}
	const struct format_plane *plane = &format->planes[index];
	uint64_t width = (view->width + plane->hsub - 1u) / plane->hsub;
	uint64_t height = (view->height + plane->vsub - 1u) / plane->vsub;
	if (stride < width * plane->cpp) {
		return false;
	}
	*size = offset + stride * (height - 1) + width * plane->cpp;
	return *size <= SIZE_MAX && *size <= INT64_MAX;
}

/**
 * vitrine_verify_fd() refuses what is not sealed or can be written. What else
 * passes for a file descriptor of this storage could shrink under a reader, or
 * could not be unmapped by pages: files and hugetlbfs.
 */
static bool fd_has_file_system(int fd, enum vitrine_storage storage) {
	struct statfs st;
	if (fstatfs(fd, &st) < 0) {
		return false;
	}
	if (storage != VITRINE_STORAGE_MEMFD) {
		return (unsigned long)st.f_type == DMA_BUF_MAGIC;
	}
	return (unsigned long)st.f_type == TMPFS_MAGIC || (unsigned long)st.f_type == RAMFS_MAGIC;
}

static int plane_map(struct plane *plane, uint64_t size, const char **reason) {
	// From offset 0: DRM shmem dma-bufs return the wrong page otherwise
	void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, plane->fd, 0);
	if (data == MAP_FAILED) {
		return fail(reason, "it cannot be mapped", errno == ENOMEM ? -ENOMEM : -ENOTSUP);
	}
	plane->data = data;
	plane->data_len = (size_t)size;
	return 0;
}

static int plane_check_and_map(const struct view *view, struct plane *plane,
		const char **reason) {
	uint64_t size;
	if (!plane_get_size(view, view->n_planes, plane->offset, plane->stride, &size)) {
		return fail(reason, "its offset and stride do not fit its format and size", -EPERM);
	}
	if (!fd_has_file_system(plane->fd, view->storage)) {
		return fail(reason, "its file descriptor is not of the storage that was announced", -EPERM);
	}
	// Never mapped before this said yes
	int ret = vitrine_verify_fd(plane->fd, view->storage, view->guarantee, size, reason);
	if (ret < 0) {
		return ret == -ENOMEM ? ret : -EPERM;
	}
	// What a mapping shows of a device's memory is anything
	return view_is_for_cpu(view) ? plane_map(plane, size, reason) : 0;
}

int view_add_plane(struct view *view, int take_fd, uint32_t offset, uint32_t stride,
		const char **reason) {
	if (view->n_planes == MAX_PLANES) {
		close(take_fd);
		return fail(reason, "it has too many planes", -EPERM);
	}
	struct plane *plane = &view->planes[view->n_planes];
	plane->fd = take_fd;
	plane->offset = offset;
	plane->stride = stride;
	int ret = plane_check_and_map(view, plane, reason);
	if (ret < 0) {
		close(plane->fd);
		plane->fd = -1;
		return ret;
	}
	view->n_planes++;
	return 0;
}

bool view_is_complete(const struct view *view) {
	if (!view_has_known_layout(view)) {
		return view->n_planes > 0;
	}
	return view->n_planes == find_format(view->fourcc)->n_planes;
}

static int plane_sync(const struct plane *plane, uint64_t flags) {
	struct dma_buf_sync sync = { .flags = flags | DMA_BUF_SYNC_READ };
	int ret;
	do {
		ret = ioctl(plane->fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : 0;
}

/** Whether DMA_BUF_IOCTL_SYNC would not have to wait for a fence. */
static bool plane_is_idle(const struct plane *plane) {
	struct pollfd pollfd = { .fd = plane->fd, .events = POLLIN };
	return poll(&pollfd, 1, 0) == 1;
}

int view_begin_read(struct view *view) {
	if (view->storage != VITRINE_STORAGE_MAPPED_DMABUF) {
		return 0;
	}
	for (uint32_t i = 0; i < view->n_planes; i++) {
		struct plane *plane = &view->planes[i];
		// The compositor has said that the pixels are complete. A fence that is
		// pending all the same was put there by another holder, who must not be
		// able to stop us: without waiting there is nothing to do on CPUs with
		// coherent caches.
		if (plane->is_synced || !plane_is_idle(plane)) {
			continue;
		}
		int ret = plane_sync(plane, DMA_BUF_SYNC_START);
		if (ret < 0) {
			return ret;
		}
		plane->is_synced = true;
	}
	return 0;
}

void view_end_read(struct view *view) {
	for (uint32_t i = 0; i < view->n_planes; i++) {
		if (view->planes[i].is_synced) {
			view->planes[i].is_synced = false;
			plane_sync(&view->planes[i], DMA_BUF_SYNC_END);
		}
	}
}
