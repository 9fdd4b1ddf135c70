/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wlr/render/dmabuf.h>
#include <wlr/types/wlr_linux_dmabuf_v1.h>

#include "buffer_copy.h"
#include "buffer_view_v1.h"
#include "clock.h"
#include "manager.h"
#include "view_setup.h"
#include "xx-dmabuf-view-v1-protocol.h"

static_assert(WLR_DMABUF_MAX_PLANES == 4, "the protocol's planes are those of linux-dmabuf");

/**
 * A view of a client's buffer that is not described yet: it waits for the client to
 * start it, then in the event loop until all writes to its planes are over, and until a
 * copy is made if it has to be one.
 */
struct buffer_view {
	struct wl_list link; // vt_manager.views
	struct vt_manager *manager;
	struct wl_resource *resource;
	struct vt_quota *quota;
	struct vt_charge charge; // one VT_QUOTA_OBJECTS, payable
	struct vt_charge fds_charge; // VT_QUOTA_FDS
	struct vt_view_setup setup;
	uint32_t allowed; // guarantees that both sides can live with; 0 before it is started

	struct wlr_dmabuf_attributes dmabuf; // with file descriptors of our own
	struct wl_event_source *event_source; // NULL unless it waits for writes to be over
	struct vt_waiter waiter; // for its turn to be copied
	bool has_turn; // it is paid for
	bool waits_for_copies; // of others, which leave no room for another one
	struct view_copy *copy; // NULL unless it is being made
};

/** File descriptors of a view: its planes, and what waits for one of them. */
#define VIEW_FDS(n_planes) ((uint64_t)(n_planes) + 1)
/**
 * Of a copy: its planes and what they are copied to, the device, what says that it is
 * done, and what waits for that.
 */
#define COPY_FDS(n_planes) (2 * (uint64_t)(n_planes) + 3)

/** A copy that is being made. It is charged to the quota even if its view is gone. */
struct view_copy {
	struct wl_list link; // vt_manager.copies
	struct vt_manager *manager;
	struct vt_charge charge; // one VT_QUOTA_COPIES
	struct vt_charge fds_charge; // VT_QUOTA_FDS
	struct vt_charge bytes_charge; // VT_QUOTA_PRIVATE_BYTES, until it is handed over
	struct buffer_view *view; // NULL if it is gone
	struct vt_buffer_copy *buffer_copy;
	struct wl_event_source *event_source;
};

static const struct xx_dmabuf_view_v1_interface view_impl;

/** NULL if the view is described or has failed. */
static struct buffer_view *view_from_resource(struct wl_resource *resource) {
	assert(wl_resource_instance_of(resource, &xx_dmabuf_view_v1_interface, &view_impl));
	return wl_resource_get_user_data(resource);
}

static void view_destroy(struct buffer_view *view) {
	wl_resource_set_user_data(view->resource, NULL);
	if (view->event_source != NULL) {
		wl_event_source_remove(view->event_source);
	}
	vt_waiter_cancel(&view->waiter);
	if (view->copy != NULL) {
		view->copy->view = NULL;
	}
	wlr_dmabuf_attributes_finish(&view->dmabuf);
	vt_view_setup_finish(&view->setup);
	vt_charge_drop(&view->charge);
	vt_charge_drop(&view->fds_charge);
	vt_quota_unref(view->quota);
	wl_list_remove(&view->link);
	free(view);
}

static void view_fail(struct buffer_view *view, enum xx_dmabuf_view_v1_failure reason) {
	struct wl_resource *resource = view->resource;
	view_destroy(view);
	xx_dmabuf_view_v1_send_failed(resource, reason);
}

static void view_fail_with(struct buffer_view *view, int error) {
	bool is_transient =
		error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOSPC;
	view_fail(view, is_transient ? XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES :
		XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
}

/**
 * Asks the policy, which may have changed while the view waited; and so may the screen be
 * locked. False if the view has failed by this, since none of `needed` is allowed.
 */
static bool view_check_policy(struct buffer_view *view, uint32_t needed) {
	struct vitrine_view_request request = {
		.kind = VITRINE_VIEW_REQUEST_BUFFER,
		.client = wl_resource_get_client(view->resource),
		.acceptable = view->setup.guarantees,
		.storages = view->setup.reader.storages,
	};
	uint32_t policy = vt_policy_get_allowed(&view->manager->policy, &request);
	view->allowed = policy & request.acceptable;
	view->setup.reader.storages = request.storages; // it may only become less
	if (policy == 0) {
		view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_DENIED);
		return false;
	}
	if ((view->allowed & needed) == 0) {
		view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_UNSUPPORTED);
		return false;
	}
	return true;
}

