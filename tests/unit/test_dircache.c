/*
 * Directories in memory: what is kept, what is shared, and how whole trees come, from
 * servers that help with it and from those that do not.
 */
#include "lib/cas/treeload.h"
#include "tests/unit/net_fixture.h"

#define MIB     ((size_t)1 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

/* ---- trees ---------------------------------------------------------------------- */

enum { FAMILY = 6 };

/* root: a, b, c; a: x; b: y. */
static void put_family(struct net *net, struct digest family[FAMILY])
{
	struct digest x = net_put_leaf(net, "in-x");
	struct digest y = net_put_leaf(net, "in-y");
	struct digest c = net_put_leaf(net, "in-c");
	struct tree_node in_a[] = {net_dir_node("x", &x), net_file_node("file-a", 5)};
	struct tree_node in_b[] = {net_dir_node("y", &y)};
	struct digest a = net_put_dir(net, in_a, ARRAY_SIZE(in_a));
	struct digest b = net_put_dir(net, in_b, ARRAY_SIZE(in_b));
	struct tree_node top[] = {net_dir_node("a", &a), net_dir_node("b", &b),
				  net_dir_node("c", &c)};

	family[0] = net_put_dir(net, top, ARRAY_SIZE(top));
	family[1] = a;
	family[2] = b;
	family[3] = c;
	family[4] = x;
	family[5] = y;
}

static int64_t family_bytes(const struct digest family[FAMILY])
{
	int64_t sum = 0;

	for (size_t i = 0; i < FAMILY; i++)
		sum += family[i].size;
	return sum;
}

static bool is_in_memory(struct net *net, const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
		dircache_peek(net->dirs, digest);

	return dir != NULL;
}

static struct error *load(struct net *net, const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;

	return dircache_get(net->dirs, digest, NULL, &dir);
}

/* No GetTree on this server. */
static void without_get_tree(struct net *net)
{
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_GET_TREE,
						    .code = ERROR_UNIMPLEMENTED});
}

/* ---- single Directories --------------------------------------------------------- */

static void test_dircache_asks_for_a_directory_once(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_put_leaf(net, "file");
	struct fetch_account account = {0};

	(void)state;
	assert_false(is_in_memory(net, &digest));
	for (size_t i = 0; i < 3; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;

		expect_ok(dircache_get(net->dirs, &digest, &account, &dir));
		assert_int_equal(dir->n_nodes, 1);
		assert_true(slice_is(dir->nodes[0].name, "file"));
	}
	assert_true(is_in_memory(net, &digest));
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 1);
	assert_int_equal(account.round_trips, 1);
	assert_int_equal(account.blobs, 1);
	assert_int_equal(account.bytes, digest.size);
}

