/*
 * Owns the files of one action by digest, where in the root a name leads, and what effort
 * is left. A file that is wanted stands in the list of its source, the surest that named
 * it.
 */
#include <string.h>

#include "predict/foresight_impl.h"

void foresight_spend(struct foresight *foresight, int64_t n, int64_t n_for_one)
{
	foresight->effort -= n / n_for_one;
	foresight->turn -= n / n_for_one;
}

bool foresight_is_tired(const struct foresight *foresight)
{
	return foresight->turn <= 0;
}

void foresight_charge(struct foresight *foresight, int64_t n)
{
	foresight_spend(foresight, n, 1);
}

uint32_t foresight_entries(struct foresight *foresight, const struct tree_dir *dir)
{
	uint32_t n = dir->n_nodes < FORESIGHT_ENTRIES_MAX ? dir->n_nodes
							  : FORESIGHT_ENTRIES_MAX;

	foresight_spend(foresight, n, FORESIGHT_EFFORT_ENTRIES);
	return n;
}

enum resolve_outcome foresight_list(struct foresight *foresight, const char *dir,
				    struct tree_dir **entries_out, uint32_t *n_out)
{
	enum resolve_outcome outcome =
		dir ? resolve_dir(&foresight->resolve, &foresight->root, dir, entries_out)
		    : RESOLVE_ABSENT;

	if (outcome == RESOLVE_FOUND)
		*n_out = foresight_entries(foresight, *entries_out);
	return outcome;
}

enum resolve_outcome foresight_resolve(struct foresight *foresight, const char *base,
				       struct slice path, struct resolved *out)
{
	size_t skip = strlen(foresight->mount);

	if (path.len && path.data[0] == '/' && skip > 1) {
		if (path.len < skip || memcmp(path.data, foresight->mount, skip) != 0 ||
		    (path.len > skip && path.data[skip] != '/'))
			return RESOLVE_ABSENT;
		path.data += skip;
		path.len -= skip;
		base = "";
		while (path.len && path.data[0] == '/') {
			path.data++;
			path.len--;
		}
	}
	return resolve_path(&foresight->resolve, &foresight->root, base, path, out);
}

struct foresight_file *foresight_file_find(const struct foresight *foresight,
					   const struct digest *digest)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&foresight->files, hash); n;
	     n = htab_next(n, hash)) {
		struct foresight_file *file =
			container_of(n, struct foresight_file, by_digest);

		if (digest_equal(&file->digest, digest))
			return file;
	}
	return NULL;
}

struct foresight_file *foresight_file_get(struct foresight *foresight,
					  const struct digest *digest, const char *path)
{
	struct foresight_file *file = foresight_file_find(foresight, digest);

	if (file || foresight->n_files == FORESIGHT_FILES_MAX)
		return file;
	file = arena_new(&foresight->arena, struct foresight_file);
	if (!file)
		return NULL;
	file->path = arena_string(&foresight->arena, path);
	if (!file->path)
		return NULL;
	file->digest = *digest;
	file->state = FORESIGHT_GONE;
	list_init(&file->link);
	htab_insert(&foresight->files, &file->by_digest, digest_key(digest));
	foresight->n_files++;
	return file;
}

/* Whether it changes anything that a file is wanted once more. */
static bool foresight_file_is_news(const struct foresight_file *file,
				   enum foresight_source source, double probability)
{
	switch (file->state) {
	case FORESIGHT_WANTED:
		return source < file->source;
	case FORESIGHT_ASKED:
		return false;
	case FORESIGHT_HERE: /* it is to be looked into after all */
		return !file->is_scanned && file->probability < FORESIGHT_LIKELY &&
		       probability >= FORESIGHT_LIKELY;
	case FORESIGHT_GONE: /* it did not pay then */
		return !file->is_asked && !file->is_opened &&
		       file->probability < probability;
	}
	return false;
}

struct foresight_file *foresight_want_file(struct foresight *foresight,
					   const struct digest *digest, const char *path,
					   enum foresight_source source,
					   double probability)
{
	struct foresight_file *file = foresight_file_find(foresight, digest);
	bool is_new = !file;

	if (is_new)
		file = foresight_file_get(foresight, digest, path);
	if (!file)
		return NULL;
	if (source == FORESIGHT_LEARNED && probability >= 0.5)
		file->is_known = true;
	if (!is_new && !foresight_file_is_news(file, source, probability)) {
		if (file->probability < probability)
			file->probability = probability;
		return file;
	}
	list_remove(&file->link);
	if (!file->is_asked) /* else it is counted for who wished for it */
		file->source = source;
	file->probability = probability;
	file->state = FORESIGHT_WANTED;
	list_push(&foresight->wanted[file->source], &file->link);
	return file;
}

enum resolve_outcome foresight_want(struct foresight *foresight, const char *base,
				    struct slice path, enum foresight_source source,
				    double probability, struct resolved *found_out)
{
	struct resolved resolved;
	struct resolved *found = found_out ? found_out : &resolved;
	enum resolve_outcome outcome = foresight_resolve(foresight, base, path, found);

	if (outcome == RESOLVE_FOUND && found->kind == TREE_FILE)
		(void)foresight_want_file(foresight, &found->digest, found->path, source,
					  probability);
	return outcome;
}

void foresight_dirs_add(struct foresight *foresight, struct foresight_dirs *dirs,
			const char *dir)
{
	const char *copy = dir ? arena_string(&foresight->arena, dir) : NULL;

	if (copy && dirs->n < FORESIGHT_DIRS_MAX)
		dirs->of[dirs->n++] = copy;
}

const char *foresight_join(struct foresight *foresight, const char *dir, const char *name)
{
	return arena_printf(&foresight->scratch, "%s%s%s", dir, *dir ? "/" : "", name);
}
