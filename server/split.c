/*
 * Owns SplitBlob and its successor GetChunkMapping: what chunks a blob is made of. They
 * are always those of the announced chunker, found by ourselves, whoever put the blob
 * together and from what: so nobody is served what somebody else claims.
 *
 * Where they are not known yet, the blob is read for it, some of it a step. Its chunks
 * are read from within it then; only a small last one becomes a blob.
 */
#include "lib/store/chunks.h"
#include "server/durable.h"
#include "server/split.h"

#define SPLIT_STEP   ((size_t)4 << 20)  /* bytes looked at in one step, about */
#define SPLIT_CHECKS 1024               /* chunks looked for in one step */
#define SPLIT_PAGE   ((size_t)16 << 10) /* digests in a message of a stream */

_Static_assert(sizeof(Reapi__SplitBlobRequest) == sizeof(Reapi__GetChunkMappingRequest) &&
		       offsetof(Reapi__SplitBlobRequest, chunking_function) ==
			       offsetof(Reapi__GetChunkMappingRequest, chunking_function),
	       "both are asked in the same form");

struct split {
	bool has_begun;
	bool is_found; /* the list is whole … */
	bool is_known; /* … and the chunks are here */
	struct digest blob;
	struct chunks_look look;
	size_t n_checked;
	size_t next; /* of the list, to be sent */
	struct durable durable;
};

static void split_drop(void *state)
{
	struct split *split = state;

	durable_deinit(&split->durable);
	chunks_look_end(&split->look);
}

/* What is too small for chunks is one by itself, and the empty blob none. */
static struct error *split_small(const struct server *server, struct split *split)
{
	char name[DIGEST_STRING_MAX];

	split->is_known = true;
	if (!server_has(server, &split->blob))
		return error_new(ERROR_NOT_FOUND, "%s is not in the store",
				 digest_format(&split->blob, name));
	if (split->blob.size > 0)
		chunk_list_add(&split->look.list, &split->blob);
	return NULL;
}

static struct error *split_begin(struct rpc_in *in, const struct server *server,
				 struct split *split)
{
	Reapi__SplitBlobRequest *request = (void *)rpc_request(in);
	struct error *err;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	if (server->chunks_offer == SERVER_CHUNKS_NEVER)
		return error_new(ERROR_UNIMPLEMENTED, "this server splits no blobs");
	err = server_check(server, in, request->instance_name, request->digest_function);
	if (!err)
		err = digest_from_wire(request->blob_digest, &split->blob);
	if (err)
		return err;
	split->has_begun = true;
	return chunks_are_of(server->chunks, &split->blob) ? NULL
							   : split_small(server, split);
}

/* Some of the chunks: those that are named must be here, and are promised. */
static struct error *split_check(const struct server *server, struct split *split)
{
	const struct chunk_list *list = &split->look.list;

	for (size_t n = 0; n < SPLIT_CHECKS && split->n_checked < list->n; n++) {
		const struct digest *chunk = &list->items[split->n_checked++].digest;
		char name[DIGEST_STRING_MAX];
		struct digest holder;

		if (!server_find(server, chunk, &holder))
			return error_new(ERROR_NOT_FOUND,
					 "not all chunks of %s are in the store",
					 digest_format(&split->blob, name));
		durable_add(&split->durable, server->store, &holder);
	}
	split->is_known = split->n_checked == list->n;
	return NULL;
}

/* The next step of finding them. */
static struct error *split_look(const struct server *server, struct split *split)
{
	struct error *err;

	if (split->is_found)
		return split_check(server, split);
	err = chunks_look(server->chunks, &split->blob, SPLIT_STEP, &split->look,
			  &split->is_found);
	if (!err && split->is_found && split->look.is_here)
		err = chunks_hold(server->chunks, &split->blob, &split->look.list);
	return err;
}

/* The digests of a message: from split->next on, n of them. */
static Reapi__Digest **split_digests(struct split *split, size_t n, struct arena *arena)
{
	Reapi__Digest **digests = arena_array(arena, n, sizeof(*digests));

	for (size_t i = 0; digests && i < n; i++) {
		const struct chunk *chunk = &split->look.list.items[split->next + i];

		digests[i] = digest_to_arena(&chunk->digest, arena);
		if (!digests[i])
			return NULL;
	}
	return digests;
}

/* Until the list is whole: RPC_DONE then, unless it failed (*has_failed_out). */
static enum rpc_verdict split_find(struct rpc_in *in, const struct server *server,
				   struct split *split, bool *has_failed_out)
{
	struct error *err = NULL;

	if (!split->has_begun)
		err = split_begin(in, server, split);
	if (!err && !split->is_known)
		err = split_look(server, split);
	*has_failed_out = err != NULL;
	if (err)
		return rpc_fail(in, err);
	if (split->is_known)
		return RPC_DONE;
	return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
}

enum rpc_verdict split_blob(struct rpc_in *in, void *service)
{
	struct split *split = rpc_state(in, sizeof(*split), split_drop);
	Reapi__SplitBlobResponse response = REAPI__SPLIT_BLOB_RESPONSE__INIT;
	enum rpc_verdict verdict;
	bool has_failed;

	if (split->durable.is_waiting)
		return durable_step(in, &split->durable);
	verdict = split_find(in, service, split, &has_failed);
	if (has_failed || verdict != RPC_DONE)
		return verdict;
	response.n_chunk_digests = split->look.list.n;
	response.chunk_digests =
		split_digests(split, response.n_chunk_digests, rpc_arena(in));
	response.chunking_function = REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020;
	if (!response.chunk_digests)
		return rpc_fail(in, arena_error("the answer"));
	return durable_send(in, &split->durable, &response.base);
}

/* The same in several messages, the last once all is on the disk. */
enum rpc_verdict split_mapping(struct rpc_in *in, void *service)
{
	struct split *split = rpc_state(in, sizeof(*split), split_drop);
	Reapi__GetChunkMappingResponse response = REAPI__GET_CHUNK_MAPPING_RESPONSE__INIT;
	enum rpc_verdict verdict;
	bool has_failed;
	size_t left;

	if (split->durable.is_waiting)
		return durable_step(in, &split->durable);
	verdict = split_find(in, service, split, &has_failed);
	if (has_failed || verdict != RPC_DONE)
		return verdict;
	if (!rpc_can_send(in))
		return RPC_LATER;
	left = split->look.list.n - split->next;
	response.n_chunk_digests = left < SPLIT_PAGE ? left : SPLIT_PAGE;
	response.chunk_digests =
		split_digests(split, response.n_chunk_digests, rpc_arena(in));
	if (split->next == 0)
		response.chunking_function =
			REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020;
	if (!response.chunk_digests)
		return rpc_fail(in, arena_error("the answer"));
	split->next += response.n_chunk_digests;
	if (split->next == split->look.list.n)
		return durable_send(in, &split->durable, &response.base);
	rpc_send(in, &response.base);
	return RPC_LATER;
}
