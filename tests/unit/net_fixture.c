/* What net_fixture.h declares; the tests of one program run on one thread. */
#include "tests/unit/net_fixture.h"

void *net_free(struct net *net)
{
	dircache_free(net->dirs);
	fetch_free(net->fetch);
	remote_free(net->remote);
	rpc_chan_free(net->chan);
	fake_free(net->fake);
	chunks_close(net->chunks);
	store_close(net->store);
	pool_free(net->pool);
	assert_int_equal(scratch_drop(&net->scratch_state), 0);
	free(net);
	return NULL;
}

struct net *net_new(const struct net_config *config)
{
	static const struct net_config plain;
	struct net *net = alloc_new(struct net);
	_cleanup_free_ char *address = NULL;
	_cleanup_free_ char *dir = NULL;
	struct fake_config fake;
	struct store_config store;
	const Reapi__ServerCapabilities *caps;

	config = config ? config : &plain;
	assert_int_equal(scratch_make(&net->scratch_state), 0);
	net->scratch = net->scratch_state;
	address = alloc_printf("unix:%s/sock", net->scratch->path);
	dir = alloc_printf("%s/store", net->scratch->path);
	fake = (struct fake_config){.address = address,
				    .batch_max = config->batch_max,
				    .tree_page = config->tree_page,
				    .has_zstd = config->has_zstd,
				    .chunk_average = config->chunk_average,
				    .has_mappings = config->has_mappings};
	store = (struct store_config){.dir = dir, .size_limit = (int64_t)1 << 30};
	expect_ok(pool_new("test", 2, &net->pool));
	expect_ok(store_open(&store, &net->store));
	if (config->chunk_average)
		expect_ok(chunks_open(
			&(struct chunks_config){.store = net->store, .dir = dir},
			&net->chunks));
	net->fake = fake_new(&fake);
	expect_ok(
		rpc_chan_new(&(struct rpc_chan_config){.address = address}, &net->chan));
	expect_ok(remote_new(&(struct remote_config){.chan = net->chan,
						     .n_retries = NET_RETRIES,
						     .timeout_ms = config->timeout_ms},
			     &net->remote));
	expect_ok(fetch_new(&(struct fetch_config){.store = net->store,
						   .remote = net->remote,
						   .pool = net->pool,
						   .chunks = net->chunks},
			    &net->fetch));
	net->dirs = dircache_new(net->fetch, config->memory_max ? config->memory_max
								: DIRCACHE_MEMORY_MAX);
	expect_ok(remote_capabilities(net->remote, &caps));
	while (fake_n_calls(net->fake, FAKE_CAPABILITIES) < 2)
		(void)sched_yield(); /* the fetcher's own question meets no fault */
	return net;
}

void net_bytes(unsigned int seed, size_t size, struct buf *out)
{
	uint64_t state = seed + 1;

	buf_reserve(out, size);
	for (size_t i = 0; i < size; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		buf_add_byte(out, (uint8_t)(state >> 56));
	}
}

struct digest net_blob(struct net *net, unsigned int seed, size_t size, bool is_there)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;

	net_bytes(seed, size, &bytes);
	if (is_there)
		return fake_put(net->fake, bytes.data, bytes.len);
	hasher_digest(bytes.data, bytes.len, &digest);
	return digest;
}

void net_blobs(struct net *net, unsigned int seed, size_t size, size_t n,
	       struct digest *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = net_blob(net, seed + (unsigned int)i, size, true);
}

void net_expect_fd(int fd, const struct digest *digest)
{
	expect_ok(hasher_verify_fd(fd, digest));
	assert_int_equal(close(fd), 0);
}

void net_expect_missing(struct error *err, const struct digest *digest)
{
	char text[DIGEST_STRING_MAX];
	_cleanup_free_ char *subject =
		alloc_printf("blobs/%s", digest_format(digest, text));

	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	assert_int_equal(error_n_missing(err), 1);
	assert_string_equal(error_missing(err, 0), subject);
	error_free(err);
}

void net_expect_not_stored(struct net *net, const struct digest *digest)
{
	struct store_stats stats;

	assert_false(store_has(net->store, digest));
	store_stats(net->store, &stats);
	assert_int_equal(stats.n_blobs, 0);
}

struct tree_node net_dir_node(const char *name, const struct digest *digest)
{
	return (struct tree_node){
		.name = slice_of(name), .kind = TREE_DIR, .digest = *digest};
}

struct tree_node net_file_node(const char *name, int64_t size)
{
	struct tree_node node = {
		.name = slice_of(name), .kind = TREE_FILE, .digest = digest_of(name)};

	node.digest.size = size;
	return node;
}

struct digest net_put_dir(struct net *net, const struct tree_node *nodes, size_t n)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	expect_ok(tree_encode(nodes, n, NULL, &bytes));
	return fake_put(net->fake, bytes.data, bytes.len);
}

struct digest net_put_leaf(struct net *net, const char *name)
{
	struct tree_node node = net_file_node(name, 10);

	return net_put_dir(net, &node, 1);
}

void net_answered(void *ctx, struct error *err, int fd)
{
	struct net_answers *answers = ctx;

	(void)pthread_mutex_lock(&answers->mutex);
	answers->n_good += !err && fd >= 0;
	if (err)
		answers->code = error_code(err);
	if (--answers->n_left == 0)
		(void)pthread_cond_signal(&answers->cond);
	(void)pthread_mutex_unlock(&answers->mutex);
	error_free(err);
	if (fd >= 0)
		(void)close(fd);
}

void net_wished(void *ctx, struct error *err)
{
	struct net_answers *answers = ctx;

	(void)pthread_mutex_lock(&answers->mutex);
	answers->n_good += !err;
	if (err)
		answers->code = error_code(err);
	if (--answers->n_left == 0)
		(void)pthread_cond_signal(&answers->cond);
	(void)pthread_mutex_unlock(&answers->mutex);
	error_free(err);
}

void net_start(struct net *net, const struct digest *digests, size_t n,
	       enum fetch_priority priority, struct net_answers *answers)
{
	for (size_t i = 0; i < n; i++) {
		const struct fetch_wish wish = {.digest = digests[i],
						.owner = answers,
						.done = net_wished,
						.ctx = answers};

		if (priority == FETCH_DEMAND)
			fetch_start(net->fetch, &digests[i], NULL, net_answered, answers);
		else
			fetch_wish(net->fetch, &wish, 1);
	}
}

size_t net_await(struct net_answers *answers)
{
	size_t n_good;

	(void)pthread_mutex_lock(&answers->mutex);
	while (answers->n_left)
		(void)pthread_cond_wait(&answers->cond, &answers->mutex);
	n_good = answers->n_good;
	(void)pthread_mutex_unlock(&answers->mutex);
	return n_good;
}
