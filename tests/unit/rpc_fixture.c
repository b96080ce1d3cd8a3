/* What rpc_fixture.h declares; the tests of one program run on one thread. */
#include "tests/unit/rpc_fixture.h"

const struct rpc_method method_find = {CAS_SERVICE, "FindMissingBlobs"};

const struct rpc_method method_update = {CAS_SERVICE, "BatchUpdateBlobs"};

const struct rpc_method method_unknown = {CAS_SERVICE, "BatchReadBlobs"};

const struct rpc_method method_read = {STREAM_SERVICE, "Read"};

const struct rpc_method method_write = {STREAM_SERVICE, "Write"};

const struct rpc_method method_get = {OPS_SERVICE, "GetOperation"};

const struct rpc_method method_wait = {EXEC_SERVICE, "WaitExecution"};

/* Echoes the digests: the instance's name says what else happens. */
static enum rpc_verdict step_find(struct rpc_in *in, void *ctx)
{
	Reapi__FindMissingBlobsRequest *request = (void *)rpc_request(in);
	Reapi__FindMissingBlobsResponse response =
		REAPI__FIND_MISSING_BLOBS_RESPONSE__INIT;
	struct fixture *fixture = ctx;
	struct slice value;
	struct error *err;

	if (!request)
		return RPC_DONE;
	if (strcmp(request->instance_name, "fail") == 0) {
		err = error_new(ERROR_FAILED_PRECONDITION,
				"lost things \xff in caf\xc3\xa9");
		error_add_missing(err, "blobs/abc/1");
		error_add_missing(err, "blobs/def/2");
		error_set_retry_delay_ms(err, 1500);
		return rpc_fail(in, err);
	}
	if (rpc_header_get(in, "build.bazel.remote.execution.v2.requestmetadata-bin",
			   &value) &&
	    value.len < sizeof(fixture->header)) {
		(void)pthread_mutex_lock(&fixture->mutex);
		memcpy(fixture->header, value.data, value.len);
		fixture->header[value.len] = '\0';
		(void)pthread_mutex_unlock(&fixture->mutex);
	}
	if (rpc_header_get(in, "x-echo-bin", &value))
		rpc_trailer_add(in, "x-echoed-bin", value);
	response.n_missing_blob_digests = request->n_blob_digests;
	response.missing_blob_digests = request->blob_digests;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* Unary, begins on the poller, goes on on a worker. */
static enum rpc_verdict step_update(struct rpc_in *in, void *ctx)
{
	Reapi__BatchUpdateBlobsResponse response =
		REAPI__BATCH_UPDATE_BLOBS_RESPONSE__INIT;
	struct fixture *fixture = ctx;

	if (!rpc_is_on_worker(in))
		return RPC_BLOCK;
	fixture->saw_worker = true;
	if (!rpc_request(in))
		return RPC_DONE;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static void read_drop(void *state)
{
	struct read_state *read = state;

	if (read->fixture)
		atomic_fetch_add(&read->fixture->n_dropped, 1);
}

static void read_release(void *ctx)
{
	struct fixture *fixture = ctx;

	atomic_fetch_add(&fixture->n_released, 1);
}

/* Sends read_limit messages of 64 KiB, each a protobuf head and the chunk by reference.
 */
static enum rpc_verdict step_read(struct rpc_in *in, void *ctx)
{
	struct read_state *read = rpc_state(in, sizeof(*read), read_drop);
	static const uint8_t head[] = {0x52, 0x80, 0x80, 0x04};

	if (!read->has_begun) {
		Bytestream__ReadRequest *request = (void *)rpc_request(in);

		if (!request)
			return RPC_DONE;
		read->fixture = ctx;
		read->left = request->read_limit;
		read->has_begun = true;
	}
	if (read->left == 0)
		return RPC_DONE;
	if (!rpc_can_send(in))
		return RPC_LATER;
	rpc_send_raw(in, (struct slice){head, sizeof(head)},
		     (struct slice){read_chunk, sizeof(read_chunk)}, read_release, ctx);
	return --read->left == 0 ? RPC_DONE : RPC_LATER;
}

/* Counts bytes; "stop" as a resource ends the call early. */
static enum rpc_verdict step_write(struct rpc_in *in, void *ctx)
{
	int64_t *sum = rpc_state(in, sizeof(*sum), NULL);
	Bytestream__WriteResponse response = BYTESTREAM__WRITE_RESPONSE__INIT;
	struct slice bytes;
	bool is_end;

