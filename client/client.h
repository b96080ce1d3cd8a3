/*
 * What every verb shares: the common options, the connection, the user's local store, and
 * how results and errors are said. A verb is one file, cmd_*.c, with one function; main.c
 * has the table.
 *
 * Threads: main, unless said otherwise.
 */
#pragma once

#include <jansson.h>

#include "client/endpoint.h"
#include "client/local.h"
#include "lib/base/clock.h"
#include "lib/base/option.h"
#include "lib/base/say.h"
#include "lib/cas/dircache.h"
#include "lib/tree/dirset.h"

#define CLIENT_FAILED    1   /* of all verbs but run and wait */
#define CLIENT_USAGE     2   /* of all: nothing was sent for what was asked wrongly */
#define CLIENT_RUN_ERROR 125 /* of run and wait: lazyroot or the service failed */
#define CLIENT_TIMED_OUT 124

struct client {
	char *server;
	char *instance;
	struct rpc_creds_options creds;
	bool is_quiet;
	bool is_json;
	int64_t rpc_timeout_ns; /* of a call, and of a stream in which nothing moves */
	int64_t entries_max;    /* of a tree that is walked */
	char *mtimes;           /* word of --mtimes, or NULL */
	/* Where they are, if not all at server. */
	struct option_records execution_at, storage_at, action_cache_at;
	struct endpoint storage_end, execution_end, action_cache_end;
	/* Made by client_connect(), each of its own, or the storage's. */
	struct remote *remote; /* the storage */
	struct remote *execution, *action_cache;
	bool is_begun;
	struct local local;
	struct fetch *fetch; /* made by client_open_fetch() */
	struct dircache *dirs;
	struct dirset
		roots; /* of trees that were looked at: by their digest, its bytes */
};

#define CLIENT_SERVICE_OPTION(name, env, help, value)                                    \
	{                                                                                \
		name, 0, OPTION_RECORDS, "SERVICE", help, env, value, 0, 0               \
	}
#define CLIENT_SERVICE_OPTIONS(c)                                                        \
	CLIENT_SERVICE_OPTION("execution", "LAZYROOT_EXECUTION",                         \
			      "what runs commands, if not --server:\n"                   \
			      "URL[,instance=NAME][,token-file=FILE]…; what it\n"      \
			      "does not say is as with --server, else --storage",        \
			      &(c)->execution_at),                                       \
		CLIENT_SERVICE_OPTION("storage", "LAZYROOT_STORAGE",                     \
				      "what keeps blobs, in the same form",              \
				      &(c)->storage_at),                                 \
		CLIENT_SERVICE_OPTION("action-cache", "LAZYROOT_ACTION_CACHE",           \
				      "what keeps results, in the same form; with push " \
				      "it\nis given them, too",                          \
				      &(c)->action_cache_at)

/* The entries that every verb's table of options ends with. */
#define CLIENT_OPTIONS(c)                                                                \
	{"server",                                                                       \
	 's',                                                                            \
	 OPTION_STRING,                                                                  \
	 "ADDR",                                                                         \
	 "the service ($LAZYROOT_SERVER)",                                               \
	 "LAZYROOT_SERVER",                                                              \
	 &(c)->server,                                                                   \
	 0,                                                                              \
	 0},                                                                             \
		{"instance",                                                             \
		 0,                                                                      \
		 OPTION_STRING,                                                          \
		 "NAME",                                                                 \
		 "its instance ($LAZYROOT_INSTANCE)",                                    \
		 "LAZYROOT_INSTANCE",                                                    \
		 &(c)->instance,                                                         \
		 0,                                                                      \
		 0},                                                                     \
		CLIENT_SERVICE_OPTIONS(c), RPC_CREDS_OPTIONS(&(c)->creds),               \
		{"rpc-timeout",                                                          \
		 0,                                                                      \
		 OPTION_DURATION,                                                        \
		 "DURATION",                                                             \
		 "how long one call may take without progress (default: 60s)",           \
		 NULL,                                                                   \
		 &(c)->rpc_timeout_ns,                                                   \
		 0,                                                                      \
		 0},                                                                     \
		{"cache-size",                                                           \
		 0,                                                                      \
		 OPTION_SIZE,                                                            \
		 "SIZE",                                                                 \
		 "how large this machine's store of blobs may grow (default: half "      \
		 "of\nwhat is free)",                                                    \
		 "LAZYROOT_CACHE_SIZE",                                                  \
		 &(c)->local.size_limit,                                                 \
		 CLIENT_CACHE_SIZE_MIN,                                                  \
		 0},                                                                     \
		{"quiet",                                                                \
		 'q',                                                                    \
		 OPTION_FLAG,                                                            \
		 NULL,                                                                   \
		 "no progress, no summary",                                              \
		 NULL,                                                                   \
		 &(c)->is_quiet,                                                         \
		 0,                                                                      \
		 0},                                                                     \
	{                                                                                \
		"json", 0, OPTION_FLAG, NULL, "one JSON document on stdout", NULL,       \
			&(c)->is_json, 0, 0                                              \
	}

