/* SPDX-License-Identifier: MIT */
/*
 * The source is a texture, and drawn as a rectangle that covers the target. What is
 * for the CPU is drawn to memory of our own that is a dma-buf as well, if a trial shows
 * that the CPU sees what the driver draws there; else to a texture that is read back.
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES3/gl3.h>
#include <GLES2/gl2ext.h>
#include <drm_fourcc.h>
#include <fcntl.h>
#include <gbm.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vitrine/derive.h>
#include <wlr/render/dmabuf.h>
#include <xf86drm.h>

#include "copy_gl.h"

/** GPUs refuse to draw to linear memory of other strides, and AMD to other heights. */
#define TWIN_STRIDE_ALIGN 256 // bytes
#define TWIN_HEIGHT_ALIGN 16 // rows

/** How pixels of a format are drawn and read back. */
struct read_format {
	uint32_t fourcc;
	GLenum internal_format, type;
	uint32_t bytes_per_pixel;
	bool swaps_red_and_blue; // GL has them in the other order
	bool needs_gles3;
};

static const struct read_format read_formats[] = {
	{ DRM_FORMAT_XRGB8888, GL_RGBA, GL_UNSIGNED_BYTE, 4, true, false },
	{ DRM_FORMAT_ARGB8888, GL_RGBA, GL_UNSIGNED_BYTE, 4, true, false },
	{ DRM_FORMAT_XBGR8888, GL_RGBA, GL_UNSIGNED_BYTE, 4, false, false },
	{ DRM_FORMAT_ABGR8888, GL_RGBA, GL_UNSIGNED_BYTE, 4, false, false },
	{ DRM_FORMAT_XRGB2101010, GL_RGB10_A2, GL_UNSIGNED_INT_2_10_10_10_REV, 4, true, true },
	{ DRM_FORMAT_XBGR2101010, GL_RGB10_A2, GL_UNSIGNED_INT_2_10_10_10_REV, 4, false, true },
	{ DRM_FORMAT_ARGB2101010, GL_RGB10_A2, GL_UNSIGNED_INT_2_10_10_10_REV, 4, true, true },
	{ DRM_FORMAT_ABGR2101010, GL_RGB10_A2, GL_UNSIGNED_INT_2_10_10_10_REV, 4, false, true },
	{ DRM_FORMAT_ABGR16161616F, GL_RGBA16F, GL_HALF_FLOAT, 8, false, true },
	{ DRM_FORMAT_XBGR16161616F, GL_RGBA16F, GL_HALF_FLOAT, 8, false, true },
};

/** What pixels for the CPU are drawn to. */
struct read_target {
	const struct read_format *format; // NULL if there is none
	int width, height;
	GLuint framebuffer;
	GLuint texture; // 0 for the twin
	GLuint renderbuffer; // of the twin
	EGLImageKHR image;
	int memfd, dmabuf_fd; // of the twin, -1 for the texture
	void *data; // a map of the twin, or memory for what is read back; NULL before that
	size_t stride, size; // bytes
};

struct vt_copy_gl {
	int drm_fd; // a file description of our own, -1 if there is no device
	struct gbm_device *gbm; // NULL if there is no device
	EGLDisplay display;
	EGLContext context;
	bool is_shared; // the display is the process's, of which there may be other users
	bool has_modifiers, has_fences, is_gles3;
	PFNEGLCREATEIMAGEKHRPROC create_image;
	PFNEGLDESTROYIMAGEKHRPROC destroy_image;
	PFNEGLCREATESYNCKHRPROC create_sync;
	PFNEGLDESTROYSYNCKHRPROC destroy_sync;
	PFNEGLDUPNATIVEFENCEFDANDROIDPROC dup_fence_fd;
	PFNGLEGLIMAGETARGETTEXTURE2DOESPROC image_to_texture;
	PFNGLEGLIMAGETARGETRENDERBUFFERSTORAGEOESPROC image_to_renderbuffer;
	PFNGLGETGRAPHICSRESETSTATUSEXTPROC get_reset_status; // NULL if resets are not told
	GLuint program, swapping_program;

	bool refuses_twins; // the driver cannot draw to them, or the CPU does not see it
	struct read_target target;
};

