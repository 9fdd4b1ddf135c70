/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_ALLOCATOR_H
#define VITRINE_ALLOCATOR_H

#include <stdbool.h>
#include <wayland-server-core.h>
#include <wlr/render/allocator.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wlr_backend;
struct wlr_renderer;

/**
 * Creates an allocator whose buffers can be viewed without a copy. The memory
 * of a buffer is a memfd that stays private, and writable by other processes
 * if it is shared the usual way, until a view of it is announced for the first
 * time; it is sealed then. Where /dev/udmabuf is there, the same memory is a
 * dma-buf for the renderer and the backend too.
 *
 * Returns NULL if the backend and the renderer have no buffer capability in
 * common with such buffers, or on failure. The caller owns the allocator and
 * destroys it with wlr_allocator_destroy().
 */
struct wlr_allocator *vitrine_allocator_create(struct wlr_backend *backend,
	struct wlr_renderer *renderer);

/**
 * Creates an allocator of dumb buffers of a KMS device, for renderers that draw
 * with the CPU where the device cannot scan out system memory. The first export
 * of each buffer is read-only, which later exports cannot undo, while the
 * compositor keeps its own mapping: without a kernel part this gives
 * `fd_read_only` views, unless a display shows the buffers. The dma-buf is the
 * display's own then, and a holder's fences would stop it.
 *
 * The device node of `drm_fd` is opened anew, since GEM handles of the same file
 * are not counted. Returns NULL if the device or the renderer cannot use dumb
 * buffers. The caller owns the allocator; its buffers may outlive it.
 */
struct wlr_allocator *vitrine_allocator_create_dumb(int drm_fd, struct wlr_renderer *renderer);

/**
 * The allocator that fits. Where the CPU draws and no device shows the buffers, that is
 * vitrine_allocator_create(). Else buffers are tried: the renderer has to import
 * one, a display as well, and the outputs that it fits have to pass a test commit with
 * it. The first kind that passes is chosen, anew for each size and format: memfds that are
 * dma-bufs too, unless the renderer has layouts of its own; dumb buffers; GPU buffers,
 * whose first export is read-only; and at last those of wlr_allocator_autocreate(), of
 * which sessions can have snapshots only.
 *
 * The environment variable VITRINE_ALLOCATOR forces the choice: "memfd", "dumb" (or
 * "dumb:/dev/dri/card0"), "gbm" or "wlroots".
 *
 * Returns NULL if there is no allocator. The caller owns it. It may outlive the backend and
 * the renderer.
 */
struct wlr_allocator *vitrine_allocator_autocreate(struct wlr_backend *backend,
	struct wlr_renderer *renderer);

/**
 * What an allocator of vitrine_allocator_autocreate() has chosen last for an output, and
 * why nothing better, such as "dumb buffers (not memfd: the display cannot import it)". The
 * string is valid until the next buffer is made. NULL if nothing was chosen yet, and for
 * allocators of others. Clients are told this: it is the `explanation` of their sessions.
 */
const char *vitrine_allocator_describe(struct wlr_allocator *allocator);
/**
 * The signal that what vitrine_allocator_describe() says has changed; its data is the
 * string. Remove listeners before the allocator is destroyed. NULL if there is no choice.
 */
struct wl_signal *vitrine_allocator_get_described_signal(struct wlr_allocator *allocator);
/**
 * Whether one of these allocators is calling wlr_allocator_autocreate() right now, which may
 * be during a commit: for libraries that stand in for that function.
 */
bool vitrine_allocator_is_falling_back(void);

#ifdef __cplusplus
}
#endif

#endif
