/*
 * Owns the peers and the workers. A peer lives as long as one of its calls does.
 *
 * Workers are of two lanes. Long calls (those that moved many bytes, that took a step
 * with RPC_AGAIN, or are RPC_LONG) run on threads of a lower priority, so that a short
 * step does not wait for a processor behind them; by how much it is lower is a bargain,
 * as they hold the store's and the queue's locks for moments, and share the machine with
 * what a worker here may run.
 *
 * What must stay true: a peer is in a lane's ring exactly while it has a step there that
 * may run now; a call is in at most one of its peer's lists of those that wait for their
 * message and of those that wait to send, and not in any after peer_leave(). A call that
 * is taken out of one to be told so has a reference for the telling, and belongs to the
 * teller: it may leave meanwhile, so the list of those to be told is linked by a link of
 * its own.
 */
#include "lib/rpc/peer.h"

#include <grpc/support/alloc.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"
#include "lib/base/sync.h"
#include "lib/rpc/incoming.h"

enum peer_lane { LANE_SHORT, LANE_LONG, LANES };

/* What a peer has to run in one lane. */
struct peer_turns {
	struct rpc_peer *peer;
	struct list ready; /* tasks of calls, in order */
	struct list ring;  /* in the lane's */
	unsigned int n_ready, n_running;
};

struct rpc_peer {
	struct hnode node; /* by name */
	struct peers *peers;
	char *name;
	size_t refs;
	struct peer_turns turns[LANES];
	struct list heavy; /* tasks of large calls that have not begun */
	size_t held, answers, sending;
	size_t expected;     /* of its next message */
	bool has_sent;       /* it did send one */
	struct list waiting; /* calls whose message is not asked for yet */
	struct list stalled; /* in peers->stalled: something waits for all to hold less */
	struct list laden;   /* in peers->laden: a large call waits for its turn */
	struct list senders; /* calls that wait to send */
};

struct peer_runner {
	struct pool_task task;
	struct peers *peers;
	enum peer_lane lane;
};

struct peers_lane {
	struct list ring;            /* turns with a step that may run, next first */
	struct list idle;            /* runners that are not in the pool */
	struct peer_runner *runners; /* constant, as is the pool */
	struct pool *pool;
};

struct peers {
	unsigned int n_workers; /* of each lane */
	/* Guards the peers, and what a call has of its peer, too: functions that touch
	 * them are given peers, so that the compiler sees whose mutex it is. */
	struct sync_mutex mutex;
	struct htab by_name SYNC_GUARDED_BY(&mutex);
	struct peers_lane lanes[LANES];
	struct list stalled SYNC_GUARDED_BY(&mutex); /* peers with a call that waits */
	/* Peers with a large call that may not begin yet. */
	struct list laden SYNC_GUARDED_BY(&mutex);
	unsigned int n_heavy SYNC_GUARDED_BY(&mutex);
	size_t held SYNC_GUARDED_BY(&mutex);
	size_t sending SYNC_GUARDED_BY(&mutex);
};

static void peers_lock(struct peers *peers) SYNC_ACQUIRES(&peers->mutex)
{
	sync_lock(&peers->mutex);
}

static void peers_unlock(struct peers *peers) SYNC_RELEASES(&peers->mutex)
{
	sync_unlock(&peers->mutex);
}

/* ---- steps ---------------------------------------------------------------------- */

static bool peers_may_begin_heavy(const struct peers *peers) SYNC_REQUIRES(&peers->mutex)
{
	return peers->n_heavy == 0 || peers->n_heavy + 1 < peers->n_workers;
}

/* What has begun and goes on as a long call holds memory: where several of a peer's wait
 * to go on, no others of it begin. */
static bool peer_may_begin(const struct peers *peers, const struct rpc_peer *peer)
	SYNC_REQUIRES(&peers->mutex)
{
	return peer->turns[LANE_LONG].n_ready < peers->n_workers;
}

