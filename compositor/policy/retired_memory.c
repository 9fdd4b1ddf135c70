/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "buffer.h"
#include "quota.h"
#include "retired_memory.h"

/** First look at retired memory, and the longest time between two looks. */
#define WATCH_FIRST_MS 50
#define WATCH_LAST_MS 3200

struct retired_memory {
	struct wl_list link; // vt_retired_registry.memory
	int memfd; // open for writing, -1 if it is no memfd
	int dmabuf_fd; // -1 if it is no dma-buf
	dev_t dev; // of the one or the other, which tell this memory from any other
	ino_t ino;
	uint64_t size;
	struct wl_array debtors; // struct debtor, to whom it was announced
};

/** A process that may hold a piece of retired memory. */
struct debtor {
	struct vt_charge bytes, piece;
};

static void retired_memory_destroy(struct retired_memory *memory) {
	struct debtor *debtor;
	wl_array_for_each(debtor, &memory->debtors) {
		vt_charge_drop(&debtor->bytes);
		vt_charge_drop(&debtor->piece);
	}
	wl_array_release(&memory->debtors);
	if (memory->memfd >= 0) {
		close(memory->memfd);
	}
	if (memory->dmabuf_fd >= 0) {
		close(memory->dmabuf_fd);
	}
	wl_list_remove(&memory->link);
	free(memory);
}

/* Who holds it */

/**
 * Whether no other process has the memfd open or mapped: the kernel grants a write
 * lease to the only holder. Pages that a device has pinned escape this, which is
 * why the answer serves accounting, and never reuse.
 */
static bool memfd_is_ours_alone(int fd) {
	// A process that opens the file through /proc right now breaks the lease: the
	// signal for that must be one that is ignored, which SIGIO is not
	if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
		return false;
	}
	// We may derive from the memory again, and would wait for ourselves
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return true;
}

/**
 * The same of a dma-buf, which says itself how often its file is held: by file
 * descriptors, mappings, importers, and everything that was derived from it.
 */
static bool dmabuf_is_ours_alone(int fd) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		return false;
	}
	long count = LONG_MAX;
	char line[128];
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "count: %ld", &count) == 1) {
			break;
		}
	}
	fclose(file);
	return count <= 1;
}

static bool retired_memory_is_ours_alone(const struct retired_memory *memory) {
	return (memory->dmabuf_fd < 0 || dmabuf_is_ours_alone(memory->dmabuf_fd)) &&
		(memory->memfd < 0 || memfd_is_ours_alone(memory->memfd));
}

/** Frees the retired memory that no other process holds any more. */
static void registry_release(struct vt_retired_registry *registry) {
	struct retired_memory *memory, *tmp;
	wl_list_for_each_safe(memory, tmp, &registry->memory, link) {
		if (retired_memory_is_ours_alone(memory)) {
			retired_memory_destroy(memory);
		}
	}
}

static int registry_handle_watch_timer(void *data) {
	struct vt_retired_registry *registry = data;
	registry_release(registry);
	if (!wl_list_empty(&registry->memory)) {
		wl_event_source_timer_update(registry->watch_timer, (int)registry->watch_interval_ms);
		if (registry->watch_interval_ms < WATCH_LAST_MS) {
			registry->watch_interval_ms *= 2;
		}
	}
	return 0;
}

static void registry_watch_soon(struct vt_retired_registry *registry) {
	registry->watch_interval_ms = WATCH_FIRST_MS;
	wl_event_source_timer_update(registry->watch_timer, WATCH_FIRST_MS);
}

/* Charging */

static bool quota_has_room(const struct vt_quota *quota, uint64_t size) {
	return vt_quota_has_room(quota, VT_QUOTA_SHARED_BYTES, size) &&
		vt_quota_has_room(quota, VT_QUOTA_SHARED_PIECES, 0);
}

bool vt_retired_registry_has_room(struct vt_retired_registry *registry,
		const struct vt_quota *quota, uint64_t size) {
	if (!quota_has_room(quota, size)) {
		registry_release(registry); // it may have been closed since the last look
	}
	return quota_has_room(quota, size);
}

/** Once for each quota, however often it was shown. False on allocation failure. */
static bool retired_memory_charge(struct retired_memory *memory, struct vt_quota *quota) {
	struct debtor *debtor;
	wl_array_for_each(debtor, &memory->debtors) {
		if (debtor->bytes.quota == quota) {
			return true;
		}
	}
	debtor = wl_array_add(&memory->debtors, sizeof(*debtor));
	if (debtor == NULL) {
		return false;
	}
	*debtor = (struct debtor){ 0 };
	vt_charge_add(&debtor->bytes, quota, VT_QUOTA_SHARED_BYTES, memory->size);
	vt_charge_add(&debtor->piece, quota, VT_QUOTA_SHARED_PIECES, 1);
	return true;
}

