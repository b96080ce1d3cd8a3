/*
 * The store's index: an SQLite database of what the store would rather not find out
 * again. It says nothing that the files could not say, so losing it loses only ages.
 *
 * Threads: any; two connections with a lock each, so that a lookup never waits for a
 * batch.
 */
#pragma once

#include "lib/tree/digest.h"

struct store_index;

enum store_state {
	STORE_SUSPECT = 0, /* hash it before use */
	STORE_WHOLE = 1,   /* good as long as the machine does not crash */
	STORE_DURABLE = 2, /* good, and known to be on the disk */
};

struct store_row {
	struct digest digest;
	int64_t used_ns;
	int64_t stamp; /* store_file_stamp() of the file that state speaks of */
	enum store_state state;
};

/* DATA_LOSS where the file is no such database: remove it with store_index_wipe(). */
struct error *store_index_open(const char *dir, struct store_index **index_out);
void *store_index_close(struct store_index *index);
CLEANUP_DEFINE(struct store_index, store_index_close)
void store_index_wipe(const char *dir);
/* Reads the whole database for damage: after an unclean stop. */
struct error *store_index_check(struct store_index *index);

/* One transaction at a time: begin locks, and end (commit or, on err, rollback) unlocks.
 * end consumes err and returns it, or its own. */
struct error *store_index_begin(struct store_index *index);
struct error *store_index_end(struct store_index *index, struct error *err);

/* The rest between begin and end. */
struct error *store_index_put(struct store_index *index, const struct store_row *row);
/* Only where there is no row yet. */
struct error *store_index_add(struct store_index *index, const struct store_row *row);
struct error *store_index_use(struct store_index *index, const struct digest *digest,
			      int64_t used_ns);
struct error *store_index_delete(struct store_index *index, const struct digest *digest);
struct error *store_index_demote(struct store_index *index); /* WHOLE becomes SUSPECT */
/* Rows in order of their last use, those after *after (NULL: all); stops after n_max. */
struct error *store_index_each(struct store_index *index, const struct store_row *after,
			       int64_t n_max,
			       void (*each)(void *ctx, const struct store_row *row),
			       void *ctx);
struct error *store_index_totals(struct store_index *index, int64_t *n_out,
				 int64_t *bytes_out);
/* Named notes: "boot", "clean". An unknown one is "". */
struct error *store_index_note(struct store_index *index, const char *name,
			       struct buf *out);
struct error *store_index_set_note(struct store_index *index, const char *name,
				   const char *value);

/* By itself, on the second connection. *found_out false: no row of that hash. */
struct error *store_index_find(struct store_index *index, const struct digest *digest,
			       bool *found_out, struct store_row *row_out);
