/*
 * Owns log streams: the table by id, their files, who writes and who reads each.
 *
 * A stream is in one of two lists: live, by age, or ended, by when. It goes only from
 * the second, and only while nobody uses it; so what a reader or a writer points to
 * stays. size grows under the lock, after the bytes are in the file, which is made with
 * the first of them.
 */
#include "server/logstreams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/htab.h"
#include "lib/base/process.h"
#include "lib/base/sync.h"

struct logstreams {
	struct sync_mutex mutex; /* rank 2: taken with the queue's, and wakes calls */
	int dir_fd;
	size_t n_max;
	int64_t max_bytes;
	struct htab table SYNC_GUARDED_BY(&mutex);
	struct list live SYNC_GUARDED_BY(&mutex);
	struct list ended SYNC_GUARDED_BY(&mutex);
	int64_t bytes SYNC_GUARDED_BY(&mutex); /* of all */
	bool is_stopped SYNC_GUARDED_BY(&mutex);
};

struct logstream {
	struct logstreams *streams;
	char *instance;
	char id[LOGSTREAMS_ID_LEN + 1];
	char token[LOGSTREAMS_ID_LEN + 1];
	char *session, *lease; /* whose it is, or NULL */
	unsigned int which;
	/* streams->mutex guards the rest */
	int fd; /* -1: nothing was written yet */
	struct hnode node;
	struct list link; /* in live or ended */
	struct list readers;
	bool is_written; /* by a call, just now */
	bool is_ended;
	int64_t size;
	int64_t touched_ns; /* made, left by its writer, or ended */
};

struct logstreams *logstreams_new(int dir_fd, int64_t max_bytes)
{
	struct logstreams *streams = alloc_new(struct logstreams);
	size_t n_descriptors = process_descriptors() / 4;

	sync_mutex_init(&streams->mutex);
	sync_mutex_rank(&streams->mutex, 2);
	sync_alone(&streams->mutex);
	streams->dir_fd = dir_fd;
	streams->max_bytes =
		max_bytes < LOGSTREAMS_BYTES_MAX ? max_bytes : LOGSTREAMS_BYTES_MAX;
	streams->n_max = n_descriptors < LOGSTREAMS_MAX ? n_descriptors : LOGSTREAMS_MAX;
	list_init(&streams->live);
	list_init(&streams->ended);
	return streams;
}

/* ---- with the lock -------------------------------------------------------------- */

static struct logstream *logstreams_find(const struct logstreams *streams,
					 const struct logstreams_name *name)
	SYNC_REQUIRES(&streams->mutex)
{
	uint64_t key = slice_hash(name->id);

	for (struct hnode *n = htab_first(&streams->table, key); n;
	     n = htab_next(n, key)) {
		struct logstream *stream = container_of(n, struct logstream, node);

		if (slice_is(name->id, stream->id) &&
		    slice_is(name->instance, stream->instance))
			return stream;
	}
	return NULL;
}

static void *logstream_free(struct logstream *stream)
{
	if (!stream)
		return NULL;
	cleanup_fd(&stream->fd);
	free(stream->session);
	free(stream->lease);
	free(stream->instance);
	free(stream);
	return NULL;
}
CLEANUP_DEFINE(struct logstream, logstream_free)

static bool logstream_is_used(const struct logstream *stream)
{
	return stream->is_written || !list_is_empty(&stream->readers);
}

static void logstreams_drop(struct logstreams *streams, struct logstream *stream)
	SYNC_REQUIRES(&streams->mutex)
{
	require(!logstream_is_used(stream));
	htab_remove(&streams->table, &stream->node);
	list_remove(&stream->link);
	streams->bytes -= stream->size;
	logstream_free(stream);
}

/* The one that ended longest ago and that nobody reads; false: there is none. */
static bool logstreams_drop_oldest(struct logstreams *streams)
	SYNC_REQUIRES(&streams->mutex)
{
	list_for_each (it, &streams->ended) {
		struct logstream *stream = container_of(it, struct logstream, link);

		if (logstream_is_used(stream))
			continue;
		logstreams_drop(streams, stream);
		return true;
	}
	return false;
}

static void logstreams_wake(struct logstream *stream)
{
	list_for_each (it, &stream->readers)
		rpc_wake(container_of(it, struct logstream_reader, link)->in);
}

