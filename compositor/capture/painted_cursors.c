/* SPDX-License-Identifier: MIT */
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/allocator.h>
#include <wlr/render/pass.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/transform.h>

#include "painted_cursors.h"

void vt_painted_cursors_init(struct vt_painted_cursors *cursors, struct wlr_output *output) {
	*cursors = (struct vt_painted_cursors){ .output = output };
}

void vt_painted_cursors_lock(struct vt_painted_cursors *cursors) {
	if (cursors->output->hardware_cursor != NULL) {
		cursors->displayed = cursors->output->hardware_cursor;
	}
	cursors->n_locks++;
	wlr_output_lock_software_cursors(cursors->output, true);
}

void vt_painted_cursors_forget(struct vt_painted_cursors *cursors) {
	cursors->displayed = NULL;
}

/** The cursor, if it exists, and if it could be displayed now. */
static struct wlr_output_cursor *find_cursor(const struct vt_painted_cursors *cursors) {
	struct wlr_output *output = cursors->output;
	if (output->hardware_cursor != NULL || output->software_cursor_locks > 0 ||
			!output->enabled || output->cursor_swapchain == NULL) {
		return NULL;
	}
	struct wlr_output_cursor *cursor;
	wl_list_for_each(cursor, &output->cursors, link) {
		if (cursor == cursors->displayed) {
			return cursor->enabled && cursor->texture != NULL ? cursor : NULL;
		}
	}
	return NULL;
}

/**
 * The pixels of which wlr_output_cursor_set_buffer() makes so many again: it divides by the
 * output's scale, without the fraction, and multiplies.
 */
static int unscale(int pixels, float scale) {
	int size = pixels < 0 ? -pixels : pixels;
	int logical = (int)((float)size / scale + 0.5F);
	int unscaled = (int)((float)logical * scale);
	while ((int)((float)unscaled / scale) < logical) {
		unscaled++;
	}
	return pixels < 0 ? -unscaled : unscaled;
}

/** The cursor's image, upright, which is the renderer's alone. False on failure. */
static bool draw_image(const struct wlr_output_cursor *cursor, struct wlr_buffer *buffer) {
	struct wlr_render_pass *pass =
		wlr_renderer_begin_buffer_pass(cursor->output->renderer, buffer, NULL);
	if (pass == NULL) {
		return false;
	}
	struct wlr_box box = { .width = buffer->width, .height = buffer->height };
	wlr_render_pass_add_rect(pass, &(struct wlr_render_rect_options){
		.box = box,
		.blend_mode = WLR_RENDER_BLEND_MODE_NONE,
	});
	wlr_render_pass_add_texture(pass, &(struct wlr_render_texture_options){
		.texture = cursor->texture,
		.src_box = cursor->src_box,
		.dst_box = box,
		.transform = wlr_output_transform_invert(cursor->transform),
		.wait_timeline = cursor->wait_timeline,
		.wait_point = cursor->wait_point,
	});
	return wlr_render_pass_submit(pass);
}

static void cursors_give_back(struct vt_painted_cursors *cursors) {
	struct wlr_output *output = cursors->output;
	struct wlr_output_cursor *cursor = find_cursor(cursors);
	cursors->displayed = NULL;
	if (cursor == NULL) {
		return;
	}
	// wlroots tries the display anew for a new image alone, be it the same
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(output->allocator,
		unscale((int)cursor->width, output->scale),
		unscale((int)cursor->height, output->scale), &output->cursor_swapchain->format);
	if (buffer == NULL) {
		return;
	}
	if (draw_image(cursor, buffer)) {
		wlr_output_cursor_set_buffer(cursor, buffer, unscale(cursor->hotspot_x, output->scale),
			unscale(cursor->hotspot_y, output->scale));
	}
	wlr_buffer_drop(buffer);
}

void vt_painted_cursors_unlock(struct vt_painted_cursors *cursors) {
	wlr_output_lock_software_cursors(cursors->output, false);
	if (--cursors->n_locks == 0 && cursors->displayed != NULL) {
		cursors_give_back(cursors);
	}
}
