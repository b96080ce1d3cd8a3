/* Owns the connection and what is fetched over it, made when first needed. */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "client/retries.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

/* Of our own, at the least: signals, a poller, the fetcher and its streams. */
#define CLIENT_THREADS 8

static const bool *client_json;   /* --json of the verb that runs, once it is known */
static const char **client_names; /* options of all verbs, and NULL */
static size_t client_n_names;
static bool client_is_collecting;
static struct client client_none; /* what the table of common options points to */
static const struct option_def client_common[] = {CLIENT_OPTIONS(&client_none)};

void client_deinit(struct client *client)
{
	struct endpoint *ends[] = {&client->execution_end, &client->action_cache_end,
				   &client->storage_end};

	dirset_deinit(&client->roots);
	dircache_free(client->dirs);
	fetch_free(client->fetch);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		endpoint_deinit(ends[i]);
	option_list_deinit(&client->execution_at.list);
	option_list_deinit(&client->storage_at.list);
	option_list_deinit(&client->action_cache_at.list);
	local_deinit(&client->local);
	free(client->server);
	free(client->instance);
	free(client->mtimes);
	rpc_creds_options_deinit(&client->creds);
}

/* Options */

void client_collect_begin(void)
{
	client_is_collecting = true;
}

void client_collect_end(void)
{
	client_is_collecting = false;
}

static void client_collect(const struct option_program *program)
{
	client_names = alloc_resize(client_names, client_n_names + program->n_defs + 1,
				    sizeof(char *));
	for (size_t i = 0; i < program->n_defs; i++)
		client_names[client_n_names++] = program->defs[i].name;
	client_names[client_n_names] = NULL;
}

/* Takes out names that several verbs have. */
static void client_unique_names(void)
{
	size_t n = 0;

	for (size_t i = 0; i < client_n_names; i++) {
		size_t at = 0;

		while (at < n && strcmp(client_names[at], client_names[i]) != 0)
			at++;
		if (at == n)
			client_names[n++] = client_names[i];
	}
	client_n_names = n;
	if (client_names)
		client_names[n] = NULL;
}

int client_common_words(const char *word)
{
	const char *name = word + strspn(word, "-");
	size_t len = strcspn(name, "=");
	bool is_long = strncmp(word, "--", 2) == 0;

	if (is_long && (strcmp(name, "config") == 0 || strcmp(name, "log") == 0))
		return 2;
	if (is_long &&
	    (strncmp(name, "config=", 7) == 0 || strncmp(name, "log=", 4) == 0))
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(client_common); i++) {
		const struct option_def *def = &client_common[i];
		bool is_flag = def->kind == OPTION_FLAG;

		if (is_long && strncmp(def->name, name, len) == 0 && !def->name[len])
			return is_flag || name[len] ? 1 : 2;
		if (!is_long && def->letter && def->letter == *name)
			return is_flag || name[1] ? 1 : 2;
	}
	return 0;
}

/* Where parsing ended before it was known. */
static bool client_asks_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") == 0)
			return true;
	}
	return false;
}

void client_find_asked(int argc, char **argv)
{
	static bool is_asked;

	is_asked = client_asks_json(argc, argv);
	client_json = &is_asked;
}

static void client_find_json(const struct option_program *program)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		if (strcmp(program->defs[i].name, "json") == 0)
			client_json = program->defs[i].value;
	}
}

bool client_parse(const struct option_program *program, int argc, char **argv,
		  int *operands_out, int *exit_out)
{
	struct option_program with = *program;
	bool is_done = false;
	bool is_json = true;
	struct error *err;

	*exit_out = 0;
	if (client_is_collecting) {
		client_collect(program);
		return false;
	}
	client_unique_names();
	with.others = client_names;
	client_find_json(program);
	log_set_plain("lazyroot");
	err = log_configure("warn");
	if (!err)
		err = option_parse(&with, argc, argv, operands_out, &is_done);
	if (err && client_asks_json(argc, argv))
		client_json = &is_json;
	if (err)
		*exit_out = client_fail(program->name + strlen("lazyroot "), err,
					CLIENT_USAGE);
	return !err && !is_done;
}

struct error *client_digest(const char *text, struct digest *out)
{
	static const char digits[] = "0123456789abcdef";
	struct error *err = digest_parse(text, out);

