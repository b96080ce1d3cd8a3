/*
 * Owns one upload while upload_run() runs: the list of what is missing, and the threads
 * that send it (UPLOAD_THREADS, each with one call in flight; the caller's is one of
 * them).
 *
 * Small blobs go in batches, what is larger than UPLOAD_STREAM_MIN by ByteStream. Work is
 * taken from one atomic counter; the first error stops the others, but for files that
 * changed where the caller wants to hear of all.
 */
#include "lib/cas/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/cas/upload_chunks.h"
#include "lib/tree/hasher.h"

#define UPLOAD_THREADS     6
#define UPLOAD_STREAM_MIN  (2 << 20) /* bytes */
#define UPLOAD_BATCH_BYTES (2 << 20)
#define UPLOAD_BATCH_BLOBS 500

/* A piece of work: one batch of small items, or one large one. */
struct upload_unit {
	size_t first;
	size_t n;
};

struct upload {
	const struct upload_config *config;
	const struct blob_source **items; /* missing ones, in order of size */
	size_t n;
	struct upload_unit *units;
	size_t n_units;
	size_t units_cap;
	atomic_size_t next_unit;
	int64_t bytes_total;
	_Atomic int64_t n_done, bytes_done, n_calls;
	_Atomic int64_t bytes_saved;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex);     /* the first */
	struct error *changed SYNC_GUARDED_BY(&mutex); /* the first file that did */
	atomic_bool has_failed;
};

static void upload_report(struct upload *upload)
{
	const struct upload_progress *progress = upload->config->progress;

	if (progress)
		progress->update(progress->ctx, upload->n_done, (int64_t)upload->n,
				 upload->bytes_done, upload->bytes_total);
}

static bool upload_is_cancelled(const struct upload *upload)
{
	const atomic_bool *is_cancelled = upload->config->is_cancelled;

	return is_cancelled && atomic_load(is_cancelled);
}

static bool upload_streamed(void *ctx, int64_t n_more)
{
	struct upload *upload = ctx;

	atomic_fetch_add(&upload->bytes_done, n_more);
	upload_report(upload);
	return !upload_is_cancelled(upload);
}

static bool upload_goes_on(void *ctx)
{
	return !upload_is_cancelled(ctx);
}

static bool upload_is_file(const struct blob_source *item)
{
	return item->from == BLOB_PATH || item->from == BLOB_FD;
}

static struct error *upload_changed(const struct blob_source *item)
{
	return error_new(ERROR_FAILED_PRECONDITION, "%s changed before it was uploaded",
			 item->path);
}

/* A file is opened as import opened it, whatever stands in its place by now. */
static struct error *upload_open_file(const struct upload *upload,
				      const struct blob_source *item, int *fd_out)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;
	struct error *err = file_open_beneath(upload->config->dir_fd, item->path,
					      O_RDONLY | O_NONBLOCK, 0, &fd);

	if (err && error_errnum(err) != EACCES && error_errnum(err) != EMFILE) {
		error_free(err);
		return upload_changed(item);
	}
	if (err)
		return err;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != item->digest.size)
		return upload_changed(item);
	*fd_out = take_fd(fd);
	return NULL;
}

static struct error *upload_open(const struct upload *upload,
				 const struct blob_source *item, int *fd_out)
{
	char name[DIGEST_STRING_MAX];
	struct error *err;
	int fd = -1;

	switch (item->from) {
	case BLOB_PATH:
		return upload_open_file(upload, item, fd_out);
	case BLOB_FD:
		fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return error_errno(errno, "open %s", item->path);
		break;
	case BLOB_STORE:
		err = store_get_verified(upload->config->store, &item->digest, &fd);
		if (err)
			return err;
		if (fd < 0)
			return error_new(ERROR_FAILED_PRECONDITION,
					 "%s left the local store before it was uploaded",
					 digest_format(&item->digest, name));
		break;
	case BLOB_BYTES:
		break;
	}
	require(fd >= 0);
	*fd_out = fd;
	return NULL;
}

/* Consumes the error that the upload of a file's bytes ended with; says so where they are
 * not those that were hashed, which is why a server refuses them. */
static struct error *upload_blame(const struct blob_source *item, bool is_changed,
				  struct error *err)
{
	if (!is_changed)
		return error_wrap(err, "upload %s", item->path);
	error_free(err);
	return upload_changed(item);
}

/* What a server that knows chunks has of a file already is not sent again. */
static bool upload_in_chunks(struct upload *upload, const struct digest *digest, int fd)
{
	struct upload_chunks chunks = {.remote = upload->config->remote,
				       .digest = digest,
				       .fd = fd,
				       .goes_on = upload_goes_on,
				       .ctx = upload};
	bool is_sent = upload_chunks_send(&chunks);

	atomic_fetch_add(&upload->n_calls, chunks.n_calls);
	if (!is_sent)
		return false;
	atomic_fetch_add(&upload->bytes_saved, digest->size - chunks.bytes_sent);
	(void)upload_streamed(upload, digest->size);
	return true;
}

