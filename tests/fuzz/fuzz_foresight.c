/*
 * Fuzzes foresight as a whole: a fixed root whose files hold what the input says, and a
 * command line out of it. An input is parts (fuzz.h): words that end with a NUL, a
 * profile, what happens, then the files' bytes in turn. Whatever it holds, foresight
 * wishes for nothing but what the root has, for each once, and ends.
 *
 * What happens is a byte a time: a wish, its coming or its loss, an opened file, a
 * Directory more, a narrower way.
 */
#include "lib/tree/hasher.h"
#include "lib/tree/treebuild.h"
#include "predict/foresight.h"
#include "predict/resolve.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_WORDS_MAX 64
#define FUZZ_STEPS_MAX 2000

static const char *const fuzz_paths[] = {
	"usr/bin/gcc",
	"usr/bin/python3.11",
	"usr/bin/node",
	"bin/sh",
	"usr/lib/gcc/x86_64-linux-gnu/12/cc1",
	"usr/lib/x86_64-linux-gnu/libx.so.1",
	"usr/lib/python3.11/os.py",
	"usr/lib/python3.11/encodings/__init__.py",
	"usr/include/stdio.h",
	"usr/include/bits/x.h",
	"src/m.c",
	"src/m.py",
	"src/m.js",
	"src/m.sh",
	"src/args",
	"src/a.h",
	"node_modules/p/package.json",
	"d/f0",
	"d/f1",
	"d/f2",
	"d/f3",
};

struct fuzz_blob {
	struct digest digest;
	struct slice bytes;
	bool is_here;
	bool is_asked;
};

struct fuzz_world {
	struct fuzz_blob blobs[ARRAY_SIZE(fuzz_paths)];
	struct digest digests[64]; /* of Directories */
	struct tree_dir *dirs[64];
	size_t n_dirs;
	size_t n_dirs_here;
	size_t n_read;
	struct digest root;
};

static struct tree_dir *fuzz_dir(void *ctx, const struct digest *digest)
{
	struct fuzz_world *world = ctx;

	for (size_t i = 0; i < world->n_dirs; i++)
		if (digest_equal(&world->digests[i], digest))
			return i + world->n_dirs_here >= world->n_dirs
				       ? tree_dir_ref(world->dirs[i])
				       : NULL;
	require(false); /* no such Directory */
	return NULL;
}

/* Two files may hold the same bytes: the first of them stands for both. */
static struct fuzz_blob *fuzz_blob(struct fuzz_world *world, const struct digest *digest)
{
	for (size_t i = 0; i < ARRAY_SIZE(fuzz_paths); i++)
		if (digest_equal(&world->blobs[i].digest, digest))
			return &world->blobs[i];
	require(false); /* nothing outside the root */
	return NULL;
}

static bool fuzz_has(void *ctx, const struct digest *digest)
{
	return fuzz_blob(ctx, digest)->is_here;
}

static size_t fuzz_read(void *ctx, const struct digest *digest, int64_t at, void *buf,
			size_t len)
{
	struct fuzz_world *world = ctx;
	const struct fuzz_blob *blob = fuzz_blob(world, digest);

	require(at >= 0);
	if ((size_t)at >= blob->bytes.len)
		return 0;
	len = len < blob->bytes.len - (size_t)at ? len : blob->bytes.len - (size_t)at;
	memcpy(buf, blob->bytes.data + at, len);
	world->n_read += len;
	return len;
}

static struct error *fuzz_emit(void *ctx, const struct digest *digest, struct slice bytes)
{
	struct fuzz_world *world = ctx;
	struct buf copy = BUF_INIT;

	require(world->n_dirs < ARRAY_SIZE(world->dirs));
	world->digests[world->n_dirs] = *digest;
	buf_add(&copy, bytes.data, bytes.len);
	return tree_dir_decode(&copy, &world->dirs[world->n_dirs++]);
}

static void fuzz_plant(struct fuzz_world *world, struct slice *input)
{
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	static const char *const links[][2] = {{"lib", "usr/lib"},
					       {"usr/bin/python3", "python3.11"},
					       {"round", "round/x"},
					       {"out", "../../.."},
					       {"src/up", ".."}};

	for (size_t i = 0; i < ARRAY_SIZE(fuzz_paths); i++) {
		struct fuzz_blob *blob = &world->blobs[i];

		blob->bytes = fuzz_part(input);
		hasher_digest(blob->bytes.data, blob->bytes.len, &blob->digest);
		require(!treebuild_put_file(build, fuzz_paths[i], &blob->digest, false,
					    NULL));
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		require(!treebuild_put_symlink(build, links[i][0], links[i][1], NULL));
	require(!treebuild_finish(build, fuzz_emit, world, &world->root));
}

static struct foresight *fuzz_think(struct fuzz_world *world,
				    const struct foresight_world *seen, struct slice text)
{
	char *words[FUZZ_WORDS_MAX];
	struct foresight_action action = {.root = world->root,
					  .mount = text.len & 1 ? "/" : "/r",
					  .workdir = text.len & 2 ? "src" : "",
					  .arguments = (const char *const *)words,
					  .path = "/usr/bin:/bin:out",
					  .python_path = "src:/r/usr/lib"};
	struct foresight *foresight;

	while (text.len > 0 && action.n_arguments < FUZZ_WORDS_MAX) {
		size_t len = strnlen((const char *)text.data, text.len);

		words[action.n_arguments++] = fuzz_text((struct slice){text.data, len});
		len += len < text.len;
		text.data += len;
		text.len -= len;
	}
	foresight = foresight_new(seen, &action);
	for (size_t i = 0; i < action.n_arguments; i++)
		free(words[i]);
	return foresight;
}

static void fuzz_learn(struct foresight *foresight, struct slice bytes)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_error_ struct error *err = profile_decode(bytes, &profile);

	if (!err)
		foresight_learn(foresight, &profile, 1);
}

