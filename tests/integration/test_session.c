/*
 * The FUSE session against the real kernel, in a mount namespace of its own. Most claims
 * are request counts: they do not depend on the machine.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fuse/session.h"
#include "tests/integration/lazy_fixture.h"

struct mounted {
	struct lazy *lazy;
	struct session *session;
	char *path;
};

static struct mounted *mounted_new(bool has_remote, const struct session_config *config)
{
	struct mounted *m = alloc_new(struct mounted);
	struct session_config own = *config;

	m->lazy = lazy_new(has_remote);
	m->path = lazy_path(m->lazy, "mnt");
	assert_int_equal(mkdir(m->path, 0755), 0);
	own.view = m->lazy->view;
	own.path = m->path;
	assert_ok(session_start(&own, &m->session));
	return m;
}

static int setup_mode(void **state, enum session_mode mode)
{
	struct session_config config = {.mode = mode};

	*state = mounted_new(true, &config);
	return 0;
}

static int setup(void **state)
{
	return setup_mode(state, SESSION_PAGE_CACHE);
}

static int setup_passthrough(void **state)
{
	return setup_mode(state, SESSION_PASSTHROUGH);
}

/* Rings where this machine has them, else the device: the claims are the same. */
static int setup_uring(void **state)
{
	struct session_config config = {.mode = SESSION_PAGE_CACHE, .want_uring = true};

	*state = mounted_new(true, &config);
	return 0;
}

static int teardown(void **state)
{
	struct mounted *m = *state;

	session_free(m->session);
	lazy_free(m->lazy);
	free(m->path);
	free(m);
	return 0;
}

static char *in_tree(const struct mounted *m, const struct digest *digest,
		     const char *path)
{
	char name[DIGEST_STRING_MAX];

	return alloc_printf("%s/%s/%s", m->path, digest_name(digest, name), path);
}

static uint64_t count(const struct mounted *m, const char *op)
{
	return session_n_requests(m->session, op);
}

static void add_count(void *ctx, const char *op, uint64_t n)
{
	/* FORGETs answer the kernel's memory, not the test */
	if (!strstr(op, "FORGET"))
		*(uint64_t *)ctx += n;
}

static uint64_t count_all(const struct mounted *m)
{
	uint64_t n = 0;

	session_each_count(m->session, add_count, &n);
	return n;
}

static void assert_reads(const char *path, const char *want)
{
	_cleanup_buf_ struct buf got = BUF_INIT;

	assert_ok(file_read_all(AT_FDCWD, path, 1 << 30, &got));
	assert_string_equal(buf_string(&got), want);
}

static void test_session_cold_cat_costs_a_lookup_a_component_and_one_read(void **state)
{
	struct mounted *m = *state;
	struct digest digest =
		lazy_tree(m->lazy, "in", "mkdir -p a/b; echo hello >a/b/f");
	_cleanup_free_ char *path = in_tree(m, &digest, "a/b/f");
	uint64_t n_batches = lazy_n_batches(m->lazy);
	uint64_t warm;

	assert_reads(path, "hello\n");
	assert_int_equal(count(m, "LOOKUP"), 4);
	assert_int_equal(count(m, "READ"), 1);
	assert_int_equal(count(m, "OPEN"), 1);    /* the only one ever, answered ENOSYS */
	assert_int_equal(count(m, "GETATTR"), 1); /* of the mount's root, at its start */
	/* three directories, each when it is looked into, and the file */
	assert_true(lazy_n_batches(m->lazy) - n_batches <= 4);
	warm = count_all(m);
	assert_reads(path, "hello\n");
	assert_int_equal(count_all(m), warm);
}

static void test_session_find_in_a_warm_tree_sends_nothing(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(
		m->lazy, "in",
		"for d in a b c; do mkdir -p $d/$d; for i in 1 2 3 4 5; do echo $d$i "
		">$d/$d/$i; ln -s $i $d/l$i; done; done");
	_cleanup_free_ char *path = in_tree(m, &digest, "");
	uint64_t warm;

	lazy_shell(path, "find . -ls >/dev/null; find . -type f -size +0 >/dev/null");
	warm = count_all(m);
	lazy_shell(path, "test $(find . | wc -l) = 37; find . -ls >/dev/null");
	assert_int_equal(count_all(m), warm);
	assert_int_equal(count(m, "OPENDIR"), 1); /* ENOSYS, once */
	assert_int_equal(count(m, "GETXATTR") + count(m, "LISTXATTR"),
			 count(m, "GETXATTR") ? 1 : 0);
}

