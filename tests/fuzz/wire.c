/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "wire.h"

enum { MESSAGE_CAP = 4096, FDS_CAP = 8, STRING_CAP = 700, HEADER = 8 };

/** A message as it is made. */
struct message {
	uint32_t words[MESSAGE_CAP / 4];
	size_t len; // in words
	int fds[FDS_CAP];
	size_t n_fds;
};

/* Objects */

void wire_add(struct wire *wire, const struct wl_interface *interface, uint32_t id) {
	if (wire->n_objects < WIRE_OBJECTS_CAP && interface != NULL) {
		wire->objects[wire->n_objects++] = (struct wire_object){ interface, id };
	}
}

void wire_remove(struct wire *wire, uint32_t id) {
	for (size_t i = 0; i < wire->n_objects; i++) {
		if (wire->objects[i].id == id) {
			wire->objects[i] = wire->objects[--wire->n_objects];
			return;
		}
	}
}

const struct wire_object *wire_find(const struct wire *wire, uint32_t id) {
	for (size_t i = 0; i < wire->n_objects; i++) {
		if (wire->objects[i].id == id) {
			return &wire->objects[i];
		}
	}
	return NULL;
}

/** The n-th object of an interface in most cases; any number if its high bit is set. */
static uint32_t wire_pick(const struct wire *wire, const struct wl_interface *interface,
		uint32_t n) {
	uint32_t ids[WIRE_OBJECTS_CAP], n_ids = 0;
	for (size_t i = 0; i < wire->n_objects; i++) {
		if (interface == NULL || strcmp(wire->objects[i].interface->name, interface->name) == 0) {
			ids[n_ids++] = wire->objects[i].id;
		}
	}
	return n & 0x80000000u || n_ids == 0 ? n & 0x7fffffff : ids[n % n_ids];
}

static bool is_destructor(const struct wl_message *message) {
	return message->signature[0] == '\0' &&
		(strcmp(message->name, "destroy") == 0 || strcmp(message->name, "release") == 0);
}

/* Sending */

static void message_add(struct message *message, uint32_t word) {
	if (message->len < MESSAGE_CAP / 4) {
		message->words[message->len++] = word;
	}
}

/** So many bytes, of two words again and again, padded. */
static void message_add_bytes(struct message *message, size_t len, const uint32_t *pattern) {
	for (size_t i = 0; i < (len + 3) / 4; i++) {
		message_add(message, pattern[i % 2]);
	}
}

/** A string: its length, and two words of which it is made. */
static void message_add_string(struct message *message, const uint32_t *args) {
	size_t len = args[0] % STRING_CAP;
	uint8_t pattern[8], text[STRING_CAP + 4] = {0};
	memcpy(pattern, &args[1], sizeof(pattern));
	for (size_t i = 0; i < len; i++) {
		text[i] = pattern[i % 8] != 0 ? pattern[i % 8] : '.';
	}
	uint32_t words[(STRING_CAP + 4) / 4];
	memcpy(words, text, sizeof(words));
	message_add(message, (uint32_t)len + 1);
	for (size_t i = 0; i < len / 4 + 1; i++) {
		message_add(message, words[i]);
	}
}

static const uint32_t *step_arg(const struct step *step, size_t *next, size_t count) {
	static const uint32_t none[3];
	*next += count;
	return *next <= STEP_ARGS ? &step->args[*next - count] : none;
}

static void wire_add_arg(struct wire *wire, struct message *message, const struct step *step,
		char type, const struct wl_interface *interface, size_t *next) {
	const uint32_t *arg;
	switch (type) {
	case 'n':
		wire_add(wire, interface, wire->next_id);
		message_add(message, wire->next_id++);
		break;
	case 'o':
		message_add(message, wire_pick(wire, interface, *step_arg(step, next, 1)));
		break;
	case 's':
		message_add_string(message, step_arg(step, next, 3));
		break;
	case 'a': // its length, and two words of which it is made
		arg = step_arg(step, next, 3);
		message_add(message, arg[0] % 64);
		message_add_bytes(message, arg[0] % 64, &arg[1]);
		break;
	case 'h':
		message->fds[message->n_fds++] =
			wire->make_fd((step->extra & STEP_FD_MASK) + (uint32_t)message->n_fds, step);
		break;
	default:
		message_add(message, *step_arg(step, next, 1));
		break;
	}
}

