/* SPDX-License-Identifier: MIT */
/*
 * Bytes that no library would send: requests that are made up, mutated, cut off, or
 * come with file descriptors that nobody asked for. The compositor and an honest
 * client must not notice.
 */
#include <drm_fourcc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <vitrine/view_v1.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "harness.h"

#define ALL VITRINE_GUARANTEE_ALL
#define RUNS 300
#define RUNS_FULL 4000

enum object { MANAGER, SOURCES, OUTPUT, SOURCE, OBJECT_COUNT };

/** A client that connects as others do, and writes all further bytes by hand. */
struct raw_client {
	struct client *base;
	struct ext_image_capture_source_v1 *source;
	int fd;
	uint32_t ids[OBJECT_COUNT];
	uint32_t first_id, next_id; // of the objects that it makes by hand
	unsigned seed;
};

struct message {
	uint32_t words[10];
	uint32_t len; // words
};

static uint32_t next_random(struct raw_client *client, uint32_t n) {
	return (uint32_t)rand_r(&client->seed) % n;
}

#define WORDS(...) (const uint32_t[]){ __VA_ARGS__ }
#define MESSAGE(...) make_message(WORDS(__VA_ARGS__), sizeof(WORDS(__VA_ARGS__)))

/** An object, an opcode, and arguments. */
static struct message make_message(const uint32_t *words, size_t size) {
	struct message message = { .len = (uint32_t)(size / sizeof(words[0])) };
	memcpy(message.words, words, size);
	message.words[1] |= (uint32_t)size << 16;
	return message;
}

static void raw_send(struct raw_client *client, const void *data, size_t len) {
	// The compositor may have hung up, and its socket may be full: both are fine
	ssize_t ret = send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ret;
}

/** Sends a byte with a lot of file descriptors along. */
static void raw_send_fds(struct raw_client *client) {
	int fds[20];
	for (size_t i = 0; i < 20; i++) {
		fds[i] = client->fd;
	}
	char control[CMSG_SPACE(sizeof(fds))] = {0};
	uint32_t word = next_random(client, UINT16_MAX);
	struct iovec iov = { .iov_base = &word, .iov_len = sizeof(word) };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	ssize_t ret = sendmsg(client->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ret;
}

/** The kernel closes file descriptors that come where there is no room for them. */
static void raw_drain(struct raw_client *client) {
	uint8_t data[4096];
	while (recv(client->fd, data, sizeof(data), MSG_DONTWAIT) > 0) {
		// whatever it is
	}
}

static void raw_client_init(struct raw_client *client, struct server *server, unsigned seed) {
	struct client *base = client_create(server);
	*client = (struct raw_client){
		.base = base,
		.source = client_get_source(base, 0),
		.fd = wl_display_get_fd(base->display),
		.seed = seed,
	};
	client_roundtrip(base);
	base->asleep = true;
	client->ids[MANAGER] = wl_proxy_get_id((struct wl_proxy *)base->manager);
	client->ids[SOURCES] = wl_proxy_get_id((struct wl_proxy *)base->sources);
	client->ids[OUTPUT] = wl_proxy_get_id((struct wl_proxy *)base->outputs[0]);
	client->ids[SOURCE] = wl_proxy_get_id((struct wl_proxy *)client->source);
	for (uint32_t id = 1; id < 64; id++) {
		if (wl_client_get_object(base->wl_client, id) != NULL) {
			client->first_id = id + 1;
		}
	}
	client->next_id = client->first_id;
}

static void raw_client_finish(struct raw_client *client) {
	ext_image_capture_source_v1_destroy(client->source);
	// Closing it is not enough: raw_send_fds() has sent it to the compositor
	shutdown(client->fd, SHUT_RDWR);
	client_destroy(client->base);
}

/** Opcodes, in the order of the XML. */
enum { GET_BUFFER_VIEW = 1, CREATE_SESSION };
enum { SESSION_DESTROY, SESSION_SET_GUARANTEES, SESSION_SET_STORAGES, SESSION_ADD_FORMAT,
	SESSION_SET_CURSORS, SESSION_SET_IMPLICIT_RELEASE, SESSION_START, SESSION_RELEASE };

/** A format of the CPU, or of a device with this number. */
static struct message raw_client_make_format(struct raw_client *client, uint32_t object,
		uint32_t opcode) {
	if (next_random(client, 2) == 0) {
		return MESSAGE(object, opcode, 0, DRM_FORMAT_XRGB8888, 0, 0);
	}
	uint32_t size = next_random(client, 4) == 0 ? next_random(client, 9) : 8;
	uint32_t n_words = (size + 3) / 4;
	return n_words == 0 ? MESSAGE(object, opcode, size, DRM_FORMAT_XRGB8888, 0, 0) :
		n_words == 1 ? MESSAGE(object, opcode, size, 1, DRM_FORMAT_XRGB8888, 0, 0) :
		MESSAGE(object, opcode, size, next_random(client, 64), 0, DRM_FORMAT_XRGB8888, 0, 0);
}

/** What is said of a session before it starts, or of a view: mostly in order. */
static struct message raw_client_make_setter(struct raw_client *client, uint32_t object) {
	switch (next_random(client, 6)) {
	case 0:
		return MESSAGE(object, SESSION_SET_GUARANTEES, 1 + next_random(client, 16));
	case 1:
		return MESSAGE(object, SESSION_SET_STORAGES, 1 + next_random(client, 8));
	case 2:
		return raw_client_make_format(client, object, SESSION_ADD_FORMAT);
	case 3:
		return MESSAGE(object, SESSION_SET_CURSORS, next_random(client, 3));
	case 4:
		return MESSAGE(object, SESSION_SET_IMPLICIT_RELEASE);
	default:
		return MESSAGE(object, SESSION_START);
	}
}

static void raw_send_message(struct raw_client *client, const struct message *message) {
	raw_send(client, message->words, message->len * 4);
}

/** A session that starts: most of what is interesting needs one. */
static struct message raw_client_start_session(struct raw_client *client) {
	uint32_t id = client->next_id++;
	struct message messages[] = {
		MESSAGE(client->ids[MANAGER], CREATE_SESSION, id, client->ids[SOURCE]),
		MESSAGE(id, SESSION_SET_GUARANTEES, 1 + next_random(client, 15)),
		MESSAGE(id, SESSION_SET_STORAGES, 1 + next_random(client, 3)),
		MESSAGE(id, SESSION_SET_CURSORS, next_random(client, 2)),
	};
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		raw_send_message(client, &messages[i]);
	}
	if (next_random(client, 3) == 0) {
		struct message implicit = MESSAGE(id, SESSION_SET_IMPLICIT_RELEASE);
		raw_send_message(client, &implicit);
	}
	return MESSAGE(id, SESSION_START);
}

