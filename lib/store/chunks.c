/*
 * Owns the way from a digest to its bytes where those may be a part of a larger blob, and
 * the thread that looks for chunks.
 *
 * Threads: any; what is known is chunk_map.c's, under its lock. The thread takes one blob
 * after the other, of a queue with a limit: what is left out is looked at when somebody
 * asks for its chunks.
 */
#define LOG_MODULE "chunks"

#include "lib/store/chunks.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/pool.h"
#include "lib/store/chunk_map.h"
#include "lib/tree/hasher.h"

#define CHUNKS_QUEUE_MAX 1024
#define CHUNKS_STEP      ((size_t)4 << 20)   /* read at once by the thread */
#define CHUNKS_NICE      10                  /* what is known soon is worth little now */
#define CHUNKS_READ_MAX  ((int64_t)32 << 20) /* no chunker's are larger */

struct chunks {
	struct store *store;
	struct chunk_map *map; /* NULL: nothing is known, nor will be */
	struct chunker chunker;
	int64_t min_size;
	struct pool *pool;
	_Atomic unsigned int n_queued;
	atomic_bool is_closing;
};

struct chunks_task {
	struct pool_task task;
	struct chunks *chunks;
	struct chunker chunker;
	struct digest blob;
};

struct error *chunks_open(const struct chunks_config *config, struct chunks **chunks_out)
{
	_cleanup_(chunks_closep) struct chunks *chunks = alloc_new(struct chunks);
	struct error *err = NULL;

	chunks->store = config->store;
	chunks->chunker = config->chunker;
	chunks->min_size = config->min_size;
	if (config->dir)
		err = chunk_map_open(config->dir, config->max_bytes, config->min_size,
				     &chunks->map);
	if (!err && config->dir)
		err = pool_new_low("chunks", 1, CHUNKS_NICE, &chunks->pool);
	if (err)
		return err;
	*chunks_out = take(chunks);
	return NULL;
}

void *chunks_close(struct chunks *chunks)
{
	if (!chunks)
		return NULL;
	atomic_store(&chunks->is_closing, true);
	pool_free(chunks->pool);
	chunk_map_close(chunks->map);
	free(chunks);
	return NULL;
}

bool chunks_are_known(struct chunks *chunks)
{
	return chunks->map && !chunk_map_is_empty(chunks->map);
}

bool chunks_are_of(const struct chunks *chunks, const struct digest *blob)
{
	return chunks->map && blob->size > (int64_t)chunks->chunker.max;
}

/* ---- a part of a blob ----------------------------------------------------------- */

static struct error *chunks_pread(int fd, int64_t at, uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			pread(fd, data + done, len - done, (off_t)(at + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "read");
		if (n == 0)
			return error_new(ERROR_DATA_LOSS, "a blob's file is too short");
		done += (size_t)n;
	}
	return NULL;
}

/* The chunk's bytes from where it is said to lie, appended to out; *is_it_out false: they
 * are others. */
static struct error *chunks_take(int fd, int64_t at, const struct digest *chunk,
				 struct buf *out, bool *is_it_out)
{
	size_t size = (size_t)chunk->size;
	struct digest got;
	struct error *err;

	buf_reserve(out, size);
	err = chunks_pread(fd, at, out->data + out->len, size);
	if (err)
		return err;
	hasher_digest(out->data + out->len, size, &got);
	*is_it_out = digest_equal(&got, chunk);
	if (*is_it_out)
		out->len += size;
	out->data[out->len] = '\0';
	return NULL;
}

/* Where the chunk lies in a blob that is here, and its bytes, verified; *fd_out -1 where
 * there is none. What is known wrongly is forgotten. */
static struct error *chunks_find(struct chunks *chunks, const struct digest *chunk,
				 struct buf *out, int *fd_out, int64_t *at_out)
{
	struct chunk_place places[CHUNK_MAP_PLACES];
	size_t n = chunk->size <= CHUNKS_READ_MAX
			   ? chunk_map_find(chunks->map, chunk, places)
			   : 0;

	*fd_out = -1;
	for (size_t i = 0; i < n; i++) {
		_cleanup_fd_ int fd = -1;
		bool is_it = false;
		struct error *err =
			store_get_verified(chunks->store, &places[i].blob, &fd);

		if (err)
			return err;
		if (fd < 0)
			continue;
		err = chunks_take(fd, places[i].at, chunk, out, &is_it);
		if (err)
			return err;
		if (is_it) {
			*fd_out = take_fd(fd);
			*at_out = places[i].at;
			return NULL;
		}
		log_warn("the chunks known of a blob are others: they are forgotten");
		chunk_map_drop(chunks->map, &places[i].blob);
	}
	return NULL;
}

bool chunks_have(struct chunks *chunks, const struct digest *digest,
		 struct digest *holder_out)
{
	struct chunk_place places[CHUNK_MAP_PLACES];
	const struct digest *holder = NULL;
	size_t n = 0;

	if (store_has(chunks->store, digest))
		holder = digest;
	else if (chunks->map)
		n = chunk_map_find(chunks->map, digest, places);
	for (size_t i = 0; i < n && !holder; i++) {
		if (store_has(chunks->store, &places[i].blob))
			holder = &places[i].blob;
	}
	if (holder && holder_out)
		*holder_out = *holder;
	return holder != NULL;
}

struct error *chunks_get(struct chunks *chunks, const struct digest *digest, int *fd_out,
			 int64_t *at_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err = store_get_verified(chunks->store, digest, fd_out);

	*at_out = 0;
	if (err || *fd_out >= 0 || !chunks->map)
		return err;
	return chunks_find(chunks, digest, &bytes, fd_out, at_out);
}

