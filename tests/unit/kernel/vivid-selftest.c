/* SPDX-License-Identifier: MIT */
/*
 * Encoders, scalers and outputs of V4L2 only read what is queued for them: vivid, with
 * the allocator that most of those have (dma-contig), streams buffers that are guarded,
 * by the module or by deriving, and no way leads into one of them. Runs as root where
 * vivid is there with n_devs=2 allocators=1,0: tests/harness/guest/uml, vm --vivid.
 */
#include "selftest.h"

#include "dma_buf_guard.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT 4
/* As large as what a heap has in one piece, which dma-contig asks for. */
#define SIZE (1024 * 1024)
#define OUTPUT V4L2_BUF_TYPE_VIDEO_OUTPUT
#define CAPTURE V4L2_BUF_TYPE_VIDEO_CAPTURE

/* How a file descriptor is made that may only be read: -1 with errno set if it is not. */
enum means {
	GUARD,
	GUARD_OWN_FENCES,
	DERIVE,
};

static int make_read_only(enum means means, int fd) {
	if (means == DERIVE) {
		return derive_checked(fd, O_RDONLY | O_CLOEXEC);
	}
	int device = open(DMA_BUF_GUARD_DEVICE, O_RDWR | O_CLOEXEC);
	check_int(device, >=, 0);
	int guard = guard_try(device, fd,
		O_CLOEXEC | (means == GUARD_OWN_FENCES ? DMA_BUF_GUARD_OWN_FENCES : 0));
	close(device);
	check_int(guard, >=, 0);
	return guard;
}

/* vivid */

static bool has_userptr(int fd, uint32_t type) {
	struct v4l2_requestbuffers request = {.type = type, .memory = V4L2_MEMORY_USERPTR};
	return ioctl(fd, VIDIOC_REQBUFS, &request) == 0;
}

/* It offers USERPTR where it allocates by vmalloc. */
static int vivid_open(uint32_t type, bool is_contiguous) {
	uint32_t wanted = type == OUTPUT ? V4L2_CAP_VIDEO_OUTPUT : V4L2_CAP_VIDEO_CAPTURE;
	for (int i = 0; i < 64; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/video%d", i);
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0) {
			continue;
		}
		struct v4l2_capability info;
		check_ok(ioctl(fd, VIDIOC_QUERYCAP, &info));
		if (strcmp((char *)info.driver, "vivid") == 0 && (info.device_caps & wanted) &&
				has_userptr(fd, type) != is_contiguous) {
			return fd;
		}
		close(fd);
	}
	/* Each guest has both, but for those that no test of this file runs in. */
	harness_fail(__FILE__, __LINE__, "there is no vivid");
}

static uint32_t vivid_get_picture_size(int fd, uint32_t type) {
	struct v4l2_format format = {.type = type};
	check_ok(ioctl(fd, VIDIOC_G_FMT, &format));
	check_int(format.fmt.pix.sizeimage, <=, SIZE);
	return format.fmt.pix.sizeimage;
}

static void vivid_request_buffers(int fd, uint32_t type) {
	struct v4l2_requestbuffers request = {
		.count = COUNT, .type = type, .memory = V4L2_MEMORY_DMABUF,
	};
	check_ok(ioctl(fd, VIDIOC_REQBUFS, &request));
	check_int(request.count, ==, COUNT);
}

static int vivid_queue(int fd, uint32_t type, uint32_t index, int dmabuf) {
	struct v4l2_buffer buffer = {
		.index = index,
		.type = type,
		.memory = V4L2_MEMORY_DMABUF,
		.m.fd = dmabuf,
		.length = SIZE,
		.bytesused = type == OUTPUT ? vivid_get_picture_size(fd, type) : 0,
		/* The output is that of a TV, by default. */
		.field = V4L2_FIELD_TOP,
	};
	return ioctl(fd, VIDIOC_QBUF, &buffer);
}

static uint32_t vivid_dequeue(int fd, uint32_t type) {
	check(dmabuf_poll(fd, type == OUTPUT ? POLLOUT : POLLIN, 20 * 1000));
	struct v4l2_buffer buffer = {.type = type, .memory = V4L2_MEMORY_DMABUF};
	check_ok(ioctl(fd, VIDIOC_DQBUF, &buffer));
	check(!(buffer.flags & V4L2_BUF_FLAG_ERROR));
	check_int(buffer.index, <, COUNT);
	return buffer.index;
}

/* Tests */

struct video {
	int originals[COUNT];
	int read_only[COUNT];
	enum means means;
	/* Of what queues that write answer. */
	int error;
};

struct video_options {
	enum means means;
};

static const struct {
	const char *name;
	struct video_options options;
} video_params[] = {
	{"guard", {GUARD}},
	{"guard with fences of its own", {GUARD_OWN_FENCES}},
	{"derived", {DERIVE}},
};
#define TEST_EACH_MEANS(name) TEST_WITH_EACH(video, video_params, name)

