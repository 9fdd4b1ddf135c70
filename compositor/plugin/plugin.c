/* SPDX-License-Identifier: MIT */
/**
 * Libvitrine for a compositor that knows nothing of it: a library that is
 * preloaded, and stands in for public functions of wlroots and libwayland that
 * every compositor calls. See docs/plugin.md.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <vitrine/allocator.h>
#include <vitrine/export_dmabuf_v1.h>
#include <vitrine/view_v1.h>
#include <wlr/backend.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_ext_image_copy_capture_v1.h>
#include <wlr/types/wlr_export_dmabuf_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_security_context_v1.h>
#include <wlr/types/wlr_session_lock_v1.h>

#include "admin.h"
#include "hangup.h"
#include "nofile.h"
#include "plugin.h"

/** The function that the compositor meant. */
#define next(name) ((__typeof__(&name))plugin_dlsym(#name))

/** One compositor lives in a process: what it calls has no room for our pointer. */
static struct {
	struct plugin_options options;
	bool started; // the backend is

	struct wlr_renderer *renderer; // NULL before it has an allocator, and once it is gone
	struct wl_display *display; // NULL before it is created, and after it is destroyed
	struct vitrine_view_manager_v1 *manager; // NULL likewise
	struct wlr_ext_output_image_capture_source_manager_v1 *sources; // likewise
	struct wlr_security_context_manager_v1 *security_contexts; // may be NULL
	/** Stands in for the one that the compositor asked for. NULL if it did not. */
	struct wlr_export_dmabuf_manager_v1 *export_dmabuf;
	bool has_copy_capture; // ext-image-copy-capture
	/** Globals of stock protocols that the compositor did not ask for. */
	const struct wl_global *added[2];
	bool in_scene_node_source;
	struct wlr_output *scene_node_output; // that was made in there

	wl_display_global_filter_func_t filter; // the compositor's own, may be NULL
	void *filter_data;

	bool locked;
	struct wlr_session_lock_v1 *lock; // that locked; NULL if its client is gone
	/** Until the compositor has had its say on the lock. */
	bool lock_pending;
	struct wlr_session_lock_manager_v1 *locks; // NULL before it is created
	struct wl_event_source *locks_idle; // NULL unless it is created late

	struct wl_listener renderer_destroy;
	struct wl_listener display_destroy;
	struct wl_listener security_contexts_destroy;
	struct wl_listener manager_destroy;
	struct wl_listener export_dmabuf_destroy;
	struct wl_listener allocator_described; // of the first one
	struct wl_listener allocator_destroy;
	struct wl_listener session_guarantee;
	struct wl_listener session_stop;
	struct wl_listener lock_manager_new_lock;
	struct wl_listener lock_manager_after_new_lock;
	struct wl_listener lock_manager_destroy;
	struct wl_listener lock_unlock;
	struct wl_listener lock_destroy;
} plugin;

static void *plugin_dlsym(const char *name) {
	void *symbol = dlsym(RTLD_NEXT, name);
	if (symbol == NULL) {
		plugin_log("no %s in this process", name);
		plugin_report_finish();
		abort(); // as the dynamic linker would have done
	}
	return symbol;
}

__attribute__((constructor)) static void plugin_init(void) {
	plugin_options_init(&plugin.options);
	plugin_report_init(&plugin.options);
	admin_init(&plugin.options);
}

__attribute__((destructor)) static void plugin_finish(void) {
	plugin_report_finish();
}

static void listen_to(struct wl_signal *signal, struct wl_listener *listener,
		wl_notify_func_t notify) {
	listener->notify = notify;
	wl_signal_add(signal, listener);
}

/** Removing twice is harmless. */
static void stop_listening(struct wl_listener *listener) {
	if (listener->notify != NULL) {
		wl_list_remove(&listener->link);
		listener->notify = NULL;
	}
}

/* The clients that look */

static const struct wlr_security_context_v1_state *get_sandbox(const struct wl_client *client) {
	return plugin.security_contexts == NULL ? NULL :
		wlr_security_context_manager_v1_lookup_client(plugin.security_contexts, client);
}

