/*
 * Owns Execute and WaitExecution: what is checked before an action is queued, and the
 * streams that tell clients how it goes.
 *
 * What is wrong with the request itself (no digest, unknown instance) is the call's
 * error; everything about the action is an operation that ends with
 * ExecuteResponse.status, so it can be asked for again like any other. A stream sends the
 * newest state only; the queue's wake brings its step back, on a poller, without a timer
 * but the one that repeats what is known, for those who take silence for death.
 *
 * A client that leaves may come back; the queue gives up what nobody waits for. The
 * metadata key EXECUTION_DETACHED on Execute says that nobody will.
 */
#define LOG_MODULE "execution"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "server/action.h"
#include "server/response.h"

#define EXECUTION_DETACHED "lazyroot-detached"
#define EXECUTION_REQUEST  "build.bazel.remote.execution.v2.requestmetadata-bin"

struct execution_stream {
	struct server *server;
	struct rpc_in *in;
	struct queue_watch watch;
	int64_t said_ns; /* when the last state was sent */
	bool is_watching;
	/* Execute, before it has an operation */
	Reapi__ExecuteRequest *request;
	struct digest action;
	struct action_look look;
};

static void execution_drop(void *state)
{
	struct execution_stream *stream = state;

	action_look_deinit(&stream->look);
	if (!stream->is_watching)
		return;
	queue_unwatch(stream->server->queue, &stream->watch, clock_mono_ns());
	rpc_in_unref(stream->in);
}

static void execution_wake(void *ctx)
{
	rpc_wake(ctx);
}

static struct error *execution_watch(struct rpc_in *in, struct server *server,
				     struct execution_stream *stream, const char *name)
{
	struct error *err;

	stream->server = server;
	stream->in = in;
	stream->watch.wake = execution_wake;
	stream->watch.ctx = in;
	err = queue_watch(server->queue, name, &stream->watch);
	if (err)
		return err;
	rpc_in_ref(in);
	stream->is_watching = true;
	return NULL;
}

/* Balancers cut a stream that is silent, so what is known is said again now and then. */
static void execution_repeat(struct rpc_in *in, struct execution_stream *stream)
{
	int64_t now_ns = clock_mono_ns();
	int64_t due_ns = stream->said_ns + stream->server->heartbeat_ns;

	if (stream->said_ns > 0 && now_ns >= due_ns)
		stream->watch.seen = 0;
	else if (stream->said_ns > 0)
		rpc_wake_at(in, due_ns);
}

/* Sends the newest state where there is a new one, or it is time to repeat it. */
static enum rpc_verdict execution_follow(struct rpc_in *in,
					 struct execution_stream *stream)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	struct queue_state state;
	bool is_stopped = false;

	if (!rpc_can_send(in))
		return RPC_LATER;
	execution_repeat(in, stream);
	if (queue_watch_read(stream->server->queue, &stream->watch, &arena, &state,
			     &is_stopped)) {
		response_send(in, &state);
		if (state.stage == QUEUE_COMPLETED)
			return RPC_DONE;
		stream->said_ns = clock_mono_ns();
		rpc_wake_at(in, stream->said_ns + stream->server->heartbeat_ns);
		return RPC_LATER;
	}
	if (is_stopped)
		return rpc_fail(in,
				error_new(ERROR_UNAVAILABLE, "the server is stopping"));
	return RPC_LATER;
}

/* ---- Execute -------------------------------------------------------------------- */

struct execution_action { /* in the call's arena */
	Reapi__Action *action;
	struct slice bytes;
	Reapi__Command *command;
	int64_t limit_ns;
};

static struct error *execution_timeout(const struct server *server,
				       const Reapi__Action *action, int64_t *limit_out)
{
	const Pb__Duration *timeout = action->timeout;

	*limit_out = server->limit_ns;
	if (!timeout || (timeout->seconds == 0 && timeout->nanos == 0))
		return NULL;
	if (timeout->seconds < 0 || timeout->nanos < 0 || timeout->nanos >= NS_PER_S)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the action's timeout is negative");
	if (timeout->seconds > server->limit_ns / NS_PER_S)
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"the action's timeout of %lld s is over this server's limit "
			"of %lld s",
			(long long)timeout->seconds,
			(long long)(server->limit_ns / NS_PER_S));
	*limit_out = timeout->seconds * NS_PER_S + timeout->nanos;
	return NULL;
}

