/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wlr/util/log.h>

#include "buffer.h"
#include "manager.h"
#include "quota.h"
#include "session.h"
#include "viewed_output.h"

/** First look at retired memory, and the longest time between two looks. */
#define WATCH_FIRST_MS 50
#define WATCH_LAST_MS 3200
/** Then it is time to look again; a timer takes no more than an int. */
#define DELAY_CAP_MS 3600000
/** Retired buffers that a client may keep: each is a file descriptor or two of ours. */
#define RETIRED_CAP 256

struct vt_retired_memory {
	struct wl_list link; // vt_manager.retired_memory
	int memfd; // open for writing, -1 if it is no memfd
	int dmabuf_fd; // -1 if it is no dma-buf
	dev_t dev; // of the one or the other, which tell this memory from any other
	ino_t ino;
	uint64_t size;
	struct wl_array quotas; // struct vt_quota *, to whom it was announced
};

static uint64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void quota_destroy(struct vt_quota *quota) {
	wl_list_remove(&quota->link);
	free(quota);
}

static void quota_refill(struct vt_quota *quota) {
	const struct vitrine_view_limits *limits = &quota->manager->base.limits;
	uint64_t now = now_ms();
	int64_t missing = (int64_t)limits->retire_burst - quota->tokens;
	if (limits->retire_interval_ms == 0 || missing <= 0) {
		quota->tokens = limits->retire_burst;
		quota->refilled_ms = now;
		return;
	}
	uint64_t earned = (now - quota->refilled_ms) / limits->retire_interval_ms;
	if (earned > (uint64_t)missing) {
		quota->tokens = limits->retire_burst;
		quota->refilled_ms = now;
	} else {
		quota->tokens += (int64_t)earned;
		quota->refilled_ms += earned * limits->retire_interval_ms;
	}
}

/** Forgets the processes that are gone and owe nothing. */
static void forget_idle_quotas(struct vt_manager *manager) {
	struct vt_quota *quota, *tmp;
	wl_list_for_each_safe(quota, tmp, &manager->quotas, link) {
		if (quota->n_refs > 0) {
			continue;
		}
		quota_refill(quota);
		if (quota->tokens >= (int64_t)manager->base.limits.retire_burst) {
			quota_destroy(quota);
		}
	}
}

struct vt_quota *vt_quota_get(struct vt_manager *manager, struct wl_client *client) {
	forget_idle_quotas(manager);

	pid_t pid;
	wl_client_get_credentials(client, &pid, NULL, NULL);
	struct vt_quota *quota;
	wl_list_for_each(quota, &manager->quotas, link) {
		if (quota->pid == pid) {
			return vt_quota_ref(quota);
		}
	}

	quota = calloc(1, sizeof(*quota));
	if (quota == NULL) {
		return NULL;
	}
	quota->manager = manager;
	quota->pid = pid;
	quota->tokens = manager->base.limits.retire_burst;
	quota->refilled_ms = now_ms();
	wl_list_insert(&manager->quotas, &quota->link);
	return vt_quota_ref(quota);
}

struct vt_quota *vt_quota_ref(struct vt_quota *quota) {
	quota->n_refs++;
	return quota;
}

void vt_quota_unref(struct vt_quota *quota) {
	if (quota == NULL) {
		return;
	}
	// Kept in the list until its tokens have come back, see forget_idle_quotas()
	assert(quota->n_refs > 0);
	quota->n_refs--;
}

bool vt_quota_add_object(struct vt_quota *quota) {
	if (quota->n_objects >= quota->manager->base.limits.sessions_per_client) {
		return false;
	}
	quota->n_objects++;
	return true;
}

void vt_quota_remove_object(struct vt_quota *quota) {
	assert(quota->n_objects > 0);
	quota->n_objects--;
}

uint32_t vt_quota_get_delay(struct vt_quota *quota) {
	quota_refill(quota);
	if (quota->tokens > 0) {
		return 0;
	}
	uint64_t interval = quota->manager->base.limits.retire_interval_ms;
	uint64_t next = quota->refilled_ms + interval * (uint64_t)(1 - quota->tokens);
	uint64_t now = now_ms();
	if (next <= now) {
		return 1;
	}
	return next - now < DELAY_CAP_MS ? (uint32_t)(next - now) : DELAY_CAP_MS;
}

