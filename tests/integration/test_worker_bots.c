/*
 * Statement 86 of docs/protocol.md and what belongs to it: the real worker under a Bots
 * server that the test plays, one message at a time. Blobs come from the real
 * lazyroot-server.
 */
#include "tests/integration/worker_fixture.h"

#include <poll.h>

#include "lib/rpc/server.h"

#define BOTS_REAPI   "type.googleapis.com/build.bazel.remote.execution.v2."
#define BOTS_WAKE_MS 5
#define BOTS_IDLE_MS 20 /* how long an update is held while nobody plays */

/*
 * Calls are numbered. While the test plays, each is held until the test has answered it;
 * else they get an empty session back.
 */
struct bots {
	struct worker worker; /* first */
	struct rpc_server *server;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool is_playing; /* guarded by mutex, as all below */
	unsigned int n_calls;
	unsigned int answer_to;
	struct buf heard; /* the session of the newest call */
	bool is_create;
	struct buf answer;
	enum error_code refusal; /* instead of an answer */

	unsigned int n_heard; /* the test's */
};

struct bots_call {
	unsigned int number;
	int64_t since_ns;
};

/* False: the worker gave the call up before its message was here. */
static bool bots_note(struct bots *bots, struct bots_call *call, struct rpc_in *in,
		      bool is_create)
{
	ProtobufCMessage *request = rpc_request(in);
	const Bots__BotSession *session;

	if (!request)
		return false;
	session = is_create ? ((Bots__CreateBotSessionRequest *)request)->bot_session
			    : ((Bots__UpdateBotSessionRequest *)request)->bot_session;
	call->number = ++bots->n_calls;
	call->since_ns = clock_mono_ns();
	buf_clear(&bots->heard);
	rpc_encode(&session->base, &bots->heard);
	bots->is_create = is_create;
	(void)pthread_cond_broadcast(&bots->cond);
	return true;
}

/* Mutex held. */
static enum rpc_verdict bots_reply(struct bots *bots, const struct bots_call *call,
				   struct rpc_in *in, bool is_create)
{
	int64_t held_ns = clock_mono_ns() - call->since_ns;
	Bots__BotSession empty = BOTS__BOT_SESSION__INIT;

	empty.name = "sessions/1";
	if (!bots->is_playing && (is_create || held_ns > BOTS_IDLE_MS * NS_PER_MS)) {
		rpc_send(in, &empty.base);
		return RPC_DONE;
	}
	if (!bots->is_playing || bots->answer_to < call->number) {
		rpc_wake_at(in, clock_mono_ns() + BOTS_WAKE_MS * NS_PER_MS);
		return RPC_LATER;
	}
	if (bots->answer_to > call->number)
		return rpc_fail(in, error_new(ERROR_ABORTED, "an older call"));
	if (bots->refusal)
		return rpc_fail(in, error_new(bots->refusal, "refused by the test"));
	rpc_send(in, rpc_decode(&bots__bot_session__descriptor, buf_slice(&bots->answer),
				rpc_arena(in)));
	return RPC_DONE;
}

static enum rpc_verdict bots_step(struct rpc_in *in, struct bots *bots, bool is_create)
{
	struct bots_call *call = rpc_state(in, sizeof(*call), NULL);
	enum rpc_verdict verdict = RPC_LATER;

	(void)pthread_mutex_lock(&bots->mutex);
	if (!call->number && !bots_note(bots, call, in, is_create))
		verdict = RPC_DONE;
	else if (!rpc_is_cancelled(in))
		verdict = bots_reply(bots, call, in, is_create);
	(void)pthread_mutex_unlock(&bots->mutex);
	return verdict;
}

static enum rpc_verdict bots_create(struct rpc_in *in, void *service)
{
	return bots_step(in, service, true);
}

static enum rpc_verdict bots_update(struct rpc_in *in, void *service)
{
	return bots_step(in, service, false);
}

static const struct rpc_handler bots_handlers[] = {
	{{BOTS_SERVICE, "CreateBotSession"}, RPC_UNARY, 0, bots_create},
	{{BOTS_SERVICE, "UpdateBotSession"}, RPC_UNARY, 0, bots_update},
};

/* ---- the test's side ------------------------------------------------------------ */

/* The next call that came after the last one heard; what it says. */
static Bots__BotSession *bots_hear(struct bots *bots)
{
	Bots__BotSession *session;

	(void)pthread_mutex_lock(&bots->mutex);
	while (bots->n_calls == bots->n_heard)
		(void)pthread_cond_wait(&bots->cond, &bots->mutex);
	bots->n_heard = bots->n_calls;
	session = (void *)rpc_decode(&bots__bot_session__descriptor,
				     buf_slice(&bots->heard), &bots->worker.server.arena);
	(void)pthread_mutex_unlock(&bots->mutex);
	assert_non_null(session);
	return session;
}

