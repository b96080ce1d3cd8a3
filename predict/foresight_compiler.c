/*
 * Owns what the command line says, and what is known of compilers: where they look for
 * headers and libraries, and which of their own programs and files they use. What GCC
 * has beside it is found by listing the root, not by names built in.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/argument.h"
#include "predict/foresight_impl.h"

/* What a compiler of C is called: "x86_64-linux-gnu-g++-12", "clang", "cc". */
static enum foresight_language foresight_compiler_name(const char *name)
{
	static const struct {
		const char *name;
		enum foresight_language language;
	} names[] = {
		{"g++", LANGUAGE_CXX},     {"c++", LANGUAGE_CXX},
		{"clang++", LANGUAGE_CXX}, {"gcc", LANGUAGE_C},
		{"cc", LANGUAGE_C},        {"clang", LANGUAGE_C},
		{"cc1plus", LANGUAGE_CXX}, {"cc1", LANGUAGE_C},
		{"cpp", LANGUAGE_C},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t len = strlen(names[i].name);
		const char *at = strstr(name, names[i].name);

		while (at) {
			bool begins = at == name || at[-1] == '-';
			bool ends = !at[len] || (at[len] == '-' && at[len + 1] >= '0' &&
						 at[len + 1] <= '9');

			if (begins && ends)
				return names[i].language;
			at = strstr(at + 1, names[i].name);
		}
	}
	return LANGUAGE_NONE;
}

static bool foresight_ends_with(struct slice text, const char *ending)
{
	size_t len = strlen(ending);

	return text.len > len && memcmp(text.data + text.len - len, ending, len) == 0;
}

/* It compiles something, and does not only link: with the programs that do that. */
static void foresight_compiler_translates(struct foresight *foresight)
{
	struct foresight_compiler *compiler = &foresight->compiler;

	compiler->is_translating = true;
	if (!compiler->homes.n)
		return;
	for (size_t i = 0; i < compiler->homes.n; i++)
		foresight_hint(
			foresight, HINT_ROOTED, FORESIGHT_CERTAIN,
			compiler->homes.n > 2 ? 0.6 : 0.97, compiler->homes.of[i],
			slice_of(compiler->language == LANGUAGE_CXX ? "cc1plus" : "cc1"));
	foresight_hint(foresight, HINT_PROGRAM, FORESIGHT_CERTAIN, 0.95, "",
		       slice_of("as"));
	foresight_hint(foresight, HINT_ANGLED, FORESIGHT_CERTAIN, 0.9, "",
		       slice_of("stdc-predef.h")); /* before all others */
}

static void foresight_compiler_source(struct foresight *foresight, struct slice path)
{
	static const char *const cxx[] = {".cc", ".cpp", ".cxx", ".C", ".c++", ".ii"};
	static const char *const linked[] = {".o", ".a", ".so", ".lo", ".obj", ".lds"};
	bool is_linked = memmem(path.data, path.len, ".so.", 4) != NULL;

	for (size_t i = 0; i < ARRAY_SIZE(cxx); i++)
		if (foresight_ends_with(path, cxx[i]))
			foresight->compiler.language = LANGUAGE_CXX;
	for (size_t i = 0; i < ARRAY_SIZE(linked); i++)
		is_linked = is_linked || foresight_ends_with(path, linked[i]);
	if (!is_linked)
		foresight_compiler_translates(foresight);
	if (foresight_ends_with(path, ".py") && !foresight->python.script) {
		const char *slash = memrchr(path.data, '/', path.len);
		struct slice dir = {
			path.data, slash ? (size_t)(slash - (const char *)path.data) : 0};
		struct resolved found;

		if (foresight_resolve(foresight, foresight->workdir, dir, &found) ==
		    RESOLVE_FOUND)
			foresight->python.script =
				arena_string(&foresight->arena, found.path);
	}
}

/* Where a word leads, from the root or absolute, as it is written. */
static const char *foresight_compiler_name_from(struct foresight *foresight,
						const char *base, struct slice text)
{
	bool is_absolute = text.len && text.data[0] == '/';

	return arena_printf(&foresight->arena, "%s%s%.*s", is_absolute ? "" : base,
			    is_absolute || !*base ? "" : "/", (int)text.len,
			    (const char *)text.data);
}

