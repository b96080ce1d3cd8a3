/* The action cache of this machine's user: a result counts while all that it names is in
 * the local store, whichever way it names it; what failed is kept apart. */
#include "tests/unit/cas_fixture.h"

#include <stdlib.h>

#include "client/last_result.h"
#include "client/local_actions.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/tree.h"

struct world {
	struct client client;
	struct digest action;
	struct arena arena;
	Reapi__ActionResult result;
};

static int setup(void **state)
{
	struct world *world = alloc_new(struct world);
	char dir[] = "/tmp/lazyroot-test-XXXXXX";

	assert_non_null(mkdtemp(dir));
	(void)setenv("XDG_CACHE_HOME", dir, 1);
	world->client = (struct client)CLIENT_INIT;
	world->arena = ARENA_INIT(RPC_ARENA_MAX);
	world->action = digest_of("an action");
	reapi__action_result__init(&world->result);
	expect_ok(local_open_store(&world->client.local));
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	client_deinit(&world->client);
	arena_deinit(&world->arena);
	expect_ok(file_remove_tree(AT_FDCWD, getenv("XDG_CACHE_HOME")));
	free(world);
	return 0;
}

static struct digest put(struct world *world, struct slice bytes)
{
	struct digest digest;

	hasher_digest(bytes.data, bytes.len, &digest);
	expect_ok(store_put(world->client.local.store, &digest, bytes.data, bytes.len));
	return digest;
}

static Reapi__Digest *wire(struct world *world, const struct digest *digest)
{
	return digest_to_arena(digest, &world->arena);
}

/* Keeps the result; whether it is found again. */
static bool is_found(struct world *world)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf got = BUF_INIT;
	bool found = false;

	rpc_encode(&world->result.base, &bytes);
	expect_ok(local_actions_put(&world->client, &world->action, buf_slice(&bytes)));
	expect_ok(local_actions_get(&world->client, &world->action, &got, &found));
	if (found)
		assert_true(slice_equal(buf_slice(&bytes), buf_slice(&got)));
	else
		assert_int_equal(got.len, 0);
	return found;
}

/* The result counts, and does not while the blob is away. */
static void expect_needs(struct world *world, struct slice blob)
{
	struct digest digest = put(world, blob);

	assert_true(is_found(world));
	store_remove(world->client.local.store, &digest);
	assert_false(is_found(world));
	(void)put(world, blob);
	assert_true(is_found(world));
}

static void add_directory(struct world *world, const struct digest *root,
			  const struct digest *tree)
{
	Reapi__OutputDirectory *dir = arena_new(&world->arena, Reapi__OutputDirectory);

	reapi__output_directory__init(dir);
	dir->path = "d";
	dir->root_directory_digest = root ? wire(world, root) : NULL;
	dir->tree_digest = tree ? wire(world, tree) : NULL;
	world->result.output_directories = arena_array(&world->arena, 1, sizeof(dir));
	world->result.output_directories[0] = dir;
	world->result.n_output_directories = 1;
}

/* A Directory with one entry. */
static void encode(const char *name, enum tree_kind kind, const struct digest *digest,
		   struct buf *out)
{
	const struct tree_node node = {
		.name = slice_of(name), .kind = kind, .digest = *digest};

	expect_ok(tree_encode(&node, 1, NULL, out));
}

static void test_local_actions_know_what_was_put(void **state)
{
	struct world *world = *state;
	_cleanup_buf_ struct buf got = BUF_INIT;
	bool found = true;

	expect_ok(local_actions_get(&world->client, &world->action, &got, &found));
	assert_false(found);
	world->result.exit_code = 0;
	assert_true(is_found(world));
	world->action = digest_of("another");
	found = true;
	expect_ok(local_actions_get(&world->client, &world->action, &got, &found));
	assert_false(found);
}