static void report_session(const struct vitrine_view_session_v1 *session, const char *what) {
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(session, &stats);
	plugin_report(&(struct plugin_event){
		.what = what,
		.source = vitrine_view_session_v1_get_source_name(session),
		.protocol = vitrine_view_session_v1_get_protocol(session),
		.client = vitrine_view_session_v1_get_identity(session),
		.guarantee = vitrine_view_session_v1_get_guarantee(session),
		.frames = stats.frames,
	});
}

static void handle_session_guarantee(struct wl_listener *listener, void *data) {
	const struct vitrine_view_session_v1 *session = data;
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(session, &stats);
	report_session(session, stats.frames == 0 ? "start" : "change");
}

static void handle_session_stop(struct wl_listener *listener, void *data) {
	const struct vitrine_view_session_v1 *session = data;
	if (vitrine_view_session_v1_get_guarantee(session) != 0) {
		report_session(session, "stop");
	} // else nothing was ever shown
}

/* Policy */

/** What no filter but ours knows of. */
static bool is_ours(const struct wl_global *global) {
	return (plugin.manager != NULL && plugin.manager->global == global) ||
		(plugin.export_dmabuf != NULL && plugin.export_dmabuf->global == global) ||
		plugin.added[0] == global || plugin.added[1] == global;
}

/** What a client needs to look, without being ours. */
static bool is_for_views(const struct wl_global *global) {
	return plugin.sources != NULL && plugin.sources->global == global;
}

/**
 * The filters of compositors are lists of what sandboxed clients must not see.
 * They cannot have our global in them.
 */
static bool filter_global(const struct wl_client *client, const struct wl_global *global,
		void *data) {
	if (is_ours(global) && get_sandbox(client) != NULL) {
		return admin_may_look(client);
	}
	if (is_for_views(global) && get_sandbox(client) != NULL && admin_may_look(client)) {
		return true;
	}
	return plugin.filter == NULL || plugin.filter(client, global, plugin.filter_data);
}

void wl_display_set_global_filter(struct wl_display *display,
		wl_display_global_filter_func_t filter, void *data) {
	plugin.filter = filter;
	plugin.filter_data = data;
	next(wl_display_set_global_filter)(display, filter_global, NULL);
}

static void handle_security_contexts_destroy(struct wl_listener *listener, void *data) {
	stop_listening(listener);
	plugin.security_contexts = NULL;
}

/** Often created long after the view manager. */
struct wlr_security_context_manager_v1 *wlr_security_context_manager_v1_create(
		struct wl_display *display) {
	struct wlr_security_context_manager_v1 *contexts =
		next(wlr_security_context_manager_v1_create)(display);
	if (contexts != NULL && plugin.security_contexts == NULL) {
		plugin.security_contexts = contexts;
		listen_to(&contexts->events.destroy, &plugin.security_contexts_destroy,
			handle_security_contexts_destroy);
		if (plugin.manager != NULL) {
			vitrine_view_manager_v1_set_security_context_manager(plugin.manager, contexts);
		}
	}
	return contexts;
}

/* Locking */

static void set_locked(bool locked) {
	plugin.locked = locked;
	if (plugin.manager != NULL) {
		vitrine_view_manager_v1_set_locked(plugin.manager, locked);
	}
}

static void forget_lock(void) {
	stop_listening(&plugin.lock_unlock);
	stop_listening(&plugin.lock_destroy);
	plugin.lock_pending = false;
	plugin.lock = NULL;
}

static void handle_lock_unlock(struct wl_listener *listener, void *data) {
	forget_lock();
	set_locked(false);
}

static void handle_lock_destroy(struct wl_listener *listener, void *data) {
	// "If the client dies while the session is locked, the compositor must not
	// unlock the session". But a lock that goes while it is announced was refused
	bool refused = plugin.lock_pending;
	forget_lock();
	if (refused) {
		set_locked(false);
	}
}

