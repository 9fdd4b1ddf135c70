/* SPDX-License-Identifier: MIT */
/* The kind of buffer that is chosen is the first one that passes a trial. */
#include <stdlib.h>
#include <string.h>
#include <vitrine/allocator.h>
#include <wlr/backend/headless.h>
#include <wlr/interfaces/wlr_buffer.h>
#include <wlr/render/drm_format_set.h>
#include <wlr/render/pixman.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>

#include <drm_fourcc.h>

#include "harness.h"
#include "trial.h"

/* What stands in for the kinds, the renderer and the display */

enum kind_name { MEMFD, DUMB, WLROOTS, KINDS };

static struct kind {
	bool is_missing; // there is no allocator
	bool makes_nothing;
	bool fails_import, fails_commit;
	unsigned n_made, n_destroyed;
} kinds[KINDS];
static unsigned n_trials;
static bool was_falling_back;
static struct vt_trial *trial;

struct fake_buffer {
	struct wlr_buffer base;
	enum kind_name kind;
};

static void fake_buffer_destroy(struct wlr_buffer *wlr_buffer) {
	struct fake_buffer *buffer = wl_container_of(wlr_buffer, buffer, base);
	kinds[buffer->kind].n_destroyed++;
	wlr_buffer_finish(wlr_buffer);
	free(buffer);
}

static bool fake_buffer_get_dmabuf(struct wlr_buffer *wlr_buffer,
		struct wlr_dmabuf_attributes *dmabuf) {
	return false;
}

static bool fake_buffer_begin_access(struct wlr_buffer *wlr_buffer, uint32_t flags, void **data,
		uint32_t *format, size_t *stride) {
	return false;
}

static void fake_buffer_end_access(struct wlr_buffer *wlr_buffer) {
}

static const struct wlr_buffer_impl fake_buffer_impl = {
	.destroy = fake_buffer_destroy,
	.get_dmabuf = fake_buffer_get_dmabuf,
	.begin_data_ptr_access = fake_buffer_begin_access,
	.end_data_ptr_access = fake_buffer_end_access,
};

struct fake_allocator {
	struct wlr_allocator base;
	enum kind_name kind;
};

static struct wlr_buffer *fake_create_buffer(struct wlr_allocator *wlr_allocator, int width,
		int height, const struct wlr_drm_format *format) {
	struct fake_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	if (kinds[allocator->kind].makes_nothing) {
		return NULL;
	}
	struct fake_buffer *buffer = calloc(1, sizeof(*buffer));
	wlr_buffer_init(&buffer->base, &fake_buffer_impl, width, height);
	buffer->kind = allocator->kind;
	kinds[buffer->kind].n_made++;
	return &buffer->base;
}

static void fake_destroy(struct wlr_allocator *wlr_allocator) {
	struct fake_allocator *allocator = wl_container_of(wlr_allocator, allocator, base);
	free(allocator);
}

static const struct wlr_allocator_interface fake_impl = {
	.create_buffer = fake_create_buffer,
	.destroy = fake_destroy,
};

static struct wlr_allocator *fake_create(enum kind_name kind) {
	if (kinds[kind].is_missing) {
		return NULL;
	}
	struct fake_allocator *allocator = calloc(1, sizeof(*allocator));
	wlr_allocator_init(&allocator->base, &fake_impl,
		WLR_BUFFER_CAP_DMABUF | WLR_BUFFER_CAP_DATA_PTR);
	allocator->kind = kind;
	return &allocator->base;
}

struct wlr_allocator *__wrap_vitrine_allocator_create(struct wlr_backend *backend,
	struct wlr_renderer *renderer);
struct wlr_allocator *__wrap_vitrine_allocator_create(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	return fake_create(MEMFD);
}

struct wlr_allocator *__wrap_vitrine_allocator_create_dumb(int drm_fd,
	struct wlr_renderer *renderer);
struct wlr_allocator *__wrap_vitrine_allocator_create_dumb(int drm_fd,
		struct wlr_renderer *renderer) {
	return fake_create(DUMB);
}

struct wlr_allocator *__wrap_wlr_allocator_autocreate(struct wlr_backend *backend,
	struct wlr_renderer *renderer);
