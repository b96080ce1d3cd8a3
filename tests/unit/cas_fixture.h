/*
 * What the tests of lib/cas share: a directory for each test, and short words for "this
 * succeeds" and "this fails with that code and names that".
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"

#define expect_ok(call)                                                                  \
	do {                                                                             \
		struct error *expect_err_ = (call);                                      \
		if (expect_err_)                                                         \
			fail_msg("%s: %s: %s", #call,                                    \
				 error_code_name(error_code(expect_err_)),               \
				 error_text(expect_err_));                               \
	} while (0)

/* word: what the message must contain, or NULL */
#define expect_error(call, code, word)                                                   \
	do {                                                                             \
		struct error *expect_err_ = (call);                                      \
		if (error_code(expect_err_) != (code))                                   \
			fail_msg("%s: %s, not %s: %s", #call,                            \
				 error_code_name(error_code(expect_err_)),               \
				 error_code_name(code), error_text(expect_err_));        \
		if ((word) && !strstr(error_text(expect_err_), (word) ? (word) : ""))    \
			fail_msg("%s: \"%s\" does not name %s", #call,                   \
				 error_text(expect_err_), (word) ? (word) : "");         \
		error_free(expect_err_);                                                 \
	} while (0)

struct scratch {
	char path[64];
	int fd;
};

int scratch_make(void **state);

int scratch_drop(void **state);

struct digest digest_of(const char *text);

/* A file below the scratch directory, with its parents. */
void scratch_write(const struct scratch *scratch, const char *path, const char *text,
		   mode_t mode);

void scratch_expect(const struct scratch *scratch, const char *path, const char *text);
