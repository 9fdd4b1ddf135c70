/* SPDX-License-Identifier: MIT */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wayland-util.h>

/**
 * One end of a Wayland socket that says what an input tells it to: mostly well-formed
 * messages to objects that there are, as the interfaces of the XML describe them.
 */

#define STEP_ARGS 10

/** What an input is made of. All bytes mean something, so that mutants do as well. */
struct step {
	uint8_t action; // of the target; less than STEP_MESSAGES is a message
	uint8_t object; // of wire.objects, modulo their number
	uint8_t opcode; // modulo the number that the interface has
	uint8_t extra; // what is done with it, see enum step_extra, and for file descriptors
	uint32_t args[STEP_ARGS]; // one for most arguments, see wire.c for arrays and strings
};

#define STEP_MESSAGES 192

enum step_extra {
	STEP_KEEPS_DEAD = 1 << 7, // the object stays in the table although it is destroyed
	STEP_DAMAGED = 1 << 6, // bits of the message are flipped, see args[9]
	STEP_CUT = 1 << 5, // its end is not sent
	STEP_FD_MASK = (1 << 5) - 1, // which file descriptor
};

/** Calls `run` for each step of an input. */
void steps_run(const uint8_t *data, size_t len, void (*run)(void *data, const struct step *step),
	void *run_data);
/** A custom mutator for inputs of steps, which keeps steps whole. */
size_t steps_mutate(uint8_t *data, size_t len, size_t cap, unsigned seed);

#define WIRE_OBJECTS_CAP 64

struct wire_object {
	const struct wl_interface *interface;
	uint32_t id;
};

struct wire {
	int fd;
	bool is_server; // sends events rather than requests
	struct wire_object objects[WIRE_OBJECTS_CAP];
	size_t n_objects;
	uint32_t next_id; // of objects that messages create
	/** Called with each message before it is sent, to make another one of it; may be NULL. */
	void (*change)(const struct wire *wire, uint32_t *words, size_t n_words);
	/** Makes what is sent along, for a number below 32; it is closed afterwards. */
	int (*make_fd)(uint32_t kind, const struct step *step);
	/** Called for each message that comes in, with its arguments; may be NULL. */
	void (*receive)(struct wire *wire, const struct wire_object *object, uint32_t opcode,
		const uint32_t *words, size_t n_words, uint32_t new_id);
};

/** Ignored if there is no room. */
void wire_add(struct wire *wire, const struct wl_interface *interface, uint32_t id);
void wire_remove(struct wire *wire, uint32_t id);
/** NULL if there is none. */
const struct wire_object *wire_find(const struct wire *wire, uint32_t id);
/** Sends what the step says, if the socket has room. */
void wire_send(struct wire *wire, const struct step *step);
/** Sends bytes, and file descriptors along. */
void wire_send_raw(struct wire *wire, const void *data, size_t len, const int *fds, size_t n_fds);
/** Sends a message with these arguments, each one word. */
void wire_send_words(struct wire *wire, uint32_t id, uint32_t opcode, const uint32_t *words,
	size_t n_words);
/** Reads what has come, learns of new objects, and closes file descriptors. */
void wire_receive(struct wire *wire);

#endif
