/*
 * Owns the table of uploads, their clients and their bytes.
 *
 * What must stay true: an upload in the table is in `by_age` and in its client's list,
 * and its bytes are counted in both; one that was ended while a call writes it is out of
 * all of them (is_ended), and only that call frees it. So what is counted is what may
 * stay. One that is granted is being written, and its declared size is promised, to its
 * client and in total. The memory of an upload's decoder is counted as its bytes are.
 */
#define LOG_MODULE "uploads"

#include "server/uploads.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"
#include "lib/base/zstd.h"
#include "lib/rpc/caller.h"
#include "server/debts.h"

#define UPLOADS_FRAMES_SPARE ((int64_t)64 << 10) /* bytes that frames may be longer */

struct upload_client {
	struct hnode node;
	char *name;
	struct list uploads; /* longest without progress first */
	size_t n;
	int64_t bytes;    /* of those that are not granted */
	int64_t promised; /* to those that are */
	int64_t memory;   /* of decoders */
};

struct upload {
	struct hnode node;
	struct list age_link;    /* in uploads->by_age */
	struct list client_link; /* in its client's */
	struct uploads *uploads;
	struct upload_client *client;
	struct rpc_in *in; /* a reference while a call writes it; NULL: idle */
	int64_t progress_ns;
	int64_t bytes; /* counted */
	int64_t size;  /* declared */
	bool is_granted, is_unproven;
	int64_t evicted; /* bytes of blobs that made room for it */
	char *name;
	struct staged *staged;
	struct zstd_decoder *decoder; /* or NULL: the bytes come as they are */
	int64_t memory;               /* of it, counted */
	int64_t in_vain;              /* bytes that it made, until they are the blob */
	char host[RPC_CALLER_HOST_MAX];
	atomic_bool is_ended; /* to make room: its call frees it */
};

struct uploads {
	struct sync_mutex mutex; /* and for the counts in uploads */
	struct store *store;
	struct debts *debts;
	int64_t size_limit;
	size_t n_max;
	struct htab by_name SYNC_GUARDED_BY(&mutex);
	struct htab clients SYNC_GUARDED_BY(&mutex);
	struct list by_age SYNC_GUARDED_BY(&mutex); /* longest without progress first */
	int64_t bytes SYNC_GUARDED_BY(&mutex);      /* of those that are not granted */
	int64_t granted SYNC_GUARDED_BY(&mutex);    /* of those that are */
	int64_t promised SYNC_GUARDED_BY(&mutex);   /* to those that are */
	int64_t memory SYNC_GUARDED_BY(&mutex);     /* of decoders */
};

/* Descriptors are shared with connections and readers: a quarter is for uploads. */
static size_t uploads_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 >= UPLOADS_MAX)
		return UPLOADS_MAX;
	return limit.rlim_cur / 4 > 1 ? (size_t)limit.rlim_cur / 4 : 1;
}

struct uploads *uploads_new(struct store *store, struct debts *debts, int64_t size_limit)
{
	struct uploads *uploads = alloc_new(struct uploads);

	sync_mutex_init(&uploads->mutex);
	sync_mutex_rank(&uploads->mutex, 1);
	uploads->store = store;
	uploads->debts = debts;
	uploads->size_limit = size_limit;
	uploads->n_max = uploads_limit();
	sync_alone(&uploads->mutex);
	list_init(&uploads->by_age);
	return uploads;
}

static void uploads_lock(struct uploads *uploads) SYNC_ACQUIRES(&uploads->mutex)
{
	sync_lock(&uploads->mutex);
}

static void uploads_unlock(struct uploads *uploads) SYNC_RELEASES(&uploads->mutex)
{
	sync_unlock(&uploads->mutex);
}

/* ---- clients; all with the lock -------------------------------------------------- */

static struct upload_client *uploads_client(struct uploads *uploads, const char *name)
	SYNC_REQUIRES(&uploads->mutex)
{
	uint64_t hash = slice_hash(slice_of(name));
	struct upload_client *client;

	for (struct hnode *n = htab_first(&uploads->clients, hash); n;
	     n = htab_next(n, hash)) {
		client = container_of(n, struct upload_client, node);
		if (strcmp(client->name, name) == 0)
			return client;
	}
	client = alloc_new(struct upload_client);
	client->name = alloc_string(name);
	list_init(&client->uploads);
	htab_insert(&uploads->clients, &client->node, hash);
	return client;
}