static void test_session_asks_once_for_a_name_that_is_not_there(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(m->lazy, "in", "echo x >f");
	_cleanup_free_ char *path = in_tree(m, &digest, "no");
	uint64_t before;

	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(errno, ENOENT);
	before = count_all(m);
	for (int i = 0; i < 10; i++)
		assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(count_all(m), before);
}

static void assert_inodes_agree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	struct stat st;

	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (strcmp(d->d_name, "..") == 0)
			continue;
		assert_int_equal(fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW),
				 0);
		assert_int_equal(d->d_ino, st.st_ino);
	}
	(void)closedir(dir);
}

static void test_session_shows_files_links_and_modes(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(
		m->lazy, "in",
		"mkdir d; echo x >f; echo y >x; chmod +x x; ln -s ../d/g l; : >empty");
	_cleanup_free_ char *path = in_tree(m, &digest, "");

	lazy_shell(path, "test $(stat -c %%a,%%s,%%h,%%Y f) = 644,2,1,1321009871");
	lazy_shell(path, "test $(stat -c %%a x) = 755 -a $(stat -c %%a d) = 755");
	lazy_shell(path, "test $(readlink l) = ../d/g; test ! -s empty; cat empty f x");
	assert_inodes_agree(path);
	lazy_shell(path, "! touch new; ! rm f; ! chmod 600 f");
	lazy_shell(m->path, "test -z \"$(ls -A)\"; ! stat no-digest");
}

static void test_session_lists_large_directories_whole(void **state)
{
	struct mounted *m = *state;
	struct digest digest =
		lazy_tree(m->lazy, "in", "for i in $(seq 5000); do : >name-$i; done");
	_cleanup_free_ char *path = in_tree(m, &digest, "");

	for (int i = 0; i < 2; i++)
		lazy_shell(path, "test $(ls | sort -u | wc -l) = 5000");
	/* nothing but listings, and those in the kernel's pages */
	assert_int_equal(count(m, "LOOKUP"), 1);
}

static void test_session_reads_large_files(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(
		m->lazy, "in", "head -c 3000001 /dev/urandom >big; cp big ../big-copy");
	_cleanup_free_ char *path = in_tree(m, &digest, "big");
	uint64_t n_reads;

	lazy_shell(m->lazy->tmp, "cmp '%s' big-copy", path);
	n_reads = count(m, "READ");
	assert_true(lazy_n_batches(m->lazy) > 0);
	lazy_shell(m->lazy->tmp, "cmp '%s' big-copy", path);
	assert_int_equal(count(m, "READ"), n_reads);
}

static void test_session_answers_hits_while_many_misses_wait(void **state)
{
	struct mounted *m = *state;
	struct digest digest =
		lazy_tree(m->lazy, "in",
			  "echo hit >hit; for i in $(seq 20); do echo $i >miss$i; done");
	_cleanup_free_ char *hit = in_tree(m, &digest, "hit");
	_cleanup_free_ char *path = in_tree(m, &digest, "");

	lazy_shell(path, "ls -l >/dev/null");
	(void)lazy_put(m->lazy->local, "hit\n", 4);
	lazy_hold_answers(m->lazy);
	lazy_shell(path,
		   "for i in $(seq 20); do cat miss$i >../../got$i & done 2>/dev/null");
	while (count(m, "READ") < 20)
		clock_sleep_ms(1);
	lazy_await_held(m->lazy, 1);
	assert_reads(hit, "hit\n");
	lazy_release_answers(m->lazy);
	lazy_shell(m->lazy->tmp,
		   "for i in $(seq 20); do until test -s got$i; do sleep 0.02; "
		   "done; test $(cat got$i) = $i; done");
}

static void test_session_reads_a_lost_blob_as_EIO_and_remembers(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(m->lazy, "in", "echo lost >f");
	struct digest lost = lazy_put(m->lazy->origin, "lost\n", 5);
	_cleanup_free_ char *path = in_tree(m, &digest, "f");
	struct view_root *root = view_root_get(m->lazy->view, &digest);
	_cleanup_error_ struct error *err = NULL;
	_cleanup_error_ struct error *read_err = NULL;
	_cleanup_buf_ struct buf got = BUF_INIT;
	int64_t before = clock_mono_ns();

	store_remove(m->lazy->origin, &lost);
	read_err = file_read_all(AT_FDCWD, path, 100, &got);
	assert_int_equal(error_errnum(read_err), EIO);
	err = view_root_lost(root, before);
	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_int_equal(error_n_missing(err), 1);
	/* an error is never kept: once the blob is there it reads */
	(void)lazy_put(m->lazy->origin, "lost\n", 5);
	assert_reads(path, "lost\n");
	view_root_put(root);
}

