/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "encode.h"

/** Beside the program, as in a build directory, or where it is installed. */
static void *open_module(void) {
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash = len > 0 ? memrchr(path, '/', (size_t)len) : NULL;
	size_t room = slash != NULL ? sizeof(path) - (size_t)(slash + 1 - path) : 0;
	if (room > sizeof(ENCODER_MODULE)) {
		strcpy(slash + 1, ENCODER_MODULE);
		if (access(path, R_OK) == 0) {
			return dlopen(path, RTLD_NOW | RTLD_LOCAL);
		}
	}
	return dlopen(VITRINE_MODULE_DIR "/" ENCODER_MODULE, RTLD_NOW | RTLD_LOCAL);
}

const struct encoder_interface *encoder_load(enum container container, const char **reason) {
	void *module = open_module();
	const struct encoder_interface *encoder =
		module != NULL ? dlsym(module, ENCODER_SYMBOL) : NULL;
	*reason = encoder != NULL ? encoder->check(container) :
		"its module for libavcodec, " ENCODER_MODULE ", is not there";
	return *reason == NULL ? encoder : NULL;
}