/* Its bytes are more, or fewer. */
static void uploads_count(struct uploads *uploads, struct upload *upload, int64_t more)
	SYNC_REQUIRES(&uploads->mutex)
{
	upload->bytes += more;
	if (upload->is_granted) {
		uploads->granted += more;
		return;
	}
	uploads->bytes += more;
	if (upload->client)
		upload->client->bytes += more;
}

/*
 * An upload is granted what it declares, that is, blobs make room for it as it is
 * written, where the bytes can be promised: to its client half of all beside those that
 * it has, or one upload of any size that fits. A client that has left halves lying about
 * is not believed.
 */
static void uploads_grant(struct uploads *uploads, struct upload *upload)
	SYNC_REQUIRES(&uploads->mutex)
{
	struct upload_client *client = upload->client;
	int64_t limit = uploads->size_limit, bytes = upload->bytes;

	if (upload->is_unproven || upload->size > limit ||
	    client->bytes - bytes > limit / UPLOADS_SHARE ||
	    (client->promised > 0 && client->promised + upload->size > limit / 2) ||
	    (uploads->promised > 0 && uploads->promised + upload->size > limit))
		return;
	uploads_count(uploads, upload, -bytes);
	upload->is_granted = true;
	client->promised += upload->size;
	uploads->promised += upload->size;
	uploads_count(uploads, upload, bytes);
}

static void uploads_grant_end(struct uploads *uploads, struct upload *upload)
	SYNC_REQUIRES(&uploads->mutex)
{
	int64_t bytes = upload->bytes;

	if (!upload->is_granted)
		return;
	uploads_count(uploads, upload, -bytes);
	upload->is_granted = false;
	upload->client->promised -= upload->size;
	uploads->promised -= upload->size;
	uploads_count(uploads, upload, bytes);
}

static void uploads_join(struct uploads *uploads, struct upload *upload,
			 struct upload_client *client) SYNC_REQUIRES(&uploads->mutex)
{
	upload->client = client;
	list_push(&client->uploads, &upload->client_link);
	client->n++;
	client->bytes += upload->bytes;
	client->memory += upload->memory;
	uploads_grant(uploads, upload);
}

static void uploads_part(struct uploads *uploads, struct upload *upload)
	SYNC_REQUIRES(&uploads->mutex)
{
	struct upload_client *client = upload->client;

	uploads_grant_end(uploads, upload);
	upload->client = NULL;
	list_remove(&upload->client_link);
	client->bytes -= upload->bytes;
	client->memory -= upload->memory;
	if (--client->n > 0)
		return;
	htab_remove(&uploads->clients, &client->node);
	free(client->name);
	free(client);
}

/* ---- ends ----------------------------------------------------------------------- */

/* With the lock: it is in no table any more. */
static void uploads_forget(struct uploads *uploads, struct upload *upload)
	SYNC_REQUIRES(&uploads->mutex)
{
	if (atomic_load(&upload->is_ended))
		return;
	htab_remove(&uploads->by_name, &upload->node);
	list_remove(&upload->age_link);
	uploads_part(uploads, upload);
	uploads->bytes -= upload->bytes;
	uploads->memory -= upload->memory;
}

static void upload_free(struct upload *upload)
{
	if (upload->evicted > 0)
		log_info("blobs of %lld bytes made room for the upload of %s",
			 (long long)upload->evicted, upload->name);
	if (upload->is_unproven && upload->in_vain)
		debts_add(upload->uploads->debts, upload->host, upload->in_vain,
			  clock_mono_ns());
	staged_free(upload->staged);
	zstd_decoder_free(upload->decoder);
	rpc_in_unref(upload->in);
	free(upload->name);
	free(upload);
}

/* With the lock. An idle one goes to gone, for being freed without it. */
static void uploads_end(struct uploads *uploads, struct upload *upload, struct list *gone)
	SYNC_REQUIRES(&uploads->mutex)
{
	uploads_forget(uploads, upload);
	atomic_store(&upload->is_ended, true);
	if (upload->in)
		rpc_wake(upload->in);
	else
		list_push(gone, &upload->age_link);
}