/* To the call heard last. */
static void bots_answer(struct bots *bots, Bots__Lease *lease, enum error_code refusal)
{
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;

	session.name = "sessions/1";
	session.n_leases = lease ? 1 : 0;
	session.leases = &lease;
	(void)pthread_mutex_lock(&bots->mutex);
	buf_clear(&bots->answer);
	rpc_encode(&session.base, &bots->answer);
	bots->refusal = refusal;
	bots->answer_to = bots->n_heard;
	(void)pthread_mutex_unlock(&bots->mutex);
}

/* From now on the test answers; the first call is one without leases. */
static void bots_play(struct bots *bots)
{
	(void)pthread_mutex_lock(&bots->mutex);
	bots->is_playing = true;
	bots->n_heard = bots->n_calls;
	bots->answer_to = bots->n_calls; /* what is under way goes */
	bots->refusal = ERROR_UNAVAILABLE;
	(void)pthread_mutex_unlock(&bots->mutex);
	assert_int_equal(bots_hear(bots)->n_leases, 0);
}

static void bots_rest(struct bots *bots)
{
	(void)pthread_mutex_lock(&bots->mutex);
	bots->is_playing = false;
	(void)pthread_mutex_unlock(&bots->mutex);
}

static Bots__Lease *bots_offer(struct bots *bots, const char *type,
			       const ProtobufCMessage *payload)
{
	struct fixture *fixture = &bots->worker.server;
	Bots__Lease *lease = arena_zero(&fixture->arena, sizeof(*lease));
	Pb__Any *any = arena_zero(&fixture->arena, sizeof(*any));
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	rpc_encode(payload, &bytes);
	pb__any__init(any);
	any->type_url = type;
	any->value.len = bytes.len;
	any->value.data = arena_memdup(&fixture->arena, bytes.data, bytes.len);
	bots__lease__init(lease);
	lease->id = unique_text(fixture, "lease");
	lease->payload = any;
	lease->state = BOTS__LEASE_STATE__PENDING;
	return lease;
}

static Bots__Lease *bots_offer_digest(struct bots *bots, const struct act *act)
{
	return bots_offer(bots, BOTS_REAPI "Digest",
			  &act_put(&bots->worker.server, act)->base);
}

static Bots__Lease *bots_offer_action(struct bots *bots, const struct act *act)
{
	struct fixture *fixture = &bots->worker.server;
	Reapi__Digest *digest = act_put(fixture, act);
	struct slice bytes;

	bytes.data = (const uint8_t *)get_blob(fixture, digest, &bytes.len);
	return bots_offer(bots, BOTS_REAPI "Action",
			  rpc_decode(&reapi__action__descriptor, bytes, &fixture->arena));
}

static void assert_lease(const Bots__BotSession *session, const Bots__Lease *lease,
			 Bots__LeaseState state)
{
	assert_int_equal(session->n_leases, 1);
	assert_string_equal(session->leases[0]->id, lease->id);
	assert_int_equal(session->leases[0]->state, state);
}

/* Says PENDING, hears ACTIVE, says ACTIVE. */
static void bots_hand_over(struct bots *bots, Bots__Lease *lease)
{
	bots_answer(bots, lease, 0);
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	lease->state = BOTS__LEASE_STATE__ACTIVE;
	bots_answer(bots, lease, 0);
}

/* Updates that only hold the line are left open; the next other one. */
static Bots__BotSession *bots_hear_end(struct bots *bots)
{
	Bots__BotSession *session;

	do
		session = bots_hear(bots);
	while (session->n_leases == 1 &&
	       session->leases[0]->state == BOTS__LEASE_STATE__ACTIVE);
	return session;
}

static void assert_said(struct bots *bots, const Bots__BotSession *session,
			const Bots__Lease *lease, const char *out)
{
	struct fixture *fixture = &bots->worker.server;
	Reapi__ActionResult *result;
	const Pb__Any *any;

	assert_lease(session, lease, BOTS__LEASE_STATE__COMPLETED);
	assert_non_null(session->leases[0]->status);
	assert_int_equal(session->leases[0]->status->code, 0);
	any = session->leases[0]->result;
	assert_non_null(any);
	assert_string_equal(any->type_url, BOTS_REAPI "ActionResult");
	result = (void *)rpc_decode(&reapi__action_result__descriptor,
				    (struct slice){any->value.data, any->value.len},
				    &fixture->arena);
	assert_non_null(result);
	assert_int_equal(result->exit_code, 0);
	assert_string_equal(get_blob(fixture, result->stdout_digest, NULL), out);
}

