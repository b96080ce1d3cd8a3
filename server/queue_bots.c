/*
 * Owns the bots' sessions and their leases, the half of the queue that gives jobs away.
 *
 * A lease begins PENDING: offered, and offered again with every answer until the bot has
 * taken it, since an answer can be lost with its connection. The bot makes it ACTIVE,
 * which is when the job runs, and COMPLETED. A lease that was ACTIVE and is no longer
 * reported, or whose bot is lost, gives its job back. A bot that is lost with it, or
 * forgot it while it goes on taking jobs, died of it: QUEUE_TRIES_MAX such bots, and the
 * job ends FAILED_PRECONDITION, which nobody tries again by itself. A bot that gives it
 * back, or takes no jobs any more, did not. A cancelled lease has lost its job; it stays,
 * and occupies its place, until the bot has been told and no longer reports it as
 * running.
 *
 * Jobs are given only to a poll that waits or a report that came just now, so that what
 * is given reaches the bot at once.
 */
#include "server/queue_impl.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"

static bool queue_session_may_take(const struct queue_session *session,
				   const struct queue_job *job)
{
	return session->takes_jobs && session->n_leases < session->capacity &&
	       strcmp(session->instance, job->instance) == 0 &&
	       queue_props_match(&session->properties, &job->required);
}

/* ---- leases --------------------------------------------------------------------- */

struct queue_lease *queue_lease_add(struct queue *queue, struct queue_session *session,
				    struct queue_job *job, const char *id)
{
	struct queue_lease *lease = alloc_new(struct queue_lease);

	(void)snprintf(lease->id, sizeof(lease->id), "%s", id);
	lease->job = job;
	lease->session = session;
	list_push(&session->leases, &lease->link);
	session->n_leases++;
	list_remove(&job->queue_link);
	if (queue->turn < job->turn)
		queue->turn = job->turn;
	job->state = JOB_OFFERED;
	job->lease = lease;
	queue_row_touch(queue, &job->row);
	/* The next job goes to another that waits. */
	list_remove(&session->link);
	list_push(&queue->sessions, &session->link);
	return lease;
}

static void queue_lease_new(struct queue *queue, struct queue_session *session,
			    struct queue_job *job) SYNC_REQUIRES(&queue->mutex)
{
	char id[QUEUE_LEASE_MAX];

	queue_make_uuid(id);
	(void)queue_lease_add(queue, session, job, id);
}

static void queue_lease_free(struct queue_lease *lease)
{
	list_remove(&lease->link);
	lease->session->n_leases--;
	if (lease->job)
		lease->job->lease = NULL;
	free(lease);
}

static void queue_session_wake(struct queue_session *session)
{
	if (session->poll)
		session->poll->wake(session->poll->ctx);
}

void queue_lease_cancel(struct queue_lease *lease)
{
	lease->job->lease = NULL;
	lease->job = NULL;
	lease->state = LEASE_CANCELLED;
	lease->is_told = false;
	queue_session_wake(lease->session);
}

enum queue_loss { LOSS_OF_BOT, LOSS_BY_TAKEOVER, LOSS_BY_CHOICE };

/* The bot is gone or gave the job up: somebody else's turn, unless it died often. A bot
 * that is replaced while it is well is none that the job could have killed. */
static void queue_lease_give_back(struct queue *queue, struct queue_lease *lease,
				  enum queue_loss loss, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = lease->job;
	bool died_running = loss == LOSS_OF_BOT && lease->state == LEASE_ACTIVE;
	_cleanup_free_ char *bot_id = alloc_string(lease->session->bot_id);

	queue_lease_free(lease);
	if (!job)
		return;
	if (died_running && ++job->n_tries >= QUEUE_TRIES_MAX) {
		queue_job_fail(
			queue, job,
			error_new(ERROR_FAILED_PRECONDITION,
				  "%u workers died while they ran this action, the last "
				  "one \"%.200s\": it is not handed on again",
				  job->n_tries, bot_id),
			now_ns);
		return;
	}
	queue->n_requeued++;
	queue_job_logs_end(queue, job, false);
	buf_clear(&job->partial);
	job->queued_ns = now_ns;
	queue_job_enqueue(queue, job);
	queue_job_changed(queue, job);
	queue_job_offer(queue, job);
}

