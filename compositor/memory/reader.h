/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_READER_H
#define MEMORY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vitrine/derive.h>
#include <wayland-server-core.h>

/** Formats that a client may list, at most, and the device nodes among them. */
#define VT_READER_FORMATS_CAP 1024
#define VT_READER_NODES_CAP 16

/** A format that a client can read. */
struct vt_reader_format {
	dev_t device; // that imports it, see vt_reader_find_node(); 0 is the CPU
	uint32_t fourcc;
	uint64_t modifier;
};

/** A device node that a client has named, so that each is looked up once. */
struct vt_reader_node {
	dev_t node, device;
};

/**
 * What a client can read: in which storages, and in which formats. Zeroed, it reads
 * nothing.
 */
struct vt_reader {
	uint32_t storages; // bitfield of enum vitrine_storage
	struct wl_array formats; // struct vt_reader_format
	struct vt_reader_node nodes[VT_READER_NODES_CAP];
	size_t n_nodes;
	bool takes_any_dmabuf; // whatever is listed: the client's protocol cannot say
};

void vt_reader_init(struct vt_reader *reader);
void vt_reader_finish(struct vt_reader *reader);
/** Initializes `dst`, also on failure: false if there is no memory. */
bool vt_reader_copy(struct vt_reader *dst, const struct vt_reader *src);

/**
 * The node by which devices are compared: the render node of the device that `node` is
 * of, or `node` itself if there is none, or no such device. Looks into /sys.
 */
dev_t vt_reader_find_node(dev_t node);

enum vt_reader_result {
	VT_READER_OK,
	VT_READER_TOO_MANY, // beyond a cap
	VT_READER_NO_MEMORY,
};

/**
 * Adds a format, unless it is listed already. `node` is any of the device's, or 0 for
 * the CPU. Of devices it knows those that were there within the last second.
 */
enum vt_reader_result vt_reader_add_format(struct vt_reader *reader, dev_t node,
	uint32_t fourcc, uint64_t modifier);

/** Whether a format is listed for any device but the CPU. */
bool vt_reader_has_device(const struct vt_reader *reader);
/**
 * Whether the client can import a dma-buf in a format. `device` is as
 * vt_reader_find_node() says; 0 if the memory is the system's, which fits any device.
 */
bool vt_reader_takes_dmabuf(const struct vt_reader *reader, dev_t device, uint32_t fourcc,
	uint64_t modifier);
/**
 * Whether the client reads a format by the CPU, linear. A client that has listed no
 * format for the CPU does not care.
 */
bool vt_reader_takes_cpu_format(const struct vt_reader *reader, uint32_t fourcc);
/** Whether the client has listed a format for the CPU. */
bool vt_reader_names_cpu_format(const struct vt_reader *reader, uint32_t fourcc);

#endif
