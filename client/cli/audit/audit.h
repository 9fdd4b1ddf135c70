/* SPDX-License-Identifier: MIT */
#ifndef CLI_AUDIT_H
#define CLI_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vitrine/derive.h>

#include "cli.h"

struct json_object;

/* What is attacked, and how */

/** Memory to attack: the view, or memory of our own to show that the attack works. */
struct target {
	int fd;
	/** As the holder can have it: to be read if it is the view, writable if it is ours. */
	char *map;
	size_t len; // whole pages
	enum vitrine_storage storage;
	/** The byte to write to the first one: `map`, to leave the memory as it is. */
	const char *mark;
	/** The device that ATTACK_PER_NODE is about. May be NULL: there is none. */
	const struct drm_node *node;
};

/** What an attack returns besides a negative errno, which says that it was refused. */
enum attack_outcome {
	ATTACK_WORKED = 0, // the memory was written
	ATTACK_UNAVAILABLE = 1, // this machine lacks what it needs
	ATTACK_HARMLESS = 2, // the calls succeeded, and the owner has noticed nothing
};

/** Which memory of our own the attack must work on. */
enum attack_control {
	CONTROL_MEMFD, // a memfd that can be written and sealed
	CONTROL_SAME, // of the storage of the view
	CONTROL_DMABUF, // a dma-buf
};

enum attack_flags {
	/** To be made once for each DRM node. */
	ATTACK_PER_NODE = 1 << 0,
	/** That the calls succeed is the effect: none is to be seen in the memory. */
	ATTACK_CLAIM = 1 << 1,
	/** Whether it had an effect is something that only the owner can tell. */
	ATTACK_OWNER_JUDGES = 1 << 2,
	/** Whether it works on memory that can be written is up to drivers. */
	ATTACK_UP_TO_DRIVERS = 1 << 3,
};

struct attack {
	unsigned row; // of the threat model's table
	const char *name;
	uint32_t refused; // guarantees that promise that it fails
	uint32_t allowed; // guarantees that say that it works
	enum attack_control control;
	unsigned flags; // bitfield of enum attack_flags
	/** Writes the target's mark. `detail` may be set to a static string. */
	int (*run)(const struct target *target, const char **detail);
};

/** What needs one view only: rows 1 to 8, and rows 9 to 13. */
extern const struct attack file_attacks[], dmabuf_attacks[];
extern const size_t file_attacks_len, dmabuf_attacks_len;

/** Calls the function for each of both tables, and for each DRM node where that is due. */
void audit_for_each_attack(void (*call)(void *data, const struct attack *attack,
	const struct drm_node *node), void *data);

size_t audit_round_to_pages(size_t len);
/** Stores the target's mark through any mapping of it. */
void attack_poke(const struct target *target, char *byte);
/** How a mapping that can be written is asked for. */
enum map_way {
	MAP_WAY_DIRECT,
	MAP_WAY_MPROTECT, // a read map first
	MAP_WAY_REMAP, // the same, with remap_file_pages(), which maps the vma's own file anew
};
int attack_map(int fd, uint64_t offset, int flags, enum map_way way,
	const struct target *target);
/** Everything that an fd with write access is good for. */
int attack_write_somehow(int fd, const struct target *target);

/**
 * Calls the function in a child, which a signal ends if that takes seconds. Returns
 * its result, -EFAULT if it was killed by SIGSEGV or SIGBUS, -ETIME by time.
 */
int audit_run_in_child(int (*run)(const struct target *target), const struct target *target);

/**
 * DMA_BUF_IOCTL_SYNC in every way that a holder can, some at once. Whether that was
 * refused does not matter.
 */
void audit_sync_dmabuf(int dmabuf_fd);

/* DRM nodes and fences */

#define MAX_DRM_NODES 16

struct drm_node {
	char path[32];
	char name[48]; // driver and node: "vkms card1"
	char driver[32];
	bool may_have_dumb_buffers; // has to be tried
};

/** The nodes that can be opened. */
const struct drm_node *audit_get_drm_nodes(size_t *len);

/** Returns an fd, or a negative errno. */
int drm_node_open(const struct drm_node *node);
/** A dumb buffer of at least `len` bytes, whose size replaces that. Returns 0 or a negative errno. */
int drm_create_dumb(int device, uint64_t *len, uint32_t *handle);
/** The same for what it is mapped at. */
int drm_get_dumb_offset(int device, uint32_t handle, uint64_t *offset);
/** A PRIME export. Returns an fd, or a negative errno. */
int drm_export(int device, uint32_t handle, uint32_t flags);

/** A fence that does not signal before it is finished. */
struct fence {
	int sync_fd; // -1 if there is none
	int device; // what it belongs to
	uint32_t vgem_fence; // 0 if it is none of vgem's
};

/** Returns 0, or -ENODEV if this process cannot make one here. */
int fence_init(struct fence *fence);
void fence_finish(struct fence *fence);
/** Has the readers and writers of a dma-buf wait for it. Returns 0 or a negative errno. */
int fence_import(const struct fence *fence, int dmabuf_fd);
/** Whether a reader of the dma-buf has to wait now. */
bool fence_is_awaited(int dmabuf_fd);