static const char vertex_source[] =
	"attribute vec2 corner;\n"
	"varying vec2 place;\n"
	"void main() {\n"
	"	place = corner;\n"
	"	gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);\n"
	"}\n";

// The first row in memory is row 0 for textures and for what is drawn to alike
#define FRAGMENT_SOURCE(swizzle) \
	"#ifdef GL_FRAGMENT_PRECISION_HIGH\n" \
	"precision highp float;\n" \
	"#else\n" \
	"precision mediump float;\n" \
	"#endif\n" \
	"uniform sampler2D source;\n" \
	"varying vec2 place;\n" \
	"void main() {\n" \
	"	gl_FragColor = texture2D(source, place)." swizzle ";\n" \
	"}\n"

static GLuint compile_shader(GLenum type, const char *source) {
	GLuint shader = glCreateShader(type);
	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	return shader;
}

/** Returns 0 on failure. */
static GLuint link_program(const char *fragment_source) {
	GLuint vertex = compile_shader(GL_VERTEX_SHADER, vertex_source);
	GLuint fragment = compile_shader(GL_FRAGMENT_SHADER, fragment_source);
	GLuint program = glCreateProgram();
	glAttachShader(program, vertex);
	glAttachShader(program, fragment);
	glBindAttribLocation(program, 0, "corner");
	glLinkProgram(program);
	glDeleteShader(vertex);
	glDeleteShader(fragment);
	GLint ok = GL_FALSE;
	glGetProgramiv(program, GL_LINK_STATUS, &ok);
	if (!ok) {
		glDeleteProgram(program);
		return 0;
	}
	return program;
}

/* The display and the context */

static bool has_extension(const char *extensions, const char *name) {
	size_t len = strlen(name);
	for (const char *at = extensions; at != NULL && (at = strstr(at, name)) != NULL; at += len) {
		if ((at == extensions || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
			return true;
		}
	}
	return false;
}

/** A file description of our own of the device's render node, or of what there is. */
static int open_render_node(int borrowed_drm_fd) {
	char *path = drmGetRenderDeviceNameFromFd(borrowed_drm_fd);
	if (path == NULL) {
		path = drmGetDeviceNameFromFd2(borrowed_drm_fd);
	}
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	free(path);
	return fd;
}

static EGLDisplay get_display(struct vt_copy_gl *gl, int borrowed_drm_fd) {
	PFNEGLGETPLATFORMDISPLAYEXTPROC get_platform_display =
		(PFNEGLGETPLATFORMDISPLAYEXTPROC)eglGetProcAddress("eglGetPlatformDisplayEXT");
	if (get_platform_display == NULL) {
		return EGL_NO_DISPLAY;
	}
	if (borrowed_drm_fd < 0) {
		gl->is_shared = true;
		return get_platform_display(EGL_PLATFORM_SURFACELESS_MESA, NULL, NULL);
	}
	gl->drm_fd = open_render_node(borrowed_drm_fd);
	gl->gbm = gl->drm_fd >= 0 ? gbm_create_device(gl->drm_fd) : NULL;
	return gl->gbm != NULL ? get_platform_display(EGL_PLATFORM_GBM_KHR, gl->gbm, NULL) :
		EGL_NO_DISPLAY;
}

static bool init_display(struct vt_copy_gl *gl, int borrowed_drm_fd) {
	EGLDisplay display = get_display(gl, borrowed_drm_fd);
	if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL)) {
		return false;
	}
	gl->display = display;
	const char *extensions = eglQueryString(display, EGL_EXTENSIONS);
	gl->has_modifiers = has_extension(extensions, "EGL_EXT_image_dma_buf_import_modifiers");
	gl->has_fences = has_extension(extensions, "EGL_ANDROID_native_fence_sync");
	return has_extension(extensions, "EGL_KHR_surfaceless_context") &&
		has_extension(extensions, "EGL_KHR_no_config_context") &&
		has_extension(extensions, "EGL_EXT_image_dma_buf_import") &&
		eglBindAPI(EGL_OPENGL_ES_API);
}

/**
 * Robust, if it can be: of a GPU that was reset, drivers end the process that has a context
 * which does not want to be told.
 */
