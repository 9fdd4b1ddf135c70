/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wlr/types/wlr_output.h>

#include "fence_fake.h"
#include "harness.h"

static int fence_fd = -1; // of each frame from now on
static bool fences_fail;

bool __wrap_vt_render_fence(struct wlr_renderer *renderer,
	const struct wlr_output_state *state, struct wlr_buffer *buffer, int *take_fence_fd);
bool __wrap_vt_render_fence(struct wlr_renderer *renderer,
		const struct wlr_output_state *state, struct wlr_buffer *buffer,
		int *take_fence_fd) {
	*take_fence_fd = fence_fd >= 0 ? fcntl(fence_fd, F_DUPFD_CLOEXEC, 0) : -1;
	return !fences_fail;
}

void begin_fence(void) {
	fence_fd = eventfd(0, EFD_CLOEXEC);
	check(fence_fd >= 0);
}

void signal_fence(void) {
	check(eventfd_write(fence_fd, 1) == 0);
	close(fence_fd);
	fence_fd = -1;
}

void fail_fences(bool fail) {
	fences_fail = fail;
}
