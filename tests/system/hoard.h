/* SPDX-License-Identifier: MIT */
#ifndef SYSTEM_HOARD_H
#define SYSTEM_HOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/** Memory that this program keeps, in all of its processes together, until it ends. */
struct hoard {
	atomic_uint pieces; // pieces of memory, each counted once
	atomic_ullong bytes; // the sizes of their files
	atomic_ullong pins; // pages in pipes and sockets
};

/** How memory is kept. */
enum hoard_means {
	HOARD_NOTHING, // the file descriptor is closed
	HOARD_FDS, // it stays open
	HOARD_MAPS, // it is closed, and the memory stays mapped
	HOARD_PIPES, // a byte of each huge page is in a pipe: neither file descriptor nor map
	HOARD_SOCKETS, // the same in sockets
};

/** To be called before the first fork. Ends the program on failure. */
struct hoard *hoard_create(void);
/** Keeps the memory by these means if it can; otherwise it is not counted. Closes the fd. */
void hoard_keep(struct hoard *hoard, int take_fd, enum hoard_means means);

#endif
