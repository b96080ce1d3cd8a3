/*
 * Owns nothing. What is new to a server should cost little more than it would without
 * chunks: so some of the file is cut first, here and there, and only where the server has
 * any of that is all of it cut and asked about.
 *
 * The bytes are read again when they are sent. Where the file changed meanwhile, the
 * server finds that the whole is not what it should be, and the way without chunks tells
 * why.
 */
#define LOG_MODULE "upload"

#include "lib/cas/upload_chunks.h"

#include <errno.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/log.h"
#include "lib/store/chunk_map.h"
#include "lib/tree/chunker.h"

#define UPLOAD_SAMPLES     4
#define UPLOAD_SAMPLE_EACH 8 /* of the file, one more for so many largest chunks */
#define UPLOAD_CUT         ((size_t)8 << 20) /* read at once */
#define UPLOAD_BATCH       ((size_t)2 << 20) /* bytes of chunks in a call */
#define UPLOAD_WORTHWHILE  4 /* one in so many bytes is there already, at least */

/* The first chunk, or some from within the file, without the first of them: where that
 * begins is no cut. */
static struct error *upload_sample_at(const struct chunker *chunker,
				      const struct upload_chunks *upload, int64_t at,
				      struct chunk_list *out)
{
	struct chunk_list some = CHUNK_LIST_INIT;
	size_t skip = at > 0;
	struct error *err = chunker_read(chunker, upload->fd, upload->digest->size,
					 skip ? chunker->max : 0, &at, &some);

	for (size_t i = skip; i < some.n; i++)
		chunk_list_add(out, &some.items[i].digest);
	chunk_list_deinit(&some);
	return err;
}

static struct error *upload_sample(const struct chunker *chunker,
				   const struct upload_chunks *upload,
				   struct chunk_list *out)
{
	int64_t size = upload->digest->size;
	int64_t n = size / UPLOAD_SAMPLE_EACH / (int64_t)chunker->max;
	struct error *err = NULL;

	n = n < 1 ? 1 : n > UPLOAD_SAMPLES ? UPLOAD_SAMPLES : n;
	for (int64_t i = 0; !err && i < n; i++)
		err = upload_sample_at(chunker, upload, size / n * i, out);
	return err;
}

static struct error *upload_ask(struct upload_chunks *upload,
				const struct chunk_list *list, bool *is_missing)
{
	_cleanup_free_ struct digest *digests = alloc_array(list->n, sizeof(*digests));

	for (size_t i = 0; i < list->n; i++)
		digests[i] = list->items[i].digest;
	upload->n_calls++;
	return remote_find_missing(upload->remote, digests, list->n, is_missing);
}

/* Whether the server has any of the sample. */
static struct error *upload_probe(struct upload_chunks *upload,
				  const struct chunker *chunker, bool *is_known_out)
{
	struct chunk_list list = CHUNK_LIST_INIT;
	struct error *err = upload_sample(chunker, upload, &list);
	_cleanup_free_ bool *is_missing = alloc_array(list.n, sizeof(bool));

	*is_known_out = false;
	if (!err)
		err = upload_ask(upload, &list, is_missing);
	for (size_t i = 0; i < list.n && !err; i++)
		*is_known_out |= !is_missing[i];
	chunk_list_deinit(&list);
	return err;
}

static struct error *upload_cut(const struct upload_chunks *upload,
				const struct chunker *chunker, struct chunk_list *out)
{
	struct error *err = NULL;
	int64_t at = 0;

	while (!err && at < upload->digest->size) {
		err = chunker_read(chunker, upload->fd, upload->digest->size, UPLOAD_CUT,
				   &at, out);
		if (!err && !upload->goes_on(upload->ctx))
			err = error_new(ERROR_CANCELLED, "the upload was cancelled");
	}
	return err;
}

static int upload_chunk_order(const void *a, const void *b, void *ctx)
{
	const struct chunk_list *list = ctx;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int order = digest_compare(&list->items[x].digest, &list->items[y].digest);

	return order ? order : (x > y) - (x < y);
}

/* Of equal chunks only the first is sent. The bytes that are missing. */
static int64_t upload_distinct(const struct chunk_list *list, bool *is_missing)
{
	_cleanup_free_ uint32_t *order = alloc_array(list->n, sizeof(*order));
	int64_t bytes = 0;

	for (size_t i = 0; i < list->n; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, list->n, sizeof(*order), upload_chunk_order,
		(void *)(uintptr_t)list);
	for (size_t i = 1; i < list->n; i++) {
		if (digest_equal(&list->items[order[i]].digest,
				 &list->items[order[i - 1]].digest))
			is_missing[order[i]] = false;
	}
	for (size_t i = 0; i < list->n; i++)
		bytes += is_missing[i] ? list->items[i].digest.size : 0;
	return bytes;
}

