/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "private.h"
#include "xdg-output-unstable-v1-client-protocol.h"

/** The wl_output.done event ends what xdg-output says as well. */
#define XDG_OUTPUT_VERSION 3

/** Has it be found by what it is called from now on. */
static void output_list(struct vitrine_output *output) {
	struct vitrine_client *client = output->source.client;
	size_t i = client->n_outputs;
	while (client->outputs[i] != output) {
		i++;
	}
	// Those that are not described stay in their order
	memmove(&client->outputs[client->n_outputs + 1], &client->outputs[client->n_outputs],
		(i - client->n_outputs) * sizeof(client->outputs[0]));
	client->outputs[client->n_outputs++] = output;
	output->is_done = true;
}

/** What was said holds from now on. */
static void output_apply(struct vitrine_output *output) {
	const struct vitrine_client *client = output->source.client;
	const struct vitrine_client_listener *listener = client->listener;
	bool is_new = !output->is_done;
	bool has_changed = memcmp(&output->state, &output->next_state, sizeof(output->state)) != 0;
	output->state = output->next_state;
	has_changed |= text_apply(&output->name);
	has_changed |= text_apply(&output->description);
	if (is_new) {
		output_list(output);
	}
	if (listener == NULL) {
		return;
	}
	void (*handle)(void *, struct vitrine_output *) =
		is_new ? listener->output_added : listener->output_changed;
	if (handle != NULL && (is_new || has_changed)) {
		handle(client->listener_data, output);
	}
}

static void output_handle_geometry(void *data, struct wl_output *wl_output, int32_t x, int32_t y,
		int32_t physical_width, int32_t physical_height, int32_t subpixel, const char *make,
		const char *model, int32_t transform) {
	struct vitrine_output *output = data;
	// Of no meaning beside what xdg-output says, and 0, 0 in all compositors of wlroots
	output->next_state.x = x;
	output->next_state.y = y;
	// Frames say theirs themselves: this is of the layout
	output->next_state.transform = transform >= 0 &&
		transform <= WL_OUTPUT_TRANSFORM_FLIPPED_270 ?
		(uint32_t)transform : WL_OUTPUT_TRANSFORM_NORMAL;
}

static void output_handle_mode(void *data, struct wl_output *wl_output, uint32_t flags,
		int32_t width, int32_t height, int32_t refresh) {
	struct vitrine_output *output = data;
	if (flags & WL_OUTPUT_MODE_CURRENT) {
		bool is_size = width > 0 && height > 0;
		output->next_state.width = is_size ? width : 0;
		output->next_state.height = is_size ? height : 0;
		output->next_state.refresh_mhz = refresh > 0 ? refresh : 0;
	}
	if (wl_output_get_version(wl_output) < WL_OUTPUT_DONE_SINCE_VERSION) {
		output_apply(output); // all that it will say
	}
}

static void output_handle_done(void *data, struct wl_output *wl_output) {
	output_apply(data);
}

static void output_handle_scale(void *data, struct wl_output *wl_output, int32_t factor) {
	struct vitrine_output *output = data;
	output->next_state.scale = factor;
}

static void output_handle_name(void *data, struct wl_output *wl_output, const char *name) {
	struct vitrine_output *output = data;
	text_set(&output->name, name);
}

static void output_handle_description(void *data, struct wl_output *wl_output,
		const char *description) {
	struct vitrine_output *output = data;
	text_set(&output->description, description);
}

static const struct wl_output_listener output_listener = {
	.geometry = output_handle_geometry,
	.mode = output_handle_mode,
	.done = output_handle_done,
	.scale = output_handle_scale,
	.name = output_handle_name,
	.description = output_handle_description,
};

static void xdg_output_handle_logical_position(void *data, struct zxdg_output_v1 *xdg_output,
		int32_t x, int32_t y) {
	struct vitrine_output *output = data;
	output->next_state.logical_x = x;
	output->next_state.logical_y = y;
}

