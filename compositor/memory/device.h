/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_DEVICE_H
#define MEMORY_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * A file description of our own of a DRM device, since GEM handles of the same file are
 * not counted. An allocator shares it with its buffers, which may outlive it.
 */
struct vt_device {
	size_t n_refs;
	int fd;
	dev_t id; // as vt_reader_find_node() says
};

/**
 * Opens the device of `drm_fd` anew, its render node if that is preferred and there is
 * one. Returns it with one reference, or NULL with an error in the log.
 */
struct vt_device *vt_device_open(int drm_fd, bool prefer_render_node);
struct vt_device *vt_device_ref(struct vt_device *device);
/** Closes it with the last reference. Accepts NULL. */
void vt_device_unref(struct vt_device *device);

#endif
