/*
 * Stores whose process was killed in the middle of work, stores that several processes
 * share, machines that "crashed" (the boot id in the index is changed, files are torn),
 * and many threads on one store.
 */
#include "tests/unit/cas_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/store/store.h"
#include "lib/store/store_file.h"
#include "lib/store/store_index.h"

#define BLOB_MAX 20000

static struct store *open_at(const struct scratch *scratch, bool is_shared, int64_t limit)
{
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	struct store_config config = {
		.dir = dir, .is_shared = is_shared, .size_limit = limit};
	struct store *store = NULL;

	expect_ok(store_open(&config, &store));
	return store;
}

/* The ith blob: a text of its own, of a length of its own. */
static struct digest blob_of(unsigned int i, char text[static BLOB_MAX], size_t *len_out)
{
	struct digest digest;
	size_t len = (size_t)i * 7919 % (BLOB_MAX - 32) + 16;

	memset(text, 'a' + (int)(i % 26), len);
	(void)snprintf(text, 16, "%015u", i);
	hasher_digest(text, len, &digest);
	*len_out = len;
	return digest;
}

static struct digest put(struct store *store, unsigned int i)
{
	char text[BLOB_MAX];
	size_t len;
	struct digest digest = blob_of(i, text, &len);

	expect_ok(store_put(store, &digest, text, len));
	return digest;
}