static void xdg_output_handle_logical_size(void *data, struct zxdg_output_v1 *xdg_output,
		int32_t width, int32_t height) {
	struct vitrine_output *output = data;
	output->next_state.logical_width = width;
	output->next_state.logical_height = height;
}

static void xdg_output_handle_done(void *data, struct zxdg_output_v1 *xdg_output) {
	struct vitrine_output *output = data;
	// "For objects version 3 onwards" the wl_output.done event is sent for it, which has to
	// come first in any case
	if (zxdg_output_v1_get_version(xdg_output) < XDG_OUTPUT_VERSION && output->is_done) {
		output_apply(output);
	}
}

static void xdg_output_handle_name(void *data, struct zxdg_output_v1 *xdg_output,
		const char *name) {
	// The wl_output says it too
}

static void xdg_output_handle_description(void *data, struct zxdg_output_v1 *xdg_output,
		const char *description) {
	// The wl_output says it too
}

static const struct zxdg_output_v1_listener xdg_output_listener = {
	.logical_position = xdg_output_handle_logical_position,
	.logical_size = xdg_output_handle_logical_size,
	.done = xdg_output_handle_done,
	.name = xdg_output_handle_name,
	.description = xdg_output_handle_description,
};

static void output_get_xdg_output(struct vitrine_output *output) {
	struct vitrine_client *client = output->source.client;
	if (client->xdg_output_manager == NULL || output->wl_output == NULL) {
		return;
	}
	output->xdg_output =
		zxdg_output_manager_v1_get_xdg_output(client->xdg_output_manager, output->wl_output);
	if (output->xdg_output != NULL) {
		zxdg_output_v1_add_listener(output->xdg_output, &xdg_output_listener, output);
	}
}

static struct ext_image_capture_source_v1 *output_create_proxy(struct vitrine_source *source) {
	struct vitrine_output *output = wl_container_of(source, output, source);
	return ext_output_image_capture_source_manager_v1_create_source(
		source->client->source_manager, output->wl_output);
}

static void output_release(struct vitrine_output *output) {
	if (output->xdg_output != NULL) {
		zxdg_output_v1_destroy(output->xdg_output);
		output->xdg_output = NULL;
	}
	if (output->wl_output == NULL) {
		return;
	}
	if (wl_output_get_version(output->wl_output) >= WL_OUTPUT_RELEASE_SINCE_VERSION) {
		wl_output_release(output->wl_output);
	} else {
		wl_output_destroy(output->wl_output);
	}
	output->wl_output = NULL;
}

static void output_destroy(struct vitrine_output *output) {
	output_release(output);
	text_finish(&output->name);
	text_finish(&output->description);
	free(output);
}

void client_add_output(struct vitrine_client *client, uint32_t global_name, uint32_t version) {
	if (client->n_all_outputs == MAX_OUTPUTS) {
		return;
	}
	struct vitrine_output **outputs =
		realloc(client->outputs, (client->n_all_outputs + 1) * sizeof(*outputs));
	if (outputs == NULL) {
		return;
	}
	client->outputs = outputs;
	struct vitrine_output *output = calloc(1, sizeof(*output));
	if (output == NULL) {
		return;
	}
	output->source = (struct vitrine_source){
		.client = client, .word = "output", .create_proxy = output_create_proxy,
	};
	output->next_state.scale = 1;
	output->global_name = global_name;
	output->wl_output = wl_registry_bind(client->registry, global_name, &wl_output_interface,
		version < 4 ? version : 4);
	if (output->wl_output == NULL) {
		free(output);
		return;
	}
	wl_output_add_listener(output->wl_output, &output_listener, output);
	client->outputs[client->n_all_outputs++] = output;
	output_get_xdg_output(output);
}

void client_bind_xdg_output_manager(struct vitrine_client *client, uint32_t global_name,
		uint32_t version) {
	client->xdg_output_manager = wl_registry_bind(client->registry, global_name,
		&zxdg_output_manager_v1_interface,
		version < XDG_OUTPUT_VERSION ? version : XDG_OUTPUT_VERSION);
	for (size_t i = 0; i < client->n_all_outputs; i++) {
		output_get_xdg_output(client->outputs[i]);
	}
}

