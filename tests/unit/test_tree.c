/*
 * Directories: what the decoder refuses, that the encoder makes what protobuf makes, and
 * Tree messages. Bad messages are made with protobuf's own encoder or byte by byte.
 */
#include "tests/unit/cas_fixture.h"

#include "lib/base/wire.h"
#include "lib/tree/tree.h"

#define HASH "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static Reapi__Digest wire_digest = {
	.base = PROTOBUF_C_MESSAGE_INIT(&reapi__digest__descriptor),
	.hash = HASH,
	.size_bytes = 5};

static struct tree_node file_node(const char *name)
{
	return (struct tree_node){
		.kind = TREE_FILE, .name = slice_of(name), .digest = digest_of("hello")};
}

static struct buf pack(const ProtobufCMessage *message)
{
	struct buf bytes = BUF_INIT;

	buf_reserve(&bytes, protobuf_c_message_get_packed_size(message));
	bytes.len = protobuf_c_message_pack(message, bytes.data);
	return bytes;
}

static struct error *decode(struct buf bytes)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err = tree_dir_decode(&bytes, &dir);

	assert_true(err ? !dir : dir != NULL);
	assert_null(bytes.data);
	return err;
}

/* A Directory of files with these names, as protobuf packs it. */
static struct buf files_named(const char *const *names, size_t n)
{
	Reapi__Directory directory = REAPI__DIRECTORY__INIT;
	Reapi__FileNode nodes[8];
	Reapi__FileNode *pointers[8];

	for (size_t i = 0; i < n; i++) {
		reapi__file_node__init(&nodes[i]);
		nodes[i].name = names[i];
		nodes[i].digest = &wire_digest;
		pointers[i] = &nodes[i];
	}
	directory.n_files = n;
	directory.files = pointers;
	return pack(&directory.base);
}

/* The same by hand, for one name of any bytes. */
static struct buf file_named(const void *name, size_t len)
{
	_cleanup_buf_ struct buf node = BUF_INIT;
	_cleanup_buf_ struct buf digest = pack(&wire_digest.base);
	struct buf out = BUF_INIT;

	wire_put_bytes(&node, 1, (struct slice){name, len});
	wire_put_bytes(&node, 2, buf_slice(&digest));
	wire_put_bytes(&out, 1, buf_slice(&node));
	return out;
}

static void test_tree_accepts_an_empty_directory(void **state)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct buf nothing = BUF_INIT;

	(void)state;
	expect_ok(tree_dir_decode(&nothing, &dir));
	assert_int_equal(dir->n_nodes, 0);
	assert_null(tree_dir_find(dir, slice_of("x")));
}

static void test_tree_merges_all_kinds_in_name_order(void **state)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	struct tree_node nodes[] = {file_node("e"), file_node("b"), file_node("d"),
				    file_node("c"), file_node("a")};

	(void)state;
	nodes[1].kind = TREE_DIR;
	nodes[2].kind = TREE_SYMLINK;
	nodes[2].target = slice_of("../x");
	nodes[4].is_executable = true;
	expect_ok(tree_encode(nodes, 5, NULL, &bytes));
	expect_ok(tree_dir_decode(&bytes, &dir));
	assert_int_equal(dir->n_nodes, 5);
	assert_int_equal(dir->n_files, 3);
	assert_int_equal(dir->n_dirs, 1);
	assert_int_equal(dir->n_symlinks, 1);
	for (uint32_t i = 0; i < 5; i++) {
		assert_true(slice_is(dir->nodes[i].name, names[i]));
		assert_ptr_equal(tree_dir_find(dir, slice_of(names[i])), &dir->nodes[i]);
	}
	assert_null(tree_dir_find(dir, slice_of("bb")));
	assert_true(dir->nodes[0].is_executable);
	assert_int_equal(dir->nodes[1].kind, TREE_DIR);
	assert_true(slice_is(dir->nodes[3].target, "../x"));
}

