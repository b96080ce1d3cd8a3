/*
 * Fuzzes the Directory decoder: whatever it accepts must encode again, and decode to the
 * same entries.
 */
#include "lib/tree/tree.h"
#include "tests/fuzz/fuzz.h"

static bool fuzz_same_node(const struct tree_node *a, const struct tree_node *b)
{
	return a->kind == b->kind && a->is_executable == b->is_executable &&
	       slice_equal(a->name, b->name) && slice_equal(a->target, b->target) &&
	       (a->kind == TREE_SYMLINK || digest_equal(&a->digest, &b->digest)) &&
	       !a->props == !b->props;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_(tree_dir_unrefp) struct tree_dir *again = NULL;
	_cleanup_error_ struct error *err = NULL;
	struct buf bytes = BUF_INIT;

	buf_add(&bytes, data, size);
	err = tree_dir_decode(&bytes, &dir);
	if (err)
		return 0;
	bytes = BUF_INIT;
	require(!tree_encode(dir->nodes, dir->n_nodes, dir->props, &bytes));
	require(!tree_dir_decode(&bytes, &again));
	require(dir->n_nodes == again->n_nodes);
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		require(fuzz_same_node(&dir->nodes[i], &again->nodes[i]));
		require(tree_dir_find(dir, again->nodes[i].name) == &dir->nodes[i]);
	}
	return 0;
}
