/* Directories by digest while trees are made: each once, in order, readable again. */
#include "tests/unit/cas_fixture.h"

#include "lib/tree/dirset.h"
#include "lib/tree/hasher.h"

/* A Directory with one file of that name. */
static struct digest encode(const char *name, struct buf *out)
{
	struct tree_node node = {.kind = TREE_FILE, .name = slice_of(name)};
	struct digest digest;

	node.digest = digest_of_empty;
	buf_clear(out);
	assert_null(tree_encode(&node, 1, NULL, out));
	hasher_digest(out->data, out->len, &digest);
	return digest;
}

static void test_dirset_keeps_each_once_in_order(void **state)
{
	_cleanup_dirset_ struct dirset set = {0};
	_cleanup_buf_ struct buf a = BUF_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct digest first = encode("a", &a);
	struct digest second = encode("b", &b);
	struct blob_source item;

	(void)state;
	assert_true(dirset_add(&set, &first, buf_slice(&a)));
	assert_true(dirset_add_copy(&set, &second, buf_slice(&b)));
	assert_false(dirset_add(&set, &second, buf_slice(&b)));
	assert_false(dirset_add_copy(&set, &first, buf_slice(&a)));
	assert_int_equal(set.n, 2);
	item = dirset_item(&set, 0);
	assert_true(digest_equal(&item.digest, &first));
	assert_int_equal(item.from, BLOB_BYTES);
	assert_ptr_equal(item.bytes.data, a.data); /* borrowed */
	item = dirset_item(&set, 1);
	assert_true(digest_equal(&item.digest, &second));
}

static void test_dirset_copies_outlive_their_source(void **state)
{
	_cleanup_dirset_ struct dirset set = {0};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct digest digests[50];
	struct slice found;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "f%zu", i);
		digests[i] = encode(name, &bytes);
		assert_true(dirset_add_copy(&set, &digests[i], buf_slice(&bytes)));
	}
	buf_clear(&bytes);
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		struct digest got;

		assert_true(dirset_find(&set, &digests[i], &found));
		hasher_digest(found.data, found.len, &got);
		assert_true(digest_equal(&got, &digests[i]));
	}
	assert_null(dirset_load(&set, &digests[7], &dir));
	assert_int_equal(dir->n_nodes, 1);
	assert_true(slice_equal(dir->nodes[0].name, slice_of("f7")));
}

static void test_dirset_says_what_it_has_not(void **state)
{
	_cleanup_dirset_ struct dirset set = {0};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest = encode("a", &bytes);
	struct tree_dir *dir = NULL;
	char text[DIGEST_STRING_MAX];
	struct slice found;

	(void)state;
	assert_false(dirset_find(&set, &digest, &found));
	expect_error(dirset_load(&set, &digest, &dir), ERROR_NOT_FOUND,
		     digest_format(&digest, text));
	assert_null(dir);
	assert_true(dirset_add_copy(&set, &digest_of_empty, (struct slice){0}));
	assert_true(dirset_find(&set, &digest_of_empty, &found));
	assert_int_equal(found.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dirset_keeps_each_once_in_order),
		cmocka_unit_test(test_dirset_copies_outlive_their_source),
		cmocka_unit_test(test_dirset_says_what_it_has_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
