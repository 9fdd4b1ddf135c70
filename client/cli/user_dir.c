/* SPDX-License-Identifier: MIT */
/* Files without a name get one, where people keep such files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "file.h"

static const char *get_home(void) {
	const char *home = getenv("HOME");
	return home != NULL && home[0] == '/' ? home : NULL;
}

/**
 * The value of a line of user-dirs.dirs, as xdg-user-dirs writes it: KEY="$HOME/Pictures" or
 * KEY="/place", in which a backslash goes before what a shell would obey. NULL if it is
 * another line, or without memory.
 */
static char *parse_line(const char *line, const char *key) {
	line += strspn(line, " \t");
	size_t len = strlen(key);
	if (strncmp(line, key, len) != 0 || line[len] != '=' || line[len + 1] != '"') {
		return NULL;
	}
	line += len + 2;
	const char *home = "";
	if (strncmp(line, "$HOME", 5) == 0 && (line[5] == '/' || line[5] == '"')) {
		home = get_home();
		line += 5;
	} else if (line[0] != '/') {
		return NULL;
	}
	char *path = home != NULL ? malloc(strlen(home) + strlen(line) + 1) : NULL;
	if (path == NULL) {
		return NULL;
	}
	char *end = stpcpy(path, home);
	while (*line != '"' && *line != '\0') {
		line += *line == '\\' && line[1] != '\0';
		*end++ = *line++;
	}
	*end = '\0';
	if (*line != '"') {
		free(path);
		return NULL;
	}
	return path;
}

/** What the last such line of the file says. NULL if there is none. */
static char *read_user_dirs(const char *key) {
	const char *config = getenv("XDG_CONFIG_HOME"), *home = get_home();
	char *name = NULL;
	int len = config != NULL && config[0] == '/' ? asprintf(&name, "%s/user-dirs.dirs", config) :
		home != NULL ? asprintf(&name, "%s/.config/user-dirs.dirs", home) : -1;
	FILE *file = len >= 0 ? fopen(name, "re") : NULL;
	if (len >= 0) {
		free(name);
	}
	if (file == NULL) {
		return NULL;
	}
	char *path = NULL, *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, file) >= 0) {
		char *found = parse_line(line, key);
		if (found != NULL) {
			free(path);
			path = found;
		}
	}
	free(line);
	fclose(file);
	return path;
}

/** The directory to be freed. NULL if the user has none, or without memory. */
static char *find_directory(const char *key) {
	const char *directory = getenv(key);
	if (directory != NULL && directory[0] == '/') {
		return strdup(directory);
	}
	char *found = read_user_dirs(key);
	const char *home = get_home();
	return found != NULL ? found : home != NULL ? strdup(home) : NULL;
}

int cli_open_own_file(struct out_file *file, const char *key, const char *ending, char **path) {
	*path = NULL;
	char *directory = find_directory(key);
	if (directory == NULL) {
		return cli_fail("there is no place for the file: neither %s nor HOME is set", key);
	}
	char when[64];
	time_t now = time(NULL);
	struct tm local;
	if (localtime_r(&now, &local) == NULL ||
			strftime(when, sizeof(when), "%Y%m%d_%Hh%Mm%Ss", &local) == 0) {
		snprintf(when, sizeof(when), "%lld", (long long)now);
	}
	int len = asprintf(path, "%s/%s_vitrine.%s", directory, when, ending);
	free(directory);
	if (len < 0) {
		*path = NULL;
		return cli_fail("out of memory");
	}
	int status = cli_open_file(file, *path);
	file->own_path = path;
	return status;
}