static struct error *upload_stream(struct upload *upload, const struct blob_source *item)
{
	_cleanup_fd_ int fd = -1;
	struct error *err = NULL;

	if (item->from != BLOB_BYTES)
		err = upload_open(upload, item, &fd);
	if (err)
		return err;
	if (fd >= 0 && upload_in_chunks(upload, &item->digest, fd))
		return NULL;
	atomic_fetch_add(&upload->n_calls, 1);
	if (item->from == BLOB_BYTES)
		return remote_put_bytes(upload->config->remote, &item->digest,
					item->bytes);
	err = remote_put_fd(upload->config->remote, &item->digest, fd, upload_streamed,
			    upload);
	if (err && upload_is_file(item)) {
		struct error *unlike = hasher_verify_fd(fd, &item->digest);

		err = upload_blame(item, error_code(unlike) == ERROR_DATA_LOSS, err);
		error_free(unlike);
	}
	return err;
}

/* The bytes of a small item: borrowed, or read behind those already in memory. A file's
 * are hashed again: what changed must not take the rest of its batch along. */
static struct error *upload_load(struct upload *upload, const struct blob_source *item,
				 struct arena *arena, struct slice *out)
{
	_cleanup_fd_ int fd = -1;
	size_t size = (size_t)item->digest.size;
	struct digest got;
	uint8_t *data;
	ssize_t n;
	struct error *err;

	if (item->from == BLOB_BYTES) {
		*out = item->bytes;
		return NULL;
	}
	err = upload_open(upload, item, &fd);
	if (err)
		return err;
	data = arena_alloc(arena, size + 1);
	require(data); /* units are small */
	n = pread(fd, data, size + 1, 0);
	if (n < 0)
		return error_errno(errno, "read %s", item->path ? item->path : "a blob");
	if (upload_is_file(item)) {
		hasher_digest(data, (size_t)n, &got);
		if (!digest_equal(&got, &item->digest))
			return upload_changed(item);
	}
	*out = (struct slice){data, size};
	return NULL;
}

static struct error *upload_batch_errors(const struct blob_source *const *items, size_t n,
					 struct error **errs)
{
	struct error *first = NULL;
	char name[DIGEST_STRING_MAX];

	for (size_t i = 0; i < n; i++) {
		if (first)
			error_free(errs[i]);
		else
			first = error_wrap(
				errs[i], "upload %s",
				upload_is_file(items[i])
					? items[i]->path
					: digest_format(&items[i]->digest, name));
	}
	return first;
}

/* True: the caller of the upload is told, and the rest goes on. Consumes err then. */
static bool upload_tell_changed(struct upload *upload, const struct blob_source *item,
				struct error *err)
{
	if (!upload->config->changed || error_code(err) != ERROR_FAILED_PRECONDITION ||
	    !upload_is_file(item))
		return false;
	upload->config->changed(upload->config->changed_ctx, item);
	sync_lock(&upload->mutex);
	if (upload->changed)
		error_free(err);
	else
		upload->changed = err;
	sync_unlock(&upload->mutex);
	return true;
}

static struct error *upload_batch(struct upload *upload, const struct upload_unit *unit,
				  int64_t *bytes_out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)64 << 20);
	const struct blob_source *sent[UPLOAD_BATCH_BLOBS];
	struct remote_put puts[UPLOAD_BATCH_BLOBS];
	struct error *errs[UPLOAD_BATCH_BLOBS] = {0};
	struct error *err;
	size_t n = 0;

	for (size_t i = 0; i < unit->n; i++) {
		sent[n] = upload->items[unit->first + i];
		puts[n].digest = sent[n]->digest;
		err = upload_load(upload, sent[n], &arena, &puts[n].bytes);
		if (err && !upload_tell_changed(upload, sent[n], err))
			return err;
		if (err)
			continue;
		*bytes_out += sent[n++]->digest.size;
	}
	if (!n)
		return NULL;
	atomic_fetch_add(&upload->n_calls, 1);
	err = remote_put_batch(upload->config->remote, puts, n, errs);
	return err ? err : upload_batch_errors(sent, n, errs);
}

static struct error *upload_do(struct upload *upload, const struct upload_unit *unit)
{
	const struct blob_source *first = upload->items[unit->first];
	struct error *err;
	bool is_stream =
		first->digest.size > UPLOAD_STREAM_MIN ||
		first->digest.size > (int64_t)remote_batch_max(upload->config->remote);
	int64_t bytes = 0;

	if (upload_is_cancelled(upload))
		return error_new(ERROR_CANCELLED, "the upload was cancelled");
	if (is_stream) {
		err = upload_stream(upload, first);
		if (err && upload_tell_changed(upload, first, err))
			err = NULL;
		bytes = first->from == BLOB_BYTES ? first->digest.size : 0;
	} else {
		err = upload_batch(upload, unit, &bytes);
	}
	if (err)
		return err;
	atomic_fetch_add(&upload->n_done, (int64_t)unit->n);
	atomic_fetch_add(&upload->bytes_done, bytes);
	upload_report(upload);
	return NULL;
}

