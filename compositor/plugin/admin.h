/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_ADMIN_H
#define PLUGIN_ADMIN_H

#include <stdbool.h>
#include <vitrine/view_v1.h>

struct plugin_options;

/** What a user says while the compositor runs: the policy file, and the control socket. */

/** Reads the policy file, if the options name one. What is wrong with it is told later. */
void admin_init(const struct plugin_options *options);

/** There is a view manager, which asks for the policy from now on. */
void admin_set_manager(struct vitrine_view_manager_v1 *manager);
/** The compositor has made all that it wants by now: listens for hangups and connections. */
void admin_listen(struct wl_display *display);
/** It is about to go. */
void admin_stop(void);
/**
 * The compositor has a Wayland socket, which the control socket is named after: the first
 * one counts.
 */
void admin_set_socket(const char *name);

/** What a client may have. */
struct vitrine_view_permission admin_decide(const struct vitrine_view_request *request,
	void *data);
/** Whether a sandboxed client may look at anything, and so see that it could. */
bool admin_may_look(const struct wl_client *client);

#endif
