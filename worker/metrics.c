/* Owns the counts of jobs; all else is asked of its owner when a page is made. */
#include "worker/metrics.h"

#include <ctype.h>
#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "worker/action/foresee.h"
#include "worker/action/report.h"

/* Outcomes are statuses, but that a command which ran may have failed by its own word. */
#define METRICS_FAILED     (ERROR_UNAUTHENTICATED + 1)
#define METRICS_N_OUTCOMES (METRICS_FAILED + 1)

enum metrics_step {
	METRICS_STAGING,
	METRICS_COMMAND,
	METRICS_WAITING,
	METRICS_CAPTURE,
	METRICS_UPLOAD,
	METRICS_N_STEPS,
};

static const char *const metrics_steps[] = {"staging", "command", "waiting_for_data",
					    "capture", "upload"};

struct metrics {
	_Atomic uint64_t n_jobs[METRICS_N_OUTCOMES];
	_Atomic int64_t step_ns[METRICS_N_STEPS];
	_Atomic uint64_t n_squeezed;
	_Atomic uint64_t n_running;
};

struct metrics *metrics_new(void)
{
	return alloc_new(struct metrics);
}

void *metrics_free(struct metrics *metrics)
{
	free(metrics);
	return NULL;
}

void metrics_job_begins(struct metrics *metrics)
{
	atomic_fetch_add(&metrics->n_running, 1);
}

void metrics_job_ended(struct metrics *metrics, const struct job_outcome *job)
{
	const struct report *report = job->report;
	const int64_t ns[] = {
		[METRICS_STAGING] = report->staging_ns,
		[METRICS_COMMAND] = report->command_ns,
		[METRICS_WAITING] = report->waiting_ns,
		[METRICS_CAPTURE] = report->capture_ns,
		[METRICS_UPLOAD] = report->upload_ns,
	};
	size_t outcome = error_code(job->status);

	if (outcome == ERROR_OK && job->exit_code != 0)
		outcome = METRICS_FAILED;
	require(outcome < METRICS_N_OUTCOMES);
	for (size_t i = 0; i < METRICS_N_STEPS; i++)
		atomic_fetch_add(&metrics->step_ns[i], ns[i]);
	atomic_fetch_add(&metrics->n_squeezed, job->is_squeezed);
	atomic_fetch_add(&metrics->n_jobs[outcome], 1);
	atomic_fetch_sub(&metrics->n_running, 1);
}

/* ---- the page ------------------------------------------------------------------- */

static void page_head(struct buf *out, const char *name, const char *type,
		      const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void page_number(struct buf *out, const char *name, const char *type,
			const char *help, uint64_t n)
{
	page_head(out, name, type, help);
	buf_printf(out, "%s %llu\n", name, (unsigned long long)n);
}

static void page_jobs(const struct metrics *metrics, unsigned int n_slots,
		      struct buf *out)
{
	page_number(out, "lazyroot_slots", "gauge", "Actions that may run at once.",
		    n_slots);
	page_number(out, "lazyroot_slots_busy", "gauge", "Actions that run.",
		    atomic_load(&metrics->n_running));
	page_head(out, "lazyroot_actions_total", "counter",
		  "Actions that ended: succeeded, failed by their exit code, or by "
		  "status.");
	for (int i = 0; i < METRICS_N_OUTCOMES; i++) {
		const char *name = i == ERROR_OK ? "succeeded"
				   : i == METRICS_FAILED
					   ? "failed"
					   : error_code_name((enum error_code)i);

		buf_add_string(out, "lazyroot_actions_total{outcome=\"");
		for (; *name; name++)
			buf_add_byte(out, (uint8_t)tolower((unsigned char)*name));
		buf_printf(out, "\"} %llu\n",
			   (unsigned long long)atomic_load(&metrics->n_jobs[i]));
	}
	page_head(out, "lazyroot_action_seconds_total", "counter",
		  "Where actions spent their time; the command's includes its waiting.");
	for (size_t i = 0; i < METRICS_N_STEPS; i++)
		buf_printf(out, "lazyroot_action_seconds_total{step=\"%s\"} %.6f\n",
			   metrics_steps[i],
			   (double)atomic_load(&metrics->step_ns[i]) / NS_PER_S);
}

static void page_cache(const struct metrics *metrics, struct store *store,
		       struct buf *out)
{
	struct store_stats stats;

	store_stats(store, &stats);
	page_number(out, "lazyroot_cache_blobs", "gauge", "Blobs in the cache.",
		    (uint64_t)stats.n_blobs);
	page_number(out, "lazyroot_cache_bytes", "gauge", "Their bytes.",
		    (uint64_t)stats.bytes);
	page_number(out, "lazyroot_cache_limit_bytes", "gauge",
		    "What the cache may hold.", (uint64_t)stats.size_limit);
	page_number(out, "lazyroot_cache_evicted_blobs_total", "counter",
		    "Blobs that gave way to others.", stats.n_evicted);
	page_number(out, "lazyroot_cache_evicted_bytes_total", "counter", "Their bytes.",
		    (uint64_t)stats.evicted_bytes);
	page_number(out, "lazyroot_cache_too_small_total", "counter",
		    "Actions during which more was evicted than the cache holds.",
		    atomic_load(&metrics->n_squeezed));
	page_number(out, "lazyroot_cache_verified_blobs_total", "counter",
		    "Blobs hashed again before their use.", stats.n_verified);
	page_number(out, "lazyroot_cache_corrupt_blobs_total", "counter",
		    "Of those, the ones that were dropped.", stats.n_corrupt);
}

/* Of all instances together, as those below. */
static void page_fetches(struct sites *sites, struct buf *out)
{
	struct fetch_stats stats = {0};

	for (size_t i = 0; i < sites_n(sites); i++) {
		struct fetch_stats more;

		fetch_stats(sites_at(sites, i)->fetch, &more);
		stats.n_hits += more.n_hits;
		stats.n_joined += more.n_joined;
		stats.n_blobs += more.n_blobs;
		stats.bytes += more.bytes;
		stats.wire_bytes += more.wire_bytes;
		stats.chunk_bytes += more.chunk_bytes;
		stats.n_failed += more.n_failed;
	}
	page_number(out, "lazyroot_fetch_hits_total", "counter",
		    "Blobs wanted that the cache had.", stats.n_hits);
	page_number(out, "lazyroot_fetch_joined_total", "counter",
		    "Blobs wanted that were on their way already.", stats.n_joined);
	page_number(out, "lazyroot_fetch_blobs_total", "counter",
		    "Blobs that crossed the network.", stats.n_blobs);
	page_number(out, "lazyroot_fetch_bytes_total", "counter", "Their bytes.",
		    stats.bytes);
	page_number(out, "lazyroot_fetch_wire_bytes_total", "counter",
		    "What of them crossed it: less where they were compressed.",
		    stats.wire_bytes);
	page_number(out, "lazyroot_fetch_chunk_bytes_total", "counter",
		    "Of large blobs, the bytes that were here as parts of others.",
		    stats.chunk_bytes);
	page_number(out, "lazyroot_fetch_failed_total", "counter",
		    "Blobs that could not be fetched.", stats.n_failed);
}

/* A metric of foresight, by source. */
static void page_foresight_of(struct buf *out, const char *name, const char *help,
			      const struct foresight_count counts[FORESIGHT_SOURCES])
{
	page_head(out, name, "counter", help);
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++)
		buf_printf(out, "%s{source=\"%s\"} %lld\n", name,
			   foresight_source_name(s), (long long)counts[s].files);
}

