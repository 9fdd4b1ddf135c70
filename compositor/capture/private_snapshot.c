/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/wlr_renderer.h>

#include "budget.h"
#include "gbm_buffer.h"
#include "private_snapshot.h"

/** Of the buffer that is made to see whether there are any, in pixels. */
#define TRIAL_SIZE 64

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

/** Whether there are such buffers: drivers do not say what they can export, or how. */
static bool try_format(struct wlr_allocator *allocator, const struct wlr_drm_format *format) {
	struct wlr_buffer *buffer =
		wlr_allocator_create_buffer(allocator, TRIAL_SIZE, TRIAL_SIZE, format);
	if (buffer == NULL) {
		return false;
	}
	wlr_buffer_drop(buffer);
	return true;
}

static bool choose_format(struct wlr_drm_format *format, struct wlr_allocator *allocator,
		const struct vt_reader *reader, dev_t device, uint32_t output_fourcc) {
	const uint32_t fourccs[] = {
		output_fourcc, // what loses nothing, then what every renderer draws
		DRM_FORMAT_XRGB8888, DRM_FORMAT_ARGB8888, DRM_FORMAT_XBGR8888,
	};
	for (size_t i = 0; i < sizeof(fourccs) / sizeof(fourccs[0]); i++) {
		if (!init_format(format, reader, device, fourccs[i])) {
			continue;
		} else if (try_format(allocator, format)) {
			return true;
		}
		wlr_drm_format_finish(format);
	}
	*format = (struct wlr_drm_format){0};
	return false;
}

/** The allocator that private snapshots of an output share. NULL on failure. */
static struct wlr_allocator *get_allocator(struct vt_snapshots_common *common,
		struct wlr_renderer *renderer) {
	if (common->allocator == NULL) {
		common->allocator =
			vt_gbm_allocator_create(wlr_renderer_get_drm_fd(renderer), false);
	}
	return common->allocator;
}

/** False if it cannot be, or there is no memory. */
static bool snapshots_choose(struct vt_snapshots *snapshots, const struct vt_subscriber *subscriber) {
	struct wlr_output *output = snapshots->output;
	dev_t device = get_device(output->renderer);
	snapshots->allocator =
		device != 0 ? get_allocator(snapshots->common, output->renderer) : NULL;
	return snapshots->allocator != NULL && choose_format(&snapshots->format,
		snapshots->allocator, &subscriber->reader, device, output->render_format);
}

struct vt_snapshots *vt_private_snapshots_create(struct vt_manager *manager,
		struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
		struct vt_subscriber *subscriber, size_t size, const struct vt_stream_interface *impl,
		void *data) {
	struct vt_snapshots *snapshots = calloc(1, sizeof(*snapshots));
	if (snapshots == NULL) {
		return NULL;
	}
	wl_list_init(&snapshots->link);
	bool ok = vt_snapshots_init(snapshots, manager, output, borrowed_common, impl, data);
	snapshots->stream.is_private = true;
	snapshots->stream.reserve_for = (struct vt_reserve_for){
		.quota = vt_quota_ref(subscriber->quota),
		.is_private = true,
	};
	if (!ok || !vt_charge_try(&snapshots->copier_charge, subscriber->quota, VT_QUOTA_COPIERS, 1) ||
			!vt_stream_admit(&snapshots->stream, subscriber, size)) {
		vt_private_snapshots_destroy(snapshots);
		return NULL;
	}
	return snapshots;
}

struct vt_snapshots *vt_given_snapshots_create(struct vt_manager *manager,
		struct wlr_output *output, struct vt_snapshots_common *borrowed_common,
		struct vt_subscriber *subscriber, const struct vt_stream_interface *impl,
		void *data, enum vitrine_view_stop_reason *reason) {
	*reason = VITRINE_VIEW_STOP_NO_RESOURCES;
	size_t size = (size_t)output->width * (size_t)output->height * 4;
	struct vt_snapshots *snapshots = vt_private_snapshots_create(manager, output,
		borrowed_common, subscriber, size, impl, data);
	if (snapshots == NULL) {
		return NULL;
	}
	snapshots->stream.is_given = true;
	if (!snapshots_choose(snapshots, subscriber)) {
		*reason = VITRINE_VIEW_STOP_UNSUPPORTED;
		goto err;
	}
	if (!vt_snapshots_charge(snapshots, subscriber->quota, output->width, output->height)) {
		goto err;
	}
	return snapshots;
err:
	vt_private_snapshots_destroy(snapshots);
	return NULL;
}

void vt_private_snapshots_destroy(struct vt_snapshots *snapshots) {
	struct vt_quota *quota = snapshots->stream.reserve_for.quota;
	wl_list_remove(&snapshots->link);
	vt_snapshots_finish(snapshots);
	vt_quota_unref(quota);
	wlr_drm_format_finish(&snapshots->format);
	free(snapshots);
}
