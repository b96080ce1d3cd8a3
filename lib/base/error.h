/*
 * Errors as values: a fallible function returns struct error *, NULL being success. The
 * code is a google.rpc.Code, so an error crosses the wire unchanged and becomes an errno
 * only in fuse/reply. An answer ("not in the store") is an outcome, never an error; a bug
 * is require(). An error is logged once, where it is dropped.
 *
 * Threads: a struct error belongs to one thread at a time; hand out copies with
 * error_dup().
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"

/* Numbers of google.rpc.Code, which are those of gRPC's status codes. */
enum error_code {
	ERROR_OK = 0,
	ERROR_CANCELLED = 1,
	ERROR_UNKNOWN = 2,
	ERROR_INVALID_ARGUMENT = 3,
	ERROR_DEADLINE_EXCEEDED = 4,
	ERROR_NOT_FOUND = 5,
	ERROR_ALREADY_EXISTS = 6,
	ERROR_PERMISSION_DENIED = 7,
	ERROR_RESOURCE_EXHAUSTED = 8,
	ERROR_FAILED_PRECONDITION = 9,
	ERROR_ABORTED = 10,
	ERROR_OUT_OF_RANGE = 11,
	ERROR_UNIMPLEMENTED = 12,
	ERROR_INTERNAL = 13,
	ERROR_UNAVAILABLE = 14,
	ERROR_DATA_LOSS = 15,
	ERROR_UNAUTHENTICATED = 16,
};

#define ERROR_AT_MAX      8    /* places kept: where it began, then the first wraps */
#define ERROR_TEXT_MAX    8192 /* bytes of a text; the rest is cut off */
#define ERROR_MISSING_MAX 1000 /* missing blobs kept; more are counted, not named */

struct error;

/* code is never ERROR_OK. */
struct error *error_new_at(const char *file, int line, enum error_code code,
			   const char *format, ...)
	__attribute__((format(printf, 4, 5), returns_nonnull));
#define error_new(code, ...) error_new_at(__FILE__, __LINE__, (code), __VA_ARGS__)

/*
 * From errno: the code is what the errno means to a peer (ENOSPC, EDQUOT:
 * RESOURCE_EXHAUSTED; ENOENT: NOT_FOUND; EACCES, EPERM: PERMISSION_DENIED; else
 * INTERNAL), and ": strerror" is added to the text.
 */
struct error *error_errno_at(const char *file, int line, int errnum, const char *format,
			     ...) __attribute__((format(printf, 4, 5), returns_nonnull));
#define error_errno(errnum, ...) error_errno_at(__FILE__, __LINE__, (errnum), __VA_ARGS__)

/* Consumes err and puts "text: " before its text. NULL stays NULL. */
struct error *error_wrap_at(const char *file, int line, struct error *err,
			    const char *format, ...)
	__attribute__((format(printf, 4, 5)));
#define error_wrap(err, ...) error_wrap_at(__FILE__, __LINE__, (err), __VA_ARGS__)

/* Consumes err and gives it another code. NULL stays NULL. */
struct error *error_recode(struct error *err, enum error_code code);

struct error *error_dup(const struct error *err);
void *error_free(struct error *err);

static inline void error_freep(struct error **err)
{
	error_free(*err);
}
#define _cleanup_error_ _cleanup_(error_freep)

enum error_code error_code(const struct error *err); /* NULL: ERROR_OK */
int error_errnum(const struct error *err);           /* 0 where none is known */
const char *error_text(const struct error *err);     /* NULL: "" */
const char *error_code_name(enum error_code code);   /* "NOT_FOUND" */

/* Which call ended with it ("SERVICE/METHOD at ADDRESS"): for the trace only. */
void error_set_call(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* "file:line < file:line, of CALL", for the log at debug level; valid until the error
 * ends. */
const char *error_trace(const struct error *err);

/*
 * Missing blobs, as google.rpc.PreconditionFailure's subjects have them
 * ("blobs/HASH/SIZE"; docs/protocol.md, 42). Subjects are copied.
 */
void error_add_missing(struct error *err, const char *subject);
size_t error_n_missing(const struct error *err);
const char *error_missing(const struct error *err, size_t i);

/* Nobody is where the peer should be: no connection came about. */
void error_set_unreachable(struct error *err);
bool error_is_unreachable(const struct error *err);

/* google.rpc.RetryInfo; -1 where the peer gave none. */
void error_set_retry_delay_ms(struct error *err, int64_t delay_ms);
int64_t error_retry_delay_ms(const struct error *err);