static void uploads_free_gone(struct list *gone)
{
	struct list *node;

	while ((node = list_pop(gone)))
		upload_free(container_of(node, struct upload, age_link));
}

void uploads_tick(struct uploads *uploads, int64_t now_ns)
{
	struct list gone = LIST_INIT(gone);

	uploads_lock(uploads);
	list_for_each_safe (it, &uploads->by_age) {
		struct upload *upload = container_of(it, struct upload, age_link);
		int64_t age_ns = now_ns - upload->progress_ns;

		if (age_ns < UPLOADS_IDLE_NS)
			break;
		if (!upload->in || age_ns >= UPLOADS_STALL_NS)
			uploads_end(uploads, upload, &gone);
	}
	uploads_unlock(uploads);
	uploads_free_gone(&gone);
}

void *uploads_free(struct uploads *uploads)
{
	if (!uploads)
		return NULL;
	uploads_tick(uploads, CLOCK_NEVER);
	uploads_lock(uploads);
	require(uploads->by_name.len == 0);
	htab_deinit(&uploads->by_name);
	htab_deinit(&uploads->clients);
	uploads_unlock(uploads);
	sync_mutex_deinit(&uploads->mutex);
	free(uploads);
	return NULL;
}

/* ---- room; all with the lock ----------------------------------------------------- */

enum uploads_measure { UPLOADS_NUMBER, UPLOADS_BYTES, UPLOADS_MEMORY };

struct uploads_most {
	struct upload_client *client;
	enum uploads_measure measure;
};

static int64_t uploads_of_client(const struct upload_client *client,
				 enum uploads_measure measure)
{
	switch (measure) {
	case UPLOADS_NUMBER:
		return (int64_t)client->n;
	case UPLOADS_BYTES:
		return client->bytes;
	case UPLOADS_MEMORY:
		break;
	}
	return client->memory;
}

static void uploads_compare(struct hnode *node, void *ctx)
{
	struct upload_client *client = container_of(node, struct upload_client, node);
	struct uploads_most *most = ctx;

	if (!most->client || uploads_of_client(client, most->measure) >
				     uploads_of_client(most->client, most->measure))
		most->client = client;
}

/* Whether it gives way: an idle one, or, where is_idle does not ask for that, one whose
 * bytes or memory are what is short. */
static bool uploads_gives_way(const struct upload *upload, bool is_idle,
			      enum uploads_measure measure)
{
	if (measure == UPLOADS_MEMORY && !upload->memory)
		return false;
	if (is_idle)
		return !upload->in;
	return measure == UPLOADS_MEMORY || !upload->is_granted;
}

static struct upload *uploads_stalest(struct list *head, bool is_by_client, bool is_idle,
				      enum uploads_measure measure)
{
	list_for_each (it, head) {
		struct upload *upload =
			is_by_client ? container_of(it, struct upload, client_link)
				     : container_of(it, struct upload, age_link);

		if (uploads_gives_way(upload, is_idle, measure))
			return upload;
	}
	return NULL;
}

/*
 * Whose upload gives way to one of client, which is to have so much more: the stalest
 * idle one of all; else the stalest of whoever has most, if that is somebody else with
 * more than client would have.
 */
static struct upload *uploads_victim(struct uploads *uploads,
				     const struct upload_client *client,
				     enum uploads_measure measure, int64_t more)
	SYNC_REQUIRES(&uploads->mutex)
{
	struct uploads_most most = {.measure = measure};
	struct upload *idle = uploads_stalest(&uploads->by_age, false, true, measure);

	if (idle)
		return idle;
	htab_each(&uploads->clients, uploads_compare, &most);
	if (!most.client || most.client == client)
		return NULL;
	if (uploads_of_client(most.client, measure) <=
	    uploads_of_client(client, measure) + more)
		return NULL;
	return uploads_stalest(&most.client->uploads, true, false, measure);
}