static void message_damage(struct message *message, const struct step *step) {
	size_t bytes = message->len * 4;
	if (step->extra & STEP_DAMAGED) {
		uint32_t bit = step->args[9] % (uint32_t)(bytes * 8);
		message->words[bit / 32] ^= 1u << bit % 32;
	}
}

void wire_send(struct wire *wire, const struct step *step) {
	if (wire->n_objects == 0) {
		return;
	}
	const struct wire_object object = wire->objects[step->object % wire->n_objects];
	const struct wl_interface *interface = object.interface;
	int count = wire->is_server ? interface->event_count : interface->method_count;
	if (count == 0) {
		return;
	}
	uint32_t opcode = step->opcode % (uint32_t)count;
	const struct wl_message *type =
		&(wire->is_server ? interface->events : interface->methods)[opcode];
	struct message message = { .words = { object.id }, .len = 2 };
	size_t next = 0, n_arg = 0;
	for (const char *c = type->signature; *c != '\0'; c++) {
		if (*c != '?' && !isdigit((unsigned char)*c)) {
			wire_add_arg(wire, &message, step, *c, type->types[n_arg++], &next);
		}
	}
	message.words[1] = (uint32_t)message.len << 18 | opcode;
	message_damage(&message, step);
	if (wire->change != NULL) {
		wire->change(wire, message.words, message.len);
	}
	size_t len = message.len * 4;
	if (step->extra & STEP_CUT) {
		len = step->args[8] % len;
	}
	wire_send_raw(wire, message.words, len, message.fds, message.n_fds);
	for (size_t i = 0; i < message.n_fds; i++) {
		close(message.fds[i]);
	}
	if (is_destructor(type) && !wire->is_server && !(step->extra & STEP_KEEPS_DEAD)) {
		wire_remove(wire, object.id);
	}
}

void wire_send_raw(struct wire *wire, const void *data, size_t len, const int *fds,
		size_t n_fds) {
	if (len == 0) {
		return;
	}
	char control[CMSG_SPACE(28 * sizeof(int))] = {0};
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n_fds > 0) {
		header.msg_control = control;
		header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	// The other side may have hung up, and its socket may be full: both are fine
	ssize_t ret = sendmsg(wire->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ret;
}

void wire_send_words(struct wire *wire, uint32_t id, uint32_t opcode, const uint32_t *words,
		size_t n_words) {
	uint32_t message[16] = { id, (uint32_t)(HEADER + n_words * 4) << 16 | opcode };
	fuzz_must(n_words <= 14);
	memcpy(&message[2], words, n_words * 4);
	wire_send_raw(wire, message, HEADER + n_words * 4, NULL, 0);
}

/* Receiving */

/** The id and the interface of a new object in the arguments of a message, or 0. */
static uint32_t find_new_id(const struct wl_message *type, const uint32_t *words, size_t n_words,
		const struct wl_interface **interface) {
	size_t at = 0, n_arg = 0;
	for (const char *c = type->signature; *c != '\0'; c++) {
		if (*c == '?' || isdigit((unsigned char)*c) || at >= n_words) {
			continue;
		}
		const struct wl_interface *of_arg = type->types[n_arg++];
		if (*c == 'n') {
			*interface = of_arg;
			return words[at];
		}
		if (*c == 's' || *c == 'a') {
			at += (words[at] + 3) / 4;
		}
		at += *c != 'h';
	}
	return 0;
}

/** Of a message as it came: learns what the other side has made and destroyed. */
static void wire_learn(struct wire *wire, const uint32_t *words, size_t n_words) {
	const struct wire_object *found = wire_find(wire, words[0]);
	if (found == NULL) {
		return;
	}
	const struct wire_object object = *found;
	const struct wl_interface *interface = object.interface, *made = NULL;
	uint32_t opcode = words[1] & 0xffff;
	int count = wire->is_server ? interface->method_count : interface->event_count;
	if (opcode >= (uint32_t)count) {
		return;
	}
	const struct wl_message *type =
		&(wire->is_server ? interface->methods : interface->events)[opcode];
	uint32_t new_id = find_new_id(type, words + 2, n_words - 2, &made);
	if (new_id != 0) {
		wire_add(wire, made, new_id);
	}
	if (wire->is_server && is_destructor(type)) {
		wire_remove(wire, object.id);
	}
	if (wire->receive != NULL) {
		wire->receive(wire, &object, opcode, words + 2, n_words - 2, new_id);
	}
}

static void close_fds(struct msghdr *header) {
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg != NULL;
			cmsg = CMSG_NXTHDR(header, cmsg)) {
		size_t n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; cmsg->cmsg_type == SCM_RIGHTS && i < n_fds; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
			close(fd);
		}
	}
}

