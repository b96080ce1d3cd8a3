/*
 * What loading a tree costs where part of it is known: requests and Directories, counted
 * by the fake. And loads ahead, which several wait for.
 */
#include "lib/base/clock.h"
#include "lib/cas/treeahead.h"
#include "tests/unit/net_fixture.h"

#define BYTES   ((size_t)64 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0
#define NOWHERE SIZE_MAX

enum { WIDTH = 10, NAME_MAX_LEN = 24 };

/* A tree of so many levels below its top, each of WIDTH directories. */
struct wood {
	struct net *net;
	const char *kind; /* trees of one kind are equal, … */
	size_t changed;   /* … but for the leaf of this number */
	size_t n_leaves;
	size_t n; /* Directories so far */
};

static struct digest wood_put(struct wood *wood, unsigned int levels)
{
	struct tree_node nodes[WIDTH];
	struct digest below[WIDTH];
	char names[WIDTH][NAME_MAX_LEN];
	char leaf[64];

	wood->n++;
	if (levels == 0) {
		(void)snprintf(leaf, sizeof(leaf), "%s%s-%zu", wood->kind,
			       wood->n_leaves == wood->changed ? "-changed" : "",
			       wood->n_leaves);
		wood->n_leaves++;
		return net_put_leaf(wood->net, leaf);
	}
	for (size_t i = 0; i < WIDTH; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "d%zu", i);
		below[i] = wood_put(wood, levels - 1);
		nodes[i] = net_dir_node(names[i], &below[i]);
	}
	return net_put_dir(wood->net, nodes, WIDTH);
}

static struct digest put_wood(struct net *net, const char *kind, unsigned int levels,
			      size_t changed, size_t *n_out)
{
	struct wood wood = {.net = net, .kind = kind, .changed = changed};
	struct digest digest = wood_put(&wood, levels);

	if (n_out)
		*n_out = wood.n;
	return digest;
}

/* What a load cost. */
struct cost {
	struct fetch_account account;
	size_t n_trees;   /* calls of GetTree */
	size_t n_batches; /* … and of BatchReadBlobs, */
	size_t n_named;   /* which named so many */
};

static struct error *load(struct net *net, const struct digest *root, struct cost *cost)
{
	size_t n_trees = fake_n_calls(net->fake, FAKE_GET_TREE);
	size_t n_batches = fake_n_calls(net->fake, FAKE_BATCH_READ);
	size_t n_named = fake_n_blobs(net->fake, FAKE_BATCH_READ);
	struct error *err;

	*cost = (struct cost){0};
	err = treeload_run(net->dirs, root, BYTES, &cost->account);
	cost->n_trees = fake_n_calls(net->fake, FAKE_GET_TREE) - n_trees;
	cost->n_batches = fake_n_calls(net->fake, FAKE_BATCH_READ) - n_batches;
	cost->n_named = fake_n_blobs(net->fake, FAKE_BATCH_READ) - n_named;
	return err;
}

static void expect_nothing_more(struct net *net, const struct digest *root)
{
	struct cost cost;

	expect_ok(load(net, root, &cost));
	assert_int_equal(cost.n_trees + cost.n_batches, 0);
}

/* Memory alone is lost, as when a worker is started anew. */
static void forget(struct net *net)
{
	dircache_free(net->dirs);
	net->dirs = dircache_new(net->fetch, DIRCACHE_MEMORY_MAX);
}

