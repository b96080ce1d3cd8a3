/* Owns both; the launcher lives in the directories, so it goes first. */
#include "worker/sandbox/sandbox_slot.h"

struct error *sandbox_slot_prepare(struct sandbox_slot *place)
{
	struct launcher_config config = {.program = place->tools->program,
					 .bwrap = place->tools->bwrap};
	struct error *err = NULL;

	if (!place->cgroup_v1)
		err = cgroup_v1_new(place->cgroups, place->number, &place->cgroup_v1);
	if (err || place->launcher)
		return err;
	config.joins = cgroup_v1_joins(place->cgroup_v1);
	return launcher_new(&config, &place->launcher);
}

void sandbox_slot_deinit(struct sandbox_slot *place)
{
	place->launcher = launcher_free(place->launcher);
	place->cgroup_v1 = cgroup_v1_free(place->cgroup_v1);
}