/** One that the caller has never seen. */
static void client_forget_output(struct vitrine_client *client, size_t i) {
	output_destroy(client->outputs[i]);
	client->n_all_outputs--;
	memmove(&client->outputs[i], &client->outputs[i + 1],
		(client->n_all_outputs - i) * sizeof(client->outputs[0]));
}

void client_remove_output(struct vitrine_client *client, uint32_t global_name) {
	size_t i = 0;
	while (i < client->n_all_outputs && (client->outputs[i]->global_name != global_name ||
			vitrine_output_is_gone(client->outputs[i]))) {
		i++;
	}
	if (i == client->n_all_outputs) {
		return;
	}
	struct vitrine_output *output = client->outputs[i];
	if (!output->is_done) {
		client_forget_output(client, i);
		return;
	}
	output->source.create_proxy = NULL;
	output_release(output);
	if (client->listener != NULL && client->listener->output_removed != NULL) {
		client->listener->output_removed(client->listener_data, output);
	}
}

void client_finish_outputs(struct vitrine_client *client) {
	for (size_t i = 0; i < client->n_all_outputs; i++) {
		output_destroy(client->outputs[i]);
	}
	free(client->outputs);
	if (client->xdg_output_manager != NULL) {
		zxdg_output_manager_v1_destroy(client->xdg_output_manager);
	}
}

struct vitrine_output *const *vitrine_client_get_outputs(const struct vitrine_client *client,
		size_t *len) {
	*len = client->n_outputs;
	return client->outputs;
}

struct vitrine_output *vitrine_client_find_output(const struct vitrine_client *client,
		const char *name) {
	for (size_t i = 0; i < client->n_outputs; i++) {
		struct vitrine_output *output = client->outputs[i];
		if (!vitrine_output_is_gone(output) &&
				(name == NULL || strcmp(vitrine_output_get_name(output), name) == 0)) {
			return output;
		}
	}
	return NULL;
}

struct vitrine_source *vitrine_output_get_source(struct vitrine_output *output) {
	return &output->source;
}

const char *vitrine_output_get_name(const struct vitrine_output *output) {
	return text_get(&output->name);
}

const char *vitrine_output_get_description(const struct vitrine_output *output) {
	return text_get(&output->description);
}

void vitrine_output_get_mode(const struct vitrine_output *output, int32_t *width, int32_t *height,
		int32_t *refresh_mhz) {
	*width = output->state.width;
	*height = output->state.height;
	*refresh_mhz = output->state.refresh_mhz;
}

bool vitrine_output_is_gone(const struct vitrine_output *output) {
	return output->source.create_proxy == NULL;
}

static bool is_coordinate(int32_t value) {
	return value >= -MAX_COORDINATE && value <= MAX_COORDINATE;
}

bool vitrine_output_get_geometry(const struct vitrine_output *output,
		struct vitrine_geometry *geometry) {
	const struct output_state *state = &output->state;
	bool is_turned = state->transform & WL_OUTPUT_TRANSFORM_90;
	int32_t width = is_turned ? state->height : state->width;
	int32_t height = is_turned ? state->width : state->height;
	struct vitrine_geometry logical = {
		state->logical_x, state->logical_y, state->logical_width, state->logical_height,
		.transform = state->transform,
	};
	if (output->xdg_output == NULL && state->scale > 0) {
		logical.x = state->x;
		logical.y = state->y;
		logical.width = width / state->scale;
		logical.height = height / state->scale;
	}
	if (vitrine_output_is_gone(output) || width == 0 || logical.width <= 0 ||
			logical.height <= 0 || !is_coordinate(logical.x) || !is_coordinate(logical.y) ||
			!is_coordinate(logical.width) || !is_coordinate(logical.height)) {
		return false;
	}
	logical.scale = (double)width / logical.width;
	*geometry = logical;
	return true;
}
