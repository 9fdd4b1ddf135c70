/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_SESSION_H
#define CAPTURE_SESSION_H

#include "manager.h"
#include "subscriber.h"

/**
 * What a protocol that has sessions makes of them, besides the frames.
 */
struct vt_session_interface {
	const char *protocol; // the name of its global
	const struct vt_subscriber_wire *wire; // how frames reach the client
	/** The session has started. May be NULL. */
	void (*start)(struct vitrine_view_session_v1 *session);
	/** The session is there, or about to be freed: NULL. */
	void (*set_session)(void *data, struct vitrine_view_session_v1 *session);
	/** The session is gone, and `reason` is why. */
	void (*send_stopped)(void *data, enum vitrine_view_stop_reason reason);
};

/**
 * A client that looks at an output, until it is stopped or destroyed: a
 * xx_dmabuf_view_session_v1, or all captures of an output through
 * wlr-export-dmabuf. It waits for its quota, and then starts: where it stands is
 * the state of its subscriber, which is APART until then.
 */
struct vitrine_view_session_v1 {
	struct vt_subscriber subscriber;
	struct wl_list link; // vt_manager.sessions
	struct vt_manager *manager;
	struct vt_client *client; // with a reference, since it may be gone when the end is told
	const struct vt_session_interface *impl;
	void *data; // of the implementation, and the wire_data of the subscriber

	struct wlr_output *output;
	struct vt_viewed_output *viewed_output; // NULL before it has started
	uint32_t acceptable; // guarantees that the client accepts
	uint32_t readable; // storages that it reads, allowed or not
	uint64_t id;
	struct timespec start_time; // of CLOCK_REALTIME

	struct vt_charge charge; // one VT_QUOTA_OBJECTS, payable
	struct vt_waiter waiter; // before it starts

	struct wl_listener output_destroy; // until it has started
	struct wlr_ext_image_capture_source_v1 *capture_source; // NULL if there is none, or no more
	struct wl_listener capture_source_destroy;
};

/** What a session needs to know besides what the policy is asked. */
struct vt_session_options {
	uint32_t allowed; // guarantees that both sides can live with
	/** What the client can read; is copied, but for the storages, which are the request's. */
	const struct vt_reader *reader;
	bool implicit_release; // see vt_subscriber.implicit_release
};

/**
 * Creates a session, which starts now or, if its client is too fast, later, and
 * may even be stopped at once. Returns false for lack of resources or quota.
 */
bool vt_session_create(struct vt_manager *manager, const struct vt_session_interface *impl,
	void *data, const struct vitrine_view_request *request,
	const struct vt_session_options *options);
/**
 * Ends the session without a word: what its client can reach never changes again.
 * Frees it. Must not be called while an output commits.
 */
void vt_session_destroy(struct vitrine_view_session_v1 *session);
/** The same, and tells the client. */
void vt_session_stop(struct vitrine_view_session_v1 *session,
	enum vitrine_view_stop_reason reason);
/** Stops all sessions. */
void vt_sessions_stop(struct vt_manager *manager, enum vitrine_view_stop_reason reason);
/** Asks the policy again: stops the sessions that are not allowed any more. */
void vt_sessions_update_policy(struct vt_manager *manager);

/** The client is done with a frame of the session, held or revoked. */
void vt_session_release(struct vitrine_view_session_v1 *session,
	struct vt_subscriber_frame *frame);
/**
 * The client of a session that pulls asks for a frame, which is drawn even if
 * nothing has changed. See vt_subscriber_pull().
 */
void vt_session_pull(struct vitrine_view_session_v1 *session);

#endif
