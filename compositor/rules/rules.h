/* SPDX-License-Identifier: MIT */
#ifndef RULES_RULES_H
#define RULES_RULES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * The policy file: which client may look at what, and with which guarantee. Its format is in
 * vitrine-policy(5). This knows no Wayland: what a client is comes from the caller.
 */
struct rules;

/** A longer file is refused. */
#define RULES_SIZE_CAP (64 * 1024)

/** One line, such as `rules.json:12: unknown key "exectuable" (known: executable, uid)`. */
struct rules_error {
	char text[512];
};

/** What a client may have: bitfields of enum vitrine_guarantee and enum vitrine_storage. */
struct rules_verdict {
	uint32_t guarantees; // 0: it is denied
	uint32_t storages;
};

/** A client, and what it wants to look at. Strings are NULL if they are not known. */
struct rules_request {
	const char *executable; // absolute path
	uid_t uid;
	bool sandboxed; // it is behind a security context
	const char *engine, *app_id; // of that
	/**
	 * The name of an output, or "window:" and the app-id of a window. NULL if it is neither,
	 * such as a buffer of the client itself.
	 */
	const char *source;
	/** Ask what the client may have of one source or another; `source` is ignored. */
	bool any_source;
};

/**
 * Reads a policy file. Never blocks: what is no regular file is refused. Returns NULL and
 * fills in `error` if there is anything wrong with it. The caller destroys the rules.
 */
struct rules *rules_read(const char *path, struct rules_error *error);
/** The same for a text, which need not end with a NUL. Errors begin with `name`. */
struct rules *rules_parse(const char *name, const char *text, size_t len,
	struct rules_error *error);
/** `rules` may be NULL. */
void rules_destroy(struct rules *rules);

/**
 * Writes where a file is that is to be read again, maybe from another directory. Symbolic links
 * stay in it: what they lead to may be another file by then. Returns false and fills in `error`
 * if that cannot be found out.
 */
bool rules_get_path(char path[static PATH_MAX], const char *name, struct rules_error *error);

/**
 * What the first rule that matches says. Where none does: the file's default, which gives
 * nothing to sandboxed clients, or `otherwise` if the file has no default.
 */
struct rules_verdict rules_decide(const struct rules *rules, const struct rules_request *request,
	struct rules_verdict otherwise);

/** The guarantees that are at least as strong as that of this name, or 0 if there is none. */
uint32_t rules_guarantees_from_min(const char *name);

#endif