static struct error *uploads_make_place(struct uploads *uploads,
					struct upload_client *client, struct list *gone)
	SYNC_REQUIRES(&uploads->mutex)
{
	struct upload *victim;

	if (client->n >= UPLOADS_CLIENT_MAX) {
		victim = uploads_stalest(&client->uploads, true, true, UPLOADS_NUMBER);
		if (!victim)
			return error_new(ERROR_RESOURCE_EXHAUSTED,
					 "this connection has %d uploads open already",
					 UPLOADS_CLIENT_MAX);
		uploads_end(uploads, victim, gone);
	}
	while (uploads->by_name.len >= uploads->n_max) {
		victim = uploads_victim(uploads, client, UPLOADS_NUMBER, 1);
		if (!victim)
			return error_new(ERROR_RESOURCE_EXHAUSTED,
					 "%zu uploads run already", uploads->n_max);
		uploads_end(uploads, victim, gone);
	}
	return NULL;
}

/* What uploads that are not granted may take: their share, as far as it is not promised,
 * and what blobs and granted ones leave free. */
static int64_t uploads_budget(const struct uploads *uploads, int64_t blobs)
	SYNC_REQUIRES(&uploads->mutex)
{
	int64_t share = uploads->size_limit / UPLOADS_SHARE;
	int64_t unpromised = uploads->size_limit - uploads->promised;
	int64_t free_now = uploads->size_limit - blobs - uploads->granted;

	if (share > unpromised)
		share = unpromised;
	return free_now > share ? free_now : share;
}

/* By how many bytes so many more are too many. */
static int64_t uploads_excess(const struct uploads *uploads, const struct upload *upload,
			      int64_t more, int64_t blobs) SYNC_REQUIRES(&uploads->mutex)
{
	if (upload->is_granted)
		return uploads->bytes + uploads->granted + blobs + more -
		       uploads->size_limit;
	return uploads->bytes + more - uploads_budget(uploads, blobs);
}

static void uploads_progress(struct uploads *uploads, struct upload *upload)
	SYNC_REQUIRES(&uploads->mutex)
{
	upload->progress_ns = clock_mono_ns();
	list_remove(&upload->age_link);
	list_push(&uploads->by_age, &upload->age_link);
	list_remove(&upload->client_link);
	list_push(&upload->client->uploads, &upload->client_link);
}

static struct error *uploads_grow(struct upload *upload, int64_t more)
{
	struct uploads *uploads = upload->uploads;
	struct list gone = LIST_INIT(gone);
	struct store_stats stats;
	int64_t excess = 0;
	bool has_room = true;

	store_stats(uploads->store, &stats);
	uploads_lock(uploads);
	while (!atomic_load(&upload->is_ended) &&
	       (excess = uploads_excess(uploads, upload, more, stats.bytes)) > 0) {
		struct upload *victim = uploads_victim(
			uploads, upload->client,
			more > 0 ? UPLOADS_BYTES : UPLOADS_NUMBER, more > 0 ? more : 1);

		has_room = victim || upload->is_granted;
		if (!victim)
			break;
		uploads_end(uploads, victim, &gone);
	}
	if (has_room && !atomic_load(&upload->is_ended)) {
		uploads_count(uploads, upload, more);
		uploads_progress(uploads, upload);
	}
	uploads_unlock(uploads);
	uploads_free_gone(&gone);
	if (!has_room)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "uploads that are not whole take as many bytes as they "
				 "may, and this connection's are too many to evict blobs "
				 "for");
	if (excess > 0)
		upload->evicted += store_evict(uploads->store, excess);
	return upload_check(upload);
}

/* Counts what the decoder holds by now, for which others may have to give way. */
static struct error *uploads_hold(struct upload *upload)
{
	struct uploads *uploads = upload->uploads;
	int64_t memory = (int64_t)zstd_decoder_memory(upload->decoder);
	struct list gone = LIST_INIT(gone);
	struct upload *victim = NULL;
	bool has_room = true;

	uploads_lock(uploads);
	if (!atomic_load(&upload->is_ended)) {
		uploads->memory += memory - upload->memory;
		upload->client->memory += memory - upload->memory;
		upload->memory = memory;
	}
	while (has_room && !atomic_load(&upload->is_ended) &&
	       uploads->memory > UPLOADS_MEMORY_MAX) {
		victim = uploads_victim(uploads, upload->client, UPLOADS_MEMORY, 0);
		has_room = victim != NULL;
		if (victim)
			uploads_end(uploads, victim, &gone);
	}
	uploads_unlock(uploads);
	uploads_free_gone(&gone);
	if (!has_room)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "compressed uploads take as much memory as they may");
	return upload_check(upload);
}

/* ---- one upload ----------------------------------------------------------------- */

