// SPDX-License-Identifier: GPL-2.0
/*
 * Read-only guards of dma-bufs, see dma_buf_guard.h for what they are.
 *
 * A guard is exported with dma_buf_export(), so that everything the core does
 * for a dma-buf works on it, and forwards what only reads to the original.
 * It shares the original's reservation object: what is called with the one
 * locked may call into the other, and fences are common. With
 * DMA_BUF_GUARD_OWN_FENCES it has its own, which is always locked before that of
 * the original.
 */

#include <linux/cred.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "dma_buf_guard.h"

/* A user that has guards. */
struct guard_user {
	struct list_head link; /* in guard_users */
	kuid_t uid;
	unsigned int guards;
};

struct dma_buf_guard {
	struct dma_buf *original;
	struct guard_user *user; /* who made it */
};

static LIST_HEAD(guard_users);
static DEFINE_MUTEX(guard_users_lock);

/*
 * The limit of open files is no limit of guards: a device that has imported one
 * holds it too, with no fd.
 */
static unsigned int guards_per_user = 4096;
module_param(guards_per_user, uint, 0644);
MODULE_PARM_DESC(guards_per_user, "Guards of one user, 4096 by default");

static struct guard_user *guard_user_find(kuid_t uid)
{
	struct guard_user *user;

	list_for_each_entry(user, &guard_users, link) {
		if (uid_eq(user->uid, uid))
			return user;
	}

	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (user) {
		user->uid = uid;
		list_add(&user->link, &guard_users);
	}

	return user;
}

static void guard_user_put_locked(struct guard_user *user)
{
	if (user->guards > 0)
		return;
	list_del(&user->link);
	kfree(user);
}

/* One more guard of the calling user, or an ERR_PTR. */
static struct guard_user *guard_user_charge(void)
{
	struct guard_user *user;

	mutex_lock(&guard_users_lock);
	user = guard_user_find(current_uid());
	if (!user) {
		user = ERR_PTR(-ENOMEM);
	} else if (user->guards >= READ_ONCE(guards_per_user)) {
		guard_user_put_locked(user);
		user = ERR_PTR(-EDQUOT);
	} else {
		user->guards++;
	}
	mutex_unlock(&guard_users_lock);

	return user;
}

static void guard_user_uncharge(struct guard_user *user)
{
	mutex_lock(&guard_users_lock);
	user->guards--;
	guard_user_put_locked(user);
	mutex_unlock(&guard_users_lock);
}

static const struct dma_buf_ops guard_ops;

static bool is_guard(const struct dma_buf *dmabuf)
{
	return dmabuf->ops == &guard_ops;
}

static struct dma_buf *guard_original(const struct dma_buf *dmabuf)
{
	const struct dma_buf_guard *guard = dmabuf->priv;

	return guard->original;
}

static bool has_own_fences(const struct dma_buf *dmabuf)
{
	return dmabuf->resv != guard_original(dmabuf)->resv;
}

#ifndef GUARD_HAVE_INVALIDATE_MAPPINGS
/* Its older name. Importer operations without it are refused there. */
#define invalidate_mappings move_notify
#define GUARD_UNTOLD guard_invalidate
#else
/*
 * Having it is a promise to unmap when called, see dma_buf_attach_revocable():
 * not to be given in the name of an importer that did not.
 */
#define GUARD_UNTOLD NULL
#endif

static bool is_told_of_moves(const struct dma_buf_attachment *outer)
{
	return outer->importer_ops && outer->importer_ops->invalidate_mappings;
}

/*
 * The original's exporter moves its memory: tell the importer of the guard. The
 * reservation object is locked, as the importer expects. One that is not told
 * has mapped what is pinned, see guard_map(), or nothing.
 */
static void guard_invalidate(struct dma_buf_attachment *inner)
{
	struct dma_buf_attachment *outer = inner->importer_priv;

	if (is_told_of_moves(outer))
		outer->importer_ops->invalidate_mappings(outer);
}

/* Indexed by: is told of moves, takes peer resources. */
static const struct dma_buf_attach_ops guard_attach_ops[2][2] = {
	{
		{ .invalidate_mappings = GUARD_UNTOLD },
		{ .invalidate_mappings = GUARD_UNTOLD, .allow_peer2peer = true },
	}, {
		{ .invalidate_mappings = guard_invalidate },
		{ .invalidate_mappings = guard_invalidate, .allow_peer2peer = true },
	},
};

