/* SPDX-License-Identifier: MIT */
/**
 * Runs a command as a sandboxed client: usage: sandbox APP-ID COMMAND [ARGS...]
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "security-context-v1-client-protocol.h"
#include "wayland.h"

/** None that the command is expected to have. */
#define STATUS_NO_SANDBOX 125

static const char socket_name[] = "sandbox-0";

static int listen_on_socket(void) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", getenv("XDG_RUNTIME_DIR"),
		socket_name);
	unlink(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
			listen(fd, 8) != 0) {
		die("socket: %s", strerror(errno));
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
	if (argc < 3) {
		die("usage: sandbox APP-ID COMMAND [ARGS...]");
	}
	struct wl_display *display = wayland_connect();
	struct wp_security_context_manager_v1 *manager;
	wayland_bind(display, STATUS_NO_SANDBOX, (struct wayland_global[]){
		{ &wp_security_context_manager_v1_interface, 1, &manager }, { 0 } });
	int pipe_fds[2];
	if (pipe(pipe_fds) != 0) {
		die_with(STATUS_NO_SANDBOX, "pipe: %s", strerror(errno));
	}
	create_context(manager, pipe_fds[0], argv[1]);
	if (wl_display_roundtrip(display) < 0) {
		die_with(STATUS_NO_SANDBOX, "the compositor refused the context");
	}
	int status = run(&argv[2]);
	wp_security_context_manager_v1_destroy(manager);
	wl_display_disconnect(display);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return status;
}
