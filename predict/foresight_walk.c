/*
 * Owns the walks: a command that opens the files of a directory in turn will open the
 * rest, then what stands behind it below the highest directory that it listed on its way.
 * A walk goes through the tree in the order of names, from where the command is, a window
 * ahead of it, which doubles while it is right.
 *
 * What a walker passes by, it will pass by again: endings that were skipped are learned.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/foresight_impl.h"

#define WALK_TURNS        3 /* files of a directory one after the other … */
#define WALK_TURNS_KNOWN  2 /* … where it was listed before */
#define WALK_GAP          4 /* files passed by between two that count as in turn */
#define WALK_WINDOW       32
#define WALK_WINDOW_NAMED 512 /* of a directory that the command line names */
#define WALK_WINDOW_MAX   4096
#define WALK_AT_ONCE      256
#define WALK_DEPTH_MAX    64
#define WALKS_MAX         8
#define WALK_DIRS_MAX     50000
#define WALK_ENDINGS_MAX  32
#define WALK_PASSED_BY    8 /* as often, and never opened: it is not of interest */

struct walk_dir { /* a directory that the command listed, or opened files of */
	struct hnode by_path;
	const char *path;
	bool is_listed;
	bool is_named; /* by the command line */
	uint32_t last; /* the file opened last, by its place among the entries, from 1 */
	unsigned int n_turns;
};

struct walk_level {
	struct tree_dir *dir; /* a reference */
	uint32_t next;
	size_t path_len;
};

struct walk {
	struct walk_level levels[WALK_DEPTH_MAX];
	size_t n_levels; /* 0: it has ended */
	char path[RESOLVE_PATH_MAX];
};

struct walk_ending {
	char text[12];
	unsigned int n_opened;
	unsigned int n_passed;
};

struct foresight_walk {
	struct walk walks[WALKS_MAX];
	size_t next; /* the one that gives way */
	struct htab dirs;
	size_t n_dirs;
	int64_t window;
	int64_t n_grown; /* how many were right when it grew last */
	bool is_filling; /* the window was half empty, and is not full again */
	struct walk_ending endings[WALK_ENDINGS_MAX];
	size_t n_endings;
};

/* Endings */

static struct walk_ending *walk_ending(struct foresight_walk *walks, struct slice name)
{
	const uint8_t *dot = memrchr(name.data, '.', name.len);
	struct slice text = {dot, dot ? (size_t)(name.data + name.len - dot) : 0};
	struct walk_ending *ending;

	if (text.len >= sizeof(ending->text))
		text.len = 0;
	for (size_t i = 0; i < walks->n_endings; i++)
		if (slice_is(text, walks->endings[i].text))
			return &walks->endings[i];
	if (walks->n_endings == WALK_ENDINGS_MAX)
		return NULL;
	ending = &walks->endings[walks->n_endings++];
	if (text.len)
		memcpy(ending->text, text.data, text.len);
	return ending;
}

static bool walk_is_of_interest(struct foresight_walk *walks, struct slice name)
{
	const struct walk_ending *ending = walk_ending(walks, name);

	return !ending || ending->n_opened || ending->n_passed < WALK_PASSED_BY;
}

/* One file was opened behind another of the same directory. */
static void walk_note_endings(struct foresight_walk *walks, const struct tree_dir *dir,
			      uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		struct walk_ending *ending =
			dir->nodes[i].kind == TREE_FILE
				? walk_ending(walks, dir->nodes[i].name)
				: NULL;

		if (ending)
			ending->n_passed++;
	}
}

/* Directories */

static struct walk_dir *walk_dir_find(const struct foresight_walk *walks,
				      const char *path)
{
	uint64_t hash = slice_hash(slice_of(path));

	for (struct hnode *n = htab_first(&walks->dirs, hash); n;
	     n = htab_next(n, hash)) {
		struct walk_dir *dir = container_of(n, struct walk_dir, by_path);

		if (strcmp(dir->path, path) == 0)
			return dir;
	}
	return NULL;
}

static struct walk_dir *walk_dir_get(struct foresight *foresight, const char *path)
{
	struct foresight_walk *walks = foresight->walks;
	struct walk_dir *dir = walk_dir_find(walks, path);

