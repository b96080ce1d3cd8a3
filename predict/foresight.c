/*
 * Owns the order of wishes: a list for each source, the surest source first, within it as
 * they were found. A file is wanted, asked for, then here or gone; it is looked into
 * once, when it is here.
 */
#include "predict/foresight.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "predict/foresight_impl.h"
#include "predict/scan.h"

#define FORESIGHT_ARENA_MAX   ((size_t)64 << 20)
#define FORESIGHT_SCRATCH_MAX ((size_t)4 << 20)
/* A source is judged once so many files were opened that could show what it is worth; one
 * that is useful in less than one of ten yields nothing more. */
#define FORESIGHT_JUDGED_AFTER 64
/* How many of a source's wishes may stand that were not opened yet, at first and at the
 * least. */
#define FORESIGHT_ALLOWED     8192
#define FORESIGHT_ALLOWED_MIN 32
#define FORESIGHT_FREE_WISHES 256 /* of a source, before it is judged by its own */
#define FORESIGHT_WAY_UNKNOWN 1e6 /* bytes under way, before anything was measured */
#define FORESIGHT_PASSED_MAX  256 /* files that may not be had now, before it gives up */

const char *foresight_source_name(enum foresight_source source)
{
	static const char *const names[] = {"certain", "learned", "derived", "seen"};

	return names[source];
}

/* Looking into files */

struct foresight_look_at {
	struct foresight *foresight;
	struct foresight_file *file;
	const char *dir;    /* the file's */
	struct buf runpath; /* of an ELF file, so far */
};

static size_t foresight_read(void *ctx, int64_t at, void *buf, size_t len)
{
	struct foresight_look_at *look = ctx;
	const struct foresight_world *world = look->foresight->world;

	return world->read(world->ctx, &look->file->digest, at, buf, len);
}

static const char *foresight_dir_of(struct foresight *foresight, const char *path)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;

	return arena_printf(&foresight->arena, "%.*s", len, path);
}

static void foresight_found(void *ctx, enum scan_kind kind, struct slice text)
{
	static const struct {
		enum foresight_hint_kind kind;
		double probability; /* 0: not looked for */
	} hints[] = {
		[SCAN_QUOTED] = {HINT_QUOTED, 0.9},
		[SCAN_ANGLED] = {HINT_ANGLED, 0.9},
		[SCAN_NEXT] = {HINT_NEXT, 0.9},
		[SCAN_INTERPRETER] = {HINT_PATH, 1},
		[SCAN_PROGRAM] = {HINT_PROGRAM, 0.6},
		[SCAN_RUNPATH] = {HINT_LIBRARY, 0},
		[SCAN_LIBRARY] = {HINT_LIBRARY, 1},
		[SCAN_MODULE] = {HINT_MODULE, 0.9},
		[SCAN_BESIDE] = {HINT_BESIDE, 0.9},
		[SCAN_PATH] = {HINT_PATH, 0.8},
		[SCAN_PERL] = {HINT_PERL, 0.9},
		[SCAN_PACKAGE] = {HINT_PACKAGE, 0.9},
		[SCAN_GO] = {HINT_GO, 0.9},
	};
	struct foresight_look_at *look = ctx;
	const char *dir = look->dir;

	if (kind == SCAN_RUNPATH) {
		buf_add_byte(&look->runpath, ':');
		buf_add(&look->runpath, text.data, text.len);
		return;
	}
	if (kind == SCAN_LIBRARY)
		dir = arena_printf(&look->foresight->arena, "%s%s", look->dir,
				   buf_string(&look->runpath));
	if (dir)
		foresight_hint(look->foresight, hints[kind].kind, FORESIGHT_DERIVED,
			       hints[kind].probability, dir, text);
}

static void foresight_scan_response(struct foresight_look_at *look)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (look->file->digest.size > (int64_t)FORESIGHT_RESPONSE_MAX)
		return;
	foresight_spend(look->foresight, look->file->digest.size,
			FORESIGHT_EFFORT_RESPONSE);
	buf_reserve(&text, (size_t)look->file->digest.size);
	text.len = foresight_read(look, 0, text.data, (size_t)look->file->digest.size);
	foresight_compiler_response(look->foresight, buf_slice(&text));
}

