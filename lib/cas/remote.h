/*
 * A remote content-addressable store and action cache: the REAPI client calls, with their
 * limits, retries and verification. What it hands out was hashed and is what its digest
 * says. Needs only standard services. Where the server says that it knows zstd, blobs
 * cross compressed, as far as they shrink; all sizes here are the blobs' own.
 *
 * Threads: any. Blocking unless a callback is taken; callbacks run on the channel's
 * pollers and must not block.
 */
#pragma once

#include "lib/rpc/chan.h"
#include "lib/store/store.h"
#include "lib/tree/digest.h"

struct remote;

#define REMOTE_ATTEMPTS_PATIENT                                                          \
	15 /* about a minute: it may be started anew meanwhile                           \
	    */

struct remote_config {
	struct rpc_chan *chan;  /* borrowed; must outlive the remote */
	const char *instance;   /* "" is common */
	unsigned int n_retries; /* per call; 0: the default, 4 */
	/* A server that is gone may come back within a minute, also where it never was
	 * there; else that is waited for once it has answered. */
	bool is_patient;
	int64_t timeout_ms; /* for a call without progress; 0: the default, 60 s */
	/* Monotonic: by then every call and stream has ended, whatever came; 0: no end.
	 * For who wants one thing done, or not, by a remote of its own. */
	int64_t until_ns;
};

struct error *remote_new(const struct remote_config *config, struct remote **remote_out);
void *remote_free(struct remote *remote);
CLEANUP_DEFINE(struct remote, remote_free)
const char *remote_instance(const struct remote *remote);
struct rpc_chan *remote_chan(const struct remote *remote);

/* GetCapabilities, asked once and kept: *caps_out is borrowed, and constant for as long
 * as the remote lives. Whoever asks while another does waits for its answer. UNAVAILABLE
 * names the address; an unknown instance names itself. */
struct error *remote_capabilities(struct remote *remote,
				  const Reapi__ServerCapabilities **caps_out);
size_t remote_batch_max(struct remote *remote); /* bytes in one batch; asks nothing */
/* Begins to ask for the server's batch limit and compressors, if they are not known:
 * returns at once, and a failure changes nothing. */
void remote_learn(struct remote *remote);
/* By how many bytes remote_read_blob()'s blobs were fewer on the wire, so far. */
uint64_t remote_saved(const struct remote *remote);
uint64_t remote_saved_up(const struct remote *remote); /* of blobs that were put */

/* is_missing[i] for digests[i]; split into calls below the message limit, several in
 * flight. */
struct error *remote_find_missing(struct remote *remote, const struct digest *digests,
				  size_t n, bool *is_missing);

/*
 * One BatchReadBlobs, started: done gets the raw reply on a poller and hands it to a
 * thread that may hash; remote_batch_each() then takes it apart. The sum of sizes must
 * fit remote_batch_max(). Not retried: the caller decides.
 */
void remote_read_batch(struct remote *remote, const struct digest *digests, size_t n,
		       rpc_done_fn *done, void *ctx);
/* each is told of every blob in the reply: its bytes, which it borrows (not compressed
 * any more, not yet verified: store_put() or hasher_digest() does it) or err, which it
 * owns. DATA_LOSS where it is no such reply. */
struct error *remote_batch_each(struct slice reply,
				void (*each)(void *ctx, const struct digest *digest,
					     struct error *err, struct slice bytes),
				void *ctx);
/* NOT_FOUND for a blob, with its MISSING subject: what a caller reports upwards. */
struct error *remote_missing(const struct digest *digest, const char *where);

/* Blocking ByteStream.Read into staging, resumed after a break; commits. *fd_out as in
 * staged_commit(). NOT_FOUND where the remote has no such blob. */
struct error *remote_read_blob(struct remote *remote, const struct digest *digest,
			       struct store *store, int *fd_out);

/*
 * Chunks of large blobs, where the server announces that it knows them, and how to cut so
 * that its chunks are met.
 */
struct chunk_list;
struct chunker;
enum remote_chunks { REMOTE_SPLIT, REMOTE_SPLICE };
/* Whether it does, and how it cuts. Asks nothing, but waits for what remote_learn()
 * began.
 */
bool remote_chunker(struct remote *remote, enum remote_chunks what,
		    struct chunker *chunker_out);
/* The chunks of a blob, into an empty list: they add up to it, each fits into a batch,
 * and more is not known of them. Not tried again, and over after timeout_ms. NOT_FOUND:
 * the server cannot say. */
struct error *remote_split(struct remote *remote, const struct digest *blob,
			   int64_t timeout_ms, struct chunk_list *out);
/* Takes one message of its answer apart: adds to out what can still be a part of the
 * blob, max bytes at most each. DATA_LOSS: something is not. */
struct error *remote_split_message(struct slice message, const struct digest *blob,
				   int64_t max, struct chunk_list *out);
/* Has the server make the blob of chunks that it has. */
struct error *remote_splice(struct remote *remote, const struct digest *blob,
			    const struct chunk_list *list);

/* GetTree: each Directory's bytes, borrowed for the call of each. They are not verified,
 * since GetTree names no digests: the caller hashes them. An error of each ends it, and
 * is returned. UNIMPLEMENTED from servers without it. */
struct error *remote_get_tree(struct remote *remote, const struct digest *root,
			      struct error *(*each)(void *ctx, struct slice directory),
			      void *ctx);

/* BatchUpdateBlobs, blocking: one call, and more for blobs that the server refused for
 * the moment. errs[i] is owned by the caller, NULL where puts[i] is stored. */
struct remote_put {
	struct digest digest;
	struct slice bytes;
};
struct error *remote_put_batch(struct remote *remote, const struct remote_put *puts,
			       size_t n, struct error **errs);
/* ByteStream.Write of a whole file or bytes, resumed after a break. progress (may be
 * NULL) says whether to go on: false is CANCELLED. */
struct error *remote_put_fd(struct remote *remote, const struct digest *digest, int fd,
			    bool (*progress)(void *ctx, int64_t n_more), void *ctx);
struct error *remote_put_bytes(struct remote *remote, const struct digest *digest,
			       struct slice bytes);

/* NOT_FOUND where the action cache has none. The result lives in arena. */
struct error *remote_get_action(struct remote *remote, const struct digest *action,
				struct arena *arena, Reapi__ActionResult **result_out);
/* Needs the right to write there. */
struct error *remote_put_action(struct remote *remote, const struct digest *action,
				const Reapi__ActionResult *result);

/* Remote Asset: what a name stands for, a Directory. NOT_FOUND: nobody pushed it there,
 * or not all of it is there any more; UNIMPLEMENTED from servers without it. An expiry of
 * 0: none; else seconds of the wall's clock. */
struct error *remote_fetch_directory(struct remote *remote, const char *uri,
				     struct digest *root_out, int64_t *expires_s_out);
struct error *remote_push_directory(struct remote *remote, const char *uri,
				    const struct digest *root, int64_t expires_s);