static void test_tree_rejects_bad_names(void **state)
{
	char longest[256];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	expect_ok(decode(file_named(longest, 255)));
	expect_error(decode(file_named(longest, 256)), ERROR_INVALID_ARGUMENT, "255");
	expect_error(decode(file_named("", 0)), ERROR_INVALID_ARGUMENT, "empty");
	expect_error(decode(file_named(".", 1)), ERROR_INVALID_ARGUMENT, "\".\"");
	expect_error(decode(file_named("..", 2)), ERROR_INVALID_ARGUMENT, "\"..\"");
	expect_error(decode(file_named("a/b", 3)), ERROR_INVALID_ARGUMENT, "a/b");
	expect_error(decode(file_named("/", 1)), ERROR_INVALID_ARGUMENT, NULL);
	/* the NUL would end the name for protobuf-c, which then sees "a" */
	expect_error(decode(file_named("a\0b", 3)), ERROR_INVALID_ARGUMENT, "NUL");
	expect_ok(decode(file_named("..a", 3)));
	expect_ok(decode(file_named("\xff\xfe", 2)));
}

static void test_tree_rejects_unsorted_names(void **state)
{
	(void)state;
	expect_ok(decode(files_named((const char *[]){"a", "b"}, 2)));
	expect_error(decode(files_named((const char *[]){"b", "a"}, 2)),
		     ERROR_INVALID_ARGUMENT, "\"a\"");
	/* bytes, not letters: upper case comes first, and a byte above 127 last */
	expect_ok(decode(files_named((const char *[]){"B", "a", "\xc3\xa9"}, 3)));
	expect_error(decode(files_named((const char *[]){"a", "B"}, 2)),
		     ERROR_INVALID_ARGUMENT, "\"B\"");
}

static void test_tree_rejects_duplicates_over_all_kinds(void **state)
{
	Reapi__Directory directory = REAPI__DIRECTORY__INIT;
	Reapi__FileNode file = REAPI__FILE_NODE__INIT;
	Reapi__DirectoryNode dir = REAPI__DIRECTORY_NODE__INIT;
	Reapi__SymlinkNode link = REAPI__SYMLINK_NODE__INIT;
	Reapi__FileNode *files[] = {&file};
	Reapi__DirectoryNode *dirs[] = {&dir};
	Reapi__SymlinkNode *links[] = {&link};

	(void)state;
	file.name = dir.name = link.name = "same";
	file.digest = dir.digest = &wire_digest;
	link.target = "t";
	directory.files = files;
	directory.directories = dirs;
	directory.symlinks = links;
	expect_error(decode(files_named((const char *[]){"a", "a"}, 2)),
		     ERROR_INVALID_ARGUMENT, "twice");
	directory.n_files = directory.n_directories = 1;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "same");
	directory.n_files = 0;
	directory.n_symlinks = 1;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "same");
	directory.n_files = 1;
	directory.n_directories = 0;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "same");
}

static void test_tree_rejects_bad_digests(void **state)
{
	static const char *const hashes[] = {
		"", "abc", HASH "0",
		"2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E"
		"73043362938B9824",
		"../../../../../../../../../../../../../../../../../"
		"../../../etc/"};
	Reapi__Directory directory = REAPI__DIRECTORY__INIT;
	Reapi__DirectoryNode node = REAPI__DIRECTORY_NODE__INIT;
	Reapi__DirectoryNode *nodes[] = {&node};
	Reapi__Digest digest = wire_digest;

	(void)state;
	directory.n_directories = 1;
	directory.directories = nodes;
	node.name = "child";
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "child");
	node.digest = &digest;
	expect_ok(decode(pack(&directory.base)));
	digest.size_bytes = -1;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "child");
	digest.size_bytes = 5;
	for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
		digest.hash = hashes[i];
		expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT,
			     "child");
	}
}