/** Before the compositor hears of it, and long before the lock screen is drawn. */
static void handle_new_lock(struct wl_listener *listener, void *data) {
	struct wlr_session_lock_v1 *lock = data;
	if (plugin.lock != NULL) {
		return; // there is one that locks, so this one will be refused
	}
	bool was_locked = plugin.locked; // by a client that is gone
	plugin.lock = lock;
	listen_to(&lock->events.unlock, &plugin.lock_unlock, handle_lock_unlock);
	listen_to(&lock->events.destroy, &plugin.lock_destroy, handle_lock_destroy);
	if (!was_locked) {
		// If we are not told of the decision, there is none to wait for
		plugin.lock_pending = plugin.lock_manager_after_new_lock.notify != NULL;
		set_locked(true);
	}
}

/** After the compositor has heard of it: a lock that is still there is accepted. */
static void handle_after_new_lock(struct wl_listener *listener, void *data) {
	plugin.lock_pending = false;
}

/** The compositor has its own listener by now: this one comes after it. */
static void listen_after_compositor(void *data) {
	plugin.locks_idle = NULL;
	listen_to(&plugin.locks->events.new_lock, &plugin.lock_manager_after_new_lock,
		handle_after_new_lock);
}

static void handle_lock_manager_destroy(struct wl_listener *listener, void *data) {
	if (plugin.locks_idle != NULL) {
		wl_event_source_remove(plugin.locks_idle);
		plugin.locks_idle = NULL;
	}
	stop_listening(&plugin.lock_manager_new_lock);
	stop_listening(&plugin.lock_manager_after_new_lock);
	stop_listening(&plugin.lock_manager_destroy);
	plugin.locks = NULL;
}

struct wlr_session_lock_manager_v1 *wlr_session_lock_manager_v1_create(
		struct wl_display *display) {
	struct wlr_session_lock_manager_v1 *locks =
		next(wlr_session_lock_manager_v1_create)(display);
	if (locks != NULL && display == plugin.display && plugin.locks == NULL) {
		plugin.locks = locks;
		listen_to(&locks->events.new_lock, &plugin.lock_manager_new_lock, handle_new_lock);
		listen_to(&locks->events.destroy, &plugin.lock_manager_destroy,
			handle_lock_manager_destroy);
		if (plugin.started) {
			plugin.locks_idle = wl_event_loop_add_idle(wl_display_get_event_loop(display),
				listen_after_compositor, NULL);
		}
	}
	return locks;
}

/* Globals */

static void handle_manager_destroy(struct wl_listener *listener, void *data) {
	stop_listening(&plugin.manager_destroy);
	stop_listening(&plugin.session_guarantee);
	stop_listening(&plugin.session_stop);
	admin_stop();
	plugin.manager = NULL;
}

/** The sessions end before their manager does, and want to be told of. */
static void handle_display_destroy(struct wl_listener *listener, void *data) {
	stop_listening(&plugin.display_destroy);
	forget_lock();
	plugin.display = NULL;
	plugin.sources = NULL;
	plugin.added[0] = plugin.added[1] = NULL;
}

struct wl_display *wl_display_create(void) {
	struct wl_display *display = next(wl_display_create)();
	if (display != NULL && plugin.display == NULL) {
		plugin.display = display;
		plugin.display_destroy.notify = handle_display_destroy;
		wl_display_add_destroy_listener(display, &plugin.display_destroy);
	}
	return display;
}

int wl_display_add_socket(struct wl_display *display, const char *name) {
	int ret = next(wl_display_add_socket)(display, name);
	const char *default_name = getenv("WAYLAND_DISPLAY");
	if (ret == 0 && display == plugin.display) {
		admin_set_socket(name != NULL ? name :
			default_name != NULL ? default_name : "wayland-0");
	}
	return ret;
}

const char *wl_display_add_socket_auto(struct wl_display *display) {
	const char *name = next(wl_display_add_socket_auto)(display);
	if (name != NULL && display == plugin.display) {
		admin_set_socket(name);
	}
	return name;
}

struct wl_event_source *wl_event_loop_add_signal(struct wl_event_loop *loop, int signal_number,
		wl_event_loop_signal_func_t func, void *data) {
	return signal_number == SIGHUP ?
		hangup_add_signal(loop, func, data, next(wl_event_loop_add_signal)) :
		next(wl_event_loop_add_signal)(loop, signal_number, func, data);
}

