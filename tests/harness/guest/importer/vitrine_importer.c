// SPDX-License-Identifier: GPL-2.0
/* See vitrine_importer.h. */

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "vitrine_importer.h"

#ifndef IMPORTER_HAVE_INVALIDATE_MAPPINGS
#define invalidate_mappings move_notify
#define dma_buf_invalidate_mappings dma_buf_move_notify
#endif

static struct miscdevice importer_misc;

/* What one open file has imported. */
struct importer {
	struct mutex lock;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *table;
	enum dma_data_direction direction;
	unsigned int moves;
};

static void importer_moved(struct dma_buf_attachment *attach)
{
	struct importer *importer = attach->importer_priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	importer->moves++;
}

static const struct dma_buf_attach_ops importer_attach_ops = {
	.invalidate_mappings = importer_moved,
};

static const struct dma_buf_attach_ops importer_peer_attach_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = importer_moved,
};

static struct dma_buf *importer_get(const struct vitrine_importer_attach *params)
{
	if (!(params->flags & VITRINE_IMPORTER_READER))
		return dma_buf_get(params->fd);
#ifdef IMPORTER_HAVE_ACCESS
	{
		enum dma_buf_access access;

		return dma_buf_get_access(params->fd, &access);
	}
#else
	return ERR_PTR(-EOPNOTSUPP);
#endif
}

static int importer_attach(struct importer *importer, void __user *udata)
{
	struct vitrine_importer_attach params;
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;

	if (copy_from_user(&params, udata, sizeof(params)))
		return -EFAULT;
	if (importer->dmabuf)
		return -EBUSY;

	dmabuf = importer_get(&params);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	if (params.flags & VITRINE_IMPORTER_DYNAMIC)
		attach = dma_buf_dynamic_attach(dmabuf, importer_misc.this_device,
						params.flags & VITRINE_IMPORTER_PEER ?
							&importer_peer_attach_ops :
							&importer_attach_ops,
						importer);
	else
		attach = dma_buf_attach(dmabuf, importer_misc.this_device);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}

	importer->dmabuf = dmabuf;
	importer->attach = attach;
	importer->moves = 0;
	return 0;
}

static int importer_map(struct importer *importer, unsigned long direction)
{
	struct sg_table *table;

	if (direction > DMA_FROM_DEVICE)
		return -EINVAL;
	if (!importer->attach || importer->table)
		return -EBUSY;

	table = dma_buf_map_attachment_unlocked(importer->attach, direction);
	if (IS_ERR(table))
		return PTR_ERR(table);

	importer->table = table;
	importer->direction = direction;
	return 0;
}

static int importer_unmap(struct importer *importer)
{
	if (!importer->table)
		return -EINVAL;

	dma_buf_unmap_attachment_unlocked(importer->attach, importer->table,
					  importer->direction);
	importer->table = NULL;
	return 0;
}

static int importer_detach(struct importer *importer)
{
	if (!importer->attach)
		return -EINVAL;

	importer_unmap(importer);
	dma_buf_detach(importer->dmabuf, importer->attach);
	dma_buf_put(importer->dmabuf);
	importer->attach = NULL;
	importer->dmabuf = NULL;
	return 0;
}

static int importer_store(struct importer *importer, unsigned long value)
{
	struct iosys_map map;
	int ret;

	if (!importer->dmabuf)
		return -EINVAL;

	ret = dma_buf_vmap_unlocked(importer->dmabuf, &map);
	if (ret)
		return ret;
	iosys_map_wr(&map, 0, u8, value);
	dma_buf_vunmap_unlocked(importer->dmabuf, &map);
	return 0;
}

/* The exporter. Nothing is really moved: what counts is who is told. */
struct buffer {
	/* Protected by the reservation object. */
	int pins;
	int mappings;
	atomic_t syncs;
	atomic_t maps;
	unsigned int count;
	struct page *pages[];
};

static int buffer_pin(struct dma_buf_attachment *attach)
{
	struct buffer *buffer = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	buffer->pins++;
	return 0;
}

static void buffer_unpin(struct dma_buf_attachment *attach)
{
	struct buffer *buffer = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	WARN_ON(buffer->pins-- <= 0);
}

