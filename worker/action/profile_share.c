/*
 * Owns a few threads, which ask and tell, and a bound on what waits for them: past that,
 * nothing is shared. Asking goes before telling, and has a thread of its own. Each errand
 * has a deadline: who asked has long gone on when it is late.
 */
#include "worker/action/profile_share.h"

#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "profiles"
#include "lib/base/log.h"

#define PROFILE_SHARE_THREADS     3 /* one more than tell at once */
#define PROFILE_SHARE_WAITING_MAX 64
/* An answer is waited for so many round trips, and as long as a large one takes. */
#define PROFILE_SHARE_TRIPS      8
#define PROFILE_SHARE_ASK_MIN_NS (NS_PER_S / 4)
#define PROFILE_SHARE_ASK_MAX_NS (2 * NS_PER_S)
#define PROFILE_SHARE_TELL_NS    (5 * NS_PER_S)
/* For how long nothing is asked, or told, once the storage has said no. */
#define PROFILE_SHARE_PAUSE_NS     (2 * NS_PER_S)
#define PROFILE_SHARE_PAUSE_MAX_NS (600 * NS_PER_S)
/* Bytes that stand in the result itself; a larger profile is a blob of its own. */
#define PROFILE_SHARE_INLINE ((size_t)64 << 10)

struct profile_errand {
	struct list link;
	struct digest key;
	int64_t until_ns;      /* of one that asks: nobody waits for it any more */
	profile_share_fn *got; /* NULL: the profile is told, not asked for */
	void *ctx;
	struct buf bytes;
};

/* Whether the storage takes what is asked, or told. */
struct profile_leave {
	int64_t pause_ns; /* the last one; 0: it did not say no of late */
	int64_t until_ns;
	bool is_said; /* in the log, once */
};

struct profile_share {
	struct fetch *fetch;
	pthread_t threads[PROFILE_SHARE_THREADS];
	size_t n_threads;
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct list asked SYNC_GUARDED_BY(&mutex);
	struct list told SYNC_GUARDED_BY(&mutex);
	size_t n_waiting SYNC_GUARDED_BY(&mutex);
	size_t n_telling SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	struct profile_leave ask SYNC_GUARDED_BY(&mutex);
	struct profile_leave tell SYNC_GUARDED_BY(&mutex);
};

static void *profile_errand_free(struct profile_errand *errand)
{
	if (errand)
		buf_deinit(&errand->bytes);
	free(errand);
	return NULL;
}

/* Whether the storage would say the same of another profile. */
static bool profile_share_is_refused(const struct error *err)
{
	switch (error_code(err)) {
	case ERROR_UNIMPLEMENTED:
	case ERROR_PERMISSION_DENIED:
	case ERROR_UNAUTHENTICATED:
	case ERROR_FAILED_PRECONDITION:
	case ERROR_INVALID_ARGUMENT:
		return true;
	default:
		return false;
	}
}

/* For this errand alone. */
static struct error *profile_share_remote(const struct profile_share *share,
					  int64_t until_ns, struct remote **out)
{
	struct remote *remote = fetch_remote(share->fetch);
	const struct remote_config config = {.chan = remote_chan(remote),
					     .instance = remote_instance(remote),
					     .n_retries = 1,
					     .until_ns = until_ns};

	return remote_new(&config, out);
}

static int64_t profile_share_patience(const struct profile_share *share)
{
	struct fetch_way way;
	int64_t ns;

	fetch_way(share->fetch, &way);
	if (!way.rtt_ns || way.rate <= 0)
		return PROFILE_SHARE_ASK_MAX_NS;
	ns = PROFILE_SHARE_TRIPS * way.rtt_ns +
	     (int64_t)((double)PROFILE_BYTES_MAX / (double)way.rate * (double)NS_PER_S);
	ns = ns > PROFILE_SHARE_ASK_MIN_NS ? ns : PROFILE_SHARE_ASK_MIN_NS;
	return ns < PROFILE_SHARE_ASK_MAX_NS ? ns : PROFILE_SHARE_ASK_MAX_NS;
}

/* The bytes of a profile's result. */
static struct error *profile_share_read(struct profile_share *share,
					struct remote *remote,
					const Reapi__ActionResult *result,
					struct buf *out)
{
	struct store *store = fetch_store(share->fetch);
	const ProtobufCBinaryData *raw = &result->stdout_raw;
	_cleanup_fd_ int fd = -1;
	struct digest digest;
	struct error *err;

