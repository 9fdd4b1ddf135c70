/* SPDX-License-Identifier: MIT */
#include <json.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <vitrine/derive.h>
#include <vitrine/view_v1.h>

#include "session_json.h"

/** Clients choose some of the texts, and so their lengths. */
#define TEXT_CAP 256

/** Adds a value, which it takes; `failed` is set if there was none to add. */
static void add(struct json_object *object, const char *key, struct json_object *value,
		bool *failed) {
	if (value == NULL || json_object_object_add(object, key, value) != 0) {
		json_object_put(value);
		*failed = true;
	}
}

/** `text` may be NULL, which is null. */
static void add_text(struct json_object *object, const char *key, const char *text,
		bool *failed) {
	if (text != NULL) {
		add(object, key, json_object_new_string_len(text, (int)strnlen(text, TEXT_CAP)), failed);
	} else if (json_object_object_add(object, key, NULL) != 0) {
		*failed = true;
	}
}

static void add_number(struct json_object *object, const char *key, uint64_t number,
		bool *failed) {
	add(object, key, json_object_new_uint64(number), failed);
}

static void add_client(struct json_object *object, const struct vitrine_view_client *client,
		bool *failed) {
	add_number(object, "pid", (uint64_t)client->pid, failed);
	add_number(object, "uid", client->uid, failed);
	add_number(object, "gid", client->gid, failed);
	add_text(object, "comm", client->comm, failed);
	add_text(object, "executable", client->executable, failed);
	add(object, "sandboxed", json_object_new_boolean(client->sandboxed), failed);
	add_text(object, "engine", client->engine, failed);
	add_text(object, "app-id", client->app_id, failed);
	add_text(object, "instance-id", client->instance_id, failed);
}

struct json_object *session_json_create(const struct vitrine_view_session_v1 *session) {
	struct vitrine_view_session_stats stats;
	vitrine_view_session_v1_get_stats(session, &stats);
	uint32_t guarantee = vitrine_view_session_v1_get_guarantee(session);
	uint32_t storage = vitrine_view_session_v1_get_storage(session);
	struct timespec start = vitrine_view_session_v1_get_start_time(session);
	struct tm tm;
	char since[32] = "";
	if (gmtime_r(&start.tv_sec, &tm) != NULL) {
		strftime(since, sizeof(since), "%FT%TZ", &tm);
	}

	struct json_object *object = json_object_new_object();
	if (object == NULL) {
		return NULL;
	}
	bool failed = false;
	add_number(object, "id", vitrine_view_session_v1_get_id(session), &failed);
	add_text(object, "source", vitrine_view_session_v1_get_source_name(session), &failed);
	add_text(object, "window", vitrine_view_session_v1_get_window(session), &failed);
	// Before the first frame neither is known
	add_text(object, "guarantee", guarantee != 0 ? vitrine_guarantee_name(guarantee) : NULL,
		&failed);
	add_text(object, "storage", storage != 0 ? vitrine_storage_name(storage) : NULL, &failed);
	add_text(object, "protocol", vitrine_view_session_v1_get_protocol(session), &failed);
	add_client(object, vitrine_view_session_v1_get_identity(session), &failed);
	add_number(object, "frames", stats.frames, &failed);
	add_text(object, "since", since, &failed);
	if (failed) {
		json_object_put(object);
		return NULL;
	}
	return object;
}
