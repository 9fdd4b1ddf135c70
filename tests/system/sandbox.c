/* SPDX-License-Identifier: MIT */
/**
 * Runs a command as a sandboxed client: usage: sandbox APP-ID COMMAND [ARGS...]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wayland-client.h>

#include "security-context-v1-client-protocol.h"

static const char socket_name[] = "sandbox-0";

static void registry_handle_global(void *data, struct wl_registry *registry, uint32_t name,
		const char *interface, uint32_t version) {
	struct wp_security_context_manager_v1 **manager = data;
	if (strcmp(interface, wp_security_context_manager_v1_interface.name) == 0) {
		*manager = wl_registry_bind(registry, name, &wp_security_context_manager_v1_interface, 1);
	}
}

static void registry_handle_global_remove(void *data, struct wl_registry *registry,
		uint32_t name) {
}

static const struct wl_registry_listener registry_listener = {
	.global = registry_handle_global,
	.global_remove = registry_handle_global_remove,
};

static int listen_on_socket(void) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", getenv("XDG_RUNTIME_DIR"),
		socket_name);
	unlink(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
			listen(fd, 8) != 0) {
		perror("sandbox: socket");
		exit(EXIT_FAILURE);
	}
	return fd;
}

static void create_context(struct wp_security_context_manager_v1 *manager, int close_fd,
		const char *app_id) {
	int listen_fd = listen_on_socket();
	struct wp_security_context_v1 *context =
		wp_security_context_manager_v1_create_listener(manager, listen_fd, close_fd);
	wp_security_context_v1_set_sandbox_engine(context, "org.example.engine");
	wp_security_context_v1_set_app_id(context, app_id);
	wp_security_context_v1_commit(context);
	wp_security_context_v1_destroy(context);
	close(listen_fd);
}

static int run(char *command[]) {
	pid_t pid = fork();
	if (pid == 0) {
		setenv("WAYLAND_DISPLAY", socket_name, true);
		execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		return EXIT_FAILURE;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int main(int argc, char *argv[]) {
	struct wl_display *display = wl_display_connect(NULL);
	if (argc < 3 || display == NULL) {
		fprintf(stderr, "usage: sandbox APP-ID COMMAND [ARGS...], in a compositor\n");
		return EXIT_FAILURE;
	}
	struct wp_security_context_manager_v1 *manager = NULL;
	struct wl_registry *registry = wl_display_get_registry(display);
	wl_registry_add_listener(registry, &registry_listener, &manager);
	int pipe_fds[2];
	if (wl_display_roundtrip(display) < 0 || manager == NULL || pipe(pipe_fds) != 0) {
		fprintf(stderr, "sandbox: no security-context-v1\n");
		return 125;
	}
	create_context(manager, pipe_fds[0], argv[1]);
	if (wl_display_roundtrip(display) < 0) {
		fprintf(stderr, "sandbox: the compositor refused the context\n");
		return 125;
	}
	int status = run(&argv[2]);
	wp_security_context_manager_v1_destroy(manager);
	wl_registry_destroy(registry);
	wl_display_disconnect(display);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return status;
}
