/* What a lease is made of, whatever protocol it came by. */
#include "lib/base/alloc.h"
#include "worker/source/source.h"

void *source_lease_free(struct source_lease *lease)
{
	if (!lease)
		return NULL;
	free(lease->id);
	free(lease->instance);
	free(lease->log_names[0]);
	free(lease->log_names[1]);
	buf_deinit(&lease->action_bytes);
	buf_deinit(&lease->metadata);
	free(lease);
	return NULL;
}
