/*
 * The fetcher: how many calls it makes, in which order, who is charged for them, and what
 * it does with answers that are late, wrong or none.
 */
#include "lib/base/clock.h"
#include "tests/unit/net_fixture.h"

#define MIB     ((size_t)1 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

enum { ATTEMPTS = 5 }; /* of the fetcher, for one blob */

/* ---- one fetch for many --------------------------------------------------------- */

enum { THREADS = 32, SPREAD_NS = 15000 };

struct wanting {
	struct net *net;
	const struct digest *digest;
	pthread_barrier_t barrier;
	bool is_spread; /* they come one after the other, not all at once */
	atomic_int n_come;
	atomic_size_t n_good;
};

static void *want(void *arg)
{
	struct wanting *wanting = arg;
	struct error *err;
	int fd = -1;

	(void)pthread_barrier_wait(&wanting->barrier);
	if (wanting->is_spread) {
		int64_t start_ns = clock_mono_ns();
		int64_t after_ns = atomic_fetch_add(&wanting->n_come, 1) * SPREAD_NS;

		while (clock_mono_ns() < start_ns + after_ns)
			;
	}
	err = fetch_fd(wanting->net->fetch, wanting->digest, NULL, &fd);
	if (!err)
		err = hasher_verify_fd(fd, wanting->digest);
	if (!err)
		atomic_fetch_add(&wanting->n_good, 1);
	error_free(err);
	if (fd >= 0)
		(void)close(fd);
	return NULL;
}

/* All threads want this blob; how many of them get it whole. */
static size_t want_at_once(struct net *net, const struct digest *digest, bool is_held)
{
	struct wanting wanting = {.net = net, .digest = digest, .is_spread = !is_held};
	pthread_t threads[THREADS];
	struct fetch_stats stats = {0};

	assert_int_equal(pthread_barrier_init(&wanting.barrier, NULL, THREADS), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, want, &wanting), 0);
	while (is_held && stats.n_joined < THREADS - 1) {
		(void)sched_yield();
		fetch_stats(net->fetch, &stats);
	}
	fake_release(net->fake);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	(void)pthread_barrier_destroy(&wanting.barrier);
	return wanting.n_good;
}

static void test_fetch_of_one_blob_by_many_is_one_call(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100000, true);

	(void)state;
	fake_hold(net->fake, FAKE_BATCH_READ);
	assert_int_equal(want_at_once(net, &digest, true), THREADS);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_BATCH_READ), 1);
}

static void test_fetch_of_one_large_blob_by_many_is_one_stream(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	struct digest digest = net_blob(net, 1, 100000, true);

	(void)state;
	fake_hold(net->fake, FAKE_READ);
	assert_int_equal(want_at_once(net, &digest, true), THREADS);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
}

/* Whoever comes as the fetch ends finds the blob in the store, and does not fetch anew.
 */
static void test_fetch_leaves_no_gap_between_flight_and_store(void **state)
{
	enum { ROUNDS = 200 };
	_cleanup_net_ struct net *net = net_new(NULL);

	(void)state;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct digest digest = net_blob(net, i, 20, true);

		assert_int_equal(want_at_once(net, &digest, false), THREADS);
		assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digest), 1);
	}
}

static void test_fetch_tells_all_that_wait_of_a_failure(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, false);
	struct net_answers answers = NET_ANSWERS(10);

	(void)state;
	fake_hold(net->fake, FAKE_BATCH_READ);
	for (size_t i = 0; i < 10; i++)
		net_start(net, &digest, 1, FETCH_DEMAND, &answers);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), 0);
	assert_int_equal(answers.code, ERROR_NOT_FOUND);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digest), 1);
}

/* ---- calls ---------------------------------------------------------------------- */

