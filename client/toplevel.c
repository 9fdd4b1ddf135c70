/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext-foreign-toplevel-list-v1-client-protocol.h"
#include "ext-image-capture-source-v1-client-protocol.h"
#include "private.h"

struct vitrine_toplevel {
	struct vitrine_source source;
	struct ext_foreign_toplevel_handle_v1 *handle;
	char *identifier, *app_id, *title; // NULL if not known
	bool is_done; // it is in vitrine_client.toplevels
};

static struct ext_image_capture_source_v1 *toplevel_create_proxy(struct vitrine_source *source) {
	struct vitrine_toplevel *toplevel = wl_container_of(source, toplevel, source);
	return ext_foreign_toplevel_image_capture_source_manager_v1_create_source(
		source->client->toplevel_source_manager, toplevel->handle);
}

static void toplevel_destroy(struct vitrine_toplevel *toplevel) {
	ext_foreign_toplevel_handle_v1_destroy(toplevel->handle);
	free(toplevel->identifier);
	free(toplevel->app_id);
	free(toplevel->title);
	wl_list_remove(&toplevel->source.link);
	free(toplevel);
}

/** False if there is no memory for it, or too many. */
static bool client_list_toplevel(struct vitrine_client *client, struct vitrine_toplevel *toplevel) {
	struct vitrine_toplevel **toplevels = client->n_toplevels == MAX_TOPLEVELS ? NULL :
		realloc(client->toplevels, (client->n_toplevels + 1) * sizeof(*toplevels));
	if (toplevels == NULL) {
		return false;
	}
	client->toplevels = toplevels;
	client->toplevels[client->n_toplevels++] = toplevel;
	return true;
}

static void client_unlist_toplevel(struct vitrine_client *client,
		const struct vitrine_toplevel *toplevel) {
	size_t i = 0;
	while (client->toplevels[i] != toplevel) {
		i++;
	}
	client->n_toplevels--;
	memmove(&client->toplevels[i], &client->toplevels[i + 1],
		(client->n_toplevels - i) * sizeof(client->toplevels[0]));
}

static void toplevel_handle_closed(void *data, struct ext_foreign_toplevel_handle_v1 *handle) {
	struct vitrine_toplevel *toplevel = data;
	struct vitrine_client *client = toplevel->source.client;
	if (toplevel->is_done) {
		client_unlist_toplevel(client, toplevel);
		toplevel->source.create_proxy = NULL;
		if (client->listener != NULL && client->listener->toplevel_removed != NULL) {
			client->listener->toplevel_removed(client->listener_data, toplevel);
		}
	}
	toplevel_destroy(toplevel);
}

static void toplevel_handle_done(void *data, struct ext_foreign_toplevel_handle_v1 *handle) {
	struct vitrine_toplevel *toplevel = data;
	struct vitrine_client *client = toplevel->source.client;
	const struct vitrine_client_listener *listener = client->listener;
	bool is_new = !toplevel->is_done;
	if (is_new && !client_list_toplevel(client, toplevel)) {
		toplevel_destroy(toplevel);
		return;
	}
	toplevel->is_done = true;
	if (listener == NULL) {
		return;
	}
	void (*handle_it)(void *, struct vitrine_toplevel *) =
		is_new ? listener->toplevel_added : listener->toplevel_changed;
	if (handle_it != NULL) {
		handle_it(client->listener_data, toplevel);
	}
}

static void toplevel_handle_title(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *title) {
	struct vitrine_toplevel *toplevel = data;
	client_replace_string(&toplevel->title, title);
}

static void toplevel_handle_app_id(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *app_id) {
	struct vitrine_toplevel *toplevel = data;
	client_replace_string(&toplevel->app_id, app_id);
}

static void toplevel_handle_identifier(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *identifier) {
	struct vitrine_toplevel *toplevel = data;
	if (toplevel->identifier == NULL) { // "sent once"
		client_replace_string(&toplevel->identifier, identifier);
	}
}

