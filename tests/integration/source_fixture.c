/*
 * Owns the worker and the source that it was given. One thread is the source's: what the
 * test orders is done there. Stories are written by the slots' threads, under the mutex.
 */
#include "tests/integration/source_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/process.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "worker/sandbox/layout.h"
#include "worker/worker.h"

#define PLAY_USER       61183
#define PLAY_WAIT_NS    ((int64_t)60 * 1000000000)
#define PLAY_ENTRIES    10000
#define PLAY_LEASES_MAX 32
#define PLAY_ORDERS_MAX 64

struct play_record {
	char *id;
	struct buf story;
	bool is_over;
	char *message;
	struct buf result;
};

struct play_order {
	struct source_lease *lease; /* to be assigned; or NULL: */
	char *cancel;
};

struct play {
	struct source base;
	const struct source_events *events;
	pthread_t thread;
	struct sync_mutex mutex;
	struct sync_cond changed;
	/* All guarded by mutex. */
	struct play_record records[PLAY_LEASES_MAX];
	size_t n_records;
	struct play_order orders[PLAY_ORDERS_MAX];
	size_t n_orders, n_done;
	bool is_draining;

	char dir[64];
	struct cgroups *cgroups;
	struct limits_policy limits;
	struct allow allow;
	struct worker *worker;
	uint16_t metrics_port;
	char *lost; /* a dead mount: it goes with a worker's process, which this is not */
};

/* ---- the source ----------------------------------------------------------------- */

static struct play_record *play_find(struct play *play, const char *id)
{
	for (size_t i = 0; i < play->n_records; i++)
		if (strcmp(play->records[i].id, id) == 0)
			return &play->records[i];
	require(!"a lease that nobody offered");
	return NULL;
}

static bool play_is_over(const struct play *play)
{
	if (!play->is_draining || play->n_done < play->n_orders)
		return false;
	for (size_t i = 0; i < play->n_records; i++)
		if (!play->records[i].is_over)
			return false;
	return true;
}

static void *play_run(void *arg)
{
	struct play *play = arg;

	play->events->ready(play->events->ctx, "play");
	sync_lock(&play->mutex);
	while (!play_is_over(play)) {
		struct play_order order;

		if (play->n_done == play->n_orders) {
			sync_wait(&play->changed, &play->mutex);
			continue;
		}
		order = play->orders[play->n_done++];
		sync_unlock(&play->mutex);
		if (order.lease)
			play->events->assign(play->events->ctx, order.lease);
		else
			play->events->cancel(play->events->ctx, order.cancel);
		free(order.cancel);
		sync_lock(&play->mutex);
	}
	sync_unlock(&play->mutex);
	play->events->ended(play->events->ctx, NULL);
	return NULL;
}

static void play_stage(struct source *source, const char *id, enum source_stage stage)
{
	static const char *const names[] = {"fetching ", "running ", "uploading "};
	struct play *play = container_of(source, struct play, base);

	sync_lock(&play->mutex);
	buf_add_string(&play_find(play, id)->story, names[stage]);
	sync_broadcast(&play->changed);
	sync_unlock(&play->mutex);
}

static void play_report(struct source *source, const char *id, struct error *status,
			struct buf *result)
{
	struct play *play = container_of(source, struct play, base);
	struct play_record *record;

	sync_lock(&play->mutex);
	record = play_find(play, id);
	buf_add_string(&record->story, error_code_name(error_code(status)));
	record->message = alloc_string(status ? error_text(status) : "");
	record->result = *result;
	*result = BUF_INIT;
	record->is_over = true;
	sync_broadcast(&play->changed);
	sync_unlock(&play->mutex);
	error_free(status);
}

static void play_drain(struct source *source)
{
	struct play *play = container_of(source, struct play, base);

	sync_lock(&play->mutex);
	play->is_draining = true;
	sync_broadcast(&play->changed);
	sync_unlock(&play->mutex);
}

static void *play_join(struct source *source)
{
	play_drain(source);
	(void)pthread_join(container_of(source, struct play, base)->thread, NULL);
	return NULL;
}

static const struct source_impl play_impl = {.stage = play_stage,
					     .report = play_report,
					     .drain = play_drain,
					     .free = play_join};

static struct play *play_next; /* which one start() is about: there is one at a time */

static struct error *play_start(const struct source_config *config,
				struct source **source_out)
{
	struct error *err;

	play_next->base.impl = &play_impl;
	play_next->events = config->events;
	err = thread_start("source", play_run, play_next, &play_next->thread);
	if (!err)
		*source_out = &play_next->base;
	return err;
}

/* ---- the worker ----------------------------------------------------------------- */

static void play_ready(const char *name)
{
	require(strcmp(name, "play") == 0);
}

/* One that nobody has now. */
static uint16_t play_free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	require(bind(fd, (struct sockaddr *)&address, len) == 0);
	require(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
	return ntohs(address.sin_port);
}

