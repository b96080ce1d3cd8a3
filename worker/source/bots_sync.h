/*
 * The worker's half of the Remote Workers API as a pure state machine: what to tell the
 * server about each lease, and what its answer means. No sockets, no clock, no threads
 * (docs/protocol.md, "The worker's side of Bots").
 */
#pragma once

#include "lib/base/list.h"
#include "worker/source/source.h"

enum bots_lease_state {
	BOTS_OFFERED,   /* we will say ACTIVE; nothing started */
	BOTS_RUNNING,   /* the server acknowledged it */
	BOTS_DROPPED,   /* it is being killed: the server does not know it any more */
	BOTS_STOPPING,  /* it is being killed: the server cancelled it */
	BOTS_FINISHED,  /* COMPLETED is said until the server lets go */
	BOTS_CANCELLED, /* CANCELLED is said until the server lets go */
};

struct bots_sync {
	struct list leases;
	size_t n_leases;
	bool has_news; /* something to tell that no request has told yet */
	bool has_more; /* results that did not fit into the last request */
};

enum bots_action_kind { BOTS_ASSIGN, BOTS_CANCEL };

struct bots_action {
	struct list link;
	enum bots_action_kind kind;
	char *id;
	struct source_lease *job; /* BOTS_ASSIGN: owned */
};
void *bots_action_free(struct bots_action *action);
CLEANUP_DEFINE(struct bots_action, bots_action_free)

void bots_sync_init(struct bots_sync *sync);
void bots_sync_deinit(struct bots_sync *sync);

/* Puts the leases into session, in arena; from here on they count as told. False: the
 * arena is full, and nothing was told. */
bool bots_sync_fill(struct bots_sync *sync, Bots__BotSession *session,
		    struct arena *arena);
/* The server's answer to the last filled request; actions are appended. False: it says
 * nothing new. */
bool bots_sync_answer(struct bots_sync *sync, const Bots__BotSession *session,
		      struct list *actions);
/* What the answer said beside of a lease: whose it is, the action's digest tells, among
 * those whose job has not begun, and actions. It may be said again. */
void bots_sync_logs(struct bots_sync *sync, struct list *actions,
		    const Reapi__ExecuteOperationMetadata *metadata,
		    bool may_be_left_out);
/* A new session: what was offered in the old one is void. */
void bots_sync_restart(struct bots_sync *sync);
/* The job ended; consumes status and *result. Unknown ids are ignored. */
void bots_sync_finish(struct bots_sync *sync, const char *id, struct error *status,
		      struct buf *result);
bool bots_sync_is_idle(const struct bots_sync *sync); /* no lease left */