struct wlr_allocator *__wrap_wlr_allocator_autocreate(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	was_falling_back = vitrine_allocator_is_falling_back();
	return fake_create(WLROOTS);
}

void __real_vt_trial_init(struct vt_trial *trial, struct wlr_backend *backend,
	struct wlr_renderer *renderer);
void __wrap_vt_trial_init(struct vt_trial *trial, struct wlr_backend *backend,
	struct wlr_renderer *renderer);
void __wrap_vt_trial_init(struct vt_trial *new_trial, struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	__real_vt_trial_init(new_trial, backend, renderer);
	new_trial->display_fd = 0; // nothing here looks at it
	trial = new_trial;
}

static enum kind_name get_kind(struct wlr_buffer *wlr_buffer) {
	struct fake_buffer *buffer = wl_container_of(wlr_buffer, buffer, base);
	return buffer->kind;
}

const char *__wrap_vt_trial_import(const struct vt_trial *trial, struct wlr_buffer *buffer);
const char *__wrap_vt_trial_import(const struct vt_trial *trial, struct wlr_buffer *buffer) {
	n_trials++;
	return kinds[get_kind(buffer)].fails_import ? "no import" : NULL;
}

const char *__wrap_vt_trial_commit(const struct vt_trial *trial, struct wlr_buffer *buffer);
const char *__wrap_vt_trial_commit(const struct vt_trial *trial, struct wlr_buffer *buffer) {
	return kinds[get_kind(buffer)].fails_commit ? "no commit" : NULL;
}

/* Outputs */

static struct wlr_output *refusing; // whatever it is offered; NULL if none does

bool __wrap_wlr_output_is_drm(struct wlr_output *output);
bool __wrap_wlr_output_is_drm(struct wlr_output *output) {
	return true;
}

bool __wrap_wlr_output_test_state(struct wlr_output *output,
	const struct wlr_output_state *state);
bool __wrap_wlr_output_test_state(struct wlr_output *output,
		const struct wlr_output_state *state) {
	return output != refusing;
}

struct chooser_fixture {
	struct wl_event_loop *loop;
	struct wlr_backend *backend;
	struct wlr_renderer *renderer;
	struct wlr_allocator *allocator;
};

struct chooser_fixture_options {
	struct kind kinds[KINDS];
};

static void chooser_fixture_set_up(struct chooser_fixture *f,
		const struct chooser_fixture_options *options) {
	memcpy(kinds, options->kinds, sizeof(kinds));
	f->loop = wl_event_loop_create();
	f->backend = wlr_headless_backend_create(f->loop);
	f->renderer = wlr_pixman_renderer_create();
	f->allocator = vitrine_allocator_autocreate(f->backend, f->renderer);
	check(f->allocator != NULL);
	check(f->allocator->buffer_caps == (WLR_BUFFER_CAP_DMABUF | WLR_BUFFER_CAP_DATA_PTR));
	check(vitrine_allocator_describe(f->allocator) == NULL);
}

static void chooser_fixture_tear_down(struct chooser_fixture *f) {
	wlr_allocator_destroy(f->allocator);
	wlr_renderer_destroy(f->renderer);
	wlr_backend_destroy(f->backend);
	wl_event_loop_destroy(f->loop);
	for (int i = 0; i < KINDS; i++) {
		check_int(kinds[i].n_destroyed, ==, kinds[i].n_made);
	}
}

/** The kind of a buffer that is asked for; KINDS if there is none. */
static enum kind_name ask_in_layouts(struct chooser_fixture *f, int width, uint64_t *modifiers,
		size_t len) {
	const struct wlr_drm_format format = {
		.format = DRM_FORMAT_XRGB8888,
		.len = len,
		.modifiers = modifiers,
	};
	struct wlr_buffer *buffer = wlr_allocator_create_buffer(f->allocator, width, 8, &format);
	if (buffer == NULL) {
		return KINDS;
	}
	check_int(buffer->width, ==, width);
	enum kind_name kind = get_kind(buffer);
	wlr_buffer_drop(buffer);
	return kind;
}

static enum kind_name ask(struct chooser_fixture *f, int width) {
	return ask_in_layouts(f, width, (uint64_t[]){DRM_FORMAT_MOD_LINEAR}, 1);
}