/* The directory that a word names; "=" in front is the sysroot. */
static void foresight_compiler_dir(struct foresight *foresight,
				   struct foresight_dirs *dirs, struct slice text)
{
	const char *base = foresight->workdir;
	struct resolved found;
	const char *name;

	if (dirs->n == FORESIGHT_DIRS_MAX)
		return;
	if (text.data[0] == '=') {
		base = foresight->compiler.sysroot ? foresight->compiler.sysroot : "";
		do {
			text.data++;
			text.len--;
		} while (text.len && text.data[0] == '/');
	}
	name = foresight_compiler_name_from(foresight, base, text);
	/* one whose Directories are not here yet is kept by its name */
	if (name &&
	    foresight_resolve(foresight, "", slice_of(name), &found) != RESOLVE_ABSENT)
		foresight_dirs_add(foresight, dirs, name);
}

/* What all of the command depends on: where its compiler looks, and for what. */
static void foresight_compiler_setting(void *ctx, enum argument_role role, size_t index,
				       struct slice text)
{
	struct foresight *foresight = ctx;
	struct foresight_compiler *compiler = &foresight->compiler;

	(void)index;
	switch (role) {
	case ARGUMENT_PATH:
		foresight_compiler_source(foresight, text);
		return;
	case ARGUMENT_QUOTE_DIR:
		foresight_compiler_dir(foresight, &compiler->quote, text);
		return;
	case ARGUMENT_INCLUDE_DIR:
		foresight_compiler_dir(foresight, &compiler->user, text);
		return;
	case ARGUMENT_SYSTEM_DIR:
		foresight_compiler_dir(foresight, &compiler->system, text);
		return;
	case ARGUMENT_AFTER_DIR:
		foresight_compiler_dir(foresight, &compiler->after, text);
		return;
	case ARGUMENT_LIBRARY_DIR:
		foresight_compiler_dir(foresight, &compiler->libraries, text);
		return;
	case ARGUMENT_SYSROOT:
		compiler->sysroot =
			foresight_compiler_name_from(foresight, foresight->workdir, text);
		return;
	case ARGUMENT_NO_STDINC:
		compiler->has_stdinc = false;
		return;
	default:
		return;
	}
}

/* What it names. */
static void foresight_compiler_name_of(void *ctx, enum argument_role role, size_t index,
				       struct slice text)
{
	static const struct {
		bool is_one;
		enum foresight_hint_kind kind;
		double probability;
	} hints[] = {
		[ARGUMENT_TOOL] = {true, HINT_TOOL, 1},
		[ARGUMENT_PATH] = {true, HINT_PATH, 0.97},
		[ARGUMENT_RESPONSE] = {true, HINT_RESPONSE, 1},
		[ARGUMENT_FORCED] = {true, HINT_QUOTED, 1},
		[ARGUMENT_LIBRARY] = {true, HINT_LINKED, 0.9},
		[ARGUMENT_OUTPUT] = {false, HINT_PATH, 0},
	};
	struct foresight *foresight = ctx;

	(void)index;
	if (role == ARGUMENT_MODULE)
		foresight_python_run(foresight, text);
	if (hints[role].is_one)
		foresight_hint(foresight, hints[role].kind, FORESIGHT_CERTAIN,
			       hints[role].probability,
			       role == ARGUMENT_FORCED ? foresight->workdir : "", text);
}

/* The tool stands first, but what becomes of it depends on what stands behind it. */
static void foresight_compiler_words(struct foresight *foresight,
				     const char *const *words, size_t n, bool has_tool)
{
	struct foresight_compiler *compiler = &foresight->compiler;

	for (size_t i = 0; i < n; i++) {
		/* what comes by the standard input has no ending */
		if (strcmp(words[i], "-") == 0)
			compiler->is_translating = true;
		if (strcmp(words[i], "-c") == 0 || strcmp(words[i], "-S") == 0 ||
		    strcmp(words[i], "-E") == 0 || strcmp(words[i], "-fsyntax-only") == 0)
			compiler->is_linking = false;
	}
	argument_each(words, n, has_tool, foresight_compiler_setting, foresight);
	argument_each(words, n, has_tool, foresight_compiler_name_of, foresight);
}

