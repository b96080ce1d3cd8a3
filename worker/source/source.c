/* Owns the list of schedulers' protocols. */
#include "worker/source/source.h"

#include <string.h>

#include "worker/source/source_bots.h"
#include "worker/source/source_buildbarn.h"

static const struct source_kind source_kinds[] = {
	{"bots", source_bots_start, false, false},         /* the Remote Workers API */
	{"buildbarn", source_buildbarn_start, true, true}, /* its OperationQueue */
};

struct error *source_kind_find(const char *name, const struct source_kind **kind_out)
{
	for (size_t i = 0; i < ARRAY_SIZE(source_kinds); i++)
		if (!name || strcmp(source_kinds[i].name, name) == 0) {
			*kind_out = &source_kinds[i];
			return NULL;
		}
	return error_new(ERROR_INVALID_ARGUMENT, "--source %s is not bots or buildbarn",
			 name);
}
