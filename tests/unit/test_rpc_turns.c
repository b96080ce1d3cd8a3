/* Which threads run what: long calls, those that move much or take several steps, have
 * workers of their own, of a lower priority. */
#include <sys/resource.h>

#include "lib/rpc/peer.h"
#include "tests/unit/rpc_fixture.h"

enum { N_PEERS = 4, N_CALLS = 2 }; /* more than there are workers */
enum { N_WORKERS = 3, N_MANY = 40 };

struct turns {
	struct rpc_server *server;
	struct rpc_chan *chans[N_PEERS];
	atomic_int nice[2]; /* of the thread that ran the last first, and second step */
	uint8_t sent[PEER_HEAVY + 1];
	sem_t begun, may_go, done;
	atomic_int n_failed;
	atomic_int n_held, most_held; /* calls between their first step and their last */
};

/* "again": takes two steps; "hold": the second, or that of a large request, waits. */
static enum rpc_verdict step_turns(struct rpc_in *in, void *ctx)
{
	Reapi__BatchUpdateBlobsResponse response =
		REAPI__BATCH_UPDATE_BLOBS_RESPONSE__INIT;
	int *n_steps = rpc_state(in, sizeof(*n_steps), NULL);
	Reapi__BatchUpdateBlobsRequest *request;
	struct turns *turns = ctx;

	turns->nice[*n_steps] = getpriority(PRIO_PROCESS, 0);
	if ((*n_steps)++ > 0) {
		rpc_send(in, &response.base);
		return RPC_DONE;
	}
	request = (void *)rpc_request(in);
	if (!request)
		return RPC_DONE;
	if (strcmp(request->instance_name, "again") == 0)
		return RPC_AGAIN;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* Two steps; the second waits until the test lets it go. */
static enum rpc_verdict step_hold(struct rpc_in *in, void *ctx)
{
	Longrunning__Operation operation = LONGRUNNING__OPERATION__INIT;
	int *n_steps = rpc_state(in, sizeof(*n_steps), NULL);
	struct turns *turns = ctx;

	if ((*n_steps)++ == 0) {
		int n = atomic_fetch_add(&turns->n_held, 1) + 1;

		if (n > turns->most_held) /* all but exact, and low rather than high */
			turns->most_held = n;
		return RPC_AGAIN;
	}
	(void)sem_post(&turns->begun);
	while (sem_wait(&turns->may_go) != 0)
		;
	atomic_fetch_sub(&turns->n_held, 1);
	operation.name = arena_string(rpc_arena(in), "held");
	rpc_send(in, &operation.base);
	return RPC_DONE;
}

/* A stream: what it has sent makes it long, too. */
static enum rpc_verdict step_send(struct rpc_in *in, void *ctx)
{
	int *n_steps = rpc_state(in, sizeof(*n_steps), NULL);
	struct turns *turns = ctx;

	if (!rpc_can_send(in))
		return RPC_LATER;
	if (*n_steps == 1) {
		turns->nice[1] = getpriority(PRIO_PROCESS, 0);
		return RPC_DONE;
	}
	turns->nice[(*n_steps)++] = getpriority(PRIO_PROCESS, 0);
	rpc_send_raw(in, (struct slice){turns->sent, sizeof(turns->sent)},
		     (struct slice){0}, NULL, NULL);
	return RPC_LATER;
}

static const struct rpc_handler turns_handlers[] = {
	{{CAS_SERVICE, "BatchUpdateBlobs"}, RPC_UNARY, 0, step_turns},
	{{OPS_SERVICE, "GetOperation"}, RPC_UNARY, 0, step_hold},
	{{STREAM_SERVICE, "Read"}, RPC_SERVER_STREAM, 0, step_send},
	{{CAS_SERVICE, "FindMissingBlobs"}, RPC_UNARY, RPC_LONG, step_turns},
};

static int setup(void **state)
{
	static const char *const address = "grpc://127.0.0.1:0";
	const struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 2, .n_workers = 2};
	struct turns *turns = alloc_new(struct turns);

	assert_null(rpc_init(0));
	assert_int_equal(sem_init(&turns->begun, 0, 0), 0);
	assert_int_equal(sem_init(&turns->may_go, 0, 0), 0);
	assert_int_equal(sem_init(&turns->done, 0, 0), 0);
	assert_null(rpc_server_new(&config, &turns->server));
	rpc_server_add(turns->server, turns_handlers, ARRAY_SIZE(turns_handlers), turns);
	assert_null(rpc_server_start(turns->server));
	for (int i = 0; i < N_PEERS; i++)
		turns->chans[i] = fixture_chan(rpc_server_address(turns->server, 0));
	*state = turns;
	return 0;
}

static int teardown(void **state)
{
	struct turns *turns = *state;

	for (int i = 0; i < N_PEERS; i++)
		rpc_chan_free(turns->chans[i]);
	rpc_server_free(turns->server);
	(void)sem_destroy(&turns->begun);
	(void)sem_destroy(&turns->may_go);
	(void)sem_destroy(&turns->done);
	free(turns);
	return 0;
}

