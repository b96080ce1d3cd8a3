/*
 * Owns what is known of Python: that the tool is one, its version, and where it looks for
 * modules. Of a module both the source and what was compiled of it are read, but for
 * trees that keep the times of files: there the source is the one that the compiled file
 * remembers.
 */
#include <stdio.h>
#include <string.h>

#include "predict/foresight_impl.h"

void foresight_python_found(struct foresight *foresight, const char *tool)
{
	const char *slash = strrchr(tool, '/');
	const char *name = slash ? slash + 1 : tool;

	if (!foresight->python.is_python && strncmp(name, "python3", 7) == 0) {
		foresight->python.is_python = true;
		foresight_hint(foresight, HINT_PYTHON, FORESIGHT_CERTAIN, 1, "",
			       slice_of(tool));
	}
}

void foresight_python_run(struct foresight *foresight, struct slice module)
{
	const char *program = arena_printf(&foresight->arena, "%.*s.__main__",
					   (int)module.len, (const char *)module.data);

	foresight_hint(foresight, HINT_MODULE, FORESIGHT_CERTAIN, 0.95, "",
		       slice_of("runpy"));
	foresight_hint(foresight, HINT_MODULE, FORESIGHT_CERTAIN, 0.95, "", module);
	if (program) /* where it is a package */
		foresight_hint(foresight, HINT_MODULE, FORESIGHT_CERTAIN, 0.9, "",
			       slice_of(program));
}

/* The tool's library: "usr/bin/python3.11" has "usr/lib/python3.11". */
static enum resolve_outcome foresight_python_home(struct foresight *foresight,
						  const char *tool)
{
	struct foresight_python *python = &foresight->python;
	const char *slash = strrchr(tool, '/');
	const char *name = slash ? slash + 1 : tool;
	const char *dir = arena_printf(&foresight->scratch, "%.*s/../lib/%s",
				       slash ? (int)(slash - tool) : 0, tool, name);
	struct resolved found;
	enum resolve_outcome outcome = RESOLVE_ABSENT;
	unsigned int minor;

	if (!dir || sscanf(name, "python3.%3u", &minor) != 1)
		return RESOLVE_ABSENT;
	outcome = resolve_path(&foresight->resolve, &foresight->root, "", slice_of(dir),
			       &found);
	if (outcome != RESOLVE_FOUND || found.kind != TREE_DIR)
		return outcome;
	(void)snprintf(python->tag, sizeof(python->tag), "cpython-3%u", minor);
	python->dir = arena_string(&foresight->arena, found.path);
	return python->dir ? RESOLVE_FOUND : RESOLVE_ABSENT;
}

static void foresight_python_dirs(struct foresight *foresight)
{
	static const char *const below[] = {"", "/lib-dynload", "/site-packages",
					    "/dist-packages"};
	struct foresight_python *python = &foresight->python;
	const char *at = foresight->python_path;

	foresight_dirs_add(foresight, &python->path,
			   python->script ? python->script : foresight->workdir);
	while (*at) {
		size_t len = strcspn(at, ":");
		struct resolved found;

		if (len && foresight_resolve(foresight, foresight->workdir,
					     (struct slice){(const uint8_t *)at, len},
					     &found) == RESOLVE_FOUND)
			foresight_dirs_add(foresight, &python->path, found.path);
		at += len + (at[len] != '\0');
	}
	for (size_t i = 0; i < ARRAY_SIZE(below); i++)
		foresight_dirs_add(
			foresight, &python->path,
			arena_printf(&foresight->scratch, "%s%s", python->dir, below[i]));
	foresight_dirs_add(foresight, &python->path, "usr/lib/python3/dist-packages");
	foresight_dirs_add(foresight, &python->path,
			   arena_printf(&foresight->scratch,
					"usr/local/lib/python%c.%s/dist-packages",
					python->tag[8], python->tag + 9));
}

enum resolve_outcome foresight_python_settle(struct foresight *foresight,
					     const struct foresight_hint *hint)
{
	static const char *const always[] = {"encodings", "encodings.aliases",
					     "encodings.utf_8", "sitecustomize"};
	enum resolve_outcome outcome = foresight_python_home(foresight, hint->text);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	foresight_python_dirs(foresight);
	foresight->python.is_ready = true;
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		foresight_hint(foresight, HINT_MODULE, FORESIGHT_CERTAIN, 0.9, "",
			       slice_of(always[i]));
	return RESOLVE_FOUND;
}

