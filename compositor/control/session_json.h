/* SPDX-License-Identifier: MIT */
#ifndef CONTROL_SESSION_JSON_H
#define CONTROL_SESSION_JSON_H

struct json_object;
struct vitrine_view_session_v1;

/** What is told of a session. The caller puts it. NULL without memory. */
struct json_object *session_json_create(const struct vitrine_view_session_v1 *session);

#endif