/* Whether it says more than a profile does. */
static bool foresight_is_of_interest(const struct foresight_file *file)
{
	return !file->is_scanned && (!file->is_known || file->is_response);
}

static void foresight_scan(struct foresight *foresight, struct foresight_file *file)
{
	struct foresight_look_at look = {.foresight = foresight, .file = file};
	const int64_t size = file->digest.size;
	const struct scan_file blob = {
		.size = file->digest.size, .read = foresight_read, .ctx = &look};
	const char *slash = strrchr(file->path, '/');

	if (!foresight_is_of_interest(file) || foresight->effort <= 0 ||
	    foresight->is_resting)
		return;
	file->is_scanned = true;
	if (file->is_response) {
		foresight_scan_response(&look);
		foresight_hint_again(foresight); /* names that waited for it */
		return;
	}
	foresight_spend(foresight,
			size < (int64_t)SCAN_READ_MAX ? size : (int64_t)SCAN_READ_MAX,
			FORESIGHT_EFFORT_SCANNED);
	look.dir = foresight_dir_of(foresight, file->path);
	if (look.dir)
		scan_run(&blob, slice_of(slash ? slash + 1 : file->path), foresight_found,
			 &look);
	buf_deinit(&look.runpath);
}

/* Looking for what is named */

/* The tool says what kind of command this is. */
static enum resolve_outcome foresight_look_for_tool(struct foresight *foresight,
						    const struct foresight_hint *hint)
{
	struct resolved found;
	enum resolve_outcome outcome = foresight_place_program(foresight, hint, &found);
	const char *slash = strrchr(hint->text, '/');

	if (outcome != RESOLVE_FOUND || found.kind != TREE_FILE)
		return outcome;
	if (!foresight->has_tool) {
		foresight->has_tool = true;
		foresight->tool = found.digest;
	}
	foresight_compiler_found(foresight, found.path, slash ? slash + 1 : hint->text);
	foresight_python_found(foresight, found.path);
	foresight_module_go_found(foresight, found.path);
	foresight_place_start(foresight);
	return RESOLVE_FOUND;
}

