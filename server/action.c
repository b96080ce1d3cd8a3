/*
 * Owns GetActionResult and UpdateActionResult, and what they share with Execute. A result
 * that a client uploads may name paths below the input root only; how far above its
 * working directory a path may climb, the action's Command says. No state; workers only.
 */
#define LOG_MODULE "actions"

#include "server/action.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "server/response.h"

static struct error *action_look_begin(struct action_look *look,
				       const struct server *server, const char *instance,
				       const struct digest *action, struct arena *arena)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	bool is_found = false;
	struct error *err =
		action_cache_get(server->cache, instance, action, &bytes, &is_found);

	look->has_begun = true;
	look->is_over = true;
	if (err || !is_found || bytes.len > (size_t)SERVER_RESULT_MAX)
		return err;
	look->result = (Reapi__ActionResult *)rpc_decode(
		&reapi__action_result__descriptor, buf_slice(&bytes), arena);
	if (!look->result)
		return arena->is_full ? arena_error("the action's result") : NULL;
	completeness_init(&look->check, server, look->result);
	look->is_over = false;
	return NULL;
}

struct error *action_look_step(struct action_look *look, const struct server *server,
			       const char *instance, const struct digest *action,
			       struct arena *arena)
{
	Reapi__ExecutedActionMetadata *empty;
	bool is_complete = false;
	struct error *err = NULL;

	if (!look->has_begun)
		err = action_look_begin(look, server, instance, action, arena);
	if (err || look->is_over || completeness_step(&look->check, &is_complete))
		return err;
	look->is_over = true;
	if (!is_complete) {
		look->result = NULL;
	} else if (!look->result
			    ->execution_metadata) { /* buck2 takes that for an error */
		empty = arena_new(arena, Reapi__ExecutedActionMetadata);
		if (!empty)
			return arena_error("the action's result");
		reapi__executed_action_metadata__init(empty);
		look->result->execution_metadata = empty;
	}
	return NULL;
}

void action_look_deinit(struct action_look *look)
{
	completeness_deinit(&look->check);
}

struct error *action_lookup(const struct server *server, const char *instance,
			    const struct digest *action, struct arena *arena,
			    Reapi__ActionResult **result_out)
{
	_cleanup_(action_look_deinit) struct action_look look = {0};
	struct error *err = NULL;

	while (!err && !look.is_over)
		err = action_look_step(&look, server, instance, action, arena);
	*result_out = err ? NULL : look.result;
	return err;
}

bool action_of_job(void *ctx, const char *instance, const struct digest *action,
		   int64_t wall_ns, struct buf *response_out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	const struct server *server = ctx;
	const Pb__Timestamp *queued;
	Reapi__ActionResult *result = NULL;
	struct error *err = action_lookup(server, instance, action, &arena, &result);

	queued = result ? result->execution_metadata->queued_timestamp : NULL;
	if (err || !queued || queued->seconds != wall_ns / NS_PER_S ||
	    queued->nanos != wall_ns % NS_PER_S) {
		error_free(err);
		return false;
	}
	response_of_result(result, false, NULL, response_out);
	return true;
}

struct error *action_store(const struct server *server, const char *instance,
			   const struct digest *action, const Reapi__ActionResult *result)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	rpc_encode(&result->base, &bytes);
	if (bytes.len > (size_t)SERVER_RESULT_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "a result of %zu bytes is over the limit of %lld",
				 bytes.len, (long long)SERVER_RESULT_MAX);
	return action_cache_put(server->cache, instance, action, buf_slice(&bytes));
}

/* ---- inlining ------------------------------------------------------------------- */

