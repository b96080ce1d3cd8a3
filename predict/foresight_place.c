/*
 * Owns nothing: where programs and libraries are looked for, along PATH and as ld.so
 * does.
 */
#include <string.h>

#include "predict/foresight_impl.h"

/* Along PATH: the first that is there. */
enum resolve_outcome foresight_place_program(struct foresight *foresight,
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

/* The places that ld.so knows without its cache, from the root. */
static const char *const foresight_place_dirs[] = {
	"lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib",
};

static enum resolve_outcome foresight_place_in(struct foresight *foresight,
					       const struct foresight_hint *hint,
					       const char *dir)
{
	const char *path = foresight_join(foresight, dir, hint->text);

	return path ? foresight_want(foresight, "", slice_of(path), hint->source,
				     hint->probability, NULL)
		    : RESOLVE_ABSENT;
}

/* In the directories of a triple below dir ("usr/lib/x86_64-linux-gnu"), then in dir. */
static enum resolve_outcome foresight_place_below(struct foresight *foresight,
						  const struct foresight_hint *hint,
						  const char *dir)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	uint32_t n = 0;
	enum resolve_outcome outcome = foresight_list(foresight, dir, &entries, &n);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	for (uint32_t i = 0; i < n; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *below;

		if (node->kind != TREE_DIR ||
		    !memmem(node->name.data, node->name.len, "-linux-gnu", 10))
			continue;
		below = arena_printf(&foresight->scratch, "%s/%.*s", dir,
				     (int)node->name.len, (const char *)node->name.data);
		outcome = below ? foresight_place_in(foresight, hint, below)
				: RESOLVE_ABSENT;
		if (outcome != RESOLVE_ABSENT)
			return outcome;
	}
	return foresight_place_in(foresight, hint, dir);
}

/* hint->dir: the file's own directory, then ":RUNPATH" as often as there is one. */
static enum resolve_outcome foresight_place_runpath(struct foresight *foresight,
						    const struct foresight_hint *hint)
{
	static const char origin[] = "$ORIGIN";
	size_t own = strcspn(hint->dir, ":");
	const char *at = hint->dir + own;

	while (*at == ':') {
		size_t len = strcspn(++at, ":");
		bool is_beside = strncmp(at, origin, sizeof(origin) - 1) == 0;
		size_t skip = is_beside ? sizeof(origin) - 1 : 0;
		const char *path = arena_printf(&foresight->scratch, "%.*s%.*s/%s",
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

enum resolve_outcome foresight_place_library(struct foresight *foresight,
					     const struct foresight_hint *hint)
{
	enum resolve_outcome outcome = foresight_place_runpath(foresight, hint);

	for (size_t i = 0;
	     outcome == RESOLVE_ABSENT && i < ARRAY_SIZE(foresight_place_dirs); i++)
		outcome = foresight_place_below(foresight, hint, foresight_place_dirs[i]);
	return outcome;
}

void foresight_place_start(struct foresight *foresight)
{
	static const char *const interpreters[] = {
		"lib64/ld-linux-x86-64.so.2",
		"lib/ld-linux-aarch64.so.1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(interpreters); i++)
		foresight_hint(foresight, HINT_ROOTED, FORESIGHT_CERTAIN, 0.9, "",
			       slice_of(interpreters[i]));
	foresight_hint(foresight, HINT_LIBRARY, FORESIGHT_CERTAIN, 0.9, "",
		       slice_of("libc.so.6"));
}
