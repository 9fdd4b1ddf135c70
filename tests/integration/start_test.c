/* SPDX-License-Identifier: MIT */
/* vitrine-compositor, of which the n-th call fails while it starts and reads its policy again. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wlr/backend/headless.h>
#include <wlr/render/pixman.h>
#include <wlr/render/swapchain.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_cursor.h>
#include <wlr/types/wlr_data_control_v1.h>
#include <wlr/types/wlr_data_device.h>
#include <wlr/types/wlr_ext_data_control_v1.h>
#include <wlr/types/wlr_ext_image_capture_source_v1.h>
#include <wlr/types/wlr_ext_image_copy_capture_v1.h>
#include <wlr/types/wlr_keyboard_group.h>
#include <wlr/types/wlr_layer_shell_v1.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_output_layout.h>
#include <wlr/types/wlr_output_management_v1.h>
#include <wlr/types/wlr_presentation_time.h>
#include <wlr/types/wlr_primary_selection_v1.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_screencopy_v1.h>
#include <wlr/types/wlr_seat.h>
#include <wlr/types/wlr_security_context_v1.h>
#include <wlr/types/wlr_session_lock_v1.h>
#include <wlr/types/wlr_subcompositor.h>
#include <wlr/types/wlr_viewporter.h>
#include <wlr/types/wlr_xcursor_manager.h>
#include <wlr/types/wlr_xdg_activation_v1.h>
#include <wlr/types/wlr_xdg_shell.h>
#include <xkbcommon/xkbcommon.h>

#include "faults.h"
#include "harness.h"

#define WRAP_CREATE(type, name, parameters, arguments) \
	WRAP(type, name, ENOMEM, NULL, parameters, arguments)
#define WRAP_GLOBAL(type, name) \
	WRAP_CREATE(struct type *, name, (struct wl_display *display), (display))
#define WRAP_VERSIONED(type, name) \
	WRAP_CREATE(struct type *, name, (struct wl_display *display, uint32_t version), \
		(display, version))

WRAP_CREATE(struct wl_display *, wl_display_create, (void), ())
WRAP(const char *, wl_display_add_socket_auto, EMFILE, NULL, (struct wl_display *display),
	(display))
WRAP(bool, wlr_backend_start, ENOMEM, false, (struct wlr_backend *backend), (backend))
WRAP(bool, wlr_output_init_render, ENOMEM, false,
	(struct wlr_output *output, struct wlr_allocator *allocator,
		struct wlr_renderer *renderer),
	(output, allocator, renderer))
WRAP_CREATE(struct wlr_backend *, wlr_headless_backend_create, (struct wl_event_loop *loop),
	(loop))
WRAP_CREATE(struct wlr_output *, wlr_headless_add_output,
	(struct wlr_backend *backend, unsigned width, unsigned height), (backend, width, height))
WRAP_CREATE(struct wlr_renderer *, wlr_pixman_renderer_create, (void), ())
WRAP_CREATE(struct wlr_compositor *, wlr_compositor_create,
	(struct wl_display *display, uint32_t version, struct wlr_renderer *renderer),
	(display, version, renderer))
WRAP_CREATE(struct wlr_cursor *, wlr_cursor_create, (void), ())
WRAP_CREATE(struct wlr_keyboard_group *, wlr_keyboard_group_create, (void), ())
WRAP_CREATE(struct wlr_output_configuration_v1 *, wlr_output_configuration_v1_create, (void), ())
WRAP_CREATE(struct wlr_output_layout_output *, wlr_output_layout_add_auto,
	(struct wlr_output_layout *layout, struct wlr_output *output), (layout, output))
WRAP_CREATE(struct wlr_presentation *, wlr_presentation_create,
	(struct wl_display *display, struct wlr_backend *backend, uint32_t version),
	(display, backend, version))
WRAP_CREATE(struct wlr_scene *, wlr_scene_create, (void), ())
WRAP_CREATE(struct wlr_scene_output *, wlr_scene_output_create,
	(struct wlr_scene *scene, struct wlr_output *output), (scene, output))
WRAP_CREATE(struct wlr_scene_rect *, wlr_scene_rect_create,
	(struct wlr_scene_tree *parent, int width, int height, const float color[static 4]),
	(parent, width, height, color))
WRAP_CREATE(struct wlr_scene_tree *, wlr_scene_tree_create, (struct wlr_scene_tree *parent),
	(parent))
WRAP_CREATE(struct wlr_seat *, wlr_seat_create, (struct wl_display *display, const char *name),
	(display, name))
WRAP_CREATE(struct wlr_xcursor_manager *, wlr_xcursor_manager_create,
	(const char *name, uint32_t size), (name, size))
WRAP_CREATE(struct xkb_context *, xkb_context_new, (enum xkb_context_flags flags), (flags))
WRAP_GLOBAL(wlr_data_control_manager_v1, wlr_data_control_manager_v1_create)
WRAP_GLOBAL(wlr_data_device_manager, wlr_data_device_manager_create)
WRAP_GLOBAL(wlr_primary_selection_v1_device_manager, wlr_primary_selection_v1_device_manager_create)
WRAP_GLOBAL(wlr_xdg_activation_v1, wlr_xdg_activation_v1_create)
WRAP_VERSIONED(wlr_ext_data_control_manager_v1, wlr_ext_data_control_manager_v1_create)
WRAP_VERSIONED(wlr_layer_shell_v1, wlr_layer_shell_v1_create)
WRAP_GLOBAL(wlr_output_layout, wlr_output_layout_create)
WRAP_GLOBAL(wlr_output_manager_v1, wlr_output_manager_v1_create)
WRAP_GLOBAL(wlr_screencopy_manager_v1, wlr_screencopy_manager_v1_create)
WRAP_GLOBAL(wlr_security_context_manager_v1, wlr_security_context_manager_v1_create)
WRAP_GLOBAL(wlr_session_lock_manager_v1, wlr_session_lock_manager_v1_create)
WRAP_GLOBAL(wlr_subcompositor, wlr_subcompositor_create)
WRAP_GLOBAL(wlr_viewporter, wlr_viewporter_create)
WRAP_VERSIONED(wlr_ext_image_copy_capture_manager_v1,
	wlr_ext_image_copy_capture_manager_v1_create)
WRAP_VERSIONED(wlr_ext_foreign_toplevel_image_capture_source_manager_v1,
	wlr_ext_foreign_toplevel_image_capture_source_manager_v1_create)
WRAP_VERSIONED(wlr_ext_output_image_capture_source_manager_v1,
	wlr_ext_output_image_capture_source_manager_v1_create)
WRAP_VERSIONED(wlr_xdg_shell, wlr_xdg_shell_create)

int compositor_main(int argc, char *argv[]);

/** What the command ends with that a compositor runs which has started. */
#define STARTED 7