static EGLContext create_context(const struct vt_copy_gl *gl, EGLint version) {
	const char *extensions = eglQueryString(gl->display, EGL_EXTENSIONS);
	EGLint attribs[7] = { EGL_CONTEXT_CLIENT_VERSION, version };
	size_t n = 2;
	if (has_extension(extensions, "EGL_IMG_context_priority")) {
		attribs[n++] = EGL_CONTEXT_PRIORITY_LEVEL_IMG;
		attribs[n++] = EGL_CONTEXT_PRIORITY_LOW_IMG;
	}
	if (has_extension(extensions, "EGL_EXT_create_context_robustness")) {
		attribs[n++] = EGL_CONTEXT_OPENGL_RESET_NOTIFICATION_STRATEGY_EXT;
		attribs[n++] = EGL_LOSE_CONTEXT_ON_RESET_EXT;
	}
	attribs[n] = EGL_NONE;
	return eglCreateContext(gl->display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attribs);
}

static bool init_context(struct vt_copy_gl *gl) {
	gl->context = create_context(gl, 3);
	gl->is_gles3 = gl->context != EGL_NO_CONTEXT;
	if (!gl->is_gles3) {
		gl->context = create_context(gl, 2);
	}
	return gl->context != EGL_NO_CONTEXT &&
		eglMakeCurrent(gl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, gl->context);
}

static bool init_functions(struct vt_copy_gl *gl) {
	gl->create_image = (PFNEGLCREATEIMAGEKHRPROC)eglGetProcAddress("eglCreateImageKHR");
	gl->destroy_image = (PFNEGLDESTROYIMAGEKHRPROC)eglGetProcAddress("eglDestroyImageKHR");
	gl->create_sync = (PFNEGLCREATESYNCKHRPROC)eglGetProcAddress("eglCreateSyncKHR");
	gl->destroy_sync = (PFNEGLDESTROYSYNCKHRPROC)eglGetProcAddress("eglDestroySyncKHR");
	gl->dup_fence_fd =
		(PFNEGLDUPNATIVEFENCEFDANDROIDPROC)eglGetProcAddress("eglDupNativeFenceFDANDROID");
	gl->has_fences &= gl->create_sync != NULL && gl->destroy_sync != NULL &&
		gl->dup_fence_fd != NULL;
	gl->image_to_texture = (PFNGLEGLIMAGETARGETTEXTURE2DOESPROC)eglGetProcAddress(
		"glEGLImageTargetTexture2DOES");
	gl->image_to_renderbuffer = (PFNGLEGLIMAGETARGETRENDERBUFFERSTORAGEOESPROC)eglGetProcAddress(
		"glEGLImageTargetRenderbufferStorageOES");
	const char *extensions = (const char *)glGetString(GL_EXTENSIONS);
	const char *name = has_extension(extensions, "GL_KHR_robustness") ?
		"glGetGraphicsResetStatusKHR" : has_extension(extensions, "GL_EXT_robustness") ?
		"glGetGraphicsResetStatusEXT" : NULL;
	gl->get_reset_status = name != NULL ?
		(PFNGLGETGRAPHICSRESETSTATUSEXTPROC)eglGetProcAddress(name) : NULL;
	return has_extension(extensions, "GL_OES_EGL_image") &&
		gl->create_image != NULL && gl->destroy_image != NULL &&
		gl->image_to_texture != NULL && gl->image_to_renderbuffer != NULL;
}

static bool init_drawing(struct vt_copy_gl *gl) {
	static const GLfloat corners[] = { 0, 0, 1, 0, 0, 1, 1, 1 };
	gl->program = link_program(FRAGMENT_SOURCE("rgba"));
	gl->swapping_program = link_program(FRAGMENT_SOURCE("bgra"));
	glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, corners);
	glEnableVertexAttribArray(0);
	glDisable(GL_DITHER);
	glEnable(GL_SCISSOR_TEST);
	return gl->program != 0 && gl->swapping_program != 0;
}

static void target_finish(struct vt_copy_gl *gl);

