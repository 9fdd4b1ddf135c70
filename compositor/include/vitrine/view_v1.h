/* SPDX-License-Identifier: MIT */
#ifndef VITRINE_VIEW_V1_H
#define VITRINE_VIEW_V1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <wayland-server-core.h>
#include <vitrine/derive.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wlr_ext_image_capture_source_v1;
struct wlr_output;
struct wlr_renderer;
struct wlr_scene_node;
struct wlr_security_context_manager_v1;

/** Options of a session. */
enum vitrine_view_option {
	VITRINE_VIEW_OPTION_PAINT_CURSORS = 1 << 0,
};

/** Why a session stopped; the values are those of the protocol. */
enum vitrine_view_stop_reason {
	VITRINE_VIEW_STOP_SOURCE_GONE = 0,
	VITRINE_VIEW_STOP_DENIED = 1,
	VITRINE_VIEW_STOP_REVOKED = 2,
	VITRINE_VIEW_STOP_LOCKED = 3,
	VITRINE_VIEW_STOP_NO_RESOURCES = 4,
	VITRINE_VIEW_STOP_UNSUPPORTED = 5,
};

/**
 * A client, as it was when it connected. Pid, uid and gid are those of the process that
 * called connect(): a process may pass its connection on, run another program, or be
 * controlled by another one of its user. The strings are what processes and sandboxes say
 * of themselves, byte by byte: never print them as they are.
 */
struct vitrine_view_client {
	/** 0 if the process is in a pid namespace that the compositor does not see into. */
	pid_t pid;
	uid_t uid;
	gid_t gid;
	/** The name of the process, no longer than 16 bytes. Empty if it is not known. */
	const char *comm;
	/**
	 * The program that it ran, as /proc/PID/exe names it. NULL if that cannot be read:
	 * it was gone, is another user's, or forbids it.
	 */
	const char *executable; // may be NULL
	/** Whether the client is behind a security context: what it says of itself follows. */
	bool sandboxed;
	const char *engine; // may be NULL, e.g. "org.flatpak"
	const char *app_id; // may be NULL
	const char *instance_id; // may be NULL
};

/** Why the policy is asked. */
enum vitrine_view_request_kind {
	/** The client has bound the global: what may it have at all, of one source or another? */
	VITRINE_VIEW_REQUEST_BIND,
	/** It wants to look at a source, or goes on to do so when the policy has changed. */
	VITRINE_VIEW_REQUEST_SESSION,
	/** It wants a view of a buffer of its own. */
	VITRINE_VIEW_REQUEST_BUFFER,
};

/** What a client asks for, for the policy to decide. */
struct vitrine_view_request {
	enum vitrine_view_request_kind kind;
	struct wl_client *client;
	/** Which client that is. Valid during the call. */
	const struct vitrine_view_client *identity;
	/**
	 * The source of a session. NULL when the client asks for a view of a buffer
	 * of its own, when it has just bound the global, and when it captures an
	 * output through wlr-export-dmabuf.
	 */
	struct wlr_ext_image_capture_source_v1 *source; // may be NULL
	/** The output that is to be viewed. NULL if there is none. */
	struct wlr_output *output; // may be NULL
	/**
	 * The app-id of the window that the source shows, as the window's client says. NULL if
	 * it shows no window, or the app-id is not known, as for windows of X11.
	 */
	const char *window; // may be NULL
	/** The guarantees that the client accepts, enum vitrine_guarantee. */
	uint32_t acceptable;
	/** The storages that it can read, enum vitrine_storage. */
	uint32_t storages;
	uint32_t options; // bitfield of enum vitrine_view_option
	/** The same as identity->sandboxed. */
	bool sandboxed;
};

/**
 * What the default policy allows: everything but fd_read_only, since a holder that
 * can open a device node may write through it.
 */
#define VITRINE_VIEW_GUARANTEES_DEFAULT (VITRINE_GUARANTEE_ALL & ~VITRINE_GUARANTEE_FD_READ_ONLY)

/** What a client may have. */
struct vitrine_view_permission {
	uint32_t guarantees; // bitfield of enum vitrine_guarantee; 0 denies the request
	uint32_t storages; // bitfield of enum vitrine_storage
};

/** Returns what the client may have. */
typedef struct vitrine_view_permission (*vitrine_view_policy_func_t)(
	const struct vitrine_view_request *request, void *data);

/**
 * How much of one kind there may be at a time, at each of three levels. What one level
 * lacks is refused, whatever the others have left.
 *
 * A group is what one user runs, where clients behind security contexts are a group of
 * their own; in that one each application (engine and app-id) has half of what the group
 * has. A holder is a process, for as long as it lives, with all its connections. All
 * clients of a group whose process has ended, or is in another PID namespace, are one
 * holder together.
 */
struct vitrine_view_limit {
	uint64_t for_all;
	uint64_t per_group;
	uint64_t per_holder;
};

