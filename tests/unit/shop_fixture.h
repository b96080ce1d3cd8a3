/*
 * What the tests of checkout and handover share: a filled store without any remote, and a
 * directory to put trees in.
 */
#pragma once

#include "tests/unit/cas_fixture.h"

#include "lib/cas/handover.h"
#include "lib/tree/treebuild.h"

struct shop {
	struct scratch *scratch;
	struct store *store;
	struct pool *pool;
	struct fetch *fetch;
	struct dircache *dirs;
	struct checkout_config config;
};

int shop_make(void **state);

int shop_drop(void **state);

struct digest keep(struct shop *shop, const char *text);

void put(struct shop *shop, struct treebuild *build, const char *path, const char *text);

struct digest finish(struct shop *shop, struct treebuild *build);

/* No ".lazyroot…~" stays behind. */
bool is_tidy(const struct shop *shop);