static void test_tree_rejects_bad_targets(void **state)
{
	_cleanup_free_ char *target = alloc_zero(4097);
	_cleanup_buf_ struct buf node = BUF_INIT;
	struct buf nul = BUF_INIT;
	Reapi__Directory directory = REAPI__DIRECTORY__INIT;
	Reapi__SymlinkNode link = REAPI__SYMLINK_NODE__INIT;
	Reapi__SymlinkNode *links[] = {&link};

	(void)state;
	link.name = "l";
	directory.n_symlinks = 1;
	directory.symlinks = links;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "\"l\"");
	link.target = target;
	memset(target, 't', 4095);
	expect_ok(decode(pack(&directory.base)));
	target[4095] = 't';
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT, "\"l\"");
	wire_put_bytes(&node, 1, slice_of("l"));
	wire_put_bytes(&node, 2, (struct slice){(const uint8_t *)"a\0b", 3});
	wire_put_bytes(&nul, 3, buf_slice(&node));
	expect_error(decode(nul), ERROR_INVALID_ARGUMENT, "NUL");
}

static void test_tree_rejects_repeated_and_mistyped_fields(void **state)
{
	_cleanup_buf_ struct buf digest = pack(&wire_digest.base);
	_cleanup_buf_ struct buf node = BUF_INIT;
	struct buf twice = BUF_INIT;
	struct buf number = BUF_INIT;
	struct buf cut = files_named((const char *[]){"a"}, 1);

	(void)state;
	wire_put_bytes(&node, 1, slice_of("a"));
	wire_put_bytes(&node, 2, buf_slice(&digest));
	wire_put_bytes(&node, 1, slice_of("b"));
	wire_put_bytes(&twice, 1, buf_slice(&node));
	expect_error(decode(twice), ERROR_INVALID_ARGUMENT, "malformed");
	wire_put_int(&number, 1, 7);
	expect_error(decode(number), ERROR_INVALID_ARGUMENT, "malformed");
	cut.len--;
	expect_error(decode(cut), ERROR_INVALID_ARGUMENT, "malformed");
}

static void test_tree_skips_unknown_fields(void **state)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct buf bytes = files_named((const char *[]){"a"}, 1);

	(void)state;
	wire_put_bytes(&bytes, 4, slice_of("what a later version may say"));
	wire_put_int(&bytes, 99, 7);
	expect_ok(tree_dir_decode(&bytes, &dir));
	assert_int_equal(dir->n_nodes, 1);
}

static void test_tree_reads_node_properties(void **state)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	Pb__Timestamp mtime = PB__TIMESTAMP__INIT;
	Pb__UInt32Value mode = PB__UINT32_VALUE__INIT;
	Reapi__NodeProperty property = REAPI__NODE_PROPERTY__INIT;
	Reapi__NodeProperty *properties[] = {&property};
	Reapi__NodeProperties props = REAPI__NODE_PROPERTIES__INIT;
	Reapi__FileNode file = REAPI__FILE_NODE__INIT;
	Reapi__FileNode *files[] = {&file};
	Reapi__Directory directory = REAPI__DIRECTORY__INIT;
	struct buf bytes;

	(void)state;
	mtime.seconds = -7;
	mtime.nanos = 999999999;
	mode.value = 0750;
	property.name = "SubtreeReadOnly";
	property.value = "true";
	props.mtime = &mtime;
	props.unix_mode = &mode;
	file.name = "f";
	file.digest = &wire_digest;
	file.node_properties = &props;
	directory.n_files = 1;
	directory.files = files;
	directory.node_properties = &props;
	props.n_properties = 1;
	props.properties = properties;
	bytes = pack(&directory.base);
	expect_ok(tree_dir_decode(&bytes, &dir));
	const struct tree_props *got = dir->nodes[0].props;

	assert_true(got->has_mtime && got->mtime_s == -7 && got->mtime_ns == 999999999);
	assert_true(got->has_unix_mode && got->unix_mode == 0750);
	assert_true(got->is_read_only && dir->props->is_read_only);
	mtime.nanos = 1000000000;
	expect_error(decode(pack(&directory.base)), ERROR_INVALID_ARGUMENT,
		     "nanoseconds");
}

