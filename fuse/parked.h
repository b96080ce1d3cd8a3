/*
 * Requests that wait for data. A request is answered by whoever claims it first: the
 * fetcher's callback, an interrupt (EINTR, while the fetch goes on for others) or the end
 * of the session.
 *
 * Threads: any.
 */
#pragma once

#include "fuse/reply.h"
#include "lib/base/list.h"

struct session;
struct parked_list;

struct parked_list *parked_list_new(void);
/* Answers all that wait (ENOTCONN), and waits for those that are being answered; whatever
 * comes later is answered at once. */
void parked_list_close(struct parked_list *list);
void *parked_list_free(struct parked_list *list); /* closes it */

struct parked {
	struct parked_list *list;
	/* guarded by the list's mutex, which only parked.c takes */
	struct list link;
	fuse_req_t req; /* NULL: claimed */
	bool is_arming; /* its interrupt function is being registered */
	bool is_interrupted;
	/* of whoever parks it, and read by whoever answers it */
	struct session *session; /* only for who claimed it */
	struct view *view;       /* alive as long as its callbacks run */
	uint64_t id;
	size_t size;
	off_t offset;
};

/* NULL where the request was interrupted or the list closed already: it is answered.
 * Until parked_end() the object stays, whoever claims the request. */
struct parked *parked_new(struct parked_list *list, fuse_req_t req);
/* The request for the caller to answer before parked_end(), or NULL. */
fuse_req_t parked_claim(struct parked *parked);
/* Frees it; has_answered: parked_claim() gave the caller the request. */
void parked_end(struct parked *parked, bool has_answered);
