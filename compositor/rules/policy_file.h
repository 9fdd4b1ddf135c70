/* SPDX-License-Identifier: MIT */
#ifndef RULES_POLICY_FILE_H
#define RULES_POLICY_FILE_H

#include <stdbool.h>
#include <vitrine/view_v1.h>

#include "rules.h"

/** A policy file in use. */
struct policy_file {
	char *path; // NULL if there is none
	struct rules *rules; // NULL if it could never be read: nothing is allowed
};

/**
 * Reads the file for the first time. Returns false and fills in `error` if there is
 * anything wrong with it: no client is allowed anything before a reload succeeds. `path`
 * should be absolute. To be finished in any case.
 */
bool policy_file_init(struct policy_file *file, const char *path, struct rules_error *error);
void policy_file_finish(struct policy_file *file);

/**
 * Reads the file again. Returns false and fills in `error` if there is anything wrong with
 * it: what was read before stays. The caller has the manager ask again.
 */
bool policy_file_reload(struct policy_file *file, struct rules_error *error);

/** What the file says; `otherwise` is what the options say, if the file has no default. */
struct vitrine_view_permission policy_file_decide(const struct policy_file *file,
	const struct vitrine_view_request *request, struct vitrine_view_permission otherwise);
/** Whether the client may have anything, of one source or another. */
bool policy_file_may_look(const struct policy_file *file,
	const struct vitrine_view_client *client, struct vitrine_view_permission otherwise);

#endif
