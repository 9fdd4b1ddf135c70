/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>

#include "capture_source.h"
#include "clock.h"
#include "session.h"
#include "viewed_output.h"

static bool session_has_started(const struct vitrine_view_session_v1 *session) {
	return session->viewed_output != NULL;
}

/* The end */

static void session_forget_listener(struct wl_listener *listener) {
	wl_list_remove(&listener->link);
	wl_list_init(&listener->link);
}

void vt_session_destroy(struct vitrine_view_session_v1 *session) {
	struct vt_subscriber *subscriber = &session->subscriber;
	session->impl->set_session(session->data, NULL);
	wl_list_remove(&session->capture_source_destroy.link);
	wl_list_remove(&session->output_destroy.link);
	wl_list_remove(&session->link);
	if (session_has_started(session)) {
		vt_viewed_output_remove_subscriber(session->viewed_output, subscriber);
		// In no list any more: a listener may stop other sessions
		wl_signal_emit_mutable(&session->manager->base.events.session_stop, session);
	}
	vt_waiter_cancel(&session->waiter);
	vt_charge_drop(&session->charge);
	vt_quota_unref(subscriber->quota);
	vt_client_unref(session->client);
	vt_subscriber_finish(subscriber);
	free(session);
}

void vt_session_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	const struct vt_session_interface *impl = session->impl;
	void *data = session->data;
	vt_session_destroy(session);
	// Sent when it has become true that the memory never changes again
	impl->send_stopped(data, reason);
}

void vt_sessions_stop(struct vt_manager *manager, enum vitrine_view_stop_reason reason) {
	while (!wl_list_empty(&manager->sessions)) {
		struct vitrine_view_session_v1 *session =
			wl_container_of(manager->sessions.next, session, link);
		vt_session_stop(session, reason);
	}
}

static struct vitrine_view_session_v1 *session_from_subscriber(struct vt_subscriber *subscriber) {
	struct vitrine_view_session_v1 *session = wl_container_of(subscriber, session, subscriber);
	return session;
}

static void session_handle_subscriber_stop(struct vt_subscriber *subscriber,
		enum vitrine_view_stop_reason reason) {
	vt_session_stop(session_from_subscriber(subscriber), reason);
}

static void session_handle_subscriber_stop_later(struct vt_subscriber *subscriber,
		enum vitrine_view_stop_reason reason) {
	struct vitrine_view_session_v1 *session = session_from_subscriber(subscriber);
	vt_viewed_output_stop_later(session->viewed_output, subscriber, reason);
}

static void session_handle_subscriber_move_later(struct vt_subscriber *subscriber) {
	struct vitrine_view_session_v1 *session = session_from_subscriber(subscriber);
	vt_viewed_output_move_later(session->viewed_output, subscriber);
}

static void session_handle_subscriber_guarantee(struct vt_subscriber *subscriber) {
	struct vitrine_view_session_v1 *session = session_from_subscriber(subscriber);
	wl_signal_emit_mutable(&session->manager->base.events.session_guarantee, session);
}

static const struct vt_subscriber_interface subscriber_impl = {
	.stop = session_handle_subscriber_stop,
	.stop_later = session_handle_subscriber_stop_later,
	.move_later = session_handle_subscriber_move_later,
	.handle_guarantee = session_handle_subscriber_guarantee,
};

/* The beginning */

static void session_start(struct vitrine_view_session_v1 *session) {
	// Set before a frame can come, which asks for it if that ends the session
	clock_gettime(CLOCK_REALTIME, &session->start_time);
	session->viewed_output = vt_viewed_output_get(session->manager, session->output);
	if (session->viewed_output == NULL || !vt_viewed_output_add_subscriber(
			session->viewed_output, &session->subscriber)) {
		session->viewed_output = NULL;
		vt_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
		return;
	}
	session_forget_listener(&session->output_destroy); // the viewed output knows when it goes
	if (session->impl->start != NULL) {
		session->impl->start(session);
	}
	vt_viewed_output_announce_power(session->viewed_output, &session->subscriber);
	wl_signal_emit_mutable(&session->manager->base.events.session_start, session);
}

/** It is paid for by now, rather than at the end: there would be debts for others to wait for. */
static void session_handle_turn(struct vt_waiter *waiter) {
	struct vitrine_view_session_v1 *session = wl_container_of(waiter, session, waiter);
	session_start(session);
}

