/* SPDX-License-Identifier: MIT */
/*
 * The kernel tells no user how often a page is referenced, but it makes no huge page of small
 * ones, and no small ones of a huge page, while anything but the file and its
 * mappings has a reference to any of them. So both are tried, huge page by huge page:
 *
 * - MADV_COLLAPSE makes small pages a huge one. A huge page it leaves as it is, pinned or not.
 * - MADV_COLD of a part of a huge page splits it before all else. (So would punching a hole,
 *   which the seals of a view refuse.)
 * - A new mapping shows whether it was split: what is still huge is mapped as a whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pins.h"

/** Of x86-64 and of arm64 with pages of 4 KiB; others do without. */
#define HUGE_PAGE_SIZE ((size_t)2 << 20)
#define PAGE_SIZE ((size_t)4096)

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

// Since Linux 6.7
#ifndef PAGEMAP_SCAN
#define PAGE_IS_HUGE (1 << 6)
struct page_region {
	uint64_t start, end, categories;
};
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

/** Two huge pages of addresses, of which one is aligned. */
struct window {
	char *reserved; // MAP_FAILED if there is none
	char *data; // the aligned one
	int memfd, pagemap_fd;
};

static bool window_init(struct window *window, int memfd) {
	window->memfd = memfd;
	window->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	window->reserved = mmap(NULL, 2 * HUGE_PAGE_SIZE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (window->reserved != MAP_FAILED) {
		uintptr_t start = (uintptr_t)window->reserved;
		window->data = window->reserved + (HUGE_PAGE_SIZE - start % HUGE_PAGE_SIZE);
	}
	return window->pagemap_fd >= 0 && window->reserved != MAP_FAILED;
}

static void window_finish(struct window *window) {
	if (window->pagemap_fd >= 0) {
		close(window->pagemap_fd);
	}
	if (window->reserved != MAP_FAILED) {
		munmap(window->reserved, 2 * HUGE_PAGE_SIZE);
	}
}

/** Maps a huge page of the file anew: nothing is left of how it was mapped before. */
static bool window_map(const struct window *window, size_t offset) {
	return mmap(window->data, HUGE_PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, window->memfd,
		(off_t)offset) != MAP_FAILED;
}

static bool window_is_huge(const struct window *window) {
	struct page_region region;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uint64_t)(uintptr_t)window->data,
		.end = (uint64_t)(uintptr_t)window->data + PAGE_SIZE,
		.vec = (uint64_t)(uintptr_t)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	return ioctl(window->pagemap_fd, PAGEMAP_SCAN, &scan) == 1;
}

static enum vt_pins window_find_pins(const struct window *window, size_t offset) {
	if (!window_map(window, offset)) {
		return VT_PINS_UNKNOWN;
	}
	if (madvise(window->data, HUGE_PAGE_SIZE, MADV_COLLAPSE) != 0) {
		return errno == EAGAIN ? VT_PINS_SOME : VT_PINS_UNKNOWN;
	}
	// Else what the last look says would prove nothing
	if (!window_is_huge(window) || madvise(window->data, PAGE_SIZE, MADV_COLD) != 0 ||
			!window_map(window, offset) ||
			madvise(window->data, PAGE_SIZE, MADV_POPULATE_READ) != 0) {
		return VT_PINS_UNKNOWN;
	}
	return window_is_huge(window) ? VT_PINS_SOME : VT_PINS_NONE;
}

enum vt_pins vt_pins_find(int borrowed_memfd, size_t *checked) {
	struct stat st;
	if (sysconf(_SC_PAGESIZE) != (long)PAGE_SIZE || fstat(borrowed_memfd, &st) != 0) {
		return VT_PINS_UNKNOWN;
	}
	struct window window;
	enum vt_pins pins = window_init(&window, borrowed_memfd) ? VT_PINS_NONE : VT_PINS_UNKNOWN;
	while (pins == VT_PINS_NONE && *checked < (size_t)st.st_size) {
		// The last one may reach beyond the end of the file
		pins = window_find_pins(&window, *checked);
		*checked += pins == VT_PINS_NONE ? HUGE_PAGE_SIZE : 0;
	}
	window_finish(&window);
	return pins;
}
