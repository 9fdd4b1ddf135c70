/* SPDX-License-Identifier: MIT */
/*
 * fence_attacker GUARANTEE FRAMES [dmabuf]
 *
 * A client that behaves for some frames, and then puts a fence of its own, which
 * is never signalled, on each dma-buf that it was given. Prints how many fences the
 * kernel took, and stays until it is killed. As a reader of dma-bufs for devices it goes on
 * with each view that is new, and keeps all of them fenced.
 */
#include <drm/vgem_drm.h>
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <vitrine-client/client.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "dmabuf.h"
#include "wayland.h"

#define VIEWS_CAP 64
#define NODES_CAP 8
/** vgem signals a fence itself after ten seconds. */
#define RENEW_S 2
/** Some of the attacks come while the compositor draws. */
#define PERIOD_MS 2

static struct {
	struct vitrine_client *client;
	int timeline_fd; // of sw_sync, or -1
	int vgem_fd;
	uint32_t time; // of the last fence
	int fence_fd; // -1 before the first one
	time_t made;
	int fds[VIEWS_CAP]; // the dma-bufs
	uint32_t n_views, next_index;
} attack;

static int open_vgem(void) {
	for (int i = 0; i < NODES_CAP; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/dri/card%d", i); // which have dumb buffers
		int fd = open(path, O_RDWR | O_CLOEXEC);
		drmVersion *version = fd >= 0 ? drmGetVersion(fd) : NULL;
		bool found = version != NULL && strcmp(version->name, "vgem") == 0;
		drmFreeVersion(version);
		if (found) {
			return fd;
		}
		close(fd);
	}
	die_with(2, "no device makes fences");
}

/** Of the timeline, which stays open: else the fence would be signalled. */
static int make_timeline_fence(void) {
	struct sw_sync_create_fence_data data = { .value = ++attack.time, .name = "attack" };
	if (ioctl(attack.timeline_fd, SW_SYNC_IOC_CREATE_FENCE, &data) != 0) {
		die_with(2, "cannot make a fence: %s", strerror(errno));
	}
	return data.fence;
}

static int make_vgem_fence(void) {
	struct drm_vgem_fence_attach attach = { .flags = VGEM_FENCE_WRITE };
	uint32_t pitch;
	uint64_t size;
	int dmabuf_fd;
	struct dma_buf_export_sync_file request = { .flags = DMA_BUF_SYNC_READ };
	if (drmModeCreateDumbBuffer(attack.vgem_fd, 16, 16, 32, 0, &attach.handle, &pitch, &size) != 0 ||
			ioctl(attack.vgem_fd, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) != 0 ||
			drmPrimeHandleToFD(attack.vgem_fd, attach.handle, DRM_CLOEXEC, &dmabuf_fd) != 0 ||
			ioctl(dmabuf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) != 0) {
		die_with(2, "cannot make a fence: %s", strerror(errno));
	}
	close(dmabuf_fd);
	drmCloseBufferHandle(attack.vgem_fd, attach.handle);
	return request.fd;
}

static void make_fence(void) {
	if (attack.fence_fd >= 0) {
		close(attack.fence_fd);
	}
	attack.fence_fd = attack.timeline_fd >= 0 ? make_timeline_fence() : make_vgem_fence();
	attack.made = time(NULL);
}

/** Puts the fence on the views from this one on. Returns how many the kernel took. */
static uint32_t fence_views(uint32_t first) {
	uint32_t n_taken = 0;
	for (uint32_t i = first; i < attack.n_views; i++) {
		struct dma_buf_import_sync_file request = {
			.flags = DMA_BUF_SYNC_RW, .fd = attack.fence_fd,
		};
		n_taken += ioctl(attack.fds[i], DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request) == 0;
	}
	return n_taken;
}