/* One wish; false where there is none. */
static bool fuzz_wish(struct fuzz_world *world, struct foresight *foresight,
		      const struct foresight_way *way)
{
	struct foresight_wish wish;
	struct fuzz_blob *blob;

	while (foresight_is_tired(foresight))
		foresight_go_on(foresight);
	if (!foresight_next(foresight, way, &wish))
		return false;
	blob = fuzz_blob(world, &wish.digest);
	require(wish.probability > 0 && wish.probability <= 1);
	require(wish.source < FORESIGHT_SOURCES);
	require(wish.is_needed || (!blob->is_asked && wish.digest.size <= way->size_max));
	blob->is_asked = true;
	return true;
}

static void fuzz_happen(struct fuzz_world *world, struct foresight *foresight,
			struct slice steps)
{
	struct foresight_way way = {10000000, 125000000, 1, INT64_MAX};
	struct resolve_world resolve = {.dir = fuzz_dir, .ctx = world};

	for (size_t i = 0; i < steps.len && i < FUZZ_STEPS_MAX; i++) {
		size_t which = steps.data[i] >> 3;
		struct fuzz_blob *blob = &world->blobs[which % ARRAY_SIZE(fuzz_paths)];
		const char *path = fuzz_paths[which % ARRAY_SIZE(fuzz_paths)];
		struct resolved found;

		switch (steps.data[i] & 7) {
		case 0:
		case 1:
			(void)fuzz_wish(world, foresight, &way);
			break;
		case 2: /* as it is in the world: those alike are one */
			blob = fuzz_blob(world, &blob->digest);
			blob->is_here = true;
			foresight_arrived(foresight, &blob->digest, true);
			break;
		case 3:
			foresight_arrived(foresight, &blob->digest, false);
			break;
		case 4:
			foresight_opened(foresight, path, which & 1);
			break;
		case 5:
			if (world->n_dirs_here < world->n_dirs)
				world->n_dirs_here++;
			foresight_look(foresight);
			break;
		case 6:
			way.contention = (double)(1 + which * which * which);
			way.size_max = which & 1 ? INT64_MAX : (int64_t)which;
			break;
		default: /* the directory that it stands in */
			if (resolve_path(&resolve, &world->root, path, slice_of(".."),
					 &found) == RESOLVE_FOUND)
				foresight_opened(foresight, found.path, true);
		}
	}
}

/* All that is to be had: it ends. */
static void fuzz_end(struct fuzz_world *world, struct foresight *foresight)
{
	const struct foresight_way way = {10000000, 125000000, 1, INT64_MAX};
	struct foresight_summary sum;
	const struct profile_read *reads;
	size_t n_wishes = 0;

	world->n_dirs_here = world->n_dirs;
	foresight_look(foresight);
	for (size_t i = 0; i < ARRAY_SIZE(fuzz_paths); i++) {
		world->blobs[i].is_here = true;
		foresight_arrived(foresight, &world->blobs[i].digest, true);
	}
	while (fuzz_wish(world, foresight, &way)) /* of those that were needed, perhaps */
		require(n_wishes++ < ARRAY_SIZE(fuzz_paths));
	foresight_summary(foresight, &sum);
	require(sum.missed.files <= (int64_t)ARRAY_SIZE(fuzz_paths));
	require(foresight_reads(foresight, &reads) <= PROFILE_ENTRIES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_world world = {0};
	const struct foresight_world seen = {.dir = fuzz_dir,
					     .has = fuzz_has,
					     .read = fuzz_read,
					     .ctx = &world,
					     .turn = size % 3 ? 0 : 16};
	struct slice input = {data, size};
	struct slice words = fuzz_part(&input);
	struct slice profile = fuzz_part(&input);
	struct slice steps = fuzz_part(&input);
	struct foresight *foresight;

	fuzz_plant(&world, &input);
	world.n_dirs_here = steps.len % 2 ? world.n_dirs : 0;
	foresight = fuzz_think(&world, &seen, words);
	fuzz_learn(foresight, profile);
	fuzz_happen(&world, foresight, steps);
	fuzz_end(&world, foresight);
	require(world.n_read <= size * 64); /* each file is looked into once */
	(void)foresight_free(foresight);
	for (size_t i = 0; i < world.n_dirs; i++)
		tree_dir_unref(world.dirs[i]);
	return 0;
}
