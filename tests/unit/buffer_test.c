/* SPDX-License-Identifier: MIT */
/* Deriving from a buffer is asked once, and its result is kept. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "buffer.h"
#include "harness.h"

#define SEALED VITRINE_GUARANTEE_SEALED
#define GUARDED VITRINE_GUARANTEE_GUARDED
#define FD_READ_ONLY VITRINE_GUARANTEE_FD_READ_ONLY

/* What stands in for the machine, and counts */

static uint32_t available;
static int error; // instead, if not 0
static unsigned n_derived;
static unsigned failing_plane; // the last one of so many fails; 0 if none does

int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	n_derived++;
	derived->fd = -1;
	uint32_t possible = acceptable & available;
	if (source->dmabuf_first_export_read_only) {
		possible |= acceptable & FD_READ_ONLY;
	}
	if (error != 0 || possible == 0) {
		return error != 0 ? error : -EOPNOTSUPP;
	}
	derived->guarantee = possible & SEALED ? SEALED : possible & GUARDED ? GUARDED : FD_READ_ONLY;
	derived->storage =
		possible & SEALED ? VITRINE_STORAGE_MEMFD : VITRINE_STORAGE_DMABUF;
	derived->fd = failing_plane != 0 && n_derived % failing_plane == 0 ? -1 : eventfd(0, EFD_CLOEXEC);
	return derived->fd < 0 ? -EMFILE : 0;
}

static void kind_destroy(struct vt_buffer *buffer) {
}

static bool kind_get_derive_source(const struct vt_buffer *buffer, int plane,
		bool is_scanned_out, struct vitrine_derive_source *source) {
	*source = (struct vitrine_derive_source){
		.dmabuf_first_export_read_only = !is_scanned_out && buffer->size > 0,
	};
	return true;
}

static const struct vt_buffer_kind kind = {
	.base.destroy = vt_buffer_handle_destroy,
	.destroy = kind_destroy,
	.get_derive_source = kind_get_derive_source,
};

struct buffer_fixture {
	struct vt_buffer buffer;
};

struct buffer_fixture_options {
	uint32_t available;
	bool is_prime; // fd_read_only as well, unless it is scanned out
	int n_planes; // 1 if it is 0
};

static void buffer_fixture_set_up(struct buffer_fixture *f,
		const struct buffer_fixture_options *options) {
	available = options->available;
	f->buffer = (struct vt_buffer){ .size = options->is_prime };
	vt_buffer_init(&f->buffer, &kind, 1, 1);
	f->buffer.dmabuf.n_planes = options->n_planes > 0 ? options->n_planes : 1;
	for (int i = 0; i < f->buffer.dmabuf.n_planes; i++) {
		f->buffer.dmabuf.fd[i] = eventfd(0, EFD_CLOEXEC);
	}
	check(vt_buffer_try_from_buffer(&f->buffer.base) == &f->buffer);
}

static void buffer_fixture_tear_down(struct buffer_fixture *f) {
	wlr_buffer_drop(&f->buffer.base); // the harness sees a file descriptor that is left
}

/** A session that looks whether it can have the buffer and has it announced then: its guarantee. */
static uint32_t announce(struct buffer_fixture *f, uint32_t acceptable) {
	struct vt_view_fds fds;
	bool can = vt_buffer_can_derive(&f->buffer, NULL, acceptable, false);
	bool has = vt_buffer_derive(&f->buffer, NULL, acceptable, false, &fds);
	check(can == has);
	check(has == (fds.n_planes > 0));
	int n_fds = harness_count_fds();
	int n_planes = fds.n_planes;
	vt_view_fds_finish(&fds);
	check_int(harness_count_fds(), ==, n_fds - n_planes);
	return has ? fds.guarantee : 0;
}

TEST_WITH(buffer_fixture, sealed_memfd_is_derived_once_for_all, SEALED | GUARDED) {
	for (int i = 0; i < 3; i++) {
		check_int(announce(f, SEALED | FD_READ_ONLY), ==, SEALED);
	}
	check_int(n_derived, ==, 1);
}

/** A holder can make that it is not derived again: it need not be. */
TEST_WITH(buffer_fixture, sealed_memfd_is_kept_for_those_who_accept_more, SEALED | GUARDED) {
	check_int(announce(f, SEALED), ==, SEALED);
	error = -EACCES;
	check_int(announce(f, GUARDED | SEALED), ==, SEALED);
	check_int(announce(f, FD_READ_ONLY | GUARDED | SEALED), ==, SEALED);
	check_int(n_derived, ==, 1);
	error = 0;
}

