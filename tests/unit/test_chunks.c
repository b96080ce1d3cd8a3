/*
 * lib/store/chunk_map and lib/store/chunks: what large blobs are made of, and chunks that
 * are read from within them.
 */
#include <sched.h>

#include "lib/store/chunk_map.h"
#include "lib/store/chunks.h"
#include "tests/unit/cas_fixture.h"

#define KIB      1024
#define MIN_SIZE 256
#define SIZE     ((size_t)100 * KIB)

struct room {
	void *scratch_state;
	struct scratch *scratch;
	struct store *store;
	struct chunks *chunks;
	int64_t size_limit; /* 0: no matter */
	char dir[96];
};

static void room_open(struct room *room)
{
	struct store_config store = {.dir = room->dir,
				     .size_limit = room->size_limit ? room->size_limit
								    : (int64_t)1 << 30};
	struct chunks_config config = {.dir = room->dir, .min_size = MIN_SIZE};

	expect_ok(store_open(&store, &room->store));
	config.store = room->store;
	assert_true(chunker_init(&config.chunker, KIB, 0));
	expect_ok(chunks_open(&config, &room->chunks));
}

static void room_close(struct room *room)
{
	room->chunks = chunks_close(room->chunks);
	room->store = store_close(room->store);
}

static int room_make(void **state)
{
	struct room *room = alloc_new(struct room);

	assert_int_equal(scratch_make(&room->scratch_state), 0);
	room->scratch = room->scratch_state;
	(void)snprintf(room->dir, sizeof(room->dir), "%s/store", room->scratch->path);
	room_open(room);
	*state = room;
	return 0;
}

static int room_drop(void **state)
{
	struct room *room = *state;

	room_close(room);
	assert_int_equal(scratch_drop(&room->scratch_state), 0);
	free(room);
	return 0;
}

static void noise_of(unsigned int seed, size_t size, struct buf *out)
{
	uint64_t x = seed + 1;

	for (size_t i = 0; i < size; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		buf_add_byte(out, (uint8_t)(x >> 56));
	}
}

static struct digest put(struct room *room, const struct buf *bytes)
{
	struct digest digest;

	hasher_digest(bytes->data, bytes->len, &digest);
	expect_ok(store_put(room->store, &digest, bytes->data, bytes->len));
	return digest;
}

/* The blob's chunks, looked for in steps of so many bytes. */
static struct error *look(struct room *room, const struct digest *blob, size_t budget,
			  struct chunks_look *out, size_t *n_steps)
{
	struct error *err = NULL;
	bool is_over = false;

	for (*n_steps = 0; !err && !is_over; ++*n_steps)
		err = chunks_look(room->chunks, blob, budget, out, &is_over);
	return err;
}

static void expect_chunk(struct room *room, const struct chunk *chunk,
			 const struct buf *bytes, const struct digest *holder)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct digest found;

	assert_true(chunks_have(room->chunks, &chunk->digest, &found));
	assert_true(digest_equal(&found, holder));
	expect_ok(chunks_read(room->chunks, &chunk->digest, SIZE, &out));
	assert_int_equal(out.len, chunk->digest.size);
	assert_memory_equal(out.data, bytes->data + chunk->at, out.len);
}

static void test_chunks_are_parts_of_their_blob(void **state)
{
	struct room *room = *state;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct chunks_look found = {0}, again = {0};
	struct digest blob;
	struct store_stats stats;
	size_t n_steps;

	noise_of(1, SIZE, &bytes);
	blob = put(room, &bytes);
	assert_false(chunks_are_known(room->chunks));
	expect_ok(look(room, &blob, 10 * KIB, &found, &n_steps));
	assert_true(n_steps > 4);
	assert_true(chunks_are_known(room->chunks));
	assert_int_equal(chunk_list_size(&found.list), SIZE);
	for (size_t i = 0; i + 1 < found.list.n; i++)
		expect_chunk(room, &found.list.items[i], &bytes, &blob);
	store_stats(room->store, &stats);
	assert_int_equal(stats.n_blobs, 1);
	/* known by now, also after a restart */
	room_close(room);
	room_open(room);
	expect_ok(look(room, &blob, 1, &again, &n_steps));
	assert_int_equal(n_steps, 1);
	assert_int_equal(again.list.n, found.list.n);
	expect_chunk(room, &again.list.items[0], &bytes, &blob);
	chunks_look_end(&found);
	chunks_look_end(&again);
}

/* A last chunk below the least is not looked for in others: it is made a blob. */
static void test_small_chunks_are_blobs_of_their_own(void **state)
{
	struct room *room = *state;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct chunks_look found = {0}, whole = {0};
	const struct chunk *last;
	struct digest blob;
	size_t n_steps;

	noise_of(2, SIZE, &bytes);
	blob = put(room, &bytes);
	expect_ok(look(room, &blob, SIZE, &whole, &n_steps));
	bytes.len = (size_t)whole.list.items[whole.list.n - 1].at + 10;
	blob = put(room, &bytes);
	expect_ok(look(room, &blob, SIZE, &found, &n_steps));
	last = &found.list.items[found.list.n - 1];
	assert_int_equal(last->digest.size, 10);
	assert_false(chunks_have(room->chunks, &last->digest, NULL));
	expect_ok(chunks_hold(room->chunks, &blob, &found.list));
	expect_chunk(room, last, &bytes, &last->digest);
	chunks_look_end(&found);
	chunks_look_end(&whole);
}

