/*
 * lazyroot ls: the names in a tree; no file's content is fetched for it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "client/subject.h"
#include "lib/base/alloc.h"
#include "lib/cas/treeload.h"

struct ls {
	struct client client;
	bool is_long;
	bool is_recursive;
	int64_t n_entries;
	json_t *entries;
};

static void ls_deinit(struct ls *ls)
{
	client_deinit(&ls->client);
	json_decref(ls->entries);
}

static const char *ls_kind(const struct tree_node *node)
{
	switch (node->kind) {
	case TREE_FILE:
		return node->is_executable ? "-rwxr-xr-x" : "-rw-r--r--";
	case TREE_DIR:
		return "drwxr-xr-x";
	case TREE_SYMLINK:
		return "lrwxrwxrwx";
	}
	return "";
}

static void ls_print(const struct ls *ls, const char *prefix,
		     const struct tree_node *node)
{
	char text[DIGEST_STRING_MAX];

	if (ls->is_long)
		say_out("%s %12" PRId64 " %-77s ", ls_kind(node),
			node->kind == TREE_FILE ? node->digest.size : 0,
			node->kind == TREE_SYMLINK ? "-"
						   : digest_format(&node->digest, text));
	say_out("%s", prefix);
	say_bytes(node->name);
	if (node->kind == TREE_DIR)
		say_raw("/");
	if (ls->is_long && node->kind == TREE_SYMLINK) {
		say_raw(" -> ");
		say_bytes(node->target);
	}
	say_raw("\n");
}

static json_t *ls_json_path(const char *prefix, struct slice name)
{
	_cleanup_buf_ struct buf path = BUF_INIT;

	buf_add_string(&path, prefix);
	buf_add(&path, name.data, name.len);
	return client_json_bytes(buf_slice(&path));
}

static void ls_add_json(const struct ls *ls, const char *prefix,
			const struct tree_node *node)
{
	static const char *const kinds[] = {"file", "directory", "symlink"};
	json_t *json = json_pack("{s:o,s:s}", "path", ls_json_path(prefix, node->name),
				 "type", kinds[node->kind]);

	if (node->kind == TREE_SYMLINK)
		(void)json_object_set_new(json, "target",
					  client_json_bytes(node->target));
	else
		(void)json_object_set_new(json, "digest",
					  client_json_digest(&node->digest));
	if (node->kind == TREE_FILE)
		(void)json_object_set_new(json, "executable",
					  json_boolean(node->is_executable));
	(void)json_array_append_new(ls->entries, json);
}

static void ls_show(const struct ls *ls, const char *prefix, const struct tree_node *node)
{
	if (ls->client.is_json)
		ls_add_json(ls, prefix, node);
	else
		ls_print(ls, prefix, node);
}

static struct error *ls_dir(struct ls *ls, const struct digest *digest,
			    const char *prefix, unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err;

	if (depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree is deeper than %d levels", TREE_DEPTH_MAX);
	err = dircache_get(ls->client.dirs, digest, NULL, &dir);
	for (uint32_t i = 0; !err && i < dir->n_nodes; i++) {
		const struct tree_node *node = &dir->nodes[i];
		_cleanup_free_ char *below = NULL;

		if (++ls->n_entries > ls->client.entries_max)
			return treeload_too_many(digest, ls->client.entries_max);
		ls_show(ls, prefix, node);
		if (!ls->is_recursive || node->kind != TREE_DIR)
			continue;
		below = alloc_printf("%s%.*s/", prefix, (int)node->name.len,
				     (const char *)node->name.data);
		err = ls_dir(ls, &node->digest, below, depth + 1);
	}
	return err;
}

static struct error *ls_tree(struct ls *ls, const char *text, const char *path)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;
	struct digest root;
	struct error *err = subject_root(&ls->client, text, &root);

	if (!err &&
	    ls->is_recursive) /* few round trips; what fails here fails below too */
		error_free(treeload_run(ls->client.dirs, &root, SIZE_MAX, NULL));
	if (!err)
		err = client_find(&ls->client, &root, path, &dir, &node);
	if (err)
		return err;
	if (node && node->kind != TREE_DIR) {
		ls_show(ls, "", node);
		return NULL;
	}
	if (node)
		root = node->digest;
	if (ls->is_recursive)
		err = treeload_check_entries(ls->client.dirs, &root,
					     ls->client.entries_max);
	return err ? err : ls_dir(ls, &root, "", 0);
}

int cmd_ls(int argc, char **argv)
{
	_cleanup_(ls_deinit) struct ls ls = {.client = CLIENT_INIT};
	const struct option_def defs[] = {
		{"long", 'l', OPTION_FLAG, NULL, "mode, size, digest and link target too",
		 NULL, &ls.is_long, 0, 0},
		{"recursive", 'R', OPTION_FLAG, NULL, "all levels", NULL,
		 &ls.is_recursive, 0, 0},
		CLIENT_ENTRIES_OPTION(&ls.client),
		CLIENT_OPTIONS(&ls.client),
	};
	const struct option_program program = {
		.name = "lazyroot ls",
		.usage = "[-l] [-R] TREE [PATH]",
		.summary = "Lists a tree. No file's content is fetched." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int at, code;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 1, 2,
				   "name one TREE, and perhaps a PATH in it", &at, &code))
		return code;
	err = subject_check(&ls.client, argv[at]);
	if (!err)
		err = client_open_fetch(&ls.client);
	if (err)
		return client_fail_start("ls", err, CLIENT_FAILED);
	ls.entries = json_array();
	err = ls_tree(&ls, argv[at], argc - at == 2 ? argv[at + 1] : "");
	if (!err && ls.client.is_json)
		client_print_json(json_incref(ls.entries));
	return client_fail("ls", err, CLIENT_FAILED);
}