static int guard_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *outer)
{
	struct dma_buf *original = guard_original(dmabuf);
	struct dma_buf_attachment *inner;
	bool told = is_told_of_moves(outer);

	/*
	 * Dynamic if, and only if, the original's exporter is: where they
	 * differ, older kernels map at once, and for both directions.
	 */
	if (dma_buf_is_dynamic(original))
		inner = dma_buf_dynamic_attach(original, outer->dev,
					       &guard_attach_ops[told][outer->peer2peer],
					       outer);
	else
		inner = dma_buf_attach(original, outer->dev);
	if (IS_ERR(inner))
		return PTR_ERR(inner);

	outer->peer2peer = inner->peer2peer;
	outer->priv = inner;

	return 0;
}

static void guard_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *outer)
{
	dma_buf_detach(guard_original(dmabuf), outer->priv);
}

static struct sg_table *guard_map(struct dma_buf_attachment *outer,
				  enum dma_data_direction direction)
{
	struct dma_buf_attachment *inner = outer->priv;
	struct sg_table *table;
	int ret;

	if (direction != DMA_TO_DEVICE)
		return ERR_PTR(-EACCES);

	/*
	 * A guard has no pin operation, which tells importers that what they
	 * have mapped stays where it is.
	 */
	if (dma_buf_is_dynamic(inner->dmabuf)) {
		ret = dma_buf_pin(inner);
		if (ret)
			return ERR_PTR(ret);
	}

	if (has_own_fences(outer->dmabuf))
		table = dma_buf_map_attachment_unlocked(inner, direction);
	else
		table = dma_buf_map_attachment(inner, direction);
	if (IS_ERR(table) && dma_buf_is_dynamic(inner->dmabuf))
		dma_buf_unpin(inner);

	return table;
}

static void guard_unmap(struct dma_buf_attachment *outer, struct sg_table *table,
			enum dma_data_direction direction)
{
	struct dma_buf_attachment *inner = outer->priv;

	if (has_own_fences(outer->dmabuf))
		dma_buf_unmap_attachment_unlocked(inner, table, DMA_TO_DEVICE);
	else
		dma_buf_unmap_attachment(inner, table, DMA_TO_DEVICE);
	if (dma_buf_is_dynamic(inner->dmabuf))
		dma_buf_unpin(inner);
}

/*
 * The operations of an exporter's mapping, without ->access(). That is how
 * /proc/PID/mem and ptrace() reach memory that has no struct page, and neither
 * they nor the exporters look at whether the mapping may be written. There is
 * one for each mmap() of a guard, shared by the mappings that come of it when the
 * process forks, or splits or moves it.
 */
struct guard_mapping {
	struct vm_operations_struct ops;
	const struct vm_operations_struct *original;
	/* So that the module stays, whose code the mappings call. */
	struct dma_buf *guard;
	refcount_t mappings;
};

static struct guard_mapping *to_guard_mapping(const struct vm_area_struct *vma)
{
	return container_of(vma->vm_ops, struct guard_mapping, ops);
}

static void guard_vm_open(struct vm_area_struct *vma)
{
	struct guard_mapping *mapping = to_guard_mapping(vma);

	refcount_inc(&mapping->mappings);
	if (mapping->original->open)
		mapping->original->open(vma);
}

static void guard_vm_close(struct vm_area_struct *vma)
{
	struct guard_mapping *mapping = to_guard_mapping(vma);
	struct dma_buf *guard = mapping->guard;

	if (mapping->original->close)
		mapping->original->close(vma);
	if (!refcount_dec_and_test(&mapping->mappings))
		return;
	kfree(mapping);
	/* Not released before this has returned: fput() leaves that for later. */
	dma_buf_put(guard);
}

static void guard_mapping_init(struct guard_mapping *mapping, struct dma_buf *guard,
			       const struct vm_operations_struct *original)
{
	mapping->ops = *original;
	mapping->ops.access = NULL;
	mapping->ops.open = guard_vm_open;
	mapping->ops.close = guard_vm_close;
	mapping->original = original;
	mapping->guard = guard;
	get_dma_buf(guard);
	refcount_set(&mapping->mappings, 1);
}

