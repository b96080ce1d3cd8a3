/*
 * Owns the streams' readers. A reader is its thread's while that runs (of files, one
 * thread has both); main looks at it before it is started and after it has ended.
 *
 * A read that breaks is gone on with at the next word of the service. Another name for
 * the same stream is another run of the command: what the first one said is void.
 */
#include "client/live.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "client/progress.h"
#include "client/retries.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/base/wire.h"
#include "lib/rpc/stream.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "live"
#include "lib/base/log.h"

#define LIVE_TRIES   2 /* a read that breaks is begun again where that may help */
#define LIVE_END_NS  (2 * NS_PER_S)   /* that a stream may end after its operation */
#define LIVE_LOOK_NS (50 * NS_PER_MS) /* between two looks at files */
#define LIVE_PIECE   ((size_t)64 << 10)

struct live_reader {
	struct live *live;
	pthread_t thread;
	bool has_thread; /* main's */
	char *name;      /* NULL: none was said */
	int to_fd;
	struct hasher *hasher; /* of what was shown */
	int64_t n_shown;
	bool is_over; /* there is no more to come */
	int from_fd;  /* the file; -1: none, or not yet */
	/* live->mutex guards the rest */
	struct rpc_stream *call;
	bool is_running;
};

struct live {
	struct client *client;
	struct live_reader readers[LIVE_STREAMS];
	struct digest shown[LIVE_STREAMS];
	bool has_ended; /* main's */
	int dir_fd;     /* of the files; -1: there are streams */
	pthread_t thread;
	bool has_thread; /* main's: of the files */
	struct sync_mutex mutex;
	struct sync_cond cond;
	bool is_ending SYNC_GUARDED_BY(&mutex);
};

static const struct rpc_method live_read = {&bytestream__byte_stream__descriptor, "Read"};

struct live *live_new(struct client *client, int stdout_fd)
{
	struct live *live = alloc_new(struct live);

	live->client = client;
	live->dir_fd = -1;
	for (size_t i = 0; i < LIVE_STREAMS; i++) {
		live->readers[i].live = live;
		live->readers[i].from_fd = -1;
		live->readers[i].hasher = hasher_new();
	}
	live->readers[0].to_fd = stdout_fd;
	live->readers[1].to_fd = STDERR_FILENO;
	sync_mutex_init(&live->mutex);
	sync_cond_init(&live->cond);
	return live;
}

bool live_is_wished(const struct live_wish *wish, int stdout_fd)
{
	return !wish->is_unwanted && (wish->is_wanted || isatty(stdout_fd));
}

/* ---- one stream, on its thread -------------------------------------------------- */

static struct error *live_show(struct live_reader *reader, struct slice bytes)
{
	struct error *err;

	progress_hush();
	err = file_write_all(reader->to_fd, bytes.data, bytes.len);
	if (err)
		return err;
	hasher_add(reader->hasher, bytes.data, bytes.len);
	reader->n_shown += (int64_t)bytes.len;
	return NULL;
}

/* The bytes of one ReadResponse: data = 10. */
static struct error *live_show_message(struct live_reader *reader, struct slice message)
{
	struct wire wire = wire_of(message);
	struct wire_field field;
	struct error *err = NULL;

	while (!err && wire_next(&wire, &field)) {
		if (field.number != 10 || field.type != WIRE_BYTES ||
		    field.bytes.len == 0)
			continue;
		err = live_show(reader, field.bytes);
	}
	return err;
}

/* False: it is over already. */
static bool live_set_call(struct live_reader *reader, struct rpc_stream *call)
{
	struct live *live = reader->live;
	bool goes_on;

	sync_lock(&live->mutex);
	goes_on = !live->is_ending || !call;
	reader->call = goes_on ? call : NULL;
	sync_unlock(&live->mutex);
	return goes_on;
}

static struct error *live_receive(struct live_reader *reader, struct rpc_stream *call)
{
	bool has_message = true;
	struct error *err = NULL;

	while (!err && has_message) {
		struct slice message = {0};

		err = rpc_stream_receive(call, &has_message, &message);
		if (!err && has_message)
			err = live_show_message(reader, message);
	}
	return err ? err : rpc_stream_finish(call);
}

static struct error *live_read_on(struct live_reader *reader)
{
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;
	_cleanup_(rpc_stream_freep) struct rpc_stream *call = NULL;
	bool is_broken = false;
	struct error *err;

	request.resource_name = reader->name;
	request.read_offset = reader->n_shown;
	err = rpc_stream_open(remote_chan(reader->live->client->execution), &live_read,
			      NULL, &call);
	if (!err)
		err = rpc_stream_send_message(call, &request.base, &is_broken);
	if (!err && !is_broken)
		err = rpc_stream_close_send(call);
	if (err || !live_set_call(reader, call))
		return err;
	err = live_receive(reader, call);
	(void)live_set_call(reader, NULL);
	return err;
}

static void *live_thread(void *arg)
{
	struct live_reader *reader = arg;
	struct live *live = reader->live;
	struct error *err = live_read_on(reader);

	/* what nobody can show, or nobody may read, is not asked for again */
	reader->is_over =
		!err || error_errnum(err) || rpc_retry_delay_ms(err, 0, LIVE_TRIES) < 0;
	log_drop(LOG_DEBUG, err, "%s is not read to its end", reader->name);
	sync_lock(&live->mutex);
	reader->is_running = false;
	sync_broadcast(&live->cond);
	sync_unlock(&live->mutex);
	return NULL;
}

/* ---- the files of a command that runs here, on their thread ---------------------- */

