/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_FENCE_H
#define MEMORY_FENCE_H

#include <stdbool.h>

struct wlr_buffer;
struct wlr_dmabuf_attributes;
struct wlr_output_state;
struct wlr_renderer;

/**
 * A renderer may have only flushed its work when an output commits: the pixels
 * are finished later. Gives a file descriptor, owned by the caller, that becomes
 * readable when everything is finished that the renderer was told so far; or -1 if
 * it is finished already. Returns false if it cannot be known when (there is no file
 * descriptor left): the pixels must not be shown then.
 *
 * `buffer` is what was drawn to. `state` is what was committed, NULL for work that
 * is not committed.
 */
bool vt_render_fence(struct wlr_renderer *renderer, const struct wlr_output_state *state,
	struct wlr_buffer *buffer, int *take_fence_fd);

/**
 * Whether such a fence has to be made, which costs the event loop a turn of the driver;
 * where the driver attaches fences to dma-bufs by itself, theirs will do then.
 */
bool vt_render_fence_is_made(struct wlr_renderer *renderer);

/**
 * Whether one who draws to the dma-buf may have to wait first: for readers and writers
 * whose fences it has. Does not wait itself.
 */
bool vt_fence_is_on_dmabuf(const struct wlr_dmabuf_attributes *dmabuf);

#endif
