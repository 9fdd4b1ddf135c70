/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <sys/stat.h>
#include <xf86drm.h>

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
	*device = vt_reader_find_node(node);
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