/** So many at once, and one more in each interval, in ms. An interval of 0 is no limit. */
struct vitrine_view_rate {
	uint32_t burst;
	uint32_t interval_ms;
};

/**
 * Limits that bound what clients can cost. All of them are there to keep the
 * compositor going with any number of hostile clients. They can be changed at any
 * time and count from then on, but for `frames_per_session`.
 */
struct vitrine_view_limits {
	/** Frames that a session may hold, 1 to 4, for sessions that are created later. */
	uint32_t frames_per_session;
	/** A held frame is revoked after this time, in ms. */
	uint32_t frame_deadline_ms;
	/** The same while another session waits for a buffer, in ms. */
	uint32_t contended_frame_deadline_ms;
	/**
	 * Sessions and pending views of buffers. A group, or all, that has none left takes
	 * them from the holder that has most: see docs/threat-model.md.
	 */
	struct vitrine_view_limit objects;
	/**
	 * File descriptors of the compositor that are kept for clients. If `for_all` is 0,
	 * which is the default: a quarter of what RLIMIT_NOFILE allows, half of that a group,
	 * and a quarter of that a holder.
	 */
	struct vitrine_view_limit fds;
	/** Copies of an output's frames for one holder or one client alone: each may have a thread. */
	struct vitrine_view_limit copiers;
	/** Threads that copy a client's buffer. */
	struct vitrine_view_limit copies;
	/** Bytes of copies of frames that are for one holder or one client alone, and of buffers. */
	struct vitrine_view_limit private_bytes;
	/**
	 * Bytes of memory that more than one holder may be shown, and pieces of it: what is
	 * reserved for that, what is announced, and what has retired and a client may still have.
	 */
	struct vitrine_view_limit shared_bytes;
	struct vitrine_view_limit shared_pieces;
	/**
	 * `shared_bytes` is no less than so many sets of the four buffers that the largest screen
	 * which is viewed is drawn to, but for what is more than a quarter of the machine's memory:
	 * a screen is seen whatever its size. Windows do not count, whose size is their client's.
	 */
	struct vitrine_view_limit shared_sets;
	/**
	 * Memory is given back when it is certain that no client has it any more. A kernel
	 * before Linux 6.7, without huge pages, or with pages of other than 4 KiB cannot tell that
	 * of memory that clients have closed. Then one piece of it is given back in each
	 * interval, in ms: the bounds on memory grow by that much for clients that hide what they
	 * keep. 0 is at once.
	 */
	uint32_t unknown_interval_ms;
	/**
	 * Starts of sessions, and copies of clients' buffers. Sessions and copies beyond
	 * that start later.
	 */
	struct vitrine_view_rate starts_per_group;
	struct vitrine_view_rate starts_per_holder;
};

/**
 * The xx_dmabuf_view_manager_v1 global. Destroyed with the display.
 */
struct vitrine_view_manager_v1 {
	struct wl_global *global;

	struct vitrine_view_limits limits;

	/** All listeners are gone when `destroy` has been emitted, or an assertion fails. */
	struct {
		/** All sessions have ended: struct vitrine_view_manager_v1. */
		struct wl_signal destroy;
		/** A session starts: struct vitrine_view_session_v1. */
		struct wl_signal session_start;
		/**
		 * A session is about to be shown its first view, or one with another
		 * guarantee than before: struct vitrine_view_session_v1. Emitted while an
		 * output commits: no session may be stopped by the listener.
		 */
		struct wl_signal session_guarantee;
		/**
		 * A session that started has ended: struct vitrine_view_session_v1. The listener
		 * may stop other sessions, but must not destroy outputs or capture sources.
		 */
		struct wl_signal session_stop;
	} events;

	void *data;
};

/**
 * A session of a client. Valid from the session_start signal until the
 * session_stop signal has been emitted.
 */
struct vitrine_view_session_v1;

/** Figures of a session, for logs and tests. */
struct vitrine_view_session_stats {
	uint64_t frames; // sent
	uint64_t skipped; // frames of the source that were not sent
	uint64_t revoked; // frames taken back
	uint32_t views; // announced
	uint32_t fds; // sent
	uint64_t bytes_copied; // for snapshots
};

/**
 * Creates the global. Each client that is not sandboxed may have the guarantees of
 * VITRINE_VIEW_GUARANTEES_DEFAULT; each sandboxed client is denied. Returns NULL on
 * failure.
 */
struct vitrine_view_manager_v1 *vitrine_view_manager_v1_create(
	struct wl_display *display, uint32_t version);

/**
 * Tells the manager how to recognize sandboxed clients: those that came through
 * this security-context manager, which must outlive the display's clients. NULL
 * means that there are none.
 */
void vitrine_view_manager_v1_set_security_context_manager(
	struct vitrine_view_manager_v1 *manager,
	struct wlr_security_context_manager_v1 *security_context_manager);

/**
 * Tells the manager which renderer reads the clients' buffers: copies of those are made
 * with its device. Without it, or with a renderer that draws with the CPU, the CPU copies
 * them. The renderer may go at any time. Returns false for lack of file descriptors.
 */