void queue_job_offer(struct queue *queue, struct queue_job *job)
{
	list_for_each (it, &queue->sessions) {
		struct queue_session *session =
			container_of(it, struct queue_session, link);

		if (!session->poll || !queue_session_may_take(session, job))
			continue;
		queue_lease_new(queue, session, job);
		queue_session_wake(session);
		return;
	}
}

static void queue_session_fill(struct queue *queue, struct queue_session *session)
	SYNC_REQUIRES(&queue->mutex)
{
	list_for_each_safe (it, &queue->queued) {
		struct queue_job *job = container_of(it, struct queue_job, queue_link);

		if (session->n_leases >= session->capacity || !session->takes_jobs)
			return;
		if (queue_session_may_take(session, job))
			queue_lease_new(queue, session, job);
	}
}

/* ---- sessions ------------------------------------------------------------------- */

struct queue_session *queue_session_find(const struct queue *queue, const char *name)
{
	uint64_t hash = queue_name_hash(name);

	for (struct hnode *n = htab_first(&queue->sessions_by_name, hash); n;
	     n = htab_next(n, hash)) {
		struct queue_session *found = container_of(n, struct queue_session, node);

		if (strcmp(found->name, name) == 0)
			return found;
	}
	return NULL;
}

static void queue_session_free(struct queue *queue, struct queue_session *session)
	SYNC_REQUIRES(&queue->mutex)
{
	queue_row_forget(queue, &session->row);
	htab_remove(&queue->sessions_by_name, &session->node);
	list_remove(&session->link);
	queue->n_sessions--;
	queue_props_deinit(&session->properties);
	free(session->instance);
	free(session->bot_id);
	free(session->owner);
	free(session);
}

static void queue_session_end(struct queue *queue, struct queue_session *session,
			      enum queue_loss loss, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	/* A poll that still waits belongs to somebody who lost the session. */
	if (session->poll) {
		session->poll->session = NULL;
		session->poll->wake(session->poll->ctx);
		session->poll = NULL;
	}
	session->takes_jobs = false;
	if (session->is_restored)
		loss = LOSS_BY_TAKEOVER; /* it was the server that was gone */
	queue->epoch++;
	queue->left_ns = now_ns;
	list_for_each_safe (it, &session->leases)
		queue_lease_give_back(queue, container_of(it, struct queue_lease, link),
				      loss, now_ns);
	queue_session_free(queue, session);
}

/* The session of a bot's name in an instance: there is one at most. */
struct queue_session *queue_session_of_bot(const struct queue *queue,
					   const struct queue_bot *bot)
{
	list_for_each (it, &queue->sessions) {
		struct queue_session *found =
			container_of(it, struct queue_session, link);

		if (strcmp(found->bot_id, bot->bot_id) == 0 &&
		    strcmp(found->instance, bot->instance) == 0)
			return found;
	}
	return NULL;
}

struct queue_session *queue_session_add(struct queue *queue, const struct queue_bot *bot,
					const char *name, uint64_t id, int64_t expires_ns)
{
	struct queue_session *session = alloc_new(struct queue_session);

	list_init(&session->leases);
	session->instance = alloc_string(bot->instance);
	session->bot_id = alloc_string(bot->bot_id);
	session->owner = alloc_string(bot->owner);
	session->is_owner_proven = bot->is_owner_proven;
	session->properties = queue_props_copy(bot->properties, bot->n_properties);
	session->capacity = bot->capacity;
	session->expires_ns = expires_ns;
	(void)snprintf(session->name, sizeof(session->name), "%s", name);
	queue->epoch++;
	htab_insert(&queue->sessions_by_name, &session->node,
		    queue_name_hash(session->name));
	list_push(&queue->sessions, &session->link);
	queue->n_sessions++;
	queue_row_init(&session->row, QUEUE_KIND_SESSION, id);
	queue_row_touch(queue, &session->row);
	return session;
}

/* The bot lost its session, not what it does. */
static void queue_session_hand_over(struct queue *queue, struct queue_session *from,
				    struct queue_session *to, const struct queue_bot *bot)
	SYNC_REQUIRES(&queue->mutex)
{
	for (size_t i = 0; i < bot->n_held; i++) {
		struct queue_lease *lease = queue_session_lease(from, bot->held[i]);

		if (!lease || !lease->job)
			continue;
		list_remove(&lease->link);
		from->n_leases--;
		lease->session = to;
		list_push(&to->leases, &lease->link);
		to->n_leases++;
		queue_row_touch(queue, &lease->job->row);
	}
}

