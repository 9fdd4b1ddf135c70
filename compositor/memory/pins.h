/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_PINS_H
#define MEMORY_PINS_H

#include <stddef.h>

enum vt_pins {
	VT_PINS_NONE, // there are none, and there can be no new ones
	VT_PINS_SOME, // or the kernel was at the memory just now
	VT_PINS_UNKNOWN, // the kernel does not say: it is before Linux 6.7, or has no huge pages
};

/**
 * Whether anything keeps pages of a memfd alive that no file descriptor, and no mapping of
 * another process, leads to: pages of files can be in pipes (splice), in sockets
 * (sendfile), and pinned for devices and for io_uring. Valid only if such a way to
 * new pins is gone already, which a lease says (F_SETLEASE), and after the last mapping
 * of ours. Needs no privilege, and works on sealed memory, whose content stays.
 *
 * It takes from 50 us to some ms for each 2 MiB, so it is nothing for the event loop.
 * `checked` is how many bytes from the start are known to have no pins: 0 at first, then
 * as the last call left it, so that no part is looked at again in vain.
 */
enum vt_pins vt_pins_find(int borrowed_memfd, size_t *checked);

#endif