	if (raw->len) {
		if (raw->len <= PROFILE_BYTES_MAX)
			buf_add(out, raw->data, raw->len);
		return NULL;
	}
	err = digest_from_wire(result->stdout_digest, &digest);
	if (err || (uint64_t)digest.size > PROFILE_BYTES_MAX)
		return err;
	if (!store_has(store, &digest))
		err = remote_read_blob(remote, &digest, store, &fd);
	return err ? err : store_read(store, &digest, PROFILE_BYTES_MAX, out);
}

/* What the storage said of an errand decides about the next ones. */
static void profile_share_judge(struct profile_leave *leave, const char *what,
				const struct error *err)
{
	int64_t pause_ns = leave->pause_ns * 2;

	if (!err)
		leave->pause_ns = 0;
	if (!profile_share_is_refused(err) || clock_mono_ns() < leave->until_ns)
		return; /* others that were under way are told the same */
	pause_ns = pause_ns > PROFILE_SHARE_PAUSE_NS ? pause_ns : PROFILE_SHARE_PAUSE_NS;
	leave->pause_ns = pause_ns < PROFILE_SHARE_PAUSE_MAX_NS
				  ? pause_ns
				  : PROFILE_SHARE_PAUSE_MAX_NS;
	leave->until_ns = clock_mono_ns() + leave->pause_ns;
	if (!leave->is_said)
		log_info("profiles are not %s for now, which is tried again now and "
			 "then: %s",
			 what, error_text(err));
	leave->is_said = true;
}

static void profile_share_ask(struct profile_share *share, struct profile_errand *errand)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)32 << 20);
	_cleanup_(remote_freep) struct remote *remote = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct profile profile = PROFILE_INIT;
	Reapi__ActionResult *result = NULL;
	struct error *err = profile_share_remote(share, errand->until_ns, &remote);

	if (!err)
		err = remote_get_action(remote, &errand->key, &arena, &result);
	sync_lock(&share->mutex);
	profile_share_judge(&share->ask, "asked for", err);
	sync_unlock(&share->mutex);
	if (!err && result)
		err = profile_share_read(share, remote, result, &bytes);
	if (!err && bytes.len)
		err = profile_decode(buf_slice(&bytes), &profile);
	log_drop(LOG_DEBUG, err, "ask for a profile");
	errand->got(errand->ctx, &profile);
	profile_deinit(&profile);
}

static void profile_share_tell(struct profile_share *share, struct profile_errand *errand)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	_cleanup_(remote_freep) struct remote *remote = NULL;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	struct error *err = profile_share_remote(
		share, clock_mono_ns() + PROFILE_SHARE_TELL_NS, &remote);

	if (!err && errand->bytes.len <= PROFILE_SHARE_INLINE) {
		result.stdout_raw = (ProtobufCBinaryData){.data = errand->bytes.data,
							  .len = errand->bytes.len};
	} else if (!err) {
		struct digest digest;

		hasher_digest(errand->bytes.data, errand->bytes.len, &digest);
		result.stdout_digest = digest_to_arena(&digest, &arena);
		err = remote_put_bytes(remote, &digest, buf_slice(&errand->bytes));
	}
	if (!err)
		err = remote_put_action(remote, &errand->key, &result);
	sync_lock(&share->mutex);
	profile_share_judge(&share->tell, "shared", err);
	sync_unlock(&share->mutex);
	log_drop(LOG_DEBUG, err, "share a profile");
}

/* Whether the storage has not refused that kind of errand of late. */
static bool profile_share_may(const struct profile_share *share,
			      const struct profile_errand *errand)
	SYNC_REQUIRES(&share->mutex)
{
	int64_t now_ns = clock_mono_ns();

	if (!errand->got)
		return now_ns >= share->tell.until_ns;
	return now_ns >= share->ask.until_ns && now_ns < errand->until_ns;
}

static void profile_share_do(struct profile_share *share, struct profile_errand *errand,
			     bool may)
{
	if (may && errand->got)
		profile_share_ask(share, errand);
	else if (may)
		profile_share_tell(share, errand);
	else if (errand->got)
		errand->got(errand->ctx, &PROFILE_INIT);
	(void)profile_errand_free(errand);
}

