/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <wlr/render/wlr_renderer.h>

#include "buffer_view_v1.h"
#include "capture_source.h"
#include "manager.h"
#include "session.h"
#include "session_v1.h"
#include "thread.h"
#include "viewed_output.h"
#include "xx-dmabuf-view-v1-protocol.h"

#define VIEW_MANAGER_VERSION 1
/** For threads that copy to end, at the end of the display; one that is stuck does not. */
#define DRIVERS_WAIT_MS 1000

#define MIB (UINT64_C(1024) * 1024)

static const struct vitrine_view_limits default_limits = {
	.frames_per_session = 2,
	.frame_deadline_ms = 1000,
	.contended_frame_deadline_ms = 100,
	.objects = { 512, 256, 64 },
	.copiers = { 16, 8, 2 },
	.copies = { 16, 8, 1 },
	.private_bytes = { 2048 * MIB, 1024 * MIB, 256 * MIB },
	.shared_bytes = { 2048 * MIB, 1024 * MIB, 256 * MIB },
	.shared_pieces = { 2048, 1024, 256 },
	.shared_sets = { 3, 2, 1 },
	.unknown_interval_ms = 60000,
	.starts_per_group = { .burst = 32, .interval_ms = 250 },
	.starts_per_holder = { .burst = 16, .interval_ms = 100 },
};

/** A client that has bound the global. */
struct binding {
	struct wl_list link; // vt_manager.bindings
	struct vt_manager *manager;
	struct wl_resource *resource;
	uint32_t sent_guarantees;
};

static const struct xx_dmabuf_view_manager_v1_interface manager_impl;

/** NULL if the manager is gone. */
static struct binding *binding_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &xx_dmabuf_view_manager_v1_interface,
		&manager_impl));
	return wl_resource_get_user_data(resource);
}

/* Policy */

static uint32_t binding_get_guarantees(const struct binding *binding) {
	struct vitrine_view_request request = {
		.kind = VITRINE_VIEW_REQUEST_BIND,
		.client = wl_resource_get_client(binding->resource),
		.acceptable = VITRINE_GUARANTEE_ALL,
		.storages = VITRINE_STORAGE_ALL,
	};
	return vt_policy_get_allowed(&binding->manager->policy, &request);
}

void vitrine_view_manager_v1_update_policy(struct vitrine_view_manager_v1 *base) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	struct binding *binding;
	wl_list_for_each(binding, &manager->bindings, link) {
		uint32_t guarantees = binding_get_guarantees(binding);
		if (guarantees != binding->sent_guarantees) {
			binding->sent_guarantees = guarantees;
			xx_dmabuf_view_manager_v1_send_guarantees(binding->resource, guarantees);
		}
	}
	vt_sessions_update_policy(manager);
}

void vitrine_view_manager_v1_set_policy(struct vitrine_view_manager_v1 *base,
		vitrine_view_policy_func_t func, void *data) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	vt_policy_set_func(&manager->policy, func, data);
	vitrine_view_manager_v1_update_policy(base);
}

void vitrine_view_manager_v1_set_allowed(struct vitrine_view_manager_v1 *base,
		uint32_t guarantees) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	manager->policy.allowed = guarantees;
	vitrine_view_manager_v1_update_policy(base);
}

void vitrine_view_manager_v1_set_security_context_manager(
		struct vitrine_view_manager_v1 *base,
		struct wlr_security_context_manager_v1 *security_context_manager) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	vt_client_registry_set_security_context_manager(&manager->clients, security_context_manager);
	vitrine_view_manager_v1_update_policy(base);
}

static void manager_forget_gpu(struct vt_manager *manager) {
	if (manager->gpu_fd >= 0) {
		close(manager->gpu_fd);
		manager->gpu_fd = -1;
	}
}

bool vitrine_view_manager_v1_set_renderer(struct vitrine_view_manager_v1 *base,
		struct wlr_renderer *renderer) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	bool has_gpu = renderer != NULL && wlr_renderer_get_drm_fd(renderer) >= 0 &&
		!(renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR);
	int gpu_fd = has_gpu ? fcntl(wlr_renderer_get_drm_fd(renderer), F_DUPFD_CLOEXEC, 0) : -1;
	if (has_gpu && gpu_fd < 0) {
		return false;
	}
	manager_forget_gpu(manager);
	manager->gpu_fd = gpu_fd;
	return true;
}

void vitrine_view_manager_v1_stop_sessions(struct vitrine_view_manager_v1 *base,
		enum vitrine_view_stop_reason reason) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	vt_sessions_stop(manager, reason);
}

void vitrine_view_manager_v1_set_locked(struct vitrine_view_manager_v1 *base, bool locked) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	manager->policy.locked = locked;
	if (locked) {
		vt_sessions_stop(manager, VITRINE_VIEW_STOP_LOCKED);
	}
	vitrine_view_manager_v1_update_policy(base);
}

const struct vitrine_view_client *vitrine_view_manager_v1_get_identity(
		struct vitrine_view_manager_v1 *base, struct wl_client *wl_client) {
	struct vt_manager *manager = wl_container_of(base, manager, base);
	const struct vt_client *client = vt_client_get(&manager->clients, wl_client);
	return client != NULL ? &client->identity : NULL;
}

/* The global */

static void manager_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

/** NULL if it is gone. */
static struct vt_manager *manager_from_resource(struct wl_resource *resource) {
	struct binding *binding = binding_from_resource(resource);
	return binding != NULL ? binding->manager : NULL;
}

static void manager_handle_get_buffer_view(struct wl_client *client,
		struct wl_resource *resource, uint32_t id, struct wl_resource *buffer_resource) {
	vt_buffer_view_v1_create(manager_from_resource(resource), resource, id, buffer_resource);
}