struct error *queue_session_open(struct queue *queue, const struct queue_bot *bot,
				 int64_t now_ns, char name_out[static QUEUE_NAME_MAX])
{
	struct queue_session *older, *session;

	queue_lock(queue);
	older = queue_session_of_bot(queue, bot);
	if (older && strcmp(older->owner, bot->owner) != 0) {
		queue_unlock(queue);
		return error_new(ERROR_ALREADY_EXISTS,
				 "a worker called \"%.200s\" is here already, and it is "
				 "somebody else's: choose another name, or wait until "
				 "that one is gone",
				 bot->bot_id);
	}
	if (!older && queue->n_sessions >= QUEUE_SESSIONS_MAX) {
		queue_unlock(queue);
		return error_new(ERROR_RESOURCE_EXHAUSTED, "%d bots are here already",
				 QUEUE_SESSIONS_MAX);
	}
	queue_make_name(bot->instance, NULL, name_out);
	session = queue_session_add(queue, bot, name_out, ++queue->serial,
				    now_ns + QUEUE_SILENCE_NS);
	if (older) {
		memcpy(queue->taken[queue->n_taken++ % QUEUE_TAKEN_MAX], older->name,
		       QUEUE_NAME_MAX);
		queue_session_hand_over(queue, older, session, bot);
		queue_session_end(queue, older,
				  older->poll ? LOSS_BY_TAKEOVER : LOSS_OF_BOT, now_ns);
	}
	queue_unlock(queue);
	return NULL;
}

/* ---- reports -------------------------------------------------------------------- */

struct queue_lease *queue_session_lease(struct queue_session *session, const char *id)
{
	list_for_each (it, &session->leases) {
		struct queue_lease *lease = container_of(it, struct queue_lease, link);

		if (strcmp(lease->id, id) == 0)
			return lease;
	}
	return NULL;
}

static void queue_claim_active(struct queue *queue, struct queue_lease *lease,
			       const struct queue_claim *claim, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = lease->job;

	if (!job)
		return; /* cancelled meanwhile: the answer says so */
	if (lease->state == LEASE_PENDING) {
		lease->state = LEASE_ACTIVE;
		lease->session->must_answer = true;
		job->state = JOB_RUNNING;
		job->started_ns = now_ns;
		queue_row_touch(queue, &job->row);
		queue_job_changed(queue, job);
	}
	if (claim->partial.len > 0 &&
	    !slice_equal(claim->partial, buf_slice(&job->partial))) {
		buf_clear(&job->partial);
		buf_add(&job->partial, claim->partial.data, claim->partial.len);
		queue_row_touch(queue, &job->row);
		queue_job_changed(queue, job);
	}
}

/* False: the session does not hold that lease. */
static bool queue_claim(struct queue *queue, struct queue_session *session,
			const struct queue_claim *claim, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_lease *lease = queue_session_lease(session, claim->id);
	struct queue_job *job;

	if (!lease) { /* dropped long ago, or never its: the answer tells the bot */
		session->must_answer = true;
		return false;
	}
	switch (claim->state) {
	case LEASE_PENDING:
		break;
	case LEASE_ACTIVE:
		queue_claim_active(queue, lease, claim, now_ns);
		break;
	case LEASE_COMPLETED:
		session->must_answer = true;
		job = lease->job;
		queue_lease_free(lease);
		if (job)
			queue_job_complete(queue, job, claim->response, now_ns);
		break;
	case LEASE_CANCELLED:
		session->must_answer = true;
		queue_lease_give_back(queue, lease, LOSS_BY_CHOICE, now_ns);
		break;
	}
	return true;
}

static bool queue_report_names(const struct queue_report *report, const char *id)
{
	for (size_t i = 0; i < report->n_claims; i++) {
		if (strcmp(report->claims[i].id, id) == 0)
			return true;
	}
	return false;
}

/* What the bot does not mention: offers are repeated, runs are lost, ended ones
 * forgotten. */
