/*
 * lazyroot download: a blob or a tree out of the store, into a file or a directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/artifact.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/handover.h"

struct download {
	struct client client;
	bool is_merged, is_forced;
};

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

/* DEST's parent, open, and its last name; a DEST that is there is itself, not a link to
 * it. */
static struct error *download_split(const char *dest, int *parent_out, char **name_out)
{
	_cleanup_free_ char *real = realpath(dest, NULL);
	_cleanup_free_ char *path = alloc_string(real ? real : dest);
	char *slash;
	struct error *err;

	while (strlen(path) > 1 && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	slash = strrchr(path, '/');
	if (!slash) {
		*name_out = alloc_string(path);
		return file_open_dir(AT_FDCWD, ".", parent_out);
	}
	*slash = '\0';
	err = file_mkdirs(AT_FDCWD, *path ? path : "/", 0777);
	if (!err)
		err = file_open_dir(AT_FDCWD, *path ? path : "/", parent_out);
	if (!err)
		*name_out = alloc_string(slash + 1);
	return err;
}

static struct error *download_check_empty(const char *dest)
{
	DIR *dir = opendir(dest);
	struct dirent *entry;
	bool is_empty = true;

	if (!dir && errno == ENOENT)
		return NULL;
	if (!dir && errno == ENOTDIR)
		return error_new(ERROR_ALREADY_EXISTS,
				 "%s is there and is no directory: --force replaces it",
				 dest);
	if (!dir)
		return error_errno(errno, "open %s", dest);
	while (is_empty && (entry = readdir(dir)))
		is_empty = strcmp(entry->d_name, ".") == 0 ||
			   strcmp(entry->d_name, "..") == 0;
	(void)closedir(dir);
	return is_empty
		       ? NULL
		       : error_new(ERROR_ALREADY_EXISTS,
				   "%s is not empty: --merge puts the tree among what is "
				   "there, --force replaces all of it",
				   dest);
}

/* Whole, beside DEST, then by rename; or, to merge, over what is there, file by file. */
static struct error *download_tree(struct download *download,
				   const struct checkout_config *config,
				   const struct digest *root, const char *dest)
{
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_fd_ int parent = -1;
	struct error *err = NULL;

	if (download->is_merged)
		return checkout_tree(config, root, AT_FDCWD, dest);
	if (!download->is_forced)
		err = download_check_empty(dest);
	if (!err)
		err = download_split(dest, &parent, &name);
	if (err)
		return err;
	handover = handover_new(config, parent);
	err = handover_add_tree(handover, name, root);
	return err ? err : handover_run(handover);
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
				 "lazyroot cat has those of a file in it",
				 digest_format(digest, text));
	err = fetch_fd(client->fetch, digest, NULL, &fd);
	return err ? err : client_written(STDOUT_FILENO, file_copy(fd, STDOUT_FILENO));
}

static struct error *download_to(struct download *download, const struct digest *digest,
				 const char *dest)
{
	struct client *client = &download->client;
	_cleanup_(progress_endp) struct progress *progress =
		progress_begin("Downloading", client->is_quiet);
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
	return checkout_file(&config, digest, false, NULL, AT_FDCWD, dest);
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
	err = client_connect(client);
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
