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

static inline int scratch_make(void **state)
{
	struct scratch *scratch = alloc_new(struct scratch);

	(void)snprintf(scratch->path, sizeof(scratch->path), "/tmp/lazyroot-test.XXXXXX");
	if (!mkdtemp(scratch->path))
		return -1;
	scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = scratch;
	return scratch->fd < 0;
}

static inline int scratch_drop(void **state)
{
	struct scratch *scratch = *state;
	struct error *err = file_remove_tree(AT_FDCWD, scratch->path);
	int failed = err != NULL;

	error_free(err);
	(void)close(scratch->fd);
	free(scratch);
	return failed;
}

static inline struct digest digest_of(const char *text)
{
	struct digest digest;

	hasher_digest(text, strlen(text), &digest);
	return digest;
}

/* A file below the scratch directory, with its parents. */
static inline void scratch_write(const struct scratch *scratch, const char *path,
				 const char *text, mode_t mode)
{
	_cleanup_free_ char *parent = alloc_string(path);
	_cleanup_fd_ int fd = -1;
	char *slash = strrchr(parent, '/');

	if (slash) {
		*slash = '\0';
		expect_ok(file_mkdirs(scratch->fd, parent, 0755));
	}
	fd = openat(scratch->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	expect_ok(file_write_all(fd, text, strlen(text)));
}

static inline void scratch_expect(const struct scratch *scratch, const char *path,
				  const char *text)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	expect_ok(file_read_all(scratch->fd, path, 1 << 20, &bytes));
	assert_string_equal(buf_string(&bytes), text);
}
