/*
 * The queue over a restart: what one hands out for the disk, another is made of. No disk
 * and no sockets: a table of records stands for the file, and time is an argument.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/tree/hasher.h"
#include "server/queue_journal.h"
#include "server/queue_restore.h"
#include "server/response.h"

#define S        NS_PER_S
#define ROWS_MAX 256
#define NOW      (1000 * S) /* of the second queue */
#define AHEAD    (5000 * S) /* the wall's clock, less the first queue's */

struct row {
	int kind; /* 0: free */
	uint64_t id;
	struct buf head, response;
};

/* A file, the queue that writes it, and the one that was made of it. */
struct world {
	struct queue *queue;
	struct row rows[ROWS_MAX];
	int n_wakes;
	struct queue_restored restored;
	struct arena arena;
};

struct name {
	char text[QUEUE_NAME_MAX];
};

struct bot {
	char name[QUEUE_NAME_MAX];
	struct queue_poll poll;
	struct queue_lease_told *leases;
	size_t n_leases, n_strange;
	int n_wakes;
};

int world_setup(void **state);
int world_teardown(void **state);

/* A row of the file, as it is to be from here on. */
struct row *world_put(struct world *world, int kind, uint64_t id, struct slice head,
		      struct slice response);

/* Rows of a kind; 0: all. */
size_t world_count(const struct world *world, int kind);

/* All that changed, as the journal would; how many records that were. */
size_t world_write(struct world *world);

/* The server is killed, and another is made of what was written, so much later. */
void world_restart_after(struct world *world, int64_t later_ns);

/* The same, with all written. */
void world_restart(struct world *world);
void world_wake(void *ctx);

/* ---- clients and bots ---- */
struct queue_spec spec_of(const char *action);
struct name submit_spec(struct world *world, const struct queue_spec *spec);
struct name submit(struct world *world, const char *action);
struct queue_bot bot_config(const char *id, const char *owner, size_t capacity);
void bot_open(struct world *world, struct bot *bot, size_t capacity);

/* A report with one claim or none; the answer, which is asked for at once. */
void bot_report(struct world *world, struct bot *bot, const char *id,
		enum queue_lease_state state, int64_t now_ns);

/* Takes the one lease that it is offered. */
const char *bot_take(struct world *world, struct bot *bot, int64_t now_ns);
enum queue_stage stage_of(struct world *world, const struct name *name);
enum error_code code_of(struct world *world, const struct name *name);
void assert_unknown(struct world *world, const struct name *name);
