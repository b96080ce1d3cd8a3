/* Owns the connection and the store behind struct client, made when first needed. */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/hasher.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define CLIENT_THREADS 4

static char *client_private; /* private_dir of the one client that a program has */

static void client_log_count(void *ctx, const char *path, uint64_t n)
{
	(void)ctx;
	log_debug("calls %s=%llu", path, (unsigned long long)n);
}

void client_deinit(struct client *client)
{
	if (client->chan && log_is_on(LOG_DEBUG, LOG_MODULE))
		rpc_chan_each_count(client->chan, client_log_count, NULL);
	dircache_free(client->dirs);
	fetch_free(client->fetch);
	pool_free(client->pool);
	remote_free(client->remote);
	rpc_chan_free(client->chan);
	store_close(client->store);
	client_drop_private();
	client_private = NULL;
	free(client->private_dir);
	free(client->server);
	free(client->instance);
	rpc_creds_options_deinit(&client->creds);
}

bool client_parse(const struct option_program *program, int argc, char **argv,
		  int *operands_out, int *exit_out)
{
	bool is_done = false;
	struct error *err;

	err = log_configure("warn");
	if (!err)
		err = option_parse(program, argc, argv, operands_out, &is_done);
	if (err) {
		say("%s: %s", program->name, error_text(err));
		error_free(err);
		*exit_out = CLIENT_USAGE;
		return false;
	}
	*exit_out = 0;
	return !is_done;
}

int client_fail(const char *verb, struct error *err, int code)
{
	if (!err)
		return 0;
	say("lazyroot %s: %s", verb, error_text(err));
	if (log_is_on(LOG_DEBUG, LOG_MODULE))
		say("  %s from %s", error_code_name(error_code(err)), error_trace(err));
	error_free(err);
	return code;
}

int client_usage(const char *verb, const char *what)
{
	say("lazyroot %s: %s (see lazyroot %s --help)", verb, what, verb);
	return CLIENT_USAGE;
}

struct error *client_connect(struct client *client)
{
	struct rpc_chan_config chan = {.address = client->server,
				       .tool_name = "lazyroot"};
	struct remote_config remote = {.instance = client->instance};
	struct error *err;

	if (client->remote)
		return NULL;
	if (client->rpc_timeout_ns < NS_PER_MS)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--rpc-timeout must be at least 1ms");
	if (!client->server || !*client->server)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "no server: give --server ADDR, or set LAZYROOT_SERVER");
	err = rpc_init();
	if (!err)
		rpc_creds_options_apply(&client->creds, &chan);
	if (!err)
		err = rpc_chan_new(&chan, &client->chan);
	if (err)
		return err;
	remote.chan = client->chan;
	remote.timeout_ms = client->rpc_timeout_ns / NS_PER_MS;
	return remote_new(&remote, &client->remote);
}

static char *client_cache_dir(void)
{
	const char *base = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (base && *base == '/')
		return alloc_printf("%s/lazyroot", base);
	if (home && *home == '/')
		return alloc_printf("%s/.cache/lazyroot", home);
	return NULL;
}

static struct error *client_user_dir(char **dir_out)
{
	_cleanup_free_ char *dir = client_cache_dir();
	struct error *err;

	if (!dir)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "neither XDG_CACHE_HOME nor HOME says where it is");
	err = file_mkdirs(AT_FDCWD, dir, 0700);
	if (!err && access(dir, W_OK | X_OK) < 0)
		err = error_errno(errno, "write to %s", dir);
	if (!err)
		*dir_out = take(dir);
	return err;
}

void client_drop_private(void)
{
	if (client_private)
		error_free(file_remove_tree(AT_FDCWD, client_private));
}

static struct error *client_make_private(struct client *client, struct error *why)
{
	_cleanup_error_ struct error *reason = why;
	const char *base = getenv("TMPDIR");
	_cleanup_free_ char *dir =
		alloc_printf("%s/lazyroot-XXXXXX", base && *base == '/' ? base : "/tmp");