static void check_description(struct chooser_fixture *f, const char *description) {
	check_str(vitrine_allocator_describe(f->allocator), description);
}

TEST_WITH(chooser_fixture, first_kind_that_passes_is_chosen) {
	check_int(ask(f, 8), ==, MEMFD);
	check_description(f, "memfd");
	check_int(kinds[DUMB].n_made, ==, 0);
}

TEST_WITH(chooser_fixture, refused_kind_gives_way, .kinds[MEMFD].fails_import = true) {
	check_int(ask(f, 8), ==, DUMB);
	check_description(f, "dumb buffers (not memfd: no import)");
}

TEST_WITH(chooser_fixture, kind_that_fails_the_test_commit_gives_way,
		.kinds[MEMFD].fails_commit = true, .kinds[DUMB].fails_import = true) {
	check_int(ask(f, 8), ==, WLROOTS);
	check(was_falling_back && !vitrine_allocator_is_falling_back());
	check_description(f, "wlroots' own (not memfd: no commit; dumb buffers: no import)");
}

TEST_WITH(chooser_fixture, kind_that_is_missing_is_not_mentioned,
		.kinds[MEMFD].fails_import = true, .kinds[DUMB].is_missing = true) {
	check_int(ask(f, 8), ==, WLROOTS);
	check_description(f, "wlroots' own (not memfd: no import)");
}

TEST_WITH(chooser_fixture, last_resort_is_wlroots_own_when_no_test_commit_passes,
		.kinds[MEMFD].fails_commit = true, .kinds[DUMB].fails_commit = true,
		.kinds[WLROOTS].fails_commit = true) {
	check_int(ask(f, 8), ==, WLROOTS);
}

TEST_WITH(chooser_fixture, last_resort_can_be_imported, .kinds[MEMFD].fails_import = true,
		.kinds[DUMB].fails_commit = true, .kinds[WLROOTS].fails_import = true) {
	check_int(ask(f, 8), ==, DUMB);
}

TEST_WITH(chooser_fixture, last_resort_is_not_remembered, .kinds[MEMFD].fails_commit = true,
		.kinds[DUMB].fails_commit = true, .kinds[WLROOTS].fails_commit = true) {
	check_int(ask(f, 8), ==, WLROOTS);
	kinds[MEMFD].fails_commit = false; // the session is active again
	check_int(ask(f, 8), ==, MEMFD);
	kinds[MEMFD].fails_commit = true;
	check_int(ask(f, 8), ==, MEMFD); // that is remembered
}

TEST_WITH(chooser_fixture, last_resort_is_given_untested, .kinds[MEMFD].fails_import = true,
		.kinds[DUMB].fails_import = true, .kinds[WLROOTS].fails_import = true) {
	check_int(ask(f, 8), ==, WLROOTS);
}

TEST_WITH(chooser_fixture, there_may_be_no_buffer, .kinds[MEMFD].makes_nothing = true,
		.kinds[DUMB].makes_nothing = true, .kinds[WLROOTS].is_missing = true) {
	check_int(ask(f, 8), ==, KINDS);
	kinds[DUMB].makes_nothing = false; // it was asked for too much, or there was no memory
	check_int(ask(f, 8), ==, DUMB);
}

TEST_WITH(chooser_fixture, choice_is_remembered_by_size) {
	check_int(ask(f, 8), ==, MEMFD);
	check_int(n_trials, ==, 1);
	check_int(ask(f, 8), ==, MEMFD);
	check_int(n_trials, ==, 1);
	kinds[MEMFD].fails_import = true; // larger ones
	check_int(ask(f, 16), ==, DUMB);
	check_int(ask(f, 8), ==, MEMFD);
	check_int(ask(f, 16), ==, DUMB);
	check_int(n_trials, ==, 3);
}

TEST_WITH(chooser_fixture, linear_kinds_give_way_to_layouts_of_the_device) {
	uint64_t modifiers[] = {
		DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID, I915_FORMAT_MOD_X_TILED,
	};
	check_int(ask_in_layouts(f, 8, modifiers, 2), ==, MEMFD);
	check_int(ask_in_layouts(f, 8, modifiers, 3), ==, WLROOTS);
	check_int(ask_in_layouts(f, 8, modifiers, 2), ==, MEMFD);
}

