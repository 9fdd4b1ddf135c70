/* SPDX-License-Identifier: MIT */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <vitrine/view_v1.h>

/** Who may look. */
struct vt_policy {
	bool locked; // the screen is: no client may look
	uint32_t allowed; // to clients that are not sandboxed, by the default policy
	vitrine_view_policy_func_t func;
	void *data; // of func
	struct wlr_security_context_manager_v1 *security_context_manager; // may be NULL
	struct wl_listener security_context_manager_destroy;
};

/**
 * The safe default: VITRINE_VIEW_GUARANTEES_DEFAULT for ordinary clients, nothing for
 * sandboxed ones.
 */
void vt_policy_init(struct vt_policy *policy);
void vt_policy_finish(struct vt_policy *policy);

/** `func` may be NULL for the default. */
void vt_policy_set_func(struct vt_policy *policy, vitrine_view_policy_func_t func, void *data);
/** `manager` may be NULL: no client is sandboxed. Forgotten when it is destroyed. */
void vt_policy_set_security_context_manager(struct vt_policy *policy,
	struct wlr_security_context_manager_v1 *manager);

/**
 * The guarantees that a request may have, none while the screen is locked. Fills in
 * `request->sandboxed`.
 */
uint32_t vt_policy_get_allowed(const struct vt_policy *policy,
	struct vitrine_view_request *request);

#endif