static void manager_handle_create_session(struct wl_client *client,
		struct wl_resource *resource, uint32_t id, struct wl_resource *source_resource) {
	vt_session_v1_create(manager_from_resource(resource), resource, id, source_resource);
}

static const struct xx_dmabuf_view_manager_v1_interface manager_impl = {
	.destroy = manager_handle_destroy,
	.get_buffer_view = manager_handle_get_buffer_view,
	.create_session = manager_handle_create_session,
};

static void binding_destroy(struct binding *binding) {
	wl_resource_set_user_data(binding->resource, NULL);
	wl_list_remove(&binding->link);
	free(binding);
}

static void binding_handle_resource_destroy(struct wl_resource *resource) {
	struct binding *binding = binding_from_resource(resource);
	if (binding != NULL) {
		binding_destroy(binding);
	}
}

static void manager_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
	struct vt_manager *manager = data;
	struct binding *binding = calloc(1, sizeof(*binding));
	if (binding == NULL || vt_client_get(&manager->clients, client) == NULL) {
		free(binding);
		wl_client_post_no_memory(client);
		return;
	}
	binding->manager = manager;
	binding->resource =
		wl_resource_create(client, &xx_dmabuf_view_manager_v1_interface, (int)version, id);
	if (binding->resource == NULL) {
		free(binding);
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(binding->resource, &manager_impl, binding,
		binding_handle_resource_destroy);
	wl_list_insert(&manager->bindings, &binding->link);
	binding->sent_guarantees = binding_get_guarantees(binding);
	xx_dmabuf_view_manager_v1_send_guarantees(binding->resource, binding->sent_guarantees);
}

/** An embedder takes its listeners away when it hears of `destroy`. */
static void check_no_listeners(const struct vitrine_view_manager_v1 *base) {
	assert(wl_list_empty(&base->events.destroy.listener_list));
	assert(wl_list_empty(&base->events.session_start.listener_list));
	assert(wl_list_empty(&base->events.session_guarantee.listener_list));
	assert(wl_list_empty(&base->events.session_stop.listener_list));
}

static void manager_destroy(struct vt_manager *manager) {
	vt_sessions_stop(manager, VITRINE_VIEW_STOP_SOURCE_GONE);
	wl_signal_emit_mutable(&manager->base.events.destroy, &manager->base);
	check_no_listeners(&manager->base);
	struct vt_viewed_output *viewed, *viewed_tmp;
	wl_list_for_each_safe(viewed, viewed_tmp, &manager->viewed_outputs, link) {
		vt_viewed_output_destroy(viewed, VITRINE_VIEW_STOP_SOURCE_GONE);
	}
	vt_sessions_v1_finish(manager);
	vt_buffer_views_v1_finish(manager);
	struct binding *binding, *tmp;
	wl_list_for_each_safe(binding, tmp, &manager->bindings, link) {
		binding_destroy(binding);
	}
	vt_threads_wait_for_drivers(DRIVERS_WAIT_MS);
	vt_capture_sources_finish(manager);
	vt_start_queue_finish(&manager->start_queue);
	vt_retired_registry_finish(&manager->retired);
	vt_quota_registry_finish(&manager->quotas);
	vt_client_registry_finish(&manager->clients);
	wl_list_remove(&manager->display_destroy.link);
	wl_global_destroy(manager->base.global);
	vitrine_derive_destroy(manager->derive);
	manager_forget_gpu(manager);
	free(manager);
}

static void manager_handle_display_destroy(struct wl_listener *listener, void *data) {
	struct vt_manager *manager = wl_container_of(listener, manager, display_destroy);
	manager_destroy(manager);
}

struct vitrine_view_manager_v1 *vitrine_view_manager_v1_create(struct wl_display *display,
		uint32_t version) {
	assert(version <= VIEW_MANAGER_VERSION);

	struct vt_manager *manager = calloc(1, sizeof(*manager));
	if (manager == NULL) {
		return NULL;
	}
	manager->display = display;
	manager->loop = wl_display_get_event_loop(display);
	manager->base.limits = default_limits;
	vt_policy_init(&manager->policy, &manager->clients);
	vt_quota_registry_init(&manager->quotas, &manager->base.limits,
		wl_event_loop_get_fd(manager->loop));
	wl_list_init(&manager->unstarted);
	wl_list_init(&manager->sessions);
	wl_list_init(&manager->viewed_outputs);
	wl_list_init(&manager->capture_sources);
	wl_list_init(&manager->bindings);
	wl_list_init(&manager->views);
	wl_list_init(&manager->copies);
	wl_signal_init(&manager->base.events.destroy);
	wl_signal_init(&manager->base.events.session_start);
	wl_signal_init(&manager->base.events.session_guarantee);
	wl_signal_init(&manager->base.events.session_stop);

	manager->gpu_fd = -1;
	manager->derive = vitrine_derive_create();
	if (manager->derive == NULL || !vt_retired_registry_init(&manager->retired, manager->loop,
			&manager->base.limits)) {
		goto err;
	}
	if (!vt_start_queue_init(&manager->start_queue, manager->loop)) {
		goto err_retired;
	}
	manager->base.global = wl_global_create(display, &xx_dmabuf_view_manager_v1_interface,
		(int)version, manager, manager_bind);
	if (manager->base.global == NULL) {
		goto err_start_queue;
	}
	vt_client_registry_init(&manager->clients, display);
	manager->display_destroy.notify = manager_handle_display_destroy;
	wl_display_add_destroy_listener(display, &manager->display_destroy);
	return &manager->base;

err_start_queue:
	vt_start_queue_finish(&manager->start_queue);
err_retired:
	vt_retired_registry_finish(&manager->retired);
err:
	vitrine_derive_destroy(manager->derive);
	free(manager);
	return NULL;
}
