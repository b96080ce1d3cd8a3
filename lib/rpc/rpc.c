/*
 * Owns what client and server share: core's life, messages to bytes and back, and the
 * loop that every poller thread runs. Core is initialised once and never shut down: its
 * shutdown can block for many seconds after heavy writes, and an exit ends it as well.
 *
 * Threads: any, but for rpc_init(); nothing else here has state but core itself.
 */
#define LOG_MODULE "grpc"

#include <grpc/support/log.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/latch.h"
#include "lib/base/log.h"
#include "lib/base/thread.h"
#include "lib/rpc/core.h"
#include "lib/rpc/count.h"

/* Of core: its engine's, one a processor; that which watches them, two executors, timers
 * of both kinds. */
#define RPC_ENGINE_THREADS_MAX 32
#define RPC_OTHER_THREADS      6
#define RPC_MMAP_THRESHOLD                                                               \
	(32 << 20) /* 4 MiB messages must not map and unmap each time */
#define RPC_TRIM_THRESHOLD (256 << 20)
#define RPC_TOP_PAD        (16 << 20)

/* What core has to say reaches us as the error of some call too. */
static void rpc_log(gpr_log_func_args *args)
{
	log_debug("%s", args->message);
}

static void *rpc_try_wait(void *latch)
{
	latch_wait(latch);
	return NULL;
}

/*
 * Core takes threads for granted: where one of its timers' or of its engine's cannot be
 * had, its calls never end, nor does its channel; and taken down right after its start,
 * since one of ours could not be had, it may wait for ever as well. So whether there is
 * room for all is seen before, by as many that only wait.
 */
static struct error *rpc_try_threads(size_t n_own)
{
	long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t n_engine = n_processors < 2                        ? 2
			  : n_processors > RPC_ENGINE_THREADS_MAX ? RPC_ENGINE_THREADS_MAX
								  : (size_t)n_processors;
	size_t wanted = n_engine + RPC_OTHER_THREADS + n_own;
	_cleanup_free_ pthread_t *threads = alloc_array(wanted, sizeof(*threads));
	struct error *err = NULL;
	struct latch latch;
	size_t n = 0;

	latch_init(&latch, 1);
	while (!err && n < wanted) {
		err = thread_start("rpc-try", rpc_try_wait, &latch, &threads[n]);
		n += !err;
	}
	latch_down(&latch);
	while (n > 0)
		(void)pthread_join(threads[--n], NULL);
	latch_deinit(&latch);
	return error_wrap(err, "gRPC and this program want %zu threads", wanted);
}

static void rpc_init_core(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	(void)mallopt(M_MMAP_THRESHOLD, RPC_MMAP_THRESHOLD);
	(void)mallopt(M_TRIM_THRESHOLD, RPC_TRIM_THRESHOLD);
	(void)mallopt(M_TOP_PAD, RPC_TOP_PAD);
	gpr_set_log_function(rpc_log);
	grpc_init();
}

struct error *rpc_init(size_t n_own)
{
	static bool is_done; /* main's alone */
	struct error *err;

	if (is_done)
		return NULL;
	err = rpc_try_threads(n_own);
	if (err)
		return err;
	rpc_init_core();
	is_done = true;
	return NULL;
}

void rpc_poll(grpc_completion_queue *queue)
{
	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		struct rpc_tag *tag;

		if (event.type == GRPC_QUEUE_SHUTDOWN)
			return;
		tag = event.tag;
		rpc_tag_acquire(tag);
		tag->fn(tag, event.success != 0);
	}
}

void rpc_batch(grpc_call *call, const grpc_op *ops, size_t n_ops, void *tag)
{
	rpc_tag_release(tag);
	require(grpc_call_start_batch(call, ops, n_ops, tag, NULL) == GRPC_CALL_OK);
}

grpc_slice rpc_slice_copy(struct slice bytes)
{
	return grpc_slice_from_copied_buffer((const char *)bytes.data, bytes.len);
}