static void test_a_chunk_is_there_as_long_as_a_blob_that_has_it(void **state)
{
	struct room *room = *state;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct chunks_look first = {0}, second = {0}, gone = {0};
	struct digest one, two;
	size_t n_steps;

	noise_of(3, SIZE, &bytes);
	one = put(room, &bytes);
	expect_ok(look(room, &one, SIZE, &first, &n_steps));
	bytes.data[SIZE - 1] ^= 1;
	two = put(room, &bytes);
	expect_ok(look(room, &two, SIZE, &second, &n_steps));
	expect_chunk(room, &first.list.items[0], &bytes, &two);
	store_remove(room->store, &two);
	expect_chunk(room, &first.list.items[0], &bytes, &one);
	store_remove(room->store, &one);
	assert_false(chunks_have(room->chunks, &first.list.items[0].digest, NULL));
	expect_error(chunks_read(room->chunks, &first.list.items[0].digest, SIZE, &out),
		     ERROR_NOT_FOUND, NULL);
	/* what it was made of is known still, and of what never was here, nothing */
	expect_ok(look(room, &one, SIZE, &gone, &n_steps));
	assert_false(gone.is_here);
	assert_int_equal(gone.list.n, first.list.n);
	chunks_look_end(&gone);
	two.hash[0] ^= 1;
	expect_error(look(room, &two, SIZE, &gone, &n_steps), ERROR_NOT_FOUND, NULL);
	chunks_look_end(&gone);
	chunks_look_end(&first);
	chunks_look_end(&second);
}

/* To ask for a chunk is to use the blob that has it: others go first. */
static void test_a_chunk_that_is_asked_for_keeps_its_blob(void **state)
{
	struct room *room = *state;
	struct digest blobs[3];
	struct chunks_look found = {0};
	size_t n_steps;

	room_close(room);
	room->size_limit = (int64_t)SIZE * 5 / 2;
	room_open(room);
	for (unsigned int i = 0; i < ARRAY_SIZE(blobs); i++) {
		_cleanup_buf_ struct buf bytes = BUF_INIT;

		noise_of(20 + i, SIZE, &bytes);
		if (i == 2)
			assert_true(chunks_have(room->chunks, &found.list.items[0].digest,
						NULL));
		blobs[i] = put(room, &bytes);
		if (i == 0)
			expect_ok(look(room, &blobs[0], SIZE, &found, &n_steps));
	}
	assert_true(store_has(room->store, &blobs[0]));
	assert_false(store_has(room->store, &blobs[1]));
	assert_true(store_has(room->store, &blobs[2]));
	chunks_look_end(&found);
}

/* What is known is wrong: it is found out, forgotten, and nothing wrong is read. */
static void test_a_place_that_lies_is_forgotten(void **state)
{
	struct room *room = *state;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct chunk_list lie = CHUNK_LIST_INIT;
	struct digest blob, first, rest;
	int64_t at;
	int fd;

	noise_of(4, SIZE, &bytes);
	blob = put(room, &bytes);
	hasher_digest(bytes.data + 1, KIB, &first);
	hasher_digest(bytes.data + KIB, SIZE - KIB, &rest);
	chunk_list_add(&lie, &first);
	chunk_list_add(&lie, &rest);
	expect_ok(chunks_tell(room->chunks, &blob, &lie));
	assert_true(chunks_have(room->chunks, &first, NULL));
	expect_error(chunks_read(room->chunks, &first, SIZE, &out), ERROR_NOT_FOUND,
		     NULL);
	assert_int_equal(out.len, 0);
	assert_false(chunks_have(room->chunks, &first, NULL));
	assert_false(chunks_have(room->chunks, &rest, NULL));
	expect_ok(chunks_get(room->chunks, &rest, &fd, &at));
	assert_int_equal(fd, -1);
	chunk_list_deinit(&lie);
}

static void test_a_blob_that_came_is_looked_at_by_itself(void **state)
{
	struct room *room = *state;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct chunks_look found = {0};
	struct digest blob;
	size_t n_steps;

	noise_of(5, SIZE, &bytes);
	blob = put(room, &bytes);
	chunks_note(room->chunks, NULL, &blob);
	while (!chunks_are_known(room->chunks))
		(void)sched_yield();
	expect_ok(look(room, &blob, 1, &found, &n_steps));
	assert_int_equal(n_steps, 1);
	chunks_look_end(&found);
	/* many more than there is room for: none is waited for at the end */
	for (unsigned int i = 0; i < 5000; i++) {
		blob.hash[0]++;
		blob.hash[1] ^= (uint8_t)i;
		chunks_note(room->chunks, NULL, &blob);
	}
}

