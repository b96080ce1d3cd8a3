/*
 * Owns the walks: a command that opens the files of a directory in turn will open the
 * rest, then what stands behind it below the highest directory that it listed on its way.
 * A walk goes through the tree in the order of names, from where the command is, a window
 * ahead of it, which doubles while it is right.
 *
 * What a walker passes by, it will pass by again: endings that were skipped are learned.
 * A command that most often reads the files of a directory that it has listed will do so
 * with the next one, before it has opened any: a compiler that takes packages whole.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/foresight_impl.h"

#define WALK_TURNS        6 /* files of a directory one after the other … */
#define WALK_TURNS_LISTED 2 /* … where it was listed before */
#define WALK_TURNS_NAMED  1 /* … and stands below one that the command line names */
#define WALK_GAP          4 /* files passed by between two that count as in turn */
#define WALK_WINDOW       256
#define WALK_EARLY_BYTES  ((int64_t)256 << 10)
#define WALK_WINDOW_NAMED 1024 /* of a directory that the command line names */
#define WALK_WINDOW_MAX   4096
#define WALK_AT_ONCE      256
#define WALK_COUNTED      64 /* files wanted that cost as much as a name looked up */
#define WALK_DEPTH_MAX    64
#define WALKS_MAX         8
#define WALK_DIRS_MAX     50000
#define WALK_ENDINGS_MAX  32
#define WALK_PASSED_BY    2 /* as often, and never opened: it is not of interest */
#define WALK_CHOOSY       4 /* one in so many passed by: only what was opened before */
#define WALK_HABIT_AFTER  2 /* directories that were listed and then read */
#define WALK_SWEEP_MAX    512
#define WALK_SCATTERED    4 /* files in any order of one that was listed: all like them */

struct walk_dir { /* a directory that the command listed, or opened files of */
	struct hnode by_path;
	const char *path;
	bool is_listed;
	bool is_named; /* by the command line */
	bool is_begun; /* a walk begins here, before it is listed */
	uint32_t last; /* the file opened last, by its place among the entries, from 1 */
	unsigned int n_turns;
	uint32_t n_opened;
	uint32_t n_missed;
	uint32_t n_files; /* of it; 0: not known, or it was not listed */
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
	bool is_proved;  /* something was opened where a walk leads */
	int64_t early;   /* bytes that were wanted before */
	int64_t n_grown; /* how many were right when it grew last */
	bool is_filling; /* the window was half empty, and is not full again */
	struct walk_ending endings[WALK_ENDINGS_MAX];
	size_t n_endings;
	unsigned int n_in_turn; /* files that were opened behind another … */
	unsigned int n_passed;  /* … and those between them */
	unsigned int n_listed;  /* directories that have files … */
	unsigned int n_swept;   /* … half of which were opened then */
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
	bool is_choosy = walks->n_passed * WALK_CHOOSY > walks->n_in_turn;

	return !ending || ending->n_opened ||
	       (!is_choosy && ending->n_passed < WALK_PASSED_BY);
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

		walks->n_passed += dir->nodes[i].kind == TREE_FILE;
		if (ending)
			ending->n_passed++;
	}
	walks->n_in_turn++;
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

/* Habits */

static bool walk_sweeps(const struct foresight_walk *walks)
{
	return walks->n_swept >= WALK_HABIT_AFTER &&
	       walks->n_swept * 2 >= walks->n_listed;
}

/* Wants the files of a directory that are of interest; those of one ending where there is
 * one. */
static void walk_sweep(struct foresight *foresight, const struct tree_dir *entries,
		       const char *dir, const struct walk_ending *only,
		       double probability)
{
	struct foresight_walk *walks = foresight->walks;
	uint32_t n_entries = foresight_entries(foresight, entries);
	size_t n = 0;

	for (uint32_t i = 0; i < n_entries && n < WALK_SWEEP_MAX; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *path;

		if (node->kind != TREE_FILE || !walk_is_of_interest(walks, node->name) ||
		    (only && walk_ending(walks, node->name) != only))
			continue;
		path = arena_printf(&foresight->arena, "%s%s%.*s", dir, *dir ? "/" : "",
				    (int)node->name.len, (const char *)node->name.data);
		if (path)
			(void)foresight_want_file(foresight, &node->digest, path,
						  FORESIGHT_SEEN, probability);
		n++;
	}
}

/* One more of its files was opened. */
static void walk_note_habit(struct foresight_walk *walks, struct walk_dir *dir)
{
	dir->n_opened++;
	walks->n_swept += dir->n_files && dir->n_opened == (dir->n_files + 1) / 2;
}

/* The highest directory on the way to path that was listed, all below it too, but not
 * above one that the command line names: path itself where none was. Its length. */
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
		if (!len || dir->is_named)
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

/* A directory that the command line names is read from its beginning, most often. */
static void walk_begin_named(struct foresight_walk *walks, const char *path,
			     struct tree_dir *entries)
{
	struct walk *walk = &walks->walks[walks->next++ % WALKS_MAX];

