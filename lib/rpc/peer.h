/*
 * Fairness between connections: whose steps run next, whose messages may come in, whose
 * may go out. A peer is one connection ("ipv4:10.0.0.1:4711"); what it holds is counted,
 * and what is over its share waits without hurting others:
 *
 * Steps: peers with something to run take turns on the workers, and one peer has all but
 * one of them at most. Long calls have workers of their own, of a lower priority.
 * Requests: a call's message is asked for only while its peer holds few bytes, and all
 * peers together do; until then it stays with the client, by flow control. Answers of
 * unary calls: a peer that leaves too many bytes unread runs no steps. Pieces of streams:
 * a peer that leaves too many unread gets no more.
 *
 * Threads: any. One mutex; only the pools' are taken under it, and no call is woken.
 */
#pragma once

#include "lib/rpc/core.h"
#include "lib/rpc/server.h"

#define PEER_HELD_MAX   ((size_t)64 << 20)  /* bytes of requests, of one peer */
#define PEER_HELD_TOTAL ((size_t)256 << 20) /* the same of all */
#define PEER_HELD_LEAST                                                                  \
	((size_t)1 << 20)                  /* what a peer of small messages has, always  \
					    */
#define PEER_RESERVE     ((size_t)4 << 20) /* what a peer's first message counts as */
#define PEER_HEAVY       ((size_t)256 << 10) /* bytes of a request that is large */
#define PEER_LONG_NICE   5 /* added to that of threads that run long calls */
#define PEER_ANSWERS_MAX ((size_t)32 << 20)
#define PEER_SEND_MAX    ((size_t)16 << 20)
#define PEER_SEND_TOTAL  ((size_t)64 << 20) /* over it, pieces are small */
#define PEER_CHUNK_SMALL ((size_t)64 << 10)

struct rpc_peer;
struct peers;

struct error *peers_new(unsigned int n_workers, struct peers **out);
/* Runs what is queued and joins the workers; then only free may follow. */
void peers_stop(struct peers *peers);
void *peers_free(struct peers *peers);

/* The call's peer; a reference. */
struct rpc_peer *peer_get(struct peers *peers, grpc_call *call);
const char *peer_name(const struct rpc_peer *peer);

/* Queues a step: after the peer's others, or before them. */
void peer_run(struct rpc_in *in, bool is_first);
/* True: its next message may be asked for now; else it is asked for later, from the
 * thread that made room (rpc_in_start_read()). */
bool peer_admit(struct rpc_in *in);
/* The message came, len bytes; or it did not come: 0. */
void peer_received(struct rpc_in *in, size_t len);
/* The call holds so many bytes more, or fewer, of requests and what is built from them.
 */
void peer_hold(struct rpc_in *in, ptrdiff_t more);
/* Its unary answer, from now until the call is gone. */
void peer_answer(struct rpc_in *in, size_t len);
/* False: not now; the call is woken when it may. */
bool peer_may_send(struct rpc_in *in);
/* A piece of a stream of len bytes goes out; then: it went, or failed. */
void peer_sends(struct rpc_in *in, size_t len);
void peer_sent(struct rpc_in *in);
/* No step will run any more, and nothing but the answer is kept. */
void peer_leave(struct rpc_in *in);
/* The call is gone, and holds nothing; its reference to the peer ends. */
void peer_release(struct rpc_in *in);
/* Bytes that a piece of a stream should have just now. */
size_t peer_chunk(const struct rpc_peer *peer);