/* Every field, against protobuf-c's own encoder. */
static void test_tree_encodes_as_protobuf_does(void **state)
{
	_cleanup_buf_ struct buf ours = BUF_INIT;
	_cleanup_buf_ struct buf theirs = BUF_INIT;
	struct tree_props props = {.has_mtime = true,
				   .mtime_s = 1700000000,
				   .mtime_ns = 5,
				   .has_unix_mode = true,
				   .unix_mode = 0755,
				   .has_read_only = true,
				   .is_read_only = true};
	struct tree_props bare = {.has_unix_mode = true};
	struct tree_node nodes[] = {file_node("z"), file_node("f1"), file_node("d"),
				    file_node("l"), file_node("f0")};
	ProtobufCMessage *message;

	(void)state;
	nodes[0].digest = digest_of_empty;
	nodes[0].props = &bare;
	nodes[1].is_executable = true;
	nodes[1].props = &props;
	nodes[2].kind = TREE_DIR;
	nodes[3].kind = TREE_SYMLINK;
	nodes[3].target = slice_of("/abs");
	nodes[3].props = &props;
	expect_ok(tree_encode(nodes, 5, &props, &ours));
	message = protobuf_c_message_unpack(&reapi__directory__descriptor, NULL, ours.len,
					    ours.data);
	assert_non_null(message);
	const Reapi__Directory *directory = (const Reapi__Directory *)message;

	assert_int_equal(directory->n_files, 3);
	assert_string_equal(directory->files[0]->name, "f0");
	assert_string_equal(directory->files[2]->name, "z");
	assert_int_equal(directory->files[1]->node_properties->unix_mode->value, 0755);
	assert_string_equal(directory->node_properties->properties[0]->name,
			    "SubtreeReadOnly");
	theirs = pack(message);
	protobuf_c_message_free_unpacked(message, NULL);
	assert_int_equal(ours.len, theirs.len);
	assert_memory_equal(ours.data, theirs.data, ours.len);
}

static void test_tree_encode_keeps_properties_it_does_not_know(void **state)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf first = BUF_INIT;
	_cleanup_buf_ struct buf again = BUF_INIT;
	_cleanup_buf_ struct buf property = BUF_INIT;
	_cleanup_buf_ struct buf raw = BUF_INIT;
	struct tree_props props = {0};
	struct tree_node node = file_node("f");

	(void)state;
	wire_put_bytes(&property, 1, slice_of("colour"));
	wire_put_bytes(&property, 2, slice_of("blue"));
	wire_put_bytes(&raw, 1, buf_slice(&property));
	props.raw = buf_slice(&raw);
	node.props = &props;
	expect_ok(tree_encode(&node, 1, NULL, &first));
	buf_add(&again, first.data, first.len);
	expect_ok(tree_dir_decode(&again, &dir));
	expect_ok(tree_encode(dir->nodes, dir->n_nodes, dir->props, &again));
	assert_true(slice_equal(buf_slice(&first), buf_slice(&again)));
}

static void test_tree_encode_validates(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct tree_node nodes[] = {file_node("a"), file_node("b"), file_node("a")};

	(void)state;
	nodes[2].kind = TREE_DIR;
	expect_error(tree_encode(nodes, 3, NULL, &out), ERROR_INVALID_ARGUMENT, "\"a\"");
	nodes[2].name = slice_of("..");
	expect_error(tree_encode(nodes, 3, NULL, &out), ERROR_INVALID_ARGUMENT, "\"..\"");
	nodes[2] = (struct tree_node){.kind = TREE_SYMLINK, .name = slice_of("l")};
	expect_error(tree_encode(nodes, 3, NULL, &out), ERROR_INVALID_ARGUMENT, "\"l\"");
}

/* Tree messages */

static struct buf dir_with_child(const char *name, struct slice child)
{
	struct tree_node node = {.kind = TREE_DIR, .name = slice_of(name)};
	struct buf out = BUF_INIT;

	hasher_digest(child.data, child.len, &node.digest);
	expect_ok(tree_encode(&node, 1, NULL, &out));
	return out;
}