static void test_dircache_knows_the_empty_directory(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;

	(void)state;
	expect_ok(dircache_get(net->dirs, &digest_of_empty, NULL, &dir));
	assert_int_equal(dir->n_nodes, 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
}

enum { THREADS = 16 };

struct loading {
	struct net *net;
	struct digest digest;
	pthread_barrier_t barrier;
	atomic_size_t n_good;
};

static void *load_one(void *arg)
{
	struct loading *loading = arg;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err;

	(void)pthread_barrier_wait(&loading->barrier);
	err = dircache_get(loading->net->dirs, &loading->digest, NULL, &dir);
	if (!err && dir->n_nodes == 1)
		atomic_fetch_add(&loading->n_good, 1);
	error_free(err);
	return NULL;
}

static void test_dircache_shares_loads_that_run(void **state)
{
	enum { ROUNDS = 30 };
	_cleanup_net_ struct net *net = net_new(NULL);
	pthread_t threads[THREADS];

	(void)state;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		_cleanup_free_ char *name = alloc_printf("file-%u", round);
		struct loading loading = {.net = net, .digest = net_put_leaf(net, name)};

		assert_int_equal(pthread_barrier_init(&loading.barrier, NULL, THREADS),
				 0);
		for (size_t i = 0; i < THREADS; i++)
			assert_int_equal(
				pthread_create(&threads[i], NULL, load_one, &loading), 0);
		for (size_t i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		(void)pthread_barrier_destroy(&loading.barrier);
		assert_int_equal(loading.n_good, THREADS);
		assert_int_equal(
			fake_n_asked(net->fake, FAKE_BATCH_READ, &loading.digest), 1);
	}
}

static void test_dircache_names_a_directory_that_is_none(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = fake_put(net->fake, "no Directory", 12);
	char text[DIGEST_STRING_MAX];
	const char *name = digest_format(&digest, text);

	(void)state;
	expect_error(load(net, &digest), ERROR_INVALID_ARGUMENT, name);
	assert_false(is_in_memory(net, &digest));
	/* and again: nothing half-loaded stays */
	expect_error(load(net, &digest), ERROR_INVALID_ARGUMENT, name);
}

static void test_dircache_says_which_directory_is_lost(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_put_leaf(net, "file");

	(void)state;
	fake_drop(net->fake, &digest);
	net_expect_missing(load(net, &digest), &digest);
	(void)net_put_leaf(net, "file");
	expect_ok(load(net, &digest));
}

static void test_dircache_does_not_fetch_what_is_too_large_to_be_one(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_put_leaf(net, "file");
	char name[DIGEST_STRING_MAX];

	(void)state;
	digest.size = (int64_t)1 << 40;
	expect_error(load(net, &digest), ERROR_INVALID_ARGUMENT,
		     digest_format(&digest, name));
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
}

static void test_dircache_drops_what_was_used_longest_ago(void **state)
{
	/* room for two of three */
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.memory_max = 1});
	_cleanup_(tree_dir_unrefp) struct tree_dir *kept = NULL;
	_cleanup_(dircache_freep) struct dircache *dirs = NULL;
	struct digest a = net_put_leaf(net, "a");
	struct digest b = net_put_leaf(net, "b");
	struct digest c = net_put_leaf(net, "c");

	(void)state;
	expect_ok(dircache_get(net->dirs, &a, NULL, &kept));
	dirs = net->dirs;
	net->dirs = dircache_new(net->fetch, 2 * kept->memory);
	expect_ok(load(net, &a));
	expect_ok(load(net, &b));
	assert_true(is_in_memory(net, &a)); /* used again: b is the oldest now */
	expect_ok(load(net, &c));
	assert_true(is_in_memory(net, &a));
	assert_false(is_in_memory(net, &b));
	assert_true(is_in_memory(net, &c));
	/* what was dropped comes from the store, not over the network */
	expect_ok(load(net, &b));
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &b), 1);
}

static void test_dircache_keeps_the_newest_over_any_limit(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.memory_max = 1});
	_cleanup_(tree_dir_unrefp) struct tree_dir *held = NULL;
	struct digest a = net_put_leaf(net, "a");
	struct digest b = net_put_leaf(net, "b");

	(void)state;
	expect_ok(dircache_get(net->dirs, &a, NULL, &held));
	assert_true(is_in_memory(net, &a));
	expect_ok(load(net, &b));
	assert_false(is_in_memory(net, &a));
	assert_true(is_in_memory(net, &b));
	assert_true(slice_is(held->nodes[0].name, "a")); /* a reference outlives it */
}

/* ---- whole trees ---------------------------------------------------------------- */

static void expect_family_here(struct net *net, const struct digest family[FAMILY])
{
	for (size_t i = 0; i < FAMILY; i++) {
		assert_true(is_in_memory(net, &family[i]));
		assert_true(store_has(net->store, &family[i]));
	}
}

static void test_dircache_loads_a_tree_in_one_call(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];
	struct fetch_account account = {0};

	(void)state;
	put_family(net, family);
	expect_ok(treeload_run(net->dirs, &family[0], MIB, &account));
	expect_family_here(net, family);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), 0);
	assert_int_equal(account.round_trips, 1);
	assert_int_equal(account.blobs, FAMILY);
	assert_int_equal(account.bytes, family_bytes(family));
	/* what is here is not asked for again */
	expect_ok(treeload_run(net->dirs, &family[0], MIB, &account));
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
}

struct tree_load {
	struct net *net;
	struct digest root;
	struct fetch_account *account;
	struct error *err;
};

static void *load_whole(void *arg)
{
	struct tree_load *load = arg;

	load->err = treeload_run(load->net->dirs, &load->root, MIB, load->account);
	return NULL;
}