static void close_derived(struct vitrine_derived_fd *derived, int len) {
	for (int i = 0; i < len; i++) {
		close(derived[i].fd);
	}
}

/** Says what the view is, which ends it, and closes the file descriptors. */
static void view_describe(struct buffer_view *view,
		struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES]) {
	const struct wlr_dmabuf_attributes *dmabuf = &view->dmabuf;
	xx_dmabuf_view_v1_send_format(view->resource, derived[0].storage, (uint32_t)dmabuf->width,
		(uint32_t)dmabuf->height, dmabuf->format, (uint32_t)(dmabuf->modifier >> 32),
		(uint32_t)(dmabuf->modifier & UINT32_MAX), derived[0].guarantee);
	for (int i = 0; i < dmabuf->n_planes; i++) {
		xx_dmabuf_view_v1_send_plane(view->resource, (uint32_t)i, derived[i].fd,
			dmabuf->offset[i], dmabuf->stride[i]);
	}
	xx_dmabuf_view_v1_send_done(view->resource);
	close_derived(derived, dmabuf->n_planes);
	view_destroy(view);
}

static uint64_t view_get_plane_size(const struct buffer_view *view, int plane) {
	off_t end = lseek(view->dmabuf.fd[plane], 0, SEEK_END);
	return end > 0 ? (uint64_t)end : 0;
}

/* Views that share the buffer's memory */

/** Derives all planes with the same guarantee. */
static int view_derive_planes(struct buffer_view *view, enum vitrine_guarantee guarantee,
		struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES]) {
	for (int i = 0; i < view->dmabuf.n_planes; i++) {
		const struct vitrine_derive_source source = {
			.memfd = -1,
			.dmabuf_fd = view->dmabuf.fd[i],
			.size = view_get_plane_size(view, i),
		};
		int ret = vitrine_derive_fd(view->manager->derive, &source, guarantee, &derived[i]);
		if (ret < 0) {
			close_derived(derived, i);
			return ret;
		}
	}
	return 0;
}

/** Whether the client imports the buffer's own memory. It is not known to be mappable. */
static bool view_can_share(const struct buffer_view *view) {
	const struct vt_reader *reader = &view->setup.reader;
	return (reader->storages & VITRINE_STORAGE_DMABUF) &&
		vt_reader_takes_dmabuf(reader, 0, view->dmabuf.format, view->dmabuf.modifier);
}

/** Whether the client reads a copy. */
static bool view_can_copy(const struct buffer_view *view) {
	const struct vt_reader *reader = &view->setup.reader;
	uint32_t available = vitrine_derive_get_guarantees(view->manager->derive);
	return (view->allowed & available & VITRINE_GUARANTEE_SNAPSHOT) &&
		(reader->storages & VITRINE_STORAGE_MEMFD) &&
		vt_reader_takes_cpu_format(reader, view->dmabuf.format);
}

static int view_derive(struct buffer_view *view,
		struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES]) {
	// As in vitrine_derive_fd()
	static const enum vitrine_guarantee preference[] = {
		VITRINE_GUARANTEE_GUARDED,
		VITRINE_GUARANTEE_FD_READ_ONLY,
	};
	int ret = -EOPNOTSUPP;
	if (!view_can_share(view)) {
		return ret;
	}
	for (size_t i = 0; i < sizeof(preference) / sizeof(preference[0]) && ret < 0; i++) {
		if (view->allowed & preference[i]) {
			ret = view_derive_planes(view, preference[i], derived);
		}
	}
	return ret;
}

/* Copies */

static void view_wait(struct buffer_view *view);
static void view_handle_turn(struct vt_waiter *waiter);

static void copy_destroy(struct view_copy *copy) {
	vt_charge_drop(&copy->charge);
	vt_charge_drop(&copy->fds_charge);
	vt_charge_drop(&copy->bytes_charge);
	if (copy->view != NULL) {
		copy->view->copy = NULL;
	}
	wl_event_source_remove(copy->event_source);
	vt_buffer_copy_destroy(copy->buffer_copy);
	wl_list_remove(&copy->link);
	free(copy);
}

