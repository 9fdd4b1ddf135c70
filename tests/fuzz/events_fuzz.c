/* SPDX-License-Identifier: MIT */
/*
 * Made-up events into the client library, which reads every byte that it is shown: what
 * passes its checks must be there, and must not be more than was accepted.
 *
 * One thread plays both sides. The library waits in poll(): then the other side answers
 * what has to be answered, and where there is no more to say, hangs up.
 */
#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vitrine-client/client.h>
#include <wayland-client-protocol.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fuzz.h"
#include "harness.h"
#include "wire.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

enum { WIDTH = 64, HEIGHT = 32, HELD_CAP = 8 };

/** Events of libwayland that its headers have for servers alone. */
enum { DISPLAY_DELETE_ID = 1, REGISTRY_GLOBAL = 0, CALLBACK_DONE = 0, OUTPUT_DONE = 2 };

/** What a step does that is no event; the numbers follow STEP_MESSAGES. */
enum action { SESSION, NEXT_FRAME, RELEASE, END_SESSION, DISPATCH, ANNOUNCE, FRAME, RAW, ADD_GLOBAL,
	N_ACTIONS };

struct bed {
	struct wire wire;
	struct vitrine_client *client; // NULL while it connects
	struct vitrine_session *session; // NULL if there is none
	uint32_t acceptable, storages; // of the session
	struct vitrine_frame *held[HELD_CAP];
	size_t n_held;
	uint32_t registry, serial;
	bool is_mute; // does not answer
};

static struct bed *current;

/* The compositor */