/* What the command line names may be a directory. */
static enum resolve_outcome foresight_look_for_path(struct foresight *foresight,
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
static enum resolve_outcome foresight_look_for_response(struct foresight *foresight,
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
	if (file) {
		file->is_response = true;
		foresight_compiler_await(foresight, file);
	}
	return RESOLVE_FOUND;
}

static enum resolve_outcome foresight_look_for_rooted(struct foresight *foresight,
						      const struct foresight_hint *hint)
{
	return foresight_want(foresight, hint->dir, slice_of(hint->text), hint->source,
			      hint->probability, NULL);
}

static enum resolve_outcome foresight_look_for_program(struct foresight *foresight,
						       const struct foresight_hint *hint)
{
	return foresight_place_program(foresight, hint, NULL);
}

static foresight_look_fn *const foresight_look_for[HINT_KINDS] = {
	[HINT_PATH] = foresight_look_for_path,
	[HINT_RESPONSE] = foresight_look_for_response,
	[HINT_ROOTED] = foresight_look_for_rooted,
	[HINT_BESIDE] = foresight_module_beside,
	[HINT_PROGRAM] = foresight_look_for_program,
	[HINT_TOOL] = foresight_look_for_tool,
	[HINT_QUOTED] = foresight_compiler_include,
	[HINT_ANGLED] = foresight_compiler_include,
	[HINT_NEXT] = foresight_compiler_include,
	[HINT_NEAR] = foresight_compiler_near,
	[HINT_LIBRARY] = foresight_place_library,
	[HINT_LINKED] = foresight_compiler_library,
	[HINT_MODULE] = foresight_python_module,
	[HINT_PERL] = foresight_module_perl,
	[HINT_PACKAGE] = foresight_module_node,
	[HINT_GO] = foresight_module_go,
	[HINT_COMPILER] = foresight_compiler_settle,
	[HINT_PYTHON] = foresight_python_settle,
};

/* What happens */

void foresight_go_on(struct foresight *foresight)
{
	const int64_t turn = foresight->world->turn;

	if (!turn || foresight->turn + turn > turn)
		foresight->turn = turn ? turn : INT64_MAX;
	else /* what the last one took too much of is paid back */
		foresight->turn += turn;
	foresight_hint_go_on(foresight);
}

void foresight_rest(struct foresight *foresight)
{
	foresight->is_resting = true;
}

void foresight_look(struct foresight *foresight)
{
	foresight_hint_again(foresight);
}

void foresight_learn(struct foresight *foresight, const struct profile *profile,
		     double weight)
{
	for (size_t i = 0; i < profile->n; i++) {
		const struct profile_entry *entry = &profile->entries[i];

		foresight_hint(foresight, HINT_ROOTED, FORESIGHT_LEARNED,
			       weight * profile_probability(entry), "",
			       slice_of(entry->path));
	}
}

static void foresight_read_add(struct foresight *foresight, const char *path,
			       int64_t size)
{
	struct profile_read *read;
	const char *copy;

	if (foresight->n_reads == PROFILE_ENTRIES_MAX)
		return;
	copy = arena_string(&foresight->arena, path);
	if (!copy)
		return;
	foresight->reads = alloc_grow(foresight->reads, &foresight->reads_cap,
				      foresight->n_reads + 1, sizeof(*foresight->reads));
	read = &foresight->reads[foresight->n_reads++];
	*read = (struct profile_read){.path = copy, .size = size};
}

/* Now and then, as the command reads: a source that is right may run further ahead, one
 * that is often wrong only half as far. */
static void foresight_judge(struct foresight *foresight)
{
	for (enum foresight_source s = FORESIGHT_LEARNED; s < FORESIGHT_SOURCES; s++) {
		int64_t opened = foresight->n_opened[s];
		int64_t asked = foresight->n_asked[s];
		int64_t hits = opened - foresight->n_judged[s];
		int64_t *allowed = &foresight->n_allowed[s];

		foresight->n_judged[s] = opened;
		if (hits * 2 >= FORESIGHT_JUDGED_AFTER || opened * 4 >= asked * 3)
			*allowed =
				*allowed < FORESIGHT_FILES_MAX ? *allowed * 2 : *allowed;
		else if (hits * 5 < FORESIGHT_JUDGED_AFTER && opened * 5 < asked * 2)
			*allowed = *allowed > FORESIGHT_ALLOWED_MIN ? *allowed / 2
								    : *allowed;
	}
}

/* Whether nobody had thought of it. */
static bool foresight_file_opened(struct foresight *foresight, const char *path,
				  const struct digest *digest, bool was_here)
{
	struct foresight_file *file = foresight_file_get(foresight, digest, path);

	foresight_read_add(foresight, path, digest->size);
	if (foresight->n_reads % FORESIGHT_JUDGED_AFTER == 0)
		foresight_judge(foresight);
	if (!file || file->is_opened)
		return false;
	file->is_opened = true;
	foresight->bytes_opened += digest->size;
	if (file->is_asked) {
		foresight->n_opened[file->source]++;
		file->is_late = file->state == FORESIGHT_ASKED;
		if (file->state == FORESIGHT_HERE)
			foresight_scan(foresight, file);
		return false;
	}
	list_remove(&file->link);
	file->state = FORESIGHT_HERE;
	if (was_here) {
		foresight_scan(foresight, file);
		return false;
	}
	foresight->missed.files++;
	foresight->missed.bytes += digest->size;
	if (!foresight_is_of_interest(file))
		return true;
	/* it is on its way, and to be looked into when it is here */
	file->is_needed = true;
	file->probability = 1;
	file->state = FORESIGHT_WANTED;
	file->source = FORESIGHT_CERTAIN;
	list_push(&foresight->wanted[FORESIGHT_CERTAIN], &file->link);
	return true;
}

void foresight_opened(struct foresight *foresight, const char *path, bool was_here)
{
	struct resolved resolved;
	bool was_missed = false;

	if (foresight->effort < FORESIGHT_EFFORT)
		foresight->effort += FORESIGHT_EFFORT_OPENED;
	if (resolve_path(&foresight->resolve, &foresight->root, "", slice_of(path),
			 &resolved) != RESOLVE_FOUND ||
	    strcmp(resolved.path, path) != 0)
		return;
	if (resolved.kind == TREE_FILE) {
		was_missed = foresight_file_opened(foresight, path, &resolved.digest,
						   was_here);
		if (!foresight->is_resting)
			foresight_compiler_started(foresight, path);
	}
	if (!foresight->is_resting)
		foresight_walk_opened(foresight, path, resolved.kind, was_missed);
}

void foresight_arrived(struct foresight *foresight, const struct digest *digest,
		       bool is_here)
{
	struct foresight_file *file = foresight_file_find(foresight, digest);

	if (!file || file->state != FORESIGHT_ASKED)
		return;
	file->state = is_here ? FORESIGHT_HERE : FORESIGHT_GONE;
	if (is_here && (file->is_opened || file->probability >= FORESIGHT_LIKELY))
		foresight_scan(foresight, file);
	else if (!is_here && file->is_response)
		foresight_hint_again(foresight);
}

/* What it yields */

/* Whether bringing the file now is worth more than the way it takes from others. */
static bool foresight_pays(const struct foresight_file *file,
			   const struct foresight_way *way, double contention)
{
	double way_bytes = (double)way->rtt_ns * (double)way->rate / (double)NS_PER_S;
	double cost = contention * (double)file->digest.size;

	if (!way->rtt_ns)
		way_bytes = FORESIGHT_WAY_UNKNOWN;
	return file->probability * (cost + way_bytes) >= cost;
}

/* Whether a source was right too seldom to be heard any more, or is too far ahead. */
static bool foresight_is_paused(const struct foresight *foresight,
				enum foresight_source source)
{
	int64_t ahead = foresight->n_asked[source] - foresight->n_opened[source];

	if (source != FORESIGHT_CERTAIN && ahead >= foresight->n_allowed[source])
		return true;
	return source != FORESIGHT_CERTAIN &&
	       foresight->n_asked[source] >= FORESIGHT_FREE_WISHES &&
	       foresight->n_reads >= FORESIGHT_JUDGED_AFTER &&
	       foresight->n_opened[source] * 10 < foresight->n_asked[source];
}

/* A file that is wanted and at hand already is looked into, which may change its list in
 * any way: what stands behind it then. */
static struct list *foresight_settle(struct foresight *foresight,
				     struct foresight_file *file)
{
	struct list mark;
	struct list *next;

	list_insert_before(&file->link, &mark);
	list_remove(&file->link);
	file->state = FORESIGHT_HERE;
	foresight_spend(foresight, 1, 1);
	foresight_scan(foresight, file);
	next = mark.next;
	list_remove(&mark);
	return next;
}

/* The first of a source's files that may be asked for now; settles those before it that
 * need not be. */
static struct foresight_file *foresight_take(struct foresight *foresight,
					     enum foresight_source source,
					     const struct foresight_way *way)
{
	struct foresight_file *found = NULL;
	unsigned int n_passed = 0;
	struct list *next;

	for (struct list *link = foresight->wanted[source].next;
	     !found && link != &foresight->wanted[source] &&
	     n_passed < FORESIGHT_PASSED_MAX;
	     link = next) {
		struct foresight_file *file =
			container_of(link, struct foresight_file, link);

		next = link->next;
		if (foresight->world->has(foresight->world->ctx, &file->digest)) {
			if (foresight_is_tired(foresight))
				break;
			next = foresight_settle(foresight, file);
		} else if (file->is_needed) {
			found = file;
		} else if (!foresight_pays(file, way, 1)) {
			list_remove(link);
			file->state = FORESIGHT_GONE;
		} else if (file->digest.size <= way->size_max &&
			   foresight_pays(file, way, way->contention)) {
			found = file;
		} else {
			n_passed++;
		}
	}
	foresight_spend(foresight, n_passed, FORESIGHT_EFFORT_PASSED);
	return found;
}

bool foresight_next(struct foresight *foresight, const struct foresight_way *way,
		    struct foresight_wish *wish_out)
{
	struct foresight_file *file = NULL;

	if (foresight->is_resting)
		return false;
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES && !file; s++) {
		if (foresight_is_paused(foresight, s))
			continue;
		file = foresight_take(foresight, s, way);
		if (!file && s == FORESIGHT_SEEN && foresight_walk_on(foresight))
			file = foresight_take(foresight, s, way);
	}
	if (!file)
		return false;
	list_remove(&file->link);
	file->state = FORESIGHT_ASKED;
	if (!file->is_needed) {
		file->is_asked = true;
		foresight->n_asked[file->source]++;
	}
	*wish_out = (struct foresight_wish){.digest = file->digest,
					    .probability = file->probability,
					    .source = file->source,
					    .is_needed = file->is_needed};
	return true;
}