static void queue_report_silence(struct queue *queue, struct queue_session *session,
				 const struct queue_report *report, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	list_for_each_safe (it, &session->leases) {
		struct queue_lease *lease = container_of(it, struct queue_lease, link);

		if (queue_report_names(report, lease->id))
			continue;
		switch (lease->state) {
		case LEASE_PENDING:
			lease->is_told = false;
			if (!session->takes_jobs)
				queue_lease_give_back(queue, lease, LOSS_BY_CHOICE,
						      now_ns);
			break;
		case LEASE_ACTIVE:
		case LEASE_COMPLETED:
		case LEASE_CANCELLED:
			queue_lease_give_back(queue, lease,
					      report->takes_jobs && !session->is_restored
						      ? LOSS_OF_BOT
						      : LOSS_BY_CHOICE,
					      now_ns);
			break;
		}
	}
}

struct queue_job *queue_leased_job(const struct queue *queue, const char *session_name,
				   const char *id)
{
	struct queue_session *session = queue_session_find(queue, session_name);
	struct queue_lease *lease = session ? queue_session_lease(session, id) : NULL;

	return lease ? lease->job : NULL;
}

bool queue_lease_find(struct queue *queue, const char *session_name, const char *id,
		      struct arena *arena, struct queue_lease_job *out)
{
	const struct queue_job *job;
	bool is_found;

	queue_lock(queue);
	job = queue_leased_job(queue, session_name, id);
	if (job)
		*out = (struct queue_lease_job){
			.instance = arena_string(arena, job->instance),
			.bot_id = arena_string(arena, job->lease->session->bot_id),
			.action_digest = job->digest,
			.wall_ns = job->wall_ns,
			.do_not_cache = job->do_not_cache,
		};
	is_found = job && !arena->is_full;
	queue_unlock(queue);
	return is_found;
}

static struct error *queue_session_unknown(const struct queue *queue, const char *name)
{
	for (size_t i = 0; i < QUEUE_TAKEN_MAX; i++) {
		if (name[0] && strcmp(queue->taken[i], name) == 0)
			return error_new(ERROR_ALREADY_EXISTS,
					 "another worker of the same name took over bot "
					 "session \"%.320s\"",
					 name);
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "bot session \"%.320s\" is unknown: it is over", name);
}

struct error *queue_session_check(struct queue *queue, const char *name)
{
	struct error *err;

	queue_lock(queue);
	err = queue_session_find(queue, name) ? NULL : queue_session_unknown(queue, name);
	queue_unlock(queue);
	return err;
}

bool queue_session_is_of(struct queue *queue, const char *name, const char *owner)
{
	struct queue_session *session;
	bool is_of;

	queue_lock(queue);
	session = queue_session_find(queue, name);
	is_of = !session || !session->is_owner_proven ||
		strcmp(session->owner, owner) == 0;
	queue_unlock(queue);
	return is_of;
}

struct error *queue_poll_begin(struct queue *queue, const char *name,
			       const struct queue_report *report, struct queue_poll *poll,
			       int64_t now_ns, size_t *n_strange_out)
{
	struct queue_session *session;
	size_t n_strange = 0;

	queue_lock(queue);
	session = queue_session_find(queue, name);
	if (!session) {
		struct error *err = queue_session_unknown(queue, name);

		queue_unlock(queue);
		return err;
	}
	if (session->poll) {
		session->poll->is_superseded = true;
		session->poll->wake(session->poll->ctx);
	}
	poll->session = session;
	poll->is_superseded = false;
	session->poll = NULL; /* nothing is given to it before its report is taken in */
	session->takes_jobs = report->takes_jobs;
	session->must_answer = report->is_last;
	for (size_t i = 0; i < report->n_claims; i++)
		n_strange += !queue_claim(queue, session, &report->claims[i], now_ns);
	queue_report_silence(queue, session, report, now_ns);
	session->is_restored = false;
	session->poll = poll;
	if (!queue->is_stopping)
		queue_session_fill(queue, session);
	queue_unlock(queue);
	*n_strange_out = n_strange;
	return NULL;
}

/* The lease for the bot, with its action where that fits. */
static struct queue_lease_told queue_lease_tell(struct queue_lease *lease, bool has_room,
						struct arena *arena)
{
	struct queue_lease_told told = {.id = arena_string(arena, lease->id),
					.state = lease->state};
	uint8_t *action = NULL;

