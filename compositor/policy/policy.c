/* SPDX-License-Identifier: MIT */
#include <wlr/types/wlr_security_context_v1.h>

#include "policy.h"

static uint32_t policy_ask(const struct vt_policy *policy,
		const struct vitrine_view_request *request) {
	if (policy->func != NULL) {
		return policy->func(request, policy->data);
	}
	return request->sandboxed ? 0 : policy->allowed;
}

void vt_policy_set_func(struct vt_policy *policy, vitrine_view_policy_func_t func, void *data) {
	policy->func = func;
	policy->data = data;
}

uint32_t vt_policy_get_allowed(const struct vt_policy *policy,
		struct vitrine_view_request *request) {
	request->sandboxed = policy->security_context_manager != NULL &&
		wlr_security_context_manager_v1_lookup_client(policy->security_context_manager,
			request->client) != NULL;
	return policy->locked ? 0 : policy_ask(policy, request) & VITRINE_GUARANTEE_ALL;
}

static void policy_forget_security_context_manager(struct vt_policy *policy) {
	wl_list_remove(&policy->security_context_manager_destroy.link);
	wl_list_init(&policy->security_context_manager_destroy.link);
	policy->security_context_manager = NULL;
}

static void policy_handle_security_context_manager_destroy(struct wl_listener *listener,
		void *data) {
	struct vt_policy *policy = wl_container_of(listener, policy, security_context_manager_destroy);
	policy_forget_security_context_manager(policy);
}

void vt_policy_set_security_context_manager(struct vt_policy *policy,
		struct wlr_security_context_manager_v1 *manager) {
	policy_forget_security_context_manager(policy);
	policy->security_context_manager = manager;
	if (manager != NULL) {
		wl_signal_add(&manager->events.destroy, &policy->security_context_manager_destroy);
	}
}

void vt_policy_init(struct vt_policy *policy) {
	*policy = (struct vt_policy){ .allowed = VITRINE_VIEW_GUARANTEES_DEFAULT };
	policy->security_context_manager_destroy.notify =
		policy_handle_security_context_manager_destroy;
	wl_list_init(&policy->security_context_manager_destroy.link);
}

void vt_policy_finish(struct vt_policy *policy) {
	policy_forget_security_context_manager(policy);
}
