/* SPDX-License-Identifier: MIT */
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"

/** What memory of ours begins with, and what attacks make of that. */
static const char unmarked = 0x5a, marked = (char)0xa5;

static int map_memory(struct memory *memory, int fd, uint64_t offset) {
	char *map = mmap(NULL, memory->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	if (map == MAP_FAILED) {
		return -errno;
	}
	memory->map = map;
	map[0] = unmarked;
	return 0;
}

static int init_memfd(struct memory *memory) {
	memory->memfd = vitrine_memfd_create(memory->len);
	return memory->memfd < 0 ? memory->memfd : map_memory(memory, memory->memfd, 0);
}

static int init_udmabuf(struct memory *memory, struct vitrine_derive *derive) {
	int memfd = vitrine_memfd_create(memory->len);
	if (memfd < 0) {
		return memfd;
	}
	memory->dmabuf_fd = vitrine_udmabuf_create(derive, memfd, memory->len);
	close(memfd);
	return memory->dmabuf_fd < 0 ? memory->dmabuf_fd :
		map_memory(memory, memory->dmabuf_fd, 0);
}

int memory_alloc_from_heap(size_t len, int access) {
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (heap < 0) {
		return -errno;
	}
	struct dma_heap_allocation_data data = {
		.len = len,
		.fd_flags = (uint32_t)access | O_CLOEXEC,
	};
	int ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -errno : (int)data.fd;
	close(heap);
	return ret;
}

static int init_heap(struct memory *memory) {
	memory->dmabuf_fd = memory_alloc_from_heap(memory->len, O_RDWR);
	return memory->dmabuf_fd < 0 ? memory->dmabuf_fd :
		map_memory(memory, memory->dmabuf_fd, 0);
}

/** The owner's access is by the device: its dma-buf may be one that is only to be read. */
static int init_drm(struct memory *memory, const struct drm_node *node, bool read_only) {
	memory->device = drm_node_open(node);
	if (memory->device < 0) {
		return memory->device;
	}
	uint64_t len = memory->len, offset;
	uint32_t handle;
	int ret = drm_create_dumb(memory->device, &len, &handle);
	if (ret < 0) {
		return ret;
	}
	memory->len = audit_round_to_pages((size_t)len);
	ret = drm_get_dumb_offset(memory->device, handle, &offset);
	if (ret < 0) {
		return ret;
	}
	ret = map_memory(memory, memory->device, offset);
	if (ret < 0) {
		return ret;
	}
	memory->dmabuf_fd = drm_export(memory->device, handle,
		DRM_CLOEXEC | (read_only ? 0 : DRM_RDWR));
	return memory->dmabuf_fd < 0 ? memory->dmabuf_fd : 0;
}

static int init_kind(struct memory *memory, const struct exporter *exporter, bool read_only,
		struct vitrine_derive *derive) {
	switch (exporter->kind) {
	case EXPORTER_MEMFD:
		return init_memfd(memory);
	case EXPORTER_UDMABUF:
		return init_udmabuf(memory, derive);
	case EXPORTER_HEAP:
		return init_heap(memory);
	case EXPORTER_DRM:
		return init_drm(memory, exporter->node, read_only);
	}
	return -EINVAL;
}

int memory_init(struct memory *memory, const struct exporter *exporter, size_t len,
		bool read_only, struct vitrine_derive *derive) {
	*memory = (struct memory){
		.memfd = -1,
		.dmabuf_fd = -1,
		.device = -1,
		.len = audit_round_to_pages(len),
	};
	int ret = init_kind(memory, exporter, read_only, derive);
	if (ret < 0) {
		memory_finish(memory);
	}
	return ret;
}

static void close_fd(int *fd) {
	if (*fd >= 0) {
		close(*fd);
	}
	*fd = -1;
}

void memory_finish(struct memory *memory) {
	if (memory->map != NULL) {
		munmap(memory->map, memory->len);
		memory->map = NULL;
	}
	close_fd(&memory->memfd);
	close_fd(&memory->dmabuf_fd);
	close_fd(&memory->device);
}

static bool exporter_works(const struct exporter *exporter, struct vitrine_derive *derive) {
	struct memory memory;
	bool works = memory_init(&memory, exporter, 1, false, derive) == 0;
	memory_finish(&memory);
	return works;
}

/** One node for each driver. */
static bool has_driver(const struct exporter *exporters, size_t len, const char *driver) {
	for (size_t i = 0; i < len; i++) {
		if (strcmp(exporters[i].name, driver) == 0) {
			return true;
		}
	}
	return false;
}

size_t audit_find_exporters(struct vitrine_derive *derive, struct exporter *exporters) {
	static const struct exporter without_device[] = {
		{ EXPORTER_MEMFD, "memfd", NULL },
		{ EXPORTER_UDMABUF, "udmabuf", NULL },
		{ EXPORTER_HEAP, "heap", NULL },
	};
	size_t len = 0;
	for (size_t i = 0; i < sizeof(without_device) / sizeof(without_device[0]); i++) {
		if (exporter_works(&without_device[i], derive)) {
			exporters[len++] = without_device[i];
		}
	}
	size_t n_nodes;
	const struct drm_node *nodes = audit_get_drm_nodes(&n_nodes);
	for (size_t i = 0; i < n_nodes && len < MAX_EXPORTERS; i++) {
		struct exporter exporter = { EXPORTER_DRM, nodes[i].driver, &nodes[i] };
		if (nodes[i].may_have_dumb_buffers && !has_driver(exporters, len, exporter.name) &&
				exporter_works(&exporter, derive)) {
			exporters[len++] = exporter;
		}
	}
	return len;
}

int target_init(struct target *target, int borrowed_fd, size_t len, int prot,
		enum vitrine_storage storage) {
	*target = (struct target){
		.fd = fcntl(borrowed_fd, F_DUPFD_CLOEXEC, 3),
		.storage = storage,
		.len = len,
		.mark = &marked,
	};
	if (target->fd < 0) {
		return -errno;
	}
	char *map = mmap(NULL, len, prot, MAP_SHARED, target->fd, 0);
	if (map == MAP_FAILED) {
		int ret = -errno;
		target_finish(target);
		return ret;
	}
	target->map = map;
	return 0;
}

void target_finish(struct target *target) {
	if (target->map != NULL) {
		munmap(target->map, target->len);
	}
	if (target->fd >= 0) {
		close(target->fd);
	}
	*target = (struct target){ .fd = -1 };
}

/** What attacks are after. */
struct state {
	char written, seen; // the first byte, for the owner and for the other holders of the view
	off_t size, seen_size;
	int seals, seen_seals;
	char name[128]; // of the owner's dma-buf
};

static off_t get_size(int fd) {
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : -1;
}

static void read_name(int dmabuf_fd, char *name, size_t size) {
	char path[64], line[128];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", dmabuf_fd);
	FILE *file = dmabuf_fd >= 0 ? fopen(path, "re") : NULL;
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, "name:", 5) == 0) {
			snprintf(name, size, "%s", line + 5);
		}
	}
	if (file != NULL) {
		fclose(file);
	}
}

