/* The store of one process: what it keeps, refuses, evicts, and finds again at its next
 * start, whatever was done to its files meanwhile. */
#include "tests/unit/cas_fixture.h"

#include <errno.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/store/store_impl.h"

#define _cleanup_store_ _cleanup_(store_closep)

static struct store *store_at(const struct scratch *scratch, int64_t size_limit)
{
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	struct store_config config = {.dir = dir, .size_limit = size_limit};
	struct store *store = NULL;

	expect_ok(store_open(&config, &store));
	return store;
}

static struct digest put(struct store *store, const char *text)
{
	struct digest digest = digest_of(text);

	expect_ok(store_put(store, &digest, text, strlen(text)));
	return digest;
}

static bool can_get(struct store *store, const struct digest *digest)
{
	_cleanup_fd_ int fd = -1;

	expect_ok(store_get(store, digest, &fd));
	return fd >= 0;
}

static bool can_verify(struct store *store, const struct digest *digest)
{
	_cleanup_fd_ int fd = -1;

	expect_ok(store_get_verified(store, digest, &fd));
	if (fd >= 0)
		expect_ok(hasher_verify_fd(fd, digest));
	return fd >= 0;
}

static struct store_stats stats_of(struct store *store)
{
	struct store_stats stats;

	store_stats(store, &stats);
	return stats;
}

static const char *blob_path(const struct digest *digest)
{
	static char path[STORE_PATH_MAX + 2] = "s/";

	(void)store_file_path(digest, path + 2);
	return path;
}

/* Entries below staging/, our own directory not counted. */
static int n_staged(const struct scratch *scratch)
{
	_cleanup_free_ char *command = alloc_printf(
		"test $(find %s/s/staging -mindepth 2 | wc -l) = 0", scratch->path);

	return system(command);
}

static void test_store_gives_back_what_was_put(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest = put(store, "hello");
	struct digest wrong = digest;
	struct stat st;

	wrong.size++;
	assert_true(can_get(store, &digest));
	assert_true(store_has(store, &digest));
	assert_false(can_get(store, &wrong));
	assert_false(store_has(store, &wrong));
	assert_true(can_get(store, &digest));
	expect_ok(store_read(store, &digest, 5, &bytes));
	assert_string_equal(buf_string(&bytes), "hello");
	expect_error(store_read(store, &digest, 4, &bytes), ERROR_INVALID_ARGUMENT, NULL);
	wrong = digest_of("absent");
	expect_error(store_read(store, &wrong, 100, &bytes), ERROR_NOT_FOUND, "/6");
	assert_true(store_file_stat(store_dir_fd(store), &digest, &st));
	assert_int_equal(st.st_mode & 07777, 0444);
	put(store, "hello");
	assert_int_equal(stats_of(store).n_blobs, 1);
	assert_int_equal(stats_of(store).bytes, 5);
}

static void test_store_refuses_bytes_that_are_not_the_digest(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	struct digest digest = digest_of("hello");

	expect_error(store_put(store, &digest, "hellO", 5), ERROR_INVALID_ARGUMENT, "/5");
	put(store, "hello");
	digest.size = 6; /* stored already, but not with that size */
	expect_error(store_put(store, &digest, "hello", 5), ERROR_INVALID_ARGUMENT, "/6");
	assert_int_equal(stats_of(store).n_blobs, 1);
	assert_int_equal(n_staged(*state), 0);
}

static void test_store_always_has_the_empty_blob(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct staged *staged = NULL;
	int fd = -1;

	assert_true(store_has(store, &digest_of_empty));
	assert_true(can_get(store, &digest_of_empty));
	scratch_write(*state, "x", "", 0644);
	expect_ok(store_read(store, &digest_of_empty, 0, &bytes));
	expect_ok(store_put(store, &digest_of_empty, "", 0));
	expect_ok(staged_open(store, &digest_of_empty, true, &staged));
	expect_ok(staged_commit(staged, &fd));
	assert_true(fd >= 0);
	(void)close(fd);
	store_remove(store, &digest_of_empty);
	assert_true(store_has(store, &digest_of_empty));
	assert_int_equal(stats_of(store).n_blobs, 0);
	assert_int_equal(n_staged(*state), 0);
}