static struct sg_table *buffer_map(struct dma_buf_attachment *attach,
				   enum dma_data_direction direction)
{
	struct sg_table *table __free(kfree) = kzalloc(sizeof(*table), GFP_KERNEL);
	struct buffer *buffer = attach->dmabuf->priv;
	int ret;

	dma_resv_assert_held(attach->dmabuf->resv);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table_from_pages(table, buffer->pages, buffer->count, 0,
					buffer->count << PAGE_SHIFT, GFP_KERNEL);
	if (ret)
		return ERR_PTR(ret);
	ret = dma_map_sgtable(attach->dev, table, direction, 0);
	if (ret) {
		sg_free_table(table);
		return ERR_PTR(ret);
	}
	buffer->mappings++;
	return_ptr(table);
}

static void buffer_unmap(struct dma_buf_attachment *attach, struct sg_table *table,
			 enum dma_data_direction direction)
{
	struct buffer *buffer = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	dma_unmap_sgtable(attach->dev, table, direction, 0);
	sg_free_table(table);
	kfree(table);
	WARN_ON(buffer->mappings-- <= 0);
}

static int buffer_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct buffer *buffer = dmabuf->priv;

	return vm_map_pages(vma, buffer->pages, buffer->count);
}

/* Like ttm_bo_vm_access(), it does what it is told. */
static int pageless_access(struct vm_area_struct *vma, unsigned long address,
			   void *data, int len, int write)
{
	struct buffer *buffer = vma->vm_private_data;
	unsigned long offset = address - vma->vm_start + (vma->vm_pgoff << PAGE_SHIFT);
	unsigned long in_page = offset_in_page(offset);
	char *bytes;

	len = min_t(unsigned long, len, PAGE_SIZE - in_page);
	bytes = kmap_local_page(buffer->pages[offset >> PAGE_SHIFT]);
	if (write)
		memcpy(bytes + in_page, data, len);
	else
		memcpy(data, bytes + in_page, len);
	kunmap_local(bytes);
	return len;
}

static void pageless_open(struct vm_area_struct *vma)
{
	struct buffer *buffer = vma->vm_private_data;

	atomic_inc(&buffer->maps);
}

static void pageless_close(struct vm_area_struct *vma)
{
	struct buffer *buffer = vma->vm_private_data;

	atomic_dec(&buffer->maps);
}

static const struct vm_operations_struct pageless_vm_ops = {
	.access = pageless_access,
	.open = pageless_open,
	.close = pageless_close,
};

static int pageless_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct buffer *buffer = dmabuf->priv;
	unsigned long i, count = vma_pages(vma);
	int ret = 0;

	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND);
	for (i = 0; ret == 0 && i < count; i++)
		ret = remap_pfn_range(vma, vma->vm_start + i * PAGE_SIZE,
				      page_to_pfn(buffer->pages[vma->vm_pgoff + i]),
				      PAGE_SIZE, vma->vm_page_prot);
	if (ret)
		return ret;
	vma->vm_private_data = buffer;
	vma->vm_ops = &pageless_vm_ops;
	pageless_open(vma);
	return 0;
}

static int buffer_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct buffer *buffer = dmabuf->priv;

	atomic_inc(&buffer->syncs);
	return 0;
}

static void buffer_free(struct buffer *buffer)
{
	while (buffer->count > 0)
		__free_page(buffer->pages[--buffer->count]);
	kfree(buffer);
}

static void buffer_release(struct dma_buf *dmabuf)
{
	struct buffer *buffer = dmabuf->priv;

	WARN_ON(buffer->pins || buffer->mappings || atomic_read(&buffer->maps));
	buffer_free(buffer);
}

static const struct dma_buf_ops buffer_ops = {
	.pin = buffer_pin,
	.unpin = buffer_unpin,
	.map_dma_buf = buffer_map,
	.unmap_dma_buf = buffer_unmap,
	.mmap = buffer_mmap,
	.begin_cpu_access = buffer_cpu_access,
	.end_cpu_access = buffer_cpu_access,
	.release = buffer_release,
};

