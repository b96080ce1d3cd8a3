/* What cas_fixture.h declares; the tests of one program run on one thread. */
#include "tests/unit/cas_fixture.h"

int scratch_make(void **state)
{
	struct scratch *scratch = alloc_new(struct scratch);

	(void)snprintf(scratch->path, sizeof(scratch->path), "/tmp/lazyroot-test.XXXXXX");
	if (!mkdtemp(scratch->path))
		return -1;
	scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = scratch;
	return scratch->fd < 0;
}

int scratch_drop(void **state)
{
	struct scratch *scratch = *state;
	struct error *err = file_remove_tree(AT_FDCWD, scratch->path);
	int failed = err != NULL;

	error_free(err);
	(void)close(scratch->fd);
	free(scratch);
	return failed;
}

struct digest digest_of(const char *text)
{
	struct digest digest;

	hasher_digest(text, strlen(text), &digest);
	return digest;
}

void scratch_write(const struct scratch *scratch, const char *path, const char *text,
		   mode_t mode)
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

void scratch_expect(const struct scratch *scratch, const char *path, const char *text)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	expect_ok(file_read_all(scratch->fd, path, 1 << 20, &bytes));
	assert_string_equal(buf_string(&bytes), text);
}
