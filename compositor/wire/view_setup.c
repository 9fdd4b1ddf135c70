/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <string.h>
#include <wayland-server-core.h>

#include "view_setup.h"
#include "xx-dmabuf-view-v1-protocol.h"

// One of each for both: the interfaces number them alike
enum setup_error {
	ERROR_ALREADY_STARTED = XX_DMABUF_VIEW_SESSION_V1_ERROR_ALREADY_STARTED,
	ERROR_INCOMPLETE = XX_DMABUF_VIEW_SESSION_V1_ERROR_INCOMPLETE,
	ERROR_INVALID_GUARANTEE = XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_GUARANTEE,
	ERROR_INVALID_STORAGE = XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_STORAGE,
	ERROR_INVALID_FORMAT = XX_DMABUF_VIEW_SESSION_V1_ERROR_INVALID_FORMAT,
};

static_assert((int)ERROR_ALREADY_STARTED == XX_DMABUF_VIEW_V1_ERROR_ALREADY_STARTED, "");
static_assert((int)ERROR_INCOMPLETE == XX_DMABUF_VIEW_V1_ERROR_INCOMPLETE, "");
static_assert((int)ERROR_INVALID_GUARANTEE == XX_DMABUF_VIEW_V1_ERROR_INVALID_GUARANTEE, "");
static_assert((int)ERROR_INVALID_STORAGE == XX_DMABUF_VIEW_V1_ERROR_INVALID_STORAGE, "");
static_assert((int)ERROR_INVALID_FORMAT == XX_DMABUF_VIEW_V1_ERROR_INVALID_FORMAT, "");

void vt_view_setup_finish(struct vt_view_setup *setup) {
	vt_reader_finish(&setup->reader);
}

bool vt_view_setup_check(const struct vt_view_setup *setup, struct wl_resource *resource) {
	if (setup->is_done) {
		wl_resource_post_error(resource, ERROR_ALREADY_STARTED,
			"a setter or start was called after start");
	}
	return !setup->is_done;
}

/** Whether a mask has a bit, and none that is unknown. */
static bool mask_is_valid(uint32_t mask, uint32_t known) {
	return mask != 0 && (mask & ~known) == 0;
}

bool vt_view_setup_set_guarantees(struct vt_view_setup *setup, struct wl_resource *resource,
		uint32_t mask) {
	if (!vt_view_setup_check(setup, resource)) {
		return false;
	}
	if (!mask_is_valid(mask, VITRINE_GUARANTEE_ALL)) {
		wl_resource_post_error(resource, ERROR_INVALID_GUARANTEE,
			"no mask of guarantees: 0x%x", mask);
		return false;
	}
	setup->guarantees = mask;
	return true;
}

bool vt_view_setup_set_storages(struct vt_view_setup *setup, struct wl_resource *resource,
		uint32_t mask) {
	if (!vt_view_setup_check(setup, resource)) {
		return false;
	}
	if (!mask_is_valid(mask, VITRINE_STORAGE_ALL)) {
		wl_resource_post_error(resource, ERROR_INVALID_STORAGE, "no mask of storages: 0x%x",
			mask);
		return false;
	}
	setup->reader.storages = mask;
	return true;
}

/** "neither empty nor of the size of a dev_t": false. An empty one is the CPU, 0. */
static bool read_device(const struct wl_array *array, dev_t *device) {
	*device = 0;
	if (array->size == sizeof(*device)) {
		memcpy(device, array->data, sizeof(*device));
		return true;
	}
	return array->size == 0;
}

bool vt_view_setup_add_format(struct vt_view_setup *setup, struct wl_resource *resource,
		const struct wl_array *device, uint32_t fourcc, uint32_t modifier_hi,
		uint32_t modifier_lo) {
	dev_t node;
	if (!vt_view_setup_check(setup, resource)) {
		return false;
	}
	if (!read_device(device, &node)) {
		wl_resource_post_error(resource, ERROR_INVALID_FORMAT, "no dev_t: %zu bytes",
			device->size);
		return false;
	}
	uint64_t modifier = (uint64_t)modifier_hi << 32 | modifier_lo;
	switch (vt_reader_add_format(&setup->reader, node, fourcc, modifier)) {
	case VT_READER_OK:
		return true;
	case VT_READER_TOO_MANY:
		wl_resource_post_error(resource, ERROR_INVALID_FORMAT, "too many formats or nodes");
		break;
	case VT_READER_NO_MEMORY:
		wl_resource_post_no_memory(resource);
		break;
	}
	return false;
}

bool vt_view_setup_start(struct vt_view_setup *setup, struct wl_resource *resource) {
	if (!vt_view_setup_check(setup, resource)) {
		return false;
	}
	const struct vt_reader *reader = &setup->reader;
	bool lacks_device =
		(reader->storages & VITRINE_STORAGE_DMABUF) && !vt_reader_has_device(reader);
	if (setup->guarantees == 0 || reader->storages == 0 || lacks_device) {
		wl_resource_post_error(resource, ERROR_INCOMPLETE, "start without %s",
			lacks_device ? "a format for a device" : "guarantees or storages");
		return false;
	}
	setup->is_done = true;
	return true;
}

struct wl_array vt_view_device_array(const dev_t *device) {
	// Never written to by those who send it
	return (struct wl_array){
		.size = *device != 0 ? sizeof(*device) : 0,
		.data = (void *)device,
	};
}
