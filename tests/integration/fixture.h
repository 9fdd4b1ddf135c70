/* SPDX-License-Identifier: MIT */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <pixman.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <vitrine/derive.h>
#include <wayland-client-core.h>
#include <wayland-server-core.h>

/**
 * A compositor and its clients in one process and one thread, over socketpairs:
 * a headless backend, the pixman renderer, and outputs that the test itself
 * draws to, so that each frame comes when the test says so.
 */
struct server {
	struct wl_display *display;
	struct wl_event_loop *loop;
	struct wlr_backend *backend;
	struct wlr_renderer *renderer;
	struct wlr_allocator *allocator;
	struct vitrine_view_manager_v1 *manager;
	struct wlr_security_context_manager_v1 *security_context_manager;
	struct server_output *output; // the first one
	struct wl_list clients; // client.link

	uint32_t sessions_started, sessions_stopped;
	struct wl_listener session_start, session_stop;
};

struct server_output {
	struct server *server;
	struct wlr_output *wlr_output;
	uint32_t n_frame_requests; // needs_frame events
	bool repaint; // paints the last colour again when a frame is requested
	/** If set, drawn to instead of the output's own; owned by the test. */
	struct wlr_swapchain *swapchain;
	uint32_t color;
	uint32_t fourcc; // of what is painted from now on; 0 for XRGB8888
	struct wl_listener needs_frame;
	struct wl_listener destroy;
};

struct server_options {
	bool stock_allocator; // wlroots' own, whose buffers cannot be viewed
	bool no_output;
	bool vulkan; // wlroots' Vulkan renderer on lavapipe, which needs dma-bufs
	/** If set, draws with this instead of pixman, and with wlroots' allocator. */
	struct wlr_renderer *(*create_renderer)(void);
	/** If set, takes this allocator instead. */
	struct wlr_allocator *(*create_allocator)(struct wlr_backend *backend,
		struct wlr_renderer *renderer);
	/** Offers linux-dmabuf for this DRM device, e.g. "/dev/dri/card0". */
	const char *linux_dmabuf_device;
};

/**
 * If set, called with true before the compositor's side runs and with false
 * afterwards, so that a test can tell it from the client's side.
 */
extern void (*fixture_enter_server)(bool enter);

void server_init(struct server *server, const struct server_options *options);
/** Disconnects all clients, destroys everything. */
void server_finish(struct server *server);
/** Destroys the compositor's side alone, as a crash would; then only server_finish(). */
void server_crash(struct server *server);

struct server_output *server_add_output(struct server *server, int width, int height);
/** Commits a mode. */
void output_resize(struct server_output *output, int width, int height);
/** A rectangle in buffer coordinates. */
struct rect {
	int x, y, width, height;
};
/**
 * Draws 0xRRGGBB to `rect` (all of it if NULL) and commits. Returns false if the
 * output has no buffer left or the commit failed.
 */
bool output_paint(struct server_output *output, uint32_t color, const struct rect *rect);
/** The same, and a mode in the same commit. */
bool output_paint_mode(struct server_output *output, int width, int height, uint32_t color,
	const struct rect *rect);

/**
 * A white square of 9x9 pixels in the upper left corner, which the display shows beside the
 * output's buffer. The caller destroys it before the output.
 */
struct wlr_output_cursor *output_add_cursor(struct server_output *output, int32_t hotspot);

#define SESSION_VIEWS_CAP 512
#define SESSION_FRAMES_CAP 64

/** A view as a client knows it. */
struct test_view {
	bool announced, done, retired;
	uint32_t storage, width, height, fourcc, guarantee;
	uint64_t modifier;
	dev_t device; // 0 if there was no event
	int fd; // -1 if there is none; kept after retirement until test_session_destroy()
	uint32_t offset, stride;
	uint8_t *data; // NULL before test_view_map()
	size_t size;
};

struct test_frame {
	uint32_t index, serial;
	uint32_t skipped;
	uint64_t tv_sec;
	uint32_t tv_nsec;
	uint32_t n_damage, n_damage_events; // the last rectangle is the frame event's
	struct rect damage[32];
	bool revoked;
	bool released; // by itself, see test_session.auto_release
};

