/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/wlr_renderer.h>

#include "gbm_buffer.h"
#include "private_snapshot.h"

/** The device that the renderer draws with, as vt_reader_find_node() says; 0 if none. */
static dev_t get_device(struct wlr_renderer *renderer) {
	int drm_fd = renderer != NULL && !(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) ?
		wlr_renderer_get_drm_fd(renderer) : -1;
	struct stat stat;
	return drm_fd >= 0 && fstat(drm_fd, &stat) == 0 ? vt_reader_find_node(stat.st_rdev) : 0;
}

/** The modifiers in which the client reads a format. False if there are none, or no memory. */
static bool init_format(struct wlr_drm_format *format, const struct vt_reader *reader,
		dev_t device, uint32_t fourcc) {
	size_t cap = reader->formats.size / sizeof(struct vt_reader_format);
	*format = (struct wlr_drm_format){
		.format = fourcc,
		.capacity = cap,
		.modifiers = cap > 0 ? calloc(cap, sizeof(*format->modifiers)) : NULL,
	};
	const struct vt_reader_format *entry;
	wl_array_for_each(entry, &reader->formats) {
		if (format->modifiers != NULL && entry->device == device && entry->fourcc == fourcc) {
			format->modifiers[format->len++] = entry->modifier;
		}
	}
	if (format->len == 0) {
		wlr_drm_format_finish(format);
		return false;
	}
	return true;
}

static bool choose_format(struct wlr_drm_format *format, const struct vt_reader *reader,
		dev_t device, uint32_t output_fourcc) {
	// What loses nothing, then what every renderer draws
	return init_format(format, reader, device, output_fourcc) ||
		init_format(format, reader, device, DRM_FORMAT_XRGB8888) ||
		init_format(format, reader, device, DRM_FORMAT_ARGB8888) ||
		init_format(format, reader, device, DRM_FORMAT_XBGR8888);
}

struct vt_snapshots *vt_private_snapshots_create(struct vt_manager *manager,
		struct wlr_output *output, const struct vt_subscriber *subscriber,
		const struct vt_stream_interface *impl, void *data) {
	dev_t device = get_device(output->renderer);
	struct wlr_drm_format format;
	if (device == 0 ||
			!choose_format(&format, &subscriber->reader, device, output->render_format)) {
		return NULL;
	}
	struct vt_snapshots *snapshots = calloc(1, sizeof(*snapshots));
	if (snapshots == NULL) {
		wlr_drm_format_finish(&format);
		return NULL;
	}
	bool ok = vt_snapshots_init(snapshots, manager, output, impl, data);
	snapshots->stream.is_private = true;
	snapshots->format = format;
	wl_list_init(&snapshots->link);
	snapshots->allocator = vt_gbm_allocator_create(wlr_renderer_get_drm_fd(output->renderer),
		false);
	if (!ok || snapshots->allocator == NULL) {
		vt_private_snapshots_destroy(snapshots);
		return NULL;
	}
	return snapshots;
}

void vt_private_snapshots_destroy(struct vt_snapshots *snapshots) {
	wl_list_remove(&snapshots->link);
	vt_snapshots_finish(snapshots);
	wlr_drm_format_finish(&snapshots->format);
	free(snapshots);
}