/** A request that is likely to be fine. */
static struct message raw_client_make_request(struct raw_client *client) {
	uint32_t n_made = client->next_id - client->first_id;
	uint32_t session = client->first_id + next_random(client, n_made + 1); // maybe
	switch (n_made > 0 ? next_random(client, 8) : 0) {
	case 0:
	case 1:
		return raw_client_start_session(client);
	case 2: // of what may be a serial
		return MESSAGE(session, SESSION_RELEASE, 1 + next_random(client, 3));
	case 3:
		return MESSAGE(session, SESSION_DESTROY);
	case 4: // of something
		return MESSAGE(client->ids[MANAGER], GET_BUFFER_VIEW, client->next_id++,
			next_random(client, client->first_id + 1));
	case 5:
		return MESSAGE(client->ids[MANAGER], CREATE_SESSION, client->next_id++,
			client->ids[SOURCE]);
	case 6:
		return raw_client_make_setter(client, session);
	default: // destroy of another object
		return MESSAGE(client->ids[next_random(client, OBJECT_COUNT)],
			next_random(client, 2));
	}
}

static void raw_client_mutate(struct raw_client *client, struct message *message) {
	for (uint32_t i = next_random(client, 4); i > 0; i--) {
		uint32_t bit = next_random(client, message->len * 32);
		message->words[bit / 32] ^= 1u << bit % 32;
	}
}

static void raw_client_step(struct raw_client *client) {
	struct message message = raw_client_make_request(client);
	switch (next_random(client, 8)) {
	case 0:
		raw_client_mutate(client, &message);
		raw_send(client, message.words, message.len * 4);
		break;
	case 1: // half a message
		raw_send(client, message.words, next_random(client, message.len * 4));
		break;
	case 2:
		raw_send_fds(client);
		break;
	default:
		raw_send(client, message.words, message.len * 4);
		break;
	}
}

/**
 * All clients are of one process here, a holder: what the others' sessions retire faster
 * than it can be given back would count as the honest one's.
 */
static void let_one_holder_have_all(struct server *server) {
	server->manager->limits.shared_pieces =
		(struct vitrine_view_limit){ UINT64_MAX, UINT64_MAX, UINT64_MAX };
	struct rlimit limit;
	check_ok(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	check_ok(setrlimit(RLIMIT_NOFILE, &limit));
}

TEST_WITH(fixture, random_requests_hurt_only_their_sender) {
	harness_set_timeout(1200);
	let_one_holder_have_all(&f->server);
	f->server.manager->limits.contended_frame_deadline_ms = 5;
	f->server.manager->limits.frame_deadline_ms = 10;
	struct test_session *honest = test_session_start_reader(f->client, ALL);
	unsigned runs = getenv("VITRINE_TEST_FULL") != NULL && *getenv("VITRINE_TEST_FULL") ?
		RUNS_FULL : RUNS;
	uint32_t n_frames = 0;
	int n_fds = 0;
	for (unsigned run = 0; run < runs; run++) {
		struct raw_client client;
		raw_client_init(&client, &f->server, run);
		for (uint32_t step = next_random(&client, 30); step > 0; step--) {
			raw_client_step(&client);
			if (next_random(&client, 3) == 0) {
				fixture_show(f, honest, fixture_color(++n_frames));
			}
			if (next_random(&client, 2) == 0) {
				raw_drain(&client);
			}
		}
		raw_client_finish(&client);
		// This client closes nothing while a session lasts: start anew, before it
		// has more retired memory than it may
		if (honest->n_views > 64) {
			test_session_destroy(honest);
			honest = test_session_start_reader(f->client, ALL);
			n_fds = n_fds == 0 ? harness_count_fds() : n_fds;
		}
	}
	test_session_destroy(honest);
	test_session_start(f->client, ALL);
	if (n_fds != 0) {
		pump_until(&f->server, harness_count_fds() <= n_fds);
	}
}