static void test_13_a_changed_leaf_of_10000_costs_its_way(void **state)
{
	enum { LEVELS = 4, CHANGED = 4321 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest old, new, newer;
	struct cost cost;
	size_t n;

	(void)state;
	old = put_wood(net, "w", LEVELS, NOWHERE, &n);
	new = put_wood(net, "w", LEVELS, CHANGED, NULL);
	newer = put_wood(net, "w", LEVELS, CHANGED + 1, NULL);
	assert_true(n > 10000);
	expect_ok(load(net, &old, &cost)); /* cold: one GetTree, and nothing else */
	assert_int_equal(cost.n_trees, 1);
	assert_int_equal(cost.n_batches, 0);
	assert_int_equal(cost.account.blobs, n);
	expect_ok(load(net, &new, &cost));
	assert_int_equal(cost.n_trees, 0);
	assert_int_equal(cost.n_named, LEVELS + 1);
	assert_int_equal(cost.account.blobs, LEVELS + 1);
	assert_true(cost.n_batches <= LEVELS + 1);
	expect_nothing_more(net, &new);
	expect_nothing_more(net, &old);
	/* what only the disk has is not asked for either */
	forget(net);
	expect_nothing_more(net, &old);
	expect_ok(load(net, &newer, &cost));
	assert_int_equal(cost.n_trees, 0);
	assert_int_equal(cost.n_named, LEVELS + 1);
	forget(net);
	expect_nothing_more(net, &newer);
}

static void test_13_another_tree_costs_a_round_trip_more_than_a_first(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest first = put_wood(net, "first", 2, NOWHERE, NULL);
	struct cost cost;
	struct digest second;
	size_t n;

	(void)state;
	second = put_wood(net, "second", 3, NOWHERE, &n);
	expect_ok(load(net, &first, &cost));
	expect_ok(load(net, &second, &cost));
	assert_int_equal(cost.account.round_trips, 2);
	assert_int_equal(cost.n_named, 1);
	assert_int_equal(cost.n_trees, 1);
	assert_int_equal(cost.account.blobs, n);
	expect_nothing_more(net, &second);
}

/* GetTree sends some pages, and then there is no server any more. */
static void break_off(struct net *net, const struct digest *root, unsigned int n_pages)
{
	struct cost cost;

	for (enum fake_method method = FAKE_BATCH_READ; method <= FAKE_GET_TREE; method++)
		fake_script(net->fake,
			    &(struct fake_fault){
				    .kind = FAKE_FAIL,
				    .method = method,
				    .n_skip = method == FAKE_GET_TREE ? n_pages : 0,
				    AT_ONCE});
	expect_error(load(net, root, &cost), ERROR_UNAVAILABLE, NULL);
	fake_heal(net->fake);
}

static void test_13_a_load_that_broke_off_asks_for_the_rest(void **state)
{
	enum { PAGE = 100, N_PAGES = 4, HAVE = PAGE * N_PAGES };

	(void)state;
	for (int with_get_tree = 0; with_get_tree < 2; with_get_tree++) {
		_cleanup_net_ struct net *net =
			net_new(&(struct net_config){.tree_page = PAGE});
		struct cost cost;
		struct digest root;
		size_t n;

		root = put_wood(net, "w", 3, NOWHERE, &n);
		break_off(net, &root, N_PAGES);
		forget(net);
		if (!with_get_tree)
			fake_script(net->fake,
				    &(struct fake_fault){.kind = FAKE_FAIL,
							 .method = FAKE_GET_TREE,
							 .code = ERROR_UNIMPLEMENTED});
		expect_ok(load(net, &root, &cost));
		assert_int_equal(cost.account.blobs, n - HAVE);
		if (!with_get_tree)
			assert_int_equal(cost.n_named, n - HAVE);
		expect_nothing_more(net, &root);
	}
}

static void test_13_a_half_known_tree_costs_its_unknown_half(void **state)
{
	enum { HALF = WIDTH / 2 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct tree_node nodes[WIDTH];
	struct digest tops[WIDTH];
	char names[WIDTH][NAME_MAX_LEN];
	struct digest root;
	struct cost cost;
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < WIDTH; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "top%zu", i);
		tops[i] = put_wood(net, names[i], 2, NOWHERE, &n);
		nodes[i] = net_dir_node(names[i], &tops[i]);
		if (i % 2)
			expect_ok(load(net, &tops[i], &cost));
	}
	root = net_put_dir(net, nodes, WIDTH);
	expect_ok(load(net, &root, &cost));
	/* the root; its unknown half; of each of these the rest, by GetTree */
	assert_int_equal(cost.n_named, 1 + HALF);
	assert_int_equal(cost.n_trees, HALF);
	assert_int_equal(cost.account.blobs, 1 + HALF * n);
	expect_nothing_more(net, &root);
}