void vt_copy_gl_destroy(struct vt_copy_gl *gl) {
	if (gl == NULL) {
		return;
	}
	if (gl->context != EGL_NO_CONTEXT) {
		target_finish(gl);
		eglMakeCurrent(gl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
		eglDestroyContext(gl->display, gl->context);
	}
	if (gl->display != EGL_NO_DISPLAY && !gl->is_shared) {
		eglTerminate(gl->display);
	}
	eglReleaseThread();
	if (gl->gbm != NULL) {
		gbm_device_destroy(gl->gbm);
	}
	if (gl->drm_fd >= 0) {
		close(gl->drm_fd);
	}
	free(gl);
}

bool vt_copy_gl_is_lost(const struct vt_copy_gl *gl) {
	return gl->get_reset_status != NULL && gl->get_reset_status() != GL_NO_ERROR;
}

/** Forgets the errors of what was before. A context that is lost may have no end of them. */
static void forget_errors(void) {
	GLenum error;
	do {
		error = glGetError();
	} while (error != GL_NO_ERROR && error != GL_CONTEXT_LOST_KHR);
}

/* Importing */

/** The names of the attributes of a plane. */
static const EGLint plane_attribs[WLR_DMABUF_MAX_PLANES][5] = {
#define PLANE(i) { \
		EGL_DMA_BUF_PLANE##i##_FD_EXT, EGL_DMA_BUF_PLANE##i##_OFFSET_EXT, \
		EGL_DMA_BUF_PLANE##i##_PITCH_EXT, EGL_DMA_BUF_PLANE##i##_MODIFIER_LO_EXT, \
		EGL_DMA_BUF_PLANE##i##_MODIFIER_HI_EXT }
	PLANE(0), PLANE(1), PLANE(2), PLANE(3),
#undef PLANE
};

static EGLImageKHR import_dmabuf(const struct vt_copy_gl *gl,
		const struct wlr_dmabuf_attributes *dmabuf) {
	EGLint attribs[7 + WLR_DMABUF_MAX_PLANES * 10];
	size_t n = 0;
	attribs[n++] = EGL_WIDTH;
	attribs[n++] = dmabuf->width;
	attribs[n++] = EGL_HEIGHT;
	attribs[n++] = dmabuf->height;
	attribs[n++] = EGL_LINUX_DRM_FOURCC_EXT;
	attribs[n++] = (EGLint)dmabuf->format;
	bool has_modifier = dmabuf->modifier != DRM_FORMAT_MOD_INVALID && gl->has_modifiers;
	const EGLint modifier[2] = {
		(EGLint)(dmabuf->modifier & UINT32_MAX), (EGLint)(dmabuf->modifier >> 32),
	};
	for (int i = 0; i < dmabuf->n_planes; i++) {
		const EGLint values[5] = {
			dmabuf->fd[i], (EGLint)dmabuf->offset[i], (EGLint)dmabuf->stride[i],
			modifier[0], modifier[1],
		};
		for (int j = 0; j < (has_modifier ? 5 : 3); j++) {
			attribs[n++] = plane_attribs[i][j];
			attribs[n++] = values[j];
		}
	}
	attribs[n] = EGL_NONE;
	return gl->create_image(gl->display, EGL_NO_CONTEXT, EGL_LINUX_DMA_BUF_EXT, NULL, attribs);
}

/** A texture with the source's pixels, or 0. */
static GLuint import_texture(const struct vt_copy_gl *gl,
		const struct wlr_dmabuf_attributes *source) {
	EGLImageKHR image = import_dmabuf(gl, source);
	if (image == EGL_NO_IMAGE_KHR) {
		return 0;
	}
	GLuint texture;
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_S, GL_CLAMP_TO_EDGE);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_T, GL_CLAMP_TO_EDGE);
	forget_errors();
	gl->image_to_texture(GL_TEXTURE_2D, image);
	gl->destroy_image(gl->display, image); // the texture keeps what it needs
	if (glGetError() != GL_NO_ERROR) {
		glDeleteTextures(1, &texture);
		return 0;
	}
	return texture;
}

/** Makes an image what is drawn to. */
static bool attach_image(const struct vt_copy_gl *gl, EGLImageKHR image, GLuint *renderbuffer,
		GLuint *framebuffer) {
	glGenRenderbuffers(1, renderbuffer);
	glBindRenderbuffer(GL_RENDERBUFFER, *renderbuffer);
	gl->image_to_renderbuffer(GL_RENDERBUFFER, image);
	glGenFramebuffers(1, framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, *framebuffer);
	glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER,
		*renderbuffer);
	return glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE;
}

