/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wayland-server-core.h>
#include <wlr/render/swapchain.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/render/wlr_texture.h>

#include "faults.h"

unsigned fault_calls_left;
_Thread_local bool fault_in_server;
bool fault_failed;
const char *fault_for_ever;

bool fault_fails(const char *call) {
	if (fault_in_server && fault_for_ever != NULL && strcmp(call, fault_for_ever) == 0) {
		fault_failed = true;
		return true;
	}
	if (!fault_in_server || fault_calls_left == 0 || --fault_calls_left > 0) {
		return false;
	}
	fault_failed = true;
	return true;
}

WRAP(void *, malloc, ENOMEM, NULL, (size_t size), (size))
WRAP(void *, realloc, ENOMEM, NULL, (void *data, size_t size), (data, size))
WRAP(char *, strdup, ENOMEM, NULL, (const char *text), (text))
WRAP(char *, strndup, ENOMEM, NULL, (const char *text, size_t len), (text, len))
WRAP(FILE *, open_memstream, ENOMEM, NULL, (char **text, size_t *size), (text, size))
WRAP(locale_t, newlocale, ENOMEM, (locale_t)0, (int mask, const char *name, locale_t base),
	(mask, name, base))
WRAP(int, socket, EMFILE, -1, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, bind, ENOSPC, -1, (int fd, const struct sockaddr *address, socklen_t len),
	(fd, address, len))
WRAP(int, listen, ENOMEM, -1, (int fd, int backlog), (fd, backlog))
WRAP(int, accept4, EMFILE, -1, (int fd, struct sockaddr *address, socklen_t *len, int flags),
	(fd, address, len, flags))
WRAP(int, getsockopt, EMFILE, -1, (int fd, int level, int name, void *value, socklen_t *len),
	(fd, level, name, value, len))

WRAP(void *, calloc, ENOMEM, NULL, (size_t n, size_t size), (n, size))
WRAP(int, eventfd, EMFILE, -1, (unsigned value, int flags), (value, flags))
WRAP(int, pthread_create, EAGAIN, EAGAIN,
	(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *data), void *data),
	(thread, attr, run, data))
WRAP(int, ftruncate, ENOSPC, -1, (int fd, off_t size), (fd, size))
WRAP(int, ftruncate64, ENOSPC, -1, (int fd, off64_t size), (fd, size))
WRAP(int, memfd_create, EMFILE, -1, (const char *name, unsigned flags), (name, flags))
WRAP(void *, mmap, ENOMEM, MAP_FAILED,
	(void *addr, size_t len, int prot, int flags, int fd, off_t offset),
	(addr, len, prot, flags, fd, offset))
WRAP(void *, mmap64, ENOMEM, MAP_FAILED,
	(void *addr, size_t len, int prot, int flags, int fd, off64_t offset),
	(addr, len, prot, flags, fd, offset))
WRAP(void *, mremap, ENOMEM, MAP_FAILED,
	(void *addr, size_t old_len, size_t new_len, int flags, void *new_addr),
	(addr, old_len, new_len, flags, new_addr))
WRAP(int, fcntl, EMFILE, -1, (int fd, int command, long argument), (fd, command, argument))
WRAP(int, fcntl64, EMFILE, -1, (int fd, int command, long argument), (fd, command, argument))
WRAP(int, open, EMFILE, -1, (const char *path, int flags, mode_t mode), (path, flags, mode))
WRAP(int, open64, EMFILE, -1, (const char *path, int flags, mode_t mode), (path, flags, mode))
WRAP(void *, wl_array_add, ENOMEM, NULL, (struct wl_array *array, size_t size), (array, size))
WRAP(int, wl_array_copy, ENOMEM, -1, (struct wl_array *array, struct wl_array *source),
	(array, source))
WRAP(struct wl_event_source *, wl_event_loop_add_fd, ENOMEM, NULL,
	(struct wl_event_loop *loop, int fd, uint32_t mask, wl_event_loop_fd_func_t func,
		void *data),
	(loop, fd, mask, func, data))
WRAP(struct wl_event_source *, wl_event_loop_add_idle, ENOMEM, NULL,
	(struct wl_event_loop *loop, wl_event_loop_idle_func_t func, void *data),
	(loop, func, data))
WRAP(struct wl_event_source *, wl_event_loop_add_timer, ENOMEM, NULL,
	(struct wl_event_loop *loop, wl_event_loop_timer_func_t func, void *data),
	(loop, func, data))
WRAP(struct wl_resource *, wl_resource_create, ENOMEM, NULL,
	(struct wl_client *client, const struct wl_interface *interface, int version, uint32_t id),
	(client, interface, version, id))
WRAP(struct wlr_render_pass *, wlr_renderer_begin_buffer_pass, ENOMEM, NULL,
	(struct wlr_renderer *renderer, struct wlr_buffer *buffer,
		const struct wlr_buffer_pass_options *options),
	(renderer, buffer, options))
WRAP(struct wlr_buffer *, wlr_swapchain_acquire, ENOMEM, NULL,
	(struct wlr_swapchain *swapchain), (swapchain))
WRAP(struct wlr_swapchain *, wlr_swapchain_create, ENOMEM, NULL,
	(struct wlr_allocator *allocator, int width, int height,
		const struct wlr_drm_format *format),
	(allocator, width, height, format))
WRAP(struct wl_event_source *, wl_event_loop_add_signal, ENOMEM, NULL,
	(struct wl_event_loop *loop, int number, wl_event_loop_signal_func_t func, void *data),
	(loop, number, func, data))
WRAP(struct wl_global *, wl_global_create, ENOMEM, NULL,
	(struct wl_display *display, const struct wl_interface *interface, int version, void *data,
		wl_global_bind_func_t bind),
	(display, interface, version, data, bind))
WRAP(struct wlr_texture *, wlr_texture_from_buffer, ENOMEM, NULL,
	(struct wlr_renderer *renderer, struct wlr_buffer *buffer), (renderer, buffer))
