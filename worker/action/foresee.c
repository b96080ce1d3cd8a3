/*
 * Owns the thread that thinks, what it is told, and the jobs it thinks of.
 *
 * Whoever has something to tell puts an event into its job's queue; jobs take turns
 * (foresee_queue.h), of so much thinking each (foresight_go_on()), so that none waits
 * long for another's; after each round wishes are granted: as many bytes as fill the way,
 * fewer where somebody waits for it. A job goes when its owner let go of it, its end was
 * seen and its last wish has come back.
 *
 * Threads: jobs' owners and the fetcher's put events; the mutex guards the queues and the
 * totals. The thread alone touches all else of a job once it began.
 */
#include "worker/action/foresee.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/latch.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "predict/room.h"
#include "worker/action/foresee_queue.h"
#include "worker/action/foresee_world.h"
#include "worker/action/profile_share.h"

#define LOG_MODULE "foresee"
#include "lib/base/log.h"

#define FORESEE_LOOK_MS     2   /* between two looks for Directories that came … */
#define FORESEE_IDLE_MS     100 /* … and where none came for a while */
#define FORESEE_AT_ONCE     512
#define FORESEE_LOOK_SHARE  4 /* a job's looks take one in so many of its time at most */
#define FORESEE_PATIENCE_NS NS_PER_S /* for what came of a job */
/* Of the cache, at most one byte in so many is what nobody has asked for yet. */
#define FORESEE_CACHE_SHARE 8

enum foresee_kind {
	FORESEE_BEGIN,
	FORESEE_LOADED,
	FORESEE_OPENED,
	FORESEE_ARRIVED,
	FORESEE_TOLD, /* a profile of another worker, or that there is none */
	FORESEE_END,
};

struct foresee_event {
	struct foresee_note note;
	enum foresee_kind kind;
	struct foresee_job *job;
	struct digest digest; /* arrived */
	bool flag;            /* opened: was here; arrived: is here; end: has run */
	bool is_large;        /* arrived: it went by a stream … */
	bool is_needed;       /* … or was the command's own */
	enum profile_kind profile_kind; /* told */
	struct profile profile;         /* told; owned */
	char path[];                    /* opened */
};

enum foresee_state {
	FORESEE_THINKING,
	FORESEE_ENDED, /* its end was seen: it wishes for nothing */
};

struct foresee_job {
	struct list link;           /* in foresee->jobs */
	struct foresee_queue queue; /* foresee->mutex guards it */
	struct foresee *foresee;
	struct foresee_world world;
	atomic_bool is_over; /* foresee_end() was called */
	enum foresee_state state;
	struct foresight *foresight;
	struct view_root *root; /* held: its account pays for the wishes */
	struct digest root_digest;
	struct digest keys[PROFILE_KINDS];
	bool has_tool;            /* the key of the tool is known */
	enum profile_kind finest; /* profile that was there; PROFILE_KINDS: none */
	bool is_cold;             /* something of its inputs is not here */
	unsigned int
		unknown_mask;  /* 1 << kind: profiles that others could be asked for */
	uint64_t looked;       /* how many Directories there were at the last look … */
	int64_t look_began_ns; /* … which takes some turns; 0: none is going on */
	int64_t look_at_ns;    /* the next look, not before */
	size_t n_wishes;       /* under way, profiles that were asked for, too */
	int64_t budget;        /* bytes that may still be wished for */
	struct foresight_summary summary;
	struct latch end;
	atomic_uint refs; /* its owner's and the thread's */
};

struct foresee {
	struct fetch *fetch;
	struct dircache *dirs;
	struct view *view;
	struct store *store;
	struct profile_db *profiles; /* NULL: nothing is learned */
	const char *instance;
	struct profile_share *share; /* NULL: nothing is shared */
	pthread_t thread;
	bool has_thread;

	struct sync_mutex mutex;
	struct sync_cond cond;
	struct foresee_desk desk SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	struct foresight_summary totals SYNC_GUARDED_BY(&mutex);

	/* the thread's */
	struct list jobs; /* that have not ended */
	size_t n_jobs;
	size_t n_wishes;           /* of all jobs */
	_Atomic int64_t in_flight; /* bytes of wishes that go in batches */
	_Atomic int n_large;       /* wishes that go by streams */
	int64_t look_ms;
	struct foresee_blobs blobs;
};

/* Events */