/** Draws to what is bound. */
static void draw_region(GLuint program, GLuint texture, int width, int height,
		const pixman_region32_t *region) {
	glViewport(0, 0, width, height);
	glUseProgram(program);
	glBindTexture(GL_TEXTURE_2D, texture);
	int n_rects;
	const pixman_box32_t *rects =
		pixman_region32_rectangles((pixman_region32_t *)region, &n_rects);
	for (int i = 0; i < n_rects; i++) {
		glScissor(rects[i].x1, rects[i].y1, rects[i].x2 - rects[i].x1,
			rects[i].y2 - rects[i].y1);
		glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
	}
}

/** A sync_file for all that the context was told, or -1. */
static int export_fence(const struct vt_copy_gl *gl) {
	if (!gl->has_fences) {
		return -1;
	}
	EGLSyncKHR sync = gl->create_sync(gl->display, EGL_SYNC_NATIVE_FENCE_ANDROID, NULL);
	if (sync == EGL_NO_SYNC_KHR) {
		return -1;
	}
	glFlush(); // the fence has no file descriptor before
	int fd = gl->dup_fence_fd(gl->display, sync);
	gl->destroy_sync(gl->display, sync);
	return fd == EGL_NO_NATIVE_FENCE_FD_ANDROID ? -1 : fd;
}

/** Waits until all is drawn. False if it was cancelled before. */
static bool wait_for_drawing(const struct vt_copy_gl *gl, int cancel_fd) {
	int fence_fd = export_fence(gl);
	if (fence_fd < 0) {
		glFinish();
		return true;
	}
	struct pollfd pollfds[] = {
		{ .fd = fence_fd, .events = POLLIN },
		{ .fd = cancel_fd, .events = POLLIN },
	};
	while (poll(pollfds, 2, -1) < 0) {
		// by a signal
	}
	close(fence_fd);
	return pollfds[0].revents != 0;
}

/* The target for the CPU */

static bool target_is_twin(const struct read_target *target) {
	return target->texture == 0;
}

static void target_finish(struct vt_copy_gl *gl) {
	struct read_target *target = &gl->target;
	glDeleteFramebuffers(1, &target->framebuffer);
	glDeleteTextures(1, &target->texture);
	glDeleteRenderbuffers(1, &target->renderbuffer);
	if (target->image != EGL_NO_IMAGE_KHR) {
		gl->destroy_image(gl->display, target->image);
	}
	if (target->format != NULL && target->dmabuf_fd >= 0) {
		munmap(target->data, target->size);
		close(target->dmabuf_fd);
		close(target->memfd);
	} else {
		free(target->data);
	}
	*target = (struct read_target){ .memfd = -1, .dmabuf_fd = -1 };
}

static bool target_set_size(struct read_target *target, const struct read_format *format,
		int width, int height, size_t stride_align, size_t height_align) {
	if (width <= 0 || height <= 0) {
		return false;
	}
	uint64_t stride = (uint64_t)width * format->bytes_per_pixel;
	stride = (stride + stride_align - 1) / stride_align * stride_align;
	uint64_t rows = ((uint64_t)height + height_align - 1) / height_align * height_align;
	if (stride > INT32_MAX || rows > INT32_MAX || stride * rows > SIZE_MAX / 2) {
		return false;
	}
	target->width = width;
	target->height = height;
	target->stride = (size_t)stride;
	target->size = (size_t)(stride * rows);
	return true;
}