/* Notes a blob that the action needs and that is not there. */
static void execution_miss(struct error **missing, const struct digest *digest)
{
	if (!*missing)
		*missing = error_new(ERROR_FAILED_PRECONDITION,
				     "blobs that the action needs are not in the store");
	server_add_missing(*missing, digest);
}

/* A message the action names: missing is noted, anything else that is wrong is returned.
 */
static struct error *execution_load(const struct server *server,
				    const struct digest *digest,
				    const ProtobufCMessageDescriptor *type,
				    const char *what, struct arena *arena,
				    struct error **missing, ProtobufCMessage **out)
{
	struct error *err = server_read_message(server, digest, type, what, arena, out);

	if (error_code(err) != ERROR_NOT_FOUND)
		return err;
	execution_miss(missing, digest);
	return error_free(err);
}

static struct error *execution_load_action(const struct server *server,
					   const struct digest *digest,
					   struct arena *arena,
					   struct execution_action *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err = NULL, *missing = NULL;
	char text[DIGEST_STRING_MAX];

	if (digest->size > 0)
		err = server_read(server, digest, SERVER_MESSAGE, &bytes);
	if (error_code(err) == ERROR_NOT_FOUND) {
		err = error_free(err);
		execution_miss(&missing, digest);
		return missing;
	}
	if (err)
		return err;
	out->bytes =
		(struct slice){arena_memdup(arena, bytes.data, bytes.len), bytes.len};
	if (!out->bytes.data)
		return arena_error("the Action");
	out->action = (Reapi__Action *)rpc_decode(&reapi__action__descriptor, out->bytes,
						  arena);
	if (!out->action)
		return error_new(ERROR_INVALID_ARGUMENT, "blob %s is no Action",
				 digest_format(digest, text));
	return execution_timeout(server, out->action, &out->limit_ns);
}

static struct error *execution_load_rest(const struct server *server, struct arena *arena,
					 struct execution_action *out)
{
	_cleanup_error_ struct error *missing = NULL;
	ProtobufCMessage *message = NULL;
	struct digest command, root;
	struct error *err;

	err = digest_from_wire(out->action->command_digest, &command);
	if (err)
		return error_wrap(err, "the action's command_digest");
	err = digest_from_wire(out->action->input_root_digest, &root);
	if (err)
		return error_wrap(err, "the action's input_root_digest");
	err = execution_load(server, &command, &reapi__command__descriptor, "Command",
			     arena, &missing, &message);
	if (err)
		return err;
	if (!server_has(server, &root))
		execution_miss(&missing, &root);
	if (missing)
		return take(missing);
	out->command = (Reapi__Command *)message;
	if (out->command->n_arguments == 0)
		return error_new(ERROR_INVALID_ARGUMENT, "the Command has no arguments");
	return NULL;
}

static struct error *execution_required(const struct execution_action *action,
					struct arena *arena, struct queue_spec *spec)
{
	const Reapi__Platform *platform = action->action->platform
						  ? action->action->platform
						  : action->command->platform;
	struct queue_property *list;
	size_t n = platform ? platform->n_properties : 0;

	if (n > QUEUE_REQUIRED_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a platform of %zu properties is over the limit of %d",
				 n, QUEUE_REQUIRED_MAX);
	list = arena_array(arena, n, sizeof(*list));
	if (!list)
		return arena_error("the action's platform");
	for (size_t i = 0; i < n; i++)
		list[i] = (struct queue_property){platform->properties[i]->name,
						  platform->properties[i]->value};
	spec->required = list;
	spec->n_required = n;
	return NULL;
}

/* From the cache: the operation is complete before it began. False: not there. look: what
 * was found there, or NULL where nobody has looked yet. */
static struct error *execution_cached(struct rpc_in *in, struct server *server,
				      const Reapi__ExecuteRequest *request,
				      const struct action_look *look,
				      const struct queue_spec *spec,
				      char name[static QUEUE_NAME_MAX],
				      bool *is_cached_out)
{
	const struct action_inline wanted = {
		request->inline_stdout, request->inline_stderr,
		(const char *const *)request->inline_output_files,
		request->n_inline_output_files};
	_cleanup_buf_ struct buf response = BUF_INIT;
	Reapi__ActionResult *result = look ? look->result : NULL;
	struct error *err = NULL;

	*is_cached_out = false;
	if (request->skip_cache_lookup)
		return NULL;
	if (!look)
		err = action_lookup(server, spec->instance, &spec->action_digest,
				    rpc_arena(in), &result);
	if (err || !result)
		return err;
	action_inline(server, &wanted, rpc_arena(in), result);
	response_of_result(result, true, NULL, &response);
	*is_cached_out = true;
	return queue_submit_done(server->queue, spec, buf_slice(&response),
				 clock_mono_ns(), name);
}