static void foresee_tell(struct foresee *foresee, struct foresee_event *event)
{
	bool is_taken;

	sync_lock(&foresee->mutex);
	is_taken = foresee_queue_push(&foresee->desk, &event->job->queue, &event->note);
	sync_broadcast(&foresee->cond);
	sync_unlock(&foresee->mutex);
	if (!is_taken)
		free(event);
}

static struct foresee_event *foresee_event(enum foresee_kind kind,
					   struct foresee_job *job, bool flag,
					   const char *path)
{
	size_t len = strlen(path);
	struct foresee_event *event = alloc_zero(sizeof(*event) + len + 1);

	event->kind = kind;
	event->job = job;
	event->flag = flag;
	memcpy(event->path, path, len + 1);
	list_init(&event->note.link);
	event->note.worth = FORESEE_KEPT;
	if (kind == FORESEE_OPENED)
		event->note.worth = flag ? FORESEE_HAD : FORESEE_MISSED;
	event->note.bytes = sizeof(*event) + len + 1;
	return event;
}

static void foresee_job_unref(struct foresee_job *job)
{
	if (atomic_fetch_sub(&job->refs, 1) > 1)
		return;
	(void)foresight_free(job->foresight);
	(void)view_root_put(job->root);
	latch_deinit(&job->end);
	free(job);
}

struct foresee_job *foresee_begin(struct foresee *foresee,
				  const struct foresee_action *action)
{
	struct foresee_job *job = alloc_new(struct foresee_job);

	job->foresee = foresee;
	job->root_digest = action->action.root;
	job->root = view_root_get(foresee->view, &action->action.root);
	foresee_world_init(&job->world, &foresee->blobs);
	job->looked = UINT64_MAX;
	job->finest = PROFILE_KINDS;
	foresee_queue_init(&job->queue);
	job->foresight = foresight_new(&job->world.world, &action->action);
	job->world.foresight = job->foresight;
	profile_key_command(&action->command, &job->keys[PROFILE_COMMAND]);
	profile_key_shape(action->action.arguments, action->action.n_arguments,
			  &job->keys[PROFILE_SHAPE]);
	latch_init(&job->end, 1);
	atomic_init(&job->refs, 2);
	list_init(&job->link);
	foresee_tell(foresee, foresee_event(FORESEE_BEGIN, job, false, ""));
	return job;
}

void foresee_loaded(struct foresee_job *job)
{
	foresee_tell(job->foresee, foresee_event(FORESEE_LOADED, job, false, ""));
}

void foresee_opened(struct foresee_job *job, const char *path, bool was_here)
{
	foresee_tell(job->foresee, foresee_event(FORESEE_OPENED, job, was_here, path));
}

void foresee_end(struct foresee_job *job, bool has_run)
{
	atomic_store(&job->is_over, true);
	foresee_tell(job->foresee, foresee_event(FORESEE_END, job, has_run, ""));
	fetch_cancel_wishes(job->foresee->fetch, job);
}

bool foresee_result(struct foresee_job *job, struct foresight_summary *out)
{
	if (!latch_wait_until(&job->end, clock_mono_ns() + FORESEE_PATIENCE_NS))
		return false;
	*out = job->summary;
	return true;
}

void *foresee_job_free(struct foresee_job *job)
{
	if (job)
		foresee_job_unref(job);
	return NULL;
}

/* Learning */

/* What a run of the very same command did says nearly all, and then coarser profiles say
 * nothing: a warm run would fetch what others of its shape read. One of the same shape
 * says most; behind it the tool's says little that is new. */
static void foresee_learn(struct foresee_job *job, enum profile_kind kind,
			  const struct profile *profile)
{
	static const double alone[PROFILE_KINDS] = {1, 0.95, 0.8};
	static const double behind = 0.3;

	if (!profile->n || job->finest == PROFILE_COMMAND)
		return;
	foresight_learn(job->foresight, profile,
			kind < job->finest ? alone[kind] : behind);
	if (kind < job->finest)
		job->finest = kind;
}

struct foresee_asked { /* a profile, from other workers */
	struct foresee_job *job;
	enum profile_kind kind;
};

static void foresee_told(void *ctx, struct profile *profile)
{
	struct foresee_asked *asked = ctx;
	struct foresee_event *event = foresee_event(FORESEE_TOLD, asked->job, false, "");

	event->profile_kind = asked->kind;
	event->profile = *profile;
	*profile = PROFILE_INIT;
	foresee_tell(asked->job->foresee, event);
	free(asked);
}

