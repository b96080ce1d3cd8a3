/*
 * lazyroot upload: local files and directories into the service's store, or without one
 * into this machine's; only what it lacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/client.h"
#include "client/tree_upload.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"

struct upload_result {
	struct digest digest;
	struct tree_upload_totals totals;
	bool is_local; /* a failure before anything was sent */
};

static struct error *upload_put(struct client *client, const struct import *import,
				const struct blob_source *more, size_t n_more,
				struct tree_upload_changes *changes,
				struct tree_upload_totals *totals)
{
	return client->remote
		       ? tree_upload_upload(client, import, more, n_more, changes, totals)
		       : tree_upload_store(client, import, more, n_more, changes, totals);
}

/* Of what was hashed and then changed, the bytes of one moment are sent all the same. */
static struct error *upload_path(struct client *client, const char *path,
				 struct upload_result *out)
{
	_cleanup_(tree_upload_changes_deinit) struct tree_upload_changes changes = {0};

	for (;;) {
		_cleanup_(import_freep) struct import *import = NULL;
		bool is_again = false;
		struct error *err = tree_upload_import(client, path, &changes, &import);

		out->is_local = err != NULL;
		if (!err)
			err = upload_put(client, import, NULL, 0, &changes, &out->totals);
		err = tree_upload_settle(&changes, err, &is_again);
		if (is_again)
			continue;
		if (!err)
			out->digest = *import_digest(import);
		return err;
	}
}

/* A nameless file in the user's cache, which is a disk's and has room. */
static struct error *upload_spool(struct client *client, int *fd_out)
{
	_cleanup_free_ char *name = NULL;
	struct error *err = local_path(&client->local, "incoming-XXXXXX", &name);

	if (err)
		return err;
	*fd_out = mkstemp(name);
	if (*fd_out < 0)
		return error_errno(errno, "create %s", name);
	(void)unlink(name);
	return NULL;
}

static struct error *upload_drain(int from, int to)
{
	static char chunk[256 << 10];

	for (;;) {
		ssize_t n = read(from, chunk, sizeof(chunk));
		struct error *err;

		if (n == 0)
			return NULL;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "read");
		err = file_write_all(to, chunk, (size_t)n);
		if (err)
			return err;
	}
}

/* Standard input and pipes: their size is known only at their end. */
static struct error *upload_stream(struct client *client, const char *path,
				   struct upload_result *out)
{
	_cleanup_(tree_upload_changes_deinit) struct tree_upload_changes changes = {0};
	struct blob_source item = {.from = BLOB_FD, .path = path};
	_cleanup_fd_ int from = strcmp(path, "-") == 0 ? dup(STDIN_FILENO)
						       : open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int fd = -1;
	struct error *err;

	out->is_local = true;
	if (from < 0)
		return error_errno(errno, "open %s", path);
	err = upload_spool(client, &fd);
	if (!err)
		err = error_wrap(upload_drain(from, fd), "%s", path);
	if (!err)
		err = hasher_digest_fd(fd, &item.digest);
	if (err)
		return err;
	out->is_local = false;
	item.fd = fd;
	out->digest = item.digest;
	out->totals = (struct tree_upload_totals){
		.n_files = 1, .n_hashed = 1, .bytes = item.digest.size};
	return upload_put(client, NULL, &item, 1, &changes, &out->totals);
}

/* A pipe that the shell made (/dev/fd/N) has no path of its own. A FIFO has one, and
 * would keep us for as long as nobody writes to it: that is not done unasked. */
static bool upload_is_stream(const char *path)
{
	_cleanup_free_ char *real = NULL;
	struct stat st;

	if (strcmp(path, "-") == 0)
		return true;
	if (stat(path, &st) < 0 || !S_ISFIFO(st.st_mode))
		return false;
	real = realpath(path, NULL);
	return !real;
}