void foresight_compiler_begin(struct foresight *foresight,
			      const struct foresight_action *action)
{
	foresight->compiler.has_stdinc = true;
	foresight->compiler.is_linking = true;
	foresight_compiler_words(foresight, action->arguments, action->n_arguments, true);
}

void foresight_compiler_await(struct foresight *foresight, struct foresight_file *file)
{
	struct foresight_compiler *compiler = &foresight->compiler;

	for (size_t i = 0; i < compiler->n_responses; i++)
		if (compiler->responses[i] == file)
			return;
	if (compiler->n_responses < FORESIGHT_RESPONSES)
		compiler->responses[compiler->n_responses++] = file;
}

/* Whether a file may still say where headers are. */
static bool foresight_compiler_awaits(const struct foresight_compiler *compiler)
{
	for (size_t i = 0; i < compiler->n_responses; i++) {
		enum foresight_state state = compiler->responses[i]->state;

		if (state == FORESIGHT_WANTED || state == FORESIGHT_ASKED)
			return true;
	}
	return false;
}

void foresight_compiler_response(struct foresight *foresight, struct slice text)
{
	size_t n;
	char **words = argument_split(text, FORESIGHT_WORDS_MAX, &n);

	foresight_compiler_words(foresight, (const char *const *)words, n, false);
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	free(words);
}

void foresight_compiler_started(struct foresight *foresight, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (foresight->compiler.is_compiler || !slash || slash - path < 3 ||
	    memcmp(slash - 3, "bin", 3) != 0)
		return;
	/* nobody said what it will do: most do it all */
	if (foresight_compiler_name(name))
		foresight->compiler.is_translating = true;
	foresight_compiler_found(foresight, path, name);
}

void foresight_compiler_found(struct foresight *foresight, const char *tool,
			      const char *name)
{
	struct foresight_compiler *compiler = &foresight->compiler;
	enum foresight_language language = foresight_compiler_name(name);

	if (!language || compiler->is_compiler)
		return;
	compiler->is_compiler = true;
	if (compiler->language < language)
		compiler->language = language;
	foresight_hint(foresight, HINT_COMPILER, FORESIGHT_CERTAIN, 0.97, "",
		       slice_of(tool));
}

/* The compiler's own */

struct foresight_gcc {      /* one installed version */
	const char *prefix; /* "usr" */
	const char *triple;
	const char *version;
};

/* Calls fn for each subdirectory of dir. */
static enum resolve_outcome foresight_each_dir(
	struct foresight *foresight, const char *dir,
	enum resolve_outcome (*fn)(struct foresight *foresight, void *ctx,
				   const char *name),
	void *ctx)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	enum resolve_outcome outcome =
		resolve_dir(&foresight->resolve, &foresight->root, dir, &entries);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	for (uint32_t i = 0; i < entries->n_nodes && i < FORESIGHT_DIRS_MAX; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *name;

		if (node->kind != TREE_DIR)
			continue;
		name = arena_printf(&foresight->scratch, "%.*s", (int)node->name.len,
				    (const char *)node->name.data);
		if (name && fn(foresight, ctx, name) == RESOLVE_UNKNOWN)
			return RESOLVE_UNKNOWN;
	}
	return RESOLVE_FOUND;
}

struct foresight_gccs {
	struct foresight_gcc of[16];
	size_t n;
	const char *prefix;
	const char *triple;
	const char *version; /* wanted; NULL: any */
};

static enum resolve_outcome foresight_gcc_version(struct foresight *foresight, void *ctx,
						  const char *name)
{
	struct foresight_gccs *all = ctx;

	(void)foresight;
	if (all->n < ARRAY_SIZE(all->of) &&
	    (!all->version || strcmp(all->version, name) == 0))
		all->of[all->n++] =
			(struct foresight_gcc){all->prefix, all->triple, name};
	return RESOLVE_FOUND;
}

static enum resolve_outcome foresight_gcc_triple(struct foresight *foresight, void *ctx,
						 const char *name)
{
	struct foresight_gccs *all = ctx;
	const char *dir =
		arena_printf(&foresight->scratch, "%s/lib/gcc/%s", all->prefix, name);

	all->triple = name;
	return dir ? foresight_each_dir(foresight, dir, foresight_gcc_version, all)
		   : RESOLVE_ABSENT;
}

