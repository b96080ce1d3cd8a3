/* Owns no state: a stream is logstreams.c's, a lease the queue's. */
#include "server/bots_logs.h"

#define LOG_MODULE "bots"
#include "lib/base/log.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "server/logstreams.h"
#include "server/response.h"

/* A session is called INSTANCE/ID. */
static size_t bots_logs_instance_len(const char *session)
{
	const char *slash = strrchr(session, '/');

	return slash ? (size_t)(slash - session) : 0;
}

size_t bots_logs_size(const char *session)
{
	return 128 + QUEUE_LOGS * (bots_logs_instance_len(session) +
				   2 * LOGSTREAMS_ID_LEN + sizeof("/logstreams//"));
}

/* False: no streams were made. */
static bool bots_logs_make(const struct server *server, const char *session,
			   const char *lease,
			   char out[static QUEUE_LOGS][LOGSTREAMS_NAME_MAX])
{
	_cleanup_free_ char *instance =
		alloc_printf("%.*s", (int)bots_logs_instance_len(session), session);
	char names[QUEUE_LOGS][LOGSTREAMS_NAME_MAX];
	const char *list[QUEUE_LOGS];
	int64_t now_ns = clock_mono_ns();
	struct error *err = NULL;
	unsigned int n = 0;

	while (n < QUEUE_LOGS && !err) {
		const struct logstreams_lease owner = {session, lease, n};

		err = logstreams_create(server->logstreams, instance, &owner, now_ns,
					names[n], out[n]);
		list[n] = out[n];
		n += !err;
	}
	if (!err && queue_logs_set(server->queue, session, lease, list))
		return true;
	while (n > 0)
		logstreams_end(server->logstreams, names[--n], now_ns);
	log_drop(LOG_DEBUG, err, "lease %.40s has no logs", lease);
	return false;
}

void bots_logs_metadata(const struct server *server, const char *session,
			const struct queue_lease_told *lease, struct buf *out)
{
	char names[QUEUE_LOGS][LOGSTREAMS_NAME_MAX];
	const char *list[QUEUE_LOGS] = {lease->logs[0], lease->logs[1]};

	if (!list[0] && bots_logs_make(server, session, lease->id, names))
		for (size_t i = 0; i < QUEUE_LOGS; i++)
			list[i] = names[i];
	response_lease_metadata(&lease->action_digest, QUEUE_EXECUTING, list, out);
}