/* Of the verbs that walk whole trees. */
#define CLIENT_ENTRIES_OPTION(c)                                                         \
	{                                                                                \
		"entries-max", 0, OPTION_INT, "N",                                       \
			"how many files, links and directories a tree may have "         \
			"(default: 10,000,000)",                                         \
			NULL, &(c)->entries_max, 1, INT64_MAX                            \
	}

/* Of the verbs that read local trees. */
#define CLIENT_MTIMES_OPTION(c)                                                          \
	{                                                                                \
		"mtimes", 0, OPTION_STRING, "WHEN",                                      \
			"always, never or auto: files keep their times; auto (default) " \
			"where\nproducts of a build are among them (.o, .a, .pyc …)",    \
			NULL, &(c)->mtimes, 0, 0                                         \
	}

#define CLIENT_CACHE_SIZE_MIN ((int64_t)1 << 20)
#define CLIENT_RPC_TIMEOUT_NS (60 * NS_PER_S)

#define CLIENT_INIT                                                                      \
	{                                                                                \
		.entries_max = TREE_ENTRIES_MAX,                                         \
		.rpc_timeout_ns = CLIENT_RPC_TIMEOUT_NS,                                 \
		.execution_at = {.keys = endpoint_keys, .is_single = true},              \
		.storage_at = {.keys = endpoint_keys, .is_single = true},                \
		.action_cache_at = {.keys = endpoint_keys_push, .is_single = true},      \
	}
void client_deinit(struct client *client);

/* Between the two, each verb that is called with no argument only tells its options: one
 * configuration file may serve all verbs. */
void client_collect_begin(void);
void client_collect_end(void);
/* A word before the verb: how many arguments the common option takes, its value included;
 * 0: it is none. */
int client_common_words(const char *word);

/* Before anything can fail: whether a failure is to be a document, too. */
void client_find_asked(int argc, char **argv);
/* Parses; *exit_out is set where the verb is already over (help, or wrong usage: said).
 */
bool client_parse(const struct option_program *program, int argc, char **argv,
		  int *operands_out, int *exit_out);
/* The same, and counts the operands: from min to max, else wanted is said. */
bool client_parse_operands(const struct option_program *program, int argc, char **argv,
			   int min, int max, const char *wanted, int *operands_out,
			   int *exit_out);
/* "lazyroot VERB: text" on stderr (verb NULL: "lazyroot: text"), with --json also
 * {"error": ...} on stdout; consumes err; returns code, or 0 where err is NULL. */
int client_fail(const char *verb, struct error *err, int code);
/* The same before anything was sent: INVALID_ARGUMENT is wrong usage then. */
int client_fail_start(const char *verb, struct error *err, int code);
int client_usage(const char *verb, const char *what); /* says it; returns CLIENT_USAGE */
/* A digest as people write it; INVALID_ARGUMENT says what is missing. */
struct error *client_digest(const char *text, struct digest *out);

/* What became of bytes that went to stdout or stderr past say.h. A reader that has gone
 * is no failure, as with cat. Consumes err. */
struct error *client_written(int to_fd, struct error *err);

/* Before any connection. */
struct error *client_begin(struct client *client);
/* The services that --server and the like name; nothing is sent yet. INVALID_ARGUMENT:
 * none is named. */
struct error *client_connect(struct client *client);
bool client_has_server(const struct client *client); /* one is named */
/* One is named that runs commands: a storage alone may, but nobody has said so. */
bool client_has_execution(const struct client *client);
/* The fetcher and the cache of Directories over the user's local store. Connects, where a
 * service is named, and opens the store as well. */
struct error *client_open_fetch(struct client *client);
/*
 * What a digest is: a Directory (root_out is it), a Tree (its directories are put into
 * the store, root_out is its root), or any other blob (*is_tree_out false). Told by
 * content; the empty blob counts as an empty Directory.
 */
struct error *client_tree_root(struct client *client, const struct digest *digest,
			       bool *is_tree_out, struct digest *root_out);
/* The node at path below a root; "" is the root itself (*node_out NULL, dir_out set). A
 * NOT_FOUND names the path. *dir_out is a reference to the directory that holds the node.
 */
struct error *client_find(struct client *client, const struct digest *root,
			  const char *path, struct tree_dir **dir_out,
			  const struct tree_node **node_out);

/* Prints a JSON document and a newline on stdout; consumes it. */
void client_print_json(json_t *json);
json_t *client_json_digest(const struct digest *digest);
/* A name as JSON text, different ones different: a byte that is no UTF-8 is the character
 * U+F700 + byte, and so are the bytes of such a character itself. */
json_t *client_json_bytes(struct slice bytes);
double client_ms(int64_t ns); /* milliseconds, three places behind the point */

/* The verbs */
int cmd_upload(int argc, char **argv);
int cmd_download(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_checkout(int argc, char **argv);
int cmd_shell(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_action(int argc, char **argv);
int cmd_capabilities(int argc, char **argv);
int cmd_operations(int argc, char **argv);
int cmd_artifacts(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_forget(int argc, char **argv);
