/*
 * The store's table: what is known of each blob. An entry is found by its hash alone, so
 * that a blob asked for with a wrong size is told from one that is absent.
 *
 * Threads: any, with the store's mutex. Nothing here blocks or fails.
 */
#pragma once

#include "lib/store/store_impl.h"

enum entry_state {
	ENTRY_ABSENT,    /* its removal is not in the index yet */
	ENTRY_UNCHECKED, /* the index knows it to be good; its file was not looked at yet
			  */
	ENTRY_SUSPECT,   /* to be hashed before use */
	ENTRY_GOOD,
};

struct store_entry {
	struct hnode node;
	struct list lru;   /* in store->lru while present */
	struct list dirty; /* in store->dirty while the index must hear of it */
	struct digest digest;
	int64_t used_ns;
	int64_t indexed_used_ns; /* as the index has it */
	uint64_t commit;         /* that made it, in this process; 0: before */
	int64_t stamp;           /* of the file when it was good; 0: not known yet */
	enum entry_state state;
	bool needs_row; /* the index must hear of more than its last use */
	bool is_seen;   /* while opening: its file is there */
};

/* The table owns the entry, which may be gone once the mutex was given back. NULL: none.
 */
struct store_entry *store_entry_find(struct store *store, const struct digest *digest)
	SYNC_REQUIRES(&store->mutex);
/* As find, and makes an absent one where there is none. */
struct store_entry *store_entry_get(struct store *store, const struct digest *digest)
	SYNC_REQUIRES(&store->mutex);
/* Also counts it, and keeps it among those that may be evicted, while it is present. */
void store_entry_set(struct store *store, struct store_entry *entry,
		     enum entry_state state) SYNC_REQUIRES(&store->mutex);
/* The entry was used now. */
void store_entry_touch(struct store *store, struct store_entry *entry)
	SYNC_REQUIRES(&store->mutex);
/* It was used so lately that it must not be evicted. */
bool store_entry_is_promised(const struct store *store, const struct store_entry *entry,
			     int64_t wall_ns) SYNC_REQUIRES(&store->mutex);
/* The index must hear of it: of its last use, or of all. */
void store_entry_dirty(struct store *store, struct store_entry *entry, bool needs_row)
	SYNC_REQUIRES(&store->mutex);
/* Frees it where it is absent and the index knows. */
void store_entry_drop_unused(struct store *store, struct store_entry *entry)
	SYNC_REQUIRES(&store->mutex);
/* Frees them all, the dirty ones unheard. */
void store_entry_drop_all(struct store *store) SYNC_REQUIRES(&store->mutex);