static const struct dma_buf_ops pageless_ops = {
	.map_dma_buf = buffer_map,
	.unmap_dma_buf = buffer_unmap,
	.mmap = pageless_mmap,
	.begin_cpu_access = buffer_cpu_access,
	.end_cpu_access = buffer_cpu_access,
	.release = buffer_release,
};

static int buffer_export(unsigned long arg)
{
	unsigned long count = arg & ~(unsigned long)VITRINE_IMPORTER_PAGELESS;
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct dma_buf *dmabuf;
	struct buffer *buffer;
	int fd;

	if (count == 0 || count > 1024)
		return -EINVAL;

	buffer = kzalloc(struct_size(buffer, pages, count), GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	for (; buffer->count < count; buffer->count++) {
		buffer->pages[buffer->count] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!buffer->pages[buffer->count]) {
			buffer_free(buffer);
			return -ENOMEM;
		}
	}

	exp_info.ops = arg & VITRINE_IMPORTER_PAGELESS ? &pageless_ops : &buffer_ops;
	exp_info.size = count << PAGE_SHIFT;
	exp_info.flags = O_RDWR;
	exp_info.priv = buffer;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf)) {
		buffer_free(buffer);
		return PTR_ERR(dmabuf);
	}

	fd = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(dmabuf);
	return fd;
}

static struct dma_buf *buffer_get(int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (!IS_ERR(dmabuf) && dmabuf->ops != &buffer_ops && dmabuf->ops != &pageless_ops) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EINVAL);
	}
	return dmabuf;
}

static int buffer_move(int fd)
{
	struct dma_buf *dmabuf = buffer_get(fd);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	dma_resv_lock(dmabuf->resv, NULL);
	dma_buf_invalidate_mappings(dmabuf);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_put(dmabuf);
	return 0;
}

static int importer_state(struct importer *importer, void __user *udata)
{
	struct vitrine_importer_state params;
	struct dma_buf *dmabuf;
	struct buffer *buffer;

	if (copy_from_user(&params, udata, sizeof(params)))
		return -EFAULT;
	dmabuf = buffer_get(params.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	buffer = dmabuf->priv;
	dma_resv_lock(dmabuf->resv, NULL);
	params.pins = buffer->pins;
	params.mappings = buffer->mappings;
	params.syncs = atomic_read(&buffer->syncs);
	params.maps = atomic_read(&buffer->maps);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_put(dmabuf);
	params.moves = importer->moves;
	return copy_to_user(udata, &params, sizeof(params)) ? -EFAULT : 0;
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *importer = file->private_data;
	void __user *udata = (void __user *)arg;

	guard(mutex)(&importer->lock);
	switch (cmd) {
	case VITRINE_IMPORTER_ATTACH:
		return importer_attach(importer, udata);
	case VITRINE_IMPORTER_DETACH:
		return importer_detach(importer);
	case VITRINE_IMPORTER_MAP:
		return importer_map(importer, arg);
	case VITRINE_IMPORTER_UNMAP:
		return importer_unmap(importer);
	case VITRINE_IMPORTER_STORE:
		return importer_store(importer, arg);
	case VITRINE_IMPORTER_EXPORT:
		return buffer_export(arg);
	case VITRINE_IMPORTER_MOVE:
		return buffer_move(arg);
	case VITRINE_IMPORTER_STATE:
		return importer_state(importer, udata);
	default:
		return -ENOTTY;
	}
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = kzalloc(sizeof(*importer), GFP_KERNEL);

	if (!importer)
		return -ENOMEM;
	mutex_init(&importer->lock);
	file->private_data = importer;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *importer = file->private_data;

	importer_detach(importer);
	kfree(importer);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vitrine_importer",
	.fops = &importer_fops,
};

static int __init importer_init(void)
{
	int ret = misc_register(&importer_misc);

	if (ret)
		return ret;
	ret = dma_coerce_mask_and_coherent(importer_misc.this_device, DMA_BIT_MASK(64));
	if (ret)
		misc_deregister(&importer_misc);
	return ret;
}
module_init(importer_init);

static void __exit importer_exit(void)
{
	misc_deregister(&importer_misc);
}
module_exit(importer_exit);

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
MODULE_DESCRIPTION("Imports dma-bufs for the tests of Vitrine");
MODULE_AUTHOR("The Vitrine authors");
MODULE_LICENSE("GPL");