	if (!mkdtemp(dir))
		return error_errno(errno,
				   "there is no cache directory (%s), nor could %s be "
				   "made instead",
				   error_text(reason), dir);
	say("lazyroot: there is no cache directory (%s): nothing is kept for later "
	    "commands",
	    error_text(reason));
	client->private_dir = take(dir);
	client_private = client->private_dir;
	return NULL;
}

struct error *client_cache_path(struct client *client, const char *name, char **path_out)
{
	_cleanup_free_ char *dir = NULL;
	struct error *err = client->private_dir ? NULL : client_user_dir(&dir);

	if (err)
		err = client_make_private(client, err);
	if (err)
		return err;
	*path_out = alloc_printf("%s/%s", client->private_dir ? client->private_dir : dir,
				 name);
	return NULL;
}

struct error *client_open_pool(struct client *client)
{
	return client->pool ? NULL : pool_new("disk", CLIENT_THREADS, &client->pool);
}

struct error *client_open_store(struct client *client)
{
	_cleanup_free_ char *path = NULL;
	struct store_config store = {.is_shared = true};
	struct fetch_config fetch;
	struct error *err;

	if (client->dirs)
		return NULL;
	err = client_connect(client);
	if (!err)
		err = client_open_pool(client);
	if (!err)
		err = client_cache_path(client, "cas", &path);
	if (err)
		return err;
	store.dir = path;
	err = store_open(&store, &client->store);
	if (err)
		return err;
	fetch = (struct fetch_config){
		.store = client->store, .remote = client->remote, .pool = client->pool};
	err = fetch_new(&fetch, &client->fetch);
	if (err)
		return err;
	client->dirs = dircache_new(client->fetch, DIRCACHE_MEMORY_MAX);
	return NULL;
}

/* Trees */

/* Puts a Tree's directories into the store, so that they are found by digest. */
static struct error *client_unpack_tree(struct client *client, struct slice bytes,
					struct digest *root_out)
{
	_cleanup_free_ struct slice *dirs = NULL;
	struct error *err;
	size_t n;

	err = tree_message_split(bytes, &dirs, &n);
	for (size_t i = 0; !err && i < n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		_cleanup_buf_ struct buf copy = BUF_INIT;
		struct digest digest;

		buf_add(&copy, dirs[i].data, dirs[i].len);
		hasher_digest(dirs[i].data, dirs[i].len, &digest);
		err = tree_dir_decode(&copy, &dir);
		if (!err)
			err = store_put(client->store, &digest, dirs[i].data,
					dirs[i].len);
		if (!err && i == 0)
			*root_out = digest;
	}
	return err;
}

struct error *client_tree_root(struct client *client, const struct digest *digest,
			       bool *is_tree_out, struct digest *root_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf copy = BUF_INIT;
	_cleanup_error_ struct error *not_dir = NULL;
	_cleanup_error_ struct error *not_tree = NULL;
	struct error *err;

	if ((uint64_t)digest->size > TREE_DIR_MAX) {
		*is_tree_out = false;
		return NULL;
	}
	err = fetch_bytes(client->fetch, digest, TREE_DIR_MAX, NULL, &bytes);
	if (err)
		return err;
	buf_add(&copy, bytes.data, bytes.len);
	not_dir = tree_dir_decode(&copy, &dir);
	*is_tree_out = true;
	if (!not_dir) {
		*root_out = *digest;
		return NULL;
	}
	not_tree = client_unpack_tree(client, buf_slice(&bytes), root_out);
	*is_tree_out = !not_tree;
	return NULL;
}

struct error *client_find(struct client *client, const struct digest *root,
			  const char *path, struct tree_dir **dir_out,
			  const struct tree_node **node_out)
{
	_cleanup_free_ char *clean = NULL;
	struct error *err = file_path_clean(path + strspn(path, "/"), &clean);

	return err ? err
		   : dircache_find_path(client->dirs, root, clean, dir_out, node_out);
}

/* JSON */

void client_print_json(json_t *json)
{
	char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);

	say_raw(text ? text : "null");
	say_raw("\n");
	free(text);
	json_decref(json);
}

json_t *client_json_digest(const struct digest *digest)
{
	char text[DIGEST_STRING_MAX];

	return json_string(digest_format(digest, text));
}