static void test_staged_commits_pieces(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	struct digest digest = digest_of("hello");
	struct staged *staged = NULL;
	_cleanup_fd_ int fd = -1;

	expect_ok(staged_open(store, &digest, true, &staged));
	expect_ok(staged_write(staged, "hel", 3));
	assert_false(store_has(store, &digest));
	expect_ok(staged_write(staged, "lo", 2));
	assert_int_equal(staged_size(staged), 5);
	expect_ok(staged_commit(staged, &fd));
	expect_ok(hasher_verify_fd(fd, &digest));
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(can_get(store, &digest));
	assert_int_equal(n_staged(*state), 0);
}

static void test_staged_refuses_too_much_too_little_and_wrong(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	struct digest digest = digest_of("hello");
	struct staged *staged = NULL;
	int fd = -7;

	expect_ok(staged_open(store, &digest, true, &staged));
	expect_ok(staged_write(staged, "hello", 5));
	expect_error(staged_write(staged, "!", 1), ERROR_INVALID_ARGUMENT, "/5");
	staged_free(staged);
	expect_ok(staged_open(store, &digest, true, &staged));
	expect_ok(staged_write(staged, "hell", 4));
	expect_error(staged_commit(staged, &fd), ERROR_INVALID_ARGUMENT, "/5");
	expect_ok(staged_open(store, &digest, true, &staged));
	expect_ok(staged_write(staged, "hellO", 5));
	expect_error(staged_commit(staged, &fd), ERROR_INVALID_ARGUMENT, "/5");
	assert_int_equal(fd, -7);
	assert_false(store_has(store, &digest));
	assert_int_equal(n_staged(*state), 0);
}

/* File systems that have no O_TMPFILE: the store is told that this is one. */
static void test_staged_works_where_files_must_have_names(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store;
	struct staged *staged = NULL;
	struct digest hello = digest_of("hello");
	struct digest wrong = digest_of("Hello");
	_cleanup_fd_ int fd = -1;

	/* what a killed process left behind */
	scratch_write(scratch, "s/staging/4711.1/7", "half a blo", 0644);
	store = store_at(scratch, 1 << 20);
	assert_int_equal(n_staged(scratch), 0);
	store->has_nameless = false;
	put(store, "text");
	expect_ok(staged_open(store, &hello, true, &staged));
	expect_ok(staged_write(staged, "hello", 5));
	assert_int_not_equal(n_staged(scratch), 0);
	expect_ok(staged_commit(staged, &fd));
	expect_ok(hasher_verify_fd(fd, &hello));
	expect_ok(staged_open(store, &wrong, true, &staged));
	expect_ok(staged_write(staged, "hello", 5));
	expect_error(staged_commit(staged, NULL), ERROR_INVALID_ARGUMENT, "/5");
	assert_int_equal(n_staged(scratch), 0);
	assert_true(can_verify(store, &hello));
	assert_int_equal(stats_of(store).n_blobs, 2);
	store_close(store);
	store = store_at(scratch, 1 << 20);
	assert_true(can_get(store, &hello));
	store_close(store);
}

static void test_store_evicts_the_least_recently_used(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 40);
	struct digest a = put(store, "aaaaaaaaaa");
	struct digest b = put(store, "bbbbbbbbbb");
	struct digest c = put(store, "cccccccccc");
	struct digest d = put(store, "dddddddddd");

	assert_true(can_get(store, &b));
	assert_true(can_get(store, &a));
	/* 50 > 40: one must go; a and b were just used */
	struct digest e = put(store, "eeeeeeeeee");

	assert_false(store_has(store, &c));
	assert_true(can_get(store, &b));
	assert_true(can_get(store, &e));
	assert_true(stats_of(store).n_evicted >= 1);
	assert_true(stats_of(store).bytes <= 40);
	(void)d;
}

static void test_store_refuses_what_it_could_never_hold(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 10);
	struct digest small = put(store, "0123456789");
	struct digest digest = digest_of("0123456789a");
	struct staged *staged = NULL;

	expect_error(store_put(store, &digest, "0123456789a", 11),
		     ERROR_RESOURCE_EXHAUSTED, "/11");
	expect_error(staged_open(store, &digest, true, &staged), ERROR_RESOURCE_EXHAUSTED,
		     "/11");
	assert_null(staged);
	assert_true(can_get(store, &small));
}