static void test_dircache_charges_shared_directories_once(void **state)
{
	enum { SHARED = 40 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fetch_account account = {0};
	struct tree_load loads[THREADS];
	struct tree_node nodes[SHARED + 1];
	char names[SHARED][8];
	pthread_t threads[THREADS];

	(void)state;
	for (size_t i = 0; i < SHARED; i++) {
		struct digest leaf;

		(void)snprintf(names[i], sizeof(names[i]), "d%zu", i);
		leaf = net_put_leaf(net, names[i]);
		nodes[i] = net_dir_node(names[i], &leaf);
	}
	fake_hold(net->fake, FAKE_GET_TREE);
	for (size_t i = 0; i < THREADS; i++) {
		nodes[SHARED] = net_file_node("own", (int64_t)i);
		loads[i] = (struct tree_load){
			.net = net,
			.root = net_put_dir(net, nodes, ARRAY_SIZE(nodes)),
			.account = &account};
		assert_int_equal(pthread_create(&threads[i], NULL, load_whole, &loads[i]),
				 0);
	}
	fake_await_held(net->fake, THREADS);
	fake_release(net->fake);
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		expect_ok(loads[i].err);
	}
	assert_int_equal(account.blobs, SHARED + THREADS);
	assert_int_equal(account.round_trips, THREADS);
}

/* Who sees in the store what a tree brought has it in memory: read from the store it
 * would be charged to nobody. */
static void test_dircache_has_of_a_tree_what_the_store_has(void **state)
{
	enum { LEAVES = 500 };
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_free_ struct digest *leaves = alloc_array(LEAVES, sizeof(*leaves));
	_cleanup_free_ struct tree_node *nodes = alloc_array(LEAVES, sizeof(*nodes));
	char(*names)[8] = alloc_array(LEAVES, sizeof(*names));
	struct tree_load all = {.net = net};
	pthread_t thread;

	(void)state;
	for (size_t i = 0; i < LEAVES; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "d%04zu", i);
		leaves[i] = net_put_leaf(net, names[i]);
		nodes[i] = net_dir_node(names[i], &leaves[i]);
	}
	all.root = net_put_dir(net, nodes, LEAVES);
	assert_int_equal(pthread_create(&thread, NULL, load_whole, &all), 0);
	for (size_t i = 0; i < LEAVES; i++) {
		while (!store_has(net->store, &leaves[i]))
			;
		assert_true(dircache_is_near(net->dirs, &leaves[i]));
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	expect_ok(all.err);
	free(names);
}

static void test_dircache_loads_a_tree_page_by_page(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.tree_page = 1});
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_GET_TREE,
						    .n_skip = 3,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(treeload_run(net->dirs, &family[0], MIB, NULL));
	expect_family_here(net, family);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), FAMILY + 1);
}

static void test_dircache_loads_a_tree_level_by_level(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	without_get_tree(net);
	expect_ok(treeload_run(net->dirs, &family[0], MIB, NULL));
	expect_family_here(net, family);
	for (size_t i = 0; i < FAMILY; i++)
		assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &family[i]), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
}

/* However GetTree fails: what the levels need is all there. */
static void test_dircache_does_not_depend_on_get_tree(void **state)
{
	static const enum error_code codes[] = {ERROR_RESOURCE_EXHAUSTED, ERROR_INTERNAL,
						ERROR_INVALID_ARGUMENT, ERROR_UNAVAILABLE,
						ERROR_PERMISSION_DENIED};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		_cleanup_net_ struct net *net = net_new(NULL);
		struct digest family[FAMILY];

		put_family(net, family);
		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
							    .method = FAKE_GET_TREE,
							    .code = codes[i]});
		expect_ok(treeload_run(net->dirs, &family[0], MIB, NULL));
		expect_family_here(net, family);
		/* too large once is too large again */
		if (codes[i] == ERROR_RESOURCE_EXHAUSTED)
			assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
	}
}

static void test_dircache_loads_a_tree_that_memory_cannot_hold(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.memory_max = 1});
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	without_get_tree(net);
	expect_ok(treeload_run(net->dirs, &family[0], MIB, NULL));
	for (size_t i = 0; i < FAMILY; i++) {
		assert_true(store_has(net->store, &family[i]));
		assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_READ, &family[i]), 1);
	}
}

static void test_dircache_takes_part_of_a_tree(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_OMIT,
						    .method = FAKE_GET_TREE,
						    .digest = &family[2]});
	expect_ok(treeload_run(net->dirs, &family[0], MIB, NULL));
	assert_true(is_in_memory(net, &family[5]));
	assert_false(is_in_memory(net, &family[2]));
	expect_ok(load(net, &family[2])); /* whoever needs it asks for it */
}

