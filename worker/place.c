/* Owns both; the launcher lives in the directories, so it goes first. */
#include "worker/place.h"

struct error *place_prepare(struct place *place)
{
	struct launcher_config config = {.shim = place->tools->shim,
					 .bwrap = place->tools->bwrap};
	struct error *err = NULL;

	if (!place->cgroup_v1)
		err = cgroup_v1_new(place->cgroups, place->number, &place->cgroup_v1);
	if (err || place->launcher)
		return err;
	config.joins = cgroup_v1_joins(place->cgroup_v1);
	return launcher_new(&config, &place->launcher);
}

void place_deinit(struct place *place)
{
	place->launcher = launcher_free(place->launcher);
	place->cgroup_v1 = cgroup_v1_free(place->cgroup_v1);
}
