/* SPDX-License-Identifier: MIT */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer_copy.h"
#include "copy_gl.h"
#include "thread.h"

/** Of the rows of what a GPU has read, as readers like them. */
#define STRIDE_ALIGN 256 // bytes

struct vt_buffer_copy {
	pthread_t thread;
	atomic_int n_refs; // the one that started it, and the thread
	atomic_bool done;
	struct wlr_dmabuf_attributes dmabuf; // with file descriptors of our own
	struct vt_buffer_copy_layout layout; // of the source, until a GPU has copied it
	int gpu_fd; // -1 if the CPU copies
	int done_fd; // eventfd

	// The thread's, until done_fd is readable
	int result;
	struct vitrine_derived_fd derived[WLR_DMABUF_MAX_PLANES];
	int n_derived; // to be closed
};

static void copy_close_derived(struct vt_buffer_copy *copy) {
	while (copy->n_derived > 0) {
		close(copy->derived[--copy->n_derived].fd);
	}
}

static void copy_unref(struct vt_buffer_copy *copy) {
	if (atomic_fetch_sub(&copy->n_refs, 1) > 1) {
		return;
	}
	copy_close_derived(copy);
	wlr_dmabuf_attributes_finish(&copy->dmabuf);
	if (copy->gpu_fd >= 0) {
		close(copy->gpu_fd);
	}
	close(copy->done_fd);
	free(copy);
}

static int copy_planes(struct vt_buffer_copy *copy) {
	for (int i = 0; i < copy->dmabuf.n_planes; i++) {
		const struct vitrine_derive_source source = {
			.memfd = -1,
			.dmabuf_fd = copy->dmabuf.fd[i],
			.dmabuf_is_mapped = true, // or this is not how it is to be copied
			.size = copy->layout.sizes[i],
		};
		int ret = vitrine_derive_snapshot(&source, &copy->derived[i]);
		if (ret < 0) {
			copy_close_derived(copy);
			return ret;
		}
		copy->n_derived++;
	}
	return 0;
}

/* By a GPU */

/** Whether the memory is the system's, which maps show as it is: its exporter says. */
static bool is_system_memory(int dmabuf_fd) {
	char path[64], line[128], exporter[64] = "";
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", dmabuf_fd);
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		return false;
	}
	while (fgets(line, sizeof(line), file) != NULL &&
			sscanf(line, "exp_name: %63s", exporter) != 1) {
		// another line
	}
	fclose(file);
	return strcmp(exporter, "udmabuf") == 0 || strcmp(exporter, "system") == 0;
}

/** Each plane can be of another exporter: the client says. */
static bool copy_is_of_system_memory(const struct vt_buffer_copy *copy) {
	bool is_system = true;
	for (int i = 0; i < copy->dmabuf.n_planes; i++) {
		is_system &= is_system_memory(copy->dmabuf.fd[i]);
	}
	return is_system;
}

