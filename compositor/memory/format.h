/* SPDX-License-Identifier: MIT */
#ifndef MEMORY_FORMAT_H
#define MEMORY_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

struct wlr_drm_format;

/**
 * Bytes per pixel of a buffer that can be made: linear, of a packed format that
 * renderers draw to. Returns 0, with an error in the log, if it cannot be made.
 */
uint32_t vt_format_get_bytes_per_pixel(const struct wlr_drm_format *format, int width, int height);

/**
 * The format without alpha that loses nothing of one with more than 8 bits a channel, 0 of
 * others.
 */
uint32_t vt_format_get_deep(uint32_t fourcc);
/** Whether the channels of a format have 16 bits. */
bool vt_format_is_deep(uint32_t fourcc);

#endif