/* Asks other workers for what this one does not know, once it is seen that something is
 * to be fetched at all. */
static void foresee_ask(struct foresee_job *job)
{
	for (enum profile_kind kind = 0; job->is_cold && kind < PROFILE_KINDS; kind++) {
		struct foresee_asked *asked;

		if (!(job->unknown_mask & 1u << kind) || !job->foresee->share)
			continue;
		job->unknown_mask &= ~(1u << kind);
		asked = alloc_new(struct foresee_asked);
		*asked = (struct foresee_asked){.job = job, .kind = kind};
		job->n_wishes++;
		job->foresee->n_wishes++;
		profile_share_get(job->foresee->share, &job->keys[kind], foresee_told,
				  asked);
	}
}

/* Those that are this worker's own stand beside other instances'. */
static void foresee_own_keys(const struct foresee_job *job,
			     struct digest keys[PROFILE_KINDS])
{
	for (size_t i = 0; i < PROFILE_KINDS; i++) {
		keys[i] = job->keys[i];
		profile_key_within(job->foresee->instance, &keys[i]);
	}
}

static void foresee_recall(struct foresee_job *job, enum profile_kind first, size_t n)
{
	struct foresee *foresee = job->foresee;
	struct profile profiles[PROFILE_KINDS];
	struct digest own[PROFILE_KINDS];

	if (!foresee->profiles)
		return;
	foresee_own_keys(job, own);
	profile_db_get(foresee->profiles, &own[first], n, profiles);
	for (size_t i = 0; i < n; i++) {
		enum profile_kind kind = first + (enum profile_kind)i;

		if (!profiles[i].n && kind < job->finest)
			job->unknown_mask |= 1u << kind;
		foresee_learn(job, kind, &profiles[i]);
		profile_deinit(&profiles[i]);
	}
	foresee_ask(job);
}

/* What another worker knows is from now on known here, too, unless it was learned here
 * meanwhile. */
static void foresee_do_told(struct foresee_job *job, struct foresee_event *event)
{
	struct foresee *foresee = job->foresee;
	struct digest own[PROFILE_KINDS];
	const struct digest *key = &own[event->profile_kind];
	struct profile known;

	if (!event->profile.n)
		return;
	foresee_own_keys(job, own);
	profile_doubt(&event->profile);
	if (job->state == FORESEE_THINKING)
		foresee_learn(job, event->profile_kind, &event->profile);
	profile_db_get(foresee->profiles, key, 1, &known);
	if (!known.n)
		profile_db_put(foresee->profiles, key, &event->profile);
	profile_deinit(&known);
	profile_deinit(&event->profile);
}

/* Once the tool was found. */
static void foresee_recall_tool(struct foresee_job *job)
{
	struct digest tool;

	if (job->has_tool || !foresight_tool(job->foresight, &tool))
		return;
	job->has_tool = true;
	profile_key_tool(&tool, &job->keys[PROFILE_TOOL]);
	if (job->finest == PROFILE_KINDS)
		foresee_recall(job, PROFILE_TOOL, 1);
}

static void foresee_remember(struct foresee_job *job)
{
	struct foresee *foresee = job->foresee;
	size_t n_keys = job->has_tool ? PROFILE_KINDS : PROFILE_TOOL;
	struct profile profiles[PROFILE_KINDS];
	struct digest own[PROFILE_KINDS];
	const struct profile_read *reads;
	size_t n = foresight_reads(job->foresight, &reads);

	if (!foresee->profiles || !n)
		return;
	foresee_own_keys(job, own);
	profile_db_get(foresee->profiles, own, n_keys, profiles);
	for (size_t i = 0; i < n_keys; i++) {
		profile_merge(&profiles[i], reads, n);
		profile_db_put(foresee->profiles, &own[i], &profiles[i]);
		/* the first runs tell most; later ones, now and then */
		if (foresee->share && !(profiles[i].n_runs & (profiles[i].n_runs - 1)))
			profile_share_put(foresee->share, &job->keys[i], &profiles[i]);
		profile_deinit(&profiles[i]);
	}
}

/* Wishes */

