/*
 * A walk over the Directories below a root, breadth first, each digest once, always in
 * the same order: for GetTree, and for asking whether a tree is complete.
 */
#pragma once

#include "lib/base/htab.h"
#include "server/service.h"

#define WALK_DIRS_MAX  ((size_t)1 << 20) /* of one walk: some hundred bytes each */
#define WALK_TOTAL_MAX ((size_t)4 << 20) /* of all that run at once */

struct walk {
	const struct server *server;
	struct htab seen;
	struct walk_dir **order; /* all seen so far; those before next are done */
	size_t n, cap, next;
};

void walk_init(struct walk *walk, const struct server *server, const struct digest *root);
/* A further root. False: too many directories are walked already. */
bool walk_also(struct walk *walk, const struct digest *root);
void walk_deinit(struct walk *walk);
bool walk_is_over(const struct walk *walk);
/*
 * The next directory: its bytes are appended to out; *found_out false where it is not in
 * the store. file is told of each file in it (NULL: not wanted) and may end the walk with
 * false, in which case *found_out is false, too. INVALID_ARGUMENT: it is no Directory.
 */
struct error *walk_next(struct walk *walk, struct buf *out,
			bool (*file)(void *ctx, const struct digest *digest), void *ctx,
			bool *found_out);
