/*
 * Owns the slots' threads, the leases that wait and, under the mutex, which lease each
 * slot has and which job it runs for it: a job is only cancelled while it stands there,
 * so it cannot end meanwhile.
 */
#include "worker/slots.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"

#define LOG_MODULE "slots"
#include "lib/base/log.h"

struct slots_waiting {
	struct list link;
	struct source_lease *lease;
};

/* What a slot does. */
struct slots_place {
	struct source_lease *lease; /* NULL: it waits for one */
	struct job *job;            /* NULL: its site is not there yet */
	bool is_cancelled;
};

struct slots {
	struct sites *sites;
	struct metrics *metrics;
	struct live_logs *logs;
	unsigned int n;
	pthread_t *threads;
	struct sandbox_slot *kept; /* each of its thread alone */
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct source *source SYNC_GUARDED_BY(&mutex);
	struct slots_place *places SYNC_PT_GUARDED_BY(&mutex); /* a slot each */
	struct list waiting SYNC_GUARDED_BY(&mutex);
	unsigned int next_number SYNC_GUARDED_BY(&mutex);
	unsigned int n_started
		SYNC_GUARDED_BY(&mutex); /* threads that know which they are */
	bool is_stopping SYNC_GUARDED_BY(&mutex);
};

/* Mutex held: waits for a lease, which is the slot's before the mutex is given up, so
 * that a cancellation finds it in the one place or the other; NULL at the end. */
static struct source_lease *slots_next(struct slots *slots, unsigned int me)
	SYNC_REQUIRES(&slots->mutex)
{
	struct source_lease *lease;
	struct list *node;

	while (!slots->source || !(node = list_pop(&slots->waiting))) {
		if (slots->is_stopping)
			return NULL;
		sync_wait(&slots->cond, &slots->mutex);
	}
	lease = container_of(node, struct slots_waiting, link)->lease;
	free(container_of(node, struct slots_waiting, link));
	slots->places[me] = (struct slots_place){.lease = lease};
	return lease;
}

/* Whom a job tells how far it is. */
struct slots_listener {
	struct source *source;
	const char *id;
	struct live_log *log; /* or NULL */
	const struct job *job;
};

/* Who reads along sees what the command says from its start to its end. */
static void slots_read_along(const struct slots_listener *listener, enum job_state state)
{
	if (listener->log && state == JOB_RUNNING)
		live_log_begin(listener->log, job_dir_fd(listener->job));
	else if (listener->log && state > JOB_RUNNING)
		live_log_complete(listener->log);
}

/*
 * Tests step through a job's life by killing the worker at a named point: it stops itself
 * there (SIGSTOP), so that the test knows where it is.
 */
static void slots_job_changed(void *ctx, enum job_state state)
{
	static const int stages[] = {[JOB_WAITING] = -1,
				     [JOB_FETCHING] = SOURCE_FETCHING,
				     [JOB_STAGING] = -1,
				     [JOB_RUNNING] = SOURCE_RUNNING,
				     [JOB_CAPTURING] = SOURCE_UPLOADING,
				     [JOB_UPLOADING] = -1,
				     [JOB_ENDED] = -1};
	const char *wanted = getenv("LAZYROOT_TEST_STOP_AT");
	const struct slots_listener *listener = ctx;

	if (stages[state] >= 0)
		source_stage(listener->source, listener->id,
			     (enum source_stage)stages[state]);
	slots_read_along(listener, state);
	if (wanted && strcmp(wanted, job_state_name(state)) == 0)
		(void)raise(SIGSTOP);
}

static struct error *slots_find_site(struct slots *slots,
				     const struct source_lease *lease,
				     const struct job_site **site_out)
{
	if (lease->digest_function != REAPI__DIGEST_FUNCTION__VALUE__UNKNOWN &&
	    lease->digest_function != REAPI__DIGEST_FUNCTION__VALUE__SHA256)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "digest function %d: this worker has SHA256",
				 (int)lease->digest_function);
	return sites_get(slots->sites, lease->instance, site_out);
}

/* What the slot does now, seen by whoever cancels. */
static void slots_show(struct slots *slots, unsigned int me, struct job *job)
{
	sync_lock(&slots->mutex);
	slots->places[me].job = job;
	if (slots->places[me].is_cancelled)
		job_cancel(job);
	sync_unlock(&slots->mutex);
}

static void slots_clear(struct slots *slots, unsigned int me)
{
	sync_lock(&slots->mutex);
	slots->places[me] = (struct slots_place){0};
	sync_unlock(&slots->mutex);
}

static void slots_run_job(struct slots *slots, unsigned int me,
			  const struct job_config *config,
			  struct slots_listener *listener)
{
	struct job *job = job_new(config);
	struct job_outcome outcome;

	listener->job = job;
	slots_show(slots, me, job);
	metrics_job_begins(slots->metrics);
	job_run(job, &outcome);
	metrics_job_ended(slots->metrics, &outcome);
	listener->log = live_log_free(listener->log);
	source_report(listener->source, config->id, outcome.status, &outcome.result);
	slots_clear(slots, me);
	job_free(job);
}

