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

/* Along PATH: the first that is there. */
static enum resolve_outcome foresight_hint_program(struct foresight *foresight,
						   const struct foresight_hint *hint,
						   struct resolved *found)
{
	if (strchr(hint->text, '/'))
		return foresight_want(foresight, foresight->workdir, slice_of(hint->text),
				      hint->source, hint->probability, found);
	for (size_t i = 0; i < foresight->programs.n; i++) {
		const char *path =
			foresight_join(foresight, foresight->programs.of[i], hint->text);
		enum resolve_outcome outcome =
			path ? foresight_want(foresight, foresight->workdir,
					      slice_of(path), hint->source,
					      hint->probability, found)
			     : RESOLVE_ABSENT;

		if (outcome != RESOLVE_ABSENT)
			return outcome;
	}
	return RESOLVE_ABSENT;
}

/* The tool says what kind of command this is. */
static enum resolve_outcome foresight_hint_tool(struct foresight *foresight,
						const struct foresight_hint *hint)
{
	struct resolved found;
	enum resolve_outcome outcome = foresight_hint_program(foresight, hint, &found);
	const char *slash = strrchr(hint->text, '/');

	if (outcome != RESOLVE_FOUND || found.kind != TREE_FILE)
		return outcome;
	if (!foresight->has_tool) {
		foresight->has_tool = true;
		foresight->tool = found.digest;
	}
	foresight_compiler_found(foresight, found.path, slash ? slash + 1 : hint->text);
	foresight_python_found(foresight, found.path);
	return RESOLVE_FOUND;
}

/* The places that ld.so knows without its cache, from the root. */
static const char *const foresight_library_dirs[] = {
	"lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib",
};

static enum resolve_outcome foresight_hint_in(struct foresight *foresight,
					      const struct foresight_hint *hint,
					      const char *dir)
{
	const char *path = foresight_join(foresight, dir, hint->text);

	return path ? foresight_want(foresight, "", slice_of(path), hint->source,
				     hint->probability, NULL)
		    : RESOLVE_ABSENT;
}

/* In the directories of a triple below dir ("usr/lib/x86_64-linux-gnu"), then in dir. */
static enum resolve_outcome foresight_hint_library_in(struct foresight *foresight,
						      const struct foresight_hint *hint,
						      const char *dir)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	enum resolve_outcome outcome =
		resolve_dir(&foresight->resolve, &foresight->root, dir, &entries);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	for (uint32_t i = 0; i < entries->n_nodes; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *below;

		if (node->kind != TREE_DIR ||
		    !memmem(node->name.data, node->name.len, "-linux-gnu", 10))
			continue;
		below = arena_printf(&foresight->arena, "%s/%.*s", dir,
				     (int)node->name.len, (const char *)node->name.data);
		outcome = below ? foresight_hint_in(foresight, hint, below)
				: RESOLVE_ABSENT;
		if (outcome != RESOLVE_ABSENT)
			return outcome;
	}
	return foresight_hint_in(foresight, hint, dir);
}

/* hint->dir: the file's own directory, then ":RUNPATH" as often as there is one. */
static enum resolve_outcome foresight_hint_runpath(struct foresight *foresight,
						   const struct foresight_hint *hint)
{
	static const char origin[] = "$ORIGIN";
	size_t own = strcspn(hint->dir, ":");
	const char *at = hint->dir + own;

	while (*at == ':') {
		size_t len = strcspn(++at, ":");
		bool is_beside = strncmp(at, origin, sizeof(origin) - 1) == 0;
		size_t skip = is_beside ? sizeof(origin) - 1 : 0;
		const char *path = arena_printf(&foresight->arena, "%.*s%.*s/%s",
						is_beside ? (int)own : 0, hint->dir,
						(int)(len > skip ? len - skip : 0),
						at + skip, hint->text);
		enum resolve_outcome outcome =
			path && len >= skip
				? foresight_want(foresight, "", slice_of(path),
						 hint->source, hint->probability, NULL)
				: RESOLVE_ABSENT;

		if (outcome != RESOLVE_ABSENT)
			return outcome;
		at += len;
	}
	return RESOLVE_ABSENT;
}