static void test_fetch_of_a_stored_blob_asks_nobody(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, true);
	struct fetch_account account = {0};
	struct net_answers answers = NET_ANSWERS(1);
	struct fetch_stats stats;
	int fd = -1;

	(void)state;
	expect_ok(fetch_fd(net->fetch, &digest, NULL, &fd));
	net_expect_fd(fd, &digest);
	fetch_start(net->fetch, &digest, &account, net_answered, &answers);
	assert_int_equal(answers.n_left, 0); /* answered before it returned */
	assert_int_equal(answers.n_good, 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	assert_int_equal(account.blobs + account.bytes + account.round_trips, 0);
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.n_hits, 1);
	assert_int_equal(stats.n_blobs, 1);
}

static void test_fetch_sends_serial_misses_one_by_one(void **state)
{
	enum { N = 20 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, 100, N, digests);
	for (size_t i = 0; i < N; i++) {
		int fd = -1;

		expect_ok(fetch_fd(net->fetch, &digests[i], NULL, &fd));
		net_expect_fd(fd, &digests[i]);
	}
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), N);
}

/* As many calls as may be in flight, each with one blob, none of them answered. */
static void fill_flights(struct net *net, struct net_answers *answers)
{
	struct digest digests[FETCH_IN_FLIGHT_MAX];

	net_blobs(net, 1000, 50, FETCH_IN_FLIGHT_MAX, digests);
	fake_hold(net->fake, FAKE_BATCH_READ);
	for (size_t i = 0; i < FETCH_IN_FLIGHT_MAX; i++) {
		net_start(net, &digests[i], 1, FETCH_DEMAND, answers);
		fake_await_held(net->fake, i + 1);
	}
}

static void test_fetch_gathers_what_cannot_be_sent_yet(void **state)
{
	enum { N = 100 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N);
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, 1000, N, digests);
	fill_flights(net, &answers);
	net_start(net, digests, N, FETCH_DEMAND, &answers);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), FETCH_IN_FLIGHT_MAX);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ),
			 FETCH_IN_FLIGHT_MAX + 1);
	assert_int_equal(
		fake_call(net->fake, FAKE_BATCH_READ, FETCH_IN_FLIGHT_MAX).n_blobs, N);
}

static void test_fetch_keeps_batches_below_the_servers_limit(void **state)
{
	enum { N = 40, LIMIT = 5000, SIZE = 700 };
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = LIMIT});
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N);
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, SIZE, N, digests);
	fill_flights(net, &answers);
	net_start(net, digests, N / 2, FETCH_DEMAND, &answers);
	net_start(net, digests + N / 2, N / 2, FETCH_PREFETCH, &answers);
	fake_release(net->fake);
	/* the fake refuses what is over its limit */
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N);
}

static void test_fetch_streams_what_no_batch_can_hold(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	struct digest just = net_blob(net, 1, 1000, true);
	struct digest over = net_blob(net, 2, 1001, true);
	struct fetch_stats stats;
	int fd = -1;

	(void)state;
	expect_ok(fetch_fd(net->fetch, &just, NULL, &fd));
	net_expect_fd(fd, &just);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 0);
	expect_ok(fetch_fd(net->fetch, &over, NULL, &fd));
	net_expect_fd(fd, &over);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.n_batches, 1);
	assert_int_equal(stats.n_streams, 1);
	assert_int_equal(stats.bytes, 2001);
}

static void test_fetch_goes_on_where_a_stream_broke(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 6 * MIB, true);
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_READ,
						    .at = 5000000,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(fetch_fd(net->fetch, &digest, NULL, &fd));
	net_expect_fd(fd, &digest);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 2);
	assert_int_equal(fake_call(net->fake, FAKE_READ, 1).offset, 5000000);
}

/* ---- priorities ----------------------------------------------------------------- */

/* Lets one of the calls in flight end; which the next one then is. */
static struct fake_call call_after_one(struct net *net)
{
	fake_release_one(net->fake);
	fake_await_held(net->fake, FETCH_IN_FLIGHT_MAX);
	return fake_call(net->fake, FAKE_BATCH_READ, FETCH_IN_FLIGHT_MAX);
}