/* Brings data into line with what is wanted; *left_bytes is what still fits. */
static void action_inline_one(const struct server *server, bool is_wanted,
			      const Reapi__Digest *wire, struct arena *arena,
			      ProtobufCBinaryData *data, int64_t *left_bytes)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;

	if (!wire)
		return; /* there is no other copy of it */
	if (!is_wanted) {
		*data = (ProtobufCBinaryData){0};
		return;
	}
	err = digest_from_wire(wire, &digest);
	if (err || data->len > 0 || digest.size == 0 || digest.size > *left_bytes)
		return;
	err = server_read(server, &digest, (size_t)SERVER_INLINE_MAX, &bytes);
	if (err)
		return;
	data->data = arena_memdup(arena, bytes.data, bytes.len);
	if (!data->data)
		return; /* it has a digest, so it need not be here */
	*left_bytes -= digest.size;
	data->len = bytes.len;
}

static int action_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What fits beside the result itself, inlined contents and all. */
static int64_t action_inline_room(const Reapi__ActionResult *result)
{
	int64_t room = SERVER_RESULT_MAX -
		       (int64_t)protobuf_c_message_get_packed_size(&result->base);

	return room < SERVER_INLINE_MAX ? room : SERVER_INLINE_MAX;
}

void action_inline(const struct server *server, const struct action_inline *wanted,
		   struct arena *arena, Reapi__ActionResult *result)
{
	const char **files =
		arena_memdup(arena, wanted->files, wanted->n_files * sizeof(*files));
	size_t n_files = files ? wanted->n_files : 0;
	int64_t left = action_inline_room(result);

	if (n_files > 0)
		qsort(files, n_files, sizeof(*files), action_compare);

	action_inline_one(server, wanted->out, result->stdout_digest, arena,
			  &result->stdout_raw, &left);
	action_inline_one(server, wanted->err, result->stderr_digest, arena,
			  &result->stderr_raw, &left);
	for (size_t i = 0; i < result->n_output_files; i++) {
		Reapi__OutputFile *file = result->output_files[i];
		bool is_wanted = n_files > 0 && bsearch(&file->path, files, n_files,
							sizeof(*files), action_compare);

		action_inline_one(server, is_wanted, file->digest, arena, &file->contents,
				  &left);
	}
}

/* ---- GetActionResult ------------------------------------------------------------ */

/* Which action a request is about, and that its caller may ask here. */
static struct error *action_name(struct rpc_in *in, const struct server *server,
				 const char *instance,
				 Reapi__DigestFunction__Value function,
				 const Reapi__Digest *wire, struct digest *out)
{
	struct error *err = server_check(server, in, instance, function);

	return err ? err : digest_from_wire(wire, out);
}

struct action_get {
	Reapi__GetActionResultRequest *request;
	struct digest action;
	struct action_look look;
};

static void action_get_drop(void *state)
{
	action_look_deinit(&((struct action_get *)state)->look);
}

static enum rpc_verdict action_get(struct rpc_in *in, void *service)
{
	struct action_get *get = rpc_state(in, sizeof(*get), action_get_drop);
	const struct server *server = service;
	Reapi__GetActionResultRequest *request = get->request;
	Reapi__ActionResult *result;
	struct action_inline wanted;
	char text[DIGEST_STRING_MAX];
	struct error *err = NULL;

	if (!request) {
		request = get->request = (void *)rpc_request(in);
		if (!request)
			return RPC_DONE;
		err = action_name(in, server, request->instance_name,
				  request->digest_function, request->action_digest,
				  &get->action);
	}
	if (!err)
		err = action_look_step(&get->look, server, request->instance_name,
				       &get->action, rpc_arena(in));
	if (!err && !get->look.is_over)
		return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
	result = get->look.result;
	if (!err && !result)
		err = error_new(ERROR_NOT_FOUND, "action %s has no result",
				digest_format(&get->action, text));
	if (err)
		return rpc_fail(in, err);
	wanted = (struct action_inline){request->inline_stdout, request->inline_stderr,
					(const char *const *)request->inline_output_files,
					request->n_inline_output_files};
	action_inline(server, &wanted, rpc_arena(in), result);
	rpc_send(in, &result->base);
	return RPC_DONE;
}

/* ---- UpdateActionResult --------------------------------------------------------- */

