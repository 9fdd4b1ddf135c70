/* SPDX-License-Identifier: MIT */
/* Which client may look: what the options say, or the policy file. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <vitrine/view_v1.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/util/log.h>

#include "control_socket.h"
#include "policy_file.h"
#include "server.h"

static struct vitrine_view_permission server_get_otherwise(const struct server *server,
		bool sandboxed) {
	return (struct vitrine_view_permission){
		.guarantees = sandboxed ? 0 : server->options->guarantees,
		.storages = VITRINE_STORAGE_ALL,
	};
}

static struct vitrine_view_permission server_decide_view(
		const struct vitrine_view_request *request, void *data) {
	const struct server *server = data;
	struct vitrine_view_permission otherwise =
		server_get_otherwise(server, request->sandboxed);
	return server->options->policy_file != NULL ?
		policy_file_decide(server->options->policy_file, request, otherwise) : otherwise;
}

bool server_client_may_look(struct server *server, struct wl_client *client) {
	const struct vitrine_view_client *identity =
		vitrine_view_manager_v1_get_identity(server->view_manager, client);
	return server->options->policy_file != NULL && identity != NULL &&
		policy_file_may_look(server->options->policy_file, identity,
			server_get_otherwise(server, identity->sandboxed));
}

static bool server_reload_policy(void *data, char error[static CONTROL_ERROR_SIZE]) {
	struct server *server = data;
	struct rules_error reason;
	if (!policy_file_reload(server->options->policy_file, &reason)) {
		snprintf(error, CONTROL_ERROR_SIZE, "%s", reason.text);
		wlr_log(WLR_ERROR, "the policy stays as it was: %s", reason.text);
		return false;
	}
	wlr_log(WLR_INFO, "read %s again", server->options->policy_file->path);
	vitrine_view_manager_v1_update_policy(server->view_manager);
	return true;
}

static int server_handle_hangup(int signal_number, void *data) {
	char error[CONTROL_ERROR_SIZE];
	server_reload_policy(data, error);
	return 0;
}

bool server_init_policy(struct server *server) {
	vitrine_view_manager_v1_set_policy(server->view_manager, server_decide_view, server);
	if (server->options->policy_file == NULL) {
		return true; // a hangup ends it, as ever
	}
	struct wl_event_loop *loop = wl_display_get_event_loop(server->display);
	server->hangup_source = wl_event_loop_add_signal(loop, SIGHUP, server_handle_hangup, server);
	return server->hangup_source != NULL;
}

void server_init_control(struct server *server, const char *socket) {
	char error[CONTROL_ERROR_SIZE];
	if (!control_socket_create(&(struct control_options){
		.loop = wl_display_get_event_loop(server->display),
		.manager = server->view_manager,
		.wayland_display = socket,
		.reload = server->options->policy_file != NULL ? server_reload_policy : NULL,
		.data = server,
	}, error)) {
		wlr_log(WLR_ERROR, "%s", error);
	}
}
