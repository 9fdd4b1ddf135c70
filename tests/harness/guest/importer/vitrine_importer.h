/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * A device that imports dma-bufs in every way that a driver can, and exports some
 * that move or have no pages: what vgem and vkms do not do. For tests alone.
 */

#ifndef _VITRINE_IMPORTER_H_
#define _VITRINE_IMPORTER_H_

#include <linux/ioctl.h>
#include <linux/types.h>

#define VITRINE_IMPORTER_DEVICE	"/dev/vitrine_importer"

/* Each open file has one attachment at a time. */
struct vitrine_importer_attach {
	__s32 fd;
#define VITRINE_IMPORTER_DYNAMIC	(1U << 0)
#define VITRINE_IMPORTER_PEER		(1U << 1)
/* With dma_buf_get_access(); EOPNOTSUPP where the kernel does not have it. */
#define VITRINE_IMPORTER_READER		(1U << 2)
	__u32 flags;
};

struct vitrine_importer_state {
	/* of the dma-buf with this fd, made by VITRINE_IMPORTER_EXPORT */
	__s32 fd;
	__s32 pins;
	__s32 mappings;
	/* how often the attachment of this file was told of a move */
	__u32 moves;
	/* how often the exporter was asked to begin or to end CPU access */
	__u32 syncs;
	/* of userspace; only of a buffer without pages */
	__s32 maps;
};

#define VITRINE_IMPORTER_BASE	0xB7
#define VITRINE_IMPORTER_ATTACH	_IOW(VITRINE_IMPORTER_BASE, 0, struct vitrine_importer_attach)
#define VITRINE_IMPORTER_DETACH	_IO(VITRINE_IMPORTER_BASE, 1)
/* The argument is an enum dma_data_direction. */
#define VITRINE_IMPORTER_MAP	_IO(VITRINE_IMPORTER_BASE, 2)
#define VITRINE_IMPORTER_UNMAP	_IO(VITRINE_IMPORTER_BASE, 3)
/* Maps into the kernel and stores the argument at the start. */
#define VITRINE_IMPORTER_STORE	_IO(VITRINE_IMPORTER_BASE, 4)
/*
 * Returns an fd of a new buffer that can be moved, and is pinned while mapped. The
 * argument is how many pages it has, with VITRINE_IMPORTER_PAGELESS of a buffer that
 * can not be moved, and is mapped as device memory: without pages, but with access
 * for ptrace() as TTM and i915 have it.
 */
#define VITRINE_IMPORTER_PAGELESS	(1U << 31)
#define VITRINE_IMPORTER_EXPORT	_IO(VITRINE_IMPORTER_BASE, 5)
/* The argument is the fd of what was exported: tells all importers. */
#define VITRINE_IMPORTER_MOVE	_IO(VITRINE_IMPORTER_BASE, 6)
#define VITRINE_IMPORTER_STATE	_IOWR(VITRINE_IMPORTER_BASE, 7, struct vitrine_importer_state)

#endif
