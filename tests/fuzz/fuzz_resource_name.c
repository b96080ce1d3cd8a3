/*
 * Fuzzes ByteStream's resource names: the parts of an accepted one are views of it, and
 * put together they name the same. The same of names of log streams.
 */
#include "server/logstreams.h"
#include "server/resource_name.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void fuzz_log_name(const char *text)
{
	_cleanup_buf_ struct buf again = BUF_INIT;
	struct logstreams_name name;

	if (!logstreams_parse(text, &name))
		return;
	buf_add(&again, name.instance.data, name.instance.len);
	if (again.len || text[0] == '/')
		buf_add_byte(&again, '/');
	buf_add_string(&again, "logstreams/");
	buf_add(&again, name.id.data, name.id.len);
	if (name.token.len)
		buf_add_byte(&again, '/');
	buf_add(&again, name.token.data, name.token.len);
	require(strcmp(buf_string(&again), text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = fuzz_text((struct slice){data, size});
	_cleanup_error_ struct error *err = NULL;
	_cleanup_buf_ struct buf again = BUF_INIT;
	struct resource_name name;
	struct resource_name parsed;
	char digest[DIGEST_STRING_MAX];

	fuzz_log_name(text);
	err = resource_name_parse(text, &name);
	if (err)
		return 0;
	fuzz_require_within(name.instance, slice_of(text));
	buf_add(&again, name.instance.data, name.instance.len);
	if (again.len)
		buf_add_byte(&again, '/');
	if (name.is_upload) {
		fuzz_require_within(name.uuid, slice_of(text));
		buf_add_string(&again, "uploads/");
		buf_add(&again, name.uuid.data, name.uuid.len);
		buf_add_byte(&again, '/');
	}
	buf_printf(&again, "%s/%s", name.is_zstd ? "compressed-blobs/zstd" : "blobs",
		   digest_format(&name.digest, digest));
	require(!resource_name_parse(buf_string(&again), &parsed));
	require(digest_equal(&parsed.digest, &name.digest));
	require(parsed.is_upload == name.is_upload);
	require(parsed.is_zstd == name.is_zstd);
	require(slice_equal(parsed.instance, name.instance));
	require(slice_equal(parsed.uuid, name.uuid));
	return 0;
}