static void test_fetch_sends_demand_before_prefetch(void **state)
{
	enum { N = 10 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N + 1);
	struct digest wanted = net_blob(net, 500, 100, true);
	struct digest ahead[N];
	struct fake_call next;

	(void)state;
	net_blobs(net, 1, 100, N, ahead);
	fill_flights(net, &answers);
	net_start(net, ahead, N, FETCH_PREFETCH, &answers);
	net_start(net, &wanted, 1, FETCH_DEMAND, &answers);
	next = call_after_one(net);
	assert_true(digest_equal(&next.first, &wanted));
	assert_int_equal(next.n_blobs, 1);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N + 1);
}

static void test_fetch_raises_a_prefetch_that_is_wanted(void **state)
{
	enum { N = 10 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N + 1);
	struct digest ahead[N];
	struct fake_call next;

	(void)state;
	net_blobs(net, 1, 100, N, ahead);
	fill_flights(net, &answers);
	net_start(net, ahead, N, FETCH_PREFETCH, &answers);
	net_start(net, &ahead[N - 1], 1, FETCH_DEMAND, &answers);
	next = call_after_one(net);
	assert_true(digest_equal(&next.first, &ahead[N - 1]));
	assert_int_equal(next.n_blobs, 1);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N + 1);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &ahead[N - 1]), 1);
}

static void test_fetch_keeps_room_beside_prefetches(void **state)
{
	enum { N = 20, AT_MOST = 8 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(N + 1);
	struct digest wanted = net_blob(net, 500, 100, true);
	struct digest ahead[N];
	struct fake_call next;

	(void)state;
	net_blobs(net, 1, 600 << 10, N, ahead); /* a batch each */
	fake_hold(net->fake, FAKE_BATCH_READ);
	net_start(net, ahead, N, FETCH_PREFETCH, &answers);
	fake_await_held(net->fake, AT_MOST);
	net_start(net, &wanted, 1, FETCH_DEMAND, &answers);
	fake_await_held(net->fake, AT_MOST + 1);
	next = fake_call(net->fake, FAKE_BATCH_READ, AT_MOST);
	assert_true(digest_equal(&next.first, &wanted));
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), N + 1);
}

static void test_fetch_is_not_held_up_by_large_prefetches(void **state)
{
	enum { N = 30, AT_MOST = FETCH_STREAMS_MAX - 1 };
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	struct net_answers ahead_answers = NET_ANSWERS(N);
	struct net_answers answers = NET_ANSWERS(2);
	struct digest small = net_blob(net, 500, 100, true);
	struct digest ahead[N];
	struct fake_call next;
	int fd = -1;

	(void)state;
	net_blobs(net, 1, 2000, N, ahead);
	fake_hold(net->fake, FAKE_READ);
	net_start(net, ahead, N, FETCH_PREFETCH, &ahead_answers);
	fake_await_held(net->fake, AT_MOST);
	/* small ones pass by */
	expect_ok(fetch_fd(net->fetch, &small, NULL, &fd));
	net_expect_fd(fd, &small);
	/* and one stream is free for a large one, here the last in the queue */
	net_start(net, &ahead[N - 1], 1, FETCH_DEMAND, &answers);
	net_start(net, &ahead[N - 2], 1, FETCH_DEMAND, &answers);
	fake_await_held(net->fake, FETCH_STREAMS_MAX);
	next = fake_call(net->fake, FAKE_READ, AT_MOST);
	assert_true(digest_equal(&next.first, &ahead[N - 1]));
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), FETCH_STREAMS_MAX);
	fake_release_one(net->fake);
	fake_await_held(net->fake, FETCH_STREAMS_MAX);
	next = fake_call(net->fake, FAKE_READ, FETCH_STREAMS_MAX);
	assert_true(digest_equal(&next.first, &ahead[N - 2]));
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), 2);
	assert_int_equal(net_await(&ahead_answers), N);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), N);
}

/* ---- wishes --------------------------------------------------------------------- */