static void bots_let_go(struct bots *bots)
{
	bots_answer(bots, NULL, 0);
	assert_int_equal(bots_hear(bots)->n_leases, 0);
	bots_rest(bots);
	assert_tidy(&bots->worker);
}

static bool has_come(const struct gate *gate, int wait_ms)
{
	struct pollfd fd = {.fd = gate->listen_fd, .events = POLLIN};

	return poll(&fd, 1, wait_ms) == 1;
}

/* ---- what is claimed ------------------------------------------------------------ */

static void test_86_payload_digest_runs(void **state)
{
	struct bots *bots = *state;
	struct act act = {.script = "echo by digest"};
	Bots__Lease *lease = bots_offer_digest(bots, &act);

	bots_play(bots);
	bots_hand_over(bots, lease);
	assert_said(bots, bots_hear_end(bots), lease, "by digest\n");
	bots_let_go(bots);
}

static void test_86_payload_action_runs(void **state)
{
	struct bots *bots = *state;
	struct act act = {.script = "echo by action"};
	Bots__Lease *lease = bots_offer_action(bots, &act);

	bots_play(bots);
	bots_hand_over(bots, lease);
	assert_said(bots, bots_hear_end(bots), lease, "by action\n");
	bots_let_go(bots);
}

static void test_86_other_payloads_are_invalid(void **state)
{
	struct bots *bots = *state;
	Reapi__Digest wrong = REAPI__DIGEST__INIT;
	Bots__Lease *leases[2];

	wrong.hash = "../../etc/passwd";
	leases[0] = bots_offer(bots, BOTS_REAPI "Command",
			       &empty_root(&bots->worker.server)->base);
	leases[1] = bots_offer(bots, BOTS_REAPI "Digest", &wrong.base);
	for (size_t i = 0; i < ARRAY_SIZE(leases); i++) {
		Bots__BotSession *session;

		bots_play(bots);
		bots_answer(bots, leases[i], 0);
		session = bots_hear_end(bots);
		assert_lease(session, leases[i], BOTS__LEASE_STATE__COMPLETED);
		assert_int_equal(session->leases[0]->status->code,
				 ERROR_INVALID_ARGUMENT);
		bots_let_go(bots);
	}
}

static void test_86_nothing_starts_before_active_is_acknowledged(void **state)
{
	struct bots *bots = *state;
	struct fixture *fixture = &bots->worker.server;
	struct gate gate;
	Bots__Lease *lease;
	struct act act;

	gate_open(&gate);
	act = act_bash(fixture, arena_printf(&fixture->arena, "%s; echo passed",
					     gate_words(fixture, &gate)));
	lease = bots_offer_action(bots, &act);
	bots_play(bots);
	bots_answer(bots, lease, 0);
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	assert_false(has_come(&gate, 300));
	bots_answer(bots, lease, 0); /* still PENDING: nothing was acknowledged */
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	assert_false(has_come(&gate, 300));
	lease->state = BOTS__LEASE_STATE__ACTIVE;
	bots_answer(bots, lease, 0);
	gate_wait(&gate);
	gate_pass(&gate);
	assert_said(bots, bots_hear_end(bots), lease, "passed\n");
	bots_let_go(bots);
	gate_close(&gate);
}

static void test_86_completed_is_repeated_until_acknowledged(void **state)
{
	static const enum error_code refusals[] = {0, ERROR_UNAVAILABLE, 0,
						   ERROR_UNAVAILABLE};
	struct bots *bots = *state;
	struct act act = {.script = "echo once"};
	Bots__Lease *lease = bots_offer_action(bots, &act);

	bots_play(bots);
	bots_hand_over(bots, lease);
	assert_said(bots, bots_hear_end(bots), lease, "once\n");
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		bots_answer(bots, lease, refusals[i]);
		assert_said(bots, bots_hear_end(bots), lease, "once\n");
	}
	bots_let_go(bots);
}

static void test_86_result_survives_the_loss_of_the_session(void **state)
{
	struct bots *bots = *state;
	struct fixture *fixture = &bots->worker.server;
	struct gate gate;
	Bots__Lease *lease;
	struct act act;

	gate_open(&gate);
	act = act_bash(fixture, arena_printf(&fixture->arena, "%s; echo passed",
					     gate_words(fixture, &gate)));
	lease = bots_offer_action(bots, &act);
	bots_play(bots);
	bots_hand_over(bots, lease);
	gate_wait(&gate);
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	bots_answer(bots, NULL, ERROR_NOT_FOUND);
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	assert_true(bots->is_create);
	bots_answer(bots, lease, 0);
	gate_pass(&gate);
	assert_said(bots, bots_hear_end(bots), lease, "passed\n");
	bots_let_go(bots);
	gate_close(&gate);
}