	if (dir || walks->n_dirs == WALK_DIRS_MAX)
		return dir;
	dir = arena_new(&foresight->arena, struct walk_dir);
	if (!dir)
		return NULL;
	dir->path = arena_string(&foresight->arena, path);
	if (!dir->path)
		return NULL;
	htab_insert(&walks->dirs, &dir->by_path, slice_hash(slice_of(path)));
	walks->n_dirs++;
	return dir;
}

static void foresight_walk_need(struct foresight *foresight)
{
	if (foresight->walks)
		return;
	foresight->walks = alloc_new(struct foresight_walk);
	foresight->walks->window = WALK_WINDOW;
}

void foresight_walk_named(struct foresight *foresight, const char *path)
{
	struct walk_dir *dir;

	foresight_walk_need(foresight);
	dir = walk_dir_get(foresight, path);
	if (dir)
		dir->is_named = true;
}

/* Walks */

static void walk_end(struct walk *walk)
{
	while (walk->n_levels)
		tree_dir_unref(walk->levels[--walk->n_levels].dir);
}

static bool walk_push(struct walk *walk, struct tree_dir *dir, uint32_t next)
{
	if (walk->n_levels == WALK_DEPTH_MAX) {
		tree_dir_unref(dir);
		return false;
	}
	walk->levels[walk->n_levels++] = (struct walk_level){
		.dir = dir, .next = next, .path_len = strlen(walk->path)};
	return true;
}

/* The highest directory on the way to path that was listed, all below it too: path
 * itself where none was. Its length. */
static size_t walk_top(struct foresight *foresight, const char *path)
{
	char above[RESOLVE_PATH_MAX];
	size_t top = strlen(path);

	memcpy(above, path, top + 1);
	for (size_t len = top;;) {
		const struct walk_dir *dir;
		char *slash;

		above[len] = '\0';
		dir = walk_dir_find(foresight->walks, above);
		if (!dir || !dir->is_listed)
			break;
		top = len;
		if (dir->is_named)
			foresight->walks->window =
				foresight->walks->window > WALK_WINDOW_NAMED
					? foresight->walks->window
					: WALK_WINDOW_NAMED;
		if (!len)
			break;
		slash = strrchr(above, '/');
		len = slash ? (size_t)(slash - above) : 0;
	}
	return top;
}

/* Opens the levels from the top of a walk down to the directory that a file stands in,
 * each behind what the command has passed. */
static void walk_begin(struct foresight *foresight, const char *path, const char *name)
{
	struct foresight_walk *walks = foresight->walks;
	struct walk *walk = &walks->walks[walks->next++ % WALKS_MAX];
	size_t at = walk_top(foresight, path);

	walk_end(walk);
	memcpy(walk->path, path, at);
	walk->path[at] = '\0';
	for (;;) {
		const char *rest = path + at + (path[at] == '/');
		size_t len = strcspn(rest, "/");
		struct slice next = *rest ? (struct slice){(const uint8_t *)rest, len}
					  : slice_of(name);
		const struct tree_node *node;
		struct tree_dir *dir;

		if (resolve_dir(&foresight->resolve, &foresight->root, walk->path,
				&dir) != RESOLVE_FOUND)
			break;
		node = tree_dir_find(dir, next);
		if (!node) {
			tree_dir_unref(dir);
			break;
		}
		if (!walk_push(walk, dir, (uint32_t)(node - dir->nodes) + 1) || !*rest)
			return;
		at = (size_t)(rest - path) + len;
		memcpy(walk->path, path, at);
		walk->path[at] = '\0';
	}
	walk_end(walk);
}

/* One entry further: a file that may be wanted, or NULL; ends where the tree does, or
 * *is_stuck where a Directory is missing. */
static const struct tree_node *walk_step(struct foresight *foresight, struct walk *walk,
					 bool *is_stuck)
{
	struct walk_level *level = &walk->levels[walk->n_levels - 1];
	const struct tree_node *node;
	struct tree_dir *below = NULL;

	walk->path[level->path_len] = '\0';
	if (level->next >= level->dir->n_nodes) {
		tree_dir_unref(level->dir);
		walk->n_levels--;
		return NULL;
	}
	node = &level->dir->nodes[level->next];
	if (level->path_len + node->name.len + 2 > sizeof(walk->path) ||
	    node->kind == TREE_SYMLINK) {
		level->next++;
		return NULL;
	}
	if (node->kind == TREE_DIR) {
		below = foresight->world->dir(foresight->world->ctx, &node->digest);
		*is_stuck = !below;
		if (!below)
			return NULL;
	}
	level->next++;
	if (level->path_len)
		walk->path[level->path_len] = '/';
	memcpy(walk->path + level->path_len + (level->path_len > 0), node->name.data,
	       node->name.len);
	walk->path[level->path_len + (level->path_len > 0) + node->name.len] = '\0';
	if (node->kind == TREE_FILE)
		return node;
	(void)walk_push(walk, below, 0);
	return NULL;
}

