/*
 * Owns one unary client call: its single batch of six operations, the headers that every
 * call sends, and how its end becomes a reply or an error.
 *
 * Threads: whoever starts the call, then whoever gets its event; never both.
 */
#include "lib/rpc/unary.h"

#include <string.h>

#include "lib/base/alloc.h"

#define REQUEST_METADATA_HEADER "build.bazel.remote.execution.v2.requestmetadata-bin"

static void rpc_headers_add(void *ctx, const char *name, struct slice value)
{
	struct rpc_headers *headers = ctx;
	grpc_metadata *slot = &headers->list[headers->n++];

	slot->key = grpc_slice_from_copied_string(name);
	slot->value = rpc_slice_copy(value);
}

void rpc_headers_init(struct rpc_headers *headers, const struct rpc_chan *chan,
		      const struct rpc_options *options)
{
	size_t n = options ? options->n_headers : 0;

	*headers = (struct rpc_headers){.list = alloc_array(n + 1 + RPC_CREDS_HEADERS_MAX,
							    sizeof(grpc_metadata))};
	if (chan->request_metadata.len > 0)
		rpc_headers_add(headers, REQUEST_METADATA_HEADER,
				buf_slice(&chan->request_metadata));
	headers->creds = rpc_creds_each(chan->creds, rpc_headers_add, headers);
	for (size_t i = 0; i < n; i++)
		rpc_headers_add(headers, options->headers[i].name,
				options->headers[i].value);
}

void rpc_headers_deinit(struct rpc_headers *headers)
{
	for (size_t i = 0; i < headers->n; i++) {
		grpc_slice_unref(headers->list[i].key);
		grpc_slice_unref(headers->list[i].value);
	}
	free(headers->list);
	*headers = (struct rpc_headers){0};
}

void rpc_unary_prepare(struct rpc_unary *unary, struct rpc_chan *chan,
		       const struct rpc_method *method, const struct rpc_options *options,
		       grpc_completion_queue *queue)
{
	*unary = (struct rpc_unary){.chan = chan, .status_text = grpc_empty_slice()};
	unary->route = rpc_chan_enter(chan, method);
	grpc_metadata_array_init(&unary->initial);
	grpc_metadata_array_init(&unary->trailing);
	unary->call = grpc_channel_create_registered_call(
		chan->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, unary->route->handle,
		rpc_deadline(options ? options->timeout_ms : 0), NULL);
}

void rpc_unary_send(struct rpc_unary *unary, const ProtobufCMessage *request,
		    const struct rpc_options *options, void *tag)
{
	grpc_byte_buffer *message = rpc_buffer_encode(request);
	struct rpc_headers headers;
	grpc_op ops[6] = {0};

	rpc_headers_init(&headers, unary->chan, options);
	unary->creds = headers.creds;
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[0].data.send_initial_metadata.count = headers.n;
	ops[0].data.send_initial_metadata.metadata = headers.list;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = message;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &unary->initial;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &unary->received;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &unary->trailing;
	ops[5].data.recv_status_on_client.status = &unary->status;
	ops[5].data.recv_status_on_client.status_details = &unary->status_text;
	rpc_batch(unary->call, ops, ARRAY_SIZE(ops), tag);
	rpc_headers_deinit(&headers);
	grpc_byte_buffer_destroy(message);
}

/* False where the reply's arena cannot hold them. */
static bool rpc_unary_trailers(const grpc_metadata_array *from, struct rpc_reply *reply)
{
	struct rpc_header *list =
		arena_array(&reply->arena, from->count, sizeof(*reply->trailers));

	for (size_t i = 0; i < from->count && list; i++) {
		struct slice name = rpc_slice_view(&from->metadata[i].key);
		struct slice value = rpc_slice_view(&from->metadata[i].value);

		list[i].name = arena_printf(&reply->arena, "%.*s", (int)name.len,
					    (const char *)name.data);
		list[i].value = (struct slice){
			arena_memdup(&reply->arena, value.data, value.len), value.len};
	}
	reply->trailers = list;
	reply->n_trailers = from->count;
	return !reply->arena.is_full;
}

static struct error *rpc_unary_reply(struct rpc_unary *unary, struct rpc_reply *reply_out)
{
	struct rpc_reply reply = {.arena = ARENA_INIT(RPC_ARENA_MAX)};

	if (!unary->received)
		return error_new(ERROR_INTERNAL, "the reply has no message");
	if (!rpc_buffer_copy(unary->received, &reply.arena, &reply.bytes) ||
	    !rpc_unary_trailers(&unary->trailing, &reply)) {
		arena_deinit(&reply.arena);
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "no memory for a reply of %zu bytes",
				 grpc_byte_buffer_length(unary->received));
	}
	*reply_out = reply;
	return NULL;
}

struct error *rpc_unary_end(struct rpc_unary *unary, struct rpc_reply *reply_out)
{
	struct rpc_chan *chan = unary->chan;
	struct error *err;

	err = rpc_status_of_call(unary->status, &unary->status_text, &unary->trailing);
	if (!err)
		err = rpc_unary_reply(unary, reply_out);
	err = rpc_chan_status(chan, unary->route, unary->creds, err);
	if (unary->received)
		grpc_byte_buffer_destroy(unary->received);
	grpc_metadata_array_destroy(&unary->initial);
	grpc_metadata_array_destroy(&unary->trailing);
	grpc_slice_unref(unary->status_text);
	grpc_call_unref(unary->call);
	return err;
}
