/*
 * What is asked of the service: a Command and an Action, made from what a user says of a
 * run. In order: the fields are filled in (options of a verb point at them), the two
 * checks find what is wrong in them, and request_encode() makes the two blobs, for each
 * input root anew.
 *
 * Threads: one at a time.
 */
#pragma once

#include "lib/base/option.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/blob.h"

struct request {
	char **arguments; /* borrowed; n_arguments, at least one */
	int n_arguments;
	struct option_list
		outputs;        /* paths, from workdir on; clean after request_clean() */
	struct option_list env; /* NAME=VALUE; cut in two by request_make() */
	struct option_list platform; /* the same */
	char *workdir;               /* in the root; NULL: the root itself */
	int64_t timeout_ns;          /* 0: none */
	bool no_cache;
	bool is_from_root; /* found by request_clean(): an output lies above workdir */

	struct arena arena;          /* of the messages' parts */
	Reapi__Platform *properties; /* or NULL */
	Reapi__Command message;
	struct buf command; /* encoded, as is action */
	struct buf action;
	struct digest command_digest;
	struct digest action_digest;
};

#define REQUEST_INIT                                                                     \
	{                                                                                \
		.arena = ARENA_INIT(RPC_ARENA_MAX)                                       \
	}
void request_deinit(struct request *request);

/* NAME=VALUE in place, or NAME alone, which has the value that it has here: value_out is
 * NULL where it has none. INVALID_ARGUMENT: it is neither. */
struct error *request_split_variable(char *text, const char **name_out,
				     const char **value_out);
/* "./out/" and "out" are one output, and one action. INVALID_ARGUMENT: a path leaves the
 * root. */
struct error *request_clean(struct request *request);
/* The Command, as far as it does not depend on the inputs. INVALID_ARGUMENT: something is
 * not NAME=VALUE, or too much. */
struct error *request_make(struct request *request);
/* Encodes both, over those of before. with_mtimes: outputs are to have their times. */
void request_encode(struct request *request, const struct digest *input_root,
		    bool with_mtimes);
/* The two blobs, borrowed from the request until it is encoded again. */
#define REQUEST_N_BLOBS 2
void request_blobs(const struct request *request,
		   struct blob_source blobs_out[static REQUEST_N_BLOBS]);