/** Writes the pixels to a memfd, of which a sealed copy is derived. */
static int copy_pixels(struct vt_buffer_copy *copy, const struct vt_copy_gl_pixels *pixels) {
	size_t height = (size_t)copy->dmabuf.height;
	size_t row = (size_t)copy->dmabuf.width * pixels->bytes_per_pixel;
	size_t stride = (row + STRIDE_ALIGN - 1) / STRIDE_ALIGN * STRIDE_ALIGN;
	int memfd = vitrine_memfd_create(stride * height);
	if (memfd < 0) {
		return memfd;
	}
	char *data = mmap(NULL, stride * height, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	int ret = -errno;
	if (data != MAP_FAILED) {
		for (size_t y = 0; y < height; y++) {
			memcpy(data + y * stride, (const char *)pixels->data + y * pixels->stride, row);
		}
		munmap(data, stride * height);
		const struct vitrine_derive_source source = {
			.memfd = memfd,
			.dmabuf_fd = -1,
			.size = stride * height,
		};
		ret = vitrine_derive_snapshot(&source, &copy->derived[0]);
	}
	close(memfd);
	if (ret == 0) {
		copy->n_derived = 1;
		copy->layout = (struct vt_buffer_copy_layout){
			.modifier = DRM_FORMAT_MOD_LINEAR,
			.n_planes = 1,
			.sizes = { stride * height },
			.strides = { (uint32_t)stride },
		};
	}
	return ret;
}

static int copy_with_gl(struct vt_buffer_copy *copy, struct vt_copy_gl *gl) {
	if (gl == NULL || !vt_copy_gl_can_read(gl, copy->dmabuf.format)) {
		return -EOPNOTSUPP;
	}
	pixman_region32_t all;
	pixman_region32_init_rect(&all, 0, 0, (unsigned)copy->dmabuf.width,
		(unsigned)copy->dmabuf.height);
	struct vt_copy_gl_pixels pixels;
	int ret = vt_copy_gl_read(gl, &copy->dmabuf, copy->dmabuf.format, &all, &pixels) ?
		copy_pixels(copy, &pixels) : -EOPNOTSUPP;
	pixman_region32_fini(&all);
	if (vt_copy_gl_is_lost(gl)) {
		copy_close_derived(copy);
		ret = -ENOMEM; // another time it may be copied
	}
	return ret;
}

static int copy_by_gpu(struct vt_buffer_copy *copy) {
	struct vt_copy_gl *gl = vt_copy_gl_create(copy->gpu_fd);
	int ret = copy_with_gl(copy, gl);
	vt_copy_gl_destroy(gl);
	return ret;
}

static void *copy_run(void *data) {
	struct vt_buffer_copy *copy = data;
	copy->result = copy->gpu_fd < 0 || copy_is_of_system_memory(copy) ?
		copy_planes(copy) : copy_by_gpu(copy);
	atomic_store(&copy->done, true);
	eventfd_write(copy->done_fd, 1);
	copy_unref(copy);
	vt_thread_leave_driver();
	return NULL;
}

struct vt_buffer_copy *vt_buffer_copy_start(const struct wlr_dmabuf_attributes *dmabuf,
		const uint64_t sizes[static WLR_DMABUF_MAX_PLANES], int borrowed_gpu_fd) {
	struct vt_buffer_copy *copy = calloc(1, sizeof(*copy));
	if (copy == NULL) {
		return NULL;
	}
	copy->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (copy->done_fd < 0) {
		free(copy);
		return NULL;
	}
	copy->layout.modifier = dmabuf->modifier;
	copy->layout.n_planes = dmabuf->n_planes;
	memcpy(copy->layout.sizes, sizes, sizeof(copy->layout.sizes));
	memcpy(copy->layout.offsets, dmabuf->offset, sizeof(copy->layout.offsets));
	memcpy(copy->layout.strides, dmabuf->stride, sizeof(copy->layout.strides));
	copy->gpu_fd = borrowed_gpu_fd >= 0 ? fcntl(borrowed_gpu_fd, F_DUPFD_CLOEXEC, 0) : -1;
	atomic_init(&copy->done, false);
	atomic_init(&copy->n_refs, 2);
	vt_thread_enter_driver(); // before the display can end
	if ((borrowed_gpu_fd >= 0 && copy->gpu_fd < 0) ||
			!wlr_dmabuf_attributes_copy(&copy->dmabuf, dmabuf) ||
			!vt_thread_start(&copy->thread, copy_run, copy)) {
		vt_thread_leave_driver();
		atomic_init(&copy->n_refs, 1); // there is no thread
		copy_unref(copy);
		return NULL;
	}
	return copy;
}

void vt_buffer_copy_destroy(struct vt_buffer_copy *copy) {
	if (atomic_load(&copy->done)) {
		pthread_join(copy->thread, NULL); // it is at its end: what it holds is free after this
	} else {
		pthread_detach(copy->thread);
	}
	copy_unref(copy);
}

int vt_buffer_copy_get_fd(const struct vt_buffer_copy *copy) {
	return copy->done_fd;
}

int vt_buffer_copy_take(struct vt_buffer_copy *copy,
		struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES],
		struct vt_buffer_copy_layout *layout) {
	// Its file descriptor says that the thread is done, this also lets what it wrote be seen
	if (!atomic_load(&copy->done)) {
		return -EAGAIN;
	}
	if (copy->result == 0) {
		*layout = copy->layout;
		memcpy(derived, copy->derived, sizeof(copy->derived));
		copy->n_derived = 0;
	}
	return copy->result;
}