static void test_store_remembers_ages_over_a_restart(void **state)
{
	struct store *store = store_at(*state, 1000);
	struct digest a = put(store, "aaaaaaaaaa");
	struct digest b = put(store, "bbbbbbbbbb");
	struct digest c = put(store, "cccccccccc");

	assert_true(can_get(store, &a));
	store_close(store);
	store = store_at(*state, 30);
	assert_int_equal(stats_of(store).n_blobs, 3);
	assert_int_equal(stats_of(store).n_verified, 0);
	put(store, "dddddddddd");
	assert_false(store_has(store, &b));
	assert_true(can_get(store, &a));
	store_close(store);
	(void)c;
}

static struct store *promising_at(const struct scratch *scratch, int64_t promise_ns)
{
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	struct store_config config = {
		.dir = dir, .size_limit = 25, .promise_ns = promise_ns};
	struct store *store = NULL;

	expect_ok(store_open(&config, &store));
	return store;
}

static struct error *try_to_put(struct store *store, const char *text)
{
	struct digest digest;

	hasher_digest(text, strlen(text), &digest);
	return store_put(store, &digest, text, strlen(text));
}

static void test_store_keeps_what_is_promised(void **state)
{
	struct store *store = promising_at(*state, 3600 * NS_PER_S);
	struct digest a = put(store, "aaaaaaaaaa"), b = put(store, "bbbbbbbbbb");
	struct staged *staged = NULL;
	struct digest c;

	expect_error(try_to_put(store, "cccccccccc"), ERROR_RESOURCE_EXHAUSTED,
		     "blobs stay for 60 min");
	hasher_digest("cccccccccc", 10, &c);
	expect_error(staged_open(store, &c, true, &staged), ERROR_RESOURCE_EXHAUSTED,
		     "nothing can go yet");
	assert_int_equal(store_evict(store, 10), 0);
	expect_ok(try_to_put(store, "dddd")); /* there is room for that */
	expect_ok(store_flush(store));
	store_close(store);
	store = promising_at(*state, 3600 * NS_PER_S); /* as the index has it */
	expect_error(try_to_put(store, "cccccccccc"), ERROR_RESOURCE_EXHAUSTED,
		     "nothing can go yet");
	assert_true(can_get(store, &a));
	assert_true(can_get(store, &b));
	assert_int_equal(stats_of(store).n_evicted, 0);
	store_close(store);
}

static void test_store_lets_go_of_what_was_promised_long_enough(void **state)
{
	struct store *store = promising_at(*state, NS_PER_S / 5);
	struct digest a = put(store, "aaaaaaaaaa"), b = put(store, "bbbbbbbbbb");
	int64_t end_ns = clock_mono_ns() + 30 * NS_PER_S;
	struct error *err;

	do {
		assert_true(store_has(store, &b)); /* a use, each time */
		err = try_to_put(store, "cccccccccc");
		if (!err)
			break;
		expect_error(err, ERROR_RESOURCE_EXHAUSTED, "nothing can go yet");
		(void)usleep(10000);
	} while (clock_mono_ns() < end_ns);
	assert_int_equal(stats_of(store).n_evicted, 1);
	assert_false(store_has(store, &a));
	assert_true(store_has(store, &b));
	store_close(store);
}

static void test_store_belongs_to_one_process(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1000);
	const struct scratch *scratch = *state;
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	_cleanup_free_ char *words =
		alloc_printf("%s is in use by process %d", dir, getpid());
	struct store_config config = {.dir = dir};
	struct store *other = NULL;

	expect_error(store_open(&config, &other), ERROR_FAILED_PRECONDITION, words);
	config.is_shared = true;
	expect_error(store_open(&config, &other), ERROR_FAILED_PRECONDITION, words);
	assert_null(other);
}

/* What is done to the files between two starts. */