/* One worker is left to others, always. */
static bool peer_may_run(const struct peers *peers, const struct rpc_peer *peer,
			 enum peer_lane lane) SYNC_REQUIRES(&peers->mutex)
{
	const struct peer_turns *turns = &peer->turns[lane];
	bool has_step = !list_is_empty(&turns->ready) ||
			(lane == LANE_LONG && !list_is_empty(&peer->heavy) &&
			 peers_may_begin_heavy(peers));

	return has_step && peer->answers < PEER_ANSWERS_MAX &&
	       (lane == LANE_LONG || peer_may_begin(peers, peer)) &&
	       (turns->n_running == 0 || turns->n_running + 1 < peers->n_workers);
}

static void peer_enter_ring(struct peers *peers, struct rpc_peer *peer, enum peer_lane at)
	SYNC_REQUIRES(&peers->mutex)
{
	struct peers_lane *lane = &peers->lanes[at];
	struct peer_turns *turns = &peer->turns[at];
	struct list *idle;

	if (!list_is_empty(&peer->heavy) && list_is_empty(&peer->laden))
		list_push(&peers->laden, &peer->laden);
	if (!list_is_empty(&turns->ring) || !peer_may_run(peers, peer, at))
		return;
	list_push(&lane->ring, &turns->ring);
	idle = list_pop(&lane->idle);
	if (idle)
		pool_push(lane->pool, container_of(idle, struct pool_task, link));
}

static void peer_unref(struct peers *peers, struct rpc_peer *peer)
	SYNC_REQUIRES(&peers->mutex)
{
	if (--peer->refs > 0)
		return;
	htab_remove(&peers->by_name, &peer->node);
	list_remove(&peer->stalled);
	list_remove(&peer->laden);
	free(peer->name);
	free(peer);
}

/* What has begun goes on before what is large begins. */
static struct pool_task *peer_next(struct peers *peers, struct rpc_peer *peer,
				   enum peer_lane lane) SYNC_REQUIRES(&peers->mutex)
{
	struct list *node = list_pop(&peer->turns[lane].ready);

	if (node) {
		peer->turns[lane].n_ready--;
		return container_of(node, struct pool_task, link);
	}
	node = list_pop(&peer->heavy);
	peers->n_heavy++;
	container_of(node, struct rpc_in, task.link)->is_heavy = true;
	/* after the others that wait for such a turn, or no longer among them */
	list_remove(&peer->laden);
	if (!list_is_empty(&peer->heavy))
		list_push(&peers->laden, &peer->laden);
	return container_of(node, struct pool_task, link);
}

/* A step that runs now, without the lock; the peer stays until it has ended. */
static struct pool_task *peers_begin(struct peers *peers, struct peer_turns *turns,
				     enum peer_lane lane) SYNC_REQUIRES(&peers->mutex)
{
	struct pool_task *task = peer_next(peers, turns->peer, lane);

	turns->n_running++;
	turns->peer->refs++;
	for (enum peer_lane other = 0; other < LANES; other++)
		peer_enter_ring(peers, turns->peer, other);
	return task;
}

static void peers_end(struct peers *peers, struct peer_turns *turns, enum peer_lane lane)
	SYNC_REQUIRES(&peers->mutex)
{
	turns->n_running--;
	peer_enter_ring(peers, turns->peer, lane);
	peer_unref(peers, turns->peer);
}

static void peers_runner(struct pool_task *task)
{
	struct peer_runner *runner = container_of(task, struct peer_runner, task);
	struct peers *peers = runner->peers;
	struct peers_lane *lane = &peers->lanes[runner->lane];
	struct list *node;

	peers_lock(peers);
	while ((node = list_pop(&lane->ring))) {
		struct peer_turns *turns = container_of(node, struct peer_turns, ring);

		struct pool_task *step;

		if (!peer_may_run(peers, turns->peer, runner->lane))
			continue;
		step = peers_begin(peers, turns, runner->lane);
		peers_unlock(peers);
		step->run(step);
		peers_lock(peers);
		peers_end(peers, turns, runner->lane);
	}
	list_push(&lane->idle, &task->link);
	peers_unlock(peers);
}