/** Memory for a view, honest if the number is 0. */
static int make_fd(uint32_t kind, const struct step *step) {
	const int honest = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	static const int seals[] = { honest, honest, F_SEAL_SHRINK, honest & ~F_SEAL_SHRINK, 0,
		honest | F_SEAL_WRITE };
	int ends[2];
	if (kind % 8 == 7) {
		fuzz_must(pipe2(ends, O_CLOEXEC) == 0);
		close(ends[1]);
		return ends[0];
	}
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fuzz_must(ftruncate(fd, kind % 8 == 1 ? step->args[7] % 65536 : WIDTH * HEIGHT * 4) == 0);
	(void)fcntl(fd, F_ADD_SEALS, seals[kind % 6]);
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int read_only_fd = open(path, (kind % 8 == 6 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	fuzz_must(read_only_fd >= 0);
	close(fd);
	return read_only_fd;
}

static void say_global(struct bed *bed, uint32_t name, const struct wl_interface *interface,
		uint32_t version) {
	uint32_t words[14] = { name, (uint32_t)strlen(interface->name) + 1 };
	size_t n_words = (words[1] + 3) / 4;
	memcpy(&words[2], interface->name, words[1]);
	words[2 + n_words] = version;
	fuzz_must(n_words < 12);
	uint32_t message[16] = { bed->registry, (uint32_t)(5 + n_words) << 18 | REGISTRY_GLOBAL };
	memcpy(&message[2], words, (3 + n_words) * 4);
	wire_send_raw(&bed->wire, message, (5 + n_words) * 4, NULL, 0);
}

/** libwayland makes none of wl_registry.bind: its signature has the interface as a string. */
static const struct wl_interface *interface_of(uint32_t name) {
	static const struct wl_interface *const interfaces[] = {
		&xx_dmabuf_view_manager_v1_interface,
		&ext_output_image_capture_source_manager_v1_interface,
		&wl_output_interface,
	};
	return interfaces[name < 2 ? name : 2];
}

static void bed_receive(struct wire *wire, const struct wire_object *object, uint32_t opcode,
		const uint32_t *words, size_t n_words, uint32_t new_id) {
	struct bed *bed = current;
	if (object->interface == &wl_display_interface && opcode == 1) {
		bed->registry = new_id;
		say_global(bed, 0, interface_of(0), 1);
		say_global(bed, 1, interface_of(1), 1);
		say_global(bed, 2, interface_of(2), 4);
	} else if (object->interface == &wl_display_interface && opcode == 0 && !bed->is_mute) {
		wire_send_words(wire, new_id, CALLBACK_DONE, (const uint32_t[]){ 0 }, 1);
		wire_send_words(wire, 1, DISPLAY_DELETE_ID, &new_id, 1);
		wire_remove(wire, new_id);
	} else if (strcmp(object->interface->name, "wl_registry") == 0 && n_words >= 1) {
		wire_add(wire, interface_of(words[0]), words[n_words - 1]);
		if (interface_of(words[0]) == &wl_output_interface) {
			wire_send_words(wire, words[n_words - 1], OUTPUT_DONE, words, 0);
		}
	}
}

int __real_poll(struct pollfd *fds, nfds_t n_fds, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int timeout) {
	if (current == NULL || timeout == 0) {
		return __real_poll(fds, n_fds, 0);
	}
	wire_receive(&current->wire);
	int ret = __real_poll(fds, n_fds, 0);
	if (ret == 0) { // nothing more to say
		shutdown(current->wire.fd, SHUT_RDWR);
		ret = __real_poll(fds, n_fds, 0);
	}
	return ret;
}

static uint32_t find_session(struct bed *bed) {
	for (size_t i = bed->wire.n_objects; i > 0; i--) {
		if (bed->wire.objects[i - 1].interface == &xx_dmabuf_view_session_v1_interface ||
				strcmp(bed->wire.objects[i - 1].interface->name,
				xx_dmabuf_view_session_v1_interface.name) == 0) {
			return bed->wire.objects[i - 1].id;
		}
	}
	return 0;
}

/** All that an honest compositor says of a view, but for what the step has else. */
static void bed_announce(struct bed *bed, const struct step *step) {
	uint32_t id = find_session(bed), index = step->args[0] % 8;
	uint32_t storage = step->args[1] & VITRINE_STORAGE_ALL, guarantee = step->args[2];
	if (storage == 0) {
		storage = VITRINE_STORAGE_MEMFD;
		guarantee = VITRINE_GUARANTEE_SEALED;
	}
	wire_send_words(&bed->wire, id, 0, (const uint32_t[]){ 2 }, step->args[3] & 1);
	wire_send_words(&bed->wire, id, 4, (const uint32_t[]){ index, storage, WIDTH,
		HEIGHT + step->args[4] % 2, DRM_FORMAT_XRGB8888, 0, 0, guarantee }, 8);
	int fd = make_fd(step->extra, step);
	const uint32_t plane[] = { id, 24 << 16 | 6, index, 0, 0, WIDTH * 4 };
	wire_send_raw(&bed->wire, plane, sizeof(plane), &fd, 1);
	close(fd);
	wire_send_words(&bed->wire, id, 7, &index, 1);
}

static void bed_say_frame(struct bed *bed, const struct step *step) {
	uint32_t id = find_session(bed);
	wire_send_words(&bed->wire, id, 10, (const uint32_t[]){ step->args[1] % 9 },
		bed->serial == 0 || step->args[1] != 0);
	wire_send_words(&bed->wire, id, 12, (const uint32_t[]){ step->args[0] % 8, ++bed->serial, 0,
		1, 1, step->args[2] % 65, step->args[3] % 33, step->args[4] % 65, step->args[5] % 33 }, 9);
}

/* The client */

static volatile uint8_t sink;

static void read_plane(const struct vitrine_frame_info *info, const uint8_t *pixels) {
	fuzz_must(pixels != NULL);
	for (uint32_t y = 0; y < info->height; y++) { // a SIGBUS or a fault if it is not there
		sink ^= pixels[(size_t)y * info->strides[0]];
	}
	sink ^= pixels[(size_t)(info->height - 1) * info->strides[0] + (size_t)info->width * 2 - 1];
}

static void check_frame(struct bed *bed, struct vitrine_frame *frame) {
	const struct vitrine_frame_info *info = vitrine_frame_get_info(frame);
	fuzz_must(info->guarantee & bed->acceptable && info->storage & bed->storages);
	fuzz_must(info->width > 0 && info->height > 0 && info->serial != 0);
	fuzz_must(info->n_planes >= 1 && info->n_planes <= 4 && info->time.tv_nsec < 1000000000);
	for (size_t i = 0; i < info->n_damage; i++) {
		const struct vitrine_rect *rect = &info->damage[i];
		fuzz_must((uint64_t)rect->x + rect->width <= info->width);
		fuzz_must((uint64_t)rect->y + rect->height <= info->height);
	}
	if (info->storage & VITRINE_STORAGE_CPU) {
		read_plane(info, vitrine_frame_get_pixels(frame, 0));
	}
	vitrine_frame_is_revoked(frame);
}

static void bed_release(struct bed *bed, size_t n) {
	if (bed->n_held > 0) {
		n %= bed->n_held;
		struct vitrine_frame *frame = bed->held[n];
		bed->held[n] = bed->held[--bed->n_held];
		check_frame(bed, frame);
		vitrine_frame_release(frame);
	}
}

static void bed_next_frame(struct bed *bed) {
	struct vitrine_frame *frame = NULL;
	if (bed->session == NULL || bed->n_held == HELD_CAP) {
		return;
	}
	int ret = vitrine_session_next_frame(bed->session, 0, &frame);
	fuzz_must((ret == 1) == (frame != NULL) && ret <= 1);
	if (frame != NULL) {
		check_frame(bed, frame);
		bed->held[bed->n_held++] = frame;
	}
}

static void bed_end_session(struct bed *bed) {
	vitrine_session_destroy(bed->session); // frees what is held of it
	bed->session = NULL;
	bed->n_held = 0;
	bed->serial = 0;
}

static void bed_start_session(struct bed *bed, const struct step *step) {
	static const struct vitrine_format formats[] = {
		{ .device = 1, .fourcc = DRM_FORMAT_XRGB8888 },
		{ .device = 2, .fourcc = DRM_FORMAT_NV12, .modifier = 1 },
	};
	const struct vitrine_session_options options = {
		.acceptable = step->args[0] & VITRINE_GUARANTEE_ALL,
		.storages = step->args[1] & VITRINE_STORAGE_ALL,
		.formats = formats,
		.n_formats = step->args[1] & VITRINE_STORAGE_DMABUF ? 2 : 0,
		.paint_cursors = step->args[2] & 1,
		.implicit_release = step->args[2] & 2,
	};
	bed_end_session(bed);
	struct vitrine_output *output = vitrine_client_find_output(bed->client, NULL);
	if (output != NULL &&
			vitrine_session_create(vitrine_output_get_source(output), &options,
			&bed->session) < 0) {
		bed->session = NULL;
	}
	bed->acceptable = options.acceptable != 0 ? options.acceptable : VITRINE_GUARANTEE_ALL;
	bed->storages = options.storages != 0 ? options.storages : VITRINE_STORAGE_CPU;
	vitrine_client_dispatch(bed->client, 0); // sends what it has to say
	wire_receive(&bed->wire);
}

static void bed_run_step(void *data, const struct step *step) {
	struct bed *bed = data;
	if (step->action < STEP_MESSAGES) {
		wire_send(&bed->wire, step);
		return;
	}
	switch ((step->action - STEP_MESSAGES) % N_ACTIONS) {
	case SESSION:
		bed_start_session(bed, step);
		break;
	case NEXT_FRAME:
		bed_next_frame(bed);
		break;
	case RELEASE:
		bed_release(bed, step->args[0]);
		break;
	case END_SESSION:
		bed_end_session(bed);
		break;
	case DISPATCH:
		vitrine_client_dispatch(bed->client, 0);
		wire_receive(&bed->wire);
		break;
	case ANNOUNCE:
		bed_announce(bed, step);
		break;
	case FRAME:
		bed_say_frame(bed, step);
		break;
	case RAW:
		wire_send_raw(&bed->wire, step->args, step->extra % sizeof(step->args), NULL, 0);
		break;
	case ADD_GLOBAL:
		say_global(bed, step->args[0] % 16, interface_of(step->args[1] % 3),
			step->args[2] % 8);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
	int n_fds = harness_count_fds(), ends[2];
	fuzz_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	struct bed bed = {
		.wire = { .fd = ends[0], .is_server = true, .make_fd = make_fd, .receive = bed_receive },
		.is_mute = len > 3 && data[3] == 0xff,
	};
	wire_add(&bed.wire, &wl_display_interface, 1);
	current = &bed;
	char *error = NULL;
	if (vitrine_client_connect_to_fd(ends[1], &bed.client, &error) == 0) {
		struct step first = { .args = { 0 } };
		bed_start_session(&bed, &first);
		steps_run(data, len, bed_run_step, &bed);
		vitrine_client_dispatch(bed.client, 0);
		bed_next_frame(&bed);
	}
	free(error);
	vitrine_client_destroy(bed.client);
	current = NULL;
	close(ends[0]);
	fuzz_must(harness_count_fds() == n_fds);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed) {
	return steps_mutate(data, len, cap, seed);
}