/* Waits for so long, or until it is over; whether it goes on. */
static bool live_wait(struct live *live, int64_t ns)
{
	int64_t until_ns = clock_mono_ns() + ns;
	bool is_ending;

	sync_lock(&live->mutex);
	while (!live->is_ending && clock_mono_ns() < until_ns)
		(void)sync_wait_until(&live->cond, &live->mutex, until_ns);
	is_ending = live->is_ending;
	sync_unlock(&live->mutex);
	return !is_ending;
}

/* What the file has more. A piece at a time: the other one has its turn, too. */
static struct error *live_look(struct live_reader *reader, const char *name,
			       uint8_t *piece, bool *has_more)
{
	struct error *err;
	size_t len = 0;

	/* not a FIFO that a command put there */
	if (reader->from_fd < 0)
		reader->from_fd = openat(reader->live->dir_fd, name,
					 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (reader->from_fd < 0)
		return errno == ENOENT ? NULL : error_errno(errno, "open %s", name);
	err = file_pread(reader->from_fd, piece, LIVE_PIECE, reader->n_shown, &len);
	if (!err && len)
		err = live_show(reader, (struct slice){piece, len});
	*has_more = *has_more || len == LIVE_PIECE;
	return err;
}

/* Until it is over; then the result has the rest. */
static void *live_files_thread(void *arg)
{
	static const char *const names[LIVE_STREAMS] = {"stdout", "stderr"};
	struct live *live = arg;
	_cleanup_free_ uint8_t *piece = alloc_zero(LIVE_PIECE);
	bool has_more;

	do {
		has_more = false;
		for (size_t i = 0; i < LIVE_STREAMS; i++) {
			struct live_reader *reader = &live->readers[i];
			struct error *err = NULL;

			if (!reader->is_over)
				err = live_look(reader, names[i], piece, &has_more);
			reader->is_over = reader->is_over || err;
			log_drop(LOG_DEBUG, err, "%s comes with the result", names[i]);
		}
	} while (live_wait(live, has_more ? 0 : LIVE_LOOK_NS));
	return NULL;
}

/* ---- main's --------------------------------------------------------------------- */

static void live_join(struct live_reader *reader)
{
	if (reader->has_thread)
		(void)pthread_join(reader->thread, NULL);
	reader->has_thread = false;
}

static void live_begin(struct live_reader *reader, const char *name)
{
	bool is_again = reader->has_thread;
	struct digest unused;
	struct error *err;

	live_join(reader);
	if (!reader->name || strcmp(reader->name, name) != 0) {
		if (reader->n_shown > 0)
			say("lazyroot: the worker was lost, and the command runs again: "
			    "what it said so far counts no more");
		free(reader->name);
		reader->name = alloc_string(name);
		hasher_end(reader->hasher, &unused);
		reader->n_shown = 0;
		reader->is_over = false;
		is_again = false;
	}
	if (reader->is_over)
		return;
	if (is_again) {
		retries_add();
		say("lazyroot: reading what the command says broke; it goes on where it "
		    "was");
	}
	reader->is_running = true;
	err = thread_start("log", live_thread, reader, &reader->thread);
	reader->has_thread = !err;
	reader->is_running = !err;
	log_drop(LOG_DEBUG, err, "the command's words come with its result");
}

void live_follow(struct live *live, const Reapi__ExecuteOperationMetadata *metadata)
{
	const char *names[LIVE_STREAMS] = {metadata->stdout_stream_name,
					   metadata->stderr_stream_name};

	for (size_t i = 0; i < LIVE_STREAMS; i++) {
		struct live_reader *reader = &live->readers[i];
		bool is_running;

		sync_lock(&live->mutex);
		is_running = reader->is_running;
		sync_unlock(&live->mutex);
		/* of a lost run, the stream ends soon */
		if (names[i][0] && !is_running)
			live_begin(reader, names[i]);
	}
}

void live_follow_files(struct live *live, int dir_fd)
{
	struct error *err = NULL;

	require(!live->has_thread);
	live->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
	if (live->dir_fd < 0)
		err = error_errno(errno, "keep the command's directory");
	if (!err)
		err = thread_start("log", live_files_thread, live, &live->thread);
	live->has_thread = !err;
	log_drop(LOG_DEBUG, err, "the command's words come with its result");
}

static bool live_is_running(const struct live *live)
{
	for (size_t i = 0; i < LIVE_STREAMS; i++)
		if (live->readers[i].is_running)
			return true;
	return false;
}

void live_end(struct live *live)
{
	int64_t until_ns = clock_mono_ns() + LIVE_END_NS;

	if (!live || live->has_ended)
		return;
	live->has_ended = true;
	sync_lock(&live->mutex);
	while (live_is_running(live) && clock_mono_ns() < until_ns)
		(void)sync_wait_until(&live->cond, &live->mutex, until_ns);
	live->is_ending = true;
	for (size_t i = 0; i < LIVE_STREAMS; i++)
		if (live->readers[i].call)
			rpc_stream_cancel(live->readers[i].call);
	sync_broadcast(&live->cond);
	sync_unlock(&live->mutex);
	if (live->has_thread)
		(void)pthread_join(live->thread, NULL);
	for (size_t i = 0; i < LIVE_STREAMS; i++) {
		live_join(&live->readers[i]);
		hasher_end(live->readers[i].hasher, &live->shown[i]);
	}
}

void live_shown(const struct live *live, size_t which, struct digest *out)
{
	*out = live->shown[which];
}

void *live_free(struct live *live)
{
	if (!live)
		return NULL;
	live_end(live);
	for (size_t i = 0; i < LIVE_STREAMS; i++) {
		free(live->readers[i].name);
		hasher_free(live->readers[i].hasher);
		cleanup_fd(&live->readers[i].from_fd);
	}
	cleanup_fd(&live->dir_fd);
	sync_cond_deinit(&live->cond);
	sync_mutex_deinit(&live->mutex);
	free(live);
	return NULL;
}
