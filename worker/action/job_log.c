/* Owns nothing. Threads: any. */
#include "worker/action/job_log.h"

#include "lib/base/units.h"
#include "worker/sandbox/cgroup_file.h"

#define LOG_MODULE "job"
#include "lib/base/log.h"

/* Requests so far, of the whole worker: what the budgets in tests are checked against. */

static void job_count(void *ctx, const char *name, uint64_t n)
{
	buf_printf(ctx, " %s=%llu", name, (unsigned long long)n);
}

bool job_log_evictions(const struct job_site *site, const struct store_stats *before)
{
	char blobs[UNITS_TEXT_MAX];
	char size[UNITS_TEXT_MAX];
	char limit[UNITS_TEXT_MAX];
	struct store_stats now;
	int64_t bytes;

	store_stats(site->store, &now);
	bytes = now.evicted_bytes - before->evicted_bytes;
	if (!bytes)
		return false;
	(void)units_format_count((int64_t)(now.n_evicted - before->n_evicted), blobs);
	(void)units_format_size(bytes, size);
	(void)units_format_size(now.size_limit, limit);
	if (bytes > now.size_limit)
		log_warn("the cache is too small for this action: it evicted %s blobs, "
			 "%s, meanwhile, and holds %s",
			 blobs, size, limit);
	else
		log_info("the cache evicted %s blobs, %s, meanwhile, and holds %s", blobs,
			 size, limit);
	return bytes > now.size_limit;
}

void job_log_counts(const struct job_site *site)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	struct store_stats store;

	if (!log_is_on(LOG_DEBUG, LOG_MODULE))
		return;
	job_count(&line, "cgroup/writes", cgroup_n_writes());
	store_stats(site->store, &store);
	job_count(&line, "cache/evicted", store.n_evicted);
	session_each_count(site->session, job_count, &line);
	if (site->remote)
		rpc_chan_each_count(remote_chan(site->remote), job_count, &line);
	log_debug("counts%s", buf_string(&line));
}
