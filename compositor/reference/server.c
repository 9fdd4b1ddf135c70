/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vitrine/allocator.h>
#include <vitrine/view_v1.h>
#include <wlr/backend.h>
#include <wlr/backend/headless.h>
#include <wlr/backend/multi.h>
#include <wlr/render/pixman.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_export_dmabuf_v1.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_ext_image_copy_capture_v1.h>
#include <wlr/types/wlr_layer_shell_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_screencopy_v1.h>
#include <wlr/types/wlr_security_context_v1.h>
#include <wlr/util/log.h>

#include "server.h"
#include "visible.h"

/** What those of them may bind besides that the policy file lets look. */
static const char *const view_globals[] = {
	"ext_output_image_capture_source_manager_v1",
	"xx_dmabuf_view_manager_v1",
};

/**
 * What clients behind a security context may bind. A list of what is harmless
 * rather than of what is not: a global that is added later stays hidden until
 * its risks are known.
 */
static const char *const sandbox_globals[] = {
	"wl_compositor",
	"wl_data_device_manager",
	"wl_output",
	"wl_seat",
	"wl_shm",
	"wl_subcompositor",
	"wp_cursor_shape_manager_v1",
	"wp_fractional_scale_manager_v1",
	"wp_presentation",
	"wp_single_pixel_buffer_manager_v1",
	"wp_viewporter",
	"xdg_activation_v1",
	"xdg_wm_base",
	"zwp_linux_dmabuf_v1",
	"zwp_primary_selection_device_manager_v1",
	"zxdg_decoration_manager_v1",
	"zxdg_output_manager_v1",
};

void listener_add(struct wl_signal *signal, struct wl_listener *listener, wl_notify_func_t notify) {
	listener->notify = notify;
	wl_signal_add(signal, listener);
}

void listener_remove(struct wl_listener *listener) {
	if (listener->notify != NULL) {
		wl_list_remove(&listener->link);
		listener->notify = NULL;
	}
}

void listeners_remove_each(struct wl_listener *listeners, size_t len) {
	for (size_t i = 0; i < len; i++) {
		listener_remove(&listeners[i]);
	}
}

