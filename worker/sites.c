/*
 * Owns the fetchers, views and mounts, one of each an instance. An entry is never changed
 * once it is counted, so what sites_at() gives needs no lock.
 */
#include "worker/sites.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/cas/treeahead.h"
#include "worker/action/foresee.h"

#define LOG_MODULE "worker"
#include "lib/base/log.h"

struct sites {
	struct job_site common;
	struct rpc_chan *chan;
	char *mount_dir;
	bool want_passthrough;
	bool foresees;
	struct profile_db *profiles; /* of all; NULL: nothing is learned */
	bool share_profiles;
	size_t n_max;
	int end_fd; /* an epoll of the mounts' */
	struct sync_mutex mutex;
	struct job_site list[SITES_MAX]; /* those before n */
	size_t n SYNC_GUARDED_BY(&mutex);
	bool has_given_up SYNC_GUARDED_BY(&mutex);
};

static void site_deinit(struct job_site *site)
{
	foresee_free(site->foresee);
	session_free(site->session);
	treeahead_free(site->ahead);
	view_free(site->view);
	dircache_free(site->dirs);
	fetch_free(site->fetch);
	remote_free(site->remote);
}

static void site_give_up(const struct job_site *site)
{
	fetch_give_up(site->fetch);
	treeahead_give_up(site->ahead);
}

static struct error *site_mount(const struct sites *sites, size_t number,
				struct job_site *site)
{
	_cleanup_free_ char *path =
		number ? alloc_printf("%s.%zu", sites->mount_dir, number)
		       : alloc_string(sites->mount_dir);
	struct session_config config = {
		.view = site->view,
		.path = path,
		.mode = sites->want_passthrough ? SESSION_PASSTHROUGH
						: SESSION_PAGE_CACHE,
		.want_uring = true,
		.owner_uid = site->user.uid,
		.owner_gid = site->user.gid,
	};
	struct error *err = file_mkdirs(AT_FDCWD, path, 0755);

	return err ? err : session_start(&config, &site->session);
}

static struct error *site_foresee(const struct sites *sites, struct job_site *site)
{
	const struct foresee_config config = {.fetch = site->fetch,
					      .dirs = site->dirs,
					      .view = site->view,
					      .profiles = sites->profiles,
					      .is_shared = sites->share_profiles};

	return sites->foresees ? foresee_new(&config, &site->foresee) : NULL;
}

/* What of it was made is in *site, also where it fails. */
static struct error *site_init(const struct sites *sites, const char *instance,
			       size_t number, struct job_site *site)
{
	struct remote_config remote = {
		.chan = sites->chan, .instance = instance, .is_patient = true};
	struct fetch_config fetch = {.store = sites->common.store,
				     .pool = sites->common.pool,
				     .chunks = sites->common.chunks,
				     .n_attempts = REMOTE_ATTEMPTS_PATIENT};
	struct epoll_event event = {.events = EPOLLIN};
	struct error *err;

	*site = sites->common;
	err = remote_new(&remote, &site->remote);
	fetch.remote = site->remote;
	if (!err)
		err = fetch_new(&fetch, &site->fetch);
	if (err)
		return err;
	site->dirs = dircache_new(site->fetch, DIRCACHE_MEMORY_MAX);
	site->ahead = treeahead_new(site->dirs, site->background);
	site->view = view_new(site->dirs);
	err = site_foresee(sites, site);
	if (!err)
		err = site_mount(sites, number, site);
	if (!err && epoll_ctl(sites->end_fd, EPOLL_CTL_ADD, session_end_fd(site->session),
			      &event) < 0)
		err = error_errno(errno, "watch the mount of the inputs");
	return err;
}

static struct error *sites_add(struct sites *sites, const char *instance)
	SYNC_REQUIRES(&sites->mutex)
{
	struct job_site *site = &sites->list[sites->n];
	struct error *err;

	if (sites->n == sites->n_max)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "this worker serves %zu instances and no more",
				 sites->n_max);
	err = site_init(sites, instance, sites->n, site);
	if (err) {
		site_deinit(site);
		return err;
	}
	if (sites->has_given_up)
		site_give_up(site);
	sites->n++;
	return NULL;
}

struct error *sites_new(const struct sites_config *config, struct sites **out)
{
	_cleanup_(sites_freep) struct sites *sites = alloc_new(struct sites);
	struct error *err;

	require(config->n_max >= 1 && config->n_max <= SITES_MAX);
	sites->common = config->common;
	sites->chan = config->chan;
	sites->mount_dir = alloc_string(config->mount_dir);
	sites->want_passthrough = config->want_passthrough;
	sites->share_profiles = config->share_profiles;
	sites->n_max = config->n_max;
	sites->foresees = config->profiles != NULL;
	/* without a database nothing is learned, and all else goes on */
	if (config->profiles)
		log_drop(LOG_WARN, profile_db_open(config->profiles, &sites->profiles),
			 "what actions read is not learned");
	sync_mutex_init(&sites->mutex);
	sync_mutex_rank(&sites->mutex, 1);
	sites->end_fd = epoll_create1(EPOLL_CLOEXEC);
	if (sites->end_fd < 0)
		return error_errno(errno, "epoll_create1");
	sync_lock(&sites->mutex);
	err = sites_add(sites, config->instance);
	sync_unlock(&sites->mutex);
	if (err)
		return err;
	*out = take(sites);
	return NULL;
}

void sites_give_up(struct sites *sites)
{
	size_t n;

	sync_lock(&sites->mutex);
	sites->has_given_up = true;
	n = sites->n;
	sync_unlock(&sites->mutex);
	for (size_t i = 0; i < n; i++)
		site_give_up(&sites->list[i]);
}

void *sites_free(struct sites *sites)
{
	if (!sites)
		return NULL;
	sync_alone(&sites->mutex);
	while (sites->n > 0)
		site_deinit(&sites->list[--sites->n]);
	cleanup_fd(&sites->end_fd);
	sync_mutex_deinit(&sites->mutex);
	free(sites->mount_dir);
	profile_db_close(sites->profiles);
	free(sites);
	return NULL;
}

static const struct job_site *sites_find(const struct sites *sites, const char *instance)
	SYNC_REQUIRES(&sites->mutex)
{
	for (size_t i = 0; i < sites->n; i++)
		if (strcmp(remote_instance(sites->list[i].remote), instance) == 0)
			return &sites->list[i];
	return NULL;
}

struct error *sites_get(struct sites *sites, const char *instance,
			const struct job_site **site_out)
{
	const struct job_site *site;
	struct error *err = NULL;

	sync_lock(&sites->mutex);
	site = sites_find(sites, instance);
	if (!site) {
		err = sites_add(sites, instance);
		site = sites_find(sites, instance);
	}
	sync_unlock(&sites->mutex);
	if (err)
		return error_wrap(err, "instance %.200s", instance);
	*site_out = site;
	return NULL;
}

size_t sites_n(struct sites *sites)
{
	size_t n;

	sync_lock(&sites->mutex);
	n = sites->n;
	sync_unlock(&sites->mutex);
	return n;
}

const struct job_site *sites_at(struct sites *sites, size_t i)
{
	return &sites->list[i];
}

int sites_end_fd(const struct sites *sites)
{
	return sites->end_fd;
}