/** Our side of the socket is read to its end each time, so that messages are whole. */
void wire_receive(struct wire *wire) {
	static uint32_t words[16384];
	size_t len = 0;
	for (;;) {
		char control[CMSG_SPACE(64 * sizeof(int))];
		struct iovec iov = { (char *)words + len, sizeof(words) - len };
		struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			.msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(wire->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n <= 0) {
			break;
		}
		close_fds(&header);
		len += (size_t)n;
	}
	for (size_t at = 0; at + 2 <= len / 4;) {
		size_t size = words[at + 1] >> 18;
		if (size < 2 || at + size > len / 4) {
			break;
		}
		wire_learn(wire, &words[at], size);
		at += size;
	}
}

/* Inputs */

void steps_run(const uint8_t *data, size_t len, void (*run)(void *data, const struct step *step),
		void *run_data) {
	for (size_t at = 0; at < len; at += sizeof(struct step)) {
		struct step step = {0};
		memcpy(&step, data + at, len - at < sizeof(step) ? len - at : sizeof(step));
		run(run_data, &step);
	}
}

/** Values at which something changes. */
static const uint32_t values[] = { 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 32, 48, 64, 128, 256, 1000, 4096,
	12288, 65535, 0x34325258 /* XR24 */, 0x34325241 /* AR24 */, 0x3231564e /* NV12 */,
	0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };

/** Changes one step; no more than the bytes that it has. */
static void mutate_step(uint8_t *data, unsigned *seed) {
	struct step step;
	memcpy(&step, data, sizeof(step));
	unsigned choice = (unsigned)rand_r(seed);
	switch (choice % 6) {
	case 0:
		step.action = (uint8_t)rand_r(seed);
		break;
	case 1:
		step.object = (uint8_t)rand_r(seed);
		break;
	case 2:
		step.opcode = (uint8_t)rand_r(seed);
		break;
	case 3:
		step.extra = (uint8_t)(rand_r(seed) & (rand_r(seed) % 4 == 0 ? 0xff : STEP_FD_MASK));
		break;
	case 4:
		step.args[choice / 8 % STEP_ARGS] =
			values[(unsigned)rand_r(seed) % (sizeof(values) / sizeof(values[0]))];
		break;
	default:
		LLVMFuzzerMutate((uint8_t *)&step, sizeof(step), sizeof(step));
		break;
	}
	memcpy(data, &step, sizeof(step));
}

size_t steps_mutate(uint8_t *data, size_t len, size_t cap, unsigned seed) {
	const size_t size = sizeof(struct step);
	len -= len % size;
	size_t n = len / size;
	if (n == 0 || seed % 16 == 0) {
		return LLVMFuzzerMutate(data, len, cap);
	}
	size_t at = (unsigned)rand_r(&seed) % n, from = (unsigned)rand_r(&seed) % n;
	switch ((unsigned)rand_r(&seed) % 6) {
	case 0: // one more of what there is
		if (len + size <= cap) {
			uint8_t copy[sizeof(struct step)];
			memcpy(copy, data + from * size, size);
			memmove(data + (at + 1) * size, data + at * size, len - at * size);
			memcpy(data + at * size, copy, size);
			len += size;
		}
		break;
	case 1: // one less
		memmove(data + at * size, data + (at + 1) * size, len - (at + 1) * size);
		len -= size;
		break;
	case 2: // another order
		memmove(data + at * size, data + from * size, size);
		break;
	default:
		mutate_step(data + at * size, &seed);
		break;
	}
	return len > 0 ? len : size;
}