static void state_init(struct state *state, const struct memory *owner,
		const struct target *target) {
	*state = (struct state){0};
	state->written = *(volatile char *)owner->map;
	state->seen = *(volatile char *)target->map;
	state->size = get_size(owner->memfd);
	state->seen_size = get_size(target->fd);
	state->seals = fcntl(owner->memfd, F_GET_SEALS);
	state->seen_seals = fcntl(target->fd, F_GET_SEALS);
	read_name(owner->dmabuf_fd, state->name, sizeof(state->name));
}

static bool state_equals(const struct state *a, const struct state *b) {
	return a->written == b->written && a->seen == b->seen && a->size == b->size &&
		a->seen_size == b->seen_size && a->seals == b->seals &&
		a->seen_seals == b->seen_seals && strcmp(a->name, b->name) == 0;
}

int memory_judge(const struct memory *owner, const struct attack *attack,
		const struct target *target, const char **detail) {
	struct state before, after;
	state_init(&before, owner, target);
	int ret = attack->run(target, detail);
	state_init(&after, owner, target);
	if (!state_equals(&before, &after)) {
		*detail = ret == ATTACK_WORKED ? *detail : "it failed, but the owner's memory has changed";
		return ATTACK_WORKED;
	}
	if (ret != ATTACK_WORKED || (attack->flags & ATTACK_CLAIM)) {
		return ret;
	}
	*detail = "it goes through, but nothing of the owner's has changed";
	return ATTACK_HARMLESS;
}

int memory_control(const struct exporter *exporter, size_t len, struct vitrine_derive *derive,
		const struct attack *attack, const struct drm_node *node, const char **detail) {
	struct memory memory;
	struct target target = { .fd = -1 };
	int ret = memory_init(&memory, exporter, len, false, derive);
	if (ret == 0) {
		bool memfd = exporter->kind == EXPORTER_MEMFD;
		ret = target_init(&target, memfd ? memory.memfd : memory.dmabuf_fd, memory.len,
			PROT_READ | PROT_WRITE, memfd ? VITRINE_STORAGE_MEMFD : VITRINE_STORAGE_DMABUF);
	}
	if (ret < 0) {
		*detail = "no memory of our own to try it on first";
	} else {
		target.node = node;
		ret = memory_judge(&memory, attack, &target, detail);
	}
	target_finish(&target);
	memory_finish(&memory);
	return ret;
}
