/*
 * Owns what the queue knows of those who submit: one entry for each connection that has
 * an operation. A client has a share of the operations and of the bytes, and takes turns
 * with the others: each job gets a turn, one more than its client's last, and at least
 * that of the job which was handed out last. Ordered by it, a client that queues a job
 * beside another's thousands is next but one.
 *
 * Threads: with the queue's lock.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "server/queue_impl.h"

struct queue_client *queue_client_find(const struct queue *queue, const char *name)
{
	uint64_t hash = queue_name_hash(name);

	for (struct hnode *n = htab_first(&queue->clients, hash); n;
	     n = htab_next(n, hash)) {
		struct queue_client *found = container_of(n, struct queue_client, node);

		if (strcmp(found->name, name) == 0)
			return found;
	}
	return NULL;
}

struct queue_client *queue_client_get(struct queue *queue, const char *name)
{
	struct queue_client *client = queue_client_find(queue, name);

	if (!client) {
		client = alloc_new(struct queue_client);
		client->name = alloc_string(name);
		htab_insert(&queue->clients, &client->node, queue_name_hash(name));
	}
	client->n_operations++;
	return client;
}

void queue_client_put(struct queue *queue, struct queue_client *client)
{
	if (--client->n_operations > 0)
		return;
	htab_remove(&queue->clients, &client->node);
	free(client->name);
	free(client);
}

struct error *queue_client_check(const struct queue *queue, const char *name,
				 size_t n_bytes, bool is_live)
{
	const struct queue_client *client = queue_client_find(queue, name);

	if ((is_live && queue->n_live >= QUEUE_OPERATIONS_MAX) ||
	    queue->operations.len >= QUEUE_OPERATIONS_MAX + QUEUE_RETAINED_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "%d operations are queued already",
				 QUEUE_OPERATIONS_MAX);
	if (queue->bytes + queue->retained_bytes + n_bytes > QUEUE_BYTES_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "the queue holds as many bytes as it may");
	if (!client)
		return NULL;
	/* cancelled ones of a job that runs on are not live, but there */
	if ((is_live && client->n_live >= QUEUE_CLIENT_OPERATIONS) ||
	    client->n_operations >= QUEUE_CLIENT_OPERATIONS + QUEUE_RETAINED_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "this connection has %d operations queued already",
				 QUEUE_CLIENT_OPERATIONS);
	if (client->bytes > 0 && client->bytes + n_bytes > QUEUE_CLIENT_BYTES)
		return error_new(
			ERROR_RESOURCE_EXHAUSTED,
			"this connection's operations take as many bytes as one's "
			"may: results that are not read count, too");
	return NULL;
}

uint64_t queue_client_turn(const struct queue *queue, struct queue_client *client)
{
	if (client->last_turn < queue->turn)
		client->last_turn = queue->turn;
	return ++client->last_turn;
}
