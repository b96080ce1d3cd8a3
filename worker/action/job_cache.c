/*
 * Owns nothing. What is stored under an action's digest must be the result of that very
 * Action, whatever a scheduler sent: it may fill in a timeout, or change one, so the
 * bytes that came along need not be the blob's. Threads: the job's.
 */
#include "worker/action/job_cache.h"

#include "lib/base/wire.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "job"
#include "lib/base/log.h"

#define JOB_CACHE_ACTION_MAX ((size_t)16 << 20)
#define JOB_CACHE_TIMEOUT    6 /* the Action's field */

static bool job_cache_is_of(struct slice action, const struct digest *digest)
{
	struct digest own;

	hasher_digest(action.data, action.len, &own);
	return digest_equal(&own, digest);
}

/* Whether these bytes are the blob's, but for a timeout that was filled in. */
static bool job_cache_is_filled_in(struct slice action, const struct digest *digest)
{
	_cleanup_buf_ struct buf rest = BUF_INIT;
	struct wire wire = wire_of(action);
	const uint8_t *from = wire.at;
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		if (field.number != JOB_CACHE_TIMEOUT)
			buf_add(&rest, from, (size_t)(wire.at - from));
		from = wire.at;
	}
	return !wire.is_bad && job_cache_is_of(buf_slice(&rest), digest);
}

/* Whether the blob is the same Action but for its timeout. */
static struct error *job_cache_compare(const struct job_site *site,
				       const struct plan *plan, bool *is_same_out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)64 << 20);
	_cleanup_buf_ struct buf blob = BUF_INIT;
	_cleanup_buf_ struct buf stored = BUF_INIT;
	_cleanup_buf_ struct buf ours = BUF_INIT;
	Reapi__Action action = *plan->action;
	Reapi__Action *other;
	struct error *err = fetch_bytes(site->fetch, &plan->action_digest,
					JOB_CACHE_ACTION_MAX, NULL, &blob);

	if (err)
		return err;
	other = (Reapi__Action *)rpc_decode(&reapi__action__descriptor, buf_slice(&blob),
					    &arena);
	*is_same_out = other != NULL;
	if (!other)
		return NULL;
	action.timeout = other->timeout = NULL;
	rpc_encode(&action.base, &ours);
	rpc_encode(&other->base, &stored);
	*is_same_out = slice_equal(buf_slice(&ours), buf_slice(&stored));
	return NULL;
}

static struct error *job_cache_check(const struct job_site *site, const struct plan *plan,
				     struct slice action)
{
	char name[DIGEST_STRING_MAX];
	bool is_same = job_cache_is_of(action, &plan->action_digest) ||
		       job_cache_is_filled_in(action, &plan->action_digest);
	struct error *err = NULL;

	if (!is_same)
		err = job_cache_compare(site, plan, &is_same);
	if (err || is_same)
		return err;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "the Action that came along is not that of %s",
			 digest_format(&plan->action_digest, name));
}

void job_cache_result(const struct job_site *site, const struct plan *plan,
		      struct slice action, struct slice result)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Reapi__ActionResult *decoded;
	struct error *err;

	if (plan->action->do_not_cache)
		return;
	decoded = (Reapi__ActionResult *)rpc_decode(&reapi__action_result__descriptor,
						    result, &arena);
	if (decoded && decoded->exit_code != 0)
		return;
	err = decoded ? job_cache_check(site, plan, action)
		      : arena_error("the ActionResult");
	if (!err)
		err = remote_put_action(site->remote, &plan->action_digest, decoded);
	log_drop(LOG_WARN, err, "the result is not in the action cache");
}
