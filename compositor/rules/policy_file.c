/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_output.h>

#include "lines.h"
#include "policy_file.h"

/** Room for the name of a source: an app-id may be as long as a message. */
#define SOURCE_SIZE 4200

bool policy_file_init(struct policy_file *file, const char *path, struct rules_error *error) {
	*file = (struct policy_file){ .path = strdup(path) };
	if (file->path == NULL) {
		lines_fail(error, path, 0, "out of memory");
		return false;
	}
	return policy_file_reload(file, error);
}

void policy_file_finish(struct policy_file *file) {
	rules_destroy(file->rules);
	free(file->path);
	*file = (struct policy_file){ 0 };
}

bool policy_file_reload(struct policy_file *file, struct rules_error *error) {
	struct rules *rules = rules_read(file->path, error);
	if (rules == NULL) {
		return false;
	}
	rules_destroy(file->rules);
	file->rules = rules;
	return true;
}

static struct vitrine_view_permission decide(const struct policy_file *file,
		const struct rules_request *request, struct vitrine_view_permission otherwise) {
	if (file->rules == NULL) {
		return (struct vitrine_view_permission){ 0 };
	}
	struct rules_verdict verdict = rules_decide(file->rules, request,
		(struct rules_verdict){ otherwise.guarantees, otherwise.storages });
	return (struct vitrine_view_permission){ verdict.guarantees, verdict.storages };
}

static struct rules_request make_request(const struct vitrine_view_client *client) {
	return (struct rules_request){
		.executable = client->executable,
		.uid = client->uid,
		.sandboxed = client->sandboxed,
		.engine = client->engine,
		.app_id = client->app_id,
	};
}

/** Writes how rules name what is looked at. NULL if it is neither an output nor a window. */
static const char *name_source(char name[static SOURCE_SIZE],
		const struct vitrine_view_request *request) {
	bool is_window = request->source != NULL &&
		wlr_output_try_from_ext_image_capture_source_v1(request->source) == NULL;
	if (is_window) { // one without an app-id is one too, and no output
		snprintf(name, SOURCE_SIZE, "window:%s", request->window != NULL ? request->window : "");
		return name;
	}
	return request->output != NULL ? request->output->name : NULL;
}

struct vitrine_view_permission policy_file_decide(const struct policy_file *file,
		const struct vitrine_view_request *request, struct vitrine_view_permission otherwise) {
	char name[SOURCE_SIZE];
	struct rules_request rules_request = make_request(request->identity);
	rules_request.source = name_source(name, request);
	rules_request.any_source = request->kind == VITRINE_VIEW_REQUEST_BIND;
	return decide(file, &rules_request, otherwise);
}

bool policy_file_may_look(const struct policy_file *file,
		const struct vitrine_view_client *client, struct vitrine_view_permission otherwise) {
	struct rules_request request = make_request(client);
	request.any_source = true;
	return decide(file, &request, otherwise).guarantees != 0;
}