static void test_fetch_asks_once_for_a_wish_that_fails(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, true);
	struct net_answers answers = NET_ANSWERS(1);
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_BATCH_READ,
						    .n_times = 1,
						    AT_ONCE});
	net_start(net, &digest, 1, FETCH_PREFETCH, &answers);
	assert_int_equal(net_await(&answers), 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	expect_ok(fetch_fd(net->fetch, &digest, NULL, &fd));
	net_expect_fd(fd, &digest);
}

static void test_fetch_tries_again_a_wish_that_is_needed(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, true);
	struct net_answers answers = NET_ANSWERS(2);

	(void)state;
	fake_hold(net->fake, FAKE_BATCH_READ);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_BATCH_READ,
						    .n_times = 1,
						    AT_ONCE});
	net_start(net, &digest, 1, FETCH_PREFETCH, &answers);
	fake_await_held(net->fake, 1);
	net_start(net, &digest, 1, FETCH_DEMAND, &answers); /* joins it */
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), 2);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digest), 2);
}

static void test_fetch_drops_wishes_that_nobody_has(void **state)
{
	enum { N = 10 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers flights = NET_ANSWERS(FETCH_IN_FLIGHT_MAX);
	struct net_answers mine = NET_ANSWERS(N);
	struct net_answers others = NET_ANSWERS(1);
	struct net_answers needed = NET_ANSWERS(1);
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, 100, N, digests);
	fill_flights(net, &flights);
	net_start(net, digests, N, FETCH_PREFETCH, &mine);
	net_start(net, &digests[0], 1, FETCH_PREFETCH, &others);
	net_start(net, &digests[1], 1, FETCH_DEMAND, &needed);
	fetch_cancel_wishes(net->fetch, &mine);
	assert_int_equal(net_await(&mine), 0);
	assert_int_equal(mine.code, ERROR_CANCELLED);
	fake_release(net->fake);
	assert_int_equal(net_await(&flights), FETCH_IN_FLIGHT_MAX);
	assert_int_equal(net_await(&others), 1);
	assert_int_equal(net_await(&needed), 1);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digests[i]),
				 i < 2);
}

static void test_fetch_charges_who_still_waits(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + 2);
	struct fetch_account gone = {0}, stays = {0};
	const struct digest digest = net_blob(net, 1, 100, true);
	const struct fetch_wish wish = {digest, &gone, net, net_wished, &answers};

	(void)state;
	fill_flights(net, &answers);
	fetch_wish(net->fetch, &wish, 1);
	fetch_start(net->fetch, &digest, &stays, net_answered, &answers);
	fetch_cancel_wishes(net->fetch, net); /* its account may be freed now */
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + 1);
	assert_int_equal(stays.blobs + stays.bytes + stays.round_trips, 1 + 100 + 1);
}

static void test_fetch_knows_what_is_waited_for(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(3);
	struct digest digests[2];
	struct fetch_way way;

	(void)state;
	net_blobs(net, 1, 100, 2, digests);
	fake_hold(net->fake, FAKE_BATCH_READ);
	net_start(net, digests, 2, FETCH_PREFETCH, &answers);
	fetch_way(net->fetch, &way);
	assert_int_equal(way.demand_waiting, 0);
	assert_int_equal(way.rtt_ns, 0);
	net_start(net, &digests[0], 1, FETCH_DEMAND, &answers);
	fetch_way(net->fetch, &way);
	assert_int_equal(way.demand_waiting, 100);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), 3);
	fetch_way(net->fetch, &way);
	assert_int_equal(way.demand_waiting, 0);
	assert_true(way.rtt_ns > 0);
}

/* ---- what comes back ------------------------------------------------------------ */

/* Fetches one blob past a fault; small ones by batch. */
static struct error *fetch_past(struct net *net, size_t size, struct fake_fault fault,
				struct digest *digest_out)
{
	struct error *err;
	int fd = -1;

