/* SPDX-License-Identifier: MIT */
/*
 * Made-up requests into a compositor in this process, beside a client that is honest: that
 * one must get every frame that the protocol owes it, and nothing may be left in the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <vitrine/export_dmabuf_v1.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_output.h>

#include "ext-image-capture-source-v1-client-protocol.h"
#include "fixture.h"
#include "fuzz.h"
#include "harness.h"
#include "linux-dmabuf-v1-client-protocol.h"
#include "single-pixel-buffer-v1-client-protocol.h"
#include "wire.h"
#include "wlr-export-dmabuf-unstable-v1-client-protocol.h"
#include "xx-dmabuf-view-v1-client-protocol.h"

#define ALL VITRINE_GUARANTEE_ALL

/** What a step does that is no message; the numbers follow STEP_MESSAGES. */
enum action { PUMP, PAINT, PAINT_PART, RESIZE, LOCK, ALLOW, STOP, RAW, FDS, READ, WAIT, POWER,
	REPLACE_OUTPUT, RECONNECT, N_ACTIONS };

/* Memfds that pass for dma-bufs, to clients that accept nothing but these */

int __wrap_vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size);
int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __real_vitrine_derive_fd(struct vitrine_derive *derive,
	const struct vitrine_derive_source *source, uint32_t acceptable,
	struct vitrine_derived_fd *derived);
int __wrap_vitrine_verify_fd(int borrowed_fd, uint32_t storage, uint32_t guarantee, uint64_t size,
	const char **reason);
int __real_vitrine_verify_fd(int borrowed_fd, uint32_t storage, uint32_t guarantee, uint64_t size,
	const char **reason);