static void test_store_rebuilds_a_deleted_index(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = store_at(scratch, 1000);
	struct digest a = put(store, "aaaaaaaaaa");

	store_close(store);
	assert_int_equal(unlinkat(scratch->fd, "s/index.sqlite", 0), 0);
	store = store_at(scratch, 1000);
	assert_int_equal(stats_of(store).n_blobs, 1);
	assert_int_equal(stats_of(store).bytes, 10);
	assert_false(can_get(store, &a)); /* never unverified */
	assert_true(store_is_suspect(store, &a));
	assert_true(can_verify(store, &a));
	assert_true(can_get(store, &a));
	assert_int_equal(stats_of(store).n_verified, 1);
	store_close(store);
	store = store_at(scratch, 1000);
	assert_true(can_get(store, &a)); /* known again */
	store_close(store);
}

static void test_store_rebuilds_a_damaged_index(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = store_at(scratch, 1 << 20);
	_cleanup_fd_ int fd = -1;
	char text[24];
	struct digest a;

	for (int i = 0; i < 500; i++) {
		(void)snprintf(text, sizeof(text), "blob %d", i);
		a = put(store, text);
	}
	store_close(store);
	for (int page = 0; page < 4; page++) {
		struct stat st;

		fd = openat(scratch->fd, "s/index.sqlite", O_RDWR | O_CLOEXEC);
		assert_int_equal(fstat(fd, &st), 0);
		for (off_t at = page * 4096; at < st.st_size; at += 4 * 4096)
			assert_int_equal(pwrite(fd, "garbage garbage ", 16, at + 8), 16);
		(void)close(take_fd(fd));
		store = store_at(scratch, 1 << 20);
		assert_int_equal(stats_of(store).n_blobs, 500);
		assert_true(can_verify(store, &a));
		assert_true(store_has(store, &a));
		store_close(store);
	}
}

static void test_store_sees_flipped_bits(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = store_at(scratch, 1000);
	struct digest a = put(store, "aaaaaaaaaa");
	_cleanup_fd_ int fd = -1;

	store_close(store);
	fd = openat(scratch->fd, blob_path(&a), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "b", 1, 3), 1);
	store = store_at(scratch, 1000);
	assert_false(can_get(store, &a));
	assert_false(can_verify(store, &a));
	assert_int_equal(stats_of(store).n_corrupt, 1);
	assert_int_equal(stats_of(store).n_blobs, 0);
	assert_int_equal(faccessat(scratch->fd, blob_path(&a), F_OK, 0), -1);
	put(store, "aaaaaaaaaa");
	assert_true(can_get(store, &a));
	store_close(store);
}

static void test_store_does_not_believe_the_index_over_the_files(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = store_at(scratch, 1000);
	struct digest gone = put(store, "gone");
	struct digest shorter = put(store, "shorter");
	struct digest linked = put(store, "linked");
	_cleanup_fd_ int fd = -1;

	store_close(store);
	assert_int_equal(unlinkat(scratch->fd, blob_path(&gone), 0), 0);
	fd = openat(scratch->fd, blob_path(&shorter), O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 3), 0);
	scratch_write(scratch, "elsewhere", "linked", 0644);
	assert_int_equal(unlinkat(scratch->fd, blob_path(&linked), 0), 0);
	assert_int_equal(symlinkat("../../../elsewhere", scratch->fd, blob_path(&linked)),
			 0);
	store = store_at(scratch, 1000);
	assert_false(store_has(store, &gone));
	assert_false(can_get(store, &shorter));
	assert_false(can_verify(store, &linked));
	assert_int_equal(stats_of(store).n_blobs, 0);
	put(store, "shorter");
	put(store, "linked");
	assert_true(can_verify(store, &shorter));
	assert_true(can_verify(store, &linked));
	scratch_expect(scratch, "elsewhere", "linked");
	store_close(store);
}

static void test_store_notices_a_file_that_goes_while_it_runs(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_store_ struct store *store = store_at(scratch, 1000);
	struct digest a = put(store, "aaaaaaaaaa");

	assert_int_equal(unlinkat(scratch->fd, blob_path(&a), 0), 0);
	assert_false(can_get(store, &a));
	assert_false(store_has(store, &a));
	assert_int_equal(stats_of(store).bytes, 0);
	store_remove(store, &a);
	put(store, "aaaaaaaaaa");
	assert_true(can_get(store, &a));
	store_remove(store, &a);
	assert_false(can_get(store, &a));
	assert_int_equal(stats_of(store).n_blobs, 0);
}

