/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <wlr/interfaces/wlr_ext_image_capture_source_v1.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>

#include "capture_source.h"
#include "clock.h"
#include "manager.h"
#include "pacer.h"

/** Where no screen is known to show the window: that of most, in mHz. */
#define FALLBACK_REFRESH 60000

struct vt_pacer {
	struct vt_capture_source *capture_source; // NULL once it goes away
	struct wl_event_source *timer;
	bool started; // the capture source is
	bool wants_frame; // even though nothing has changed
	bool armed;
	int64_t due_ns; // when the next frame may be drawn, of CLOCK_MONOTONIC
};

struct fastest_output {
	struct vt_manager *manager;
	int32_t refresh; // mHz, 0 if there is none
};

/**
 * The node is often one that is there for the capture alone, and shown nowhere.
 * But its surfaces are those of the window, and know of each output.
 */
static void fastest_output_handle_buffer(struct wlr_scene_buffer *buffer, int sx, int sy,
		void *data) {
	struct fastest_output *fastest = data;
	struct wlr_scene_surface *scene_surface = wlr_scene_surface_try_from_buffer(buffer);
	if (scene_surface == NULL) {
		return;
	}
	struct wlr_surface_output *entered;
	wl_list_for_each(entered, &scene_surface->surface->current_outputs, link) {
		// Those that captures are drawn to are among them
		const struct wlr_output *output = entered->output;
		if (output->enabled && output->refresh > fastest->refresh &&
				vt_capture_source_from_output(fastest->manager, output) == NULL) {
			fastest->refresh = output->refresh;
		}
	}
}

static int64_t capture_source_get_period_ns(const struct vt_capture_source *capture_source) {
	struct fastest_output fastest = { .manager = capture_source->manager };
	if (capture_source->node != NULL) {
		wlr_scene_node_for_each_buffer(capture_source->node, fastest_output_handle_buffer,
			&fastest);
	}
	return 1000000 * VT_NS_PER_MS / (fastest.refresh > 0 ? fastest.refresh : FALLBACK_REFRESH);
}

/** Timers are in ms: late rather than early, which the frame after makes up for. */
static void pacer_arm(struct vt_pacer *pacer) {
	if (pacer->armed) {
		return;
	}
	pacer->armed = true;
	int64_t ms = (pacer->due_ns - vt_now_ns() + VT_NS_PER_MS - 1) / VT_NS_PER_MS;
	wl_event_source_timer_update(pacer->timer, ms > 1 ? (int)ms : 1); // 0 would disarm it
}

/** Draws even though nothing has changed: sources of wlroots draw what is damaged. */
static void draw_whole(struct wlr_output *output) {
	pixman_region32_t whole;
	pixman_region32_init_rect(&whole, 0, 0, (unsigned)output->width, (unsigned)output->height);
	wl_signal_emit_mutable(&output->events.damage, &(struct wlr_output_event_damage){
		.output = output,
		.damage = &whole,
	});
	pixman_region32_fini(&whole);
	wlr_output_update_needs_frame(output); // for those that do not listen
	wlr_output_send_frame(output);
}

static int pacer_handle_timer(void *data) {
	struct vt_pacer *pacer = data;
	struct wlr_ext_image_capture_source_v1 *wlr_source = pacer->capture_source->wlr_source;
	pacer->armed = false;
	if (vt_now_ns() < pacer->due_ns) {
		pacer_arm(pacer); // one was drawn since, for another capture
		return 0;
	}
	if (!pacer->wants_frame) {
		// Draws if something has changed. If not, the next change does
		wlr_source->impl->request_frame(wlr_source, false);
		return 0;
	}
	pacer->wants_frame = false;
	struct wlr_output *output = pacer->capture_source->output;
	uint32_t commit_seq = output->commit_seq;
	if (!pacer->started) {
		pacer->started = true;
		wlr_source->impl->start(wlr_source, false);
	}
	if (output->commit_seq == commit_seq) {
		// Starting draws, but only if no other client's capture has started it
		draw_whole(output);
	}
	return 0;
}

struct vt_pacer *vt_pacer_create(struct vt_capture_source *capture_source) {
	struct vt_pacer *pacer = calloc(1, sizeof(*pacer));
	if (pacer == NULL) {
		return NULL;
	}
	pacer->capture_source = capture_source;
	pacer->timer = wl_event_loop_add_timer(capture_source->manager->loop, pacer_handle_timer,
		pacer);
	if (pacer->timer == NULL) {
		free(pacer);
		return NULL;
	}
	return pacer;
}

void vt_pacer_destroy(struct vt_pacer *pacer) {
	if (pacer == NULL) {
		return;
	}
	wl_event_source_remove(pacer->timer);
	if (pacer->started) {
		struct wlr_ext_image_capture_source_v1 *wlr_source = pacer->capture_source->wlr_source;
		wlr_source->impl->stop(wlr_source);
	}
	free(pacer);
}

void vt_pacer_forget_source(struct vt_pacer *pacer) {
	pacer->capture_source = NULL;
	pacer->started = false;
	wl_event_source_timer_update(pacer->timer, 0);
}

void vt_pacer_request_frame(struct vt_pacer *pacer) {
	if (pacer->capture_source != NULL) {
		pacer->wants_frame = true;
		pacer_arm(pacer);
	}
}

void vt_pacer_handle_commit(struct vt_pacer *pacer) {
	if (pacer->capture_source == NULL) {
		return;
	}
	int64_t now = vt_now_ns();
	int64_t period = capture_source_get_period_ns(pacer->capture_source);
	if (now < pacer->due_ns || now >= pacer->due_ns + period) {
		// Not ours, or the first one after a rest: what was missed is not caught up with
		pacer->due_ns = now;
	}
	pacer->due_ns += period;
	pacer_arm(pacer);
}