enum resolve_outcome foresight_library(struct foresight *foresight,
				       const struct foresight_hint *hint)
{
	enum resolve_outcome outcome = foresight_hint_runpath(foresight, hint);

	for (size_t i = 0;
	     outcome == RESOLVE_ABSENT && i < ARRAY_SIZE(foresight_library_dirs); i++)
		outcome = foresight_hint_library_in(foresight, hint,
						    foresight_library_dirs[i]);
	return outcome;
}

/* What the command line names may be a directory. */
static enum resolve_outcome foresight_hint_path(struct foresight *foresight,
						const struct foresight_hint *hint)
{
	struct resolved found;
	enum resolve_outcome outcome =
		foresight_want(foresight, foresight->workdir, slice_of(hint->text),
			       hint->source, hint->probability, &found);

	if (outcome == RESOLVE_FOUND && found.kind == TREE_DIR)
		foresight_walk_named(foresight, found.path);
	return outcome;
}

/* A file of more arguments: read when it is here. */
static enum resolve_outcome foresight_hint_response(struct foresight *foresight,
						    const struct foresight_hint *hint)
{
	struct resolved found;
	enum resolve_outcome outcome = foresight_resolve(foresight, foresight->workdir,
							 slice_of(hint->text), &found);
	struct foresight_file *file;

	if (outcome != RESOLVE_FOUND || found.kind != TREE_FILE)
		return outcome;
	file = foresight_want_file(foresight, &found.digest, found.path, hint->source,
				   hint->probability);
	if (file)
		file->is_response = true;
	return RESOLVE_FOUND;
}

static enum resolve_outcome foresight_hint_try(struct foresight *foresight,
					       const struct foresight_hint *hint)
{
	switch (hint->kind) {
	case HINT_PATH:
		return foresight_hint_path(foresight, hint);
	case HINT_RESPONSE:
		return foresight_hint_response(foresight, hint);
	case HINT_ROOTED:
		return foresight_want(foresight, hint->dir, slice_of(hint->text),
				      hint->source, hint->probability, NULL);
	case HINT_PROGRAM:
		return foresight_hint_program(foresight, hint, NULL);
	case HINT_TOOL:
		return foresight_hint_tool(foresight, hint);
	case HINT_QUOTED:
	case HINT_ANGLED:
	case HINT_NEXT:
		return foresight_compiler_include(foresight, hint);
	case HINT_LINKED:
		return foresight_compiler_library(foresight, hint);
	case HINT_LIBRARY:
		return foresight_library(foresight, hint);
	case HINT_MODULE:
		return foresight_python_module(foresight, hint);
	case HINT_COMPILER:
		return foresight_compiler_settle(foresight, hint->text);
	case HINT_PYTHON:
		return foresight_python_settle(foresight, hint->text);
	}
	return RESOLVE_ABSENT;
}

void foresight_hint(struct foresight *foresight, enum foresight_hint_kind kind,
		    enum foresight_source source, double probability, const char *dir,
		    struct slice text)
{
	struct foresight_hint *hint;

	if (!text.len || text.len >= RESOLVE_PATH_MAX ||
	    foresight->n_hints == FORESIGHT_HINTS_MAX ||
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
	if (foresight_hint_try(foresight, hint) == RESOLVE_UNKNOWN)
		list_push(&foresight->pending, &hint->link);
}

void foresight_hint_again(struct foresight *foresight)
{
	struct list waiting = LIST_INIT(waiting);
	struct list *link;

	list_splice(&waiting, &foresight->pending);
	while ((link = list_pop(&waiting))) {
		struct foresight_hint *hint =
			container_of(link, struct foresight_hint, link);

		if (foresight_hint_try(foresight, hint) == RESOLVE_UNKNOWN)
			list_push(&foresight->pending, &hint->link);
	}
}