static void test_13_get_tree_of_what_is_known_is_ended(void **state)
{
	enum { PAGE = 50, WRAPPERS = 6 };
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.tree_page = PAGE});
	struct digest below = put_wood(net, "w", 3, NOWHERE, NULL);
	struct tree_node nodes[WRAPPERS];
	struct digest wrappers[WRAPPERS];
	char names[WRAPPERS][NAME_MAX_LEN];
	struct digest root;
	struct cost cost;

	(void)state;
	expect_ok(load(net, &below, &cost));
	for (size_t i = 0; i < WRAPPERS; i++) {
		struct tree_node in[2] = {net_dir_node("below", &below)};

		(void)snprintf(names[i], sizeof(names[i]), "wrapper%zu", i);
		in[1] = net_file_node(names[i], 1);
		wrappers[i] = net_put_dir(net, in, ARRAY_SIZE(in));
		nodes[i] = net_dir_node(names[i], &wrappers[i]);
	}
	root = net_put_dir(net, nodes, WRAPPERS);
	expect_ok(load(net, &root, &cost));
	/* pages of a thousand Directories that are all here: two were enough to see it */
	assert_int_equal(cost.n_trees, 2);
	assert_int_equal(cost.account.blobs, 1 + WRAPPERS);
	expect_nothing_more(net, &root);
}

/* Files changed in several directories are no reason to ask for all of them. */
static void test_13_a_few_changes_cost_their_ways(void **state)
{
	enum { LEVELS = 3, CHANGES = 3 };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct tree_node nodes[2][CHANGES];
	char names[CHANGES][NAME_MAX_LEN];
	struct digest tops[2][CHANGES];
	struct digest roots[2];
	struct cost cost;

	(void)state;
	for (size_t r = 0; r < 2; r++) {
		for (size_t i = 0; i < CHANGES; i++) {
			(void)snprintf(names[i], sizeof(names[i]), "top%zu", i);
			tops[r][i] = put_wood(net, names[i], LEVELS - 1, r ? i : NOWHERE,
					      NULL);
			nodes[r][i] = net_dir_node(names[i], &tops[r][i]);
		}
		roots[r] = net_put_dir(net, nodes[r], CHANGES);
	}
	expect_ok(load(net, &roots[0], &cost));
	expect_ok(load(net, &roots[1], &cost));
	assert_int_equal(cost.n_trees, 0);
	assert_int_equal(cost.n_named, 1 + CHANGES * LEVELS);
}

static void test_13_what_memory_and_store_dropped_is_asked_for_again(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.memory_max = 1});
	struct digest root;
	struct cost cost;
	size_t n;

	(void)state;
	root = put_wood(net, "w", 2, NOWHERE, &n);
	expect_ok(load(net, &root, &cost));
	expect_nothing_more(net, &root); /* the disk has all */
	(void)store_evict(net->store, (int64_t)BYTES);
	expect_ok(load(net, &root, &cost));
	assert_true(cost.account.blobs >= n - 1); /* memory may have had one */
	expect_nothing_more(net, &root);
}

static void test_13_a_lost_directory_costs_the_others_nothing(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_wood(net, "w", 3, NOWHERE, NULL);
	struct digest lost = put_wood(net, "w", 3, 0, NULL);
	struct digest leaf = net_put_leaf(net, "w-changed-0");
	struct cost cost;

	(void)state;
	expect_ok(load(net, &root, &cost));
	fake_drop(net->fake, &leaf);
	for (int i = 0; i < 2; i++) {
		net_expect_missing(load(net, &lost, &cost), &leaf);
		assert_int_equal(cost.n_named, i == 0 ? 4 : 1); /* the way; it alone */
	}
	(void)net_put_leaf(net, "w-changed-0");
	expect_ok(load(net, &lost, &cost));
	assert_int_equal(cost.n_named, 1);
	expect_nothing_more(net, &lost);
}