static bool is_in(const char *name, const char *const names[], size_t len) {
	for (size_t i = 0; i < len; i++) {
		if (strcmp(name, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

#define IS_IN(name, names) is_in((name), (names), sizeof(names) / sizeof((names)[0]))

static bool server_filter_global(const struct wl_client *client, const struct wl_global *global,
		void *data) {
	struct server *server = data;
	if (server_hides_from(server, client, global)) {
		return false;
	}
	if (wlr_security_context_manager_v1_lookup_client(server->security_context_manager,
			client) == NULL) {
		return true;
	}
	const char *name = wl_global_get_interface(global)->name;
	return IS_IN(name, sandbox_globals) || (IS_IN(name, view_globals) &&
		server_client_may_look(server, (struct wl_client *)client));
}

static void server_log_view_session(const struct vitrine_view_session_v1 *session,
		const char *what) {
	const struct vitrine_view_client *client = vitrine_view_session_v1_get_identity(session);
	char comm[64];
	visible_text(comm, sizeof(comm), client->comm, VISIBLE_PLAIN);

	// Not known before the first frame
	uint32_t guarantee = vitrine_view_session_v1_get_guarantee(session);
	wlr_log(WLR_INFO, "capture of %s by pid %d (%s)%s%s %s",
		vitrine_view_session_v1_get_source_name(session), (int)client->pid, comm,
		guarantee != 0 ? " with " : "", guarantee != 0 ? vitrine_guarantee_name(guarantee) : "",
		what);
}

static void server_handle_view_session_guarantee(struct wl_listener *listener, void *data) {
	server_log_view_session(data, "started");
}

static void server_handle_view_session_stop(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(data, &stats);
	char what[96];
	snprintf(what, sizeof(what), "stopped: %llu frames, %llu skipped, %llu revoked",
		(unsigned long long)stats.frames, (unsigned long long)stats.skipped,
		(unsigned long long)stats.revoked);
	server_log_view_session(data, what);
}

static bool server_init_capture(struct server *server) {
	server->security_context_manager = wlr_security_context_manager_v1_create(server->display);
	server->view_manager = vitrine_view_manager_v1_create(server->display, 1);
	if (server->security_context_manager == NULL || server->view_manager == NULL) {
		return false;
	}
	vitrine_view_manager_v1_set_security_context_manager(server->view_manager,
		server->security_context_manager);
	if (!server_init_policy(server)) {
		return false;
	}
	if (!vitrine_view_manager_v1_set_renderer(server->view_manager, server->renderer)) {
		return false;
	}
	listener_add(&server->view_manager->events.session_guarantee,
		&server->listeners.view_session_guarantee, server_handle_view_session_guarantee);
	listener_add(&server->view_manager->events.session_stop, &server->listeners.view_session_stop,
		server_handle_view_session_stop);
	wl_display_set_global_filter(server->display, server_filter_global, server);

	if (wlr_ext_output_image_capture_source_manager_v1_create(server->display, 1) == NULL) {
		return false;
	}
	if (!server->options->stock_capture) {
		return true;
	}
	if (wlr_screencopy_manager_v1_create(server->display) == NULL ||
			wlr_ext_image_copy_capture_manager_v1_create(server->display, 1) == NULL) {
		return false;
	}
	if ((server->allocator->buffer_caps & WLR_BUFFER_CAP_DMABUF) == 0) {
		return true;
	}
	return wlr_export_dmabuf_manager_v1_create(server->display) != NULL;
}

static void server_handle_backend_destroy(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.backend_destroy);
	listener_remove(&server->listeners.backend_destroy);
	listener_remove(&server->listeners.new_output);
	listener_remove(&server->listeners.new_input);
	server->backend = NULL;
	server->headless_backend = NULL;
	wl_display_terminate(server->display);
}

static void server_handle_primary_backend_destroy(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.primary_backend_destroy);
	listener_remove(listener);
	wl_display_terminate(server->display);
}

static void server_inspect_backend(struct wlr_backend *backend, void *data) {
	struct server *server = data;
	if (wlr_backend_is_headless(backend)) {
		server->headless_backend = backend;
	}
	if (server->listeners.primary_backend_destroy.notify == NULL) {
		listener_add(&backend->events.destroy, &server->listeners.primary_backend_destroy,
			server_handle_primary_backend_destroy);
	}
}

static bool server_init_backend(struct server *server) {
	struct wl_event_loop *loop = wl_display_get_event_loop(server->display);
	const char *backends = server->options->backends;
	if (backends == NULL) {
		backends = getenv("WLR_BACKENDS");
	}
	if (backends == NULL || strcmp(backends, "headless") == 0) {
		server->backend = server->headless_backend = wlr_headless_backend_create(loop);
	} else {
		if (strcmp(backends, "auto") == 0) {
			unsetenv("WLR_BACKENDS");
		} else if (backends != getenv("WLR_BACKENDS")) {
			setenv("WLR_BACKENDS", backends, true);
		}
		setenv("WLR_HEADLESS_OUTPUTS", "0", true); // we add them
		server->backend = wlr_backend_autocreate(loop, NULL);
	}
	// A compositor that is started inside of this one chooses for itself
	unsetenv("WLR_BACKENDS");
	unsetenv("WLR_HEADLESS_OUTPUTS");
	if (server->backend == NULL) {
		return false;
	}
	if (wlr_backend_is_multi(server->backend)) {
		// The whole may outlive its parts, e.g. when the compositor around this one ends
		wlr_multi_for_each_backend(server->backend, server_inspect_backend, server);
	}
	listener_add(&server->backend->events.destroy, &server->listeners.backend_destroy,
		server_handle_backend_destroy);
	return true;
}

static bool server_init_renderer(struct server *server) {
	bool is_auto = getenv("WLR_RENDERER") == NULL && getenv("WLR_RENDER_DRM_DEVICE") == NULL &&
		getenv("WLR_RENDERER_FORCE_SOFTWARE") == NULL;
	// Without a GPU wlroots gets to pixman as well, but not without complaining
	if (!is_auto || wlr_backend_get_drm_fd(server->backend) >= 0 ||
			access("/dev/dri", F_OK) == 0) {
		server->renderer = wlr_renderer_autocreate(server->backend);
	}
	if (server->renderer == NULL && is_auto) {
		server->renderer = wlr_pixman_renderer_create();
	}
	if (server->renderer == NULL) {
		return false;
	}
	server->allocator = vitrine_allocator_autocreate(server->backend, server->renderer);
	return server->allocator != NULL;
}

/** What is drawn, from the bottom up. */
static bool server_init_scene(struct server *server) {
	server->scene = wlr_scene_create();
	if (server->scene == NULL) {
		return false;
	}
	struct wlr_scene_tree **const trees[] = {
		&server->background_tree,
		&server->layer_trees[ZWLR_LAYER_SHELL_V1_LAYER_BACKGROUND],
		&server->layer_trees[ZWLR_LAYER_SHELL_V1_LAYER_BOTTOM],
		&server->toplevel_tree,
		&server->unmanaged_tree,
		&server->layer_trees[ZWLR_LAYER_SHELL_V1_LAYER_TOP],
		&server->layer_trees[ZWLR_LAYER_SHELL_V1_LAYER_OVERLAY],
		&server->lock_tree,
	};
	for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++) {
		*trees[i] = wlr_scene_tree_create(&server->scene->tree);
		if (*trees[i] == NULL) {
			return false;
		}
	}
	wlr_scene_node_set_enabled(&server->lock_tree->node, false);
	return true;
}

static bool server_init_globals(struct server *server) {
	server->compositor = wlr_compositor_create(server->display, 6, server->renderer);
	return server->compositor != NULL && server_init_scene(server) &&
		server_init_protocols(server) && server_init_outputs(server) &&
		server_init_toplevels(server) && server_init_xdg_shell(server) &&
		server_init_layer_shell(server) && server_init_seat(server) &&
		server_init_capture(server) && server_init_lock(server);
}

static int server_handle_terminate(int signal_number, void *data) {
	struct server *server = data;
	if (server->options->exit_with_command) {
		server->exit_status = 128 + signal_number; // the command has not succeeded
	}
	wl_display_terminate(server->display);
	return 0;
}

static bool server_init_signals(struct server *server) {
	signal(SIGPIPE, SIG_IGN); // a client or a reader of stdout may go at any time
	struct wl_event_loop *loop = wl_display_get_event_loop(server->display);
	struct wl_event_source **sources = server->signal_sources;
	sources[0] = wl_event_loop_add_signal(loop, SIGINT, server_handle_terminate, server);
	sources[1] = wl_event_loop_add_signal(loop, SIGTERM, server_handle_terminate, server);
	sources[2] = wl_event_loop_add_signal(loop, SIGCHLD, command_handle_child, server);
	return sources[0] != NULL && sources[1] != NULL && sources[2] != NULL;
}

bool server_init(struct server *server, const struct server_options *options) {
	*server = (struct server){.options = options};
	wl_list_init(&server->outputs);
	wl_list_init(&server->toplevels);

	server->display = wl_display_create();
	if (server->display == NULL) {
		wlr_log(WLR_ERROR, "cannot create the Wayland display");
		return false;
	}
	if (!server_init_signals(server) || !server_init_backend(server)) {
		wlr_log(WLR_ERROR, "cannot create the backend");
		return false;
	}
	if (!server_init_renderer(server)) {
		wlr_log(WLR_ERROR, "cannot create the renderer and its allocator");
		return false;
	}
	if (!server_init_globals(server)) {
		wlr_log(WLR_ERROR, "cannot create the Wayland globals");
		return false;
	}
	return true;
}

static const char *server_add_socket(struct server *server) {
	const char *name = server->options->socket;
	if (getenv("XDG_RUNTIME_DIR") == NULL) {
		wlr_log(WLR_ERROR, "XDG_RUNTIME_DIR is not set: it wants a directory of your own, "
			"such as `mktemp -d` makes");
		return NULL;
	}
	if (name == NULL) {
		name = wl_display_add_socket_auto(server->display);
	} else if (wl_display_add_socket(server->display, name) != 0) {
		name = NULL;
	}
	if (name == NULL) {
		wlr_log_errno(WLR_ERROR, "cannot listen on a socket in %s", getenv("XDG_RUNTIME_DIR"));
	}
	return name;
}

int server_run(struct server *server) {
	const char *socket = server_add_socket(server);
	if (socket == NULL) {
		return -1;
	}
	if (!wlr_backend_start(server->backend) || !server_add_headless_outputs(server)) {
		wlr_log(WLR_ERROR, "cannot start the backend");
		return -1;
	}
	server_init_control(server, socket);
	server_init_xwayland(server);
	setenv("WAYLAND_DISPLAY", socket, true);
	if (server->options->print_socket) {
		printf("WAYLAND_DISPLAY=%s\n", socket);
		fflush(stdout);
	}
	server->socket = socket;
	server_tell_if_ready(server);
	if (server->options->command != NULL) {
		if (!command_start(server)) {
			return -1;
		}
		// Unless the command, or a signal, says otherwise
		server->exit_status = server->options->exit_with_command ? EXIT_FAILURE : 0;
	}
	wl_display_run(server->display);
	return server->exit_status;
}

void server_finish(struct server *server) {
	command_terminate(server);
	if (server->display == NULL) {
		return;
	}
	server_finish_xwayland(server);
	wl_display_destroy_clients(server->display);
	listeners_remove(&server->listeners);
	server_finish_seat(server);
	// The outputs go with the backend, and their buffers before the allocator
	if (server->backend != NULL) {
		wlr_backend_destroy(server->backend);
	}
	if (server->scene != NULL) {
		wlr_scene_node_destroy(&server->scene->tree.node);
	}
	wlr_allocator_destroy(server->allocator);
	wlr_renderer_destroy(server->renderer);
	for (size_t i = 0; i < 3; i++) {
		if (server->signal_sources[i] != NULL) {
			wl_event_source_remove(server->signal_sources[i]);
		}
	}
	if (server->hangup_source != NULL) {
		wl_event_source_remove(server->hangup_source);
	}
	wl_display_destroy(server->display);
	command_finish(server);
}