static void test_local_actions_need_files_and_logs(void **state)
{
	struct world *world = *state;
	Reapi__OutputFile file = REAPI__OUTPUT_FILE__INIT;
	Reapi__OutputFile *files[] = {&file};
	struct digest content = digest_of("content"), out = digest_of("out"),
		      err = digest_of("err");

	(void)put(world, slice_of("content"));
	(void)put(world, slice_of("out"));
	(void)put(world, slice_of("err"));
	file.path = "f";
	file.digest = wire(world, &content);
	world->result.output_files = files;
	world->result.n_output_files = 1;
	world->result.stdout_digest = wire(world, &out);
	world->result.stderr_digest = wire(world, &err);
	expect_needs(world, slice_of("content"));
	expect_needs(world, slice_of("out"));
	expect_needs(world, slice_of("err"));
	file.digest = wire(world, &digest_of_empty); /* is everywhere */
	assert_true(is_found(world));
	file.digest = NULL;
	assert_false(is_found(world));
}

static void test_local_actions_need_all_below_a_directory(void **state)
{
	struct world *world = *state;
	_cleanup_buf_ struct buf below = BUF_INIT;
	_cleanup_buf_ struct buf root = BUF_INIT;
	struct digest content = put(world, slice_of("content"));
	struct digest digest;

	encode("f", TREE_FILE, &content, &below);
	digest = put(world, buf_slice(&below));
	encode("below", TREE_DIR, &digest, &root);
	digest = put(world, buf_slice(&root));
	add_directory(world, &digest, NULL);
	expect_needs(world, slice_of("content"));
	expect_needs(world, buf_slice(&below));
	expect_needs(world, buf_slice(&root));
	add_directory(world, &digest_of_empty, NULL);
	assert_true(is_found(world));
	add_directory(world, NULL, NULL);
	assert_false(is_found(world));
}

/* A Tree has its Directories within, which need not be blobs. */
static void test_local_actions_need_the_files_of_a_tree(void **state)
{
	struct world *world = *state;
	_cleanup_buf_ struct buf below = BUF_INIT;
	_cleanup_buf_ struct buf root = BUF_INIT;
	_cleanup_buf_ struct buf tree = BUF_INIT;
	struct digest content = put(world, slice_of("content"));
	struct digest digest;
	struct slice child;

	encode("f", TREE_FILE, &content, &below);
	hasher_digest(below.data, below.len, &digest);
	encode("below", TREE_DIR, &digest, &root);
	child = buf_slice(&below);
	tree_message_encode(buf_slice(&root), &child, 1, false, &tree);
	digest = put(world, buf_slice(&tree));
	add_directory(world, NULL, &digest);
	expect_needs(world, slice_of("content"));
	expect_needs(world, buf_slice(&tree));
}

static void test_local_actions_take_nothing_that_is_no_tree(void **state)
{
	struct world *world = *state;
	struct digest junk = put(world, slice_of("junk of no kind"));

	add_directory(world, &junk, NULL);
	assert_false(is_found(world));
	add_directory(world, NULL, &junk);
	assert_false(is_found(world));
}

static void test_local_actions_keep_failures_apart(void **state)
{
	struct world *world = *state;
	Reapi__ExecuteResponse response = REAPI__EXECUTE_RESPONSE__INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Reapi__ActionResult *found = NULL;
	bool is_there = true;

	response.result = &world->result;
	last_result_note(&world->client, &world->action, &response);
	expect_ok(
		last_result_find(&world->client, &world->action, &world->arena, &found));
	assert_null(found); /* nothing failed */
	world->result.exit_code = 3;
	last_result_note(&world->client, &world->action, &response);
	expect_ok(local_actions_get(&world->client, &world->action, &bytes, &is_there));
	assert_false(is_there);
	expect_ok(
		last_result_find(&world->client, &world->action, &world->arena, &found));
	assert_int_equal(found->exit_code, 3);
	world->result.exit_code = 0; /* what succeeded goes before */
	assert_true(is_found(world));
	expect_ok(
		last_result_find(&world->client, &world->action, &world->arena, &found));
	assert_int_equal(found->exit_code, 0);
}

int main(void)
{
#define T(name)                                                                          \
	cmocka_unit_test_setup_teardown(test_local_actions_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(know_what_was_put),
		T(need_files_and_logs),
		T(need_all_below_a_directory),
		T(need_the_files_of_a_tree),
		T(take_nothing_that_is_no_tree),
		T(keep_failures_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
