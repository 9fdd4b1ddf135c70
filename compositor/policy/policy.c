/* SPDX-License-Identifier: MIT */
#include "client.h"
#include "policy.h"

static struct vitrine_view_permission policy_ask(const struct vt_policy *policy,
		const struct vitrine_view_request *request) {
	if (policy->func != NULL) {
		return policy->func(request, policy->data);
	}
	return (struct vitrine_view_permission){
		.guarantees = request->sandboxed ? 0 : policy->allowed,
		.storages = VITRINE_STORAGE_ALL,
	};
}

void vt_policy_set_func(struct vt_policy *policy, vitrine_view_policy_func_t func, void *data) {
	policy->func = func;
	policy->data = data;
}

uint32_t vt_policy_get_allowed(const struct vt_policy *policy,
		struct vitrine_view_request *request) {
	const struct vt_client *client = vt_client_get(policy->clients, request->client);
	if (client == NULL) {
		return 0; // it may be sandboxed
	}
	request->identity = &client->identity;
	request->sandboxed = client->identity.sandboxed;
	if (policy->locked) {
		return 0;
	}
	struct vitrine_view_permission permission = policy_ask(policy, request);
	request->storages &= permission.storages;
	return permission.guarantees & VITRINE_GUARANTEE_ALL;
}

void vt_policy_init(struct vt_policy *policy, struct vt_client_registry *borrowed_clients) {
	*policy = (struct vt_policy){
		.allowed = VITRINE_VIEW_GUARANTEES_DEFAULT,
		.clients = borrowed_clients,
	};
}
