/* SPDX-License-Identifier: MIT */
/*
 * The allocator that fits. Drivers do not say whether they can use a buffer: so where a
 * device draws or shows the buffers, each kind of buffer is tried when one is asked for,
 * and the first kind that passes is chosen. It is chosen again when something changes: the
 * size, the format, the outputs.
 */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <wlr/backend.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/util/log.h>

#include "gbm_buffer.h"
#include "memfd_buffer.h"
#include "trial.h"

#define CANDIDATES_CAP 4
/** Choices that are remembered: outputs, cursors and captured windows have their sizes. */
#define CHOICES_CAP 16

struct candidate {
	const char *name;
	struct wlr_allocator *allocator; // NULL if there is none, or none yet
	bool is_linear; // its buffers have the layout that the CPU knows, and no other
	bool is_wlroots; // its allocator is made when all else was refused
	const char *refusal; // why it was refused at the last choice; NULL if it was not tried
};

/** What was asked for, and which candidate made it. */
struct choice {
	int width, height; // 0 if the entry is free
	uint32_t fourcc;
	uint64_t modifiers_hash;
	struct candidate *candidate;
};

struct chooser {
	struct wlr_allocator base;
	struct vt_trial trial;
	struct candidate candidates[CANDIDATES_CAP]; // in order of preference
	size_t n_candidates;
	struct choice choices[CHOICES_CAP];
	size_t next_choice; // to overwrite
	struct candidate *reported;
	char *description; // NULL before the first choice
	struct wl_signal described;
	struct wl_listener outputs_changed;
};

static const struct wlr_allocator_interface chooser_impl;

/** Lies in a call of wlr_allocator_autocreate(), for what stands in for that. */
static bool is_falling_back;

bool vitrine_allocator_is_falling_back(void) {
	return is_falling_back;
}

static struct wlr_allocator *create_wlroots(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	is_falling_back = true;
	struct wlr_allocator *allocator = wlr_allocator_autocreate(backend, renderer);
	is_falling_back = false;
	return allocator;
}

static struct chooser *chooser_from_allocator(struct wlr_allocator *allocator) {
	struct chooser *chooser = wl_container_of(allocator, chooser, base);
	return allocator->impl == &chooser_impl ? chooser : NULL;
}

/* What was chosen before */

/** FNV-1a. */
static uint64_t hash_modifiers(const struct wlr_drm_format *format) {
	uint64_t hash = 0xcbf29ce484222325;
	for (size_t i = 0; i < format->len; i++) {
		hash = (hash ^ format->modifiers[i]) * 0x100000001b3;
	}
	return hash;
}

static struct choice *chooser_find(struct chooser *chooser, const struct choice *key) {
	for (size_t i = 0; i < CHOICES_CAP; i++) {
		struct choice *choice = &chooser->choices[i];
		if (choice->width == key->width && choice->height == key->height &&
				choice->fourcc == key->fourcc &&
				choice->modifiers_hash == key->modifiers_hash) {
			return choice;
		}
	}
	return NULL;
}

static void chooser_remember(struct chooser *chooser, const struct choice *key,
		struct candidate *candidate) {
	struct choice *choice = chooser_find(chooser, key);
	if (choice == NULL) {
		choice = &chooser->choices[chooser->next_choice];
		chooser->next_choice = (chooser->next_choice + 1) % CHOICES_CAP;
	}
	*choice = *key;
	choice->candidate = candidate;
}

static void chooser_handle_outputs_changed(struct wl_listener *listener, void *data) {
	struct chooser *chooser = wl_container_of(listener, chooser, outputs_changed);
	memset(chooser->choices, 0, sizeof(chooser->choices));
}

/* Saying so */