/* Adopting */

/* Somebody writes to a file of a store that runs: its bytes are not believed any more. */
static void test_store_notices_a_file_that_changes_while_it_runs(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 1 << 20);
	struct digest digests[] = {put(store, "hello"), put(store, "unused"),
				   put(store, "touched")};
	static const char *const bytes[] = {"hellO", "unuseD", "touched"};

	assert_true(can_get(store, &digests[0]));
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		char path[STORE_PATH_MAX];
		int fd;

		(void)store_file_path(&digests[i], path);
		fd = openat(store_dir_fd(store), path, O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, bytes[i], strlen(bytes[i])), strlen(bytes[i]));
		assert_int_equal(futimens(fd, (const struct timespec[]){{1, 0}, {1, 0}}),
				 0);
		(void)close(fd);
		assert_false(can_get(store, &digests[i]));
		assert_true(store_is_suspect(store, &digests[i]));
		assert_int_equal(can_verify(store, &digests[i]), i == 2);
	}
	assert_true(can_get(store, &digests[2]));
	assert_false(store_has(store, &digests[0]));
	assert_int_equal(stats_of(store).n_blobs, 1);
	put(store, "hello");
	assert_true(can_get(store, &digests[0]));
}

static void test_store_adopts_by_rename(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_store_ struct store *store = store_at(scratch, 1000);
	struct digest want = digest_of("output");
	struct digest got;
	struct stat before;
	struct stat after;

	scratch_write(scratch, "out", "output", 04777);
	assert_int_equal(fstatat(scratch->fd, "out", &before, 0), 0);
	expect_ok(store_adopt(store, scratch->fd, "out", true, &got));
	assert_true(digest_equal(&got, &want));
	assert_true(store_file_stat(store_dir_fd(store), &want, &after));
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(after.st_mode & 07777, 0444);
	assert_int_equal(faccessat(scratch->fd, "out", F_OK, 0), -1);
	assert_true(can_get(store, &want));
	/* once more, of what is stored already */
	scratch_write(scratch, "out", "output", 0644);
	expect_ok(store_adopt(store, scratch->fd, "out", true, &got));
	assert_int_equal(faccessat(scratch->fd, "out", F_OK, 0), -1);
	assert_int_equal(stats_of(store).n_blobs, 1);
	assert_int_equal(n_staged(scratch), 0);
}

static void test_store_adopts_by_copy(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_store_ struct store *store = store_at(scratch, 1000);
	struct digest want = digest_of("output");
	struct digest got;

	scratch_write(scratch, "out", "output", 0644);
	expect_ok(store_adopt(store, scratch->fd, "out", false, &got));
	assert_true(digest_equal(&got, &want));
	scratch_write(scratch, "out", "OUTPUT", 0644);
	assert_true(can_verify(store, &want));
	/* a second link to the file could change it later: copied, whatever was asked */
	assert_int_equal(linkat(scratch->fd, "out", scratch->fd, "link", 0), 0);
	expect_ok(store_adopt(store, scratch->fd, "link", true, &got));
	scratch_write(scratch, "out", "changed", 0644);
	assert_true(can_verify(store, &got));
	assert_int_equal(faccessat(scratch->fd, "link", F_OK, 0), -1);
}

static void test_store_adopts_files_only(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_store_ struct store *store = store_at(scratch, 1000);
	_cleanup_fd_ int sparse = -1;
	struct digest got;

	scratch_write(scratch, "target", "secret", 0644);
	assert_int_equal(symlinkat("target", scratch->fd, "link"), 0);
	assert_int_equal(mkfifoat(scratch->fd, "fifo", 0644), 0);
	expect_error(store_adopt(store, scratch->fd, "link", true, &got), ERROR_INTERNAL,
		     "link");
	expect_error(store_adopt(store, scratch->fd, "fifo", true, &got),
		     ERROR_INVALID_ARGUMENT, "fifo");
	expect_error(store_adopt(store, scratch->fd, "none", true, &got), ERROR_NOT_FOUND,
		     "none");
	/* a terabyte of nothing is not even hashed */
	scratch_write(scratch, "sparse", "", 0644);
	sparse = openat(scratch->fd, "sparse", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(sparse, (off_t)1 << 40), 0);
	expect_error(store_adopt(store, scratch->fd, "sparse", true, &got),
		     ERROR_RESOURCE_EXHAUSTED, "sparse is larger");
	assert_int_equal(unlinkat(scratch->fd, "sparse", 0), 0);
	scratch_expect(scratch, "target", "secret");
}