void peer_run(struct rpc_in *in, bool is_first)
{
	enum peer_lane lane = atomic_load(&in->is_long) ? LANE_LONG : LANE_SHORT;
	struct rpc_peer *peer = in->peer;
	struct peers *peers = peer->peers;
	struct peer_turns *turns = &peer->turns[lane];

	peers_lock(peers);
	if (in->has_many && !in->is_heavy) {
		list_push(&peer->heavy, &in->task.link);
	} else {
		turns->n_ready++;
		list_insert_before(is_first ? turns->ready.next : &turns->ready,
				   &in->task.link);
	}
	peer_enter_ring(peers, peer, lane);
	peers_unlock(peers);
}

/* ---- what is held --------------------------------------------------------------- */

static bool peer_has_room(const struct peers *peers, const struct rpc_peer *peer,
			  size_t reserve) SYNC_REQUIRES(&peers->mutex)
{
	bool is_small = !peer->has_sent || peer->expected <= PEER_HEAVY;

	if (peer->held < PEER_HELD_LEAST && is_small)
		return true;
	return peer->held + reserve <= PEER_HELD_MAX &&
	       peers->held + reserve <= PEER_HELD_TOTAL;
}

static void peer_change_held(struct peers *peers, struct rpc_in *in, size_t more)
	SYNC_REQUIRES(&peers->mutex)
{
	in->peer->held += more; /* modulo: it may be less, too */
	peers->held += more;
	in->held += more;
}

/* Moves calls of the peer that may go on now to admitted, each with a reference. */
static void peer_admit_waiting(struct peers *peers, struct rpc_peer *peer,
			       struct list *admitted) SYNC_REQUIRES(&peers->mutex)
{
	while (!list_is_empty(&peer->waiting)) {
		struct rpc_in *in =
			container_of(peer->waiting.next, struct rpc_in, wait_link);

		if (!peer_has_room(peers, peer, in->reserve))
			return;
		list_remove(&in->wait_link);
		list_push(admitted, &in->told_link);
		rpc_in_ref(in);
		peer_change_held(peers, in, in->reserve);
	}
	list_remove(&peer->stalled);
}

/* Those of the peer itself, and, as all hold less now, of the others. */
static void peer_admit_more(struct peers *peers, struct rpc_peer *peer,
			    struct list *admitted) SYNC_REQUIRES(&peers->mutex)
{
	peer_admit_waiting(peers, peer, admitted);
	list_for_each_safe (it, &peers->stalled)
		peer_admit_waiting(peers, container_of(it, struct rpc_peer, stalled),
				   admitted);
}

/* Without the lock, since it may come back here. */
static void peer_tell_admitted(struct list *admitted)
{
	struct list *node;

	while ((node = list_pop(admitted))) {
		struct rpc_in *in = container_of(node, struct rpc_in, told_link);

		rpc_in_start_read(in);
		rpc_in_unref(in);
	}
}

bool peer_admit(struct rpc_in *in)
{
	struct rpc_peer *peer = in->peer;
	struct peers *peers = peer->peers;
	bool has_room;

	peers_lock(peers);
	/* A stream's next piece may be long in coming: it counts once it is here. */
	in->reserve = rpc_in_streams_requests(in) ? 0 : peer->expected;
	has_room =
		list_is_empty(&peer->waiting) && peer_has_room(peers, peer, in->reserve);
	if (has_room) {
		peer_change_held(peers, in, in->reserve);
	} else {
		list_push(&peer->waiting, &in->wait_link);
		if (list_is_empty(&peer->stalled))
			list_push(&peers->stalled, &peer->stalled);
	}
	peers_unlock(peers);
	return has_room;
}

/* Large ones are expected at once, small ones only after several. */
static void peer_learn(struct rpc_peer *peer, size_t len)
{
	if (len > peer->expected || !peer->has_sent)
		peer->expected = len;
	else
		peer->expected -= (peer->expected - len) / 4;
	peer->has_sent = true;
}

void peer_received(struct rpc_in *in, size_t len)
{
	struct list admitted = LIST_INIT(admitted);
	struct peers *peers = in->peer->peers;

	peers_lock(peers);
	if (len > 0)
		peer_learn(in->peer, len);
	peer_change_held(peers, in, len - in->reserve);
	in->reserve = 0;
	peer_admit_more(peers, in->peer, &admitted);
	peers_unlock(peers);
	peer_tell_admitted(&admitted);
}

