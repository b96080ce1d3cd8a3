/* Owns GetOperation, ListOperations and CancelOperation. No state; all of it is memory.
 */
#include "lib/base/clock.h"
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
	err = queue_get(server->queue, request->name, rpc_arena(in), &state);
	if (err)
		return rpc_fail(in, err);
	rpc_send(in, &response_operation(&state, rpc_arena(in))->base);
	return RPC_DONE;
}

static void operations_page(struct rpc_in *in, const struct server *server,
			    const Longrunning__ListOperationsRequest *request, size_t max)
{
	Longrunning__ListOperationsResponse response =
		LONGRUNNING__LIST_OPERATIONS_RESPONSE__INIT;
	const char *after = request->page_token[0] ? request->page_token : NULL;
	struct arena *arena = rpc_arena(in);
	struct queue_state *states;
	size_t n, n_bytes = 0;

	n = queue_list(server->queue, request->name, after, max + 1, arena, &states);
	response.operations = arena_zero(arena, (n + 1) * sizeof(*response.operations));
	for (size_t i = 0; i < n && i < max && n_bytes < OPERATIONS_BYTES_MAX; i++) {
		Longrunning__Operation *operation = response_operation(&states[i], arena);

		n_bytes += protobuf_c_message_get_packed_size(&operation->base);
		response.operations[response.n_operations++] = operation;
	}
	if (response.n_operations < n)
		response.next_page_token =
			response.operations[response.n_operations - 1]->name;
	rpc_send(in, &response.base);
}

static enum rpc_verdict operations_list(struct rpc_in *in, void *service)
{
	Longrunning__ListOperationsRequest *request = (void *)rpc_request(in);
	const struct server *server = service;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_instance(server, request->name);
	if (!err && (request->page_size < 0 || request->filter[0]))
		err = error_new(ERROR_INVALID_ARGUMENT,
				request->filter[0] ? "no filter is understood"
						   : "the page size is negative");
	if (err)
		return rpc_fail(in, err);
	operations_page(in, server, request,
			request->page_size == 0 ? OPERATIONS_PAGE_DEFAULT
			: request->page_size > OPERATIONS_PAGE_MAX
				? OPERATIONS_PAGE_MAX
				: (size_t)request->page_size);
	return RPC_DONE;
}

static enum rpc_verdict operations_cancel(struct rpc_in *in, void *service)
{
	Longrunning__CancelOperationRequest *request = (void *)rpc_request(in);
	Pb__Empty empty = PB__EMPTY__INIT;
	const struct server *server = service;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = queue_cancel(server->queue, request->name, clock_mono_ns());
	if (err)
		return rpc_fail(in, err);
	rpc_send(in, &empty.base);
	return RPC_DONE;
}

#define OPERATIONS_SERVICE &longrunning__operations__descriptor

static const struct rpc_handler operations_methods[] = {
	{{OPERATIONS_SERVICE, "GetOperation"}, RPC_UNARY, RPC_INLINE, operations_get},
	{{OPERATIONS_SERVICE, "ListOperations"}, RPC_UNARY, RPC_INLINE, operations_list},
	{{OPERATIONS_SERVICE, "CancelOperation"},
	 RPC_UNARY,
	 RPC_INLINE,
	 operations_cancel},
};
const struct rpc_handlers operations_handlers = {operations_methods,
						 ARRAY_SIZE(operations_methods)};