static void test_session_refuses_a_tree_that_is_missing_or_none(void **state)
{
	struct mounted *m = *state;
	struct digest text = lazy_put(m->lazy->origin, "no Directory", 12);
	struct digest absent = {.hash = {1}, .size = 7};
	_cleanup_free_ char *one = in_tree(m, &text, "");
	_cleanup_free_ char *two = in_tree(m, &absent, "");
	struct stat st;

	assert_int_equal(stat(one, &st), -1);
	assert_int_equal(errno, EIO);
	assert_int_equal(stat(two, &st), -1);
	assert_int_equal(errno, EIO);
}

static void on_signal(int signal)
{
	(void)signal;
}

static void test_session_interrupts_a_waiting_request(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(m->lazy, "in", "mkdir -p d/e; echo x >d/e/f");
	_cleanup_free_ char *dir = in_tree(m, &digest, "d");
	_cleanup_free_ char *path = in_tree(m, &digest, "d/e/f");
	struct stat st;
	int status;
	pid_t pid;

	assert_int_equal(stat(dir, &st), 0);
	lazy_hold_answers(m->lazy);
	pid = fork();
	if (pid == 0) {
		struct sigaction action = {.sa_handler = on_signal};

		(void)sigaction(SIGUSR1, &action, NULL);
		_exit(stat(path, &st) < 0 ? errno : 0);
	}
	lazy_await_held(m->lazy, 1);
	assert_int_equal(kill(pid, SIGUSR1), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EINTR);
	/* the fetch went on, for whoever comes next */
	lazy_release_answers(m->lazy);
	assert_reads(path, "x\n");
}

static void test_session_ends_while_requests_wait(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(m->lazy, "in", "mkdir -p d/e; echo x >d/e/f");
	_cleanup_free_ char *dir = in_tree(m, &digest, "d");
	_cleanup_free_ char *path = in_tree(m, &digest, "d/e/f");
	struct stat st;
	int status;
	pid_t pid;

	assert_int_equal(stat(dir, &st), 0);
	lazy_hold_answers(m->lazy);
	pid = fork();
	if (pid == 0)
		_exit(stat(path, &st) < 0 ? 42 : 0);
	lazy_await_held(m->lazy, 1);
	m->session = session_free(m->session);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 42);
	lazy_release_answers(m->lazy);
}

static void test_session_gives_memory_back(void **state)
{
	struct mounted *m = *state;
	struct digest digest =
		lazy_tree(m->lazy, "in", "for i in $(seq 200); do echo $i >f$i; done");
	_cleanup_free_ char *path = in_tree(m, &digest, "");

	lazy_shell(path, "cat f* >/dev/null");
	assert_true(view_n_nodes(m->lazy->view) > 200);
	/* the kernel forgets all of this mount that nobody uses, as where memory is short
	 */
	assert_int_equal(mount(NULL, m->path, NULL,
			       MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL),
			 0);
	for (int i = 0; i < 200 && view_n_nodes(m->lazy->view) > 2; i++)
		clock_sleep_ms(10);
	assert_true(view_n_nodes(m->lazy->view) <= 2);
}

static void test_session_passthrough_reads_without_messages(void **state)
{
	struct mounted *m = *state;
	struct digest digest =
		lazy_tree(m->lazy, "in",
			  "head -c 3000001 /dev/urandom >big; cp big ../big-copy; : >e");
	_cleanup_free_ char *path = in_tree(m, &digest, "big");
	_cleanup_free_ char *dir = in_tree(m, &digest, "");
	_cleanup_fd_ int fd = -1;
	const char *map;

	lazy_shell(m->lazy->tmp, "cmp '%s' big-copy; cmp '%s' big-copy; cat '%s/e'", path,
		   path, dir);
	assert_int_equal(count(m, "READ"), 0);
	assert_int_equal(count(m, "OPEN"), 3);
	/* two opens of one file at once, one of them mapped beyond its close */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	map = mmap(NULL, 3000001, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(map != MAP_FAILED);
	(void)close(take_fd(fd));
	lazy_shell(m->lazy->tmp, "cmp '%s' big-copy", path);
	assert_int_equal(count(m, "READ"), 0);
	(void)munmap((void *)(uintptr_t)map, 3000001);
}

static void test_session_passthrough_loses_blobs_as_EIO_at_open(void **state)
{
	struct mounted *m = *state;
	struct digest digest = lazy_tree(m->lazy, "in", "echo lost >f");
	struct digest lost = lazy_put(m->lazy->origin, "lost\n", 5);
	_cleanup_free_ char *path = in_tree(m, &digest, "f");

	store_remove(m->lazy->origin, &lost);
	assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EIO);
	(void)lazy_put(m->lazy->origin, "lost\n", 5);
	assert_reads(path, "lost\n");
}

