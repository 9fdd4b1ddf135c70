/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <wlr/interfaces/wlr_ext_image_capture_source_v1.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>

#include "capture_source.h"
#include "manager.h"
#include "source.h"

/** No screen is known to be the one that shows the window: that of most. */
#define PACE_MS 16

/* Registration */

struct wlr_output *view_manager_find_output(struct view_manager *manager,
		struct wlr_ext_image_capture_source_v1 *wlr_source) {
	struct view_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->wlr_source == wlr_source) {
			return capture_source->output;
		}
	}
	return wlr_output_try_from_ext_image_capture_source_v1(wlr_source);
}

struct view_capture_source *view_manager_find_capture_source(struct view_manager *manager,
		const struct wlr_output *output) {
	struct view_capture_source *capture_source;
	wl_list_for_each(capture_source, &manager->capture_sources, link) {
		if (capture_source->output == output) {
			return capture_source;
		}
	}
	return NULL;
}

static void capture_source_destroy(struct view_capture_source *capture_source) {
	wl_list_remove(&capture_source->destroy.link);
	wl_list_remove(&capture_source->link);
	free(capture_source);
}

/** The window is gone, and the output is about to be. */
static void capture_source_handle_destroy(struct wl_listener *listener, void *data) {
	struct view_capture_source *capture_source =
		wl_container_of(listener, capture_source, destroy);
	struct view_source *source, *tmp;
	wl_list_for_each_safe(source, tmp, &capture_source->manager->sources, link) {
		if (source->pacer != NULL && source->pacer->capture_source == capture_source) {
			source->pacer->started = false; // too late to stop it
			view_source_stop_sessions(source, VITRINE_VIEW_STOP_SOURCE_GONE);
			break;
		}
	}
	capture_source_destroy(capture_source);
}

bool vitrine_view_manager_v1_add_source(struct vitrine_view_manager_v1 *base,
		struct wlr_ext_image_capture_source_v1 *wlr_source, struct wlr_output *output) {
	struct view_manager *manager = wl_container_of(base, manager, base);
	struct view_capture_source *capture_source = calloc(1, sizeof(*capture_source));
	if (capture_source == NULL) {
		return false;
	}
	capture_source->manager = manager;
	capture_source->wlr_source = wlr_source;
	capture_source->output = output;
	capture_source->destroy.notify = capture_source_handle_destroy;
	wl_signal_add(&wlr_source->events.destroy, &capture_source->destroy);
	wl_list_insert(&manager->capture_sources, &capture_source->link);
	return true;
}

void view_manager_finish_capture_sources(struct view_manager *manager) {
	struct view_capture_source *capture_source, *tmp;
	wl_list_for_each_safe(capture_source, tmp, &manager->capture_sources, link) {
		capture_source_destroy(capture_source);
	}
}

/* Pacing */

static void pacer_arm(struct view_pacer *pacer, int ms) {
	if (!pacer->armed) {
		pacer->armed = true;
		wl_event_source_timer_update(pacer->timer, ms);
	}
}

static int pacer_handle_timer(void *data) {
	struct view_pacer *pacer = data;
	struct wlr_ext_image_capture_source_v1 *wlr_source = pacer->capture_source->wlr_source;
	pacer->armed = false;
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
		wlr_output_update_needs_frame(output);
		wlr_output_send_frame(output);
	}
	return 0;
}

struct view_pacer *view_pacer_create(struct view_capture_source *capture_source) {
	struct view_pacer *pacer = calloc(1, sizeof(*pacer));
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

void view_pacer_destroy(struct view_pacer *pacer) {
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

void view_pacer_request_frame(struct view_pacer *pacer) {
	pacer->wants_frame = true;
	pacer_arm(pacer, pacer->started ? PACE_MS : 1);
}

void view_pacer_handle_commit(struct view_pacer *pacer) {
	pacer_arm(pacer, PACE_MS);
}
