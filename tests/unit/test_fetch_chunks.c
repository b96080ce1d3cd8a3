/*
 * Fetches by chunks, from a server that tells the truth about them and from ones that do
 * not: whatever they say, what is handed out is the blob.
 */
#include "lib/tree/chunker.h"
#include "tests/unit/net_fixture.h"

#define AVERAGE   1024
#define SIZE      ((size_t)200000)
#define TRIES     50
#define BATCH_MAX 8192 /* so that the blob needs a stream, and a chunk does not */

static struct net *chunk_net(bool has_mappings)
{
	return net_new(&(struct net_config){.batch_max = BATCH_MAX,
					    .chunk_average = AVERAGE,
					    .has_mappings = has_mappings});
}

/* A version of one file: the bytes of another seed stand in the middle of it. */
static struct digest put_version(struct net *net, unsigned int seed, struct buf *out)
{
	_cleanup_buf_ struct buf other = BUF_INIT;

	net_bytes(1, SIZE, out);
	net_bytes(seed, 100, &other);
	if (seed != 1)
		memcpy(out->data + SIZE / 2, other.data, other.len);
	return fake_put(net->fake, out->data, out->len);
}

static void fetch_one(struct net *net, const struct digest *digest,
		      struct fetch_account *account)
{
	int fd = -1;

	expect_ok(fetch_fd(net->fetch, digest, account, &fd));
	net_expect_fd(fd, digest);
}

/* The first version is here, and its chunks are known. */
static void have_first(struct net *net)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest first = put_version(net, 1, &bytes);

	fetch_one(net, &first, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_SPLIT), 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
	while (!chunks_are_known(net->chunks))
		(void)sched_yield();
}

static struct chunk_list cut(const struct buf *bytes)
{
	struct chunk_list list = CHUNK_LIST_INIT;
	struct chunker chunker;
	struct digest digest;

	assert_true(chunker_init(&chunker, AVERAGE, 0));
	for (size_t at = 0; at < bytes->len; at += (size_t)digest.size) {
		size_t n = chunker_cut(&chunker, bytes->data + at, bytes->len - at);

		hasher_digest(bytes->data + at, n, &digest);
		chunk_list_add(&list, &digest);
	}
	return list;
}

/* A further version, which came by chunks: on a busy machine an answer may come too late,
 * and then it is a stream that comes. */
static struct digest fetch_version(struct net *net, unsigned int seed, struct buf *bytes,
				   struct fetch_account *account,
				   unsigned int *n_versions_out)
{
	for (unsigned int i = 0; i < TRIES; i++) {
		size_t n_streams = fake_n_calls(net->fake, FAKE_READ);
		struct digest digest;

		buf_clear(bytes);
		*account = (struct fetch_account){0};
		digest = put_version(net, seed + i, bytes);
		fetch_one(net, &digest, account);
		*n_versions_out = i + 1;
		if (fake_n_calls(net->fake, FAKE_READ) == n_streams)
			return digest;
	}
	fail_msg("no version came by chunks");
	return digest_of_empty;
}

static void check_only_the_new(bool has_mappings)
{
	_cleanup_net_ struct net *net = chunk_net(has_mappings);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct fetch_account account = {0};
	struct fetch_stats before, stats;
	struct store_stats held;
	struct digest second;
	unsigned int n_versions;

	have_first(net);
	fetch_stats(net->fetch, &before);
	second = fetch_version(net, 2, &bytes, &account, &n_versions);
	/* small chunks: some pass until the cuts are the same again */
	assert_in_range(account.bytes, 1, SIZE / 10);
	assert_int_equal(account.blobs, 1);
	assert_in_range(account.round_trips, 2, 5);
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.chunk_bytes + account.bytes, SIZE);
	assert_int_equal(stats.bytes - before.bytes - account.bytes,
			 (fake_n_calls(net->fake, FAKE_READ) - 1) * SIZE);
	/* the new chunks are parts of the version, not blobs beside it */
	store_stats(net->store, &held);
	assert_int_equal(held.n_blobs, 1 + n_versions);
	assert_true(store_has(net->store, &second));
}

