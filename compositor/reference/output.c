/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <time.h>
#include <wlr/backend.h>
#include <wlr/backend/headless.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_output_layout.h>
#include <wlr/types/wlr_output_management_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_output_v1.h>
#include <wlr/util/log.h>
#include "server.h"

static void output_handle_frame(struct wl_listener *listener, void *data) {
	struct output *output = wl_container_of(listener, output, listeners.frame);
	if (wlr_scene_output_commit(output->scene_output, NULL) && output->lock_frame_pending) {
		output->lock_frame_pending = false;
		lock_send_locked_if_hidden(output->server);
	}
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	wlr_scene_output_send_frame_done(output->scene_output, &now);
}

/**
 * Commits a state along with a frame that has its size: without one, wlroots
 * shows black for a frame, which captures would see.
 */
static bool output_commit(struct output *output, struct wlr_output_state *state) {
	bool enabled = (state->committed & WLR_OUTPUT_STATE_ENABLED) ?
		state->enabled : output->wlr_output->enabled;
	if (enabled && !wlr_scene_output_build_state(output->scene_output, state, NULL)) {
		return false;
	}
	return wlr_output_commit_state(output->wlr_output, state);
}

static void output_handle_request_state(struct wl_listener *listener, void *data) {
	struct output *output = wl_container_of(listener, output, listeners.request_state);
	const struct wlr_output_event_request_state *event = data;
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	if (wlr_output_state_copy(&state, event->state)) {
		output_commit(output, &state);
	}
	wlr_output_state_finish(&state);
}

static void output_handle_destroy(struct wl_listener *listener, void *data) {
	struct output *output = wl_container_of(listener, output, listeners.destroy);
	struct server *server = output->server;
	struct toplevel *toplevel;
	wl_list_for_each(toplevel, &server->toplevels, link) {
		if (toplevel->output == output) {
			toplevel->output = NULL; // gets another one when the layout changes
		}
	}
	output_close_layers(output);
	listeners_remove(&output->listeners);
	wl_list_remove(&output->link);
	wlr_scene_node_destroy(&output->background->node);
	wlr_scene_node_destroy(&output->curtain->node);
	free(output);
	lock_send_locked_if_hidden(server);
}

/** Gives the output its place in the layout; takes it away if it is disabled. */
static void output_place(struct output *output, const struct wlr_output_head_v1_state *head) {
	struct server *server = output->server;
	if (!output->wlr_output->enabled) {
		wlr_output_layout_remove(server->output_layout, output->wlr_output);
		return;
	}
	struct wlr_output_layout_output *layout_output = head != NULL ?
		wlr_output_layout_add(server->output_layout, output->wlr_output, head->x, head->y) :
		wlr_output_layout_add_auto(server->output_layout, output->wlr_output);
	if (layout_output != NULL) {
		wlr_scene_output_layout_add_output(server->scene_output_layout, layout_output,
			output->scene_output);
	}
}

static bool output_init(struct output *output, struct server *server,
		struct wlr_output *wlr_output) {
	static const float black[4] = {0, 0, 0, 1};
	if (!wlr_output_init_render(wlr_output, server->allocator, server->renderer)) {
		return false;
	}
	output->server = server;
	output->wlr_output = wlr_output;
	wl_list_init(&output->layer_surfaces);
	output->background = wlr_scene_rect_create(server->background_tree, 0, 0,
		server->options->background);
	output->curtain = wlr_scene_rect_create(server->lock_tree, 0, 0, black);
	output->scene_output = wlr_scene_output_create(server->scene, wlr_output);
	if (output->background == NULL || output->curtain == NULL || output->scene_output == NULL) {
		return false;
	}
	// Below the surfaces of the lock client
	wlr_scene_node_lower_to_bottom(&output->curtain->node);
	output->lock_frame_pending = server->lock.locked;
	return true;
}

static void server_handle_new_output(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.new_output);
	struct wlr_output *wlr_output = data;

	struct output *output = calloc(1, sizeof(*output));
	if (output == NULL || !output_init(output, server, wlr_output)) {
		wlr_log(WLR_ERROR, "cannot use output %s", wlr_output->name);
		free(output); // its parts of the scene go with the scene
		return;
	}
	listener_add(&wlr_output->events.frame, &output->listeners.frame, output_handle_frame);
	listener_add(&wlr_output->events.request_state, &output->listeners.request_state,
		output_handle_request_state);
	listener_add(&wlr_output->events.destroy, &output->listeners.destroy, output_handle_destroy);
	wl_list_insert(server->outputs.prev, &output->link);
	wlr_output->data = output;

	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_state_set_enabled(&state, true);
	struct wlr_output_mode *mode = wlr_output_preferred_mode(wlr_output);
	if (mode != NULL) {
		wlr_output_state_set_mode(&state, mode);
	}
	if (!output_commit(output, &state)) {
		wlr_log(WLR_ERROR, "cannot enable output %s", wlr_output->name);
	}
	wlr_output_state_finish(&state);
	output_place(output, NULL);
}

