/*
 * Owns the slots' threads, the leases that wait and, under the mutex, which job each slot
 * runs: a job is only cancelled while it stands there, so it cannot end meanwhile.
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

struct slots {
	const struct job_site *site;
	struct metrics *metrics;
	unsigned int n;
	pthread_t *threads;
	struct sandbox_slot *kept; /* each of its thread alone */
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct source *source SYNC_GUARDED_BY(&mutex);
	struct job **running SYNC_PT_GUARDED_BY(&mutex); /* of each slot, or NULL */
	struct list waiting SYNC_GUARDED_BY(&mutex);
	unsigned int next_number SYNC_GUARDED_BY(&mutex);
	unsigned int n_started
		SYNC_GUARDED_BY(&mutex); /* threads that know which they are */
	bool is_stopping SYNC_GUARDED_BY(&mutex);
};

/* Mutex held: waits for a lease; NULL at the end. */
static struct source_lease *slots_next(struct slots *slots) SYNC_REQUIRES(&slots->mutex)
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
	return lease;
}

/*
 * Tests step through a job's life by killing the worker at a named point: it stops itself
 * there (SIGSTOP), so that the test knows where it is.
 */
static void slots_job_changed(void *ctx, enum job_state state)
{
	const char *wanted = getenv("LAZYROOT_TEST_STOP_AT");

	(void)ctx;
	if (wanted && strcmp(wanted, job_state_name(state)) == 0)
		(void)raise(SIGSTOP);
}

/*
 * The job of a lease that has just left the list: it is shown as running before the mutex
 * is given up, so that a cancellation finds it in the one place or the other.
 */
static struct job *slots_begin(struct slots *slots, unsigned int me,
			       const struct source_lease *lease)
	SYNC_REQUIRES(&slots->mutex)
{
	struct job_config config = {.site = slots->site,
				    .slot = &slots->kept[me],
				    .id = lease->id,
				    .action = lease->action,
				    .action_bytes = buf_slice(&lease->action_bytes),
				    .number = slots->next_number++,
				    .changed = slots_job_changed};

	slots->running[me] = job_new(&config);
	return slots->running[me];
}

/* To its end, and to its source; it can be cancelled until then. */
static void slots_run(struct slots *slots, unsigned int me, struct source *source,
		      struct job *job)
{
	struct job_outcome outcome;

	metrics_job_begins(slots->metrics);
	job_run(job, &outcome);
	metrics_job_ended(slots->metrics, &outcome);
	source_report(source, job_id(job), outcome.status, &outcome.result);
	sync_lock(&slots->mutex);
	slots->running[me] = NULL;
	sync_unlock(&slots->mutex);
	job_free(job);
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
	while ((lease = slots_next(slots))) {
		struct job *job = slots_begin(slots, me, lease);
		struct source *source = slots->source;

		sync_unlock(&slots->mutex);
		slots_run(slots, me, source, job);
		source_lease_free(lease);
		sync_lock(&slots->mutex);
	}
	sync_unlock(&slots->mutex);
	sandbox_slot_deinit(&slots->kept[me]);
	return NULL;
}

struct error *slots_new(const struct job_site *site, struct metrics *metrics,
			unsigned int n, struct slots **out)
{
	_cleanup_(slots_freep) struct slots *slots = alloc_new(struct slots);
	struct error *err = NULL;

	slots->site = site;
	slots->metrics = metrics;
	slots->threads = alloc_array(n, sizeof(pthread_t));
	slots->running = alloc_array(n, sizeof(*slots->running));
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
	free(slots->running);
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
		struct job *job = slots->running[i];

		if (job && (!id || strcmp(job_id(job), id) == 0))
			job_cancel(job);
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