/** A copy is the client's from here on, for as long as it keeps it. */
static int copy_charge(struct view_copy *copy,
		const struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES],
		const struct vt_buffer_copy_layout *layout) {
	vt_charge_drop(&copy->bytes_charge); // each plane is charged by itself
	for (int i = 0; i < layout->n_planes; i++) {
		if (!vt_retired_registry_watch_copy(&copy->manager->retired, copy->charge.quota,
				derived[i].fd, layout->sizes[i])) {
			return -ENOMEM; // what is charged already is free once it is closed
		}
	}
	return 0;
}

/** A copy that a GPU has made has one plane. */
static void view_set_layout(struct buffer_view *view, const struct vt_buffer_copy_layout *layout) {
	struct wlr_dmabuf_attributes *dmabuf = &view->dmabuf;
	while (dmabuf->n_planes > layout->n_planes) {
		close(dmabuf->fd[--dmabuf->n_planes]);
	}
	dmabuf->modifier = layout->modifier;
	memcpy(dmabuf->offset, layout->offsets, sizeof(dmabuf->offset));
	memcpy(dmabuf->stride, layout->strides, sizeof(dmabuf->stride));
}

static void copy_hand_over(struct view_copy *copy) {
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	struct buffer_view *view = copy->view;
	if (view == NULL || !view_check_policy(view, VITRINE_GUARANTEE_SNAPSHOT)) {
		return;
	}
	struct vt_buffer_copy_layout layout;
	int ret = vt_buffer_copy_take(copy->buffer_copy, derived, &layout);
	if (ret == 0) {
		ret = copy_charge(copy, derived, &layout);
		if (ret == 0) {
			view_set_layout(view, &layout);
			view_describe(view, derived);
			return;
		}
		close_derived(derived, layout.n_planes);
	}
	view_fail_with(view, ret);
}

/** There is room for another copy: the first that waits for that is next. */
static void views_go_on(struct vt_manager *manager) {
	struct buffer_view *view, *tmp;
	wl_list_for_each_safe(view, tmp, &manager->views, link) {
		if (view->waits_for_copies && vt_quota_has_room(view->quota, VT_QUOTA_COPIES, 1)) {
			view->waits_for_copies = false;
			view_wait(view);
		}
	}
}

static int copy_handle_done(int fd, uint32_t mask, void *data) {
	struct view_copy *copy = data;
	struct vt_manager *manager = copy->manager;
	copy_hand_over(copy);
	copy_destroy(copy);
	views_go_on(manager);
	return 0;
}

static struct view_copy *copy_create(struct buffer_view *view,
		const uint64_t sizes[static WLR_DMABUF_MAX_PLANES], uint64_t total) {
	struct view_copy *copy = calloc(1, sizeof(*copy));
	if (copy == NULL) {
		return NULL;
	}
	// Others of its group may begin before it ends
	if (!vt_charge_try(&copy->fds_charge, view->quota, VT_QUOTA_FDS,
			COPY_FDS(view->dmabuf.n_planes)) ||
			!vt_charge_try(&copy->bytes_charge, view->quota, VT_QUOTA_PRIVATE_BYTES, total)) {
		goto err_charge;
	}
	copy->manager = view->manager;
	copy->view = view;
	copy->buffer_copy = vt_buffer_copy_start(&view->dmabuf, sizes,
		view->manager->gpu_fd);
	if (copy->buffer_copy == NULL) {
		goto err_charge;
	}
	copy->event_source = wl_event_loop_add_fd(view->manager->loop,
		vt_buffer_copy_get_fd(copy->buffer_copy), WL_EVENT_READABLE, copy_handle_done, copy);
	if (copy->event_source == NULL) {
		vt_buffer_copy_destroy(copy->buffer_copy);
		goto err_charge;
	}
	vt_charge_add(&copy->charge, view->quota, VT_QUOTA_COPIES, 1);
	wl_list_insert(&view->manager->copies, &copy->link);
	return copy;

err_charge:
	vt_charge_drop(&copy->fds_charge);
	vt_charge_drop(&copy->bytes_charge);
	free(copy);
	return NULL;
}

