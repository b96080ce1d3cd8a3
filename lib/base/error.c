/*
 * Owns the representation of struct error. No thread state: an error is one thread's.
 * An error always has a code that is not OK and a text that is not NULL.
 */
#include "lib/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"

#define ERROR_CUT "…"

struct error_at {
	const char *file;
	int line;
};

struct error {
	enum error_code code;
	int errnum;
	char *text;
	char *call;  /* NULL: it came from none */
	char *trace; /* made on demand */
	struct error_at at[ERROR_AT_MAX];
	unsigned int n_at;
	char **missing;
	size_t n_missing;
	size_t missing_cap;
	int64_t retry_delay_ms;
	bool is_unreachable;
};

static void error_note_place(struct error *err, const char *file, int line)
{
	if (err->n_at < ERROR_AT_MAX)
		err->at[err->n_at++] = (struct error_at){file, line};
}

/* Cut, since it goes to others in one message: what was named may be as long as a
 * request.
 */
static char *error_cut(char *text)
{
	size_t len = strnlen(text, ERROR_TEXT_MAX + 1);

	if (len <= ERROR_TEXT_MAX)
		return text;
	len = ERROR_TEXT_MAX - strlen(ERROR_CUT);
	while (len && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--; /* not within a character */
	memcpy(text + len, ERROR_CUT, sizeof(ERROR_CUT));
	return text;
}

static struct error *error_make(const char *file, int line, enum error_code code,
				char *text)
{
	struct error *err = alloc_new(struct error);

	require(code != ERROR_OK);
	err->code = code;
	err->text = error_cut(text);
	err->retry_delay_ms = -1;
	error_note_place(err, file, line);
	return err;
}

struct error *error_new_at(const char *file, int line, enum error_code code,
			   const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	text = alloc_vprintf(format, ap);
	va_end(ap);
	return error_make(file, line, code, text);
}

static enum error_code error_code_of_errno(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return ERROR_RESOURCE_EXHAUSTED;
	case ENOENT:
		return ERROR_NOT_FOUND;
	case EEXIST:
		return ERROR_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERROR_PERMISSION_DENIED;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERROR_UNIMPLEMENTED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
		return ERROR_UNAVAILABLE;
	case ETIMEDOUT:
		return ERROR_DEADLINE_EXCEEDED;
	case EINTR:
	case ECANCELED:
		return ERROR_CANCELLED;
	default:
		return ERROR_INTERNAL;
	}
}

struct error *error_errno_at(const char *file, int line, int errnum, const char *format,
			     ...)
{
	_cleanup_free_ char *text = NULL;
	struct error *err;
	va_list ap;

	va_start(ap, format);
	text = alloc_vprintf(format, ap);
	va_end(ap);
	err = error_make(file, line, error_code_of_errno(errnum),
			 alloc_printf("%s: %s", text, strerror(errnum)));
	err->errnum = errnum;
	return err;
}

struct error *error_wrap_at(const char *file, int line, struct error *err,
			    const char *format, ...)
{
	_cleanup_free_ char *prefix = NULL;
	char *text;
	va_list ap;

	if (!err)
		return NULL;
	va_start(ap, format);
	prefix = alloc_vprintf(format, ap);
	va_end(ap);
	text = alloc_printf("%s: %s", prefix, err->text);
	free(err->text);
	err->text = error_cut(text);
	error_note_place(err, file, line);
	return err;
}

struct error *error_recode(struct error *err, enum error_code code)
{
	require(code != ERROR_OK);
	if (err)
		err->code = code;
	return err;
}

struct error *error_dup(const struct error *err)
{
	struct error *copy;

	if (!err)
		return NULL;
	copy = alloc_memdup(err, sizeof(*err));
	copy->text = alloc_string(err->text);
	copy->call = err->call ? alloc_string(err->call) : NULL;
	copy->trace = NULL;
	copy->missing = alloc_array(err->n_missing, sizeof(char *));
	copy->missing_cap = err->n_missing;
	for (size_t i = 0; i < err->n_missing; i++)
		copy->missing[i] = alloc_string(err->missing[i]);
	return copy;
}

void *error_free(struct error *err)
{
	if (!err)
		return NULL;
	for (size_t i = 0; i < err->n_missing; i++)
		free(err->missing[i]);
	free(err->missing);
	free(err->text);
	free(err->call);
	free(err->trace);
	free(err);
	return NULL;
}

enum error_code error_code(const struct error *err)
{
	return err ? err->code : ERROR_OK;
}

int error_errnum(const struct error *err)
{
	return err ? err->errnum : 0;
}

const char *error_text(const struct error *err)
{
	return err ? err->text : "";
}

const char *error_code_name(enum error_code code)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	return (size_t)code < ARRAY_SIZE(names) ? names[code] : "UNKNOWN";
}

const char *error_trace(const struct error *err)
{
	struct error *mut = (struct error *)(uintptr_t)err;
	size_t len = 0;
	char text[ERROR_AT_MAX * 64];

	if (!err)
		return "";
	if (mut->trace)
		return mut->trace;
	text[0] = '\0';
	for (unsigned int i = 0; i < err->n_at && len < sizeof(text) - 1; i++) {
		int n = snprintf(text + len, sizeof(text) - len, "%s%s:%d",
				 i ? " < " : "", err->at[i].file, err->at[i].line);

		len += n > 0 ? (size_t)n : 0;
	}
	mut->trace = alloc_printf("%s%s%s", text, err->call ? ", of " : "",
				  err->call ? err->call : "");
	return mut->trace;
}

void error_set_call(struct error *err, const char *format, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, format);
	free(err->call);
	err->call = alloc_vprintf(format, ap);
	va_end(ap);
	free(take(err->trace));
}

void error_add_missing(struct error *err, const char *subject)
{
	if (err->n_missing >= ERROR_MISSING_MAX)
		return;
	err->missing = alloc_grow(err->missing, &err->missing_cap, err->n_missing + 1,
				  sizeof(char *));
	err->missing[err->n_missing++] = alloc_string(subject);
}

size_t error_n_missing(const struct error *err)
{
	return err ? err->n_missing : 0;
}

const char *error_missing(const struct error *err, size_t i)
{
	require(i < err->n_missing);
	return err->missing[i];
}

void error_set_unreachable(struct error *err)
{
	err->is_unreachable = true;
}

bool error_is_unreachable(const struct error *err)
{
	return err && err->is_unreachable;
}

void error_set_retry_delay_ms(struct error *err, int64_t delay_ms)
{
	err->retry_delay_ms = delay_ms;
}

int64_t error_retry_delay_ms(const struct error *err)
{
	return err ? err->retry_delay_ms : -1;
}
