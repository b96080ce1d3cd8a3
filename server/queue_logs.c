/*
 * Owns what the queue knows of a job's logs: the names by which its lease's stdout and
 * stderr are read while it runs, and which of them its bot has begun to write. Both are
 * shown once either has begun: trexe takes the names of the first message that has any,
 * and where one is missing tells all of the logs again in the end. The streams themselves
 * are another's (logstreams.h), who is told when they are over; so one that nobody writes
 * ends for its readers, too.
 *
 * Threads: with the queue's lock.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "server/queue_impl.h"

void *queue_logs_free(struct queue_logs *logs)
{
	if (!logs)
		return NULL;
	for (size_t i = 0; i < QUEUE_LOGS; i++) {
		free(logs->names[i]);
		free(logs->write_names[i]);
	}
	free(logs);
	return NULL;
}

void queue_job_logs_end(struct queue *queue, struct queue_job *job, bool are_kept)
{
	struct queue_logs *logs = job->logs;

	if (!logs)
		return;
	for (size_t i = 0; i < QUEUE_LOGS; i++)
		queue->log_ended(queue->log_ctx, logs->names[i]);
	if (!are_kept || !(logs->has_begun[0] || logs->has_begun[1]))
		job->logs = queue_logs_free(logs);
}

void queue_job_logs_show(const struct queue_job *job, struct arena *arena,
			 struct queue_state *out)
{
	const struct queue_logs *logs = job->logs;

	if (!logs || !(logs->has_begun[0] || logs->has_begun[1]))
		return;
	for (size_t i = 0; i < QUEUE_LOGS; i++)
		out->logs[i] = arena_string(arena, logs->names[i]);
}

bool queue_logs_set(struct queue *queue, const char *session, const char *lease,
		    const char *const names[static QUEUE_LOGS])
{
	struct queue_job *job;
	bool is_set;

	queue_lock(queue);
	job = queue->log_ended ? queue_leased_job(queue, session, lease) : NULL;
	is_set = job && !job->logs;
	if (is_set) {
		job->logs = alloc_new(struct queue_logs);
		for (size_t i = 0; i < QUEUE_LOGS; i++) {
			const char *token = strrchr(names[i], '/');

			job->logs->names[i] = alloc_string_n(
				names[i], token ? (size_t)(token - names[i]) : 0);
			job->logs->write_names[i] = alloc_string(names[i]);
		}
	}
	queue_unlock(queue);
	return is_set;
}

void queue_logs_begun(struct queue *queue, const char *session, const char *lease,
		      unsigned int which)
{
	struct queue_job *job;

	queue_lock(queue);
	job = queue_leased_job(queue, session, lease);
	if (job && job->logs && which < QUEUE_LOGS && !job->logs->has_begun[which]) {
		job->logs->has_begun[which] = true;
		queue_job_changed(queue, job);
	}
	queue_unlock(queue);
}
