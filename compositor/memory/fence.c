/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wlr/config.h>
#include <wlr/render/dmabuf.h>
#include <wlr/render/drm_syncobj.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>
#include <wlr/util/log.h>

#if WLR_HAS_GLES2_RENDERER
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <wlr/render/egl.h>
#include <wlr/render/gles2.h>
#endif

#include "fence.h"

#if WLR_HAS_GLES2_RENDERER

struct egl_binding {
	EGLDisplay display;
	EGLContext context;
	EGLSurface draw, read;
};

/** Makes the renderer's context current, and remembers which one was. */
static bool egl_bind(struct wlr_egl *egl, struct egl_binding *previous) {
	*previous = (struct egl_binding){
		.display = eglGetCurrentDisplay(),
		.context = eglGetCurrentContext(),
		.draw = eglGetCurrentSurface(EGL_DRAW),
		.read = eglGetCurrentSurface(EGL_READ),
	};
	return eglMakeCurrent(wlr_egl_get_display(egl), EGL_NO_SURFACE, EGL_NO_SURFACE,
		wlr_egl_get_context(egl));
}

static void egl_restore(struct wlr_egl *egl, const struct egl_binding *previous) {
	EGLDisplay display = previous->display != EGL_NO_DISPLAY ?
		previous->display : wlr_egl_get_display(egl);
	eglMakeCurrent(display, previous->draw, previous->read, previous->context);
}

static bool egl_has_native_fences(EGLDisplay display) {
	const char *extensions = eglQueryString(display, EGL_EXTENSIONS);
	return extensions != NULL && strstr(extensions, "EGL_ANDROID_native_fence_sync") != NULL;
}

/** A sync_file for all that the current context was told, or -1. */
static int egl_export_fence(EGLDisplay display) {
	if (!egl_has_native_fences(display)) {
		return -1;
	}
	PFNEGLCREATESYNCKHRPROC create =
		(PFNEGLCREATESYNCKHRPROC)eglGetProcAddress("eglCreateSyncKHR");
	PFNEGLDESTROYSYNCKHRPROC destroy =
		(PFNEGLDESTROYSYNCKHRPROC)eglGetProcAddress("eglDestroySyncKHR");
	PFNEGLDUPNATIVEFENCEFDANDROIDPROC dup_fd =
		(PFNEGLDUPNATIVEFENCEFDANDROIDPROC)eglGetProcAddress("eglDupNativeFenceFDANDROID");
	if (create == NULL || destroy == NULL || dup_fd == NULL) {
		return -1;
	}
	EGLSyncKHR sync = create(display, EGL_SYNC_NATIVE_FENCE_ANDROID, NULL);
	if (sync == EGL_NO_SYNC_KHR) {
		return -1;
	}
	glFlush(); // the fence has no file descriptor before
	int fd = dup_fd(display, sync);
	destroy(display, sync);
	return fd == EGL_NO_NATIVE_FENCE_FD_ANDROID ? -1 : fd;
}

/** -1 if all is finished. False if the context cannot be had. */
static bool gles2_export_fence(struct wlr_renderer *renderer, int *fd) {
	struct wlr_egl *egl = wlr_gles2_renderer_get_egl(renderer);
	struct egl_binding previous;
	if (!egl_bind(egl, &previous)) {
		wlr_log(WLR_ERROR, "Failed to make the renderer's EGL context current");
		return false;
	}
	*fd = egl_export_fence(wlr_egl_get_display(egl));
	if (*fd < 0) {
		// Without a fence to wait for in the event loop, being late is all that
		// is left: a frame must not change after it was sent
		glFinish();
	}
	egl_restore(egl, &previous);
	return true;
}

#endif

/**
 * The fences that drivers attach to a dma-buf by themselves. -1 if there is none: a
 * renderer that could not attach any has waited. False if it cannot be known.
 */
static bool dmabuf_export_fence(struct wlr_buffer *buffer, int *fd) {
	*fd = -1;
	struct wlr_dmabuf_attributes dmabuf;
	if (!wlr_buffer_get_dmabuf(buffer, &dmabuf)) {
		return true;
	}
	struct dma_buf_export_sync_file request = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	if (ioctl(dmabuf.fd[0], DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) != 0) {
		return errno == ENOTTY; // before Linux 6.0
	}
	*fd = request.fd;
	return true;
}

static bool export_fence(struct wlr_renderer *renderer, const struct wlr_output_state *state,
		struct wlr_buffer *buffer, int *fd) {
	bool has_timeline = state != NULL && (state->committed & WLR_OUTPUT_STATE_WAIT_TIMELINE);
	if (has_timeline) {
		*fd = wlr_drm_syncobj_timeline_export_sync_file(state->wait_timeline,
			state->wait_point);
		if (*fd >= 0) {
			return true;
		}
	}
#if WLR_HAS_GLES2_RENDERER
	if (wlr_renderer_is_gles2(renderer)) {
		return gles2_export_fence(renderer, fd);
	}
#endif
	// A renderer that signals a timeline attaches no fence to the dma-buf
	return !has_timeline && dmabuf_export_fence(buffer, fd);
}

bool vt_render_fence(struct wlr_renderer *renderer, const struct wlr_output_state *state,
		struct wlr_buffer *buffer, int *take_fence_fd) {
	*take_fence_fd = -1;
	// What draws to a pointer is the CPU, which has finished
	if (renderer == NULL || (renderer->render_buffer_caps & WLR_BUFFER_CAP_DATA_PTR)) {
		return true;
	}
	int fd;
	if (!export_fence(renderer, state, buffer, &fd)) {
		wlr_log(WLR_ERROR, "A frame is lost: there is no telling when it is finished");
		return false;
	}
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	if (fd >= 0 && poll(&pollfd, 1, 0) == 1) {
		close(fd);
		fd = -1;
	}
	*take_fence_fd = fd;
	return true;
}

bool vt_render_fence_is_made(struct wlr_renderer *renderer) {
#if WLR_HAS_GLES2_RENDERER
	return wlr_renderer_is_gles2(renderer); // others have the ones of timelines
#else
	return false;
#endif
}

/** A sync_file for all that one has to wait for before writing to a dma-buf, or -1. */
static int export_all_fences(int borrowed_dmabuf_fd) {
	struct dma_buf_export_sync_file request = { .flags = DMA_BUF_SYNC_WRITE, .fd = -1 };
	return ioctl(borrowed_dmabuf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) == 0 ?
		request.fd : -1;
}

bool vt_fence_is_on_dmabuf(const struct wlr_dmabuf_attributes *dmabuf) {
	bool is_pending = false;
	for (int i = 0; i < dmabuf->n_planes && !is_pending; i++) {
		struct pollfd pollfd = { .fd = export_all_fences(dmabuf->fd[i]), .events = POLLIN };
		if (pollfd.fd >= 0) {
			is_pending = poll(&pollfd, 1, 0) == 0;
			close(pollfd.fd);
		}
	}
	return is_pending;
}