/* A version's directories, in the order in which GCC looks. */
static void foresight_gcc_dirs(struct foresight *foresight,
			       const struct foresight_gcc *gcc)
{
	struct foresight_compiler *compiler = &foresight->compiler;
	struct arena *arena = &foresight->scratch;

	foresight_dirs_add(
		foresight, &compiler->cxx,
		arena_printf(arena, "%s/include/c++/%s", gcc->prefix, gcc->version));
	foresight_dirs_add(foresight, &compiler->cxx,
			   arena_printf(arena, "%s/include/%s/c++/%s", gcc->prefix,
					gcc->triple, gcc->version));
	foresight_dirs_add(foresight, &compiler->cxx,
			   arena_printf(arena, "%s/include/c++/%s/backward", gcc->prefix,
					gcc->version));
	foresight_dirs_add(foresight, &compiler->own,
			   arena_printf(arena, "%s/lib/gcc/%s/%s/include", gcc->prefix,
					gcc->triple, gcc->version));
	foresight_dirs_add(foresight, &compiler->rooted, "usr/local/include");
	foresight_dirs_add(
		foresight, &compiler->rooted,
		arena_printf(arena, "%s/include/%s", gcc->prefix, gcc->triple));
	foresight_dirs_add(foresight, &compiler->rooted,
			   arena_printf(arena, "%s/include", gcc->prefix));
}

/* The programs that GCC's driver starts, and what it links with. */
static void foresight_gcc_parts(struct foresight *foresight,
				const struct foresight_gcc *gcc, double probability)
{
	static const char *const linked[] = {"collect2",    "liblto_plugin.so",
					     "crtbeginS.o", "crtendS.o",
					     "libgcc.a",    "libgcc_s.so"};
	static const char *const started[] = {"crt1.o", "Scrt1.o", "crti.o", "crtn.o"};
	static const char *const libraries[] = {"c", "gcc_s", "m", "stdc++"};
	const struct foresight_compiler *compiler = &foresight->compiler;
	const char *homes[2] = {arena_printf(&foresight->scratch, "%s/libexec/gcc/%s/%s",
					     gcc->prefix, gcc->triple, gcc->version),
				arena_printf(&foresight->scratch, "%s/lib/gcc/%s/%s",
					     gcc->prefix, gcc->triple, gcc->version)};

	for (size_t h = 0; h < ARRAY_SIZE(homes) && homes[h]; h++) {
		foresight_dirs_add(foresight, &foresight->compiler.homes, homes[h]);
		for (size_t i = 0; compiler->is_linking && i < ARRAY_SIZE(linked); i++)
			foresight_hint(foresight, HINT_ROOTED, FORESIGHT_CERTAIN,
				       0.9 * probability, homes[h], slice_of(linked[i]));
	}
	if (!compiler->is_linking)
		return;
	foresight_hint(foresight, HINT_PROGRAM, FORESIGHT_CERTAIN, 0.95, "",
		       slice_of("ld"));
	for (size_t i = 0; i < ARRAY_SIZE(started); i++)
		foresight_hint(foresight, HINT_LIBRARY, FORESIGHT_CERTAIN, 0.7, "",
			       slice_of(started[i]));
	for (size_t i = 0; i < ARRAY_SIZE(libraries); i++)
		if (i < 2 || compiler->language == LANGUAGE_CXX)
			foresight_hint(foresight, HINT_LINKED, FORESIGHT_CERTAIN, 0.8, "",
				       slice_of(libraries[i]));
}

static enum resolve_outcome foresight_clang_version(struct foresight *foresight,
						    void *ctx, const char *name)
{
	foresight_dirs_add(foresight, &foresight->compiler.own,
			   arena_printf(&foresight->scratch, "%s/%s/include",
					(const char *)ctx, name));
	return RESOLVE_FOUND;
}

static enum resolve_outcome foresight_llvm(struct foresight *foresight, void *ctx,
					   const char *name)
{
	const char *dir = arena_printf(&foresight->scratch, "%s/%s/lib/clang",
				       (const char *)ctx, name);

	return dir && strncmp(name, "llvm-", 5) == 0
		       ? foresight_each_dir(foresight, dir, foresight_clang_version,
					    (void *)(uintptr_t)dir)
		       : RESOLVE_ABSENT;
}