	(void)ctx;
	while (rpc_receive(in, &bytes, &is_end)) {
		Bytestream__WriteRequest *request;

		if (is_end) {
			response.committed_size = *sum;
			rpc_send(in, &response.base);
			return RPC_DONE;
		}
		request = (void *)rpc_decode(&bytestream__write_request__descriptor,
					     bytes, rpc_arena(in));
		if (!request || strcmp(request->resource_name, "bad") == 0)
			return rpc_fail(in,
					error_new(ERROR_INVALID_ARGUMENT, "bad write"));
		if (strcmp(request->resource_name, "stop") == 0) {
			response.committed_size = -1;
			rpc_send(in, &response.base);
			return RPC_DONE;
		}
		*sum += (int64_t)request->data.len;
	}
	return RPC_LATER;
}

/* Never answers: ends by cancellation or deadline. */
static enum rpc_verdict step_hang(struct rpc_in *in, void *ctx)
{
	struct read_state *state = rpc_state(in, sizeof(*state), read_drop);
	struct fixture *fixture = ctx;

	if (!state->fixture) {
		state->fixture = fixture;
		(void)sem_post(&fixture->is_waiting);
	}
	return RPC_LATER;
}

static void wait_drop(void *state)
{
	struct wait_state *wait = state;

	if (!wait->fixture)
		return;
	(void)pthread_mutex_lock(&wait->fixture->mutex);
	wait->fixture->waiting = rpc_in_unref(wait->fixture->waiting);
	(void)pthread_mutex_unlock(&wait->fixture->mutex);
}

/* Sends an operation for each update another thread announces with rpc_wake(). */
static enum rpc_verdict step_wait(struct rpc_in *in, void *ctx)
{
	struct wait_state *wait = rpc_state(in, sizeof(*wait), wait_drop);
	Longrunning__Operation operation = LONGRUNNING__OPERATION__INIT;
	struct fixture *fixture = ctx;
	bool is_last;
	int n;

	(void)pthread_mutex_lock(&fixture->mutex);
	if (!wait->fixture) {
		wait->fixture = fixture;
		fixture->waiting = rpc_in_ref(in);
		(void)sem_post(&fixture->is_waiting);
	}
	n = fixture->n_updates;
	is_last = fixture->is_last;
	(void)pthread_mutex_unlock(&fixture->mutex);
	if (wait->n_sent < n) {
		if (!rpc_can_send(in))
			return RPC_LATER;
		operation.name = arena_printf(rpc_arena(in), "%d", ++wait->n_sent);
		rpc_send(in, &operation.base);
	}
	return wait->n_sent == n && is_last ? RPC_DONE : RPC_LATER;
}

static const struct rpc_handler fixture_handlers[] = {
	{{CAS_SERVICE, "FindMissingBlobs"}, RPC_UNARY, RPC_INLINE, step_find},
	{{CAS_SERVICE, "BatchUpdateBlobs"}, RPC_UNARY, RPC_INLINE, step_update},
	{{STREAM_SERVICE, "Read"}, RPC_SERVER_STREAM, RPC_INLINE, step_read},
	{{STREAM_SERVICE, "Write"}, RPC_CLIENT_STREAM, 0, step_write},
	{{OPS_SERVICE, "GetOperation"}, RPC_UNARY, RPC_INLINE, step_hang},
	{{EXEC_SERVICE, "WaitExecution"}, RPC_SERVER_STREAM, RPC_INLINE, step_wait},
};

void fixture_offer(struct rpc_server *server, void *ctx)
{
	rpc_server_add(server, fixture_handlers, ARRAY_SIZE(fixture_handlers), ctx);
}

struct rpc_server *fixture_server(const char *address, void *ctx)
{
	const struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 2, .n_workers = 2};
	struct rpc_server *server = NULL;

	assert_null(rpc_server_new(&config, &server));
	fixture_offer(server, ctx);
	assert_null(rpc_server_start(server));
	return server;
}

struct rpc_chan *fixture_chan(const char *address)
{
	const struct rpc_chan_config config = {.address = address,
					       .tool_name = "testtool"};
	struct rpc_chan *chan = NULL;

	assert_null(rpc_chan_new(&config, &chan));
	return chan;
}

int fixture_setup(void **state)
{
	struct fixture *fixture = alloc_new(struct fixture);

	assert_null(rpc_init(0));
	assert_int_equal(pthread_mutex_init(&fixture->mutex, NULL), 0);
	assert_int_equal(sem_init(&fixture->is_waiting, 0, 0), 0);
	fixture->server = fixture_server("grpc://127.0.0.1:0", fixture);
	fixture->chan = fixture_chan(rpc_server_address(fixture->server, 0));
	*state = fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;

	rpc_chan_free(fixture->chan);
	rpc_server_free(fixture->server);
	(void)pthread_mutex_destroy(&fixture->mutex);
	(void)sem_destroy(&fixture->is_waiting);
	free(fixture);
	return 0;
}

void fixture_wait(struct fixture *fixture)
{
	while (sem_wait(&fixture->is_waiting) != 0)
		;
}

void assert_no_error(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

void assert_error(struct error *err, enum error_code code, const char *part)
{
	if (!err)
		fail_msg("an error with \"%s\" was expected", part);
	if (!strstr(error_text(err), part))
		fail_msg("\"%s\" does not say \"%s\"", error_text(err), part);
	assert_int_equal(error_code(err), code);
	error_free(err);
}
