/* Owns the list of schedulers' protocols. */
#include "worker/source/source.h"

#include "worker/source/source_bots.h"

const struct source_kind source_kinds[] = {
	{"bots", source_bots_start}, /* the Remote Workers API */
};
