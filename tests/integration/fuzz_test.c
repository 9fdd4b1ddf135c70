/* SPDX-License-Identifier: MIT */
/*
 * Bytes that no library would send: requests that are made up, mutated, cut off, or
 * come with file descriptors that nobody asked for. The compositor and an honest
 * client must not notice.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vitrine/view_v1.h>

#include "fixture.h"
#include "harness.h"

#define ALL VITRINE_GUARANTEE_ALL
#define RUNS 300
#define RUNS_FULL 4000

/** A client that writes its bytes by hand. */
struct raw_client {
	struct server *server;
	struct wl_client *wl_client; // NULL once it was disconnected
	struct wl_listener wl_client_destroy;
	int fd;
	uint32_t names[3]; // of the globals in raw_globals
	uint32_t next_id;
	unsigned seed;
};

static const char *const raw_globals[] = {
	"xx_dmabuf_view_manager_v1",
	"ext_output_image_capture_source_manager_v1",
	"wl_output",
};

struct message {
	uint32_t words[64];
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
	return message;
}

static void message_add(struct message *message, uint32_t word) {
	message->words[message->len++] = word;
}

static void message_add_string(struct message *message, const char *string) {
	uint32_t len = (uint32_t)strlen(string) + 1;
	message_add(message, len);
	memset(&message->words[message->len], 0, len + 3);
	memcpy(&message->words[message->len], string, len);
	message->len += (len + 3) / 4;
}

static void message_end(struct message *message) {
	message->words[1] |= message->len * 4 << 16;
}

static void raw_send(struct raw_client *client, const void *data, size_t len) {
	// The compositor may have hung up, and its socket may be full: both are fine
	ssize_t ret = send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ret;
}

static void raw_send_message(struct raw_client *client, struct message *message) {
	message_end(message);
	raw_send(client, message->words, message->len * 4);
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

/** Reads what has come and closes the file descriptors in it. Returns the length. */
static size_t raw_receive(struct raw_client *client, uint8_t *data, size_t size) {
	char control[CMSG_SPACE(28 * sizeof(int))];
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len = recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (len <= 0) {
		return 0;
	}
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header); cmsg != NULL;
			cmsg = CMSG_NXTHDR(&header, cmsg)) {
		size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			close(fd);
		}
	}
	return (size_t)len;
}

static void raw_drain(struct raw_client *client) {
	uint8_t data[4096];
	while (raw_receive(client, data, sizeof(data)) > 0) {
		// whatever it is
	}
}

static void raw_client_handle_destroy(struct wl_listener *listener, void *data) {
	struct raw_client *client = wl_container_of(listener, client, wl_client_destroy);
	client->wl_client = NULL;
}

/** Finds the names of the globals in the registry's first events. */
static void raw_client_read_globals(struct raw_client *client) {
	static uint32_t words[16384];
	size_t len = raw_receive(client, (uint8_t *)words, sizeof(words)) / 4;
	for (size_t i = 0; i + 4 < len; i += words[i + 1] >> 18) {
		check(words[i + 1] >> 18 >= 2);
		for (size_t j = 0; j < 3; j++) {
			if (words[i] == 2 && strcmp((const char *)&words[i + 4], raw_globals[j]) == 0) {
				client->names[j] = words[i + 2];
			}
		}
	}
	check(client->names[0] != 0 && client->names[1] != 0 && client->names[2] != 0);
}

static void raw_client_init(struct raw_client *client, struct server *server, unsigned seed) {
	*client = (struct raw_client){ .server = server, .seed = seed };
	int fds[2];
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	client->fd = fds[1];
	client->wl_client = wl_client_create(server->display, fds[0]);
	check(client->wl_client != NULL);
	client->wl_client_destroy.notify = raw_client_handle_destroy;
	wl_client_add_destroy_listener(client->wl_client, &client->wl_client_destroy);

	struct message message = MESSAGE(1, 1, 2); // wl_display.get_registry, new id 2
	raw_send_message(client, &message);
	pump(server);
	raw_client_read_globals(client);
	// The registry is 2; bind makes 3, 4 and 5
	for (uint32_t i = 0; i < 3; i++) {
		message = MESSAGE(2, 0, client->names[i]);
		message_add_string(&message, raw_globals[i]);
		message_add(&message, 1);
		message_add(&message, 3 + i);
		raw_send_message(client, &message);
	}
	message = MESSAGE(4, 0, 6, 5); // create_source, new id 6
	raw_send_message(client, &message);
	client->next_id = 7;
}

static void raw_client_finish(struct raw_client *client) {
	close(client->fd);
	pump(client->server);
	if (client->wl_client != NULL) {
		wl_list_remove(&client->wl_client_destroy.link);
		wl_client_destroy(client->wl_client);
	}
}

/** A request that is likely to be fine. */
static void raw_client_make_request(struct raw_client *client, struct message *message) {
	switch (next_random(client, 6)) {
	case 0:
	case 1: // create_session
		*message = MESSAGE(3, 2, client->next_id++, 6, next_random(client, 2),
			1 + next_random(client, 15));
		break;
	case 2: // release, of what may be a session and a serial
		*message = MESSAGE(7 + next_random(client, 4), 1, 1 + next_random(client, 3));
		break;
	case 3: // destroy of a session
		*message = MESSAGE(7 + next_random(client, 4), 0);
		break;
	case 4: // get_buffer_view of something
		*message = MESSAGE(3, 1, client->next_id++, next_random(client, 8),
			next_random(client, 32));
		break;
	default: // destroy of another object
		*message = MESSAGE(3 + next_random(client, 4), next_random(client, 2));
		break;
	}
	message_end(message);
}

static void raw_client_mutate(struct raw_client *client, struct message *message) {
	for (uint32_t i = next_random(client, 4); i > 0; i--) {
		uint32_t bit = next_random(client, message->len * 32);
		message->words[bit / 32] ^= 1u << bit % 32;
	}
}

static void raw_client_step(struct raw_client *client) {
	struct message message;
	raw_client_make_request(client, &message);
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

TEST_WITH(fixture, random_requests_hurt_only_their_sender) {
	harness_set_timeout(1200);
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
				fixture_paint(f, fixture_color(++n_frames));
				check_int(test_session_get_pixel(honest, 1, 1), ==,
					f->server.output->color);
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
