/*
 * The fetcher: blobs wanted, from the store or else from the remote, into the store. One
 * fetch in flight per digest; misses are gathered for a moment and sent as one
 * BatchReadBlobs; what is too large for a batch goes by ByteStream, or by those of its
 * chunks that are not here; demand goes before prefetch, and a demand for what is being
 * prefetched raises it.
 *
 * Threads: any may call, FUSE threads included (fetch_start never blocks on the network).
 * done runs on a pool thread of the fetcher, or on the caller's before fetch_start
 * returns where the store has the blob.
 */
#pragma once

#include "lib/base/pool.h"
#include "lib/cas/remote.h"
#include "lib/store/store.h"

struct fetch;
struct chunks;

#define FETCH_GATHER_NS     300000 /* how long a miss waits for company */
#define FETCH_IN_FLIGHT_MAX 16     /* calls at once */
#define FETCH_STREAMS_MAX   4      /* of them, ByteStream reads */

enum fetch_priority { FETCH_DEMAND, FETCH_PREFETCH };

/* Counts what crossed the network for somebody; all atomic. */
struct fetch_account {
	_Atomic uint64_t blobs;
	_Atomic uint64_t bytes;
	_Atomic uint64_t round_trips;
};

struct fetch_config {
	struct store *store;   /* borrowed */
	struct remote *remote; /* borrowed; NULL: only the store, a miss is NOT_FOUND */
	struct pool *pool;     /* borrowed; hashing and writing */
	struct chunks *chunks; /* borrowed; the store's, NULL: blobs come whole */
	/* of a blob whose server is away; 0: the default, which gives up in a second */
	unsigned int n_attempts;
};

struct error *fetch_new(const struct fetch_config *config, struct fetch **fetch_out);
/* For an end that is not to wait: what fails, or waits for another try, fails for good.
 */
void fetch_give_up(struct fetch *fetch);
void *fetch_free(struct fetch *fetch); /* no fetch may be waiting any more */
CLEANUP_DEFINE(struct fetch, fetch_free)
struct store *fetch_store(const struct fetch *fetch);
struct remote *fetch_remote(const struct fetch *fetch);

/* done owns err and fd (open for reading where err is NULL). The account (may be NULL) is
 * charged if this request made the transfer; it must outlive the fetch. */
typedef void fetch_done_fn(void *ctx, struct error *err, int fd);
void fetch_start(struct fetch *fetch, const struct digest *digest,
		 struct fetch_account *account, fetch_done_fn *done, void *ctx);
/* n of them, so that they share calls; done is called for each. */
void fetch_start_all(struct fetch *fetch, const struct digest *digests, size_t n,
		     struct fetch_account *account, fetch_done_fn *done, void *ctx);
/* The same as fetch_start(), blocking; not on the fetcher's pool, nor on a FUSE or gRPC
 * thread. fetch_bytes() appends; INVALID_ARGUMENT where the blob is longer than limit
 * bytes. */
struct error *fetch_fd(struct fetch *fetch, const struct digest *digest,
		       struct fetch_account *account, int *fd_out);
struct error *fetch_bytes(struct fetch *fetch, const struct digest *digest, size_t limit,
			  struct fetch_account *account, struct buf *out);

/*
 * A wish: the blob is to be at hand, soon and for nobody in particular. It goes behind
 * all demand and is not tried again where it fails, but a demand joins it where it is
 * under way. done owns err, and is called once, as that of fetch_start().
 */
typedef void fetch_wish_fn(void *ctx, struct error *err);
struct fetch_wish {
	struct digest digest;
	struct fetch_account *account; /* as for fetch_start() */
	const void *owner;             /* whoever may drop it, with all of its others */
	fetch_wish_fn *done;
	void *ctx;
};
/* All at once, so that they share calls. */
void fetch_wish(struct fetch *fetch, const struct fetch_wish *wishes, size_t n);
/* Drops those of an owner's wishes that were not sent for yet; done is called for each,
 * with CANCELLED, before this returns. */
void fetch_cancel_wishes(struct fetch *fetch, const void *owner);

/* What the way to the storage is like; all zero before anything came. */
struct fetch_way {
	int64_t rtt_ns;
	int64_t rate;           /* bytes a second */
	int64_t window;         /* bytes under way that fill it */
	int64_t demand_waiting; /* bytes that somebody waits for now */
};
void fetch_way(struct fetch *fetch, struct fetch_way *out);

/* The blob is in the store, and was not fetched: a large one may have parts of what will
 * be. */
void fetch_came(struct fetch *fetch, const struct digest *blob);
/* For who brought a blob by another way (GetTree): counts it as fetched. */
void fetch_charge(struct fetch *fetch, struct fetch_account *account, int64_t bytes);

struct fetch_stats {
	uint64_t n_hits;    /* answered from the store */
	uint64_t n_joined;  /* joined a fetch in flight */
	uint64_t n_batches; /* BatchReadBlobs sent */
	uint64_t n_streams; /* ByteStream reads */
	uint64_t n_blobs;
	uint64_t bytes;
	uint64_t wire_bytes;  /* as they crossed the network, compressed or not */
	uint64_t chunk_bytes; /* of blobs that came by chunks: those that were here */
	uint64_t n_failed;
};
void fetch_stats(const struct fetch *fetch, struct fetch_stats *out);