static void *upload_thread(void *arg)
{
	struct upload *upload = arg;
	size_t i;

	while (!atomic_load(&upload->has_failed) &&
	       (i = atomic_fetch_add(&upload->next_unit, 1)) < upload->n_units) {
		struct error *err = upload_do(upload, &upload->units[i]);

		if (!err)
			continue;
		sync_lock(&upload->mutex);
		if (!upload->err)
			upload->err = take(err);
		sync_unlock(&upload->mutex);
		error_free(err);
		atomic_store(&upload->has_failed, true);
	}
	return NULL;
}

/* Large ones first: the last call to end is then a small one. */
static int upload_order(const void *a, const void *b)
{
	const struct blob_source *x = *(const struct blob_source *const *)a;
	const struct blob_source *y = *(const struct blob_source *const *)b;

	if (x->digest.size != y->digest.size)
		return x->digest.size < y->digest.size ? 1 : -1;
	return digest_compare(&x->digest, &y->digest);
}

static void upload_plan(struct upload *upload)
{
	size_t batch_max = remote_batch_max(upload->config->remote);
	size_t limit = batch_max < UPLOAD_BATCH_BYTES ? batch_max : UPLOAD_BATCH_BYTES;
	size_t bytes = 0;

	for (size_t i = 0; i < upload->n; i++) {
		size_t size = (size_t)upload->items[i]->digest.size + 128;
		struct upload_unit *last =
			upload->n_units ? &upload->units[upload->n_units - 1] : NULL;

		upload->bytes_total += upload->items[i]->digest.size;
		if (last && bytes + size <= limit && last->n < UPLOAD_BATCH_BLOBS) {
			last->n++;
			bytes += size;
			continue;
		}
		upload->units = alloc_grow(upload->units, &upload->units_cap,
					   upload->n_units + 1, sizeof(*upload->units));
		upload->units[upload->n_units++] = (struct upload_unit){i, 1};
		bytes = size;
	}
}

static void upload_send(struct upload *upload)
{
	pthread_t threads[UPLOAD_THREADS - 1];
	struct error *err = NULL;
	size_t n_threads = 0;

	while (!err && n_threads + 1 < upload->n_units &&
	       n_threads < ARRAY_SIZE(threads)) {
		err = thread_start("upload", upload_thread, upload, &threads[n_threads]);
		n_threads += !err;
	}
	error_free(err); /* fewer do it, too */
	(void)upload_thread(upload);
	while (n_threads)
		(void)pthread_join(threads[--n_threads], NULL);
}

static void upload_deinit(struct upload *upload)
{
	free(upload->items);
	free(upload->units);
	sync_alone(&upload->mutex);
	error_free(upload->err);
	error_free(upload->changed);
	sync_mutex_deinit(&upload->mutex);
}

/* Distinct items, then those of them that the remote lacks. */
static struct error *upload_select(struct upload *upload, const struct blob_source *items,
				   size_t n)
{
	_cleanup_free_ struct digest *digests = alloc_array(n, sizeof(*digests));
	_cleanup_free_ bool *is_missing = alloc_array(n, sizeof(bool));
	struct error *err;
	size_t kept = 0;

	upload->items = alloc_array(n, sizeof(*upload->items));
	for (size_t i = 0; i < n; i++)
		upload->items[i] = &items[i];
	if (n)
		qsort(upload->items, n, sizeof(*upload->items), upload_order);
	for (size_t i = 0; i < n; i++) {
		if (kept && digest_equal(&digests[kept - 1], &upload->items[i]->digest))
			continue;
		upload->items[kept] = upload->items[i];
		digests[kept++] = upload->items[i]->digest;
	}
	err = remote_find_missing(upload->config->remote, digests, kept, is_missing);
	if (err)
		return err;
	for (size_t i = 0; i < kept; i++) {
		if (is_missing[i])
			upload->items[upload->n++] = upload->items[i];
	}
	return NULL;
}

struct error *upload_run(const struct upload_config *config,
			 const struct blob_source *items, size_t n,
			 struct upload_stats *stats_out)
{
	_cleanup_(upload_deinit) struct upload upload = {.config = config,
							 .mutex = SYNC_MUTEX_INIT};
	uint64_t shrunk_before = remote_saved_up(config->remote);
	struct error *err;

	err = upload_select(&upload, items, n);
	if (err)
		return err;
	upload_plan(&upload);
	upload_report(&upload);
	upload_send(&upload);
	sync_alone(&upload.mutex);
	if (upload.err)
		return take(upload.err);
	if (upload.changed)
		return take(upload.changed);
	upload_report(&upload); /* its threads may have told theirs in any order */
	if (stats_out)
		*stats_out = (struct upload_stats){
			.n_sent = upload.n_done,
			.bytes_sent = upload.bytes_done - upload.bytes_saved,
			.bytes_saved = upload.bytes_saved,
			.bytes_shrunk = (int64_t)(remote_saved_up(config->remote) -
						  shrunk_before),
			.n_calls = upload.n_calls};
	return NULL;
}