/** Others need what the holder has most of: its newest session ends. */
static void session_handle_pay(struct vt_charge *charge) {
	struct vitrine_view_session_v1 *session = wl_container_of(charge, session, charge);
	vt_session_stop(session, VITRINE_VIEW_STOP_NO_RESOURCES);
}

static void session_handle_capture_source_destroy(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session =
		wl_container_of(listener, session, capture_source_destroy);
	session_forget_listener(&session->capture_source_destroy);
	session->capture_source = NULL;
	if (!session_has_started(session)) {
		vt_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
	} // else the session goes on for as long as the output does
}

static void session_handle_output_destroy(struct wl_listener *listener, void *data) {
	struct vitrine_view_session_v1 *session =
		wl_container_of(listener, session, output_destroy);
	vt_session_stop(session, VITRINE_VIEW_STOP_SOURCE_GONE);
}

static void session_listen(struct vitrine_view_session_v1 *session) {
	session->output_destroy.notify = session_handle_output_destroy;
	wl_signal_add(&session->output->events.destroy, &session->output_destroy);
	session->capture_source_destroy.notify = session_handle_capture_source_destroy;
	wl_list_init(&session->capture_source_destroy.link);
	if (session->capture_source != NULL) {
		wl_signal_add(&session->capture_source->events.destroy,
			&session->capture_source_destroy);
	}
}

static struct vitrine_view_session_v1 *session_create(struct vt_manager *manager,
		const struct vt_session_interface *impl, void *data,
		const struct vitrine_view_request *request, const struct vt_session_options *options,
		struct vt_quota *quota) {
	struct vitrine_view_session_v1 *session = calloc(1, sizeof(*session));
	struct vt_client *client = vt_client_get(&manager->clients, request->client);
	struct vt_reader reader;
	bool has_reader = vt_reader_copy(&reader, options->reader);
	if (session == NULL || client == NULL || !has_reader ||
			!vt_charge_claim(&session->charge, quota, VT_QUOTA_OBJECTS, 1)) {
		vt_reader_finish(&reader);
		free(session);
		return NULL;
	}
	vt_charge_set_payable(&session->charge, session_handle_pay);
	session->manager = manager;
	session->client = vt_client_ref(client);
	session->impl = impl;
	session->data = data;
	session->output = request->output;
	session->capture_source = request->source;
	session->acceptable = request->acceptable;
	session->readable = options->reader->storages;
	session->id = ++manager->last_session_id;
	reader.storages = request->storages;
	session->subscriber = (struct vt_subscriber){
		.impl = &subscriber_impl,
		.wire = impl->wire,
		.wire_data = data,
		.client = request->client,
		.quota = vt_quota_ref(quota),
		.options = request->options,
		.allowed = options->allowed,
		.reader = reader,
		.implicit_release = options->implicit_release,
	};
	vt_subscriber_init(&session->subscriber, manager->base.limits.frames_per_session);
	session_listen(session);
	wl_list_insert(manager->sessions.prev, &session->link);
	impl->set_session(data, session);
	return session;
}

bool vt_session_create(struct vt_manager *manager, const struct vt_session_interface *impl,
		void *data, const struct vitrine_view_request *request,
		const struct vt_session_options *options) {
	struct vt_quota *quota = vt_quota_get_for_client(&manager->quotas,
		vt_client_get(&manager->clients, request->client), vt_now_ms());
	if (quota == NULL) {
		return false;
	}
	struct vitrine_view_session_v1 *session =
		session_create(manager, impl, data, request, options, quota);
	vt_quota_unref(quota); // the session has its own reference
	if (session == NULL) {
		return false;
	}
	vt_start_queue_add(&manager->start_queue, &session->waiter, session->subscriber.quota,
		session_handle_turn);
	return true;
}

/* Between the two */

static void session_update_allowed(struct vitrine_view_session_v1 *session) {
	struct vitrine_view_request request = {
		.kind = VITRINE_VIEW_REQUEST_SESSION,
		.client = session->subscriber.client,
		.source = session->capture_source,
		.output = session->output,
		.window = vitrine_view_session_v1_get_window(session),
		.acceptable = session->acceptable,
		.storages = session->readable,
		.options = session->subscriber.options,
	};
	session->subscriber.allowed =
		session->acceptable & vt_policy_get_allowed(&session->manager->policy, &request);
	session->subscriber.reader.storages = request.storages;
}

