/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hoard.h"
#include "wayland.h"

/** A byte of it keeps all of it. */
#define HUGE_PAGE (2L << 20)
#define TABLE_LEN (1u << 16)

/** Which pieces are counted: shared by the processes. A key of 0 is a free place. */
struct table {
	struct hoard hoard;
	atomic_ullong keys[TABLE_LEN];
};

struct hoard *hoard_create(void) {
	struct table *table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED) {
		die("mmap: %s", strerror(errno));
	}
	return &table->hoard;
}

static void count(struct hoard *hoard, int fd) {
	struct table *table = (struct table *)hoard;
	struct stat st;
	if (fstat(fd, &st) != 0) {
		return;
	}
	unsigned long long key = (unsigned long long)st.st_dev << 48 ^ st.st_ino, free_key = 0;
	for (uint32_t i = 0; i < TABLE_LEN; i++) {
		atomic_ullong *place = &table->keys[(key + i) % TABLE_LEN];
		free_key = 0;
		if (atomic_compare_exchange_strong(place, &free_key, key)) {
			off_t size = lseek(fd, 0, SEEK_END); // a dma-buf's file has no other
			atomic_fetch_add(&hoard->pieces, 1);
			atomic_fetch_add(&hoard->bytes, (unsigned long long)(size > 0 ? size : 0));
			return;
		}
		if (free_key == key) {
			return;
		}
	}
	die("more than %u pieces", TABLE_LEN);
}

static bool keep_map(int fd) {
	off_t size = lseek(fd, 0, SEEK_END);
	void *map = size > 0 ?
		mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (map == MAP_FAILED) {
		return false;
	}
	for (off_t i = 0; i < size; i += 4096) {
		(void)*((const volatile uint8_t *)map + i);
	}
	return true;
}

/* Pipes and sockets: the end that is written, until it is full. Nothing reads the other one. */

static int open_pipe(void) {
	int fds[2];
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
		return -1;
	}
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20); // as much as any user may have
	return fds[1];
}

/** Over TCP, which bounds bytes and not the pages that they are in. */
static int open_socket(void) {
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || sender < 0 || listen(listener, 1) != 0 ||
			getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
			connect(sender, (struct sockaddr *)&address, len) != 0 ||
			fcntl(sender, F_SETFL, O_NONBLOCK) != 0) {
		close(listener);
		close(sender);
		return -1;
	}
	return sender; // the listener stays: what it has not accepted stays connected
}

static bool put(enum hoard_means means, int into, int fd, off_t offset) {
	return means == HOARD_PIPES ?
		splice(fd, &offset, into, NULL, 1, SPLICE_F_NONBLOCK) == 1 :
		sendfile(into, fd, &offset, 1) == 1;
}

static bool keep_pins(struct hoard *hoard, int fd, enum hoard_means means) {
	static int ends[2] = { -1, -1 };
	int *into = &ends[means == HOARD_PIPES];
	off_t size = lseek(fd, 0, SEEK_END);
	for (off_t offset = 0; offset < size; offset += HUGE_PAGE) {
		if (*into >= 0 && put(means, *into, fd, offset)) {
			atomic_fetch_add(&hoard->pins, 1);
			continue;
		}
		int fresh = means == HOARD_PIPES ? open_pipe() : open_socket();
		if (fresh < 0 || !put(means, fresh, fd, offset)) {
			close(fresh);
			return offset > 0; // what is in there is kept
		}
		*into = fresh;
		atomic_fetch_add(&hoard->pins, 1);
	}
	return true;
}

void hoard_keep(struct hoard *hoard, int take_fd, enum hoard_means means) {
	bool is_kept = false;
	switch (means) {
	case HOARD_NOTHING:
		break;
	case HOARD_FDS:
		is_kept = true;
		break;
	case HOARD_MAPS:
		is_kept = keep_map(take_fd);
		break;
	case HOARD_PIPES:
	case HOARD_SOCKETS:
		is_kept = keep_pins(hoard, take_fd, means);
		break;
	}
	if (is_kept) {
		count(hoard, take_fd);
	}
	if (means != HOARD_FDS) {
		close(take_fd);
	}
}
