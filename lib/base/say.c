/* Owns nothing but what stdio buffers: stdout's lines until say_end(). */
#include "lib/base/say.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/text.h"

static atomic_int say_errnum; /* of the first write to stdout that failed */

static _Atomic(void (*)(void)) say_before;

void say_set_before(void (*before)(void))
{
	atomic_store(&say_before, before);
}

static void say_note_failure(bool has_failed)
{
	int none = 0;

	if (has_failed)
		(void)atomic_compare_exchange_strong(&say_errnum, &none,
						     errno ? errno : EIO);
}

static void say_format(struct buf *out, bool keeps_end, const char *format, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void say_format(struct buf *out, bool keeps_end, const char *format, va_list ap)
{
	_cleanup_free_ char *text = alloc_vprintf(format, ap);
	size_t len = strlen(text);
	bool has_end = keeps_end && len && text[len - 1] == '\n';

	text_escape((struct slice){(const uint8_t *)text, len - has_end}, out);
	if (has_end || !keeps_end)
		buf_add_byte(out, '\n');
}

static void say_line(const struct buf *line)
{
	void (*before)(void) = atomic_load(&say_before);

	if (before)
		before();
	(void)fwrite(line->data, 1, line->len, stderr); /* nowhere is left to say more */
}

void say(const char *format, ...)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	va_list ap;

	va_start(ap, format);
	say_format(&line, false, format, ap);
	va_end(ap);
	say_line(&line);
}

void say_escaped(const char *who, const char *text)
{
	_cleanup_buf_ struct buf line = BUF_INIT;

	buf_printf(&line, "%s: ", who);
	text_escape_again(slice_of(text), &line);
	buf_add_byte(&line, '\n');
	say_line(&line);
}

bool say_few(struct say_few *few)
{
	return ++few->n <= SAY_FEW_MAX;
}

void say_rest(const struct say_few *few, const char *of_what)
{
	if (few->n > SAY_FEW_MAX)
		say("lazyroot: %zu %s more", few->n - SAY_FEW_MAX, of_what);
}

void say_out(const char *format, ...)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	va_list ap;

	va_start(ap, format);
	say_format(&line, true, format, ap);
	va_end(ap);
	say_raw(buf_string(&line));
}

void say_bytes(struct slice bytes)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	text_escape(bytes, &text);
	say_raw(buf_string(&text));
}

void say_raw(const char *text)
{
	errno = 0;
	say_note_failure(fputs(text, stdout) < 0);
}

void say_flush(void)
{
	errno = 0;
	say_note_failure(fflush(stdout) != 0);
}

bool say_end(const char *who)
{
	int errnum;

	say_flush();
	errnum = atomic_load(&say_errnum);
	if (!errnum || errnum == EPIPE)
		return true;
	say("%s: cannot write to standard output: %s", who,
	    errnum == EBADF ? "it is closed" : strerror(errnum));
	return false;
}