/* A full disk */

#define DISK_BYTES (4 << 20)
#define DISK_BLOB  (256 << 10)

static struct digest put_block(struct store *store, uint8_t *block, int i)
{
	struct digest digest;

	memcpy(block, &i, sizeof(i));
	hasher_digest(block, DISK_BLOB, &digest);
	expect_ok(store_put(store, &digest, block, DISK_BLOB));
	return digest;
}

static void test_store_makes_room_on_a_full_disk(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	_cleanup_free_ uint8_t *block = alloc_array(DISK_BYTES, 1);
	struct digest first;
	struct digest last = {0};
	struct digest huge;
	struct store *store;

	expect_ok(file_mkdirs(AT_FDCWD, dir, 0755));
	if (mount("tmpfs", dir, "tmpfs", 0, "size=4m") < 0) {
		assert_int_equal(errno, EPERM);
		skip();
	}
	store = store_at(scratch, (int64_t)1 << 30);
	first = put_block(store, block, 0);
	for (int i = 1; i < 40; i++)
		last = put_block(store, block, i);
	assert_false(store_has(store, &first));
	assert_true(can_verify(store, &last));
	assert_true(stats_of(store).n_evicted > 0);
	hasher_digest(block, DISK_BYTES, &huge);
	expect_error(store_put(store, &huge, block, DISK_BYTES), ERROR_RESOURCE_EXHAUSTED,
		     dir);
	assert_false(store_has(store, &huge));
	assert_int_equal(n_staged(scratch), 0);
	last = put_block(store, block, 99);
	assert_true(can_verify(store, &last));
	store_close(store);
	assert_int_equal(umount(dir), 0);
}

/* What FindMissingBlobs is answered from: who was told that a blob is there can rely on
 * it for longer than for what nobody asked for. */
static void test_store_asking_counts_as_a_use(void **state)
{
	_cleanup_store_ struct store *store = store_at(*state, 40);
	struct digest a = put(store, "aaaaaaaaaa");
	struct digest b = put(store, "bbbbbbbbbb");

	put(store, "cccccccccc");
	put(store, "dddddddddd");
	assert_true(store_has(store, &a));
	put(store, "eeeeeeeeee");
	assert_false(can_get(store, &b));
	assert_true(can_get(store, &a));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_store_gives_back_what_was_put),
		TEST(test_store_refuses_bytes_that_are_not_the_digest),
		TEST(test_store_always_has_the_empty_blob),
		TEST(test_staged_commits_pieces),
		TEST(test_staged_refuses_too_much_too_little_and_wrong),
		TEST(test_staged_works_where_files_must_have_names),
		TEST(test_store_evicts_the_least_recently_used),
		TEST(test_store_refuses_what_it_could_never_hold),
		TEST(test_store_remembers_ages_over_a_restart),
		TEST(test_store_keeps_what_is_promised),
		TEST(test_store_lets_go_of_what_was_promised_long_enough),
		TEST(test_store_belongs_to_one_process),
		TEST(test_store_rebuilds_a_deleted_index),
		TEST(test_store_rebuilds_a_damaged_index),
		TEST(test_store_sees_flipped_bits),
		TEST(test_store_does_not_believe_the_index_over_the_files),
		TEST(test_store_notices_a_file_that_goes_while_it_runs),
		TEST(test_store_notices_a_file_that_changes_while_it_runs),
		TEST(test_store_adopts_by_rename),
		TEST(test_store_adopts_by_copy),
		TEST(test_store_adopts_files_only),
		TEST(test_store_makes_room_on_a_full_disk),
		TEST(test_store_asking_counts_as_a_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