	*digest_out = net_blob(net, 1, size, true);
	fault.method = size > MIB * 4 ? FAKE_READ : FAKE_BATCH_READ;
	fault.digest = digest_out;
	fake_script(net->fake, &fault);
	err = fetch_fd(net->fetch, digest_out, NULL, &fd);
	if (!err)
		net_expect_fd(fd, digest_out);
	return err;
}

static void recovers_from(size_t size, struct fake_fault fault)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest;

	fault.n_times = 1;
	expect_ok(fetch_past(net, size, fault, &digest));
	assert_true(store_has(net->store, &digest));
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digest) +
				 fake_n_asked(net->fake, FAKE_READ, &digest),
			 2);
}

static void fails_for_good(size_t size, struct fake_fault fault, enum error_code code,
			   size_t n_asked)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest;
	char name[DIGEST_STRING_MAX];
	struct error *err;

	err = fetch_past(net, size, fault, &digest);
	expect_error(err, code, digest_format(&digest, name));
	net_expect_not_stored(net, &digest);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &digest) +
				 fake_n_asked(net->fake, FAKE_READ, &digest),
			 n_asked);
}

static void test_fetch_asks_again_for_what_came_wrong(void **state)
{
	(void)state;
	recovers_from(1000, (struct fake_fault){.kind = FAKE_CORRUPT, .at = 999});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_TRUNCATE, .at = 10});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_EXTEND, .at = 1});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_OMIT});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_GARBAGE});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_FAIL, AT_ONCE});
	recovers_from(1000, (struct fake_fault){.kind = FAKE_REFUSE, AT_ONCE});
	recovers_from(5 * MIB, (struct fake_fault){.kind = FAKE_CORRUPT, .at = MIB});
	recovers_from(5 * MIB, (struct fake_fault){.kind = FAKE_TRUNCATE, .at = MIB});
	recovers_from(5 * MIB, (struct fake_fault){.kind = FAKE_EXTEND, .at = MIB});
}

static void test_fetch_never_hands_out_what_stays_wrong(void **state)
{
	(void)state;
	fails_for_good(1000, (struct fake_fault){.kind = FAKE_CORRUPT}, ERROR_DATA_LOSS,
		       ATTEMPTS);
	fails_for_good(1000, (struct fake_fault){.kind = FAKE_TRUNCATE, .at = 999},
		       ERROR_DATA_LOSS, ATTEMPTS);
	fails_for_good(1000, (struct fake_fault){.kind = FAKE_OMIT}, ERROR_DATA_LOSS,
		       ATTEMPTS);
	fails_for_good(5 * MIB, (struct fake_fault){.kind = FAKE_CORRUPT},
		       ERROR_DATA_LOSS, ATTEMPTS);
}

static void test_fetch_gives_up_in_the_end(void **state)
{
	(void)state;
	fails_for_good(1000, (struct fake_fault){.kind = FAKE_FAIL, AT_ONCE},
		       ERROR_UNAVAILABLE, ATTEMPTS);
	fails_for_good(1000, (struct fake_fault){.kind = FAKE_REFUSE, AT_ONCE},
		       ERROR_UNAVAILABLE, ATTEMPTS);
	fails_for_good(5 * MIB, (struct fake_fault){.kind = FAKE_FAIL, AT_ONCE},
		       ERROR_UNAVAILABLE, NET_RETRIES + 1);
}

static void test_fetch_takes_no_for_an_answer(void **state)
{
	struct fake_fault fault = {.kind = FAKE_FAIL, .code = ERROR_PERMISSION_DENIED};

	(void)state;
	fails_for_good(1000, fault, ERROR_PERMISSION_DENIED, 1);
	fault.kind = FAKE_REFUSE;
	fails_for_good(1000, fault, ERROR_PERMISSION_DENIED, 1);
	fails_for_good(5 * MIB, fault, ERROR_PERMISSION_DENIED, 1);
}

static void test_fetch_takes_an_answer_given_twice(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest;
	struct fetch_stats stats;

	(void)state;
	expect_ok(
		fetch_past(net, 1000, (struct fake_fault){.kind = FAKE_TWICE}, &digest));
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.n_blobs, 1);
}

