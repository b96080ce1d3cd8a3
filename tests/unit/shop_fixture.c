/* What shop_fixture.h declares; the tests of one program run on one thread. */
#include "tests/unit/shop_fixture.h"

int shop_make(void **state)
{
	struct shop *shop = alloc_new(struct shop);
	_cleanup_free_ char *dir = NULL;
	struct store_config store_config = {.size_limit = (int64_t)1 << 30};
	struct fetch_config fetch_config;

	if (scratch_make((void **)&shop->scratch))
		return -1;
	dir = alloc_printf("%s/store", shop->scratch->path);
	store_config.dir = dir;
	expect_ok(store_open(&store_config, &shop->store));
	expect_ok(pool_new("test", 2, &shop->pool));
	fetch_config = (struct fetch_config){.store = shop->store, .pool = shop->pool};
	expect_ok(fetch_new(&fetch_config, &shop->fetch));
	shop->dirs = dircache_new(shop->fetch, DIRCACHE_MEMORY_MAX);
	shop->config = (struct checkout_config){.dirs = shop->dirs, .pool = shop->pool};
	*state = shop;
	return 0;
}

int shop_drop(void **state)
{
	struct shop *shop = *state;
	void *scratch = shop->scratch;

	dircache_free(shop->dirs);
	fetch_free(shop->fetch);
	pool_free(shop->pool);
	store_close(shop->store);
	free(shop);
	return scratch_drop(&scratch);
}

struct digest keep(struct shop *shop, const char *text)
{
	struct digest digest = digest_of(text);

	expect_ok(store_put(shop->store, &digest, text, strlen(text)));
	return digest;
}

static struct error *keep_dir(void *ctx, const struct digest *digest, struct slice bytes)
{
	struct shop *shop = ctx;

	return store_put(shop->store, digest, bytes.data, bytes.len);
}

void put(struct shop *shop, struct treebuild *build, const char *path, const char *text)
{
	struct digest digest = keep(shop, text);

	expect_ok(treebuild_put_file(build, path, &digest, false, NULL));
}

struct digest finish(struct shop *shop, struct treebuild *build)
{
	struct digest root = {0};

	expect_ok(treebuild_finish(build, keep_dir, shop, &root));
	return root;
}

bool is_tidy(const struct shop *shop)
{
	_cleanup_free_ char *command = alloc_printf(
		"test $(find %s -name '.lazyroot*' | wc -l) = 0", shop->scratch->path);

	return system(command) == 0;
}
