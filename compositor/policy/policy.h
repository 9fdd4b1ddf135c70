/* SPDX-License-Identifier: MIT */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <vitrine/view_v1.h>

struct vt_client_registry;

/** Who may look. */
struct vt_policy {
	bool locked; // the screen is: no client may look
	uint32_t allowed; // to clients that are not sandboxed, by the default policy
	vitrine_view_policy_func_t func;
	void *data; // of func
	struct vt_client_registry *clients; // borrowed
};

/**
 * The safe default: VITRINE_VIEW_GUARANTEES_DEFAULT for ordinary clients, nothing for
 * sandboxed ones.
 */
void vt_policy_init(struct vt_policy *policy, struct vt_client_registry *borrowed_clients);

/** `func` may be NULL for the default. */
void vt_policy_set_func(struct vt_policy *policy, vitrine_view_policy_func_t func, void *data);

/**
 * The guarantees that a request may have, none while the screen is locked. Fills in
 * `request->identity` and `request->sandboxed`, and takes those away from
 * `request->storages` that it may not have.
 */
uint32_t vt_policy_get_allowed(const struct vt_policy *policy,
	struct vitrine_view_request *request);

#endif
