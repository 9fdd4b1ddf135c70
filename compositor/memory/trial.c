/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <stdlib.h>
#include <wlr/backend.h>
#include <wlr/backend/multi.h>
#include <wlr/config.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/dmabuf.h>
#include <wlr/render/pass.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/log.h>
#include <xf86drm.h>
#include <xf86drmMode.h>
#if WLR_HAS_DRM_BACKEND
#include <wlr/backend/drm.h>
#endif

#include "trial.h"

struct trial_output {
	struct wl_list link; // vt_trial.outputs
	struct wlr_output *output;
	struct wl_listener destroy;
};

static void trial_output_destroy(struct trial_output *entry) {
	wl_list_remove(&entry->destroy.link);
	wl_list_remove(&entry->link);
	free(entry);
}

/* Importing */

static bool renderer_can_draw_to(struct wlr_renderer *renderer, struct wlr_buffer *buffer) {
	struct wlr_render_pass *pass = wlr_renderer_begin_buffer_pass(renderer, buffer, NULL);
	return pass != NULL && wlr_render_pass_submit(pass);
}

/** The format without alpha that a display takes the buffer for, or 0. */
static uint32_t get_opaque_format(uint32_t fourcc) {
	switch (fourcc) {
	case DRM_FORMAT_ARGB8888:
		return DRM_FORMAT_XRGB8888;
	case DRM_FORMAT_ABGR8888:
		return DRM_FORMAT_XBGR8888;
	case DRM_FORMAT_ARGB2101010:
		return DRM_FORMAT_XRGB2101010;
	case DRM_FORMAT_ABGR2101010:
		return DRM_FORMAT_XBGR2101010;
	}
	return 0;
}

static bool add_framebuffer(int drm_fd, const struct wlr_dmabuf_attributes *dmabuf,
		uint32_t fourcc, const uint32_t handles[static 4]) {
	uint64_t has_modifiers = 0;
	drmGetCap(drm_fd, DRM_CAP_ADDFB2_MODIFIERS, &has_modifiers);
	bool is_explicit = has_modifiers && dmabuf->modifier != DRM_FORMAT_MOD_INVALID;
	uint64_t modifiers[4] = {0};
	for (int i = 0; i < dmabuf->n_planes; i++) {
		modifiers[i] = dmabuf->modifier;
	}
	uint32_t id;
	if (drmModeAddFB2WithModifiers(drm_fd, (uint32_t)dmabuf->width, (uint32_t)dmabuf->height,
			fourcc, handles, dmabuf->stride, dmabuf->offset, is_explicit ? modifiers : NULL,
			&id, is_explicit ? DRM_MODE_FB_MODIFIERS : 0) != 0) {
		return false;
	}
	drmModeRmFB(drm_fd, id); // nothing has shown it
	return true;
}

static bool display_can_show(int drm_fd, const struct wlr_dmabuf_attributes *dmabuf) {
	uint32_t handles[4] = {0};
	bool ok = true;
	for (int i = 0; i < dmabuf->n_planes && ok; i++) {
		ok = drmPrimeFDToHandle(drm_fd, dmabuf->fd[i], &handles[i]) == 0;
	}
	uint32_t opaque = get_opaque_format(dmabuf->format);
	ok = ok && (add_framebuffer(drm_fd, dmabuf, dmabuf->format, handles) ||
		(opaque != 0 && add_framebuffer(drm_fd, dmabuf, opaque, handles)));
	for (int i = 0; i < 4; i++) {
		bool is_closed = handles[i] == 0;
		for (int j = 0; j < i; j++) {
			is_closed |= handles[j] == handles[i]; // planes may share memory
		}
		if (!is_closed) {
			drmCloseBufferHandle(drm_fd, handles[i]);
		}
	}
	return ok;
}

const char *vt_trial_import(const struct vt_trial *trial, struct wlr_buffer *buffer) {
	struct wlr_dmabuf_attributes dmabuf;
	bool has_dmabuf = wlr_buffer_get_dmabuf(buffer, &dmabuf);
	// First the display: what a renderer has once imported it keeps
	if (trial->display_fd >= 0 &&
			(!has_dmabuf || !display_can_show(trial->display_fd, &dmabuf))) {
		return "the display cannot import it";
	}
	if (trial->renderer != NULL && !renderer_can_draw_to(trial->renderer, buffer)) {
		return "the renderer cannot draw to it";
	}
	return NULL;
}

/* Test commits */

static struct wlr_output_mode *find_mode(const struct wlr_output *output, int width, int height) {
	struct wlr_output_mode *mode, *found = NULL;
	wl_list_for_each(mode, &output->modes, link) {
		if (mode->width == width && mode->height == height &&
				(found == NULL || mode->preferred)) {
			found = mode;
		}
	}
	return found;
}

static bool output_has_size(const struct wlr_output *output, int width, int height) {
	return output->enabled && output->width == width && output->height == height;
}