/* The tool "usr/bin/x86_64-linux-gnu-g++-12" has its own under usr/lib/gcc. */
enum resolve_outcome foresight_compiler_settle(struct foresight *foresight,
					       const struct foresight_hint *hint)
{
	const char *tool = hint->text;
	struct foresight_compiler *compiler = &foresight->compiler;
	const char *slash = strrchr(tool, '/');
	const char *dash = strrchr(tool, '-');
	const char *prefix = arena_printf(&foresight->scratch, "%.*s/..",
					  slash ? (int)(slash - tool) : 0, tool);
	struct foresight_gccs all = {0};
	struct resolved found;
	enum resolve_outcome outcome = RESOLVE_ABSENT;
	const char *lib;

	if (prefix)
		outcome = resolve_path(&foresight->resolve, &foresight->root, "",
				       slice_of(prefix), &found);
	if (outcome != RESOLVE_FOUND)
		return outcome;
	all.prefix = arena_string(&foresight->scratch, found.path);
	all.version = dash && dash[1] >= '0' && dash[1] <= '9' ? dash + 1 : NULL;
	lib = all.prefix ? foresight_join(foresight, all.prefix, "lib") : NULL;
	if (!lib)
		return RESOLVE_ABSENT;
	outcome = foresight_each_dir(foresight, foresight_join(foresight, lib, "gcc"),
				     foresight_gcc_triple, &all);
	if (outcome == RESOLVE_UNKNOWN)
		return outcome;
	for (size_t i = 0; i < all.n; i++)
		foresight_gcc_dirs(foresight, &all.of[i]);
	outcome = strstr(tool, "clang")
			  ? foresight_each_dir(foresight, lib, foresight_llvm,
					       (void *)(uintptr_t)lib)
			  : RESOLVE_FOUND;
	if (outcome == RESOLVE_UNKNOWN) {
		compiler->cxx.n = compiler->own.n = compiler->rooted.n = 0;
		return outcome;
	}
	if (!all.n)
		foresight_dirs_add(foresight, &compiler->rooted, "usr/include");
	compiler->is_ready = true;
	for (size_t i = 0; i < all.n; i++)
		foresight_gcc_parts(foresight, &all.of[i], all.n == 1 ? 0.97 : 0.6);
	if (compiler->is_translating)
		foresight_compiler_translates(foresight);
	return RESOLVE_FOUND;
}

/* Headers and libraries */

#define FORESIGHT_NEAR_FILES 300 /* of a directory, more of them are looked through */
#define FORESIGHT_NEAR_BYTES                                                             \
	((int64_t)512 << 10) /* and one of eight that were opened                        \
			      */
#define FORESIGHT_NEAR_SIZE ((int64_t)6 << 10)

/* Headers include each other, one more round trip each time: where the storage is far,
 * the small ones in one directory are cheaper together than one after the other. */
enum resolve_outcome foresight_compiler_near(struct foresight *foresight,
					     const struct foresight_hint *hint)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	enum resolve_outcome outcome =
		resolve_dir(&foresight->resolve, &foresight->root, hint->text, &entries);
	uint32_t n;

	if (outcome != RESOLVE_FOUND || entries->n_files > FORESIGHT_NEAR_FILES ||
	    foresight->compiler.near_bytes >
		    FORESIGHT_NEAR_BYTES + foresight->bytes_opened / 8)
		return outcome;
	n = foresight_entries(foresight, entries);
	for (uint32_t i = 0; i < n; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *path;

		if (node->kind != TREE_FILE || node->digest.size > FORESIGHT_NEAR_SIZE)
			continue;
		foresight->compiler.near_bytes += node->digest.size;
		path = arena_printf(&foresight->arena, "%s/%.*s", hint->text,
				    (int)node->name.len, (const char *)node->name.data);
		if (path)
			(void)foresight_want_file(foresight, &node->digest, path,
						  hint->source, hint->probability);
	}
	return RESOLVE_FOUND;
}

static void foresight_compiler_look_near(struct foresight *foresight,
					 const struct foresight_hint *hint,
					 const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash && hint->source == FORESIGHT_DERIVED)
		foresight_hint(
			foresight, HINT_NEAR, FORESIGHT_DERIVED, 0.05, "",
			(struct slice){(const uint8_t *)path, (size_t)(slash - path)});
}

