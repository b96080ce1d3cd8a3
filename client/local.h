/*
 * What lazyroot keeps on this machine for its user: ~/.cache/lazyroot, or below
 * $XDG_CACHE_HOME, with the store of all that was fetched, the stat cache and other small
 * files; and the threads that read and write there. Needs no service.
 *
 * Threads: main, unless said otherwise. A program has one.
 */
#pragma once

#include "lib/base/latch.h"
#include "lib/base/pool.h"
#include "lib/store/store_pin.h"

/* The store, opened by the pool: until taken, or all is deinited. */
struct local_ahead {
	bool is_begun;
	struct pool_task task;
	struct latch opened;
	char *path;
	int64_t size_limit;
	struct store *store;
	struct error *err;
};

struct local {
	char *private_dir; /* a cache of this command's own; NULL: the user's */
	struct pool *pool; /* made by local_open_pool() */
	struct pool_task prepare;
	struct local_ahead ahead;
	struct store *store; /* made by local_open_store() */
	int64_t size_limit;  /* of it, bytes; 0: half of the space that it could have */
};

void local_deinit(struct local *local); /* with a cache of its own */
/* A path in the user's cache directory, which is made; the caller frees it. Where there
 * can be none (services and CI have no HOME), or it is another user's, one of this
 * command's own, after a warning. */
struct error *local_path(struct local *local, const char *name, char **path_out);
/* For commands whose outcome stays on this machine: FAILED_PRECONDITION where it would go
 * with the command. */
struct error *local_must_last(struct local *local);
struct error *local_open_pool(struct local *local);
/* The store, shared with the user's other commands; the pool as well. */
struct error *local_open_store(struct local *local);
/* Begins that, for a command that will need it: what fails is told there. */
void local_open_store_ahead(struct local *local);
/* After local_open_store(): a tree that is read lazily stays as long as the pin lives.
 * NULL where that cannot be had, which was said. */
struct store_pin *local_pin_tree(struct local *local, const struct digest *root);
/* Before the program ends without local_deinit(), from any thread: removes a cache of its
 * own. */
void local_drop_private(void);