	if (!err || strlen(text) != DIGEST_HEX_MAX - 1 ||
	    strspn(text, digits) != DIGEST_HEX_MAX - 1)
		return err;
	error_free(err);
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s is a hash alone; a digest is HASH/SIZE, with the size in "
			 "bytes behind it, as upload and ls -l print it",
			 text);
}

/* Failing */

int client_fail(const char *verb, struct error *err, int code)
{
	if (!err)
		return 0;
	if (code == CLIENT_USAGE)
		err = option_blame(err);
	say("lazyroot%s%s: %s", verb ? " " : "", verb ? verb : "", error_text(err));
	if (log_is_on(LOG_DEBUG, LOG_MODULE))
		say("  %s from %s", error_code_name(error_code(err)), error_trace(err));
	if (client_json && *client_json)
		client_print_json(json_pack("{s:{s:s,s:o,s:i,s:I}}", "error", "code",
					    error_code_name(error_code(err)), "message",
					    client_json_bytes(slice_of(error_text(err))),
					    "exit_code", code, "retries",
					    (json_int_t)retries_count()));
	client_json = NULL; /* one document is all there is */
	error_free(err);
	return code;
}

int client_fail_start(const char *verb, struct error *err, int code)
{
	bool is_usage = error_code(err) == ERROR_INVALID_ARGUMENT;

	return client_fail(verb, err, is_usage ? CLIENT_USAGE : code);
}

int client_usage(const char *verb, const char *what)
{
	return client_fail(verb,
			   error_new(ERROR_INVALID_ARGUMENT,
				     "%s (see lazyroot %s --help)", what, verb),
			   CLIENT_USAGE);
}

bool client_parse_operands(const struct option_program *program, int argc, char **argv,
			   int min, int max, const char *wanted, int *operands_out,
			   int *exit_out)
{
	int n;

	if (!client_parse(program, argc, argv, operands_out, exit_out))
		return false;
	n = argc - *operands_out;
	if (n < min || n > max)
		*exit_out = client_usage(program->name + strlen("lazyroot "), wanted);
	return n >= min && n <= max;
}

struct error *client_written(int to_fd, struct error *err)
{
	const char *name = to_fd == STDOUT_FILENO ? "standard output" : "standard error";

	if (error_errnum(err) == EPIPE)
		return error_free(err);
	if (error_errnum(err) != EBADF)
		return err;
	error_free(err);
	return error_new(ERROR_FAILED_PRECONDITION, "cannot write to %s: it is closed",
			 name);
}

/* The service and the store */

struct error *client_begin(struct client *client)
{
	if (client->is_begun)
		return NULL;
	if (client->rpc_timeout_ns < NS_PER_MS)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--rpc-timeout must be at least 1ms");
	/* gRPC writes to stderr by itself what our errors say as well */
	if (!log_is_on(LOG_DEBUG, LOG_MODULE))
		(void)setenv("GRPC_VERBOSITY", "NONE", 0);
	client->is_begun = true;
	return rpc_init(CLIENT_THREADS);
}

static bool client_names_server(const struct client *client)
{
	return client->server && *client->server;
}

bool client_has_execution(const struct client *client)
{
	return client_names_server(client) || client->execution_at.list.n > 0;
}

bool client_has_server(const struct client *client)
{
	return client_names_server(client) || client->storage_at.list.n > 0;
}

/* What --server and its companions say, for who says less. */
static void client_inherit(const struct client *client, struct endpoint *endpoint)
{
	const struct endpoint server = {.url = client->server,
					.instance = client->instance,
					.creds = client->creds,
					.timeout_ns = client->rpc_timeout_ns};

	endpoint_inherit(endpoint, &server);
}

/* A service beside the storage: of its own where an option names it, or where --server
 * does and the storage is elsewhere. */
static struct error *client_open_service(struct client *client,
					 const struct option_records *at,
					 const char *option, struct endpoint *endpoint,
					 struct remote **remote_out)
{
	bool is_apart = client->storage_at.list.n > 0 && client_names_server(client);
	struct error *err = NULL;