/**
 * A guard of a dma-buf by the module, in its plainest form, for the caller to close.
 * Negative errno; -ENODEV if the module is not there.
 */
int audit_guard(int borrowed_fd);

/* Memory of our own */

#define MAX_EXPORTERS 8

enum exporter_kind {
	EXPORTER_MEMFD,
	EXPORTER_UDMABUF,
	EXPORTER_HEAP,
	EXPORTER_DRM, // dumb buffers
};

struct exporter {
	enum exporter_kind kind;
	const char *name;
	const struct drm_node *node; // of EXPORTER_DRM
};

/** Returns how many work on this machine; at most MAX_EXPORTERS. */
size_t audit_find_exporters(struct vitrine_derive *derive, struct exporter *exporters);

struct memory {
	int memfd; // of EXPORTER_MEMFD, else -1
	int dmabuf_fd; // -1 if there is none
	int device; // of EXPORTER_DRM, else -1
	char *map; // to write
	size_t len;
};

/**
 * Makes memory of at least `len` bytes that its owner, us, can write. With
 * `read_only`, which is for EXPORTER_DRM, its only export is without DRM_RDWR.
 * Returns 0 or a negative errno.
 */
int memory_init(struct memory *memory, const struct exporter *exporter, size_t len,
	bool read_only, struct vitrine_derive *derive);
/** A dma-buf of the system heap, whose fd is open as `access` says. Returns it, or a negative errno. */
int memory_alloc_from_heap(size_t len, int access);
void memory_finish(struct memory *memory);

/** Duplicates the fd and maps it. Returns 0 or a negative errno. */
int target_init(struct target *target, int borrowed_fd, size_t len, int prot,
	enum vitrine_storage storage);
void target_finish(struct target *target);

/** Runs the attack, and has the owner of the target's memory say whether it worked. */
int memory_judge(const struct memory *owner, const struct attack *attack,
	const struct target *target, const char **detail);
/**
 * Runs the attack on memory of our own that can be written: without success there,
 * a refusal proves nothing. Returns as attacks do.
 */
int memory_control(const struct exporter *exporter, size_t len, struct vitrine_derive *derive,
	const struct attack *attack, const struct drm_node *node, const char **detail);

/* What is found */

enum result {
	RESULT_REFUSED,
	RESULT_ALLOWED,
	RESULT_NOT_APPLICABLE,
	RESULT_INCONCLUSIVE,
};

struct finding {
	unsigned row;
	char attack[120];
	enum result expected, result;
	char detail[160];
};

/** The findings about one view, or one kind of derived memory. */
struct findings {
	/** "backend" and "exporter" of the machine's, NULL for a session's. */
	const char *backend, *exporter;
	enum vitrine_guarantee guarantee;
	enum vitrine_storage storage;
	struct finding *list;
	size_t len;
};

void findings_finish(struct findings *findings);
/** Valid until the next one is added. Exits if memory is out. */
struct finding *findings_add(struct findings *findings, unsigned row, const char *attack,
	enum result expected);
void finding_set(struct finding *finding, enum result result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/** Refused, or inconclusive if the error has nothing to do with permission. */
void finding_set_error(struct finding *finding, int error, const char *detail);
/** Adds a finding for an attack. Returns NULL if it does not apply to the guarantee. */
struct finding *findings_add_attack(struct findings *findings, const struct attack *attack,
	const struct drm_node *node);
/** Sets what came of the attack itself, and of it on memory that can be written. */
void finding_conclude(struct finding *finding, const struct attack *attack, int control,
	const char *control_detail, int ret, const char *detail);

/** The counts that decide on the exit status. */
struct tally {
	size_t ok, broken, inconclusive, better, not_applicable;
};

void findings_count(const struct findings *findings, struct tally *tally);
/** Prints what is worth attention, all with `verbose`. */
void findings_print(const struct findings *findings, bool verbose);
/** Appends one object for each finding, with the backend and exporter if `flat`. */
void findings_add_json(const struct findings *findings, struct json_object *list, bool flat);

/* Both parts */

/** The audit of a session: a view, and what comes after its end. */
struct session_audit {
	struct cli *cli;
	struct vitrine_derive *derive;
	double seconds; // how long to wait for the screen to change
	char name[256]; // of the output or window
	struct findings findings;
};

/** Returns an exit status. */
int session_audit_run(struct session_audit *audit);

/** The audit of what this machine can derive, without any compositor. */
struct machine_audit {
	struct vitrine_derive *derive;
	uint32_t acceptable; // bitfield of enum vitrine_guarantee
	struct exporter exporters[MAX_EXPORTERS];
	size_t n_exporters;
	struct findings *blocks;
	size_t n_blocks;
};

void machine_audit_run(struct machine_audit *audit);
void machine_audit_finish(struct machine_audit *audit);
/** Whether something was found out about the backend. */
bool machine_audit_has_exercised(const struct machine_audit *audit, const char *backend);

#endif