/* What came of it */

static void foresight_count(struct hnode *node, void *ctx)
{
	const struct foresight_file *file =
		container_of(node, struct foresight_file, by_digest);
	struct foresight_summary *out = ctx;
	struct foresight_count *count;

	if (!file->is_asked)
		return;
	count = !file->is_opened ? &out->wasted[file->source]
		: file->is_late  ? &out->late[file->source]
				 : &out->useful[file->source];
	count->files++;
	count->bytes += file->digest.size;
}

void foresight_summary(const struct foresight *foresight, struct foresight_summary *out)
{
	*out = (struct foresight_summary){.missed = foresight->missed};
	htab_each(&foresight->files, foresight_count, out);
}

size_t foresight_reads(const struct foresight *foresight, const struct profile_read **out)
{
	*out = foresight->reads;
	return foresight->n_reads;
}

bool foresight_tool(const struct foresight *foresight, struct digest *out)
{
	if (foresight->has_tool)
		*out = foresight->tool;
	return foresight->has_tool;
}

/* Beginning and end */

static void foresight_programs(struct foresight *foresight, const char *path)
{
	const char *end;

	for (const char *at = path ? path : "/usr/bin:/bin"; at; at = end) {
		size_t len = strcspn(at, ":");

		end = at[len] ? at + len + 1 : NULL;
		if (len)
			foresight_dirs_add(
				foresight, &foresight->programs,
				arena_printf(&foresight->arena, "%.*s", (int)len, at));
	}
}

