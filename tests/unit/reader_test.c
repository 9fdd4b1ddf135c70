/* SPDX-License-Identifier: MIT */
/* What a client can read, by itself. */
#include <drm_fourcc.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>

#include "harness.h"
#include "reader.h"

/** Of no driver: there is no such device. */
#define DEVICE makedev(4095, 1)
#define OTHER_DEVICE makedev(4095, 2)
#define TILED UINT64_C(0x0100000000000001)

/** The nodes of the one device that libdrm finds: any that are on every machine will do. */
static char primary_path[] = "/dev/null", render_path[] = "/dev/zero";
#define PRIMARY makedev(1, 3)
#define RENDER makedev(1, 5)
static int n_looks; // for devices

int drmGetDevices2(uint32_t flags, drmDevicePtr devices[], int max_devices) {
	static char *nodes[DRM_NODE_MAX] = {
		[DRM_NODE_PRIMARY] = primary_path, [DRM_NODE_RENDER] = render_path };
	static drmDevice device = {
		.nodes = nodes, .available_nodes = 1 << DRM_NODE_PRIMARY | 1 << DRM_NODE_RENDER };
	check_int(max_devices, >=, 1);
	devices[0] = &device;
	n_looks++;
	return 1;
}

void drmFreeDevices(drmDevicePtr devices[], int count) {
	check_int(count, ==, 1);
}

static int n_seconds_ahead; // the clock is, of what it would be

int clock_gettime(clockid_t clock, struct timespec *now) {
	int ret = (int)syscall(SYS_clock_gettime, clock, now);
	now->tv_sec += n_seconds_ahead;
	return ret;
}

struct reader_fixture {
	struct vt_reader reader;
};

struct reader_fixture_options {
	int unused;
};

static void reader_fixture_set_up(struct reader_fixture *f,
		const struct reader_fixture_options *options) {
	vt_reader_init(&f->reader);
}

static void reader_fixture_tear_down(struct reader_fixture *f) {
	vt_reader_finish(&f->reader);
}

static void add_format(struct reader_fixture *f, dev_t node, uint32_t fourcc, uint64_t modifier) {
	check_int(vt_reader_add_format(&f->reader, node, fourcc, modifier), ==, VT_READER_OK);
}

TEST_WITH(reader_fixture, reader_takes_the_dmabufs_that_are_listed_and_no_other) {
	add_format(f, DEVICE, DRM_FORMAT_XRGB8888, TILED);
	check(vt_reader_takes_dmabuf(&f->reader, DEVICE, DRM_FORMAT_XRGB8888, TILED));
	check(!vt_reader_takes_dmabuf(&f->reader, OTHER_DEVICE, DRM_FORMAT_XRGB8888, TILED));
	check(!vt_reader_takes_dmabuf(&f->reader, DEVICE, DRM_FORMAT_ARGB8888, TILED));
	check(!vt_reader_takes_dmabuf(&f->reader, DEVICE, DRM_FORMAT_XRGB8888,
		DRM_FORMAT_MOD_LINEAR));
}