static void test_13_bytes_come_to_the_store_though_memory_has_them(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = put_wood(net, "w", 1, NOWHERE, NULL);
	struct digest leaf = net_put_leaf(net, "w-3");
	struct cost cost;

	(void)state;
	expect_ok(load(net, &root, &cost));
	(void)store_evict(net->store, (int64_t)BYTES);
	assert_false(store_has(net->store, &leaf));
	expect_nothing_more(net, &root);
	expect_ok(treeload_to_store(net->dirs, &root, BYTES));
	assert_true(store_has(net->store, &root));
	assert_true(store_has(net->store, &leaf));
}

/* ---- ahead ---------------------------------------------------------------------- */

static void count(void *ctx)
{
	atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void test_13_loads_of_one_root_are_one(void **state)
{
	enum { N = 5 };
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(pool_freep) struct pool *pool = NULL;
	struct digest root = put_wood(net, "w", 1, NOWHERE, NULL);
	struct digest leaf = net_put_leaf(net, "w-3");
	struct treeahead_load *loads[N];
	struct treeahead *ahead;
	atomic_uint n_done = 0;
	struct treeahead_order order = {.root = root, .done = count, .ctx = &n_done};

	(void)state;
	expect_ok(pool_new("ahead", 2, &pool));
	ahead = treeahead_new(net->dirs, pool);
	fake_hold(net->fake, FAKE_GET_TREE);
	for (size_t i = 0; i < N; i++) {
		loads[i] = treeahead_begin(ahead, &order);
		assert_non_null(loads[i]);
	}
	fake_await_held(net->fake, 1);
	assert_int_equal(atomic_load(&n_done), N - 1);
	assert_false(treeahead_await(loads[1], &leaf, clock_mono_ns()));
	fake_release(net->fake);
	assert_true(treeahead_await(loads[1], &leaf, CLOCK_NEVER));
	assert_true(dircache_is_near(net->dirs, &leaf));
	for (size_t i = 0; i < N; i++)
		(void)treeahead_put(loads[i]);
	pool = pool_free(pool);
	assert_int_equal(atomic_load(&n_done), N);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
	/* all is at hand: there is nothing to wait for */
	assert_null(treeahead_begin(ahead, &order));
	assert_int_equal(atomic_load(&n_done), N + 1);
	treeahead_free(ahead);
}

static void test_13_a_load_that_fails_is_over(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(pool_freep) struct pool *pool = NULL;
	struct digest root = put_wood(net, "w", 1, NOWHERE, NULL);
	struct treeahead_load *load;
	struct treeahead *ahead;
	atomic_uint n_done = 0;

	(void)state;
	expect_ok(pool_new("ahead", 1, &pool));
	ahead = treeahead_new(net->dirs, pool);
	fake_drop(net->fake, &root);
	load = treeahead_begin(
		ahead,
		&(struct treeahead_order){.root = root, .done = count, .ctx = &n_done});
	assert_true(treeahead_await(load, &root, CLOCK_NEVER));
	assert_false(dircache_is_near(net->dirs, &root));
	(void)treeahead_put(load);
	pool = pool_free(pool);
	assert_int_equal(atomic_load(&n_done), 1);
	treeahead_free(ahead);
}

/* A tree whose pages, and whose batches, are asked for one at a time. */
static struct net *slow_net(bool has_get_tree)
{
	struct net *net = net_new(&(struct net_config){.tree_page = 2});

	if (!has_get_tree)
		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
							    .method = FAKE_GET_TREE,
							    .code = ERROR_UNIMPLEMENTED});
	fake_hold(net->fake, has_get_tree ? FAKE_GET_TREE : FAKE_BATCH_READ);
	return net;
}