void peer_hold(struct rpc_in *in, ptrdiff_t more)
{
	struct list admitted = LIST_INIT(admitted);
	struct peers *peers = in->peer->peers;

	peers_lock(peers);
	peer_change_held(peers, in, (size_t)more);
	if (more < 0)
		peer_admit_more(peers, in->peer, &admitted);
	peers_unlock(peers);
	peer_tell_admitted(&admitted);
}

void peer_answer(struct rpc_in *in, size_t len)
{
	peers_lock(in->peer->peers);
	in->answer += len;
	in->peer->answers += len;
	peers_unlock(in->peer->peers);
}

/* ---- what is sent --------------------------------------------------------------- */

bool peer_may_send(struct rpc_in *in)
{
	struct rpc_peer *peer = in->peer;
	struct peers *peers = peer->peers;
	bool has_room;

	peers_lock(peers);
	has_room = peer->sending < PEER_SEND_MAX;
	if (!has_room && list_is_empty(&in->send_link))
		list_push(&peer->senders, &in->send_link);
	peers_unlock(peers);
	return has_room;
}

void peer_sends(struct rpc_in *in, size_t len)
{
	struct peers *peers = in->peer->peers;

	peers_lock(peers);
	in->sending_len = len;
	in->peer->sending += len;
	peers->sending += len;
	peers_unlock(peers);
}

/* A call that may send now, with a reference; NULL: none. */
static struct rpc_in *peer_next_sender(struct peers *peers, struct rpc_peer *peer)
	SYNC_REQUIRES(&peers->mutex)
{
	struct list *node =
		peer->sending < PEER_SEND_MAX ? list_pop(&peer->senders) : NULL;

	(void)peers; /* whose mutex is held */
	return node ? rpc_in_ref(container_of(node, struct rpc_in, send_link)) : NULL;
}

/* Without the lock; consumes the reference. */
static void peer_tell_sender(struct rpc_in *in)
{
	if (in)
		rpc_wake(in);
	rpc_in_unref(in);
}

void peer_sent(struct rpc_in *in)
{
	struct rpc_peer *peer = in->peer;
	struct peers *peers = peer->peers;
	struct rpc_in *next;

	peers_lock(peers);
	peer->sending -= in->sending_len;
	peers->sending -= in->sending_len;
	in->sending_len = 0;
	next = peer_next_sender(peers, peer);
	peers_unlock(peers);
	peer_tell_sender(next);
}

size_t peer_chunk(const struct rpc_peer *peer)
{
	struct peers *peers = peer->peers;
	bool is_small;

	peers_lock(peers);
	is_small = peers->sending >= PEER_SEND_TOTAL;
	peers_unlock(peers);
	return is_small ? PEER_CHUNK_SMALL : RPC_CHUNK;
}

/* ---- peers ---------------------------------------------------------------------- */

void peer_leave(struct rpc_in *in)
{
	struct list admitted = LIST_INIT(admitted);
	struct peers *peers = in->peer->peers;
	struct rpc_in *next;

	peers_lock(peers);
	list_remove(&in->wait_link);
	list_remove(&in->send_link);
	next = peer_next_sender(peers,
				in->peer); /* it may have been told, and did not send */
	peer_change_held(peers, in, -in->held);
	in->reserve = 0;
	peer_admit_more(peers, in->peer, &admitted);
	if (in->is_heavy) {
		in->is_heavy = false;
		peers->n_heavy--;
		list_for_each (it, &peers->laden) {
			struct rpc_peer *peer = container_of(it, struct rpc_peer, laden);

			peer_enter_ring(peers, peer, LANE_LONG);
			if (!list_is_empty(&peer->turns[LANE_LONG].ring))
				break;
		}
	}
	peers_unlock(peers);
	peer_tell_admitted(&admitted);
	peer_tell_sender(next);
}

