/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_EXPORT_DMABUF_V1_H
#define VITRINE_EXPORT_DMABUF_V1_H

#include <wayland-server-core.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vitrine_view_manager_v1;

/**
 * A zwlr_export_dmabuf_manager_v1 global that hands out nothing that can be
 * written. Its clients cannot tell the difference from that of wlroots.
 */
struct vitrine_export_dmabuf_manager_v1 {
	struct wl_global *global;

	struct {
		/** All listeners are gone when it has been emitted, or an assertion fails. */
		struct wl_signal destroy;
	} events;

	void *data;
};

/**
 * Creates the global, in the place of wlr_export_dmabuf_manager_v1_create().
 *
 * Captures of an output are a session of the view manager like any other: the
 * same policy, limits, signals and end when the screen is locked. Each file
 * descriptor is derived and verified, and is `guarded` or `fd_read_only`; where
 * neither can be had or is allowed, captures are cancelled as `permanent`.
 *
 * A client of this protocol does not say when it has done with a frame, since
 * it may destroy the object while it goes on reading. So a frame is held until
 * the client has been given the next one, and until it asks for another one if
 * no other session wants the buffer. If it does not ask for one within
 * `limits.frame_deadline_ms`, it has stopped looking: its buffers are retired, as they
 * are when it disconnects, and it does not see what is drawn afterwards.
 *
 * Destroyed with the view manager. Returns NULL on failure.
 */
struct vitrine_export_dmabuf_manager_v1 *vitrine_export_dmabuf_manager_v1_create(
	struct vitrine_view_manager_v1 *view_manager);

#ifdef __cplusplus
}
#endif

#endif
