/*
 * Owns the requests that wait for data. The race that this file exists for: the fetcher's
 * callback, FUSE_INTERRUPT and the end of the session may all want to answer one request
 * at once, and a request is freed by its answer. So the list's mutex decides: who takes
 * req out of the parked object answers it, the others find NULL. The object itself always
 * stays until the fetcher's callback has run.
 *
 * libfuse calls an interrupt function with the request's lock held, also while it is
 * being registered, where an answer would free the lock under libfuse's feet: is_arming
 * defers that answer until the registration is over. A claimed request's function is
 * taken back first, which waits for one that is running.
 *
 * Threads: FUSE threads park and interrupt, the fetcher's answer. The list is counted: it
 * outlives its session for callbacks that come late.
 */
#include "fuse/parked.h"

#include <errno.h>
#include <sched.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"

struct parked_list {
	struct sync_mutex mutex;
	struct sync_cond is_quiet; /* n_answering fell to 0 */
	struct list waiting SYNC_GUARDED_BY(&mutex);
	size_t n_parked SYNC_GUARDED_BY(&mutex); /* objects alive */
	size_t n_answering SYNC_GUARDED_BY(&mutex);
	/* the session ends: nothing is parked any more */
	bool is_closed SYNC_GUARDED_BY(&mutex);
	/* the session has left: the last object frees the list */
	bool is_abandoned SYNC_GUARDED_BY(&mutex);
};

struct parked_list *parked_list_new(void)
{
	struct parked_list *list = alloc_new(struct parked_list);

	sync_mutex_init(&list->mutex);
	sync_cond_init(&list->is_quiet);
	sync_alone(&list->mutex);
	list_init(&list->waiting);
	return list;
}

static void parked_list_destroy(struct parked_list *list)
{
	sync_cond_deinit(&list->is_quiet);
	sync_mutex_deinit(&list->mutex);
	free(list);
}

/* The request, which nobody else finds any more; NULL: it was taken before. */
static fuse_req_t parked_take(struct parked_list *list, struct parked *parked)
	SYNC_REQUIRES(&list->mutex)
{
	fuse_req_t req = parked->req;

	(void)list; /* its mutex guards both */
	if (!req)
		return NULL;
	parked->req = NULL;
	list_remove(&parked->link);
	return req;
}

void parked_list_close(struct parked_list *list)
{
	struct list *link;

	sync_lock(&list->mutex);
	list->is_closed = true;
	while ((link = list->waiting.next) != &list->waiting) {
		struct parked *parked = container_of(link, struct parked, link);
		fuse_req_t req = parked->is_arming ? NULL : parked_take(list, parked);

		sync_unlock(&list->mutex);
		if (req) {
			fuse_req_interrupt_func(req, NULL, NULL);
			reply_errno(req, ENOTCONN);
		} else {
			/* its thread sees is_closed in a moment */
			(void)sched_yield();
		}
		sync_lock(&list->mutex);
	}
	while (list->n_answering)
		sync_wait(&list->is_quiet, &list->mutex);
	sync_unlock(&list->mutex);
}

void *parked_list_free(struct parked_list *list)
{
	bool is_last;

	if (!list)
		return NULL;
	parked_list_close(list);
	sync_lock(&list->mutex);
	list->is_abandoned = true;
	is_last = list->n_parked == 0;
	sync_unlock(&list->mutex);
	if (is_last)
		parked_list_destroy(list);
	return NULL;
}

static void parked_interrupted(fuse_req_t req, void *data)
{
	struct parked *parked = data;
	struct parked_list *list = parked->list;
	bool is_mine = false;

	sync_lock(&list->mutex);
	if (parked->is_arming)
		parked->is_interrupted = true;
	else
		is_mine = parked_take(list, parked) != NULL;
	sync_unlock(&list->mutex);
	if (is_mine)
		reply_errno(req, EINTR);
}

struct parked *parked_new(struct parked_list *list, fuse_req_t req)
{
	struct parked *parked = alloc_new(struct parked);
	int errnum;

	parked->list = list;
	parked->req = req;
	parked->is_arming = true;
	sync_lock(&list->mutex);
	list->n_parked++;
	list_push(&list->waiting, &parked->link);
	sync_unlock(&list->mutex);
	fuse_req_interrupt_func(req, parked_interrupted, parked);
	sync_lock(&list->mutex);
	parked->is_arming = false;
	errnum = list->is_closed ? ENOTCONN : parked->is_interrupted ? EINTR : 0;
	if (errnum) {
		(void)parked_take(list, parked);
		list->n_parked--;
	}
	sync_unlock(&list->mutex);
	if (!errnum)
		return parked;
	fuse_req_interrupt_func(req, NULL, NULL);
	free(parked);
	reply_errno(req, errnum);
	return NULL;
}

fuse_req_t parked_claim(struct parked *parked)
{
	struct parked_list *list = parked->list;
	fuse_req_t req;

	sync_lock(&list->mutex);
	req = parked_take(list, parked);
	if (req)
		list->n_answering++;
	sync_unlock(&list->mutex);
	if (req)
		fuse_req_interrupt_func(req, NULL, NULL);
	return req;
}

void parked_end(struct parked *parked, bool has_answered)
{
	struct parked_list *list = parked->list;
	bool is_last;

	sync_lock(&list->mutex);
	if (has_answered && --list->n_answering == 0)
		sync_broadcast(&list->is_quiet);
	is_last = --list->n_parked == 0 && list->is_abandoned;
	sync_unlock(&list->mutex);
	free(parked);
	if (is_last)
		parked_list_destroy(list);
}