static const struct ext_foreign_toplevel_handle_v1_listener toplevel_listener = {
	.closed = toplevel_handle_closed,
	.done = toplevel_handle_done,
	.title = toplevel_handle_title,
	.app_id = toplevel_handle_app_id,
	.identifier = toplevel_handle_identifier,
};

static void list_handle_toplevel(void *data, struct ext_foreign_toplevel_list_v1 *list,
		struct ext_foreign_toplevel_handle_v1 *handle) {
	struct vitrine_client *client = data;
	struct vitrine_toplevel *toplevel = calloc(1, sizeof(*toplevel));
	if (toplevel == NULL) {
		// A window that cannot be had for lack of memory is not there
		ext_foreign_toplevel_handle_v1_destroy(handle);
		return;
	}
	toplevel->source = (struct vitrine_source){
		.client = client, .word = "window", .create_proxy = toplevel_create_proxy,
	};
	toplevel->handle = handle;
	wl_list_insert(&client->toplevel_sources, &toplevel->source.link);
	ext_foreign_toplevel_handle_v1_add_listener(handle, &toplevel_listener, toplevel);
}

static void list_handle_finished(void *data, struct ext_foreign_toplevel_list_v1 *list) {
	// No window appears any more; those that are there go on
}

static const struct ext_foreign_toplevel_list_v1_listener list_listener = {
	.toplevel = list_handle_toplevel,
	.finished = list_handle_finished,
};

static const char *find_missing(const struct vitrine_client *client) {
	if (client->toplevel_list_global == 0) {
		return ext_foreign_toplevel_list_v1_interface.name;
	}
	return client->toplevel_source_manager == NULL ?
		ext_foreign_toplevel_image_capture_source_manager_v1_interface.name : NULL;
}

int vitrine_client_follow_toplevels(struct vitrine_client *client, int timeout_ms) {
	const char *missing = find_missing(client);
	if (client->error != 0 || client->toplevel_list != NULL) {
		return client->error;
	}
	if (missing != NULL) {
		return client_fail(client, -EPROTONOSUPPORT,
			"the compositor does not offer %s to this client, which windows take", missing);
	}
	client->toplevel_list = wl_registry_bind(client->registry, client->toplevel_list_global,
		&ext_foreign_toplevel_list_v1_interface, 1);
	if (client->toplevel_list == NULL) {
		return client_fail(client, -ENOMEM, "out of memory");
	}
	ext_foreign_toplevel_list_v1_add_listener(client->toplevel_list, &list_listener, client);
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	return client_roundtrip(client, timeout_ms < 0 ? NULL : &deadline);
}

void client_finish_toplevels(struct vitrine_client *client) {
	struct vitrine_source *source, *tmp;
	wl_list_for_each_safe(source, tmp, &client->toplevel_sources, link) {
		struct vitrine_toplevel *toplevel = wl_container_of(source, toplevel, source);
		toplevel_destroy(toplevel);
	}
	free(client->toplevels);
	if (client->toplevel_list != NULL) {
		ext_foreign_toplevel_list_v1_destroy(client->toplevel_list);
	}
	if (client->toplevel_source_manager != NULL) {
		ext_foreign_toplevel_image_capture_source_manager_v1_destroy(
			client->toplevel_source_manager);
	}
}

struct vitrine_toplevel *const *vitrine_client_get_toplevels(const struct vitrine_client *client,
		size_t *len) {
	*len = client->n_toplevels;
	return client->toplevels;
}

struct vitrine_source *vitrine_toplevel_get_source(struct vitrine_toplevel *toplevel) {
	return &toplevel->source;
}

const char *vitrine_toplevel_get_identifier(const struct vitrine_toplevel *toplevel) {
	return toplevel->identifier != NULL ? toplevel->identifier : "";
}

const char *vitrine_toplevel_get_app_id(const struct vitrine_toplevel *toplevel) {
	return toplevel->app_id != NULL ? toplevel->app_id : "";
}

const char *vitrine_toplevel_get_title(const struct vitrine_toplevel *toplevel) {
	return toplevel->title != NULL ? toplevel->title : "";
}
