/*
 * Owns GetOperation, ListOperations and CancelOperation. No state; all of it is memory.
 * A page of a list ends where it is large, and a large response is not on it: who wants
 * that gets the operation.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "server/operations_filter.h"
#include "server/response.h"
#include "server/service.h"

#define OPERATIONS_PAGE_MAX     1000
#define OPERATIONS_PAGE_DEFAULT 100
#define OPERATIONS_BYTES_MAX    ((size_t)2 << 20) /* of one page */

static enum rpc_verdict operations_get(struct rpc_in *in, void *service)
{
	Longrunning__GetOperationRequest *request = (void *)rpc_request(in);
	const struct server *server = service;
	struct queue_state state;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_name(server, in, request->name);
	if (!err)
		err = queue_get(server->queue, request->name, rpc_arena(in), &state);
	if (error_code(err) == ERROR_NOT_FOUND &&
	    server_may_have_lost(server, request->name))
		err = error_recode(err, ERROR_UNAVAILABLE);
	if (err)
		return rpc_fail(in, err);
	response_send(in, &state);
	return RPC_DONE;
}

/* One more on the page, unless it would be too large; the first fits always. */
static bool operations_add(Longrunning__ListOperationsResponse *response,
			   const struct queue_state *state, size_t *n_bytes,
			   struct arena *arena)
{
	Longrunning__Operation *operation = response_operation(state, arena);
	size_t size;

	if (!operation)
		return false;
	size = protobuf_c_message_get_packed_size(&operation->base);
	if (response->n_operations > 0 && *n_bytes + size > OPERATIONS_BYTES_MAX)
		return false;
	*n_bytes += size;
	response->operations[response->n_operations++] = operation;
	return true;
}

/* A page begins after an operation's serial, which the page before told. */
static struct error *operations_after(const char *token, uint64_t *out)
{
	char *end = NULL;

	errno = 0;
	*out = token[0] ? strtoull(token, &end, 10) : 0;
	if (token[0] && (token[0] < '0' || token[0] > '9' || *end || errno))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%.40s\" is no page token of this server", token);
	return NULL;
}

static enum rpc_verdict operations_page(struct rpc_in *in, const struct server *server,
					const struct queue_filter *filter, uint64_t after,
					size_t max)
{
	Longrunning__ListOperationsResponse response =
		LONGRUNNING__LIST_OPERATIONS_RESPONSE__INIT;
	struct arena *arena = rpc_arena(in);
	struct queue_state *states;
	size_t n, n_bytes = 0;
	bool has_room = true, has_more = false;

	n = queue_list(server->queue, filter, after, max, arena, &states, &has_more);
	response.operations = arena_array(arena, n, sizeof(*response.operations));
	if (arena->is_full)
		return rpc_fail(in, arena_error("the list"));
	for (size_t i = 0; i < n && has_room; i++)
		has_room = operations_add(&response, &states[i], &n_bytes, arena);
	if (response.n_operations > 0 && (has_more || response.n_operations < n))
		response.next_page_token = arena_printf(
			arena, "%" PRIu64, states[response.n_operations - 1].serial);
	if (!response.next_page_token)
		return rpc_fail(in, arena_error("the list"));
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static enum rpc_verdict operations_list(struct rpc_in *in, void *service)
{
	Longrunning__ListOperationsRequest *request = (void *)rpc_request(in);
	const struct server *server = service;
	struct operations_filter words;
	struct queue_filter filter;
	uint64_t after = 0;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_instance(server, in, request->name);
	if (!err && request->page_size < 0)
		err = error_new(ERROR_INVALID_ARGUMENT, "the page size is negative");
	if (!err)
		err = operations_filter_parse(request->filter, &words);
	if (!err)
		err = operations_after(request->page_token, &after);
	if (err)
		return rpc_fail(in, err);
	filter = (struct queue_filter){.instance = request->name,
				       .stages = words.stages,
				       .action = words.has_action ? &words.action : NULL};
	memcpy(filter.request, words.request, sizeof(filter.request));
	return operations_page(in, server, &filter, after,
			       request->page_size == 0 ? OPERATIONS_PAGE_DEFAULT
			       : request->page_size > OPERATIONS_PAGE_MAX
				       ? OPERATIONS_PAGE_MAX
				       : (size_t)request->page_size);
}

static enum rpc_verdict operations_cancel(struct rpc_in *in, void *service)
{
	Longrunning__CancelOperationRequest *request = (void *)rpc_request(in);
	Pb__Empty empty = PB__EMPTY__INIT;
	const struct server *server = service;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_name(server, in, request->name);
	if (!err)
		err = queue_cancel(server->queue, request->name, clock_mono_ns());
	if (err)
		return rpc_fail(in, err);
	rpc_send(in, &empty.base);
	return RPC_DONE;
}

#define OPERATIONS_SERVICE &longrunning__operations__descriptor
/* Who executes may follow and end what it can name; names cannot be guessed. */
#define OPERATIONS_FLAGS (RPC_INLINE | RPC_RIGHTS(ACCESS_EXECUTE | ACCESS_OPERATE))

static const struct rpc_handler operations_methods[] = {
	{{OPERATIONS_SERVICE, "GetOperation"},
	 RPC_UNARY,
	 OPERATIONS_FLAGS,
	 operations_get},
	{{OPERATIONS_SERVICE, "ListOperations"},
	 RPC_UNARY,
	 RPC_LONG | RPC_RIGHTS(ACCESS_OPERATE),
	 operations_list},
	{{OPERATIONS_SERVICE, "CancelOperation"},
	 RPC_UNARY,
	 OPERATIONS_FLAGS,
	 operations_cancel},
};
const struct rpc_handlers operations_handlers = {operations_methods,
						 ARRAY_SIZE(operations_methods)};