static void test_fetch_by_chunks_asks_only_for_the_new(void **state)
{
	(void)state;
	check_only_the_new(true);
}

static void test_fetch_by_chunks_speaks_to_a_server_of_2_12(void **state)
{
	(void)state;
	check_only_the_new(false);
}

static void test_fetch_of_what_is_all_new_is_a_stream(void **state)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	struct digest other = net_blob(net, 7, SIZE, true);

	(void)state;
	have_first(net);
	fetch_one(net, &other, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 2);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
	assert_in_range(fake_n_calls(net->fake, FAKE_SPLIT), 0, 1);
}

/* A wish, too, and what it was for is there. */
static void test_fetch_by_chunks_is_for_wishes_too(void **state)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct net_answers answers = NET_ANSWERS(1);
	struct digest second;

	(void)state;
	have_first(net);
	second = put_version(net, 2, &bytes);
	net_start(net, &second, 1, FETCH_PREFETCH, &answers);
	assert_int_equal(net_await(&answers), 1);
	assert_true(store_has(net->store, &second));
	assert_in_range(fake_n_calls(net->fake, FAKE_SPLIT), 0, 1);
}

static void test_fetches_by_chunks_at_once_all_come(void **state)
{
	enum { VERSIONS = 12 };
	_cleanup_net_ struct net *net = chunk_net(true);
	struct net_answers answers = NET_ANSWERS(VERSIONS);
	struct digest digests[VERSIONS];

	(void)state;
	have_first(net);
	for (unsigned int i = 0; i < VERSIONS; i++) {
		_cleanup_buf_ struct buf bytes = BUF_INIT;

		digests[i] = put_version(net, 10 + i, &bytes);
	}
	net_start(net, digests, VERSIONS, FETCH_DEMAND, &answers);
	assert_int_equal(net_await(&answers), VERSIONS);
}

/* ---- lies ----------------------------------------------------------------------- */

/* Whatever is claimed, or scripted, the blob comes, by the stream. False: the question
 * did not get through in time, so that nothing was told. */
static bool expect_stream(struct net *net, const struct digest *digest)
{
	fetch_one(net, digest, NULL);
	assert_int_equal(fake_n_asked(net->fake, FAKE_READ, digest), 1);
	return fake_n_asked(net->fake, FAKE_SPLIT, digest) > 0;
}

enum lie {
	LIE_SWAPPED,
	LIE_OF_ANOTHER,
	LIE_ABSENT,
	LIE_SHORT,
	LIE_LONG,
	LIE_NONE,
	LIE_WHOLE, /* the blob is its own chunk */
	LIE_HUGE,  /* sizes that come to more than a number can have */
	LIES,
};

static void tell(struct net *net, const struct digest *second, const struct buf *bytes,
		 enum lie lie)
{
	struct chunk_list list = cut(bytes);
	struct digest *digests = alloc_array(list.n + 1, sizeof(*digests));
	struct digest absent = net_blob(net, 99, 1000, false);
	size_t n = list.n;

	for (size_t i = 0; i < n; i++) {
		digests[i] = list.items[i].digest;
		(void)fake_put(net->fake, bytes->data + list.items[i].at,
			       (size_t)digests[i].size);
	}
	switch (lie) {
	case LIE_SWAPPED:
		digests[3] = list.items[4].digest;
		digests[4] = list.items[3].digest;
		break;
	case LIE_OF_ANOTHER: /* bytes are the other version's */
		break;
	case LIE_ABSENT:
		absent.size = digests[2].size;
		digests[2] = absent;
		break;
	case LIE_SHORT:
		n--;
		break;
	case LIE_LONG:
		digests[n++] = list.items[0].digest;
		break;
	case LIE_NONE:
		n = 0;
		break;
	case LIE_WHOLE:
		digests[0] = *second;
		n = 1;
		break;
	case LIE_HUGE:
		digests[0].size = digests[1].size = INT64_MAX;
		break;
	case LIES:
		break;
	}
	fake_claim(net->fake, second, digests, n);
	free(digests);
	chunk_list_deinit(&list);
}

