/*
 * lazyroot download: a blob or a tree out of the store, into a file or a directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "client/client.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/checkout.h"

static void download_progress(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes)
{
	progress_update(ctx, n_done, n_total, bytes, 0);
}

/* The empty blob is an empty file and an empty Directory: DEST decides. */
static bool download_means_file(const struct digest *digest, const char *dest)
{
	struct stat st;

	if (digest->size || dest[strlen(dest) - 1] == '/')
		return false;
	return stat(dest, &st) < 0 || !S_ISDIR(st.st_mode);
}

static struct error *download_to(struct client *client, const struct digest *digest,
				 const char *dest)
{
	_cleanup_(progress_endp) struct progress *progress =
		progress_begin("Downloading", client->is_quiet);
	struct checkout_config config = {.progress = download_progress, .ctx = progress};
	_cleanup_free_ char *path = alloc_string(dest);
	struct digest root;
	bool is_tree;
	struct error *err;

	while (strlen(path) > 1 && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	err = client_open_store(client);
	if (!err)
		err = client_tree_root(client, digest, &is_tree, &root);
	if (err)
		return err;
	config.dirs = client->dirs;
	config.pool = client->pool;
	if (is_tree && !download_means_file(digest, dest))
		return checkout_tree(&config, &root, AT_FDCWD, path);
	return checkout_file(&config, digest, false, AT_FDCWD, path);
}

int cmd_download(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = {0};
	const struct option_def defs[] = {CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot download",
		.usage = "DIGEST DEST",
		.summary = "Brings back a file, a Directory or a Tree (told apart by "
			   "content) to "
			   "DEST.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct digest digest;
	int operands;
	int code;
	struct error *err;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (argc - operands != 2 || !*argv[operands + 1])
		return client_usage("download", "name one DIGEST and one DEST");
	err = digest_parse(argv[operands], &digest);
	if (err)
		return client_fail("download", err, CLIENT_USAGE);
	err = download_to(&client, &digest, argv[operands + 1]);
	if (!err && client.is_json)
		client_print_json(json_pack("{s:o,s:s}", "digest",
					    client_json_digest(&digest), "dest",
					    argv[operands + 1]));
	return client_fail("download", err, CLIENT_FAILED);
}