static void create_manager(void) {
	// By now a compositor that does so itself has: what it has saved must not be ours
	nofile_raise();
	struct vitrine_view_manager_v1 *manager = vitrine_view_manager_v1_create(plugin.display, 1);
	if (manager == NULL) {
		plugin_log("out of memory: there are no read-only views");
		return;
	}
	plugin.manager = manager;
	if (!vitrine_view_manager_v1_set_renderer(manager, plugin.renderer)) {
		plugin_log("no file descriptor is left: the CPU copies clients' buffers");
	}
	if (plugin.options.deadline_ms != 0) {
		manager->limits.frame_deadline_ms = plugin.options.deadline_ms;
		if (manager->limits.contended_frame_deadline_ms > plugin.options.deadline_ms) {
			manager->limits.contended_frame_deadline_ms = plugin.options.deadline_ms;
		}
	}
	vitrine_view_manager_v1_set_security_context_manager(manager, plugin.security_contexts);
	listen_to(&manager->events.destroy, &plugin.manager_destroy, handle_manager_destroy);
	listen_to(&manager->events.session_guarantee, &plugin.session_guarantee,
		handle_session_guarantee);
	listen_to(&manager->events.session_stop, &plugin.session_stop, handle_session_stop);
	admin_set_manager(manager);
}

struct wlr_ext_output_image_capture_source_manager_v1 *
wlr_ext_output_image_capture_source_manager_v1_create(struct wl_display *display,
		uint32_t version) {
	struct wlr_ext_output_image_capture_source_manager_v1 *sources =
		next(wlr_ext_output_image_capture_source_manager_v1_create)(display, version);
	if (display == plugin.display) {
		plugin.sources = sources;
	}
	return sources;
}

static void handle_export_dmabuf_destroy(struct wl_listener *listener, void *data) {
	struct wlr_export_dmabuf_manager_v1 *export_dmabuf = plugin.export_dmabuf;
	stop_listening(listener);
	plugin.export_dmabuf = NULL;
	wl_signal_emit_mutable(&export_dmabuf->events.destroy, export_dmabuf);
	free(export_dmabuf);
}

/** Compositors look at no more of the result than its global and its signal. */
struct wlr_export_dmabuf_manager_v1 *wlr_export_dmabuf_manager_v1_create(
		struct wl_display *display) {
	if (plugin.manager == NULL && display == plugin.display) {
		create_manager();
	}
	if (plugin.manager == NULL || display != plugin.display || plugin.export_dmabuf != NULL) {
		return NULL; // rather none than one that hands out writable memory
	}
	struct wlr_export_dmabuf_manager_v1 *stand_in = calloc(1, sizeof(*stand_in));
	struct vitrine_export_dmabuf_manager_v1 *export_dmabuf =
		stand_in != NULL ? vitrine_export_dmabuf_manager_v1_create(plugin.manager) : NULL;
	if (export_dmabuf == NULL) {
		free(stand_in);
		return NULL;
	}
	stand_in->global = export_dmabuf->global;
	wl_list_init(&stand_in->frames);
	wl_signal_init(&stand_in->events.destroy);
	plugin.export_dmabuf = stand_in;
	listen_to(&export_dmabuf->events.destroy, &plugin.export_dmabuf_destroy,
		handle_export_dmabuf_destroy);
	return stand_in;
}

struct wlr_ext_image_copy_capture_manager_v1 *wlr_ext_image_copy_capture_manager_v1_create(
		struct wl_display *display, uint32_t version) {
	plugin.has_copy_capture = true;
	return next(wlr_ext_image_copy_capture_manager_v1_create)(display, version);
}

/** Wlroots draws a window to an output that it does not show: this is how to get it. */
struct wlr_scene_output *wlr_scene_output_create(struct wlr_scene *scene,
		struct wlr_output *output) {
	if (plugin.in_scene_node_source) {
		plugin.scene_node_output = output;
	}
	return next(wlr_scene_output_create)(scene, output);
}