/* What goes next, or NULL. */
static struct profile_errand *profile_share_next(struct profile_share *share)
	SYNC_REQUIRES(&share->mutex)
{
	struct list *link = list_pop(&share->asked);

	if (!link && share->n_telling + 1 < PROFILE_SHARE_THREADS) {
		link = list_pop(&share->told);
		share->n_telling += link != NULL;
	}
	share->n_waiting -= link != NULL;
	return link ? container_of(link, struct profile_errand, link) : NULL;
}

static void *profile_share_run(void *arg)
{
	struct profile_share *share = arg;

	sync_lock(&share->mutex);
	while (!share->is_stopping) {
		struct profile_errand *errand = profile_share_next(share);
		bool tells;
		bool may;

		if (!errand) {
			sync_wait(&share->cond, &share->mutex);
			continue;
		}
		tells = !errand->got;
		may = profile_share_may(share, errand);
		sync_unlock(&share->mutex);
		profile_share_do(share, errand, may);
		sync_lock(&share->mutex);
		share->n_telling -= tells; /* this thread looks for the next one */
	}
	sync_unlock(&share->mutex);
	return NULL;
}

/* Takes the errand over where it may be run; NULL then. */
static struct profile_errand *profile_share_push(struct profile_share *share,
						 struct profile_errand *errand)
{
	bool is_taken;

	sync_lock(&share->mutex);
	is_taken = !share->is_stopping && share->n_waiting < PROFILE_SHARE_WAITING_MAX &&
		   profile_share_may(share, errand);
	if (is_taken) {
		share->n_waiting++;
		list_push(errand->got ? &share->asked : &share->told, &errand->link);
		sync_broadcast(&share->cond);
	}
	sync_unlock(&share->mutex);
	return is_taken ? NULL : errand;
}

void profile_share_get(struct profile_share *share, const struct digest *key,
		       profile_share_fn *got, void *ctx)
{
	struct profile_errand *errand = alloc_new(struct profile_errand);

	*errand = (struct profile_errand){.key = *key,
					  .until_ns = clock_mono_ns() +
						      profile_share_patience(share),
					  .got = got,
					  .ctx = ctx};
	list_init(&errand->link);
	errand = profile_share_push(share, errand);
	if (!errand)
		return;
	(void)profile_errand_free(errand);
	got(ctx, &PROFILE_INIT);
}

void profile_share_put(struct profile_share *share, const struct digest *key,
		       const struct profile *profile)
{
	struct profile_errand *errand = alloc_new(struct profile_errand);

	errand->key = *key;
	list_init(&errand->link);
	profile_encode(profile, &errand->bytes);
	(void)profile_errand_free(profile_share_push(share, errand));
}

struct error *profile_share_new(struct fetch *fetch, struct profile_share **out)
{
	_cleanup_(profile_share_freep) struct profile_share *share =
		alloc_new(struct profile_share);

	sync_mutex_init(&share->mutex);
	sync_cond_init(&share->cond);
	sync_alone(&share->mutex);
	list_init(&share->asked);
	list_init(&share->told);
	share->fetch = fetch;
	while (share->n_threads < PROFILE_SHARE_THREADS) {
		struct error *err = thread_start("profiles", profile_share_run, share,
						 &share->threads[share->n_threads]);

		if (err)
			return err;
		share->n_threads++;
	}
	*out = take(share);
	return NULL;
}

void profile_share_stop(struct profile_share *share)
{
	struct list waiting = LIST_INIT(waiting);
	struct list *link;

	sync_lock(&share->mutex);
	share->is_stopping = true;
	list_splice(&waiting, &share->asked);
	list_splice(&waiting, &share->told);
	sync_broadcast(&share->cond);
	sync_unlock(&share->mutex);
	while ((link = list_pop(&waiting))) {
		struct profile_errand *errand =
			container_of(link, struct profile_errand, link);

		if (errand->got)
			errand->got(errand->ctx, &PROFILE_INIT);
		(void)profile_errand_free(errand);
	}
}

void *profile_share_free(struct profile_share *share)
{
	if (!share)
		return NULL;
	profile_share_stop(share);
	while (share->n_threads)
		(void)pthread_join(share->threads[--share->n_threads], NULL);
	sync_cond_deinit(&share->cond);
	sync_mutex_deinit(&share->mutex);
	free(share);
	return NULL;
}
