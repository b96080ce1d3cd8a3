/*
 * Owns the hints: names that may lead to files. Each is asked for once, whatever says it
 * how often, and waits where a Directory on its way is not at hand.
 */
#include <string.h>

#include "predict/foresight_impl.h"

static uint64_t foresight_hint_hash(enum foresight_hint_kind kind, const char *dir,
				    struct slice text)
{
	uint64_t hash = slice_hash(text) * 31 + slice_hash(slice_of(dir));

	return hash * 31 + (uint64_t)kind;
}

static struct foresight_hint *foresight_hint_find(const struct foresight *foresight,
						  enum foresight_hint_kind kind,
						  const char *dir, struct slice text)
{
	uint64_t hash = foresight_hint_hash(kind, dir, text);

	for (struct hnode *n = htab_first(&foresight->hints, hash); n;
	     n = htab_next(n, hash)) {
		struct foresight_hint *hint =
			container_of(n, struct foresight_hint, seen);

		if (hint->kind == kind && slice_is(text, hint->text) &&
		    strcmp(hint->dir, dir) == 0)
			return hint;
	}
	return NULL;
}

/* What a look leads to may be looked for within it. */
static void foresight_hint_look(struct foresight *foresight, struct foresight_hint *hint)
{
	foresight->n_looking++;
	if (foresight->look_for[hint->kind](foresight, hint) == RESOLVE_UNKNOWN)
		list_push(&foresight->pending, &hint->link);
	if (--foresight->n_looking == 0)
		arena_reset(&foresight->scratch);
}

/* In the order in which they came, but what a look leads to is part of it. */
static void foresight_hint_take(struct foresight *foresight, struct foresight_hint *hint)
{
	bool has_others = !foresight->n_looking && !list_is_empty(&foresight->todo);

	if (foresight_is_tired(foresight) || has_others)
		list_push(&foresight->todo, &hint->link);
	else
		foresight_hint_look(foresight, hint);
}

void foresight_hint(struct foresight *foresight, enum foresight_hint_kind kind,
		    enum foresight_source source, double probability, const char *dir,
		    struct slice text)
{
	struct foresight_hint *hint;

	if (!text.len || text.len >= RESOLVE_PATH_MAX || foresight->effort <= 0 ||
	    foresight->is_resting || foresight->n_hints == FORESIGHT_HINTS_MAX ||
	    foresight_hint_find(foresight, kind, dir, text))
		return;
	hint = arena_new(&foresight->arena, struct foresight_hint);
	if (!hint)
		return;
	hint->dir = arena_string(&foresight->arena, dir);
	hint->text = arena_printf(&foresight->arena, "%.*s", (int)text.len,
				  (const char *)text.data);
	if (!hint->dir || !hint->text)
		return;
	hint->kind = kind;
	hint->source = source;
	hint->probability = probability;
	list_init(&hint->link);
	htab_insert(&foresight->hints, &hint->seen, foresight_hint_hash(kind, dir, text));
	foresight->n_hints++;
	foresight_hint_take(foresight, hint);
}

void foresight_hint_again(struct foresight *foresight)
{
	if (foresight->effort <= 0)
		return;
	list_splice(&foresight->todo, &foresight->pending);
	foresight_hint_go_on(foresight);
}

void foresight_hint_go_on(struct foresight *foresight)
{
	while (foresight->effort > 0 && !foresight_is_tired(foresight) &&
	       !foresight->is_resting && !list_is_empty(&foresight->todo))
		foresight_hint_look(foresight, container_of(list_pop(&foresight->todo),
							    struct foresight_hint, link));
}
