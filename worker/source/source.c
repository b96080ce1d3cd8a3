/* Owns the choice of a scheduler's protocol. */
#include "worker/source/source.h"

#include "worker/source/source_bots.h"

struct error *source_start(const struct source_config *config, struct source **source_out)
{
	return source_bots_start(config, source_out);
}
