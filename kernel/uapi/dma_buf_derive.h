/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What kernel/patches adds to linux/dma-buf.h, for builds against headers that do
 * not have it. The documentation is there.
 */

#ifndef _DMA_BUF_DERIVE_UAPI_H_
#define _DMA_BUF_DERIVE_UAPI_H_

#include <linux/dma-buf.h>

#ifndef DMA_BUF_IOCTL_DERIVE

struct dma_buf_derive {
	/* O_RDONLY or O_RDWR, optionally O_CLOEXEC */
	__u32 flags;
	/* returned */
	__s32 fd;
};

#define DMA_BUF_IOCTL_DERIVE	_IOWR(DMA_BUF_BASE, 4, struct dma_buf_derive)

#endif

/*
 * Of the last patch, which is not for merging: a kernel can have the ioctl above
 * without it. O_RDONLY only; importers are trusted.
 */
#ifndef DMA_BUF_IOCTL_DERIVE_UNGUARDED
#define DMA_BUF_IOCTL_DERIVE_UNGUARDED	_IOWR(DMA_BUF_BASE, 5, struct dma_buf_derive)
#endif

#endif
