/* What one process has pinned in a shared store stays, whoever makes room, as long as
 * that process lives and wants it. */
#include "tests/unit/cas_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/store/store_pin.h"
#include "lib/tree/tree.h"

#define ALL ((int64_t)1 << 40)

static struct store *store_at(const struct scratch *scratch)
{
	_cleanup_free_ char *dir = alloc_printf("%s/s", scratch->path);
	struct store_config config = {
		.dir = dir, .size_limit = 1 << 20, .is_shared = true};
	struct store *store = NULL;

	expect_ok(store_open(&config, &store));
	return store;
}

static struct digest put_bytes(struct store *store, struct slice bytes)
{
	struct digest digest;

	hasher_digest(bytes.data, bytes.len, &digest);
	expect_ok(store_put(store, &digest, bytes.data, bytes.len));
	expect_ok(store_flush(store));
	return digest;
}

static struct digest put(struct store *store, const char *text)
{
	return put_bytes(store, slice_of(text));
}

static struct store_pin *pin(struct store *store, const struct digest *digest,
			     bool is_tree)
{
	const struct store_pinned item = {*digest, is_tree};
	struct store_pin *made = NULL;

	expect_ok(store_pin_new(store, &item, 1, &made));
	return made;
}

/* The Directory with one entry. */
static void encode(const char *name, enum tree_kind kind, const struct digest *digest,
		   struct buf *out)
{
	const struct tree_node node = {
		.name = slice_of(name), .kind = kind, .digest = *digest};

	expect_ok(tree_encode(&node, 1, NULL, out));
}

static struct digest digest_of_buf(const struct buf *bytes)
{
	struct digest digest;

	hasher_digest(bytes->data, bytes->len, &digest);
	return digest;
}

struct tree {
	struct buf root, below;
	struct digest root_digest, below_digest, file_digest;
};

static void tree_make(struct tree *tree)
{
	*tree = (struct tree){.root = BUF_INIT, .below = BUF_INIT};
	tree->file_digest = digest_of("a file");
	encode("file", TREE_FILE, &tree->file_digest, &tree->below);
	tree->below_digest = digest_of_buf(&tree->below);
	encode("below", TREE_DIR, &tree->below_digest, &tree->root);
	tree->root_digest = digest_of_buf(&tree->root);
}

static void tree_drop(struct tree *tree)
{
	buf_deinit(&tree->root);
	buf_deinit(&tree->below);
}

static void test_store_pinned_blobs_stay_until_they_are_let_go(void **state)
{
	struct store *store = store_at(*state);
	struct store *other = store_at(*state);
	struct digest a = put(store, "aaaa"), b = put(store, "bbbb");
	struct store_pin *first = pin(store, &a, false);
	struct store_pin *second = pin(store, &a, false);

	assert_true(store_evict(other, ALL) >= 4);
	assert_true(store_has(other, &a));
	assert_false(store_has(other, &b));
	assert_int_equal(store_evict(other, ALL), 0);
	store_pin_free(first);
	assert_int_equal(store_evict(other, ALL), 0);
	store_pin_free(second);
	assert_int_equal(store_evict(other, ALL), 4);
	assert_false(store_has(other, &a));
	store_close(other);
	store_close(store);
}

static void test_store_pin_comes_before_its_blobs(void **state)
{
	struct store *store = store_at(*state);
	struct store *other = store_at(*state);
	struct digest a = digest_of("aaaa");
	struct store_pin *made = pin(store, &a, false);

	assert_int_equal(store_evict(other, ALL), 0);
	put(store, "aaaa");
	assert_int_equal(store_evict(store, ALL), 0); /* nor may its owner */
	assert_int_equal(store_evict(other, ALL), 0);
	assert_true(store_has(store, &a));
	store_pin_free(made);
	store_close(other);
	store_close(store);
}

static void test_store_pinned_tree_stays_with_all_below_it(void **state)
{
	struct store *store = store_at(*state);
	struct store *other = store_at(*state);
	struct store_pin *made;
	struct tree tree;

	tree_make(&tree);
	made = pin(store, &tree.root_digest, true);
	put(store, "a file");
	put_bytes(store, buf_slice(&tree.below));
	put_bytes(store, buf_slice(&tree.root));
	put(store, "of nobody");
	assert_int_equal(store_evict(other, ALL), strlen("of nobody"));
	assert_true(store_has(other, &tree.root_digest));
	assert_true(store_has(other, &tree.below_digest));
	assert_true(store_has(other, &tree.file_digest));
	store_pin_free(made);
	assert_true(store_evict(other, ALL) > 0);
	assert_false(store_has(other, &tree.file_digest));
	tree_drop(&tree);
	store_close(other);
	store_close(store);
}

/* A Directory that comes later is looked into later. */
static void test_store_pinned_tree_may_grow(void **state)
{
	struct store *store = store_at(*state);
	struct store *other = store_at(*state);
	struct store_pin *made;
	struct tree tree;

	tree_make(&tree);
	made = pin(store, &tree.root_digest, true);
	put_bytes(store, buf_slice(&tree.root));
	put(store, "a file"); /* nobody can know that it is one of the tree's */
	assert_int_equal(store_evict(other, ALL), strlen("a file"));
	put_bytes(store, buf_slice(&tree.below));
	put(store, "a file");
	assert_int_equal(store_evict(other, ALL), 0);
	store_pin_free(made);
	tree_drop(&tree);
	store_close(other);
	store_close(store);
}

/* Past the limit, writers go on, and what is not pinned goes. */
static void test_store_pins_may_pass_the_limit(void **state)
{
	struct store *store = store_at(*state);
	_cleanup_free_ char *text = alloc_zero((64 << 10) + 1);
	struct store_pinned items[32];
	struct store_pin *made = NULL;
	struct store_stats stats;

	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		memset(text, 'a' + (int)i, 64 << 10);
		items[i] = (struct store_pinned){digest_of(text), false};
	}
	expect_ok(store_pin_new(store, items, ARRAY_SIZE(items), &made));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		memset(text, 'a' + (int)i, 64 << 10);
		put(store, text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		assert_true(store_has(store, &items[i].digest));
	store_pin_free(made);
	(void)store_evict(store, 1 << 20);
	store_stats(store, &stats);
	assert_true(stats.bytes <= 1 << 20);
	store_close(store);
}

static void test_store_pins_end_with_their_process(void **state)
{
	struct digest a = digest_of("aaaa");
	struct store *store;
	int ready[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		store = store_at(*state);
		(void)put(store, "aaaa");
		(void)pin(store, &a, false);
		(void)!write(ready[1], "", 1);
		(void)pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	store = store_at(*state);
	assert_int_equal(store_evict(store, ALL), 0);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(store_evict(store, ALL), 4);
	assert_false(store_has(store, &a));
	(void)close(ready[0]);
	(void)close(ready[1]);
	store_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_store_pinned_blobs_stay_until_they_are_let_go),
		TEST(test_store_pin_comes_before_its_blobs),
		TEST(test_store_pinned_tree_stays_with_all_below_it),
		TEST(test_store_pinned_tree_may_grow),
		TEST(test_store_pins_may_pass_the_limit),
		TEST(test_store_pins_end_with_their_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
