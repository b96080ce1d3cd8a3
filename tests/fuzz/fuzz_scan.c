/*
 * Fuzzes all scanners: an input's first byte chooses the name that a file goes by, the
 * rest is the file. Whatever it holds, what is read and told stays within its bounds.
 */
#include "predict/scan.h"
#include "tests/fuzz/fuzz.h"

static const char *const fuzz_names[] = {"x",    "x.c",          "x.so", "x.sh",
					 "x.pm", "x.py",         "x.js", "x.pyc",
					 "x.S",  "package.json", "x.rs", "x.go"};

struct fuzz_file {
	struct slice bytes;
	size_t n_read;
	size_t n_found;
};

static size_t fuzz_read(void *ctx, int64_t at, void *buf, size_t len)
{
	struct fuzz_file *file = ctx;

	require(at >= 0 && (size_t)at < file->bytes.len);
	require(len > 0 && len <= file->bytes.len - (size_t)at);
	memcpy(buf, file->bytes.data + at, len);
	file->n_read += len;
	return len;
}

static void fuzz_found(void *ctx, enum scan_kind kind, struct slice text)
{
	struct fuzz_file *file = ctx;

	require(kind <= SCAN_GO);
	require(text.len > 0 && text.len <= SCAN_NAME_MAX &&
		!memchr(text.data, 0, text.len));
	file->n_found++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_file ctx = {.bytes = {data + 1, size - 1}};
	struct scan_file file = {(int64_t)(size - 1), fuzz_read, &ctx};

	if (size == 0)
		return 0;
	scan_run(&file,
		 slice_of(fuzz_names[(uint8_t)(data[0] - '0') % ARRAY_SIZE(fuzz_names)]),
		 fuzz_found, &ctx);
	require(ctx.n_read <= SCAN_READ_MAX);
	require(ctx.n_found <= SCAN_FOUND_MAX);
	return 0;
}