TEST_WITH(buffer_fixture, dmabuf_is_derived_once_for_each_session, GUARDED) {
	for (unsigned i = 1; i < 4; i++) {
		check_int(announce(f, SEALED | GUARDED), ==, GUARDED);
		check_int(n_derived, ==, i);
	}
}

TEST_WITH(buffer_fixture, best_guarantee_is_given_to_each_session, SEALED | GUARDED) {
	for (uint32_t asked = 2; asked < 16; asked += 2) {
		for (uint32_t acceptable = 2; acceptable < 16; acceptable += 2) {
			// By a session that is never sent a frame in the buffer
			vt_buffer_can_derive(&f->buffer, NULL, asked, false);
			uint32_t possible = acceptable & available;
			check_int(announce(f, acceptable), ==, possible & SEALED ? SEALED : possible);
		}
	}
}

TEST_WITH(buffer_fixture, what_cannot_be_derived_is_not_tried_again, 0) {
	for (int i = 0; i < 3; i++) {
		check_int(announce(f, SEALED | GUARDED), ==, 0);
	}
	check_int(announce(f, GUARDED), ==, 0);
	check_int(n_derived, ==, 1);
}

TEST_WITH(buffer_fixture, error_that_may_go_away_is_tried_again, SEALED) {
	error = -EMFILE;
	check_int(announce(f, SEALED), ==, 0);
	error = 0;
	check_int(announce(f, SEALED), ==, SEALED);
}

TEST_WITH(buffer_fixture, nothing_is_kept_of_memory_that_retires_or_is_replaced, SEALED) {
	check_int(announce(f, SEALED), ==, SEALED);
	int n_fds = harness_count_fds();
	vt_buffer_retire(&f->buffer);
	check_int(harness_count_fds(), ==, n_fds - 1);
	check_int(announce(f, SEALED), ==, SEALED); // it has not changed yet
	vt_buffer_set_fresh(&f->buffer);
	check_int(harness_count_fds(), ==, n_fds - 1);
	check(!f->buffer.retired && f->buffer.generation == 1);
}

TEST_WITH(buffer_fixture, first_export_is_not_given_of_what_is_scanned_out, .is_prime = true) {
	check_int(announce(f, FD_READ_ONLY), ==, FD_READ_ONLY);
	check(vt_buffer_can_derive(&f->buffer, NULL, FD_READ_ONLY, false)); // and is kept
	struct vt_view_fds fds;
	check(!vt_buffer_derive(&f->buffer, NULL, FD_READ_ONLY, true, &fds));
	check_int(announce(f, FD_READ_ONLY), ==, FD_READ_ONLY);
}

TEST_WITH(buffer_fixture, each_plane_has_a_file_descriptor, GUARDED, .n_planes = 3) {
	struct vt_view_fds fds;
	check(vt_buffer_derive(&f->buffer, NULL, GUARDED, false, &fds));
	check_int(fds.n_planes, ==, 3);
	check_int(n_derived, ==, 3);
	struct vt_view_fds copy;
	check(vt_view_fds_copy(&fds, &copy));
	check_int(copy.n_planes, ==, 3);
	vt_view_fds_finish(&copy);
	check_int(copy.n_planes, ==, 0);
	vt_view_fds_finish(&fds);
}

TEST_WITH(buffer_fixture, no_plane_is_left_of_one_that_cannot_be_derived, GUARDED,
		.n_planes = 3) {
	failing_plane = 3;
	int n_fds = harness_count_fds();
	check_int(announce(f, GUARDED), ==, 0); // looked twice
	check_int(harness_count_fds(), ==, n_fds);
}

TEST_WITH(buffer_fixture, guard_of_gpu_memory_is_not_for_clients_that_cannot_choose, GUARDED) {
	struct vt_reader reader = {
		.storages = VITRINE_STORAGE_DMABUF,
		.takes_any_dmabuf = true,
	};
	f->buffer.is_mapped_dmabuf = true;
	check_int(vt_buffer_get_readable(&f->buffer, &reader), ==, GUARDED | FD_READ_ONLY);
	f->buffer.is_mapped_dmabuf = false;
	check_int(vt_buffer_get_readable(&f->buffer, &reader), ==, FD_READ_ONLY);
}