/** Returns whether the frame is in a view that is new. */
static bool add_view(const struct vitrine_frame_info *info) {
	if (info->view_index < attack.next_index || attack.n_views == VIEWS_CAP) {
		return false; // seen before; of some no frame may have come
	}
	attack.next_index = info->view_index + 1;
	int fd = fcntl(info->fds[0], F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		die("dup: %s", strerror(errno));
	}
	attack.fds[attack.n_views++] = fd;
	return true;
}

static void report(uint32_t n_taken, uint32_t n_views) {
	printf("%u fences taken, %u refused\n", n_taken, n_views - n_taken);
	fflush(stdout);
}

/** Attacks what comes, also while it is held, until the session ends; what it has even then. */
static _Noreturn void go_on(struct vitrine_session *session) {
	bool has_ended = false;
	for (;;) {
		struct vitrine_frame *frame = NULL;
		int ret = has_ended ? (usleep(PERIOD_MS * 1000), 0) :
			vitrine_session_next_frame(session, PERIOD_MS, &frame);
		if (ret < 0) {
			has_ended = true;
			printf("the session has ended: %s\n", strerror(-ret));
			fflush(stdout);
		} else if (ret > 0 && add_view(vitrine_frame_get_info(frame))) {
			report(fence_views(attack.n_views - 1), 1);
		}
		vitrine_frame_release(frame);
		if (time(NULL) - attack.made >= RENEW_S) {
			make_fence();
		}
		fence_views(0);
	}
}

/** What readers of this machine's devices import, so far as it is linear. */
static size_t list_formats(struct vitrine_format formats[static NODES_CAP]) {
	size_t n = 0;
	for (int i = 0; i < NODES_CAP; i++) {
		char path[32];
		struct stat st;
		snprintf(path, sizeof(path), "/dev/dri/renderD%d", 128 + i);
		if (stat(path, &st) == 0) {
			formats[n++] = (struct vitrine_format){ .device = st.st_rdev,
				.fourcc = DRM_FORMAT_XRGB8888, .modifier = DRM_FORMAT_MOD_LINEAR };
		}
	}
	return n;
}

static struct vitrine_session *start(const char *guarantee, bool for_device) {
	char *error = NULL;
	if (vitrine_client_connect(NULL, &attack.client, &error) < 0) {
		die_with(2, "%s", error);
	}
	struct vitrine_format formats[NODES_CAP];
	struct vitrine_session_options options = {
		.acceptable = vitrine_guarantee_from_name(guarantee),
	};
	if (for_device) {
		options.storages = VITRINE_STORAGE_DMABUF;
		options.formats = formats;
		options.n_formats = list_formats(formats);
	}
	struct vitrine_session *session;
	struct vitrine_output *output = vitrine_client_find_output(attack.client, NULL);
	if (vitrine_session_create(vitrine_output_get_source(output), &options, &session) < 0) {
		die_with(2, "%s", vitrine_client_get_error(attack.client));
	}
	return session;
}

int main(int argc, char *argv[]) {
	bool for_device = argc == 4 && strcmp(argv[3], "dmabuf") == 0;
	if (argc != 3 && !for_device) {
		die_with(2, "usage: fence_attacker GUARANTEE FRAMES [dmabuf]");
	}
	attack.timeline_fd = open(SW_SYNC_DEVICE, O_RDWR | O_CLOEXEC);
	attack.vgem_fd = attack.timeline_fd >= 0 ? -1 : open_vgem();
	struct vitrine_session *session = start(argv[1], for_device);
	for (int i = 0; i < atoi(argv[2]); i++) {
		struct vitrine_frame *frame;
		int ret = vitrine_session_next_frame(session, 20000, &frame);
		if (ret != 1) {
			die("no frame: %s", ret == 0 ? "timeout" : vitrine_client_get_error(attack.client));
		}
		add_view(vitrine_frame_get_info(frame));
		vitrine_frame_release(frame);
	}
	vitrine_client_dispatch(attack.client, 0); // sends the last release
	attack.fence_fd = -1;
	make_fence();
	report(fence_views(0), attack.n_views);
	if (for_device) {
		go_on(session);
	}
	for (;;) {
		pause();
	}
}