static void upload_show(const struct client *client, const char *path,
			const struct upload_result *result, json_t *uploads)
{
	char text[DIGEST_STRING_MAX];

	if (!client->is_json) {
		say_out("%s\n", digest_format(&result->digest, text));
		say_flush(); /* a script may read line by line */
		return;
	}
	(void)json_array_append_new(
		uploads, json_pack("{s:o,s:o,s:I,s:I,s:I,s:I}", "path",
				   client_json_bytes(slice_of(path)), "digest",
				   client_json_digest(&result->digest), "sent_blobs",
				   (json_int_t)result->totals.n_sent, "sent_bytes",
				   (json_int_t)result->totals.bytes_sent, "saved_bytes",
				   (json_int_t)result->totals.bytes_saved, "shrunk_bytes",
				   (json_int_t)result->totals.bytes_shrunk));
}

/* Said, so that the other paths can go on; consumes err. */
static void upload_leave_out(const char *path, struct error *err, json_t *uploads)
{
	say("lazyroot upload: %s", error_text(err));
	(void)json_array_append_new(
		uploads,
		json_pack("{s:o,s:{s:s,s:o}}", "path", client_json_bytes(slice_of(path)),
			  "error", "code", error_code_name(error_code(err)), "message",
			  client_json_bytes(slice_of(error_text(err)))));
	error_free(err);
}

/* A path that cannot be read does not stop the others; a failure to send does. */
static struct error *upload_paths(struct client *client, char **paths, int n,
				  json_t *uploads, bool *is_complete_out)
{
	struct tree_upload_totals all = {0};

	*is_complete_out = true;
	for (int i = 0; i < n; i++) {
		struct upload_result result = {0};
		struct error *err = upload_is_stream(paths[i])
					    ? upload_stream(client, paths[i], &result)
					    : upload_path(client, paths[i], &result);

		if (err && (!result.is_local || n == 1))
			return err;
		if (err) {
			upload_leave_out(paths[i], err, uploads);
			*is_complete_out = false;
			continue;
		}
		upload_show(client, paths[i], &result, uploads);
		all.n_files += result.totals.n_files;
		all.bytes += result.totals.bytes;
		all.n_hashed += result.totals.n_hashed;
		all.n_sent += result.totals.n_sent;
		all.bytes_sent += result.totals.bytes_sent;
		all.bytes_saved += result.totals.bytes_saved;
		all.bytes_shrunk += result.totals.bytes_shrunk;
	}
	if (!client->is_quiet && !client->is_json)
		tree_upload_summary(&all, !client->remote);
	return NULL;
}

int cmd_upload(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_MTIMES_OPTION(&client),
					  CLIENT_ENTRIES_OPTION(&client),
					  CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot upload",
		.usage = "PATH...|-",
		.summary =
			"Stores files and directories, sending only what the service "
			"lacks, and "
			"prints\nHASH/SIZE of each, a line each; without --server they "
			"go into this machine's store.\n- is standard input; what "
			"cannot be read does not keep the rest.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	bool is_complete;
	json_t *uploads;
	enum import_mtimes mtimes;
	struct error *err;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (operands == argc)
		return client_usage("upload", "no PATH to upload");
	for (int i = operands; i < argc; i++)
		if (!*argv[i])
			return client_usage("upload", "a PATH is empty");
	err = tree_upload_mtimes(&client, &mtimes);
	if (!err && client_has_server(&client))
		err = client_connect(&client);
	else if (!err)
		err = local_must_last(&client.local);
	if (err)
		return client_fail_start("upload", err, CLIENT_FAILED);
	uploads = json_array();
	err = upload_paths(&client, argv + operands, argc - operands, uploads,
			   &is_complete);
	if (client.is_json && !err)
		client_print_json(json_incref(uploads));
	json_decref(uploads);
	if (err)
		return client_fail("upload", err, CLIENT_FAILED);
	return is_complete ? 0 : CLIENT_FAILED;
}
