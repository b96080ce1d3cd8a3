/* Owns nothing; main thread. */
#include "client/outcome.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/progress.h"
#include "client/report_text.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/units.h"
#include "lib/cas/checkout.h"

/* Logs */

static struct error *outcome_copy_log(struct client *client, const Reapi__Digest *wire,
				      int to_fd)
{
	_cleanup_fd_ int fd = -1;
	struct digest digest;
	struct error *err;

	err = digest_from_wire(wire, &digest);
	if (!err && digest.size)
		err = client_open_store(client);
	if (!err && digest.size)
		err = fetch_fd(client->fetch, &digest, NULL, &fd);
	return err || fd < 0 ? err : file_copy(fd, to_fd);
}

static struct error *outcome_log(struct client *client, const ProtobufCBinaryData *raw,
				 const Reapi__Digest *digest, int to_fd, const char *name)
{
	struct error *err = NULL;

	if (raw->len)
		err = file_write_all(to_fd, raw->data, raw->len);
	else if (digest)
		err = outcome_copy_log(client, digest, to_fd);
	if (error_errnum(err) ==
	    EPIPE) /* whoever read our output has gone: as cat does */
		return error_free(err);
	return error_wrap(err, "the command's %s", name);
}

/* Outputs */

struct outcome_files {
	const struct checkout_config *checkout;
	int dir_fd;
};

/* The parent of an output below the download directory; links are not followed. */
static struct error *outcome_parent(int dir_fd, const char *path, int *parent_out,
				    const char **name_out)
{
	_cleanup_free_ char *parent = alloc_string(path);
	char *slash = strrchr(parent, '/');
	struct error *err;

	if (file_path_escapes(path))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "output %s does not lie below the download directory",
				 path);
	*name_out = slash ? path + (slash - parent) + 1 : path;
	if (!slash)
		return file_open_dir(dir_fd, ".", parent_out);
	*slash = '\0';
	err = file_mkdirs(dir_fd, parent, 0755);
	return err ? err
		   : file_open_beneath(dir_fd, parent, O_RDONLY | O_DIRECTORY, 0,
				       parent_out);
}

static struct error *outcome_file(const struct outcome_files *files,
				  const Reapi__OutputFile *file)
{
	_cleanup_fd_ int parent = -1;
	struct digest digest;
	const char *name;
	struct error *err;

	err = digest_from_wire(file->digest, &digest);
	if (!err)
		err = outcome_parent(files->dir_fd, file->path, &parent, &name);
	if (!err)
		err = checkout_file(files->checkout, &digest, file->is_executable, parent,
				    name);
	return error_wrap(err, "output %s", file->path);
}

static struct error *outcome_link(const struct outcome_files *files,
				  const Reapi__OutputSymlink *link)
{
	_cleanup_fd_ int parent = -1;
	const char *name;
	struct error *err;

	err = outcome_parent(files->dir_fd, link->path, &parent, &name);
	if (err)
		return error_wrap(err, "output %s", link->path);
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return error_errno(errno, "replace output %s", link->path);
	if (symlinkat(link->target, parent, name) < 0)
		return error_errno(errno, "make output link %s", link->path);
	return NULL;
}

static struct error *outcome_directory(const struct outcome_files *files,
				       struct client *client,
				       const Reapi__OutputDirectory *dir)
{
	/* "." and "" name the working directory itself */
	bool is_self = strcmp(dir->path, "") == 0 || strcmp(dir->path, ".") == 0;
	_cleanup_fd_ int parent = -1;
	const char *name = ".";
	struct digest digest;
	struct digest root;
	bool is_tree;
	struct error *err;

	err = digest_from_wire(dir->root_directory_digest ? dir->root_directory_digest
							  : dir->tree_digest,
			       &digest);
	if (!err)
		err = client_tree_root(client, &digest, &is_tree, &root);
	if (!err && !is_tree)
		err = error_new(ERROR_DATA_LOSS,
				"the result names a blob that is no tree");
	if (!err)
		err = is_self ? file_open_dir(files->dir_fd, ".", &parent)
			      : outcome_parent(files->dir_fd, dir->path, &parent, &name);
	if (!err)
		err = checkout_tree(files->checkout, &root, parent, name);
	return error_wrap(err, "output %s", dir->path);
}

static struct error *outcome_download(const struct outcome_config *config,
				      const Reapi__ActionResult *result)
{
	struct client *client = config->client;
	_cleanup_fd_ int dir_fd = -1;
	struct checkout_config checkout = {0};
	struct outcome_files files = {.checkout = &checkout};
	struct error *err;

	if (!result->n_output_files && !result->n_output_directories &&
	    !result->n_output_symlinks && !result->n_output_file_symlinks &&
	    !result->n_output_directory_symlinks)
		return NULL;
	err = client_open_store(client);
	if (!err)
		err = file_mkdirs(AT_FDCWD, config->download, 0755);
	if (!err)
		err = file_open_dir(AT_FDCWD, config->download, &dir_fd);
	if (err)
		return err;
	checkout.dirs = client->dirs;
	checkout.pool = client->pool;
	files.dir_fd = dir_fd;
	for (size_t i = 0; !err && i < result->n_output_files; i++)
		err = outcome_file(&files, result->output_files[i]);
	for (size_t i = 0; !err && i < result->n_output_directories; i++)
		err = outcome_directory(&files, client, result->output_directories[i]);
	for (size_t i = 0; !err && i < result->n_output_symlinks; i++)
		err = outcome_link(&files, result->output_symlinks[i]);
	/* from services that fill only the fields of before 2.1 */
	for (size_t i = 0;
	     !err && !result->n_output_symlinks && i < result->n_output_file_symlinks;
	     i++)
		err = outcome_link(&files, result->output_file_symlinks[i]);
	for (size_t i = 0; !err && !result->n_output_symlinks &&
			   i < result->n_output_directory_symlinks;
	     i++)
		err = outcome_link(&files, result->output_directory_symlinks[i]);
	return err;
}

/* All of it */

static int outcome_exit_code(const Reapi__ExecuteResponse *response)
{
	if (response->status && response->status->code == ERROR_DEADLINE_EXCEEDED)
		return CLIENT_TIMED_OUT;
	return response->result->exit_code;
}

struct error *outcome_deliver(const struct outcome_config *config,
			      const struct execution_outcome *outcome, int *exit_out)
{
	const Reapi__ActionResult *result = outcome->response->result;
	struct client *client = config->client;
	bool wants_stdout = config->report && strcmp(config->report, "-") == 0;
	struct error *err;

	if (!result)
		return error_new(ERROR_INTERNAL, "the service sent no result");
	/* the report goes to stdout: then the command's words must not mix with it */
	err = outcome_log(client, &result->stdout_raw, result->stdout_digest,
			  wants_stdout || client->is_json ? STDERR_FILENO : STDOUT_FILENO,
			  "stdout");
	if (!err)
		err = outcome_log(client, &result->stderr_raw, result->stderr_digest,
				  STDERR_FILENO, "stderr");
	if (!err && config->download)
		err = outcome_download(config, result);
	if (!err)
		err = report_text_deliver(config, outcome,
					  outcome_exit_code(outcome->response));
	if (err)
		return err;
	if (outcome->response->status &&
	    outcome->response->status->code == ERROR_DEADLINE_EXCEEDED)
		(void)fprintf(stderr, "lazyroot run: %s\n",
			      outcome->response->status->message);
	*exit_out = outcome_exit_code(outcome->response);
	return NULL;
}