static struct upload *uploads_find(const struct uploads *uploads, const char *name)
	SYNC_REQUIRES(&uploads->mutex)
{
	uint64_t hash = slice_hash(slice_of(name));

	for (struct hnode *n = htab_first(&uploads->by_name, hash); n;
	     n = htab_next(n, hash)) {
		struct upload *upload = container_of(n, struct upload, node);

		if (strcmp(upload->name, name) == 0)
			return upload;
	}
	return NULL;
}

static struct error *uploads_make(struct uploads *uploads, struct upload_client *client,
				  const char *name, struct list *gone,
				  struct upload **out) SYNC_REQUIRES(&uploads->mutex)
{
	struct error *err = uploads_make_place(uploads, client, gone);
	struct upload *upload;

	if (err)
		return err;
	upload = alloc_new(struct upload);
	upload->uploads = uploads;
	upload->name = alloc_string(name);
	list_init(&upload->client_link);
	list_init(&upload->age_link);
	htab_insert(&uploads->by_name, &upload->node, slice_hash(slice_of(name)));
	*out = upload;
	return NULL;
}

/* With the lock: the upload is the call's, and its client the call's. */
static void uploads_own(struct uploads *uploads, struct upload *upload, struct rpc_in *in,
			struct upload_client *client, const struct upload_kind *kind)
	SYNC_REQUIRES(&uploads->mutex)
{
	upload->size = kind->digest->size;
	upload->is_unproven = kind->is_unproven;
	upload->in = rpc_in_ref(in);
	upload->progress_ns = clock_mono_ns();
	list_remove(&upload->age_link);
	list_push(&uploads->by_age, &upload->age_link);
	uploads_join(uploads, upload, client);
}

static struct error *upload_begin(struct upload *upload, const struct upload_kind *kind)
{
	struct uploads *uploads = upload->uploads;
	struct error *err;
	bool may_evict;

	if (upload->staged && !kind->is_from_start)
		return NULL;
	upload->staged = staged_free(upload->staged);
	upload->decoder = zstd_decoder_free(upload->decoder);
	uploads_lock(uploads);
	if (!atomic_load(&upload->is_ended))
		uploads_count(uploads, upload, -upload->bytes);
	may_evict = upload->is_granted;
	uploads_unlock(uploads);
	upload->in_vain = 0;
	if (kind->is_zstd) {
		(void)snprintf(upload->host, sizeof(upload->host), "%s",
			       rpc_caller(upload->in)->host);
		err = zstd_decoder_new(kind->digest->size, &upload->decoder);
		if (!err)
			err = uploads_hold(upload);
		if (err)
			return err;
	}
	return staged_open(uploads->store, kind->digest, may_evict, &upload->staged);
}

struct error *uploads_take(struct uploads *uploads, struct rpc_in *in, const char *name,
			   const struct upload_kind *kind, struct upload **out)
{
	struct list gone = LIST_INIT(gone);
	struct upload_client *client;
	struct upload *upload;
	struct error *err = NULL;

	uploads_lock(uploads);
	upload = uploads_find(uploads, name);
	if (upload && upload->in) {
		uploads_unlock(uploads);
		return error_new(ERROR_ABORTED,
				 "\"%.200s\" is being written by another call", name);
	}
	if (upload)
		uploads_part(uploads, upload);
	client = uploads_client(uploads, rpc_peer_name(in));
	client->n++; /* it stays, whatever else goes */
	if (!upload)
		err = uploads_make(uploads, client, name, &gone, &upload);
	if (!err)
		uploads_own(uploads, upload, in, client, kind);
	if (--client->n == 0) {
		htab_remove(&uploads->clients, &client->node);
		free(client->name);
		free(client);
	}
	uploads_unlock(uploads);
	uploads_free_gone(&gone);
	if (err)
		return err;
	*out = upload;
	return upload_begin(upload, kind);
}

struct error *upload_check(const struct upload *upload)
{
	return atomic_load(&upload->is_ended)
		       ? error_new(ERROR_RESOURCE_EXHAUSTED,
				   "the upload of \"%.200s\" made room for others, or "
				   "stood still for too long",
				   upload->name)
		       : NULL;
}

static struct error *upload_add(struct upload *upload, struct slice data)
{
	struct error *err = uploads_grow(upload, (int64_t)data.len);

