/*
 * Owns one thread, which asks and tells one after the other, and a bound on what waits
 * for it: past that, nothing is shared. Asking goes before telling.
 */
#include "worker/action/profile_share.h"

#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "profiles"
#include "lib/base/log.h"

#define PROFILE_SHARE_TIMEOUT_MS  2000
#define PROFILE_SHARE_WAITING_MAX 64
/* Bytes that stand in the result itself; a larger profile is a blob of its own. */
#define PROFILE_SHARE_INLINE ((size_t)64 << 10)

struct profile_errand {
	struct list link;
	struct digest key;
	profile_share_fn *got; /* NULL: the profile is told, not asked for */
	void *ctx;
	struct buf bytes;
};

struct profile_share {
	struct fetch *fetch;
	struct remote *remote; /* of our own: it gives up soon */
	pthread_t thread;
	bool has_thread;
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct list asked SYNC_GUARDED_BY(&mutex);
	struct list told SYNC_GUARDED_BY(&mutex);
	size_t n_waiting SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	bool may_ask SYNC_GUARDED_BY(&mutex); /* the storage has not said no */
	bool may_tell SYNC_GUARDED_BY(&mutex);
};

static void *profile_errand_free(struct profile_errand *errand)
{
	if (errand)
		buf_deinit(&errand->bytes);
	free(errand);
	return NULL;
}

/* Whether the storage will never say anything else. */
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

/* The bytes of a profile's result. */
static struct error *profile_share_read(struct profile_share *share,
					const Reapi__ActionResult *result,
					struct buf *out)
{
	const ProtobufCBinaryData *raw = &result->stdout_raw;
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
	return fetch_bytes(share->fetch, &digest, PROFILE_BYTES_MAX, NULL, out);
}

static void profile_share_ask(struct profile_share *share, struct profile_errand *errand)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)32 << 20);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct profile profile = PROFILE_INIT;
	Reapi__ActionResult *result = NULL;
	struct error *err =
		remote_get_action(share->remote, &errand->key, &arena, &result);

	if (profile_share_is_refused(err)) {
		log_info("profiles are not asked for any more: %s", error_text(err));
		sync_lock(&share->mutex);
		share->may_ask = false;
		sync_unlock(&share->mutex);
	}
	if (!err && result)
		err = profile_share_read(share, result, &bytes);
	if (!err && bytes.len)
		err = profile_decode(buf_slice(&bytes), &profile);
	log_drop(LOG_DEBUG, err, "ask for a profile");
	errand->got(errand->ctx, &profile);
	profile_deinit(&profile);
}

static void profile_share_tell(struct profile_share *share, struct profile_errand *errand)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	struct error *err = NULL;

	if (errand->bytes.len <= PROFILE_SHARE_INLINE) {
		result.stdout_raw = (ProtobufCBinaryData){.data = errand->bytes.data,
							  .len = errand->bytes.len};
	} else {
		struct digest digest;

		hasher_digest(errand->bytes.data, errand->bytes.len, &digest);
		result.stdout_digest = digest_to_arena(&digest, &arena);
		err = remote_put_bytes(share->remote, &digest, buf_slice(&errand->bytes));
	}
	if (!err)
		err = remote_put_action(share->remote, &errand->key, &result);
	if (profile_share_is_refused(err)) {
		log_info("profiles are not shared any more: %s", error_text(err));
		sync_lock(&share->mutex);
		share->may_tell = false;
		sync_unlock(&share->mutex);
	}
	log_drop(LOG_DEBUG, err, "share a profile");
}

/* Whether the storage has not refused that kind of errand. */
static bool profile_share_may(const struct profile_share *share,
			      const struct profile_errand *errand)
	SYNC_REQUIRES(&share->mutex)
{
	return errand->got ? share->may_ask : share->may_tell;
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

static void *profile_share_run(void *arg)
{
	struct profile_share *share = arg;

	sync_lock(&share->mutex);
	while (!share->is_stopping) {
		struct list *link = list_pop(&share->asked);
		struct profile_errand *errand;
		bool may;

		link = link ? link : list_pop(&share->told);
		if (!link) {
			sync_wait(&share->cond, &share->mutex);
			continue;
		}
		share->n_waiting--;
		errand = container_of(link, struct profile_errand, link);
		may = profile_share_may(share, errand);
		sync_unlock(&share->mutex);
		profile_share_do(share, errand, may);
		sync_lock(&share->mutex);
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

	*errand = (struct profile_errand){.key = *key, .got = got, .ctx = ctx};
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
	struct remote *remote = fetch_remote(fetch);
	struct remote_config config = {.chan = remote_chan(remote),
				       .instance = remote_instance(remote),
				       .n_retries = 1,
				       .timeout_ms = PROFILE_SHARE_TIMEOUT_MS};
	struct error *err;

	sync_mutex_init(&share->mutex);
	sync_cond_init(&share->cond);
	sync_alone(&share->mutex);
	list_init(&share->asked);
	list_init(&share->told);
	share->fetch = fetch;
	share->may_ask = share->may_tell = true;
	err = remote_new(&config, &share->remote);
	if (!err)
		err = thread_start("profiles", profile_share_run, share, &share->thread);
	if (err)
		return err;
	share->has_thread = true;
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
	if (share->has_thread)
		(void)pthread_join(share->thread, NULL);
	remote_free(share->remote);
	sync_cond_deinit(&share->cond);
	sync_mutex_deinit(&share->mutex);
	free(share);
	return NULL;
}
