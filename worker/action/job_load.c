/* Owns nothing: the load is lib/cas/treeahead.c's. Threads: the job's. */
#include "worker/action/job_load.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "predict/resolve.h"
#include "worker/action/job_stage.h"

#define LOG_MODULE "job"
#include "lib/base/log.h"

/* How long a load may take to bring what is waited for: that, and two round trips. */
#define JOB_LOAD_PATIENCE_MS 100

struct job_load {
	const struct job_site *site;
	const struct plan *plan;
	struct fetch_account *account;
	const atomic_bool *is_cancelled;
	struct treeahead_load *running;
	int64_t patience_ns;   /* 0: it was tried too long before */
	struct digest missing; /* where a path was left */
};

static void job_load_done(void *root)
{
	(void)view_root_put(root);
}

/* Only what is at hand, but for what the network is asked for below. */
static struct tree_dir *job_load_dir(void *ctx, const struct digest *digest)
{
	struct job_load *load = ctx;
	struct dircache *dirs = load->site->dirs;
	struct tree_dir *dir = dircache_peek(dirs, digest);
	struct error *err;

	if (dir)
		return dir;
	load->missing = *digest;
	if (!store_has(load->site->store, digest))
		return NULL;
	err = dircache_get(dirs, digest, load->account, &dir);
	log_drop(LOG_DEBUG, err, "read a Directory");
	return dir;
}

/* A Directory that somebody waits for. */
static struct error *job_load_demand(struct job_load *load, const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;

	if (load->patience_ns && !dircache_has(load->site->dirs, digest) &&
	    !treeahead_await(load->running, digest, clock_mono_ns() + load->patience_ns))
		load->patience_ns = 0;
	return dircache_get(load->site->dirs, digest, load->account, &dir);
}

static enum resolve_outcome job_load_try(struct job_load *load, const char *base,
					 const char *path, bool is_dir)
{
	const struct resolve_world world = {.dir = job_load_dir, .ctx = load};
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct resolved resolved;

	return is_dir ? resolve_dir(&world, &load->plan->root, path, &dir)
		      : resolve_path(&world, &load->plan->root, base, slice_of(path),
				     &resolved);
}

/* The Directories on the way to a path; of a directory, its own too. */
static void job_load_way(struct job_load *load, const char *base, const char *path,
			 bool is_dir)
{
	struct error *err = NULL;

	for (unsigned int i = 0; !err && i < TREE_DEPTH_MAX; i++) {
		if (atomic_load(load->is_cancelled) ||
		    job_load_try(load, base, path, is_dir) != RESOLVE_UNKNOWN)
			return;
		err = job_load_demand(load, &load->missing);
	}
	log_drop(LOG_DEBUG, err, "a Directory on the way to %s", path);
}

static void job_load_outputs(struct job_load *load)
{
	const struct plan *plan = load->plan;

	for (size_t i = 0; i < plan->n_outputs; i++) {
		const char *path = plan->outputs[i].path;
		const char *slash = strrchr(path, '/');
		_cleanup_free_ char *parent = NULL;

		if (i && job_stage_same_parent(path, plan->outputs[i - 1].path))
			continue;
		parent = alloc_string_n(path, slash ? (size_t)(slash - path) : 0);
		job_load_way(load, "", parent, true);
	}
}

/* Where it is named by a path, and that leads into the root. */
static void job_load_program(struct job_load *load)
{
	const struct plan *plan = load->plan;
	const char *program =
		plan->command->n_arguments ? plan->command->arguments[0] : "";
	size_t len = strlen(plan->root_path);

	if (!strchr(program, '/'))
		return;
	while (len && plan->root_path[len - 1] == '/')
		len--;
	if (program[0] != '/')
		job_load_way(load, plan->workdir, program, false);
	else if (strncmp(program, plan->root_path, len) == 0 && program[len] == '/')
		job_load_way(load, "", program + len, false);
}

static int64_t job_load_patience(const struct job_site *site)
{
	struct fetch_way way;

	fetch_way(site->fetch, &way);
	return JOB_LOAD_PATIENCE_MS * NS_PER_MS + 2 * way.rtt_ns;
}

struct error *job_load_tree(const struct job_site *site, struct view_root *root,
			    const struct plan *plan, const atomic_bool *is_cancelled,
			    struct treeahead_load **load_out)
{
	/* the root owns the account: the load holds it */
	const struct treeahead_order order = {
		.root = plan->root,
		.account = view_root_account(root),
		.done = job_load_done,
		.ctx = view_root_get(site->view, &plan->root),
	};
	struct treeahead_load *running = treeahead_begin(site->ahead, &order);
	struct job_load load = {.site = site,
				.plan = plan,
				.account = order.account,
				.is_cancelled = is_cancelled,
				.running = running};
	struct error *err;

	*load_out = running;
	if (!running)
		return NULL;
	load.patience_ns = job_load_patience(site);
	err = job_load_demand(&load, &plan->root);
	if (err)
		return err;
	job_load_way(&load, "", plan->workdir, true);
	job_load_outputs(&load);
	job_load_program(&load);
	return NULL;
}
