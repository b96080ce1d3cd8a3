/*
 * Owns the logs and the threads that send them. A log belongs to the job's thread and,
 * from its beginning on, to its task: whoever lets go of it last frees it. What is sent
 * is only the task's.
 *
 * A stream that breaks is gone on with where the other side says that it is.
 */
#include "worker/action/live_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/pool.h"
#include "lib/base/sync.h"
#include "lib/base/wire.h"
#include "lib/rpc/stream.h"

#define LOG_MODULE "live_log"
#include "lib/base/log.h"

#define LIVE_LOG_DELAY_NS (200 * NS_PER_MS) /* most commands are over by then */
#define LIVE_LOG_LOOK_NS  (100 * NS_PER_MS)
#define LIVE_LOG_GRACE_NS (500 * NS_PER_MS) /* that a result waits for its log */
#define LIVE_LOG_IDLE_MS  2000              /* for one message */
#define LIVE_LOG_PIECE    ((size_t)64 << 10)
#define LIVE_LOG_BREAKS   5

struct live_logs {
	struct rpc_chan *chan;
	struct pool *pool;
};

/* One of a log's two; its task's alone. */
struct live_stream {
	char *name;
	int fd; /* of the file; -1: not yet */
	int64_t at;
	struct rpc_stream *call; /* NULL: none is open */
	unsigned int n_breaks;
	bool has_begun; /* bytes were sent */
	bool is_lost;   /* at is the other side's to tell */
	bool is_over;   /* nothing more is sent */
};

struct live_log {
	struct live_logs *logs;
	struct pool_task task;
	struct live_stream streams[LIVE_LOG_STREAMS];
	bool may_be_left_out;
	int dir_fd;
	struct sync_mutex mutex;
	struct sync_cond cond;
	bool is_complete SYNC_GUARDED_BY(&mutex);
	bool has_begun SYNC_GUARDED_BY(&mutex); /* somebody may be reading */
	bool has_task SYNC_GUARDED_BY(&mutex);
	bool is_left SYNC_GUARDED_BY(&mutex); /* by its owner */
};

static const struct rpc_method live_log_write = {&bytestream__byte_stream__descriptor,
						 "Write"};
static const struct rpc_method live_log_query = {&bytestream__byte_stream__descriptor,
						 "QueryWriteStatus"};

struct error *live_logs_new(struct rpc_chan *chan, unsigned int n_threads,
			    struct live_logs **out)
{
	_cleanup_(live_logs_freep) struct live_logs *logs = alloc_new(struct live_logs);
	struct error *err = pool_new("log", n_threads, &logs->pool);

	logs->chan = chan;
	if (err)
		return err;
	*out = take(logs);
	return NULL;
}

void *live_logs_free(struct live_logs *logs)
{
	if (!logs)
		return NULL;
	pool_free(logs->pool);
	free(logs);
	return NULL;
}

/* ---- one stream ----------------------------------------------------------------- */

static void live_stream_deinit(struct live_stream *stream)
{
	rpc_stream_free(stream->call);
	cleanup_fd(&stream->fd);
	free(stream->name);
}

/* Ends the call, and asks why it ended. */
static struct error *live_stream_close(struct live_stream *stream)
{
	struct rpc_stream *call = take(stream->call);
	struct error *err = call ? rpc_stream_finish(call) : NULL;

	rpc_stream_free(call);
	return err;
}

/* Goes on later, if this may pass. Consumes err. */
static void live_stream_broke(struct live_stream *stream, struct error *err)
{
	stream->is_lost = true;
	stream->is_over =
		!err || rpc_retry_delay_ms(err, stream->n_breaks++, LIVE_LOG_BREAKS) < 0;
	if (stream->is_over)
		log_drop(LOG_INFO, err, "nobody can read along any more");
	else
		error_free(err);
}