/** Such as "dumb buffers (not memfd: the display cannot import it)". NULL on allocation failure. */
static char *chooser_describe(const struct chooser *chooser, const struct candidate *chosen) {
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	if (stream == NULL) {
		return NULL;
	}
	fprintf(stream, "%s", chosen->name);
	const char *before = " (not ";
	for (size_t i = 0; i < chooser->n_candidates; i++) {
		const struct candidate *candidate = &chooser->candidates[i];
		if (candidate != chosen && candidate->refusal != NULL) {
			fprintf(stream, "%s%s: %s", before, candidate->name, candidate->refusal);
			before = "; ";
		}
	}
	fputs(before[0] == ';' ? ")" : "", stream);
	if (fclose(stream) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/** Once for each choice that is another one than before; of outputs, where there are any. */
static void chooser_report(struct chooser *chooser, struct candidate *chosen, int width,
		int height) {
	if (chooser->reported == chosen || (!wl_list_empty(&chooser->trial.outputs) &&
			!vt_trial_has_output(&chooser->trial, width, height))) {
		return;
	}
	char *description = chooser_describe(chooser, chosen);
	if (description == NULL) {
		return;
	}
	free(chooser->description);
	chooser->description = description;
	chooser->reported = chosen;
	wlr_log(WLR_INFO, "Buffers of %dx%d: %s", width, height, description);
	wl_signal_emit_mutable(&chooser->described, description);
}

const char *vitrine_allocator_describe(struct wlr_allocator *allocator) {
	const struct chooser *chooser = chooser_from_allocator(allocator);
	if (chooser == NULL) {
		return vt_memfd_allocator_check(allocator) ? "memfd (nothing else was tried)" : NULL;
	}
	return chooser->description;
}

struct wl_signal *vitrine_allocator_get_described_signal(struct wlr_allocator *allocator) {
	struct chooser *chooser = chooser_from_allocator(allocator);
	return chooser != NULL ? &chooser->described : NULL;
}

/* Choosing */

static struct wlr_buffer *candidate_create_buffer(struct chooser *chooser,
		struct candidate *candidate, int width, int height,
		const struct wlr_drm_format *format) {
	const struct vt_trial *trial = &chooser->trial;
	if (candidate->is_wlroots && candidate->allocator == NULL && trial->backend != NULL &&
			trial->renderer != NULL) {
		candidate->allocator = create_wlroots(trial->backend, trial->renderer);
	}
	struct wlr_allocator *allocator = candidate->allocator;
	if (allocator == NULL ||
			(allocator->buffer_caps & chooser->base.buffer_caps) != chooser->base.buffer_caps) {
		return NULL;
	}
	return wlr_allocator_create_buffer(allocator, width, height, format);
}

/** Whether the format has layouts that are made for the device that draws. */
static bool has_device_layouts(const struct wlr_drm_format *format) {
	for (size_t i = 0; i < format->len; i++) {
		if (format->modifiers[i] != DRM_FORMAT_MOD_LINEAR &&
				format->modifiers[i] != DRM_FORMAT_MOD_INVALID) {
			return true;
		}
	}
	return false;
}

/**
 * A buffer of the first candidate that passes. Else of the last one that can be imported, or
 * else made: wlroots' own, so far as there is one. Better a try than a dark screen, and what
 * refused them all may be a session that is not active.
 */
static struct wlr_buffer *chooser_try_all(struct chooser *chooser, int width, int height,
		const struct wlr_drm_format *format, struct candidate **chosen) {
	struct wlr_buffer *best = NULL;
	bool best_is_imported = false;
	for (size_t i = 0; i < chooser->n_candidates; i++) {
		struct candidate *candidate = &chooser->candidates[i];
		if (candidate->is_linear && has_device_layouts(format)) {
			// Drawing would cost more than views gain
			candidate->refusal = "the renderer has better layouts";
			continue;
		}
		struct wlr_buffer *buffer =
			candidate_create_buffer(chooser, candidate, width, height, format);
		if (buffer == NULL) {
			candidate->refusal = "there is none of this size and format";
			continue;
		}
		candidate->refusal = vt_trial_import(&chooser->trial, buffer);
		bool is_imported = candidate->refusal == NULL;
		if (is_imported) {
			candidate->refusal = vt_trial_commit(&chooser->trial, buffer);
		}
		if (best == NULL || is_imported || !best_is_imported) {
			wlr_buffer_drop(best);
			best = buffer;
			best_is_imported = is_imported;
			*chosen = candidate;
		} else {
			wlr_buffer_drop(buffer);
		}
		if (candidate->refusal == NULL) {
			break;
		}
	}
	return best;
}

static struct wlr_buffer *chooser_create_buffer(struct wlr_allocator *wlr_allocator, int width,
		int height, const struct wlr_drm_format *format) {
	struct chooser *chooser = chooser_from_allocator(wlr_allocator);
	const struct choice key = {
		.width = width,
		.height = height,
		.fourcc = format->format,
		.modifiers_hash = hash_modifiers(format),
	};
	const struct choice *known = chooser_find(chooser, &key);
	struct wlr_buffer *buffer = known == NULL ? NULL :
		candidate_create_buffer(chooser, known->candidate, width, height, format);
	if (buffer != NULL) {
		return buffer;
	}
	struct candidate *chosen = NULL;
	for (size_t i = 0; i < chooser->n_candidates; i++) {
		chooser->candidates[i].refusal = NULL;
	}
	buffer = chooser_try_all(chooser, width, height, format, &chosen);
	if (buffer == NULL) {
		wlr_log(WLR_ERROR, "No kind of buffer can be made: %dx%d, format 0x%08x", width, height,
			format->format);
		return NULL;
	}
	if (chosen->refusal == NULL) {
		chooser_remember(chooser, &key, chosen);
	}
	chooser_report(chooser, chosen, width, height);
	return buffer;
}

/* Lifetime */

static void chooser_destroy(struct wlr_allocator *wlr_allocator) {
	struct chooser *chooser = chooser_from_allocator(wlr_allocator);
	for (size_t i = 0; i < chooser->n_candidates; i++) {
		wlr_allocator_destroy(chooser->candidates[i].allocator);
	}
	wl_list_remove(&chooser->outputs_changed.link);
	vt_trial_finish(&chooser->trial);
	free(chooser->description);
	free(chooser);
}

static const struct wlr_allocator_interface chooser_impl = {
	.create_buffer = chooser_create_buffer,
	.destroy = chooser_destroy,
};

/** Without the allocator, there is no such candidate. */
static void chooser_add(struct chooser *chooser, const char *name,
		struct wlr_allocator *allocator, bool is_linear) {
	if (allocator != NULL) {
		chooser->candidates[chooser->n_candidates++] = (struct candidate){
			.name = name,
			.allocator = allocator,
			.is_linear = is_linear,
		};
	}
}

static void chooser_add_candidates(struct chooser *chooser, struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	chooser_add(chooser, "memfd", vitrine_allocator_create(backend, renderer), true);
	if (renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR) {
		chooser_add(chooser, "dumb buffers",
			vitrine_allocator_create_dumb(chooser->trial.display_fd, renderer), true);
	} else {
		int drm_fd = wlr_backend_get_drm_fd(backend);
		chooser_add(chooser, "GPU buffers", vt_gbm_allocator_create(
			drm_fd >= 0 ? drm_fd : wlr_renderer_get_drm_fd(renderer), true), false);
	}
	chooser->candidates[chooser->n_candidates++] = (struct candidate){
		.name = "wlroots' own",
		.is_wlroots = true,
	};
}

static struct wlr_allocator *chooser_create(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	struct chooser *chooser = calloc(1, sizeof(*chooser));
	if (chooser == NULL) {
		return NULL;
	}
	uint32_t pointers = renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR;
	wlr_allocator_init(&chooser->base, &chooser_impl, WLR_BUFFER_CAP_DMABUF | pointers);
	wl_signal_init(&chooser->described);
	vt_trial_init(&chooser->trial, backend, renderer);
	chooser->outputs_changed.notify = chooser_handle_outputs_changed;
	wl_signal_add(&chooser->trial.changed, &chooser->outputs_changed);
	chooser_add_candidates(chooser, backend, renderer);
	return &chooser->base;
}

static struct wlr_allocator *create_dumb_on_device(const char *path,
		struct wlr_renderer *renderer) {
	int drm_fd = open(path, O_RDWR | O_CLOEXEC);
	if (drm_fd < 0) {
		wlr_log_errno(WLR_ERROR, "Failed to open %s", path);
		return NULL;
	}
	struct wlr_allocator *allocator = vitrine_allocator_create_dumb(drm_fd, renderer);
	close(drm_fd);
	return allocator;
}

/** Whether a device draws or shows the buffers, which has its own mind about memory. */
static bool needs_trial(struct wlr_backend *backend, struct wlr_renderer *renderer) {
	struct vt_trial trial;
	vt_trial_init(&trial, backend, renderer);
	bool is_shown = trial.display_fd >= 0;
	vt_trial_finish(&trial);
	return is_shown || (wlr_renderer_get_drm_fd(renderer) >= 0 &&
		!(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR));
}

struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	const char *forced = getenv("VITRINE_ALLOCATOR");
	if (forced != NULL && strcmp(forced, "memfd") == 0) {
		return vitrine_allocator_create(backend, renderer);
	} else if (forced != NULL && strcmp(forced, "dumb") == 0) {
		return vitrine_allocator_create_dumb(wlr_backend_get_drm_fd(backend), renderer);
	} else if (forced != NULL && strncmp(forced, "dumb:", strlen("dumb:")) == 0) {
		return create_dumb_on_device(forced + strlen("dumb:"), renderer);
	} else if (forced != NULL && strcmp(forced, "gbm") == 0) {
		return vt_gbm_allocator_create(wlr_renderer_get_drm_fd(renderer), true);
	} else if (forced != NULL && strcmp(forced, "wlroots") == 0) {
		return create_wlroots(backend, renderer);
	}
	struct wlr_allocator *allocator = needs_trial(backend, renderer) ?
		chooser_create(backend, renderer) : vitrine_allocator_create(backend, renderer);
	return allocator != NULL ? allocator : create_wlroots(backend, renderer);
}