static void logstreams_close(struct logstreams *streams, struct logstream *stream,
			     int64_t now_ns) SYNC_REQUIRES(&streams->mutex)
{
	if (stream->is_ended)
		return;
	stream->is_ended = true;
	stream->touched_ns = now_ns;
	list_remove(&stream->link);
	list_push(&streams->ended, &stream->link);
	logstreams_wake(stream);
}

/* ---- as a whole ----------------------------------------------------------------- */

void *logstreams_free(struct logstreams *streams)
{
	if (!streams)
		return NULL;
	sync_lock(&streams->mutex);
	list_splice(&streams->ended, &streams->live);
	list_for_each_safe (it, &streams->ended)
		logstreams_drop(streams, container_of(it, struct logstream, link));
	htab_deinit(&streams->table);
	sync_unlock(&streams->mutex);
	sync_mutex_deinit(&streams->mutex);
	free(streams);
	return NULL;
}

void logstreams_tick(struct logstreams *streams, int64_t now_ns)
{
	sync_lock(&streams->mutex);
	list_for_each_safe (it, &streams->live) {
		struct logstream *stream = container_of(it, struct logstream, link);

		if (!stream->is_written && !stream->lease &&
		    now_ns - stream->touched_ns > LOGSTREAMS_IDLE_NS)
			logstreams_close(streams, stream, now_ns);
	}
	list_for_each_safe (it, &streams->ended) {
		struct logstream *stream = container_of(it, struct logstream, link);

		if (now_ns - stream->touched_ns <= LOGSTREAMS_KEPT_NS)
			break;
		if (!logstream_is_used(stream))
			logstreams_drop(streams, stream);
	}
	sync_unlock(&streams->mutex);
}

void logstreams_end(struct logstreams *streams, const char *name, int64_t now_ns)
{
	struct logstreams_name parsed;
	struct logstream *stream = NULL;

	if (!logstreams_parse(name, &parsed))
		return;
	sync_lock(&streams->mutex);
	stream = logstreams_find(streams, &parsed);
	if (stream) {
		logstreams_close(streams, stream, now_ns);
		if (stream->size == 0 && !logstream_is_used(stream))
			logstreams_drop(streams, stream);
	}
	sync_unlock(&streams->mutex);
}

void logstreams_stop(struct logstreams *streams)
{
	sync_lock(&streams->mutex);
	streams->is_stopped = true;
	list_for_each (it, &streams->live)
		logstreams_wake(container_of(it, struct logstream, link));
	sync_unlock(&streams->mutex);
}

/* ---- names ---------------------------------------------------------------------- */

/* ID, or ID/TOKEN, to the end of the text. */
static bool logstreams_parse_ids(const char *text, struct logstreams_name *out)
{
	size_t len = strlen(text);

	if (len != LOGSTREAMS_ID_LEN && len != 2 * LOGSTREAMS_ID_LEN + 1)
		return false;
	if (strspn(text, "0123456789abcdef") != LOGSTREAMS_ID_LEN)
		return false;
	out->id = (struct slice){(const uint8_t *)text, LOGSTREAMS_ID_LEN};
	out->token = slice_of("");
	if (len == LOGSTREAMS_ID_LEN)
		return true;
	text += LOGSTREAMS_ID_LEN + 1;
	out->token = (struct slice){(const uint8_t *)text, LOGSTREAMS_ID_LEN};
	return text[-1] == '/' && strspn(text, "0123456789abcdef") == LOGSTREAMS_ID_LEN;
}

bool logstreams_parse(const char *text, struct logstreams_name *out)
{
	static const char word[] = "logstreams/";
	const char *at = text;

	while ((at = strstr(at, word))) {
		size_t before = (size_t)(at - text);

		if ((before == 0 || at[-1] == '/') &&
		    logstreams_parse_ids(at + sizeof(word) - 1, out)) {
			out->instance = (struct slice){(const uint8_t *)text,
						       before ? before - 1 : 0};
			return true;
		}
		at++;
	}
	return false;
}