/** Starts to copy. What it costs is the client's whether it succeeds or not. */
static void view_copy(struct buffer_view *view) {
	const struct wlr_dmabuf_attributes *dmabuf = &view->dmabuf;
	uint64_t sizes[WLR_DMABUF_MAX_PLANES] = { 0 }, total = 0;
	for (int i = 0; i < dmabuf->n_planes; i++) {
		// No more than there is to see
		uint64_t used =
			dmabuf->offset[i] + (uint64_t)dmabuf->stride[i] * (uint64_t)dmabuf->height;
		uint64_t size = view_get_plane_size(view, i);
		sizes[i] = used < size ? used : size;
		total += sizes[i];
	}
	view->has_turn = false;
	// Planes may all be the same memory: it is the copies that count
	view->copy = copy_create(view, sizes, total);
	if (view->copy == NULL) {
		view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	}
}

/* Waiting */

static int view_handle_readable(int fd, uint32_t mask, void *data) {
	struct buffer_view *view = data;
	wl_event_source_remove(view->event_source);
	view->event_source = NULL;
	view_wait(view);
	return 0;
}

/** A dma-buf polls readable when no write to it is pending. */
static bool plane_is_idle(const struct buffer_view *view, int plane) {
	struct pollfd pollfd = { .fd = view->dmabuf.fd[plane], .events = POLLIN };
	return poll(&pollfd, 1, 0) == 1;
}

/** Whether a write is pending: the view waits for it then, or has failed. */
static bool view_awaits_writes(struct buffer_view *view) {
	for (int i = 0; i < view->dmabuf.n_planes; i++) {
		if (plane_is_idle(view, i)) {
			continue;
		}
		view->event_source = wl_event_loop_add_fd(view->manager->loop, view->dmabuf.fd[i],
			WL_EVENT_READABLE, view_handle_readable, view);
		if (view->event_source == NULL) {
			view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
		}
		return true;
	}
	return false;
}

/** Goes on with what is next. All planes each time: they may be written to again. */
static void view_wait(struct buffer_view *view) {
	if (!view_check_policy(view, VITRINE_GUARANTEE_ALL) || view_awaits_writes(view)) {
		return;
	}
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	int ret = view_derive(view, derived);
	if (ret == 0) {
		view_describe(view, derived);
		return;
	}
	if (!view_can_copy(view)) {
		view_fail_with(view, ret);
		return;
	}
	view->waits_for_copies = !vt_quota_has_room(view->quota, VT_QUOTA_COPIES, 1);
	if (view->waits_for_copies) {
		return; // see views_go_on()
	}
	if (view->has_turn) {
		view_copy(view);
	} else { // copies are rationed like sessions
		vt_start_queue_add(&view->manager->start_queue, &view->waiter, view->quota,
			view_handle_turn);
	}
}

static void view_handle_turn(struct vt_waiter *waiter) {
	struct buffer_view *view = wl_container_of(waiter, view, waiter);
	view->has_turn = true;
	view_wait(view); // it may have been written to again
}

void vt_buffer_views_v1_finish(struct vt_manager *manager) {
	struct buffer_view *view, *view_tmp;
	wl_list_for_each_safe(view, view_tmp, &manager->views, link) {
		view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_GONE);
	}
	struct view_copy *copy, *copy_tmp;
	wl_list_for_each_safe(copy, copy_tmp, &manager->copies, link) {
		copy_destroy(copy);
	}
}

static void view_handle_resource_destroy(struct wl_resource *resource) {
	struct buffer_view *view = view_from_resource(resource);
	if (view != NULL) {
		view_destroy(view);
	}
}

static void view_handle_destroy(struct wl_client *client, struct wl_resource *resource) {
	wl_resource_destroy(resource);
}

/* Before the start */

static void view_handle_set_guarantees(struct wl_client *client, struct wl_resource *resource,
		uint32_t mask) {
	struct buffer_view *view = view_from_resource(resource);
	if (view != NULL) {
		vt_view_setup_set_guarantees(&view->setup, resource, mask);
	}
}

static void view_handle_set_storages(struct wl_client *client, struct wl_resource *resource,
		uint32_t mask) {
	struct buffer_view *view = view_from_resource(resource);
	if (view != NULL) {
		vt_view_setup_set_storages(&view->setup, resource, mask);
	}
}

