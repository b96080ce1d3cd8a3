/*
 * Owns nothing: where Perl, Node and Go look for the modules that a file names. Perl's
 * places are those of Debian and of a plain installation, told by listing them.
 */
#include <string.h>

#include "predict/foresight_impl.h"

/* dir/NAME/below/text for each NAME in dir, where there is one. */
static enum resolve_outcome foresight_module_in_each(struct foresight *foresight,
						     const struct foresight_hint *hint,
						     const char *dir, const char *below)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	enum resolve_outcome outcome =
		resolve_dir(&foresight->resolve, &foresight->root, dir, &entries);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	outcome = RESOLVE_ABSENT;
	for (uint32_t i = 0;
	     i < entries->n_nodes && i < FORESIGHT_DIRS_MAX && outcome == RESOLVE_ABSENT;
	     i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *path;

		if (node->kind == TREE_FILE)
			continue;
		path = arena_printf(&foresight->scratch, "%s/%.*s%s/%s", dir,
				    (int)node->name.len, (const char *)node->name.data,
				    below, hint->text);
		if (!path)
			break;
		outcome = foresight_want(foresight, "", slice_of(path), hint->source,
					 hint->probability, NULL);
	}
	return outcome;
}

enum resolve_outcome foresight_module_perl(struct foresight *foresight,
					   const struct foresight_hint *hint)
{
	static const struct {
		const char *dir;
		const char *below;
	} places[] = {
		{"usr/lib", "/perl-base"},
		{"usr/share/perl", ""},
		{"usr/lib/perl5", ""},
	};
	const char *vendor = foresight_join(foresight, "usr/share/perl5", hint->text);
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	for (size_t i = 0; i < ARRAY_SIZE(places) && outcome == RESOLVE_ABSENT; i++)
		outcome = foresight_module_in_each(foresight, hint, places[i].dir,
						   places[i].below);
	return vendor && outcome == RESOLVE_ABSENT
		       ? foresight_want(foresight, "", slice_of(vendor), hint->source,
					hint->probability, NULL)
		       : outcome;
}

/* A path that may lack its ending, or name a package's directory. */
static enum resolve_outcome foresight_module_js(struct foresight *foresight,
						const struct foresight_hint *hint,
						const char *path)
{
	static const char *const endings[] = {"",     ".js",       ".cjs",
					      ".mjs", "/index.js", ".json"};
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	for (size_t i = 0; i < ARRAY_SIZE(endings) && outcome == RESOLVE_ABSENT; i++) {
		const char *full =
			arena_printf(&foresight->scratch, "%s%s", path, endings[i]);
		struct resolved found;

		if (!full)
			break;
		outcome = foresight_want(foresight, "", slice_of(full), hint->source,
					 hint->probability, &found);
		if (outcome == RESOLVE_FOUND && found.kind != TREE_FILE)
			outcome = RESOLVE_ABSENT;
	}
	return outcome;
}

enum resolve_outcome foresight_module_beside(struct foresight *foresight,
					     const struct foresight_hint *hint)
{
	const char *path = foresight_join(foresight, hint->dir, hint->text);

	return path ? foresight_module_js(foresight, hint, path) : RESOLVE_ABSENT;
}

/* In node_modules of the requiring file's directory, or of one above it. */
enum resolve_outcome foresight_module_node(struct foresight *foresight,
					   const struct foresight_hint *hint)
{
	char dir[RESOLVE_PATH_MAX];
	size_t len = strlen(hint->dir);

	if (len >= sizeof(dir))
		return RESOLVE_ABSENT;
	memcpy(dir, hint->dir, len + 1);
	for (;;) {
		const char *package =
			arena_printf(&foresight->scratch, "%s%snode_modules/%s", dir,
				     *dir ? "/" : "", hint->text);
		struct resolved found;
		enum resolve_outcome outcome;
		char *slash;

		if (!package)
			return RESOLVE_ABSENT;
		outcome = foresight_resolve(foresight, "", slice_of(package), &found);
		if (outcome == RESOLVE_UNKNOWN)
			return outcome;
		if (outcome == RESOLVE_FOUND && found.kind == TREE_DIR)
			(void)foresight_want(foresight, package, slice_of("package.json"),
					     hint->source, hint->probability, NULL);
		outcome = foresight_module_js(foresight, hint, package);
		if (outcome != RESOLVE_ABSENT || !*dir)
			return outcome;
		slash = strrchr(dir, '/');
		*(slash ? slash : dir) = '\0';
	}
}

/* Go */

void foresight_module_go_found(struct foresight *foresight, const char *tool)
{
	size_t len = strlen(tool);

	if (len >= 6 && strcmp(tool + len - 6, "bin/go") == 0)
		foresight->go_root =
			arena_printf(&foresight->arena, "%.*ssrc", (int)(len - 6), tool);
}

static bool foresight_module_go_ends(const struct slice *name, const char *ending)
{
	size_t len = strlen(ending);

	return name->len > len && memcmp(name->data + name->len - len, ending, len) == 0;
}

/* All of a package's sources, and what is compiled with them. */
static enum resolve_outcome foresight_module_go_in(struct foresight *foresight,
						   const struct foresight_hint *hint,
						   const char *above)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	const char *dir = foresight_join(foresight, above, hint->text);
	uint32_t n = 0;
	enum resolve_outcome outcome = foresight_list(foresight, dir, &entries, &n);

	if (outcome != RESOLVE_FOUND)
		return outcome;
	for (uint32_t i = 0; i < n; i++) {
		const struct tree_node *node = &entries->nodes[i];
		const char *path;

		if (node->kind != TREE_FILE ||
		    foresight_module_go_ends(&node->name, "_test.go") ||
		    !(foresight_module_go_ends(&node->name, ".go") ||
		      foresight_module_go_ends(&node->name, ".s") ||
		      foresight_module_go_ends(&node->name, ".h")))
			continue;
		path = arena_printf(&foresight->arena, "%s/%.*s", dir,
				    (int)node->name.len, (const char *)node->name.data);
		if (path)
			(void)foresight_want_file(foresight, &node->digest, path,
						  hint->source, hint->probability);
	}
	return RESOLVE_FOUND;
}

enum resolve_outcome foresight_module_go(struct foresight *foresight,
					 const struct foresight_hint *hint)
{
	const char *const above[] = {
		foresight_join(foresight, foresight->workdir, "vendor"),
		foresight->go_root,
		foresight->go_root
			? foresight_join(foresight, foresight->go_root, "vendor")
			: NULL,
	};
	enum resolve_outcome outcome = RESOLVE_ABSENT;

	for (size_t i = 0; i < ARRAY_SIZE(above) && outcome == RESOLVE_ABSENT; i++)
		if (above[i])
			outcome = foresight_module_go_in(foresight, hint, above[i]);
	return outcome;
}
