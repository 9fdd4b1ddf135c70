/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_file.h"

#if __SIZEOF_POINTER__ == 8
#define OUR_CLASS ELFCLASS64
#else
#define OUR_CLASS ELFCLASS32
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

/** NULL if the file is not as long. Nothing in the file is trusted. */
static const void *at(const struct elf_file *file, size_t offset, size_t size) {
	return offset <= file->size && size <= file->size - offset ? file->data + offset : NULL;
}

static const ElfW(Phdr) *get_segment(const struct elf_file *file, size_t i) {
	const ElfW(Ehdr) *header = at(file, 0, sizeof(*header));
	if (i >= header->e_phnum || header->e_phentsize != sizeof(ElfW(Phdr))) {
		return NULL;
	}
	return at(file, header->e_phoff + i * sizeof(ElfW(Phdr)), sizeof(ElfW(Phdr)));
}

/** Where an address of the program is in the file, 0 if nowhere. */
static size_t find_address(const struct elf_file *file, ElfW(Addr) address) {
	const ElfW(Phdr) *segment;
	for (size_t i = 0; (segment = get_segment(file, i)) != NULL; i++) {
		if (segment->p_type == PT_LOAD && address >= segment->p_vaddr &&
				address - segment->p_vaddr < segment->p_filesz) {
			return segment->p_offset + (address - segment->p_vaddr);
		}
	}
	return 0;
}

static const ElfW(Dyn) *get_entry(const struct elf_file *file, size_t i) {
	if (i >= file->dynamic_len) {
		return NULL;
	}
	const ElfW(Dyn) *entry = at(file, file->dynamic + i * sizeof(*entry), sizeof(*entry));
	return entry != NULL && entry->d_tag != DT_NULL ? entry : NULL;
}

/** NULL if it is outside of the table or does not end. */
static const char *get_string(const struct elf_file *file, size_t offset) {
	if (offset >= file->strings_len) {
		return NULL;
	}
	const char *string = at(file, file->strings + offset, file->strings_len - offset);
	return string != NULL && memchr(string, '\0', file->strings_len - offset) != NULL ?
		string : NULL;
}

static void read_dynamic(struct elf_file *file) {
	const ElfW(Dyn) *entry;
	for (size_t i = 0; (entry = get_entry(file, i)) != NULL; i++) {
		size_t where = find_address(file, entry->d_un.d_ptr);
		const uint32_t *words = where != 0 ? at(file, where, 2 * sizeof(*words)) : NULL;
		switch (entry->d_tag) {
		case DT_STRTAB:
			file->strings = where;
			break;
		case DT_STRSZ:
			file->strings_len = entry->d_un.d_val;
			break;
		case DT_SYMTAB:
			file->symbols = where;
			break;
		case DT_GNU_HASH:
			// Undefined symbols are not in the hash table, and come before
			file->symbols_len = words != NULL ? words[1] : 0;
			break;
		case DT_HASH:
			if (file->symbols_len == 0 && words != NULL) {
				file->symbols_len = words[1];
			}
			break;
		}
	}
}

static int read_file(struct elf_file *file) {
	const ElfW(Ehdr) *header = at(file, 0, sizeof(*header));
	if (header == NULL || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
			header->e_ident[EI_CLASS] != OUR_CLASS || header->e_ident[EI_DATA] != OUR_DATA ||
			(header->e_type != ET_EXEC && header->e_type != ET_DYN)) {
		return -ENOEXEC;
	}
	const ElfW(Phdr) *segment;
	for (size_t i = 0; (segment = get_segment(file, i)) != NULL; i++) {
		if (segment->p_type == PT_INTERP) {
			file->is_dynamic = true;
		} else if (segment->p_type == PT_DYNAMIC) {
			file->dynamic = segment->p_offset;
			file->dynamic_len = segment->p_filesz / sizeof(ElfW(Dyn));
		}
	}
	read_dynamic(file);
	return 0;
}

int elf_file_init(struct elf_file *file, const char *path) {
	*file = (struct elf_file){ 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	struct stat stat;
	if (fstat(fd, &stat) != 0 || stat.st_size <= 0) {
		close(fd);
		return -ENOEXEC;
	}
	void *data = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	int ret = data == MAP_FAILED ? -errno : 0;
	close(fd);
	if (ret < 0) {
		return ret;
	}
	file->data = data;
	file->size = (size_t)stat.st_size;
	ret = read_file(file);
	if (ret < 0) {
		elf_file_finish(file);
	}
	return ret;
}

void elf_file_finish(struct elf_file *file) {
	if (file->data != NULL) {
		munmap((void *)file->data, file->size);
		file->data = NULL;
	}
}

const char *elf_file_next_needed(const struct elf_file *file, const char *prefix,
		size_t *cursor) {
	const ElfW(Dyn) *entry;
	while ((entry = get_entry(file, *cursor)) != NULL) {
		(*cursor)++;
		const char *name = entry->d_tag == DT_NEEDED ? get_string(file, entry->d_un.d_val) : NULL;
		if (name != NULL && strncmp(name, prefix, strlen(prefix)) == 0) {
			return name;
		}
	}
	return NULL;
}

bool elf_file_imports(const struct elf_file *file, const char *name) {
	for (size_t i = 0; file->symbols != 0 && i < file->symbols_len; i++) {
		const ElfW(Sym) *symbol =
			at(file, file->symbols + i * sizeof(*symbol), sizeof(*symbol));
		if (symbol == NULL) {
			return false;
		}
		const char *symbol_name =
			symbol->st_shndx == SHN_UNDEF ? get_string(file, symbol->st_name) : NULL;
		if (symbol_name != NULL && strcmp(symbol_name, name) == 0) {
			return true;
		}
	}
	return false;
}