/* "" where there is none, or no room for it. */
static const char *foresight_copy(struct foresight *foresight, const char *s)
{
	const char *copy = s ? arena_string(&foresight->arena, s) : NULL;

	return copy ? copy : "";
}

static bool foresight_is_shell(const struct foresight_action *action)
{
	const char *tool = action->n_arguments ? action->arguments[0] : "";
	size_t len = strlen(tool);

	return len >= 2 && strcmp(tool + len - 2, "sh") == 0;
}

/* One name further, by whoever resolves. */
static struct tree_dir *foresight_dir(void *ctx, const struct digest *digest)
{
	struct foresight *foresight = ctx;

	if (foresight->effort <= 0 || foresight->turn <= -FORESIGHT_LOOK_MAX)
		return NULL;
	foresight_spend(foresight, 1, 1);
	return foresight->world->dir(foresight->world->ctx, digest);
}

struct foresight *foresight_new(const struct foresight_world *world,
				const struct foresight_action *action)
{
	struct foresight *foresight = alloc_new(struct foresight);

	foresight->world = world;
	foresight->look_for = foresight_look_for;
	foresight->resolve =
		(struct resolve_world){.dir = foresight_dir, .ctx = foresight};
	foresight->effort = FORESIGHT_EFFORT;
	foresight->turn = world->turn ? world->turn : INT64_MAX;
	foresight->arena = ARENA_INIT(FORESIGHT_ARENA_MAX);
	foresight->scratch = ARENA_INIT(FORESIGHT_SCRATCH_MAX);
	foresight->root = action->root;
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++) {
		list_init(&foresight->wanted[s]);
		foresight->n_allowed[s] = FORESIGHT_ALLOWED;
	}
	list_init(&foresight->pending);
	list_init(&foresight->todo);
	foresight->mount = foresight_copy(foresight, action->mount);
	foresight->workdir = foresight_copy(foresight, action->workdir);
	foresight->python_path = foresight_copy(foresight, action->python_path);
	foresight->is_shell = foresight_is_shell(action);
	foresight_programs(foresight, action->path);
	foresight_compiler_begin(foresight, action);
	return foresight;
}

void *foresight_free(struct foresight *foresight)
{
	if (!foresight)
		return NULL;
	foresight_walk_deinit(foresight);
	htab_deinit(&foresight->files);
	htab_deinit(&foresight->hints);
	free(foresight->reads);
	arena_deinit(&foresight->arena);
	arena_deinit(&foresight->scratch);
	free(foresight);
	return NULL;
}