/** The damage as a region, which the caller has to finish. */
void test_frame_get_damage(const struct test_frame *frame, pixman_region32_t *damage);

/** A session, and all that the compositor ever said of it. */
struct test_session {
	struct wl_list link; // client.sessions
	struct client *client;
	struct xx_dmabuf_view_session_v1 *proxy;
	uint32_t depth;
	uint32_t n_depth_events;
	struct test_view *views; // SESSION_VIEWS_CAP of them
	uint32_t n_views, n_fds, n_retired;
	uint32_t n_frames, n_revoked, n_skipped, n_transforms, transform;
	uint32_t last_serial; // 0 before the first frame
	uint32_t n_off, n_on, n_explanations;
	char explanation[513]; // the last one, empty before
	struct test_frame frames[SESSION_FRAMES_CAP]; // a ring, by number of the frame
	struct test_frame building; // what came since the last frame event
	char last_event; // a letter, see fixture.c
	bool stopped;
	uint32_t stop_reason;
	bool auto_release;
	uint32_t n_released; // see test_session_release_all_but()
};

struct client {
	struct wl_list link; // server.clients
	struct wl_list sessions; // test_session.link
	struct server *server;
	struct wl_display *display;
	struct wl_client *wl_client; // NULL once the compositor has disconnected it
	struct wl_listener wl_client_destroy;
	struct wl_registry *registry;
	struct xx_dmabuf_view_manager_v1 *manager; // NULL if it is not there
	struct ext_output_image_capture_source_manager_v1 *sources;
	struct wl_shm *shm;
	struct wp_single_pixel_buffer_manager_v1 *single_pixel;
	struct wp_security_context_manager_v1 *security_contexts;
	struct zwp_linux_dmabuf_v1 *linux_dmabuf;
	struct zwlr_export_dmabuf_manager_v1 *export_dmabuf;
	struct wl_output *outputs[32];
	uint32_t n_outputs;
	uint32_t guarantees;
	uint32_t n_guarantees_events;
	bool asleep; // does not read its socket
};

/** Connects a client and waits until it knows the globals. */
struct client *client_create(struct server *server);
/** The same on a connected socket, which is taken over. */
struct client *client_create_on(struct server *server, int take_fd);
/** The same on a pair of sockets, which are taken over. */
struct client *client_create_between(struct server *server, int take_server_fd,
	int take_client_fd);
/** Destroys its sessions, with all that they got. */
void client_destroy_sessions(struct client *client);
/** Destroys its sessions, disconnects and frees. */
void client_destroy(struct client *client);
/** Waits until the compositor has handled all that was sent, and all answers. */
void client_roundtrip(struct client *client);
/** Handles what has arrived by now. The compositor's side does nothing, and flushes nothing. */
void client_read(struct client *client);
/** Checks that the compositor answered with this protocol error. */
void client_expect_error(struct client *client, const struct wl_interface *interface,
	uint32_t code);

/** Handles everything that can be handled without waiting. */
void pump(struct server *server);
/** Handles events until the condition holds; the test fails if it never does. */
#define pump_until(server, condition) \
	do { \
		while (!(condition)) { \
			pump_wait(server); \
		} \
	} while (0)
/** Waits for something to happen, and handles it. */
void pump_wait(struct server *server);

struct ext_image_capture_source_v1 *client_get_source(struct client *client, uint32_t output);

/** What a client says of a session before it starts. */
struct test_setup {
	uint32_t options; // bitfield of enum vitrine_view_option
	uint32_t acceptable; // guarantees; 0 says nothing
	/**
	 * 0 for all, and formats for a device that there is not: dma-bufs of the system's
	 * memory are imported, those of devices are mapped.
	 */
	uint32_t storages;
	bool implicit_release;
};

/** A session that has not started, and for which nothing was said. */
struct test_session *test_session_create_unstarted(struct client *client,
	struct ext_image_capture_source_v1 *source);