static void test_lies_about_chunks_do_not_matter(void **state)
{
	(void)state;
	for (enum lie lie = 0; lie < LIES; lie++) {
		_cleanup_net_ struct net *net = chunk_net(lie % 2);
		_cleanup_buf_ struct buf first = BUF_INIT;
		bool is_told = false;

		have_first(net);
		(void)put_version(net, 1, &first);
		for (unsigned int i = 0; i < TRIES && !is_told; i++) {
			_cleanup_buf_ struct buf bytes = BUF_INIT;
			struct digest second = put_version(net, 2 + i, &bytes);

			tell(net, &second, lie == LIE_OF_ANOTHER ? &first : &bytes, lie);
			is_told = expect_stream(net, &second);
		}
		assert_true(is_told);
	}
}

/* The same of answers or of chunks that are none. */
static void expect_stream_with(const struct fake_fault *fault)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	bool is_told = false;

	have_first(net);
	fake_script(net->fake, fault);
	for (unsigned int i = 0; i < TRIES && !is_told; i++) {
		_cleanup_buf_ struct buf bytes = BUF_INIT;
		struct digest second = put_version(net, 2 + i, &bytes);

		is_told = expect_stream(net, &second);
	}
	assert_true(is_told);
}

static void test_answers_about_chunks_that_are_none(void **state)
{
	static const struct fake_fault faults[] = {
		{.kind = FAKE_FAIL, .method = FAKE_SPLIT},
		{.kind = FAKE_FAIL, .method = FAKE_SPLIT, .code = ERROR_UNIMPLEMENTED},
		{.kind = FAKE_FAIL, .method = FAKE_SPLIT, .code = ERROR_NOT_FOUND},
		{.kind = FAKE_GARBAGE, .method = FAKE_SPLIT},
		{.kind = FAKE_STALL, .method = FAKE_SPLIT},
		{.kind = FAKE_ENDLESS, .method = FAKE_SPLIT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		expect_stream_with(&faults[i]);
}

static void test_a_wrong_chunk_is_not_put_into_a_blob(void **state)
{
	(void)state;
	expect_stream_with(
		&(struct fake_fault){.kind = FAKE_CORRUPT, .method = FAKE_BATCH_READ});
}

/* What is here was written to since: its chunks are fetched, or all is. */
static void test_a_damaged_first_version_gives_no_chunks(void **state)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	char path[96], hex[DIGEST_HEX_MAX];
	_cleanup_fd_ int fd = -1;
	struct digest first, second;

	(void)state;
	have_first(net);
	first = put_version(net, 1, &bytes);
	(void)digest_hex(&first, hex);
	(void)snprintf(path, sizeof(path), "blobs/%.2s/%s", hex, hex);
	fd = openat(store_dir_fd(net->store), path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "~", 1, 5000), 1);
	buf_clear(&bytes);
	second = put_version(net, 2, &bytes);
	fetch_one(net, &second, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch_by_chunks_asks_only_for_the_new),
		cmocka_unit_test(test_fetch_by_chunks_speaks_to_a_server_of_2_12),
		cmocka_unit_test(test_fetch_of_what_is_all_new_is_a_stream),
		cmocka_unit_test(test_fetch_by_chunks_is_for_wishes_too),
		cmocka_unit_test(test_fetches_by_chunks_at_once_all_come),
		cmocka_unit_test(test_lies_about_chunks_do_not_matter),
		cmocka_unit_test(test_answers_about_chunks_that_are_none),
		cmocka_unit_test(test_a_wrong_chunk_is_not_put_into_a_blob),
		cmocka_unit_test(test_a_damaged_first_version_gives_no_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