/* Queues the action; an error is about the action, not the call. */
static struct error *execution_submit(struct rpc_in *in, struct server *server,
				      const Reapi__ExecuteRequest *request,
				      const struct action_look *look,
				      struct queue_spec *spec,
				      char name[static QUEUE_NAME_MAX])
{
	/* not the call's: that one keeps room for the answer, however large these are */
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_IN_ARENA);
	struct execution_action action = {0};
	bool is_cached = false;
	struct error *err;

	err = execution_load_action(server, &spec->action_digest, &arena, &action);
	if (err)
		return err;
	if (!action.action->do_not_cache) {
		err = execution_cached(in, server, request, look, spec, name, &is_cached);
		if (err || is_cached)
			return err;
	}
	err = execution_load_rest(server, &arena, &action);
	if (err)
		return err;
	err = execution_required(&action, &arena, spec);
	if (err)
		return err;
	spec->action = action.bytes;
	spec->limit_ns = action.limit_ns;
	spec->do_not_cache = action.action->do_not_cache;
	spec->priority =
		request->execution_policy ? request->execution_policy->priority : 0;
	return queue_submit(server->queue, spec, clock_mono_ns(), name);
}

/* Who asks, by its own word: for operators, and nothing depends on it. One that is no
 * such message, or larger than any that means something, is not kept. */
static void execution_request(struct rpc_in *in, struct queue_spec *spec)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)64 << 10);
	struct slice header;

	if (rpc_header_get(in, EXECUTION_REQUEST, &header) &&
	    header.len <= QUEUE_REQUEST_MAX &&
	    rpc_decode(&reapi__request_metadata__descriptor, header, &arena))
		spec->request = header;
}

static void execution_say(const struct queue_spec *spec, const char *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)64 << 10);
	const Reapi__RequestMetadata *who;
	const Reapi__ToolDetails *tool;

	if (!log_is_on(LOG_DEBUG, LOG_MODULE))
		return;
	who = (void *)rpc_decode(&reapi__request_metadata__descriptor, spec->request,
				 &arena);
	tool = who ? who->tool_details : NULL;
	log_debug("operation %s: tool=%.100s/%.100s invocation=%.100s correlated=%.100s "
		  "target=%.200s mnemonic=%.100s",
		  name, tool ? tool->tool_name : "", tool ? tool->tool_version : "",
		  who ? who->tool_invocation_id : "",
		  who ? who->correlated_invocations_id : "", who ? who->target_id : "",
		  who ? who->action_mnemonic : "");
}

/* An error is the call's; what is wrong with the action is an operation that is over. */
static struct error *execution_queue(struct rpc_in *in, struct server *server,
				     const Reapi__ExecuteRequest *request,
				     const struct action_look *look,
				     struct queue_spec *spec,
				     char name[static QUEUE_NAME_MAX])
{
	_cleanup_error_ struct error *failure = NULL;
	_cleanup_buf_ struct buf response = BUF_INIT;

	execution_request(in, spec);
	spec->client = rpc_peer_name(in);
	spec->wall_ns = clock_wall_ns();
	spec->instance = request->instance_name;
	failure = execution_submit(in, server, request, look, spec, name);
	if (!failure) {
		execution_say(spec, name);
		return NULL;
	}
	spec->required = NULL; /* they went with what was read of the action */
	spec->n_required = 0;
	spec->action = (struct slice){0};
	response_of_error(failure, &response);
	return queue_submit_done(server->queue, spec, buf_slice(&response),
				 clock_mono_ns(), name);
}

static struct error *execution_check(struct rpc_in *in, const struct server *server,
				     struct execution_stream *stream)
{
	Reapi__ExecuteRequest *request = (void *)rpc_request(in);
	struct error *err;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	stream->request = request;
	err = server_check(server, in, request->instance_name, request->digest_function);
	return err ? err
		   : error_wrap(digest_from_wire(request->action_digest, &stream->action),
				"action_digest");
}

static struct error *execution_begin(struct rpc_in *in, struct server *server,
				     const struct execution_stream *stream,
				     char name[static QUEUE_NAME_MAX])
{
	struct queue_spec spec = {.action_digest = stream->action};
	struct slice header;

	spec.is_detached = rpc_header_get(in, EXECUTION_DETACHED, &header);
	return execution_queue(in, server, stream->request, &stream->look, &spec, name);
}

