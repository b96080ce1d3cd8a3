/*
 * Owns the question which bot may have which job, and what becomes of a job that none
 * could ever have: with bots connected it fails soon, and says what they offer; without
 * any it waits, and says so. One that lost its bots a moment ago waits for their return.
 *
 * Threads: with the queue's lock.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "server/queue_impl.h"

#define MATCH_NAMED_MAX        16    /* values that an error names */
#define MATCH_COMBINATIONS_MAX 8     /* the same, of a worker's properties together */
#define MATCH_TEXT_MAX         400   /* bytes of one of those */
#define MATCH_STEP             10000 /* jobs that one tick looks at */

/* These say how to run an action, not what the machine must be. Bazel 9 marks the inputs
 * of its persistent workers with the latter, which are for workers that know them. */
static const char *const match_manners[] = {
	"InputRootAbsolutePath",
	"persistentWorkerKey",
	"persistentWorkerProtocol",
};

static bool match_one(const struct queue_props *has, const struct queue_property *want)
{
	for (size_t i = 0; i < has->n; i++) {
		if (strcmp(has->list[i].name, want->name) == 0 &&
		    (strcmp(has->list[i].value, want->value) == 0 ||
		     strcmp(has->list[i].value, "*") == 0))
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(match_manners); i++)
		if (strcmp(want->name, match_manners[i]) == 0)
			return true;
	return false;
}

bool queue_props_match(const struct queue_props *has, const struct queue_props *required)
{
	for (size_t i = 0; i < required->n; i++) {
		if (!match_one(has, &required->list[i]))
			return false;
	}
	return true;
}

bool queue_has_bots(const struct queue *queue, const char *instance)
{
	list_for_each (it, &queue->sessions) {
		const struct queue_session *session =
			container_of(it, struct queue_session, link);

		if (session->takes_jobs && strcmp(session->instance, instance) == 0)
			return true;
	}
	return false;
}

/* Whether some bot, busy or ill as it may be, has the properties from the i-th on, n of
 * them. */
static bool match_any(const struct queue *queue, const struct queue_job *job, size_t i,
		      size_t n)
{
	const struct queue_props some = {job->required.list + i, n};

	list_for_each (it, &queue->sessions) {
		const struct queue_session *session =
			container_of(it, struct queue_session, link);

		if (strcmp(session->instance, job->instance) == 0 &&
		    queue_props_match(&session->properties, &some))
			return true;
	}
	return false;
}

struct match_names { /* views */
	const char *list[MATCH_NAMED_MAX];
	size_t n;
	bool has_more;
};

static void match_add(struct match_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(names->list[i], name) == 0)
			return;
	}
	if (names->n == MATCH_NAMED_MAX)
		names->has_more = true;
	else
		names->list[names->n++] = name;
}

/* The values of a property that bots offer, or with NULL the properties' names. */
static void match_offers(const struct queue *queue, const struct queue_job *job,
			 const char *name, struct match_names *out)
{
	list_for_each (it, &queue->sessions) {
		const struct queue_session *session =
			container_of(it, struct queue_session, link);

		if (strcmp(session->instance, job->instance) != 0)
			continue;
		for (size_t i = 0; i < session->properties.n; i++) {
			const struct queue_property *has = &session->properties.list[i];

			if (!name)
				match_add(out, has->name);
			else if (strcmp(has->name, name) == 0)
				match_add(out, has->value);
		}
	}
}

static void match_say(const struct match_names *names, struct buf *out)
{
	for (size_t i = 0; i < names->n; i++)
		buf_printf(out, "%s\"%.100s\"", i ? ", " : "", names->list[i]);
	if (names->has_more)
		buf_printf(out, ", ...");
	if (names->n == 0)
		buf_printf(out, "nothing");
}

/* What a bot offers of the names that a job asks for. */
static char *match_of_session(const struct queue_session *session,
			      const struct queue_job *job)
{
	struct buf text = BUF_INIT;

	for (size_t i = 0; i < session->properties.n; i++) {
		const struct queue_property *has = &session->properties.list[i];
		bool is_asked = false;

		for (size_t j = 0; j < job->required.n && !is_asked; j++)
			is_asked = strcmp(job->required.list[j].name, has->name) == 0;
		if (is_asked && text.len < MATCH_TEXT_MAX)
			buf_printf(&text, "%s%.100s=%.100s", text.len ? ", " : "",
				   has->name, has->value);
	}
	return buf_steal_string(&text);
}

/* Which combinations of them there are, each once. */
static void match_combinations(const struct queue *queue, const struct queue_job *job,
			       struct buf *out)
{
	char *known[MATCH_COMBINATIONS_MAX] = {NULL};
	size_t n = 0;
	bool has_more = false;

	list_for_each (it, &queue->sessions) {
		const struct queue_session *session =
			container_of(it, struct queue_session, link);
		_cleanup_free_ char *text = NULL;
		size_t at = 0;

		if (strcmp(session->instance, job->instance) != 0)
			continue;
		text = match_of_session(session, job);
		while (at < n && strcmp(known[at], text) != 0)
			at++;
		if (at == n && n < MATCH_COMBINATIONS_MAX)
			known[n++] = take(text);
		else
			has_more = has_more || at == n;
	}
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "%s%s", i ? "; or " : "", known[i]);
		free(known[i]);
	}
	buf_add_string(out, has_more ? "; ..." : "");
}

/* The first property that no bot has, or all, where each is had by some. */
static struct error *match_error(const struct queue *queue, const struct queue_job *job)
{
	_cleanup_buf_ struct buf offers = BUF_INIT;
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct match_names values = {0}, names = {0};

	for (size_t i = 0; i < job->required.n; i++) {
		const struct queue_property *want = &job->required.list[i];

		buf_printf(&all, "%s%.100s=%.100s", i ? ", " : "", want->name,
			   want->value);
		if (match_any(queue, job, i, 1))
			continue;
		match_offers(queue, job, want->name, &values);
		match_offers(queue, job, NULL, &names);
		match_say(values.n > 0 ? &values : &names, &offers);
		return error_new(ERROR_FAILED_PRECONDITION,
				 "no worker here has the platform property \"%.200s\" as "
				 "\"%.200s\": %s %s",
				 want->name, want->value,
				 values.n > 0 ? "offered is"
					      : "the properties on offer are",
				 buf_string(&offers));
	}
	match_combinations(queue, job, &offers);
	return error_new(ERROR_FAILED_PRECONDITION,
			 "no worker here has all of these platform properties: %.1000s; "
			 "one worker offers %.2000s",
			 buf_string(&all), buf_string(&offers));
}

static bool match_is_hopeless(const struct queue *queue, const struct queue_job *job,
			      int64_t now_ns)
{
	return now_ns - job->queued_ns >= QUEUE_MATCH_NS &&
	       queue_has_bots(queue, job->instance) &&
	       !match_any(queue, job, 0, job->required.n);
}

void queue_match_tick(struct queue *queue, int64_t now_ns)
{
	size_t n = 0;

	if (queue->waits_for_bots ||
	    (queue->left_ns > 0 && now_ns - queue->left_ns < QUEUE_RETURN_NS))
		return;
	list_for_each_safe (it, &queue->queued) {
		struct queue_job *job = container_of(it, struct queue_job, queue_link);

		if (n == MATCH_STEP)
			return;
		if (job->matched_epoch == queue->epoch)
			continue;
		n++;
		if (match_is_hopeless(queue, job, now_ns))
			queue_job_fail(queue, job, match_error(queue, job), now_ns);
		else if (match_any(queue, job, 0, job->required.n))
			job->matched_epoch = queue->epoch;
	}
}