/* One file of a module, in dir, called stem: its source and what was compiled of it. */
static enum resolve_outcome foresight_python_file(struct foresight *foresight,
						  const struct foresight_hint *hint,
						  const char *dir, const char *stem)
{
	struct arena *arena = &foresight->scratch;
	const char *source = arena_printf(arena, "%s/%s.py", dir, stem);
	const char *compiled = arena_printf(arena, "%s/__pycache__/%s.%s.pyc", dir, stem,
					    foresight->python.tag);
	struct resolved found;
	enum resolve_outcome outcome;
	enum resolve_outcome of_compiled;

	if (!source || !compiled)
		return RESOLVE_ABSENT;
	outcome = foresight_resolve(foresight, "", slice_of(source), &found);
	if (outcome != RESOLVE_FOUND)
		return outcome;
	of_compiled = foresight_want(foresight, "", slice_of(compiled), hint->source,
				     hint->probability, NULL);
	if (of_compiled == RESOLVE_ABSENT || !found.has_mtime)
		(void)foresight_want(foresight, "", slice_of(source), hint->source,
				     hint->probability * 0.9, NULL);
	/* one that is not there yet asks for all again; one without is a source alone */
	return of_compiled == RESOLVE_UNKNOWN ? RESOLVE_UNKNOWN : RESOLVE_FOUND;
}

/* A shared library as a module: "NAME.cpython-311-x86_64-linux-gnu.so" and the like. */
static enum resolve_outcome foresight_python_shared(struct foresight *foresight,
						    const struct foresight_hint *hint,
						    const char *dir, const char *name)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	uint32_t n = 0;
	enum resolve_outcome outcome = foresight_list(foresight, dir, &entries, &n);
	size_t len = strlen(name);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	for (uint32_t i = 0; i < n; i++) {
		const struct slice *entry = &entries->nodes[i].name;
		const char *path;

		if (entry->len < len + 4 || memcmp(entry->data, name, len) != 0 ||
		    entry->data[len] != '.' ||
		    memcmp(entry->data + entry->len - 3, ".so", 3) != 0)
			continue;
		path = arena_printf(&foresight->scratch, "%s/%.*s", dir, (int)entry->len,
				    (const char *)entry->data);
		return path ? foresight_want(foresight, "", slice_of(path), hint->source,
					     hint->probability, NULL)
			    : RESOLVE_ABSENT;
	}
	return RESOLVE_ABSENT;
}

/* A module of one name in one directory: a package, a file, or a shared library.
 * *package_out: where the modules below it stand; NULL where it is none. */
static enum resolve_outcome foresight_python_in(struct foresight *foresight,
						const struct foresight_hint *hint,
						const char *dir, const char *name,
						const char **package_out)
{
	const char *package = foresight_join(foresight, dir, name);
	struct resolved found;
	enum resolve_outcome outcome;

	*package_out = NULL;
	if (!package)
		return RESOLVE_ABSENT;
	outcome = foresight_resolve(foresight, "", slice_of(package), &found);
	if (outcome == RESOLVE_UNKNOWN)
		return outcome;
	if (outcome == RESOLVE_FOUND && found.kind == TREE_DIR) {
		*package_out = package;
		outcome = foresight_python_file(foresight, hint, package, "__init__");
		return outcome == RESOLVE_ABSENT ? RESOLVE_FOUND : outcome;
	}
	outcome = foresight_python_file(foresight, hint, dir, name);
	return outcome == RESOLVE_ABSENT
		       ? foresight_python_shared(foresight, hint, dir, name)
		       : outcome;
}

/* A dotted name below dir: each part of it is imported. ABSENT where its first is not
 * there. */
static enum resolve_outcome foresight_python_below(struct foresight *foresight,
						   const struct foresight_hint *hint,
						   const char *dir, const char *dotted)
{
	enum resolve_outcome first = RESOLVE_ABSENT;

	for (bool is_first = true; dir && *dotted; is_first = false) {
		size_t len = strcspn(dotted, ".");
		const char *name =
			arena_printf(&foresight->scratch, "%.*s", (int)len, dotted);
		const char *package;
		enum resolve_outcome outcome;

		if (!name || !len)
			return first;
		outcome = foresight_python_in(foresight, hint, dir, name, &package);
		if (outcome == RESOLVE_UNKNOWN)
			return outcome;
		if (is_first)
			first = outcome;
		if (outcome != RESOLVE_FOUND)
			return first;
		dir = package;
		dotted += len + (dotted[len] == '.');
	}
	return first;
}

enum resolve_outcome foresight_python_module(struct foresight *foresight,
					     const struct foresight_hint *hint)
{
	const struct foresight_python *python = &foresight->python;
	const char *name = hint->text;

	if (!python->is_ready)
		return python->is_python ? RESOLVE_UNKNOWN : RESOLVE_ABSENT;
	if (*name == '.') {
		/* what was compiled stands a directory below its source */
		const char *up = "..";
		const char *dir = hint->dir;
		size_t len = strlen(dir);

		if (len >= 11 && strcmp(dir + len - 11, "__pycache__") == 0)
			dir = foresight_join(foresight, dir, up);
		for (name++; dir && *name == '.'; name++)
			dir = foresight_join(foresight, dir, up);
		return dir ? foresight_python_below(foresight, hint, dir, name)
			   : RESOLVE_ABSENT;
	}
	for (size_t i = 0; i < python->path.n; i++) {
		enum resolve_outcome outcome =
			foresight_python_below(foresight, hint, python->path.of[i], name);

		if (outcome != RESOLVE_ABSENT)
			return outcome;
	}
	return RESOLVE_ABSENT;
}