	*remote_out = client->remote;
	if (!at->list.n && !is_apart)
		return NULL;
	if (at->list.n)
		err = endpoint_read(at->list.items[0], option, endpoint);
	if (err)
		return err;
	if (client_names_server(client))
		client_inherit(client, endpoint);
	else
		endpoint_inherit(endpoint, &client->storage_end);
	err = endpoint_open(endpoint, at->list.n ? option : "--server");
	if (!err)
		*remote_out = endpoint->remote;
	return err;
}

struct error *client_connect(struct client *client)
{
	struct endpoint *storage = &client->storage_end;
	const struct option_list *at = &client->storage_at.list;
	struct error *err;

	if (client->remote)
		return NULL;
	err = client_begin(client);
	if (!err && !client_has_server(client))
		err = error_new(ERROR_INVALID_ARGUMENT,
				"no server: give --server ADDR, or set LAZYROOT_SERVER");
	if (!err && at->n)
		err = endpoint_read(at->items[0], "--storage", storage);
	if (err)
		return err;
	client_inherit(client, storage);
	err = endpoint_open(storage, at->n ? "--storage" : "--server");
	if (err)
		return err;
	client->remote = storage->remote;
	err = client_open_service(client, &client->execution_at, "--execution",
				  &client->execution_end, &client->execution);
	return err ? err
		   : client_open_service(client, &client->action_cache_at,
					 "--action-cache", &client->action_cache_end,
					 &client->action_cache);
}

/* Over the store, and the service where there is one. */
static struct error *client_make_fetch(struct client *client)
{
	struct fetch_config fetch = {.remote = client->remote};
	struct error *err = local_open_store(&client->local);

	if (err)
		return err;
	fetch.store = client->local.store;
	fetch.pool = client->local.pool;
	err = fetch_new(&fetch, &client->fetch);
	if (err)
		return err;
	client->dirs = dircache_new(client->fetch, DIRCACHE_MEMORY_MAX);
	return NULL;
}

struct error *client_open_fetch(struct client *client)
{
	struct error *err;

	if (client->dirs)
		return NULL;
	err = client_has_server(client) ? client_connect(client) : NULL;
	return err ? err : client_make_fetch(client);
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
			err = store_put(client->local.store, &digest, dirs[i].data,
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
	struct slice known;
	struct error *err;

	if ((uint64_t)digest->size > TREE_DIR_MAX) {
		*is_tree_out = false;
		return NULL;
	}
	/* a result may name one many times */
	if (dirset_find(&client->roots, digest, &known)) {
		memcpy(root_out, known.data, sizeof(*root_out));
		*is_tree_out = true;
		return NULL;
	}
	err = fetch_bytes(client->fetch, digest, TREE_DIR_MAX, NULL, &bytes);
	if (err)
		return err;
	buf_add(&copy, bytes.data, bytes.len);
	not_dir = tree_dir_decode(&copy, &dir);
	*is_tree_out = true;
	if (!not_dir)
		*root_out = *digest;
	else
		not_tree = client_unpack_tree(client, buf_slice(&bytes), root_out);
	*is_tree_out = !not_tree;
	if (!not_tree)
		(void)dirset_add_copy(
			&client->roots, digest,
			(struct slice){(const uint8_t *)root_out, sizeof(*root_out)});
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
	char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII |
					      JSON_REAL_PRECISION(12));

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

/* Characters that stand for single bytes: U+F780 to U+F7FF, from private use. */
static bool client_is_stand_in(const uint8_t *s, size_t n)
{
	return n == 3 && s[0] == 0xef && (s[1] == 0x9e || s[1] == 0x9f);
}

json_t *client_json_bytes(struct slice bytes)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (size_t at = 0; at < bytes.len;) {
		struct slice rest = {bytes.data + at, bytes.len - at};
		size_t n = text_utf8_len(rest);

		if (n && !client_is_stand_in(rest.data, n)) {
			buf_add(&text, rest.data, n);
			at += n;
			continue;
		}
		for (size_t i = 0; i < (n ? n : 1); i++, at++) {
			uint8_t byte = bytes.data[at];

			buf_add_byte(&text, 0xef);
			buf_add_byte(&text, (uint8_t)(0x9c + (byte >> 6)));
			buf_add_byte(&text, (uint8_t)(0x80 | (byte & 0x3f)));
		}
	}
	return json_stringn(buf_string(&text), text.len);
}

double client_ms(int64_t ns)
{
	return (double)(ns / 1000) / 1000;
}