bool server_add_headless_outputs(struct server *server) {
	const struct server_options *options = server->options;
	for (size_t i = 0; server->headless_backend != NULL && i < options->outputs_len; i++) {
		const struct output_mode *mode = &options->outputs[i];
		struct wlr_output *wlr_output =
			wlr_headless_add_output(server->headless_backend, mode->width, mode->height);
		if (wlr_output == NULL || wlr_output->data == NULL) {
			return false;
		}
		struct wlr_output_state state;
		wlr_output_state_init(&state);
		wlr_output_state_set_custom_mode(&state, mode->width, mode->height, mode->refresh);
		bool ok = output_commit(wlr_output->data, &state);
		wlr_output_state_finish(&state);
		if (!ok) {
			return false;
		}
	}
	return true;
}

/** Tells the output management clients what is. */
static void server_update_output_configuration(struct server *server) {
	struct wlr_output_configuration_v1 *config = wlr_output_configuration_v1_create();
	if (config == NULL) {
		return;
	}
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		struct wlr_output_configuration_head_v1 *head =
			wlr_output_configuration_head_v1_create(config, output->wlr_output);
		if (head != NULL) {
			head->state.x = output->box.x;
			head->state.y = output->box.y;
		}
	}
	wlr_output_manager_v1_set_configuration(server->output_manager, config);
}

static void server_handle_output_layout_change(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.output_layout_change);
	struct output *output;
	wl_list_for_each(output, &server->outputs, link) {
		wlr_output_layout_get_box(server->output_layout, output->wlr_output, &output->box);
		wlr_scene_node_set_position(&output->background->node, output->box.x, output->box.y);
		wlr_scene_rect_set_size(output->background, output->box.width, output->box.height);
		wlr_scene_node_set_position(&output->curtain->node, output->box.x, output->box.y);
		wlr_scene_rect_set_size(output->curtain, output->box.width, output->box.height);
		output_arrange_layers(output);
	}
	server_arrange_toplevels(server);
	lock_arrange(server);
	server_update_output_configuration(server);
	server_tell_if_ready(server);
}

static bool head_test_or_apply(const struct wlr_output_head_v1_state *head, bool apply) {
	struct output *output = head->output->data;
	if (output == NULL) {
		return false;
	}
	struct wlr_output_state state;
	wlr_output_state_init(&state);
	wlr_output_head_v1_state_apply(head, &state);
	bool ok = apply ? output_commit(output, &state) :
		wlr_output_test_state(head->output, &state);
	wlr_output_state_finish(&state);
	if (ok && apply) {
		output_place(output, head);
	}
	return ok;
}

static void server_configure_outputs(struct server *server,
		struct wlr_output_configuration_v1 *config, bool apply) {
	bool ok = true;
	struct wlr_output_configuration_head_v1 *head;
	wl_list_for_each(head, &config->heads, link) {
		ok = ok && head_test_or_apply(&head->state, false);
	}
	if (ok && apply) {
		wl_list_for_each(head, &config->heads, link) {
			ok = head_test_or_apply(&head->state, true) && ok;
		}
	}
	if (ok) {
		wlr_output_configuration_v1_send_succeeded(config);
	} else {
		wlr_output_configuration_v1_send_failed(config);
	}
	wlr_output_configuration_v1_destroy(config);
	if (apply) {
		server_update_output_configuration(server);
	}
}

static void server_handle_output_manager_apply(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.output_manager_apply);
	server_configure_outputs(server, data, true);
}

static void server_handle_output_manager_test(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.output_manager_test);
	server_configure_outputs(server, data, false);
}

bool server_init_outputs(struct server *server) {
	server->output_layout = wlr_output_layout_create(server->display);
	server->output_manager = wlr_output_manager_v1_create(server->display);
	if (server->output_layout == NULL || server->output_manager == NULL) {
		return false;
	}
	server->scene_output_layout =
		wlr_scene_attach_output_layout(server->scene, server->output_layout);
	if (server->scene_output_layout == NULL ||
			wlr_xdg_output_manager_v1_create(server->display, server->output_layout) == NULL) {
		return false;
	}
	listener_add(&server->backend->events.new_output, &server->listeners.new_output,
		server_handle_new_output);
	listener_add(&server->output_layout->events.change, &server->listeners.output_layout_change,
		server_handle_output_layout_change);
	listener_add(&server->output_manager->events.apply, &server->listeners.output_manager_apply,
		server_handle_output_manager_apply);
	listener_add(&server->output_manager->events.test, &server->listeners.output_manager_test,
		server_handle_output_manager_test);
	return true;
}