static void test_lease_cancelled_before_its_start_never_starts(void **state)
{
	struct bots *bots = *state;
	struct fixture *fixture = &bots->worker.server;
	struct gate gate;
	Bots__Lease *lease;
	struct act act;

	gate_open(&gate);
	act = act_bash(fixture, gate_words(fixture, &gate));
	lease = bots_offer_action(bots, &act);
	bots_play(bots);
	bots_answer(bots, lease, 0);
	assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
	lease->state = BOTS__LEASE_STATE__CANCELLED;
	bots_answer(bots, lease, 0);
	assert_lease(bots_hear_end(bots), lease, BOTS__LEASE_STATE__CANCELLED);
	bots_let_go(bots);
	assert_false(has_come(&gate, 0));
	gate_close(&gate);
}

/* Cancelled, or simply not named any more: its processes end either way. */
static void test_running_lease_is_killed(void **state)
{
	struct bots *bots = *state;
	struct fixture *fixture = &bots->worker.server;

	for (int is_dropped = 0; is_dropped < 2; is_dropped++) {
		const char *marker = arena_printf(&fixture->arena, "87%d%d",
						  (int)getpid(), is_dropped);
		struct gate gate;
		Bots__Lease *lease;
		struct act act;

		gate_open(&gate);
		act = act_bash(fixture,
			       arena_printf(&fixture->arena, "sleep %s & %s; sleep %s",
					    marker, gate_words(fixture, &gate), marker));
		lease = bots_offer_action(bots, &act);
		bots_play(bots);
		bots_hand_over(bots, lease);
		gate_wait(&gate);
		assert_lease(bots_hear(bots), lease, BOTS__LEASE_STATE__ACTIVE);
		lease->state = BOTS__LEASE_STATE__CANCELLED;
		bots_answer(bots, is_dropped ? NULL : lease, 0);
		if (is_dropped)
			assert_int_equal(bots_hear(bots)->n_leases, 0);
		else
			assert_lease(bots_hear_end(bots), lease,
				     BOTS__LEASE_STATE__CANCELLED);
		assert_gone(marker);
		bots_let_go(bots);
		gate_close(&gate);
	}
}

/* ---- frame ---------------------------------------------------------------------- */

static int bots_setup(void **state)
{
	const char *address = "grpc://127.0.0.1:0";
	struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 1, .n_workers = 2};
	struct bots *bots = alloc_new(struct bots);
	struct fixture *fixture;

	skip_without_fuse();
	(void)fixture_setup((void **)&fixture);
	bots->worker.server = *fixture;
	free(fixture);
	worker_make_dir(&bots->worker);
	(void)pthread_mutex_init(&bots->mutex, NULL);
	(void)pthread_cond_init(&bots->cond, NULL);
	assert_no_error(rpc_server_new(&config, &bots->server));
	rpc_server_add(bots->server, bots_handlers, ARRAY_SIZE(bots_handlers), bots);
	assert_no_error(rpc_server_start(bots->server));
	worker_launch(&bots->worker, rpc_server_address(bots->server, 0),
		      LIST("--cas", bots->worker.server.address));
	*state = bots;
	return 0;
}

static int bots_teardown(void **state)
{
	struct bots *bots = *state;
	struct worker *worker = alloc_new(struct worker);
	int status;

	bots_rest(bots);
	*worker = bots->worker;
	status = worker_teardown((void **)&worker);
	rpc_server_stop(bots->server, 1000);
	rpc_server_free(bots->server);
	buf_deinit(&bots->heard);
	buf_deinit(&bots->answer);
	(void)pthread_mutex_destroy(&bots->mutex);
	(void)pthread_cond_destroy(&bots->cond);
	free(bots);
	return status;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_86_payload_digest_runs),
		cmocka_unit_test(test_86_payload_action_runs),
		cmocka_unit_test(test_86_other_payloads_are_invalid),
		cmocka_unit_test(test_86_nothing_starts_before_active_is_acknowledged),
		cmocka_unit_test(test_86_completed_is_repeated_until_acknowledged),
		cmocka_unit_test(test_86_result_survives_the_loss_of_the_session),
		cmocka_unit_test(test_lease_cancelled_before_its_start_never_starts),
		cmocka_unit_test(test_running_lease_is_killed),
	};

	return cmocka_run_group_tests(tests, bots_setup, bots_teardown);
}
