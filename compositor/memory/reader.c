/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <sys/stat.h>
#include <xf86drm.h>

#include "clock.h"
#include "reader.h"

void vt_reader_init(struct vt_reader *reader) {
	*reader = (struct vt_reader){ 0 };
	wl_array_init(&reader->formats);
}

void vt_reader_finish(struct vt_reader *reader) {
	wl_array_release(&reader->formats);
	vt_reader_init(reader);
}

bool vt_reader_copy(struct vt_reader *dst, const struct vt_reader *src) {
	vt_reader_init(dst);
	struct wl_array formats = dst->formats;
	*dst = *src;
	dst->formats = formats;
	return wl_array_copy(&dst->formats, (struct wl_array *)&src->formats) == 0;
}

dev_t vt_reader_find_node(dev_t node) {
	drmDevice *device = NULL;
	if (node == 0 || drmGetDeviceFromDevId(node, 0, &device) != 0) {
		return node;
	}
	struct stat st;
	if ((device->available_nodes & (1 << DRM_NODE_RENDER)) &&
			stat(device->nodes[DRM_NODE_RENDER], &st) == 0) {
		node = st.st_rdev;
	}
	drmFreeDevice(&device);
	return node;
}

/* What clients name */

/** Devices that are looked at, and their nodes. */
#define DEVICES_CAP 64
#define NODES_CAP (DEVICES_CAP * DRM_NODE_MAX)
/** For so long what was found is taken for true. */
#define NODES_VALID_MS 1000

/**
 * All nodes of this machine's devices: looked for at once, which opens files, and not again
 * before a node is named that is not among them. Not then for a while, since clients may
 * name as many nodes that do not exist as they like.
 */
static struct {
	struct vt_reader_node nodes[NODES_CAP];
	size_t n_nodes;
	bool is_known;
	int64_t since_ms; // when they were looked for
} known;

static bool get_node(const drmDevice *device, int type, dev_t *node) {
	struct stat st;
	if (!(device->available_nodes & (1 << type)) || stat(device->nodes[type], &st) != 0) {
		return false;
	}
	*node = st.st_rdev;
	return true;
}

/** As vt_reader_find_node() has it. */
static void known_add(const drmDevice *device) {
	dev_t node, render;
	bool has_render = get_node(device, DRM_NODE_RENDER, &render);
	for (int type = 0; type < DRM_NODE_MAX; type++) {
		if (get_node(device, type, &node)) {
			known.nodes[known.n_nodes++] = (struct vt_reader_node){
				.node = node,
				.device = has_render ? render : node,
			};
		}
	}
}

static void known_update(void) {
	int64_t now = vt_now_ms();
	if (known.is_known && now - known.since_ms < NODES_VALID_MS) {
		return;
	}
	drmDevice *devices[DEVICES_CAP];
	int n = drmGetDevices2(0, devices, DEVICES_CAP); // how many there are
	n = n < DEVICES_CAP ? n : DEVICES_CAP;
	known.n_nodes = 0;
	for (int i = 0; i < n; i++) {
		known_add(devices[i]);
	}
	if (n > 0) {
		drmFreeDevices(devices, n);
	}
	known.is_known = true;
	known.since_ms = now;
}

/** As vt_reader_find_node(), of what is known. 0 if it is not among that. */
static dev_t known_find(dev_t node) {
	for (size_t i = 0; i < known.n_nodes; i++) {
		if (known.nodes[i].node == node) {
			return known.nodes[i].device;
		}
	}
	return 0;
}

/** As vt_reader_find_node(), but of a moment ago. */
static dev_t find_known_node(dev_t node) {
	dev_t device = known_find(node);
	if (device == 0) {
		known_update();
		device = known_find(node);
	}
	return device != 0 ? device : node;
}

static size_t reader_count_formats(const struct vt_reader *reader) {
	return reader->formats.size / sizeof(struct vt_reader_format);
}

static bool reader_lists(const struct vt_reader *reader, dev_t device, uint32_t fourcc,
		uint64_t modifier) {
	const struct vt_reader_format *format;
	wl_array_for_each(format, &reader->formats) {
		if (format->device == device && format->fourcc == fourcc &&
				format->modifier == modifier) {
			return true;
		}
	}
	return false;
}

/** The device of a node; false beyond the cap. */
static bool reader_find_device(struct vt_reader *reader, dev_t node, dev_t *device) {
	for (size_t i = 0; i < reader->n_nodes; i++) {
		if (reader->nodes[i].node == node) {
			*device = reader->nodes[i].device;
			return true;
		}
	}
	if (reader->n_nodes == VT_READER_NODES_CAP) {
		return false;
	}
	*device = find_known_node(node);
	reader->nodes[reader->n_nodes++] =
		(struct vt_reader_node){ .node = node, .device = *device };
	return true;
}

enum vt_reader_result vt_reader_add_format(struct vt_reader *reader, dev_t node,
		uint32_t fourcc, uint64_t modifier) {
	dev_t device = 0;
	if (node != 0 && !reader_find_device(reader, node, &device)) {
		return VT_READER_TOO_MANY;
	}
	if (reader_lists(reader, device, fourcc, modifier)) {
		return VT_READER_OK;
	}
	if (reader_count_formats(reader) == VT_READER_FORMATS_CAP) {
		return VT_READER_TOO_MANY;
	}
	struct vt_reader_format *format = wl_array_add(&reader->formats, sizeof(*format));
	if (format == NULL) {
		return VT_READER_NO_MEMORY;
	}
	*format = (struct vt_reader_format){
		.device = device,
		.fourcc = fourcc,
		.modifier = modifier,
	};
	return VT_READER_OK;
}

bool vt_reader_has_device(const struct vt_reader *reader) {
	const struct vt_reader_format *format;
	wl_array_for_each(format, &reader->formats) {
		if (format->device != 0) {
			return true;
		}
	}
	return false;
}

bool vt_reader_takes_dmabuf(const struct vt_reader *reader, dev_t device, uint32_t fourcc,
		uint64_t modifier) {
	const struct vt_reader_format *format;
	wl_array_for_each(format, &reader->formats) {
		if (format->device != 0 && (device == 0 || format->device == device) &&
				format->fourcc == fourcc && format->modifier == modifier) {
			return true;
		}
	}
	return reader->takes_any_dmabuf;
}

bool vt_reader_names_cpu_format(const struct vt_reader *reader, uint32_t fourcc) {
	return reader_lists(reader, 0, fourcc, DRM_FORMAT_MOD_LINEAR);
}

bool vt_reader_takes_cpu_format(const struct vt_reader *reader, uint32_t fourcc) {
	const struct vt_reader_format *format;
	wl_array_for_each(format, &reader->formats) {
		if (format->device == 0) {
			return vt_reader_names_cpu_format(reader, fourcc);
		}
	}
	return true;
}
