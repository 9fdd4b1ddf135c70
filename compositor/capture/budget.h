/* SPDX-License-Identifier: MIT */
#ifndef CAPTURE_BUDGET_H
#define CAPTURE_BUDGET_H

#include <stddef.h>

#include "stream.h"

/*
 * Which subscriber may be shown a stream's memory, by struct vt_reserve. A stream reserves
 * the buffers of one swapchain, whatever the number of its subscribers. When one leaves, what
 * was announced is kept, and the stream reserves anew for those that stay. If there is no room:
 *
 * - Subscribers that take copies of their own leave the stream for these, all at once.
 * - The others go on with what each of them has reserved at its start: n of them have reserves
 *   for n retirements, which is one for each of their ends, and one for those that left.
 *
 * So no subscriber is stopped for what others keep, if its holder can have copies.
 */

/**
 * Whether a subscriber may be attached, to buffers of so many bytes: reserves what it takes.
 * False if there is no room, also if its holder or group keeps more than its share.
 */
bool vt_stream_admit(struct vt_stream *stream, struct vt_subscriber *subscriber, size_t size);
/**
 * Whether memory of so many bytes may be announced to a subscriber: then it is reserved. May
 * move other subscribers later.
 */
bool vt_stream_reserve(struct vt_stream *stream, struct vt_subscriber *subscriber, size_t size);
/** A subscriber has left, and what it was shown is retired: its own reserve is for the others. */
void vt_stream_take_reserve(struct vt_stream *stream, struct vt_subscriber *subscriber);
/** The holder that a retirement is charged to which no end has caused. NULL if there is none. */
struct vt_quota *vt_stream_find_cause(const struct vt_stream *stream);

#endif