static void test_fetch_ignores_what_it_did_not_ask_for(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest;
	struct fetch_stats stats;

	(void)state;
	expect_ok(fetch_past(net, 1000, (struct fake_fault){.kind = FAKE_UNASKED},
			     &digest));
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.n_blobs, 1);
}

static void test_fetch_says_which_blob_is_lost(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	struct digest small = net_blob(net, 1, 100, false);
	struct digest large = net_blob(net, 2, 2000, false);
	int fd = -1;

	(void)state;
	net_expect_missing(fetch_fd(net->fetch, &small, NULL, &fd), &small);
	net_expect_missing(fetch_fd(net->fetch, &large, NULL, &fd), &large);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
}

static void test_fetch_of_the_others_goes_on_without_the_lost(void **state)
{
	enum { N = 20 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N);
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, 100, N, digests);
	fake_drop(net->fake, &digests[3]);
	fill_flights(net, &answers);
	net_start(net, digests, N, FETCH_DEMAND, &answers); /* one batch */
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N - 1);
	assert_int_equal(answers.code, ERROR_NOT_FOUND);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ),
			 FETCH_IN_FLIGHT_MAX + 1);
}

static void test_fetch_does_not_wait_for_ever(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 200});
	struct digest digest;

	(void)state;
	expect_error(
		fetch_past(net, 1000, (struct fake_fault){.kind = FAKE_STALL}, &digest),
		ERROR_DEADLINE_EXCEEDED, NULL);
	net_expect_not_stored(net, &digest);
}

static void test_fetch_gets_over_one_answer_that_never_comes(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 2000});
	struct digest digest;

	(void)state;
	expect_ok(fetch_past(net, 1000,
			     (struct fake_fault){.kind = FAKE_STALL, .n_times = 1},
			     &digest));
}

static void test_fetch_without_a_remote_says_what_is_missing(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(fetch_freep) struct fetch *fetch = NULL;
	struct fetch_config config = {.store = net->store, .pool = net->pool};
	struct digest digest = net_blob(net, 1, 100, true);
	int fd = -1;

	(void)state;
	expect_ok(fetch_new(&config, &fetch));
	net_expect_missing(fetch_fd(fetch, &digest, NULL, &fd), &digest);
}

static void test_fetch_reads_into_memory_within_a_limit(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, true);
	_cleanup_buf_ struct buf want = BUF_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	expect_error(fetch_bytes(net->fetch, &digest, 99, NULL, &bytes),
		     ERROR_INVALID_ARGUMENT, "limit");
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
	net_bytes(1, 100, &want);
	expect_ok(fetch_bytes(net->fetch, &digest, 100, NULL, &bytes));
	assert_true(slice_equal(buf_slice(&bytes), buf_slice(&want)));
}

/* ---- accounts ------------------------------------------------------------------- */

static void expect_account(const struct fetch_account *account, uint64_t round_trips,
			   uint64_t blobs, uint64_t bytes)
{
	assert_int_equal(account->round_trips, round_trips);
	assert_int_equal(account->blobs, blobs);
	assert_int_equal(account->bytes, bytes);
}

static void test_fetch_charges_everybody_once_for_a_shared_call(void **state)
{
	enum { N = 10 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct net_answers answers = NET_ANSWERS(FETCH_IN_FLIGHT_MAX + N);
	struct fetch_account accounts[2] = {0};
	struct digest digests[N];

	(void)state;
	net_blobs(net, 1, 100, N, digests);
	fill_flights(net, &answers);
	for (size_t i = 0; i < N; i++)
		fetch_start(net->fetch, &digests[i], &accounts[i % 2], net_answered,
			    &answers);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), FETCH_IN_FLIGHT_MAX + N);
	expect_account(&accounts[0], 1, N / 2, N / 2 * 100);
	expect_account(&accounts[1], 1, N / 2, N / 2 * 100);
}

