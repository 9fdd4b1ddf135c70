/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/render/allocator.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/render/wlr_texture.h>
#include <wlr/util/log.h>

#include "fence.h"
#include "memfd_buffer.h"
#include "snapshot.h"

/** What every renderer draws, and every reader understands. */
#define SNAPSHOT_FORMAT DRM_FORMAT_XRGB8888

/** Makes the swapchain that copies go to fit the output. */
static bool snapshots_configure(struct vt_snapshots *snapshots, int width, int height) {
	if (snapshots->allocator == NULL) {
		snapshots->allocator = vt_memfd_allocator_create();
		if (snapshots->allocator == NULL) {
			return false;
		}
	}
	struct wlr_swapchain *old = snapshots->swapchain;
	if (old != NULL && old->width == width && old->height == height) {
		return true;
	}
	uint64_t modifier = DRM_FORMAT_MOD_LINEAR;
	const struct wlr_drm_format format = {
		.format = SNAPSHOT_FORMAT,
		.len = 1,
		.capacity = 1,
		.modifiers = &modifier,
	};
	struct wlr_swapchain *swapchain =
		wlr_swapchain_create(snapshots->allocator, width, height, &format);
	if (swapchain == NULL) {
		return false;
	}
	wlr_swapchain_destroy(old);
	snapshots->swapchain = swapchain;
	return true;
}

/** Draws the source's pixels with the renderer that drew the source. */
static bool copy_by_render_pass(struct wlr_renderer *renderer, struct wlr_texture *texture,
		struct wlr_buffer *copy, const pixman_region32_t *region) {
	struct wlr_render_pass *pass = wlr_renderer_begin_buffer_pass(renderer, copy, NULL);
	if (pass == NULL) {
		return false;
	}
	wlr_render_pass_add_texture(pass, &(struct wlr_render_texture_options){
		.texture = texture,
		.clip = region,
		.blend_mode = WLR_RENDER_BLEND_MODE_NONE,
	});
	return wlr_render_pass_submit(pass);
}

/** For a renderer that cannot draw to memory: reads the source's pixels back. */
static bool copy_by_read_back(struct wlr_texture *texture, struct wlr_buffer *copy,
		const pixman_region32_t *region) {
	void *data;
	uint32_t format;
	size_t stride;
	if (!wlr_buffer_begin_data_ptr_access(copy, WLR_BUFFER_DATA_PTR_ACCESS_WRITE,
			&data, &format, &stride)) {
		return false;
	}
	bool ok = true;
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	for (int i = 0; i < n_rects && ok; i++) {
		ok = wlr_texture_read_pixels(texture, &(struct wlr_texture_read_pixels_options){
			.data = data,
			.format = format,
			.stride = (uint32_t)stride,
			.dst_x = (uint32_t)rects[i].x1,
			.dst_y = (uint32_t)rects[i].y1,
			.src_box = {
				.x = rects[i].x1,
				.y = rects[i].y1,
				.width = rects[i].x2 - rects[i].x1,
				.height = rects[i].y2 - rects[i].y1,
			},
		});
	}
	wlr_buffer_end_data_ptr_access(copy);
	return ok;
}

/** Memory is not always a dma-buf as well: /dev/udmabuf has a limit of size. */
static bool can_draw_to(const struct wlr_renderer *renderer, struct wlr_buffer *copy) {
	struct wlr_dmabuf_attributes dmabuf;
	return renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR ||
		(renderer->render_buffer_caps & WLR_BUFFER_CAP_DMABUF &&
		wlr_buffer_get_dmabuf(copy, &dmabuf));
}

static bool copy_buffer(struct wlr_renderer *renderer, struct wlr_buffer *buffer,
		struct wlr_buffer *copy, const pixman_region32_t *region) {
	struct wlr_texture *texture = wlr_texture_from_buffer(renderer, buffer);
	if (texture == NULL) {
		return false;
	}
	bool ok = can_draw_to(renderer, copy) ?
		copy_by_render_pass(renderer, texture, copy, region) :
		copy_by_read_back(texture, copy, region);
	wlr_texture_destroy(texture);
	return ok;
}

static uint64_t region_get_bytes(const pixman_region32_t *region) {
	uint64_t pixels = 0;
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	for (int i = 0; i < n_rects; i++) {
		pixels += (uint64_t)(rects[i].x2 - rects[i].x1) * (uint64_t)(rects[i].y2 - rects[i].y1);
	}
	return pixels * 4;
}

