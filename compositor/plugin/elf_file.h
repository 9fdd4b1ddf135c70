/* SPDX-License-Identifier: MIT */
#ifndef PLUGIN_ELF_FILE_H
#define PLUGIN_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>

/**
 * What the dynamic linker would read of a program, as far as it tells whether
 * the plugin can be loaded into it. Made for this machine's own class and byte
 * order.
 */
struct elf_file {
	const unsigned char *data; // mapped
	size_t size;
	bool is_dynamic;
	size_t strings, strings_len; // offset in the file and length of DT_STRTAB
	size_t symbols; // offset in the file of DT_SYMTAB, 0 if there is none
	size_t symbols_len; // number of those that may be undefined
	size_t dynamic, dynamic_len; // offset in the file, and number of entries
};

/** Returns 0, -ENOEXEC if it is no program of this machine, or another errno. */
int elf_file_init(struct elf_file *file, const char *path);
void elf_file_finish(struct elf_file *file);

/**
 * The next library (DT_NEEDED) whose name starts with `prefix`. `cursor` is 0 for
 * the first. NULL if there are no more. Valid until elf_file_finish().
 */
const char *elf_file_next_needed(const struct elf_file *file, const char *prefix,
	size_t *cursor);

/** Whether the program takes a symbol from a library. */
bool elf_file_imports(const struct elf_file *file, const char *name);

#endif