static void video_set_up(struct video *f, const struct video_options *options) {
	harness_set_timeout(60);
	f->means = options->means;
	/* vb2 has another word for all that an exporter refuses. */
	f->error = options->means == DERIVE ? EACCES : EINVAL;
	for (int i = 0; i < COUNT; i++) {
		f->originals[i] = dmabuf_create_from_heap(O_RDWR, SIZE);
		f->read_only[i] = make_read_only(options->means, f->originals[i]);
	}
}

static void video_tear_down(struct video *f) {
	for (int i = 0; i < COUNT; i++) {
		close(f->originals[i]);
		close(f->read_only[i]);
	}
}

static void stream(int fd, uint32_t type, const int dmabufs[COUNT], int frames) {
	vivid_request_buffers(fd, type);
	for (uint32_t i = 0; i < COUNT; i++) {
		check_ok(vivid_queue(fd, type, i, dmabufs[i]));
	}
	check_ok(ioctl(fd, VIDIOC_STREAMON, &type));
	for (int i = 0; i < frames; i++) {
		uint32_t index = vivid_dequeue(fd, type);
		check_ok(vivid_queue(fd, type, index, dmabufs[index]));
	}
	check_ok(ioctl(fd, VIDIOC_STREAMOFF, &type));
}

TEST_EACH_MEANS(guarded_buffers_stream_on_an_output_queue) {
	int fd = vivid_open(OUTPUT, true);
	stream(fd, OUTPUT, f->originals, COUNT);
	stream(fd, OUTPUT, f->read_only, 3 * COUNT);
	close(fd);
}

/* The queue holds what it has, and nothing else does. */
TEST_EACH_MEANS(output_queue_holds_the_buffer) {
	int fd = vivid_open(OUTPUT, true);
	vivid_request_buffers(fd, OUTPUT);
	uint64_t inode = dmabuf_inode(f->originals[0]);
	check_ok(vivid_queue(fd, OUTPUT, 0, f->read_only[0]));
	close(f->originals[0]);
	close(f->read_only[0]);
	dmabuf_check_references(inode, 1);
	f->originals[0] = f->read_only[0] = -1;
	close(fd);
	dmabuf_check_gone(inode);
}

/* The same buffer, as what it is and as what may be read, by turns. */
TEST_EACH_MEANS(output_queue_takes_both_in_turn) {
	int fd = vivid_open(OUTPUT, true);
	uint32_t type = OUTPUT;
	vivid_request_buffers(fd, OUTPUT);
	for (uint32_t i = 0; i < COUNT; i++) {
		check_ok(vivid_queue(fd, OUTPUT, i, f->originals[i]));
	}
	check_ok(ioctl(fd, VIDIOC_STREAMON, &type));
	for (int i = 0; i < 4 * COUNT; i++) {
		uint32_t index = vivid_dequeue(fd, OUTPUT);
		bool is_read_only = i / COUNT % 2 == 0;
		check_ok(vivid_queue(fd, OUTPUT, index,
			is_read_only ? f->read_only[index] : f->originals[index]));
	}
	close(fd);
}

TEST_EACH_MEANS(guarded_buffers_are_refused_on_a_capture_queue) {
	int fd = vivid_open(CAPTURE, true);
	volatile uint8_t *owner = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		f->originals[0], 0);
	check(owner != MAP_FAILED);
	owner[0] = 1;
	owner[SIZE / 4] = 1;
	vivid_request_buffers(fd, CAPTURE);
	for (uint32_t i = 0; i < COUNT; i++) {
		check_errno(vivid_queue(fd, CAPTURE, i, f->read_only[i]), f->error);
	}
	check(owner[0] == 1 && owner[SIZE / 4] == 1);
	/* What may be written is: by a picture that has other bytes. */
	stream(fd, CAPTURE, f->originals, COUNT);
	check(owner[0] != 1 || owner[SIZE / 4] != 1);
	check_ok(munmap((void *)owner, SIZE));
	/* Not by way of one that was queued with all rights before. */
	vivid_request_buffers(fd, CAPTURE);
	check_ok(vivid_queue(fd, CAPTURE, 0, f->originals[0]));
	check_errno(vivid_queue(fd, CAPTURE, 1, f->read_only[0]), f->error);
	close(fd);
}

/* It maps all buffers in the kernel, where they can be written. */
TEST_EACH_MEANS(allocator_that_maps_for_the_cpu_is_refused) {
	int fd = vivid_open(OUTPUT, false);
	stream(fd, OUTPUT, f->originals, COUNT);
	vivid_request_buffers(fd, OUTPUT);
	int ret = vivid_queue(fd, OUTPUT, 0, f->read_only[0]);
	check(ret < 0 && (errno == f->error || errno == EFAULT));
	close(fd);
}