static void page_foresight(struct sites *sites, struct buf *out)
{
	struct foresight_summary totals = {0};
	int64_t bytes = 0;

	for (size_t i = 0; i < sites_n(sites); i++)
		if (sites_at(sites, i)->foresee)
			foresee_totals(sites_at(sites, i)->foresee, &totals);
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++)
		bytes += totals.wasted[s].bytes;
	page_foresight_of(out, "lazyroot_foresight_useful_total",
			  "Files that were here when a command opened them.",
			  totals.useful);
	page_foresight_of(out, "lazyroot_foresight_late_total",
			  "Files that were still under way then.", totals.late);
	page_foresight_of(out, "lazyroot_foresight_wasted_total",
			  "Files fetched that no command opened.", totals.wasted);
	page_number(out, "lazyroot_foresight_wasted_bytes_total", "counter",
		    "Bytes of files fetched that no command opened.", (uint64_t)bytes);
	page_number(out, "lazyroot_foresight_missed_total", "counter",
		    "Files opened that were neither at hand nor thought of.",
		    (uint64_t)totals.missed.files);
	page_number(out, "lazyroot_foresight_unheard_total", "counter",
		    "Opens that were not thought of, since too many waited.",
		    (uint64_t)totals.unheard);
}

struct page_counts {
	struct buf *out;
	const char *name;
	const char *label;
	struct sites *sites;
};

/* An opcode, by its name in the first mount's list: what all others add to it. */
static void page_count_opcode(void *ctx, const char *opcode, uint64_t n)
{
	const struct page_counts *counts = ctx;

	for (size_t i = 1; i < sites_n(counts->sites); i++)
		n += session_n_requests(sites_at(counts->sites, i)->session, opcode);
	buf_printf(counts->out, "%s{%s=\"%s\"} %llu\n", counts->name, counts->label,
		   opcode, (unsigned long long)n);
}

static void page_count(void *ctx, const char *value, uint64_t n)
{
	const struct page_counts *counts = ctx;

	buf_printf(counts->out, "%s{%s=\"%s\"} %llu\n", counts->name, counts->label,
		   value, (unsigned long long)n);
}

/* One channel may serve for both; two may have called the same methods. */
static void page_requests(const struct metrics_page *page, struct buf *out)
{
	const struct job_site *first = sites_at(page->sites, 0);
	struct rpc_chan *cas_chan = remote_chan(first->remote);
	struct page_counts counts = {out, "lazyroot_fuse_requests_total", "opcode",
				     page->sites};

	page_head(out, counts.name, "counter", "What the kernel asked of the mount.");
	session_each_count(first->session, page_count_opcode, &counts);
	counts.name = "lazyroot_cas_rpcs_total";
	counts.label = "method";
	page_head(out, counts.name, "counter", "Calls to where blobs come from.");
	rpc_chan_each_count(cas_chan, page_count, &counts);
	if (page->server_chan == cas_chan)
		return;
	counts.name = "lazyroot_server_rpcs_total";
	page_head(out, counts.name, "counter", "Calls to where jobs come from.");
	rpc_chan_each_count(page->server_chan, page_count, &counts);
}

void metrics_write(const struct metrics_page *page, struct buf *out)
{
	const struct job_site *first = sites_at(page->sites, 0);

	page_head(out, "lazyroot_worker_info", "gauge", "Which worker this is.");
	buf_printf(out,
		   "lazyroot_worker_info{version=\"%s\",data_path=\"%s\","
		   "transport=\"%s\"} 1\n",
		   LAZYROOT_VERSION,
		   session_mode_used(first->session) == SESSION_PASSTHROUGH
			   ? "passthrough"
			   : "page-cache",
		   session_has_uring(first->session) ? "io_uring" : "classic");
	page_jobs(page->metrics, page->n_slots, out);
	page_cache(page->metrics, first->store, out);
	page_fetches(page->sites, out);
	page_foresight(page->sites, out);
	page_requests(page, out);
}