static bool can_get(struct store *store, const struct digest *digest)
{
	_cleanup_fd_ int fd = -1;

	expect_ok(store_get(store, digest, &fd));
	if (fd >= 0)
		expect_ok(hasher_verify_fd(fd, digest));
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

static void tear(const struct scratch *scratch, const struct digest *digest)
{
	char path[STORE_PATH_MAX + 2] = "s/";
	_cleanup_fd_ int fd = -1;
	struct stat st;

	(void)store_file_path(digest, path + 2);
	fd = openat(scratch->fd, path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	/* as a crash may leave it: the size is there, the bytes are not */
	assert_int_equal(ftruncate(fd, 1), 0);
	assert_int_equal(ftruncate(fd, st.st_size), 0);
}

/* As if the machine had been started anew since. */
static void reboot(const struct scratch *scratch)
{
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	_cleanup_(store_index_closep) struct store_index *index = NULL;

	expect_ok(store_index_open(dir, &index));
	expect_ok(store_index_begin(index));
	expect_ok(store_index_end(index, store_index_set_note(index, "boot", "another")));
}

/* A child that works until it is killed, telling how far it has come on its stdout. This
 * program started again, since a process with threads should not fork. */

static void child_work(const char *path, bool is_shared)
{
	struct scratch scratch = {.fd = -1};
	struct store *store;
	char text[BLOB_MAX];

	(void)snprintf(scratch.path, sizeof(scratch.path), "%s", path);
	store = open_at(&scratch, is_shared, (int64_t)1 << 30);
	for (unsigned int i = 0;; i++) {
		struct staged *staged = NULL;
		size_t len;
		struct digest digest = blob_of(i, text, &len);

		expect_ok(staged_open(store, &digest, true, &staged));
		expect_ok(staged_write(staged, text, len / 2));
		expect_ok(staged_write(staged, text + len / 2, len - len / 2));
		expect_ok(staged_commit(staged, NULL));
		if (write(STDOUT_FILENO, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

/* Returns how many blobs it had committed for certain. */
static unsigned int run_and_kill(const struct scratch *scratch, bool is_shared,
				 unsigned int n_wanted)
{
	unsigned int n = 0;
	unsigned int i;
	char *argv[] = {(char[]){"child"}, (char *)scratch->path,
			is_shared ? (char[]){"shared"} : NULL, NULL};
	posix_spawn_file_actions_t actions;
	int pipe_fds[2];
	int status;
	pid_t pid;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(
		posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO),
		0);
	assert_int_equal(
		posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(pipe_fds[1]);
	while (n < n_wanted && read(pipe_fds[0], &i, sizeof(i)) == sizeof(i))
		n = i + 1;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	while (read(pipe_fds[0], &i, sizeof(i)) == sizeof(i))
		n = i + 1;
	(void)close(pipe_fds[0]);
	return n;
}

static bool staging_is_clean(const struct scratch *scratch)
{
	_cleanup_free_ char *command = alloc_printf(
		"test $(find %s/s/staging -mindepth 2 | wc -l) = 0", scratch->path);

	return system(command) == 0;
}

static void test_store_survives_kill_in_the_middle_of_writes(void **state)
{
	const struct scratch *scratch = *state;

	for (unsigned int round = 1; round <= 5; round++) {
		unsigned int n = run_and_kill(scratch, false, round * 37);
		struct store *store = open_at(scratch, false, (int64_t)1 << 30);
		char text[BLOB_MAX];
		size_t len;

		assert_true(n >= round * 37);
		assert_true(staging_is_clean(scratch));
		for (unsigned int i = 0; i < n; i++) {
			struct digest digest = blob_of(i, text, &len);

			assert_true(can_verify(store, &digest));
			assert_true(can_get(store, &digest));
		}
		assert_int_equal(stats_of(store).n_corrupt, 0);
		if (round == 1)
			assert_true(stats_of(store).n_verified > 0);
		store_close(store);
	}
}

static void test_store_verifies_after_a_crash_of_the_machine(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = open_at(scratch, false, (int64_t)1 << 30);
	struct digest durable = put(store, 0);
	struct digest torn;
	struct digest whole;
	char text[BLOB_MAX];
	size_t len;

	store_close(store);
	/* the killed child did not flush: what it added is unknown to the index */
	assert_true(run_and_kill(scratch, false, 3) >= 3);
	torn = blob_of(1, text, &len);
	whole = blob_of(2, text, &len);
	tear(scratch, &torn);
	reboot(scratch);
	store = open_at(scratch, false, (int64_t)1 << 30);
	assert_true(can_get(store, &durable)); /* on the disk, and known to be */
	assert_false(can_get(store, &whole));
	assert_true(can_verify(store, &whole));
	assert_false(can_verify(store, &torn));
	assert_false(store_has(store, &torn));
	assert_int_equal(stats_of(store).n_corrupt, 1);
	put(store, 1);
	assert_true(can_get(store, &torn));
	store_close(store);
}

static void test_store_flush_makes_blobs_durable(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = open_at(scratch, false, (int64_t)1 << 30);
	struct digest digest = put(store, 5);
	pid_t pid;
	int status;

	store_close(store);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		store = open_at(scratch, false, (int64_t)1 << 30);
		put(store, 6);
		expect_ok(store_flush(store));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	reboot(scratch);
	store = open_at(scratch, false, (int64_t)1 << 30);
	assert_true(can_get(store, &digest));
	digest = put(store, 6); /* already there: not written again, and not suspect */
	assert_true(can_get(store, &digest));
	assert_int_equal(stats_of(store).n_verified, 0);
	store_close(store);
}

/* Shared stores */

static void test_shared_stores_see_each_others_blobs(void **state)
{
	const struct scratch *scratch = *state;
	struct store *one = open_at(scratch, true, (int64_t)1 << 30);
	struct store *two = open_at(scratch, true, (int64_t)1 << 30);
	_cleanup_free_ char *command = alloc_printf(
		"test $(find %s/s/staging -mindepth 1 | wc -l) = 2", scratch->path);
	struct digest digest = put(one, 1);

	/* two did not take the staging directory of one for a dead process's */
	assert_int_equal(system(command), 0);
	assert_true(can_get(two, &digest));
	assert_true(store_has(two, &digest));
	store_remove(two, &digest);
	assert_false(can_get(one, &digest));
	assert_false(store_has(one, &digest));
	digest = put(two, 1);
	assert_true(can_get(one, &digest));
	store_close(one);
	assert_true(can_get(two, &digest));
	store_close(two);
}

static void test_shared_store_outlives_a_killed_process(void **state)
{
	const struct scratch *scratch = *state;
	struct store *other = open_at(scratch, true, (int64_t)1 << 30);
	unsigned int n = run_and_kill(scratch, true, 50);
	struct store *store = open_at(scratch, true, (int64_t)1 << 30);
	char text[BLOB_MAX];
	size_t len;

	for (unsigned int i = 0; i < n; i++) {
		struct digest digest = blob_of(i, text, &len);

		/* a kill cannot tear what was renamed: no hashing needed */
		assert_true(can_get(other, &digest));
		assert_true(can_get(store, &digest));
	}
	assert_int_equal(stats_of(store).n_verified, 0);
	assert_true(staging_is_clean(scratch));
	/* its thread takes stock, so that they can be evicted */
	while (stats_of(store).n_blobs < n)
		clock_sleep_ms(5);
	store_close(other);
	store_close(store);
}

static void test_shared_store_verifies_after_a_crash_of_the_machine(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = open_at(scratch, true, (int64_t)1 << 30);
	struct digest torn = put(store, 1);
	struct digest whole = put(store, 2);
	struct digest unindexed;

	store_close(store);
	assert_true(run_and_kill(scratch, true, 8) >= 8);
	char text[BLOB_MAX];
	size_t len;

	unindexed = blob_of(7, text, &len);
	tear(scratch, &torn);
	reboot(scratch);
	store = open_at(scratch, true, (int64_t)1 << 30);
	assert_false(can_get(store, &torn));
	assert_false(can_get(store, &whole));
	assert_false(can_get(store, &unindexed));
	assert_false(can_verify(store, &torn));
	assert_true(can_verify(store, &whole));
	assert_true(can_verify(store, &unindexed));
	assert_true(can_get(store, &whole));
	assert_int_equal(stats_of(store).n_corrupt, 1);
	store_close(store);
	store = open_at(scratch, true, (int64_t)1 << 30);
	assert_true(can_get(store, &whole));
	assert_int_equal(stats_of(store).n_verified, 0);
	store_close(store);
}

static void test_shared_store_without_its_index_hashes(void **state)
{
	const struct scratch *scratch = *state;
	struct store *store = open_at(scratch, true, (int64_t)1 << 30);
	struct digest digest = put(store, 1);

	store_close(store);
	assert_int_equal(unlinkat(scratch->fd, "s/index.sqlite", 0), 0);
	store = open_at(scratch, true, (int64_t)1 << 30);
	assert_false(can_get(store, &digest));
	assert_true(can_verify(store, &digest));
	assert_int_equal(stats_of(store).n_blobs, 1);
	store_close(store);
	scratch_write(scratch, "s/index.sqlite", "this is no database at all", 0644);
	store = open_at(scratch, true, (int64_t)1 << 30);
	assert_true(can_verify(store, &digest));
	store_close(store);
}

static void test_shared_stores_hold_their_limit_together(void **state)
{
	const struct scratch *scratch = *state;
	struct store *one = open_at(scratch, true, 200000);
	struct store *two = open_at(scratch, true, 200000);
	struct digest first = put(one, 1);
	struct digest last = {0};

	expect_ok(store_flush(one));
	for (unsigned int i = 2; i < 40; i++)
		last = put(i % 2 ? one : two, i);
	expect_ok(store_flush(two));
	expect_ok(store_flush(one));
	put(one, 40);
	while (stats_of(one).bytes > 200000)
		clock_sleep_ms(5);
	assert_true(stats_of(one).n_evicted > 0);
	assert_false(can_get(one, &first)); /* the least recently used */
	assert_true(can_get(one, &last));
	store_close(one);
	store_close(two);
}

/* Threads */

#define N_THREADS 4
#define N_ROUNDS  1500
#define N_BLOBS   64

struct crowd {
	struct store *store;
	_Atomic unsigned int n_got;
};

struct crowd_member {
	pthread_t thread;
	struct crowd *crowd;
	uint32_t seed;
};

static void *crowd_run(void *arg)
{
	struct crowd_member *member = arg;
	struct store *store = member->crowd->store;
	char text[BLOB_MAX];
	size_t len;

	for (int round = 0; round < N_ROUNDS; round++) {
		member->seed = member->seed * 1664525u + 1013904223u;
		struct digest digest =
			blob_of(member->seed >> 8 & (N_BLOBS - 1), text, &len);

		switch (member->seed >> 20 & 7) {
		case 0:
		case 1:
		case 2:
			expect_ok(store_put(store, &digest, text, len));
			break;
		case 3:
			(void)store_has(store, &digest);
			break;
		case 4:
			store_remove(store, &digest);
			break;
		default:
			atomic_fetch_add(&member->crowd->n_got, can_get(store, &digest));
			break;
		}
	}
	return NULL;
}

/* can_get() hashes whatever it gets: no wrong byte, however they race. */
static void crowd(const struct scratch *scratch, bool is_shared)
{
	struct crowd crowd = {.store = open_at(scratch, is_shared, 300000)};
	struct crowd_member members[N_THREADS];

	for (uint32_t i = 0; i < N_THREADS; i++) {
		members[i] = (struct crowd_member){.crowd = &crowd, .seed = i * 77 + 1};
		assert_int_equal(
			pthread_create(&members[i].thread, NULL, crowd_run, &members[i]),
			0);
	}
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(members[i].thread, NULL), 0);
	assert_true(crowd.n_got > 0);
	expect_ok(store_flush(crowd.store));
	if (!is_shared)
		assert_true(stats_of(crowd.store).bytes <= 300000);
	store_close(crowd.store);
	assert_true(staging_is_clean(scratch));
}

/* The files and what the store says of them must agree after the storm. */
static void test_store_stays_consistent_under_threads(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *command =
		alloc_printf("find %s/s/blobs -type f -printf '%%s\\n' | awk '{n++; "
			     "s+=$1} END {print n+0, "
			     "s+0}'",
			     scratch->path);
	struct store_stats stats;
	struct store *store;
	long n = 0;
	long bytes = 0;
	FILE *pipe;

	crowd(scratch, false);
	store = open_at(scratch, false, 300000);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%ld %ld", &n, &bytes), 2);
	(void)pclose(pipe);
	stats = stats_of(store);
	assert_int_equal(stats.n_blobs, n);
	assert_int_equal(stats.bytes, bytes);
	store_close(store);
}

static void test_shared_store_stays_consistent_under_threads(void **state)
{
	crowd(*state, true);
}

struct twin {
	pthread_t thread;
	pthread_barrier_t *start;
	struct store *store;
	unsigned int n_lost;
};

/* What one has put is there for it at once, whatever the other does. */
static void *twin_run(void *arg)
{
	struct twin *twin = arg;
	char text[BLOB_MAX];
	size_t len;

	for (unsigned int i = 0; i < 2000; i++) {
		struct digest digest = blob_of(i, text, &len);
		int fd = -1;

		(void)pthread_barrier_wait(twin->start);
		expect_ok(store_put(twin->store, &digest, text, len));
		expect_ok(store_get_verified(twin->store, &digest, &fd));
		if (fd < 0)
			twin->n_lost++;
		else
			(void)close(fd);
	}
	return NULL;
}

static void test_shared_stores_that_put_the_same_both_have_it(void **state)
{
	pthread_barrier_t start;
	struct twin twins[2];

	assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
	for (int i = 0; i < 2; i++)
		twins[i] = (struct twin){.start = &start,
					 .store = open_at(*state, true, 1 << 30)};
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&twins[i].thread, NULL, twin_run, &twins[i]), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(twins[i].thread, NULL), 0);
		assert_int_equal(twins[i].n_lost, 0);
		store_close(twins[i].store);
	}
	assert_int_equal(pthread_barrier_destroy(&start), 0);
	assert_true(staging_is_clean(*state));
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_store_survives_kill_in_the_middle_of_writes),
		TEST(test_store_verifies_after_a_crash_of_the_machine),
		TEST(test_store_flush_makes_blobs_durable),
		TEST(test_shared_stores_see_each_others_blobs),
		TEST(test_shared_store_outlives_a_killed_process),
		TEST(test_shared_store_verifies_after_a_crash_of_the_machine),
		TEST(test_shared_store_without_its_index_hashes),
		TEST(test_shared_stores_hold_their_limit_together),
		TEST(test_store_stays_consistent_under_threads),
		TEST(test_shared_store_stays_consistent_under_threads),
		TEST(test_shared_stores_that_put_the_same_both_have_it),
	};

	if (argc > 1)
		child_work(argv[1], argc > 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
