/* SPDX-License-Identifier: MIT */
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/render/wlr_texture.h>

#include "renderer_copy.h"

/** Draws the source's pixels with the renderer that drew the source. */
static bool copy_by_render_pass(struct wlr_renderer *renderer, struct wlr_texture *texture,
		struct wlr_buffer *target, const pixman_region32_t *region) {
	struct wlr_render_pass *pass = wlr_renderer_begin_buffer_pass(renderer, target, NULL);
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
static bool copy_by_read_back(struct wlr_texture *texture, struct wlr_buffer *target,
		const pixman_region32_t *region) {
	void *data;
	uint32_t format;
	size_t stride;
	if (!wlr_buffer_begin_data_ptr_access(target, WLR_BUFFER_DATA_PTR_ACCESS_WRITE,
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
	wlr_buffer_end_data_ptr_access(target);
	return ok;
}

bool vt_renderer_copy(struct wlr_renderer *renderer, struct wlr_buffer *source,
		struct wlr_buffer *target, const pixman_region32_t *region) {
	struct wlr_texture *texture = wlr_texture_from_buffer(renderer, source);
	if (texture == NULL) {
		return false;
	}
	bool ok = renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR ?
		copy_by_render_pass(renderer, texture, target, region) :
		copy_by_read_back(texture, target, region);
	wlr_texture_destroy(texture);
	return ok;
}
