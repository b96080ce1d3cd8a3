/*
 * lazyroot download: a blob or a tree out of the store, into a file or a directory.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "client/artifact.h"
#include "client/destination.h"
#include "client/progress.h"
#include "lib/base/file.h"

struct download {
	struct client client;
	bool is_merged, is_forced;
};

static void download_progress(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes)
{
	const struct progress_count count = {n_done, n_total, bytes, 0};

	progress_update(ctx, &count);
}

/* The empty blob is an empty file and an empty Directory: DEST decides. */
static bool download_means_file(const struct digest *digest, const char *dest)
{
	struct stat st;

	if (digest->size || dest[strlen(dest) - 1] == '/')
		return false;
	return stat(dest, &st) < 0 || !S_ISDIR(st.st_mode);
}

/* Whole, beside DEST, then by rename; or, to merge, over what is there, file by file. */
static struct error *download_tree(struct download *download,
				   const struct checkout_config *config,
				   const struct digest *root, const char *dest)
{
	struct error *err = NULL;

	if (download->is_merged)
		return checkout_tree(config, root, AT_FDCWD, dest);
	if (!download->is_forced)
		err = destination_check(dest, "--merge puts the tree among what is "
					      "there, --force replaces all of it");
	return err ? err : destination_put_tree(config, root, download->is_forced, dest);
}

/* DEST is "-": a blob's bytes on stdout; a tree is no stream of bytes. */
static struct error *download_to_stdout(struct client *client,
					const struct digest *digest, bool is_tree)
{
	_cleanup_fd_ int fd = -1;
	char text[DIGEST_STRING_MAX];
	struct error *err;

	if (is_tree && digest->size)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s is a tree, and standard output takes only bytes: "
				 "lazyroot cat has those of a file in it, checkout --tar "
				 "- an archive",
				 digest_format(digest, text));
	err = fetch_fd(client->fetch, digest, NULL, &fd);
	return err ? err : client_written(STDOUT_FILENO, file_copy(fd, STDOUT_FILENO));
}

/* Where it takes the place of a file, beside it and then by rename. */
static struct error *download_file(const struct download *download,
				   const struct checkout_config *config,
				   const struct digest *digest, const char *dest)
{
	_cleanup_fd_ int to_fd = -1;
	_cleanup_fd_ int fd = -1;
	struct error *err = destination_open_stream(dest, &to_fd);

	if (!err && to_fd < 0)
		return checkout_file(config, digest, false, NULL, AT_FDCWD, dest);
	if (!err)
		err = fetch_fd(download->client.fetch, digest, NULL, &fd);
	return err ? err : file_copy(fd, to_fd);
}

static struct error *download_to(struct download *download, const struct digest *digest,
				 const char *dest)
{
	struct client *client = &download->client;
	_cleanup_(progress_endp) struct progress *progress =
		progress_begin(PROGRESS_DOWNLOADING, client->is_quiet, client->is_json);
	struct checkout_config config = {.progress = download_progress,
					 .ctx = progress,
					 .mtime_ns = clock_wall_ns(),
					 .entries_max = client->entries_max};
	struct digest root;
	bool is_tree;
	struct error *err;

	err = client_open_fetch(client);
	if (!err)
		err = client_tree_root(client, digest, &is_tree, &root);
	if (err)
		return err;
	if (strcmp(dest, "-") == 0)
		return download_to_stdout(client, digest, is_tree);
	config.dirs = client->dirs;
	config.pool = client->local.pool;
	if (is_tree && !download_means_file(digest, dest))
		return download_tree(download, &config, &root, dest);
	return download_file(download, &config, digest, dest);
}

static void download_deinit(struct download *download)
{
	client_deinit(&download->client);
}

int cmd_download(int argc, char **argv)
{
	_cleanup_(download_deinit) struct download download = {.client = CLIENT_INIT};
	struct client *client = &download.client;
	const struct option_def defs[] = {
		{"merge", 0, OPTION_FLAG, NULL,
		 "a tree goes among what DEST holds, over files of the same name", NULL,
		 &download.is_merged, 0, 0},
		{"force", 0, OPTION_FLAG, NULL, "a tree replaces DEST, whatever is there",
		 NULL, &download.is_forced, 0, 0},
		CLIENT_ENTRIES_OPTION(&download.client),
		CLIENT_OPTIONS(&download.client),
	};
	const struct option_program program = {
		.name = "lazyroot download",
		.usage = "[--merge|--force] DIGEST|NAME DEST",
		.summary = "Brings back a file, a Directory or a Tree (told apart by "
			   "content) to "
			   "DEST,\nor the outputs of an artifact by its NAME; - is "
			   "standard output, for a file.",
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
	if (download.is_merged && download.is_forced)
		return client_usage("download", "--merge and --force exclude each other");
	err = client_open_fetch(client);
	if (!err)
		err = artifact_or_digest(client, argv[operands], &digest);
	if (err)
		return client_fail_start("download", err, CLIENT_FAILED);
	err = download_to(&download, &digest, argv[operands + 1]);
	if (!err && client->is_json && strcmp(argv[operands + 1], "-") != 0)
		client_print_json(json_pack(
			"{s:o,s:o}", "digest", client_json_digest(&digest), "dest",
			client_json_bytes(slice_of(argv[operands + 1]))));
	return client_fail("download", err, CLIENT_FAILED);
}