struct error *chunks_read(struct chunks *chunks, const struct digest *digest,
			  size_t limit, struct buf *out)
{
	_cleanup_error_ struct error *err = store_read(chunks->store, digest, limit, out);
	_cleanup_fd_ int fd = -1;
	struct error *failed;
	int64_t at;

	if (error_code(err) != ERROR_NOT_FOUND || !chunks->map)
		return take(err);
	failed = chunks_find(chunks, digest, out, &fd, &at);
	if (failed)
		return failed;
	return fd < 0 ? take(err) : NULL;
}

/* ---- looking for them ----------------------------------------------------------- */

struct error *chunks_tell(struct chunks *chunks, const struct digest *blob,
			  const struct chunk_list *list)
{
	return chunks->map && list->n <= CHUNK_MAP_CHUNKS
		       ? chunk_map_put(chunks->map, blob, list)
		       : NULL;
}

/* One that is smaller than chunks are kept, from its blob. */
static struct error *chunks_hold_one(struct chunks *chunks, const struct digest *blob,
				     const struct chunk *chunk)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_fd_ int fd = -1;
	bool is_it = false;
	struct error *err;

	if (store_has(chunks->store, &chunk->digest))
		return NULL;
	err = store_get_verified(chunks->store, blob, &fd);
	if (!err && fd >= 0)
		err = chunks_take(fd, chunk->at, &chunk->digest, &bytes, &is_it);
	if (!err && is_it)
		return store_put(chunks->store, &chunk->digest, bytes.data, bytes.len);
	return err ? err
		   : error_new(ERROR_NOT_FOUND, "a chunk is not in the store any more");
}

struct error *chunks_hold(struct chunks *chunks, const struct digest *blob,
			  const struct chunk_list *list)
{
	struct error *err = NULL;

	for (size_t i = 0; i < list->n && !err; i++) {
		if (list->items[i].digest.size < chunks->min_size)
			err = chunks_hold_one(chunks, blob, &list->items[i]);
	}
	return err;
}

static struct error *chunks_look_begin(struct chunks *chunks, const struct digest *blob,
				       struct chunks_look *look)
{
	look->has_begun = true;
	return store_get_verified(chunks->store, blob, &look->fd);
}

struct error *chunks_look(struct chunks *chunks, const struct digest *blob, size_t budget,
			  struct chunks_look *look, bool *is_over_out)
{
	struct chunk_list known = CHUNK_LIST_INIT;
	char name[DIGEST_STRING_MAX];
	struct error *err = NULL;
	bool is_known = false;

	*is_over_out = false;
	if (!look->has_begun)
		err = chunks_look_begin(chunks, blob, look);
	look->is_here = look->fd >= 0;
	/* each time: somebody else may be faster */
	if (!err && chunks->map)
		err = chunk_map_get(chunks->map, blob, &known, &is_known);
	if (is_known) {
		chunk_list_deinit(&look->list);
		look->list = known;
	}
	if (!err && !look->is_here && !is_known)
		err = error_new(ERROR_NOT_FOUND, "%s is not in the store",
				digest_format(blob, name));
	if (err)
		return err;
	*is_over_out = is_known;
	if (is_known)
		return NULL;
	err = chunker_read(look->chunker ? look->chunker : &chunks->chunker, look->fd,
			   blob->size, budget, &look->at, &look->list);
	if (!err && look->list.n > CHUNK_MAP_CHUNKS)
		err = error_new(ERROR_RESOURCE_EXHAUSTED,
				"a blob of %lld bytes has more than %d chunks",
				(long long)blob->size, CHUNK_MAP_CHUNKS);
	*is_over_out = !err && look->at == blob->size;
	return *is_over_out ? chunks_tell(chunks, blob, &look->list) : err;
}

void chunks_look_end(struct chunks_look *look)
{
	chunk_list_deinit(&look->list);
	if (look->has_begun && look->fd >= 0)
		(void)close(look->fd);
	*look = (struct chunks_look){0};
}

static void chunks_run(struct pool_task *task)
{
	struct chunks_task *one = container_of(task, struct chunks_task, task);
	struct chunks *chunks = one->chunks;
	struct chunks_look look = {.chunker = &one->chunker};
	struct error *err = NULL;
	bool is_over = false;

	while (!err && !is_over && !atomic_load(&chunks->is_closing))
		err = chunks_look(chunks, &one->blob, CHUNKS_STEP, &look, &is_over);
	if (err && error_code(err) != ERROR_NOT_FOUND) /* gone since */
		log_drop(LOG_INFO, take(err), "look for chunks");
	error_free(err);
	chunks_look_end(&look);
	atomic_fetch_sub(&chunks->n_queued, 1);
	free(one);
}

void chunks_note(struct chunks *chunks, const struct chunker *chunker,
		 const struct digest *blob)
{
	struct chunks_task *one;

	if (!chunker)
		chunker = &chunks->chunker;
	if (!chunks->map || blob->size <= (int64_t)chunker->max)
		return;
	if (atomic_fetch_add(&chunks->n_queued, 1) >= CHUNKS_QUEUE_MAX) {
		atomic_fetch_sub(&chunks->n_queued, 1);
		return;
	}
	one = alloc_new(struct chunks_task);
	one->task.run = chunks_run;
	one->chunks = chunks;
	one->chunker = *chunker;
	one->blob = *blob;
	pool_push(chunks->pool, &one->task);
}
