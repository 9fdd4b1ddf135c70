/* SPDX-License-Identifier: MIT */
/* Protocols that wlroots implements: all that is left to do here is to offer them. */
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_data_control_v1.h>
#include <wlr/types/wlr_data_device.h>
#include <wlr/types/wlr_ext_data_control_v1.h>
#include <wlr/types/wlr_fractional_scale_v1.h>
#include <wlr/types/wlr_linux_dmabuf_v1.h>
#include <wlr/types/wlr_presentation_time.h>
#include <wlr/types/wlr_primary_selection_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_single_pixel_buffer_v1.h>
#include <wlr/types/wlr_subcompositor.h>
#include <wlr/types/wlr_viewporter.h>
#include <wlr/types/wlr_xdg_activation_v1.h>
#include "server.h"

static void server_handle_request_activate(struct wl_listener *listener, void *data) {
	struct server *server = wl_container_of(listener, server, listeners.request_activate);
	const struct wlr_xdg_activation_v1_request_activate_event *event = data;
	struct toplevel *toplevel;
	wl_list_for_each(toplevel, &server->toplevels, link) {
		// Only with a token for which a client that had the input has asked
		if (toplevel->surface == event->surface && event->token->seat != NULL &&
				toplevel->surface->mapped) {
			toplevel_focus(server, toplevel);
		}
	}
}

/**
 * Clients' dma-bufs, where the renderer can read them and clients can be told by which
 * device: the pixman renderer has no way to.
 */
static bool server_init_linux_dmabuf(struct server *server) {
	if (wlr_renderer_get_drm_fd(server->renderer) < 0 ||
			wlr_renderer_get_texture_formats(server->renderer, WLR_BUFFER_CAP_DMABUF) == NULL) {
		return true;
	}
	struct wlr_linux_dmabuf_v1 *linux_dmabuf =
		wlr_linux_dmabuf_v1_create_with_renderer(server->display, 4, server->renderer);
	if (linux_dmabuf == NULL) {
		return false;
	}
	wlr_scene_set_linux_dmabuf_v1(server->scene, linux_dmabuf);
	return true;
}

bool server_init_protocols(struct server *server) {
	struct wl_display *display = server->display;
	struct wlr_xdg_activation_v1 *activation = wlr_xdg_activation_v1_create(display);
	if (activation == NULL ||
			!wlr_renderer_init_wl_shm(server->renderer, display) ||
			wlr_subcompositor_create(display) == NULL ||
			// How pictures are scaled and when they are shown
			wlr_viewporter_create(display) == NULL ||
			wlr_fractional_scale_manager_v1_create(display, 1) == NULL ||
			wlr_single_pixel_buffer_manager_v1_create(display) == NULL ||
			wlr_presentation_create(display, server->backend, 2) == NULL ||
			// The clipboards, and programs that look after them
			wlr_data_device_manager_create(display) == NULL ||
			wlr_primary_selection_v1_device_manager_create(display) == NULL ||
			wlr_data_control_manager_v1_create(display) == NULL ||
			wlr_ext_data_control_manager_v1_create(display, 1) == NULL) {
		return false;
	}
	listener_add(&activation->events.request_activate, &server->listeners.request_activate,
		server_handle_request_activate);
	return server_init_linux_dmabuf(server);
}