/** Draws what is stale of a copy. */
static bool snapshots_update(struct vt_snapshots *snapshots, struct wlr_buffer *source,
		struct vt_stream_buffer *buffer) {
	struct wlr_buffer *copy = &buffer->buffer->base;
	if (!pixman_region32_empty(&buffer->stale) &&
			!copy_buffer(snapshots->output->renderer, source, copy, &buffer->stale)) {
		wlr_log(WLR_ERROR, "Failed to copy a frame");
		return false; // it is still stale
	}
	uint64_t bytes = region_get_bytes(&buffer->stale);
	pixman_region32_clear(&buffer->stale);
	struct vt_subscriber *subscriber;
	wl_list_for_each(subscriber, &snapshots->stream.subscribers, stream_link) {
		subscriber->stats.bytes_copied += bytes;
	}
	return true;
}

/** Returns a copy of the buffer, which is locked, or NULL. */
static struct vt_stream_buffer *snapshots_copy(struct vt_snapshots *snapshots,
		struct wlr_buffer *source) {
	struct vt_stream *stream = &snapshots->stream;
	if (snapshots->output->renderer == NULL ||
			!snapshots_configure(snapshots, source->width, source->height)) {
		return NULL;
	}
	struct wlr_buffer *copy = wlr_swapchain_acquire(snapshots->swapchain);
	if (copy == NULL) {
		return NULL;
	}
	struct vt_buffer *vt_buffer = vt_buffer_try_from_buffer(copy);
	struct vt_stream_buffer *buffer = vt_stream_get_buffer(stream, vt_buffer);
	if (buffer == NULL || !snapshots_update(snapshots, source, buffer)) {
		wlr_buffer_unlock(copy);
		return NULL;
	}
	// Again: what was drawn to may have got other memory for it
	return vt_stream_get_buffer(stream, vt_buffer);
}

void vt_snapshots_push(struct vt_snapshots *snapshots,
		const struct wlr_output_event_commit *event, const pixman_region32_t *damage) {
	struct vt_stream *stream = &snapshots->stream;
	struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &stream->buffers, link) {
		vt_damage_add(&buffer->stale, damage);
	}
	if (!vt_stream_wants_frame(stream)) {
		// No subscriber could take it. One that can later on requests a frame then
		vt_stream_lose(stream, damage);
		return;
	}

	buffer = snapshots_copy(snapshots, event->state->buffer);
	if (buffer == NULL) {
		vt_stream_fail(stream, damage);
		return;
	}
	struct wlr_output *output = snapshots->output;
	struct wlr_buffer *copy = &buffer->buffer->base;
	vt_stream_submit(stream, &(struct vt_stream_frame){
		.buffer = buffer,
		.when = event->when,
		.transform = (uint32_t)output->transform,
		.damage = *damage,
		// The copy was drawn after the frame: it is finished when all is
		.fence_fd = vt_render_fence(output->renderer, NULL, copy),
	});
	wlr_buffer_unlock(copy);
}

static void snapshots_drop_swapchain(struct vt_snapshots *snapshots) {
	wlr_swapchain_destroy(snapshots->swapchain);
	snapshots->swapchain = NULL;
}

void vt_snapshots_retire(struct vt_snapshots *snapshots) {
	bool must_drop = false;
	const struct vt_stream_buffer *buffer;
	wl_list_for_each(buffer, &snapshots->stream.buffers, link) {
		must_drop |= !vt_buffer_can_replace_memory(buffer->buffer);
	}
	vt_stream_retire(&snapshots->stream);
	if (must_drop) {
		snapshots_drop_swapchain(snapshots);
	}
}

void vt_snapshots_forget(struct vt_snapshots *snapshots) {
	vt_stream_forget(&snapshots->stream);
	snapshots_drop_swapchain(snapshots);
}

bool vt_snapshots_init(struct vt_snapshots *snapshots, struct vt_manager *manager,
		struct wlr_output *output, const struct vt_stream_interface *impl, void *data) {
	snapshots->output = output;
	bool ok = vt_stream_init(&snapshots->stream, manager, impl, data);
	snapshots->stream.is_copy = true;
	return ok;
}

void vt_snapshots_finish(struct vt_snapshots *snapshots) {
	vt_stream_finish(&snapshots->stream);
	snapshots_drop_swapchain(snapshots);
	wlr_allocator_destroy(snapshots->allocator);
}