/* Components of the working directory, as far as the action's blobs tell. */
static int action_depth(const struct server *server, const struct digest *action,
			struct arena *arena)
{
	_cleanup_error_ struct error *err = NULL;
	ProtobufCMessage *message = NULL;
	struct digest command;
	const char *at;
	int depth = 0;

	err = server_read_message(server, action, &reapi__action__descriptor, "Action",
				  arena, &message);
	if (!err)
		err = digest_from_wire(((Reapi__Action *)message)->command_digest,
				       &command);
	if (!err)
		err = server_read_message(server, &command, &reapi__command__descriptor,
					  "Command", arena, &message);
	if (err)
		return 0;
	for (at = ((Reapi__Command *)message)->working_directory; *at;) {
		size_t len = strcspn(at, "/");

		depth += len > 0 && !(len == 1 && at[0] == '.');
		at += len + (at[len] == '/');
	}
	return depth;
}

static struct error *action_check_path(const char *path, int depth)
{
	if (path[0] == '/')
		return error_new(ERROR_INVALID_ARGUMENT,
				 "output path \"%.200s\" is absolute", path);
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");

		if (len == 2 && at[0] == '.' && at[1] == '.')
			depth--;
		else if (len > 0 && !(len == 1 && at[0] == '.'))
			depth++;
		if (depth < 0)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "output path \"%.200s\" leaves the input root",
					 path);
		at += len + (at[len] == '/');
	}
	return NULL;
}

static struct error *action_check_links(Reapi__OutputSymlink *const *links, size_t n,
					int depth)
{
	struct error *err = NULL;

	for (size_t i = 0; i < n && !err; i++)
		err = action_check_path(links[i]->path, depth);
	return err;
}

static struct error *action_check_result(const Reapi__ActionResult *result, int depth)
{
	struct error *err = NULL;

	for (size_t i = 0; i < result->n_output_files && !err; i++)
		err = action_check_path(result->output_files[i]->path, depth);
	for (size_t i = 0; i < result->n_output_directories && !err; i++)
		err = action_check_path(result->output_directories[i]->path, depth);
	if (!err)
		err = action_check_links(result->output_symlinks,
					 result->n_output_symlinks, depth);
	if (!err)
		err = action_check_links(result->output_file_symlinks,
					 result->n_output_file_symlinks, depth);
	if (!err)
		err = action_check_links(result->output_directory_symlinks,
					 result->n_output_directory_symlinks, depth);
	return err;
}

static struct error *action_take(struct rpc_in *in, const struct server *server,
				 const Reapi__UpdateActionResultRequest *request)
{
	struct digest action;
	struct error *err =
		action_name(in, server, request->instance_name, request->digest_function,
			    request->action_digest, &action);

	if (!err && !request->action_result)
		err = error_new(ERROR_INVALID_ARGUMENT, "the request has no result");
	if (!err)
		err = action_check_result(request->action_result,
					  action_depth(server, &action, rpc_arena(in)));
	return err ? err
		   : action_store(server, request->instance_name, &action,
				  request->action_result);
}

static enum rpc_verdict action_update(struct rpc_in *in, void *service)
{
	Reapi__UpdateActionResultRequest *request = (void *)rpc_request(in);
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = action_take(in, service, request);
	if (err)
		return rpc_fail(in, err);
	rpc_send(in, &request->action_result->base);
	return RPC_DONE;
}

#define ACTION_SERVICE &reapi__action_cache__descriptor

static const struct rpc_handler action_list[] = {
	{{ACTION_SERVICE, "GetActionResult"},
	 RPC_UNARY,
	 RPC_RIGHTS(ACCESS_AC_READ),
	 action_get},
	{{ACTION_SERVICE, "UpdateActionResult"},
	 RPC_UNARY,
	 RPC_MANY | RPC_RIGHTS(ACCESS_AC_WRITE),
	 action_update},
};
const struct rpc_handlers action_handlers = {action_list, ARRAY_SIZE(action_list)};