static void view_handle_add_format(struct wl_client *client, struct wl_resource *resource,
		struct wl_array *device, uint32_t fourcc, uint32_t modifier_hi, uint32_t modifier_lo) {
	struct buffer_view *view = view_from_resource(resource);
	if (view != NULL) {
		vt_view_setup_add_format(&view->setup, resource, device, fourcc, modifier_hi,
			modifier_lo);
	}
}

static void view_handle_start(struct wl_client *client, struct wl_resource *resource) {
	struct buffer_view *view = view_from_resource(resource);
	if (view != NULL && vt_view_setup_start(&view->setup, resource)) {
		view_wait(view);
	}
}

static const struct xx_dmabuf_view_v1_interface view_impl = {
	.destroy = view_handle_destroy,
	.set_guarantees = view_handle_set_guarantees,
	.set_storages = view_handle_set_storages,
	.add_format = view_handle_add_format,
	.start = view_handle_start,
};

static void view_handle_pay(struct vt_charge *charge) {
	struct buffer_view *view = wl_container_of(charge, view, charge);
	view_fail(view, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
}

/** False for lack of quota. */
static bool view_charge(struct buffer_view *view, int n_planes) {
	if (!vt_charge_claim(&view->charge, view->quota, VT_QUOTA_OBJECTS, 1)) {
		return false;
	}
	if (!vt_charge_try(&view->fds_charge, view->quota, VT_QUOTA_FDS, VIEW_FDS(n_planes))) {
		vt_charge_drop(&view->charge);
		return false;
	}
	vt_charge_set_payable(&view->charge, view_handle_pay);
	return true;
}

/** Returns NULL for lack of memory, file descriptors or quota. */
static struct buffer_view *view_create(struct vt_manager *manager,
		struct wl_resource *resource, const struct wlr_dmabuf_attributes *dmabuf) {
	struct buffer_view *view = calloc(1, sizeof(*view));
	if (view == NULL) {
		return NULL;
	}
	struct wl_client *client = wl_resource_get_client(resource);
	view->quota = vt_quota_get_for_client(&manager->quotas,
		vt_client_get(&manager->clients, client), vt_now_ms());
	if (view->quota == NULL) {
		goto err_view;
	}
	if (!view_charge(view, dmabuf->n_planes)) {
		goto err_quota;
	}
	// "The view lives on when the wl_buffer is destroyed"
	if (!wlr_dmabuf_attributes_copy(&view->dmabuf, dmabuf)) {
		goto err_charge;
	}
	view->manager = manager;
	view->resource = resource;
	wl_list_insert(manager->views.prev, &view->link); // first come, first served
	wl_resource_set_user_data(resource, view);
	return view;

err_charge:
	vt_charge_drop(&view->charge);
	vt_charge_drop(&view->fds_charge);
err_quota:
	vt_quota_unref(view->quota);
err_view:
	free(view);
	return NULL;
}

void vt_buffer_view_v1_create(struct vt_manager *manager, struct wl_resource *manager_resource,
		uint32_t id, struct wl_resource *buffer_resource) {
	struct wlr_dmabuf_v1_buffer *buffer =
		wlr_dmabuf_v1_buffer_try_from_buffer_resource(buffer_resource);
	if (buffer == NULL) {
		wl_resource_post_error(manager_resource, XX_DMABUF_VIEW_MANAGER_V1_ERROR_INVALID_BUFFER,
			"the wl_buffer is not a linux-dmabuf buffer");
		return;
	}
	struct wl_client *client = wl_resource_get_client(manager_resource);
	struct wl_resource *resource = wl_resource_create(client, &xx_dmabuf_view_v1_interface,
		wl_resource_get_version(manager_resource), id);
	if (resource == NULL) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &view_impl, NULL, view_handle_resource_destroy);

	if (manager == NULL) {
		xx_dmabuf_view_v1_send_failed(resource, XX_DMABUF_VIEW_V1_FAILURE_GONE);
		return;
	}
	struct buffer_view *view = view_create(manager, resource, &buffer->attributes);
	if (view == NULL) {
		xx_dmabuf_view_v1_send_failed(resource, XX_DMABUF_VIEW_V1_FAILURE_NO_RESOURCES);
	}
}