static int guard_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct guard_mapping *mapping;
	int ret;

	/*
	 * The VFS has removed VM_SHARED where it is the guard's own file that is
	 * mapped, which is not open for writing. With VM_SHARED this is a
	 * mapping of an importer's file. Without VM_WRITE and VM_MAYWRITE it
	 * would still be one that remap_file_pages() makes another of, and that
	 * maps vm_file, which is going to be the original's file, anew.
	 */
	if (vma->vm_flags & (VM_WRITE | VM_SHARED))
		return -EACCES;
	vm_flags_clear(vma, VM_MAYWRITE);

	/* Whether it is needed is not known yet, but later nothing may fail. */
	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping)
		return -ENOMEM;

	/*
	 * This sets vm_file to the original's file, and it has to stay so:
	 * exporters find the mappings they have to zap by its f_mapping.
	 */
	ret = dma_buf_mmap(guard_original(dmabuf), vma, vma->vm_pgoff);
	if (ret || !vma->vm_ops || !vma->vm_ops->access) {
		kfree(mapping);
		return ret;
	}

	guard_mapping_init(mapping, dmabuf, vma->vm_ops);
	vma->vm_ops = &mapping->ops;

	return 0;
}

/*
 * Waits for the writers, and does not call the exporter. Who has the memory, the
 * CPU or devices, is for its owner to say: exporters sync it then with what they
 * have mapped for devices. With bounce buffers this copies what those hold over
 * the memory, and where caches are not coherent it drops what they hold of it. In
 * both cases what the owner has written by the CPU meanwhile would be gone.
 */
static int guard_begin_cpu_access(struct dma_buf *dmabuf,
				  enum dma_data_direction direction)
{
	long ret;

	if (direction != DMA_FROM_DEVICE)
		return -EACCES;

	/* The core waits for the fences of the guard, which need not be these. */
	ret = dma_resv_wait_timeout(guard_original(dmabuf)->resv,
				    DMA_RESV_USAGE_WRITE, true,
				    MAX_SCHEDULE_TIMEOUT);

	return ret < 0 ? ret : 0;
}

static int guard_end_cpu_access(struct dma_buf *dmabuf,
				enum dma_data_direction direction)
{
	return direction == DMA_FROM_DEVICE ? 0 : -EACCES;
}

static void guard_release(struct dma_buf *dmabuf)
{
	struct dma_buf_guard *guard = dmabuf->priv;

	dma_buf_put(guard->original);
	guard_user_uncharge(guard->user);
	kfree(guard);
}

/*
 * No vmap: a driver that has the kernel's address of a buffer writes there. No pin, see
 * guard_map().
 */
static const struct dma_buf_ops guard_ops = {
	.attach = guard_attach,
	.detach = guard_detach,
	.map_dma_buf = guard_map,
	.unmap_dma_buf = guard_unmap,
	.mmap = guard_mmap,
	.begin_cpu_access = guard_begin_cpu_access,
	.end_cpu_access = guard_end_cpu_access,
	.release = guard_release,
};

/* The guard's own reservation object is locked first: another class for lockdep. */
static struct lock_class_key guard_resv_key;

/* Takes over the reference on @original, also when it fails. */
static struct dma_buf *guard_export(struct dma_buf *original, bool own_fences)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct dma_buf_guard *guard;
	struct dma_buf *dmabuf;

	/* Its exporter would call guard_invalidate() with the wrong object locked. */
	if (own_fences && dma_buf_is_dynamic(original)) {
		dmabuf = ERR_PTR(-EOPNOTSUPP);
		goto err_put;
	}

	guard = kzalloc(sizeof(*guard), GFP_KERNEL_ACCOUNT);
	if (!guard) {
		dmabuf = ERR_PTR(-ENOMEM);
		goto err_put;
	}
	guard->original = original;
	guard->user = guard_user_charge();
	if (IS_ERR(guard->user)) {
		dmabuf = ERR_CAST(guard->user);
		goto err_free;
	}

	/* The owner in exp_info keeps the module as long as there is a guard. */
	exp_info.ops = &guard_ops;
	exp_info.size = original->size;
	exp_info.flags = O_RDONLY;
	exp_info.resv = own_fences ? NULL : original->resv;
	exp_info.priv = guard;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf))
		goto err_uncharge;
	if (own_fences)
		lockdep_set_class(&dmabuf->resv->lock.base, &guard_resv_key);

	return dmabuf;