/* The looping of an output to an input, which is the CPU's work */

static void set_format(int fd, uint32_t type) {
	struct v4l2_format format = {.type = type};
	check_ok(ioctl(fd, VIDIOC_G_FMT, &format));
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
	check_ok(ioctl(fd, VIDIOC_S_FMT, &format));
	check_int(format.fmt.pix.pixelformat, ==, V4L2_PIX_FMT_YUYV);
}

/* The capture device's input that is like the output by default, connected to it. */
static void connect_input(int capture) {
	struct v4l2_input input = {0};
	while (strncmp((char *)input.name, "S-Video", 7) != 0) {
		check_ok(ioctl(capture, VIDIOC_ENUMINPUT, &input));
		if (strncmp((char *)input.name, "S-Video", 7) != 0) {
			input.index++;
		}
	}
	int index = (int)input.index;
	check_ok(ioctl(capture, VIDIOC_S_INPUT, &index));

	struct v4l2_queryctrl control = {.id = V4L2_CTRL_FLAG_NEXT_CTRL};
	while (strstr((char *)control.name, "S-Video") == NULL) {
		check_ok(ioctl(capture, VIDIOC_QUERYCTRL, &control));
		if (strstr((char *)control.name, "S-Video") == NULL) {
			control.id |= V4L2_CTRL_FLAG_NEXT_CTRL;
		}
	}
	struct v4l2_querymenu item = {.id = control.id};
	while (strstr((char *)item.name, "S-Video") == NULL) {
		item.index++;
		check_int(item.index, <, 64);
		if (ioctl(capture, VIDIOC_QUERYMENU, &item) < 0) {
			item.name[0] = '\0';
		}
	}
	struct v4l2_control value = {.id = control.id, .value = (int)item.index};
	check_ok(ioctl(capture, VIDIOC_S_CTRL, &value));
}

/* Whether one of the next pictures is the output's, which has the same byte all over. */
static bool captures(int output, int capture, const int outputs[COUNT], const int inputs[COUNT],
		uint8_t byte) {
	uint32_t types[] = {OUTPUT, CAPTURE};
	bool found = false;
	vivid_request_buffers(output, OUTPUT);
	vivid_request_buffers(capture, CAPTURE);
	uint32_t middle = vivid_get_picture_size(capture, CAPTURE) / 2;
	for (uint32_t i = 0; i < COUNT; i++) {
		uint8_t *picture =
			mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, inputs[i], 0);
		check(picture != MAP_FAILED);
		picture[middle] = (uint8_t)~byte;
		check_ok(munmap(picture, SIZE));
		check_ok(vivid_queue(output, OUTPUT, i, outputs[i]));
		check_ok(vivid_queue(capture, CAPTURE, i, inputs[i]));
	}
	check_ok(ioctl(output, VIDIOC_STREAMON, &types[0]));
	check_ok(ioctl(capture, VIDIOC_STREAMON, &types[1]));
	for (int i = 0; i < 3 * COUNT && !found; i++) {
		uint32_t index = vivid_dequeue(output, OUTPUT);
		check_ok(vivid_queue(output, OUTPUT, index, outputs[index]));
		index = vivid_dequeue(capture, CAPTURE);
		const uint8_t *picture = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, inputs[index], 0);
		check(picture != MAP_FAILED);
		found = picture[middle] == byte && picture[middle + 2] == byte;
		check_ok(munmap((void *)picture, SIZE));
		check_ok(vivid_queue(capture, CAPTURE, index, inputs[index]));
	}
	check_ok(ioctl(capture, VIDIOC_STREAMOFF, &types[1]));
	check_ok(ioctl(output, VIDIOC_STREAMOFF, &types[0]));
	return found;
}

/* vivid reads by an address that there is none of: stock kernels crash. */
TEST_EACH_MEANS(what_has_no_address_is_not_looped) {
	const char *guest = getenv("VITRINE_GUEST");
	if (guest == NULL || strcmp(guest, "uml") != 0) {
		harness_skip("vivid does not look for NULL, without the patches");
	}
	int output = vivid_open(OUTPUT, true), capture = vivid_open(CAPTURE, true);
	connect_input(capture);
	set_format(output, OUTPUT);
	set_format(capture, CAPTURE);
	int inputs[COUNT];
	for (int i = 0; i < COUNT; i++) {
		inputs[i] = dmabuf_create_from_heap(O_RDWR, SIZE);
		uint8_t *picture =
			mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->originals[i], 0);
		check(picture != MAP_FAILED);
		memset(picture, 0x5b, SIZE);
		check_ok(munmap(picture, SIZE));
	}
	check(captures(output, capture, f->originals, inputs, 0x5b));
	check(!captures(output, capture, f->read_only, inputs, 0x5b));
	close(output);
	close(capture);
	for (int i = 0; i < COUNT; i++) {
		close(inputs[i]);
	}
}