/** Whether the output could show the buffer, or cannot have its size. */
static bool output_passes(struct wlr_output *output, struct wlr_buffer *buffer) {
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	if (!output_has_size(output, buffer->width, buffer->height)) {
		struct wlr_output_mode *mode = find_mode(output, buffer->width, buffer->height);
		if (mode == NULL) {
			wlr_output_state_finish(&state);
			return true;
		}
		wlr_output_state_set_enabled(&state, true);
		wlr_output_state_set_mode(&state, mode);
	}
	wlr_output_state_set_buffer(&state, buffer);
	bool ok = wlr_output_test_state(output, &state);
	wlr_output_state_finish(&state);
	return ok;
}

static bool trial_shows_size(const struct vt_trial *trial, int width, int height) {
	const struct trial_output *entry;
	wl_list_for_each(entry, &trial->outputs, link) {
		if (output_has_size(entry->output, width, height)) {
			return true;
		}
	}
	return false;
}

const char *vt_trial_commit(const struct vt_trial *trial, struct wlr_buffer *buffer) {
	// One that is off may refuse whatever it is offered, as the others leave nothing to show it
	bool shows_size = trial_shows_size(trial, buffer->width, buffer->height);
	const struct trial_output *entry;
	wl_list_for_each(entry, &trial->outputs, link) {
		bool counts =
			!shows_size || output_has_size(entry->output, buffer->width, buffer->height);
		if (counts && !output_passes(entry->output, buffer)) {
			return "the display refuses it in a test commit";
		}
	}
	return NULL;
}

bool vt_trial_has_output(const struct vt_trial *trial, int width, int height) {
	const struct trial_output *entry;
	wl_list_for_each(entry, &trial->outputs, link) {
		if (output_has_size(entry->output, width, height) ||
				find_mode(entry->output, width, height) != NULL) {
			return true;
		}
	}
	return false;
}

/* Lifetime */

static void output_handle_destroy(struct wl_listener *listener, void *data) {
	struct trial_output *entry = wl_container_of(listener, entry, destroy);
	trial_output_destroy(entry);
}

static void trial_handle_new_output(struct wl_listener *listener, void *data) {
	struct vt_trial *trial = wl_container_of(listener, trial, new_output);
	struct wlr_output *output = data;
#if WLR_HAS_DRM_BACKEND
	struct trial_output *entry =
		wlr_output_is_drm(output) ? calloc(1, sizeof(*entry)) : NULL;
#else
	struct trial_output *entry = NULL;
#endif
	if (entry == NULL) {
		return; // without memory there is no test commit on it
	}
	entry->output = output;
	entry->destroy.notify = output_handle_destroy;
	wl_signal_add(&output->events.destroy, &entry->destroy);
	wl_list_insert(&trial->outputs, &entry->link);
	wl_signal_emit_mutable(&trial->changed, NULL);
}

static void trial_forget_backend(struct vt_trial *trial) {
	trial->backend = NULL;
	trial->display_fd = -1;
	wl_list_remove(&trial->new_output.link);
	wl_list_remove(&trial->backend_destroy.link);
	struct trial_output *entry, *tmp;
	wl_list_for_each_safe(entry, tmp, &trial->outputs, link) {
		trial_output_destroy(entry);
	}
}

static void trial_handle_backend_destroy(struct wl_listener *listener, void *data) {
	struct vt_trial *trial = wl_container_of(listener, trial, backend_destroy);
	trial_forget_backend(trial);
}

static void trial_forget_renderer(struct vt_trial *trial) {
	trial->renderer = NULL;
	wl_list_remove(&trial->renderer_destroy.link);
}

static void trial_handle_renderer_destroy(struct wl_listener *listener, void *data) {
	struct vt_trial *trial = wl_container_of(listener, trial, renderer_destroy);
	trial_forget_renderer(trial);
}

/** Called for each backend in a multi-backend: the first one is what wlroots renders for. */
static void find_display(struct wlr_backend *backend, void *data) {
#if WLR_HAS_DRM_BACKEND
	struct vt_trial *trial = data;
	if (trial->display_fd < 0 && wlr_backend_is_drm(backend)) {
		trial->display_fd = wlr_backend_get_drm_fd(backend);
	}
#endif
}

void vt_trial_init(struct vt_trial *trial, struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	*trial = (struct vt_trial){
		.backend = backend,
		.renderer = renderer,
		.display_fd = -1,
	};
	wl_list_init(&trial->outputs);
	wl_signal_init(&trial->changed);
	if (wlr_backend_is_multi(backend)) {
		wlr_multi_for_each_backend(backend, find_display, trial);
	} else {
		find_display(backend, trial);
	}
	trial->new_output.notify = trial_handle_new_output;
	wl_signal_add(&backend->events.new_output, &trial->new_output);
	trial->backend_destroy.notify = trial_handle_backend_destroy;
	wl_signal_add(&backend->events.destroy, &trial->backend_destroy);
	trial->renderer_destroy.notify = trial_handle_renderer_destroy;
	wl_signal_add(&renderer->events.destroy, &trial->renderer_destroy);
}

void vt_trial_finish(struct vt_trial *trial) {
	if (trial->backend != NULL) {
		trial_forget_backend(trial);
	}
	if (trial->renderer != NULL) {
		trial_forget_renderer(trial);
	}
}