/* A wish came back, or will not: on any thread. */
static void foresee_wished(void *ctx, struct error *err)
{
	struct foresee_event *event = ctx;
	struct foresee *foresee = event->job->foresee;

	event->flag = err == NULL;
	if (event->is_needed)
		; /* it never counted */
	else if (event->is_large)
		atomic_fetch_sub(&foresee->n_large, 1);
	else
		atomic_fetch_sub(&foresee->in_flight, event->digest.size);
	log_drop(LOG_DEBUG, err, "a wish is not fulfilled");
	foresee_tell(foresee, event);
}

static struct fetch_wish foresee_grant(struct foresee_job *job,
				       const struct foresight_wish *want, bool is_large)
{
	struct foresee *foresee = job->foresee;
	/* told when it comes back */
	struct foresee_event *wish = foresee_event(FORESEE_ARRIVED, job, false, "");

	wish->digest = want->digest;
	wish->is_large = is_large;
	wish->is_needed = want->is_needed;
	if (!want->is_needed) {
		job->budget -= want->digest.size;
		if (is_large)
			atomic_fetch_add(&foresee->n_large, 1);
		else
			atomic_fetch_add(&foresee->in_flight, want->digest.size);
	}
	job->is_cold = true;
	job->n_wishes++;
	foresee->n_wishes++;
	return (struct fetch_wish){.digest = want->digest,
				   .account = view_root_account(job->root),
				   .owner = job,
				   .done = foresee_wished,
				   .ctx = wish};
}

/* One wish of one job, where the way has room for it. */
static bool foresee_grant_one(struct foresee_job *job, const struct fetch_way *way,
			      struct fetch_wish *wish_out)
{
	struct foresee *foresee = job->foresee;
	const struct room room = {
		.in_flight = atomic_load(&foresee->in_flight),
		.n_large = atomic_load(&foresee->n_large),
		.budget = job->budget,
		.batch_max = (int64_t)remote_batch_max(fetch_remote(foresee->fetch)),
		.rtt_ns = way->rtt_ns,
		.rate = way->rate,
		.window = way->window,
		.demand_waiting = way->demand_waiting};
	struct foresight_way next;
	struct foresight_wish want;

	if (atomic_load(&job->is_over) || !room_way(&room, &next) ||
	    !foresight_next(job->foresight, &next, &want))
		return false;
	*wish_out = foresee_grant(job, &want, want.digest.size > room.batch_max);
	return true;
}

/* Takes turns, so that one job's wishes do not hold up another's. */
static void foresee_grant_all(struct foresee *foresee)
{
	struct fetch_wish wishes[FORESEE_AT_ONCE];
	size_t n = fetch_remote(foresee->fetch) ? 1 : 0;

	while (n) {
		struct fetch_way way;

		n = 0;
		fetch_way(foresee->fetch, &way);
		list_for_each (link, &foresee->jobs) {
			struct foresee_job *job =
				container_of(link, struct foresee_job, link);
			size_t most = n + FORESEE_AT_ONCE / foresee->n_jobs;

			most = most > n ? most : n + 1;
			while (n < most && n < FORESEE_AT_ONCE &&
			       foresee_grant_one(job, &way, &wishes[n]))
				n++;
		}
		fetch_wish(foresee->fetch, wishes, n);
		list_for_each (link, &foresee->jobs)
			foresee_ask(container_of(link, struct foresee_job, link));
	}
}

/* Grants what may be granted now; who tires of it goes on in the next round. */
static void foresee_grant_round(struct foresee *foresee)
{
	foresee_grant_all(foresee);
	sync_lock(&foresee->mutex);
	list_for_each (link, &foresee->jobs) {
		struct foresee_job *job = container_of(link, struct foresee_job, link);

		if (foresight_is_tired(job->foresight))
			foresee_desk_again(&foresee->desk, &job->queue, true);
	}
	sync_unlock(&foresee->mutex);
}

/* What happens */

static void foresee_add(struct foresight_count *to, const struct foresight_count *more)
{
	to->files += more->files;
	to->bytes += more->bytes;
}

static void foresee_add_all(struct foresight_summary *to,
			    const struct foresight_summary *more)
{
	for (size_t i = 0; i < FORESIGHT_SOURCES; i++) {
		foresee_add(&to->useful[i], &more->useful[i]);
		foresee_add(&to->late[i], &more->late[i]);
		foresee_add(&to->wasted[i], &more->wasted[i]);
	}
	foresee_add(&to->missed, &more->missed);
	to->unheard += more->unheard;
}

void foresee_totals(struct foresee *foresee, struct foresight_summary *sum)
{
	sync_lock(&foresee->mutex);
	foresee_add_all(sum, &foresee->totals);
	sync_unlock(&foresee->mutex);
}

