/*
 * Owns a fetch by chunks while it runs: which they are (one question to the server),
 * which are here, the others (fetched like any blobs, so in batches, several at once, and
 * each verified), and the whole, which is verified when it is put together.
 *
 * A first fetch is not to wait for it: nobody is asked while nothing is known of any
 * large blob, and an answer is waited for no longer than a twentieth of what the stream
 * would take, and a moment. One stream's thread is always left to others: those that wait
 * here wait for batches, but what is too large for one must not find all threads taken.
 */
#define LOG_MODULE "fetch"

#include "lib/cas/fetch_chunks.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/latch.h"
#include "lib/base/log.h"
#include "lib/store/chunks.h"

#define FETCH_CHUNKS_WORTHWHILE 4 /* one in so many bytes is here, at least */
#define FETCH_CHUNKS_PATIENCE   20
#define FETCH_CHUNKS_MOMENT_NS  (100 * NS_PER_MS)
#define FETCH_CHUNKS_PIECE      ((size_t)1 << 20)

struct fetch_chunks {
	struct fetch *fetch;
	const struct digest *blob;
	struct chunk_list list;
	struct digest *missing; /* each once */
	size_t n_missing;
	struct fetch_account account; /* of what is missing */
};

static void fetch_chunks_deinit(struct fetch_chunks *chunks)
{
	chunk_list_deinit(&chunks->list);
	free(chunks->missing);
}

/* ---- which ---------------------------------------------------------------------- */

static int64_t fetch_chunks_patience_ms(struct fetch *fetch, const struct digest *blob)
{
	struct fetch_way way;
	int64_t stream_ns;

	fetch_way(fetch, &way);
	stream_ns = (int64_t)((double)blob->size / (double)(way.rate ? way.rate : 1) *
			      (double)NS_PER_S);
	return (2 * way.rtt_ns + FETCH_CHUNKS_MOMENT_NS +
		stream_ns / FETCH_CHUNKS_PATIENCE) /
	       NS_PER_MS;
}

static int fetch_chunks_order(const void *a, const void *b)
{
	return digest_compare(a, b);
}

/* What is not here, each once; the bytes of the blob that are. */
static int64_t fetch_chunks_sort(struct fetch_chunks *chunks)
{
	const struct chunk_list *list = &chunks->list;
	int64_t here = 0;
	size_t n = 0, kept = 0;

	chunks->missing = alloc_array(list->n, sizeof(*chunks->missing));
	for (size_t i = 0; i < list->n; i++) {
		const struct digest *chunk = &list->items[i].digest;

		if (chunks_have(chunks->fetch->chunks, chunk, NULL))
			here += chunk->size;
		else
			chunks->missing[n++] = *chunk;
	}
	if (n)
		qsort(chunks->missing, n, sizeof(*chunks->missing), fetch_chunks_order);
	for (size_t i = 0; i < n; i++) {
		if (!kept ||
		    !digest_equal(&chunks->missing[kept - 1], &chunks->missing[i]))
			chunks->missing[kept++] = chunks->missing[i];
	}
	chunks->n_missing = kept;
	return here;
}

/* ---- the others ----------------------------------------------------------------- */

struct fetch_chunks_wait {
	struct latch latch;
	atomic_bool has_failed;
};

static void fetch_chunks_wished(void *ctx, struct error *err)
{
	struct fetch_chunks_wait *wait = ctx;

	if (err)
		atomic_store(&wait->has_failed, true);
	error_free(err);
	latch_down(&wait->latch);
}

static void fetch_chunks_fetched(void *ctx, struct error *err, int fd)
{
	if (fd >= 0)
		(void)close(fd);
	fetch_chunks_wished(ctx, err);
}

static void fetch_chunks_wish(struct fetch_chunks *chunks, struct fetch_chunks_wait *wait)
{
	_cleanup_free_ struct fetch_wish *wishes =
		alloc_array(chunks->n_missing, sizeof(*wishes));

	for (size_t i = 0; i < chunks->n_missing; i++)
		wishes[i] = (struct fetch_wish){.digest = chunks->missing[i],
						.account = &chunks->account,
						.owner = chunks,
						.done = fetch_chunks_wished,
						.ctx = wait};
	fetch_wish(chunks->fetch, wishes, chunks->n_missing);
}

/* As demand or ahead of it, as the blob itself is. */
static bool fetch_chunks_fetch(struct fetch_chunks *chunks, bool is_demand)
{
	struct fetch_chunks_wait wait = {0};

	latch_init(&wait.latch, chunks->n_missing);
	if (is_demand)
		fetch_start_all(chunks->fetch, chunks->missing, chunks->n_missing,
				&chunks->account, fetch_chunks_fetched, &wait);
	else
		fetch_chunks_wish(chunks, &wait);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
	return !atomic_load(&wait.has_failed);
}

/* ---- the whole ------------------------------------------------------------------ */