static void call_update(struct turns *turns, struct rpc_chan *chan, const char *instance)
{
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	request.instance_name = (char *)(uintptr_t)instance;
	turns->nice[0] = turns->nice[1] = INT32_MIN;
	assert_no_error(rpc_call(chan, &method_update, &request.base, NULL, &reply));
}

static void test_turns_long_calls_have_a_lower_priority(void **state)
{
	struct turns *turns = *state;
	_cleanup_free_ char *large = alloc_zero(PEER_HEAVY + 1);
	int usual = getpriority(PRIO_PROCESS, 0);

	memset(large, 'x', PEER_HEAVY);
	call_update(turns, turns->chans[0], "short");
	assert_int_equal(turns->nice[0], usual);
	call_update(turns, turns->chans[0], large);
	assert_int_equal(turns->nice[0], usual + PEER_LONG_NICE);
	call_update(turns, turns->chans[0], "again");
	assert_int_equal(turns->nice[0], usual);
	assert_int_equal(turns->nice[1], usual + PEER_LONG_NICE);
	call_update(turns, turns->chans[0], "short");
	assert_int_equal(turns->nice[0], usual);
}

static void test_turns_stream_that_sent_much_has_a_lower_priority(void **state)
{
	struct turns *turns = *state;
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	int usual = getpriority(PRIO_PROCESS, 0);
	bool is_broken = true;

	turns->nice[0] = turns->nice[1] = INT32_MIN;
	assert_no_error(rpc_stream_open(turns->chans[0], &method_read, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(stream));
	assert_no_error(rpc_stream_finish(stream));
	assert_int_equal(turns->nice[0], usual);
	assert_int_equal(turns->nice[1], usual + PEER_LONG_NICE);
}

static void test_turns_method_that_takes_long_has_a_lower_priority(void **state)
{
	struct turns *turns = *state;
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	turns->nice[0] = INT32_MIN;
	assert_no_error(
		rpc_call(turns->chans[0], &method_find, &request.base, NULL, &reply));
	assert_int_equal(turns->nice[0], getpriority(PRIO_PROCESS, 0) + PEER_LONG_NICE);
}

static void held_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct turns *turns = ctx;

	(void)reply;
	if (err)
		atomic_fetch_add(&turns->n_failed, 1);
	(void)sem_post(&turns->done);
}

/* Three workers, all held by long steps of several peers: short calls go on, also those
 * of the peers that hold them. */
static void test_turns_short_calls_do_not_wait_for_long_ones(void **state)
{
	struct turns *turns = *state;
	Longrunning__GetOperationRequest request =
		LONGRUNNING__GET_OPERATION_REQUEST__INIT;

	for (int i = 0; i < N_PEERS * N_CALLS; i++)
		(void)rpc_start(turns->chans[i % N_PEERS], &method_get, &request.base,
				NULL, held_done, turns);
	for (int i = 0; i < N_WORKERS; i++)
		while (sem_wait(&turns->begun) != 0)
			;
	for (int i = 0; i < N_PEERS; i++)
		call_update(turns, turns->chans[i], "short");
	for (int i = 0; i < N_PEERS * N_CALLS; i++)
		(void)sem_post(&turns->may_go);
	for (int i = 0; i < N_PEERS * N_CALLS; i++)
		while (sem_wait(&turns->done) != 0)
			;
	for (int i = N_WORKERS; i < N_PEERS * N_CALLS; i++)
		while (sem_wait(&turns->begun) != 0)
			;
	assert_int_equal(turns->n_failed, 0);
}

/* Of one peer as many as run, as wait to go on, and as began at the same moment. */
static void test_turns_calls_that_go_on_do_so_before_others_begin(void **state)
{
	struct turns *turns = *state;
	Longrunning__GetOperationRequest request =
		LONGRUNNING__GET_OPERATION_REQUEST__INIT;

	turns->most_held = 0;
	for (int i = 0; i < N_MANY; i++)
		(void)rpc_start(turns->chans[0], &method_get, &request.base, NULL,
				held_done, turns);
	for (int i = 0; i < N_MANY; i++) {
		while (sem_wait(&turns->begun) != 0)
			;
		(void)sem_post(&turns->may_go);
	}
	for (int i = 0; i < N_MANY; i++)
		while (sem_wait(&turns->done) != 0)
			;
	assert_int_equal(turns->n_failed, 0);
	assert_true(turns->most_held <= 3 * N_WORKERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns_long_calls_have_a_lower_priority),
		cmocka_unit_test(test_turns_stream_that_sent_much_has_a_lower_priority),
		cmocka_unit_test(test_turns_method_that_takes_long_has_a_lower_priority),
		cmocka_unit_test(test_turns_short_calls_do_not_wait_for_long_ones),
		cmocka_unit_test(test_turns_calls_that_go_on_do_so_before_others_begin),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