bool vitrine_view_manager_v1_set_renderer(struct vitrine_view_manager_v1 *manager,
	struct wlr_renderer *renderer);

/**
 * Replaces the default policy. `func` may be NULL for the default. It is called
 * when a client binds the global and for each request. The guarantees event is
 * sent again to the clients for which the answer changes.
 */
void vitrine_view_manager_v1_set_policy(struct vitrine_view_manager_v1 *manager,
	vitrine_view_policy_func_t func, void *data);

/**
 * What the default policy allows to clients that are not sandboxed, a bitfield of
 * enum vitrine_guarantee. fd_read_only has to be allowed by name.
 */
void vitrine_view_manager_v1_set_allowed(struct vitrine_view_manager_v1 *manager,
	uint32_t guarantees);

/**
 * Asks the policy again for all clients: sends them the guarantees event if it
 * changed, and stops their sessions with `denied` if their guarantee or their storage is
 * not allowed any more.
 */
void vitrine_view_manager_v1_update_policy(struct vitrine_view_manager_v1 *manager);

/**
 * Stops all sessions, e.g. because the screen is locked. What is drawn later
 * is visible through nothing that the clients kept.
 */
void vitrine_view_manager_v1_stop_sessions(struct vitrine_view_manager_v1 *manager,
	enum vitrine_view_stop_reason reason);

/**
 * Makes a capture source viewable that is not an output's, such as a window's:
 * `output` is what its frames are drawn to, and there for nothing else. `node` is what
 * is drawn; may be NULL.
 *
 * The source is started while it is viewed, and drawn no faster than the fastest
 * enabled output refreshes that a surface below `node` has entered. Where there is
 * none that is known: no faster than at 60 Hz.
 *
 * Forgotten when the source is destroyed, which comes before the output is. The node
 * may go earlier. Returns false on allocation failure.
 */
bool vitrine_view_manager_v1_add_source(struct vitrine_view_manager_v1 *manager,
	struct wlr_ext_image_capture_source_v1 *source, struct wlr_output *output,
	struct wlr_scene_node *node);

/**
 * While the screen is locked no client may look: stops all sessions with `locked`
 * when it is set, refuses new ones, and asks the policy again when it is cleared.
 * To be set before anything of the lock screen is drawn.
 */
void vitrine_view_manager_v1_set_locked(struct vitrine_view_manager_v1 *manager, bool locked);

/**
 * The session that started after this one, of all that have started and not ended; the
 * first of them if `previous` is NULL. Returns NULL if there is no other.
 */
struct vitrine_view_session_v1 *vitrine_view_manager_v1_get_next_session(
	const struct vitrine_view_manager_v1 *manager,
	const struct vitrine_view_session_v1 *previous);
/**
 * Which client that is: what sessions and requests tell too, for clients that have none.
 * Valid until it disconnects. NULL on allocation failure.
 */
const struct vitrine_view_client *vitrine_view_manager_v1_get_identity(
	struct vitrine_view_manager_v1 *manager, struct wl_client *client);

/** Stops one session. It is destroyed by this. */
void vitrine_view_session_v1_stop(struct vitrine_view_session_v1 *session,
	enum vitrine_view_stop_reason reason);

struct wl_client *vitrine_view_session_v1_get_client(
	const struct vitrine_view_session_v1 *session);
/** Which client that is, as it was when it connected. Valid as long as the session. */
const struct vitrine_view_client *vitrine_view_session_v1_get_identity(
	const struct vitrine_view_session_v1 *session);
/** The guarantee that the session's views carry, 0 before the first frame. */
uint32_t vitrine_view_session_v1_get_guarantee(
	const struct vitrine_view_session_v1 *session);
/** The storage of the session's newest view, enum vitrine_storage; 0 before the first frame. */
uint32_t vitrine_view_session_v1_get_storage(
	const struct vitrine_view_session_v1 *session);
/** A number that no other session of the manager has or had, from 1 on. */
uint64_t vitrine_view_session_v1_get_id(const struct vitrine_view_session_v1 *session);
/** When the session started, of CLOCK_REALTIME. */
struct timespec vitrine_view_session_v1_get_start_time(
	const struct vitrine_view_session_v1 *session);
/** The name of the protocol that the client uses, a static string. */
const char *vitrine_view_session_v1_get_protocol(
	const struct vitrine_view_session_v1 *session);
/** The name of the output that is viewed. Valid as long as the session. */
const char *vitrine_view_session_v1_get_source_name(
	const struct vitrine_view_session_v1 *session);
/**
 * The app-id of the window that is viewed, as the window's client says. NULL if it is none,
 * not known, or gone. Valid until the window changes it.
 */
const char *vitrine_view_session_v1_get_window(
	const struct vitrine_view_session_v1 *session);
void vitrine_view_session_v1_get_stats(
	const struct vitrine_view_session_v1 *session,
	struct vitrine_view_session_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
