/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "control_socket.h"
#include "hangup.h"
#include "plugin.h"
#include "policy_file.h"

static struct {
	const struct plugin_options *options;
	struct policy_file policy; // if the options name one
	struct rules_error error; // in it, at the start
	struct vitrine_view_manager_v1 *manager; // may be NULL
	struct wl_event_loop *loop; // NULL before it is listened to, and without a manager
	char socket[108]; // "" before there is one
	bool has_control; // or could not have one
} admin;

static bool has_policy(void) {
	return admin.options->policy != NULL;
}

void admin_init(const struct plugin_options *options) {
	admin.options = options;
	if (has_policy()) {
		policy_file_init(&admin.policy, options->policy, &admin.error);
	}
}

/* The policy */

static struct vitrine_view_permission get_otherwise(bool sandboxed) {
	bool denied = sandboxed && !admin.options->allow_sandboxed;
	return (struct vitrine_view_permission){
		.guarantees = denied ? 0 : admin.options->guarantees,
		.storages = VITRINE_STORAGE_ALL,
	};
}

struct vitrine_view_permission admin_decide(const struct vitrine_view_request *request,
		void *data) {
	struct vitrine_view_permission otherwise = get_otherwise(request->sandboxed);
	return has_policy() ? policy_file_decide(&admin.policy, request, otherwise) : otherwise;
}

bool admin_may_look(const struct wl_client *client) {
	if (!has_policy()) {
		return admin.options->allow_sandboxed;
	}
	const struct vitrine_view_client *identity = admin.manager != NULL ?
		vitrine_view_manager_v1_get_identity(admin.manager, (struct wl_client *)client) : NULL;
	return identity != NULL && policy_file_may_look(&admin.policy, identity,
		get_otherwise(identity->sandboxed));
}

static bool reload(void *data, char error[static CONTROL_ERROR_SIZE]) {
	struct rules_error reason;
	if (!policy_file_reload(&admin.policy, &reason)) {
		plugin_log("the policy stays as it was: %s", reason.text);
		snprintf(error, CONTROL_ERROR_SIZE, "%s", reason.text);
		return false;
	}
	plugin_log("read %s again", admin.policy.path);
	vitrine_view_manager_v1_update_policy(admin.manager);
	return true;
}

static void handle_hangup(void) {
	char error[CONTROL_ERROR_SIZE];
	reload(NULL, error);
}

/* Once there is a manager */

static void create_control(void) {
	char error[CONTROL_ERROR_SIZE];
	if (admin.loop == NULL || admin.socket[0] == '\0' || admin.has_control) {
		return;
	}
	admin.has_control = true;
	if (!control_socket_create(&(struct control_options){
		.loop = admin.loop,
		.manager = admin.manager,
		.wayland_display = admin.socket,
		.reload = has_policy() ? reload : NULL,
	}, error)) {
		plugin_log("%s", error);
	}
}

void admin_set_socket(const char *name) {
	if (admin.socket[0] == '\0' && strlen(name) < sizeof(admin.socket)) {
		strcpy(admin.socket, name);
		create_control();
	}
}

void admin_set_manager(struct vitrine_view_manager_v1 *manager) {
	admin.manager = manager;
	vitrine_view_manager_v1_set_policy(manager, admin_decide, NULL);
	if (has_policy() && admin.policy.rules == NULL) {
		plugin_log("no client may look: %s", admin.error.text);
	}
}

void admin_listen(struct wl_display *display) {
	admin.loop = wl_display_get_event_loop(display);
	if (has_policy() && hangup_listen(admin.loop, handle_hangup) == HANGUP_FOREIGN) {
		plugin_log("the compositor keeps SIGHUP for itself: `vitrine sessions --reload` reads the "
			"policy again");
	}
	create_control();
}

void admin_stop(void) {
	hangup_finish();
	admin.manager = NULL;
	admin.loop = NULL;
}