/* The cache first, in which a result may take many steps to look at. */
static struct error *execution_look(struct rpc_in *in, const struct server *server,
				    struct execution_stream *stream)
{
	struct error *err = NULL;

	if (!stream->request)
		err = execution_check(in, server, stream);
	if (!err && stream->request->skip_cache_lookup)
		stream->look.is_over = true;
	else if (!err)
		err = action_look_step(&stream->look, server,
				       stream->request->instance_name, &stream->action,
				       rpc_arena(in));
	return err;
}

static enum rpc_verdict execution_execute(struct rpc_in *in, void *service)
{
	struct execution_stream *stream = rpc_state(in, sizeof(*stream), execution_drop);
	char name[QUEUE_NAME_MAX];
	struct error *err;

	if (!stream->is_watching) {
		if (!rpc_is_on_worker(in))
			return RPC_BLOCK;
		err = execution_look(in, service, stream);
		if (!err && !stream->look.is_over)
			return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
		if (!err)
			err = execution_begin(in, service, stream, name);
		if (!err)
			err = execution_watch(in, service, stream, name);
		if (err)
			return rpc_fail(in, err);
	}
	return execution_follow(in, stream);
}

/* ---- WaitExecution -------------------------------------------------------------- */

/*
 * An operation that this server had before it was started anew: its name says what it
 * ran, so it is begun again, or found in the cache. Only for a while: later, who asks for
 * something old does not want it run. False: it is no such operation.
 */
static bool execution_is_lost(struct rpc_in *in, const struct server *server,
			      const char *name,
			      char instance[static QUEUE_INSTANCE_MAX + 1],
			      struct digest *action)
{
	_cleanup_error_ struct error *err = NULL;

	if (!server_may_have_lost(server, name) ||
	    !queue_name_parse(name, instance, action) ||
	    !(access_rights(server->access, in, instance) & ACCESS_EXECUTE))
		return false;
	err = server_check_instance(server, in, instance);
	return !err;
}

/* Consumes err, the reason why there is no operation of that name. */
static struct error *execution_again(struct rpc_in *in, struct server *server,
				     const char *lost, struct error *err,
				     char name[static QUEUE_NAME_MAX])
{
	Reapi__ExecuteRequest request = REAPI__EXECUTE_REQUEST__INIT;
	char instance[QUEUE_INSTANCE_MAX + 1];
	struct queue_spec spec = {0};

	if (!execution_is_lost(in, server, lost, instance, &spec.action_digest))
		return err;
	error_free(err);
	log_info("operation %s was lost: it is begun again", lost);
	request.instance_name = instance;
	return execution_queue(in, server, &request, NULL, &spec, name);
}

static enum rpc_verdict execution_wait(struct rpc_in *in, void *service)
{
	struct execution_stream *stream = rpc_state(in, sizeof(*stream), execution_drop);
	Reapi__WaitExecutionRequest *request;
	char name[QUEUE_NAME_MAX];
	struct error *err;

	if (!stream->is_watching) {
		if (!rpc_is_on_worker(in))
			return RPC_BLOCK;
		request = (void *)rpc_request(in);
		if (!request)
			return RPC_DONE;
		err = server_check_name(service, in, request->name);
		if (!err)
			err = execution_watch(in, service, stream, request->name);
		if (error_code(err) == ERROR_NOT_FOUND) {
			err = execution_again(in, service, request->name, err, name);
			if (!err)
				err = execution_watch(in, service, stream, name);
		}
		if (err)
			return rpc_fail(in, err);
	}
	return execution_follow(in, stream);
}

#define EXECUTION_SERVICE &reapi__execution__descriptor

static const struct rpc_handler execution_list[] = {
	{{EXECUTION_SERVICE, "Execute"},
	 RPC_SERVER_STREAM,
	 RPC_INLINE | RPC_RIGHTS(ACCESS_EXECUTE),
	 execution_execute},
	{{EXECUTION_SERVICE, "WaitExecution"},
	 RPC_SERVER_STREAM,
	 RPC_INLINE | RPC_RIGHTS(ACCESS_EXECUTE | ACCESS_OPERATE),
	 execution_wait},
};
const struct rpc_handlers execution_handlers = {execution_list,
						ARRAY_SIZE(execution_list)};