static bool twin_draws_in(struct read_target *target, GLfloat red, GLfloat green,
		uint32_t expected) {
	glScissor(0, 0, target->width, target->height);
	glClearColor(red, green, 0, 1);
	glClear(GL_COLOR_BUFFER_BIT);
	glFinish();
	struct dma_buf_sync sync = { DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	ioctl(target->dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync);
	uint32_t first, last;
	memcpy(&first, target->data, sizeof(first));
	memcpy(&last, (const char *)target->data + (size_t)(target->height - 1) * target->stride +
		(size_t)(target->width - 1) * sizeof(last), sizeof(last));
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	ioctl(target->dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync);
	return (first & 0xffffff) == expected && (last & 0xffffff) == expected;
}

/**
 * Whether the CPU sees what is drawn to the twin: drivers import memory that they
 * copy rather than share. Two colours, since one may be there by chance.
 */
static bool twin_works(struct read_target *target) {
	return twin_draws_in(target, 1, 0, 0xff0000) && twin_draws_in(target, 0, 1, 0x00ff00);
}

/**
 * Makes a memfd a dma-buf, or returns -1. A struct vitrine_derive could, but its creation
 * tries what all devices of the machine can do.
 */
static int create_udmabuf(int memfd, size_t size) {
	// udmabuf insists on the seal: pages must not go away under a device
	if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
		return -1;
	}
	int fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return -1;
	}
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	const struct udmabuf_create request = {
		.memfd = (uint32_t)memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = (size + page_size - 1) / page_size * page_size,
	};
	int dmabuf_fd = ioctl(fd, UDMABUF_CREATE, &request);
	close(fd);
	return dmabuf_fd;
}

/** Memory that is a dma-buf as well. */
static bool twin_alloc(struct read_target *target) {
	target->memfd = vitrine_memfd_create(target->size);
	if (target->memfd < 0) {
		return false;
	}
	void *data = mmap(NULL, target->size, PROT_READ | PROT_WRITE, MAP_SHARED, target->memfd, 0);
	if (data == MAP_FAILED) {
		close(target->memfd);
		return false;
	}
	target->dmabuf_fd = create_udmabuf(target->memfd, target->size);
	if (target->dmabuf_fd < 0) {
		munmap(data, target->size);
		close(target->memfd);
		return false;
	}
	target->data = data;
	return true;
}

static bool twin_attach(struct vt_copy_gl *gl, struct read_target *target) {
	target->image = import_dmabuf(gl, &(struct wlr_dmabuf_attributes){
		.width = target->width,
		.height = target->height,
		.format = target->format->fourcc,
		.modifier = DRM_FORMAT_MOD_LINEAR,
		.n_planes = 1,
		.stride[0] = (uint32_t)target->stride,
		.fd[0] = target->dmabuf_fd,
	});
	return target->image != EGL_NO_IMAGE_KHR &&
		attach_image(gl, target->image, &target->renderbuffer, &target->framebuffer) &&
		twin_works(target);
}

static bool target_init_twin(struct vt_copy_gl *gl, const struct read_format *format, int width,
		int height) {
	struct read_target *target = &gl->target;
	bool can_try = !gl->refuses_twins && format->fourcc == DRM_FORMAT_XRGB8888;
	if (!can_try || !target_set_size(target, format, width, height,
			TWIN_STRIDE_ALIGN, TWIN_HEIGHT_ALIGN) || !twin_alloc(target)) {
		return false;
	}
	target->format = format;
	if (!twin_attach(gl, target)) {
		target_finish(gl);
		gl->refuses_twins = true;
		return false;
	}
	return true;
}

static bool target_init_texture(struct vt_copy_gl *gl, const struct read_format *format,
		int width, int height) {
	struct read_target *target = &gl->target;
	target->memfd = target->dmabuf_fd = -1;
	if (!target_set_size(target, format, width, height, 4, 1)) {
		return false;
	}
	glGenTextures(1, &target->texture);
	glBindTexture(GL_TEXTURE_2D, target->texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexImage2D(GL_TEXTURE_2D, 0, (GLint)format->internal_format, width, height, 0, GL_RGBA,
		format->type, NULL);
	glGenFramebuffers(1, &target->framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, target->framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D,
		target->texture, 0);
	target->format = format;
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) {
		target_finish(gl);
		return false;
	}
	return true;
}

static const struct read_format *find_format(const struct vt_copy_gl *gl, uint32_t fourcc) {
	for (size_t i = 0; i < sizeof(read_formats) / sizeof(read_formats[0]); i++) {
		const struct read_format *format = &read_formats[i];
		if (format->fourcc == fourcc && (gl->is_gles3 || !format->needs_gles3)) {
			return format;
		}
	}
	return NULL;
}

bool vt_copy_gl_can_read(const struct vt_copy_gl *gl, uint32_t fourcc) {
	return find_format(gl, fourcc) != NULL;
}

