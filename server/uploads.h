/*
 * Uploads that are not whole yet: each has a resource's name (its UUID makes it one
 * client's), a client (the connection that writes it, or wrote it last) and the staged
 * bytes so far. One that broke off stays a while, to be resumed.
 *
 * Their number and their bytes have limits, and whoever has most of either gives way:
 * the upload without progress for longest goes first, an idle one before one that is
 * written. An upload says how large it will be: as it is written, blobs make room for it,
 * where a client does not ask for too much at once. For others no blob is evicted: an
 * eighth of the store's disk space is for them, and what is free.
 *
 * One that comes as zstd frames is staged as what it was: its offsets count bytes of
 * frames, all else its own. Its decoder's memory is counted, too: where all have more
 * than UPLOADS_MEMORY_MAX, idle ones give way, then those of whoever has most. Frames
 * that become far more bytes than they are cost their sender next to nothing: from there
 * on no blob is evicted for them, and what they were in vain their host owes (debts.h).
 *
 * Threads: any; one lock inside. An upload that is being written belongs to its call's
 * steps; it may be ended under it, which wakes the call.
 */
#pragma once

#include "lib/rpc/server.h"
#include "lib/store/store.h"

#define UPLOADS_MAX        4096 /* at once; fewer where descriptors are few */
#define UPLOADS_CLIENT_MAX 512  /* of one connection */
#define UPLOADS_SHARE      8    /* of the store's space, one in so many is for them */
#define UPLOADS_MEMORY_MAX ((int64_t)256 << 20) /* of decoders */
#define UPLOADS_RATIO      16                   /* times what came, and */
#define UPLOADS_SPARE      ((int64_t)4 << 20)   /* so much: more is far more */
#define UPLOADS_STEP       ((size_t)4 << 20)    /* bytes decoded at once, about */
#define UPLOADS_IDLE_NS    (60 * NS_PER_S)      /* broken off, and not resumed */
#define UPLOADS_STALL_NS   (120 * NS_PER_S)     /* being written, and nothing came */

struct uploads;
struct upload;
struct debts;

/* Borrowed. size_limit: of blobs and uploads together. */
struct uploads *uploads_new(struct store *store, struct debts *debts, int64_t size_limit);
void *uploads_free(struct uploads *uploads);
/* Ends what nobody came back for, and what is written no further. */
void uploads_tick(struct uploads *uploads, int64_t now_ns);

/*
 * The upload of that name, found or made, and from here on the call's, until it keeps or
 * drops it. ABORTED: another call writes it. RESOURCE_EXHAUSTED: too many, and nobody has
 * more.
 */
struct upload_kind {
	const struct digest *digest;
	bool is_zstd;       /* frames come */
	bool is_from_start; /* what is there of it goes */
	bool is_unproven;   /* its bytes cost who names it nothing: no blob is evicted */
};
struct error *uploads_take(struct uploads *uploads, struct rpc_in *in, const char *name,
			   const struct upload_kind *kind, struct upload **out);
/* Takes the next bytes out of *data; where *has_more_out, it is to be called again, after
 * others' turns. Also says that it was ended to make room: RESOURCE_EXHAUSTED. */
struct error *upload_write(struct upload *upload, struct slice *data, bool *has_more_out);
struct error *upload_check(const struct upload *upload);
int64_t upload_size(const struct upload *upload);   /* bytes that came */
struct error *upload_commit(struct upload *upload); /* then drop it */
void upload_keep(struct upload *upload);            /* to be resumed */
void upload_drop(struct upload *upload);
/* The bytes of an idle one; 0: none is known. */
int64_t uploads_size(struct uploads *uploads, const char *name);
