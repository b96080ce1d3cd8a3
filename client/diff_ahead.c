/* Owns copies of what is held. */
#include "client/diff_ahead.h"

#include <string.h>

#include "client/artifact.h"
#include "lib/base/alloc.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

/* Of all that is held: some are shown soon, however much differs. */
#define DIFF_AHEAD_BYTES ((int64_t)32 << 20)
#define DIFF_AHEAD_N     10000

struct diff_side {
	bool is_there;
	struct tree_node node; /* without name and properties */
	char *target;
};

struct diff_held {
	char *path;
	struct diff_side was, is;
};

static void diff_ahead_drop(struct diff_ahead *ahead)
{
	for (size_t i = 0; i < ahead->n; i++) {
		free(ahead->held[i].path);
		free(ahead->held[i].was.target);
		free(ahead->held[i].is.target);
	}
	ahead->n = 0;
	ahead->bytes = 0;
}

void diff_ahead_deinit(struct diff_ahead *ahead)
{
	diff_ahead_drop(ahead);
	free(ahead->held);
}

static void diff_side_copy(struct diff_side *side, const struct tree_node *node)
{
	*side = (struct diff_side){.is_there = node != NULL};
	if (!node)
		return;
	side->node.kind = node->kind;
	side->node.digest = node->digest;
	side->node.is_executable = node->is_executable;
	side->target = alloc_string_n((const char *)node->target.data, node->target.len);
	side->node.target =
		(struct slice){(const uint8_t *)side->target, node->target.len};
}

static const struct tree_node *diff_side_node(const struct diff_side *side)
{
	return side->is_there ? &side->node : NULL;
}

static bool diff_is_read(const struct diff_ahead *ahead, const struct diff_side *side)
{
	return side->is_there && side->node.kind == TREE_FILE && side->node.digest.size &&
	       side->node.digest.size <= ahead->blob_max;
}

/* Both or none of them: the content of one alone is not shown, nor is what is the same.
 */
static bool diff_needs_blobs(const struct diff_ahead *ahead, const struct diff_held *held)
{
	const struct diff_side *sides[] = {&held->was, &held->is};

	if (held->was.is_there && held->is.is_there &&
	    digest_equal(&held->was.node.digest, &held->is.node.digest))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
		if (sides[i]->is_there && sides[i]->node.kind == TREE_FILE &&
		    sides[i]->node.digest.size > ahead->blob_max)
			return false;
	return true;
}

/* The blobs of all that is held; where one cannot be had, its path is named when that is
 * shown. */
static void diff_ahead_bring(struct diff_ahead *ahead)
{
	_cleanup_free_ struct digest *blobs = alloc_array(2 * ahead->n, sizeof(*blobs));
	size_t n = 0;

	for (size_t i = 0; i < ahead->n; i++) {
		const struct diff_held *held = &ahead->held[i];

		if (!diff_needs_blobs(ahead, held))
			continue;
		if (diff_is_read(ahead, &held->was))
			blobs[n++] = held->was.node.digest;
		if (diff_is_read(ahead, &held->is))
			blobs[n++] = held->is.node.digest;
	}
	log_drop(LOG_DEBUG, artifact_bring(ahead->fetch, blobs, n), "%zu blobs", n);
}

struct error *diff_ahead_end(struct diff_ahead *ahead)
{
	struct error *err = NULL;

	if (ahead->n)
		diff_ahead_bring(ahead);
	for (size_t i = 0; !err && i < ahead->n; i++) {
		const struct diff_held *held = &ahead->held[i];

		err = ahead->show(ahead->ctx, held->path, diff_side_node(&held->was),
				  diff_side_node(&held->is));
	}
	diff_ahead_drop(ahead);
	return err;
}

struct error *diff_ahead_add(struct diff_ahead *ahead, const char *path,
			     const struct tree_node *was, const struct tree_node *is)
{
	struct diff_held *held;

	ahead->held =
		alloc_grow(ahead->held, &ahead->cap, ahead->n + 1, sizeof(*ahead->held));
	held = &ahead->held[ahead->n++];
	held->path = alloc_string(path);
	diff_side_copy(&held->was, was);
	diff_side_copy(&held->is, is);
	ahead->bytes += (int64_t)(strlen(path) + sizeof(*held));
	if (diff_needs_blobs(ahead, held)) {
		ahead->bytes +=
			diff_is_read(ahead, &held->was) ? held->was.node.digest.size : 0;
		ahead->bytes +=
			diff_is_read(ahead, &held->is) ? held->is.node.digest.size : 0;
	}
	if (ahead->bytes < DIFF_AHEAD_BYTES && ahead->n < DIFF_AHEAD_N)
		return NULL;
	return diff_ahead_end(ahead);
}
