/*
 * What a client shows of itself beside a certificate: a bearer token from a file, or the
 * headers that a credential helper gives (a program, as Bazel runs it). Both are renewed
 * by a thread of their own while calls go on: a call waits for them only where a server
 * has refused it.
 *
 * Threads: any, but for making and freeing.
 */
#pragma once

#include "lib/base/option.h"
#include "lib/rpc/chan.h"

/* ---- options, the same for each program that has a channel ------------------------ */

struct rpc_creds_options { /* all owned, or NULL */
	char *ca_file, *cert_file, *key_file, *token_file, *helper;
	bool is_insecure;
};
void rpc_creds_options_deinit(struct rpc_creds_options *options);
/* Into the channel's configuration, which borrows them. */
void rpc_creds_options_apply(const struct rpc_creds_options *options,
			     struct rpc_chan_config *chan);

/* Six entries of a program's table of options. */
#define RPC_CREDS_OPTION(option, kind, arg, help, value)                                 \
	{                                                                                \
		option, 0, kind, arg, help, NULL, value, 0, 0                            \
	}
#define RPC_CREDS_OPTIONS(o)                                                             \
	RPC_CREDS_OPTION("tls-ca", OPTION_STRING, "FILE",                                \
			 "who vouches for a grpcs:// server (PEM; default: the\n"        \
			 "system's); files of credentials are read again when they\n"    \
			 "change",                                                       \
			 &(o)->ca_file),                                                 \
		RPC_CREDS_OPTION("tls-cert", OPTION_STRING, "FILE",                      \
				 "certificate to show to it (PEM)", &(o)->cert_file),    \
		RPC_CREDS_OPTION("tls-key", OPTION_STRING, "FILE",                       \
				 "its private key (PEM)", &(o)->key_file),               \
		RPC_CREDS_OPTION("token-file", OPTION_STRING, "FILE",                    \
				 "a bearer token to send with each call",                \
				 &(o)->token_file),                                      \
		RPC_CREDS_OPTION("credential-helper", OPTION_STRING, "COMMAND",          \
				 "a program that gives headers to send, as Bazel has\n"  \
				 "it: run as COMMAND get",                               \
				 &(o)->helper),                                          \
		RPC_CREDS_OPTION("insecure", OPTION_FLAG, NULL,                          \
				 "send them even where anyone on the way can read\n"     \
				 "them (grpc:// to another machine)",                    \
				 &(o)->is_insecure)

/* ---- the headers ------------------------------------------------------------------ */

#define RPC_CREDS_HEADERS_MAX 32

struct rpc_creds;

/* Reads the file or runs the helper once, so that what is wrong is said here. NULL in
 * *creds_out where config names neither. */
struct error *rpc_creds_new(const struct rpc_chan_config *config,
			    const struct rpc_address *address,
			    struct rpc_creds **creds_out);
void *rpc_creds_free(struct rpc_creds *creds);
CLEANUP_DEFINE(struct rpc_creds, rpc_creds_free)
/* fn runs at most RPC_CREDS_HEADERS_MAX times, under a lock. creds may be NULL. Which
 * they are: the number grows when they change. */
uint64_t rpc_creds_each(struct rpc_creds *creds,
			void (*fn)(void *ctx, const char *name, struct slice value),
			void *ctx);
/* A server did not take those: a helper is asked for new ones before they expire. */
void rpc_creds_refused(struct rpc_creds *creds, uint64_t which);
/* Whether there are such by now that were not refused; they are read again where that was
 * not done since. Blocks meanwhile. creds may be NULL. */
bool rpc_creds_renew(struct rpc_creds *creds);

/* The token of a file, without the white space around it. INVALID_ARGUMENT: it is empty,
 * or not one token. */
struct error *rpc_token_read(const char *path, struct buf *token_out);
