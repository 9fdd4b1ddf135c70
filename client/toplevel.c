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
	char identifier[MAX_IDENTIFIER + 1]; // empty if not known
	struct text app_id, title;
	bool is_done; // it is in vitrine_client.toplevels
};

static struct ext_image_capture_source_v1 *toplevel_create_proxy(struct vitrine_source *source) {
	struct vitrine_toplevel *toplevel = wl_container_of(source, toplevel, source);
	return ext_foreign_toplevel_image_capture_source_manager_v1_create_source(
		source->client->toplevel_source_manager, toplevel->handle);
}

static void toplevel_destroy(struct vitrine_toplevel *toplevel) {
	if (toplevel->handle != NULL) {
		ext_foreign_toplevel_handle_v1_destroy(toplevel->handle);
	}
	toplevel->source.client->n_handles--;
	text_finish(&toplevel->app_id);
	text_finish(&toplevel->title);
	wl_list_remove(&toplevel->source.link);
	free(toplevel);
}

/** False if there is no memory for it. */
static bool client_list_toplevel(struct vitrine_client *client, struct vitrine_toplevel *toplevel) {
	struct vitrine_toplevel **toplevels =
		realloc(client->toplevels, (client->n_toplevels + 1) * sizeof(*toplevels));
	if (toplevels == NULL) {
		return false;
	}
	client->toplevels = toplevels;
	client->toplevels[client->n_toplevels++] = toplevel;
	toplevel->is_done = true;
	return true;
}

static void client_unlist_toplevel(struct vitrine_client *client,
		struct vitrine_toplevel *toplevel) {
	size_t i = 0;
	while (client->toplevels[i] != toplevel) {
		i++;
	}
	client->n_toplevels--;
	memmove(&client->toplevels[i], &client->toplevels[i + 1],
		(client->n_toplevels - i) * sizeof(client->toplevels[0]));
	toplevel->is_done = false;
}

static void toplevel_handle_closed(void *data, struct ext_foreign_toplevel_handle_v1 *handle) {
	struct vitrine_toplevel *toplevel = data;
	struct vitrine_client *client = toplevel->source.client;
	// Before the listener, which may look for events: of this handle there are no more
	ext_foreign_toplevel_handle_v1_destroy(handle);
	toplevel->handle = NULL;
	toplevel->source.create_proxy = NULL;
	if (toplevel->is_done) {
		client_unlist_toplevel(client, toplevel);
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
	bool has_changed = text_apply(&toplevel->app_id);
	has_changed |= text_apply(&toplevel->title);
	if (toplevel->identifier[0] == '\0') {
		return; // a lie, as it comes first: a window without an identifier is not there
	}
	if (is_new && !client_list_toplevel(client, toplevel)) {
		toplevel_destroy(toplevel);
		return;
	}
	if (listener == NULL) {
		return;
	}
	void (*handle_it)(void *, struct vitrine_toplevel *) =
		is_new ? listener->toplevel_added : listener->toplevel_changed;
	if (handle_it != NULL && (is_new || has_changed)) {
		handle_it(client->listener_data, toplevel);
	}
}

static void toplevel_handle_title(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *title) {
	struct vitrine_toplevel *toplevel = data;
	text_set(&toplevel->title, title);
}

static void toplevel_handle_app_id(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *app_id) {
	struct vitrine_toplevel *toplevel = data;
	text_set(&toplevel->app_id, app_id);
}

/** "An identifier is a string that contains up to 32 printable ASCII bytes." */
static bool is_identifier(const char *identifier) {
	size_t len = 0;
	while (identifier[len] >= ' ' && identifier[len] <= '~') {
		len++;
	}
	return len <= MAX_IDENTIFIER && identifier[len] == '\0';
}

static void toplevel_handle_identifier(void *data, struct ext_foreign_toplevel_handle_v1 *handle,
		const char *identifier) {
	struct vitrine_toplevel *toplevel = data;
	// "The compositor must only send this event when the handle is created."
	if (toplevel->identifier[0] == '\0' && is_identifier(identifier)) {
		strcpy(toplevel->identifier, identifier);
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
	struct vitrine_toplevel *toplevel =
		client->n_handles < MAX_TOPLEVELS ? calloc(1, sizeof(*toplevel)) : NULL;
	if (toplevel == NULL) {
		// A window that cannot be had for lack of memory is not there
		ext_foreign_toplevel_handle_v1_destroy(handle);
		return;
	}
	toplevel->source = (struct vitrine_source){
		.client = client, .word = "window", .create_proxy = toplevel_create_proxy,
	};
	toplevel->handle = handle;
	client->n_handles++;
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

static int client_bind_toplevel_list(struct vitrine_client *client) {
	const char *missing = find_missing(client);
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
	return 0;
}

int vitrine_client_follow_toplevels(struct vitrine_client *client, int timeout_ms) {
	if (client->error != 0 || client->toplevels_are_known) {
		return client->error;
	}
	int ret = client->toplevel_list == NULL ? client_bind_toplevel_list(client) : 0;
	if (ret < 0) {
		return ret;
	}
	struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	// "Clients which only care about the current state can perform a roundtrip after binding"
	ret = client_roundtrip(client, timeout_ms < 0 ? NULL : &deadline);
	client->toplevels_are_known = ret == 0;
	return ret;
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
	return toplevel->identifier;
}

const char *vitrine_toplevel_get_app_id(const struct vitrine_toplevel *toplevel) {
	return text_get(&toplevel->app_id);
}

const char *vitrine_toplevel_get_title(const struct vitrine_toplevel *toplevel) {
	return text_get(&toplevel->title);
}