bool foresight_walk_on(struct foresight *foresight)
{
	struct foresight_walk *walks = foresight->walks;
	int64_t ahead =
		foresight->n_asked[FORESIGHT_SEEN] - foresight->n_opened[FORESIGHT_SEEN];
	int64_t n = 0;

	if (!walks)
		return false;
	/* what it wants already, and may not have now, is ahead of the command, too */
	list_for_each (link, &foresight->wanted[FORESIGHT_SEEN])
		ahead++;
	if (foresight->n_opened[FORESIGHT_SEEN] - walks->n_grown >= walks->window / 2 &&
	    walks->window < WALK_WINDOW_MAX) {
		walks->n_grown = foresight->n_opened[FORESIGHT_SEEN];
		walks->window *= 2;
	}
	/* in halves, since a file more for each that was opened is a round trip each */
	if (ahead <= walks->window / 2)
		walks->is_filling = true;
	else if (ahead >= walks->window)
		walks->is_filling = false;
	for (size_t i = 0; i < WALKS_MAX && walks->is_filling; i++) {
		struct walk *walk = &walks->walks[i];
		bool is_stuck = false;

		while (walk->n_levels && !is_stuck && ahead + n < walks->window &&
		       n < WALK_AT_ONCE) {
			const struct tree_node *node =
				walk_step(foresight, walk, &is_stuck);
			const struct foresight_file *file;

			if (!node || !walk_is_of_interest(walks, node->name))
				continue;
			file = foresight_want_file(foresight, &node->digest, walk->path,
						   FORESIGHT_SEEN, 0.9);
			n += file && file->state == FORESIGHT_WANTED;
		}
	}
	return n > 0;
}

/* A file was opened: whether in turn with the one before, and what follows. */
static void walk_file(struct foresight *foresight, const char *path, const char *name,
		      bool was_missed)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	struct walk_dir *dir = walk_dir_get(foresight, path);
	struct walk_ending *ending = walk_ending(foresight->walks, slice_of(name));
	const struct tree_node *node;
	uint32_t place;

	if (ending)
		ending->n_opened++;
	if (!dir || resolve_dir(&foresight->resolve, &foresight->root, path, &entries) !=
			    RESOLVE_FOUND)
		return;
	node = tree_dir_find(entries, slice_of(name));
	if (!node)
		return;
	place = (uint32_t)(node - entries->nodes) + 1;
	if (dir->last && place > dir->last && place - dir->last <= WALK_GAP) {
		walk_note_endings(foresight->walks, entries, dir->last, place - 1);
		dir->n_turns++;
	} else {
		dir->n_turns = 1;
	}
	dir->last = place;
	if (was_missed &&
	    dir->n_turns >= (dir->is_listed ? WALK_TURNS_KNOWN : WALK_TURNS))
		walk_begin(foresight, path, name);
}

void foresight_walk_opened(struct foresight *foresight, const char *path,
			   enum tree_kind kind, bool was_missed)
{
	char parent[RESOLVE_PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	struct walk_dir *dir;

	foresight_walk_need(foresight);
	if (kind == TREE_DIR) {
		dir = walk_dir_get(foresight, path);
		if (dir)
			dir->is_listed = true;
		return;
	}
	memcpy(parent, path, len);
	parent[len] = '\0';
	walk_file(foresight, parent, slash ? slash + 1 : path, was_missed);
}

void foresight_walk_deinit(struct foresight *foresight)
{
	struct foresight_walk *walks = foresight->walks;

	if (!walks)
		return;
	for (size_t i = 0; i < WALKS_MAX; i++)
		walk_end(&walks->walks[i]);
	htab_deinit(&walks->dirs);
	free(walks);
	foresight->walks = NULL;
}
