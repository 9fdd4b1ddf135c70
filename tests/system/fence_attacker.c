/* SPDX-License-Identifier: MIT */
/*
 * fence_attacker GUARANTEE FRAMES
 *
 * A client that behaves for some frames, and then puts a fence of its own, which
 * is never signalled, on each dma-buf that it was given. Prints how many fences the
 * kernel took, and stays until it is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vitrine-client/client.h>

#include "dmabuf.h"
#include "wayland.h"

#define VIEWS_CAP 16

static int make_fence(void) {
	int timeline_fd = open(SW_SYNC_DEVICE, O_RDWR | O_CLOEXEC);
	struct sw_sync_create_fence_data data = { .value = 1, .name = "attack" };
	if (timeline_fd < 0 || ioctl(timeline_fd, SW_SYNC_IOC_CREATE_FENCE, &data) != 0) {
		die_with(2, "cannot make a fence: %s", strerror(errno));
	}
	return data.fence; // the timeline stays open, or the fence would be signalled
}

int main(int argc, char *argv[]) {
	if (argc != 3) {
		die_with(2, "usage: fence_attacker GUARANTEE FRAMES");
	}
	int fence_fd = make_fence();
	struct vitrine_client *client;
	char *error = NULL;
	if (vitrine_client_connect(NULL, &client, &error) < 0) {
		die_with(2, "%s", error);
	}
	const struct vitrine_session_options options = {
		.acceptable = vitrine_guarantee_from_name(argv[1]),
	};
	struct vitrine_session *session;
	if (vitrine_session_create(client, vitrine_client_find_output(client, NULL), &options,
			&session) < 0) {
		die_with(2, "%s", vitrine_client_get_error(client));
	}
	int fds[VIEWS_CAP];
	uint32_t n_views = 0;
	for (int i = 0; i < atoi(argv[2]); i++) {
		struct vitrine_frame *frame;
		if (vitrine_session_next_frame(session, 20000, &frame) != 1) {
			die("%s", vitrine_client_get_error(client));
		}
		const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
		if (info->view_index == n_views && n_views < VIEWS_CAP) {
			fds[n_views++] = fcntl(info->fds[0], F_DUPFD_CLOEXEC, 0);
		}
		vitrine_frame_release(frame);
	}
	vitrine_client_dispatch(client, 0); // sends the last release

	uint32_t n_taken = 0;
	for (uint32_t i = 0; i < n_views; i++) {
		struct dma_buf_import_sync_file request = { .flags = DMA_BUF_SYNC_RW, .fd = fence_fd };
		n_taken += ioctl(fds[i], DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request) == 0;
	}
	printf("%u fences taken, %u refused\n", n_taken, n_views - n_taken);
	fflush(stdout);
	for (;;) {
		pause();
	}
}
