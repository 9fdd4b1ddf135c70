/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "private.h"
#include "xdg-output-unstable-v1-client-protocol.h"

/** The wl_output.done event ends what xdg-output says as well. */
#define XDG_OUTPUT_VERSION 3

static void output_handle_geometry(void *data, struct wl_output *wl_output, int32_t x, int32_t y,
		int32_t physical_width, int32_t physical_height, int32_t subpixel, const char *make,
		const char *model, int32_t transform) {
	struct vitrine_output *output = data;
	output->x = x;
	output->y = y;
	// Frames say theirs themselves: this is of the layout
	output->transform = transform >= 0 && transform <= WL_OUTPUT_TRANSFORM_FLIPPED_270 ?
		(uint32_t)transform : WL_OUTPUT_TRANSFORM_NORMAL;
}

static void output_handle_mode(void *data, struct wl_output *wl_output, uint32_t flags,
		int32_t width, int32_t height, int32_t refresh) {
	struct vitrine_output *output = data;
	if (flags & WL_OUTPUT_MODE_CURRENT) {
		output->width = width;
		output->height = height;
		output->refresh_mhz = refresh > 0 ? refresh : 0;
	}
}

static void output_handle_done(void *data, struct wl_output *wl_output) {
	struct vitrine_output *output = data;
	struct vitrine_client *client = output->source.client;
	const struct vitrine_client_listener *listener = client->listener;
	bool is_new = !output->is_done;
	output->is_done = true;
	if (listener == NULL) {
		return;
	}
	void (*handle)(void *, struct vitrine_output *) =
		is_new ? listener->output_added : listener->output_changed;
	if (handle != NULL) {
		handle(client->listener_data, output);
	}
}

static void output_handle_scale(void *data, struct wl_output *wl_output, int32_t factor) {
	struct vitrine_output *output = data;
	output->scale = factor;
}

static void output_handle_name(void *data, struct wl_output *wl_output, const char *name) {
	struct vitrine_output *output = data;
	client_replace_string(&output->name, name);
}

static void output_handle_description(void *data, struct wl_output *wl_output,
		const char *description) {
	struct vitrine_output *output = data;
	client_replace_string(&output->description, description);
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
	output->x = x;
	output->y = y;
}

static void xdg_output_handle_logical_size(void *data, struct zxdg_output_v1 *xdg_output,
		int32_t width, int32_t height) {
	struct vitrine_output *output = data;
	output->logical_width = width;
	output->logical_height = height;
}

static void xdg_output_handle_done(void *data, struct zxdg_output_v1 *xdg_output) {
	// Since version 3 that of the wl_output is sent instead
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
	if (client->xdg_output_manager == NULL || output->xdg_output != NULL ||
			output->wl_output == NULL) {
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
	free(output->name);
	free(output->description);
	free(output);
}

void client_add_output(struct vitrine_client *client, uint32_t global_name, uint32_t version) {
	if (client->n_outputs == MAX_OUTPUTS) {
		return;
	}
	struct vitrine_output **outputs =
		realloc(client->outputs, (client->n_outputs + 1) * sizeof(*outputs));
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
	output->scale = 1;
	output->global_name = global_name;
	output->wl_output = wl_registry_bind(client->registry, global_name, &wl_output_interface,
		version < 4 ? version : 4);
	if (output->wl_output == NULL) {
		free(output);
		return;
	}
	wl_output_add_listener(output->wl_output, &output_listener, output);
	client->outputs[client->n_outputs++] = output;
	output_get_xdg_output(output);
}

void client_bind_xdg_output_manager(struct vitrine_client *client, uint32_t global_name,
		uint32_t version) {
	client->xdg_output_manager = wl_registry_bind(client->registry, global_name,
		&zxdg_output_manager_v1_interface,
		version < XDG_OUTPUT_VERSION ? version : XDG_OUTPUT_VERSION);
	for (size_t i = 0; i < client->n_outputs; i++) {
		output_get_xdg_output(client->outputs[i]);
	}
}

void client_remove_output(struct vitrine_client *client, uint32_t global_name) {
	for (size_t i = 0; i < client->n_outputs; i++) {
		struct vitrine_output *output = client->outputs[i];
		if (output->global_name != global_name || vitrine_output_is_gone(output)) {
			continue;
		}
		output->source.create_proxy = NULL;
		output_release(output);
		if (client->listener != NULL && client->listener->output_removed != NULL) {
			client->listener->output_removed(client->listener_data, output);
		}
		return;
	}
}

void client_finish_outputs(struct vitrine_client *client) {
	for (size_t i = 0; i < client->n_outputs; i++) {
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
	return output->name != NULL ? output->name : "";
}

const char *vitrine_output_get_description(const struct vitrine_output *output) {
	return output->description != NULL ? output->description : "";
}

void vitrine_output_get_mode(const struct vitrine_output *output, int32_t *width, int32_t *height,
		int32_t *refresh_mhz) {
	*width = output->width;
	*height = output->height;
	*refresh_mhz = output->refresh_mhz;
}

bool vitrine_output_is_gone(const struct vitrine_output *output) {
	return output->source.create_proxy == NULL;
}

bool vitrine_output_get_geometry(const struct vitrine_output *output,
		struct vitrine_geometry *geometry) {
	bool is_turned = output->transform & WL_OUTPUT_TRANSFORM_90;
	int32_t width = is_turned ? output->height : output->width;
	int32_t height = is_turned ? output->width : output->height;
	if (width <= 0 || height <= 0 || output->scale <= 0) {
		return false;
	}
	*geometry = (struct vitrine_geometry){
		.x = output->x,
		.y = output->y,
		.width = output->logical_width,
		.height = output->logical_height,
		.transform = output->transform,
	};
	if (geometry->width <= 0 || geometry->height <= 0) {
		geometry->width = width / output->scale;
		geometry->height = height / output->scale;
	}
	geometry->scale = geometry->width > 0 ? (double)width / geometry->width : 0;
	return geometry->width > 0 && geometry->height > 0;
}