	lease->is_told = true;
	if (!lease->job)
		return told;
	told.action_digest = lease->job->digest;
	for (size_t i = 0; lease->job->logs && i < QUEUE_LOGS; i++)
		told.logs[i] = arena_string(arena, lease->job->logs->write_names[i]);
	if (has_room)
		action = arena_memdup(arena, lease->job->action.data,
				      lease->job->action.len);
	if (action)
		told.action = (struct slice){action, lease->job->action.len};
	return told;
}

/*
 * All leases; offers whose actions are too many bytes for one answer wait for the next,
 * and what a bot has taken it need not be told again.
 */
static size_t queue_session_tell(struct queue_session *session, struct arena *arena,
				 struct queue_lease_told **leases_out)
{
	struct queue_lease_told *list =
		arena_array(arena, session->n_leases, sizeof(*list));
	size_t n = 0, n_bytes = 0;

	*leases_out = list;
	if (!list)
		return 0;
	list_for_each (it, &session->leases) {
		struct queue_lease *lease = container_of(it, struct queue_lease, link);
		size_t len = lease->job ? lease->job->action.len : 0;
		bool has_room = n_bytes == 0 || n_bytes + len <= QUEUE_TELL_BYTES;

		if (lease->state == LEASE_PENDING && !has_room)
			continue;
		list[n++] = queue_lease_tell(lease, has_room, arena);
		n_bytes += has_room ? len : 0;
	}
	return n;
}

static bool queue_session_has_news(const struct queue_session *session)
{
	list_for_each (it, &session->leases) {
		const struct queue_lease *lease =
			container_of(it, struct queue_lease, link);

		if (!lease->is_told && lease->state != LEASE_ACTIVE)
			return true;
	}
	return session->must_answer;
}

bool queue_poll_answer(struct queue *queue, struct queue_poll *poll, bool is_due,
		       struct arena *arena, struct queue_lease_told **leases_out,
		       size_t *n_out)
{
	struct queue_session *session;
	bool has_answer;

	queue_lock(queue);
	session = poll->session;
	*n_out = 0;
	if (!session || poll->is_superseded) {
		has_answer = true; /* nobody waits for this one any more */
	} else {
		has_answer =
			is_due || queue->is_stopping || queue_session_has_news(session);
		if (has_answer) {
			*n_out = queue_session_tell(session, arena, leases_out);
			session->must_answer = false;
		}
	}
	queue_unlock(queue);
	return has_answer;
}

void queue_poll_end(struct queue *queue, struct queue_poll *poll, bool is_broken,
		    int64_t now_ns)
{
	struct queue_session *session;

	queue_lock(queue);
	session = poll->session;
	if (session && session->poll == poll) {
		session->poll = NULL;
		session->expires_ns =
			now_ns + (is_broken ? QUEUE_BROKEN_NS : QUEUE_SILENCE_NS);
	}
	poll->session = NULL;
	queue_unlock(queue);
}

/* ---- as a whole ----------------------------------------------------------------- */

static void queue_limit_run(struct queue *queue, struct queue_lease *lease,
			    int64_t now_ns) SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = lease->job;

	if (!job || job->state != JOB_RUNNING ||
	    now_ns - job->started_ns < 2 * job->limit_ns + QUEUE_SLACK_NS)
		return;
	queue_lease_cancel(lease);
	queue_job_fail(queue, job,
		       error_new(ERROR_DEADLINE_EXCEEDED,
				 "the worker \"%s\" did not end the action in time",
				 lease->session->bot_id),
		       now_ns);
}

void queue_bots_tick(struct queue *queue, int64_t now_ns)
{
	list_for_each_safe (it, &queue->sessions) {
		struct queue_session *session =
			container_of(it, struct queue_session, link);

		if (!session->poll && now_ns >= session->expires_ns) {
			queue_session_end(queue, session, LOSS_OF_BOT, now_ns);
			continue;
		}
		list_for_each (l, &session->leases)
			queue_limit_run(queue, container_of(l, struct queue_lease, link),
					now_ns);
	}
}

void queue_bots_stop(struct queue *queue)
{
	list_for_each (it, &queue->sessions)
		queue_session_wake(container_of(it, struct queue_session, link));
}

void queue_bots_free(struct queue *queue)
{
	list_for_each_safe (it, &queue->sessions) {
		struct queue_session *session =
			container_of(it, struct queue_session, link);

		require(!session->poll);
		list_for_each_safe (l, &session->leases)
			queue_lease_free(container_of(l, struct queue_lease, link));
		queue_session_free(queue, session);
	}
}
