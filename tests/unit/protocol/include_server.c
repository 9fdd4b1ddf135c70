/* SPDX-License-Identifier: MIT */
#include "xx-dmabuf-view-v1-protocol.h"

extern int nothing;
int nothing;