/** Makes the target fit. What is for a GPU is a texture in any case. */
static bool target_configure(struct vt_copy_gl *gl, const struct read_format *format, int width,
		int height, bool is_for_gpu) {
	const struct read_target *target = &gl->target;
	if (format == NULL) {
		return false;
	} else if (target->format == format && target->width == width &&
			target->height == height && (!is_for_gpu || !target_is_twin(target))) {
		return true;
	}
	target_finish(gl);
	return (!is_for_gpu && target_init_twin(gl, format, width, height)) ||
		target_init_texture(gl, format, width, height);
}

/* Fences */

/** A trial's size in pixels, how often all of them are drawn, and how often it is made. */
#define TRIAL_SIZE 512
#define TRIAL_DRAWS 64
#define TRIALS 3

static bool is_signalled(int fd) {
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	return poll(&pollfd, 1, 0) == 1;
}

/** Draws, and looks at the dma-buf while that goes on. */
static bool try_fences(const struct vt_copy_gl *gl, const pixman_region32_t *all,
		int borrowed_dmabuf_fd) {
	for (int i = 0; i < TRIALS; i++) {
		for (int j = 0; j < TRIAL_DRAWS; j++) {
			draw_region(gl->program, 0, TRIAL_SIZE, TRIAL_SIZE, all);
		}
		int fence_fd = export_fence(gl);
		if (fence_fd < 0) {
			return false;
		}
		bool dmabuf_waits = !is_signalled(borrowed_dmabuf_fd);
		bool was_drawing = !is_signalled(fence_fd); // also while we looked
		close(fence_fd);
		if (was_drawing) {
			return dmabuf_waits;
		}
	}
	return false; // too fast to tell
}

static bool try_fences_of(const struct vt_copy_gl *gl, struct gbm_bo *bo, int dmabuf_fd) {
	EGLImageKHR image = import_dmabuf(gl, &(struct wlr_dmabuf_attributes){
		.width = TRIAL_SIZE,
		.height = TRIAL_SIZE,
		.format = DRM_FORMAT_XRGB8888,
		.modifier = gbm_bo_get_modifier(bo),
		.n_planes = 1,
		.stride[0] = gbm_bo_get_stride(bo),
		.fd[0] = dmabuf_fd,
	});
	if (image == EGL_NO_IMAGE_KHR) {
		return false;
	}
	pixman_region32_t all;
	pixman_region32_init_rect(&all, 0, 0, TRIAL_SIZE, TRIAL_SIZE);
	GLuint renderbuffer, framebuffer;
	bool ok = attach_image(gl, image, &renderbuffer, &framebuffer) &&
		try_fences(gl, &all, dmabuf_fd);
	pixman_region32_fini(&all);
	glDeleteFramebuffers(1, &framebuffer);
	glDeleteRenderbuffers(1, &renderbuffer);
	gl->destroy_image(gl->display, image);
	return ok;
}

bool vt_copy_gl_attaches_fences(const struct vt_copy_gl *gl) {
	struct gbm_bo *bo = gl->gbm != NULL ? gbm_bo_create(gl->gbm, TRIAL_SIZE, TRIAL_SIZE,
		GBM_FORMAT_XRGB8888, GBM_BO_USE_RENDERING | GBM_BO_USE_LINEAR) : NULL;
	int dmabuf_fd = bo != NULL ? gbm_bo_get_fd(bo) : -1;
	bool ok = dmabuf_fd >= 0 && try_fences_of(gl, bo, dmabuf_fd);
	if (dmabuf_fd >= 0) {
		close(dmabuf_fd);
	}
	if (bo != NULL) {
		gbm_bo_destroy(bo);
	}
	return ok;
}

/* Creating it */

struct vt_copy_gl *vt_copy_gl_create(int borrowed_drm_fd) {
	struct vt_copy_gl *gl = calloc(1, sizeof(*gl));
	if (gl == NULL) {
		return NULL;
	}
	gl->drm_fd = -1;
	if (!init_display(gl, borrowed_drm_fd) || !init_context(gl) ||
			!init_functions(gl) || !init_drawing(gl)) {
		vt_copy_gl_destroy(gl);
		return NULL;
	}
	return gl;
}

