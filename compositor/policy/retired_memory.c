/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vitrine/view_v1.h>
#include <wlr/util/log.h>

#include "buffer.h"
#include "quota.h"
#include "retired_memory.h"
#include "watcher.h"

/** File descriptors of ours that watch a piece: of the memfd, and of its dma-buf. */
#define FDS_PER_PIECE 2

struct vt_announced_memory {
	struct wl_list link; // vt_retired_registry.memory, once it is watched
	struct vt_retired_registry *registry;
	struct vt_watched *watched; // the watcher's, once it is watched
	struct vt_reserve reserve;
};

/* What it costs */

bool vt_reserve_try(struct vt_reserve *reserve, const struct vt_reserve_for *whom, uint64_t size,
		uint64_t n_pieces) {
	enum vt_quota_kind kind = whom->is_private ? VT_QUOTA_PRIVATE_BYTES : VT_QUOTA_SHARED_BYTES;
	if (vt_charge_try(&reserve->bytes, whom->quota, kind, size * n_pieces) &&
			vt_charge_try(&reserve->fds, whom->quota, VT_QUOTA_FDS, FDS_PER_PIECE * n_pieces) &&
			(whom->is_private || vt_charge_try(&reserve->pieces, whom->quota,
			VT_QUOTA_SHARED_PIECES, n_pieces))) {
		return true;
	}
	vt_reserve_drop(reserve);
	return false;
}

bool vt_reserve_has(const struct vt_reserve *reserve, uint64_t size, uint64_t n_pieces) {
	return reserve->bytes.amount >= size * n_pieces &&
		reserve->fds.amount >= FDS_PER_PIECE * n_pieces;
}

void vt_reserve_split(struct vt_reserve *reserve, struct vt_reserve *part, uint64_t size,
		uint64_t n_pieces) {
	assert(vt_reserve_has(reserve, size, n_pieces));
	vt_charge_split(&reserve->bytes, &part->bytes, size * n_pieces);
	vt_charge_split(&reserve->fds, &part->fds, FDS_PER_PIECE * n_pieces);
	if (reserve->pieces.quota != NULL) {
		vt_charge_split(&reserve->pieces, &part->pieces, n_pieces);
	}
}

void vt_reserve_move(struct vt_reserve *from, struct vt_reserve *to) {
	vt_reserve_drop(to);
	*to = *from;
	*from = (struct vt_reserve){0};
}

void vt_reserve_drop(struct vt_reserve *reserve) {
	vt_charge_drop(&reserve->bytes);
	vt_charge_drop(&reserve->pieces);
	vt_charge_drop(&reserve->fds);
}

/** From reserved to kept. What is private is charged to its holder already. */
static void reserve_charge(struct vt_reserve *reserve, struct vt_quota *cause) {
	if (cause != NULL && reserve->pieces.quota != NULL) {
		vt_charge_move(&reserve->bytes, cause);
		vt_charge_move(&reserve->pieces, cause);
		vt_charge_move(&reserve->fds, cause);
	}
}

/* Memory */

static struct vt_announced_memory *memory_create(struct vt_retired_registry *registry,
		int borrowed_memfd, int borrowed_dmabuf_fd) {
	struct vt_announced_memory *memory = calloc(1, sizeof(*memory));
	if (memory == NULL) {
		return NULL;
	}
	memory->registry = registry;
	memory->watched = vt_watched_create(registry->watcher, borrowed_memfd, borrowed_dmabuf_fd);
	if (memory->watched == NULL) {
		free(memory);
		return NULL;
	}
	return memory;
}

static void memory_destroy(struct vt_announced_memory *memory) {
	vt_reserve_drop(&memory->reserve);
	wl_list_remove(&memory->link);
	free(memory);
}

static void registry_arm(struct vt_retired_registry *registry) {
	uint32_t interval_ms = registry->limits->unknown_interval_ms;
	wl_event_source_timer_update(registry->unknown_timer, interval_ms > 0 ? (int)interval_ms : 1);
}