	return err ? err : staged_write(upload->staged, data.data, data.len);
}

/* Frames may be longer than what is in them, and some have nothing in them: not without
 * end. */
static struct error *upload_check_frames(const struct upload *upload, size_t more)
{
	int64_t most = 2 * upload->size + UPLOADS_FRAMES_SPARE;

	if (zstd_decoder_taken(upload->decoder) + (int64_t)more <= most)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "a blob of %lld bytes is not sent as more than %lld",
			 (long long)upload->size, (long long)most);
}

/* Once it is far more than what came. */
static struct error *upload_check_made(struct upload *upload, size_t more)
{
	struct uploads *uploads = upload->uploads;
	int64_t most = zstd_decoder_taken(upload->decoder) * UPLOADS_RATIO;

	upload->in_vain += (int64_t)more;
	if (upload->is_unproven || upload->in_vain <= most + UPLOADS_SPARE)
		return NULL;
	uploads_lock(uploads);
	if (!atomic_load(&upload->is_ended))
		uploads_grant_end(uploads, upload);
	uploads_unlock(uploads);
	upload->is_unproven = true;
	staged_spare(upload->staged);
	return debts_check(uploads->debts, upload->host, clock_mono_ns());
}

static struct error *upload_decode(struct upload *upload, struct slice *data,
				   bool *has_more_out)
{
	struct error *err = upload_check_frames(upload, data->len);
	struct slice piece = {0};

	*has_more_out = true;
	for (size_t n = 0; !err && *has_more_out && n < UPLOADS_STEP; n += piece.len) {
		err = zstd_decode(upload->decoder, data, &piece);
		if (err)
			return err;
		*has_more_out = piece.len > 0;
		err = upload_check_made(upload, piece.len);
		if (!err)
			err = upload_add(upload, piece);
	}
	return err ? err : uploads_hold(upload);
}

struct error *upload_write(struct upload *upload, struct slice *data, bool *has_more_out)
{
	struct error *err;

	if (upload->decoder) {
		err = upload_decode(upload, data, has_more_out);
	} else {
		err = upload_add(upload, *data);
		*data = (struct slice){0};
		*has_more_out = false;
	}
	if (err) /* what is staged cannot become the blob any more */
		upload->staged = staged_free(upload->staged);
	return err;
}

int64_t upload_size(const struct upload *upload)
{
	return upload->decoder ? zstd_decoder_taken(upload->decoder)
			       : staged_size(upload->staged);
}

struct error *upload_commit(struct upload *upload)
{
	struct uploads *uploads = upload->uploads;
	struct error *err = upload->decoder ? zstd_decoder_end(upload->decoder) : NULL;

	if (err) {
		upload->staged = staged_free(upload->staged);
		return err;
	}
	/* from here on they are the store's to count */
	uploads_lock(uploads);
	if (!atomic_load(&upload->is_ended))
		uploads_count(uploads, upload, -upload->bytes);
	uploads_unlock(uploads);
	err = staged_commit(take(upload->staged), NULL);
	if (!err)
		upload->in_vain = 0;
	return err;
}

void upload_keep(struct upload *upload)
{
	struct uploads *uploads = upload->uploads;
	struct rpc_in *in = NULL;
	bool is_ended;

	if (!upload->staged) {
		upload_drop(upload);
		return;
	}
	uploads_lock(uploads);
	is_ended = atomic_load(&upload->is_ended);
	if (!is_ended) {
		in = take(upload->in);
		uploads_grant_end(uploads, upload);
	}
	uploads_unlock(uploads);
	if (is_ended)
		upload_free(upload);
	rpc_in_unref(in);
}

void upload_drop(struct upload *upload)
{
	struct uploads *uploads = upload->uploads;

	uploads_lock(uploads);
	uploads_forget(uploads, upload);
	uploads_unlock(uploads);
	upload_free(upload);
}

int64_t uploads_size(struct uploads *uploads, const char *name)
{
	struct upload *upload;
	int64_t size = 0;

	uploads_lock(uploads);
	upload = uploads_find(uploads, name);
	/* One that is being written is its call's: it begins anew or asks later. */
	if (upload && !upload->in)
		size = upload_size(upload);
	uploads_unlock(uploads);
	return size;
}
