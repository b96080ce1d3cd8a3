/* Owns nothing but the options. Main thread. */
#include "client/artifact_run.h"

void artifact_run_deinit(struct artifact_run *run)
{
	artifact_caches_deinit(&run->caches);
	free(run->name);
}

struct error *artifact_run_check(struct artifact_run *run, struct client *client)
{
	struct error *err = NULL;

	if (!run->name)
		return NULL;
	err = error_wrap(artifact_check_name(run->name), "--artifact");
	if (!err)
		err = artifact_caches_open(&run->caches, client);
	if (!err && !artifact_caches_n_pushed_to(&run->caches))
		err = error_wrap(local_must_last(&client->local), "--artifact");
	return err;
}

struct error *artifact_run_keep(struct artifact_run *run, struct client *client,
				const struct artifact_source *source)
{
	_cleanup_(artifact_names_closep) struct artifact_names *names = NULL;
	int64_t now_ns = clock_wall_ns();
	struct artifact_name name = {
		.name = run->name,
		.made_s = now_ns / NS_PER_S,
		.expires_s = run->expire_ns ? (now_ns + run->expire_ns) / NS_PER_S : 0};
	size_t n_failed = 0;
	struct error *err = client_open_fetch(client);

	if (!err)
		err = artifact_make(client, source, &name.root);
	if (!err)
		err = artifact_names_open(&client->local, &names);
	if (!err)
		err = artifact_names_put(names, &name);
	if (!err && artifact_caches_n_pushed_to(&run->caches))
		err = artifact_caches_push(&run->caches, client, &name, &n_failed);
	if (!err && n_failed)
		err = error_new(
			ERROR_UNAVAILABLE,
			"artifact %s: %zu of its caches did not take it (lazyroot "
			"push tries again)",
			run->name, n_failed);
	return err;
}