static void peer_init_turns(struct rpc_peer *peer)
{
	for (enum peer_lane lane = 0; lane < LANES; lane++) {
		peer->turns[lane].peer = peer;
		list_init(&peer->turns[lane].ready);
		list_init(&peer->turns[lane].ring);
	}
}

struct rpc_peer *peer_get(struct peers *peers, grpc_call *call)
{
	char *name = grpc_call_get_peer(call);
	uint64_t hash = slice_hash(slice_of(name));
	struct rpc_peer *peer = NULL;

	peers_lock(peers);
	for (struct hnode *n = htab_first(&peers->by_name, hash); n && !peer;
	     n = htab_next(n, hash)) {
		struct rpc_peer *found = container_of(n, struct rpc_peer, node);

		if (slice_is(slice_of(found->name), name))
			peer = found;
	}
	if (!peer) {
		peer = alloc_new(struct rpc_peer);
		peer->peers = peers;
		peer->name = alloc_string(name);
		peer->expected = PEER_RESERVE;
		peer_init_turns(peer);
		list_init(&peer->heavy);
		list_init(&peer->laden);
		list_init(&peer->waiting);
		list_init(&peer->stalled);
		list_init(&peer->senders);
		htab_insert(&peers->by_name, &peer->node, hash);
	}
	peer->refs++;
	peers_unlock(peers);
	gpr_free(name);
	return peer;
}

void peer_release(struct rpc_in *in)
{
	struct list admitted = LIST_INIT(admitted);
	struct rpc_peer *peer = take(in->peer);
	struct peers *peers = peer->peers;

	peers_lock(peers);
	peer->held -= in->held;
	peers->held -= in->held;
	peer->answers -= in->answer;
	peer_admit_more(peers, peer, &admitted);
	for (enum peer_lane lane = 0; lane < LANES; lane++)
		peer_enter_ring(peers, peer, lane);
	peer_unref(peers, peer);
	peers_unlock(peers);
	peer_tell_admitted(&admitted);
}

const char *peer_name(const struct rpc_peer *peer)
{
	return peer->name;
}

static struct error *peers_init_lane(struct peers *peers, enum peer_lane at)
{
	struct peers_lane *lane = &peers->lanes[at];

	lane->runners = alloc_array(peers->n_workers, sizeof(*lane->runners));
	for (unsigned int i = 0; i < peers->n_workers; i++) {
		lane->runners[i] = (struct peer_runner){
			.task.run = peers_runner, .peers = peers, .lane = at};
		list_push(&lane->idle, &lane->runners[i].task.link);
	}
	return pool_new_low(at == LANE_LONG ? "rpc-long" : "rpc-worker", peers->n_workers,
			    at == LANE_LONG ? PEER_LONG_NICE : 0, &lane->pool);
}

struct error *peers_new(unsigned int n_workers, struct peers **out)
{
	struct peers *peers = alloc_new(struct peers);
	struct error *err = NULL;

	sync_mutex_init(&peers->mutex);
	sync_mutex_rank(&peers->mutex, 6);
	sync_alone(&peers->mutex);
	list_init(&peers->stalled);
	list_init(&peers->laden);
	peers->n_workers = n_workers;
	for (enum peer_lane lane = 0; lane < LANES; lane++) {
		list_init(&peers->lanes[lane].ring);
		list_init(&peers->lanes[lane].idle);
	}
	for (enum peer_lane lane = 0; lane < LANES && !err; lane++)
		err = peers_init_lane(peers, lane);
	if (err)
		peers_free(peers);
	else
		*out = peers;
	return err;
}

void peers_stop(struct peers *peers)
{
	for (enum peer_lane lane = 0; lane < LANES; lane++)
		peers->lanes[lane].pool = pool_free(peers->lanes[lane].pool);
}

void *peers_free(struct peers *peers)
{
	if (!peers)
		return NULL;
	peers_stop(peers);
	sync_alone(&peers->mutex);
	htab_deinit(&peers->by_name);
	sync_mutex_deinit(&peers->mutex);
	for (enum peer_lane lane = 0; lane < LANES; lane++)
		free(peers->lanes[lane].runners);
	free(peers);
	return NULL;
}