int __wrap_vitrine_udmabuf_create(struct vitrine_derive *derive, int memfd, uint64_t size) {
	int fd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int __wrap_vitrine_derive_fd(struct vitrine_derive *derive,
		const struct vitrine_derive_source *source, uint32_t acceptable,
		struct vitrine_derived_fd *derived) {
	const uint32_t fake = VITRINE_GUARANTEE_GUARDED | VITRINE_GUARANTEE_FD_READ_ONLY;
	if (source->dmabuf_fd < 0 || (acceptable & ~fake) || !(acceptable & fake)) {
		return __real_vitrine_derive_fd(derive, source, acceptable, derived);
	}
	*derived = (struct vitrine_derived_fd){
		.fd = fcntl(source->dmabuf_fd, F_DUPFD_CLOEXEC, 0),
		.storage = VITRINE_STORAGE_DMABUF,
		.guarantee = acceptable & VITRINE_GUARANTEE_FD_READ_ONLY ?
			VITRINE_GUARANTEE_FD_READ_ONLY : VITRINE_GUARANTEE_GUARDED,
	};
	return derived->fd < 0 ? -errno : 0;
}

/** The honest client accepts nothing else, either, where policy allows nothing else. */
int __wrap_vitrine_verify_fd(int borrowed_fd, uint32_t storage, uint32_t guarantee, uint64_t size,
		const char **reason) {
	return storage != VITRINE_STORAGE_MEMFD ? 0 :
		__real_vitrine_verify_fd(borrowed_fd, storage, guarantee, size, reason);
}

struct bed {
	struct fixture f;
	struct test_session *honest;
	struct client *attacker; // connected honestly; all further bytes are the input's
	struct wire wire;
	uint32_t n_frames;
	/** The compositor has ended the honest session, or may have. */
	bool disturbed;
};

static int make_fd(uint32_t kind, const struct step *step) {
	int fd, ends[2];
	switch (kind % 5) {
	case 0:
		fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		fuzz_must(ftruncate(fd, step->args[7] % 65536) == 0);
		return fd;
	case 1:
		fuzz_must(pipe2(ends, O_CLOEXEC) == 0);
		close(ends[0]);
		return ends[1];
	case 2:
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		return fd;
	case 3:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	default:
		return open("/", O_PATH | O_CLOEXEC);
	}
}

/**
 * wlroots 0.20 closes the first n fds of buffer parameters with n planes, so that of planes 1 and
 * 3 it keeps one for ever. Each one is plane 0 here.
 */
static void leave_no_gap(const struct wire *wire, uint32_t *words, size_t n_words) {
	const struct wire_object *object = wire_find(wire, words[0]);
	if (object != NULL && n_words > 2 &&
			strcmp(object->interface->name, "zwp_linux_buffer_params_v1") == 0 &&
			(words[1] & 0xffff) == ZWP_LINUX_BUFFER_PARAMS_V1_ADD) {
		words[2] = 0;
	}
}

static void add_proxy(struct wire *wire, const struct wl_interface *interface, void *proxy) {
	if (proxy != NULL) {
		wire_add(wire, interface, wl_proxy_get_id(proxy));
	}
}

/** Of an honest client's globals, the objects that messages can be for. */
static void bed_connect(struct bed *bed) {
	struct client *client = client_create(&bed->f.server);
	struct ext_image_capture_source_v1 *source = client_get_source(client, 0);
	client_roundtrip(client);
	client->asleep = true;
	bed->attacker = client;
	bed->wire = (struct wire){
		.fd = wl_display_get_fd(client->display),
		.change = leave_no_gap,
		.make_fd = make_fd,
	};
	add_proxy(&bed->wire, &xx_dmabuf_view_manager_v1_interface, client->manager);
	add_proxy(&bed->wire, &ext_image_capture_source_v1_interface, source);
	add_proxy(&bed->wire, &ext_output_image_capture_source_manager_v1_interface,
		client->sources);
	add_proxy(&bed->wire, &wl_output_interface, client->outputs[0]);
	add_proxy(&bed->wire, &wl_shm_interface, client->shm);
	add_proxy(&bed->wire, &wp_single_pixel_buffer_manager_v1_interface, client->single_pixel);
	add_proxy(&bed->wire, &zwp_linux_dmabuf_v1_interface, client->linux_dmabuf);
	add_proxy(&bed->wire, &zwlr_export_dmabuf_manager_v1_interface, client->export_dmabuf);
	wire_add(&bed->wire, &wl_display_interface, 1);
	for (uint32_t id = 1; id < 64; id++) {
		if (wl_client_get_object(client->wl_client, id) != NULL) {
			bed->wire.next_id = id + 1;
		}
	}
	ext_image_capture_source_v1_destroy(source); // once it is awake: in the end
}

static void bed_disconnect(struct bed *bed) {
	// Closing it is not enough: it may have been sent to the compositor
	shutdown(bed->wire.fd, SHUT_RDWR);
	client_destroy(bed->attacker);
}

/* What the compositor does meanwhile */

static void bed_paint(struct bed *bed, const struct rect *rect) {
	struct server *server = &bed->f.server;
	if (server->output == NULL || !server->output->wlr_output->enabled) {
		return;
	}
	uint32_t color = fixture_color(++bed->n_frames);
	if (rect == NULL && !bed->disturbed) {
		fixture_show(&bed->f, bed->honest, color);
	} else {
		output_paint(server->output, color, rect);
		pump(server);
	}
}

static void bed_resize(struct bed *bed, const struct step *step) {
	if (bed->f.server.output != NULL && bed->f.server.output->wlr_output->enabled) {
		output_resize(bed->f.server.output, 1 + (int)(step->args[0] % 128),
			1 + (int)(step->args[1] % 128));
		// A frame comes with it: with two that it has not read, the honest client is owed none
		pump(&bed->f.server);
	}
}

static void bed_set_power(struct bed *bed, bool is_on) {
	struct server_output *output = bed->f.server.output;
	if (output != NULL) {
		bed->disturbed = true; // no frame comes without power
		struct wlr_output_state state;
		wlr_output_state_init(&state);
		wlr_output_state_set_enabled(&state, is_on);
		wlr_output_commit_state(output->wlr_output, &state);
		wlr_output_state_finish(&state);
	}
}

static void bed_replace_output(struct bed *bed) {
	struct server *server = &bed->f.server;
	bed->disturbed = true;
	if (server->output != NULL) {
		wlr_output_destroy(server->output->wlr_output);
	}
	server->output = server_add_output(server, 64, 48);
}

static void bed_send_fds(struct bed *bed, const struct step *step) {
	int fds[28];
	size_t n_fds = 1 + step->args[0] % 28;
	for (size_t i = 0; i < n_fds; i++) {
		fds[i] = make_fd(step->args[1] + (uint32_t)i, step);
	}
	wire_send_raw(&bed->wire, step->args, 4 * (step->args[2] % 8), fds, n_fds);
	for (size_t i = 0; i < n_fds; i++) {
		close(fds[i]);
	}
}

static void bed_act(struct bed *bed, const struct step *step) {
	struct vitrine_view_manager_v1 *manager = bed->f.server.manager;
	const struct rect rect = { (int)(step->args[0] % 32), (int)(step->args[1] % 32),
		1 + (int)(step->args[2] % 32), 1 + (int)(step->args[3] % 16) };
	switch ((step->action - STEP_MESSAGES) % N_ACTIONS) {
	case PUMP:
		pump(&bed->f.server);
		break;
	case PAINT:
		bed_paint(bed, NULL);
		break;
	case PAINT_PART:
		bed_paint(bed, &rect);
		break;
	case RESIZE:
		bed_resize(bed, step);
		break;
	case LOCK:
		bed->disturbed = true;
		vitrine_view_manager_v1_set_locked(manager, step->args[0] & 1);
		break;
	case ALLOW:
		bed->disturbed = true;
		vitrine_view_manager_v1_set_allowed(manager, step->args[0] & ALL);
		break;
	case STOP:
		bed->disturbed = true;
		vitrine_view_manager_v1_stop_sessions(manager,
			step->args[0] & 1 ? VITRINE_VIEW_STOP_DENIED : VITRINE_VIEW_STOP_REVOKED);
		break;
	case RAW:
		wire_send_raw(&bed->wire, step->args, step->extra % sizeof(step->args), NULL, 0);
		break;
	case FDS:
		bed_send_fds(bed, step);
		break;
	case READ:
		wire_receive(&bed->wire);
		break;
	case WAIT:
		pump_wait(&bed->f.server);
		break;
	case POWER:
		bed_set_power(bed, step->args[0] & 1);
		break;
	case REPLACE_OUTPUT:
		bed_replace_output(bed);
		break;
	case RECONNECT:
		bed_disconnect(bed);
		bed_connect(bed);
		break;
	}
}

static void bed_run_step(void *data, const struct step *step) {
	struct bed *bed = data;
	if (step->action >= STEP_MESSAGES) {
		bed_act(bed, step);
		return;
	}
	wire_send(&bed->wire, step);
	if (step->action & 1) {
		pump(&bed->f.server);
	}
}

/** All that the compositor was told is taken back: then a client sees a frame. */
static void bed_check(struct bed *bed) {
	struct server *server = &bed->f.server;
	bed_disconnect(bed);
	pump(server);
	vitrine_view_manager_v1_set_locked(server->manager, false);
	vitrine_view_manager_v1_set_allowed(server->manager, ALL);
	if (server->output == NULL) {
		server->output = server_add_output(server, 64, 48);
	}
	bed_set_power(bed, true);
	struct client *client = client_create(server);
	struct ext_image_capture_source_v1 *source =
		client_get_source(client, client->n_outputs - 1);
	struct test_session *session = test_session_create_for(client, source, 0, ALL);
	client_roundtrip(client);
	fuzz_must(!session->stopped);
	fixture_show(&bed->f, session, 0x123456);
	ext_image_capture_source_v1_destroy(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
	static int n_fds;
	struct bed bed = {0};
	fixture_set_up(&bed.f, &(struct fixture_options){
		.server.linux_dmabuf_device = "/dev/null", // see fake_drm.c
		.acceptable = ALL,
		.auto_release = true,
	});
	bed.honest = bed.f.session;
	bed.f.server.manager->limits.frame_deadline_ms = 10;
	bed.f.server.manager->limits.contended_frame_deadline_ms = 1;
	fuzz_must(vitrine_export_dmabuf_manager_v1_create(bed.f.server.manager) != NULL);
	bed_connect(&bed);
	steps_run(data, len, bed_run_step, &bed);
	bed_check(&bed);
	fixture_tear_down(&bed.f);
	// Threads end by themselves, and close what they have
	for (int i = 0; n_fds != 0 && harness_count_fds() > n_fds; i++) {
		fuzz_must(i < 5000);
		usleep(1000);
	}
	n_fds = harness_count_fds();
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed) {
	return steps_mutate(data, len, cap, seed);
}