/* To its end, and to its source; it can be cancelled until then. */
static void slots_run(struct slots *slots, unsigned int me, struct source *source,
		      const struct source_lease *lease, unsigned int number)
{
	struct slots_listener listener = {.source = source, .id = lease->id};
	struct job_config config = {.slot = &slots->kept[me],
				    .id = lease->id,
				    .action = lease->action,
				    .action_bytes = buf_slice(&lease->action_bytes),
				    .metadata = buf_slice(&lease->metadata),
				    .wants_caching = lease->wants_caching,
				    .number = number,
				    .changed = slots_job_changed,
				    .ctx = &listener};
	struct buf none = BUF_INIT;
	struct error *err = slots_find_site(slots, lease, &config.site);

	if (lease->log_names[0])
		listener.log =
			live_log_new(slots->logs, (const char *const *)lease->log_names,
				     lease->may_leave_logs_out);
	if (!err) {
		slots_run_job(slots, me, &config, &listener);
		return;
	}
	live_log_free(listener.log);
	log_info("lease %s: %s", lease->id, error_text(err));
	source_report(source, lease->id, err, &none);
	slots_clear(slots, me);
}

static void *slots_thread(void *arg)
{
	struct slots *slots = arg;
	struct source_lease *lease;
	struct error *err;
	unsigned int me;

	sync_lock(&slots->mutex);
	me = slots->n_started++;
	sync_unlock(&slots->mutex);
	slots->kept[me].number = me;
	err = sandbox_slot_prepare(&slots->kept[me]);
	log_drop(LOG_WARN, err, "slot %u is not ready yet", me);
	sync_lock(&slots->mutex);
	while ((lease = slots_next(slots, me))) {
		unsigned int number = slots->next_number++;
		struct source *source = slots->source;

		sync_unlock(&slots->mutex);
		slots_run(slots, me, source, lease, number);
		source_lease_free(lease);
		sync_lock(&slots->mutex);
	}
	sync_unlock(&slots->mutex);
	sandbox_slot_deinit(&slots->kept[me]);
	return NULL;
}

struct error *slots_new(struct sites *sites, struct metrics *metrics,
			struct live_logs *logs, unsigned int n, struct slots **out)
{
	_cleanup_(slots_freep) struct slots *slots = alloc_new(struct slots);
	const struct job_site *site = sites_at(sites, 0);
	struct error *err = NULL;

	slots->sites = sites;
	slots->metrics = metrics;
	slots->logs = logs;
	slots->threads = alloc_array(n, sizeof(pthread_t));
	slots->places = alloc_array(n, sizeof(*slots->places));
	slots->kept = alloc_array(n, sizeof(*slots->kept));
	for (unsigned int i = 0; i < n; i++)
		slots->kept[i] = (struct sandbox_slot){.tools = site->tools,
						       .cgroups = site->cgroups};
	sync_mutex_init(&slots->mutex);
	sync_alone(&slots->mutex);
	list_init(&slots->waiting);
	sync_cond_init(&slots->cond);
	while (slots->n < n && !err) {
		err = thread_start("slot", slots_thread, slots,
				   &slots->threads[slots->n]);
		slots->n += !err;
	}
	if (err)
		return err;
	*out = take(slots);
	return NULL;
}

void *slots_free(struct slots *slots)
{
	if (!slots)
		return NULL;
	sync_lock(&slots->mutex);
	slots->is_stopping = true;
	sync_broadcast(&slots->cond);
	sync_unlock(&slots->mutex);
	for (unsigned int i = 0; i < slots->n; i++)
		(void)pthread_join(slots->threads[i], NULL);
	sync_cond_deinit(&slots->cond);
	sync_mutex_deinit(&slots->mutex);
	free(slots->places);
	free(slots->kept);
	free(slots->threads);
	free(slots);
	return NULL;
}

void slots_set_source(struct slots *slots, struct source *source)
{
	sync_lock(&slots->mutex);
	slots->source = source;
	sync_broadcast(&slots->cond);
	sync_unlock(&slots->mutex);
}

void slots_assign(struct slots *slots, struct source_lease *lease)
{
	struct slots_waiting *entry = alloc_new(struct slots_waiting);

	entry->lease = lease;
	sync_lock(&slots->mutex);
	list_push(&slots->waiting, &entry->link);
	sync_signal(&slots->cond);
	sync_unlock(&slots->mutex);
}

/* Mutex held: a lease that waits leaves at once; its source is told outside. */
static struct source_lease *slots_withdraw(struct slots *slots, const char *id)
{
	list_for_each_safe (node, &slots->waiting) {
		struct slots_waiting *entry =
			container_of(node, struct slots_waiting, link);
		struct source_lease *lease = entry->lease;

		if (id && strcmp(lease->id, id) != 0)
			continue;
		list_remove(&entry->link);
		free(entry);
		return lease;
	}
	return NULL;
}

void slots_cancel(struct slots *slots, const char *id)
{
	struct source_lease *waiting;
	struct source *source;

	sync_lock(&slots->mutex);
	source = slots->source;
	for (unsigned int i = 0; i < slots->n; i++) {
		struct slots_place *place = &slots->places[i];

		if (!place->lease || (id && strcmp(place->lease->id, id) != 0))
			continue;
		place->is_cancelled = true;
		if (place->job)
			job_cancel(place->job);
	}
	waiting = slots_withdraw(slots, id);
	sync_unlock(&slots->mutex);
	while (waiting) {
		struct buf none = BUF_INIT;

		source_report(source, waiting->id,
			      error_new(ERROR_CANCELLED, "the action was cancelled"),
			      &none);
		source_lease_free(waiting);
		sync_lock(&slots->mutex);
		waiting = id ? NULL : slots_withdraw(slots, NULL);
		sync_unlock(&slots->mutex);
	}
}
