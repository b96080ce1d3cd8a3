/*
 * Owns grpc.health.v1: Check, open to whoever reaches the port, since probes have no
 * credentials and learn nothing but that somebody answers; and Watch, which holds a
 * stream and so takes a right. A service of ours serves as long as the server does.
 *
 * The list of watches belongs to the mutex; what a watch has said, to its call's steps.
 */
#include "server/health.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"
#include "server/service.h"

typedef Health__HealthCheckResponse__ServingStatus health_status;
#define HEALTH(word) HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##word

struct health {
	struct sync_mutex mutex; /* rank 1: calls are woken under it */
	struct list watches SYNC_GUARDED_BY(&mutex);
	bool is_draining SYNC_GUARDED_BY(&mutex);
};

struct health_watch {
	struct list link; /* in health->watches while in is set */
	struct health *health;
	struct rpc_in *in; /* a reference */
	bool is_known;
	health_status said;
};

struct health *health_new(void)
{
	struct health *health = alloc_new(struct health);

	sync_mutex_init(&health->mutex);
	sync_mutex_rank(&health->mutex, 1);
	sync_alone(&health->mutex);
	list_init(&health->watches);
	return health;
}

void *health_free(struct health *health)
{
	if (!health)
		return NULL;
	sync_alone(&health->mutex);
	require(list_is_empty(&health->watches));
	sync_mutex_deinit(&health->mutex);
	free(health);
	return NULL;
}

void health_drain(struct health *health)
{
	sync_lock(&health->mutex);
	health->is_draining = true;
	list_for_each (it, &health->watches)
		rpc_wake(container_of(it, struct health_watch, link)->in);
	sync_unlock(&health->mutex);
}

static health_status health_now(struct health *health)
{
	bool is_draining;

	sync_lock(&health->mutex);
	is_draining = health->is_draining;
	sync_unlock(&health->mutex);
	return is_draining ? HEALTH(NOT_SERVING) : HEALTH(SERVING);
}

/* "" is the server itself. */
static bool health_knows(const struct server *server, const char *service)
{
	const char *name;

	for (size_t i = 0; (name = server_service_name(server, i)); i++) {
		if (strcmp(name, service) == 0)
			return true;
	}
	return service[0] == '\0';
}

static void health_say(struct rpc_in *in, health_status status)
{
	Health__HealthCheckResponse response = HEALTH__HEALTH_CHECK_RESPONSE__INIT;

	response.status = status;
	rpc_send(in, &response.base);
}

static enum rpc_verdict health_check(struct rpc_in *in, void *service)
{
	Health__HealthCheckRequest *request = (void *)rpc_request(in);
	const struct server *server = service;

	if (!request)
		return RPC_DONE;
	if (!health_knows(server, request->service))
		return rpc_fail(in, error_new(ERROR_NOT_FOUND,
					      "service \"%.200s\" is not offered",
					      request->service));
	health_say(in, health_now(server->health));
	return RPC_DONE;
}

static void health_watch_drop(void *state)
{
	struct health_watch *watch = state;

	if (!watch->in)
		return;
	sync_lock(&watch->health->mutex);
	list_remove(&watch->link);
	sync_unlock(&watch->health->mutex);
	rpc_in_unref(watch->in);
}

static void health_watch_begin(struct health_watch *watch, struct rpc_in *in,
			       const struct server *server, const char *service)
{
	watch->health = server->health;
	watch->is_known = health_knows(server, service);
	watch->in = rpc_in_ref(in);
	sync_lock(&watch->health->mutex);
	list_push(&watch->health->watches, &watch->link);
	sync_unlock(&watch->health->mutex);
}

static enum rpc_verdict health_watch(struct rpc_in *in, void *service)
{
	struct health_watch *watch = rpc_state(in, sizeof(*watch), health_watch_drop);
	health_status status;

	if (!watch->in) {
		Health__HealthCheckRequest *request = (void *)rpc_request(in);

		if (!request)
			return RPC_DONE;
		health_watch_begin(watch, in, service, request->service);
	}
	if (!rpc_can_send(in))
		return RPC_LATER;
	status = health_now(watch->health);
	if (!watch->is_known && status == HEALTH(SERVING))
		status = HEALTH(SERVICE_UNKNOWN);
	if (status != watch->said)
		health_say(in, status);
	watch->said = status;
	return status == HEALTH(NOT_SERVING) ? RPC_DONE : RPC_LATER;
}

#define HEALTH_SERVICE &health__health__descriptor

static const struct rpc_handler health_list[] = {
	{{HEALTH_SERVICE, "Check"},
	 RPC_UNARY,
	 RPC_INLINE | RPC_RIGHTS(ACCESS_OPEN),
	 health_check},
	{{HEALTH_SERVICE, "Watch"},
	 RPC_SERVER_STREAM,
	 RPC_INLINE | RPC_RIGHTS(ACCESS_ALL),
	 health_watch},
};
const struct rpc_handlers health_handlers = {health_list, ARRAY_SIZE(health_list)};