/* Watching */

static bool identify(struct retired_memory *memory, int borrowed_fd) {
	struct stat st;
	if (fstat(borrowed_fd, &st) != 0) {
		return false;
	}
	memory->dev = st.st_dev;
	memory->ino = st.st_ino;
	return true;
}

/** The file that tells a buffer's memory from any other. */
static int buffer_get_key_fd(const struct vt_buffer *buffer) {
	return buffer->lease_fd >= 0 ? buffer->lease_fd : buffer->dmabuf.fd[0];
}

static bool retired_memory_open(struct retired_memory *memory, const struct vt_buffer *buffer) {
	if (buffer->lease_fd >= 0) {
		memory->memfd = fcntl(buffer->lease_fd, F_DUPFD_CLOEXEC, 0);
		if (memory->memfd < 0) {
			return false;
		}
	}
	if (buffer->dmabuf.n_planes > 0) {
		memory->dmabuf_fd = fcntl(buffer->dmabuf.fd[0], F_DUPFD_CLOEXEC, 0);
		if (memory->dmabuf_fd < 0) {
			return false;
		}
	}
	return identify(memory, buffer_get_key_fd(buffer));
}

/** What is retired already, shown once more because it has not changed, and retired again. */
static struct retired_memory *registry_find(const struct vt_retired_registry *registry,
		const struct vt_buffer *buffer) {
	struct retired_memory key = { 0 }, *memory;
	if (!identify(&key, buffer_get_key_fd(buffer))) {
		return NULL;
	}
	wl_list_for_each(memory, &registry->memory, link) {
		if (memory->dev == key.dev && memory->ino == key.ino) {
			return memory;
		}
	}
	return NULL;
}

static struct retired_memory *retired_memory_create(struct vt_retired_registry *registry,
		uint64_t size) {
	struct retired_memory *memory = calloc(1, sizeof(*memory));
	if (memory == NULL) {
		return NULL;
	}
	memory->memfd = memory->dmabuf_fd = -1;
	memory->size = size;
	wl_array_init(&memory->debtors);
	wl_list_insert(&registry->memory, &memory->link);
	return memory;
}

static struct retired_memory *registry_add(struct vt_retired_registry *registry,
		const struct vt_buffer *buffer) {
	registry_watch_soon(registry);
	struct retired_memory *memory = registry_find(registry, buffer);
	if (memory != NULL) {
		return memory;
	}
	memory = retired_memory_create(registry, buffer->memory_size);
	if (memory == NULL || !retired_memory_open(memory, buffer)) {
		wlr_log_errno(WLR_ERROR, "Failed to watch retired memory");
		if (memory != NULL) {
			retired_memory_destroy(memory);
		}
		return NULL;
	}
	return memory;
}

void vt_retired_registry_watch(struct vt_retired_registry *registry,
		const struct vt_buffer *buffer, struct vt_quota *const *quotas, size_t quotas_len) {
	struct retired_memory *memory = quotas_len > 0 ? registry_add(registry, buffer) : NULL;
	if (memory == NULL) {
		return; // not fatal: the memory is then not accounted for
	}
	for (size_t i = 0; i < quotas_len; i++) {
		retired_memory_charge(memory, quotas[i]);
	}
	// May free the memory, whose size is not charged any more then
	for (size_t i = 0; i < quotas_len; i++) {
		if (!vt_retired_registry_has_room(registry, quotas[i], 0)) {
			vt_quota_emit_exceeded(quotas[i]);
		}
	}
}

bool vt_retired_registry_watch_copy(struct vt_retired_registry *registry, struct vt_quota *quota,
		int borrowed_memfd, uint64_t size) {
	struct retired_memory *memory = retired_memory_create(registry, size);
	if (memory == NULL) {
		return false;
	}
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", borrowed_memfd);
	memory->memfd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (memory->memfd < 0 || !identify(memory, memory->memfd) ||
			!retired_memory_charge(memory, quota)) {
		retired_memory_destroy(memory);
		return false;
	}
	registry_watch_soon(registry);
	return true;
}

bool vt_retired_registry_init(struct vt_retired_registry *registry, struct wl_event_loop *loop) {
	*registry = (struct vt_retired_registry){ 0 };
	wl_list_init(&registry->memory);
	registry->watch_timer =
		wl_event_loop_add_timer(loop, registry_handle_watch_timer, registry);
	return registry->watch_timer != NULL;
}

void vt_retired_registry_finish(struct vt_retired_registry *registry) {
	struct retired_memory *memory, *tmp;
	wl_list_for_each_safe(memory, tmp, &registry->memory, link) {
		retired_memory_destroy(memory);
	}
	if (registry->watch_timer != NULL) {
		wl_event_source_remove(registry->watch_timer);
		registry->watch_timer = NULL;
	}
}
