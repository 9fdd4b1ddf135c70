/* SPDX-License-Identifier: MIT */
#ifndef COMPOSITOR_BUFFER_VIEW_V1_H
#define COMPOSITOR_BUFFER_VIEW_V1_H

struct vt_manager;

/** Fails the views that are not described yet, since the manager goes away. */
void vt_manager_finish_views(struct vt_manager *manager);

#endif