#define POLICY "{\"default\":{\"allow\":[\"snapshot\"]},\"rules\":[{\"match\":" \
	"{\"executable\":\"/nowhere\",\"uid\":1},\"deny\":true}]}"

/** Says on a pipe whether a call has failed, at the end. */
static int report_fd;

static void report_failed(void) {
	fault_in_server = false;
	if (write(report_fd, &fault_failed, sizeof(fault_failed)) < 0) {
		abort();
	}
}

/** In a process of its own. Its output goes to a file. */
static _Noreturn void start(unsigned n, const char *policy, const char *log) {
	char *argv[] = {
		"vitrine-compositor", "--policy", (char *)policy, "-v", "-x", "-s",
		"kill -HUP $PPID; test -S \"$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY\" && exit 7", NULL,
	};
	int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) {
		abort();
	}
	close(fd);
	atexit(report_failed);
	setenv("WLR_BACKENDS", "headless", true);
	setenv("WLR_RENDERER", "pixman", true);
	optind = 1;
	fault_calls_left = n;
	fault_in_server = true;
	exit(compositor_main(sizeof(argv) / sizeof(argv[0]) - 1, argv));
}

/** Whether the compositor has said this. The line is shown. */
static bool has_said(const char *log, const char *what) {
	char line[1024];
	bool says = false;
	FILE *file = fopen(log, "re");
	check(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strstr(line, what) != NULL) {
			fputs(line, stderr);
			says = true;
		}
	}
	fclose(file);
	return says;
}

/** Returns whether a call has failed. */
static bool check_start(unsigned n, const char *policy, const char *log) {
	int fds[2], status;
	check_ok(pipe2(fds, O_CLOEXEC));
	fflush(NULL);
	pid_t pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		report_fd = fds[1];
		start(n, policy, log);
	}
	close(fds[1]);
	bool has_failed = false;
	ssize_t len = read(fds[0], &has_failed, sizeof(has_failed));
	close(fds[0]);
	check_int(waitpid(pid, &status, 0), ==, pid);
	bool is_right = WIFEXITED(status) && len == sizeof(has_failed) &&
		(WEXITSTATUS(status) == STARTED ||
		(has_failed && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2)));
	if (!is_right || WEXITSTATUS(status) != STARTED) {
		fprintf(stderr, "call %u failed: status %#x\n", n, (unsigned)status);
		bool says = has_said(log, "[ERROR]") || has_said(log, "vitrine-compositor: ");
		check(is_right && says);
	} else { // the policy file, again
		check(has_said(log, "] read ") || (has_failed && has_said(log, "the policy stays")));
	}
	return has_failed;
}

TEST(each_call_of_a_start_can_fail) {
	harness_set_timeout(240 * harness_get_slowdown());
	char policy[256], log[256];
	snprintf(policy, sizeof(policy), "%s/policy", getenv("XDG_RUNTIME_DIR"));
	snprintf(log, sizeof(log), "%s/log", getenv("XDG_RUNTIME_DIR"));
	FILE *file = fopen(policy, "we");
	check(file != NULL && fputs(POLICY, file) >= 0 && fclose(file) == 0);
	unsigned n = 0;
	while (check_start(++n, policy, log)) {
		// until no call is left
	}
	harness_count(n - 1, "faults injected");
	check_int(n, >, 50);
}