TEST_WITH(reader_fixture, system_memory_fits_any_device) {
	check(!vt_reader_takes_dmabuf(&f->reader, 0, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR));
	add_format(f, DEVICE, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	check(vt_reader_takes_dmabuf(&f->reader, 0, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR));
	check(!vt_reader_takes_dmabuf(&f->reader, 0, DRM_FORMAT_XRGB8888, TILED));
}

TEST_WITH(reader_fixture, cpu_is_no_device) {
	add_format(f, 0, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	check(!vt_reader_takes_dmabuf(&f->reader, 0, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR));
	check(!vt_reader_has_device(&f->reader));
	add_format(f, DEVICE, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	check(vt_reader_has_device(&f->reader));
}

TEST_WITH(reader_fixture, cpu_reads_what_is_listed_for_it_or_all) {
	add_format(f, DEVICE, DRM_FORMAT_XRGB8888, DRM_FORMAT_MOD_LINEAR);
	check(vt_reader_takes_cpu_format(&f->reader, DRM_FORMAT_XRGB2101010));
	check(!vt_reader_names_cpu_format(&f->reader, DRM_FORMAT_XRGB2101010));
	add_format(f, 0, DRM_FORMAT_XRGB2101010, DRM_FORMAT_MOD_LINEAR);
	check(vt_reader_takes_cpu_format(&f->reader, DRM_FORMAT_XRGB2101010));
	check(vt_reader_names_cpu_format(&f->reader, DRM_FORMAT_XRGB2101010));
	check(!vt_reader_takes_cpu_format(&f->reader, DRM_FORMAT_XRGB8888));
}

TEST_WITH(reader_fixture, reader_that_cannot_say_takes_any_dmabuf) {
	f->reader.takes_any_dmabuf = true;
	check(vt_reader_takes_dmabuf(&f->reader, DEVICE, DRM_FORMAT_XRGB8888, TILED));
}

TEST_WITH(reader_fixture, number_of_formats_is_bounded) {
	for (uint32_t i = 0; i < VT_READER_FORMATS_CAP; i++) {
		add_format(f, DEVICE, i, TILED);
	}
	check_int(vt_reader_add_format(&f->reader, DEVICE, VT_READER_FORMATS_CAP, TILED), ==,
		VT_READER_TOO_MANY);
	// Listed already, it needs no room
	add_format(f, DEVICE, 0, TILED);
	check_int(f->reader.formats.size, ==,
		VT_READER_FORMATS_CAP * sizeof(struct vt_reader_format));
}

TEST_WITH(reader_fixture, number_of_nodes_is_bounded) {
	for (unsigned i = 0; i < VT_READER_NODES_CAP; i++) {
		add_format(f, makedev(4095, i), DRM_FORMAT_XRGB8888, TILED);
	}
	check_int(vt_reader_add_format(&f->reader, makedev(4095, VT_READER_NODES_CAP),
		DRM_FORMAT_XRGB8888, TILED), ==, VT_READER_TOO_MANY);
	add_format(f, makedev(4095, 0), DRM_FORMAT_ARGB8888, TILED);
	add_format(f, 0, DRM_FORMAT_ARGB8888, DRM_FORMAT_MOD_LINEAR);
}

TEST_WITH(reader_fixture, all_nodes_of_a_device_are_the_same_device) {
	add_format(f, PRIMARY, DRM_FORMAT_XRGB8888, TILED);
	check(vt_reader_takes_dmabuf(&f->reader, RENDER, DRM_FORMAT_XRGB8888, TILED));
	check(!vt_reader_takes_dmabuf(&f->reader, PRIMARY, DRM_FORMAT_XRGB8888, TILED));
	add_format(f, RENDER, DRM_FORMAT_XRGB8888, TILED);
	check_int(f->reader.formats.size, ==, sizeof(struct vt_reader_format));
}

/** What a client costs that makes sessions, names nodes that do not exist, and ends them. */
TEST_WITH(reader_fixture, devices_are_looked_for_once_a_second) {
	int before = n_looks;
	for (unsigned i = 0; i < 10 * VT_READER_NODES_CAP; i++) {
		if (i % VT_READER_NODES_CAP == 0) {
			vt_reader_finish(&f->reader);
		}
		add_format(f, makedev(4094, i), DRM_FORMAT_XRGB8888, TILED);
	}
	check_int(n_looks - before, <=, 2); // a second may have passed in between
	int looked = n_looks;
	check_int(looked, >, 0);
	for (unsigned i = 0; n_looks == looked; i++) { // and devices that are new are found
		vt_reader_finish(&f->reader);
		add_format(f, makedev(4093, i), DRM_FORMAT_XRGB8888, TILED);
	}
}

TEST_WITH(reader_fixture, device_that_is_known_is_not_looked_for_again) {
	add_format(f, PRIMARY, DRM_FORMAT_XRGB8888, TILED);
	check_int(n_looks, >, 0); // else it would not be known
	int looked = n_looks;
	n_seconds_ahead += 2; // after which one that is not known is looked for
	add_format(f, PRIMARY, DRM_FORMAT_ARGB8888, TILED);
	add_format(f, RENDER, DRM_FORMAT_XRGB8888, TILED);
	check_int(n_looks, ==, looked);
	add_format(f, makedev(4093, 1), DRM_FORMAT_XRGB8888, TILED);
	check_int(n_looks, >, looked);
}

TEST_WITH(reader_fixture, copy_is_the_same_and_apart) {
	f->reader.storages = VITRINE_STORAGE_DMABUF;
	add_format(f, DEVICE, DRM_FORMAT_XRGB8888, TILED);
	struct vt_reader copy;
	check(vt_reader_copy(&copy, &f->reader));
	add_format(f, DEVICE, DRM_FORMAT_ARGB8888, TILED);
	check_int(copy.storages, ==, VITRINE_STORAGE_DMABUF);
	check(vt_reader_takes_dmabuf(&copy, DEVICE, DRM_FORMAT_XRGB8888, TILED));
	check(!vt_reader_takes_dmabuf(&copy, DEVICE, DRM_FORMAT_ARGB8888, TILED));
	vt_reader_finish(&copy);
	check(vt_reader_takes_dmabuf(&f->reader, DEVICE, DRM_FORMAT_XRGB8888, TILED));
}

TEST(node_of_no_device_is_its_own) {
	check(vt_reader_find_node(DEVICE) == DEVICE);
	check(vt_reader_find_node(0) == 0);
}