static void test_fetch_charges_who_asked_first(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 100, true);
	struct net_answers answers = NET_ANSWERS(2);
	struct fetch_account first = {0};
	struct fetch_account second = {0};

	(void)state;
	fake_hold(net->fake, FAKE_BATCH_READ);
	fetch_start(net->fetch, &digest, &first, net_answered, &answers);
	fetch_start(net->fetch, &digest, &second, net_answered, &answers);
	fake_release(net->fake);
	assert_int_equal(net_await(&answers), 2);
	expect_account(&first, 1, 1, 100);
	expect_account(&second, 0, 0, 0);
}

static void test_fetch_charges_every_attempt(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	struct digest small = net_blob(net, 1, 100, true);
	struct digest large = net_blob(net, 2, 2000, true);
	struct fetch_account account = {0};
	struct fetch_account of_large = {0};
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_BATCH_READ,
						    .n_times = 2,
						    AT_ONCE});
	expect_ok(fetch_fd(net->fetch, &small, &account, &fd));
	net_expect_fd(fd, &small);
	expect_account(&account, 3, 1, 100);
	expect_ok(fetch_fd(net->fetch, &large, &of_large, &fd));
	net_expect_fd(fd, &large);
	expect_account(&of_large, 1, 1, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch_of_one_blob_by_many_is_one_call),
		cmocka_unit_test(test_fetch_of_one_large_blob_by_many_is_one_stream),
		cmocka_unit_test(test_fetch_leaves_no_gap_between_flight_and_store),
		cmocka_unit_test(test_fetch_tells_all_that_wait_of_a_failure),
		cmocka_unit_test(test_fetch_of_a_stored_blob_asks_nobody),
		cmocka_unit_test(test_fetch_sends_serial_misses_one_by_one),
		cmocka_unit_test(test_fetch_gathers_what_cannot_be_sent_yet),
		cmocka_unit_test(test_fetch_keeps_batches_below_the_servers_limit),
		cmocka_unit_test(test_fetch_streams_what_no_batch_can_hold),
		cmocka_unit_test(test_fetch_goes_on_where_a_stream_broke),
		cmocka_unit_test(test_fetch_sends_demand_before_prefetch),
		cmocka_unit_test(test_fetch_raises_a_prefetch_that_is_wanted),
		cmocka_unit_test(test_fetch_keeps_room_beside_prefetches),
		cmocka_unit_test(test_fetch_is_not_held_up_by_large_prefetches),
		cmocka_unit_test(test_fetch_asks_once_for_a_wish_that_fails),
		cmocka_unit_test(test_fetch_tries_again_a_wish_that_is_needed),
		cmocka_unit_test(test_fetch_drops_wishes_that_nobody_has),
		cmocka_unit_test(test_fetch_charges_who_still_waits),
		cmocka_unit_test(test_fetch_knows_what_is_waited_for),
		cmocka_unit_test(test_fetch_asks_again_for_what_came_wrong),
		cmocka_unit_test(test_fetch_never_hands_out_what_stays_wrong),
		cmocka_unit_test(test_fetch_gives_up_in_the_end),
		cmocka_unit_test(test_fetch_takes_no_for_an_answer),
		cmocka_unit_test(test_fetch_takes_an_answer_given_twice),
		cmocka_unit_test(test_fetch_ignores_what_it_did_not_ask_for),
		cmocka_unit_test(test_fetch_says_which_blob_is_lost),
		cmocka_unit_test(test_fetch_of_the_others_goes_on_without_the_lost),
		cmocka_unit_test(test_fetch_does_not_wait_for_ever),
		cmocka_unit_test(test_fetch_gets_over_one_answer_that_never_comes),
		cmocka_unit_test(test_fetch_without_a_remote_says_what_is_missing),
		cmocka_unit_test(test_fetch_reads_into_memory_within_a_limit),
		cmocka_unit_test(test_fetch_charges_everybody_once_for_a_shared_call),
		cmocka_unit_test(test_fetch_charges_who_asked_first),
		cmocka_unit_test(test_fetch_charges_every_attempt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
