/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <time.h>
#include <wlr/interfaces/wlr_ext_image_capture_source_v1.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_scene.h>

#include "capture_source.h"
#include "manager.h"
#include "viewed_output.h"

/** Where no screen is known to show the window: that of most, in mHz. */
#define FALLBACK_REFRESH 60000
#define NS_PER_MS INT64_C(1000000)

/* Registration */

struct wlr_output *vt_manager_find_output(struct vt_manager *manager,
		struct wlr_ext_image_capture_source_v1 *wlr_source) {
	struct vt_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->wlr_source == wlr_source) {
			return capture_source->output;
		}
	}
	return wlr_output_try_from_ext_image_capture_source_v1(wlr_source);
}

struct vt_capture_source *vt_manager_find_capture_source(struct vt_manager *manager,
		const struct wlr_output *output) {
	struct vt_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->output == output) {
			return capture_source;
		}
	}
	return NULL;
}

static void capture_source_destroy(struct vt_capture_source *capture_source) {
	wl_list_remove(&capture_source->destroy.link);
	wl_list_remove(&capture_source->node_destroy.link);
	wl_list_remove(&capture_source->link);
	free(capture_source);
}

/** The window is gone, and the output is about to be. */
static void capture_source_handle_destroy(struct wl_listener *listener, void *data) {
	struct vt_capture_source *capture_source =
		wl_container_of(listener, capture_source, destroy);
	struct vt_viewed_output *source, *tmp;
	wl_list_for_each_safe(source, tmp, &capture_source->manager->sources, link) {
		if (source->pacer != NULL && source->pacer->capture_source == capture_source) {
			source->pacer->started = false; // too late to stop it
			vt_viewed_output_stop_sessions(source, VITRINE_VIEW_STOP_SOURCE_GONE);
			break;
		}
	}
	capture_source_destroy(capture_source);
}

/** Sources of wlroots go with their node, before this. Others need not. */
static void capture_source_handle_node_destroy(struct wl_listener *listener, void *data) {
	struct vt_capture_source *capture_source =
		wl_container_of(listener, capture_source, node_destroy);
	wl_list_remove(&capture_source->node_destroy.link);
	wl_list_init(&capture_source->node_destroy.link);
	capture_source->node = NULL;
}

bool vitrine_view_manager_v1_add_source(struct vitrine_view_manager_v1 *base,
		struct wlr_ext_image_capture_source_v1 *wlr_source, struct wlr_output *output,
		struct wlr_scene_node *node) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	struct vt_capture_source *capture_source = calloc(1, sizeof(*capture_source));
	if (capture_source == NULL) {
		return false;
	}
	capture_source->manager = manager;
	capture_source->wlr_source = wlr_source;
	capture_source->output = output;
	capture_source->destroy.notify = capture_source_handle_destroy;
	wl_signal_add(&wlr_source->events.destroy, &capture_source->destroy);
	capture_source->node = node;
	capture_source->node_destroy.notify = capture_source_handle_node_destroy;
	wl_list_init(&capture_source->node_destroy.link);
	if (node != NULL) {
		wl_signal_add(&node->events.destroy, &capture_source->node_destroy);
	}
	wl_list_insert(&manager->capture_sources, &capture_source->link);
	return true;
}

void vt_manager_finish_capture_sources(struct vt_manager *manager) {
	struct vt_capture_source *capture_source, *tmp;
	wl_list_for_each_safe(capture_source, tmp, &manager->capture_sources, link) {
		capture_source_destroy(capture_source);
	}
}

/* Pacing */

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
				vt_manager_find_capture_source(fastest->manager, output) == NULL) {
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
	return 1000000 * NS_PER_MS / (fastest.refresh > 0 ? fastest.refresh : FALLBACK_REFRESH);
}

static int64_t now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

/** Timers are in ms: late rather than early, which the frame after makes up for. */
static void pacer_arm(struct vt_pacer *pacer) {
	if (pacer->armed) {
		return;
	}
	pacer->armed = true;
	int64_t ms = (pacer->due_ns - now_ns() + NS_PER_MS - 1) / NS_PER_MS;
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
	if (now_ns() < pacer->due_ns) {
		pacer_arm(pacer); // one was drawn since, for others who look
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
		// Starting draws, but only if nobody else has started it
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

void vt_pacer_request_frame(struct vt_pacer *pacer) {
	pacer->wants_frame = true;
	pacer_arm(pacer);
}

void vt_pacer_handle_commit(struct vt_pacer *pacer) {
	int64_t now = now_ns();
	int64_t period = capture_source_get_period_ns(pacer->capture_source);
	if (now < pacer->due_ns || now >= pacer->due_ns + period) {
		// Not ours, or the first one after a rest: what was missed is not caught up with
		pacer->due_ns = now;
	}
	pacer->due_ns += period;
	pacer_arm(pacer);
}
