/* SPDX-License-Identifier: MIT */
#include "xx-dmabuf-view-v1-client-protocol.h"

extern int nothing;
int nothing;