struct slice rpc_slice_view(const grpc_slice *slice)
{
	return (struct slice){GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}

grpc_byte_buffer *rpc_buffer_encode(const ProtobufCMessage *message)
{
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
	grpc_byte_buffer *buffer;

	(void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return buffer;
}

grpc_byte_buffer *rpc_buffer_join(struct slice head, struct slice tail)
{
	grpc_slice slice = grpc_slice_malloc(head.len + tail.len);
	grpc_byte_buffer *buffer;

	if (head.len)
		memcpy(GRPC_SLICE_START_PTR(slice), head.data, head.len);
	if (tail.len)
		memcpy(GRPC_SLICE_START_PTR(slice) + head.len, tail.data, tail.len);
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return buffer;
}

struct slice rpc_message_bytes(struct rpc_message *message)
{
	grpc_byte_buffer_reader reader;

	if (!message->buffer)
		return (struct slice){NULL, 0};
	if (!message->has_joined) {
		require(grpc_byte_buffer_reader_init(&reader, message->buffer));
		message->joined = grpc_byte_buffer_reader_readall(&reader);
		message->has_joined = true;
		grpc_byte_buffer_reader_destroy(&reader);
	}
	return rpc_slice_view(&message->joined);
}

void rpc_message_deinit(struct rpc_message *message)
{
	if (message->has_joined)
		grpc_slice_unref(message->joined);
	message->has_joined = false;
	if (message->buffer)
		grpc_byte_buffer_destroy(message->buffer);
	message->buffer = NULL;
}

bool rpc_buffer_copy(grpc_byte_buffer *buffer, struct arena *arena, struct slice *out)
{
	grpc_byte_buffer_reader reader;
	size_t len = buffer ? grpc_byte_buffer_length(buffer) : 0;
	size_t done = 0;
	grpc_slice *part;
	uint8_t *data;

	if (len == 0) {
		*out = (struct slice){NULL, 0};
		return true;
	}
	data = arena_alloc(arena, len);
	if (!data || !grpc_byte_buffer_reader_init(&reader, buffer))
		return false;
	while (grpc_byte_buffer_reader_peek(&reader, &part)) {
		size_t n = GRPC_SLICE_LENGTH(*part);

		require(n <= len - done);
		if (n)
			memcpy(data + done, GRPC_SLICE_START_PTR(*part), n);
		done += n;
	}
	grpc_byte_buffer_reader_destroy(&reader);
	*out = (struct slice){data, done};
	return true;
}

char *rpc_path(const struct rpc_method *method)
{
	return alloc_printf("/%s/%s", method->service->name, method->name);
}

const ProtobufCMethodDescriptor *rpc_method_find(const struct rpc_method *method)
{
	const ProtobufCMethodDescriptor *found =
		protobuf_c_service_descriptor_get_method_by_name(method->service,
								 method->name);

	require(found);
	return found;
}

gpr_timespec rpc_deadline(int64_t timeout_ms)
{
	if (timeout_ms <= 0)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
			    gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
}

static void *rpc_arena_alloc(void *arena, size_t size)
{
	return arena_alloc(arena, size);
}

static void rpc_arena_ignore(void *arena, void *p)
{
	(void)arena;
	(void)p;
}

ProtobufCMessage *rpc_decode(const ProtobufCMessageDescriptor *type, struct slice bytes,
			     struct arena *arena)
{
	ProtobufCAllocator allocator = {rpc_arena_alloc, rpc_arena_ignore, arena};
	static const uint8_t nothing[1];

	if (count_elements(type, bytes, RPC_ELEMENTS_MAX) != COUNT_FITS)
		return NULL;
	return protobuf_c_message_unpack(type, &allocator, bytes.len,
					 bytes.data ? bytes.data : nothing);
}

void rpc_encode(const ProtobufCMessage *message, struct buf *out)
{
	buf_reserve(out, protobuf_c_message_get_packed_size(message));
	out->len += protobuf_c_message_pack(message, out->data + out->len);
	out->data[out->len] = '\0';
}
