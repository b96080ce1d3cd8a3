/* Owns the choice of a scheduler's protocol, and what is the same in all of them. */
#include "worker/source/source.h"

#include "lib/base/alloc.h"
#include "worker/source/source_bots.h"

void *source_lease_free(struct source_lease *lease)
{
	if (!lease)
		return NULL;
	free(lease->id);
	buf_deinit(&lease->action_bytes);
	free(lease);
	return NULL;
}

struct error *source_start(const struct source_config *config, struct source **source_out)
{
	return source_bots_start(config, source_out);
}