void vt_quota_take_token(struct vt_quota *quota) {
	quota_refill(quota);
	quota->tokens--;
}

static void retired_memory_free(struct vt_retired_memory *memory) {
	if (memory->memfd >= 0) {
		close(memory->memfd);
	}
	if (memory->dmabuf_fd >= 0) {
		close(memory->dmabuf_fd);
	}
	wl_array_release(&memory->quotas);
	free(memory);
}

static void retired_memory_destroy(struct vt_retired_memory *memory) {
	struct vt_quota **quota;
	wl_array_for_each(quota, &memory->quotas) {
		(*quota)->retired_bytes -= memory->size;
		(*quota)->n_retired--;
		vt_quota_unref(*quota);
	}
	wl_list_remove(&memory->link);
	retired_memory_free(memory);
}

/**
 * Whether nobody else has the memfd open or mapped: the kernel grants a write
 * lease to the only holder. Pages that a device has pinned escape this, which is
 * why the answer serves accounting, and never reuse.
 */
static bool memfd_is_ours_alone(int fd) {
	// Somebody who opens the file through /proc right now breaks the lease: the
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

static bool retired_memory_is_ours_alone(const struct vt_retired_memory *memory) {
	return (memory->dmabuf_fd < 0 || dmabuf_is_ours_alone(memory->dmabuf_fd)) &&
		(memory->memfd < 0 || memfd_is_ours_alone(memory->memfd));
}

/** Frees the retired memory that nobody holds any more. */
static void release_retired_memory(struct vt_manager *manager) {
	struct vt_retired_memory *memory, *tmp;
	wl_list_for_each_safe(memory, tmp, &manager->retired_memory, link) {
		if (retired_memory_is_ours_alone(memory)) {
			retired_memory_destroy(memory);
		}
	}
}

static bool quota_has_room(const struct vt_quota *quota, uint64_t size) {
	uint64_t limit = quota->manager->base.limits.retired_bytes_per_client;
	return size <= limit && quota->retired_bytes <= limit - size &&
		quota->n_retired <= RETIRED_CAP;
}

bool vt_quota_allows_copy(const struct vt_quota *quota, uint64_t size) {
	if (!quota_has_room(quota, size)) {
		// It may have been closed since the last look
		release_retired_memory(quota->manager);
	}
	return quota_has_room(quota, size);
}

bool vt_quota_allows_memory(const struct vt_quota *quota) {
	return vt_quota_allows_copy(quota, 0);
}

static int manager_handle_watch_timer(void *data) {
	struct vt_manager *manager = data;
	release_retired_memory(manager);
	if (!wl_list_empty(&manager->retired_memory)) {
		wl_event_source_timer_update(manager->watch_timer, (int)manager->watch_interval_ms);
		if (manager->watch_interval_ms < WATCH_LAST_MS) {
			manager->watch_interval_ms *= 2;
		}
	}
	return 0;
}

static bool retired_memory_identify(struct vt_retired_memory *memory, int borrowed_fd) {
	struct stat st;
	if (fstat(borrowed_fd, &st) != 0) {
		return false;
	}
	memory->dev = st.st_dev;
	memory->ino = st.st_ino;
	return true;
}

static bool retired_memory_open(struct vt_retired_memory *memory,
		const struct vt_buffer *buffer) {
	int lease_fd = buffer->lease_fd;
	if (lease_fd >= 0) {
		memory->memfd = fcntl(lease_fd, F_DUPFD_CLOEXEC, 0);
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
	return retired_memory_identify(memory, lease_fd >= 0 ? lease_fd : memory->dmabuf_fd);
}

/** What is retired already, shown once more because it has not changed, and retired again. */
static struct vt_retired_memory *find_retired_memory(const struct vt_manager *manager,
		const struct vt_buffer *buffer) {
	struct vt_retired_memory key = { 0 }, *memory;
	int lease_fd = buffer->lease_fd;
	if (!retired_memory_identify(&key, lease_fd >= 0 ? lease_fd : buffer->dmabuf.fd[0])) {
		return NULL;
	}
	wl_list_for_each(memory, &manager->retired_memory, link) {
		if (memory->dev == key.dev && memory->ino == key.ino) {
			return memory;
		}
	}
	return NULL;
}

static struct vt_retired_memory *retired_memory_create(uint64_t size) {
	struct vt_retired_memory *memory = calloc(1, sizeof(*memory));
	if (memory == NULL) {
		return NULL;
	}
	memory->memfd = memory->dmabuf_fd = -1;
	memory->size = size;
	wl_array_init(&memory->quotas);
	return memory;
}

/** A client that keeps too much alive sees no more. */
static void quota_stop_sessions(struct vt_quota *quota) {
	struct vt_viewed_output *source;
	wl_list_for_each(source, &quota->manager->sources, link) {
		struct vitrine_view_session_v1 *session;
		wl_list_for_each(session, &source->sessions, link) {
			if (session->quota == quota) {
				vt_session_stop_later(session, VITRINE_VIEW_STOP_NO_RESOURCES);
			}
		}
	}
}

/** Once for each quota, however often it was shown. False on allocation failure. */
static bool retired_memory_charge(struct vt_retired_memory *memory, struct vt_quota *quota) {
	struct vt_quota **entry;
	wl_array_for_each(entry, &memory->quotas) {
		if (*entry == quota) {
			return true;
		}
	}
	entry = wl_array_add(&memory->quotas, sizeof(*entry));
	if (entry == NULL) {
		return false;
	}
	*entry = vt_quota_ref(quota);
	quota->retired_bytes += memory->size;
	quota->n_retired++;
	return true;
}

static void manager_watch_soon(struct vt_manager *manager) {
	manager->watch_interval_ms = WATCH_FIRST_MS;
	wl_event_source_timer_update(manager->watch_timer, WATCH_FIRST_MS);
}

static struct vt_retired_memory *watch_buffer(struct vt_manager *manager,
		const struct vt_buffer *buffer) {
	manager_watch_soon(manager);
	struct vt_retired_memory *memory = find_retired_memory(manager, buffer);
	if (memory != NULL) {
		return memory;
	}
	memory = retired_memory_create(buffer->memory_size);
	if (memory == NULL || !retired_memory_open(memory, buffer)) {
		wlr_log_errno(WLR_ERROR, "Failed to watch retired memory");
		if (memory != NULL) {
			retired_memory_free(memory);
		}
		return NULL;
	}
	wl_list_insert(&manager->retired_memory, &memory->link);
	return memory;
}

void vt_retired_memory_watch(struct vt_manager *manager, const struct vt_buffer *buffer,
		struct vt_quota *const *quotas, size_t quotas_len) {
	struct vt_retired_memory *memory = quotas_len > 0 ? watch_buffer(manager, buffer) : NULL;
	if (memory == NULL) {
		return; // not fatal: the memory is then not accounted for
	}
	for (size_t i = 0; i < quotas_len; i++) {
		retired_memory_charge(memory, quotas[i]);
	}
	for (size_t i = 0; i < quotas_len; i++) {
		if (!vt_quota_allows_memory(quotas[i])) {
			quota_stop_sessions(quotas[i]);
		}
	}
}

bool vt_retired_memory_watch_copy(struct vt_quota *quota, int memfd, uint64_t size) {
	struct vt_retired_memory *memory = retired_memory_create(size);
	if (memory == NULL) {
		return false;
	}
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	memory->memfd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (memory->memfd < 0 || !retired_memory_identify(memory, memory->memfd) ||
			!retired_memory_charge(memory, quota)) {
		retired_memory_free(memory);
		return false;
	}
	wl_list_insert(&quota->manager->retired_memory, &memory->link);
	manager_watch_soon(quota->manager);
	return true;
}

bool vt_quotas_init(struct vt_manager *manager, struct wl_event_loop *loop) {
	wl_list_init(&manager->quotas);
	wl_list_init(&manager->retired_memory);
	manager->watch_timer = wl_event_loop_add_timer(loop, manager_handle_watch_timer, manager);
	return manager->watch_timer != NULL;
}

void vt_quotas_finish(struct vt_manager *manager) {
	struct vt_retired_memory *memory, *memory_tmp;
	wl_list_for_each_safe(memory, memory_tmp, &manager->retired_memory, link) {
		retired_memory_destroy(memory);
	}
	struct vt_quota *quota, *tmp;
	wl_list_for_each_safe(quota, tmp, &manager->quotas, link) {
		quota_destroy(quota);
	}
	if (manager->watch_timer != NULL) {
		wl_event_source_remove(manager->watch_timer);
		manager->watch_timer = NULL;
	}
}