err_uncharge:
	guard_user_uncharge(guard->user);
err_free:
	kfree(guard);
err_put:
	dma_buf_put(original);
	return dmabuf;
}

/*
 * DMA_BUF_IOCTL_DERIVE, of kernels that have it, makes further files of a dma-buf.
 * Who holds one that is not for writing must not change the original's fences.
 */
static bool is_derived_read_only(const struct dma_buf *dmabuf, const struct file *file)
{
	return file != dmabuf->file && !(file->f_mode & FMODE_WRITE);
}

/*
 * Of a file that may be read: a guard would be more than one that may not.
 * @own_fences is set if it would also be more with the fences of the original, and
 * else left as it is.
 */
static struct dma_buf *guard_get_readable(int fd, bool *own_fences)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);
	struct file *file;

	if (IS_ERR(dmabuf))
		return dmabuf;

	file = fget(fd);
	/* Another one may have taken its place. A dma-buf can have several files. */
	if (!file || file_inode(file) != file_inode(dmabuf->file)) {
		dma_buf_put(dmabuf);
		dmabuf = ERR_PTR(-EBADF);
	} else if (!(file->f_mode & FMODE_READ)) {
		dma_buf_put(dmabuf);
		dmabuf = ERR_PTR(-EACCES);
	} else if (is_derived_read_only(dmabuf, file) ||
		   (is_guard(dmabuf) && has_own_fences(dmabuf))) {
		*own_fences = true;
	}
	if (file)
		fput(file);

	return dmabuf;
}

static long guard_create(struct dma_buf_guard_create __user *udata)
{
	struct dma_buf_guard_create params;
	struct dma_buf *dmabuf, *original;
	bool own_fences;
	int fd, ret;

	if (copy_from_user(&params, udata, sizeof(params)))
		return -EFAULT;
	if (params.flags & ~(O_CLOEXEC | DMA_BUF_GUARD_OWN_FENCES) || params.reserved)
		return -EINVAL;

	own_fences = params.flags & DMA_BUF_GUARD_OWN_FENCES;
	original = guard_get_readable(params.fd, &own_fences);
	if (IS_ERR(original))
		return PTR_ERR(original);

	/* Guards are not stacked: each would hold the one below it. */
	if (is_guard(original)) {
		dmabuf = original;
		original = guard_original(dmabuf);
		get_dma_buf(original);
		dma_buf_put(dmabuf);
	}

	fd = get_unused_fd_flags(params.flags & O_CLOEXEC);
	if (fd < 0) {
		dma_buf_put(original);
		return fd;
	}

	dmabuf = guard_export(original, own_fences);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_put_fd;
	}

	params.guard_fd = fd;
	if (copy_to_user(udata, &params, sizeof(params))) {
		ret = -EFAULT;
		goto err_put_guard;
	}

	fd_install(fd, dmabuf->file);

	return 0;

err_put_guard:
	dma_buf_put(dmabuf);
err_put_fd:
	put_unused_fd(fd);
	return ret;
}

static long guard_query(struct dma_buf_guard_query __user *udata)
{
	struct dma_buf_guard_query params;
	struct dma_buf *dmabuf, *subject;

	if (copy_from_user(&params, udata, sizeof(params)))
		return -EFAULT;

	dmabuf = dma_buf_get(params.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	subject = is_guard(dmabuf) ? guard_original(dmabuf) : dmabuf;
	params.flags = is_guard(dmabuf) ? DMA_BUF_GUARD_IS_GUARD : 0;
	params.inode = file_inode(subject->file)->i_ino;
	dma_buf_put(dmabuf);

	return copy_to_user(udata, &params, sizeof(params)) ? -EFAULT : 0;
}

static long guard_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case DMA_BUF_GUARD_IOCTL_CREATE:
		return guard_create((void __user *)arg);
	case DMA_BUF_GUARD_IOCTL_QUERY:
		return guard_query((void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations guard_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = guard_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/*
 * For everybody: a guard is less than the fd that it is made of, and each user has
 * a number of them. The udev rule says the same.
 */
static struct miscdevice guard_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dma_buf_guard",
	.fops = &guard_fops,
	.mode = 0666,
};
module_misc_device(guard_device);

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
MODULE_DESCRIPTION("Read-only guards of dma-bufs");
MODULE_AUTHOR("The Vitrine authors");
MODULE_LICENSE("GPL");