static void test_session_inspection_mount_shows_one_tree_and_digests(void **state)
{
	struct lazy *lazy = lazy_new(true);
	struct digest digest = lazy_tree(lazy, "in", "mkdir d; echo x >d/f");
	struct digest file = lazy_put(lazy->origin, "x\n", 2);
	_cleanup_free_ char *path = lazy_path(lazy, "mnt");
	_cleanup_free_ char *in_mount = lazy_path(lazy, "mnt/d/f");
	struct session_config config = {.view = lazy->view,
					.path = path,
					.is_inspection = true,
					.only_root = &digest};
	struct session *session;
	char text[DIGEST_STRING_MAX];
	char value[DIGEST_STRING_MAX] = "";

	(void)state;
	assert_int_equal(mkdir(path, 0755), 0);
	assert_ok(session_start(&config, &session));
	lazy_shell(path, "test \"$(ls)\" = d; test $(cat d/f) = x; test $(ls -A d) = f");
	assert_true(getxattr(in_mount, "user.digest", value, sizeof(value)) > 0);
	assert_string_equal(value, digest_format(&file, text));
	memset(value, 0, sizeof(value));
	assert_true(getxattr(path, "user.digest", value, sizeof(value)) > 0);
	assert_string_equal(value, digest_format(&digest, text));
	assert_int_equal(listxattr(in_mount, value, sizeof(value)), 0);
	session_free(session);
	lazy_free(lazy);
}

static void test_session_tells_when_somebody_unmounts_it(void **state)
{
	struct mounted *m = *state;
	uint64_t n;

	assert_int_equal(umount2(m->path, 0), 0);
	assert_int_equal(read(session_end_fd(m->session), &n, sizeof(n)), sizeof(n));
}

static void test_session_names_a_bad_mount_point(void **state)
{
	struct mounted *m = *state;
	_cleanup_free_ char *absent = lazy_path(m->lazy, "absent");
	struct session_config config = {.view = m->lazy->view, .path = absent};
	_cleanup_error_ struct error *err = NULL;
	_cleanup_error_ struct error *file_err = NULL;
	struct session *session = NULL;

	err = session_start(&config, &session);
	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_non_null(strstr(error_text(err), absent));
	lazy_shell(m->lazy->tmp, ": >absent");
	file_err = session_start(&config, &session);
	assert_int_equal(error_code(file_err), ERROR_INVALID_ARGUMENT);
	assert_null(session);
}

#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define URING_TEST(name)                                                                 \
	{                                                                                \
#name "_uring", name, setup_uring, teardown, NULL                        \
	}
#define PASSTHROUGH_TEST(name)                                                           \
	cmocka_unit_test_setup_teardown(name, setup_passthrough, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(
			test_session_cold_cat_costs_a_lookup_a_component_and_one_read),
		SESSION_TEST(test_session_find_in_a_warm_tree_sends_nothing),
		SESSION_TEST(test_session_asks_once_for_a_name_that_is_not_there),
		SESSION_TEST(test_session_shows_files_links_and_modes),
		SESSION_TEST(test_session_lists_large_directories_whole),
		SESSION_TEST(test_session_reads_large_files),
		SESSION_TEST(test_session_answers_hits_while_many_misses_wait),
		SESSION_TEST(test_session_reads_a_lost_blob_as_EIO_and_remembers),
		SESSION_TEST(test_session_refuses_a_tree_that_is_missing_or_none),
		SESSION_TEST(test_session_interrupts_a_waiting_request),
		SESSION_TEST(test_session_ends_while_requests_wait),
		SESSION_TEST(test_session_gives_memory_back),
		SESSION_TEST(test_session_tells_when_somebody_unmounts_it),
		SESSION_TEST(test_session_names_a_bad_mount_point),
		URING_TEST(test_session_cold_cat_costs_a_lookup_a_component_and_one_read),
		URING_TEST(test_session_answers_hits_while_many_misses_wait),
		URING_TEST(test_session_ends_while_requests_wait),
		PASSTHROUGH_TEST(test_session_passthrough_reads_without_messages),
		PASSTHROUGH_TEST(test_session_passthrough_loses_blobs_as_EIO_at_open),
		cmocka_unit_test(
			test_session_inspection_mount_shows_one_tree_and_digests),
	};

	lazy_enter_namespace();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
