/*
 * Owns the mount and what stands behind it. The fetcher, the store and the Directories
 * are the client's. Limits are for machines that many share: here is none.
 */
#include "client/sandbox_site.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "client/namespaces.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/treeahead.h"
#include "worker/sandbox/accounts.h"
#include "worker/sandbox/filter.h"

#define SANDBOX_SITE_WAIT_NS (3600 * NS_PER_S) /* for inputs, in all; as a worker's */

/* What an action may ask for by name is the user's own to give; what a command may do by
 * itself is as in a worker, so that it does the same. */
static struct error *sandbox_site_allow(struct sandbox_site *site)
{
	static const char *const grants[] = {"network", "uid=0-2147483646",
					     "gid=0-2147483646"};
	struct error *err = NULL;

	for (size_t i = 0; !err && i < ARRAY_SIZE(grants); i++)
		err = allow_set(&site->allow, grants[i]);
	return err ? err : filter_make(&site->allow, &site->filter);
}

/* Beside the store, where what a command wrote becomes a blob by rename; an overlay can
 * lie on no other, as in a container. */
static struct error *sandbox_site_dirs(struct sandbox_site *site, struct client *client)
{
	struct statfs fs;
	struct error *err = scratch_open(&site->scratch, &client->local);

	if (err)
		return err;
	if (fstatfs(site->scratch.fd, &fs) < 0)
		return error_errno(errno, "look at %s", site->scratch.path);
	site->mount_dir = alloc_printf("%s/mount", namespaces_dir());
	site->etc_dir = alloc_printf("%s/etc", namespaces_dir());
	site->actions_dir = fs.f_type == OVERLAYFS_SUPER_MAGIC
				    ? alloc_printf("%s/actions", namespaces_dir())
				    : alloc_string(site->scratch.path);
	err = file_mkdirs(AT_FDCWD, site->mount_dir, 0755);
	if (!err)
		err = file_mkdirs(AT_FDCWD, site->actions_dir, 0755);
	if (!err)
		err = accounts_write(site->etc_dir, ACCOUNTS_UID, ACCOUNTS_UID, false);
	return err;
}

static void sandbox_site_fill(struct sandbox_site *site, struct client *client)
{
	limits_init(&site->limits.normal);
	limits_init(&site->limits.most);
	site->job = (struct job_site){
		.store = client->local.store,
		.fetch = client->fetch,
		.dirs = client->dirs,
		.pool = client->local.pool,
		.background = site->background,
		.tools = &site->tools,
		.cgroups = &site->cgroups,
		.limits = &site->limits,
		.allow = &site->allow,
		.is_brief = true,
		.filter = buf_slice(&site->filter),
		.actions_dir = site->actions_dir,
		.merged_dir = namespaces_dir(),
		.etc_dir = site->etc_dir,
		.user = namespaces_user(),
		.root_path = LAYOUT_ROOT,
		.worker_name = "",
		.entries_max = client->entries_max,
		.wait_limit_ns = SANDBOX_SITE_WAIT_NS,
	};
}

static struct error *sandbox_site_mount(struct sandbox_site *site)
{
	struct job_site *job = &site->job;
	struct session_config session = {
		.path = site->mount_dir,
		.mode = SESSION_PAGE_CACHE,
		.want_uring = true,
		.is_left = true,
		.owner_uid = job->user.uid,
		.owner_gid = job->user.gid,
	};

	job->ahead = treeahead_new(job->dirs, site->background);
	job->view = session.view = view_new(job->dirs);
	return session_start(&session, &job->session);
}

/* Before the rest, which goes on while it starts. */
static struct error *sandbox_site_launch(struct sandbox_site *site, bool has_terminal)
{
	struct launcher_config config = {.program = site->tools.program,
					 .bwrap = site->tools.bwrap,
					 .has_terminal = has_terminal};

	site->slot =
		(struct sandbox_slot){.tools = &site->tools, .cgroups = &site->cgroups};
	return launcher_new(&config, &site->slot.launcher);
}

struct error *sandbox_site_init(struct sandbox_site *site, struct client *client,
				bool has_terminal)
{
	struct error *err;

	/* what the command finds is made by us, and must be open to its user */
	*site = (struct sandbox_site){
		.scratch = SCRATCH_INIT, .has_mask = true, .mask = umask(022)};
	err = sandbox_find_tools(&site->tools);
	if (!err)
		err = sandbox_site_launch(site, has_terminal);
	if (!err)
		err = sandbox_site_allow(site);
	if (!err)
		err = sandbox_site_dirs(site, client);
	if (!err)
		err = pool_new("background", 2, &site->background);
	if (err)
		return err;
	sandbox_site_fill(site, client);
	return sandbox_site_mount(site);
}

void sandbox_site_deinit(struct sandbox_site *site)
{
	sandbox_slot_deinit(&site->slot);
	pool_free(site->background);
	session_free(site->job.session);
	treeahead_free(site->job.ahead);
	view_free(site->job.view);
	sandbox_tools_deinit(&site->tools);
	buf_deinit(&site->filter);
	if (site->etc_dir) /* the process may have another site later */
		error_free(file_remove_tree(AT_FDCWD, site->etc_dir));
	scratch_deinit(&site->scratch);
	if (site->has_mask)
		(void)umask(site->mask);
	free(site->mount_dir);
	free(site->actions_dir);
	free(site->etc_dir);
}
