/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "file.h"

/** How many files of the same name are numbered. */
#define MAX_SAME 100

/** The directory of a path as a string to be freed. */
static char *get_directory(const char *path) {
	const char *slash = strrchr(path, '/');
	if (slash == NULL) {
		return strdup(".");
	}
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/** A name beside the path that no file has, as a template for mkostemp(). */
static char *make_temp_template(const char *path) {
	const char *slash = strrchr(path, '/');
	int dir_len = slash != NULL ? (int)(slash - path) + 1 : 0;
	char *template = NULL;
	if (asprintf(&template, "%.*s.%s.XXXXXX", dir_len, path, path + dir_len) < 0) {
		return NULL;
	}
	return template;
}

static mode_t get_mode(void) {
	mode_t mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

static int open_named_temp(struct out_file *file) {
	file->temp_path = make_temp_template(file->path);
	if (file->temp_path == NULL) {
		return -ENOMEM;
	}
	file->fd = mkostemp(file->temp_path, O_CLOEXEC);
	if (file->fd < 0) {
		int ret = -errno;
		free(file->temp_path);
		file->temp_path = NULL;
		return ret;
	}
	fchmod(file->fd, get_mode());
	return 0;
}

/** A file without a name, which is gone with the process in any case. */
static int open_temp(struct out_file *file) {
	char *directory = get_directory(file->path);
	if (directory == NULL) {
		return -ENOMEM;
	}
	file->fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
	free(directory);
	if (file->fd >= 0) {
		return 0;
	}
	// Not every file system has them
	return errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL ?
		open_named_temp(file) : -errno;
}

int out_file_open(struct out_file *file, const char *name) {
	*file = (struct out_file){ .fd = -1 };
	snprintf(file->name, sizeof(file->name), "\"%s\"", name);
	if (strcmp(name, "-") == 0) {
		snprintf(file->name, sizeof(file->name), "standard output");
		file->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return file->fd < 0 ? -errno : 0;
	}

	struct stat st;
	bool exists = stat(name, &st) == 0;
	if (exists && S_ISDIR(st.st_mode)) {
		return -EISDIR;
	}
	if (exists && !S_ISREG(st.st_mode)) {
		// A device or pipe must not be replaced by a file
		file->fd = open(name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return file->fd < 0 ? -errno : 0;
	}
	if (exists && access(name, W_OK) < 0) {
		return -errno;
	}
	file->path = exists ? realpath(name, NULL) : strdup(name);
	if (file->path == NULL) {
		return exists ? -errno : -ENOMEM;
	}
	int ret = open_temp(file);
	if (ret < 0) {
		free(file->path);
		file->path = NULL;
	}
	return ret;
}

int cli_open_file(struct out_file *file, const char *name) {
	int ret = out_file_open(file, name);
	return ret == 0 ? EXIT_SUCCESS : cli_fail("cannot open %s: %s", file->name, strerror(-ret));
}

int out_file_write(struct out_file *file, const void *data, size_t len) {
	const char *bytes = data;
	while (len > 0 && file->error == 0) {
		ssize_t n = write(file->fd, bytes, len);
		if (n >= 0) {
			bytes += n;
			len -= (size_t)n;
			file->written += (uint64_t)n;
		} else if (errno != EINTR || atomic_load(&file->give_up) || cli_interrupted > 1) {
			file->error = -errno;
		}
	}
	return file->error;
}

/** Gives a file that has none a name, though not the final one, which may exist. */
static int link_temp(struct out_file *file) {
	char from[sizeof("/proc/self/fd/") + 11];
	snprintf(from, sizeof(from), "/proc/self/fd/%d", file->fd);
	for (int i = 0; i < 100; i++) {
		char *path = make_temp_template(file->path);
		if (path == NULL) {
			return -ENOMEM;
		}
		// mkostemp() only chooses the name here
		int fd = mkostemp(path, O_CLOEXEC);
		if (fd < 0) {
			int ret = -errno;
			free(path);
			return ret;
		}
		close(fd);
		unlink(path);
		if (linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) {
			file->temp_path = path;
			return 0;
		}
		int ret = -errno;
		free(path);
		if (ret != -EEXIST) {
			return ret;
		}
	}
	return -EEXIST;
}

/** The n-th file of this name. NULL without memory. */
static char *make_numbered(const char *path, int n) {
	const char *dot = strrchr(path, '.');
	char *numbered;
	if (n == 1) {
		return strdup(path);
	}
	return asprintf(&numbered, "%.*s-%d%s", (int)(dot - path), path, n, dot) < 0 ? NULL : numbered;
}

/** Has a name be this file's alone, whichever others are made up in the same second. */
static int reserve_path(struct out_file *file) {
	int ret = -EEXIST;
	for (int i = 1; ret == -EEXIST && i <= MAX_SAME; i++) {
		char *path = make_numbered(*file->own_path, i);
		if (path == NULL) {
			return -ENOMEM;
		}
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		ret = fd < 0 ? -errno : 0;
		if (fd >= 0) {
			close(fd);
		}
		free(fd < 0 ? path : file->path);
		file->path = fd < 0 ? file->path : path;
	}
	return ret;
}

static int rename_temp(struct out_file *file) {
	int ret = file->own_path != NULL ? reserve_path(file) : 0;
	if (ret < 0) {
		return ret;
	}
	if (rename(file->temp_path, file->path) < 0) {
		ret = -errno;
		if (file->own_path != NULL) {
			unlink(file->path);
		}
	}
	return ret;
}

static int commit_path(struct out_file *file) {
	// Some file systems tell of a full disk only now
	if (fsync(file->fd) < 0 && errno != EINVAL && errno != ENOTSUP) {
		return -errno;
	}
	if (file->temp_path == NULL) {
		int ret = link_temp(file);
		if (ret < 0) {
			return ret;
		}
	}
	int ret = rename_temp(file);
	if (ret < 0) {
		return ret;
	}
	free(file->temp_path);
	file->temp_path = NULL;
	return 0;
}

int out_file_commit(struct out_file *file) {
	int ret = file->error;
	if (ret == 0 && file->path != NULL) {
		ret = commit_path(file);
	}
	if (file->path == NULL && close(file->fd) < 0 && ret == 0 && errno != EINTR) {
		ret = -errno;
	} else if (file->path != NULL) {
		close(file->fd);
	}
	file->fd = -1;
	if (ret == 0 && file->own_path != NULL && file->path != NULL) {
		char *made_up = *file->own_path;
		*file->own_path = file->path;
		file->path = made_up; // to be freed
	}
	out_file_abort(file);
	return ret;
}

void out_file_abort(struct out_file *file) {
	if (file->temp_path != NULL) {
		unlink(file->temp_path);
	}
	free(file->temp_path);
	free(file->path);
	file->temp_path = file->path = NULL;
	if (file->fd >= 0) {
		close(file->fd);
		file->fd = -1;
	}
}