static int registry_handle_timer(void *data) {
	struct vt_retired_registry *registry = data;
	struct vt_announced_memory *oldest = wl_container_of(registry->unknown.next, oldest, link);
	memory_destroy(oldest);
	if (!wl_list_empty(&registry->unknown)) {
		registry_arm(registry);
	}
	return 0;
}

/** It is retired, and the watcher has let go of it; what it does not know to be free counts on. */
static void memory_handle_end(void *data, bool is_free) {
	struct vt_announced_memory *memory = data;
	struct vt_retired_registry *registry = memory->registry;
	vt_charge_drop(&memory->reserve.fds);
	if (is_free) {
		memory_destroy(memory);
		return;
	}
	if (wl_list_empty(&registry->unknown)) {
		registry_arm(registry);
	}
	wl_list_remove(&memory->link);
	wl_list_insert(registry->unknown.prev, &memory->link);
	if (!registry->told_unknown) {
		registry->told_unknown = true;
		wlr_log(WLR_INFO, "The kernel cannot tell whether clients keep memory: "
			"what they had counts for some minutes after they have ended");
	}
}

static void memory_watch(struct vt_announced_memory *memory) {
	wl_list_insert(&memory->registry->memory, &memory->link);
	vt_watched_start(memory->watched, memory_handle_end, memory);
}

struct vt_announced_memory *vt_announced_memory_create(struct vt_retired_registry *registry,
		const struct vt_buffer *buffer, struct vt_reserve *reserve) {
	struct vt_announced_memory *memory = memory_create(registry, buffer->lease_fd,
		buffer->dmabuf.n_planes > 0 ? buffer->dmabuf.fd[0] : -1);
	if (memory != NULL) {
		vt_reserve_split(reserve, &memory->reserve, buffer->memory_size, 1);
	}
	return memory;
}

void vt_announced_memory_retire(struct vt_announced_memory *memory, struct vt_quota *cause) {
	reserve_charge(&memory->reserve, cause);
}

void vt_announced_memory_let_go(struct vt_announced_memory *memory) {
	memory_watch(memory);
}

bool vt_retired_registry_watch_copy(struct vt_retired_registry *registry, struct vt_quota *quota,
		int borrowed_memfd, uint64_t size) {
	const struct vt_reserve_for whom = { .quota = quota, .is_private = true };
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", borrowed_memfd);
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); // for a lease that is one for writing
	if (fd < 0) {
		return false;
	}
	struct vt_announced_memory *memory = memory_create(registry, fd, -1);
	close(fd); // the duplicate is of the same file
	if (memory == NULL) {
		return false;
	}
	if (!vt_reserve_try(&memory->reserve, &whom, size, 1)) {
		vt_watched_destroy(memory->watched);
		free(memory);
		return false;
	}
	memory_watch(memory);
	return true;
}

bool vt_retired_registry_init(struct vt_retired_registry *registry, struct wl_event_loop *loop,
		const struct vitrine_view_limits *borrowed_limits) {
	*registry = (struct vt_retired_registry){ .limits = borrowed_limits };
	wl_list_init(&registry->memory);
	wl_list_init(&registry->unknown);
	registry->unknown_timer = wl_event_loop_add_timer(loop, registry_handle_timer, registry);
	if (registry->unknown_timer == NULL) {
		return false;
	}
	registry->watcher = vt_watcher_create(loop);
	if (registry->watcher == NULL) {
		wl_event_source_remove(registry->unknown_timer);
		return false;
	}
	return true;
}

static void list_destroy(struct wl_list *list) {
	struct vt_announced_memory *memory, *tmp;
	wl_list_for_each_safe(memory, tmp, list, link) {
		memory_destroy(memory);
	}
}

void vt_retired_registry_finish(struct vt_retired_registry *registry) {
	vt_watcher_destroy(registry->watcher);
	registry->watcher = NULL;
	wl_event_source_remove(registry->unknown_timer);
	list_destroy(&registry->memory);
	list_destroy(&registry->unknown);
}