static void logstreams_random(char out[static LOGSTREAMS_ID_LEN + 1])
{
	uint8_t bytes[LOGSTREAMS_ID_LEN / 2];

	require(getrandom(bytes, sizeof(bytes), 0) == (ssize_t)sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		(void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* ---- making --------------------------------------------------------------------- */

static struct error *logstreams_add(struct logstreams *streams, struct logstream *stream)
	SYNC_EXCLUDES(&streams->mutex)
{
	struct error *err = NULL;

	sync_lock(&streams->mutex);
	if (streams->table.len >= streams->n_max && !logstreams_drop_oldest(streams))
		err = error_new(ERROR_RESOURCE_EXHAUSTED,
				"%zu log streams have not ended: that is the limit",
				streams->table.len);
	if (!err) {
		htab_insert(&streams->table, &stream->node,
			    slice_hash(slice_of(stream->id)));
		list_push(&streams->live, &stream->link);
	}
	sync_unlock(&streams->mutex);
	return err;
}

struct error *logstreams_create(struct logstreams *streams, const char *instance,
				const struct logstreams_lease *lease, int64_t now_ns,
				char name_out[static LOGSTREAMS_NAME_MAX],
				char write_name_out[static LOGSTREAMS_NAME_MAX])
{
	_cleanup_(logstream_freep) struct logstream *stream = alloc_new(struct logstream);
	struct error *err;

	stream->streams = streams;
	stream->fd = -1;
	if (lease) {
		stream->session = alloc_string(lease->session);
		stream->lease = alloc_string(lease->id);
		stream->which = lease->which;
	}
	stream->instance = alloc_string(instance);
	stream->touched_ns = now_ns;
	list_init(&stream->readers);
	logstreams_random(stream->id);
	logstreams_random(stream->token);
	(void)snprintf(name_out, LOGSTREAMS_NAME_MAX, "%s%slogstreams/%s", instance,
		       instance[0] ? "/" : "", stream->id);
	(void)snprintf(write_name_out, LOGSTREAMS_NAME_MAX, "%s%slogstreams/%s/%s",
		       instance, instance[0] ? "/" : "", stream->id, stream->token);
	err = logstreams_add(streams, stream);
	if (err)
		return err;
	(void)take(stream);
	return NULL;
}

/* ---- writing -------------------------------------------------------------------- */

static bool logstream_is_token(const struct logstream *stream, struct slice token)
{
	volatile unsigned int difference = 0;

	if (token.len != LOGSTREAMS_ID_LEN)
		return false;
	for (size_t i = 0; i < LOGSTREAMS_ID_LEN; i++)
		difference |= (unsigned int)(token.data[i] ^ (uint8_t)stream->token[i]);
	return difference == 0;
}

/* A wrong token finds nothing, so that it tells nothing either. */
static struct error *logstreams_find_to_write(struct logstreams *streams,
					      const struct logstreams_name *name,
					      struct logstream **out)
	SYNC_REQUIRES(&streams->mutex)
{
	struct logstream *stream = logstreams_find(streams, name);

	if (name->token.len == 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a log stream is not written by the name that it is "
				 "read by");
	if (!stream || !logstream_is_token(stream, name->token))
		return error_new(ERROR_NOT_FOUND, "there is no such log stream to write");
	*out = stream;
	return NULL;
}

struct error *logstreams_query(struct logstreams *streams,
			       const struct logstreams_name *name, int64_t *size_out,
			       bool *is_ended_out)
{
	struct logstream *stream = NULL;
	struct error *err;

	sync_lock(&streams->mutex);
	err = logstreams_find_to_write(streams, name, &stream);
	if (!err) {
		*size_out = stream->size;
		*is_ended_out = stream->is_ended;
	}
	sync_unlock(&streams->mutex);
	return err;
}

struct error *logstreams_write(struct logstreams *streams,
			       const struct logstreams_name *name, struct logstream **out)
{
	struct logstream *stream = NULL;
	struct error *err;

	sync_lock(&streams->mutex);
	err = logstreams_find_to_write(streams, name, &stream);
	if (!err && stream->is_written)
		err = error_new(ERROR_ABORTED, "another call writes this log stream");
	if (!err)
		stream->is_written = true;
	sync_unlock(&streams->mutex);
	if (!err)
		*out = stream;
	return err;
}

/* Whether so many bytes more may be; what has ended makes room. */
static struct error *logstream_reserve(struct logstream *stream, int64_t offset,
				       size_t len) SYNC_EXCLUDES(&stream->streams->mutex)
{
	struct logstreams *streams = stream->streams;
	struct error *err = NULL;

	sync_lock(&streams->mutex);
	if (stream->is_ended)
		err = error_new(ERROR_INVALID_ARGUMENT, "the log stream has ended");
	else if (offset != stream->size)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"write at %lld, but the log stream has %lld bytes",
				(long long)offset, (long long)stream->size);
	else if (stream->size + (int64_t)len > LOGSTREAMS_SIZE_MAX)
		err = error_new(ERROR_RESOURCE_EXHAUSTED,
				"a log stream has %lld bytes at most",
				(long long)LOGSTREAMS_SIZE_MAX);
	while (!err && streams->bytes + (int64_t)len > streams->max_bytes) {
		if (!logstreams_drop_oldest(streams))
			err = error_new(ERROR_RESOURCE_EXHAUSTED,
					"all log streams have %lld bytes at most",
					(long long)streams->max_bytes);
	}
	if (!err)
		streams->bytes += (int64_t)len;
	sync_unlock(&streams->mutex);
	return err;
}

static struct error *logstream_make_file(struct logstream *stream)
{
	struct logstreams *streams = stream->streams;
	int fd = openat(streams->dir_fd, "staging", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_errno(errno, "a log stream's file");
	sync_lock(&streams->mutex);
	stream->fd = fd;
	sync_unlock(&streams->mutex);
	return NULL;
}

/* Only who writes the stream alters fd. */
static struct error *logstream_put(struct logstream *stream, int64_t offset,
				   struct slice data)
{
	struct error *err = stream->fd < 0 ? logstream_make_file(stream) : NULL;

	if (err)
		return err;
	for (size_t done = 0; done < data.len;) {
		ssize_t n = pwrite(stream->fd, data.data + done, data.len - done,
				   (off_t)(offset + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "write a log stream");
		done += (size_t)n;
	}
	return NULL;
}

struct error *logstream_append(struct logstream *stream, int64_t offset,
			       struct slice data)
{
	struct logstreams *streams = stream->streams;
	struct error *err = logstream_reserve(stream, offset, data.len);

	if (error_code(err) == ERROR_RESOURCE_EXHAUSTED)
		logstream_end(stream, clock_mono_ns());
	if (err)
		return err;
	err = logstream_put(stream, offset, data);
	sync_lock(&streams->mutex);
	if (err)
		streams->bytes -= (int64_t)data.len;
	else
		stream->size += (int64_t)data.len;
	if (data.len > 0)
		logstreams_wake(stream);
	sync_unlock(&streams->mutex);
	if (err)
		logstream_end(stream, clock_mono_ns());
	return err;
}

void logstream_end(struct logstream *stream, int64_t now_ns)
{
	sync_lock(&stream->streams->mutex);
	logstreams_close(stream->streams, stream, now_ns);
	sync_unlock(&stream->streams->mutex);
}

int64_t logstream_size(const struct logstream *stream)
{
	int64_t size;

	sync_lock(&stream->streams->mutex);
	size = stream->size;
	sync_unlock(&stream->streams->mutex);
	return size;
}

bool logstream_lease(const struct logstream *stream, struct logstreams_lease *out)
{
	*out = (struct logstreams_lease){stream->session, stream->lease, stream->which};
	return stream->lease != NULL;
}

void logstream_leave(struct logstream *stream, int64_t now_ns)
{
	sync_lock(&stream->streams->mutex);
	stream->is_written = false;
	if (!stream->is_ended)
		stream->touched_ns = now_ns;
	sync_unlock(&stream->streams->mutex);
}

/* ---- reading -------------------------------------------------------------------- */

struct error *logstreams_read(struct logstreams *streams,
			      const struct logstreams_name *name, struct rpc_in *in,
			      struct logstream_reader *reader)
{
	struct logstream *stream;
	struct error *err = NULL;

	if (name->token.len > 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a log stream is not read by the name that it is "
				 "written by");
	sync_lock(&streams->mutex);
	stream = logstreams_find(streams, name);
	if (stream) {
		reader->stream = stream;
		reader->in = rpc_in_ref(in);
		list_push(&stream->readers, &reader->link);
	} else {
		err = error_new(ERROR_NOT_FOUND, "there is no such log stream");
	}
	sync_unlock(&streams->mutex);
	return err;
}

struct logstream_state logstream_reader_look(struct logstream_reader *reader)
{
	struct logstream *stream = reader->stream;
	struct logstreams *streams = stream->streams;
	struct logstream_state state;

	sync_lock(&streams->mutex);
	state.fd = stream->fd;
	state.size = stream->size;
	state.is_ended = stream->is_ended;
	state.is_stopped = streams->is_stopped;
	sync_unlock(&streams->mutex);
	return state;
}

void logstream_reader_leave(struct logstream_reader *reader)
{
	if (!reader->stream)
		return;
	sync_lock(&reader->stream->streams->mutex);
	list_remove(&reader->link);
	sync_unlock(&reader->stream->streams->mutex);
	reader->stream = NULL;
	reader->in = rpc_in_unref(reader->in);
}