struct wlr_ext_image_capture_source_v1 *wlr_ext_image_capture_source_v1_create_with_scene_node(
		struct wlr_scene_node *node, struct wl_event_loop *event_loop,
		struct wlr_allocator *allocator, struct wlr_renderer *renderer) {
	plugin.in_scene_node_source = true;
	plugin.scene_node_output = NULL;
	struct wlr_ext_image_capture_source_v1 *source =
		next(wlr_ext_image_capture_source_v1_create_with_scene_node)(node, event_loop,
			allocator, renderer);
	plugin.in_scene_node_source = false;
	if (source != NULL && plugin.scene_node_output != NULL && plugin.manager != NULL) {
		vitrine_view_manager_v1_add_source(plugin.manager, source, plugin.scene_node_output,
			node);
	}
	return source;
}

static void handle_renderer_destroy(struct wl_listener *listener, void *data) {
	plugin.renderer = NULL;
	stop_listening(&plugin.renderer_destroy);
}

/** The renderer of the last allocator, which is most often there before the manager. */
static void set_renderer(struct wlr_renderer *renderer) {
	if (plugin.renderer != NULL) {
		stop_listening(&plugin.renderer_destroy);
	}
	plugin.renderer = renderer;
	listen_to(&renderer->events.destroy, &plugin.renderer_destroy, handle_renderer_destroy);
	if (plugin.manager != NULL) {
		vitrine_view_manager_v1_set_renderer(plugin.manager, renderer);
	}
}

static void handle_allocator_described(struct wl_listener *listener, void *data) {
	plugin_log("buffers: %s", (const char *)data);
}

static void handle_allocator_destroy(struct wl_listener *listener, void *data) {
	stop_listening(&plugin.allocator_described);
	stop_listening(&plugin.allocator_destroy);
}

struct wlr_allocator *wlr_allocator_autocreate(struct wlr_backend *backend,
		struct wlr_renderer *renderer) {
	if (vitrine_allocator_is_falling_back()) {
		return next(wlr_allocator_autocreate)(backend, renderer);
	}
	set_renderer(renderer);
	struct wlr_allocator *allocator = vitrine_allocator_autocreate(backend, renderer);
	struct wl_signal *described =
		allocator != NULL ? vitrine_allocator_get_described_signal(allocator) : NULL;
	if (described != NULL && plugin.allocator_described.notify == NULL) {
		listen_to(described, &plugin.allocator_described, handle_allocator_described);
		listen_to(&allocator->events.destroy, &plugin.allocator_destroy,
			handle_allocator_destroy);
	}
	return allocator;
}

/** What clients name their sources with, where the compositor does without. */
static void add_capture_globals(void) {
	wlr_ext_output_image_capture_source_manager_v1_create(plugin.display, 1);
	plugin.added[0] = plugin.sources != NULL ? plugin.sources->global : NULL;
	if (!plugin.has_copy_capture) {
		// Clients expect the one where there is the other, or crash
		struct wlr_ext_image_copy_capture_manager_v1 *copy_capture =
			wlr_ext_image_copy_capture_manager_v1_create(plugin.display, 1);
		plugin.added[1] = copy_capture != NULL ? copy_capture->global : NULL;
	}
}

/** By now the compositor has created what it wants: the rest is up to us. */
static void complete_globals(void) {
	if (plugin.manager == NULL) {
		create_manager();
	}
	if (plugin.sources == NULL) {
		add_capture_globals();
	}
	if (plugin.filter == NULL) {
		wl_display_set_global_filter(plugin.display, NULL, NULL);
	}
	if (plugin.locks != NULL) {
		listen_after_compositor(NULL);
	}
	if (plugin.manager != NULL) {
		admin_listen(plugin.display);
	}
	plugin_log("read-only views are on");
}

bool wlr_backend_start(struct wlr_backend *backend) {
	// Called again for the parts of the backend
	if (!plugin.started && plugin.display != NULL) {
		plugin.started = true;
		complete_globals();
	}
	return next(wlr_backend_start)(backend);
}
