/* SPDX-License-Identifier: MIT */
/**
 * A program that says that it ran, and whether something was preloaded into it.
 * Built in ways that make it more or less of a wlroots compositor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CALL_WLROOTS
#include <wlr/util/log.h>
#endif
#ifdef CALL_OTHER
int wlr_other(void);
#endif
#ifdef CALL_ALL
#include <wayland-server-core.h>
#include <wlr/backend.h>
#include <wlr/render/allocator.h>
#endif

int main(int argc, char *argv[]) {
	char line[512];
	int n_plugins = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		n_plugins += strstr(line, "vitrine-plugin") != NULL;
	}
	printf("ran with %s, LD_PRELOAD %s, options %s\n", argc > 1 ? argv[1] : "nothing",
		getenv("LD_PRELOAD") != NULL ? "set" : "unset",
		getenv("VITRINE_PLUGIN_DEADLINE") != NULL ? "left" : "gone");
	printf("plugin %s\n", n_plugins > 0 ? "loaded" : "absent");
#ifdef CALL_WLROOTS
	wlr_log_init(WLR_SILENT, NULL);
#endif
#ifdef CALL_OTHER
	wlr_other();
#endif
#ifdef CALL_ALL
	if (argc > 2) {
		return !wl_display_create() || !wlr_backend_start(NULL) ||
			!wlr_allocator_autocreate(NULL, NULL);
	}
#endif
	return 42;
}
