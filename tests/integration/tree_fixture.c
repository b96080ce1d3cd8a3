/* What tree_fixture.h declares; the tests of one program run on one thread. */
#include "tests/integration/tree_fixture.h"

const char *note_about(struct fixture *fixture, const struct outcome *outcome,
		       const char *path)
{
	Lazyroot__ReadReport *report = report_of(fixture, outcome);
	size_t len = strlen(path);

	for (size_t i = 0; i < report->n_notes; i++)
		if (strncmp(report->notes[i], path, len) == 0 &&
		    report->notes[i][len] == ':')
			return report->notes[i];
	return NULL;
}

void assert_file_says(struct fixture *fixture, const struct outcome *outcome,
		      const char *path, const char *text)
{
	const Reapi__OutputFile *file = output_file(outcome, path);

	if (!file)
		fail_msg("no output file \"%s\"", path);
	assert_string_equal(get_blob(fixture, file->digest, NULL), text);
}

void tree_deinit(struct tree *tree)
{
	free(tree->dirs);
	free(tree->digests);
}

struct tree tree_of(struct fixture *fixture, const Reapi__OutputDirectory *output)
{
	struct tree tree = {0};
	struct slice bytes;

	assert_non_null(output);
	assert_non_null(output->tree_digest);
	bytes.data = (const uint8_t *)get_blob(fixture, output->tree_digest, &bytes.len);
	assert_no_error(tree_message_split(bytes, &tree.dirs, &tree.n));
	tree.digests = alloc_array(tree.n, sizeof(*tree.digests));
	for (size_t i = 0; i < tree.n; i++)
		tree.digests[i] = digest_of(tree.dirs[i].data, tree.dirs[i].len);
	return tree;
}

struct tree_dir *tree_decode_at(const struct tree *tree, size_t i)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct tree_dir *dir = NULL;

	buf_add(&bytes, tree->dirs[i].data, tree->dirs[i].len);
	assert_no_error(tree_dir_decode(&bytes, &dir));
	return dir;
}

static size_t tree_index(const struct tree *tree, const struct digest *digest)
{
	for (size_t i = 0; i < tree->n; i++)
		if (digest_equal(&tree->digests[i], digest))
			return i;
	fail_msg("the Tree lacks a Directory that it names");
	return 0;
}

void assert_tree_is_canonical(const struct tree *tree)
{
	_cleanup_free_ bool *is_named = alloc_array(tree->n, sizeof(bool));

	for (size_t i = 0; i < tree->n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = tree_decode_at(tree, i);

		for (size_t k = 0; k < i; k++)
			assert_false(digest_equal(&tree->digests[i], &tree->digests[k]));
		for (uint32_t k = 0; k < dir->n_nodes; k++) {
			size_t child;

			if (dir->nodes[k].kind != TREE_DIR)
				continue;
			child = tree_index(tree, &dir->nodes[k].digest);
			assert_true(child > i);
			is_named[child] = true;
		}
	}
	for (size_t i = 1; i < tree->n; i++)
		assert_true(is_named[i]);
}

/* A listing as "path kind" lines, in order. */
static void tree_list(const struct tree *tree, size_t at, const char *prefix,
		      struct buf *out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = tree_decode_at(tree, at);

	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		const struct tree_node *node = &dir->nodes[i];
		_cleanup_free_ char *path =
			alloc_printf("%s%.*s", prefix, (int)node->name.len,
				     (const char *)node->name.data);

		switch (node->kind) {
		case TREE_FILE:
			buf_printf(out, "%s%s\n", path, node->is_executable ? "*" : "");
			break;
		case TREE_SYMLINK:
			buf_printf(out, "%s -> %.*s\n", path, (int)node->target.len,
				   (const char *)node->target.data);
			break;
		case TREE_DIR: {
			_cleanup_free_ char *below = alloc_printf("%s/", path);

			buf_printf(out, "%s/\n", path);
			tree_list(tree, tree_index(tree, &node->digest), below, out);
			break;
		}
		}
	}
}

void assert_tree_lists(struct fixture *fixture, const Reapi__OutputDirectory *output,
		       const char *listing)
{
	_cleanup_(tree_deinit) struct tree tree = tree_of(fixture, output);
	_cleanup_buf_ struct buf got = BUF_INIT;

	assert_tree_is_canonical(&tree);
	tree_list(&tree, 0, "", &got);
	assert_string_equal(buf_string(&got), listing);
}

void assert_all_stored(struct fixture *fixture, const struct tree *tree)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	Reapi__FindMissingBlobsResponse *response;

	request.n_blob_digests = tree->n;
	request.blob_digests =
		arena_zero(&fixture->arena, tree->n * sizeof(*request.blob_digests));
	for (size_t i = 0; i < tree->n; i++)
		request.blob_digests[i] = wire_of_digest(fixture, &tree->digests[i]);
	assert_no_error(
		call(fixture, CAS_SERVICE, "FindMissingBlobs", &request.base, &message));
	response = (void *)message;
	assert_int_equal(response->n_missing_blob_digests, 0);
}