/* The name below a directory. */
static enum resolve_outcome foresight_compiler_in(struct foresight *foresight,
						  const struct foresight_hint *hint,
						  const char *dir)
{
	const char *path = foresight_join(foresight, dir, hint->text);
	struct resolved found;
	enum resolve_outcome outcome =
		path ? foresight_want(foresight, "", slice_of(path), hint->source,
				      hint->probability, &found)
		     : RESOLVE_ABSENT;

	if (outcome == RESOLVE_FOUND && hint->kind != HINT_LINKED)
		foresight_compiler_look_near(foresight, hint, found.path);
	return outcome;
}

/* In the directories of a list. *is_behind: the one that an #include_next stands in was
 * passed. */
static enum resolve_outcome foresight_compiler_along(struct foresight *foresight,
						     const struct foresight_hint *hint,
						     const struct foresight_dirs *dirs,
						     const char *sysroot, bool *is_behind)
{
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	for (size_t i = 0; i < dirs->n && outcome == RESOLVE_ABSENT; i++) {
		const char *dir =
			sysroot ? foresight_join(foresight, sysroot, dirs->of[i])
				: dirs->of[i];

		if (dir && *is_behind)
			outcome = foresight_compiler_in(foresight, hint, dir);
		/* the includer stands in or below the place where it was found */
		else if (dir && strncmp(hint->dir, dir, strlen(dir)) == 0)
			*is_behind = true;
	}
	return outcome;
}

enum resolve_outcome foresight_compiler_include(struct foresight *foresight,
						const struct foresight_hint *hint)
{
	const struct foresight_compiler *compiler = &foresight->compiler;
	const struct {
		const struct foresight_dirs *dirs;
		bool is_looked_in;
		bool is_own; /* the compiler's */
	} all[] = {
		{&compiler->quote, hint->kind == HINT_QUOTED, false},
		{&compiler->user, true, false},
		{&compiler->system, true, false},
		{&compiler->cxx, compiler->language == LANGUAGE_CXX, true},
		{&compiler->own, true, true},
		{&compiler->rooted, true, true},
		{&compiler->after, true, false},
	};
	bool is_behind = hint->kind != HINT_NEXT;
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	if (hint->kind == HINT_QUOTED || hint->text[0] == '/')
		outcome = foresight_compiler_in(foresight, hint,
						hint->text[0] == '/' ? "" : hint->dir);
	if (outcome == RESOLVE_ABSENT && foresight_compiler_awaits(compiler))
		return RESOLVE_UNKNOWN;
	for (size_t k = 0; k < ARRAY_SIZE(all) && outcome == RESOLVE_ABSENT; k++) {
		if (!all[k].is_looked_in || (all[k].is_own && !compiler->has_stdinc))
			continue;
		/* its own places are looked for still */
		if (all[k].is_own && compiler->is_compiler && !compiler->is_ready)
			return RESOLVE_UNKNOWN;
		outcome = foresight_compiler_along(
			foresight, hint, all[k].dirs,
			all[k].dirs == &compiler->rooted ? compiler->sysroot : NULL,
			&is_behind);
	}
	return outcome;
}

enum resolve_outcome foresight_compiler_library(struct foresight *foresight,
						const struct foresight_hint *hint)
{
	const struct foresight_dirs *dirs = &foresight->compiler.libraries;
	bool is_verbatim = hint->text[0] == ':';
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	for (unsigned int form = 0; form < 2 && outcome == RESOLVE_ABSENT; form++) {
		struct foresight_hint in = *hint;

		in.dir = "";
		in.text = is_verbatim ? hint->text + 1
				      : arena_printf(&foresight->scratch, "lib%s.%s",
						     hint->text, form ? "a" : "so");
		if (!in.text)
			return RESOLVE_ABSENT;
		for (size_t i = 0; i < dirs->n && outcome == RESOLVE_ABSENT; i++)
			outcome = foresight_compiler_in(foresight, &in, dirs->of[i]);
		if (outcome == RESOLVE_ABSENT)
			outcome = foresight_place_library(foresight, &in);
	}
	return outcome;
}
