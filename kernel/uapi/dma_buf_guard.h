/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Read-only guards of dma-bufs, for kernels without DMA_BUF_IOCTL_DERIVE.
 *
 * A guard is a dma-buf of its own over the memory of another one. Its holder can
 * map it for reading and let devices read it. What it can not do, on every
 * kernel that the module loads into:
 *
 *  - map it for writing, or make a mapping writable, also not by way of a device
 *    that imported it: EACCES;
 *  - write to a mapping through /proc/PID/mem or by ptrace(): EIO, also where it
 *    is of memory that the exporter gives them access to;
 *  - import it into a device that maps it for anything but DMA_TO_DEVICE, or in
 *    the kernel's address space: EACCES, EINVAL. Where the driver maps at import
 *    the import fails, elsewhere the use of what was imported;
 *  - DMA_BUF_IOCTL_SYNC with DMA_BUF_SYNC_WRITE: EACCES. With DMA_BUF_SYNC_READ
 *    it waits for the fences of writers and does nothing else. The exporter is not
 *    called: with bounce buffers, and where caches are not coherent, that can take
 *    back what the owner has written by the CPU. So where caches are not coherent,
 *    what devices wrote is seen after the owner's own DMA_BUF_IOCTL_SYNC;
 *  - get back to the original: a guard of a guard is another guard of the
 *    original, and what imported a guard exports the guard again.
 *
 * The original's implicit fences are the guard's: poll() and
 * DMA_BUF_IOCTL_EXPORT_SYNC_FILE work as on the original. So does
 * DMA_BUF_IOCTL_IMPORT_SYNC_FILE, which no module can refuse: a holder can make
 * the owner, and a display that shows the buffer, wait for a fence of its making.
 * With DMA_BUF_GUARD_OWN_FENCES the guard has fences of its own instead, so that
 * what a holder does to them concerns that guard alone; DMA_BUF_IOCTL_SYNC waits
 * for those of the original all the same. What is made of such a guard, or of an fd
 * that DMA_BUF_IOCTL_DERIVE made for reading only, has fences of its own whether it
 * is asked for or not: no holder comes closer to those of the original than it was.
 * Guards of exporters that move their memory (those with a pin operation, such as
 * amdgpu and xe) can not have fences of their own. A name that is set is the guard's
 * own.
 *
 * A guard has an inode of its own. It holds the original until it is closed and
 * unmapped everywhere. A user can have as many guards as the module parameter
 * guards_per_user says, which is 4096 by default; a guard counts for the user that
 * made it.
 */

#ifndef _DMA_BUF_GUARD_UAPI_H_
#define _DMA_BUF_GUARD_UAPI_H_

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMA_BUF_GUARD_DEVICE	"/dev/dma_buf_guard"

/* In &dma_buf_guard_create.flags; a guard of a guard with it is as if it were given. */
#define DMA_BUF_GUARD_OWN_FENCES	(1U << 31)

/**
 * struct dma_buf_guard_create - make a guard of a dma-buf
 *
 * The caller needs no other right than to hold @fd, opened for reading or more.
 *
 * Return: 0, or -1 with errno set to
 *
 *  - EINVAL: @flags has an unknown bit, @reserved is not 0, or @fd is not a
 *    dma-buf;
 *  - EOPNOTSUPP: fences of its own, of a dma-buf whose exporter moves its memory;
 *  - EBADF: @fd is not open;
 *  - EACCES: @fd is not open for reading, or was derived by
 *    DMA_BUF_IOCTL_DERIVE and is guarded already;
 *  - EDQUOT: the user of the caller has too many guards;
 *  - EMFILE, ENFILE, ENOMEM: no fd, no file or no memory is left;
 *  - EFAULT: the struct is not readable or not writable.
 *
 * No fd is left behind in any of these.
 */
struct dma_buf_guard_create {
	/** @flags: O_CLOEXEC, DMA_BUF_GUARD_OWN_FENCES */
	__u32 flags;
	/** @fd: the dma-buf to guard; the caller keeps it */
	__s32 fd;
	/** @guard_fd: returned, O_RDONLY */
	__s32 guard_fd;
	/** @reserved: must be 0 */
	__u32 reserved;
};

/* In &dma_buf_guard_query.flags */
#define DMA_BUF_GUARD_IS_GUARD	(1U << 0)

/**
 * struct dma_buf_guard_query - is this a guard, and of what?
 *
 * Return: 0, or -1 with errno set to EINVAL (@fd is not a dma-buf), EBADF,
 * EACCES (see &dma_buf_guard_create), EFAULT.
 */
struct dma_buf_guard_query {
	/** @fd: the dma-buf to ask about */
	__s32 fd;
	/** @flags: returned, DMA_BUF_GUARD_IS_GUARD or 0 */
	__u32 flags;
	/**
	 * @inode: returned, st_ino of the guarded dma-buf, which its owner can
	 * compare with what fstat() tells; of @fd itself where it is no guard
	 */
	__u64 inode;
};

#define DMA_BUF_GUARD_BASE		0xB6
#define DMA_BUF_GUARD_IOCTL_CREATE	_IOWR(DMA_BUF_GUARD_BASE, 0, struct dma_buf_guard_create)
#define DMA_BUF_GUARD_IOCTL_QUERY	_IOWR(DMA_BUF_GUARD_BASE, 1, struct dma_buf_guard_query)

/* ENOTTY is returned for any other request. */

#endif
