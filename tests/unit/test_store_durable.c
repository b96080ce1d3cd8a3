/* Promises of the store: who waits is told once the disk has it, and not before. */
#include "tests/unit/cas_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "lib/store/store_durable.h"

static struct store *open_store(struct scratch *scratch, enum store_sync sync)
{
	struct store_config config = {
		.dir = scratch->path, .size_limit = 1 << 30, .sync = sync};
	struct store *store = NULL;

	expect_ok(store_open(&config, &store));
	return store;
}

static struct digest put_text(struct store *store, const char *text)
{
	struct digest digest = digest_of(text);

	expect_ok(store_put(store, &digest, text, strlen(text)));
	return digest;
}

struct waiter {
	struct store_wait wait;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int n_told;
	bool has_failed;
};

#define WAITER_INIT                                                                      \
	{                                                                                \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER     \
	}

static void told(void *ctx, const struct error *err)
{
	struct waiter *waiter = ctx;

	(void)pthread_mutex_lock(&waiter->mutex);
	waiter->n_told++;
	waiter->has_failed = err != NULL;
	(void)pthread_cond_signal(&waiter->cond);
	(void)pthread_mutex_unlock(&waiter->mutex);
}

static void await(struct store *store, struct waiter *waiter, uint64_t commit)
{
	waiter->wait.done = told;
	waiter->wait.ctx = waiter;
	if (store_await(store, &waiter->wait, commit))
		return;
	(void)pthread_mutex_lock(&waiter->mutex);
	while (!waiter->n_told)
		(void)pthread_cond_wait(&waiter->cond, &waiter->mutex);
	(void)pthread_mutex_unlock(&waiter->mutex);
}

static void test_a_promise_is_kept_by_a_round(void **state)
{
	const enum store_sync modes[] = {STORE_SYNC_BATCH, STORE_SYNC_BLOB};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct store *store = open_store(*state, modes[i]);
		struct waiter waiter = WAITER_INIT;
		struct digest digest = put_text(store, i ? "one" : "other");

		assert_false(store_is_settled(store));
		assert_int_equal(store_commit_of(store, &digest), 1);
		await(store, &waiter, 1);
		assert_int_equal(waiter.n_told, 1);
		assert_false(waiter.has_failed);
		assert_int_equal(store_n_rounds(store), 1);
		assert_true(store_is_settled(store));
		assert_int_equal(store_commit_of(store, &digest), 0);
		/* again: it is there, and on the disk */
		(void)put_text(store, i ? "one" : "other");
		assert_int_equal(store_commit_of(store, &digest), 0);
		store_close(store);
	}
}

static void test_without_promises_nothing_is_waited_for(void **state)
{
	struct store *store = open_store(*state, STORE_SYNC_NONE);
	struct digest digest = put_text(store, "one");

	assert_true(store_is_settled(store));
	assert_int_equal(store_commit_of(store, &digest), 0);
	assert_int_equal(store_n_rounds(store), 0);
	store_close(store);
}

static void test_many_share_a_round(void **state)
{
	struct store *store = open_store(*state, STORE_SYNC_BATCH);
	struct waiter waiter = WAITER_INIT;
	struct digest last = {0};
	char text[32];

	for (int i = 0; i < 200; i++) {
		(void)snprintf(text, sizeof(text), "blob %d", i);
		last = put_text(store, text);
	}
	assert_int_equal(store_commit_of(store, &last), 200);
	await(store, &waiter, 200);
	assert_int_equal(store_n_rounds(store), 1);
	store_close(store);
}

static void test_a_waiter_may_leave(void **state)
{
	struct store *store = open_store(*state, STORE_SYNC_BATCH);
	struct waiter waiter = WAITER_INIT;

	store_await_end(store, &waiter.wait); /* that never waited */
	waiter.wait.done = told;
	waiter.wait.ctx = &waiter;
	(void)put_text(store, "one");
	(void)store_await(store, &waiter.wait, 1);
	store_await_end(store, &waiter.wait);
	store_await_end(store, &waiter.wait);
	store_close(store);
	assert_in_range(waiter.n_told, 0, 1);
}

static void test_what_was_there_before_is_on_the_disk(void **state)
{
	struct store *store = open_store(*state, STORE_SYNC_BATCH);
	struct digest digest = put_text(store, "one");

	store_close(store);
	store = open_store(*state, STORE_SYNC_BATCH);
	assert_true(store_has(store, &digest));
	assert_int_equal(store_commit_of(store, &digest), 0);
	store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define WITH_SCRATCH(test)                                                               \
	cmocka_unit_test_setup_teardown(test, scratch_make, scratch_drop)
		WITH_SCRATCH(test_a_promise_is_kept_by_a_round),
		WITH_SCRATCH(test_without_promises_nothing_is_waited_for),
		WITH_SCRATCH(test_many_share_a_round),
		WITH_SCRATCH(test_a_waiter_may_leave),
		WITH_SCRATCH(test_what_was_there_before_is_on_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