/* ---- the map alone -------------------------------------------------------------- */

static struct digest digest_no(unsigned int n, int64_t size)
{
	struct digest digest;

	hasher_digest(&n, sizeof(n), &digest);
	digest.size = size;
	return digest;
}

/* A blob of a list of n chunks. */
static struct digest list_of(unsigned int seed, size_t n, struct chunk_list *out)
{
	for (size_t i = 0; i < n; i++) {
		struct digest chunk = digest_no(seed * 1000003u + (unsigned int)i, 1000);

		chunk_list_add(out, &chunk);
	}
	return digest_no(seed, (int64_t)n * 1000);
}

static void test_map_forgets_what_was_used_longest_ago(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_(chunk_map_closep) struct chunk_map *map = NULL;
	char path[96];
	bool is_found = true;
	struct stat st;

	expect_ok(chunk_map_open(scratch->path, 1, 1, &map));
	/* each some 2 MB: the least that a map may have is 64 MB */
	for (unsigned int i = 0; i < 50; i++) {
		struct chunk_list list = CHUNK_LIST_INIT;
		struct digest blob = list_of(i, 12000, &list);

		expect_ok(chunk_map_put(map, &blob, &list));
		chunk_list_deinit(&list);
	}
	for (unsigned int i = 0; i < 50; i += 49) {
		struct chunk_list got = CHUNK_LIST_INIT;
		struct digest blob = digest_no(i, 12000 * 1000);
		struct digest chunk = digest_no(i * 1000003u + 7, 1000);
		struct chunk_place places[CHUNK_MAP_PLACES];

		expect_ok(chunk_map_get(map, &blob, &got, &is_found));
		assert_int_equal(is_found, i == 49);
		assert_int_equal(got.n, i == 49 ? 12000 : 0);
		assert_int_equal(chunk_map_find(map, &chunk, places), i == 49);
		if (i == 49) {
			assert_true(digest_equal(&places[0].blob, &blob));
			assert_int_equal(places[0].at, 7000);
		}
		chunk_list_deinit(&got);
	}
	(void)snprintf(path, sizeof(path), "%s/chunks.sqlite", scratch->path);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < CHUNK_MAP_BYTES_MIN * 3 / 2);
}

/* Any byte of the file may be another: a list is as it was, or nothing is known. */
static void test_map_gives_no_damaged_list(void **state)
{
	enum { TRIES = 200 };
	const struct scratch *scratch = *state;
	struct chunk_list list = CHUNK_LIST_INIT;
	struct digest blob = list_of(1, 500, &list);
	unsigned int n_whole = 0;

	for (unsigned int i = 0; i < TRIES; i++) {
		_cleanup_(chunk_map_closep) struct chunk_map *map = NULL;
		struct chunk_list got = CHUNK_LIST_INIT;
		_cleanup_fd_ int fd = -1;
		bool is_found = false;
		struct error *err;
		struct stat st;

		expect_ok(chunk_map_open(scratch->path, 1, 1, &map));
		expect_ok(chunk_map_put(map, &blob, &list));
		map = chunk_map_close(map);
		fd = openat(scratch->fd, "chunks.sqlite", O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0 && fstat(fd, &st) == 0);
		assert_int_equal(pwrite(fd, "\xa5", 1, i * 7919L * 31 % st.st_size), 1);
		err = chunk_map_open(scratch->path, 1, 1, &map);
		if (!err)
			err = chunk_map_get(map, &blob, &got, &is_found);
		error_free(err);
		n_whole += is_found;
		assert_int_equal(got.n, is_found ? list.n : 0);
		for (size_t k = 0; k < got.n; k++)
			assert_true(digest_equal(&got.items[k].digest,
						 &list.items[k].digest));
		chunk_list_deinit(&got);
		map = chunk_map_close(map);
		assert_int_equal(unlinkat(scratch->fd, "chunks.sqlite", 0), 0);
	}
	assert_in_range(n_whole, 1, TRIES - 1);
	chunk_list_deinit(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chunks_are_parts_of_their_blob,
						room_make, room_drop),
		cmocka_unit_test_setup_teardown(test_small_chunks_are_blobs_of_their_own,
						room_make, room_drop),
		cmocka_unit_test_setup_teardown(
			test_a_chunk_is_there_as_long_as_a_blob_that_has_it, room_make,
			room_drop),
		cmocka_unit_test_setup_teardown(
			test_a_chunk_that_is_asked_for_keeps_its_blob, room_make,
			room_drop),
		cmocka_unit_test_setup_teardown(test_a_place_that_lies_is_forgotten,
						room_make, room_drop),
		cmocka_unit_test_setup_teardown(
			test_a_blob_that_came_is_looked_at_by_itself, room_make,
			room_drop),
		cmocka_unit_test_setup_teardown(
			test_map_forgets_what_was_used_longest_ago, scratch_make,
			scratch_drop),
		cmocka_unit_test_setup_teardown(test_map_gives_no_damaged_list,
						scratch_make, scratch_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
