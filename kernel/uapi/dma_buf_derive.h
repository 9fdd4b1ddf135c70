/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What kernel/patches adds to linux/dma-buf.h, for builds against headers that do
 * not have it. The documentation is there.
 */

#ifndef _DMA_BUF_DERIVE_UAPI_H_
#define _DMA_BUF_DERIVE_UAPI_H_

#include <linux/dma-buf.h>

#ifndef DMA_BUF_IOCTL_DERIVE

/* In &dma_buf_derive.flags, with O_RDONLY: importers are trusted. */
#define DMA_BUF_DERIVE_UNGUARDED	(1U << 31)

struct dma_buf_derive {
	/* O_RDONLY or O_RDWR, optionally O_CLOEXEC, DMA_BUF_DERIVE_UNGUARDED */
	__u32 flags;
	/* returned */
	__s32 fd;
};

#define DMA_BUF_IOCTL_DERIVE	_IOWR(DMA_BUF_BASE, 4, struct dma_buf_derive)

#endif

#endif
