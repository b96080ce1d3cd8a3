/*
 * Owns the slots' threads, the orders that wait and, under the mutex, which job each slot
 * runs: a job is only cancelled while it stands there, so it cannot end meanwhile.
 */
#include "worker/slots.h"

#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/thread.h"

#define LOG_MODULE "slots"
#include "lib/base/log.h"

struct slots_order {
	struct list link;
	struct source_job *job;
};

struct slots {
	const struct job_site *site;
	unsigned int n;
	pthread_t *threads;
	struct place *places; /* each of its thread alone */
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct source *source; /* guarded by mutex, as all below */
	struct job **running;  /* of each slot, or NULL */
	struct list orders;
	unsigned int next_number;
	unsigned int n_started; /* threads that took their place */
	bool is_stopping;
};

/* Mutex held: waits for an order; NULL at the end. */
static struct job *slots_next(struct slots *slots, struct place *place)
{
	struct slots_order *order;
	struct list *node;
	struct job *job;

	while (!slots->source || !(node = list_pop(&slots->orders))) {
		if (slots->is_stopping)
			return NULL;
		(void)pthread_cond_wait(&slots->cond, &slots->mutex);
	}
	order = container_of(node, struct slots_order, link);
	job = job_new(slots->site, place, take(order->job), slots->next_number++);
	free(order);
	return job;
}

static void *slots_thread(void *arg)
{
	struct slots *slots = arg;
	struct place *place;
	struct error *err;
	unsigned int me;
	struct job *job;

	(void)pthread_mutex_lock(&slots->mutex);
	me = slots->n_started++;
	(void)pthread_mutex_unlock(&slots->mutex);
	place = &slots->places[me];
	place->number = me;
	err = place_prepare(place);
	log_drop(LOG_WARN, err, "slot %u is not ready yet", me);
	(void)pthread_mutex_lock(&slots->mutex);
	while ((job = slots_next(slots, place))) {
		struct source *source = slots->source;
		struct buf result = BUF_INIT;
		struct error *status = NULL;

		slots->running[me] = job;
		(void)pthread_mutex_unlock(&slots->mutex);
		job_run(job, &status, &result);
		source_report(source, job_id(job), status, &result);
		(void)pthread_mutex_lock(&slots->mutex);
		slots->running[me] = NULL;
		(void)pthread_mutex_unlock(&slots->mutex);
		job_free(job);
		(void)pthread_mutex_lock(&slots->mutex);
	}
	(void)pthread_mutex_unlock(&slots->mutex);
	place_deinit(place);
	return NULL;
}

struct error *slots_new(const struct job_site *site, unsigned int n, struct slots **out)
{
	_cleanup_(slots_freep) struct slots *slots = alloc_new(struct slots);
	struct error *err = NULL;

	slots->site = site;
	slots->threads = alloc_array(n, sizeof(pthread_t));
	slots->running = alloc_array(n, sizeof(*slots->running));
	slots->places = alloc_array(n, sizeof(*slots->places));
	for (unsigned int i = 0; i < n; i++)
		slots->places[i] =
			(struct place){.tools = site->tools, .cgroups = site->cgroups};
	list_init(&slots->orders);
	(void)pthread_mutex_init(&slots->mutex, NULL);
	(void)pthread_cond_init(&slots->cond, NULL);
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
	(void)pthread_mutex_lock(&slots->mutex);
	slots->is_stopping = true;
	(void)pthread_cond_broadcast(&slots->cond);
	(void)pthread_mutex_unlock(&slots->mutex);
	for (unsigned int i = 0; i < slots->n; i++)
		(void)pthread_join(slots->threads[i], NULL);
	(void)pthread_cond_destroy(&slots->cond);
	(void)pthread_mutex_destroy(&slots->mutex);
	free(slots->running);
	free(slots->places);
	free(slots->threads);
	free(slots);
	return NULL;
}

void slots_set_source(struct slots *slots, struct source *source)
{
	(void)pthread_mutex_lock(&slots->mutex);
	slots->source = source;
	(void)pthread_cond_broadcast(&slots->cond);
	(void)pthread_mutex_unlock(&slots->mutex);
}

void slots_assign(struct slots *slots, struct source_job *order)
{
	struct slots_order *entry = alloc_new(struct slots_order);

	entry->job = order;
	(void)pthread_mutex_lock(&slots->mutex);
	list_push(&slots->orders, &entry->link);
	(void)pthread_cond_signal(&slots->cond);
	(void)pthread_mutex_unlock(&slots->mutex);
}

/* Mutex held: an order that waits leaves at once; *source_out is told outside. */
static struct source_job *slots_withdraw(struct slots *slots, const char *id)
{
	list_for_each_safe (node, &slots->orders) {
		struct slots_order *order = container_of(node, struct slots_order, link);
		struct source_job *job = order->job;

		if (id && strcmp(job->id, id) != 0)
			continue;
		list_remove(&order->link);
		free(order);
		return job;
	}
	return NULL;
}

void slots_cancel(struct slots *slots, const char *id)
{
	struct source_job *waiting;
	struct source *source;

	(void)pthread_mutex_lock(&slots->mutex);
	source = slots->source;
	for (unsigned int i = 0; i < slots->n; i++) {
		struct job *job = slots->running[i];

		if (job && (!id || strcmp(job_id(job), id) == 0))
			job_cancel(job);
	}
	waiting = slots_withdraw(slots, id);
	(void)pthread_mutex_unlock(&slots->mutex);
	while (waiting) {
		struct buf none = BUF_INIT;

		source_report(source, waiting->id,
			      error_new(ERROR_CANCELLED, "the action was cancelled"),
			      &none);
		source_job_free(waiting);
		(void)pthread_mutex_lock(&slots->mutex);
		waiting = id ? NULL : slots_withdraw(slots, NULL);
		(void)pthread_mutex_unlock(&slots->mutex);
	}
}