/* It ends when the last one has left, with no request more than was under way. */
static void expect_end(bool has_get_tree)
{
	_cleanup_net_ struct net *net = slow_net(has_get_tree);
	_cleanup_(pool_freep) struct pool *pool = NULL;
	struct digest root = put_wood(net, "w", 3, NOWHERE, NULL);
	struct treeahead_load *loads[2];
	struct treeahead *ahead;
	atomic_uint n_done = 0;
	struct treeahead_order order = {.root = root, .done = count, .ctx = &n_done};

	expect_ok(pool_new("ahead", 1, &pool));
	ahead = treeahead_new(net->dirs, pool);
	for (size_t i = 0; i < 2; i++)
		loads[i] = treeahead_begin(ahead, &order);
	fake_await_held(net->fake, 1);
	(void)treeahead_leave(loads[0]);
	fake_release_one(net->fake);
	fake_await_held(net->fake, 1); /* it goes on for the other */
	(void)treeahead_leave(loads[1]);
	fake_release(net->fake);
	pool = pool_free(pool);
	if (has_get_tree)
		assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 2);
	else /* the root and the first level, in as many calls as there were */
		assert_int_equal(fake_n_blobs(net->fake, FAKE_BATCH_READ), 1 + WIDTH);
	assert_int_equal(atomic_load(&n_done), 2);
	assert_null(treeahead_leave(NULL));
	treeahead_free(ahead);
}

static void test_13_a_load_that_nobody_wants_asks_for_no_page(void **state)
{
	(void)state;
	expect_end(true);
}

static void test_13_a_load_that_nobody_wants_asks_for_no_level(void **state)
{
	(void)state;
	expect_end(false);
}

/* Who comes before it has noticed has all of it; who only lets go leaves it to the next.
 */
static void test_13_a_load_goes_on_for_who_joins_it(void **state)
{
	_cleanup_net_ struct net *net = slow_net(true);
	_cleanup_(pool_freep) struct pool *pool = NULL;
	struct digest root = put_wood(net, "w", 2, NOWHERE, NULL);
	struct treeahead_load *load;
	struct treeahead *ahead;
	atomic_uint n_done = 0;
	struct treeahead_order order = {.root = root, .done = count, .ctx = &n_done};

	(void)state;
	expect_ok(pool_new("ahead", 1, &pool));
	ahead = treeahead_new(net->dirs, pool);
	load = treeahead_begin(ahead, &order);
	fake_await_held(net->fake, 1);
	(void)treeahead_leave(load);
	load = treeahead_begin(ahead, &order);
	assert_non_null(load);
	(void)treeahead_put(load);
	fake_release(net->fake);
	pool = pool_free(pool);
	assert_true(dircache_is_whole(net->dirs, &root, dircache_stamp(net->dirs)));
	treeahead_free(ahead);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_13_a_changed_leaf_of_10000_costs_its_way),
		cmocka_unit_test(
			test_13_another_tree_costs_a_round_trip_more_than_a_first),
		cmocka_unit_test(test_13_a_load_that_broke_off_asks_for_the_rest),
		cmocka_unit_test(test_13_a_half_known_tree_costs_its_unknown_half),
		cmocka_unit_test(test_13_get_tree_of_what_is_known_is_ended),
		cmocka_unit_test(test_13_a_few_changes_cost_their_ways),
		cmocka_unit_test(
			test_13_what_memory_and_store_dropped_is_asked_for_again),
		cmocka_unit_test(test_13_a_lost_directory_costs_the_others_nothing),
		cmocka_unit_test(test_13_bytes_come_to_the_store_though_memory_has_them),
		cmocka_unit_test(test_13_loads_of_one_root_are_one),
		cmocka_unit_test(test_13_a_load_that_fails_is_over),
		cmocka_unit_test(test_13_a_load_that_nobody_wants_asks_for_no_page),
		cmocka_unit_test(test_13_a_load_that_nobody_wants_asks_for_no_level),
		cmocka_unit_test(test_13_a_load_goes_on_for_who_joins_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
