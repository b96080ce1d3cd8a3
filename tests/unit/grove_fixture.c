/* Input roots in memory, and foresight over them; see grove_fixture.h. No threads. */
#include "tests/unit/grove_fixture.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/tree/hasher.h"

static void grove_ok(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

/* The world */

static struct grove_dir *grove_find_dir(struct grove *grove, const struct digest *digest)
{
	for (size_t i = 0; i < grove->n_dirs; i++)
		if (digest_equal(&grove->dirs[i].digest, digest))
			return &grove->dirs[i];
	return NULL;
}

static struct grove_blob *grove_find(struct grove *grove, const struct digest *digest)
{
	for (size_t i = 0; i < grove->n_blobs; i++)
		if (digest_equal(&grove->blobs[i].digest, digest))
			return &grove->blobs[i];
	return NULL;
}

static struct tree_dir *grove_world_dir(void *ctx, const struct digest *digest)
{
	struct grove_dir *dir = grove_find_dir(ctx, digest);

	((struct grove *)ctx)->n_dir++;
	return dir && dir->is_here ? tree_dir_ref(dir->dir) : NULL;
}

/* As above, whether it is at hand or not. */
static struct tree_dir *grove_any_dir(void *ctx, const struct digest *digest)
{
	struct grove_dir *dir = grove_find_dir(ctx, digest);

	return dir ? tree_dir_ref(dir->dir) : NULL;
}

static bool grove_world_has(void *ctx, const struct digest *digest)
{
	struct grove *grove = ctx;
	struct grove_blob *blob = grove_find(grove, digest);

	grove->n_has++;
	assert_non_null(blob); /* nothing outside the root is ever asked for */
	return blob->is_here;
}

static size_t grove_world_read(void *ctx, const struct digest *digest, int64_t at,
			       void *buf, size_t len)
{
	struct grove_blob *blob = grove_find(ctx, digest);

	assert_non_null(blob);
	assert_true(at >= 0);
	if (!blob->is_here || (size_t)at >= blob->bytes.len)
		return 0;
	len = len < blob->bytes.len - (size_t)at ? len : blob->bytes.len - (size_t)at;
	memcpy(buf, blob->bytes.data + at, len);
	return len;
}

void grove_init(struct grove *grove)
{
	*grove = (struct grove){.build = treebuild_new(NULL, NULL)};
	grove->resolve = (struct resolve_world){.dir = grove_world_dir, .ctx = grove};
	grove->world = (struct foresight_world){.dir = grove_world_dir,
						.has = grove_world_has,
						.read = grove_world_read,
						.ctx = grove};
	grove->way = (struct foresight_way){.rtt_ns = 10000000,
					    .rate = 125000000,
					    .contention = 1,
					    .size_max = INT64_MAX};
}

void grove_deinit(struct grove *grove)
{
	(void)foresight_free(grove->foresight);
	(void)treebuild_free(grove->build);
	for (size_t i = 0; i < grove->n_blobs; i++) {
		free(grove->blobs[i].path);
		buf_deinit(&grove->blobs[i].bytes);
	}
	for (size_t i = 0; i < grove->n_dirs; i++)
		tree_dir_unref(grove->dirs[i].dir);
	free(grove->blobs);
	free(grove->dirs);
	buf_deinit(&grove->said);
}

/* What the root holds */

void grove_bytes(struct grove *grove, const char *path, struct slice bytes)
{
	struct digest digest;

	hasher_digest(bytes.data, bytes.len, &digest);
	grove_ok(treebuild_put_file(grove->build, path, &digest, false, NULL));
	if (grove_find(grove, &digest))
		return;
	grove->blobs = alloc_grow(grove->blobs, &grove->blobs_cap, grove->n_blobs + 1,
				  sizeof(*grove->blobs));
	grove->blobs[grove->n_blobs] =
		(struct grove_blob){.digest = digest, .path = alloc_string(path)};
	buf_add(&grove->blobs[grove->n_blobs++].bytes, bytes.data, bytes.len);
}

void grove_file(struct grove *grove, const char *path, const char *text)
{
	grove_bytes(grove, path, slice_of(text ? text : path));
}

void grove_link(struct grove *grove, const char *path, const char *target)
{
	grove_ok(treebuild_put_symlink(grove->build, path, target, NULL));
}

void grove_dir(struct grove *grove, const char *path)
{
	grove_ok(treebuild_put_dir(grove->build, path, NULL));
}

static struct error *grove_emit(void *ctx, const struct digest *digest,
				struct slice bytes)
{
	struct grove *grove = ctx;
	struct buf copy = BUF_INIT;

	grove->dirs = alloc_grow(grove->dirs, &grove->dirs_cap, grove->n_dirs + 1,
				 sizeof(*grove->dirs));
	grove->dirs[grove->n_dirs] =
		(struct grove_dir){.digest = *digest, .is_here = true};
	buf_add(&copy, bytes.data, bytes.len);
	return tree_dir_decode(&copy, &grove->dirs[grove->n_dirs++].dir);
}

void grove_fold(struct grove *grove, const char *path, unsigned int depth)
{
	struct digest digest;

	for (unsigned int i = 0; i <= depth; i++) {
		_cleanup_(treebuild_freep) struct treebuild *build =
			treebuild_new(NULL, NULL);

		for (const char *name = "a\0b\0"; i && *name; name += 2)
			grove_ok(treebuild_put_tree(build, name, &digest));
		grove_ok(treebuild_finish(build, grove_emit, grove, &digest));
	}
	grove_ok(treebuild_put_tree(grove->build, path, &digest));
}

void grove_finish(struct grove *grove)
{
	grove_ok(treebuild_finish(grove->build, grove_emit, grove, &grove->root));
}

static struct digest grove_digest(struct grove *grove, const char *path)
{
	struct resolve_world all = {.dir = grove_any_dir, .ctx = grove};
	struct resolved found;

	if (resolve_path(&all, &grove->root, "", slice_of(path), &found) != RESOLVE_FOUND)
		fail_msg("the root has no %s", path);
	return found.digest;
}

void grove_show_dir(struct grove *grove, const char *path, bool is_here)
{
	struct digest digest = grove_digest(grove, path);

	grove_find_dir(grove, &digest)->is_here = is_here;
}

void grove_show_dirs(struct grove *grove, bool is_here)
{
	for (size_t i = 0; i < grove->n_dirs; i++)
		grove->dirs[i].is_here = is_here;
}

void grove_show(struct grove *grove, const char *path, bool is_here)
{
	struct digest digest = grove_digest(grove, path);

	grove_find(grove, &digest)->is_here = is_here;
}

/* Foresight */

void grove_think_of(struct grove *grove, const struct foresight_action *action)
{
	(void)foresight_free(grove->foresight);
	grove->foresight = foresight_new(&grove->world, action);
}

void grove_think(struct grove *grove, const char *command_line)
{
	_cleanup_free_ char *copy = alloc_string(command_line);
	const char *words[64];
	char *rest = NULL;
	size_t n = 0;

	for (char *word = strtok_r(copy, " ", &rest); word && n < ARRAY_SIZE(words);
	     word = strtok_r(NULL, " ", &rest))
		words[n++] = word;
	grove_think_of(grove, &(struct foresight_action){.root = grove->root,
							 .mount = "/",
							 .workdir = "",
							 .arguments = words,
							 .n_arguments = n,
							 .path = "/usr/bin:/bin"});
}

/* One more wish, whose path it adds to what was said. */
static struct grove_blob *grove_wish(struct grove *grove)
{
	struct foresight_wish wish;
	struct grove_blob *blob;

	if (!foresight_next(grove->foresight, &grove->way, &wish))
		return NULL;
	assert_true(wish.source < FORESIGHT_SOURCES);
	assert_true(wish.digest.size <= grove->way.size_max || wish.is_needed);
	blob = grove_find(grove, &wish.digest);
	assert_non_null(blob); /* nothing outside the root is ever wished for */
	buf_printf(&grove->said, "%s%s", grove->said.len ? " " : "", blob->path);
	return blob;
}

const char *grove_take(struct grove *grove, size_t most)
{
	buf_clear(&grove->said);
	while (most-- && grove_wish(grove))
		;
	return buf_string(&grove->said);
}

const char *grove_wishes(struct grove *grove)
{
	return grove_take(grove, SIZE_MAX);
}

static void grove_arrive(struct grove *grove, struct grove_blob *blob)
{
	blob->is_here = true;
	foresight_arrived(grove->foresight, &blob->digest, true);
}

const char *grove_settle(struct grove *grove)
{
	struct grove_blob *blob;

	buf_clear(&grove->said);
	while ((blob = grove_wish(grove)))
		grove_arrive(grove, blob);
	return buf_string(&grove->said);
}

void grove_bring(struct grove *grove)
{
	_cleanup_free_ char *list = alloc_string(buf_string(&grove->said));
	char *rest = NULL;

	for (char *path = strtok_r(list, " ", &rest); path;
	     path = strtok_r(NULL, " ", &rest)) {
		struct digest digest = grove_digest(grove, path);

		grove_arrive(grove, grove_find(grove, &digest));
	}
}

void grove_open(struct grove *grove, const char *path)
{
	struct digest digest = grove_digest(grove, path);
	struct grove_blob *blob = grove_find(grove, &digest);

	/* a directory's listing needs no blob */
	foresight_opened(grove->foresight, path, !blob || blob->is_here);
	if (!blob || blob->is_here)
		return;
	blob->is_here = true;
	foresight_arrived(grove->foresight, &digest, true);
}

bool grove_has(const char *list, const char *path)
{
	size_t len = strlen(path);

	for (const char *at = strstr(list, path); at; at = strstr(at + 1, path))
		if ((at == list || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

size_t grove_count(const char *list)
{
	size_t n = *list ? 1 : 0;

	for (; *list; list++)
		n += *list == ' ';
	return n;
}
