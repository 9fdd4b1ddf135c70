/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "buffer_copy.h"
#include "thread.h"

struct vt_buffer_copy {
	pthread_t thread;
	atomic_int n_refs; // the one that started it, and the thread
	atomic_bool done;
	struct wlr_dmabuf_attributes dmabuf; // with file descriptors of our own
	uint64_t sizes[WLR_DMABUF_MAX_PLANES];
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
	close(copy->done_fd);
	free(copy);
}

static int copy_planes(struct vt_buffer_copy *copy) {
	for (int i = 0; i < copy->dmabuf.n_planes; i++) {
		const struct vitrine_derive_source source = {
			.memfd = -1,
			.dmabuf_fd = copy->dmabuf.fd[i],
			.dmabuf_is_mapped = true, // or this is not how it is to be copied
			.size = copy->sizes[i],
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

static void *copy_run(void *data) {
	struct vt_buffer_copy *copy = data;
	copy->result = copy_planes(copy);
	atomic_store(&copy->done, true);
	eventfd_write(copy->done_fd, 1);
	copy_unref(copy);
	return NULL;
}

struct vt_buffer_copy *vt_buffer_copy_start(const struct wlr_dmabuf_attributes *dmabuf,
		const uint64_t sizes[static WLR_DMABUF_MAX_PLANES]) {
	struct vt_buffer_copy *copy = calloc(1, sizeof(*copy));
	if (copy == NULL) {
		return NULL;
	}
	copy->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (copy->done_fd < 0) {
		free(copy);
		return NULL;
	}
	memcpy(copy->sizes, sizes, sizeof(copy->sizes));
	atomic_init(&copy->done, false);
	atomic_init(&copy->n_refs, 2);
	if (!wlr_dmabuf_attributes_copy(&copy->dmabuf, dmabuf) ||
			!vt_thread_start(&copy->thread, copy_run, copy)) {
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
		struct vitrine_derived_fd derived[static WLR_DMABUF_MAX_PLANES]) {
	if (copy->result == 0) {
		memcpy(derived, copy->derived, sizeof(copy->derived));
		copy->n_derived = 0;
	}
	return copy->result;
}