/* A batch of missing chunks from *next on. */
struct upload_group {
	struct remote_put *puts;
	size_t n, cap;
	struct buf bytes;
};

static struct error *upload_group_read(struct upload_group *group,
				       const struct upload_chunks *upload,
				       const struct chunk *chunk)
{
	size_t size = (size_t)chunk->digest.size, done = 0;
	struct remote_put put = {.digest = chunk->digest};

	while (done < size) {
		ssize_t n = pread(upload->fd, group->bytes.data + group->bytes.len + done,
				  size - done, (off_t)(chunk->at + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_new(ERROR_FAILED_PRECONDITION,
					 "the file became shorter while it was uploaded");
		done += (size_t)n;
	}
	put.bytes = (struct slice){group->bytes.data + group->bytes.len, size};
	group->bytes.len += size;
	group->puts = alloc_grow(group->puts, &group->cap, group->n + 1, sizeof(put));
	group->puts[group->n++] = put;
	return NULL;
}

static struct error *upload_group_send(struct upload_group *group,
				       struct upload_chunks *upload)
{
	_cleanup_free_ struct error **errs = alloc_array(group->n, sizeof(*errs));
	struct error *err;

	if (!group->n)
		return NULL;
	if (!upload->goes_on(upload->ctx))
		return error_new(ERROR_CANCELLED, "the upload was cancelled");
	upload->n_calls++;
	err = remote_put_batch(upload->remote, group->puts, group->n, errs);
	for (size_t i = 0; i < group->n; i++) {
		if (!err)
			err = take(errs[i]);
		error_free(errs[i]);
		upload->bytes_sent += group->puts[i].digest.size;
	}
	group->n = 0;
	buf_clear(&group->bytes);
	return err;
}

static struct error *upload_missing(struct upload_chunks *upload,
				    const struct chunker *chunker,
				    const struct chunk_list *list, const bool *is_missing)
{
	size_t batch_max = remote_batch_max(upload->remote);
	size_t limit = chunker->max > UPLOAD_BATCH ? chunker->max
		       : batch_max > UPLOAD_BATCH  ? UPLOAD_BATCH
						   : batch_max;
	struct upload_group group = {0};
	struct error *err = NULL;

	buf_reserve(&group.bytes, limit); /* puts point into it: it stays where it is */
	for (size_t i = 0; i < list->n && !err; i++) {
		if (!is_missing[i])
			continue;
		if (group.bytes.len + (size_t)list->items[i].digest.size > limit)
			err = upload_group_send(&group, upload);
		if (!err)
			err = upload_group_read(&group, upload, &list->items[i]);
	}
	if (!err)
		err = upload_group_send(&group, upload);
	free(group.puts);
	buf_deinit(&group.bytes);
	return err;
}

/* *is_done_out false, without an error: too little of it is there. */
static struct error *upload_by_chunks(struct upload_chunks *upload,
				      const struct chunker *chunker,
				      const struct chunk_list *list, bool *is_done_out)
{
	_cleanup_free_ bool *is_missing = alloc_array(list->n, sizeof(bool));
	struct error *err = upload_ask(upload, list, is_missing);
	int64_t size = upload->digest->size;

	if (err || list->n > CHUNK_MAP_CHUNKS ||
	    upload_distinct(list, is_missing) > size - size / UPLOAD_WORTHWHILE)
		return err;
	err = upload_missing(upload, chunker, list, is_missing);
	if (!err) {
		upload->n_calls++;
		err = remote_splice(upload->remote, upload->digest, list);
	}
	*is_done_out = !err;
	return err;
}

bool upload_chunks_send(struct upload_chunks *upload)
{
	struct chunk_list list = CHUNK_LIST_INIT;
	char name[DIGEST_STRING_MAX];
	struct chunker chunker;
	bool is_known = false, is_done = false;
	struct error *err;

	if (!remote_chunker(upload->remote, REMOTE_SPLICE, &chunker) ||
	    upload->digest->size < 2 * (int64_t)chunker.max)
		return false;
	err = upload_probe(upload, &chunker, &is_known);
	if (!err && is_known)
		err = upload_cut(upload, &chunker, &list);
	if (!err && is_known)
		err = upload_by_chunks(upload, &chunker, &list, &is_done);
	chunk_list_deinit(&list);
	if (err)
		log_drop(LOG_INFO, err, "%s is sent whole",
			 digest_format(upload->digest, name));
	return is_done;
}
