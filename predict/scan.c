/*
 * Owns the choice of a scanner, by a file's name and its first bytes. Nothing outlives a
 * call.
 *
 * Threads: any.
 */
#include "predict/scan.h"

#include <string.h>

#include "lib/base/cleanup.h"
#include "predict/scan_internal.h"

#define SCAN_HEAD 512 /* bytes that tell what a file is */

typedef void scanner_fn(struct scan *scan);

static const struct {
	const char *ending;
	scanner_fn *scanner;
} scan_endings[] = {
	{"c", scan_include},   {"h", scan_include},   {"cc", scan_include},
	{"cpp", scan_include}, {"cxx", scan_include}, {"c++", scan_include},
	{"C", scan_include},   {"H", scan_include},   {"hh", scan_include},
	{"hpp", scan_include}, {"hxx", scan_include}, {"h++", scan_include},
	{"ipp", scan_include}, {"ixx", scan_include}, {"inl", scan_include},
	{"inc", scan_include}, {"def", scan_include}, {"tcc", scan_include},
	{"tpp", scan_include}, {"txx", scan_include}, {"cppm", scan_include},
	{"m", scan_include},   {"mm", scan_include},  {"S", scan_include},
	{"sx", scan_include},  {"cu", scan_include},  {"cuh", scan_include},
	{"cl", scan_include},  {"sh", scan_shell},    {"bash", scan_shell},
	{"ksh", scan_shell},   {"pl", scan_perl},     {"pm", scan_perl},
	{"pyc", scan_pyc},     {"py", scan_python},   {"pyw", scan_python},
	{"js", scan_js},       {"mjs", scan_js},      {"cjs", scan_js},
	{"jsx", scan_js},      {"ts", scan_js},       {"mts", scan_js},
	{"cts", scan_js},      {"rs", scan_rust},     {"tsx", scan_js},
	{"so", scan_link},     {"a", scan_link},      {"go", scan_go},
};

/* Whose scripts are read; longer names may follow, as in python3.11. */
static const struct {
	const char *name;
	scanner_fn *scanner;
} scan_interpreters[] = {
	{"sh", scan_shell},  {"bash", scan_shell},    {"dash", scan_shell},
	{"ash", scan_shell}, {"ksh", scan_shell},     {"zsh", scan_shell},
	{"perl", scan_perl}, {"python", scan_python}, {"pypy", scan_python},
	{"node", scan_js},   {"nodejs", scan_js},     {"deno", scan_js},
	{"bun", scan_js},
};

/* The language that a script's interpreter speaks. */
static scanner_fn *scan_of_interpreter(struct slice program)
{
	for (size_t i = 0; i < ARRAY_SIZE(scan_interpreters); i++) {
		size_t len = strlen(scan_interpreters[i].name);

		if (program.len >= len &&
		    memcmp(program.data, scan_interpreters[i].name, len) == 0 &&
		    (program.len == len || !scan_is_letter(program.data[len])))
			return scan_interpreters[i].scanner;
	}
	return NULL;
}

/* Whether a file whose name says nothing is a header, as <vector> is. */
static bool scan_is_header(struct slice head)
{
	static const char *const begins[] = {"//",      "/*",       "#if",
					     "#pragma", "#include", "#define"};

	for (size_t i = 0; i < ARRAY_SIZE(begins); i++) {
		size_t len = strlen(begins[i]);

		if (head.len >= len && memcmp(head.data, begins[i], len) == 0)
			return true;
	}
	return false;
}

static scanner_fn *scan_of_name(struct slice name, struct slice head)
{
	const uint8_t *dot = name.len ? memrchr(name.data, '.', name.len) : NULL;
	struct slice ending;

	if (slice_is(name, "package.json"))
		return scan_package;
	if (!dot)
		return scan_is_header(head) ? scan_include : NULL;
	ending = (struct slice){dot + 1, (size_t)(name.data + name.len - dot - 1)};
	for (size_t i = 0; i < ARRAY_SIZE(scan_endings); i++) {
		if (slice_is(ending, scan_endings[i].ending))
			return scan_endings[i].scanner;
	}
	return NULL;
}

void scan_run(const struct scan_file *file, struct slice name, scan_found_fn *found,
	      void *ctx)
{
	struct scan scan = {.file = file, .name = name, .found = found, .ctx = ctx};
	scanner_fn *scanner = NULL;
	struct slice head = scan_load(&scan, SCAN_HEAD);

	if (head.len >= 4 && memcmp(head.data,
				    "\x7f"
				    "ELF",
				    4) == 0)
		scanner = scan_elf;
	else if (head.len >= 2 && memcmp(head.data, "#!", 2) == 0)
		scanner = scan_of_interpreter(scan_interpreter(&scan));
	if (!scanner)
		scanner = scan_of_name(name, head);
	if (scanner)
		scanner(&scan);
	buf_deinit(&scan.text);
}