	walk_end(walk);
	memcpy(walk->path, path, strlen(path) + 1);
	(void)walk_push(walk, tree_dir_ref(entries), 0);
}

void foresight_walk_named(struct foresight *foresight, const char *path)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	struct walk_dir *dir;

	foresight_walk_need(foresight);
	dir = *path ? walk_dir_get(foresight, path)
		    : NULL; /* nobody reads all the root */
	if (!dir || dir->is_named)
		return;
	dir->is_named = true;
	/* many commands of a script only move it or make it: they are waited for */
	if (foresight->is_shell || resolve_dir(&foresight->resolve, &foresight->root,
					       path, &entries) != RESOLVE_FOUND)
		return;
	dir->is_begun = true;
	walk_begin_named(foresight->walks, path, entries);
}

/* A directory was listed for the first time: all its files may be read next. */
static void walk_listed(struct foresight *foresight, struct walk_dir *dir)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	struct foresight_walk *walks = foresight->walks;

	dir->is_listed = true;
	if (resolve_dir(&foresight->resolve, &foresight->root, dir->path, &entries) !=
	    RESOLVE_FOUND)
		return;
	if (dir->is_named && !dir->is_begun)
		walk_begin_named(walks, dir->path, entries);
	if (!entries->n_files)
		return;
	if (walk_sweeps(walks))
		walk_sweep(foresight, entries, dir->path, NULL, 0.8);
	dir->n_files = entries->n_files;
	walks->n_listed++;
}

/* One entry further: a file that may be wanted, or NULL; ends where the tree does, or
 * *is_stuck where a Directory is missing. */
static const struct tree_node *walk_step(struct foresight *foresight, struct walk *walk,
					 bool *is_stuck)
{
	struct walk_level *level = &walk->levels[walk->n_levels - 1];
	const struct tree_node *node;
	struct tree_dir *below = NULL;

	foresight_spend(foresight, 1, 1);
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

/* Before anything was read that walks lead to, little is brought. */
static bool walk_may_go_on(const struct foresight_walk *walks)
{
	return walks->is_proved || walks->early < WALK_EARLY_BYTES;
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
	foresight_spend(foresight, ahead, WALK_COUNTED);
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
		       n < WALK_AT_ONCE && walk_may_go_on(walks) &&
		       foresight->effort > 0 && !foresight_is_tired(foresight)) {
			const struct tree_node *node =
				walk_step(foresight, walk, &is_stuck);
			const struct foresight_file *file;

			if (!node || !walk_is_of_interest(walks, node->name))
				continue;
			file = foresight_want_file(foresight, &node->digest, walk->path,
						   FORESIGHT_SEEN,
						   walks->is_proved ? 0.9 : 0.5);
			n += file && file->state == FORESIGHT_WANTED;
			walks->early += node->digest.size;
		}
	}
	return n > 0;
}

static bool walk_is_below_named(const struct foresight *foresight, const char *path)
{
	char above[RESOLVE_PATH_MAX];

	memcpy(above, path, strlen(path) + 1);
	for (;;) {
		const struct walk_dir *dir = walk_dir_find(foresight->walks, above);
		char *slash = strrchr(above, '/');

		if (dir && dir->is_named)
			return true;
		if (!*above)
			return false;
		*(slash ? slash : above) = '\0';
	}
}

/* How many files in turn make a walk. */
static unsigned int walk_turns(struct foresight *foresight, const struct walk_dir *dir)
{
	struct foresight_walk *walks = foresight->walks;

	if (!dir->is_listed)
		return WALK_TURNS;
	if (!walk_is_below_named(foresight, dir->path))
		return WALK_TURNS_LISTED;
	walks->is_proved = true;
	if (walks->window < WALK_WINDOW_NAMED)
		walks->window = WALK_WINDOW_NAMED;
	return WALK_TURNS_NAMED;
}

/* A file was opened: whether in turn with the one before, and what follows. */
static void walk_file(struct foresight *foresight, const char *path, const char *name,
		      bool was_missed)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	struct walk_dir *dir = walk_dir_get(foresight, path);
	struct walk_ending *ending = walk_ending(foresight->walks, slice_of(name));
	const struct tree_node *node;
	unsigned int turns;
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
	walk_note_habit(foresight->walks, dir);
	if ((dir->last || dir->is_listed) && place > dir->last &&
	    place - dir->last <= WALK_GAP) {
		walk_note_endings(foresight->walks, entries, dir->last, place - 1);
		dir->n_turns++;
	} else {
		dir->n_turns = 1;
	}
	dir->last = place;
	dir->n_missed += was_missed;
	if (was_missed && dir->is_listed && dir->n_missed == WALK_SCATTERED && ending)
		walk_sweep(foresight, entries, path, ending, 0.5);
	turns = walk_turns(foresight, dir);
	if (was_missed && dir->n_turns >= turns) {
		walk_begin(foresight, path, name);
		foresight->walks->is_proved = true;
	}
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
		if (dir && !dir->is_listed)
			walk_listed(foresight, dir);
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