/* data has FETCH_CHUNKS_PIECE bytes. */
static struct error *fetch_chunks_copy(struct fetch_chunks *chunks,
				       const struct digest *chunk, struct staged *staged,
				       uint8_t *data)
{
	_cleanup_fd_ int fd = -1;
	int64_t at = 0, left = chunk->size;
	struct error *err = chunks_get(chunks->fetch->chunks, chunk, &fd, &at);

	if (!err && fd < 0)
		err = error_new(ERROR_NOT_FOUND,
				"a chunk was evicted as soon as it came");
	while (!err && left > 0) {
		size_t want = left < (int64_t)FETCH_CHUNKS_PIECE ? (size_t)left
								 : FETCH_CHUNKS_PIECE;
		ssize_t n = pread(fd, data, want, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_errno(errno, "read a chunk")
				     : error_new(ERROR_DATA_LOSS, "a chunk is too short");
		err = staged_write(staged, data, (size_t)n);
		at += n;
		left -= n;
	}
	return err;
}

static struct error *fetch_chunks_join(struct fetch_chunks *chunks, int *fd_out)
{
	_cleanup_free_ uint8_t *data =
		alloc_bounded(FETCH_CHUNKS_PIECE, FETCH_CHUNKS_PIECE);
	_cleanup_(staged_freep) struct staged *staged = NULL;
	struct error *err;

	if (!data)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory to copy chunks");
	err = staged_open(chunks->fetch->store, chunks->blob, true, &staged);
	for (size_t i = 0; !err && i < chunks->list.n; i++)
		err = fetch_chunks_copy(chunks, &chunks->list.items[i].digest, staged,
					data);
	if (!err)
		err = staged_commit(take(staged), fd_out);
	return err;
}

/* What was fetched is a part of the blob from now on, and known as that. */
static struct error *fetch_chunks_settle(struct fetch_chunks *chunks)
{
	struct error *err =
		chunks_tell(chunks->fetch->chunks, chunks->blob, &chunks->list);

	for (size_t i = 0; !err && i < chunks->n_missing; i++)
		store_remove(chunks->fetch->store, &chunks->missing[i]);
	return err;
}

/* ---- all of it ------------------------------------------------------------------ */

static struct error *fetch_chunks_run(struct fetch_chunks *chunks, bool is_demand,
				      struct fetch_chunked *out)
{
	struct fetch *fetch = chunks->fetch;
	struct error *err;

	out->n_trips++;
	err = remote_split(fetch->remote, chunks->blob,
			   fetch_chunks_patience_ms(fetch, chunks->blob), &chunks->list);
	if (err)
		return err;
	out->saved = fetch_chunks_sort(chunks);
	if (out->saved < chunks->blob->size / FETCH_CHUNKS_WORTHWHILE)
		return error_new(ERROR_NOT_FOUND, "too little of it is here");
	if (!fetch_chunks_fetch(chunks, is_demand))
		err = error_new(ERROR_UNAVAILABLE, "a chunk could not be fetched");
	out->n_trips += atomic_load(&chunks->account.round_trips);
	out->bytes = (int64_t)atomic_load(&chunks->account.bytes);
	if (!err)
		err = fetch_chunks_join(chunks, &out->fd);
	if (!err)
		log_drop(LOG_INFO, fetch_chunks_settle(chunks), "keep what chunks are");
	return err;
}

static bool fetch_chunks_are_of(struct fetch *fetch, const struct digest *blob,
				struct chunker *chunker_out)
{
	return fetch->chunks &&
	       remote_chunker(fetch->remote, REMOTE_SPLIT, chunker_out) &&
	       blob->size >= 2 * (int64_t)chunker_out->max;
}

bool fetch_chunks_get(struct fetch *fetch, const struct digest *blob, bool is_demand,
		      struct fetch_chunked *out)
{
	_cleanup_(fetch_chunks_deinit) struct fetch_chunks chunks = {.fetch = fetch,
								     .blob = blob};
	char name[DIGEST_STRING_MAX];
	struct chunker chunker;
	struct error *err = NULL;
	bool is_one;

	*out = (struct fetch_chunked){.fd = -1};
	if (!fetch_chunks_are_of(fetch, blob, &chunker) ||
	    !chunks_are_known(fetch->chunks))
		return false;
	is_one = atomic_fetch_add(&fetch->n_chunked, 1) < FETCH_STREAMS_MAX - 1;
	if (is_one)
		err = fetch_chunks_run(&chunks, is_demand, out);
	atomic_fetch_sub(&fetch->n_chunked, 1);
	if (err)
		log_drop(LOG_DEBUG, err, "%s comes whole", digest_format(blob, name));
	return out->fd >= 0;
}

void fetch_chunks_came(struct fetch *fetch, const struct digest *blob)
{
	struct chunker chunker;

	if (fetch_chunks_are_of(fetch, blob, &chunker))
		chunks_note(fetch->chunks, &chunker, blob);
}