static struct vitrine_view_session_v1 *find_denied_session(struct vt_manager *manager) {
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &manager->sessions, link) {
		const struct vt_subscriber *subscriber = &session->subscriber;
		uint32_t needed = subscriber->guarantee != 0 ? subscriber->guarantee : UINT32_MAX;
		uint32_t storage = subscriber->storage != 0 ? subscriber->storage : UINT32_MAX;
		if (!(subscriber->allowed & needed) || !(subscriber->reader.storages & storage)) {
			return session;
		}
	}
	return NULL;
}

void vt_sessions_update_policy(struct vt_manager *manager) {
	struct vitrine_view_session_v1 *session;
	wl_list_for_each(session, &manager->sessions, link) {
		session_update_allowed(session);
	}
	while ((session = find_denied_session(manager)) != NULL) {
		vt_session_stop(session, VITRINE_VIEW_STOP_DENIED);
	}
	wl_list_for_each(session, &manager->sessions, link) {
		if (session->subscriber.stream != NULL && session->subscriber.guarantee == 0) {
			// It has a stream, but for what was allowed before
			vt_viewed_output_move_later(session->viewed_output, &session->subscriber);
		}
	}
}

void vt_session_release(struct vitrine_view_session_v1 *session,
		struct vt_subscriber_frame *frame) {
	struct vt_subscriber *subscriber = &session->subscriber;
	if (subscriber->stream != NULL) {
		vt_stream_release(subscriber->stream, subscriber, frame);
		if (subscriber->guarantee == VITRINE_GUARANTEE_FD_READ_ONLY) {
			vt_viewed_output_check_fences(session->viewed_output);
		}
	} else {
		vt_subscriber_release(subscriber, frame, 0); // it was revoked
	}
}

void vt_session_pull(struct vitrine_view_session_v1 *session) {
	struct vt_subscriber *subscriber = &session->subscriber;
	if (subscriber->stream != NULL) {
		vt_stream_pull(subscriber->stream, subscriber);
	} else {
		vt_subscriber_pull(subscriber);
	}
	if (session_has_started(session)) {
		vt_viewed_output_request_frame(session->viewed_output);
	}
}

/* For embedders */

struct vitrine_view_session_v1 *vitrine_view_manager_v1_get_next_session(
		const struct vitrine_view_manager_v1 *base,
		const struct vitrine_view_session_v1 *previous) {
	const struct vt_manager *manager = wl_container_of(base, manager, base);
	const struct wl_list *link = previous != NULL ? previous->link.next : manager->sessions.next;
	for (; link != &manager->sessions; link = link->next) {
		struct vitrine_view_session_v1 *session = wl_container_of(link, session, link);
		if (session_has_started(session)) {
			return session;
		}
	}
	return NULL;
}

void vitrine_view_session_v1_stop(struct vitrine_view_session_v1 *session,
		enum vitrine_view_stop_reason reason) {
	vt_session_stop(session, reason);
}

struct wl_client *vitrine_view_session_v1_get_client(
		const struct vitrine_view_session_v1 *session) {
	return session->subscriber.client;
}

const struct vitrine_view_client *vitrine_view_session_v1_get_identity(
		const struct vitrine_view_session_v1 *session) {
	return &session->client->identity;
}

uint32_t vitrine_view_session_v1_get_guarantee(const struct vitrine_view_session_v1 *session) {
	return session->subscriber.guarantee;
}

uint32_t vitrine_view_session_v1_get_storage(const struct vitrine_view_session_v1 *session) {
	return session->subscriber.storage;
}

uint64_t vitrine_view_session_v1_get_id(const struct vitrine_view_session_v1 *session) {
	return session->id;
}

struct timespec vitrine_view_session_v1_get_start_time(
		const struct vitrine_view_session_v1 *session) {
	return session->start_time;
}

const char *vitrine_view_session_v1_get_protocol(
		const struct vitrine_view_session_v1 *session) {
	return session->impl->protocol;
}

const char *vitrine_view_session_v1_get_source_name(
		const struct vitrine_view_session_v1 *session) {
	return session->output->name;
}

const char *vitrine_view_session_v1_get_window(const struct vitrine_view_session_v1 *session) {
	return session->capture_source != NULL ?
		vt_capture_source_find_window(session->manager, session->capture_source) : NULL;
}

void vitrine_view_session_v1_get_stats(const struct vitrine_view_session_v1 *session,
		struct vitrine_view_session_stats *stats) {
	*stats = session->subscriber.stats;
}