static void test_tree_message_puts_parents_first_and_each_once(void **state)
{
	_cleanup_buf_ struct buf leaf = dir_with_child("nowhere", slice_of("not here"));
	_cleanup_buf_ struct buf middle = dir_with_child("leaf", buf_slice(&leaf));
	_cleanup_buf_ struct buf root = BUF_INIT;
	_cleanup_buf_ struct buf stray = dir_with_child("stray", slice_of("unreached"));
	_cleanup_buf_ struct buf tree = BUF_INIT;
	_cleanup_free_ struct slice *dirs = NULL;
	struct slice children[] = {buf_slice(&leaf), buf_slice(&stray), buf_slice(&leaf),
				   buf_slice(&middle)};
	struct tree_node nodes[] = {file_node("a"), file_node("b")};
	size_t n = 0;

	(void)state;
	/* the root has the leaf both directly and below the middle: it comes after both
	 */
	nodes[0].kind = nodes[1].kind = TREE_DIR;
	hasher_digest(leaf.data, leaf.len, &nodes[0].digest);
	hasher_digest(middle.data, middle.len, &nodes[1].digest);
	expect_ok(tree_encode(nodes, 2, NULL, &root));
	tree_message_encode(buf_slice(&root), children, 4, true, &tree);
	expect_ok(tree_message_split(buf_slice(&tree), &dirs, &n));
	assert_int_equal(n, 3);
	assert_true(slice_equal(dirs[0], buf_slice(&root)));
	assert_true(slice_equal(dirs[1], buf_slice(&middle)));
	assert_true(slice_equal(dirs[2], buf_slice(&leaf)));
}

static void test_tree_message_keeps_the_order_where_not_asked(void **state)
{
	_cleanup_buf_ struct buf tree = BUF_INIT;
	_cleanup_free_ struct slice *dirs = NULL;
	_cleanup_buf_ struct buf one = dir_with_child("one", slice_of("1"));
	_cleanup_buf_ struct buf two = dir_with_child("two", slice_of("2"));
	struct slice children[] = {buf_slice(&two), buf_slice(&one), buf_slice(&two)};
	ProtobufCMessage *message;
	size_t n = 0;

	(void)state;
	tree_message_encode((struct slice){0}, children, 3, false, &tree);
	message = protobuf_c_message_unpack(&reapi__tree__descriptor, NULL, tree.len,
					    tree.data);
	assert_non_null(message);
	assert_non_null(((const Reapi__Tree *)message)->root);
	assert_int_equal(((const Reapi__Tree *)message)->n_children, 2);
	protobuf_c_message_free_unpacked(message, NULL);
	expect_ok(tree_message_split(buf_slice(&tree), &dirs, &n));
	assert_int_equal(n, 3);
	assert_int_equal(dirs[0].len, 0);
	assert_true(slice_equal(dirs[1], buf_slice(&two)));
}

static void test_tree_message_of_a_long_chain_needs_no_stack(void **state)
{
	enum { DEPTH = 20000 };
	_cleanup_free_ struct buf *dirs = alloc_array(DEPTH, sizeof(*dirs));
	_cleanup_free_ struct slice *children = alloc_array(DEPTH, sizeof(*children));
	_cleanup_free_ struct slice *split = NULL;
	_cleanup_buf_ struct buf tree = BUF_INIT;
	size_t n = 0;

	(void)state;
	for (size_t i = 1; i < DEPTH; i++) {
		dirs[i] = dir_with_child("d", buf_slice(&dirs[i - 1]));
		children[i] = buf_slice(&dirs[i]);
	}
	tree_message_encode(children[DEPTH - 1], children, DEPTH - 1, true, &tree);
	expect_ok(tree_message_split(buf_slice(&tree), &split, &n));
	assert_int_equal(n, DEPTH);
	assert_true(slice_equal(split[DEPTH - 1], children[0]));
	for (size_t i = 0; i < DEPTH; i++)
		buf_deinit(&dirs[i]);
}

static void test_tree_message_split_rejects_others(void **state)
{
	struct slice *dirs = NULL;
	_cleanup_buf_ struct buf two_roots = BUF_INIT;
	size_t n = 0;

	(void)state;
	expect_error(tree_message_split(slice_of(""), &dirs, &n), ERROR_INVALID_ARGUMENT,
		     "root");
	expect_error(tree_message_split(slice_of("\x0a\x05x"), &dirs, &n),
		     ERROR_INVALID_ARGUMENT, "malformed");
	wire_put_bytes(&two_roots, 1, slice_of(""));
	wire_put_bytes(&two_roots, 1, slice_of(""));
	expect_error(tree_message_split(buf_slice(&two_roots), &dirs, &n),
		     ERROR_INVALID_ARGUMENT, "malformed");
	assert_null(dirs);
}