/* Where the other side is. */
static struct error *live_stream_find(struct live_stream *stream, struct rpc_chan *chan)
{
	Bytestream__QueryWriteStatusRequest request =
		BYTESTREAM__QUERY_WRITE_STATUS_REQUEST__INIT;
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	const struct rpc_options options = {.timeout_ms = LIVE_LOG_IDLE_MS};
	const Bytestream__QueryWriteStatusResponse *response;
	ProtobufCMessage *message = NULL;
	struct error *err;

	request.resource_name = stream->name;
	err = rpc_call_message(chan, &live_log_query, &request.base, &options, &arena,
			       &message);
	if (err)
		return err;
	response = (const Bytestream__QueryWriteStatusResponse *)message;
	if (response->committed_size < 0 || response->committed_size > stream->at)
		return error_new(ERROR_INTERNAL,
				 "a log stream of %lld bytes, of which %lld were sent",
				 (long long)response->committed_size,
				 (long long)stream->at);
	stream->is_over = response->complete;
	stream->at = response->committed_size;
	stream->is_lost = false;
	return NULL;
}

/* WriteRequest: resource_name = 1, write_offset = 2, finish_write = 3, data = 10. */
static struct error *live_stream_send(struct live_stream *stream, struct rpc_chan *chan,
				      struct slice data, bool is_last)
{
	const struct rpc_options options = {.idle_ms = LIVE_LOG_IDLE_MS};
	_cleanup_buf_ struct buf head = BUF_INIT;
	bool is_broken = false;
	struct error *err = NULL;

	if (!stream->call) {
		wire_put_bytes(&head, 1, slice_of(stream->name));
		err = rpc_stream_open(chan, &live_log_write, &options, &stream->call);
	}
	if (err)
		return err;
	wire_put_int(&head, 2, (uint64_t)stream->at);
	wire_put_int(&head, 3, is_last);
	wire_put_head(&head, 10, data.len);
	err = rpc_stream_send(stream->call, buf_slice(&head), data, &is_broken);
	if (err || is_broken) {
		struct error *end = live_stream_close(stream);

		if (!err && !end) /* it wants no more, and all is well: so be it */
			stream->is_over = true;
		else if (err)
			error_free(end);
		return err ? err : end;
	}
	stream->at += (int64_t)data.len;
	stream->has_begun = stream->has_begun || data.len > 0;
	return NULL;
}

