/* Files in memory for scanners; see scan_fixture.h. No threads. */
#include "tests/unit/scan_fixture.h"

#include <elf.h>
#include <string.h>

#include "lib/base/alloc.h"

static const char *const scanned_kinds[] = {
	[SCAN_QUOTED] = "quoted",   [SCAN_ANGLED] = "angled",
	[SCAN_NEXT] = "next",       [SCAN_INTERPRETER] = "interpreter",
	[SCAN_PROGRAM] = "program", [SCAN_RUNPATH] = "runpath",
	[SCAN_LIBRARY] = "library", [SCAN_MODULE] = "module",
	[SCAN_BESIDE] = "beside",   [SCAN_PATH] = "path",
	[SCAN_PERL] = "perl",       [SCAN_PACKAGE] = "package",
	[SCAN_GO] = "go",
};

void scanned_deinit(struct scanned *scanned)
{
	buf_deinit(&scanned->found);
}

static size_t scanned_read(void *ctx, int64_t at, void *buf, size_t len)
{
	struct scanned *scanned = ctx;
	size_t end = scanned->bytes.len;
	size_t from = (size_t)at;

	assert_true(at >= 0 && len > 0);
	if (scanned->fails_at && scanned->fails_at < end)
		end = scanned->fails_at;
	if (from >= end)
		return 0;
	len = len < end - from ? len : end - from;
	memcpy(buf, scanned->bytes.data + from, len);
	scanned->n_read += len;
	return len;
}

static void scanned_found(void *ctx, enum scan_kind kind, struct slice text)
{
	struct scanned *scanned = ctx;

	assert_true(text.len > 0 && text.len <= SCAN_NAME_MAX);
	assert_null(memchr(text.data, 0, text.len));
	if (scanned->found.len)
		buf_add_byte(&scanned->found, ' ');
	buf_printf(&scanned->found, "%s:%.*s", scanned_kinds[kind], (int)text.len,
		   (const char *)text.data);
	scanned->n_found++;
}

void scanned_run(struct scanned *scanned, struct slice bytes, const char *name)
{
	_cleanup_free_ uint8_t *copy = alloc_memdup(bytes.data, bytes.len);
	struct scan_file file = {(int64_t)bytes.len, scanned_read, scanned};

	scanned->bytes = (struct slice){copy, bytes.len};
	scanned->n_read = 0;
	scanned->n_found = 0;
	buf_clear(&scanned->found);
	scan_run(&file, slice_of(name), scanned_found, scanned);
	assert_true(scanned->n_found <= SCAN_FOUND_MAX);
	assert_true(scanned->n_read <= SCAN_READ_MAX);
}

void scanned_expect(const char *text, const char *name, const char *want)
{
	_cleanup_scanned_ struct scanned scanned = {0};

	scanned_run(&scanned, slice_of(text), name);
	if (strcmp(buf_string(&scanned.found), want) != 0)
		print_message("in %s:\n%s\n", name, text);
	assert_string_equal(buf_string(&scanned.found), want);
}

static void scanned_number(struct buf *out, uint64_t value, size_t n, bool is_big)
{
	for (size_t i = 0; i < n; i++)
		buf_add_byte(out, (uint8_t)(value >> 8 * (is_big ? n - 1 - i : i)));
}

#define ELF_BASE 0x400000 /* where the file is in memory */

void scanned_elf(struct buf *out, bool is_64, bool is_big)
{
	static const char strings[] = "\0libx.so.1\0liby.so\0/a:$ORIGIN/b\0/lib/ld.so";
	static const uint64_t dynamic[][2] = {{DT_NEEDED, 1},   {DT_NEEDED, 11},
					      {DT_RUNPATH, 19}, {DT_RPATH, 1},
					      {DT_STRTAB, 0},   {DT_NULL, 0}};
	size_t w = is_64 ? 8 : 4;
	size_t header = is_64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	size_t program = is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	size_t at_strings = header + 3 * program;
	size_t at_dynamic = at_strings + sizeof(strings);
	size_t total = at_dynamic + ARRAY_SIZE(dynamic) * 2 * w;
	const uint64_t segments[][3] = {{PT_LOAD, 0, total},
					{PT_INTERP, at_strings + 32, 11},
					{PT_DYNAMIC, at_dynamic, total - at_dynamic}};
	const uint8_t ident[EI_NIDENT] = {0x7f,
					  'E',
					  'L',
					  'F',
					  is_64 ? ELFCLASS64 : ELFCLASS32,
					  is_big ? ELFDATA2MSB : ELFDATA2LSB,
					  EV_CURRENT};
	const uint64_t rest[] = {header, program, ARRAY_SIZE(segments), 0, 0, 0};

	buf_add(out, ident, sizeof(ident));
	scanned_number(out, ET_DYN, 2, is_big);
	scanned_number(out, EM_NONE, 2, is_big);
	scanned_number(out, EV_CURRENT, 4, is_big);
	scanned_number(out, 0, w, is_big);
	scanned_number(out, header, w, is_big);
	scanned_number(out, 0, w, is_big);
	scanned_number(out, 0, 4, is_big);
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		scanned_number(out, rest[i], 2, is_big);
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		scanned_number(out, segments[i][0], 4, is_big);
		if (is_64)
			scanned_number(out, PF_R, 4, is_big);
		scanned_number(out, segments[i][1], w, is_big);
		scanned_number(out, segments[i][1] + ELF_BASE, w, is_big);
		scanned_number(out, segments[i][1] + ELF_BASE, w, is_big);
		scanned_number(out, segments[i][2], w, is_big);
		scanned_number(out, segments[i][2], w, is_big);
		if (!is_64)
			scanned_number(out, PF_R, 4, is_big);
		scanned_number(out, 1, w, is_big);
	}
	buf_add(out, strings, sizeof(strings));
	for (size_t i = 0; i < ARRAY_SIZE(dynamic); i++) {
		uint64_t value = dynamic[i][1];

		if (dynamic[i][0] == DT_STRTAB)
			value = at_strings + ELF_BASE;
		scanned_number(out, dynamic[i][0], w, is_big);
		scanned_number(out, value, w, is_big);
	}
}