/** Says what a client says, but for the start. */
void test_session_set_up(struct test_session *session, const struct test_setup *setup);
/** Lists a format. A device of 0 is the CPU. */
void test_session_add_format(struct test_session *session, dev_t device, uint32_t fourcc,
	uint64_t modifier);
/** A session that was set up and started; the compositor may have stopped it. */
struct test_session *test_session_create_with(struct client *client,
	const struct test_setup *setup);
/** `options` is a bitfield of enum vitrine_view_option. */
struct test_session *test_session_create(struct client *client, uint32_t options,
	uint32_t acceptable);
struct test_session *test_session_create_for(struct client *client,
	struct ext_image_capture_source_v1 *source, uint32_t options, uint32_t acceptable);
/** A session without options; the compositor may have stopped it. */
struct test_session *test_session_try(struct client *client, uint32_t acceptable);
/** The same, and it has started. */
struct test_session *test_session_start(struct client *client, uint32_t acceptable);
/** The same, and it releases each frame at once. */
struct test_session *test_session_start_reader(struct client *client, uint32_t acceptable);
/** Checks that it has been stopped for this reason. */
void test_session_check_stop(const struct test_session *session, uint32_t reason);
/** Destroys the session, then unmaps and closes what it got. */
void test_session_destroy(struct test_session *session);
/** The same, and waits until the compositor has handled it. */
void test_session_close(struct test_session *session);
/** Destroys the protocol object alone: fds and mappings are kept. */
void test_session_end(struct test_session *session);
/** The last frame; the test fails if there is none. */
struct test_frame *test_session_last_frame(struct test_session *session);
void test_session_release(struct test_session *session, uint32_t serial);
void test_session_release_last(struct test_session *session);
/**
 * Releases all frames but the last `n_kept`, and these as well if they were revoked; for
 * sessions that release by this alone.
 */
void test_session_release_all_but(struct test_session *session, uint32_t n_kept);

/** Maps the view read-only; kept until the session is destroyed. */
const uint8_t *test_view_map(struct test_view *view);
/** The pixel at x, y as 0xRRGGBB. */
uint32_t test_view_get_pixel(struct test_view *view, uint32_t x, uint32_t y);
/** The pixel of the last frame. */
uint32_t test_session_get_pixel(struct test_session *session, uint32_t x, uint32_t y);
/** A checksum of all of the memory. */
uint64_t test_view_checksum(struct test_view *view);

/** What most tests begin with; for TEST_WITH() and TEST_WITH_EACH() of harness.h. */
struct fixture {
	struct server server;
	struct client *client;
	struct test_session *session; // NULL if none was asked for
};

struct fixture_options {
	struct server_options server;
	uint32_t acceptable; // to a session that has started; 0 for no session
	bool auto_release; // of this session
};

void fixture_set_up(struct fixture *f, const struct fixture_options *options);
/** Destroys all sessions and clients there are, and the compositor. */
void fixture_tear_down(struct fixture *f);
/** Paints a frame and lets all clients see it. */
void fixture_paint(struct fixture *f, uint32_t color);
/** A colour for the n-th frame, unlike those before it. */
uint32_t fixture_color(uint32_t n);
/** Paints the first to the last frame in these colours. */
void fixture_paint_frames(struct fixture *f, uint32_t first, uint32_t last);
/** Paints a frame, and checks that it comes to the session. */
void fixture_show(struct fixture *f, struct test_session *session, uint32_t color);
/** The same for the first to the last frame. */
void fixture_show_frames(struct fixture *f, struct test_session *session, uint32_t first,
	uint32_t last);
/** Paints 50 frames, and checks that no view that the session knows by now changes. */
void fixture_check_unchanged(struct fixture *f, struct test_session *session);
/** Checks that a client which keeps retired memory gets no more until it has closed it. */
void fixture_check_keeper(struct fixture *f, uint32_t acceptable);

/** The guarantees that there are on every machine. */
struct guarantee_param {
	const char *name;
	struct fixture_options options;
};
extern const struct guarantee_param each_guarantee[2];
/** The same, and the session releases each frame at once. */
extern const struct guarantee_param each_reader[2];

#endif