static void test_dircache_says_which_part_of_a_tree_is_lost(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	without_get_tree(net);
	fake_drop(net->fake, &family[4]);
	net_expect_missing(treeload_run(net->dirs, &family[0], MIB, NULL), &family[4]);
}

static void test_dircache_refuses_a_corrupt_part_of_a_tree(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];

	(void)state;
	put_family(net, family);
	/* another length of the file's name: no valid message any more */
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_CORRUPT,
						    .method = FAKE_GET_TREE,
						    .digest = &family[4],
						    .at = 1});
	expect_error(treeload_run(net->dirs, &family[0], MIB, NULL),
		     ERROR_INVALID_ARGUMENT, "Directory");
	assert_false(store_has(net->store, &family[4]));
}

static void tree_never_ends(enum fake_kind kind, enum error_code code)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_error_ struct error *err = NULL;
	struct digest family[FAMILY];

	put_family(net, family);
	fake_script(net->fake,
		    &(struct fake_fault){.kind = kind, .method = FAKE_GET_TREE});
	err = treeload_run(net->dirs, &family[0], 100000, NULL);
	assert_int_equal(error_code(err), code);
}

static void test_dircache_ends_a_tree_that_does_not(void **state)
{
	(void)state;
	tree_never_ends(FAKE_ENDLESS, ERROR_RESOURCE_EXHAUSTED);
	tree_never_ends(FAKE_CIRCLE, ERROR_RESOURCE_EXHAUSTED);
	tree_never_ends(FAKE_STUCK, ERROR_OK); /* there is another way */
}

static void test_dircache_stops_at_a_number_of_bytes(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest family[FAMILY];
	size_t bytes;

	(void)state;
	put_family(net, family);
	bytes = (size_t)family_bytes(family);
	without_get_tree(net);
	expect_error(treeload_run(net->dirs, &family[0], bytes - 1, NULL),
		     ERROR_RESOURCE_EXHAUSTED, NULL);
	store_remove(net->store, &family[0]);
	expect_ok(treeload_run(net->dirs, &family[0], bytes, NULL));
}

/* Sizes that a tree only claims are not added up to something small. */
static void test_dircache_is_not_fooled_by_claims(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct tree_node nodes[3];
	struct digest root;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct digest digest = digest_of(&"abc"[i]);

		digest.size = INT64_MAX;
		nodes[i] = net_dir_node(&"abc"[i], &digest);
	}
	root = net_put_dir(net, nodes, ARRAY_SIZE(nodes));
	without_get_tree(net);
	expect_error(treeload_run(net->dirs, &root, SIZE_MAX, NULL),
		     ERROR_RESOURCE_EXHAUSTED, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 0);
}

/* A chain of so many Directories, one in the other; gives the outermost. */
static struct digest put_deep(struct net *net, size_t n)
{
	struct digest digest = net_put_leaf(net, "bottom");

	while (--n > 0) {
		struct tree_node node = net_dir_node("d", &digest);

		digest = net_put_dir(net, &node, 1);
	}
	return digest;
}

static void test_dircache_comes_to_the_end_of_a_deep_tree(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_deep(net, TREE_DEPTH_MAX + 50);
	struct tree_totals totals;

	(void)state;
	without_get_tree(net);
	expect_ok(treeload_run(net->dirs, &root, MIB, NULL));
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_READ), TREE_DEPTH_MAX);
	assert_false(dircache_totals(net->dirs, &root, &totals));
}

/* ---- totals --------------------------------------------------------------------- */

static void test_dircache_counts_each_path(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct tree_node files[] = {net_file_node("f", 100), net_file_node("g", 23)};
	struct digest shared = net_put_dir(net, files, ARRAY_SIZE(files));
	struct tree_node nodes[] = {net_dir_node("a", &shared),
				    net_dir_node("b", &shared), net_file_node("c", 1)};
	struct digest root = net_put_dir(net, nodes, ARRAY_SIZE(nodes));
	struct tree_totals totals = {0};

	(void)state;
	assert_false(dircache_totals(net->dirs, &root, &totals)); /* not at hand */
	expect_ok(treeload_run(net->dirs, &root, MIB, NULL));
	for (size_t i = 0; i < 2; i++) { /* reckoned, then remembered */
		assert_true(dircache_totals(net->dirs, &root, &totals));
		assert_int_equal(totals.files, 5);
		assert_int_equal(totals.directories, 2);
		assert_int_equal(totals.bytes, 247);
	}
}