static void foresee_do_begin(struct foresee_job *job)
{
	struct foresee *foresee = job->foresee;
	struct store_stats stats;

	store_stats(foresee->store, &stats);
	job->budget = stats.size_limit / FORESEE_CACHE_SHARE;
	job->is_cold = !store_has(foresee->store, &job->root_digest);
	list_push(&foresee->jobs, &job->link);
	foresee->n_jobs++;
	foresee_recall(job, PROFILE_COMMAND, PROFILE_TOOL);
	foresee_recall_tool(job);
	foresee->look_ms = FORESEE_LOOK_MS;
}

/* The thread lets go of a job that has ended and waits for nothing. */
static void foresee_settle(struct foresee_job *job)
{
	if (job->state == FORESEE_ENDED && !job->n_wishes)
		foresee_job_unref(job);
}

static void foresee_do_end(struct foresee_job *job, bool has_run)
{
	struct foresee *foresee = job->foresee;

	job->state = FORESEE_ENDED;
	list_remove(&job->link);
	foresee->n_jobs--;
	/* those that were granted as it ended */
	fetch_cancel_wishes(foresee->fetch, job);
	foresight_summary(job->foresight, &job->summary);
	sync_lock(&foresee->mutex);
	job->summary.unheard = job->queue.n_refused;
	foresee_add_all(&foresee->totals, &job->summary);
	sync_unlock(&foresee->mutex);
	latch_down(&job->end); /* its owner goes on, and keeps it until it is done */
	if (has_run)
		foresee_remember(job);
}

static void foresee_do(struct foresee *foresee, struct foresee_event *event)
{
	struct foresee_job *job = event->job;

	switch (event->kind) {
	case FORESEE_BEGIN:
		foresee_do_begin(job);
		return;
	case FORESEE_LOADED:
		job->look_at_ns = 0; /* this turn ends with a look */
		return;
	case FORESEE_OPENED:
		if (job->state == FORESEE_THINKING)
			foresight_opened(job->foresight, event->path, event->flag);
		return;
	case FORESEE_ARRIVED:
		job->n_wishes--;
		foresee->n_wishes--;
		if (job->state == FORESEE_THINKING)
			foresight_arrived(job->foresight, &event->digest, event->flag);
		return;
	case FORESEE_TOLD:
		job->n_wishes--;
		foresee->n_wishes--;
		foresee_do_told(job, event);
		return;
	case FORESEE_END:
		foresee_do_end(job, event->flag);
		return;
	}
}

/* Turns */

/* New Directories: what could not be found before may be now. */
static void foresee_look(struct foresee_job *job)
{
	struct foresee *foresee = job->foresee;
	uint64_t n = dircache_n_loaded(foresee->dirs);
	int64_t now_ns = clock_mono_ns();

	if (job->looked != n && !job->look_began_ns && now_ns >= job->look_at_ns) {
		job->looked = n;
		job->look_began_ns = now_ns;
		foresee->look_ms = FORESEE_LOOK_MS;
		foresight_look(job->foresight);
	}
	foresee_recall_tool(job);
	if (!job->look_began_ns || foresight_is_tired(job->foresight))
		return;
	now_ns = clock_mono_ns();
	job->look_at_ns = now_ns + (now_ns - job->look_began_ns) * FORESEE_LOOK_SHARE;
	job->look_began_ns = 0;
}

static struct foresee_event *foresee_take(struct foresee_job *job)
{
	struct foresee *foresee = job->foresee;
	struct foresee_note *note;

	sync_lock(&foresee->mutex);
	note = foresee_queue_pop(&job->queue);
	sync_unlock(&foresee->mutex);
	return note ? container_of(note, struct foresee_event, note) : NULL;
}

static void foresee_turn(struct foresee_job *job)
{
	struct foresee *foresee = job->foresee;
	struct foresee_event *event;

	if (atomic_load(&job->is_over))
		foresight_rest(job->foresight);
	foresight_go_on(job->foresight);
	while (!foresight_is_tired(job->foresight) && (event = foresee_take(job))) {
		foresee_do(foresee, event);
		free(event);
	}
	if (job->state == FORESEE_THINKING && !foresight_is_tired(job->foresight))
		foresee_look(job);
	sync_lock(&foresee->mutex);
	foresee_desk_again(&foresee->desk, &job->queue,
			   job->state == FORESEE_THINKING &&
				   foresight_is_tired(job->foresight));
	sync_unlock(&foresee->mutex);
	foresee_settle(job);
}