/* What the file has more; *n_out 0: nothing. */
static struct error *live_stream_read(struct live_stream *stream, int dir_fd,
				      const char *name, uint8_t *piece, size_t *n_out)
{
	ssize_t n;

	*n_out = 0;
	if (stream->fd < 0)
		stream->fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (stream->fd < 0)
		return errno == ENOENT ? NULL : error_errno(errno, "open %s", name);
	do
		n = pread(stream->fd, piece, LIVE_LOG_PIECE, stream->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(errno, "read %s", name);
	*n_out = (size_t)n;
	return NULL;
}

/* ---- a log, on a thread of its own ---------------------------------------------- */

static void live_log_began(struct live_log *log)
{
	sync_lock(&log->mutex);
	log->has_begun = true;
	sync_unlock(&log->mutex);
}

/* What came since the last time, and the end where it is_last. */
static void live_log_pump(struct live_log *log, size_t i, bool is_last)
{
	static const char *const names[LIVE_LOG_STREAMS] = {"stdout", "stderr"};
	struct live_stream *stream = &log->streams[i];
	struct rpc_chan *chan = log->logs->chan;
	_cleanup_free_ uint8_t *piece = alloc_zero(LIVE_LOG_PIECE);
	struct error *err = stream->is_lost ? live_stream_find(stream, chan) : NULL;
	size_t n = 0;

	do {
		if (!err && !stream->is_over)
			err = live_stream_read(stream, log->dir_fd, names[i], piece, &n);
		if (n > 0 && !err && !stream->is_over) {
			live_log_began(log);
			err = live_stream_send(stream, chan, (struct slice){piece, n},
					       false);
		}
	} while (!err && !stream->is_over && n > 0);
	if (!err && !stream->is_over && is_last) {
		err = live_stream_send(stream, chan, slice_of(""), true);
		if (!err)
			err = live_stream_close(stream);
		stream->is_over = !err;
	}
	if (err)
		live_stream_broke(stream, err);
}

/* Whether the command is over, after so long at most. */
static bool live_log_wait(struct live_log *log, int64_t ns)
{
	int64_t until_ns = clock_mono_ns() + ns;
	bool is_complete;

	sync_lock(&log->mutex);
	while (!log->is_complete && clock_mono_ns() < until_ns)
		(void)sync_wait_until(&log->cond, &log->mutex, until_ns);
	is_complete = log->is_complete;
	sync_unlock(&log->mutex);
	return is_complete;
}

static void live_log_destroy(struct live_log *log)
{
	for (size_t i = 0; i < LIVE_LOG_STREAMS; i++)
		live_stream_deinit(&log->streams[i]);
	cleanup_fd(&log->dir_fd);
	sync_cond_deinit(&log->cond);
	sync_mutex_deinit(&log->mutex);
	free(log);
}

static void live_log_run(struct pool_task *task)
{
	struct live_log *log = container_of(task, struct live_log, task);
	bool is_complete = live_log_wait(log, LIVE_LOG_DELAY_NS);
	bool is_wanted = !log->may_be_left_out;
	bool is_left;

	while (!is_complete) {
		for (size_t i = 0; i < LIVE_LOG_STREAMS; i++)
			live_log_pump(log, i, false);
		is_complete = live_log_wait(log, LIVE_LOG_LOOK_NS);
	}
	for (size_t i = 0; i < LIVE_LOG_STREAMS; i++)
		is_wanted = is_wanted || log->streams[i].has_begun;
	/* both or none: who reads one of them may read the other, too */
	for (size_t i = 0; i < LIVE_LOG_STREAMS && is_wanted; i++)
		live_log_pump(log, i, true);
	sync_lock(&log->mutex);
	log->has_task = false;
	is_left = log->is_left;
	sync_broadcast(&log->cond);
	sync_unlock(&log->mutex);
	if (is_left)
		live_log_destroy(log);
}

/* ---- its owner's ---------------------------------------------------------------- */

struct live_log *live_log_new(struct live_logs *logs,
			      const char *const names[static LIVE_LOG_STREAMS],
			      bool may_be_left_out)
{
	struct live_log *log = alloc_new(struct live_log);

	log->logs = logs;
	log->task.run = live_log_run;
	log->may_be_left_out = may_be_left_out;
	log->dir_fd = -1;
	for (size_t i = 0; i < LIVE_LOG_STREAMS; i++) {
		log->streams[i].fd = -1;
		log->streams[i].name = alloc_string(names[i]);
		log->streams[i].is_over = !names[i][0];
	}
	sync_mutex_init(&log->mutex);
	sync_cond_init(&log->cond);
	return log;
}

static void live_log_start(struct live_log *log)
{
	sync_lock(&log->mutex);
	log->has_task = true;
	sync_unlock(&log->mutex);
	pool_push(log->logs->pool, &log->task);
}

void live_log_begin(struct live_log *log, int dir_fd)
{
	log->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
	if (log->dir_fd >= 0)
		live_log_start(log);
}

void live_log_complete(struct live_log *log)
{
	sync_lock(&log->mutex);
	log->is_complete = true;
	sync_broadcast(&log->cond);
	sync_unlock(&log->mutex);
}

void *live_log_free(struct live_log *log)
{
	int64_t until_ns = clock_mono_ns() + LIVE_LOG_GRACE_NS;
	bool has_task;

	if (!log)
		return NULL;
	live_log_complete(log);
	if (log->dir_fd < 0 && !log->may_be_left_out)
		live_log_start(log);
	sync_lock(&log->mutex);
	while (log->has_task && log->has_begun && clock_mono_ns() < until_ns)
		(void)sync_wait_until(&log->cond, &log->mutex, until_ns);
	has_task = log->has_task;
	log->is_left = true;
	sync_unlock(&log->mutex);
	if (!has_task)
		live_log_destroy(log);
	return NULL;
}
