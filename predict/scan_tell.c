/*
 * Owns the bounds of a scan: what a scanner reads and what it yields goes through here.
 *
 * Threads: one at a time.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define SCAN_PIECE ((size_t)64 << 10) /* that memory grows by, whatever size is said */

bool scan_tell(struct scan *scan, enum scan_kind kind, struct slice text)
{
	if (scan->n_found == SCAN_FOUND_MAX)
		return false;
	if (text.len == 0 || text.len > SCAN_NAME_MAX || memchr(text.data, 0, text.len))
		return true;
	scan->n_found++;
	scan->found(scan->ctx, kind, text);
	return true;
}

bool scan_tell_string(struct scan *scan, enum scan_kind kind, const char *text)
{
	return scan_tell(scan, kind, slice_of(text));
}

bool scan_tell_member(struct scan *scan, struct buf *module, struct slice name)
{
	size_t len = module->len;
	bool is_going_on;

	if (name.len == 0 || name.len > SCAN_NAME_MAX || len == 0 || slice_is(name, "*"))
		return true;
	if (module->data[len - 1] != '.')
		buf_add_byte(module, '.');
	buf_add(module, name.data, name.len);
	is_going_on = scan_tell(scan, SCAN_MODULE, buf_slice(module));
	module->len = len;
	module->data[len] = '\0';
	return is_going_on;
}

size_t scan_read(struct scan *scan, uint64_t at, void *buf, size_t len)
{
	uint64_t size = scan->file->size > 0 ? (uint64_t)scan->file->size : 0;

	if (at >= size || len == 0)
		return 0;
	if (len > size - at)
		len = (size_t)(size - at);
	if (len > SCAN_READ_MAX - scan->n_read)
		len = SCAN_READ_MAX - scan->n_read;
	scan->n_read += len;
	return len ? scan->file->read(scan->file->ctx, (int64_t)at, buf, len) : 0;
}

struct slice scan_load(struct scan *scan, size_t len)
{
	while (scan->text.len < len && !scan->is_short) {
		size_t want = len - scan->text.len;
		size_t n;

		want = want < SCAN_PIECE ? want : SCAN_PIECE;
		buf_reserve(&scan->text, want);
		n = scan_read(scan, scan->text.len, scan->text.data + scan->text.len,
			      want);
		scan->text.len += n;
		scan->text.data[scan->text.len] = '\0';
		scan->is_short = n < want;
	}
	return (struct slice){scan->text.data,
			      scan->text.len < len ? scan->text.len : len};
}