/* Copying */

/** Reads the region's extents by one call, each of which waits for the GPU. */
static bool read_back(const struct vt_copy_gl *gl, struct read_target *target,
		const pixman_region32_t *region) {
	if (target->data == NULL) {
		target->data = calloc(1, target->size); // what fails unseen shows nothing of ours
		if (target->data == NULL) {
			return false;
		}
	}
	const pixman_box32_t *extents = pixman_region32_extents((pixman_region32_t *)region);
	int x1 = 0, x2 = target->width;
	glPixelStorei(GL_PACK_ALIGNMENT, 4);
	if (gl->is_gles3) {
		x1 = extents->x1;
		x2 = extents->x2;
		glPixelStorei(GL_PACK_ROW_LENGTH, target->width);
	}
	char *data = (char *)target->data + (size_t)extents->y1 * target->stride +
		(size_t)x1 * target->format->bytes_per_pixel;
	forget_errors();
	glReadPixels(x1, extents->y1, x2 - x1, extents->y2 - extents->y1, GL_RGBA,
		target->format->type, data);
	return glGetError() == GL_NO_ERROR;
}

static bool finish_twin(const struct vt_copy_gl *gl, const struct read_target *target) {
	struct dma_buf_sync sync = { DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	if (!wait_for_drawing(gl, -1)) {
		return false;
	}
	ioctl(target->dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync);
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	ioctl(target->dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync);
	return true;
}

bool vt_copy_gl_read(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
		uint32_t fourcc, const pixman_region32_t *region, struct vt_copy_gl_pixels *pixels) {
	GLuint texture = import_texture(gl, source);
	if (texture == 0 || !target_configure(gl, find_format(gl, fourcc), source->width,
			source->height, false)) {
		glDeleteTextures(1, &texture);
		return false;
	}
	struct read_target *target = &gl->target;
	bool is_twin = target_is_twin(target);
	glBindFramebuffer(GL_FRAMEBUFFER, target->framebuffer);
	draw_region(!is_twin && target->format->swaps_red_and_blue ? gl->swapping_program :
		gl->program, texture, target->width, target->height, region);
	bool ok = is_twin ? finish_twin(gl, target) : read_back(gl, target, region);
	glDeleteTextures(1, &texture);
	*pixels = (struct vt_copy_gl_pixels){
		.data = target->data,
		.stride = target->stride,
		.bytes_per_pixel = target->format->bytes_per_pixel,
	};
	return ok;
}

/** What loses nothing of a format, or what every renderer draws to. */
static const struct read_format *find_staging_format(const struct vt_copy_gl *gl,
		uint32_t fourcc) {
	const struct read_format *format = find_format(gl, fourcc);
	return format != NULL ? format : find_format(gl, DRM_FORMAT_XRGB8888);
}

bool vt_copy_gl_stage(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *source,
		const pixman_region32_t *region, int cancel_fd) {
	GLuint texture = import_texture(gl, source);
	const struct read_format *format = find_staging_format(gl, source->format);
	if (texture == 0 || !target_configure(gl, format, source->width, source->height, true)) {
		glDeleteTextures(1, &texture);
		return false;
	}
	glBindFramebuffer(GL_FRAMEBUFFER, gl->target.framebuffer);
	draw_region(gl->program, texture, source->width, source->height, region);
	bool ok = wait_for_drawing(gl, cancel_fd);
	glDeleteTextures(1, &texture);
	return ok;
}

bool vt_copy_gl_draw(struct vt_copy_gl *gl, const struct wlr_dmabuf_attributes *target,
		const pixman_region32_t *region, int cancel_fd) {
	EGLImageKHR image = import_dmabuf(gl, target);
	if (image == EGL_NO_IMAGE_KHR) {
		return false;
	}
	GLuint renderbuffer, framebuffer;
	bool ok = attach_image(gl, image, &renderbuffer, &framebuffer);
	if (ok) {
		draw_region(gl->program, gl->target.texture, target->width, target->height, region);
		ok = wait_for_drawing(gl, cancel_fd);
	}
	glDeleteFramebuffers(1, &framebuffer);
	glDeleteRenderbuffers(1, &renderbuffer);
	gl->destroy_image(gl->display, image);
	return ok;
}
