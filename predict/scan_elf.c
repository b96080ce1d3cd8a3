/*
 * Owns nothing: what an ELF program or shared object says of its interpreter and its
 * libraries. Both classes, both byte orders. Each offset and size is the file's word and
 * is only ever handed to scan_read(), which knows the file's end; counts have bounds.
 *
 * Threads: any.
 */
#include <elf.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "predict/scan_internal.h"

#define ELF_HEADERS_MAX 128  /* program headers */
#define ELF_DYNAMIC_MAX 2048 /* entries of the dynamic section */
#define ELF_NEEDED_MAX  512  /* libraries */
#define ELF_STRING      128  /* bytes of a string that are read at first */

struct elf_segment {
	uint64_t offset;
	uint64_t address;
	uint64_t size;
};

struct elf {
	struct scan *scan;
	bool is_64;
	bool is_big;
	struct elf_segment loads[ELF_HEADERS_MAX];
	size_t n_loads;
	struct elf_segment interpreter;
	struct elf_segment dynamic;
	uint64_t needed[ELF_NEEDED_MAX]; /* offsets of strings */
	size_t n_needed;
	uint64_t strings; /* address, then offset */
	uint64_t runpath; /* offset of the string, plus one */
	uint64_t rpath;
};

/* A number of n bytes. */
static uint64_t elf_number(const struct elf *elf, const uint8_t *bytes, size_t n)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++)
		value = value << 8 | bytes[elf->is_big ? i : n - 1 - i];
	return value;
}

/* An address, an offset or a size. */
static uint64_t elf_word(const struct elf *elf, const uint8_t *bytes)
{
	return elf_number(elf, bytes, elf->is_64 ? 8 : 4);
}

static void elf_segment(struct elf *elf, const uint8_t *header)
{
	struct elf_segment segment;
	uint64_t type = elf_number(elf, header, 4);

	if (elf->is_64) {
		segment.offset = elf_word(elf, header + offsetof(Elf64_Phdr, p_offset));
		segment.address = elf_word(elf, header + offsetof(Elf64_Phdr, p_vaddr));
		segment.size = elf_word(elf, header + offsetof(Elf64_Phdr, p_filesz));
	} else {
		segment.offset = elf_word(elf, header + offsetof(Elf32_Phdr, p_offset));
		segment.address = elf_word(elf, header + offsetof(Elf32_Phdr, p_vaddr));
		segment.size = elf_word(elf, header + offsetof(Elf32_Phdr, p_filesz));
	}
	if (type == PT_LOAD && elf->n_loads < ELF_HEADERS_MAX)
		elf->loads[elf->n_loads++] = segment;
	else if (type == PT_INTERP)
		elf->interpreter = segment;
	else if (type == PT_DYNAMIC)
		elf->dynamic = segment;
}