/* Each level has the next one twice: 2^levels paths to one file. */
static struct digest put_doubling(struct net *net, size_t levels)
{
	struct digest digest = net_put_leaf(net, "bottom");

	while (levels-- > 0) {
		struct tree_node nodes[] = {net_dir_node("a", &digest),
					    net_dir_node("b", &digest)};

		digest = net_put_dir(net, nodes, ARRAY_SIZE(nodes));
	}
	return digest;
}

static void test_dircache_counts_paths_without_walking_them(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_doubling(net, 50);
	struct tree_totals totals = {0};

	(void)state;
	expect_ok(treeload_run(net->dirs, &root, MIB, NULL));
	assert_true(dircache_totals(net->dirs, &root, &totals));
	assert_int_equal(totals.files, (int64_t)1 << 50);
	assert_int_equal(totals.directories, ((int64_t)1 << 51) - 2);
	assert_int_equal(totals.bytes, (int64_t)10 << 50);
}

static void test_dircache_counts_no_further_than_a_number(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_doubling(net, 70);
	struct tree_totals totals = {0};

	(void)state;
	expect_ok(treeload_run(net->dirs, &root, MIB, NULL));
	assert_true(dircache_totals(net->dirs, &root, &totals));
	assert_int_equal(totals.files, INT64_MAX);
	assert_int_equal(totals.directories, INT64_MAX);
	assert_int_equal(totals.bytes, INT64_MAX);
}

static void test_dircache_refuses_a_tree_of_too_many_paths(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_doubling(net, 3); /* 8 files, 14 directories */
	struct digest huge = put_doubling(net, 70);

	(void)state;
	expect_ok(treeload_run(net->dirs, &root, MIB, NULL));
	expect_ok(treeload_run(net->dirs, &huge, MIB, NULL));
	expect_ok(treeload_check_entries(net->dirs, &root, 22));
	expect_error(treeload_check_entries(net->dirs, &root, 21),
		     ERROR_RESOURCE_EXHAUSTED, "--entries-max");
	expect_error(treeload_check_entries(net->dirs, &huge, TREE_ENTRIES_MAX),
		     ERROR_RESOURCE_EXHAUSTED, "10000000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dircache_asks_for_a_directory_once),
		cmocka_unit_test(test_dircache_knows_the_empty_directory),
		cmocka_unit_test(test_dircache_shares_loads_that_run),
		cmocka_unit_test(test_dircache_names_a_directory_that_is_none),
		cmocka_unit_test(test_dircache_says_which_directory_is_lost),
		cmocka_unit_test(
			test_dircache_does_not_fetch_what_is_too_large_to_be_one),
		cmocka_unit_test(test_dircache_drops_what_was_used_longest_ago),
		cmocka_unit_test(test_dircache_keeps_the_newest_over_any_limit),
		cmocka_unit_test(test_dircache_loads_a_tree_in_one_call),
		cmocka_unit_test(test_dircache_charges_shared_directories_once),
		cmocka_unit_test(test_dircache_has_of_a_tree_what_the_store_has),
		cmocka_unit_test(test_dircache_loads_a_tree_page_by_page),
		cmocka_unit_test(test_dircache_loads_a_tree_level_by_level),
		cmocka_unit_test(test_dircache_does_not_depend_on_get_tree),
		cmocka_unit_test(test_dircache_loads_a_tree_that_memory_cannot_hold),
		cmocka_unit_test(test_dircache_takes_part_of_a_tree),
		cmocka_unit_test(test_dircache_says_which_part_of_a_tree_is_lost),
		cmocka_unit_test(test_dircache_refuses_a_corrupt_part_of_a_tree),
		cmocka_unit_test(test_dircache_ends_a_tree_that_does_not),
		cmocka_unit_test(test_dircache_stops_at_a_number_of_bytes),
		cmocka_unit_test(test_dircache_is_not_fooled_by_claims),
		cmocka_unit_test(test_dircache_comes_to_the_end_of_a_deep_tree),
		cmocka_unit_test(test_dircache_counts_each_path),
		cmocka_unit_test(test_dircache_counts_paths_without_walking_them),
		cmocka_unit_test(test_dircache_counts_no_further_than_a_number),
		cmocka_unit_test(test_dircache_refuses_a_tree_of_too_many_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