struct play *play_new(const char *server, const char *own_instance)
{
	static const struct source_kind kind = {.name = "play", .start = play_start};
	struct play *play = alloc_new(struct play);
	struct rpc_creds_options creds = {0};
	_cleanup_free_ char *cache = NULL;
	_cleanup_free_ char *metrics = NULL;
	struct worker_config config;
	struct error *err;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(play->dir, sizeof(play->dir), "/var/tmp/lazyroot-source-XXXXXX");
	require(mkdtemp(play->dir));
	cache = alloc_printf("%s/cache", play->dir);
	play->metrics_port = play_free_port();
	metrics = alloc_printf("127.0.0.1:%u", play->metrics_port);
	sync_mutex_init(&play->mutex);
	sync_cond_init(&play->changed);
	play->cgroups = cgroups_new();
	limits_init(&play->limits.normal);
	limits_init(&play->limits.most);
	config = (struct worker_config){.source = &kind,
					.server = server,
					.creds = &creds,
					.instance = own_instance,
					.cache = cache,
					.n_slots = 2,
					.user = {PLAY_USER, PLAY_USER},
					.root_path = LAYOUT_ROOT,
					.name = "play",
					.wait_limit_ns = PLAY_WAIT_NS,
					.entries_max = PLAY_ENTRIES,
					.cgroups = play->cgroups,
					.limits = &play->limits,
					.allow = &play->allow,
					.metrics = metrics};
	err = worker_new(&config, &play->worker);
	play_next = play;
	if (!err)
		err = worker_start(play->worker, play_ready);
	if (err)
		(void)fprintf(stderr, "the worker: %s\n", error_text(err));
	require(!err);
	return play;
}

void play_lose_mount(struct play *play, const char *name)
{
	struct pollfd lost = {.fd = worker_mount_fd(play->worker), .events = POLLIN};
	_cleanup_free_ char *point = alloc_printf(" %s/cache/%s ", play->dir, name);
	_cleanup_free_ char *abort_path = NULL;
	_cleanup_buf_ struct buf mounts = BUF_INIT;
	_cleanup_fd_ int fd = -1;
	unsigned int minor;
	const char *line;

	require(!file_read_all(AT_FDCWD, "/proc/thread-self/mountinfo", (size_t)1 << 20,
			       &mounts));
	line = strstr(buf_string(&mounts), point);
	require(line);
	while (line > buf_string(&mounts) && line[-1] != '\n')
		line--;
	require(sscanf(line, "%*d %*d 0:%u ", &minor) == 1);
	abort_path = alloc_printf("/sys/fs/fuse/connections/%u/abort", minor);
	fd = open(abort_path, O_WRONLY | O_CLOEXEC);
	require(fd >= 0 && write(fd, "1", 1) == 1);
	require(poll(&lost, 1, -1) == 1);
	play->lost = alloc_printf("%s/cache/%s", play->dir, name);
}

char *play_metrics(struct play *play)
{
	static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(play->metrics_port)};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_buf_ struct buf page = BUF_INIT;
	char piece[4096];
	ssize_t n;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	require(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	require(write(fd, request, sizeof(request) - 1) == sizeof(request) - 1);
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		buf_add(&page, piece, (size_t)n);
	return alloc_string(buf_string(&page));
}

void *play_free(struct play *play)
{
	struct pollfd end = {.fd = worker_end_fd(play->worker), .events = POLLIN};
	struct error *err;

	worker_drain(play->worker);
	require(poll(&end, 1, -1) == 1);
	require(!worker_end_error(play->worker));
	worker_free(play->worker);
	cgroups_free(play->cgroups);
	for (size_t i = 0; i < play->n_records; i++) {
		free(play->records[i].id);
		free(play->records[i].message);
		buf_deinit(&play->records[i].story);
		buf_deinit(&play->records[i].result);
	}
	sync_cond_deinit(&play->changed);
	sync_mutex_deinit(&play->mutex);
	require(!play->lost || umount2(play->lost, MNT_DETACH) == 0);
	free(play->lost);
	err = file_remove_tree(AT_FDCWD, play->dir);
	require(!err);
	free(play);
	return NULL;
}

/* ---- the test's side ------------------------------------------------------------ */

static void play_order(struct play *play, struct source_lease *lease, char *cancel)
{
	require(play->n_orders < PLAY_ORDERS_MAX);
	play->orders[play->n_orders++] = (struct play_order){lease, cancel};
	sync_broadcast(&play->changed);
}

static void play_add(struct play *play, const struct play_lease *offer)
{
	struct source_lease *lease = alloc_new(struct source_lease);

	lease->id = alloc_string(offer->id);
	lease->instance = alloc_string(offer->instance);
	lease->action = offer->action;
	lease->digest_function = offer->digest_function;
	require(play->n_records < PLAY_LEASES_MAX);
	play->records[play->n_records++] =
		(struct play_record){.id = alloc_string(offer->id)};
	play_order(play, lease, NULL);
}

void play_offer(struct play *play, const struct play_lease *offer)
{
	sync_lock(&play->mutex);
	play_add(play, offer);
	sync_unlock(&play->mutex);
}

void play_offer_and_cancel(struct play *play, const struct play_lease *offer)
{
	sync_lock(&play->mutex);
	play_add(play, offer);
	play_order(play, NULL, alloc_string(offer->id));
	sync_unlock(&play->mutex);
}

void play_cancel(struct play *play, const char *id)
{
	sync_lock(&play->mutex);
	play_order(play, NULL, alloc_string(id));
	sync_unlock(&play->mutex);
}

void play_await(struct play *play, const char *id, const char *word)
{
	sync_lock(&play->mutex);
	while (!strstr(buf_string(&play_find(play, id)->story), word))
		sync_wait(&play->changed, &play->mutex);
	sync_unlock(&play->mutex);
}

/* What is over does not change any more. */
static const struct play_record *play_await_end(struct play *play, const char *id)
{
	const struct play_record *record;

	sync_lock(&play->mutex);
	record = play_find(play, id);
	while (!record->is_over)
		sync_wait(&play->changed, &play->mutex);
	sync_unlock(&play->mutex);
	return record;
}

const char *play_story(struct play *play, const char *id)
{
	return buf_string(
		&((struct play_record *)(uintptr_t)play_await_end(play, id))->story);
}

struct slice play_result(struct play *play, const char *id)
{
	return buf_slice(&play_await_end(play, id)->result);
}

const char *play_message(struct play *play, const char *id)
{
	return play_await_end(play, id)->message;
}