/* The program headers; false where there are none that we understand. */
static bool elf_headers(struct elf *elf, struct slice head)
{
	uint8_t header[sizeof(Elf64_Phdr)];
	size_t header_size = elf->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	uint64_t type;
	uint64_t at;
	uint64_t step;
	uint64_t n;

	if (head.len < (elf->is_64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
		return false;
	type = elf_number(elf, head.data + offsetof(Elf64_Ehdr, e_type), 2);
	if (elf->is_64) {
		at = elf_word(elf, head.data + offsetof(Elf64_Ehdr, e_phoff));
		step = elf_number(elf, head.data + offsetof(Elf64_Ehdr, e_phentsize), 2);
		n = elf_number(elf, head.data + offsetof(Elf64_Ehdr, e_phnum), 2);
	} else {
		at = elf_word(elf, head.data + offsetof(Elf32_Ehdr, e_phoff));
		step = elf_number(elf, head.data + offsetof(Elf32_Ehdr, e_phentsize), 2);
		n = elf_number(elf, head.data + offsetof(Elf32_Ehdr, e_phnum), 2);
	}
	if ((type != ET_EXEC && type != ET_DYN) || step < header_size || at > INT64_MAX)
		return false;
	for (uint64_t i = 0; i < n && i < ELF_HEADERS_MAX; i++) {
		if (scan_read(elf->scan, at + i * step, header, header_size) <
		    header_size)
			break;
		elf_segment(elf, header);
	}
	return true;
}

static void elf_entry(struct elf *elf, uint64_t tag, uint64_t value)
{
	if (value == UINT64_MAX)
		return;
	if ((tag == DT_NEEDED || tag == DT_AUXILIARY || tag == DT_FILTER) &&
	    elf->n_needed < ELF_NEEDED_MAX)
		elf->needed[elf->n_needed++] = value;
	else if (tag == DT_STRTAB)
		elf->strings = value;
	else if (tag == DT_RUNPATH)
		elf->runpath = value + 1;
	else if (tag == DT_RPATH)
		elf->rpath = value + 1;
}

static void elf_dynamic(struct elf *elf)
{
	uint8_t entries[64 * sizeof(Elf64_Dyn)];
	size_t word = elf->is_64 ? 8 : 4;
	size_t size = 2 * word;
	uint64_t n = elf->dynamic.size / size;
	uint64_t at = elf->dynamic.offset;

	if (n > ELF_DYNAMIC_MAX)
		n = ELF_DYNAMIC_MAX;
	while (n > 0 && at <= INT64_MAX) {
		size_t want = n < 64 ? (size_t)n * size : 64 * size;
		size_t got = scan_read(elf->scan, at, entries, want);

		for (size_t i = 0; i + size <= got; i += size) {
			uint64_t tag = elf_word(elf, entries + i);

			if (tag == DT_NULL)
				return;
			elf_entry(elf, tag, elf_word(elf, entries + i + word));
		}
		if (got < want)
			return;
		n -= want / size;
		at += want;
	}
}

/* Where the strings are in the file; false where they are nowhere. */
static bool elf_strings(struct elf *elf)
{
	for (size_t i = 0; i < elf->n_loads; i++) {
		const struct elf_segment *load = &elf->loads[i];

		if (elf->strings >= load->address &&
		    elf->strings - load->address < load->size &&
		    load->offset <= INT64_MAX) {
			elf->strings = elf->strings - load->address + load->offset;
			return true;
		}
	}
	return false;
}

/* The string at an offset of the file, with its NUL, into text; empty where it has no
 * end. */
static struct slice elf_string(struct elf *elf, uint64_t at, char text[SCAN_NAME_MAX + 1])
{
	size_t n = scan_read(elf->scan, at, text, ELF_STRING);
	size_t len = strnlen(text, n);

	if (len == ELF_STRING) {
		n += scan_read(elf->scan, at + n, text + n, SCAN_NAME_MAX + 1 - n);
		len = strnlen(text, n);
	}
	return (struct slice){(const uint8_t *)text, len < n ? len : 0};
}

static void elf_runpaths(struct elf *elf, struct slice list)
{
	while (list.len > 0) {
		const uint8_t *colon = memchr(list.data, ':', list.len);
		size_t len = colon ? (size_t)(colon - list.data) : list.len;

		if (!scan_tell(elf->scan, SCAN_RUNPATH, (struct slice){list.data, len}))
			return;
		len += colon != NULL;
		list.data += len;
		list.len -= len;
	}
}

void scan_elf(struct scan *scan)
{
	struct slice head = scan_load(scan, sizeof(Elf64_Ehdr));
	struct elf elf = {.scan = scan};
	char text[SCAN_NAME_MAX + 1];
	uint64_t path;

	if (head.len < EI_NIDENT)
		return;
	elf.is_64 = head.data[EI_CLASS] == ELFCLASS64;
	elf.is_big = head.data[EI_DATA] == ELFDATA2MSB;
	if (!elf_headers(&elf, head))
		return;
	if (elf.interpreter.size)
		scan_tell(scan, SCAN_INTERPRETER,
			  elf_string(&elf, elf.interpreter.offset, text));
	elf_dynamic(&elf);
	if (!elf_strings(&elf))
		return;
	path = elf.runpath ? elf.runpath : elf.rpath; /* the newer one hides the older */
	if (path)
		elf_runpaths(&elf, elf_string(&elf, elf.strings + path - 1, text));
	for (size_t i = 0; i < elf.n_needed; i++)
		scan_tell(scan, SCAN_LIBRARY,
			  elf_string(&elf, elf.strings + elf.needed[i], text));
}