/* Those for whom Directories came have a turn, too. */
static void foresee_call(struct foresee *foresee)
{
	uint64_t n = dircache_n_loaded(foresee->dirs);
	int64_t now_ns = clock_mono_ns();

	sync_lock(&foresee->mutex);
	list_for_each (link, &foresee->jobs) {
		struct foresee_job *job = container_of(link, struct foresee_job, link);

		if (job->looked != n && now_ns >= job->look_at_ns)
			foresee_desk_again(&foresee->desk, &job->queue, true);
	}
	sync_unlock(&foresee->mutex);
}

static struct foresee_job *foresee_next(struct foresee *foresee, struct list *row)
{
	struct foresee_queue *queue;

	sync_lock(&foresee->mutex);
	queue = foresee_desk_next(row);
	sync_unlock(&foresee->mutex);
	return queue ? container_of(queue, struct foresee_job, queue) : NULL;
}

/* One turn for each job that has something to do, then what they wish for. */
static void foresee_round(struct foresee *foresee)
{
	struct list row = LIST_INIT(row);
	struct foresee_job *job;

	if (foresee->look_ms < FORESEE_IDLE_MS)
		foresee->look_ms *= 2;
	foresee_call(foresee);
	sync_lock(&foresee->mutex);
	foresee_desk_round(&foresee->desk, &row);
	sync_unlock(&foresee->mutex);
	while ((job = foresee_next(foresee, &row)))
		foresee_turn(job);
	foresee_grant_round(foresee);
}

static void *foresee_run(void *arg)
{
	struct foresee *foresee = arg;

	sync_lock(&foresee->mutex);
	for (;;) {
		if (list_is_empty(&foresee->desk.row)) {
			if (foresee->is_stopping && !foresee->n_wishes)
				break;
			if (list_is_empty(&foresee->jobs))
				sync_wait(&foresee->cond, &foresee->mutex);
			else
				(void)sync_wait_until(
					&foresee->cond, &foresee->mutex,
					clock_mono_ns() + foresee->look_ms * NS_PER_MS);
		}
		sync_unlock(&foresee->mutex);
		foresee_round(foresee);
		sync_lock(&foresee->mutex);
	}
	sync_unlock(&foresee->mutex);
	return NULL;
}

/* Beginning and end */

struct error *foresee_new(const struct foresee_config *config,
			  struct foresee **foresee_out)
{
	_cleanup_(foresee_freep) struct foresee *foresee = alloc_new(struct foresee);
	struct error *err = NULL;

	foresee->fetch = config->fetch;
	foresee->dirs = config->dirs;
	foresee->view = config->view;
	foresee->store = fetch_store(config->fetch);
	foresee_blobs_init(&foresee->blobs, config->dirs);
	foresee->look_ms = FORESEE_LOOK_MS;
	list_init(&foresee->jobs);
	sync_mutex_init(&foresee->mutex);
	sync_cond_init(&foresee->cond);
	sync_alone(&foresee->mutex);
	foresee_desk_init(&foresee->desk);
	foresee->profiles = config->profiles;
	foresee->instance = fetch_remote(foresee->fetch)
				    ? remote_instance(fetch_remote(foresee->fetch))
				    : "";
	if (!err && config->is_shared && foresee->profiles)
		err = profile_share_new(foresee->fetch, &foresee->share);
	if (!err)
		err = thread_start("foresee", foresee_run, foresee, &foresee->thread);
	if (err)
		return err;
	foresee->has_thread = true;
	*foresee_out = take(foresee);
	return NULL;
}

void *foresee_free(struct foresee *foresee)
{
	if (!foresee)
		return NULL;
	if (foresee->share) /* what is asked for still is answered now, with nothing */
		profile_share_stop(foresee->share);
	sync_lock(&foresee->mutex);
	foresee->is_stopping = true;
	sync_broadcast(&foresee->cond);
	sync_unlock(&foresee->mutex);
	if (foresee->has_thread)
		(void)pthread_join(foresee->thread, NULL);
	foresee_blobs_deinit(&foresee->blobs);
	profile_share_free(foresee->share);
	sync_cond_deinit(&foresee->cond);
	sync_mutex_deinit(&foresee->mutex);
	free(foresee);
	return NULL;
}
