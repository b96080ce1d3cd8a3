/*
 * lazyroot cat: the bytes of a blob, or of a file in a tree, on stdout.
 */
#include <errno.h>

#include "client/client.h"
#include "lib/base/file.h"

static struct error *cat_file(struct client *client, const struct digest *digest,
			      const char *path, struct digest *file_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;
	struct digest root;
	bool is_tree;
	struct error *err;

	err = client_tree_root(client, digest, &is_tree, &root);
	if (!err && !is_tree)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the digest names no tree, so it has no path %s", path);
	if (!err)
		err = client_find(client, &root, path, &dir, &node);
	if (!err && (!node || node->kind != TREE_FILE))
		err = error_new(ERROR_INVALID_ARGUMENT, "%s is not a file", path);
	if (!err)
		*file_out = node->digest;
	return err;
}

static struct error *cat(struct client *client, struct digest digest, const char *path)
{
	_cleanup_fd_ int fd = -1;
	struct error *err = NULL;

	if (*path)
		err = cat_file(client, &digest, path, &digest);
	if (!err)
		err = fetch_fd(client->fetch, &digest, NULL, &fd);
	if (!err)
		err = file_copy(fd, STDOUT_FILENO);
	if (error_errnum(err) == EPIPE)
		return error_free(err);
	return err;
}

int cmd_cat(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot cat",
		.usage = "DIGEST [PATH]",
		.summary = "Prints a blob, or the file at PATH of the tree DIGEST.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct digest digest;
	int operands;
	int code;
	struct error *err;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (argc - operands < 1 || argc - operands > 2)
		return client_usage("cat", "name one DIGEST, and perhaps a PATH in it");
	err = client_digest(argv[operands], &digest);
	if (!err)
		err = client_open_store(&client);
	if (err)
		return client_fail_start("cat", err, CLIENT_FAILED);
	return client_fail(
		"cat",
		cat(&client, digest, argc - operands == 2 ? argv[operands + 1] : ""),
		CLIENT_FAILED);
}