/* Garbage */

static uint64_t garbage_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Whatever is accepted must survive a round through the encoder. */
static void garbage_try(struct buf *bytes)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_(tree_dir_unrefp) struct tree_dir *again = NULL;
	_cleanup_error_ struct error *err = tree_dir_decode(bytes, &dir);
	struct buf encoded = BUF_INIT;

	if (err) {
		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		return;
	}
	expect_ok(tree_encode(dir->nodes, dir->n_nodes, dir->props, &encoded));
	expect_ok(tree_dir_decode(&encoded, &again));
	assert_int_equal(dir->n_nodes, again->n_nodes);
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		assert_true(slice_equal(dir->nodes[i].name, again->nodes[i].name));
		assert_int_equal(dir->nodes[i].kind, again->nodes[i].kind);
		expect_ok(tree_node_check(&dir->nodes[i]));
		if (i)
			assert_true(slice_compare(dir->nodes[i - 1].name,
						  dir->nodes[i].name) < 0);
	}
}

static void test_tree_survives_ten_megabytes_of_garbage(void **state)
{
	_cleanup_buf_ struct buf good = BUF_INIT;
	struct tree_props props = {
		.has_mtime = true, .mtime_s = 3, .has_unix_mode = true};
	struct tree_node nodes[] = {file_node("a"), file_node("b"), file_node("c")};
	uint64_t seed = 20240613;
	size_t total = 0;

	(void)state;
	nodes[0].props = &props;
	nodes[1].kind = TREE_DIR;
	nodes[2].kind = TREE_SYMLINK;
	nodes[2].target = slice_of("t");
	expect_ok(tree_encode(nodes, 3, &props, &good));
	while (total < (size_t)10 << 20) {
		struct buf bytes = BUF_INIT;
		uint64_t kind = garbage_next(&seed) % 4;

		if (kind == 0) { /* noise */
			for (uint64_t n = garbage_next(&seed) % 512; n; n--)
				buf_add_byte(&bytes, (uint8_t)garbage_next(&seed));
		} else { /* a good message, bent in a few places or cut */
			buf_add(&bytes, good.data, good.len);
			for (uint64_t n = garbage_next(&seed) % 4; n; n--)
				bytes.data[garbage_next(&seed) % bytes.len] =
					(uint8_t)garbage_next(&seed);
			if (kind == 1)
				bytes.len = garbage_next(&seed) % bytes.len;
		}
		total += bytes.len + 1;
		garbage_try(&bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_accepts_an_empty_directory),
		cmocka_unit_test(test_tree_merges_all_kinds_in_name_order),
		cmocka_unit_test(test_tree_rejects_bad_names),
		cmocka_unit_test(test_tree_rejects_unsorted_names),
		cmocka_unit_test(test_tree_rejects_duplicates_over_all_kinds),
		cmocka_unit_test(test_tree_rejects_bad_digests),
		cmocka_unit_test(test_tree_rejects_bad_targets),
		cmocka_unit_test(test_tree_rejects_repeated_and_mistyped_fields),
		cmocka_unit_test(test_tree_skips_unknown_fields),
		cmocka_unit_test(test_tree_reads_node_properties),
		cmocka_unit_test(test_tree_encodes_as_protobuf_does),
		cmocka_unit_test(test_tree_encode_keeps_properties_it_does_not_know),
		cmocka_unit_test(test_tree_encode_validates),
		cmocka_unit_test(test_tree_message_puts_parents_first_and_each_once),
		cmocka_unit_test(test_tree_message_keeps_the_order_where_not_asked),
		cmocka_unit_test(test_tree_message_of_a_long_chain_needs_no_stack),
		cmocka_unit_test(test_tree_message_split_rejects_others),
		cmocka_unit_test(test_tree_survives_ten_megabytes_of_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