TEST_WITH(chooser_fixture, kind_that_has_no_more_memory_gives_way) {
	check_int(ask(f, 8), ==, MEMFD);
	kinds[MEMFD].makes_nothing = true;
	check_int(ask(f, 8), ==, DUMB);
	check_description(f, "dumb buffers (not memfd: there is none of this size and format)");
}

TEST_WITH(chooser_fixture, kinds_are_tried_again_for_another_output) {
	check_int(ask(f, 8), ==, MEMFD);
	kinds[MEMFD].fails_commit = true; // on the new one
	check_int(ask(f, 8), ==, MEMFD);
	wl_signal_emit_mutable(&trial->changed, NULL);
	check_int(ask(f, 8), ==, DUMB);
}

TEST_WITH(chooser_fixture, more_sizes_than_are_remembered_are_tried_again) {
	for (int round = 0; round < 2; round++) {
		for (int width = 1; width <= 40; width++) {
			check_int(ask(f, width), ==, MEMFD);
		}
	}
	check_int(n_trials, ==, 80);
}

struct described_listener {
	struct wl_listener listener;
	unsigned count;
};

static void handle_described(struct wl_listener *listener, void *data) {
	struct described_listener *described = wl_container_of(listener, described, listener);
	described->count++;
	check(strstr(data, "memfd") != NULL);
}

TEST_WITH(chooser_fixture, choice_is_told_once) {
	struct described_listener described = { .listener.notify = handle_described };
	wl_signal_add(vitrine_allocator_get_described_signal(f->allocator), &described.listener);
	ask(f, 8);
	ask(f, 16);
	check_int(described.count, ==, 1);
	kinds[MEMFD].fails_import = true;
	ask(f, 24);
	ask(f, 32);
	check_int(described.count, ==, 2);
	wl_list_remove(&described.listener.link);
}

TEST_WITH(chooser_fixture, allocator_outlives_backend_and_renderer,
		.kinds[MEMFD].fails_import = true, .kinds[DUMB].fails_import = true) {
	wlr_renderer_destroy(f->renderer);
	wlr_backend_destroy(f->backend);
	// The one of wlroots cannot be made any more
	check_int(ask(f, 8), ==, DUMB);
	f->renderer = wlr_pixman_renderer_create();
	f->backend = wlr_headless_backend_create(f->loop);
}

const char *__real_vt_trial_commit(const struct vt_trial *trial, struct wlr_buffer *buffer);

/** What the trial says of a buffer of 8x8. */
static const char *try_commit(void) {
	struct fake_allocator allocator = { .kind = MEMFD };
	struct wlr_buffer *buffer = fake_create_buffer(&allocator.base, 8, 8, NULL);
	const char *refusal = __real_vt_trial_commit(trial, buffer);
	wlr_buffer_drop(buffer);
	return refusal;
}

/** One that is off and can have that size. */
static struct wlr_output *add_output(struct chooser_fixture *f, struct wlr_output_mode *mode) {
	struct wlr_output *output = wlr_headless_add_output(f->backend, 4, 4);
	check(output != NULL);
	output->enabled = false;
	*mode = (struct wlr_output_mode){ .width = 8, .height = 8 };
	wl_list_insert(&output->modes, &mode->link);
	return output;
}

static void turn_on(struct wlr_output *output, int size) {
	output->enabled = true;
	output->width = output->height = size;
}

TEST_WITH(chooser_fixture, output_that_is_off_counts_only_if_none_has_the_size) {
	struct wlr_output_mode modes[2];
	check(wlr_backend_start(f->backend));
	check(try_commit() == NULL); // there is none
	struct wlr_output *on = add_output(f, &modes[0]);
	check(try_commit() == NULL);
	refusing = on;
	check(try_commit() != NULL); // it would have to be turned on with this
	turn_on(on, 8);
	check(try_commit() != NULL);
	refusing = add_output(f, &modes[1]);
	check(try_commit() == NULL); // all that shows something is used by the other
	turn_on(on, 16);
	check(try_commit() != NULL);
	turn_on(refusing, 8);
	check(try_commit() != NULL);
	refusing = NULL;
	check(try_commit() == NULL);
	for (int i = 0; i < 2; i++) {
		wl_list_remove(&modes[i].link); // they are the test's
	}
}
